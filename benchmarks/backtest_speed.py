"""The engine of `sacd backtest` over a whole history, against a Stable-Baselines3 predict loop over the environment.

Both trade the same candles with the same three policies. The reference asks them one after another, takes the mean
action and steps the Gymnasium environment; its speed does not depend on how long it runs, so it runs over a stretch.
Reading the file is in neither; computing the features is in ours, and not in the reference, which gets them ready-made.
"""

import time
from statistics import median

import numpy as np

from benchmarks.market import hourly_candles, setup_for
from benchmarks.members import Members
from benchmarks.result import Result
from benchmarks.timing import spread, take_turns
from strategy.candle_table import CandleTable
from strategy.features import WINDOW
from strategy.observation import N_OBSERVATION
from strategy.trader import Setup
from training import backtest
from training.episode import Episode
from training.history import History
from training.trader_env import TraderEnv

_ROUNDS = 5
_STEPS = 1_500
_TARGET = 8.0
_SIZES = ((64, 64), (256, 256))


def run(*, quick: bool = False) -> list[Result]:
    """Return one result for each size of the members; takes about two minutes."""
    table, words = hourly_candles()
    if quick:
        end_ms = int(table.open_ms[WINDOW + 300])
        table, words = table.slice(None, end_ms), "quick: too few candles to tell"
    setup = setup_for(table)
    env = TraderEnv([History(table, setup.strategy.max_missing)], setup, episode=Episode(length=None))
    return [_measure(size, table, setup, env, words=words, quick=quick) for size in _SIZES]


def _measure(
    size: tuple[int, int], table: CandleTable, setup: Setup, env: TraderEnv, *, words: str, quick: bool
) -> Result:
    members = Members(N_OBSERVATION, size)
    rounds = take_turns(
        lambda: _ours_s(table, setup, members),
        lambda: _loop_s(env, members, 100 if quick else _STEPS),
        1 if quick else _ROUNDS,
    )
    ratios = rounds.ratios("higher")
    return Result(
        name=f"backtest, three {size[0]}x{size[1]} members",
        ratio=median(ratios),
        target=_TARGET,
        better="higher",
        ours=f"{1.0 / rounds.ours:,.0f} candles/s",
        reference=f"{1.0 / rounds.reference:,.0f} candles/s, SB3 predict loop over the environment",
        note=f"{spread(ratios)}; {words}",
    )


def _ours_s(table: CandleTable, setup: Setup, members: Members) -> float:
    """Return the seconds per candle of a backtest over all of `table`."""
    started_s = time.perf_counter()
    backtest.run([table], setup, members.ensemble)
    return (time.perf_counter() - started_s) / len(table)


def _loop_s(env: TraderEnv, members: Members, steps: int) -> float:
    """Return the seconds per step of the loop that is usually written."""
    observation, _ = env.reset()
    started_s = time.perf_counter()
    for _ in range(steps):
        action = np.mean(members.predict(observation), axis=0)
        observation, _, is_ruined, is_over, _ = env.step(action)
        if is_ruined or is_over:
            observation, _ = env.reset()
    return (time.perf_counter() - started_s) / steps
