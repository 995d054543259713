"""From the actor's last hidden layer to squashed actions and their log-probabilities, and back.

Both heads follow Stable-Baselines3's own expressions in float32, also where exact arithmetic would shorten them: near
the bounds, rounding is most of what is left, and equal weights need equal rounding. Shapes: B rows of the batch, A
actions, H hidden. 2B rows go forward: the observations and the next ones, which need no way back.
"""

import math
from typing import Protocol, cast

import numpy as np
import torch
from stable_baselines3.common.distributions import Distribution, StateDependentNoiseDistribution

from training.sac_kernels import FloatArray, add_product

_LOG_STD_MIN, _LOG_STD_MAX = -20.0, 2.0
_HALF_LOG_TAU = math.log(math.sqrt(2.0 * math.pi))
_SQUASH_EPS = 1e-6
_FLOAT_EPS = float(np.finfo(np.float32).eps)


class Head(Protocol):
    """The last layer of an actor. actions: (2B, A) in -1 .. 1.  log_prob: (2B,)."""

    actions: FloatArray
    log_prob: FloatArray

    def draw(self) -> None:
        """Draw the noise of one update from torch's generator, as Stable-Baselines3 does."""

    def forward(self, latent: FloatArray) -> None:
        """Set `actions` and `log_prob` from `latent` (2B, H)."""

    def explore(self, latent: FloatArray, distribution: Distribution) -> FloatArray:
        """Return actions (n, A) in -1 .. 1 with noise, as Stable-Baselines3's `distribution` would draw them."""

    def backward(self, latent: FloatArray, per_log_prob: float, per_action: FloatArray, out: FloatArray) -> None:
        """Write the head's gradients, and into `out` (B, H) the slope of the loss behind the last hidden layer.

        per_log_prob: what the loss changes by per unit of each log-probability.  per_action: (B, A), per action.
        """


class GaussianHead:
    """Mean and log standard deviation, each linear in the hidden layer; independent noise for every row."""

    def __init__(
        self, weight: FloatArray, bias: FloatArray, weight_gradient: FloatArray, bias_gradient: FloatArray, batch: int
    ) -> None:
        """weight: (2A, H), means before deviations.  bias: (2A,).  batch: B."""
        self._weight, self._bias = weight, bias
        self._weight_gradient, self._bias_gradient = weight_gradient, bias_gradient
        self._n = weight.shape[0] // 2
        self._batch = batch
        self._drawn = [torch.empty(batch, self._n) for _ in range(2)]
        self.actions = np.empty((2 * batch, self._n), np.float32)
        self.log_prob = np.empty(2 * batch, np.float32)
        self._ones = np.ones(self._n, np.float32)  # NumPy's own sum of a few columns is slow

    def draw(self) -> None:
        """Draw noise for the observations, then for the next ones."""
        for noise in self._drawn:
            noise.normal_()
        self._noise = np.concatenate([noise.numpy() for noise in self._drawn])

    def forward(self, latent: FloatArray) -> None:
        """Set `actions` and `log_prob` from `latent` (2B, H)."""
        out = latent @ self._weight.T
        out += self._bias
        mean, self._raw_log_std = out[:, : self._n], out[:, self._n :]
        self._std = np.exp(np.clip(self._raw_log_std, _LOG_STD_MIN, _LOG_STD_MAX))
        sample = mean + self._noise * self._std
        np.tanh(sample, out=self.actions)
        self._offset = sample - mean
        gauss = -(self._offset**2) / (2.0 * self._std**2) - np.log(self._std) - _HALF_LOG_TAU
        correction = np.log(1.0 - self.actions**2 + _SQUASH_EPS)
        np.matmul(gauss - correction, self._ones, out=self.log_prob)

    def explore(self, latent: FloatArray, distribution: Distribution) -> FloatArray:  # noqa: ARG002 - gSDE's needs it
        """Return actions (n, A) in -1 .. 1 with fresh noise."""
        out = latent @ self._weight.T
        out += self._bias
        std = np.exp(np.clip(out[:, self._n :], _LOG_STD_MIN, _LOG_STD_MAX))
        noise = torch.empty(len(latent), self._n).normal_().numpy()
        return cast("FloatArray", np.tanh(out[:, : self._n] + noise * std))

    def backward(self, latent: FloatArray, per_log_prob: float, per_action: FloatArray, out: FloatArray) -> None:
        """Write the head's gradients and the slope behind the last hidden layer."""
        b = self._batch
        action, std, offset, raw = self.actions[:b], self._std[:b], self._offset[:b], self._raw_log_std[:b]
        flatness = 1.0 - action * action
        through_action = per_action + per_log_prob * (2.0 * action / (flatness + _SQUASH_EPS))
        pull = per_log_prob * offset / (std * std)
        per_sample = through_action * flatness - pull
        per_std = per_sample * self._noise[:b] + per_log_prob * (offset**2 / std**3 - 1.0 / std)
        is_inside = (raw >= _LOG_STD_MIN) & (raw <= _LOG_STD_MAX)
        slope = np.concatenate([per_sample + pull, np.where(is_inside, per_std * std, np.float32(0.0))], axis=1)
        np.matmul(slope.T, latent[:b], out=self._weight_gradient)
        np.sum(slope, axis=0, out=self._bias_gradient)
        np.matmul(slope, self._weight, out=out)


class SdeHead:
    """gSDE: noise is linear in the hidden layer too, through one random matrix for the whole batch."""

    def __init__(
        self,
        weight: FloatArray,
        bias: FloatArray,
        log_std: FloatArray,
        *,
        gradients: tuple[FloatArray, FloatArray, FloatArray],
        clip_mean: float,
        batch: int,
    ) -> None:
        """weight: (A, H) and bias: (A,) of the mean.  log_std: (H, A).  clip_mean: bound of the mean, 0 for none."""
        self._weight, self._bias, self._log_std = weight, bias, log_std
        self._weight_gradient, self._bias_gradient, self._log_std_gradient = gradients
        self._bound = clip_mean if clip_mean > 0.0 else math.inf
        self._n, hidden = weight.shape
        self._batch = batch
        self._drawn = torch.empty(hidden, self._n)
        self._drawn_parallel = torch.empty(1, hidden, self._n)  # Stable-Baselines3 draws it too, and does not use it
        self._both = np.empty((2 * self._n, hidden), np.float32)
        self._squares = np.empty((2 * batch, hidden), np.float32)
        self._per_square = np.empty((batch, hidden), np.float32)
        self.actions = np.empty((2 * batch, self._n), np.float32)
        self.log_prob = np.empty(2 * batch, np.float32)
        self._ones = np.ones(self._n, np.float32)  # NumPy's own sum of a few columns is slow

    def draw(self) -> None:
        """Draw the random matrix."""
        self._drawn.normal_()
        self._drawn_parallel.normal_()
        self._std = np.exp(self._log_std)

    def forward(self, latent: FloatArray) -> None:
        """Set `actions` and `log_prob` from `latent` (2B, H)."""
        n, both = self._n, self._both
        both[:n] = self._weight
        np.multiply(self._drawn.numpy().T, self._std.T, out=both[n:])
        out = latent @ both.T
        self._raw_mean = out[:, :n] + self._bias
        mean = np.clip(self._raw_mean, -self._bound, self._bound)
        np.multiply(latent, latent, out=self._squares)
        self._spread = np.sqrt(self._squares @ (self._std * self._std) + _SQUASH_EPS)
        np.tanh(mean + out[:, n:], out=self.actions)
        clipped = np.clip(self.actions, -1.0 + _FLOAT_EPS, 1.0 - _FLOAT_EPS)
        sample = 0.5 * (_log1p(clipped) - _log1p(-clipped))
        self._offset, self._squashed = sample - mean, np.tanh(sample)
        gauss = -(self._offset**2) / (2.0 * self._spread**2) - np.log(self._spread) - _HALF_LOG_TAU
        correction = np.log(1.0 - self._squashed**2 + _SQUASH_EPS)
        np.matmul(gauss - correction, self._ones, out=self.log_prob)

    def explore(self, latent: FloatArray, distribution: Distribution) -> FloatArray:
        """Return actions (n, A) in -1 .. 1 with the noise that `distribution` was reset to."""
        drawn = cast("StateDependentNoiseDistribution", distribution)
        mean = np.clip(latent @ self._weight.T + self._bias, -self._bound, self._bound)
        matrices = drawn.exploration_matrices.detach().numpy()
        if len(latent) == 1 or len(latent) != len(matrices):
            noise = latent @ drawn.exploration_mat.detach().numpy()
        else:
            noise = (latent[:, None, :] @ matrices)[:, 0]
        return cast("FloatArray", np.tanh(mean + noise))

    def backward(self, latent: FloatArray, per_log_prob: float, per_action: FloatArray, out: FloatArray) -> None:
        """Write the head's gradients and the slope behind the last hidden layer."""
        b, n = self._batch, self._n
        spread, offset = self._spread[:b], self._offset[:b]
        pull = per_log_prob * offset / spread**2
        per_output = self._per_output(per_log_prob, per_action, pull)
        is_free = np.abs(self._raw_mean[:b]) < self._bound
        per_mean = np.where(is_free, per_output + pull, np.float32(0.0))
        per_variance = per_log_prob * (offset**2 / spread**3 - 1.0 / spread) / (2.0 * spread)
        slope = np.concatenate([per_mean, per_output], axis=1)
        products = slope.T @ latent[:b]
        self._weight_gradient[:] = products[:n]
        np.sum(per_mean, axis=0, out=self._bias_gradient)
        per_std = products[n:].T * self._drawn.numpy() + 2.0 * self._std * (self._squares[:b].T @ per_variance)
        np.multiply(per_std, self._std, out=self._log_std_gradient)
        np.matmul(slope, self._both, out=out)
        np.matmul(2.0 * per_variance, (self._std * self._std).T, out=self._per_square)
        add_product(out, latent, self._per_square)

    def _per_output(self, per_log_prob: float, per_action: FloatArray, pull: FloatArray) -> FloatArray:
        """Return the slope before the tanh: of the action itself, and of the sample that is read back from it."""
        action, squashed = self.actions[: self._batch], self._squashed[: self._batch]
        flatness = 1.0 - squashed * squashed
        per_sample = per_log_prob * (2.0 * squashed * flatness / (flatness + _SQUASH_EPS)) - pull
        is_inside = np.abs(action) <= 1.0 - _FLOAT_EPS
        clipped = np.clip(action, -1.0 + _FLOAT_EPS, 1.0 - _FLOAT_EPS)
        read_back = 0.5 * (1.0 / (1.0 + clipped) + 1.0 / (1.0 - clipped))
        per_action = per_action + np.where(is_inside, per_sample * read_back, np.float32(0.0))
        return per_action * (1.0 - action * action)

    def publish(self, distribution: StateDependentNoiseDistribution) -> None:
        """Leave the last noise where Stable-Baselines3 would have left it."""
        std = torch.from_numpy(self._std.copy())
        distribution.weights_dist = torch.distributions.Normal(torch.zeros_like(std), std)
        distribution.exploration_mat = self._drawn * std
        distribution.exploration_matrices = self._drawn_parallel * std


def _log1p(values: FloatArray) -> FloatArray:
    # torch's is vectorised, NumPy's is not.
    return cast("FloatArray", torch.log1p(torch.from_numpy(values)).numpy())
