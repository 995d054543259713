"""All of an account's trades since a time, put together from a venue's pages: none left out, none twice, oldest first.

Knows how venues page, and nothing of ccxt or of what a page costs.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from daemon.errors import TransientError
from daemon.venue import VenueTrade
from daemon.venue_dialects import Paging

Page = Callable[[int | None, Mapping[str, Any]], Awaitable[Sequence[VenueTrade]]]
"""Asks for one page: from a time on (None: whatever the parameters say), with ccxt parameters."""

_DAY_MS = 86_400_000
_MOST_DAYS = 30  # to search day by day; beyond, all that ever was is fewer pages
_MOST_PAGES = 2_000


async def pages_of_trades(page: Page, paging: Paging, *, since_ms: int, now_ms: int, full: int) -> list[VenueTrade]:
    """Return every trade from `since_ms` on, oldest first. full: trades on a page that may have a successor.

    Raises TransientError when the pages do not end.
    """
    gather = {Paging.IDS: _by_ids, Paging.OFFSETS: _by_offsets, Paging.TIMES: _by_times}[paging]
    found = await gather(_Count(page), since_ms, now_ms, full)
    return sorted(
        (trade for trade in found.values() if trade.at_ms >= since_ms), key=lambda trade: (trade.at_ms, _order(trade))
    )


def _order(trade: VenueTrade) -> tuple[int, str]:
    """Return a key by which numbered trades are in the order of their numbers."""
    return (int(trade.trade_id) if trade.trade_id.isdecimal() else 0, trade.trade_id)


class _Count:
    """A page function that ends an endless walk."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._asked = 0

    async def __call__(self, since_ms: int | None, params: Mapping[str, Any]) -> dict[str, VenueTrade]:
        self._asked += 1
        if self._asked > _MOST_PAGES:
            raise TransientError(f"the venue gave {_MOST_PAGES} pages of trades without an end")
        return {trade.trade_id: trade for trade in await self._page(since_ms, params)}


async def _by_ids(page: _Count, since_ms: int, now_ms: int, full: int) -> dict[str, VenueTrade]:
    # Binance looks no further than a day beyond a start time, but any distance from an id.
    if now_ms - since_ms > _MOST_DAYS * _DAY_MS:
        return await _from_id(page, await page(None, {"fromId": 0}), full)
    found: dict[str, VenueTrade] = {}
    start_ms = since_ms
    while not found:
        is_last = start_ms + _DAY_MS > now_ms
        found |= await page(start_ms, {} if is_last else {"until": start_ms + _DAY_MS - 1})
        if is_last and len(found) < full:
            return found
        start_ms += _DAY_MS
    return await _from_id(page, found, full)


async def _from_id(page: _Count, found: dict[str, VenueTrade], full: int) -> dict[str, VenueTrade]:
    while found:
        more = await page(None, {"fromId": 1 + max(int(trade_id) for trade_id in found)})
        found |= more
        if len(more) < full:
            break
    return found


async def _by_offsets(page: _Count, since_ms: int, _now_ms: int, _full: int) -> dict[str, VenueTrade]:
    # Trades that happen meanwhile push others onto a later page, which then repeats them: ids take care of that.
    found: dict[str, VenueTrade] = {}
    while True:
        more = await page(since_ms, {"ofs": len(found)} if found else {})
        if not more.keys() - found.keys():
            return found
        found |= more


async def _by_times(page: _Count, since_ms: int, _now_ms: int, _full: int) -> dict[str, VenueTrade]:
    # Whether a page holds the oldest or the newest of its span is not known: walk on in both directions.
    found = await page(since_ms, {})
    for params in (_before, _after):
        while found:
            start_ms, more_params = params(found, since_ms)
            more = await page(start_ms, more_params)
            if not more.keys() - found.keys():
                break
            found |= more
    return found


def _before(found: Mapping[str, VenueTrade], since_ms: int) -> tuple[int, dict[str, Any]]:
    return since_ms, {"until": min(trade.at_ms for trade in found.values())}


def _after(found: Mapping[str, VenueTrade], _since_ms: int) -> tuple[int, dict[str, Any]]:
    return max(trade.at_ms for trade in found.values()), {}
