"""What keeps the journal well beside trading: copies of it, and an eye on the room and the speed of its disk."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path

import structlog

from daemon.config import Config
from daemon.disk_room import DiskRoom, DiskWatch, Room, measure
from daemon.engine import Engine
from daemon.journal import SqliteJournal
from daemon.journal_backup import Backup, BackupResult, JournalBackups, backup_directory
from daemon.metrics import MetricsSink
from daemon.paths import journal_path
from daemon.ports import Clock

_log = structlog.get_logger()


class Upkeep:
    """The tasks that look after the journal of one run. A disk without room pauses purchases; a person resumes."""

    def __init__(
        self,
        config: Config,
        clock: Clock,
        journal: SqliteJournal,
        engine: Engine,
        look: Callable[[Path], DiskRoom] = measure,
        *,
        watch: MetricsSink | None = None,
    ) -> None:
        """look: returns how much room a directory's disk has.  watch: told of room and copies."""
        path = journal_path(config)
        self._journal = journal
        self._engine = engine
        self._scarce, self._roomy = asyncio.Event(), asyncio.Event()
        self._why = ""
        self._backup_every_s = config.journal.backup_every_s
        self._backups = JournalBackups(
            path, backup_directory(path), config.journal.keep, clock, every_s=self._backup_every_s
        )
        self._backups.tell = self._on_backup
        self._disk = DiskWatch(path.parent, clock, self._on_room, look)
        self._metrics = watch
        journal.on_low = self._on_low

    def tasks(self) -> Sequence[asyncio.Task[None]]:
        """Begin them, and return them."""
        work: list[Coroutine[None, None, None]] = [
            self._disk.run(),
            self._pause_when_scarce(),
            self._refill_when_roomy(),
        ]
        if self._backup_every_s > 0.0:
            work.append(self._backups.run())
        return [asyncio.create_task(coroutine) for coroutine in work]

    async def last_backup(self) -> None:
        """Copy the journal once more, as a run ends."""
        if self._backup_every_s > 0.0:
            await self._backups.attempt()

    def _on_backup(self, result: BackupResult) -> None:
        if self._metrics is not None:
            self._metrics.count_backup(result.at_ms if isinstance(result, Backup) else None)

    def _on_room(self, seen: DiskRoom) -> None:
        if self._metrics is not None:
            self._metrics.set_disk(free_bytes=seen.free, size_bytes=seen.total)
        if not self._disk.allows_entries:
            self._on_low(f"{seen.free >> 20} MiB are free on the journal's disk")
        elif seen.room is Room.PLENTY and self._journal.is_low:
            self._roomy.set()

    def _on_low(self, why: str) -> None:
        self._why = why
        self._scarce.set()

    async def _pause_when_scarce(self) -> None:
        while True:
            await self._scarce.wait()
            self._scarce.clear()
            if not self._engine.trader.risk.is_paused:
                _log.error("paused_for_room", reason=self._why, remedy="make room, then `sacd resume`")
                await self._engine.command("pause", "disk")

    async def _refill_when_roomy(self) -> None:
        """Take the journal's reserve again that a full disk has cost, so that the next one finds it."""
        while True:
            await self._roomy.wait()
            self._roomy.clear()
            if await self._journal.refill():
                _log.info("reserve_taken_again")
