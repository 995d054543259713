"""A trader and its simulated venue together: whatever happens, and the accounts of a recorded history in decimals."""

import csv
import gzip
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from numpy.typing import NDArray

from strategy.candle import Candle, Timeframe
from strategy.instrument import Instrument
from strategy.order import Fill, Order, OrderEvent, OrderReport, Side
from strategy.parameters import CostModel, RiskLimits, StrategyParameters
from strategy.risk import Approved, TradingState, VerdictReason
from strategy.session import Session
from strategy.trader import Outcome, Setup, Trader
from tests.fakes.rows import Rows
from tests.fakes.trading import BTC, ETH, HOUR_MS, Constant, candle, setup

SYMBOLS = ("SOL/USDT", BTC, ETH)  # a configured order that is not the alphabet's
BUY = Constant((1.0, 0.8, 1.0))
"""A step of 40 % of the capital, below the limit of 50 %: what it costs does not push it above."""
SELL = Constant((-1.0, 1.0, 1.0))
HOLD = Constant((0.0, 0.0, 0.0))


def make(symbols: Sequence[str] = (BTC,), cash: float = 10_000.0, **changes: Any) -> Session:
    values = {"volatility_target": 10.0, "edge_multiple": 0.0} | changes
    return Session(Trader(setup(symbols, **values), {symbol: Rows() for symbol in symbols}, cash))


def ends(reports: Sequence[OrderReport]) -> list[tuple[str, OrderEvent]]:
    return [(report.client_id, report.event) for report in reports]


def position(session: Session, symbol: str = BTC) -> float:
    return session.trader.portfolio.positions[symbol].quantity


def bought(**changes: Any) -> Session:
    """Return a session that bought for 40 % of its account on candle 0, filled on candle 1."""
    session = make(**changes)
    session.on_candles([candle()], BUY)
    session.on_candles([candle(at=1)], HOLD)
    assert position(session) == 40.0
    return session


# ---- a stop larger than the market ------------------------------------------------------------------------------
def test_a_stop_larger_than_its_share_of_the_volume_sells_candle_by_candle() -> None:
    session = bought()  # 40 at 100.05; the stop lies 5 % below, at 95.04
    falls = [(1, 95.0, 300.0), (2, 90.0, 0.0), (3, 96.0, 300.0), (4, 90.0, 300.0), (5, 80.0, 300.0)]
    # Its share is 15, nothing, 15 that are not touched, 15, and 15 of which 10 are left.
    prices = [94.95, None, None, 89.95, 79.96]
    fills, left = [], [25.0, 25.0, 25.0, 10.0, 0.0]
    for (number, price, volume), expected, held in zip(falls, prices, left, strict=True):
        reports = session.settle([candle(at=number + 1, close=price, volume=volume)])
        made = [report.fill for report in reports if report.fill is not None]
        assert [fill.price for fill in made] == ([] if expected is None else [expected])
        assert position(session) == held
        stop = session.trader.stops[BTC]
        assert (None if stop is None else (stop.quantity, stop.stop_price)) == ((held, 95.04) if held else None)
        fills += made
        if made:
            end = [OrderEvent.FILLED] if held == 0.0 else [OrderEvent.PARTLY_FILLED, OrderEvent.EXPIRED]
            assert ends(reports) == [(made[0].client_id, event) for event in end]
    assert [fill.quantity for fill in fills] == [15.0, 15.0, 10.0]
    assert len({fill.fill_id for fill in fills}) == len({fill.client_id for fill in fills}) == 3


# ---- one position, many who want to sell it ---------------------------------------------------------------------
def test_flatten_twice_before_the_fill_sells_once() -> None:
    session = bought()
    for _ in range(2):
        for approved in session.trader.flatten(2 * HOUR_MS):
            session.exchange.submit(approved.order)
    reports, _ = session.on_candles([candle(at=2)], BUY)
    assert [event for _, event in ends(reports)] == [OrderEvent.FILLED, OrderEvent.EXPIRED]
    assert position(session) == 0.0
    assert session.trader.stops == {BTC: None}


def _is_stop(trader: Trader, fill: Fill) -> bool:
    stop = trader.stops[fill.symbol]
    return stop is not None and stop.client_id == fill.client_id


@pytest.mark.parametrize("falls", [False, True])
@pytest.mark.parametrize("is_live", [False, True])
def test_a_vote_a_person_a_price_and_a_stop_sell_what_is_held_and_no_more(*, falls: bool, is_live: bool) -> None:
    session = bought()
    trader = session.trader
    _, (voted,) = session.on_candles([candle(at=2)], SELL)
    assert isinstance(voted.verdict, Approved)
    for approved in (*trader.flatten(3 * HOUR_MS), *trader.on_price(BTC, 50.0, 3 * HOUR_MS)):
        session.exchange.submit(approved.order)
    low = 40.0 if falls else 100.0
    events: Iterator[OrderReport]
    if is_live:
        events = session.exchange.on_trade(BTC, low, 3 * HOUR_MS + 1)
    else:
        events = session.exchange.on_candle(candle(at=3, low=low))
    sold = 0.0
    for report in events:
        if report.fill is not None:
            sold += report.fill.quantity
            session.exchange.protect(BTC, trader.on_fill(report.fill, is_stop=_is_stop(trader, report.fill)))
    assert sold == 40.0
    assert position(session) == 0.0
    assert trader.stops == {BTC: None}


def test_a_partial_sale_and_a_stop_in_the_same_candle_share_the_position() -> None:
    session = bought()
    session.on_candles([candle(at=2)], Constant((-1.0, 0.4, 1.0)))  # half of it
    reports, _ = session.on_candles([candle(at=3, low=90.0)], HOLD)
    quantities = [report.fill.quantity for report in reports if report.fill is not None]
    assert quantities == [pytest.approx(20.0, abs=0.1), pytest.approx(20.0, abs=0.1)]
    assert sum(quantities) == pytest.approx(40.0, abs=1e-9)
    assert position(session) == 0.0


def test_a_position_bought_at_the_open_is_stopped_in_the_same_candle() -> None:
    session = make()
    session.on_candles([candle()], BUY)
    reports, _ = session.on_candles([candle(at=1, low=90.0)], HOLD)
    assert [report.fill.price for report in reports if report.fill is not None] == [
        100.05,
        94.99,  # 5 % below 100.05 is 95.0475, on the tick 95.04, less 0.04752
    ]
    assert position(session) == 0.0


def test_an_order_that_found_no_volume_is_decided_again() -> None:
    session = make()
    session.on_candles([candle()], BUY)
    reports, (outcome,) = session.on_candles([candle(at=1, volume=0.0)], BUY)
    assert [event for _, event in ends(reports)] == [OrderEvent.EXPIRED]
    assert isinstance(outcome.verdict, Approved)
    assert outcome.verdict.order.quantity == 40.0


def test_an_order_of_a_symbol_without_a_candle_waits_for_its_next_one() -> None:
    session = make([BTC, ETH])
    session.on_candles([candle(BTC), candle(ETH)], BUY)
    session.on_candles([candle(ETH, 1)], HOLD)
    assert (position(session, BTC), position(session, ETH)) == (0.0, 20.0)
    session.on_candles([candle(BTC, 2), candle(ETH, 2)], HOLD)
    assert (position(session, BTC), position(session, ETH)) == (20.0, 20.0)


# ---- whatever happens -------------------------------------------------------------------------------------------
class Ballot:
    """Voters whose next votes are set beforehand, one (n_members, 3) per symbol that is seen."""

    def __init__(self) -> None:
        self.weights: NDArray[np.float64] = np.array([0.5, 0.5])
        self.votes: list[NDArray[np.float32]] = []

    def act(self, observations: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.stack(self.votes[: len(observations)])


_UP, _DOWN, _STAY = (1.0, 1.0, 1.0), (-1.0, 1.0, 1.0), (0.0, 1.0, 1.0)
_vote = st.one_of(
    st.sampled_from([_UP, _UP, _UP, (1.0, 0.3, 1.0), _DOWN, (-1.0, 0.2, 1.0), _STAY]),
    st.tuples(st.floats(-1.0, 1.0, width=32), st.floats(0.0, 1.0, width=32), st.floats(0.0, 1.0, width=32)),
)
Move = tuple[bool, float, float, float, float, tuple[float, float, float]]
_move = st.tuples(
    st.sampled_from([True] * 7 + [False]),  # whether the symbol has a candle at all
    st.sampled_from([1.0] * 6 + [1.01, 0.99, 1.1, 0.97, 0.9, 0.6, 1.5]),  # the gap at the open
    st.sampled_from([1.0] * 4 + [1.02, 0.98, 1.2, 0.93, 0.7]),  # the close over the open
    st.sampled_from([1.0] * 4 + [0.99, 0.94, 0.8]),  # the low below both
    st.sampled_from([1e6] * 6 + [1_000.0, 20.0, 0.0]),  # volume
    _vote,
)
_group = st.tuples(st.lists(_move, min_size=3, max_size=3), st.sampled_from([1] * 6 + [2, 12]))
_LIMITS = {"stop_cooldown": 3, "loss_streak": 2, "loss_streak_cooldown": 4, "halt_cooldown": 6}
_ORDERS_PER_DAY = 20


class Watched(Trader):
    """A trader that also shows the stops it sets between two decisions."""

    def __init__(
        self, made: Setup, features: Mapping[str, Rows], cash: float, note: Callable[[Order | None], None]
    ) -> None:
        super().__init__(made, features, cash)
        self._note = note

    def on_fill(self, fill: Fill, *, is_stop: bool) -> Order | None:
        stop = super().on_fill(fill, is_stop=is_stop)
        self._note(stop)
        return stop


class Account(RuleBasedStateMachine):
    """One account driven by markets, votes and a person; a twin that is never restarted gets the same."""

    def __init__(self) -> None:
        super().__init__()
        self.ballot = Ballot()
        self.ids: dict[str, Order] = {}
        self.at = 0

    @initialize(
        count=st.integers(1, 3),
        cash=st.sampled_from([60.0, 1_000.1, 100_000.7]),
        limits=st.fixed_dictionaries(
            {
                "max_position": st.sampled_from([0.2, 0.5, 1.0]),
                "stop_loss": st.sampled_from([0.05, 0.9]),
                "daily_loss": st.sampled_from([0.04, 0.9]),
                "stop_atr_multiple": st.sampled_from([0.0, 8.0]),
            }
        ),
    )
    def begin(self, count: int, cash: float, limits: dict[str, float]) -> None:
        self.symbols = SYMBOLS[:count]
        changes = {**_LIMITS, **limits, "max_orders_per_day": _ORDERS_PER_DAY}
        self.setup = setup(self.symbols, volatility_target=10.0, edge_multiple=0.0, **changes)
        self.session, self.twin = self._fresh(cash), self._fresh(cash)
        self.closes = dict.fromkeys(self.symbols, 100.0)

    def _fresh(self, cash: float) -> Session:
        return Session(Watched(self.setup, {symbol: Rows() for symbol in self.symbols}, cash, self._note))

    def both(self) -> tuple[Session, Session]:
        return self.session, self.twin

    # ---- what may happen -----------------------------------------------------------------------------------------
    @rule(groups=st.lists(_group, min_size=1, max_size=8))
    def candles(self, groups: list[tuple[list[Move], int]]) -> None:
        for moves, hours in groups:
            self._group(moves, hours)
            self._check_account()

    @rule(at=st.sampled_from([1.0, 0.9, 0.8, 0.5]))
    def fall(self, at: float) -> None:
        """Resume, buy what may be bought, let the price fall and stay there: where most limits break."""
        self.pause_or_resume(is_pause=False)
        quiet: Move = (True, 1.0, 1.0, 1.0, 1e6, _UP)
        for gap in (1.0, 1.0, at, 1.0, 1.0):
            self._group([(True, gap, *quiet[2:])] * 3, 1)
            self._check_account()

    def _group(self, moves: list[Move], hours: int) -> None:
        chosen = {symbol: move[1:] for symbol, move in zip(self.symbols, moves, strict=False) if move[0]}
        if not chosen:
            return
        self.at += hours
        group = []
        for symbol, (gap, rise, low, volume, _) in chosen.items():
            opened = max(self.closes[symbol] * gap, 0.05)
            close = self.closes[symbol] = max(opened * rise, 0.05)
            lowest = max(min(opened, close) * low, 0.05)
            group.append(candle(symbol, self.at, close, open=opened, low=min(lowest, opened, close), volume=volume))
        self.ballot.votes = [np.array([move[4], move[4]], np.float32) for move in chosen.values()]
        before = self.session.trader
        stops, state, halted_ms = dict(before.stops), before.risk.state, before.risk.halted_ms
        outcomes = self._decided(group)
        self._check_state(state, halted_ms, group[0].close_ms)
        self._check_verdicts(outcomes, stops)

    def _decided(self, group: list[Candle]) -> list[Outcome]:
        reports, outcomes = self.session.on_candles(group, self.ballot)
        # The other one gets its candles in another order.
        assert self.twin.on_candles(group[::-1], self.ballot)[1] is not outcomes
        for report in reports:
            assert report.client_id in self.ids
        for outcome in outcomes:
            if isinstance(outcome.verdict, Approved):
                self._note(outcome.verdict.order)
            self._note(outcome.stop)
        return outcomes

    def _note(self, order: Order | None) -> None:
        """Note an order; the same id never means another one."""
        if order is not None:
            assert self.ids.setdefault(order.client_id, order) == order

    @rule(is_pause=st.sampled_from([True, False, False]))
    def pause_or_resume(self, *, is_pause: bool) -> None:
        if is_pause:
            for session in self.both():
                session.trader.pause()
            return
        for session in self.both():
            session.trader.resume()
        assert self.session.trader.risk.state is TradingState.ACTIVE

    @rule()
    def flatten(self) -> None:
        self._forced([session.trader.flatten(self.at * HOUR_MS + 1) for session in self.both()])

    @precondition(lambda self: self.at > 0)
    @rule(index=st.integers(0, 2), factor=st.sampled_from([1.0, 0.9, 0.5, 0.3, 1.5]))
    def price(self, index: int, factor: float) -> None:
        symbol = self.symbols[index % len(self.symbols)]
        price = max(self.closes[symbol] * factor, 0.05)
        before = json.dumps(self.session.trader.state())
        found = [session.trader.on_price(symbol, price, self.at * HOUR_MS + 1) for session in self.both()]
        if not found[0]:
            assert json.dumps(self.session.trader.state()) == before
        self._forced(found)
        assert self.session.trader.on_price(symbol, price, self.at * HOUR_MS + 2) == []  # once
        assert self.twin.trader.on_price(symbol, price, self.at * HOUR_MS + 2) == []

    def _forced(self, found: list[list[Approved]]) -> None:
        """Submit what both want sold: whole positions, and no other."""
        assert found[0] == found[1]
        for session, approved in zip(self.both(), found, strict=True):
            for verdict in approved:
                held = session.trader.portfolio.positions[verdict.order.symbol].quantity
                assert (verdict.order.side, verdict.order.quantity) == (Side.SELL, held)
                session.exchange.submit(verdict.order)
                self._note(verdict.order)

    @rule(is_stale=st.sampled_from([None, True, False, False]), is_skewed=st.sampled_from([None, True, False, False]))
    def feed(self, *, is_stale: bool | None, is_skewed: bool | None) -> None:
        for session in self.both():
            session.trader.set_feed(is_stale=is_stale, is_skewed=is_skewed)

    @rule()
    def restart(self) -> None:
        """Let a new trader and a new venue continue from what a journal would hold."""
        old = self.session
        stored = json.loads(json.dumps(old.trader.state(), sort_keys=True))
        self.session = self._fresh(1.0)
        self.session.trader.restore(stored)
        for order in old.exchange.waiting:
            self.session.exchange.submit(order)
        for symbol, stop in self.session.trader.stops.items():
            self.session.exchange.protect(symbol, stop)

    # ---- what must hold ------------------------------------------------------------------------------------------
    def _check_state(self, before: TradingState, halted_ms: int, now_ms: int) -> None:
        now = self.session.trader.risk
        if before is TradingState.HALTED and now.state is not TradingState.HALTED:
            assert now_ms >= halted_ms + _LIMITS["halt_cooldown"] * HOUR_MS
        if now.state is TradingState.HALTED:
            assert now.reason is VerdictReason.MAX_DRAWDOWN_EXCEEDED
            for symbol, held in self.session.trader.portfolio.positions.items():
                known = self.setup.instruments[symbol]
                assert held.value < known.min_notional or before is TradingState.HALTED
        if self.session.trader.portfolio.drawdown >= self.setup.limits.max_drawdown:
            assert now.state is not TradingState.ACTIVE

    def _check_verdicts(self, outcomes: Sequence[Outcome], stops: Mapping[str, Order | None]) -> None:
        trader, spent = self.session.trader, 0.0
        portfolio, state, limits = trader.portfolio, trader.risk, self.setup.limits
        for outcome in outcomes:
            symbol, decision = outcome.sight.candle.symbol, outcome.verdict.decision
            held, minimum = portfolio.positions[symbol], self.setup.instruments[symbol].min_notional
            order = outcome.verdict.order if isinstance(outcome.verdict, Approved) else None
            stop = stops[symbol]
            is_broken = (
                state.is_flattening
                or state.reason is VerdictReason.MAX_DRAWDOWN_EXCEEDED
                or (stop is not None and stop.quantity == held.quantity and held.mark <= (stop.stop_price or 0.0))
            )
            if held.quantity > 0.0 and held.value >= minimum and (is_broken or decision.target < decision.exposure):
                assert order is not None
                assert order.side is Side.SELL
                assert not is_broken or order.quantity == held.quantity
            if order is None:
                continue
            if order.side is Side.SELL:
                assert order.quantity <= held.quantity
                continue
            spent += order.notional * 1.0005 * 1.001
            exposure = (held.quantity + order.quantity) * held.mark / portfolio.capital()
            assert exposure <= limits.max_position * (1 + 1e-9)
            assert state.state is TradingState.ACTIVE
            assert not any((state.is_paused, state.is_stale, state.is_skewed, state.is_flattening))
            assert state.orders_today <= _ORDERS_PER_DAY + len(outcomes)
            assert state.turnover_today <= limits.max_turnover_per_day * portfolio.equity * (1 + 1e-9)
        assert spent <= portfolio.cash * (1 + 1e-9) or spent == 0.0

    def _check_account(self) -> None:
        self.the_account_adds_up_and_nothing_is_negative()
        self.exactly_one_stop_protects_what_is_held_and_none_what_is_not()
        self.a_restart_changes_nothing()

    @invariant()
    def the_account_adds_up_and_nothing_is_negative(self) -> None:
        portfolio = self.session.trader.portfolio
        assert portfolio.cash >= 0.0
        equity = portfolio.cash
        for held in portfolio.positions.values():
            assert held.quantity >= 0.0
            assert held.quantity == 0.0 or held.average_entry > 0.0
            equity += held.quantity * held.mark
        assert portfolio.equity == equity
        assert portfolio.drawdown >= 0.0

    @invariant()
    def exactly_one_stop_protects_what_is_held_and_none_what_is_not(self) -> None:
        for symbol, held in self.session.trader.portfolio.positions.items():
            stop = self.session.trader.stops[symbol]
            assert (stop is None) == (held.quantity == 0.0)
            if stop is not None:
                assert (stop.quantity, stop.side, stop.symbol) == (held.quantity, Side.SELL, symbol)
            assert self.session.exchange._stops.get(symbol) == stop

    @invariant()
    def a_restart_changes_nothing(self) -> None:
        assert json.dumps(self.session.trader.state()) == json.dumps(self.twin.trader.state())
        waiting = [sorted(order.client_id for order in session.exchange.waiting) for session in self.both()]
        assert waiting[0] == waiting[1]


Account.TestCase.settings = settings(
    max_examples=100,
    stateful_step_count=25,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestAccount = pytest.mark.timeout(120)(Account.TestCase)


# ---- a recorded history, accounted for by other means -----------------------------------------------------------
START, COUNT = 16_000, 6_000  # June 2019 to February 2020, gaps among them


def recorded(path: Path) -> list[Candle]:
    with gzip.open(path, "rt") as file:
        rows = list(csv.reader(file))[1 + START : 1 + START + COUNT]
    return [
        Candle(
            symbol=BTC,
            open_ms=int(row[0]),
            span_ms=HOUR_MS,
            open=float(row[1]),
            high=float(row[2]),
            low=float(row[3]),
            close=float(row[4]),
            volume=float(row[5]),
        )
        for row in rows
    ]


def swings(seed: int) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Return votes that change their mind now and then: what matters here is that orders of every kind arise."""
    rng = np.random.default_rng(seed)
    mood = np.zeros(3, np.float32)

    def vote(_: NDArray[np.float32]) -> NDArray[np.float32]:
        if rng.random() < 0.1:
            mood[:] = rng.uniform(-1.0, 1.0), rng.random(), rng.random()
        return mood[None]

    return vote


class Drawn:
    """Voters of one member whose votes are drawn."""

    def __init__(self, seed: int) -> None:
        self.weights: NDArray[np.float64] = np.ones(1)
        self._vote = swings(seed)

    def act(self, observations: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.stack([self._vote(row) for row in observations])


class Ledger:
    """The accounting of design.md section 2 in decimals, written from its text.

    Given the same orders and stops: a decision on candle t fills at the open of t+1, worse by the slippage on the tick,
    plus fee, up to a share of the volume and what the cash pays for; a stop fills at min(open, stop) worse by slippage,
    up to the same share of the volume.
    """

    FEE, SLIPPAGE, SHARE = Decimal("0.001"), Decimal("0.0005"), Decimal("0.05")
    TICK, LOT = Decimal("0.01"), Decimal("0.00001")

    def __init__(self, cash: Decimal) -> None:
        self.cash = cash
        self.held = Decimal(0)
        self.fees = Decimal(0)
        self.fills: list[tuple[int, str, Decimal, Decimal]] = []

    def candle(self, bar: Candle, order: Order | None, stop_price: float | None, stops: Iterator[float | None]) -> None:
        """order: decided on the candle before.  stop_price: of then.  stops: its price after each fill."""
        opened, low, volume = (Decimal(repr(x)) for x in (bar.open, bar.low, bar.volume))
        if order is not None:
            quantity = min(Decimal(repr(order.quantity)), self._lots(volume * self.SHARE))
            if order.side is Side.BUY:
                price = self._ticks(opened * (1 + self.SLIPPAGE), ROUND_CEILING)
                quantity = min(quantity, self._lots(self.cash / (price * (1 + self.FEE))))
            else:
                price = self._ticks(opened * (1 - self.SLIPPAGE), ROUND_FLOOR)
                quantity = min(quantity, self.held)
            if quantity > 0:
                self._fill(bar, order.side, quantity, price)
                stop_price = next(stops)
        if self.held > 0 and stop_price is not None and low <= Decimal(repr(stop_price)):
            reference = min(opened, Decimal(repr(stop_price)))
            quantity = min(self.held, self._lots(volume * self.SHARE))
            if quantity > 0:
                self._fill(bar, Side.SELL, quantity, self._ticks(reference * (1 - self.SLIPPAGE), ROUND_FLOOR))

    def _fill(self, bar: Candle, side: Side, quantity: Decimal, price: Decimal) -> None:
        fee, sign = quantity * price * self.FEE, 1 if side is Side.BUY else -1
        self.cash -= sign * quantity * price + fee
        self.held += sign * quantity
        self.fees += fee
        self.fills.append((bar.open_ms, side.value, quantity, price))

    def _lots(self, quantity: Decimal) -> Decimal:
        return (quantity / self.LOT).to_integral_value(ROUND_FLOOR) * self.LOT

    def _ticks(self, price: Decimal, rounding: str) -> Decimal:
        return (price / self.TICK).to_integral_value(rounding) * self.TICK


def _recorded_setup(participation: float) -> Setup:
    return Setup(
        instance="ledger",
        timeframe=Timeframe.parse("1h"),
        instruments={BTC: Instrument(symbol=BTC, tick=0.01, lot=0.00001, min_notional=10.0)},
        strategy=StrategyParameters(edge_multiple=0.0),
        limits=replace(RiskLimits(), max_position=1.0, halt_cooldown=24),
        costs=CostModel(participation=participation),
    )


@pytest.mark.parametrize("cash", [10_000, 30_000_000], ids=["small", "larger than the market"])
def test_a_recorded_history_comes_out_as_a_ledger_in_decimals_says(
    recorded_candles: Callable[[str], Path], cash: int
) -> None:
    candles = recorded(recorded_candles("binance/btcusdt-1h.csv.gz"))
    session = Session(Trader(_recorded_setup(0.05), {BTC: Rows(0.005, 0.01)}, float(cash)))
    trader, ledger, voters = session.trader, Ledger(Decimal(cash)), Drawn(7)
    order: Order | None = None
    worst, partial, stopped, fills = 0.0, 0, 0, list[tuple[int, str, Decimal, Decimal]]()
    for bar in candles:
        before = None if (stop := trader.stops[BTC]) is None else stop.stop_price
        after: list[float | None] = []
        for report in session.exchange.on_candle(bar):
            if report.fill is not None:
                made = report.fill
                fills.append((made.at_ms, made.side.value, Decimal(repr(made.quantity)), Decimal(repr(made.price))))
                stop = trader.on_fill(made, is_stop=order is None or made.client_id != order.client_id)
                session.exchange.protect(BTC, stop)
                after.append(None if stop is None else stop.stop_price)
                stopped += order is None or made.client_id != order.client_id
            partial += report.event is OrderEvent.PARTLY_FILLED
        ledger.candle(bar, order, before, iter(after))
        (outcome,) = trader.on_candles([bar], voters)
        session.place([outcome])
        order = outcome.verdict.order if isinstance(outcome.verdict, Approved) else None
        equity = ledger.cash + ledger.held * Decimal(repr(bar.close))
        worst = max(worst, abs(float(equity) / trader.portfolio.equity - 1.0))
    assert fills == ledger.fills  # time, side, quantity and price to the last digit
    assert trader.portfolio.positions[BTC].quantity == float(ledger.held)
    assert math.isclose(trader.portfolio.cash, ledger.cash, rel_tol=1e-9)
    assert math.isclose(trader.portfolio.fees, ledger.fees, rel_tol=1e-9)
    assert worst < 1e-9
    # The slice is worth the name: purchases, sales and stops, and with more cash than volume, partial fills too.
    assert len(fills) > 300
    assert stopped > 10
    assert (partial > 100) == (cash > 10**6)
