"""An engine on fakes: a market whose features are always there, a journal in memory, a broker that is looked at."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, TypeVar

import numpy as np

from daemon.broker_paper import PaperBroker
from daemon.engine import Engine, Model
from daemon.fold import Fold, Memory, Recorded
from daemon.ports import BrokerNews, CandleGroup, FeedEvent, MarketTrade, Record, StopLost
from strategy.candle import Candle
from strategy.features import N_FEATURES, FeatureRow
from strategy.order import Fill, Order, OrderEvent, OrderReport, Side
from strategy.regime import Regime, Trend, Volatility
from strategy.trader import Setup, Trader
from tests.fakes.clock import ManualClock
from tests.fakes.journal import MemoryJournal
from tests.fakes.trading import BTC, HOUR_MS, Constant, setup

START = 400_000
"""Number of the first candle, in hours after 1970."""
BUY, SELL, HOLD = (1.0, 1.0, 1.0), (-1.0, 1.0, 1.0), (0.0, 0.0, 0.0)
BUSY = {"edge_multiple": 0.0, "volatility_target": 10.0, "stop_atr_multiple": 0.0}


class Full:
    """A feature window that is always full and always shows the same row."""

    def push(self, candle: Candle) -> None:
        """Nothing is remembered."""

    def update(self, candle: Candle) -> FeatureRow | None:
        return FeatureRow(np.zeros(N_FEATURES, np.float32), 0.02, 0.01, Regime(Trend.FLAT, Volatility.NORMAL))


class WatchedBroker(PaperBroker):
    """The paper venue; notes what it is asked and what the journal held at that moment."""

    journal: MemoryJournal
    asked: list[tuple[str, Order]]
    unwritten: list[Order]

    async def submit(self, order: Order) -> Sequence[OrderReport]:
        self.asked.append(("submit", order))
        if order.client_id not in {order["client_id"] for order in intended(self.journal)}:
            self.unwritten.append(order)
        return await super().submit(order)

    async def cancel(self, order: Order, reason: str) -> Sequence[OrderReport]:
        self.asked.append(("cancel", order))
        return await super().cancel(order, reason)


def intended(journal: MemoryJournal) -> Iterator[dict[str, Any]]:
    """The orders that stand in the journal as intended."""
    for entry in journal.entries:
        if entry.kind in {"decision", "intent"} and entry.payload["order"] is not None:
            yield entry.payload["order"]
        yield from entry.payload.get("orders", ())


class ScriptedLiveBroker:
    """A live broker that does nothing by itself: a test tells its news. `left`: what might leave, in order."""

    is_live = True

    def __init__(self, journal: MemoryJournal) -> None:
        self.left: list[tuple[str, Any]] = []
        self.unwritten: list[Order] = []
        self.groups: list[Sequence[BrokerNews]] = []
        self._journal = journal
        self._noted: list[tuple[str, Any]] = []

    async def submit(self, order: Order) -> Sequence[OrderReport]:
        self._noted.append(("submit", order))
        return []

    async def cancel(self, order: Order, reason: str) -> Sequence[OrderReport]:
        self._noted.append(("cancel", order))
        return []

    def on_market(self, event: CandleGroup | MarketTrade) -> Iterator[OrderReport]:
        return iter(())

    def protect(self, symbol: str, stop: Order | None) -> None:
        self._noted.append(("protect", (symbol, stop)))

    def release(self) -> None:
        written = {order["client_id"] for order in intended(self._journal)}
        for what, subject in self._noted:
            order = subject[1] if what == "protect" else subject
            if order is not None and order.client_id not in written:
                self.unwritten.append(order)
        self.left += self._noted
        self._noted = []

    def sent(self, what: str) -> list[Any]:
        return [subject for kind, subject in self.left if kind == what]

    async def start(self) -> None:
        """Nothing is connected."""

    async def news(self) -> AsyncIterator[Sequence[BrokerNews]]:
        while self.groups:
            yield self.groups.pop(0)

    async def run(self) -> None:
        """Nothing is watched."""

    async def drain(self) -> None:
        """Nothing is in flight."""

    async def close(self) -> None:
        """Nothing is open."""


class TinyVenue:
    """Takes every order and makes up what becomes of it: parts, repeats, cancellations, stops that fill or get lost."""

    def __init__(self, seed: int) -> None:
        self.held: dict[str, Decimal] = {}
        self.said: dict[str, list[OrderReport]] = {}
        self._stops: dict[str, Order] = {}
        self._rng = np.random.default_rng(seed)

    def take(self, order: Order) -> list[OrderReport]:
        """Return everything that is told of a new order, in an order that can be."""
        news = [report(order, OrderEvent.ACCEPTED), *self._fills(order)]
        news += [report(order, OrderEvent.CANCELLED)] if news[-1].event is not OrderEvent.FILLED else []
        news += [self._rng.choice(np.array(news, object))]
        self.said[order.client_id] = [news[i] for i in self._rng.permutation(len(news))]
        return [report(order, OrderEvent.SENT), *self.said[order.client_id]]

    def protect(self, symbol: str, stop: Order | None) -> list[BrokerNews]:
        """Let the stop of a symbol rest in place of the one before; now and then it fills, or the venue loses it."""
        old = self._stops.pop(symbol, None)
        if old == stop:
            self._stops |= {symbol: stop} if stop is not None else {}
            return []
        news: list[BrokerNews] = [] if old is None else [self._say(report(old, OrderEvent.CANCELLED))]
        if stop is None:
            return news
        if stop.client_id in self.said:  # it has ended: an id is used once
            return [*news, StopLost(symbol=symbol, detail="ended")]
        self._stops[symbol] = stop
        news += [report(stop, OrderEvent.SENT), self._say(report(stop, OrderEvent.ACCEPTED))]
        fate = self._rng.random()
        if fate < 0.1:
            del self._stops[symbol]
            news += [self._say(done) for done in self._fills(stop)]
            news += [self._say(report(stop, OrderEvent.EXPIRED))]
        elif fate < 0.2:
            del self._stops[symbol]
            lost = StopLost(symbol=symbol, detail="made up", is_last=fate > 0.17)
            news += [self._say(report(stop, OrderEvent.CANCELLED)), lost]
        return news

    def settle(self, memory: Memory) -> list[BrokerNews]:
        """Return what a start finds out about the orders of the books."""
        news: list[BrokerNews] = []
        for status in memory.orders.values():
            news += self.said.get(status.order.client_id) or [report(status.order, OrderEvent.NOT_FOUND)]
        return news

    def _say(self, told: OrderReport) -> OrderReport:
        self.said.setdefault(told.client_id, []).append(told)
        return told

    def _fills(self, order: Order) -> list[OrderReport]:
        """Fill an order in up to three parts, and not always all of it; a sale no more than is held."""
        held, left = self.held.get(order.symbol, Decimal(0)), Decimal(repr(order.quantity))
        left = left if order.side is Side.BUY else min(left, held)
        news = []
        for part in range(int(self._rng.integers(0, 4))):
            size = left if self._rng.random() < 0.6 else (left / 3).quantize(Decimal("0.00001"))
            if size <= 0:
                break
            left -= size
            self.held[order.symbol] = held = held + size * int(order.side.sign)
            price = order.reference_price * float(self._rng.choice([0.999, 1.0, 1.001]))
            changes: dict[str, Any] = {"fee": price * float(size) * 0.001, "fill_id": f"{order.client_id}-{part}"}
            if self._rng.random() < 0.3:
                changes["fee_coin"] = "BNB"
            is_whole = left == 0 and size == Decimal(repr(order.quantity))
            event = OrderEvent.FILLED if is_whole else OrderEvent.PARTLY_FILLED
            news.append(filled(order, float(size), price, event=event, **changes))
        return news


class ObligingBroker(ScriptedLiveBroker):
    """A live broker before a venue that answers at once; its news wait for `follow`."""

    def __init__(self, venue: TinyVenue) -> None:
        super().__init__(MemoryJournal(ManualClock()))
        self._venue = venue

    def release(self) -> None:
        noted, self._noted = self._noted, []
        for what, subject in noted:
            if what == "submit":
                self.groups.append(self._venue.take(subject))
            elif what == "protect" and (news := self._venue.protect(*subject)):
                self.groups.append(news)


class Voice:
    """Voters whose votes a test sets from candle to candle."""

    def __init__(self, *votes: tuple[float, float, float]) -> None:
        self.say(*votes)

    def say(self, *votes: tuple[float, float, float]) -> None:
        self._constant = Constant(*votes)
        self.weights = self._constant.weights

    def act(self, observations: Any) -> Any:
        return self._constant.act(observations)


class SlowJournal(MemoryJournal):
    """Appends only while its gate is open."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.batches: list[list[str]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.is_asked = asyncio.Event()

    async def append(self, records: Sequence[Record]) -> int:
        self.is_asked.set()
        await self.gate.wait()
        last_seq = await super().append(records)
        self.batches.append([record.kind for record in records])
        return last_seq


@dataclass(kw_only=True)
class _Rig:
    """An engine and what is around it. `told`: what sinks were told."""

    mode = "paper"

    setup: Setup
    engine: Engine
    clock: ManualClock
    journal: SlowJournal
    voice: Voice
    told: list[Any] = field(default_factory=list)
    at: int = START

    def publish(self, event: Any) -> None:
        self.told.append(event)

    async def take(self, *events: FeedEvent) -> None:
        async def feed() -> AsyncIterator[FeedEvent]:
            for event in events:
                yield event

        await self.engine.run(feed())

    async def candle(self, close: float = 100.0, *, is_backfill: bool = False, **changes: Any) -> None:
        """Let the next hour of every symbol, or of `only`, close; our clock shows a second more."""
        symbols = changes.pop("only", tuple(self.setup.instruments))
        late_s = changes.pop("late_s", 1.0)
        candles = tuple(_candle(symbol, self.at, close, changes) for symbol in symbols)
        self.at += 1
        self.clock.step_wall((self.at * HOUR_MS - self.clock.now_ms()) / 1_000 + late_s)
        await self.take(CandleGroup(candles=candles, is_backfill=is_backfill))

    async def trade(self, price: float, symbol: str = BTC, *, late_s: float = 0.0) -> None:
        at_ms = self.clock.now_ms() - round(late_s * 1_000)
        await self.take(MarketTrade(symbol=symbol, price=price, quantity=1.0, at_ms=at_ms))

    def of_kind(self, kind: str) -> list[Any]:
        return [entry.payload for entry in self.journal.entries if entry.kind == kind]

    @property
    def reasons(self) -> list[str]:
        return [payload["reason"] for payload in self.of_kind("decision")]

    def check_memory(self) -> None:
        """What is in the journal gives the very state that is in memory: checked at the end of every test."""
        trader = Trader(self.setup, {symbol: Full() for symbol in self.setup.instruments}, 10_000.0)
        fold = Fold(trader, 10_000.0)
        fold.begin(self.run_record(self.setup).payload, None)
        for entry in self.journal.entries:
            if entry.kind == "run":
                fold.begin(entry.payload, None)
            assert fold.apply(entry, Recorded(tuple(self.voice.weights.tolist()))) == []
        fold.finish()
        assert trader.state() == self.engine.trader.state()
        # Whether an order was sent, or taken by the venue, is no part of the account and may not be on disk yet.
        assert list(fold.memory.orders) == list(self.engine.memory.orders)
        if self.mode == "live":
            assert fold.memory.to_json() == self.engine.memory.to_json()
        assert fold.memory.last == self.engine.memory.last
        assert fold.memory.hold == self.engine.memory.hold

    def run_record(self, setup: Setup) -> Record:
        account = {"mode": self.mode, "cash": 10_000.0}
        weights = self.voice.weights.tolist()
        return Record(
            kind="run",
            payload={"account": account, "setup": setup.to_json(), "model": "m" * 16, "weights": weights},
        )


@dataclass(kw_only=True)
class Rig(_Rig):
    """A rig on paper."""

    broker: WatchedBroker


@dataclass(kw_only=True)
class LiveRig(_Rig):
    """A rig at a venue that a test plays."""

    mode = "live"

    broker: ScriptedLiveBroker

    async def start(self) -> None:
        await self.engine.start(self.run_record)

    async def tell(self, *news: BrokerNews) -> None:
        """Let the broker tell one group, and wait until all of it has been taken in."""
        self.broker.groups.append(news)
        await self.engine.follow(self.broker)

    @property
    def orders(self) -> list[Order]:
        """What was sent, protective stops aside."""
        return self.broker.sent("submit")

    def stop(self, symbol: str = BTC) -> Order | None:
        """The protective stop that the broker was last asked for."""
        asked = [stop for name, stop in self.broker.sent("protect") if name == symbol]
        return asked[-1] if asked else None

    def held(self, symbol: str = BTC) -> float:
        return self.engine.trader.portfolio.positions[symbol].quantity


def report(
    order: Order, event: OrderEvent, *, fill: Fill | None = None, at_ms: int = START * HOUR_MS, detail: str = ""
) -> OrderReport:
    return OrderReport(
        client_id=order.client_id, symbol=order.symbol, event=event, at_ms=at_ms, fill=fill, detail=detail
    )


def filled(order: Order, quantity: float | None = None, price: float | None = None, **changes: Any) -> OrderReport:
    """All of an order fills, or `quantity` of it, at its reference price and without fee unless told otherwise."""
    made = order.quantity if quantity is None else quantity
    event = changes.pop("event", OrderEvent.FILLED if quantity is None else OrderEvent.PARTLY_FILLED)
    values: dict[str, Any] = {
        "fill_id": f"t-{order.client_id}",
        "client_id": order.client_id,
        "symbol": order.symbol,
        "side": order.side,
        "quantity": made,
        "price": order.reference_price if price is None else price,
        "fee": 0.0,
        "at_ms": START * HOUR_MS,
        "reference_price": order.reference_price,
    }
    return report(order, event, fill=Fill(**(values | changes)))


def _candle(symbol: str, at: int, close: float, changes: dict[str, float]) -> Candle:
    values = {"open": close, "high": close, "low": close, "volume": 1e6} | changes
    values["high"] = max(values["high"], values["open"], close)
    values["low"] = min(values["low"], values["open"], close)
    return Candle(symbol=symbol, open_ms=at * HOUR_MS, span_ms=HOUR_MS, close=close, **values)


_Kind = TypeVar("_Kind", bound=_Rig)


def _assemble(
    kind: type[_Kind],
    symbols: Sequence[str],
    changes: Mapping[str, Any],
    make_broker: Callable[[Trader, SlowJournal], Any],
    *,
    sinks: Sequence[Any] = (),
    checkpoint_every: int,
    is_live: bool,
) -> _Kind:
    made, clock = setup(symbols, **{**BUSY, **changes}), ManualClock((START * HOUR_MS) + 1_000)
    trader = Trader(made, {symbol: Full() for symbol in symbols}, 10_000.0)
    journal, voice = SlowJournal(clock), Voice(HOLD)
    broker, watchers = make_broker(trader, journal), list(sinks)
    engine = Engine(
        trader=trader,
        memory=Memory(),
        model=Model(id="m" * 16, voters=voice),
        broker=broker,
        journal=journal,
        clock=clock,
        sinks=watchers,
        cash=10_000.0,
        checkpoint_every=checkpoint_every,
        is_live=is_live,
    )
    rig = kind(setup=made, engine=engine, clock=clock, journal=journal, broker=broker, voice=voice)
    watchers.append(rig)
    return rig


def make_live_rig(symbols: Sequence[str] = (BTC,), *, checkpoint_every: int = 1_000, **changes: Any) -> LiveRig:
    """A rig whose feed and venue are live; `start` it before it trades."""
    return _assemble(
        LiveRig,
        symbols,
        changes,
        lambda _trader, journal: ScriptedLiveBroker(journal),
        checkpoint_every=checkpoint_every,
        is_live=True,
    )


def make_rig(
    symbols: Sequence[str] = (BTC,),
    *,
    is_live: bool = False,
    sinks: Sequence[Any] = (),
    checkpoint_every: int = 1_000,
    **changes: Any,
) -> Rig:
    def watched(trader: Trader, journal: SlowJournal) -> WatchedBroker:
        broker = WatchedBroker(
            instruments=trader.setup.instruments,
            costs=trader.setup.costs,
            funds=lambda: trader.portfolio.cash,
            held=lambda symbol: trader.portfolio.positions[symbol].quantity,
            is_live=is_live,
        )
        broker.journal, broker.asked, broker.unwritten = journal, [], []
        return broker

    return _assemble(Rig, symbols, changes, watched, sinks=sinks, checkpoint_every=checkpoint_every, is_live=is_live)
