"""Other futures: a history whose candles up to a moment are as they were, and later ones are not."""

from collections.abc import Callable

import numpy as np

from training.look_ahead_target import FloatArray, Stretch

_LATER_CANDLES = 7
_STEP = 0.02


def _walk(past: FloatArray, future: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Make other prices, a random walk of 2 % a candle from the last close, and other volumes."""
    n = len(future)
    close = past[-1, 3] * np.exp(np.cumsum(rng.normal(0.0, _STEP, n)))
    opened = np.concatenate([past[-1:, 3], close[:-1]])
    high = np.maximum(opened, close) * (1.0 + rng.random(n) * _STEP)
    low = np.minimum(opened, close) * (1.0 - rng.random(n) * _STEP)
    volume = (1.0 + future[:, 4]) * rng.uniform(0.5, 2.0, n)
    return np.stack([opened, high, low, close, volume], axis=1)


def _constant(past: FloatArray, future: FloatArray, rng: np.random.Generator) -> FloatArray:  # noqa: ARG001
    """Let nothing move any more: every candle flat at the last close."""
    flat = np.full_like(future, past[-1, 3])
    flat[:, 4] = past[-1, 4]
    return flat


def _times(factor: float) -> Callable[[FloatArray, FloatArray, np.random.Generator], FloatArray]:
    return lambda past, future, rng: future * factor  # noqa: ARG005


def _reversed(past: FloatArray, future: FloatArray, rng: np.random.Generator) -> FloatArray:  # noqa: ARG001
    """Reverse the order of the same candles."""
    return future[::-1]


_PRICES = {
    "random walk": _walk,
    "ten times": _times(10.0),
    "a tenth": _times(0.1),
    "constant": _constant,
    "reversed": _reversed,
}
CUT_OFF, LATER = "cut off", "later"
KINDS = (*_PRICES, LATER)
"""Ways in which candles that come later are made others; CUT_OFF leaves them out."""


def changed_future(candles: Stretch, cut: int, kind: str, seed: int) -> Stretch:
    """Return `candles` with every candle after the index `cut` changed, or left out.

    kind: one of KINDS or CUT_OFF.  The same seed gives the same candles.
    """
    if kind == CUT_OFF:
        return candles.part(0, cut + 1)
    past, future = candles.values[: cut + 1], candles.values[cut + 1 :]
    if kind == LATER:
        open_ms = candles.open_ms.copy()
        open_ms[cut + 1 :] += _LATER_CANDLES * candles.span_ms
        return candles.with_candles(open_ms, candles.values)
    rng = np.random.default_rng((seed, cut))
    return candles.with_candles(candles.open_ms, np.concatenate([past, _PRICES[kind](past, future, rng)]))


def only(candles: Stretch, cut: int, columns: slice, seed: int) -> Stretch:
    """Return `candles` with only some columns of the later candles changed: what is left tells what a peek reads.

    columns: of open, high, low, close, volume.
    """
    values = candles.values.copy()
    other = changed_future(candles, cut, "random walk", seed)
    values[cut + 1 :, columns] = other.values[cut + 1 :, columns]
    return candles.with_candles(candles.open_ms, values)
