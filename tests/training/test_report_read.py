"""What is refused before a page is drawn, and how it is told."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.training.evaluations import sample
from training.errors import TrainingError
from training.report_read import find, load, parse

SMALL = sample(days=40, members=2, symbols=("BTC/USDT",))
Document = dict[str, Any]


def document() -> Document:
    return json.loads(json.dumps(SMALL.to_json()))  # type: ignore[no-any-return]


def set_in(*keys: str | int, to: object) -> Callable[[Document], None]:
    def change(whole: Document) -> None:
        inner: Any = whole
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = to

    return change


def without(*keys: str | int) -> Callable[[Document], None]:
    def change(whole: Document) -> None:
        inner: Any = whole
        for key in keys[:-1]:
            inner = inner[key]
        del inner[keys[-1]]

    return change


def test_what_was_written_is_read_back_as_it_was() -> None:
    assert parse(document(), "e.json") == SMALL
    assert parse(SMALL.to_json(), "e.json") == SMALL  # before it ever was a file


def test_keys_of_later_versions_are_no_reason_to_refuse() -> None:
    assert parse(document() | {"new": 1}, "e.json") == SMALL


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (set_in("format", to=9), "e.json: format 9, this version reads format 1; evaluate again"),
        (without("format"), "e.json: format none, this version reads format 1"),
        (without("curves"), "e.json: has no curves, as the file beside a bundle's manifest; name the one that"),
        (without("deflated", "trials"), "e.json: deflated.trials: field required"),
        (set_in("metrics", "sharpe", to="high"), "e.json: metrics.sharpe: input should be a valid number"),
        (set_in("metrics", "sharpe", to=float("nan")), "e.json: metrics.sharpe: nan is no number"),
        (set_in("curves", "costs", 3, to=float("inf")), "e.json: curves.costs: inf is no number"),
        (without("curves", "equity", "ensemble"), "e.json: curves.equity: has no `ensemble`"),
        (without("curves", "equity", "cash", 0), "e.json: curves.equity.cash: 39 values for 40 days"),
        (without("curves", "symbols", 0, "votes", 1, 0), "e.json: curves.symbols BTC/USDT votes[1]: 39 values"),
        (without("curves", "symbols", 0, "disagreement", 0), "e.json: curves.symbols BTC/USDT disagreement: 39"),
        (set_in("curves", "equity", "cash", 4, to=0.0), "e.json: curves.equity.cash: 0 is not above 0"),
        (set_in("curves", "symbols", 0, "close", 4, to=-1.0), "e.json: curves.symbols BTC/USDT close: -1 is not above"),
        (set_in("curves", "day_ms", 4, to=0), "e.json: curves.day_ms: the days are not in order"),
        (set_in("symbols", to=[]), "e.json: symbols: there is none"),
        (set_in("curves", "day_ms", to=[1]), "e.json: curves.day_ms: 1 days cannot be drawn"),
    ],
)
def test_a_document_that_does_not_fit_is_refused_with_its_place(change: Callable[[Document], None], words: str) -> None:
    whole = document()
    change(whole)
    with pytest.raises(TrainingError) as caught:
        parse(whole, "e.json")
    assert str(caught.value).startswith(words)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is not JSON"),
        (b"\xff", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[1]", "is not a JSON object"),
        (b'{"format": NaN}', "is not JSON (NaN is no number)"),
    ],
    ids=["empty", "no text", "nested", "a list", "NaN"],
)
def test_a_file_that_holds_no_evaluation_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "e.json"
    path.write_bytes(content)
    with pytest.raises(TrainingError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: {words}")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"none\.json: cannot be read \(No such file or directory\)"):
        load(tmp_path / "none.json")


def test_an_evaluation_is_found_by_its_file_its_directory_or_as_the_newest(tmp_path: Path) -> None:
    for name, seconds in (("aa", 20), ("bb", 10)):
        (tmp_path / name).mkdir()
        path = tmp_path / name / "evaluation.json"
        path.write_text("{}")
        os.utime(path, (seconds, seconds))
    newest = tmp_path / "aa" / "evaluation.json"
    assert find(None, tmp_path) == newest
    assert find(tmp_path / "aa", tmp_path) == newest
    assert find(newest, tmp_path) == newest


def test_without_any_evaluation_it_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"no evaluation lies below .*: make one with `sacd evaluate --out DIR`"):
        find(None, tmp_path / "evaluations")
