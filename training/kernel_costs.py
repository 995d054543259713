"""What a trade costs: strategy/costs.py and the rounding of strategy/instrument.py, compiled.

The order of operations is theirs: a change there that is not made here shows in tests/training/test_kernel.py.
"""

from training.compiled import compiled
from training.kernel_records import Record
from training.kernel_rounding import EXACT, grid_above, grid_below, grid_point, steps_of


@compiled
def floor_price(market: Record, price: float) -> float:
    """Return the highest price on the tick grid that is not above `price`."""
    return grid_below(price, market.tick_digits, market.tick_scale)


@compiled
def buying_price(market: Record, account: Record, reference: float) -> float:
    """Return the price at which a market order to buy fills."""
    return grid_above(reference * (1.0 + account.slippage_rate), market.tick_digits, market.tick_scale)


@compiled
def selling_price(market: Record, account: Record, reference: float) -> float:
    """Return the price at which an order to sell fills."""
    worse = floor_price(market, reference * (1.0 - account.slippage_rate))
    return worse if worse > 0.0 else market.tick


@compiled
def floor_quantity(market: Record, account: Record, quantity: float) -> float:
    """Return the largest multiple of the lot that is not above `quantity` (>= 0)."""
    point = grid_below(quantity, market.lot_digits, market.lot_scale)
    _watch(market, account, point)
    return point


@compiled
def ceil_quantity(market: Record, account: Record, quantity: float) -> float:
    """Return the smallest multiple of the lot that is not below `quantity` (>= 0)."""
    point = grid_above(quantity, market.lot_digits, market.lot_scale)
    _watch(market, account, point)
    return point


@compiled
def sum_of_lots(market: Record, account: Record, held: float, change: float) -> float:
    """Return the sum of two quantities on the lot grid, without what float64 additions leave behind."""
    digits, scale = market.lot_digits, market.lot_scale
    total = grid_point(steps_of(held, digits, scale) + steps_of(change, digits, scale), digits, scale)
    _watch(market, account, total)
    return total


@compiled
def least_of_affordable(market: Record, account: Record, quantity: float, price: float) -> float:
    """Return the smaller of `quantity` (on the lot grid) and what the account's cash pays for at `price`."""
    cash = account.cash
    # What is covered needs no search: the largest quantity that is covered is no smaller.
    if quantity * price + quantity * price * account.fee_rate <= cash:
        return quantity
    if cash <= 0.0:
        return 0.0
    digits, scale = market.lot_digits, market.lot_scale
    found = ceil_quantity(market, account, cash / (price * (1.0 + account.fee_rate)))
    steps = steps_of(found, digits, scale)
    while found > 0.0 and found * price + found * price * account.fee_rate > cash:
        steps -= 1.0
        found = grid_point(steps, digits, scale)
    return found


@compiled
def least_of_volume(market: Record, account: Record, quantity: float, volume: float) -> float:
    """Return the smaller of `quantity` (on the lot grid) and the share of `volume` one order may take."""
    share = min(volume, 1e300) * market.participation
    return quantity if quantity <= share else floor_quantity(market, account, share)


@compiled
def _watch(market: Record, account: Record, quantity: float) -> None:
    if quantity * market.lot_scale >= EXACT:
        account.is_inexact = 1
