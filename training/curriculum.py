"""A curriculum: which stretches of the candles are easy, which are hard, by what was measured in them.

The candles to practise on are cut into windows of equal length. Two things are measured in each: volatility, the
annualised spread of the returns from candle to candle, and cost, what buying and selling again takes of the typical
move over some days. Windows are ranked by the mean of both ranks and dealt into three stages of equal size.

Why both: a quiet market is gentle but may never move far enough to pay for a trade; a wild one pays for trades, but
noise drowns what could be learned and stops cut positions off. The two ranks pull against each other unless noise and
moves part ways. So easy are the windows in which little noise carries prices far, the steady trends; hard are those
that shake and go nowhere, where every trade costs much of what it can earn. The stages differ by less than either
measure alone would make them: on BTC and ETH hours of 2018 to 2020 the ranks correlate by -0.91, and the medians are
74 % volatility and a cost of 5.4 % of the move for easy, 81 % and 7.0 % for hard.

In each stage the last windows in time are held out: they score it, and what the stage practises on lies before them,
also of other symbols, since all of them move together.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strategy.features import WINDOW
from strategy.parameters import CostModel
from training.episode import Episode
from training.errors import TrainingError
from training.history import History
from training.ranges import require

STAGES = ("easy", "medium", "hard")
LEAST_WINDOWS = 2
"""Per stage: one to practise on, one to be scored on."""
_DAY_MS = 86_400_000
_LEAST_STEPS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Curriculum:
    """How to go from easy to hard.

    days: length of a window.  move_days: over how long a move counts, at most half a window: long enough for a trend to
    show, short enough for many in a window.  thresholds: the score in each stage from which the next one begins.
    tries: how often a stage is practised at most.  held: share of a stage's windows that score.  share: of all steps
    that the tries take together if every one is needed; what is left is practised on all candles.
    Raises TrainingError for impossible values.
    """

    days: int = 90
    move_days: int = 5
    thresholds: tuple[float, float, float] = (0.5, 1.0, 1.5)
    tries: int = 3
    held: float = 1 / 3
    share: float = 0.5

    def __post_init__(self) -> None:
        require("curriculum days", self.days, 2, 3_650)
        require("curriculum move_days", self.move_days, 1, 3_650)
        require("curriculum tries", self.tries, 1, 100)
        require("curriculum held", self.held, 0.01, 0.9)
        require("curriculum share", self.share, 0.01, 0.9)
        if not isinstance(self.thresholds, tuple) or len(self.thresholds) != len(STAGES):
            raise TrainingError(f"curriculum thresholds {self.thresholds!r}: give one for each of {', '.join(STAGES)}")
        for name, threshold in zip(STAGES, self.thresholds, strict=True):
            require(f"curriculum threshold {name}", threshold, -100.0, 100.0)

    def steps_of_a_try(self, steps: int) -> int:
        """Return how many of a member's steps one try takes. Raises TrainingError when they are too few to learn."""
        each = int(steps * self.share) // (len(STAGES) * self.tries)
        if each < _LEAST_STEPS:
            raise TrainingError(
                f"--steps {steps}: a curriculum of {len(STAGES)} stages with {self.tries} tries each leaves {each} "
                f"steps for a try, {_LEAST_STEPS} are the least: give more steps or fewer tries"
            )
        return each


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A stretch of one history. history: its index.  first, end: indices of its candles, [first, end).

    from_ms, to_ms: open of its first candle, close of its last.
    volatility: annualised standard deviation of logarithmic returns.  move: median of the absolute logarithmic move
    over the curriculum's move_days.  cost: of buying and selling again, as a share of `move`.
    """

    history: int
    symbol: str
    first: int
    end: int
    from_ms: int
    to_ms: int
    volatility: float
    move: float
    cost: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One step of the curriculum. practice, held: its windows, in order of time, the latter after the former."""

    name: str
    threshold: float
    practice: tuple[Window, ...]
    held: tuple[Window, ...]

    @property
    def windows(self) -> tuple[Window, ...]:
        """All windows."""
        return self.practice + self.held

    def to_json(self) -> dict[str, Any]:
        """Return what was measured, as JSON types: medians over the windows."""
        return {
            "stage": self.name,
            "windows": len(self.windows),
            "held_out": len(self.held),
            "volatility": float(np.median([window.volatility for window in self.windows])),
            "move": float(np.median([window.move for window in self.windows])),
            "cost": float(np.median([window.cost for window in self.windows])),
            "threshold": self.threshold,
        }


def windows_of(histories: Sequence[History], curriculum: Curriculum, costs: CostModel) -> list[Window]:
    """Return the windows of every history, the last one ending with its last candle.

    Left out are what is too short for a window at the beginning, windows of which half the candles or more show no full
    feature window (in the others an episode of half the length can begin), and those in which prices hardly moved.
    """
    found = []
    for index, history in enumerate(histories):
        count = curriculum.days * _candles_per_day(history)
        for end in range(len(history.candles), int(history.starts[0]) + count - 1, -count):
            first = end - count
            seen = np.count_nonzero((history.starts >= first) & (history.starts < end))
            volatility, move = _measured(history, first, end, min(curriculum.move_days, curriculum.days // 2))
            if 2 * seen > count and move > 0.0:
                found.append(
                    Window(
                        history=index,
                        symbol=history.symbol,
                        first=first,
                        end=end,
                        from_ms=int(history.table.open_ms[first]),
                        to_ms=int(history.table.open_ms[end - 1]) + history.table.timeframe.span_ms,
                        volatility=volatility,
                        move=move,
                        cost=costs.round_trip_rate / move,
                    )
                )
    return sorted(found, key=lambda window: (window.from_ms, window.symbol))


def make_stages(histories: Sequence[History], curriculum: Curriculum, costs: CostModel) -> tuple[Stage, ...]:
    """Return the stages from easy to hard. Raises TrainingError when the candles give too few windows."""
    windows = windows_of(histories, curriculum, costs)
    least = LEAST_WINDOWS * len(STAGES)
    if len(windows) < least:
        raise TrainingError(
            f"--curriculum: the candles to practise on give {len(windows)} windows of {curriculum.days} days, and "
            f"{len(STAGES)} stages need {least}: give more candles, or shorter windows with --curriculum-days"
        )
    difficulty = _difficulty(windows)
    order = sorted(range(len(windows)), key=lambda at: (difficulty[at], windows[at].volatility, at))
    parts = np.array_split(np.array(order), len(STAGES))
    return tuple(
        _stage(name, threshold, [windows[at] for at in sorted(part.tolist())], curriculum.held)
        for name, threshold, part in zip(STAGES, curriculum.thresholds, parts, strict=True)
    )


def practice_of(histories: Sequence[History], stage: Stage, episode: Episode) -> tuple[list[History], Episode]:
    """Return the histories that a stage practises on, and its episodes: they begin and end within one window.

    An episode is half a window long at most, so that there are many to begin. A history without a window of the stage
    is left out.
    """
    length = min(_length_of(stage), episode.length or _length_of(stage))
    shortest = None if episode.shortest is None else min(episode.shortest, length)
    practised = []
    for index, history in enumerate(histories):
        starts = [_starts_within(history, window, length) for window in stage.practice if window.history == index]
        if starts:
            practised.append(_restricted(history, np.concatenate(starts)))
    return practised, replace(episode, length=length, shortest=shortest)


def held_of(histories: Sequence[History], stage: Stage, max_missing: int) -> list[History]:
    """Return each window that scores a stage as a history of its own; feature windows look back before it."""
    held = []
    for window in stage.held:
        table = histories[window.history].table
        last_ms = int(table.open_ms[window.end - 1])
        before_ms = int(table.open_ms[max(0, window.first - WINDOW + 1)])
        held.append(History(table.slice(before_ms, last_ms + 1), max_missing, from_ms=window.from_ms))
    return held


# ---- measuring --------------------------------------------------------------------------------------------------
def _measured(history: History, first: int, end: int, move_days: int) -> tuple[float, float]:
    """Return volatility and move of a window; zeros where too many candles are missing to tell."""
    table = history.table
    frame = table.timeframe
    open_ms, logs = table.open_ms[first:end], np.log(table.values[first:end, 3])
    returns = _moves(open_ms, logs, 1, frame.span_ms)
    moves = np.abs(_moves(open_ms, logs, move_days * _candles_per_day(history), frame.span_ms))
    if returns.size < 2 or not moves.size:  # noqa: PLR2004 - a spread needs two
        return 0.0, 0.0
    return float(np.std(returns, ddof=1) * np.sqrt(frame.candles_per_year)), float(np.median(moves))


def _moves(open_ms: NDArray[np.int64], logs: NDArray[np.float64], lag: int, span_ms: int) -> NDArray[np.float64]:
    """Return the moves over `lag` candles between which none is missing."""
    is_whole = open_ms[lag:] - open_ms[:-lag] == lag * span_ms
    moves: NDArray[np.float64] = (logs[lag:] - logs[:-lag])[is_whole]
    return moves


def _candles_per_day(history: History) -> int:
    span_ms = history.table.timeframe.span_ms
    if _DAY_MS % span_ms:
        raise TrainingError(
            f"--curriculum: candles of {history.table.timeframe.name} do not divide a day: give candles that do"
        )
    return int(_DAY_MS // span_ms)


def _difficulty(windows: Sequence[Window]) -> NDArray[np.float64]:
    volatility = _ranks(np.array([window.volatility for window in windows]))
    cost = _ranks(np.array([window.cost for window in windows]))
    return (volatility + cost) / 2.0


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the ranks 0, 1, 2 ... of values, the mean of them for equal ones."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks: NDArray[np.float64] = ((ends - counts) + (ends - 1))[place] / 2.0
    return ranks


# ---- dealing ----------------------------------------------------------------------------------------------------
def _stage(name: str, threshold: float, windows: Sequence[Window], held: float) -> Stage:
    """Hold out about a share of the windows, which are in order of time; those that overlap them stand aside."""
    count = min(max(round(len(windows) * held), 1), len(windows) - 1)
    from_ms = windows[-count].from_ms
    practice = tuple(window for window in windows if window.to_ms <= from_ms)
    if not practice:
        raise TrainingError(
            f"--curriculum: all windows of the stage {name} lie at the same time, so that none is left to practise on "
            "before those that score: give more candles, or shorter windows with --curriculum-days"
        )
    return Stage(
        name=name,
        threshold=threshold,
        practice=practice,
        held=tuple(window for window in windows if window.from_ms >= from_ms),
    )


def _length_of(stage: Stage) -> int:
    return (stage.practice[0].end - stage.practice[0].first) // 2


def _starts_within(history: History, window: Window, length: int) -> NDArray[np.int64]:
    # An episode of n steps ends on the n-th candle after the one it starts on, which must still be the window's.
    is_inside = (history.starts >= window.first) & (history.starts + length < window.end)
    starts: NDArray[np.int64] = history.starts[is_inside]
    return starts


def _restricted(history: History, starts: NDArray[np.int64]) -> History:
    """Return the same history with fewer candles that an episode can start on."""
    own = copy.copy(history)
    own.starts = starts
    return own
