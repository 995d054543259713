"""What every feed of recorded or simulated candles keeps to. Subclass, give `make_feed`, and the claims are tested."""

import asyncio
import contextlib
import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import pairwise

import pytest

from daemon.errors import DataError
from daemon.ports import CandleGroup, Feed, FeedEvent, Gap
from strategy.candle import Candle
from tests.fakes.clock import ManualClock


async def take(feed: Feed, count: int, resume: Mapping[str, Candle] | None = None) -> list[FeedEvent]:
    """The first `count` events of a feed, or all when it ends before."""
    taken: list[FeedEvent] = []
    await feed.instruments()
    async with contextlib.aclosing(feed.events(resume or {})) as events:  # type: ignore[type-var]
        async for event in events:
            taken.append(event)
            if len(taken) == count:
                break
    return taken


def candles_of(events: Sequence[FeedEvent], symbol: str | None = None) -> list[Candle]:
    groups = (event for event in events if isinstance(event, CandleGroup))
    return [candle for group in groups for candle in group.candles if symbol in {None, candle.symbol}]


def last_known(events: Sequence[FeedEvent]) -> dict[str, Candle]:
    return {candle.symbol: candle for candle in candles_of(events)}


class OfflineFeedContract(ABC):
    """At least 60 events of `symbols`, the same for every feed that `make_feed` returns."""

    symbols = ("ETH/USDT", "BTC/USDT")

    @abstractmethod
    def make_feed(self, clock: ManualClock, *, candles_per_second: float = 0.0) -> Feed: ...

    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    async def test_offline_candles_never_count_as_live(self, clock: ManualClock) -> None:
        assert self.make_feed(clock).is_live is False

    async def test_candles_of_a_symbol_are_in_order_without_repeat(self, clock: ManualClock) -> None:
        events = await take(self.make_feed(clock), 60)
        for symbol in self.symbols:
            times = [candle.open_ms for candle in candles_of(events, symbol)]
            assert len(times) >= 20
            assert all(later > earlier for earlier, later in pairwise(times))

    async def test_groups_hold_one_open_time_in_the_configured_order(self, clock: ManualClock) -> None:
        groups = [event for event in await take(self.make_feed(clock), 60) if isinstance(event, CandleGroup)]
        assert all(later.candles[0].open_ms > earlier.candles[0].open_ms for earlier, later in pairwise(groups))
        for group in groups:
            assert len({candle.open_ms for candle in group.candles}) == 1
            order = [self.symbols.index(candle.symbol) for candle in group.candles]
            assert order == sorted(set(order))

    async def test_missing_candles_are_announced_exactly(self, clock: ManualClock) -> None:
        events = await take(self.make_feed(clock), 60)
        announced = {
            (e.symbol, e.first_ms + at * 3_600_000) for e in events if isinstance(e, Gap) for at in range(e.missing)
        }
        missing = set()
        for symbol in self.symbols:
            times = [candle.open_ms for candle in candles_of(events, symbol)]
            missing |= {(symbol, t) for t in range(times[0], times[-1], 3_600_000)} - {(symbol, t) for t in times}
        assert announced == missing

    async def test_a_gap_comes_before_the_candle_that_follows_it(self, clock: ManualClock) -> None:
        known: dict[str, Candle] = {}
        for event in await take(self.make_feed(clock), 60):
            if isinstance(event, Gap):
                assert known[event.symbol].close_ms == event.first_ms
            elif isinstance(event, CandleGroup):
                known |= {candle.symbol: candle for candle in event.candles}

    async def test_two_runs_are_equal(self, clock: ManualClock) -> None:
        assert await take(self.make_feed(clock), 60) == await take(self.make_feed(clock), 60)

    @pytest.mark.parametrize("cut", [1, 2, 3, 7, 18, 19, 20, 21, 22, 23, 24, 25, 39, 40, 41, 59])
    async def test_resuming_goes_on_exactly_where_it_ended(self, clock: ManualClock, cut: int) -> None:
        whole = await take(self.make_feed(clock), 60)
        while not isinstance(whole[cut - 1], CandleGroup):  # a gap belongs to the group it precedes
            cut -= 1
        resumed = await take(self.make_feed(clock), 60 - cut, last_known(whole[:cut]))
        assert whole[:cut] + resumed == whole

    async def test_other_values_at_the_resumed_candle_are_refused(self, clock: ManualClock) -> None:
        known = last_known(await take(self.make_feed(clock), 10))
        candle = known["BTC/USDT"]
        known["BTC/USDT"] = dataclasses.replace(candle, volume=candle.volume + 1.0)
        with pytest.raises(DataError, match=rf"BTC/USDT candle of {candle.open_ms}.*the journal was made with"):
            await take(self.make_feed(clock), 1, known)

    async def test_a_resumed_candle_of_another_time_is_refused(self, clock: ManualClock) -> None:
        known = last_known(await take(self.make_feed(clock), 10))
        candle = known["BTC/USDT"]
        known["BTC/USDT"] = dataclasses.replace(candle, open_ms=candle.open_ms - 1_000_000 * 3_600_000)
        with pytest.raises(DataError, match="the journal was made with"):
            await take(self.make_feed(clock), 1, known)

    async def test_candles_of_symbols_that_are_not_configured_do_not_matter(self, clock: ManualClock) -> None:
        whole = await take(self.make_feed(clock), 20)
        foreign = dataclasses.replace(candles_of(whole)[0], symbol="XRP/USDT")
        assert await take(self.make_feed(clock), 20, {"XRP/USDT": foreign}) == whole

    async def test_a_symbol_that_joins_late_is_given_the_past_as_backfill(self, clock: ManualClock) -> None:
        whole = await take(self.make_feed(clock), 60)
        known = last_known(whole[:30])["BTC/USDT"]
        groups = [e for e in await take(self.make_feed(clock), 60, {"BTC/USDT": known}) if isinstance(e, CandleGroup)]
        for group in groups:
            if group.candles[0].open_ms <= known.open_ms:
                assert group.is_backfill
                assert [candle.symbol for candle in group.candles] == ["ETH/USDT"]
        joined = [candle for group in groups for candle in group.candles if candle.symbol == "ETH/USDT"]
        assert joined[:20] == candles_of(whole, "ETH/USDT")[:20]

    async def test_instruments_are_those_of_the_symbols(self, clock: ManualClock) -> None:
        instruments = await self.make_feed(clock).instruments()
        assert tuple(instruments) == self.symbols
        assert all(instrument.symbol == symbol for symbol, instrument in instruments.items())

    async def test_pace_does_not_change_what_is_said(self, clock: ManualClock) -> None:
        fast = await take(self.make_feed(clock), 60)
        paced = asyncio.create_task(take(self.make_feed(clock, candles_per_second=10.0), 60))
        while not paced.done():
            await asyncio.sleep(0)  # files are read in a thread
            await clock.advance(1.0)
        assert await paced == fast

    async def test_closing_twice_is_harmless(self, clock: ManualClock) -> None:
        feed = self.make_feed(clock)
        await take(feed, 3)
        await feed.close()
        await feed.close()
