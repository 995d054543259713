"""What a worker does for one member: candles in, practice, and out comes what the ensemble needs to judge it."""

import fcntl
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from strategy.candle_table import CandleTable
from strategy.decision import THRESHOLD
from strategy.policy import Activation, Ensemble
from training.algorithms import deterministic_act
from training.checkpoint import drop_replay
from training.curriculum import Curriculum
from training.curriculum_run import StageReport, train_by_stages
from training.env import TradingEnv
from training.errors import Diverged, ExportError, TrainingError
from training.export import ExportedActor, build_actor, export_actor
from training.folds import Fold
from training.gates import Conduct
from training.held_out import histories_of
from training.history import History
from training.market import setup_of_histories
from training.member import MemberResult, Prepare, train_member
from training.packing import pack, unpack
from training.plan import MemberPlan
from training.validation import validate
from training.workers import Link

_OBSERVATIONS = 2_000
_LOCK = "lock"
_WAIT_S, _LOOK_EVERY_S = 120.0, 0.2


class Practice(Protocol):
    """Where the histories of a member come from."""

    def histories(self, max_missing: int) -> tuple[list[History], list[History]]:
        """Return what a member practises on and what scores it. Raises TrainingError when there is too little."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candles:
    """What all members of a run share. fold: None keeps every candle for practice."""

    tables: Sequence[CandleTable]
    fold: Fold | None

    def histories(self, max_missing: int) -> tuple[list[History], list[History]]:
        """See `Practice.histories`."""
        return histories_of(self.tables, self.fold, max_missing)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One member to train. prepare: changes the fresh model before it learns.  keep_replay: its buffer stays on disk.

    curriculum: None practises on all candles at once.
    """

    plan: MemberPlan
    prepare: Prepare | None = None
    curriculum: Curriculum | None = None
    keep_replay: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidate:
    """What came of one member.

    actor: None when it cannot join whatever the gates say, and then `fault` says why.  steps, best_steps: done, and
    done when the weights were those of `actor`.  is_early: training ended for want of improvement.  seconds: of wall
    clock, since the last start.
    """

    actor: ExportedActor | None
    conduct: Conduct | None
    fault: str
    steps: int
    best_steps: int
    is_early: bool
    seconds: float
    stages: tuple[Mapping[str, Any], ...] = ()

    def to_bytes(self) -> bytes:
        """Return all of it as the bytes of one file."""
        return pack({name: _plain(getattr(self, name)) for name in self.__dataclass_fields__})

    @classmethod
    def from_bytes(cls, data: bytes) -> "Candidate":
        """Return what `to_bytes` stored. Raises TrainingError for other bytes."""
        values = unpack(data)
        actor, conduct = values["actor"], values["conduct"]
        if actor is not None:
            rows = {name: tuple(actor[name]) for name in ("net_arch", "low", "high")}
            actor = ExportedActor(**{**actor, **rows, "activation": Activation(actor["activation"])})
        conduct = None if conduct is None else Conduct(**conduct)
        return cls(**{**values, "actor": actor, "conduct": conduct, "stages": tuple(values["stages"])})


def train_candidate(candles: Practice, job: Job, link: Link) -> Candidate:
    """Train one member in the folder of `link`, or go on where its checkpoint ends.

    The same candles and plan give the same candidate, seconds apart, wherever it runs. Raises TrainingError when it
    could not be brought to an end, and Interrupted when `link` said so.
    """
    with alone_in(link.folder):
        return _train(candles, job, link)


def _train(candles: Practice, job: Job, link: Link) -> Candidate:
    start_s, plan = time.monotonic(), job.plan
    practice, scored = candles.histories(plan.conditions.strategy.max_missing)
    try:
        result, stages = _practised(practice, scored, job, link)
        observed = sample(practice, plan)
        actor = export_actor(result.model, observed)  # type: ignore[arg-type]  # commands take only what exports
    except (Diverged, ExportError) as error:
        return _refused(str(error), time.monotonic() - start_s)
    if not job.keep_replay:
        drop_replay(link.folder)
    return Candidate(
        actor=actor,
        conduct=_conduct(result, actor, scored, observed, plan),
        fault="",
        steps=result.steps,
        best_steps=result.best_steps,
        is_early=result.is_early,
        seconds=time.monotonic() - start_s,
        stages=tuple(stage.to_json() for stage in stages),
    )


def _practised(
    practice: Sequence[History], scored: Sequence[History], job: Job, link: Link
) -> tuple[MemberResult, tuple[StageReport, ...]]:
    how: dict[str, Any] = {"prepare": job.prepare, "tell": link.tell, "should_stop": link.should_stop}
    if job.curriculum is None:
        return train_member(practice, scored, job.plan, link.folder, **how), ()
    return train_by_stages(practice, scored, job.plan, link.folder, job.curriculum, **how)


def sample(histories: Sequence[History], plan: MemberPlan, count: int = _OBSERVATIONS) -> NDArray[np.float32]:
    """Return (count, n_obs) observations that random actions lead to: what the exported twin is compared on."""
    setup = setup_of_histories(histories, plan.conditions, "train")
    env = TradingEnv(histories, setup, episode=plan.episode, reward=plan.reward)
    env.action_space.seed(plan.seed)
    observation, _ = env.reset(seed=plan.seed)
    seen = []
    for _ in range(count):
        seen.append(observation)
        observation, _, is_ruined, is_over, _ = env.step(env.action_space.sample())
        if is_ruined or is_over:
            observation, _ = env.reset()
    return np.stack(seen)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Wait until nobody else works in `folder`: one whose starter was killed still writes its last checkpoint there."""
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    until_s = time.monotonic() + _WAIT_S
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if time.monotonic() > until_s:
                    raise TrainingError(f"{folder}: another process still works there: end it, then resume") from error
                time.sleep(_LOOK_EVERY_S)
            else:
                break
        yield
    finally:
        os.close(descriptor)


def _conduct(
    result: MemberResult,
    actor: ExportedActor,
    scored: Sequence[History],
    observed: NDArray[np.float32],
    plan: MemberPlan,
) -> Conduct:
    if scored:
        setup = setup_of_histories(scored, plan.conditions, "train")
        shown = validate(deterministic_act(result.model), scored, setup)
        return Conduct(score=result.score, trades=shown.trades, **shown.actions)
    directions = Ensemble([build_actor(actor, "exported actor")], [1.0]).act(observed)[:, 0, 0]
    buy, sell = (float(np.mean(asked)) for asked in (directions > THRESHOLD, directions < -THRESHOLD))
    return Conduct(score=None, trades=None, buy=buy, sell=sell, hold=1.0 - buy - sell)


def _refused(fault: str, seconds: float) -> Candidate:
    return Candidate(actor=None, conduct=None, fault=fault, steps=0, best_steps=0, is_early=False, seconds=seconds)


def _plain(value: Any) -> Any:  # noqa: ANN401 - a field of a candidate
    if isinstance(value, ExportedActor):
        return {**asdict(value), "activation": str(value.activation)}
    return asdict(value) if isinstance(value, Conduct) else value
