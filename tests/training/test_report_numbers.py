"""How numbers are written, and where round ones stand on an axis."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.charts import Axis
from training.report_numbers import (
    MULTIPLE,
    PERCENT,
    RATIO,
    as_wanted,
    days,
    listed,
    multiple,
    percent,
    price,
    ratio,
)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (percent(0.12345), "12.3\u00a0%"),
        (percent(-0.5, 0), "\u221250\u00a0%"),
        (percent(0.031, is_signed=True), "+3.1\u00a0%"),
        (percent(-0.0001), "0.0\u00a0%"),  # no minus before nothing
        (percent(0.0001, is_signed=True), "0.0\u00a0%"),
        (percent(10.5), "1,050.0\u00a0%"),
        (ratio(-1.005), "\u22121.00"),
        (multiple(2.314), "2.31\u00d7"),
        (days(1.0), "1 day"),
        (days(211.4), "211 days"),
        (days(1_182.0), "1,182 days (3.2 years)"),
        (price(43_210.5), "43,210"),
        (price(0.00001234), "0.00001234"),
        (price(1.2345), "1.234"),
        (listed(["a"]), "a"),
        (listed(["a", "b", "c"]), "a, b and c"),
        (as_wanted(0.5, "> 55 %"), "50.0\u00a0%"),
        (as_wanted(0.5, "> 1.2"), "0.50"),
        (RATIO.tick(0.30000000000000004), "0.3"),
        (PERCENT.tick(-0.15000000000000002), "\u221215\u00a0%"),
        (MULTIPLE.tick(10.0), "10\u00d7"),
    ],
)
def test_numbers_have_their_unit_and_no_more_digits_than_they_need(told: str, expected: str) -> None:
    assert told == expected


@pytest.mark.parametrize("write", [percent, ratio, multiple, days])
def test_what_is_not_defined_is_said_to_be_so(write: object) -> None:
    assert callable(write)
    assert write(None) == "not defined"


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.4, 6.0, [0.5, 1.0, 2.0, 5.0]),
        (0.05, 300.0, [0.1, 1.0, 10.0, 100.0]),
        (0.85, 1.35, [1.0, 1.2]),
        (1e-12, 1.0, [1e-12, 1e-10, 1e-8, 1e-6, 1e-4, 1e-2, 1.0]),
    ],
)
def test_a_logarithmic_axis_has_a_few_round_values(low: float, high: float, expected: list[float]) -> None:
    axis = Axis(low=low, high=high, begin=0.0, end=1.0, is_log=True)
    assert axis.ticks() == pytest.approx(expected)


@given(st.floats(1e-6, 1e6), st.floats(1.05, 1e9))
def test_the_ticks_of_any_logarithmic_axis_lie_on_it_and_are_few(low: float, factor: float) -> None:
    axis = Axis(low=low, high=low * factor, begin=0.0, end=1.0, is_log=True)
    ticks = axis.ticks()
    assert 1 <= len(ticks) <= 9
    assert all(-0.01 <= axis.at(tick) <= 1.01 for tick in ticks)
