"""One gradient step of SAC by hand: Haarnoja et al. (2018), arXiv:1812.05905, in the order of Stable-Baselines3's.

Forward and backward passes are NumPy products into buffers made once. No autograd; one actor pass for the observations
and the next ones; critics that only guide the actor get no weight gradients.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3 import SAC
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.distributions import StateDependentNoiseDistribution

from training.errors import Diverged
from training.sac_batch import Batch
from training.sac_heads import SdeHead
from training.sac_kernels import FloatArray, polyak
from training.sac_known import Parts
from training.sac_networks import ActorNetwork, CriticNetworks
from training.sac_parameters import Adam, FlatParameters


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """What one gradient step found; the names are Stable-Baselines3's. ent_coef_loss: None where it is fixed."""

    ent_coef: float
    ent_coef_loss: float | None
    critic_loss: float
    actor_loss: float


class EntropyCoefficient:
    """The weight of the entropy, fixed or learned as its logarithm."""

    def __init__(self, model: SAC) -> None:
        """Take the model's."""
        self._flat, self._adam = None, None
        if model.ent_coef_optimizer is not None and model.log_ent_coef is not None:
            self._flat = FlatParameters([model.log_ent_coef])
            self._adam = Adam(self._flat, model.ent_coef_optimizer)

    @property
    def is_bound(self) -> bool:
        """True while torch's side lies in the same memory."""
        return self._flat is None or self._adam is None or (self._flat.is_bound and self._adam.is_bound)

    def begin(self, model: SAC) -> None:
        """Read the target and the optimiser's rate, or the fixed coefficient."""
        if self._adam is None:
            self._fixed = float(model.ent_coef_tensor)
        else:
            self._target = np.float32(model.target_entropy)
            self._adam.begin()

    def step(self, log_prob: FloatArray, check: Callable[[str, float], None]) -> tuple[float, float | None]:
        """Return the coefficient and its loss, then learn; log_prob: (B,)."""
        if self._flat is None or self._adam is None:
            return self._fixed, None
        excess = float(np.mean(log_prob + self._target))
        log_value = float(self._flat.values[0])
        value, loss = float(np.exp(self._flat.values[0])), -log_value * excess
        check("ent_coef_loss", loss)
        self._adam.gradient[0] = -excess
        self._adam.step()
        return value, loss


class SacUpdate:
    """The update of one model at one batch size, bound to the model's own parameters and optimiser state."""

    def __init__(self, model: SAC, parts: Parts, batch_size: int) -> None:
        """Move the model's parameters and optimiser state into flat buffers and make the others."""
        self._owners = _owners(model)
        inputs, actions = parts.actor.hidden[0].in_features, parts.actor.mean.out_features
        self._inputs, self._actions = inputs, actions
        self._batch = Batch(batch_size, inputs, actions)
        self._actor = ActorNetwork(parts.actor, model.actor.optimizer, batch_size)
        self._critic = CriticNetworks(parts, model.critic.optimizer, batch_size)
        self._entropy = EntropyCoefficient(model)
        self._pairs = np.empty((batch_size, inputs + actions), np.float32)

    def is_bound(self, model: SAC, batch_size: int) -> bool:
        """Tell whether this is the update of that model as it is now."""
        return (
            batch_size == self._batch.size
            and all(now is then for now, then in zip(_owners(model), self._owners, strict=True))
            and all(part.is_bound for part in (self._actor, self._critic, self._entropy))
        )

    def begin(self, model: SAC) -> None:
        """Read the rates from the optimisers, before the first of several steps."""
        self._actor.adam.begin()
        self._critic.adam.begin()
        self._entropy.begin(model)

    def step(self, model: SAC, replay: ReplayBuffer, *, with_targets: bool) -> Losses:
        """Draw a batch from `replay` and take one gradient step. with_targets: also move the target critics.

        Raises Diverged when a loss is not a finite number, before the step that it would have led to.
        """
        batch, head = self._batch, self._actor.head
        batch.draw(replay, model.gamma, model.get_vec_normalize_env())
        head.draw()
        self._actor.forward(batch.observations)
        ent_coef, ent_coef_loss = self._entropy.step(head.log_prob[: batch.size], _check)
        critic_loss = self._step_critic(ent_coef)
        actor_loss = self._step_actor(ent_coef)
        if with_targets:
            keep, share = np.float32(1.0 - model.tau), np.float32(model.tau)
            polyak(self._critic.target.values, self._critic.flat.values, keep, share)
        return Losses(ent_coef=ent_coef, ent_coef_loss=ent_coef_loss, critic_loss=critic_loss, actor_loss=actor_loss)

    def explore(self, model: SAC, observations: NDArray[Any]) -> FloatArray:
        """Return noisy actions (n, A) in -1 .. 1 for observations (n, ...), as the model's policy would draw them."""
        flat = np.ascontiguousarray(observations.reshape(len(observations), -1), np.float32)
        return self._actor.explore(flat, model.actor.action_dist)

    def finish(self, model: SAC) -> None:
        """Leave behind what else Stable-Baselines3's update leaves behind."""
        distribution = model.actor.action_dist
        if isinstance(self._actor.head, SdeHead) and isinstance(distribution, StateDependentNoiseDistribution):
            self._actor.head.publish(distribution)

    def _step_critic(self, ent_coef: float) -> float:
        batch, size = self._batch, self._batch.size
        next_values = self._critic.forward_target(self._side_by_side(size, self._actor.head.actions[size:]))
        soft = np.min(next_values, axis=0) - np.float32(ent_coef) * self._actor.head.log_prob[size:]
        goal = batch.rewards + batch.weights * soft
        inputs = self._side_by_side(0, batch.actions)
        errors = self._critic.forward(inputs) - goal
        loss = 0.5 * float(np.sum(np.mean(errors * errors, axis=1)))
        _check("critic_loss", loss)
        self._critic.backward(inputs, errors / np.float32(size))
        self._critic.adam.step()
        return loss

    def _step_actor(self, ent_coef: float) -> float:
        size, head = self._batch.size, self._actor.head
        # The observations still stand there from the critics' step.
        self._pairs[:, self._inputs :] = head.actions[:size]
        values = self._critic.forward(self._pairs)
        loss = float(np.mean(np.float32(ent_coef) * head.log_prob[:size] - np.min(values, axis=0)))
        _check("actor_loss", loss)
        per_action = self._critic.lowest_slope(values, self._actions) * np.float32(-1.0 / size)
        self._actor.backward(self._batch.observations, ent_coef / size, per_action)
        self._actor.adam.step()
        return loss

    def _side_by_side(self, first: int, actions: FloatArray) -> FloatArray:
        self._pairs[:, : self._inputs] = self._batch.observations[first : first + self._batch.size]
        self._pairs[:, self._inputs :] = actions
        return self._pairs


def _owners(model: SAC) -> list[object]:
    optimizers = [model.actor.optimizer, model.critic.optimizer, model.ent_coef_optimizer]
    return [model.policy, model.log_ent_coef, *optimizers]


def _check(name: str, loss: float) -> None:
    if not math.isfinite(loss):
        raise Diverged(
            f"{name} is {loss}: the update stops before the weights do harm; lower the learning rate, or look for "
            "rewards and observations that are NaN, infinite or very large"
        )
