"""When a candle of a live venue counts as final, and which final candles are handed on together.

Pure: rows and numbers in, values out. Never asks a venue and never reads a clock; `feed_ccxt.py` does both.
A candle is final when the venue shows a later one. What a local clock says never makes a candle final.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeGuard

from daemon.ports import Gap, LateCandle
from strategy.candle import Candle
from strategy.errors import InvalidCandle

Row = Sequence[float | int | None]
"""Open time in ms, open, high, low, close, volume, as ccxt gives it: nothing in it is checked."""

REMEMBERED = 16
"""Final candles of which a later copy is still noticed."""
JUMP = 0.5
"""A price that moves by this share at once is not believed before something else confirms it."""


def is_jump(price: float, before: float) -> bool:
    """Return whether `price` lies so far from the one `before` it that it needs a second witness."""
    return abs(price / before - 1.0) > JUMP


def opens_at(row: Row, span_ms: int) -> int | None:
    """Return the open time of a row, or None when it has none on the grid of the timeframe, or too few fields."""
    value = row[0] if len(row) > 5 else None  # noqa: PLR2004  # time and five numbers
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if value != value or value <= 0 or value % span_ms or value >= 2**53:  # noqa: PLR0124 - NaN is not itself
        return None
    return int(value)


def is_positive(value: object) -> TypeGuard[float]:
    """Return whether `value` is a finite number above zero."""
    return isinstance(value, int | float) and 0.0 < value < math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Final:
    """A final candle, with the hole that lies directly before it, if any."""

    candle: Candle
    gap: Gap | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What one answer of the venue settled.

    finals: in time order, each candle once over the life of the ledger.  late: copies that differ from what was
    final.  faults: in words, candles the venue confirmed and that still cannot be trusted.
    doubt: what has to be asked again before anything later is believed; None when the answer was plain.
    """

    finals: tuple[Final, ...] = ()
    late: tuple[LateCandle, ...] = ()
    faults: tuple[str, ...] = ()
    doubt: str | None = None


@dataclass(slots=True, kw_only=True)
class CandleLedger:
    """The final candles of one symbol, as far as known: takes the venue's answers, gives each candle once.

    last: the last candle already known, so that only later ones are given.
    edge_ms: open time of the newest candle the venue has shown, which is still forming; None before any answer.
    since_ms: where to begin when nothing is known.
    """

    symbol: str
    span_ms: int
    last: Candle | None = None
    edge_ms: int | None = field(default=None, init=False)
    since_ms: int | None = field(default=None, init=False)
    next_ms: int | None = field(default=None, init=False)
    _hole_ms: int | None = field(default=None, init=False)
    _known: dict[int, Candle] = field(default_factory=dict, init=False)
    _told: dict[int, Candle] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        if self.last is not None:
            self._remember(self.last)
            self.next_ms = self.last.close_ms

    @property
    def wanted_ms(self) -> int | None:
        """Open time of the candle wanted next; None when any will do."""
        return self.since_ms if self.next_ms is None else self.next_ms

    def settle(self, rows: Iterable[Row], *, venue_now_ms: int | None = None, price: float | None = None) -> Settled:
        """Return what `rows`, in any order and with repeats, make final.

        venue_now_ms: the venue's time; give it only with a second answer to the same question. Only then are holes
        and broken candles believed, because a venue's replicas lag, and a row from the far future would otherwise
        make a forming candle look final. Rows that open after it are dropped.
        price: what the market trades at now, also only with a second answer: a newest candle that closes far from the
        one before it is believed when the market has gone there too, or when the venue does not tell (None). Older
        ones are not compared: of the past the market says nothing.
        """
        table = self._table(rows, venue_now_ms)
        times = sorted(table)
        finals: list[Final] = []
        faults: list[str] = []
        doubt = None
        for open_ms, later_ms in pairwise(times):
            if self.next_ms is not None and open_ms < self.next_ms:
                continue
            doubt, reading = self._weigh(table[open_ms], open_ms, later_ms, confirmed=venue_now_ms is not None)
            if doubt is None and later_ms == times[-1]:
                doubt, reading = self._compare(reading, price, confirmed=venue_now_ms is not None)
            if doubt is not None:
                break
            if isinstance(reading, str):
                faults.append(reading)
                self._pass_over(open_ms)
            elif reading is not None:
                finals.append(self._accept(reading))
        self._move_edge(times, doubt)
        return Settled(finals=tuple(finals), late=self._late(table), faults=tuple(faults), doubt=doubt)

    def has(self, row: Row) -> bool:
        """Return whether `row` only repeats a final candle."""
        open_ms = opens_at(row, self.span_ms)
        known = None if open_ms is None else self._known.get(open_ms)
        return known is not None and self._read(row, known.open_ms) == known

    def _table(self, rows: Iterable[Row], venue_now_ms: int | None) -> dict[int, Row]:
        table: dict[int, Row] = {}
        for row in rows:
            open_ms = opens_at(row, self.span_ms)
            if open_ms is not None and (venue_now_ms is None or open_ms <= venue_now_ms):
                table[open_ms] = row
        return table

    def _weigh(
        self, row: Row, open_ms: int, later_ms: int, *, confirmed: bool
    ) -> tuple[str | None, Candle | str | None]:
        # Returns (doubt, candle or fault). The order matters: a hole before or behind makes the finality itself
        # doubtful, a broken row only its own value.
        if not confirmed:
            if self.next_ms is not None and open_ms != self.next_ms:
                return f"{self.symbol}: candles missing from {self.next_ms} to {open_ms}", None
            if later_ms != open_ms + self.span_ms:
                return f"{self.symbol}: candles missing from {open_ms + self.span_ms} to {later_ms}", None
        reading = self._read(row, open_ms)
        if isinstance(reading, str) and not confirmed:
            return reading, None
        return None, reading

    def _read(self, row: Row, open_ms: int) -> Candle | str:
        try:
            prices = [float(value) for value in row[1:6]]  # type: ignore[arg-type]  # None is caught below
            opened, high, low, close, volume = prices
            return Candle(
                symbol=self.symbol, open_ms=open_ms, span_ms=self.span_ms,
                open=opened, high=high, low=low, close=close, volume=volume,
            )  # fmt: skip
        except InvalidCandle as error:
            return str(error)
        except (TypeError, ValueError):
            return f"{self.symbol} candle at {open_ms}: not five numbers: {list(row[1:6])}"

    def _compare(
        self, reading: Candle | str | None, price: float | None, *, confirmed: bool
    ) -> tuple[str | None, Candle | str | None]:
        """Return (doubt, candle or fault) for the newest closed candle, held against the one before it."""
        if not isinstance(reading, Candle) or not self._known:
            return None, reading
        close, before = reading.close, next(reversed(self._known.values())).close
        if not is_jump(close, before) or (confirmed and price is None):
            return None, reading
        words = f"{self.symbol} candle at {reading.open_ms}: closes at {close:g}, the one before it at {before:g}"
        if price is None:
            return words, None
        is_there = abs(math.log(price / close)) < abs(math.log(price / before))
        return None, reading if is_there else f"{words}, and the market trades at {price:g}"

    def _accept(self, candle: Candle) -> Final:
        expected_ms = self._hole_ms if self._hole_ms is not None else self.next_ms
        gap = None
        if expected_ms is not None and candle.open_ms > expected_ms:
            missing = (candle.open_ms - expected_ms) // self.span_ms
            gap = Gap(symbol=self.symbol, first_ms=expected_ms, missing=missing)
        self._hole_ms = None
        self._remember(candle)
        self.next_ms = candle.close_ms
        return Final(candle=candle, gap=gap)

    def _pass_over(self, open_ms: int) -> None:
        # A candle that cannot be trusted is treated as one the venue does not have: waiting for it for ever would
        # also keep every later candle, and with it the stops, from working.
        if self._hole_ms is None:
            self._hole_ms = self.next_ms
        self.next_ms = open_ms + self.span_ms

    def _move_edge(self, times: Sequence[int], doubt: str | None) -> None:
        if doubt is None and times and (self.edge_ms is None or times[-1] > self.edge_ms):
            self.edge_ms = times[-1]

    def _late(self, table: dict[int, Row]) -> tuple[LateCandle, ...]:
        found = []
        for open_ms in sorted(table.keys() & self._known.keys()):
            known, copy = self._known[open_ms], self._read(table[open_ms], open_ms)
            if isinstance(copy, Candle) and copy not in (known, self._told.get(open_ms)):
                self._told[open_ms] = copy
                found.append(LateCandle(candle=copy, known=known))
        return tuple(found)

    def _remember(self, candle: Candle) -> None:
        self._known[candle.open_ms] = candle
        while len(self._known) > REMEMBERED:
            oldest = next(iter(self._known))
            del self._known[oldest]
            self._told.pop(oldest, None)


@dataclass(slots=True, kw_only=True)
class _Waiting:
    since_s: float
    finals: dict[str, Final] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Grouper:
    """Puts candles of one open time together, in the order of `symbols`, whatever the order of arrival.

    A group is complete when every symbol has delivered that time or a later one. It goes out incomplete once it
    has waited `grace_s` seconds; what arrives after that goes out alone.
    """

    symbols: Sequence[str]
    grace_s: float
    _newest: dict[str, int] = field(default_factory=dict, init=False)
    _waiting: dict[int, _Waiting] = field(default_factory=dict, init=False)
    _released_ms: int = field(default=-1, init=False)

    def reached(self, symbol: str, open_ms: int) -> None:
        """Take note that `symbol` will deliver nothing at or before `open_ms` any more."""
        self._newest[symbol] = max(open_ms, self._newest.get(symbol, -1))

    def add(self, final: Final, now_s: float) -> None:
        """Take a final candle; now_s: monotonic seconds."""
        candle = final.candle
        self.reached(candle.symbol, candle.open_ms)
        self._waiting.setdefault(candle.open_ms, _Waiting(since_s=now_s)).finals[candle.symbol] = final

    def take(self, now_s: float, before_ms: int | None = None) -> list[tuple[Final, ...]]:
        """Return the groups that may go out now, in time order; with `before_ms`, all that open earlier than it."""
        ready = []
        for open_ms in sorted(self._waiting):
            if not self._may_go(open_ms, now_s, before_ms):
                break
            finals = self._waiting.pop(open_ms).finals
            ready.append(tuple(finals[symbol] for symbol in self.symbols if symbol in finals))
            self._released_ms = max(self._released_ms, open_ms)
        return ready

    def _may_go(self, open_ms: int, now_s: float, before_ms: int | None) -> bool:
        if before_ms is not None:
            return open_ms < before_ms
        return (
            open_ms <= self._released_ms
            or all(self._newest.get(symbol, -1) >= open_ms for symbol in self.symbols)
            or now_s >= self._waiting[open_ms].since_s + self.grace_s
        )

    def deadline_s(self) -> float | None:
        """Return when the oldest waiting group has waited long enough (monotonic seconds), None when none waits."""
        return min((group.since_s + self.grace_s for group in self._waiting.values()), default=None)
