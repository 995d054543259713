"""The engine on fakes: order of steps, fills by hand, the feed's health, commands between candles.

Every test ends with `check_memory`: what is in the journal, folded again, is what is in memory.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from daemon.app_watchers import Guarded
from daemon.errors import FatalError, SacdError
from daemon.events import AccountMarked, CandleTaken, CommandTaken, Decided, Filled, OrderMoved
from daemon.fold import Memory
from daemon.ports import CandleGroup, FeedEvent, FeedHealth, FeedStatus, Gap, LateCandle
from strategy.risk import VerdictReason
from tests.daemon.engines import BUY, HOLD, SELL, START, Rig, _candle, make_rig
from tests.fakes.trading import BTC, ETH, HOUR_MS, candle


def _kinds(rig: Rig) -> list[str]:
    return [entry.kind for entry in rig.journal.entries]


async def _bought(*, is_live: bool = False, symbols: tuple[str, ...] = (BTC,), **changes: Any) -> Rig:
    """A rig that holds 40 % of each symbol's capital, bought at 100."""
    rig = make_rig(symbols, is_live=is_live, **changes)
    rig.voice.say((1.0, 0.8, 1.0))
    await rig.candle()
    if is_live:
        for symbol in symbols:
            await rig.trade(100.0, symbol)
    rig.voice.say(HOLD)
    await rig.candle()
    assert all(position.quantity > 0.0 for position in rig.engine.trader.portfolio.positions.values())
    rig.broker.asked.clear()
    return rig


# ---- order of steps ---------------------------------------------------------------------------------------------
async def test_an_order_leaves_only_after_its_decision_is_on_disk() -> None:
    rig = make_rig((BTC, ETH))
    rig.voice.say(BUY)
    for _ in range(5):
        await rig.candle()
    assert [what for what, _ in rig.broker.asked].count("submit") >= 2
    assert rig.broker.unwritten == []
    rig.check_memory()


@pytest.mark.fault(49)
async def test_nothing_is_sent_when_the_journal_cannot_be_written() -> None:
    rig = make_rig()
    rig.voice.say(BUY)
    rig.journal.failure = "no space left"
    with pytest.raises(FatalError, match="no space left"):
        await rig.candle()
    assert rig.broker.asked == []
    assert not [event for event in rig.told if isinstance(event, Decided | OrderMoved)]


async def test_a_command_that_cannot_be_journalled_is_refused_and_sends_nothing() -> None:
    rig = await _bought()
    rig.journal.failure = "no space left"
    with pytest.raises(FatalError, match="no space left"):
        await rig.engine.command("flatten", "test")
    assert rig.broker.asked == []


async def test_a_candle_and_its_decisions_are_one_transaction_behind_what_the_candle_filled() -> None:
    rig = make_rig((BTC, ETH))
    rig.voice.say(BUY)
    await rig.candle()
    assert _kinds(rig) == ["candle", "decision", "decision"]
    await rig.candle()
    fills = ["order", "fill"] * 2
    assert _kinds(rig)[3:] == ["order", "order", *fills, "candle", "decision", "decision"]
    rig.check_memory()


async def test_watchers_hear_candle_decision_and_account_in_that_order_with_the_decision_s_own_seq() -> None:
    rig = make_rig((BTC, ETH))
    rig.voice.say(BUY)
    await rig.candle()
    order = [type(e) for e in rig.told if isinstance(e, CandleTaken | Decided | AccountMarked)]
    assert order == [CandleTaken, CandleTaken, Decided, Decided, AccountMarked]
    seqs = {entry.payload["symbol"]: entry.seq for entry in rig.journal.entries if entry.kind == "decision"}
    told = {e.outcome.sight.candle.symbol: e.seq for e in rig.told if isinstance(e, Decided)}
    assert told == seqs


# ---- fills, by hand ---------------------------------------------------------------------------------------------
async def test_on_recorded_candles_an_order_fills_at_the_next_open_with_slippage_and_fee() -> None:
    rig = make_rig()
    rig.voice.say(BUY)
    await rig.candle(100.0)
    rig.voice.say(HOLD)
    await rig.candle(120.0, open=110.0)
    (fill,) = rig.of_kind("fill")
    # Half of 10,000 at 100 is 50; 110 and 5 basis points are 110.055, on the tick above 110.06; fee 10 basis points.
    assert (fill["quantity"], fill["price"]) == (50.0, 110.06)
    assert fill["fee"] == pytest.approx(50.0 * 110.06 * 0.001, abs=1e-12)
    portfolio = rig.engine.trader.portfolio
    assert portfolio.cash == pytest.approx(10_000.0 - 50.0 * 110.06 * 1.001, abs=1e-9)
    assert portfolio.equity == pytest.approx(portfolio.cash + 50.0 * 120.0, abs=1e-9)
    rig.check_memory()


async def test_on_a_live_feed_an_order_fills_at_the_next_trade_and_not_at_the_candle() -> None:
    rig = make_rig(is_live=True)
    rig.voice.say(BUY)
    await rig.candle(100.0)
    await rig.trade(105.0)
    (fill,) = rig.of_kind("fill")
    assert fill["price"] == 105.06  # 105 and 5 basis points are 105.0525
    assert fill["at_ms"] == rig.clock.now_ms()
    await rig.candle(103.0, open=104.0)
    assert len(rig.of_kind("fill")) == 1
    rig.check_memory()


async def test_a_live_purchase_that_met_no_trade_for_a_candle_is_not_bought_twice() -> None:
    rig = make_rig(is_live=True)
    rig.voice.say(BUY)
    await rig.candle()
    await rig.candle()  # no trade came: the decision starts from what is really held
    await rig.trade(100.0)
    (fill,) = rig.of_kind("fill")
    first, second = (payload["order"] for payload in rig.of_kind("decision"))
    assert fill["client_id"] == second["client_id"] != first["client_id"]
    ended = [p["client_id"] for p in rig.of_kind("order") if p["event"] == "cancelled"]
    assert ended == [first["client_id"]]
    assert rig.engine.trader.portfolio.exposure(BTC) == pytest.approx(0.5, abs=0.01)
    rig.check_memory()


async def test_a_newer_sale_takes_the_place_of_one_in_flight() -> None:
    rig = await _bought(is_live=True)
    held = rig.engine.trader.portfolio.positions[BTC].quantity
    rig.voice.say(SELL)
    await rig.candle()
    await rig.candle()
    assert [what for what, _ in rig.broker.asked] == ["submit", "cancel", "submit"]
    await rig.trade(99.0)
    assert [p["quantity"] for p in rig.of_kind("fill") if p["side"] == "sell"] == [held]
    rig.check_memory()


async def test_a_stop_fills_inside_the_candle_that_falls_through_it() -> None:
    rig = await _bought()
    entry = rig.engine.trader.portfolio.positions[BTC].average_entry
    await rig.candle(96.0, open=97.0, low=90.0)
    (fill,) = [p for p in rig.of_kind("fill") if p["side"] == "sell"]
    assert entry == 100.05  # 100 and 5 basis points
    stop = 95.04  # 5 % below is 95.0475, on the tick below
    assert fill["price"] == 94.99  # 95.04 less 5 basis points is 94.99248
    assert fill["reference_price"] == stop
    assert rig.engine.trader.stops[BTC] is None
    rig.check_memory()


async def test_a_live_stop_fills_at_the_trade_that_reaches_it() -> None:
    rig = await _bought(is_live=True)
    await rig.trade(95.05)
    assert len(rig.of_kind("fill")) == 1
    await rig.trade(94.0)
    assert rig.of_kind("fill")[-1]["price"] == 93.95  # 94 less 5 basis points is 93.953
    rig.check_memory()


async def test_a_stop_hit_by_a_trade_right_after_a_backfilled_candle_is_folded_in_that_order() -> None:
    rig = await _bought(is_live=True)
    await rig.candle(120.0, is_backfill=True)
    await rig.trade(90.0)
    assert rig.of_kind("fill")[-1]["side"] == "sell"
    assert rig.engine.trader.portfolio.peak > 10_500.0  # the backfilled close counted while it was held
    rig.check_memory()


async def test_backfilled_candles_fill_stops_and_decide_nothing() -> None:
    rig = await _bought()
    decided = len(rig.of_kind("decision"))
    await rig.candle(90.0, low=80.0, is_backfill=True)
    await rig.candle(90.0, is_backfill=True)
    assert len(rig.of_kind("decision")) == decided
    assert rig.engine.trader.portfolio.positions[BTC].quantity == 0.0
    await rig.engine.stop("done")
    rig.check_memory()


# ---- gaps, late copies, history ---------------------------------------------------------------------------------
@pytest.mark.fault(6)
async def test_gaps_and_late_copies_are_journalled_and_told_and_change_nothing() -> None:
    rig = await _bought()
    before = rig.engine.trader.state()
    gap = Gap(symbol=BTC, first_ms=rig.at * HOUR_MS, missing=2)
    late = LateCandle(candle=candle(BTC, START, 101.0), known=candle(BTC, START, 100.0))
    await rig.take(gap, late)
    assert rig.engine.trader.state() == before
    assert [event for event in rig.told if isinstance(event, Gap | LateCandle)] == [gap, late]
    rig.at += 2
    await rig.candle()
    assert rig.of_kind("gap") == [{"symbol": BTC, "first_ms": gap.first_ms, "missing": 2}]
    (copy,) = rig.of_kind("late_candle")
    assert (copy["late"][3], copy["used"][3]) == (101.0, 100.0)
    rig.check_memory()


async def test_history_is_written_in_groups_and_the_rest_with_the_next_decision() -> None:
    rig = make_rig()
    for _ in range(450):
        await rig.candle(is_backfill=True)
    assert _kinds(rig).count("candle") == 400
    await rig.candle()
    assert _kinds(rig) == ["candle"] * 451 + ["decision"]
    rig.check_memory()


async def test_a_checkpoint_after_so_many_decisions_holds_the_whole_state() -> None:
    rig = await _bought(symbols=(BTC, ETH), checkpoint_every=4)
    await rig.candle(101.0)
    (checkpoint,) = rig.of_kind("checkpoint")
    memory = Memory()
    memory.restore(checkpoint["memory"])
    assert memory.decisions == 4
    assert checkpoint["trader"]["portfolio"]["positions"][BTC]["quantity"] > 0.0
    rig.check_memory()


# ---- the health of a live feed ----------------------------------------------------------------------------------
@pytest.mark.parametrize("health", [FeedHealth.STALE, FeedHealth.RECONNECTING])
async def test_a_feed_that_says_it_is_not_live_stops_purchases_and_not_sales(health: FeedHealth) -> None:
    rig = await _bought(is_live=True, symbols=(BTC, ETH), daily_loss=0.9)
    await rig.take(FeedStatus(health=health, detail="mute"))
    rig.voice.say(BUY)
    await rig.candle(80.0, only=(ETH,), low=80.0)
    assert rig.reasons[-1] == "stop_loss_triggered"  # ETH has fallen through its stop: it is sold all the same
    rig.voice.say(SELL)
    await rig.candle(only=(BTC,))
    await rig.trade(100.0)
    await rig.trade(80.0, ETH)
    assert all(p.quantity == 0.0 for p in rig.engine.trader.portfolio.positions.values())
    rig.voice.say(BUY)
    await rig.candle(only=(BTC,))
    assert rig.reasons[-1] == "stale_feed"
    await rig.take(FeedStatus(health=FeedHealth.LIVE))
    await rig.candle(only=(BTC,))
    assert rig.reasons[-1] == "voted"
    assert [p["is_stale"] for p in rig.of_kind("feed")] == [True, False]
    rig.check_memory()


@pytest.mark.fault(1)
async def test_a_purchase_in_flight_is_withdrawn_when_the_feed_goes_stale() -> None:
    rig = make_rig(is_live=True)
    rig.voice.say(BUY)
    await rig.candle()
    await rig.take(FeedStatus(health=FeedHealth.STALE, detail="mute"))
    await rig.trade(100.0)
    assert rig.of_kind("fill") == []
    rig.check_memory()


@pytest.mark.fault(1)
async def test_a_live_feed_that_falls_silent_is_stale_although_it_says_nothing() -> None:
    rig = make_rig(is_live=True, stale_feed_s=120.0)
    await rig.candle(late_s=0.0)
    watching = asyncio.create_task(rig.engine.watch())
    await rig.clock.advance(119.0)
    assert rig.of_kind("feed") == []
    await rig.clock.advance(2.0)
    assert [p["is_stale"] for p in rig.of_kind("feed")] == [True]
    assert [e.health for e in rig.told if isinstance(e, FeedStatus)] == [FeedHealth.STALE]
    await rig.clock.advance(3_000.0)
    assert len(rig.of_kind("feed")) == 1
    await rig.trade(100.0)
    assert [p["is_stale"] for p in rig.of_kind("feed")] == [True, False]
    await rig.clock.advance(60.0)
    await rig.trade(100.0)
    await rig.clock.advance(119.0)
    assert len(rig.of_kind("feed")) == 2
    await rig.clock.advance(2.0)
    assert [p["is_stale"] for p in rig.of_kind("feed")] == [True, False, True]
    watching.cancel()
    rig.check_memory()


async def test_news_do_not_make_a_feed_live_that_says_it_is_not() -> None:
    rig = make_rig(is_live=True)
    await rig.take(FeedStatus(health=FeedHealth.RECONNECTING, detail="dropped"))
    await rig.trade(100.0)
    assert rig.engine.trader.risk.is_stale
    rig.check_memory()


async def test_a_candle_that_comes_too_late_is_no_news() -> None:
    rig = make_rig(is_live=True, stale_feed_s=120.0)
    rig.voice.say(BUY)
    await rig.trade(100.0)  # the first news is never silence: see test_feed_watch.py
    await rig.candle(late_s=121.0)
    assert rig.reasons == ["stale_feed"]
    await rig.trade(100.0)
    await rig.candle(late_s=119.0)
    assert rig.reasons[-1] == "voted"
    rig.check_memory()


async def test_a_stale_account_of_a_former_run_trades_again_with_the_first_news() -> None:
    rig = make_rig(is_live=True)
    rig.engine.trader.set_feed(is_stale=True, is_skewed=True)
    await rig.trade(100.0)
    state = rig.engine.trader.risk
    assert (state.is_stale, state.is_skewed) == (False, False)
    assert rig.of_kind("feed")[-1]["is_stale"] is False


@pytest.mark.fault(8)
@pytest.mark.parametrize("by", ["candle", "trade"])
async def test_news_from_the_future_stop_purchases_until_the_clocks_agree(by: str) -> None:
    rig = make_rig(is_live=True, clock_skew_s=5.0)
    rig.voice.say(BUY)
    if by == "candle":
        await rig.candle(late_s=-5.001)
    else:
        await rig.trade(100.0, late_s=-5.001)
        await rig.take(_group(rig, late_s=-6.0))
    assert rig.reasons == ["clock_skew"]
    assert rig.of_kind("feed")[0]["is_skewed"] is True
    (status,) = [e for e in rig.told if isinstance(e, FeedStatus)]
    assert "ahead of ours" in status.detail
    await rig.candle(late_s=-4.999)
    assert rig.reasons[-1] == "voted"
    assert [p["is_skewed"] for p in rig.of_kind("feed")] == [True, False]
    rig.check_memory()


def _group(rig: Rig, late_s: float) -> CandleGroup:
    made = _candle(BTC, rig.at, 100.0, {})
    rig.at += 1
    rig.clock.step_wall((rig.at * HOUR_MS - rig.clock.now_ms()) / 1_000 + late_s)
    return CandleGroup(candles=(made,))


async def test_recorded_candles_are_neither_stale_nor_skewed() -> None:
    rig = make_rig(stale_feed_s=1.0)
    rig.voice.say(BUY)
    await rig.candle(late_s=1e6)
    await rig.candle(late_s=-1e6)
    assert rig.of_kind("feed") == []
    assert rig.reasons[0] == "voted"


# ---- limits between candles -------------------------------------------------------------------------------------
@pytest.mark.fault(11)
async def test_a_price_that_breaks_the_drawdown_sells_everything_and_withdraws_purchases() -> None:
    rig = await _bought(is_live=True, symbols=(BTC, ETH), max_drawdown=0.01, stop_loss=0.5)
    rig.voice.say(BUY)
    await rig.candle(only=(ETH,))
    assert rig.of_kind("decision")[-1]["order"]["side"] == "buy"  # up to the limit of 50 %
    await rig.trade(95.0)
    assert rig.of_kind("risk")[0]["price"] == 95.0
    assert [p["side"] for p in rig.of_kind("fill")] == ["buy", "buy"]
    await rig.trade(95.0)
    await rig.trade(95.0, ETH)
    assert all(p.quantity == 0.0 for p in rig.engine.trader.portfolio.positions.values())
    await rig.candle(95.0)
    assert rig.engine.trader.risk.state.value == "halted"
    rig.check_memory()


# ---- commands ---------------------------------------------------------------------------------------------------
async def test_resume_says_that_a_daily_loss_still_holds_and_the_next_candle_sells_again() -> None:
    rig = await _bought(daily_loss=0.05, max_drawdown=0.9, stop_loss=0.9)
    await rig.candle(80.0)
    assert rig.engine.trader.risk.reason is VerdictReason.DAILY_LOSS_LIMIT
    effect = await rig.engine.command("resume", "test")
    assert effect.endswith("the daily loss limit still holds until 00:00 UTC")
    await rig.candle(80.0)
    assert rig.engine.trader.risk.reason is VerdictReason.DAILY_LOSS_LIMIT
    rig.check_memory()


async def test_resume_without_a_daily_loss_speaks_of_none() -> None:
    rig = await _bought(daily_loss=0.9, max_drawdown=0.9, stop_loss=0.9)
    await rig.candle(80.0)
    assert "daily loss" not in await rig.engine.command("resume", "test")


async def test_pause_withdraws_what_is_being_bought_and_refuses_more_until_resume() -> None:
    rig = make_rig()
    rig.voice.say(BUY)
    await rig.candle()
    effect = await rig.engine.command("pause", "test")
    assert "no new exposure" in effect
    await rig.candle()
    assert rig.of_kind("fill") == []
    assert rig.reasons[-1] == "paused"
    await rig.engine.command("resume", "test")
    await rig.candle()
    await rig.candle()
    assert len(rig.of_kind("fill")) == 1
    assert [p["verb"] for p in rig.of_kind("command")] == ["pause", "resume"]
    rig.check_memory()


async def test_pause_leaves_sales_and_stops_alone() -> None:
    rig = await _bought()
    rig.voice.say(SELL)
    await rig.candle()
    await rig.engine.command("pause", "test")
    await rig.candle()
    assert rig.engine.trader.portfolio.positions[BTC].quantity == 0.0
    rig.check_memory()


async def test_flatten_sells_everything_once_however_often_it_is_asked_for() -> None:
    rig = await _bought(symbols=(BTC, ETH))
    held = {s: p.quantity for s, p in rig.engine.trader.portfolio.positions.items()}
    for _ in range(3):
        await rig.engine.command("flatten", "test")
    await rig.candle()
    sold = {p["symbol"]: p["quantity"] for p in rig.of_kind("fill") if p["side"] == "sell"}
    assert sold == held
    assert len([p for p in rig.of_kind("fill") if p["side"] == "sell"]) == 2
    rig.voice.say(BUY)
    await rig.candle()
    assert rig.reasons[-1] == "paused"
    rig.check_memory()


async def test_flatten_withdraws_what_is_being_bought() -> None:
    rig = make_rig()
    rig.voice.say(BUY)
    await rig.candle()
    assert await rig.engine.command("flatten", "test") == "paused, 0 positions are being sold"
    await rig.candle()
    await rig.candle()
    assert rig.of_kind("fill") == []
    rig.check_memory()


async def test_a_sale_in_flight_and_flatten_together_sell_what_is_held_and_no_more() -> None:
    rig = await _bought()
    rig.voice.say((-1.0, 0.5, 1.0))
    await rig.candle()  # half is on its way
    await rig.engine.command("flatten", "test")
    rig.voice.say(HOLD)
    await rig.candle()
    await rig.candle()
    assert rig.engine.trader.portfolio.positions[BTC].quantity == 0.0
    rig.check_memory()


async def test_an_unknown_command_is_refused_and_leaves_no_trace() -> None:
    rig = await _bought()
    before = len(rig.journal.entries)
    with pytest.raises(SacdError, match=r"'sell'; known: pause, resume, flatten"):
        await rig.engine.command("sell", "test")
    assert len(rig.journal.entries) == before


async def test_a_command_waits_for_the_candle_that_is_being_carried_through() -> None:
    rig = make_rig()
    rig.voice.say(BUY)
    rig.journal.gate.clear()
    carrying = asyncio.create_task(rig.candle())
    await rig.journal.is_asked.wait()
    asking = asyncio.create_task(rig.engine.command("pause", "test"))
    await rig.clock.settle()
    assert not asking.done()
    rig.journal.gate.set()
    await carrying
    await asking
    assert _kinds(rig) == ["candle", "decision", "order", "order", "command"]
    assert rig.of_kind("order")[-1]["event"] == "cancelled"
    assert [e.verb for e in rig.told if isinstance(e, CommandTaken)] == ["pause"]
    rig.check_memory()


async def test_commands_and_candles_together_never_interleave() -> None:
    rig = make_rig((BTC, ETH), is_live=True)
    rig.voice.say(BUY)

    async def trade() -> None:
        for _ in range(20):
            await rig.candle()
            await rig.trade(100.0)
            await rig.trade(100.0, ETH)

    async def ask(verb: str) -> None:
        for _ in range(30):
            await rig.engine.command(verb, verb)
            await asyncio.sleep(0)

    await asyncio.gather(trade(), ask("pause"), ask("resume"), ask("flatten"))
    rig.check_memory()


# ---- the end ----------------------------------------------------------------------------------------------------
async def test_quiesce_lets_the_event_under_way_go_all_the_way_through() -> None:
    rig = make_rig()
    rig.voice.say(BUY)

    async def feed() -> AsyncIterator[FeedEvent]:
        while True:
            yield _group(rig, 1.0)

    rig.journal.gate.clear()
    running = asyncio.create_task(rig.engine.run(feed()))
    await rig.journal.is_asked.wait()
    ending = asyncio.create_task(rig.engine.quiesce(running))
    await rig.clock.settle()
    assert not ending.done()
    rig.journal.gate.set()
    await ending
    assert running.cancelled()
    assert [what for what, _ in rig.broker.asked] == ["submit"]
    assert rig.of_kind("decision")
    await rig.engine.stop("test")
    assert _kinds(rig)[-2:] == ["checkpoint", "stop"]
    rig.check_memory()


async def test_the_summary_counts_this_run() -> None:
    rig = await _bought()
    rig.voice.say(SELL)
    await rig.candle()
    await rig.candle()
    stopped = await rig.engine.stop("test")
    assert (stopped.decisions, stopped.orders, stopped.fills) == (4, 2, 2)
    assert stopped.portfolio == rig.engine.trader.portfolio
    assert stopped.quote == "USDT"


# ---- those who watch --------------------------------------------------------------------------------------------
class _Failing:
    def __init__(self) -> None:
        self.asked = 0

    def publish(self, event: Any) -> None:
        self.asked += 1
        raise RuntimeError("no screen")


async def test_a_sink_that_raises_is_left_out_and_changes_nothing() -> None:
    failing = _Failing()
    with_it, without = make_rig((BTC, ETH), sinks=[Guarded(failing)]), make_rig((BTC, ETH))
    for rig in (with_it, without):
        rig.voice.say(BUY)
        for close in (100.0, 103.0, 90.0, 95.0):
            await rig.candle(close)
    assert failing.asked == 1
    assert with_it.journal.entries == without.journal.entries
    assert [e for e in with_it.told if isinstance(e, Filled)] == [e for e in without.told if isinstance(e, Filled)]
