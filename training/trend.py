"""The plain rule of trend following that a reward may hold a policy near."""

import numpy as np
from numpy.typing import NDArray

from strategy.features import FEATURE_NAMES, TREND_MEANS

_COLUMNS = tuple(FEATURE_NAMES.index(f"above_{n}") for n in TREND_MEANS)


def trend_shares(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the share of its cap that the rule holds, (n,) of 0 .. 1, for feature rows (n, N_FEATURES).

    The share of the means that the close lies above, counted from one half on: nothing is held while half of them or
    fewer say that the price rises, everything when all do. Below one half the next day has on average earned nothing
    for its risk, and above it the more the more of them agree (docs/research.md).
    """
    above = np.mean(rows[:, _COLUMNS] > 0.0, axis=1)
    shares: NDArray[np.float64] = np.maximum(0.0, 2.0 * above - 1.0)
    return shares
