"""The candles of a journal as data files: what an account was traded on, for whoever trains on it.

Reads only what is final in the journal, also while a daemon writes it; a late copy that differs is no part of it.
"""

import errno
import os
import tempfile
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from daemon import journal_reader
from daemon.durable import sync
from daemon.errors import DataError
from strategy.candle import Timeframe
from strategy.candle_table import VALUE_COLUMNS, CandleTable, format_csv
from strategy.errors import InvalidCandle

_KINDS = ("run", "candle")


@dataclass(frozen=True, slots=True, kw_only=True)
class CandlesWritten:
    """A data file that was written. first_ms, last_ms: open times, UTC."""

    path: Path
    symbol: str
    timeframe: str
    candles: int
    first_ms: int
    last_ms: int


def write_candles(journal: Path, out: Path) -> tuple[CandlesWritten, ...]:
    """Write the candles of `journal` into `out`, one CSV a symbol, named as `btcusdt-1h.csv`; none for no candles.

    out: made when missing; what it holds is never replaced. Each file appears whole or not at all.
    Raises DataError for a journal that cannot be read and for a place that is taken or cannot be written.
    """
    found = _tables(journal)
    tables = {out / _file(table): table for table in found}
    if len(tables) < len(found):
        symbols = ", ".join(table.symbol for table in found)
        raise DataError(f"journal {journal}: files of {symbols} would have one name: their letters are the same")
    try:
        out.mkdir(parents=True, exist_ok=True)
        for path, table in tables.items():
            _write(path, format_csv(table))
        sync(out)
    except OSError as error:
        raise DataError(f"--out {out}: cannot be written ({error.strerror}): name another directory") from error
    return tuple(_told(path, table) for path, table in tables.items())


@dataclass(slots=True)
class _Column:
    """The candles of one symbol as they are read: packed, for a journal may hold millions."""

    open_ms: "array[int]" = field(default_factory=lambda: array("q"))
    values: "array[float]" = field(default_factory=lambda: array("d"))


def _tables(journal: Path) -> list[CandleTable]:
    columns: dict[tuple[str, Timeframe], _Column] = {}
    timeframe: Timeframe | None = None
    for entry in journal_reader.read(journal, kinds=_KINDS):
        try:
            if entry.kind == "run":
                timeframe = Timeframe.parse(entry.payload["setup"]["timeframe"])
            else:
                _take(columns, timeframe, entry.payload)
        except (KeyError, TypeError, ValueError, InvalidCandle) as error:
            raise DataError(f"journal {journal}: entry {entry.seq} cannot be read ({error}): verify it") from error
    return [_table(journal, symbol, frame, column) for (symbol, frame), column in columns.items()]


def _take(
    columns: dict[tuple[str, Timeframe], _Column], timeframe: Timeframe | None, payload: Mapping[str, Any]
) -> None:
    if timeframe is None or payload["span_ms"] != timeframe.span_ms:
        raise ValueError(f"candles of {payload['span_ms']} ms, {timeframe} was announced")
    for symbol, *values in payload["candles"]:
        column = columns.setdefault((symbol, timeframe), _Column())
        column.open_ms.append(payload["open_ms"])
        column.values.extend(values)


def _table(journal: Path, symbol: str, timeframe: Timeframe, column: _Column) -> CandleTable:
    try:
        return CandleTable(
            symbol=symbol,
            timeframe=timeframe,
            open_ms=np.frombuffer(column.open_ms, np.int64),
            values=np.frombuffer(column.values, np.float64).reshape(-1, len(VALUE_COLUMNS)),
        )
    except (InvalidCandle, ValueError) as error:
        raise DataError(f"journal {journal}: its candles are no history ({error}): verify it") from error


def _file(table: CandleTable) -> str:
    """Return the name from which symbol and timeframe can be told again."""
    market = "".join(letter for letter in table.symbol if letter.isalnum()).lower()
    return f"{market}-{table.timeframe.name}.csv"


def _write(path: Path, data: bytes) -> None:
    if os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, f"{path.name} is there already")
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


def _told(path: Path, table: CandleTable) -> CandlesWritten:
    return CandlesWritten(
        path=path,
        symbol=table.symbol,
        timeframe=table.timeframe.name,
        candles=len(table),
        first_ms=int(table.open_ms[0]),
        last_ms=int(table.open_ms[-1]),
    )
