"""`sacd trials` and `sacd trials add`, and the option by which runs name their ledger."""

import argparse
import statistics
from pathlib import Path
from typing import Any

from rich.table import Table

from training.commands_common import EXIT_NO, add_json
from training.console import counted, make_console, print_json
from training.trials import DEFAULT_PLACE, VARIABLE, Kind, Ledger, Reading, Tally, note, place_of, read_ledger

_OUT = make_console()
_LEAST_FOR_A_SPREAD = 2


def add_ledger(parser: argparse.ArgumentParser) -> None:
    """Declare --ledger, which `place_of` takes."""
    parser.add_argument(
        "--ledger",
        type=Path,
        metavar="FILE",
        help=f"where trials are counted (default: {VARIABLE}, or {DEFAULT_PLACE})",
    )


def add_trials(parser: argparse.ArgumentParser) -> None:
    """Declare `sacd trials` and `sacd trials add`."""
    add_ledger(parser)
    add_json(parser)
    parser.set_defaults(run=_trials)
    verbs = parser.add_subparsers(dest="trials_verb", metavar="add")
    added = verbs.add_parser("add", help="note trials that were made elsewhere")
    added.add_argument("--count", type=int, required=True, metavar="N", help="how many there were")
    added.add_argument("--words", required=True, metavar="TEXT", help="what was tried, and where")
    # Without a default of its own, which would take back what was given before `add`.
    added.add_argument("--ledger", type=Path, metavar="FILE", default=argparse.SUPPRESS, help="as of `sacd trials`")
    added.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print one JSON object instead")
    added.set_defaults(run=_add)


def _trials(args: argparse.Namespace) -> int:
    place = place_of(args.ledger)
    reading = read_ledger(place)
    if args.json:
        print_json(_told(place, reading))
    else:
        _print(place, reading)
    return EXIT_NO if reading.damage else 0


def _add(args: argparse.Namespace) -> int:
    made, place = note(args.count, args.words), place_of(args.ledger)
    Ledger(place).record([made])
    return _trials(args)


def _told(place: Path, reading: Reading) -> dict[str, Any]:
    return {
        "ledger": str(place),
        "lines": reading.lines,
        "sha256": reading.sha256,
        "damage": reading.damage or None,
        "torn": reading.torn,
        **_figures(reading.tally),
        "kinds": [{"kind": kind.value, **_figures(reading.tally.only(kind))} for kind in Kind],
        "notes": [
            {"count": one.count, "words": one.words, "at": one.at} for one in reading.tally.only(Kind.NOTE).counted
        ],
    }


def _figures(tally: Tally) -> dict[str, Any]:
    sharpes = tally.sharpes
    return {
        "trials": tally.count,
        "scored": len(sharpes),
        "looks": tally.looks,
        "best": max(sharpes, default=None),
        "median": tally.median,
        "spread": statistics.stdev(sharpes) if len(sharpes) >= _LEAST_FOR_A_SPREAD else None,
    }


def _print(place: Path, reading: Reading) -> None:
    table = Table("kind", "trials", "with a score", "looks", "best Sharpe", "median", "spread", box=None)
    for name, tally in (*((kind.value, reading.tally.only(kind)) for kind in Kind), ("all", reading.tally)):
        figures = _figures(tally)
        counts = (f"{figures[key]:,}" for key in ("trials", "scored", "looks"))
        ratios = ("" if figures[key] is None else f"{figures[key]:.2f}" for key in ("best", "median", "spread"))
        table.add_row(name, *counts, *ratios)
    _OUT.print(table)
    for one in reading.tally.only(Kind.NOTE).counted:
        _OUT.print(f"noted {one.at[:10]}: {one.count:,}, {one.words}", markup=False, highlight=False)
    if reading.torn:
        torn = f"{place}: its last line is half written ({reading.torn} bytes); the next run puts it aside"
        _OUT.print(torn, style="yellow", markup=False, highlight=False)
    if reading.damage:
        _OUT.print(reading.damage, style="red", markup=False, highlight=False)
    else:
        told = f"{place}: {counted(reading.lines, 'line')}, each follows the one before; last {reading.sha256[:16]}"
        _OUT.print(told, style="dim", markup=False, highlight=False)
