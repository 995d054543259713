"""The same adapter over ccxt's own `kraken`, unmodified, against the test venue: nothing in it is Binance-only."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from daemon.errors import TransientError, UnknownOutcome
from daemon.testvenue.accounts import KeyRights
from daemon.testvenue.server import TestVenue
from daemon.venue import (
    Balance,
    NotSent,
    RefusalKind,
    RequestKind,
    StreamStatus,
    Unauthorised,
    VenueEvent,
    VenueOrder,
    VenueRefused,
    VenueState,
    VenueTrade,
)
from daemon.venue_ccxt import CcxtVenue
from daemon.venue_kraken import KrakenRows
from strategy.order import Side
from tests.daemon.ccxt_venues import (
    KEY,
    SECRET,
    SYMBOL,
    Listener,
    asked,
    fault,
    opened,
    order_id,
    request,
    resting,
    stop,
    venue_server,
)


@asynccontextmanager
async def kraken(**settings: Any) -> AsyncIterator[tuple[TestVenue, CcxtVenue]]:
    async with venue_server(dialect="kraken") as server, opened(server, exchange_id="kraken", **settings) as venue:
        yield server, venue


# ---- orders -----------------------------------------------------------------------------------------------------
async def test_an_ioc_order_is_confirmed_and_then_found_with_what_it_filled() -> None:
    async with kraken() as (server, venue):
        server.market(SYMBOL).offer(asks=[("50005", "0.004"), ("50200", "1")])
        placed = await venue.create(request())
        assert (placed.client_id, placed.state) == (order_id(0), VenueState.OPEN)  # Kraken tells no more than an id
        (sent,) = asked(server, "POST", "AddOrder")
        assert (sent["timeinforce"], sent["price"], sent["volume"], len(sent["cl_ord_id"])) == (
            "IOC",
            "50100",
            "0.01",
            32,
        )
        for found in (
            await venue.find(SYMBOL, order_id(0)),
            await venue.find(SYMBOL, order_id(0), placed.venue_id),
        ):
            assert found is not None
            assert (found.client_id, found.state, found.filled) == (order_id(0), VenueState.CANCELLED, 0.004)
            assert found.average == 50_005.0


async def test_a_market_order_is_sent_without_a_price() -> None:
    async with kraken() as (server, venue):
        await venue.create(request(kind=RequestKind.MARKET, limit_price=None))
        (sent,) = asked(server, "POST", "AddOrder")
        assert (sent["ordertype"], sent["volume"]) == ("market", "0.01")
        assert not {"price", "oflags"} & sent.keys()
        found = await venue.find(SYMBOL, order_id(0))
        assert found is not None
        assert (found.state, found.filled) == (VenueState.FILLED, 0.01)


@pytest.mark.parametrize("knows_venue_id", [True, False])
async def test_a_post_only_order_rests_until_it_is_cancelled(knows_venue_id: bool) -> None:
    async with kraken() as (_, venue):
        placed = await venue.create(resting())
        assert [(order.client_id, order.price) for order in await venue.open_orders()] == [(order_id(0), 40_000.0)]
        await venue.cancel(SYMBOL, order_id(0), placed.venue_id if knows_venue_id else "")
        found = await venue.find(SYMBOL, order_id(0))
        assert found is not None
        assert found.state is VenueState.CANCELLED
        with pytest.raises(VenueRefused) as refused:
            await venue.cancel(SYMBOL, order_id(0), placed.venue_id if knows_venue_id else "")
        assert refused.value.kind is RefusalKind.OTHER


async def test_a_post_only_order_that_would_take_ends_without_a_fill() -> None:
    async with kraken() as (_, venue):
        placed = await venue.create(resting(limit_price=60_000.0))
        found = await venue.find(SYMBOL, order_id(0), placed.venue_id)
        assert found is not None
        assert (found.state, found.filled) == (VenueState.CANCELLED, 0.0)


@pytest.mark.parametrize(("limit", "kind"), [(None, "stop-loss"), (44_900.0, "stop-loss-limit")])
async def test_a_stop_rests_with_its_price_and_holds_nothing_back(limit: float | None, kind: str) -> None:
    async with kraken() as (server, venue):
        assert venue.abilities.has_market_stop
        assert not venue.abilities.stop_binds_funds
        await venue.create(stop(quantity=1.0, limit_price=limit))
        assert asked(server, "POST", "AddOrder")[0]["ordertype"] == kind
        (shown,) = await venue.open_orders()
        assert (shown.client_id, shown.is_stop, shown.stop_price, shown.price) == (order_id(0), True, 45_000.0, limit)
        assert (await venue.balances())["BTC"] == Balance(free=1.0, used=0.0)
        sale = request(1, side=Side.SELL, kind=RequestKind.MARKET, limit_price=None)
        await venue.create(sale)
        sold = await venue.find(SYMBOL, order_id(1))
        assert sold is not None
        assert sold.state is VenueState.FILLED


async def test_nobody_elses_order_is_ours_and_our_own_is_known_again() -> None:
    async with kraken() as (server, venue):
        server.control({
            "do": "order", "account": "main", "symbol": SYMBOL, "side": "buy", "type": "limit", "quantity": "0.01",
            "price": "39000", "client_id": "by-hand",
        })  # fmt: skip
        await venue.create(resting())
        async with opened(server, exchange_id="kraken") as later:
            later.remember(order_id(0))
            shown = {order.foreign_id: order.client_id for order in await later.open_orders()}
        async with opened(server, exchange_id="kraken") as forgetful:
            unknown = {order.foreign_id: order.client_id for order in await forgetful.open_orders()}
        mine = next(name for name in shown if name != "by-hand")
        assert shown == {"by-hand": "", mine: order_id(0)}
        assert unknown == {"by-hand": "", mine: mine}, "ours by its mark, though nobody remembers which"


async def test_an_order_that_never_was_is_not_found() -> None:
    async with kraken() as (_, venue):
        assert await venue.find(SYMBOL, order_id(5)) is None
        assert await venue.find(SYMBOL, order_id(5), "OAAAAA-BBBBB-CCCCCC") is None


# ---- what an answer proves --------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("EOrder:Insufficient funds", RefusalKind.FUNDS),
        ("EOrder:Order minimum not met", RefusalKind.FILTER),
        ("EOrder:Cost minimum not met", RefusalKind.FILTER),
        ("EOrder:Invalid price", RefusalKind.FILTER),
        ("EOrder:Post only order", RefusalKind.WOULD_TRADE),
        ("EService:Market in cancel_only mode", RefusalKind.CLOSED),
        ("EService:Market in post_only mode", RefusalKind.CLOSED),
        ("EQuery:Unknown asset pair", RefusalKind.CLOSED),
        ("EOrder:Orders limit exceeded", RefusalKind.OTHER),
    ],
)
async def test_a_refusal_is_told_by_its_kind(error: str, kind: RefusalKind) -> None:
    async with kraken() as (server, venue):
        fault(server, "POST AddOrder", "reject", code=error)
        with pytest.raises(VenueRefused, match=error.partition(":")[2]) as refused:
            await venue.create(request())
        assert refused.value.kind is kind
        assert server.book.orders == {}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("EService:Unavailable", UnknownOutcome),
        ("EService:Busy", UnknownOutcome),
        ("EGeneral:Internal error", UnknownOutcome),
        ("EService:Deadline elapsed", UnknownOutcome),
        ("EOrder:Duplicate order", UnknownOutcome),
        ("ESomething:Never heard of", UnknownOutcome),
        ("EAPI:Rate limit exceeded", NotSent),
        ("EOrder:Rate limit exceeded", NotSent),
        ("EGeneral:Temporary lockout", NotSent),
        ("EAPI:Invalid nonce", NotSent),
        ("EAPI:Invalid key", Unauthorised),
        ("EAPI:Invalid signature", Unauthorised),
        ("EGeneral:Permission denied", Unauthorised),
    ],
)
async def test_what_is_no_refusal_of_the_order_is_told_apart(error: str, kind: type[Exception]) -> None:
    async with kraken() as (server, venue):
        fault(server, "POST AddOrder", "reject", code=error)
        with pytest.raises(kind):
            await venue.create(request())


@pytest.mark.parametrize(
    ("what", "values", "exists"),
    [
        ("drop_reply", {}, True),
        ("drop_request", {}, False),
        ("cut_body", {}, True),
        ("truncated", {}, True),
        ("reply", {"status": 200, "body": "", "is_processed": True}, True),
        ("reply", {"status": 200, "body": "<html>", "is_processed": True}, True),
        ("reply", {"status": 200, "body": '{"error":[],"result":{}}', "is_processed": True}, True),
        ("reply", {"status": 520, "body": "<html>", "is_processed": True}, True),
        ("reply", {"status": 502, "body": "<html>"}, False),
    ],
    ids=["reply lost", "request lost", "cut", "truncated", "empty", "html", "no id", "520", "502"],
)
async def test_a_lost_answer_is_unknown_and_the_order_is_looked_up(
    what: str, values: dict[str, Any], exists: bool
) -> None:
    async with kraken(quick_s=0.5) as (server, venue):
        fault(server, "POST AddOrder", what, **values)
        with pytest.raises(UnknownOutcome):
            await venue.create(request())
        found = await venue.find(SYMBOL, order_id(0))
        assert (found is not None) is exists
        assert len(asked(server, "POST", "AddOrder")) == 1


async def test_a_broken_list_is_no_empty_one() -> None:
    async with kraken() as (server, venue):
        await venue.create(resting())
        for path, call in (
            ("OpenOrders", venue.open_orders),
            ("TradesHistory", lambda: venue.trades(SYMBOL, 0)),
            ("BalanceEx", venue.balances),
        ):
            fault(server, f"POST {path}", "reply", status=200, body="{}")
            with pytest.raises(TransientError):
                await call()


# ---- the account ------------------------------------------------------------------------------------------------
async def test_trades_name_their_order_and_their_fee_in_quote() -> None:
    async with kraken() as (server, venue):
        server.market(SYMBOL).offer(asks=[("50000", "0.004"), ("50050", "1")])
        placed = await venue.create(request())
        trades = await venue.trades(SYMBOL, 0)
        # 0.1 % of 200 and of 300.3
        assert [(each.price, each.quantity, each.fee_cost, each.fee_coin) for each in trades] == [
            (50_000.0, 0.004, 0.2, "USDT"),
            (50_050.0, 0.006, 0.3003, "USDT"),
        ]
        assert {(each.venue_id, each.client_id) for each in trades} == {(placed.venue_id, order_id(0))}
        balances = await venue.balances()
        assert balances["BTC"].total == 1.01
        assert balances["USDT"].total == pytest.approx(10_000.0 - 500.3 - 0.5003, abs=1e-9)


async def test_all_pages_of_trades_are_read() -> None:
    async with kraken() as (server, venue):
        for number in range(53):
            server.control({
                "do": "order", "account": "main", "symbol": SYMBOL, "side": "buy", "quantity": "0.001",
                "client_id": f"by-hand-{number}",
            })  # fmt: skip
        trades = await venue.trades(SYMBOL, 0)
        assert len({each.trade_id for each in trades}) == len(trades) == 53
        assert [each.at_ms for each in trades] == sorted(each.at_ms for each in trades)


async def test_markets_prices_clock_and_permissions() -> None:
    async with kraken() as (server, venue):
        market = (await venue.markets(refresh=True))[SYMBOL]
        assert (market.instrument.tick, market.instrument.lot) == (0.01, 0.00001)
        assert (market.maker, market.taker, market.is_active) == (0.001, 0.001, True)
        quote = await venue.quote(SYMBOL)
        assert (quote.bid, quote.ask, quote.last) == (49_995.0, 50_005.0, 50_000.0)
        offset = await venue.clock_offset_ms()
        assert offset is not None
        assert abs(offset) < 1_500.0, "Kraken tells whole seconds"
        server.control({"do": "rights", "account": "main", "may_withdraw": True, "may_trade": False})
        told = await venue.permissions()
        assert (told.may_trade, told.may_withdraw, told.is_bound_to_ip) == (False, True, True)


async def test_a_key_that_may_not_trade_is_told_as_such() -> None:
    async with kraken() as (server, venue):
        server.account("main").rights = KeyRights(may_trade=False)
        with pytest.raises(Unauthorised):
            await venue.create(request())


async def test_the_dead_man_is_armed_and_disarmed() -> None:
    async with kraken() as (server, venue):
        assert venue.abilities.has_dead_man
        await venue.create(resting())
        await venue.arm_dead_man(1.0)
        await venue.arm_dead_man(0.0)
        await asyncio.sleep(1.2)  # the venue's own clock
        assert len(await venue.open_orders()) == 1
        await venue.arm_dead_man(1.0)
        while await venue.open_orders():  # noqa: ASYNC110  # the venue's own clock
            await asyncio.sleep(0.3)
        assert [each["timeout"] for each in asked(server, "POST", "CancelAllOrdersAfter")] == ["1", "0", "1"]


# ---- what it tells unasked --------------------------------------------------------------------------------------
def _is_up(heard: Sequence[VenueEvent]) -> bool:
    return any(isinstance(event, StreamStatus) and event.is_up for event in heard)


def _ended(client_id: str) -> Callable[[Sequence[VenueEvent]], bool]:
    def is_there(heard: Sequence[VenueEvent]) -> bool:
        return any(
            isinstance(event, VenueOrder) and event.client_id == client_id and event.state is not VenueState.OPEN
            for event in heard
        )

    return is_there


async def test_the_stream_tells_of_orders_to_their_end_and_of_their_trades() -> None:
    async with kraken() as (server, venue):
        listener = Listener(venue)
        await listener.until(_is_up)
        server.market(SYMBOL).offer(asks=[("50000", "0.004"), ("50050", "1")])
        placed = await venue.create(request(kind=RequestKind.MARKET, limit_price=None))
        heard = await listener.until(_ended(order_id(0)))
        last = [event for event in heard if isinstance(event, VenueOrder)][-1]
        assert (last.venue_id, last.state, last.filled, last.quantity) == (
            placed.venue_id,
            VenueState.FILLED,
            0.01,
            0.01,
        )
        assert last.average == pytest.approx((0.004 * 50_000 + 0.006 * 50_050) / 0.01)
        trades = [event for event in heard if isinstance(event, VenueTrade)]
        assert [(each.quantity, each.client_id, each.fee_cost) for each in trades] == [
            (0.004, order_id(0), 0.2),
            (0.006, order_id(0), 0.3003),
        ]
        assert [each.trade_id for each in trades] == [each.trade_id for each in await venue.trades(SYMBOL, 0)]
        await listener.stop()


async def test_the_stream_tells_of_a_cancel_that_names_nothing_but_the_order() -> None:
    async with kraken() as (_, venue):
        listener = Listener(venue)
        await listener.until(_is_up)
        await venue.create(stop())
        await venue.cancel(SYMBOL, order_id(0))
        heard = await listener.until(_ended(order_id(0)))
        last = [event for event in heard if isinstance(event, VenueOrder)][-1]
        assert (last.state, last.side, last.quantity, last.is_stop, last.stop_price) == (
            VenueState.CANCELLED,
            Side.SELL,
            0.01,
            True,
            45_000.0,
        )
        await listener.stop()


async def test_a_cut_stream_comes_back_and_goes_on_telling() -> None:
    async with kraken() as (server, venue):
        listener = Listener(venue)
        await listener.until(_is_up)
        await venue.create(resting())
        server.shut()
        await listener.until(lambda heard: any(isinstance(event, StreamStatus) and not event.is_up for event in heard))
        await listener.until(lambda heard: sum(isinstance(each, StreamStatus) and each.is_up for each in heard) == 2)
        await venue.cancel(SYMBOL, order_id(0))
        await listener.until(_ended(order_id(0)))
        await listener.stop()


async def test_no_key_or_secret_is_in_any_error() -> None:
    async with kraken() as (server, venue):
        texts = []
        for error in ("EAPI:Invalid key", f"EGeneral:Echo {KEY} {SECRET}"):
            fault(server, "POST AddOrder", "reject", code=error)
            with pytest.raises(Exception) as caught:  # noqa: PT011  # whichever it is
                await venue.create(request())
            texts.append(repr(caught.value) + repr(caught.value.__cause__) + repr(caught.value.__context__))
        assert KEY not in "".join(texts)
        assert SECRET not in "".join(texts)


# ---- rows of the stream -----------------------------------------------------------------------------------------
def test_what_is_said_later_is_joined_to_what_was_said_first() -> None:
    rows = KrakenRows()
    first = {
        "order_id": "O1", "cl_ord_id": "abc", "symbol": SYMBOL, "side": "sell", "order_qty": 0.5, "cum_qty": 0.0,
        "exec_type": "pending_new", "order_status": "pending_new", "limit_price": 30_000.0,
    }  # fmt: skip
    rows({"id": "O1", "info": first})
    end = {"order_id": "O1", "exec_type": "canceled", "order_status": "canceled", "cum_qty": 0.2, "avg_price": 30_010.0}
    joined = rows({"id": "O1", "symbol": None, "amount": 0.2, "filled": None, "clientOrderId": "0", "info": end})
    assert {name: joined[name] for name in ("symbol", "side", "amount", "filled", "status", "clientOrderId")} == {
        "symbol": SYMBOL, "side": "sell", "amount": 0.5, "filled": 0.2, "status": "canceled", "clientOrderId": "abc",
    }  # fmt: skip


@pytest.mark.parametrize("row", [{}, {"info": None}, {"info": {"order_id": 5}}])
def test_a_row_that_cannot_be_joined_stays_as_it_is(row: dict[str, Any]) -> None:
    assert KrakenRows()(row) == row


def test_a_stream_that_runs_for_months_remembers_a_bounded_number_of_orders() -> None:
    rows = KrakenRows()
    for number in range(5_000):
        rows({"info": {"order_id": f"O{number}", "symbol": SYMBOL, "order_status": "new"}})
    late = {"info": {"order_id": "O4999", "order_status": "filled"}}
    forgotten = {"info": {"order_id": "O0", "order_status": "filled"}}
    assert (rows(late)["symbol"], rows(forgotten)["symbol"]) == (SYMBOL, None)
