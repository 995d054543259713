"""Where studies are kept: databases and journals, their errors in plain words, and locks that tell who lives."""

import fcntl
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.study import Study
from optuna.trial import FrozenTrial
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from training.errors import TrainingError

JOURNAL = "journal:"
_HEARTBEAT_S, _SILENCE_S = 60, 900
_LOCKED_S = 120


def open_storage(storage: str, on_lost: Callable[[Study, FrozenTrial], None]) -> optuna.storages.BaseStorage:
    """Return the storage at a database URL, or of `journal:PATH`.

    on_lost: called for a trial whose process, on another machine, has been silent for a quarter of an hour; journals do
    not know of that.  To be called within `plain_errors`.
    """
    if storage.startswith(JOURNAL):
        path = Path(storage.removeprefix(JOURNAL))
        if not path.parent.is_dir():
            raise TrainingError(
                f"--storage {storage}: there is no directory {path.parent}: make it, or correct the path"
            )
        return JournalStorage(JournalFileBackend(str(path)))
    is_local = make_url(storage).get_backend_name() == "sqlite"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # heartbeats; tested here
        return optuna.storages.RDBStorage(
            storage,
            engine_kwargs={"connect_args": {"timeout": _LOCKED_S}} if is_local else {"pool_pre_ping": True},
            heartbeat_interval=None if is_local else _HEARTBEAT_S,
            grace_period=None if is_local else _SILENCE_S,
            heartbeat_stale_trial_callback=None if is_local else on_lost,
        )


@contextmanager
def plain_errors(storage: str) -> Iterator[None]:
    """Turn what a storage raises into one TrainingError that names it and shows no password."""
    try:
        yield
    except ArgumentError as error:
        raise TrainingError(
            "--storage: this is not a database URL: give postgresql://user@host/name, sqlite:////path or journal:/path"
        ) from error
    except ImportError as error:
        raise TrainingError(
            f"--storage {shown(storage)}: the driver of this database is not installed: install it, for PostgreSQL "
            "with `pip install 'psycopg[binary]'`, or give journal:/path on a disk that all machines share"
        ) from error
    except OSError as error:  # of a journal, or of what a trial writes
        place, reason = error.filename or f"--storage {shown(storage)}", error.strerror or str(error)
        raise TrainingError(
            f"{place}: {_without_password(reason, storage)}: it must be writable and not full; what is finished is kept"
        ) from error
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        cause = error.__cause__ or error
        reason = str(getattr(cause, "orig", None) or cause).splitlines()[0]
        raise TrainingError(
            f"--storage {shown(storage)}: {_without_password(reason, storage)}: see that it is there, reachable, "
            "writable and not full; what is finished is kept"
        ) from error


def shown(storage: str) -> str:
    """Return `storage` as it may be printed: the password as `***`."""
    if storage.startswith(JOURNAL):
        return storage
    return make_url(storage).render_as_string(hide_password=True)


def _without_password(text: str, storage: str) -> str:
    password = None if storage.startswith(JOURNAL) else make_url(storage).password
    return text.replace(str(password), "***") if password else text


@contextmanager
def held(path: Path, *, is_shared: bool = False) -> Iterator[bool]:
    """Hold the lock of `path`, made when missing, for the time of the block; yields whether it could be had.

    is_shared: as one of several.  The lock goes with the process, however that ends.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        yield _locked(handle, fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX)
    finally:
        os.close(handle)


def is_free(path: Path) -> bool:
    """Tell whether nobody holds the lock of `path`."""
    try:
        handle = os.open(path, os.O_RDWR)
    except FileNotFoundError:  # whoever held it has put it away
        return True
    try:
        return _locked(handle, fcntl.LOCK_EX)
    finally:
        os.close(handle)


def _locked(handle: int, kind: int) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
