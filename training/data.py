"""Candle files as a collection: import from other formats, verify, list. Results are plain values for JSON and tables.

Never leaves a partial file: what is written appears whole, with its provenance beside it, or not at all.
"""

import gzip
import hashlib
import io
import json
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
from training.disk import write_together
from training.errors import TrainingError

_CSV, _CSV_GZ, _PARQUET = ".csv", ".csv.gz", ".parquet"
_READABLE = (_CSV, _CSV_GZ, _PARQUET, ".feather")
_UNFINISHED = ".parquet.unfinished"


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

    exchange, fetched_ms: where and when it was fetched, None when it was not.  missing_confirmed: those of the missing
    candles that the exchange, asked twice, does not have; where a fetched file lacks others, that is a problem.
    symbol: None where nothing tells it, which is a problem of its own.
    biggest_move: largest change from close to close, as a share, and where it happened; None with fewer than 2 rows.
    What depends on reading the file is None, 0 or empty when it cannot be read.
    """

    file: str
    problems: tuple[str, ...]
    sha256: str | None = None
    exchange: str | None = None
    fetched_ms: int | None = None
    symbol: str | None = None
    timeframe: str | None = None
    rows: int = 0
    first_ms: int | None = None
    last_ms: int | None = None
    missing: int = 0
    missing_confirmed: int = 0
    gaps: tuple[MissingCandles, ...] = ()
    zero_volume: int = 0
    biggest_move: float | None = None
    biggest_move_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One candle file of a directory. problem: why it cannot be used, None when it can.

    exchange, missing_confirmed: as in `Verified`.
    """

    file: str
    bytes: int
    exchange: str | None = None
    symbol: str | None = None
    timeframe: str | None = None
    rows: int = 0
    first_ms: int | None = None
    last_ms: int | None = None
    missing: int = 0
    missing_confirmed: int = 0
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
    data = encoded(read.table, out)
    if parse_candles(data, out, symbol=read.table.symbol, timeframe=read.table.timeframe) != read.table:
        raise TrainingError(f"{out}: what was to be written does not read back the same: nothing was written")
    imported = _imported(read, out, data)
    provenance = json.dumps(asdict(imported), indent=2).encode() + b"\n"
    write_together({out: data, provenance_path(out): provenance})
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
    files = sorted(
        path for path in directory.rglob("*") if path.name.endswith((*_READABLE, _UNFINISHED)) and path.is_file()
    )
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
        raise TrainingError(f"{out}: this file exists: give another name, or --overwrite")


def encoded(table: CandleTable, out: Path) -> bytes:
    """Return `table` in the format that the ending of `out` tells; the same table gives the same bytes."""
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


def provenance_path(path: Path) -> Path:
    """Return where the provenance of `path` lies."""
    return path.with_name(path.name + ".json")


# ---- verify and list --------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class _Origin:
    """What the record beside a file says of it, as far as it fits. problems: why the record is not to be believed."""

    symbol: str | None = None
    timeframe: Timeframe | None = None
    exchange: str | None = None
    fetched_ms: int | None = None
    confirmed: frozenset[tuple[int, int]] = frozenset()
    problems: tuple[str, ...] = ()

    def missing_confirmed(self, gaps: Iterable[MissingCandles]) -> int:
        """Return how many of the missing candles the exchange confirmed to have none of."""
        return sum(gap.missing for gap in gaps if (gap.first_ms, gap.missing) in self.confirmed)


def _verified(path: Path, symbol: str | None) -> Verified:
    try:
        data = read_bytes(path)
    except TrainingError as error:
        return Verified(file=str(path), problems=(str(error),))
    sha256 = hashlib.sha256(data).hexdigest()
    origin = _origin(path, sha256)
    symbol = symbol or origin.symbol or guess_market(path)[0]
    nameless = () if symbol else (no_symbol(path),)
    try:
        table = parse_candles(data, path, symbol=symbol or UNNAMED, timeframe=origin.timeframe)
    except TrainingError as error:
        return Verified(file=str(path), problems=(*origin.problems, str(error), *nameless), sha256=sha256)
    gaps = _gaps(table)
    move, move_ms = _biggest_move(table)
    return Verified(
        file=str(path),
        problems=(*origin.problems, *_gap_problems(path, origin, gaps), *_spacing_problems(path, table), *nameless),
        sha256=sha256,
        exchange=origin.exchange,
        fetched_ms=origin.fetched_ms,
        symbol=symbol,
        timeframe=table.timeframe.name,
        rows=len(table),
        first_ms=int(table.open_ms[0]),
        last_ms=int(table.open_ms[-1]),
        missing=sum(gap.missing for gap in gaps),
        missing_confirmed=origin.missing_confirmed(gaps),
        gaps=gaps,
        zero_volume=int(np.count_nonzero(table.values[:, 4] == 0.0)),
        biggest_move=move,
        biggest_move_ms=move_ms,
    )


def _listed(path: Path, directory: Path) -> Listed:
    name, size = str(path.relative_to(directory)), path.stat().st_size
    if path.name.endswith(_UNFINISHED):
        return Listed(file=name, bytes=size, problem=f"{path}: a fetch was not finished: run the same command again")
    try:
        data = read_bytes(path)
        origin = _origin(path, hashlib.sha256(data).hexdigest())
        table = parse_candles(data, path, symbol=origin.symbol, timeframe=origin.timeframe)
    except TrainingError as error:
        return Listed(file=name, bytes=size, problem=str(error))
    gaps = _gaps(table)
    problems = (*origin.problems, *_gap_problems(path, origin, gaps))
    return Listed(
        file=name,
        bytes=size,
        exchange=origin.exchange,
        symbol=table.symbol,
        timeframe=table.timeframe.name,
        rows=len(table),
        first_ms=int(table.open_ms[0]),
        last_ms=int(table.open_ms[-1]),
        missing=sum(gap.missing for gap in gaps),
        missing_confirmed=origin.missing_confirmed(gaps),
        problem=problems[0] if problems else None,
    )


def _origin(path: Path, sha256: str) -> _Origin:
    """Return what an import or a fetch recorded of `path`, whose bytes have that sha256."""
    beside = provenance_path(path)
    if not beside.exists():
        return _Origin()
    try:
        record: dict[str, Any] = json.loads(beside.read_bytes())
        written, symbol, timeframe = record["sha256"], record["symbol"], Timeframe.parse(record["timeframe"])
        gaps = [(int(gap["first_ms"]), int(gap["missing"])) for gap in record["gaps"] if gap.get("confirmed")]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, InvalidCandle):
        problem = (
            f"{beside}: this is no record of an import or a fetch: delete it, or import or fetch the candles again"
        )
        return _Origin(problems=(problem,))
    changed = f"{path}: changed since it was written (sha256 {sha256}, was {written}): import or fetch it again"
    return _Origin(
        symbol=symbol,
        timeframe=timeframe,
        exchange=record.get("exchange"),
        fetched_ms=record.get("fetched_ms"),
        confirmed=frozenset(gaps),
        problems=() if written == sha256 else (changed,),
    )


def _gap_problems(path: Path, origin: _Origin, gaps: Sequence[MissingCandles]) -> tuple[str, ...]:
    """Return what is wrong with the gaps of a fetched file; of others nobody knows whether the exchange has more."""
    doubtful = [gap for gap in gaps if (gap.first_ms, gap.missing) not in origin.confirmed]
    if origin.exchange is None or not doubtful:
        return ()
    missing, first = sum(gap.missing for gap in doubtful), np.datetime64(doubtful[0].first_ms, "ms").astype("M8[m]")
    told = (
        f"{path}: {origin.exchange} did not confirm that it lacks {missing} of the missing candles, from {first} UTC on"
    )
    return (f"{told}: fetch again, or take them from another file",)


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
