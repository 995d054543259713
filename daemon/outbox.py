"""What a live broker has to tell, in order, on its way to the one who writes it down."""

import asyncio
from collections.abc import AsyncIterator, Sequence

from daemon.ports import BrokerNews


class Outbox:
    """News waiting for its reader. All that waits is given at once, so that it shares one durable write."""

    def __init__(self) -> None:
        self._waiting: list[BrokerNews] = []
        self._arrived = asyncio.Event()
        self._settled = asyncio.Event()
        self._settled.set()
        self._is_closed = False

    @property
    def is_settled(self) -> bool:
        """True when everything told so far has been applied, written down and released."""
        return self._settled.is_set()

    def put(self, *news: BrokerNews) -> None:
        """Append what happened, in order."""
        if news:
            self._waiting.extend(news)
            self._settled.clear()
            self._arrived.set()

    async def settled(self) -> None:
        """Wait until `is_settled`: the books then say what the venue has told us."""
        await self._settled.wait()

    async def groups(self) -> AsyncIterator[Sequence[BrokerNews]]:
        """Yield what was put, in order, until closed. Asking for the next group says that the last one is on disk."""
        while True:
            while not self._waiting:
                self._settled.set()
                if self._is_closed:
                    return
                self._arrived.clear()
                await self._arrived.wait()
            group, self._waiting = self._waiting, []
            yield group

    def close(self) -> None:
        """Let `groups` end once everything has been given."""
        self._is_closed = True
        self._arrived.set()
