"""What is known of one order at the venue, folded from answers and trades that may come in any order, or twice.

Owns the rule of when an order has ended: the venue says so, and the fills we know add up to what it says was filled.
Pure; who asks the venue is `order_watch.py`.
"""

import asyncio

from daemon.venue import VenueOrder, VenueState
from strategy.order import Fill, Order, OrderEvent, OrderKind, OrderReport, OrderState, OrderStatus

MADE_UP = "r-"
"""Prefix of the id of a fill that stands for trades which the venue never showed."""
_BEFORE_VENUE = frozenset({OrderState.INTENDED, OrderState.IN_FLIGHT, OrderState.UNKNOWN})
_ENDS = {
    VenueState.FILLED: OrderEvent.FILLED,
    VenueState.CANCELLED: OrderEvent.CANCELLED,
    VenueState.EXPIRED: OrderEvent.EXPIRED,
    VenueState.REJECTED: OrderEvent.REJECTED,
}


class OrderLife:
    """One order, what the venue has said about it, and what we have reported of that.

    nudge: set whenever something about it changes, or somebody wants it looked at.  asked: base, what was asked for at
    the venue (a sale may be smaller than its order); 0 while unknown.  withdrawn: why it is to be cancelled, "" if not.
    is_confirmed: the venue has shown it to this process.  is_restored: the books had it when this process began, so
    that it cannot have left just now.  strange: base that trades of somebody else have moved since its decision.
    denials, since_s: how often in a row the venue did not know it, and since when.
    """

    def __init__(
        self,
        status: OrderStatus,
        *,
        lot: float,
        fills: frozenset[str] = frozenset(),
        nudge: asyncio.Event | None = None,
    ) -> None:
        self.order: Order = status.order
        self.status = status
        self.nudge = nudge or asyncio.Event()
        self.asked = 0.0
        self.venue_id = ""
        self.withdrawn = ""
        self.was_sent = status.state is not OrderState.INTENDED
        self.is_restored = False
        self.is_confirmed = False
        self.denials = 0
        self.strange = 0.0
        self.since_s: float | None = None
        self.missing_since_s: float | None = None
        self._half_lot = lot / 2.0
        self._fills = set(fills)
        self._shown_filled = 0.0
        self._end: VenueState | None = None
        self._average: float | None = None

    # ---- what is known ------------------------------------------------------------------------------------------
    @property
    def client_id(self) -> str:
        """Our name for it."""
        return self.order.client_id

    @property
    def symbol(self) -> str:
        """What it trades."""
        return self.order.symbol

    @property
    def is_stop(self) -> bool:
        """True for a protective stop."""
        return self.order.kind is OrderKind.STOP

    @property
    def is_ended(self) -> bool:
        """True once its end has been reported."""
        return self.status.is_terminal

    @property
    def is_shown(self) -> bool:
        """True once the venue has shown that it exists."""
        return self.status.state not in _BEFORE_VENUE

    @property
    def is_resting(self) -> bool:
        """True while the venue has it open."""
        return self.is_shown and not self.is_ended and self._end is None

    @property
    def has_end(self) -> bool:
        """True once the venue has said that nothing more will happen, whether or not all its trades are known."""
        return self._end is not None

    @property
    def missing(self) -> float:
        """Base that the venue says was filled and whose trades are not known, 0 when it is less than half a lot."""
        short = self._shown_filled - self.status.filled
        return short if short > self._half_lot else 0.0

    @property
    def is_made_up(self) -> bool:
        """True when a fill of it stands for trades never shown: those trades, if they come, are counted already."""
        return any(fill_id.startswith(MADE_UP) for fill_id in self._fills)

    @property
    def average(self) -> float:
        """Price to count missing trades at, quote per base: the venue's average, else what it was decided at."""
        return self._average or self.order.stop_price or self.order.reference_price

    def knows(self, fill_id: str) -> bool:
        """Tell whether a trade changes nothing any more."""
        return fill_id in self._fills or self.is_made_up

    # ---- what happens -------------------------------------------------------------------------------------------
    def report(self, event: OrderEvent, at_ms: int, detail: str, fill: Fill | None = None) -> OrderReport:
        """Move the order and return what to tell. Raises IllegalTransition."""
        total = None if fill is None else self.status.filled + fill.quantity
        self.status = self.status.after(event, total)
        self.nudge.set()
        return OrderReport(
            client_id=self.client_id, symbol=self.symbol, event=event, at_ms=at_ms, fill=fill, detail=detail
        )

    def show(self, order: VenueOrder) -> list[OrderReport]:
        """Take in how the venue shows it; never steps back. Returns what is new."""
        self.was_sent = self.is_confirmed = True
        self.venue_id = order.venue_id or self.venue_id
        self.asked = order.quantity
        self._shown_filled = max(self._shown_filled, order.filled)
        self._average = order.average or self._average
        if order.state is not VenueState.OPEN:
            self._end = order.state
        self.nudge.set()
        reports = []
        if not self.is_shown and not self.is_ended and order.state is not VenueState.REJECTED:
            reports.append(self.report(OrderEvent.ACCEPTED, order.at_ms, "taken by the venue"))
        return [*reports, *self.finish(order.at_ms)]

    def take(self, fill: Fill, note: str = "") -> list[OrderReport]:
        """Take in a trade; a known one, and one that cannot be any more, changes nothing. Returns what is new.

        note: what else there is to say about it.
        """
        if self.knows(fill.fill_id) or self.status.state in {OrderState.REJECTED, OrderState.NOT_PLACED}:
            return []
        self._fills.add(fill.fill_id)
        self.was_sent = True
        whole = self.asked > 0.0 and self.status.filled + fill.quantity >= self.asked - self._half_lot
        event = OrderEvent.FILLED if whole else OrderEvent.PARTLY_FILLED
        words = "a late trade" if self.is_ended else "all of it" if whole else "a part of it"
        reports = [self.report(event, fill.at_ms, f"{words}; {note}" if note else words, fill)]
        return [*reports, *self.finish(fill.at_ms)]

    def finish(self, at_ms: int) -> list[OrderReport]:
        """Return the end of the order once it is proven and complete, else nothing."""
        if self._end is None or self.missing or self.is_ended:
            return []
        event = _ENDS[self._end]
        if event is OrderEvent.REJECTED and self.status.filled > 0.0:
            event = OrderEvent.EXPIRED
        detail = self.withdrawn or f"{self._end} at the venue"
        return [self.report(event, at_ms, detail)]

    def lose_answer(self, at_ms: int, detail: str) -> list[OrderReport]:
        """Return that no answer came, unless the venue has shown the order by another way meanwhile."""
        if self.status.state is not OrderState.IN_FLIGHT:
            return []
        return [self.report(OrderEvent.ANSWER_LOST, at_ms, detail)]

    def deny(self, at_ms: int, detail: str) -> list[OrderReport]:
        """Return that it is certain never to have reached the venue; nothing when the venue has shown it."""
        if self.is_shown:
            return []
        return [*self.lose_answer(at_ms, "no answer"), self.report(OrderEvent.NOT_FOUND, at_ms, detail)]
