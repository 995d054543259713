"""Whether a live feed still turns: it does as long as it asks a venue that is silent, and does not once it hangs."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from daemon.candle_finality import Row
from daemon.errors import TransientError
from daemon.feed_queue import FeedQueue, HealthBoard
from daemon.live_candles import Desk, LiveCandles, Pace, together
from daemon.live_streams import LiveStreams
from daemon.vitals import Pulse
from strategy.candle import Candle
from tests.fakes.clock import ManualClock

BTC, ETH = "BTC/USDT", "ETH/USDT"
HOUR_MS = 3_600_000
NOW_MS = 1_600_000 * 1_000_000 // HOUR_MS * HOUR_MS + 60_000
STALE_S = 60.0
LONGEST_TURN_S = STALE_S + 30.0
"""Listening, and the longest pause between two attempts."""


class SilentVenue:
    """A venue of which a test says what each call does: answer, say nothing, refuse, or never come back."""

    page = 1_000
    has_candle_stream = True
    has_trade_stream = True

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self.calls: dict[str, Callable[[str], str]] = {}

    async def _do(self, what: str, symbol: str, timeout_s: float | None = None) -> None:
        behaves = self.calls.get(what)
        match behaves(symbol) if behaves else "silent" if timeout_s else "answer":
            case "silent":
                assert timeout_s is not None
                await self._clock.sleep_s(timeout_s)
                raise TimeoutError
            case "refuse":
                raise TransientError("maintenance")
            case "hang":
                await asyncio.Event().wait()

    async def rows(self, symbol: str, _since_ms: int | None, limit: int) -> list[Row]:
        await self._do("rows", symbol)
        edge_ms = self._clock.now_ms() // HOUR_MS * HOUR_MS
        times = [edge_ms - i * HOUR_MS for i in reversed(range(min(limit, 5)))]
        return [[at, 100.0, 100.0, 100.0, 100.0, 1.0] for at in times]

    async def now_ms(self) -> int | None:
        return self._clock.now_ms()

    async def price(self, _symbol: str) -> float | None:
        return 100.0

    async def watch_candles(self, symbol: str, timeout_s: float) -> list[Row]:
        await self._do("candles", symbol, timeout_s)
        return []

    async def watch_trades(self, symbol: str, timeout_s: float) -> list[Mapping[str, Any]]:
        await self._do("trades", symbol, timeout_s)
        return []

    async def drop(self, words: Sequence[str] = ()) -> None:
        """Nothing is connected."""


@asynccontextmanager
async def following(**calls: Callable[[str], str]) -> AsyncIterator[tuple[ManualClock, Pulse]]:
    """Run a feed as `CcxtFeed` does, over a venue that behaves so."""
    clock = ManualClock(NOW_MS)
    venue, queue, pulse = SilentVenue(clock), FeedQueue(), Pulse(clock)
    venue.calls = calls
    desk = Desk(
        venue=venue, span_ms=HOUR_MS, clock=clock, generator=random.Random(7), queue=queue,
        health=HealthBoard(queue=queue), pace=Pace(stale_after_s=STALE_S), pulse=pulse,
    )  # fmt: skip
    known = {s: Candle(symbol=s, open_ms=NOW_MS // HOUR_MS * HOUR_MS - 3 * HOUR_MS, span_ms=HOUR_MS, open=100.0,
                       high=100.0, low=100.0, close=100.0, volume=1.0) for s in (BTC, ETH)}  # fmt: skip
    candles, streams = LiveCandles(desk, symbols=(BTC, ETH), resume=known, history=5), LiveStreams(desk)

    async def run() -> None:
        await candles.backfill()
        await together([*candles.parts(), *(part for f in candles.followed for part in streams.parts(f))])

    running = asyncio.create_task(run())
    try:
        yield clock, pulse
    finally:
        assert not running.done(), running.exception()
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def longest_silence(clock: ManualClock, pulse: Pulse, hours: int) -> float:
    """Return the longest time for which any part did not turn, looking every ten seconds."""
    longest_s = 0.0
    for _ in range(hours * 360):
        await clock.advance(10.0)
        found = pulse.slowest()
        assert found is not None
        longest_s = max(longest_s, found[1])
    return longest_s


@pytest.mark.parametrize(
    "calls",
    [
        {},
        {"candles": lambda _: "refuse", "trades": lambda _: "refuse"},
        {"rows": lambda symbol: "refuse" if symbol == BTC else "answer"},
        {"rows": lambda _: "refuse", "candles": lambda _: "refuse", "trades": lambda _: "refuse"},
    ],
    ids=["mute streams", "streams refused", "no history of one symbol", "nothing at all"],
)
async def test_a_venue_that_is_silent_or_refuses_leaves_every_part_turning(calls: Any) -> None:
    async with following(**calls) as (clock, pulse):
        assert await longest_silence(clock, pulse, hours=5) <= LONGEST_TURN_S


@pytest.mark.fault(46)
@pytest.mark.parametrize("what", ["candles", "trades", "rows"])
async def test_a_call_that_never_comes_back_is_the_slowest_part_and_is_named(what: str) -> None:
    async with following(
        **{what: lambda symbol: "hang" if symbol == ETH else "silent" if what != "rows" else "answer"}
    ) as (
        clock,
        pulse,
    ):
        await clock.advance(3_600.0)
        found = pulse.slowest()
        assert found is not None
        part = "history" if what == "rows" else what
        assert found[0] == f"{part} of {ETH}"
        assert found[1] >= 3_500.0


async def test_a_symbol_whose_history_is_there_is_not_accused_of_waiting_for_that_of_another() -> None:
    left = [200]

    def rows(symbol: str) -> str:
        if symbol == BTC or not left[0]:
            return "answer"
        left[0] -= 1
        return "refuse"

    async with following(rows=rows) as (clock, pulse):
        assert await longest_silence(clock, pulse, hours=3) <= LONGEST_TURN_S
        assert left == [0]
