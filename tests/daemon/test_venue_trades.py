"""Pages of trades, put together from venues that page as Binance, Kraken and others do; all of them once, in order."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.errors import TransientError
from daemon.venue import VenueTrade
from daemon.venue_dialects import Paging
from daemon.venue_trades import Page, pages_of_trades
from strategy.order import Side

DAY = 86_400_000
NOW = 100 * DAY
FULL = 5


def trades_at(times: Sequence[int]) -> list[VenueTrade]:
    return [
        VenueTrade(
            trade_id=str(number + 7), venue_id="1", client_id="", symbol="BTC/USDT", side=Side.BUY, quantity=1.0,
            price=1.0, fee_cost=0.0, fee_coin="USDT", at_ms=at_ms,
        )
        for number, at_ms in enumerate(sorted(times))
    ]  # fmt: skip


def binance(history: Sequence[VenueTrade]) -> Page:
    """A start time reaches a day far, an id any distance; oldest first."""

    async def page(since_ms: int | None, params: Mapping[str, Any]) -> Sequence[VenueTrade]:
        assert (since_ms is None) == ("fromId" in params), "Binance refuses fromId beside a time"
        if since_ms is None:
            return [trade for trade in history if int(trade.trade_id) >= params["fromId"]][:FULL]
        until = params.get("until", since_ms + DAY)
        assert until - since_ms <= DAY, "Binance refuses more than 24 hours"
        return [trade for trade in history if since_ms <= trade.at_ms <= until][:FULL]

    return page


def kraken(history: Sequence[VenueTrade]) -> Page:
    """Newest first, `ofs` of them skipped."""

    async def page(since_ms: int | None, params: Mapping[str, Any]) -> Sequence[VenueTrade]:
        wanted = [trade for trade in reversed(history) if trade.at_ms >= (since_ms or 0)]
        return wanted[params.get("ofs", 0) :][:FULL]

    return page


def oldest_first(history: Sequence[VenueTrade]) -> Page:
    async def page(since_ms: int | None, params: Mapping[str, Any]) -> Sequence[VenueTrade]:
        return [t for t in history if (since_ms or 0) <= t.at_ms <= params.get("until", math.inf)][:FULL]

    return page


def newest_first(history: Sequence[VenueTrade]) -> Page:
    async def page(since_ms: int | None, params: Mapping[str, Any]) -> Sequence[VenueTrade]:
        return [t for t in history if (since_ms or 0) <= t.at_ms <= params.get("until", math.inf)][-FULL:]

    return page


VENUES = {
    "binance": (binance, Paging.IDS),
    "kraken": (kraken, Paging.OFFSETS),
    "oldest": (oldest_first, Paging.TIMES),
    "newest": (newest_first, Paging.TIMES),
}


@pytest.mark.parametrize("venue", VENUES)
@given(
    times=st.lists(st.integers(90 * DAY, NOW), max_size=40, unique=True),
    since=st.integers(90 * DAY, NOW),
)
async def test_no_trade_is_left_out_or_given_twice(venue: str, times: list[int], since: int) -> None:
    history = trades_at(times)
    speaks, paging = VENUES[venue]
    found = await pages_of_trades(speaks(history), paging, since_ms=since, now_ms=NOW, full=FULL)
    assert found == [trade for trade in history if trade.at_ms >= since]


@pytest.mark.parametrize("venue", VENUES)
@pytest.mark.parametrize("count", [0, 1, 23])
async def test_all_that_ever_was_can_be_asked_for(venue: str, count: int) -> None:
    history = trades_at([NOW - DAY * number for number in range(count)])
    speaks, paging = VENUES[venue]
    assert await pages_of_trades(speaks(history), paging, since_ms=0, now_ms=NOW, full=FULL) == history


@pytest.mark.parametrize("venue", ["binance", "kraken"])
async def test_any_number_of_trades_may_share_a_millisecond(venue: str) -> None:
    history = trades_at([NOW - 10] * 23)
    speaks, paging = VENUES[venue]
    found = await pages_of_trades(speaks(history), paging, since_ms=NOW - DAY, now_ms=NOW, full=FULL)
    assert found == history


async def test_a_venue_that_never_ends_is_left() -> None:
    async def endless(_since_ms: int | None, params: Mapping[str, Any]) -> Sequence[VenueTrade]:
        return [
            VenueTrade(
                trade_id=str(number), venue_id="1", client_id="", symbol="BTC/USDT", side=Side.BUY, quantity=1.0,
                price=1.0, fee_cost=0.0, fee_coin="USDT", at_ms=NOW,
            )
            for number in range(params.get("fromId", 1), params.get("fromId", 1) + FULL)
        ]  # fmt: skip

    with pytest.raises(TransientError, match="without an end"):
        await pages_of_trades(endless, Paging.IDS, since_ms=NOW - 1, now_ms=NOW, full=FULL)
