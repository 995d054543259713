"""What every Venue promises. A test class inherits VenueContract and provides the fixture `stand`.

Each test trades BTC/USDT on an account of its own, over whatever carries the calls.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

import pytest

from daemon.errors import UnknownOutcome
from daemon.venue import (
    RefusalKind,
    Request,
    RequestKind,
    Venue,
    VenueEvent,
    VenueOrder,
    VenueRefused,
    VenueState,
    VenueTrade,
)
from strategy.order import Side
from tests.fakes.trading import BTC


class Market(Protocol):
    """The other side of a venue under test: what the exchange does, not what the client asks."""

    async def move(self, bid: float, ask: float) -> None:
        """Move the best prices of BTC/USDT; what they reach trades."""
        ...

    async def lose_reply(self) -> None:
        """Let the next order be taken and its answer be lost."""
        ...

    async def lose_request(self) -> None:
        """Let the next order be lost before it is taken."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """An open venue that bids 99.99 and asks 100.01 for BTC/USDT, tick 0.01, lot 0.001, minimum 5 USDT.

    The account holds 10,000 USDT and nothing else.  taken: how many orders the exchange ever took.  wait: lets time
    pass until events can have arrived.
    """

    venue: Venue
    market: Market
    taken: Callable[[], Awaitable[int]]
    wait: Callable[[], Awaitable[None]]
    prefix: str = "s-btcusdt-"


def request(stand: Stand, number: int = 1, **changes: object) -> Request:
    values: dict[str, object] = {
        "client_id": f"{stand.prefix}{number}",
        "symbol": BTC,
        "side": Side.BUY,
        "quantity": 1.0,
        "kind": RequestKind.LIMIT_IOC,
        "limit_price": 100.5,
        **changes,
    }
    return Request(**values)  # type: ignore[arg-type]


def resting(stand: Stand, number: int = 1) -> Request:
    return request(stand, number, kind=RequestKind.POST_ONLY, limit_price=95.0)


def stop(stand: Stand, number: int = 2, quantity: float = 0.5) -> Request:
    limit = None if stand.venue.abilities.has_market_stop else 94.0
    return request(
        stand,
        number,
        side=Side.SELL,
        quantity=quantity,
        kind=RequestKind.STOP,
        limit_price=limit,
        stop_price=95.0,
    )


async def found(stand: Stand, asked: Request) -> VenueOrder:
    for _ in range(20):
        order = await stand.venue.find(BTC, asked.client_id)
        if order is not None:
            return order
        await stand.wait()
    raise AssertionError(f"{asked.client_id} never shows")


class VenueContract:
    async def test_an_order_that_takes_fills_and_its_trades_add_up(self, stand: Stand) -> None:
        asked = request(stand)
        placed = await stand.venue.create(asked)
        assert placed.client_id == asked.client_id
        assert placed.venue_id
        order = await found(stand, asked)
        assert (order.state, order.filled, order.side) == (VenueState.FILLED, 1.0, Side.BUY)
        trades = [t for t in await stand.venue.trades(BTC, 0) if t.venue_id == placed.venue_id]
        assert sum(trade.quantity for trade in trades) == pytest.approx(1.0)
        assert all(trade.price == pytest.approx(100.01) and trade.fee_cost >= 0.0 for trade in trades)
        assert len({trade.trade_id for trade in trades}) == len(trades)
        held = (await stand.venue.balances())["BTC"].total
        in_base = sum(trade.fee_cost for trade in trades if trade.fee_coin == "BTC")
        assert held == pytest.approx(1.0 - in_base)

    async def test_what_cannot_fill_at_once_is_over_and_binds_nothing(self, stand: Stand) -> None:
        asked = request(stand, limit_price=99.0)
        await stand.venue.create(asked)
        order = await found(stand, asked)
        assert order.state in {VenueState.EXPIRED, VenueState.CANCELLED}
        assert order.filled == 0.0
        assert (await stand.venue.balances())["USDT"].free == pytest.approx(10_000.0)

    async def test_a_resting_order_is_open_binds_cash_and_can_be_cancelled(self, stand: Stand) -> None:
        asked = resting(stand)
        placed = await stand.venue.create(asked)
        assert placed.state is VenueState.OPEN
        assert [order.client_id for order in await stand.venue.open_orders()] == [asked.client_id]
        assert (await stand.venue.balances())["USDT"].used == pytest.approx(95.0, rel=0.01)
        await stand.venue.cancel(BTC, asked.client_id, placed.venue_id)
        assert (await found(stand, asked)).state is VenueState.CANCELLED
        assert await stand.venue.open_orders() == []

    async def test_it_can_be_cancelled_by_our_name_alone(self, stand: Stand) -> None:
        asked = resting(stand)
        await stand.venue.create(asked)
        await stand.venue.cancel(BTC, asked.client_id)
        assert (await found(stand, asked)).state is VenueState.CANCELLED

    async def test_cancelling_what_is_over_is_refused(self, stand: Stand) -> None:
        asked = request(stand)
        placed = await stand.venue.create(asked)
        with pytest.raises(VenueRefused):
            await stand.venue.cancel(BTC, asked.client_id, placed.venue_id)

    async def test_an_order_it_never_saw_is_none(self, stand: Stand) -> None:
        assert await stand.venue.find(BTC, f"{stand.prefix}99") is None

    @pytest.mark.parametrize(
        ("changes", "kind"),
        [
            ({"quantity": 200.0}, RefusalKind.FUNDS),
            ({"quantity": 0.01}, RefusalKind.FILTER),
            ({"kind": RequestKind.POST_ONLY, "limit_price": 101.0}, RefusalKind.WOULD_TRADE),
        ],
    )
    async def test_a_refusal_says_why_and_leaves_nothing(
        self, stand: Stand, changes: dict[str, Any], kind: RefusalKind
    ) -> None:
        before = await stand.taken()
        with pytest.raises(VenueRefused) as caught:
            await stand.venue.create(request(stand, **changes))
        assert caught.value.kind is kind
        assert await stand.venue.find(BTC, f"{stand.prefix}1") is None
        assert await stand.taken() == before

    async def test_a_lost_reply_is_an_unknown_outcome_and_the_order_can_be_found(self, stand: Stand) -> None:
        await stand.market.lose_reply()
        asked = request(stand)
        with pytest.raises(UnknownOutcome):
            await stand.venue.create(asked)
        assert (await found(stand, asked)).state is VenueState.FILLED
        assert await stand.taken() == 1

    async def test_a_lost_request_is_an_unknown_outcome_and_nothing_is_found(self, stand: Stand) -> None:
        await stand.market.lose_request()
        asked = request(stand)
        with pytest.raises(UnknownOutcome):
            await stand.venue.create(asked)
        assert await stand.venue.find(BTC, asked.client_id) is None
        assert await stand.taken() == 0

    async def test_a_stop_rests_and_sells_when_the_price_comes_down(self, stand: Stand) -> None:
        if not stand.venue.abilities.has_stop:
            pytest.skip("this venue keeps no stops")
        await stand.venue.create(request(stand))
        asked = stop(stand)
        placed = await stand.venue.create(asked)
        assert (placed.state, placed.is_stop) == (VenueState.OPEN, True)
        used = (await stand.venue.balances())["BTC"].used
        assert used == pytest.approx(0.5 if stand.venue.abilities.stop_binds_funds else 0.0)
        await stand.market.move(94.9, 94.95)
        await stand.wait()
        order = await found(stand, asked)
        assert order.state is VenueState.FILLED
        assert order.filled == pytest.approx(0.5)

    async def test_a_stop_already_passed_is_refused_as_such_or_sells_at_once(self, stand: Stand) -> None:
        if not stand.venue.abilities.has_stop:
            pytest.skip("this venue keeps no stops")
        await stand.venue.create(request(stand))
        await stand.market.move(94.0, 94.02)
        asked = stop(stand)
        try:
            await stand.venue.create(asked)
        except VenueRefused as refused:
            assert refused.kind is RefusalKind.WOULD_TRADE  # noqa: PT017  # either answer is right, see the name
        else:
            await stand.wait()
            assert (await found(stand, asked)).state is VenueState.FILLED

    async def test_prices_and_steps_are_those_of_the_exchange(self, stand: Stand) -> None:
        quote = await stand.venue.quote(BTC)
        assert (quote.bid, quote.ask) == (99.99, 100.01)
        market = (await stand.venue.markets())[BTC]
        assert market.is_active
        instrument = market.instrument
        assert (instrument.tick, instrument.lot, instrument.min_notional) == (0.01, 0.001, 5.0)

    async def test_events_tell_of_orders_and_trades(self, stand: Stand) -> None:
        if not stand.venue.abilities.has_user_stream:
            pytest.skip("this venue has no user stream")
        heard: list[VenueEvent] = []

        async def listen() -> None:
            async for event in stand.venue.events():
                heard.append(event)  # noqa: PERF401  # one by one, as they come

        listening = asyncio.ensure_future(listen())
        await stand.wait()
        asked = request(stand)
        await stand.venue.create(asked)
        await stand.wait()
        listening.cancel()
        await asyncio.wait([listening])
        orders = [event for event in heard if isinstance(event, VenueOrder) and event.client_id == asked.client_id]
        trades = [event for event in heard if isinstance(event, VenueTrade)]
        assert orders[-1].state is VenueState.FILLED
        assert sum(trade.quantity for trade in trades) == pytest.approx(1.0)

    async def test_closing_twice_is_harmless(self, stand: Stand) -> None:
        await stand.venue.close()
        await stand.venue.close()
