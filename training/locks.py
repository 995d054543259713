"""One process at a time in a directory."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

from training.errors import TrainingError


def lock(place: Path, taken: Callable[[str], str]) -> int:
    """Return a descriptor of the file `place` that keeps every other process out until it is closed.

    The lock ends with the process, however that ends. taken: makes the message from the process id of the holder.
    Raises TrainingError when another process holds it, or when the file cannot be made.
    """
    try:
        descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise TrainingError(f"{place}: {error.strerror}: correct its permissions") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        owner = os.read(descriptor, 32).decode("ascii", "replace").strip()
        os.close(descriptor)
        raise TrainingError(taken(owner)) from error
    os.truncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor
