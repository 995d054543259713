"""Candle files as training reads them: a path in; table, market and checksum out.

What is in the bytes is judged by `strategy.candle_table`; here are only files, formats and names.
"""

import hashlib
import importlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from strategy.candle import Timeframe
from strategy.candle_table import TIME_COLUMN, CandleTable, from_columns, parse_csv
from strategy.errors import InvalidCandle
from training.errors import TrainingError

_PARQUET_MAGIC = b"PAR1"
_FEATHER_MAGIC = b"ARROW1"
_ARROW_ENDINGS = (".parquet", ".feather")
_DATE_COLUMN = "date"
UNNAMED = "UNKNOWN/UNKNOWN"
"""Stands for the symbol while a file is read of which nobody has told it."""
_PAIR = re.compile(r"([A-Z0-9]{2,20})_([A-Z0-9]{2,20})-[1-9][0-9]*[mhdw]\.")
_DERIVATIVE = re.compile(r"-(futures|mark|index|premiumIndex|funding_rate)\.")
"""Names as freqtrade writes them: `BTC_USDT-1h.feather` and `BTC_USDT_USDT-1h-futures.feather`."""
_QUOTES = ("FDUSD", "USDT", "USDC", "BUSD", "TUSD", "DAI", "USD", "EUR", "GBP", "JPY", "TRY", "BTC", "ETH", "BNB")


@dataclass(frozen=True, slots=True, kw_only=True)
class CandleFile:
    """A candle file that was read. name: without its folder; sha256: of its bytes, hexadecimal."""

    name: str
    sha256: str
    table: CandleTable


def read_candles(path: Path, *, symbol: str | None = None, timeframe: Timeframe | None = None) -> CandleTable:
    """Return the candles of `path`; see `read_candle_file`."""
    return read_candle_file(path, symbol=symbol, timeframe=timeframe).table


def read_candle_file(path: Path, *, symbol: str | None = None, timeframe: Timeframe | None = None) -> CandleFile:
    """Return what is in `path`: CSV, gzipped CSV, Parquet or freqtrade's feather, told by its first bytes.

    symbol, timeframe: None takes them from the name (`btcusdt-1h.csv.gz`), the timeframe also from the spacing.
    Columns are those of `strategy.candle_table.parse_csv`; Parquet and feather may have `date` (a UTC timestamp) for
    `timestamp_ms`, as freqtrade writes it.
    Raises TrainingError, one line that names the file, the place in it and the remedy.
    """
    data = read_bytes(path)
    table = parse_candles(data, path, symbol=symbol, timeframe=timeframe)
    return CandleFile(name=path.name, sha256=hashlib.sha256(data).hexdigest(), table=table)


def parse_candles(
    data: bytes, path: Path, *, symbol: str | None = None, timeframe: Timeframe | None = None
) -> CandleTable:
    """Return the candles in `data`, the bytes of `path`; arguments and errors are those of `read_candle_file`."""
    named_symbol, named_timeframe = guess_market(path)
    if symbol is None and (kind := _DERIVATIVE.search(path.name)):
        raise TrainingError(
            f"{path}: the name tells {kind[1]} candles of a derivative, and only spot is traded: take spot candles, or "
            "state the symbol that these are to stand for"
        )
    symbol = symbol or named_symbol
    table = _parsed(data, path, symbol or UNNAMED, timeframe or named_timeframe)
    if symbol is None:  # only now: what is wrong inside the file matters more than its name
        raise TrainingError(no_symbol(path))
    return table


def no_symbol(path: Path) -> str:
    """Return what to say of a file of which nothing tells the symbol."""
    return (
        f"{path}: the name does not tell the symbol: name the file like btcusdt-1h.csv.gz, or give --symbol BASE/QUOTE"
    )


def _parsed(data: bytes, path: Path, symbol: str, timeframe: Timeframe | None) -> CandleTable:
    if path.suffix in _ARROW_ENDINGS and not data.startswith((_PARQUET_MAGIC, _FEATHER_MAGIC)):
        raise TrainingError(f"{path}: the file is damaged (not what its ending tells): download or copy it again")
    try:
        if data.startswith((_PARQUET_MAGIC, _FEATHER_MAGIC)):
            columns = _arrow_columns(data, path)
            return from_columns(columns, name=str(path), symbol=symbol, timeframe=timeframe)
        return parse_csv(data, name=str(path), symbol=symbol, timeframe=timeframe)
    except InvalidCandle as error:
        raise TrainingError(str(error)) from error


def guess_market(path: Path) -> tuple[str | None, Timeframe | None]:
    """Return the symbol and timeframe that the file name tells, None for what it does not tell.

    `btcusdt-1h.csv.gz`, `BTC_USDT-1h.feather`, `btc-usdt-5m-2022q1.csv` -> BTC/USDT and the timeframe.
    """
    if pair := _PAIR.match(path.name):
        return f"{pair[1]}/{pair[2]}", Timeframe.parse(path.name.partition("-")[2].partition(".")[0])
    if _DERIVATIVE.search(path.name):
        return None, None
    parts = path.name.partition(".")[0].replace("_", "-").split("-")
    for at, part in enumerate(parts):
        try:
            return _symbol(parts[:at]), Timeframe.parse(part)
        except InvalidCandle:
            continue
    return _symbol(parts), None


def read_bytes(path: Path) -> bytes:
    """Return the bytes of `path`. Raises TrainingError when it is missing, a directory or unreadable."""
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise TrainingError(f"{path}: there is no such file: correct the path") from error
    except IsADirectoryError as error:
        raise TrainingError(f"{path}: this is a directory: name a candle file in it") from error
    except OSError as error:
        raise TrainingError(
            f"{path}: cannot be read ({error.strerror}): correct its permissions or the path"
        ) from error


def _symbol(parts: Sequence[str]) -> str | None:
    market = "".join(parts).upper()
    quote = next((quote for quote in _QUOTES if market.endswith(quote)), None)
    if quote is None or not market.isalnum() or len(market) < len(quote) + 2:
        return None
    return f"{market.removesuffix(quote)}/{quote}"


def _arrow_columns(data: bytes, path: Path) -> dict[str, np.ndarray]:
    pa = import_arrow("pyarrow", path)
    reader = import_arrow("pyarrow.parquet" if data.startswith(_PARQUET_MAGIC) else "pyarrow.feather", path)
    try:
        table = reader.read_table(pa.BufferReader(data))
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise TrainingError(f"{path}: the file is damaged ({reason}): download or copy it again") from error
    names = table.column_names
    if _DATE_COLUMN in names and TIME_COLUMN not in names:
        table = _with_times(table, path, pa)
    return {name: column.to_numpy() for name, column in zip(table.column_names, table.columns, strict=True)}


def _with_times(table: Any, path: Path, pa: Any) -> Any:  # noqa: ANN401 - pyarrow has no types
    at = table.column_names.index(_DATE_COLUMN)
    column = table.column(at)
    if not pa.types.is_timestamp(column.type):
        raise TrainingError(f"{path}: column date holds {column.type}: it must hold UTC timestamps")
    if column.null_count:
        row = column.is_null().to_pylist().index(True) + 1
        raise TrainingError(f"{path} row {row}: date is empty: delete the row or download it again")
    try:
        times = column.cast(pa.timestamp("ms", column.type.tz)).cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise TrainingError(f"{path}: date is finer than a millisecond: give whole milliseconds") from error
    return table.set_column(at, TIME_COLUMN, times)


def import_arrow(module: str, path: Path) -> Any:  # noqa: ANN401 - pyarrow has no types
    """Return `module` of pyarrow, which `path` needs. Raises TrainingError when it is not installed."""
    try:
        return importlib.import_module(module)  # heavy and optional: only who uses such files pays for it
    except ImportError as error:
        message = f"{path}: Parquet and feather need pyarrow: install it with `pip install pyarrow`, or give CSV"
        raise TrainingError(message) from error
