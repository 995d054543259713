"""Which candles a retraining practises on, and which judge it: none of the latter has made either ensemble."""

from collections.abc import Sequence
from dataclasses import dataclass

from strategy.candle_table import CandleTable
from training.commands_common import day
from training.console import counted
from training.errors import TrainingError
from training.refit_splits import DAY_MS, Terms

LEAST_DAYS = 30
"""Fewer days say nothing of daily returns, see training/stats_bootstrap.py; whoever asks for fewer gets so many."""


class TooSoon(TrainingError):
    """Too little is unseen by both: the incumbent stays, and nothing is trained."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Practice takes the candles that open before `practice_to_ms`, the gate those in [from_ms, to_ms).

    days_unseen: how much the incumbent has not seen in all.
    """

    practice_to_ms: int
    from_ms: int
    to_ms: int
    days_unseen: float

    @property
    def days(self) -> int:
        """Whole days, UTC, that judge."""
        return (self.to_ms - self.from_ms) // DAY_MS


def split_of(tables: Sequence[CandleTable], seen_to_ms: int, holdout_days: float, now_ms: int) -> Split:
    """Return how the candles are cut: their last `holdout_days`, whole days UTC, judge; what lies before is practice.

    seen_to_ms: where the candles end that made the incumbent, those that chose its weights included. Where less is
    unseen, down to 30 days, that much judges. Between both parts as many candles are left out as between those of a
    refit, see training/refit_splits.py: practice ends before, so no reward of it reaches into what judges; windows
    look back, as they do when an ensemble serves, and the rows at the border are not learned by heart.
    Raises TooSoon when less than 30 days are unseen.
    """
    last = min(tables, key=_end_ms)
    end_ms = _end_ms(last)
    first_ms = -(-seen_to_ms // DAY_MS) * DAY_MS
    to_ms = end_ms // DAY_MS * DAY_MS
    days_unseen = max(0.0, (end_ms - seen_to_ms) / DAY_MS)
    if to_ms - first_ms < LEAST_DAYS * DAY_MS:
        raise TooSoon(_too_soon(last, first_ms, now_ms))
    from_ms = max(first_ms, to_ms - int(max(holdout_days, LEAST_DAYS)) * DAY_MS)
    purge_ms = Terms().purge * last.timeframe.span_ms
    return Split(practice_to_ms=from_ms - purge_ms, from_ms=from_ms, to_ms=to_ms, days_unseen=days_unseen)


def _end_ms(table: CandleTable) -> int:
    return int(table.open_ms[-1]) + table.timeframe.span_ms


def _too_soon(last: CandleTable, first_ms: int, now_ms: int) -> str:
    days = max(0, _end_ms(last) // DAY_MS - first_ms // DAY_MS)
    told = f"only {counted(days, 'whole day')} of candles {'is' if days == 1 else 'are'} unseen by both"
    possible_ms = first_ms + LEAST_DAYS * DAY_MS
    if possible_ms > now_ms:
        return f"{told}; {LEAST_DAYS} are needed; next possible on {day(possible_ms)}"
    return f"{told}; {LEAST_DAYS} are needed: those of {last.symbol} end {day(_end_ms(last) - 1)}: give newer ones"
