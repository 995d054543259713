"""Means of few runs, with the intervals that few runs leave: Welch (1947), Biometrika 34(1/2), 28-35."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, variance

_PANELS = 2_000


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and the 95 % interval around it."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.4g} [{self.low:.4g}, {self.high:.4g}]"


def mean_of(values: Sequence[float]) -> Interval:
    """Return the mean of at least two values."""
    error = variance(values) / len(values)
    return _around(fmean(values), error, len(values) - 1)


def difference_of(one: Sequence[float], other: Sequence[float]) -> Interval:
    """Return mean(one) - mean(other), each of at least two values, whatever their variances."""
    parts = [(variance(values) / len(values), len(values) - 1) for values in (one, other)]
    error = sum(part for part, _ in parts)
    spread = sum(part**2 / degrees for part, degrees in parts)
    return _around(fmean(one) - fmean(other), error, error**2 / spread if spread > 0.0 else 1.0)


def _around(mean: float, squared_error: float, degrees: float) -> Interval:
    half = t_quantile(degrees) * math.sqrt(squared_error)
    return Interval(mean, mean - half, mean + half)


def t_quantile(degrees: float) -> float:
    """Return what 97.5 % of Student's t distribution lie below; degrees: of freedom, at least 1."""
    low, high = 0.0, 20.0
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if _share_up_to(middle, degrees) < 0.475 else (low, middle)  # noqa: PLR2004
    return high


def _share_up_to(limit: float, degrees: float) -> float:
    """Return the share between 0 and `limit`, by Simpson's rule."""
    scale = math.exp(math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)) / math.sqrt(degrees * math.pi)
    width = limit / _PANELS
    weights = (1 if index in {0, _PANELS} else 4 if index % 2 else 2 for index in range(_PANELS + 1))
    heights = ((1 + (index * width) ** 2 / degrees) ** (-(degrees + 1) / 2) for index in range(_PANELS + 1))
    return scale * width / 3 * sum(weight * height for weight, height in zip(weights, heights, strict=True))
