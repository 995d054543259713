import asyncio
import shutil
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon import journal_backup, journal_copy
from daemon.disk_room import DiskRoom
from daemon.errors import SacdError
from daemon.journal import SqliteJournal
from daemon.journal_backup import (
    Backup,
    BackupResult,
    CopyFailed,
    JournalBackups,
    automatic,
    backup_directory,
    by_hand,
    every_backup,
    prune,
    stamp,
    take,
)
from daemon.journal_reader import read, verify
from daemon.ports import Record
from tests.contracts.journal import fill
from tests.daemon.journals import NOW_MS, FixedClock, alter, write
from tests.fakes.clock import ManualClock

HOUR_MS = 3_600_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def directory(path: Path) -> Path:
    return backup_directory(path)


@pytest.fixture
async def journal(path: Path) -> AsyncIterator[SqliteJournal]:
    opened = SqliteJournal.open(path, FixedClock())
    yield opened
    await opened.close()


def names(directory: Path) -> list[str]:
    return sorted(place.name for place in directory.iterdir())


# ---- one backup -------------------------------------------------------------------------------------------------
async def test_a_backup_beside_a_writer_holds_all_that_was_acknowledged_before_it(
    journal: SqliteJournal, path: Path, tmp_path: Path
) -> None:
    await journal.append([fill(number) for number in range(1, 301)])
    made = await asyncio.to_thread(take, path, tmp_path / "copy", FixedClock())
    await journal.append([fill(301)])
    assert made.entries == 300
    assert [entry.payload for entry in read(tmp_path / "copy")] == [e.payload for e in read(path, limit=300)]
    assert made.head == verify(tmp_path / "copy").head
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o600


async def test_a_backup_ends_although_the_writer_never_rests(journal: SqliteJournal, path: Path) -> None:
    """Without a read transaction around it SQLite would begin the copy anew after every commit."""
    big = Record(kind="decision", payload={"row": "x" * 3000})
    await journal.append([big] * 400)
    loop, steps = asyncio.get_running_loop(), 0

    def append_between_steps() -> None:
        nonlocal steps
        steps += 1
        if steps < 60:
            asyncio.run_coroutine_threadsafe(journal.append([big]), loop).result(timeout=30)

    made = await asyncio.to_thread(take, path, path.with_name("copy"), FixedClock(), append_between_steps)
    assert steps > 20
    assert made.entries == 400
    assert journal.last_seq > 415


async def test_a_backup_needs_nothing_beside_it(journal: SqliteJournal, path: Path, tmp_path: Path) -> None:
    await journal.append([fill(1)])
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    take(path, elsewhere / "copy", FixedClock())
    assert names(elsewhere) == ["copy"]
    assert verify(elsewhere / "copy", is_at_rest=True).entries == 1
    assert names(elsewhere) == ["copy"]


def test_a_damaged_journal_gives_no_backup_and_leaves_the_last_one(path: Path, tmp_path: Path) -> None:
    """The hourly backup proves every entry, also those older than what a start proves."""
    write(path, 1200)
    take(path, tmp_path / "copy", FixedClock())
    before = (tmp_path / "copy").read_bytes()
    alter(path, "UPDATE events SET payload = '{}' WHERE seq = 7")
    with pytest.raises(CopyFailed, match=r"journal.db is damaged, the copy was dropped: hash chain broken"):
        take(path, tmp_path / "copy", FixedClock())
    assert (tmp_path / "copy").read_bytes() == before
    assert not list(tmp_path.glob("*.partial*"))


@pytest.mark.parametrize("damage", [b"not a database" * 400, b""])
def test_what_is_no_journal_gives_no_backup(path: Path, tmp_path: Path, damage: bytes) -> None:
    path.write_bytes(damage)
    with pytest.raises(CopyFailed, match=r"journal.db cannot be copied to .*copy: "):
        take(path, tmp_path / "copy", FixedClock())
    assert names(tmp_path) == ["journal.db"]


def test_a_backup_leaves_room_for_the_journal(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(path, 1)
    monkeypatch.setattr(journal_backup, "measure", lambda _directory: DiskRoom(free=90 * 2**20, total=2**40))
    with pytest.raises(CopyFailed, match="90 MiB free, a backup takes 0 and 100 must stay free: make room, or keep"):
        take(path, tmp_path / "copy", FixedClock())


def test_two_copies_to_one_file_do_not_mix(path: Path, tmp_path: Path) -> None:
    write(path, 1)
    with journal_copy.partial(tmp_path / "copy"):
        with pytest.raises(CopyFailed, match="another copy is being made there"):
            take(path, tmp_path / "copy", FixedClock())
        assert (tmp_path / "copy.partial").exists()
    take(path, tmp_path / "copy", FixedClock())


def test_what_a_killed_copy_left_is_removed_and_what_is_being_made_is_not(path: Path, directory: Path) -> None:
    write(path, 1)
    directory.mkdir()
    (directory / "journal.db.backup-20200101T000000.partial").write_bytes(b"x" * 5000)
    (directory / "other.db.backup-20200101T000000.partial").touch()
    with journal_copy.partial(directory / "journal.db.manual-20200101T000001"):
        take(path, directory / "journal.db.backup-20200101T000002", FixedClock())
        left = {"journal.db.manual-20200101T000001.partial", "other.db.backup-20200101T000000.partial"}
        assert set(names(directory)) == left | {"journal.db.backup-20200101T000002"}


# ---- by hand ----------------------------------------------------------------------------------------------------
def test_a_backup_by_hand_lies_among_the_others_or_where_it_was_asked_for(path: Path, directory: Path) -> None:
    write(path, 3)
    assert by_hand(path, FixedClock()).path == directory / "journal.db.manual-20200913T122640"  # date -u -d @1600000000
    assert by_hand(path, FixedClock(), directory / "mine").entries == 3
    with pytest.raises(SacdError, match=r"--to .*mine: exists already; name a file that does not exist yet"):
        by_hand(path, FixedClock(), directory / "mine")
    with pytest.raises(SacdError, match=r"there is no journal at .*nowhere"):
        by_hand(path.with_name("nowhere"), FixedClock())
    assert names(directory) == ["journal.db.manual-20200913T122640", "mine"]


# ---- which stay -------------------------------------------------------------------------------------------------
def make(directory: Path, hours: list[int], kind: str = "backup") -> list[str]:
    directory.mkdir(exist_ok=True)
    made = [f"journal.db.{kind}-{stamp(NOW_MS + hour * HOUR_MS)}" for hour in hours]
    for name in made:
        (directory / name).touch()
    return made


def test_the_newest_24_and_the_last_of_each_of_seven_days_stay(path: Path, directory: Path) -> None:
    """NOW_MS is 12:26 UTC, so hour 11 is the last of a day."""
    made = make(directory, list(range(24 * 30)))
    kept = made[-24:] + [made[24 * day + 11] for day in range(24, 29)]  # two of the seven days end among the 24
    gone = prune(path, directory)
    assert sorted(names(directory)) == sorted(set(kept))
    assert len(gone) == 24 * 30 - len(set(kept))


@given(hours=st.sets(st.integers(0, 2000), max_size=80), keep=st.integers(1, 30), days=st.integers(0, 10))
def test_pruning_keeps_the_newest_and_repeats_to_nothing(
    tmp_path_factory: pytest.TempPathFactory, hours: set[int], keep: int, days: int
) -> None:
    directory = tmp_path_factory.mktemp("backups")
    path = directory.parent / "journal.db"
    made = make(directory, sorted(hours))
    prune(path, directory, keep, days)
    kept = names(directory)
    assert set(made[-keep:]) <= set(kept) <= set(made)
    assert len({name[-15:-7] for name in kept}) >= min(days, len({name[-15:-7] for name in made}))
    assert len(kept) <= keep + days
    assert list(prune(path, directory, keep, days)) == []
    shutil.rmtree(directory)


def test_only_files_of_this_journal_that_were_made_by_the_daemon_are_ever_deleted(path: Path, directory: Path) -> None:
    make(directory, [0, 1, 2])
    others = make(directory, [-5, -4], kind="manual")
    strange = ["other.db.backup-20200101T000000", "journal.db.backup-20200101", "journal.db.backup-20209901T000000"]
    strange += ["journal.db.backup-20200101T000000.mine", "notes.txt"]
    for name in strange:
        (directory / name).touch()
    prune(path, directory, keep=1, days=0)
    assert set(names(directory)) == {f"journal.db.backup-{stamp(NOW_MS + 2 * HOUR_MS)}", *others, *strange}
    assert [place.name for place in every_backup(path, directory)][1:] == others[::-1]


# ---- every hour -------------------------------------------------------------------------------------------------
class Results:
    """What a `JournalBackups` told, and a way to wait for it: a thread copies, in real time."""

    def __init__(self, backups: JournalBackups) -> None:
        self.told: list[BackupResult] = []
        self._more = asyncio.Event()
        backups.tell = self._take

    def _take(self, result: BackupResult) -> None:
        self.told.append(result)
        self._more.set()

    async def wait(self, count: int) -> None:
        while len(self.told) < count:
            self._more.clear()
            await self._more.wait()


async def test_a_backup_is_taken_every_hour_and_counts_from_the_last_daemon(
    journal: SqliteJournal, path: Path, directory: Path
) -> None:
    await journal.append([fill(1)])
    clock = ManualClock(NOW_MS)
    make(directory, [-1])
    backups = JournalBackups(path, directory, 24, clock)
    results = Results(backups)
    running = asyncio.create_task(backups.run())
    await clock.advance(59.0)  # the last one is an hour old: due at once, but not in the first minute
    assert results.told == []
    for number in (1, 2, 3):
        await clock.advance(3_600.0)
        await results.wait(number)
        await clock.settle()
    running.cancel()
    assert all(isinstance(result, Backup) for result in results.told)
    assert len(automatic(path, directory)) == 4


async def test_a_young_backup_is_not_repeated_by_a_restart(path: Path, directory: Path) -> None:
    await asyncio.to_thread(write, path, 1)
    clock = ManualClock(NOW_MS)
    make(directory, [0])
    backups = JournalBackups(path, directory, 24, clock)
    running = asyncio.create_task(backups.run())
    await clock.advance(3_500.0)
    assert len(automatic(path, directory)) == 1
    running.cancel()


async def test_what_fails_is_told_and_tried_again_sooner_and_stops_nothing(path: Path, directory: Path) -> None:
    await asyncio.to_thread(write, path, 1)
    clock = ManualClock(NOW_MS)
    blocked = directory
    await asyncio.to_thread(blocked.write_text, "a file where the directory should be")
    backups = JournalBackups(path, directory, 24, clock)
    results = Results(backups)
    running = asyncio.create_task(backups.run())
    await clock.advance(60.0)
    await results.wait(1)
    assert isinstance(results.told[0], CopyFailed)
    assert "cannot be written" in str(results.told[0])
    await asyncio.to_thread(blocked.unlink)
    await clock.settle()
    await clock.advance(600.0)
    await results.wait(2)
    assert isinstance(results.told[1], Backup)
    assert not running.done()
    running.cancel()


async def test_a_daemon_that_ends_waits_for_no_copy(
    journal: SqliteJournal, path: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await journal.append([Record(kind="decision", payload={"row": "x" * 3000})] * 400)
    begun = threading.Event()
    copy_pages = journal_copy.copy_pages

    def slow(source: Path, into: journal_copy.Partial, pause: journal_copy.Pause, *, is_at_rest: bool = False) -> None:
        def told() -> None:
            begun.set()
            threading.Event().wait(0.01)
            pause()

        copy_pages(source, into, told, is_at_rest=is_at_rest)

    monkeypatch.setattr(journal_copy, "copy_pages", slow)
    backups = JournalBackups(path, directory, 24, FixedClock())
    attempt = asyncio.create_task(backups.attempt())
    await asyncio.to_thread(begun.wait)
    attempt.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempt
    assert names(directory) == []


async def test_a_commit_is_never_kept_waiting_by_a_backup(journal: SqliteJournal, path: Path) -> None:
    """A writer that had to wait for the reader would meet SQLITE_BUSY, or a checkpoint that never ends."""
    await journal.append([Record(kind="decision", payload={"row": "x" * 3000})] * 400)
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM events").fetchone()
        for number in range(50):
            await journal.append([fill(number)])
    assert journal.last_seq == 450
