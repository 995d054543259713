"""What an ensemble does on the candles that judge it: the daemon's own trader, and a look at every vote."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from strategy.bundle import Bundle
from strategy.candle_table import CandleTable
from strategy.conduct import SATURATED
from strategy.errors import StrategyError
from strategy.features import WINDOW
from strategy.trader import Setup, Voters, Votes
from training.backtest import INITIAL_CASH
from training.bundles import reference_of
from training.recorder import recorded, scaled
from training.retrain_split import Split
from training.track import Track


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Exam:
    """The candles that judge, and what an account trades them under. tables: with those that fill the first windows."""

    tables: tuple[CandleTable, ...]
    setup: Setup
    from_ms: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shown:
    """What an ensemble did. track: of its account, from the first candle with a full window on.

    asked: how often it was asked for votes.  failed: how often it had none that are numbers.  saturated: share of its
    members' directions that lie at an end of their range.
    """

    track: Track
    asked: int
    failed: int
    saturated: float


class Watched:
    """Voters whose votes are counted: how many there were, failed, or stood at an end of their range."""

    def __init__(self, voters: Voters) -> None:
        self.weights: NDArray[np.float64] = voters.weights
        self.asked = self.failed = self.directions = self.saturated = 0
        self._voters = voters

    def act(self, observations: NDArray[np.float32]) -> Votes:
        """Return the votes as they are. Raises StrategyError when the voters do."""
        self.asked += len(observations)
        try:
            votes = self._voters.act(observations)
        except StrategyError:
            self.failed += len(observations)
            raise
        self.failed += int(np.count_nonzero(~np.isfinite(votes).all(axis=(1, 2))))
        self.directions += votes[..., 0].size
        self.saturated += int(np.count_nonzero(np.abs(votes[..., 0]) > SATURATED))
        return votes


def exam_of(tables: Sequence[CandleTable], setup: Setup, split: Split) -> Exam:
    """Return the exam that `split` cuts from whole histories."""
    # No window reaches further back; what is not handed over cannot be looked at.
    before_ms = (WINDOW + setup.strategy.max_missing) * setup.timeframe.span_ms
    return Exam(
        tables=tuple(table.slice(split.from_ms - before_ms, split.to_ms) for table in tables),
        setup=setup,
        from_ms=split.from_ms,
    )


def sit(exam: Exam, bundle: Bundle, *, costs: float = 1.0, progress: Callable[[int], None] | None = None) -> Shown:
    """Return what `bundle` does on the candles of an exam, under fees and slippage `costs` times as high.

    progress: told how many candles are done.  Raises TrainingError when no window is full, InvalidParameters for costs
    beyond 10 %.
    """
    voters = Watched(bundle.ensemble)
    track = recorded(
        exam.tables,
        scaled(exam.setup, costs),
        voters,
        start_ms=exam.from_ms,
        reference=reference_of(bundle),
        cash=INITIAL_CASH,
        name=bundle.manifest.short_id,
        progress=progress,
    )
    return Shown(
        track=track,
        asked=voters.asked,
        failed=voters.failed,
        saturated=voters.saturated / voters.directions if voters.directions else 0.0,
    )
