"""What an equity curve is worth. Crypto trades every hour of the year: a year has 365 days, not 252.

Sources: Sharpe (1994), J. Portfolio Management 21(1), 49-58, with a risk-free rate of zero.
"""

import numpy as np
from numpy.typing import NDArray

_DAY_MS = 86_400_000
_DAYS_PER_YEAR = 365.0

FloatArray = NDArray[np.float64]


def daily_returns(close_ms: NDArray[np.int64], equity: FloatArray) -> FloatArray:
    """Return the return of each UTC day from the last equity of each day, mark to market.

    close_ms, equity: (n,), when each candle closed and what the account was worth then.  The first day counts from
    the first equity.  A day without a candle is part of the next day's return.
    """
    if len(equity) == 0:
        return np.zeros(0)
    day = (close_ms - 1) // _DAY_MS
    last_of_day = np.append(np.flatnonzero(np.diff(day)), len(day) - 1)
    marks = np.concatenate([equity[:1], equity[last_of_day]])
    returns: FloatArray = marks[1:] / marks[:-1] - 1.0
    return returns


def sharpe_ratio(returns: FloatArray, periods_per_year: float = _DAYS_PER_YEAR) -> float | None:
    """Return mean over standard deviation (n - 1) of the returns, annualised; None when it is not defined."""
    if len(returns) < 2:  # noqa: PLR2004 - a spread needs two values
        return None
    spread = float(np.std(returns, ddof=1))
    return float(np.mean(returns)) / spread * float(np.sqrt(periods_per_year)) if spread > 0.0 else None


def max_drawdown(equity: FloatArray) -> float:
    """Return the deepest fall from a peak as a share of the peak, 0 .. 1."""
    if len(equity) == 0:
        return 0.0
    return float(np.max(1.0 - equity / np.maximum.accumulate(equity)))
