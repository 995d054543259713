"""The environment of one account: what training/trader_env.py defines, compiled."""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from strategy.observation import N_OBSERVATION
from strategy.trader import Reference, Setup
from training.accounts import FAILED, Accounts
from training.draws import Draws
from training.episode import Episode, Randomisation
from training.history import History
from training.kernel import CUT_OFF, RUINED
from training.kernel_calls import observe_at, step_one
from training.kernel_records import DESK, REASONS
from training.reward import COMPONENTS, RewardSettings
from training.spaces import action_space, observation_space

_REASONS = [reason.value for reason in REASONS]
_FLOAT = np.dtype(np.float32)
# Names of this module: each step saves the way through another one's.
_contiguous, _empty = np.ascontiguousarray, np.empty


class TradingEnv(gymnasium.Env[NDArray[np.float32], NDArray[np.float32]]):
    """One account with one symbol, equal to `TraderEnv` in every bit.

    observation: (N_OBSERVATION,) float32, see strategy/observation.py.  action: (3,) float32 direction, size,
    confidence.  The seed given to `reset` alone draws history, start, costs and delay.  Rewards: training/reward.py;
    `components` tells what the last one is made of: eight names in every `info` would cost a quarter of the step.
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
        """setup.instruments must hold the symbol of every history; cash: quote. Raises TrainingError."""
        self._desk = np.zeros(1, DESK)
        records = self._desk["account"]
        self.accounts = Accounts(histories, setup, records, cash=cash, reward=reward, reference=reference)
        self._draws = Draws(
            histories, episode or Episode(), randomisation or Randomisation(), setup.strategy.decide_every
        )
        self.observation_space = observation_space()
        self.action_space = action_space()
        self._components = records["components"][0]
        # Bytes: numba recognises them faster than records.
        self._tape, self._place = self.accounts.tape.view(np.uint8), self._desk.view(np.uint8)

    @property
    def components(self) -> dict[str, float]:
        """The weighted components of the last reward by name, see `training.reward.COMPONENTS`."""
        return dict(zip(COMPONENTS, self._components.tolist(), strict=True))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Start an episode; `options` may name `history` (index) and `start` (candle index) instead of drawing.

        Raises TrainingError for other options, and for an index that leaves nothing to see or no candle to fill on.
        """
        super().reset(seed=seed)
        drawn = self._draws.draw(self.np_random, options)
        accounts = self.accounts
        accounts.begin(0, drawn)
        self._desk["market"][0] = accounts.markets[drawn.market]
        observation = np.empty(N_OBSERVATION, np.float32)
        observe_at(accounts.tape, accounts.markets, accounts.records, 0, observation)
        return observation, {"symbol": self._draws.symbol(drawn.market), "open_ms": self.accounts.open_ms(0)}

    def step(self, action: NDArray[np.float32]) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Decide on the present candle and go to the next one that can be seen.

        Raises TrainingError when no episode is under way, and for an action that is not of finite numbers.
        """
        action, observation = _contiguous(action, _FLOAT), _empty(N_OBSERVATION, _FLOAT)
        earned, flags, equity, verdict = step_one(self._tape, self._place, action, observation)
        if flags:
            if flags & FAILED:
                self.accounts.refuse(0, flags, action)
            is_ruined, is_over = flags & RUINED != 0, flags & CUT_OFF != 0
            return observation, earned, is_ruined, is_over, {"equity": equity, "reason": _REASONS[verdict]}
        return observation, earned, False, False, {"equity": equity, "reason": _REASONS[verdict]}
