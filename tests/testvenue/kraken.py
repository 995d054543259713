"""A Kraken-speaking venue and unmodified ccxt clients of it, for the tests."""

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import ccxt.pro

from daemon.clock import SystemClock
from daemon.testvenue.accounts import KeyRights
from daemon.testvenue.filters import Rules
from daemon.testvenue.market import Market
from daemon.testvenue.server import TestVenue

KEY = "kraken-test-key"
SECRET = base64.b64encode(bytes(range(64))).decode()
SYMBOL = "BTC/USDT"
RULES = Rules(
    tick=Decimal("0.1"), lot=Decimal("0.00000001"), min_quantity=Decimal("0.0001"), min_value=Decimal(5),
    min_price=Decimal("0.1"),
)  # fmt: skip


def market(**values: Any) -> Market:
    return Market(**{"base": "BTC", "quote": "USDT", "last": Decimal(30_000), "rules": RULES, **values})


@asynccontextmanager
async def venue(*markets: Market, rights: KeyRights | None = None, **balances: str) -> AsyncIterator[TestVenue]:
    """A venue with one account that pays 0.25 % as maker and 0.4 % as taker, Kraken's first tier."""
    clock = SystemClock()
    async with TestVenue(markets or [market()], clock=clock, dialect="kraken") as serving:
        held = balances or {"USDT": "10000", "BTC": "0.5"}
        serving.add_account(KEY, SECRET, held, maker="0.0025", taker="0.004", rights=rights)
        yield serving


@asynccontextmanager
async def client(serving: TestVenue, **options: Any) -> AsyncIterator[Any]:
    """ccxt.pro's kraken, as it comes, with its markets; without its own pauses, which would only slow the tests."""
    exchange = ccxt.pro.kraken({**serving.ccxt_options(account=KEY), "enableRateLimit": False, **options})
    try:
        await exchange.load_markets()
        yield exchange
    finally:
        await exchange.close()
