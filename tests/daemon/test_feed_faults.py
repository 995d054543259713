"""Faults of the way to a venue and of what it says, through ccxt's own `binance`: rows 2, 7, 10 and 12."""

import asyncio
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from daemon.errors import TransientError
from daemon.ports import FeedHealth, FeedStatus, Gap, LateCandle, MarketTrade
from tests.daemon.feeds import Reader, at, feed_of, live, reading, venue_with
from tests.fakes.binance import FakeBinance, Values

CALM: Values = (100.0, 101.0, 99.0, 100.0, 1.0)
NEXT = "btcusdt@kline_1m"


# ---- row 2: a drop in each phase of a candle ------------------------------------------------------------------------
async def _lose(venue: FakeBinance, reader: Reader, *, meanwhile: Values | None = None) -> None:
    """Cut every socket, and keep them from coming back until the feed has noticed. meanwhile: candle 5 closes."""
    venue.refuses_sockets = True
    await venue.cut()
    if meanwhile is not None:
        await venue.close_candle("BTCUSDT", at(5), meanwhile)
    await reader.until(lambda: reader.statuses()[-1] is not FeedHealth.LIVE)
    venue.refuses_sockets = False


@pytest.mark.fault(2)
@pytest.mark.parametrize("phase", ["before its first trade", "while it forms", "as it closes", "between two messages"])
async def test_a_drop_in_any_phase_of_a_candle_loses_and_repeats_nothing(phase: str) -> None:
    venue, last = venue_with(5), (100.0, 103.0, 97.0, 102.0, 4.0)
    async with live(venue) as reader:
        await reader.until_candle(4)
        if phase != "before its first trade":
            await venue.form("BTCUSDT", at(5), CALM)
        if phase == "between two messages":
            venue.markets["BTCUSDT"].candles[at(5)] = last
            await venue.push_candle("BTCUSDT", at(5), last, is_closed=True)
        await _lose(venue, reader, meanwhile=last if phase == "as it closes" else None)
        await venue.subscribed(NEXT, "btcusdt@trade")
        await venue.close_candle("BTCUSDT", at(5), last)
        await reader.until_candle(5)
        await venue.close_candle("BTCUSDT", at(6), CALM)
        await reader.until_candle(6)
    assert reader.opened() == list(range(7))
    assert [c.values for group in reader.groups for c in group.candles if c.open_ms == at(5)] == [last]
    assert reader.of(Gap) == []
    assert reader.of(LateCandle) == []


# ---- row 7: a price that cannot be ----------------------------------------------------------------------------------
@pytest.mark.fault(7)
async def test_a_spike_that_rest_confirms_and_the_ticker_denies_is_left_out_and_told() -> None:
    venue, spike = venue_with(5), (100.0, 400.0, 99.0, 390.0, 1.0)
    venue.markets["BTCUSDT"].listed.last = Decimal(101)
    async with live(venue) as reader:
        await reader.until_candle(4)
        await venue.close_candle("BTCUSDT", at(5), spike)
        await reader.until(lambda: any("candle that cannot be" in s.detail for s in reader.of(FeedStatus)))
        assert reader.statuses()[-1] is FeedHealth.STALE
        assert "closes at 390" in reader.of(FeedStatus)[-1].detail
        assert "the market trades at 101" in reader.of(FeedStatus)[-1].detail
        await venue.close_candle("BTCUSDT", at(6), CALM)
        await reader.until_candle(6)
        await reader.until(lambda: reader.statuses()[-1] is FeedHealth.LIVE)
    assert reader.opened() == [0, 1, 2, 3, 4, 6]
    assert reader.of(Gap) == [Gap(symbol="BTC/USDT", first_ms=at(5), missing=1)]


@pytest.mark.fault(7)
async def test_a_real_crash_that_the_ticker_bears_out_is_a_candle() -> None:
    venue, crash = venue_with(5), (100.0, 101.0, 30.0, 35.0, 900.0)
    venue.markets["BTCUSDT"].listed.last = Decimal(36)
    async with live(venue) as reader:
        await reader.until_candle(4)
        await venue.close_candle("BTCUSDT", at(5), crash)
        await reader.until_candle(5)
    assert reader.groups[-1].candles[0].values == crash
    assert reader.of(Gap) == []


@pytest.mark.fault(7)
async def test_a_single_trade_half_away_is_no_price_and_two_of_them_are() -> None:
    venue = venue_with(5)
    async with live(venue) as reader:
        for price in (100.0, 20.0, 101.0, 40.0, 41.0, 42.0):
            await venue.trade("BTCUSDT", price, 1.0)
            await asyncio.sleep(0.05)
        await reader.until(lambda: 42.0 in [trade.price for trade in reader.of(MarketTrade)])
    assert [trade.price for trade in reader.of(MarketTrade)] == [100.0, 101.0, 41.0, 42.0]


# ---- row 10: names, certificates, addresses -------------------------------------------------------------------------
@contextmanager
def _broken_resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let no name be found, as when the network or its resolver is gone."""

    def fails(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", fails)
        yield


def _by_name(venue: FakeBinance, name: str = "localhost") -> dict[str, Any]:
    """The venue's addresses with a name in them that has to be found first."""

    def named(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: named(each) for key, each in value.items()}
        return value.replace("127.0.0.1", name)

    return named(venue.ccxt_options())  # type: ignore[no-any-return]


@pytest.mark.fault(10)
async def test_a_name_that_cannot_be_found_for_a_while_stops_nothing_and_the_candles_missed_come_by_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    venue = venue_with(5)
    async with venue, reading(feed_of(venue, ccxt_options=_by_name(venue))) as reader:
        await venue.subscribed(NEXT)
        await reader.until_candle(4)
        with _broken_resolver(monkeypatch):
            await venue.cut()
            for index in (5, 6):
                await venue.close_candle("BTCUSDT", at(index), CALM)
            await reader.until(lambda: FeedHealth.STALE in reader.statuses(), timeout_s=20.0)
        await reader.until_candle(6, "BTC/USDT")
        await venue.subscribed(NEXT)
        await venue.close_candle("BTCUSDT", at(7), CALM)
        await reader.until_candle(7)
    assert reader.opened() == list(range(8))
    assert reader.failure is None


@pytest.mark.fault(10)
async def test_at_the_start_a_name_that_is_never_found_is_one_message_after_bounded_attempts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    venue = venue_with(1)
    feed = feed_of(venue, ccxt_options=_by_name(venue, "venue.invalid"))
    with _broken_resolver(monkeypatch), pytest.raises(TransientError, match="could not be reached in 6 attempts"):
        await feed.instruments()
    await feed.close()


@pytest.mark.fault(10)
async def test_a_dead_address_of_version_six_before_a_living_one_is_stepped_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    venue, find = venue_with(5), socket.getaddrinfo

    def six_first(host: Any, port: Any, *rest: Any, **named: Any) -> Any:
        if host != "localhost":
            return find(host, port, *rest, **named)
        dead = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0))
        alive = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))
        return [dead, alive]

    monkeypatch.setattr(socket, "getaddrinfo", six_first)
    async with venue, reading(feed_of(venue, ccxt_options=_by_name(venue))) as reader:
        await reader.until_candle(4)
        await venue.subscribed(NEXT)
    assert reader.failure is None


@pytest.fixture
def stranger(tmp_path: Path) -> ssl.SSLContext:
    """The server's side of a certificate that nobody vouches for."""
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
               "-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", "/CN=localhost",
               "-addext", "subjectAltName=DNS:localhost"]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context


@pytest.mark.fault(10)
async def test_a_server_whose_certificate_nobody_vouches_for_is_told_nothing(stranger: ssl.SSLContext) -> None:
    heard: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(100))
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0, ssl=stranger)
    port = server.sockets[0].getsockname()[1]
    rest = {
        name: f"https://localhost:{port}/{name}" for name in ("public", "private", "sapi", "fapiPublic", "dapiPublic")
    }
    sockets = {"spot": f"wss://localhost:{port}/stream/ws", "ws-api": {"spot": f"wss://localhost:{port}/ws-api/v3"}}
    venue = venue_with(1)
    feed = feed_of(venue, ccxt_options={"urls": {"api": {**rest, "ws": sockets}}})
    with pytest.raises(TransientError, match=r"(?s)6 attempts.*(CERTIFICATE|certificate|ExchangeNotAvailable)"):
        await feed.instruments()
    await feed.close()
    server.close()
    assert b"".join(heard) == b"", "something was said to a server that may be anybody's"


# ---- row 12: one of several symbols is frozen -----------------------------------------------------------------------
@pytest.mark.fault(12)
async def test_a_frozen_symbol_is_named_though_others_flow_on_the_same_socket_and_does_not_hold_them_up() -> None:
    venue = venue_with(5, "BTC/USDT", "ETH/USDT")
    async with live(venue, "BTC/USDT", "ETH/USDT", stale_after_s=8.0, grace_s=1.0) as reader:
        await reader.until_candle(4)
        for outlet in venue.listeners("ethusdt@kline_1m"):
            outlet.names.discard("ethusdt@kline_1m")
        for index in range(5, 40):
            await venue.close_candle("BTCUSDT", at(index), CALM)
            await asyncio.sleep(0.05)
            if any("ETH/USDT" in s.detail and s.health is FeedHealth.STALE for s in reader.of(FeedStatus)):
                break
        stale = [s for s in reader.of(FeedStatus) if s.health is FeedHealth.STALE]
        await reader.until_candle(index)
    assert stale
    assert all("ETH/USDT" in status.detail and "BTC/USDT" not in status.detail for status in stale)
    assert reader.opened() == list(range(index + 1))
