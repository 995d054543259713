"""The minibatch of a SAC update, drawn as Stable-Baselines3 draws it: the same indices for the same state of NumPy.

From a plain replay buffer the rows are copied once, straight to where the networks read them; any other buffer (n-step,
one that normalises, one that saves memory) is asked for its own sample.
"""

from typing import cast

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize

from training.sac_kernels import FloatArray, gather_rows


class Batch:
    """B transitions. observations: (2B, in), the present ones before the next ones.

    actions: (B, A).  rewards: (B,).  weights: (B,), what the next state's value counts for: discount, 0 where done.
    """

    def __init__(self, size: int, inputs: int, actions: int) -> None:
        """Make the buffers."""
        self.size = size
        self.observations: FloatArray = np.empty((2 * size, inputs), np.float32)
        self.actions: FloatArray = np.empty((size, actions), np.float32)
        self.rewards: FloatArray = np.empty(size, np.float32)
        self.weights: FloatArray = np.empty(size, np.float32)

    def draw(self, replay: ReplayBuffer, gamma: float, normalize: VecNormalize | None) -> None:
        """Fill the batch with a new sample from `replay`."""
        if type(replay) is ReplayBuffer and not replay.optimize_memory_usage and normalize is None:
            self._gather(replay, gamma)
        else:
            self._copy(replay.sample(self.size, env=normalize), gamma)

    def _gather(self, replay: ReplayBuffer, gamma: float) -> None:
        upper = replay.buffer_size if replay.full else replay.pos
        # The same two calls, in the same order, as ReplayBuffer.sample and its _get_samples.
        steps = np.random.randint(0, upper, size=self.size)  # noqa: NPY002
        envs = np.random.randint(0, high=replay.n_envs, size=(self.size,))  # noqa: NPY002
        rows = steps * replay.n_envs + envs
        gather_rows(_rows_of(replay.observations), rows, self.observations[: self.size])
        gather_rows(_rows_of(replay.next_observations), rows, self.observations[self.size :])
        gather_rows(_rows_of(replay.actions), rows, self.actions)
        self.rewards[:] = replay.rewards.reshape(-1)[rows]
        is_end = replay.dones.reshape(-1)[rows] * (1.0 - replay.timeouts.reshape(-1)[rows])
        np.multiply(1.0 - is_end, gamma, out=self.weights)

    def _copy(self, sample: ReplayBufferSamples, gamma: float) -> None:
        self.observations[: self.size] = sample.observations.flatten(1).numpy()
        self.observations[self.size :] = sample.next_observations.flatten(1).numpy()
        self.actions[:] = sample.actions.numpy()
        self.rewards[:] = sample.rewards.numpy().reshape(-1)
        discounts = gamma if sample.discounts is None else sample.discounts.numpy().reshape(-1)
        np.multiply(1.0 - sample.dones.numpy().reshape(-1), discounts, out=self.weights)


def _rows_of(stored: NDArray[np.generic]) -> FloatArray:
    """Return what a buffer stored, (steps, envs, ...), as one row a transition, without a copy."""
    return cast("FloatArray", stored.reshape(stored.shape[0] * stored.shape[1], -1))
