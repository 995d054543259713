"""The simulated market as a feed: history at once, then one group of candles per step of the pace, without end.

Owns the order of events and the check that a journal was made with this market; how prices come about is the matter
of `simulated_market.py`.
"""

import heapq
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from itertools import groupby
from operator import attrgetter

from daemon.errors import ConfigError, DataError
from daemon.pace import Pace
from daemon.ports import CandleGroup, Clock, FeedEvent
from daemon.simulated_market import SimulatedSymbol
from strategy.candle import Candle, Timeframe
from strategy.instrument import Instrument


class SimulatedFeed:
    """Candles of a seeded market from 2024-01-01T00:00Z on; implements `daemon.ports.Feed`.

    symbols: the fixed order inside a group.  instruments: one per symbol; prices lie on its tick, volumes on its lot.
    seed: >= 0; the same seed makes the same market.  history: the first so many candles of each symbol come at once,
    as backfill.  candles_per_second: candle times per second after that, 0 for as fast as they are taken.
    The candles depend on seed, symbol, timeframe and instrument, never on pace, history or where a run was resumed.
    Raises ConfigError when a symbol has no instrument or a number is negative.
    """

    is_live = False

    def __init__(
        self,
        *,
        symbols: Sequence[str],
        timeframe: Timeframe,
        instruments: Mapping[str, Instrument],
        seed: int,
        candles_per_second: float,
        history: int,
        clock: Clock,
    ) -> None:
        if missing := [symbol for symbol in symbols if symbol not in instruments]:
            raise ConfigError(f"no instrument is given for {', '.join(missing)}: add one in [market]")
        for name, value in (("seed", seed), ("history", history)):
            if value < 0:
                raise ConfigError(f"{name} {value} is below 0: give 0 or more in [market]")
        self._symbols = tuple(symbols)
        self._instruments = instruments
        self._seed = seed
        self._history = history
        self._candles_per_second = candles_per_second
        self._clock = clock
        self._span_ms = timeframe.span_ms
        self._markets = {
            symbol: SimulatedSymbol(instrument=instruments[symbol], timeframe=timeframe, seed=seed)
            for symbol in self._symbols
        }

    async def instruments(self) -> Mapping[str, Instrument]:
        """Return the given steps per symbol."""
        return {symbol: self._instruments[symbol] for symbol in self._symbols}

    def events(self, resume: Mapping[str, Candle]) -> AsyncIterator[FeedEvent]:
        """Yield the candles after `resume`, which are those an uninterrupted run would have given; never ends.

        A symbol that joins later than the others gets what they have already passed as backfill.
        Raises DataError, already when called, when a candle of `resume` is not one this market makes.
        """
        known = {symbol: resume[symbol] for symbol in self._symbols if symbol in resume}
        for symbol, candle in known.items():
            self._refuse_other_market(symbol, candle)
        return self._groups(known)

    def slowest(self) -> tuple[str, float] | None:
        """Return None: candles that do not come tell it all."""
        return None

    async def close(self) -> None:
        """Nothing is held."""

    async def _groups(self, known: Mapping[str, Candle]) -> AsyncIterator[FeedEvent]:
        known_ms = max((candle.open_ms for candle in known.values()), default=None)
        pace, at_once = Pace(self._clock, self._candles_per_second), Pace(self._clock, 0.0)
        for open_ms, group in groupby(self._merge(known), key=attrgetter("open_ms")):
            is_history = self._markets[self._symbols[0]].index_of(open_ms) < self._history
            is_backfill = is_history or (known_ms is not None and open_ms <= known_ms)
            await (at_once if is_backfill else pace).step()
            yield CandleGroup(candles=tuple(group), is_backfill=is_backfill)

    def _merge(self, known: Mapping[str, Candle]) -> Iterator[Candle]:
        # heapq.merge keeps the order of its streams where times are equal: the configured order of symbols
        return heapq.merge(
            *(self._markets[symbol].after(known.get(symbol)) for symbol in self._symbols), key=attrgetter("open_ms")
        )

    def _refuse_other_market(self, symbol: str, known: Candle) -> None:
        market = self._markets[symbol]
        is_ours = known.span_ms == self._span_ms and market.index_of(known.open_ms) >= 0
        if not is_ours or market.again(known) != known:
            raise DataError(
                f"the journal ends with the {symbol} candle of {known.open_ms} ({known.span_ms} ms long), which the "
                f"simulated market of seed {self._seed} does not make: the journal was made with another seed, "
                "timeframe, tick or source; set them back in [market], or start with a new state directory"
            )
