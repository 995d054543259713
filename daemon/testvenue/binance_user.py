"""Binance's user data over the websocket API: subscriptions by signature, and what subscribers are sent.

Source: binance-spot-api-docs, web-socket-api.md and user-data-stream.md (read 2026-11).
"""

import json
from urllib.parse import urlencode

from aiohttp import web

from daemon.ports import Clock
from daemon.testvenue.binance_gate import KeyGate, Need
from daemon.testvenue.binance_words import STATES, TYPES, ApiError, Json, text
from daemon.testvenue.book import Book
from daemon.testvenue.events import BalancesChanged, Change, Event, KeyRevoked, OrderChanged, Transferred
from daemon.testvenue.faults import FaultBox
from daemon.testvenue.orders import ZERO, State
from daemon.testvenue.sockets import Outlet

CHANGES = {
    Change.ACCEPTED: "NEW", Change.TRADED: "TRADE", Change.CANCELLED: "CANCELED", Change.EXPIRED: "EXPIRED",
}  # fmt: skip


class UserStreams:
    """Open sockets of the websocket API; `Outlet.names` holds the keys a socket has subscribed with."""

    def __init__(self, book: Book, gate: KeyGate, *, faults: FaultBox, clock: Clock) -> None:
        self._book = book
        self._gate = gate
        self._faults = faults
        self._clock = clock
        self._subscriptions: dict[int, tuple[Outlet, str]] = {}
        self._next_id = 0
        self.outlets: list[Outlet] = []
        book.listen(self._hear)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Serve one websocket until either side closes it."""
        outlet = Outlet(request, kind="user", faults=self._faults, clock=self._clock)
        self.outlets.append(outlet)
        try:
            return await outlet.serve(self._on_request)
        finally:
            self.outlets.remove(outlet)
            self._subscriptions = {
                number: (one, key) for number, (one, key) in self._subscriptions.items() if one is not outlet
            }

    def shut(self) -> None:
        """Close every socket, as a venue does that restarts."""
        for outlet in self.outlets:
            outlet.shut()

    def is_heard(self, key: str) -> bool:
        """Return whether somebody listens to an account."""
        return any(owner == key and not outlet.response.closed for outlet, owner in self._subscriptions.values())

    def end_subscriptions(self, key: str) -> None:
        """Tell an account's subscribers that their stream has ended."""
        for number, (outlet, owner) in list(self._subscriptions.items()):
            if owner == key:
                self._send(number, outlet, {"e": "eventStreamTerminated", "E": self._book.now_ms()})
                del self._subscriptions[number]

    # ---- requests ---------------------------------------------------------------------------------------------------
    async def _on_request(self, outlet: Outlet, request: Json) -> None:
        try:
            result = self._answer(outlet, request)
            answer: Json = {"id": request.get("id"), "status": 200, "result": result, "rateLimits": []}
        except ApiError as error:
            answer = {"id": request.get("id"), "status": error.status, "error": error.body, "rateLimits": []}
        outlet.answer(json.dumps(answer))

    def _answer(self, outlet: Outlet, request: Json) -> Json:
        params = {name: str(value) for name, value in (request.get("params") or {}).items()}
        match request.get("method"):
            case "ping":
                return {}
            case "time":
                return {"serverTime": self._book.now_ms()}
            case "userDataStream.subscribe.signature":
                return self._subscribe(outlet, params)
            case "userDataStream.unsubscribe":
                for number, (one, _) in list(self._subscriptions.items()):
                    if one is outlet and params.get("subscriptionId", str(number)) == str(number):
                        del self._subscriptions[number]
                return {}
            case "session.subscriptions":
                mine = [number for number, (one, _) in self._subscriptions.items() if one is outlet]
                return {"subscriptions": [{"subscriptionId": number} for number in mine]}
            case other:
                raise ApiError(-1000, f"Unknown method: {other}.")

    def _subscribe(self, outlet: Outlet, params: dict[str, str]) -> Json:
        account = self._gate.account(params.get("apiKey", ""), Need.SIGNED_READ)
        # Signed are all parameters but the signature, sorted by name (web-socket-api.md, SIGNED request security).
        signed = urlencode(sorted((name, value) for name, value in params.items() if name != "signature"))
        self._gate.check_signature(account, [signed], params)
        number = self._next_id
        self._next_id += 1
        self._subscriptions[number] = (outlet, account.key)
        return {"subscriptionId": number}

    # ---- events -----------------------------------------------------------------------------------------------------
    def _hear(self, event: Event) -> None:
        match event:
            case OrderChanged():
                self._tell(event.order.account, _execution_report(event))
            case BalancesChanged():
                held = [{"a": coin, "f": text(free), "l": text(locked)}
                        for coin, (free, locked) in event.balances.items()]  # fmt: skip
                position = {"e": "outboundAccountPosition", "E": event.at_ms, "u": event.at_ms, "B": held}
                self._tell(event.account, position)
            case Transferred():
                moved = {"e": "balanceUpdate", "E": event.at_ms, "a": event.asset, "d": text(event.delta)}
                self._tell(event.account, {**moved, "T": event.at_ms})
            case KeyRevoked():
                self.end_subscriptions(event.account)

    def _tell(self, key: str, event: Json) -> None:
        for number, (outlet, owner) in list(self._subscriptions.items()):
            if owner == key and not outlet.response.closed:
                self._send(number, outlet, event)

    def _send(self, number: int, outlet: Outlet, event: Json) -> None:
        message = json.dumps({"subscriptionId": number, "event": event})
        bye = json.dumps({"event": {"e": "serverShutdown", "E": self._book.now_ms()}})
        known = {"symbol": "s", "side": "S", "type": "o", "execution": "x", "status": "X", "client_id": "c"}
        params = {name: str(event.get(field, "")) for name, field in known.items()}
        outlet.send(str(event["e"]), message, params, bye=bye)


def _execution_report(event: OrderChanged) -> Json:
    order, trade = event.order, event.execution
    execution = "TRADE_PREVENTION" if order.state is State.PREVENTED else CHANGES[event.change]
    # A cancel is reported under the cancelling request's id; the order's own then stands in `C`.
    is_cancel = event.change is Change.CANCELLED and bool(event.request_id)
    # Its state when this happened: an order that fills at once is told as NEW first.
    state = "NEW" if event.change is Change.ACCEPTED else STATES[order.state]
    last_price, last_quantity = (trade.price, trade.quantity) if trade else (ZERO, ZERO)
    report: Json = {
        "e": "executionReport", "E": event.at_ms, "s": order.symbol.replace("/", ""),
        "c": event.request_id if is_cancel else order.client_id, "S": order.side.value.upper(),
        "o": TYPES[order.type], "f": order.time_in_force.value.upper(), "q": text(order.quantity),
        "p": text(order.price), "P": text(order.stop_price), "F": text(ZERO), "g": -1,
        "C": order.client_id if is_cancel else "", "x": execution, "X": state, "r": "NONE", "i": order.order_id,
        "l": text(last_quantity), "z": text(order.filled), "L": text(last_price),
        "n": text(trade.fee) if trade else "0", "N": trade.fee_asset if trade else None, "T": order.updated_ms,
        "t": trade.trade_id if trade else -1, "I": order.order_id * 2 + 1, "w": order.is_open and order.is_working,
        "m": trade.is_maker if trade else False, "M": False, "O": order.created_ms, "Z": text(order.spent),
        "Y": text(last_price * last_quantity), "Q": text(order.quote_quantity), "V": "EXPIRE_MAKER",
    }  # fmt: skip
    return {**report, "W": order.working_ms} if order.is_working else report
