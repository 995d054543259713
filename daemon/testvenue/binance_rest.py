"""Binance's trading and account calls over REST: orders, lookups, trades, balances.

Source: binance-spot-api-docs, rest-api.md (read 2026-11).
"""

from typing import Any

from daemon.testvenue.binance_call import Call
from daemon.testvenue.binance_words import STATES, TYPES, TYPES_BACK, ApiError, Json, order_json, refused, text
from daemon.testvenue.book import Book
from daemon.testvenue.market import Market, Status
from daemon.testvenue.orders import BookOrder, Execution, NewOrder, OrderType, Refusal, TimeInForce
from strategy.order import Side

DAY_MS = 86_400_000


class TradingCalls:
    """Answers signed calls about orders and accounts."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._made_ids = 0

    # ---- orders -----------------------------------------------------------------------------------------------------
    def new_order(self, call: Call) -> Json:
        """POST order."""
        market, new = self._read_order(call)
        try:
            order = self._book.place(call.account.key, new)
        except Refusal as refusal:
            raise refused(refusal) from None
        return self._answer(order, call.params.get("newOrderRespType", ""), market)

    def test_order(self, call: Call) -> Json:
        """POST order/test: checked, not placed."""
        try:
            self._book.admit(call.account.key, self._read_order(call)[1])
        except Refusal as refusal:
            raise refused(refusal) from None
        return {}

    def get_order(self, call: Call) -> Json:
        """GET order."""
        return order_json(self._find(call, ApiError(-2013, "Order does not exist.")))

    def cancel_order(self, call: Call) -> Json:
        """DELETE order."""
        unknown = ApiError(-2011, "Unknown order sent.")
        order = self._find(call, unknown)
        if not order.is_open:
            raise unknown
        request_id = call.client_id("newClientOrderId") or self._make_id()
        self._book.cancel(call.account.key, order, request_id)
        return self._cancelled(order, request_id)

    def cancel_all(self, call: Call) -> list[Json]:
        """DELETE openOrders."""
        market = call.market(self._book)
        found = [order for order in self._book.orders_of(call.account.key, market.symbol) if order.is_open]
        if not found:
            raise ApiError(-2011, "Unknown order sent.")
        answers = []
        for order in found:
            request_id = self._make_id()
            self._book.cancel(call.account.key, order, request_id)
            answers.append(self._cancelled(order, request_id))
        return answers

    def open_orders(self, call: Call) -> list[Json]:
        """GET openOrders."""
        symbol = call.market(self._book).symbol if call.params.get("symbol") else None
        return [order_json(order) for order in self._book.orders_of(call.account.key, symbol) if order.is_open]

    def all_orders(self, call: Call) -> list[Json]:
        """GET allOrders."""
        orders = self._book.orders_of(call.account.key, call.market(self._book).symbol)
        first, limit = call.integer("orderId"), call.limit(500, 1_000)
        start, end = call.integer("startTime"), call.integer("endTime")
        if first is not None:
            return [order_json(order) for order in orders if order.order_id >= first][:limit]
        orders = [order for order in orders if _within(order.created_ms, start, end)]
        return [order_json(order) for order in (orders[-limit:] if start is None else orders[:limit])]

    # ---- the account ------------------------------------------------------------------------------------------------
    def my_trades(self, call: Call) -> list[Json]:
        """GET myTrades."""
        market = call.market(self._book)
        trades = self._book.executions_of(call.account.key, market.symbol)
        order_id, first, limit = call.integer("orderId"), call.integer("fromId"), call.limit(500, 1_000)
        start, end = call.integer("startTime"), call.integer("endTime")
        if first is not None and start is not None:
            raise ApiError(-1128, "Combination of optional parameters invalid.")
        if start is not None and end is not None and end - start > DAY_MS:
            raise ApiError(-1127, "More than 24 hours between startTime and endTime.")
        trades = [
            trade
            for trade in trades
            if (order_id is None or trade.order_id == order_id)
            and (first is None or trade.trade_id >= first)
            and _within(trade.at_ms, start, end)
        ]
        is_forward = first is not None or start is not None
        return [_trade_json(trade) for trade in (trades[:limit] if is_forward else trades[-limit:])]

    def account(self, call: Call) -> Json:
        """GET account."""
        account = call.account
        skips = call.params.get("omitZeroBalances", "false") == "true"
        balances = [
            {"asset": asset, "free": text(one.free), "locked": text(one.locked)}
            for asset, one in sorted(account.holdings.items())
            if one.total or not skips
        ]
        rates = {"maker": text(account.maker), "taker": text(account.taker)}
        return {
            "makerCommission": int(account.maker * 10_000), "takerCommission": int(account.taker * 10_000),
            "buyerCommission": 0, "sellerCommission": 0,
            "commissionRates": {**rates, "buyer": "0.00000000", "seller": "0.00000000"},
            "canTrade": account.rights.may_trade, "canWithdraw": account.rights.may_withdraw, "canDeposit": True,
            "brokered": False, "requireSelfTradePrevention": False, "preventSor": False,
            "updateTime": self._book.now_ms(), "accountType": "SPOT", "balances": balances, "permissions": ["SPOT"],
            "uid": account.uid,
        }  # fmt: skip

    def commission(self, call: Call) -> Json:
        """GET account/commission."""
        account, market = call.account, call.market(self._book)
        none = {"maker": "0.00000000", "taker": "0.00000000", "buyer": "0.00000000", "seller": "0.00000000"}
        return {
            "symbol": market.base + market.quote,
            "standardCommission": {**none, "maker": text(account.maker), "taker": text(account.taker)},
            "taxCommission": none,
            "discount": {
                "enabledForAccount": account.fee_mode.value == "coin", "enabledForSymbol": True,
                "discountAsset": account.fee_coin, "discount": text(1 - account.fee_discount),
            },
        }  # fmt: skip

    # ---- inside -----------------------------------------------------------------------------------------------------
    def _read_order(self, call: Call) -> tuple[Market, NewOrder]:
        market = call.market(self._book)
        side, type_name = call.need("side"), call.need("type")
        if side not in {"BUY", "SELL"}:
            raise ApiError(-1117, "Invalid side.")
        if type_name not in TYPES_BACK:
            raise ApiError(-1116, "Invalid orderType.")
        order_type = TYPES_BACK[type_name]
        _check_parameters(call, order_type)
        if market.status is not Status.TRADING:
            raise ApiError(-1013, "Market is closed.")
        return market, NewOrder(
            symbol=market.symbol, side=Side(side.lower()), type=order_type, quantity=call.number("quantity"),
            quote_quantity=call.number("quoteOrderQty"), price=call.number("price"),
            stop_price=call.number("stopPrice"), time_in_force=_time_in_force(call, order_type),
            client_id=call.client_id("newClientOrderId") or self._make_id(),
        )  # fmt: skip

    def _find(self, call: Call, unknown: ApiError) -> BookOrder:
        market = call.market(self._book)
        order_id, client_id = call.integer("orderId"), call.client_id("origClientOrderId")
        if order_id is None and not client_id:
            raise ApiError(-1102, "Param 'origClientOrderId' or 'orderId' must be sent, but both were empty/null!")
        order = self._book.find(call.account.key, symbol=market.symbol, order_id=order_id, client_id=client_id)
        if order is None:
            raise unknown
        return order

    def _answer(self, order: BookOrder, detail: str, market: Market) -> Json:
        head: Json = {
            "symbol": market.base + market.quote, "orderId": order.order_id, "orderListId": -1,
            "clientOrderId": order.client_id, "transactTime": order.updated_ms,
        }  # fmt: skip
        is_full_by_default = order.type in {OrderType.MARKET, OrderType.LIMIT}
        if detail == "ACK" or (not detail and not is_full_by_default):
            return head
        shown = order_json(order)
        kept = ("price", "origQty", "executedQty", "origQuoteOrderQty", "cummulativeQuoteQty", "status", "timeInForce",
                "type", "side", "workingTime", "selfTradePreventionMode")  # fmt: skip
        head.update({name: shown[name] for name in kept})
        if order.stop_price:
            head["stopPrice"] = shown["stopPrice"]
        if detail != "RESULT":
            head["fills"] = [_fill_json(trade) for trade in order.executions]
        return head

    def _cancelled(self, order: BookOrder, request_id: str) -> Json:
        shown = order_json(order)
        kept = ("symbol", "orderId", "orderListId", "price", "origQty", "executedQty", "origQuoteOrderQty",
                "cummulativeQuoteQty", "timeInForce", "side", "selfTradePreventionMode")  # fmt: skip
        answer = {name: shown[name] for name in kept}
        names = {"status": STATES[order.state], "type": TYPES[order.type], "transactTime": order.updated_ms}
        return {**answer, **names, "origClientOrderId": order.client_id, "clientOrderId": request_id}

    def _make_id(self) -> str:
        self._made_ids += 1
        return f"venue{self._made_ids:017d}"


def _check_parameters(call: Call, order_type: OrderType) -> None:
    """Raise ApiError for a parameter that this type needs, or does not take."""
    if order_type is OrderType.MARKET:
        if bool(call.params.get("quantity")) == bool(call.params.get("quoteOrderQty")):
            raise ApiError(-1128, "Combination of optional parameters invalid.")
    else:
        call.need("quantity")
    needs_price = order_type.has_limit
    if needs_price:
        call.need("price")
    elif call.params.get("price"):
        raise ApiError(-1106, "Parameter 'price' sent when not required.")
    if order_type.is_conditional:
        call.need("stopPrice")
    elif call.params.get("stopPrice"):
        raise ApiError(-1106, "Parameter 'stopPrice' sent when not required.")


def _time_in_force(call: Call, order_type: OrderType) -> TimeInForce:
    takes_one = order_type.has_limit and order_type is not OrderType.POST_ONLY
    if not takes_one:
        if call.params.get("timeInForce"):
            raise ApiError(-1106, "Parameter 'timeInForce' sent when not required.")
        return TimeInForce.GTC
    try:
        return TimeInForce(call.need("timeInForce").lower())
    except ValueError:
        raise ApiError(-1115, "Invalid timeInForce.") from None


def _within(at_ms: int, start: int | None, end: int | None) -> bool:
    return (start is None or at_ms >= start) and (end is None or at_ms <= end)


def _fill_json(trade: Execution) -> Json:
    return {
        "price": text(trade.price), "qty": text(trade.quantity), "commission": text(trade.fee),
        "commissionAsset": trade.fee_asset, "tradeId": trade.trade_id,
    }  # fmt: skip


def _trade_json(trade: Execution) -> dict[str, Any]:
    return {
        "symbol": trade.symbol.replace("/", ""), "id": trade.trade_id, "orderId": trade.order_id, "orderListId": -1,
        "price": text(trade.price), "qty": text(trade.quantity), "quoteQty": text(trade.value),
        "commission": text(trade.fee), "commissionAsset": trade.fee_asset, "time": trade.at_ms,
        "isBuyer": trade.side is Side.BUY, "isMaker": trade.is_maker, "isBestMatch": True,
    }  # fmt: skip
