"""The paired test: its formula against quadrature, its promise by counting every pattern of signs, its memory."""

import itertools
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import scipy.integrate
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st

from strategy.errors import BadState, InvalidParameters, StrategyError
from strategy.sequential import PairedTest, log_evidence, log_folded
from strategy.sequential import TestPlan as Plan  # pytest would take a name that begins with Test for a class of tests

PLAN = Plan(scale=0.002, horizon=200, least=20, alpha=0.05)


def told(differences: Sequence[float], plan: Plan = PLAN) -> PairedTest:
    test = PairedTest(plan=plan)
    for difference in differences:
        test = test.after(difference)
    return test


def by_quadrature(total: float, squares: float, rho: float) -> float:
    """Return the log of the mean of exp(l total - l^2 squares / 2) over l = |normal of variance 1 / rho|."""
    peak = max(0.0, total / (squares + rho))
    top = peak * total - 0.5 * peak * peak * (squares + rho)
    spread = 1.0 / math.sqrt(squares + rho)

    def height(size: float) -> float:
        return math.exp(size * total - 0.5 * size * size * (squares + rho) - top)

    edges = [max(0.0, peak - 12.0 * spread), peak, peak + 12.0 * spread]
    area = sum(scipy.integrate.quad(height, a, b, epsabs=0.0)[0] for a, b in itertools.pairwise(edges) if a < b)
    return top + math.log(area) + 0.5 * math.log(2.0 * rho / math.pi)


# ---- the formula -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("z", [-1e6, -316.0, -37.6, -20.1, -20.0, -19.9, -8.0, -1.0, -1e-9, 0.0, 0.5, 3.0, 38.0, 316.0])
def test_the_mean_over_a_folded_normal_is_that_of_scipy(z: float) -> None:
    scaled = scipy.special.erfcx(-z / math.sqrt(2.0))
    expected = math.log(scaled) if math.isfinite(scaled) else z * z / 2.0 + math.log(2.0)
    # Below -20 a series takes over, whose terms are all there; above, z^2 / 2 and a logarithm take each other away.
    assert log_folded(z) == pytest.approx(expected, rel=1e-15, abs=3e-14 if z < -20.0 else 2e-13)
    if abs(z) < 1e3:  # beyond, the two parts of log_ndtr cancel to nothing
        assert log_folded(z) == pytest.approx(scipy.special.log_ndtr(z) + z * z / 2.0 + math.log(2.0), abs=1e-10)


@pytest.mark.parametrize(
    ("total", "squares", "rho"),
    [
        pytest.param(0.0, 0.0, 1.0, id="nothing seen"),
        pytest.param(3.0, 10.0, 2.0, id="ahead"),
        pytest.param(-3.0, 10.0, 2.0, id="behind"),
        pytest.param(0.0, 500.0, 1.0, id="level"),
        pytest.param(400.0, 1_000.0, 16.7, id="far ahead"),
        pytest.param(-400.0, 1_000.0, 16.7, id="far behind"),
        pytest.param(9e4, 1e5, 16.7, id="so far ahead that no double holds the evidence itself"),
        pytest.param(0.04, 2e-3, 7e-5, id="in log growth"),
    ],
)
def test_the_closed_form_is_the_mixture_by_quadrature(total: float, squares: float, rho: float) -> None:
    assert log_evidence(total, squares, rho) == pytest.approx(by_quadrature(total, squares, rho), rel=1e-9, abs=1e-9)


def test_three_differences_by_quadrature() -> None:
    test = told([0.004, -0.001, 0.003])
    # The half normal has seen a twelfth of the horizon: 0.002^2 * 200 / 12.
    rho = 0.002**2 * 200 / 12
    assert test.count == 3
    assert test.mean == pytest.approx(0.002, rel=1e-12)
    assert test.log_better == pytest.approx(by_quadrature(0.006, 26e-6, rho), abs=1e-9)
    assert test.log_worse == pytest.approx(by_quadrature(-0.006, 26e-6, rho), abs=1e-9)


def test_p_is_one_over_the_most_evidence_there_ever_was() -> None:
    ahead = told([0.004] * 12)
    assert ahead.p_better == pytest.approx(math.exp(-ahead.log_better), rel=1e-12)
    assert ahead.p_better < 0.05
    back = ahead.after(-0.02)
    assert back.log_better < ahead.log_better
    assert back.p_better == ahead.p_better


def test_p_is_one_while_nothing_was_seen_and_never_above() -> None:
    assert (PairedTest(plan=PLAN).p_better, PairedTest(plan=PLAN).p_worse, PairedTest(plan=PLAN).mean) == (
        1.0,
        1.0,
        0.0,
    )
    assert told([-0.004] * 10).p_better == 1.0


def test_a_single_day_never_decides() -> None:
    # One sign has two outcomes, so evidence from it is at most 2, however large the day.
    for size in (0.001, 0.01, 0.1, 10.0):
        assert told([size]).log_better < math.log(2.0)


def test_evidence_beyond_every_double_is_still_told() -> None:
    test = told([0.004] * 4_000)
    assert 1_000.0 < test.log_better < 2_000.0
    assert test.p_better == 0.0
    assert math.isfinite(test.log_worse)


# ---- the promise, counted over every pattern of signs ---------------------------------------------------------------
Outcomes = Callable[[PairedTest], tuple[float, float]]
"""The two equally likely differences that come after a test so far."""


def mean_evidence(test: PairedTest, left: int, outcomes: Outcomes, *, stop_at: float = math.inf) -> float:
    """Return the mean of the evidence over all ways it may go on, stopped the first time it reaches `stop_at`."""
    evidence = math.exp(test.log_better)
    if left == 0 or evidence >= stop_at:
        return evidence
    return sum(0.5 * mean_evidence(test.after(d), left - 1, outcomes, stop_at=stop_at) for d in outcomes(test))


def crossing(test: PairedTest, left: int, outcomes: Outcomes, alpha: float) -> float:
    """Return the probability that p is ever at most alpha."""
    if test.p_better <= alpha:
        return 1.0
    return 0.0 if left == 0 else sum(0.5 * crossing(test.after(d), left - 1, outcomes, alpha) for d in outcomes(test))


SIZES = st.lists(st.floats(1e-6, 0.05), min_size=1, max_size=12)


@given(SIZES)
@settings(max_examples=25, deadline=None)
def test_the_mean_over_all_signs_is_at_most_one_at_every_length(sizes: list[float]) -> None:
    for count in range(len(sizes) + 1):
        assert mean_evidence(PairedTest(plan=PLAN), count, lambda t: (sizes[t.count], -sizes[t.count])) <= 1.0 + 1e-12


@given(st.lists(st.lists(st.floats(1e-6, 0.05), min_size=3, max_size=3), min_size=8, max_size=8), st.floats(1.0, 6.0))
@settings(max_examples=25, deadline=None)
def test_stopping_when_it_looks_good_gains_nothing(sizes: list[list[float]], stop_at: float) -> None:
    def outcomes(test: PairedTest) -> tuple[float, float]:
        # The size of a day may depend on all that went before, as after a loss volatility rises.
        size = sizes[test.count][(test.total > 0.0) + (test.total > 0.01)]
        return size, -size

    assert mean_evidence(PairedTest(plan=PLAN), 8, outcomes, stop_at=stop_at) <= 1.0 + 1e-12


@given(st.lists(st.tuples(st.floats(1e-6, 0.05), st.floats(0.0, 0.05)), min_size=8, max_size=8), st.floats(1.0, 6.0))
@settings(max_examples=25, deadline=None)
def test_a_worse_one_gains_nothing_either(days: list[tuple[float, float]], stop_at: float) -> None:
    def outcomes(test: PairedTest) -> tuple[float, float]:
        size, drop = days[test.count]
        return size - drop, -size - drop

    assert mean_evidence(PairedTest(plan=PLAN), 8, outcomes, stop_at=stop_at) <= 1.0 + 1e-12


@pytest.mark.parametrize("alpha", [0.3, 0.1, 0.05])
def test_all_paths_together_cross_alpha_at_most_alpha_often_and_some_do(alpha: float) -> None:
    plan = replace(PLAN, horizon=12, least=1)
    share = crossing(PairedTest(plan=plan), 12, lambda _: (0.002, -0.002), alpha)
    assert 0.0 < share <= alpha


def test_a_constant_lead_is_no_coin_and_is_found() -> None:
    # The check above has teeth: with outcomes that are not symmetric the mean is far above one.
    assert mean_evidence(PairedTest(plan=PLAN), 8, lambda _: (0.002, 0.001)) > 1.5


# ---- properties -----------------------------------------------------------------------------------------------------
DIFFERENCES = st.lists(st.floats(-0.2, 0.2), max_size=40)


@given(DIFFERENCES)
def test_changing_sides_changes_better_for_worse(differences: list[float]) -> None:
    one, other = told(differences), told([-d for d in differences])
    assert (one.p_better, one.p_worse, one.mean) == (other.p_worse, other.p_better, -other.mean)


@given(DIFFERENCES, st.integers(-12, 12))
def test_the_unit_does_not_matter(differences: list[float], power: int) -> None:
    # Powers of two are exact, so nothing may change at all but what is measured in the unit.
    unit = 2.0**power
    small = [d if abs(d) > 1e-100 else 0.0 for d in differences]
    one, other = told(small), told([d * unit for d in small], replace(PLAN, scale=PLAN.scale * unit))
    assert (one.log_better, one.log_worse) == (other.log_better, other.log_worse)
    assert (one.p_better, one.p_worse, one.mean * unit) == (other.p_better, other.p_worse, other.mean)


@given(DIFFERENCES, st.floats(-0.2, 0.2))
def test_p_never_rises_and_never_leaves_its_range(differences: list[float], last: float) -> None:
    before = told(differences)
    after = before.after(last)
    assert 0.0 <= after.p_better <= before.p_better <= 1.0
    assert 0.0 <= after.p_worse <= before.p_worse <= 1.0


@given(st.floats(-5.0, 5.0), st.floats(0.0, 1.0), st.floats(1e-3, 10.0), st.floats(1e-6, 1e-3))
def test_evidence_rises_with_the_sum_for_the_same_squares(
    total: float, more: float, squares: float, rho: float
) -> None:
    assert log_evidence(total + more, squares, rho) >= log_evidence(total, squares, rho)


@given(DIFFERENCES, st.floats(-0.2, 0.2))
def test_a_stored_test_goes_on_to_the_bit(differences: list[float], last: float) -> None:
    test = told(differences)
    stored = json.loads(json.dumps(test.to_json()))
    assert PairedTest.from_json(stored) == test
    assert PairedTest.from_json(stored).after(last) == test.after(last)


# ---- bad input ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e200])
def test_a_difference_that_is_no_number_is_refused_by_its_value(bad: float) -> None:
    with pytest.raises(StrategyError, match=rf"difference {str(bad).replace('+', '.')} after 2 others"):
        told([0.001, 0.002, bad])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"scale": 0.0}, "scale 0.0 of the differences is outside"),
        ({"scale": math.nan}, "scale nan"),
        ({"scale": math.inf}, "scale inf"),
        ({"horizon": 0, "least": 0}, "horizon 0 is not at least 1"),
        ({"least": 0}, r"least 0 is outside 1 \.\. 200"),
        ({"least": 201}, r"least 201 is outside 1 \.\. 200"),
        ({"alpha": 0.0}, "alpha 0.0 is not a probability"),
        ({"alpha": 1.0}, "alpha 1.0 is not a probability"),
        ({"alpha": math.nan}, "alpha nan"),
    ],
)
def test_a_plan_out_of_range_is_refused_by_name_and_value(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParameters, match=message):
        replace(PLAN, **wrong)


def test_a_stored_plan_comes_back() -> None:
    assert Plan.from_json(json.loads(json.dumps(PLAN.to_json()))) == PLAN


@pytest.mark.parametrize(
    "wrong",
    [
        {"count": -1},
        {"count": 2.5},
        {"squares": -1e-9},
        {"total": math.nan},
        {"most_better": 0.0},
        {"most_worse": -1.0},
        {"extra": 1},
        {"plan": None},
        {"plan": {**PLAN.to_json(), "horizon": "200"}},
        {"plan": {**PLAN.to_json(), "scale": -1.0}},
    ],
    ids=str,
)
def test_what_was_stored_by_something_else_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(StrategyError):
        PairedTest.from_json({**told([0.004] * 12).to_json(), **wrong})


@pytest.mark.parametrize("stored", [None, 3, [], {}])
def test_a_stored_test_without_a_plan_is_refused(stored: Any) -> None:
    with pytest.raises(BadState, match="it has no plan"):
        PairedTest.from_json(stored)
