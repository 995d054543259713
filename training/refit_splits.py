"""How a span is cut for refits: what each of them practises on, and what it is scored on.

Walk-forward: a part is scored by members that practised on everything before it, as production would have trained them
on that day. Features look back, so the windows of the scored part reach into the candles of practice, as they do when
a policy serves; no reward of practice reaches into the scored part, for practice ends before it. `purge` candles are
left out between the two, so that the rows beside the border, which are nearly the same, are not learned by heart.

Combinatorial (Lopez de Prado 2018, Advances in Financial Machine Learning, ch. 7 and 12): the span is cut into groups,
every choice of `tested` groups is scored once by members that practised on the rest. Practice then also lies after
what is scored. There a window that reached back over the border would show scored candles to the learner: practice
goes on only `embargo` candles after a scored group, by default a whole feature window, and no candle of the group is
among what it is given. The stretches between are histories of their own, so no episode crosses a group.
"""

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

from strategy.features import WINDOW
from training.commands_common import day
from training.errors import TrainingError
from training.folds import LEAST_DAYS, FoldSettings
from training.ranges import require

DAY_MS = 86_400_000
FOLDS, GROUPS, TESTED = 4, 6, 2
_SEVERAL_YEARS = 2 * 365
_LEAST_YEAR = 90
"""Days of a calendar year that are a fold of their own; fewer belong to the year beside them."""
_MOST_SPLITS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How to cut. folds: of walk-forward; None cuts by calendar year where there are two years or more, else 4.

    groups, tested: of the combinatorial kind.  purge: candles left out before what is scored.  embargo: candles after
    it on which no practice begins; None is the feature window.  Shorter ones let practice see scored candles, though
    never what they led to.  Raises TrainingError for impossible values.
    """

    folds: int | None = None
    groups: int = GROUPS
    tested: int = TESTED
    purge: int = FoldSettings().gap
    embargo: int | None = None

    def __post_init__(self) -> None:
        if self.folds is not None:
            require("refit folds", self.folds, 1, 100)
        require("refit groups", self.groups, 2, 50)
        require("refit groups tested at once", self.tested, 1, self.groups - 1)
        require("refit purge (candles)", self.purge, 0, 100_000)
        if self.embargo is not None:
            require("refit embargo (candles)", self.embargo, 0, 1_000_000)
        if (splits := math.comb(self.groups, self.tested)) > _MOST_SPLITS:
            raise TrainingError(
                f"{self.groups} refit groups, {self.tested} tested at once, make {splits} splits, more than "
                f"{_MOST_SPLITS}: give fewer groups"
            )

    @property
    def embargo_candles(self) -> int:
        """The embargo, in candles."""
        return WINDOW - 1 if self.embargo is None else self.embargo


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A stretch of time, [from_ms, to_ms); from_ms 0 begins with the candles."""

    from_ms: int
    to_ms: int

    @property
    def words(self) -> str:
        """The days, both inclusive."""
        return f"{day(self.from_ms) if self.from_ms else 'the beginning'} .. {day(self.to_ms - 1)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """One refit. name: "fold 2", "groups 1 and 4".  groups: which parts are scored.  scored: these, in order of time.

    practice: candles that the members are given, feature windows included.
    """

    name: str
    groups: tuple[int, ...]
    scored: tuple[Span, ...]
    practice: tuple[Span, ...]


def walk_forward_splits(start_ms: int, end_ms: int, span_ms: int, terms: Terms) -> list[Split]:
    """Return the folds of [start_ms, end_ms) in order of time. span_ms: of a candle. Raises TrainingError."""
    parts = _years(start_ms, end_ms) if terms.folds is None else None
    if parts is None:
        parts = _equal(start_ms, end_ms, terms.folds or FOLDS, "folds")
    return [
        Split(
            name=f"fold {index + 1}",
            groups=(index,),
            scored=(part,),
            practice=(Span(from_ms=0, to_ms=part.from_ms - terms.purge * span_ms),),
        )
        for index, part in enumerate(parts)
    ]


def combinatorial_splits(start_ms: int, end_ms: int, span_ms: int, terms: Terms) -> list[Split]:
    """Return every choice of scored groups of [start_ms, end_ms), in lexical order. Raises TrainingError.

    Candles before `start_ms` are practised on too.
    """
    parts = _equal(start_ms, end_ms, terms.groups, "groups")
    return [
        Split(
            name=f"group{'s' * (len(groups) > 1)} {' and '.join(str(group + 1) for group in groups)}",
            groups=groups,
            scored=tuple(parts[group] for group in groups),
            practice=tuple(_around([parts[group] for group in groups], end_ms, span_ms, terms)),
        )
        for groups in combinations(range(terms.groups), terms.tested)
    ]


def paths_of(splits: Sequence[Split], groups: int) -> list[tuple[int, ...]]:
    """Return the paths: each names, group by group, the split whose members are scored on it.

    Path j takes for every group the j-th split that scores it, so every scoring belongs to exactly one path.
    """
    by_group = [[index for index, split in enumerate(splits) if group in split.groups] for group in range(groups)]
    return list(zip(*by_group, strict=True))


# ---- cutting ----------------------------------------------------------------------------------------------------
def _equal(start_ms: int, end_ms: int, count: int, what: str) -> list[Span]:
    """Return touching parts of whole UTC days that cover the span; their lengths differ by a day at most."""
    days = (end_ms - start_ms) // DAY_MS
    if days < LEAST_DAYS * count:
        raise TrainingError(
            f"{days} whole days, {Span(from_ms=start_ms, to_ms=end_ms).words}, are too few for {count} {what} of "
            f"{LEAST_DAYS} days at least: give a longer span or fewer {what}"
        )
    marks = [start_ms + days * index // count * DAY_MS for index in range(count + 1)]
    return [Span(from_ms=low, to_ms=high) for low, high in pairwise(marks)]


def _years(start_ms: int, end_ms: int) -> list[Span] | None:
    """Return the calendar years of the span, None when it has not several."""
    if (end_ms - start_ms) // DAY_MS < _SEVERAL_YEARS:
        return None
    first, last = (dt.datetime.fromtimestamp(ms / 1000, dt.UTC).year for ms in (start_ms, end_ms))
    news = [int(dt.datetime(year, 1, 1, tzinfo=dt.UTC).timestamp()) * 1000 for year in range(first + 1, last + 1)]
    least_ms = _LEAST_YEAR * DAY_MS
    marks = [start_ms, *(mark for mark in news if mark - start_ms >= least_ms and end_ms - mark >= least_ms), end_ms]
    return [Span(from_ms=low, to_ms=high) for low, high in pairwise(marks)]


def _around(scored: Sequence[Span], end_ms: int, span_ms: int, terms: Terms) -> list[Span]:
    """Return what is left for practice, with the candles that its first windows take."""
    ends = [part.from_ms - terms.purge * span_ms for part in scored]
    left = [Span(from_ms=0, to_ms=ends[0])]
    for part, to_ms in zip(scored, [*ends[1:], end_ms], strict=True):
        first_row_ms = part.to_ms + terms.embargo_candles * span_ms
        if first_row_ms < to_ms:
            left.append(Span(from_ms=first_row_ms - (WINDOW - 1) * span_ms, to_ms=to_ms))
    return left
