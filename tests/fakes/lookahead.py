"""The check that nothing computed for a candle depends on candles after it."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strategy.candle_table import CandleTable

Compute = Callable[[CandleTable], NDArray[Any]]
"""Takes a history of n candles, returns (n, k) rows: row i is what is known when candle i has closed."""

_VOLUME = 4


def futures(table: CandleTable, at: int, seed: int = 0) -> Iterator[tuple[str, CandleTable]]:
    """Yield (what happens, history) for other futures of a history: each is the same up to candle `at`, included.

    at: 0 .. n - 2.
    """
    rng = np.random.default_rng(seed)
    later, count = slice(at + 1, None), len(table)
    yield "nothing follows", replace(table, open_ms=table.open_ms[: at + 1], values=table.values[: at + 1])
    yield "one candle follows", replace(table, open_ms=table.open_ms[: at + 2], values=table.values[: at + 2])
    for name, rows, columns, factor in (
        ("prices rise", later, slice(0, 4), 1.5),
        ("prices crash", later, slice(0, 4), 0.01),
        ("volume grows", later, slice(_VOLUME, 5), 9.0),
        ("volume dries up", later, slice(_VOLUME, 5), 0.0),
        ("the next candle differs", slice(at + 1, at + 2), slice(None), 1.01),
        ("the last candle differs", slice(count - 1, None), slice(None), 1.01),
        ("every candle differs", later, slice(None), np.exp(rng.normal(0.0, 0.1, (count - at - 1, 1)))),
    ):
        values = table.values.copy()
        values[rows, columns] *= factor
        yield name, replace(table, values=values)
    open_ms = table.open_ms.copy()
    open_ms[later] += table.timeframe.span_ms
    yield "a candle is missing", replace(table, open_ms=open_ms)


def peek(compute: Compute, table: CandleTable, at: int, seed: int = 0) -> str | None:
    """Return what shows that a row at or before candle `at` knows of later candles, None when nothing does.

    Rows are compared byte by byte, so that NaN equals NaN.
    """
    known = compute(table)[: at + 1]
    for future, other in futures(table, at, seed):
        rows = compute(other)[: at + 1]
        if len(rows) != at + 1:
            return f"{future}: {len(rows)} rows for {at + 1} candles"
        for index, (was, now) in enumerate(zip(known, rows, strict=True)):
            if was.tobytes() != now.tobytes():
                return f"{future} after candle {at}: row {index} changes"
    return None
