"""The user-data stream through ccxt's own `binance`: real sockets, and what venues and networks do to them."""

import asyncio
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from daemon.venue import BalanceChanged, StreamStatus, VenueEvent, VenueOrder, VenueState, VenueTrade
from tests.daemon.ccxt_venues import (
    SYMBOL,
    Listener,
    adapter,
    fault,
    opened,
    order_id,
    request,
    resting,
    venue_server,
)

Seen = Callable[[list[VenueEvent]], bool]


def ups(heard: list[VenueEvent]) -> list[bool]:
    return [event.is_up for event in heard if isinstance(event, StreamStatus)]


def is_up(times: int = 1) -> Seen:
    return lambda heard: ups(heard).count(True) >= times


def trades_of(heard: list[VenueEvent], sequence: int) -> list[VenueTrade]:
    return [event for event in heard if isinstance(event, VenueTrade) and event.client_id == order_id(sequence)]


def states_of(heard: list[VenueEvent], sequence: int) -> list[VenueState]:
    return [event.state for event in heard if isinstance(event, VenueOrder) and event.client_id == order_id(sequence)]


def has_trade(sequence: int) -> Seen:
    return lambda heard: bool(trades_of(heard, sequence))


def has_state(sequence: int, state: VenueState) -> Seen:
    return lambda heard: state in states_of(heard, sequence)


@asynccontextmanager
async def listening(**settings: Any) -> Any:
    """Yield server, venue and listener, the stream being up."""
    async with venue_server() as server, opened(server, **settings) as venue:
        listener = Listener(venue)
        await listener.until(is_up())
        yield server, venue, listener
        await listener.stop()


async def test_an_order_its_trade_and_the_balance_are_told() -> None:
    async with listening() as (_, venue, listener):
        await venue.create(request(0))
        heard = await listener.until(lambda heard: has_trade(0)(heard) and BalanceChanged() in heard)
        (trade,) = trades_of(heard, 0)
        assert (trade.quantity, trade.price, trade.fee_cost, trade.fee_coin) == (0.01, 50_005.0, 0.00001, "BTC")
        assert states_of(await listener.until(has_state(0, VenueState.FILLED)), 0)[-1] is VenueState.FILLED


async def test_a_cancel_is_told_under_the_orders_own_id() -> None:
    async with listening() as (_, venue, listener):
        await venue.create(resting(0))
        await venue.cancel(SYMBOL, order_id(0))
        await listener.until(has_state(0, VenueState.CANCELLED))


async def test_many_events_at_once_are_all_told() -> None:
    async with listening() as (_, venue, listener):
        await asyncio.gather(*(venue.create(request(number, quantity=0.001)) for number in range(12)))
        heard = await listener.until(lambda heard: all(has_trade(number)(heard) for number in range(12)))
        assert all(len(trades_of(heard, number)) == 1 for number in range(12))


async def test_what_came_between_two_calls_is_told_without_waiting_for_the_next_event() -> None:
    async with listening() as (_, venue, listener):
        await venue.create(request(0))
        await venue.create(resting(1))
        await listener.until(has_trade(0), within_s=3.0)
        await listener.until(has_state(1, VenueState.OPEN), within_s=3.0)


@pytest.mark.parametrize("what", ["duplicate", "reorder"])
async def test_repeats_and_disorder_lose_nothing(what: str) -> None:
    async with listening() as (server, venue, listener):
        fault(server, "user executionReport", what, times=None)
        for number in range(4):
            await venue.create(request(number, quantity=0.001))
        await venue.create(resting(9))
        heard = await listener.until(lambda heard: all(has_trade(number)(heard) for number in range(4)))
        assert all(len({trade.trade_id for trade in trades_of(heard, number)}) == 1 for number in range(4))


@pytest.mark.parametrize(
    "what",
    [
        {"what": "cut"},
        {"what": "bad_frame", "body": "{not json"},
        {"what": "bad_frame", "body": "[1]"},
        {"what": "shutdown"},
    ],
    ids=["cut", "unreadable frame", "a frame that makes a handler stumble", "shutdown announced"],
)
async def test_a_broken_stream_is_told_dialled_again_and_goes_on(what: dict[str, Any]) -> None:
    async with listening() as (server, venue, listener):
        fault(server, "user *", times=1, **what)
        await venue.create(resting(0))
        heard = await listener.until(is_up(2))
        assert ups(heard)[:3] == [True, False, True]
        await venue.create(request(1))
        await listener.until(has_trade(1))


async def test_a_stream_that_the_venue_ended_is_subscribed_again() -> None:
    async with listening() as (server, venue, listener):
        server.dialects[0].users.end_subscriptions(server.account("main").key)
        heard = await listener.until(is_up(2))
        assert "ended the subscription" in str(heard)
        await venue.create(request(0))
        await listener.until(has_trade(0))


async def test_a_restart_of_the_venue_is_survived() -> None:
    async with listening() as (server, venue, listener):
        server.shut()
        await listener.until(is_up(2))
        await venue.create(request(0))
        await listener.until(has_trade(0))


async def test_silence_is_normal() -> None:
    async with listening() as (_, venue, listener):
        await asyncio.sleep(2.0)  # 40 s of the adapter's time, and ten keep-alive periods
        assert ups(listener.heard) == [True]
        await venue.create(request(0))
        await listener.until(has_trade(0))


async def test_a_subscription_that_is_refused_is_told_and_tried_again() -> None:
    async with venue_server() as server, opened(server) as venue:
        server.time.shift_ms = -60_000
        listener = Listener(venue)
        await listener.until(lambda heard: ups(heard) == [False])
        server.time.shift_ms = 0
        await listener.until(is_up())
        assert ups(listener.heard) == [False, True]
        await venue.create(request(0))
        await listener.until(has_trade(0))
        await listener.stop()


async def test_the_end_of_the_venue_ends_the_events_without_leaving_a_task() -> None:
    async with venue_server() as server, opened(server) as venue:
        listener = Listener(venue)
        await listener.until(is_up())
        before = asyncio.all_tasks()
        await venue.close()
        await listener.ended()
        await asyncio.sleep(0.05)
        left = [task for task in asyncio.all_tasks() & before if "daemon.venue" in repr(task)]
        assert left == []


async def test_a_venue_without_a_user_stream_says_nothing_and_ends_with_the_venue() -> None:
    async with venue_server() as server:
        venue = adapter(server.ccxt_options())
        await venue.open()
        venue._calls.exchange.has["watchOrders"] = False
        venue._judge(venue._calls.exchange.markets)
        assert not venue.abilities.has_user_stream
        listener = Listener(venue)
        await asyncio.sleep(0.1)
        await venue.close()
        await listener.ended()
        assert listener.heard == []
