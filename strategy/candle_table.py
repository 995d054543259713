"""Tables of candles: many closed candles of one symbol as arrays, read from CSV bytes or from columns.

Owns what makes a table valid and how it is written as CSV. Never opens a file: bytes come in, bytes go out.
"""

import gzip
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from strategy.candle import Candle, Timeframe
from strategy.errors import InvalidCandle

TIME_COLUMN = "timestamp_ms"
VALUE_COLUMNS = ("open", "high", "low", "close", "volume")
COLUMNS = (TIME_COLUMN, *VALUE_COLUMNS)

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

_GZIP_MAGIC = b"\x1f\x8b"
_NUMBER_BYTES = b"0123456789+-.eE, \n"
_FIRST_LINE = 2  # line 1 of a file is its header
_YEAR_2200_MS = 7_258_118_400_000
_UNITS_MS = (("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000))
_CHUNK = 4096
_DELETE_OR_REPLACE = "delete the row (a missing candle is allowed, a wrong one is not) or download it again"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CandleTable:
    """Candles of one symbol in the order of time; equal by value, its arrays cannot be written to.

    open_ms: (n,) int64, strictly increasing, multiples of the timeframe's span; missing candles are left out.
    values: (n, 5) float64, open, high, low, close (quote per base), volume (base), each row valid as a `Candle`.
    Raises InvalidCandle naming the symbol, the row (1 is the first), the fault and its remedy.
    """

    symbol: str
    timeframe: Timeframe
    open_ms: IntArray
    values: FloatArray

    def __post_init__(self) -> None:
        open_ms = np.array(self.open_ms, dtype=np.int64)
        values = np.array(self.values, dtype=np.float64, order="C")
        if open_ms.ndim != 1 or values.shape != (len(open_ms), len(VALUE_COLUMNS)):
            raise InvalidCandle(f"{self.symbol}: {open_ms.shape} times do not fit {values.shape} values, want (n, 5)")
        for fault in (_time_fault(open_ms, self.timeframe), _value_fault(values)):
            if fault is not None:
                raise InvalidCandle(f"{self.symbol} row {fault[0] + 1}: {fault[1]}")
        for name, array in (("open_ms", open_ms), ("values", values)):
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    def __len__(self) -> int:
        return len(self.open_ms)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CandleTable):
            return NotImplemented
        return (
            (self.symbol, self.timeframe) == (other.symbol, other.timeframe)
            and np.array_equal(self.open_ms, other.open_ms)
            and np.array_equal(self.values, other.values)
        )

    __hash__ = None  # type: ignore[assignment]  # arrays are compared, not hashed

    def candle(self, index: int) -> Candle:
        """Return the candle in row `index` (0 is the first, -1 the last). Raises IndexError."""
        return _candle(self.symbol, self.timeframe.span_ms, int(self.open_ms[index]), self.values[index].tolist())

    def candles(self) -> Iterator[Candle]:
        """Yield every candle in the order of time."""
        span_ms = self.timeframe.span_ms
        for start in range(0, len(self), _CHUNK):  # in pieces: a list of all rows would cost more than the table
            times = self.open_ms[start : start + _CHUNK].tolist()
            rows = self.values[start : start + _CHUNK].tolist()
            for open_ms, row in zip(times, rows, strict=True):
                yield _candle(self.symbol, span_ms, open_ms, row)

    def index_of(self, open_ms: int) -> int | None:
        """Return the row of the candle that opens at `open_ms`, None when there is no such candle."""
        index = int(np.searchsorted(self.open_ms, open_ms))
        return index if index < len(self) and self.open_ms[index] == open_ms else None

    def slice(self, from_ms: int | None = None, to_ms: int | None = None) -> "CandleTable":
        """Return the candles that open in [from_ms, to_ms); None leaves that end open. May be empty."""
        first = 0 if from_ms is None else int(np.searchsorted(self.open_ms, from_ms))
        last = len(self) if to_ms is None else int(np.searchsorted(self.open_ms, to_ms))
        return CandleTable(
            symbol=self.symbol,
            timeframe=self.timeframe,
            open_ms=self.open_ms[first:last],
            values=self.values[first:last],
        )

    def gaps(self) -> list[tuple[int, int]]:
        """Return (open time of the first missing candle, number of missing candles) per gap, in order."""
        span_ms = self.timeframe.span_ms
        missing = np.diff(self.open_ms) // span_ms - 1
        rows = np.flatnonzero(missing)
        return [(int(self.open_ms[row]) + span_ms, int(missing[row])) for row in rows]


# ---- reading ----------------------------------------------------------------------------------------------------
def parse_csv(data: bytes, *, name: str, symbol: str, timeframe: Timeframe | None) -> CandleTable:
    """Return the candles in `data`, plain CSV or gzip (told by its first bytes), UTF-8, with one header line.

    Columns are `timestamp_ms` (int milliseconds UTC, open time), `open`, `high`, `low`, `close`, `volume`, in any
    order and nothing else; numbers are read as `float()` reads them.  timeframe: None takes it from the spacing.
    Raises InvalidCandle naming `name`, the line (the header is line 1), the fault and its remedy.
    """
    text = _text(data, name)
    header, _, body = text.partition("\n")
    columns = _header(header, name)
    lines = body.removesuffix("\n").split("\n") if body else []
    if not lines:
        raise InvalidCandle(f"{name} line 1: the file ends after its header; it holds no candle: download it again")
    fields = _fields(lines, columns, name)
    return _table(fields, name=name, symbol=symbol, timeframe=timeframe, place="line", first=_FIRST_LINE)


def from_columns(
    columns: Mapping[str, ArrayLike], *, name: str, symbol: str, timeframe: Timeframe | None
) -> CandleTable:
    """Return the candles in `columns` (name -> (n,) numbers), as a Parquet file holds them.

    The names, units and rules are those of `parse_csv`; `timestamp_ms` must be of an integer type.
    Raises InvalidCandle naming `name`, the row (1 is the first), the fault and its remedy.
    """
    _check_names(list(columns), name)
    arrays = {column: np.asarray(values) for column, values in columns.items()}
    for column, array in arrays.items():
        kinds = "iu" if column == TIME_COLUMN else "iuf"
        if array.ndim != 1 or array.dtype.kind not in kinds:
            wanted = "integers without empty cells" if column == TIME_COLUMN else "numbers"
            raise InvalidCandle(f"{name}: column {column} holds {array.dtype}; it must hold {wanted}")
    if len(arrays[TIME_COLUMN]) == 0:
        raise InvalidCandle(f"{name}: the file holds no candle: download it again")
    return _table(arrays, name=name, symbol=symbol, timeframe=timeframe, place="row", first=1)


def infer_timeframe(open_ms: IntArray) -> Timeframe:
    """Return the timeframe of strictly increasing open times: the most common spacing, which must divide all.

    open_ms: (n,) int64.  Raises InvalidCandle when n < 2 or when the times fit no timeframe of whole minutes.
    """
    if len(open_ms) < 2:  # noqa: PLR2004 - a spacing takes two times
        raise InvalidCandle("one candle does not tell the timeframe: give more, or a file named like btcusdt-1h.csv.gz")
    spacings, counts = np.unique(np.diff(open_ms), return_counts=True)
    span_ms = int(spacings[np.argmax(counts)])
    name = next((f"{span_ms // unit}{letter}" for letter, unit in _UNITS_MS if span_ms % unit == 0), None)
    if name is None:
        raise InvalidCandle(
            f"most candles are {span_ms} ms apart, which is not a whole number of minutes: "
            "times must be milliseconds (not seconds)"
        )
    timeframe = Timeframe.parse(name)
    if odd := np.flatnonzero(open_ms % span_ms).tolist():
        raise InvalidCandle(
            f"most candles are {name} apart, but {open_ms[odd[0]]} is not a multiple of that: state the timeframe"
        )
    return timeframe


def format_csv(table: CandleTable) -> bytes:
    """Return `table` as plain CSV with the columns in the usual order; `parse_csv` gives back every bit of it.

    Numbers are the shortest plain decimals that read back exactly: no exponents, no trailing zeros.
    """
    lines = [",".join(COLUMNS)]
    for open_ms, row in zip(table.open_ms.tolist(), table.values.tolist(), strict=True):
        lines.append(",".join([str(open_ms), *map(_decimal, row)]))
    lines.append("")
    return "\n".join(lines).encode("ascii")


# ---- from bytes to fields ---------------------------------------------------------------------------------------
def _text(data: bytes, name: str) -> str:
    if data.startswith(_GZIP_MAGIC):
        data = _gunzip(data, name)
    if not data.strip():
        raise InvalidCandle(f"{name} line 1: the file is empty: download or copy it again")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        message = f"{name} line {line}: this is not text: give a CSV, CSV.gz, Parquet or feather file"
        raise InvalidCandle(message) from error
    return text.replace("\r\n", "\n")


def _gunzip(data: bytes, name: str) -> bytes:
    try:
        return gzip.decompress(data)
    except EOFError as error:
        line = _readable_lines(data)
        message = f"{name} line {line}: the gzip data is cut off here: download or copy the file again"
        raise InvalidCandle(message) from error
    except (OSError, zlib.error) as error:
        line = _readable_lines(data)
        message = f"{name} line {line}: the gzip data is damaged ({error}): download or copy the file again"
        raise InvalidCandle(message) from error


def _readable_lines(data: bytes) -> int:
    """Return the line in which broken gzip data ends or stops making sense."""
    inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    line = 1
    for start in range(0, len(data), 256):
        try:
            line += inflater.decompress(data[start : start + 256]).count(b"\n")
        except zlib.error:
            break
    return line


def _header(header: str, name: str) -> list[str]:
    columns = [column.strip() for column in header.split(",")]
    if all(_is_number(column) for column in columns):
        raise InvalidCandle(f"{name} line 1: the file has no header: make {','.join(COLUMNS)} its first line")
    _check_names(columns, f"{name} line 1")
    return columns


def _check_names(columns: Sequence[str], place: str) -> None:
    if missing := [column for column in COLUMNS if column not in columns]:
        found = ", ".join(repr(column[:40]) for column in columns[:12])
        raise InvalidCandle(f"{place}: column {', '.join(missing)} is missing (found {found}): add or rename it")
    if unknown := [column for column in columns if column not in COLUMNS]:
        names = ", ".join(repr(column[:40]) for column in unknown[:12])
        raise InvalidCandle(f"{place}: unknown column {names}: remove it, only {', '.join(COLUMNS)} are read")
    if len(columns) > len(COLUMNS):
        twice = next(column for column in COLUMNS if columns.count(column) > 1)
        raise InvalidCandle(f"{place}: column {twice} stands there more than once: keep one of them")


def _fields(lines: list[str], columns: list[str], name: str) -> dict[str, ArrayLike]:
    """Return the columns as numbers. All lines are read at once; only a broken file is walked line by line."""
    commas = len(columns) - 1
    text = "\n".join(lines)
    is_plain = not text.encode("utf-8").translate(None, _NUMBER_BYTES)
    if not is_plain or any(line.count(",") != commas for line in lines):
        _refuse_first_broken_line(lines, columns, name)
    parts = text.replace("\n", ",").split(",")
    try:
        return {
            column: np.fromiter(map(int if column == TIME_COLUMN else float, parts[at :: len(columns)]), dtype)
            for at, column in enumerate(columns)
            for dtype in (np.int64 if column == TIME_COLUMN else np.float64,)
        }
    except (ValueError, OverflowError):
        _refuse_first_broken_line(lines, columns, name)


def _refuse_first_broken_line(lines: list[str], columns: list[str], name: str) -> NoReturn:
    for number, line in enumerate(lines, start=_FIRST_LINE):
        if (fault := _line_fault(line, columns)) is not None:
            raise InvalidCandle(f"{name} line {number}: {fault}")
    message = f"{name}: the numbers cannot be read: download the file again"  # pragma: no cover - every fault is above
    raise InvalidCandle(message)


def _line_fault(line: str, columns: list[str]) -> str | None:
    if not line.strip():
        return "the line is empty: delete it"
    fields = line.split(",")
    if len(fields) != len(columns):
        return f"{len(fields)} fields where the header has {len(columns)}: {_DELETE_OR_REPLACE}"
    for column, field in zip(columns, fields, strict=True):
        if not field.strip():
            return f"{column} is empty: {_DELETE_OR_REPLACE}"
        if column == TIME_COLUMN and not _is_int64(field):
            return f"{column} {field[:40]!r} is not a whole number of milliseconds: {_DELETE_OR_REPLACE}"
        if column != TIME_COLUMN and not _is_number(field):
            return f"{column} {field[:40]!r} is not a finite number: {_DELETE_OR_REPLACE}"
    return None


def _is_plain(field: str) -> bool:
    # float() and int() also take "nan", "1_000" and digits of other scripts, none of which an exchange writes
    return not field.encode("utf-8", "surrogatepass").translate(None, _NUMBER_BYTES)


def _is_number(field: str) -> bool:
    try:
        return _is_plain(field) and bool(np.isfinite(float(field)))
    except ValueError:
        return False


def _is_int64(field: str) -> bool:
    try:
        return _is_plain(field) and abs(int(field)) < 2**63
    except ValueError:
        return False


# ---- from fields to a table -------------------------------------------------------------------------------------
def _table(
    fields: Mapping[str, ArrayLike], *, name: str, symbol: str, timeframe: Timeframe | None, place: str, first: int
) -> CandleTable:
    """Build the table; a fault is named by file and place here, because the table itself knows only rows."""
    open_ms = np.asarray(fields[TIME_COLUMN]).astype(np.int64)
    values = np.column_stack([np.asarray(fields[column], dtype=np.float64) for column in VALUE_COLUMNS])
    fault = _order_fault(open_ms) or _range_fault(open_ms) or _value_fault(values)
    if fault is None:
        timeframe = timeframe or _inferred(open_ms, name)
        fault = _time_fault(open_ms, timeframe)
    if fault is not None or timeframe is None:
        index, message = fault or (0, "no timeframe")
        raise InvalidCandle(f"{name} {place} {index + first}: {message}")
    return CandleTable(symbol=symbol, timeframe=timeframe, open_ms=open_ms, values=values)


def _inferred(open_ms: IntArray, name: str) -> Timeframe:
    try:
        return infer_timeframe(open_ms)
    except InvalidCandle as error:
        raise InvalidCandle(f"{name}: {error}") from error


def _order_fault(open_ms: IntArray) -> tuple[int, str] | None:
    rows = np.flatnonzero(open_ms[1:] <= open_ms[:-1])
    if len(rows) == 0:
        return None
    row = int(rows[0]) + 1
    time, before = int(open_ms[row]), int(open_ms[row - 1])
    if time == before:
        return row, f"{TIME_COLUMN} {time} stands there twice: keep one of the two rows"
    return row, f"{TIME_COLUMN} {time} comes after {before}: sort the rows by {TIME_COLUMN}"


def _range_fault(open_ms: IntArray) -> tuple[int, str] | None:
    rows = np.flatnonzero(np.abs(open_ms) >= _YEAR_2200_MS)
    if len(rows) == 0:
        return None
    row = int(rows[0])
    return row, f"{TIME_COLUMN} {open_ms[row]} lies beyond the year 2200: give milliseconds, not micro- or nanoseconds"


def _time_fault(open_ms: IntArray, timeframe: Timeframe) -> tuple[int, str] | None:
    if (fault := _order_fault(open_ms)) is not None:
        return fault
    rows = np.flatnonzero(open_ms % timeframe.span_ms)
    if len(rows) == 0:
        return None
    row = int(rows[0])
    return row, (
        f"{TIME_COLUMN} {open_ms[row]} is not a multiple of {timeframe.span_ms} ms ({timeframe.name}): "
        "state the file's own timeframe, and times as open times in milliseconds"
    )


def _value_fault(values: FloatArray) -> tuple[int, str] | None:
    """Return the first row that breaks a rule of `Candle`, and the rule; one pass over all rows."""
    open_, high, low, close, volume = values.T
    is_valid = (
        (low > 0.0)
        & (low <= open_)
        & (open_ <= high)
        & (high < np.inf)
        & (low <= close)
        & (close <= high)
        & (volume >= 0.0)
        & (volume < np.inf)
    )
    if is_valid.all():
        return None
    row = int(np.argmin(is_valid))
    return row, f"{_broken_rule(*values[row].tolist())}: {_DELETE_OR_REPLACE}"


def _broken_rule(open_: float, high: float, low: float, close: float, volume: float) -> str:
    for name, value in zip(VALUE_COLUMNS, (open_, high, low, close, volume), strict=True):
        if not np.isfinite(value):
            return f"{name} {value} is not a finite number"
    for name, value in zip(VALUE_COLUMNS, (open_, high, low, close), strict=False):
        if value <= 0.0:
            return f"{name} {value} is not a price above 0"
    if volume < 0.0:
        return f"volume {volume} is below 0"
    if high < low:
        return f"high {high} is below low {low}"
    name, value = ("close", close) if low <= open_ <= high else ("open", open_)
    return f"{name} {value} lies outside low {low} .. high {high}"


def _candle(symbol: str, span_ms: int, open_ms: int, row: Sequence[float]) -> Candle:
    open_, high, low, close, volume = row
    return Candle(
        symbol=symbol,
        open_ms=open_ms,
        span_ms=span_ms,
        open=open_,
        high=high,
        low=low,
        close=close,
        volume=volume,
    )


def _decimal(value: float) -> str:
    text = repr(value)
    if "e" in text:
        return str(np.format_float_positional(value, trim="-"))
    return text.removesuffix(".0")
