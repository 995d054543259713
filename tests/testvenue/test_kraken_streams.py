"""Kraken's websockets, as unmodified ccxt.pro uses them, and on the wire where ccxt hides what comes."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import aiohttp
import ccxt
import pytest

from daemon.testvenue.faults import Fault, What
from daemon.testvenue.server import TestVenue
from tests.testvenue.kraken import KEY, SYMBOL, client, venue

_T = TypeVar("_T")
CLIENT_ID = "da8e4ad59b78481c93e589746b0cf91f"


async def soon(waiting: Awaitable[_T]) -> _T:
    return await asyncio.wait_for(waiting, 10.0)


class Wire:
    """A raw websocket to the venue."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket

    async def ask(self, **message: Any) -> None:
        await self._socket.send_str(json.dumps(message))

    async def hear(self, count: int) -> list[dict[str, Any]]:
        return [json.loads((await soon(self._socket.receive())).data) for _ in range(count)]

    async def is_closed(self) -> bool:
        return (await soon(self._socket.receive())).type in {aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED}


@asynccontextmanager
async def wire(serving: TestVenue, kind: str = "publicV2") -> AsyncIterator[Wire]:
    url = serving.ccxt_options(account=KEY)["urls"]["api"]["ws"][kind]
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
        yield Wire(socket)


async def subscribed(exchange: Any, hub: Any, channel: str) -> None:
    """Wait until the venue has this client's subscription."""
    while not any(channel in channels for channels in hub._clients.values()):  # noqa: ASYNC110  # a real socket
        await asyncio.sleep(0.005)


# ---- the market -------------------------------------------------------------------------------------------------
async def test_candles_trades_ticker_and_book_reach_ccxt() -> None:
    async with venue() as serving, client(serving) as exchange:
        assert (await soon(exchange.watch_ticker(SYMBOL)))["last"] == 30_000.0
        book = await soon(exchange.watch_order_book(SYMBOL, 10))
        assert book["bids"][0][0] < 30_000.0 < book["asks"][0][0]
        trades = asyncio.ensure_future(exchange.watch_trades(SYMBOL))
        candles = asyncio.ensure_future(exchange.watch_ohlcv(SYMBOL, "1m"))
        stream = serving.dialects[0]._stream  # type: ignore[attr-defined]
        while sum(len(channels) for channels in stream._clients.values()) < 4:  # noqa: ASYNC110  # a real socket
            await asyncio.sleep(0.005)
        ticker = asyncio.ensure_future(exchange.watch_ticker(SYMBOL))
        await asyncio.sleep(0)
        serving.market(SYMBOL).trade("30100", "0.5")
        (trade,) = await soon(trades)
        assert (trade["price"], trade["amount"], trade["side"]) == (30_100.0, 0.5, "buy")
        assert (await soon(candles))[-1][1:] == [30_100.0, 30_100.0, 30_100.0, 30_100.0, 0.5]
        assert (await soon(ticker))["last"] == 30_100.0


async def test_a_book_kept_from_updates_is_the_book() -> None:
    async with venue() as serving, client(serving) as exchange:
        await soon(exchange.watch_order_book(SYMBOL, 10))
        for price in ("30100", "29000", "29950.5"):
            serving.market(SYMBOL).trade(price)
        serving.market(SYMBOL).offer(bids=[("29940", "1.5"), ("29930", "2")], asks=[("29960", "0.25")])
        while len((book := await soon(exchange.watch_order_book(SYMBOL, 10)))["asks"]) > 1:
            pass
        assert [row[:2] for row in book["bids"]] == [[29_940.0, 1.5], [29_930.0, 2.0]]
        assert [row[:2] for row in book["asks"]] == [[29_960.0, 0.25]]


async def test_trades_come_without_the_past_unless_asked_for() -> None:
    async with venue() as serving, wire(serving) as socket:
        serving.market(SYMBOL).trade("30100")
        await socket.ask(method="subscribe", params={"channel": "trade", "symbol": [SYMBOL]}, req_id=7)
        status, confirmed = await socket.hear(2)
        assert (status["channel"], confirmed["req_id"], confirmed["success"]) == ("status", 7, True)
        serving.market(SYMBOL).trade("30200")
        (update,) = await socket.hear(1)
        assert [(each["price"], update["type"]) for each in update["data"]] == [(30_200.0, "update")]


@pytest.mark.parametrize(
    ("params", "error"),
    [
        ({"channel": "ohlc", "symbol": ["BTC/XXX"]}, "Currency pair not supported BTC/XXX"),
        ({"channel": "weather", "symbol": [SYMBOL]}, "Subscription name invalid"),
        ({"channel": "book", "symbol": [SYMBOL], "depth": 7}, "Subscription depth not supported"),
        ({"channel": "ohlc", "symbol": [SYMBOL], "interval": "1m"}, "Subscription ohlc interval not supported"),
    ],
)
async def test_a_wrong_subscription_is_refused_in_words(params: dict[str, Any], error: str) -> None:
    async with venue() as serving, wire(serving) as socket:
        await socket.ask(method="subscribe", params=params)
        _, refused = await socket.hear(2)
        assert (refused["success"], refused["error"]) == (False, error)


async def test_pings_are_answered_and_unsubscribing_ends_the_stream() -> None:
    async with venue() as serving, wire(serving) as socket:
        await socket.ask(method="ping", req_id=1)
        assert [(each.get("method"), each.get("req_id")) for each in await socket.hear(2)][1] == ("pong", 1)
        for method in ("subscribe", "unsubscribe"):
            await socket.ask(method=method, params={"channel": "trade", "symbol": [SYMBOL]})
            await socket.hear(1)
        serving.market(SYMBOL).trade("30200")
        await socket.ask(method="ping")
        assert [each["method"] for each in await socket.hear(1)] == ["pong"]


async def test_a_client_that_is_cut_off_comes_back_to_the_same_market() -> None:
    async with venue() as serving, client(serving) as exchange:
        await soon(exchange.watch_ticker(SYMBOL))
        serving.shut()
        with pytest.raises(ccxt.NetworkError):
            await soon(exchange.watch_ticker(SYMBOL))
        serving.market(SYMBOL).trade("30300")
        assert (await soon(exchange.watch_ticker(SYMBOL)))["last"] == 30_300.0


async def test_faults_meet_the_streams_by_name() -> None:
    async with venue() as serving, wire(serving) as socket:
        await socket.ask(method="subscribe", params={"channel": "trade", "symbol": [SYMBOL]})
        await socket.hear(2)
        serving.faults.add(Fault(where=f"stream trade@{SYMBOL}", what=What.SILENCE))
        serving.faults.add(Fault(where="stream trade@*", what=What.BAD_FRAME, body="{", skip=0))
        for price in ("30100", "30200", "30300"):
            serving.market(SYMBOL).trade(price)
        assert (await soon(socket._socket.receive())).data == "{"
        (update,) = await socket.hear(1)
        assert update["data"][0]["price"] == 30_300.0


# ---- the account ------------------------------------------------------------------------------------------------
async def _token(exchange: Any) -> str:
    return str((await exchange.private_post_getwebsocketstoken())["result"]["token"])


async def test_orders_trades_and_balances_reach_ccxt() -> None:
    async with venue() as serving, client(serving) as exchange:
        serving.market(SYMBOL).offer(asks=[("30000", "0.01"), ("30100", "1")])
        trades = asyncio.ensure_future(exchange.watch_my_trades())
        balances = await soon(exchange.watch_balance())
        assert (balances["BTC"]["total"], balances["USDT"]["total"]) == (0.5, 10_000.0)
        await soon(subscribed(exchange, serving.dialects[0]._user, "executions"))  # type: ignore[attr-defined]
        changed = asyncio.ensure_future(exchange.watch_balance())
        placed = await exchange.create_order(SYMBOL, "market", "buy", 0.01, None, {"clientOrderId": CLIENT_ID})
        (trade,) = await soon(trades)
        assert (trade["order"], trade["price"], trade["amount"]) == (placed["id"], 30_000.0, 0.01)
        assert trade["fee"] == {"cost": 1.2, "currency": "USDT"}  # 0.4 % of 300
        assert trade["info"]["cl_ord_id"] == CLIENT_ID
        rest = await exchange.fetch_my_trades(SYMBOL)
        assert [each["id"] for each in rest] == [trade["id"]]
        after = await soon(changed)
        assert (after["BTC"]["total"], after["USDT"]["total"]) == (0.51, 9_698.8)


async def test_executions_come_in_the_order_and_with_the_gaps_of_the_real_one() -> None:
    async with venue() as serving, client(serving) as exchange, wire(serving, "privateV2") as socket:
        serving.market(SYMBOL).offer(asks=[("30000", "0.01"), ("30100", "1")])
        await socket.ask(method="subscribe", params={"channel": "executions", "token": await _token(exchange)})
        _, confirmed, snapshot = await socket.hear(3)
        assert (confirmed["success"], snapshot["type"], snapshot["data"]) == (True, "snapshot", [])
        await exchange.create_order(SYMBOL, "market", "buy", 0.02, None, {"clientOrderId": CLIENT_ID})
        updates = await socket.hear(5)
        told = [each["data"][0] for each in updates]
        assert [(one["exec_type"], one["order_status"]) for one in told] == [
            ("pending_new", "pending_new"),
            ("new", "new"),
            ("trade", "partially_filled"),
            ("trade", "partially_filled"),  # though it fills the order
            ("filled", "filled"),
        ]
        assert [each["sequence"] for each in updates] == [2, 3, 4, 5, 6]
        assert {one["cl_ord_id"] for one in told} == {CLIENT_ID}
        assert [one.get("symbol") for one in told] == [SYMBOL, None, SYMBOL, SYMBOL, None]
        assert (told[-1]["cum_qty"], told[-1]["cum_cost"], told[-1]["avg_price"]) == (0.02, 601.0, 30_050.0)


async def test_a_cancel_says_why_and_not_what() -> None:
    async with venue() as serving, client(serving) as exchange, wire(serving, "privateV2") as socket:
        placed = await exchange.create_order(SYMBOL, "limit", "buy", 0.01, 29_000.0)
        await socket.ask(method="subscribe", params={"channel": "executions", "token": await _token(exchange)})
        snapshot = (await socket.hear(3))[-1]
        assert [(one["order_id"], one["limit_price"]) for one in snapshot["data"]] == [(placed["id"], 29_000.0)]
        await exchange.cancel_order(placed["id"], SYMBOL)
        (update,) = await socket.hear(1)
        (told,) = update["data"]
        assert (told["exec_type"], told["reason"], told["order_id"]) == ("canceled", "User requested", placed["id"])
        assert "symbol" not in told


async def test_trades_before_the_subscription_come_when_asked_for() -> None:
    async with venue() as serving, client(serving) as exchange, wire(serving, "privateV2") as socket:
        await exchange.create_order(SYMBOL, "market", "buy", 0.01)
        params = {"channel": "executions", "token": await _token(exchange), "snap_trades": True}
        await socket.ask(method="subscribe", params=params)
        snapshot = (await socket.hear(3))[-1]
        assert [one["exec_type"] for one in snapshot["data"]] == ["trade"]


async def test_nobody_hears_of_an_account_without_its_token() -> None:
    async with venue() as serving, wire(serving, "privateV2") as socket:
        for token in ("", "wrong"):
            await socket.ask(method="subscribe", params={"channel": "executions", "token": token})
        _, *refused = await socket.hear(3)
        assert {each["error"] for each in refused} == {"ESession:Invalid session"}


async def test_a_token_opens_for_fifteen_minutes_only() -> None:
    async with venue() as serving, client(serving) as exchange, wire(serving, "privateV2") as socket:
        token = await _token(exchange)
        serving.time.shift_ms = 899_000
        for _ in range(2):
            await socket.ask(method="subscribe", params={"channel": "balances", "token": token})
            await socket.hear(1)
            serving.time.shift_ms += 1_001
        *_, refused = await socket.hear(2)
        assert refused["error"] == "ESession:Invalid session"


async def test_a_revoked_key_ends_its_streams() -> None:
    async with venue() as serving, client(serving) as exchange, wire(serving, "privateV2") as socket:
        await socket.ask(method="subscribe", params={"channel": "balances", "token": await _token(exchange)})
        await socket.hear(3)
        serving.book.revoke(KEY)
        assert await socket.is_closed()


async def test_binding_and_freeing_coins_is_no_change_of_balance() -> None:
    async with venue() as serving, client(serving) as exchange, wire(serving, "privateV2") as socket:
        await socket.ask(method="subscribe", params={"channel": "balances", "token": await _token(exchange)})
        await socket.hear(3)
        placed = await exchange.create_order(SYMBOL, "limit", "buy", 0.01, 29_000.0)
        await exchange.cancel_order(placed["id"], SYMBOL)
        serving.book.transfer(KEY, "BTC", serving.book.accounts[KEY].holding("BTC").free)
        (update,) = await socket.hear(1)
        assert [(one["asset"], one["amount"], one["balance"]) for one in update["data"]] == [("BTC", 0.5, 1.0)]
