"""Unmodified ccxt against servers on loopback with the habits of Binance, Kraken and OKX, and with faults."""

import logging
import random
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from strategy.candle import Timeframe
from tests.fakes.binance import walk
from tests.fakes.histories import Candles, Histories
from training.errors import TrainingError
from training.fetch_ccxt import CcxtVenue

HOUR = 3_600_000
T0 = 1_577_836_800_000
HOURLY = Timeframe.parse("1h")


def candles(count: int, seed: int = 1) -> Candles:
    return {T0 + i * HOUR: values for i, values in enumerate(walk(seed, count))}


@pytest.fixture
def server() -> Iterator[Histories]:
    with Histories(candles(50)) as running:
        yield running


class Pauses(list[float]):
    """Stands for sleep: notes how long it was to be."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


def venue_at(server: Histories, exchange: str = "binance", **settings: Any) -> tuple[CcxtVenue, Pauses]:
    pauses = Pauses()
    options = {"enableRateLimit": False, "timeout": 2_000, **settings.pop("options", {})}
    defaults: dict[str, Any] = {"url": server.url, "sleep": pauses, "generator": random.Random(1)}
    return CcxtVenue(exchange, options=options, **{**defaults, **settings}), pauses


def opened(server: Histories, exchange: str = "binance", **settings: Any) -> tuple[CcxtVenue, Pauses]:
    venue, pauses = venue_at(server, exchange, **settings)
    venue.check(["BTC/USD" if exchange == "kraken" else "BTC/USDT"], HOURLY)
    return venue, pauses


def rows(venue: CcxtVenue, since_ms: int | None = T0, limit: int = 5, symbol: str = "BTC/USDT") -> list[Any]:
    return [list(row) for row in venue.rows(symbol, "1h", since_ms, limit)]


# ---- the truth, through three venues ------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("exchange", "symbol", "page"),
    [("binance", "BTC/USDT", 1000), ("okx", "BTC/USDT", 300), ("kraken", "BTC/USD", 720)],
)
def test_rows_are_those_of_the_venue(server: Histories, exchange: str, symbol: str, page: int) -> None:
    venue, _ = opened(server, exchange)
    expected = [[open_ms, *values] for open_ms, values in sorted(server.candles.items())]
    assert rows(venue, T0 + 10 * HOUR, symbol=symbol) == expected[10:15]
    assert rows(venue, None, 3, symbol=symbol)[-1] == expected[-1]
    assert venue.page(symbol) == page
    assert venue.coarse(HOURLY) == Timeframe.parse("1d")
    assert venue.coarse(Timeframe.parse("1d")) is None
    assert abs((venue.now_ms() or 0) - server.now_ms) <= 1_000


def test_only_spot_markets_of_the_given_host_are_asked(server: Histories) -> None:
    opened(server)
    opened(server, "okx")
    assert dict(server.requests) == {"/api/v3/exchangeInfo": 1, "/api/v5/public/instruments": 1}


def test_a_secret_never_reaches_ccxt(server: Histories) -> None:
    venue, _ = opened(server, options={"apiKey": "KEYKEYKEY", "secret": "SECRETSECRET", "password": "PASSPASS"})
    assert not any([venue._exchange.apiKey, venue._exchange.secret, venue._exchange.password])


def test_requests_keep_to_the_rate_limit_of_the_venue(server: Histories, monkeypatch: pytest.MonkeyPatch) -> None:
    venue, _ = opened(server, options={"enableRateLimit": True})
    waited: list[float] = []
    monkeypatch.setattr(sys.modules["ccxt.base.exchange"].time, "sleep", waited.append)
    for _ in range(5):
        rows(venue)
    assert sum(waited) > 4 * 60.0 * 2 / 6_000 * 0.9  # Binance: 6,000 of weight a minute, a klines call weighs 2


# ---- what will not pass is refused at once ------------------------------------------------------------------------
def test_an_unknown_exchange_is_refused_with_near_names(server: Histories) -> None:
    with pytest.raises(
        TrainingError, match=r"--exchange 'binanse': ccxt knows no such exchange; did you mean .*binance"
    ):
        venue_at(server, "binanse")


def test_an_unknown_symbol_is_refused_with_near_names(server: Histories) -> None:
    venue, _ = venue_at(server)
    with pytest.raises(TrainingError, match=r"--symbol BTC/USDX: binance has no such market; did you mean BTC/USDT"):
        venue.check(["ETH/USDT", "BTC/USDX"], HOURLY)


def test_a_timeframe_that_is_not_offered_is_refused_with_those_that_are(server: Histories) -> None:
    venue, _ = venue_at(server)
    with pytest.raises(TrainingError, match=r"--timeframe 7m: binance offers 1s, 1m, 3m"):
        venue.check(["BTC/USDT"], Timeframe.parse("7m"))


@pytest.mark.parametrize(
    ("status", "told"),
    [(451, "does not serve this country"), (403, "does not serve this address"), (401, "it asks for a key")],
)
def test_a_block_is_refused_at_the_first_answer(server: Histories, status: int, told: str) -> None:
    venue, pauses = venue_at(server)
    server.info_faults.append((status, {}, '{"code": 0, "msg": "Service unavailable from a restricted location"}'))
    with pytest.raises(TrainingError, match=rf"binance refuses \(HTTP {status}\): {told}|binance refuses.*{told}"):
        venue.check(["BTC/USDT"], HOURLY)
    assert pauses == []


def test_a_wrong_question_is_refused_at_the_first_answer(server: Histories) -> None:
    venue, pauses = opened(server)
    server.faults.append((400, {}, '{"code": -1100, "msg": "Illegal characters found in a parameter."}'))
    with pytest.raises(TrainingError, match=r"binance refuses: BadRequest: .*Illegal characters"):
        rows(venue)
    assert pauses == []


@pytest.mark.parametrize("url", ["127.0.0.1:80", "ftp://x", "http://", "http://user:hunter22@host:port"])
@pytest.mark.parametrize("option", ["url", "proxy"])
def test_an_address_that_is_none_is_refused_without_being_shown(server: Histories, option: str, url: str) -> None:
    with pytest.raises(TrainingError, match=f"--{option}: not an address") as refusal:
        venue_at(server, **{option: url})
    assert "hunter22" not in str(refusal.value)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"options": {"verbose": True}}, "verbose = true would print every request"),
        ({"options": {"urls": 3}}, "ccxt cannot use these options"),
        ({"sandbox": True, "exchange": "kraken"}, "--sandbox: kraken has none"),
    ],
)
def test_options_that_cannot_work_are_refused(server: Histories, settings: dict[str, Any], told: str) -> None:
    with pytest.raises(TrainingError, match=told):
        venue_at(server, **settings)


def test_a_sandbox_is_another_venue(server: Histories) -> None:
    venue, _ = opened(server, sandbox=True)
    assert venue.name == "binance sandbox"
    assert len(rows(venue)) == 5


# ---- what may pass is waited out ----------------------------------------------------------------------------------
def html(status: int) -> tuple[int, dict[str, str], str]:
    return status, {}, "<html>busy</html>"


@pytest.mark.parametrize(
    "fault",
    [
        (0, {}, ""),
        html(500),
        html(502),
        html(503),
        html(504),
        (429, {}, '{"code": -1003, "msg": "Too much request weight used."}'),
        (418, {"Retry-After": "3"}, '{"code": -1003, "msg": "Way too much request weight used; banned."}'),
        (200, {}, '[[1577836800000, "1.0", "2.0"'),
        (200, {}, "<html>200</html>"),
        (200, {}, ""),
        (200, {}, '{"code": "?"}'),
        (200, {}, "null"),
        (503, {}, '{"code": -1008, "msg": "Server is currently overloaded."}'),
    ],
    ids=["cut", "500", "502", "503", "504", "429", "418", "truncated", "html", "empty", "object", "null",
         "overloaded"],
)  # fmt: skip
def test_a_trouble_that_passes_is_waited_out(server: Histories, fault: tuple[int, dict[str, str], str]) -> None:
    venue, pauses = opened(server)
    server.faults.extend([fault, fault])
    assert [row[0] for row in rows(venue)] == [T0 + i * HOUR for i in range(5)]
    assert len(pauses) == 2


def test_a_timeout_is_waited_out(server: Histories) -> None:
    venue, pauses = opened(server, options={"timeout": 200})
    delays = iter([1.0])

    def delay(_: int) -> None:
        server.delay_s = next(delays, 0.0)

    server.on_candles = delay
    assert len(rows(venue)) == 5
    assert len(pauses) == 1


def test_pauses_grow_with_jitter_and_end(server: Histories) -> None:
    venue, pauses = opened(server)
    server.faults.extend([html(502)] * 20)
    with pytest.raises(TrainingError, match=r"binance did not answer in 8 attempts: ExchangeNotAvailable: .*502"):
        rows(venue)
    assert len(pauses) == 7
    assert all(0.0 <= pause <= 0.5 * 2**attempt for attempt, pause in enumerate(pauses))
    assert len(set(pauses)) == 7
    assert max(pauses) > 4.0


def test_a_wait_that_the_venue_asks_for_is_kept(server: Histories) -> None:
    said: list[str] = []
    venue, pauses = opened(server, say=said.append)
    server.faults.append((429, {"Retry-After": "17"}, '{"code": -1003, "msg": "Too many requests."}'))
    rows(venue)
    assert 17.0 <= pauses[0] <= 17.5
    [told] = said
    assert "Too many requests." in told
    assert told.endswith("; asking again in 17 s")


def test_a_long_ban_is_told_and_not_sat_through(server: Histories) -> None:
    venue, pauses = opened(server)
    server.faults.append((418, {"Retry-After": "7200"}, '{"code": -1003, "msg": "IP banned."}'))
    with pytest.raises(TrainingError, match=r"not to be asked for another 7,200 s: run the same command after that"):
        rows(venue)
    assert pauses == []


def test_no_answer_at_all_is_one_line_without_query_and_password() -> None:
    venue = CcxtVenue(
        "binance", url="http://me:hunter22@127.0.0.1:9", options={"timeout": 500}, sleep=Pauses()
    )  # port 9: nobody listens
    with pytest.raises(TrainingError) as refusal:
        venue.check(["BTC/USDT"], HOURLY)
    text = str(refusal.value)
    assert text.startswith("binance did not answer in 8 attempts: ")
    assert "\n" not in text
    assert "hunter22" not in text
    assert "?" not in text


def test_a_proxy_takes_every_request_and_its_password_is_not_told(
    server: Histories, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    venue = CcxtVenue(
        "binance", url="http://nowhere.invalid", proxy=server.url.replace("//", "//me:hunter22@"), sleep=Pauses()
    )
    venue.check(["BTC/USDT"], HOURLY)
    assert len(rows(venue)) == 5
    assert server.requests["/api/v3/exchangeInfo"] == 1
    dead = CcxtVenue("binance", url="http://nowhere.invalid", proxy="http://me:hunter22@127.0.0.1:9", sleep=Pauses())
    with pytest.raises(TrainingError) as refusal:
        dead.check(["BTC/USDT"], HOURLY)
    assert "hunter22" not in str(refusal.value) + caplog.text


def test_ccxt_is_not_loaded_before_a_fetch_begins(run_python: Callable[[str], str]) -> None:
    code = "import sys, training.__main__, training.fetch_ccxt; print('ccxt' in sys.modules)"
    assert run_python(code).strip() == "False"


@pytest.fixture
def run_python() -> Callable[[str], str]:
    import subprocess  # noqa: PLC0415

    return lambda code: subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
