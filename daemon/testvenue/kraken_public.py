"""Kraken's public REST methods: what each answers, as a plain value; nothing here knows HTTP."""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from daemon.testvenue.accounts import Account
from daemon.testvenue.book import Book
from daemon.testvenue.candles import Row
from daemon.testvenue.kraken_rest import find_market
from daemon.testvenue.kraken_words import (
    KrakenError,
    altname,
    asset_id,
    decimals,
    pair_altname,
    pair_id,
    pair_wsname,
    rfc3339,
    seconds,
    text,
)
from daemon.testvenue.market import Market, Status
from daemon.testvenue.orders import ZERO
from strategy.order import Side

Params = Mapping[str, str]
Result = dict[str, Any]

_DAY_MS = 86_400_000
_STATUSES = {Status.TRADING: "online", Status.BREAK: "cancel_only", Status.DELISTED: "delisted"}


class PublicApi:
    """Answers the public methods. is_down: whether the venue is in maintenance."""

    def __init__(self, book: Book, *, is_down: Callable[[], bool]) -> None:
        self._book = book
        self._is_down = is_down
        self._methods: Mapping[str, Callable[[Params], Result]] = {
            "Time": self._time,
            "SystemStatus": self._system_status,
            "Assets": self._assets,
            "AssetPairs": self._asset_pairs,
            "OHLC": self._ohlc,
            "Ticker": self._ticker,
            "Depth": self._depth,
            "Trades": self._trades,
        }

    def answer(self, method: str, params: Params) -> Result:
        """Return the result of a method. Raises KrakenError."""
        function = self._methods.get(method)
        if function is None:
            raise KrakenError("EGeneral:Unknown method")
        return function(params)

    def _time(self, _params: Params) -> Result:
        now = self._book.now_ms() // 1_000
        return {"unixtime": now, "rfc1123": datetime.fromtimestamp(now, tz=UTC).strftime("%a, %d %b %y %H:%M:%S +0000")}

    def _system_status(self, _params: Params) -> Result:
        return {"status": "maintenance" if self._is_down() else "online", "timestamp": rfc3339(self._book.now_ms())}

    def _assets(self, _params: Params) -> Result:
        coins = sorted({coin for market in self._book.markets.values() for coin in (market.base, market.quote)})
        return {
            asset_id(coin): {
                "aclass": "currency", "altname": altname(coin), "decimals": 10, "display_decimals": 5,
                "status": "enabled",
            }
            for coin in coins
        }  # fmt: skip

    def _asset_pairs(self, params: Params) -> Result:
        return {pair_id(market): pair_json(market) for market in self._named(params)}

    def _ohlc(self, params: Params) -> Result:
        market = find_market(self._book, params.get("pair", ""))
        since_s = _number(params, "since", -1)
        span_ms = _number(params, "interval", 1) * 60_000
        rows = [row for row in candles(self._book, market, span_ms) if row[0] > since_s]
        rows = rows[-(self._book.habits.candle_rows or len(rows)) :]
        return {pair_id(market): rows, "last": rows[-2][0] if len(rows) > 1 else 0}

    def _ticker(self, params: Params) -> Result:
        return {pair_id(market): self._day(market) for market in self._named(params)}

    def _day(self, market: Market) -> Result:
        day = today(self._book, market)
        mean = day.value / day.volume if day.volume else market.last
        (bid, bid_quantity), (ask, ask_quantity) = (top(market, side) for side in (Side.BUY, Side.SELL))
        return {
            "a": [text(ask), "1", text(ask_quantity)], "b": [text(bid), "1", text(bid_quantity)],
            "c": [text(market.last), text(market.rules.lot)], "v": [text(day.volume)] * 2, "p": [text(mean)] * 2,
            "t": [day.trades] * 2, "l": [text(day.low)] * 2, "h": [text(day.high)] * 2, "o": text(day.open),
        }  # fmt: skip

    def _depth(self, params: Params) -> Result:
        market = find_market(self._book, params.get("pair", ""))
        count, now_s = _number(params, "count", 100), self._book.now_ms() // 1_000
        sides = {"asks": Side.SELL, "bids": Side.BUY}
        return {
            pair_id(market): {
                name: [[text(price), text(quantity), now_s] for price, quantity in market.depth(side, count)]
                for name, side in sides.items()
            }
        }

    def _trades(self, params: Params) -> Result:
        market = find_market(self._book, params.get("pair", ""))
        since_s, count = float(_number(params, "since", 0)), _number(params, "count", 1_000)
        found = [each for each in market.trades if seconds(each.at_ms) > since_s][:count]
        rows = [
            [text(each.price), text(each.quantity), seconds(each.at_ms), each.taker.value[0], "m", "", each.trade_id]
            for each in found
        ]
        return {pair_id(market): rows, "last": str(found[-1].at_ms * 1_000_000) if found else "0"}

    def _named(self, params: Params) -> list[Market]:
        if names := params.get("pair", ""):
            return [find_market(self._book, name) for name in names.split(",")]
        return list(self._book.markets.values())


def pair_json(market: Market) -> Result:
    """Return a pair as AssetPairs shows it; the fees are those of the first tier, not the account's."""
    rules = market.rules
    fees = Account(key="", secret="")
    return {
        "altname": pair_altname(market), "wsname": pair_wsname(market), "aclass_base": "currency",
        "base": asset_id(market.base), "aclass_quote": "currency", "quote": asset_id(market.quote), "lot": "unit",
        "cost_decimals": 8, "pair_decimals": decimals(rules.tick), "lot_decimals": decimals(rules.lot),
        "lot_multiplier": 1, "leverage_buy": [], "leverage_sell": [],
        "fees": [[0, float(fees.taker * 100)]], "fees_maker": [[0, float(fees.maker * 100)]],
        "fee_volume_currency": "ZUSD", "margin_call": 80, "margin_stop": 40, "ordermin": text(rules.min_quantity),
        "costmin": text(rules.min_value), "tick_size": text(rules.tick), "status": _STATUSES[market.status],
    }  # fmt: skip


def candles(book: Book, market: Market, span_ms: int) -> Iterator[list[Any]]:
    """Yield candles as OHLC writes them: [time, open, high, low, close, vwap, volume, count]. Raises KrakenError."""
    book.roll(market.symbol)
    try:
        for open_ms, row in market.candles.of_span(span_ms):
            mean = row.value / row.volume if row.volume else ZERO
            prices = [text(price) for price in (row.open, row.high, row.low, row.close, _rounded(mean, market))]
            yield [open_ms // 1_000, *prices, text(row.volume), row.trades]
    except ValueError:
        raise KrakenError("EGeneral:Invalid arguments:interval") from None


def today(book: Book, market: Market) -> Row:
    """Return the last 24 hours as one candle; flat at the last price when nothing is known of them."""
    book.roll(market.symbol)
    after_ms = book.now_ms() - _DAY_MS
    day: Row | None = None
    for open_ms, row in market.candles.rows.items():
        if open_ms > after_ms and day is None:
            day = Row(row.open, row.high, row.low, row.close, row.volume, row.value, row.trades)
        elif day is not None:
            day.join(row)
    return day or Row(market.last, market.last, market.last, market.last)


def top(market: Market, side: Side) -> tuple[Decimal, Decimal]:
    """Return the best price of a side and what stands there, zeros when nothing does."""
    return next(iter(market.depth(side, 1)), (ZERO, ZERO))


def _rounded(price: Decimal, market: Market) -> Decimal:
    return price.quantize(market.rules.tick) if market.rules.tick else price


def _number(params: Params, name: str, default: int) -> int:
    try:
        return int(float(params.get(name, default)))
    except ValueError:
        raise KrakenError(f"EGeneral:Invalid arguments:{name}") from None
