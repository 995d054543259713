"""Room on the disk: a reserve that can be given up, and a watch over what is free."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import structlog

from daemon.ports import Clock

BALLAST_BYTES = 8 * 2**20
LOW_BYTES = 500 * 2**20
SCARCE_BYTES = 100 * 2**20
LOW_SHARE = 0.1
WATCH_EVERY_S = 60.0

_log = structlog.get_logger()


class Ballast:
    """A file that takes up room until the room is needed more: NAME.ballast beside the journal."""

    def __init__(self, path: Path, size: int = BALLAST_BYTES) -> None:
        """path: of the journal.  size: bytes; 0 for no ballast."""
        self.place = path.with_name(path.name + ".ballast")
        self._size = size

    @property
    def is_there(self) -> bool:
        """True while it holds its room, or is meant to hold none."""
        return self._size == 0 or _allocated(self.place) >= self._size

    def fill(self) -> bool:
        """Take the room, really allocated, where as much again stays free; return whether the ballast is there."""
        if self.is_there:
            return True
        try:
            if shutil.disk_usage(self.place.parent).free < 2 * self._size:
                return False
            self._allocate()
        except OSError as error:
            self.place.unlink(missing_ok=True)
            _log.warning("journal_ballast_missing", path=str(self.place), reason=error.strerror or str(error))
            return False
        return True

    def free(self) -> bool:
        """Give the room back, at once and for good; return False when there was none. Raises OSError."""
        if not self.place.exists() or not _allocated(self.place):
            return False
        descriptor = os.open(self.place, os.O_WRONLY)
        try:
            os.ftruncate(descriptor, 0)
            os.fsync(descriptor)  # blocks of a file that is only unlinked come back with the next commit of the disk
        finally:
            os.close(descriptor)
        self.place.unlink()
        return True

    def _allocate(self) -> None:
        descriptor = os.open(self.place, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, self._size)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _allocated(place: Path) -> int:
    """Return the bytes a file really takes up on its disk, 0 when there is none."""
    return place.stat().st_blocks * 512 if place.exists() else 0  # st_blocks counts 512 bytes everywhere: stat(2)


class Room(StrEnum):
    """How much is free."""

    PLENTY = "plenty"
    LOW = "low"
    """Below 10 % or 500 MiB: somebody should look."""
    SCARCE = "scarce"
    """Below 100 MiB: nothing may be bought, so that what is held can still be journalled to its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskRoom:
    """What is free on the journal's disk, bytes, and what that means."""

    free: int
    total: int

    @property
    def room(self) -> Room:
        """Return how much that is."""
        if self.free < SCARCE_BYTES:
            return Room.SCARCE
        is_low = self.free < LOW_BYTES or self.free < LOW_SHARE * self.total
        return Room.LOW if is_low else Room.PLENTY


def measure(directory: Path) -> DiskRoom:
    """Return what is free for this user on the disk of `directory`. Raises OSError."""
    usage = shutil.disk_usage(directory)
    return DiskRoom(free=usage.free, total=usage.total)


class DiskWatch:
    """Looks at the disk every minute and tells what it saw; says so in the log when that changes."""

    def __init__(
        self,
        directory: Path,
        clock: Clock,
        tell: Callable[[DiskRoom], None],
        look: Callable[[Path], DiskRoom] = measure,
    ) -> None:
        """tell: called with each measurement, on the event loop."""
        self._directory = directory
        self._clock = clock
        self._tell = tell
        self._look = look
        self._last = Room.PLENTY

    @property
    def allows_entries(self) -> bool:
        """False while there is too little room to begin something new."""
        return self._last is not Room.SCARCE

    def check(self) -> DiskRoom:
        """Look once. Raises OSError."""
        seen = self._look(self._directory)
        if seen.room is not self._last:
            tell = _log.info if seen.room is Room.PLENTY else _log.warning
            tell("disk_room", room=seen.room.value, free_mib=seen.free >> 20, directory=str(self._directory))
        self._last = seen.room
        self._tell(seen)
        return seen

    async def run(self) -> None:
        """Look every minute until cancelled. A disk that does not answer is reported and asked again."""
        while True:
            try:
                self.check()
            except OSError as error:
                _log.warning("disk_room_unknown", directory=str(self._directory), reason=error.strerror)
            await self._clock.sleep_s(WATCH_EVERY_S)
