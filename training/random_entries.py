"""Accounts that enter and leave at random as often as an ensemble did: what luck with its turnover would earn."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from strategy.candle_table import CandleTable
from strategy.trader import Setup
from training.evaluation import RandomEntries
from training.exposures import FloatArray, Grid, Worths, worths
from training.metrics import daily_returns, sharpe_ratio
from training.rules import grid_of
from training.track import Track

DRAWS = 1_000
_PILOT = 48
_NAME = "random entries"
_DUST = 1e-4
"""Share of equity below which a symbol counts as not held: a remainder that no venue would buy."""
_QUANTILES = (0.05, 0.5, 0.95)


@dataclass(frozen=True, slots=True, kw_only=True)
class Habit:
    """How one symbol was traded, and how random entries trade it.

    trips: from nothing to nothing, as many as make the same turnover: no whole number, and at least 1 where anything
    was held.  candles: on which anything was held.  size: share of the symbol's capital, mean over those.
    """

    trips: float
    candles: int
    size: float


def random_entries(
    tables: Sequence[CandleTable], setup: Setup, ensemble: Track, *, draws: int = DRAWS, seed: int = 0
) -> RandomEntries:
    """Return how the ensemble's Sharpe ratio stands among those of random entries with its exposure and turnover.

    In each draw and each symbol the same number of candles is spent invested, in spells of random length at random
    times, filled and paid for as the ensemble's orders are. Adding to a position and taking from it is turnover too:
    the number of spells is what gives as much as the ensemble's trades of every kind.
    Draws that never trade have no Sharpe ratio and are left out; the ratios are None when none is left.
    Raises TrainingError when `tables` are not the candles that the ensemble traded.
    """
    grid = grid_of(tables, setup, ensemble)
    found = drawn(grid, ensemble, draws, seed)
    times = np.concatenate([ensemble.close_ms[:1], ensemble.close_ms])
    ours = sharpe_ratio(daily_returns(times, ensemble.equity))
    defined = found.sharpe[~np.isnan(found.sharpe)]
    if not len(defined):
        return RandomEntries(draws=draws, percentile=None, low=None, median=None, high=None, median_return=None)
    low, median, high = np.quantile(defined, _QUANTILES).tolist()
    return RandomEntries(
        draws=draws,
        percentile=None if ours is None else float(np.mean(defined < ours)),
        low=low,
        median=median,
        high=high,
        median_return=float(np.median(found.total_return)),
    )


def drawn(grid: Grid, ensemble: Track, draws: int, seed: int) -> Worths:
    """Return what so many random accounts were worth that are invested and turned over as `ensemble` was."""
    first, second = np.random.default_rng(seed).spawn(2)
    cash = float(ensemble.equity[0])
    habits = [_habit(grid, ensemble, index) for index in range(len(grid.symbols))]
    pilot = worths(grid, _targets(grid, habits, _PILOT, first), cash=cash, dead_band=0.0, name=_NAME)
    habits = _corrected(habits, pilot, ensemble)
    return worths(grid, _targets(grid, habits, draws, second), cash=cash, dead_band=0.0, name=_NAME)


def _habit(grid: Grid, ensemble: Track, index: int) -> Habit:
    part, rows = ensemble.symbols[index], grid.candles_of(grid.symbols[index])
    exposure = part.exposure[rows]
    held = exposure > _DUST
    if not held.any():
        return Habit(trips=0.0, candles=0, size=0.0)
    size = float(np.mean(exposure[held])) * len(grid.symbols)
    fills = [fill for fill in ensemble.fills if fill.symbol == part.symbol]
    # equity[i] is what the account was worth when candle i opened.
    before = ensemble.equity[np.searchsorted(ensemble.close_ms, [fill.at_ms + 1 for fill in fills])]
    traded = np.array([fill.notional for fill in fills]) / before
    trips = float(np.sum(traded)) * len(grid.symbols) / (2.0 * size)
    return Habit(trips=max(trips, 1.0), candles=int(held.sum()), size=min(size, 1.0))


def _corrected(habits: Sequence[Habit], pilot: Worths, ensemble: Track) -> list[Habit]:
    """Return habits that make the ensemble's exposure and turnover where the pilot's made others.

    A position drifts with its price, is filled late, and is let go at another price than it was bought at.
    """
    turnover = sum(fill.notional for fill in ensemble.fills) / float(np.mean(ensemble.equity[1:]))
    exposure = float(np.mean(ensemble.exposure))
    had_exposure, had_turnover = float(np.mean(pilot.exposure)), float(np.mean(pilot.turnover))
    if min(had_exposure, had_turnover, exposure, turnover) <= 0.0:
        return list(habits)
    scale = exposure / had_exposure
    often = turnover / had_turnover / scale
    return [
        replace(h, trips=max(1.0, h.trips * often), size=min(1.0, h.size * scale)) if h.trips else h for h in habits
    ]


def _targets(grid: Grid, habits: Sequence[Habit], draws: int, generator: np.random.Generator) -> Iterator[FloatArray]:
    for _ in range(draws):
        targets = grid.no_wish()
        for index, habit in enumerate(habits):
            rows = grid.candles_of(grid.symbols[index])
            entries, exits = spells(len(rows), habit, generator)
            targets[rows[entries], index] = habit.size
            targets[rows[exits[exits < len(rows)]], index] = 0.0
        yield targets


def spells(n: int, habit: Habit, generator: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where random spells among `n` candles begin, and where they end (n: they do not), ascending.

    Every way to place them is equally likely. A fraction of a spell is a whole one in as many draws. A spell lasts one
    candle at least, and so does the time between two; where so many find no room, fewer candles are spent invested.
    """
    whole = int(habit.trips) + int(generator.random() < habit.trips % 1.0)
    trips = min(whole, n // 2)
    if trips == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    candles = int(np.clip(habit.candles, trips, n - trips + 1))
    lengths = _parts(candles, trips, generator)
    # Two more candles than there are, one before and one after, so that the first and the last gap may be empty.
    gaps = _parts(n - candles + 2, trips + 1, generator)
    gaps[0] -= 1
    entries = np.cumsum(gaps[:-1]) + np.concatenate([[0], np.cumsum(lengths)[:-1]])
    return entries, entries + lengths


def _parts(total: int, count: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Return `count` whole numbers of at least 1 that add up to `total`, (count,); every choice is equally likely."""
    cuts = np.sort(generator.choice(total - 1, count - 1, replace=False, shuffle=False)) + 1
    return np.diff(np.concatenate([[0], cuts, [total]])).astype(np.int64)
