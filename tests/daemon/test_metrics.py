"""What a scrape says after known events; figures by hand, format read by the Prometheus client's own parser."""

import math
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from daemon.config_sections import DaemonSection, MarketSection
from daemon.events import (
    AccountMarked,
    CandleTaken,
    CommandTaken,
    Decided,
    Event,
    ExitForced,
    Filled,
    JournalWritten,
    OrderMoved,
    Protected,
    ReloadOutcome,
    ShadowMarked,
    Started,
    Stopped,
)
from daemon.metrics import MetricsSink, metrics_table
from daemon.metrics_process import MODES, SOURCES
from daemon.ports import FeedHealth, FeedStatus, Gap, LateCandle, NewSteps, OrderPath, StopLost
from strategy.candle import Candle
from strategy.decision import Action, Decision, DecisionReason
from strategy.features import FeatureRow
from strategy.order import Fill, Order, OrderEvent, OrderReport, OrderState, OrderStatus, Side
from strategy.parameters import RiskLimits, StrategyParameters
from strategy.portfolio import Portfolio, Position
from strategy.regime import REGIMES
from strategy.risk import Approved, Hold, Refused, RiskState, SymbolRisk, TradingState, Verdict, VerdictReason
from strategy.trader import Outcome, Sight
from tests.daemon import engines
from tests.daemon.engines import make_live_rig
from tests.fakes import events
from tests.fakes import model_steps as steps
from tests.fakes.clock import ManualClock

ROOT = Path(__file__).resolve().parents[2]
BTC, ETH = "BTC/USDT", "ETH/USDT"
SPAN_MS = 3_600_000
_BEYOND = "sacd_fill_excess_slippage_quote_total"
OPEN_MS = 1_600_002_000_000
CLOSE_S = 1_600_005_600.0

Samples = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


def sink(*, is_live: bool = True, clock: ManualClock | None = None) -> MetricsSink:
    return MetricsSink(
        symbols=(BTC, ETH), is_live=is_live, version="0.1.0", clock=clock or ManualClock(), slippage_rate=0.0005
    )


def scraped(metrics: MetricsSink) -> Samples:
    families = text_string_to_metric_families(metrics.render().decode())
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def after(*events: Event, is_live: bool = True) -> Samples:
    metrics = sink(is_live=is_live)
    for event in events:
        metrics.publish(event)
    return scraped(metrics)


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


def candle(symbol: str = BTC) -> Candle:
    return Candle(
        symbol=symbol, open_ms=OPEN_MS, span_ms=SPAN_MS, open=99.0, high=101.0, low=98.0, close=100.0, volume=5.0
    )


def taken(symbol: str = BTC, *, lag_s: float = 1.5, is_backfill: bool = False) -> CandleTaken:
    return CandleTaken(candle=candle(symbol), is_backfill=is_backfill, at_ms=int(CLOSE_S * 1_000 + lag_s * 1_000))


def decision(**changes: float) -> Decision:
    plain = Decision(symbol=BTC, action=Action.BUY, reason=DecisionReason.VOTED, exposure=0.0, target=0.25)
    return replace(plain, **changes)  # type: ignore[arg-type]


def order() -> Order:
    return Order(
        client_id="s-btcusdt-0-1", symbol=BTC, side=Side.BUY, quantity=0.5, reference_price=100.0,
        decided_ms=OPEN_MS + SPAN_MS, reason="voted", reduces=False,
    )  # fmt: skip


def decided(verdict: Verdict, *, seen: bool = True, model_id: str = "aaaa") -> Decided:
    row = FeatureRow(np.zeros(3, np.float32), 0.01, 0.02, REGIMES[0.0, 0.0]) if seen else None
    sight = Sight(candle(), row, None if row is None else row.values, 1.75 if seen else 0.0)
    votes = np.zeros((2, 3), np.float32) if seen else None
    return Decided(outcome=Outcome(sight, votes, verdict, None), model_id=model_id, latency_s=0.002, seq=7)


def filled(side: Side, price: float, quantity: float = 2.0, fee: float = 0.3) -> Filled:
    fill = Fill(
        fill_id="f", client_id="s-1", symbol=BTC, side=side, quantity=quantity, price=price, fee=fee, at_ms=OPEN_MS,
        reference_price=100.0,
    )  # fmt: skip
    return Filled(fill=fill)


def account() -> Portfolio:
    positions = {BTC: Position(quantity=1.0, average_entry=100.0, mark=110.0), ETH: Position(mark=20.0)}
    return Portfolio(
        cash=690.0, positions=positions, equity=800.0, peak=1_000.0, day=5, day_start=1_000.0, fees=1.0, slippage=-0.5,
        wins=3, losses=2,
    )  # fmt: skip


def marked(**changes: object) -> AccountMarked:
    risk = replace(RiskState(symbols={}), **changes)  # type: ignore[arg-type]
    return AccountMarked(portfolio=account(), risk=risk, hold_equity=950.0, at_ms=OPEN_MS)


STARTED = Started(
    instance="paper", mode="paper", source="exchange", symbols=(BTC, ETH), timeframe="1h", quote="USDT",
    model_id="0123456789abcdef", members=3, cash=1_000.0, resumed=True, decisions=9, portfolio=account(),
    risk=RiskState(symbols={}), warm_up=0, at_ms=1_600_000_000_500,
)  # fmt: skip
EVERY_EVENT: tuple[Event, ...] = (
    STARTED,
    FeedStatus(health=FeedHealth.LIVE),
    taken(),
    taken(ETH, is_backfill=True),
    decided(Approved(decision=decision(), reason=VerdictReason.VOTED, order=order())),
    OrderMoved(
        report=OrderReport(client_id="s-1", symbol=BTC, event=OrderEvent.ACCEPTED, at_ms=OPEN_MS),
        state=OrderState.OPEN,
        order=order(),
    ),
    filled(Side.BUY, 100.1),
    marked(),
    JournalWritten(seconds=0.0002, records=3),
    CommandTaken(verb="pause", source="control", effect="paused"),
    events.reloaded(),
    Gap(symbol=BTC, first_ms=OPEN_MS, missing=4),
    LateCandle(candle=candle(), known=candle()),
    Protected(symbol=BTC, stop=events.stop_order()),
    ExitForced(order=order()),
    OrderPath(is_open=True),
    events.external(),
    NewSteps(instruments={}, closed=frozenset({BTC})),
    StopLost(symbol=BTC, detail="expired"),
    *steps.events(steps.found(), steps.requested(), steps.shadowed(), steps.serves()),
    ShadowMarked(payload=steps.compared("watch")),
    events.drifted(),
    Stopped(
        reason="asked to", portfolio=account(), risk=RiskState(symbols={}), cash=1_000.0, decisions=1, orders=1,
        fills=1, hold_equity=None, quote="USDT", at_ms=OPEN_MS,
    ),
)  # fmt: skip


# ---- what came in -----------------------------------------------------------------------------------------------
def test_the_lag_of_a_candle_runs_from_its_close_to_its_arrival() -> None:
    samples = after(taken(lag_s=1.5), taken(lag_s=7.0), taken(lag_s=90.0, is_backfill=True))
    assert value(samples, "sacd_candle_lag_seconds_count", symbol=BTC) == 2
    assert value(samples, "sacd_candle_lag_seconds_sum", symbol=BTC) == pytest.approx(8.5)
    assert value(samples, "sacd_candle_lag_seconds_bucket", symbol=BTC, le="2.5") == 1
    assert value(samples, "sacd_candle_lag_seconds_count", symbol=ETH) == 0


def test_recorded_candles_have_no_lag() -> None:
    samples = after(taken(lag_s=1e8), is_live=False)
    assert not [name for name, _ in samples if name.startswith("sacd_candle_lag")]


def test_candles_are_counted_by_arrival_and_dated_by_close_and_by_our_clock() -> None:
    samples = after(taken(lag_s=2.0), taken(is_backfill=True), taken(is_backfill=True))
    assert value(samples, "sacd_candles_total", symbol=BTC, arrival="live") == 1
    assert value(samples, "sacd_candles_total", symbol=BTC, arrival="backfill") == 2
    assert value(samples, "sacd_candles_total", symbol=ETH, arrival="live") == 0
    assert value(samples, "sacd_last_candle_timestamp_seconds", symbol=BTC) == CLOSE_S
    assert value(samples, "sacd_last_candle_received_timestamp_seconds", symbol=BTC) == CLOSE_S + 1.5


def test_a_gap_counts_once_and_its_candles_each() -> None:
    samples = after(Gap(symbol=ETH, first_ms=OPEN_MS, missing=4), Gap(symbol=ETH, first_ms=OPEN_MS, missing=1))
    assert value(samples, "sacd_gaps_total", symbol=ETH) == 2
    assert value(samples, "sacd_missing_candles_total", symbol=ETH) == 5
    assert value(samples, "sacd_late_candles_total", symbol=ETH) == 0


def test_one_state_of_the_feed_is_set_and_only_a_new_loss_is_a_reconnect() -> None:
    lost, live = FeedStatus(health=FeedHealth.RECONNECTING), FeedStatus(health=FeedHealth.LIVE)
    samples = after(live, lost, lost, live, FeedStatus(health=FeedHealth.STALE), lost)
    assert value(samples, "sacd_feed_reconnects_total") == 2
    assert {health: value(samples, "sacd_feed_health", health=health) for health in FeedHealth} == {
        FeedHealth.LIVE: 0,
        FeedHealth.STALE: 0,
        FeedHealth.RECONNECTING: 1,
    }


def test_a_feed_that_never_speaks_of_itself_is_live_once_it_delivers() -> None:
    assert value(after(is_live=False), "sacd_feed_health", health="live") == 0
    assert value(after(taken(), is_live=False), "sacd_feed_health", health="live") == 1


# ---- decisions --------------------------------------------------------------------------------------------------
def test_each_verdict_is_counted_under_its_kind_and_reason() -> None:
    wanted = decision()
    samples = after(
        decided(Approved(decision=wanted, reason=VerdictReason.VOTED, order=order())),
        decided(Hold(decision=wanted, reason=VerdictReason.DEAD_BAND)),
        decided(Refused(decision=wanted, reason=VerdictReason.PAUSED)),
        decided(Refused(decision=wanted, reason=VerdictReason.PAUSED)),
    )
    counted = {labels: count for (name, labels), count in samples.items() if name == "sacd_verdicts_total" and count}
    assert counted == {
        frozenset({("verdict", "approved"), ("reason", "voted")}): 1,
        frozenset({("verdict", "hold"), ("reason", "dead_band")}): 1,
        frozenset({("verdict", "refused"), ("reason", "paused")}): 2,
    }


def test_every_reason_is_there_before_anything_happened() -> None:
    names = {
        (dict(labels)["verdict"], dict(labels)["reason"]) for name, labels in after() if name == "sacd_verdicts_total"
    }
    assert names == {(kind, reason.value) for kind in ("approved", "hold", "refused") for reason in VerdictReason}


def test_a_decision_tells_latency_target_disagreement_and_distance() -> None:
    wanted = decision(target=0.4, disagreement=0.125)
    samples = after(taken(lag_s=1.0), decided(Hold(decision=wanted, reason=VerdictReason.DEAD_BAND)))
    assert value(samples, "sacd_decision_latency_seconds_count") == 1
    assert value(samples, "sacd_decision_latency_seconds_sum") == pytest.approx(0.002)
    assert value(samples, "sacd_target_exposure_ratio", symbol=BTC) == 0.4
    assert value(samples, "sacd_disagreement_ratio", symbol=BTC) == 0.125
    assert value(samples, "sacd_distribution_distance", symbol=BTC) == 1.75
    assert value(samples, "sacd_last_decision_timestamp_seconds") == pytest.approx(CLOSE_S + 1.002, rel=0.0, abs=1e-5)


@pytest.mark.fault(56)
def test_votes_at_the_end_of_their_range_are_counted_by_symbol() -> None:
    loud = events.decided(events.hold(), votes=((1.0, 0.9, 0.9), (-0.995, 0.1, 0.1), (0.5, 1.0, 1.0)))
    assert value(after(), "sacd_saturated_votes_total", symbol=BTC) == 0
    assert value(after(loud, loud), "sacd_saturated_votes_total", symbol=BTC) == 4


def test_while_warming_up_no_disagreement_and_no_distance_is_claimed() -> None:
    samples = after(decided(Hold(decision=decision(), reason=VerdictReason.WARMING_UP), seen=False))
    names = {name for name, _ in samples}
    assert "sacd_target_exposure_ratio" in names
    assert names.isdisjoint({"sacd_disagreement_ratio", "sacd_distribution_distance"})


def test_the_model_that_serves_replaces_the_one_before() -> None:
    swapped = decided(Hold(decision=decision(), reason=VerdictReason.NEUTRAL), model_id="bbbb")
    assert value(after(STARTED), "sacd_model_info", id="0123456789abcdef") == 1
    samples = after(STARTED, swapped)
    assert [dict(labels) for name, labels in samples if name == "sacd_model_info"] == [{"id": "bbbb"}]
    assert value(samples, "sacd_model_members") == 2


# ---- orders and account -----------------------------------------------------------------------------------------
def test_orders_are_counted_by_kind_and_state_and_all_of_them_are_there() -> None:
    samples = after(*EVERY_EVENT, events.moved(events.stop_order(), OrderState.NOT_PLACED))
    counts = {
        frozenset(dict(labels).items()): n for (name, labels), n in samples.items() if name == "sacd_orders_total"
    }
    assert len(counts) == 2 * len(OrderState)
    assert {labels for labels, count in counts.items() if count} == {
        frozenset({("kind", "market"), ("state", "open")}),
        frozenset({("kind", "stop"), ("state", "not_placed")}),
    }


@pytest.mark.parametrize(
    ("side", "price", "excess"), [(Side.BUY, 100.15, 0.001), (Side.SELL, 99.85, 0.001), (Side.SELL, 100.0, -0.0005)]
)
def test_slippage_beyond_the_model_is_summed_by_side(side: Side, price: float, excess: float) -> None:
    samples = after(filled(side, price), filled(side, price))  # the model expects 5 basis points, of 200 each time
    words = {name: value(samples, _BEYOND, side=side.value, than_model=name) for name in ("worse", "better")}
    assert words == pytest.approx({"worse": max(0.0, 400.0 * excess), "better": max(0.0, -400.0 * excess)})
    assert value(samples, "sacd_fill_excess_slippage_ratio_count", side=side.value) == 2
    other = Side.SELL if side is Side.BUY else Side.BUY
    assert value(samples, _BEYOND, side=other.value, than_model="worse") == 0
    assert value(samples, "sacd_fill_excess_slippage_ratio_count", side=other.value) == 0


def test_a_stop_that_sells_lower_says_nothing_about_the_model() -> None:
    stop = events.stop_order(price=100.0)
    samples = after(events.moved(stop, OrderState.FILLED, OrderEvent.FILLED), events.fill(stop, price=99.2))
    below = [value(samples, "sacd_stop_slippage_ratio_bucket", le=le) for le in ("0.005", "0.01")]
    assert below == [0, 1]  # 0.8 of 100
    assert value(samples, "sacd_fill_excess_slippage_ratio_count", side="sell") == 0
    assert value(samples, "sacd_fill_slippage_ratio_count") == 1


@pytest.mark.parametrize(
    ("side", "price", "above", "holds"),
    [
        (Side.BUY, 100.15, "0.001", "0.002"),
        (Side.SELL, 99.85, "0.001", "0.002"),
        (Side.SELL, 100.15, "-0.002", "-0.001"),
    ],
    ids=["buy dearer", "sell cheaper", "sell dearer is better"],
)
def test_slippage_is_positive_when_the_fill_was_worse(side: Side, price: float, above: str, holds: str) -> None:
    samples = after(filled(side, price))  # 0.15 % away from the reference price
    assert value(samples, "sacd_fill_slippage_ratio_bucket", le=above) == 0
    assert value(samples, "sacd_fill_slippage_ratio_bucket", le=holds) == 1


def test_fills_add_up_in_number_value_and_fees() -> None:
    samples = after(filled(Side.BUY, 100.0), filled(Side.BUY, 110.0, quantity=1.0), filled(Side.SELL, 90.0))
    assert value(samples, "sacd_fills_total", symbol=BTC, side="buy") == 2
    assert value(samples, "sacd_traded_quote_total", symbol=BTC, side="buy") == 310.0
    assert value(samples, "sacd_traded_quote_total", symbol=BTC, side="sell") == 180.0
    assert value(samples, "sacd_fees_quote_total", symbol=BTC) == pytest.approx(0.9)
    assert value(samples, "sacd_fills_total", symbol=ETH, side="sell") == 0


def test_the_account_is_shown_as_it_was_marked() -> None:
    samples = after(marked())
    shown = {
        "sacd_equity_quote": 800.0, "sacd_peak_equity_quote": 1_000.0, "sacd_cash_quote": 690.0,
        "sacd_hold_equity_quote": 950.0, "sacd_slippage_quote": -0.5,
    }  # fmt: skip
    assert {name: value(samples, name) for name in shown} == shown
    assert value(samples, "sacd_drawdown_ratio") == pytest.approx(0.2)
    assert value(samples, "sacd_day_loss_ratio") == pytest.approx(0.2)
    assert value(samples, "sacd_exposure_ratio", symbol=BTC) == pytest.approx(110.0 / 400.0)
    assert value(samples, "sacd_position_base", symbol=BTC) == 1.0
    assert value(samples, "sacd_position_base", symbol=ETH) == 0.0
    assert value(samples, "sacd_mark_price_quote", symbol=ETH) == 20.0
    assert (value(samples, "sacd_round_trips", result="won"), value(samples, "sacd_round_trips", result="lost")) == (
        3,
        2,
    )


def test_before_the_account_is_known_its_figures_are_not_zero_but_absent() -> None:
    samples = after()
    for name in ("sacd_equity_quote", "sacd_drawdown_ratio", "sacd_cash_quote", "sacd_hold_equity_quote"):
        assert math.isnan(value(samples, name))


def test_one_trading_state_is_set_and_restrictions_stand_beside_it() -> None:
    samples = after(marked(state=TradingState.HALTED, is_stale=True, orders_today=4, turnover_today=123.5))
    states = {state.value: value(samples, "sacd_trading_state", state=state.value) for state in TradingState}
    assert states == {"active": 0, "reducing": 0, "halted": 1}
    limits = {by: value(samples, "sacd_trading_restricted", by=by) for by in ("paused", "stale_feed", "clock_skew")}
    assert limits == {"paused": 0, "stale_feed": 1, "clock_skew": 0}
    cut_off = after(marked(is_cut_off=True))
    assert value(cut_off, "sacd_trading_restricted", by="order_path") == 1
    assert value(cut_off, "sacd_trading_restricted", by="drift") == 0
    assert value(after(marked(is_drifted=True)), "sacd_trading_restricted", by="drift") == 1
    assert value(samples, "sacd_orders_today") == 4
    assert value(samples, "sacd_turnover_today_quote") == 123.5


# ---- where orders reach a venue ---------------------------------------------------------------------------------
def sent(made: Order, at_ms: int) -> OrderMoved:
    report = OrderReport(client_id=made.client_id, symbol=made.symbol, event=OrderEvent.SENT, at_ms=at_ms)
    return OrderMoved(report=report, state=OrderState.IN_FLIGHT, order=made)


async def test_an_answer_and_a_fill_are_timed_from_the_sending() -> None:
    clock = ManualClock()
    metrics, made = sink(clock=clock), order()
    metrics.publish(sent(made, clock.now_ms()))
    await clock.advance(0.2)
    metrics.publish(events.moved(made, OrderState.OPEN))  # its own time is the venue's and not looked at
    await clock.advance(0.5)
    metrics.publish(events.moved(made, OrderState.PARTIALLY_FILLED, OrderEvent.PARTLY_FILLED))
    metrics.publish(events.fill(made))
    metrics.publish(events.fill(made))
    samples = scraped(metrics)
    for step, seconds in (("answer", 0.2), ("fill", 0.7)):
        assert value(samples, "sacd_order_latency_seconds_count", step=step) == 1
        assert value(samples, "sacd_order_latency_seconds_sum", step=step) == pytest.approx(seconds)


async def test_a_lost_answer_is_no_answer_and_its_order_grows_old_until_it_is_settled() -> None:
    clock = ManualClock()
    metrics, made, later = sink(clock=clock), order(), events.order(client_id="s-2")
    metrics.publish(sent(made, clock.now_ms()))
    assert value(scraped(metrics), "sacd_oldest_unknown_order_seconds") == 0.0
    metrics.publish(events.moved(made, OrderState.UNKNOWN, OrderEvent.ANSWER_LOST))
    await clock.advance(7.0)
    metrics.publish(events.moved(later, OrderState.UNKNOWN, OrderEvent.ANSWER_LOST))
    await clock.advance(3.0)
    metrics.publish(events.moved(made, OrderState.UNKNOWN, OrderEvent.ANSWER_LOST))  # still none
    samples = scraped(metrics)
    assert value(samples, "sacd_oldest_unknown_order_seconds") == 10.0
    assert value(samples, "sacd_order_latency_seconds_count", step="answer") == 0
    metrics.publish(events.moved(made, OrderState.NOT_PLACED, OrderEvent.NOT_FOUND))
    samples = scraped(metrics)
    assert value(samples, "sacd_oldest_unknown_order_seconds") == 3.0
    assert value(samples, "sacd_order_latency_seconds_count", step="answer") == 0


async def test_time_without_a_stop_at_rest_is_counted_while_one_is_wanted() -> None:
    clock = ManualClock()
    metrics = sink(clock=clock)
    first, second = events.stop_order(client_id="s-a"), events.stop_order(client_id="s-b")

    async def naked_after(seconds: float, *told: Event) -> float:
        for event in told:
            metrics.publish(event)
        await clock.advance(seconds)
        return value(scraped(metrics), "sacd_naked_position_seconds_total", symbol=BTC)

    assert await naked_after(5.0) == 0.0
    assert await naked_after(2.0, Protected(symbol=BTC, stop=first)) == 2.0
    assert await naked_after(1.0) == 3.0
    assert await naked_after(60.0, events.moved(first, OrderState.OPEN)) == 3.0
    # Replaced: the old one goes, then the new one comes.
    assert await naked_after(1.0, Protected(symbol=BTC, stop=second)) == 3.0
    assert await naked_after(0.5, events.moved(first, OrderState.CANCELLED, OrderEvent.CANCELLED)) == 3.5
    assert await naked_after(9.0, events.moved(second, OrderState.OPEN)) == 3.5
    assert await naked_after(0.25, events.moved(second, OrderState.FILLED, OrderEvent.FILLED)) == 3.75
    assert await naked_after(9.0, Protected(symbol=BTC, stop=None)) == 3.75
    assert value(scraped(metrics), "sacd_naked_position_seconds_total", symbol=ETH) == 0.0


@pytest.mark.parametrize(("state", "naked"), [(OrderState.OPEN, 0.0), (OrderState.INTENDED, 4.0)])
async def test_after_a_restart_it_goes_on_from_the_orders_that_were_open(state: OrderState, naked: float) -> None:
    clock = ManualClock()
    metrics, stop = sink(clock=clock), events.stop_order()
    lost = OrderStatus(order=order(), state=OrderState.UNKNOWN)
    metrics.publish(replace(STARTED, orders=(OrderStatus(order=stop, state=state), lost)))
    metrics.publish(Protected(symbol=BTC, stop=stop))
    await clock.advance(4.0)
    samples = scraped(metrics)
    assert value(samples, "sacd_naked_position_seconds_total", symbol=BTC) == naked
    assert value(samples, "sacd_oldest_unknown_order_seconds") == 4.0


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (events.external(foreign=-0.1), "foreign"),
        (events.external(ours=-0.1, foreign=0.0), "ours"),
        (events.external(ours=-0.1, halts=True), "halted"),
    ],
)
def test_changes_by_others_are_counted_by_what_they_touch(change: Event, kind: str) -> None:
    samples = after(change)
    counts = {k: value(samples, "sacd_external_changes_total", kind=k) for k in ("ours", "foreign", "halted")}
    assert counts == {k: float(k == kind) for k in counts}


def test_the_order_path_is_unknown_then_closed_then_open() -> None:
    assert math.isnan(value(after(), "sacd_order_path_open"))
    closed = OrderPath(is_open=False, detail="the venue does not answer")
    assert value(after(closed), "sacd_order_path_open") == 0
    assert value(after(closed, OrderPath(is_open=True)), "sacd_order_path_open") == 1


def test_lost_stops_forced_exits_and_symbols_held_back_are_told_by_symbol() -> None:
    held_back = {BTC: SymbolRisk(is_halted=True), ETH: SymbolRisk(is_closed=True)}
    lost = StopLost(symbol=BTC, detail="expired")
    samples = after(marked(symbols=held_back), lost, lost, ExitForced(order=order()))
    assert value(samples, "sacd_stops_lost_total", symbol=BTC) == 2
    assert value(samples, "sacd_forced_exits_total", symbol=BTC) == 1
    shown = [
        value(samples, "sacd_symbol_restricted", symbol=s, by=by)
        for s in (BTC, ETH)
        for by in ("halted", "market_closed")
    ]
    assert shown == [1, 0, 0, 1]


async def test_the_live_engine_tells_what_these_figures_need() -> None:
    rig = make_live_rig(stop_atr_multiple=2.0)
    metrics = sink(clock=rig.clock)
    rig.engine._sinks.append(metrics)  # type: ignore[attr-defined]  # a list, as the rig makes it
    await rig.start()
    rig.voice.say((1.0, 0.8, 1.0))
    await rig.candle(100.0)
    rig.voice.say((0.0, 0.0, 0.0))
    (bought,) = rig.orders
    await rig.tell(engines.report(bought, OrderEvent.SENT, at_ms=rig.clock.now_ms()))
    await rig.clock.advance(0.4)
    await rig.tell(engines.report(bought, OrderEvent.ACCEPTED), engines.filled(bought, price=100.1))
    await rig.clock.advance(0.3)
    first = rig.stop()
    assert first is not None
    await rig.tell(engines.report(first, OrderEvent.SENT), engines.report(first, OrderEvent.ACCEPTED))
    await rig.candle(120.0)  # the stop follows
    second = rig.stop()
    assert second is not None
    assert second != first
    await rig.tell(engines.report(first, OrderEvent.CANCELLED))
    await rig.clock.advance(0.2)
    await rig.tell(engines.report(second, OrderEvent.SENT), engines.report(second, OrderEvent.ACCEPTED))
    await rig.clock.advance(50.0)
    samples = scraped(metrics)
    assert value(samples, "sacd_naked_position_seconds_total", symbol=BTC) == pytest.approx(0.5)
    for step in ("answer", "fill"):
        assert value(samples, "sacd_order_latency_seconds_sum", step=step) == pytest.approx(0.4)
    assert value(samples, "sacd_fill_excess_slippage_ratio_count", side="buy") == 1
    assert value(samples, "sacd_orders_total", kind="stop", state="cancelled") == 1
    assert value(samples, "sacd_order_latency_seconds_count", step="answer") == 1  # those of stops are not in it


# ---- the program ------------------------------------------------------------------------------------------------
def test_the_program_tells_what_it_is_and_how_its_journal_and_loop_do() -> None:
    metrics = sink()
    for event in EVERY_EVENT:
        metrics.publish(event)
    metrics.observe_loop_lag(0.004)
    samples = scraped(metrics)
    python = ".".join(str(part) for part in sys.version_info[:3])
    assert value(samples, "sacd_build_info", version="0.1.0", python=python) == 1
    labels = {"account": "paper", "mode": "paper", "source": "exchange", "timeframe": "1h", "quote": "USDT"}
    assert value(samples, "sacd_instance_info", **labels) == 1
    assert value(samples, "sacd_started_timestamp_seconds") == 1_600_000_000.5
    assert value(samples, "sacd_journal_commit_seconds_count") == 1
    assert value(samples, "sacd_journal_records_total") == 3
    assert value(samples, "sacd_loop_lag_seconds_bucket", le="0.005") == 1
    assert value(samples, "sacd_loop_lag_seconds_bucket", le="0.0025") == 0
    assert value(samples, "sacd_commands_total", verb="pause") == 1
    assert value(samples, "sacd_commands_total", verb="flatten") == 0


def test_limits_are_shown_as_configured_and_one_that_is_off_is_no_number() -> None:
    assert math.isnan(value(after(), "sacd_limit_ratio", limit="max_drawdown"))
    metrics = sink()
    risk = RiskLimits(max_drawdown=0.2, daily_loss=0.03, max_position=0.4, out_of_distribution=2.5)
    metrics.set_limits(risk, StrategyParameters(disagreement_limit=0.7), drift=0.15, candle_interval_s=60.0)
    samples = scraped(metrics)
    shown = {dict(labels)["limit"]: limit for (name, labels), limit in samples.items() if name == "sacd_limit_ratio"}
    assert shown == {
        "max_drawdown": 0.2, "daily_loss": 0.03, "max_position": 0.4, "disagreement": 0.7, "out_of_distribution": 2.5,
        "drift": 0.15,
    }  # fmt: skip
    assert value(samples, "sacd_candle_interval_seconds") == 60.0
    metrics.set_limits(risk, StrategyParameters(), drift=0.0, candle_interval_s=60.0)
    assert math.isnan(value(scraped(metrics), "sacd_limit_ratio", limit="drift"))


def test_room_on_the_disk_and_copies_of_the_journal_are_told() -> None:
    metrics = sink()
    assert math.isnan(value(scraped(metrics), "sacd_disk_free_bytes"))
    metrics.set_disk(free_bytes=5, size_bytes=20)
    metrics.count_backup(1_600_000_000_250)
    metrics.count_backup(None)
    metrics.count_backup(None)
    samples = scraped(metrics)
    assert (value(samples, "sacd_disk_free_bytes"), value(samples, "sacd_disk_size_bytes")) == (5, 20)
    copies = {result: value(samples, "sacd_journal_backups_total", result=result) for result in ("made", "failed")}
    assert copies == {"made": 1, "failed": 2}
    assert value(samples, "sacd_last_backup_timestamp_seconds") == 1_600_000_000.25


def test_what_nobody_tells_is_asked_for_at_each_scrape() -> None:
    metrics, lost, ages = sink(), [3, 5, 5], [None, 1.5, 0.25]
    metrics.at_scrape(lambda: metrics.count_dropped("log", lost.pop(0)))
    metrics.at_scrape(lambda: metrics.set_feed_age(ages.pop(0)))
    first, second, third = scraped(metrics), scraped(metrics), scraped(metrics)
    assert [value(samples, "sacd_dropped_total", queue="log") for samples in (first, second, third)] == [3, 5, 5]
    assert math.isnan(value(first, "sacd_feed_age_seconds"))
    assert [value(samples, "sacd_feed_age_seconds") for samples in (second, third)] == [1.5, 0.25]


@pytest.mark.parametrize(
    ("values", "key"),
    [(MODES, DaemonSection.model_fields["mode"]), (SOURCES, MarketSection.model_fields["source"])],
    ids=["mode", "source"],
)
def test_labels_of_the_instance_are_what_the_configuration_allows(values: tuple[str, ...], key: Any) -> None:
    assert set(values) == set(get_args(key.annotation))


def test_the_configuration_in_force_is_shown_and_attempts_to_change_it_are_counted_by_outcome() -> None:
    metrics = sink()
    assert math.isnan(value(scraped(metrics), "sacd_config_last_reload_successful"))
    metrics.set_config("a" * 64, 1_600_000_000_000)
    samples = scraped(metrics)
    assert value(samples, "sacd_config_info", digest="a" * 64) == 1
    assert value(samples, "sacd_config_last_reload_success_timestamp_seconds") == 1_600_000_000.0
    assert {
        dict(labels)["outcome"]: count
        for (name, labels), count in samples.items()
        if name == "sacd_config_reloads_total"
    } == {"taken": 0, "unchanged": 0, "needs_restart": 0, "invalid": 0}
    metrics.publish(events.reloaded(ReloadOutcome.INVALID))
    samples = scraped(metrics)
    assert value(samples, "sacd_config_reloads_total", outcome="invalid") == 1
    assert value(samples, "sacd_config_last_reload_successful") == 0
    assert value(samples, "sacd_config_last_reload_success_timestamp_seconds") == 1_600_000_000.0
    assert value(samples, "sacd_config_info", digest="a" * 64) == 1
    metrics.publish(events.reloaded(ReloadOutcome.TAKEN))
    samples = scraped(metrics)
    assert value(samples, "sacd_config_last_reload_successful") == 1
    assert value(samples, "sacd_config_last_reload_success_timestamp_seconds") == events.BEGIN_MS / 1_000
    assert [dict(labels) for (name, labels) in samples if name == "sacd_config_info"] == [{"digest": "d" * 64}]


def test_slippage_is_held_against_the_cost_model_of_the_moment() -> None:
    metrics = sink()
    metrics.publish(filled(Side.BUY, 100.1))  # 10 basis points worse than 100
    metrics.set_slippage(0.002)
    metrics.publish(filled(Side.BUY, 100.1))
    samples = scraped(metrics)
    worse, better = (
        value(samples, "sacd_fill_excess_slippage_quote_total", side="buy", than_model=name)
        for name in ("worse", "better")
    )
    assert worse > 0.0
    assert better == pytest.approx(2.0 * worse)  # 0.001 - 0.002 beside 0.001 - 0.0005


def test_the_process_itself_is_measured() -> None:
    samples = after()
    resident = value(samples, "process_resident_memory_bytes")
    assert 5e6 < resident < 5e9
    assert value(samples, "process_open_fds") >= 3


def test_two_sinks_do_not_share_a_registry() -> None:
    first, second = sink(), sink()
    first.publish(JournalWritten(seconds=0.1, records=5))
    assert value(scraped(second), "sacd_journal_records_total") == 0


def test_no_second_series_stands_beside_counters() -> None:
    assert not [name for name, _ in after(*EVERY_EVENT) if name.endswith("_created")]


# ---- documents --------------------------------------------------------------------------------------------------
def test_the_committed_table_is_the_one_the_code_makes() -> None:
    committed = (ROOT / "docs" / "metrics.md").read_text()
    assert committed == metrics_table(), "docs/metrics.md is out of date: python -m daemon.metrics > docs/metrics.md"


def test_the_table_names_every_metric_of_a_scrape() -> None:
    types = [line.split()[2] for line in sink().render().decode().splitlines() if line.startswith("# TYPE ")]
    own = {name for name in types if name.startswith("sacd_")}
    assert len(own) > 40
    assert {name for name in own if f"| `{name}` |" not in metrics_table()} == set()


def test_promtool_finds_nothing_wrong() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        message = "promtool is not installed (Debian: apt-get install prometheus)"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    metrics = sink()
    for event in EVERY_EVENT:
        metrics.publish(event)
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=metrics.render(), capture_output=True, check=False, timeout=60
    )
    assert (checked.returncode, checked.stdout.decode(), checked.stderr.decode()) == (0, "", "")
