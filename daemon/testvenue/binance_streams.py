"""Binance's public websocket streams: candles, trades, prices, book changes.

Source: binance-spot-api-docs, web-socket-streams.md (read 2026-11).
"""

import json
from decimal import Decimal
from typing import Any

from aiohttp import web

from daemon.ports import Clock
from daemon.testvenue.binance_public import book_ticker, day_ticker, levels
from daemon.testvenue.binance_words import ApiError, Json, span_ms_of, text
from daemon.testvenue.book import Book
from daemon.testvenue.events import BookChanged, CandleChanged, Event, Traded
from daemon.testvenue.faults import FaultBox
from daemon.testvenue.market import Market
from daemon.testvenue.orders import ZERO
from daemon.testvenue.sockets import Outlet
from strategy.order import Side

DEPTH = 1_000

Levels = dict[Side, dict[Decimal, Decimal]]
"""What stands per side and price."""


class PublicStreams:
    """Open public websockets, and what they are sent as the market moves."""

    def __init__(self, book: Book, *, faults: FaultBox, clock: Clock) -> None:
        self._book = book
        self._faults = faults
        self._clock = clock
        self._shown: dict[str, Levels] = {}
        self.outlets: list[Outlet] = []
        self.opened = 0
        book.listen(self._hear)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Serve one websocket until either side closes it."""
        outlet = Outlet(request, kind="stream", faults=self._faults, clock=self._clock)
        if "streams" in request.query:
            outlet.names.update(request.query["streams"].split("/"))
            outlet.is_wrapped = True
        elif "stream" in request.match_info:
            outlet.names.add(request.match_info["stream"])
        self.outlets.append(outlet)
        self.opened += 1
        self._note_books()
        try:
            return await outlet.serve(self._on_request)
        finally:
            self.outlets.remove(outlet)

    def send(self, name: str, data: Json) -> None:
        """Send an event of the stream `name` to everybody who subscribed to it."""
        for outlet in self.listeners(name):
            message = {"stream": name, "data": data} if outlet.is_wrapped else data
            bye = json.dumps({"e": "serverShutdown", "E": self._book.now_ms()})
            outlet.send(name, json.dumps(message), {"symbol": str(data.get("s", ""))}, bye=bye)

    def listeners(self, name: str) -> list[Outlet]:
        """Return the open sockets that subscribed to a stream."""
        return [outlet for outlet in self.outlets if name in outlet.names and not outlet.response.closed]

    def shut(self) -> None:
        """Close every socket, as a venue does that restarts."""
        for outlet in self.outlets:
            outlet.shut()

    async def _on_request(self, outlet: Outlet, request: Json) -> None:
        params = request.get("params", [])
        match request.get("method"):
            case "SUBSCRIBE":
                outlet.names.update(params)
                self._note_books()
                answer: Json = {"result": None, "id": request.get("id")}
            case "UNSUBSCRIBE":
                outlet.names.difference_update(params)
                answer = {"result": None, "id": request.get("id")}
            case "LIST_SUBSCRIPTIONS":
                answer = {"result": sorted(outlet.names), "id": request.get("id")}
            case other:
                answer = {"error": {"code": 2, "msg": f"Invalid request: unknown method {other}"}}
        outlet.answer(json.dumps(answer))

    # ---- what the market does ---------------------------------------------------------------------------------------
    def _hear(self, event: Event) -> None:
        match event:
            case Traded():
                self._on_trade(event)
            case CandleChanged():
                self._on_candle(event)
            case BookChanged():
                self._on_book(self._book.markets[event.symbol], event.at_ms)

    def _on_trade(self, trade: Traded) -> None:
        market = self._book.markets[trade.symbol]
        name, market_id = _stream_id(market), market.base + market.quote
        common: Json = {
            "E": trade.at_ms, "s": market_id, "p": text(trade.price), "q": text(trade.quantity), "T": trade.at_ms,
            "m": trade.taker is Side.SELL, "M": True,
        }  # fmt: skip
        self.send(f"{name}@trade", {"e": "trade", "t": trade.trade_id, **common})
        ids = {"a": trade.trade_id, "f": trade.trade_id, "l": trade.trade_id}
        self.send(f"{name}@aggTrade", {"e": "aggTrade", **ids, **common})

    def _on_candle(self, event: CandleChanged) -> None:
        market = self._book.markets[event.symbol]
        prefix = f"{_stream_id(market)}@kline_"
        names = {name for outlet in self.outlets for name in outlet.names if name.startswith(prefix)}
        for name in sorted(names):
            interval = name.removeprefix(prefix)
            kline = self._kline(market, event, interval)
            if kline is not None:
                self.send(name, {"e": "kline", "E": self._book.now_ms(), "s": kline["s"], "k": kline})

    def _kline(self, market: Market, event: CandleChanged, interval: str) -> Json | None:
        try:
            span_ms = span_ms_of(interval)
        except ApiError:  # somebody subscribed to what is no timeframe: nothing ever comes
            return None
        open_ms = event.open_ms // span_ms * span_ms
        row = None if span_ms % market.span_ms else market.candles.at(span_ms, open_ms)
        if row is None:
            return None
        is_closed = event.is_closed and (event.open_ms + market.span_ms) % span_ms == 0
        prices = {"o": row.open, "c": row.close, "h": row.high, "l": row.low, "v": row.volume, "q": row.value}
        return {
            "t": open_ms, "T": open_ms + span_ms - 1, "s": market.base + market.quote, "i": interval, "f": -1, "L": -1,
            **{name: text(value) for name, value in prices.items()}, "n": row.trades, "x": is_closed,
            "V": text(row.volume / 2), "Q": text(row.value / 2), "B": "0",
        }  # fmt: skip

    def _on_book(self, market: Market, at_ms: int) -> None:
        name, shown = _stream_id(market), book_ticker(market)
        market_id = shown["symbol"]
        if self.listeners(f"{name}@bookTicker"):
            best = {"b": shown["bidPrice"], "B": shown["bidQty"], "a": shown["askPrice"], "A": shown["askQty"]}
            self.send(f"{name}@bookTicker", {"u": market.book_id, "s": market_id, **best})
        for kind in ("ticker", "miniTicker"):
            if self.listeners(f"{name}@{kind}"):
                self.send(f"{name}@{kind}", _ticker(kind, day_ticker(market, at_ms), at_ms))
        self._send_depth(market, name, at_ms)

    def _note_books(self) -> None:
        """Note what stands now, so that the first changes after a subscription are told against it."""
        for symbol, market in self._book.markets.items():
            self._shown.setdefault(symbol, _standing(market))

    def _send_depth(self, market: Market, name: str, at_ms: int) -> None:
        before = self._shown.get(market.symbol)
        if before is None:  # nobody has ever listened
            return
        now = self._shown[market.symbol] = _standing(market)
        changes = {
            side: [
                (price, now[side].get(price, ZERO))
                for price in {**before[side], **now[side]}
                if now[side].get(price) != before[side].get(price)
            ]
            for side in Side
        }
        update = {
            "e": "depthUpdate", "E": at_ms, "s": market.base + market.quote, "U": market.book_id, "u": market.book_id,
            "b": levels(changes[Side.BUY]), "a": levels(changes[Side.SELL]),
        }  # fmt: skip
        for suffix in ("depth", "depth@100ms"):
            self.send(f"{name}@{suffix}", update)


def _stream_id(market: Market) -> str:
    return (market.base + market.quote).lower()


def _standing(market: Market) -> Levels:
    return {side: dict(market.depth(side, DEPTH)) for side in Side}


def _ticker(kind: str, day: Json, at_ms: int) -> Json:
    short: dict[str, Any] = {
        "E": at_ms, "s": day["symbol"], "c": day["lastPrice"], "o": day["openPrice"], "h": day["highPrice"],
        "l": day["lowPrice"], "v": day["volume"], "q": day["quoteVolume"],
    }  # fmt: skip
    if kind == "miniTicker":
        return {"e": "24hrMiniTicker", **short}
    return {
        "e": "24hrTicker", **short, "p": day["priceChange"], "P": day["priceChangePercent"],
        "w": day["weightedAvgPrice"], "x": day["prevClosePrice"], "Q": day["lastQty"], "b": day["bidPrice"],
        "B": day["bidQty"], "a": day["askPrice"], "A": day["askQty"], "O": day["openTime"], "C": day["closeTime"],
        "F": day["firstId"], "L": day["lastId"], "n": day["count"],
    }  # fmt: skip
