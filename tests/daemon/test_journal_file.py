import asyncio
import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from daemon import journal_file
from daemon.errors import ConfigError
from daemon.journal import SqliteJournal
from daemon.journal_reader import verify
from tests.contracts.journal import fill
from tests.daemon.journals import FixedClock, python, write


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
async def journal(path: Path) -> AsyncIterator[SqliteJournal]:
    opened = SqliteJournal.open(path, FixedClock())
    yield opened
    await opened.close()


async def test_any_length_of_the_log_gives_a_sound_prefix(journal: SqliteJournal, path: Path, tmp_path: Path) -> None:
    for number in range(1, 9):
        await journal.append([fill(number)] * 2)
    log = path.with_name("journal.db-wal").read_bytes()
    seen = set()
    for place, length in enumerate(range(0, 100_000, 4177)):
        folder = tmp_path / f"copy-{place}"
        folder.mkdir()
        copy = folder / "journal.db"
        shutil.copy(path, copy)
        copy.with_name("journal.db-wal").write_bytes(log[:length])
        reopened = SqliteJournal.open(copy, FixedClock())
        kept = reopened.last_seq
        assert await reopened.append([fill(99)]) == kept + 1
        await reopened.close()
        assert verify(copy).entries == kept + 1
        assert kept % 2 == 0
        seen.add(kept)
    assert len(seen) > 3
    assert max(seen) == 16


async def test_a_second_daemon_is_told_who_holds_the_journal(journal: SqliteJournal, path: Path) -> None:
    assert journal.last_seq == 0
    with pytest.raises(ConfigError, match=rf"in use by process {os.getpid()}: stop that sacd"):
        SqliteJournal.open(path, FixedClock())


async def test_close_lets_the_next_daemon_in(journal: SqliteJournal, path: Path) -> None:
    await journal.close()
    await asyncio.to_thread(write, path, 1)
    assert verify(path).entries == 1


@pytest.mark.parametrize("content", [b"hello, world\n" * 1000, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_file_that_is_not_ours_is_refused_and_left_alone(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"{re.escape(str(path))} is not a journal of sacd"):
        SqliteJournal.open(path, FixedClock())
    assert path.read_bytes() == content


def test_a_missing_directory_is_the_operators_to_create(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist: create it") as caught:
        SqliteJournal.open(tmp_path / "nowhere" / "journal.db", FixedClock())
    assert caught.value.exit_code == 78
    assert "\n" not in str(caught.value)


def test_a_directory_is_no_journal(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a directory: name a file in it"):
        SqliteJournal.open(tmp_path, FixedClock())


def test_a_link_to_a_journal_is_that_journal(tmp_path: Path, path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    path.symlink_to(elsewhere / "real.db")
    write(path, 2)
    assert verify(elsewhere / "real.db").entries == verify(path).entries == 2


@contextmanager
def as_nobody(directory: Path) -> Iterator[None]:
    """Root may write everywhere: drop that right for a moment."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)
        directory.chmod(0o755)


@pytest.mark.fault(52)
@pytest.mark.parametrize("lock_exists", [False, True])
def test_a_read_only_place_is_one_line_and_exit_78(lock_exists: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        path = directory / "journal.db"
        write(path, 1)
        path.chmod(0o444)
        if lock_exists:  # the directory takes new files, the journal takes no writes
            path.with_name("journal.db.lock").chmod(0o666)
            directory.chmod(0o777)
        else:
            path.with_name("journal.db.lock").unlink()
            directory.chmod(0o555)
        with as_nobody(directory), pytest.raises(ConfigError) as caught:
            SqliteJournal.open(path, FixedClock())
        assert caught.value.exit_code == 78
        assert "\n" not in str(caught.value)
        assert str(directory) in str(caught.value)
        assert verify(path).entries == 1


MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
36 22 0:31 / /mnt/share rw,relatime shared:2 master:3 - nfs4 server:/export rw,vers=4.2
"""


@pytest.mark.parametrize(("device", "expected"), [((254, 0), "ext4"), ((0, 31), "nfs4"), ((8, 1), None)])
def test_the_file_system_is_found_by_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: tuple[int, int], expected: str | None
) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS)
    real_stat = os.stat_result(tuple(tmp_path.stat()))
    values = [*real_stat]
    values[2] = os.makedev(*device)
    monkeypatch.setattr(Path, "stat", lambda _self, **_: os.stat_result(values))
    assert journal_file._file_system_of(tmp_path, mounts) == expected


@pytest.mark.fault(51)
def test_a_network_file_system_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_file, "_file_system_of", lambda _directory: "nfs4")
    with pytest.raises(ConfigError, match="lies on nfs4: put the state directory on a local disk"):
        SqliteJournal.open(path, FixedClock())
    assert not path.exists()


async def test_the_lock_is_an_flock_beside_the_journal(journal: SqliteJournal, path: Path) -> None:
    assert journal.last_seq == 0
    with path.with_name("journal.db.lock").open() as lock, pytest.raises(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


# ---- when the disk fails ----------------------------------------------------------------------------------------
FILLER = """
import asyncio, resource, sys
from tests.daemon.journals import FixedClock
from daemon.errors import FatalError
from daemon.journal import SqliteJournal
from daemon.ports import Record

async def main():
    journal = SqliteJournal.open(sys.argv[1], FixedClock())
    if len(sys.argv) > 2:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
    acknowledged = 0
    try:
        while acknowledged < 6000:
            records = [Record(kind="decision", payload={"row": "x" * 7000})] * 3
            acknowledged = await journal.append(records)
    except FatalError as error:
        print(error)
    try:
        await journal.append(records)
    except FatalError as error:
        print(error)
    print(acknowledged, journal.last_seq)
    await journal.close()

asyncio.run(main())
"""


def fill_up(path: Path, *arguments: str) -> int:
    """Append until the disk refuses, in a process of its own; return the last acknowledged seq."""
    child = python(FILLER, str(path), *arguments)
    assert (child.returncode, child.stderr) == (0, "")
    *_, first, second, seqs = child.stdout.splitlines()
    assert re.match(r"journal .* cannot be written \(.*\): check the disk, then restart", first)
    assert second == first
    acknowledged, last_seq = seqs.split()
    assert acknowledged == last_seq
    return int(acknowledged)


def check_after(path: Path, acknowledged: int) -> None:
    assert acknowledged > 0
    assert verify(path).entries == acknowledged
    assert verify(path).is_sound
    write(path, 1)
    assert verify(path).entries == acknowledged + 1


@pytest.mark.fault(49)
def test_a_file_that_may_not_grow_is_fatal_and_leaves_whole_appends(path: Path) -> None:
    check_after(path, fill_up(path, "6000000"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB, where this user may mount one."""
    mounted = tmp_path / "small"
    mounted.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(mounted)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small file system")
    yield mounted
    subprocess.run(["umount", str(mounted)], check=True)


@pytest.mark.fault(49)
def test_a_full_disk_is_fatal_and_leaves_whole_appends(small_disk: Path, path: Path) -> None:
    acknowledged = fill_up(small_disk / "journal.db")
    assert verify(small_disk / "journal.db").entries == acknowledged
    for file in small_disk.glob("journal.db*"):  # onto a disk with room, as an operator would
        shutil.copy(file, path.parent)
    check_after(path, acknowledged)


def test_no_room_for_the_log_is_told_before_trading_starts(tmp_path: Path) -> None:
    program = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))\n"
        "from tests.daemon.journals import FixedClock\n"
        "from daemon.errors import FatalError; from daemon.journal import SqliteJournal\n"
        "try: SqliteJournal.open(sys.argv[1], FixedClock())\n"
        "except FatalError as error: print(error)\n"
    )
    path = tmp_path / "journal.db"
    child = python(program, str(path))
    assert re.match(r"journal .* cannot be opened \(.*\): check free space and health of the disk", child.stdout)
    assert child.stderr == ""
    write(path, 1)
    assert verify(path).entries == 1
