"""Row 44 at every turn of the loop: whenever the word to stop comes, orders are settled, stops stay, none is lost."""

import asyncio

import pytest

from daemon.ports import External
from daemon.venue import Request, RequestKind, VenueOrder
from strategy.order import OrderKind, Side
from tests.fakes.live import Desk, make_desk
from tests.fakes.trading import BTC
from tests.fakes.venue import FakeVenue, Fault

TURNS = 60


async def _begin(desk: Desk, what: str) -> None:
    """Let the engine ask for something, and go no further than that."""
    if what == "a stop that was lost":
        desk.venue.end(desk.venue.resting(BTC, stops=True)[0].order.client_id)
        return
    if what == "a purchase whose answer is lost":
        desk.venue.fail("create", Fault.DROP_REPLY)
    side = Side.SELL if what == "a sale" else Side.BUY
    order = desk.order(BTC, side, 0.5)
    desk.books.intend(order)
    await desk._commit()
    await desk.broker.submit(order)
    desk.broker.release()


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """Every request for an order that is no stop, from the moment it leaves."""
    create, leaving = FakeVenue.create, list[Request]()

    async def counted(venue: FakeVenue, request: Request) -> VenueOrder:
        if request.kind is not RequestKind.STOP:
            leaving.append(request)
        return await create(venue, request)

    monkeypatch.setattr(FakeVenue, "create", counted)
    return leaving


async def _stop(desk: Desk, requests: list[Request]) -> int:
    """End the process as SIGTERM does; returns how many requests had left when the word came."""

    async def drain() -> int:
        left = len(requests)
        await desk.broker.drain()
        return left

    draining = asyncio.ensure_future(drain())
    await desk.clock.advance(31.0)
    assert draining.done(), "draining takes no longer than it may"
    await desk.down()
    return draining.result()


@pytest.mark.fault(44)
@pytest.mark.parametrize("what", ["a purchase", "a purchase whose answer is lost", "a sale", "a stop that was lost"])
async def test_at_every_turn_of_the_loop_stopping_settles_what_left_and_sends_no_more(
    what: str, requests: list[Request]
) -> None:
    sent = set()
    for turn in range(TURNS):
        desk = make_desk()
        await desk.up()
        if what in {"a sale", "a stop that was lost"}:
            await desk.buy(1.0)
            await desk.clock.advance(1.0)
        requests.clear()
        await _begin(desk, what)
        for _ in range(turn):
            await asyncio.sleep(0)
        left = await _stop(desk, requests)
        assert len(requests) == left, f"turn {turn}: an order left after the word to stop"
        open_orders = [s for s in desk.books.orders() if s.order.kind is not OrderKind.STOP]
        assert open_orders == [], f"turn {turn}: {open_orders}"
        held = desk.venue.holds["BTC"]
        assert desk.books.holdings[BTC] == pytest.approx(held, abs=1e-9), f"turn {turn}"
        assert [quantity for quantity, _ in desk.stops_at_venue()] == [pytest.approx(held)] * (held > 0.0), turn
        assert desk.of(External) == []
        sent.add(left)
    assert len(sent) == (1 if what == "a stop that was lost" else 2), "some turns lie before the sending, some behind"
