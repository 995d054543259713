"""Kraken's stream of executions as rows of the kind that ccxt makes of everybody else's.

Only the first message about an order says everything; `new`, `filled` and `canceled` name little more than the order.
ccxt joins them by symbol, which is just what they lack, leaves out our client id and how much has filled, and takes
what has filled for the quantity. https://docs.kraken.com/api/docs/websocket-v2/executions (2025). Pure.
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

_KNOWN = 2_000  # orders remembered; those that matter are open, or ended a moment ago
_STATUSES = {
    "pending_new": "open",
    "new": "open",
    "partially_filled": "open",
    "filled": "closed",
    "canceled": "canceled",
    "expired": "expired",
}


class KrakenRows:
    """Puts together what one stream says about each order; called with ccxt's rows, orders and trades."""

    def __init__(self) -> None:
        self._told: OrderedDict[str, dict[str, Any]] = OrderedDict()

    def __call__(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the row with everything that is known of its order by now; what cannot be joined stays as it is."""
        info = row.get("info")
        if not isinstance(info, Mapping) or not isinstance(info.get("order_id"), str):
            return row
        told = self._told.setdefault(info["order_id"], {})
        self._told.move_to_end(info["order_id"])
        if len(self._told) > _KNOWN:
            self._told.popitem(last=False)
        if info.get("exec_type") == "trade":
            told |= {name: info[name] for name in ("symbol", "side", "cl_ord_id") if name in info}
            return {**row, "clientOrderId": info.get("cl_ord_id", "")}
        told |= info
        return _order(row, told)


def _order(row: Mapping[str, Any], told: Mapping[str, Any]) -> dict[str, Any]:
    triggers = told.get("triggers")
    price = triggers.get("price") if isinstance(triggers, Mapping) else told.get("stop_price")
    return {
        **row,
        "clientOrderId": told.get("cl_ord_id", ""),
        "symbol": told.get("symbol"),
        "side": told.get("side"),
        "status": _STATUSES.get(str(told.get("order_status")), told.get("order_status")),
        "amount": told.get("order_qty"),
        "filled": told.get("cum_qty"),
        "cost": told.get("cum_cost"),
        "average": told.get("avg_price"),
        "price": told.get("limit_price"),
        "stopLossPrice": price,
        "triggerPrice": price,
        "stopPrice": price,
    }
