"""What the daemon asks of the trainer: request.json, read strictly, for both sides are of one version."""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strategy.candle import Timeframe
from strategy.errors import InvalidCandle
from training.errors import TrainingError

_FORMAT = 1
_ID = re.compile(r"[0-9a-f]{16}")
_SYMBOL = re.compile(r"[A-Za-z0-9.$-]{1,20}/[A-Za-z0-9.$-]{1,20}")
_REASONS = ("schedule", "hand", "drift")
_LARGEST = 4 * 2**20
_LARGEST_WHOLE = 2**53


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A retraining as the daemon asks for it.

    request: 16 hexadecimal digits.  at_ms, deadline_ms: milliseconds UTC.  by: schedule, hand or drift.
    registry: directory of bundles.  incumbent: short id of the one that serves.  journal: whose candles are taken too,
    None for none.  exchange: as ccxt names it, "" for a market of our own.  data: candle files by symbol.
    fetch: whether the exchange is asked for what they lack.  workers: processes, 0 for one a core.  steps: of each
    member, 0 as the incumbent's.  memory_mib: what each process may take; whoever starts the trainer sees to that.
    holdout_days: that neither ensemble has seen.  gate_confidence: probability with which the candidate must be better.
    max_drawdown: its largest fall there, a share.
    """

    request: str
    at_ms: int
    by: str
    registry: Path
    incumbent: str
    journal: Path | None
    exchange: str
    timeframe: Timeframe
    symbols: tuple[str, ...]
    data: Mapping[str, Path]
    fetch: bool
    workers: int
    steps: int
    deadline_ms: int
    memory_mib: int
    holdout_days: float
    gate_confidence: float
    max_drawdown: float

    @property
    def seed(self) -> int:
        """What all chance of this retraining comes from: another one for every request."""
        return int(self.request, 16) >> 1  # seeds have 63 bits


def read_request(place: Path) -> Request:
    """Return the request in the file `place`. Raises TrainingError naming the key, its value and what is right."""
    try:
        values = _values(place)
    except (OSError, ValueError, RecursionError) as error:
        raise TrainingError(f"{place}: it is no request ({error}): let the daemon write it anew") from error
    try:
        return _request(values)
    except _Wrong as error:
        raise TrainingError(f"{place}: {error}: let a daemon of this version write it") from None


def id_in(place: Path) -> str:
    """Return the id in a file that `read_request` refused, "" when there is none to be found."""
    try:
        values = _values(place)
    except (OSError, ValueError, RecursionError):
        return ""
    found = values.get("request") if isinstance(values, dict) else None
    return found if isinstance(found, str) and _ID.fullmatch(found) else ""


def _values(place: Path) -> object:
    with place.open("rb") as file:
        return json.loads(file.read(_LARGEST))


class _Wrong(Exception):
    """A value that cannot be."""


def _request(values: object) -> Request:
    if not isinstance(values, dict):
        raise _Wrong("it is not an object of JSON")
    if odd := sorted(set(values) ^ {"format", *_READS}):
        raise _Wrong(f"keys missing or unknown: {', '.join(map(str, odd))}")
    if values["format"] != _FORMAT:
        raise _Wrong(f"format {values['format']!r} is not {_FORMAT}")
    found = Request(**{key: read(key, values[key]) for key, read in _READS.items()})
    if odd := sorted(set(found.data) - set(found.symbols)):
        raise _Wrong(f"data names {', '.join(odd)}, which is not among the symbols {', '.join(found.symbols)}")
    if found.fetch and not found.exchange:
        raise _Wrong("fetch is true, but exchange is empty: there is nobody to ask for candles")
    if found.deadline_ms <= found.at_ms:
        raise _Wrong(f"deadline_ms {found.deadline_ms} is not after at_ms {found.at_ms}")
    return found


# ---- one value each ---------------------------------------------------------------------------------------------
Read = Callable[[str, Any], Any]


def _wrong(key: str, value: object, wanted: str) -> _Wrong:
    return _Wrong(f"{key} {str(value)[:80]!r} is not {wanted}")


def _id(key: str, value: object) -> str:
    if isinstance(value, str) and _ID.fullmatch(value):
        return value
    raise _wrong(key, value, "16 hexadecimal digits")


def _one_of(*known: str) -> Read:
    def read(key: str, value: object) -> str:
        if value not in known:
            raise _wrong(key, value, f"one of {', '.join(known)}")
        return str(value)

    return read


def _text(key: str, value: object) -> str:
    if not isinstance(value, str):
        raise _wrong(key, value, "a text")
    return value


def _path(key: str, value: object) -> Path:
    if not isinstance(value, str) or not value.startswith("/"):
        raise _wrong(key, value, "an absolute path")
    return Path(value)


def _path_or_none(key: str, value: object) -> Path | None:
    return None if value == "" else _path(key, value)


def _timeframe(key: str, value: object) -> Timeframe:
    try:
        return Timeframe.parse(_text(key, value))
    except InvalidCandle as error:
        raise _Wrong(f"{key}: {error}") from None


def _symbols(key: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or len(set(map(str, value))) < len(value):
        raise _wrong(key, value, "a list of different symbols, one at least")
    return tuple(_symbol(key, each) for each in value)


def _symbol(key: str, value: object) -> str:
    if not isinstance(value, str) or not _SYMBOL.fullmatch(value):
        raise _wrong(key, value, "a symbol such as BTC/USDT")
    return value


def _files(key: str, value: object) -> dict[str, Path]:
    if not isinstance(value, dict):
        raise _wrong(key, value, "an object of symbols and paths")
    return {_symbol(key, symbol): _path(f"{key} of {symbol}", path) for symbol, path in value.items()}


def _flag(key: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise _wrong(key, value, "true or false")
    return value


def _whole(low: int, high: int) -> Read:
    def read(key: str, value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise _wrong(key, value, f"a whole number, {low} .. {high}")
        return value

    return read


def _number(low: float, high: float) -> Read:
    def read(key: str, value: object) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            raise _wrong(key, value, "a number")
        if not low <= value <= high:
            raise _wrong(key, value, f"a number, {low:g} .. {high:g}")
        return float(value)

    return read


_READS: Mapping[str, Read] = {
    "request": _id,
    "at_ms": _whole(0, _LARGEST_WHOLE),
    "by": _one_of(*_REASONS),
    "registry": _path,
    "incumbent": _id,
    "journal": _path_or_none,
    "exchange": _text,
    "timeframe": _timeframe,
    "symbols": _symbols,
    "data": _files,
    "fetch": _flag,
    "workers": _whole(0, 1_000),
    "steps": _whole(0, 1_000_000_000),
    "deadline_ms": _whole(0, _LARGEST_WHOLE),
    "memory_mib": _whole(1, _LARGEST_WHOLE),
    "holdout_days": _number(0.0, 36_600.0),
    "gate_confidence": _number(0.0, 1.0),
    "max_drawdown": _number(0.0, 1.0),
}
