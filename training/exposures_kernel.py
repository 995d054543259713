"""The compiled account that follows target exposures: several symbols, one cash, the fixed order of symbols.

What `strategy/session.py` does for such targets where no limit of the risk manager stands in the way: orders that wait
fill at the next open, the account is marked, targets become orders. Tests hold it to `training/backtest.py`.
"""

import numpy as np
from numpy.typing import NDArray

from training.compiled import compiled
from training.kernel_costs import (
    buying_price,
    ceil_quantity,
    floor_quantity,
    least_of_affordable,
    least_of_volume,
    selling_price,
    sum_of_lots,
)
from training.kernel_records import Record, Records
from training.reward import ActionKind

_BUY, _SELL, _HOLD, _NOBODY = int(ActionKind.BUY), int(ActionKind.SELL), int(ActionKind.HOLD), -1
OPEN, CLOSE, VOLUME = range(3)
ROW, SYMBOL, QUANTITY, PRICE, FEE, REFERENCE, DECIDED = range(7)
"""Columns of the prices, and of the fills: QUANTITY is signed; ROW is when it filled, DECIDED when it was decided."""

MARKET = np.dtype(
    [
        ("tick", "f8"),
        ("tick_digits", "f8"),
        ("tick_scale", "f8"),
        ("lot_digits", "f8"),
        ("lot_scale", "f8"),
        ("min_notional", "f8"),
        ("participation", "f8"),
    ],
    align=True,
)
"""The steps of one symbol and how much of a candle's volume an order may take."""

POSITION = np.dtype(
    [("quantity", "f8"), ("mark", "f8"), ("order", "f8"), ("reference", "f8"), ("decided", "i8")], align=True
)
"""What is held of one symbol and its last close; the order on its way (signed, 0: none), its price and row."""

ACCOUNT = np.dtype(
    [
        ("fee_rate", "f8"),
        ("slippage_rate", "f8"),
        ("cash", "f8"),
        ("equity", "f8"),
        ("fees", "f8"),
        ("slippage", "f8"),
        ("traded", "f8"),
        ("invested", "f8"),
        ("n_fills", "i8"),
        ("is_inexact", "i8"),
    ],
    align=True,
)
"""Two of these make an account: what it has, and, as `cash` of the second, what it may still promise to orders.

traded: notional.  invested: sum over rows of the share of equity that was invested.
"""

Floats = NDArray[np.float64]


@compiled
def run(  # noqa: PLR0917 - compiled code takes its arguments by position
    prices: Floats,
    targets: Floats,
    markets: Records,
    positions: Records,
    accounts: Records,
    dead_band: float,
    most: float,
    equity: Floats,
    exposure: Floats,
    actions: NDArray[np.int8],
    fills: Floats,
) -> None:
    """Take an account through every row, and note what became of it.

    prices: (n, n_symbols, 3), an open of 0 where there is no candle.  targets: (n, n_symbols), NaN: no wish.
    dead_band, most: see `training.exposures.follow`.  equity: (n,), written.  exposure, actions: (n, n_symbols),
    written, or of no rows.  fills: written as far as they have room; `n_fills` counts all.  Ends early, `is_inexact`,
    where a quantity has too many digits to be rounded exactly: nothing of it counts then.
    """
    account, promised = accounts[0], accounts[1]
    for row in range(len(prices)):
        for index in range(len(positions)):
            position = positions[index]
            if position.order != 0.0 and prices[row, index, OPEN] > 0.0:
                _fill(markets[index], account, position, prices, row, index, fills)
        _mark(account, positions, prices, row)
        equity[row] = account.equity
        account.invested += 1.0 - account.cash / account.equity
        promised.cash, capital = account.cash, account.equity / len(positions)
        for index in range(len(positions)):
            action, position = _NOBODY, positions[index]
            if prices[row, index, OPEN] > 0.0:
                market, target = markets[index], targets[row, index]
                action = _decide(market, promised, position, capital, target, dead_band, most, row)
            if row < len(exposure):
                exposure[row, index] = position.quantity * position.mark / account.equity
                actions[row, index] = action
        account.is_inexact |= promised.is_inexact
        if account.is_inexact:
            return  # steps that floats do not tell apart could be searched for ever


@compiled
def _mark(account: Record, positions: Records, prices: Floats, row: int) -> None:
    equity = account.cash
    for index in range(len(positions)):
        position = positions[index]
        if prices[row, index, OPEN] > 0.0:
            position.mark = prices[row, index, CLOSE]
        equity += position.quantity * position.mark
    account.equity = equity


# ---- from a target to an order ----------------------------------------------------------------------------------
@compiled
def _decide(  # noqa: PLR0917 - compiled code takes its arguments by position
    market: Record,
    promised: Record,
    position: Record,
    capital: float,
    target: float,
    dead_band: float,
    most: float,
    row: int,
) -> int:
    """Send the order that a target asks for, if any; returns what was asked, an ActionKind, or that nobody asked."""
    exposure = position.quantity * position.mark / capital
    action, wanted = _NOBODY, exposure
    if not np.isnan(target):
        action, wanted = _wanted(exposure, target, dead_band, most)
    order = 0.0
    if position.quantity > 0.0 and exposure > most and wanted >= most:
        order = -_to_sell(market, promised, position, capital, exposure, most)
    elif wanted < exposure:
        order = -_to_sell(market, promised, position, capital, exposure, wanted)
    elif wanted > exposure:
        order = _to_buy(market, promised, position, capital, exposure, wanted)
    position.order, position.reference, position.decided = order, position.mark, row
    return action


@compiled
def _wanted(exposure: float, target: float, dead_band: float, most: float) -> tuple[int, float]:
    """Return what is asked and the exposure that is wanted, as `strategy.decision.decide` has it."""
    if target > exposure:
        target = min(target, most)
        return (_HOLD, exposure) if target - exposure < dead_band else (_BUY, target)
    if target < dead_band:
        target = 0.0
    if exposure <= 0.0 or 0.0 < target > exposure - dead_band:
        return _HOLD, exposure
    return (_SELL, target) if target < exposure else (_HOLD, exposure)


@compiled
def _to_sell(  # noqa: PLR0917 - compiled code takes its arguments by position
    market: Record, promised: Record, position: Record, capital: float, exposure: float, target: float
) -> float:
    held, mark = position.quantity, position.mark
    excess = (exposure - target) * capital / mark if target > 0.0 else held
    smallest = ceil_quantity(market, promised, market.min_notional / mark)
    quantity = min(held, max(ceil_quantity(market, promised, excess), smallest))
    if (held - quantity) * mark < market.min_notional:
        quantity = held
    return 0.0 if quantity * mark < market.min_notional else quantity


@compiled
def _to_buy(  # noqa: PLR0917 - compiled code takes its arguments by position
    market: Record, promised: Record, position: Record, capital: float, exposure: float, target: float
) -> float:
    mark = position.mark
    quantity = floor_quantity(market, promised, (target - exposure) * capital / mark)
    price = buying_price(market, promised, mark)
    quantity = least_of_affordable(market, promised, quantity, price)
    if quantity <= 0.0 or quantity * mark < market.min_notional:
        return 0.0
    promised.cash -= quantity * price + quantity * price * promised.fee_rate
    return quantity


# ---- from an order to a fill ------------------------------------------------------------------------------------
@compiled
def _fill(  # noqa: PLR0917 - compiled code takes its arguments by position
    market: Record, account: Record, position: Record, prices: Floats, row: int, index: int, fills: Floats
) -> None:
    """Let the order on its way meet the open; what finds no volume, no cash or nothing held expires."""
    opened, volume = prices[row, index, OPEN], prices[row, index, VOLUME]
    sign = -1.0 if position.order < 0.0 else 1.0
    quantity = least_of_volume(market, account, abs(position.order), volume)
    position.order = 0.0
    if sign < 0.0:
        price = selling_price(market, account, opened)
        quantity = min(quantity, position.quantity)
    else:
        price = buying_price(market, account, opened)
        quantity = least_of_affordable(market, account, quantity, price)
    if quantity <= 0.0:
        return
    notional = quantity * price
    fee = notional * account.fee_rate
    position.quantity = sum_of_lots(market, account, position.quantity, sign * quantity)
    account.cash -= notional * sign + fee
    account.fees += fee
    account.slippage += (price - position.reference) * sign * quantity
    account.traded += notional
    if account.n_fills < len(fills):
        note = fills[account.n_fills]
        note[ROW], note[SYMBOL], note[QUANTITY], note[PRICE] = row, index, sign * quantity, price
        note[FEE], note[REFERENCE], note[DECIDED] = fee, position.reference, position.decided
    account.n_fills += 1
