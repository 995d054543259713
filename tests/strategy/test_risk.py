"""The risk manager: every reason once, what latches and what lets go, and what no situation may break."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategy import risk
from strategy.decision import Action, Decision, DecisionReason, Rule, decide
from strategy.errors import BadState
from strategy.instrument import Instrument
from strategy.order import Fill, OrderKind, Side
from strategy.parameters import CostModel, RiskLimits, StrategyParameters
from strategy.portfolio import Portfolio
from strategy.risk import (
    Approved,
    Hold,
    Refused,
    Review,
    RiskState,
    Situation,
    SymbolRisk,
    TradingState,
    Verdict,
    VerdictReason,
    assess,
)
from tests.fakes.trading import BTC, ETH, HOUR_MS, candle

DAY_MS = 24 * HOUR_MS
INSTRUMENT = Instrument(symbol=BTC, tick=0.01, lot=0.0001, min_notional=5.0)
LIMITS = RiskLimits()
COSTS = CostModel()
ACTIVE = RiskState(symbols={BTC: SymbolRisk()})


def account(cash: float, held: float = 0.0, mark: float = 100.0) -> Portfolio:
    """Return an account of `cash` that holds `held` at `mark`, which it also paid."""
    portfolio = Portfolio.open(cash + held * mark, [BTC])
    if held > 0.0:
        bought = Fill(
            fill_id="f",
            client_id="s",
            symbol=BTC,
            side=Side.BUY,
            quantity=held,
            price=mark,
            fee=0.0,
            at_ms=0,
            reference_price=mark,
        )
        portfolio = portfolio.apply(bought, INSTRUMENT)
    return portfolio.mark([candle(BTC, 0, mark)])


def wanted(portfolio: Portfolio, target: float | None, reason: DecisionReason = DecisionReason.VOTED) -> Decision:
    """Return a decision for `target`; None keeps the exposure."""
    exposure = portfolio.exposure(BTC)
    target = exposure if target is None else target
    action = Action.BUY if target > exposure else Action.SELL if target < exposure else Action.HOLD
    return Decision(symbol=BTC, action=action, reason=reason, exposure=exposure, target=target)


def situation(portfolio: Portfolio, state: RiskState = ACTIVE, **changes: Any) -> Situation:
    values: dict[str, Any] = {
        "limits": LIMITS,
        "costs": COSTS,
        "state": state,
        "portfolio": portfolio,
        "instrument": INSTRUMENT,
        "cash": portfolio.cash,
        "stop": None,
        "distance": 0.0,
        "now_ms": HOUR_MS,
        "client_id": "s-1",
    }
    return Situation(**(values | changes))


def verdict(portfolio: Portfolio, target: float | None, state: RiskState = ACTIVE, **changes: Any) -> Verdict:
    return assess(wanted(portfolio, target), situation(portfolio, state, **changes))


def blocked(by: VerdictReason) -> RiskState:
    return replace(ACTIVE, symbols={BTC: SymbolRisk(blocked_until_ms=HOUR_MS + 1, blocked_by=by)})


def voted(
    *votes: tuple[float, float, float],
    exposure: float = 0.0,
    volatility: float = 0.01,
    is_due: bool = True,
    has_failed: bool = False,
) -> Verdict:
    """Return the verdict on real votes: an account of 10,000 that holds `exposure` of it."""
    portfolio = account(10_000.0 * (1.0 - exposure), 100.0 * exposure)
    weights = tuple(1.0 / len(votes) for _ in votes)
    rule = Rule(
        parameters=StrategyParameters(), costs=COSTS, max_position=0.5, weights=weights, candles_per_year=8_760.0
    )
    cast = np.array(votes, np.float32) if votes else None
    decision = decide(rule, BTC, cast, portfolio.exposure(BTC), volatility, is_due=is_due, has_failed=has_failed)
    return assess(decision, situation(portfolio))


RICH = account(10_000.0)
HOLDER = account(6_000.0, 40.0)
REDUCING = replace(ACTIVE, state=TradingState.REDUCING, reason=VerdictReason.DAILY_LOSS_LIMIT)
FALLEN = replace(ACTIVE, state=TradingState.REDUCING, reason=VerdictReason.MAX_DRAWDOWN_EXCEEDED)
HALTED = replace(ACTIVE, state=TradingState.HALTED, reason=VerdictReason.MAX_DRAWDOWN_EXCEEDED)

# ---- every reason once ------------------------------------------------------------------------------------------
# reason -> what happens, kind of verdict, signed quantity of the order. RICH holds 10,000 in cash, HOLDER 6,000 and
# 40 x 100; a target of 0.3 is 30 x 100.
REASONS: dict[VerdictReason, tuple[Callable[[], Verdict], type, float]] = {
    VerdictReason.VOTED: (lambda: verdict(RICH, 0.3), Approved, 30.0),
    VerdictReason.NEUTRAL: (lambda: voted((0.25, 1.0, 1.0), exposure=0.4), Hold, 0.0),
    VerdictReason.WARMING_UP: (lambda: voted(exposure=0.4), Hold, 0.0),
    VerdictReason.NO_VOTES: (lambda: voted(exposure=0.4, has_failed=True), Hold, 0.0),
    VerdictReason.DEAD_BAND: (lambda: voted((1.0, 0.03, 1.0)), Hold, 0.0),  # a step of 1.5 %, the band is 2 %
    # Hopes for sqrt(24) x 0.0005 = 0.245 %; a round trip costs 0.3 %.
    VerdictReason.EDGE_BELOW_COST: (lambda: voted((1.0, 1.0, 1.0), volatility=0.0005), Hold, 0.0),
    # Opposite extremes: standard deviation 1, above 0.6.
    VerdictReason.DISAGREEMENT: (lambda: voted((1.0, 1.0, 1.0), (-1.0, 1.0, 1.0)), Hold, 0.0),
    VerdictReason.BETWEEN_DECISIONS: (lambda: voted((1.0, 1.0, 1.0), is_due=False), Hold, 0.0),
    VerdictReason.OPERATOR: (
        lambda: assess(wanted(HOLDER, 0.0, DecisionReason.OPERATOR), situation(HOLDER)),
        Approved,
        -40.0,
    ),
    VerdictReason.MAX_DRAWDOWN_EXCEEDED: (lambda: verdict(HOLDER, 0.5, FALLEN), Approved, -40.0),
    VerdictReason.MAX_POSITION_EXCEEDED: (lambda: verdict(account(2_000.0, 80.0), None), Approved, -30.0),
    VerdictReason.STOP_LOSS_TRIGGERED: (lambda: verdict(HOLDER, 0.5, stop=100.0), Approved, -40.0),
    VerdictReason.DAILY_LOSS_LIMIT: (lambda: verdict(RICH, 0.3, REDUCING), Refused, 0.0),
    VerdictReason.ORDER_RATE: (lambda: verdict(RICH, 0.3, replace(ACTIVE, orders_today=48)), Refused, 0.0),
    VerdictReason.TURNOVER_BUDGET: (lambda: verdict(RICH, 0.3, replace(ACTIVE, turnover_today=4e4)), Refused, 0.0),
    VerdictReason.LOSS_STREAK: (lambda: verdict(RICH, 0.3, blocked(VerdictReason.LOSS_STREAK)), Refused, 0.0),
    VerdictReason.STOP_COOLDOWN: (lambda: verdict(RICH, 0.3, blocked(VerdictReason.STOP_COOLDOWN)), Refused, 0.0),
    VerdictReason.STALE_FEED: (lambda: verdict(RICH, 0.3, replace(ACTIVE, is_stale=True)), Refused, 0.0),
    VerdictReason.CLOCK_SKEW: (lambda: verdict(RICH, 0.3, replace(ACTIVE, is_skewed=True)), Refused, 0.0),
    VerdictReason.OUT_OF_DISTRIBUTION: (lambda: verdict(RICH, 0.3, distance=1.51), Refused, 0.0),
    VerdictReason.DRIFT: (lambda: verdict(RICH, 0.3, replace(ACTIVE, is_drifted=True)), Refused, 0.0),
    VerdictReason.MINIMUM_NOTIONAL: (lambda: verdict(RICH, 0.0004), Refused, 0.0),  # 4, the venue takes 5
    # 1,000 / (100.05 x 1.001) = 9.98501...
    VerdictReason.INSUFFICIENT_CASH: (lambda: verdict(RICH, 0.3, cash=1_000.0), Approved, 9.985),
    VerdictReason.PAUSED: (lambda: verdict(RICH, 0.3, replace(ACTIVE, is_paused=True)), Refused, 0.0),
    VerdictReason.HALTED: (lambda: verdict(RICH, 0.3, HALTED), Refused, 0.0),
    VerdictReason.ORDER_IN_FLIGHT: (lambda: verdict(RICH, 0.3, is_in_flight=True), Refused, 0.0),
    VerdictReason.SYMBOL_HALTED: (lambda: verdict(RICH, 0.3, risk.halted(ACTIVE, BTC)), Refused, 0.0),
    VerdictReason.VENUE_CLOSED: (lambda: verdict(RICH, 0.3, replace(ACTIVE, is_cut_off=True)), Refused, 0.0),
    VerdictReason.UNPROTECTED: (lambda: verdict(HOLDER, None, is_unprotected=True), Approved, -40.0),
}


def test_every_reason_has_a_case() -> None:
    assert set(REASONS) == set(VerdictReason)


@pytest.mark.parametrize("reason", VerdictReason)
def test_each_reason_appears_where_it_should(reason: VerdictReason) -> None:
    happens, kind, quantity = REASONS[reason]
    came = happens()
    assert type(came) is kind
    assert came.reason is reason
    if isinstance(came, Approved):
        order = came.order
        # A sale is rounded up to the lot: float64 noise may add one.
        assert 0.0 <= abs(order.quantity) - abs(quantity) <= 0.0001001
        assert order.side is (Side.BUY if quantity > 0.0 else Side.SELL)
        assert (order.client_id, order.symbol, order.reason) == ("s-1", BTC, reason.value)
        assert (order.reference_price, order.decided_ms) == (100.0, HOUR_MS)
        assert (order.kind, order.reduces) == (OrderKind.MARKET, order.side is Side.SELL)


def test_every_reason_to_decide_is_a_reason_of_a_verdict() -> None:
    assert {reason.value for reason in DecisionReason} <= {reason.value for reason in VerdictReason}


# ---- what lowers risk is never refused --------------------------------------------------------------------------
BLOCKING = {
    "reducing": REDUCING,
    "paused": replace(ACTIVE, is_paused=True),
    "stale": replace(ACTIVE, is_stale=True),
    "skewed": replace(ACTIVE, is_skewed=True),
    "drifted": replace(ACTIVE, is_drifted=True),
    "stopped": blocked(VerdictReason.STOP_COOLDOWN),
    "streak": blocked(VerdictReason.LOSS_STREAK),
    "orders": replace(ACTIVE, orders_today=1_000),
    "turnover": replace(ACTIVE, turnover_today=1e9),
    "fallen": FALLEN,
    "halted": HALTED,
    "everything": replace(HALTED, is_paused=True, is_stale=True, is_skewed=True, orders_today=99, turnover_today=1e9),
}


@pytest.mark.parametrize("state", BLOCKING.values(), ids=BLOCKING)
def test_no_state_that_refuses_a_purchase_refuses_a_sale(state: RiskState) -> None:
    assert isinstance(verdict(RICH, 0.3, state, distance=99.0), Refused)
    for sale in (
        verdict(HOLDER, 0.0, state, distance=99.0, cash=0.0),
        verdict(HOLDER, None, state, distance=99.0, cash=0.0, stop=100.0),
        assess(wanted(HOLDER, 0.0, DecisionReason.OPERATOR), situation(HOLDER, state, distance=99.0, cash=0.0)),
    ):
        assert isinstance(sale, Approved)
        assert (sale.order.side, sale.order.quantity) == (Side.SELL, 40.0)


def test_at_the_edge_of_what_training_saw_a_purchase_is_allowed() -> None:
    assert isinstance(verdict(RICH, 0.3, distance=1.5), Approved)


@pytest.mark.parametrize("target", [0.0, 0.2, None])
def test_a_sale_waits_for_an_order_in_flight_forced_or_not(target: float | None) -> None:
    for state in (ACTIVE, FALLEN, replace(ACTIVE, is_flattening=True)):
        came = verdict(HOLDER, target, state, is_in_flight=True)
        free = verdict(HOLDER, target, state)
        assert isinstance(came, Hold)
        assert came.reason is (VerdictReason.ORDER_IN_FLIGHT if isinstance(free, Approved) else free.reason)


def test_what_is_refused_anyway_keeps_its_own_reason_while_an_order_is_in_flight() -> None:
    came = verdict(RICH, 0.3, HALTED, is_in_flight=True)
    assert (type(came), came.reason) == (Refused, VerdictReason.HALTED)


def test_a_closed_market_and_a_halted_symbol_refuse_purchases_there_alone_and_no_sale() -> None:
    both = replace(ACTIVE, symbols={BTC: SymbolRisk(), ETH: SymbolRisk()})
    closed = risk.with_closed(both, [ETH])
    assert closed.closed == {ETH}
    assert risk.with_closed(closed, [BTC]).closed == {BTC}
    assert isinstance(verdict(RICH, 0.3, closed), Approved)
    state = risk.with_closed(risk.halted(both, BTC), [BTC])
    assert verdict(RICH, 0.3, state).reason is VerdictReason.VENUE_CLOSED
    assert isinstance(verdict(HOLDER, 0.1, state), Approved)


def test_only_a_person_resumes_a_halted_symbol() -> None:
    state = replace(risk.halted(HALTED, BTC), halted_ms=0)
    cooled = risk.review(replace(LIMITS, halt_cooldown=1), state, RICH, 10 * HOUR_MS, HOUR_MS, is_flat=True).state
    assert cooled.state is TradingState.ACTIVE
    assert cooled.symbols[BTC].is_halted
    assert not risk.resume(cooled, RICH).state.symbols[BTC].is_halted


@pytest.mark.parametrize("quantity", [0.00009, 40.00009])
def test_less_than_a_lot_beside_what_is_held_is_not_sold(quantity: float) -> None:
    came = verdict(account(6_000.0, quantity), 0.0, FALLEN)
    if quantity < 1.0:
        assert (type(came), came.reason) == (Hold, VerdictReason.MINIMUM_NOTIONAL)
    else:
        assert isinstance(came, Approved)
        assert came.order.quantity == 40.0


def test_at_a_venue_without_a_minimum_less_than_a_lot_is_nothing_either() -> None:
    free = replace(INSTRUMENT, min_notional=0.0)
    came = verdict(account(6_000.0, 0.00009), 0.0, FALLEN, instrument=free)
    assert (type(came), came.reason) == (Hold, VerdictReason.MINIMUM_NOTIONAL)
    # And it does not keep from buying.
    assert isinstance(verdict(account(6_000.0, 0.00009), 0.3, instrument=free), Approved)


def test_a_block_ends_with_its_time() -> None:
    state = blocked(VerdictReason.STOP_COOLDOWN)
    assert isinstance(verdict(RICH, 0.3, state, now_ms=HOUR_MS), Refused)
    assert isinstance(verdict(RICH, 0.3, state, now_ms=HOUR_MS + 1), Approved)


def test_a_price_one_tick_above_the_stop_is_no_stop() -> None:
    assert isinstance(verdict(HOLDER, None, stop=99.99), Hold)


def test_a_person_who_flattens_sells_what_is_held_at_every_candle_until_resumed() -> None:
    flattening = replace(ACTIVE, is_paused=True, is_flattening=True)
    for target in (None, 0.1, 0.5):
        sale = verdict(HOLDER, target, flattening)
        assert isinstance(sale, Approved)
        assert (sale.reason, sale.order.quantity) == (VerdictReason.OPERATOR, 40.0)


# ---- how much ---------------------------------------------------------------------------------------------------
def sold(came: Verdict) -> float:
    assert isinstance(came, Approved)
    assert came.order.side is Side.SELL
    return came.order.quantity


@pytest.mark.parametrize(
    ("target", "quantity", "reason"),
    [
        (None, 30.0, VerdictReason.MAX_POSITION_EXCEEDED),
        (0.9, 30.0, VerdictReason.MAX_POSITION_EXCEEDED),
        (0.6, 30.0, VerdictReason.MAX_POSITION_EXCEEDED),
        (0.5, 30.0, VerdictReason.MAX_POSITION_EXCEEDED),
        (0.4, 40.0, VerdictReason.VOTED),
        (0.0, 80.0, VerdictReason.VOTED),
    ],
)
def test_above_the_position_limit_it_is_cut_down_to_the_limit_or_to_a_lower_vote(
    target: float | None, quantity: float, reason: VerdictReason
) -> None:
    came = verdict(account(2_000.0, 80.0), target)
    assert (sold(came), came.reason) == (pytest.approx(quantity, abs=2e-4), reason)


def test_exactly_at_the_position_limit_nothing_is_cut() -> None:
    assert isinstance(verdict(account(5_000.0, 50.0), None), Hold)


def test_a_purchase_never_targets_more_than_the_position_limit() -> None:
    came = verdict(RICH, 0.9)
    assert isinstance(came, Approved)
    assert came.order.quantity == 50.0


def test_a_purchase_is_rounded_down_and_a_sale_up_to_the_lot() -> None:
    portfolio = account(7_000.0, 10.0, 300.0)  # equity 10,000, exposure 0.3
    bought = verdict(portfolio, 0.4)
    assert isinstance(bought, Approved)
    assert bought.order.quantity == 3.3333
    assert sold(verdict(portfolio, 0.2)) == 3.3334


def test_the_turnover_budget_shrinks_and_then_refuses() -> None:
    some = verdict(RICH, 0.3, replace(ACTIVE, turnover_today=39_000.0))  # 1,000 of 4 x 10,000 are left
    assert isinstance(some, Approved)
    assert (some.order.quantity, some.reason) == (10.0, VerdictReason.TURNOVER_BUDGET)
    for used in (39_996.0, 40_000.0, 50_000.0):
        assert verdict(RICH, 0.3, replace(ACTIVE, turnover_today=used)).reason is VerdictReason.TURNOVER_BUDGET
        assert isinstance(verdict(RICH, 0.3, replace(ACTIVE, turnover_today=used)), Refused)


@pytest.mark.parametrize("cash", [4.0, 0.0, -1.0])
def test_too_little_cash_refuses(cash: float) -> None:
    came = verdict(RICH, 0.3, cash=cash)
    assert (type(came), came.reason) == (Refused, VerdictReason.INSUFFICIENT_CASH)


def test_the_last_order_of_the_day_is_allowed() -> None:
    assert isinstance(verdict(RICH, 0.3, replace(ACTIVE, orders_today=47)), Approved)


def test_dust_is_not_sold_but_named() -> None:
    came = verdict(account(10_000.0, 0.04), 0.0)
    assert (type(came), came.reason) == (Hold, VerdictReason.MINIMUM_NOTIONAL)


def test_a_sale_is_raised_to_the_minimum_of_the_venue() -> None:
    portfolio = account(9_000.0, 10.0)
    assert sold(verdict(portfolio, 0.0999)) == 0.05  # 1 is too little, 5 is sold


def test_a_sale_that_would_leave_dust_sells_everything() -> None:
    assert sold(verdict(account(9_992.0, 0.08), 0.0004)) == 0.08


def test_a_venue_without_a_minimum_takes_any_lot() -> None:
    free = Instrument(symbol=BTC, tick=0.01, lot=0.0001, min_notional=0.0)
    assert sold(verdict(account(10_000.0, 0.0001), 0.0, instrument=free)) == 0.0001


# ---- the account as a whole -------------------------------------------------------------------------------------
def marked(equity: float, *, peak: float = 10_000.0, day_start: float = 10_000.0, day: int = 0) -> Portfolio:
    """Return an account that holds something and is worth `equity`."""
    return replace(account(1_000.0, 90.0), equity=equity, peak=peak, day_start=day_start, day=day)


def review(state: RiskState, portfolio: Portfolio, at: int = 1, *, is_flat: bool = False, **limits: Any) -> Review:
    return risk.review(replace(LIMITS, **limits), state, portfolio, at * HOUR_MS, HOUR_MS, is_flat=is_flat)


SEEN = replace(ACTIVE, day=0)


def test_within_the_limits_nothing_changes() -> None:
    assert review(SEEN, marked(9_700.0)) == Review(state=SEEN, portfolio=marked(9_700.0))


@pytest.mark.parametrize(("equity", "state"), [(8_500.01, TradingState.ACTIVE), (8_500.0, TradingState.REDUCING)])
def test_the_drawdown_limit_is_reached_at_15_percent(equity: float, state: TradingState) -> None:
    came = review(SEEN, marked(equity, day_start=equity)).state
    assert came.state is state
    assert (came.reason is VerdictReason.MAX_DRAWDOWN_EXCEEDED) == (state is TradingState.REDUCING)


def test_drawdown_reduces_until_flat_then_halts_even_when_the_price_recovers() -> None:
    fallen = review(SEEN, marked(8_400.0), at=1)
    assert fallen.state.state is TradingState.REDUCING
    recovered = review(fallen.state, marked(9_990.0), at=2)
    assert recovered.state.state is TradingState.REDUCING
    halted = review(recovered.state, marked(9_990.0), at=3, is_flat=True)
    assert (halted.state.state, halted.state.halted_ms) == (TradingState.HALTED, 3 * HOUR_MS)
    assert halted.state.reason is VerdictReason.MAX_DRAWDOWN_EXCEEDED
    assert halted.portfolio.peak == 10_000.0


def test_an_account_that_is_flat_when_it_has_fallen_halts_at_once() -> None:
    assert review(SEEN, marked(8_400.0), is_flat=True).state.state is TradingState.HALTED


@pytest.mark.fault(48)
def test_a_halt_outlives_days_prices_and_a_journal_until_the_cool_down_restarts_the_peak() -> None:
    state = review(SEEN, marked(8_400.0), at=10, is_flat=True).state
    for at, equity, day in [(11, 20_000.0, 0), (34, 8_400.0, 1), (177, 8_400.0, 7)]:
        state = RiskState.from_json(json.loads(json.dumps(state.to_json(), sort_keys=True)), [BTC])
        came = review(state, marked(equity, day=day), at=at, is_flat=True)
        assert came.state.state is TradingState.HALTED
        assert came.portfolio.peak == 10_000.0
        state = came.state
    resumed = review(state, marked(8_400.0, day=7), at=178, is_flat=True)  # 168 candles after candle 10
    assert (resumed.state.state, resumed.state.reason, resumed.state.halted_ms) == (TradingState.ACTIVE, None, 0)
    assert resumed.portfolio.peak == 8_400.0


def test_without_a_cool_down_only_a_person_resumes_a_halt() -> None:
    halted = replace(HALTED, day=0, halted_ms=HOUR_MS)
    assert review(halted, marked(8_400.0), at=10**6, is_flat=True, halt_cooldown=0).state == halted
    resumed = risk.resume(halted, marked(8_400.0))
    assert resumed.state == replace(ACTIVE, day=0)
    assert (resumed.portfolio.peak, resumed.portfolio.drawdown) == (8_400.0, 0.0)


def test_a_person_resumes_also_what_a_person_paused_or_flattened() -> None:
    world = {"is_stale": True, "is_skewed": True, "is_drifted": True}
    paused = replace(HALTED, is_paused=True, is_flattening=True, **world)
    assert risk.resume(paused, marked(8_400.0)).state == replace(ACTIVE, **world)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, VerdictReason.DRIFT),
        ({"is_stale": True}, VerdictReason.STALE_FEED),
        ({"is_skewed": True}, VerdictReason.CLOCK_SKEW),
        ({"is_paused": True}, VerdictReason.PAUSED),
        ({"symbols": risk.halted(ACTIVE, BTC).symbols}, VerdictReason.DRIFT),
        ({"orders_today": 99}, VerdictReason.DRIFT),
    ],
    ids=["alone", "silent", "skewed", "paused", "halted symbol", "orders"],
)
def test_a_drifted_market_is_named_after_the_feed_and_before_what_concerns_less(
    changes: dict[str, Any], reason: VerdictReason
) -> None:
    state = replace(ACTIVE, is_drifted=True, **changes)
    assert risk.refusal(LIMITS, state, RICH, BTC, HOUR_MS) is reason


def test_the_cool_down_of_a_halt_does_not_resume_what_a_person_paused() -> None:
    halted = replace(HALTED, day=0, halted_ms=HOUR_MS, is_paused=True, is_flattening=True)
    came = review(halted, marked(8_400.0), at=10**6, is_flat=True).state
    assert (came.state, came.is_paused, came.is_flattening) == (TradingState.ACTIVE, True, True)


@pytest.mark.parametrize(("equity", "state"), [(9_600.01, TradingState.ACTIVE), (9_600.0, TradingState.REDUCING)])
def test_the_daily_loss_limit_is_reached_at_4_percent(equity: float, state: TradingState) -> None:
    came = review(SEEN, marked(equity)).state
    assert (came.state, came.reason) == (
        state,
        None if state is TradingState.ACTIVE else VerdictReason.DAILY_LOSS_LIMIT,
    )


def test_a_daily_loss_reduces_until_the_next_day_whatever_the_price_does() -> None:
    state = review(SEEN, marked(9_500.0)).state
    state = review(state, marked(10_500.0), at=2).state
    assert (state.state, state.reason) == (TradingState.REDUCING, VerdictReason.DAILY_LOSS_LIMIT)
    after = review(state, marked(9_500.0, day=1, day_start=9_500.0), at=25).state
    assert (after.state, after.reason) == (TradingState.ACTIVE, None)


def test_resuming_by_hand_does_not_lift_the_daily_loss_limit() -> None:
    state = review(SEEN, marked(9_500.0)).state
    resumed = risk.resume(state, marked(9_500.0))
    assert review(resumed.state, resumed.portfolio, at=2).state.reason is VerdictReason.DAILY_LOSS_LIMIT


def test_a_drawdown_on_a_day_of_losses_is_not_forgotten_at_midnight() -> None:
    state = review(review(SEEN, marked(9_500.0)).state, marked(8_400.0), at=2).state
    assert state.reason is VerdictReason.MAX_DRAWDOWN_EXCEEDED
    assert review(state, marked(9_000.0, day=1), at=25).state.state is TradingState.REDUCING


def test_orders_and_turnover_are_counted_per_day() -> None:
    came = verdict(RICH, 0.3)
    assert isinstance(came, Approved)
    state = risk.after_order(risk.after_order(SEEN, came.order), came.order)
    assert (state.orders_today, state.turnover_today) == (2, 6_000.0)
    assert review(state, marked(9_900.0)).state == state
    after = review(state, marked(9_900.0, day=1)).state
    assert (after.day, after.orders_today, after.turnover_today) == (1, 0, 0.0)


def test_a_stop_that_fills_counts_against_the_day_it_happened_on() -> None:
    def stopped(state: RiskState, day: int, hour: int) -> RiskState:
        at_ms = (24 * day + hour) * HOUR_MS
        return risk.after_stop_fill(LIMITS, state, BTC, notional=950.0, day=day, at_ms=at_ms, span_ms=HOUR_MS)

    state = stopped(replace(SEEN, orders_today=3, turnover_today=2_000.0), 0, 5)
    assert (state.day, state.orders_today, state.turnover_today) == (0, 4, 2_950.0)
    losing = replace(state, state=TradingState.REDUCING, reason=VerdictReason.DAILY_LOSS_LIMIT)
    fresh = stopped(losing, 1, 0)  # in the first candle of the next day, before its close is marked
    assert (fresh.day, fresh.orders_today, fresh.turnover_today) == (1, 1, 950.0)
    assert (fresh.state, fresh.reason) == (TradingState.ACTIVE, None)
    kept = review(fresh, marked(9_900.0, day=1), at=25).state
    assert (kept.orders_today, kept.turnover_today) == (1, 950.0)


# ---- losing streaks and stops -----------------------------------------------------------------------------------
def closed(state: RiskState, at: int, *, won: bool, stopped: bool = False, symbol: str = BTC) -> RiskState:
    """Return the state after a position was closed at the open of candle number `at`."""
    if stopped:
        state = risk.after_stop_fill(
            LIMITS, state, symbol, notional=95.0, day=state.day, at_ms=at * HOUR_MS, span_ms=HOUR_MS
        )
    return risk.after_round_trip(LIMITS, state, symbol, won=won, at_ms=at * HOUR_MS, span_ms=HOUR_MS)


def test_five_losses_in_a_row_block_the_symbol_for_24_candles() -> None:
    state = replace(ACTIVE, symbols={BTC: SymbolRisk(), ETH: SymbolRisk()})
    for at in range(4):
        state = closed(state, at, won=False)
        assert state.symbols[BTC] == SymbolRisk(loss_streak=at + 1)
    state = closed(state, 4, won=False)
    assert state.symbols[BTC] == SymbolRisk(
        loss_streak=0, blocked_until_ms=29 * HOUR_MS, blocked_by=VerdictReason.LOSS_STREAK
    )
    assert state.symbols[ETH] == SymbolRisk()


def test_a_win_breaks_the_streak() -> None:
    state = ACTIVE
    for at, won in enumerate([False] * 4 + [True] + [False] * 4):
        state = closed(state, at, won=won)
    assert state.symbols[BTC] == SymbolRisk(loss_streak=4)


@pytest.mark.parametrize("won", [True, False])
def test_a_stop_blocks_the_symbol_for_12_candles_won_or_lost(*, won: bool) -> None:
    known = closed(ACTIVE, 100, won=won, stopped=True).symbols[BTC]
    assert (known.blocked_until_ms, known.blocked_by) == (113 * HOUR_MS, VerdictReason.STOP_COOLDOWN)
    assert risk.after_stop(LIMITS, ACTIVE, BTC, 100 * HOUR_MS, HOUR_MS).symbols[BTC] == replace(known, loss_streak=0)


def test_the_longer_of_two_blocks_holds() -> None:
    state = replace(ACTIVE, symbols={BTC: SymbolRisk(loss_streak=4)})
    state = closed(state, 100, won=False, stopped=True)  # streak until 125, stop until 113
    assert state.symbols[BTC].blocked_until_ms == 125 * HOUR_MS
    assert state.symbols[BTC].blocked_by is VerdictReason.LOSS_STREAK
    again = closed(state, 101, won=True, stopped=True).symbols[BTC]  # until 114: shorter than what holds
    assert (again.blocked_until_ms, again.blocked_by) == (125 * HOUR_MS, VerdictReason.LOSS_STREAK)


# ---- memory -----------------------------------------------------------------------------------------------------
_states = st.builds(
    RiskState,
    symbols=st.fixed_dictionaries(
        {
            symbol: st.builds(
                SymbolRisk,
                loss_streak=st.integers(0, 9),
                blocked_until_ms=st.integers(0, 10**13),
                blocked_by=st.sampled_from(VerdictReason),
            )
            for symbol in (ETH, BTC)
        }
    ),
    state=st.sampled_from(TradingState),
    reason=st.none() | st.sampled_from(VerdictReason),
    halted_ms=st.integers(0, 10**13),
    is_paused=st.booleans(),
    is_flattening=st.booleans(),
    is_stale=st.booleans(),
    is_skewed=st.booleans(),
    is_cut_off=st.booleans(),
    is_drifted=st.booleans(),
    day=st.integers(-1, 10**5),
    orders_today=st.integers(0, 100),
    turnover_today=st.floats(0.0, 1e12),
)


@given(_states)
def test_a_state_read_back_from_json_is_the_same(state: RiskState) -> None:
    again = RiskState.from_json(json.loads(json.dumps(state.to_json(), sort_keys=True)), [ETH, BTC])
    assert again == state
    assert type(again.state) is TradingState
    assert list(again.symbols) == [ETH, BTC]


@pytest.mark.parametrize("key", sorted(ACTIVE.to_json()))
@pytest.mark.parametrize("bad", [1.5, "nonsense", [], {}, math.nan, "missing"], ids=repr)
def test_a_stored_state_with_a_broken_field_is_refused(key: str, bad: object) -> None:
    if (key, bad) == ("turnover_today", 1.5):
        return  # a turnover it can be
    stored = json.loads(json.dumps(ACTIVE.to_json()))
    if bad == "missing":
        del stored[key]
    else:
        stored[key] = bad
    with pytest.raises(BadState, match="stored"):
        RiskState.from_json(stored, [BTC])


@pytest.mark.parametrize(
    "broken",
    [
        {"loss_streak": 1.5},
        {"loss_streak": None},
        {"blocked_until_ms": "soon"},
        {"blocked_by": "weather"},
        {"blocked_by": None},
        {"is_halted": 1},
        {"is_closed": None},
        {"more": 1},
    ],
)
def test_a_stored_symbol_with_a_broken_field_is_refused(broken: dict[str, Any]) -> None:
    stored = json.loads(json.dumps(ACTIVE.to_json()))
    stored["symbols"][BTC] |= broken
    with pytest.raises(BadState, match="stored"):
        RiskState.from_json(stored, [BTC])


@pytest.mark.parametrize("values", [None, [], "x", {}])
def test_a_state_stored_by_something_else_is_refused(values: Any) -> None:
    with pytest.raises(BadState, match="stored"):
        RiskState.from_json(values, [BTC])
    with pytest.raises(BadState, match=r"not \['BTC/USDT', 'ETH/USDT'\]"):
        RiskState.from_json(ACTIVE.to_json(), [BTC, ETH])


# ---- whatever the situation -------------------------------------------------------------------------------------
_accounts = st.builds(
    account,
    st.integers(0, 10**9).map(lambda cents: cents / 100),
    st.integers(0, 10**8).map(lambda lots: lots / 10_000),
    st.integers(1, 10**8).map(lambda ticks: ticks / 100),
).filter(lambda portfolio: portfolio.equity > 0.0)
_any_state = st.builds(
    replace,
    st.just(ACTIVE),
    symbols=st.builds(
        lambda until, by: {BTC: SymbolRisk(blocked_until_ms=until, blocked_by=by)},
        st.sampled_from([0, 10**13]),
        st.sampled_from([VerdictReason.STOP_COOLDOWN, VerdictReason.LOSS_STREAK]),
    ),
    is_paused=st.booleans(),
    is_stale=st.booleans(),
    is_skewed=st.booleans(),
    is_drifted=st.booleans(),
    is_flattening=st.booleans(),
    orders_today=st.integers(0, 60),
    turnover_today=st.floats(0.0, 1e9),
).flatmap(
    lambda state: st.sampled_from(
        [state, *(replace(state, state=s.state, reason=s.reason) for s in (REDUCING, FALLEN, HALTED))]
    )
)
_shares = st.floats(0.0, 1.0)
_minimums = st.sampled_from([0.0, 5.0, 100.0])


def _instrument(minimum: float) -> Instrument:
    return Instrument(symbol=BTC, tick=0.01, lot=0.0001, min_notional=minimum)


@given(_accounts, _shares, st.floats(0.001, 1.0), st.tuples(_shares, st.floats(0.0, 1e6)), _minimums)
def test_an_approved_purchase_keeps_every_limit(
    portfolio: Portfolio, target: float, limit: float, used: tuple[float, float], minimum: float
) -> None:
    (cash_share, turnover), limits = used, replace(LIMITS, max_position=limit)
    cash = portfolio.cash * cash_share
    state, instrument = replace(ACTIVE, turnover_today=turnover), _instrument(minimum)
    came = verdict(portfolio, target, state, limits=limits, cash=cash, instrument=instrument)
    if not isinstance(came, Approved) or came.order.side is Side.SELL:
        return
    order, mark = came.order, portfolio.positions[BTC].mark
    exposure = (portfolio.positions[BTC].quantity + order.quantity) * mark / portfolio.equity
    assert exposure <= min(limit, target) * (1 + 1e-9)
    assert order.quantity * mark * 1.0005 * 1.001 <= cash * (1 + 1e-9)  # at least slippage and fee on top
    assert order.notional >= minimum
    assert turnover + order.notional <= 4.0 * portfolio.equity * (1 + 1e-9)
    assert order.quantity == instrument.nearest_quantity(order.quantity)


@given(_accounts, _shares, _any_state, st.floats(0.0, 10.0), _minimums)
def test_what_lowers_risk_is_never_refused(
    portfolio: Portfolio, share: float, state: RiskState, distance: float, minimum: float
) -> None:
    position, exposure = portfolio.positions[BTC], portfolio.exposure(BTC)
    target = exposure * share
    if position.quantity <= 0.0 or position.value < minimum or target >= exposure:
        return
    came = verdict(portfolio, target, state, distance=distance, cash=0.0, instrument=_instrument(minimum))
    assert isinstance(came, Approved)
    order = came.order
    assert order.side is Side.SELL
    assert order.quantity <= position.quantity
    assert order.notional >= minimum * (1 - 1e-12)
    rest = position.quantity - order.quantity
    assert rest == 0.0 or rest * position.mark >= minimum
    assert rest * position.mark / portfolio.equity <= target * (1 + 1e-9)


@given(_accounts, st.none() | _shares, _any_state, st.sampled_from(["stop", "flatten", "drawdown"]), _minimums)
def test_a_broken_limit_sells_the_whole_position_in_every_state(
    portfolio: Portfolio, target: float | None, state: RiskState, why: str, minimum: float
) -> None:
    position = portfolio.positions[BTC]
    if position.quantity <= 0.0 or position.value < minimum:
        return
    stop = position.mark if why == "stop" else None
    if why == "flatten":
        state = replace(state, is_flattening=True)
    if why == "drawdown":
        state = replace(state, state=TradingState.REDUCING, reason=VerdictReason.MAX_DRAWDOWN_EXCEEDED)
    came = verdict(portfolio, target, state, stop=stop, cash=0.0, instrument=_instrument(minimum))
    assert isinstance(came, Approved)
    assert (came.order.side, came.order.quantity) == (Side.SELL, position.quantity)


@given(_accounts, _shares, _any_state.filter(lambda s: risk.refusal(LIMITS, s, RICH, BTC, HOUR_MS) is not None))
def test_a_state_that_refuses_lets_no_exposure_rise(portfolio: Portfolio, target: float, state: RiskState) -> None:
    state = replace(state, turnover_today=1e18) if state.turnover_today >= 4.0 * RICH.equity else state
    came = verdict(portfolio, target, state)
    assert not (isinstance(came, Approved) and came.order.side is Side.BUY)
