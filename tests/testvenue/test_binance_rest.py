"""An unmodified ccxt trades over REST: what it sends is taken, what it is told is what happened."""

import asyncio
import json
import urllib.error
import urllib.request
from typing import Any

import ccxt
import pytest

from daemon.testvenue.faults import Fault, What
from daemon.testvenue.market import Market
from daemon.testvenue.orders import State
from tests.testvenue.venues import KEY, SYMBOL, D, market, served, trading


async def test_it_learns_the_rules_of_a_market() -> None:
    async with served() as venue, trading(venue) as exchange:
        listed = exchange.market(SYMBOL)
        assert listed["active"] is True
        assert listed["spot"] is True
        assert listed["precision"]["price"] == 0.01
        assert listed["precision"]["amount"] == 0.00001
        assert listed["limits"]["cost"]["min"] == 5.0
        assert listed["limits"]["market"]["max"] == 1_000.0
        assert {one["filterType"] for one in listed["info"]["filters"]} == {
            "PRICE_FILTER", "LOT_SIZE", "MARKET_LOT_SIZE", "NOTIONAL", "PERCENT_PRICE_BY_SIDE", "MAX_NUM_ORDERS",
            "MAX_NUM_ALGO_ORDERS",
        }  # fmt: skip


async def test_a_market_order_is_told_with_its_fills() -> None:
    async with served() as venue, trading(venue) as exchange:
        order = await exchange.create_order(SYMBOL, "market", "buy", 15, params={"clientOrderId": "mine-1"})
        assert (order["clientOrderId"], order["status"], order["filled"]) == ("mine-1", "closed", 15.0)
        assert order["cost"] == 1_500.20
        assert [(trade["price"], trade["amount"]) for trade in order["trades"]] == [(100.01, 10.0), (100.02, 5.0)]
        assert order["fees"] == [{"currency": "BTC", "cost": 0.015}]
        balance = await exchange.fetch_balance()
        assert (balance["BTC"]["free"], balance["USDT"]["total"]) == (14.985, 8_499.80)
        trades = await exchange.fetch_my_trades(SYMBOL, params={"orderId": order["id"]})
        assert [(trade["id"], trade["order"], trade["takerOrMaker"]) for trade in trades] == [
            ("1", order["id"], "taker"),
            ("2", order["id"], "taker"),
        ]


async def test_a_limit_order_rests_fills_in_parts_and_is_cancelled() -> None:
    async with served() as venue, trading(venue) as exchange:
        order = await exchange.create_order(SYMBOL, "limit", "buy", 2, 95, {"clientOrderId": "rests"})
        assert (order["status"], (await exchange.fetch_balance())["USDT"]["used"]) == ("open", 190.0)
        venue.market(SYMBOL).trade(95, "0.5")
        found = await exchange.fetch_order(None, SYMBOL, {"clientOrderId": "rests"})
        assert (found["status"], found["filled"], found["id"]) == ("open", 0.5, order["id"])
        assert [one["clientOrderId"] for one in await exchange.fetch_open_orders()] == ["rests"]
        await exchange.cancel_order(None, SYMBOL, {"clientOrderId": "rests"})
        found = await exchange.fetch_order(order["id"], SYMBOL)
        assert (found["status"], found["filled"], found["average"]) == ("canceled", 0.5, 95.0)
        assert await exchange.fetch_open_orders(SYMBOL) == []


async def test_immediate_or_cancel_fill_or_kill_and_post_only() -> None:
    async with served() as venue, trading(venue) as exchange:
        part = await exchange.create_order(SYMBOL, "limit", "buy", 15, 100.01, {"timeInForce": "IOC"})
        assert (part["status"], part["filled"]) == ("expired", 10.0)
        none = await exchange.create_order(SYMBOL, "limit", "buy", 15, 100.02, {"timeInForce": "FOK"})
        assert (none["status"], none["filled"]) == ("expired", 0.0)
        with pytest.raises(ccxt.OrderImmediatelyFillable, match="immediately match and take"):
            await exchange.create_order(SYMBOL, "limit", "buy", 1, 100.02, {"postOnly": True})
        post = await exchange.create_order(SYMBOL, "limit", "buy", 1, 100, {"postOnly": True})
        assert (await exchange.fetch_order(post["id"], SYMBOL))["postOnly"] is True


@pytest.mark.parametrize(("kind", "price"), [("market", None), ("limit", 94.0)])
async def test_a_stop_waits_binds_and_sells(kind: str, price: float | None) -> None:
    async with served() as venue, trading(venue) as exchange:
        await exchange.create_order(SYMBOL, "market", "buy", 1)
        params = {"stopLossPrice": 95, "clientOrderId": "stop"}
        stop = await exchange.create_order(SYMBOL, kind, "sell", 0.999, price, params)
        assert (stop["status"], stop["triggerPrice"]) == ("open", 95.0)
        assert (await exchange.fetch_balance())["BTC"] == {"free": 0.0, "used": 0.999, "total": 0.999}
        with pytest.raises(ccxt.InsufficientFunds):
            await exchange.create_order(SYMBOL, "market", "sell", 0.5)
        venue.market(SYMBOL).path([96, 95])
        sold = await exchange.fetch_order(None, SYMBOL, {"clientOrderId": "stop"})
        # the house bids 95 less half of 0.0002 of it, on the grid: 94.99
        assert (sold["status"], sold["average"], sold["filled"]) == ("closed", 94.99, 0.999)


async def test_a_stop_that_the_price_has_passed_is_refused() -> None:
    async with served() as venue, trading(venue) as exchange:
        await exchange.create_order(SYMBOL, "market", "buy", 1)
        with pytest.raises(ccxt.OrderImmediatelyFillable):
            await exchange.create_order(SYMBOL, "market", "sell", 0.9, None, {"stopLossPrice": 101})


@pytest.mark.parametrize(
    ("order", "error", "says"),
    [
        (("limit", "buy", 500, 99), ccxt.InsufficientFunds, "insufficient balance"),
        (("limit", "buy", 0.01, 90), ccxt.BadRequest, "NOTIONAL"),
        (("limit", "buy", 1, 501), ccxt.InvalidOrder, "PERCENT_PRICE_BY_SIDE"),
        (("market", "buy", 1_001), ccxt.InvalidOrder, "LOT_SIZE"),
    ],
)
async def test_a_refusal_has_binances_words(order: tuple[Any, ...], error: type[Exception], says: str) -> None:
    async with served() as venue, trading(venue) as exchange:
        with pytest.raises(error, match=says):
            await exchange.create_order(SYMBOL, *order)
        assert venue.book.orders == {}


async def test_a_client_id_is_unique_among_open_orders_only() -> None:
    async with served() as venue, trading(venue) as exchange:
        await exchange.create_order(SYMBOL, "limit", "buy", 1, 95, {"clientOrderId": "same"})
        with pytest.raises(ccxt.InvalidOrder, match="Duplicate order sent"):
            await exchange.create_order(SYMBOL, "limit", "buy", 1, 96, {"clientOrderId": "same"})
        await exchange.cancel_order(None, SYMBOL, {"clientOrderId": "same"})
        again = await exchange.create_order(SYMBOL, "market", "buy", 1, params={"clientOrderId": "same"})
        found = await exchange.fetch_order(None, SYMBOL, {"clientOrderId": "same"})
        assert found["id"] == again["id"]
        assert [order["status"] for order in await exchange.fetch_orders(SYMBOL)] == ["canceled", "closed"]


async def test_what_is_not_there_is_not_found() -> None:
    async with served() as venue, trading(venue) as exchange:
        with pytest.raises(ccxt.OrderNotFound, match="-2013"):
            await exchange.fetch_order(None, SYMBOL, {"clientOrderId": "never"})
        with pytest.raises(ccxt.OrderNotFound, match="-2011"):
            await exchange.cancel_order(None, SYMBOL, {"clientOrderId": "never"})


async def test_an_order_that_filled_meanwhile_cannot_be_cancelled() -> None:
    async with served() as venue, trading(venue) as exchange:
        order = await exchange.create_order(SYMBOL, "limit", "buy", 1, 95)
        command = {"do": "trade", "symbol": SYMBOL, "price": "94"}
        venue.faults.add(Fault(where="DELETE order", what=What.ACT, command=command))
        with pytest.raises(ccxt.OrderNotFound, match="-2011"):
            await exchange.cancel_order(order["id"], SYMBOL)
        assert venue.book.orders[int(order["id"])].state is State.FILLED


async def test_trades_are_paged_by_id_and_by_time() -> None:
    async with served() as venue, trading(venue) as exchange:
        for _ in range(3):
            await exchange.create_order(SYMBOL, "market", "buy", 1)
        trades = await exchange.fetch_my_trades(SYMBOL, params={"fromId": 2})
        assert [trade["id"] for trade in trades] == ["2", "3"]
        assert len(await exchange.fetch_my_trades(SYMBOL, since=trades[0]["timestamp"])) >= 1
        assert await exchange.fetch_my_trades(SYMBOL, since=trades[-1]["timestamp"] + 1) == []
        assert len(await exchange.fetch_my_trades(SYMBOL, limit=2)) == 2


async def test_lookups_lag_behind_when_told_to() -> None:
    async with served() as venue, trading(venue) as exchange:
        venue.book.lag_ms = 60_000
        order = await exchange.create_order(SYMBOL, "market", "buy", 1)
        with pytest.raises(ccxt.OrderNotFound):
            await exchange.fetch_order(order["id"], SYMBOL)
        assert await exchange.fetch_my_trades(SYMBOL) == []
        venue.time.shift_ms = 60_000
        exchange.options["timeDifference"] = -60_000
        assert (await exchange.fetch_order(order["id"], SYMBOL))["status"] == "closed"


async def test_prices_candles_book_and_trades() -> None:
    async with served() as venue, trading(venue) as exchange:
        venue.market(SYMBOL).trade(104, 2)
        assert (await exchange.fetch_ticker(SYMBOL))["last"] == 104.0
        quote = (await exchange.fetch_bids_asks([SYMBOL]))[SYMBOL]
        assert (quote["bid"], quote["ask"]) == (103.98, 104.02)
        book = await exchange.fetch_order_book(SYMBOL, 2)
        assert [price for price, _ in book["bids"]] == [103.98, 103.96]
        assert [price for price, _ in book["asks"]] == [104.02, 104.04]
        assert [(one["price"], one["side"]) for one in await exchange.fetch_trades(SYMBOL)] == [(104.0, "buy")]
        assert (await exchange.fetch_ohlcv(SYMBOL, "1m"))[-1][1:] == [104.0, 104.0, 104.0, 104.0, 2.0]
        assert abs(await exchange.fetch_time() - venue.time.now_ms()) < 5_000


async def test_larger_timeframes_are_made_of_the_base_one() -> None:
    async with served() as venue, trading(venue) as exchange:
        first = 1_600_000_200_000  # divisible by five minutes
        rows = [(first + i * 60_000, 100 + i, 110 + i, 90 - i, 101 + i, 1) for i in range(10)]
        made = market()
        venue.book.markets[SYMBOL] = made
        venue.market(SYMBOL).history(rows)
        venue.time.pinned_ms = first + 10 * 60_000 - 1
        candles = await exchange.fetch_ohlcv(SYMBOL, "5m")
        assert candles == [[first, 100, 114, 86, 105, 5], [first + 300_000, 105, 119, 81, 110, 5]]


async def test_what_the_key_may_do_and_what_trading_costs() -> None:
    async with served() as venue, trading(venue) as exchange:
        rights = await exchange.sapi_get_account_apirestrictions()
        assert (rights["enableWithdrawals"], rights["enableSpotAndMarginTrading"], rights["ipRestrict"]) == (
            False, True, True,
        )  # fmt: skip
        fee = await exchange.fetch_trading_fee(SYMBOL)
        assert (fee["maker"], fee["taker"]) == (0.001, 0.001)
        assert (await exchange.fetch_status())["status"] == "ok"
        exchange.options["fetchCurrencies"] = True
        assert set(await exchange.fetch_currencies()) == {"BTC", "USDT"}


async def test_a_key_is_refused_when_it_may_not_trade_or_is_revoked() -> None:
    async with served() as venue, trading(venue) as exchange:
        venue.account("main").rights.may_trade = False
        await exchange.fetch_balance()
        # ccxt takes -2015 after a success for throttling (measured)
        with pytest.raises(ccxt.DDoSProtection, match="-2015"):
            await exchange.create_order(SYMBOL, "market", "buy", 1)
        venue.control({"do": "rights", "account": "main", "is_revoked": True})
        with pytest.raises(ccxt.DDoSProtection, match="-2015"):
            await exchange.fetch_balance()


async def test_a_wrong_secret_and_a_wrong_clock_are_refused() -> None:
    async with served() as venue:
        async with trading(venue, secret=KEY) as exchange:
            with pytest.raises(ccxt.AuthenticationError, match="-1022"):
                await exchange.fetch_balance()
        async with trading(venue) as exchange:
            venue.time.shift_ms = 30_000
            with pytest.raises(ccxt.InvalidNonce, match="-1021"):
                await exchange.fetch_balance()
            await exchange.load_time_difference()
            assert (await exchange.fetch_balance())["USDT"]["free"] == 10_000.0


async def test_weight_is_counted_and_refused_with_retry_after() -> None:
    async with served(weight_per_minute=100) as venue, trading(venue) as exchange:
        await exchange.fetch_balance()
        used = int(exchange.last_response_headers["X-MBX-USED-WEIGHT-1M"])
        assert used in {20, 40}  # a minute may have ended since the markets were loaded
        with pytest.raises(ccxt.DDoSProtection, match="request weight"):
            await asyncio.gather(*(exchange.fetch_balance() for _ in range(12)))
        assert 0 < int(exchange.last_response_headers["Retry-After"]) <= 60


async def test_a_halted_market_and_maintenance() -> None:
    async with served() as venue, trading(venue) as exchange:
        venue.market(SYMBOL).set_status("break")
        with pytest.raises(ccxt.ExchangeError, match="Market is closed"):
            await exchange.create_order(SYMBOL, "market", "buy", 1)
        assert (await exchange.load_markets(reload=True))[SYMBOL]["active"] is False
        venue.set_maintenance(is_down=True)
        with pytest.raises(ccxt.BadRequest, match="-1016"):
            await exchange.fetch_balance()
        assert (await exchange.fetch_status())["status"] == "maintenance"
        venue.set_maintenance(is_down=False)
        await exchange.fetch_balance()


async def test_a_delisted_market_is_gone_and_so_are_its_orders() -> None:
    second = Market(base="ETH", quote="USDT", last=D(10))
    async with served(market(), second) as venue, trading(venue) as exchange:
        order = await exchange.create_order(SYMBOL, "limit", "buy", 1, 95)
        venue.control({"do": "status", "symbol": SYMBOL, "status": "delisted"})
        assert SYMBOL not in await exchange.load_markets(reload=True)
        assert venue.book.orders[int(order["id"])].state is State.EXPIRED
        assert (await exchange.fetch_balance())["USDT"]["free"] == 10_000.0


# ---- faults on requests ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("fault", "error", "orders"),
    [
        ({"what": What.DROP_REQUEST}, ccxt.NetworkError, 0),
        ({"what": What.DROP_REPLY}, ccxt.NetworkError, 1),
        ({"what": What.DROP_REPLY, "hold_s": 3.0}, ccxt.RequestTimeout, 1),
        ({"what": What.DROP_REQUEST, "hold_s": 3.0}, ccxt.RequestTimeout, 0),
        ({"what": What.CUT_BODY}, ccxt.ExchangeError, 1),
        ({"what": What.REPLY, "status": 504, "body": "<html>504</html>"}, ccxt.RequestTimeout, 0),
        ({"what": What.REPLY, "status": 503, "is_processed": True}, ccxt.ExchangeNotAvailable, 1),
        ({"what": What.REJECT, "code": "-2010", "message": "Duplicate order sent."}, ccxt.InvalidOrder, 0),
        ({"what": What.REJECT, "code": "-1007", "message": "Timeout", "status": 408}, ccxt.RequestTimeout, 0),
        ({"what": What.DELAY, "delay_s": 3.0}, ccxt.RequestTimeout, 1),
    ],
    ids=lambda value: str(value["what"]) if isinstance(value, dict) else "",
)
async def test_a_fault_on_an_order_is_seen_by_ccxt_and_by_the_audit(
    fault: dict[str, Any], error: type[Exception], orders: int
) -> None:
    async with served() as venue, trading(venue, timeout=1_000) as exchange:
        venue.faults.add(Fault(where="POST order", **fault))
        with pytest.raises(error):
            await exchange.create_order(SYMBOL, "market", "buy", 1)
        if fault["what"] is What.DELAY:
            await venue.clock.sleep_s(2.5)
        assert len(venue.book.orders) == orders
        assert [record["what"] for record in venue.audit.records if record["kind"] == "fault"] == [fault["what"]]


@pytest.mark.parametrize("fault", [{"what": What.TRUNCATED}, {"what": What.REPLY, "status": 200, "is_processed": True}])
async def test_an_unusable_answer_is_no_error_to_ccxt(fault: dict[str, Any]) -> None:
    async with served() as venue, trading(venue) as exchange:
        venue.faults.add(Fault(where="POST order", **fault))
        order = await exchange.create_order(SYMBOL, "market", "buy", 1)
        assert (order["id"], order["status"], len(venue.book.orders)) == (None, None, 1)


async def test_nothing_but_the_signature_opens_the_account() -> None:
    async with served() as venue:
        request = urllib.request.Request(
            f"http://127.0.0.1:{venue.port}/api/v3/account?timestamp={venue.time.now_ms()}&signature=00",
            headers={"X-MBX-APIKEY": KEY},
        )
        with pytest.raises(urllib.error.HTTPError) as caught:
            await asyncio.to_thread(urllib.request.urlopen, request)
        assert json.loads(caught.value.read()) == {"code": -1022, "msg": "Signature for this request is not valid."}
