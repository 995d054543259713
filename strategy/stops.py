"""The adaptive stop: a fixed share below the entry, or some average ranges below the high, whichever is nearer."""

from strategy.parameters import RiskLimits
from strategy.portfolio import Position

NEAREST_STOP = 0.005
"""An adaptive stop is never nearer to the high than this share: noise of one candle would hit it."""


def stop_price(limits: RiskLimits, position: Position, average_range: float | None, current: float | None) -> float:
    """Return the price at which a held position is sold (quote per base, > 0); it never falls while it is held.

    average_range: mean true range as a share of the price, None while the window is not full.  current: the stop so
    far, None for a new position.
    """
    price = position.average_entry * (1.0 - limits.stop_loss)
    if limits.stop_atr_multiple > 0.0 and average_range is not None:
        distance = max(limits.stop_atr_multiple * average_range, NEAREST_STOP)
        price = max(price, position.high * (1.0 - distance))
    return price if current is None else max(price, current)
