"""A small engine for tests of the live broker: books that fold its news, orders with ids, stops, and a kill.

It keeps the promises the real one keeps: an intent is durable before `release`, news are durable before the next group
is asked for, and one order per symbol is in flight.
"""

import asyncio
import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from daemon import crash_points
from daemon.broker_live import VenueBroker
from daemon.errors import TransientError
from daemon.live_settings import LiveSettings
from daemon.ports import BrokerNews, External, NewSteps, OrderPath, StopLost
from daemon.reconcile import Reconciler
from daemon.venue import Abilities, Market
from strategy.instrument import Instrument
from strategy.order import Order, OrderKind, OrderReport, OrderStatus, Side
from tests.fakes.clock import ManualClock
from tests.fakes.trading import BTC, ETH
from tests.fakes.venue import FULL, Book, FakeVenue

LOT, TICK, LEAST = 0.001, 0.01, 5.0
STOP_AT = 0.95


@dataclass(slots=True)
class PlainBooks:
    """`ports.Books` without a risk manager: every fill is folded once by its id."""

    money: float
    holdings: dict[str, float]
    marks: dict[str, float]
    strangers: dict[str, float] = field(default_factory=dict)
    statuses: dict[str, OrderStatus] = field(default_factory=dict)
    fills: dict[str, dict[str, float]] = field(default_factory=dict)
    stops: dict[str, Order | None] = field(default_factory=dict)
    number: int = 0

    def cash(self) -> float:
        return self.money

    def held(self, symbol: str) -> float:
        return self.holdings[symbol]

    def mark(self, symbol: str) -> float:
        return self.marks[symbol]

    def foreign(self, asset: str) -> float | None:
        return self.strangers.get(asset, 0.0)

    def orders(self) -> Sequence[OrderStatus]:
        return [status for status in self.statuses.values() if not status.is_terminal]

    def known(self, client_id: str) -> OrderStatus | None:
        return self.statuses.get(client_id)

    def fill_ids(self, client_id: str) -> frozenset[str]:
        return frozenset(self.fills.get(client_id, ()))

    def stop(self, symbol: str) -> Order | None:
        return self.stops.get(symbol)

    # ---- folding ------------------------------------------------------------------------------------------------
    def name(self) -> str:
        self.number += 1
        return f"s-t-{self.number}"

    def intend(self, order: Order) -> None:
        assert order.client_id not in self.statuses
        self.statuses[order.client_id] = OrderStatus(order=order)

    def move(self, report: OrderReport) -> None:
        status = self.statuses[report.client_id]
        fill = report.fill
        self.statuses[report.client_id] = status.after(
            report.event, None if fill is None else status.filled + fill.quantity
        )
        if fill is None:
            return
        known = self.fills.setdefault(report.client_id, {})
        assert fill.fill_id not in known, f"{fill.fill_id} was folded before"
        known[fill.fill_id] = fill.quantity
        self.holdings[fill.symbol] += fill.side.sign * fill.quantity - fill.fee_base
        self.money -= fill.side.sign * fill.notional
        if not fill.fee_base and not fill.fee_coin:
            self.money -= fill.fee
        if fill.fee_coin:
            self.strangers[fill.fee_coin] = self.strangers.get(fill.fee_coin, 0.0)

    def busy(self, symbol: str) -> bool:
        return any(s.order.symbol == symbol and s.order.kind is not OrderKind.STOP for s in self.orders())


class Killed(BaseException):
    """The process is no more."""


@dataclass(slots=True)
class Desk:
    """An engine, its broker and the venue they trade at. news: all that was told. killed: its processes so far."""

    venue: FakeVenue
    clock: ManualClock
    settings: LiveSettings
    books: PlainBooks
    broker: VenueBroker
    reconcile: Any
    reconcile_with: dict[str, Any]
    news: list[BrokerNews] = field(default_factory=list)
    durable: PlainBooks | None = None
    tasks: list[asyncio.Task[Any]] = field(default_factory=list)
    starting: asyncio.Task[None] | None = None
    is_dead: bool = False

    # ---- a process ----------------------------------------------------------------------------------------------
    async def up(self, seconds: float = 5.0) -> None:
        """Start, as the program does: news first, then `start`, then `run`."""
        self.durable = copy.deepcopy(self.books)
        self.tasks = [asyncio.ensure_future(self._follow())]
        self.starting = asyncio.ensure_future(self._begin())
        self.tasks.append(self.starting)
        await self.clock.advance(seconds)

    async def _begin(self) -> None:
        await self.broker.start()
        run = asyncio.ensure_future(self.broker.run())
        self.tasks.append(run)

    def die_at(self, point: str) -> None:
        """End the process the next time it comes to that point: from there on nothing is written, nothing leaves."""

        def hook(name: str) -> None:
            if name == point:
                crash_points.hook = None
                self.is_dead, self.venue.is_severed = True, True
                raise Killed(point)

        crash_points.hook = hook

    async def kill(self) -> None:
        """End everything at once; what was not durable is forgotten."""
        assert self.durable is not None
        for task in self.tasks:
            task.cancel()
        await asyncio.wait(self.tasks)
        await self.broker._crew.dismiss()
        crash_points.hook = None
        self.is_dead, self.venue.is_severed = False, False
        self.books = copy.deepcopy(self.durable)
        self.reconcile = type(self.reconcile)(venue=self.venue, books=self.books, **self.reconcile_with)
        self.broker = make_broker(self.venue, self.books, self.settings, self.clock, self.reconcile)

    async def down(self) -> None:
        await self.broker.close()
        for task in self.tasks:
            if not task.done():
                task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    @property
    def is_up(self) -> bool:
        """False when the last start found no venue: the program has ended, and is started again later."""
        starting = self.starting
        return not (starting is not None and starting.done() and isinstance(starting.exception(), TransientError))

    def check_tasks(self) -> None:
        for task in self.tasks:
            if task.done() and not task.cancelled() and task.exception() is not None and self.is_up:
                if isinstance(task.exception(), Killed):
                    continue
                raise task.exception()  # type: ignore[misc]

    # ---- news ---------------------------------------------------------------------------------------------------
    async def _follow(self) -> None:
        async for group in self.broker.news():
            for piece in group:
                self.news.append(piece)
                await self._apply(piece)
            await self._commit()
            self.broker.release()

    async def _apply(self, piece: BrokerNews) -> None:
        match piece:
            case OrderReport():
                self.books.move(piece)
                if piece.fill is not None:
                    self._renew_stop(piece.symbol)
            case StopLost():
                await self._on_lost(piece)
            case External():
                self._take_external(piece)
            case NewSteps() | OrderPath():
                pass

    async def _on_lost(self, lost: StopLost) -> None:
        if lost.is_last and not self.books.busy(lost.symbol):
            await self._intend_sale(lost.symbol, self.books.holdings[lost.symbol])
        elif not lost.is_last:
            self.books.stops[lost.symbol] = None
            self._renew_stop(lost.symbol)

    def _take_external(self, external: External) -> None:
        if external.symbol:
            self.books.holdings[external.symbol] += external.ours
            self._renew_stop(external.symbol)
        else:
            self.books.money += external.ours
        strangers = self.books.strangers
        strangers[external.asset] = strangers.get(external.asset, 0.0) + external.foreign

    async def _commit(self) -> None:
        await asyncio.sleep(0)
        if self.is_dead:
            raise asyncio.CancelledError
        self.durable = copy.deepcopy(self.books)

    # ---- stops --------------------------------------------------------------------------------------------------
    def _renew_stop(self, symbol: str) -> None:
        quantity = instrument(symbol).floor_quantity(max(self.books.holdings[symbol], 0.0))
        current = self.books.stops.get(symbol)
        if quantity <= 0.0:
            self.books.stops[symbol] = None
        elif current is None or current.quantity != quantity:
            price = instrument(symbol).floor_price(self.books.marks[symbol] * STOP_AT)
            self.books.stops[symbol] = stop = self.order(symbol, Side.SELL, quantity, stop=price)
            self.books.intend(stop)
        self.broker.protect(symbol, self.books.stops[symbol])

    # ---- what a decision does -----------------------------------------------------------------------------------
    def order(self, symbol: str, side: Side, quantity: float, *, stop: float | None = None) -> Order:
        return Order(
            client_id=self.books.name(),
            symbol=symbol,
            side=side,
            quantity=quantity,
            reference_price=self.books.marks[symbol],
            decided_ms=self.clock.now_ms(),
            reason="voted",
            reduces=side is Side.SELL,
            kind=OrderKind.MARKET if stop is None else OrderKind.STOP,
            stop_price=stop,
        )

    async def _intend_sale(self, symbol: str, quantity: float) -> Order | None:
        quantity = instrument(symbol).floor_quantity(max(quantity, 0.0))
        if quantity <= 0.0:
            return None
        order = self.order(symbol, Side.SELL, quantity)
        self.books.intend(order)
        await self.broker.submit(order)
        return order

    async def buy(self, quantity: float = 1.0, symbol: str = BTC, *, release: bool = True) -> Order | None:
        """Decide to buy; None while an order of the symbol is in flight."""
        if self.books.busy(symbol):
            return None
        order = self.order(symbol, Side.BUY, quantity)
        self.books.intend(order)
        await self._commit()
        await self.broker.submit(order)
        if release:
            self.broker.release()
        await self.clock.settle()
        return order

    async def sell(self, quantity: float | None = None, symbol: str = BTC) -> Order | None:
        """Decide to sell; None while an order of the symbol is in flight, or nothing is held."""
        if self.books.busy(symbol):
            return None
        held = self.books.holdings[symbol]
        order = await self._intend_sale(symbol, held if quantity is None else min(held, quantity))
        await self._commit()
        self.broker.release()
        await self.clock.settle()
        return order

    async def cancel(self, order: Order, reason: str = "changed our mind") -> None:
        await self.broker.cancel(order, reason)
        self.broker.release()
        await self.clock.settle()

    # ---- what a test looks at -----------------------------------------------------------------------------------
    def reports(self, client_id: str) -> list[OrderReport]:
        return [piece for piece in self.news if isinstance(piece, OrderReport) and piece.client_id == client_id]

    def events(self, client_id: str) -> list[str]:
        return [report.event.value for report in self.reports(client_id)]

    def of(self, kind: type) -> list[Any]:
        return [piece for piece in self.news if isinstance(piece, kind)]

    def state(self, order: Order) -> str:
        return self.books.statuses[order.client_id].state.value

    def stops_at_venue(self, symbol: str = BTC) -> list[tuple[float, float | None]]:
        """Quantity and price of our protective stops that rest at the venue."""
        return [(r.order.quantity, r.order.stop_price) for r in self.venue.resting(symbol, stops=True)]


@dataclass(slots=True)
class PlainReconcile:
    """Compares totals, as the real one does; a difference is told once and belongs to somebody else."""

    venue: FakeVenue
    books: PlainBooks
    clock: ManualClock
    asked: int = 0

    async def first(self) -> list[External]:
        return await self.again()

    async def again(self) -> list[External]:
        self.asked += 1
        balances = await self.venue.balances()
        found = []
        for coin, symbol in (("USDT", ""), *((s.partition("/")[0], s) for s in self.books.holdings)):
            ours = self.books.holdings[symbol] if symbol else self.books.money
            foreign = self.books.strangers.get(coin, 0.0)
            total = balances[coin].total if coin in balances else 0.0
            if abs(total - ours - foreign) > 1e-6:
                found.append(
                    _external(coin, symbol, ours=ours, foreign=foreign, total=total, at_ms=self.clock.now_ms())
                )
        return found


def _external(coin: str, symbol: str, *, ours: float, foreign: float, total: float, at_ms: int) -> External:
    kept = min(ours, total)
    return External(
        external_id=f"x-{coin}-{ours}-{total}",
        asset=coin,
        symbol=symbol,
        ours=kept - ours,
        foreign=total - kept - foreign,
        price=1.0 if not symbol else 100.0,
        halts=True,
        at_ms=at_ms,
        detail="differs",
    )


class Half:
    """Chance that always gives the middle."""

    def random(self) -> float:
        return 0.5


def instrument(symbol: str = BTC) -> Instrument:
    return Instrument(symbol=symbol, tick=TICK, lot=LOT, min_notional=LEAST)


def settings(**changes: Any) -> LiveSettings:
    return LiveSettings(
        **{
            "symbols": (BTC, ETH),
            "instance": "t",
            "max_order_value": 5_000.0,
            "max_position_value": 8_000.0,
            **changes,
        }
    )


def make_venue(clock: ManualClock, *, abilities: Abilities = FULL, **changes: Any) -> FakeVenue:
    symbols = (BTC, ETH)
    return FakeVenue(
        clock=clock,
        markets_now={s: Market(instrument=instrument(s), maker=0.001, taker=0.001) for s in symbols},
        books={s: Book(bid=99.99, ask=100.01) for s in symbols},
        holds={"USDT": 10_000.0, "BTC": 0.0, "ETH": 0.0},
        abilities=abilities,
        **changes,
    )


def make_broker(
    venue: FakeVenue, books: PlainBooks, made: LiveSettings, clock: ManualClock, reconcile: Any
) -> VenueBroker:
    return VenueBroker(venue=venue, books=books, settings=made, clock=clock, generator=Half(), reconcile=reconcile)


def make_desk(
    *, abilities: Abilities = FULL, venue: Any = None, reconcile: type = PlainReconcile, **changes: Any
) -> Desk:
    """Return a desk that is not up yet. changes: of the settings; venue: of the venue; reconcile: plain or the real."""
    clock = ManualClock()
    exchange = make_venue(clock, abilities=abilities, **(venue or {}))
    books = PlainBooks(money=10_000.0, holdings={BTC: 0.0, ETH: 0.0}, marks={BTC: 100.0, ETH: 100.0})
    made = settings(**changes)
    reconcile_with: dict[str, Any] = {"clock": clock}
    if reconcile is Reconciler:
        reconcile_with |= {"settings": made, "initial_cash": 10_000.0}
    compares = reconcile(venue=exchange, books=books, **reconcile_with)
    return Desk(
        venue=exchange,
        clock=clock,
        settings=made,
        books=books,
        broker=make_broker(exchange, books, made, clock, compares),
        reconcile=compares,
        reconcile_with=reconcile_with,
    )


def without(abilities: Abilities = FULL, **changes: bool) -> Abilities:
    return replace(abilities, **changes)
