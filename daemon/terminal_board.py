"""What the terminal remembers of the events: the newest of everything, and a bounded past of what is listed.

Taking an event costs the same however long the daemon runs. Nothing here draws, and nothing reads a clock.
"""

from collections import OrderedDict, deque
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any

from daemon.events import (
    AccountMarked,
    CandleTaken,
    CommandTaken,
    ConfigReloaded,
    Decided,
    Event,
    ExitForced,
    Filled,
    JournalWritten,
    ModelStep,
    OrderMoved,
    Protected,
    ShadowMarked,
    Started,
    Stopped,
)
from daemon.model_life import Life
from daemon.ports import DriftMarked, External, FeedStatus, Gap, LateCandle, NewSteps, OrderPath, StopLost
from daemon.wording_live import News
from strategy.candle import Candle
from strategy.features import WINDOW
from strategy.order import Fill, Order, OrderKind, OrderReport, OrderState, Side
from strategy.regime import Regime
from strategy.risk import Approved, VerdictReason

CHANGE_CANDLES = 24
"""Closes are compared over this many candles."""
_LISTED = 64
"""Decisions and orders remembered: more than any screen shows."""
_KNOWN_ORDERS = 512
_TRACE = 512
_AT_VENUE = frozenset({OrderState.OPEN, OrderState.PARTIALLY_FILLED})


@dataclass(slots=True)
class Trace:
    """The course of a value since the beginning, thinned by halves so that it never holds more than some hundred."""

    points: list[float] = field(default_factory=list)
    stride: int = 1
    seen: int = 0
    last: float = 0.0

    def add(self, value: float) -> None:
        """Take the next value."""
        self.last = value
        if self.seen % self.stride == 0:
            self.points.append(value)
            if len(self.points) > _TRACE:
                self.points = self.points[::2]
                self.stride *= 2
        self.seen += 1

    def values(self) -> list[float]:
        """Return the remembered values, oldest first, the newest always among them."""
        return [*self.points, self.last] if self.points else []


@dataclass(slots=True)
class SymbolView:
    """One symbol. stop: price, None when flat.  resting: stops that rest at a venue, by id, and how much each covers.

    activity: counts up with every order, so that the latest sort first.
    """

    symbol: str
    closes: deque[float] = field(default_factory=lambda: deque(maxlen=CHANGE_CANDLES + 1))
    span_ms: int = 0
    taken: int = 0
    stop: float | None = None
    resting: dict[str, float] = field(default_factory=dict)
    regime: Regime | None = None
    is_decided: bool = False
    activity: int = 0

    @property
    def change(self) -> float | None:
        """Return of the last close over the close some candles ago, None while there are too few."""
        full = len(self.closes) > CHANGE_CANDLES
        return self.closes[-1] / self.closes[0] - 1.0 if full else None


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderView:
    """An order and what was filled of it. side: None when only its id is known.  notional, fee: quote, of the fills.

    expected: what the fills would have cost at the reference price, from which slippage is told.
    """

    symbol: str
    at_ms: int
    side: Side | None = None
    quantity: float = 0.0
    kind: OrderKind = OrderKind.MARKET
    state: OrderState | None = None
    filled: float = 0.0
    notional: float = 0.0
    expected: float = 0.0
    fee: float = 0.0
    detail: str = ""

    @property
    def price(self) -> float | None:
        """Mean price of the fills, None before the first."""
        return self.notional / self.filled if self.filled > 0.0 else None

    @property
    def slippage(self) -> float | None:
        """How much worse than expected it filled, as a share; negative when it was better."""
        if self.side is None or self.expected <= 0.0:
            return None
        return (self.notional / self.expected - 1.0) * self.side.sign

    @property
    def is_resting(self) -> bool:
        """True for a protective stop that has not traded: it is shown with its position instead."""
        return self.kind is OrderKind.STOP and self.filled == 0.0 and self.state is not OrderState.REJECTED


@dataclass(slots=True)
class Board:
    """Everything the terminal shows. now_ms: our clock at the last event.  ending: why the run is ending, "" before.

    model_id, members: of the ensemble that serves.  compared: payload of the newest `shadow` record of the comparison
    that goes on, None before the first.
    """

    started: Started | None = None
    stopped: Stopped | None = None
    account: AccountMarked | None = None
    feed: FeedStatus | None = None
    path: OrderPath | None = None
    news: News | None = None
    news_ms: int = 0
    now_ms: int = 0
    ending: str = ""
    model_id: str = ""
    members: int = 0
    life: Life = field(default_factory=Life)
    compared: Mapping[str, Any] | None = None
    drift: DriftMarked | None = None
    symbols: dict[str, SymbolView] = field(default_factory=dict)
    decisions: deque[Decided] = field(default_factory=lambda: deque(maxlen=_LISTED))
    orders: "OrderedDict[str, OrderView]" = field(default_factory=OrderedDict)
    equity: Trace = field(default_factory=Trace)
    last_candle: Candle | None = None
    candles: int = 0
    backfilled: int = 0
    decided: int = 0
    gaps: int = 0
    late: int = 0
    decision_s: float | None = None
    journal_s: float | None = None
    _known: "OrderedDict[str, Order]" = field(default_factory=OrderedDict)
    _activity: int = 0

    def copy(self) -> "Board":
        """Return a board that later events leave alone."""
        symbols = {
            name: replace(view, closes=view.closes.copy(), resting=view.resting.copy())
            for name, view in self.symbols.items()
        }
        equity = replace(self.equity, points=self.equity.points.copy())
        # Not needed to draw, and large.
        known: OrderedDict[str, Order] = OrderedDict()
        return replace(
            self,
            symbols=symbols,
            decisions=self.decisions.copy(),
            orders=copy(self.orders),
            equity=equity,
            _known=known,
        )

    def take(self, event: Event) -> None:  # noqa: C901, PLR0912  # one line per kind of event
        """Remember what an event says."""
        match event:
            case Started():
                self.started, self.life = event, event.life
                self.model_id, self.members = event.model_id, event.members
                for symbol in event.symbols:
                    self._view(symbol)
                for known in event.orders:
                    self._note_stop(known.order, known.state)
            case CandleTaken():
                self._take_candle(event)
            case Decided():
                self._take_decision(event)
            case OrderMoved():
                self._know(event.order)
                self._note_stop(event.order, event.state)
                self._take_report(event.report, event.state)
            case Filled():
                self._take_fill(event.fill)
            case AccountMarked():
                self.account = event
                if event.hold_equity is not None:  # before the first decision there is nothing to see
                    self.equity.add(event.portfolio.equity)
            case JournalWritten():
                self.journal_s = event.seconds
            case CommandTaken() | ConfigReloaded():
                self._take_news(event)
            case FeedStatus():
                self.feed = event
            case Gap():
                self.gaps += 1
            case LateCandle():
                self.late += 1
            case Protected():
                self._view(event.symbol).stop = None if event.stop is None else event.stop.stop_price
            case ExitForced() | External() | NewSteps() | OrderPath() | StopLost():
                self._take_news(event)
            case ModelStep():
                self._take_step(event)
            case ShadowMarked():
                self.compared = event.payload
            case DriftMarked():
                self._take_drift(event)
            case Stopped():
                self.stopped = event

    def _take_candle(self, event: CandleTaken) -> None:
        candle = event.candle
        view = self._view(candle.symbol)
        view.closes.append(candle.close)
        view.span_ms = candle.span_ms
        view.taken += 1
        self.candles += 1
        self.backfilled += event.is_backfill
        if self.last_candle is None or candle.open_ms >= self.last_candle.open_ms:
            self.last_candle = candle

    def _take_decision(self, event: Decided) -> None:
        outcome = event.outcome
        view = self._view(outcome.sight.candle.symbol)
        view.stop = None if outcome.stop is None else outcome.stop.stop_price
        view.regime = None if outcome.sight.row is None else outcome.sight.row.regime
        view.is_decided = outcome.verdict.reason is not VerdictReason.WARMING_UP
        self.decision_s = event.latency_s
        if outcome.stop is not None:
            self._know(outcome.stop)
        if isinstance(outcome.verdict, Approved):
            self._know(outcome.verdict.order)
            self._touch(view)
        if view.is_decided:
            self.decided += 1
            self._drop_last_in_between(view.symbol)
            self.decisions.appendleft(event)

    def _drop_last_in_between(self, symbol: str) -> None:
        """Forget the last votes on a symbol when no decision fell on their candle: one such line is enough."""
        for at, earlier in enumerate(self.decisions):
            if earlier.outcome.sight.candle.symbol == symbol:
                if earlier.outcome.verdict.reason is VerdictReason.BETWEEN_DECISIONS:
                    del self.decisions[at]
                return

    def _note_stop(self, order: Order, state: OrderState) -> None:
        if order.kind is OrderKind.STOP:
            resting = self._view(order.symbol).resting
            resting.pop(order.client_id, None)
            if state in _AT_VENUE:
                resting[order.client_id] = order.quantity

    def _take_news(self, news: News) -> None:
        self.news, self.news_ms = news, self.now_ms
        if isinstance(news, OrderPath):
            self.path = news
        elif isinstance(news, ExitForced):
            self._know(news.order)
            self._touch(self._view(news.order.symbol))

    def _take_step(self, step: ModelStep) -> None:
        self.life = step.life
        if step.payload["step"] in {"shadow", "serving"}:
            self.compared = None  # what was compared before is another matter
        if step.payload["step"] == "serving":
            self.model_id, self.members = step.payload["model"], step.members
        self._take_news(step)

    def _take_drift(self, drift: DriftMarked) -> None:
        was_beyond = self.drift is not None and self.drift.is_beyond
        self.drift = drift
        if drift.is_beyond != was_beyond:
            self._take_news(drift)

    def _take_report(self, report: OrderReport, state: OrderState) -> None:
        view = self._order(report.client_id, report.symbol, report.at_ms)
        detail = report.detail or view.detail
        self.orders[report.client_id] = replace(view, state=state, at_ms=report.at_ms, detail=detail)

    def _take_fill(self, fill: Fill) -> None:
        view = self._order(fill.client_id, fill.symbol, fill.at_ms)
        self._touch(self._view(fill.symbol))
        self.orders[fill.client_id] = replace(
            view,
            at_ms=fill.at_ms,
            side=fill.side,
            filled=view.filled + fill.quantity,
            quantity=max(view.quantity, view.filled + fill.quantity),
            notional=view.notional + fill.notional,
            expected=view.expected + fill.quantity * fill.reference_price,
            fee=view.fee + fill.fee,
        )

    def _order(self, client_id: str, symbol: str, at_ms: int) -> OrderView:
        """Return what is known of an order, moved to the newest end of the list."""
        view = self.orders.pop(client_id, None)
        if view is None:
            order = self._known.get(client_id)
            view = OrderView(symbol=symbol, at_ms=at_ms)
            if order is not None:
                view = replace(view, side=order.side, quantity=order.quantity, kind=order.kind)
        self.orders[client_id] = view
        if len(self.orders) > _LISTED:
            self.orders.popitem(last=False)
        return view

    def _know(self, order: Order) -> None:
        self._known[order.client_id] = order
        self._known.move_to_end(order.client_id)
        if len(self._known) > _KNOWN_ORDERS:
            self._known.popitem(last=False)

    def _view(self, symbol: str) -> SymbolView:
        view = self.symbols.get(symbol)
        if view is None:
            view = self.symbols[symbol] = SymbolView(symbol)
        return view

    def _touch(self, view: SymbolView) -> None:
        self._activity += 1
        view.activity = self._activity

    # ---- what is told from several events -----------------------------------------------------------------------
    def window_filled(self) -> int | None:
        """Return how many candles the emptiest window holds while it fills for the first time, None when it is full."""
        if self.started is None or self.started.warm_up <= 0 or any(v.is_decided for v in self.symbols.values()):
            return None
        taken = min((self._view(symbol).taken for symbol in self.started.symbols), default=0)
        filled = WINDOW - self.started.warm_up + taken
        return filled if filled < WINDOW else None

    def traded_orders(self) -> list[OrderView]:
        """Return the orders worth listing, newest first."""
        return [view for view in reversed(self.orders.values()) if not view.is_resting]
