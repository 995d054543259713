"""What is looked at before a journal is opened for writing: whether it is ours, whole, and has its end.

Reads only. SQLite repairs silently when it opens for writing, and what it takes for rubbish is gone afterwards.
"""

import contextlib
import sqlite3
from pathlib import Path

from daemon.errors import ConfigError, FatalError, SacdError
from daemon.journal_chain import Chain, last_rows, rows_after
from daemon.journal_head import Head, head_path, read_head
from daemon.journal_restored import restored_marker
from daemon.journal_schema import check_owner, check_version, damaged, migrations

TAIL_ROWS = 1000
"""So many of the last entries are proved by their hashes at every start; a backup proves all of them."""

_EMPTY_BYTES = 1
"""SQLite takes a file of one byte for an empty one, and deletes its log."""

_NO_ACCESS = ("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH")
_DAMAGED = ("SQLITE_CORRUPT", "SQLITE_ERROR", "SQLITE_MISMATCH", "SQLITE_IOERR_SHORT_READ")
"""SQLITE_ERROR: the file's own text of its schema cannot be read, or lacks the table."""


def inspect(path: Path) -> None:
    """Prove that the journal at `path` can be opened, or that there is none yet, and change nothing.

    Raises ConfigError when the file is not ours or may not be read, JournalDamaged when bytes, entries or its end are
    lost or a restore was cut short, FatalError when its schema is newer.
    """
    marker = restored_marker(path)
    if marker is not None and not marker.is_done:
        raise damaged(path, "a restore was cut short")
    head = read_head(path)
    if not path.exists() or path.stat().st_size <= _EMPTY_BYTES:
        _check_absent(path, head)
        return
    uri = f"{path.as_uri()}?mode=ro"
    try:
        with contextlib.closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
            connection.text_factory = bytes
            if _is_ours(connection, path, head):
                _check_pages(connection, path)
                _check_entries(connection, path, head)
    except sqlite3.Error as error:
        raise explain(path, error, head) from error


def _check_absent(path: Path, head: Head | None) -> None:
    """Refuse to begin anew where a journal was: SQLite would delete its log."""
    state = "empty" if path.exists() else "gone"
    if head is not None:
        raise damaged(path, f"the file is {state}, and {head.seq} entries were acknowledged, says {head_path(path)}")
    log = path.with_name(path.name + "-wal")
    if log.exists() and log.stat().st_size:
        raise damaged(path, f"the file is {state}, and its log {log.name} is not")


def _is_ours(connection: sqlite3.Connection, path: Path, head: Head | None) -> bool:
    """Return False for a file in which nothing was made yet."""
    try:
        check_owner(connection, path, may_be_empty=head is None)
    except ConfigError as error:
        if head is None:
            raise
        raise damaged(path, "its first page is not that of a journal") from error
    version = check_version(connection, path, known=migrations()[-1][0])
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if version < 1 and tables:
        raise damaged(path, f"it holds tables, and no schema has the number {version}")
    return version > 0


def _check_pages(connection: sqlite3.Connection, path: Path) -> None:
    faults = [row[0].decode("utf-8", "replace") for row in connection.execute("PRAGMA quick_check(3)")]
    if faults != ["ok"]:
        raise damaged(path, "; ".join(" ".join(fault.split()) for fault in faults))


def _check_entries(connection: sqlite3.Connection, path: Path, head: Head | None) -> None:
    count, first, last = connection.execute("SELECT count(*), min(seq), max(seq) FROM events").fetchone()
    if count and (first, last) != (1, count):
        raise damaged(path, f"it holds {count} entries numbered from {first} to {last}")
    rows = last_rows(connection, TAIL_ROWS + 1)
    chain = Chain()
    if len(rows) > TAIL_ROWS:
        chain = Chain(rows[0].seq, rows.pop(0).hash)
    for row in rows:
        fault = chain.fault_of(row)
        if fault:
            raise damaged(path, f"entry {row.seq}: {fault}")
    if head is not None:
        _check_head(connection, path, head, last or 0)


def _check_head(connection: sqlite3.Connection, path: Path, head: Head, last: int) -> None:
    """Compare with the witness: the chain alone cannot show that its end is missing."""
    if last < head.seq:
        raise damaged(
            path, f"it ends at entry {last}, and {head.seq} entries were acknowledged, says {head_path(path)}"
        )
    row = next(rows_after(connection, head.seq - 1, page_rows=1))
    if row.hash != head.hash:
        raise damaged(path, f"entry {head.seq} is not the one that was acknowledged, says {head_path(path)}")


def explain(path: Path, error: sqlite3.Error, head: Head | None) -> SacdError:
    """Return the error of ours that says who has to act on what SQLite reported at start."""
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith("SQLITE_NOTADB") and head is None:
        return ConfigError(f"{path} is not a journal of sacd ({error}): move it away, or name another journal")
    if name.startswith(_NO_ACCESS):
        return ConfigError(f"journal {path} cannot be written ({error}): change owner or mode of file and directory")
    if name.startswith("SQLITE_BUSY"):
        return ConfigError(f"journal {path} is held by another program ({error}): close it, then start again")
    if not name or name.startswith(("SQLITE_NOTADB", *_DAMAGED)):
        return damaged(path, str(error))
    return FatalError(f"journal {path} cannot be opened ({error}): check free space and health of the disk")
