"""Trains one member: from a plan, candles and a folder of its own to a policy that can be exported."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from stable_baselines3.common.base_class import BaseAlgorithm

from training.checkpoint import Checkpoints
from training.errors import TrainingError
from training.history import History
from training.member_run import MemberRun, identity_of
from training.plan import MemberPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberProgress:
    """How far a member is. steps: done of `total`.  score: the last validation's, None before it and without one."""

    steps: int
    total: int
    score: float | None = None
    best: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MemberResult:
    """One trained member.

    model: the best by validation where there is one, else the last.  steps: done when training ended, with the rollout
    that reached the plan's.  best_steps: done when the weights were those of `model`.  score: of `model` on the
    validation candles, None without any.
    is_early: training ended for want of improvement.
    """

    model: BaseAlgorithm
    steps: int
    best_steps: int
    score: float | None
    is_early: bool


Tell = Callable[[MemberProgress], None]
Prepare = Callable[[BaseAlgorithm], None]
"""Changes the weights of a fresh model before it learns; must pickle. A resumed run does not call it again."""


def train_member(
    histories: Sequence[History],
    validation: Sequence[History],
    plan: MemberPlan,
    folder: Path,
    *,
    prepare: Prepare | None = None,
    tell: Tell | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> MemberResult:
    """Train one member, or go on where the checkpoint in `folder` ends: both give the same weights.

    histories: to practise on.  validation: to be scored on, may be empty.  folder: made where it is missing; nothing is
    written outside, and a member that is finished there is given back at once.  tell: called about every 200 steps.
    should_stop: asked as often; True writes a checkpoint and raises Interrupted.
    Sets torch to one thread and to deterministic algorithms, for this process.
    Raises Diverged when it learned nothing that can be used, TrainingError for a checkpoint that cannot be gone on
    from or written; what was written before stays.
    """
    torch.set_num_threads(1)  # several threads add in another order, and the seed would no longer decide
    torch.use_deterministic_algorithms(mode=True)

    def told(steps: int, score: float | None, best: float | None) -> None:
        if tell is not None:
            tell(MemberProgress(steps=steps, total=plan.steps, score=score, best=best))

    checkpoints = Checkpoints(folder, identity_of(histories, validation, plan))
    try:
        with MemberRun(histories, validation, plan, folder, checkpoints, told=told, should_stop=should_stop) as run:
            end = run.finish(prepare)
    except OSError as error:
        raise TrainingError(f"{folder}: cannot be written: {error.strerror}; {checkpoints.left}") from error
    return MemberResult(
        model=run.model, steps=end["steps"], best_steps=end["best_steps"], score=end["score"], is_early=end["is_early"]
    )
