"""The daemon as a whole where the command line alone does not reach: failing disks, mute venues, a live stream."""

import asyncio
import io
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from daemon import journal_reader
from daemon.app import App, make_feed
from daemon.clock import SystemClock
from daemon.config import load_config
from daemon.errors import SacdError
from daemon.ports import CandleGroup
from daemon.replay import replay
from tests.daemon.programs import SACD, Running, sacd
from tests.fakes.binance import FakeBinance, Market, walk
from tests.fakes.serving import Place, make_place

_PATCHED = """
import sys, asyncio
from daemon import app
from daemon.errors import FatalError
{patch}
from daemon.__main__ import main
main()
"""
_FAILING_DISK = """
from daemon.journal import SqliteJournal
append = SqliteJournal.append
async def fail(self, records):
    if any(record.kind == {kind!r} for record in records):
        raise FatalError("journal x cannot be written (no space left on device): check the disk, then restart")
    return await append(self, records)
SqliteJournal.append = fail
"""
_MUTE_VENUE = """
make = app.make_feed
def make_mute(config, clock, budget):
    feed = make(config, clock, budget)
    async def instruments():
        app._log.info("asking")
        await asyncio.Event().wait()
    feed.instruments = instruments
    return feed
app.make_feed = make_mute
"""


def _patched(config: Path, patch: str) -> Running:
    return Running(config, command=[SACD[0], "-c", _PATCHED.format(patch=patch), "run"])


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = make_place(tmp_path)
    made.configure(market={"candles_per_second": 20.0})
    return made


@pytest.mark.fault(49)
def test_a_disk_that_fails_ends_the_daemon_with_one_message(place: Place) -> None:
    with _patched(place.config, _FAILING_DISK.format(kind="decision")) as running:
        code, error = running.end()
    assert code == 1
    assert error.startswith("sacd: journal x cannot be written (no space left on device)")
    assert "Traceback" not in error
    assert not list(journal_reader.read(place.journal(), kinds={"decision", "stop"}))


def test_a_command_that_cannot_be_journalled_is_refused_and_ends_the_daemon(place: Place) -> None:
    with _patched(place.config, _FAILING_DISK.format(kind="command")) as running:
        running.wait_for("candle", 3)
        asked = sacd("flatten", cwd=place.root)
        code, error = running.end(5.0)
    assert asked.returncode == 1
    assert "no space left" in asked.stderr
    assert code == 1
    assert error.count("no space left") == 1
    assert "Traceback" not in error


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_venue_that_does_not_answer_does_not_keep_ctrl_c_waiting(place: Place, number: signal.Signals) -> None:
    with _patched(place.config, _MUTE_VENUE) as running:
        running.wait_for("asking")
        code, seconds, error = running.signal(number)
    assert (code, error) == (0, "")
    assert seconds < 2.0
    assert running.lines[-1]["event"] == "stopped"
    assert _files_of_an_account(place) == []


def _files_of_an_account(place: Place) -> list[str]:
    return [path.name for path in (place.root / "var").iterdir()]


def test_a_broken_data_file_leaves_no_account_behind(place: Place) -> None:
    data = place.root / "broken.csv"
    data.write_text("timestamp_ms,open\n1,2\n", encoding="utf-8")
    place.configure(
        market={"source": "file"}, extra=f'[market.file.paths]\n"BTC/USDT" = "{data}"\n"ETH/USDT" = "{data}"\n'
    )
    with Running(place.config) as running:
        code, error = running.end()
    assert code != 0
    assert "broken.csv" in error
    assert _files_of_an_account(place) == []


async def test_recorded_candles_before_start_fill_the_window_at_once(place: Place) -> None:
    begin_ms, hour_ms = 1_609_459_200_000, 3_600_000  # 2021-01-01
    rows = [f"{begin_ms + hour * hour_ms},100,101,99,100,5" for hour in range(2_600)]
    data = place.root / "hours.csv"
    data.write_text("\n".join(["timestamp_ms,open,high,low,close,volume", *rows, ""]), encoding="utf-8")
    place.configure(
        market={"source": "file", "candles_per_second": 0},
        extra=f'[market.file]\nstart = "2021-04-16"\npaths = {{ "BTC/USDT" = "{data}", "ETH/USDT" = "{data}" }}\n',
    )
    feed = make_feed(load_config(place.config, {}), SystemClock())
    await feed.instruments()
    groups = [event async for event in feed.events({}) if isinstance(event, CandleGroup)]
    first_trading_hour = 105 * 24  # 31 + 28 + 31 + 15 days
    assert [group.is_backfill for group in groups] == [True] * 2_501 + [False] * (2_600 - first_trading_hour)
    assert groups[2_501].candles[0].open_ms == begin_ms + first_trading_hour * hour_ms


def test_an_occupied_port_leaves_no_account_behind(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with Running(place.config, SACD_HTTP__ENABLED="true", SACD_HTTP__PORT=str(port)) as running:
            code, error = running.end()
    assert code != 0
    assert str(port) in error
    assert _files_of_an_account(place) == []


def test_a_market_of_another_seed_is_refused_before_a_run_is_on_record(place: Place) -> None:
    with Running(place.config) as running:
        running.wait_for("candle")
        assert running.signal(signal.SIGINT)[0] == 0
    before = journal_reader.tail(place.journal(), 1)
    with Running(place.config, SACD_MARKET__SIMULATED__SEED="4321") as running:
        code, error = running.end()
    assert code != 0
    assert "seed 4321 does not make" in error
    assert running.called("recovered") == []
    assert journal_reader.tail(place.journal(), 1) == before


@pytest.mark.parametrize("verb", ["pause", "resume", "flatten"])
async def test_commands_wait_until_the_run_has_begun(place: Place, verb: str) -> None:
    app = App(load_config(place.config, {}), {}, Console(file=io.StringIO()), io.StringIO())
    nothing: Any = SimpleNamespace()
    with pytest.raises(SacdError, match=rf"starting and cannot {verb} yet"):
        await app._control(nothing, nothing, nothing, verb, {})


# ---- a live stream ----------------------------------------------------------------------------------------------
SPAN_MS = 60_000
HISTORY = 2_520


class LiveVenue:
    """A venue that trades in fast motion: every minute of its time is over as soon as the daemon has taken it."""

    def __init__(self, venue: FakeBinance) -> None:
        self.venue = venue
        self.traded: dict[int, float] = {}
        self._series = {market: walk(seed, HISTORY + 60) for seed, market in enumerate(venue.markets)}
        start = SystemClock().now_ms() // SPAN_MS * SPAN_MS - HISTORY * SPAN_MS
        self._times = [start + i * SPAN_MS for i in range(HISTORY + 60)]
        self._at = HISTORY
        for name, market in venue.markets.items():
            market.candles = {self._times[i]: self._series[name][i] for i in range(HISTORY + 1)}
        venue.now_ms = self._times[HISTORY] + 1

    async def minute(self, running: Running) -> None:
        """Close one candle of every symbol, wait for the decisions on them, then let one trade of each follow."""
        decided = len(running.called("candle"))
        for name in self.venue.markets:
            await self.venue.close_candle(name, self._times[self._at], self._series[name][self._at])
        await asyncio.to_thread(running.wait_for, "candle", decided + 1)
        self._at += 1
        for i, name in enumerate(self.venue.markets):
            at_ms = self.venue.now_ms + 100 * i
            price = round(self._series[name][self._at][0] * 1.01, 2)
            self.traded[at_ms] = price
            await self.venue.trade(name, price, 1.0, at_ms)

    async def listened(self) -> None:
        names = [name.lower() for name in self.venue.markets]
        streams = [f"{name}@{kind}" for name in names for kind in ("kline_1m", "trade")]
        async with asyncio.timeout(60.0):
            await self.venue.subscribed(*streams)


@pytest.fixture
async def live(tmp_path: Path) -> AsyncIterator[tuple[Place, LiveVenue]]:
    async with FakeBinance([Market("BTC", "USDT"), Market("ETH", "USDT")]) as venue:
        place = make_place(tmp_path, timeframe="1m")
        api = venue.ccxt_options()["urls"]["api"]
        flat = "".join(f'"{key}" = "{url}"\n' for key, url in api.items() if isinstance(url, str))
        sockets = f'[exchange.ccxt.urls.api.ws]\n"spot" = "{api["ws"]["spot"]}"\n'
        place.configure(
            market={"source": "exchange", "timeframe": "1m", "symbols": ["BTC/USDT", "ETH/USDT"]},
            # The venue's minutes pass faster than ours.
            risk={"clock_skew_s": 3_600.0, "stale_feed_s": 86_400.0, "max_turnover_per_day": 1000.0,
                  "max_orders_per_day": 1000, "stop_loss": 0.02, "daily_loss": 0.5, "stop_cooldown": 1},
            extra=f"[exchange.ccxt.urls.api]\n{flat}{sockets}",
        )  # fmt: skip
        yield place, LiveVenue(venue)


async def test_on_a_live_stream_it_fills_at_trades_and_survives_a_kill(live: tuple[Place, LiveVenue]) -> None:
    place, venue = live
    journal = place.root / "var" / "test-exchange.sqlite"
    with Running(place.config) as running:
        await asyncio.to_thread(running.wait_for, "started")
        await venue.listened()
        for _ in range(12):
            await venue.minute(running)
        running.process.kill()
        await asyncio.to_thread(running.end)
    with Running(place.config) as running:
        started = await asyncio.to_thread(running.wait_for, "started")
        assert started["resumed"] is True
        await venue.listened()
        for _ in range(12):
            await venue.minute(running)
        code, seconds, error = await asyncio.to_thread(running.signal, signal.SIGTERM)
    assert (code, error) == (0, "")
    assert seconds < 2.0
    assert journal_reader.verify(journal).is_sound
    assert replay(journal, place.root / "models").differ == 0
    _check_fills(journal, venue.traded)


def _check_fills(journal: Path, traded: dict[int, float]) -> None:
    """Every fill stands at a trade of the venue, worse by the slippage of 5 basis points and at most a tick."""
    fills = [entry.payload for entry in journal_reader.read(journal, kinds={"fill"})]
    assert len(fills) >= 5
    for fill in fills:
        price = traded[fill["at_ms"]]
        worse = price * (1.0005 if fill["side"] == "buy" else 0.9995)
        assert abs(fill["price"] - worse) <= 0.01
        assert (fill["price"] > price) is (fill["side"] == "buy")
    assert len({fill["client_id"] for fill in fills}) == len(fills)
