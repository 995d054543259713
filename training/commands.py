"""The verbs of the training side: arguments in, files and tables out. What they do lies in the modules they call."""

import argparse
import datetime as dt
import importlib
import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import Field, asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from strategy.candle_table import CandleTable
from strategy.manifest import DataRecord
from strategy.parameters import CostModel, RiskLimits, StrategyParameters
from strategy.trader import Setup
from training import backtest, data
from training.bundles import read_serving_bundle, reference_of
from training.candles import CandleFile, read_candle_file
from training.console import make_console, print_json, progress
from training.errors import TrainingError
from training.market import Conditions, setup_of

EXIT_NO = 3
_OUT = make_console()
_MOST_MEMBERS = 100  # what a bundle may hold, see daemon/models.py
_WIDEST_LAYER = 65_536
_DAY_MS = 86_400_000
_MEANINGS = {
    "dead_band": "share of the symbol's capital; smaller changes are not traded",
    "edge_multiple": "round-trip costs that a new position must expect to move, 0: not asked",
    "edge_horizon": "candles within which it must",
    "disagreement_limit": "spread of the members' votes, 0 .. 1, above which nothing is done",
    "volatility_target": "annualised, as a share; caps the position",
    "max_missing": "candles the feature window may lack",
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


# ---- data -------------------------------------------------------------------------------------------------------
def add_data(parser: argparse.ArgumentParser) -> None:
    """Declare `sacd data import|verify|list`."""
    verbs = parser.add_subparsers(dest="data_verb", required=True, metavar="VERB")
    imported = verbs.add_parser("import", help="convert CSV, Parquet or freqtrade's feather into candles of ours")
    imported.add_argument("source", type=Path)
    imported.add_argument("out", type=Path, help="a name ending in .csv, .csv.gz or .parquet")
    imported.add_argument("--symbol", type=_symbol, metavar="BASE/QUOTE", help="where the file's name does not tell it")
    imported.add_argument("--overwrite", action="store_true")
    imported.set_defaults(run=_data_import)
    verified = verbs.add_parser("verify", help="tell what is in files and what is wrong with them")
    verified.add_argument("files", type=Path, nargs="+")
    verified.add_argument(
        "--symbol", type=_symbol, metavar="BASE/QUOTE", help="of all files, whatever their names tell"
    )
    verified.set_defaults(run=_data_verify)
    listed = verbs.add_parser("list", help="list the candle files of a directory")
    listed.add_argument("directory", type=Path)
    listed.set_defaults(run=_data_list)
    for verb in (imported, verified, listed):
        _add_json(verb)


def _data_import(args: argparse.Namespace) -> int:
    made = data.import_file(args.source, args.out, symbol=args.symbol, overwrite=args.overwrite)
    if args.json:
        print_json(asdict(made))
    else:
        span = f"{_day(made.first_ms)} .. {_day(made.last_ms)}"
        market = f"{made.symbol} {made.timeframe}"
        _OUT.print(f"{made.file}: {made.rows} candles of {market}, {span}, {_gaps(made.gaps)}", markup=False)
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
        span = f"{_day(result.first_ms)} .. {_day(result.last_ms)}"
        market = f"{result.symbol or 'unknown symbol'} {result.timeframe}"
        _OUT.print(f"{verdict} {escape(result.file)}: {market}, {result.rows} candles, {span}", highlight=False)
        move = "" if result.biggest_move is None else f", biggest move {result.biggest_move:+.1%}"
        _OUT.print(f"       {_gaps(result.gaps)}, {result.zero_volume} without volume{move}", highlight=False)
        for gap in result.gaps:
            _OUT.print(f"       gap: {gap.missing} from {_minute(gap.first_ms)}", style="dim", highlight=False)
    for problem in result.problems:
        _OUT.print(f"       {problem}", style="red", markup=False, highlight=False)


def _data_list(args: argparse.Namespace) -> int:
    found = data.list_files(args.directory)
    if args.json:
        print_json({"directory": str(args.directory), "files": [asdict(file) for file in found]})
        return 0
    table = Table("file", "symbol", "timeframe", "candles", "first", "last", "missing", "problem", box=None)
    for file in found:
        first, last = ("" if ms is None else _day(ms) for ms in (file.first_ms, file.last_ms))
        row = (file.symbol or "", file.timeframe or "", str(file.rows), first, last, str(file.missing))
        table.add_row(escape(file.file), *row, escape(file.problem or ""))
    _OUT.print(table)
    return 0


# ---- train ------------------------------------------------------------------------------------------------------
def add_train(parser: argparse.ArgumentParser) -> None:
    """Declare `sacd train`."""
    _add_data(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the bundle; must not exist yet")
    for option, default, metavar, told in (
        ("members", 3, "N", "policies of the ensemble"),
        ("steps", 100_000, "N", "candles each member practises on"),
        ("seed", 1, "S", "what all chance comes from; the seeds of the members are drawn from it"),
        ("learning-rate", 3e-4, "RATE", "of the optimiser"),
        ("batch-size", 256, "N", "past steps in one gradient step"),
        ("gamma", 0.997, "SHARE", "what a reward one candle later is worth"),
        ("weight-decay", 0.3, "RATE", "pull of the weights towards 0; keeps policies from becoming too steep"),
    ):
        meaning = f"{told} (default {default})"
        parser.add_argument(f"--{option}", type=type(default), default=default, metavar=metavar, help=meaning)
    parser.add_argument(
        "--net-arch",
        type=int,
        nargs="*",
        default=[64, 64],
        metavar="WIDTH",
        help="units of each hidden layer (default 64 64)",
    )
    parser.add_argument("--use-sde", action="store_true", help="explore with noise that depends on what is observed")
    _add_span(parser)
    _add_json(parser)
    parser.set_defaults(run=_train)


def _train(args: argparse.Namespace) -> int:
    _check_numbers(args)
    train = _needs_extra("training.train")
    files, tables = _read(args)
    plan = train.Plan(
        members=args.members,
        steps=args.steps,
        seed=args.seed,
        command=_command(args, files),
        sac=train.SacSettings(
            learning_rate=args.learning_rate,
            batch_size=args.batch_size,
            gamma=args.gamma,
            use_sde=args.use_sde,
            weight_decay=args.weight_decay,
            net_arch=tuple(args.net_arch),
        ),
        conditions=Conditions(),
        weights=train.RewardWeights(),
        episode=train.Episode(),
    )
    records = [DataRecord(name=file.name, sha256=file.sha256) for file in files]
    with progress(f"training {args.members} members", args.members * args.steps) as tell:
        manifest = train.train(tables, records, plan, args.out, lambda i, steps: tell(i * args.steps + steps))
    if args.json:
        print_json({"out": str(args.out), "id": manifest.id, "members": len(manifest.members)})
    else:
        _OUT.print(f"bundle {manifest.short_id} with {len(manifest.members)} members lies in {args.out}")
    return 0


def _check_numbers(args: argparse.Namespace) -> None:
    """Refuse before the work what would fail in the middle of it or after it."""
    wide = [width for width in args.net_arch if not 1 <= width <= _WIDEST_LAYER]
    for option, value, is_good, wanted in (
        ("members", args.members, 1 <= args.members <= _MOST_MEMBERS, f"1 .. {_MOST_MEMBERS}"),
        ("steps", args.steps, args.steps >= 1, "at least 1"),
        ("seed", args.seed, args.seed >= 0, "at least 0"),
        ("batch-size", args.batch_size, args.batch_size >= 1, "at least 1"),
        ("learning-rate", args.learning_rate, 0.0 < args.learning_rate <= 1.0, "above 0 and at most 1"),
        ("gamma", args.gamma, 0.0 <= args.gamma <= 1.0, "0 .. 1"),
        ("net-arch", wide, not wide, f"layers of 1 .. {_WIDEST_LAYER}"),
    ):
        if not is_good:
            raise TrainingError(f"--{option} {value}: give {wanted}")


def _needs_extra(module: str) -> Any:  # noqa: ANN401 - a module
    """Return `module` of ours, which needs the training extra: imported only where a verb cannot do without."""
    try:
        return importlib.import_module(module)  # torch: two seconds and 300 MB nobody else needs
    except ModuleNotFoundError as error:
        raise TrainingError(
            f"{error}: this needs the `train` extra; `make test` installs it in .venv-dev, from where "
            "`.venv-dev/bin/sacd` works"
        ) from error


def _command(args: argparse.Namespace, files: Sequence[CandleFile]) -> str:
    """Return the command line that repeats a run: all that decides the weights, nothing of where things lie."""
    parts = ["sacd train --data", *(shlex.quote(file.name) for file in files)]
    parts += ["--symbol", *map(shlex.quote, args.symbol)] if args.symbol else []
    parts += [f"--members {args.members} --steps {args.steps} --seed {args.seed}"]
    parts += [f"--{name} {_when(ms)}" for name, ms in (("from", args.from_ms), ("to", args.to_ms)) if ms is not None]
    parts += [f"--learning-rate {args.learning_rate} --batch-size {args.batch_size} --gamma {args.gamma}"]
    parts += [f"--weight-decay {args.weight_decay}"]
    parts += ["--net-arch", *map(str, args.net_arch), *(["--use-sde"] if args.use_sde else [])]
    return " ".join(parts)


# ---- backtest ---------------------------------------------------------------------------------------------------
def add_backtest(parser: argparse.ArgumentParser) -> None:
    """Declare `sacd backtest`."""
    _add_data(parser)
    parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="a bundle")
    _add_span(parser)
    for title, record in (("strategy", StrategyParameters), ("risk", RiskLimits), ("costs", CostModel)):
        group = parser.add_argument_group(title)
        for field in fields(record):
            option = f"--{field.name.replace('_', '-')}"
            group.add_argument(option, type=type(field.default), metavar="VALUE", help=_meaning(field))
    _add_json(parser)
    parser.set_defaults(run=_backtest)


def _meaning(field: Field[Any]) -> str:
    return f"{_MEANINGS[field.name]} (default {field.default})"


def _backtest(args: argparse.Namespace) -> int:
    bundle = read_serving_bundle(args.model)
    # Candles before --from fill the window, so only the end is cut off.
    _, tables = _read(args, from_ms=None)
    setup = setup_of(tables, _conditions(args), "backtest")
    trained = bundle.manifest.training.timeframe
    if trained != setup.timeframe.name:
        raise TrainingError(
            f"the ensemble was trained on {trained} candles, the data has {setup.timeframe.name}: give {trained}"
        )
    candles = sum(len(table.slice(args.from_ms, None)) for table in tables)
    with progress("backtest", candles) as tell:
        record, trader = backtest.run(
            tables,
            setup,
            bundle.ensemble,
            reference=reference_of(bundle),
            start_ms=args.from_ms,
            progress=tell,
        )
    report = backtest.report(record, trader, backtest.INITIAL_CASH, bundle.manifest.short_id)
    if args.json:
        print_json(report.to_json())
    else:
        _print_report(report)
    return 0


def _conditions(args: argparse.Namespace) -> Conditions:
    def changed(record: Any) -> Any:  # noqa: ANN401 - one of the three records
        given = {f.name: getattr(args, f.name) for f in fields(record) if getattr(args, f.name) is not None}
        return replace(record, **given)

    return Conditions(strategy=changed(StrategyParameters()), limits=changed(RiskLimits()), costs=changed(CostModel()))


def _print_report(report: backtest.Report) -> None:
    span = f"{_day(report.start_ms)} .. {_day(report.end_ms - 1)}"
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


# ---- parity -----------------------------------------------------------------------------------------------------
def add_parity(parser: argparse.ArgumentParser) -> None:
    """Declare the half of `sacd parity` that compares; the daemon wrote `--trace` and `--setup` before."""
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--trace", type=Path, required=True)
    parser.add_argument("--setup", type=Path, required=True)
    parser.set_defaults(run=_parity)


def _parity(args: argparse.Namespace) -> int:
    parity = _needs_extra("training.parity")
    stored = json.loads(args.setup.read_text())
    setup, cash, bundle = Setup.from_json(stored["setup"]), stored["cash"], read_serving_bundle(args.model)
    symbol = next(iter(setup.instruments))
    table = read_candle_file(args.data, symbol=symbol, timeframe=setup.timeframe).table
    with np.load(args.trace, allow_pickle=False) as arrays:
        daemon = parity.Trace.of_arrays(arrays)
    reference = parity.backtest_trace(table, setup, bundle, cash)
    environment = parity.environment_trace(table, setup, bundle, cash)
    result = parity.compare(symbol, reference, {"environment": environment, "daemon": daemon})
    print_json(asdict(result))
    return 0 if result.is_equal else EXIT_NO


# ---- parts ------------------------------------------------------------------------------------------------------
def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        type=Path,
        nargs="+",
        action="extend",
        required=True,
        metavar="FILE",
        help="candles: CSV, CSV.gz, Parquet or freqtrade's feather, one file for each symbol",
    )
    parser.add_argument(
        "--symbol",
        type=_symbol,
        nargs="+",
        action="extend",
        metavar="BASE/QUOTE",
        help="one for each file, in their order, where the names do not tell them",
    )


def _symbol(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9.$-]{1,20}/[A-Za-z0-9.$-]{1,20}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form BASE/QUOTE, such as BTC/USDT")
    return text


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")


def _add_span(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--from", dest="from_ms", type=_moment, metavar="DATE", help="first day, UTC, as 2021-12-31")
    parser.add_argument("--to", dest="to_ms", type=_moment, metavar="DATE", help="first day no longer taken")


def _moment(text: str) -> int:
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a date such as 2021-12-31") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    return int(moment.timestamp() * 1000)


def _read(args: argparse.Namespace, **span: int | None) -> tuple[list[CandleFile], list[CandleTable]]:
    """Return the files of --data and their candles within --from and --to, which `span` may override."""
    if args.symbol and len(args.symbol) != len(args.data):
        raise TrainingError(
            f"--symbol: {len(args.symbol)} for {len(args.data)} files: give one for each file, in their order"
        )
    symbols = args.symbol or [None] * len(args.data)
    files = [read_candle_file(path, symbol=symbol) for path, symbol in zip(args.data, symbols, strict=True)]
    from_ms = span.get("from_ms", args.from_ms)
    tables = [file.table.slice(from_ms, args.to_ms) for file in files]
    for file, table in zip(files, tables, strict=True):
        if len(table) == 0:
            raise TrainingError(f"{file.name}: no candle between --from and --to: choose a span inside the file")
    return files, tables


def _gaps(gaps: Sequence[data.MissingCandles]) -> str:
    return f"{len(gaps)} gaps ({sum(gap.missing for gap in gaps)} candles missing)" if gaps else "no gaps"


def _day(ms: int) -> str:
    return dt.datetime.fromtimestamp(ms / 1000, dt.UTC).date().isoformat()


def _when(ms: int) -> str:
    """Return a moment as `_moment` reads it, to the millisecond."""
    return _day(ms) if ms % _DAY_MS == 0 else dt.datetime.fromtimestamp(ms / 1000, dt.UTC).isoformat()


def _minute(ms: int) -> str:
    return dt.datetime.fromtimestamp(ms / 1000, dt.UTC).strftime("%Y-%m-%d %H:%M")
