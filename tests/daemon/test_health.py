"""What counts as alive and as ready, and in which words."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest

from daemon.app import App
from daemon.events import AccountMarked, CandleTaken, Event, Started, Stopped
from daemon.health import Health, candle_interval_s
from daemon.ports import CandleGroup, FeedEvent, FeedHealth, FeedStatus
from daemon.vitals import Echo, Pulse, vitals_of
from strategy.candle import Candle
from strategy.portfolio import Portfolio
from strategy.risk import RiskState
from tests.daemon.engines import Rig, make_rig
from tests.fakes.clock import ManualClock

SPAN_MS = 3_600_000
OPEN_MS = 1_600_002_000_000
PORTFOLIO = Portfolio.open(1_000.0, ["BTC/USDT"])
RISK = RiskState(symbols={})
STARTED = Started(
    instance="paper", mode="paper", source="simulated", symbols=("BTC/USDT",), timeframe="1h", quote="USDT",
    model_id="0123456789abcdef", members=3, cash=1_000.0, resumed=False, decisions=0, portfolio=PORTFOLIO, risk=RISK,
    warm_up=0, at_ms=OPEN_MS,
)  # fmt: skip
MARKED = AccountMarked(portfolio=PORTFOLIO, risk=RISK, hold_equity=None, at_ms=OPEN_MS)
STOPPED = Stopped(
    reason="the file has ended", portfolio=PORTFOLIO, risk=RISK, cash=1_000.0, decisions=0, orders=0, fills=0,
    hold_equity=None, quote="USDT", at_ms=OPEN_MS,
)  # fmt: skip


def taken(*, is_backfill: bool = False) -> CandleTaken:
    candle = Candle(
        symbol="BTC/USDT", open_ms=OPEN_MS, span_ms=SPAN_MS, open=1.0, high=1.0, low=1.0, close=1.0, volume=1.0
    )
    return CandleTaken(candle=candle, is_backfill=is_backfill, at_ms=OPEN_MS + SPAN_MS)


def told(clock: ManualClock, *events: Event, is_live: bool = False, interval_s: float = 0.25) -> Health:
    health = Health(clock, is_live=is_live, candle_interval_s=interval_s, deadline_s=30.0, start_deadline_s=300.0)
    for event in events:
        health.publish(event)
    return health


@pytest.mark.parametrize(
    ("is_live", "pace", "seconds"),
    [(True, 4.0, 3_600.0), (False, 4.0, 0.25), (False, 0.0, 0.0)],
    ids=["live", "paced", "as fast as possible"],
)
def test_the_next_candle_is_due_when_the_source_makes_it(is_live: bool, pace: float, seconds: float) -> None:
    assert candle_interval_s(is_live=is_live, span_ms=SPAN_MS, candles_per_second=pace) == seconds


async def test_recovery_is_alive_and_not_ready_until_it_takes_too_long() -> None:
    clock = ManualClock()
    health = told(clock)
    assert (health.report().is_alive, health.report().is_ready) == (True, False)
    await clock.advance(300.0)
    assert health.report().waiting == ("still recovering the state",)
    await clock.advance(1.0)
    assert health.report().stuck == ("recovering the state has taken 301 s, longer than 300 s",)


def test_started_without_a_candle_is_not_ready() -> None:
    report = told(ManualClock(), STARTED).report()
    assert (report.is_alive, report.waiting) == (True, ("no candle yet",))


async def test_a_candle_that_went_through_makes_it_ready() -> None:
    clock = ManualClock()
    health = told(clock, STARTED, taken(), MARKED)
    await clock.advance(2.0)
    report = health.report()
    assert report.is_ready
    assert (report.candle_age_s, report.progress_age_s) == (2.0, 2.0)


@pytest.mark.fault(46)
async def test_a_candle_that_does_not_go_through_in_time_is_death_and_going_through_heals_it() -> None:
    clock = ManualClock()
    health = told(clock, STARTED, taken(), is_live=True, interval_s=3_600.0)
    await clock.advance(30.0)
    assert health.report().is_alive
    await clock.advance(5.0)
    expected = f"BTC/USDT candle at {OPEN_MS} came in 35 s ago and has not gone through within 30 s"
    assert health.report().stuck == (expected,)
    assert not health.report().is_ready
    health.publish(MARKED)
    assert health.report().is_ready


async def test_the_second_symbol_of_a_group_does_not_renew_the_deadline() -> None:
    clock = ManualClock()
    health = told(clock, STARTED, taken(), is_live=True, interval_s=3_600.0)
    await clock.advance(29.0)
    health.publish(taken())
    await clock.advance(2.0)
    assert not health.report().is_alive


async def test_backfill_is_not_expected_to_go_through() -> None:
    clock = ManualClock()
    health = told(clock, STARTED, taken(is_backfill=True), is_live=True, interval_s=3_600.0)
    await clock.advance(60.0)
    assert health.report().is_ready


async def test_a_silent_venue_makes_it_unready_but_never_dead() -> None:
    clock = ManualClock()
    health = told(clock, STARTED, taken(), MARKED, is_live=True, interval_s=3_600.0)
    await clock.advance(3_630.0)
    assert health.report().is_ready
    await clock.advance(1.0)
    assert health.report().is_alive
    assert health.report().waiting == ("no candle for 3631 s, though one is due every 3600 s",)


async def test_each_candle_renews_the_wait_for_the_next_and_so_does_the_end_of_recovery() -> None:
    clock = ManualClock()
    health = told(clock, taken(is_backfill=True))
    await clock.advance(200.0)
    health.publish(STARTED)
    await clock.advance(20.0)
    assert health.report().is_ready
    health.publish(taken())
    health.publish(MARKED)
    await clock.advance(20.0)
    assert health.report().is_ready


async def test_a_recorded_source_that_falls_silent_is_our_own_death() -> None:
    clock = ManualClock()
    health = told(clock, STARTED, taken(), MARKED)
    await clock.advance(30.0)
    assert health.report().is_alive
    await clock.advance(1.0)
    assert health.report().stuck == ("no candle for 31 s, though one is due every 0.25 s",)


@pytest.mark.parametrize("health", [FeedHealth.STALE, FeedHealth.RECONNECTING])
def test_a_feed_that_is_not_live_makes_it_unready_in_its_own_words(health: FeedHealth) -> None:
    down = FeedStatus(health=health, detail="no trade for 60 s")
    known = told(ManualClock(), STARTED, taken(), MARKED, down, is_live=True, interval_s=3_600.0)
    assert known.report().is_alive
    assert known.report().waiting == (f"the feed is {health.value}: no trade for 60 s",)
    known.publish(FeedStatus(health=FeedHealth.LIVE))
    assert known.report().is_ready


def test_a_live_feed_is_ready_before_its_first_candle_closes() -> None:
    health = told(ManualClock(), STARTED, FeedStatus(health=FeedHealth.LIVE), is_live=True, interval_s=3_600.0)
    assert health.report().is_ready


async def test_a_stopped_daemon_is_not_ready_and_not_accused() -> None:
    clock = ManualClock()
    health = told(clock, STARTED, taken(), STOPPED)
    await clock.advance(1_000.0)
    assert health.report().stuck == ()
    assert health.report().waiting == ("stopped: the file has ended",)


async def test_a_step_of_the_wall_clock_changes_nothing() -> None:
    clock = ManualClock()
    health = told(clock, STARTED, taken(), MARKED)
    clock.step_wall(86_400.0)
    assert health.report().is_ready
    clock.step_wall(-2 * 86_400.0)
    assert health.report().is_ready


def test_the_report_is_plain_json() -> None:
    clock = ManualClock()
    health = told(clock, STARTED, taken(), MARKED, FeedStatus(health=FeedHealth.STALE, detail="mute"), is_live=True)
    assert json.loads(json.dumps(health.report().to_json())) == {
        "alive": True,
        "ready": False,
        "reasons": ["the feed is stale: mute"],
        "started": True,
        "feed": "stale",
        "candle_age_s": 0.0,
        "progress_age_s": 0.0,
    }


# ---- what the watchdog goes by between candles --------------------------------------------------------------------
class FakeFeed:
    """A live feed of two streams, each of which turns as long as a test lets it; candles come when a test says so."""

    is_live = True

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self._pulse = Pulse(clock)
        self.frozen = ""
        self.queue: asyncio.Queue[FeedEvent] = asyncio.Queue()

    async def turn(self, part: str) -> None:
        """Listen for a minute to a venue that says nothing, and connect again, over and over."""
        while self.frozen != part:
            self._pulse.beat(part)
            await self._clock.sleep_s(60.0)

    def slowest(self) -> tuple[str, float] | None:
        return self._pulse.slowest()

    async def events(self, _resume: Mapping[str, Candle] | None = None) -> AsyncIterator[FeedEvent]:
        while True:
            yield await self.queue.get()

    async def instruments(self) -> Any:
        """Nothing is asked."""

    async def close(self) -> None:
        """Nothing is open."""


class Notified:
    """What systemd hears."""

    watchdog_s = 30.0

    def __init__(self) -> None:
        self.fed = 0

    def watchdog(self) -> bool:
        self.fed += 1
        return True


class Watched:
    """A live daemon of hourly candles on fakes: engine, feed, a journal that answers, and the watchdog."""

    def __init__(self) -> None:
        self.rig: Rig = make_rig(is_live=True)
        self.clock = self.rig.clock
        self.feed = FakeFeed(self.clock)
        self.health = Health(self.clock, is_live=True, candle_interval_s=3_600.0)
        self.health.publish(STARTED)
        self.rig.engine._sinks = [self.health]
        self.answers = asyncio.Event()
        self.answers.set()
        echo = Echo(self.clock, self._answer)
        self.health.watch(
            *vitals_of(feed=self.feed, stale_after_s=60.0, journal=echo, busy_s=lambda: self.rig.engine.busy_s)
        )
        self.systemd = Notified()
        app: Any = SimpleNamespace(_notifier=self.systemd, _clock=self.clock, _stopping=asyncio.Event())
        watchers: Any = SimpleNamespace(health=self.health)
        readiness: Any = SimpleNamespace(wait=lambda _seconds: None)
        self.tasks = [
            asyncio.create_task(work)
            for work in (
                self.rig.engine.run(self.feed.events()),
                self.feed.turn("candles of BTC/USDT"),
                self.feed.turn("trades of BTC/USDT"),
                echo.run(),
                App._feed_watchdog(app, watchers, readiness),
            )
        ]

    async def _answer(self) -> None:
        await self.answers.wait()

    async def candle(self) -> None:
        values = {"open": 100.0, "high": 100.0, "low": 100.0, "close": 100.0, "volume": 1e6}
        open_ms = self.clock.now_ms() // SPAN_MS * SPAN_MS - SPAN_MS
        candle = Candle(symbol="BTC/USDT", open_ms=open_ms, span_ms=SPAN_MS, **values)
        self.feed.queue.put_nowait(CandleGroup(candles=(candle,)))
        await self.clock.settle()

    async def feedings(self, seconds: float) -> int:
        """Let time pass; returns how often the watchdog was fed meanwhile."""
        before = self.systemd.fed
        await self.clock.advance(seconds)
        return self.systemd.fed - before


@pytest.fixture
async def watched() -> AsyncIterator[Watched]:
    made = Watched()
    yield made
    for task in made.tasks:
        task.cancel()
    for task in made.tasks:
        with suppress(asyncio.CancelledError):
            await task


async def test_a_healthy_daemon_of_hourly_candles_is_fed_through_hours_in_which_nothing_else_happens(
    watched: Watched,
) -> None:
    for _ in range(3):
        await watched.candle()
        assert await watched.feedings(3_600.0) == 120


async def test_a_venue_that_says_nothing_for_a_day_is_asked_again_and_again_and_the_watchdog_is_fed(
    watched: Watched,
) -> None:
    await watched.candle()
    assert await watched.feedings(86_400.0) == 2_880
    assert not watched.health.report().is_ready  # but it is told


@pytest.mark.fault(46)
@pytest.mark.parametrize("part", ["candles of BTC/USDT", "trades of BTC/USDT"])
async def test_a_part_of_the_feed_that_stands_still_starves_the_watchdog_though_all_else_goes_on(
    watched: Watched, part: str
) -> None:
    await watched.candle()
    watched.feed.frozen = part
    assert await watched.feedings(360.0) == 12
    assert await watched.feedings(60.0) <= 1  # it has turned within the last minute before it froze
    assert await watched.feedings(3_600.0) == 0
    (told,) = watched.health.report().stuck
    assert told.startswith(f"the feed has stood still at {part} for ")
    assert told.endswith(" s, longer than 360 s")


@pytest.mark.fault(46)
async def test_a_journal_that_does_not_answer_starves_the_watchdog_though_no_candle_is_due(watched: Watched) -> None:
    await watched.candle()
    watched.answers.clear()
    await watched.feedings(60.0)
    assert await watched.feedings(3_000.0) == 0
    (told,) = watched.health.report().stuck
    assert told.startswith("the journal has not answered for ")
    watched.answers.set()
    assert await watched.feedings(60.0) == 2


@pytest.mark.fault(46)
async def test_a_commit_that_does_not_end_starves_the_watchdog_by_the_candle_and_by_the_step_it_is_in(
    watched: Watched,
) -> None:
    watched.rig.journal.gate.clear()
    await watched.candle()
    await watched.feedings(60.0)
    assert await watched.feedings(3_000.0) == 0
    of_candle, of_step = watched.health.report().stuck
    assert "has not gone through within 30 s" in of_candle
    assert of_step.startswith("the decision loop has been at one step for ")
    watched.rig.journal.gate.set()
    assert await watched.feedings(60.0) == 2


@pytest.mark.fault(46)
async def test_a_command_that_does_not_end_starves_the_watchdog_though_no_candle_is_waiting(watched: Watched) -> None:
    await watched.candle()
    watched.rig.journal.gate.clear()
    asked = asyncio.create_task(watched.rig.engine.command("pause", "test"))
    await watched.feedings(60.0)
    assert await watched.feedings(3_000.0) == 0
    (told,) = watched.health.report().stuck
    assert told.startswith("the decision loop has been at one step for ")
    watched.rig.journal.gate.set()
    await asked
    assert await watched.feedings(60.0) == 2


async def test_a_feed_that_makes_its_own_candles_is_not_asked_whether_it_turns() -> None:
    clock = ManualClock()
    feed = FakeFeed(clock)
    feed.is_live = False
    health = told(clock, STARTED, taken(), MARKED, is_live=False, interval_s=3_600.0)
    echo = Echo(clock, _never)
    health.watch(*vitals_of(feed=feed, stale_after_s=60.0, journal=echo, busy_s=lambda: None))
    feed._pulse.beat("candles")
    await clock.advance(3_600.0)
    assert health.report().is_alive


async def test_a_daemon_that_has_stopped_is_not_accused_of_standing_still() -> None:
    clock = ManualClock()
    health = told(clock, STARTED, is_live=True)
    health.watch(*vitals_of(feed=FakeFeed(clock), stale_after_s=1.0, journal=Echo(clock, _never), busy_s=lambda: 1e6))
    assert not health.report().is_alive
    health.publish(STOPPED)
    assert health.report().stuck == ()


async def _never() -> None:
    await asyncio.Event().wait()
