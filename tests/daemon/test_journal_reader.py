import asyncio
import hashlib
import io
import json
import re
import sqlite3
import struct
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from daemon.errors import DataError, FatalError
from daemon.journal import SqliteJournal
from daemon.journal_reader import Verification, export, last_of_kind, read, tail, verify
from daemon.ports import Record
from tests.contracts.journal import fill
from tests.daemon.journals import NOW_MS, ROOT, FixedClock, alter, write


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
async def journal(path: Path) -> AsyncIterator[SqliteJournal]:
    opened = SqliteJournal.open(path, FixedClock())
    yield opened
    await opened.close()


async def test_read_selects_by_seq_kind_and_limit(journal: SqliteJournal, path: Path) -> None:
    kinds = ["run", "candle", "decision", "candle", "decision", "stop"]
    await journal.append([Record(kind=kind, payload={"n": n}) for n, kind in enumerate(kinds)])
    assert [entry.seq for entry in read(path, after=2)] == [3, 4, 5, 6]
    assert [entry.seq for entry in read(path, kinds={"candle", "stop"})] == [2, 4, 6]
    assert [entry.seq for entry in read(path, after=2, kinds={"candle", "decision"}, limit=2)] == [3, 4]
    assert list(read(path, limit=0)) == []
    assert [entry.seq for entry in tail(path, 2)] == [5, 6]
    assert [entry.seq for entry in tail(path, 99)] == [1, 2, 3, 4, 5, 6]
    assert tail(path, 0) == []
    last = last_of_kind(path, "decision")
    assert last is not None
    assert (last.seq, last.payload) == (5, {"n": 4})
    assert last_of_kind(path, "risk") is None


async def test_reading_pages_through_more_than_one_page(journal: SqliteJournal, path: Path) -> None:
    await journal.append([fill(number) for number in range(1, 2502)])
    assert [entry.seq for entry in read(path)] == list(range(1, 2502))
    assert [entry.seq for entry in read(path, kinds=["fill"], after=2490)] == list(range(2491, 2502))


async def test_a_slow_reader_does_not_keep_the_log_growing(journal: SqliteJournal, path: Path) -> None:
    await journal.append([fill(number) for number in range(3000)])
    reader = read(path)
    next(reader)
    for _ in range(6):
        await journal.append([Record(kind="decision", payload={"row": "x" * 2_000_000})])
    log = path.with_name("journal.db-wal")
    assert log.stat().st_size < 10_000_000  # 12 MB went through it
    assert sum(1 for _ in reader) == 3005  # and the reader sees what came while it read


async def test_readers_see_whole_appends_while_the_daemon_writes(journal: SqliteJournal, path: Path) -> None:
    program = (
        "import sys; from daemon.journal_reader import read, verify\n"
        "print('ready', flush=True)\n"
        "while True:\n"
        "    found = verify(sys.argv[1]); assert found.is_sound, found\n"
        "    count = sum(1 for _ in read(sys.argv[1])); assert count % 3 == 0, count\n"
        "    assert count >= found.entries\n"
        "    if count == 900: break\n"
    )
    reader = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(path), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert reader.stdout is not None
    assert await reader.stdout.readline() == b"ready\n"
    for number in range(300):
        await journal.append([fill(number)] * 3)
    assert await asyncio.wait_for(reader.wait(), 30) == 0


async def test_export_writes_one_json_object_a_line(journal: SqliteJournal, path: Path) -> None:
    await journal.append([Record(kind="run", payload={"version": "0.1.0"}), fill(1)])
    out = io.StringIO()
    assert export(path, out) == 2
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [list(line) for line in lines] == [["seq", "at_ms", "kind", "payload", "hash"]] * 2
    assert lines[0]["payload"] == {"version": "0.1.0"}
    assert lines[1]["hash"] == verify(path).head
    assert export(path, io.StringIO(), kinds=["fill"]) == 1


def test_reading_leaves_a_cleanly_closed_journal_as_it_is(path: Path) -> None:
    write(path, 3)
    before = path.read_bytes()
    assert len(list(read(path))) == 3
    assert verify(path).is_sound
    assert path.read_bytes() == before


def test_reading_what_is_not_there_names_path_and_remedy(path: Path) -> None:
    for attempt in (lambda: list(read(path)), lambda: tail(path, 1), lambda: verify(path)):
        with pytest.raises(DataError, match=rf"no journal at {re.escape(str(path))}: start `sacd run`"):
            attempt()
    assert not path.exists()


def test_an_unknown_kind_is_refused_when_reading(path: Path) -> None:
    write(path, 1)
    with pytest.raises(DataError, match="no journal kind 'kline': one of candle, checkpoint"):
        list(read(path, kinds=["kline"]))
    with pytest.raises(DataError, match="no journal kind 'kline'"):
        last_of_kind(path, "kline")


@pytest.mark.parametrize("content", [b"", b"hello, world\n" * 1000, b"SQLite format 3\0" + b"\xff" * 5000])
def test_reading_a_file_that_is_no_journal_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(DataError, match=re.escape(str(path))):
        list(read(path))
    with pytest.raises(DataError, match=re.escape(str(path))):
        verify(path)


def test_every_altered_byte_of_a_payload_is_found_and_named(path: Path) -> None:
    write(path, 7)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        [[payload]] = connection.execute("SELECT payload FROM events WHERE seq = 4").fetchall()
        for place in range(len(payload)):
            other = payload[:place] + chr(ord(payload[place]) ^ 1) + payload[place + 1 :]
            connection.execute("UPDATE events SET payload = ? WHERE seq = 4", (other,))
            found = verify(path)
            assert (found.entries, found.first_bad_seq) == (3, 4)
            assert found.reason.startswith("hash chain broken")
        connection.execute("UPDATE events SET payload = ? WHERE seq = 4", (payload,))
    assert verify(path).is_sound


@pytest.mark.parametrize(
    ("sql", "bad_seq", "reason"),
    [
        ("UPDATE events SET at_ms = at_ms + 1 WHERE seq = 5", 5, "hash chain broken"),
        ("UPDATE events SET kind = 'order' WHERE seq = 5", 5, "hash chain broken"),
        ("UPDATE events SET hash = zeroblob(32) WHERE seq = 5", 5, "hash chain broken"),
        ("UPDATE events SET hash = x'' WHERE seq = 1", 1, "hash chain broken"),
        ("UPDATE events SET kind = printf('%300s', '') WHERE seq = 5", 5, "unreadable"),
        ("UPDATE events SET payload = CAST(x'ff' AS TEXT) WHERE seq = 5", 5, "hash chain broken"),
        ("DELETE FROM events WHERE seq = 5", 5, "seq hole: 5 is missing"),
        ("DELETE FROM events WHERE seq = 1", 1, "seq hole: 1 is missing"),
        ("UPDATE events SET seq = -5 WHERE seq = 5", -5, "seq hole: 1 is missing, -5 follows 0"),
        ("UPDATE events SET seq = 1000000000000 WHERE seq = 7", 7, "seq hole: 7 is missing"),
    ],
)
def test_verify_names_the_first_bad_entry(path: Path, sql: str, bad_seq: int, reason: str) -> None:
    write(path, 7)
    alter(path, sql)
    found = verify(path)
    assert found.first_bad_seq == bad_seq
    assert found.reason.startswith(reason)
    assert not found.is_sound


def test_a_payload_that_was_never_json_is_named(path: Path) -> None:
    write(path, 1)
    head = b"\0" * 32 + struct.pack(">qqB", 1, NOW_MS, 4) + b"fill"
    alter(path, "UPDATE events SET payload = '[1]', hash = ?", hashlib.sha256(head + b"[1]").digest())
    assert verify(path).reason.startswith("unreadable: journal entry 1: payload is not a JSON object")
    alter(path, "UPDATE events SET payload = '{', hash = ?", hashlib.sha256(head + b"{").digest())
    assert verify(path).first_bad_seq == 1
    with pytest.raises(DataError, match=r"journal entry 1: payload is not JSON .*sacd journal verify"):
        list(read(path))


def test_a_byte_flipped_in_the_file_is_found(path: Path) -> None:
    write(path, 7)
    content = bytearray(path.read_bytes())
    place = content.index(b'"fill_id":"5"') + len('"fill_id":"')
    content[place] ^= 1
    path.write_bytes(content)
    assert verify(path).first_bad_seq == 5


def test_a_damaged_page_is_an_answer_and_not_a_traceback(path: Path) -> None:
    write(path, 500)
    content = bytearray(path.read_bytes())
    content[4096 * 3 : 4096 * 4] = b"\xa5" * 4096
    path.write_bytes(content)
    found = verify(path)
    assert not found.is_sound
    assert found.first_bad_seq == found.entries + 1
    with pytest.raises(FatalError, match="damaged"):
        SqliteJournal.open(path, FixedClock())


def test_verify_reports_progress_to_the_last_entry(path: Path) -> None:
    write(path, 2500)
    told: list[tuple[int, int]] = []
    assert verify(path, lambda done, total: told.append((done, total))).entries == 2500
    assert told == [(1000, 2500), (2000, 2500), (2500, 2500)]


async def test_an_empty_journal_is_sound(journal: SqliteJournal, path: Path) -> None:
    assert journal.last_seq == 0
    assert verify(path) == Verification(entries=0, head="00" * 32)
