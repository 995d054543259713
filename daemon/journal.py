"""The journal's writer: what is not on disk did not happen.

One SQLite file in WAL mode with `synchronous=FULL`, one writing connection, one thread that owns it and also
checkpoints it: SQLite before 3.51.3 can lose a checkpoint when two connections write (sqlite.org/wal.html, "the
WAL-reset bug"). Reading lives in journal_reader.py and never needs this file.

Measured on ext4: a multi-row INSERT is one statement, so one trip through the interpreter lock, and costs a third less
than BEGIN, executemany, COMMIT. A decision is journalled in 1.5 to 1.8 fdatasyncs of 200 bytes; committing on the loop
itself would take 1.2 to 1.4, but a disk that stalls would then stall feeds and control too.
"""

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple, Self

import structlog

from daemon.errors import FatalError
from daemon.journal_file import JournalFile, open_file
from daemon.journal_format import GENESIS, KINDS, encode, link
from daemon.journal_head import Head
from daemon.ports import Clock, Record

__all__ = ["KINDS", "SqliteJournal"]

_log = structlog.get_logger()

_VALUES_PER_STATEMENT = 500
"""Larger groups are cut: some builds of SQLite bind no more than 999 values to a statement."""

SLOW_S = 1.0
"""A commit that takes longer is reported: a disk like that will not keep up when it matters."""

_NO_ROOM = ("SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE")
"""What a full disk, a quota and a file that may not grow give. Never a failed sync: what it leaves is not known."""

_Value = int | str | bytes


_IN_PLACE_S = 0.002
"""How long an append holds the loop for its commit before it lets others run. A healthy disk is done in a tenth of
that, and waking through the loop would cost half as much again; a slow one must not stall feeds and control."""


class _Append(NamedTuple):
    """Records on their way to the writer's thread, encoded, and who waits for them.

    committed: released once they are on disk, when `seqs` holds the last of theirs; left alone by a failure.
    """

    at_ms: int
    records: list[tuple[str, str]]
    done: asyncio.Future[int]
    committed: threading.Lock
    seqs: list[int]


class SqliteJournal:
    """The journal of one daemon; implements `ports.Journal`. Used from one event loop."""

    def __init__(self, file: JournalFile, clock: Clock) -> None:
        self.commit_seconds: Callable[[float], None] | None = None
        """Told the seconds of each commit, on the event loop, after those who waited for it."""
        self.on_slow: Callable[[float], None] | None = None
        """Told the seconds of a commit that took more than one, on the event loop."""
        self.on_low: Callable[[str], None] | None = None
        """Told, once and in words, that the disk is full and the reserve is being used up, on the event loop."""
        self._file = file
        self._clock = clock
        self._last_seq, self._last_hash = _last_row(file.connection)
        self._first_hash = _hash_of(file.connection, 1)
        self._is_low = False
        self._has_told_low = False
        self._is_witnessed = True
        if self._last_seq:
            self._witness()
            file.head.sync()
        self._failure: str | None = None
        self._is_closing = False
        self._queue: SimpleQueue[_Append | None] = SimpleQueue()
        # A daemon thread: an interpreter that ends without close() must not hang; unacknowledged records are lost,
        # as in a crash.
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    @classmethod
    def open(cls, path: str | Path, clock: Clock, ballast_bytes: int = 0) -> Self:
        """Open or create the journal at `path` and start its writer. Raises ConfigError or FatalError.

        ballast_bytes: room to hold in reserve, given up when the disk is full.
        """
        file = open_file(Path(path), ballast_bytes)
        journal = cls(file, clock)
        _log.info("journal_opened", path=str(path), last_seq=journal.last_seq, sqlite=sqlite3.sqlite_version)
        return journal

    @property
    def last_seq(self) -> int:
        """Seq of the last record on disk; 0 while the journal is empty."""
        return self._last_seq

    @property
    def is_low(self) -> bool:
        """True once the disk was full and the reserve was given up: nothing that can wait may be begun."""
        return self._is_low

    async def refill(self) -> bool:
        """Take the reserve anew where there is room for it; return whether it is there, and `is_low` ends."""
        if not await asyncio.to_thread(self._file.ballast.fill):
            return False
        self._is_low = self._has_told_low = False
        return True

    async def append(self, records: Sequence[Record]) -> int:
        """Write all records in one transaction and return the last seq once they are on disk.

        Appends reach the disk in the order of the calls; those that queue up while the disk works share a commit.
        One that is cancelled while it waits may still be written. No records: nothing is written.
        Raises FatalError for an unknown kind, a payload that is not plain finite JSON, after close, and when the disk
        fails; after a failed disk nothing is written any more.
        """
        encoded = [encode(record) for record in records]
        if not encoded and not self._is_closing:
            return self._last_seq
        append = self._hand_over(encoded)
        if append.committed.acquire(timeout=_IN_PLACE_S):
            return append.seqs[0]
        return await append.done

    async def answer(self) -> None:
        """Return once the writer's thread has dealt with everything it was given before; writes nothing.

        Raises FatalError after close, and when the disk has failed.
        """
        await self._hand_over([]).done

    def _hand_over(self, encoded: list[tuple[str, str]]) -> _Append:
        if self._is_closing:
            raise FatalError(f"journal {self._file.path} is closed: nothing can be appended")
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        append = _Append(self._clock.now_ms(), encoded, done, threading.Lock(), [])
        append.committed.acquire()
        self._queue.put(append)
        return append

    async def close(self) -> None:
        """Write what is queued and release the file; idempotent."""
        if not self._is_closing:
            self._is_closing = True
            self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    # ---- the writer's thread ------------------------------------------------------------------------------------
    def _run(self) -> None:
        is_open = True
        try:
            while is_open:
                appends, is_open = self._take_group()
                if appends:
                    self._write(appends)
        finally:
            self._file.close()

    def _take_group(self) -> tuple[list[_Append], bool]:
        """Wait for an append and return it with all that queued up meanwhile; False once there will be no more."""
        group: list[_Append] = []
        append = self._queue.get()
        while append is not None:
            group.append(append)
            if self._queue.empty():
                return group, True
            append = self._queue.get()
        return group, False

    def _write(self, group: Sequence[_Append]) -> None:
        """Commit the group as one and tell everyone who waits; after a failure nothing is tried again."""
        started_s = self._clock.monotonic_s()
        seqs: list[int] = []
        if self._failure is None:
            try:
                seqs = self._commit_in_reserve(group)
            except Exception as error:  # noqa: BLE001 - a thread cannot raise to its callers: each of them is told
                self._failure = f"journal {self._file.path} cannot be written ({error}): check the disk, then restart"
        seconds = self._clock.monotonic_s() - started_s
        for append, seq in zip(group, seqs, strict=False):  # no seqs after a failure: then only the futures tell
            append.seqs.append(seq)
            append.committed.release()
        # One call for the whole group, and nothing after it: whatever this thread still did would hold the
        # interpreter lock that the loop needs to go on.
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody is left who waits
            group[0].done.get_loop().call_soon_threadsafe(self._answer, group, seqs, seconds)

    def _commit_in_reserve(self, group: Sequence[_Append]) -> list[int]:
        """Commit; when the disk is full, give up the reserve and try once more."""
        try:
            return self._commit(group)
        except sqlite3.Error as error:
            if not getattr(error, "sqlite_errorname", "").startswith(_NO_ROOM) or not self._file.ballast.free():
                raise
        self._is_low = True
        return self._commit(group)

    def _commit(self, group: Sequence[_Append]) -> list[int]:
        """Return the last seq of each append once all of them are on disk."""
        seq, previous = self._last_seq, self._last_hash
        seqs: list[int] = []
        values: list[_Value] = []
        for append in group:
            for kind, payload in append.records:
                seq += 1
                previous = link(previous, seq, append.at_ms, kind.encode("ascii"), payload.encode("ascii"))
                values += (seq, append.at_ms, kind, payload, previous)
            seqs.append(seq)
        if not values:
            return seqs  # somebody only wants to know whether we answer
        _insert(self._file.connection, values)
        self._last_seq, self._last_hash = seq, previous
        if self._first_hash is None:
            self._first_hash = _hash_of(self._file.connection, 1)
        self._witness()
        return seqs

    def _witness(self) -> None:
        """Note the last entry outside the journal. The entry is durable already: a note that fails only grows old."""
        if self._first_hash is None or not self._is_witnessed:
            return
        try:
            self._file.head.note(Head(seq=self._last_seq, hash=self._last_hash, first=self._first_hash))
        except OSError as error:
            self._is_witnessed = False
            _log.warning("journal_head_unwritable", path=str(self._file.path), reason=error.strerror)

    # ---- the event loop again -----------------------------------------------------------------------------------
    def _answer(self, group: Sequence[_Append], seqs: Sequence[int], seconds: float) -> None:
        """Tell everyone who waits, except those cancelled meanwhile. No seqs: the commit failed."""
        for index, append in enumerate(group):
            if append.done.done():
                continue
            if seqs:
                append.done.set_result(seqs[index])
            else:
                append.done.set_exception(FatalError(self._failure))
        if self._is_low and not self._has_told_low:
            self._tell_low()
        records = sum(len(append.records) for append in group)
        if not seqs or not records:
            return
        if self.commit_seconds is not None:
            self.commit_seconds(seconds)
        if seconds > SLOW_S:
            _log.warning("journal_slow", seconds=seconds, records=records)
            if self.on_slow is not None:
                self.on_slow(seconds)

    def _tell_low(self) -> None:
        self._has_told_low = True
        message = f"the disk of {self._file.path} is full: the reserve is being used up, make room"
        _log.error("journal_low", path=str(self._file.path), reason=message)
        if self.on_low is not None:
            self.on_low(message)


def _hash_of(connection: sqlite3.Connection, seq: int) -> bytes | None:
    row = connection.execute("SELECT hash FROM events WHERE seq = ?", (seq,)).fetchone()
    return None if row is None else bytes(row[0])


def _last_row(connection: sqlite3.Connection) -> tuple[int, bytes]:
    row = connection.execute("SELECT seq, hash FROM events ORDER BY seq DESC LIMIT 1").fetchone()
    return (0, GENESIS) if row is None else (int(row[0]), bytes(row[1]))


def _insert(connection: sqlite3.Connection, values: Sequence[_Value]) -> None:
    """Insert rows, five values each, in one durable transaction; none of them when it fails."""
    chunks = [values[start : start + _VALUES_PER_STATEMENT] for start in range(0, len(values), _VALUES_PER_STATEMENT)]
    if len(chunks) == 1:  # a statement outside a transaction is one
        connection.execute(_insert_sql(len(values) // 5), chunks[0])
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for chunk in chunks:
            connection.execute(_insert_sql(len(chunk) // 5), chunk)
        connection.execute("COMMIT")
    except sqlite3.Error:
        connection.rollback()
        raise


@cache
def _insert_sql(rows: int) -> str:
    places = ", ".join(["(?, ?, ?, ?, ?)"] * rows)
    return f"INSERT INTO events (seq, at_ms, kind, payload, hash) VALUES {places}"  # noqa: S608 - only places for values
