"""A journal in memory, for tests of what stands above it: same rules, no disk."""

import asyncio
from collections.abc import Sequence

from daemon.errors import FatalError
from daemon.journal_format import decode, encode
from daemon.ports import Clock, Entry, Record


class MemoryJournal:
    """Implements `ports.Journal`. `entries` is what it holds; `failure` makes every append fail as a disk would."""

    def __init__(self, clock: Clock, entries: Sequence[Entry] = ()) -> None:
        self.entries: list[Entry] = list(entries)
        self.failure = ""
        self.is_closed = False
        self._clock = clock

    @property
    def last_seq(self) -> int:
        return self.entries[-1].seq if self.entries else 0

    async def append(self, records: Sequence[Record]) -> int:
        encoded = [encode(record) for record in records]
        if self.is_closed:
            raise FatalError("journal in memory is closed: nothing can be appended")
        if self.failure:
            raise FatalError(f"journal in memory cannot be written ({self.failure})")
        at_ms = self._clock.now_ms()
        for kind, payload in encoded:
            seq = self.last_seq + 1
            entry = Entry(seq=seq, at_ms=at_ms, kind=kind, payload=decode(seq, payload.encode("ascii")))
            self.entries.append(entry)
        last_seq = self.last_seq
        await asyncio.sleep(0)  # as the real one, it lets others run before it returns
        return last_seq

    async def close(self) -> None:
        self.is_closed = True
