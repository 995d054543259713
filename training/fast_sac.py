"""Stable-Baselines3's SAC with its gradient step written by hand in NumPy: the same algorithm, several times as fast.

Everything else (constructor, callbacks, learn, save and load, logger keys) is Stable-Baselines3's, and archives of one
load in the other. With the same seed both draw the same batches and the same noise; weights stay equal to float32
rounding, which training then amplifies as it does any rounding.

For speed, give a process one thread (OPENBLAS_NUM_THREADS=1) and train members in processes side by side.
"""

import inspect
import warnings
from itertools import pairwise
from typing import Any, Self

import numpy as np
import torch
from stable_baselines3 import SAC
from stable_baselines3.common.preprocessing import get_action_dim, get_flattened_obs_dim
from stable_baselines3.common.torch_layers import get_actor_critic_arch
from stable_baselines3.common.type_aliases import RolloutReturn

from training.errors import Diverged, TrainingError
from training.sac_known import UnknownNetwork, take_apart
from training.sac_update import Losses, SacUpdate

CUDA_FROM_FLOP = 5e9
"""Floating-point operations of a gradient step from which `device="auto"` takes a GPU where there is one.

On a GPU a step of Stable-Baselines3's takes some milliseconds whatever the size, its hundreds of small kernels being
launched one by one; a core does 1e9 operations in about that time, and each member has a core of its own, which a GPU
they share would take from them. 256x256 with batches of 512 needs 1.4e9, 512x512 with 1,024 needs 9e9.
"""


class FastSAC(SAC):
    """SAC, faster on the CPU; see Stable-Baselines3's for all arguments.

    device: "auto" takes a GPU only where a step is large enough to gain by it (CUDA_FROM_FLOP); on a GPU, and for
    networks that the update by hand does not know, the step is Stable-Baselines3's own, in the latter case with one
    warning that says why.
    """

    _update: SacUpdate | None = None
    _is_told = False
    _is_exploring = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - whatever SAC takes
        """Take the same arguments as SAC."""
        asked = inspect.signature(SAC).bind(*args, **kwargs)
        self._asked_device = asked.arguments.get("device", "auto")
        super().__init__(*args, **kwargs)

    def _setup_model(self) -> None:
        if self._asked_device == "auto" and self.device.type == "cuda":
            self.device = torch.device("cuda" if update_flop(self) >= CUDA_FROM_FLOP else "cpu")
        super()._setup_model()

    @classmethod
    def load(cls, *args: Any, **kwargs: Any) -> Self:  # noqa: ANN401 - whatever SAC takes
        """Load an archive of FastSAC's or SAC's; see Stable-Baselines3's for all arguments."""
        model = super().load(*args, **kwargs)
        # Stable-Baselines3 reads these to the device it would have chosen, which may not be the model's.
        coefficient = model.ent_coef_tensor if model.log_ent_coef is None else model.log_ent_coef
        coefficient.data = coefficient.data.to(model.device)
        return model

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_update", "_is_told", "_is_exploring", "_asked_device"]

    def collect_rollouts(self, *args: Any, **kwargs: Any) -> RolloutReturn:  # noqa: ANN401 - whatever SAC takes
        """Collect as SAC does; noisy actions come from the same buffers as the update, without torch."""
        self._is_exploring = self._bound(self.batch_size) is not None
        try:
            return super().collect_rollouts(*args, **kwargs)
        finally:
            self._is_exploring = False

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """Return what SAC does. Raises Diverged when noisy actions in training are not finite."""
        update = self._update if self._is_exploring and not deterministic else None
        dimensions = len(self.observation_space.shape or ())
        if update is None or not isinstance(observation, np.ndarray) or observation.ndim == dimensions:
            return super().predict(observation, state, episode_start, deterministic)
        actions = update.explore(self, observation)
        if not np.isfinite(actions).all():
            raise Diverged(f"step {self.num_timesteps}: the actions are not finite; lower the learning rate")
        return self.policy.unscale_action(actions.reshape(-1, *(self.action_space.shape or ()))), state

    def train(self, gradient_steps: int, batch_size: int = 64) -> None:
        """Take `gradient_steps` steps on batches of `batch_size`.

        Raises Diverged, naming the step, when a loss is not finite: before that step changes the weights.
        """
        update = self._bound(batch_size)
        if update is None:
            super().train(gradient_steps, batch_size)
            return
        # Known networks have no layer that training mode changes, so it is not set: torch takes long over that.
        optimizers = [self.actor.optimizer, self.critic.optimizer]
        if self.ent_coef_optimizer is not None:
            optimizers.append(self.ent_coef_optimizer)
        self._update_learning_rate(optimizers)
        update.begin(self)
        losses = [self._step(update, index) for index in range(gradient_steps)]
        update.finish(self)
        self._n_updates += gradient_steps
        self._record(losses)

    def _step(self, update: SacUpdate, index: int) -> Losses:
        replay = self.replay_buffer
        if replay is None:
            raise TrainingError("there is no replay buffer: learn() makes one, load_replay_buffer() reads one")
        try:
            # Every loss is looked at, so NumPy's own warnings on the way there say nothing new.
            with np.errstate(all="ignore"):
                return update.step(self, replay, with_targets=index % self.target_update_interval == 0)
        except Diverged as error:
            raise Diverged(f"gradient step {self._n_updates + index + 1}: {error}") from error

    def _record(self, losses: list[Losses]) -> None:
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        for name in ("ent_coef", "actor_loss", "critic_loss", "ent_coef_loss"):
            values = [value for loss in losses if (value := getattr(loss, name)) is not None]
            if values:
                self.logger.record(f"train/{name}", np.mean(values))

    def _bound(self, batch_size: int) -> SacUpdate | None:
        """Return the update of the model as it is now, None where Stable-Baselines3's own is to be used."""
        if self.device.type != "cpu":
            return None
        if self._update is None or not self._update.is_bound(self, batch_size):
            try:
                self._update = SacUpdate(self, take_apart(self), batch_size)
            except UnknownNetwork as unknown:
                self._tell(str(unknown))
                self._update = None
        return self._update

    def _tell(self, reason: str) -> None:
        if not self._is_told:
            text = f"FastSAC: {reason}; the update is Stable-Baselines3's own, and as slow"
            warnings.warn(text, RuntimeWarning, stacklevel=2)
        self._is_told = True


def update_flop(model: SAC) -> float:
    """Return about how many floating-point operations a gradient step of `model` takes.

    It reads the arguments, as there may be no networks yet.
    """
    kwargs = model.policy_kwargs or {}
    actor_arch, critic_arch = get_actor_critic_arch(kwargs.get("net_arch") or [256, 256])
    inputs = get_flattened_obs_dim(model.observation_space)
    actions = get_action_dim(model.action_space)
    actor = _products([inputs, *actor_arch, 2 * actions])
    critic = _products([inputs + actions, *critic_arch, 1])
    # Actor: both batches forward, weights and inputs back. Each critic: four passes forward or back besides the target.
    return 2.0 * model.batch_size * (4 * actor + 6 * int(kwargs.get("n_critics", 2)) * critic)


def _products(widths: list[int]) -> int:
    return sum(before * after for before, after in pairwise(widths))
