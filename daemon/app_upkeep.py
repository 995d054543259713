"""What keeps the journal well beside trading: copies of it, and an eye on the room and the speed of its disk."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import structlog

from daemon.config import Config
from daemon.config_sections import JournalSection
from daemon.disk_room import DiskRoom, DiskWatch, Room, measure
from daemon.engine import Engine
from daemon.journal import SqliteJournal
from daemon.journal_backup import Backup, BackupResult, JournalBackups, backup_directory
from daemon.metrics import MetricsSink
from daemon.paths import journal_path
from daemon.ports import Clock

_log = structlog.get_logger()
_LAST_S = 3.0
"""How long a daemon that was told to end copies its journal once more; a larger one waits for the next run."""


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
        path = self._path = journal_path(config)
        self._journal = journal
        self._clock = clock
        self._engine = engine
        self._scarce, self._roomy, self._changed = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._why = ""
        self._section = config.journal
        self._backups = self._make_backups()
        self._disk = DiskWatch(path.parent, clock, self._on_room, look)
        self._metrics = watch
        journal.on_low = self._on_low

    def _make_backups(self) -> JournalBackups:
        section = self._section
        backups = JournalBackups(
            self._path, backup_directory(self._path), section.keep, self._clock, every_s=section.backup_every_s
        )
        backups.tell = self._on_backup
        return backups

    def reconfigure(self, section: JournalSection) -> None:
        """Copy the journal as often, and keep as many copies, as `section` says from here on."""
        if section != self._section:
            self._section = section
            self._backups = self._make_backups()
            self._changed.set()

    def tasks(self) -> Sequence[asyncio.Task[None]]:
        """Begin them, and return them."""
        work: list[Coroutine[None, None, None]] = [
            self._disk.run(),
            self._pause_when_scarce(),
            self._refill_when_roomy(),
            self._keep_copies(),
        ]
        return [asyncio.create_task(coroutine) for coroutine in work]

    async def _keep_copies(self) -> None:
        """Copy the journal by the cadence of the moment; a change of it drops a copy that is half done."""
        while True:
            self._changed.clear()
            await self._until_changed(self._backups.run() if self._section.backup_every_s > 0.0 else None)

    async def _until_changed(self, copying: Coroutine[None, None, None] | None) -> None:
        tasks: list[asyncio.Task[Any]] = [asyncio.create_task(self._changed.wait())]
        if copying is not None:
            tasks.append(asyncio.create_task(copying))
        await _first_of(tasks)

    async def last_backup(self) -> None:
        """Copy the journal once more, as a run ends, where that is soon done."""
        if self._section.backup_every_s > 0.0:
            await _first_of(
                [asyncio.create_task(self._backups.attempt()), asyncio.create_task(self._clock.sleep_s(_LAST_S))]
            )

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


async def _first_of(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Wait for one of `tasks`, end the others, and raise what failed."""
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
