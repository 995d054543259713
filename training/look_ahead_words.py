"""What a leak looks like, and in words what is likely wrong."""

from collections import Counter
from dataclasses import dataclass

from training.look_ahead_futures import CUT_OFF

_PERIODS_MS = {"4 hours": 14_400_000, "UTC day": 86_400_000, "UTC week": 604_800_000}
_MONDAY_MS = 4 * 86_400_000
"""Weeks begin on Mondays; 1970-01-01 was a Thursday."""
_MANY = 12
"""Findings from which on a pattern is no coincidence."""
_MOSTLY = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Signs:
    """What was seen of one leaking output, one entry per comparison that showed it.

    distances: candles from the first row that changed to the first candle that did.  row_ms, cut_ms: open times of that
    row and of the last candle that had not changed.  kinds: of the changes that showed it.  to_end: rows changed with
    the last candle of the history.  reads: what of later candles matters.
    """

    distances: tuple[int, ...]
    kinds: tuple[str, ...]
    row_ms: tuple[int, ...]
    cut_ms: tuple[int, ...]
    span_ms: int
    to_end: bool
    reads: tuple[str, ...]


def words_of(signs: Signs) -> str:
    """Return what is likely wrong with the output."""
    reach = max(signs.distances)
    if signs.kinds == (CUT_OFF,) and not signs.reads:
        return "depends on how many candles follow, whatever they hold: nothing may depend on the length of a history"
    of = f" (only their {' and '.join(signs.reads)})" if len(signs.reads) == 1 else ""
    if signs.to_end:
        return (
            f"uses the whole history to its end{of}: a mean, spread, extreme, rank or fit over all rows; make it "
            "expanding or rolling"
        )
    if reach == 1:
        return f"uses candle t+1{of}: shifted by -1, or joined with a candle that had not closed"
    if (period := _period(signs)) is not None:
        return (
            f"uses candles to the end of its {period}{of}, up to t+{reach}: resampled and labelled at the start; take "
            "the last one that is complete"
        )
    if _is_constant(signs):
        return f"uses candle t+{reach}{of}: shifted by -{reach}, or a centred window of {2 * reach + 1}"
    return (
        f"uses later candles{of}, at most t+{reach}, another number each time: values filled backwards, or an event "
        "marked before it was known"
    )


def _is_constant(signs: Signs) -> bool:
    return Counter(signs.distances)[max(signs.distances)] >= _MOSTLY * len(signs.distances)


def _period(signs: Signs) -> str | None:
    """Return the shortest period in which every changed row lay together with the first changed candle."""
    if len(signs.distances) < _MANY or _is_constant(signs):
        return None
    for name, period_ms in _PERIODS_MS.items():
        shift = _MONDAY_MS if period_ms > _PERIODS_MS["UTC day"] else 0
        pairs = zip(signs.row_ms, signs.cut_ms, strict=True)
        if all((row - shift) // period_ms == (cut + signs.span_ms - shift) // period_ms for row, cut in pairs):
            return name
    return None
