"""Chronological folds for a search: ever longer spans to practise on, each followed by candles that score it.

Chance and time run one way here: a fold never practises on anything later than what it is scored on.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from strategy.candle_table import CandleTable
from strategy.features import WINDOW, compute
from training.errors import TrainingError
from training.history import History

_DAY_MS = 86_400_000
LEAST_DAYS = 5
"""Days a fold is scored on at least: a spread of daily returns over fewer says nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """A split in time: practice ends before `practice_to_ms`, candles of `from_ms` .. `to_ms`, exclusive, score it."""

    index: int
    practice_to_ms: int
    from_ms: int
    to_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldSettings:
    """How a span is cut into folds.

    held: share of the span, at its end, that the folds are scored on, one after another.  gap: candles left out between
    practice and scoring.

    Episodes end inside the practice span, so no reward there depends on a scored candle. Scored windows look back into
    it, as they do when the policy serves; but the rows beside the border are nearly the same, and a policy that learned
    the last ones by heart would be paid for it: the gap is against that. Raises TrainingError for impossible values.
    """

    count: int = 3
    held: float = 0.5
    gap: int = 24

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("--folds", self.count, 1, 100),
            ("--held", self.held, 0.01, 0.95),
            ("--gap", self.gap, 0, 100_000),
        ):
            if not low <= value <= high:
                raise TrainingError(f"{name} {value}: give {low} .. {high}")


def make_folds(
    tables: Sequence[CandleTable], settings: FoldSettings, *, max_missing: int, least_practice: int
) -> list[Fold]:
    """Return the folds of the span in which every table has a full window, in order of time.

    The scored parts are whole UTC days, of equal length, and touch. least_practice: candles with a full window that
    each table needs before each fold.  Raises TrainingError when the candles do not suffice, and says what would.
    """
    starts = {table.symbol: _starts(table, max_missing) for table in tables}
    begin = max(times[0] for times in starts.values())
    end = min(int(table.open_ms[-1]) + table.timeframe.span_ms for table in tables) // _DAY_MS * _DAY_MS
    days = int((end - begin) * settings.held) // _DAY_MS // settings.count
    if days < LEAST_DAYS:
        raise TrainingError(
            f"--folds {settings.count}: {max(0, end - begin) / _DAY_MS:.1f} days have a full window in every file, of "
            f"which {settings.held:g} give {max(0, days)} whole days a fold, and {LEAST_DAYS} are the least: give more "
            "candles, fewer folds or a larger --held"
        )
    gap_ms = settings.gap * tables[0].timeframe.span_ms
    folds = []
    for index in range(settings.count):
        from_ms = end - (settings.count - index) * days * _DAY_MS
        folds.append(
            Fold(index=index, practice_to_ms=from_ms - gap_ms, from_ms=from_ms, to_ms=from_ms + days * _DAY_MS)
        )
    _require_practice(starts, folds[0], least_practice)
    return folds


def split(tables: Sequence[CandleTable], fold: Fold, max_missing: int) -> tuple[list[History], list[History]]:
    """Return what the fold practises on and what scores it. Raises TrainingError when a table has nothing for either.

    What scores starts at `from_ms`; the candles before only fill its windows.
    """
    practice = [History(table.slice(None, fold.practice_to_ms), max_missing) for table in tables]
    scored = [History(table.slice(None, fold.to_ms), max_missing, fold.from_ms) for table in tables]
    return practice, scored


def _starts(table: CandleTable, max_missing: int) -> NDArray[np.int64]:
    """Return the open times of the candles with a full window."""
    rows = compute(table.open_ms, table.values, table.timeframe.span_ms, max_missing)
    times: NDArray[np.int64] = table.open_ms[rows.is_valid]
    if times.size == 0:
        raise TrainingError(
            f"{table.symbol}: none of {len(table)} candles has a full window of {WINDOW}, of which at most "
            f"{max_missing} are missing: give more candles"
        )
    return times


def _require_practice(starts: dict[str, NDArray[np.int64]], fold: Fold, least: int) -> None:
    for symbol, times in starts.items():
        found = int(np.searchsorted(times, fold.practice_to_ms))
        if found < least:
            raise TrainingError(
                f"{symbol}: {found} candles with a full window lie before the first fold, an episode needs {least}: "
                "give earlier candles, fewer folds, a smaller --held, or a smaller episode.length"
            )
