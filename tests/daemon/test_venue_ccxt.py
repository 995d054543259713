"""ccxt's own `binance`, unmodified, against the test venue: what is asked, what comes back, what is refused."""

import asyncio
import logging
import time
from dataclasses import replace
from typing import Any

import pytest

from daemon.errors import ConfigError, SacdError, TransientError
from daemon.rate_budget import Purpose
from daemon.testvenue.server import TestVenue
from daemon.venue import (
    Balance,
    NotSent,
    Permissions,
    RefusalKind,
    RequestKind,
    Unauthorised,
    VenueRefused,
    VenueState,
)
from daemon.venue_ccxt import _rising
from strategy.order import Side
from tests.daemon.ccxt_venues import (
    KEY,
    SECRET,
    SYMBOL,
    FastClock,
    WatchedBudget,
    adapter,
    asked,
    fault,
    opened,
    order_id,
    request,
    resting,
    stop,
    venue_server,
)

BROKEN = {"empty": "", "html": "<html>sorry</html>", "truncated": '[{"symbol":', "null": "null", "object": "{}"}


# ---- orders ---------------------------------------------------------------------------------------------------------
async def test_a_limit_order_that_takes_is_told_with_what_it_filled() -> None:
    async with venue_server() as server, opened(server) as venue:
        found = await venue.create(request())
        assert (found.client_id, found.state, found.filled) == (order_id(0), VenueState.FILLED, 0.01)
        assert found.average == 50_005.0, "the best ask: half of two basis points above 50,000"
        (sent,) = asked(server, "POST", "order")
        assert sent["timeInForce"] == "IOC"
        assert (sent["price"], sent["quantity"]) == ("50100", "0.01")


async def test_a_market_order_is_never_sent_by_its_value() -> None:
    async with venue_server() as server, opened(server) as venue:
        await venue.create(request(kind=RequestKind.MARKET, limit_price=None))
        (sent,) = asked(server, "POST", "order")
        assert sent["quantity"] == "0.01"
        assert not {"quoteOrderQty", "price"} & sent.keys()


async def test_a_post_only_order_rests_until_it_is_cancelled() -> None:
    async with venue_server() as server, opened(server) as venue:
        placed = await venue.create(resting())
        assert asked(server, "POST", "order")[0]["type"] == "LIMIT_MAKER"
        assert [order.client_id for order in await venue.open_orders()] == [order_id(0)]
        await venue.cancel(SYMBOL, order_id(0))
        found = await venue.find(SYMBOL, order_id(0), placed.venue_id)
        assert found is not None
        assert found.state is VenueState.CANCELLED
        assert await venue.open_orders() == []


@pytest.mark.parametrize(("limit", "kind"), [(None, "STOP_LOSS"), (44_900.0, "STOP_LOSS_LIMIT")])
async def test_a_stop_rests_with_its_price(limit: float | None, kind: str) -> None:
    async with venue_server() as server, opened(server) as venue:
        placed = await venue.create(stop(limit_price=limit))
        assert asked(server, "POST", "order")[0]["type"] == kind
        assert placed.is_stop
        (found,) = await venue.open_orders()
        assert (found.is_stop, found.stop_price, found.price) == (True, 45_000.0, limit)
        assert venue.abilities.has_market_stop
        assert venue.abilities.stop_binds_funds
        assert (await venue.balances())["BTC"] == Balance(free=0.99, used=0.01)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"quantity": 0.010001}, RefusalKind.FILTER),
        ({"limit_price": 50_100.001}, RefusalKind.FILTER),
        ({"quantity": 0.000001}, RefusalKind.FILTER),
    ],
    ids=["between lots", "between ticks", "below the smallest"],
)
async def test_what_ccxt_would_cut_down_is_never_sent(changes: dict[str, Any], kind: RefusalKind) -> None:
    async with venue_server() as server, opened(server) as venue:
        with pytest.raises(VenueRefused) as refused:
            await venue.create(request(**changes))
        assert refused.value.kind is kind
        assert asked(server, "POST", "order") == []


@pytest.mark.parametrize(
    ("wanted", "kind"),
    [
        (request(quantity=0.5), RefusalKind.FUNDS),
        (request(quantity=0.00009), RefusalKind.FILTER),
        (request(limit_price=500_000.0), RefusalKind.FILTER),
        (resting(limit_price=50_200.0), RefusalKind.WOULD_TRADE),
        (stop(stop_price=50_500.0), RefusalKind.WOULD_TRADE),
    ],
    ids=["funds", "minimum value", "price band", "post-only that takes", "stop already passed"],
)
async def test_the_venues_refusals_are_told_apart(wanted: Any, kind: RefusalKind) -> None:
    async with venue_server() as server, opened(server) as venue:
        with pytest.raises(VenueRefused) as refused:
            await venue.create(wanted)
        assert refused.value.kind is kind
        assert len(asked(server, "POST", "order")) == 1
        assert await venue.find(SYMBOL, order_id(0)) is None


async def test_a_closed_market_refuses_and_shows_as_inactive() -> None:
    async with venue_server() as server, opened(server) as venue:
        server.control({"do": "status", "symbol": SYMBOL, "status": "break"})
        with pytest.raises(VenueRefused) as refused:
            await venue.create(request())
        assert refused.value.kind is RefusalKind.CLOSED
        assert not (await venue.markets(refresh=True))[SYMBOL].is_active


async def test_there_is_nothing_to_cancel_once_an_order_has_ended() -> None:
    async with venue_server() as server, opened(server) as venue:
        await venue.create(request())
        with pytest.raises(VenueRefused) as refused:
            await venue.cancel(SYMBOL, order_id(0))
        assert refused.value.kind is RefusalKind.OTHER


async def test_an_order_is_found_by_either_name_and_its_trades_bear_our_id() -> None:
    async with venue_server() as server, opened(server) as venue:
        placed = await venue.create(request())
        by_ours = await venue.find(SYMBOL, order_id(0))
        by_theirs = await venue.find(SYMBOL, order_id(0), placed.venue_id)
        assert by_ours == by_theirs
        (trade,) = await venue.trades(SYMBOL, 0 if by_ours is None else by_ours.at_ms - 86_400_000 * 3)
        assert (trade.client_id, trade.quantity, trade.price) == (order_id(0), 0.01, 50_005.0)
        assert (trade.fee_cost, trade.fee_coin) == (0.00001, "BTC"), "a thousandth of what was received"


async def test_another_process_knows_whose_an_order_is_but_not_its_trades() -> None:
    async with venue_server() as server, opened(server) as venue:
        await venue.create(resting(0))
        await venue.create(request(1))
        server.control({"do": "order", "account": "main", "symbol": SYMBOL, "side": "buy", "type": "limit",
                        "quantity": "0.001", "price": "30000", "client_id": "web_1"})  # fmt: skip
        async with opened(server) as fresh:
            ours, theirs = await fresh.open_orders()
            assert (ours.client_id, theirs.client_id, theirs.foreign_id) == (order_id(0), "", "web_1")
            (trade,) = await fresh.trades(SYMBOL, trade_since(server))
            assert trade.client_id == ""
            assert await fresh.find(SYMBOL, order_id(1), trade.venue_id) is not None
            assert (await fresh.trades(SYMBOL, trade_since(server)))[0].client_id == order_id(1)


def trade_since(server: TestVenue) -> int:
    return server.time.now_ms() - 3_600_000


async def test_a_foreign_order_found_under_our_name_is_not_taken_for_ours() -> None:
    async with venue_server() as server, opened(server) as venue:
        theirs = server.control({"do": "order", "account": "main", "symbol": SYMBOL, "side": "buy", "type": "limit",
                                 "quantity": "0.001", "price": "30000", "client_id": "web_1"})  # fmt: skip
        with pytest.raises(TransientError, match="web_1"):
            await venue.find(SYMBOL, order_id(0), str(theirs["order_id"]))


async def test_trades_are_paged_to_the_end() -> None:
    async with venue_server() as server, opened(server) as venue:
        for sequence in range(7):
            await venue.create(request(sequence, quantity=0.001))
        venue._dialect = replace(venue._dialect, page=3)
        found = await venue.trades(SYMBOL, trade_since(server))
        assert [trade.client_id for trade in found] == [order_id(sequence) for sequence in range(7)]
        assert {sent.get("limit") for sent in asked(server, "GET", "myTrades")} == {"3"}


# ---- purposes, clock, key -------------------------------------------------------------------------------------------
async def test_what_lowers_risk_goes_before_what_adds_to_it() -> None:
    budget = WatchedBudget()
    async with venue_server() as server, opened(server, budget=budget) as venue:
        budget.purposes.clear()
        await venue.create(resting(0))
        await venue.cancel(SYMBOL, order_id(0))
        await venue.create(stop(1))
        await venue.create(request(2, side=Side.SELL, limit_price=49_900.0))
        await venue.balances()
        assert budget.purposes == [Purpose.ENTRY, Purpose.EXIT, Purpose.EXIT, Purpose.EXIT, Purpose.QUERY]


@pytest.mark.fault(8)
async def test_a_clock_that_is_off_is_set_and_the_order_was_not_taken() -> None:
    async with venue_server() as server, opened(server) as venue:
        server.control({"do": "clock", "shift_ms": -30_000})
        with pytest.raises(NotSent, match="-1021"):
            await venue.create(request(0))
        assert (await venue.create(request(1))).filled == 0.01
        assert await venue.clock_offset_ms() == pytest.approx(-30_000.0, abs=200.0)


async def test_the_offset_is_halfway_through_the_request() -> None:
    async with venue_server() as server, opened(server) as venue:
        fault(server, "GET time", "delay", delay_s=0.5, is_processed=True)
        assert await venue.clock_offset_ms() == pytest.approx(-250.0, abs=150.0)


async def test_waiting_for_its_turn_is_no_part_of_the_offset(monkeypatch: pytest.MonkeyPatch) -> None:
    async with venue_server() as server, opened(server) as venue:

        async def queue(_cost: float) -> None:
            await asyncio.sleep(0.8)

        monkeypatch.setattr(venue._calls.exchange, "throttle", queue)
        assert await venue.clock_offset_ms() == pytest.approx(0.0, abs=150.0)


@pytest.mark.fault(8)
async def test_a_question_refused_for_our_clock_alone_is_asked_once_more() -> None:
    async with venue_server() as server, opened(server) as venue:
        server.control({"do": "clock", "shift_ms": -30_000})
        assert (await venue.balances())["BTC"].free == 1.0
        fault(server, "GET account", "reject", code="-1021", message="Timestamp ...", times=3)
        with pytest.raises(TransientError, match="-1021"):
            await venue.balances()
        assert len(asked(server, "GET", "/account")) == 4  # twice for each of the two


async def test_what_the_key_may_do_is_told() -> None:
    async with venue_server() as server, opened(server) as venue:
        assert await venue.permissions() == Permissions(may_trade=True, may_withdraw=False, is_bound_to_ip=True)
        server.control({"do": "rights", "account": "main", "may_withdraw": True})
        assert (await venue.permissions()).may_withdraw is True


async def test_a_revoked_key_is_told_as_such_although_ccxt_calls_it_throttling() -> None:
    async with venue_server() as server, opened(server) as venue:
        await venue.create(request(0))
        server.control({"do": "rights", "account": "main", "is_revoked": True})
        with pytest.raises(Unauthorised, match="-2015"):
            await venue.create(request(1))
        with pytest.raises(Unauthorised):
            await venue.balances()
        with pytest.raises(Unauthorised):
            await venue.cancel(SYMBOL, order_id(0))


async def test_a_wrong_secret_is_told_as_a_refused_key() -> None:
    async with venue_server() as server:
        options = server.ccxt_options()
        venue = adapter(options, credentials={"apiKey": KEY, "secret": "wrong-secret"})
        await venue.open()
        with pytest.raises(Unauthorised, match="-1022"):
            await venue.balances()
        await venue.close()


async def test_a_pause_that_the_venue_asks_for_is_kept_by_everybody() -> None:
    budget = WatchedBudget()
    async with venue_server() as server, opened(server, budget=budget) as venue:
        fault(server, "POST order", "reply", status=429, headers={"Retry-After": "17"}, body='{"code":-1003,"msg":"x"}')
        with pytest.raises(NotSent):
            await venue.create(request(0))
        fault(server, "GET account", "reply", status=418, body="<html>")
        with pytest.raises(TransientError):
            await venue.balances()
        assert budget.pauses == [17.0, 120.0]


# ---- reads ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize(
    ("where", "call"),
    [
        ("GET openOrders", lambda venue: venue.open_orders()),
        ("GET myTrades", lambda venue: venue.trades(SYMBOL, FastClock().now_ms() - 1_000)),
        ("GET account", lambda venue: venue.balances()),
        ("GET order", lambda venue: venue.find(SYMBOL, order_id(0))),
        ("GET ticker/24hr", lambda venue: venue.quote(SYMBOL)),
        ("GET time", lambda venue: venue.clock_offset_ms()),
        ("GET exchangeInfo", lambda venue: venue.markets(refresh=True)),
    ],
    ids=["open orders", "trades", "balances", "order", "quote", "time", "markets"],
)
async def test_a_broken_body_is_never_an_empty_answer(
    shared_server: TestVenue, where: str, call: Any, body: str
) -> None:
    async with opened(shared_server) as venue:
        number = fault(shared_server, where, "reply", status=200, body=body, times=None)
        with pytest.raises(TransientError):
            await call(venue)
        shared_server.faults.clear(number)
        await call(venue)  # nothing was broken here


@pytest.fixture
async def shared_server() -> Any:
    async with venue_server() as server:
        yield server


async def test_markets_survive_a_broken_refresh() -> None:
    async with venue_server() as server, opened(server) as venue:
        before = await venue.markets()
        fault(server, "GET exchangeInfo", "reply", status=200, body='{"symbols":[]}')
        with pytest.raises(TransientError, match="lists none of BTC/USDT"):
            await venue.markets(refresh=True)
        assert await venue.markets() == before
        assert (await venue.create(request())).filled == 0.01


async def test_a_refresh_brings_new_steps_and_our_fees() -> None:
    async with venue_server() as server, opened(server) as venue:
        assert (await venue.markets())[SYMBOL].taker is None
        server.control({"do": "rules", "symbol": SYMBOL, "lot": "0.001", "min_quantity": "0.001"})
        market = (await venue.markets(refresh=True))[SYMBOL]
        assert market.instrument.lot == 0.001
        assert (market.maker, market.taker) == (0.001, 0.001)
        with pytest.raises(VenueRefused, match="grid"):
            await venue.create(request(quantity=0.0101))


async def test_the_price_of_a_coin_that_is_not_traded_can_be_asked() -> None:
    async with venue_server(SYMBOL, "BNB/USDT") as server, opened(server) as venue:
        assert (await venue.quote("BNB/USDT")).last == 50_000.0
        with pytest.raises(TransientError):
            await venue.quote("NONE/USDT")


# ---- settings -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"verbose": True}, "verbose"),
        ({"enableRateLimit": False}, "enableRateLimit"),
        ({"options": {"maxRetriesOnFailure": 3}}, "maxRetriesOnFailure"),
        ({"options": {"order": {"maxRetriesOnFailure": 1}}}, "order.maxRetriesOnFailure"),
        ({"sandbox": True}, "sandbox"),
        ({"options": {"testnet": True}}, "testnet"),
        ({"urls": {"api": {"public": "http://127.0.0.1:1/api/v3"}}}, "private"),
    ],
)
def test_options_that_could_double_an_order_or_tell_a_secret_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        adapter(options)


def test_addresses_that_the_sandbox_would_drop_are_refused() -> None:
    api = {"public": "x", "private": "x", "sapi": "x", "fapiPublic": "x", "dapiPublic": "x",
           "ws": {"spot": "ws://x/stream", "ws-api": {"spot": "x"}}}  # fmt: skip
    with pytest.raises(ConfigError, match=r"urls\.test"):
        adapter({"urls": {"api": api}}, sandbox=True)


async def test_the_sandbox_is_where_orders_go() -> None:
    async with venue_server() as server:
        options = server.ccxt_options()
        urls = options.pop("urls")["api"]
        venue = adapter({**options, "urls": {"test": urls}}, sandbox=True)
        await venue.open()
        assert (await venue.create(request())).filled == 0.01
        assert await venue.permissions() == Permissions(may_trade=None, may_withdraw=None)
        await venue.close()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"exchange_id": "binanc"}, "did you mean binance"),
        ({"exchange_id": "kraken", "sandbox": True}, "no test venue of kraken"),
        ({"credentials": {"apiKey": KEY}}, "needs secret"),
    ],
)
async def test_an_exchange_that_cannot_be_used_is_named(settings: dict[str, Any], words: str) -> None:
    venue = adapter({}, **settings)
    with pytest.raises(ConfigError, match=words):
        await venue.open()
    await venue.close()


async def test_an_unknown_symbol_is_named() -> None:
    async with venue_server() as server:
        venue = adapter(server.ccxt_options(), symbols=("BTX/USDT",))
        with pytest.raises(ConfigError, match="did you mean BTC/USDT"):
            await venue.open()
        await venue.close()


async def test_a_halted_symbol_can_still_be_opened_so_that_what_is_held_can_be_seen() -> None:
    async with venue_server() as server:
        server.control({"do": "status", "symbol": SYMBOL, "status": "break"})
        async with opened(server) as venue:
            assert not (await venue.markets())[SYMBOL].is_active


async def test_a_venue_that_is_not_there_can_be_asked_again() -> None:
    async with venue_server() as server:
        options = server.ccxt_options()
    venue = adapter(options)
    with pytest.raises(TransientError):
        await venue.open()
    await venue.close()


async def test_where_the_amount_of_a_market_purchase_could_be_read_as_quote_none_is_placed() -> None:
    async with venue_server() as server, opened(server) as venue:
        venue._dialect = replace(venue._dialect, market_buy=None)
        with pytest.raises(VenueRefused, match='order = "limit"'):
            await venue.create(request(kind=RequestKind.MARKET, limit_price=None))
        sold = await venue.create(request(1, side=Side.SELL, kind=RequestKind.MARKET, limit_price=None))
        assert sold.filled == 0.01, "a sale's amount is base everywhere"


async def test_where_stops_cannot_be_followed_none_is_placed() -> None:
    async with venue_server() as server, opened(server) as venue:
        venue.abilities = replace(venue.abilities, has_stop=False, has_market_stop=False)
        with pytest.raises(VenueRefused, match="no stops"):
            await venue.create(stop())
        with pytest.raises(VenueRefused, match="none"):
            await venue.arm_dead_man(60.0)
        assert asked(server, "POST", "order") == []


async def test_where_ids_are_not_looked_up_by_the_venue_its_lists_are_searched() -> None:
    async with venue_server() as server, opened(server) as venue:
        await venue.create(resting(0))
        await venue.create(resting(1))
        async with opened(server) as fresh:
            fresh._dialect = replace(fresh._dialect, finds_by_client_id=False, cancels_by_client_id=False)
            found = await fresh.find(SYMBOL, order_id(1))
            assert found is not None
            assert found.client_id == order_id(1)
            assert await fresh.find(SYMBOL, order_id(7)) is None
            await fresh.cancel(SYMBOL, order_id(0))
            assert [order.client_id for order in await fresh.open_orders()] == [order_id(1)]
            assert asked(server, "DELETE", "order")[0]["orderId"] == "1"


def test_two_requests_within_one_millisecond_bear_rising_numbers() -> None:
    number = _rising(iter([5.0, 5.0, 5.0, 4.0, 9.0]).__next__)
    assert [number() for _ in range(5)] == [5.0, 6.0, 7.0, 8.0, 9.0]


# ---- the end --------------------------------------------------------------------------------------------------------
async def test_after_the_end_nothing_is_sent() -> None:
    async with venue_server() as server, opened(server) as venue:
        started = time.monotonic()
        await venue.close()
        await venue.close()
        assert time.monotonic() - started < 2.0
        with pytest.raises(NotSent):
            await venue.create(request())
        with pytest.raises(TransientError):
            await venue.balances()
        assert asked(server, "POST", "order") == []


async def test_neither_key_nor_secret_nor_signature_is_ever_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    said = []
    async with venue_server() as server, opened(server, quick_s=0.2) as venue:
        echo = f'{{"code":-2010,"msg":"no {KEY} {SECRET}"}}'
        for values in (
            {"what": "reply", "status": 400, "body": echo},
            {"what": "reply", "status": 500, "body": SECRET},
            {"what": "drop_reply"},
            {"what": "drop_request", "hold_s": 0.5},
            {"what": "cut_body"},
        ):
            fault(server, "POST order", **values)
            with pytest.raises(SacdError) as error:
                await venue.create(request())
            said.append(f"{error.value!r} {error.value.__cause__!r}")
        sent = asked(server, "POST", "order")
    text = " ".join([*said, caplog.text])
    assert len(sent) == 5
    assert "signature=" not in text
    assert KEY not in text
    assert SECRET not in text


async def test_calls_may_overlap_and_each_keeps_its_own_evidence() -> None:
    async with venue_server() as server, opened(server) as venue:
        fault(server, "POST order", "reply", status=429, body='{"code":-1003,"msg":"x"}', having={"quantity": "0.02"})
        slow = fault(server, "POST order", "delay", delay_s=0.3, having={"quantity": "0.01"})
        first = asyncio.ensure_future(venue.create(request(0)))
        await asyncio.sleep(0.05)
        with pytest.raises(NotSent):
            await venue.create(request(1, quantity=0.02))
        assert (await first).filled == 0.01
        assert server.faults.fired(slow) == 1
