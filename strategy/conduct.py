"""Whether an ensemble still answers the market: what no honest policy does, however long a trend lasts.

Three things are faults: it gives no votes; every direction is at the end of its range on every symbol, for long; no
number of any vote moves at all on any symbol, for long, while prices do. To say BUY, SELL or HOLD for months is none:
an ensemble that says so still changes its numbers with what it sees. On five years of recorded candles of four symbols,
the one that ships never gave the same votes three times in a row, nor was every member once at the end of its range.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from strategy.errors import BadState
from strategy.stored import read_record
from strategy.trader import Votes

SATURATED = 0.99
"""A direction beyond this, either way, is at the end of its range -1 .. 1."""
SPREAD = 1e-6
"""Numbers that stay within this are constant: about ten steps of float32 at 1."""
STREAK = 24
"""Due decisions in a row that make a fault."""
MOVED = 0.01
"""Highest over lowest close less 1 from which on a market has moved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Streak:
    """Due decisions in a row on one symbol.

    saturated: on which every direction was at the end of its range.  constant: on which every number of the votes lay
    within SPREAD.  lows, highs: of these numbers over `constant`, member by member.  low, high: of the closes.
    """

    saturated: int
    constant: int
    lows: tuple[float, ...]
    highs: tuple[float, ...]
    low: float
    high: float

    @property
    def moved(self) -> float:
        """How far prices went while the votes were constant, as a share."""
        return self.high / self.low - 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Conduct:
    """How one ensemble has voted. streaks: by symbol.  missing: symbols that it gave no votes for when last asked."""

    streaks: Mapping[str, Streak] = field(default_factory=dict)
    missing: tuple[str, ...] = ()

    def after(self, votes: Mapping[str, Votes | None], closes: Mapping[str, float]) -> "Conduct":
        """Return the conduct after one more due decision.

        votes: (n_members, 3) by symbol that the ensemble was asked for, None where it failed; symbols whose window is
        not full are left out.  closes: of at least these symbols, quote per base, > 0.  Votes that are not finite are
        none.
        """
        streaks, missing = dict(self.streaks), []
        for symbol, rows in votes.items():
            numbers = () if rows is None else tuple(rows.ravel().tolist())
            if numbers and all(map(math.isfinite, numbers)):
                streaks[symbol] = _next(streaks.get(symbol), numbers, closes[symbol])
            else:
                missing.append(symbol)
        return Conduct(streaks=streaks, missing=tuple(missing))

    @property
    def fault(self) -> str:
        """What is wrong with it, in words; "" for nothing."""
        if self.missing:
            return f"no votes for {', '.join(self.missing)}"
        streaks = self.streaks.values()
        if streaks and all(streak.saturated >= STREAK for streak in streaks):
            return f"every direction beyond {SATURATED} on every symbol, {STREAK} decisions in a row"
        if streaks and all(streak.constant >= STREAK for streak in streaks):
            symbol, moved = max(((s, streak.moved) for s, streak in self.streaks.items()), key=lambda pair: pair[1])
            if moved >= MOVED:
                return f"the same votes {STREAK} decisions in a row while {symbol} moved by {moved:.1%}"
        return ""

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON types, from which `from_json` makes the same."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Conduct":
        """Return the conduct stored as `values`. Raises BadState when it was stored by something else."""
        try:
            streaks = {symbol: _read(stored) for symbol, stored in values["streaks"].items()}
            return read_record(cls, values, streaks=streaks, missing=tuple(values["missing"]))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise BadState(f"stored Conduct cannot be read: {error}") from error


def _next(streak: Streak | None, numbers: tuple[float, ...], close: float) -> Streak:
    is_saturated = all(abs(direction) > SATURATED for direction in numbers[::3])
    saturated = (0 if streak is None else streak.saturated) + 1 if is_saturated else 0
    if streak is not None and len(streak.lows) == len(numbers):
        lows, highs = tuple(map(min, streak.lows, numbers)), tuple(map(max, streak.highs, numbers))
        if all(high - low < SPREAD for low, high in zip(lows, highs, strict=True)):
            return Streak(
                saturated=saturated,
                constant=streak.constant + 1,
                lows=lows,
                highs=highs,
                low=min(streak.low, close),
                high=max(streak.high, close),
            )
    return Streak(saturated=saturated, constant=1, lows=numbers, highs=numbers, low=close, high=close)


def _read(values: Mapping[str, Any]) -> Streak:
    bounds = {name: tuple(map(float, values[name])) for name in ("lows", "highs")}
    streak = read_record(Streak, values, **bounds)
    numbers = [*streak.lows, *streak.highs]
    if (
        len(streak.lows) != len(streak.highs)
        or not all(map(math.isfinite, numbers))
        or not 0.0 < streak.low <= streak.high
    ):
        raise BadState(f"stored Streak contradicts itself: {streak}")
    return streak
