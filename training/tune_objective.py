"""What a trial is worth: the mean validation score of members trained with its choice, one on each fold."""

import math
import shutil
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import optuna

from strategy.candle_table import CandleTable
from training.errors import Interrupted, TrainingError
from training.folds import Fold, split
from training.history import History
from training.plan import MemberPlan
from training.tune import Evaluate, ShouldStop
from training.tune_space import Search
from training.tune_study import FOLDS

if TYPE_CHECKING:  # two seconds of torch that only workers pay
    from training.member import MemberProgress


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FoldObjective:
    """The objective of `sacd tune`. seed: the members' seeds are drawn from it, one a fold, alike in every trial."""

    tables: Sequence[CandleTable]
    folds: Sequence[Fold]
    search: Search
    seed: int

    def open(self) -> Evaluate:
        """Return what scores trials; computes every fold's feature rows, once."""
        max_missing = self.search.base.conditions.strategy.max_missing
        seeds = [int(seed) for seed in np.random.SeedSequence(self.seed).generate_state(len(self.folds), np.uint32)]
        return _FoldScorer(self.search, [split(self.tables, fold, max_missing) for fold in self.folds], seeds)


def checks_per_fold(plan: MemberPlan) -> int:
    """Return how often a member of `plan` is scored in one fold."""
    if plan.validation is None:
        raise TrainingError("--set validation=none: a search needs scores: leave it out")
    return plan.steps // plan.validation.every


class _FoldScorer:
    def __init__(self, search: Search, data: list[tuple[list[History], list[History]]], seeds: list[int]) -> None:
        self._search, self._data, self._seeds = search, data, seeds
        self._checks = checks_per_fold(search.base)

    def __call__(
        self, trial: optuna.Trial, folder: Path, tell: Callable[[float], None], should_stop: ShouldStop
    ) -> float:
        plan = self._search.plan(trial.params)
        scores: list[float] = list(trial.user_attrs.get(FOLDS, []))
        for index in range(len(scores), len(self._data)):
            watch = _Watch(trial, scores, (len(self._data), self._checks), tell, should_stop)
            scores.append(self._score(plan, index, folder / f"fold-{index}", watch))
            trial.set_user_attr(FOLDS, scores)
            watch.note((index + 1) * (self._checks + 1) - 1, statistics.mean(scores))
            if watch.is_given_up and index + 1 < len(self._data):
                raise optuna.TrialPruned
        if not any(scores):  # an account that never moves scores exactly 0
            raise TrainingError("it never traded in any fold")
        return statistics.mean(scores)

    def _score(self, plan: MemberPlan, index: int, folder: Path, watch: "_Watch") -> float:
        practice, scored = self._data[index]
        folder.mkdir(parents=True, exist_ok=True)
        from training.member import train_member  # noqa: PLC0415 - see above

        member = replace(plan, seed=self._seeds[index])
        try:
            result = train_member(practice, scored, member, folder, tell=watch.told, should_stop=watch.is_over)
        except Interrupted:
            if watch.is_given_up:
                raise optuna.TrialPruned from None
            raise
        shutil.rmtree(folder, ignore_errors=True)  # replay buffers of some hundred megabytes that nobody needs again
        if result.score is None or not math.isfinite(result.score):
            raise TrainingError(f"fold {index + 1}: the validation score is {result.score}")
        return result.score


class _Watch:
    """Follows one member: reports its scores to the study, once each, and asks whether to go on."""

    def __init__(
        self,
        trial: optuna.Trial,
        before: Sequence[float],
        counts: tuple[int, int],
        tell: Callable[[float], None],
        should_stop: ShouldStop,
    ) -> None:
        self._trial, self._before = trial, list(before)
        self._folds, self._checks = counts
        self._tell, self._should_stop = tell, should_stop
        self._noted = -1
        self.is_given_up = False

    def told(self, progress: "MemberProgress") -> None:
        """Take what the member tells."""
        self._tell((len(self._before) + progress.steps / progress.total) / self._folds)
        check = progress.steps * self._checks // progress.total - 1
        if progress.best is not None and math.isfinite(progress.best) and 0 <= check < self._checks:
            self.note(len(self._before) * (self._checks + 1) + check, statistics.mean([*self._before, progress.best]))

    def note(self, step: int, value: float) -> None:
        """Report a value for a step, once."""
        if step <= self._noted:
            return
        self._noted = step
        self._trial.report(value, step)
        self.is_given_up = self.is_given_up or self._trial.should_prune()

    def is_over(self) -> bool:
        """Tell the member whether to end."""
        return self.is_given_up or self._should_stop()
