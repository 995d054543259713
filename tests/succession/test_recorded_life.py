"""A life of ensembles on recorded candles, as its journal tells it: tried, swapped in, regretted, rolled back."""

import re
from collections.abc import Mapping
from typing import Any

import pytest

from daemon import journal_reader
from daemon.models import serving_names
from daemon.replay import replay
from tests.succession.recorded_life import Told, lines, live


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    return live(tmp_path_factory.mktemp("life"))


def _steps(told: Told) -> list[Mapping[str, Any]]:
    return [entry.payload for entry in told.steps]


def _served(told: Told) -> list[tuple[str, str]]:
    """Who served, in order, and why."""
    return [(told.names[step["model"]], step["cause"]) for step in _steps(told) if step["step"] == "serving"]


def test_each_ensemble_serves_for_its_own_reason(told: Told) -> None:
    wanted = [("restless", "found"), ("shipped", "proved"), ("restless", "hand"), ("shipped", "rollback")]
    assert _served(told) == wanted
    current, previous = serving_names(told.registry)
    assert (told.names[current], told.names[previous]) == ("shipped", "restless")


def test_a_candidate_that_learned_nothing_is_refused_by_the_gate_and_leaves_no_ensemble(told: Told) -> None:
    (trained,) = (step for step in _steps(told) if step["step"] == "trained")
    assert (trained["outcome"], trained["candidate"]) == ("kept", "")
    failed = [criterion["name"] for criterion in trained["report"]["gate"] if not criterion["passed"]]
    assert failed
    assert "refused by the gate" in trained["reason"]
    bundles = {path.name for path in told.registry.iterdir() if path.is_dir() and not path.is_symlink()}
    assert bundles == set(told.names)
    data = trained["report"]["data"]
    assert data["practice_to_ms"] < data["holdout_from_ms"] < data["end_ms"]


def test_garbage_is_dropped_from_shadow_and_says_why(told: Told) -> None:
    (kept,) = (step for step in _steps(told) if step["step"] == "kept")
    assert told.names[kept["candidate"]] == "steep"
    assert "beyond 0.99" in kept["reason"]


def _marks(told: Told, phase: str, new: str) -> list[Mapping[str, Any]]:
    marks = (entry.payload for entry in told.marks)
    return [mark for mark in marks if mark["phase"] == phase and told.names[mark["new"]] == new]


def test_the_swap_rests_on_figures_that_stand_in_the_journal(told: Told) -> None:
    proved = next(step for step in _steps(told) if step["step"] == "serving" and step["cause"] == "proved")
    marks = _marks(told, "shadow", "shipped")
    assert [mark["count"] for mark in marks] == list(range(len(marks)))
    enough = next(mark["count"] for mark in marks if mark["count"] >= 20 and mark["p_better"] <= 0.05)
    counted = re.search(r"after (\d+) decisions", proved["detail"])
    assert counted is not None
    # Candles go on, 150 a second, while what is to be done is done.
    assert enough <= int(counted[1]) <= marks[-1]["count"]
    first, last = marks[0]["equity"], marks[-1]["equity"]
    differences = [mark["difference"] for mark in marks if mark["difference"] is not None]
    assert marks[-1]["mean"] == pytest.approx(sum(differences) / len(differences), rel=1e-9)
    grown = (last["new"] / first["new"]) / (last["old"] / first["old"])
    assert marks[-1]["lead"] == pytest.approx(grown - 1.0, rel=1e-9)


def test_the_rollback_follows_the_regret(told: Told) -> None:
    back = next(step for step in _steps(told) if step["step"] == "serving" and step["cause"] == "rollback")
    leads = [mark["lead"] for mark in _marks(told, "watch", "restless")]
    assert leads[0] == pytest.approx(0.0, abs=0.005)
    assert min(leads) <= -0.02
    assert "the former one is ahead by" in back["detail"]
    assert (back["model"], back["test"]) == (told.steps[-1].payload["model"], None)


def test_every_decision_was_taken_by_the_one_that_served_and_comes_out_again(told: Told) -> None:
    serving = ""
    for entry in journal_reader.read(told.journal, kinds={"run", "decision"}):
        if entry.kind == "run":
            serving = entry.payload["model"][:16]
        else:
            assert entry.payload["model"] == serving, entry.seq
    found = replay(told.journal, told.registry)
    assert (found.differ, found.runs) == (0, 4)
    assert found.decisions > 5_000


def test_a_person_can_read_it(told: Told) -> None:
    text = "\n".join(lines(told))
    for words in (
        "RESTLESS serves (found)",
        "STEEP is dropped",
        "SHIPPED serves (proved)",
        "SHIPPED serves (rollback)",
    ):
        assert words in text


def test_the_demonstration_reads_no_candle_of_the_test_span(told: Told) -> None:
    last = max(e.payload["open_ms"] for e in journal_reader.read(told.journal, kinds={"candle"}))
    assert last < 1_609_459_200_000, "2021 and 2022 are opened by evaluations alone"
