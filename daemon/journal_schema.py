"""Whose file a journal is, which schema it has, and how an older one is brought up to the present one.

A step of a migration is one transaction together with its number: the file is at one version or at the next, never
between them. Before the first step of a start a copy of the file is put beside it, durably.
"""

import re
import sqlite3
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path

from daemon import crash_points
from daemon.errors import ConfigError, FatalError

APPLICATION_ID = 0x73616364
"""Marks an SQLite file as a journal of sacd ("sacd" in ASCII); set by the first migration."""


class JournalDamaged(FatalError):
    """The journal is not as it was written: bytes, entries or the end of it are lost."""


def damaged(path: Path, what: str) -> JournalDamaged:
    """Return the error for a journal that is not as it was written, with what an operator can do."""
    return JournalDamaged(
        f"journal {path} is damaged ({what}): run `sacd journal restore` to go on from the newest sound backup, or"
        f" move {path.name}* away to begin a new account"
    )


def check_owner(connection: sqlite3.Connection, path: Path, *, may_be_empty: bool) -> None:
    """Refuse a file that is not a journal of sacd. Raises ConfigError."""
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    is_empty = application == 0 and tables == 0
    if application != APPLICATION_ID and not (may_be_empty and is_empty):
        raise ConfigError(f"{path} is not a journal of sacd: move it away, or name another journal")


def check_version(connection: sqlite3.Connection, path: Path, *, known: int) -> int:
    """Return the schema version of the file. Raises FatalError when it is newer than `known`."""
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > known:
        raise FatalError(
            f"journal {path} has schema {version}, this sacd knows schema {known}:"
            " install the sacd that wrote it, or a newer one"
        )
    return version


def migrations() -> Sequence[tuple[int, str]]:
    """Return number and SQL of every migration beside this file, in order, from 1 without holes."""
    found = []
    for entry in files("daemon").joinpath("sql").iterdir():
        match = re.fullmatch(r"(\d{4})_\w+\.sql", entry.name)
        if match is not None:
            found.append((int(match[1]), entry.read_text(encoding="utf-8")))
    found.sort()
    if [number for number, _ in found] != list(range(1, len(found) + 1)) or not found:
        raise FatalError(f"migrations {[number for number, _ in found]} are not 1, 2, 3 ...: reinstall sacd")
    return found


def migrate(
    connection: sqlite3.Connection,
    path: Path,
    steps: Sequence[tuple[int, str]],
    copy: Callable[[Path], None],
) -> None:
    """Bring the schema up to the last of `steps`, each in a transaction of its own with its number.

    copy: puts a durable copy of the journal at a path; called once, before the first step that changes an existing
    journal, with NAME.before-NNNN.  Raises FatalError when a step would change what the entries say.
    """
    version = check_version(connection, path, known=steps[-1][0])
    waiting = [(number, sql) for number, sql in steps if number > version]
    if version and waiting:
        crash_points.at("migration")
        copy(path.with_name(f"{path.name}.before-{waiting[0][0]:04d}"))
        crash_points.at("migration")
    for number, sql in waiting:
        _step(connection, path, number, sql)


_End = tuple[int, int | None, bytes | None]


def _step(connection: sqlite3.Connection, path: Path, number: int, sql: str) -> None:
    end = (0, None, None) if number == 1 else _end(connection)
    try:
        connection.executescript(f"BEGIN IMMEDIATE;\n{sql}\nPRAGMA user_version = {number};")
        _refuse_changes(end, _end(connection), path, number)
        crash_points.at("migration")
        connection.execute("COMMIT")
    except (sqlite3.Error, FatalError):
        connection.rollback()
        raise
    crash_points.at("migration")


def _refuse_changes(before: _End, after: _End, path: Path, number: int) -> None:
    if before != after:
        raise FatalError(f"journal {path}: migration {number} changes its entries: install another version of sacd")


def _end(connection: sqlite3.Connection) -> _End:
    """Return how many entries there are, and seq and hash of the last one."""
    row = connection.execute("SELECT count(*), max(seq), hash FROM events").fetchone()
    return row[0], row[1], row[2]
