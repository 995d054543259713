"""Puts files on disk so that each is whole or absent, also when the power fails."""

import os
import tempfile
from pathlib import Path

from training.errors import TrainingError


def write_together(contents: dict[Path, bytes]) -> None:
    """Put every file in place, each whole, in order. All are on disk under other names before the first is renamed.

    Raises TrainingError when one cannot be written.
    """
    waiting: list[tuple[str, Path]] = []
    try:
        for path, data in contents.items():
            descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
            waiting.append((name, path))
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        for name, path in waiting:
            Path(name).chmod(0o644)
            Path(name).replace(path)
        sync_directory(next(iter(contents)).parent)
    except OSError as error:
        place = next(iter(contents))
        raise TrainingError(
            f"{place}: cannot be written ({error.strerror}): free space or give another place"
        ) from error
    finally:
        for name, _ in waiting:
            Path(name).unlink(missing_ok=True)


def sync_directory(directory: Path) -> None:
    """Make the names in `directory` outlast a loss of power, as a file's own sync makes its bytes. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
