import math
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.errors import TrainingError
from training.gates import Conduct, Gates, fault_of, weights_of

GOOD = Conduct(score=1.2, trades=10, buy=0.3, sell=0.3, hold=0.4)


@pytest.mark.parametrize(
    ("conduct", "gates", "fault"),
    [
        (GOOD, Gates(), ""),
        (replace(GOOD, buy=0.0, sell=0.0, hold=1.0), Gates(), "it answers hold to everything"),
        (replace(GOOD, buy=1.0, sell=0.0, hold=0.0), Gates(least_trades=0), "it answers buy to everything"),
        (replace(GOOD, buy=0.0, sell=1.0, hold=0.0), Gates(), "it answers sell to everything"),
        (replace(GOOD, score=math.nan), Gates(), "its score nan is not a number"),
        (replace(GOOD, trades=0), Gates(), "0 trades on the validation candles are fewer than 1"),
        (replace(GOOD, trades=9), Gates(least_trades=10), "9 trades on the validation candles are fewer than 10"),
        (GOOD, Gates(least_trades=10), ""),
        (GOOD, Gates(least_score=1.5), "its score 1.200 on the validation candles is below 1.5"),
        (GOOD, Gates(least_score=1.2), ""),
        (replace(GOOD, score=-3.0), Gates(), ""),
        (replace(GOOD, score=None, trades=None), Gates(least_score=5.0, least_trades=9), ""),
    ],
)
def test_a_member_is_left_out_for_what_it_did_not_show(conduct: Conduct, gates: Gates, fault: str) -> None:
    assert fault_of(conduct, gates) == fault


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"least_score": math.nan}, "least-score nan: give a number within"),
        ({"least_trades": -1}, "least-trades -1: give a whole number within 0"),
        ({"least_trades": 1.5}, "least-trades 1.5: give a whole number within 0"),
    ],
)
def test_gates_that_cannot_be_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        Gates(**values)


def test_equal_weights_are_equal() -> None:
    assert weights_of([None, 5.0, -1.0, 0.0], "equal") == [0.25] * 4


def test_weights_by_score_follow_the_exponential() -> None:
    """By hand: scores 0, ln 2 and ln 5 weigh 1, 2 and 5 of 8."""
    weights = weights_of([0.0, math.log(2), math.log(5)], "score")
    assert weights == pytest.approx([1 / 8, 2 / 8, 5 / 8], rel=1e-14)


def test_weights_by_score_do_not_change_when_all_scores_move() -> None:
    assert weights_of([1.0, 2.0], "score") == pytest.approx(weights_of([701.0, 702.0], "score"), rel=1e-14)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=100))
def test_weights_are_positive_ordered_as_the_scores_and_sum_to_1(scores: list[float]) -> None:
    weights = weights_of(scores, "score")
    assert all(weight > 0.0 for weight in weights)
    assert abs(sum(map(Fraction, weights)) - 1) < Fraction(1, 10**12)
    ordered = [weight for _, weight in sorted(zip(scores, weights, strict=True))]
    assert ordered == sorted(ordered)


def test_weights_by_score_need_scores() -> None:
    with pytest.raises(TrainingError, match="--weighting score needs scores: give --validation above 0"):
        weights_of([1.0, None], "score")
    with pytest.raises(TrainingError, match="--weighting fame: give one of equal, score"):
        weights_of([1.0], "fame")
