"""An unmodified ccxt.pro listens: public streams, user data, and what faults do to them."""

import asyncio
import hashlib
import hmac
import itertools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import aiohttp
import ccxt
import pytest

from daemon.testvenue.binance import BinanceDialect
from daemon.testvenue.faults import Fault, What
from daemon.testvenue.server import TestVenue
from strategy.order import Side
from tests.testvenue.venues import KEY, SECRET, SYMBOL, served, trading, until


def binance(venue: TestVenue) -> BinanceDialect:
    dialect = venue.dialects[0]
    assert isinstance(dialect, BinanceDialect)
    return dialect


@asynccontextmanager
async def listening(venue: TestVenue, name: str, watch: Callable[[], Any]) -> AsyncIterator[list[Any]]:
    """What a `watch_*` call returns, one after the other, once the venue has its subscription."""
    seen: list[Any] = []

    async def read() -> None:
        while True:
            seen.append(await watch())

    task = asyncio.create_task(read())
    try:
        await until(lambda: bool(binance(venue).streams.listeners(name)))
        yield seen
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def own_orders(venue: TestVenue, exchange: Any) -> AsyncIterator[list[tuple[Any, ...]]]:
    """(client id, status, filled) of every order update, in the order in which they came."""
    seen: list[tuple[Any, ...]] = []

    async def read() -> None:
        while True:
            orders = await exchange.watch_orders()
            seen.extend((one["clientOrderId"], one["status"], one["filled"]) for one in orders)

    task = asyncio.create_task(read())
    try:
        await until(lambda: binance(venue).users.is_heard(KEY))
        yield seen
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_trades_and_candles_arrive_as_they_happen() -> None:
    async with served() as venue, trading(venue) as exchange:
        async with listening(venue, "btcusdt@trade", lambda: exchange.watch_trades(SYMBOL)) as trades:
            venue.market(SYMBOL).trade(101, 2)
            await until(lambda: bool(trades))
            assert [(one["price"], one["amount"], one["side"]) for one in trades[0]] == [(101.0, 2.0, "buy")]
        async with listening(venue, "btcusdt@kline_1m", lambda: exchange.watch_ohlcv(SYMBOL, "1m")) as candles:
            venue.market(SYMBOL).trade(102, 3)
            await until(lambda: bool(candles))
            assert candles[-1][-1][4] == 102.0


async def test_quotes_and_tickers_follow_the_price() -> None:
    async with served() as venue, trading(venue) as exchange:
        async with listening(venue, "btcusdt@bookTicker", lambda: exchange.watch_bids_asks([SYMBOL])) as quotes:
            venue.market(SYMBOL).trade(110)
            await until(lambda: bool(quotes))
            assert (quotes[-1][SYMBOL]["bid"], quotes[-1][SYMBOL]["ask"]) == (109.98, 110.02)
        watch = partial(exchange.watch_ticker, SYMBOL, {"name": "ticker"})
        async with listening(venue, "btcusdt@ticker", watch) as tickers:
            venue.market(SYMBOL).trade(111)
            await until(lambda: bool(tickers))
            assert (tickers[-1]["last"], tickers[-1]["bid"], tickers[-1]["high"]) == (111.0, 110.98, 111.0)


async def test_ccxts_order_book_stays_the_venues() -> None:
    async with served() as venue, trading(venue) as exchange:
        watch = partial(exchange.watch_order_book, SYMBOL)
        async with listening(venue, "btcusdt@depth@100ms", watch) as seen:
            for price in itertools.cycle((111, 112)):
                if seen:
                    break
                venue.market(SYMBOL).trade(price)
                await asyncio.sleep(0.02)  # ccxt takes a snapshot over REST meanwhile
            for command in ({"side": "buy", "quantity": "3"}, {"side": "buy", "type": "limit", "price": "99",
                                                              "quantity": "1", "client_id": "own"}):  # fmt: skip
                venue.control({"do": "order", "account": "main", "symbol": SYMBOL, **command})
            venue.market(SYMBOL).trade(120)
            expected = {
                "bids": [[float(part) for part in level] for level in venue.market(SYMBOL).state.depth(Side.BUY, 100)],
                "asks": [[float(part) for part in level] for level in venue.market(SYMBOL).state.depth(Side.SELL, 100)],
            }
            await until(lambda: [list(level) for level in seen[-1]["asks"]] == expected["asks"])
            assert [list(level) for level in seen[-1]["bids"]] == expected["bids"]
            assert [99.0, 1.0] in expected["bids"]


async def test_a_closed_candle_is_told_as_closed_before_the_next_begins() -> None:
    async with served() as venue, aiohttp.ClientSession() as session:
        minute = venue.time.now_ms() // 60_000 * 60_000
        venue.time.pinned_ms = minute
        async with session.ws_connect(f"ws://127.0.0.1:{venue.port}/ws/btcusdt@kline_1m") as socket:
            await until(lambda: bool(binance(venue).streams.listeners("btcusdt@kline_1m")))
            venue.market(SYMBOL).trade(101, 2)
            venue.time.pinned_ms = minute + 60_000
            venue.market(SYMBOL).trade(102, 3)
            klines = [json.loads((await socket.receive()).data)["k"] for _ in range(4)]
        shown = [((one["t"] - minute) // 60_000, one["x"], one["o"], one["c"], one["v"]) for one in klines]
        assert shown == [
            (0, False, "101.00000000", "101.00000000", "2.00000000"),
            (0, True, "101.00000000", "101.00000000", "2.00000000"),
            (1, False, "101.00000000", "101.00000000", "0.00000000"),
            (1, False, "102.00000000", "102.00000000", "3.00000000"),
        ]


@asynccontextmanager
async def user_data(venue: TestVenue) -> AsyncIterator[Callable[[int], Any]]:
    """The account's stream without ccxt, which folds several updates of an order into one."""
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"ws://127.0.0.1:{venue.port}/ws-api/v3") as socket,
    ):
        params: dict[str, Any] = {"apiKey": KEY, "recvWindow": 5_000, "timestamp": venue.time.now_ms()}
        text = "&".join(f"{name}={params[name]}" for name in sorted(params))
        params["signature"] = hmac.new(SECRET.encode(), text.encode(), hashlib.sha256).hexdigest()
        await socket.send_json({"id": 1, "method": "userDataStream.subscribe.signature", "params": params})
        assert json.loads((await socket.receive()).data)["result"] == {"subscriptionId": 0}

        async def read(count: int) -> list[Any]:
            async with asyncio.timeout(10):
                return [json.loads((await socket.receive()).data)["event"] for _ in range(count)]

        yield read


def place(venue: TestVenue, *client_ids: str) -> None:
    for client_id in client_ids:
        order = {"side": "buy", "type": "limit", "quantity": "1", "price": "95", "client_id": client_id}
        venue.control({"do": "order", "account": "main", "symbol": SYMBOL, **order})


async def test_an_order_is_told_as_new_then_trade_by_trade_and_balances_come_last() -> None:
    async with served() as venue, user_data(venue) as read:
        order = {"account": "main", "symbol": SYMBOL, "side": "buy", "quantity": "15", "client_id": "one"}
        venue.control({"do": "order", **order})
        *reports, position = await read(4)
        names = ("c", "x", "X", "l", "z", "L", "n", "N", "t")
        assert [tuple(report[name] for name in names) for report in reports] == [
            ("one", "NEW", "NEW", "0.00000000", "0.00000000", "0.00000000", "0", None, -1),
            ("one", "TRADE", "PARTIALLY_FILLED", "10.00000000", "10.00000000", "100.01000000", "0.01000000", "BTC", 1),
            ("one", "TRADE", "FILLED", "5.00000000", "15.00000000", "100.02000000", "0.00500000", "BTC", 2),
        ]
        assert position["B"] == [
            {"a": "BTC", "f": "14.98500000", "l": "0.00000000"},
            {"a": "USDT", "f": "8499.80000000", "l": "0.00000000"},
        ]


async def test_a_cancel_names_its_own_id_and_the_orders() -> None:
    async with served() as venue, user_data(venue) as read, trading(venue) as exchange:
        place(venue, "rests")
        await exchange.cancel_order(None, SYMBOL, {"clientOrderId": "rests", "newClientOrderId": "request"})
        events = await read(4)
        assert [(one["c"], one["C"], one["x"]) for one in events if one["e"] == "executionReport"] == [
            ("rests", "", "NEW"),
            ("request", "rests", "CANCELED"),
        ]


async def test_a_deposit_is_told_with_its_amount() -> None:
    async with served() as venue, user_data(venue) as read:
        venue.control({"do": "transfer", "account": "main", "asset": "BTC", "delta": "-0"})
        venue.control({"do": "transfer", "account": "main", "asset": "BTC", "delta": "2"})
        moved = [one["d"] for one in await read(4) if one["e"] == "balanceUpdate"]
        assert moved[-1] == "2.00000000"


async def test_a_cancel_is_told_under_the_orders_own_id() -> None:
    async with served() as venue, trading(venue) as exchange, own_orders(venue, exchange) as seen:
        await exchange.create_order(SYMBOL, "limit", "buy", 1, 95, {"clientOrderId": "rests"})
        await exchange.cancel_order(None, SYMBOL, {"clientOrderId": "rests"})
        await until(lambda: len(seen) == 2)
        assert seen[-1] == ("rests", "canceled", 0.0)


async def test_trades_and_balances_of_the_account_are_told() -> None:
    async with served() as venue, trading(venue) as exchange:
        trades = asyncio.create_task(exchange.watch_my_trades())
        await until(lambda: binance(venue).users.is_heard(KEY))
        await exchange.create_order(SYMBOL, "market", "buy", 1)
        told = (await asyncio.wait_for(trades, 10))[0]
        assert (told["price"], told["amount"], told["fee"]) == (100.01, 1.0, {"cost": 0.001, "currency": "BTC"})
        balance = asyncio.create_task(exchange.watch_balance())
        await asyncio.sleep(0.05)
        venue.book.transfer(KEY, "USDT", venue.book.accounts[KEY].holding("USDT").free)
        changed = await asyncio.wait_for(balance, 10)
        assert changed["USDT"]["free"] > 19_000


async def test_a_subscription_with_a_wrong_signature_is_refused() -> None:
    async with served() as venue, aiohttp.ClientSession() as session:
        async with session.ws_connect(f"ws://127.0.0.1:{venue.port}/ws-api/v3") as socket:
            params = {"apiKey": KEY, "timestamp": venue.time.now_ms(), "signature": "00"}
            await socket.send_json({"id": "7", "method": "userDataStream.subscribe.signature", "params": params})
            answer = json.loads((await socket.receive()).data)
        assert (answer["id"], answer["status"], answer["error"]["code"]) == ("7", 400, -1022)


async def test_a_revoked_key_ends_its_stream() -> None:
    async with served() as venue, trading(venue) as exchange, own_orders(venue, exchange):
        venue.control({"do": "rights", "account": "main", "is_revoked": True})
        await until(lambda: not binance(venue).users.is_heard(KEY))


# ---- faults on messages ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ({"what": What.DUPLICATE}, ["a", "a", "b"]),
        ({"what": What.REORDER}, ["b", "a"]),
        ({"what": What.SILENCE}, ["b"]),
        ({"what": What.SILENCE, "having": {"client_id": "b"}}, ["a"]),
        ({"what": What.DELAY, "delay_s": 0.2}, ["a", "b"]),
    ],
    ids=lambda value: str(value.get("what")) if isinstance(value, dict) else "",
)
async def test_order_updates_are_repeated_swapped_withheld_or_late(fault: dict[str, Any], expected: list[str]) -> None:
    async with served() as venue, user_data(venue) as read:
        venue.faults.add(Fault(where="user executionReport", **fault))
        place(venue, "a", "b")
        events = await read(len(expected) + 2)
        assert [one["c"] for one in events if one["e"] == "executionReport"] == expected


async def test_a_cut_user_stream_is_an_error_to_who_waits_and_comes_back() -> None:
    async with served() as venue, trading(venue) as exchange:
        waiting = asyncio.create_task(exchange.watch_orders())
        await until(lambda: binance(venue).users.is_heard(KEY))
        venue.faults.add(Fault(where="user", what=What.CUT))
        place(venue, "a")
        with pytest.raises(ccxt.NetworkError):
            await asyncio.wait_for(waiting, 10)
        async with own_orders(venue, exchange) as seen:
            place(venue, "b")
            await until(lambda: bool(seen))
            assert [client_id for client_id, _, _ in seen] == ["b"]


async def test_a_venue_that_goes_down_says_so_and_closes() -> None:
    async with served() as venue, aiohttp.ClientSession() as session:
        async with session.ws_connect(f"ws://127.0.0.1:{venue.port}/ws/btcusdt@trade") as socket:
            await until(lambda: bool(binance(venue).streams.listeners("btcusdt@trade")))
            venue.faults.add(Fault(where="stream", what=What.SHUTDOWN))
            venue.market(SYMBOL).trade(101)
            messages = [await socket.receive() for _ in range(3)]
        assert [json.loads(message.data)["e"] for message in messages[:2]] == ["trade", "serverShutdown"]
        assert messages[2].type is aiohttp.WSMsgType.CLOSE


async def test_one_symbol_can_fall_silent_and_a_frame_can_be_broken() -> None:
    async with served() as venue, aiohttp.ClientSession() as session:
        async with session.ws_connect(f"ws://127.0.0.1:{venue.port}/ws/btcusdt@trade") as socket:
            await until(lambda: bool(binance(venue).streams.listeners("btcusdt@trade")))
            venue.faults.add(Fault(where="stream btcusdt@*", what=What.SILENCE, times=2))
            venue.faults.add(Fault(where="stream btcusdt@trade", what=What.BAD_FRAME, body="{not json"))
            for price in (101, 102, 103, 104):
                venue.market(SYMBOL).trade(price)
            texts = [(await socket.receive()).data for _ in range(2)]
        assert texts[0] == "{not json"
        assert json.loads(texts[1])["p"] == "104.00000000"
