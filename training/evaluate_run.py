"""What `sacd evaluate` does: from arguments to an evaluation, its files, and what is told at the end."""

import argparse
import datetime as dt
import shlex
import time
from collections.abc import Sequence
from pathlib import Path

from strategy.bundle import Bundle
from strategy.candle_table import CandleTable
from training.bundles import conditions_of, read_serving_bundle
from training.commands_common import EXIT_NO, cut, day, needs_extra, read_files, when
from training.commands_conditions import MEANINGS, changed_by
from training.commands_evaluate import DEFAULT_DRAWS, DEFAULT_FOLDS, REFITS
from training.console import make_console, print_json, progress
from training.errors import TrainingError
from training.evaluate import Asked, evaluate, trade
from training.evaluate_output import refuse_unwritable, write_beside, write_whole
from training.evaluate_print import print_evaluation
from training.evaluate_trials import look_up
from training.evaluation import Evaluation, Refit
from training.market import Conditions
from training.ranges import require
from training.readiness import read_thresholds
from training.report import page
from training.trials import Ledger

REFITS_FOLDER = "refits"
"""Below --out: finished members of refits, so that an evaluation that was interrupted goes on from them."""
_MOST_FOLDS, _MOST_DRAWS, _MOST_SEED = 100, 100_000, 2**63 - 1


def run(args: argparse.Namespace) -> int:
    """Evaluate, write and print; return 0 when the ensemble is ready, else 3. Raises TrainingError."""
    bundle = _bundle(args)
    asked = _asked(args, bundle)
    out = Path("evaluations", bundle.manifest.short_id) if args.out is None else args.out
    refuse_unwritable(out)
    _require_refits(args, bundle)
    opening = look_up(args.ledger, asked)
    accounts = trade(asked, progress)
    refits, notes = _refits(args, asked, out, opening.ledger)
    found = evaluate(asked, accounts, tried=opening.tried, refits=refits, notes=notes, stage=progress)
    opening.note(found)
    write_whole(out, found, page(found.to_json()))
    _tell(args, found, out)
    if not asked.is_seen:
        write_beside(args.model, found)
    return 0 if found.ready else EXIT_NO


# ---- from arguments to what is asked ----------------------------------------------------------------------------
def _bundle(args: argparse.Namespace) -> Bundle:
    if args.model is None:
        raise TrainingError("--model is missing: name the directory of a bundle")
    return read_serving_bundle(args.model)


def _asked(args: argparse.Namespace, bundle: Bundle) -> Asked:
    """Return what is asked, after everything that can be refused before the work has been looked at."""
    require("--folds", args.folds, 1, _MOST_FOLDS)
    require("--draws", args.draws, 1, _MOST_DRAWS)
    require("--seed", args.seed, 0, _MOST_SEED)
    training = bundle.manifest.training
    start_ms = training.end_ms if args.since_ms is None else args.since_ms
    if start_ms < training.end_ms and not args.seen:
        raise TrainingError(
            f"--since {when(start_ms)}: the bundle was made from candles up to {day(training.end_ms - 1)}, which are "
            f"no evidence: begin at {when(training.end_ms)} or later, or add --seen"
        )
    tables = cut(read_files(args.data, args.symbol), None, args.until_ms)
    _require_one_timeframe(tables, training.timeframe)
    _require_span(tables, start_ms)
    return Asked(
        bundle=bundle,
        tables=tuple(tables),
        start_ms=start_ms,
        conditions=_conditions(args, bundle),
        thresholds=read_thresholds(args.thresholds, args.require),
        folds=args.folds,
        draws=args.draws,
        seed=args.seed,
        workers=args.workers,
        command=_command(args, bundle),
        at=_now(),
    )


def _conditions(args: argparse.Namespace, bundle: Bundle) -> Conditions:
    return changed_by(args, conditions_of(bundle.manifest))


def _require_one_timeframe(tables: Sequence[CandleTable], trained: str) -> None:
    found = {table.timeframe.name for table in tables}
    if found != {trained}:
        raise TrainingError(
            f"the ensemble was trained on {trained} candles, the data has {', '.join(sorted(found))}: give {trained}"
        )


def _require_span(tables: Sequence[CandleTable], start_ms: int) -> None:
    """Raise TrainingError unless every history reaches into the span and all have some time of it in common."""
    for table in tables:
        end_ms = int(table.open_ms[-1]) + table.timeframe.span_ms
        if end_ms <= start_ms:
            raise TrainingError(
                f"{table.symbol} ends {day(end_ms - 1)}, before the span, which begins {when(start_ms)}: give later "
                "candles, an earlier --since, or --seen for candles that the bundle was made from"
            )
    first, last = max(tables, key=lambda t: int(t.open_ms[0])), min(tables, key=lambda t: int(t.open_ms[-1]))
    if int(first.open_ms[0]) > int(last.open_ms[-1]):
        raise TrainingError(
            f"{last.symbol} ends {day(int(last.open_ms[-1]))}, {first.symbol} begins {day(int(first.open_ms[0]))}: the "
            "files have no time in common; give files of one span"
        )


def _command(args: argparse.Namespace, bundle: Bundle) -> str:
    """Return the command line that repeats the evaluation, without where things lie."""
    words = ["sacd", "evaluate", "--data", *(path.name for path in args.data), "--model", bundle.manifest.short_id]
    if args.symbol:
        words += ["--symbol", *args.symbol]
    for option, value in (("--since", args.since_ms), ("--until", args.until_ms)):
        if value is not None:
            words += [option, when(value)]
    usual = {"folds": DEFAULT_FOLDS, "draws": DEFAULT_DRAWS, "seed": 1, "refit_steps": None}
    given = {name: getattr(args, name) for name, default in usual.items() if getattr(args, name) != default}
    given |= {name: getattr(args, name) for name in MEANINGS if getattr(args, name) is not None}
    words += [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", f"{value}")]
    if args.refit != REFITS:
        words += ["--refit", ",".join(args.refit) or "none"]
    words += ["--seen"] * args.seen
    words += [word for text in args.require for word in ("--require", text)]
    words += [] if args.thresholds is None else ["--thresholds", args.thresholds.name]
    return shlex.join(words)


def _now() -> str:
    return dt.datetime.fromtimestamp(time.time_ns() // 1_000_000_000, dt.UTC).isoformat()


# ---- what is trained anew, and what is told ---------------------------------------------------------------------
def _refits(args: argparse.Namespace, asked: Asked, out: Path, ledger: Ledger) -> tuple[list[Refit], list[str]]:
    """Return what came of training the recipe anew, and what must be said of it."""
    if not args.refit:
        return [], ["the recipe was not trained anew (--refit none): only this one ensemble is judged"]
    made: tuple[list[Refit], list[str]] = needs_extra("training.evaluate_recipe").refits(
        asked, args.refit, steps=args.refit_steps, keep=out / REFITS_FOLDER, ledger=ledger
    )
    return made


def _require_refits(args: argparse.Namespace, bundle: Bundle) -> None:
    """Raise TrainingError when the recipe cannot be trained anew as asked: known before hours of trading."""
    if args.refit:
        needs_extra("training.evaluate_recipe").recipe(bundle.manifest, args.refit_steps)


def _tell(args: argparse.Namespace, found: Evaluation, out: Path) -> None:
    if args.json:
        print_json(found.to_json(curves=False))
        return
    console = make_console()
    print_evaluation(console, found)
    console.print(f"written to {out}/evaluation.json and {out}/report.html", style="dim", markup=False, highlight=False)
