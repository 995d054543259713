"""Compares algorithms: the same candles, accounts, costs, steps and seeds for each, and what the differences are worth.

Every trial's last weights are scored, once, on candles it never practised on: no best checkpoint is picked there, so a
score is that of any other candles of the kind, and no algorithm gains by being scored more often. What one plan gives
all of them was tuned for none; settings that an algorithm does not have are without effect on it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np

from training.errors import TrainingError
from training.held_out import HeldOut
from training.intervals import Interval, mean_interval
from training.plan import ALGORITHMS, MemberPlan
from training.ranges import require
from training.validation import Score

MOST_SEEDS = 1_000
_ACTIONS = ("buy", "sell", "hold")


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparePlan:
    """What is compared. member: what all trials have in common.  seeds: trials of each algorithm, drawn from `seed`.

    held: candles set apart to score them.  Raises TrainingError for impossible values.
    """

    member: MemberPlan
    algorithms: tuple[str, ...] = ALGORITHMS
    seeds: int = 5
    seed: int = 1
    held: HeldOut = field(default_factory=HeldOut)

    def __post_init__(self) -> None:
        require("--seeds", self.seeds, 1, MOST_SEEDS)
        require("--seed", self.seed, 0, 2**63 - 1)
        if not self.held.is_any:
            raise TrainingError("--validation 0: algorithms are compared on candles set apart: give more than 0")
        if self.member.validation is not None:
            raise TrainingError(
                "--set validation: every trial's last weights are scored, once, so that no algorithm is favoured by "
                "being scored more often: leave it out"
            )
        if not self.algorithms or len(set(self.algorithms)) != len(self.algorithms):
            raise TrainingError(f"--algorithms {' '.join(self.algorithms)}: name each once, and at least one")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One algorithm with one seed. index: of the seed."""

    index: int
    plan: MemberPlan

    @property
    def name(self) -> str:
        """Its name, which is also that of its folder."""
        return f"{self.plan.algorithm}-{self.index}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialResult:
    """What came of a trial. score: None when it failed, for the reason in `fault`.

    seconds: of practice, None when it was interrupted in between.  steps_per_s: None when it was too short to tell.
    """

    algorithm: str
    index: int
    seed: int
    steps: int
    score: Score | None
    fault: str
    seconds: float | None
    steps_per_s: float | None

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "TrialResult":
        """Return what `dataclasses.asdict` told. Raises KeyError or TypeError for anything else."""
        score = values["score"]
        return cls(**{**values, "score": None if score is None else Score(**score)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One algorithm's line of the table: means over its seeds.

    interval: of the mean Sharpe ratio, None for fewer than two seeds.  worst: the lowest Sharpe ratio and its seed.
    failed: trials without a score.  idle: those with a score that never traded.  All but these counts are None when
    every trial failed.
    """

    algorithm: str
    trials: int
    failed: int
    idle: int
    sharpe: float | None
    interval: Interval | None
    worst: float | None
    worst_seed: int | None
    total_return: float | None
    max_drawdown: float | None
    trades: float | None
    exposure: float | None
    actions: Mapping[str, float] | None
    seconds: float | None
    steps_per_s: float | None


def trials_of(plan: ComparePlan) -> list[Trial]:
    """Return all trials, seed by seed, so that after a part of the time every algorithm has had its part.

    The seed of a trial depends on the run's seed and its index alone: all algorithms have the same ones.
    """
    return [
        Trial(index=index, plan=replace(plan.member, algorithm=algorithm, seed=_seed(plan.seed, index)))
        for index in range(plan.seeds)
        for algorithm in plan.algorithms
    ]


def _seed(seed: int, index: int) -> int:
    return int(np.random.SeedSequence(seed, spawn_key=(index,)).generate_state(1, np.uint32)[0])


def row_of(algorithm: str, results: Sequence[TrialResult]) -> Row:
    """Return the line of `algorithm` from its trials among `results`."""
    mine = [result for result in results if result.algorithm == algorithm]
    scored = [(result.score, result.seed) for result in mine if result.score is not None]
    scores = [score for score, _ in scored]
    sharpes = [score.sharpe for score in scores]
    worst = min(((score.sharpe, seed) for score, seed in scored), default=(None, None))
    return Row(
        algorithm=algorithm,
        trials=len(mine),
        failed=len(mine) - len(scored),
        idle=sum(score.trades == 0 for score in scores),
        sharpe=_mean(sharpes),
        interval=mean_interval(sharpes),
        worst=worst[0],
        worst_seed=worst[1],
        total_return=_mean([score.total_return for score in scores]),
        max_drawdown=_mean([score.max_drawdown for score in scores]),
        trades=_mean([float(score.trades) for score in scores]),
        exposure=_mean([score.exposure for score in scores]),
        actions={a: float(np.mean([s.actions[a] for s in scores])) for a in _ACTIONS} if scores else None,
        seconds=_mean([result.seconds for result in mine if result.seconds is not None]),
        steps_per_s=_mean([result.steps_per_s for result in mine if result.steps_per_s is not None]),
    )


def ranked(rows: Sequence[Row]) -> list[Row]:
    """Return the rows from the highest mean Sharpe ratio down; those without one last."""
    return sorted(rows, key=lambda row: (row.sharpe is None, -(row.sharpe or 0.0)))


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


# ---- what the differences are worth -----------------------------------------------------------------------------
def verdicts(rows: Sequence[Row], baselines: Mapping[str, Score]) -> list[str]:
    """Return in words which differences the trials show, of algorithms among themselves and to the baselines.

    Two means count as different when their 95 % intervals share no value. That asks for more than a test of the
    difference at 5 % would, which leaves room for there being several pairs. An algorithm of which no trial traded did
    what cash does; its interval has no width, and would look sure of everything: it is named and left out.
    """
    idle = [row for row in ranked(rows) if row.idle and row.idle == row.trials - row.failed]
    active = [row for row in ranked(rows) if row not in idle]
    return [
        *(_pair(one, other) for one, other in combinations(active, 2)),
        *(_against(row, name, score.sharpe) for row in active for name, score in baselines.items()),
        *(f"no trial of {row.algorithm} traded: it did what cash does" for row in idle),
    ]


def _pair(one: Row, other: Row) -> str:
    pair = f"{one.algorithm} and {other.algorithm}"
    if one.interval is None or other.interval is None:
        return f"{pair}: {_no_interval(one if one.interval is None else other)}"
    if one.interval.overlaps(other.interval):
        return f"{pair}: their intervals overlap: no difference shown"
    return f"{one.algorithm} is better than {other.algorithm}: their intervals share no value"


def _against(row: Row, name: str, sharpe: float) -> str:
    if row.interval is None:
        return f"{row.algorithm} and {name}: {_no_interval(row)}"
    if row.interval.holds(sharpe):
        return f"{row.algorithm} and {name}: {sharpe:.2f} lies in the interval: no difference shown"
    relation = "better" if row.interval.low > sharpe else "worse"
    return f"{row.algorithm} is {relation} than {name}: {sharpe:.2f} lies outside the interval"


def _no_interval(row: Row) -> str:
    scored = row.trials - row.failed
    count = {0: "no trial", 1: "one trial"}.get(scored, f"{scored} trials")
    return f"{count} of {row.algorithm} with a score, no interval: nothing shown; give more --seeds"


def row_json(row: Row) -> dict[str, Any]:
    """Return a row as JSON types."""
    values = asdict(row)
    interval = values.pop("interval")
    low, high = (None, None) if interval is None else (interval["low"], interval["high"])
    return {**values, "sharpe_low": low, "sharpe_high": high}
