"""The reconciler over the real account and an exchange in memory: what the account makes of what others do there."""

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.books import AccountBooks
from daemon.fold import Memory, take_external
from daemon.live_settings import ExternalRule, LiveSettings
from daemon.ports import External
from daemon.reconcile import Reconciler
from daemon.venue import Market
from strategy.order import Fill, Side
from tests.fakes.clock import ManualClock
from tests.fakes.trading import BTC, ETH, setup, trader
from tests.fakes.venue import Book, FakeVenue

HALT = ExternalRule.HALT
MARKS = {BTC: 100.0, ETH: 10.0}


class Account:
    """A trader with 1,000 USDT, half of it in BTC, at an exchange where as much again belongs to somebody else."""

    def __init__(self, rule: ExternalRule = HALT) -> None:
        self.clock = ManualClock()
        self.trader, self.memory = trader((BTC, ETH), cash=1_000.0), Memory()
        markets = {symbol: Market(instrument=made) for symbol, made in setup((BTC, ETH)).instruments.items()}
        self.venue = FakeVenue(
            clock=self.clock,
            markets_now=markets,
            books={symbol: Book(bid=price, ask=price) for symbol, price in MARKS.items()},
            holds={"USDT": 1_500.0, "BTC": 5.0, "ETH": 5.0},
        )
        self.books = AccountBooks(self.trader, self.memory)
        self.reconciler = Reconciler(
            venue=self.venue,
            books=self.books,
            settings=LiveSettings(
                symbols=(BTC, ETH), instance="live-1", max_order_value=1e9, max_position_value=1e9, external=rule
            ),
            clock=self.clock,
            initial_cash=1_000.0,
        )

    async def open(self) -> "Account":
        self.take(await self.reconciler.first())
        fill = Fill(
            fill_id="t1", client_id="s-1", symbol=BTC, side=Side.BUY, quantity=5.0, price=100.0, fee=0.0, at_ms=0,
            reference_price=100.0,
        )  # fmt: skip
        self.trader.on_fill(fill, is_stop=False)
        self.venue.holds |= {"USDT": 1_000.0, "BTC": 10.0}
        assert await self.settle() == []
        return self

    def take(self, told: list[External]) -> None:
        for external in told:
            self.memory.take_foreign(external.asset, external.foreign)
            take_external(self.trader, external)

    async def settle(self) -> list[External]:
        """What two looks, ten seconds apart, say; taken in."""
        assert await self.reconciler.again() == []
        await self.clock.advance(10.0)
        told = await self.reconciler.again()
        self.take(told)
        return told

    def parts(self, symbol: str) -> tuple[float, float, float]:
        """What is ours and foreign of a coin by the books, and what the venue has."""
        asset = symbol.partition("/")[0] or "USDT"
        ours = self.books.held(symbol) if symbol else self.books.cash()
        return ours, self.books.foreign(asset) or 0.0, self.venue.holds.get(asset, 0.0)


async def test_the_opening_divides_the_account_and_trading_leaves_the_foreign_part_alone() -> None:
    account = await Account().open()
    assert [account.parts(symbol) for symbol in ("", BTC, ETH)] == [
        (500.0, 500.0, 1_000.0),
        (5.0, 5.0, 10.0),
        (0.0, 5.0, 5.0),
    ]


async def test_a_sale_of_what_is_not_ours_halts_the_symbol_and_takes_nothing_from_us() -> None:
    account = await Account().open()
    account.venue.holds |= {"USDT": 1_400.0, "BTC": 6.0}
    await account.settle()
    assert (account.parts(""), account.parts(BTC)) == ((500.0, 900.0, 1_400.0), (5.0, 1.0, 6.0))
    halted = {symbol for symbol, known in account.trader.risk.symbols.items() if known.is_halted}
    assert halted == {BTC}


async def test_a_sale_that_also_takes_ours_leaves_a_smaller_position_and_stop_and_no_loss() -> None:
    account = await Account().open()
    before = account.trader.portfolio
    account.venue.holds |= {"USDT": 1_800.0, "BTC": 2.0}
    await account.settle()
    after = account.trader.portfolio
    assert account.parts(BTC) == (2.0, 0.0, 2.0)
    stop = account.books.stop(BTC)
    assert stop is not None
    assert stop.quantity == 2.0
    assert (after.drawdown, after.day_loss) == pytest.approx((before.drawdown, before.day_loss))


async def test_money_that_is_adopted_is_no_gain() -> None:
    account = await Account(ExternalRule.ADOPT).open()
    account.venue.holds["USDT"] += 250.0
    (external,) = await account.settle()
    assert (external.ours, external.halts) == (250.0, False)
    portfolio = account.trader.portfolio
    assert (portfolio.cash, portfolio.equity, portfolio.peak) == pytest.approx((750.0, 1_250.0, 1_250.0))


_HOLDS = st.fixed_dictionaries(
    {
        "USDT": st.integers(0, 10**7).map(lambda cents: cents / 100),
        "BTC": st.integers(0, 10**7).map(lambda units: units / 10**5),
        "ETH": st.integers(0, 10**7).map(lambda units: units / 10**5),
    }
)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(_HOLDS, st.sampled_from(ExternalRule)), min_size=1, max_size=6))
def test_whatever_others_do_the_account_follows_the_venue_in_one_pass(
    changes: list[tuple[dict[str, float], ExternalRule]],
) -> None:
    async def go() -> None:
        account = await Account().open()
        for holds, rule in changes:
            account.reconciler._settings = replace(account.reconciler._settings, external=rule)
            account.venue.holds = dict(holds)
            await account.settle()
            assert await account.settle() == []
            for symbol in ("", BTC, ETH):
                ours, foreign, total = account.parts(symbol)
                assert ours + foreign == pytest.approx(total, rel=1e-6, abs=5e-5)
                assert 0.0 <= ours <= total * (1 + 1e-6) + 5e-5
                assert foreign >= -5e-5
            held, stop = account.books.held(BTC), account.books.stop(BTC)
            assert (0.0 if stop is None else stop.quantity) == pytest.approx(held, abs=1e-4)

    asyncio.run(go())
