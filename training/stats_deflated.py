"""What a Sharpe ratio is worth after so many days and so many tries: probabilistic and deflated Sharpe ratio.

N, the number of tries, counts trials: recipes that were trained or evaluated, see `training/trials.py`. The looks by
which one trial picked its best weights are not trials of their own: the weights of one run follow one another so
closely that their scores move together, and the spread that deflation works with is measured between trials, whose
scores hold that pick already: each of them is the best of its looks.

Sources: Bailey and Lopez de Prado (2012), J. Risk 15(2), 3-44 (probabilistic Sharpe ratio, minimum track record);
Bailey and Lopez de Prado (2014), J. Portfolio Management 40(5), 94-107 (expected best, deflated Sharpe ratio).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from training.errors import TrainingError
from training.evaluation import Deflated
from training.metrics import sharpe_ratio

DAYS_PER_YEAR = 365.0
_EULER = 0.5772156649015329
_ROUNDING = 1e-14
_NORMAL = NormalDist()

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """What the ratios need of n returns. sharpe: mean over standard deviation (n - 1), of one period, not annualised.

    skew, kurtosis: of the sample, without correction for its size; kurtosis is raw, 3 for a normal one.
    """

    n: int
    sharpe: float
    skew: float
    kurtosis: float


def moments_of(returns: FloatArray) -> Moments | None:
    """Return the moments of (n,) returns; None when there is no spread. Raises TrainingError when one is not finite."""
    if not np.all(np.isfinite(returns)):
        raise TrainingError("a return is not finite: a Sharpe ratio needs finite returns")
    sharpe = sharpe_ratio(returns, 1.0)
    if sharpe is None:
        return None
    centred = returns - np.mean(returns)
    variance = float(np.mean(centred**2))
    if variance <= (_ROUNDING * float(np.max(np.abs(returns)))) ** 2:
        return None  # what is left of a constant when its mean was rounded
    return Moments(
        n=len(returns),
        sharpe=sharpe,
        skew=float(np.mean(centred**3)) / variance**1.5,
        kurtosis=float(np.mean(centred**4)) / variance**2,
    )


def probabilistic_sharpe(moments: Moments, benchmark: float = 0.0) -> float | None:
    """Return the probability that the true Sharpe ratio exceeds `benchmark`, both of one period.

    None for fewer than two returns, and for the one shape (two values only) whose estimate has no error.
    """
    error = _error(moments)
    if moments.n < 2 or error <= 0.0:  # noqa: PLR2004 - a spread needs two values
        return None
    return _NORMAL.cdf((moments.sharpe - benchmark) * math.sqrt(moments.n - 1) / math.sqrt(error))


def deflated_sharpe(moments: Moments, trials: float, spread: float) -> float | None:
    """Return the probability that the true Sharpe ratio exceeds what the best of `trials` shows by chance.

    spread: standard deviation of the trials' Sharpe ratios, of one period.  None as `probabilistic_sharpe`.
    """
    return probabilistic_sharpe(moments, expected_best(trials, spread))


def expected_best(trials: float, spread: float) -> float:
    """Return the Sharpe ratio that the best of `trials` without any skill is expected to show; 0 for one trial.

    spread: standard deviation of their Sharpe ratios; the result is of the same period.  Raises TrainingError for fewer
    than one trial or a spread below 0.
    """
    if not (trials >= 1.0 and 0.0 <= spread < math.inf):
        raise TrainingError(
            f"{trials} trials with a spread of {spread}: give 1 trial at least and a finite spread of 0 or more"
        )
    if trials == 1.0:
        return 0.0
    usual = _NORMAL.inv_cdf(1.0 - 1.0 / trials)
    rare = _NORMAL.inv_cdf(1.0 - 1.0 / (trials * math.e))
    # Below two trials (correlated ones) the approximation falls under 0, which no best of several is expected to.
    return spread * max(0.0, (1.0 - _EULER) * usual + _EULER * rare)


def effective_trials(returns: FloatArray) -> float:
    """Return how many independent trials the columns of (time, trials) returns are worth, 1 .. trials.

    rho + (1 - rho) x trials with rho the mean correlation of two of them (Bailey and Lopez de Prado 2014, appendix 3);
    a negative rho counts as 0, so that trials which hedge each other are not more than they are. A trial without a
    spread is correlated with nothing.  Raises TrainingError for other shapes and values that are not finite.
    """
    if returns.ndim != 2 or min(returns.shape) < 1 or not np.all(np.isfinite(returns)):  # noqa: PLR2004 - a matrix
        raise TrainingError(
            f"returns of shape {returns.shape}: give finite ones as (time, trials), one row and one column at least"
        )
    trials = int(returns.shape[1])
    centred = returns - np.mean(returns, axis=0)
    length = np.sqrt(np.sum(centred**2, axis=0))
    unit = np.divide(centred, length, out=np.zeros_like(centred), where=length > 0.0)
    pairs = trials * (trials - 1)
    rho = 0.0 if pairs == 0 else (float(np.sum(np.sum(unit, axis=1) ** 2)) - float(np.sum(unit**2))) / pairs
    rho = min(max(rho, 0.0), 1.0)
    return rho + (1.0 - rho) * trials


def least_track_record(moments: Moments, benchmark: float = 0.0, confidence: float = 0.95) -> float | None:
    """Return how many returns of this Sharpe ratio and shape show with `confidence` that it exceeds `benchmark`.

    None when it does not exceed it: then no length would.
    """
    if moments.sharpe <= benchmark:
        return None
    errors = _NORMAL.inv_cdf(confidence) / (moments.sharpe - benchmark)
    return 1.0 + _error(moments) * errors * errors


def spread_of(sharpes: Sequence[float]) -> float | None:
    """Return the standard deviation (n - 1) of trials' Sharpe ratios, None for fewer than two."""
    return None if len(sharpes) < 2 else float(np.std(sharpes, ddof=1))  # noqa: PLR2004 - a spread needs two values


def deflate(
    returns: FloatArray, trials: float, sharpes: Sequence[float], periods_per_year: float = DAYS_PER_YEAR
) -> Deflated:
    """Return the deflated Sharpe ratio of (n,) returns as an evaluation tells it.

    trials: of the ledger, or fewer where their correlation is known.  sharpes: of those that have one, annualised.  As
    many trials as possible count as independent: their returns are not kept, and so many is the cautious reading.
    With several trials of which fewer than two have a score, the spread is taken to be what chance alone gives over n
    returns. Everything is None that returns without a spread leave undefined.
    """
    spread, moments = spread_of(sharpes), moments_of(returns)
    if spread is None and trials > 1.0 and moments is not None:
        spread = math.sqrt(periods_per_year / (moments.n - 1))
    # Several trials of an unknown spread have a best that nobody can tell: 0 would be a number made up.
    chance = None if spread is None and trials > 1.0 else expected_best(trials, spread or 0.0)
    if moments is None or chance is None:
        return Deflated(
            value=None, probabilistic=None, trials=round(trials), spread=spread, chance=chance, days_needed=None
        )
    days = least_track_record(moments)
    return Deflated(
        value=probabilistic_sharpe(moments, chance / math.sqrt(periods_per_year)),
        probabilistic=probabilistic_sharpe(moments),
        trials=round(trials),
        spread=spread,
        chance=chance,
        days_needed=None if days is None else days * DAYS_PER_YEAR / periods_per_year,
    )


def _error(moments: Moments) -> float:
    """Return n - 1 times the variance of the estimate of the Sharpe ratio (Mertens 2002)."""
    sharpe = moments.sharpe
    return 1.0 - moments.skew * sharpe + (moments.kurtosis - 1.0) / 4.0 * sharpe**2
