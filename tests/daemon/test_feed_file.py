import asyncio
import os
from pathlib import Path

import pytest

from daemon.errors import ConfigError, DataError
from daemon.feed_file import FileFeed
from daemon.ports import CandleGroup, Feed, FeedEvent, Gap
from strategy.candle import Timeframe
from strategy.instrument import Instrument
from tests.contracts.feed import OfflineFeedContract, candles_of, last_known, take
from tests.fakes.clock import ManualClock

HOUR = 3_600_000
T0 = 1_600_002_000_000 // HOUR * HOUR
H1 = Timeframe.parse("1h")
SYMBOLS = ("ETH/USDT", "BTC/USDT")
INSTRUMENTS = {symbol: Instrument(symbol=symbol, tick=0.01, lot=0.0001, min_notional=5.0) for symbol in SYMBOLS}
RECORDED = Path(__file__).parents[3] / "shared" / "data" / "binance"


def write(path: Path, hours: list[int], price: int) -> Path:
    rows = [f"{T0 + h * HOUR},{price + h},{price + h + 3},{price + h - 2},{price + h + 1},{h + 1}" for h in hours]
    path.write_text("\n".join(["timestamp_ms,open,high,low,close,volume", *rows, ""]))
    return path


def feed_of(paths: dict[str, Path], clock: ManualClock, **changes: object) -> FileFeed:
    options: dict[str, object] = {
        "paths": paths,
        "symbols": tuple(symbol for symbol in SYMBOLS if symbol in paths),
        "timeframe": H1,
        "instruments": INSTRUMENTS,
        "candles_per_second": 0.0,
        "clock": clock,
    }
    return FileFeed(**(options | changes))  # type: ignore[arg-type]


class TestFileFeedContract(OfflineFeedContract):
    symbols = SYMBOLS

    @pytest.fixture(autouse=True)
    def _files(self, tmp_path: Path) -> None:
        # gaps of one symbol, of both at once, and of different lengths that end together
        btc = [h for h in range(60) if h not in {12, 13, 20, 30, 31, 32}]
        eth = [h for h in range(3, 60) if h not in {12, 13, 25, 31, 32}]
        self.paths = {
            "BTC/USDT": write(tmp_path / "btcusdt-1h.csv", btc, 100),
            "ETH/USDT": write(tmp_path / "ethusdt-1h.csv", eth, 50),
        }

    def make_feed(self, clock: ManualClock, *, candles_per_second: float = 0.0) -> Feed:
        return feed_of(self.paths, clock, candles_per_second=candles_per_second)


class TestFileFeedWithHistoryContract(TestFileFeedContract):
    """Eighteen candles are history, so that the cuts of the contract lie in it, at its end and behind."""

    def make_feed(self, clock: ManualClock, *, candles_per_second: float = 0.0) -> Feed:
        return feed_of(self.paths, clock, candles_per_second=candles_per_second, start_ms=T0 + 22 * HOUR, history=18)


@pytest.fixture
def paths(tmp_path: Path) -> dict[str, Path]:
    return {
        "BTC/USDT": write(tmp_path / "btc.csv", [0, 1, 4, 5], 100),
        "ETH/USDT": write(tmp_path / "eth.csv", [1, 4, 5, 6], 50),
    }


async def test_files_are_merged_by_open_time_and_end(paths: dict[str, Path]) -> None:
    said: list[tuple[object, ...]] = []
    for event in await take(feed_of(paths, ManualClock()), 100):
        if isinstance(event, Gap):
            said.append((event.symbol[:3], (event.first_ms - T0) // HOUR, event.missing))
        elif isinstance(event, CandleGroup):
            said.append(tuple((c.symbol[:3], (c.open_ms - T0) // HOUR, c.close) for c in event.candles))
    assert said == [
        (("BTC", 0, 101.0),),
        (("ETH", 1, 52.0), ("BTC", 1, 102.0)),
        ("ETH", 2, 2),
        ("BTC", 2, 2),
        (("ETH", 4, 55.0), ("BTC", 4, 105.0)),
        (("ETH", 5, 56.0), ("BTC", 5, 106.0)),
        (("ETH", 6, 57.0),),
    ]


async def test_nothing_of_a_file_is_backfill_unless_it_was_passed(paths: dict[str, Path]) -> None:
    events = await take(feed_of(paths, ManualClock()), 100)
    assert not any(event.is_backfill for event in events if isinstance(event, CandleGroup))


async def test_only_the_configured_span_is_given(paths: dict[str, Path]) -> None:
    feed = feed_of(paths, ManualClock(), start_ms=T0 + HOUR, end_ms=T0 + 5 * HOUR)
    times = {(candle.open_ms - T0) // HOUR for candle in candles_of(await take(feed, 100))}
    assert times == {1, 4}


def said_of(events: list[FeedEvent]) -> list[tuple[object, ...]]:
    said: list[tuple[object, ...]] = []
    for event in events:
        if isinstance(event, Gap):
            said.append((event.symbol[:3], (event.first_ms - T0) // HOUR, event.missing))
        elif isinstance(event, CandleGroup):
            hours = {(candle.open_ms - T0) // HOUR for candle in event.candles}
            said.append(("".join(c.symbol[:1] for c in event.candles), *hours, event.is_backfill))
    return said


async def test_the_last_candles_before_start_fill_the_window_as_backfill(paths: dict[str, Path]) -> None:
    feed = feed_of(paths, ManualClock(), start_ms=T0 + 5 * HOUR, history=2)
    assert said_of(await take(feed, 100)) == [
        ("EB", 1, True),
        ("ETH", 2, 2),
        ("BTC", 2, 2),
        ("EB", 4, True),
        ("EB", 5, False),
        ("E", 6, False),
    ]


async def test_history_is_what_the_file_has_when_that_is_less(paths: dict[str, Path]) -> None:
    feed = feed_of({"BTC/USDT": paths["BTC/USDT"]}, ManualClock(), start_ms=T0 + 4 * HOUR, history=99)
    assert said_of(await take(feed, 100)) == [
        ("B", 0, True),
        ("B", 1, True),
        ("BTC", 2, 2),
        ("B", 4, False),
        ("B", 5, False),
    ]


async def test_without_start_there_is_no_history(paths: dict[str, Path]) -> None:
    assert await take(feed_of(paths, ManualClock(), history=3), 99) == await take(feed_of(paths, ManualClock()), 99)


async def test_a_resumed_run_repeats_nothing_of_the_history(paths: dict[str, Path]) -> None:
    options = {"start_ms": T0 + 4 * HOUR, "history": 2}
    whole = await take(feed_of(paths, ManualClock(), **options), 100)
    resumed = await take(feed_of(paths, ManualClock(), **options), 100, last_known(whole[:-2]))
    assert said_of(resumed) == [("EB", 5, False), ("E", 6, False)]


async def test_history_comes_at_once_and_the_span_at_its_pace(paths: dict[str, Path]) -> None:
    clock = ManualClock()
    feed = feed_of(paths, clock, candles_per_second=2.0, start_ms=T0 + 4 * HOUR, history=2)
    await feed.instruments()
    taken: list[tuple[float, bool]] = []

    async def run() -> None:
        async for event in feed.events({}):
            taken.extend((clock.monotonic_s(), e.is_backfill) for e in (event,) if isinstance(e, CandleGroup))

    task = asyncio.create_task(run())
    await clock.advance(10.0)
    await task
    assert taken == [(0.0, True), (0.0, True), (0.0, False), (0.5, False), (1.0, False)]


async def test_a_run_resumed_at_its_end_has_nothing_to_say(paths: dict[str, Path]) -> None:
    whole = await take(feed_of(paths, ManualClock()), 100)
    assert await take(feed_of(paths, ManualClock()), 100, last_known(whole)) == []


async def test_a_gap_that_resuming_skipped_over_is_announced(paths: dict[str, Path]) -> None:
    feed = feed_of({"BTC/USDT": paths["BTC/USDT"]}, ManualClock())
    whole = await take(feed, 100)
    moved = feed_of({"BTC/USDT": paths["BTC/USDT"]}, ManualClock(), start_ms=T0 + 5 * HOUR)
    resumed = await take(moved, 100, last_known(whole[:1]))
    assert resumed[0] == Gap(symbol="BTC/USDT", first_ms=T0 + HOUR, missing=4)


async def test_candles_come_at_the_pace_asked_for(paths: dict[str, Path]) -> None:
    clock = ManualClock()
    feed = feed_of(paths, clock, candles_per_second=2.0)
    await feed.instruments()
    taken: list[float] = []

    async def run() -> None:
        async for event in feed.events({}):
            taken.extend([clock.monotonic_s()] * isinstance(event, CandleGroup))

    task = asyncio.create_task(run())
    await clock.advance(10.0)
    await task
    assert taken == [0.0, 0.5, 1.0, 1.5, 2.0]


async def test_a_broken_file_stops_before_the_first_event(paths: dict[str, Path]) -> None:
    paths["BTC/USDT"].write_text("timestamp_ms,open,high,low,close\n")
    with pytest.raises(DataError, match=r"btc.csv line 1: column volume is missing"):
        await feed_of(paths, ManualClock()).instruments()


async def test_a_span_without_candles_is_refused(paths: dict[str, Path]) -> None:
    with pytest.raises(DataError, match=r"btc.csv: no candle of BTC/USDT opens in the configured span"):
        await take(feed_of({"BTC/USDT": paths["BTC/USDT"]}, ManualClock(), start_ms=T0 + 6 * HOUR), 1)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"symbols": ("SOL/USDT",)}, "no file is given for SOL/USDT: add one"),
        ({"instruments": {}}, "no instrument is given for ETH/USDT, BTC/USDT: add one"),
        ({"start_ms": T0, "end_ms": T0}, "is not before end"),
        ({"history": -1}, "history -1 is below 0"),
    ],
)
def test_an_impossible_feed_is_refused(paths: dict[str, Path], changes: dict[str, object], fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        feed_of(paths, ManualClock(), **changes)


async def test_every_recorded_candle_and_gap_comes_through() -> None:
    path = RECORDED / "btcusdt-1h.csv.gz"
    if not path.exists():
        if os.environ.get("CI") == "true":
            pytest.fail(f"recorded candles are missing: {path}")
        pytest.skip("recorded candles are not here: ../shared/data/binance/btcusdt-1h.csv.gz")
    events = await take(feed_of({"BTC/USDT": path}, ManualClock()), 10**9)
    gaps = [event for event in events if isinstance(event, Gap)]
    assert len(candles_of(events)) == 46_981
    assert (len(gaps), sum(gap.missing for gap in gaps)) == (27, 127)  # as the description of the recordings counts
