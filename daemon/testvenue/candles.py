"""Candles of one market, made from its trades, or given; larger timeframes are put together on request."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from daemon.testvenue.orders import ZERO


@dataclass(slots=True)
class Row:
    """One candle: prices quote per base, volume base, value quote, trades counted."""

    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal = ZERO
    value: Decimal = ZERO
    trades: int = 0

    def add(self, price: Decimal, quantity: Decimal) -> None:
        """Take in one trade."""
        self.high, self.low, self.close = max(self.high, price), min(self.low, price), price
        self.volume += quantity
        self.value += price * quantity
        self.trades += 1

    def copy(self) -> "Row":
        """Return another one like it."""
        return Row(self.open, self.high, self.low, self.close, self.volume, self.value, self.trades)

    def join(self, later: "Row") -> None:
        """Take in the candle that follows."""
        self.high, self.low, self.close = max(self.high, later.high), min(self.low, later.low), later.close
        self.volume += later.volume
        self.value += later.value
        self.trades += later.trades


class CandleSeries:
    """Candles by open time, in ms, oldest first; the newest is forming."""

    def __init__(self, span_ms: int) -> None:
        self.span_ms = span_ms
        self.rows: dict[int, Row] = {}

    @property
    def newest_ms(self) -> int | None:
        """Open time of the candle that is forming."""
        return next(reversed(self.rows), None)

    def roll(self, now_ms: int) -> list[int]:
        """Begin the candle of `now_ms`, flat ones for what was passed over; return the open times that are final."""
        newest = self.newest_ms
        if newest is None:
            return []
        closed = []
        while newest + self.span_ms <= now_ms:
            close = self.rows[newest].close
            closed.append(newest)
            newest += self.span_ms
            self.rows[newest] = Row(close, close, close, close)
        return closed

    def add(self, price: Decimal, quantity: Decimal, at_ms: int) -> None:
        """Take in a trade; call `roll` first. A trade older than the forming candle counts to that one."""
        newest = self.newest_ms
        if newest is None:
            self.rows[at_ms // self.span_ms * self.span_ms] = row = Row(price, price, price, price)
        else:
            row = self.rows[newest]
            if not row.trades:  # so far it only carries on the last close
                row.open = row.high = row.low = price
        row.add(price, quantity)

    def put(self, open_ms: int, row: Row) -> None:
        """Set the candle of `open_ms`; times only go on. Raises ValueError."""
        newest = self.newest_ms
        if open_ms % self.span_ms or (newest is not None and open_ms < newest):
            raise ValueError(f"candle at {open_ms} is off the grid of {self.span_ms} ms or older than {newest}")
        self.rows[open_ms] = row

    def at(self, span_ms: int, open_ms: int) -> Row | None:
        """Return one candle of a timeframe that is a multiple of ours, None when there is none."""
        if span_ms == self.span_ms:
            return self.rows.get(open_ms)
        whole: Row | None = None
        for start in range(open_ms, open_ms + span_ms, self.span_ms):
            row = self.rows.get(start)
            if row is not None and whole is None:
                whole = row.copy()
            elif row is not None and whole is not None:
                whole.join(row)
        return whole

    def of_span(self, span_ms: int) -> Iterator[tuple[int, Row]]:
        """Yield the candles of a timeframe that is a multiple of ours. Raises ValueError for another one."""
        if span_ms % self.span_ms:
            raise ValueError(f"no candles of {span_ms} ms from candles of {self.span_ms} ms")
        whole: tuple[int, Row] | None = None
        for open_ms, row in self.rows.items():
            start = open_ms // span_ms * span_ms
            if whole is not None and whole[0] == start:
                whole[1].join(row)
                continue
            if whole is not None:
                yield whole
            whole = (start, row.copy())
        if whole is not None:
            yield whole
