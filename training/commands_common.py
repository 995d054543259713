"""What several verbs share: the options for candles, a span and JSON, and how moments and gaps are written."""

import argparse
import datetime as dt
import importlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from strategy.candle_table import CandleTable
from training.candles import CandleFile, read_candle_file
from training.console import counted
from training.data import MissingCandles
from training.errors import TrainingError

EXIT_NO = 3
_DAY_MS = 86_400_000


def add_candles(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Declare --data and --symbol, which `read_candles` reads."""
    parser.add_argument(
        "--data",
        type=Path,
        nargs="+",
        action="extend",
        required=required,
        metavar="FILE",
        help="candles: CSV, CSV.gz, Parquet or freqtrade's feather, one file for each symbol",
    )
    parser.add_argument(
        "--symbol",
        type=as_symbol,
        nargs="+",
        action="extend",
        metavar="BASE/QUOTE",
        help="one for each file, in their order, where the names do not tell them",
    )


def add_span(parser: argparse.ArgumentParser) -> None:
    """Declare --since and --until, which `read_candles` reads as `since_ms` and `until_ms`."""
    parser.add_argument("--since", dest="since_ms", type=as_moment, metavar="DATE", help="first day, UTC: 2021-12-31")
    parser.add_argument("--until", dest="until_ms", type=as_moment, metavar="DATE", help="first day no longer taken")


def add_json(parser: argparse.ArgumentParser) -> None:
    """Declare --json."""
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")


def as_symbol(text: str) -> str:
    """Return the symbol in `text`, an argument of a command."""
    if not re.fullmatch(r"[A-Za-z0-9.$-]{1,20}/[A-Za-z0-9.$-]{1,20}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form BASE/QUOTE, such as BTC/USDT")
    return text


def as_moment(text: str) -> int:
    """Return the milliseconds UTC of a date or moment, an argument of a command."""
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a date such as 2021-12-31") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    return int(moment.timestamp() * 1000)


def as_numbers(text: str) -> tuple[float, ...]:
    """Return numbers with commas between, an argument of a command."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not numbers such as 0.5,1,1.5") from None


def read_candles(args: argparse.Namespace, **span: int | None) -> tuple[list[CandleFile], list[CandleTable]]:
    """Return the files of --data and their candles from --since to --until, which `span` may override.

    Raises TrainingError for a file that cannot be read or has no candle in the span.
    """
    files = read_files(args.data, args.symbol)
    return files, cut(files, span.get("since_ms", args.since_ms), args.until_ms)


def read_files(paths: Sequence[Path], symbols: Sequence[str] | None) -> list[CandleFile]:
    """Return candle files. symbols: one for each, where the names do not tell them. Raises TrainingError."""
    if symbols and len(symbols) != len(paths):
        raise TrainingError(f"--symbol: {len(symbols)} for {len(paths)} files: give one for each file, in their order")
    stated: Sequence[str | None] = symbols or [None] * len(paths)
    return [read_candle_file(path, symbol=symbol) for path, symbol in zip(paths, stated, strict=True)]


def cut(files: Sequence[CandleFile], since_ms: int | None, until_ms: int | None) -> list[CandleTable]:
    """Return the candles of files that open in [since_ms, until_ms). Raises TrainingError when one has none."""
    tables = [file.table.slice(since_ms, until_ms) for file in files]
    for file, table in zip(files, tables, strict=True):
        if len(table) == 0:
            inside = f"{day(int(file.table.open_ms[0]))} .. {day(int(file.table.open_ms[-1]))}"
            raise TrainingError(f"{file.name}: no candle between --since and --until: choose a span inside {inside}")
    return tables


def needs_extra(module: str) -> Any:  # noqa: ANN401 - a module
    """Return `module` of ours, which needs the training extra: imported only where a verb cannot do without."""
    try:
        return importlib.import_module(module)  # torch: two seconds and 300 MB nobody else needs
    except ModuleNotFoundError as error:
        raise TrainingError(
            f"{error}: this needs the `train` extra; `make test` installs it in .venv-dev, from where "
            "`.venv-dev/bin/sacd` works"
        ) from error


def gap_count(gaps: Sequence[MissingCandles]) -> str:
    """Return how many gaps and missing candles there are, in words."""
    missing = counted(sum(gap.missing for gap in gaps), "candle")
    return f"{counted(len(gaps), 'gap')} ({missing} missing)" if gaps else "no gaps"


def day(ms: int) -> str:
    """Return the date of a moment, UTC."""
    return dt.datetime.fromtimestamp(ms / 1000, dt.UTC).date().isoformat()


def when(ms: int) -> str:
    """Return a moment as `as_moment` reads it, to the millisecond."""
    return day(ms) if ms % _DAY_MS == 0 else dt.datetime.fromtimestamp(ms / 1000, dt.UTC).isoformat()


def minute(ms: int) -> str:
    """Return a moment to the minute, UTC."""
    return dt.datetime.fromtimestamp(ms / 1000, dt.UTC).strftime("%Y-%m-%d %H:%M")
