"""Candle files as the daemon reads them: a path in, a table out. What is in the bytes is judged by `strategy`."""

from pathlib import Path
from typing import Any

import numpy as np

from daemon.errors import DataError
from strategy.candle import Timeframe
from strategy.candle_table import CandleTable, from_columns, parse_csv
from strategy.errors import InvalidCandle

_PARQUET_MAGIC = b"PAR1"
_NUMBERS = {"int32": np.int32, "int64": np.int64, "uint64": np.uint64, "float": np.float32, "double": np.float64}


def read_candles(path: Path, *, symbol: str, timeframe: Timeframe) -> CandleTable:
    """Return the candles of `path`: CSV, gzipped CSV or (with pyarrow installed) Parquet, told by its first bytes.

    Columns, units and rules are those of `strategy.candle_table.parse_csv`.
    Raises DataError, one line that names the file, the place in it and the remedy.
    """
    data = _read_bytes(path)
    try:
        if data.startswith(_PARQUET_MAGIC):
            return from_columns(_parquet_columns(data, path), name=str(path), symbol=symbol, timeframe=timeframe)
        return parse_csv(data, name=str(path), symbol=symbol, timeframe=timeframe)
    except InvalidCandle as error:
        raise DataError(str(error)) from error


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file: correct the path") from error
    except IsADirectoryError as error:
        raise DataError(f"{path}: this is a directory: name a candle file in it") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}): correct its permissions or the path") from error


def _parquet_columns(data: bytes, path: Path) -> dict[str, np.ndarray]:
    try:
        # heavy and optional: only who reads Parquet pays for it
        import pyarrow as pa  # type: ignore[import-untyped]  # noqa: PLC0415
        import pyarrow.parquet as pq  # type: ignore[import-untyped]  # noqa: PLC0415
    except ImportError as error:
        message = f"{path}: reading Parquet needs pyarrow: install it with `pip install pyarrow`, or give CSV"
        raise DataError(message) from error
    try:
        # Neither pq.read_table nor to_numpy: both load pandas where it is installed, which costs 40 MB and a second.
        table = pq.ParquetFile(pa.BufferReader(data)).read()
        return {name: _column(table, name, path) for name in table.column_names}
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: damaged Parquet ({reason}): download or copy the file again") from error


def _column(table: Any, name: str, path: Path) -> np.ndarray:  # noqa: ANN401 - pyarrow has no types
    column = table.column(name)
    if column.null_count:
        row = next(row for row, cell in enumerate(column, start=1) if not cell.is_valid)
        raise DataError(f"{path} row {row}: {name} is empty: delete the row or download the file again")
    dtype = _NUMBERS.get(str(column.type))
    if dtype is None:
        raise DataError(f"{path}: column {name} holds {column.type}: it must hold numbers")
    array = column.combine_chunks()
    if not len(array):
        return np.empty(0, dtype)
    return np.frombuffer(array.buffers()[1], dtype)[array.offset : array.offset + len(array)]
