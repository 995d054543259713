"""Reads records that were stored as JSON: exactly their keys, each of its type, every number finite."""

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from strategy.errors import BadState

_Record = TypeVar("_Record")


def read_record(kind: type[_Record], values: Any, **converted: Any) -> _Record:  # noqa: ANN401 - whatever JSON held
    """Return the dataclass `kind` stored as `values`; `converted` holds the fields that are no plain numbers.

    Raises BadState naming the record, the field and what stands there.
    """
    name = kind.__name__
    if not isinstance(values, Mapping):
        raise BadState(f"stored {name} is {values!r}, not an object")
    known = {field.name: field.type for field in fields(kind)}  # type: ignore[arg-type]  # only dataclasses come here
    if wrong := known.keys() ^ values.keys():
        raise BadState(f"stored {name}: unknown or missing keys: {', '.join(sorted(map(str, wrong)))}")
    for key, wanted in known.items():
        if key not in converted and not _is_plain(values[key], wanted):
            raise BadState(
                f"stored {name}: {key} is {values[key]!r}, not a finite {getattr(wanted, '__name__', wanted)}"
            )
    return kind(**{**values, **converted})


def _is_plain(value: Any, wanted: Any) -> bool:  # noqa: ANN401 - as above
    if wanted is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if wanted is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, bool) if wanted is bool else isinstance(value, str)
