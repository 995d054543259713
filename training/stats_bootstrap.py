"""How sure a figure of a return series is: the stationary bootstrap, which keeps what neighbouring days share.

Sources: Politis and Romano (1994), J. American Statistical Association 89(428), 1303-1313; length of the blocks:
Politis and White (2004), Econometric Reviews 23(1), 53-70, as corrected by Patton, Politis and White (2009), ibid.
28(4), 372-375. Bounds are plain percentiles of the draws (Efron 1979).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from training.errors import TrainingError
from training.evaluation import Range
from training.ranges import require

LEAST_RETURNS = 30
"""Fewer returns than these have no interval: their own resamples can hardly differ from them."""
LEAST_FOR_A_BLOCK = 10
DRAWS, CONFIDENCE, SEED = 2_000, 0.95, 1
_ROUNDING = 1e-14
_CELLS = 2_000_000  # of one batch of indices, so that long series need no gigabytes

FloatArray = NDArray[np.float64]
Statistic = Callable[[FloatArray], float | None]
"""Returns a figure of (n,) returns, None where it is not defined."""


def optimal_block(returns: FloatArray) -> float:
    """Return the mean length of the blocks by which the stationary bootstrap of a mean errs least, in returns.

    returns: (n,), n >= 10.  At least 1, and at most min(3 sqrt(n), n / 3), rounded up; 1 for a constant series.
    Raises TrainingError for fewer returns and for values that are not finite.
    """
    n = len(returns)
    _require_finite(returns)
    if n < LEAST_FOR_A_BLOCK:
        least = LEAST_FOR_A_BLOCK
        raise TrainingError(f"{n} returns are too few to tell how long they remember: give {least} at least")
    covariance = _autocovariance(returns, _most_lag(n))
    if covariance[0] <= 0.0:
        return 1.0
    last = min(2 * _memory(covariance / covariance[0], n), _most_lag(n))
    lags = np.arange(1, last + 1)
    window = np.minimum(1.0, 2.0 * (1.0 - lags / last))  # the flat top: 1 up to the half, then down to 0
    slope = 2.0 * float(np.sum(window * lags * covariance[1 : last + 1]))
    spectrum = float(covariance[0] + 2.0 * np.sum(window * covariance[1 : last + 1]))
    longest = float(np.ceil(min(3.0 * np.sqrt(n), n / 3.0)))
    if spectrum == 0.0:
        return longest
    block = (slope**2 / spectrum**2 * n) ** (1.0 / 3.0)
    return float(min(max(block, 1.0), longest))


def resampled_indices(n: int, block: float, draws: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Return (draws, n) indices into a series of n: blocks from anywhere, of geometric length, wrapped at the end.

    block: their mean length, >= 1.  The same generator gives the same indices.
    """
    starts = generator.integers(n, size=(draws, n))
    is_start = generator.random((draws, n)) < 1.0 / block
    is_start[:, 0] = True
    place = np.arange(n)
    begun = np.maximum.accumulate(np.where(is_start, place, 0), axis=1)
    indices: NDArray[np.int64] = (np.take_along_axis(starts, begun, axis=1) + place - begun) % n
    return indices


def interval(
    returns: FloatArray,
    statistic: Statistic,
    *,
    draws: int = DRAWS,
    confidence: float = CONFIDENCE,
    seed: int = SEED,
    block: float | None = None,
) -> Range:
    """Return `statistic` of the returns with the bounds that hold it with `confidence`.

    returns: (n,).  block: mean length; None takes `optimal_block`.  The bounds are None for fewer than 30 returns,
    where the statistic is not defined, and where it is not for more than 1 - confidence of the draws.
    Raises TrainingError for returns that are not finite.
    """
    how = _Draws(count=draws, confidence=confidence, seed=seed, block=block)
    return _interval((returns,), lambda parts: statistic(parts[0]), how)


def difference_interval(
    ours: FloatArray,
    theirs: FloatArray,
    statistic: Statistic,
    *,
    draws: int = DRAWS,
    confidence: float = CONFIDENCE,
    seed: int = SEED,
    block: float | None = None,
) -> Range:
    """Return `statistic` of our returns less that of theirs, drawn in pairs: each draw takes the same days of both.

    What both gain and lose together cancels, so that the bounds are those of the difference. ours, theirs: (n,), of the
    same days.  block: None takes the longer one of both series'.  Bounds are None as those of `interval`.
    Raises TrainingError for series of different lengths and for returns that are not finite.
    """
    if len(ours) != len(theirs):
        raise TrainingError(
            f"{len(ours)} returns cannot be paired with {len(theirs)}: compare accounts over the same days"
        )

    def difference(parts: tuple[FloatArray, ...]) -> float | None:
        mine, other = statistic(parts[0]), statistic(parts[1])
        return None if mine is None or other is None else mine - other

    how = _Draws(count=draws, confidence=confidence, seed=seed, block=block)
    return _interval((ours, theirs), difference, how)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Draws:
    count: int
    confidence: float
    seed: int
    block: float | None

    def __post_init__(self) -> None:
        require("draws", self.count, 1, 10_000_000)
        if not 0.0 < self.confidence < 1.0:
            raise TrainingError(f"confidence {self.confidence}: give more than 0 and less than 1")


def _interval(
    series: tuple[FloatArray, ...], statistic: Callable[[tuple[FloatArray, ...]], float | None], how: _Draws
) -> Range:
    for returns in series:
        _require_finite(returns)
    value, n = statistic(series), len(series[0])
    if value is None or n < LEAST_RETURNS:
        return Range(value=value, low=None, high=None)
    block = max(optimal_block(returns) for returns in series) if how.block is None else how.block
    drawn = [
        statistic(tuple(returns[indices] for returns in series))
        for batch in _batches(n, block, how.count, np.random.default_rng(how.seed))
        for indices in batch
    ]
    known = [one for one in drawn if one is not None]
    if len(known) < how.confidence * how.count:
        return Range(value=value, low=None, high=None)
    tail = (1.0 - how.confidence) / 2.0
    low, high = np.quantile(known, [tail, 1.0 - tail])
    return Range(value=value, low=float(low), high=float(high))


def _batches(n: int, block: float, draws: int, generator: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    size = max(1, _CELLS // n)
    for first, end in pairwise([*range(0, draws, size), draws]):
        yield resampled_indices(n, block, end - first, generator)


# ---- how long a series remembers --------------------------------------------------------------------------------
def _least_run(n: int) -> int:
    """Return how many lags in a row must be insignificant."""
    return max(5, int(np.log10(n)))


def _most_lag(n: int) -> int:
    return int(np.ceil(np.sqrt(n))) + _least_run(n)


def _autocovariance(returns: FloatArray, most: int) -> FloatArray:
    """Return (most + 1,) autocovariances, each divided by n."""
    n, centred = len(returns), returns - np.mean(returns)
    if np.max(np.abs(centred)) <= _ROUNDING * np.max(np.abs(returns)):
        return np.zeros(most + 1)  # what is left of a constant when its mean was rounded
    return np.array([centred[lag:] @ centred[: n - lag] / n for lag in range(most + 1)])


def _memory(correlation: FloatArray, n: int) -> int:
    """Return the first lag, >= 1, that begins a whole run of insignificant ones; the last lag when there is none."""
    run, limit = _least_run(n), 2.0 * np.sqrt(np.log10(n) / n)
    is_small = np.abs(correlation) < limit
    for lag in range(1, len(correlation) - run):
        if np.all(is_small[lag : lag + run]):
            return lag
    return len(correlation) - 1


def _require_finite(returns: FloatArray) -> None:
    if not np.all(np.isfinite(returns)):
        at = int(np.flatnonzero(~np.isfinite(returns))[0])
        raise TrainingError(f"return {at + 1} of {len(returns)} is {returns[at]}: figures need finite returns")
