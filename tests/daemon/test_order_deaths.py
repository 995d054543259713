"""Rows 37 to 41: the process dies at a named point of a purchase, a sale, a cancel, a stop; what the next one finds."""

import pytest

from daemon.live_settings import EntryStyle
from daemon.ports import External
from strategy.order import Side
from tests.fakes.live import Desk, make_desk
from tests.fakes.trading import BTC
from tests.fakes.venue import Fault

POINTS = ("sent", "replied", "fill_received", "filled_no_stop", "stop_placed")


async def begin(what: str) -> Desk:
    desk = make_desk(entry=EntryStyle.MAKER if what == "cancel" else EntryStyle.TAKER, maker_wait_s=1_000.0)
    await desk.up()
    if what in {"sale", "stop"}:
        await desk.buy(1.0)
        await desk.clock.advance(1.0)
    return desk


async def act(desk: Desk, what: str, point: str) -> None:
    match what:
        case "purchase":
            await desk.buy(1.0)
        case "sale":
            await desk.sell(0.5)
        case "cancel":
            order = await desk.buy(1.0)
            if order is not None and not desk.is_dead:
                desk.venue.fail("cancel", Fault.FILL_FIRST)
                await desk.cancel(order)
        case "stop" if point == "fill_received":
            desk.venue.move(BTC, 94.5)
        case "stop":
            desk.venue.end(desk.venue.resting(BTC, stops=True)[0].order.client_id)
    await desk.clock.advance(0.2)


@pytest.mark.fault(38)
@pytest.mark.fault(39)
@pytest.mark.fault(40)
@pytest.mark.fault(41)
@pytest.mark.parametrize("what", ["purchase", "sale", "cancel", "stop"])
@pytest.mark.parametrize("point", POINTS)
async def test_the_next_process_holds_what_the_venue_holds_and_sends_nothing_twice(point: str, what: str) -> None:
    desk = await begin(what)
    desk.die_at(point)
    await act(desk, what, point)
    assert desk.is_dead, f"a {what} never comes to {point}"
    await desk.kill()
    await desk.up(0.0)
    await desk.clock.advance(2.0)
    held = desk.venue.holds["BTC"]
    assert [quantity for quantity, _ in desk.stops_at_venue()] == [pytest.approx(held)] * (held > 0.0)
    await desk.clock.advance(60.0)
    desk.check_tasks()
    assert desk.starting is not None
    assert desk.starting.done()
    names = [resting.request.client_id for resting in desk.venue.log]
    assert len(names) == len(set(names))
    assert desk.books.holdings[BTC] == pytest.approx(desk.venue.holds["BTC"], abs=1e-9)
    assert desk.books.money == pytest.approx(desk.venue.holds["USDT"], abs=1e-6)
    assert [q for q, _ in desk.stops_at_venue()] == [pytest.approx(desk.books.holdings[BTC])] * bool(
        desk.books.holdings[BTC]
    )
    assert desk.of(External) == []
    assert await desk.reconcile.again() == []
    await desk.down()


@pytest.mark.fault(37)
async def test_dying_right_after_the_intent_sends_nothing() -> None:
    desk = make_desk()
    await desk.up()
    order = await desk.buy(1.0, release=False)
    await desk.kill()
    await desk.up(60.0)
    assert order is not None
    assert desk.state(order) == "not_placed"
    assert desk.venue.log == []
    await desk.down()


async def test_two_stops_left_over_from_before_become_the_one_that_is_wanted() -> None:
    desk = make_desk()
    await desk.up()
    await desk.buy(1.0)
    await desk.clock.advance(1.0)
    newer = desk.order(BTC, Side.SELL, 1.0, stop=96.0)
    desk.books.stops[BTC] = newer
    desk.books.intend(newer)
    await desk._commit()
    await desk.kill()
    await desk.up()
    assert desk.stops_at_venue() == [(1.0, 95.0)]
    wanted = desk.books.stop(BTC)
    assert wanted is not None
    assert desk.venue.resting(BTC, stops=True)[0].order.client_id == wanted.client_id
    await desk.down()
