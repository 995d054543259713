"""Venues with a long history on loopback, REST only, each with the habits of its own: Binance, Kraken, OKX.

A server in a thread, or on its own by `python -m tests.fakes.histories`, so that what asks it can be killed. Message
forms and habits follow the venues' documents: binance-spot-api-docs rest-api.md (klines: 500 by default, at most 1000,
from startTime on), docs.kraken.com Get OHLC Data (the newest 720 whatever `since` says, the last not committed yet),
okx.com/docs-v5 Get candlesticks history (newest first, between `before` and `after`, both exclusive).
"""

import argparse
import asyncio
import json
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web

UNITS_MS = {"m": 60_000, "h": 3_600_000, "d": 86_400_000}
DAY_MS = 86_400_000
Values = tuple[Any, Any, Any, Any, Any]
Candles = dict[int, Values]
Fault = tuple[int, Mapping[str, str], str]
"""Status, headers and body that are answered instead of the truth; status 0 cuts the connection."""


@dataclass
class Histories:
    """The server. candles: of BTC/USDT (at Kraken BTC/USD) by open time in ms, the newest still forming.

    faults: given to the next candle calls.  on_candles: called before each with the number of the call.
    okx_page, kraken_page: rows they give at most.  repeats: whether OKX shows every row twice, and one too early.
    """

    candles: Candles
    timeframe: str = "1h"
    faults: deque[Fault] = field(default_factory=deque)
    info_faults: deque[Fault] = field(default_factory=deque)
    on_candles: Callable[[int], None] | None = None
    okx_page: int = 300
    kraken_page: int = 720
    repeats: bool = False
    delay_s: float = 0.0
    requests: Counter[str] = field(default_factory=Counter)
    asked: list[dict[str, str]] = field(default_factory=list)
    port: int = 0

    def __post_init__(self) -> None:
        self.span_ms = int(self.timeframe[:-1]) * UNITS_MS[self.timeframe[-1]]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    # ---- life -----------------------------------------------------------------------------------------------------
    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def now_ms(self) -> int:
        return max(self.candles) + 1

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def _start(self) -> None:
        app = web.Application()
        for path, answer in (
            ("/api/v3/time", self._binance_time),
            ("/api/v3/exchangeInfo", self._binance_info),
            ("/api/v3/klines", self._klines),
            ("/0/public/Time", self._kraken_time),
            ("/0/public/Assets", self._kraken_assets),
            ("/0/public/AssetPairs", self._kraken_pairs),
            ("/0/public/OHLC", self._kraken_ohlc),
            ("/api/v5/public/time", self._okx_time),
            ("/api/v5/public/instruments", self._okx_instruments),
            ("/api/v5/market/candles", self._okx_candles),
            ("/api/v5/market/history-candles", self._okx_candles),
        ):
            app.router.add_get(path, answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]

    # ---- parts ----------------------------------------------------------------------------------------------------
    async def _fault(self, request: web.Request, faults: deque[Fault]) -> web.Response | None:
        self.requests[request.path] += 1
        if faults is self.faults:
            self.asked.append(dict(request.query))
            if self.on_candles is not None:
                self.on_candles(len(self.asked))
            await asyncio.sleep(self.delay_s)
        if not faults:
            return None
        status, headers, body = faults.popleft()
        if status == 0:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        return web.Response(status=status, headers=headers, text=body, content_type="application/json")

    def _of(self, span_ms: int) -> Candles:
        """Return the candles of another timeframe, built from those there are."""
        if span_ms == self.span_ms:
            return self.candles
        built: dict[int, list[Any]] = {}
        for open_ms in sorted(self.candles):
            opened, high, low, close, volume = self.candles[open_ms]
            whole = built.setdefault(open_ms // span_ms * span_ms, [opened, high, low, close, 0.0])
            whole[1], whole[2], whole[3] = max(whole[1], high), min(whole[2], low), close
            whole[4] += volume
        return {open_ms: tuple(values) for open_ms, values in built.items()}  # type: ignore[misc]

    # ---- Binance --------------------------------------------------------------------------------------------------
    async def _binance_time(self, request: web.Request) -> web.Response:
        return await self._fault(request, self.info_faults) or web.json_response({"serverTime": self.now_ms})

    async def _binance_info(self, request: web.Request) -> web.Response:
        def listing(base: str) -> dict[str, Any]:
            return {
                "symbol": f"{base}USDT", "status": "TRADING", "baseAsset": base, "baseAssetPrecision": 8,
                "quoteAsset": "USDT", "quotePrecision": 8, "quoteAssetPrecision": 8, "isSpotTradingAllowed": True,
                "filters": [{"filterType": "PRICE_FILTER", "minPrice": "0.01", "maxPrice": "1000", "tickSize": "0.01"}],
                "permissions": ["SPOT"],
            }  # fmt: skip

        body = {"serverTime": self.now_ms, "rateLimits": [], "symbols": [listing("BTC"), listing("ETH")]}
        return await self._fault(request, self.info_faults) or web.json_response(body)

    async def _klines(self, request: web.Request) -> web.Response:
        if (fault := await self._fault(request, self.faults)) is not None:
            return fault
        query, interval = request.query, request.query["interval"]
        span_ms = int(interval[:-1]) * UNITS_MS[interval[-1]]
        candles, limit = self._of(span_ms), min(int(query.get("limit", "500")), 1_000)
        times = [open_ms for open_ms in sorted(candles) if open_ms >= int(query.get("startTime", "0"))]
        times = times[:limit] if "startTime" in query else times[-limit:]
        rows = [[t, *map(_text, candles[t]), t + span_ms - 1, "0", 1, "0", "0", "0"] for t in times]
        return web.json_response(rows)

    # ---- Kraken ---------------------------------------------------------------------------------------------------
    async def _kraken_time(self, request: web.Request) -> web.Response:
        body = {"error": [], "result": {"unixtime": self.now_ms // 1_000 + 1, "rfc1123": ""}}
        return await self._fault(request, self.info_faults) or web.json_response(body)

    async def _kraken_assets(self, request: web.Request) -> web.Response:
        assets = {
            name: {"aclass": "currency", "altname": alt, "decimals": 10, "display_decimals": 5, "status": "enabled"}
            for name, alt in (("XXBT", "XBT"), ("ZUSD", "USD"))
        }
        return await self._fault(request, self.info_faults) or web.json_response({"error": [], "result": assets})

    async def _kraken_pairs(self, request: web.Request) -> web.Response:
        pair = {
            "altname": "XBTUSD", "wsname": "XBT/USD", "base": "XXBT", "quote": "ZUSD", "pair_decimals": 1,
            "lot_decimals": 8, "fees": [[0, 0.4]], "fees_maker": [[0, 0.25]], "leverage_buy": [], "leverage_sell": [],
            "ordermin": "0.0001", "costmin": "0.5", "tick_size": "0.1", "status": "online",
        }  # fmt: skip
        body = {"error": [], "result": {"XXBTZUSD": pair}}
        return await self._fault(request, self.info_faults) or web.json_response(body)

    async def _kraken_ohlc(self, request: web.Request) -> web.Response:
        if (fault := await self._fault(request, self.faults)) is not None:
            return fault
        candles = self._of(int(request.query["interval"]) * 60_000)
        since_ms = int(request.query.get("since", "0")) * 1_000
        times = [open_ms for open_ms in sorted(candles)[-self.kraken_page :] if open_ms > since_ms]
        rows = [[t // 1_000, *map(_text, candles[t][:4]), "0", _text(candles[t][4]), 1] for t in times]
        return web.json_response({"error": [], "result": {"XXBTZUSD": rows, "last": max(candles) // 1_000}})

    # ---- OKX ------------------------------------------------------------------------------------------------------
    async def _okx_time(self, request: web.Request) -> web.Response:
        body = {"code": "0", "msg": "", "data": [{"ts": str(self.now_ms)}]}
        return await self._fault(request, self.info_faults) or web.json_response(body)

    async def _okx_instruments(self, request: web.Request) -> web.Response:
        market = {
            "instId": "BTC-USDT", "instType": "SPOT", "baseCcy": "BTC", "quoteCcy": "USDT", "lotSz": "0.00000001",
            "minSz": "0.00001", "tickSz": "0.1", "state": "live", "uly": "", "listTime": "1548133413000",
        }  # fmt: skip
        body = {"code": "0", "msg": "", "data": [market]}
        return await self._fault(request, self.info_faults) or web.json_response(body)

    async def _okx_candles(self, request: web.Request) -> web.Response:
        if (fault := await self._fault(request, self.faults)) is not None:
            return fault
        query, bar = request.query, request.query["bar"]
        candles = self._of(DAY_MS if bar == "1Dutc" else int(bar[:-1]) * UNITS_MS[bar[-1].lower()])
        after, before = int(query.get("after", str(2**62))), int(query.get("before", "0"))
        times = [open_ms for open_ms in sorted(candles, reverse=True) if before < open_ms < after]
        times = times[: min(int(query.get("limit", "100")), self.okx_page)]
        if self.repeats and times:
            earlier = max((open_ms for open_ms in candles if open_ms < times[-1]), default=times[-1])
            times = [*times, *reversed(times), earlier]
        rows = [[str(t), *map(_text, candles[t]), "0", "0", "1"] for t in times]
        return web.json_response({"code": "0", "msg": "", "data": rows})


def _text(value: float | None) -> str | None:
    return None if value is None else f"{value:.8f}"


def serve(arguments: argparse.Namespace) -> None:
    """Serve a random walk that ended long ago, until a line or the end of standard input comes."""
    from tests.fakes.binance import walk  # noqa: PLC0415  # only here

    span_ms = int(arguments.timeframe[:-1]) * UNITS_MS[arguments.timeframe[-1]]
    first_ms = 1_577_836_800_000  # 2020-01-01
    candles = {first_ms + i * span_ms: values for i, values in enumerate(walk(7, arguments.candles))}
    with Histories(candles, timeframe=arguments.timeframe, delay_s=arguments.delay) as server:
        print(json.dumps({"url": server.url}), flush=True)  # noqa: T201
        input()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=serve.__doc__)
    parser.add_argument("--candles", type=int, default=20_000)
    parser.add_argument("--timeframe", default="1h")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before each answer with candles")
    serve(parser.parse_args())
