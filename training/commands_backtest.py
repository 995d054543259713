"""`sacd backtest`."""

import argparse
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from rich.table import Table

from strategy.manifest import BundleManifest, TrainingRecord
from strategy.parameters import CostModel, RiskLimits, StrategyParameters
from training import backtest
from training.bundles import conditions_of, read_serving_bundle, reference_of
from training.commands_common import add_candles, add_json, add_span, day, read_candles
from training.console import make_console, print_json, progress
from training.errors import TrainingError
from training.market import Conditions, setup_of

_OUT = make_console()
_MEANINGS = {
    "dead_band": "share of the symbol's capital; smaller changes are not traded",
    "edge_multiple": "round-trip costs that a new position must expect to move, 0: not asked",
    "edge_horizon": "candles within which it must",
    "disagreement_limit": "spread of the members' votes, 0 .. 1, above which nothing is done",
    "volatility_target": "annualised, as a share; caps the position",
    "max_missing": "candles the feature window may lack",
    "decide_every": "candles between two decisions",
    "decide_offset": "candles after 00:00 UTC that decisions are counted from",
    "max_position": "share of the symbol's capital",
    "max_drawdown": "fall from the peak, as a share, that sells everything and halts",
    "stop_loss": "share below the average entry",
    "stop_atr_multiple": "average true ranges below the highest close, 0: no such stop",
    "stop_cooldown": "candles without new exposure after a stop",
    "daily_loss": "loss since 00:00 UTC, as a share, after which exposure may only fall",
    "max_orders_per_day": "orders of the account",
    "max_turnover_per_day": "traded value in multiples of equity",
    "loss_streak": "losing round trips in a row",
    "loss_streak_cooldown": "candles without new exposure after them",
    "halt_cooldown": "candles after which a halt ends by itself, 0: it does not",
    "out_of_distribution": "distance from what training saw, 1 is its edge",
    "stale_feed_s": "seconds of silence of a live feed",
    "clock_skew_s": "seconds between our clock and the venue's",
    "fee_rate": "share of the traded value",
    "slippage_rate": "share of the price that a fill is worse",
    "participation": "share of a candle's volume one order may take",
}
"""What each parameter counts, shortly; strategy/parameters.py says it in full, with ranges."""


def add_backtest(parser: argparse.ArgumentParser) -> None:
    """Declare `sacd backtest`."""
    add_candles(parser)
    parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="a bundle")
    add_span(parser)
    for title, record in (("strategy", StrategyParameters), ("risk", RiskLimits), ("costs", CostModel)):
        group = parser.add_argument_group(title)
        for field in fields(record):
            option = f"--{field.name.replace('_', '-')}"
            meaning = f"{_MEANINGS[field.name]} (default: what the ensemble was trained under)"
            group.add_argument(option, type=type(field.default), metavar="VALUE", help=meaning)
    add_json(parser)
    parser.set_defaults(run=_backtest)


def _backtest(args: argparse.Namespace) -> int:
    bundle = read_serving_bundle(args.model)
    # Candles before --since fill the window, so only the end is cut off.
    _, tables = read_candles(args, since_ms=None)
    setup = setup_of(tables, _conditions(args, bundle.manifest), "backtest")
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


def _conditions(args: argparse.Namespace, manifest: BundleManifest) -> Conditions:
    """Return what the ensemble was trained under, with what the options change in it."""

    def changed(record: Any) -> Any:  # noqa: ANN401 - one of the three records
        given = {f.name: getattr(args, f.name) for f in fields(record) if getattr(args, f.name) is not None}
        return replace(record, **given)

    trained = conditions_of(manifest)
    return Conditions(strategy=changed(trained.strategy), limits=changed(trained.limits), costs=changed(trained.costs))


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
