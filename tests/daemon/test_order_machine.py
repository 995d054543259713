"""Orders, fills, cancels, lost answers, silence and restarts in any order: what must hold whatever happens.

I1: a client id names at most one order at the venue. Nothing is over-filled. I3: no purchase ever takes the position
above its cap. I7: repeats change nothing. At rest books and venue agree, and one stop protects what can be sold.
"""

import asyncio
import copy
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from daemon import crash_points
from daemon.live_settings import EntryStyle, OrderStyle
from daemon.ports import External
from daemon.reconcile import Reconciler
from daemon.venue import RefusalKind, VenueState
from strategy.order import Side
from tests.fakes.live import LEAST, STOP_AT, Desk, instrument, make_desk, without
from tests.fakes.trading import BTC
from tests.fakes.venue import FULL, Fault

CAP = 600.0
LOST = st.sampled_from([Fault.DROP_REQUEST, Fault.DROP_REPLY, Fault.NOT_SENT])


class OrderMachine(RuleBasedStateMachine):
    """One symbol, one account, an engine that buys and sells as it likes."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.desk: Desk

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    @initialize(
        style=st.sampled_from(OrderStyle),
        entry=st.sampled_from(EntryStyle),
        fee=st.sampled_from(["quote", ""]),
        binds=st.booleans(),
        has_market_stop=st.booleans(),
        has_stream=st.booleans(),
    )
    def begin(self, *, style: Any, entry: Any, fee: str, binds: bool, has_market_stop: bool, has_stream: bool) -> None:
        able = without(FULL, stop_binds_funds=binds, has_market_stop=has_market_stop, has_user_stream=has_stream)
        self.desk = make_desk(
            abilities=able,
            venue={"fee_coin": fee},
            order=style,
            entry=entry,
            maker_wait_s=10.0,
            max_position_value=CAP,
            max_order_value=CAP,
            reconcile=Reconciler,
        )
        self.run(self.desk.up(2.0))

    # ---- what we do ---------------------------------------------------------------------------------------------
    @precondition(lambda self: self.desk.is_up)
    @rule(lots=st.sampled_from([100, 1_234, 4_000]))
    def buy(self, lots: int) -> None:
        self.run(self.desk.buy(round(lots * 0.001, 3)))

    @precondition(lambda self: self.desk.is_up)
    @rule(lots=st.integers(50, 8_000))
    def sell(self, lots: int) -> None:
        self.run(self.desk.sell(round(lots * 0.001, 3)))

    @precondition(lambda self: self.desk.is_up)
    @rule()
    def cancel(self) -> None:
        for status in self.desk.books.orders():
            if status.order.side is Side.BUY:
                self.run(self.desk.cancel(status.order))

    @rule(seconds=st.sampled_from([0.0, 0.1, 1.0, 5.0, 40.0]))
    def wait(self, seconds: float) -> None:
        self.run(self.desk.clock.advance(seconds))

    @rule(seconds=st.sampled_from([0.0, 0.3, 3.0]))
    def restart(self, seconds: float) -> None:
        self.run(self.desk.kill())
        self.run(self.desk.up(seconds))

    @rule(point=st.sampled_from(["sent", "replied", "fill_received", "filled_no_stop", "stop_placed"]))
    def die_at(self, point: str) -> None:
        self.desk.die_at(point)

    # ---- what the venue does ------------------------------------------------------------------------------------
    @rule(fault=LOST, hidden=st.integers(0, 2))
    def lose_a_request(self, fault: Fault, hidden: int) -> None:
        self.desk.venue.fail("create", fault)
        self.desk.venue.hide_next = hidden

    @rule(fault=st.sampled_from([Fault.DROP_REQUEST, Fault.DROP_REPLY, Fault.NOT_SENT, Fault.FILL_FIRST]))
    def lose_a_cancel(self, fault: Fault) -> None:
        self.desk.venue.fail("cancel", fault)

    @rule(call=st.sampled_from(["find", "trades", "balances", "open_orders", "quote"]), times=st.integers(1, 3))
    def lose_answers(self, call: str, times: int) -> None:
        self.desk.venue.fail(call, *[Fault.UNREACHABLE] * times)

    @rule(kind=st.sampled_from([RefusalKind.FILTER, RefusalKind.FUNDS, RefusalKind.OTHER]))
    def refuse(self, kind: RefusalKind) -> None:
        self.desk.venue.fail("create", kind)

    @rule(depth=st.sampled_from([0.3, 1.0, float("inf")]))
    def thin_out(self, depth: float) -> None:
        self.desk.venue.books[BTC].depth = depth

    @rule(percent=st.sampled_from([93, 96, 99, 100, 101, 104]))
    def move(self, percent: int) -> None:
        self.desk.venue.move(BTC, float(percent), percent + 0.02)

    @rule(share=st.sampled_from([0.3, 1.0]))
    def fill_what_rests(self, share: float) -> None:
        for resting in self.desk.venue.resting(BTC, stops=False):
            self.desk.venue.fill(resting.order.client_id, max(round(resting.left * share, 3), 0.001))

    @rule(state=st.sampled_from([VenueState.CANCELLED, VenueState.EXPIRED]))
    def end_a_stop(self, state: VenueState) -> None:
        for resting in self.desk.venue.resting(BTC, stops=True):
            self.desk.venue.end(resting.order.client_id, state)

    @rule()
    def fall_silent(self) -> None:
        self.desk.venue.mute = True

    @rule(backwards=st.booleans(), times=st.integers(1, 3))
    def catch_up(self, backwards: bool, times: int) -> None:
        self.desk.venue.duplicates = times
        self.desk.venue.catch_up(backwards=backwards)
        self.run(self.desk.clock.settle())

    @rule()
    def repeat_everything(self) -> None:
        """I7."""
        self.run(self.desk.clock.settle())
        before = copy.deepcopy(self.desk.books.fills)
        known = {fill for fills in before.values() for fill in fills}
        self.desk.venue.speak(*[trade for trade in self.desk.venue.all_trades if trade.trade_id in known])
        self.run(self.desk.clock.settle())
        for client_id, fills in before.items():
            assert self.desk.books.fills[client_id].items() >= fills.items()

    @rule()
    def cut(self) -> None:
        self.desk.venue.is_reachable = False

    @rule()
    def mend(self) -> None:
        self.desk.venue.is_reachable = True

    # ---- what must hold -----------------------------------------------------------------------------------------
    @invariant()
    @precondition(lambda self: hasattr(self, "desk"))
    def holds(self) -> None:
        desk = self.desk
        if desk.is_dead:
            self.restart(0.3)
        desk.check_tasks()
        names = [resting.request.client_id for resting in desk.venue.log]
        assert len(names) == len(set(names)), "an order was sent twice"
        for client_id, fills in desk.books.fills.items():
            status = desk.books.statuses[client_id]
            assert sum(fills.values()) <= status.order.quantity + 1e-9, "over-filled"
        assert desk.books.holdings[BTC] >= -1e-9
        assert desk.venue.dearest <= CAP * 1.0001, "above the cap"
        assert desk.of(External) == [], "something was miscounted"

    def teardown(self) -> None:
        if hasattr(self, "desk"):
            try:
                self.run(self._come_to_rest())
                self.holds()
                self._check_rest()
            finally:
                crash_points.hook = None
                self.run(self.desk.down())
                self.loop.close()

    async def _come_to_rest(self) -> None:
        venue = self.desk.venue
        crash_points.hook = None
        venue.faults.clear()
        venue.is_reachable, venue.hide_next, venue.books[BTC].depth = True, 0, float("inf")
        for resting in venue.log:
            resting.hidden = 0
        venue.catch_up()
        if not self.desk.is_up:
            await self.desk.kill()
            await self.desk.up()
        await self.desk.clock.advance(240.0)
        # What a candle does: an exit that failed is decided again, a stop that is passed is sold.
        if venue.books[BTC].bid <= 95.0:
            await self.desk.sell()
            await self.desk.clock.advance(120.0)

    def _check_rest(self) -> None:
        desk, held = self.desk, self.desk.books.holdings[BTC]
        assert desk.starting is not None
        assert desk.starting.done(), "it never became ready"
        assert [s for s in desk.books.orders() if s.order.stop_price is None] == []
        assert held == pytest.approx(desk.venue.holds["BTC"], abs=1e-9)
        assert desk.books.money == pytest.approx(desk.venue.holds["USDT"], abs=1e-6)
        lots = instrument().floor_quantity(max(held, 0.0))
        is_sellable = lots * (100.0 * STOP_AT) * (1.0 - desk.settings.collar) >= LEAST
        assert len(desk.stops_at_venue()) == is_sellable, f"{desk.stops_at_venue()} protect {held}"
        assert [quantity for quantity, _ in desk.stops_at_venue()] == [lots] * is_sellable
        assert self.run(desk.reconcile.again()) == []


OrderMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestOrderMachine = OrderMachine.TestCase
