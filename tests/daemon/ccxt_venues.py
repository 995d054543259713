"""A `CcxtVenue` and the test venue it trades against, for the tests of the adapter."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from decimal import Decimal
from typing import Any

from daemon.clock import SystemClock
from daemon.rate_budget import Purpose, RateBudget
from daemon.testvenue.faults import Fault
from daemon.testvenue.market import Market
from daemon.testvenue.server import TestVenue
from daemon.venue import Request, RequestKind, VenueEvent
from daemon.venue_ccxt import CcxtVenue
from strategy.order import Side, client_order_id

KEY, SECRET = "canarykeyf3b1c2a8", "canarysecret9e77aa41"
SYMBOL = "BTC/USDT"
SPEED = 20.0


class FastClock:
    """The wall clock as it is; pauses pass 20 times as fast, because sockets need real time."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        return time.monotonic() * SPEED

    async def sleep_s(self, seconds: float) -> None:
        await asyncio.sleep(seconds / SPEED)


class WatchedBudget(RateBudget):
    """A budget that keeps what it was asked for."""

    def __init__(self) -> None:
        super().__init__(FastClock())
        self.purposes: list[Purpose] = []
        self.pauses: list[float] = []

    @contextmanager
    def purpose(self, purpose: Purpose) -> Iterator[None]:
        self.purposes.append(purpose)
        with super().purpose(purpose):
            yield

    def quiet(self, seconds: float) -> None:
        self.pauses.append(seconds)


def order_id(sequence: int, instance: str = "desk") -> str:
    return client_order_id(instance, SYMBOL, 1_600_000_020_000, sequence)


def request(sequence: int = 0, **changes: Any) -> Request:
    values: dict[str, Any] = {
        "client_id": order_id(sequence), "symbol": SYMBOL, "side": Side.BUY, "quantity": 0.01,
        "kind": RequestKind.LIMIT_IOC, "limit_price": 50_100.0, **changes,
    }  # fmt: skip
    return Request(**values)


def stop(sequence: int = 0, **changes: Any) -> Request:
    values = {"side": Side.SELL, "kind": RequestKind.STOP, "limit_price": None, "stop_price": 45_000.0, **changes}
    return request(sequence, **values)


def resting(sequence: int = 0, **changes: Any) -> Request:
    return request(sequence, **{"kind": RequestKind.POST_ONLY, "limit_price": 40_000.0, **changes})


@asynccontextmanager
async def venue_server(*symbols: str, **settings: Any) -> AsyncIterator[TestVenue]:
    """The test venue with one account that holds 10,000 USDT, 1 BTC and 1 BNB; BTC trades at 50,000."""
    markets = [
        Market(base=symbol.split("/")[0], quote=symbol.split("/")[1], last=Decimal(50_000))
        for symbol in symbols or (SYMBOL, "ETH/USDT")
    ]
    async with TestVenue(markets, clock=SystemClock(), **settings) as venue:
        venue.add_account(KEY, SECRET, {"USDT": 10_000, "BTC": 1, "BNB": 1}, name="main")
        yield venue


def adapter(options: dict[str, Any], **settings: Any) -> CcxtVenue:
    values: dict[str, Any] = {
        "exchange_id": "binance", "symbols": (SYMBOL,), "credentials": {"apiKey": KEY, "secret": SECRET},
        "instance": "desk", "clock": FastClock(), "budget": WatchedBudget(), "generator": random.Random(1), **settings,
    }  # fmt: skip
    return CcxtVenue(ccxt_options=options, **values)


@asynccontextmanager
async def opened(server: TestVenue, *, quick_s: float = 2.0, **settings: Any) -> AsyncIterator[CcxtVenue]:
    """An adapter that is connected; answers that take longer than `quick_s` count as lost."""
    options = {**server.ccxt_options(), "timeout": round(quick_s * 1_000), "streaming": {"keepAlive": 200}}
    venue = adapter({**options, **settings.pop("options", {})}, **settings)
    try:
        await venue.open()
        yield venue
    finally:
        await venue.close()


def fault(server: TestVenue, where: str, what: str, **values: Any) -> int:
    return server.faults.add(Fault.from_json({"where": where, "what": what, **values}))


def asked(server: TestVenue, method: str, path: str) -> list[dict[str, Any]]:
    """Return the parameters of the requests that reached the venue, oldest first."""
    records = server.audit.records
    return [
        record["params"]
        for record in records
        if record["kind"] == "request" and record["method"] == method and record["path"].endswith(path)
    ]


class Listener:
    """Reads a venue's events in the background and lets a test wait for what it has heard."""

    def __init__(self, venue: CcxtVenue) -> None:
        self.heard: list[VenueEvent] = []
        self._task = asyncio.ensure_future(self._read(venue))
        self._news = asyncio.Event()

    async def _read(self, venue: CcxtVenue) -> None:
        async for event in venue.events():
            self.heard.append(event)
            self._news.set()

    async def until(self, is_there: Callable[[list[VenueEvent]], bool], *, within_s: float = 10.0) -> list[VenueEvent]:
        async with asyncio.timeout(within_s):
            while not is_there(self.heard):
                self._news.clear()
                await self._news.wait()
        return self.heard

    async def ended(self) -> None:
        async with asyncio.timeout(5.0):
            await asyncio.wait([self._task])
        self._task.result()

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
