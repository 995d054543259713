"""Another project's trading environment, stepped on demand in a process of its own, with that project's libraries.

`python -m benchmarks.environment_peer gym-trading-env|gym-anytrading FILE.npz`: says `ready`, then answers each number
of steps on a line of input with the seconds they took. FILE.npz holds the candles and features of both sides.
"""

import sys
import time
from typing import Any

import numpy as np
import pandas as pd


def trading_env(values: np.ndarray, rows: np.ndarray) -> Any:  # noqa: ANN401 - a Gymnasium environment
    """Return gym-trading-env over the candles: positions 0, a half and 1, a fee of 0.1 %, the same features."""
    from gym_trading_env.environments import TradingEnv  # noqa: PLC0415 - of the peers' Python only

    frame = pd.DataFrame(values, columns=["open", "high", "low", "close", "volume"])
    features = pd.DataFrame(rows, columns=[f"feature_{i}" for i in range(rows.shape[1])])
    return TradingEnv(
        df=pd.concat([frame, features], axis=1), positions=[0, 0.5, 1], trading_fees=0.001, verbose=0, name="peer"
    )


def anytrading(values: np.ndarray, rows: np.ndarray) -> Any:  # noqa: ANN401 - a Gymnasium environment
    """Return gym-anytrading over the candles: two actions, a window of one row of the same features."""
    from gym_anytrading.envs import StocksEnv  # noqa: PLC0415 - of the peers' Python only

    class Featured(StocksEnv):
        def _process_data(self) -> tuple[np.ndarray, np.ndarray]:
            return values[:, 3].astype(np.float32), rows

    return Featured(df=pd.DataFrame({"Close": values[:, 3]}), window_size=1, frame_bound=(1, len(values)))


KINDS = {"gym-trading-env": (trading_env, 3), "gym-anytrading": (anytrading, 2)}


def steps_s(env: Any, actions: list[int]) -> float:  # noqa: ANN401 - as above
    """Return the seconds that stepping through `actions` takes, resets left out."""
    env.reset(seed=1)
    elapsed_s, started_s = 0.0, time.process_time()
    for action in actions:
        _, _, is_ruined, is_over, _ = env.step(action)
        if is_ruined or is_over:
            elapsed_s += time.process_time() - started_s
            env.reset(seed=1)
            started_s = time.process_time()
    return elapsed_s + time.process_time() - started_s


def main() -> None:
    """Answer on standard output until standard input ends."""
    make, count = KINDS[sys.argv[1]]
    with np.load(sys.argv[2]) as arrays:
        env = make(arrays["values"], arrays["rows"])
    rng = np.random.default_rng(1)
    steps_s(env, rng.integers(count, size=500).tolist())
    print("ready", flush=True)
    for line in sys.stdin:
        print(steps_s(env, rng.integers(count, size=int(line)).tolist()), flush=True)


if __name__ == "__main__":
    main()
