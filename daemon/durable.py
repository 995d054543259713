"""Makes files and names outlast a loss of power."""

import os
from pathlib import Path


def sync(place: Path) -> None:
    """Make a file's bytes, or the names in a directory, durable. Raises OSError.

    Never for a database that is open in this process: closing any descriptor of it would drop SQLite's locks.
    """
    descriptor = os.open(place, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
