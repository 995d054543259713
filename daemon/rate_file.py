"""What several daemons behind one address have left of a venue's rate budget, in one small file.

Every change happens under a lock of the kernel's, which a killed process gives up by itself, and is one write of a
fixed length with a checksum: whoever is killed leaves the old numbers, the new ones, or something that is recognised
as broken. Nothing here waits: a lock that somebody else holds is BlockingIOError.
"""

import fcntl
import json
import math
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from daemon.ports import Clock

_LENGTH = 4_096
_SKEW_MS = 10_000  # clocks of one machine differ by nothing; of several, by less than this


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """What is left of one venue's budget. tokens: ccxt's cost units, may be below 0; at_ms: wall clock it stands for.

    quiet_until_ms: wall clock before which nobody may ask, 0 for never asked to be quiet.
    """

    tokens: float
    at_ms: int
    quiet_until_ms: int = 0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.tokens) and 0 <= self.at_ms < 1 << 53 and 0 <= self.quiet_until_ms < 1 << 53):
            raise ValueError(f"no level of a rate budget: {self.tokens} at {self.at_ms}, {self.quiet_until_ms}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What the file says now. level: None when it says nothing of this venue; elapsed_s: time to refill for.

    now_ms: what the next level stands for.  is_broken: there was something, but nothing to trust.
    """

    level: Level | None
    elapsed_s: float
    now_ms: int
    is_broken: bool


class RateFile:
    """One file of levels, by venue. path: created when it is missing, its folder is not."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._mine: dict[str, tuple[Level, float]] = {}

    def update(self, venue: str, change: Callable[[Found], Level]) -> Level:
        """Replace the level of `venue` by what `change` makes of it, and return that.

        Raises BlockingIOError while another process holds the file, OSError when it cannot be read or written.
        """
        with self._locked() as handle:
            levels, is_broken = _read(handle)
            known = levels.get(venue)
            elapsed_s, now_ms = self._elapsed_s(venue, known), self._stamp_ms(known)
            level = change(Found(level=known, elapsed_s=elapsed_s, now_ms=now_ms, is_broken=is_broken))
            _write(handle, {**levels, venue: level})
        self._mine[venue] = (level, self._clock.monotonic_s())
        return level

    def _stamp_ms(self, level: Level | None) -> int:
        """Return the wall clock for the next level: never before the last one, unless the clock was set back.

        Two clocks a little apart would otherwise earn their difference again with every change of hands.
        """
        now_ms = self._clock.now_ms()
        if level is not None and now_ms < level.at_ms <= now_ms + _SKEW_MS:
            return level.at_ms
        return now_ms

    def _elapsed_s(self, venue: str, level: Level | None) -> float:
        if level is None:
            return 0.0
        mine, touched_s = self._mine.get(venue, (None, -math.inf))
        own_s = self._clock.monotonic_s() - touched_s
        if level == mine:
            return own_s  # nobody else wrote since: no need to believe a clock that can be set
        # Whole milliseconds, rounded against us.
        wall_s = max(0, self._clock.now_ms() - level.at_ms - 1) / 1e3
        return min(wall_s, own_s)  # somebody wrote after us: less time than since our own last touch

    @contextmanager
    def _locked(self) -> Iterator[int]:
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o660)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield handle
        finally:
            os.close(handle)


def _read(handle: int) -> tuple[Mapping[str, Level], bool]:
    text = os.pread(handle, _LENGTH + 1, 0)
    if not text:
        return {}, False
    try:
        stated, _, body = text.decode("ascii").strip().partition(" ")
        if len(text) != _LENGTH or int(stated, 16) != zlib.crc32(body.encode("ascii")):
            return {}, True
        return {name: Level(**values) for name, values in json.loads(body).items()}, False
    except (ValueError, TypeError, AttributeError):
        return {}, True


def _write(handle: int, levels: Mapping[str, Level]) -> None:
    body = json.dumps(
        {
            name: {"tokens": level.tokens, "at_ms": level.at_ms, "quiet_until_ms": level.quiet_until_ms}
            for name, level in levels.items()
        }
    )
    text = f"{zlib.crc32(body.encode('ascii')):08x} {body}".encode("ascii")
    if len(text) >= _LENGTH:
        raise OSError(f"the shared rate budget names too many venues: {', '.join(levels)}; delete the file")
    if os.pwrite(handle, text.ljust(_LENGTH - 1) + b"\n", 0) != _LENGTH:
        raise OSError("the shared rate budget was not written whole: is the disk full?")
    if os.fstat(handle).st_size != _LENGTH:
        os.ftruncate(handle, _LENGTH)
