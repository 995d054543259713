"""What the daemon and the trainer say to each other, in files of the directory `retrain` beside the journal.

The daemon writes `request.json`; a trainer takes it, holds `lock` for as long as it works, tells in `progress.json`
how far it is, and leaves `result.json`. Each file is replaced whole: a reader finds the former one, the new one or
none, whoever is killed meanwhile. What the trainer wrote is opened like a stranger's: plain files of bounded size.
The functions that write wait for the disk: call them outside the event loop.
"""

import contextlib
import errno
import fcntl
import json
import math
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from daemon.durable import sync
from daemon.errors import ArtifactError, TransientError
from daemon.model_life import RetrainBy
from daemon.retrain_result import Progress, RetrainResult, progress_of, result_of

FORMAT = 1
REQUEST, RESULT, PROGRESS, LOCK, LOG = "request.json", "result.json", "progress.json", "lock", "trainer.log"
_FRESH = f".{REQUEST}.new"
_LARGEST = 2**20
_ID = re.compile(r"[0-9a-f]{16}")


class RetrainRefused(TransientError):
    """A retraining cannot be asked for, or begun, as things stand; the message says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainRequest:
    """What a trainer is asked for. request: 16 hexadecimal digits.  incumbent: short id of what serves.

    journal: where the candles that were traded on stand.  exchange: where `fetch` asks for more, "" for nowhere.
    data: candle files by symbol.  workers, steps: 0 leaves them to the trainer.  deadline_ms: wall clock, UTC.
    memory_mib: of each process.  max_drawdown: share of its equity that a candidate may lose.
    """

    request: str
    at_ms: int
    by: RetrainBy
    registry: Path
    incumbent: str
    journal: Path
    exchange: str
    timeframe: str
    symbols: tuple[str, ...]
    data: Mapping[str, Path]
    fetch: bool
    workers: int
    steps: int
    deadline_ms: int
    memory_mib: int
    holdout_days: float
    gate_confidence: float
    max_drawdown: float

    def __post_init__(self) -> None:
        for what, name in (("request", self.request), ("incumbent", self.incumbent)):
            if _ID.fullmatch(name) is None:
                raise ValueError(f"{what} {name!r} is not 16 hexadecimal digits")
        for place in (self.registry, self.journal, *self.data.values()):
            if not place.is_absolute():
                raise ValueError(f"{place} is no absolute path, and the trainer may run elsewhere")
        if self.deadline_ms <= self.at_ms:
            raise ValueError(f"deadline {self.deadline_ms} is not after {self.at_ms}, when it was asked for")

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON types, as it stands in the file."""
        return {
            "format": FORMAT,
            "request": self.request,
            "at_ms": self.at_ms,
            "by": self.by.value,
            "registry": str(self.registry),
            "incumbent": self.incumbent,
            "journal": str(self.journal),
            "exchange": self.exchange,
            "timeframe": self.timeframe,
            "symbols": list(self.symbols),
            "data": {symbol: str(place) for symbol, place in self.data.items()},
            "fetch": self.fetch,
            "workers": self.workers,
            "steps": self.steps,
            "deadline_ms": self.deadline_ms,
            "memory_mib": self.memory_mib,
            "holdout_days": self.holdout_days,
            "gate_confidence": self.gate_confidence,
            "max_drawdown": self.max_drawdown,
        }


# ---- the request, which is ours ---------------------------------------------------------------------------------
def write_request(directory: Path, request: RetrainRequest) -> None:
    """Put the request where a trainer finds it; it outlasts a loss of power once this returns.

    Raises RetrainRefused while another request waits there, a trainer works, or the disk does not take it: then no
    trainer will find it.
    """
    text = json.dumps(request.to_json(), allow_nan=False, indent=1).encode() + b"\n"
    try:
        _make_private(directory)
        with _only_writer(directory):
            if os.path.lexists(directory / REQUEST):
                raise RetrainRefused(f"{directory / REQUEST}: a request waits there already: wait until it is answered")
            _write(directory / _FRESH, text)
            (directory / _FRESH).replace(directory / REQUEST)
        sync(directory)
    except OSError as error:
        raise RetrainRefused(
            f"{directory}: the request for a retraining cannot be written ({error.strerror}): make room there, or "
            "correct its owner and mode"
        ) from error


def waiting_request(directory: Path) -> str | None:
    """Return the id of the request that no trainer has taken yet, None when none waits. Raises ArtifactError."""
    place = directory / REQUEST
    values = _object_in(place)
    if values is None:
        return None
    name = values.get("request")
    if not isinstance(name, str) or _ID.fullmatch(name) is None:
        raise _broken(place, f"request = {str(name)[:40]!r} is not 16 hexadecimal digits")
    return name


def withdraw_request(directory: Path) -> None:
    """Remove the request that no trainer has taken yet, if there is one, for good. Raises OSError."""
    _remove(directory / REQUEST)


def _make_private(directory: Path) -> None:
    if not directory.is_dir():
        directory.mkdir(mode=stat.S_IRWXU, parents=True)
        sync(directory.parent)
    if stat.S_IMODE(directory.stat().st_mode) != stat.S_IRWXU:
        directory.chmod(stat.S_IRWXU)


@contextlib.contextmanager
def _only_writer(directory: Path) -> Iterator[None]:
    """Keep out trainers, and other daemons of the same state directory."""
    descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        if not _takes(descriptor, fcntl.LOCK_EX):
            raise _is_busy(directory, _owner(descriptor))
        yield
    finally:
        os.close(descriptor)


def _takes(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_busy(directory: Path, owner: str) -> RetrainRefused:
    return RetrainRefused(f"{directory}: a retraining is under way (process {owner}): wait until it has ended")


def _write(place: Path, text: bytes) -> None:
    # Always the same name: what a killed daemon left there is written over.
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(place, flags, 0o600)
    try:
        while text:
            text = text[os.write(descriptor, text) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(place: Path) -> None:
    if os.path.lexists(place):
        place.unlink(missing_ok=True)
        sync(place.parent)


# ---- the trainer at work ----------------------------------------------------------------------------------------
def is_running(directory: Path) -> bool:
    """Return whether a trainer works there: whether it, or a process that it left behind, holds the lock.

    Raises OSError.
    """
    return _holder(directory) is not None


def refuse_second(directory: Path) -> None:
    """Raise RetrainRefused while a trainer works there, OSError when that cannot be told."""
    owner = _holder(directory)
    if owner is not None:
        raise _is_busy(directory, owner)


def read_progress(directory: Path) -> Progress | None:
    """Return how far the trainer says it is, None when it says nothing. Raises ArtifactError as `read_result` does."""
    place = directory / PROGRESS
    values = _object_in(place)
    if values is None:
        return None
    try:
        return progress_of(values)
    except ValueError as error:
        raise _broken(place, str(error)) from error


def _holder(directory: Path) -> str | None:
    """Return the process id of the trainer, "unknown" when it has not written it down, None when there is none."""
    try:
        descriptor = os.open(directory / LOCK, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        return None if _takes(descriptor, fcntl.LOCK_SH) else _owner(descriptor)
    finally:
        os.close(descriptor)


def _owner(descriptor: int) -> str:
    text = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
    return text if text.isdecimal() else "unknown"


# ---- what came of it --------------------------------------------------------------------------------------------
def read_result(directory: Path) -> RetrainResult | None:
    """Return what a trainer left, None when there is nothing; `request` in it says what it answers.

    Raises ArtifactError naming file, value and remedy when it cannot be trusted.
    """
    place = directory / RESULT
    values = _object_in(place)
    if values is None:
        return None
    try:
        return result_of(values)
    except ValueError as error:
        raise _broken(place, str(error)) from error


def clear_result(directory: Path) -> None:
    """Remove the result, if there is one, for good: only once what it says stands in the journal. Raises OSError."""
    _remove(directory / RESULT)


def _object_in(place: Path) -> dict[str, Any] | None:
    """Return the JSON object in a file, None without a file. Raises ArtifactError."""
    try:
        text = _contents(place)
        if text is None:
            return None
        values = json.loads(text, parse_float=_finite, parse_constant=_no_number)
        json.dumps(values, ensure_ascii=False).encode("utf-8")  # half a surrogate pair could not be journalled
    except OSError as error:
        reason = "it is a link" if error.errno == errno.ELOOP else f"it cannot be read ({error.strerror})"
        raise _broken(place, reason) from error
    except (ValueError, RecursionError) as error:
        raise _broken(place, f"it is no JSON that can be kept ({str(error)[:120]})") from error
    if not isinstance(values, dict):
        raise _broken(place, "it holds no object")
    return values


def _contents(place: Path) -> bytes | None:
    try:
        # O_NONBLOCK for a pipe that nobody writes to.
        descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise _broken(place, "it is not a plain file")
        if found.st_size > _LARGEST:
            raise _broken(place, f"{found.st_size} bytes are more than the {_LARGEST} it may have")
        return os.pread(descriptor, _LARGEST, 0)
    finally:
        os.close(descriptor)


def _finite(digits: str) -> float:
    value = float(digits)
    return value if math.isfinite(value) else _no_number(digits)


def _no_number(digits: str) -> NoReturn:
    raise ValueError(f"{digits[:40]} is no number that can be kept")


def _broken(place: Path, reason: str) -> ArtifactError:
    return ArtifactError(f"{place}: {reason}; see {LOG} beside it for what the trainer did, then remove the file")
