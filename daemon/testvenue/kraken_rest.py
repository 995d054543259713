"""Kraken's private REST methods: what each answers, as a plain value; nothing here knows HTTP."""

import re
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from daemon.testvenue.accounts import Account
from daemon.testvenue.book import Book
from daemon.testvenue.kraken_history import History, as_bool
from daemon.testvenue.kraken_keys import KeyRing
from daemon.testvenue.kraken_words import (
    ERRORS,
    KrakenError,
    asset_id,
    description,
    pair_altname,
    pair_id,
    pair_wsname,
    rfc3339,
    side_of,
    text,
    txid,
)
from daemon.testvenue.market import Market
from daemon.testvenue.orders import ZERO, BookOrder, NewOrder, OrderType, Refusal, RefusalKind, TimeInForce
from strategy.order import Side

Params = Mapping[str, str]
Result = dict[str, Any]

_ID = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}|[\x21-\x7e]{1,18}", re.IGNORECASE)
_TYPES = {
    "market": OrderType.MARKET,
    "limit": OrderType.LIMIT,
    "stop-loss": OrderType.STOP,
    "stop-loss-limit": OrderType.STOP_LIMIT,
    "take-profit": OrderType.TAKE_PROFIT,
    "take-profit-limit": OrderType.TAKE_PROFIT_LIMIT,
}
_TIMES = {"": TimeInForce.GTC, "GTC": TimeInForce.GTC, "IOC": TimeInForce.IOC, "FOK": TimeInForce.FOK}
_MAX_TIMEOUT_S = 86_400


class PrivateApi:
    """Answers the private methods. arm: starts (seconds > 0) or stops (0) the account's dead-man switch."""

    def __init__(self, book: Book, keys: KeyRing, *, arm: Callable[[Account, float], None]) -> None:
        self._book = book
        self._keys = keys
        self._arm = arm
        self._userrefs: dict[int, int] = {}
        history = History(book, self._userrefs)
        self._methods: Mapping[str, tuple[Callable[[Account, Params], Result], str]] = {
            "AddOrder": (self._add_order, "may_trade"),
            "CancelOrder": (self._cancel_order, "may_trade"),
            "CancelAll": (self._cancel_all, "may_trade"),
            "CancelAllOrdersAfter": (self._cancel_all_after, "may_trade"),
            "OpenOrders": (history.open_orders, "may_read"),
            "ClosedOrders": (history.closed_orders, "may_read"),
            "QueryOrders": (history.query_orders, "may_read"),
            "TradesHistory": (history.trades, "may_read"),
            "QueryTrades": (history.query_trades, "may_read"),
            "Balance": (self._balance, "may_read"),
            "BalanceEx": (self._balance_ex, "may_read"),
            "TradeVolume": (self._trade_volume, "may_read"),
            "GetWebSocketsToken": (self._websockets_token, "may_read"),
            "GetApiKeyInfo": (self._key_info, ""),
        }

    def answer(self, method: str, account: Account, params: Params) -> Result:
        """Return the result of a method. Raises KrakenError."""
        try:
            function, right = self._methods[method]
        except KeyError:
            raise KrakenError("EGeneral:Unknown method") from None
        if right and not getattr(account.rights, right):
            raise KrakenError("EGeneral:Permission denied")
        self._keys.count(account, method)
        try:
            return function(account, params)
        except Refusal as refusal:
            raise KrakenError(ERRORS[refusal.kind]) from None

    # ---- orders -----------------------------------------------------------------------------------------------------
    def _add_order(self, account: Account, params: Params) -> Result:
        market = find_market(self._book, params.get("pair", ""))
        new = _new_order(market, params)
        userref = _whole(params, "userref")
        if as_bool(params.get("validate", "")):
            self._admit(account, market, new)
            return {"descr": {"order": description(new, market)}}
        try:
            order = self._book.place(account.key, new)
        except Refusal as refusal:
            raise _worded(refusal, market, new) from None
        if userref:
            self._userrefs[order.order_id] = userref
        return {"descr": {"order": description(order, market)}, "txid": [txid(order.order_id)]}

    def _admit(self, account: Account, market: Market, new: NewOrder) -> None:
        try:
            self._book.admit(account.key, new)
        except Refusal as refusal:
            raise _worded(refusal, market, new) from None

    def _cancel_order(self, account: Account, params: Params) -> Result:
        found = self._named(account, params)
        if not found:
            raise KrakenError("EOrder:Unknown order")
        for order in found:
            self._book.cancel(account.key, order)
        return {"count": len(found)}

    def _named(self, account: Account, params: Params) -> list[BookOrder]:
        opened = [order for order in self._book.orders_of(account.key) if order.is_open]
        if client_id := params.get("cl_ord_id", ""):
            return [order for order in opened if order.client_id == client_id]
        wanted = params.get("txid", "")
        if not wanted:
            raise KrakenError("EGeneral:Invalid arguments")
        if wanted.lstrip("-").isdecimal():
            return [order for order in opened if self._userrefs.get(order.order_id) == int(wanted)]
        return [order for order in opened if txid(order.order_id) == wanted]

    def _cancel_all(self, account: Account, _params: Params) -> Result:
        return {"count": cancel_all(self._book, account)}

    def _cancel_all_after(self, account: Account, params: Params) -> Result:
        seconds = _whole(params, "timeout")
        if not 0 <= seconds <= _MAX_TIMEOUT_S:
            raise KrakenError("EGeneral:Invalid arguments:timeout")
        self._arm(account, float(seconds))
        now = self._book.now_ms()
        return {"currentTime": rfc3339(now), "triggerTime": rfc3339(now + seconds * 1_000) if seconds else "0"}

    # ---- the account ------------------------------------------------------------------------------------------------
    def _balance(self, account: Account, _params: Params) -> Result:
        return {asset_id(coin): text(held.total) for coin, held in sorted(account.holdings.items()) if held.total}

    def _balance_ex(self, account: Account, _params: Params) -> Result:
        return {
            asset_id(coin): {"balance": text(held.total), "hold_trade": text(held.locked)}
            for coin, held in sorted(account.holdings.items())
            if held.total
        }

    def _trade_volume(self, account: Account, params: Params) -> Result:
        result: Result = {"currency": "ZUSD", "volume": "0.0000"}
        if pairs := params.get("pair", ""):
            markets = [find_market(self._book, name) for name in pairs.split(",")]
            for key, rate in (("fees", account.taker), ("fees_maker", account.maker)):
                percent = text((rate * 100).quantize(Decimal("0.0001")))
                result[key] = {pair_id(market): {"fee": percent, "nextfee": None} for market in markets}
        return result

    def _websockets_token(self, account: Account, _params: Params) -> Result:
        return {"token": self._keys.token(account), "expires": 900}

    def _key_info(self, account: Account, _params: Params) -> Result:
        rights = account.rights
        named = {
            "may_read": ("query-funds", "query-open-trades", "query-closed-trades"),
            "may_trade": ("modify-trades", "close-trades"),
            "may_withdraw": ("withdraw-funds",),
        }
        return {
            "api_key_name": account.name,
            "permissions": [word for right, words in named.items() if getattr(rights, right) for word in words],
            "ip_allowlist": ["127.0.0.1"] if rights.is_bound_to_ip else [],
            "nonce_window": 0,
        }


def cancel_all(book: Book, account: Account, reason: str = "") -> int:
    """Cancel every open order of an account, stops too, and return how many there were."""
    opened = [order for order in book.orders.values() if order.account == account.key and order.is_open]
    for order in opened:
        order.detail = reason
        book.cancel(account.key, order)
    return len(opened)


def find_market(book: Book, name: str) -> Market:
    """Return the market that Kraken, or its clients, call `name`. Raises KrakenError."""
    for market in book.markets.values():
        if name in {pair_id(market), pair_altname(market), pair_wsname(market), market.symbol}:
            return market
    raise KrakenError("EQuery:Unknown asset pair")


def _new_order(market: Market, params: Params) -> NewOrder:
    kind = _TYPES.get(params.get("ordertype", ""))
    if kind is None or "leverage" in params:
        raise KrakenError("EGeneral:Invalid arguments:ordertype")
    flags = set(filter(None, params.get("oflags", "").split(",")))
    if "post" in flags:
        if kind is not OrderType.LIMIT:
            raise KrakenError("EGeneral:Invalid arguments:oflags")
        kind = OrderType.POST_ONLY
    in_force = _TIMES.get(params.get("timeinforce", "").upper())
    if in_force is None:
        raise KrakenError("EGeneral:Invalid arguments:timeinforce")
    side, volume = side_of(params.get("type", "")), _number(params, "volume")
    first = ZERO if kind is OrderType.MARKET else _number(params, "price")
    second = _number(params, "price2") if kind.is_conditional and kind.has_limit else first
    in_quote = "viqc" in flags
    if in_quote and not (kind is OrderType.MARKET and side is Side.BUY):
        raise KrakenError("EGeneral:Invalid arguments:viqc")
    return NewOrder(
        symbol=market.symbol, side=side, type=kind, quantity=ZERO if in_quote else volume,
        quote_quantity=volume if in_quote else ZERO, time_in_force=in_force, client_id=_client_id(params),
        price=second if kind.has_limit else ZERO, stop_price=first if kind.is_conditional else ZERO,
    )  # fmt: skip


def _client_id(params: Params) -> str:
    client_id = params.get("cl_ord_id", "")
    if client_id and (not _ID.fullmatch(client_id) or params.get("userref")):
        raise KrakenError("EGeneral:Invalid arguments:cl_ord_id")
    return client_id


def _number(params: Params, name: str) -> Decimal:
    try:
        number = Decimal(params.get(name, ""))
    except InvalidOperation:
        raise KrakenError(f"EGeneral:Invalid arguments:{name}") from None
    if not number.is_finite() or number <= ZERO:
        raise KrakenError(f"EGeneral:Invalid arguments:{name}")
    return number


def _whole(params: Params, name: str) -> int:
    try:
        return int(params.get(name, "0"))
    except ValueError:
        raise KrakenError(f"EGeneral:Invalid arguments:{name}") from None


def _worded(refusal: Refusal, market: Market, new: NewOrder) -> KrakenError:
    """Return a refusal in Kraken's words: what is too fine a quantity for us is no volume at all there."""
    if refusal.kind is RefusalKind.QUANTITY and new.quantity >= market.rules.min_quantity:
        return KrakenError("EGeneral:Invalid arguments:volume")
    return KrakenError(ERRORS[refusal.kind])
