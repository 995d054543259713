"""What watches a member learn: scores, the best weights, early stopping, checkpoints, records, progress, health.

Whatever must be exact after a resumed run happens where a rollout starts: the weights have just been updated there and
no transition is on its way. What a callback must remember across a kill it gives as `state`, in plain values.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from training.checkpoint import Checkpoints
from training.disk import write_together
from training.errors import Diverged, Interrupted, TrainingError
from training.model_state import Weights, capture, is_finite, restore, weights_of
from training.packing import pack
from training.validation import Score

BEST = "best.safetensors"
NOT_FINITE = "the weights are not finite: lower the learning rate"
_MOST_COST = 30.0
"""Writing checkpoints takes at most one part in this of the time."""


class Kept(Protocol):
    """A callback that remembers something across a kill."""

    def state(self) -> dict[str, Any]:
        """Return plain values and arrays."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""


class Listener(Protocol):
    """Told of every score, in the order of the steps."""

    def on_score(self, model: BaseAlgorithm, score: Score) -> None:
        """Take note. The weights of `model` are those that were scored."""


class Resuming(BaseCallback):
    """Puts model and callbacks back to where a checkpoint was taken, at the same place of SB3's loop: first of all."""

    def __init__(self, checkpoints: Checkpoints, state: Mapping[str, Any] | None, kept: Mapping[str, Kept]) -> None:
        super().__init__()
        self._checkpoints, self._state, self._kept = checkpoints, state, kept

    def _on_rollout_start(self) -> None:
        if self._state is None:
            return
        state, self._state = self._state, None
        restore(self.model, state["model"])
        self._checkpoints.load_replay(self.model)
        for name, callback in self._kept.items():
            callback.restore(state[name])

    def _on_step(self) -> bool:
        return True


class Validating(BaseCallback):
    """Scores the policy about every `every` steps, and once more by `finish`; tells its listeners.

    scored: None where there is nothing to score on.
    """

    def __init__(
        self, scored: Callable[[BaseAlgorithm], Score] | None, every: int, listeners: Sequence[Listener] = ()
    ) -> None:
        super().__init__()
        self._scored, self._every, self._listeners = scored, every, listeners
        self._next = every
        self.steps = 0
        self.last: float | None = None

    def _on_rollout_start(self) -> None:
        if self.model.num_timesteps >= self._next:
            self._next = (self.model.num_timesteps // self._every + 1) * self._every
            self.finish()

    def finish(self) -> None:
        """Score the policy as it is now, unless that was done."""
        if self._scored is None or self.steps == self.model.num_timesteps:
            return
        score = self._scored(self.model)
        self.steps, self.last = self.model.num_timesteps, score.value
        for listener in self._listeners:
            listener.on_score(self.model, score)

    def _on_step(self) -> bool:
        return True

    def state(self) -> dict[str, Any]:
        """Return when the next score is due, and the last one."""
        return {"next": self._next, "steps": self.steps, "last": self.last}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self._next, self.steps, self.last = state["next"], state["steps"], state["last"]


class BestModel:
    """Keeps the weights with the best score, also as `best.safetensors` in the folder.

    A policy that trades is better than one that never did, whatever it earned: otherwise the first one, which has
    learned nothing and holds its cash, would beat all that lose on the way. Of policies that never traded it keeps the
    last.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / BEST
        self._is_idle = True
        self.steps = 0
        self.value: float | None = None
        self.weights: Weights | None = None

    def on_score(self, model: BaseAlgorithm, score: Score) -> None:
        """Keep the weights if they are better than all before; of equal ones that trade the first."""
        if self.value is None or self._is_idle or (not score.is_idle and score.value > self.value):
            self._is_idle = score.is_idle
            self.take(model, score.value)

    def take(self, model: BaseAlgorithm, value: float | None) -> None:
        """Keep the weights of `model`."""
        self.steps, self.value = model.num_timesteps, value
        self.weights = {name: array.copy() for name, array in weights_of(model).items()}
        write_together({self._path: pack(self.weights)})

    def state(self) -> dict[str, Any]:
        """Return the best so far."""
        return {"steps": self.steps, "value": self.value, "is_idle": self._is_idle, "weights": self.weights}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.steps, self.value, self.weights = state["steps"], state["value"], state["weights"]
        self._is_idle = state["is_idle"]


class EarlyStopping(BaseCallback):
    """Ends training after `patience` scores in a row that did not improve on the best by `min_delta`; 0 never does.

    It counts from the first policy that trades: the time before is not lost on it.
    """

    def __init__(self, patience: int, min_delta: float) -> None:
        super().__init__()
        self._patience, self._min_delta = patience, min_delta
        self._best: float | None = None
        self._in_vain = 0

    @property
    def is_over(self) -> bool:
        """True when training is to end."""
        return 0 < self._patience <= self._in_vain

    def on_score(self, model: BaseAlgorithm, score: Score) -> None:  # noqa: ARG002 - a Listener's
        """Count a score that is no improvement."""
        if self._best is None:
            self._best = None if score.is_idle else score.value
        elif not score.is_idle and score.value > self._best + self._min_delta:
            self._best, self._in_vain = score.value, 0
        else:
            self._in_vain += 1

    def _on_step(self) -> bool:
        return not self.is_over

    def state(self) -> dict[str, Any]:
        """Return the best so far and how often it was not improved on."""
        return {"best": self._best, "in_vain": self._in_vain}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self._best, self._in_vain = state["best"], state["in_vain"]


class Health(BaseCallback):
    """Ends training that has gone wrong, before it can spoil a checkpoint.

    Raises TrainingError for a reward that is no number, Diverged for losses that no sound training reaches.
    """

    def __init__(self, gamma: float) -> None:
        super().__init__()
        self._horizon = 1.0 / max(1.0 - gamma, 1e-4)
        self._largest = 1.0

    def _on_step(self) -> bool:
        rewards = self.locals["rewards"]
        largest = float(np.abs(rewards).max())
        if not largest < np.inf:
            raise TrainingError(
                f"a reward is {rewards[~np.isfinite(rewards)][0]}; "
                "look at the candles with `sacd data verify` and at the settings of the reward"
            )
        self._largest = max(self._largest, largest)
        return True

    def _on_rollout_start(self) -> None:
        # A value is at most the largest reward on every candle of the horizon, and SAC's entropy adds to each a few
        # units: a hundred times the square of ten times that is beyond all errors of a policy that still learns.
        limit = 100.0 * (10.0 * self._largest * self._horizon) ** 2
        for name, value in self.logger.name_to_value.items():
            if name.endswith("loss") and not abs(value) <= limit:
                raise Diverged(
                    f"{name} is {value:.3g}, beyond {limit:.1g}: lower the learning rate or the reward's scale"
                )

    def require_finite(self) -> None:
        """Raise Diverged when a weight is NaN or infinite."""
        if not is_finite(self.model):
            raise Diverged(NOT_FINITE)

    def state(self) -> dict[str, Any]:
        """Return the largest reward so far."""
        return {"largest": self._largest}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self._largest = state["largest"]


class Checkpointing(BaseCallback):
    """Writes a checkpoint every `every` steps, every `every_s` seconds, and when it is told to stop.

    should_stop: asked about every `ask` steps; True writes a checkpoint and raises Interrupted.  Writing takes at most
    a thirtieth of the time, or waits.  from_step: where a resumed run begins.  clock: seconds, of no known origin.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        health: Health,
        kept: Mapping[str, Kept],
        *,
        every: int,
        every_s: float,
        total: int,
        from_step: int = 0,
        should_stop: Callable[[], bool] | None = None,
        ask: int = 200,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._checkpoints, self._health, self._kept = checkpoints, health, kept
        self._every, self._every_s, self._total = every, every_s, total
        self._should_stop, self._ask, self._clock = should_stop, ask, clock
        self._next = (from_step // every + 1) * every
        self._asked = from_step
        self._wrote_s, self._cost_s = clock(), 0.0

    def _on_training_start(self) -> None:
        self._wrote_s = self._clock()

    def _on_rollout_start(self) -> None:
        steps = self.model.num_timesteps
        if self._should_stop is not None and steps >= self._asked + self._ask:
            self._asked = steps
            if self._should_stop():
                self.write()
                raise Interrupted(
                    f"interrupted at step {steps} of {self._total}; the checkpoint in {self._checkpoints.path.parent} "
                    "is whole: run again to go on from there"
                )
        if self._is_due(steps):
            self.write()

    def _is_due(self, steps: int) -> bool:
        gone_s = self._clock() - self._wrote_s
        return gone_s >= _MOST_COST * self._cost_s and (steps >= self._next or (steps > 0 and gone_s >= self._every_s))

    def _on_step(self) -> bool:
        return True

    def write(self, result: Mapping[str, Any] | None = None) -> None:
        """Write a checkpoint now. result: what is said of a member that is finished.  Raises TrainingError."""
        self._health.require_finite()
        start_s = self._clock()
        steps = self.model.num_timesteps
        self._next = (steps // self._every + 1) * self._every
        state = {"model": capture(self.model), "result": result}
        state.update({name: callback.state() for name, callback in self._kept.items()})
        added = steps // self.model.n_envs
        self._checkpoints.save(state, self.model, added, is_final=result is not None)
        self._wrote_s = self._clock()
        self._cost_s = self._wrote_s - start_s


class Telling(BaseCallback):
    """Tells how far training is, about every `every` steps."""

    def __init__(self, tell: Callable[[int], None], every: int = 200) -> None:
        super().__init__()
        self._told, self._every = tell, every
        self._next = 0

    def _on_step(self) -> bool:
        if self.num_timesteps >= self._next:
            self._next = self.num_timesteps + self._every
            self._told(self.num_timesteps)
        return True
