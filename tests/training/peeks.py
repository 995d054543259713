"""Features that read the future, and features that do not, as people write them with pandas."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

Function = Callable[..., Any]
_DAY_MS = 86_400_000


def _feature(column: int, formula: Callable[[pd.Series], Any]) -> Function:
    def function(open_ms: Any, values: Any, span_ms: int, max_missing: int) -> dict[str, Any]:
        series = pd.Series(values[:, column], index=pd.to_datetime(open_ms, unit="ms"))
        return {"honest": pd.Series(values[:, 3]).pct_change(3), "odd": np.asarray(formula(series), np.float64)}

    return function


def close(formula: Callable[[pd.Series], Any]) -> Function:
    """Return a function of two outputs: an honest one, and `formula` of the closes, indexed by open time."""
    return _feature(3, formula)


def _rarely(series: pd.Series, share: float) -> Any:
    """Peek where the digits of the price say so: the same candles always peek."""
    digits = np.round(series.to_numpy() * 1e8).astype(np.int64)
    return np.where(digits % round(1 / share) == 0, series.shift(-1), series.shift(1))


def _filled_backwards(series: pd.Series) -> Any:
    known = series.where(np.round(series.to_numpy() * 1e8).astype(np.int64) % 10 == 0)
    return known.bfill()


def _days(series: pd.Series) -> Any:
    daily = series.resample("1D").last()
    return daily.reindex(series.index.floor("1D"))


def _weeks(series: pd.Series) -> Any:
    monday = (series.index.floor("1D") - pd.to_timedelta(series.index.day_of_week, unit="D")).asi8
    return series.groupby(monday).transform("max")


def _times(open_ms: Any, values: Any, span_ms: int, max_missing: int) -> dict[str, Any]:
    """Tell whether a gap follows: known only once it is over."""
    return {"odd": np.append(np.diff(open_ms) > span_ms, False)}


PEEKS: dict[str, Function] = {
    "next": close(lambda s: s.shift(-1)),
    "next return's sign": close(lambda s: np.sign(s.shift(-1) - s)),
    "second next": close(lambda s: s.shift(-2)),
    "centred mean": close(lambda s: s.rolling(11, center=True).mean()),
    "global z-score": close(lambda s: (s - s.mean()) / s.std()),
    "highest of all": close(lambda s: s / s.max()),
    "rank in all": close(lambda s: s.rank()),
    "least squares over all": close(lambda s: s - np.polyval(np.polyfit(range(len(s)), s, 1), range(len(s)))),
    "days labelled at their start": close(_days),
    "weeks labelled at their start": close(_weeks),
    "filled backwards": close(_filled_backwards),
    "rare": close(lambda s: _rarely(s, 0.01)),
    "a billionth": close(lambda s: s + 1e-9 * (s.shift(-1).fillna(0.0) - s)),
    "volume only": _feature(4, lambda s: s.rolling(5).mean().shift(-3)),
    "500 ahead": close(lambda s: s.shift(-500)),
    "warm-up filled from later on": close(lambda s: s.rolling(20).mean().bfill()),
    "backward exponential mean": close(lambda s: s[::-1].ewm(span=20).mean()[::-1]),
    "length of the file": close(lambda s: np.linspace(0.0, 1.0, len(s))),
    "time of the next candle": _times,
}

HONEST: dict[str, Function] = {
    "lag": close(lambda s: s.shift(1)),
    "rolling mean": close(lambda s: s.rolling(20).mean()),
    "expanding mean": close(lambda s: s.expanding().mean()),
    "expanding z-score": close(lambda s: (s - s.expanding().mean()) / s.expanding().std()),
    "exponential mean of long memory": close(lambda s: s.ewm(span=500, adjust=False).mean()),
    "filled forwards": close(lambda s: s.where(s > s.shift(1)).ffill()),
    "last whole day": close(lambda s: s.resample("1D").last().shift(1).reindex(s.index.floor("1D"))),
    "highest so far": close(lambda s: s.cummax()),
    "hour of the day": close(lambda s: s.index.hour),
    "always one": close(lambda s: np.ones(len(s))),
    "never a number": close(lambda s: np.full(len(s), np.nan)),
}

long_memory = HONEST["exponential mean of long memory"]
