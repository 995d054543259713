"""The live broker: real orders at a venue, one desk per symbol, stops, fills, and what they mean, told as news.

It only puts together: an order's life is in `order_desk.py` and `order_watch.py`, stops in `protection.py`. The engine
never waits for it; what the engine asks takes effect once `release` says that it stands in the journal.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from typing import Any, Protocol, TypeVar

from daemon.crew import Crew
from daemon.dead_man import DeadMan
from daemon.errors import ConfigError, TransientError
from daemon.live_settings import LiveSettings
from daemon.market_book import MarketBook
from daemon.order_desk import OrderDesk
from daemon.order_gate import OrderGate
from daemon.order_life import OrderLife
from daemon.order_path import PathWatch
from daemon.order_send import OrderSender
from daemon.order_tools import Tools
from daemon.order_watch import OrderWatch, happens_within
from daemon.outbox import Outbox
from daemon.ports import (
    Books,
    BrokerNews,
    CandleGroup,
    Clock,
    External,
    MarketTrade,
    OrderPath,
    StopLost,
)
from daemon.protection import Protection
from daemon.retry import Backoff, Uniform
from daemon.venue import (
    BalanceChanged,
    RefusalKind,
    StreamStatus,
    Unauthorised,
    Venue,
    VenueEvent,
    VenueOrder,
    VenueRefused,
    VenueTrade,
)
from strategy.order import Order, OrderKind, OrderReport
from strategy.trader import Setup

_HEARTBEAT_S = 5.0
_CLOCK_S = 1.0
"""The clock, and whether the account rests, are looked at so often."""
_TIME_EVERY_S = 600.0
_TIME_OFF_S = 5.0
_TIME_LOOKS = 3
"""The venue's clock is compared with ours so often; so far apart nothing is bought."""
_SILENT_S = 10.0
"""The venue is asked something when it has not answered anything for so long."""
_CLOSED_MARKETS_S = 300.0
"""While a market is closed its state is read this often."""
_DAY_MS = 86_400_000
_PASSES = 3
_DISARM_S = 3.0
T = TypeVar("T")


class Reconcile(Protocol):
    """Compares the account at the venue with the books; only reads."""

    async def first(self) -> list[External]:
        """Return what a start finds; [] when books and venue agree. Raises ConfigError, TransientError."""
        ...

    async def again(self) -> list[External]:
        """Return what changed since; [] when nothing did, or when it is not certain yet."""
        ...


class VenueBroker:
    """Implements `ports.LiveBroker` over a `Venue`."""

    is_live = True

    def __init__(
        self,
        *,
        venue: Venue,
        books: Books,
        settings: LiveSettings,
        clock: Clock,
        generator: Uniform,
        reconcile: Reconcile,
    ) -> None:
        """Take what it works with. generator: for the jitter of pauses."""
        self._venue = venue
        self._books = books
        self._settings = settings
        self._clock = clock
        self._generator = generator
        self._reconcile = reconcile
        self._outbox = Outbox()
        self._crew = Crew()
        self._asked: list[Callable[[], None]] = []
        self._released = 0
        self._is_begun = False
        self._wants_reconcile = asyncio.Event()
        self._wants_inspection = asyncio.Event()
        self._is_stopping = False
        self._is_closed = False
        self._path = PathWatch(self._outbox, clock)
        self._markets = MarketBook(venue, settings.symbols, self._outbox, self._path)
        self._gate = OrderGate(settings)
        tools = Tools(
            venue=venue,
            path=self._path,
            markets=self._markets,
            books=books,
            settings=settings,
            clock=clock,
            generator=generator,
            outbox=self._outbox,
        )
        self._watch = OrderWatch(tools)
        sender = OrderSender(tools, gate=self._gate, watch=self._watch, on_refused=self._on_refused)
        self._dead_man = DeadMan(tools, may_arm=lambda: not self._protection.has_resting)
        self._protection = Protection(tools, watch=self._watch, sender=sender, dead_man=self._dead_man)
        self._desk = OrderDesk(
            tools,
            gate=self._gate,
            watch=self._watch,
            sender=sender,
            protection=self._protection,
            dead_man=self._dead_man,
            is_stopping=lambda: self._is_stopping,
        )

    # ---- what the engine asks -----------------------------------------------------------------------------------
    async def submit(self, order: Order) -> Sequence[OrderReport]:
        """Note an order; it is sent after `release`. Returns nothing: reports come as news."""
        self._asked.append(lambda: self._desk.take(order))
        return ()

    async def cancel(self, order: Order, reason: str) -> Sequence[OrderReport]:
        """Note that an order shall end; the news tell when the venue has proved it."""
        self._asked.append(lambda: self._desk.withdraw(order, reason))
        return ()

    def on_market(self, event: CandleGroup | MarketTrade) -> Iterator[OrderReport]:  # noqa: ARG002 - the seam's name
        """Yield nothing: the venue fills orders, not the market as we see it."""
        return iter(())

    def protect(self, symbol: str, stop: Order | None) -> None:
        """Note the stop that `symbol` needs; it replaces the one at the venue after `release`."""
        if self._protection.announce(symbol, stop):
            self._asked.append(lambda: self._protection.want(symbol, stop))

    def begin(self, setup: Setup) -> None:
        """Do nothing: the venue says its costs and steps itself, and `cap` what we allow."""

    def cap(self, settings: LiveSettings) -> None:
        """Go by the caps of `settings` from the next order on; nothing else of them is taken."""
        self._gate.cap(settings)

    def release(self) -> None:
        """Let what was asked for so far take effect: it stands in the journal."""
        self._released = len(self._asked)
        if self._is_begun:
            self._let_go()

    def _let_go(self) -> None:
        effects, self._asked = self._asked[: self._released], self._asked[self._released :]
        self._released = 0
        for effect in effects:
            effect()

    def news(self) -> AsyncIterator[Sequence[BrokerNews]]:
        """Yield what happened, in order; asking for the next group says that the last one is on disk and released."""
        return self._outbox.groups()

    @property
    def refusals(self) -> int:
        """Orders that the gateway's own cap has refused."""
        return self._gate.refusals

    def is_quiet(self) -> bool:
        """Tell whether the books can be compared with balances: nothing of ours moves, or did a moment ago."""
        rested_s = self._clock.monotonic_s() - self._watch.active_s
        is_still = self._desk.is_idle and self._protection.is_at_rest and self._outbox.is_settled and not self._asked
        return is_still and rested_s >= self._settings.quiet_s

    # ---- start --------------------------------------------------------------------------------------------------
    async def start(self) -> None:
        """Connect, settle the orders of the books, protect what is held, reconcile; the news must be applied meanwhile.

        Raises ConfigError, FatalError, TransientError.
        """
        self._crew.hire(self._keep_clock())
        try:
            await self._path.of(self._venue.open())
            await self._markets.read(refresh=False)
            await self._crew.beside(self._begin())
        except Unauthorised as error:
            raise ConfigError(f"the venue refuses the key: {error}") from error

    async def _begin(self) -> None:
        lives = self._take_over()
        # One look first: what filled while nobody watched changes which stop is needed.
        for life in lives:
            await self._watch.look(life)
        await self._outbox.settled()
        for symbol in self._settings.symbols:
            self._protect_again(symbol)
        self._is_begun = True
        self._let_go()
        self._hire()
        await self._settle()

    def _take_over(self) -> list[OrderLife]:
        """Take over what the books hold open; returns orders that are no stops."""
        lives = []
        for status in self._books.orders():
            if status.order.kind is OrderKind.STOP:
                self._protection.restore(status)
            else:
                lives.append(self._desk.restore(status))
        return lives

    def _hire(self) -> None:
        for symbol in self._settings.symbols:
            self._crew.hire(self._desk.carry(symbol))
            self._crew.hire(self._protection.tend(symbol))
        self._crew.hire(self._dead_man.run())
        if self._venue.abilities.has_user_stream:
            self._crew.hire(self._listen())
        if not self._venue.abilities.has_stop:
            self._outbox.put(OrderPath(is_open=True, detail="this venue keeps no stops: sacd itself watches the price"))

    def _protect_again(self, symbol: str) -> None:
        """Want the stop that the books call for; where its name is used up, or not on disk, ask for a new one."""
        stop = self._books.stop(symbol)
        status = None if stop is None else self._books.known(stop.client_id)
        if stop is None or (status is not None and not status.is_terminal):
            self._protection.announce(symbol, stop)
            self._protection.want(symbol, stop)
        elif self._protection.announce(symbol, stop) and not self._protection.is_dust(stop):
            self._outbox.put(StopLost(symbol=symbol, detail="no protective stop is known to rest at the venue"))

    async def _settle(self) -> None:
        since_ms = self._clock.now_ms() - _DAY_MS
        for symbol in self._settings.symbols:
            await self._watch.trades_since(symbol, since_ms)
        for _ in range(_PASSES):
            await self._until(self._is_at_rest)
            found = await self._path.of(self._reconcile.first())
            if not found:
                return
            self._outbox.put(*found)
        raise TransientError("the account at the venue keeps changing while it is compared with the books")

    def _is_at_rest(self) -> bool:
        return self._desk.is_idle and self._protection.is_at_rest and self._outbox.is_settled and not self._asked

    async def _until(self, is_so: Callable[[], bool]) -> None:
        """Wait until something is so; it follows from news that others apply, so it is looked at, not waited for."""
        while not is_so():
            await self._clock.sleep_s(0.05)

    # ---- run ----------------------------------------------------------------------------------------------------
    async def run(self) -> None:
        """Watch orders, stops, balances, markets and the way to the venue until cancelled."""
        for work in (
            self._keep_path(),
            self._keep_stops(),
            self._keep_account(),
            self._keep_markets(),
            self._keep_time(),
        ):
            self._crew.hire(work)
        await self._crew.watch()

    async def _keep_clock(self) -> None:
        while True:
            self._path.mind_clock()
            await self._clock.sleep_s(_CLOCK_S)

    async def _keep_path(self) -> None:
        while True:
            await self._clock.sleep_s(_HEARTBEAT_S)
            self._path.review()
            if not self._path.is_open:
                await self._reopen()
            elif self._path.silent_s >= _SILENT_S:
                await self._try(self._venue.balances())

    async def _reopen(self) -> None:
        """Open the way again once the key works, nothing is in flight and the account was compared with the books."""
        if await self._try(self._venue.balances()) is None:
            return
        self._path.forgive()
        self._look_at_everything()
        await self._outbox.settled()
        if await self._comes_to_rest() and await self._is_time_right() and await self._compare() and self._path.is_well:
            self._path.reopen()
            self._protection.wake()

    async def _comes_to_rest(self) -> bool:
        """Wait a while for nothing to be in flight; whoever was just told to look has not even begun."""
        until_s = self._clock.monotonic_s() + _HEARTBEAT_S
        while not self._is_at_rest():
            if self._clock.monotonic_s() >= until_s:
                return False
            await self._clock.sleep_s(0.05)
        return True

    async def _keep_time(self) -> None:
        while True:
            await self._clock.sleep_s(_TIME_EVERY_S)
            await self._is_time_right()

    async def _is_time_right(self) -> bool:
        """Tell whether our clock goes with the venue's, as far as it tells; else nothing is bought until it does."""
        off_s = math.inf
        for _ in range(_TIME_LOOKS):  # a slow answer shows an offset that is none: the smallest one counts
            offset_ms = await self._try(self._venue.clock_offset_ms())
            if offset_ms is None:
                return True
            off_s = min(off_s, offset_ms / 1_000, key=abs)
            if abs(off_s) <= _TIME_OFF_S:
                return True
        self._path.distrust(f"the venue's clock is {off_s:+.1f} s from ours: set this machine's clock")
        return False

    async def _try(self, request: Awaitable[T]) -> T | None:
        """Return the answer, None when there is none: the path notes why."""
        try:
            return await self._path.of(request)
        except (TransientError, VenueRefused):
            return None

    def _look_at_everything(self) -> None:
        """Have everything asked for at once: a stream that was down replays nothing."""
        for life in self._watch.open_lives():
            life.nudge.set()
        self._wants_inspection.set()
        self._wants_reconcile.set()

    async def _keep_stops(self) -> None:
        while True:
            await happens_within(self._clock, self._wants_inspection, self._settings.reconcile_every_s)
            self._wants_inspection.clear()
            await self._protection.try_inspect()

    async def _keep_account(self) -> None:
        while True:
            await happens_within(self._clock, self._wants_reconcile, self._settings.reconcile_every_s)
            self._wants_reconcile.set()  # until it could be done: quiet moments may be short
            if self.is_quiet():
                self._wants_reconcile.clear()
                await self._compare()
                await self._clock.sleep_s(self._settings.quiet_s)
            else:
                await self._clock.sleep_s(_CLOCK_S)

    async def _compare(self) -> bool:
        """Look for changes that are not ours, twice, since one reading proves nothing; tells whether it could."""
        for is_second in (False, True):
            if is_second:
                await self._clock.sleep_s(self._settings.quiet_s)
            found = await self._try(self._reconcile.again())
            if found is None or not self._is_at_rest():
                return False
            self._outbox.put(*found)
            await self._outbox.settled()
        return True

    async def _keep_markets(self) -> None:
        left_s = self._settings.refresh_markets_s
        while True:
            pause_s = min(_CLOSED_MARKETS_S, left_s)
            await self._clock.sleep_s(pause_s)
            left_s -= pause_s
            closed = self._markets.closed
            if closed or left_s <= 0.0:
                left_s = self._settings.refresh_markets_s
                await self._markets.try_read()
            if closed - self._markets.closed:
                self._protection.wake()

    async def _on_refused(self, symbol: str, kind: RefusalKind) -> None:
        match kind:
            case RefusalKind.FILTER:
                await self._markets.try_read()
            case RefusalKind.CLOSED:
                await self._markets.try_read()
                self._markets.close(symbol)
            case RefusalKind.FUNDS:
                self._wants_reconcile.set()
            case RefusalKind.WOULD_TRADE | RefusalKind.OTHER:
                pass

    # ---- the user-data stream -----------------------------------------------------------------------------------
    async def _listen(self) -> None:
        pauses = Backoff(base_s=1.0, cap_s=60.0, generator=self._generator, floor_s=0.5)
        while True:
            try:
                async for event in self._venue.events():
                    pauses.reset()
                    await self._hear(event)
            except (TransientError, VenueRefused):
                pass  # it begins again below, and REST goes on meanwhile
            await self._clock.sleep_s(pauses.next_s())

    async def _hear(self, event: VenueEvent) -> None:
        match event:
            case VenueOrder():
                self._watch.on_order(event)
            case VenueTrade():
                await self._watch.on_trade(event)
            case BalanceChanged():
                self._wants_reconcile.set()
            case StreamStatus(is_up=True):
                self._look_at_everything()
            case StreamStatus():
                pass  # REST asks anyway

    # ---- the end ------------------------------------------------------------------------------------------------
    async def drain(self) -> None:
        """Send no new order, cancel resting entries and wait a while for what is in flight; stops stay."""
        self._is_stopping = True
        self._desk.withdraw_entries("sacd is stopping")
        until_s = self._clock.monotonic_s() + self._settings.drain_s
        while not (self._is_at_rest() or self._clock.monotonic_s() >= until_s):
            await self._clock.sleep_s(0.05)
        await self._soon(self._dead_man.disarm())

    async def _soon(self, work: Coroutine[Any, Any, None]) -> None:
        """Do `work` if it is soon done: a manager waits for our end, and the switch only cancels what we withdrew."""
        tasks = asyncio.ensure_future(work), asyncio.ensure_future(self._clock.sleep_s(_DISARM_S))
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def close(self) -> None:
        """End all tasks, leave the venue; idempotent."""
        if self._is_closed:
            return
        self._is_closed = True
        await self._crew.dismiss()
        self._outbox.close()
        await self._venue.close()
