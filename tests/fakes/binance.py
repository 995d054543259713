"""The shipped venue under a script that no market would follow: raw candle rows, wrong ones too, answer by answer.

REST and websockets are those of `daemon.testvenue`; only what the public candles say is the script's. The venue's time
is the script's as well: nothing happens here unless a test, or `python -m tests.fakes.binance`, makes it.
"""

import argparse
import asyncio
import json
import math
import random
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Self

from aiohttp import WSCloseCode

from daemon.clock import SystemClock
from daemon.testvenue.binance import BinanceDialect
from daemon.testvenue.binance_call import Call
from daemon.testvenue.binance_public import PublicCalls
from daemon.testvenue.binance_words import ApiError
from daemon.testvenue.faults import Fault, What
from daemon.testvenue.market import Market as Listed
from daemon.testvenue.market import Status
from daemon.testvenue.server import TestVenue
from daemon.testvenue.sockets import Outlet

UNITS_MS = {"m": 60_000, "h": 3_600_000, "d": 86_400_000}
Values = tuple[Any, Any, Any, Any, Any]
"""Open, high, low, close, volume. Any of them may be None or NaN: the venue does not check what a script gives it."""


@dataclass
class Market:
    """One listed pair and what REST knows of its candles, by open time; the newest one is forming."""

    base: str
    quote: str
    candles: dict[int, Values] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.listed = Listed(base=self.base, quote=self.quote, last=Decimal(100))

    @property
    def id(self) -> str:
        return self.base + self.quote

    @property
    def status(self) -> str:
        return self.listed.status.name

    @status.setter
    def status(self, name: str) -> None:
        self.listed.status = Status[name]


class FakeBinance:
    """The venue. Times are open times in ms; `now_ms` is what `GET time` answers.

    rest_faults: answers given to the next REST calls instead of the truth, as (status, headers, body).
    is_muted: subscriptions are kept and TCP stays up, but nothing is pushed.
    klines_asked: the queries of each klines call.
    """

    def __init__(self, markets: Iterable[Market], *, timeframe: str = "1m", now_ms: int = 1_600_000_000_000) -> None:
        self.markets = {market.id: market for market in markets}
        self.timeframe = timeframe
        self.span_ms = int(timeframe[:-1]) * UNITS_MS[timeframe[-1]]
        self.rest_faults: deque[tuple[int, Mapping[str, str], str]] = deque()
        self.refuses_sockets = False
        self.is_muted = False
        self.klines_asked: list[dict[str, str]] = []
        self._trade_id = 0
        listed = [market.listed for market in self.markets.values()]
        self._venue = TestVenue(listed, clock=SystemClock(), checks_time=False, weight_per_minute=10**9)
        self._venue.faults.take = self._fault  # type: ignore[method-assign]
        dialect = self._venue.dialects[0]
        assert isinstance(dialect, BinanceDialect)
        dialect._public = _RawCandles(self)
        self._streams = dialect.streams
        self.now_ms = now_ms

    # ---- life -----------------------------------------------------------------------------------------------------
    async def start(self, port: int = 0) -> Self:
        await self._venue.start(port)
        return self

    async def stop(self) -> None:
        await self.cut()
        await self._venue.close()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def now_ms(self) -> int:
        return self._venue.time.now_ms()

    @now_ms.setter
    def now_ms(self, at_ms: int) -> None:
        self._venue.time.pinned_ms = at_ms

    @property
    def sockets_opened(self) -> int:
        return self._streams.opened

    def ccxt_options(self) -> dict[str, Any]:
        """What `[exchange]` of the configuration holds to send ccxt's `binance` here."""
        return {"urls": self._venue.ccxt_options()["urls"]}

    # ---- the script -----------------------------------------------------------------------------------------------
    async def form(self, market: str, open_ms: int, values: Values) -> None:
        """Change the forming candle, or begin it, in REST and on the stream."""
        self.markets[market].candles[open_ms] = values
        self.now_ms = max(self.now_ms, open_ms + 1)
        await self.push_candle(market, open_ms, values)

    async def close_candle(self, market: str, open_ms: int, values: Values) -> None:
        """Finish the candle and begin the next one at its close: two messages, as the venue sends them."""
        self.markets[market].candles[open_ms] = values
        await self.push_candle(market, open_ms, values, is_closed=True)
        close = values[3]
        await self.form(market, open_ms + self.span_ms, (close, close, close, close, 0.0))

    async def push_candle(self, market: str, open_ms: int, values: Values, *, is_closed: bool = False) -> None:
        """Send a candle on the stream only; REST keeps what it has."""
        opened, high, low, close, volume = (_text(value) for value in values)
        kline = {
            "t": open_ms, "T": open_ms + self.span_ms - 1, "s": market, "i": self.timeframe, "f": 1, "L": 2,
            "o": opened, "c": close, "h": high, "l": low, "v": volume, "n": 2, "x": is_closed,
            "q": "0", "V": "0", "Q": "0", "B": "0",
        }  # fmt: skip
        stream = f"{market.lower()}@kline_{self.timeframe}"
        await self._push(stream, {"e": "kline", "E": self.now_ms, "s": market, "k": kline})

    async def trade(self, market: str, price: float, quantity: float, at_ms: int | None = None) -> None:
        """Send a trade."""
        self._trade_id += 1
        at_ms = self.now_ms if at_ms is None else at_ms
        await self._push(
            f"{market.lower()}@trade",
            {
                "e": "trade", "E": at_ms, "s": market, "t": self._trade_id, "p": _text(price), "q": _text(quantity),
                "T": at_ms, "m": False, "M": True,
            },
        )  # fmt: skip

    async def push_raw(self, stream: str, text: str) -> None:
        """Send any text to whoever subscribed to `stream`."""
        for outlet in self.listeners(stream):
            outlet.answer(text)
        await asyncio.sleep(0)

    async def cut(self) -> None:
        """Close every websocket as a venue does that restarts."""
        for outlet in list(self._streams.outlets):
            await outlet.response.close(code=WSCloseCode.SERVICE_RESTART)

    def abort(self) -> None:
        """Cut the TCP connections of all websockets without a word."""
        for outlet in list(self._streams.outlets):
            outlet.abort()

    def listeners(self, stream: str) -> list[Outlet]:
        return self._streams.listeners(stream)

    async def subscribed(self, *streams: str) -> None:
        """Wait until every one of `streams` has a listener."""
        while not all(self.listeners(stream) for stream in streams):  # noqa: ASYNC110  # only tests wait here
            await asyncio.sleep(0.005)

    async def _push(self, stream: str, data: dict[str, Any]) -> None:
        self._streams.send(stream, data)
        await asyncio.sleep(0)  # the sockets' writers run

    def _fault(self, method: str, path: str, _params: Mapping[str, str]) -> Fault | None:
        if method == "stream":
            return Fault(where="stream", what=What.SILENCE) if self.is_muted else None
        if path.startswith("stream"):
            return Fault(where="GET *", what=What.REPLY, status=503) if self.refuses_sockets else None
        if not self.rest_faults:
            return None
        status, headers, body = self.rest_faults.popleft()
        return Fault(where="GET *", what=What.REPLY, status=status, headers=headers, body=body)


class _RawCandles(PublicCalls):
    """The public calls, with the candles of the script."""

    def __init__(self, script: FakeBinance) -> None:
        super().__init__(script._venue.book)
        self._script = script

    def klines(self, call: Call) -> list[list[Any]]:
        self._script.klines_asked.append(dict(call.params))
        market = self._script.markets.get(call.params.get("symbol", ""))
        if market is None or call.params.get("interval") != self._script.timeframe:
            raise ApiError(-1121, "Invalid symbol.")
        limit = call.limit(500, 1_000)
        start, end = call.integer("startTime", 0) or 0, call.integer("endTime", 2**62) or 0
        times = [open_ms for open_ms in sorted(market.candles) if start <= open_ms <= end]
        times = times[:limit] if "startTime" in call.params else times[-limit:]
        return [self._row(open_ms, market.candles[open_ms]) for open_ms in times]

    def _row(self, open_ms: int, values: Values) -> list[Any]:
        prices = [_text(value) for value in values]
        return [open_ms, *prices, open_ms + self._script.span_ms - 1, "0", 1, "0", "0", "0"]


def _text(value: float | None) -> str | None:
    if value is None:
        return None
    return "NaN" if math.isnan(value) else f"{value:.8f}"


def walk(seed: int, count: int, start: float = 100.0) -> list[Values]:
    """Return `count` plausible candles of a random walk, rounded to cents so that text and float agree."""
    generator, price, candles = random.Random(seed), start, []
    for _ in range(count):
        close = round(max(1.0, price * (1.0 + generator.uniform(-0.01, 0.01))), 2)
        high = round(max(price, close) + generator.uniform(0.0, 0.5), 2)
        low = round(max(0.01, min(price, close) - generator.uniform(0.0, 0.5)), 2)
        candles.append((price, high, low, close, round(generator.uniform(0.0, 50.0), 3)))
        price = close
    return candles


async def play(arguments: argparse.Namespace) -> None:
    """Serve a random market of the past: `--candles` of history, then a candle every `--every` seconds with trades.

    `python -m daemon.testvenue --present` plays in the present, where a daemon also buys.
    """
    markets = [Market("BTC", "USDT"), Market("ETH", "USDT")]
    venue = FakeBinance(markets, timeframe=arguments.timeframe)
    first_ms = venue.now_ms // venue.span_ms * venue.span_ms
    series = {market.id: walk(seed, 100_000) for seed, market in enumerate(markets)}
    for market in markets:
        market.candles = {first_ms + i * venue.span_ms: series[market.id][i] for i in range(arguments.candles + 1)}
    venue.now_ms = first_ms + arguments.candles * venue.span_ms + 1
    await venue.start(arguments.port)
    print(json.dumps(venue.ccxt_options(), indent=2), flush=True)  # noqa: T201  # what to copy into [exchange]
    for index in range(arguments.candles, 99_999):
        open_ms = first_ms + index * venue.span_ms
        for step in range(1, 5):
            await asyncio.sleep(arguments.every / 4)
            venue.now_ms = open_ms + step * venue.span_ms // 5
            for market in markets:
                opened, high, low, close, volume = series[market.id][index]
                price = (low, high, opened, close)[step - 1]
                await venue.trade(market.id, price, volume / 4)
                await venue.push_candle(market.id, open_ms, (opened, high, low, price, volume * step / 4))
        for market in markets:
            await venue.close_candle(market.id, open_ms, series[market.id][index])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=play.__doc__)
    parser.add_argument("--port", type=int, default=8_999)
    parser.add_argument("--timeframe", default="1m")
    parser.add_argument("--candles", type=int, default=3_000)
    parser.add_argument("--every", type=float, default=2.0, help="seconds per candle")
    asyncio.run(play(parser.parse_args()))
