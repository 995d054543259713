"""Trains an ensemble: members that differ by draws from one seed, side by side, judged and written as one bundle.

Member i depends on the run's seed and i alone, and each is trained by itself on one thread. How many there are, how
many workers train them and where changes none of them; so a run that was killed and resumed, one with other workers
and one on a cluster end with the same bundle. (Between kinds of processors sums may round differently.)
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from strategy.candle_table import CandleTable
from strategy.decision import ACTION_RULE_VERSION
from strategy.manifest import BundleManifest, DataRecord, FeatureRecord, TrainingRecord
from strategy.observation import N_OBSERVATION, OBSERVATION_HASH, OBSERVATION_SCHEMA
from training.curriculum import Curriculum, make_stages
from training.errors import Interrupted, NoMember, TrainingError
from training.export import TrainedMember, library_versions, write_bundle
from training.folds import Fold
from training.gates import Gates, fault_of, weights_of
from training.held_out import HeldOut, fold_of, histories_of
from training.market import first_symbols, setup_of
from training.member import MemberProgress
from training.member_task import Candidate, Candles, Job, train_candidate
from training.plan import MemberPlan
from training.presets import GUIDE_GAMMAS
from training.ranges import require
from training.reference import reference_of
from training.run_directory import REPORT, RunDirectory
from training.settings_text import describe
from training.transfer import TakeOver
from training.workers import End, Outcome, Pool, Task

MOST_MEMBERS = 100  # what a bundle may hold, see daemon/models.py
EXPORTED = ("sac",)
_RATE_FACTORS = (0.5, 1.5)
_ROW_BYTES = 8 * N_OBSERVATION + 3 * 4 + 3 * 4  # two observations, an action, reward, done and timeout, all float32
_STATE_BYTES = 32 * 2**20

Tell = Callable[[int, MemberProgress], None]
Ended = Callable[[int, Candidate], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class EnsemblePlan:
    """All that decides a bundle, besides the candles.

    member: what the members have in common.  seed: what they differ by is drawn from it.  spread: whether learning rate
    and gamma differ too.  gammas: between which gamma then lies.  held: candles set apart to score them.
    gates: None takes every member that can be exported.  curriculum: None practises on all candles at once.
    Raises TrainingError for impossible values.
    """

    member: MemberPlan
    members: int = 3
    seed: int = 1
    spread: bool = True
    gammas: tuple[float, float] = GUIDE_GAMMAS
    held: HeldOut = field(default_factory=HeldOut)
    weighting: str = "equal"
    gates: Gates | None = field(default_factory=Gates)
    curriculum: Curriculum | None = None

    def __post_init__(self) -> None:
        require("--members", self.members, 1, MOST_MEMBERS)
        require("--seed", self.seed, 0, 2**63 - 1)
        for gamma in self.gammas:
            require("gammas", gamma, 0.0, 1.0)
        if self.member.algorithm not in EXPORTED:
            raise TrainingError(
                f"--algorithm {self.member.algorithm}: a bundle holds actors as SAC trains them (a squashed mean of "
                "continuous actions), and only those export; give sac, or measure the others with `sacd compare`"
            )
        weights_of([None if not self.held.is_any else 0.0], self.weighting)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Run:
    """A plan with its candles. data: the files the tables came from.  fold: the split in time, None without one.

    command: the command line that repeats the run: all that decides the bundle, nothing of where things lie.
    sources: what each member begins with, empty when all begin anew.
    """

    plan: EnsemblePlan
    tables: Sequence[CandleTable]
    data: Sequence[DataRecord]
    fold: Fold | None
    command: str
    sources: tuple[TakeOver, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Member:
    """One member of a finished run. fault: why it was left out, in words; empty when it belongs to the bundle."""

    plan: MemberPlan
    candidate: Candidate
    fault: str
    weight: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trained:
    """A finished run."""

    manifest: BundleManifest
    members: tuple[Member, ...]


def member_plans(plan: EnsemblePlan) -> list[MemberPlan]:
    """Return the plan of each member; that of member i depends on the seed and i, not on how many there are.

    Drawn: the seed; with `spread` also the factor of both learning rates, uniform in 0.5 .. 1.5, and gamma, uniform in
    the plan's `gammas`. The draws are words of NumPy's SeedSequence, which promises never to change them.
    """
    return [_drawn(plan, index) for index in range(plan.members)]


def _drawn(plan: EnsemblePlan, index: int) -> MemberPlan:
    words = np.random.SeedSequence(plan.seed, spawn_key=(index,)).generate_state(3, np.uint32)
    seed, rate, gamma = (int(word) for word in words)
    settings = plan.member.settings
    if plan.spread:
        factor, final = _between(_RATE_FACTORS, rate), settings.final_learning_rate
        settings = replace(
            settings,
            learning_rate=settings.learning_rate * factor,
            final_learning_rate=None if final is None else final * factor,
            gamma=_between(plan.gammas, gamma),
        )
    return replace(plan.member, seed=seed, settings=settings)


def _between(bounds: tuple[float, float], word: int) -> float:
    low, high = bounds
    return low + (high - low) * (word / 2**32)


def make_run(
    plan: EnsemblePlan,
    tables: Sequence[CandleTable],
    data: Sequence[DataRecord],
    command: str,
    *,
    sources: tuple[TakeOver, ...] = (),
) -> Run:
    """Return a run, after everything that can be refused before the work has been looked at.

    Raises TrainingError for candles that do not go together or are too few, and for a plan that could not learn.
    """
    member = plan.member
    if member.steps <= member.settings.learning_starts:
        raise TrainingError(
            f"--steps {member.steps} end before learning begins: give more than {member.settings.learning_starts}, or "
            "a smaller --set learning_starts"
        )
    setup_of(tables, member.conditions, "train")
    fold = fold_of(tables, plan.held)
    practice, _ = histories_of(tables, fold, member.conditions.strategy.max_missing)
    if plan.curriculum is not None:
        plan.curriculum.steps_of_a_try(member.steps)
        make_stages(practice, plan.curriculum, member.conditions.costs)
    for source in sources:
        source.planned(member)
    return Run(plan=plan, tables=tables, data=data, fold=fold, command=command, sources=sources)


def space_needed(plan: EnsemblePlan) -> int:
    """Return the bytes that the members' checkpoints take at most, while all of them train."""
    return plan.members * checkpoint_size(plan.member)


def checkpoint_size(plan: MemberPlan) -> int:
    """Return the bytes that one member's checkpoint takes at most."""
    return _ROW_BYTES * min(plan.settings.buffer_size, plan.steps) + _STATE_BYTES


def train_ensemble(
    run: Run,
    directory: RunDirectory,
    pool: Pool,
    *,
    tell: Tell,
    ended: Ended | None = None,
    keep_replay: bool = False,
) -> Trained:
    """Train what is not finished yet, judge all members and publish the bundle in `directory`.

    tell: called with member and progress.  ended: with each member and what came of it, once that is on disk; again
    with those that an earlier start finished.
    Raises Interrupted when the pool was stopped, and TrainingError when a member could not be brought to an end, both
    with the way to resume; NoMember when none passes its gate.
    """
    plans = member_plans(run.plan)
    jobs = [
        Job(plan=plan, prepare=source, curriculum=run.plan.curriculum, keep_replay=keep_replay)
        for plan, source in zip(plans, run.sources or [None] * len(plans), strict=True)
    ]
    candidates = _trained(Candles(tables=run.tables, fold=run.fold), jobs, directory, pool, tell, ended)
    members = judged(plans, candidates, run.plan)
    manifest = None
    if any(not member.fault for member in members):
        manifest = directory.publish(lambda place: _write(place, run, members))
    directory.write_report(report_of(run, members, manifest))
    if manifest is None:
        raise NoMember(
            "no member passed its gate, so there is no bundle: "
            + "; ".join(f"member {index}: {member.fault}" for index, member in enumerate(members))
            + f"; figures: {directory.training / REPORT}; give more --steps, another --reward or --gates off, and "
            "another --out"
        )
    return Trained(manifest=manifest, members=tuple(members))


def judged(plans: Sequence[MemberPlan], candidates: Sequence[Candidate], plan: EnsemblePlan) -> list[Member]:
    """Return every member with its verdict and weight, 0 for those left out."""
    faults = [_fault(candidate, plan.gates) for candidate in candidates]
    joining = [index for index, fault in enumerate(faults) if not fault]
    scores = [_score(candidates[index]) for index in joining]
    weights = dict(zip(joining, weights_of(scores, plan.weighting) if joining else [], strict=True))
    return [
        Member(plan=each, candidate=candidate, fault=fault, weight=weights.get(index, 0.0))
        for index, (each, candidate, fault) in enumerate(zip(plans, candidates, faults, strict=True))
    ]


def report_of(run: Run, members: Sequence[Member], manifest: BundleManifest | None) -> dict[str, Any]:
    """Return the record of a run as JSON types; `id` is null when it has no bundle."""
    return {
        "id": None if manifest is None else manifest.id,
        "command": run.command,
        "data": [asdict(record) for record in run.data],
        "validation_from_ms": None if run.fold is None else run.fold.from_ms,
        "weighting": run.plan.weighting,
        "gates": None if run.plan.gates is None else asdict(run.plan.gates),
        "curriculum": None if run.plan.curriculum is None else asdict(run.plan.curriculum),
        "taken_over": [source.planned(run.plan.member).to_json() for source in run.sources],
        "members": [_told(member) for member in members],
        "versions": library_versions(),
    }


# ---- the work ---------------------------------------------------------------------------------------------------
def _trained(  # noqa: PLR0917 - what `train_ensemble` was given
    candles: Candles, jobs: Sequence[Job], directory: RunDirectory, pool: Pool, tell: Tell, ended: Ended | None
) -> list[Candidate]:
    """Return what came of every member; those that an earlier start finished are read, the others trained."""
    kept = {index: directory.result_of(index) for index in range(len(jobs))}
    candidates = {index: Candidate.from_bytes(data) for index, data in kept.items() if data is not None}
    left = [index for index in kept if index not in candidates]
    tasks = [
        Task(name=f"member {i}", run=train_candidate, argument=jobs[i], folder=directory.member_folder(i)) for i in left
    ]
    unfinished: list[Outcome] = []
    for index, candidate in candidates.items():
        tell(index, MemberProgress(steps=candidate.steps, total=candidate.steps))
        _pass_on(ended, index, candidate)
    for outcome in pool.run(tasks, candles, lambda at, told: tell(left[at], told)):
        index = left[outcome.index]
        if outcome.end is End.DONE:
            directory.keep_result(index, outcome.value.to_bytes())
            candidates[index] = outcome.value
            _pass_on(ended, index, outcome.value)
        else:
            unfinished.append(replace(outcome, index=index))
    _require_all(unfinished, directory.path)
    return [candidates[index] for index in range(len(jobs))]


def _pass_on(ended: Ended | None, index: int, candidate: Candidate) -> None:
    if ended is not None:
        ended(index, candidate)


def _require_all(unfinished: Sequence[Outcome], path: Path) -> None:
    how = f"what is done is kept; go on with `sacd train --resume {path}`"
    failed = [outcome for outcome in unfinished if outcome.end is not End.STOPPED]
    if failed:
        told = "; ".join(f"member {outcome.index}: {outcome.reason}" for outcome in failed)
        raise TrainingError(f"{told}; {how}")
    if unfinished:
        raise Interrupted(f"interrupted; {how}")


def _fault(candidate: Candidate, gates: Gates | None) -> str:
    if candidate.fault or candidate.conduct is None:
        return candidate.fault
    return "" if gates is None else fault_of(candidate.conduct, gates)


def _score(candidate: Candidate) -> float | None:
    return None if candidate.conduct is None else candidate.conduct.score


# ---- what is written --------------------------------------------------------------------------------------------
def _write(place: Path, run: Run, members: Sequence[Member]) -> BundleManifest:
    conditions = run.plan.member.conditions
    practice, _ = histories_of(run.tables, run.fold, conditions.strategy.max_missing)
    return write_bundle(
        place,
        [
            TrainedMember(actor=member.candidate.actor, seed=member.plan.seed, weight=member.weight)
            for member in members
            if not member.fault and member.candidate.actor is not None
        ],
        action_rule_version=ACTION_RULE_VERSION,
        feature=FeatureRecord(hash=OBSERVATION_HASH, schema=OBSERVATION_SCHEMA),
        reference=reference_of([history.rows for history in practice]),
        costs=conditions.costs.to_json(),
        risk=conditions.limits.to_json(),
        strategy=conditions.strategy.to_json(),
        training=_record(run),
    )


def _record(run: Run) -> TrainingRecord:
    """Return how the bundle was made. Candles that scored the members count as seen: they helped to choose them."""
    tables = run.tables
    return TrainingRecord(
        command=run.command,
        start_ms=min(int(table.open_ms[0]) for table in tables),
        end_ms=max(int(table.open_ms[-1]) + table.timeframe.span_ms for table in tables),
        steps=run.plan.member.steps,
        symbols=first_symbols(tables),
        timeframe=tables[0].timeframe.name,
        data=tuple(run.data),
    )


def _told(member: Member) -> Mapping[str, Any]:
    candidate = member.candidate
    return {
        "verdict": "left out" if member.fault else "joined",
        "reason": member.fault,
        "weight": member.weight,
        "steps": candidate.steps,
        "best_step": candidate.best_steps,
        "stopped_early": candidate.is_early,
        "seconds": round(candidate.seconds, 3),
        "conduct": None if candidate.conduct is None else _finite(asdict(candidate.conduct)),
        "stages": list(candidate.stages),
        "plan": describe(member.plan),
    }


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return `values` with null for what is no number: JSON knows no other."""
    return {name: None if isinstance(x, float) and not math.isfinite(x) else x for name, x in values.items()}
