"""Trains the members of refits: every one with its own practice, side by side, in folders that let it be gone on with.

A member's folder is called by a digest of all that decides the member. So the same folder serves any number of
evaluations: what is finished is read, what was interrupted goes on, and nothing is ever taken for something else.
"""

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from strategy.candle_table import CandleTable
from strategy.observation import OBSERVATION_HASH
from training.disk import write_together
from training.ensemble import EnsemblePlan, Member, checkpoint_size, judged, member_plans
from training.errors import Interrupted, TrainingError
from training.export import library_versions
from training.member import MemberProgress
from training.member_task import Candidate, Job, train_candidate
from training.refit_practice import Stretches
from training.run_directory import require_space
from training.settings_text import describe
from training.trials import Kind, Ledger, Trial, fingerprint
from training.trials_made import Recorder
from training.workers import End, Link, Outcome, Pool, Task

_RESULT, _WORK = "result.safetensors", "work"
Tell = Callable[[int, int], None]
"""Told how many steps are done, and how many there are in all."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lesson:
    """One member of one refit."""

    practice: Stretches
    job: Job


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Place:
    """Where what comes of refits is written. names: of the refits, in messages and in the ledger.

    keep: folder where members are kept for another time, None keeps nothing.  ledger: where each is written down.
    """

    names: Sequence[str]
    keep: Path | None = None
    ledger: Ledger | None = None


def train_refits(
    practices: Sequence[Stretches], plan: EnsemblePlan, pool: Pool, place: Place, *, tell: Tell | None = None
) -> list[list[Member]]:
    """Return the members of every refit with verdict and weight, in the order of `practices`.

    The same practice and plan give the same members, however many workers the pool has.
    Raises TrainingError when a member could not be brought to an end, and Interrupted when the pool was stopped.
    """
    plans = member_plans(plan)
    lessons = [
        Lesson(practice=practice, job=Job(plan=each, curriculum=plan.curriculum))
        for practice in practices
        for each in plans
    ]
    called = [f"{name}, member {index}" for name in place.names for index in range(len(plans))]
    with _folder(place.keep, plan) as folder:
        candidates = _Class(lessons, called, folder, place.ledger, tell).train(pool)
    by_refit = [candidates[at : at + len(plans)] for at in range(0, len(candidates), len(plans))]
    return [judged(plans, each, plan) for each in by_refit]


class _Class:
    """All lessons of one call."""

    def __init__(
        self,
        lessons: Sequence[Lesson],
        names: Sequence[str],
        folder: Path,
        ledger: Ledger | None,
        tell: Tell | None,
    ) -> None:
        self._lessons, self._names, self._told = lessons, names, tell
        recipes = [recipe_of(lesson) for lesson in lessons]
        self._folders = [folder / _digest(recipe, library_versions()) for recipe in recipes]
        trials = [_trial(lesson, recipe, name) for lesson, recipe, name in zip(lessons, recipes, names, strict=True)]
        self._recorder = None if ledger is None else Recorder(ledger, trials)
        self._steps = [0] * len(lessons)

    def train(self, pool: Pool) -> list[Candidate]:
        """Return what came of each, from what is kept or from the pool."""
        found = {index: kept for index, folder in enumerate(self._folders) if (kept := _kept(folder)) is not None}
        # Where groups lie close together, two splits may leave the same practice: its members are trained once.
        first = {folder: index for index, folder in reversed(list(enumerate(self._folders)))}
        left = sorted(index for index in first.values() if index not in found)
        for index, candidate in found.items():
            self._tell(index, self._lessons[index].job.plan.steps)
            self._note(index, candidate)
        tasks = [self._task(index) for index in left]
        unfinished: list[tuple[str, Outcome]] = []
        for outcome in pool.run(tasks, None, lambda at, told: self._look(left[at], told)):
            index = left[outcome.index]
            if outcome.end is End.DONE:
                found[index] = _keep(self._folders[index], outcome.value)
                self._note(index, outcome.value)
            else:
                unfinished.append((self._names[index], outcome))
        _require_all(unfinished)
        return [found[first[folder]] for folder in self._folders]

    def _task(self, index: int) -> Task:
        folder = self._folders[index] / _WORK
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TrainingError(f"{folder}: {error.strerror}: name a place that can be written") from error
        return Task(name=self._names[index], run=take_lesson, argument=self._lessons[index], folder=folder)

    def _look(self, index: int, told: MemberProgress) -> None:
        """Pass on how far a member is. From its first score on it is a trial, whatever follows."""
        if self._recorder is not None:
            self._recorder.told(index, told)
        self._tell(index, told.steps)

    def _note(self, index: int, candidate: Candidate) -> None:
        if self._recorder is not None:
            self._recorder.trained(index, self._lessons[index].job.plan, candidate)

    def _tell(self, index: int, steps: int) -> None:
        for twin, folder in enumerate(self._folders):
            if folder == self._folders[index]:
                self._steps[twin] = steps
        if self._told is not None:
            self._told(sum(self._steps), sum(lesson.job.plan.steps for lesson in self._lessons))


def take_lesson(_: None, lesson: Lesson, link: Link) -> Candidate:
    """Be the task of one lesson: what a pool runs."""
    return train_candidate(lesson.practice, lesson.job, link)


def recipe_of(lesson: Lesson) -> dict[str, Any]:
    """Return what decides a member, as JSON types: its plan, its candles and how they are split."""
    curriculum = lesson.job.curriculum
    return {
        "refit": [
            {
                "fold": None if part.fold is None else asdict(part.fold),
                "candles": [[table.symbol, table.timeframe.name, _sha256(table)] for table in part.tables],
            }
            for part in lesson.practice.parts
        ],
        "plan": describe(lesson.job.plan),
        "curriculum": None if curriculum is None else asdict(curriculum),
        "observation": OBSERVATION_HASH,
    }


def _sha256(table: CandleTable) -> str:
    digest = hashlib.sha256()
    for array in (table.open_ms, table.values):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _digest(recipe: Mapping[str, Any], versions: Mapping[str, str]) -> str:
    return fingerprint({"recipe": recipe, "versions": dict(versions)})[:32]


def _trial(lesson: Lesson, recipe: Mapping[str, Any], name: str) -> Trial:
    """Return the line of a member in the ledger, without a score; its span is that of the candles that score it."""
    folds = [part.fold for part in lesson.practice.parts if part.fold is not None]
    symbols = dict.fromkeys(table.symbol for part in lesson.practice.parts for table in part.tables)
    return Trial(
        kind=Kind.REFIT,
        recipe=fingerprint(recipe),
        seed=lesson.job.plan.seed,
        from_ms=min((fold.from_ms for fold in folds), default=None),
        to_ms=max((fold.to_ms for fold in folds), default=None),
        symbols=tuple(symbols),
        words=name,
    )


@contextmanager
def _folder(keep: Path | None, plan: EnsemblePlan) -> Iterator[Path]:
    if keep is not None:
        require_space(keep, checkpoint_size(plan.member))
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="sacd-refit-") as folder:
        require_space(Path(folder), checkpoint_size(plan.member))
        yield Path(folder)


def _require_all(unfinished: Sequence[tuple[str, Outcome]]) -> None:
    failed = [f"{name}: {outcome.reason}" for name, outcome in unfinished if outcome.end is not End.STOPPED]
    if failed:
        raise TrainingError("; ".join(failed))
    if unfinished:
        raise Interrupted(f"interrupted; {len(unfinished)} members of the refits were not finished")


# ---- what is kept -----------------------------------------------------------------------------------------------
def _kept(folder: Path) -> Candidate | None:
    try:
        return Candidate.from_bytes((folder / _RESULT).read_bytes())
    except FileNotFoundError:
        return None
    except (TrainingError, KeyError) as error:
        raise TrainingError(f"{folder / _RESULT}: it cannot be read ({error}): remove {folder}") from error


def _keep(folder: Path, candidate: Candidate) -> Candidate:
    """Store a finished member, and remove what it was made in: a refit has hundreds of megabytes of checkpoints."""
    write_together({folder / _RESULT: candidate.to_bytes()})
    shutil.rmtree(folder / _WORK, ignore_errors=True)
    return candidate
