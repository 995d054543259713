"""What lies between a live venue and whoever reads the feed: events in order, and the health of the feed.

A slow reader costs trades between candles (the newest per symbol stays), never a candle.
"""

import asyncio
from collections import deque
from dataclasses import dataclass, field

from daemon.ports import FeedEvent, FeedHealth, FeedStatus, MarketTrade

_FULL = 2_048  # events waiting, from which on history is no longer fetched


class FeedQueue:
    """Events on their way to one reader."""

    def __init__(self) -> None:
        self._events: deque[list[FeedEvent]] = deque()  # one-element lists, so that a waiting trade can be replaced
        self._waiting_trades: dict[str, list[FeedEvent]] = {}
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._is_ended = False

    def put(self, event: FeedEvent) -> None:
        """Append an event that must not be lost."""
        # A trade never moves ahead of a candle: only those behind the last lasting event may still be replaced.
        self._waiting_trades.clear()
        self._append([event])

    def put_trade(self, trade: MarketTrade) -> None:
        """Append a trade, in place of one of the same symbol that still waits."""
        waiting = self._waiting_trades.get(trade.symbol)
        if waiting is not None:
            waiting[0] = trade
            return
        slot: list[FeedEvent] = [trade]
        self._waiting_trades[trade.symbol] = slot
        self._append(slot)

    def _append(self, slot: list[FeedEvent]) -> None:
        self._events.append(slot)
        self._arrived.set()
        if len(self._events) >= _FULL:
            self._room.clear()

    def end(self) -> None:
        """Let `get` return None once everything has been read."""
        self._is_ended = True
        self._arrived.set()

    async def room(self) -> None:
        """Wait until the reader has caught up enough for more history."""
        await self._room.wait()

    async def get(self) -> FeedEvent | None:
        """Return the next event, None after the last one."""
        while not self._events:
            if self._is_ended:
                return None
            self._arrived.clear()
            await self._arrived.wait()
        (event,) = slot = self._events.popleft()
        if isinstance(event, MarketTrade) and self._waiting_trades.get(event.symbol) is slot:
            del self._waiting_trades[event.symbol]
        if len(self._events) < _FULL // 2:
            self._room.set()
        return event


@dataclass(slots=True, kw_only=True)
class HealthBoard:
    """What is wrong with the feed at the moment, and what of it the reader has been told."""

    queue: FeedQueue
    _problems: dict[str, FeedStatus] = field(default_factory=dict, init=False)
    _told: FeedStatus | None = field(default=None, init=False)

    def report(self, part: str, health: FeedHealth, detail: str) -> None:
        """Note that `part` of the feed is not well."""
        self._problems[part] = FeedStatus(health=health, detail=detail)
        self._tell()

    def clear(self, part: str) -> None:
        """Note that `part` works again."""
        if self._problems.pop(part, None) is not None:
            self._tell()

    def live(self, detail: str) -> None:
        """Tell the reader that the feed works, unless something is wrong."""
        if not self._problems:
            self._put(FeedStatus(health=FeedHealth.LIVE, detail=detail))

    def _tell(self) -> None:
        stale = [status for status in self._problems.values() if status.health is FeedHealth.STALE]
        worst = (
            stale or list(self._problems.values()) or [FeedStatus(health=FeedHealth.LIVE, detail="flowing again")]
        )[0]
        told = self._told
        if told is None or worst.health is not told.health or (stale and worst.detail != told.detail):
            self._put(worst)

    def _put(self, status: FeedStatus) -> None:
        self._told = status
        self.queue.put(status)
