"""Binance's public calls over REST: rules, time, candles, prices, book, trades.

Source: binance-spot-api-docs, rest-api.md and filters.md (read 2026-11).
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from daemon.testvenue.binance_call import Call, market_called
from daemon.testvenue.binance_words import TYPES, ApiError, Json, span_ms_of, text
from daemon.testvenue.book import Book
from daemon.testvenue.candles import Row
from daemon.testvenue.events import Traded
from daemon.testvenue.filters import Rules
from daemon.testvenue.market import Market, Status
from daemon.testvenue.orders import ZERO
from strategy.order import Side

DAY_MS = 86_400_000
STATUSES = {Status.TRADING: "TRADING", Status.BREAK: "BREAK"}


class PublicCalls:
    """Answers calls that need no key."""

    def __init__(self, book: Book) -> None:
        self._book = book

    def ping(self, _call: Call) -> Json:
        """GET ping."""
        return {}

    def time(self, _call: Call) -> Json:
        """GET time."""
        return {"serverTime": self._book.now_ms()}

    def exchange_info(self, call: Call) -> Json:
        """GET exchangeInfo."""
        wanted = call.params.get("symbol")
        listed = [market for market in self._book.markets.values() if market.status is not Status.DELISTED]
        markets = listed if wanted is None else [market_called(self._book, wanted)]
        limits = [
            {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 6_000},
            {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 100},
        ]
        symbols = [_listing(market) for market in markets]
        now = self._book.now_ms()
        return {
            "timezone": "UTC", "serverTime": now, "rateLimits": limits, "exchangeFilters": [], "symbols": symbols
        }  # fmt: skip

    def klines(self, call: Call) -> list[list[Any]]:
        """GET klines."""
        market, span_ms = call.market(self._book), span_ms_of(call.need("interval"))
        self._book.roll(market.symbol)
        start, end = call.integer("startTime"), call.integer("endTime")
        limit = call.limit(500, 1_000)
        try:
            rows = [
                kline_row(open_ms, row, span_ms)
                for open_ms, row in market.candles.of_span(span_ms)
                if (start is None or open_ms >= start) and (end is None or open_ms <= end)
            ]
        except ValueError:
            raise ApiError(-1120, "Invalid interval.") from None
        return rows[-limit:] if start is None else rows[:limit]

    def depth(self, call: Call) -> Json:
        """GET depth."""
        market, limit = call.market(self._book), call.limit(100, 5_000)
        bids, asks = (levels(market.depth(side, limit)) for side in (Side.BUY, Side.SELL))
        return {"lastUpdateId": market.book_id, "bids": bids, "asks": asks}

    def trades(self, call: Call) -> list[Json]:
        """GET trades."""
        market = call.market(self._book)
        return [_trade_row(trade) for trade in list(market.trades)[-call.limit(500, 1_000) :]]

    def aggregate_trades(self, call: Call) -> list[Json]:
        """GET aggTrades: every trade stands for itself."""
        market, limit = call.market(self._book), call.limit(500, 1_000)
        start, first = call.integer("startTime", 0) or 0, call.integer("fromId", 0) or 0
        found = [trade for trade in market.trades if trade.at_ms >= start and trade.trade_id >= first]
        rows = found[:limit] if start or first else found[-limit:]
        return [
            {
                "a": trade.trade_id, "p": text(trade.price), "q": text(trade.quantity), "f": trade.trade_id,
                "l": trade.trade_id, "T": trade.at_ms, "m": trade.taker is Side.SELL, "M": True,
            }
            for trade in rows
        ]  # fmt: skip

    def price(self, call: Call) -> Json | list[Json]:
        """GET ticker/price."""
        return self._each(call, lambda market: {"symbol": market.base + market.quote, "price": text(market.last)})

    def average_price(self, call: Call) -> Json:
        """GET avgPrice."""
        market = call.market(self._book)
        return {"mins": 5, "price": text(market.last), "closeTime": self._book.now_ms()}

    def book_ticker(self, call: Call) -> Json | list[Json]:
        """GET ticker/bookTicker."""
        return self._each(call, book_ticker)

    def day_ticker(self, call: Call) -> Json | list[Json]:
        """GET ticker/24hr."""
        return self._each(call, lambda market: day_ticker(market, self._book.now_ms()))

    def _each(self, call: Call, shown: Any) -> Json | list[Json]:  # noqa: ANN401  # a function of a market
        if call.params.get("symbol"):
            return shown(call.market(self._book))  # type: ignore[no-any-return]
        return [shown(market) for market in self._book.markets.values() if market.status is not Status.DELISTED]


def kline_row(open_ms: int, row: Row, span_ms: int) -> list[Any]:
    """Return a candle as GET klines shows it."""
    prices = [text(value) for value in (row.open, row.high, row.low, row.close, row.volume)]
    half_base, half_quote = text(row.volume / 2), text(row.value / 2)
    return [open_ms, *prices, open_ms + span_ms - 1, text(row.value), row.trades, half_base, half_quote, "0"]


def levels(offers: Sequence[tuple[Decimal, Decimal]]) -> list[list[str]]:
    """Return book levels as Binance shows them."""
    return [[text(price), text(quantity)] for price, quantity in offers]


def book_ticker(market: Market) -> Json:
    """Return best bid and ask, with zeros where nothing stands."""
    bid, ask = (next(iter(market.depth(side, 1)), (ZERO, ZERO)) for side in (Side.BUY, Side.SELL))
    return {
        "symbol": market.base + market.quote, "bidPrice": text(bid[0]), "bidQty": text(bid[1]),
        "askPrice": text(ask[0]), "askQty": text(ask[1]),
    }  # fmt: skip


def day_ticker(market: Market, now_ms: int) -> Json:
    """Return what the last 24 hours were like, counted from candles."""
    total: Row | None = None
    for open_ms, row in reversed(market.candles.rows.items()):
        if open_ms <= now_ms - DAY_MS:
            break
        earlier = row.copy()
        if total is not None:
            earlier.join(total)
        total = earlier
    day = total or Row(market.last, market.last, market.last, market.last)
    change = day.close - day.open
    last = market.trades[-1] if market.trades else None
    return {
        **book_ticker(market), "priceChange": text(change),
        "priceChangePercent": f"{change / day.open * 100 if day.open else ZERO:.3f}",
        "weightedAvgPrice": text(day.value / day.volume if day.volume else day.close),
        "prevClosePrice": text(day.open), "lastPrice": text(market.last),
        "lastQty": text(last.quantity if last else ZERO), "openPrice": text(day.open), "highPrice": text(day.high),
        "lowPrice": text(day.low), "volume": text(day.volume), "quoteVolume": text(day.value),
        "openTime": now_ms - DAY_MS, "closeTime": now_ms, "firstId": 1, "lastId": last.trade_id if last else -1,
        "count": day.trades,
    }  # fmt: skip


def _trade_row(trade: Traded) -> Json:
    return {
        "id": trade.trade_id, "price": text(trade.price), "qty": text(trade.quantity),
        "quoteQty": text(trade.price * trade.quantity), "time": trade.at_ms, "isBuyerMaker": trade.taker is Side.SELL,
        "isBestMatch": True,
    }  # fmt: skip


def _listing(market: Market) -> Json:
    return {
        "symbol": market.base + market.quote, "status": STATUSES[market.status], "baseAsset": market.base,
        "baseAssetPrecision": 8, "quoteAsset": market.quote, "quotePrecision": 8, "quoteAssetPrecision": 8,
        "baseCommissionPrecision": 8, "quoteCommissionPrecision": 8, "orderTypes": list(TYPES.values()),
        "icebergAllowed": False, "ocoAllowed": False, "otoAllowed": False, "quoteOrderQtyMarketAllowed": True,
        "allowTrailingStop": False, "cancelReplaceAllowed": False, "amendAllowed": False,
        "isSpotTradingAllowed": True, "isMarginTradingAllowed": False, "filters": _filters(market.rules),
        "permissions": [], "permissionSets": [["SPOT"]], "defaultSelfTradePreventionMode": "EXPIRE_MAKER",
        "allowedSelfTradePreventionModes": ["EXPIRE_MAKER"],
    }  # fmt: skip


def _filters(rules: Rules) -> list[Json]:
    return [
        {
            "filterType": "PRICE_FILTER", "minPrice": text(rules.min_price), "maxPrice": text(rules.max_price),
            "tickSize": text(rules.tick),
        },
        {
            "filterType": "LOT_SIZE", "minQty": text(rules.min_quantity), "maxQty": text(rules.max_quantity),
            "stepSize": text(rules.lot),
        },
        {
            "filterType": "MARKET_LOT_SIZE", "minQty": text(rules.market_min_quantity),
            "maxQty": text(rules.market_max_quantity), "stepSize": text(rules.market_lot),
        },
        {
            "filterType": "PERCENT_PRICE_BY_SIDE", "bidMultiplierUp": str(rules.bid_up),
            "bidMultiplierDown": str(rules.bid_down), "askMultiplierUp": str(rules.ask_up),
            "askMultiplierDown": str(rules.ask_down), "avgPriceMins": 0,
        },
        {
            "filterType": "NOTIONAL", "minNotional": text(rules.min_value), "applyMinToMarket": True,
            "maxNotional": text(rules.max_value), "applyMaxToMarket": True, "avgPriceMins": 0,
        },
        {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": rules.max_orders},
        {"filterType": "MAX_NUM_ALGO_ORDERS", "maxNumAlgoOrders": rules.max_stops},
    ]  # fmt: skip
