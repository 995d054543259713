"""Round trips: what an account made of each position, from nothing held to nothing held again.

Profit is what the sales brought less what the purchases took, fees of both included. From flat to flat that is the same
under average cost, first in first out or any other way to match purchases with sales: how much was held in between, and
in how many steps it was bought and sold, changes only which sale shows it.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

from strategy.order import Fill, Side
from training.errors import TrainingError

_DAY_MS = 86_400_000
_DUST = 1e-12
"""What adding and taking float64 quantities may leave of the most that was held: less than that is nothing."""
_Z = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundTrip:
    """A position that was opened and closed again. opened_ms, closed_ms: of its first and last fill.

    paid: quote, of all its purchases, their fees included.  profit: quote, after the fees of both sides.
    """

    symbol: str
    opened_ms: int
    closed_ms: int
    paid: float
    profit: float

    @property
    def profit_share(self) -> float:
        """Profit as a share of what was paid."""
        return self.profit / self.paid

    @property
    def days(self) -> float:
        """How long something was held."""
        return (self.closed_ms - self.opened_ms) / _DAY_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenPosition:
    """A position that is not closed yet.

    quantity: base, held now.  most: base, the largest it ever was.  paid, received: quote, for all its purchases, fees
    included, and from all its sales so far, fees taken off.  at_ms: of its latest fill.
    """

    symbol: str
    opened_ms: int
    at_ms: int
    quantity: float = 0.0
    most: float = 0.0
    paid: float = 0.0
    received: float = 0.0

    def profit(self, price: float) -> float:
        """Return what it has earned if what is held is worth `price` (quote per base); selling it would cost more."""
        return self.received - self.paid + self.quantity * price


def round_trips(fills: Iterable[Fill]) -> tuple[tuple[RoundTrip, ...], tuple[OpenPosition, ...]]:
    """Return the closed round trips in the order of their ends, and the positions still open, by symbol.

    fills: in the order of time, of any symbols.  A remainder of 1e-12 of the most that was held counts as nothing; a
    venue's remainder below one lot does not, and keeps its position open.
    Raises TrainingError for a fill that sells more than is held or that is older than the one before it.
    """
    closed: list[RoundTrip] = []
    still_open: dict[str, OpenPosition] = {}
    for fill in fills:
        held = still_open.pop(fill.symbol, None) or OpenPosition(
            symbol=fill.symbol, opened_ms=fill.at_ms, at_ms=fill.at_ms
        )
        changed = _traded(held, fill)
        if changed.quantity > _DUST * changed.most:
            still_open[fill.symbol] = changed
        else:
            closed.append(_closed(changed))
    return tuple(closed), tuple(still_open[symbol] for symbol in sorted(still_open))


def _traded(held: OpenPosition, fill: Fill) -> OpenPosition:
    """Return the position after a fill. A fee in base leaves the position and takes no quote."""
    if fill.at_ms < held.at_ms:
        raise TrainingError(
            f"fill {fill.fill_id} of {fill.symbol} at {fill.at_ms} ms comes after one at {held.at_ms} ms: fills must "
            "stand in the order of time"
        )
    fee = fill.fee if fill.fee_base == 0.0 else 0.0
    if fill.side is Side.BUY:
        quantity = held.quantity + fill.quantity - fill.fee_base
        paid = held.paid + fill.notional + fee
        return replace(held, at_ms=fill.at_ms, quantity=quantity, most=max(held.most, quantity), paid=paid)
    quantity = held.quantity - fill.quantity - fill.fee_base
    if quantity < -_DUST * held.most:
        raise TrainingError(
            f"fill {fill.fill_id} sells {fill.quantity} {fill.symbol} where {held.quantity} is held: a spot account "
            "cannot; give the fills from its beginning on"
        )
    return replace(held, at_ms=fill.at_ms, quantity=quantity, received=held.received + fill.notional - fee)


def _closed(flat: OpenPosition) -> RoundTrip:
    return RoundTrip(
        symbol=flat.symbol,
        opened_ms=flat.opened_ms,
        closed_ms=flat.at_ms,
        paid=flat.paid,
        profit=flat.received - flat.paid,
    )


def wilson_interval(wins: int, count: int) -> tuple[float | None, float | None]:
    """Return the 95 % interval (low, high) of a share of `wins` among `count`; (None, None) when count is 0.

    Source: Wilson (1927), J. American Statistical Association 22(158), 209-212, without continuity correction.
    """
    if count == 0:
        return None, None
    share, square = wins / count, _Z * _Z / count
    middle = share + square / 2.0
    half = math.sqrt(square * (share * (1.0 - share) + square / 4.0))
    # At a share of 0 or 1 the nearer bound is the share itself, but for rounding.
    low, high = (middle - half) / (1.0 + square), (middle + half) / (1.0 + square)
    return max(0.0, low), min(1.0, max(high, share))


def trade_figures(closed: Sequence[RoundTrip]) -> dict[str, Any]:
    """Return what closed round trips say of a trader: the fields of `Metrics` from round_trips to holding_days.

    A round trip without profit or loss is neither a win nor a loss, but counts.  None: not defined.
    """
    count, profits = len(closed), [trip.profit for trip in closed]
    gains, losses = [p for p in profits if p > 0.0], [-p for p in profits if p < 0.0]
    gained, lost = math.fsum(gains), math.fsum(losses)
    low, high = wilson_interval(len(gains), count)
    return {
        "round_trips": count,
        "wins": len(gains),
        "losses": len(losses),
        "win_rate": len(gains) / count if count else None,
        "win_rate_low": low,
        "win_rate_high": high,
        "profit_factor": gained / lost if losses else None,
        "payoff": (gained / len(gains)) / (lost / len(losses)) if gains and losses else None,
        "expectancy": math.fsum(trip.profit_share for trip in closed) / count if count else None,
        "holding_days": math.fsum(trip.days for trip in closed) / count if count else None,
    }
