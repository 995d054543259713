"""News in any order: whatever a venue tells, and when, the account is what its trades make it, and the journal knows.

Invariants by their numbers in the issue: I3 limits hold with what is in flight, I5 journal and memory agree, I7 nothing
counts twice, I8 money is conserved.
"""

import asyncio
from dataclasses import dataclass, field
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.ports import External, OrderPath, StopLost
from strategy.order import Order, OrderEvent, OrderReport, Side
from strategy.trader import Trader
from tests.daemon.engines import BUY, HOLD, SELL, LiveRig, filled, make_live_rig, report
from tests.fakes.trading import BTC, ETH

MAX_POSITION = 0.5
VOTES = (BUY, HOLD, SELL, (1.0, 0.3, 1.0), (-1.0, 0.4, 1.0))
STEPS = ("candle", "candle", "tell", "tell", "tell", "trade", "again", "money", "path", "lost", "ask")
LOT = 0.0001


def _exact(value: float) -> Decimal:
    return Decimal(repr(value))


# ---- two purchases, told in any order ---------------------------------------------------------------------------
@st.composite
def tellings(draw: st.DrawFn) -> list[list[tuple[int, str, int]]]:
    """Two shuffles of the same news about two orders: (order, what, part), some of it twice."""
    news = [(order, what, 0) for order in (0, 1) for what in ("sent", "accepted", "end")]
    news += [(order, "fill", part) for order in (0, 1) for part in range(3)]
    twice = draw(st.lists(st.sampled_from([n for n in news if n[1] != "sent"]), max_size=6))
    orders = [draw(st.permutations([*news, *twice])) for _ in range(2)]
    # An order is noted as sent before anything about it can be told.
    return [sorted(told, key=lambda one: one[1] != "sent") for told in orders]


@settings(max_examples=60, deadline=None)
@given(tellings(), st.lists(st.integers(1, 8), min_size=2, max_size=2))
def test_any_order_of_the_same_news_leaves_the_same_account(
    both: list[list[tuple[int, str, int]]], sizes: list[int]
) -> None:
    rigs = [asyncio.run(_told(telling, group)) for telling, group in zip(both, sizes, strict=True)]
    for rig in rigs:
        portfolio, memory = rig.engine.trader.portfolio, rig.engine.memory
        # 40 of each at 100, in three trades at 100, 101 and 102 of a tenth, two tenths and seven tenths.
        for symbol in (BTC, ETH):
            assert portfolio.positions[symbol].quantity == 20.0
            assert abs(portfolio.positions[symbol].average_entry - 101.6) < 1e-9
            stop = rig.stop(symbol)
            assert stop is not None
            assert stop.quantity == 20.0
        assert abs(portfolio.cash - (10_000.0 - 2 * 20.0 * 101.6 - 6 * 0.25)) < 1e-9
        assert memory.in_flight() == frozenset()
        assert {len(set(ids)) == len(ids) == 3 for ids in memory.fill_ids.values() if ids} == {True}
        assert len(rig.of_kind("fill")) == 6
        rig.check_memory()


async def _told(telling: list[tuple[int, str, int]], group: int) -> LiveRig:
    rig = make_live_rig((BTC, ETH), stop_loss=0.5)
    await rig.start()
    rig.voice.say((1.0, 0.8, 1.0))
    await rig.candle()
    orders = list(rig.orders)
    news = [_news(orders[order], what, part) for order, what, part in telling]
    for first in range(0, len(news), group):
        await rig.tell(*news[first : first + group])
    return rig


def _news(order: Order, what: str, part: int) -> OrderReport:
    if what == "fill":
        return filled(order, (2.0, 4.0, 14.0)[part], 100.0 + part, fee=0.25, fill_id=f"{order.client_id}-{part}")
    return report(order, {"sent": OrderEvent.SENT, "accepted": OrderEvent.ACCEPTED, "end": OrderEvent.CANCELLED}[what])


# ---- a whole life -----------------------------------------------------------------------------------------------
@dataclass(kw_only=True)
class Life:
    """A rig, the venue's side of its orders, and a ledger in decimals."""

    rig: LiveRig
    cash: Decimal = Decimal(10_000)
    held: dict[str, Decimal] = field(default_factory=lambda: {BTC: Decimal(0), ETH: Decimal(0)})
    left: dict[str, Decimal] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    fills: list[OrderReport] = field(default_factory=list)
    checked: int = 0

    @property
    def trader(self) -> Trader:
        return self.rig.engine.trader

    def orders(self) -> list[Order]:
        stops = [stop for _, stop in self.rig.broker.sent("protect") if stop is not None]
        return list({order.client_id: order for order in [*self.rig.orders, *stops]}.values())

    async def step(self, draw: st.DataObject) -> None:
        await getattr(self, f"_{draw.draw(st.sampled_from(STEPS))}")(draw)
        self.check()

    async def _candle(self, draw: st.DataObject) -> None:
        self.rig.voice.say(draw.draw(st.sampled_from(VOTES)))
        await self.rig.candle(draw.draw(st.sampled_from([80.0, 96.0, 100.0, 104.0, 130.0])))

    async def _trade(self, draw: st.DataObject) -> None:
        await self.rig.clock.advance(draw.draw(st.sampled_from([0.0, 6.0])))
        symbol = draw.draw(st.sampled_from([BTC, ETH]))
        await self.rig.trade(draw.draw(st.sampled_from([60.0, 95.0, 100.0, 120.0])), symbol)

    async def _tell(self, draw: st.DataObject) -> None:
        """Let the venue move one of our orders, stops too: accept, fill in part or whole, end."""
        known = [order for order in self.orders() if self.rig.engine.memory.known(order.client_id) is not None]
        if not known:
            return
        order = draw.draw(st.sampled_from(known))
        event = draw.draw(st.sampled_from([OrderEvent.ACCEPTED, None, OrderEvent.CANCELLED, OrderEvent.EXPIRED]))
        if event is None:
            await self._fill(order, draw)
            return
        if event is not OrderEvent.ACCEPTED:
            self.ended.add(order.client_id)
        await self.rig.tell(report(order, event))

    async def _fill(self, order: Order, draw: st.DataObject) -> None:
        """Fill what the order still may, also late; a sale no more than the account has."""
        left = self.left.setdefault(order.client_id, _exact(order.quantity))
        most = left if order.side is Side.BUY else min(left, self.held[order.symbol])
        lots = int(most / _exact(LOT))
        if lots < 1:
            return
        part = draw.draw(st.sampled_from([lots, max(1, lots // 3), 1])) * _exact(LOT)
        price, fee = draw.draw(st.sampled_from([99.5, 100.0, 100.5])), draw.draw(st.sampled_from([0.0, 0.125]))
        fill_id = f"t-{len(self.fills)}"
        whole = part == left and order.client_id not in self.ended
        done = filled(order, float(part), price, fee=fee, fill_id=fill_id, event=_event(whole=whole))
        if whole:
            self.ended.add(order.client_id)
        self.left[order.client_id] = left - part
        self.held[order.symbol] += part * int(order.side.sign)
        self.cash -= part * _exact(price) * int(order.side.sign) + _exact(fee)
        self.fills.append(done)
        await self.rig.tell(done)

    async def _again(self, draw: st.DataObject) -> None:
        """Tell a fill once more, as long as its order is remembered."""
        known = [r for r in self.fills if self.rig.engine.memory.known(r.client_id) is not None]
        if known:
            old = draw.draw(st.sampled_from(known))
            before = self.trader.state()["portfolio"]
            await self.rig.tell(report_again(old))
            assert self.trader.state()["portfolio"] == before

    async def _money(self, draw: st.DataObject) -> None:
        symbol = draw.draw(st.sampled_from(["", BTC]))
        amount = draw.draw(st.sampled_from([0.5, 2.0, -0.5]))
        if symbol and amount < 0.0 and self.held[symbol] < _exact(-amount):
            return
        await self.rig.tell(
            External(
                external_id=f"e-{len(self.rig.journal.entries)}",
                asset="BTC" if symbol else "USDT",
                symbol=symbol,
                ours=amount,
                foreign=draw.draw(st.sampled_from([0.0, 1.5])),
                price=100.0 if symbol else 1.0,
                halts=draw.draw(st.booleans()),
                at_ms=1,
                detail="test",
            )
        )
        if symbol:
            self.held[symbol] += _exact(amount)
        else:
            self.cash += _exact(amount)

    async def _path(self, draw: st.DataObject) -> None:
        await self.rig.tell(OrderPath(is_open=draw.draw(st.booleans()), needs_person=draw.draw(st.booleans())))

    async def _lost(self, draw: st.DataObject) -> None:
        symbol = draw.draw(st.sampled_from([BTC, ETH]))
        await self.rig.tell(StopLost(symbol=symbol, detail="test", is_last=draw.draw(st.booleans())))

    async def _ask(self, draw: st.DataObject) -> None:
        await self.rig.engine.command(draw.draw(st.sampled_from(["resume", "resume", "flatten", "pause"])), "test")

    # ---- what must hold after every step ----
    def check(self) -> None:
        portfolio = self.trader.portfolio
        assert abs(_exact(portfolio.cash) - self.cash) < Decimal("1e-6")  # I8
        for symbol, held in self.held.items():
            assert _exact(portfolio.positions[symbol].quantity) == held
            stop = self.trader.stops[symbol]
            assert (stop is None) == (held == 0)
            assert stop is None or _exact(stop.quantity) == held
        assert self.rig.broker.unwritten == []
        self._check_new_orders()

    def _check_new_orders(self) -> None:
        """I3, as of the moment an order was sent: nothing else of its symbol is in flight, and no limit is passed."""
        portfolio = self.trader.portfolio
        for order in self.rig.orders[self.checked :]:
            others = [
                status.order
                for status in self.rig.engine.memory.orders.values()
                if status.order.symbol == order.symbol and status.order in self.rig.orders
            ]
            assert others == [order]
            held = portfolio.positions[order.symbol].quantity
            if order.side is Side.BUY:
                allowed = MAX_POSITION * portfolio.capital() / order.reference_price
                assert held + order.quantity <= allowed * (1.0 + 1e-9)
            else:
                assert order.quantity <= held
        self.checked = len(self.rig.orders)


def _event(*, whole: bool) -> OrderEvent:
    return OrderEvent.FILLED if whole else OrderEvent.PARTLY_FILLED


def report_again(old: OrderReport) -> OrderReport:
    """The same fill from the other source, which knows nothing of what else has happened."""
    return OrderReport(
        client_id=old.client_id,
        symbol=old.symbol,
        event=OrderEvent.PARTLY_FILLED,
        at_ms=old.at_ms + 5,
        fill=old.fill,
    )


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_in_any_life_money_is_conserved_limits_hold_and_the_journal_gives_the_same_account(data: st.DataObject) -> None:
    async def live() -> None:
        rig = make_live_rig((BTC, ETH), checkpoint_every=3, max_drawdown=0.2, daily_loss=0.9)
        await rig.start()
        life = Life(rig=rig)
        await life._candle(data)
        life.check()
        for _ in range(data.draw(st.integers(5, 30))):
            await life.step(data)
        rig.check_memory()  # I5

    asyncio.run(live())
