"""The venue in memory keeps what every venue promises."""

from dataclasses import dataclass

import pytest

from daemon.venue import RequestKind, VenueRefused, VenueState
from strategy.order import Side
from tests.contracts.venue import Stand, VenueContract, request, resting, stop
from tests.fakes.clock import ManualClock
from tests.fakes.live import make_venue, without
from tests.fakes.trading import BTC
from tests.fakes.venue import FULL, FakeVenue, Fault


@dataclass(frozen=True, slots=True)
class FakeMarket:
    venue: FakeVenue

    async def move(self, bid: float, ask: float) -> None:
        self.venue.move(BTC, bid, ask)

    async def lose_reply(self) -> None:
        self.venue.fail("create", Fault.DROP_REPLY)

    async def lose_request(self) -> None:
        self.venue.fail("create", Fault.DROP_REQUEST)


def make_stand(venue: FakeVenue, clock: ManualClock) -> Stand:
    async def taken() -> int:
        return len(venue.log)

    return Stand(venue=venue, market=FakeMarket(venue), taken=taken, wait=clock.settle)


@pytest.fixture(params=[FULL, without(FULL, has_market_stop=False, stop_binds_funds=False)], ids=["binance", "kraken"])
def stand(request: pytest.FixtureRequest) -> Stand:
    clock = ManualClock()
    return make_stand(make_venue(clock, abilities=request.param), clock)


class TestFakeVenue(VenueContract):
    """Over the fake."""


def fake(stand: Stand) -> FakeVenue:
    assert isinstance(stand.venue, FakeVenue)
    return stand.venue


async def test_a_client_id_is_free_again_once_its_order_is_over(stand: Stand) -> None:
    """What makes a blind resend of a market order buy twice at a real exchange."""
    await stand.venue.create(request(stand))
    await stand.venue.create(request(stand))
    assert len(fake(stand).orders_of(request(stand).client_id)) == 2
    await stand.venue.create(resting(stand, 3))
    with pytest.raises(VenueRefused):
        await stand.venue.create(resting(stand, 3))


async def test_money_is_neither_made_nor_lost_but_for_fees(stand: Stand) -> None:
    venue = fake(stand)
    await stand.venue.create(request(stand))
    await stand.venue.create(stop(stand))
    venue.move(BTC, 94.5, 94.52)
    await stand.venue.create(request(stand, 3, side=Side.SELL, quantity=0.2, kind=RequestKind.MARKET, limit_price=None))
    flows = sum(-t.side.sign * t.quantity * t.price for t in venue.all_trades)
    fees = sum(t.fee_cost for t in venue.all_trades)
    assert venue.holds["USDT"] == pytest.approx(10_000.0 + flows - fees)
    assert venue.holds["BTC"] == pytest.approx(sum(t.side.sign * t.quantity for t in venue.all_trades))
    assert fees == pytest.approx(0.001 * sum(t.quantity * t.price for t in venue.all_trades))


async def test_a_thin_book_fills_a_part(stand: Stand) -> None:
    fake(stand).books[BTC].depth = 0.3
    order = await stand.venue.create(request(stand))
    assert (order.filled, order.state) == (0.3, VenueState.EXPIRED)
