"""How an account did in parts of its span, beside buying and holding: calendar years, regimes, folds.

A part is a choice of whole UTC days. Its figures are those of an account that had only these days: their candle
returns one after the other. Nothing is traded anew, and the ensemble is the same in every part.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from strategy.arithmetic import ARRAYS
from strategy.candle_table import CandleTable
from strategy.regime import trend_code, volatility_code
from training.errors import TrainingError
from training.evaluation import Part
from training.metrics import daily_returns, max_drawdown, sharpe_ratio
from training.track import FloatArray, Track

FOLDS = 5
_DAY_MS = 86_400_000
_LEAST_DAYS = 2
_TREND, _SHORT, _LONG = 384, 96, 2400
"""Candles that the regimes of strategy/features.py look back."""
_TRENDS = {-1.0: "bear", 0.0: "sideways", 1.0: "bull"}
_VOLATILITIES = {-1.0: "calm", 0.0: "usual volatility", 1.0: "wild"}

Days = NDArray[np.int64]
Mask = NDArray[np.bool_]


def days_of(close_ms: NDArray[np.int64]) -> Days:
    """Return the UTC day, counted from 1970, that each candle belongs to."""
    days: Days = (close_ms - 1) // _DAY_MS
    return days


def part(name: str, track: Track, hold: Track, chosen: Mask) -> Part:
    """Return the ensemble and buying and holding over the candles `chosen` (n,), which make whole days.

    Raises TrainingError when the two tracks are not over the same candles.
    """
    if not np.array_equal(track.close_ms, hold.close_ms):
        raise TrainingError(f"{hold.name} is over other candles than {track.name}: both must be of one span")
    times = track.close_ms[chosen]
    if len(times) == 0:
        return Part(name=name, days=0, **dict.fromkeys(_FIGURES))
    ours, theirs = _worth(track, chosen, times), _worth(hold, chosen, times)
    return Part(
        name=name,
        days=len(np.unique(days_of(times))),
        total_return=ours[0],
        sharpe=ours[1],
        max_drawdown=ours[2],
        exposure=float(np.mean(track.exposure[chosen])),
        hold_return=theirs[0],
        hold_sharpe=theirs[1],
        hold_drawdown=theirs[2],
    )


_FIGURES = ("total_return", "sharpe", "max_drawdown", "exposure", "hold_return", "hold_sharpe", "hold_drawdown")


def _worth(track: Track, chosen: Mask, times: NDArray[np.int64]) -> tuple[float, float | None, float]:
    """Return total return, Sharpe ratio and drawdown of the chosen candles' returns, one after the other."""
    growth = track.equity[1:][chosen] / track.equity[:-1][chosen]
    curve = np.concatenate([[1.0], np.cumprod(growth)])
    daily = daily_returns(np.concatenate([times[:1], times]), curve)
    return float(curve[-1] - 1.0), sharpe_ratio(daily), max_drawdown(curve)


def years(track: Track, hold: Track) -> tuple[Part, ...]:
    """Return the calendar years UTC of the span, the first and the last perhaps not whole."""
    year = days_of(track.close_ms).astype("datetime64[D]").astype("datetime64[Y]").astype(int) + 1970
    return tuple(part(str(number), track, hold, year == number) for number in np.unique(year))


def folds(track: Track, hold: Track, count: int = FOLDS) -> tuple[Part, ...]:
    """Return equal parts of whole days, one after the other. Raises TrainingError when there are too few days."""
    days = days_of(track.close_ms)
    all_days = np.unique(days)
    if count < 1:
        raise TrainingError(f"--folds {count}: give at least 1")
    if len(all_days) < _LEAST_DAYS * count:
        raise TrainingError(
            f"--folds {count}: the span has {len(all_days)} days, {_LEAST_DAYS * count} are the least for so many; "
            "give more candles or fewer folds"
        )
    parts = np.array_split(all_days, count)
    return tuple(part(f"fold {i}", track, hold, np.isin(days, own)) for i, own in enumerate(parts, 1))


def regimes(track: Track, hold: Track, tables: Sequence[CandleTable]) -> tuple[Part, ...]:
    """Return the days that began in each trend, and in each volatility, of the market.

    The market is the mean return of all symbols; its trend and volatility are told as strategy/regime.py tells them,
    from the candles before the day. A day before which there are too few candles is in no regime.
    """
    trends, volatilities = regime_codes(tables, days_of(track.close_ms) * _DAY_MS)
    named = [(name, trends == code) for code, name in reversed(_TRENDS.items())]
    named += [(name, volatilities == code) for code, name in _VOLATILITIES.items()]
    return tuple(part(name, track, hold, chosen) for name, chosen in named)


def regime_codes(tables: Sequence[CandleTable], at_ms: NDArray[np.int64]) -> tuple[FloatArray, FloatArray]:
    """Return trend and volatility codes of the market, (n,) each, as known at moments; NaN where nobody could tell."""
    close_ms, returns = market_returns(tables)
    price = np.concatenate([[1.0], np.cumprod(1.0 + returns)])
    squares = np.concatenate([[0.0], np.cumsum(returns * returns)])
    trend = np.full(len(returns), np.nan)
    volatility = np.full(len(returns), np.nan)
    if len(returns) >= _LONG:
        now = np.arange(_LONG, len(returns) + 1)
        short, middle, long = (np.sqrt((squares[now] - squares[now - n]) / n) for n in (_SHORT, _TREND, _LONG))
        with np.errstate(divide="ignore", invalid="ignore"):  # a market that stands still has no trend: NaN says so
            score = (price[now] / price[now - _TREND] - 1.0) / (middle * np.sqrt(_TREND))
        trend[_LONG - 1 :] = np.where(np.isnan(score), 0.0, trend_code(ARRAYS, score))
        volatility[_LONG - 1 :] = volatility_code(ARRAYS, short, long)
    last = np.searchsorted(close_ms, at_ms, side="right") - 1
    known = last >= 0
    return np.where(known, trend[last], np.nan), np.where(known, volatility[last], np.nan)


def market_returns(tables: Sequence[CandleTable]) -> tuple[NDArray[np.int64], FloatArray]:
    """Return close times and, per time, the mean return of the symbols that traded then and before."""
    span_ms = tables[0].timeframe.span_ms
    times = np.unique(np.concatenate([table.open_ms[1:] for table in tables]))
    total, count = np.zeros(len(times)), np.zeros(len(times))
    for table in tables:
        close = table.values[:, 3]
        place = np.searchsorted(times, table.open_ms[1:])
        total[place] += close[1:] / close[:-1] - 1.0
        count[place] += 1.0
    return times + span_ms, total / count
