"""What the charts of the report are drawn from: daily curves thinned out, and what follows from an equity curve."""

import datetime as dt
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from training.metrics import Month, monthly_returns

_DAYS_PER_YEAR = 365.0

FloatArray = NDArray[np.float64]


def date_of(day_ms: int) -> dt.date:
    """Return the day that ends at a midnight, UTC."""
    return dt.datetime.fromtimestamp((day_ms - 1) / 1_000, dt.UTC).date()


def day_returns(equity: Sequence[float]) -> FloatArray:
    """Return the return of each day. equity: (n,) multiples of what the account began with."""
    marks = np.concatenate([[1.0], np.asarray(equity, dtype=float)])
    returns: FloatArray = marks[1:] / marks[:-1] - 1.0
    return returns


def drawdowns(equity: Sequence[float]) -> FloatArray:
    """Return how far the equity lies below its peak so far, 0 or below. equity: as in `day_returns`."""
    values = np.asarray(equity, dtype=float)
    fallen: FloatArray = values / np.maximum(np.maximum.accumulate(values), 1.0) - 1.0
    return fallen


def rolling_sharpe(equity: Sequence[float], window: int) -> list[float | None]:
    """Return the annualised Sharpe ratio of the last `window` days, None before there are as many or without spread."""
    returns = day_returns(equity)
    none: list[float | None] = [None]
    if len(returns) < window:
        return none * len(returns)
    windows = sliding_window_view(returns, window)
    means, spreads = windows.mean(axis=1), windows.std(axis=1, ddof=1)
    root = float(np.sqrt(_DAYS_PER_YEAR))
    known = [float(m / s) * root if s > 0.0 else None for m, s in zip(means, spreads, strict=True)]
    return none * (window - 1) + known


def months(day_ms: Sequence[int], equity: Sequence[float]) -> tuple[Month, ...]:
    """Return every month that was traded, in order. equity: (n,) multiples of what the account began with."""
    return monthly_returns(np.array([*day_ms[:1], *day_ms], np.int64), np.array([1.0, *equity]))


def buckets(count: int, most: int) -> list[tuple[int, int]]:
    """Return [from, to) of at most `most` parts of `count` days, equally long but the last."""
    size = -(-count // most)
    return [(begin, min(begin + size, count)) for begin in range(0, count, size)]


def thinned(values: Sequence[float | None], most: int) -> Iterator[tuple[int, float | None]]:
    """Yield index and value of about `most` points at most, and None once where values are missing.

    Of every part the lowest and the highest are taken, so that no peak is lost.
    """
    if len(values) <= most:
        yield from enumerate(values)
        return
    for begin, end in buckets(len(values), most // 2):
        known = [(value, at) for at, value in enumerate(values[begin:end], begin) if value is not None]
        if not known:
            yield begin, None
            continue
        for at in sorted({min(known)[1], max(known)[1], *([0] if begin == 0 else []), *_last(end, len(values))}):
            yield at, values[at]


def _last(end: int, count: int) -> list[int]:
    return [count - 1] if end == count else []


def mean(values: Sequence[float | None]) -> float | None:
    """Return the mean of those that are known, None when none is."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
