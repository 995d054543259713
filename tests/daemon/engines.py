"""An engine on fakes: a market whose features are always there, a journal in memory, a broker that is looked at."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from daemon.broker_paper import PaperBroker
from daemon.engine import Engine, Model
from daemon.fold import Fold, Memory, Recorded
from daemon.ports import CandleGroup, FeedEvent, MarketTrade, Record
from strategy.candle import Candle
from strategy.features import N_FEATURES, FeatureRow
from strategy.order import Order, OrderReport
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
        if entry.kind == "decision" and entry.payload["order"] is not None:
            yield entry.payload["order"]
        yield from entry.payload.get("orders", ())


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
        self.gate = asyncio.Event()
        self.gate.set()
        self.is_asked = asyncio.Event()

    async def append(self, records: Sequence[Record]) -> int:
        self.is_asked.set()
        await self.gate.wait()
        return await super().append(records)


@dataclass(kw_only=True)
class Rig:
    """An engine and everything around it. `told`: what sinks were told."""

    setup: Setup
    engine: Engine
    clock: ManualClock
    journal: SlowJournal
    broker: WatchedBroker
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
        fold.begin({"setup": self.setup.to_json(), "model": "m" * 16}, None)
        for entry in self.journal.entries:
            assert fold.apply(entry, Recorded(tuple(self.voice.weights.tolist()))) == []
        fold.finish()
        assert trader.state() == self.engine.trader.state()
        # Whether an order was sent, or taken by the venue, is no part of the account and may not be on disk yet.
        assert list(fold.memory.orders) == list(self.engine.memory.orders)
        assert fold.memory.last == self.engine.memory.last
        assert fold.memory.hold == self.engine.memory.hold


def _candle(symbol: str, at: int, close: float, changes: dict[str, float]) -> Candle:
    values = {"open": close, "high": close, "low": close, "volume": 1e6} | changes
    values["high"] = max(values["high"], values["open"], close)
    values["low"] = min(values["low"], values["open"], close)
    return Candle(symbol=symbol, open_ms=at * HOUR_MS, span_ms=HOUR_MS, close=close, **values)


def make_rig(
    symbols: Sequence[str] = (BTC,),
    *,
    is_live: bool = False,
    sinks: Sequence[Any] = (),
    checkpoint_every: int = 1_000,
    **changes: Any,
) -> Rig:
    made, clock = setup(symbols, **{**BUSY, **changes}), ManualClock((START * HOUR_MS) + 1_000)
    trader = Trader(made, {symbol: Full() for symbol in symbols}, 10_000.0)
    journal, voice = SlowJournal(clock), Voice(HOLD)
    broker = WatchedBroker(
        instruments=made.instruments,
        costs=made.costs,
        funds=lambda: trader.portfolio.cash,
        held=lambda symbol: trader.portfolio.positions[symbol].quantity,
        is_live=is_live,
    )
    broker.journal, broker.asked, broker.unwritten = journal, [], []
    watchers: list[Any] = list(sinks)
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
    rig = Rig(setup=made, engine=engine, clock=clock, journal=journal, broker=broker, voice=voice)
    watchers.append(rig)
    return rig
