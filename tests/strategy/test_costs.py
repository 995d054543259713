from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from strategy.costs import affordable_quantity, fee, fill_price
from strategy.instrument import Instrument
from strategy.order import Side
from strategy.parameters import CostModel

COSTS = CostModel(fee_rate=0.001, slippage_rate=0.0005)
BTC = Instrument(symbol="BTC/USDT", tick=0.01, lot=0.0001)
RATES = st.floats(0.0, 0.1)
GRIDS = st.sampled_from([1e-8, 0.0001, 0.01, 0.05, 0.25, 1.0, 7.0])
PRICES = st.floats(1e-6, 1e6)


@pytest.mark.parametrize(
    ("side", "reference", "price"),
    [
        (Side.BUY, 20_000.0, 20_010.0),  # 20,000 * 1.0005
        (Side.SELL, 20_000.0, 19_990.0),
        (Side.BUY, 100.0, 100.05),
        (Side.BUY, 100.01, 100.07),  # 100.060005 rounds up
        (Side.SELL, 100.01, 99.95),  # 99.959995 rounds down
        (Side.SELL, 0.01, 0.01),  # there is no price below one tick
        (Side.SELL, 0.02, 0.01),
        (Side.SELL, 0.5, 0.49),  # 0.49975 rounds down
    ],
)
def test_fill_price_by_hand(side: Side, reference: float, price: float) -> None:
    assert fill_price(COSTS, BTC, side, reference) == price


@given(RATES, GRIDS, PRICES)
def test_a_market_order_fills_worse_than_its_reference_and_on_the_grid(
    slippage: float, tick: float, reference: float
) -> None:
    costs, instrument = CostModel(slippage_rate=slippage), replace(BTC, tick=tick)
    bought = fill_price(costs, instrument, Side.BUY, reference)
    sold = fill_price(costs, instrument, Side.SELL, reference)
    assert bought >= reference * (1.0 + slippage) >= reference
    assert bought - reference * (1.0 + slippage) <= tick * (1.0 + 1e-9)
    assert 0.0 < sold <= max(reference * (1.0 - slippage), tick)
    for price in (bought, sold):
        assert instrument.floor_price(price) == price == instrument.ceil_price(price)


def test_without_slippage_a_price_on_the_grid_is_the_price() -> None:
    free = CostModel(slippage_rate=0.0)
    assert fill_price(free, BTC, Side.BUY, 123.45) == fill_price(free, BTC, Side.SELL, 123.45) == 123.45


def test_the_fee_is_a_share_of_the_notional() -> None:
    assert fee(COSTS, 20_010.0) == pytest.approx(20.01, rel=1e-15)
    assert fee(COSTS, 0.0) == 0.0


@pytest.mark.parametrize(
    ("cash", "price", "quantity"),
    [
        (100.1, 100.0, 1.0),  # 100 and a fee of 0.1
        (100.0, 100.0, 0.9990),  # 99.9 and 0.0999 are 99.9999; one lot more is 100.01
        (100.09, 100.0, 0.9999),
        (0.01, 100.0, 0.0),
        (0.0, 100.0, 0.0),
        (-5.0, 100.0, 0.0),
        (10_000.0, 20_010.0, 0.4992),  # 9,988.99 and 9.99; one lot more costs 2.003 more
    ],
)
def test_affordable_quantity_by_hand(cash: float, price: float, quantity: float) -> None:
    assert affordable_quantity(COSTS, BTC, cash, price) == quantity


@given(st.floats(0.0, 1e9), PRICES, RATES, GRIDS)
@example(17_351.794459999997, 666.71, 0.001, 0.01)  # a division that rounds down just below the grid
@example(89_294.46952834047, 2.018886429816593e-06, 0.001, 1e-8)  # a lot finer than floats of that size
def test_what_is_affordable_is_paid_for_and_nothing_more_would_be(
    cash: float, price: float, fee_rate: float, lot: float
) -> None:
    costs, instrument = CostModel(fee_rate=fee_rate), replace(BTC, lot=lot)
    quantity = affordable_quantity(costs, instrument, cash, price)
    assert quantity >= 0.0
    assert quantity * price + fee(costs, quantity * price) <= cash
    assert instrument.nearest_quantity(quantity) == quantity
    if quantity / lot < 2.0**50:  # beyond, neighbouring floats are lots apart
        more = instrument.nearest_quantity(quantity + lot)
        assert more * price + fee(costs, more * price) > cash


@given(st.integers(1, 10**6), st.integers(1, 10**7), GRIDS)
def test_cash_for_exactly_so_many_lots_buys_exactly_so_many(lots: int, cents: int, lot: float) -> None:
    instrument = replace(BTC, lot=lot)
    wanted, price = float(lots * Fraction(repr(lot))), cents / 100
    cash = wanted * price + fee(COSTS, wanted * price)
    assert affordable_quantity(COSTS, instrument, cash, price) == wanted
