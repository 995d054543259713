"""What every venue promises, kept by the adapter over ccxt's own `kraken`, unmodified, against the test venue."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from decimal import Decimal

import pytest

from daemon.clock import SystemClock
from daemon.testvenue.filters import Rules
from daemon.testvenue.market import Market
from daemon.testvenue.server import TestVenue
from daemon.venue import RefusalKind
from tests.contracts.venue import Stand, VenueContract
from tests.daemon.ccxt_venues import KEY, SECRET, SYMBOL, fault, opened


@dataclass(frozen=True, slots=True)
class Script:
    """The exchange's side: `tests.contracts.venue.Market` by the test venue's script."""

    server: TestVenue

    async def move(self, bid: float, ask: float) -> None:
        market = self.server.market(SYMBOL)
        market.trade(str(bid))
        market.offer(bids=[(str(bid), "1000")], asks=[(str(ask), "1000")])

    async def lose_reply(self) -> None:
        fault(self.server, "POST AddOrder", "drop_reply")

    async def lose_request(self) -> None:
        fault(self.server, "POST AddOrder", "drop_request")


class TestKrakenKeepsTheContract(VenueContract):
    @pytest.fixture
    async def stand(self) -> AsyncIterator[Stand]:
        rules = Rules(lot=Decimal("0.001"), min_quantity=Decimal("0.001"))
        market = Market(base="BTC", quote="USDT", last=Decimal(100), rules=rules)
        async with TestVenue([market], clock=SystemClock(), dialect="kraken") as server:
            server.add_account(KEY, SECRET, {"USDT": 10_000})
            async with opened(server, exchange_id="kraken") as venue:

                async def taken() -> int:
                    return len(server.book.orders)

                async def wait() -> None:
                    await asyncio.sleep(1.0)  # real sockets

                yield Stand(venue=venue, market=Script(server), taken=taken, wait=wait)

    @pytest.mark.parametrize(
        ("changes", "kind"), [({"quantity": 200.0}, RefusalKind.FUNDS), ({"quantity": 0.01}, RefusalKind.FILTER)]
    )
    async def test_a_refusal_says_why_and_leaves_nothing(
        self, stand: Stand, changes: dict[str, object], kind: RefusalKind
    ) -> None:
        # Without the post-only order: Kraken takes one that would trade, and cancels it (see test_venue_kraken.py).
        await super().test_a_refusal_says_why_and_leaves_nothing(stand, changes, kind)
