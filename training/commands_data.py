"""`sacd data import|verify|list`, and where `fetch` joins them."""

import argparse
from dataclasses import asdict
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from training import data
from training.commands_common import add_json, as_symbol, day, gap_count, minute
from training.commands_fetch import add_fetch
from training.console import make_console, print_json

_OUT = make_console()
_MOST_GAPS = 20


def add_data(parser: argparse.ArgumentParser) -> None:
    """Declare `sacd data fetch|import|verify|list`."""
    verbs = parser.add_subparsers(dest="data_verb", required=True, metavar="VERB")
    fetched = add_fetch(verbs)
    imported = verbs.add_parser("import", help="convert CSV, Parquet or freqtrade's feather into candles of ours")
    imported.add_argument("source", type=Path)
    imported.add_argument("out", type=Path, help="a name ending in .csv, .csv.gz or .parquet")
    imported.add_argument(
        "--symbol", type=as_symbol, metavar="BASE/QUOTE", help="where the file's name does not tell it"
    )
    imported.add_argument("--overwrite", action="store_true")
    imported.set_defaults(run=_data_import)
    verified = verbs.add_parser("verify", help="tell what is in files and what is wrong with them")
    verified.add_argument("files", type=Path, nargs="+")
    verified.add_argument(
        "--symbol", type=as_symbol, metavar="BASE/QUOTE", help="of all files, whatever their names tell"
    )
    verified.set_defaults(run=_data_verify)
    listed = verbs.add_parser("list", help="list the candle files of a directory")
    listed.add_argument("directory", type=Path)
    listed.set_defaults(run=_data_list)
    for verb in (fetched, imported, verified, listed):
        add_json(verb)


def _data_import(args: argparse.Namespace) -> int:
    made = data.import_file(args.source, args.out, symbol=args.symbol, overwrite=args.overwrite)
    if args.json:
        print_json(asdict(made))
    else:
        span = f"{day(made.first_ms)} .. {day(made.last_ms)}"
        market = f"{made.symbol} {made.timeframe}"
        _OUT.print(f"{made.file}: {made.rows} candles of {market}, {span}, {gap_count(made.gaps)}", markup=False)
    return 0


def _data_verify(args: argparse.Namespace) -> int:
    results = data.verify_files(args.files, symbol=args.symbol)
    if args.json:
        print_json({"files": [asdict(result) for result in results]})
    else:
        for result in results:
            _print_verified(result)
    return 1 if any(result.problems for result in results) else 0


def _print_verified(result: data.Verified) -> None:
    if result.first_ms is None or result.last_ms is None:
        _OUT.print(f"[red]wrong[/]  {escape(result.file)}", highlight=False)
    else:
        verdict = "[red]wrong[/] " if result.problems else "[green]good[/]  "
        span = f"{day(result.first_ms)} .. {day(result.last_ms)}"
        market = f"{result.symbol or 'unknown symbol'} {result.timeframe}"
        _OUT.print(f"{verdict} {escape(result.file)}: {market}, {result.rows} candles, {span}", highlight=False)
        move = "" if result.biggest_move is None else f", biggest move {result.biggest_move:+.1%}"
        confirmed = f" ({result.missing_confirmed} confirmed by the exchange)" if result.missing_confirmed else ""
        told = f"{gap_count(result.gaps)}{confirmed}, {result.zero_volume} without volume{move}"
        _OUT.print(f"       {told}", highlight=False)
        if result.exchange is not None and result.fetched_ms is not None:
            fetched = f"fetched from {result.exchange}, last on {minute(result.fetched_ms)} UTC"
            _OUT.print(f"       {escape(fetched)}", highlight=False)
        for gap in result.gaps[:_MOST_GAPS]:
            _OUT.print(f"       gap: {gap.missing} from {minute(gap.first_ms)}", style="dim", highlight=False)
        if (more := len(result.gaps) - _MOST_GAPS) > 0:
            _OUT.print(f"       ... and {more:,} more: --json lists them all", style="dim", highlight=False)
    for problem in result.problems:
        _OUT.print(f"       {problem}", style="red", markup=False, highlight=False)


def _data_list(args: argparse.Namespace) -> int:
    found = data.list_files(args.directory)
    if args.json:
        print_json({"directory": str(args.directory), "files": [asdict(file) for file in found]})
        return 0
    if not found:
        _OUT.print(f"{args.directory}: no candle files", markup=False, highlight=False)
        return 0
    heads = ("file", "exchange", "symbol", "timeframe", "candles", "first", "last", "missing", "confirmed", "problem")
    table = Table(*heads, box=None)
    for file in found:
        first, last = ("" if ms is None else day(ms) for ms in (file.first_ms, file.last_ms))
        market = (file.exchange or "", file.symbol or "", file.timeframe or "")
        counts = (str(file.rows), first, last, str(file.missing), str(file.missing_confirmed))
        table.add_row(escape(file.file), *market, *counts, escape(file.problem or ""))
    _OUT.print(table)
    return 0
