"""Kraken's words: names of coins and pairs, ids, orders and trades as its REST API writes them, errors.

Sources: https://docs.kraken.com/api/ and ccxt's parsers, which are what has to understand it. Where Kraken does not
document a wording, it says so here.
"""

import base64
import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from typing import Any

from daemon.testvenue.market import Market
from daemon.testvenue.orders import ZERO, BookOrder, Execution, NewOrder, OrderType, RefusalKind, State
from strategy.order import Side

_LEGACY = {
    "BTC": "XXBT", "DOGE": "XXDG", "ETH": "XETH", "LTC": "XLTC", "XRP": "XXRP", "XLM": "XXLM", "ZEC": "XZEC",
    "XMR": "XXMR", "ETC": "XETC", "USD": "ZUSD", "EUR": "ZEUR", "GBP": "ZGBP", "JPY": "ZJPY", "CAD": "ZCAD",
    "AUD": "ZAUD",
}  # fmt: skip
_ALTNAMES = {"BTC": "XBT", "DOGE": "XDG"}

ERRORS: Mapping[RefusalKind, str] = {
    RefusalKind.PRICE: "EOrder:Invalid price",
    RefusalKind.PRICE_BAND: "EOrder:Invalid price",
    RefusalKind.QUANTITY: "EOrder:Order minimum not met",
    RefusalKind.MARKET_QUANTITY: "EGeneral:Invalid arguments:volume",
    RefusalKind.VALUE: "EOrder:Cost minimum not met",
    RefusalKind.TOO_MANY_ORDERS: "EOrder:Orders limit exceeded",
    RefusalKind.TOO_MANY_STOPS: "EOrder:Orders limit exceeded",
    RefusalKind.FUNDS: "EOrder:Insufficient funds",
    RefusalKind.DUPLICATE: "EOrder:Duplicate order",  # documented as refused, not in which words
    RefusalKind.CLOSED: "EService:Market in cancel_only mode",
    RefusalKind.WOULD_TAKE: "EOrder:Post only order",
    RefusalKind.WOULD_TRIGGER: "EOrder:Invalid price",
    RefusalKind.NO_SUCH_ORDER: "EOrder:Unknown order",
    RefusalKind.NO_SUCH_MARKET: "EQuery:Unknown asset pair",
    RefusalKind.NO_LIQUIDITY: "EOrder:Insufficient liquidity",  # not documented
}

_TYPES = {
    OrderType.MARKET: "market",
    OrderType.LIMIT: "limit",
    OrderType.POST_ONLY: "limit",
    OrderType.STOP: "stop-loss",
    OrderType.STOP_LIMIT: "stop-loss-limit",
    OrderType.TAKE_PROFIT: "take-profit",
    OrderType.TAKE_PROFIT_LIMIT: "take-profit-limit",
}
_STATUSES = {
    State.NEW: "open",
    State.PARTLY_FILLED: "open",
    State.FILLED: "closed",
    State.CANCELLED: "canceled",
    # Kraken calls only what ran out of time expired; the rest of an IOC or market order is cancelled.
    State.EXPIRED: "canceled",
    State.PREVENTED: "canceled",
}


class KrakenError(Exception):
    """What Kraken answers instead of a result; the text is its error."""


# ---- names ------------------------------------------------------------------------------------------------------
def asset_id(coin: str) -> str:
    """Return the name of a coin in balances: `XXBT` for BTC, `USDT` for USDT."""
    return _LEGACY.get(coin, coin)


def altname(coin: str) -> str:
    """Return the short name of a coin: `XBT` for BTC."""
    return _ALTNAMES.get(coin, coin)


def pair_id(market: Market) -> str:
    """Return the key of a pair in answers: `XXBTZUSD` where both coins have old names, else `XBTUSDT`."""
    if market.base in _LEGACY and market.quote in _LEGACY:
        return asset_id(market.base) + asset_id(market.quote)
    return pair_altname(market)


def pair_altname(market: Market) -> str:
    """Return the name of a pair in orders and trades: `XBTUSD`."""
    return altname(market.base) + altname(market.quote)


def pair_wsname(market: Market) -> str:
    """Return the name of a pair in the first version of the websocket API: `XBT/USD`."""
    return f"{altname(market.base)}/{altname(market.quote)}"


def decimals(step: Decimal) -> int:
    """Return how many decimals a step has."""
    exponent = step.normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


# ---- ids and times ----------------------------------------------------------------------------------------------
@cache
def txid(order_id: int) -> str:
    """Return Kraken's id of an order: always the same for the same number, `O` + 5 - 5 - 6 letters and digits."""
    return _spelled("O", f"order {order_id}")


@cache
def trade_txid(symbol: str, trade_id: int, order_id: int) -> str:
    """Return Kraken's id of one side of a trade."""
    return _spelled("T", f"trade {symbol} {trade_id} {order_id}")


def _spelled(letter: str, what: str) -> str:
    letters = letter + base64.b32encode(hashlib.sha256(what.encode()).digest()).decode()[:16]
    return f"{letters[:6]}-{letters[6:11]}-{letters[11:17]}"


def seconds(at_ms: int) -> float:
    """Return a time as REST writes it: seconds with decimals."""
    return at_ms / 1e3


def rfc3339(at_ms: int) -> str:
    """Return a time as the websocket writes it."""
    return datetime.fromtimestamp(at_ms / 1e3, tz=UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def text(value: Decimal) -> str:
    """Return a number as Kraken writes it, without an exponent."""
    return format(value, "f")


# ---- orders and trades ------------------------------------------------------------------------------------------
def order_type(order: BookOrder | NewOrder) -> str:
    """Return Kraken's word for the type of an order."""
    return _TYPES[order.type]


def status(order: BookOrder) -> str:
    """Return Kraken's word for the state of an order."""
    return _STATUSES[order.state]


def reason(order: BookOrder) -> str | None:
    """Return why an order ended, None when it is open or filled."""
    if order.is_open or order.state is State.FILLED:
        return None
    return order.detail or ("User requested" if order.state is State.CANCELLED else "Immediate or cancel")


def average(order: BookOrder) -> Decimal:
    """Return the average price of what filled, 0 while nothing has."""
    return (order.spent / order.filled).quantize(Decimal("0.00000001")) if order.filled else ZERO


def fee_in_quote(execution: Execution, market: Market) -> Decimal:
    """Return what a trade cost, in quote, the only coin in which REST tells fees."""
    if execution.fee_asset == market.quote:
        return execution.fee
    return execution.fee * execution.price


def description(order: BookOrder | NewOrder, market: Market) -> str:
    """Return an order in one line: `sell 0.5 XBTUSD @ stop loss 29000.0 -> limit 28900.0`."""
    return f"{order.side.value} {text(order.quantity or order.quote_quantity)} {pair_altname(market)} @ {_terms(order)}"


def _terms(order: BookOrder | NewOrder) -> str:
    match order.type:
        case OrderType.MARKET:
            return "market"
        case OrderType.LIMIT | OrderType.POST_ONLY:
            return f"limit {text(order.price)}"
        case OrderType.STOP | OrderType.TAKE_PROFIT:
            return f"{order_type(order).replace('-', ' ')} {text(order.stop_price)}"
        case OrderType.STOP_LIMIT | OrderType.TAKE_PROFIT_LIMIT:
            kind = order_type(order).removesuffix("-limit").replace("-", " ")
            return f"{kind} {text(order.stop_price)} -> limit {text(order.price)}"


def order_json(order: BookOrder, market: Market, *, userref: int, with_trades: bool) -> dict[str, Any]:
    """Return an order as OpenOrders, ClosedOrders and QueryOrders show it."""
    first, second = (order.stop_price, order.price) if order.type.is_conditional else (order.price, ZERO)
    result: dict[str, Any] = {
        "refid": None,
        "userref": userref,
        "status": status(order),
        "reason": reason(order),
        "opentm": seconds(order.created_ms),
        "starttm": 0,
        "expiretm": 0,
        "descr": {
            "pair": pair_altname(market), "type": order.side.value, "ordertype": order_type(order),
            "price": text(first), "price2": text(second), "leverage": "none", "order": description(order, market),
            "close": "",
        },
        "vol": text(order.quantity),
        "vol_exec": text(order.filled),
        "cost": text(order.spent),
        "fee": text(sum((fee_in_quote(trade, market) for trade in order.executions), ZERO)),
        "price": text(average(order)),
        "stopprice": text(order.stop_price if order.type.is_conditional else ZERO),
        "limitprice": text(ZERO),
        "misc": "stopped" if order.type.is_conditional and order.is_working else "",
        "oflags": "fciq,post" if order.type is OrderType.POST_ONLY else "fciq",
    }  # fmt: skip
    if order.client_id:
        result["cl_ord_id"] = order.client_id
    if not order.is_open:
        result["closetm"] = seconds(order.updated_ms)
    if with_trades and order.executions:
        result["trades"] = [trade_txid(each.symbol, each.trade_id, each.order_id) for each in order.executions]
    return result


def trade_json(execution: Execution, order: BookOrder, market: Market) -> dict[str, Any]:
    """Return a trade as TradesHistory and QueryTrades show it."""
    return {
        "ordertxid": txid(execution.order_id),
        "postxid": _spelled("T", f"position {execution.order_id}"),
        "pair": pair_id(market),
        "time": seconds(execution.at_ms),
        "type": execution.side.value,
        "ordertype": order_type(order),
        "price": text(execution.price),
        "cost": text(execution.value),
        "fee": text(fee_in_quote(execution, market)),
        "vol": text(execution.quantity),
        "margin": text(ZERO),
        "leverage": "0",
        "misc": "",
        "trade_id": execution.trade_id,
        "maker": execution.is_maker,
    }


def side_of(word: str) -> Side:
    """Return the side that Kraken calls `buy` or `sell`. Raises KrakenError."""
    try:
        return Side(word)
    except ValueError:
        raise KrakenError("EGeneral:Invalid arguments:type") from None
