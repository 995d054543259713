"""What a search may choose: the settings, their ranges, and how a choice becomes a member's plan.

A choice is written as `key=value` texts, the same that `sacd train --set` takes, so that what was found can be used.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from training.errors import TrainingError
from training.plan import MemberPlan
from training.settings_text import apply

Value: TypeAlias = float | int | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """A number from low to high, both included. is_log: drawn evenly in its logarithm.  is_whole: an integer."""

    name: str
    low: float
    high: float
    is_log: bool = False
    is_whole: bool = False

    @property
    def distribution(self) -> BaseDistribution:
        """What Optuna draws from."""
        if self.is_whole:
            return IntDistribution(int(self.low), int(self.high), log=self.is_log)
        return FloatDistribution(self.low, self.high, log=self.is_log)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One of several values, without an order."""

    name: str
    values: tuple[Value, ...]

    @property
    def distribution(self) -> BaseDistribution:
        """What Optuna draws from."""
        return CategoricalDistribution(self.values)


Dimension: TypeAlias = Range | Choice

REWARD_WEIGHTS = tuple(
    f"reward.{name}" for name in ("excess_return", "risk_adjusted", "drawdown", "volatility", "diversity", "cost")
)
"""The six of the guide. Only their proportions matter to what is best, so they are scaled to a sum of 1."""
_REWARD = "reward"
_NAMELESS = 1e-9

SPACE: tuple[Dimension, ...] = (
    Range(name="learning_rate", low=1e-5, high=1e-3, is_log=True),
    Range(name="buffer_size", low=100_000, high=1_000_000, is_log=True, is_whole=True),
    Choice(name="batch_size", values=(256, 512, 1024)),
    Range(name="tau", low=0.001, high=0.1, is_log=True),
    Range(name="gamma", low=0.99, high=0.999),
    Range(name="gradient_steps", low=1, high=8, is_whole=True),
    Choice(name="net_arch", values=("64,64", "128,128", "256,256", "256,256,256")),
    *(Range(name=name, low=0.0, high=1.0) for name in REWARD_WEIGHTS),
)
"""The guide's space, with the size of the network and the weights of the reward."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What is searched and from where. base: what no dimension chooses, its seed is not used.

    fixed_weights: sum of the reward weights, of the six, that are not searched.
    """

    base: MemberPlan
    dimensions: tuple[Dimension, ...]
    fixed_weights: float

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """What Optuna draws a trial from, by name."""
        return {dimension.name: dimension.distribution for dimension in self.dimensions}

    def values(self, chosen: Mapping[str, Value]) -> dict[str, Value]:
        """Return a trial's choice in the order of the dimensions, with the reward weights scaled."""
        weights = self._scaled({name: float(chosen[name]) for name in REWARD_WEIGHTS if name in chosen})
        names = [dimension.name for dimension in self.dimensions if dimension.name in chosen]
        return {name: weights.get(name, chosen[name]) for name in names}

    def texts(self, chosen: Mapping[str, Value]) -> list[str]:
        """Return a trial's choice as `key=value`, exact, so that it gives the same plan again."""
        return [f"{name}={value}" for name, value in self.values(chosen).items()]

    def plan(self, chosen: Mapping[str, Value]) -> MemberPlan:
        """Return the plan of a trial. Raises TrainingError for a choice that gives none."""
        return apply(self.base, self.texts(chosen))

    def _scaled(self, weights: dict[str, float]) -> dict[str, float]:
        total = sum(weights.values())
        if not weights:
            return {}
        if total < _NAMELESS:  # all of them 0: then they are alike
            return dict.fromkeys(weights, (1.0 - self.fixed_weights) / len(weights))
        return {name: weight / total * (1.0 - self.fixed_weights) for name, weight in weights.items()}


def make_search(base: MemberPlan, fixes: Sequence[str], overrides: Sequence[str]) -> Search:
    """Return the search of `SPACE` less what `fixes` and `overrides` settle.

    fixes: `batch_size=512`, or `batch_size` to keep what `base` has; `reward` keeps all six weights.  overrides: other
    settings, as `--set` takes them.  Raises TrainingError for what is unknown, searched, or leaves nothing to search.
    """
    names = [dimension.name for dimension in SPACE]
    searched = [text for text in overrides if text.partition("=")[0].strip() in names]
    if searched:
        raise TrainingError(f"--set {searched[0]}: it is searched: give --fix {searched[0]}")
    fixed, texts = set[str](), list(overrides)
    for fix in fixes:
        name, equals, _ = (part.strip() for part in fix.partition("="))
        if name == _REWARD and not equals:
            fixed.update(REWARD_WEIGHTS)
            continue
        _require_known(name, fix, names)
        fixed.add(name)
        texts += [fix] if equals else []
    plan = apply(base, texts)
    left = tuple(dimension for dimension in SPACE if dimension.name not in fixed)
    if not left:
        raise TrainingError("--fix: everything is fixed and nothing is left to search: fix less, or use sacd train")
    return Search(base=plan, dimensions=left, fixed_weights=_fixed_weights(plan, fixed))


def _fixed_weights(plan: MemberPlan, fixed: set[str]) -> float:
    kept = [name for name in REWARD_WEIGHTS if name in fixed]
    total = sum(float(getattr(plan.reward, name.removeprefix("reward."))) for name in kept)
    if len(kept) < len(REWARD_WEIGHTS) and total >= 1.0:
        raise TrainingError(
            f"--fix: the fixed reward weights {', '.join(kept)} sum up to {total:g} and leave nothing to the others: "
            "give less than 1, or --fix reward to search none"
        )
    return total


def _require_known(name: str, fix: str, names: Sequence[str]) -> None:
    if name not in names:
        near = difflib.get_close_matches(name, names, 3) or names
        raise TrainingError(f"--fix {fix}: {name} is not searched, give it with --set; searched are {', '.join(near)}")
