"""Protective stops at the venue: exactly one rests if and only if what is held can be sold there.

Changing a stop means cancelling the old one, proof that it is gone, then placing the new one. A sale asks the stop to
stand aside where the venue binds for it what is to be sold.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from daemon import crash_points
from daemon.dead_man import DeadMan
from daemon.errors import TransientError
from daemon.order_life import OrderLife
from daemon.order_price import Unfit, stop_for, whole_lots, within_balance
from daemon.order_send import OrderSender
from daemon.order_tools import Tools
from daemon.order_watch import OrderWatch, happens_within
from daemon.ports import StopLost
from daemon.rate_budget import Purpose, spending
from daemon.venue import Quote, RefusalKind, VenueOrder, VenueRefused
from strategy.order import Order, OrderState, OrderStatus

_STEADY_S = 60.0
"""A stop that rested so long was good: what ends it then begins a new count of failures."""
_LONGEST_PAUSE_S = 60.0
"""Between two losses told when nothing helps."""


@dataclass(slots=True)
class _Guard:
    """The stop of one symbol. latest: the name of the one last announced.  wanted: released.

    resting: at the venue or on its way there.  leftovers: of before this process began.  told: whose loss was told.
    given_up: for which a sale was asked instead.
    """

    symbol: str
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    latest: str = ""
    wanted: OrderLife | None = None
    resting: OrderLife | None = None
    leftovers: list[OrderLife] = field(default_factory=list)
    told: OrderLife | None = None
    given_up: OrderLife | None = None
    refused: RefusalKind | None = None
    placed_s: float = 0.0
    failures: int = 0
    losses: int = 0
    quiet_until_s: float = 0.0

    @property
    def is_at_rest(self) -> bool:
        """True when nothing is left to do."""
        return not self.changed.is_set() and not self.lock.locked()


class Protection:
    """Keeps the stops. `tend` runs per symbol; everything else only says what is wanted."""

    def __init__(
        self,
        tools: Tools,
        *,
        watch: OrderWatch,
        sender: OrderSender,
        dead_man: DeadMan,
    ) -> None:
        self._venue = tools.venue
        self._books = tools.books
        self._settings = tools.settings
        self._clock = tools.clock
        self._outbox = tools.outbox
        self._path = tools.path
        self._markets = tools.markets
        self._watch = watch
        self._sender = sender
        self._dead_man = dead_man
        self._guards = {symbol: _Guard(symbol) for symbol in tools.settings.symbols}

    # ---- what is wanted -----------------------------------------------------------------------------------------
    def announce(self, symbol: str, stop: Order | None) -> bool:
        """Hear what will be wanted once it is released; tells whether that is news."""
        guard, name = self._guards[symbol], "" if stop is None else stop.client_id
        is_new, guard.latest = guard.latest != name, name
        return is_new

    def want(self, symbol: str, stop: Order | None) -> None:
        """Make this the stop of the symbol from here on, None for none; one that never left is given up."""
        guard = self._guards[symbol]
        before = guard.wanted
        guard.wanted = None if stop is None else self._watch.life(self._status(stop), guard.changed)
        if before is not None and before is not guard.wanted and not before.was_sent and not before.is_ended:
            self._end_unsent(before, "superseded before it was sent")
        if stop is None:
            guard.failures = guard.losses = 0
        guard.changed.set()

    def restore(self, status: OrderStatus) -> OrderLife:
        """Take over a stop that the books hold open from before this process began; it is looked up, never sent."""
        guard = self._guards[status.order.symbol]
        life = self._watch.life(status, guard.changed)
        life.is_restored = life.was_sent = True
        guard.resting = life
        guard.leftovers.append(life)
        guard.changed.set()
        return life

    def _status(self, stop: Order) -> OrderStatus:
        return self._books.known(stop.client_id) or OrderStatus(order=stop)

    # ---- what is ------------------------------------------------------------------------------------------------
    @property
    def has_resting(self) -> bool:
        """True while a stop of ours is at the venue, or may be."""
        return any(guard.resting is not None and not guard.resting.is_ended for guard in self._guards.values())

    @property
    def is_at_rest(self) -> bool:
        """True when every symbol has the stop that is wanted, or nothing can be done about it now."""
        return all(guard.is_at_rest for guard in self._guards.values())

    def is_dust(self, stop: Order) -> bool:
        """Tell whether the venue would take nothing so small as this stop."""
        market = self._markets.market(stop.symbol)
        has_market_stop = self._venue.abilities.has_market_stop
        return isinstance(stop_for(stop, stop.quantity, market, self._settings, has_market_stop=has_market_stop), Unfit)

    def wake(self) -> None:
        """Look at everything again: the venue is back, or a market has opened."""
        for guard in self._guards.values():
            guard.changed.set()

    # ---- keeping it so ------------------------------------------------------------------------------------------
    async def tend(self, symbol: str) -> None:
        """Keep the stop of one symbol until cancelled."""
        guard = self._guards[symbol]
        while True:
            await guard.changed.wait()
            async with guard.lock:
                guard.changed.clear()
                with spending(Purpose.EXIT):
                    lost = await self._tend(guard)
            if lost is None:
                continue
            pause_s = guard.quiet_until_s - self._clock.monotonic_s()
            if pause_s <= 0.0 or not await happens_within(self._clock, guard.changed, pause_s):
                self._tell_lost(guard, lost)

    async def _tend(self, guard: _Guard) -> OrderLife | None:
        """Bring the venue to what is wanted; returns a stop that is wanted and cannot be had under its name."""
        await self._clear_up(guard)
        while True:
            await self._outbox.settled()  # what is wanted then follows from all that we know has happened
            wanted, resting = guard.wanted, guard.resting
            if resting is not None and not resting.is_ended and resting is not wanted:
                await self._watch.withdraw(resting, "another stop takes its place")
            elif wanted is None or wanted.was_sent or wanted.is_ended or not self._can_place(guard, wanted):
                break
            else:
                await self._place(guard, wanted)
        return wanted if wanted is not None and self._is_lost(guard, wanted) else None

    def _is_lost(self, guard: _Guard, life: OrderLife) -> bool:
        """Tell whether a stop has ended that is still needed, and nobody was told."""
        if not life.is_ended or life is guard.told or guard.latest != life.client_id:
            return False
        if life.status.state is OrderState.FILLED or not self._venue.abilities.has_stop or self.is_dust(life.order):
            return False
        return whole_lots(self._markets.market(guard.symbol).instrument, self._books.held(guard.symbol)) > 0.0

    async def _clear_up(self, guard: _Guard) -> None:
        """Find out about stops of before a restart, or missed by an inspection: the wanted one stays, others go."""
        while guard.leftovers:
            life = guard.leftovers[0]
            if life is guard.wanted:
                guard.resting = life
                await self._watch.look(life)
                await self._find_out(life)
            else:
                await self._watch.withdraw(life, "left over from before a restart")
            guard.leftovers.pop(0)

    def _can_place(self, guard: _Guard, wanted: OrderLife) -> bool:
        if not self._venue.abilities.has_stop:
            self._end_unsent(wanted, "this venue keeps no stops")
            return False
        return self._markets.is_open(guard.symbol) and (self._path.is_open or self._path.is_well)

    async def _find_out(self, life: OrderLife) -> None:
        """Look an order up until it is shown or denied; asks until there is an answer."""
        pause_s = self._watch.first_pause_s(life)
        while not (life.is_ended or (life.is_confirmed and life.denials == 0)):
            life.nudge.clear()
            pause_s = await self._watch.pause(life, pause_s)
            await self._watch.look(life)

    async def _place(self, guard: _Guard, life: OrderLife) -> None:
        market = self._markets.market(guard.symbol)
        quantity = await self._sellable(guard.symbol, life.order.quantity)
        if life is not guard.wanted:
            return
        has_market_stop = self._venue.abilities.has_market_stop
        request = stop_for(life.order, quantity, market, self._settings, has_market_stop=has_market_stop)
        if isinstance(request, Unfit):
            self._end_unsent(life, request.detail)
            guard.told = life
            return
        crash_points.at("filled_no_stop")
        await self._dead_man.disarm()
        guard.resting, guard.placed_s = life, self._clock.monotonic_s()
        mark = self._books.mark(guard.symbol) or None
        guard.refused = await self._sender.send(life, request, Quote(bid=None, ask=None, last=mark))
        if guard.refused is RefusalKind.FUNDS:
            await self._clear_strays()
        await self._find_out(life)

    async def _sellable(self, symbol: str, quantity: float) -> float:
        """Return how much a stop may ask for: less than is held where fees or dust left less free."""
        try:
            balances = await self._path.of(self._venue.balances())
        except (TransientError, VenueRefused):
            return quantity
        balance = balances.get(self._markets.market(symbol).instrument.base)
        return within_balance(quantity, 0.0 if balance is None else balance.free)

    def _end_unsent(self, life: OrderLife, detail: str) -> None:
        self._watch.tell(life.deny(self._clock.now_ms(), detail))

    # ---- losing it ----------------------------------------------------------------------------------------------
    def _tell_lost(self, guard: _Guard, life: OrderLife) -> None:
        """Say that a new stop is needed, or that it is time to sell."""
        guard.told = life
        now_s = self._clock.monotonic_s()
        if now_s - guard.placed_s >= _STEADY_S:
            guard.failures = guard.losses = 0
        is_last = self._count_failure(guard, life)
        guard.losses += 1
        in_vain = guard.losses - self._settings.stop_attempts
        guard.quiet_until_s = now_s + (0.0 if in_vain <= 0 else min(2.0**in_vain, _LONGEST_PAUSE_S))
        self._outbox.put(StopLost(symbol=guard.symbol, detail=self._lost_words(guard, life), is_last=is_last))

    def _count_failure(self, guard: _Guard, life: OrderLife) -> bool:
        """Count a stop that the venue did not keep; tells whether it is time to sell instead."""
        if life is guard.given_up:
            return True  # the sale that was asked for instead has failed
        if life.withdrawn or life.is_restored or guard.refused is RefusalKind.CLOSED or not self._path.is_well:
            return False
        guard.failures += 1
        is_last = guard.refused is RefusalKind.WOULD_TRADE or guard.failures >= self._settings.stop_attempts
        if is_last:
            guard.failures, guard.given_up = 0, life
        return is_last

    def _lost_words(self, guard: _Guard, life: OrderLife) -> str:
        if life.withdrawn:
            return life.withdrawn
        if guard.refused is RefusalKind.WOULD_TRADE:
            return "the price is already at the stop"
        in_a_row = self._settings.stop_attempts if life is guard.given_up else max(1, guard.failures)
        return f"the protective stop is {life.status.state.replace('_', ' ')}, {in_a_row} in a row"

    # ---- standing aside -----------------------------------------------------------------------------------------
    @asynccontextmanager
    async def aside(self, symbol: str) -> AsyncIterator[None]:
        """Keep the stop out of the way of a sale: nothing is placed meanwhile, and what binds the funds is gone.

        It may have filled instead: inside, the books know.
        """
        guard = self._guards[symbol]
        async with guard.lock:
            resting = guard.resting
            if resting is not None and not resting.is_ended and self._venue.abilities.stop_binds_funds:
                await self._watch.withdraw(resting, "it makes way for a sale")
            await self._outbox.settled()
            yield

    def reconsider(self, symbol: str) -> None:
        """Hear that a sale is over: what it has left, if anything, needs its stop again."""
        guard = self._guards[symbol]
        guard.told = None
        guard.changed.set()

    # ---- looking after it ---------------------------------------------------------------------------------------
    async def inspect(self) -> None:
        """Compare what rests at the venue with what should: lost stops are noticed, strays cancelled."""
        resting = await self._path.of(self._venue.open_orders())
        there = {order.client_id for order in resting}
        for guard in self._guards.values():
            life = guard.resting
            if life is not None and not life.is_ended and life.client_id not in there and not guard.lock.locked():
                guard.leftovers.append(life)
                guard.changed.set()
        await self._cancel_strays(resting)

    async def try_inspect(self) -> None:
        """As `inspect`, but leaves everything as it is when there is no answer."""
        try:
            await self.inspect()
        except (TransientError, VenueRefused):
            return

    async def _clear_strays(self) -> None:
        try:
            await self._cancel_strays(await self._path.of(self._venue.open_orders()))
        except (TransientError, VenueRefused):
            return

    async def _cancel_strays(self, resting: Sequence[VenueOrder]) -> None:
        """Cancel stops of ours that count as gone and yet are there: only one may sell what is held."""
        for order in resting:
            status = self._books.known(order.client_id) if order.is_stop and order.client_id else None
            life = self._watch.find(order)
            if status is not None and status.is_terminal and (life is None or life.is_ended):
                await self._watch.cancel_stray(order)
