"""Reads a journal, also while a daemon writes it: opens it read-only and never holds it.

Rows are fetched a page at a time, each page in a transaction of its own: a long read transaction would keep the
writer from starting its log anew, and the log would grow. What is appended meanwhile is read too.
"""

import contextlib
import json
import sqlite3
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TextIO

from daemon.errors import ConfigError, DataError, SacdError
from daemon.journal_chain import PAGE_ROWS, SELECT, Chain, Row, last_rows, rows_after
from daemon.journal_format import KINDS, decode
from daemon.journal_schema import check_owner, check_version, migrations
from daemon.ports import Entry

_BACKWARDS_ROWS = 100
_BEFORE_ALL = -(1 << 63)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What a check of the whole journal found.

    entries: sound entries.  first_bad_seq: the first that is not as it was written (of a hole, the first that is
    missing), None when there is none or the fault has no seq.  reason: empty when the journal is sound.
    head: hash of the last sound entry, 64 hex digits; kept elsewhere, it also proves that no entry was cut off the
    end, which a chain alone cannot show.
    """

    entries: int
    head: str
    first_bad_seq: int | None = None
    reason: str = ""

    @property
    def is_sound(self) -> bool:
        """True when every entry is as it was written."""
        return not self.reason


def read(
    path: str | Path, *, after: int = 0, kinds: Collection[str] | None = None, limit: int | None = None
) -> Iterator[Entry]:
    """Yield the entries with seq > `after` in order, only those of `kinds`, at most `limit`.

    Raises DataError when there is no journal or an entry cannot be read, FatalError when the schema is newer.
    """
    path = Path(path)
    with _open(path) as connection, _explained(path):
        for row in _rows(connection, after, kinds, limit):
            yield _entry(row)


def has_entries(path: Path) -> bool:
    """Tell whether anything stands in the journal at `path`; a file that cannot be read is not empty."""
    if not path.exists() or is_blank(path):
        return False
    try:
        return next(iter(read(path, limit=1)), None) is not None
    except SacdError:
        return True


def is_blank(path: Path) -> bool:
    """Tell whether nothing was made yet in the file at `path`: a first start that was killed right then leaves one."""
    try:
        with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            application = connection.execute("PRAGMA application_id").fetchone()[0]
            return bool(application == 0 and not connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0])
    except sqlite3.Error:
        return False


def tail(path: str | Path, count: int) -> list[Entry]:
    """Return the last `count` entries, oldest first. Raises as `read`."""
    path = Path(path)
    with _open(path) as connection, _explained(path):
        return [_entry(row) for row in last_rows(connection, count)]


def backwards(path: str | Path, *, until: int, kind: str) -> Iterator[Entry]:
    """Yield the entries of `kind` with seq <= `until`, newest first, a few at a time. Raises as `read`."""
    path = Path(path)
    with _open(path) as connection, _explained(path):
        sql = f"{SELECT} WHERE seq <= ? AND kind = ? ORDER BY seq DESC LIMIT {_BACKWARDS_ROWS}"
        while page := connection.execute(sql, (until, _known(kind))).fetchall():
            for values in page:
                yield _entry(Row(*values))
            until = page[-1][0] - 1


def last_of_kind(path: str | Path, kind: str) -> Entry | None:
    """Return the last entry of `kind`, or None. Scans backwards from the end; raises as `read`."""
    path = Path(path)
    with _open(path) as connection, _explained(path):
        sql = f"{SELECT} WHERE kind = ? ORDER BY seq DESC LIMIT 1"
        row = connection.execute(sql, (_known(kind),)).fetchone()
        return None if row is None else _entry(Row(*row))


def export(
    path: str | Path, out: TextIO, *, after: int = 0, kinds: Collection[str] | None = None, limit: int | None = None
) -> int:
    """Write entries as `read` selects them to `out`, one JSON object a line, and return how many.

    Each line holds seq, at_ms, kind, payload (as it was journalled, character by character) and hash (hex).
    """
    path = Path(path)
    count = 0
    with _open(path) as connection, _explained(path):
        for row in _rows(connection, after, kinds, limit):
            out.write(_line(row))
            count += 1
    return count


def verify(
    path: str | Path,
    progress: Callable[[int, int], None] | None = None,
    *,
    is_at_rest: bool = False,
    page_rows: int = PAGE_ROWS,
) -> Verification:
    """Check every page, every hash, every seq and every payload, and return the first fault or none.

    progress: told entries checked and entries in all, about every `page_rows`.  is_at_rest: nothing writes it and it
    has no log, as a backup: nothing is put beside it.
    Raises DataError when there is no journal, FatalError when the schema is newer.
    """
    path = Path(path)
    chain = Chain()
    with _open(path, is_at_rest=is_at_rest) as connection:
        try:
            total = connection.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()[0]
            for row in rows_after(connection, _BEFORE_ALL, page_rows):
                fault = chain.fault_of(row)
                if fault:
                    return _verdict(chain, min(row.seq, chain.seq + 1), fault)
                if progress is not None and (row.seq % page_rows == 0 or row.seq == total):
                    progress(row.seq, max(row.seq, total))
            faults = [text for (text,) in connection.execute("PRAGMA integrity_check(3)")]
        except sqlite3.Error as error:
            return _verdict(chain, chain.seq + 1, f"file damaged after entry {chain.seq}: {error}")
    return _verdict(chain, None, "" if faults == [b"ok"] else "; ".join(text.decode() for text in faults))


def _verdict(chain: Chain, bad_seq: int | None, reason: str) -> Verification:
    return Verification(entries=chain.seq, head=chain.hash.hex(), first_bad_seq=bad_seq, reason=reason)


@contextlib.contextmanager
def _open(path: Path, *, is_at_rest: bool = False) -> Iterator[sqlite3.Connection]:
    if not path.is_file():
        raise DataError(f"there is no journal at {path}: start `sacd run` first, or name another")
    place = f"{path.resolve().as_uri()}?mode=ro{'&immutable=1' if is_at_rest else ''}"
    with contextlib.closing(sqlite3.connect(place, uri=True)) as connection:
        with _explained(path):
            check_owner(connection, path, may_be_empty=False)
            check_version(connection, path, known=migrations()[-1][0])
        connection.text_factory = bytes
        yield connection


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what SQLite says into an error that names the file and what to do."""
    try:
        yield
    except ConfigError as error:
        raise DataError(str(error)) from error
    except sqlite3.Error as error:
        raise DataError(
            f"journal {path} cannot be read ({error}): it is damaged, no journal of sacd, or not readable for this"
            " user; run as the user of sacd, or restore a backup"
        ) from error


def _rows(
    connection: sqlite3.Connection, after: int, kinds: Collection[str] | None, limit: int | None
) -> Iterator[Row]:
    """Return at most `limit` rows with seq > `after` of these kinds. Raises DataError for a kind there is not."""
    wanted = None if kinds is None else {_known(kind).encode("ascii") for kind in kinds}
    rows = rows_after(connection, after)
    return islice(rows if wanted is None else (row for row in rows if row.kind in wanted), limit)


def _known(kind: str) -> str:
    if kind not in KINDS:
        raise DataError(f"no journal kind {kind!r}: one of {', '.join(sorted(KINDS))}")
    return kind


def _line(row: Row) -> str:
    decode(row.seq, row.payload)  # refuses what is not one JSON object in ASCII
    kind = json.dumps(row.kind.decode("ascii", "replace"))
    head = f'{{"seq":{row.seq},"at_ms":{row.at_ms},"kind":{kind},"payload":'
    return f'{head}{row.payload.decode("ascii")},"hash":"{row.hash.hex()}"}}\n'


def _entry(row: Row) -> Entry:
    kind = row.kind.decode("ascii", "replace")
    return Entry(seq=row.seq, at_ms=row.at_ms, kind=kind, payload=decode(row.seq, row.payload))
