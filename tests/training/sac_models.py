"""Small SAC models with a replay buffer full of random transitions: what tests of the update train on."""

from typing import Any, TypeVar

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import SAC
from stable_baselines3.common.logger import configure

M = TypeVar("M", bound=SAC)

BATCH = 64
ACTIONS = 3
ARCH = [32, 32]


class Space(gymnasium.Env[Any, Any]):
    """Observation and action space of a task that is never stepped."""

    def __init__(self, observation_space: spaces.Space[Any] | None = None) -> None:
        self.observation_space = observation_space or spaces.Box(-np.inf, np.inf, (12,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (ACTIONS,), np.float32)


def make(kind: type[M], **changes: Any) -> M:
    """Return a model of class `kind` with a full buffer; equal arguments give equal weights and transitions."""
    policy = {"net_arch": ARCH} | changes.pop("policy_kwargs", {})
    env = changes.pop("env", None) or Space()
    defaults = {"seed": 1, "buffer_size": 500, "batch_size": BATCH, "device": "cpu", "policy_kwargs": policy}
    model = kind(changes.pop("policy", "MlpPolicy"), env, **(defaults | changes))
    fill(model)
    model.set_logger(configure(None, []))
    return model


def fill(model: SAC, seed: int = 0) -> None:
    """Fill the model's buffer with transitions drawn from `seed`; some end, some of these by a time limit."""
    rng, replay = np.random.default_rng(seed), model.replay_buffer
    assert replay is not None
    for stored in (replay.observations, replay.next_observations, replay.rewards):
        stored[:] = rng.standard_normal(stored.shape)
    replay.actions[:] = rng.uniform(-1.0, 1.0, replay.actions.shape)
    replay.dones[:] = rng.random(replay.dones.shape) < 0.2
    replay.timeouts[:] = replay.dones * (rng.random(replay.dones.shape) < 0.5)
    replay.full = True


def seed_noise(seed: int) -> None:
    """Start both generators that an update draws from."""
    np.random.seed(seed)  # noqa: NPY002 - it is the one Stable-Baselines3 draws from
    torch.manual_seed(seed)


def train(model: SAC, updates: int, *, gradient_steps: int = 1, seed: int | None = None) -> None:
    """Take `updates` gradient steps, `gradient_steps` in a call, as `learn` does between its steps."""
    if seed is not None:
        seed_noise(seed)
    for _ in range(updates // gradient_steps):
        model.train(gradient_steps, model.batch_size)


def tensors(model: SAC) -> dict[str, torch.Tensor]:
    """Return all that an update changes: weights, targets, entropy coefficient and the optimisers' moments."""
    found = dict(model.policy.state_dict())
    optimizers = {"actor": model.actor.optimizer, "critic": model.critic.optimizer}
    if model.log_ent_coef is not None and model.ent_coef_optimizer is not None:
        found["log_ent_coef"] = model.log_ent_coef.detach()
        optimizers["ent_coef"] = model.ent_coef_optimizer
    for owner, optimizer in optimizers.items():
        for index, state in optimizer.state_dict()["state"].items():
            found |= {f"{owner}.{index}.{name}": value for name, value in state.items()}
    return {name: value.clone() for name, value in found.items()}


def largest_difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> tuple[float, str]:
    """Return by how much the two differ at most, and where."""
    assert one.keys() == other.keys()
    return max((float((one[name].double() - other[name].double()).abs().max()), name) for name in one)
