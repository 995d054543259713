"""What the daemon and the trainer say to each other about a retraining: files in one directory, each whole or absent.

    DIR/request.json            written by the daemon; whoever works on it takes it to work/<request>/
    DIR/lock                    held by the trainer for as long as it works; it ends with the process
    DIR/progress.json           how far the trainer is, written anew now and then
    DIR/result.json             written by the trainer; the daemon removes it once it is journalled
    DIR/work/<request>/         all else the trainer writes; only report.json stays

A trainer that was told to end puts the request back; one that was killed leaves it in work/<request>/, where the next
one finds it. report.json holds the result and is written before result.json: from then on the request is answered, and
whoever is killed between the two is followed by one that only publishes it.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from training.disk import sync_directory, write_together
from training.errors import TrainingError
from training.locks import lock
from training.retrain_request import Request, id_in, read_request

REQUEST, RESULT, PROGRESS, REPORT = "request.json", "result.json", "progress.json", "report.json"
REFUSED = "request.refused.json"
"""Where a request goes that cannot be understood: left in place it would be found again and again."""
FORMAT = 1
_LOCK, _WORK = "lock", "work"
_PROGRESS_EVERY_S = 2.0
_TRIES, _PAUSE_S = 10, 0.1
_LONGEST = 400
"""Letters of what is told of progress: the daemon takes no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How a retraining ended. outcome: candidate, kept or failed.  candidate: its short id, "" for none.

    reason: in words.  report: JSON types, as `retrain.report_of` makes it.
    """

    request: str
    outcome: str
    reason: str
    candidate: str
    report: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON types, as it stands in result.json."""
        return {
            "format": FORMAT,
            "request": self.request,
            "outcome": self.outcome,
            "candidate": self.candidate,
            "reason": self.reason,
            "report": dict(self.report),
        }


class Exchange:
    """The directory, held by this process alone until it is closed; a context manager."""

    def __init__(self, path: Path, now_s: Callable[[], float] = time.monotonic) -> None:
        """Take the lock. Raises TrainingError when another trainer works there, or when it is not a directory."""
        if not path.is_dir():
            raise TrainingError(f"{path}: there is no such directory: name the one in which the daemon puts requests")
        self.path = path
        self._lock = _locked(path)
        self._now_s, self._told_s = now_s, -_PROGRESS_EVERY_S

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._lock)

    # ---- the request --------------------------------------------------------------------------------------------
    def claim(self) -> Request | None:
        """Return the request to work on, which nobody else can take any more; None when nothing is asked for.

        That is the new one; without it, one that a killed trainer left. Other leftovers are removed.
        Raises TrainingError for a request that cannot be understood, after it was put aside.
        """
        try:
            request = self._taken() if (self.path / REQUEST).exists() else self._left()
            self._tidy("" if request is None else request.request)
        except OSError as error:
            raise self._unwritable(error) from error
        return request

    def folder(self, request: str) -> Path:
        """Return where the trainer works on a request."""
        return self.path / _WORK / request

    def put_back(self, request: Request) -> None:
        """Leave a request for the next trainer, with all that was done for it. Raises TrainingError."""
        try:
            (self.folder(request.request) / REQUEST).replace(self.path / REQUEST)
            sync_directory(self.path)
            (self.path / PROGRESS).unlink(missing_ok=True)
        except OSError as error:
            raise self._unwritable(error) from error

    def _taken(self) -> Request:
        """Return the new request, and make it ours."""
        place = self.path / REQUEST
        request = self._read(place)
        folder = self.folder(request.request)
        folder.mkdir(parents=True, exist_ok=True)
        place.replace(folder / REQUEST)
        sync_directory(folder)
        sync_directory(self.path)
        return request

    def _read(self, place: Path) -> Request:
        try:
            return read_request(place)
        except TrainingError as error:
            request = id_in(place)
            place.replace(self.path / REFUSED)
            if request:  # whoever asked knows it by that
                told = Result(request=request, outcome="failed", reason=str(error), candidate="", report={})
                write_together({self.path / RESULT: _json(told.to_json())})
            raise

    def _left(self) -> Request | None:
        """Return the newest request that was claimed and not answered."""
        left = [read_request(place) for place in (self.path / _WORK).glob(f"*/{REQUEST}")]
        return max(left, key=lambda request: request.at_ms, default=None)

    def _tidy(self, kept: str) -> None:
        """Remove what trainers of other requests left, but for what came of them, and files half written."""
        for name in (RESULT, PROGRESS):
            for half in self.path.glob(f".{name}.????????"):  # by a kill in `write_together`
                half.unlink()
        for folder in (self.path / _WORK).glob("*"):
            if folder.name != kept:
                _clear(folder, {REPORT})
                if not any(folder.iterdir()):
                    folder.rmdir()

    # ---- what is told -------------------------------------------------------------------------------------------
    def progress(self, stage: str, done: int, total: int, words: str, *, always: bool = False) -> None:
        """Tell how far the work is, at most every two seconds unless `always`. Raises TrainingError."""
        now_s = self._now_s()
        if always or now_s - self._told_s >= _PROGRESS_EVERY_S:
            self._told_s = now_s
            told = {"stage": stage, "done": done, "of": total, "words": words[:_LONGEST]}
            write_together({self.path / PROGRESS: _json(told)})

    def answered(self, request: Request) -> Mapping[str, Any] | None:
        """Return the result that a killed trainer did not publish, as JSON types, None when there is none.

        Raises TrainingError when it cannot be read.
        """
        place = self.folder(request.request) / REPORT
        try:
            found: dict[str, Any] = json.loads(place.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise TrainingError(
                f"{place}: it cannot be read ({error}): remove it, and the training is repeated"
            ) from error
        return found

    def finish(self, result: Result) -> None:
        """Answer the request, and remove what it was worked out with. Raises TrainingError when it cannot be written.

        After a failure the room is given back first: a full disk may be what it was.
        """
        folder = self.folder(result.request)
        if result.outcome == "failed":
            self._clear(folder, {REQUEST, REPORT})
        write_together({folder / REPORT: _json(result.to_json())})
        self.publish(result.request, result.to_json())

    def publish(self, request: str, told: Mapping[str, Any]) -> None:
        """Put an answer where the daemon looks, and remove all but report.json. Raises TrainingError."""
        folder = self.folder(request)
        write_together({self.path / RESULT: _json(told)})
        try:
            (folder / REQUEST).unlink(missing_ok=True)  # first: what is not asked for any more is not done again
            sync_directory(folder)
            (self.path / PROGRESS).unlink(missing_ok=True)
        except OSError as error:
            raise self._unwritable(error) from error
        self._clear(folder, {REPORT})

    def _clear(self, folder: Path, kept: set[str]) -> None:
        try:
            _clear(folder, kept)
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> TrainingError:
        return TrainingError(f"{error.filename or self.path}: {error.strerror}: free space or correct its permissions")


def _locked(path: Path) -> int:
    """Return the descriptor of the lock, which the daemon holds for moments too, to see whether anybody does."""
    tries = 0
    while True:
        try:
            return lock(path / _LOCK, lambda owner: f"{path}: process {owner} trains here already: wait for it")
        except TrainingError:
            tries += 1
            if tries == _TRIES:
                raise
            time.sleep(_PAUSE_S)


def _clear(folder: Path, kept: set[str]) -> None:
    for entry in folder.iterdir():
        if entry.name in kept:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, indent=1, allow_nan=False).encode() + b"\n"
