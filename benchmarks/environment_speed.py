"""Steps of the compiled environments, against their definition and against what other projects offer.

`TradingEnv.step` and `VectorTradingEnv.step` as a learner calls them: the full cost model, every limit and stop,
observation, reward with its components, infos, and for the batch the resets that fall due. Random actions trade on many
candles. The peers see the same candles and features, and charge a fee or none. SACD_BENCH_PEERS names a Python that has
gym-trading-env and gym-anytrading. All compute on one thread, and what counts is the time they have the processor: on a
busy machine a turn waits longer for others than it computes.
"""

import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray

from benchmarks.environment_peer import steps_s
from benchmarks.market import hourly_candles, setup_for
from benchmarks.result import Result
from benchmarks.timing import spread, take_turns
from strategy.candle_table import CandleTable
from strategy.features import WINDOW
from training.env import TradingEnv
from training.episode import Episode
from training.history import History
from training.trader_env import TraderEnv
from training.vector_env import VectorTradingEnv

_ROOT = Path(__file__).resolve().parents[1]
_ROUNDS = 9
_STEPS, _PEER_STEPS, _DEFINITION_STEPS = 20_000, 5_000, 1_500
_BATCH, _BATCH_STEPS = 1_024, 200
_DEFINITION_TARGET = 10.0
_SINGLE_TARGETS = {"gym-trading-env": 5.0, "gym-anytrading": 2.0}
_BATCH_PEER, _BATCH_TARGET = "gym-trading-env", 100.0

Timer = Callable[[], float]
"""Returns the seconds of one step."""


class Peer:
    """Another project's environment in a process of its own."""

    def __init__(self, python: str, kind: str, candles: Path) -> None:
        """Start it and wait until it is ready. Raises RuntimeError when it ends instead."""
        command, pipe = [python, "-m", "benchmarks.environment_peer", kind, str(candles)], subprocess.PIPE
        self._process = subprocess.Popen(command, cwd=_ROOT, text=True, stdin=pipe, stdout=pipe)
        self.kind = kind
        self._said, self._told = cast("IO[str]", self._process.stdout), cast("IO[str]", self._process.stdin)
        self._wait()

    def _wait(self) -> str:
        if line := self._said.readline():
            return line
        raise RuntimeError(f"{self._process.args!r} ended with {self._process.wait()}; its errors stand above")

    def step_s(self, steps: int) -> float:
        """Return the seconds of one step, over `steps` of them."""
        self._told.write(f"{steps}\n")
        self._told.flush()
        return float(self._wait()) / steps

    def close(self) -> None:
        """End it."""
        self._told.close()
        self._process.wait(60)


def run(*, quick: bool = False) -> list[Result]:
    """Return the result against the definition, and those against the peers where they are; about a minute."""
    table, words = hourly_candles()
    if quick:
        table, words = table.slice(None, int(table.open_ms[WINDOW + 300])), "quick: too few candles to tell"
    history, setup = History(table, 48), setup_for(table)
    single = TradingEnv([history], setup, episode=Episode(length=None))
    definition = TraderEnv([history], setup, episode=Episode(length=None))
    batch = VectorTradingEnv([history], setup, n_envs=_BATCH, episode=Episode(length=200 if quick else 1_000))
    ours = _single_timer(single, 200 if quick else _STEPS)
    python = os.environ.get("SACD_BENCH_PEERS", "")
    note = words if python else f"{words}; gym-trading-env and gym-anytrading not installed: skipped"
    reference = _single_timer(definition, 100 if quick else _DEFINITION_STEPS)
    name = "environment step, compiled"
    results = [_measure(name, _DEFINITION_TARGET, (ours, reference, "its definition"), quick=quick, note=note)]
    if python:
        results += _against_peers(python, history, table, (ours, _batch_timer(batch)), quick=quick)
    return results


def _against_peers(
    python: str, history: History, table: CandleTable, timers: tuple[Timer, Timer], *, quick: bool
) -> list[Result]:
    with tempfile.TemporaryDirectory(prefix="sacd-environments-") as directory:
        candles = Path(directory) / "candles.npz"
        np.savez(candles, values=table.values[WINDOW - 1 :], rows=history.rows.values[WINDOW - 1 :])
        peers = [Peer(python, kind, candles) for kind in _SINGLE_TARGETS]
        try:
            return [result for peer in peers for result in _against(peer, timers, quick=quick)]
        finally:
            for peer in peers:
                peer.close()


def _against(peer: Peer, timers: tuple[Timer, Timer], *, quick: bool) -> list[Result]:
    single, batch = timers
    theirs = partial(peer.step_s, 200 if quick else _PEER_STEPS)
    results = [_measure("environment step", _SINGLE_TARGETS[peer.kind], (single, theirs, peer.kind), quick=quick)]
    if peer.kind == _BATCH_PEER:
        name = f"environment step, {_BATCH:,} accounts together"
        results.append(_measure(name, _BATCH_TARGET, (batch, theirs, peer.kind), quick=quick))
    return results


def _measure(name: str, target: float, sides: tuple[Timer, Timer, str], *, quick: bool, note: str = "") -> Result:
    ours, reference, whose = sides
    rounds = take_turns(ours, reference, 1 if quick else _ROUNDS)
    ratios = rounds.ratios("higher")
    return Result(
        name=name,
        ratio=median(ratios),
        target=target,
        better="higher",
        ours=f"{1.0 / rounds.ours:,.0f} steps/s, {1e6 * rounds.ours:.3g} us each",
        reference=f"{1.0 / rounds.reference:,.0f}, {1e6 * rounds.reference:.3g} us, {whose}",
        note="; ".join(filter(None, (spread(ratios), note))),
    )


def _single_timer(env: TradingEnv | TraderEnv, steps: int) -> Timer:
    actions = list(_random_actions(steps))
    env.reset(seed=1)
    env.step(actions[0])

    return lambda: steps_s(env, actions) / steps


def _batch_timer(env: VectorTradingEnv) -> Timer:
    actions = _random_actions(_BATCH_STEPS * _BATCH).reshape(_BATCH_STEPS, _BATCH, 3)
    env.seed(1)
    env.reset()
    env.step(actions[0])

    def step_s() -> float:
        started_s = time.process_time()
        for row in actions:
            env.step(row)
        return (time.process_time() - started_s) / (_BATCH_STEPS * _BATCH)

    return step_s


def _random_actions(count: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(2)
    return np.stack([rng.uniform(-1, 1, count), rng.random(count), rng.random(count)], axis=1).astype(np.float32)
