"""Recorded candles as a feed: the files of some symbols, merged by open time, paced or as fast as possible.

Never decides what a candle means and never fills a gap: what the file lacks is said to be missing.
"""

import asyncio
import heapq
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from daemon.candle_files import read_candles
from daemon.errors import ConfigError, DataError
from daemon.pace import Pace
from daemon.ports import CandleGroup, Clock, FeedEvent, Gap
from strategy.candle import Candle, Timeframe
from strategy.candle_table import CandleTable
from strategy.instrument import Instrument


class _Place(NamedTuple):
    """Where a row stands in the merged stream: by time, then in the configured order of symbols."""

    open_ms: int
    order: int
    candle: Candle
    gap: Gap | None


class FileFeed:
    """Candles from files; implements `daemon.ports.Feed`.

    paths, instruments: one per symbol.  symbols: the fixed order inside a group.
    candles_per_second: candle times per second, 0 for as fast as they are taken.
    start_ms, end_ms: only candles that open in [start_ms, end_ms) are given; None leaves that end open.
    history: so many candles of each symbol that lie before start_ms come first, at once, as backfill; without start_ms
    there is no before.
    Raises ConfigError when a symbol has no path or no instrument, when history is negative or the span is empty.
    """

    is_live = False

    def __init__(
        self,
        *,
        paths: Mapping[str, Path],
        symbols: Sequence[str],
        timeframe: Timeframe,
        instruments: Mapping[str, Instrument],
        candles_per_second: float,
        clock: Clock,
        start_ms: int | None = None,
        end_ms: int | None = None,
        history: int = 0,
    ) -> None:
        for name, known in (("file", paths), ("instrument", instruments)):
            if missing := [symbol for symbol in symbols if symbol not in known]:
                raise ConfigError(f"no {name} is given for {', '.join(missing)}: add one in [market]")
        if start_ms is not None and end_ms is not None and start_ms >= end_ms:
            raise ConfigError(f"start {start_ms} ms is not before end {end_ms} ms: correct the span in [market]")
        if history < 0:
            raise ConfigError(f"history {history} is below 0: give 0 or more in [market]")
        self._paths = paths
        self._symbols = tuple(symbols)
        self._timeframe = timeframe
        self._instruments = instruments
        self._candles_per_second = candles_per_second
        self._clock = clock
        self._span = (start_ms, end_ms)
        self._history = history
        self._tables: dict[str, CandleTable] = {}

    async def instruments(self) -> Mapping[str, Instrument]:
        """Return the given steps per symbol. Reads the files, so that a broken one stops before anything starts."""
        await self._load()
        return {symbol: self._instruments[symbol] for symbol in self._symbols}

    def events(self, resume: Mapping[str, Candle]) -> AsyncIterator[FeedEvent]:
        """Yield the recorded candles after `resume`, a Gap before each candle that follows one; ends with the files.

        A symbol that joins later than the others gets what they have already passed as backfill.
        Raises DataError, already when called, when a candle of `resume` is not the one in the file.
        """
        known = {symbol: resume[symbol] for symbol in self._symbols if symbol in resume}
        for symbol, candle in known.items():
            self._refuse_other_data(symbol, candle)
        return self._groups(known)

    def slowest(self) -> tuple[str, float] | None:
        """Return None: candles that do not come tell it all."""
        return None

    async def close(self) -> None:
        """Let go of the candles."""
        self._tables = {}

    async def _groups(self, known: Mapping[str, Candle]) -> AsyncIterator[FeedEvent]:
        known_ms = max((candle.open_ms for candle in known.values()), default=None)
        pace, at_once = Pace(self._clock, self._candles_per_second), Pace(self._clock, 0.0)
        for open_ms, group in groupby(self._merge(known), key=itemgetter(0)):
            places = tuple(group)
            is_backfill = self._is_history(open_ms) or (known_ms is not None and open_ms <= known_ms)
            await (at_once if is_backfill else pace).step()
            for place in places:
                if place.gap is not None:
                    yield place.gap
            yield CandleGroup(candles=tuple(place.candle for place in places), is_backfill=is_backfill)

    async def _load(self) -> None:
        for symbol in self._symbols:
            if symbol not in self._tables:
                self._tables[symbol] = await asyncio.to_thread(self._read, symbol)

    def _read(self, symbol: str) -> CandleTable:
        path = self._paths[symbol]
        table = read_candles(path, symbol=symbol, timeframe=self._timeframe)
        if not len(table.slice(*self._span)):
            raise DataError(f"{path}: no candle of {symbol} opens in the configured span: correct start or end")
        return table

    def _refuse_other_data(self, symbol: str, known: Candle) -> None:
        table = self._tables[symbol]
        row = table.index_of(known.open_ms)
        if row is None or table.candle(row) != known:
            found = "has no such candle" if row is None else "has other values there"
            raise DataError(
                f"{self._paths[symbol]}: the journal ends with the {symbol} candle of {known.open_ms}, but the file "
                f"{found}: the journal was made with other data; give that file again, or start with a new state "
                "directory"
            )

    def _merge(self, known: Mapping[str, Candle]) -> Iterator[_Place]:
        streams = [self._stream(order, symbol, known.get(symbol)) for order, symbol in enumerate(self._symbols)]
        return heapq.merge(*streams, key=itemgetter(0, 1))

    def _is_history(self, open_ms: int) -> bool:
        start_ms, _ = self._span
        return start_ms is not None and open_ms < start_ms

    def _first_ms(self, symbol: str) -> int | None:
        """Return where the history of `symbol` begins: at start when the file has nothing before it."""
        start_ms, _ = self._span
        if start_ms is None or not self._history:
            return start_ms
        before = self._tables[symbol].slice(None, start_ms).open_ms[-self._history :]
        return int(before[0]) if len(before) else start_ms

    def _stream(self, order: int, symbol: str, known: Candle | None) -> Iterator[_Place]:
        expected_ms = None if known is None else known.close_ms
        first_ms = max((ms for ms in (self._first_ms(symbol), expected_ms) if ms is not None), default=None)
        for candle in self._tables[symbol].slice(first_ms, self._span[1]).candles():
            gap = None
            if expected_ms is not None and candle.open_ms > expected_ms:
                missing = (candle.open_ms - expected_ms) // candle.span_ms
                gap = Gap(symbol=symbol, first_ms=expected_ms, missing=missing)
            expected_ms = candle.close_ms
            yield _Place(candle.open_ms, order, candle, gap)
