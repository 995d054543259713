"""Kraken's public websocket, version 2: ohlc, trade, ticker and book, as ccxt.pro subscribes to them."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from daemon.testvenue.book import Book
from daemon.testvenue.events import BookChanged, Event, Traded
from daemon.testvenue.kraken_public import today, top
from daemon.testvenue.kraken_words import KrakenError, rfc3339
from daemon.testvenue.market import Market, Status
from daemon.testvenue.sockets import Outlet
from strategy.order import Side

_DEPTHS = (10, 25, 100, 500, 1_000)
_SNAPSHOT_TRADES = 50
_SNAPSHOT_CANDLES = 720
_CHANNELS = ("ohlc", "trade", "ticker", "book")
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Wanted:
    """One subscription. size: minutes of a candle, or levels of a book; 0 for the others."""

    channel: str
    symbol: str
    size: int = 0


class PublicStream:
    """Everybody who listens to the market."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._clients: dict[Outlet, set[Wanted]] = {}
        self._shown: dict[tuple[Outlet, Wanted], dict[str, dict[Decimal, Decimal]]] = {}
        self._traded: set[str] = set()
        book.listen(self.hear)

    def join(self, outlet: Outlet) -> None:
        """Take a client in."""
        self._clients[outlet] = set()
        outlet.answer(hello())

    def leave(self, outlet: Outlet) -> None:
        """Forget a client."""
        self._clients.pop(outlet, None)
        self._shown = {key: levels for key, levels in self._shown.items() if key[0] is not outlet}

    def outlets(self) -> list[Outlet]:
        """Return everybody who listens."""
        return list(self._clients)

    async def on_message(self, outlet: Outlet, message: Mapping[str, Any]) -> None:
        """Answer a request of a client."""
        answer_request(outlet, message, self._book.now_ms(), lambda params: self._change(outlet, message, params))

    def _change(self, outlet: Outlet, message: Mapping[str, Any], params: Mapping[str, Any]) -> Iterator[Json]:
        channel, symbols = params.get("channel"), params.get("symbol")
        if channel not in _CHANNELS or not isinstance(symbols, list):
            raise KrakenError("Subscription name invalid")
        size = _size(channel, params)
        for symbol in symbols:
            market = self._book.markets.get(symbol)
            if market is None or market.status is Status.DELISTED:
                raise KrakenError(f"Currency pair not supported {symbol}")
            if channel == "ohlc" and size * 60_000 % market.span_ms:
                raise KrakenError("Subscription ohlc interval not supported")
            wanted = Wanted(channel, symbol, size)
            yield {"channel": channel, "symbol": symbol, "snapshot": True}
            if message.get("method") == "unsubscribe":
                self._clients[outlet].discard(wanted)
            else:
                self._clients[outlet].add(wanted)
                self._greet(outlet, wanted, market, params)

    def _greet(self, outlet: Outlet, wanted: Wanted, market: Market, params: Mapping[str, Any]) -> None:
        if not params.get("snapshot", wanted.channel != "trade"):  # trades alone come without unless asked for
            return
        match wanted.channel:
            case "ohlc":
                data = self._candles(market, wanted.size)[-_SNAPSHOT_CANDLES:]
            case "trade":
                data = [_trade(each) for each in market.trades][-_SNAPSHOT_TRADES:]
            case "ticker":
                data = [self._ticker(market)]
            case _:
                data = [self._levels(outlet, wanted, market)]
        self._send(outlet, wanted, "snapshot", data)

    # ---- what happens -----------------------------------------------------------------------------------------------
    def hear(self, event: Event) -> None:
        """Pass on what concerns the market."""
        if not isinstance(event, Traded | BookChanged):
            return
        market = self._book.markets[event.symbol]
        if isinstance(event, Traded):
            self._traded.add(event.symbol)
        for outlet, subscriptions in self._clients.items():
            for wanted in sorted(subscriptions, key=lambda one: _CHANNELS.index(one.channel)):
                if wanted.symbol == event.symbol and (data := self._news(outlet, wanted, market, event)):
                    self._send(outlet, wanted, "update", data)
        if isinstance(event, BookChanged):
            self._traded.discard(event.symbol)

    def _news(self, outlet: Outlet, wanted: Wanted, market: Market, event: Traded | BookChanged) -> list[Json]:
        match wanted.channel, event:
            case "ohlc", Traded():
                return self._candles(market, wanted.size)[-1:]
            case "trade", Traded():
                return [_trade(event)]
            case "ticker", BookChanged() if market.symbol in self._traded:  # the price has moved by then, too
                return [self._ticker(market)]
            case "book", BookChanged():
                levels = self._levels(outlet, wanted, market)
                return [levels] if levels["bids"] or levels["asks"] else []
            case _:
                return []

    def _send(self, outlet: Outlet, wanted: Wanted, kind: str, data: list[Json]) -> None:
        message = {"channel": wanted.channel, "type": kind, "data": data}
        if wanted.channel == "ohlc":
            message["timestamp"] = rfc3339(self._book.now_ms())
        outlet.send(f"{wanted.channel}@{wanted.symbol}", json.dumps(message), {"symbol": wanted.symbol, "type": kind})

    # ---- data -------------------------------------------------------------------------------------------------------
    def _candles(self, market: Market, minutes: int) -> list[Json]:
        return [
            {
                "symbol": market.symbol, "open": float(row.open), "high": float(row.high), "low": float(row.low),
                "close": float(row.close), "trades": row.trades, "volume": float(row.volume),
                "vwap": float(row.value / row.volume) if row.volume else 0.0, "interval_begin": rfc3339(open_ms),
                "interval": minutes, "timestamp": rfc3339(open_ms + minutes * 60_000),
            }
            for open_ms, row in market.candles.of_span(minutes * 60_000)
        ]  # fmt: skip

    def _ticker(self, market: Market) -> Json:
        day = today(self._book, market)
        (bid, bid_quantity), (ask, ask_quantity) = (top(market, side) for side in (Side.BUY, Side.SELL))
        change = market.last - day.open
        return {
            "symbol": market.symbol, "bid": float(bid), "bid_qty": float(bid_quantity), "ask": float(ask),
            "ask_qty": float(ask_quantity), "last": float(market.last), "volume": float(day.volume),
            "vwap": float(day.value / day.volume) if day.volume else 0.0, "low": float(day.low),
            "high": float(day.high), "change": float(change),
            "change_pct": float(change / day.open * 100) if day.open else 0.0,
        }  # fmt: skip

    def _levels(self, outlet: Outlet, wanted: Wanted, market: Market) -> Json:
        """Return what changed in the book since this client was told last; a quantity of 0 removes a level."""
        before = self._shown.get((outlet, wanted), {"bids": {}, "asks": {}})
        now = {name: dict(market.depth(side, wanted.size)) for name, side in (("bids", Side.BUY), ("asks", Side.SELL))}
        self._shown[outlet, wanted] = now
        changed: Json = {"symbol": market.symbol, "timestamp": rfc3339(self._book.now_ms())}
        for name, levels in now.items():
            gone = {price: Decimal(0) for price in before[name] if price not in levels}
            new = {price: there for price, there in levels.items() if before[name].get(price) != there}
            changed[name] = [{"price": float(price), "qty": float(there)} for price, there in {**gone, **new}.items()]
        return changed


def answer_request(
    outlet: Outlet, message: Mapping[str, Any], now_ms: int, change: Callable[[Mapping[str, Any]], Iterator[Json]]
) -> None:
    """Answer ping, subscribe and unsubscribe; `change` carries a subscription out and yields what to confirm."""
    method = message.get("method")
    times = {"time_in": rfc3339(now_ms), "time_out": rfc3339(now_ms)}
    common = {"method": "pong" if method == "ping" else method, **times}
    if "req_id" in message:
        common["req_id"] = message["req_id"]
    if method == "ping":
        outlet.answer(json.dumps(common))
        return
    if method not in {"subscribe", "unsubscribe"}:
        outlet.answer(json.dumps({**common, "success": False, "error": "Malformed request"}))
        return
    try:
        for result in change(message.get("params") or {}):
            outlet.answer(json.dumps({**common, "success": True, "result": result}))
    except KrakenError as error:
        outlet.answer(json.dumps({**common, "success": False, "error": str(error)}))


def hello() -> str:
    """Return what every client hears first."""
    data = {"version": "2.0.10", "system": "online", "api_version": "v2", "connection_id": 1}
    return json.dumps({"channel": "status", "type": "update", "data": [data]})


def _size(channel: str, params: Mapping[str, Any]) -> int:
    if channel == "ohlc":
        minutes = params.get("interval", 1)
        if not isinstance(minutes, int) or minutes <= 0:
            raise KrakenError("Subscription ohlc interval not supported")
        return minutes
    if channel == "book":
        depth = params.get("depth", _DEPTHS[0])
        if depth not in _DEPTHS:
            raise KrakenError("Subscription depth not supported")
        return int(depth)
    return 0


def _trade(trade: Traded) -> Json:
    return {
        "symbol": trade.symbol, "side": trade.taker.value, "price": float(trade.price), "qty": float(trade.quantity),
        "ord_type": "market", "trade_id": trade.trade_id, "timestamp": rfc3339(trade.at_ms),
    }  # fmt: skip
