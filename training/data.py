"""Candle files as a collection: import from other formats, verify, list. Results are plain values for JSON and tables.

Never leaves a partial file: what is written appears whole, with its provenance beside it, or not at all.
"""

import gzip
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from strategy.candle import Timeframe
from strategy.candle_table import COLUMNS, CandleTable, format_csv, infer_timeframe
from strategy.errors import InvalidCandle
from training.candles import (
    UNNAMED,
    CandleFile,
    guess_market,
    import_arrow,
    no_symbol,
    parse_candles,
    read_bytes,
    read_candle_file,
)
from training.errors import TrainingError

_CSV, _CSV_GZ, _PARQUET = ".csv", ".csv.gz", ".parquet"
_READABLE = (_CSV, _CSV_GZ, _PARQUET, ".feather")


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingCandles:
    """A gap. first_ms: open time of the first missing candle; missing: how many there are."""

    first_ms: int
    missing: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What an import made; stored beside the file as `<file>.json`. first_ms, last_ms: open times."""

    file: str
    source: str
    sha256_source: str
    sha256: str
    symbol: str
    timeframe: str
    rows: int
    first_ms: int
    last_ms: int
    gaps: tuple[MissingCandles, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What is known of a file. `problems` are reasons not to use it, in words; empty means it can be used.

    symbol: None where nothing tells it, which is a problem of its own.
    biggest_move: largest change from close to close, as a share, and where it happened; None with fewer than 2 rows.
    What depends on reading the file is None, 0 or empty when it cannot be read.
    """

    file: str
    problems: tuple[str, ...]
    sha256: str | None = None
    symbol: str | None = None
    timeframe: str | None = None
    rows: int = 0
    first_ms: int | None = None
    last_ms: int | None = None
    missing: int = 0
    gaps: tuple[MissingCandles, ...] = ()
    zero_volume: int = 0
    biggest_move: float | None = None
    biggest_move_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One candle file of a directory. problem: why it cannot be read, None when it can."""

    file: str
    bytes: int
    symbol: str | None = None
    timeframe: str | None = None
    rows: int = 0
    first_ms: int | None = None
    last_ms: int | None = None
    missing: int = 0
    problem: str | None = None


def import_file(
    source: Path,
    out: Path,
    *,
    symbol: str | None = None,
    timeframe: Timeframe | None = None,
    overwrite: bool = False,
) -> Imported:
    """Convert `source` (CSV, CSV.gz, Parquet, freqtrade's feather) into `out` (.csv, .csv.gz or .parquet).

    symbol, timeframe: None takes them from the source's name, then from that of `out`, the timeframe also from the
    spacing of the candles.  The same source gives the same bytes.
    Raises TrainingError when the source is broken, when `out` exists and may not be overwritten, or cannot be written;
    then nothing has changed.
    """
    _refuse_target(source, out, overwrite=overwrite)
    named_symbol, named_timeframe = guess_market(source)
    out_symbol, out_timeframe = guess_market(out)
    read = read_candle_file(
        source, symbol=symbol or named_symbol or out_symbol, timeframe=timeframe or named_timeframe or out_timeframe
    )
    data = _encoded(read.table, out)
    if parse_candles(data, out, symbol=read.table.symbol, timeframe=read.table.timeframe) != read.table:
        raise TrainingError(f"{out}: what was to be written does not read back the same: nothing was written")
    imported = _imported(read, out, data)
    provenance = json.dumps(asdict(imported), indent=2).encode() + b"\n"
    _write_together({out: data, _provenance_path(out): provenance})
    return imported


def verify_files(paths: Iterable[Path], *, symbol: str | None = None) -> list[Verified]:
    """Return what there is to know of each file, in the given order; a broken file is a result, not an error.

    symbol: of all of them; None takes it from the provenance or the name of each.
    """
    return [_verified(path, symbol) for path in paths]


def list_files(directory: Path) -> list[Listed]:
    """Return the candle files of `directory` and the folders in it, by name. Raises TrainingError if it is none."""
    if not directory.is_dir():
        raise TrainingError(f"{directory}: there is no such directory: correct the path")
    files = sorted(path for path in directory.rglob("*") if path.name.endswith(_READABLE) and path.is_file())
    return [_listed(path, directory) for path in files]


# ---- import -----------------------------------------------------------------------------------------------------
def _refuse_target(source: Path, out: Path, *, overwrite: bool) -> None:
    if not out.name.endswith((_CSV, _CSV_GZ, _PARQUET)):
        raise TrainingError(f"{out}: the ending tells the format: end it with .csv, .csv.gz or .parquet")
    if out.is_dir():
        raise TrainingError(f"{out}: this is a directory: name the file to write")
    if not out.parent.is_dir():
        raise TrainingError(f"{out}: there is no directory {out.parent}: make it first")
    if out.exists() and source.exists() and out.samefile(source):
        raise TrainingError(f"{out}: source and target are the same file: give another target")
    if out.exists() and not overwrite:
        raise TrainingError(f"{out}: this file exists: give another name, or allow it to be overwritten")


def _encoded(table: CandleTable, out: Path) -> bytes:
    if out.name.endswith(_PARQUET):
        return _parquet(table, out)
    text = format_csv(table)
    return gzip.compress(text, mtime=0) if out.name.endswith(_CSV_GZ) else text


def _parquet(table: CandleTable, out: Path) -> bytes:
    pa, parquet = import_arrow("pyarrow", out), import_arrow("pyarrow.parquet", out)
    columns = dict(zip(COLUMNS, (table.open_ms, *table.values.T), strict=True))
    buffer = io.BytesIO()
    parquet.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def _imported(read: CandleFile, out: Path, data: bytes) -> Imported:
    table = read.table
    return Imported(
        file=out.name,
        source=read.name,
        sha256_source=read.sha256,
        sha256=hashlib.sha256(data).hexdigest(),
        symbol=table.symbol,
        timeframe=table.timeframe.name,
        rows=len(table),
        first_ms=int(table.open_ms[0]),
        last_ms=int(table.open_ms[-1]),
        gaps=_gaps(table),
    )


def _provenance_path(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _write_together(contents: dict[Path, bytes]) -> None:
    """Put every file in place, each whole. All are on disk under other names before the first one is renamed."""
    waiting: list[tuple[str, Path]] = []
    try:
        for path, data in contents.items():
            descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
            waiting.append((name, path))
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        for name, path in waiting:
            Path(name).chmod(0o644)
            Path(name).replace(path)
        _sync_directory(next(iter(contents)).parent)
    except OSError as error:
        place = next(iter(contents))
        raise TrainingError(
            f"{place}: cannot be written ({error.strerror}): free space or give another place"
        ) from error
    finally:
        for name, _ in waiting:
            Path(name).unlink(missing_ok=True)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# ---- verify and list --------------------------------------------------------------------------------------------
def _verified(path: Path, symbol: str | None) -> Verified:
    try:
        data = read_bytes(path)
    except TrainingError as error:
        return Verified(file=str(path), problems=(str(error),))
    sha256 = hashlib.sha256(data).hexdigest()
    problems = _provenance_problems(path, sha256)
    market = _known_market(path)
    symbol = symbol or market.get("symbol") or guess_market(path)[0]
    nameless = () if symbol else (no_symbol(path),)
    try:
        table = parse_candles(data, path, symbol=symbol or UNNAMED, timeframe=market.get("timeframe"))
    except TrainingError as error:
        return Verified(file=str(path), problems=(*problems, str(error), *nameless), sha256=sha256)
    gaps = _gaps(table)
    move, move_ms = _biggest_move(table)
    return Verified(
        file=str(path),
        problems=(*problems, *_spacing_problems(path, table), *nameless),
        sha256=sha256,
        symbol=symbol,
        timeframe=table.timeframe.name,
        rows=len(table),
        first_ms=int(table.open_ms[0]),
        last_ms=int(table.open_ms[-1]),
        missing=sum(gap.missing for gap in gaps),
        gaps=gaps,
        zero_volume=int(np.count_nonzero(table.values[:, 4] == 0.0)),
        biggest_move=move,
        biggest_move_ms=move_ms,
    )


def _listed(path: Path, directory: Path) -> Listed:
    name, size = str(path.relative_to(directory)), path.stat().st_size
    try:
        table = parse_candles(read_bytes(path), path, **_known_market(path))
    except TrainingError as error:
        return Listed(file=name, bytes=size, problem=str(error))
    return Listed(
        file=name,
        bytes=size,
        symbol=table.symbol,
        timeframe=table.timeframe.name,
        rows=len(table),
        first_ms=int(table.open_ms[0]),
        last_ms=int(table.open_ms[-1]),
        missing=sum(missing for _, missing in table.gaps()),
    )


def _provenance(path: Path) -> dict[str, Any] | None:
    """Return the record an import left beside `path`, None when there is none or it is not such a record."""
    try:
        record = json.loads(_provenance_path(path).read_bytes())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and "sha256" in record else None


def _provenance_problems(path: Path, sha256: str) -> tuple[str, ...]:
    record = _provenance(path)
    if record is None or record["sha256"] == sha256:
        return ()
    return (f"{path}: changed since it was imported (sha256 {sha256}, was {record['sha256']}): import it again",)


def _known_market(path: Path) -> dict[str, Any]:
    """Return what an import recorded of a file whose name does not tell its market."""
    record = _provenance(path)
    try:
        return {} if record is None else {"symbol": record["symbol"], "timeframe": Timeframe.parse(record["timeframe"])}
    except (KeyError, TypeError, InvalidCandle):
        return {}


def _spacing_problems(path: Path, table: CandleTable) -> Sequence[str]:
    try:
        usual = infer_timeframe(table.open_ms)
    except InvalidCandle:
        return ()  # too few or too sparse candles to have a usual spacing
    if usual == table.timeframe:
        return ()
    return (
        f"{path}: most candles are {usual.name} apart, but the file is said to hold {table.timeframe.name}: rename it",
    )


def _gaps(table: CandleTable) -> tuple[MissingCandles, ...]:
    return tuple(MissingCandles(first_ms=first_ms, missing=missing) for first_ms, missing in table.gaps())


def _biggest_move(table: CandleTable) -> tuple[float | None, int | None]:
    close = table.values[:, 3]
    if len(close) < 2:  # noqa: PLR2004 - a move takes two closes
        return None, None
    moves = close[1:] / close[:-1] - 1.0
    row = int(np.argmax(np.abs(moves)))
    return float(moves[row]), int(table.open_ms[row + 1])
