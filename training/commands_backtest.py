"""`sacd backtest`."""

import argparse
from pathlib import Path

from rich.table import Table

from strategy.manifest import TrainingRecord
from training import backtest
from training.bundles import conditions_of, read_serving_bundle, reference_of
from training.commands_common import add_candles, add_json, add_span, day, read_candles
from training.commands_conditions import add_conditions, changed_by
from training.console import make_console, print_json, progress
from training.errors import TrainingError
from training.market import setup_of

_OUT = make_console()


def add_backtest(parser: argparse.ArgumentParser) -> None:
    """Declare `sacd backtest`."""
    add_candles(parser)
    parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="a bundle")
    add_span(parser)
    add_conditions(parser)
    add_json(parser)
    parser.set_defaults(run=_backtest)


def _backtest(args: argparse.Namespace) -> int:
    bundle = read_serving_bundle(args.model)
    # Candles before --since fill the window, so only the end is cut off.
    _, tables = read_candles(args, since_ms=None)
    setup = setup_of(tables, changed_by(args, conditions_of(bundle.manifest)), "backtest")
    trained = bundle.manifest.training.timeframe
    if trained != setup.timeframe.name:
        raise TrainingError(
            f"the ensemble was trained on {trained} candles, the data has {setup.timeframe.name}: give {trained}"
        )
    candles = sum(len(table.slice(args.since_ms, None)) for table in tables)
    with progress("backtest", candles) as tell:
        record, trader = backtest.run(
            tables,
            setup,
            bundle.ensemble,
            reference=reference_of(bundle),
            start_ms=args.since_ms,
            progress=tell,
        )
    report = backtest.report(record, trader, backtest.INITIAL_CASH, bundle.manifest.short_id)
    if args.json:
        print_json(report.to_json())
    else:
        _print_report(report)
        _warn_of_seen(bundle.manifest.training, report)
    return 0


def _warn_of_seen(training: TrainingRecord, report: backtest.Report) -> None:
    """Say when candles were traded that the ensemble may have learned from, or was chosen by."""
    if report.start_ms < training.end_ms:
        seen = f"trained on {', '.join(training.symbols)} up to {day(training.end_ms - 1)}"
        _OUT.print(f"{seen}: only later candles are evidence (--since)", style="yellow", markup=False, highlight=False)


def _print_report(report: backtest.Report) -> None:
    span = f"{day(report.start_ms)} .. {day(report.end_ms - 1)}"
    title = f"{', '.join(report.symbols)}, {span}, {report.candles} candles, ensemble {report.model}"
    _OUT.print(title, markup=False, highlight=False)
    table = Table("", "ensemble", "buy and hold", box=None)
    ours, hold = report.figures, report.buy_and_hold
    for name, show in (
        ("total_return", "{:+.2%}".format),
        ("sharpe", _ratio),
        ("max_drawdown", "{:.2%}".format),
        ("equity_final", "{:,.2f}".format),
        ("trades", "{:,}".format),
        ("round_trips", "{:,}".format),
        ("wins", "{:,}".format),
        ("fees", "{:,.2f}".format),
        ("slippage", "{:,.2f}".format),
        ("exposure", "{:.1%}".format),
        ("turnover", "{:.1f}".format),
    ):
        table.add_row(name.replace("_", " "), show(getattr(ours, name)), show(getattr(hold, name)))
    for action in ours.actions:
        table.add_row(action, f"{ours.actions[action]:,}", f"{hold.actions[action]:,}")
    _OUT.print(table)
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in report.reasons.items())
    _OUT.print(f"verdicts: {reasons}", style="dim")


def _ratio(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.2f}"
