import asyncio
import hashlib
import sqlite3
import struct
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.errors import FatalError
from daemon.journal import SqliteJournal
from daemon.journal_reader import Verification, read, tail, verify
from daemon.ports import Record
from tests.contracts.journal import JournalContract, Subject, fill
from tests.daemon.journals import NOW_MS, FixedClock, write
from tests.fakes.journal import MemoryJournal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
async def journal(path: Path) -> AsyncIterator[SqliteJournal]:
    opened = SqliteJournal.open(path, FixedClock())
    yield opened
    await opened.close()


class TestSqliteJournal(JournalContract):
    @pytest.fixture
    def subject(self, journal: SqliteJournal, path: Path) -> Subject:
        return Subject(journal=journal, now_ms=NOW_MS, entries=lambda: list(read(path)))


class TestMemoryJournal(JournalContract):
    @pytest.fixture
    def subject(self) -> Subject:
        journal = MemoryJournal(FixedClock())
        return Subject(journal=journal, now_ms=NOW_MS, entries=lambda: journal.entries)


async def test_the_file_is_durable_by_its_settings(journal: SqliteJournal) -> None:
    connection = journal._file.connection
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL, sqlite.org/pragma.html


def test_the_file_says_whose_it_is(path: Path) -> None:
    write(path, 1)
    header = path.read_bytes()[:100]
    assert header[68:72] == b"sacd"  # application id and user version: sqlite.org/fileformat.html
    assert header[60:64] == b"\0\0\0\1"


async def test_the_hash_chain_is_the_documented_one(journal: SqliteJournal, path: Path) -> None:
    await journal.append([Record(kind="run", payload={"b": 1, "a": 0.1}), Record(kind="stop", payload={})])
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        rows = connection.execute("SELECT payload, hash FROM events ORDER BY seq").fetchall()
    first = b"\0" * 32 + struct.pack(">q", 1) + struct.pack(">q", NOW_MS) + b"\x03" + b'run{"a":0.1,"b":1}'
    first_hash = hashlib.sha256(first).digest()
    second = first_hash + struct.pack(">q", 2) + struct.pack(">q", NOW_MS) + b"\x04" + b"stop{}"
    assert rows == [('{"a":0.1,"b":1}', first_hash), ("{}", hashlib.sha256(second).digest())]
    assert verify(path).head == hashlib.sha256(second).hexdigest()


async def test_a_reopened_journal_continues_seq_and_chain(path: Path) -> None:
    await asyncio.to_thread(write, path, 3)
    journal = SqliteJournal.open(path, FixedClock())
    assert journal.last_seq == 3
    assert await journal.append([fill(4)]) == 4
    await journal.close()
    assert verify(path) == Verification(entries=4, head=verify(path).head)


async def test_a_batch_of_thousands_is_one_transaction(journal: SqliteJournal, path: Path) -> None:
    assert await journal.append([fill(number) for number in range(5000)]) == 5000
    assert verify(path).entries == 5000


@pytest.fixture
def slow_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every commit takes longer than an append waits for it in place."""
    monkeypatch.setattr("daemon.journal._IN_PLACE_S", 0.0)


@pytest.mark.usefixtures("slow_disk")
async def test_appends_that_queue_up_share_commits(journal: SqliteJournal) -> None:
    commits: list[float] = []
    journal.commit_seconds = commits.append
    await asyncio.gather(*(journal.append([fill(number)]) for number in range(200)))
    await asyncio.sleep(0)
    assert 1 <= len(commits) < 100
    assert set(commits) == {0.0}  # by the clock of this test


async def test_an_append_that_is_quickly_on_disk_lets_nobody_run_before_it(
    journal: SqliteJournal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.journal._IN_PLACE_S", 60.0)
    ran: list[int] = []
    asyncio.get_running_loop().call_soon(ran.append, 1)
    assert await journal.append([fill(1)]) == 1
    assert not ran
    assert verify(path).entries == 1


@pytest.mark.usefixtures("slow_disk")
async def test_a_cancelled_append_does_not_stop_the_others(journal: SqliteJournal) -> None:
    first = asyncio.ensure_future(journal.append([fill(1)]))
    await asyncio.sleep(0)
    first.cancel()
    assert await journal.append([fill(2)]) == 2
    assert first.cancelled()


async def test_last_seq_counts_only_what_is_on_disk(journal: SqliteJournal) -> None:
    assert journal.last_seq == 0
    await journal.append([fill(1), fill(2)])
    assert journal.last_seq == 2


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def test_every_json_payload_comes_back_bit_for_bit(path: Path) -> None:
    with asyncio.Runner() as runner:
        journal = SqliteJournal.open(path, FixedClock())

        @settings(max_examples=60, deadline=None)
        @given(payloads=st.lists(st.dictionaries(st.text(), JSON_VALUES, max_size=5), min_size=1, max_size=5))
        def journey(payloads: list[dict[str, object]]) -> None:
            runner.run(journal.append([Record(kind="decision", payload=payload) for payload in payloads]))
            got = [entry.payload for entry in tail(path, len(payloads))]
            assert repr(got) == repr(_sorted(payloads))  # repr: -0.0 and 0.0 are equal, and not the same

        journey()
        runner.run(journal.close())
    assert verify(path).is_sound


def _sorted(value: object) -> object:
    match value:
        case dict():
            return {key: _sorted(value[key]) for key in sorted(value)}
        case list():
            return [_sorted(item) for item in value]
        case _:
            return value


# ---- whether it answers -------------------------------------------------------------------------------------------
async def test_an_answer_comes_behind_what_was_asked_before_and_leaves_nothing_on_disk(
    journal: SqliteJournal, path: Path
) -> None:
    await journal.append([fill(1)])
    await journal.answer()  # what is told of the first commit has been told, then
    commits: list[float] = []
    journal.commit_seconds = commits.append
    slow = threading.Event()
    commit = journal._commit
    journal._commit = lambda group: (slow.wait(60.0), commit(group))[1]  # type: ignore[method-assign]
    asked = asyncio.create_task(journal.answer())
    await asyncio.sleep(0.05)
    assert not asked.done()
    slow.set()
    await asked
    assert (verify(path).entries, journal.last_seq, commits) == (1, 1, [])
    assert await journal.append([fill(2)]) == 2


async def test_answers_and_appends_that_share_a_turn_of_the_thread_keep_their_numbers(
    journal: SqliteJournal, path: Path
) -> None:
    told = await asyncio.gather(
        *(journal.answer() if number % 3 else journal.append([fill(number)]) for number in range(60))
    )
    assert [seq for seq in told if seq is not None] == list(range(1, 21))
    assert verify(path).is_sound


async def test_a_journal_that_is_closed_or_whose_disk_failed_gives_no_answer_but_an_error(
    journal: SqliteJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_group: object) -> list[int]:
        raise OSError("gone")

    monkeypatch.setattr(journal, "_commit", fail)
    with pytest.raises(FatalError, match="cannot be written"):
        await journal.append([fill(1)])
    with pytest.raises(FatalError, match="cannot be written"):
        await journal.answer()
    await journal.close()
    with pytest.raises(FatalError, match="closed"):
        await journal.answer()
