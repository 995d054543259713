"""The daemon's own feed over ccxt's `kraken`, unmodified, against the test venue; requests come out of one budget."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator
from typing import Any

from daemon.clock import SystemClock
from daemon.feed_ccxt import CcxtFeed
from daemon.ports import CandleGroup, FeedEvent, MarketTrade
from daemon.rate_budget import Purpose, RateBudget
from daemon.testvenue.faults import Fault, What
from daemon.testvenue.server import TestVenue
from strategy.candle import Timeframe
from tests.testvenue.kraken import SYMBOL, client, venue

_MINUTE_MS = 60_000


async def _group(events: AsyncIterator[FeedEvent]) -> CandleGroup:
    async with asyncio.timeout(20.0):
        while not isinstance(event := await anext(events), CandleGroup):
            pass
    return event


async def _trade(events: AsyncIterator[FeedEvent]) -> MarketTrade:
    async with asyncio.timeout(20.0):
        while not isinstance(event := await anext(events), MarketTrade):
            pass
    return event


def _feed(serving: TestVenue) -> tuple[CcxtFeed, RateBudget]:
    clock = SystemClock()
    budget = RateBudget(clock)
    feed = CcxtFeed(
        exchange_id="kraken", ccxt_options=serving.ccxt_options(), symbols=(SYMBOL,), timeframe=Timeframe.parse("1m"),
        history=5, clock=clock, stale_after_s=60.0, generator=random.Random(1), budget=budget,
    )  # fmt: skip
    return feed, budget


async def test_history_and_live_candles_come_from_kraken_too() -> None:
    async with venue() as serving:
        # The venue lives in the middle of a minute, so that none turns by itself during the test.
        now_ms = serving.time.now_ms()
        serving.time.pinned_ms = start_ms = now_ms // _MINUTE_MS * _MINUTE_MS + 30_000
        newest_ms = start_ms - 30_000
        rows: list[tuple[Any, ...]] = [
            (newest_ms - n * _MINUTE_MS, 30_000 + n, 30_002 + n, 29_998 + n, 30_001 + n, 1) for n in range(9, -1, -1)
        ]
        serving.market(SYMBOL).history(rows)
        feed, budget = _feed(serving)
        instrument = (await feed.instruments())[SYMBOL]
        assert (instrument.tick, instrument.lot, instrument.min_notional) == (0.1, 1e-8, 5.0)
        async with contextlib.aclosing(feed.events({})) as events:  # type: ignore[type-var]
            past: list[Any] = []
            while len(past) < 5:
                past.extend((await _group(events)).candles)
            assert [(each.open_ms, each.close) for each in past] == [
                (newest_ms - n * _MINUTE_MS, 30_001.0 + n) for n in (5, 4, 3, 2, 1)
            ]
            stream = serving.dialects[0]._stream  # type: ignore[attr-defined]
            while sum(len(each) for each in stream._clients.values()) < 2:  # noqa: ASYNC110  # real sockets
                await asyncio.sleep(0.01)
            serving.market(SYMBOL).trade("30050", "0.25")
            trade = await _trade(events)
            assert (trade.price, trade.quantity) == (30_050.0, 0.25)
            serving.time.pinned_ms = start_ms + _MINUTE_MS
            serving.market(SYMBOL).trade("30060", "1")
            (live,) = (await _group(events)).candles
            assert (live.open_ms, live.close, live.volume) == (newest_ms, 30_050.0, 1.25)
        assert budget.available("kraken") < 1.0, "what the feed asks is counted"


async def test_what_the_feed_is_told_after_too_many_requests_binds_the_orders_too() -> None:
    async with venue() as serving:
        feed, budget = _feed(serving)
        serving.faults.add(
            Fault(where="GET AssetPairs", what=What.REPLY, status=429, headers={"Retry-After": "2"}, body="slow down")
        )
        asking = asyncio.ensure_future(feed.instruments())
        while not any(record["kind"] == "fault" for record in serving.audit.records):  # noqa: ASYNC110  # real sockets
            await asyncio.sleep(0.01)
        begun_s = time.monotonic()
        async with client(serving) as exchange, asyncio.timeout(20.0):
            while budget.available("kraken") > 0.25:  # noqa: ASYNC110  # the feed is about to hear it
                await asyncio.sleep(0.01)
            budget.attach(exchange)
            with budget.purpose(Purpose.EXIT):
                await exchange.create_order(SYMBOL, "market", "sell", 0.01)
        assert time.monotonic() - begun_s > 1.8
        assert SYMBOL in await asking
        await feed.close()
