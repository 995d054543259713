"""Where an evaluation goes: beside the manifest for the daemon's gate, and whole into a directory for people."""

import errno
import json
import os
import shlex
import tempfile
from pathlib import Path
from typing import Any

from training.disk import write_together
from training.errors import TrainingError
from training.evaluation import Evaluation
from training.run_directory import place_of

EVALUATION, REPORT = "evaluation.json", "report.html"


def as_bytes(document: dict[str, Any], indent: int | None = 1) -> bytes:
    """Return a JSON object as the contents of a file."""
    return json.dumps(document, indent=indent, allow_nan=False).encode() + b"\n"


def refuse_unwritable(out: Path) -> None:
    """Raise TrainingError when no directory `out` can be made or written: found out before the work, not after it."""
    if os.path.lexists(out) and not out.is_dir():
        raise TrainingError(f"--out {out}: is not a directory; name one, or what does not exist yet")
    place = out if out.is_dir() else place_of(out)
    try:
        if not place.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        tempfile.TemporaryDirectory(dir=place).cleanup()
    except OSError as error:
        raise TrainingError(f"--out {out}: {place}: {error.strerror}; name a place that can be written") from error


def write_whole(out: Path, evaluation: Evaluation, page: str) -> None:
    """Put the evaluation with its curves and the report into `out`, each whole or not at all. Raises TrainingError."""
    out.mkdir(parents=True, exist_ok=True)
    # No indent: the curves hold a hundred thousand numbers.
    document = as_bytes(evaluation.to_json(), indent=None)
    write_together({out / EVALUATION: document, out / REPORT: page.encode()})


def write_beside(bundle: Path, evaluation: Evaluation) -> None:
    """Put the evaluation without its curves where the daemon's gate looks for it.

    Raises TrainingError when the bundle's directory cannot be written.
    """
    try:
        write_together({bundle.resolve() / EVALUATION: as_bytes(evaluation.to_json(curves=False))})
    except TrainingError as error:
        again = f"sacd evaluate --model {shlex.quote(str(bundle))}"
        raise TrainingError(
            f"{error}; the daemon does not see this evaluation: make the directory of the bundle writable and repeat "
            f"{again} ..."
        ) from error
