"""Trains a candidate by the recipe of the incumbent, or goes on where an interrupted trainer stopped."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from strategy.candle_table import CandleTable
from strategy.manifest import BundleManifest, DataRecord
from training.ensemble import EnsemblePlan, Run, Trained, make_run, member_plans, space_needed, train_ensemble
from training.errors import TrainingError
from training.export import library_versions
from training.member import MemberProgress
from training.member_task import Candidate
from training.refit_recipe import command_anew, recipe_of
from training.retrain_data import Gathered
from training.retrain_request import Request
from training.retrain_split import Split
from training.run_directory import FORMAT, RUN, RunDirectory, require_space
from training.run_record import RunRecord, records_of
from training.trials import Ledger
from training.trials_made import Recorder, member_trials
from training.workers import Pool

_RUN = "run"

Tell = Callable[[int, int, str], None]
"""Told how many steps are done, of how many, and where, in words."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prepared:
    """A training that can begin. notes: what was left out, and why."""

    run: Run
    record: RunRecord
    notes: tuple[str, ...]


def plan_of(manifest: BundleManifest, request: Request) -> EnsemblePlan:
    """Return how the candidate is trained: as the incumbent was, from a seed of its own.

    Raises TrainingError when the incumbent's recipe cannot be repeated, or was for candles of another timeframe.
    """
    recipe = recipe_of(manifest, steps=request.steps or None)
    if recipe.timeframe != request.timeframe.name:
        raise TrainingError(
            f"incumbent {manifest.short_id} was trained on candles of {recipe.timeframe}, the account trades "
            f"{request.timeframe.name}: train an ensemble for these"
        )
    return replace(recipe.plan, seed=request.seed)


def prepare(manifest: BundleManifest, plan: EnsemblePlan, gathered: Gathered, split: Split) -> Prepared:
    """Return the training on what lies before the split, of the symbols that have enough there.

    Raises TrainingError when none has.
    """
    tables = [table.slice(None, split.practice_to_ms) for table in gathered.tables]
    left_out = {table.symbol: fault for table in tables if (fault := _fault(plan, table))}
    taken = [index for index, table in enumerate(tables) if table.symbol not in left_out]
    if not taken:
        raise TrainingError(f"too few candles to practise on: {'; '.join(left_out.values())}")
    files = [gathered.files[index] for index in taken]
    command = command_anew(
        manifest,
        plan,
        files=[file.name for file in files],
        symbols=[file.table.symbol for file in files],
        until_ms=split.practice_to_ms,
    )
    data = [DataRecord(name=file.name, sha256=file.sha256) for file in files]
    record = RunRecord(
        plan=plan,
        files=records_of([gathered.paths[index] for index in taken], files),
        since_ms=None,
        until_ms=split.practice_to_ms,
        command=command,
        keep_replay=False,
        versions=library_versions(),
    )
    run = make_run(plan, [tables[index] for index in taken], data, command)
    return Prepared(run=run, record=record, notes=tuple(f"not practised on: {fault}" for fault in left_out.values()))


def train(prepared: Prepared, folder: Path, pool: Pool, ledger: Ledger, tell: Tell) -> tuple[Trained, Path]:
    """Return the candidate and the directory that holds its bundle.

    The same training that was interrupted in `folder` goes on; another one that lies there is removed. Every member is
    written down in the ledger, as those of `sacd train` are.
    Raises Interrupted when the pool was stopped, NoMember when none passes its gate, and TrainingError.
    """
    plans, recorder = member_plans(prepared.run.plan), Recorder(ledger, member_trials(prepared.run))
    steps = [0] * len(plans)

    def told(index: int, progress: MemberProgress) -> None:
        recorder.told(index, progress)
        steps[index] = progress.steps
        words = f"member {index + 1} of {len(plans)}, {progress.steps:,} of {progress.total:,} steps"
        tell(sum(steps), sum(plan.steps for plan in plans), words)

    def ended(index: int, candidate: Candidate) -> None:
        recorder.trained(index, plans[index], candidate)

    with _directory(folder / _RUN, prepared) as directory:
        trained = train_ensemble(prepared.run, directory, pool, tell=told, ended=ended)
        return trained, directory.path


def _fault(plan: EnsemblePlan, table: CandleTable) -> str:
    """Return why a symbol cannot be practised on, "" when it can."""
    if not len(table):
        return f"{table.symbol} has no candle there"
    try:
        make_run(plan, [table], (), "")
    except TrainingError as error:
        return str(error)
    return ""


def _directory(path: Path, prepared: Prepared) -> RunDirectory:
    """Return the directory of the run: that of the same training, or a new one."""
    record = json.loads(json.dumps({"format": FORMAT, **prepared.record.to_json()}))
    if _recorded(path) == record:
        directory, _ = RunDirectory.open(path)
        return directory
    try:
        if path.exists():
            shutil.rmtree(path)
    except OSError as error:
        raise TrainingError(f"{path}: {error.strerror}: correct its permissions") from error
    require_space(path, space_needed(prepared.run.plan))
    return RunDirectory.create(path, prepared.record.to_json())


def _recorded(path: Path) -> object:
    """Return what the run in `path` was asked for, None when there is none that could be gone on with."""
    try:
        return json.loads((path / "training" / RUN).read_bytes())
    except (OSError, ValueError):
        return None
