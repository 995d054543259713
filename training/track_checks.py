"""What makes a track impossible to measure: said with its name, the place and the value."""

import datetime as dt
import math

import numpy as np

from training.errors import TrainingError
from training.track import Track


def require_sound(track: Track) -> None:
    """Return when the track has candles in order, and finite values of an account that is worth something throughout.

    Raises TrainingError otherwise.
    """
    count = len(track.close_ms)
    if count == 0:
        raise TrainingError(f"{track.name}: the track has no candle; give a longer span")
    if len(track.equity) != count + 1 or len(track.exposure) != count:
        raise TrainingError(
            f"{track.name}: {count} candles, {len(track.equity)} values of equity and {len(track.exposure)} of "
            "exposure do not go together: equity has one more than candles, exposure as many"
        )
    back = np.flatnonzero(np.diff(track.close_ms) <= 0)
    if len(back):
        raise TrainingError(f"{track.name}: the candle after {_minute(track.close_ms[back[0]])} is not later than it")
    for symbol in track.symbols:
        if len(symbol.close) != count or len(symbol.action) != count:
            raise TrainingError(
                f"{track.name}: {count} candles, {len(symbol.close)} prices and {len(symbol.action)} actions of "
                f"{symbol.symbol} do not go together: there must be as many of each"
            )
    _require_finite(track)


def _require_finite(track: Track) -> None:
    times = np.concatenate([[track.start_ms], track.close_ms])
    for name, values in (("equity", track.equity), ("exposure", track.exposure)):
        wrong = np.flatnonzero(~np.isfinite(values))
        if len(wrong):
            at = _minute(times[len(times) - len(values) + wrong[0]])
            raise TrainingError(f"{track.name}: {name} is {values[wrong[0]]} at {at}: no figure can be told of it")
    ruined = np.flatnonzero(track.equity <= 0.0)
    if len(ruined):
        raise TrainingError(
            f"{track.name}: equity is {track.equity[ruined[0]]} at {_minute(times[ruined[0]])}: from nothing, or less, "
            "there are no returns, and a spot account cannot get there"
        )
    for name, value in (("fees", track.fees), ("slippage", track.slippage)):
        if not math.isfinite(value):
            raise TrainingError(f"{track.name}: {name} are {value} in all: no figure can be told of them")


def require_same_span(track: Track, benchmark: Track) -> None:
    """Return when both run over the same candles. Raises TrainingError, which names both spans."""
    if track.timeframe_ms != benchmark.timeframe_ms or not np.array_equal(track.close_ms, benchmark.close_ms):
        raise TrainingError(
            f"{track.name} runs over {_span(track)}, the benchmark {benchmark.name} over {_span(benchmark)}: compare "
            "over the same candles"
        )


def last_price(track: Track, symbol: str) -> float:
    """Return what `symbol` was worth at the end of the track. Raises TrainingError where that is not known."""
    prices = [float(each.close[-1]) for each in track.symbols if each.symbol == symbol]
    if not prices:
        raise TrainingError(f"{track.name}: {symbol} is held at the end, but the track has no prices of it")
    if not math.isfinite(prices[0]):
        raise TrainingError(
            f"{track.name}: {symbol} is held at the end, but its price at {_minute(track.close_ms[-1])} is {prices[0]}"
        )
    return prices[0]


def _span(track: Track) -> str:
    end = _minute(track.close_ms[-1])
    return f"{_minute(track.start_ms)} - {end} ({len(track.close_ms)} candles of {track.timeframe_ms // 60_000} min)"


def _minute(at_ms: int) -> str:
    return dt.datetime.fromtimestamp(int(at_ms) / 1000, dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
