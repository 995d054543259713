"""The engine at a venue: what leaves when, what the venue's news do to the account, what has to be sold at once.

Every test ends with `check_memory`: what is in the journal, folded again, is what is in memory.
"""

from dataclasses import replace
from typing import Any

import pytest

from daemon import crash_points
from daemon.errors import FatalError
from daemon.events import AccountMarked, ExitForced, Filled, OrderMoved, Protected
from daemon.exits import PAUSE_S
from daemon.fold import Memory
from daemon.ports import External, FeedHealth, FeedStatus, NewSteps, OrderPath, StopLost
from strategy.instrument import Instrument
from strategy.order import Order, OrderEvent, OrderKind, OrderState, Side
from strategy.risk import VerdictReason
from tests.daemon.engines import BUY, HOLD, SELL, LiveRig, filled, make_live_rig, report
from tests.fakes.trading import BTC, ETH

SOME = (1.0, 0.8, 1.0)
"""A vote for 40 % of the capital: at 100, 40 of 10,000."""


async def _rig(*symbols: str, **changes: Any) -> LiveRig:
    rig = make_live_rig(symbols or (BTC,), **changes)
    await rig.start()
    return rig


async def _ordered(*symbols: str, **changes: Any) -> LiveRig:
    """A rig whose purchase of 40 % of each symbol's capital at 100 has been sent."""
    rig = await _rig(*symbols, **changes)
    rig.voice.say(SOME)
    await rig.candle()
    rig.voice.say(HOLD)
    return rig


async def _holding(*symbols: str, **changes: Any) -> LiveRig:
    """A rig that holds 40 % of each symbol's capital, bought at 100 without fee, its stops resting at the venue."""
    rig = await _ordered(*symbols, **changes)
    for order in list(rig.orders):
        await rig.tell(report(order, OrderEvent.ACCEPTED), filled(order))
        await _rests(rig, order.symbol)
    return rig


async def _rests(rig: LiveRig, symbol: str = BTC) -> None:
    stop = rig.stop(symbol)
    assert stop is not None
    await rig.tell(report(stop, OrderEvent.SENT), report(stop, OrderEvent.ACCEPTED))


def _external(**changes: Any) -> External:
    values: dict[str, Any] = {
        "external_id": "e-1",
        "asset": "USDT",
        "symbol": "",
        "ours": 0.0,
        "foreign": 0.0,
        "price": 1.0,
        "halts": False,
        "at_ms": 7,
        "detail": "somebody",
    }
    return External(**(values | changes))


# ---- what leaves, and when --------------------------------------------------------------------------------------
async def test_nothing_leaves_before_it_stands_in_the_journal() -> None:
    rig = await _holding(BTC, ETH)
    rig.voice.say(SELL)
    await rig.candle()
    for order in rig.orders[2:]:
        await rig.tell(report(order, OrderEvent.SENT), filled(order))
    assert [order.side for order in rig.orders] == [Side.BUY, Side.BUY, Side.SELL, Side.SELL]
    assert rig.broker.unwritten == []
    assert rig.stop(BTC) is rig.stop(ETH) is None
    rig.check_memory()


@pytest.mark.fault(49)
async def test_a_purchase_and_a_stop_are_not_released_when_the_journal_cannot_be_written() -> None:
    rig = await _ordered()
    (order,) = rig.orders
    before = list(rig.broker.left)
    rig.journal.failure = "no space left"
    with pytest.raises(FatalError, match="no space left"):
        await rig.tell(filled(order))
    assert rig.broker.left == before


async def test_a_fill_and_the_stop_it_needs_are_one_transaction() -> None:
    rig = await _ordered()
    (order,) = rig.orders
    await rig.tell(filled(order))
    assert rig.journal.batches[-1] == ["order", "fill", "intent"]
    stop = rig.stop()
    assert stop is not None
    assert (stop.kind, stop.quantity, stop.stop_price) == (OrderKind.STOP, 40.0, 95.0)  # 5 % below 100
    assert [order["client_id"] for order in (p["order"] for p in rig.of_kind("intent"))] == [stop.client_id]
    rig.check_memory()


async def test_a_stop_that_a_decision_moves_is_in_the_transaction_of_that_decision() -> None:
    rig = await _holding(stop_atr_multiple=3.0)
    (first,) = rig.of_kind("intent")
    await rig.candle(120.0)  # three average ranges of 1 % below the high: 116.4 less what float64 leaves, on the tick
    assert rig.journal.batches[-1] == ["candle", "decision", "intent"]
    moved = rig.stop()
    assert moved is not None
    assert moved.stop_price == 116.39
    assert moved.client_id != first["order"]["client_id"]
    rig.check_memory()


async def test_a_stop_that_stays_leaves_no_second_intent() -> None:
    rig = await _holding()
    for _ in range(3):
        await rig.candle()
    assert len(rig.of_kind("intent")) == 1
    assert len([event for event in rig.told if isinstance(event, Protected)]) == 1
    rig.check_memory()


async def test_the_named_moments_come_in_the_order_of_the_danger(monkeypatch: pytest.MonkeyPatch) -> None:
    rig, seen = await _rig(), list[tuple[str, int, int]]()
    monkeypatch.setattr(
        crash_points, "hook", lambda name: seen.append((name, rig.journal.last_seq, len(rig.broker.left)))
    )
    rig.voice.say(SOME)
    await rig.candle()
    assert [name for name, _, _ in seen] == ["decided", "intent_committed"]
    assert [(seq, left) for _, seq, left in seen] == [(1, 0), (3, 0)]  # run; candle and decision; nothing has left
    (order,) = rig.orders
    left = len(rig.broker.left)
    seen.clear()
    await rig.tell(filled(order))
    assert seen == [("fill_received", 3, left), ("intent_committed", 6, left), ("filled_no_stop", 6, left)]
    assert rig.stop() is not None


# ---- one order in flight per symbol -----------------------------------------------------------------------------
@pytest.mark.parametrize("event", [None, OrderEvent.SENT, OrderEvent.ACCEPTED])
async def test_while_an_order_is_in_flight_its_symbol_waits_and_others_do_not(event: OrderEvent | None) -> None:
    rig = await _ordered(BTC, ETH)
    first, second = rig.orders
    await rig.tell(filled(second))
    if event is not None:
        await rig.tell(report(first, event))
    rig.voice.say(SELL)
    rig.engine.trader.set_in_flight(())  # the engine finds out by itself
    await rig.candle()
    rig.voice.say(BUY)
    await rig.candle(only=(BTC,))
    reasons = {(p["symbol"], p["action"]): (p["verdict"], p["reason"]) for p in rig.of_kind("decision")[2:]}
    assert reasons[BTC, "buy"] == ("refused", "order_in_flight")
    assert reasons[ETH, "sell"] == ("approved", "voted")
    rig.check_memory()


async def test_a_sale_is_not_repeated_while_the_first_is_unknown() -> None:
    rig = await _holding()
    rig.voice.say(SELL)
    await rig.candle()
    sale = rig.orders[-1]
    await rig.tell(report(sale, OrderEvent.SENT), report(sale, OrderEvent.ANSWER_LOST))
    await rig.candle(90.0)  # below the stop: not even that sells what may be sold already
    last = rig.of_kind("decision")[-1]
    assert (last["verdict"], last["reason"]) == ("hold", "order_in_flight")
    assert await rig.engine.command("flatten", "test") == "paused, 0 positions are being sold"
    assert rig.orders[-1] is sale
    rig.check_memory()


async def test_cash_that_a_purchase_in_flight_may_take_is_not_there_for_another_symbol() -> None:
    rig = await _rig(BTC, ETH, max_position=1.0)
    await rig.tell(_external(ours=-5_000.0))
    rig.voice.say(BUY)
    await rig.candle(only=(BTC,))
    (first,) = rig.orders
    assert first.quantity == 25.0  # half of 5,000 at 100
    await rig.tell(_external(ours=-2_000.0, external_id="e-2"))
    await rig.candle(only=(ETH,))
    last = rig.of_kind("decision")[-1]
    # 25 at 100.05 and 10 basis points take 2,503.75 of 3,000: 496.25 are left, at 100.15005 that is 4.9550...
    assert (last["reason"], last["order"]["quantity"]) == ("insufficient_cash", 4.955)
    rig.check_memory()


@pytest.mark.fault(1)
async def test_purchases_in_flight_are_withdrawn_when_the_feed_goes_stale_and_end_by_proof_only() -> None:
    rig = await _ordered()
    (order,) = rig.orders
    await rig.take(FeedStatus(health=FeedHealth.STALE, detail="mute"))
    assert rig.broker.sent("cancel") == [order]
    assert list(rig.engine.memory.orders) == [order.client_id]
    await rig.tell(filled(order, 10.0))
    await rig.tell(report(order, OrderEvent.CANCELLED))
    assert rig.held() == 10.0
    assert rig.engine.memory.in_flight() == frozenset()
    rig.check_memory()


# ---- fills ------------------------------------------------------------------------------------------------------
async def test_a_fill_told_twice_changes_nothing_and_leaves_no_record() -> None:
    rig = await _ordered()
    (order,) = rig.orders
    done = filled(order, 10.0)
    await rig.tell(done)
    state, entries = rig.engine.trader.state(), len(rig.journal.entries)
    await rig.tell(done, done)
    await rig.tell(replace(done, event=OrderEvent.PARTLY_FILLED))
    assert (rig.engine.trader.state(), len(rig.journal.entries)) == (state, entries)
    await rig.tell(replace(done, event=OrderEvent.FILLED))  # what it says of the order is news, the fill is not
    assert rig.held() == 10.0
    assert rig.engine.memory.known(order.client_id) is not None
    assert rig.of_kind("order")[-1]["state"] == "filled"
    assert len([event for event in rig.told if isinstance(event, Filled)]) == 1
    rig.check_memory()


async def test_a_fill_that_comes_after_the_end_is_counted_and_protected() -> None:
    rig = await _ordered()
    (order,) = rig.orders
    await rig.tell(report(order, OrderEvent.CANCELLED))
    await rig.tell(filled(order, 15.0))
    assert rig.held() == 15.0
    known = rig.engine.memory.known(order.client_id)
    assert known is not None
    assert (known.state, known.filled) == (OrderState.CANCELLED, 15.0)
    stop = rig.stop()
    assert stop is not None
    assert stop.quantity == 15.0
    rig.check_memory()


async def test_a_stop_that_was_replaced_and_fills_late_counts_as_a_stop() -> None:
    rig = await _holding(stop_atr_multiple=3.0)
    old = rig.stop()
    assert old is not None
    await rig.candle(120.0)
    assert rig.stop() != old
    await rig.tell(filled(old))
    risk = rig.engine.trader.risk
    assert risk.symbols[BTC].blocked_by is VerdictReason.STOP_COOLDOWN
    assert risk.symbols[BTC].blocked_until_ms > 0
    assert rig.stop() is None
    rig.check_memory()


async def test_a_fee_in_base_leaves_less_than_was_bought_and_no_cash_pays_it() -> None:
    rig = await _ordered()
    (order,) = rig.orders
    await rig.tell(filled(order, fee=4.0, fee_base=0.04))
    assert rig.held() == pytest.approx(39.96, abs=1e-12)
    assert rig.engine.trader.portfolio.cash == 6_000.0
    assert rig.engine.trader.portfolio.fees == 4.0
    rig.check_memory()


async def test_a_fee_in_a_third_coin_costs_us_and_becomes_somebody_elses_quote() -> None:
    rig = await _ordered()
    await rig.tell(_external(foreign=100.0))
    (order,) = rig.orders
    await rig.tell(filled(order, fee=4.0, fee_coin="BNB"))
    assert rig.engine.trader.portfolio.cash == 10_000.0 - 4_000.0 - 4.0
    # The venue took 4,000 of 10,100: what is ours and what is not still add up to what lies there.
    assert rig.engine.memory.foreign == {"USDT": 104.0}
    rig.check_memory()


async def test_a_fee_in_a_coin_that_is_traded_too_leaves_its_owner_with_so_much_less_of_it() -> None:
    rig = await _ordered()
    await rig.tell(_external(asset="BNB", foreign=2.0))
    (order,) = rig.orders
    await rig.tell(filled(order, fee=4.0, fee_coin="BNB", fee_amount=0.0125))
    assert rig.engine.memory.foreign == {"BNB": 1.9875, "USDT": 4.0}
    rig.check_memory()


async def test_a_sale_beyond_what_the_books_hold_takes_in_the_difference_first() -> None:
    rig = await _holding()
    await rig.tell(_external(asset="BTC", symbol=BTC, foreign=3.0, price=100.0))
    rig.voice.say(SELL)
    await rig.candle()
    await rig.tell(filled(rig.orders[-1], 41.5, price=101.0))
    taken = rig.of_kind("external")[-1]
    assert (taken["ours"], taken["foreign"], taken["price"], taken["halts"]) == (1.5, -1.5, 101.0, True)
    assert rig.held() == 0.0
    assert rig.engine.memory.foreign == {"BTC": 1.5}  # 43 lay there, 41.5 are gone
    assert rig.journal.batches[-1] == ["external", "order", "fill"]
    assert rig.engine.trader.portfolio.cash == 6_000.0 + 41.5 * 101.0
    rig.check_memory()


@pytest.mark.parametrize(
    ("before", "wrong"),
    [
        ([OrderEvent.REJECTED], OrderEvent.ACCEPTED),
        ([OrderEvent.SENT, OrderEvent.ACCEPTED], OrderEvent.NOT_FOUND),
        ([OrderEvent.SENT, OrderEvent.NOT_FOUND], OrderEvent.FILLED),
    ],
)
async def test_news_that_cannot_be_stop_the_engine_naming_order_state_and_event(
    before: list[OrderEvent], wrong: OrderEvent
) -> None:
    rig = await _ordered()
    (order,) = rig.orders
    await rig.tell(*(report(order, event) for event in before))
    with pytest.raises(FatalError, match=rf"{order.client_id} of BTC/USDT: an order that is \w+ cannot be {wrong}"):
        await rig.tell(report(order, wrong))


async def test_news_of_an_order_nobody_knows_stop_the_engine() -> None:
    rig = await _rig()
    stranger = Order(
        client_id="s-stranger", symbol=BTC, side=Side.SELL, quantity=1.0, reference_price=100.0, decided_ms=0,
        reason="voted", reduces=True,
    )  # fmt: skip
    with pytest.raises(FatalError, match="s-stranger moves"):
        await rig.tell(report(stranger, OrderEvent.ACCEPTED))


# ---- what cannot wait for a candle ------------------------------------------------------------------------------
async def test_what_a_purchase_in_flight_brought_is_sold_at_once_after_flatten() -> None:
    rig = await _ordered()
    (order,) = rig.orders
    await rig.engine.command("flatten", "test")
    assert rig.broker.sent("cancel") == [order]
    await rig.tell(filled(order, 25.0))
    assert len(rig.orders) == 1  # it may fill further
    await rig.tell(report(order, OrderEvent.CANCELLED))
    sale = rig.orders[-1]
    assert (sale.side, sale.quantity, sale.reason) == (Side.SELL, 25.0, "operator")
    (stored,) = rig.of_kind("exit")
    assert [values["client_id"] for values in stored["orders"]] == [sale.client_id]
    assert [event.order for event in rig.told if isinstance(event, ExitForced)] == [sale]
    await rig.tell(filled(sale))
    assert rig.held() == 0.0
    rig.check_memory()


async def test_a_drawdown_found_while_an_order_is_in_flight_sells_when_that_has_ended() -> None:
    rig = await _holding(BTC, ETH, max_drawdown=0.02, stop_loss=0.5, daily_loss=0.9)
    rig.voice.say((1.0, 0.1, 1.0))
    await rig.candle(only=(BTC,))
    adding = rig.orders[-1]
    assert adding.side is Side.BUY
    await rig.trade(80.0)  # ETH can be sold at once, BTC has to wait
    assert [(o.symbol, o.side) for o in rig.orders[3:]] == [(ETH, Side.SELL)]
    await rig.tell(report(adding, OrderEvent.EXPIRED))
    last = rig.orders[-1]
    assert (last.symbol, last.side, last.quantity, last.reason) == (BTC, Side.SELL, 20.0, "max_drawdown_exceeded")
    rig.check_memory()


async def test_a_sale_of_which_nothing_filled_is_offered_again_after_a_pause_and_not_before() -> None:
    rig = await _holding()
    await rig.engine.command("flatten", "test")
    (_, first) = rig.orders
    await rig.tell(report(first, OrderEvent.SENT), report(first, OrderEvent.EXPIRED))
    await rig.trade(100.0)
    assert len(rig.orders) == 2
    await rig.clock.advance(PAUSE_S)
    await rig.trade(100.0)
    assert len(rig.orders) == 3
    second = rig.orders[-1]
    assert (second.quantity, second.client_id == first.client_id) == (40.0, False)
    await rig.tell(filled(second, 10.0), report(second, OrderEvent.EXPIRED))
    assert rig.orders[-1].quantity == 30.0  # something filled: the rest goes at once
    rig.check_memory()


async def test_a_sale_that_fails_again_and_again_waits_twice_as_long_each_time() -> None:
    rig = await _holding()
    await rig.engine.command("flatten", "test")
    for wait_s in (5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0):
        sale = rig.orders[-1]
        await rig.tell(report(sale, OrderEvent.SENT), report(sale, OrderEvent.EXPIRED))
        await rig.clock.advance(wait_s - 1.0)
        await rig.trade(100.0)
        assert rig.orders[-1] is sale, wait_s
        await rig.clock.advance(1.0)
        await rig.trade(100.0)
        assert rig.orders[-1] is not sale, wait_s
    rig.check_memory()


async def test_a_price_that_has_passed_the_stop_at_a_close_sells_what_a_part_sale_left() -> None:
    rig = await _holding()
    await rig.candle(94.0)
    sale = rig.orders[-1]
    assert sale.reason == "stop_loss_triggered"
    await rig.tell(filled(sale, 30.0), report(sale, OrderEvent.EXPIRED))
    rest = rig.orders[-1]
    assert (rest.quantity, rest.reason) == (10.0, "stop_loss_triggered")
    rig.check_memory()


# ---- stops the venue loses --------------------------------------------------------------------------------------
async def test_a_lost_stop_is_renewed_under_another_id_and_the_same_terms() -> None:
    rig = await _holding()
    old = rig.stop()
    assert old is not None
    await rig.tell(report(old, OrderEvent.CANCELLED, detail="by the venue"), StopLost(symbol=BTC, detail="cancelled"))
    new = rig.stop()
    assert new is not None
    assert new.client_id != old.client_id
    assert replace(new, client_id=old.client_id) == old
    assert rig.of_kind("intent")[-1]["renews"] is True
    assert rig.broker.unwritten == []
    rig.check_memory()


async def test_a_position_no_stop_can_be_placed_for_is_sold_and_offered_until_it_is_gone_or_protected() -> None:
    rig = await _holding()
    await rig.tell(StopLost(symbol=BTC, detail="refused", is_last=True))
    sale = rig.orders[-1]
    assert (sale.side, sale.quantity, sale.reason) == (Side.SELL, 40.0, "unprotected")
    assert rig.of_kind("exit")[-1]["unprotected"] is True
    await rig.tell(report(sale, OrderEvent.REJECTED))
    await rig.clock.advance(PAUSE_S)
    await rig.trade(100.0)
    again = rig.orders[-1]
    assert (again.reason, again.client_id == sale.client_id) == ("unprotected", False)
    await rig.tell(report(again, OrderEvent.REJECTED))
    await rig.tell(StopLost(symbol=BTC, detail="try again"))
    await _rests(rig)
    await rig.clock.advance(10 * PAUSE_S)
    await rig.trade(100.0)
    assert rig.orders[-1] is again
    rig.check_memory()


async def test_a_lost_stop_of_what_is_sold_meanwhile_needs_nothing() -> None:
    rig = await _holding()
    rig.voice.say(SELL)
    await rig.candle()
    await rig.tell(filled(rig.orders[-1]))
    count = len(rig.journal.entries)
    await rig.tell(StopLost(symbol=BTC, detail="gone"), StopLost(symbol=BTC, detail="gone", is_last=True))
    assert len(rig.journal.entries) == count
    assert len(rig.orders) == 2
    rig.check_memory()


# ---- the account at the venue -----------------------------------------------------------------------------------
async def test_the_opening_notes_what_is_somebody_elses_and_moves_nothing_of_ours() -> None:
    rig = await _rig()
    assert rig.engine.memory.foreign is None
    before = rig.engine.trader.state()
    opening = [
        _external(foreign=250.0),
        _external(external_id="e-2", asset="BTC", symbol=BTC, foreign=0.5, price=100.0),
        _external(external_id="e-3", asset="ETH", symbol="", foreign=0.0),
    ]
    await rig.tell(*opening)
    assert rig.engine.memory.foreign == {"USDT": 250.0, "BTC": 0.5, "ETH": 0.0}
    assert rig.engine.trader.state() == before
    assert [event for event in rig.told if isinstance(event, External)] == opening
    rig.check_memory()


async def test_a_deposit_that_is_adopted_is_neither_gain_nor_loss() -> None:
    rig = await _holding()
    await rig.candle(90.0 + 6.0)  # 40 x 96 + 6,000: 1.6 % lost
    drawdown = rig.engine.trader.portfolio.drawdown
    await rig.tell(_external(ours=9_840.0))
    portfolio = rig.engine.trader.portfolio
    assert (portfolio.cash, portfolio.equity) == (15_840.0, 19_680.0)
    assert portfolio.drawdown == pytest.approx(drawdown, abs=1e-15)
    assert drawdown == pytest.approx(0.016)
    assert portfolio.peak == pytest.approx(20_000.0)
    rig.check_memory()


async def test_base_that_is_adopted_gets_a_stop_in_the_same_transaction() -> None:
    rig = await _rig()
    await rig.candle()
    await rig.tell(_external(asset="BTC", symbol=BTC, ours=2.0, price=100.0))
    assert rig.journal.batches[-1] == ["external", "intent"]
    stop = rig.stop()
    assert stop is not None
    assert (stop.quantity, stop.stop_price) == (2.0, 95.0)
    rig.check_memory()


async def test_what_somebody_sold_of_ours_is_gone_and_its_stop_follows() -> None:
    rig = await _holding()
    await rig.tell(_external(asset="BTC", symbol=BTC, ours=-15.0, price=100.0, halts=True))
    assert rig.held() == 25.0
    stop = rig.stop()
    assert stop is not None
    assert stop.quantity == 25.0
    assert (rig.engine.trader.portfolio.wins, rig.engine.trader.portfolio.losses) == (0, 0)
    rig.voice.say(BUY)
    await rig.candle()
    assert rig.reasons[-1] == "symbol_halted"
    await rig.engine.command("resume", "test")
    await rig.candle()
    assert rig.of_kind("decision")[-1]["verdict"] == "approved"
    rig.check_memory()


@pytest.mark.parametrize("symbol", ["", ETH])
async def test_a_halt_stops_purchases_of_its_symbol_or_of_all_and_no_sale(symbol: str) -> None:
    rig = await _ordered(BTC, ETH)
    for order in list(rig.orders):
        await rig.tell(filled(order))
    asset = "ETH" if symbol else "USDT"
    await rig.tell(_external(asset=asset, symbol=symbol, foreign=1.0, price=100.0, halts=True))
    rig.voice.say(BUY)
    await rig.candle()
    refused = {p["symbol"] for p in rig.of_kind("decision")[2:] if p["reason"] == "symbol_halted"}
    assert refused == ({ETH} if symbol else {BTC, ETH})
    rig.voice.say(SELL)
    await rig.candle(only=(ETH,))
    assert rig.of_kind("decision")[-1]["verdict"] == "approved"
    rig.check_memory()


async def test_a_halt_withdraws_what_is_being_bought() -> None:
    rig = await _ordered()
    await rig.tell(_external(foreign=-5.0, halts=True))
    assert rig.broker.sent("cancel") == rig.orders
    rig.check_memory()


async def test_a_change_that_cannot_be_stops_the_engine() -> None:
    rig = await _rig()
    with pytest.raises(FatalError, match=r"e-1 of BTC cannot be: 1.0 BTC/USDT went, only 0.0 was held"):
        await rig.tell(_external(asset="BTC", symbol=BTC, ours=-1.0, price=100.0))


# ---- the way to the venue ---------------------------------------------------------------------------------------
async def test_nothing_is_bought_while_orders_cannot_be_sent() -> None:
    rig = await _rig()
    await rig.tell(OrderPath(is_open=False, detail="no answer for 15 s"))
    rig.voice.say(BUY)
    await rig.candle()
    assert rig.reasons[-1] == "venue_closed"
    await rig.tell(OrderPath(is_open=True))
    await rig.candle()
    assert rig.of_kind("decision")[-1]["verdict"] == "approved"
    assert [event.is_open for event in rig.told if isinstance(event, OrderPath)] == [False, True]
    rig.check_memory()


async def test_a_key_that_is_refused_pauses_until_a_person_resumes() -> None:
    rig = await _rig()
    await rig.tell(OrderPath(is_open=False, detail="key revoked", needs_person=True))
    await rig.tell(OrderPath(is_open=True))
    rig.voice.say(BUY)
    await rig.candle()
    assert rig.reasons[-1] == "paused"
    await rig.engine.command("resume", "test")
    await rig.candle()
    assert rig.of_kind("decision")[-1]["verdict"] == "approved"
    rig.check_memory()


async def test_a_new_run_asks_the_venue_afresh_and_knows_every_stop_it_may_place() -> None:
    rig = await _holding()
    await rig.tell(OrderPath(is_open=False), NewSteps(instruments={}, closed=frozenset({BTC})))
    assert rig.engine.trader.risk.closed == {BTC}
    # Other parameters decided on another stop meanwhile: as if this start had found it so.
    rig.engine.trader.renew_stop(BTC)
    entries = len(rig.journal.entries)
    await rig.start()
    assert [entry.kind for entry in rig.journal.entries[entries:]] == ["run", "venue", "intent"]
    state = rig.engine.trader.risk
    assert (state.is_cut_off, state.closed) == (False, frozenset())


async def test_nothing_is_bought_in_a_closed_market_and_what_is_held_may_go() -> None:
    rig = await _holding(BTC, ETH)
    await rig.tell(NewSteps(instruments={}, closed=frozenset({ETH})))
    rig.voice.say(BUY)
    await rig.candle()
    refused = {p["symbol"]: p["reason"] for p in rig.of_kind("decision")[2:]}
    assert (refused[ETH], refused[BTC]) == ("venue_closed", "voted")
    rig.voice.say(SELL)
    await rig.candle(only=(ETH,))
    assert rig.of_kind("decision")[-1]["verdict"] == "approved"
    await rig.tell(NewSteps(instruments={}, closed=frozenset()))
    assert rig.engine.trader.risk.closed == frozenset()
    assert [p["closed"] for p in rig.of_kind("venue")] == [[ETH], []]
    rig.check_memory()


async def test_new_steps_begin_a_run_record_that_checkpoints_name() -> None:
    rig = await _rig(checkpoint_every=1)
    coarse = Instrument(symbol=BTC, tick=0.5, lot=0.3, min_notional=7.0)
    await rig.tell(NewSteps(instruments={BTC: coarse}))
    runs = [entry.seq for entry in rig.journal.entries if entry.kind == "run"]
    assert len(runs) == 2
    rig.voice.say(SOME)
    await rig.candle()
    assert rig.orders[-1].quantity == 39.9  # 40, on lots of 0.3
    await rig.tell(filled(rig.orders[-1], price=100.3))
    stop = rig.stop()
    assert stop is not None
    assert stop.stop_price == 95.0  # 95.285, on ticks of 0.5
    assert rig.of_kind("checkpoint")[-1]["run"] == runs[-1]
    rig.check_memory()


async def test_steps_and_markets_that_have_not_changed_leave_no_record() -> None:
    rig = await _rig()
    entries = len(rig.journal.entries)
    await rig.tell(NewSteps(instruments=rig.setup.instruments))
    assert len(rig.journal.entries) == entries
    rig.check_memory()


# ---- memory -----------------------------------------------------------------------------------------------------
async def test_a_checkpoint_keeps_stops_late_orders_their_fills_and_what_is_somebody_elses() -> None:
    rig = await _holding(checkpoint_every=1)
    await rig.tell(_external(foreign=12.5))
    await rig.candle()
    await rig.engine.stop("test")
    memory = Memory()
    memory.restore(rig.of_kind("checkpoint")[-1]["memory"])
    (bought,) = rig.orders
    stop = rig.stop()
    assert stop is not None
    assert list(memory.orders) == [stop.client_id]
    assert memory.orders[stop.client_id].state is OrderState.OPEN
    assert list(memory.ended) == [bought.client_id]
    assert memory.fill_ids == {bought.client_id: [f"t-{bought.client_id}"]}
    assert memory.foreign == {"USDT": 12.5}
    assert memory.in_flight() == frozenset()
    rig.check_memory()


async def test_watchers_hear_of_orders_what_they_were_meant_to_be() -> None:
    rig = await _holding()
    moved = [event for event in rig.told if isinstance(event, OrderMoved)]
    assert {event.order.kind for event in moved} == {OrderKind.MARKET, OrderKind.STOP}
    assert all(event.order.client_id == event.report.client_id for event in moved)


# ---- what a person hears ----------------------------------------------------------------------------------------
async def test_a_way_that_closes_is_in_the_account_that_is_shown_before_the_next_candle() -> None:
    rig = await _holding()
    await rig.tell(OrderPath(is_open=False, detail="no answer"))
    shown = [event for event in rig.told if isinstance(event, AccountMarked)]
    assert shown[-1].risk.is_cut_off
    await rig.tell(OrderPath(is_open=True))
    shown = [event for event in rig.told if isinstance(event, AccountMarked)]
    assert not shown[-1].risk.is_cut_off
    rig.check_memory()


async def test_a_resume_says_what_it_does_not_lift() -> None:
    rig = await _holding()
    await rig.tell(OrderPath(is_open=False, detail="the key is refused", needs_person=True))
    effect = await rig.engine.command("resume", "test")
    assert effect.startswith("trading; ")
    assert effect.endswith("; still no new exposure: the venue takes no orders")
    await rig.tell(OrderPath(is_open=True))
    assert "still" not in await rig.engine.command("resume", "test")
    rig.check_memory()
