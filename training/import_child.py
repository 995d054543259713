"""The far side of an import: loads an archive that nobody vouches for, in a process that has given up all rights.

Run by `training.import_model` and by nobody else. From `confine` on nothing here can be relied on, since the archive
may have run code of its own: it can only hurt its own answer, which the parent takes for hostile.
Answer, on what was standard output: a line of JSON that tells the restrictions, written before the archive is touched;
a line of JSON about the policy; its arrays as safetensors.
"""

import importlib
import io
import json
import os
import sys
import sysconfig
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import gymnasium
import numpy as np
import safetensors.numpy
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3 import SAC
from stable_baselines3.sac.policies import SACPolicy

from strategy.decision import ACTION_HIGH, ACTION_LOW
from strategy.observation import N_OBSERVATION
from training.errors import ExportError
from training.export import actor_of
from training.import_sandbox import CannotConfine, Limits, confine

_SYSTEM = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/dev/urandom", "/proc/meminfo")
_WHERE_NUMPY_1_KEPT_ARRAYS = ("numpy.core.multiarray", "numpy.core.numeric")
_REPLACED: Mapping[str, Any] = {
    "learning_rate": 0.0,
    "lr_schedule": None,
    "train_freq": 1,
    "buffer_size": 1,
    "replay_buffer_class": None,
    "replay_buffer_kwargs": {},
    "action_noise": None,
    "ep_info_buffer": None,
    "ep_success_buffer": None,
    "_last_obs": None,
    "_last_episode_starts": None,
    "_last_original_obs": None,
    "tensorboard_log": None,
}
"""What answers do not depend on: SB3 leaves these pickles alone, and some that other Python versions wrote crash."""


def main(held: Sequence[str], given: str) -> None:
    """Answer for the archive behind a file descriptor, and end the process.

    held: restrictions in force already.  given: JSON with `archive` and `observations`, descriptors, and `limits`.
    """
    settings = json.loads(given)
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what an archive prints must not stand among the answer
    torch.set_num_threads(1)
    _warm_up()
    observations = np.frombuffer(_read(settings["observations"]), np.float32).reshape(-1, N_OBSERVATION)
    archive = os.fdopen(settings["archive"], "rb")
    try:
        held = [*held, *confine(Limits(**settings["limits"]), readable())]
    except CannotConfine as error:
        _say(answer, {"unconfined": str(error)})
        os._exit(0)
    _say(answer, {"held": held})
    try:
        about, arrays = _load(archive, observations)
    except ExportError as error:
        about, arrays = {"refused": str(error)}, {}
    except BaseException as error:  # noqa: BLE001 - whatever an archive raises is an answer
        about, arrays = {"refused": _said(error)}, {}
    _say(answer, about)
    answer.write(safetensors.numpy.save(arrays))
    answer.flush()
    os._exit(0)


def readable() -> list[Path]:
    """Return what loading a policy may have to read: Python, its libraries, and our two packages."""
    root = Path(__file__).resolve().parents[1]
    known = [Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    found = [path for path in map(Path, sys.path) if path.is_absolute() and path.resolve() != root]
    return [*known, *found, root / "training", root / "strategy", *map(Path, _SYSTEM)]


class _Still(gymnasium.Env[NDArray[np.float32], NDArray[np.float32]]):
    """Stands where SB3 wants an environment."""

    observation_space = spaces.Box(-1.0, 1.0, (N_OBSERVATION,), np.float32)
    action_space = spaces.Box(np.array(ACTION_LOW, np.float32), np.array(ACTION_HIGH, np.float32))


def _warm_up() -> None:
    """Save, load and ask a policy, so that all that this imports is here before files can no longer be read."""
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        for name in _WHERE_NUMPY_1_KEPT_ARRAYS:
            importlib.import_module(name)
    for use_sde in (False, True):
        model = SAC(
            "MlpPolicy", _Still(), device="cpu", buffer_size=1, use_sde=use_sde, policy_kwargs={"net_arch": [2]}
        )
        saved = io.BytesIO()
        model.save(saved)
        saved.seek(0)
        _, arrays = _load(io.BufferedReader(saved), np.zeros((2, N_OBSERVATION), np.float32))
        safetensors.numpy.save(arrays)


def _load(
    archive: io.BufferedIOBase, observations: NDArray[np.float32]
) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]]]:
    """Return what the parent asks about a policy, and its arrays with what it `answers` to the observations."""
    model = SAC.load(archive, device="cpu", custom_objects=dict(_REPLACED))
    _check_fit(model)
    actor = actor_of(model)
    answers, _ = model.predict(observations, deterministic=True)
    about = {
        "activation": str(actor.activation),
        "clip_mean": actor.clip_mean,
        "use_sde": actor.use_sde,
        "seed": model.seed,
        "steps": model.num_timesteps,
    }
    return about, {**actor.arrays, "answers": np.ascontiguousarray(answers, np.float32)}


def _check_fit(model: SAC) -> None:
    """Refuse what answers otherwise than our policies do, in words."""
    if type(model.policy) is not SACPolicy:
        raise ExportError(f"its policy is a {type(model.policy).__name__}: give one saved with SAC's MlpPolicy")
    observed, action = model.observation_space, model.action_space
    if not isinstance(observed, spaces.Box) or observed.shape != (N_OBSERVATION,):
        raise ExportError(
            f"it observes {observed}: give one that observes a Box of {N_OBSERVATION} numbers, as we show"
        )
    low, high = np.array(ACTION_LOW, np.float32), np.array(ACTION_HIGH, np.float32)
    if (
        not isinstance(action, spaces.Box)
        or action.shape != low.shape
        or not (np.array_equal(action.low, low) and np.array_equal(action.high, high))
    ):
        raise ExportError(f"its actions are {action}: give one whose actions are Box({ACTION_LOW}, {ACTION_HIGH})")


def _said(error: BaseException) -> str:
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, PermissionError):
        return f"it tried what loading weights does not need, and was kept from it ({text})"
    if isinstance(error, ImportError):
        return f"it needs what is not installed or may not be read here ({text}): save it again without that"
    return f"Stable-Baselines3 cannot load it ({text})"


def _read(descriptor: int) -> bytes:
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def _say(answer: IO[bytes], value: Mapping[str, Any]) -> None:
    answer.write(json.dumps(value).encode() + b"\n")
    answer.flush()
