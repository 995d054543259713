"""THE MAIN PATH, outer half: where a candle meets the world. Every `await` is an edge of the process.

Order of steps for a group of final candles: fill what was waiting, decide, write everything down in one durable
transaction, and only then let orders leave. Records stand in the journal in the order in which they changed the
account, which is what `fold.py` rests on: what a candle fills comes before the candle, its decisions right behind it.
A live venue answers when it likes: what it tells comes in as news between two events of the feed, and what it makes
necessary stands in the same transaction. Knows ports and strategy, nothing of exchanges, files or screens.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from daemon import crash_points, records, wording
from daemon.errors import FatalError, SacdError
from daemon.events import (
    AccountMarked,
    CandleTaken,
    CommandTaken,
    Decided,
    Event,
    ExitForced,
    JournalWritten,
    ModelStep,
    ShadowMarked,
    Stopped,
)
from daemon.exits import Exits
from daemon.feed_watch import FeedWatch
from daemon.fold import Memory, begin
from daemon.ledger import Ledger
from daemon.ports import (
    Broker,
    BrokerNews,
    CandleGroup,
    Clock,
    Companion,
    External,
    FeedEvent,
    FeedStatus,
    Gap,
    Journal,
    LateCandle,
    LiveBroker,
    MarketTrade,
    NewSteps,
    OrderPath,
    Record,
    Sink,
    StopLost,
)
from daemon.vitals import StepLock
from strategy.order import Order, OrderReport, Side
from strategy.risk import Approved
from strategy.trader import Outcome, Reference, Setup, Trader, Voters

_BATCH = 400
"""Backfilled candle groups that share a transaction: nothing depends on them until a decision follows."""
_LOOK_EVERY_S = 10.0
"""How long a feed may be trusted to be heard before a limit that has become shorter meanwhile is looked at."""
COMMANDS = ("pause", "resume", "flatten")


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """The ensemble that serves. id: of its bundle.  members: how many.  seen_until_ms: end of what it was made from."""

    id: str
    voters: Voters
    members: int = 0
    seen_until_ms: int = 0


@dataclass(slots=True)
class _Counters:
    decisions: int = 0
    orders: int = 0


class Engine:
    """Carries events of the feed, and commands of a person, through trader, journal and broker, one at a time."""

    def __init__(
        self,
        *,
        trader: Trader,
        memory: Memory,
        model: Model,
        broker: Broker,
        journal: Journal,
        clock: Clock,
        sinks: Sequence[Sink],
        cash: float,
        checkpoint_every: int,
        is_live: bool = False,
        companion: Companion | None = None,
    ) -> None:
        """cash: what the account was opened with, in quote.  checkpoint_every: decisions.  is_live: of the feed.

        companion: told of every candle once its orders have left; None where none is needed.
        """
        self.trader = trader
        self.memory = memory
        self.model = model
        self._broker = broker
        self._journal = journal
        self._clock = clock
        self._sinks = sinks
        self._cash = cash
        self._checkpoint_every = checkpoint_every
        self._checkpoint_at = memory.decisions + checkpoint_every
        self._is_live = is_live
        self._companion = companion
        self._watch = FeedWatch(clock)
        self._ledger = Ledger(trader, memory, broker, self._publish)
        self._exits = Exits(trader, memory, self._ledger, clock)
        self._run_record: Callable[[Setup], Record] = _not_started
        self._run_seq = 0
        self._lock = StepLock(clock)
        self._count = _Counters()

    @property
    def feed_age_s(self) -> float | None:
        """Seconds since a live feed last brought news, None for any other feed."""
        return self._watch.age_s if self._is_live else None

    @property
    def busy_s(self) -> float | None:
        """Seconds that the event or command under way has taken, None between two of them."""
        return self._lock.busy_s

    async def run(self, events: AsyncIterator[FeedEvent]) -> None:
        """Take events until the feed ends."""
        async for event in events:
            async with self._lock:
                await self._take(event)

    async def quiesce(self, running: asyncio.Task[None], beside: Iterable[asyncio.Task[None]] = ()) -> None:
        """End `run`, and those `beside` that ask the engine for something, never in the middle of a step.

        What the journal holds and the state has not taken in would be missing from the last checkpoint.
        """
        async with self._lock:
            for task in (running, *beside):
                task.cancel()
        await asyncio.wait({running})

    async def _take(self, event: FeedEvent) -> None:
        match event:
            case CandleGroup(is_backfill=True):
                await self._warm(event)
            case CandleGroup():
                await self._on_candles(event)
            case MarketTrade():
                await self._on_trade(event)
            case FeedStatus():
                await self._on_feed(event)
            case Gap():
                self._ledger.waiting.append(records.of_gap(event))
                self._publish(event)
            case LateCandle():
                self._ledger.waiting.append(records.of_late(event))
                self._publish(event)

    # ---- candles ------------------------------------------------------------------------------------------------
    async def _on_candles(self, group: CandleGroup) -> None:
        started_s, now_ms = self._clock.monotonic_s(), self._clock.now_ms()
        # Told first: whoever guards the main path must see a candle that went in and never came out.
        for candle in group.candles:
            self._publish(CandleTaken(candle=candle, is_backfill=False, at_ms=now_ms))
        await self._hear(group.candles[0].close_ms)
        self._ledger.apply(self._broker.on_market(group))
        # On a live feed a market order may have found no trade for a whole candle: what is decided now starts from
        # what is really held, so a purchase of before must not come on top of it.
        await self._withdraw_buys("not filled while its candle lasted", {candle.symbol for candle in group.candles})
        self._take_in(group)
        self._tell_in_flight()
        outcomes = self.trader.on_candles(group.candles, self.model.voters)
        self.memory.start_hold(self.trader, outcomes, self._cash)
        orders = [o.verdict.order for o in outcomes if isinstance(o.verdict, Approved)]
        if orders:
            crash_points.at("decided")
        decided = [*self._decisions(outcomes), *self._ledger.intents(outcomes)]
        first_seq = await self._write(decided) - len(decided) + 1  # on disk before anything leaves the process
        latency_s = self._clock.monotonic_s() - started_s
        for outcome in outcomes:
            self._ledger.protect(outcome.sight.candle.symbol, outcome.stop)
        await self._submit(orders)
        self._count.decisions += len(outcomes)
        for i, outcome in enumerate(outcomes):
            self._publish(Decided(outcome=outcome, model_id=self.model.id, latency_s=latency_s, seq=first_seq + i))
        self._publish_account()
        if self._companion is not None:
            self._accompany(self._companion, group, outcomes)
        if self.memory.decisions >= self._checkpoint_at:
            self._checkpoint_at = self.memory.decisions + self._checkpoint_every
            self._ledger.waiting.append(self._checkpoint())

    def _accompany(self, companion: Companion, group: CandleGroup, outcomes: Sequence[Outcome]) -> None:
        companion.on_candles(group, outcomes)
        self._ledger.waiting.extend(self._taken(companion))
        if companion.drift is not None:
            self._publish(companion.drift)

    def _taken(self, companion: Companion) -> Sequence[Record]:
        """Return what the companion has to say; a drift across its limit counts from the next decision on."""
        taken = companion.take()
        for record in taken:
            if record.kind == "drift":
                self.trader.set_drifted(is_drifted=record.payload["is_beyond"])
            if record.kind == "shadow":
                self._publish(ShadowMarked(payload=record.payload))
            companion.apply(record)
        return taken

    def _decisions(self, outcomes: Iterable[Outcome]) -> list[Record]:
        """Note decisions and the orders they approved; returns their records."""
        written = []
        for outcome in outcomes:
            seen = self.memory.take_decision(outcome.sight.candle.symbol)
            if isinstance(outcome.verdict, Approved):
                self.memory.intend(outcome.verdict.order)
            written.append(records.of_decision(outcome, seen, self.model.id, self.trader.portfolio, self.trader.risk))
        return written

    async def _warm(self, group: CandleGroup) -> None:
        now_ms = self._clock.now_ms()
        self._ledger.apply(self._broker.on_market(group))
        self._take_in(group)
        self.trader.warm(group.candles)
        if self._companion is not None:
            self._companion.on_warm(group)
        for candle in group.candles:
            self._publish(CandleTaken(candle=candle, is_backfill=True, at_ms=now_ms))
        if len(self._ledger.waiting) >= _BATCH:
            await self._write([])

    def _take_in(self, group: CandleGroup) -> None:
        self._ledger.waiting.append(records.of_group(group))
        self.memory.take_candles(group)

    # ---- between candles ----------------------------------------------------------------------------------------
    async def _on_trade(self, trade: MarketTrade) -> None:
        held = self.trader.portfolio
        await self._hear(trade.at_ms)
        self._ledger.apply(self._broker.on_market(trade))
        before = self.trader.portfolio
        self._tell_in_flight()
        approved = self.trader.on_price(trade.symbol, trade.price, trade.at_ms)
        if self.trader.portfolio is not before:  # a limit is broken, also where nothing can be sold
            await self._withdraw_buys("a limit of the account is broken")
            payload = {"symbol": trade.symbol, "price": trade.price, "at_ms": trade.at_ms}
            await self._command_orders("risk", payload, approved)
        else:
            await self._settle()
        if self.trader.portfolio is not held:
            self._publish_account()

    # ---- the health of a live feed ------------------------------------------------------------------------------
    async def watch(self) -> None:
        """Notice a live feed that falls silent, whatever it says itself, until cancelled."""
        while True:
            limits = self.trader.setup.limits
            rest_s = min(self._watch.rest_s(limits), _LOOK_EVERY_S)
            if rest_s <= 0.0:
                rest_s = limits.stale_feed_s
                async with self._lock:
                    await self._note_feed()
                    await self._write([])
            await self._clock.sleep_s(rest_s)

    async def _hear(self, venue_ms: int) -> None:
        if self._is_live:
            self._watch.hear(venue_ms, self.trader.setup.limits)
            await self._note_feed()

    async def _note_feed(self) -> None:
        """Tell trader and journal what we make of the feed, where that has changed."""
        watch, state = self._watch, self.trader.risk
        if (watch.is_stale, watch.is_skewed) != (state.is_stale, state.is_skewed):
            status = watch.status(self.trader.setup.limits)
            await self._set_feed(status, is_stale=watch.is_stale, is_skewed=watch.is_skewed)

    async def _on_feed(self, status: FeedStatus) -> None:
        self._watch.told(status)
        await self._set_feed(status, is_stale=self._watch.is_stale, is_skewed=self._watch.is_skewed)
        await self._write([])

    async def _set_feed(self, status: FeedStatus, *, is_stale: bool, is_skewed: bool) -> None:
        self.trader.set_feed(is_stale=is_stale, is_skewed=is_skewed)
        payload = {"health": status.health.value, "detail": status.detail}
        self._ledger.waiting.append(
            Record(kind="feed", payload={**payload, "is_stale": is_stale, "is_skewed": is_skewed})
        )
        if is_stale:
            await self._withdraw_buys("the feed is not live")
        self._publish(status)

    # ---- what a person asks -------------------------------------------------------------------------------------
    async def command(self, verb: str, source: str) -> str:
        """Do what an operator asks, journalled first; returns the effect in words. Raises SacdError."""
        async with self._lock:
            now_ms = self._clock.now_ms()
            approved: list[Approved] = []
            match verb:
                case "pause":
                    await self._withdraw_buys("paused")
                    self.trader.pause()
                    effect = "paused: no new exposure; stops and exits go on"
                case "resume":
                    self.trader.resume()
                    effect = "trading; the drawdown is counted from here" + self._still_held()
                case "flatten":
                    await self._withdraw_buys("everything is being sold")
                    self._tell_in_flight()
                    approved = self.trader.flatten(now_ms)
                    effect = f"paused, {len(approved)} positions are being sold"
                case _:
                    raise SacdError(f"unknown command {verb!r}; known: {', '.join(COMMANDS)}")
            await self._command_orders("command", {"verb": verb, "source": source, "at_ms": now_ms}, approved)
            self._publish(CommandTaken(verb=verb, source=source, effect=effect))
            self._publish_account()
            return effect

    def _still_held(self) -> str:
        """Return what a resume does not lift, in words, "" when there is nothing."""
        held = [f"; still {why}" for why in wording.hindrances(self.trader.risk)]
        if self.trader.portfolio.day_loss >= self.trader.setup.limits.daily_loss:
            held.append("; the daily loss limit still holds until 00:00 UTC")
        return "".join(held)

    async def _command_orders(self, kind: str, payload: Mapping[str, Any], approved: Sequence[Approved]) -> None:
        orders = [verdict.order for verdict in approved]
        for order in orders:
            self.memory.intend(order)
        stored = {**payload, "orders": [records.of_order(order) for order in orders]}
        await self._write([Record(kind=kind, payload=stored)])
        await self._submit(orders)

    # ---- what a live venue tells --------------------------------------------------------------------------------
    async def follow(self, broker: LiveBroker) -> None:
        """Take what a live broker tells, group by group, until it has no more to tell.

        Each group and all that follows from it are one transaction. Raises FatalError for what cannot be.
        """
        async for group in broker.news():
            async with self._lock:
                held, risk = self.trader.portfolio, self.trader.risk
                for news in group:
                    await self._hear_broker(news)
                await self._settle()
                if self.trader.portfolio is not held or self.trader.risk is not risk:
                    self._publish_account()

    async def _hear_broker(self, news: BrokerNews) -> None:
        match news:
            case OrderReport():
                self._ledger.apply([news])
            case OrderPath():
                if news.needs_person:
                    await self._withdraw_buys("the venue refuses our key")
                self._ledger.order_path(news, self._clock.now_ms())
            case External():
                if news.halts:
                    halted = {news.symbol} if news.symbol else None
                    await self._withdraw_buys("somebody else changed the account", halted)
                stop = self.trader.stops.get(news.symbol)
                self._ledger.external(news)
                if self.trader.stops.get(news.symbol) != stop:
                    self._exits.start_over(news.symbol)
            case NewSteps():
                await self._change_steps(news)
            case StopLost():
                if news.is_last:
                    self._exits.expose(news.symbol)
                self._ledger.stop_lost(news)

    async def _change_steps(self, news: NewSteps) -> None:
        """Go on under other steps, which a run record of its own stands for, and around closed markets."""
        setup = self.trader.setup
        instruments = {symbol: news.instruments.get(symbol, known) for symbol, known in setup.instruments.items()}
        if instruments != setup.instruments:
            self.trader.begin(replace(setup, instruments=instruments), self.trader.reference)
            if self._companion is not None:
                self._companion.begin(self.trader.setup)
            self._run_seq = await self._write([self._run_record(self.trader.setup)])
        if news.closed != self.trader.risk.closed:
            self.trader.set_venue(closed=news.closed)
            detail = f"no orders in {', '.join(sorted(news.closed))}" if news.closed else "all markets take orders"
            self._ledger.venue(self._clock.now_ms(), detail)
        self._publish(news)

    def _tell_in_flight(self) -> None:
        if self._broker.is_live:
            self.memory.tell_in_flight(self.trader)

    async def _settle(self) -> None:
        """Write what waits, if anything does, and send what has to go."""
        exits = self._exits.due() if self._broker.is_live else []
        if self._ledger.waiting:
            await self._write([])
        await self._submit(exits)
        for order in exits:
            self._publish(ExitForced(order=order))

    # ---- orders -------------------------------------------------------------------------------------------------
    async def _submit(self, orders: Iterable[Order]) -> None:
        """Send orders that are on disk. An older one still in flight was meant for the same holding: it ends first."""
        for order in orders:
            for older in self.memory.before(order):
                self._ledger.apply(await self._broker.cancel(older, "a newer order takes its place"))
            self._count.orders += 1
            self._ledger.apply(await self._broker.submit(order))
        self._broker.release()

    async def _withdraw_buys(self, reason: str, symbols: Collection[str] | None = None) -> None:
        """End what would still raise exposure; symbols: None means all."""
        for status in list(self.memory.orders.values()):
            order = status.order
            if order.side is Side.BUY and (symbols is None or order.symbol in symbols):
                self._ledger.apply(await self._broker.cancel(order, reason))

    async def resubmit(self, orders: Iterable[Order]) -> None:
        """Hand orders that a recovery found open to the paper venue again, and protect what is held."""
        for symbol, stop in self.trader.stops.items():
            self._ledger.protect(symbol, stop)
        await self._submit(orders)

    def expire(self, reports: Iterable[OrderReport]) -> None:
        """Note orders that a recovery found too old to be sent."""
        self._ledger.apply(reports)

    # ---- memory -------------------------------------------------------------------------------------------------
    async def _write(self, more: Sequence[Record]) -> int:
        """Write what waits and `more` in one transaction and let what rests on it leave; returns the last seq."""
        written, self._ledger.waiting = [*self._ledger.waiting, *more], []
        if any(record.kind == "fill" for record in written):
            crash_points.at("fill_received")
        started_s = self._clock.monotonic_s()
        last_seq = await self._journal.append(written)
        self._publish(JournalWritten(seconds=self._clock.monotonic_s() - started_s, records=len(written)))
        _mark_written(written)
        self._broker.release()
        return last_seq

    async def start(self, run_record: Callable[[Setup], Record]) -> None:
        """Write the record that a run begins.

        run_record: returns it for a setup; asked again when the venue changes its steps.
        """
        async with self._lock:
            self._run_record = run_record
            self._run_seq = await self._write([*self._left_over(), run_record(self.trader.setup)])
            if self._broker.is_live:
                self._forget_venue()
                self._ledger.waiting.extend(self._ledger.missing_intents())
                await self._settle()

    def _left_over(self) -> Sequence[Record]:
        """Return what a former run was killed before it wrote it."""
        return () if self._companion is None else self._taken(self._companion)

    def _forget_venue(self) -> None:
        """Take the venue for open until the broker of this run says otherwise: what a former one found is old."""
        if self.trader.risk.is_cut_off or self.trader.risk.closed:
            self.trader.set_venue(is_cut_off=False, closed=())
            self._ledger.venue(self._clock.now_ms(), "a new run: the venue is asked again")

    async def stop(self, reason: str) -> Stopped:
        """Write the last state and return the summary."""
        async with self._lock:
            await self._write([self._checkpoint(), Record(kind="stop", payload={"reason": reason})])
            stopped = Stopped(
                reason=reason,
                portfolio=self.trader.portfolio,
                risk=self.trader.risk,
                cash=self._cash,
                decisions=self._count.decisions,
                orders=self._count.orders,
                fills=self._ledger.fills,
                hold_equity=self.memory.hold_equity(self.trader),
                quote=next(iter(self.trader.setup.instruments.values())).quote,
                at_ms=self._clock.now_ms(),
            )
            self._publish(stopped)
            return stopped

    def _checkpoint(self) -> Record:
        state = {"run": self._run_seq, "trader": self.trader.state(), "memory": self.memory.to_json()}
        if self._companion is not None:
            state["companion"] = self._companion.state()
        return Record(kind="checkpoint", payload=state)

    # ---- the ensembles ------------------------------------------------------------------------------------------
    async def note(self, steps: Sequence[Record]) -> None:
        """Write steps in the life of the ensembles, all or none; the companion hears of what is on disk."""
        async with self._lock:
            await self._write(steps)
            for step in steps:
                self._tell_companion(step)

    async def serve(
        self, model: Model, reference: Reference, run_record: Callable[[Setup], Record], step: Record
    ) -> None:
        """Let another ensemble decide from the next candle on.

        The step and the record of the run that begins with it are one transaction: decisions before it rest on the old
        ensemble, decisions after it on the new one.
        """
        async with self._lock:
            begun = run_record(self.trader.setup)
            self._run_seq = await self._write([step, begun])
            self._run_record, self.model = run_record, model
            self.trader.begin(self.trader.setup, reference)
            self._tell_companion(step)

    # ---- the configuration --------------------------------------------------------------------------------------
    async def reconfigure(
        self,
        change: Callable[[Setup], Setup],
        run_record: Callable[[Setup], Record],
        told: Mapping[str, Any],
        *,
        checkpoint_every: int,
        follow: Callable[[], None],
    ) -> None:
        """Let other parameters hold from the next candle on, here and wherever else they are kept.

        change: returns the setup, given the present one.  run_record: as `start` has it.  told: what changed, for the
        record.  follow: lets all others go by the new parameters; called once these are on disk, and must not fail.
        As with `serve`, decisions before the record rest on the old parameters and decisions after it on the new ones.
        """
        async with self._lock:
            setup = change(self.trader.setup)
            begun = run_record(setup)
            self._run_seq = await self._write([replace(begun, payload={**begun.payload, "reload": dict(told)})])
            self._run_record = run_record
            begin(self.trader, setup, self.trader.reference)
            self._broker.begin(setup)
            if self._companion is not None:
                self._companion.begin(setup)
            follow()
            # A start that folded older candles would judge them by what `follow` has changed beside the setup.
            self._checkpoint_every = checkpoint_every
            self._checkpoint_at = self.memory.decisions + checkpoint_every
            await self._write([self._checkpoint()])

    def _tell_companion(self, step: Record) -> None:
        if self._companion is None:
            return
        self._companion.apply(step)
        serves = step.payload["step"] == "serving"
        self._publish(
            ModelStep(
                payload=step.payload,
                life=self._companion.life,
                members=self.model.members if serves else 0,
                seen_until_ms=self.model.seen_until_ms if serves else 0,
            )
        )

    # ---- those who watch ----------------------------------------------------------------------------------------
    def _publish_account(self) -> None:
        self._publish(
            AccountMarked(
                portfolio=self.trader.portfolio,
                risk=self.trader.risk,
                hold_equity=self.memory.hold_equity(self.trader),
                at_ms=self._clock.now_ms(),
            )
        )

    def _publish(self, event: Event) -> None:
        for sink in self._sinks:
            sink.publish(event)


def _not_started(_setup: Setup) -> Record:
    raise FatalError(
        "the venue changed its steps before a run began: nothing says under which ones decisions were made"
    )


def _mark_written(written: Iterable[Record]) -> None:
    """Mark the moment between a transaction and the orders and stops that rest on it."""
    if any(
        record.kind == "intent" or record.payload.get("orders") or record.payload.get("order") for record in written
    ):
        crash_points.at("intent_committed")
    if any(record.kind == "fill" and record.payload["side"] == Side.BUY for record in written):
        crash_points.at("filled_no_stop")
