"""A damaged journal is found at the start, said in one line, and left as it is: it is never silently shorter."""

import asyncio
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from daemon.errors import ConfigError, FatalError, SacdError
from daemon.journal import SqliteJournal
from daemon.journal_head import Head, HeadFile, read_head
from daemon.journal_reader import read, verify
from daemon.journal_schema import JournalDamaged
from daemon.journal_start import TAIL_ROWS, inspect
from tests.contracts.journal import fill
from tests.daemon.journals import PARTS, FixedClock, alter, write, write_and_be_killed

IN_FILE, IN_LOG = 400, 20
WHOLE = IN_FILE + IN_LOG
PAGE = 4096
FRAME = PAGE + 24  # sqlite.org/fileformat.html, section 4
LOG_HEAD = 32


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal of 420 entries whose last 20 lie in the log."""
    path = tmp_path_factory.mktemp("killed") / "journal.db"
    write_and_be_killed(path, IN_FILE, IN_LOG)
    return path


@pytest.fixture
def path(killed: Path, tmp_path: Path) -> Path:
    return copy_of(killed, tmp_path)


def copy_of(killed: Path, folder: Path) -> Path:
    for part in PARTS:
        shutil.copy(killed.with_name(killed.name + part), folder)
    return folder / killed.name


def log_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def contents(path: Path) -> list[bytes]:
    return [path.with_name(path.name + part).read_bytes() for part in PARTS]


def refused(path: Path) -> str:
    """Return why the start refuses the journal, in one line, having left every byte of it as it was."""
    before = contents(path)
    with pytest.raises(SacdError) as caught:
        SqliteJournal.open(path, FixedClock())
    assert contents(path) == before
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def entries(path: Path) -> list[str]:
    return [entry.payload["fill_id"] for entry in read(path)]


ALL = [str(number) for number in range(1, IN_FILE + IN_LOG + 1)]


def test_what_a_kill_leaves_is_whole(path: Path) -> None:
    journal = SqliteJournal.open(path, FixedClock())
    assert journal.last_seq == IN_FILE + IN_LOG
    asyncio.run(journal.close())
    assert entries(path) == ALL


@pytest.mark.parametrize("frames", [0, 1, 5])
def test_a_log_that_lost_its_end_is_no_shorter_journal(path: Path, frames: int) -> None:
    os.truncate(log_of(path), LOG_HEAD + frames * FRAME if frames else 0)
    pattern = f"is damaged .it ends at entry {IN_FILE + frames}, and {WHOLE} entries were acknowledged"
    with pytest.raises(JournalDamaged, match=pattern):
        SqliteJournal.open(path, FixedClock())
    assert "run `sacd journal restore`" in refused(path)


def test_a_log_that_is_gone_is_no_shorter_journal(path: Path) -> None:
    log_of(path).unlink()
    with pytest.raises(JournalDamaged, match="ends at entry 400, and 420 entries were acknowledged"):
        SqliteJournal.open(path, FixedClock())


@pytest.mark.fault(50)
def test_one_bit_in_the_log_is_no_shorter_journal(path: Path) -> None:
    """SQLite ends the log at the first frame whose checksum is wrong, and says nothing."""
    flip(log_of(path), LOG_HEAD + 3 * FRAME + 700)
    assert "ends at entry 403, and 420 entries were acknowledged" in refused(path)


@pytest.mark.parametrize("state", ["empty", "gone"])
def test_a_file_that_vanished_begins_no_new_account(path: Path, state: str) -> None:
    for witness in (True, False):
        os.truncate(path, 0)
        if state == "gone":
            path.unlink()
        if not witness:
            path.with_name("journal.db.head").unlink()
        with pytest.raises(JournalDamaged, match=f"the file is {state}, and") as caught:
            SqliteJournal.open(path, FixedClock())
        assert ("420 entries were acknowledged" if witness else "its log journal.db-wal is not") in str(caught.value)
        assert log_of(path).stat().st_size > IN_LOG * FRAME
        path.touch()


def test_moving_everything_away_begins_a_new_account_as_the_message_says(path: Path, tmp_path: Path) -> None:
    os.truncate(path, 0)
    assert "move journal.db* away to begin a new account" in refused(path)
    away = tmp_path / "away"
    away.mkdir()
    for place in tmp_path.glob("journal.db*"):
        place.rename(away / place.name)
    write(path, 1)
    assert entries(path) == ["1"]


def test_another_journal_of_the_same_length_is_not_taken_for_it(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()

    async def session() -> None:
        journal = SqliteJournal.open(other / "journal.db", FixedClock())
        await journal.append([fill(number) for number in range(1001, 1421)])
        await journal.close()

    asyncio.run(session())
    shutil.copy(other / "journal.db", path)
    log_of(path).unlink()
    with pytest.raises(JournalDamaged, match="entry 420 is not the one that was acknowledged"):
        SqliteJournal.open(path, FixedClock())


@pytest.mark.parametrize("first_page", [b"\0" * PAGE, b"hello" * 1000])
def test_a_file_that_was_a_journal_is_not_another_programs(tmp_path: Path, first_page: bytes) -> None:
    path = tmp_path / "journal.db"
    write(path, WHOLE)
    content = first_page[:PAGE] + path.read_bytes()[PAGE:]
    path.write_bytes(content)
    with pytest.raises(JournalDamaged, match="is damaged"):
        SqliteJournal.open(path, FixedClock())
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("sql", "what"),
    [
        ("UPDATE events SET payload = '{}' WHERE seq = 50", "entry 50: hash chain broken"),
        ("UPDATE events SET at_ms = 1 WHERE seq = 1", "entry 1: hash chain broken"),
        ("DELETE FROM events WHERE seq = 50", "it holds 419 entries numbered from 1 to 420"),
        ("DELETE FROM events WHERE seq = 420", "it ends at entry 419, and 420 entries were acknowledged"),
        ("UPDATE events SET seq = -7 WHERE seq = 7", "it holds 420 entries numbered from -7 to 420"),
        ("ALTER TABLE events RENAME TO others", "no such table: events"),
    ],
)
def test_altered_entries_are_found_at_the_start(path: Path, sql: str, what: str) -> None:
    alter(path, sql)
    with pytest.raises(JournalDamaged, match=what):
        SqliteJournal.open(path, FixedClock())


def test_entries_before_the_tail_are_counted_at_the_start_and_proved_by_verify(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    write(path, TAIL_ROWS + 200)
    alter(path, "UPDATE events SET payload = '{}' WHERE seq = 100")
    inspect(path)
    assert verify(path).first_bad_seq == 100
    alter(path, "UPDATE events SET payload = '{}' WHERE seq = 201")
    with pytest.raises(JournalDamaged, match="entry 201: hash chain broken"):
        inspect(path)
    alter(path, "DELETE FROM events WHERE seq = 100")
    with pytest.raises(JournalDamaged, match="it holds 1199 entries numbered from 1 to 1200"):
        inspect(path)


def test_a_journal_without_a_witness_is_opened_and_gets_one(path: Path) -> None:
    path.with_name("journal.db.head").unlink()
    journal = SqliteJournal.open(path, FixedClock())
    head = read_head(path)
    assert head is not None
    assert head.seq == WHOLE
    asyncio.run(journal.close())


@pytest.mark.parametrize("torn", [b"", b"sacdhead", b"\xff" * 96])
def test_a_torn_witness_proves_nothing_and_is_replaced(path: Path, torn: bytes) -> None:
    path.with_name("journal.db.head").write_bytes(torn)
    assert read_head(path) is None
    journal = SqliteJournal.open(path, FixedClock())
    asyncio.run(journal.close())
    head = read_head(path)
    assert head is not None
    assert head.seq == WHOLE


async def test_the_witness_is_there_before_whoever_waits_is_told(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    journal = SqliteJournal.open(path, FixedClock())
    assert read_head(path) is None
    firsts = set()
    for number in (1, 2, 3):
        assert await journal.append([fill(number)]) == number
        head = read_head(path)
        assert head is not None
        assert (head.seq, head.hash.hex()) == (number, verify(path).head)
        firsts.add(head.first)
    assert len(firsts) == 1
    await journal.close()


async def test_a_witness_that_cannot_be_written_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "journal.db"
    journal = SqliteJournal.open(path, FixedClock())
    calls = []

    def fail(_self: HeadFile, head: Head) -> None:
        calls.append(head.seq)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(HeadFile, "note", fail)
    assert await journal.append([fill(1)]) == 1
    assert await journal.append([fill(2)]) == 2
    await journal.close()
    assert calls == [1]
    assert "journal_head_unwritable" in capsys.readouterr().out


# ---- fuzz -------------------------------------------------------------------------------------------------------
def flip(place: Path, offset: int, mask: int = 1) -> None:
    with place.open("r+b") as file:
        file.seek(offset)
        old = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([old ^ mask]))


def zero(place: Path, offset: int, length: int) -> None:
    with place.open("r+b") as file:
        file.seek(offset)
        file.write(b"\0" * length)


def damages(path: Path) -> Iterator[tuple[str, Callable[[Path], None]]]:
    """Yield what can happen to file and log: bits, bytes, sectors, pages, lengths; the same every time."""
    drawn = random.Random(4)
    sizes = {"": path.stat().st_size, "-wal": LOG_HEAD + IN_LOG * FRAME}
    for part, size in sizes.items():

        def at(folder: Path, part: str = part) -> Path:
            return folder.with_name(folder.name + part)

        for _ in range(60):
            offset, mask = drawn.randrange(size), 1 << drawn.randrange(8)
            yield f"bit {part} {offset}", lambda p, o=offset, m=mask, at=at: flip(at(p), o, m)  # type: ignore[misc]
        for offset in range(100):
            if part == "" and drawn.random() < 0.4:  # the header of the file, where every byte means something
                yield f"head {offset}", lambda p, o=offset, at=at: flip(at(p), o, 0xFF)  # type: ignore[misc]
        for length in (1, 8, 512, PAGE):
            for _ in range(8):
                offset = drawn.randrange(0, size, length)
                yield f"zero {part} {offset} {length}", lambda p, o=offset, n=length, at=at: zero(at(p), o, n)  # type: ignore[misc]
        lengths = {0, 1, 50, 99, 100, PAGE - 1, PAGE, size - 1, size - 512, size // 2}
        lengths |= {drawn.randrange(size) for _ in range(15)}
        if part:
            lengths |= {LOG_HEAD - 1, LOG_HEAD, LOG_HEAD + 23, LOG_HEAD + FRAME, LOG_HEAD + FRAME + 1}
        for length in sorted(lengths):
            yield f"cut {part} {length}", lambda p, n=length, at=at: os.truncate(at(p), n)  # type: ignore[misc]


def refusal(path: Path) -> str:
    try:
        inspect(path)
    except (FatalError, ConfigError) as error:
        return str(error)
    return ""


@pytest.mark.fault(50)
def test_whatever_happens_to_the_files_all_entries_are_there_or_the_start_is_refused(killed: Path) -> None:
    outcomes = {"whole": 0, "refused": 0}
    for name, damage in damages(killed):
        with tempfile.TemporaryDirectory() as folder:
            path = copy_of(killed, Path(folder))
            damage(path)
            before = contents(path)
            message = refusal(path)
            assert contents(path) == before, name
            outcomes["refused" if message else "whole"] += 1
            if message:
                assert "\n" not in message, name
                assert path.name in message, name
            else:
                assert entries(path) == ALL, name
                assert verify(path).is_sound, name
    assert outcomes["whole"] >= 20
    assert outcomes["refused"] >= 150


# ---- who may do what --------------------------------------------------------------------------------------------
NOBODY = 65534


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory that another user reaches; pytest's own are closed to others."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
        folder.chmod(0o755)


@pytest.fixture
def as_nobody() -> Iterator[Callable[[], None]]:
    """Give up root's right to write everywhere, when told; others have none to give up."""
    is_root = os.geteuid() == 0

    def drop() -> None:
        if is_root:
            os.seteuid(NOBODY)

    yield drop
    if is_root:
        os.seteuid(0)


CASES = {
    "directory closed": ("directory", 0o000),
    "directory without entry": ("directory", 0o666),
    "directory read-only": ("directory", 0o555),
    "journal read-only": ("journal.db", 0o444),
    "journal closed": ("journal.db", 0o000),
    "journal write-only": ("journal.db", 0o222),
    "log read-only": ("journal.db-wal", 0o444),
    "log closed": ("journal.db-wal", 0o000),
    "witness read-only": ("journal.db.head", 0o444),
    "witness closed": ("journal.db.head", 0o000),
    "lock read-only": ("journal.db.lock", 0o444),
    "lock closed": ("journal.db.lock", 0o000),
    "mark closed": ("journal.db.restored.json", 0o000),
}


@pytest.mark.fault(52)
@pytest.mark.parametrize(("name", "mode"), CASES.values(), ids=CASES)
def test_whatever_may_not_be_used_is_one_line_and_exit_78(
    killed: Path, shared: Path, as_nobody: Callable[[], None], name: str, mode: int
) -> None:
    path = copy_of(killed, shared)
    shared.joinpath("journal.db.lock").touch()
    if "restored" in name:
        (shared / name).touch()
    for place in shared.iterdir():
        place.chmod(0o666)
    shared.chmod(0o777)
    (shared if name == "directory" else shared / name).chmod(mode)
    as_nobody()
    with pytest.raises(ConfigError) as caught:
        SqliteJournal.open(path, FixedClock())
    assert caught.value.exit_code == 78
    message = str(caught.value)
    assert "\n" not in message
    assert str(shared) in message


@pytest.mark.fault(52)
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody else")
def test_a_journal_of_another_user_is_one_line_and_exit_78(
    killed: Path, shared: Path, as_nobody: Callable[[], None]
) -> None:
    path = copy_of(killed, shared)
    for place in shared.iterdir():
        place.chmod(0o600)
    shared.chmod(0o777)
    as_nobody()
    with pytest.raises(ConfigError) as caught:
        SqliteJournal.open(path, FixedClock())
    assert caught.value.exit_code == 78
    assert "\n" not in str(caught.value)
