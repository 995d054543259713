"""Three members asked by the NumPy ensemble, against three Stable-Baselines3 `predict` calls in the same process.

Members are 256x256 with 40 inputs, one observation at a time, one thread each. Rounds of both alternate, so that
whatever else the machine does falls on both. Measured in a process of its own: the number of threads of NumPy's
linear algebra is fixed when NumPy is imported.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.result import Result

if TYPE_CHECKING:  # importing it imports NumPy, which must wait for the child
    from strategy.policy import Float32Array

_ROUNDS = 9
_OURS_PER_ROUND = 2_000
_REFERENCE_PER_ROUND = 200
_INPUTS = 40
_TARGET = 20.0
_ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def run() -> list[Result]:
    """Return one result for plain policies and one for policies with gSDE; takes about ten seconds."""
    child = subprocess.run(
        [sys.executable, "-m", "benchmarks.ensemble_forward"],
        check=True,
        stdout=subprocess.PIPE,
        env={**os.environ, **_ONE_THREAD},
    )
    return [_result(**figures) for figures in json.loads(child.stdout)]


def _result(kind: str, ours_s: list[float], reference_s: list[float], difference: float) -> Result:
    rounds = [reference / ours for ours, reference in zip(ours_s, reference_s, strict=True)]
    return Result(
        name=f"ensemble forward, three 256x256 members, {kind}",
        ratio=median(rounds),
        target=_TARGET,
        better="higher",
        ours=f"{median(ours_s) * 1e6:.1f} us",
        reference=f"{median(reference_s) * 1e6:.0f} us, three SB3 predict calls",
        note=f"rounds {', '.join(f'{ratio:.1f}' for ratio in rounds)}; answers differ by at most {difference:.1e}",
    )


def _measure(kind: str, *, use_sde: bool) -> dict[str, Any]:
    """Return the seconds per decision of each round, and the largest difference between the answers."""
    import numpy as np  # noqa: PLC0415  # in the child only, after the threads are set

    from strategy.policy import Ensemble  # noqa: PLC0415

    models, actors = zip(*(_member(seed, use_sde=use_sde) for seed in range(3)), strict=True)
    ensemble = Ensemble(actors, [1.0 / 3.0] * 3)
    observations = np.random.default_rng(0).standard_normal((2_048, _INPUTS), dtype=np.float32)

    def predict(observation: "Float32Array") -> list[Any]:
        return [model.predict(observation, deterministic=True)[0] for model in models]

    answers = np.stack([predict(observation) for observation in observations])
    difference = float(np.abs(ensemble.act(observations) - answers).max())
    ours_s, reference_s = [], []
    for _ in range(_ROUNDS):
        ours_s.append(_typical_s(ensemble.act_one, observations, _OURS_PER_ROUND))
        reference_s.append(_typical_s(predict, observations, _REFERENCE_PER_ROUND))
    return {"kind": kind, "ours_s": ours_s, "reference_s": reference_s, "difference": difference}


def _typical_s(ask: Callable[[Any], object], observations: "Float32Array", count: int) -> float:
    taken = []
    for index in range(count):
        observation = observations[index % len(observations)]
        started = time.perf_counter()
        ask(observation)
        taken.append(time.perf_counter() - started)
    return median(taken)


def _member(seed: int, *, use_sde: bool) -> tuple[Any, Any]:
    import gymnasium  # noqa: PLC0415
    import numpy as np  # noqa: PLC0415
    from gymnasium import spaces  # noqa: PLC0415
    from stable_baselines3 import SAC  # noqa: PLC0415

    from training.export import build_actor, export_actor  # noqa: PLC0415

    class Space(gymnasium.Env[Any, Any]):
        """Observation and action space, which is all that `predict` needs."""

        observation_space = spaces.Box(-np.inf, np.inf, (_INPUTS,), np.float32)
        action_space = spaces.Box(np.array([-1, 0, 0], np.float32), np.ones(3, np.float32))

    policy = {"net_arch": [256, 256]}
    model = SAC("MlpPolicy", Space(), seed=seed, use_sde=use_sde, buffer_size=1, device="cpu", policy_kwargs=policy)
    return model, build_actor(export_actor(model), f"member-{seed}")


def _main() -> None:
    import torch  # noqa: PLC0415

    torch.set_num_threads(1)
    print(json.dumps([_measure("plain", use_sde=False), _measure("gSDE", use_sde=True)]))


if __name__ == "__main__":
    _main()
