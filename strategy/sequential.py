"""Whether one of two accounts grows faster than the other: a paired test that may be looked at after every decision.

For differences d that are, given the past, symmetric about 0, exp(l S - l^2 V / 2) with S the sum of d and V the sum of
d^2 is a supermartingale that begins at 1, whatever l: the mean of exp(l d) over both signs is cosh(l d), which is at
most exp(l^2 d^2 / 2). For l > 0 so it is when they are symmetric about something below 0: exp(x - x^2 / 2) rises up to
x = 1, so that its mean over x and some y < -x is at most that over x and -x. A mean of supermartingales is one again:
here that over a half normal of l > 0, which has a closed form. By Ville's inequality the chance that it ever reaches
1 / alpha is at most alpha, however often and for however long one looks.
Sources: Robbins (1970), Ann. Math. Statist. 41(5); de la Pena (1999), Ann. Probab. 27(1), 537-564; Howard, Ramdas,
McAuliffe, Sekhon (2021), Ann. Statist. 49(2), 1055-1080. What it means, what it assumes and what it can tell stands in
docs/promotion.md. Logarithms may differ in their last bit between machines: what was concluded is journalled and never
computed again.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from strategy.errors import BadState, InvalidParameters, StrategyError
from strategy.stored import read_record

_SCALES = (1e-12, 1e3)
_SHARE_BEFORE = 1.0 / 12.0
"""What counts as seen before the first difference, as a share of the squares that the horizon should bring.

Power at the horizon is at its best between 1/8 and 1/16 and hardly differs there, see docs/promotion.md; by Howard et
al. (2021), section 3.5, evidence at alpha 0.05 comes soonest at the middle of the horizon with 1/12.6.
"""
_ASYMPTOTIC_BELOW = -20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TestPlan:
    """What is fixed before the first difference.

    scale: guess of the standard deviation of one difference, in log growth; a wrong one costs power, never validity.
    horizon: differences within which an answer is wanted.  least: differences before which none is taken.  alpha: the
    probability at which a difference that is not there may be found.
    Raises InvalidParameters for values out of range.
    """

    scale: float
    horizon: int
    least: int
    alpha: float

    def __post_init__(self) -> None:
        low, high = _SCALES
        if not low <= self.scale <= high:
            raise InvalidParameters(f"scale {self.scale} of the differences is outside {low} .. {high}")
        if self.horizon < 1:
            raise InvalidParameters(f"horizon {self.horizon} is not at least 1 difference")
        if not 1 <= self.least <= self.horizon:
            raise InvalidParameters(f"least {self.least} is outside 1 .. {self.horizon}, the horizon")
        if not 0.0 < self.alpha < 1.0:
            raise InvalidParameters(f"alpha {self.alpha} is not a probability above 0 and below 1")

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "TestPlan":
        """Return the plan stored as `values`. Raises BadState for another record, InvalidParameters for a bad value."""
        return read_record(cls, values)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedTest:
    """What `count` differences (the new one's log growth less the old one's, per decision) say so far.

    total, squares: sums of the differences and of their squares.  log_better, log_worse: logarithm of the evidence now
    that the new one is better, and that it is worse.  most_better, most_worse: their largest values so far, at least 0.
    """

    plan: TestPlan
    count: int = 0
    total: float = 0.0
    squares: float = 0.0
    log_better: float = 0.0
    log_worse: float = 0.0
    most_better: float = 0.0
    most_worse: float = 0.0

    def after(self, difference: float) -> "PairedTest":
        """Return the test after one more difference. Raises StrategyError for one that is no finite number."""
        squares = self.squares + difference * difference
        if not math.isfinite(squares):
            raise StrategyError(f"difference {difference} after {self.count} others is not a number that can be tested")
        total = self.total + difference
        seen_before = self.plan.scale * self.plan.scale * self.plan.horizon * _SHARE_BEFORE
        better, worse = (log_evidence(signed, squares, seen_before) for signed in (total, -total))
        return replace(
            self,
            count=self.count + 1,
            total=total,
            squares=squares,
            log_better=better,
            log_worse=worse,
            most_better=max(self.most_better, better),
            most_worse=max(self.most_worse, worse),
        )

    @property
    def mean(self) -> float:
        """Mean difference, 0 without any."""
        return self.total / self.count if self.count else 0.0

    @property
    def p_better(self) -> float:
        """How often, at most, a new one that is no better would ever have looked as good as this one has."""
        return math.exp(-self.most_better)

    @property
    def p_worse(self) -> float:
        """How often, at most, a new one that is no worse would ever have looked as bad as this one has."""
        return math.exp(-self.most_worse)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON types, from which `from_json` makes the same to the bit."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "PairedTest":
        """Return the test stored as `values`. Raises StrategyError when it was stored by something else."""
        if not isinstance(values, Mapping) or "plan" not in values:
            raise BadState(f"stored PairedTest is {values!r}: it has no plan")
        test = read_record(cls, values, plan=TestPlan.from_json(values["plan"]))
        is_counted = test.count >= 0 and test.squares >= 0.0
        is_most = test.most_better >= max(0.0, test.log_better) and test.most_worse >= max(0.0, test.log_worse)
        if not (is_counted and is_most):
            raise BadState(f"stored PairedTest contradicts itself: {test}")
        return test


def log_evidence(total: float, squares: float, seen_before: float) -> float:
    """Return the logarithm of the mean of exp(l total - l^2 squares / 2) over a half normal of l > 0.

    seen_before: > 0, one over the variance of the normal that is folded; in the unit of `squares`.
    """
    variance = squares + seen_before
    return 0.5 * math.log(seen_before / variance) + log_folded(total / math.sqrt(variance))


def log_folded(z: float) -> float:
    """Return log(2 Phi(z) exp(z^2 / 2)), Phi the normal distribution function: the mean of exp(z |X|), X normal."""
    if z >= _ASYMPTOTIC_BELOW:
        return 0.5 * z * z + math.log(math.erfc(-z * math.sqrt(0.5)))
    # Abramowitz and Stegun 26.2.12: the next term is below 1e-15.
    tail, term = 1.0, 1.0
    for odd in (1, 3, 5, 7, 9, 11, 13, 15):
        term *= -odd / (z * z)
        tail += term
    return math.log(tail / -z) + 0.5 * math.log(2.0 / math.pi)
