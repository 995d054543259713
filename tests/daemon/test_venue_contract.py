"""The venue contract over `CcxtVenue`: ccxt unmodified, real sockets, the test venue on the other side."""

import asyncio
import random
from collections.abc import AsyncIterator
from decimal import Decimal

import pytest

from daemon.clock import SystemClock
from daemon.rate_budget import RateBudget
from daemon.testvenue.audit_checks import orders_by_client_id
from daemon.testvenue.filters import Rules
from daemon.testvenue.market import Market
from daemon.testvenue.server import TestVenue
from daemon.venue_ccxt import CcxtVenue
from tests.contracts.venue import Stand, VenueContract
from tests.daemon.ccxt_venues import KEY, SECRET, FastClock, fault
from tests.fakes.trading import BTC


class Exchange:
    """The other side of the test venue."""

    def __init__(self, server: TestVenue) -> None:
        self._server = server

    async def move(self, bid: float, ask: float) -> None:
        market = self._server.market(BTC)
        market.trade(Decimal(str(bid)))
        market.offer(bids=[(bid, 1_000)], asks=[(ask, 1_000)])

    async def lose_reply(self) -> None:
        fault(self._server, "POST order", "drop_reply")

    async def lose_request(self) -> None:
        fault(self._server, "POST order", "drop_request")


class TestOverBinance(VenueContract):
    @pytest.fixture
    async def stand(self) -> AsyncIterator[Stand]:
        rules = Rules(lot=Decimal("0.001"), min_quantity=Decimal("0.001"))
        market = Market(base="BTC", quote="USDT", last=Decimal(100), rules=rules)
        async with TestVenue([market], clock=SystemClock()) as server:
            server.add_account(KEY, SECRET, {"USDT": 10_000})
            venue = CcxtVenue(
                exchange_id="binance",
                ccxt_options=server.ccxt_options(),
                symbols=(BTC,),
                credentials={"apiKey": KEY, "secret": SECRET},
                instance="desk",
                clock=FastClock(),
                budget=RateBudget(FastClock()),
                generator=random.Random(1),
            )
            await venue.open()

            async def taken() -> int:
                return sum(len(orders) for orders in orders_by_client_id(server.audit.records).values())

            async def wait() -> None:
                await asyncio.sleep(0.4)

            yield Stand(venue=venue, market=Exchange(server), taken=taken, wait=wait)
            await venue.close()
