"""Follows the chain of hashes through the rows of a journal: each entry proves the next one genuine."""

import sqlite3
import struct
from collections.abc import Iterator
from typing import NamedTuple

from daemon.errors import DataError
from daemon.journal_format import GENESIS, decode, link

SELECT = "SELECT seq, at_ms, kind, payload, hash FROM events"
PAGE_ROWS = 1000


class Row(NamedTuple):
    """A row as it lies in the file; text as bytes, so that damaged text can still be read and named."""

    seq: int
    at_ms: int
    kind: bytes
    payload: bytes
    hash: bytes


class Chain:
    """Stands behind entry `seq` (0: before the first), whose hash is `hash`, and takes the next one only if it fits."""

    def __init__(self, seq: int = 0, last: bytes = GENESIS) -> None:
        self.seq = seq
        self.hash = last

    def fault_of(self, row: Row) -> str:
        """Return what is wrong with the next row, or an empty string and step on."""
        if row.seq != self.seq + 1:
            return f"seq hole: {self.seq + 1} is missing, {row.seq} follows {self.seq}"
        try:
            if link(self.hash, row.seq, row.at_ms, row.kind, row.payload) != row.hash:
                return "hash chain broken: entry was altered"
            decode(row.seq, row.payload)
        except (DataError, TypeError, struct.error) as error:
            return f"unreadable: {error}"
        self.seq, self.hash = row.seq, row.hash
        return ""


def rows_after(connection: sqlite3.Connection, after: int, page_rows: int = PAGE_ROWS) -> Iterator[Row]:
    """Yield the rows with seq > `after` in order, a page at a time, each page in a transaction of its own.

    connection: its text factory is `bytes`.  Raises sqlite3.Error where the file cannot be read.
    """
    sql = f"{SELECT} WHERE seq > ? ORDER BY seq LIMIT {page_rows}"
    while page := connection.execute(sql, (after,)).fetchall():
        for values in page:
            yield Row(*values)
        after = page[-1][0]


def last_rows(connection: sqlite3.Connection, count: int) -> list[Row]:
    """Return the last `count` rows, oldest first. connection: as `rows_after`. Raises sqlite3.Error."""
    rows = connection.execute(f"{SELECT} ORDER BY seq DESC LIMIT ?", (max(count, 0),)).fetchall()
    return [Row(*row) for row in reversed(rows)]
