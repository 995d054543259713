"""What `sacd train` does: from arguments to a plan, a directory, workers, and what is told at the end."""

import argparse
import math
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.table import Table

from strategy.manifest import DataRecord
from training.candles import CandleFile
from training.commands_common import cut, read_files, when
from training.commands_train import DEFAULT_PRESET
from training.console import counted, make_console, print_json
from training.curriculum import Curriculum
from training.ensemble import (
    EnsemblePlan,
    Member,
    Run,
    Trained,
    make_run,
    member_plans,
    space_needed,
    train_ensemble,
)
from training.errors import Interrupted, TrainingError
from training.export import library_versions
from training.gates import Gates
from training.held_out import HeldOut
from training.member import MemberProgress
from training.member_bars import member_bars
from training.member_task import Candidate
from training.plan import MemberPlan, Validation
from training.presets import Preset, preset_named
from training.reward import reward_named
from training.run_directory import REPORT, RunDirectory, refuse_taken, require_space
from training.run_record import RunRecord, SourceRecord, read_again, records_of, take_again
from training.settings_text import apply, overrides
from training.transfer import for_fine_tuning, take_over
from training.trials import Ledger, place_of
from training.trials_made import Recorder, member_trials
from training.workers import LocalPool, Pool, stopped_by_signals

_OUT = make_console()
_ALSO_RESUMED = {"resume", "workers", "ray", "ledger", "json", "run", "verb"}
_MOST_WORKERS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Asked:
    """A run as it is about to begin or to go on."""

    out: Path
    record: RunRecord
    run: Run
    is_new: bool


def train(args: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Train an ensemble, or go on with one, and tell what came of it. Raises TrainingError and Interrupted."""
    asked = _resumed(args, parser) if args.resume is not None else _fresh(args, parser)
    pool = _pool(args, asked.record.plan.members)
    trained = _run(asked, pool, Ledger(place_of(args.ledger)))
    if args.json:
        print_json(_told(asked.out, trained))
    else:
        _print(asked.out, trained, asked.record.files)
    return 0


def _run(asked: _Asked, pool: Pool, ledger: Ledger) -> Trained:
    record, plan = asked.record, asked.record.plan
    recorder, plans = Recorder(ledger, member_trials(asked.run)), member_plans(plan)
    if asked.is_new:
        refuse_taken(asked.out)
        require_space(asked.out, space_needed(plan))
        directory = RunDirectory.create(asked.out, record.to_json())
    else:
        directory, _ = RunDirectory.open(asked.out)
    for index, source in enumerate(asked.run.sources):
        for line in source.planned(plan.member).lines():
            print(f"member {index}: {line}", file=sys.stderr)  # noqa: T201
    try:
        with directory, stopped_by_signals(pool.stop), member_bars(plan.members, plan.member.steps) as show:

            def tell(index: int, progress: MemberProgress) -> None:
                recorder.told(index, progress)
                show(index, progress)

            def ended(index: int, candidate: Candidate) -> None:
                recorder.trained(index, plans[index], candidate)

            return train_ensemble(asked.run, directory, pool, tell=tell, ended=ended, keep_replay=record.keep_replay)
    except KeyboardInterrupt:
        raise Interrupted(
            f"ended at once; what the last checkpoints hold is kept; go on with `sacd train --resume {asked.out}`"
        ) from None


# ---- from arguments to a plan -----------------------------------------------------------------------------------
def _fresh(args: argparse.Namespace, parser: argparse.ArgumentParser) -> _Asked:
    missing = [f"--{name}" for name in ("data", "out") if getattr(args, name) is None]
    if missing:
        parser.error(f"the following arguments are required: {', '.join(missing)}")
    plan, base = plan_of(args)
    refuse_taken(args.out)
    files = read_files(args.data, args.symbol)
    source = None
    if args.source is not None:
        source = SourceRecord(path=str(args.source.absolute()), id=take_over(args.source, 0).bundle)
    record = RunRecord(
        plan=plan,
        files=records_of(args.data, files),
        since_ms=args.since_ms,
        until_ms=args.until_ms,
        command=command_of(args, plan, base, _names(files, source)),
        keep_replay=bool(args.keep_replay),
        versions=library_versions(),
        source=source,
    )
    return _Asked(out=args.out, record=record, run=_run_of(record, files), is_new=True)


def _resumed(args: argparse.Namespace, parser: argparse.ArgumentParser) -> _Asked:
    given = [name for name, value in vars(args).items() if value is not None and name not in _ALSO_RESUMED]
    if given:
        names = ", ".join(f"--{_OPTIONS.get(name, name.replace('_', '-'))}" for name in given)
        parser.error(f"--resume takes everything else from the run it goes on with: leave out {names}")
    directory, values = RunDirectory.open(args.resume)
    with directory:
        record = RunRecord.from_json(values)
    for name, now in library_versions().items():
        if record.versions.get(name) != now:
            before = record.versions.get(name)
            told = f"the run began with {name} {before}, this is {now}: the bundle may differ"
            print(f"sacd train: {told}", file=sys.stderr)  # noqa: T201
    return _Asked(out=args.resume, record=record, run=_run_of(record, read_again(record.files)), is_new=False)


_OPTIONS = {"texts": "set", "source": "from", "since_ms": "since", "until_ms": "until"}


def _run_of(record: RunRecord, files: Sequence[CandleFile]) -> Run:
    tables = cut(files, record.since_ms, record.until_ms)
    data = [DataRecord(name=file.name, sha256=file.sha256) for file in files]
    sources = take_again(record.source, record.plan.members)
    return make_run(record.plan, tables, data, record.command, sources=sources)


def plan_of(args: argparse.Namespace) -> tuple[EnsemblePlan, MemberPlan]:
    """Return the plan, and the member's plan without what --set, --patience and --min-delta changed in it.

    args: parsed by the parser of `sacd train`; what names files and places is not looked at. Raises TrainingError.
    """
    held = _held(args)
    base = _base(args, held)
    spread, gammas = args.spread != "off", _preset(args).gammas
    if spread and any(text.partition("=")[0].strip() == "gamma" for text in args.texts or ()):
        low, high = gammas
        told = f"each member's gamma is drawn from {low} .. {high}"
        raise TrainingError(f"--set gamma: {told}: give --spread off as well")
    plan = EnsemblePlan(
        member=_scored(apply(base, args.texts or ()), args, held),
        held=held,
        spread=spread,
        gammas=gammas,
        gates=_gates(args),
        curriculum=_curriculum(args),
        **_given(members=args.members, seed=args.seed, weighting=args.weighting),
    )
    return plan, base


def _preset(args: argparse.Namespace) -> Preset:
    return preset_named(DEFAULT_PRESET if args.preset is None else args.preset)


def _base(args: argparse.Namespace, held: HeldOut) -> MemberPlan:
    preset = _preset(args)
    steps = preset.steps if args.steps is None else args.steps
    if steps < 1:
        raise TrainingError(f"--steps {steps}: give at least 1")
    usual = Validation()
    plan = MemberPlan(
        seed=0,
        steps=steps,
        settings=preset.settings,
        conditions=preset.conditions,
        episode=preset.episode,
        randomisation=preset.randomisation,
        reward=reward_named(preset.reward if args.reward is None else args.reward),
        # Short runs are scored too.
        validation=replace(usual, every=min(usual.every, steps)) if held.is_any else None,
        **_given(algorithm=args.algorithm),
    )
    return plan if args.source is None else for_fine_tuning(plan)


def _scored(member: MemberPlan, args: argparse.Namespace, held: HeldOut) -> MemberPlan:
    """Return `member` with --patience and --min-delta in it."""
    changes = _given(patience=args.patience, min_delta=args.min_delta)
    if not held.is_any and (changes or member.validation is not None):
        raise TrainingError("--patience, --min-delta and --set validation need scores: give --validation above 0")
    if not changes:
        return member
    return replace(member, validation=replace(member.validation or Validation(), **changes))


def _held(args: argparse.Namespace) -> HeldOut:
    if args.validation is not None and args.validation_from is not None:
        raise TrainingError("--validation and --validation-from say the same in two ways: give one of them")
    if args.validation_from is not None:
        return HeldOut(share=0.0, from_ms=args.validation_from)
    return HeldOut(**_given(share=args.validation))


_SAYS = {
    "days": "how long its stretches are",
    "tries": "how often a stage is practised",
    "thresholds": "when a stage is over",
}


def _curriculum(args: argparse.Namespace) -> Curriculum | None:
    given = _given(days=args.curriculum_days, tries=args.curriculum_tries, thresholds=args.curriculum_thresholds)
    if args.curriculum:
        return Curriculum(**given)
    for name in given:
        raise TrainingError(f"--curriculum-{name} says {_SAYS[name]}: give --curriculum as well")
    return None


def _gates(args: argparse.Namespace) -> Gates | None:
    given = _given(least_score=args.least_score, least_trades=args.least_trades)
    if args.gates == "off":
        if given:
            raise TrainingError("--gates off takes every member: leave out --least-score and --least-trades")
        return None
    return Gates(**given)


def _given(**values: Any) -> dict[str, Any]:  # noqa: ANN401 - options of any type
    return {name: value for name, value in values.items() if value is not None}


def command_of(args: argparse.Namespace, plan: EnsemblePlan, base: MemberPlan, names: Sequence[str]) -> str:
    """Return the command line that repeats a run: all that decides the bundle, nothing of where things lie.

    args, base: as of `plan_of`.  names: of what it reads, as options.
    """
    member, held = plan.member, plan.held
    parts = ["sacd train", *names]
    parts += ["--symbol", *map(shlex.quote, args.symbol)] if args.symbol else []
    parts += [
        f"--{name} {when(ms)}" for name, ms in (("since", args.since_ms), ("until", args.until_ms)) if ms is not None
    ]
    parts += [f"--preset {DEFAULT_PRESET if args.preset is None else args.preset}"]
    parts += [f"--reward {args.reward}"] if args.reward is not None else []
    parts += _curriculum_options(plan.curriculum)
    parts += [f"--steps {member.steps} --members {plan.members} --seed {plan.seed}"]
    parts += [f"--spread {'on' if plan.spread else 'off'}"]
    parts += [f"--validation {held.share}" if held.from_ms is None else f"--validation-from {when(held.from_ms)}"]
    parts += [f"--weighting {plan.weighting}", *_gate_options(plan.gates)]
    parts += [f"--set {shlex.quote(text)}" for text in overrides(base, member)]
    return " ".join(parts)


def _names(files: Sequence[CandleFile], source: SourceRecord | None) -> list[str]:
    names = ["--data", *(shlex.quote(file.name) for file in files)]
    return names if source is None else [*names, f"--from {source.id[:16]}"]  # what a registry calls it


def _curriculum_options(curriculum: Curriculum | None) -> list[str]:
    if curriculum is None:
        return []
    thresholds = ",".join(f"{threshold:g}" for threshold in curriculum.thresholds)
    return [
        f"--curriculum --curriculum-days {curriculum.days} --curriculum-tries {curriculum.tries}",
        f"--curriculum-thresholds {thresholds}",
    ]


def _gate_options(gates: Gates | None) -> list[str]:
    if gates is None:
        return ["--gates off"]
    score = [] if gates.least_score is None else [f"--least-score {gates.least_score}"]
    return [*score, f"--least-trades {gates.least_trades}"]


# ---- where it runs ----------------------------------------------------------------------------------------------
def _pool(args: argparse.Namespace, members: int) -> Pool:
    if args.ray is not None:
        if args.workers is not None:
            raise TrainingError("--workers are processes of this machine, --ray runs elsewhere: give one of them")
        from training.workers_ray import RayPool  # noqa: PLC0415 - heavy, and only for those who have a cluster

        return RayPool(args.ray)
    # Two to a core: three members on two cores share them and end together, where the third would run alone.
    workers = min(members, 2 * len(os.sched_getaffinity(0))) if args.workers is None else args.workers
    if not 1 <= workers <= _MOST_WORKERS:
        raise TrainingError(f"--workers {workers}: give 1 .. {_MOST_WORKERS}")
    return LocalPool(workers)


# ---- what is told at the end ------------------------------------------------------------------------------------
def _told(out: Path, trained: Trained) -> dict[str, Any]:
    return {
        "out": str(out),
        "id": trained.manifest.id,
        "members": len(trained.manifest.members),
        "report": str(out / "training" / REPORT),
        "trained": [
            {
                "seed": member.plan.seed,
                "learning_rate": member.plan.settings.learning_rate,
                "gamma": member.plan.settings.gamma,
                "steps": member.candidate.steps,
                "best_step": member.candidate.best_steps,
                "score": _score(member),
                "weight": member.weight,
                "reason": member.fault,
            }
            for member in trained.members
        ],
    }


def _score(member: Member) -> float | None:
    score = None if member.candidate.conduct is None else member.candidate.conduct.score
    return score if score is not None and math.isfinite(score) else None


def _print(out: Path, trained: Trained, files: Sequence[Any]) -> None:
    table = Table("member", "seed", "learning rate", "gamma", "best step", "score", "weight", "verdict", box=None)
    for index, member in enumerate(trained.members):
        settings, score = member.plan.settings, _score(member)
        table.add_row(
            str(index),
            str(member.plan.seed),
            f"{settings.learning_rate:.2e}",
            f"{settings.gamma:.4f}",
            f"{member.candidate.best_steps:,} of {member.candidate.steps:,}",
            "" if score is None else f"{score:.2f}",
            f"{member.weight:.2f}",
            f"left out: {member.fault}" if member.fault else "joined",
        )
    _OUT.print(table, markup=False)
    _print_stages(trained)
    manifest = trained.manifest
    members = counted(len(manifest.members), "member")
    _OUT.print(f"bundle {manifest.short_id} with {members} lies in {out}", markup=False)
    data = " ".join(shlex.quote(file.path) for file in files)
    _OUT.print(f"next: sacd backtest --model {shlex.quote(str(out))} --data {data}", markup=False, style="dim")


def _print_stages(trained: Trained) -> None:
    """Tell what the stages of a curriculum were, by what was measured in them, and how each member left them."""
    stages = [(index, stage) for index, member in enumerate(trained.members) for stage in member.candidate.stages]
    if not stages:
        return
    heads = ("member", "stage", "windows", "held out", "volatility", "cost of a move", "steps", "outcome")
    table = Table(*heads, box=None)
    for index, stage in stages:
        table.add_row(
            str(index),
            stage["stage"],
            str(stage["windows"]),
            str(stage["held_out"]),
            f"{stage['volatility']:.0%}",
            f"{stage['cost']:.1%}",
            f"{stage['steps']:,}",
            stage["words"],
        )
    _OUT.print(table, markup=False)
