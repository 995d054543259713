"""What a trade costs: the formulas that training, backtest and paper trading share."""

import math

from strategy.instrument import Instrument
from strategy.order import Side
from strategy.parameters import CostModel


def fill_price(costs: CostModel, instrument: Instrument, side: Side, reference: float) -> float:
    """Return the price at which a market order fills: worse than `reference` by the slippage, on the tick grid.

    A sale never fills below one tick, the lowest price there is.
    """
    if side is Side.BUY:
        return instrument.ceil_price(reference * (1.0 + costs.slippage_rate))
    worse = instrument.floor_price(reference * (1.0 - costs.slippage_rate))
    return worse if worse > 0.0 else instrument.tick


def fee(costs: CostModel, notional: float) -> float:
    """Return the fee in quote for trading `notional` (quote, >= 0)."""
    return notional * costs.fee_rate


def affordable_quantity(costs: CostModel, instrument: Instrument, cash: float, price: float) -> float:
    """Return the largest quantity on the lot grid that `cash` pays for at `price`, fee included; 0 when none."""
    if cash <= 0.0:
        return 0.0
    # The division and the sum both round: start at the lot above, step down to the first that is covered to the last
    # bit. A step goes to the next float below, as a lot may be finer than floats of that size.
    quantity = instrument.ceil_quantity(cash / (price * (1.0 + costs.fee_rate)))
    while quantity > 0.0 and quantity * price + fee(costs, quantity * price) > cash:
        quantity = instrument.floor_quantity(math.nextafter(quantity, 0.0))
    return quantity
