# ruff: noqa: SLF001 - what an SB3 model does next stands in its private attributes
"""All that a Stable-Baselines3 model will do next, as plain arrays and numbers, and back into a model of the same make.

Both happen where a rollout starts: between two transitions, after the last update. At any other place a transition
would be on its way between the environment and the replay buffer.
"""

import warnings
from collections import deque
from collections.abc import Mapping
from operator import attrgetter
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.distributions import StateDependentNoiseDistribution

from training.arithmetic import arithmetic
from training.errors import TrainingError

Weights = dict[str, NDArray[Any]]
_COUNTERS = (
    "num_timesteps",
    "_episode_num",
    "_n_updates",
    "_current_progress_remaining",
    "_n_calls",
    "exploration_rate",
)
"""The last two are DQN's."""
_EPISODE = ("r", "l", "t")
_POLICY = "policy"
_MATRICES = ("exploration_mat", "exploration_matrices")


class Resumable(Protocol):
    """An environment that can be put back to where it was."""

    def state(self) -> dict[str, Any]:
        """Return plain arrays and JSON types."""

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from where `state` was taken."""


def capture(model: BaseAlgorithm) -> dict[str, Any]:
    """Return everything but the replay buffer. Arrays may look into the model's own memory: pack them before it moves.

    Raises TrainingError when the model explores with an action noise, which is not kept.
    """
    if model.action_noise is not None:
        raise TrainingError("a model with an action noise cannot be kept for later: leave the noise out")
    return {
        "weights": weights_of(model),
        "optimisers": {name: _optimiser_state(attrgetter(name)(model)) for name in _optimisers(model)},
        "noise": _noise(model),
        "counters": {name: getattr(model, name) for name in _COUNTERS if hasattr(model, name)},
        "last_observation": model._last_obs,
        "last_episode_starts": model._last_episode_starts,
        "episodes": [[float(episode[key]) for key in _EPISODE] for episode in model.ep_info_buffer or ()],
        "random": _random_state(model),
        "environment": environment_of(model).state(),
        "arithmetic": arithmetic(model.device),
    }


def restore(model: BaseAlgorithm, state: Mapping[str, Any]) -> None:
    """Make `model`, which was built from the same plan, go on as the one that `state` was captured from.

    Warns where this process computes in other last digits: then the end will not be that of an uninterrupted run.
    """
    _compare_arithmetic(state["arithmetic"], arithmetic(model.device))
    load_weights(model, state["weights"])
    load_optimisers(model, state["optimisers"])
    _restore_noise(model, state["noise"])
    for name, value in state["counters"].items():
        setattr(model, name, value)
    model._num_timesteps_at_start = model.num_timesteps  # the rate is that of this process
    model._last_obs = state["last_observation"]
    model._last_episode_starts = state["last_episode_starts"]
    episodes = [dict(zip(_EPISODE, episode, strict=True)) for episode in state["episodes"]]
    model.ep_info_buffer = deque(episodes, maxlen=model._stats_window_size)
    environment_of(model).restore(state["environment"])
    _restore_random(model, state["random"])


def _compare_arithmetic(then: str, now: str) -> None:
    if then != now:
        text = (
            f"step by step this process rounds otherwise ({now}) than the one that wrote the checkpoint ({then}): it "
            "goes on, but will not end with the very weights of an uninterrupted run; for those, resume on a machine "
            "with the same processor, and with the same OPENBLAS_* and OMP_* variables"
        )
        warnings.warn(text, RuntimeWarning, stacklevel=3)


def weights_of(model: BaseAlgorithm) -> Weights:
    """Return all that the model has learned, by name: its networks with their targets, and the entropy coefficient."""
    named = dict(model.policy.state_dict())
    named.update({f"variable.{name}": attrgetter(name)(model) for name in model._get_torch_save_params()[1]})
    return {name: tensor.detach().cpu().numpy() for name, tensor in named.items()}


def load_weights(model: BaseAlgorithm, weights: Mapping[str, NDArray[Any]]) -> None:
    """Put what `weights_of` returned into a model of the same make, in place."""
    variables = set(model._get_torch_save_params()[1])
    own = {name: torch.from_numpy(array) for name, array in weights.items() if not name.startswith("variable.")}
    model.policy.load_state_dict(own)
    for name in variables:
        attrgetter(name)(model).data.copy_(torch.from_numpy(weights[f"variable.{name}"]))


def load_optimisers(model: BaseAlgorithm, optimisers: Mapping[str, Any]) -> None:
    """Put what `capture` returned as `optimisers` into a model of the same make."""
    for name, kept in optimisers.items():
        _restore_optimiser(attrgetter(name)(model), kept)


def is_finite(model: BaseAlgorithm) -> bool:
    """Return False when any weight is NaN or infinite."""
    return all(bool(np.isfinite(array).all()) for array in weights_of(model).values())


def environment_of(model: BaseAlgorithm) -> Resumable:
    """Return the environment that the model practises in."""
    return cast("Resumable", model.get_env())


def _optimisers(model: BaseAlgorithm) -> list[str]:
    return [name for name in model._get_torch_save_params()[0] if name != _POLICY]


def _optimiser_state(optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    kept = optimiser.state_dict()
    state = {
        str(index): {name: value.cpu().numpy() if torch.is_tensor(value) else value for name, value in moments.items()}
        for index, moments in kept["state"].items()
    }
    return {"rates": [group["lr"] for group in kept["param_groups"]], "state": state}


def _restore_optimiser(optimiser: torch.optim.Optimizer, kept: Mapping[str, Any]) -> None:
    whole = optimiser.state_dict()
    for group, rate in zip(whole["param_groups"], kept["rates"], strict=True):
        group["lr"] = rate
    whole["state"] = {
        int(index): {name: _tensor(value) for name, value in moments.items()}
        for index, moments in kept["state"].items()
    }
    optimiser.load_state_dict(whole)


def _tensor(value: Any) -> Any:  # noqa: ANN401 - an optimiser's state holds tensors and numbers
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value


def _noise_of(model: BaseAlgorithm) -> StateDependentNoiseDistribution | None:
    holder = getattr(model.policy, "actor", model.policy)
    distribution = getattr(holder, "action_dist", None)
    return distribution if isinstance(distribution, StateDependentNoiseDistribution) else None


def _noise(model: BaseAlgorithm) -> Weights:
    """Return the matrices that gSDE explores with until it draws new ones."""
    distribution = _noise_of(model)
    if distribution is None:
        return {}
    return {name: getattr(distribution, name).detach().cpu().numpy() for name in _MATRICES}


def _restore_noise(model: BaseAlgorithm, noise: Mapping[str, NDArray[Any]]) -> None:
    for name, matrix in noise.items():
        setattr(_noise_of(model), name, torch.from_numpy(matrix).to(model.device))


def _random_state(model: BaseAlgorithm) -> dict[str, Any]:
    """Return the states of every generator that SB3 draws from; its seed sets them all."""
    cuda = torch.cuda.get_rng_state(model.device).numpy() if model.device.type == "cuda" else None
    return {
        "torch": torch.get_rng_state().numpy(),
        "cuda": cuda,
        "numpy": list(np.random.get_state(legacy=True)),  # noqa: NPY002 - the generator that SB3 uses
        "actions": model.action_space.np_random.bit_generator.state,
    }


def _restore_random(model: BaseAlgorithm, state: Mapping[str, Any]) -> None:
    torch.set_rng_state(torch.from_numpy(state["torch"]))
    if state["cuda"] is not None:
        torch.cuda.set_rng_state(torch.from_numpy(state["cuda"]), model.device)
    np.random.set_state(tuple(state["numpy"]))  # noqa: NPY002
    model.action_space.np_random.bit_generator.state = state["actions"]
