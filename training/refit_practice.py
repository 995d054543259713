"""What the members of one refit practise on: stretches of candles, each cut into practice and validation as a run's."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from strategy.candle_table import CandleTable
from strategy.features import WINDOW
from training.ensemble import EnsemblePlan
from training.errors import TrainingError
from training.folds import LEAST_DAYS, Fold
from training.held_out import HeldOut, fold_of
from training.history import History
from training.member_task import Candles
from training.refit_splits import DAY_MS, Span, Split

_LEAST = 2
"""Candles with a full window: one to decide on, one to fill on."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stretches:
    """Candles of several stretches of time; no history reaches from one into another.

    left_out: stretches that are too short, though some of their candles have a full window.
    """

    parts: tuple[Candles, ...]
    left_out: tuple[Span, ...] = ()

    def histories(self, max_missing: int) -> tuple[list[History], list[History]]:
        """Return what a member practises on and what scores it, of all stretches in their order."""
        practice, scored = [], []
        for part in self.parts:
            mine, theirs = part.histories(max_missing)
            practice += mine
            scored += theirs
        return practice, scored


def practice_of(tables: Sequence[CandleTable], split: Split, plan: EnsemblePlan) -> Stretches:
    """Return what the members of `split` practise on.

    Of every stretch the share that the recipe holds out is set apart at its end, as `sacd train` does it. Left out are
    stretches that are too short for that, and symbols with too few candles in one: fewer than an episode.
    Raises TrainingError when nothing is left, and says what would do.
    """
    by_span = {span: _part(tables, span, plan) for span in split.practice}
    parts = [part for part in by_span.values() if part is not None]
    if not parts:
        spans = " and ".join(span.words for span in split.practice) or "nothing"
        raise TrainingError(
            f"refit {split.name} is left with {spans} to practise on, where no file has {_least(plan)} candles with a "
            f"full window of {WINDOW} before the share of {plan.held.share:g} that scores members: give earlier "
            "candles, a later beginning, or fewer groups"
        )
    max_missing = plan.member.conditions.strategy.max_missing
    left_out = [
        span
        for span, part in by_span.items()
        if part is None and any(full_windows(table.slice(span.from_ms, span.to_ms), max_missing) for table in tables)
    ]
    return Stretches(parts=tuple(parts), left_out=tuple(left_out))


def _part(tables: Sequence[CandleTable], span: Span, plan: EnsemblePlan) -> Candles | None:
    least, max_missing = _least(plan), plan.member.conditions.strategy.max_missing
    inside = [table.slice(span.from_ms, span.to_ms) for table in tables]
    inside = [table for table in inside if full_windows(table, max_missing) >= least]
    if not inside:
        return None
    if not plan.held.is_any:
        return Candles(tables=tuple(inside), fold=None)
    if not _can_hold(inside, plan.held):
        return None
    fold = fold_of(inside, plan.held)
    kept = [table for table in inside if fold is not None and _serves(table, fold, least, max_missing)]
    return Candles(tables=tuple(kept), fold=fold) if kept else None


def _least(plan: EnsemblePlan) -> int:
    return max(plan.member.episode.length or _LEAST, _LEAST)


def _can_hold(tables: Sequence[CandleTable], held: HeldOut) -> bool:
    """Tell whether the share that is set apart comes to the days that a score needs, whatever midnight takes off."""
    begin_ms = max(int(table.open_ms[0]) for table in tables)
    end_ms = min(int(table.open_ms[-1]) for table in tables)
    return (end_ms - begin_ms) * held.share >= (LEAST_DAYS + 1) * DAY_MS


def _serves(table: CandleTable, fold: Fold, least: int, max_missing: int) -> bool:
    before = full_windows(table.slice(None, fold.practice_to_ms), max_missing)
    up_to = full_windows(table.slice(None, fold.from_ms), max_missing)
    return before >= least and full_windows(table, max_missing) - up_to >= _LEAST


def full_windows(table: CandleTable, max_missing: int) -> int:
    """Return how many candles have a full feature window."""
    return int(np.count_nonzero(_is_full(table, max_missing)))


def first_full(table: CandleTable, max_missing: int) -> int | None:
    """Return when the first candle with a full feature window opens, None when there is none."""
    found = np.flatnonzero(_is_full(table, max_missing))
    return int(table.open_ms[WINDOW - 1 + found[0]]) if found.size else None


def _is_full(table: CandleTable, max_missing: int) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    """Return (n - WINDOW + 1,) whether the windows that end at these candles lack few enough."""
    spans = table.open_ms[WINDOW - 1 :] - table.open_ms[: max(len(table) - WINDOW + 1, 0)]
    is_full: np.ndarray[tuple[int], np.dtype[np.bool_]] = spans <= (WINDOW - 1 + max_missing) * table.timeframe.span_ms
    return is_full
