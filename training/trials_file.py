"""A file of JSON lines that only grows: each line holds the SHA-256 of the line before it, and its number.

    FILE         the lines; who removes or changes one leaves a line that does not follow
    FILE.head    how many lines there are and the SHA-256 of the last one, which no later line vouches for
    FILE.torn    what a crash left of a line half written, kept for whoever wants to read it

Any number of processes may append: each holds the file's lock while it reads what is new and writes.
"""

import fcntl
import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.disk import write_together
from training.errors import TrainingError

FIRST = "0" * 64
"""What the first line holds for the line before it."""
_NUMBER, _PREVIOUS = "number", "previous"


class LedgerDamaged(TrainingError):
    """A line of the file was changed or removed. The message names it, and the way out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line. sha256: of its bytes, without the line break."""

    values: Mapping[str, Any]
    sha256: str


class LineFile:
    """The file at `path`. lines: those read so far.  torn: bytes of a line half written, found by `read`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: list[Line] = []
        self.torn = b""
        self._size = 0

    def read(self) -> None:
        """Read what is new, and change nothing; a file that is missing is empty.

        Raises LedgerDamaged for a line that does not follow the one before, TrainingError for an unreadable file.
        """
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            self._require_head()
            return
        except OSError as error:
            raise TrainingError(f"{self.path}: cannot be read ({error.strerror}): {_ELSEWHERE}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)  # not while somebody writes
            self._catch_up(descriptor)
        finally:
            os.close(descriptor)

    def append(self, make: Callable[[Sequence[Line]], Sequence[Mapping[str, Any]]]) -> int:
        """Add the lines that `make` returns, which is given all lines there are; returns how many, all on disk.

        They are written together or not at all. Nobody else writes meanwhile. What a crash left of a line is put aside,
        with a warning. Raises as `read`, and TrainingError when it cannot be written.
        """
        try:
            with self._held() as descriptor:
                self._catch_up(descriptor)
                self._put_aside(descriptor)
                made = make(tuple(self.lines))
                if made:
                    self._write(descriptor, made)
        except OSError as error:
            raise TrainingError(f"{self.path}: cannot be written ({error.strerror}): {_ELSEWHERE}") from error
        return len(made)

    # ---- reading ------------------------------------------------------------------------------------------------
    def _catch_up(self, descriptor: int) -> None:
        size = os.fstat(descriptor).st_size
        if size < self._size:
            raise self._damaged("it is shorter than it was a moment ago")
        data = b""
        while len(data) < size - self._size:
            part = os.pread(descriptor, size - self._size - len(data), self._size + len(data))
            if not part:
                break
            data += part
        *whole, self.torn = data.split(b"\n")
        for text in whole:
            self._take(text)
        if self.torn and self._noted() == (len(self.lines) + 1, hashlib.sha256(self.torn).hexdigest()):
            raise self._damaged("the line break at its end was removed")
        self._require_head()

    def _take(self, text: bytes) -> None:
        number = len(self.lines) + 1
        previous = self.lines[-1].sha256 if self.lines else FIRST
        try:
            values = json.loads(text)
        except ValueError:
            values = None
        if not isinstance(values, dict):
            raise self._damaged(f"line {number} is not as it was written")
        if values.get(_NUMBER) != number:
            raise self._damaged(f"line {number} holds the number {values.get(_NUMBER)}: lines before it were removed")
        if values.get(_PREVIOUS) != previous:
            before = "it" if number == 1 else f"line {number - 1}, or {_PREVIOUS} in line {number},"
            raise self._damaged(f"line {number} does not follow the line before: {before} was changed")
        self.lines.append(Line(values=values, sha256=hashlib.sha256(text).hexdigest()))
        self._size += len(text) + 1

    def _require_head(self) -> None:
        """Compare the end with what was noted of it. A crash may leave the note behind the lines, never before them."""
        noted = self._noted()
        if noted is None:
            if self.lines:
                raise self._damaged(f"{_head(self.path).name}, which vouches for the last line, is missing")
            return
        lines, sha256 = noted
        if lines > len(self.lines):
            raise self._damaged(f"lines {len(self.lines) + 1} .. {lines} were removed from its end")
        if lines and self.lines[lines - 1].sha256 != sha256:
            raise self._damaged(f"line {lines} was changed")

    def _noted(self) -> tuple[int, str] | None:
        place = _head(self.path)
        try:
            noted = json.loads(place.read_bytes())
            return int(noted["lines"]), str(noted["sha256"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._damaged(f"{place.name}, which vouches for the last line, cannot be read ({error})") from error

    def _damaged(self, what: str) -> LedgerDamaged:
        return LedgerDamaged(
            f"{self.path}: {what}: put a copy back; or, knowing that its trials no longer count by themselves, move it "
            f"and {_head(self.path).name} away, and note how many there were: sacd trials add --count N --words WHY"
        )

    # ---- writing ------------------------------------------------------------------------------------------------
    @contextmanager
    def _held(self) -> Iterator[int]:
        """Open the file, made when it is missing, and hold its lock."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                if self._is_still_there(descriptor):
                    yield descriptor
                    return
            finally:
                os.close(descriptor)

    def _is_still_there(self, descriptor: int) -> bool:
        """Tell whether the path still leads to the locked file; it may have been moved away while we waited."""
        try:
            return os.path.samestat(os.fstat(descriptor), self.path.stat())
        except FileNotFoundError:
            return False

    def _put_aside(self, descriptor: int) -> None:
        if not self.torn:
            return
        aside = self.path.with_name(f"{self.path.name}.torn")
        kept = os.open(aside, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            os.write(kept, self.torn + b"\n")
            os.fsync(kept)
        finally:
            os.close(kept)
        os.ftruncate(descriptor, self._size)
        warnings.warn(
            f"{self.path}: line {len(self.lines) + 1} was half written when its process ended; its {len(self.torn)} "
            f"bytes lie in {aside.name} now, and going on with that run writes it again",
            stacklevel=2,
        )
        self.torn = b""

    def _write(self, descriptor: int, made: Sequence[Mapping[str, Any]]) -> None:
        if not self.lines:
            self._note()  # before the first line, which otherwise could stand there without a head after a crash
        texts, previous = list[bytes](), self.lines[-1].sha256 if self.lines else FIRST
        for number, values in enumerate(made, len(self.lines) + 1):
            line = {_NUMBER: number, **values, _PREVIOUS: previous}
            text = json.dumps(line, separators=(",", ":"), allow_nan=False).encode()
            previous = hashlib.sha256(text).hexdigest()
            texts.append(text + b"\n")
        self._write_whole(descriptor, b"".join(texts))
        self._catch_up(descriptor)
        self._note()

    def _note(self) -> None:
        """Note the end of the lines in the head, and make both names outlast a loss of power."""
        noted = {"lines": len(self.lines), "sha256": self.lines[-1].sha256 if self.lines else FIRST}
        write_together({_head(self.path): json.dumps(noted).encode() + b"\n"})

    def _write_whole(self, descriptor: int, data: bytes) -> None:
        try:
            written = os.write(descriptor, data)
            while written < len(data):  # a disk that is nearly full takes a part, and then says why
                written += os.write(descriptor, data[written:])
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, self._size)
            raise


def _head(path: Path) -> Path:
    return path.with_name(f"{path.name}.head")


_ELSEWHERE = "every trial is counted there; correct that, or name another place with --ledger or SACD_TRIALS"
