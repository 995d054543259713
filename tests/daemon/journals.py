"""What the journal's tests share: a clock that stands still, journals made in one line, and a program run apart."""

import asyncio
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from daemon.journal import SqliteJournal
from tests.contracts.journal import fill

NOW_MS = 1_600_000_000_123
ROOT = Path(__file__).parents[2]
PARTS = ("", "-wal", ".head")


class FixedClock:
    def now_ms(self) -> int:
        return NOW_MS

    def monotonic_s(self) -> float:
        return 7.0

    async def sleep_s(self, seconds: float) -> None:
        raise AssertionError(f"the journal never sleeps, asked for {seconds} s")


def write(path: Path, count: int) -> None:
    async def session() -> None:
        journal = SqliteJournal.open(path, FixedClock())
        await journal.append([fill(number) for number in range(1, count + 1)])
        await journal.close()

    asyncio.run(session())


def alter(path: Path, sql: str, *values: object) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(sql, values)


def python(program: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=120)


def write_and_be_killed(path: Path, in_file: int, in_log: int) -> None:
    """Leave a journal at `path` as a kill would: some entries in the file, later ones only in its log.

    No commit is undone here: the files are those of a writer that was still at work.
    """

    async def session(at: Path) -> None:
        journal = SqliteJournal.open(at, FixedClock())
        for number in range(in_file + 1, in_file + in_log + 1):
            await journal.append([fill(number)])
        for part in PARTS:
            shutil.copy(at.with_name(at.name + part), path.with_name(path.name + part))
        await journal.close()

    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder) / path.name
        write(at, in_file)
        asyncio.run(session(at))
