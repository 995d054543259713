"""Copies a journal as it stands at one moment, whole or not at all, also while a daemon writes it.

SQLite's backup interface reads through one read transaction: a writer is never kept waiting by it, and what it appends
meanwhile does not make the copy begin anew, as it would without that transaction. The log only cannot start over
until the copy is done. A copy lies under another name until it has been checked and is on disk.
"""

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from daemon import crash_points
from daemon.durable import sync
from daemon.errors import SacdError
from daemon.journal_reader import Verification, verify

PAGES_PER_STEP = 16
_SYNC_EVERY_STEPS = 16
"""Synced every megabyte: a big file that is synced at its end would hold up the journal's own commits."""
_VERIFY_ROWS = 50

Pause = Callable[[], None]
"""Called between small steps; may wait, and may raise to give up."""


class CopyFailed(SacdError):
    """A copy of the journal could not be made, or is not sound; nothing was put in its place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Partial:
    """A file on its way: nobody else writes it, and it is gone when the way was not finished."""

    place: Path
    target: Path
    descriptor: int

    def finish(self) -> None:
        """Put the file in its place, durably. Raises OSError."""
        os.fsync(self.descriptor)
        self.place.replace(self.target)
        sync(self.target.parent)


@contextlib.contextmanager
def partial(target: Path) -> Iterator[Partial]:
    """Give an empty file beside `target` to write into. Raises OSError, CopyFailed when another writes there."""
    place = target.with_name(target.name + ".partial")
    descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CopyFailed(f"{place}: another copy is being made there: wait until it is done") from None
        os.ftruncate(descriptor, 0)
        for part in ("-wal", "-shm", "-journal"):  # what a copy that was killed left of itself
            place.with_name(place.name + part).unlink(missing_ok=True)
        try:
            yield Partial(place=place, target=target, descriptor=descriptor)
        finally:
            if _is_same_file(place, descriptor):
                place.unlink()
    finally:
        os.close(descriptor)


def remove_stale(directory: Path, prefix: str) -> None:
    """Delete what copies that were killed left behind: files `prefix`*.partial that nobody writes. Raises OSError."""
    for place in directory.glob(f"{prefix}*.partial"):
        try:
            descriptor = os.open(place, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            place.unlink(missing_ok=True)
        except BlockingIOError:
            continue
        finally:
            os.close(descriptor)


def copy_sound(source: Path, into: Partial, pause: Pause, *, is_at_rest: bool = False) -> Verification:
    """Copy the journal at `source` into a partial file and verify every page, hash and entry of the copy.

    is_at_rest: the source has no log and nothing is to be put beside it.
    Raises CopyFailed when it cannot be read or written, or the copy is not sound.
    """
    try:
        copy_pages(source, into, pause, is_at_rest=is_at_rest)
        found = verify(into.place, lambda _done, _all: pause(), is_at_rest=True, page_rows=_VERIFY_ROWS)
    except (sqlite3.Error, OSError, SacdError) as error:
        if isinstance(error, CopyFailed):
            raise
        raise CopyFailed(f"{source} cannot be copied to {into.target}: {error}") from error
    if not found.is_sound:
        raise CopyFailed(f"{source} is damaged, the copy was dropped: {found.reason}; see `sacd journal verify`")
    return found


def copy_pages(source: Path, into: Partial, pause: Pause, *, is_at_rest: bool = False) -> None:
    """Copy all pages of `source` as of one moment. Raises sqlite3.Error, OSError and what `pause` raises."""
    steps = 0

    def after_step(_status: int, _remaining: int, _total: int) -> None:
        nonlocal steps
        steps += 1
        if steps % _SYNC_EVERY_STEPS == 0:
            os.fdatasync(into.descriptor)
        if steps == 1:
            crash_points.at("backup")
        pause()

    uri = f"{source.resolve().as_uri()}?mode=ro{'&immutable=1' if is_at_rest else ''}"
    with contextlib.closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM sqlite_schema").fetchone()  # only now the transaction sees one moment
        with contextlib.closing(sqlite3.connect(into.place, isolation_level=None)) as writer:
            writer.execute("PRAGMA journal_mode = MEMORY")  # a copy that fails is dropped whole
            writer.execute("PRAGMA synchronous = OFF")  # it is synced here, a little at a time
            reader.backup(writer, pages=PAGES_PER_STEP, progress=after_step)
    crash_points.at("backup")


def _is_same_file(place: Path, descriptor: int) -> bool:
    """Return whether the open file still has this name: once finished, the name may be another's."""
    try:
        return place.stat().st_ino == os.fstat(descriptor).st_ino
    except FileNotFoundError:
        return False
