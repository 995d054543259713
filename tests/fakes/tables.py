"""Histories for tests of the features: wild ones drawn by Hypothesis, and one that no library version can change."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from strategy.candle import Candle
from strategy.candle_table import CandleTable
from strategy.features import WINDOW, ComputedFeatures, FeatureRow, FeatureWindow, compute
from tests.fakes.trading import random_table

_CLOSE, _VOLUME = 3, 4
_KINDS = ("plain", "constant stretch", "all constant", "no volume", "jump up", "jump down", "tiny", "huge")
Row = tuple[bytes, float, float, str]


def streamed(table: CandleTable, max_missing: int) -> list[FeatureRow | None]:
    """Return the row of every candle from the streaming form."""
    window = FeatureWindow(max_missing)
    return [window.update(candle) for candle in table.candles()]


def computed(table: CandleTable, max_missing: int) -> list[FeatureRow | None]:
    """Return the row of every candle from the array form."""
    features = ComputedFeatures(compute(table.open_ms, table.values, table.timeframe.span_ms, max_missing))
    return [features.update(candle) for candle in table.candles()]


def exactly(rows: list[FeatureRow | None]) -> list[Row | None]:
    """Return rows as values that are equal when every bit is: features, volatility, average range, regime."""
    return [
        None if row is None else (row.values.tobytes(), row.volatility, row.average_range, str(row.regime))
        for row in rows
    ]


def _distort(values: NDArray[np.float64], kind: str, first: int, last: int, factor: float) -> None:
    if kind == "constant stretch":
        values[first:last, :4] = values[first, _CLOSE]
    elif kind == "all constant":
        values[:, :4] = values[0, _CLOSE]
    elif kind == "no volume":
        values[first:last, _VOLUME] = 0.0
    elif kind == "jump up":
        values[first:, :4] *= factor
    elif kind == "jump down":
        values[first:, :4] /= factor
    elif kind == "tiny":
        values *= 1e-11
    elif kind == "huge":
        values *= 1e11


@st.composite
def wild_tables(draw: Callable[[Any], Any], shortest: int = WINDOW - 2, longest: int = WINDOW + 60) -> CandleTable:
    """Return a valid table around one window long: gaps, jumps, still prices, no volume, any order of magnitude."""
    count = draw(st.integers(shortest, longest))
    gaps = draw(st.lists(st.integers(0, count - 2), max_size=4))
    table = random_table(count, seed=draw(st.integers(0, 2**32 - 1)), start=draw(st.integers(0, 10**6)), gaps=gaps)
    values = table.values.copy()
    for kind in draw(st.lists(st.sampled_from(_KINDS), max_size=4)):
        # Most distortions lie near the end, where the short horizons see them.
        first = draw(st.one_of(st.integers(0, count - 1), st.integers(max(0, count - 200), count - 1)))
        _distort(values, kind, first, first + draw(st.integers(1, count)), draw(st.floats(1.01, 1_000.0)))
    return replace(table, values=values)


def known_table(count: int) -> CandleTable:
    """Return a history made with integers and the four operations alone, the same on every machine and version."""
    state, close, rows = 20_171_217, 19_798.68, []

    def uniform() -> float:
        nonlocal state
        state = (state * 6_364_136_223_846_793_005 + 1_442_695_040_888_963_407) % 2**64  # Knuth's MMIX generator
        return (state >> 11) / 2**53

    for _ in range(count):
        opened, close = close, close * (1.0 + 0.04 * (uniform() - 0.498))
        high = max(opened, close) * (1.0 + 0.01 * uniform())
        low = min(opened, close) * (1.0 - 0.01 * uniform())
        rows.append((opened, high, low, close, 1_000.0 * uniform()))
    table = random_table(count)
    return replace(table, values=np.array(rows))


def nth(table: CandleTable, index: int, **changes: float) -> Candle:
    """Return candle `index` of a table with some of its values changed."""
    return replace(table.candle(index), **changes)  # type: ignore[arg-type]
