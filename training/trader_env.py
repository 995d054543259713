"""The environment's definition: the trader's own path with the learner's action where the ensemble votes.

`training/env.py` computes the same, step for step and bit for bit, compiled and many times faster.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from strategy.decision import THRESHOLD
from strategy.observation import N_OBSERVATION
from strategy.order import OrderReport
from strategy.session import Session
from strategy.sizing import exposure_cap
from strategy.trader import Outcome, Reference, Setup, Sight, Trader, Votes
from training.episode import Episode, Randomisation
from training.errors import TrainingError
from training.history import History
from training.reward import (
    COMPONENTS,
    REWARDS,
    STATE_SIZE,
    ActionKind,
    RewardSettings,
    reward,
    reward_parameters,
)
from training.spaces import action_space, observation_space
from training.trend import trend_shares

_ALONE = (1.0,)


@dataclass(frozen=True, slots=True)
class Transition:
    """What one candle brought: for those who compare the environment with backtest and daemon."""

    outcomes: list[Outcome]
    reports: list[OrderReport]


class TraderEnv(gymnasium.Env[NDArray[np.float32], NDArray[np.float32]]):
    """One account with one symbol.

    observation: (N_OBSERVATION,) float32, see strategy/observation.py.  action: (3,) float32 direction, size,
    confidence.  The seed given to `reset` alone draws history, length, start, costs and delay.  Rewards:
    training/reward.py; `info["reward"]` holds the weighted components by name.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 - Gymnasium's own declaration

    def __init__(
        self,
        histories: Sequence[History],
        setup: Setup,
        *,
        cash: float = 100_000.0,
        episode: Episode | None = None,
        reward: RewardSettings | None = None,
        randomisation: Randomisation | None = None,
        reference: Reference | None = None,
    ) -> None:
        """setup.instruments must hold the symbol of every history; cash: quote."""
        self._histories = list(histories)
        self._setup, self._cash, self._reference = setup, cash, reference
        self._episode = episode or Episode()
        self._randomisation = randomisation or Randomisation()
        settings = REWARDS["timing"] if reward is None else reward
        self._reward = reward_parameters(settings, setup.limits, setup.timeframe.candles_per_year)
        self._reward_state, self._components = np.zeros(STATE_SIZE), np.zeros(len(COMPONENTS))
        self._features = [history.features() for history in self._histories]
        self.observation_space, self.action_space = observation_space(), action_space()
        self.session: Session
        self._history: History
        self._sight: Sight
        self._at = self._end = 0
        self._delay = 0
        self._under_way: deque[NDArray[np.float32]] = deque()

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
        length = self._episode.drawn_length(self.np_random)
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
        trader = Trader(self._drawn_setup(), {history.symbol: features}, self._cash, self._reference)
        self.session = Session(trader)
        self._reward_state[:] = 0.0
        (self._sight,) = trader.observe((history.candles[start],))
        return self._observation(), {"symbol": history.symbol, "open_ms": history.candles[start].open_ms}

    def step(self, action: NDArray[np.float32]) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Decide on the present candle and go to the next one that can be seen and that a decision falls on."""
        before, price = self.session.trader.portfolio.equity, self._sight.candle.close
        sight = self._sight
        transition = self.advance(self._votes(action), _ALONE)
        astray = self._astray(sight, transition.outcomes[0].verdict.decision.target)
        while not self._is_asked() and self._at < self._end:
            self._merge(transition, self.advance(None, _ALONE))
        after, costs = self.session.trader.portfolio, self.session.trader.setup.costs
        traded = 0.0
        for report in transition.reports:
            traded += 0.0 if report.fill is None else report.fill.notional
        earned = reward(
            self._reward,
            self._reward_state,
            after.equity / before - 1.0,
            self._sight.candle.close / price - 1.0,
            after.drawdown,
            traded * (costs.fee_rate + costs.slippage_rate) / before,
            _kind(action),
            astray,
            self._components,
        )
        components = dict(zip(COMPONENTS, self._components.tolist(), strict=True))
        info = {"equity": after.equity, "reward": components, "reason": transition.outcomes[0].verdict.reason.value}
        is_ruined = after.equity <= 0.1 * self._cash
        return self._observation(), earned, is_ruined, self._at >= self._end, info

    def _astray(self, sight: Sight, target: float) -> float:
        """Return by how much an exposure exceeds the trend rule's, as a share of max_position."""
        setup, row = self._setup, sight.row
        if row is None:
            share, volatility = 0.0, 0.0
        else:
            share, volatility = float(trend_shares(row.values[None])[0]), row.volatility
        allowed = exposure_cap(setup.strategy, volatility, setup.timeframe.candles_per_year)
        most = setup.limits.max_position
        return (target - share * min(most, allowed)) / most

    def _votes(self, action: NDArray[np.float32]) -> Votes | None:
        """Return the vote that takes effect now; None while nothing is seen, and while the first are under way."""
        if not self._is_asked():
            return None  # an episode may start while the window is not full, and between two decisions
        self._under_way.append(np.array(action, np.float32).reshape(1, 3))
        return self._under_way.popleft() if len(self._under_way) > self._delay else None

    def _is_asked(self) -> bool:
        """Tell whether the policy is asked on the present candle."""
        setup = self.session.trader.setup
        is_due = setup.strategy.is_due(self._sight.candle.close_ms, setup.timeframe.span_ms)
        return is_due and self._sight.observation is not None

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

    def _drawn_setup(self) -> Setup:
        """Return the setup of one episode, and draw its delay. What does not vary takes nothing from the generator."""
        varied, setup = self._randomisation, self._setup
        fee, slippage = (low if low == high else self.np_random.uniform(low, high) for low, high in varied.rates)
        self._delay = int(self.np_random.integers(varied.most_delay + 1)) if varied.most_delay else 0
        self._under_way.clear()
        strategy = setup.strategy
        if varied.offset and strategy.decide_every > 1:
            offset = int(self.np_random.integers(strategy.decide_every))
            strategy = replace(strategy, decide_offset=offset)
        costs = replace(
            setup.costs, fee_rate=setup.costs.fee_rate * fee, slippage_rate=setup.costs.slippage_rate * slippage
        )
        return replace(setup, costs=costs, strategy=strategy)

    def _observation(self) -> NDArray[np.float32]:
        if self._sight.observation is None:  # the history ends inside a gap
            return np.zeros(N_OBSERVATION, np.float32)
        return self._sight.observation

    @staticmethod
    def _merge(transition: Transition, more: Transition) -> None:
        transition.outcomes.extend(more.outcomes)
        transition.reports.extend(more.reports)


def _kind(action: NDArray[np.float32]) -> int:
    """Return what the action asks for: an ActionKind as a plain int, which compiled code takes."""
    direction = float(action[0])
    if direction > THRESHOLD:
        return int(ActionKind.BUY)
    return int(ActionKind.SELL if direction < -THRESHOLD else ActionKind.HOLD)


def _require(name: str, index: int, count: int) -> None:
    if not 0 <= index < count:
        raise TrainingError(f"reset: {name} {index} is outside 0 .. {count - 1}")
