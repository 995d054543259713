"""`python -m benchmarks.training_member KIND [CORE]`: one member in training, which works when told and says how long.

KIND: fast (FastSAC), sb3 (Stable-Baselines3's SAC) or sbx (its JAX sibling). CORE: the only one it may use, and then
one thread; fast uses one thread in any case. It prints a line when it is warm; from then on each line it reads names a
number of steps, and it answers with the seconds they took. It imports nothing of ours but FastSAC, so that a peer's own
environment can run it.
"""

import importlib
import os
import sys
import time
from typing import Any

STEPS_PER_TRAIN = 4
_WARM_UP = 40
_INPUTS, _ACTIONS = 64, 3
_BUFFER = 500_000
_CLASSES = {
    "fast": ("training.fast_sac", "FastSAC"),
    "sb3": ("stable_baselines3", "SAC"),
    "sbx": ("sbx", "SAC"),
}


def main(kind: str, core: int | None) -> None:
    """Answer for one member until there is nothing more to read."""
    if core is not None:
        os.sched_setaffinity(0, {core})  # before the import: some libraries count cores then
    module, name = _CLASSES[kind]
    member = make_member(getattr(importlib.import_module(module), name))
    if core is not None or kind == "fast":
        importlib.import_module("torch").set_num_threads(1)
    member.learn(_WARM_UP, reset_num_timesteps=True)
    print("warm", flush=True)
    for line in sys.stdin:
        started_s = time.perf_counter()
        member.learn(int(line), reset_num_timesteps=False)
        print(time.perf_counter() - started_s, flush=True)


def make_member(kind: Any) -> Any:  # noqa: ANN401 - one of three classes, of which two may not be installed
    """Return a member in the `improved` preset whose buffer is full."""
    changes: dict[str, Any] = {} if kind.__module__.startswith("sbx") else {"device": "cpu"}
    member = kind(
        "MlpPolicy",
        _noise(),
        learning_rate=lambda remaining: 1e-5 + (3e-4 - 1e-5) * remaining,
        buffer_size=_BUFFER,
        learning_starts=0,
        batch_size=512,
        tau=0.01,
        gamma=0.995,
        train_freq=STEPS_PER_TRAIN,
        gradient_steps=STEPS_PER_TRAIN,
        use_sde=True,
        sde_sample_freq=64,
        policy_kwargs={"net_arch": [256, 256]},
        seed=1,
        **changes,
    )
    _fill(member.replay_buffer)
    return member


def _fill(replay: Any) -> None:  # noqa: ANN401 - a peer's buffer
    import numpy as np  # noqa: PLC0415 - after the process was told its core

    rng = np.random.default_rng(0)
    for stored in (replay.observations, replay.next_observations):
        rng.standard_normal(dtype=np.float32, out=stored)
    replay.actions[:] = rng.uniform(-1.0, 1.0, replay.actions.shape)
    replay.rewards[:] = rng.standard_normal(replay.rewards.shape)
    replay.full = True


def _noise() -> Any:  # noqa: ANN401 - Gymnasium is imported late
    """Return a task that costs nothing to step: what is measured is learning."""
    import gymnasium  # noqa: PLC0415 - after the process was told its core
    import numpy as np  # noqa: PLC0415

    class Noise(gymnasium.Env[Any, Any]):
        """Observations out of a table, whatever the action."""

        observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (_INPUTS,), np.float32)
        action_space = gymnasium.spaces.Box(-1.0, 1.0, (_ACTIONS,), np.float32)
        _table = np.random.default_rng(1).standard_normal((1_024, _INPUTS), dtype=np.float32)
        _at = 0

        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:  # noqa: ANN401
            super().reset(seed=seed, options=options)
            return self._table[self._at % 1_024], {}

        def step(self, action: Any) -> Any:  # noqa: ANN401
            self._at += 1
            return self._table[self._at % 1_024], float(action[0]), False, self._at % 1_000 == 0, {}

    return Noise()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else None)  # noqa: PLR2004
