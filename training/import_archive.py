"""Looks at a Stable-Baselines3 archive from outside: what it says it is, and whether it is well-formed.

Only the table of contents, the JSON text and the version are read. Nothing is ever unpickled here, and whatever the
archive says is no more than its own word.
"""

import hashlib
import io
import json
import os
import re
import stat
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from strategy.observation import N_OBSERVATION
from training.errors import TrainingError

LARGEST_ARCHIVE = 256 * 2**20
LARGEST_CONTENTS = 2**30
_LARGEST_TEXT = 16 * 2**20
_MOST_ENTRIES = 64
_DATA, _POLICY, _VERSION = "data", "policy.pth", "_stable_baselines3_version"
_ENTRY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_KNOWN_VERSION = re.compile(r"[0-9][0-9A-Za-z.+-]{0,31}")
_PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1
_NOT_SAC = {
    "top_quantiles_to_drop_per_net": "TQC",
    "target_policy_noise": "TD3 or DDPG",
    "exploration_fraction": "DQN",
    "n_epochs": "PPO",
    "gae_lambda": "A2C",
}
"""A setting only that algorithm has -> the algorithm."""


class ImportRefused(TrainingError):
    """An archive that cannot become a bundle, or that did what loading a model does not need."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """An archive as it lies there. version, steps, size: its own word, None where it says nothing that can be.

    contents: the bytes of the file, of which sha256 is the hash.  size: numbers in an observation.
    """

    name: str
    contents: bytes = field(repr=False)
    sha256: str
    version: str | None
    steps: int | None
    size: int | None

    def describe(self) -> str:
        """Return in words what the archive says it is."""
        return ", ".join(
            (
                f"SAC archive of Stable-Baselines3 {self.version or 'of unknown version'}",
                f"{self.size if self.size is not None else 'unknown'} numbers observed",
                f"{self.steps if self.steps is not None else 'unknown'} steps trained",
                f"{len(self.contents):,} bytes",
                f"sha256 {self.sha256}",
            )
        )


def read_archive(path: Path) -> Archive:
    """Return the archive at `path`. Raises ImportRefused, naming file, fault and remedy, for all that is no SAC one."""
    contents = _contents(path)
    name = plain(path.name, 100)
    try:
        with zipfile.ZipFile(io.BytesIO(contents)) as archive:
            _check_entries(name, archive)
            data = _json(name, archive.read(_DATA))
            version = archive.read(_VERSION).decode("ascii", "replace") if _VERSION in archive.namelist() else ""
    # zlib.error, EOFError: of packed data; NotImplementedError: of a kind of zip that this Python does not know.
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError) as error:
        _refuse(name, f"it is not a whole zip file ({plain(str(error))}): copy it again, or save the model again")
    _check_algorithm(name, data)
    return Archive(
        name=name,
        contents=contents,
        sha256=hashlib.sha256(contents).hexdigest(),
        version=version.strip() if _KNOWN_VERSION.fullmatch(version.strip()) else None,
        steps=_whole(data.get("num_timesteps")),
        size=_size(name, data.get("observation_space")),
    )


def plain(text: str, most: int = 500) -> str:
    """Return text that others wrote on one line of printable characters, cut to `most`."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 8 * most]).split())
    return line if len(line) <= most else line[: most - 3] + "..."


def _contents(path: Path) -> bytes:
    try:
        # Not to wait for a pipe that nobody writes to.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                _refuse(str(path), "it is not a file: name the model.zip that Stable-Baselines3 saved")
            if status.st_size > LARGEST_ARCHIVE:
                _refuse(str(path), f"{status.st_size} bytes are more than the {LARGEST_ARCHIVE} an archive may have")
            return file.read(LARGEST_ARCHIVE)
    except IsADirectoryError:
        _refuse(str(path), "it is not a file: name the model.zip that Stable-Baselines3 saved")
    except OSError as error:
        _refuse(str(path), f"it cannot be read ({error.strerror}): correct the path or its permissions")


def _check_entries(name: str, archive: zipfile.ZipFile) -> None:
    entries = archive.infolist()
    # A saved model holds zip files of its own: where the end is cut off, the table of one of those is found.
    if min((entry.header_offset for entry in entries), default=0) != 0:
        raise zipfile.BadZipFile("it does not begin where its table says")
    names = [entry.filename for entry in entries]
    if len(entries) > _MOST_ENTRIES or len(set(names)) != len(names):
        _refuse(name, f"it holds {len(entries)} entries, some perhaps twice; a saved model has about eight, each once")
    for entry in entries:
        if not _ENTRY.fullmatch(entry.filename):
            _refuse(name, f"entry {plain(repr(entry.filename), 80)} is not a plain name as Stable-Baselines3 writes it")
        if entry.flag_bits & _ENCRYPTED or entry.compress_type not in _PACKINGS:
            _refuse(name, f"entry {entry.filename} is encrypted or packed in a way that saved models are not")
    if missing := sorted({_DATA, _POLICY} - set(names)):
        _refuse(name, f"{', '.join(missing)} is missing: it is not a model that Stable-Baselines3 saved")
    if (size := sum(entry.file_size for entry in entries)) > LARGEST_CONTENTS:
        _refuse(name, f"unpacked it would take {size} bytes, at most {LARGEST_CONTENTS} are taken")
    text = archive.getinfo(_DATA).file_size + (archive.getinfo(_VERSION).file_size if _VERSION in names else 0)
    if text > _LARGEST_TEXT:
        _refuse(name, f"its settings take {text} bytes, at most {_LARGEST_TEXT} are taken")


def _json(name: str, text: bytes) -> Mapping[str, Any]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        _refuse(name, f"its entry data is not JSON ({plain(str(error), 100)}): save the model again")
    if not isinstance(data, dict):
        _refuse(name, "its entry data is not a JSON object: save the model again")
    return data


def _check_algorithm(name: str, data: Mapping[str, Any]) -> None:
    other = next((algorithm for key, algorithm in _NOT_SAC.items() if key in data), None)
    if other is None and "target_entropy" not in data:
        other = "an algorithm other than SAC"
    if other is not None:
        _refuse(name, f"it was saved by {other}: only SAC's actor answers as a bundle does; give an archive of SAC")


def _size(name: str, space: object) -> int | None:
    """Return how many numbers an observation has. Raises ImportRefused when that is not what we observe."""
    shape = space.get("_shape") if isinstance(space, dict) else None
    if not isinstance(shape, list) or not all(_whole(number) is not None for number in shape):
        return None  # whoever loads it will see
    if shape != [N_OBSERVATION]:
        found = " x ".join(map(str, shape[:4])) or "no"
        _refuse(
            name,
            f"it observes {found} numbers, this program shows {N_OBSERVATION}: train it on the observations of this "
            "version (training/trader_env.py)",
        )
    return N_OBSERVATION


def _whole(value: object) -> int | None:
    is_whole = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53
    return value if is_whole else None  # type: ignore[return-value]


def _refuse(name: str, reason: str) -> NoReturn:
    raise ImportRefused(f"{name}: {reason}")
