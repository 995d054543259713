"""The ledger of trials: what counts, how often, and what it tells."""

import json
import math
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.errors import TrainingError
from training.trials import DEFAULT_PLACE, Kind, Ledger, Tally, Trial, fingerprint, note, place_of, read_ledger
from training.trials_file import LedgerDamaged

DAY_MS = 86_400_000
NOW_MS = 1_700_000_000_000  # 2023-11-14T22:13:20Z


def trial(recipe: str = "a", score: float | None = None, **parts: Any) -> Trial:
    whole: dict[str, Any] = {"kind": Kind.MEMBER, "recipe": recipe, "from_ms": 0, "to_ms": 10 * DAY_MS}
    return Trial(**(whole | parts)).scored(score, parts.get("looks", 1), is_over=parts.get("is_over", True))


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "models" / "trials.jsonl", lambda: NOW_MS)


# ---- what counts ------------------------------------------------------------------------------------------------
def test_every_recipe_counts_once_with_or_without_a_score(ledger: Ledger) -> None:
    assert ledger.record([trial("a", 1.5), trial("b", None), trial("c", -0.5)]) == 3
    assert (ledger.count(), ledger.sharpes()) == (3, (1.5, -0.5))


def test_the_same_trial_run_twice_or_resumed_counts_once_and_takes_one_line(ledger: Ledger) -> None:
    ledger.record([trial("a", 1.5)])
    assert ledger.record([trial("a", 1.5), trial("a", 1.5, looks=9)]) == 0
    assert Ledger(ledger.place).record([trial("a", 1.5)]) == 0
    assert ledger.count() == 1
    assert len(ledger.place.read_bytes().splitlines()) == 1


def test_the_same_recipe_with_another_result_counts_again(ledger: Ledger) -> None:
    ledger.record([trial("a", 1.5)])
    ledger.record([trial("a", 1.4)])
    assert (ledger.count(), ledger.sharpes()) == (2, (1.5, 1.4))


def test_a_trial_that_was_looked_at_counts_even_when_it_is_given_up(ledger: Ledger) -> None:
    ledger.record([trial("a", 0.3, is_over=False)])
    assert (ledger.count(), ledger.sharpes()) == (1, (0.3,))
    assert ledger.record([trial("a", 0.4, is_over=False)]) == 0


def test_the_end_of_a_trial_takes_the_place_of_its_first_look(ledger: Ledger) -> None:
    ledger.record([trial("a", 0.3, is_over=False)])
    ledger.record([trial("b", 2.0)])
    ledger.record([trial("a", 0.9, looks=10)])
    assert (ledger.count(), sorted(ledger.sharpes())) == (2, [0.9, 2.0])
    assert ledger.record([trial("a", 0.1, is_over=False)]) == 0
    assert Ledger(ledger.place).count() == 2


def test_looks_are_told_and_are_no_trials(ledger: Ledger) -> None:
    ledger.record([trial("a", 0.3, looks=20), trial("b", 0.1, looks=1)])
    assert (ledger.count(), ledger.tally().looks) == (2, 21)


def test_notes_stand_for_as_many_trials_as_they_say_each_time(ledger: Ledger) -> None:
    ledger.record([note(40, " grid search on a laptop, not written down ")])
    ledger.record([note(40, "grid search on a laptop, not written down")])
    ledger.record([trial("a", 1.0)])
    assert (ledger.count(), ledger.sharpes()) == (81, (1.0,))


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_is_none(score: float) -> None:
    assert trial("a", score).score is None


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([None, 0.5, 1.0]), st.booleans()), max_size=12))
def test_the_count_is_that_of_different_ends_and_of_recipes_without_one(
    lines: list[tuple[str, float | None, bool]],
) -> None:
    trials = [trial(recipe, score, is_over=is_over) for recipe, score, is_over in lines]
    ends = {(recipe, score) for recipe, score, is_over in lines if is_over}
    only_looked_at = {recipe for recipe, _, _ in lines} - {recipe for recipe, _ in ends}
    assert Tally.of(trials).count == len(ends) + len(only_looked_at)


def test_kinds_are_counted_apart(ledger: Ledger) -> None:
    ledger.record([trial("a", 1.0), trial("b", 2.0, kind=Kind.TUNE), trial("c", 4.0, kind=Kind.TUNE)])
    tuned = ledger.tally().only(Kind.TUNE)
    assert (tuned.count, tuned.sharpes, tuned.median) == (2, (2.0, 4.0), 3.0)
    assert ledger.tally().only(Kind.NOTE).median is None


def test_refits_are_told_and_not_counted(ledger: Ledger) -> None:
    ledger.record([trial("a", 1.0), trial("b", 9.0, kind=Kind.REFIT), trial("c", 8.0, kind=Kind.REFIT, is_over=False)])
    assert (ledger.count(), ledger.sharpes(), ledger.tally().looks) == (1, (1.0,), 1)
    assert ledger.tally().only(Kind.REFIT).sharpes == (9.0, 8.0)
    assert ledger.tally().only(Kind.MEMBER).count == 1
    assert read_ledger(ledger.place).lines == 3


# ---- what is written --------------------------------------------------------------------------------------------
def test_a_line_says_all_there_is_to_know(ledger: Ledger) -> None:
    ledger.record([trial("ab", 1.25, seed=7, symbols=("BTC/USDT",), looks=3)])
    line = json.loads(ledger.place.read_bytes())
    assert line == {
        "number": 1,
        "kind": "member",
        "recipe": "ab",
        "seed": 7,
        "score": 1.25,
        "looks": 3,
        "is_over": True,
        "from_ms": 0,
        "to_ms": 10 * DAY_MS,
        "symbols": ["BTC/USDT"],
        "count": 1,
        "words": "",
        "at": "2023-11-14T22:13:20+00:00",
        "days": 10.0,
        "previous": "0" * 64,
    }


def test_what_was_written_is_read_back(ledger: Ledger) -> None:
    made = [trial("a", 1.0, seed=3, symbols=("BTC/USDT", "ETH/USDT")), trial("b", None, from_ms=None, to_ms=None)]
    ledger.record(made)
    reading = read_ledger(ledger.place)
    assert [replace(one, at="") for one in reading.tally.counted] == made
    assert (reading.lines, reading.damage, reading.torn) == (2, "", 0)
    assert reading.sha256 == ledger.sha256 == Ledger(ledger.place).sha256


def test_a_fingerprint_is_of_the_values_and_not_of_their_order() -> None:
    assert fingerprint({"a": 1, "b": [1, 2]}) == fingerprint({"b": [1, 2], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})
    assert fingerprint({"b": [1, 2]}) != fingerprint({"b": [2, 1]})


def test_two_ledgers_of_one_file_see_what_the_other_wrote(ledger: Ledger) -> None:
    other = Ledger(ledger.place)
    ledger.record([trial("a", 1.0)])
    assert other.record([trial("a", 1.0), trial("b", 2.0)]) == 1
    assert other.count() == 2
    ledger.record([])
    assert ledger.count() == 2


# ---- where it lies ----------------------------------------------------------------------------------------------
def test_the_place_is_the_stated_one_then_the_environments_then_the_usual_one() -> None:
    assert place_of(Path("x"), {"SACD_TRIALS": "/y"}) == Path("x")
    assert place_of(None, {"SACD_TRIALS": "/y"}) == Path("/y")
    assert place_of(None, {"SACD_TRIALS": ""}) == place_of(None, {}) == DEFAULT_PLACE == Path("models/trials.jsonl")


def test_the_tests_themselves_have_a_ledger_of_their_own() -> None:
    assert not Path(os.environ["SACD_TRIALS"]).is_relative_to(Path(__file__).parents[2])


# ---- what is wrong ----------------------------------------------------------------------------------------------
def test_a_damaged_ledger_is_refused_and_read_as_far_as_it_can_be_told(ledger: Ledger) -> None:
    ledger.record([trial("a", 1.0), trial("b", 9.0)])
    ledger.place.write_bytes(ledger.place.read_bytes().replace(b"9.0", b"0.9"))
    with pytest.raises(LedgerDamaged, match="line 2 was changed"):
        Ledger(ledger.place)
    reading = read_ledger(ledger.place)
    assert "line 2 was changed" in reading.damage
    assert reading.tally.count == 0


def test_a_line_changed_behind_the_back_of_a_run_is_found_by_whoever_opens_the_ledger_next(ledger: Ledger) -> None:
    ledger.record([trial("a", 1.0), trial("b", 9.0)])
    ledger.place.write_bytes(ledger.place.read_bytes().replace(b"9.0", b"0.9"))
    ledger.record([trial("c", 1.0)])
    with pytest.raises(LedgerDamaged, match="line 3 does not follow the line before: line 2, or previous in line 3,"):
        Ledger(ledger.place)


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ({"count": "many"}, "count is 'many'"),
        ({"kind": "guess"}, "'guess' is not a valid Kind"),
        ({"score": "high"}, "score is 'high'"),
        ({"from_ms": "monday"}, "from_ms is 'monday'"),
    ],
)
def test_a_line_that_is_no_trial_is_named(ledger: Ledger, parts: dict[str, Any], says: str) -> None:
    ledger._file.append(lambda _: [trial("a").to_json() | parts])
    with pytest.raises(LedgerDamaged, match=re.escape(f"line 1 is no trial ({says}")):
        Ledger(ledger.place)


@pytest.mark.parametrize(
    ("count", "words", "says"), [(0, "grid", "--count 0"), (-3, "grid", "--count -3"), (5, " ", "--words is empty")]
)
def test_a_note_of_nothing_is_refused(count: int, words: str, says: str) -> None:
    with pytest.raises(TrainingError, match=re.escape(says)):
        note(count, words)
