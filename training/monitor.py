"""The record of one member's training: a line of JSON per episode and per score, and scalars for TensorBoard."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from training.reward import COMPONENTS
from training.validation import Score

MONITOR = "monitor.jsonl"
_LOSSES = "train/"


class PerformanceMonitor(BaseCallback):
    """Writes what happens as JSON lines to `monitor.jsonl`, and as scalars beside SB3's own for TensorBoard.

    A line per episode: its reward, the part of each component in it, its length.  A line per score: all of it.  Each
    also has the last losses (SB3's names) and the rate since the last score.  After a resumed run the file holds each
    line once.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._file = (folder / MONITOR).open("ab", buffering=0)  # closing must have nothing left to write
        self._clock = clock
        self._steps, self._since_s = 0, clock()
        self._losses: dict[str, float] = {}
        self._rewards = np.zeros(0)
        self._components = np.zeros((0, len(COMPONENTS)))
        self._lengths = np.zeros(0, np.int64)

    def _on_training_start(self) -> None:
        accounts = self.model.n_envs
        self._rewards, self._components = np.zeros(accounts), np.zeros((accounts, len(COMPONENTS)))
        self._lengths = np.zeros(accounts, np.int64)
        self._steps, self._since_s = self.model.num_timesteps, self._clock()

    def _on_rollout_start(self) -> None:
        self._note_losses()

    def _on_step(self) -> bool:
        self._rewards += self.locals["rewards"]
        self._components += self.training_env.components  # type: ignore[attr-defined]  # VectorTradingEnv has it
        self._lengths += 1
        dones = self.locals["dones"]
        if dones.any():
            for account in np.flatnonzero(dones):
                self._end_episode(int(account))
        return True

    def _note_losses(self) -> None:
        """Keep what SB3 has recorded since it last wrote: writing forgets it."""
        for name, value in self.logger.name_to_value.items():
            if name.startswith(_LOSSES):
                self._losses[name.removeprefix(_LOSSES)] = float(value)

    def _end_episode(self, account: int) -> None:
        parts = self._components[account]
        components = {name: float(part) for name, part in zip(COMPONENTS, parts, strict=True) if part != 0.0}
        reward, length = float(self._rewards[account]), int(self._lengths[account])
        self._write("episode", account=account, reward=reward, length=length, components=components)
        for name, part in components.items():
            self.logger.record_mean(f"reward/{name}", part / length)
        self._rewards[account], self._components[account], self._lengths[account] = 0.0, 0.0, 0

    def on_score(self, model: BaseAlgorithm, score: Score) -> None:
        """Write a line, and the scalars of this moment."""
        self._note_losses()
        self._write("score", score=score.value, **asdict(score))
        self._steps, self._since_s = model.num_timesteps, self._clock()
        for name in ("sharpe", "total_return", "max_drawdown", "trades", "exposure"):
            self.logger.record(f"validation/{name}", getattr(score, name))
        self.logger.dump(model.num_timesteps)

    def _write(self, kind: str, **values: Any) -> None:  # noqa: ANN401 - JSON types
        steps = self.model.num_timesteps
        rate = (steps - self._steps) / max(self._clock() - self._since_s, 1e-9)
        line = {"kind": kind, "step": steps, **values, "losses": self._losses, "steps_per_s": round(rate, 1)}
        left = json.dumps(line).encode() + b"\n"
        while left:  # an almost full disk takes a part, and says why only when asked again
            left = left[self._file.write(left) :]

    def close(self) -> None:
        """Finish the file."""
        self._file.close()

    def state(self) -> dict[str, Any]:
        """Return the sums of the episodes under way and how long the file is."""
        return {
            "size": self._file.tell(),
            "losses": self._losses,
            "rewards": self._rewards,
            "components": self._components,
            "lengths": self._lengths,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from there: lines that were written later are written again."""
        self._file.truncate(state["size"])
        self._losses = dict(state["losses"])
        self._rewards, self._components, self._lengths = state["rewards"], state["components"], state["lengths"]
        self._steps = self.model.num_timesteps
