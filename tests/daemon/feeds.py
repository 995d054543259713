"""The feed beside a venue that follows a script: one process, and ccxt's own `binance`, unmodified, between them."""

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from daemon.feed_ccxt import CcxtFeed
from daemon.ports import CandleGroup, FeedEvent, FeedHealth, FeedStatus
from strategy.candle import Candle, Timeframe
from tests.fakes.binance import FakeBinance, Market, Values, walk

SPAN = 60_000
FIRST = 1_600_000_020_000 // SPAN * SPAN
NAN = math.nan
SPEED = 20.0


class FastClock:
    """The venue's time for `now_ms`, plus a skew; pauses pass 20 times as fast, because sockets need real time."""

    def __init__(self, venue: FakeBinance, skew_ms: int = 0) -> None:
        self.venue = venue
        self.skew_ms = skew_ms

    def now_ms(self) -> int:
        return self.venue.now_ms + self.skew_ms

    def monotonic_s(self) -> float:
        return time.monotonic() * SPEED

    async def sleep_s(self, seconds: float) -> None:
        await asyncio.sleep(seconds / SPEED)


def venue_with(count: int, *symbols: str, seed: int = 1) -> FakeBinance:
    """A venue with `count` closed candles per pair and one that forms."""
    markets = [Market(*symbol.split("/")) for symbol in symbols or ("BTC/USDT",)]
    venue = FakeBinance(markets, now_ms=FIRST + count * SPAN + 1)
    for index, market in enumerate(markets):
        values = walk(seed + index, count + 1)
        market.candles = {FIRST + i * SPAN: values[i] for i in range(count + 1)}
    return venue


def feed_of(venue: FakeBinance, *symbols: str, history: int = 5, **settings: Any) -> CcxtFeed:
    defaults: dict[str, Any] = {
        "exchange_id": "binance",
        "ccxt_options": venue.ccxt_options(),
        "timeframe": Timeframe.parse("1m"),
        "clock": FastClock(venue, settings.pop("skew_ms", 0)),
        "stale_after_s": 20.0,
        "generator": random.Random(3),
    }
    return CcxtFeed(symbols=symbols or ("BTC/USDT",), history=history, **{**defaults, **settings})


class Reader:
    """Reads a feed in the background and lets a test wait for what it has seen."""

    def __init__(self, feed: CcxtFeed) -> None:
        self.feed = feed
        self.seen: list[FeedEvent] = []
        self.failure: BaseException | None = None
        self._news = asyncio.Event()

    async def read(self, resume: dict[str, Candle]) -> None:
        try:
            async for event in self.feed.events(resume):
                self.seen.append(event)
                self._news.set()
        except Exception as error:
            self.failure = error
            raise
        finally:
            self._news.set()

    async def until(self, holds: Callable[[], bool], timeout_s: float = 10.0) -> None:
        async with asyncio.timeout(timeout_s):
            while not holds():
                if self.failure is not None:
                    raise self.failure
                self._news.clear()
                await self._news.wait()

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.seen if isinstance(event, kind)]

    @property
    def groups(self) -> list[CandleGroup]:
        return self.of(CandleGroup)

    def opened(self, symbol: str = "BTC/USDT") -> list[int]:
        """Which candles of a symbol came, counted from FIRST."""
        return [(c.open_ms - FIRST) // SPAN for group in self.groups for c in group.candles if c.symbol == symbol]

    def statuses(self) -> list[FeedHealth]:
        return [status.health for status in self.of(FeedStatus)]

    async def until_candle(self, index: int, symbol: str = "BTC/USDT") -> None:
        await self.until(lambda: index in self.opened(symbol))


@asynccontextmanager
async def reading(feed: CcxtFeed, resume: dict[str, Candle] | None = None) -> AsyncIterator[Reader]:
    reader = Reader(feed)
    task = asyncio.create_task(reader.read(resume or {}))
    try:
        yield reader
    finally:
        task.cancel()
        await asyncio.wait([task], timeout=5.0)
        assert task.done(), "the feed must end when its reader is cancelled"


@asynccontextmanager
async def live(venue: FakeBinance, *symbols: str, **settings: Any) -> AsyncIterator[Reader]:
    """A feed that has delivered history and listens to every stream."""
    names = symbols or ("BTC/USDT",)
    async with venue, reading(feed_of(venue, *symbols, **settings)) as reader:
        for name in names:
            market = name.replace("/", "").lower()
            async with asyncio.timeout(10):
                await venue.subscribed(f"{market}@kline_1m", f"{market}@trade")
        yield reader


def at(index: int) -> int:
    return FIRST + index * SPAN


def candle(index: int, values: Values, symbol: str = "BTC/USDT") -> Candle:
    o, h, low, c, v = values
    return Candle(symbol=symbol, open_ms=at(index), span_ms=SPAN, open=o, high=h, low=low, close=c, volume=v)
