"""Opens the journal file for its one writer: lock, file system, schema, durability settings, room in the log.

Everything that can be wrong with the file is found here, before the daemon starts; nothing here appends.
"""

import contextlib
import fcntl
import os
import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from daemon.errors import ConfigError, FatalError, SacdError

APPLICATION_ID = 0x73616364
"""Marks an SQLite file as a journal of sacd ("sacd" in ASCII); set by the first migration."""

_CHECKPOINT_PAGES = 1000
_PAGE_BYTES = 4096
# SQLite's log needs shared memory and locks that network file systems do not give.
_NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "fuse.glusterfs", "fuse.sshfs"}
)
_NO_ACCESS = ("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH")


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalFile:
    """An open journal: its one writing connection, and the lock that keeps every other daemon out."""

    path: Path
    connection: sqlite3.Connection
    lock_fd: int

    def close(self) -> None:
        """Write the log back into the file, then let the next daemon in."""
        try:
            self.connection.close()
        finally:
            os.close(self.lock_fd)


def open_file(path: Path) -> JournalFile:
    """Open or create the journal at `path`, checked and ready to be appended to.

    Raises ConfigError when the place or the file is not usable (missing, read-only, network, locked, not ours), and
    FatalError when the journal is damaged, newer than this program, or the disk is full.
    """
    path = path.resolve()  # SQLite keeps its log beside the file a link leads to
    if path.is_dir():
        raise ConfigError(f"journal {path} is a directory: name a file in it")
    _check_directory(path.parent)
    with contextlib.ExitStack() as undo:
        lock_fd = _lock(path)
        undo.callback(os.close, lock_fd)
        try:
            connection = _connect(path)
            undo.callback(connection.close)
            _prepare(connection, path)
        except sqlite3.Error as error:
            raise _explain(path, error) from error
        undo.pop_all()
    return JournalFile(path=path, connection=connection, lock_fd=lock_fd)


# ---- the place --------------------------------------------------------------------------------------------------
def _check_directory(directory: Path) -> None:
    if not directory.is_dir():
        raise ConfigError(f"journal directory {directory} does not exist: create it, or change the state directory")
    if not os.access(directory, os.W_OK | os.X_OK):
        raise ConfigError(f"journal directory {directory} is not writable: change its owner, or the state directory")
    kind = _file_system_of(directory)
    if kind in _NETWORK_FILE_SYSTEMS:
        raise ConfigError(f"journal directory {directory} lies on {kind}: put the state directory on a local disk")


def _file_system_of(directory: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str | None:
    """Return the type of the file system that holds `directory`; None where the kernel does not tell."""
    if not mounts.exists():
        return None
    device = directory.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in mounts.read_text(encoding="utf-8", errors="replace").splitlines():
        # mount id, parent id, major:minor, root, mount point, options ... - type, source, super options: proc(5)
        mount, _, rest = line.partition(" - ")
        if mount.split()[2] == wanted:
            return rest.split()[0]
    return None


def _lock(path: Path) -> int:
    """Return a descriptor that holds the lock until it is closed, also by the death of this process."""
    place = path.with_name(path.name + ".lock")
    try:
        descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(f"journal lock {place}: {error.strerror}; sacd must be able to write there") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        message = f"journal {path} is in use by process {holder}: stop that sacd, or change the state directory"
        raise ConfigError(message) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
    return descriptor


# ---- the file ---------------------------------------------------------------------------------------------------
def _connect(path: Path) -> sqlite3.Connection:
    # Opened here and then used by the writer's thread alone. Transactions are written out: isolation_level=None.
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False)


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    check_owner(connection, path, may_be_empty=True)
    connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise ConfigError(f"journal {path}: SQLite cannot keep a log there (mode {mode}): use a local disk")
    connection.execute("PRAGMA synchronous = FULL")  # each commit is on disk before it is acknowledged
    connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
    migrate(connection, path, migrations())
    _check_pages(connection, path)
    _reserve_log(connection, path)
    _sync(path.parent)  # the file's name itself: a synced file without a directory entry is lost with the power


def check_owner(connection: sqlite3.Connection, path: Path, *, may_be_empty: bool) -> None:
    """Refuse a file that is not a journal of sacd. Raises ConfigError."""
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    is_empty = application == 0 and tables == 0
    if application != APPLICATION_ID and not (may_be_empty and is_empty):
        raise ConfigError(f"{path} is not a journal of sacd: move it away, or name another journal")


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


def migrate(connection: sqlite3.Connection, path: Path, steps: Sequence[tuple[int, str]]) -> None:
    """Bring the schema up to the last of `steps`, each in a transaction of its own with its number."""
    version = check_version(connection, path, known=steps[-1][0])
    for number, sql in steps:
        if number > version:
            try:
                connection.executescript(f"BEGIN IMMEDIATE;\n{sql}\nPRAGMA user_version = {number};\nCOMMIT;")
            except sqlite3.Error:
                connection.rollback()
                raise


def check_version(connection: sqlite3.Connection, path: Path, *, known: int) -> int:
    """Return the schema version of the file. Raises FatalError when it is newer than `known`."""
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > known:
        raise FatalError(
            f"journal {path} has schema {version}, this sacd knows schema {known}:"
            " install the sacd that wrote it, or a newer one"
        )
    return version


def _check_pages(connection: sqlite3.Connection, path: Path) -> None:
    faults = [row[0] for row in connection.execute("PRAGMA quick_check(3)")]
    if faults != ["ok"]:
        raise FatalError(
            f"journal {path} is damaged ({'; '.join(faults)}): run `sacd journal verify`, restore a backup,"
            " or move the file away to start a new account"
        )


def _reserve_log(connection: sqlite3.Connection, path: Path) -> None:
    """Grow the write-ahead log to its usual size, so that commits overwrite blocks instead of allocating them.

    A commit into allocated blocks spares the file system a metadata transaction: about half the time on ext4. It
    also claims the room before trading starts. The pages are those of a transaction too big for the cache, rolled
    back: SQLite ignores them, now and after a crash.
    """
    connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
    target = _CHECKPOINT_PAGES * _PAGE_BYTES
    log = path.with_name(path.name + "-wal")
    if log.stat().st_size >= target:
        return
    connection.execute("PRAGMA cache_size = 10")
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute("CREATE TABLE reserve (filler BLOB)")
        connection.execute("INSERT INTO reserve VALUES (zeroblob(?))", (target + target // 5,))
    finally:
        connection.execute("ROLLBACK")
    connection.execute("PRAGMA cache_size = -2000")
    _sync(log)  # blocks are only allocated once they are written out


def _sync(place: Path) -> None:
    """Make a file or a directory's entries durable. Never the database itself: closing it would drop SQLite's locks."""
    descriptor = os.open(place, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _explain(path: Path, error: sqlite3.Error) -> SacdError:
    """Return the error of ours that says who has to act on what SQLite reported at start."""
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith("SQLITE_NOTADB"):
        return ConfigError(f"{path} is not a journal of sacd ({error}): move it away, or name another journal")
    if name.startswith(_NO_ACCESS):
        return ConfigError(f"journal {path} cannot be written ({error}): change owner or mode of file and directory")
    if name.startswith("SQLITE_BUSY"):
        return ConfigError(f"journal {path} is held by another program ({error}): close it, then start again")
    if name.startswith("SQLITE_CORRUPT"):
        return FatalError(f"journal {path} is damaged ({error}): run `sacd journal verify`, or restore a backup")
    return FatalError(f"journal {path} cannot be opened ({error}): check free space and health of the disk")
