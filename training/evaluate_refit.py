"""Trains a bundle's recipe anew on other spans, and scores every refit on candles that its training has not seen.

A frozen ensemble has one track record, and one can be luck. Refits ask another question: does the recipe, carried out
without knowing what comes, lead to ensembles that earn? Walk-forward asks it as production would have; its track is
what a person would have had who retrained at each fold. Combinatorial folds ask it for many orders of the same time;
their paths are no track records, since practice lies after what is scored, but their spread shows how much of a Sharpe
ratio is owed to the one order in which things happened. How spans are cut: training/refit_splits.py.

Every part begins flat and sells out at its end, costs included, so that parts can stand in any order.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from strategy.candle_table import CandleTable
from strategy.features import WINDOW
from strategy.trader import Reference, Setup
from training.commands_common import day
from training.ensemble import Member
from training.errors import TrainingError
from training.evaluation import Part, Refit
from training.metrics import returns_of, sharpe_ratio
from training.reference import reference_of
from training.refit_exam import Exam, Marks, exam_of, sit
from training.refit_practice import Stretches, first_full, practice_of
from training.refit_recipe import Recipe
from training.refit_splits import DAY_MS, Split, Terms, combinatorial_splits, paths_of, walk_forward_splits
from training.refit_tracks import joined, part_of
from training.refit_train import Place, Tell, train_refits
from training.stats_overfitting import overfitting
from training.track import FloatArray, Track
from training.trials import Ledger
from training.workers import Pool

WALK_FORWARD, COMBINATORIAL = "walk-forward", "combinatorial"
Warn = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Asked:
    """What is to be refitted. recipe: training/refit_recipe.py.  tables: one for each symbol, whole.

    Members practise on the symbols of the recipe, before [start_ms, end_ms) too; all of `tables` are traded, under
    `setup`.  end_ms: None goes to the last candle.  ledger: where the members are counted as trials.  keep: folder
    where finished members wait for another evaluation, None keeps nothing.
    """

    recipe: Recipe
    tables: Sequence[CandleTable]
    setup: Setup
    start_ms: int
    end_ms: int | None = None
    terms: Terms = field(default_factory=Terms)
    ledger: Ledger | None = None
    keep: Path | None = None


def walk_forward(
    asked: Asked, pool: Pool, *, tell: Tell | None = None, warn: Warn | None = None
) -> tuple[Refit, Track]:
    """Return how the recipe did when it was trained anew before each fold, and the track of the folds together.

    tell: steps done and in all.  warn: told what a reader must know, in words.  The same recipe and candles give the
    same result, however many workers the pool has.
    Raises TrainingError when the candles do not suffice, and says what would, before anything is trained; also when a
    member could not be brought to an end. Raises Interrupted when the pool was stopped.
    """
    splits = walk_forward_splits(*_span(asked), asked.setup.timeframe.span_ms, asked.terms)
    done = _refitted(asked, splits, pool, tell, warn)
    marks = [each[0] for each in done.marks]
    track = joined([each.track for each in marks], done.columns, asked.recipe.plan.members, WALK_FORWARD)
    returns = np.concatenate([returns_of(each.track) for each in marks])
    refit = Refit(
        kind=WALK_FORWARD,
        folds=done.parts,
        sharpes=(sharpe_ratio(returns),),
        overfitting=_overfitting([np.concatenate([each.alone for each in marks])]),
    )
    return refit, track


def combinatorial(asked: Asked, pool: Pool, *, tell: Tell | None = None, warn: Warn | None = None) -> Refit:
    """Return how the recipe did on every choice of groups, and the Sharpe ratio of every path through them.

    Arguments and errors are those of `walk_forward`. overfitting: of the seeds, the mean over the paths.
    """
    splits = combinatorial_splits(*_span(asked), asked.setup.timeframe.span_ms, asked.terms)
    done = _refitted(asked, splits, pool, tell, warn)
    paths = [
        [done.marks[at][splits[at].groups.index(group)] for group, at in enumerate(path)]
        for path in paths_of(splits, asked.terms.groups)
    ]
    return Refit(
        kind=COMBINATORIAL,
        folds=done.parts,
        sharpes=tuple(sharpe_ratio(np.concatenate([returns_of(each.track) for each in path])) for path in paths),
        overfitting=_overfitting([np.concatenate([each.alone for each in path]) for path in paths]),
    )


# ---- the work ---------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Done:
    """What came of all splits. marks: by split, of each part it is scored on.  columns: the members that joined."""

    marks: list[list[Marks]]
    columns: list[list[int]]
    parts: tuple[Part, ...]


def _refitted(asked: Asked, splits: Sequence[Split], pool: Pool, tell: Tell | None, warn: Warn | None) -> _Done:
    practices = _practices(asked, splits, warn)
    called = [f"refit of {asked.recipe.bundle[:16]}, {split.name}" for split in splits]
    place = Place(keep=asked.keep, ledger=asked.ledger, names=called)
    refits = train_refits(practices, asked.recipe.plan, pool, place, tell=tell)
    _warn_of_empty(splits, refits, warn)
    exams, names = _exams(asked, splits, practices, refits)
    marks = iter(sit(exams, names, pool))
    by_split = [[next(marks) for _ in split.scored] for split in splits]
    return _Done(
        marks=by_split,
        columns=[[index for index, member in enumerate(members) if member.weight > 0.0] for members in refits],
        parts=tuple(
            part_of(split.name, [each.track for each in mine], asked.setup)
            for split, mine in zip(splits, by_split, strict=True)
        ),
    )


def _exams(
    asked: Asked, splits: Sequence[Split], practices: Sequence[Stretches], refits: Sequence[Sequence[Member]]
) -> tuple[list[Exam], list[str]]:
    exams, names = [], []
    for split, practice, members in zip(splits, practices, refits, strict=True):
        reference = _reference(asked, practice)
        for span in split.scored:
            exams.append(exam_of(asked.tables, asked.setup, span, members, reference))
            names.append(f"refit {split.name}, {span.words}")
    return exams, names


def _reference(asked: Asked, practice: Stretches) -> Reference:
    histories, _ = practice.histories(asked.recipe.plan.member.conditions.strategy.max_missing)
    stored = reference_of([history.rows for history in histories])
    return Reference.of(stored.mean, stored.std, stored.limit)


def _overfitting(paths: Sequence[FloatArray]) -> float | None:
    """Return the mean of what the paths say, None when one says nothing."""
    found = [overfitting(path) for path in paths]
    told = [each.probability for each in found if each is not None]
    return float(np.mean(told)) if len(told) == len(paths) else None


# ---- before the work --------------------------------------------------------------------------------------------
def _span(asked: Asked) -> tuple[int, int]:
    """Return the whole UTC days that can be scored: those from the first full window of any file on."""
    max_missing = asked.setup.strategy.max_missing
    firsts = [first for table in asked.tables if (first := first_full(table, max_missing)) is not None]
    last_ms = max(int(table.open_ms[-1]) for table in asked.tables) + asked.setup.timeframe.span_ms
    begin_ms = max(asked.start_ms, min(firsts, default=last_ms))
    end_ms = last_ms if asked.end_ms is None else min(asked.end_ms, last_ms)
    start_ms, end_ms = -(-begin_ms // DAY_MS) * DAY_MS, end_ms // DAY_MS * DAY_MS
    if end_ms <= start_ms:
        raise TrainingError(
            f"refits: from {day(begin_ms)}, where the span or the first full feature window begins, no whole day is "
            "left: give more candles or an earlier beginning"
        )
    return start_ms, end_ms


def _practices(asked: Asked, splits: Sequence[Split], warn: Warn | None) -> list[Stretches]:
    recipe, frame = asked.recipe, asked.setup.timeframe.name
    if frame != recipe.timeframe:
        raise TrainingError(f"refits: the recipe is for {recipe.timeframe} candles, the data has {frame}: give those")
    known = [table for table in asked.tables if table.symbol in recipe.symbols]
    if not known:
        raise TrainingError(
            f"refits: the recipe practises on {', '.join(recipe.symbols)}, of which no file is given: give one"
        )
    practices = [practice_of(known, split, recipe.plan) for split in splits]
    if warn is not None:
        _warn_of_practice(asked, splits, practices, warn)
    return practices


def _warn_of_practice(asked: Asked, splits: Sequence[Split], practices: Sequence[Stretches], warn: Warn) -> None:
    if len(splits[0].practice) > 1 and asked.terms.embargo_candles < WINDOW - 1:
        warn(
            f"refits practised from {asked.terms.embargo_candles} candles after what scores them on: their feature "
            f"windows of {WINDOW} candles showed them prices of it"
        )
    for split, practice in zip(splits, practices, strict=True):
        for span in practice.left_out:
            warn(
                f"refit {split.name} left {span.words} out: too short for its windows, an episode and the share that "
                "scores members"
            )
        there = {table.symbol for part in practice.parts for table in part.tables}
        if missing := [symbol for symbol in asked.recipe.symbols if symbol not in there]:
            warn(f"refit {split.name} practised without {', '.join(missing)}: too few candles outside what scores it")


def _warn_of_empty(splits: Sequence[Split], refits: Sequence[Sequence[Member]], warn: Warn | None) -> None:
    for split, members in zip(splits, refits, strict=True):
        if warn is not None and not any(member.weight > 0.0 for member in members):
            faults = "; ".join(f"member {index}: {member.fault}" for index, member in enumerate(members))
            warn(f"refit {split.name} made no ensemble and stayed in cash ({faults})")
