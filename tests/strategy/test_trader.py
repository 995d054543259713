"""The pure half of the main path: what it does with candles, fills, prices and a person's wishes, step by step."""

import json
from collections.abc import Sequence
from dataclasses import replace
from decimal import ROUND_FLOOR, Decimal
from typing import Any

import numpy as np
import pytest

from strategy.candle import Candle
from strategy.errors import BadState, InvalidInstrument
from strategy.features import N_FEATURES
from strategy.instrument import Instrument
from strategy.observation import PORTFOLIO_NAMES
from strategy.order import Fill, Order, OrderKind, OrderState, OrderStatus, Side
from strategy.parameters import CostModel, RiskLimits, StrategyParameters
from strategy.risk import Approved, Hold, Refused, TradingState, VerdictReason
from strategy.trader import Outcome, Reference, Setup, Trader
from tests.fakes.rows import Rows
from tests.fakes.trading import BTC, ETH, HOUR_MS, Constant, candle, setup

BUY = Constant((1.0, 1.0, 1.0))
SELL = Constant((-1.0, 1.0, 1.0))
HOLD = Constant((0.0, 0.0, 0.0))
SOL = "SOL/USDT"


def make(symbols: Sequence[str] = (BTC,), cash: float = 10_000.0, **changes: Any) -> Trader:
    """Return a trader that sees a row on every candle, and lets volatility cap nothing."""
    values = {"volatility_target": 10.0, "edge_multiple": 0.0} | changes
    return Trader(setup(symbols, **values), {symbol: Rows() for symbol in symbols}, cash, changes.get("reference"))


def filled(
    trader: Trader, order: Order, price: float | None = None, quantity: float | None = None, at_ms: int = 0
) -> Order | None:
    """Let `order` fill without fee; returns the stop that is needed from there on."""
    return trader.on_fill(
        Fill(
            fill_id=f"{order.client_id}.1",
            client_id=order.client_id,
            symbol=order.symbol,
            side=order.side,
            quantity=order.quantity if quantity is None else quantity,
            price=order.reference_price if price is None else price,
            fee=0.0,
            at_ms=at_ms,
            reference_price=order.reference_price,
        ),
        is_stop=order.kind is OrderKind.STOP,
    )


def ordered(outcome: Outcome) -> Order:
    assert isinstance(outcome.verdict, Approved)
    return outcome.verdict.order


def holding(symbols: Sequence[str] = (BTC,), cash: float = 10_000.0, **changes: Any) -> Trader:
    """Return a trader that bought all it may of every symbol at 100."""
    trader = make(symbols, cash, **changes)
    for outcome in trader.on_candles([candle(symbol) for symbol in symbols], BUY):
        filled(trader, ordered(outcome))
    return trader


def state_of(trader: Trader) -> str:
    return json.dumps(trader.state())


# ---- a candle ---------------------------------------------------------------------------------------------------
def test_a_candle_is_marked_seen_voted_on_and_becomes_an_order() -> None:
    trader = make()
    (outcome,) = trader.on_candles([candle()], BUY)
    order = ordered(outcome)
    assert (order.side, order.quantity, order.reference_price) == (Side.BUY, 50.0, 100.0)  # half of 10,000 at 100
    assert (order.decided_ms, order.kind, order.reduces) == (HOUR_MS, OrderKind.MARKET, False)
    assert outcome.votes is not None
    assert outcome.votes.tolist() == [[1.0, 1.0, 1.0]]
    assert outcome.stop is None
    assert (trader.risk.orders_today, trader.risk.turnover_today) == (1, 5_000.0)
    assert trader.portfolio.positions[BTC].mark == 100.0


def test_without_a_row_nobody_votes_and_the_risk_manager_still_sees_the_candle() -> None:
    trader = Trader(setup(), {BTC: Rows(missing=99)}, 10_000.0)
    (outcome,) = trader.on_candles([candle()], BUY)
    assert (outcome.votes, outcome.sight.observation) == (None, None)
    assert (type(outcome.verdict), outcome.verdict.reason) == (Hold, VerdictReason.WARMING_UP)
    bought = Order(
        client_id="x",
        symbol=BTC,
        side=Side.BUY,
        quantity=50.0,
        reference_price=100.0,
        decided_ms=0,
        reason="voted",
        reduces=False,
    )
    stop = filled(trader, bought)
    assert stop is not None
    assert stop.stop_price == 95.0
    (outcome,) = trader.on_candles([candle(at=1, close=90.0)], BUY)
    assert outcome.verdict.reason is VerdictReason.STOP_LOSS_TRIGGERED
    assert ordered(outcome).quantity == 50.0


@pytest.mark.fault(57)
def test_the_distance_from_training_is_measured_and_refuses_purchases_only() -> None:
    mean = [0.0] * N_FEATURES
    reference = Reference.of(mean, [1.0] * N_FEATURES, 0.001)  # the first entry of a row is close / 1,000: far beyond
    (outcome,) = make(reference=reference).on_candles([candle()], BUY)
    assert outcome.sight.distance == pytest.approx(0.1 / N_FEATURES**0.5 / 0.001)
    assert outcome.verdict.reason is VerdictReason.OUT_OF_DISTRIBUTION
    trader = holding()
    trader.begin(trader.setup, reference)
    (outcome,) = trader.on_candles([candle(at=1)], SELL)
    assert ordered(outcome).side is Side.SELL


def test_the_observation_says_whether_risk_would_let_exposure_rise() -> None:
    trader = make()
    (free,) = trader.on_candles([candle()], HOLD)
    trader.pause()
    (paused,) = trader.on_candles([candle(at=1)], HOLD)
    assert free.sight.observation is not None
    assert paused.sight.observation is not None
    assert (free.sight.observation[-1], paused.sight.observation[-1]) == (1.0, 0.0)


# ---- stops ------------------------------------------------------------------------------------------------------
def test_a_fill_brings_exactly_one_stop_for_all_that_is_held() -> None:
    trader = make(stop_atr_multiple=0.0)
    (outcome,) = trader.on_candles([candle()], BUY)
    first = filled(trader, ordered(outcome), quantity=20.0)
    second = filled(trader, ordered(outcome), price=110.0, quantity=30.0)
    assert first is not None
    assert second is not None
    assert (first.kind, first.side, first.quantity, first.stop_price) == (OrderKind.STOP, Side.SELL, 20.0, 95.0)
    # Average (2,000 + 3,300) / 50 = 106, less 5 %.
    assert (second.quantity, second.stop_price) == (50.0, pytest.approx(100.7, abs=0.0101))
    assert len({ordered(outcome).client_id, first.client_id, second.client_id}) == 3
    assert trader.stops == {BTC: second}


def test_a_stop_follows_the_high_and_never_falls() -> None:
    trader = holding()  # 8 average ranges of 1 % below the high, or 5 % below the entry
    prices = []
    for at, close in enumerate([100.0, 110.0, 130.0, 125.0, 122.0], start=1):
        (outcome,) = trader.on_candles([candle(at=at, close=close)], HOLD)
        assert outcome.stop is not None
        prices.append(outcome.stop.stop_price)
    assert prices == [95.0, 101.2, 119.6, 119.6, 119.6]


def test_a_stop_that_stays_where_it_is_keeps_its_id() -> None:
    trader = holding()
    (one,) = trader.on_candles([candle(at=1)], HOLD)
    (two,) = trader.on_candles([candle(at=2)], HOLD)
    assert one.stop == two.stop


def test_a_position_that_is_closed_has_no_stop_and_the_next_one_starts_afresh() -> None:
    trader = holding()
    trader.on_candles([candle(at=1, close=130.0)], HOLD)
    assert filled(trader, ordered_sale(trader)) is None
    assert trader.stops == {BTC: None}
    (outcome,) = trader.on_candles([candle(at=2, close=80.0)], BUY)
    stop = filled(trader, ordered(outcome))
    assert stop is not None
    assert stop.stop_price == 76.0  # not the 119.6 of before


def test_a_stop_that_fills_starts_the_cool_down_and_counts_the_loss() -> None:
    trader = holding()
    stop = trader.stops[BTC]
    assert stop is not None
    assert filled(trader, stop, price=95.0, at_ms=10 * HOUR_MS) is None
    assert (trader.portfolio.wins, trader.portfolio.losses) == (0, 1)
    known = trader.risk.symbols[BTC]
    assert (known.loss_streak, known.blocked_until_ms) == (1, 23 * HOUR_MS)
    (refused,) = trader.on_candles([candle(at=21)], BUY)  # closes at 22 h: the 12th since the close at 11 h
    assert (type(refused.verdict), refused.verdict.reason) == (Refused, VerdictReason.STOP_COOLDOWN)
    (allowed,) = trader.on_candles([candle(at=22)], BUY)
    assert isinstance(allowed.verdict, Approved)


def refusals(trader: Trader, first: int) -> list[VerdictReason]:
    """Return why decisions from candle number `first` on were refused, until one is approved."""
    reasons = []
    for at in range(first, first + 30):
        (outcome,) = trader.on_candles([candle(at=at)], BUY)
        if isinstance(outcome.verdict, Approved):
            return reasons
        assert isinstance(outcome.verdict, Refused)
        reasons.append(outcome.verdict.reason)
    raise AssertionError("nothing was approved again")


@pytest.mark.parametrize("past_open_ms", [0, 1, HOUR_MS // 2, HOUR_MS - 1])
@pytest.mark.parametrize("count", [0, 1, 2, 12])
def test_the_cool_down_of_a_stop_refuses_so_many_decisions_from_the_candle_that_hit_it(
    count: int, past_open_ms: int
) -> None:
    trader = holding(stop_cooldown=count)
    stop = trader.stops[BTC]
    assert stop is not None
    filled(trader, stop, price=95.0, at_ms=5 * HOUR_MS + past_open_ms)
    assert refusals(trader, 5) == [VerdictReason.STOP_COOLDOWN] * count


@pytest.mark.parametrize("count", [0, 1, 2, 12])
def test_the_cool_down_of_a_stop_found_at_a_close_refuses_so_many_decisions_after_it(count: int) -> None:
    trader = holding(stop_cooldown=count)
    (outcome,) = trader.on_candles([candle(at=5, close=94.0)], BUY)
    assert outcome.verdict.reason is VerdictReason.STOP_LOSS_TRIGGERED
    filled(trader, ordered(outcome), at_ms=6 * HOUR_MS)  # at the next open, where simulation fills it
    assert refusals(trader, 6) == [VerdictReason.STOP_COOLDOWN] * count


@pytest.mark.parametrize("past_open_ms", [0, HOUR_MS // 2])
@pytest.mark.parametrize("count", [0, 1, 2, 12])
def test_the_cool_down_of_a_losing_streak_refuses_so_many_decisions_from_the_candle_that_lost(
    count: int, past_open_ms: int
) -> None:
    trader = holding(loss_streak=1, loss_streak_cooldown=count)
    sale = ordered(trader.on_candles([candle(at=4, close=99.0)], SELL)[0])
    filled(trader, sale, at_ms=5 * HOUR_MS + past_open_ms)
    assert trader.portfolio.losses == 1
    assert refusals(trader, 5) == [VerdictReason.LOSS_STREAK] * count


def test_a_stop_that_fills_in_part_cools_down_counts_and_is_followed_by_a_stop_for_the_rest() -> None:
    trader = holding(stop_cooldown=2)  # 50 at 100, an order of 5,000
    first = trader.stops[BTC]
    assert first is not None
    rest = filled(trader, first, price=95.0, quantity=20.0, at_ms=5 * HOUR_MS)
    assert rest is not None
    assert (rest.quantity, rest.stop_price) == (30.0, first.stop_price)
    assert rest.client_id != first.client_id
    assert (trader.portfolio.losses, trader.risk.symbols[BTC].blocked_until_ms) == (0, 8 * HOUR_MS)
    assert (trader.risk.orders_today, trader.risk.turnover_today) == (2, 6_900.0)  # and 20 at 95
    assert filled(trader, rest, price=90.0, at_ms=6 * HOUR_MS) is None
    assert (trader.risk.orders_today, trader.risk.turnover_today) == (3, 9_600.0)  # and 30 at 90
    assert (trader.portfolio.losses, trader.risk.symbols[BTC].blocked_until_ms) == (1, 9 * HOUR_MS)


def test_the_fill_of_an_approved_order_is_not_counted_again() -> None:
    trader = holding()
    assert (trader.risk.orders_today, trader.risk.turnover_today) == (1, 5_000.0)


def test_a_stop_found_hit_at_a_close_starts_the_cool_down_too() -> None:
    trader = holding()
    (outcome,) = trader.on_candles([candle(at=1, close=94.0)], HOLD)
    assert outcome.verdict.reason is VerdictReason.STOP_LOSS_TRIGGERED
    filled(trader, ordered(outcome))
    (refused,) = trader.on_candles([candle(at=2, close=94.0)], BUY)
    assert refused.verdict.reason is VerdictReason.STOP_COOLDOWN


# ---- many symbols -----------------------------------------------------------------------------------------------
def test_cash_that_one_symbol_takes_is_not_there_for_the_next() -> None:
    trader = make([BTC, ETH], max_position=1.0)
    first, second = trader.on_candles([candle(BTC), candle(ETH)], BUY)
    assert ordered(first).quantity == 50.0  # all of its half of 10,000
    # 50 x 100.05 and a fee of 0.1 % are spoken for; the rest pays for 100.05 and fee each, cut to the lot.
    each = Decimal("100.05") * Decimal("1.001")
    rest = ((Decimal(10_000) - 50 * each) / each).quantize(Decimal("0.0001"), ROUND_FLOOR)
    assert ordered(second).quantity == float(rest)
    assert second.verdict.reason is VerdictReason.INSUFFICIENT_CASH


def test_a_sale_gives_no_cash_before_it_has_filled() -> None:
    trader = holding([BTC, ETH], max_position=1.0)
    cash = trader.portfolio.cash
    trader.begin(replace(trader.setup, limits=replace(trader.setup.limits, max_position=0.4)), None)
    outcomes = trader.on_candles([candle(BTC, 1), candle(ETH, 1, 10.0)], BUY)
    assert ordered(outcomes[0]).side is Side.SELL  # cut down to 40 %
    assert outcomes[1].verdict.decision.exposure < 0.4
    assert trader.portfolio.cash == cash


def build(symbols: Sequence[str], instruments: Sequence[str]) -> Trader:
    made = setup(instruments, volatility_target=10.0, edge_multiple=0.0, max_position=1.0)
    return Trader(made, {symbol: Rows() for symbol in symbols}, 10_000.3)


def test_results_do_not_depend_on_the_order_in_which_anything_was_built_or_arrived() -> None:
    order = [SOL, BTC, ETH]
    results = []
    for symbols, arrival in [(order, order), (order[::-1], order[::-1]), ([BTC, SOL, ETH], [ETH, SOL, BTC])]:
        trader = build(symbols, order)
        log = []
        for at, close in enumerate([100.1, 33.3, 200.7]):
            group = [candle(symbol, at, close + len(symbol) + i / 3) for i, symbol in enumerate(order)]
            group.sort(key=lambda c, arrival=arrival: arrival.index(c.symbol))  # type: ignore[misc]
            for outcome in trader.on_candles(group, BUY):
                log.append(outcome.verdict)
                if isinstance(outcome.verdict, Approved):
                    filled(trader, outcome.verdict.order)
        results.append((log, state_of(trader)))
    assert results[0] == results[1] == results[2]
    assert [verdict.decision.symbol for verdict in results[0][0][:3]] == order


def test_a_symbol_that_is_missing_from_a_group_is_left_as_it_is() -> None:
    trader = holding([BTC, ETH])
    before = trader.portfolio.positions[ETH], trader.stops[ETH], trader._sequence[ETH]
    outcomes = trader.on_candles([candle(BTC, 1, 120.0)], HOLD)
    assert [outcome.sight.candle.symbol for outcome in outcomes] == [BTC]
    assert (trader.portfolio.positions[ETH], trader.stops[ETH], trader._sequence[ETH]) == before
    assert trader.portfolio.equity == pytest.approx(10_000.0 + 25.0 * 20.0)
    outcomes = trader.on_candles([candle(BTC, 2, 120.0), candle(ETH, 2, 120.0)], HOLD)
    assert len(outcomes) == 2


def test_every_symbol_may_use_an_equal_share() -> None:
    trader = make([BTC, ETH, SOL], cash=9_000.0)
    quantities = [ordered(o).quantity for o in trader.on_candles([candle(s) for s in (BTC, ETH, SOL)], BUY)]
    assert quantities == [15.0, 15.0, 15.0]  # half of 3,000 at 100


def test_an_account_wide_drawdown_sells_every_symbol() -> None:
    trader = holding([BTC, ETH], max_position=1.0, stop_loss=0.9, stop_atr_multiple=0.0)
    outcomes = trader.on_candles([candle(BTC, 1, 60.0), candle(ETH, 1, 100.0)], BUY)
    assert {o.verdict.reason for o in outcomes} == {VerdictReason.MAX_DRAWDOWN_EXCEEDED}
    assert [ordered(o).quantity for o in outcomes] == [trader.portfolio.positions[s].quantity for s in (BTC, ETH)]


def test_a_symbol_the_setup_does_not_know_is_refused() -> None:
    with pytest.raises(InvalidInstrument, match=r"no instrument for ETH/USDT"):
        Trader(setup([BTC]), {BTC: Rows(), ETH: Rows()}, 1_000.0)
    with pytest.raises(InvalidInstrument, match=r"no instrument for ETH/USDT"):
        make([BTC, ETH]).begin(setup([BTC]), None)


# ---- the past ---------------------------------------------------------------------------------------------------
def test_candles_of_the_past_move_the_account_and_decide_nothing() -> None:
    trader = holding()
    orders = trader.risk.orders_today
    trader.warm([candle(at=1, close=110.0)])
    assert trader.portfolio.equity == pytest.approx(10_500.0)
    assert trader.risk.orders_today == orders


def test_candles_of_the_past_can_break_the_drawdown_limit_which_the_next_decision_acts_on() -> None:
    trader = holding(max_position=1.0, stop_loss=0.9, stop_atr_multiple=0.0)
    trader.warm([candle(at=1, close=80.0)])
    assert (trader.risk.state, trader.risk.reason) == (TradingState.REDUCING, VerdictReason.MAX_DRAWDOWN_EXCEEDED)
    trader.warm([candle(at=2, close=100.0)])  # recovered: it stays what it is
    (outcome,) = trader.on_candles([candle(at=3)], BUY)
    assert outcome.verdict.reason is VerdictReason.MAX_DRAWDOWN_EXCEEDED
    filled(trader, ordered(outcome))
    trader.warm([candle(at=4)])
    assert trader.risk.state is TradingState.HALTED


# ---- a price between candles ------------------------------------------------------------------------------------
def risky(symbols: Sequence[str] = (BTC,)) -> Trader:
    return holding(symbols, max_position=1.0, stop_loss=0.9, stop_atr_multiple=0.0)


def test_a_price_that_breaks_nothing_changes_nothing() -> None:
    trader = risky()
    before = state_of(trader)
    for price in (85.3, 100.0, 500.0):
        assert trader.on_price(BTC, price, HOUR_MS + 1) == []
    assert state_of(trader) == before
    assert make().on_price(BTC, 0.01, HOUR_MS) == []


def test_a_price_that_breaks_the_drawdown_limit_sells_everything_once() -> None:
    trader = risky([BTC, ETH])
    held = {symbol: p.quantity for symbol, p in trader.portfolio.positions.items()}
    approved = trader.on_price(BTC, 69.0, HOUR_MS + 1)
    assert {v.order.symbol: v.order.quantity for v in approved} == held
    assert {v.reason for v in approved} == {VerdictReason.MAX_DRAWDOWN_EXCEEDED}
    assert [v.order.reference_price for v in approved] == [69.0, 100.0]
    assert trader.risk.state is TradingState.REDUCING
    p = trader.portfolio
    assert p.equity == p.cash + p.positions[BTC].quantity * 69.0 + p.positions[ETH].quantity * 100.0
    before = state_of(trader)
    assert trader.on_price(BTC, 60.0, HOUR_MS + 2) == []  # latched: what is left goes with the next candle
    assert state_of(trader) == before


def test_a_price_that_finds_nothing_the_venue_would_take_changes_nothing() -> None:
    # What is left of a position: 0.06 x 100 could be sold, 0.06 x 50 is below the venue's 5. The account stands a hair
    # from its limit.
    trader = risky()
    filled(trader, replace(ordered_sale(trader), quantity=trader.portfolio.positions[BTC].quantity - 0.06))
    trader.portfolio = replace(trader.portfolio, peak=trader.portfolio.equity / 0.8501)
    before = state_of(trader)
    assert trader.on_price(BTC, 50.0, HOUR_MS + 1) == []
    assert state_of(trader) == before


def ordered_sale(trader: Trader) -> Order:
    (approved,) = trader.flatten(HOUR_MS)
    trader.resume()
    return approved.order


def test_a_remainder_too_small_to_sell_does_not_keep_a_fallen_account_from_halting() -> None:
    trader = risky()
    (outcome,) = trader.on_candles([candle(at=1, close=80.0)], HOLD)
    filled(trader, ordered(outcome), quantity=ordered(outcome).quantity - 0.04)
    (outcome,) = trader.on_candles([candle(at=2, close=80.0)], HOLD)
    assert trader.risk.state is TradingState.HALTED
    assert (type(outcome.verdict), outcome.verdict.reason) == (Hold, VerdictReason.MINIMUM_NOTIONAL)
    assert trader.portfolio.positions[BTC].quantity == 0.04
    (outcome,) = trader.on_candles([candle(at=3, close=200.0)], HOLD)  # now it is worth 8: sold, still halted
    assert ordered(outcome).quantity == 0.04


# ---- a person ---------------------------------------------------------------------------------------------------
def test_pause_refuses_purchases_and_leaves_sales_and_stops_alone() -> None:
    trader = holding(max_position=0.3)
    trader.pause()
    (outcome,) = trader.on_candles([candle(at=1, close=94.0)], BUY)
    assert outcome.verdict.reason is VerdictReason.STOP_LOSS_TRIGGERED
    trader = make()
    trader.pause()
    (outcome,) = trader.on_candles([candle()], BUY)
    assert outcome.verdict.reason is VerdictReason.PAUSED
    trader.resume()
    (outcome,) = trader.on_candles([candle(at=1)], BUY)
    assert isinstance(outcome.verdict, Approved)


def test_flatten_sells_all_that_can_be_sold_and_takes_nothing_new() -> None:
    trader = holding([BTC, ETH])
    approved = trader.flatten(5 * HOUR_MS)
    assert [(v.order.symbol, v.order.quantity, v.reason) for v in approved] == [
        (BTC, 25.0, VerdictReason.OPERATOR),
        (ETH, 25.0, VerdictReason.OPERATOR),
    ]
    assert {v.order.decided_ms for v in approved} == {5 * HOUR_MS}
    for verdict in approved:
        filled(trader, verdict.order)
    for outcome in trader.on_candles([candle(BTC, 6), candle(ETH, 6)], BUY):
        assert outcome.verdict.reason is VerdictReason.PAUSED


def test_what_flatten_could_not_sell_at_once_goes_at_every_candle_until_it_is_gone() -> None:
    trader = holding()
    (approved,) = trader.flatten(HOUR_MS)
    filled(trader, approved.order, quantity=10.0)  # the market took no more
    for at, left in [(1, 40.0), (2, 15.0)]:
        (outcome,) = trader.on_candles([candle(at=at)], BUY)
        assert (ordered(outcome).quantity, outcome.verdict.reason) == (left, VerdictReason.OPERATOR)
        filled(trader, ordered(outcome), quantity=25.0 if at == 1 else 15.0)
    assert trader.portfolio.positions[BTC].quantity == 0.0


def test_what_was_being_bought_when_a_person_flattened_is_sold_when_it_arrives() -> None:
    trader = make()
    (outcome,) = trader.on_candles([candle()], BUY)
    assert trader.flatten(HOUR_MS) == []
    filled(trader, ordered(outcome))
    (outcome,) = trader.on_candles([candle(at=1)], BUY)
    assert (ordered(outcome).side, ordered(outcome).quantity) == (Side.SELL, 50.0)


def test_resume_ends_flattening() -> None:
    trader = holding()
    trader.flatten(HOUR_MS)
    trader.resume()
    (outcome,) = trader.on_candles([candle(at=1)], HOLD)
    assert isinstance(outcome.verdict, Hold)


def test_a_silent_feed_and_a_skewed_clock_are_told_apart() -> None:
    trader = make()
    trader.set_feed(is_stale=True)
    trader.set_feed(is_skewed=True)
    assert (trader.risk.is_stale, trader.risk.is_skewed) == (True, True)
    trader.set_feed(is_stale=False)
    (outcome,) = trader.on_candles([candle()], BUY)
    assert outcome.verdict.reason is VerdictReason.CLOCK_SKEW


def test_on_a_drifted_market_nothing_is_bought_the_policy_knows_it_and_what_is_held_may_go() -> None:
    trader = holding()
    trader.set_drifted(is_drifted=True)
    (outcome,) = trader.on_candles([candle(at=1)], BUY)
    assert isinstance(outcome.verdict, Hold)  # it holds all it may, so nothing was wanted
    assert outcome.sight.observation is not None
    assert outcome.sight.observation[N_FEATURES + PORTFOLIO_NAMES.index("may_buy")] == 0.0
    (outcome,) = trader.on_candles([candle(at=2)], SELL)
    assert (ordered(outcome).side, ordered(outcome).quantity) == (Side.SELL, 50.0)


def test_a_purchase_waits_until_the_market_is_back() -> None:
    trader = make()
    trader.set_drifted(is_drifted=True)
    (refused,) = trader.on_candles([candle()], BUY)
    assert isinstance(refused.verdict, Refused)
    assert refused.verdict.reason is VerdictReason.DRIFT
    trader.set_drifted(is_drifted=False)
    (outcome,) = trader.on_candles([candle(at=1)], BUY)
    assert ordered(outcome).side is Side.BUY


# ---- other parameters -------------------------------------------------------------------------------------------
def test_a_restart_with_a_lower_limit_cuts_what_is_held_down_to_it() -> None:
    trader = holding()
    trader.begin(replace(trader.setup, limits=replace(trader.setup.limits, max_position=0.2)), None)
    (outcome,) = trader.on_candles([candle(at=1)], HOLD)
    assert outcome.verdict.reason is VerdictReason.MAX_POSITION_EXCEEDED
    assert ordered(outcome).quantity == pytest.approx(30.0, abs=2e-4)


def test_a_restart_with_another_rule_decides_by_it_from_the_next_candle() -> None:
    trader = make()
    weak = Constant((1.0, 0.1, 1.0))  # a step of 5 %
    (outcome,) = trader.on_candles([candle()], weak)
    assert isinstance(outcome.verdict, Approved)
    strategy = replace(trader.setup.strategy, dead_band=0.06)
    trader.begin(replace(trader.setup, strategy=strategy), None)
    (outcome,) = trader.on_candles([candle(at=1)], weak)
    assert outcome.verdict.reason is VerdictReason.DEAD_BAND


def test_a_restart_keeps_stop_counters_and_blocks() -> None:
    trader = holding()
    before = state_of(trader)
    trader.begin(replace(trader.setup, limits=replace(trader.setup.limits, stop_loss=0.2)), None)
    assert state_of(trader) == before
    (outcome,) = trader.on_candles([candle(at=1)], HOLD)
    assert outcome.stop is not None
    assert outcome.stop.stop_price == 95.0  # a wider stop does not lower the one that protects


# ---- memory -----------------------------------------------------------------------------------------------------
def again(trader: Trader) -> Trader:
    """Return a new trader that continues from the state of another, written as a journal writes it."""
    stored = json.loads(json.dumps(trader.state(), sort_keys=True))
    copy = Trader(trader.setup, {symbol: Rows() for symbol in trader.features}, 1.0, trader.reference)
    copy.restore(stored)
    return copy


def test_a_restored_account_adds_up_in_the_same_order() -> None:
    # 0.1 + 0.2 + 0.3 is not 0.3 + 0.2 + 0.1; a journal sorts its keys, the configured order is not sorted.
    trader = holding([SOL, BTC, ETH], cash=10_000.1)
    copy = again(trader)
    assert list(copy.portfolio.positions) == [SOL, BTC, ETH]
    for one in (trader, copy):
        one.on_candles([candle(SOL, 1, 33.33), candle(BTC, 1, 77.77), candle(ETH, 1, 101.01)], BUY)
    assert state_of(copy) == state_of(trader)


def _broken() -> list[tuple[str, Any]]:
    return [
        *((name, "missing") for name in ("portfolio", "risk", "stops", "ranges", "open_ms", "sequence")),
        *((name, {}) for name in ("portfolio", "risk", "stops", "ranges", "open_ms", "sequence")),
        *((name, None) for name in ("portfolio", "risk", "stops", "ranges", "open_ms", "sequence")),
        ("stops", {BTC: {"side": "sell"}}),
        ("stops", {BTC: 1}),
        ("sequence", {BTC: 0, ETH: 0}),
    ]


@pytest.mark.parametrize(("part", "value"), _broken())
def test_a_state_that_cannot_be_read_is_refused_and_changes_nothing(part: str, value: Any) -> None:
    stored = json.loads(state_of(holding()))
    if value == "missing":
        del stored[part]
    else:
        stored[part] = value
    trader = make()
    before = state_of(trader)
    with pytest.raises(BadState, match="stored"):
        trader.restore(stored)
    assert state_of(trader) == before


def test_the_state_of_other_symbols_is_refused() -> None:
    with pytest.raises(BadState, match="ETH/USDT"):
        make([BTC, ETH]).restore(json.loads(state_of(make([BTC]))))


def test_a_setup_read_back_from_json_is_the_same() -> None:
    made = setup([SOL, BTC], max_position=0.3, fee_rate=0.002, dead_band=0.05)
    stored = json.loads(json.dumps(made.to_json(), sort_keys=True))
    copy = Setup.from_json(stored)
    assert copy == made
    assert list(copy.instruments) == [SOL, BTC]
    for key in made.to_json():
        with pytest.raises(BadState, match="stored setup"):
            Setup.from_json({name: value for name, value in stored.items() if name != key})


def test_a_feature_without_spread_counts_as_it_is() -> None:
    reference = Reference.of([1.0, 0.0], [0.0, 2.0], 0.5)
    # Standard scores 2 and 3: sqrt((4 + 9) / 2) / 0.5
    assert reference.distance(np.array([3.0, 6.0], np.float32)) == pytest.approx((13 / 2) ** 0.5 / 0.5)


def test_a_venue_that_gives_no_minimum_leaves_no_dust() -> None:
    free = Instrument(symbol=BTC, tick=0.01, lot=0.0001, min_notional=0.0)
    made = Setup(
        instance="test",
        timeframe=setup().timeframe,
        instruments={BTC: free},
        strategy=StrategyParameters(volatility_target=10.0, edge_multiple=0.0),
        limits=RiskLimits(),
        costs=CostModel(),
    )
    trader = Trader(made, {BTC: Rows()}, 10_000.0)
    (outcome,) = trader.on_candles([candle()], BUY)
    filled(trader, ordered(outcome), quantity=0.0001)
    (approved,) = trader.flatten(HOUR_MS)
    assert approved.order.quantity == 0.0001


def test_candles_of_one_symbol_follow_each_other_in_time() -> None:
    candles: list[Candle] = [candle(at=at) for at in range(3)]
    trader = make()
    ids = {ordered(trader.on_candles([c], BUY)[0]).client_id for c in candles}
    assert len(ids) == 3


# ---- at a venue -------------------------------------------------------------------------------------------------
def status(order: Order, filled_so_far: float = 0.0) -> OrderStatus:
    return OrderStatus(order=order, state=OrderState.OPEN, filled=filled_so_far)


def test_a_symbol_with_an_order_in_flight_waits_and_a_stop_keeps_nothing_waiting() -> None:
    trader = holding((BTC, ETH))
    order, _ = (ordered(o) for o in trader.on_candles([candle(BTC, 1), candle(ETH, 1)], SELL))
    before, stop = trader.state(), trader.stops[ETH]
    assert stop is not None
    trader.set_in_flight([status(order), status(stop)])
    assert trader.in_flight == {BTC}
    assert trader.state() == before  # no part of what is kept: it follows from the orders
    sold = {o.verdict.decision.symbol: o.verdict for o in trader.on_candles([candle(BTC, 2), candle(ETH, 2)], SELL)}
    assert (type(sold[BTC]), sold[BTC].reason) == (Hold, VerdictReason.ORDER_IN_FLIGHT)
    assert isinstance(sold[ETH], Approved)
    trader.set_in_flight(())
    assert isinstance(trader.on_candles([candle(BTC, 3)], SELL)[0].verdict, Approved)


def test_what_a_purchase_in_flight_may_still_cost_is_not_there_for_others() -> None:
    trader = make((BTC, ETH), 1_000.0, max_position=1.0, fee_rate=0.0, slippage_rate=0.0)
    (bought,) = (ordered(o) for o in trader.on_candles([candle(BTC)], BUY))
    assert bought.quantity == 5.0
    trader.on_external(None, -500.0, 1.0)
    trader.set_in_flight([status(bought, 2.0)])  # 3 of 5 at 100 are still to come: 200 of 500 are free
    (other,) = (ordered(o) for o in trader.on_candles([candle(ETH)], BUY))
    assert (other.quantity, other.reason) == (2.0, "insufficient_cash")


def test_without_a_reason_nothing_is_sold_between_candles_and_nothing_changes() -> None:
    trader = holding()
    before = state_of(trader)
    assert trader.exits(BTC, HOUR_MS) == []
    assert state_of(trader) == before


@pytest.mark.parametrize("reason", ["stop_loss_triggered", "operator", "max_drawdown_exceeded"])
def test_what_a_part_sale_left_of_what_has_to_go_goes_between_candles(reason: str) -> None:
    trader = holding(max_drawdown=0.01 if reason == "max_drawdown_exceeded" else 0.9, daily_loss=0.95)
    if reason == "operator":
        (first,) = (approved.order for approved in trader.flatten(HOUR_MS))
    else:
        (first,) = (ordered(o) for o in trader.on_candles([candle(at=1, close=90.0)], HOLD))
    assert first.reason == reason
    filled(trader, first, quantity=20.0)
    (again,) = trader.exits(BTC, 2 * HOUR_MS)
    assert (again.order.quantity, again.order.reason, again.order.decided_ms) == (30.0, reason, 2 * HOUR_MS)
    assert again.order.reduces
    assert again.order.client_id != first.client_id


def test_what_no_stop_can_be_placed_for_goes_as_a_whole() -> None:
    (sale,) = holding().exits(BTC, HOUR_MS, unprotected=True)
    assert (sale.order.side, sale.order.quantity, sale.reason) == (Side.SELL, 50.0, VerdictReason.UNPROTECTED)


def test_what_lies_above_the_position_limit_waits_for_the_candle() -> None:
    trader = holding()
    trader.on_external(BTC, 50.0, 100.0)
    assert trader.portfolio.exposure(BTC) > 0.6
    assert trader.exits(BTC, HOUR_MS) == []
    (outcome,) = trader.on_candles([candle(at=1)], HOLD)
    assert outcome.verdict.reason is VerdictReason.MAX_POSITION_EXCEEDED


def test_an_order_in_flight_is_waited_for_even_by_what_has_to_go() -> None:
    trader = holding()
    (sale,) = trader.flatten(HOUR_MS)
    trader.set_in_flight([status(sale.order)])
    assert trader.exits(BTC, HOUR_MS, unprotected=True) == []


def test_a_renewed_stop_is_the_same_under_a_new_name() -> None:
    trader = holding()
    old = trader.stops[BTC]
    assert old is not None
    new = trader.renew_stop(BTC)
    assert new is not None
    assert new == trader.stops[BTC]
    assert new.client_id != old.client_id
    assert replace(new, client_id=old.client_id) == old
    (outcome,) = trader.on_candles([candle(at=1)], HOLD)
    assert outcome.stop == new
    assert make().renew_stop(BTC) is None


def test_base_that_comes_from_outside_gets_a_stop_and_base_that_goes_takes_it() -> None:
    trader = make()
    trader.on_candles([candle()], HOLD)
    stop = trader.on_external(BTC, 3.0, 100.0)
    assert stop is not None
    assert (stop.quantity, stop.stop_price) == (3.0, 95.0)
    assert trader.on_external(None, 5.0, 1.0) is None
    smaller = trader.on_external(BTC, -1.0, 100.0)
    assert smaller is not None
    assert smaller.quantity == 2.0
    assert trader.on_external(BTC, -2.0, 100.0) is None
    assert trader.stops[BTC] is None


def test_what_a_fee_in_base_leaves_beside_whole_lots_is_not_in_the_stop() -> None:
    trader = make()
    (order,) = (ordered(o) for o in trader.on_candles([candle()], BUY))
    bought = Fill(
        fill_id="f", client_id=order.client_id, symbol=BTC, side=Side.BUY, quantity=50.0, price=100.0, fee=5.003,
        at_ms=0, reference_price=100.0, fee_base=0.05003,
    )  # fmt: skip
    stop = trader.on_fill(bought, is_stop=False)
    assert trader.portfolio.positions[BTC].quantity == 49.94997
    assert stop is not None
    assert stop.quantity == 49.9499
    assert filled(trader, stop) is None
    assert trader.portfolio.losses == 1
    (outcome,) = trader.on_candles([candle(at=1)], SELL)
    assert outcome.verdict.reason is VerdictReason.MINIMUM_NOTIONAL
    assert outcome.sight.observation is not None
    # Of less than a lot a policy sees neither gain nor distance to a stop.
    shown = dict(zip(PORTFOLIO_NAMES, outcome.sight.observation[N_FEATURES:].tolist(), strict=True))
    assert (shown["unrealised_return"], shown["stop_distance"]) == (0.0, 0.0)


def test_a_venue_that_takes_no_orders_lets_nothing_be_bought_and_everything_be_sold() -> None:
    trader = holding((BTC, ETH), max_position=0.4)
    trader.begin(replace(trader.setup, limits=replace(trader.setup.limits, max_position=0.9)), None)
    trader.set_venue(closed=[ETH])
    verdicts = [o.verdict for o in trader.on_candles([candle(BTC, 1), candle(ETH, 1)], BUY)]
    assert [type(v) for v in verdicts] == [Approved, Refused]
    trader.set_venue(is_cut_off=True, closed=[])
    again = [o.verdict.reason for o in trader.on_candles([candle(BTC, 2), candle(ETH, 2)], BUY)]
    assert again == [VerdictReason.VENUE_CLOSED] * 2
    sold = trader.on_candles([candle(BTC, 3), candle(ETH, 3)], SELL)
    assert all(isinstance(o.verdict, Approved) for o in sold)
    restored = make((BTC, ETH))
    restored.restore(json.loads(state_of(trader)))
    assert restored.state() == trader.state()


def test_a_halted_symbol_is_resumed_by_a_person() -> None:
    trader = make((BTC, ETH))
    trader.halt_symbol(ETH)
    verdicts = [o.verdict for o in trader.on_candles([candle(BTC), candle(ETH)], BUY)]
    assert [v.reason for v in verdicts] == [VerdictReason.VOTED, VerdictReason.SYMBOL_HALTED]
    trader.resume()
    assert isinstance(trader.on_candles([candle(ETH, 1)], BUY)[0].verdict, Approved)


# ---- between two decisions --------------------------------------------------------------------------------------
# Candle number n closes at hour n + 1, so that of four candles the third, seventh and so on has the decision.
def test_only_the_candle_a_decision_falls_on_trades_and_the_others_say_what_was_voted() -> None:
    trader = make(decide_every=4)
    outcomes = [trader.on_candles([candle(at=n)], BUY)[0] for n in range(8)]
    between = VerdictReason.BETWEEN_DECISIONS
    assert [n for n, outcome in enumerate(outcomes) if isinstance(outcome.verdict, Approved)] == [3, 7]
    assert [outcome.verdict.reason for outcome in outcomes[:3]] == [between] * 3
    assert all(isinstance(outcome.verdict, Hold) for outcome in outcomes[:3])
    assert {outcome.verdict.decision.action.value for outcome in outcomes} == {"buy"}
    assert all(outcome.votes is not None for outcome in outcomes)


def test_the_offset_moves_the_decision_by_so_many_candles() -> None:
    trader = make(decide_every=4, decide_offset=3)
    bought = [n for n in range(8) if isinstance(trader.on_candles([candle(at=n)], BUY)[0].verdict, Approved)]
    assert bought == [2, 6]


def test_all_symbols_of_a_candle_time_decide_together() -> None:
    trader = make((BTC, ETH), decide_every=2)
    for n in range(4):
        outcomes = trader.on_candles([candle(BTC, n), candle(ETH, n)], BUY)
        assert [isinstance(outcome.verdict, Approved) for outcome in outcomes] == [n % 2 == 1] * 2


def held_between_decisions(**changes: Any) -> Trader:
    """Return a trader that bought at candle 3 and decides again at candle 7."""
    trader = make(decide_every=4, **changes)
    for n in range(3):
        trader.on_candles([candle(at=n)], HOLD)
    filled(trader, ordered(trader.on_candles([candle(at=3)], BUY)[0]))
    return trader


def test_a_sale_that_is_voted_for_waits_for_the_next_decision() -> None:
    trader = held_between_decisions()
    verdicts = [trader.on_candles([candle(at=n)], SELL)[0].verdict for n in range(4, 8)]
    assert [isinstance(verdict, Approved) for verdict in verdicts] == [False, False, False, True]


def test_a_stop_acts_between_two_decisions() -> None:
    trader = held_between_decisions()
    (outcome,) = trader.on_candles([candle(at=4, close=94.0)], BUY)  # the stop stands at 95
    assert outcome.verdict.reason is VerdictReason.STOP_LOSS_TRIGGERED
    assert (ordered(outcome).side, ordered(outcome).quantity) == (Side.SELL, 50.0)


def test_a_stop_rises_between_two_decisions() -> None:
    trader = held_between_decisions(stop_atr_multiple=2.0, stop_loss=0.5)  # the range is 1 % of the price
    stops = [trader.on_candles([candle(at=n, close=close)], HOLD)[0].stop for n, close in ((4, 110.0), (5, 120.0))]
    prices = [stop.stop_price for stop in stops if stop is not None and stop.stop_price is not None]
    assert len(prices) == 2
    assert prices[1] > prices[0] > 100.0


def test_the_drawdown_limit_sells_between_two_decisions() -> None:
    trader = held_between_decisions(max_drawdown=0.01, stop_loss=0.9, stop_atr_multiple=0.0)
    (outcome,) = trader.on_candles([candle(at=4, close=90.0)], BUY)  # half of the account falls by a tenth
    assert outcome.verdict.reason is VerdictReason.MAX_DRAWDOWN_EXCEEDED
    assert ordered(outcome).side is Side.SELL


def test_what_outgrew_the_largest_position_is_cut_between_two_decisions() -> None:
    trader = held_between_decisions(max_position=0.5)
    (outcome,) = trader.on_candles([candle(at=4, close=150.0)], BUY)  # 7,500 of 12,500 are 60 %
    assert outcome.verdict.reason is VerdictReason.MAX_POSITION_EXCEEDED
    assert ordered(outcome).quantity == pytest.approx(50.0 - 0.5 * 12_500.0 / 150.0, abs=1e-4)


def test_an_operator_who_flattens_is_obeyed_between_two_decisions() -> None:
    trader = held_between_decisions()
    trader.on_candles([candle(at=4)], HOLD)
    assert [approved.order.quantity for approved in trader.flatten(5 * HOUR_MS)] == [50.0]


def test_a_cool_down_counts_candles_not_decisions() -> None:
    trader = held_between_decisions(stop_cooldown=2)
    filled(trader, ordered(trader.on_candles([candle(at=4, close=94.0)], HOLD)[0]), price=94.0)
    for n in (5, 6):
        trader.on_candles([candle(at=n, close=94.0)], BUY)
    assert isinstance(trader.on_candles([candle(at=7, close=94.0)], BUY)[0].verdict, Approved)
