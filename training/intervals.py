"""How sure a mean over a few seeds is: Student's interval, without SciPy."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_BISECTIONS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A mean and the bounds between which the true one lies with the confidence asked for."""

    mean: float
    low: float
    high: float

    def overlaps(self, other: "Interval") -> bool:
        """Tell whether some value lies within both."""
        return self.low <= other.high and other.low <= self.high

    def holds(self, value: float) -> bool:
        """Tell whether `value` lies within."""
        return self.low <= value <= self.high


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Interval | None:
    """Return the mean of independent values with its interval by Student's t; None for fewer than two.

    It supposes that the values scatter roughly normally, and with few of them is wide because they are few: a bootstrap
    of three values would look three times as sure as three values can be.  confidence: 0 .. 1, exclusive.
    """
    n = len(values)
    if n < 2:  # noqa: PLR2004 - a spread needs two values
        return None
    mean = float(np.mean(values))
    half = student_quantile(confidence, n - 1) * float(np.std(values, ddof=1)) / math.sqrt(n)
    return Interval(mean=mean, low=mean - half, high=mean + half)


def student_quantile(confidence: float, freedom: int) -> float:
    """Return the t that Student's variable of `freedom` degrees, >= 1, keeps within +- with probability `confidence`.

    Source: the finite series of Abramowitz and Stegun (1964), 26.7.3 and 26.7.4, solved by halving.
    """
    low, high = 0.0, math.pi / 2.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2.0
        low, high = (middle, high) if _probability(middle, freedom) < confidence else (low, middle)
    return math.tan((low + high) / 2.0) * math.sqrt(freedom)


def _probability(theta: float, freedom: int) -> float:
    """Return the probability of |t| <= tan(theta) * sqrt(freedom)."""
    cosine, sine = math.cos(theta), math.sin(theta)
    is_odd = freedom % 2 == 1
    term, total = (cosine, cosine) if is_odd else (1.0, 1.0)
    for k in range(2 if is_odd else 1, freedom - 2, 2):
        term *= cosine * cosine * k / (k + 1)
        total += term
    if not is_odd:
        return sine * total
    return 2.0 / math.pi * (theta + (sine * total if freedom > 1 else 0.0))
