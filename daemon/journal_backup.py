"""Backups of the journal: taken while it is written, proved sound before they count, and thinned out with age.

A backup never stops trading: what fails is told, and tried again later. Only files that this module named itself are
ever deleted.
"""

import asyncio
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog

from daemon import crash_points
from daemon.disk_room import SCARCE_BYTES, measure
from daemon.durable import sync
from daemon.errors import SacdError
from daemon.journal_copy import CopyFailed, Pause, copy_sound, partial, remove_stale
from daemon.ports import Clock

KEEP = 24
KEEP_DAYS = 7
EVERY_S = 3_600.0
_RETRY_S = 600.0
_SETTLE_S = 60.0
"""No backup in the first minute of a daemon: it has the start to do, and one that only just ended made one."""
_PAUSE_S = 0.002
"""How long a copy beside trading rests between two steps, so that loop and disk are free for the next commit."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """A sound backup. entries: how many the journal had; head: hash of the last one, hex; at_ms: when it was made."""

    path: Path
    entries: int
    head: str
    at_ms: int
    seconds: float


BackupResult = Backup | CopyFailed


class JournalBackups:
    """The regular backups of one journal."""

    def __init__(self, path: Path, directory: Path, keep: int, clock: Clock, *, every_s: float = EVERY_S) -> None:
        """keep: so many of the newest automatic ones stay, and the last one of each of the last seven days."""
        self.tell: Callable[[BackupResult], None] | None = None
        """Told how each attempt ended, on the event loop."""
        self._path = path.resolve()
        self._directory = directory
        self._keep = keep
        self._clock = clock
        self._every_s = every_s
        self._turn = asyncio.Lock()

    async def run(self) -> None:
        """Take a backup whenever the newest is `every_s` old, until cancelled."""
        wait_s = max(_SETTLE_S, self._due_in_s())
        while True:
            await self._clock.sleep_s(wait_s)
            result = await self.attempt()
            wait_s = self._every_s if isinstance(result, Backup) else min(_RETRY_S, self._every_s)

    async def attempt(self) -> BackupResult:
        """Take one now and return it, or why there is none; raises nothing for what a disk can do."""
        async with self._turn:
            result = await self._in_thread()
        if isinstance(result, Backup):
            _log.info("journal_backed_up", path=str(result.path), entries=result.entries, seconds=result.seconds)
        else:
            _log.error("journal_backup_failed", reason=str(result))
        if self.tell is not None:
            self.tell(result)
        return result

    async def _in_thread(self) -> BackupResult:
        """Copy in a thread; when cancelled, let the thread drop the copy first."""
        stop = threading.Event()

        def pause() -> None:
            if stop.wait(_PAUSE_S):
                raise CopyFailed("the daemon ends: the copy was dropped")

        copying = asyncio.ensure_future(asyncio.to_thread(self._take, pause))
        try:
            return await asyncio.shield(copying)
        except asyncio.CancelledError:
            stop.set()
            await asyncio.wait({copying})
            raise

    def _take(self, pause: Pause) -> BackupResult:
        try:
            at_ms = self._clock.now_ms()
            made = take(self._path, automatic_place(self._path, self._directory, at_ms), self._clock, pause)
            prune(self._path, self._directory, self._keep)
        except CopyFailed as error:
            return error
        except OSError as error:
            return CopyFailed(f"{self._directory}: {error.strerror}: backups cannot be thinned out")
        return made

    def _due_in_s(self) -> float:
        places = automatic(self._path, self._directory)
        if not places:
            return 0.0
        age_s = (self._clock.now_ms() - made_ms(places[0])) / 1_000
        return min(self._every_s, max(0.0, self._every_s - age_s))


def take(path: Path, target: Path, clock: Clock, pause: Pause = lambda: None) -> Backup:
    """Copy the journal at `path` to `target`, which is replaced; on disk and proved sound when this returns.

    Works beside a running daemon. Raises CopyFailed; then `target` is as it was.
    """
    started_s = clock.monotonic_s()
    try:
        _make_directory(target.parent)
        remove_stale(target.parent, f"{path.name}.")
        _check_room(path, target.parent)
        with partial(target) as copy:
            found = copy_sound(path, copy, pause)
            crash_points.at("backup")
            copy.finish()
    except OSError as error:
        raise CopyFailed(f"{target}: cannot be written ({error.strerror}): free space or name another place") from error
    crash_points.at("backup")
    return Backup(
        path=target,
        entries=found.entries,
        head=found.head,
        at_ms=clock.now_ms(),
        seconds=clock.monotonic_s() - started_s,
    )


def by_hand(path: Path, clock: Clock, to: Path | None = None, pause: Pause = lambda: None) -> Backup:
    """Take a backup because somebody asked, to a file that does not exist yet; without one, among the others.

    Such a file is never deleted. Raises SacdError when it exists, CopyFailed as `take`.
    """
    path = path.resolve()
    if not path.is_file():
        raise SacdError(f"there is no journal at {path}: start `sacd run` first, or name another")
    target = to if to is not None else backup_directory(path) / f"{path.name}.manual-{stamp(clock.now_ms())}"
    if target.exists():
        raise SacdError(f"--to {target}: exists already; name a file that does not exist yet")
    return take(path, target, clock, pause)


# ---- which there are --------------------------------------------------------------------------------------------
def backup_directory(path: Path) -> Path:
    """Return where the backups of the journal at `path` lie."""
    return path.resolve().parent / "backups"


def stamp(at_ms: int) -> str:
    """Return a moment as it stands in the names of files: 20261003T101500, UTC."""
    return datetime.fromtimestamp(at_ms // 1_000, UTC).strftime("%Y%m%dT%H%M%S")


def made_ms(place: Path) -> int:
    """Return when a backup was made, by its name, milliseconds UTC."""
    moment = datetime.strptime(place.name[-15:], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    return int(moment.timestamp()) * 1_000


def automatic_place(path: Path, directory: Path, at_ms: int) -> Path:
    """Return where a backup that nobody asked for is put."""
    return directory / f"{path.name}.backup-{stamp(at_ms)}"


def automatic(path: Path, directory: Path) -> list[Path]:
    """Return the backups that nobody asked for, newest first."""
    return _named(path, directory, "backup")


def every_backup(path: Path, directory: Path) -> list[Path]:
    """Return all backups in `directory`, those made by hand included, newest first."""
    return sorted(_named(path, directory, "backup|manual"), key=lambda place: place.name[-15:], reverse=True)


def _named(path: Path, directory: Path, kinds: str) -> list[Path]:
    if not directory.is_dir():
        return []
    pattern = re.compile(rf"{re.escape(path.name)}\.({kinds})-\d{{8}}T\d{{6}}")
    found = [place for place in directory.iterdir() if pattern.fullmatch(place.name) and _is_moment(place)]
    return sorted(found, key=lambda place: place.name, reverse=True)


def _is_moment(place: Path) -> bool:
    """Return False for a name whose digits are no date: it is not one of ours."""
    try:
        made_ms(place)
    except ValueError:
        return False
    return True


def prune(path: Path, directory: Path, keep: int = KEEP, days: int = KEEP_DAYS) -> Sequence[Path]:
    """Delete automatic backups beyond the newest `keep` and the last one of each of the last `days` days there are.

    Returns what was deleted. Raises OSError.
    """
    places = automatic(path, directory)
    last_of_day: dict[str, Path] = {}
    for place in places:  # newest first
        last_of_day.setdefault(place.name[-15:-7], place)
    kept = {*places[:keep], *list(last_of_day.values())[:days]}
    gone = [place for place in places if place not in kept]
    for place in gone:
        place.unlink()
        crash_points.at("backup")
    if gone:
        sync(directory)
    return gone


def _make_directory(directory: Path) -> None:
    if not directory.is_dir():
        directory.mkdir(mode=0o700)
        sync(directory.parent)


def _check_room(path: Path, directory: Path) -> None:
    """Refuse to fill the disk that the journal itself needs."""
    free, size = measure(directory).free, path.stat().st_size
    if free < size + SCARCE_BYTES:
        raise CopyFailed(
            f"{directory}: {free >> 20} MiB free, a backup takes {size >> 20} and {SCARCE_BYTES >> 20} must stay free:"
            " make room, or keep fewer backups"
        )
