"""Kraken's REST interface, as unmodified ccxt uses it; expected numbers by hand and from Kraken's documentation."""

import asyncio
import base64
from decimal import Decimal
from typing import Any

import aiohttp
import ccxt
import pytest

from daemon.rate_budget import Purpose, RateBudget
from daemon.testvenue.accounts import KeyRights
from daemon.testvenue.faults import Fault, What
from daemon.testvenue.kraken_keys import signature
from daemon.testvenue.kraken_words import KrakenError, pair_id, txid
from daemon.testvenue.market import Market
from daemon.testvenue.server import TestVenue
from daemon.venue import NotSent
from tests.fakes.clock import ManualClock
from tests.testvenue.kraken import KEY, SECRET, SYMBOL, client, market, venue

CLIENT_ID = "da8e4ad59b78481c93e589746b0cf91f"  # the short form of a UUID, as in Kraken's documentation


# ---- who asks ---------------------------------------------------------------------------------------------------
def test_signature_is_the_one_in_krakens_documentation() -> None:
    documented = "kQH5HW/8p1uGOVjbgWA7FunAmGO8lsSUXNsu3eow76sz84Q18fWxnyRzBHCd3pd5nE9qa99HAZtuZuj6F1huXg=="
    body = "nonce=1616492376594&ordertype=limit&pair=XBTUSD&price=37500&type=buy&volume=1.25"
    signed = signature("/0/private/AddOrder", "1616492376594", body, documented)
    assert signed == "4/dpxb3iT4tp/ZCVEwSnEsLxx0bqyhLpdfOpc6fn7OR8+UClSV5n9E6aSS8MPtnRfp32bAb0nmbRn6H8ndwLUQ=="


async def test_a_wrong_secret_is_refused_and_nothing_happens() -> None:
    async with venue() as serving, client(serving, secret=base64.b64encode(b"other").decode()) as exchange:
        with pytest.raises(ccxt.ExchangeError, match="EAPI:Invalid signature"):
            await exchange.create_order(SYMBOL, "market", "buy", 0.01)
        assert serving.book.orders == {}


async def test_an_unknown_and_a_revoked_key_are_the_same() -> None:
    async with venue() as serving, client(serving, apiKey="nobody") as stranger, client(serving) as exchange:
        serving.book.revoke(KEY)
        for each in (stranger, exchange):
            with pytest.raises(ccxt.AuthenticationError, match="EAPI:Invalid key"):
                await each.fetch_balance()


async def test_a_nonce_must_grow() -> None:
    async with venue() as serving, client(serving) as exchange, client(serving) as late:
        await exchange.fetch_balance()
        late.incrementing_nonce = lambda: 1
        with pytest.raises(ccxt.InvalidNonce, match="EAPI:Invalid nonce"):
            await late.fetch_balance()


@pytest.mark.parametrize(
    ("rights", "call"),
    [
        (KeyRights(may_trade=False), lambda one: one.create_order(SYMBOL, "market", "buy", 0.01)),
        (KeyRights(may_trade=False), lambda one: one.cancel_all_orders()),
        (KeyRights(may_read=False), lambda one: one.fetch_balance()),
    ],
    ids=["order", "cancel", "balance"],
)
async def test_what_the_key_may_not_do_is_refused(rights: KeyRights, call: Any) -> None:
    async with venue(rights=rights) as serving, client(serving) as exchange:
        with pytest.raises(ccxt.PermissionDenied, match="EGeneral:Permission denied"):
            await call(exchange)


async def test_what_the_key_may_do_is_told() -> None:
    async with venue(rights=KeyRights(may_withdraw=True)) as serving, client(serving) as exchange:
        told = (await exchange.private_post_getapikeyinfo())["result"]
        assert {"modify-trades", "withdraw-funds", "query-funds"} <= set(told["permissions"])


async def test_more_calls_than_the_counter_holds_are_refused() -> None:
    async with venue() as serving, client(serving) as exchange:
        for _ in range(15):
            await exchange.fetch_balance()
        with pytest.raises(ccxt.DDoSProtection, match="EAPI:Rate limit exceeded"):
            await exchange.fetch_balance()
        await exchange.create_order(SYMBOL, "market", "buy", 0.01)  # orders are counted elsewhere


async def _is_answered(exchange: Any, clock: ManualClock) -> bool:
    """Ask for the balances; False when the budget has nothing left for it within its patience."""
    asking = asyncio.ensure_future(exchange.fetch_balance())
    while not asking.done() and not clock.sleepers:  # noqa: ASYNC110  # real sockets and a clock of our own
        await asyncio.sleep(0.002)
    if not asking.done():
        await clock.advance(1.1)
    try:
        await asking
    except NotSent:
        return False
    return True


async def test_the_rate_budget_never_runs_into_the_counter() -> None:
    async with venue() as serving, client(serving) as exchange:
        clock = ManualClock()
        budget = RateBudget(clock, max_wait_s=1.0)
        budget.attach(exchange)
        answered = 0
        with budget.purpose(Purpose.EXIT):
            while await _is_answered(exchange, clock):
                answered += 1
        assert answered == 15


def test_a_secret_that_is_no_base64_is_refused_when_the_account_is_opened() -> None:
    serving = TestVenue([market()], clock=ManualClock(), dialect="kraken")
    with pytest.raises(ValueError, match="secrets are base64") as caught:
        serving.add_account("key", "not base64!", {"USDT": 1})
    assert "not base64!" not in str(caught.value)


# ---- markets ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("base", "quote", "name"),
    [("BTC", "USD", "XXBTZUSD"), ("BTC", "USDT", "XBTUSDT"), ("ETH", "BTC", "XETHXXBT"), ("ADA", "ETH", "ADAETH")],
)
def test_pairs_are_called_as_kraken_calls_them(base: str, quote: str, name: str) -> None:
    assert pair_id(Market(base=base, quote=quote)) == name


async def test_steps_and_minimums_reach_ccxt() -> None:
    eth = market(base="ETH", quote="EUR", last=Decimal(2_000))
    async with venue(market(), eth) as serving, client(serving) as exchange:
        assert set(exchange.markets) == {"BTC/USDT", "ETH/EUR"}
        found = exchange.market(SYMBOL)
        assert (found["precision"]["price"], found["precision"]["amount"]) == (0.1, 1e-8)
        assert (found["limits"]["amount"]["min"], found["limits"]["cost"]["min"]) == (0.0001, 5.0)
        assert found["active"] is True
        fee = await exchange.fetch_trading_fee("ETH/EUR")
        assert (fee["maker"], fee["taker"]) == (0.0025, 0.004)


async def test_candles_are_720_at_most_and_the_last_one_is_forming() -> None:
    async with venue() as serving, client(serving) as exchange:
        now_ms = serving.time.now_ms() // 60_000 * 60_000
        opened = range(now_ms - 999 * 60_000, now_ms + 1, 60_000)
        rows = [(at, 100 + n, 101 + n, 99 + n, 100.5 + n, 2) for n, at in enumerate(opened)]
        serving.market(SYMBOL).history(rows)
        candles = await exchange.fetch_ohlcv(SYMBOL, "1m")
        assert len(candles) == 720
        assert candles[-2][:6] == [now_ms - 60_000, 1098.0, 1099.0, 1097.0, 1098.5, 2.0]
        assert candles[-1][0] in {now_ms, now_ms + 60_000}  # the minute may have turned meanwhile
        hours = await exchange.fetch_ohlcv(SYMBOL, "1h")
        whole = hours[1]  # the first one is cut where the history begins
        assert whole[0] % 3_600_000 == 0
        first = next(row for row in rows if row[0] == whole[0])
        assert whole[1:] == [first[1], first[1] + 60.0, first[1] - 1.0, first[1] + 59.5, 120.0]


async def test_ticker_book_trades_time_and_status() -> None:
    async with venue() as serving, client(serving) as exchange:
        serving.market(SYMBOL).trade("30010", "0.25")
        serving.market(SYMBOL).offer(bids=[("30000", "1")], asks=[("30020.5", "2"), ("30021", "3")])
        ticker = await exchange.fetch_ticker(SYMBOL)
        assert (ticker["bid"], ticker["ask"], ticker["last"]) == (30_000.0, 30_020.5, 30_010.0)
        depth = await exchange.fetch_order_book(SYMBOL, 10)
        assert [row[:2] for row in depth["asks"]] == [[30_020.5, 2.0], [30_021.0, 3.0]]
        (trade,) = await exchange.fetch_trades(SYMBOL)
        assert (trade["price"], trade["amount"], trade["side"]) == (30_010.0, 0.25, "buy")
        assert abs(await exchange.fetch_time() - serving.time.now_ms()) < 2_000
        assert (await exchange.fetch_status())["status"] == "ok"


async def test_maintenance_refuses_everything_but_says_so() -> None:
    async with venue() as serving, client(serving) as exchange:
        serving.set_maintenance(is_down=True)
        with pytest.raises(ccxt.ExchangeNotAvailable, match="EService:Unavailable"):
            await exchange.create_order(SYMBOL, "market", "buy", 0.01)
        assert (await exchange.fetch_status())["status"] == "maintenance"


# ---- orders -----------------------------------------------------------------------------------------------------
async def test_a_market_order_fills_and_pays_its_fee_in_quote() -> None:
    async with venue() as serving, client(serving) as exchange:
        serving.market(SYMBOL).offer(asks=[("30000", "0.01"), ("30100", "1")])
        placed = await exchange.create_order(SYMBOL, "market", "buy", 0.02, None, {"clientOrderId": CLIENT_ID})
        order = await exchange.fetch_order(placed["id"])
        # 0.01 * 30000 + 0.01 * 30100 = 601; 0.4 % of it = 2.404
        assert (order["status"], order["filled"], order["cost"], order["average"]) == ("closed", 0.02, 601.0, 30_050.0)
        assert order["clientOrderId"] == CLIENT_ID
        assert order["fee"] == {"cost": "2.40400000", "rate": None, "currency": "USDT"}
        total = (await exchange.fetch_balance())["total"]
        assert (total["BTC"], total["USDT"]) == (0.52, 10_000.0 - 601.0 - 2.404)
        trades = await exchange.fetch_my_trades(SYMBOL)
        assert [(each["price"], each["amount"], each["fee"]["cost"]) for each in trades] == [
            (30_000.0, 0.01, 1.2),
            (30_100.0, 0.01, 1.204),
        ]
        assert {each["order"] for each in trades} == {placed["id"]}


async def test_an_ioc_limit_takes_what_is_within_reach_and_cancels_the_rest() -> None:
    async with venue() as serving, client(serving) as exchange:
        serving.market(SYMBOL).offer(asks=[("30000", "0.01"), ("30100", "1")])
        placed = await exchange.create_order(SYMBOL, "limit", "buy", 0.02, 30_050.0, {"timeInForce": "IOC"})
        order = await exchange.fetch_order(placed["id"])
        assert (order["status"], order["filled"], order["remaining"]) == ("canceled", 0.01, 0.01)
        assert (await exchange.fetch_balance())["used"]["USDT"] == 0.0


async def test_a_resting_order_holds_its_cost_and_fee_and_is_found_by_its_client_id() -> None:
    async with venue() as serving, client(serving) as exchange:
        placed = await exchange.create_order(SYMBOL, "limit", "buy", 0.1, 29_000.0, {"clientOrderId": CLIENT_ID})
        (found,) = await exchange.fetch_open_orders(SYMBOL, params={"clientOrderId": CLIENT_ID})
        assert (found["id"], found["price"], found["amount"], found["status"]) == (placed["id"], 29_000.0, 0.1, "open")
        assert await exchange.fetch_open_orders(SYMBOL, params={"clientOrderId": "0" * 32}) == []
        assert (await exchange.fetch_balance())["used"]["USDT"] == pytest.approx(2_900.0 * 1.004)
        await exchange.cancel_order("", SYMBOL, {"clientOrderId": CLIENT_ID})
        assert (await exchange.fetch_balance())["used"]["USDT"] == 0.0
        (closed,) = await exchange.fetch_closed_orders(SYMBOL, params={"clientOrderId": CLIENT_ID})
        assert (closed["id"], closed["status"]) == (placed["id"], "canceled")
        with pytest.raises(ccxt.OrderNotFound, match="EOrder:Unknown order"):
            await exchange.cancel_order(placed["id"], SYMBOL)


async def test_a_client_id_is_unique_among_open_orders_only() -> None:
    async with venue() as serving, client(serving) as exchange:
        params = {"clientOrderId": CLIENT_ID}
        first = await exchange.create_order(SYMBOL, "limit", "buy", 0.01, 29_000.0, params)
        with pytest.raises(ccxt.ExchangeError, match="EOrder:Duplicate order"):
            await exchange.create_order(SYMBOL, "limit", "buy", 0.01, 29_000.0, params)
        await exchange.cancel_order(first["id"], SYMBOL)
        again = await exchange.create_order(SYMBOL, "limit", "buy", 0.01, 29_000.0, params)
        assert again["id"] != first["id"]


@pytest.mark.parametrize("client_id", ["x" * 19, "s-btcusdt-1f2e3d4c-abcdef-0", "with space"])
async def test_other_client_ids_are_refused(client_id: str) -> None:
    async with venue() as serving, client(serving) as exchange:
        with pytest.raises(ccxt.ExchangeError, match="EGeneral:Invalid arguments:cl_ord_id"):
            await exchange.create_order(SYMBOL, "limit", "buy", 0.01, 29_000.0, {"clientOrderId": client_id})


async def test_a_post_only_order_that_would_take_is_accepted_and_cancelled() -> None:
    async with venue() as serving, client(serving) as exchange:
        placed = await exchange.create_order(SYMBOL, "limit", "buy", 0.01, 31_000.0, {"postOnly": True})
        order = await exchange.fetch_order(placed["id"])
        assert (order["status"], order["filled"], order["postOnly"]) == ("canceled", 0.0, True)
        assert order["info"]["reason"] == "Post only order"


async def test_a_stop_binds_nothing_until_it_triggers_and_then_sells_at_market() -> None:
    async with venue() as serving, client(serving) as exchange:
        stop = await exchange.create_order(SYMBOL, "market", "sell", 0.5, None, {"stopLossPrice": 29_000.0})
        assert stop["stopLossPrice"] == 29_000.0
        assert (await exchange.fetch_balance())["used"]["BTC"] == 0.0
        serving.market(SYMBOL).trade("29500")
        assert (await exchange.fetch_order(stop["id"]))["status"] == "open"
        serving.market(SYMBOL).trade("28995")
        order = await exchange.fetch_order(stop["id"])
        # the best bid stands half of 0.02 % below the price, rounded down to the tick
        assert (order["status"], order["filled"], order["average"]) == ("closed", 0.5, 28_992.1)
        assert "BTC" not in (await exchange.fetch_balance())["total"]


async def test_a_stop_without_the_coins_is_cancelled_when_it_triggers() -> None:
    async with venue() as serving, client(serving) as exchange:
        stop = await exchange.create_order(SYMBOL, "market", "sell", 0.5, None, {"stopLossPrice": 29_000.0})
        await exchange.create_order(SYMBOL, "market", "sell", 0.3)  # nothing held it back
        serving.market(SYMBOL).trade("28000")
        assert (await exchange.fetch_order(stop["id"]))["status"] == "canceled"
        assert (await exchange.fetch_balance())["total"]["BTC"] == 0.2


async def test_a_stop_whose_price_is_passed_sells_at_once() -> None:
    async with venue() as serving, client(serving) as exchange:
        stop = await exchange.create_order(SYMBOL, "market", "sell", 0.1, None, {"stopLossPrice": 31_000.0})
        assert (await exchange.fetch_order(stop["id"]))["filled"] == 0.1
        assert (await exchange.fetch_balance())["total"]["BTC"] == 0.4


async def test_a_stop_limit_rests_at_its_limit_once_triggered() -> None:
    async with venue() as serving, client(serving) as exchange:
        params = {"stopLossPrice": 29_000.0}
        stop = await exchange.create_order(SYMBOL, "limit", "sell", 0.1, 28_950.0, params)
        assert (stop["stopLossPrice"], stop["price"]) == (29_000.0, 28_950.0)
        serving.market(SYMBOL).trade("28000")
        order = await exchange.fetch_order(stop["id"])
        assert (order["status"], order["info"]["misc"]) == ("open", "stopped")
        serving.market(SYMBOL).trade("29100")
        assert (await exchange.fetch_order(stop["id"]))["average"] == 28_950.0


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("market", "buy", 1.0), ccxt.InsufficientFunds, "EOrder:Insufficient funds"),
        (("market", "buy", 0.00005), ccxt.InvalidOrder, "EOrder:Order minimum not met"),
        (("limit", "buy", 0.0002, 20_000.0), ccxt.ExchangeError, "EOrder:Cost minimum not met"),
        (("limit", "buy", 0.01, 200_000.0), ccxt.ExchangeError, "EOrder:Invalid price"),
    ],
    ids=["funds", "volume", "cost", "price"],
)
async def test_refusals_are_worded_as_kraken_words_them(
    arguments: tuple[Any, ...], error: type[Exception], words: str
) -> None:
    async with venue() as serving, client(serving) as exchange:
        with pytest.raises(error, match=words):
            await exchange.create_order(SYMBOL, *arguments)
        assert serving.book.orders == {}


async def test_validate_only_leaves_no_order() -> None:
    async with venue() as serving, client(serving) as exchange:
        await exchange.create_order(SYMBOL, "market", "buy", 0.01, None, {"validate": "true"})
        with pytest.raises(ccxt.InvalidOrder, match="EOrder:Order minimum not met"):
            await exchange.create_order(SYMBOL, "market", "buy", 0.00001, None, {"validate": "true"})
        assert serving.book.orders == {}


async def test_orders_are_refused_while_the_market_only_cancels() -> None:
    async with venue() as serving, client(serving) as exchange:
        resting = await exchange.create_order(SYMBOL, "limit", "buy", 0.01, 29_000.0)
        serving.market(SYMBOL).set_status("break")
        with pytest.raises(ccxt.OnMaintenance, match="cancel_only"):
            await exchange.create_order(SYMBOL, "market", "sell", 0.01)
        await exchange.cancel_order(resting["id"], SYMBOL)
        assert (await exchange.load_markets(reload=True))[SYMBOL]["active"] is False


async def test_the_dead_man_cancels_everything_stops_too_unless_told_in_time() -> None:
    clock = ManualClock()
    serving = TestVenue([market()], clock=clock, dialect="kraken")
    serving.add_account(KEY, SECRET, {"USDT": 10_000, "BTC": "0.5"})
    async with serving, client(serving) as exchange:
        await exchange.create_order(SYMBOL, "limit", "buy", 0.01, 29_000.0)
        await exchange.create_order(SYMBOL, "market", "sell", 0.5, None, {"stopLossPrice": 20_000.0})
        await exchange.cancel_all_orders_after(60_000)
        await clock.advance(50.0)
        armed = await exchange.cancel_all_orders_after(60_000)
        assert armed["result"]["triggerTime"] > armed["result"]["currentTime"]
        await clock.advance(59.0)
        assert len(await exchange.fetch_open_orders()) == 2
        await clock.advance(1.5)
        assert await exchange.fetch_open_orders() == []
        await exchange.create_order(SYMBOL, "limit", "buy", 0.01, 29_000.0)
        await clock.advance(600.0)
        assert len(await exchange.fetch_open_orders()) == 1  # it fires once
        await exchange.cancel_all_orders_after(60_000)
        await exchange.cancel_all_orders_after(0)
        await clock.advance(600.0)
        assert len(await exchange.fetch_open_orders()) == 1


async def test_trades_come_in_pages_of_fifty_newest_first() -> None:
    async with venue(USDT="100000") as serving, client(serving) as exchange:
        for _ in range(53):
            await exchange.create_order(SYMBOL, "market", "buy", 0.001)
        newest = await exchange.fetch_my_trades(SYMBOL)
        oldest = await exchange.fetch_my_trades(SYMBOL, params={"ofs": 50})
        assert (len(newest), len(oldest)) == (50, 3)
        assert len({each["id"] for each in newest + oldest}) == 53
        assert max(each["timestamp"] for each in oldest) <= min(each["timestamp"] for each in newest)
        closed = await exchange.private_post_closedorders()
        assert (len(closed["result"]["closed"]), int(closed["result"]["count"])) == (50, 53)


async def test_lookups_lag_where_the_venue_lags() -> None:
    async with venue() as serving, client(serving) as exchange:
        serving.book.lag_ms = 60_000
        placed = await exchange.create_order(SYMBOL, "market", "buy", 0.01)
        with pytest.raises(ccxt.InvalidOrder, match="EOrder:Unknown order"):
            await exchange.fetch_order(placed["id"])
        assert await exchange.fetch_my_trades(SYMBOL) == []


async def test_faults_meet_krakens_paths() -> None:
    async with venue() as serving, client(serving) as exchange:
        serving.faults.add(Fault(where="POST AddOrder", what=What.DROP_REPLY))
        with pytest.raises(ccxt.NetworkError):
            await exchange.create_order(SYMBOL, "market", "buy", 0.01, None, {"clientOrderId": CLIENT_ID})
        assert [order.client_id for order in serving.book.orders.values()] == [CLIENT_ID]
        serving.faults.add(Fault(where="POST AddOrder", what=What.REJECT, code="EService", message="Busy"))
        with pytest.raises(ccxt.ExchangeNotAvailable, match="EService:Busy"):
            await exchange.create_order(SYMBOL, "market", "buy", 0.01)
        assert len(serving.book.orders) == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("AddOrder", "nonce=1"),
        ("Nothing", "nonce=1"),
        ("AddOrder", "{broken"),
        ("AddOrder", ""),
        ("AddOrder", "nonce=x"),
    ],
)
async def test_nonsense_is_answered_as_an_error_not_as_a_failure(path: str, body: str) -> None:
    async with venue() as serving, aiohttp.ClientSession() as session:
        headers = {"API-Key": KEY, "API-Sign": "x", "Content-Type": "application/json" if "{" in body else "text/plain"}
        url = f"http://127.0.0.1:{serving.port}/0/private/{path}"
        async with session.post(url, data=body, headers=headers) as answer:
            assert answer.status == 200
            assert (await answer.json())["error"][0].startswith("E")


async def test_no_key_or_signature_reaches_the_audit() -> None:
    async with venue() as serving, client(serving) as exchange:
        await exchange.create_order(SYMBOL, "market", "buy", 0.01)
        text = repr(serving.audit.records)
        assert "AddOrder" in text
        assert KEY not in text
        assert SECRET not in text


def test_ids_look_like_krakens_and_never_repeat() -> None:
    ids = [txid(number) for number in range(1_000)]
    assert len(set(ids)) == 1_000
    assert all(len(each) == 19 and each[0] == "O" and each[6] == each[12] == "-" for each in ids)


def test_a_secret_that_is_no_base64_signs_nothing() -> None:
    with pytest.raises(KrakenError, match="Invalid signature"):
        signature("/0/private/Balance", "1", "nonce=1", "%%%")
