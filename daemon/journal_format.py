"""What a journalled record looks like on disk: its kinds, its canonical JSON and the hash that chains it.

Writer, reader and verification share this file, so that they cannot disagree. Touches no file and no clock.
"""

import json
import struct
from collections.abc import Callable
from hashlib import sha256
from typing import Any, cast

from daemon.errors import DataError, FatalError
from daemon.ports import Record

KINDS = frozenset(
    {
        "run",
        "stop",
        "model",
        "shadow",
        "drift",
        "candle",
        "gap",
        "late_candle",
        "feed",
        "decision",
        "order",
        "fill",
        "command",
        "risk",
        "intent",
        "exit",
        "external",
        "venue",
        "checkpoint",
    }
)

GENESIS = bytes(32)
"""The hash that stands before the first record."""

# ASCII only: any Python string comes back as it was, and no byte of the file depends on an encoding. Floats are
# written by repr, the shortest text that gives the same float again.
_to_json: Callable[[Any], str] = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True
).encode
_pack_head: Callable[[int, int, int], bytes] = struct.Struct(">qqB").pack


def encode(record: Record) -> tuple[str, str]:
    """Return kind and canonical JSON of a record: keys sorted, no spaces, tuples as lists, every key a string.

    Raises FatalError for an unknown kind and for what JSON cannot hold: NaN, infinity, sets, bytes, objects.
    """
    if record.kind not in KINDS:
        raise FatalError(f"journal record of unknown kind {record.kind!r}: one of {', '.join(sorted(KINDS))}")
    try:
        return record.kind, _to_json(dict(record.payload))
    except (TypeError, ValueError, RecursionError) as error:
        raise FatalError(f"journal record {record.kind}: payload is not plain finite JSON ({error})") from error


def decode(seq: int, payload: bytes) -> dict[str, Any]:
    """Return the payload of entry `seq`. Raises DataError when it is not a JSON object."""
    try:
        value = json.loads(payload.decode("ascii"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"journal entry {seq}: payload is not JSON ({error}); run `sacd journal verify`") from error
    if not isinstance(value, dict):
        raise DataError(f"journal entry {seq}: payload is not a JSON object; run `sacd journal verify`")
    return cast("dict[str, Any]", value)


def link(previous: bytes, seq: int, at_ms: int, kind: bytes, payload: bytes) -> bytes:
    """Return the hash of a row: sha256 of the previous hash, seq, at_ms, length of kind, kind, payload.

    Integers are big-endian (8, 8 and 1 bytes), so that no two different rows give the same input.
    """
    return sha256(b"".join((previous, _pack_head(seq, at_ms, len(kind)), kind, payload))).digest()
