"""Many accounts in one process as a Stable-Baselines3 `VecEnv`: one compiled call steps them all.

Equal to as many `TradingEnv`s, step for step and bit for bit, seeded as Stable-Baselines3 seeds them (seed + index).
No Monitor is needed: `infos` tell finished episodes as Monitor would. Otherwise they say nothing, and are shared empty
dicts, for a thousand dicts a step would cost more than the step; what an account is worth, and what its reward is made
of, stands in `equity` and `components`.
"""

import hashlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium.utils.seeding import np_random
from numpy.typing import NDArray
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices

from strategy.observation import N_OBSERVATION
from strategy.trader import Reference, Setup
from training import kernel, kernel_calls
from training.accounts import FAILED, Accounts
from training.draws import Draws
from training.episode import Episode, Randomisation
from training.errors import TrainingError
from training.history import History
from training.inputs import mask_of
from training.kernel_records import ACCOUNT
from training.reward import RewardSettings
from training.spaces import action_space, observation_space

_ENDED = kernel.RUINED | kernel.CUT_OFF

Observations = NDArray[np.float32]
Step = tuple[Observations, NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]


class VectorTradingEnv(VecEnv):
    """`n_envs` accounts. Arguments, observations, actions and rewards are `TradingEnv`'s, a row for each account."""

    def __init__(
        self,
        histories: Sequence[History],
        setup: Setup,
        *,
        n_envs: int,
        cash: float = 100_000.0,
        episode: Episode | None = None,
        reward: RewardSettings | None = None,
        randomisation: Randomisation | None = None,
        reference: Reference | None = None,
        inputs: Sequence[str] = (),
    ) -> None:
        """setup.instruments must hold the symbol of every history; cash: quote. Raises TrainingError.

        inputs: names of the entries of an observation that are shown, none for all; the others are 0.
        """
        if n_envs < 1:
            raise TrainingError(f"n_envs {n_envs}: give at least 1 account")
        self.accounts = Accounts(
            histories, setup, np.zeros(n_envs, ACCOUNT), cash=cash, reward=reward, reference=reference
        )
        self._draws = Draws(
            histories, episode or Episode(), randomisation or Randomisation(), setup.strategy.decide_every
        )
        self._generators: list[np.random.Generator | None] = [None] * n_envs
        self._flags = np.zeros(n_envs, np.uint8)
        self._quiet: list[dict[str, Any]] = [{} for _ in range(n_envs)]
        self._actions = np.zeros((n_envs, 3), np.float32)
        self._mask = mask_of(inputs) if inputs else None
        self._started_s = time.perf_counter()
        accounts = self.accounts
        self._arrays = accounts.tape, accounts.markets, accounts.records
        super().__init__(n_envs, observation_space(), action_space())

    # ---- what a callback may read ---------------------------------------------------------------------------------
    @property
    def components(self) -> NDArray[np.float64]:
        """The weighted components of the last step's rewards, (n_envs, len(COMPONENTS)), of ended episodes too."""
        components: NDArray[np.float64] = self.accounts.records["components"]
        return components

    @property
    def equity(self) -> NDArray[np.float64]:
        """What each account is worth, (n_envs,) in quote; where an episode ended, the next one has begun."""
        equity: NDArray[np.float64] = self.accounts.records["equity"]
        return equity

    # ---- stepping -------------------------------------------------------------------------------------------------
    def reset(self) -> Observations:
        """Start an episode in every account and return (n_envs, N_OBSERVATION). Seeds and options count once."""
        for index, (seed, options) in enumerate(zip(self._seeds, self._options, strict=True)):
            if seed is not None or self._generators[index] is None:
                self._generators[index] = np_random(seed)[0]
            self._begin(index, options)
        self._reset_seeds()
        self._reset_options()
        observations = np.empty((self.num_envs, N_OBSERVATION), np.float32)
        kernel_calls.observe_all(*self._arrays, observations)
        self._hide(observations)
        return observations

    def step_async(self, actions: NDArray[Any]) -> None:
        """Take the actions, (n_envs, 3)."""
        if actions.shape != self._actions.shape:
            raise TrainingError(f"actions of shape {actions.shape}: give {self._actions.shape}, a row for each account")
        self._actions = np.ascontiguousarray(actions, np.float32)

    def step_wait(self) -> Step:
        """Return observations, rewards, who is done, and infos; episodes that ended are followed by new ones.

        Raises TrainingError when no episode is under way, and for an action that is not of finite numbers.
        """
        observations = np.empty((self.num_envs, N_OBSERVATION), np.float32)
        rewards, flags = np.empty(self.num_envs, np.float32), self._flags
        together = kernel_calls.step_all(*self._arrays, self._actions, observations, rewards, flags)
        self._hide(observations)
        infos = self._quiet.copy()
        if together == 0:
            return observations, rewards, np.zeros(self.num_envs, np.bool_), infos
        if together & FAILED:
            index = int(np.flatnonzero(flags & FAILED)[0])
            self.accounts.refuse(index, int(flags[index]), self._actions[index])
        is_done = (flags & _ENDED) != 0
        for index in np.flatnonzero(is_done).tolist():
            infos[index] = self._ended(index, observations[index])
        return observations, rewards, is_done, infos

    def _ended(self, index: int, observation: NDArray[np.float32]) -> dict[str, Any]:
        """Begin the next episode, write what it shows over `observation`, and return the info of the one that ended."""
        record = self.accounts.records[index]
        elapsed_s = round(time.perf_counter() - self._started_s, 6)
        info = {
            "TimeLimit.truncated": not self._flags[index] & kernel.RUINED,
            "terminal_observation": observation.copy(),
            "episode": {"r": round(float(record["paid"]), 6), "l": int(record["steps"]), "t": elapsed_s},
            "equity": float(record["equity"]),
        }
        components = record["components"].copy()
        self._begin(index, {})
        record["components"] = components
        kernel_calls.observe_at(*self._arrays, index, observation)
        self._hide(observation)
        return info

    def _hide(self, observations: NDArray[np.float32]) -> None:
        """Set to 0, in place, what the policy is not to see."""
        if self._mask is not None:
            observations *= self._mask

    def _begin(self, index: int, options: Mapping[str, Any]) -> None:
        generator = self._generators[index]
        if generator is None:
            raise TrainingError(f"account {index}: no episode is under way: call reset before step")
        drawn = self._draws.draw(generator, options)
        self.accounts.begin(index, drawn)
        self.reset_infos[index] = {
            "symbol": self._draws.symbol(drawn.market),
            "open_ms": self.accounts.open_ms(index),
        }

    def close(self) -> None:
        """Do nothing: there is nothing to release."""

    # ---- stopping and going on ------------------------------------------------------------------------------------
    def state(self) -> dict[str, Any]:
        """Return all that changes, as arrays and JSON types: `restore` continues from it bit for bit.

        records: field -> (n_envs, ...) array.  generators: a NumPy bit generator's state per account, None before its
        first reset.  reset_infos: where the episodes began.  made_of: digest of candles and conditions.
        """
        records = self.accounts.records
        return {
            "records": {name: records[name].copy() for name in ACCOUNT.names or ()},
            "generators": [None if rng is None else rng.bit_generator.state for rng in self._generators],
            "reset_infos": [dict(info) for info in self.reset_infos],
            "made_of": self._digest(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state`. Raises TrainingError when it is not of this many accounts on these candles."""
        if state["made_of"] != self._digest():
            raise TrainingError(
                "the environment's stored state belongs to other candles, conditions or another version of the "
                "program: resume with what the run was started with"
            )
        records, stored = np.zeros_like(self.accounts.records), state["records"]
        for name in ACCOUNT.names or ():
            if name not in stored or np.shape(stored[name]) != records[name].shape:
                raise TrainingError(f"the environment's stored state has no {name} of {len(records)} accounts")
            records[name] = stored[name]
        generators: list[np.random.Generator | None] = []
        for known in state["generators"]:
            rng = None if known is None else np_random(0)[0]
            if rng is not None:
                rng.bit_generator.state = known
            generators.append(rng)
        self.accounts.records[:], self._generators = records, generators
        self.reset_infos = [dict(info) for info in state["reset_infos"]]

    def _digest(self) -> str:
        accounts = self.accounts
        digest = hashlib.sha256(repr((ACCOUNT.descr, self._draws, len(accounts.records))).encode())
        digest.update(np.ascontiguousarray(accounts.tape).view(np.uint8).data)
        digest.update(np.ascontiguousarray(accounts.markets).view(np.uint8).data)
        return digest.hexdigest()

    # ---- what else Stable-Baselines3 asks ---------------------------------------------------------------------------
    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return an attribute, once for each account: they have none of their own."""
        value = None if attr_name == "render_mode" else getattr(self, attr_name)
        return [value for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:  # noqa: ANN401
        """Raise AttributeError: nothing about an account can be set while it trades."""
        raise AttributeError(f"{attr_name} of accounts {indices} cannot be set to {value!r}: make another environment")

    def env_method(self, method_name: str, *_: Any, indices: VecEnvIndices = None, **__: Any) -> list[Any]:  # noqa: ANN401
        """Raise AttributeError: accounts are rows of arrays and have no methods."""
        raise AttributeError(f"accounts {indices} have no method {method_name}: they are rows of arrays")

    def env_is_wrapped(self, wrapper_class: type[Any], indices: VecEnvIndices = None) -> list[bool]:
        """Tell whether `infos` say what the wrapper would: Monitor's episodes, and nothing else."""
        return [wrapper_class is Monitor for _ in self._get_indices(indices)]
