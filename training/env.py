"""The Gymnasium environment: the trader's own path with the learner's action where the ensemble votes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from strategy.candle import Candle
from strategy.candle_table import CandleTable
from strategy.decision import ACTION_HIGH, ACTION_LOW
from strategy.features import WINDOW, ComputedFeatures, FeatureTable, compute
from strategy.observation import N_OBSERVATION, OBSERVATION_LIMIT
from strategy.order import OrderReport
from strategy.session import Session
from strategy.trader import Outcome, Reference, Setup, Sight, Trader, Votes
from training.errors import TrainingError
from training.reward import RewardWeights, reward

_ALONE = (1.0,)


class History:
    """Recorded candles of one symbol with their feature rows, computed once."""

    def __init__(self, table: CandleTable, max_missing: int) -> None:
        """Compute the rows. Raises TrainingError when no candle but the last has a full window."""
        self.symbol = table.symbol
        self.table = table
        self.candles: list[Candle] = list(table.candles())
        self.rows: FeatureTable = compute(table.open_ms, table.values, table.timeframe.span_ms, max_missing)
        self.starts = np.flatnonzero(self.rows.is_valid)
        if self.starts.size < 2:  # noqa: PLR2004 - one candle to decide on, one to fill on
            raise TrainingError(
                f"{table.symbol}: {len(table)} candles are too few for a window of {WINDOW}, of which at most "
                f"{max_missing} are missing, and a step: give more candles"
            )

    def features(self) -> ComputedFeatures:
        """Return a source that hands out the rows from the first candle on."""
        return ComputedFeatures(self.rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """How an episode is drawn. length: candles; None runs from the first full window to the end of the history."""

    length: int | None = 1000


@dataclass(frozen=True, slots=True)
class Transition:
    """What one candle brought: for those who compare the environment with backtest and daemon."""

    outcomes: list[Outcome]
    reports: list[OrderReport]


class TradingEnv(gymnasium.Env[NDArray[np.float32], NDArray[np.float32]]):
    """One account with one symbol.

    observation: (N_OBSERVATION,) float32, see strategy/observation.py.  action: (3,) float32 direction, size,
    confidence.  The seed given to `reset` alone draws history and start.  Rewards: training/reward.py.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 - Gymnasium's own declaration

    def __init__(
        self,
        histories: Sequence[History],
        setup: Setup,
        *,
        cash: float = 100_000.0,
        episode: Episode | None = None,
        weights: RewardWeights | None = None,
        reference: Reference | None = None,
    ) -> None:
        """setup.instruments must hold the symbol of every history; cash: quote."""
        self._histories = list(histories)
        self._setup, self._cash, self._reference = setup, cash, reference
        self._episode = episode or Episode()
        self._weights = weights or RewardWeights()
        self._features = [history.features() for history in self._histories]
        limit, low, high = OBSERVATION_LIMIT, np.array(ACTION_LOW, np.float32), np.array(ACTION_HIGH, np.float32)
        self.observation_space = gymnasium.spaces.Box(-limit, limit, (N_OBSERVATION,), np.float32)
        self.action_space = gymnasium.spaces.Box(low, high, dtype=np.float32)
        self.session: Session
        self._history: History
        self._sight: Sight
        self._at = self._end = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Start an episode; `options` may name `history` (index) and `start` (candle index) instead of drawing.

        Raises TrainingError for other options, and for an index that leaves nothing to see or no candle to fill on.
        """
        super().reset(seed=seed)
        chosen = dict(options or {})
        index = int(chosen.pop("history", self.np_random.integers(len(self._histories))))
        _require("history", index, len(self._histories))
        self._history = history = self._histories[index]
        length = self._episode.length
        last = len(history.candles) - 2
        latest = last if length is None else max(history.starts[0], last + 1 - length)
        first = history.starts[history.starts <= latest]
        drawn = history.starts[0] if length is None else self.np_random.choice(first)
        self._at = start = int(chosen.pop("start", drawn))
        if chosen:
            raise TrainingError(f"reset: unknown options {sorted(chosen)}; known are history and start")
        _require("start", start, last + 1)
        self._end = last + 1 if length is None else min(last + 1, start + length)
        features = self._features[index]
        features.seek(start)
        trader = Trader(self._setup, {history.symbol: features}, self._cash, self._reference)
        self.session = Session(trader)
        (self._sight,) = trader.observe((history.candles[start],))
        return self._observation(), {"symbol": history.symbol, "open_ms": history.candles[start].open_ms}

    def step(self, action: NDArray[np.float32]) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Decide on the present candle and go to the next one that can be seen."""
        before, price = self.session.trader.portfolio.equity, self._sight.candle.close
        # Who sees nothing does not vote: an episode may be told to start while the window is not full.
        votes = None if self._sight.observation is None else np.asarray(action, np.float32).reshape(1, 3)
        transition = self.advance(votes, _ALONE)
        while self._sight.observation is None and self._at < self._end:
            self._merge(transition, self.advance(None, _ALONE))
        after = self.session.trader.portfolio
        components = reward(
            self._weights,
            self._setup.limits,
            equity_return=after.equity / before - 1.0,
            asset_return=self._sight.candle.close / price - 1.0,
            drawdown=after.drawdown,
        )
        info = {"equity": after.equity, "reward": components, "reason": transition.outcomes[0].verdict.reason.value}
        is_ruined = after.equity <= 0.1 * self._cash
        return self._observation(), sum(components.values()), is_ruined, self._at >= self._end, info

    def advance(self, votes: Votes | None, weights: tuple[float, ...]) -> Transition:
        """Decide with any number of votes, (n_members, 3), and go one candle on: what `step` does with one vote."""
        outcomes = self.session.trader.decide([(self._sight, votes)], weights)
        self.session.place(outcomes)
        self._at += 1
        candle = self._history.candles[self._at]
        reports = self.session.settle((candle,))
        (self._sight,) = self.session.trader.observe((candle,))
        return Transition(outcomes, reports)

    @property
    def sight(self) -> Sight:
        """What the present candle shows."""
        return self._sight

    @property
    def is_over(self) -> bool:
        """True when the episode has no further candle."""
        return self._at >= self._end

    def _observation(self) -> NDArray[np.float32]:
        if self._sight.observation is None:  # the history ends inside a gap
            return np.zeros(N_OBSERVATION, np.float32)
        return self._sight.observation

    @staticmethod
    def _merge(transition: Transition, more: Transition) -> None:
        transition.outcomes.extend(more.outcomes)
        transition.reports.extend(more.reports)


def _require(name: str, index: int, count: int) -> None:
    if not 0 <= index < count:
        raise TrainingError(f"reset: {name} {index} is outside 0 .. {count - 1}")
