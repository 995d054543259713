"""What a person reads of the ensembles, word for word."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.model_life import Cause, Outcome, RetrainBy, Swap, of_confirmed, of_pinned, of_swapping
from daemon.ports import Record
from daemon.wording_models import (
    beyond_words,
    drift_words,
    farthest,
    is_step_trouble,
    retrain_words,
    shadow_words,
    short_shadow_words,
    step_words,
    watch_words,
)
from strategy.features import FEATURE_NAMES, N_FEATURES
from tests.fakes import model_steps as steps
from tests.fakes.model_steps import NEW, OLD

SWAP = Swap(old=OLD, new=NEW, cause=Cause.PROVED, detail="ahead")


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        (
            (31, 200, 0.4, 0.22),
            "31 of about 200 decisions, candidate ahead by 0.4 basis points per decision, p = 0.22",
        ),
        (
            (1_200, 2_000, -12.34, 1.0),
            "1,200 of about 2,000 decisions, candidate behind by 12.3 basis points per decision, p = 1.00",
        ),
        (
            (7, 200, 0.04, 0.004),
            "7 of about 200 decisions, candidate ahead by 0.04 basis points per decision, p = 0.004",
        ),
        ((7, 200, 0.004, 0.9), "7 of about 200 decisions, candidate level with the incumbent, p = 0.90"),
        (
            (90, 200, 8.0, 1e-7),
            "90 of about 200 decisions, candidate ahead by 8.0 basis points per decision, p = below 0.001",
        ),
        ((0, 200, 0.0, 1.0), "0 of about 200 decisions"),
    ],
    ids=["ahead", "behind", "hardly", "level", "surely", "not yet"],
)
def test_a_shadow_is_told_by_decisions_lead_and_probability(figures: tuple[int, int, float, float], words: str) -> None:
    assert shadow_words(*figures) == words


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        ((31, 200, 0.4, 0.22), "31 of about 200 decisions, +0.4 bp each, p = 0.22"),
        ((31, 200, -0.4, 0.9), "31 of about 200 decisions, -0.4 bp each, p = 0.90"),
        ((31, 200, 0.0, 0.9), "31 of about 200 decisions, level, p = 0.90"),
        ((0, 200, 0.0, 1.0), "0 of about 200 decisions"),
    ],
)
def test_in_a_narrow_place_the_same_is_told_shorter(figures: tuple[int, int, float, float], words: str) -> None:
    assert short_shadow_words(*figures) == words


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        ((12, 60, 0.003), "12 of 60 decisions, 0.3 % ahead of the former one"),
        ((12, 60, -0.0251), "12 of 60 decisions, 2.5 % behind the former one"),
        ((12, 60, 0.00002), "12 of 60 decisions, level with the former one"),
        ((0, 60, 0.0), "0 of 60 decisions"),
    ],
)
def test_a_watch_is_told_by_decisions_and_lead(figures: tuple[int, int, float], words: str) -> None:
    assert watch_words(*figures) == words


@given(st.floats(-1e6, 1e6), st.floats(0.0, 1.0), st.integers(1, 10**6))
def test_a_lead_that_is_told_is_no_zero_and_a_probability_never_reads_as_none(
    ahead_bp: float, p: float, decisions: int
) -> None:
    for words in (shadow_words(decisions, 200, ahead_bp, p), short_shadow_words(decisions, 200, ahead_bp, p)):
        lead = re.search(r"([\d,.]+) (?:bp|basis)", words)
        assert (lead is None) == (abs(ahead_bp) < 0.005)
        assert lead is None or float(lead[1].replace(",", "")) > 0.0
        assert not re.search(r"p = 0\.0+$", words)
        assert ("ahead" in words or "+" in words) == (lead is not None and ahead_bp > 0.0)


# ---- drift ------------------------------------------------------------------------------------------------------
def test_the_three_features_that_lie_farthest_are_named() -> None:
    distances = [0.1] * N_FEATURES
    distances[3], distances[10], distances[50] = 1.5, 4.0, 2.0
    assert farthest(distances) == [(FEATURE_NAMES[10], 4.0), (FEATURE_NAMES[50], 2.0), (FEATURE_NAMES[3], 1.5)]
    with pytest.raises(ValueError, match="zip"):
        farthest(distances[1:])


def test_drift_is_told_with_its_limit_and_what_lies_farthest() -> None:
    far = [("return_1", 3.14159), ("flow_24", 2.0), ("skew_384", 1.0), ("echo_96", 0.5)]
    assert drift_words(0.84, 2.0, far) == "0.84, limit 2; farthest return_1 3.14, flow_24 2.00, skew_384 1.00"
    assert drift_words(0.84, 0.0, []) == "0.84"
    distances = [0.0] * N_FEATURES
    assert beyond_words(2.5, distances, is_beyond=True).startswith(
        "nothing is bought, the market has drifted from the training candles: 2.50; farthest return_1"
    )
    assert beyond_words(1.5, distances, is_beyond=False).startswith("the market is back among the training candles: ")


# ---- retrainings and steps --------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("records", "words"),
    [
        ([], "2024-01-08 00:00 UTC, by the schedule: under way"),
        (
            [steps.trained(Outcome.KEPT, reason="drawdown 0.31\nis above 0.25")],
            "2024-01-08 00:00 UTC, by the schedule: the incumbent was kept: drawdown 0.31 is above 0.25",
        ),
        (
            [steps.trained(Outcome.FAILED, reason="out of memory")],
            "2024-01-08 00:00 UTC, by the schedule: failed: out of memory",
        ),
        ([steps.trained(Outcome.CANDIDATE)], f"2024-01-08 00:00 UTC, by the schedule: passed the gate ({NEW})"),
        (
            [steps.trained(Outcome.CANDIDATE), steps.shadowed(), steps.dropped()],
            f"2024-01-08 00:00 UTC, by the schedule: the incumbent was kept ({NEW}): not shown to be better",
        ),
        (
            [steps.trained(Outcome.CANDIDATE), steps.shadowed(), steps.serves()],
            f"2024-01-08 00:00 UTC, by the schedule: promoted ({NEW}): ahead",
        ),
    ],
    ids=["running", "refused", "failed", "passed", "lost in shadow", "promoted"],
)
def test_the_last_retraining_is_told_with_its_outcome_and_why(records: list[Record], words: str) -> None:
    life = steps.life_after(steps.found(), steps.requested(), *records)
    assert life.retrain is not None
    told = {name: getattr(life.retrain, name) for name in life.retrain.__slots__}
    assert retrain_words(told) == words


@pytest.mark.parametrize(
    ("record", "words", "is_trouble"),
    [
        (steps.found(), f"{OLD} serves: the first run", False),
        (steps.requested("ab12"), "retraining ab12 was asked for by the schedule", False),
        (steps.requested("ab12", by=RetrainBy.DRIFT), "retraining ab12 was asked for because of drift", False),
        (steps.trained(Outcome.CANDIDATE), f"the retraining made {NEW}, which passed the gate", False),
        (
            steps.trained(Outcome.KEPT, reason="no better"),
            "the retraining ended, the incumbent stays: no better",
            False,
        ),
        (steps.trained(Outcome.FAILED, reason="it hung"), "the retraining failed: it hung", True),
        (steps.shadowed(), f"{NEW} goes into shadow beside {OLD}", False),
        (steps.dropped("behind\x1b[2J"), f"{NEW} is dropped, the incumbent stays: behind [2J", False),
        (of_swapping(SWAP, 0), f"{NEW} is to serve in place of {OLD}: ahead", False),
        (steps.serves(), f"{NEW} serves in place of {OLD}: ahead", False),
        (steps.serves(cause=Cause.HAND, previous=""), f"{NEW} serves: ahead", False),
        (steps.serves(OLD, NEW, Cause.ROLLBACK, detail="regret"), f"rolled back to {OLD}: regret", True),
        (
            steps.swap_failed(Cause.PROVED, "disk full"),
            f"{NEW} could not be put in place, {OLD} serves on: disk full",
            True,
        ),
        (of_confirmed(NEW, 0, figures={}), f"{NEW} is confirmed: it is watched no more", False),
        (
            of_pinned(0, is_pinned=True, source="hand"),
            "the ensemble is pinned: none takes its place by itself",
            False,
        ),
        (of_pinned(0, is_pinned=False, source="hand"), "the ensemble is no longer pinned", False),
    ],
)
def test_every_step_is_one_line_and_trouble_is_known(record: Record, words: str, is_trouble: bool) -> None:
    assert step_words(record.payload) == words
    assert is_step_trouble(record.payload) is is_trouble
