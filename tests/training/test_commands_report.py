"""`sacd report` from an evaluation on disk to a page on disk."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.training.evaluations import sample
from training.__main__ import main

SMALL = sample(days=40, members=2, symbols=("BTC/USDT",))


@pytest.fixture
def evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "evaluations" / "3f3f" / "evaluation.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(SMALL.to_json()))
    monkeypatch.chdir(tmp_path)
    return path


@pytest.mark.parametrize("given", [[], ["evaluations/3f3f"], ["evaluations/3f3f/evaluation.json"]])
def test_the_page_lies_beside_the_evaluation(
    evaluation: Path, given: Sequence[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", *given]) == 0
    assert evaluation.with_name("report.html").read_text().startswith("<!doctype html>")
    told = capsys.readouterr()
    assert told.out == "evaluations/3f3f/report.html: ensemble 3f3f3f3f3f3f3f3f, not ready; open it in a browser\n"
    assert ("the newest evaluation: evaluations/3f3f/evaluation.json" in told.err) is (given == [])


def test_the_page_goes_where_it_is_told_and_the_object_says_so(
    evaluation: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", "evaluations/3f3f", "--out", "mine.html", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {
        "evaluation": "evaluations/3f3f/evaluation.json",
        "out": "mine.html",
        "bytes": len(Path("mine.html").read_bytes()),
        "bundle": SMALL.bundle,
        "ready": False,
    }
    assert not evaluation.with_name("report.html").exists()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["none"], "none: cannot be read (No such file or directory); name what `sacd evaluate` wrote"),
        (["evaluations"], "evaluations/evaluation.json: cannot be read"),
        (["evaluations/3f3f", "--out", "no/where.html"], "--out no/where.html: there is no directory no; make it"),
        (["evaluations/3f3f", "--out", "evaluations"], "--out evaluations: is a directory; name a file"),
        (["evaluations/3f3f", "--out", "evaluations/3f3f/evaluation.json"], "is the evaluation itself"),
    ],
)
def test_a_mistake_is_one_plain_line_and_writes_nothing(
    evaluation: Path, given: Sequence[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(path for path in evaluation.parents[2].rglob("*"))
    assert main(["report", *given]) == 1
    told = capsys.readouterr()
    assert told.err.startswith("sacd report: ")
    assert words in told.err
    assert told.err.count("\n") == 1
    assert sorted(path for path in evaluation.parents[2].rglob("*")) == before


def test_the_evaluation_beside_a_bundle_has_no_curves_to_draw(
    evaluation: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluation.write_text(json.dumps(SMALL.to_json(curves=False)))
    assert main(["report", str(evaluation)]) == 1
    assert "has no curves, as the file beside a bundle's manifest; name the one" in capsys.readouterr().err
