"""The live broker over a venue in memory that goes wrong in every way the fault matrix names (rows 13 to 44)."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from daemon.errors import ConfigError
from daemon.live_settings import EntryStyle
from daemon.ports import NewSteps, OrderPath, StopLost
from daemon.venue import RefusalKind, VenueState
from strategy.order import Side
from tests.fakes.live import Desk, make_desk, without
from tests.fakes.trading import BTC
from tests.fakes.venue import FULL, Fault


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    made = make_desk()
    await made.up()
    yield made
    made.check_tasks()
    await made.down()


def is_consistent(desk: Desk) -> None:
    """Books and venue hold the same, and one stop protects what can be sold."""
    assert desk.books.holdings[BTC] == pytest.approx(desk.venue.holds["BTC"], abs=1e-9)
    assert desk.books.money == pytest.approx(desk.venue.holds["USDT"], abs=1e-6)
    held = desk.books.holdings[BTC]
    assert [quantity for quantity, _ in desk.stops_at_venue()] == ([pytest.approx(held)] if held >= 0.06 else [])


async def test_a_purchase_is_sent_filled_and_protected_by_one_stop(desk: Desk) -> None:
    order = await desk.buy(1.0)
    await desk.clock.advance(1.0)
    assert order is not None
    assert desk.events(order.client_id) == ["sent", "accepted", "filled"]
    assert desk.books.holdings[BTC] == 1.0
    assert desk.books.money == pytest.approx(10_000.0 - 100.01 * 1.001)
    assert desk.stops_at_venue() == [(1.0, 95.0)]
    is_consistent(desk)


async def test_nothing_leaves_before_it_is_released(desk: Desk) -> None:
    await desk.buy(1.0, release=False)
    await desk.clock.advance(10.0)
    assert desk.venue.log == []
    desk.broker.release()
    await desk.clock.advance(1.0)
    assert len(desk.venue.log) == 2  # the purchase and its stop


async def test_a_sale_moves_its_stop_out_of_the_way_and_leaves_none(desk: Desk) -> None:
    await desk.buy(1.0)
    await desk.clock.advance(1.0)
    order = await desk.sell()
    await desk.clock.advance(1.0)
    assert order is not None
    assert desk.state(order) == "filled"
    assert desk.books.holdings[BTC] == 0.0
    is_consistent(desk)


async def test_a_partial_sale_leaves_a_smaller_stop(desk: Desk) -> None:
    await desk.buy(1.0)
    await desk.clock.advance(1.0)
    await desk.sell(0.4)
    await desk.clock.advance(1.0)
    assert desk.stops_at_venue() == [(0.6, 95.0)]
    is_consistent(desk)


async def test_a_stop_that_triggers_is_told_once_and_leaves_nothing(desk: Desk) -> None:
    await desk.buy(1.0)
    await desk.clock.advance(1.0)
    desk.venue.move(BTC, 94.9)
    await desk.clock.advance(1.0)
    assert desk.books.holdings[BTC] == 0.0
    assert desk.of(StopLost) == []
    is_consistent(desk)


# ---- answers that never come ----------------------------------------------------------------------------------------
async def test_a_request_whose_reply_is_lost_is_found_and_never_repeated(desk: Desk) -> None:
    desk.venue.mute = True
    desk.venue.fail("create", Fault.DROP_REPLY)
    order = await desk.buy(1.0)
    await desk.clock.advance(5.0)
    assert order is not None
    assert desk.events(order.client_id)[:3] == ["sent", "answer_lost", "accepted"]
    assert desk.state(order) == "filled"
    assert len(desk.venue.orders_of(order.client_id)) == 1
    is_consistent(desk)


async def test_a_request_that_never_arrived_ends_not_placed_after_the_full_time_and_is_not_repeated(desk: Desk) -> None:
    desk.venue.fail("create", Fault.DROP_REQUEST)
    order = await desk.buy(1.0)
    await desk.clock.advance(29.0)
    assert order is not None
    assert desk.state(order) == "unknown"
    await desk.clock.advance(20.0)
    assert desk.state(order) == "not_placed"
    assert desk.venue.log == []
    assert await desk.buy(1.0) is not None  # the symbol is free again


async def test_an_order_hidden_for_a_while_is_never_taken_for_absent(desk: Desk) -> None:
    desk.venue.mute, desk.venue.hide_next = True, 4
    desk.venue.fail("create", Fault.DROP_REPLY)
    desk.venue.books[BTC].depth = 0.5
    order = await desk.buy(1.0)
    await desk.clock.advance(60.0)
    assert order is not None
    assert desk.state(order) == "expired"
    assert desk.books.holdings[BTC] == 0.5
    is_consistent(desk)


async def test_a_lookup_never_gives_up_while_the_venue_cannot_be_reached(desk: Desk) -> None:
    desk.venue.fail("create", Fault.CUT)
    desk.venue.mute = True
    order = await desk.buy(1.0)
    await desk.clock.advance(600.0)
    assert order is not None
    assert desk.state(order) == "unknown"
    desk.venue.is_reachable = True
    await desk.clock.advance(15.0)
    assert desk.state(order) == "filled"
    is_consistent(desk)


async def test_a_purchase_that_was_not_sent_is_not_sent_again(desk: Desk) -> None:
    desk.venue.fail("create", Fault.NOT_SENT)
    order = await desk.buy(1.0)
    await desk.clock.advance(60.0)
    assert order is not None
    assert desk.state(order) == "not_placed"
    assert desk.venue.log == []


async def test_a_sale_that_provably_never_left_is_sent_again(desk: Desk) -> None:
    await desk.buy(1.0)
    await desk.clock.advance(1.0)
    desk.venue.fail("create", Fault.NOT_SENT, Fault.NOT_SENT)
    order = await desk.sell()
    await desk.clock.advance(10.0)
    assert order is not None
    assert desk.state(order) == "filled"
    assert len(desk.venue.orders_of(order.client_id)) == 1
    is_consistent(desk)


# ---- fills ----------------------------------------------------------------------------------------------------------
async def test_fills_twice_over_and_backwards_count_once(desk: Desk) -> None:
    desk.venue.duplicates, desk.venue.mute = 3, True
    await desk.buy(1.0)
    await desk.clock.advance(5.0)
    desk.venue.catch_up(backwards=True)
    await desk.clock.advance(5.0)
    assert desk.books.holdings[BTC] == 1.0
    is_consistent(desk)


async def test_a_partial_fill_followed_by_silence_is_polled_and_protected() -> None:
    desk = make_desk(entry=EntryStyle.MAKER, maker_wait_s=30.0)
    await desk.up()
    desk.venue.mute = True
    order = await desk.buy(1.0)
    assert order is not None
    desk.venue.fill(order.client_id, 0.3)
    await desk.clock.advance(5.0)
    assert desk.books.holdings[BTC] == 0.3
    assert desk.stops_at_venue() == [(0.3, 95.0)]
    await desk.clock.advance(40.0)
    assert desk.state(order) == "cancelled"
    is_consistent(desk)
    await desk.down()


async def test_trades_the_venue_never_shows_become_one_fill_and_are_not_counted_again(desk: Desk) -> None:
    desk.venue.show_trades = False
    order = await desk.buy(1.0)
    await desk.clock.advance(20.0)
    assert order is not None
    assert desk.state(order) == "open"
    await desk.clock.advance(30.0)
    (fill,) = [report.fill for report in desk.reports(order.client_id) if report.fill]
    assert (fill.fill_id, fill.quantity, fill.price) == (f"r-{order.client_id}-1", 1.0, 100.01)
    desk.venue.show_trades = True
    desk.venue.speak(*desk.venue.all_trades)
    await desk.clock.advance(60.0)
    assert desk.books.holdings[BTC] == 1.0


@pytest.mark.parametrize(
    ("coin", "fee", "fee_base", "fee_coin", "held"),
    [
        ("quote", 0.10001, 0.0, "", 1.0),
        ("", 0.10001, 0.001, "", 0.999),
        ("BNB", 0.10001, 0.0, "BNB", 1.0),
    ],
)
async def test_fees_are_taken_in_whatever_coin_they_were_paid(
    coin: str, fee: float, fee_base: float, fee_coin: str, held: float
) -> None:
    desk = make_desk(venue={"fee_coin": coin})
    desk.venue.holds["BNB"] = 5.0
    desk.books.strangers["BNB"] = 5.0
    await desk.up()
    order = await desk.buy(1.0)
    await desk.clock.advance(1.0)
    assert order is not None
    (fill,) = [report.fill for report in desk.reports(order.client_id) if report.fill]
    assert fill.fee == pytest.approx(fee)
    assert (fill.fee_base, fill.fee_coin) == (pytest.approx(fee_base), fee_coin)
    assert desk.books.holdings[BTC] == pytest.approx(held)
    assert [quantity for quantity, _ in desk.stops_at_venue()] == [pytest.approx(held)]
    sale = await desk.sell()
    await desk.clock.advance(1.0)
    assert sale is not None
    assert desk.state(sale) == "filled"
    await desk.down()


# ---- refusals -------------------------------------------------------------------------------------------------------
async def test_the_gateways_cap_refuses_whatever_was_approved(desk: Desk) -> None:
    order = await desk.buy(51.0)
    await desk.clock.advance(1.0)
    assert order is not None
    assert desk.state(order) == "rejected"
    assert "refused by us: order value" in desk.reports(order.client_id)[-1].detail
    assert desk.venue.log == []


async def test_a_purchase_too_old_is_not_sent(desk: Desk) -> None:
    order = await desk.buy(1.0, release=False)
    await desk.clock.advance(61.0)
    desk.broker.release()
    await desk.clock.advance(1.0)
    assert order is not None
    assert desk.state(order) == "not_placed"
    assert "too old to be sent" in desk.reports(order.client_id)[-1].detail


async def test_a_price_that_left_the_collar_stops_a_purchase_but_never_an_exit(desk: Desk) -> None:
    await desk.buy(1.0)
    await desk.clock.advance(1.0)
    desk.venue.move(BTC, 102.0, 102.02)
    order = await desk.buy(1.0)
    await desk.clock.advance(1.0)
    assert order is not None
    assert "left the collar" in desk.reports(order.client_id)[-1].detail
    desk.venue.move(BTC, 96.0, 96.02)
    sale = await desk.sell()
    await desk.clock.advance(1.0)
    assert sale is not None
    assert desk.state(sale) == "filled"


async def test_a_filter_refusal_refreshes_markets_once(desk: Desk) -> None:
    desk.venue.fail("create", RefusalKind.FILTER)
    order = await desk.buy(1.0)
    await desk.clock.advance(1.0)
    assert order is not None
    assert desk.state(order) == "rejected"
    assert desk.venue.calls.count(("markets", "")) == 1


async def test_a_closed_market_is_told_and_takes_no_orders(desk: Desk) -> None:
    desk.venue.fail("create", RefusalKind.CLOSED)
    await desk.buy(1.0)
    await desk.clock.advance(1.0)
    assert desk.of(NewSteps)[-1].closed == {BTC}


async def test_a_refused_key_closes_the_path_until_it_works_again(desk: Desk) -> None:
    desk.venue.fail("create", Fault.UNAUTHORISED)
    desk.venue.fail("balances", *[Fault.UNAUTHORISED] * 3)
    order = await desk.buy(1.0)
    await desk.clock.advance(1.0)
    assert order is not None
    assert desk.state(order) == "rejected"
    assert [(path.is_open, path.needs_person) for path in desk.of(OrderPath)] == [(False, True)]
    await desk.clock.advance(60.0)
    assert [path.is_open for path in desk.of(OrderPath)] == [False, True]


async def test_the_path_closes_after_fifteen_seconds_of_silence_and_opens_once_compared(desk: Desk) -> None:
    desk.venue.is_reachable = False
    await desk.clock.advance(60.0)
    assert [path.is_open for path in desk.of(OrderPath)] == [False]
    order = await desk.buy(1.0)
    await desk.clock.advance(5.0)
    assert order is not None
    assert desk.state(order) == "not_placed"
    desk.venue.is_reachable = True
    asked = desk.reconcile.asked
    await desk.clock.advance(20.0)
    assert [path.is_open for path in desk.of(OrderPath)] == [False, True]
    assert desk.reconcile.asked >= asked + 2


async def test_the_path_opens_again_while_a_stop_rests(desk: Desk) -> None:
    await desk.buy(1.0)
    await desk.clock.advance(10.0)
    assert len(desk.stops_at_venue()) == 1
    desk.venue.is_reachable = False
    await desk.clock.advance(60.0)
    desk.venue.is_reachable = True
    await desk.clock.advance(30.0)
    assert [path.is_open for path in desk.of(OrderPath)] == [False, True]
    assert len(desk.stops_at_venue()) == 1


# ---- cancelling -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("fault", [None, Fault.DROP_REPLY, Fault.DROP_REQUEST, Fault.FILL_FIRST, Fault.NOT_SENT])
async def test_a_cancel_ends_by_proof_whatever_became_of_it(fault: Fault | None) -> None:
    desk = make_desk(entry=EntryStyle.MAKER, maker_wait_s=1_000.0)
    await desk.up()
    order = await desk.buy(1.0)
    assert order is not None
    if fault is not None:
        desk.venue.fail("cancel", fault)
    await desk.cancel(order)
    await desk.clock.advance(10.0)
    assert desk.state(order) == ("filled" if fault is Fault.FILL_FIRST else "cancelled")
    is_consistent(desk)
    await desk.down()


async def test_what_was_cancelled_before_it_left_never_leaves(desk: Desk) -> None:
    order = await desk.buy(1.0, release=False)
    assert order is not None
    await desk.cancel(order)
    await desk.clock.advance(1.0)
    assert desk.state(order) == "not_placed"
    assert desk.venue.log == []


# ---- restarts -------------------------------------------------------------------------------------------------------
@pytest.mark.fault(37)
async def test_an_intent_that_never_left_is_denied_after_a_restart_and_not_sent() -> None:
    desk = make_desk()
    order = desk.order(BTC, Side.BUY, 1.0)
    desk.books.intend(order)
    await desk.up(60.0)
    desk.check_tasks()
    assert desk.starting is not None
    assert desk.starting.done()
    assert desk.state(order) == "not_placed"
    assert desk.venue.log == []
    await desk.down()


@pytest.mark.fault(41)
async def test_a_position_whose_stop_was_never_placed_is_protected_within_two_seconds_of_connecting() -> None:
    desk = make_desk()
    await desk.up()
    desk.venue.fail("create", Fault.DROP_REPLY)
    await desk.buy(1.0)
    desk.venue.faults["create"].extend([Fault.DROP_REQUEST] * 1)
    await desk.clock.settle()
    await desk.kill()
    desk.venue.faults["create"].clear()
    await desk.up(0.0)
    await desk.clock.advance(2.0)
    is_consistent(desk)
    assert desk.books.holdings[BTC] == 1.0
    await desk.down()


@pytest.mark.parametrize("price", [94.0, 100.0])
async def test_what_happened_while_nobody_watched_is_taken_in(price: float) -> None:
    desk = make_desk()
    await desk.up()
    await desk.buy(1.0)
    await desk.clock.advance(1.0)
    await desk.kill()
    desk.venue.move(BTC, price)
    await desk.up()
    assert desk.books.holdings[BTC] == (0.0 if price == 94.0 else 1.0)
    is_consistent(desk)
    assert len(desk.venue.log) == 2
    await desk.down()


async def test_a_start_with_a_refused_key_says_so() -> None:
    desk = make_desk()
    desk.venue.fail("open", Fault.UNAUTHORISED)
    with pytest.raises(ConfigError, match="refuses the key"):
        await desk.broker.start()


# ---- the end --------------------------------------------------------------------------------------------------------
@pytest.mark.fault(44)
async def test_draining_sends_nothing_new_cancels_entries_and_keeps_stops() -> None:
    desk = make_desk(entry=EntryStyle.MAKER, maker_wait_s=1_000.0)
    await desk.up()
    order = await desk.buy(1.0)
    assert order is not None
    desk.venue.fill(order.client_id, 0.5)
    await desk.clock.advance(1.0)
    draining = asyncio.ensure_future(desk.broker.drain())
    await desk.clock.advance(3.0)
    assert draining.done()
    assert desk.state(order) == "cancelled"
    assert desk.stops_at_venue() == [(0.5, 95.0)]
    late = await desk.buy(1.0)
    await desk.clock.advance(1.0)
    assert late is not None
    assert desk.state(late) == "not_placed"
    await desk.down()


@pytest.mark.fault(44)
async def test_draining_leaves_what_cannot_be_settled_unknown() -> None:
    desk = make_desk()
    await desk.up()
    desk.venue.mute = True
    desk.venue.fail("create", Fault.CUT)
    order = await desk.buy(1.0)
    draining = asyncio.ensure_future(desk.broker.drain())
    await desk.clock.advance(29.0)
    assert not draining.done()
    await desk.clock.advance(2.0)
    assert draining.done()
    assert order is not None
    assert desk.state(order) == "unknown"
    await desk.down()


@pytest.mark.fault(44)
async def test_a_switch_that_cannot_be_disarmed_holds_the_end_up_for_three_seconds_at_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk = make_desk()
    await desk.up()

    async def never() -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(desk.broker._dead_man, "disarm", never)
    draining = asyncio.ensure_future(desk.broker.drain())
    await desk.clock.advance(2.9)
    assert not draining.done()
    await desk.clock.advance(0.2)
    assert draining.done()
    await draining
    await desk.down()


async def test_closing_twice_is_harmless(desk: Desk) -> None:
    await desk.broker.close()
    await desk.broker.close()
    assert desk.venue.is_closed


async def test_a_foreign_order_is_left_alone(desk: Desk) -> None:
    desk.venue.stranger(BTC, Side.BUY, 1.0, 90.0)
    await desk.buy(1.0)
    await desk.clock.advance(120.0)
    await desk.sell()
    await desk.clock.advance(120.0)
    assert [r.order.foreign_id for r in desk.venue.resting(BTC)] == ["web-1"]


async def test_without_stops_at_the_venue_it_says_so_once_and_places_none() -> None:
    desk = make_desk(abilities=without(FULL, has_stop=False))
    await desk.up()
    await desk.buy(1.0)
    await desk.clock.advance(60.0)
    assert ["keeps no stops" in path.detail for path in desk.of(OrderPath)] == [True]
    assert len(desk.venue.log) == 1
    assert desk.of(StopLost) == []
    await desk.down()


async def test_orders_of_a_stream_that_never_was_are_polled() -> None:
    desk = make_desk(abilities=without(FULL, has_user_stream=False))
    await desk.up()
    await desk.buy(1.0)
    await desk.clock.advance(10.0)
    is_consistent(desk)
    desk.venue.move(BTC, 94.0)
    await desk.clock.advance(45.0)
    assert desk.books.holdings[BTC] == 0.0
    await desk.down()


async def test_a_state_the_venue_gives_by_itself_ends_an_entry() -> None:
    desk = make_desk(entry=EntryStyle.MAKER, maker_wait_s=1_000.0)
    await desk.up()
    order = await desk.buy(1.0)
    assert order is not None
    desk.venue.end(order.client_id, VenueState.EXPIRED)
    await desk.clock.advance(1.0)
    assert desk.state(order) == "expired"
    await desk.down()


@pytest.mark.fault(13)
async def test_an_order_that_only_the_balance_shows_is_not_denied(desk: Desk) -> None:
    desk.venue.mute, desk.venue.hide_next, desk.venue.show_trades = True, 14, False
    desk.venue.fail("create", Fault.DROP_REPLY)
    order = await desk.buy(1.0)
    assert order is not None
    await desk.clock.advance(100.0)  # three times as long as denials need, were the coins not there
    assert desk.state(order) == "unknown"
    desk.venue.show_trades = True
    await desk.clock.advance(300.0)
    assert desk.state(order) == "filled"
    assert len(desk.venue.orders_of(order.client_id)) == 1
