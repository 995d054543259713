"""The reconciler over an account and books that a test moves by hand; the clock stands still until it is told."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.errors import ConfigError, TransientError, UnknownOutcome
from daemon.live_settings import ExternalRule, LiveSettings
from daemon.ports import External
from daemon.reconcile import Reconciler
from daemon.venue import Balance, Market, Quote, RefusalKind, VenueOrder, VenueRefused, VenueState
from strategy.instrument import Instrument
from strategy.order import Order, OrderKind, OrderState, OrderStatus, Side
from tests.fakes.clock import ManualClock

BTC, ETH = "BTC/USDT", "ETH/USDT"
SYMBOLS = {"": "USDT", BTC: "BTC", ETH: "ETH"}
IGNORE, ADOPT, HALT = ExternalRule.IGNORE, ExternalRule.ADOPT, ExternalRule.HALT


@dataclass(kw_only=True)
class Account:
    """As much of a venue as reconciling reads. slow: runs while a balance is asked for, before the answer is made."""

    total: dict[str, float]
    bound: dict[str, float] = field(default_factory=dict)
    orders: list[VenueOrder] = field(default_factory=list)
    price: Quote = field(default_factory=lambda: Quote(bid=59_990.0, ask=60_010.0, last=60_000.0))
    slow: Callable[[], None] | None = None
    cancelled: list[str] = field(default_factory=list)
    on_cancel: Callable[[str], None] | None = None
    asked: int = 0
    on_orders: Callable[[], None] | None = None

    async def markets(self, *, refresh: bool = False) -> Mapping[str, Market]:
        lots = {BTC: 0.00001, ETH: 0.0001}
        return {s: Market(instrument=Instrument(symbol=s, tick=0.01, lot=lot)) for s, lot in lots.items()}

    async def balances(self) -> Mapping[str, Balance]:
        self.asked += 1
        if self.slow is not None:
            self.slow()
        return {
            coin: Balance(free=total - self.bound.get(coin, 0.0), used=self.bound.get(coin, 0.0))
            for coin, total in self.total.items()
        }

    async def open_orders(self) -> Sequence[VenueOrder]:
        if self.on_orders is not None:
            self.on_orders()
        return [order for order in self.orders if order.state is VenueState.OPEN]

    async def find(self, symbol: str, client_id: str, venue_id: str = "") -> VenueOrder | None:
        return next((order for order in self.orders if order.client_id == client_id), None)

    async def cancel(self, symbol: str, client_id: str, venue_id: str = "") -> None:
        self.cancelled.append(client_id)
        if self.on_cancel is not None:
            self.on_cancel(client_id)
        self.orders = [order for order in self.orders if order.client_id != client_id]

    async def quote(self, symbol: str) -> Quote:
        return self.price


@dataclass(kw_only=True)
class Ledger:
    """Books that take in what a reconciler says, as the engine does."""

    ours: dict[str, float]
    theirs: dict[str, float] | None = None
    marks: dict[str, float] = field(default_factory=lambda: {BTC: 60_000.0, ETH: 3_000.0})
    open: list[OrderStatus] = field(default_factory=list)

    def cash(self) -> float:
        return self.ours.get("", 0.0)

    def held(self, symbol: str) -> float:
        return self.ours.get(symbol, 0.0)

    def mark(self, symbol: str) -> float:
        return self.marks.get(symbol, 0.0)

    def foreign(self, asset: str) -> float | None:
        return None if self.theirs is None else self.theirs.get(asset, 0.0)

    def orders(self) -> Sequence[OrderStatus]:
        return self.open

    def known(self, client_id: str) -> OrderStatus | None:
        return next((status for status in self.open if status.order.client_id == client_id), None)

    def take(self, told: Sequence[External]) -> None:
        for external in told:
            self.ours[external.symbol] = self.ours.get(external.symbol, 0.0) + external.ours
            self.theirs = dict(self.theirs or {})
            self.theirs[external.asset] = self.theirs.get(external.asset, 0.0) + external.foreign


@dataclass(kw_only=True)
class Rig:
    account: Account
    books: Ledger
    clock: ManualClock
    reconciler: Reconciler

    async def patiently(self, asked: Awaitable[Any], seconds: float = 60.0) -> Any:
        """Let time pass until the answer is there."""
        task = asyncio.ensure_future(asked)
        for _ in range(round(seconds)):
            if task.done():
                break
            await self.clock.advance(1.0)
        await self.clock.settle()
        assert task.done(), "no answer"
        return task.result()

    async def twice(self) -> list[External]:
        """What the second of two looks, ten seconds apart, says."""
        assert await self.reconciler.again() == []
        await self.clock.advance(10.0)
        return await self.reconciler.again()


def rig(
    total: dict[str, float], ours: dict[str, float], theirs: dict[str, float] | None, **changes: Any
) -> Rig:  # fmt: skip
    account, books, clock = Account(total=total), Ledger(ours=ours, theirs=theirs), ManualClock()
    live = LiveSettings(
        symbols=(BTC, ETH), instance="live-1", max_order_value=1e6, max_position_value=1e6,
        external=changes.pop("rule", HALT),
    )  # fmt: skip
    reconciler = Reconciler(
        venue=account,  # type: ignore[arg-type]  # as much of it as is used
        books=books,  # type: ignore[arg-type]
        settings=live, clock=clock, initial_cash=1_000.0, **changes,
    )  # fmt: skip
    return Rig(account=account, books=books, clock=clock, reconciler=reconciler)


def venue_order(client_id: str, symbol: str = BTC, state: VenueState = VenueState.OPEN, filled: float = 0.0) -> Any:
    return VenueOrder(
        venue_id=f"v-{client_id}", client_id=client_id, symbol=symbol, side=Side.SELL, quantity=0.25, filled=filled,
        state=state, at_ms=0, is_stop=True,
    )  # fmt: skip


def status(client_id: str, kind: OrderKind, state: OrderState = OrderState.OPEN) -> OrderStatus:
    order = Order(
        client_id=client_id, symbol=BTC, side=Side.SELL, quantity=0.25, reference_price=60_000.0, decided_ms=0,
        reason="voted", reduces=True, kind=kind, stop_price=57_000.0 if kind is OrderKind.STOP else None,
    )  # fmt: skip
    return OrderStatus(order=order, state=state)


# ---- opening ----------------------------------------------------------------------------------------------------
async def test_an_account_is_opened_with_our_cash_and_everything_else_is_foreign() -> None:
    r = rig({"USDT": 2_500.0, "BTC": 0.5, "DOGE": 7.0}, {"": 1_000.0}, None)
    told = await r.reconciler.first()
    assert {e.asset: (e.ours, e.foreign) for e in told} == {"USDT": (0, 1_500.0), "BTC": (0, 0.5), "ETH": (0, 0)}
    r.books.take(told)
    assert await r.reconciler.first() == []


async def test_too_little_free_cash_names_both_amounts_and_the_remedy() -> None:
    r = rig({"USDT": 1_200.0}, {"": 1_000.0}, None)
    r.account.bound = {"USDT": 300.0}  # a resting order of somebody else
    with pytest.raises(ConfigError) as error:
        await r.reconciler.first()
    for words in ("initial_cash = 1000 USDT", "900 USDT lie free", "write at most that, or bring 100 USDT"):
        assert words in str(error.value)
    assert error.value.exit_code == 78


async def test_the_opening_needs_no_price() -> None:
    r = rig({"USDT": 1_000.0, "BTC": 0.5}, {"": 1_000.0}, None)
    r.books.marks, r.account.price = {}, Quote(bid=None, ask=None, last=None)
    assert {e.asset: e.price for e in await r.reconciler.first()} == {"USDT": 1.0, "BTC": 0.0, "ETH": 0.0}


# ---- a start ----------------------------------------------------------------------------------------------------
async def test_a_start_that_finds_all_well_takes_one_reading_and_no_time() -> None:
    r = rig({"USDT": 1_000.0, "BTC": 0.2}, {"": 900.0, BTC: 0.2}, {"USDT": 100.0})
    assert await r.reconciler.first() == []
    assert r.account.asked == 1
    assert r.clock.monotonic_s() == 0.0


async def test_a_start_reads_twice_before_it_believes_a_difference() -> None:
    r = rig({"USDT": 1_300.0}, {"": 1_000.0}, {})
    task = asyncio.create_task(r.reconciler.first())
    await r.clock.advance(4.9)
    assert not task.done()
    await r.clock.advance(0.2)
    (external,) = await task
    assert (external.foreign, external.halts, external.at_ms) == (300.0, True, r.clock.now_ms() - 100)
    r.books.take([external])
    assert await r.patiently(r.reconciler.first()) == []


async def test_a_balance_that_was_only_late_is_no_difference() -> None:
    r = rig({"USDT": 1_000.0, "BTC": 0.0}, {"": 400.0, BTC: 0.01}, {})  # the venue does not show our fill yet
    task = asyncio.create_task(r.reconciler.first())
    await r.clock.advance(1.0)
    r.account.total = {"USDT": 400.0, "BTC": 0.01}
    await r.clock.advance(10.0)
    assert await task == []


async def test_an_account_that_never_rests_does_not_hold_up_a_start() -> None:
    r = rig({"USDT": 1_000.0}, {"": 900.0}, {})

    def moves() -> None:
        r.account.total["USDT"] += 1.0

    r.account.slow = moves
    assert await r.patiently(r.reconciler.first()) == []
    assert r.account.asked == 5


async def test_a_recovery_that_cannot_tell_what_happened_does_not_start() -> None:
    r = rig({"USDT": 1_000.0}, {"": 900.0}, {}, accept_recovery=True)

    def moves() -> None:
        r.account.total["USDT"] += 1.0

    r.account.slow = moves
    with pytest.raises(TransientError, match="stop whatever else trades this account"):
        await r.patiently(r.reconciler.first())


# ---- while it runs ----------------------------------------------------------------------------------------------
async def test_two_looks_apart_in_time_report_a_manual_sale_once() -> None:
    r = rig({"USDT": 6_900.0, "BTC": 0.1}, {"": 900.0, BTC: 0.1}, {"BTC": 0.1})
    told = await r.twice()
    assert {e.asset: (e.ours, e.foreign, e.halts) for e in told} == {
        "USDT": (0.0, 6_000.0, False),
        "BTC": (0.0, -0.1, True),
    }
    assert all("somebody sold 0.1 BTC at about 60,000.00" in e.detail for e in told)
    r.books.take(told)
    assert await r.twice() == []


async def test_two_looks_right_after_another_prove_nothing() -> None:
    r = rig({"USDT": 1_300.0}, {"": 1_000.0}, {})
    for _ in range(4):
        assert await r.reconciler.again() == []
        await r.clock.advance(1.2)
    await r.clock.advance(0.2)
    assert len(await r.reconciler.again()) == 1


async def test_a_change_between_two_looks_starts_the_wait_anew() -> None:
    r = rig({"USDT": 1_300.0}, {"": 1_000.0}, {})
    assert await r.reconciler.again() == []
    await r.clock.advance(10.0)
    r.account.total["USDT"] = 1_400.0
    (external,) = await r.twice()
    assert external.foreign == 400.0


async def test_a_repeat_after_a_crash_before_the_commit_has_the_same_id() -> None:
    first, second = (rig({"USDT": 1_300.0}, {"": 1_000.0}, {}) for _ in range(2))
    await second.clock.advance(5_000.0)
    assert [e.external_id for e in await first.twice()] == [e.external_id for e in await second.twice()]


async def test_nothing_is_compared_while_an_order_is_in_flight() -> None:
    r = rig({"USDT": 1_300.0}, {"": 1_000.0}, {})
    r.books.open = [status("s-1", OrderKind.MARKET, OrderState.UNKNOWN)]
    assert await r.twice() == []
    assert await r.twice() == []
    r.books.open = []
    assert len(await r.twice()) == 1


async def test_an_order_that_leaves_while_the_balances_are_asked_for_spoils_the_reading() -> None:
    r = rig({"USDT": 1_300.0}, {"": 1_000.0}, {})
    assert await r.reconciler.again() == []
    await r.clock.advance(10.0)
    r.account.slow = lambda: r.books.open.append(status("s-1", OrderKind.MARKET, OrderState.IN_FLIGHT))
    assert await r.reconciler.again() == []
    r.account.slow, r.books.open = None, []
    assert len(await r.twice()) == 1


async def test_a_reading_of_a_busy_moment_is_not_the_first_of_two() -> None:
    r = rig({"USDT": 1_300.0}, {"": 1_000.0}, {})
    r.books.open = [status("s-1", OrderKind.MARKET, OrderState.UNKNOWN)]
    assert await r.reconciler.again() == []
    r.books.open = []
    await r.clock.advance(10.0)
    assert len(await r.twice()) == 1


async def test_books_that_move_while_a_difference_is_looked_into_have_the_last_word() -> None:
    r = rig({"USDT": 1_300.0}, {"": 1_000.0}, {})

    def moves() -> None:
        r.books.ours[""], r.account.on_orders = 1_300.0, None

    r.account.on_orders = moves
    assert await r.twice() == []
    assert await r.twice() == []


@pytest.mark.parametrize(
    "shown",
    [venue_order("s-stop", state=VenueState.FILLED, filled=0.25), venue_order("s-stop", filled=0.1), None],
    ids=["filled", "partly filled", "not shown"],
)
async def test_what_a_stop_of_ours_sold_is_left_to_its_fill(shown: VenueOrder | None) -> None:
    r = rig({"USDT": 14_250.0, "BTC": 0.0}, {"": 0.0, BTC: 0.25}, {})
    r.books.open = [status("s-stop", OrderKind.STOP)]
    r.account.orders = [] if shown is None else [shown]
    assert await r.twice() == []
    assert await r.twice() == []
    r.books.open, r.books.ours = [], {"": 14_250.0, BTC: 0.0}  # the fill has come
    assert await r.twice() == []
    assert r.books.theirs == {}


async def test_a_resting_stop_does_not_hide_what_somebody_sold() -> None:
    r = rig({"USDT": 14_250.0, "BTC": 0.0}, {"": 0.0, BTC: 0.25}, {})
    r.books.open = [status("s-stop", OrderKind.STOP)]
    r.account.orders = [venue_order("s-stop")]
    told = {e.asset: e for e in await r.twice()}
    assert (told["BTC"].ours, told["BTC"].halts) == (-0.25, True)


# ---- orders nobody knows ----------------------------------------------------------------------------------------
async def test_an_order_with_our_prefix_that_the_books_do_not_know_ends_the_start() -> None:
    r = rig({"USDT": 1_000.0}, {"": 1_000.0}, {})
    r.account.orders = [venue_order("s-btcusdt-0-9")]
    with pytest.raises(ConfigError) as error:
        await r.reconciler.first()
    for words in ("s-btcusdt-0-9 (sell 0.25 BTC/USDT)", "another daemon.instance", "--accept-recovery", "'live-1'"):
        assert words in str(error.value)
    assert error.value.exit_code == 78
    assert r.account.cancelled == []


async def test_a_second_daemon_that_comes_later_is_found_with_the_difference_it_makes() -> None:
    r = rig({"USDT": 1_000.0}, {"": 1_000.0}, {}, accept_recovery=True)
    assert await r.reconciler.first() == []
    r.account.orders = [venue_order("s-btcusdt-0-9")]
    r.account.total["USDT"] = 400.0
    with pytest.raises(ConfigError, match="Another sacd trades this account"):
        await r.twice()
    assert r.account.cancelled == []


async def test_orders_of_the_books_and_of_others_are_left_alone() -> None:
    r = rig({"USDT": 1_000.0, "BTC": 0.25}, {"": 1_000.0, BTC: 0.25}, {})
    r.books.open = [status("s-stop", OrderKind.STOP)]
    r.account.orders = [venue_order("s-stop"), venue_order(""), venue_order("")]
    assert await r.reconciler.first() == []
    assert r.reconciler.words() == "2 open orders of somebody else left alone"
    assert r.account.cancelled == []


@pytest.mark.fault(50)
async def test_after_a_restore_strays_are_cancelled_and_our_unknown_trades_become_ours() -> None:
    # The books are of before a purchase of 0.25 BTC at 60,000; its stop rests at the venue.
    r = rig({"USDT": 1_000.0, "BTC": 0.25}, {"": 16_000.0, BTC: 0.0}, {}, rule=IGNORE, accept_recovery=True)
    r.account.orders = [venue_order("s-btcusdt-0-9"), venue_order("")]
    told = await r.patiently(r.reconciler.first())
    assert r.account.cancelled == ["s-btcusdt-0-9"]
    assert {e.asset: (e.ours, e.foreign, e.halts) for e in told} == {
        "BTC": (0.25, 0.0, False),
        "USDT": (-15_000.0, 0.0, False),
    }
    r.books.take(told)
    assert await r.patiently(r.reconciler.first()) == []


@pytest.mark.parametrize(
    "answer", [VenueRefused("unknown order", RefusalKind.OTHER), UnknownOutcome("timeout")], ids=["gone", "no answer"]
)
async def test_a_stray_has_gone_when_the_venue_shows_it_no_more(answer: Exception) -> None:
    r = rig({"USDT": 1_000.0}, {"": 1_000.0}, {}, accept_recovery=True)
    r.account.orders = [venue_order("s-btcusdt-0-9")]

    def refuse(_: str) -> None:
        r.account.orders = []
        raise answer

    r.account.on_cancel = refuse
    assert await r.patiently(r.reconciler.first()) == []


async def test_a_stray_that_stays_open_ends_the_start() -> None:
    r = rig({"USDT": 1_000.0}, {"": 1_000.0}, {}, accept_recovery=True)
    r.account.orders = [venue_order("s-btcusdt-0-9")]

    def refuse(_: str) -> None:
        raise UnknownOutcome("timeout")

    r.account.on_cancel = refuse
    with pytest.raises(TransientError, match=r"still open at the venue: s-btcusdt-0-9"):
        await r.patiently(r.reconciler.first())


# ---- any history ------------------------------------------------------------------------------------------------
@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["USDT", "BTC", "ETH"]), st.floats(-2e4, 2e4), st.sampled_from(ExternalRule)),
        max_size=8,
    ),
    st.booleans(),
)
def test_any_changes_converge_in_one_pass(changes: list[tuple[str, float, ExternalRule]], is_priced: bool) -> None:
    async def go() -> None:
        r = rig({"USDT": 5_000.0, "BTC": 1.0}, {"": 1_000.0}, None)
        r.books.marks = r.books.marks if is_priced else {}
        r.books.take(await r.reconciler.first())
        for asset, amount, rule in changes:
            r.reconciler._settings = replace(r.reconciler._settings, external=rule)
            r.account.total[asset] = max(0.0, r.account.total.get(asset, 0.0) + round(amount, 5))
            r.books.take(await r.twice())
            assert await r.twice() == []
            for symbol, coin in SYMBOLS.items():
                ours, theirs = r.books.ours.get(symbol, 0.0), r.books.foreign(coin) or 0.0
                total = r.account.total.get(coin, 0.0)
                assert ours + theirs == pytest.approx(total, rel=1e-6, abs=5e-5)
                assert -1e-9 <= ours <= total + 1e-6 * total + 5e-5

    asyncio.run(go())
