"""One member's checkpoint: a folder from which training goes on as if it had never ended.

`checkpoint.json` names the files of the one whole checkpoint with their checksums, and is replaced by a rename after
they are on disk: at any moment either the old or the new one is whole. What it names is never written again. The
replay buffer grows at one end and is forgotten at the other, so each checkpoint writes only the transitions that are
new, as a file of their own. Nothing here is a pickle: reading a checkpoint runs no code.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer

from training.disk import write_together
from training.errors import TrainingError
from training.packing import pack, unpack

FORMAT = "sacd checkpoint 1"
INDEX = "checkpoint.json"
_FILES = "checkpoint"
_BEGIN_ANEW = "remove the folder to begin anew"
_COLUMNS = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """One file of a checkpoint. first, end: the transitions it holds, counted from the start; 0 and 0 of the state."""

    name: str
    sha256: str
    size: int
    first: int = 0
    end: int = 0


class Checkpoints:
    """The checkpoint in one member's folder.

    identity: what a run must have in common with the checkpoint it goes on from, as JSON types, flat; what differs is
    named.  Not for several processes at once.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self._folder, self._identity = folder, dict(json.loads(json.dumps(identity)))
        self._index: dict[str, Any] | None = None
        self._replay: list[_File] = []
        self._serial = 0

    @property
    def path(self) -> Path:
        """Where the checkpoint is named."""
        return self._folder / INDEX

    def load(self) -> dict[str, Any] | None:
        """Return the state that was saved last, without the replay buffer; None when there is none.

        Raises TrainingError for a checkpoint that is damaged, not ours, or of another run.
        """
        if not self.path.exists():
            return None
        index = _read_index(self.path)
        self._require_identity(index["identity"])
        self._index, self._serial = index, index["serial"]
        self._replay = [_File(**file) for file in index["replay"]]
        state: dict[str, Any] = self._unpacked(_File(**index["state"]))
        return state

    def load_replay(self, model: BaseAlgorithm) -> None:
        """Fill the model's replay buffer as it was when the loaded state was saved."""
        buffer = replay_of(model)
        if buffer is None or self._index is None:
            return
        for file in self._replay:
            part = self._unpacked(file)
            rows = np.arange(file.first, file.end) % buffer.buffer_size
            for column in _COLUMNS:
                getattr(buffer, column)[rows] = part[column]
        added = self._index["added"]
        buffer.pos, buffer.full = added % buffer.buffer_size, added >= buffer.buffer_size

    def save(self, state: Mapping[str, Any], model: BaseAlgorithm, added: int, *, is_final: bool = False) -> None:
        """Write a checkpoint and forget the one before it.

        added: transitions the replay buffer was ever given, per environment.  is_final: nothing is left to learn.
        Raises TrainingError when it cannot be written; then the one before it is whole.
        """
        serial = self._serial + 1
        try:
            whole, replay = self._parts(state, model, added, serial)
            index = {
                "format": FORMAT,
                "serial": serial,
                "steps": model.num_timesteps,
                "added": added,
                "is_final": is_final,
                "identity": self._identity,
                "state": asdict(whole),
                "replay": [asdict(file) for file in replay],
            }
            _write_index(self.path, index)
        except (OSError, TrainingError) as error:
            raise TrainingError(f"no checkpoint can be kept: {error}") from error
        self._index, self._serial, self._replay = index, serial, replay
        _remove_unnamed(self._folder, index)

    def _parts(
        self, state: Mapping[str, Any], model: BaseAlgorithm, added: int, serial: int
    ) -> tuple[_File, list[_File]]:
        """Write what the index will name; when that cannot be done, free again what the half of it takes."""
        try:
            (self._folder / _FILES).mkdir(parents=True, exist_ok=True)
            replay = self._with_new(replay_of(model), added)
            return self._written(f"state-{serial:06d}.safetensors", pack(state)), replay
        except (OSError, TrainingError):
            if self._index is not None:
                _remove_unnamed(self._folder, self._index)
            raise

    def _with_new(self, buffer: ReplayBuffer | None, added: int) -> list[_File]:
        """Return the files of the replay buffer, after writing what came since the last checkpoint."""
        if buffer is None or not added:
            return []
        if buffer.pos != added % buffer.buffer_size:
            raise TrainingError(f"the replay buffer stands at {buffer.pos} after {added} transitions: not ours to keep")
        oldest = max(0, added - buffer.buffer_size)
        known = [file for file in self._replay if file.end > oldest]
        first = max(oldest, known[-1].end if known else 0)
        if first == added:
            return known
        rows = np.arange(first, added) % buffer.buffer_size
        part = {column: getattr(buffer, column)[rows] for column in _COLUMNS}
        file = self._written(f"replay-{first:012d}-{added:012d}.safetensors", pack(part))
        return [*known, replace(file, first=first, end=added)]

    def _written(self, name: str, data: bytes) -> _File:
        write_together({self._folder / _FILES / name: data})
        return _File(name=name, sha256=hashlib.sha256(data).hexdigest(), size=len(data))

    @property
    def left(self) -> str:
        """What there is to go on from, in words."""
        if self._index is None:
            return "there is no checkpoint yet"
        return f"the checkpoint of step {self._index['steps']} is whole: run again to go on from there"

    def _unpacked(self, file: _File) -> Any:  # noqa: ANN401 - whatever was saved
        path = self._folder / _FILES / file.name
        try:
            data = path.read_bytes()
        except OSError as error:
            raise TrainingError(f"{path}: part of the checkpoint cannot be read: {error}; {_BEGIN_ANEW}") from error
        if len(data) != file.size or hashlib.sha256(data).hexdigest() != file.sha256:
            raise TrainingError(
                f"{path}: part of the checkpoint is damaged, {len(data)} bytes where {file.size} were written; "
                f"{_BEGIN_ANEW}"
            )
        return unpack(data)

    def _require_identity(self, theirs: Mapping[str, Any]) -> None:
        """Raise TrainingError naming what a checkpoint was made with and this run has not."""
        keys = [*self._identity, *(key for key in theirs if key not in self._identity)]
        odd = [key for key in keys if self._identity.get(key) != theirs.get(key)]
        if odd:
            told = "; ".join(f"{key} was {theirs.get(key)}, is {self._identity.get(key)}" for key in odd)
            raise TrainingError(
                f"{self.path}: the checkpoint is of another run: {told}; change it back, or {_BEGIN_ANEW}"
            )


def replay_of(model: BaseAlgorithm) -> ReplayBuffer | None:
    """Return the replay buffer of a model that has one."""
    buffer = getattr(model, "replay_buffer", None)
    return buffer if isinstance(buffer, ReplayBuffer) else None


def drop_replay(folder: Path) -> None:
    """Free what the replay buffer takes in a finished member's folder; weights and optimisers stay.

    Raises TrainingError when the member is not finished: it could not go on.
    """
    path = folder / INDEX
    index = _read_index(path)
    if not index["is_final"]:
        raise TrainingError(f"{path}: the member is not finished and needs its replay buffer to go on; finish it first")
    index["replay"] = []
    _write_index(path, index)
    _remove_unnamed(folder, index)


def _read_index(path: Path) -> dict[str, Any]:
    try:
        index = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise TrainingError(f"{path}: the checkpoint cannot be read: {error}; {_BEGIN_ANEW}") from error
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        raise TrainingError(f"{path}: this is no checkpoint of this version ({FORMAT}); {_BEGIN_ANEW}")
    if index.pop("sha256", None) != _digest(index):
        raise TrainingError(f"{path}: the checkpoint was changed after it was written; {_BEGIN_ANEW}")
    return index


def _write_index(path: Path, index: Mapping[str, Any]) -> None:
    write_together({path: json.dumps({**index, "sha256": _digest(index)}, indent=1).encode()})


def _digest(index: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(index, sort_keys=True).encode()).hexdigest()


def _remove_unnamed(folder: Path, index: Mapping[str, Any]) -> None:
    """Remove what the checkpoint does not name: of the one before it, or of one that was never finished."""
    named = {index["state"]["name"], *(file["name"] for file in index["replay"])}
    for path in (folder / _FILES).iterdir():
        if path.name not in named:
            path.unlink()
    for path in folder.glob(f".{INDEX}.*"):  # what a kill left of writing the index
        path.unlink()
