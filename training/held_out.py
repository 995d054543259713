"""Sets the end of the candles apart: members are scored on it and never practise there."""

from collections.abc import Sequence
from dataclasses import dataclass

from strategy.candle_table import CandleTable
from training.errors import TrainingError
from training.folds import LEAST_DAYS, Fold, FoldSettings, split
from training.history import History
from training.ranges import require

_DAY_MS = 86_400_000
MOST = 0.9
"""The largest share that may be set apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """How much is set apart: the last `share` of the span, or what opens at `from_ms` or later. Share 0: nothing.

    Raises TrainingError for impossible shares.
    """

    share: float = 0.2
    from_ms: int | None = None

    def __post_init__(self) -> None:
        require("--validation", self.share, 0.0, MOST)

    @property
    def is_any(self) -> bool:
        """True when something is set apart."""
        return self.from_ms is not None or self.share > 0.0


def fold_of(tables: Sequence[CandleTable], held: HeldOut) -> Fold | None:
    """Return the split in time, None when nothing is set apart.

    A share begins at midnight UTC, so that its daily returns are whole. Some candles before the border are left out of
    both parts, see `FoldSettings`. Raises TrainingError when what is set apart lies outside the candles or is short.
    """
    if not held.is_any:
        return None
    span_ms = tables[0].timeframe.span_ms
    begin = max(int(table.open_ms[0]) for table in tables)
    end = min(int(table.open_ms[-1]) for table in tables) + span_ms
    told = f"--validation {held.share:g}"
    from_ms = int(end - (end - begin) * held.share) // _DAY_MS * _DAY_MS
    if held.from_ms is not None:
        from_ms, told = held.from_ms, "--validation-from"
    days = (end - from_ms) / _DAY_MS
    if days < LEAST_DAYS or from_ms <= begin:
        raise TrainingError(
            f"{told} sets {max(0.0, days):.1f} of {(end - begin) / _DAY_MS:.1f} days apart: a score needs {LEAST_DAYS} "
            "days at least, and practice needs some before; give more candles, another share, or --validation 0"
        )
    last_ms = max(int(table.open_ms[-1]) for table in tables) + span_ms
    return Fold(index=0, practice_to_ms=from_ms - FoldSettings().gap * span_ms, from_ms=from_ms, to_ms=last_ms)


def histories_of(
    tables: Sequence[CandleTable], fold: Fold | None, max_missing: int
) -> tuple[list[History], list[History]]:
    """Return the candles to practise on and those to be scored on; the windows of the latter look back.

    Raises TrainingError when a table has too few for either.
    """
    if fold is None:
        return [History(table, max_missing) for table in tables], []
    try:
        return split(tables, fold, max_missing)
    except TrainingError as error:
        raise TrainingError(f"{error}, or set less apart with --validation") from error
