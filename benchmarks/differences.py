"""Differences between two ensembles per decision, drawn: what the paired test is tried on.

Every maker takes a generator and (runs, decisions) and returns float64 of that shape with mean 0 and spread 1, each run
a row. Recorded ones come from two plain trend rules on recorded daily candles, where these are.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.candles import read_candles

Differences = NDArray[np.float64]
Maker = Callable[[np.random.Generator, tuple[int, int]], Differences]

_ROOT = Path(os.environ.get("SACD_TEST_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
_SYMBOLS = ("btcusdt", "ethusdt", "bnbusdt", "xrpusdt", "adausdt")
_SHIPPED_LIKE = (10, 25, 50, 100)
_RULES = {"slightly other lengths": (12, 30, 60, 100), "half as many means": (25, 100), "one long mean": (100,)}
_COST = 0.0015
_BLOCK = 20
_GARCH = (0.02, 0.1, 0.88)
"""Constant, share of the last square and share of the last variance: days in a row are alike for about two months."""


def normal(rng: np.random.Generator, shape: tuple[int, int]) -> Differences:
    """Return normal differences."""
    return rng.standard_normal(shape)


def heavy(rng: np.random.Generator, shape: tuple[int, int]) -> Differences:
    """Return differences of Student's t distribution with 3 degrees of freedom, whose variance is 3."""
    return rng.standard_t(3, shape) / np.sqrt(3.0)


def clustered(rng: np.random.Generator, shape: tuple[int, int]) -> Differences:
    """Return differences whose volatility follows itself: GARCH(1, 1), Bollerslev (1986)."""
    constant, of_square, of_variance = _GARCH
    drawn, variance = rng.standard_normal(shape), np.ones(shape[0])
    for at in range(shape[1]):
        drawn[:, at] *= np.sqrt(variance)
        variance = constant + of_square * drawn[:, at] ** 2 + of_variance * variance
    return drawn


def rare_gains(rng: np.random.Generator, shape: tuple[int, int]) -> Differences:
    """Return lognormal differences: mostly a small loss, now and then a large gain; skew 6.2."""
    return (np.exp(rng.standard_normal(shape)) - np.exp(0.5)) / np.sqrt(np.exp(2.0) - np.exp(1.0))


def rare_losses(rng: np.random.Generator, shape: tuple[int, int]) -> Differences:
    """Return their mirror image: mostly a small gain, now and then a large loss; skew -6.2."""
    return -rare_gains(rng, shape)


DRAWN: Mapping[str, Maker] = {
    "normal": normal,
    "heavy tails (t, 3 degrees)": heavy,
    "volatility in clusters (GARCH)": clustered,
    "rare large gains (skew 6.2)": rare_gains,
    "rare large losses (skew -6.2)": rare_losses,
}


# ---- recorded --------------------------------------------------------------------------------------------------------
def recorded() -> dict[str, Differences]:
    """Return (days,) differences in daily log growth between pairs of rules, by name; none where no candles lie."""
    paths = [_ROOT / "binance" / f"{symbol}-1d.csv.gz" for symbol in _SYMBOLS]
    if not all(path.is_file() for path in paths):
        return {}
    closes = [read_candles(path).values[:, 3] for path in paths]
    days = min(map(len, closes))
    closes = [close[-days:] for close in closes]
    usual = _growth(closes, _SHIPPED_LIKE)
    return {name: _growth(closes, lengths) - usual for name, lengths in _RULES.items()}


def flipped(differences: Differences, block: int = 1) -> Maker:
    """Return a maker of recorded blocks of days, each with a sign by chance: neither of the two is better."""

    def make(rng: np.random.Generator, shape: tuple[int, int]) -> Differences:
        blocks = _blocks(differences, block, rng, shape)
        return _joined(blocks * rng.choice((-1.0, 1.0), blocks.shape[:2])[:, :, None], shape)

    return make


def as_recorded(differences: Differences, block: int = _BLOCK) -> Maker:
    """Return a maker of recorded blocks of days less their mean: with whatever skew and order they have."""
    return lambda rng, shape: _joined(_blocks(differences, block, rng, shape), shape)


def _blocks(differences: Differences, block: int, rng: np.random.Generator, shape: tuple[int, int]) -> Differences:
    """Return (runs, blocks, block) days, the blocks drawn with replacement; the last day is followed by the first."""
    days = (differences - differences.mean()) / differences.std()
    starts = rng.integers(0, len(days), (shape[0], -(-shape[1] // block)))
    drawn: Differences = days[(starts[:, :, None] + np.arange(block)) % len(days)]
    return drawn


def _joined(blocks: Differences, shape: tuple[int, int]) -> Differences:
    return blocks.reshape(shape[0], -1)[:, : shape[1]]


def _growth(closes: list[Differences], lengths: tuple[int, ...]) -> Differences:
    """Return the daily log growth of an account in equal parts, each invested by the share of means below its price."""
    parts = [_part(close, lengths) for close in closes]
    return np.log1p(np.mean(parts, axis=0))


def _part(close: Differences, lengths: tuple[int, ...]) -> Differences:
    """Return daily returns after costs; the exposure of a day rests on the closes before it."""
    returns = close[1:] / close[:-1] - 1.0
    means = [np.convolve(close, np.full(length, 1.0 / length))[: len(close)] for length in lengths]
    share = np.mean([close > mean for mean in means], axis=0)
    volatility = np.array([returns[max(0, at - 14) : at].std() if at > 1 else np.inf for at in range(len(close))])
    exposure = 0.5 * share * np.minimum(1.0, 0.5 / np.sqrt(365.0) / np.maximum(volatility, 1e-9))
    start = max(_SHIPPED_LIKE)
    held = exposure[start:-1]
    traded = np.abs(np.diff(held, prepend=0.0))
    return held * returns[start:] - _COST * traded
