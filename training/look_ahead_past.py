"""How much past a row needs, and whether the streaming form answers what the array form does.

Live, a row is computed from a window of candles and not from the whole history: where the two differ, a backtest is
about another program than the one that trades.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from strategy.candle_table import CandleTable
from strategy.features import FEATURE_NAMES, ComputedFeatures, FeatureRow, FeatureSource, FeatureWindow, compute
from training.look_ahead_target import MAX_MISSING, FloatArray, Stretch, Target, differences

_STARTS = 12
_TOLD_EVERY = 1_000
_BEYOND = 600
"""Candles beyond the window in which rows are compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmUp:
    """How many candles the rows of one output need to be those of the whole history, bit for bit.

    needs: the smallest number that sufficed for every row compared; where `is_settled` is not set, rows still differed
    after that many.  symbol, open_ms: of a row that needs as many.  difference: the largest from the window on, 0 where
    the window suffices; None where one of the two was no number.
    """

    output: str
    needs: int
    is_settled: bool
    symbol: str
    open_ms: int
    difference: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Streaming:
    """The two forms of the kernel beside each other. rows: compared, features and context.  differ: rows that did.

    symbol, open_ms, output: of the first that did.
    """

    rows: int
    differ: int
    symbol: str | None
    open_ms: int | None
    output: str | None


def warm_ups(target: Target, histories: Sequence[Stretch], *, seed: int = 0) -> tuple[WarmUp, ...]:
    """Return per output how much past it needs: rows of histories that begin later, beside those of the whole one.

    It is measured at several random beginnings, not halved into: a row may be right by chance with fewer candles than
    its neighbour needs.
    """
    found: dict[str, WarmUp] = {}
    for index, candles in enumerate(histories):
        rng = np.random.default_rng((seed, index))
        starts = rng.integers(1, len(candles) - target.window + 1, _STARTS).tolist()
        for start in starts:
            end = min(len(candles), start + target.window + _BEYOND)
            _merge(found, _measured(target, candles.part(0, end), start))
        far = [name for name, warm_up in found.items() if not warm_up.is_settled]
        if far:  # once to the end of the history, to say how far it goes
            _merge(found, _measured(target, candles, min(starts)))
    return tuple(found.values())


def _merge(found: dict[str, WarmUp], more: Sequence[WarmUp]) -> None:
    for warm_up in more:
        known = found.get(warm_up.output)
        if known is None or warm_up.needs > known.needs:
            found[warm_up.output] = warm_up


def _measured(target: Target, candles: Stretch, start: int) -> list[WarmUp]:
    """Return what the rows from `start` on need, which are given nothing before it. Both histories end alike."""
    whole, later = target.rows(candles), target.rows(candles.part(start, len(candles)))
    known, short, count = whole.values[start:], later.values, len(candles) - start
    changed = differences(short, known)
    warm_ups = []
    for column, name in enumerate(whole.names):
        odd = np.flatnonzero(changed[:, column])
        last = int(odd[-1]) if odd.size else -1
        late = odd[odd >= target.window - 1]
        warm_ups.append(
            WarmUp(
                output=name,
                needs=min(last + 2, count),
                is_settled=last + 1 < count,
                symbol=candles.symbol,
                open_ms=int(candles.open_ms[start + max(last, 0)]),
                difference=_largest(short[late, column], known[late, column]),
            )
        )
    return warm_ups


def _largest(one: FloatArray, other: FloatArray) -> float | None:
    size = float(np.abs(one - other).max()) if len(one) else 0.0
    return size if np.isfinite(size) else None


def compare_streaming(
    tables: Sequence[CandleTable],
    *,
    window: Callable[[int], FeatureSource] = FeatureWindow,
    tell: Callable[[int], None] | None = None,
) -> Streaming:
    """Return how many rows of the streaming form are not those of `strategy.features.compute`, bit for bit.

    window: makes the streaming form of one symbol from `max_missing`.  tell: told how many candles are done.
    """
    rows = differ = done = 0
    first: tuple[str, int, str] | None = None
    for table in tables:
        known = compute(table.open_ms, table.values, table.timeframe.span_ms, MAX_MISSING)
        array, stream = ComputedFeatures(known), window(MAX_MISSING)
        for candle in table.candles():
            odd = _odd_output(array.update(candle), stream.update(candle))
            if odd is not None:
                differ += 1
                first = first or (table.symbol, candle.open_ms, odd)
            done += 1
            if tell is not None and done % _TOLD_EVERY == 0:
                tell(done)
        rows += int(np.count_nonzero(known.is_valid))
    symbol, open_ms, output = first or (None, None, None)
    return Streaming(rows=rows, differ=differ, symbol=symbol, open_ms=open_ms, output=output)


def _odd_output(one: FeatureRow | None, other: FeatureRow | None) -> str | None:
    """Return the name of an output that differs, None where there is none."""
    if one is None or other is None:
        return None if one is other else "is_valid"
    if one.values.tobytes() != other.values.tobytes():
        unequal = one.values.view(np.int32) != other.values.view(np.int32)
        return FEATURE_NAMES[int(unequal.argmax())]
    context = ("volatility", "average_range", "regime")
    return next((f"context {name}" for name in context if getattr(one, name) != getattr(other, name)), None)
