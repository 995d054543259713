"""What the report draws, by UTC day."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from strategy.order import Fill
from training.evaluate_parts import days_of
from training.evaluation import Curves, SymbolCurves
from training.recorder import ACTIONS, NOBODY
from training.track import FloatArray, SymbolTrack, Track

_DAY_MS = 86_400_000
_DIGITS = 7
"""Enough for a line on a screen; all of them would make the file three times as large."""


def curves(track: Track, others: Mapping[str, Track]) -> Curves:
    """Return the curves of the ensemble's `track` beside those of `others`, which are over the same candles."""
    days = days_of(track.close_ms)
    last = np.append(np.flatnonzero(np.diff(days)), len(days) - 1)
    first = np.concatenate([[0], last[:-1] + 1])
    named = {track.name: track, **others}
    return Curves(
        day_ms=tuple(((days[last] + 1) * _DAY_MS).tolist()),
        equity={name: _rounded(other.equity[1:][last] / other.equity[0]) for name, other in named.items()},
        exposure=_rounded(track.exposure[last]),
        costs=_rounded(_costs(track)[last]),
        symbols=tuple(_symbol(symbol, first, last) for symbol in track.symbols),
    )


def cost_of(fill: Fill) -> float:
    """Return what a fill cost, in quote: its fee, and how much worse than decided its price was."""
    return fill.fee + fill.side.sign * (fill.price - fill.reference_price) * fill.quantity


def _costs(track: Track) -> FloatArray:
    """Return fees and slippage so far, (n,), as shares of the cash at the beginning."""
    # A fill at the open of a candle bears the time at which the one before closed.
    at = np.searchsorted(track.close_ms, [fill.at_ms for fill in track.fills], side="right")
    spent = np.bincount(
        np.minimum(at, len(track.close_ms) - 1),
        weights=[cost_of(fill) for fill in track.fills],
        minlength=len(track.close_ms),
    )
    total: FloatArray = np.cumsum(spent) / track.equity[0]
    return total


def _symbol(symbol: SymbolTrack, first: NDArray[np.int64], last: NDArray[np.int64]) -> SymbolCurves:
    spans = [slice(a, b + 1) for a, b in zip(first.tolist(), last.tolist(), strict=True)]
    return SymbolCurves(
        symbol=symbol.symbol,
        close=_rounded(symbol.close[last]),
        exposure=_rounded(symbol.exposure[last]),
        action=tuple(_prevalent(symbol.action[span]) for span in spans),
        votes=tuple(_means(member, spans) for member in symbol.direction.T),
        disagreement=_means(symbol.disagreement, spans),
    )


def _prevalent(actions: NDArray[np.int8]) -> str:
    """Return the action voted most often, "" when nobody voted."""
    voted = actions[actions != NOBODY]
    return ACTIONS[int(np.argmax(np.bincount(voted)))].value if len(voted) else ""


def _means(values: NDArray[np.floating], spans: list[slice]) -> tuple[float | None, ...]:
    means = []
    for span in spans:
        known = values[span][~np.isnan(values[span])]
        means.append(float(f"{np.mean(known, dtype=np.float64):.4g}") if len(known) else None)
    return tuple(means)


def _rounded(values: FloatArray) -> tuple[float, ...]:
    return tuple(float(f"{value:.{_DIGITS}g}") for value in values.tolist())
