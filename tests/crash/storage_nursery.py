"""Lives that handle the journal's files: one interpreter forks a child per life, which ends itself where it is told.

`python -m tests.crash.storage_nursery` reads one JSON object per line and answers with the child's exit code, after
the lines that the child wrote.
"""

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import structlog

from daemon import crash_points, journal_backup, journal_file, journal_reader, journal_schema, journal_start
from daemon.journal import SqliteJournal
from daemon.journal_backup import JournalBackups, backup_directory
from daemon.journal_restore import restore
from daemon.ports import Record
from tests.daemon.journals import NOW_MS, ROOT, FixedClock

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


LIVES: dict[str, Callable[[Path, dict[str, Any]], None]] = {
    "back up": lambda path, asked: asyncio.run(_write_and_back_up(path, asked["hour"], asked["copies"])),
    "restore": lambda path, _asked: str(restore(path, FixedClock())) and None,
    "migrate": lambda path, _asked: _migrate(path),
}


def main() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if child == 0:
            code = 70
            try:
                if asked["death"] is not None:
                    die_at(*asked["death"])
                LIVES[asked["life"]](Path(asked["path"]), asked)
                code = 0
            finally:
                os._exit(code)
        if asked["delay_s"] is not None:
            time.sleep(asked["delay_s"])  # the moment of death is what is tested: there is no clock to fake
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        os.write(1, b"ended %d\n" % os.waitstatus_to_exitcode(status))


# ---- the test's side --------------------------------------------------------------------------------------------
class StorageNursery:
    """Starts lives in a process of its own."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.storage_nursery"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

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
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        asked = {"life": life, "path": str(path), "death": death, "delay_s": delay_s, **more}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        seqs: list[int] = []
        while not (line := self._process.stdout.readline()).startswith("ended"):
            assert line, "the nursery died"
            seqs.append(int(line))
        return int(line.split()[1]), seqs


if __name__ == "__main__":
    main()
