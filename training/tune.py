"""A search for settings: workers that take trials from one study until it has as many as were asked for.

A worker is a task of `training.workers.Pool`, so it may run here or on a cluster. Whatever happens to it, the study
keeps what is finished, and what it had in hand is done again.
"""

import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import optuna
from optuna.distributions import BaseDistribution

from training import tune_study
from training.errors import Interrupted, TrainingError
from training.tune_sampling import NumberedSampler, Rungs
from training.tune_storage import held, plain_errors
from training.tune_study import Standing
from training.workers import TRACEBACK, End, Link, Pool, Task, stopped_by_signals

_MOST_FAILURES = 5
_BEAT_EVERY_S = 60.0


ShouldStop = Callable[[], bool]


class Evaluate(Protocol):
    """What a worker calls for each trial."""

    def __call__(
        self, trial: optuna.Trial, folder: Path, tell: Callable[[float], None], should_stop: ShouldStop
    ) -> float:
        """Return the trial's score.

        folder: exists, is the trial's own, and holds what an interrupted attempt left.  tell: takes the share done.
        Raises TrialPruned, Interrupted after `should_stop` said so, or TrainingError when the choice has no score.
        """


class Objective(Protocol):
    """What travels to the workers."""

    def open(self) -> Evaluate:
        """Return what scores trials; called once in each worker."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Job:
    """What every worker is given.

    storage: as `open_study` takes it.  trials: of the study in all.  directory: where trials keep checkpoints.  rungs:
    as `Rungs` takes them; empty never gives up.  is_remote: workers are on other machines and use a folder there
    instead, so that a trial begun again repeats the fold it was in.
    """

    storage: str
    study: str
    trials: int
    seed: int
    distributions: dict[str, BaseDistribution]
    objective: Objective
    directory: Path
    rungs: Mapping[int, float]
    is_remote: bool = False

    def open(self) -> optuna.Study:
        """Return the study as a worker needs it."""
        pruner = Rungs(self.rungs)
        return tune_study.open_study(self.storage, self.study, NumberedSampler(self.seed), pruner)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What a worker tells. number: the trial's place, 1, 2 ...  share: of it that is done.

    standing: how it ended, None before.  is_earlier: an earlier run of the search ended it.
    """

    number: int
    share: float
    standing: Standing | None = None
    is_earlier: bool = False


Tell = Callable[[Progress], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a search has found so far.

    importances: by setting, may be empty.  is_time_up: `timeout` ended it.  is_interrupted: a signal did.  fault: why
    it ended by itself before it was complete, empty when it did not.
    """

    standings: tuple[Standing, ...]
    importances: Mapping[str, float]
    is_time_up: bool = False
    is_interrupted: bool = False
    fault: str = ""

    @property
    def best(self) -> Standing | None:
        """The finished trial with the highest score, the first of equals."""
        finished = [standing for standing in self.standings if standing.outcome == tune_study.DONE]
        return max(finished, key=lambda standing: standing.score or 0.0, default=None)

    @property
    def ended(self) -> int:
        """How many trials have ended, one way or another."""
        return sum(standing.has_ended for standing in self.standings)


def storage_in(directory: Path) -> str:
    """Return the storage of a search that shares it with no other directory."""
    return f"sqlite:///{directory / 'study.sqlite'}"


# ---- the search -------------------------------------------------------------------------------------------------
def tune(
    job: Job,
    fingerprint: Mapping[str, Any],
    make_pool: Callable[[], Pool],
    workers: int,
    *,
    tell: Tell | None = None,
    timeout_s: float | None = None,
) -> Result:
    """Search until the study has `job.trials`, beginning where it was left, and return what was found.

    fingerprint: JSON of all that makes scores comparable; a study with another is refused.  tell: called here.
    Raises TrainingError when the study cannot be used or searched something else.
    """
    _made(job.directory)
    study = job.open()
    with plain_errors(job.storage):
        tune_study.require_same(study, fingerprint)
        _recover(job, study)
        _tell_earlier(study, tell)
    end, fault = _End(), ""
    with stopped_by_signals(end.interrupt), _timer(timeout_s, end):
        while not (fault or end.is_near) and _left(job, study):
            fault = _round(job, study, end.watched(make_pool()), workers, tell)
    with plain_errors(job.storage):
        return Result(
            standings=tuple(tune_study.standings(study)),
            importances=tune_study.importances(study),
            is_time_up=end.is_time_up,
            is_interrupted=end.is_interrupted,
            fault=fault,
        )


def _tell_earlier(study: optuna.Study, tell: Tell | None) -> None:
    for standing in tune_study.standings(study):
        if tell is not None and standing.has_ended:
            tell(Progress(number=standing.number, share=1.0, standing=standing, is_earlier=True))


def _left(job: Job, study: optuna.Study) -> int:
    with plain_errors(job.storage):
        held = tune_study.standings(study)
    return job.trials - len(held) + sum(standing.outcome == tune_study.WAITING for standing in held)


def _round(job: Job, study: optuna.Study, pool: Pool, workers: int, tell: Tell | None) -> str:
    """Let workers run until each has ended; one whose process died is replaced in the next round.

    Returns why there must not be one, empty when there may.
    """
    before, faults, deaths = len(study.get_trials(deepcopy=False)), [], []
    host = socket.gethostname()
    names = [f"{host}-{os.getpid()}-{index}" for index in range(min(workers, _left(job, study)))]
    tasks = [Task(name=name, run=work, argument=name, folder=_made(job.directory / "workers" / name)) for name in names]
    try:
        for outcome in pool.run(tasks, job, lambda _, told: None if tell is None else tell(told)):
            faults += [outcome.reason] if outcome.end is End.FAILED else []
            _keep_traceback(tasks[outcome.index].folder, job.directory)
            deaths += [outcome.reason] if outcome.end is End.DIED else []
            if faults:
                pool.stop()  # the others would meet the same; what they have in hand is kept
            with plain_errors(job.storage):
                tune_study.recover(study, ended=names[outcome.index])
    finally:
        for task in tasks:
            shutil.rmtree(task.folder, ignore_errors=True)
    has_begun = len(study.get_trials(deepcopy=False)) > before
    return next(iter(faults or ([] if has_begun else deaths)), "")


def _keep_traceback(folder: Path, directory: Path) -> None:
    if (folder / TRACEBACK).exists():
        (folder / TRACEBACK).replace(directory / TRACEBACK)


def _recover(job: Job, study: optuna.Study) -> None:
    """Void what earlier processes left; when nobody else uses the directory, all of it."""
    is_own = job.storage == storage_in(job.directory)  # then nobody can work on it from elsewhere
    with held(job.directory / "lock") as is_alone:
        tune_study.recover(study, is_alone=is_alone and is_own)


class _End:
    """Ends a search before it is complete, whichever pool runs at the time."""

    def __init__(self) -> None:
        self._pool: Pool | None = None
        self.is_interrupted = self.is_time_up = False

    @property
    def is_near(self) -> bool:
        return self.is_interrupted or self.is_time_up

    def watched(self, pool: Pool) -> Pool:
        """Return `pool`, which is stopped from now on when the end comes."""
        self._pool = pool
        if self.is_near:
            pool.stop()
        return pool

    def interrupt(self) -> None:
        self.is_interrupted = True
        self._stop()

    def time_out(self) -> None:
        self.is_time_up = True
        self._stop()

    def _stop(self) -> None:
        if self._pool is not None:
            self._pool.stop()


@contextmanager
def _timer(timeout_s: float | None, end: _End) -> Iterator[None]:
    if timeout_s is None:
        yield
        return
    timer = threading.Timer(timeout_s, end.time_out)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


# ---- a worker ---------------------------------------------------------------------------------------------------
def work(job: Job, name: str, link: Link) -> None:
    """Take trials until none is left: what runs in each process of the pool. name: of this worker.

    Raises Interrupted when told to stop, and TrainingError when trial after trial has no score.
    """
    ours, everyones = link.folder / "lock", _home(job, link) / "lock"
    with plain_errors(job.storage), held(ours), held(everyones, is_shared=True):
        study, evaluate, failures = job.open(), job.objective.open(), 0
        while not link.should_stop():
            trial = tune_study.next_trial(study, job.distributions, job.trials, ours, name)
            if trial is None:
                return
            reason = _try(job, study, trial, evaluate, link)
            failures = failures + 1 if reason else 0
            if failures == _MOST_FAILURES:
                raise TrainingError(f"{failures} trials in a row have no score, the last: {reason}")
        raise Interrupted("told to stop")


def _home(job: Job, link: Link) -> Path:
    return link.folder if job.is_remote else _made(job.directory)


def _try(job: Job, study: optuna.Study, trial: optuna.Trial, evaluate: Evaluate, link: Link) -> str:
    """Score one trial and note how it ended; return why it has no score, empty when it has one or was given up."""
    folder = _made(_home(job, link) / "trials" / tune_study.folder_of(trial))
    tell, reason = _teller(study, trial, link), ""
    tell(0.0)
    try:
        score = evaluate(trial, folder, tell, link.should_stop)
    except optuna.TrialPruned:
        tune_study.give_up(study, trial)
    except Interrupted:
        tune_study.postpone(study, trial)
        if job.is_remote:  # nobody would find the checkpoint again
            shutil.rmtree(folder, ignore_errors=True)
        raise
    except (TrainingError, MemoryError, ArithmeticError) as error:
        reason = str(error) or type(error).__name__
        tune_study.condemn(study, trial, reason)
    else:
        tune_study.finish(study, trial, score)
    shutil.rmtree(folder, ignore_errors=True)
    place = tune_study.place_of(trial.number, study.get_trials(deepcopy=False))
    link.tell(Progress(number=place + 1, share=1.0, standing=tune_study.standings(study)[place]))
    return reason


def _teller(study: optuna.Study, trial: optuna.Trial, link: Link) -> Callable[[float], None]:
    """Return what passes on how far a trial is, and lets the storage hear that its process lives."""
    number = tune_study.place_of(trial.number, study.get_trials(deepcopy=False)) + 1
    beaten_s = [-_BEAT_EVERY_S]

    def tell(share: float) -> None:
        link.tell(Progress(number=number, share=share))
        if time.monotonic() - beaten_s[0] >= _BEAT_EVERY_S:
            beaten_s[0] = time.monotonic()
            tune_study.beat(study, trial)

    return tell
