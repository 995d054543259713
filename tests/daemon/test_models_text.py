"""The tables of `sacd models list`, as a terminal of 80 or 120 columns shows them."""

import io
from typing import Any

import pytest
from rich.console import Console, RenderableType

from daemon.model_life import Cause, Outcome, RetrainBy
from daemon.models_history import Origin, Standing, history
from daemon.models_text import facts_table, history_table, models_facts, registry_table
from daemon.ports import Record
from tests.fakes import model_steps as steps
from tests.fakes.model_steps import NEW, OLD, OTHER

GATE = (
    steps.criterion("unseen", "90 days"),
    steps.criterion("growth", "0.8 basis points a day better"),
    steps.criterion("drawdown", "0.31 is above 0.25", passed=False),
)
LONG = "the trainer was killed: it used more than 4096 MiB; see var/retrain/work/0123456789abcdef/report.json"
COURSE = (
    steps.found(),
    steps.requested(),
    steps.trained(Outcome.KEPT, reason="drawdown 0.31 is above 0.25", told=steps.report(7.0, *GATE)),
    steps.requested("b", day=9.0, by=RetrainBy.HAND),
    steps.trained(Outcome.FAILED, "b", day=9.5, reason=LONG),
    steps.requested("c", day=14.0),
    steps.trained(Outcome.CANDIDATE, "c", day=14.5, told=steps.report(14.0, *GATE[:2])),
    steps.shadowed(request="c", day=14.5),
    steps.serves(detail="ahead by 6.1 basis points a decision after 87 decisions, p = 0.048"),
    steps.serves(OLD, NEW, Cause.ROLLBACK, 50.0, "the former one is ahead by 3.2 %"),
    steps.requested("d", day=60.0, by=RetrainBy.DRIFT),
)


def shown(table: RenderableType, width: int) -> str:
    console = Console(width=width, file=io.StringIO())
    with console.capture() as captured:
        console.print(table)
    return captured.get()


def told(*records: Record) -> list[dict[str, Any]]:
    return [row.to_json() for row in history(steps.entries(*records))]


def listed(name: str, *roles: str, **changes: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": name, "roles": list(roles), "members": 5, "symbols": ["BTC/USDT", "ETH/USDT"],
        "from_ms": 1_502_942_400_000, "until_ms": 1_609_459_200_000, "steps": 100_000, "fault": None,
    }  # fmt: skip
    return row | changes


def joined(text: str) -> str:
    """Text as a reader takes it in, wherever lines were folded."""
    return " ".join(text.split())


@pytest.mark.parametrize("width", [80, 120])
def test_the_history_fits_and_loses_no_word(width: int) -> None:
    text = shown(history_table(told(*COURSE), width), width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    heads = ["when", "ensemble and its data", "gate and verdict"] if width < 110 else ["gate", "verdict"]
    assert all(head in text.splitlines()[0] for head in heads)
    for words in ("by the schedule", "by hand", "because of drift", "found at a start", NEW, OLD):
        assert words in text


def test_a_row_says_when_what_data_which_gate_and_which_verdict() -> None:
    _, refused, *_ = told(*COURSE)
    text = shown(history_table([refused], 120), 120)
    assert [line.rstrip() for line in text.splitlines()[1:]] == [
        "2024-01-08 00:00  -                           2 of 3 passed                 incumbent kept  2024-01-08 12:00",
        "by the schedule   BTC/USDT, ETH/USDT          drawdown: 0.31 is above 0.25  drawdown 0.31 is above 0.25",
        "                  2017-08-17 to 2024-01-08",
        "                  judged on the last 90 days",
    ]


def test_of_what_was_promoted_each_turn_is_told_but_not_what_only_led_there() -> None:
    text = joined(shown(history_table([told(*COURSE)[3]], 200), 200))
    assert "2 of 2 passed promoted 2024-02-10 00:00" in text
    assert "p = 0.048" in text
    assert "rolled back 2024-02-20 00:00" in text
    assert "in shadow" not in text
    waiting = joined(shown(history_table(told(*COURSE[:8])[-1:], 200), 200))
    assert "in shadow 2024-01-15 12:00" in waiting


def test_every_origin_and_standing_has_words_of_its_own() -> None:
    (plain,) = told(steps.requested())
    origins = {shown(history_table([plain | {"origin": origin.value}], 120), 120) for origin in Origin}
    assert len(origins) == len(Origin)
    turns = [[{"at_ms": 0, "standing": standing.value, "reason": ""}] for standing in Standing]
    standings = {shown(history_table([plain | {"turns": turn}], 120), 120) for turn in turns}
    assert len(standings) == len(Standing)


def test_words_of_a_trainer_are_shown_as_they_stand_and_move_no_cursor() -> None:
    odd = "[bold]no[/bold]\x1b[2J \nmarkup"
    (row,) = told(
        steps.requested(),
        steps.trained(Outcome.KEPT, reason=odd, told=steps.report(7.0, steps.criterion(odd, odd, passed=False))),
    )
    text = shown(history_table([row], 200), 200)
    assert text.count("[bold]no[/bold] [2J markup") == 3  # reason, name and words of the criterion
    assert "\x1b" not in text


@pytest.mark.parametrize("width", [80, 120])
def test_the_registry_shows_roles_and_what_cannot_be_used(width: int) -> None:
    fault = "bundle /srv/models/1234123412341234: [member-0.safetensors]: its sha256 is another"
    rows = [
        listed(OLD, "incumbent"),
        listed(NEW, "candidate", "current"),
        listed(OTHER, fault=fault, members=None, steps=None, from_ms=None, until_ms=None, symbols=[]),
    ]
    text = shown(registry_table(rows), width)
    assert max(map(len, text.splitlines())) <= width
    first, second = text.splitlines()[1], next(line for line in text.splitlines() if NEW in line)
    assert first.split()[:6] == ["incumbent", OLD, "5", "100,000", "2017-08-17", "to"]
    assert second.startswith("candidate, current ")
    assert "[member-0.safetensors]" in text
    assert "BTC/USDT, ETH/USDT" in joined(text)


def test_facts_say_nothing_of_what_there_is_not() -> None:
    bare = {
        "serving": "", "since_ms": 0, "previous": "", "phase": "steady", "pinned": False, "candidate": "",
        "shadow": None, "watch": None, "retrain": None, "next_retrain_ms": None, "drift": None, "progress": None,
        "fault": "",
    }  # fmt: skip
    text = shown(facts_table(models_facts(bare)), 80)
    assert [line.rstrip() for line in text.splitlines()] == ["incumbent     none yet", "last retrain  none yet"]
    failing = shown(facts_table(models_facts(bare | {"fault": "votes [nan]\x1b[2J"})), 80)
    assert failing.splitlines()[1].rstrip() == "fault         votes [nan] [2J"
