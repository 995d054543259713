"""What the evaluation of an ensemble says about trading real money: `evaluation.json` beside its manifest.

The file is no part of the bundle: it is written after the bundle was made, and names it by its full id.
"""

import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from daemon.errors import ArtifactError, NotArmed
from strategy.manifest import BundleManifest

EVALUATION = "evaluation.json"
_LARGEST = 4 * 2**20
_ID = re.compile(r"[0-9a-f]{64}")
_REMEDY = "evaluate the ensemble again, or remove the file"


class Verdict(StrEnum):
    """Whether an ensemble may trade real money."""

    READY = "ready"
    NOT_READY = "not ready"
    NONE = "none"
    """It was never evaluated."""
    OTHER_BUNDLE = "other bundle"
    """What lies beside it is the evaluation of another ensemble."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """What was found. at, summary: when it was evaluated and what came out, in words; "" when it never was."""

    verdict: Verdict
    bundle: str
    at: str = ""
    summary: str = ""

    @property
    def is_ready(self) -> bool:
        """Whether the evaluation says ready."""
        return self.verdict is Verdict.READY

    def __str__(self) -> str:
        short = self.bundle[:16]
        match self.verdict:
            case Verdict.READY:
                return f"{short} was found ready at {self.at}: {self.summary}"
            case Verdict.NOT_READY:
                return f"{short} was found not ready at {self.at}: {self.summary}"
            case Verdict.NONE:
                return f"{short} was never evaluated: there is no {EVALUATION} beside its manifest"
            case Verdict.OTHER_BUNDLE:
                return f"{short} was never evaluated: the {EVALUATION} beside its manifest is of another ensemble"


def read_readiness(directory: Path, manifest: BundleManifest) -> Readiness:
    """Return what `directory` (or the one it links to) says of the ensemble `manifest`.

    Raises ArtifactError naming the file when it is there and cannot be understood.
    """
    path = directory / EVALUATION
    content = _contents(path)
    if content is None:
        return Readiness(verdict=Verdict.NONE, bundle=manifest.id)
    bundle, is_ready, at, summary = _fields(path, content)
    verdict = Verdict.READY if is_ready else Verdict.NOT_READY
    if bundle != manifest.id:
        verdict = Verdict.OTHER_BUNDLE
    return Readiness(verdict=verdict, bundle=manifest.id, at=at, summary=summary)


def refuse_unready(readiness: Readiness, allowed: str) -> str:
    """Return the short id of an ensemble that trades although nothing says it is ready, "" for one that is ready.

    allowed: [live] allow_unproven.  Raises NotArmed naming both ways out.
    """
    short = readiness.bundle[:16]
    if readiness.is_ready:
        return ""
    if allowed == short:
        return short
    raise NotArmed(
        f"this ensemble may not trade real money: {readiness}. Serve one whose evaluation says ready, or write "
        f'allow_unproven = "{short}" under [live]: it is journalled'
    )


def _contents(path: Path) -> bytes | None:
    """Return what the file holds, None when there is none; reads nothing but a plain file of bounded size."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror}); {_REMEDY}") from error
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ArtifactError(f"{path}: it is not a plain file; {_REMEDY}")
        if status.st_size > _LARGEST:
            raise ArtifactError(f"{path}: {status.st_size} bytes are more than the {_LARGEST} it may have; {_REMEDY}")
        return file.read(_LARGEST)


def _fields(path: Path, content: bytes) -> tuple[str, bool, str, str]:
    try:
        document = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path}: it is not JSON ({error}); {_REMEDY}") from None
    if not isinstance(document, Mapping):
        raise ArtifactError(f"{path}: it is not a JSON object; {_REMEDY}")
    bundle = _text(path, document, "bundle")
    if not _ID.fullmatch(bundle):
        raise ArtifactError(f"{path}: bundle {bundle[:80]!r} is not the 64 digits of an id; {_REMEDY}")
    is_ready = document.get("ready")
    if not isinstance(is_ready, bool):
        raise ArtifactError(f"{path}: ready {str(is_ready)[:80]!r} is neither true nor false; {_REMEDY}")
    return bundle, is_ready, _moment(path, document), _text(path, document, "summary")


def _text(path: Path, document: Mapping[str, Any], key: str) -> str:
    value = document.get(key)
    if not isinstance(value, str):
        raise ArtifactError(f"{path}: {key} is missing or no text; {_REMEDY}")
    return "".join(character if character.isprintable() else " " for character in value)


def _moment(path: Path, document: Mapping[str, Any]) -> str:
    at = _text(path, document, "at")
    try:
        datetime.fromisoformat(at)
    except ValueError:
        raise ArtifactError(f"{path}: at {at[:80]!r} is no date and time; {_REMEDY}") from None
    return at
