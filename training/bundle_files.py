"""Puts bundles on disk: a directory appears complete or not at all, whoever is killed or loses power meanwhile.

The files are written into a directory beside the place, whose name begins with a dot, so that nobody takes it for a
bundle; the manifest is the last of them; all is on disk before the directory takes its name.
"""

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from strategy.manifest import MANIFEST, BundleManifest
from training.bundles import TRAINING_FOLDER, read_bundle
from training.disk import sync_directory
from training.errors import BundleError

_LEFT_OVER = re.compile(r"\.[0-9a-f]{16}\.[a-z0-9_]{8}")
"""What a killed writer leaves in a registry."""


def write_directory(directory: Path, files: Mapping[str, bytes]) -> None:
    """Make `directory`, which must not exist or be empty, hold `files`, at once. Raises BundleError."""
    directory = directory.absolute()
    if os.path.lexists(directory) and not _is_empty(directory):
        raise BundleError(f"{directory}: it exists already; name another directory or remove it")
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with _fresh(directory) as fresh:
            for name in sorted(files, key=lambda name: (name == MANIFEST, name)):
                _write_durably(fresh / name, files[name])
            sync_directory(fresh)
            fresh.replace(directory)
        sync_directory(directory.parent)
    except OSError as error:
        raise BundleError(f"{directory}: the bundle cannot be written: {error}") from error


def into_registry(source: Path, registry: Path) -> BundleManifest:
    """Copy the bundle in `source` into `registry`, into a directory called by its id, and return its manifest.

    One that is there already stays as it is. What killed writers left there is removed.
    Raises BundleError when either bundle is broken, or the registry cannot be written.
    """
    manifest = read_bundle(source).manifest
    place = registry / manifest.short_id
    remove_left_overs(registry)
    try:
        names = [entry.name for entry in source.iterdir() if entry.name != TRAINING_FOLDER]
        files = {name: (source / name).read_bytes() for name in names}
    except OSError as error:
        raise _unusable(source, error) from error
    if not os.path.lexists(place) or _is_empty(place):
        write_directory(place, files)
    if read_bundle(place).manifest != manifest:
        raise BundleError(f"{place}: it holds another bundle: remove it")
    return manifest


def remove_left_overs(registry: Path) -> None:
    """Remove what killed writers left in a registry; what one still works at stays. Raises BundleError."""
    try:
        for entry in registry.iterdir() if registry.is_dir() else ():
            if _LEFT_OVER.fullmatch(entry.name) and entry.is_dir() and not entry.is_symlink():
                with _locked(entry) as is_ours:
                    if is_ours:
                        shutil.rmtree(entry)
    except OSError as error:
        raise _unusable(registry, error) from error


@contextmanager
def _fresh(directory: Path) -> Iterator[Path]:
    """Yield a directory to write into, which is locked for as long, so that nobody takes it for left over."""
    while True:
        fresh = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
        with _locked(fresh) as is_ours:
            if not is_ours:
                continue  # somebody who removes left-overs was quicker
            try:
                fresh.chmod(0o755)
                yield fresh
            finally:
                shutil.rmtree(fresh, ignore_errors=True)  # gone already when it was renamed
            return


@contextmanager
def _locked(directory: Path) -> Iterator[bool]:
    """Hold the lock of a directory, which ends with the process; yield whether it is ours and the directory there."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield False
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_ours = directory.exists()
    except BlockingIOError:
        is_ours = False
    try:
        yield is_ours
    finally:
        os.close(descriptor)


def _unusable(place: Path, error: OSError) -> BundleError:
    return BundleError(f"{error.filename or place}: {error.strerror}: correct its permissions")


def _is_empty(directory: Path) -> bool:
    return directory.is_dir() and not directory.is_symlink() and not any(directory.iterdir())


def _write_durably(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
