"""Lives that handle the journal's files: one interpreter forks a child per life, which ends itself where it is told.

`python -m tests.crash.storage_nursery` reads one JSON object per line and answers with the child's exit code, after
the lines that the child wrote.
"""

import asyncio
import itertools
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog

from daemon import crash_points, journal_backup, journal_file, journal_reader, journal_schema, journal_start
from daemon.journal import SqliteJournal
from daemon.journal_backup import JournalBackups, backup_directory
from daemon.journal_restore import restore
from daemon.ports import Record
from tests.crash.forking import ForkServer, serve
from tests.daemon.journals import NOW_MS, FixedClock

HOUR_MS = 3_600_000
LATER_STEPS = (
    (2, "CREATE TABLE notes (text TEXT) STRICT; INSERT INTO notes SELECT kind FROM events;"),
    (3, "ALTER TABLE notes RENAME TO remarks;"),
)


# ---- the child's side -------------------------------------------------------------------------------------------
class Hours:
    """A clock by which an hour passes with each look, from some hour on."""

    def __init__(self, first: int) -> None:
        self._hours = itertools.count(first)

    def now_ms(self) -> int:
        return NOW_MS + next(self._hours) * HOUR_MS

    def monotonic_s(self) -> float:
        return 0.0

    async def sleep_s(self, seconds: float) -> None:
        raise AssertionError(f"nobody sleeps here, asked for {seconds} s")


def die_at(name: str, count: int) -> None:
    """Let the process kill itself at the `count`-th passing of a crash point."""
    passed = 0

    def hook(at: str) -> None:
        nonlocal passed
        passed += at == name
        if at == name and passed == count:
            os.kill(os.getpid(), signal.SIGKILL)

    crash_points.hook = hook


async def _write_and_back_up(path: Path, hour: int, copies: int) -> None:
    """Append for ever, saying what was acknowledged, until so many backups have been taken beside it."""
    journal = SqliteJournal.open(path, FixedClock())
    journal_backup._PAUSE_S = 0.0  # deaths, not delays, are what is tested
    backups = JournalBackups(path, backup_directory(path), 5, Hours(hour))

    async def append() -> None:
        while True:
            filler = "x" * (journal.last_seq * 97 % 900)
            seq = await journal.append([Record(kind="fill", payload={"filler": filler})] * 2)
            os.write(1, b"%d\n" % seq)
            await asyncio.sleep(0.001)  # a commit on a quick disk gives way to nobody

    appending = asyncio.create_task(append())
    for _ in range(copies):
        result = await backups.attempt()
        if isinstance(result, Exception):
            raise result
    appending.cancel()
    await journal.close()


def _migrate(path: Path) -> None:
    steps = [*journal_schema.migrations(), *LATER_STEPS]
    for module in (journal_file, journal_schema, journal_reader, journal_start):
        module.migrations = lambda: steps  # type: ignore[attr-defined]
    asyncio.run(SqliteJournal.open(path, FixedClock()).close())


LIVES: dict[str, Callable[[Path, Mapping[str, Any]], None]] = {
    "back up": lambda path, asked: asyncio.run(_write_and_back_up(path, asked["hour"], asked["copies"])),
    "restore": lambda path, _asked: str(restore(path, FixedClock())) and None,
    "migrate": lambda path, _asked: _migrate(path),
}


def _live(asked: Mapping[str, Any]) -> int:
    if asked["death"] is not None:
        die_at(*asked["death"])
    LIVES[asked["life"]](Path(asked["path"]), asked)
    return 0


def main() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    serve(_live)


# ---- the test's side --------------------------------------------------------------------------------------------
class StorageNursery(ForkServer):
    """Starts lives in a process of its own."""

    def __init__(self) -> None:
        super().__init__("tests.crash.storage_nursery")

    def live(
        self,
        life: str,
        path: Path,
        *,
        death: tuple[str, int] | None = None,
        delay_s: float | None = None,
        **more: int,
    ) -> tuple[int, Sequence[int]]:
        """Let a child live; returns its exit code, -9 when killed, and every seq it was told is on disk."""
        self.send({"life": life, "path": str(path), "death": death, "delay_s": delay_s, **more})
        code, lines = self.ended()
        return code, [int(line) for line in lines]


if __name__ == "__main__":
    main()
