import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.intervals import Interval, mean_interval, student_quantile

# Two-sided 95 % and 99 % points as printed in tables of Student's distribution.
TABLE = [
    (1, 12.706, 63.657), (2, 4.303, 9.925), (3, 3.182, 5.841), (4, 2.776, 4.604), (5, 2.571, 4.032), (6, 2.447, 3.707),
    (9, 2.262, 3.250), (10, 2.228, 3.169), (19, 2.093, 2.861), (30, 2.042, 2.750), (120, 1.980, 2.617),
]  # fmt: skip


@pytest.mark.parametrize(("freedom", "at_95", "at_99"), TABLE)
def test_quantiles_are_those_of_printed_tables(freedom: int, at_95: float, at_99: float) -> None:
    assert student_quantile(0.95, freedom) == pytest.approx(at_95, abs=5.1e-4)
    assert student_quantile(0.99, freedom) == pytest.approx(at_99, abs=5.1e-4)


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 7, 12])
def test_the_density_between_the_quantiles_adds_up_to_the_confidence(freedom: int) -> None:
    t = np.linspace(-student_quantile(0.9, freedom), student_quantile(0.9, freedom), 200_001)
    scale = math.gamma((freedom + 1) / 2) / (math.sqrt(freedom * math.pi) * math.gamma(freedom / 2))
    assert np.trapezoid(scale * (1 + t * t / freedom) ** (-(freedom + 1) / 2), t) == pytest.approx(0.9, abs=1e-6)


def test_an_interval_by_hand() -> None:
    # Mean 2, spread 1, of three: 4.303 * 1 / sqrt(3).
    interval = mean_interval([1.0, 2.0, 3.0])
    assert interval is not None
    assert (interval.mean, interval.low, interval.high) == pytest.approx((2.0, 2.0 - 2.484, 2.0 + 2.484), abs=1e-3)


@pytest.mark.parametrize("values", [[], [1.0]])
def test_fewer_than_two_values_have_no_interval(values: list[float]) -> None:
    assert mean_interval(values) is None


def test_it_holds_the_true_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for values in rng.normal(5.0, 2.0, (2_000, 4)):
        interval = mean_interval(values.tolist())
        held += interval is not None and interval.holds(5.0)
    assert held / 2_000 == pytest.approx(0.95, abs=0.015)  # three standard errors


@given(values=st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=20), shift=st.floats(-1e3, 1e3))
def test_shifting_all_values_shifts_the_interval(values: list[float], shift: float) -> None:
    one, other = mean_interval(values), mean_interval([value + shift for value in values])
    assert one is not None
    assert other is not None
    assert one.low <= one.mean <= one.high
    shifted = (one.low + shift, one.mean + shift, one.high + shift)
    assert (other.low, other.mean, other.high) == pytest.approx(shifted, abs=1e-6)


@pytest.mark.parametrize(
    ("other", "overlaps"),
    [((0.0, 0.9), False), ((0.0, 1.0), True), ((1.4, 1.5), True), ((2.0, 3.0), True), ((2.1, 3.0), False)],
)
def test_intervals_overlap_when_they_share_a_value(other: tuple[float, float], overlaps: bool) -> None:
    one = Interval(mean=1.5, low=1.0, high=2.0)
    two = Interval(mean=sum(other) / 2, low=other[0], high=other[1])
    assert one.overlaps(two) is overlaps
    assert two.overlaps(one) is overlaps
