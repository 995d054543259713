"""Puts a sound journal in place of a damaged one, losing as little as can be proved.

The former journal is moved aside, never deleted. The newest sound backup takes its place, followed by those entries of
the former journal that continue the backup's chain of hashes: each of them is proved genuine by the one before it.
Without any backup, what the former journal proves from its first entry on is all there is.

A mark beside the journal says what was done, and is there before anything moves: killed at any instruction, a restore
leaves a journal that is refused until it has been restored again, never one that is shorter than it seems.
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from daemon import crash_points
from daemon.disk_room import measure
from daemon.durable import sync
from daemon.errors import FatalError, SacdError
from daemon.journal_backup import backup_directory, every_backup, stamp
from daemon.journal_chain import Chain, Row, rows_after
from daemon.journal_copy import Partial, copy_pages, partial
from daemon.journal_file import check_place, lock
from daemon.journal_head import Head, HeadFile, read_head
from daemon.journal_reader import Verification, verify
from daemon.journal_restored import Restored, restored_marker, write_marker
from daemon.journal_schema import migrate, migrations
from daemon.ports import Clock

_PARTS = ("-wal", "-shm", "", ".head")
"""What a journal consists of, in the order in which it is moved: without its log no file must be taken for whole."""

_MARGIN_BYTES = 2**20

_log = structlog.get_logger()


def restore(path: Path, clock: Clock, source: Path | None = None, directory: Path | None = None) -> Restored:
    """Put the journal that `source` holds, or the newest sound backup in `directory`, in place of the one at `path`.

    Returns what was done; the same stands in the mark beside the journal until `clear_marker`.
    Raises ConfigError when a daemon holds the journal, SacdError when there is no sound backup or no room: then
    nothing has changed, or the journal is refused until it has been restored.
    """
    path = path.resolve()
    check_place(path)
    descriptor = lock(path)
    try:
        return _restore(path, clock, source, directory if directory is not None else backup_directory(path))
    except OSError as error:
        raise FatalError(
            f"journal {path}: the restore was cut short ({error.strerror or error}): mend that, and run"
            " `sacd journal restore` again"
        ) from error
    except sqlite3.Error as error:
        raise FatalError(
            f"journal {path}: the restore was cut short ({error}): make room, and run `sacd journal restore` again"
        ) from error
    finally:
        os.close(descriptor)


def _restore(path: Path, clock: Clock, source: Path | None, directory: Path) -> Restored:
    former = _unfinished(path)
    quarantined = _quarantine_name(path, clock) if former is None else Path(former.quarantined)
    # The witness tells which account the backup must be of; a restore that was cut short may have moved it already.
    head = read_head(quarantined) or read_head(path)
    former_now = quarantined if quarantined.exists() else path
    chosen = _given(source, path) if source is not None else _newest_sound(path, directory, head, former_now)
    _check_room(path, chosen)
    backup = "" if chosen is None else str(chosen.path)
    plan = Restored(at_ms=clock.now_ms(), backup=backup, quarantined=str(quarantined))
    crash_points.at("backup")
    write_marker(path, plan)
    _move_aside(path, quarantined)
    done = _rebuild(path, chosen, plan, head)
    write_marker(path, done)
    crash_points.at("backup")
    return done


# ---- which backup -----------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """A journal that was proved sound. is_at_rest: it has no log beside it."""

    path: Path
    found: Verification
    is_at_rest: bool


def _given(source: Path, path: Path) -> _Source:
    if source.exists() and path.exists() and source.samefile(path):
        raise SacdError(f"{source} is the journal itself: name a backup")
    if not source.is_file():
        raise SacdError(f"{source}: there is no such file: name a backup; nothing was changed")
    chosen = _verified(source)
    if not chosen.found.is_sound:
        raise SacdError(f"{source} is damaged ({chosen.found.reason}): name another backup; nothing was changed")
    return chosen


def _newest_sound(path: Path, directory: Path, head: Head | None, former: Path) -> _Source | None:
    """Return the newest backup that is whole and, as far as can be told, of the same account.

    None when there is none, and the former journal itself still proves its first entry.
    """
    reasons = []
    for place in every_backup(path, directory):
        try:
            chosen = _verified(place)
        except SacdError as error:
            reasons.append(f"{place.name}: {error}")
            continue
        if not chosen.found.is_sound:
            reasons.append(f"{place.name}: {chosen.found.reason}")
        elif head is not None and _first_hash(chosen) not in (None, head.first):
            reasons.append(f"{place.name}: of another account")
        else:
            if reasons:
                _log.warning("journal_backups_unsound", backups=reasons)
            return chosen
    if former.is_file() and next(_continuing(former, Chain()), None) is not None:
        return None
    told = f" ({'; '.join(reasons)})" if reasons else ""
    raise SacdError(
        f"there is no sound backup of {path} in {directory}{told}: name one with `sacd journal restore FILE`, or move"
        f" {path.name}* away to begin a new account; nothing was changed"
    )


def _verified(place: Path) -> _Source:
    log = place.with_name(place.name + "-wal")
    is_at_rest = not log.exists()  # a plain copy of a journal may come with its log
    return _Source(path=place, found=verify(place, is_at_rest=is_at_rest), is_at_rest=is_at_rest)


def _first_hash(source: _Source) -> bytes | None:
    """Return the hash of entry 1, None when there is none."""
    with _reader(source.path, is_at_rest=source.is_at_rest) as connection:
        return next((row.hash for row in rows_after(connection, 0, page_rows=1)), None)


def _check_room(path: Path, chosen: _Source | None) -> None:
    free, size = measure(path.parent).free, 0 if chosen is None else chosen.path.stat().st_size
    former = path.stat().st_size if path.exists() else 0
    wanted = max(size, former) + _MARGIN_BYTES  # what is read from the former journal makes it no longer than that
    if free < wanted:
        raise SacdError(
            f"{path.parent}: {free >> 20} MiB free, the restored journal takes {-(-wanted >> 20)}: make room; nothing"
            " was changed"
        )


# ---- moving aside -----------------------------------------------------------------------------------------------
def _unfinished(path: Path) -> Restored | None:
    """Return the mark of a restore that was cut short."""
    try:
        marker = restored_marker(path)
    except FatalError:  # it says nothing: begun and cut short by something worse than a kill
        return None
    return None if marker is None or marker.is_done else marker


def _quarantine_name(path: Path, clock: Clock) -> Path:
    """Return a name for the former journal that no other one has."""
    first = path.with_name(f"{path.name}.quarantined-{stamp(clock.now_ms())}")
    number, place = 1, first
    while any(place.with_name(place.name + part).exists() for part in _PARTS):
        number += 1
        place = first.with_name(f"{first.name}-{number}")
    return place


def _move_aside(path: Path, quarantined: Path) -> None:
    """Give every part of the former journal its new name; what an earlier attempt moved stays where it is."""
    for part in _PARTS:
        old, new = path.with_name(path.name + part), quarantined.with_name(quarantined.name + part)
        if old.exists() and not new.exists():
            old.rename(new)
            crash_points.at("backup")
    sync(path.parent)


# ---- making the new one -----------------------------------------------------------------------------------------
def _rebuild(path: Path, chosen: _Source | None, plan: Restored, head: Head | None) -> Restored:
    former = Path(plan.quarantined)
    has_former = former.exists()
    with partial(path) as copy:
        base = _lay_base(copy, chosen)
        salvaged = _salvage(former, copy.place, base) if has_former else 0
        made = _verified(copy.place)
        if not made.found.is_sound:
            raise FatalError(f"journal {path}: the restored copy is not sound ({made.found.reason}): check the disk")
        first = _first_hash(made)
        for part in ("-wal", "-shm"):  # a log that is not its own would be played into the new file
            path.with_name(path.name + part).unlink(missing_ok=True)
        crash_points.at("backup")
        copy.finish()
    if first is not None:
        _write_head(path, Head(seq=made.found.entries, hash=bytes.fromhex(made.found.head), first=first))
    known = max(0 if head is None else head.seq, _readable(former) if has_former else 0)
    return replace(
        plan,
        is_done=True,
        quarantined=plan.quarantined if has_former else "",
        entries=made.found.entries,
        salvaged=salvaged,
        lost=max(0, known - made.found.entries) if known or not has_former else None,
    )


def _lay_base(copy: Partial, chosen: _Source | None) -> Chain:
    """Write the backup, or an empty journal, into the new file; returns the end of its chain."""
    if chosen is not None:
        copy_pages(chosen.path, copy, lambda: None, is_at_rest=chosen.is_at_rest)
        return Chain(chosen.found.entries, bytes.fromhex(chosen.found.head))
    with contextlib.closing(sqlite3.connect(copy.place, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = MEMORY")
        migrate(connection, copy.place, migrations(), lambda _target: None)  # nothing is there to be copied
    return Chain()


def _salvage(former: Path, into: Path, base: Chain) -> int:
    """Append the entries of a damaged journal that continue `base`, and return how many."""
    salvaged = 0
    with contextlib.closing(sqlite3.connect(into, isolation_level=None)) as target:
        target.execute("PRAGMA journal_mode = MEMORY")  # a copy that fails is dropped whole
        target.execute("BEGIN")
        for row in _continuing(former, base):
            values = (row.seq, row.at_ms, row.kind.decode("ascii"), row.payload.decode("ascii"), row.hash)
            target.execute("INSERT INTO events (seq, at_ms, kind, payload, hash) VALUES (?, ?, ?, ?, ?)", values)
            salvaged += 1
        target.execute("COMMIT")
    return salvaged


def _continuing(former: Path, chain: Chain) -> Iterator[Row]:
    """Yield what follows in a damaged journal for as long as it can be read and each entry proves the next."""
    with contextlib.suppress(sqlite3.Error), _reader(former, is_at_rest=False) as connection:
        for row in rows_after(connection, chain.seq, page_rows=1):
            if chain.fault_of(row):
                return
            yield row


def _readable(former: Path) -> int:
    """Return how many entries a damaged journal still shows, 0 when it cannot be read."""
    with contextlib.suppress(sqlite3.Error), _reader(former, is_at_rest=False) as connection:
        return int(connection.execute("SELECT count(*) FROM events").fetchone()[0])
    return 0


@contextlib.contextmanager
def _reader(place: Path, *, is_at_rest: bool) -> Iterator[sqlite3.Connection]:
    uri = f"{place.resolve().as_uri()}?mode=ro{'&immutable=1' if is_at_rest else ''}"
    with contextlib.closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
        connection.text_factory = bytes
        yield connection


def _write_head(path: Path, last: Head) -> None:
    """Witness the end of the journal that now lies there."""
    file = HeadFile(path)
    try:
        file.note(last)
        file.sync()
    finally:
        file.close()
    sync(path.parent)
