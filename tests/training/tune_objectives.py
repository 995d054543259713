"""Objectives that travel to worker processes and cost nothing: known functions of the choice, and ways to fail."""

import argparse
import math
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution

from training.commands_tune import add_tune
from training.errors import Interrupted, TrainingError
from training.tune import Evaluate, Job
from training.workers import Outcome, Task, perform

BEST_RATE, BEST_SHARE = 1e-3, 0.7
SPACE: dict[str, BaseDistribution] = {
    "rate": FloatDistribution(1e-5, 1e-1, log=True),
    "share": FloatDistribution(0.0, 1.0),
}


SMALL = [
    "--preset", "compact", "--steps", "400", "--folds", "2", "--seed", "4",
    "--set", "learning_starts=100", "episode.length=200", "validation.every=100", "train_freq=1", "weight_decay=0",
    "--fix", "buffer_size=400", "batch_size=32", "net_arch=8", "gradient_steps=2", "learning_rate=0.02", "reward",
]  # fmt: skip
"""Options of a search whose trials take a second each, and of which the first has a score."""


def hill(rate: float, share: float) -> float:
    """Return 1 at the best choice, less elsewhere: a paraboloid over the logarithm of rate and over share."""
    return 1.0 - (math.log10(rate / BEST_RATE) / 4.0) ** 2 - (share - BEST_SHARE) ** 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Hill:
    """Climbs to the hill's height in three reports.

    delay_s: pause before each.  log: a line is added for each trial begun.  killed: the process kills itself in a trial
    for which this file exists, after taking the file away.  failure: raised for shares below 0.5.
    """

    delay_s: float = 0.0
    log: Path | None = None
    killed: Path | None = None
    failure: str = ""

    def open(self) -> Evaluate:
        return self.score

    def score(
        self, trial: optuna.Trial, folder: Path, tell: Callable[[float], None], should_stop: Callable[[], bool]
    ) -> float:
        height = hill(trial.params["rate"], trial.params["share"])
        if self.log is not None:
            with self.log.open("a") as log:
                log.write(f"{trial.number} {trial.params['rate']!r} {trial.params['share']!r} {folder.name}\n")
        for step in range(3):
            time.sleep(self.delay_s)
            if should_stop():
                raise Interrupted("told to stop")
            if self.killed is not None and self.killed.exists():
                self.killed.unlink()
                os.kill(os.getpid(), signal.SIGKILL)
            if self.failure and trial.params["share"] < 0.5:
                raise TrainingError(self.failure)
            trial.report(height - (2 - step) * 0.1, step)
            tell((step + 1) / 3)
            if trial.should_prune():
                raise optuna.TrialPruned
        return height


def job(directory: Path, objective: Hill | None = None, **parts: object) -> Job:
    """Return a job over `SPACE` with its own SQLite file."""
    whole: dict[str, object] = {
        "storage": f"sqlite:///{directory / 'study.sqlite'}",
        "study": "test",
        "trials": 6,
        "seed": 1,
        "distributions": SPACE,
        "objective": objective or Hill(),
        "directory": directory,
        "rungs": {},
    }
    return Job(**(whole | parts))  # type: ignore[arg-type]  # tests may give nonsense


class Inline:
    """A pool that runs its tasks here, one after another: what the processes do, without their seconds."""

    def __init__(self) -> None:
        self._is_stopping = False

    def run(self, tasks: Sequence[Task], shared: Any, tell: Callable[[int, Any], None]) -> Iterator[Outcome]:
        for index, task in enumerate(tasks):
            ended = perform(task, shared, _Here(task.folder, lambda told, index=index: tell(index, told), self))
            yield Outcome(index=index, end=ended.end, value=ended.value, reason=ended.reason)

    def stop(self) -> None:
        self._is_stopping = True

    @property
    def is_stopping(self) -> bool:
        return self._is_stopping


class _Here:
    def __init__(self, folder: Path, tell: Callable[[Any], None], pool: Inline) -> None:
        self.folder, self.tell, self._pool = folder, tell, pool

    def should_stop(self) -> bool:
        return self._pool.is_stopping


def parsed(*words: Any) -> argparse.Namespace:
    """Return the arguments of `sacd tune`."""
    parser = argparse.ArgumentParser()
    add_tune(parser)
    return parser.parse_args([str(word) for word in words])
