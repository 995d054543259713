"""What moves the prices when no script does: recorded candles, or a seeded walk; paced by the clock."""

import csv
import gzip
import math
import random
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

from daemon.errors import DataError
from daemon.testvenue.candles import Row
from daemon.testvenue.script import exact
from daemon.testvenue.server import TestVenue

POINTS = 4
"""Trades that a recorded candle is played in: open, the two extremes, close."""

Recorded = tuple[int, Row]


def read_candles(path: Path) -> list[Recorded]:
    """Return the candles of a CSV file, plain or gzipped: timestamp_ms, open, high, low, close, volume.

    Raises DataError naming file, line and remedy.
    """
    rows: list[Recorded] = []
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
            for number, line in enumerate(csv.DictReader(file), start=2):
                rows.append(_read_row(line, path, number))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"candles {path}: {error}; give a CSV file, plain or gzipped") from None
    if not rows:
        raise DataError(f"candles {path}: no rows; give a file with at least one candle")
    return rows


def _read_row(line: dict[str, str], path: Path, number: int) -> Recorded:
    try:
        opened, high, low, close, volume = (exact(line[name]) for name in ("open", "high", "low", "close", "volume"))
        return int(line["timestamp_ms"]), Row(opened, high, low, close, volume, volume * close, POINTS)
    except (KeyError, TypeError, ValueError):
        raise DataError(
            f"candles {path}, line {number}: {dict(line)} is not timestamp_ms,open,high,low,close,volume"
        ) from None


def path_of(row: Row) -> list[Decimal]:
    """Return the prices a recorded candle is played in: the extreme that lies against its direction comes first."""
    middle = [row.low, row.high] if row.close >= row.open else [row.high, row.low]
    return [row.open, *middle, row.close]


class CandlePlayer:
    """Plays recorded candles into one market, `POINTS` trades each. rows: with their open times in ms."""

    def __init__(self, venue: TestVenue, symbol: str, rows: Sequence[Recorded]) -> None:
        self._venue = venue
        self._market = venue.market(symbol)
        self._span_ms = self._market.state.span_ms
        self._rows = rows
        self._next = 0

    def begin(self, history: int) -> None:
        """Give the market the first `history` candles as its past."""
        self._next = min(history, len(self._rows) - 1)
        self._market.history(_plain(open_ms, row) for open_ms, row in self._rows[: self._next])

    def begin_now(self, history: int) -> None:
        """Do the same, with all times moved on so that the next candle opens now."""
        now = self._venue.time.now_ms() // self._span_ms * self._span_ms
        first = min(history, len(self._rows) - 1)
        past = self._rows[:first]
        self._market.history(_plain(now + (index - first) * self._span_ms, row) for index, (_, row) in enumerate(past))
        self._next = first

    @property
    def is_over(self) -> bool:
        """True when every candle has been played."""
        return self._next >= len(self._rows)

    def open_ms(self) -> int:
        """Return when the next candle opened, as recorded."""
        return self._rows[self._next][0]

    def point(self, index: int) -> None:
        """Make the trade number `index` (0 .. POINTS - 1) of the next candle; the last one moves on."""
        _, row = self._rows[self._next]
        self._market.trade(path_of(row)[index], row.volume / POINTS)
        if index == POINTS - 1:
            self._next += 1

    def step(self) -> None:
        """Play one whole candle with the venue's time pinned to its own."""
        open_ms = self.open_ms()
        for index in range(POINTS):
            self._venue.time.pinned_ms = open_ms + index * self._span_ms // POINTS
            self.point(index)


class WalkPlayer:
    """A random market: one trade a second. generator: seeded.  move: size of a candle's moves, share of the price."""

    def __init__(self, venue: TestVenue, symbol: str, generator: random.Random, *, move: float = 0.01) -> None:
        self._venue = venue
        self._market = venue.market(symbol)
        self._generator = generator
        self._move = move

    def begin_now(self, history: int, start: float) -> None:
        """Give the market `history` candles that end now, walking from a price of `start`."""
        state = self._market.state
        span_ms, tick = state.span_ms, state.rules.tick
        now = self._venue.time.now_ms() // span_ms * span_ms
        rows: list[tuple[int, Decimal, Decimal, Decimal, Decimal, float]] = []
        price = start
        for index in range(history):
            close = price * (1.0 + self._generator.uniform(-self._move, self._move))
            high = max(price, close) * (1.0 + self._generator.uniform(0.0, self._move / 2))
            low = min(price, close) * (1.0 - self._generator.uniform(0.0, self._move / 2))
            volume = round(self._generator.uniform(1.0, 50.0), 3)
            first, top, bottom, last = (_on_tick(value, tick) for value in (price, high, low, close))
            rows.append((now + (index - history) * span_ms, first, top, bottom, last, volume))
            price = close
        self._market.history(rows)

    def second(self) -> None:
        """Make one trade."""
        state = self._market.state
        size = self._move / math.sqrt(state.span_ms / 1e3)
        price = _on_tick(float(state.last) * (1.0 + self._generator.uniform(-size, size)), state.rules.tick)
        self._market.trade(max(price, state.rules.tick), round(self._generator.uniform(0.01, 1.0), 5))


def _plain(open_ms: int, row: Row) -> tuple[int, Decimal, Decimal, Decimal, Decimal, Decimal]:
    return open_ms, row.open, row.high, row.low, row.close, row.volume


def _on_tick(price: float, tick: Decimal) -> Decimal:
    return (Decimal(repr(price)) / tick).to_integral_value() * tick
