"""What Kraken tells of an account's orders and trades: open, closed, by id; 50 to a page, newest first."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from daemon.testvenue.accounts import Account
from daemon.testvenue.book import Book
from daemon.testvenue.kraken_words import KrakenError, order_json, trade_json, trade_txid, txid
from daemon.testvenue.orders import BookOrder, Execution

_PAGE = 50
_MOST_IDS = 50
_T = TypeVar("_T")
Params = Mapping[str, str]
Result = dict[str, Any]


def as_bool(word: str) -> bool:
    """Return whether a parameter says yes; Kraken takes `true` in any case, and 1."""
    return word.lower() in {"true", "1"}


class History:
    """Answers lookups. userrefs: the number that a client gave an order, by order id."""

    def __init__(self, book: Book, userrefs: Mapping[int, int]) -> None:
        self._book = book
        self._userrefs = userrefs

    def open_orders(self, account: Account, params: Params) -> Result:
        """Return `{"open": {txid: order}}`, all of them."""
        found = [order for order in self._wanted(account, params) if order.is_open]
        return {"open": self._shown(found, params)}

    def closed_orders(self, account: Account, params: Params) -> Result:
        """Return `{"closed": {txid: order}, "count": n}`, one page; `start`, `end` count by when it was closed."""
        found = [order for order in self._wanted(account, params) if not order.is_open]
        found.sort(key=lambda order: (order.updated_ms, order.order_id), reverse=True)
        found = [order for order in found if _is_within(order.updated_ms, params)]
        return {"closed": self._shown(_page(found, params), params), "count": len(found)}

    def query_orders(self, account: Account, params: Params) -> Result:
        """Return `{txid: order}` of the named orders. Raises KrakenError when none of them is known."""
        wanted = _ids(params)
        found = [order for order in self._wanted(account, params) if txid(order.order_id) in wanted]
        if not found:
            raise KrakenError("EOrder:Unknown order")
        return self._shown(found, params)

    def trades(self, account: Account, params: Params) -> Result:
        """Return `{"trades": {id: trade}, "count": n}`, one page."""
        found = [each for each in self._book.executions_of(account.key) if _is_within(each.at_ms, params)]
        found.reverse()
        return {"trades": self._traded(_page(found, params)), "count": len(found)}

    def query_trades(self, account: Account, params: Params) -> Result:
        """Return `{id: trade}` of the named trades. Raises KrakenError when none of them is known."""
        wanted = _ids(params)
        found = [
            each
            for each in self._book.executions_of(account.key)
            if trade_txid(each.symbol, each.trade_id, each.order_id) in wanted
        ]
        if not found:
            raise KrakenError("EQuery:Unknown trade")
        return self._traded(found)

    def _wanted(self, account: Account, params: Params) -> list[BookOrder]:
        found = self._book.orders_of(account.key)
        if client_id := params.get("cl_ord_id", ""):
            found = [order for order in found if order.client_id == client_id]
        if (userref := params.get("userref", "")).lstrip("-").isdecimal():
            found = [order for order in found if self._userrefs.get(order.order_id) == int(userref)]
        return found

    def _shown(self, orders: Sequence[BookOrder], params: Params) -> Result:
        with_trades = as_bool(params.get("trades", ""))
        return {
            txid(order.order_id): order_json(
                order,
                self._book.markets[order.symbol],
                userref=self._userrefs.get(order.order_id, 0),
                with_trades=with_trades,
            )
            for order in orders
        }

    def _traded(self, executions: Sequence[Execution]) -> Result:
        return {
            trade_txid(each.symbol, each.trade_id, each.order_id): trade_json(
                each, self._book.orders[each.order_id], self._book.markets[each.symbol]
            )
            for each in executions
        }


def _ids(params: Params) -> frozenset[str]:
    wanted = frozenset(filter(None, params.get("txid", "").split(",")))
    if not 0 < len(wanted) <= _MOST_IDS:
        raise KrakenError("EGeneral:Invalid arguments:txid")
    return wanted


def _page(found: Sequence[_T], params: Params) -> Sequence[_T]:
    try:
        offset = int(params.get("ofs", "0"))
    except ValueError:
        raise KrakenError("EGeneral:Invalid arguments:ofs") from None
    return found[offset : offset + _PAGE]


def _is_within(at_ms: int, params: Params) -> bool:
    """Return whether something lies after `start` (exclusive) and not after `end`, both in seconds."""
    try:
        start, end = (float(params.get(name) or edge) for name, edge in (("start", "-1"), ("end", "1e15")))
    except ValueError:
        raise KrakenError("EGeneral:Invalid arguments:start") from None
    return start * 1e3 < at_ms <= end * 1e3
