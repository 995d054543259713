"""What a track is worth: every figure of an evaluation. A figure that is not defined is None, never a number made up.

Crypto trades every hour of the year: a year has 365 days, not 252, and the risk-free rate is zero. The formulas and
their sources stand in docs/evaluation-metrics.md.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strategy.decision import Action
from training.round_trips import round_trips, trade_figures
from training.track import Track
from training.track_checks import last_price, require_same_span, require_sound

_DAY_MS = 86_400_000
_DAYS_PER_YEAR = 365.0
_YEAR_MS = _DAYS_PER_YEAR * _DAY_MS
_ROUNDING = 1e-12
"""Shares below this are what float64 leaves of equal numbers: a spread, a fall or an exposure of 0."""
_TAIL = 0.05
_FEWEST_FOR_TAIL = 20
"""Fewest returns of which a 5 % tail holds a whole one."""
_FEWEST_FOR_SHAPE = 3
"""Fewest points that do not fit every line and every skew by themselves."""
_FEWEST_DAYS_OF_MONTH = 10
_LARGEST_EXPONENT = 700.0
"""exp of more is no float64."""
_ACTIONS = (Action.HOLD, Action.BUY, Action.SELL)
"""In the order of reward.ActionKind, which is not imported: numba would come with it."""

FloatArray = NDArray[np.float64]
Figures = dict[str, Any]
"""Some fields of `Metrics` by name."""


def daily_returns(close_ms: NDArray[np.int64], equity: FloatArray) -> FloatArray:
    """Return the return of each UTC day from the last equity of each day, mark to market.

    close_ms, equity: (n,), when each candle closed and what the account was worth then.  The first day counts from
    the first equity.  A day without a candle is part of the next day's return.
    """
    if len(equity) == 0:
        return np.zeros(0)
    return _returns_between(equity, _lasts((close_ms - 1) // _DAY_MS))


def _lasts(group: NDArray[Any]) -> NDArray[np.intp]:
    """Return the index of the last of each run of equal values."""
    return np.append(np.flatnonzero(group[1:] != group[:-1]), len(group) - 1)


def _returns_between(equity: FloatArray, lasts: NDArray[np.intp]) -> FloatArray:
    marks = np.concatenate([equity[:1], equity[lasts]])
    returns: FloatArray = marks[1:] / marks[:-1] - 1.0
    return returns


@dataclass(frozen=True, slots=True, kw_only=True)
class Month:
    """The return of a calendar month UTC. month: 1 .. 12.  days: UTC days of it with a candle."""

    year: int
    month: int
    days: int
    total_return: float

    @property
    def is_full(self) -> bool:
        """Whether it has days enough to count among the positive months or the others."""
        return self.days >= _FEWEST_DAYS_OF_MONTH


def monthly_returns(close_ms: NDArray[np.int64], equity: FloatArray) -> tuple[Month, ...]:
    """Return the return of each calendar month UTC with a candle, in the order of time.

    close_ms, equity: (n,) as for `daily_returns`.  The first month counts from the first equity; so that it has its
    first candle, let the cash at the beginning stand first with that candle's time.  A month without a candle is
    missing, and part of the next month's return.
    """
    if len(equity) == 0:
        return ()
    inside = close_ms - 1
    month = inside.astype("datetime64[ms]").astype("datetime64[M]").astype(np.int64)
    lasts = _lasts(month)
    days_so_far = np.concatenate([[1], 1 + np.cumsum(np.diff(inside // _DAY_MS) != 0)])
    days = np.diff(days_so_far[lasts], prepend=0)
    rows = zip(month[lasts].tolist(), days.tolist(), _returns_between(equity, lasts).tolist(), strict=True)
    return tuple(
        Month(year=1970 + number // 12, month=number % 12 + 1, days=count, total_return=value)
        for number, count, value in rows
    )


def sharpe_ratio(returns: FloatArray, periods_per_year: float = _DAYS_PER_YEAR) -> float | None:
    """Return mean over standard deviation (n - 1) of the returns, annualised; None when it is not defined.

    Source: Sharpe (1994), J. Portfolio Management 21(1), 49-58.
    """
    spread = _spread(returns)
    return float(np.mean(returns)) / spread * math.sqrt(periods_per_year) if spread else None


def _spread(returns: FloatArray) -> float | None:
    """Return the standard deviation (n - 1), 0 where equal returns differ by their rounding; None for fewer than 2."""
    if len(returns) < 2:  # noqa: PLR2004 - a spread needs two values
        return None
    spread = float(np.std(returns, ddof=1))
    # A return is a ratio less 1: what rounds is the ratio.
    return spread if spread > _ROUNDING * (1.0 + abs(float(np.mean(returns)))) else 0.0


def max_drawdown(equity: FloatArray) -> float:
    """Return the deepest fall from a peak as a share of the peak, 0 .. 1."""
    if len(equity) == 0:
        return 0.0
    return float(np.max(1.0 - equity / np.maximum.accumulate(equity)))


def returns_of(track: Track) -> FloatArray:
    """Return the daily returns of a track, (days,); the first day counts from the cash at the beginning."""
    return daily_returns(times_of(track), track.equity)


def times_of(track: Track) -> NDArray[np.int64]:
    """Return the times of its `equity`, (n + 1,); the cash at the beginning belongs to the day of the first candle."""
    return np.concatenate([track.close_ms[:1], track.close_ms])


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """What a track is worth. Shares are fractions; None: not defined (say, no closed trade, no spread, no loss).

    days: UTC days with a candle, each of which has a return; the first and the last may be cut short.  total_return:
    over the span.  annual_return: growth per 365 days of real time, from two days on.
    volatility, sharpe, sortino: of daily returns, x sqrt(365), risk-free rate 0.  sharpe_candles: of candle returns.
    calmar: annual_return / max_drawdown.  max_drawdown: share of the peak, of candles.  drawdown_days: from the peak to
    the recovery, or to the end, of the longest one.  underwater: share of candles below an earlier peak.
    alpha, beta: of the daily regression on the benchmark, alpha x 365.  excess_return: total_return less the
    benchmark's.  value_at_risk, expected_shortfall: of daily returns at 95 %, positive is a loss, from 20 days on.
    skew, kurtosis: of daily returns; kurtosis is raw, 3 for a normal one.  months, positive_months: calendar months UTC
    with at least 10 days, and the share that ended above where they began.  trades: fills.  round_trips: flat to flat,
    closed; wins, losses: by the sign of their profit after both fees, a profit of 0 is neither.  win_rate: wins over
    round_trips, with its Wilson interval of 95 % (low, high).  profit_factor: gains over losses.  payoff: mean gain
    over mean loss.  expectancy: mean profit as a share of what was paid for the position.  holding_days: mean.
    open_profit: quote, of what is still open, at the last price and after the fees so far.  exposure: mean share of
    equity.  invested: share of candles with any.  turnover: traded notional, purchases and sales, over mean equity,
    per 365 days.  fees, slippage: shares of the cash at the beginning.  actions: shares of buy, sell and hold among the
    votes, all 0 where nobody voted.
    """

    days: int
    total_return: float
    annual_return: float | None
    volatility: float | None
    sharpe: float | None
    sharpe_candles: float | None
    sortino: float | None
    calmar: float | None
    max_drawdown: float
    drawdown_days: float
    underwater: float
    alpha: float | None
    beta: float | None
    excess_return: float | None
    value_at_risk: float | None
    expected_shortfall: float | None
    skew: float | None
    kurtosis: float | None
    months: int
    positive_months: float | None
    trades: int
    round_trips: int
    wins: int
    losses: int
    win_rate: float | None
    win_rate_low: float | None
    win_rate_high: float | None
    profit_factor: float | None
    payoff: float | None
    expectancy: float | None
    holding_days: float | None
    open_profit: float
    exposure: float
    invested: float
    turnover: float
    fees: float
    slippage: float
    actions: dict[str, float]


def measure(track: Track, benchmark: Track | None = None) -> Metrics:
    """Return the metrics of a track beside those of a benchmark over the same candles.

    Without a benchmark alpha, beta and excess_return are None. Raises TrainingError, which names track, place and
    value, for equity that is not finite or not above 0, for other values that are not finite, and for a benchmark of
    another span.
    """
    require_sound(track)
    returns = returns_of(track)
    return Metrics(
        days=len(returns),
        **_growth(track, returns),
        **_ratios(track, returns),
        **_drawdown_times(track),
        **_beside(track, returns, benchmark),
        **_tail(returns),
        **_shape(returns),
        **_consistency(track),
        **_trading(track),
        **_holding(track),
        actions=_actions(track),
    )


def _growth(track: Track, returns: FloatArray) -> Figures:
    growth, deepest = float(track.equity[-1] / track.equity[0]), max_drawdown(track.equity)
    annual = _annual_return(growth, _years(track)) if len(returns) > 1 else None
    return {
        "total_return": growth - 1.0,
        "annual_return": annual,
        "max_drawdown": deepest,
        "calmar": annual / deepest if annual is not None and deepest > _ROUNDING else None,
    }


def _years(track: Track) -> float:
    return (int(track.close_ms[-1]) - track.start_ms) / _YEAR_MS


def _annual_return(growth: float, years: float) -> float | None:
    exponent = math.log(growth) / years
    return math.expm1(exponent) if exponent < _LARGEST_EXPONENT else None


def _ratios(track: Track, returns: FloatArray) -> Figures:
    spread = _spread(returns)
    of_candles = track.equity[1:] / track.equity[:-1] - 1.0
    return {
        "volatility": None if spread is None else spread * math.sqrt(_DAYS_PER_YEAR),
        "sharpe": sharpe_ratio(returns),
        "sharpe_candles": sharpe_ratio(of_candles, _YEAR_MS / track.timeframe_ms),
        "sortino": _sortino(returns),
    }


def _sortino(returns: FloatArray) -> float | None:
    """Return mean over downside deviation from 0; the days without a loss count in its mean too."""
    if len(returns) < 2:  # noqa: PLR2004 - one day tells nothing of its risk
        return None
    downside = math.sqrt(float(np.mean(np.minimum(returns, 0.0) ** 2)))
    return float(np.mean(returns)) / downside * math.sqrt(_DAYS_PER_YEAR) if downside > _ROUNDING else None


def _drawdown_times(track: Track) -> Figures:
    times, equity = np.concatenate([[track.start_ms], track.close_ms]), track.equity
    is_below = equity < np.maximum.accumulate(equity) * (1.0 - _ROUNDING)
    peaks = np.flatnonzero(~is_below)
    ends = np.append(peaks[1:], len(equity) - 1)
    falls = is_below[np.minimum(peaks + 1, len(equity) - 1)]
    longest = np.max((times[ends] - times[peaks]) * falls)
    return {"drawdown_days": float(longest / _DAY_MS), "underwater": float(np.mean(is_below[1:]))}


def _beside(track: Track, returns: FloatArray, benchmark: Track | None) -> Figures:
    if benchmark is None:
        return {"alpha": None, "beta": None, "excess_return": None}
    require_sound(benchmark)
    require_same_span(track, benchmark)
    alpha, beta = _regression(returns, returns_of(benchmark))
    gained = track.equity[-1] / track.equity[0] - benchmark.equity[-1] / benchmark.equity[0]
    return {"alpha": alpha, "beta": beta, "excess_return": float(gained)}


def _regression(returns: FloatArray, of_benchmark: FloatArray) -> tuple[float | None, float | None]:
    """Return intercept x 365 and slope of ordinary least squares."""
    if len(returns) < _FEWEST_FOR_SHAPE or not _spread(of_benchmark):
        return None, None
    away = of_benchmark - np.mean(of_benchmark)
    beta = float(away @ (returns - np.mean(returns)) / (away @ away))
    return float(np.mean(returns) - beta * np.mean(of_benchmark)) * _DAYS_PER_YEAR, beta


def _tail(returns: FloatArray) -> Figures:
    if len(returns) < _FEWEST_FOR_TAIL:
        return {"value_at_risk": None, "expected_shortfall": None}
    bound = np.quantile(returns, _TAIL)
    # 0 less the bound, as the negative of 0 would print as -0.
    return {
        "value_at_risk": float(0.0 - bound),
        "expected_shortfall": float(0.0 - np.mean(returns[returns <= bound])),
    }


def _shape(returns: FloatArray) -> Figures:
    """Return the third and fourth standardised moments of the sample, not corrected for its size."""
    if len(returns) < _FEWEST_FOR_SHAPE or not _spread(returns):
        return {"skew": None, "kurtosis": None}
    away = returns - np.mean(returns)
    scaled = away / math.sqrt(float(np.mean(away**2)))
    return {"skew": float(np.mean(scaled**3)), "kurtosis": float(np.mean(scaled**4))}


def _consistency(track: Track) -> Figures:
    whole = [m for m in monthly_returns(times_of(track), track.equity) if m.is_full]
    positive = sum(month.total_return > 0.0 for month in whole)
    return {"months": len(whole), "positive_months": positive / len(whole) if whole else None}


def _trading(track: Track) -> Figures:
    closed, still_open = round_trips(track.fills)
    return {
        "trades": len(track.fills),
        "open_profit": math.fsum(position.profit(last_price(track, position.symbol)) for position in still_open),
        **trade_figures(closed),
    }


def _holding(track: Track) -> Figures:
    cash = float(track.equity[0])
    traded = math.fsum(fill.notional for fill in track.fills)
    return {
        "exposure": float(np.mean(track.exposure)),
        "invested": float(np.mean(np.abs(track.exposure) > _ROUNDING)),
        "turnover": traded / float(np.mean(track.equity)) / _years(track),
        "fees": track.fees / cash,
        "slippage": track.slippage / cash,
    }


def _actions(track: Track) -> dict[str, float]:
    votes = np.concatenate([symbol.action for symbol in track.symbols] or [np.zeros(0, np.int8)])
    counts = [int(np.count_nonzero(votes == kind)) for kind in range(len(_ACTIONS))]
    total = sum(counts)
    return {action.value: count / total if total else 0.0 for action, count in zip(_ACTIONS, counts, strict=True)}
