"""Follows each order through the journal: when it was decided, sent, answered and filled, and at what price. Pure.

Two clocks stand in a journal. `at_ms` of an entry, and of a `sent` report, is ours. The close of a candle, and `at_ms`
of a fill, are the venue's.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from daemon import records
from daemon.fold import readable
from daemon.ports import Entry
from strategy.costs import fee, fill_price
from strategy.order import Fill, Order, OrderEvent, OrderKind, Side
from strategy.trader import Setup

KINDS = frozenset({"run", "decision", "exit", "risk", "command", "intent", "order", "fill"})
"""Entries of the journal that are needed."""
_NO_ANSWERS = frozenset({OrderEvent.SENT, OrderEvent.ANSWER_LOST, OrderEvent.NOT_FOUND})


@dataclass(frozen=True, slots=True, kw_only=True)
class Traded:
    """A fill beside what the cost model of its run expected. known_ms: when it was on disk, our clock.

    expected_price: quote per base; expected_fee: quote, of the same quantity at that price.
    """

    fill: Fill
    expected_price: float
    expected_fee: float
    known_ms: int

    @property
    def slippage(self) -> float:
        """How much worse than the reference it filled, as a share of it; negative when it was better."""
        return (self.fill.price / self.fill.reference_price - 1.0) * self.fill.side.sign

    @property
    def excess(self) -> float:
        """How much worse than expected it filled, as a share of the reference."""
        return (self.fill.price - self.expected_price) / self.fill.reference_price * self.fill.side.sign


@dataclass(slots=True, kw_only=True)
class Trail:
    """One order and what became of it; stops too, once they trade.

    quantity: base, as intended, 0 for a stop of a paper venue, which is no order before it trades.  decided_ms: close
    of the candle.  is_present: candles were of that moment, so that our clock and the venue's may be compared.
    intended_ms, sent_ms, answered_ms, protected_ms: our clock; None when it did not happen.  protected_ms: a stop for
    what was bought rested at the venue.  is_decision: of a candle, not in between.
    """

    client_id: str
    symbol: str
    side: Side
    is_stop: bool
    quantity: float = 0.0
    reference_price: float = 0.0
    decided_ms: int = 0
    is_present: bool = False
    is_decision: bool = False
    intended_ms: int | None = None
    intended_seq: int = 0
    sent_ms: int | None = None
    answered_ms: int | None = None
    protected_ms: int | None = None
    state: str = "intended"
    fills: list[Traded] = field(default_factory=list)
    filled_seq: int = 0

    @property
    def filled(self) -> float:
        """Base filled so far."""
        return sum(traded.fill.quantity for traded in self.fills)

    @property
    def at_ms(self) -> int:
        """When it belongs, the venue's clock: an order when it was decided, a stop when it first traded."""
        return self.fills[0].fill.at_ms if self.is_stop and self.fills else self.decided_ms


def follow(entries: Iterable[Entry]) -> tuple[list[Trail], Setup | None]:
    """Return every order of a journal (stops: those that traded), oldest first, and the setup of the last run.

    entries: of `KINDS`, from the first on.  Raises FatalError naming an entry that is not as it was written.
    """
    follower = _Follower()
    for entry in entries:
        with readable(entry):
            follower.take(entry)
    trails = [trail for trail in follower.trails.values() if trail.fills or not trail.is_stop]
    return trails, follower.setup


class _Follower:
    def __init__(self) -> None:
        self.setup: Setup | None = None
        self.trails: dict[str, Trail] = {}
        self._is_present = False
        self._naked: dict[str, dict[str, Trail]] = {}

    def take(self, entry: Entry) -> None:
        match entry.kind:
            case "run":
                self.setup = Setup.from_json(entry.payload["setup"])
                self._is_present = entry.payload["account"]["source"] == "exchange"
            case "order":
                self._move(entry)
            case "fill":
                self._fill(entry)
            case _:
                for order in _orders(entry.payload):
                    self._intend(order, entry)

    def _intend(self, order: Order, entry: Entry) -> None:
        self.trails[order.client_id] = Trail(
            client_id=order.client_id,
            symbol=order.symbol,
            side=order.side,
            is_stop=order.kind is OrderKind.STOP,
            quantity=order.quantity,
            reference_price=order.reference_price,
            decided_ms=order.decided_ms,
            is_present=self._is_present,
            is_decision=entry.kind == "decision",
            intended_ms=entry.at_ms,
            intended_seq=entry.seq,
        )

    def _move(self, entry: Entry) -> None:
        payload = entry.payload
        trail = self.trails.get(payload["client_id"])
        if trail is None:
            return  # a stop of a paper venue: its fill says what there is to know
        event = OrderEvent(payload["event"])
        trail.state = payload["state"]
        if event is OrderEvent.SENT and trail.sent_ms is None:
            trail.sent_ms = payload["at_ms"]
        if event not in _NO_ANSWERS and trail.answered_ms is None:
            trail.answered_ms = entry.at_ms
        if trail.is_stop and event is OrderEvent.ACCEPTED:
            self._protect(trail, entry.at_ms)

    def _protect(self, stop: Trail, at_ms: int) -> None:
        """Note that what was bought before this stop was intended has it now."""
        waiting = self._naked.get(stop.symbol, {})
        for trail in [trail for trail in waiting.values() if trail.filled_seq < stop.intended_seq]:
            trail.protected_ms = at_ms
            del waiting[trail.client_id]

    def _fill(self, entry: Entry) -> None:
        fill = records.read_fill(entry.payload)
        trail = self.trails.get(fill.client_id)
        if trail is None:
            trail = self.trails[fill.client_id] = Trail(
                client_id=fill.client_id, symbol=fill.symbol, side=fill.side, is_stop=True, is_present=self._is_present
            )
        trail.fills.append(self._beside_model(fill, entry.at_ms))
        trail.filled_seq = entry.seq
        if fill.side is Side.BUY:
            self._naked.setdefault(fill.symbol, {})[fill.client_id] = trail

    def _beside_model(self, fill: Fill, known_ms: int) -> Traded:
        if self.setup is None:
            raise ValueError(f"fill {fill.fill_id} stands before the first run")
        costs, instrument = self.setup.costs, self.setup.instruments[fill.symbol]
        price = fill_price(costs, instrument, fill.side, fill.reference_price)
        paid = fee(costs, fill.quantity * price)
        return Traded(fill=fill, expected_price=price, expected_fee=paid, known_ms=known_ms)


def _orders(payload: Mapping[str, Any]) -> Iterator[Order]:
    """Yield the orders that an entry intends: one, several or none."""
    one = payload.get("order")
    for values in [*([] if one is None else [one]), *payload.get("orders", ())]:
        yield Order.from_json(values)
