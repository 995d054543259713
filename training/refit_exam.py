"""Scores refits: what an ensemble, and each of its members alone, does on candles that its practice has not seen."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from strategy.candle_table import CandleTable
from strategy.features import WINDOW
from strategy.policy import Ensemble
from strategy.trader import Reference, Setup, Voters, Votes
from training.backtest import INITIAL_CASH
from training.ensemble import Member
from training.errors import Interrupted, TrainingError
from training.export import ExportedActor, build_actor
from training.metrics import returns_of
from training.recorder import recorded
from training.refit_splits import Span
from training.refit_tracks import closed_out
from training.track import FloatArray, Track
from training.workers import End, Link, Pool, Task


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Exam:
    """One span to trade for the members of one refit. tables: with the candles before it that fill its first windows.

    actors: of every member, None for one that could not be exported.  weights: of every member, 0 for those that are
    not in the ensemble.
    """

    tables: tuple[CandleTable, ...]
    setup: Setup
    span: Span
    actors: tuple[ExportedActor | None, ...]
    weights: tuple[float, ...]
    reference: Reference

    @property
    def joined(self) -> list[int]:
        """The members that make the ensemble."""
        return [index for index, weight in enumerate(self.weights) if weight > 0.0]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Marks:
    """What came of an exam. track: of the ensemble, closed out.  alone: (n_days, n_members) daily returns."""

    track: Track
    alone: FloatArray


class Abstaining:
    """Votes to hold, always: an ensemble without members stays in cash."""

    weights: NDArray[np.float64] = np.ones(1)

    def act(self, observations: NDArray[np.float32]) -> Votes:
        """Return (n_symbols, 1, 3) zeros."""
        return np.zeros((len(observations), 1, 3), np.float32)


def exam_of(
    tables: Sequence[CandleTable], setup: Setup, span: Span, members: Sequence[Member], reference: Reference
) -> Exam:
    """Return the exam of a refit's members in a span of `tables`."""
    # No window reaches further back; what is not handed over cannot be looked at.
    before_ms = (WINDOW + setup.strategy.max_missing) * setup.timeframe.span_ms
    return Exam(
        tables=tuple(table.slice(span.from_ms - before_ms, span.to_ms) for table in tables),
        setup=setup,
        span=span,
        actors=tuple(member.candidate.actor for member in members),
        weights=tuple(member.weight for member in members),
        reference=reference,
    )


def sit(exams: Sequence[Exam], names: Sequence[str], pool: Pool) -> list[Marks]:
    """Return what came of every exam. names: for messages.

    Raises TrainingError when one failed, such as for a span in which no window is full, and Interrupted.
    """
    found: dict[int, Marks] = {}
    with tempfile.TemporaryDirectory(prefix="sacd-refit-") as folder:
        tasks = [
            Task(name=name, run=take_exam, argument=exam, folder=Path(folder))
            for name, exam in zip(names, exams, strict=True)
        ]
        for outcome in pool.run(tasks, None, lambda *_: None):
            if outcome.end is End.STOPPED:
                raise Interrupted(f"interrupted while refits were scored: {outcome.reason}")
            if outcome.end is not End.DONE:
                raise TrainingError(f"{names[outcome.index]}: {outcome.reason}")
            found[outcome.index] = outcome.value
    return [found[index] for index in range(len(exams))]


def take_exam(_: None, exam: Exam, __: Link) -> Marks:
    """Be the task of one exam: what a pool runs."""
    joined = [(exam.actors[index], exam.weights[index]) for index in exam.joined]
    together = _voters([actor for actor, _ in joined], [weight for _, weight in joined])
    alone = [returns_of(_track(exam, _voters([actor], [1.0]))) for actor in exam.actors]
    return Marks(track=_track(exam, together), alone=np.stack(alone, axis=1))


def _voters(actors: Sequence[ExportedActor | None], weights: Sequence[float]) -> Voters:
    known = [build_actor(actor, "refit member") for actor in actors if actor is not None]
    return Ensemble(known, weights) if known else Abstaining()


def _track(exam: Exam, voters: Voters) -> Track:
    track = recorded(
        exam.tables,
        exam.setup,
        voters,
        start_ms=exam.span.from_ms,
        reference=exam.reference,
        cash=INITIAL_CASH,
        name="refit",
    )
    return closed_out(track, exam.setup)
