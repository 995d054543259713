"""Orders and fills: identity, life and the events that move an order from one state to the next.

Owns the transition table. Nothing else in the program changes the state of an order.
"""

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache
from types import MappingProxyType
from typing import Any

from strategy.errors import IllegalTransition, InvalidOrder


class Side(StrEnum):
    """Direction of an order, always seen from the base currency."""

    BUY = "buy"
    SELL = "sell"

    @property
    def sign(self) -> float:
        """+1.0 for what adds to the position, -1.0 for what takes from it."""
        return 1.0 if self is Side.BUY else -1.0


class OrderKind(StrEnum):
    """How the order reaches the market."""

    MARKET = "market"
    """Marketable at once; what cannot fill at once is cancelled."""
    STOP = "stop"
    """Rests at the venue and sells when the price falls to `stop_price`."""


class OrderState(StrEnum):
    """Where an order is in its life. The last five are terminal."""

    INTENDED = "intended"
    """On disk, not yet sent."""
    IN_FLIGHT = "in_flight"
    """Sent, no answer yet."""
    UNKNOWN = "unknown"
    """The answer was lost: the order may exist and must be looked up."""
    OPEN = "open"
    PARTIALLY_FILLED = "partially_filled"
    FILLED = "filled"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    REJECTED = "rejected"
    """The venue proved that it never accepted the order."""
    NOT_PLACED = "not_placed"
    """It is certain that it never reached the venue."""


class OrderEvent(StrEnum):
    """What can happen to an order."""

    SENT = "sent"
    ANSWER_LOST = "answer_lost"
    ACCEPTED = "accepted"
    PARTLY_FILLED = "partly_filled"
    FILLED = "filled"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    REJECTED = "rejected"
    NOT_FOUND = "not_found"


TERMINAL = frozenset(
    {OrderState.FILLED, OrderState.CANCELLED, OrderState.EXPIRED, OrderState.REJECTED, OrderState.NOT_PLACED}
)


def _live(state: OrderState) -> dict[tuple[OrderState, OrderEvent], OrderState]:
    """Return the events any order that may exist at the venue can see: a venue reports in any order."""
    accepted = OrderState.PARTIALLY_FILLED if state is OrderState.PARTIALLY_FILLED else OrderState.OPEN
    return {
        (state, OrderEvent.ACCEPTED): accepted,
        (state, OrderEvent.PARTLY_FILLED): OrderState.PARTIALLY_FILLED,
        (state, OrderEvent.FILLED): OrderState.FILLED,
        (state, OrderEvent.CANCELLED): OrderState.CANCELLED,
        (state, OrderEvent.EXPIRED): OrderState.EXPIRED,
    }


def _late(state: OrderState) -> dict[tuple[OrderState, OrderEvent], OrderState]:
    """Return what a finished order still accepts: repeats of its end, and fills that were under way."""
    return {
        (state, OrderEvent.ACCEPTED): state,
        (state, OrderEvent.PARTLY_FILLED): state,
        (state, OrderEvent.FILLED): OrderState.FILLED,
        (state, OrderEvent.CANCELLED): state,
        (state, OrderEvent.EXPIRED): state,
    }


TRANSITIONS: Mapping[tuple[OrderState, OrderEvent], OrderState] = MappingProxyType(
    {
        (OrderState.INTENDED, OrderEvent.SENT): OrderState.IN_FLIGHT,
        (OrderState.INTENDED, OrderEvent.NOT_FOUND): OrderState.NOT_PLACED,
        (OrderState.INTENDED, OrderEvent.REJECTED): OrderState.REJECTED,
        # A crash between sending and journalling leaves INTENDED on disk: whatever the venue then says is true.
        **_live(OrderState.INTENDED),
        **_live(OrderState.IN_FLIGHT),
        (OrderState.IN_FLIGHT, OrderEvent.ANSWER_LOST): OrderState.UNKNOWN,
        (OrderState.IN_FLIGHT, OrderEvent.REJECTED): OrderState.REJECTED,
        # Noted as sent before the request left, and then proved that it never did.
        (OrderState.IN_FLIGHT, OrderEvent.NOT_FOUND): OrderState.NOT_PLACED,
        **_live(OrderState.UNKNOWN),
        (OrderState.UNKNOWN, OrderEvent.ANSWER_LOST): OrderState.UNKNOWN,
        (OrderState.UNKNOWN, OrderEvent.REJECTED): OrderState.REJECTED,
        (OrderState.UNKNOWN, OrderEvent.NOT_FOUND): OrderState.NOT_PLACED,
        **_live(OrderState.OPEN),
        (OrderState.OPEN, OrderEvent.REJECTED): OrderState.REJECTED,
        **_live(OrderState.PARTIALLY_FILLED),
        **_late(OrderState.FILLED),
        **_late(OrderState.CANCELLED),
        **_late(OrderState.EXPIRED),
        (OrderState.REJECTED, OrderEvent.REJECTED): OrderState.REJECTED,
        (OrderState.NOT_PLACED, OrderEvent.NOT_FOUND): OrderState.NOT_PLACED,
    }
)


def transition(state: OrderState, event: OrderEvent) -> OrderState:
    """Return the state after `event`. Raises IllegalTransition and changes nothing when it cannot happen."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise IllegalTransition(f"an order that is {state} cannot be {event}") from None


_ID_CHARACTERS = re.compile(r"[A-Za-z0-9-_]{1,36}")
_BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"


def client_order_id(instance: str, symbol: str, open_ms: int, sequence: int) -> str:
    """Return the client order id that `instance` uses for its `sequence`-th order on one candle of `symbol`.

    The same inputs always give the same id, so a repeat can be recognised; different inputs give different ids.
    1-36 characters of [A-Za-z0-9-_], as Binance, Kraken, OKX and Bybit accept.
    Raises InvalidOrder for a time before 1970 or a negative sequence.
    """
    if open_ms < 0 or sequence < 0:
        raise InvalidOrder(f"no order id for {symbol} at {open_ms} ms, sequence {sequence}: neither can be negative")
    return f"{id_prefix(instance, symbol)}-{_base36(open_ms // 1000)}-{_base36(sequence)}"


@cache
def id_prefix(instance: str, symbol: str) -> str:
    """Return what every client order id of `instance` in `symbol` begins with, before a further `-`."""
    # A digest of the names keeps the id within 36 characters whatever they are; the readable part stands first.
    digest = hashlib.sha256(f"{instance}\0{symbol}".encode()).hexdigest()[:8]
    readable = re.sub(r"[^A-Za-z0-9]", "", symbol)[:9].lower()
    return f"s-{readable}-{digest}"


def _base36(number: int) -> str:
    digits = ""
    while True:
        number, rest = divmod(number, 36)
        digits = _BASE36[rest] + digits
        if number == 0:
            return digits


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An order as intended: what the journal holds before anything leaves the process.

    quantity: base, > 0, a multiple of the lot.  reference_price: quote per base when it was decided, from which
    slippage is measured.  decided_ms: close of the candle it was decided on.  reason: verdict reason in words.
    reduces: True when it can only lower risk.  stop_price: quote per base, > 0, only for OrderKind.STOP, which sells.
    Raises InvalidOrder.
    """

    client_id: str
    symbol: str
    side: Side
    quantity: float
    reference_price: float
    decided_ms: int
    reason: str
    reduces: bool
    kind: OrderKind = OrderKind.MARKET
    stop_price: float | None = None

    def __post_init__(self) -> None:
        if not _ID_CHARACTERS.fullmatch(self.client_id):
            raise InvalidOrder(f"client order id {self.client_id!r} is not 1-36 characters of [A-Za-z0-9-_]")
        if not (0.0 < self.quantity < math.inf):
            raise InvalidOrder(f"order {self.client_id}: quantity {self.quantity} is not a positive number")
        if not (0.0 < self.reference_price < math.inf):
            raise InvalidOrder(f"order {self.client_id}: price {self.reference_price} is not a positive number")
        if (self.kind is OrderKind.STOP) != (self.stop_price is not None):
            raise InvalidOrder(f"order {self.client_id}: a stop order, and only a stop order, has a stop price")
        if self.stop_price is not None and not (0.0 < self.stop_price < math.inf and self.side is Side.SELL):
            raise InvalidOrder(f"order {self.client_id}: a stop sells at a positive price, not {self.stop_price}")

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Order":
        """Return the order stored as `values`. Raises InvalidOrder, or TypeError or KeyError for other keys."""
        return cls(**{**values, "side": Side(values["side"]), "kind": OrderKind(values["kind"])})

    @property
    def notional(self) -> float:
        """Value in quote at the reference price."""
        return self.quantity * self.reference_price


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """A trade that happened. price: quote per base.  fee: its worth in quote, >= 0.  fill_id: unique at the venue.

    fee_base: base that the venue took for the fee, which is then not paid in quote; `fee` is what it is worth.
    fee_coin, fee_amount: a fee that was paid in neither base nor quote, "" and 0 otherwise; `fee` is what it is worth.
    reference_price is the order's (> 0), kept here so that slippage can be told from the fill alone.
    Raises InvalidOrder.
    """

    fill_id: str
    client_id: str
    symbol: str
    side: Side
    quantity: float
    price: float
    fee: float
    at_ms: int
    reference_price: float
    fee_base: float = 0.0
    fee_coin: str = ""
    fee_amount: float = 0.0

    def __post_init__(self) -> None:
        if not (0.0 < self.quantity < math.inf and 0.0 < self.price < math.inf and 0.0 <= self.fee < math.inf):
            raise InvalidOrder(
                f"fill {self.fill_id}: quantity {self.quantity}, price {self.price}, fee {self.fee} cannot be"
            )
        if not (0.0 <= self.fee_base < math.inf):
            raise InvalidOrder(f"fill {self.fill_id}: fee of {self.fee_base} in base cannot be")
        if not (0.0 < self.reference_price < math.inf):
            raise InvalidOrder(f"fill {self.fill_id}: reference price {self.reference_price} is not a positive number")

    @property
    def notional(self) -> float:
        """Value in quote."""
        return self.quantity * self.price


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderStatus:
    """An order and how far it has come: folded from events, filled: base filled so far."""

    order: Order
    state: OrderState = OrderState.INTENDED
    filled: float = 0.0

    def after(self, event: OrderEvent, filled: float | None = None) -> "OrderStatus":
        """Return the status after `event`; `filled` is the total so far and never steps back."""
        total = self.filled if filled is None else max(self.filled, filled)
        return replace(self, state=transition(self.state, event), filled=total)

    @property
    def is_terminal(self) -> bool:
        """True when only a definite answer of the venue, or our own proof, ended it."""
        return self.state in TERMINAL


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderReport:
    """What a venue says about one order: an event, and the fill that came with it, if any."""

    client_id: str
    symbol: str
    event: OrderEvent
    at_ms: int
    fill: Fill | None = None
    detail: str = ""
