"""Opens the journal file for its one writer: lock, file system, schema, durability settings, room in the log.

Everything that can be wrong with the file is found here, before the daemon starts; nothing here appends. First it is
only read (journal_start.py), so that a damaged file is left as it is.
"""

import contextlib
import fcntl
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from daemon.disk_room import Ballast
from daemon.durable import sync
from daemon.errors import ConfigError, FatalError
from daemon.journal_copy import copy_sound, partial
from daemon.journal_head import HeadFile, read_head
from daemon.journal_schema import migrate, migrations
from daemon.journal_start import explain, inspect

_CHECKPOINT_PAGES = 1000
_PAGE_BYTES = 4096
# SQLite's log needs shared memory and locks that network file systems do not give.
_NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "fuse.glusterfs", "fuse.sshfs"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalFile:
    """An open journal: its one writing connection, its witness, its reserve, and the lock that keeps others out."""

    path: Path
    connection: sqlite3.Connection
    lock_fd: int
    head: HeadFile
    ballast: Ballast

    def close(self) -> None:
        """Write the log back into the file, then let the next daemon in."""
        try:
            self.connection.close()
            self.head.close()
        finally:
            os.close(self.lock_fd)


def open_file(path: Path, ballast_bytes: int = 0) -> JournalFile:
    """Open or create the journal at `path`, checked and ready to be appended to.

    ballast_bytes: room to hold in reserve beside it, where there is enough.
    Raises ConfigError when the place or the file is not usable (missing, read-only, network, locked, not ours),
    JournalDamaged when it is not as it was written, and FatalError when it is newer than this program or the disk is
    full.
    """
    path = path.resolve()  # SQLite keeps its log beside the file a link leads to
    check_place(path)
    ballast = Ballast(path, ballast_bytes)
    with contextlib.ExitStack() as undo:
        lock_fd = lock(path)
        undo.callback(os.close, lock_fd)
        inspect(path)
        try:
            connection = _connect(path)
            undo.callback(connection.close)
            _prepare(connection, path)
        except sqlite3.Error as error:
            raise explain(path, error, read_head(path)) from error
        head = HeadFile(path)
        ballast.fill()
        undo.pop_all()
    return JournalFile(path=path, connection=connection, lock_fd=lock_fd, head=head, ballast=ballast)


# ---- the place --------------------------------------------------------------------------------------------------
def check_place(path: Path) -> None:
    """Refuse a path where no journal can be kept. Raises ConfigError."""
    directory = path.parent
    try:
        is_directory = directory.is_dir()
    except OSError as error:
        reason = f"cannot be reached ({error.strerror})"
        raise ConfigError(f"journal directory {directory} {reason}: change its mode, or the state directory") from error
    if not is_directory:
        raise ConfigError(f"journal directory {directory} does not exist: create it, or change the state directory")
    if not os.access(directory, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        raise ConfigError(f"journal directory {directory} is not writable: change its owner, or the state directory")
    if path.is_dir():
        raise ConfigError(f"journal {path} is a directory: name a file in it")
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


def lock(path: Path) -> int:
    """Return a descriptor that holds the lock until it is closed, also by the death of this process.

    Raises ConfigError when another process holds it, or it may not be written.
    """
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
    connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise ConfigError(f"journal {path}: SQLite cannot keep a log there (mode {mode}): use a local disk")
    connection.execute("PRAGMA synchronous = FULL")  # each commit is on disk before it is acknowledged
    connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
    migrate(connection, path, migrations(), lambda target: _copy(path, target))
    _reserve_log(connection, path)
    sync(path.parent)  # the file's name itself: a synced file without a directory entry is lost with the power


def _copy(path: Path, target: Path) -> None:
    """Put a sound copy at `target`, durably; one that an earlier attempt left is replaced. Raises FatalError."""
    try:
        with partial(target) as copy:
            copy_sound(path, copy, lambda: None)
            copy.finish()
    except OSError as error:
        raise FatalError(f"{target}: the copy before a migration cannot be written: {error.strerror}") from error


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
        connection.rollback()  # a disk without room has already ended the transaction
    connection.execute("PRAGMA cache_size = -2000")
    sync(log)  # blocks are only allocated once they are written out
