"""Which trials the members of a run are, and when they are written down: at the first look, and at the end."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from strategy.candle_table import CandleTable
from strategy.observation import OBSERVATION_HASH
from training.compare import Trial as Compared
from training.ensemble import Run, member_plans
from training.folds import Fold
from training.member import MemberProgress
from training.member_task import Candidate
from training.plan import MemberPlan
from training.settings_text import describe
from training.trials import Kind, Ledger, Trial, fingerprint


def member_trials(run: Run) -> list[Trial]:
    """Return the trial that each member of a run of `sacd train` is, without a score."""
    candles = _candles(run.tables, [record.sha256 for record in run.data], run.fold)
    curriculum = None if run.plan.curriculum is None else asdict(run.plan.curriculum)
    trials = []
    for index, plan in enumerate(member_plans(run.plan)):
        source = [run.sources[index].bundle, run.sources[index].member] if run.sources else None
        recipe = {**candles, "plan": describe(plan), "curriculum": curriculum, "source": source}
        trials.append(_trial(Kind.MEMBER, recipe, plan, run.tables, run.fold))
    return trials


def compared_trials(
    trials: Sequence[Compared], tables: Sequence[CandleTable], sums: Sequence[str], fold: Fold
) -> list[Trial]:
    """Return the ledger's trial for each of a comparison, without a score. sums: SHA-256 of the candle files."""
    candles = _candles(tables, sums, fold)
    return [
        _trial(Kind.COMPARE, {**candles, "plan": describe(each.plan), "scored": "last"}, each.plan, tables, fold)
        for each in trials
    ]


def _candles(tables: Sequence[CandleTable], sums: Sequence[str], fold: Fold | None) -> dict[str, Any]:
    return {
        "candles": [
            [table.symbol, digest, int(table.open_ms[0]), int(table.open_ms[-1])]
            for table, digest in zip(tables, sums, strict=True)
        ],
        "fold": None if fold is None else [fold.practice_to_ms, fold.from_ms, fold.to_ms],
        "observation": OBSERVATION_HASH,
    }


def _trial(
    kind: Kind, recipe: dict[str, Any], plan: MemberPlan, tables: Sequence[CandleTable], fold: Fold | None
) -> Trial:
    return Trial(
        kind=kind,
        recipe=fingerprint(recipe),
        seed=plan.seed,
        from_ms=None if fold is None else fold.from_ms,
        to_ms=None if fold is None else fold.to_ms,
        symbols=tuple(table.symbol for table in tables),
    )


class Recorder:
    """Writes the trials of a run into the ledger. trials: by the run's own index."""

    def __init__(self, ledger: Ledger, trials: Sequence[Trial]) -> None:
        self._ledger, self._trials = ledger, trials
        self._looked_at = set[int]()

    def told(self, index: int, progress: MemberProgress) -> None:
        """Take note of the first score that could be seen of a member: from now on it is a trial, whatever follows."""
        if progress.score is not None and index not in self._looked_at:
            self._looked_at.add(index)
            self._ledger.record([self._trials[index].scored(progress.score, 1, is_over=False)])

    def ended(self, index: int, score: float | None, looks: int) -> None:
        """Write down a member that came to its end, picked from so many scores; one that diverged has none."""
        self._ledger.record([self._trials[index].scored(score, looks)])

    def trained(self, index: int, plan: MemberPlan, candidate: Candidate) -> None:
        """Write down what came of a member of an ensemble."""
        score = None if candidate.conduct is None else candidate.conduct.score
        steps = candidate.steps - sum(int(stage["steps"]) for stage in candidate.stages)  # stages score elsewhere
        self.ended(index, score, 0 if score is None else looks_of(plan, steps))


def looks_of(plan: MemberPlan, steps: int) -> int:
    """Return how many scores the weights of a member that was scored are picked from in so many steps."""
    if plan.validation is None:
        return 1  # the last weights, once
    rollout = plan.settings.train_freq * plan.settings.n_envs  # scores are taken between rollouts
    return max(1, math.ceil(steps / max(plan.validation.every, rollout)))
