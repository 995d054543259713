"""The feature kernel: what the policy sees of the market, in an array form and a streaming form of the same bits.

A row is a pure function of the last WINDOW final candles: sums and maxima over a window are built by doubling,
S2k(t) = Sk(t) + Sk(t-k), so nothing reaches further back and the order of additions is the same wherever a history
starts. Every feature is free of scale (a return, a ratio or a position in a range) and lies within -1 .. 1, but for
the echo of returns, which is cut at +-1.2.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from strategy.arithmetic import ARRAYS, FLOATS, Arithmetic
from strategy.candle import Candle
from strategy.errors import InvalidCandle
from strategy.regime import REGIMES, Regime, trend_code, volatility_code

KERNEL_VERSION = 2
"""Raised whenever the same candles would give other bytes; a test holds the digest of a known history."""
HORIZONS = (24, 96, 384, 1200, 2400)
"""Candles: one day to 100 days of hourly candles."""
SHORT_HORIZONS = (1, 4)
MEANS = (240, 600)
"""Candles: 10 and 25 days of hourly candles, over which only the price's distance from its mean is looked at."""
TREND_MEANS = (*MEANS, *HORIZONS[-2:])
"""Candles: what a plain rule of trend following sees is whether the price lies above its mean over each of these."""
FORTNIGHT = 336
"""Candles: over which the level of volatility is told."""
WINDOW = HORIZONS[-1] + 1
"""Candles a row needs: 2,400 returns need one candle more."""

_SERIES = (
    "close", "move", "size", "square", "cube", "echo", "rise", "range", "volume", "flow",
)  # fmt: skip
_INDEX = {name: i for i, name in enumerate(_SERIES)}
_TINY = 1e-12
_ECHO_LIMIT = 1.2
_SUMMED = tuple(sorted((*HORIZONS, *MEANS, FORTNIGHT)))
_LEVELS = 12  # 2**11 = 2,048 is the longest doubled sum in a window of 2,400

FloatArray = NDArray[np.float64]
Row = NDArray[np.float32]


# ---- the formulas, once for arrays and floats -------------------------------------------------------------------
class _Windows(Protocol):
    """Sums, extremes and lags over windows that end at the candle a row is for."""

    def total(self, series: str, n: int) -> Any:  # noqa: ANN401 - float or (n,) array
        """Return the sum of the last `n` values of a series."""
        ...

    def highest(self, n: int) -> Any:  # noqa: ANN401
        """Return the highest high of the last `n` candles."""
        ...

    def lowest(self, n: int) -> Any:  # noqa: ANN401
        """Return the lowest low of the last `n` candles."""
        ...

    def close(self, lag: int) -> Any:  # noqa: ANN401
        """Return the close `lag` candles ago."""
        ...

    def candle(self) -> Any:  # noqa: ANN401
        """Return high, low and volume of the candle the row is for."""
        ...


def _squash(x: Any) -> Any:  # noqa: ANN401 - float or array
    """Map the real line onto -1 .. 1; unlike tanh it is exactly rounded on every machine."""
    return x / (1.0 + abs(x))


def _share(x: Any, y: Any) -> Any:  # noqa: ANN401 - float or array
    """Return -1 when x is nothing beside y (both >= 0), 0 when they are equal, 1 when y is nothing beside x."""
    return (x - y) / (x + y + _TINY)


def _bounded(m: Arithmetic, x: Any, limit: float) -> Any:  # noqa: ANN401 - float or array
    """Return x within +-limit; x stands first in each comparison, so that NaN stays NaN in both forms."""
    return m.maximum(-m.maximum(-x, -limit), -limit)


def _formulas(w: _Windows, m: Arithmetic) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the features by name, in order, and the context that sizing, stops and screens need."""
    close = w.close(0)
    high, low, volume = w.candle()
    deviation = {n: m.sqrt(w.total("square", n) / float(n)) + _TINY for n in _SUMMED}
    features: dict[str, Any] = {}
    for n in SHORT_HORIZONS:
        features[f"return_{n}"] = _squash((close / w.close(n) - 1.0) / (deviation[96] * math.sqrt(n)))
    for n in HORIZONS:
        move = close / w.close(n) - 1.0
        scale = deviation[n] * math.sqrt(n)
        features[f"return_{n}"] = _squash(move / scale)
        features[f"mean_distance_{n}"] = _mean_distance(w, n, close, scale)
        top, bottom = w.highest(n), w.lowest(n)
        features[f"range_position_{n}"] = (2.0 * close - top - bottom) / (top - bottom + _TINY * close)
        features[f"efficiency_{n}"] = _squash(2.0 * move / (w.total("size", n) + _TINY))
        features[f"rise_share_{n}"] = 2.0 * w.total("rise", n) / (w.total("size", n) + _TINY) - 1.0
    for n in MEANS:
        features[f"mean_distance_{n}"] = _mean_distance(w, n, close, deviation[n] * math.sqrt(n))
    for n in TREND_MEANS:
        features[f"above_{n}"] = m.where(close > w.total("close", n) / float(n), 1.0, -1.0)
    for n in (24, 96, 384):
        features[f"volatility_share_{n}"] = _share(deviation[n], deviation[2400])
        features[f"volume_share_{n}"] = _share(w.total("volume", n) / float(n), w.total("volume", 2400) / 2400.0)
        features[f"flow_{n}"] = w.total("flow", n) / (w.total("volume", n) + _TINY)
    for n in (96, 384):
        # The oldest product reaches one return further back than the squares do: after a jump has left them, the ratio
        # could be any number.
        echo = w.total("echo", n) / (w.total("square", n) + _TINY)
        features[f"echo_{n}"] = _bounded(m, echo, _ECHO_LIMIT)
    features["skew_384"] = _squash(w.total("cube", 384) / 384.0 / (deviation[384] * deviation[384] * deviation[384]))
    features["volatility_level"] = _squash(100.0 * deviation[FORTNIGHT])
    features["range_share"] = _share(w.total("range", 24) / 24.0, w.total("range", 384) / 384.0)
    features["candle_range"] = _share((high - low) / close, w.total("range", 96) / 96.0)
    features["candle_volume"] = _share(volume, w.total("volume", 96) / 96.0)
    features["candle_position"] = (2.0 * close - high - low) / (high - low + _TINY * close)
    features["drawdown_2400"] = close / w.highest(2400) - 1.0
    features["rise_2400"] = 1.0 - w.lowest(2400) / close
    trend = trend_code(m, (close / w.close(384) - 1.0) / (deviation[384] * math.sqrt(384)))
    regime = volatility_code(m, deviation[96], deviation[2400])
    features["regime_trend"] = trend
    features["regime_volatility"] = regime
    context = {
        "volatility": m.maximum(deviation[96], deviation[384]),
        "average_range": w.total("range", 24) / 24.0,
        "trend": trend,
        "regime": regime,
    }
    return features, context


def _mean_distance(w: _Windows, n: int, close: Any, scale: Any) -> Any:  # noqa: ANN401 - float or array
    """Return how far the close lies from the mean of the last `n`, in what such a time usually moves, squashed."""
    return _squash(2.0 * (close / (w.total("close", n) / float(n)) - 1.0) / scale)


def _base_series(previous: Any, candle: Any, last_move: Any, m: Arithmetic) -> tuple[Any, ...]:  # noqa: ANN401
    """Return one value per name in _SERIES for a candle and the one before it (float or arrays).

    previous: its close.  candle: open, high, low, close, volume.  last_move: the previous candle's return.
    """
    _, high, low, close, volume = candle
    move = close / previous - 1.0
    size = abs(move)
    square = move * move
    true_range = (m.maximum(high, previous) + m.maximum(-low, -previous)) / previous
    flow = m.where(move > 0.0, volume, m.where(move < 0.0, -volume, 0.0))
    rise = m.where(move > 0.0, move, 0.0)
    return (close, move, size, square, square * move, move * last_move, rise, true_range, volume, flow)


@cache
def _parts(n: int) -> tuple[tuple[int, int], ...]:
    """Return (level, offset) of the doubled sums whose concatenation is a window of `n`, longest first."""
    parts, offset = [], 0
    for level in reversed(range(_LEVELS)):
        if n >> level & 1:
            parts.append((level, offset))
            offset += 1 << level
    return tuple(parts)


def _depths() -> tuple[int, ...]:
    """Return per level how many rows its ring needs to hold its longest lag."""
    lags = [[1 << level] for level in range(_LEVELS - 1)] + [[0]]
    lags[0].append(HORIZONS[-1])  # closes are looked up by lag
    for n in _SUMMED:
        for level, offset in (*_parts(n), _overlap(n)):
            lags[level].append(offset)
    return tuple(max(level) + 1 for level in lags)


def _overlap(n: int) -> tuple[int, int]:
    """Return (level, offset) of the doubled extreme that covers a window of `n` together with the newest one."""
    level = n.bit_length() - 1
    return level, n - (1 << level)


# ---- array form -------------------------------------------------------------------------------------------------
def _lagged(x: FloatArray, lag: int) -> FloatArray:
    """Return x shifted by `lag` along its last axis; what lies before the history is filled with its first value."""
    if lag == 0:
        return x
    return np.concatenate([np.repeat(x[..., :1], min(lag, x.shape[-1]), axis=-1), x[..., :-lag]], axis=-1)


class _ArrayWindows:
    """Windows over a whole history at once; entries before the first full window are meaningless, not NaN."""

    def __init__(self, values: FloatArray) -> None:
        columns = tuple(np.ascontiguousarray(values[:, i]) for i in range(5))
        self._values = columns
        previous = _lagged(columns[3], 1)
        last_move = _lagged(columns[3] / previous - 1.0, 1)
        base = np.stack(_base_series(previous, columns, last_move, ARRAYS))
        self._sums = self._doubled(base, np.add)
        self._extremes = self._doubled(np.stack([columns[1], -columns[2]]), np.maximum)

    @staticmethod
    def _doubled(base: FloatArray, combine: np.ufunc) -> list[FloatArray]:
        levels = [base]
        for level in range(_LEVELS - 1):
            levels.append(combine(levels[-1], _lagged(levels[-1], 1 << level)))
        return levels

    def total(self, series: str, n: int) -> FloatArray:
        (level, _), *rest = _parts(n)
        i = _INDEX[series]
        result: FloatArray = self._sums[level][i]
        for part, offset in rest:
            result = result + _lagged(self._sums[part][i], offset)
        return result

    def _extreme(self, i: int, n: int) -> FloatArray:
        level = n.bit_length() - 1
        x = self._extremes[level][i]
        highest: FloatArray = np.maximum(x, _lagged(x, n - (1 << level)))
        return highest

    def highest(self, n: int) -> FloatArray:
        return self._extreme(0, n)

    def lowest(self, n: int) -> FloatArray:
        return -self._extreme(1, n)

    def close(self, lag: int) -> FloatArray:
        return _lagged(self._values[3], lag)

    def candle(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        return self._values[1], self._values[2], self._values[4]


@dataclass(frozen=True, slots=True)
class FeatureRow:
    """What one candle adds to what is known of the market.

    values: (N_FEATURES,) float32.  volatility: standard deviation of returns per candle.  average_range: mean true
    range of the last 24 candles as a share of the price.
    """

    values: Row
    volatility: float
    average_range: float
    regime: Regime


@dataclass(frozen=True, slots=True)
class FeatureTable:
    """The rows of a whole history.

    open_ms: (n,) int64.  values: (n, N_FEATURES) float32.  context: (n, 4) float64 (volatility, average range, trend,
    volatility regime).  is_valid: (n,) bool, False where the window is not full or lacks too many candles.
    """

    open_ms: NDArray[np.int64]
    values: Row
    context: FloatArray
    is_valid: NDArray[np.bool_]


def compute(open_ms: NDArray[np.int64], values: FloatArray, span_ms: int, max_missing: int) -> FeatureTable:
    """Return the feature rows of a history of valid candles.

    open_ms: (n,) strictly increasing.  values: (n, 5) open, high, low, close, volume.  max_missing: how many candles a
    window may lack.  Raises InvalidCandle when a value or a row is not finite, naming the candle.
    """
    n = len(open_ms)
    if n == 0:
        empty = np.zeros((0, N_FEATURES), np.float32)
        return FeatureTable(open_ms, empty, np.zeros((0, 4)), np.zeros(0, np.bool_))
    if (wrong := np.flatnonzero(~np.isfinite(values).all(axis=1))).size:
        raise InvalidCandle(f"candle at {int(open_ms[wrong[0]])} holds {values[wrong[0]].tolist()}: not finite numbers")
    features, context = _formulas(_ArrayWindows(values), ARRAYS)
    # + 0.0 turns a negative zero into zero, so that equal numbers are equal bytes.
    rows = np.stack(list(features.values()), axis=1) + 0.0
    is_valid = np.zeros(n, np.bool_)
    if n >= WINDOW:
        spans = open_ms[WINDOW - 1 :] - open_ms[: n - WINDOW + 1]
        is_valid[WINDOW - 1 :] = spans <= (WINDOW - 1 + max_missing) * span_ms
    broken = np.flatnonzero(is_valid & ~np.isfinite(rows).all(axis=1))
    if broken.size:
        raise InvalidCandle(f"features of the candle at {int(open_ms[broken[0]])} are not finite")
    return FeatureTable(open_ms, rows.astype(np.float32), np.stack(list(context.values()), axis=1), is_valid)


# ---- streaming form ---------------------------------------------------------------------------------------------
_DEPTHS = (*_depths(), 1)
"""Rows of each ring; the last one is no level but a row of negative zeros, whose addition changes no bit."""
_NOTHING = (_LEVELS, 0)
_SUMS, _EXTREMES = slice(0, len(_SERIES)), slice(len(_SERIES), len(_SERIES) + 2)
_LAGS = (*SHORT_HORIZONS, *HORIZONS)
_MOST_PARTS = max(len(_parts(n)) for n in _SUMMED)


class _Places:
    """Rows of the rings that hold given (level, lag), whichever candle is the newest."""

    def __init__(self, wanted: Sequence[tuple[int, int]]) -> None:
        first = np.cumsum([0, *_DEPTHS])
        self._first = np.array([first[level] for level, _ in wanted])
        self._lag = np.array([lag for _, lag in wanted])
        self._depth = np.array([_DEPTHS[level] for level, _ in wanted])

    def of(self, newest: int) -> NDArray[np.int64]:
        rows: NDArray[np.int64] = self._first + (newest - self._lag) % self._depth
        return rows


_NEWEST = _Places([(level, 0) for level in range(_LEVELS)])
_DOUBLED = _Places([(level, 1 << level) for level in range(_LEVELS - 1)])
_WINDOWS = _Places(
    [
        *[([*_parts(n)] + [_NOTHING] * _MOST_PARTS)[i] for i in range(_MOST_PARTS) for n in _SUMMED],
        *[(_overlap(n)[0], 0) for n in _SUMMED],
        *[_overlap(n) for n in _SUMMED],
        *[(0, lag) for lag in _LAGS],
    ]
)
"""The parts of every sum, first those that are added first; the two extremes of every window; the closes."""


class _StreamWindows:
    """The same windows for the newest candle only: each doubled sum keeps a ring of its own past.

    All rings are rows of one array. The newest values, followed by what lies 1, 2, 4 ... candles back on each level,
    have the doubled sums as their running sum, and the doubled extremes as their running maximum.
    """

    def __init__(self) -> None:
        self._rings = np.full((sum(_DEPTHS), _EXTREMES.stop), -0.0)
        self._chain = np.empty((_LEVELS, _EXTREMES.stop))
        self._newest = np.empty((_LEVELS, _EXTREMES.stop))
        self._at = -1
        self._close = self._move = 0.0
        self._candle = (0.0, 0.0, 0.0)
        self._totals: dict[int, list[float]] = {}
        self._tops: dict[int, list[float]] = {}
        self._closes: dict[int, float] = {}

    def push(self, values: tuple[float, float, float, float, float]) -> None:
        is_first = self._at < 0
        previous = values[3] if is_first else self._close
        base = _base_series(previous, values, self._move, FLOATS)
        self._at += 1
        self._chain[0] = (*base, values[1], -values[2])
        if is_first:
            self._fill(self._chain[0])
        else:
            self._double()
        self._close, self._move, self._candle = values[3], base[1], (values[1], values[2], values[4])

    def _fill(self, first: FloatArray) -> None:
        # What lies before the history is its first value, as in the array form.
        start = 0
        for level, depth in enumerate(_DEPTHS[:_LEVELS]):
            self._rings[start : start + depth, _SUMS] = first[_SUMS] * float(1 << level)
            self._rings[start : start + depth, _EXTREMES] = first[_EXTREMES]
            start += depth

    def _double(self) -> None:
        chain, newest = self._chain, self._newest
        self._rings.take(_DOUBLED.of(self._at), axis=0, out=chain[1:], mode="clip")
        np.add.accumulate(chain[:, _SUMS], axis=0, out=newest[:, _SUMS])
        np.maximum.accumulate(chain[:, _EXTREMES], axis=0, out=newest[:, _EXTREMES])
        self._rings[_NEWEST.of(self._at)] = newest

    def gather(self) -> None:
        """Compute every window once for the newest candle."""
        count = len(_SUMMED)
        rows = self._rings.take(_WINDOWS.of(self._at), axis=0)
        totals = rows[:count, _SUMS]
        for part in range(1, _MOST_PARTS):
            totals = totals + rows[part * count : (part + 1) * count, _SUMS]
        rows = rows[_MOST_PARTS * count :]
        tops = np.maximum(rows[:count, _EXTREMES], rows[count : 2 * count, _EXTREMES])
        self._totals = dict(zip(_SUMMED, totals.tolist(), strict=True))
        self._tops = dict(zip(_SUMMED, tops.tolist(), strict=True))
        self._closes = dict(zip(_LAGS, rows[2 * count :, 0].tolist(), strict=True))

    def total(self, series: str, n: int) -> float:
        return self._totals[n][_INDEX[series]]

    def highest(self, n: int) -> float:
        return self._tops[n][0]

    def lowest(self, n: int) -> float:
        return -self._tops[n][1]

    def close(self, lag: int) -> float:
        return self._closes[lag] if lag else self._close

    def candle(self) -> tuple[float, float, float]:
        return self._candle


class FeatureWindow:
    """The streaming form: takes final candles of one symbol in order and gives the row of each."""

    def __init__(self, max_missing: int) -> None:
        self.max_missing = max_missing
        self._windows = _StreamWindows()
        self._open_ms: list[int] = [0] * WINDOW
        self._seen = 0

    def push(self, candle: Candle) -> None:
        """Take a candle without computing its row. Raises InvalidCandle when it is not later than the last one."""
        last = self._open_ms[(self._seen - 1) % WINDOW]
        if self._seen and candle.open_ms <= last:
            raise InvalidCandle(f"{candle.symbol} candle at {candle.open_ms} does not follow the one at {last}")
        self._open_ms[self._seen % WINDOW] = candle.open_ms
        self._seen += 1
        self._windows.push(candle.values)

    def update(self, candle: Candle) -> FeatureRow | None:
        """Take a candle and return its row; None while the window is not full or lacks too many candles."""
        self.push(candle)
        oldest = self._open_ms[self._seen % WINDOW]
        if self._seen < WINDOW or candle.open_ms - oldest > (WINDOW - 1 + self.max_missing) * candle.span_ms:
            return None
        self._windows.gather()
        try:
            features, context = _formulas(self._windows, FLOATS)
        except ZeroDivisionError:  # a price so small that a range of it is none: arrays answer NaN
            raise _not_finite(candle) from None
        values = np.array(list(features.values())) + 0.0
        if not np.isfinite(values).all():
            raise _not_finite(candle)
        return FeatureRow(
            values.astype(np.float32),
            context["volatility"],
            context["average_range"],
            REGIMES[context["trend"], context["regime"]],
        )

    @property
    def missing_until_full(self) -> int:
        """Candles still needed before the first row."""
        return max(0, WINDOW - self._seen)


def _not_finite(candle: Candle) -> InvalidCandle:
    return InvalidCandle(f"features of the {candle.symbol} candle at {candle.open_ms} are not finite")


class ComputedFeatures:
    """Rows computed beforehand for a whole history, handed out candle by candle like `FeatureWindow` does."""

    def __init__(self, table: FeatureTable, start: int = 0) -> None:
        self._table = table
        self._next = start
        self._context: list[list[float]] = table.context.tolist()
        self._valid: list[bool] = table.is_valid.tolist()
        self._times: list[int] = table.open_ms.tolist()

    def seek(self, start: int) -> None:
        """Continue with the candle at index `start` of the history."""
        self._next = start

    def push(self, candle: Candle) -> None:
        """Pass over the next candle."""
        self.update(candle)

    def update(self, candle: Candle) -> FeatureRow | None:
        """Return the row of the next candle. Raises InvalidCandle when it is not the next one of the history."""
        i = self._next
        if i >= len(self._times) or self._times[i] != candle.open_ms:
            raise InvalidCandle(f"{candle.symbol} candle at {candle.open_ms} is not the next one of the history")
        self._next = i + 1
        if not self._valid[i]:
            return None
        volatility, average_range, trend, regime = self._context[i]
        return FeatureRow(self._table.values[i], volatility, average_range, REGIMES[trend, regime])


class FeatureSource(Protocol):
    """Either form, as the trader sees it."""

    def update(self, candle: Candle) -> FeatureRow | None:
        """Take the next final candle of one symbol and return its row, None while there is none."""
        ...

    def push(self, candle: Candle) -> None:
        """Take the next final candle without a row."""
        ...


# ---- schema -----------------------------------------------------------------------------------------------------
def _feature_names() -> tuple[str, ...]:
    window = FeatureWindow(0)
    window.push(Candle(symbol="A/B", open_ms=0, span_ms=1, open=1.0, high=1.0, low=1.0, close=1.0, volume=1.0))
    windows = window._windows  # noqa: SLF001 - same module
    windows.gather()
    return tuple(_formulas(windows, FLOATS)[0])


FEATURE_NAMES: Sequence[str] = _feature_names()
N_FEATURES = len(FEATURE_NAMES)
FEATURE_SCHEMA: Mapping[str, Any] = {
    "version": KERNEL_VERSION,
    "window": WINDOW,
    "horizons": list(HORIZONS),
    "names": list(FEATURE_NAMES),
}
FEATURE_HASH = hashlib.sha256(json.dumps(FEATURE_SCHEMA, sort_keys=True).encode()).hexdigest()
"""What a bundle was trained on; another hash refuses to load."""
