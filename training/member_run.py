"""The run of one member: its model, all that watches it, and the order in which they act."""

import hashlib
import importlib.metadata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from training.algorithms import build_model, deterministic_act
from training.blinding import ignore_unseen
from training.callbacks import (
    NOT_FINITE,
    BestModel,
    Checkpointing,
    EarlyStopping,
    Health,
    Kept,
    Resuming,
    Telling,
    Validating,
)
from training.checkpoint import Checkpoints
from training.errors import Diverged, Interrupted, TrainingError
from training.history import History
from training.market import setup_of_histories
from training.model_state import is_finite, load_weights
from training.monitor import PerformanceMonitor
from training.plan import MemberPlan, Validation
from training.settings_text import describe
from training.validation import Score, validate
from training.vector_env import VectorTradingEnv

CHECKPOINTS = 10
"""How many checkpoints a run writes besides those by time."""
CHECKPOINT_EVERY_S = 600.0
_LIBRARIES = ("torch", "stable-baselines3", "numpy")

Told = Callable[[int, float | None, float | None], None]


class MemberRun:
    """One member's run in its folder, from the beginning or from its checkpoint.

    told: called with steps done, last score, best score.  Raises TrainingError for a checkpoint that does not fit, and
    OSError where the folder cannot be written.
    """

    def __init__(
        self,
        histories: Sequence[History],
        validation: Sequence[History],
        plan: MemberPlan,
        folder: Path,
        checkpoints: Checkpoints,
        *,
        told: Told,
        should_stop: Callable[[], bool] | None,
    ) -> None:
        self._plan, self._checkpoints, self._told = plan, checkpoints, told
        self._state = checkpoints.load()
        from_step = 0 if self._state is None else int(self._state["model"]["counters"]["num_timesteps"])
        self._result: Mapping[str, Any] | None = None if self._state is None else self._state["result"]
        scalars = folder / "tensorboard" if self._result is None else None
        self.model = build_model(plan, practice_of(histories, plan), tensorboard=scalars, from_step=from_step)
        rule = plan.validation or Validation()
        self._best, self._stopping = BestModel(folder), EarlyStopping(rule.patience, rule.min_delta)
        self._health, self._monitor = Health(plan.settings.gamma), PerformanceMonitor(folder)
        listeners = (self._best, self._stopping, self._monitor)
        # Without a rule the last weights are those that count, and they are scored once.
        every = plan.steps if plan.validation is None else plan.validation.every
        self._validating = Validating(_scored(validation, plan), every, listeners)
        kept: dict[str, Kept] = {
            "best": self._best,
            "stopping": self._stopping,
            "health": self._health,
            "monitor": self._monitor,
            "validating": self._validating,
        }
        self._resuming = Resuming(checkpoints, self._state, kept)
        self._checkpointing = Checkpointing(
            checkpoints,
            self._health,
            kept,
            every=max(plan.steps // CHECKPOINTS, 1),
            every_s=CHECKPOINT_EVERY_S,
            total=plan.steps,
            from_step=from_step,
            should_stop=should_stop,
        )

    def finish(self, prepare: Callable[[BaseAlgorithm], None] | None) -> Mapping[str, Any]:
        """Train to the end and return what is said of it; `model` then has the best weights.

        prepare: called on a fresh model.  Raises what `train_member` raises.
        """
        if self._state is None:
            if prepare is not None:
                prepare(self.model)
                # What was taken over may read entries that this policy is not to see.
                ignore_unseen(self.model, self._plan.settings.inputs, self._plan.settings.net_arch)
        elif self._result is not None:
            return self._again(self._state, self._result)
        with self._named():
            self.model.learn(self._plan.steps, callback=self._callbacks())
            self._health.require_finite()
            return self._ended()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close the files that were written all along; nothing is left to write to them."""
        self._monitor.close()
        self.model.logger.close()

    def _callbacks(self) -> list[BaseCallback]:
        """Return what watches the model, in the order in which it acts where a rollout starts."""
        return [
            self._resuming,
            self._health,
            self._monitor,
            self._validating,
            self._stopping,
            self._checkpointing,
            Telling(self._tell),
        ]

    def _ended(self) -> Mapping[str, Any]:
        """Score the last weights, write the last checkpoint, and put the best weights in place."""
        is_early = self._stopping.is_over
        if is_early:
            # SB3 counts the step by which it is told to end, and forgets what that step brought.
            self.model.num_timesteps = self._validating.steps
        else:
            self._validating.finish()
        if self._best.weights is None:
            self._best.take(self.model, None)
        result = {
            "steps": self.model.num_timesteps,
            "best_steps": self._best.steps,
            "score": self._best.value,
            "is_early": is_early,
        }
        self._checkpointing.write(result)
        self._put_best()
        self._tell(self.model.num_timesteps)
        return result

    def _again(self, state: Mapping[str, Any], result: Mapping[str, Any]) -> Mapping[str, Any]:
        """Give back a member that was finished before."""
        self._best.restore(state["best"])
        self._put_best()
        self._validating.restore(state["validating"])
        self._tell(result["steps"])
        return result

    def _put_best(self) -> None:
        if self._best.weights is not None:
            load_weights(self.model, self._best.weights)

    def _tell(self, steps: int) -> None:
        self._told(min(steps, self._plan.steps), self._validating.last, self._best.value)

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Say of what went wrong in learning, whoever found it, which member and step it was."""
        place = f"member with seed {self._plan.seed}"
        try:
            yield
        except Interrupted:
            raise
        except Diverged as error:
            raise Diverged(f"{place}, step {self.model.num_timesteps}: {error}") from error
        except TrainingError as error:
            told = f"{place}, step {self.model.num_timesteps}: {error}; {self._checkpoints.left}"
            raise TrainingError(told) from error
        except ValueError as error:  # what torch raises when it is to draw an action from NaN
            if is_finite(self.model):
                raise
            raise Diverged(f"{place}, step {self.model.num_timesteps}: {NOT_FINITE}") from error


def practice_of(histories: Sequence[History], plan: MemberPlan) -> VecEnv:
    """Return the accounts that a member of `plan` practises on."""
    return VectorTradingEnv(
        histories,
        setup_of_histories(histories, plan.conditions, "train"),
        n_envs=plan.settings.n_envs,
        episode=plan.episode,
        reward=plan.reward,
        randomisation=plan.randomisation,
        inputs=plan.settings.inputs,
    )


def identity_of(histories: Sequence[History], validation: Sequence[History], plan: MemberPlan) -> dict[str, Any]:
    """Return what must not change between a checkpoint and the run that goes on from it, flat, as JSON types."""
    libraries = {f"version of {name}": importlib.metadata.version(name) for name in _LIBRARIES}
    candles = _digests("candles of", histories)
    return {**describe(plan), **candles, **_digests("validation candles of", validation), **libraries}


def _digests(what: str, histories: Sequence[History]) -> dict[str, str]:
    """Return the digest of every symbol's candles, of all its stretches."""
    found: dict[str, str] = {}
    for history in histories:
        key = f"{what} {history.symbol}"
        found[key] = f"{found[key]} {_digest(history)}" if key in found else _digest(history)
    return found


def _digest(history: History) -> str:
    digest = hashlib.sha256()
    for array in (history.table.open_ms, history.table.values, history.starts):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def _scored(validation: Sequence[History], plan: MemberPlan) -> Callable[[BaseAlgorithm], Score] | None:
    if not validation:
        return None
    setup = setup_of_histories(validation, plan.conditions, "validation")
    return lambda model: validate(deterministic_act(model), validation, setup)
