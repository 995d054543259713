"""The directory of one training run: the bundle at its top, and everything it was made from in `training/` below.

    DIR/manifest.json, DIR/member-N.safetensors     the bundle; appear last, the manifest after the members
    DIR/training/run.json                           the whole plan, from which the run can be resumed
    DIR/training/report.json                        what came of every member
    DIR/training/member-N/                          one member's checkpoint, scalars and result
    DIR/training/lock                               held by the process that works here

Training writes nowhere else, but for its trials into the ledger (training/trials.py). (numba keeps compiled functions
beside the source, or where NUMBA_CACHE_DIR says; Ray keeps logs in its own temporary directory.)  Readers of bundles
ignore `training`.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from strategy.manifest import MANIFEST, BundleManifest
from training.bundles import TRAINING_FOLDER
from training.disk import sync_directory, write_together
from training.errors import TrainingError
from training.locks import lock

RUN, REPORT = "run.json", "report.json"
FORMAT = "sacd run 1"
_LOCK, _RESULT, _BUNDLE = "lock", "result.safetensors", "bundle"


def refuse_taken(out: Path) -> None:
    """Raise TrainingError when `out` holds something or cannot be made: found out before the work, not after it."""
    if (out / TRAINING_FOLDER / RUN).exists():
        raise TrainingError(
            f"--out {out} holds a run already: go on with it by `sacd train --resume {out}`, or name another directory"
        )
    if os.path.lexists(out) and (out.is_symlink() or not out.is_dir() or any(out.iterdir())):
        raise TrainingError(f"--out {out} is taken: name a directory that does not exist yet")
    place = place_of(out)
    try:
        tempfile.TemporaryDirectory(dir=place).cleanup()
    except OSError as error:
        raise TrainingError(f"--out {out}: {place}: {error.strerror}; name a place that can be written") from error


def place_of(out: Path) -> Path:
    """Return the nearest directory above `out` that exists."""
    return next(parent for parent in out.absolute().parents if os.path.lexists(parent))


def require_space(out: Path, needed: int) -> None:
    """Raise TrainingError unless `needed` bytes are free where `out` is or will be."""
    free = shutil.disk_usage(out if out.is_dir() else place_of(out)).free
    if needed > free:
        raise TrainingError(
            f"{out}: checkpoints with their replay buffers take up to {_gib(needed)}, {_gib(free)} are free: free "
            "some, name another place, or give a smaller buffer_size or fewer members"
        )


class RunDirectory:
    """A run's directory, held by this process alone until it is closed; a context manager."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.training = path / TRAINING_FOLDER
        self._descriptor = descriptor

    @classmethod
    def create(cls, path: Path, run: Mapping[str, Any]) -> "RunDirectory":
        """Make the directory of a new run. Raises TrainingError when it is taken or cannot be written."""
        refuse_taken(path)
        training = path / TRAINING_FOLDER
        try:
            path.mkdir(parents=True, exist_ok=True)
            training.mkdir()  # of two that start at once, one fails here
        except OSError as error:
            raise TrainingError(f"--out {path}: {error.strerror}; name a directory that does not exist yet") from error
        made = cls(path, _lock(path))
        try:
            made._write(RUN, {"format": FORMAT, **run})
        except BaseException:
            made.discard()
            raise
        return made

    @classmethod
    def open(cls, path: Path) -> tuple["RunDirectory", dict[str, Any]]:
        """Return the directory of a run that began before, and its plan. Raises TrainingError when there is none."""
        place = path / TRAINING_FOLDER / RUN
        try:
            run = json.loads(place.read_bytes())
        except FileNotFoundError as error:
            raise TrainingError(
                f"--resume {path}: there is no {TRAINING_FOLDER}/{RUN} in it: no run began here"
            ) from error
        except (OSError, ValueError) as error:
            raise TrainingError(f"--resume {place}: it cannot be read ({error}): begin anew elsewhere") from error
        if not isinstance(run, dict) or run.pop("format", None) != FORMAT:
            raise TrainingError(f"--resume {place}: it is not of this version ({FORMAT}): begin anew elsewhere")
        return cls(path, _lock(path)), run

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    def discard(self) -> None:
        """Remove a run that has not begun, and give the directory back."""
        os.close(self._descriptor)
        shutil.rmtree(self.training)
        if not any(self.path.iterdir()):
            self.path.rmdir()

    def member_folder(self, index: int) -> Path:
        """Return the folder of one member, which is made when it is missing."""
        folder = self.training / f"member-{index}"
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise TrainingError(f"{folder}: {error.strerror}: free space, then resume") from error
        return folder

    def keep_result(self, index: int, result: bytes) -> None:
        """Store what came of a member. Raises TrainingError when it cannot be written."""
        write_together({self.member_folder(index) / _RESULT: result})

    def result_of(self, index: int) -> bytes | None:
        """Return what was stored of a member, None when it is not finished."""
        try:
            return (self.member_folder(index) / _RESULT).read_bytes()
        except FileNotFoundError:
            return None

    def publish(self, write: Callable[[Path], BundleManifest]) -> BundleManifest:
        """Let `write` make a bundle, and put its files at the top, the manifest last. Raises TrainingError.

        Whoever looks meanwhile finds no bundle; whoever is killed meanwhile finishes it by resuming.
        """
        fresh = self.training / _BUNDLE
        try:
            shutil.rmtree(fresh, ignore_errors=True)  # of a run that was killed here
            manifest = write(fresh)
            for file in sorted(fresh.iterdir(), key=lambda file: (file.name == MANIFEST, file.name)):
                file.replace(self.path / file.name)
                sync_directory(self.path)
            fresh.rmdir()
        except OSError as error:
            raise TrainingError(f"{self.path}: the bundle cannot be written: {error.strerror}; then resume") from error
        return manifest

    def write_report(self, report: Mapping[str, Any]) -> None:
        """Store what came of the run. Raises TrainingError when it cannot be written."""
        self._write(REPORT, report)

    def _write(self, name: str, value: Mapping[str, Any]) -> None:
        write_together({self.training / name: json.dumps(value, indent=1, allow_nan=False).encode() + b"\n"})


def _lock(path: Path) -> int:
    return lock(
        path / TRAINING_FOLDER / _LOCK,
        lambda owner: f"{path}: process {owner} trains in this directory: wait for it, or name another",
    )


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
