"""Protective stops: exactly one if and only if what is held can be sold, whatever the venue does to it."""

from collections.abc import AsyncIterator

import pytest

from daemon.live_settings import EntryStyle
from daemon.ports import OrderReport, StopLost
from daemon.venue import Market, RefusalKind, VenueState
from strategy.order import OrderKind
from tests.fakes.live import Desk, instrument, make_desk, without
from tests.fakes.trading import BTC
from tests.fakes.venue import FULL, Fault


@pytest.fixture
async def held() -> AsyncIterator[Desk]:
    """A desk that holds 1 BTC behind a stop."""
    desk = make_desk()
    await desk.up()
    await desk.buy(1.0)
    await desk.clock.advance(1.0)
    assert desk.stops_at_venue() == [(1.0, 95.0)]
    yield desk
    desk.check_tasks()
    await desk.down()


def stop_name(desk: Desk) -> str:
    stop = desk.books.stop(BTC)
    assert stop is not None
    return stop.client_id


def sales(desk: Desk) -> list[str]:
    """States of the sales that were decided, stops left out."""
    statuses = desk.books.statuses.values()
    return [s.state.value for s in statuses if s.order.kind is not OrderKind.STOP and s.order.reduces]


@pytest.mark.parametrize("state", [VenueState.CANCELLED, VenueState.EXPIRED])
async def test_a_stop_the_venue_ends_is_replaced_at_once_under_a_new_name(held: Desk, state: VenueState) -> None:
    before = stop_name(held)
    held.venue.end(before, state)
    await held.clock.advance(1.0)
    assert stop_name(held) != before
    assert held.stops_at_venue() == [(1.0, 95.0)]
    assert [lost.is_last for lost in held.of(StopLost)] == [False]


async def test_a_stop_ended_without_a_word_is_noticed_by_looking(held: Desk) -> None:
    held.venue.mute = True
    held.venue.end(stop_name(held))
    await held.clock.advance(40.0)
    assert held.stops_at_venue() == [(1.0, 95.0)]


async def test_three_failures_in_a_row_sell_the_position(held: Desk) -> None:
    held.venue.fail("create", RefusalKind.OTHER, RefusalKind.OTHER)
    held.venue.end(stop_name(held))
    await held.clock.advance(5.0)
    assert [lost.is_last for lost in held.of(StopLost)] == [False, False, True]
    assert [lost.detail.rpartition(", ")[2] for lost in held.of(StopLost)] == [f"{n} in a row" for n in (1, 2, 3)]
    assert sales(held) == ["filled"]
    assert held.books.holdings[BTC] == 0.0
    assert held.stops_at_venue() == []


async def test_failures_far_apart_are_not_in_a_row(held: Desk) -> None:
    for _ in range(5):
        held.venue.end(stop_name(held))
        await held.clock.advance(61.0)
        assert held.stops_at_venue() == [(1.0, 95.0)]
    assert not any(lost.is_last for lost in held.of(StopLost))


async def test_a_stop_whose_price_is_passed_sells_at_once(held: Desk) -> None:
    held.venue.books[BTC].bid, held.venue.books[BTC].ask = 94.0, 94.02  # a gap that did not trigger it
    held.venue.end(stop_name(held))
    await held.clock.advance(1.0)
    assert [lost.is_last for lost in held.of(StopLost)] == [False, True]
    assert held.books.holdings[BTC] == 0.0


async def test_an_exit_in_place_of_a_stop_is_tried_again_when_it_fails(held: Desk) -> None:
    held.venue.fail("create", RefusalKind.WOULD_TRADE, RefusalKind.OTHER)
    held.venue.end(stop_name(held))
    await held.clock.advance(10.0)
    assert sales(held) == ["rejected", "filled"]
    assert held.stops_at_venue() == []


async def test_a_sale_that_fails_leaves_its_stop_in_place(held: Desk) -> None:
    held.venue.fail("create", RefusalKind.OTHER)
    await held.sell()
    await held.clock.advance(5.0)
    assert sales(held) == ["rejected"]
    assert held.stops_at_venue() == [(1.0, 95.0)]


async def test_a_stop_whose_answer_is_lost_is_found_and_stays_the_only_one(held: Desk) -> None:
    held.venue.mute, held.venue.hide_next = True, 2
    held.venue.fail("create", Fault.DROP_REPLY)
    held.venue.end(stop_name(held))
    await held.clock.advance(60.0)
    assert held.stops_at_venue() == [(1.0, 95.0)]
    assert sales(held) == []


async def test_a_stop_that_never_arrived_is_replaced_by_another(held: Desk) -> None:
    held.venue.fail("create", Fault.DROP_REQUEST)
    held.venue.end(stop_name(held))
    await held.clock.advance(30.0)
    assert held.stops_at_venue() == [(1.0, 95.0)]


async def test_a_stop_that_shows_up_after_it_was_given_up_is_cancelled() -> None:
    desk = make_desk(abilities=without(FULL, stop_binds_funds=False))
    await desk.up()
    await desk.buy(1.0)
    await desk.clock.advance(1.0)
    desk.venue.mute, desk.venue.hide_next = True, 8
    desk.venue.fail("create", Fault.DROP_REPLY)
    desk.venue.end(stop_name(desk))
    await desk.clock.advance(300.0)
    assert desk.stops_at_venue() == [(1.0, 95.0)]
    await desk.down()


async def test_a_stop_that_fills_while_a_sale_asks_it_to_step_aside_leaves_the_sale_nothing(held: Desk) -> None:
    held.venue.fail("cancel", Fault.FILL_FIRST)
    sale = await held.sell()
    await held.clock.advance(5.0)
    assert sale is not None
    assert held.state(sale) == "not_placed"
    assert "nothing sellable" in held.reports(sale.client_id)[-1].detail
    assert held.books.holdings[BTC] == held.venue.holds["BTC"] == 0.0


@pytest.mark.parametrize("fault", [Fault.DROP_REPLY, Fault.DROP_REQUEST, Fault.NOT_SENT])
async def test_a_sale_waits_for_proof_that_the_stop_is_gone(held: Desk, fault: Fault) -> None:
    held.venue.fail("cancel", fault)
    sale = await held.sell()
    await held.clock.advance(5.0)
    assert sale is not None
    assert held.state(sale) == "filled"
    assert held.stops_at_venue() == []


async def test_where_stops_bind_nothing_a_sale_leaves_them_until_it_is_done() -> None:
    desk = make_desk(abilities=without(FULL, stop_binds_funds=False))
    await desk.up()
    await desk.buy(1.0)
    await desk.clock.advance(1.0)
    before = len([call for call in desk.venue.calls if call[0] == "cancel"])
    await desk.sell(0.4)
    await desk.clock.advance(1.0)
    names = [call[0] for call in desk.venue.calls]
    assert names.count("cancel") == before + 1
    assert names.index("cancel") > max(i for i, call in enumerate(desk.venue.calls) if call == ("create", "s-t-3"))
    assert desk.stops_at_venue() == [(0.6, 95.0)]
    await desk.down()


async def test_dust_has_no_stop_and_asks_for_none() -> None:
    desk = make_desk()
    await desk.up()
    await desk.buy(1.0)
    await desk.clock.advance(1.0)
    await desk.sell(0.96)
    await desk.clock.advance(120.0)
    assert desk.stops_at_venue() == []
    (ended,) = desk.reports(stop_name(desk))
    assert (ended.event.value, ended.detail.split(":")[0]) == ("not_found", "dust")
    losses = len(desk.of(StopLost))
    await desk.clock.advance(300.0)
    assert len(desk.of(StopLost)) == losses
    await desk.buy(1.0)
    await desk.clock.advance(1.0)
    assert desk.stops_at_venue() == [(1.04, 95.0)]
    await desk.down()


async def test_an_intent_superseded_before_it_left_is_ended_without_leaving(held: Desk) -> None:
    orders = len(held.venue.log)
    for price in (96.0, 97.0):
        stop = held.order(BTC, held.books.stop(BTC).side, 1.0, stop=price)  # type: ignore[union-attr]
        held.books.stops[BTC] = stop
        held.books.intend(stop)
        held.broker.protect(BTC, stop)
    held.broker.release()
    await held.clock.advance(1.0)
    assert held.stops_at_venue() == [(1.0, 97.0)]
    assert len(held.venue.log) == orders + 1
    details = [piece.detail for piece in held.news if isinstance(piece, OrderReport)]
    assert details.count("superseded before it was sent") == 1


async def test_a_venue_without_market_stops_gets_a_limit_below_the_stop() -> None:
    desk = make_desk(abilities=without(FULL, has_market_stop=False), collar=0.01)
    await desk.up()
    await desk.buy(1.0)
    await desk.clock.advance(1.0)
    (resting,) = desk.venue.resting(BTC, stops=True)
    assert (resting.request.stop_price, resting.request.limit_price) == (95.0, 94.05)
    await desk.down()


async def test_a_closed_market_holds_back_the_stop_until_it_opens(held: Desk) -> None:
    held.venue.markets_now[BTC] = Market(instrument=instrument(), is_active=False)
    held.venue.end(stop_name(held))
    await held.clock.advance(200.0)
    assert held.stops_at_venue() == []
    assert len(held.of(StopLost)) < 10
    held.venue.markets_now[BTC] = Market(instrument=instrument())
    await held.clock.advance(400.0)
    assert held.stops_at_venue() == [(1.0, 95.0)]


async def test_an_outage_neither_loses_the_stop_nor_sells_the_position(held: Desk) -> None:
    held.venue.end(stop_name(held))
    held.venue.is_reachable = False
    await held.clock.advance(600.0)
    assert not any(lost.is_last for lost in held.of(StopLost))
    held.venue.is_reachable = True
    await held.clock.advance(30.0)
    assert held.stops_at_venue() == [(1.0, 95.0)]
    assert sales(held) == []


async def test_the_dead_man_is_armed_only_while_an_entry_rests_alone() -> None:
    desk = make_desk(abilities=without(FULL, has_dead_man=True), entry=EntryStyle.MAKER, maker_wait_s=100.0)
    await desk.up()
    order = await desk.buy(1.0)
    assert order is not None
    await desk.clock.advance(45.0)
    assert desk.venue.armed_s == [60.0, 60.0, 60.0]
    desk.venue.fill(order.client_id, 0.5)
    await desk.clock.advance(1.0)
    assert desk.venue.armed_s[-1] == 0.0  # before the stop of what filled
    armed = len(desk.venue.armed_s)
    await desk.clock.advance(120.0)
    assert len(desk.venue.armed_s) == armed
    await desk.down()
