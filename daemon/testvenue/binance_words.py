"""How Binance says it: codes and messages of refusals, names of types and states, numbers as text.

Source: binance-spot-api-docs, errors.md, filters.md, enums.md, rest-api.md (read 2026-11).
"""

from decimal import Decimal
from typing import Any

from aiohttp import web

from daemon.testvenue.orders import BookOrder, OrderType, Refusal, RefusalKind, State

Json = dict[str, Any]


class ApiError(Exception):
    """An answer that is a refusal: HTTP status, Binance's code and message."""

    def __init__(self, code: int, message: str, status: int = 400, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.headers = headers or {}

    @property
    def body(self) -> Json:
        """`{"code": ..., "msg": ...}`."""
        return {"code": self.code, "msg": str(self)}

    def response(self) -> web.Response:
        """Return it as an HTTP answer."""
        return web.json_response(self.body, status=self.status, headers=self.headers)


_REFUSALS = {
    RefusalKind.PRICE: (-1013, "Filter failure: PRICE_FILTER"),
    RefusalKind.QUANTITY: (-1013, "Filter failure: LOT_SIZE"),
    RefusalKind.MARKET_QUANTITY: (-1013, "Filter failure: MARKET_LOT_SIZE"),
    RefusalKind.VALUE: (-1013, "Filter failure: NOTIONAL"),
    RefusalKind.PRICE_BAND: (-1013, "Filter failure: PERCENT_PRICE_BY_SIDE"),
    RefusalKind.TOO_MANY_ORDERS: (-1013, "Filter failure: MAX_NUM_ORDERS"),
    RefusalKind.TOO_MANY_STOPS: (-1013, "Filter failure: MAX_NUM_ALGO_ORDERS"),
    RefusalKind.FUNDS: (-2010, "Account has insufficient balance for requested action."),
    RefusalKind.DUPLICATE: (-2010, "Duplicate order sent."),
    RefusalKind.CLOSED: (-1013, "Market is closed."),
    RefusalKind.WOULD_TAKE: (-2010, "Order would immediately match and take."),
    RefusalKind.WOULD_TRIGGER: (-2010, "Stop price would trigger immediately."),
    RefusalKind.NO_SUCH_ORDER: (-2011, "Unknown order sent."),
    RefusalKind.NO_SUCH_MARKET: (-1121, "Invalid symbol."),
    RefusalKind.NO_LIQUIDITY: (-2010, "Order book liquidity is less than symbol minimum quantity."),
}

TYPES = {
    OrderType.MARKET: "MARKET", OrderType.LIMIT: "LIMIT", OrderType.POST_ONLY: "LIMIT_MAKER",
    OrderType.STOP: "STOP_LOSS", OrderType.STOP_LIMIT: "STOP_LOSS_LIMIT", OrderType.TAKE_PROFIT: "TAKE_PROFIT",
    OrderType.TAKE_PROFIT_LIMIT: "TAKE_PROFIT_LIMIT",
}  # fmt: skip
TYPES_BACK = {name: order_type for order_type, name in TYPES.items()}

STATES = {
    State.NEW: "NEW", State.PARTLY_FILLED: "PARTIALLY_FILLED", State.FILLED: "FILLED", State.CANCELLED: "CANCELED",
    State.EXPIRED: "EXPIRED", State.PREVENTED: "EXPIRED_IN_MATCH",
}  # fmt: skip

SPANS_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}


def refused(refusal: Refusal) -> ApiError:
    """Return the engine room's refusal as Binance words it."""
    return ApiError(*_REFUSALS[refusal.kind])


def span_ms_of(interval: str) -> int:
    """Return the length of a timeframe such as `1m`. Raises ApiError -1120."""
    if interval[:-1].isdigit() and interval[-1:] in SPANS_MS and int(interval[:-1]):
        return int(interval[:-1]) * SPANS_MS[interval[-1]]
    raise ApiError(-1120, "Invalid interval.")


def text(value: Decimal) -> str:
    """Return a number with eight places, as Binance writes all of them."""
    return f"{value:.8f}"


def order_json(order: BookOrder) -> Json:
    """Return an order as GET order, openOrders and allOrders show it."""
    return {
        "symbol": order.symbol.replace("/", ""), "orderId": order.order_id, "orderListId": -1,
        "clientOrderId": order.client_id, "price": text(order.price), "origQty": text(order.quantity),
        "executedQty": text(order.filled), "cummulativeQuoteQty": text(order.spent), "status": STATES[order.state],
        "timeInForce": order.time_in_force.value.upper(), "type": TYPES[order.type], "side": order.side.value.upper(),
        "stopPrice": text(order.stop_price), "icebergQty": "0.00000000", "time": order.created_ms,
        "updateTime": order.updated_ms, "isWorking": order.is_working, "workingTime": order.working_ms,
        "origQuoteOrderQty": text(order.quote_quantity), "selfTradePreventionMode": "EXPIRE_MAKER",
    }  # fmt: skip
