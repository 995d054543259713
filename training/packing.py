"""Nested plain values as one file: arrays in the safetensors format, all else as JSON in its header. Never a pickle."""

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from training.errors import TrainingError

_HEADER = "sacd"
_ARRAY, _FLOAT = "$array", "$float"


def pack(value: Any) -> bytes:  # noqa: ANN401 - any nest of plain values
    """Return the bytes of a nest of dicts with text keys, lists, tuples, arrays, numbers, text, truth and None.

    Equal values give equal bytes. Raises TypeError for anything else.
    """
    arrays: dict[str, NDArray[Any]] = {}
    header = json.dumps(_flatten(value, arrays), allow_nan=False, separators=(",", ":"))
    return safetensors.numpy.save(arrays, metadata={_HEADER: header})


def unpack(data: bytes) -> Any:  # noqa: ANN401 - whatever was packed
    """Return what `pack` was given, tuples as lists; the arrays are the caller's own.

    Raises TrainingError when the bytes are not of `pack`.
    """
    try:
        arrays = safetensors.numpy.load(data)
        size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + size])["__metadata__"][_HEADER]
        return _nest(json.loads(header), arrays)
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"not a file of training state: {error}") from error


def _flatten(value: Any, arrays: dict[str, NDArray[Any]]) -> Any:  # noqa: ANN401
    """Return JSON types; arrays go into `arrays` under the number they come in."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {_FLOAT: repr(value)}
    if isinstance(value, np.ndarray):
        name = str(len(arrays))
        arrays[name] = np.ascontiguousarray(value).reshape(value.shape)
        return {_ARRAY: name}
    if isinstance(value, Mapping):
        if odd := [key for key in value if not isinstance(key, str) or key.startswith("$")]:
            raise TypeError(f"keys {odd} cannot be packed")
        return {key: _flatten(part, arrays) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_flatten(part, arrays) for part in value]
    raise TypeError(f"{type(value).__name__} cannot be packed")


def _nest(value: Any, arrays: Mapping[str, NDArray[Any]]) -> Any:  # noqa: ANN401
    if isinstance(value, list):
        return [_nest(part, arrays) for part in value]
    if not isinstance(value, dict):
        return value
    if _ARRAY in value:
        return arrays[value[_ARRAY]].copy()  # what safetensors returns looks into the file's bytes: not to be written
    if _FLOAT in value:
        return float(value[_FLOAT])
    return {key: _nest(part, arrays) for key, part in value.items()}
