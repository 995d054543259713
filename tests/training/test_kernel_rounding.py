"""Compiled rounding against strategy/instrument.py, which rounds with Decimal."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from strategy.costs import affordable_quantity, fill_price
from strategy.instrument import Instrument
from strategy.order import Side
from strategy.parameters import CostModel
from strategy.portfolio import _on_lots
from tests.fakes.trading import BTC
from training.errors import TrainingError
from training.kernel_costs import buying_price, least_of_affordable, least_of_volume, selling_price, sum_of_lots
from training.kernel_records import ACCOUNT, MARKET
from training.kernel_rounding import EXACT, decimal_step, grid_above, grid_below, grid_point, steps_of

DIGITS = st.integers(1, 99_999) | st.sampled_from([1, 2, 5, 25, 125, 10**9 + 7])
STEPS = st.builds(lambda digits, decimals: float(f"{digits}e-{decimals}"), DIGITS, st.integers(0, 22))
SHARES = st.floats(1e-9, 1.0)


def instrument(step: float) -> Instrument:
    return Instrument(symbol=BTC, tick=step, lot=step)


def near_grid(step: float, count: int, ulps: int) -> float:
    """Return a value some floats away from the `count`-th point of the grid."""
    value = float(Fraction(repr(step)) * count)
    for _ in range(abs(ulps)):
        value = math.nextafter(value, math.inf if ulps > 0 else 0.0)
    return value


@st.composite
def values(draw: st.DrawFn) -> tuple[float, float]:
    """Draw a step and a value that rounding tells apart: anywhere, or next to a point of the grid."""
    step = draw(STEPS)
    digits, _ = decimal_step("step", step)
    most = int((EXACT - 1) // digits)
    count = draw(st.integers(0, most) | st.integers(0, 10**6) | st.just(most - 1))
    if draw(st.booleans()):
        return step, near_grid(step, min(count, most - 1), draw(st.integers(-3, 3)))
    value = draw(SHARES) * float(Fraction(repr(step)) * max(count, 1))
    return step, value


@settings(max_examples=800, deadline=None)
@given(values())
@example((0.1, 0.3))
@example((0.1, 0.1 + 0.2))
@example((1e-8, 0.07))
@example((0.01, 1.13))
def test_floor_and_ceiling_are_the_instruments(drawn: tuple[float, float]) -> None:
    step, value = drawn
    digits, scale = decimal_step("step", step)
    exact = instrument(step)
    assert grid_below(value, digits, scale) == exact.floor_quantity(value)
    above = grid_above(value, digits, scale)
    assume(above * scale < EXACT)
    assert above == exact.ceil_quantity(value)


@settings(max_examples=400, deadline=None)
@given(STEPS, st.integers(0, 10**15))
def test_a_point_of_the_grid_is_known_by_its_number(step: float, count: int) -> None:
    digits, scale = decimal_step("step", step)
    count = min(count, int((EXACT - 1) // digits))
    value = instrument(step).nearest_quantity(float(Fraction(repr(step)) * count))
    assert steps_of(value, digits, scale) == count
    assert grid_point(float(count), digits, scale) == value


@pytest.mark.parametrize(
    ("step", "parts"),
    [(0.01, (1.0, 100.0)), (0.25, (25.0, 100.0)), (100.0, (100.0, 1.0)), (1e-08, (1.0, 1e8)), (0.0003, (3.0, 1e4))],
)
def test_a_step_is_digits_over_a_power_of_ten(step: float, parts: tuple[float, float]) -> None:
    assert decimal_step("lot", step) == parts


@pytest.mark.parametrize("step", [1e-23, 1e15, 0.30000000000000004, 1.0 / 3.0, math.pi])
def test_a_step_of_too_many_digits_is_refused_by_name(step: float) -> None:
    with pytest.raises(TrainingError, match=rf"BTC/USDT: lot {step} has too many digits .*: give a step such as 0\.01"):
        decimal_step("BTC/USDT: lot", step)


@pytest.mark.parametrize("value", [1e16, 1e22, 1e300, math.inf])
def test_rounding_what_is_beyond_fifteen_digits_ends_near_it(value: float) -> None:
    for rounded in (grid_below(value, 1.0, 1e4), grid_above(value, 1.0, 1e4)):
        assert rounded == pytest.approx(value, rel=1e-15)


# ---- what shortcuts rest on -------------------------------------------------------------------------------------
def records(
    step: float, cash: float = 0.0, fee_rate: float = 0.0, participation: float = 1.0
) -> tuple[np.void, np.void]:
    """Return a market and an account with what the functions below read."""
    market, account = np.zeros(1, MARKET), np.zeros(1, ACCOUNT)
    market["lot_digits"], market["lot_scale"] = decimal_step("lot", step)
    market["participation"], account["cash"], account["fee_rate"] = participation, cash, fee_rate
    return market[0], account[0]


LOTS = st.sampled_from([1.0, 0.25, 0.3, 1e-4, 1e-8])


@settings(max_examples=500, deadline=None)
@given(LOTS, st.integers(0, 10**9), st.floats(1e-6, 1e6), st.floats(0.0, 2.0), st.sampled_from([0.0, 0.001, 0.1]))
@example(0.0001, 12_345, 100.0, 1.001, 0.001)
def test_what_cash_pays_for_is_the_cost_models(lot: float, count: int, price: float, share: float, rate: float) -> None:
    wanted = float(Fraction(repr(lot)) * count)
    cash = wanted * price * share
    costs = CostModel(fee_rate=rate)
    expected = min(wanted, affordable_quantity(costs, instrument(lot), cash, price))
    assert least_of_affordable(*records(lot, cash, rate), wanted, price) == expected


@settings(max_examples=400, deadline=None)
@given(LOTS, st.floats(1e-6, 1e6), st.sampled_from([0.0, 0.0005, 0.1]))
@example(1.0, 0.9, 0.0005)
def test_fills_are_priced_by_the_cost_model_and_a_sale_never_below_one_tick(
    tick: float, price: float, rate: float
) -> None:
    market, account = records(tick)
    market["tick"], account["slippage_rate"] = tick, rate
    market["tick_digits"], market["tick_scale"] = decimal_step("tick", tick)
    costs, made = CostModel(slippage_rate=rate), instrument(tick)
    assert buying_price(market, account, price) == fill_price(costs, made, Side.BUY, price)
    assert selling_price(market, account, price) == fill_price(costs, made, Side.SELL, price) >= tick


@settings(max_examples=400, deadline=None)
@given(LOTS, st.integers(0, 10**9), st.floats(0.0, 1e18) | st.floats(0.0, 2.0), st.sampled_from([1e-6, 0.05, 1.0]))
def test_the_share_of_the_volume_is_the_exchanges(lot: float, count: int, volume: float, participation: float) -> None:
    wanted = float(Fraction(repr(lot)) * count)
    expected = min(wanted, instrument(lot).floor_quantity(min(volume, 1e300) * participation))
    assert least_of_volume(*records(lot, participation=participation), wanted, volume) == expected


@settings(max_examples=500, deadline=None)
@given(LOTS, st.integers(0, 10**14), st.integers(0, 10**14), st.booleans())
def test_a_sum_of_lots_is_the_portfolios(lot: float, held: int, change: int, is_sale: bool) -> None:
    sign = -1 if is_sale and change <= held else 1
    one, other = float(Fraction(repr(lot)) * held), sign * float(Fraction(repr(lot)) * change)
    assert sum_of_lots(*records(lot), one, other) == _on_lots(instrument(lot), one, other)


def test_a_sum_beyond_fifteen_digits_is_noticed() -> None:
    market, account = records(1e-4)
    sum_of_lots(market, account, 9e10, 0.0)
    assert account["is_inexact"] == 0
    sum_of_lots(market, account, 9e10, 2e10)
    assert account["is_inexact"] == 1
