"""What only exists where orders reach a venue: the way they take, what protects positions, changes by others."""

from collections.abc import Iterable, Sequence

from daemon.events import Filled, OrderMoved, Protected
from daemon.metrics_catalogue import Catalogue
from daemon.ports import Clock, External
from strategy.order import TERMINAL, OrderEvent, OrderKind, OrderState, OrderStatus

STEPS = ("answer", "fill")
CHANGES = ("ours", "foreign", "halted")
_LATENCY_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)
_NO_ANSWERS = frozenset({OrderEvent.SENT, OrderEvent.ANSWER_LOST, OrderEvent.NOT_FOUND})
_RESTING = frozenset({OrderState.OPEN, OrderState.PARTIALLY_FILLED})


class LiveMetrics:
    """Follows orders and stops from event to event; times that go on are brought up to date by `settle`."""

    def __init__(self, make: Catalogue, symbols: Sequence[str], clock: Clock) -> None:
        self._clock = clock
        self._unknown_s: dict[str, float] = {}
        self._sent_ms: dict[str, dict[str, int]] = {step: {} for step in STEPS}
        self._resting: dict[str, set[str]] = {}
        self._wanted: set[str] = set()
        self._naked_s: dict[str, float] = {}
        self.path = make.gauge("sacd_order_path_open", "1 while orders can be sent and followed at the venue, else 0")
        self._oldest = make.gauge(
            "sacd_oldest_unknown_order_seconds", "How long the order that waits longest has had no answer; 0 for none"
        )
        self._latency = make.histogram(
            "sacd_order_latency_seconds",
            "From sending an order to its first answer, or first fill, as known to us; stops are not in it",
            _LATENCY_S,
            "step",
        )
        self._naked = make.counter(
            "sacd_naked_position_seconds_total", "Time in which something was held without a stop at rest", "symbol"
        )
        self.lost = make.counter("sacd_stops_lost_total", "Stops that the venue ended or refused", "symbol")
        self.exits = make.counter("sacd_forced_exits_total", "Sales that did not wait for a candle", "symbol")
        self._external = make.counter(
            "sacd_external_changes_total",
            "Changes of the account by others: in what is ours, in what is not, or such that a symbol halts",
            "kind",
        )
        self._begin(symbols)

    def _begin(self, symbols: Sequence[str]) -> None:
        for symbol in symbols:
            for metric in (self._naked, self.lost, self.exits):
                metric.labels(symbol)
        for step in STEPS:
            self._latency.labels(step)
        for kind in CHANGES:
            self._external.labels(kind)

    def start(self, orders: Iterable[OrderStatus]) -> None:
        """Take the orders that had not ended when the daemon started: what has not changed is not told again."""
        for status in orders:
            order = status.order
            if order.kind is OrderKind.STOP:
                self._wanted.add(order.symbol)
                self._rest(order.symbol, order.client_id, status.state)
            elif status.state is OrderState.UNKNOWN:
                self._unknown_s.setdefault(order.client_id, self._clock.monotonic_s())

    def move(self, event: OrderMoved) -> None:
        """Take a report of an order."""
        client_id, state = event.report.client_id, event.state
        if state is OrderState.UNKNOWN:
            self._unknown_s.setdefault(client_id, self._clock.monotonic_s())
        else:
            self._unknown_s.pop(client_id, None)
        if event.order.kind is OrderKind.STOP:
            self._rest(event.report.symbol, client_id, state)
            return
        if event.report.event is OrderEvent.SENT:
            for step in STEPS:
                self._sent_ms[step][client_id] = event.report.at_ms
        elif event.report.event not in _NO_ANSWERS:
            self._time("answer", client_id)
        if state in TERMINAL and event.report.fill is None:
            for step in STEPS:
                self._sent_ms[step].pop(client_id, None)

    def fill(self, event: Filled) -> None:
        """Take a fill."""
        self._time("fill", event.fill.client_id)

    def protect(self, event: Protected) -> None:
        """Take what is to protect a position."""
        if event.stop is None:
            self._wanted.discard(event.symbol)
        else:
            self._wanted.add(event.symbol)
        self._judge(event.symbol)

    def external(self, event: External) -> None:
        """Count a change of the account by somebody else."""
        kind = "halted" if event.halts else "ours" if event.ours != 0.0 else "foreign"
        self._external.labels(kind).inc()

    def settle(self) -> None:
        """Bring what grows with time up to now."""
        now_s = self._clock.monotonic_s()
        self._oldest.set(max((now_s - since_s for since_s in self._unknown_s.values()), default=0.0))
        for symbol in self._naked_s:
            self._count(symbol, now_s)

    def _time(self, step: str, client_id: str) -> None:
        sent_ms = self._sent_ms[step].pop(client_id, None)
        if sent_ms is not None:
            self._latency.labels(step).observe(max(0, self._clock.now_ms() - sent_ms) / 1_000)

    def _rest(self, symbol: str, client_id: str, state: OrderState) -> None:
        """Note whether a stop rests at the venue."""
        resting = self._resting.setdefault(symbol, set())
        if state in _RESTING:
            resting.add(client_id)
        else:
            resting.discard(client_id)
        self._judge(symbol)

    def _judge(self, symbol: str) -> None:
        """Start or end the time of a symbol that has no stop."""
        now_s = self._clock.monotonic_s()
        is_naked = symbol in self._wanted and not self._resting.get(symbol)
        if symbol in self._naked_s:
            self._count(symbol, now_s)
            if not is_naked:
                del self._naked_s[symbol]
        elif is_naked:
            self._naked_s[symbol] = now_s

    def _count(self, symbol: str, now_s: float) -> None:
        self._naked.labels(symbol).inc(now_s - self._naked_s[symbol])
        self._naked_s[symbol] = now_s
