"""A Binance-compatible spot venue on loopback, public data only: REST and websocket, driven by a script.

The venue's time is the script's: nothing happens here unless a test, or `python -m tests.fakes.binance`, makes it.
Message forms follow Binance's own documents (binance-spot-api-docs, rest-api.md and web-socket-streams.md).
"""

import argparse
import asyncio
import contextlib
import json
import math
import random
import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import WSCloseCode, web

UNITS_MS = {"m": 60_000, "h": 3_600_000, "d": 86_400_000}
Values = tuple[Any, Any, Any, Any, Any]
"""Open, high, low, close, volume. Any of them may be None or NaN: the venue does not check what a script gives it."""


@dataclass
class Market:
    """One listed pair and what REST knows of its candles, by open time; the newest one is forming."""

    base: str
    quote: str
    tick: str = "0.01000000"
    lot: str = "0.00001000"
    min_notional: str = "5.00000000"
    status: str = "TRADING"
    candles: dict[int, Values] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return self.base + self.quote

    def listing(self) -> dict[str, Any]:
        return {
            "symbol": self.id, "status": self.status, "baseAsset": self.base, "baseAssetPrecision": 8,
            "quoteAsset": self.quote, "quotePrecision": 8, "quoteAssetPrecision": 8,
            "orderTypes": ["LIMIT", "MARKET"], "isSpotTradingAllowed": True, "isMarginTradingAllowed": False,
            "filters": [
                {"filterType": "PRICE_FILTER", "minPrice": self.tick, "maxPrice": "1000000.0", "tickSize": self.tick},
                {"filterType": "LOT_SIZE", "minQty": self.lot, "maxQty": "9000.0", "stepSize": self.lot},
                {"filterType": "NOTIONAL", "minNotional": self.min_notional, "maxNotional": "9000000.0"},
            ],
            "permissions": ["SPOT"],
        }  # fmt: skip


@dataclass(eq=False)
class Socket:
    """One open websocket and the streams it has subscribed to."""

    response: web.WebSocketResponse
    streams: set[str] = field(default_factory=set)
    is_combined: bool = False


class FakeBinance:
    """The venue. Times are open times in ms; `now_ms` is what `GET time` answers.

    rest_faults: answers given to the next REST calls instead of the truth, as (status, headers, body).
    is_muted: subscriptions are kept and TCP stays up, but nothing is pushed.
    requests: how often each REST path was called.  klines_asked: the queries of each klines call.
    """

    def __init__(self, markets: Iterable[Market], *, timeframe: str = "1m", now_ms: int = 1_600_000_000_000) -> None:
        self.markets = {market.id: market for market in markets}
        self.timeframe = timeframe
        self.span_ms = int(timeframe[:-1]) * UNITS_MS[timeframe[-1]]
        self.now_ms = now_ms
        self.rest_faults: deque[tuple[int, Mapping[str, str], str]] = deque()
        self.rest_delay_s: dict[str, float] = {}
        self.refuses_sockets = False
        self.is_muted = False
        self.sockets: list[Socket] = []
        self.sockets_opened = 0
        self.requests: Counter[str] = Counter()
        self.klines_asked: list[dict[str, str]] = []
        self._trade_id = 0
        self._runner: web.AppRunner | None = None
        self.port = 0

    # ---- life -----------------------------------------------------------------------------------------------------
    async def start(self, port: int = 0) -> Self:
        app = web.Application()
        app.router.add_get("/api/v3/ping", self._ping)
        app.router.add_get("/api/v3/time", self._time)
        app.router.add_get("/api/v3/exchangeInfo", self._exchange_info)
        app.router.add_get("/api/v3/klines", self._klines)
        app.router.add_get("/stream/ws/{index}", self._socket)
        app.router.add_get("/ws/{stream}", self._socket)
        app.router.add_get("/stream", self._socket)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def stop(self) -> None:
        await self.cut()
        if self._runner is not None:
            await self._runner.cleanup()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def ccxt_options(self) -> dict[str, Any]:
        """What `[exchange]` of the configuration holds to send ccxt's `binance` here."""
        rest, sockets = f"http://127.0.0.1:{self.port}", f"ws://127.0.0.1:{self.port}"
        return {
            "urls": {
                "api": {
                    "public": rest + "/api/v3", "private": rest + "/api/v3", "sapi": rest + "/sapi/v1",
                    "fapiPublic": rest + "/fapi/v1", "dapiPublic": rest + "/dapi/v1",
                    "ws": {"spot": sockets + "/stream/ws", "ws-api": {"spot": sockets + "/ws-api/v3"}},
                }
            }
        }  # fmt: skip

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

    async def quote(self, market: str, bid: float, ask: float) -> None:
        """Send the best bid and ask."""
        message = {"u": self.now_ms, "s": market, "b": _text(bid), "B": "1.0", "a": _text(ask), "A": "1.0"}
        await self._push(f"{market.lower()}@bookTicker", message)

    async def push_raw(self, stream: str, text: str) -> None:
        """Send any text to whoever subscribed to `stream`."""
        for socket in self.listeners(stream):
            await socket.response.send_str(text)

    async def cut(self) -> None:
        """Close every websocket as a venue does that restarts."""
        for socket in list(self.sockets):
            await socket.response.close(code=WSCloseCode.SERVICE_RESTART)

    def abort(self) -> None:
        """Cut the TCP connections of all websockets without a word."""
        for socket in list(self.sockets):
            transport = socket.response._req.transport if socket.response._req is not None else None
            if transport is not None:
                transport.abort()

    def listeners(self, stream: str) -> list[Socket]:
        return [socket for socket in self.sockets if stream in socket.streams and not socket.response.closed]

    async def subscribed(self, *streams: str) -> None:
        """Wait until every one of `streams` has a listener."""
        while not all(self.listeners(stream) for stream in streams):  # noqa: ASYNC110  # only tests wait here
            await asyncio.sleep(0.005)

    async def _push(self, stream: str, data: dict[str, Any]) -> None:
        if self.is_muted:
            return
        for socket in self.listeners(stream):
            message = {"stream": stream, "data": data} if socket.is_combined else data
            with contextlib.suppress(ConnectionResetError):  # as the venue would, it goes on with the others
                await socket.response.send_str(json.dumps(message))

    # ---- REST -----------------------------------------------------------------------------------------------------
    async def _fault(self, request: web.Request) -> web.Response | None:
        self.requests[request.path] += 1
        await asyncio.sleep(self.rest_delay_s.get(request.query.get("symbol", ""), 0.0))
        if not self.rest_faults:
            return None
        status, headers, body = self.rest_faults.popleft()
        return web.Response(status=status, headers=headers, text=body, content_type="application/json")

    async def _ping(self, request: web.Request) -> web.Response:
        return await self._fault(request) or web.json_response({})

    async def _time(self, request: web.Request) -> web.Response:
        return await self._fault(request) or web.json_response({"serverTime": self.now_ms})

    async def _exchange_info(self, request: web.Request) -> web.Response:
        listings = [market.listing() for market in self.markets.values()]
        body = {"timezone": "UTC", "serverTime": self.now_ms, "rateLimits": [], "symbols": listings}
        return await self._fault(request) or web.json_response(body)

    async def _klines(self, request: web.Request) -> web.Response:
        self.klines_asked.append(dict(request.query))
        if (fault := await self._fault(request)) is not None:
            return fault
        market = self.markets.get(request.query.get("symbol", ""))
        if market is None or request.query.get("interval") != self.timeframe:
            return web.json_response({"code": -1121, "msg": "Invalid symbol."}, status=400)
        limit = min(int(request.query.get("limit", "500")), 1_000)
        start, end = int(request.query.get("startTime", "0")), int(request.query.get("endTime", str(2**62)))
        times = [open_ms for open_ms in sorted(market.candles) if start <= open_ms <= end]
        times = times[:limit] if "startTime" in request.query else times[-limit:]
        return web.json_response([self._kline(open_ms, market.candles[open_ms]) for open_ms in times])

    def _kline(self, open_ms: int, values: Values) -> list[Any]:
        prices = [_text(value) for value in values]
        return [open_ms, *prices, open_ms + self.span_ms - 1, "0", 1, "0", "0", "0"]

    # ---- websocket ------------------------------------------------------------------------------------------------
    async def _socket(self, request: web.Request) -> web.StreamResponse:
        if self.refuses_sockets:
            return web.Response(status=503, text="Service Unavailable")
        response = web.WebSocketResponse(autoping=True)
        await response.prepare(request)
        socket = Socket(response)
        if "streams" in request.query:
            socket.streams.update(request.query["streams"].split("/"))
            socket.is_combined = True
        elif "stream" in request.match_info:
            socket.streams.add(request.match_info["stream"])
        self.sockets.append(socket)
        self.sockets_opened += 1
        try:
            async for message in response:
                await self._on_request(socket, json.loads(message.data))
        finally:
            self.sockets.remove(socket)
        return response

    async def _on_request(self, socket: Socket, request: dict[str, Any]) -> None:
        match request.get("method"):
            case "SUBSCRIBE":
                socket.streams.update(request["params"])
                answer: dict[str, Any] = {"result": None, "id": request["id"]}
            case "UNSUBSCRIBE":
                socket.streams.difference_update(request["params"])
                answer = {"result": None, "id": request["id"]}
            case "LIST_SUBSCRIPTIONS":
                answer = {"result": sorted(socket.streams), "id": request["id"]}
            case other:
                answer = {"error": {"code": 2, "msg": f"Invalid request: unknown method {other}"}}
        await socket.response.send_str(json.dumps(answer))


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


def end_history_at(venue: FakeBinance, now_ms: int, count: int) -> None:
    """Give every market `count` closed candles up to `now_ms`, and the one that is forming then, without a trade."""
    venue.now_ms = now_ms
    forming_ms = now_ms // venue.span_ms * venue.span_ms
    for seed, market in enumerate(venue.markets.values()):
        past = walk(seed, count)
        close = past[-1][3]
        series = [*past, (close, close, close, close, 0.0)]
        market.candles = {forming_ms + (i - count) * venue.span_ms: values for i, values in enumerate(series)}


async def live_second(venue: FakeBinance, generator: random.Random, now_ms: int) -> None:
    """Close what is over by `now_ms`, then trade once in every market and change its forming candle.

    Prices and volumes of a candle become as large as those of `walk`.
    """
    venue.now_ms, span_s = now_ms, venue.span_ms / 1e3
    for market in venue.markets.values():
        open_ms = next(reversed(market.candles))
        while open_ms + venue.span_ms <= now_ms:
            await venue.close_candle(market.id, open_ms, market.candles[open_ms])
            open_ms += venue.span_ms
        opened, high, low, close, volume = market.candles[open_ms]
        price = max(1.0, round(close * (1.0 + generator.uniform(-0.01, 0.01) / math.sqrt(span_s)), 2))
        quantity = round(generator.uniform(10.0, 40.0) / span_s, 5)
        await venue.trade(market.id, price, quantity)
        await venue.form(market.id, open_ms, (opened, max(high, price), min(low, price), price, volume + quantity))


async def play_present(venue: FakeBinance, candles: int, port: int) -> None:
    """Serve a random market at the present time: `candles` of history that end now, then a trade every second."""
    end_history_at(venue, time.time_ns() // 1_000_000, candles)
    await venue.start(port)
    print(json.dumps(venue.ccxt_options(), indent=2), flush=True)  # noqa: T201  # what to copy into [exchange]
    generator = random.Random(0)
    while True:
        await live_second(venue, generator, time.time_ns() // 1_000_000)
        await asyncio.sleep(1.0)


async def play(arguments: argparse.Namespace) -> None:
    """Serve a random market: `--candles` of history, then a candle every `--every` seconds with trades in between.

    With `--present` time is the present one and a candle lasts as long as it says, with a trade every second. Buying
    needs that: a daemon takes a stream whose times lie in the past for a stale one.
    """
    markets = [Market("BTC", "USDT"), Market("ETH", "USDT")]
    if arguments.present:
        await play_present(FakeBinance(markets, timeframe=arguments.timeframe), arguments.candles, arguments.port)
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
    parser.add_argument("--every", type=float, default=2.0, help="seconds per candle, without --present")
    parser.add_argument("--present", action="store_true", help="play in the present, in real time")
    asyncio.run(play(parser.parse_args()))
