import asyncio
import os
import re
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.disk_room import BALLAST_BYTES, Ballast, DiskRoom, DiskWatch, Room, measure
from daemon.errors import FatalError
from daemon.journal import SqliteJournal
from daemon.journal_reader import verify
from daemon.ports import Record
from tests.contracts.journal import fill
from tests.daemon.journals import FixedClock, python
from tests.fakes.clock import ManualClock

MIB = 2**20
GIB = 2**30


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


# ---- the watch --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("free", "total", "room"),
    [
        (99 * MIB, 200 * MIB, Room.SCARCE),
        (100 * MIB, 200 * MIB, Room.LOW),
        (499 * MIB, GIB, Room.LOW),
        (500 * MIB, GIB, Room.PLENTY),
        (9 * GIB, 100 * GIB, Room.LOW),
        (10 * GIB, 100 * GIB, Room.PLENTY),
        (0, 0, Room.SCARCE),
    ],
)
def test_room_is_low_below_a_tenth_or_500_mib_and_scarce_below_100(free: int, total: int, room: Room) -> None:
    assert DiskRoom(free=free, total=total).room is room


def test_what_is_measured_is_what_this_user_may_take(tmp_path: Path) -> None:
    stated = os.statvfs(tmp_path)
    seen = measure(tmp_path)
    assert seen.total == stated.f_blocks * stated.f_frsize
    assert abs(seen.free - stated.f_bavail * stated.f_frsize) < GIB


async def test_the_watch_looks_every_minute_and_says_only_what_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    free = [10 * GIB, 10 * GIB, 300 * MIB, 200 * MIB, 50 * MIB, 10 * GIB]
    seen: list[int] = []
    allowed: list[bool] = []
    clock = ManualClock()

    def look(_directory: Path) -> DiskRoom:
        return DiskRoom(free=free[len(seen)], total=20 * GIB)

    def tell(room: DiskRoom) -> None:
        seen.append(room.free)
        allowed.append(watch.allows_entries)

    watch = DiskWatch(tmp_path, clock, tell, look)
    running = asyncio.create_task(watch.run())
    await clock.advance(5 * 60.0)
    running.cancel()
    assert seen == free
    assert allowed == [True, True, True, True, False, True]
    told = [line for line in capsys.readouterr().out.splitlines() if "disk_room" in line]
    assert [re.search(r"room=(\w+)", line).group(1) for line in told] == ["low", "scarce", "plenty"]  # type: ignore[union-attr]


async def test_a_disk_that_does_not_answer_does_not_end_the_watch(tmp_path: Path) -> None:
    clock, looks = ManualClock(), 0

    def look(_directory: Path) -> DiskRoom:
        nonlocal looks
        looks += 1
        raise OSError(5, "Input/output error")

    watch = DiskWatch(tmp_path, clock, lambda _room: None, look)
    running = asyncio.create_task(watch.run())
    await clock.advance(120.0)
    assert looks == 3
    assert not running.done()
    running.cancel()


# ---- the reserve ------------------------------------------------------------------------------------------------
def test_the_reserve_is_really_allocated_and_given_back(path: Path) -> None:
    ballast = Ballast(path)
    assert not ballast.is_there
    assert ballast.fill()
    assert ballast.place.stat().st_blocks * 512 >= BALLAST_BYTES
    assert ballast.fill()
    assert ballast.free()
    assert not ballast.place.exists()
    assert not ballast.free()


def test_a_reserve_that_is_only_a_hole_is_filled(path: Path) -> None:
    ballast = Ballast(path)
    ballast.place.touch()
    os.truncate(ballast.place, BALLAST_BYTES)
    assert not ballast.is_there
    assert ballast.fill()
    assert ballast.place.stat().st_blocks * 512 >= BALLAST_BYTES


def test_no_reserve_is_taken_where_little_is_left(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = 2 * BALLAST_BYTES - 1

    monkeypatch.setattr("daemon.disk_room.shutil.disk_usage", lambda _p: Usage)
    assert not Ballast(path).fill()
    assert not Ballast(path).place.exists()


def test_a_disk_that_cannot_hold_a_reserve_is_reported_and_used_without(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("daemon.disk_room.os.posix_fallocate", refuse)
    assert not Ballast(path).fill()
    assert not Ballast(path).place.exists()
    assert "journal_ballast_missing" in capsys.readouterr().out


# ---- a full disk ------------------------------------------------------------------------------------------------
FILLER = """
import asyncio, sys
from tests.daemon.journals import FixedClock
from daemon.errors import FatalError
from daemon.journal import SqliteJournal
from daemon.ports import Record

async def main():
    journal = SqliteJournal.open(sys.argv[1], FixedClock(), 8 * 2**20)
    low = []
    journal.on_low = low.append
    before = after = 0
    try:
        while True:
            last = await journal.append([Record(kind="decision", payload={"row": "x" * 7000})] * 3)
            await asyncio.sleep(0)
            before, after = (last, after) if not journal.is_low else (before, last)
    except FatalError as error:
        print(error)
    print(before, after, journal.last_seq, len(low), low[0])
    await journal.close()

asyncio.run(main())
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 32 MB, where this user may mount one."""
    mounted = tmp_path / "small"
    mounted.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(mounted)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small file system")
    yield mounted
    subprocess.run(["umount", str(mounted)], check=True)


@pytest.mark.fault(49)
def test_a_full_disk_gives_up_the_reserve_says_so_once_and_goes_on(small_disk: Path) -> None:
    path = small_disk / "journal.db"
    child = python(FILLER, str(path))
    assert (child.returncode, child.stderr) == (0, "")
    *_, failure, told = child.stdout.splitlines()
    before, after, last, calls, *words = told.split()
    assert re.match(r"journal .* cannot be written \(.*\): check the disk, then restart", failure)
    # 8 MiB hold 374 groups of 3 rows of 7 kB; pages and the log take their share of it.
    assert (int(after) - int(before)) // 3 > 100
    assert (last, calls) == (after, "1")
    assert " ".join(words) == f"the disk of {path} is full: the reserve is being used up, make room"
    assert verify(path).entries == int(after)
    assert verify(path).is_sound
    assert not path.with_name("journal.db.ballast").exists()


FULL = "database or disk is full"


class Full:
    """Makes the next commits fail as a full disk does, until the reserve has been given up so often."""

    def __init__(self, journal: SqliteJournal, monkeypatch: pytest.MonkeyPatch, name: str, *, for_ever: bool) -> None:
        self.attempts = 0
        commit = journal._commit

        def fail(group: object) -> list[int]:
            self.attempts += 1
            if for_ever or self.attempts == 1:
                error = sqlite3.OperationalError(FULL)
                error.sqlite_errorname = name
                raise error
            return commit(group)  # type: ignore[arg-type]

        monkeypatch.setattr(journal, "_commit", fail)


@pytest.mark.fault(49)
@pytest.mark.parametrize("name", ["SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE"])
async def test_a_commit_without_room_is_tried_once_more_in_the_reserve(
    path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    journal = SqliteJournal.open(path, FixedClock(), BALLAST_BYTES)
    full = Full(journal, monkeypatch, name, for_ever=False)
    assert await journal.append([fill(1)]) == 1
    assert full.attempts == 2
    assert journal.is_low
    assert await journal.refill()
    assert not journal.is_low
    assert Ballast(path).is_there
    await journal.close()


async def test_when_even_the_reserve_does_not_help_it_is_fatal(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = SqliteJournal.open(path, FixedClock(), BALLAST_BYTES)
    full = Full(journal, monkeypatch, "SQLITE_FULL", for_ever=True)
    with pytest.raises(FatalError, match=rf"cannot be written \({FULL}\)"):
        await journal.append([fill(1)])
    assert full.attempts == 2
    with pytest.raises(FatalError, match="cannot be written"):
        await journal.append([fill(1)])
    assert full.attempts == 2
    await journal.close()
    assert verify(path).entries == 0


async def test_a_sync_that_failed_is_not_tried_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After it nobody knows which pages are on disk: trying again would only hide that."""
    journal = SqliteJournal.open(path, FixedClock(), BALLAST_BYTES)
    full = Full(journal, monkeypatch, "SQLITE_IOERR_FSYNC", for_ever=False)
    with pytest.raises(FatalError):
        await journal.append([fill(1)])
    assert full.attempts == 1
    assert Ballast(path).is_there
    await journal.close()


async def test_the_reserve_comes_back_at_the_next_start(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = SqliteJournal.open(path, FixedClock(), BALLAST_BYTES)
    Full(journal, monkeypatch, "SQLITE_FULL", for_ever=False)
    await journal.append([fill(1)])
    await journal.close()
    assert not Ballast(path).is_there
    journal = SqliteJournal.open(path, FixedClock(), BALLAST_BYTES)
    assert Ballast(path).is_there
    assert not journal.is_low
    await journal.close()


# ---- a slow disk ------------------------------------------------------------------------------------------------
class SlowDisk(FixedClock):
    """A clock by which every commit takes `seconds`."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._now = 0.0

    def monotonic_s(self) -> float:
        self._now += self._seconds
        return self._now


@pytest.mark.fault(51)
@pytest.mark.parametrize(("seconds", "is_told"), [(0.5, False), (1.0, False), (1.5, True)])
async def test_a_commit_of_more_than_a_second_is_told(
    path: Path, capsys: pytest.CaptureFixture[str], seconds: float, is_told: bool
) -> None:
    journal = SqliteJournal.open(path, SlowDisk(seconds))
    slow: list[float] = []
    journal.on_slow = slow.append
    await journal.append([Record(kind="stop", payload={})])
    await asyncio.sleep(0)
    assert slow == ([seconds] if is_told else [])
    assert ("journal_slow" in capsys.readouterr().out) is is_told
    await journal.close()
