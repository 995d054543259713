"""What `sacd compare` does: from arguments to trials, workers, and a table of what they were worth."""

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from strategy.candle_table import CandleTable
from strategy.observation import OBSERVATION_HASH
from training.baselines import BASELINES
from training.candles import CandleFile
from training.commands_common import day, read_candles
from training.compare import ComparePlan, Row, Trial, TrialResult, ranked, row_json, row_of, trials_of, verdicts
from training.compare_directory import REPORT, CompareDirectory
from training.compare_task import run_trial
from training.console import make_console, print_json
from training.ensemble import checkpoint_size
from training.errors import Interrupted, TrainingError
from training.export import library_versions
from training.folds import Fold
from training.held_out import HeldOut, fold_of, histories_of
from training.market import setup_of
from training.member import MemberProgress
from training.member_bars import member_bars
from training.member_task import Candles
from training.plan import MemberPlan
from training.presets import preset_named
from training.reward import reward_named
from training.run_directory import require_space
from training.settings_text import apply, describe
from training.trials import Ledger, place_of
from training.trials_made import Recorder, compared_trials
from training.validation import Score
from training.workers import End, LocalPool, Outcome, Pool, Task, stopped_by_signals

_OUT = make_console()
_MOST_WORKERS = 1_000
_OWN = ("seed", "algorithm", "validation")
"""What of a member's plan differs from trial to trial, or is always the same."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Asked:
    plan: ComparePlan
    files: Sequence[CandleFile]
    tables: Sequence[CandleTable]
    fold: Fold


def compare(args: argparse.Namespace) -> int:
    """Run what is not finished yet, tell what all trials were worth, and return 1 when every one of them failed.

    Raises Interrupted and TrainingError; finished trials stay.
    """
    workers = _workers(args)
    asked = _asked(args)
    pool: Pool = _pool(args, workers)
    require_space(args.out, workers * checkpoint_size(asked.plan.member))
    ledger = Ledger(place_of(args.ledger))
    with CompareDirectory(args.out, _identity(asked)) as directory:
        results = _run(asked, directory, pool, ledger)
        report = _report(args, asked, results, len(directory.results()))
        directory.write_report(report)
    if args.json:
        print_json(report)
    else:
        _print(args, asked, report, results)
    return 0 if any(result.score is not None for result in results) else 1


# ---- from arguments to a plan -----------------------------------------------------------------------------------
def _asked(args: argparse.Namespace) -> _Asked:
    """Return what is compared, after everything that can be refused before the work has been looked at."""
    preset = preset_named(args.preset)
    steps = preset.steps if args.steps is None else args.steps
    base = MemberPlan(
        seed=0,
        steps=steps,
        settings=preset.settings,
        conditions=preset.conditions,
        episode=preset.episode,
        randomisation=preset.randomisation,
        reward=reward_named(preset.reward if args.reward is None else args.reward),
    )
    plan = ComparePlan(
        member=apply(base, args.texts),
        algorithms=tuple(args.algorithms),
        seeds=args.seeds,
        seed=args.seed,
        held=_held(args),
    )
    starts = plan.member.settings.learning_starts
    if steps <= starts and {"sac", "dqn"} & set(plan.algorithms):
        raise TrainingError(
            f"--steps {steps} end before learning begins: give more than {starts}, or a smaller --set learning_starts"
        )
    files, tables = read_candles(args)
    setup_of(tables, plan.member.conditions, "compare")
    fold = fold_of(tables, plan.held)
    if fold is None:
        raise TrainingError("--validation 0: algorithms are compared on candles set apart: give more than 0")
    histories_of(tables, fold, plan.member.conditions.strategy.max_missing)
    return _Asked(plan=plan, files=files, tables=tables, fold=fold)


def _held(args: argparse.Namespace) -> HeldOut:
    if args.validation is not None and args.validation_from is not None:
        raise TrainingError("--validation and --validation-from say the same in two ways: give one of them")
    if args.validation_from is not None:
        return HeldOut(share=0.0, from_ms=args.validation_from)
    return HeldOut() if args.validation is None else HeldOut(share=args.validation)


def _identity(asked: _Asked) -> dict[str, Any]:
    """Return all that must not change between two starts, flat; not how many seeds and which algorithms."""
    plan = {key: value for key, value in describe(asked.plan.member).items() if key not in _OWN}
    candles = {
        f"candles of {table.symbol}": [file.sha256, int(table.open_ms[0]), int(table.open_ms[-1])]
        for file, table in zip(asked.files, asked.tables, strict=True)
    }
    versions = {f"version of {name}": version for name, version in library_versions().items()}
    fold = asked.fold
    return {
        **plan,
        **candles,
        **versions,
        "seed of all trials": asked.plan.seed,
        "validation": [fold.practice_to_ms, fold.from_ms, fold.to_ms],
        "observation": OBSERVATION_HASH,
    }


# ---- the work ---------------------------------------------------------------------------------------------------
def _workers(args: argparse.Namespace) -> int:
    trials = max(1, len(args.algorithms) * args.seeds)
    workers = min(len(os.sched_getaffinity(0)), trials) if args.workers is None else args.workers
    if not 1 <= workers <= _MOST_WORKERS:
        raise TrainingError(f"--workers {workers}: give 1 .. {_MOST_WORKERS}")
    return int(workers)


def _pool(args: argparse.Namespace, workers: int) -> Pool:
    if args.ray is None:
        return LocalPool(workers)
    if args.workers is not None:
        raise TrainingError("--workers are processes of this machine, --ray runs elsewhere: give one of them")
    from training.workers_ray import RayPool  # noqa: PLC0415 - heavy, and only for those who have a cluster

    return RayPool(args.ray)


def _run(asked: _Asked, directory: CompareDirectory, pool: Pool, ledger: Ledger) -> list[TrialResult]:
    """Return the results of all trials in their order; those of an earlier start are read, the others made."""
    trials = trials_of(asked.plan)
    names = [trial.name for trial in trials]
    kept = {index: directory.result_of(name) for index, name in enumerate(names)}
    results = {index: result for index, result in kept.items() if result is not None}
    left = [index for index in kept if index not in results]
    sums = [file.sha256 for file in asked.files]
    recorder = Recorder(ledger, compared_trials(trials, asked.tables, sums, asked.fold))
    for index, result in results.items():
        _write_down(recorder, index, result)
    unfinished: list[tuple[str, Outcome]] = []
    total = asked.plan.member.steps
    try:
        with stopped_by_signals(pool.stop), member_bars(len(trials), total, names) as tell:
            for index in results:
                tell(index, MemberProgress(steps=total, total=total))
            tasks = [_task(trials[index], directory) for index in left]
            candles = Candles(tables=asked.tables, fold=asked.fold)
            for outcome in pool.run(tasks, candles, lambda at, told: tell(left[at], told)):
                index = left[outcome.index]
                if outcome.end is End.DONE:
                    directory.keep(names[index], outcome.value)
                    results[index] = outcome.value
                    _write_down(recorder, index, outcome.value)
                else:
                    unfinished.append((names[index], outcome))
    except KeyboardInterrupt:
        raise Interrupted(f"ended at once; {_GO_ON}") from None
    _require_all(unfinished, len(results), len(trials))
    return [results[index] for index in range(len(trials))]


def _write_down(recorder: Recorder, index: int, result: TrialResult) -> None:
    score = None if result.score is None else result.score.value
    recorder.ended(index, score, 0 if score is None else 1)


_GO_ON = "what is done is kept; the same command goes on from there"


def _task(trial: Trial, directory: CompareDirectory) -> Task:
    return Task(name=trial.name, run=run_trial, argument=trial, folder=directory.folder(trial.name))


def _require_all(unfinished: Sequence[tuple[str, Outcome]], done: int, total: int) -> None:
    failed = [f"{name}: {outcome.reason}" for name, outcome in unfinished if outcome.end is not End.STOPPED]
    if failed:
        raise TrainingError(f"{'; '.join(failed)}; {_GO_ON}")
    if unfinished:
        raise Interrupted(f"interrupted after {done} of {total} trials; {_GO_ON}")


# ---- what is told -----------------------------------------------------------------------------------------------
def _report(args: argparse.Namespace, asked: _Asked, results: Sequence[TrialResult], trials: int) -> dict[str, Any]:
    plan, fold = asked.plan, asked.fold
    _, scored = histories_of(asked.tables, fold, plan.member.conditions.strategy.max_missing)
    setup = setup_of([history.table for history in scored], plan.member.conditions, "validation")
    baselines = {name: baseline(scored, setup) for name, baseline in BASELINES.items()}
    rows = ranked([row_of(algorithm, results) for algorithm in plan.algorithms])
    return {
        "out": str(args.out),
        "trials": trials,
        "steps": plan.member.steps,
        "seeds": plan.seeds,
        "validation_from_ms": fold.from_ms,
        "validation_to_ms": fold.to_ms,
        "symbols": [table.symbol for table in asked.tables],
        "data": [{"name": file.name, "sha256": file.sha256} for file in asked.files],
        "algorithms": [row_json(row) for row in rows],
        "baselines": [{"name": name, **asdict(score)} for name, score in baselines.items()],
        "verdicts": verdicts(rows, baselines),
        "runs": [asdict(result) for result in results],
        "settings": {key: value for key, value in describe(plan.member).items() if key not in _OWN},
        "versions": library_versions(),
    }


def _print(args: argparse.Namespace, asked: _Asked, report: Mapping[str, Any], results: Sequence[TrialResult]) -> None:
    _OUT.print(_table(asked, report, results))
    for verdict in report["verdicts"]:
        _OUT.print(verdict, markup=False, highlight=False)
    for result in results:
        if result.fault:
            _OUT.print(f"failed: {result.algorithm}-{result.index}: {result.fault}", markup=False, highlight=False)
    fold = asked.fold
    _OUT.print(
        f"{report['trials']} trials were made here, {report['steps']:,} steps each; scored from {day(fold.from_ms)} to "
        f"{day(fold.to_ms - 1)}, last weights, once. Intervals are over seeds on this one span: another span may rank "
        "otherwise.",
        markup=False,
        highlight=False,
    )
    _OUT.print(f"{args.out / REPORT} holds every trial", markup=False, highlight=False, style="dim")


def _table(asked: _Asked, report: Mapping[str, Any], results: Sequence[TrialResult]) -> Table:
    table = Table(
        "algorithm", "trials", "Sharpe", "95 % of the mean", "worst (seed)", "return", "drawdown", "trades",
        "buy/sell/hold", "seconds", "steps/s", box=None,
    )  # fmt: skip
    for row in ranked([row_of(algorithm, results) for algorithm in asked.plan.algorithms]):
        table.add_row(*_cells(row))
    for baseline in report["baselines"]:
        score = Score(**{key: value for key, value in baseline.items() if key != "name"})
        table.add_row(
            str(baseline["name"]),
            "",
            f"{score.sharpe:.2f}",
            "",
            "",
            f"{score.total_return:.1%}",
            f"{score.max_drawdown:.1%}",
            str(score.trades),
            _mix(score.actions),
            "",
            "",
        )
    return table


def _cells(row: Row) -> list[str]:
    counts = ((row.failed, "failed"), (row.idle, "without a trade"))
    trials = ", ".join([str(row.trials), *(f"{count} {what}" for count, what in counts if count)])
    interval = row.interval
    return [
        row.algorithm,
        trials,
        _number(row.sharpe, ".2f"),
        "" if interval is None else f"{interval.low:.2f} .. {interval.high:.2f}",
        "" if row.worst is None else f"{row.worst:.2f} ({row.worst_seed})",
        _number(row.total_return, ".1%"),
        _number(row.max_drawdown, ".1%"),
        _number(row.trades, ".0f"),
        "" if row.actions is None else _mix(row.actions),
        _number(row.seconds, ",.0f"),
        _number(row.steps_per_s, ",.0f"),
    ]


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _mix(actions: Mapping[str, float]) -> str:
    return "/".join(f"{actions[name]:.0%}" for name in ("buy", "sell", "hold"))
