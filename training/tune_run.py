"""One run of `sacd tune`: from its arguments to a study, a report and the command that uses what was found."""

import argparse
import json
import shlex
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from strategy.candle_table import CandleTable
from strategy.observation import OBSERVATION_HASH
from training import commands_common as common
from training import tune_study
from training.console import counted, make_console, print_json
from training.errors import Interrupted, TrainingError
from training.folds import Fold, FoldSettings, make_folds
from training.plan import MemberPlan, Validation
from training.presets import preset_named
from training.reward import REWARDS
from training.settings_text import describe, overrides
from training.trials import Kind, Ledger, Trial, fingerprint, place_of
from training.tune import Job, Progress, Result, storage_in, tune
from training.tune_display import Display, settings
from training.tune_objective import FoldObjective, checks_per_fold
from training.tune_report import Best, Context, page
from training.tune_sampling import rungs_of
from training.tune_space import make_search
from training.tune_study import Standing
from training.workers import LocalPool, Pool

_OUT = make_console()
_CHECKS = 10
_SHOWN = 5
_MOST_TRIALS, _MOST_WORKERS = 100_000, 256
BEST, REPORT = "best.json", "report.html"


def run(args: argparse.Namespace) -> int:
    """Search as the arguments of `sacd tune` say; return the exit code.

    Raises Interrupted and TrainingError; finished trials, and a report of them, stay.
    """
    _check_numbers(args)
    base = _base(args)
    search = make_search(base, args.fix, args.set)
    checks = checks_per_fold(search.base)
    _check_plan(search.base, checks)
    files, tables = common.read_candles(args)
    folds = _folds(args, tables, search.base)
    context = Context(
        files=[(file.name, file.sha256) for file in files],
        symbols=[table.symbol for table in tables],
        folds=folds,
        search=search,
        base=base,
        begin_ms=min(int(table.open_ms[0]) for table in tables),
        trials=args.trials,
        checks=checks,
    )
    job = Job(
        storage=args.storage or storage_in(args.out.resolve()),
        study=args.study,
        trials=args.trials,
        seed=args.seed,
        distributions=search.distributions,
        objective=FoldObjective(tables=tables, folds=folds, search=search, seed=args.seed),
        directory=_usable(args.out).resolve(),
        rungs=rungs_of(args.folds, checks) if args.prune else {},
        is_remote=args.ray is not None,
    )
    ledger, recipe = Ledger(place_of(args.ledger)), _fingerprint(args, context)
    with Display(args.trials, search.values) as shown:

        def tell(progress: Progress) -> None:
            _write_down(ledger, context, recipe, [progress.standing] if progress.standing is not None else [])
            shown.tell(progress)

        result = tune(job, recipe, lambda: _pool(args), args.workers, tell=tell, timeout_s=args.timeout)
    _write_down(ledger, context, recipe, result.standings)  # also those of others who work on the study
    best = _write(args, context, result)
    if result.fault:
        raise TrainingError(f"{result.fault}; {args.out / REPORT} lists them")
    if result.is_interrupted:
        raise Interrupted(f"stopped after {result.ended} of {args.trials} trials; the same command goes on from there")
    _print(args, context, result, best)
    return 0 if best is not None else 1


def _pool(args: argparse.Namespace) -> Pool:
    if args.ray is None:
        return LocalPool(args.workers)
    from training.workers_ray import RayPool  # noqa: PLC0415 - heavy, and only for those who have a cluster

    return RayPool(args.ray)


# ---- before the work --------------------------------------------------------------------------------------------
def _check_numbers(args: argparse.Namespace) -> None:
    """Refuse before the work what would fail in the middle of it."""
    for option, value, low, high in (
        ("trials", args.trials, 1, _MOST_TRIALS),
        ("workers", args.workers, 1, _MOST_WORKERS),
        ("seed", args.seed, 0, 2**32 - 1),
        ("timeout", args.timeout, 1.0, 1e8),
    ):
        if value is not None and not low <= value <= high:
            raise TrainingError(f"--{option} {value}: give {low:,.0f} .. {high:,.0f}")
    if args.ray is not None and args.storage is None:
        raise TrainingError(
            f"--ray {args.ray}: its machines cannot reach the file in --out: give --storage, a database all can reach"
        )


def _base(args: argparse.Namespace) -> MemberPlan:
    preset = preset_named(args.preset)
    name = args.reward or preset.reward
    if name not in REWARDS:
        raise TrainingError(f"--reward {name}: give one of {', '.join(REWARDS)}")
    steps = preset.steps if args.steps is None else args.steps
    return MemberPlan(
        seed=0,
        steps=steps,
        settings=preset.settings,
        conditions=preset.conditions,
        episode=preset.episode,
        randomisation=preset.randomisation,
        reward=REWARDS[name],
        validation=Validation(every=max(1, steps // _CHECKS)),
    )


def _check_plan(plan: MemberPlan, checks: int) -> None:
    if plan.steps <= plan.settings.learning_starts:
        starts = plan.settings.learning_starts
        raise TrainingError(
            f"--steps {plan.steps} end before learning begins: give more than {starts}, the learning_starts"
        )
    if checks < 1:
        raise TrainingError(f"--steps {plan.steps} end before the first score: give a smaller --set validation.every")


def _folds(args: argparse.Namespace, tables: Sequence[CandleTable], plan: MemberPlan) -> list[Fold]:
    settings = FoldSettings(count=args.folds, held=args.held, gap=args.gap)
    least = plan.episode.length or 2
    return make_folds(tables, settings, max_missing=plan.conditions.strategy.max_missing, least_practice=least)


def _usable(out: Path) -> Path:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"--out {out}: {error.strerror}: give a directory that can be written to") from error
    return out


def _fingerprint(args: argparse.Namespace, context: Context) -> dict[str, Any]:
    """Return all that makes two trials comparable, as JSON."""
    searched = {dimension.name: str(dimension.distribution) for dimension in context.search.dimensions}
    plan = {key: value for key, value in describe(context.search.base).items() if key not in searched}
    return {
        **{f"plan {key}": value for key, value in plan.items()},
        **{f"searched {name}": told for name, told in searched.items()},
        "data": [list(file) for file in context.files],
        "symbols": list(context.symbols),
        "folds": [[fold.practice_to_ms, fold.from_ms, fold.to_ms] for fold in context.folds],
        "seed": args.seed,
        "observation": OBSERVATION_HASH,
    }


def _write_down(ledger: Ledger, context: Context, recipe: Mapping[str, Any], standings: Sequence[Standing]) -> None:
    """Put trials into the ledger: those that ended, and those still open of which a fold's score could be seen."""
    seen = [standing for standing in standings if standing.has_ended or standing.folds]
    if seen:
        ledger.record([_trial(context, recipe, standing) for standing in seen])


def _trial(context: Context, recipe: Mapping[str, Any], standing: Standing) -> Trial:
    score = statistics.mean(standing.folds) if standing.score is None and standing.folds else standing.score
    trial = Trial(
        kind=Kind.TUNE,
        recipe=fingerprint({**recipe, "chosen": dict(standing.chosen)}),
        seed=int(recipe["seed"]),
        from_ms=context.folds[0].from_ms,
        to_ms=context.folds[-1].to_ms,
        symbols=tuple(context.symbols),
    )
    looks = 0 if score is None else max(1, len(standing.folds) * context.checks)
    return trial.scored(score, looks, is_over=standing.has_ended)


# ---- after it ---------------------------------------------------------------------------------------------------
def _write(args: argparse.Namespace, context: Context, result: Result) -> Best | None:
    """Write the report and the best trial's file; return what the latter holds, None without a finished trial."""
    best = None if result.best is None else _best(args, context, result, result.best)
    texts = {REPORT: page(context, result, best)}
    if best is not None:
        texts[BEST] = json.dumps(best, indent=2, allow_nan=False) + "\n"
    for name, text in texts.items():
        path = args.out / name
        part = path.with_name(f".{name}.part")
        try:
            part.write_text(text, encoding="utf-8")
            part.replace(path)
        except OSError as error:
            raise TrainingError(f"{path}: cannot be written ({error.strerror}); the study itself is kept") from error
    return best


def _best(args: argparse.Namespace, context: Context, result: Result, best: Standing) -> Best:
    plan = context.search.plan(best.chosen)
    texts = overrides(context.base, plan)
    return {
        "study": args.study,
        "trials": result.ended,
        "number": best.number,
        "score": float(best.score or 0.0),
        "folds": list(best.folds),
        "settings": context.search.values(best.chosen),
        "set": texts,
        "command": _command(args, plan, texts),
    }


def _command(args: argparse.Namespace, plan: MemberPlan, texts: Sequence[str]) -> str:
    """Return the command that trains an ensemble with just the settings found: members differ in their seeds alone."""
    words = ["sacd", "train", "--data", *map(str, args.data)]
    words += ["--symbol", *args.symbol] if args.symbol else []
    for option, ms in (("--since", args.since_ms), ("--until", args.until_ms)):
        words += [option, common.when(ms)] if ms is not None else []
    words += ["--preset", args.preset, *(["--reward", args.reward] if args.reward else [])]
    words += ["--steps", str(plan.steps), "--seed", str(args.seed), "--spread", "off"]
    words += [word for text in texts for word in ("--set", text)]
    return shlex.join([*words, "--out", str(args.out / "ensemble")])


def _print(args: argparse.Namespace, context: Context, result: Any, best: Best | None) -> None:  # noqa: ANN401
    if args.json:
        counts = {name: sum(standing.outcome == name for standing in result.standings) for name in tune_study.ENDS}
        print_json(
            {
                "out": str(args.out),
                "study": args.study,
                "trials": {"asked": args.trials, "ended": result.ended, **counts},
                "is_time_up": result.is_time_up,
                "importances": dict(result.importances),
                "best": best,
            }
        )
        return
    finished = [standing for standing in result.standings if standing.outcome == tune_study.DONE]
    table = Table("trial", "score", "folds", "settings", box=None)
    for standing in sorted(finished, key=lambda standing: -(standing.score or 0.0))[:_SHOWN]:
        folds = "  ".join(f"{score:.2f}" for score in standing.folds)
        values = settings(context.search.values(standing.chosen))
        table.add_row(str(standing.number), f"{standing.score:.3f}", folds, values)
    _OUT.print(table)
    if result.importances:
        told = ", ".join(f"{name} {share:.0%}" for name, share in list(result.importances.items())[:_SHOWN])
        _OUT.print(f"what mattered: {told}", markup=False, highlight=False)
    if result.is_time_up:
        _OUT.print(f"time is up after {result.ended} of {args.trials} trials; the same command goes on", markup=False)
    if best is None:
        _OUT.print(f"no trial has a score; {args.out / REPORT} says why", markup=False, highlight=False)
        return
    _OUT.print(
        f"{args.out / REPORT} shows the search; to train with the best of {counted(result.ended, 'trial')}:",
        highlight=False,
    )
    _OUT.print(str(best["command"]), markup=False, highlight=False, soft_wrap=True)
