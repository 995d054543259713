"""Archives of Stable-Baselines3 for tests of the import: genuine ones, and ones whose pickles do harm."""

import base64
import builtins
import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from stable_baselines3 import SAC
from stable_baselines3.common.base_class import BaseAlgorithm

from strategy.observation import N_OBSERVATION
from tests.training.markets import history
from training.episode import Episode
from training.history import History
from training.market import Conditions, setup_of
from training.trader_env import TraderEnv

ACTIONS = spaces.Box(np.array([-1, 0, 0], np.float32), np.array([1, 1, 1], np.float32))


class Noise(gymnasium.Env[Any, Any]):
    """Gives observations at random, whatever is done."""

    def __init__(self, observed: Any = N_OBSERVATION, actions: spaces.Space[Any] = ACTIONS) -> None:
        self.observation_space = spaces.Box(-2, 2, (observed,), np.float32) if isinstance(observed, int) else observed
        self.action_space = actions

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.observation_space.sample(), 0.0, False, False, {}


def trading(after: int = 300) -> TraderEnv:
    """Return this project's environment over a short random walk."""
    conditions = Conditions()
    table = history(after, seed=3)
    histories = [History(table, conditions.strategy.max_missing)]
    return TraderEnv(histories, setup_of([table], conditions, "test"), episode=Episode(length=None))


def learner(env: Any = None, steps: int = 60, **settings: Any) -> SAC:
    """Return a tiny SAC, trained past `learning_starts`."""
    given: dict[str, Any] = {"learning_starts": 20, "buffer_size": 200, "batch_size": 8, "device": "cpu", "seed": 1}
    given["policy_kwargs"] = {"net_arch": [16, 16], **settings.pop("policy_kwargs", {})}
    model = SAC("MlpPolicy", Noise() if env is None else env, **{**given, **settings})
    return model.learn(steps) if steps else model


def saved(model: BaseAlgorithm, path: Path) -> Path:
    """Save a model as its users do."""
    model.save(path)
    return path


def entries(path: Path) -> dict[str, bytes]:
    """Return what an archive holds."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(path: Path, contents: dict[str, bytes], packing: int = zipfile.ZIP_STORED) -> Path:
    """Write an archive."""
    with zipfile.ZipFile(path, "w", packing) as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    return path


def changed(source: Path, path: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """Write `source` to `path` with other settings."""
    contents = entries(source)
    data = json.loads(contents["data"])
    change(data)
    return packed(path, {**contents, "data": json.dumps(data).encode()})


class _Runs:
    """Pickles into a call of `exec` with `code`."""

    def __init__(self, code: str) -> None:
        self._code = code

    def __reduce__(self) -> tuple[Any, ...]:
        return builtins.exec, (self._code, {})


def hostile(source: Path, path: Path, code: str) -> Path:
    """Write `source` to `path` so that whoever loads it runs `code`; what it replaces is not missed before that."""
    pickled = io.BytesIO()
    pickle.Pickler(pickled, protocol=4).dump(_Runs(code))
    text = base64.b64encode(pickled.getvalue()).decode()

    def plant(data: dict[str, Any]) -> None:
        data["planted"] = {":type:": "<class 'object'>", ":serialized:": text}

    return changed(source, path, plant)
