"""How likely it is that the best of several settings is the best by chance: combinatorially symmetric cross-validation.

Time is cut into blocks. Every half of them picks the best setting, and the other half says where that one then stands
among all. Source: Bailey, Borwein, Lopez de Prado and Zhu (2017), J. Computational Finance 20(4), 39-69.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from training.errors import TrainingError

BLOCKS = 16
_MOST_BLOCKS = 20  # 184,756 ways to halve them
_LEAST_ROWS, _LEAST_SETTINGS = 2, 2
_AT_ONCE = 4_096
_EQUAL = 1e-12  # sums of the same numbers may round differently in different columns

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Overfitting:
    """What the halves say, one for each way to choose a half of the blocks.

    probability: of the setting picked in one half standing below the median in the other; standing exactly on it counts
    half, so that settings without any difference come to 0.5 however many they are.  logits: (ways,) of the picked
    setting's rank in the other half, as a share of settings + 1; below 0 is below the median.  loss: share of the ways
    in which the picked setting loses in the other half.
    """

    probability: float
    logits: FloatArray
    loss: float


def overfitting(returns: FloatArray, blocks: int = BLOCKS) -> Overfitting | None:
    """Return how likely the best of several settings was picked by chance.

    returns: (time, settings), of the same days.  blocks: even, of equal length; what is left over is left out at the
    beginning. Settings are ranked by their Sharpe ratio; one without a spread earned nothing, and counts as 0. None for
    fewer than two settings and for fewer than two rows a block.
    Raises TrainingError for other shapes, odd blocks, and values that are not finite.
    """
    if blocks % 2 or not 2 <= blocks <= _MOST_BLOCKS:  # noqa: PLR2004 - two halves
        raise TrainingError(f"{blocks} blocks: give an even number, 2 .. {_MOST_BLOCKS}")
    if returns.ndim != 2 or not np.all(np.isfinite(returns)):  # noqa: PLR2004 - a matrix
        raise TrainingError(f"returns of shape {returns.shape}: give finite ones as (time, settings)")
    rows = len(returns) // blocks
    if returns.shape[1] < _LEAST_SETTINGS or rows < _LEAST_ROWS:
        return None
    sums, squares = _block_sums(returns[len(returns) - rows * blocks :], blocks)
    logits, chosen = [], []
    ways = np.array(list(combinations(range(blocks), blocks // 2)))
    for first in range(0, len(ways), _AT_ONCE):
        is_in = np.zeros((len(ways[first : first + _AT_ONCE]), blocks))
        np.put_along_axis(is_in, ways[first : first + _AT_ONCE], 1.0, axis=1)
        inside = _sharpes(is_in, sums, squares, rows)
        outside = _sharpes(1.0 - is_in, sums, squares, rows)
        best = np.argmax(inside, axis=1)[:, None]
        picked = np.take_along_axis(outside, best, axis=1)
        logits.append(_logits(picked, outside))
        chosen.append(picked[:, 0])
    told = np.concatenate(logits)
    probability = float(np.mean(told < 0.0) + 0.5 * np.mean(told == 0.0))
    return Overfitting(probability=probability, logits=told, loss=float(np.mean(np.concatenate(chosen) < 0.0)))


def _block_sums(returns: FloatArray, blocks: int) -> tuple[FloatArray, FloatArray]:
    """Return (blocks, settings) sums of the returns and of their squares: all that a Sharpe ratio needs."""
    parts = returns.reshape(blocks, -1, returns.shape[1])
    return parts.sum(axis=1), (parts**2).sum(axis=1)


def _sharpes(is_in: FloatArray, sums: FloatArray, squares: FloatArray, rows: int) -> FloatArray:
    """Return (ways, settings) mean over standard deviation (n - 1) of the blocks that are 1 in (ways, blocks)."""
    n = rows * is_in.shape[1] // 2
    mean, square = is_in @ sums / n, is_in @ squares
    variance = (square - n * mean**2) / (n - 1)
    # What is left of a constant after subtraction is rounding, not spread.
    has_spread = variance > np.finfo(np.float64).eps * n * np.maximum(square, np.finfo(np.float64).tiny)
    sharpes: FloatArray = np.divide(mean, np.sqrt(np.maximum(variance, 0.0)), out=np.zeros_like(mean), where=has_spread)
    return sharpes


def _logits(picked: FloatArray, outside: FloatArray) -> FloatArray:
    """Return the logit of each picked setting's rank among all of its way; equals share their ranks."""
    is_equal = np.abs(outside - picked) <= _EQUAL
    rank = np.sum((outside < picked) & ~is_equal, axis=1) + (np.sum(is_equal, axis=1) + 1.0) / 2.0
    share = rank / (outside.shape[1] + 1.0)
    logits: FloatArray = np.log(share / (1.0 - share))
    return logits
