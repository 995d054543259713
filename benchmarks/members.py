"""Policies as Stable-Baselines3 keeps them, each with its NumPy twin; untrained, as time does not depend on weights."""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3 import SAC

from strategy.decision import ACTION_HIGH, ACTION_LOW
from strategy.policy import Ensemble
from training.export import build_actor, export_actor


class Members:
    """Three policies of one architecture and the ensemble of their twins, all of equal weight."""

    def __init__(self, inputs: int, net_arch: Sequence[int], *, use_sde: bool = False) -> None:
        """Make them. inputs: length of an observation.  net_arch: sizes of the hidden layers."""
        torch.set_num_threads(1)
        models = [_model(inputs, list(net_arch), seed, use_sde=use_sde) for seed in range(3)]
        actors = [build_actor(export_actor(model), f"member-{seed}") for seed, model in enumerate(models)]
        self.models = models
        self.ensemble = Ensemble(actors, [1.0 / 3.0] * 3)

    def predict(self, observation: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the (3, 3) actions for one observation, asking the policies one after another as SB3 is used."""
        return np.stack([model.predict(observation, deterministic=True)[0] for model in self.models])


def _model(inputs: int, net_arch: list[int], seed: int, *, use_sde: bool) -> SAC:
    class Space(gymnasium.Env[Any, Any]):
        """Observation and action space, which is all that `predict` needs."""

        observation_space = spaces.Box(-np.inf, np.inf, (inputs,), np.float32)
        action_space = spaces.Box(np.array(ACTION_LOW, np.float32), np.array(ACTION_HIGH, np.float32))

    policy = {"net_arch": net_arch}
    return SAC("MlpPolicy", Space(), seed=seed, use_sde=use_sde, buffer_size=1, device="cpu", policy_kwargs=policy)
