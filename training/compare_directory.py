"""The directory of a comparison.

    DIR/compare.json          what all trials have in common
    DIR/trials/ALGORITHM-N/   one trial: its folder of training/member.py, and `result.json` when it is finished
    DIR/report.json           what came of it
    DIR/lock                  held by the process that works here

Nothing is written elsewhere. The same command goes on with it; so does one that asks for more seeds or algorithms.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from training.compare import TrialResult
from training.disk import write_together
from training.errors import TrainingError
from training.locks import lock

FORMAT = "sacd compare 1"
REPORT = "report.json"
_RECORD, _TRIALS, _RESULT, _LOCK = "compare.json", "trials", "result.json", "lock"


class CompareDirectory:
    """A comparison's directory, held by this process alone until it is closed; a context manager."""

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        """Make the directory, or go on with it. identity: what all trials have in common, flat, as JSON types.

        Raises TrainingError when it holds anything else, another comparison, or is in use.
        """
        self.path = path
        self._trials = path / _TRIALS
        self._refuse_strange()
        try:
            self._trials.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TrainingError(f"--out {path}: {error.strerror}: name a place that can be written") from error
        self._descriptor = lock(
            path / _LOCK,
            lambda owner: f"--out {path}: process {owner} compares there: wait for it, or name another",
        )
        try:
            self._require_identity(json.loads(json.dumps(identity)))
        except BaseException:
            os.close(self._descriptor)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def folder(self, name: str) -> Path:
        """Return the folder of a trial, which is made when it is missing."""
        folder = self._trials / name
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise TrainingError(f"{folder}: {error.strerror}: free space, then run again") from error
        return folder

    def keep(self, name: str, result: TrialResult) -> None:
        """Store what came of a trial. Raises TrainingError when it cannot be written."""
        write_together({self.folder(name) / _RESULT: _bytes(asdict(result))})

    def result_of(self, name: str) -> TrialResult | None:
        """Return what came of a trial, None when it is not finished. Raises TrainingError when that is damaged."""
        return _read_result(self._trials / name / _RESULT)

    def results(self) -> list[TrialResult]:
        """Return all that was ever finished here, also what was not asked for this time, in the order of the names."""
        found = (_read_result(folder / _RESULT) for folder in sorted(self._trials.iterdir()))
        return [result for result in found if result is not None]

    def write_report(self, report: Mapping[str, Any]) -> None:
        """Store what came of the comparison. Raises TrainingError when it cannot be written."""
        write_together({self.path / REPORT: _bytes(report)})

    def _refuse_strange(self) -> None:
        path = self.path
        if path.is_symlink() or (path.exists() and not path.is_dir()):
            raise TrainingError(f"--out {path}: it is not a directory: name one that does not exist yet")
        if (
            path.is_dir()
            and not (path / _RECORD).exists()
            and {entry.name for entry in path.iterdir()} - {_TRIALS, _LOCK}
        ):
            raise TrainingError(f"--out {path} holds something else: name a directory that does not exist yet")

    def _require_identity(self, identity: Mapping[str, Any]) -> None:
        """Write down what is compared, or raise TrainingError naming what differs from before."""
        place = self.path / _RECORD
        try:
            before = json.loads(place.read_bytes())
            theirs = dict(before["identity"]) if before["format"] == FORMAT else None
        except FileNotFoundError:
            write_together({place: _bytes({"format": FORMAT, "identity": identity})})
            return
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TrainingError(f"{place}: it cannot be read ({error}): begin anew elsewhere") from error
        if theirs is None:
            raise TrainingError(f"{place}: it is not of this version ({FORMAT}): begin anew elsewhere")
        if odd := [key for key in {**identity, **theirs} if identity.get(key) != theirs.get(key)]:
            told = "; ".join(f"{key} was {theirs.get(key)}, is {identity.get(key)}" for key in odd)
            raise TrainingError(f"--out {self.path} compares something else: {told}; name another directory")


def _read_result(place: Path) -> TrialResult | None:
    try:
        return TrialResult.from_json(json.loads(place.read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{place}: it cannot be read ({error}): remove its folder to repeat the trial") from error


def _bytes(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, indent=1, allow_nan=False).encode() + b"\n"
