"""Small venues for these tests: one market at 100 with a book that can be counted by hand."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

from daemon.clock import SystemClock
from daemon.testvenue.accounts import Account, FeeMode
from daemon.testvenue.book import Book
from daemon.testvenue.events import Event
from daemon.testvenue.filters import Rules
from daemon.testvenue.market import Liquidity, Market
from daemon.testvenue.orders import BookOrder, NewOrder, OrderType
from daemon.testvenue.server import TestVenue
from strategy.order import Side

SYMBOL = "BTC/USDT"
START_MS = 1_700_000_000_000
D = Decimal


class Hands:
    """A book with a time that stands until it is moved, and everything it tells."""

    def __init__(self, *markets: Market, **rules: Any) -> None:
        self.now_ms = START_MS
        self.events: list[Event] = []
        self.book = Book(markets or (market(**rules),), now_ms=lambda: self.now_ms)
        self.book.listen(self.events.append)

    def account(self, key: str = "A", fee_mode: FeeMode = FeeMode.RECEIVED, **balances: int | str) -> Account:
        account = Account(key=key, secret=SECRET, name=key, fee_mode=fee_mode)
        return self.book.open_account(account, {asset: D(amount) for asset, amount in balances.items()})

    def place(self, side: str, type_: OrderType, quantity: Any = 0, *, key: str = "A", **values: Any) -> BookOrder:
        numbers = {name: D(str(values[name])) for name in ("price", "stop_price", "quote_quantity") if name in values}
        rest = {name: value for name, value in values.items() if name not in numbers}
        new = NewOrder(
            symbol=SYMBOL, side=Side(side), type=type_, quantity=D(str(quantity)), **numbers, **rest
        )  # fmt: skip
        return self.book.place(key, new)

    def held(self, key: str = "A") -> Mapping[str, tuple[Decimal, Decimal]]:
        return {asset: (one.free, one.locked) for asset, one in self.book.accounts[key].holdings.items()}


def market(**rules: Any) -> Market:
    """At 100: bids 99.99, 99.98, asks 100.01, 100.02, ten of each."""
    thin = Liquidity(spread=D("0.0002"), levels=2, step=D("0.0001"), value=D(1_010))
    made = Market(base="BTC", quote="USDT", last=D(100), rules=Rules(**rules), liquidity=thin)
    made.offer(Side.BUY, [(D("99.99"), D(10)), (D("99.98"), D(10))])
    made.offer(Side.SELL, [(D("100.01"), D(10)), (D("100.02"), D(10))])
    return made


KEY, SECRET = "K" * 16, "S" * 16


def served(*markets: Market, **settings: Any) -> TestVenue:
    """A venue to be started, in the present, with an account KEY of 10,000 USDT."""
    venue = TestVenue(markets or (market(),), clock=SystemClock(), **settings)
    venue.add_account(KEY, SECRET, {"USDT": 10_000}, name="main")
    return venue


@asynccontextmanager
async def trading(venue: TestVenue, **settings: Any) -> AsyncIterator[Any]:
    """An unmodified ccxt.pro binance that trades at `venue` with KEY, and has loaded its markets."""
    import ccxt.pro  # noqa: PLC0415  # costs two seconds

    options = venue.ccxt_options(account=KEY)
    options["options"]["warnOnFetchOpenOrdersWithoutSymbol"] = False
    options["options"]["fetchOpenOrders"] = {"warnWithoutSymbol": False}
    exchange = ccxt.pro.binance({**options, "enableRateLimit": False, **settings})
    try:
        await exchange.load_markets()
        yield exchange
    finally:
        await exchange.close()


async def until(holds: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Wait for what a socket brings about."""
    async with asyncio.timeout(timeout_s):
        while not holds():  # noqa: ASYNC110  # the other side has no event to wait for
            await asyncio.sleep(0.005)
