"""`python -m benchmarks.learning_parity --out FILE`: whether FastSAC learns as well as Stable-Baselines3's SAC.

Both train with the same seeds on Pendulum-v1 and on this project's environment; each run ends with the mean return of
its deterministic policy over the same episodes. Runs are lines of JSON in FILE, and those that stand there already are
not repeated, so that a run of the script that was ended goes on. At the end stand the means, the returns seed by seed,
and Welch's interval of the difference: learning is equal within seed noise where that interval holds zero.

Ten runs of 10,000 steps on each task take about half an hour on one core; run it with `nice`.
"""

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.welch import difference_of, mean_of

_TASKS = ("pendulum", "candles")
_ALGORITHMS = ("fast", "sb3")
_EPISODES = 20
_EPISODE_CANDLES = 200
_FIRST_EVALUATION_SEED = 1_000_000
_SETTINGS: dict[str, dict[str, Any]] = {
    # The learning rate is that of the RL Zoo, the rest are Stable-Baselines3's own defaults.
    "pendulum": {"learning_rate": 1e-3, "policy_kwargs": {"net_arch": [64, 64]}},
    # The `improved` preset, made smaller and faster: with 3e-4 a policy does not act yet after 10,000 steps.
    "candles": {
        "learning_rate": 1e-3,
        "batch_size": 128,
        "tau": 0.01,
        "gamma": 0.995,
        "train_freq": 4,
        "gradient_steps": 4,
        "use_sde": True,
        "sde_sample_freq": 64,
        "learning_starts": 1_000,
        "policy_kwargs": {"net_arch": [64, 64]},
    },
}

Run = dict[str, Any]


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.learning_parity", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSON lines, added to")
    parser.add_argument("--task", choices=_TASKS, action="append", help="one or more; all without")
    parser.add_argument("--steps", type=int, default=10_000, help="of the environment, per run")
    parser.add_argument("--seeds", type=int, default=5, help="how many, from 0")
    parser.add_argument("--workers", type=int, default=1, help="runs at a time, a process and a thread each")
    arguments = parser.parse_args()
    tasks = arguments.task or list(_TASKS)
    done = _read(arguments.out)
    # Seed by seed, so that what an unfinished file holds can be compared already.
    wanted = [
        (task, kind, seed, arguments.steps) for seed in range(arguments.seeds) for task in tasks for kind in _ALGORITHMS
    ]
    _work([run for run in wanted if run not in {_key(line) for line in done}], arguments.out, arguments.workers)
    runs = [line for line in _read(arguments.out) if _key(line) in set(wanted)]
    for task in tasks:
        print(summary([run for run in runs if run["task"] == task]))


def summary(runs: Iterable[Run]) -> str:
    """Return in words what the runs of one task say."""
    runs = sorted(runs, key=lambda run: run["seed"])
    returns = {kind: [run["mean_return"] for run in runs if run["algorithm"] == kind] for kind in _ALGORITHMS}
    seconds = {kind: sum(run["seconds"] for run in runs if run["algorithm"] == kind) for kind in _ALGORITHMS}
    if min(map(len, returns.values())) < 2:  # noqa: PLR2004 - an interval needs two runs
        return f"{runs[0]['task']}: give --seeds 2 or more for a comparison"
    difference = difference_of(returns["fast"], returns["sb3"])
    verdict = "equal within seed noise" if difference.low <= 0.0 <= difference.high else "NOT EQUAL"
    if len({*returns["fast"], *returns["sb3"]}) == 1:
        verdict = "every run returned the same, which says nothing: give more --steps"
    lines = [f"{runs[0]['task']}, {runs[0]['steps']:,} steps, {len(returns['fast'])} seeds: {verdict}"]
    for kind, name in (("fast", "FastSAC"), ("sb3", "SB3 SAC")):
        each = ", ".join(f"{value:.4g}" for value in returns[kind])
        lines.append(f"  {name}: mean return {mean_of(returns[kind])} in {seconds[kind]:,.0f} s; by seed {each}")
    return "\n".join([*lines, f"  difference {difference} (Welch, 95 %)"])


def _work(runs: list[tuple[str, str, int, int]], out: Path, workers: int) -> None:
    # A process is told its threads before it imports NumPy and torch, so it inherits them.
    os.environ.update(dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))
    with multiprocessing.get_context("spawn").Pool(workers) as pool, out.open("a", encoding="utf-8") as file:
        for line in pool.imap_unordered(_learn, runs):
            file.write(json.dumps(line) + "\n")
            file.flush()
            print(f"{line['task']} {line['algorithm']} seed {line['seed']}: {line['mean_return']:.4g}", flush=True)


def _learn(run: tuple[str, str, int, int]) -> Run:
    """Train and evaluate one member."""
    import torch  # noqa: PLC0415 - in the process that trains, after it was told its threads
    from stable_baselines3 import SAC  # noqa: PLC0415

    from training.fast_sac import FastSAC  # noqa: PLC0415

    task, algorithm, seed, steps = run
    torch.set_num_threads(1)
    kind = FastSAC if algorithm == "fast" else SAC
    started_s = time.perf_counter()
    model = kind("MlpPolicy", _env(task), seed=seed, device="cpu", buffer_size=steps, **_SETTINGS[task])
    model.learn(steps)
    seconds = time.perf_counter() - started_s
    env = _env(task)
    returns = [_episode_return(model, env, _FIRST_EVALUATION_SEED + index) for index in range(_EPISODES)]
    return {
        "task": task,
        "algorithm": algorithm,
        "seed": seed,
        "steps": steps,
        "mean_return": sum(returns) / len(returns),
        "returns": returns,
        "seconds": seconds,
        "gradient_steps": model._n_updates,  # noqa: SLF001 - it has no other name
    }


def _episode_return(model: Any, env: Any, seed: int) -> float:  # noqa: ANN401 - torch's and Gymnasium's, imported late
    observation, _ = env.reset(seed=seed)
    total, is_over = 0.0, False
    while not is_over:
        action, _ = model.predict(observation, deterministic=True)
        observation, reward, is_ended, is_cut, _ = env.step(action)
        total, is_over = total + float(reward), is_ended or is_cut
    return total


def _env(task: str) -> Any:  # noqa: ANN401 - Gymnasium is imported late
    import gymnasium  # noqa: PLC0415 - in the process that trains

    from benchmarks.market import hourly_candles, setup_for  # noqa: PLC0415
    from training.env import TradingEnv  # noqa: PLC0415
    from training.episode import Episode  # noqa: PLC0415
    from training.history import History  # noqa: PLC0415

    if task == "pendulum":
        return gymnasium.make("Pendulum-v1")
    table, _ = hourly_candles()
    setup = setup_for(table)
    return TradingEnv([History(table, setup.strategy.max_missing)], setup, episode=Episode(length=_EPISODE_CANDLES))


def _key(line: Run) -> tuple[str, str, int, int]:
    return line["task"], line["algorithm"], line["seed"], line["steps"]


def _read(path: Path) -> list[Run]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    main()
