"""The verb over a journal on disk: what it prints, and what it refuses."""

import asyncio
import json
import os
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from daemon.commands_report import add_report
from daemon.errors import DataError, SacdError
from daemon.journal import SqliteJournal
from daemon.ports import Record
from strategy.order import Side
from tests.daemon.journals import FixedClock
from tests.daemon.test_execution import Book, many, order


def app() -> typer.Typer:
    made = typer.Typer()
    made.callback()(lambda: None)  # several verbs, as `sacd` has
    add_report(made)
    return made


def written(path: Path, book: Book) -> Path:
    async def session() -> None:
        journal = SqliteJournal.open(path, FixedClock())
        await journal.append([Record(kind=entry.kind, payload=entry.payload) for entry in book.entries])
        await journal.close()

    asyncio.run(session())
    return path


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    book = many(40)[0]
    book.done(order("s-sale", Side.SELL), 99.9)
    return written(tmp_path_factory.mktemp("state") / "j.sqlite", book)


def ran(*arguments: Any) -> Any:
    return CliRunner().invoke(app(), ["report", *map(str, arguments)], catch_exceptions=True)


def told(*arguments: Any) -> Any:
    result = ran("--execution", "--json", *arguments)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_the_object_holds_the_figures_of_the_journal(journal: Path) -> None:
    found = told("--journal", journal)
    assert found["orders"]["count"] == found["fills"] == 41
    assert found["orders"]["states"] == {"filled": 41}
    (sale,) = [group for group in found["slippage"] if group["name"] == "sell"]
    assert sale["against_reference_bp"]["mean"] == pytest.approx(10.0)
    assert sale["against_model_bp"]["mean"] == pytest.approx(5.0)
    assert found["suggested"]["fee_rate"]["enough"] is True


def test_the_lines_to_paste_are_toml_that_the_configuration_takes(journal: Path) -> None:
    result = ran("--execution", "--journal", journal)
    assert result.exit_code == 0
    text = result.stdout
    pasted = tomllib.loads(text[text.index("[execution]") :])["execution"]
    found = told("--journal", journal)["suggested"]
    for name in ("fee_rate", "slippage_rate"):
        assert pasted[name] == pytest.approx(found[name]["value"], rel=0.005)
    for words in ("slippage, bp", "16:00 UTC", "buy", "sell", "order sent to first answer", "41 filled"):
        assert words in text


@pytest.mark.parametrize("until", ["2000-01-01", "2100-01-01"])
def test_they_are_toml_on_the_narrowest_screen_too(journal: Path, until: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    text = ran("--execution", "--journal", journal, "--until", until).stdout
    assert set(tomllib.loads(text[text.index("[execution]") :])) == {"execution"}


def test_a_window_that_holds_nothing_says_so_with_dashes(journal: Path) -> None:
    assert told("--journal", journal, "--until", "2000-01-01")["fills"] == 0
    assert told("--journal", journal, "--since", "2000-01-01T00:00+02:00")["fills"] == 41
    assert "too few fills" in ran("--execution", "--journal", journal, "--until", "2000-01-01").stdout


@pytest.mark.parametrize(
    ("given", "handed_over"),
    [
        ([], []),
        (["evaluations/3f"], ["--", "evaluations/3f"]),
        (["a/e.json", "--out", "-x.html", "--json"], ["--out=-x.html", "--json", "--", "a/e.json"]),
        (["--json", "--", "-e"], ["--json", "--", "-e"]),
    ],
)
def test_without_execution_the_training_side_makes_the_page(
    given: Sequence[str], handed_over: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    became: list[list[str]] = []

    def execv(_: str, arguments: list[str]) -> None:
        became.append(arguments[1:])
        raise SystemExit(0)

    monkeypatch.setattr(os, "execv", execv)
    assert ran(*given).exit_code == 0
    assert became == [["-m", "training", "report", *handed_over]]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--since", "2026-01-31"], "--since goes with --execution"),
        (["evaluations/3f", "--journal", "j.sqlite"], "--journal goes with --execution"),
        (["--config", "c.toml"], "--config goes with --execution"),
        (["--execution", "evaluations/3f"], "does not go with --execution"),
        (["--execution", "--out", "x.html"], "--out does not go with --execution"),
    ],
)
def test_options_of_the_other_report_are_wrong_usage(
    given: Sequence[str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delattr(os, "execv")
    result = ran(*given)
    assert result.exit_code == 2
    assert words in result.output


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        (["--since", "yesterday"], SacdError, "--since yesterday: is no date; write 2026-01-31"),
        (["--journal", "none.sqlite"], DataError, "there is no journal at none.sqlite"),
    ],
)
def test_a_mistake_is_one_plain_error(
    arguments: Sequence[str], kind: type, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = ran("--execution", *arguments)
    assert isinstance(result.exception, kind)  # `sacd` prints it as one line
    assert words in str(result.exception)


def test_a_journal_that_never_ran_is_named_as_such(tmp_path: Path) -> None:
    book = Book()
    book.entries.clear()
    result = ran("--execution", "--journal", written(tmp_path / "j.sqlite", book))
    assert isinstance(result.exception, DataError)


def test_a_journal_is_found_by_its_configuration(
    journal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SACD_DAEMON__STATE_DIR", str(tmp_path))
    monkeypatch.setenv("SACD_DAEMON__INSTANCE", "mine")
    (tmp_path / "mine-simulated.sqlite").write_bytes(journal.read_bytes())
    assert told("--config", Path(__file__).parents[2] / "config.toml")["fills"] == 41
