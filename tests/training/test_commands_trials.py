"""`sacd trials`, and that every run writes down what it tried."""

import json
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.training.command_line import Run
from tests.training.markets import history, write_table
from tests.training.runs import LONG, TINY, started
from tests.training.tune_objectives import SMALL
from training.trials import Kind, Ledger, Trial, read_ledger
from training.validation import Score


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "ledger" / "trials.jsonl"


@pytest.fixture(scope="module")
def candles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(history(700, seed=3), tmp_path_factory.mktemp("candles"))


def written(place: Path, kind: Kind) -> tuple[Trial, ...]:
    reading = read_ledger(place)
    assert reading.damage == ""
    return reading.tally.only(kind).counted


# ---- the verb ---------------------------------------------------------------------------------------------------
def test_the_ledger_is_shown_by_kind_with_its_notes(place: Path, run: Run) -> None:
    Ledger(place).record(
        [
            Trial(kind=Kind.MEMBER, recipe="a", score=1.5, looks=10),
            Trial(kind=Kind.MEMBER, recipe="b", score=0.5, looks=10),
            Trial(kind=Kind.TUNE, recipe="c"),
            Trial(kind=Kind.REFIT, recipe="d", score=4.0, looks=3),
            Trial(kind=Kind.RETRAIN, recipe="e", looks=1, is_over=False),
        ]
    )
    code, out, err = run("trials", "--ledger", place, "add", "--count", 1200, "--words", "a grid [elsewhere]")
    assert (code, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert lines[1] == ["member", "2", "2", "20", "1.50", "1.00", "0.71"]
    assert lines[2] == ["tune", "1", "0", "0"]
    assert lines[5] == ["refit", "1", "1", "3", "4.00", "4.00"]
    assert lines[6] == ["retrain", "1", "0", "1"]
    assert lines[7] == ["note", "1,200", "0", "0"]
    assert lines[8] == ["all", "1,204", "2", "21", "1.50", "1.00", "0.71"]
    assert out.splitlines()[9].endswith(": 1,200, a grid [elsewhere]")
    assert f"{place}: 6 lines, each follows the one before" in out
    assert run("trials", "--ledger", place)[1] == out


def test_no_ledger_yet_is_no_mistake_and_makes_none(place: Path, run: Run) -> None:
    code, out, _ = run("trials", "--ledger", place, "--json")
    assert (code, json.loads(out)["trials"], place.exists()) == (0, 0, False)


def test_a_damaged_ledger_is_shown_with_exit_code_3(place: Path, run: Run) -> None:
    Ledger(place).record([Trial(kind=Kind.MEMBER, recipe="a", score=1.5)])
    place.write_bytes(place.read_bytes().replace(b"1.5", b"0.5"))
    code, out, _ = run("trials", "--ledger", place)
    assert code == 3
    assert "line 1 was changed" in out
    code, out, _ = run("trials", "--ledger", place, "--json")
    assert (code, json.loads(out)["trials"]) == (3, 0)
    assert "line 1 was changed" in json.loads(out)["damage"]
    code, _, err = run("trials", "--ledger", place, "add", "--count", 1, "--words", "more")
    assert code == 1
    assert "line 1 was changed" in err


def test_a_line_half_written_is_told_and_left_there(place: Path, run: Run) -> None:
    Ledger(place).record([Trial(kind=Kind.MEMBER, recipe="a", score=1.5)])
    with place.open("ab") as file:
        file.write(b'{"number"')
    before = place.read_bytes()
    code, out, _ = run("trials", "--ledger", place)
    assert code == 0
    assert "its last line is half written (9 bytes); the next run puts it aside" in out
    assert place.read_bytes() == before


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--count", "0", "--words", "x"), "sacd trials: --count 0: give 1 .. 1,000,000,000"),
        (("--count", "5", "--words", ""), "sacd trials: --words is empty"),
    ],
)
def test_a_note_of_nothing_is_refused_in_one_line(place: Path, run: Run, words: tuple[str, ...], says: str) -> None:
    code, _, err = run("trials", "--ledger", place, "add", *words)
    assert (code, len(err.splitlines())) == (1, 1)
    assert err.startswith(says)
    assert not place.exists()


# ---- sacd train -------------------------------------------------------------------------------------------------
def test_training_writes_down_every_member_also_those_left_out_and_once(
    candles: Path, tmp_path: Path, place: Path, run: Run
) -> None:
    options = ["--data", candles, *TINY, "--members", 2, "--least-score", 50, "--set", "validation.every=100"]
    code, _, err = run("train", *options, "--out", tmp_path / "out", "--ledger", place)
    assert code == 1  # nobody has a score of 50, so there is no bundle
    assert "no member passed its gate" in err
    members = written(place, Kind.MEMBER)
    report = json.loads((tmp_path / "out" / "training" / "report.json").read_text())["members"]
    # In the order in which they ended, which is chance.
    scores = {member["plan"]["seed"]: member["conduct"]["score"] for member in report}
    assert {trial.seed: trial.score for trial in members} == scores
    assert {trial.looks for trial in members} == {4}
    assert {trial.symbols for trial in members} == {("BTC/USDT",)}
    # The same command elsewhere: the same trials. Another seed: others.
    run("train", *options, "--out", tmp_path / "again", "--ledger", place)
    assert len(written(place, Kind.MEMBER)) == 2
    run("train", *options, "--out", tmp_path / "other", "--ledger", place, "--seed", 9, "--members", 1)
    assert len(written(place, Kind.MEMBER)) == 3


def test_a_run_that_was_killed_after_its_first_score_has_left_its_trials_and_going_on_adds_none(
    candles: Path, tmp_path: Path, place: Path, run: Run
) -> None:
    out = tmp_path / "out"
    options = ["--data", candles, *LONG, "--members", "1", "--set", "validation.every=200", "--ledger", place]
    process = started(*options, "--out", out)
    try:
        while not (place.exists() and written(place, Kind.MEMBER)):
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.communicate()
    [looked_at] = written(place, Kind.MEMBER)
    assert (looked_at.is_over, looked_at.looks) == (False, 1)
    code, _, err = run("train", "--resume", out, "--ledger", place)
    assert code == 0, err
    [ended] = written(place, Kind.MEMBER)
    assert (ended.is_over, ended.recipe, ended.looks) == (True, looked_at.recipe, 20)
    lines = place.read_bytes()
    run("train", "--resume", out, "--ledger", place)
    assert place.read_bytes() == lines


def test_without_validation_a_member_is_a_trial_without_a_score(
    candles: Path, tmp_path: Path, place: Path, run: Run
) -> None:
    options = ["--data", candles, *TINY, "--members", 1, "--gates", "off", "--validation", 0]
    code, _, err = run("train", *options, "--out", tmp_path / "out", "--ledger", place)
    assert code == 0, err
    [trial] = written(place, Kind.MEMBER)
    assert (trial.score, trial.looks, trial.days) == (None, 0, None)


# ---- sacd tune, sacd compare ------------------------------------------------------------------------------------
def test_a_search_writes_down_every_trial_and_going_on_only_the_new_ones(tmp_path: Path, place: Path, run: Run) -> None:
    data = write_table(history(24 * 40, seed=2), tmp_path)
    options = ["--data", data, "--out", tmp_path / "tune", *SMALL, "--json", "--ledger", place]
    code, out, err = run("tune", *options, "--trials", 1)
    assert code == 0, err
    [first] = written(place, Kind.TUNE)
    best = json.loads(out)["best"]
    assert first.score == best["score"]
    assert (first.seed, first.looks, first.is_over) == (4, 2 * 4, True)
    run("tune", *options, "--trials", 2)
    assert len(written(place, Kind.TUNE)) == 2
    assert written(place, Kind.TUNE)[0] == first


def test_a_comparison_writes_down_every_trial_and_going_on_only_the_new_ones(
    candles: Path, tmp_path: Path, place: Path, run: Run
) -> None:
    options = ["--data", candles, "--steps", 64, "--set", "net_arch=4", "--algorithms", "a2c", "--ledger", place]
    options += ["--out", tmp_path / "out", "--json"]
    run("compare", *options, "--seeds", 1)
    code, out, err = run("compare", *options, "--seeds", 2)
    assert code == 0, err
    runs = json.loads(out)["runs"]
    trials = written(place, Kind.COMPARE)
    assert {trial.seed: trial.score for trial in trials} == {one["seed"]: Score(**one["score"]).value for one in runs}
    assert {trial.looks for trial in trials} == {1}


# ---- a ledger that cannot be used -------------------------------------------------------------------------------
def arguments(verb: str, candles: Path, out: Path) -> list[Any]:
    tiny = {
        "train": [*TINY, "--members", 1],
        "tune": [*SMALL, "--trials", 1],
        "compare": ["--steps", 64, "--algorithms", "a2c"],
    }
    return [verb, "--data", candles, "--out", out, *tiny[verb]]


@pytest.mark.parametrize("verb", ["train", "tune", "compare"])
def test_a_ledger_that_cannot_be_written_stops_a_run_before_it_begins(
    verb: str, candles: Path, tmp_path: Path, run: Run
) -> None:
    code, _, err = run(*arguments(verb, candles, tmp_path / "out"), "--ledger", tmp_path)
    assert code == 1
    [line] = err.splitlines()
    assert re.match(f"sacd {verb}: {re.escape(str(tmp_path))}: cannot be written .*--ledger or SACD_TRIALS$", line)
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.parametrize("verb", ["train", "tune", "compare"])
def test_a_damaged_ledger_stops_a_run_and_names_the_line_and_the_way_out(
    verb: str, candles: Path, tmp_path: Path, place: Path, run: Run
) -> None:
    Ledger(place).record([Trial(kind=Kind.MEMBER, recipe="a", score=1.5)])
    place.write_bytes(place.read_bytes().replace(b"1.5", b"0.5"))
    code, _, err = run(*arguments(verb, candles, tmp_path / "out"), "--ledger", place)
    assert code == 1
    assert "line 1 was changed" in err
    assert "sacd trials add --count N" in err
    assert not list(tmp_path.glob("out/*"))
