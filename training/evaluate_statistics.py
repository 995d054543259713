"""How sure the figures of an evaluation are: bootstrap intervals, and differences from every baseline."""

from collections.abc import Mapping

import numpy as np

from training.evaluation import Bootstrap
from training.metrics import max_drawdown, returns_of, sharpe_ratio
from training.stats_bootstrap import DRAWS, LEAST_FOR_A_BLOCK, difference_interval, interval, optimal_block
from training.track import FloatArray, Track

_DAYS_PER_YEAR = 365.0


def bootstrap(track: Track, baselines: Mapping[str, Track], draws: int = DRAWS, seed: int = 1) -> Bootstrap:
    """Return the intervals of the ensemble's figures and of its Sharpe ratio less that of each baseline.

    All of it is of daily returns, also the drawdown, which is therefore not deeper than that of candles.
    """
    returns = returns_of(track)
    block = optimal_block(returns) if len(returns) >= LEAST_FOR_A_BLOCK else 1.0
    others = {name: returns_of(other) for name, other in baselines.items()}
    return Bootstrap(
        draws=draws,
        block=block,
        sharpe=interval(returns, sharpe_ratio, draws=draws, seed=seed),
        annual_return=interval(returns, annual_growth, draws=draws, seed=seed),
        max_drawdown=interval(returns, deepest_fall, draws=draws, seed=seed),
        differences={
            name: difference_interval(returns, other, sharpe_ratio, draws=draws, seed=seed)
            for name, other in others.items()
        },
    )


def annual_growth(returns: FloatArray) -> float | None:
    """Return the growth per 365 days of daily returns; None for none, and for an account that lost everything."""
    grown = float(np.prod(1.0 + returns))
    return grown ** (_DAYS_PER_YEAR / len(returns)) - 1.0 if len(returns) and grown > 0.0 else None


def deepest_fall(returns: FloatArray) -> float:
    """Return the maximum drawdown of daily returns."""
    return max_drawdown(np.concatenate([[1.0], np.cumprod(1.0 + returns)]))
