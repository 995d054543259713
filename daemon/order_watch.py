"""Asks the venue about orders until it is certain what became of them, and tells it. Never sends one.

An answer counts; silence, errors and one "unknown order" do not. Streams and REST feed the same fold, in any order.
"""

import asyncio
from collections.abc import Iterable

from daemon import crash_points
from daemon.errors import TransientError, UnknownOutcome
from daemon.fill_worth import FillWorth
from daemon.order_life import MADE_UP, OrderLife
from daemon.order_tools import Tools
from daemon.ports import Clock
from daemon.venue import Balance, NotSent, VenueOrder, VenueRefused, VenueTrade
from strategy.order import Fill, OrderEvent, OrderStatus

LONGEST_PAUSE_S = 10.0
_GROWTH = 1.5
_TRADES_LATE_S = 30.0
"""Trades of a finished order that the venue has not shown by then are counted as one at the order's average price."""
_FORGOTTEN_AFTER = 10.0
"""An order that was taken, but is not shown any more, has ended after this many times `unknown_after_s`."""
_MARGIN_MS = 60_000
"""How far before an order its trades are looked for: the clocks differ."""
_URGENT_S, _URGENT_PAUSE_S = 0.75, 0.4
"""A stop that stood in the books before this process began left seconds ago if at all: the venue shows it by now."""
_KEPT = 1_000


class OrderWatch:
    """Every order this process knows, and the questions about them."""

    def __init__(
        self,
        tools: Tools,
    ) -> None:
        self._venue = tools.venue
        self._books = tools.books
        self._settings = tools.settings
        self._clock = tools.clock
        self._generator = tools.generator
        self._outbox = tools.outbox
        self._path = tools.path
        self._markets = tools.markets
        self._worth = FillWorth(lambda pair: tools.path.of(tools.venue.quote(pair)), tools.clock)
        self._lives: dict[str, OrderLife] = {}
        self._by_venue_id: dict[tuple[str, str], OrderLife] = {}
        self._strangers: dict[tuple[str, str], int] = {}
        self.active_s = tools.clock.monotonic_s()

    # ---- who is watched -----------------------------------------------------------------------------------------
    def life(self, status: OrderStatus, nudge: asyncio.Event | None = None) -> OrderLife:
        """Return the life of an order, begun from what the books say when it is new here."""
        client_id = status.order.client_id
        if client_id not in self._lives:
            made = OrderLife(
                status, lot=self._markets.lot(status.order.symbol), fills=self._books.fill_ids(client_id), nudge=nudge
            )
            self._lives[client_id] = made
            self._forget()
        return self._lives[client_id]

    def find(self, order: VenueOrder) -> OrderLife | None:
        """Return whose order this is, None for somebody else's."""
        return self._find_life(order.symbol, order.client_id, order.venue_id)

    def open_lives(self) -> list[OrderLife]:
        """Return all orders that have not ended, oldest first."""
        return [life for life in self._lives.values() if not life.is_ended]

    def tell(self, reports: Iterable[object]) -> None:
        """Put reports into the news."""
        told = list(reports)
        if told:
            self.active_s = self._clock.monotonic_s()
            self._outbox.put(*told)  # type: ignore[arg-type]

    def _find_life(self, symbol: str, client_id: str, venue_id: str) -> OrderLife | None:
        """Return the order meant, also one that ended before this process began; None for somebody else's."""
        found = self._lives.get(client_id) or self._by_venue_id.get((symbol, venue_id))
        if found is None and client_id and (status := self._books.known(client_id)) is not None:
            found = self.life(status)
        return found

    def _forget(self) -> None:
        """Keep the memory bounded: the oldest orders that have ended go first."""
        if len(self._lives) <= _KEPT:
            return
        gone = next((life for life in self._lives.values() if life.is_ended), None)
        if gone is not None:
            del self._lives[gone.client_id]
            self._by_venue_id.pop((gone.symbol, gone.venue_id), None)

    # ---- what the venue says ------------------------------------------------------------------------------------
    def on_order(self, order: VenueOrder) -> OrderLife | None:
        """Take in an order as the venue shows it; returns whose it is, None for somebody else's."""
        life = self._find_life(order.symbol, order.client_id, order.venue_id)
        if life is not None:
            self.show(life, order)
        return life

    def show(self, life: OrderLife, order: VenueOrder) -> None:
        """Take in an order of ours as the venue shows it."""
        self._by_venue_id[order.symbol, order.venue_id] = life
        self.tell(life.show(order))

    async def on_trade(self, trade: VenueTrade) -> OrderLife | None:
        """Take in a trade; returns whose it is, None for somebody else's."""
        life = self._find_life(trade.symbol, trade.client_id, trade.venue_id)
        if life is None or life.knows(trade.trade_id):
            return life
        fill, words = await self._worth.fill(trade, life.order)
        crash_points.at("fill_received")
        self.tell(life.take(fill, words))
        return life

    # ---- asking -------------------------------------------------------------------------------------------------
    async def settle(self, life: OrderLife) -> None:
        """Ask until the order has ended; one that is withdrawn and still rests is cancelled on the way."""
        pause_s = self.first_pause_s(life)
        while not life.is_ended:
            await self.look(life)
            if life.withdrawn and life.is_resting:
                await self._ask_cancel(life)
                await self.look(life)
            life.nudge.clear()  # looking itself is no reason to look again
            if not life.is_ended:
                pause_s = await self.pause(life, pause_s)

    def first_pause_s(self, life: OrderLife) -> float:
        """Return how long to wait before the second question about an order."""
        return _URGENT_PAUSE_S if _is_urgent(life) else self._settings.lookup_every_s

    async def pause(self, life: OrderLife, pause_s: float) -> float:
        """Wait, or until something happens to the order; returns how long to wait the next time."""
        jitter = 0.9 + 0.2 * self._generator.random()
        if await happens_within(self._clock, life.nudge, pause_s * jitter):
            return self.first_pause_s(life)
        return min(pause_s * _GROWTH, LONGEST_PAUSE_S)

    async def look(self, life: OrderLife) -> None:
        """Ask once, and take in the answer. No answer proves nothing."""
        if life.is_ended:
            return
        try:
            found = (
                None
                if life.has_end
                else await self._path.of(self._venue.find(life.symbol, life.client_id, life.venue_id))
            )
            if found is not None:
                life.denials, life.since_s = 0, None
                self.show(life, found)
            if found is None or life.missing:
                await self._ask_trades(life)
        except (TransientError, VenueRefused):
            return
        if life.missing:
            self._make_up(life)
        elif found is None and not life.has_end and not life.is_ended:
            await self._deny(life)

    async def _ask_trades(self, life: OrderLife) -> None:
        since_ms = min(life.order.decided_ms, self._clock.now_ms()) - _MARGIN_MS
        strange = 0.0
        for trade in await self._path.of(self._venue.trades(life.symbol, since_ms)):
            owner = await self.on_trade(trade)
            if owner is None and not life.is_shown and trade.side is life.order.side:
                await self._claim(trade, life)
            if self._find_life(trade.symbol, trade.client_id, trade.venue_id) is None:
                strange += trade.quantity * trade.side.sign
        life.strange = strange

    async def _claim(self, trade: VenueTrade, life: OrderLife) -> None:
        """Find out whether a trade of an order we do not know belongs to one whose answer was lost.

        An adapter may have no usable answer when it finds somebody else's order instead: a few of those are one.
        """
        key = trade.symbol, trade.venue_id
        if self._strangers.get(key, 0) >= self._settings.lookups:
            return
        self._strangers[key] = self._strangers.get(key, 0) + 1
        found = await self._path.of(self._venue.find(trade.symbol, life.client_id, trade.venue_id))
        if found is not None and found.client_id == life.client_id:
            self.show(life, found)
            await self.on_trade(trade)

    async def _deny(self, life: OrderLife) -> None:
        """Count one more time that the venue does not know the order, and end it once that is proof."""
        now_s, now_ms = self._clock.monotonic_s(), self._clock.now_ms()
        life.since_s = now_s if life.since_s is None else life.since_s
        life.denials += 1
        waited_s = now_s - life.since_s
        if life.denials < self._settings.lookups or waited_s < self._denial_s(life):
            return
        if waited_s < self._denial_s(life) * _FORGOTTEN_AFTER and await self._is_belied(life):
            return
        words = f"the venue denied it {life.denials} times in {waited_s:.1f} s"
        if life.is_shown:
            self.tell([life.report(OrderEvent.EXPIRED, now_ms, words)])
        else:
            self.tell(life.deny(now_ms, words))

    async def _is_belied(self, life: OrderLife) -> bool:
        """Tell whether the balance shows what the venue denies: it has moved as this order would have moved it.

        A move that somebody else's trades explain shows nothing. No answer proves nothing, so that the question stays
        open. Stops are not waited for: see `_denial_s`.
        """
        if life.is_stop or life.is_shown:
            return False
        instrument = self._markets.market(life.symbol).instrument
        try:
            balances = await self._path.of(self._venue.balances())
        except (TransientError, VenueRefused):
            return True
        there = balances.get(instrument.base, Balance(free=0.0, used=0.0)).total
        known = self._books.held(life.symbol) + (self._books.foreign(instrument.base) or 0.0)
        moved = (there - known - life.strange) * life.order.side.sign
        return instrument.lot / 2.0 < moved <= life.order.quantity + instrument.lot / 2.0

    def _denial_s(self, life: OrderLife) -> float:
        """Return how long the venue has to deny an order.

        Without its stop a position is naked, and two of them are found and put right: stops are given less time.
        """
        whole_s = self._settings.unknown_after_s
        if _is_urgent(life):
            return min(_URGENT_S, whole_s)
        if life.is_stop:
            return whole_s if life.is_shown else whole_s / 2.0
        return whole_s * (_FORGOTTEN_AFTER if life.is_shown else 1.0)

    def _make_up(self, life: OrderLife) -> None:
        """Count trades that the venue owes us too long as one, so that the books hold what the venue holds."""
        now_s = self._clock.monotonic_s()
        life.missing_since_s = now_s if life.missing_since_s is None else life.missing_since_s
        if not life.has_end or now_s - life.missing_since_s < _TRADES_LATE_S:
            return
        market = self._markets.market(life.symbol)
        total = life.status.filled + life.missing
        fill = Fill(
            fill_id=f"{MADE_UP}{life.client_id}-{total:.12g}",
            client_id=life.client_id,
            symbol=life.symbol,
            side=life.order.side,
            quantity=life.missing,
            price=life.average,
            fee=life.missing * life.average * (market.taker or 0.0),
            at_ms=self._clock.now_ms(),
            reference_price=life.order.reference_price,
        )
        self.tell(life.take(fill))

    # ---- cancelling ---------------------------------------------------------------------------------------------
    async def withdraw(self, life: OrderLife, reason: str) -> None:
        """Cancel an order and return once it has ended, whichever way."""
        life.withdrawn = life.withdrawn or reason
        life.nudge.set()
        await self.settle(life)

    async def _ask_cancel(self, life: OrderLife) -> None:
        try:
            await self._path.of(self._venue.cancel(life.symbol, life.client_id, life.venue_id))
        except (VenueRefused, NotSent, UnknownOutcome):
            return  # whether it is gone, only looking tells
        crash_points.at("replied")

    async def cancel_stray(self, order: VenueOrder) -> None:
        """Cancel an order of ours that should not rest; the next look at open orders tells whether it is gone."""
        try:
            await self._path.of(self._venue.cancel(order.symbol, order.client_id, order.venue_id))
        except (VenueRefused, NotSent, UnknownOutcome):
            return

    async def trades_since(self, symbol: str, since_ms: int) -> None:
        """Take in all trades since then."""
        for trade in await self._path.of(self._venue.trades(symbol, since_ms)):
            await self.on_trade(trade)


def _is_urgent(life: OrderLife) -> bool:
    return life.is_stop and life.is_restored and not life.is_shown


async def happens_within(clock: Clock, event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event at most so long; tells whether it came."""
    if event.is_set():
        return True
    waits = asyncio.ensure_future(event.wait()), asyncio.ensure_future(clock.sleep_s(seconds))
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
    return event.is_set()
