"""Policies as Stable-Baselines3 keeps them, each with its NumPy twin: untrained, for time does not depend on weights."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3 import SAC

from strategy.decision import ACTION_HIGH, ACTION_LOW
from strategy.policy import Ensemble
from training.export import build_actor, export_actor


class Members:
    """Three policies of one architecture and the ensemble of their twins."""

    def __init__(self, inputs: int, net_arch: list[int], *, use_sde: bool) -> None:
        """inputs: length of an observation.  net_arch: sizes of the hidden layers."""
        self.models = [_model(inputs, net_arch, seed, use_sde=use_sde) for seed in range(3)]
        actors = [build_actor(export_actor(model), f"member-{i}") for i, model in enumerate(self.models)]
        self.ensemble = Ensemble(actors, [1.0 / 3.0] * 3)

    def predict(self, observation: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Ask one policy after another, as Stable-Baselines3 is used; (3,) float32 each."""
        return [model.predict(observation, deterministic=True)[0] for model in self.models]


def _model(inputs: int, net_arch: list[int], seed: int, *, use_sde: bool) -> SAC:
    class Space(gymnasium.Env[Any, Any]):
        """Observation and action space, which is all that `predict` needs."""

        observation_space = spaces.Box(-np.inf, np.inf, (inputs,), np.float32)
        action_space = spaces.Box(np.array(ACTION_LOW, np.float32), np.array(ACTION_HIGH, np.float32))

    policy = {"net_arch": net_arch}
    return SAC("MlpPolicy", Space(), seed=seed, use_sde=use_sde, buffer_size=1, device="cpu", policy_kwargs=policy)
