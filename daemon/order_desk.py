"""The life of an order at the venue, from its release to its end. One at a time per symbol, symbols side by side."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from daemon.dead_man import DeadMan
from daemon.errors import TransientError
from daemon.order_gate import OrderGate
from daemon.order_life import OrderLife
from daemon.order_price import Unfit, request_for, whole_lots, within_balance
from daemon.order_send import OrderSender
from daemon.order_tools import Tools
from daemon.order_watch import OrderWatch, happens_within
from daemon.protection import Protection
from daemon.rate_budget import Purpose, spending
from daemon.venue import Balance, Quote, Request, RequestKind, VenueRefused
from strategy.order import Order, OrderStatus, Side


@dataclass(slots=True)
class _Queue:
    """Orders of one symbol: waiting, and the one that is at the venue."""

    waiting: deque[OrderLife] = field(default_factory=deque)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    current: OrderLife | None = None


class OrderDesk:
    """Carries orders that take, and post-only entries. `carry` runs per symbol."""

    def __init__(
        self,
        tools: Tools,
        *,
        gate: OrderGate,
        watch: OrderWatch,
        sender: OrderSender,
        protection: Protection,
        dead_man: DeadMan,
        is_stopping: Callable[[], bool],
    ) -> None:
        self._venue = tools.venue
        self._books = tools.books
        self._settings = tools.settings
        self._clock = tools.clock
        self._path = tools.path
        self._markets = tools.markets
        self._gate = gate
        self._watch = watch
        self._sender = sender
        self._protection = protection
        self._dead_man = dead_man
        self._is_stopping = is_stopping
        self._queues = {symbol: _Queue() for symbol in tools.settings.symbols}

    @property
    def is_idle(self) -> bool:
        """True when no order waits or is in flight."""
        return not any(queue.waiting or queue.current for queue in self._queues.values())

    def take(self, order: Order) -> None:
        """Queue an order whose intent is on disk."""
        self._queue(self._watch.life(self._books.known(order.client_id) or OrderStatus(order=order)))

    def restore(self, status: OrderStatus) -> OrderLife:
        """Take over an order that the books hold open from before this process began; it is looked up, never sent."""
        life = self._watch.life(status)
        life.is_restored = life.was_sent = True
        life.withdrawn = "left over from before a restart"
        self._queue(life)
        return life

    def withdraw(self, order: Order, reason: str) -> None:
        """End an order as soon as can be; one that has not left does not leave."""
        life = self._watch.life(self._books.known(order.client_id) or OrderStatus(order=order))
        life.withdrawn = life.withdrawn or reason
        life.nudge.set()

    def withdraw_entries(self, reason: str) -> None:
        """End what waits or rests; used when the daemon stops."""
        for queue in self._queues.values():
            for life in [*queue.waiting, *([queue.current] if queue.current else [])]:
                life.withdrawn = life.withdrawn or reason
                life.nudge.set()

    def _queue(self, life: OrderLife) -> None:
        queue = self._queues[life.symbol]
        queue.waiting.append(life)
        queue.arrived.set()

    # ---- one after the other ------------------------------------------------------------------------------------
    async def carry(self, symbol: str) -> None:
        """Carry the orders of one symbol until cancelled."""
        queue = self._queues[symbol]
        while True:
            while not queue.waiting:
                queue.arrived.clear()
                await queue.arrived.wait()
            queue.current = queue.waiting.popleft()
            await self._carry(queue.current)
            self._gate.end(queue.current.client_id)
            queue.current = None

    async def _carry(self, life: OrderLife) -> None:
        if life.is_ended:
            return
        if life.was_sent:
            await self._watch.settle(life)
        elif life.order.side is Side.BUY:
            await self._buy(life)
        else:
            with spending(Purpose.EXIT):  # also its price, balance and the stop that stands aside
                await self._sell(life)
        if life.order.side is Side.SELL:
            self._protection.reconsider(life.symbol)

    # ---- purchases ----------------------------------------------------------------------------------------------
    async def _buy(self, life: OrderLife) -> None:
        if late := self._too_late(life):
            return self._leave(life, late)
        prepared = await self._prepare(life, life.order.quantity)
        if prepared is None:
            return None
        request, quote = prepared
        if late := self._too_late(life):  # asking for the price took time
            return self._leave(life, late)
        await self._sender.send(life, request, quote)
        if request.kind is RequestKind.POST_ONLY and not life.is_ended:
            await self._let_rest(life)
        await self._watch.settle(life)
        return None

    def _too_late(self, life: OrderLife) -> str:
        """Return why a purchase must not leave now, "" when it may."""
        age_s = (self._clock.now_ms() - life.order.decided_ms) / 1_000
        if life.withdrawn:
            return f"withdrawn before it was sent: {life.withdrawn}"
        if self._is_stopping():
            return "not sent: sacd is stopping"
        self._path.mind_clock()  # the machine may have slept since the last heartbeat
        if not self._path.is_open:
            return "not sent: the way to the venue is closed"
        if age_s > self._settings.decision_age_s:
            return f"too old to be sent: decided {age_s:.0f} s ago, {self._settings.decision_age_s:.0f} s allowed"
        return ""

    async def _let_rest(self, life: OrderLife) -> None:
        """Give a post-only entry its time, then withdraw it."""
        self._dead_man.watch(life.client_id)
        try:
            until_s = self._clock.monotonic_s() + self._settings.maker_wait_s
            pause_s = self._settings.lookup_every_s
            while not (life.withdrawn or life.is_ended) and (left_s := until_s - self._clock.monotonic_s()) > 0.0:
                life.nudge.clear()
                await happens_within(self._clock, life.nudge, min(left_s, pause_s))
                await self._watch.look(life)
            life.withdrawn = life.withdrawn or f"not filled within {self._settings.maker_wait_s:.0f} s"
            await self._watch.settle(life)
        finally:
            self._dead_man.forget(life.client_id)

    # ---- sales --------------------------------------------------------------------------------------------------
    async def _sell(self, life: OrderLife) -> None:
        if life.withdrawn or self._is_stopping():
            return self._leave(life, life.withdrawn or "not sent: sacd is stopping")
        # A look at the price first: the stop does not make way for a sale that cannot be.
        if await self._prepare(life, life.order.quantity) is None:
            return None
        async with self._protection.aside(life.symbol):
            quantity = await self._sellable(life.order)
            if life.withdrawn or quantity <= 0.0:
                return self._leave(life, life.withdrawn or "nothing sellable is left")
            prepared = await self._prepare(life, quantity)
            if prepared is None:
                return None
            if life.withdrawn:  # asking for the price took time
                return self._leave(life, life.withdrawn)
            await self._sender.send(life, *prepared)
            await self._watch.settle(life)
        return None

    async def _sellable(self, order: Order) -> float:
        """Return how much of an order is still there to be sold, on the lot grid."""
        instrument = self._markets.market(order.symbol).instrument
        quantity = min(order.quantity, max(self._books.held(order.symbol), 0.0))
        try:
            balance = (await self._path.of(self._venue.balances())).get(instrument.base, Balance(free=0.0, used=0.0))
        except (TransientError, VenueRefused):
            return whole_lots(instrument, quantity)
        if whole_lots(instrument, balance.total) <= 0.0:
            return 0.0
        return whole_lots(instrument, within_balance(quantity, balance.free))

    # ---- both ---------------------------------------------------------------------------------------------------
    async def _prepare(self, life: OrderLife, quantity: float) -> tuple[Request, Quote] | None:
        """Return the request and the prices it was made from; None when it does not leave, which is then told."""
        try:
            quote = await self._path.of(self._venue.quote(life.symbol))
        except (TransientError, VenueRefused) as error:
            if not life.order.reduces:
                self._leave(life, f"not sent: no price from the venue: {error}")
                return None
            mark = self._books.mark(life.symbol) or None
            quote = Quote(bid=None, ask=None, last=mark)
        market = self._markets.market(life.symbol)
        request = request_for(life.order, quantity, quote, market, self._settings, funds=self._books.cash())
        if isinstance(request, Unfit):
            self._leave(life, request.detail)
            return None
        return request, quote

    def _leave(self, life: OrderLife, detail: str) -> None:
        self._watch.tell(life.deny(self._clock.now_ms(), detail))
