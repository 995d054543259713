"""Kraken's private websocket, version 2: executions and balances, in the order and with the gaps of the real one.

An order begins with `pending_new`, which says everything about it; what follows says little more than its id: `new`,
`filled`, `canceled` name neither the symbol nor the side. A trade that fills an order whole is still
`partially_filled`; `filled` comes after it. https://docs.kraken.com/api/docs/websocket-v2/executions (2025).
"""

import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from daemon.testvenue.accounts import Account
from daemon.testvenue.book import Book
from daemon.testvenue.events import BalancesChanged, Change, Event, KeyRevoked, OrderChanged
from daemon.testvenue.kraken_keys import KeyRing
from daemon.testvenue.kraken_stream import answer_request, hello
from daemon.testvenue.kraken_words import KrakenError, average, order_type, reason, rfc3339, trade_txid, txid
from daemon.testvenue.orders import BookOrder, Execution, OrderType, State
from daemon.testvenue.sockets import Outlet

_SNAPSHOT_TRADES = 50
Json = dict[str, Any]


class UserStream:
    """Everybody who listens to their own account."""

    def __init__(self, book: Book, keys: KeyRing) -> None:
        self._book = book
        self._keys = keys
        self._clients: dict[Outlet, dict[str, str]] = {}
        self._sequences: dict[tuple[Outlet, str], int] = {}
        self._totals: dict[tuple[str, str], Decimal] = {}
        book.listen(self.hear)

    def join(self, outlet: Outlet) -> None:
        """Take a client in."""
        self._clients[outlet] = {}
        outlet.answer(hello())

    def leave(self, outlet: Outlet) -> None:
        """Forget a client."""
        self._clients.pop(outlet, None)
        self._sequences = {key: value for key, value in self._sequences.items() if key[0] is not outlet}

    def outlets(self) -> list[Outlet]:
        """Return everybody who listens."""
        return list(self._clients)

    async def on_message(self, outlet: Outlet, message: Mapping[str, Any]) -> None:
        """Answer a request of a client."""
        answer_request(outlet, message, self._book.now_ms(), lambda params: self._change(outlet, message, params))

    def _change(self, outlet: Outlet, message: Mapping[str, Any], params: Mapping[str, Any]) -> Iterator[Json]:
        channel = params.get("channel")
        if channel not in {"executions", "balances"}:
            raise KrakenError("Subscription name invalid")
        account = self._keys.holder(str(params.get("token", "")))
        if not account.rights.may_read:
            raise KrakenError("EAccount:Invalid permissions")
        yield {"channel": channel, "snapshot": True}
        if message.get("method") == "unsubscribe":
            self._clients[outlet].pop(channel, None)
        else:
            self._clients[outlet][channel] = account.key
            self._greet(outlet, channel, account, params)

    def _greet(self, outlet: Outlet, channel: str, account: Account, params: Mapping[str, Any]) -> None:
        if channel == "balances":
            data = [_balance(coin, held.total) for coin, held in sorted(account.holdings.items()) if held.total]
            self._send(outlet, channel, "snapshot", data, {})
            return
        orders = [order for order in self._book.orders_of(account.key) if order.is_open]
        told = [_whole(order, "new") for order in orders] if params.get("snap_orders", True) else []
        if params.get("snap_trades", False):
            trades = self._book.executions_of(account.key)[-_SNAPSHOT_TRADES:]
            told.extend(_traded(each, self._book.orders[each.order_id]) for each in trades)
        self._send(outlet, channel, "snapshot", told, {})

    # ---- what happens -----------------------------------------------------------------------------------------------
    def hear(self, event: Event) -> None:
        """Pass on what concerns an account."""
        match event:
            case OrderChanged():
                for report in _reports(event):
                    having = {"exec_type": str(report["exec_type"]), "symbol": event.order.symbol}
                    self._tell(event.order.account, "executions", [report], having)
            case BalancesChanged():
                self._hear_balances(event)
            case KeyRevoked():
                for outlet, channels in list(self._clients.items()):
                    if event.account in channels.values():
                        outlet.shut()

    def _hear_balances(self, event: BalancesChanged) -> None:
        changed = []
        for coin, (free, locked) in event.balances.items():
            before = self._totals.get((event.account, coin), Decimal(0))
            self._totals[event.account, coin] = total = free + locked
            if total != before:  # what is only bound or freed is no entry in the ledger
                changed.append({**_balance(coin, total), "amount": float(total - before), "type": "trade"})
        if changed:
            self._tell(event.account, "balances", changed, {})

    def _tell(self, account: str, channel: str, data: list[Json], having: Mapping[str, str]) -> None:
        for outlet, channels in list(self._clients.items()):
            if channels.get(channel) == account:
                self._send(outlet, channel, "update", data, having)

    def _send(self, outlet: Outlet, channel: str, kind: str, data: list[Json], having: Mapping[str, str]) -> None:
        number = self._sequences.get((outlet, channel), 0) + 1
        self._sequences[outlet, channel] = number
        message = {"channel": channel, "type": kind, "data": data, "sequence": number}
        outlet.send(channel, json.dumps(message), {**having, "type": kind})


def _reports(event: OrderChanged) -> Iterator[Json]:
    order = event.order
    match event.change:
        case Change.ACCEPTED:
            yield _whole(order, "pending_new")
            yield {**_ends(order, event.at_ms), "exec_type": "new", "order_status": "new"}
        case Change.TRADED if event.execution is not None:
            yield _traded(event.execution, order)
            if order.state is State.FILLED:
                yield {**_ends(order, event.at_ms), **_sums(order), "exec_type": "filled", "order_status": "filled"}
        case _:
            why = {"cancel_reason": reason(order), "reason": reason(order)}
            end = {**_ends(order, event.at_ms), **_sums(order), **why}
            yield {**end, "exec_type": "canceled", "order_status": "canceled"}


def _ends(order: BookOrder, at_ms: int) -> Json:
    named: Json = {"order_id": txid(order.order_id), "order_userref": 0, "timestamp": rfc3339(at_ms)}
    if order.client_id:
        named["cl_ord_id"] = order.client_id
    return named


def _sums(order: BookOrder) -> Json:
    return {
        "cum_qty": float(order.filled), "cum_cost": float(order.spent), "avg_price": float(average(order)),
        "fee_usd_equiv": float(sum(each.fee for each in order.executions)),
    }  # fmt: skip


def _whole(order: BookOrder, kind: str) -> Json:
    report = {
        **_ends(order, order.updated_ms), **_sums(order), "symbol": order.symbol, "side": order.side.value,
        "order_type": order_type(order), "order_qty": float(order.quantity), "exec_type": kind,
        "order_status": "partially_filled" if order.filled else kind,
        "time_in_force": order.time_in_force.value.upper(), "fee_ccy_pref": "fciq",
        "post_only": order.type is OrderType.POST_ONLY,
    }  # fmt: skip
    if order.type.has_limit:
        report |= {"limit_price": float(order.price), "limit_price_type": "static"}
    if order.type.is_conditional:
        report |= {
            "stop_price": float(order.stop_price),
            "triggers": {"price": float(order.stop_price), "price_type": "static", "reference": "last"},
        }
    return report


def _traded(trade: Execution, order: BookOrder) -> Json:
    return {
        **_ends(order, trade.at_ms), "exec_type": "trade",
        "exec_id": trade_txid(trade.symbol, trade.trade_id, trade.order_id),
        "trade_id": trade.trade_id, "symbol": trade.symbol, "side": trade.side.value, "order_type": order_type(order),
        "last_qty": float(trade.quantity), "last_price": float(trade.price), "cost": float(trade.value),
        "liquidity_ind": "m" if trade.is_maker else "t", "order_status": "partially_filled",
        "fees": [{"asset": trade.fee_asset, "qty": float(trade.fee)}],
    }  # fmt: skip


def _balance(coin: str, total: Decimal) -> Json:
    wallet = {"type": "spot", "id": "main", "balance": float(total)}
    return {"asset": coin, "asset_class": "currency", "balance": float(total), "wallets": [wallet]}
