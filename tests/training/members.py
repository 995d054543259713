"""Members so small that a test can train some, and what they must have in common."""

import json
import multiprocessing
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.training.markets import history
from training import callbacks
from training.checkpoint import INDEX
from training.episode import Episode
from training.history import History
from training.member import MemberProgress, MemberResult, train_member
from training.model_state import weights_of
from training.monitor import MONITOR
from training.packing import unpack
from training.plan import MemberPlan, Settings, Validation

PRACTICE = History(history(400, seed=3), 48)
SCORED = History(history(200, seed=4), 48)
SMALL = Settings(learning_starts=100, batch_size=32, net_arch=(8,), learning_rate=3e-3, n_envs=2)
SCORES = Validation(every=150)


def plan(settings: dict[str, Any] | None = None, **changes: Any) -> MemberPlan:
    """Return a plan of 900 steps that is scored every 150."""
    made = MemberPlan(
        seed=7,
        steps=900,
        settings=replace(SMALL, **(settings or {})),
        episode=Episode(length=60),
        validation=SCORES,
    )
    return replace(made, **changes)


PLANS: dict[str, MemberPlan] = {
    "sac": plan(),
    "sac-wrapped": plan({"buffer_size": 150, "final_learning_rate": 1e-4}),
    "sac-gsde": plan({"use_sde": True, "sde_sample_freq": 8, "train_freq": 16, "gradient_steps": 2}),
    "sac-late": plan(validation=Validation(every=400)),
    "sac-early": plan(
        {"use_sde": True, "learning_rate": 1e-2, "train_freq": 2}, seed=16, validation=Validation(every=60, patience=5)
    ),
    "ppo": plan(algorithm="ppo"),
    "ppo-gsde": plan({"use_sde": True, "sde_sample_freq": 8}, algorithm="ppo"),
    "a2c": plan(algorithm="a2c"),
    "dqn": plan(algorithm="dqn"),
}


def trained(folder: Path, chosen: MemberPlan, **how: Any) -> MemberResult:
    """Train a member of `chosen` in `folder`, which is made where it is missing."""
    folder.mkdir(exist_ok=True)
    return train_member([PRACTICE], [SCORED], chosen, folder, **how)


def told_of(result: MemberResult) -> dict[str, Any]:
    """Return all that two equal members have in common, weights as bytes."""
    weights = {name: array.tobytes() for name, array in weights_of(result.model).items()}
    return {
        "steps": result.steps,
        "best_steps": result.best_steps,
        "score": result.score,
        "is_early": result.is_early,
        "weights": weights,
    }


def stopping_after(count: int) -> Callable[[], bool]:
    """Return a `should_stop` that says yes when it is asked for the `count`-th time."""
    asked = [0]

    def should_stop() -> bool:
        asked[0] += 1
        return asked[0] >= count

    return should_stop


def last_of(folder: Path) -> dict[str, Any]:
    """Return the last weights that a finished member had, as bytes, and what its monitor says but for the rates."""
    index = json.loads((folder / INDEX).read_bytes())
    state = unpack((folder / "checkpoint" / index["state"]["name"]).read_bytes())
    lines = [json.loads(line) for line in (folder / MONITOR).read_bytes().splitlines()]
    for line in lines:
        line.pop("steps_per_s", None)
    return {"weights": {n: a.tobytes() for n, a in state["model"]["weights"].items()}, "monitor": lines}


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """Let every file end at `size` bytes: a write beyond fails as on a full disk, with another number."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


# ---- members in processes of their own --------------------------------------------------------------------------
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([__name__])
"""Children begin with everything imported: importing torch takes longer than training a small member."""


def started(folder: Path, name: str, before: Callable[[], None] | None = None) -> tuple[Any, Any]:
    """Start training the plan called `name` in a process; return it and the steps done, a shared number.

    before: called in the process first.  It writes checkpoints as often as its plan says, whatever that costs.
    """
    steps = CONTEXT.Value("l", 0, lock=False)
    process = CONTEXT.Process(target=_train, args=(folder, name, steps, before), daemon=True)
    process.start()
    return process, steps


def _train(folder: Path, name: str, steps: Any, before: Callable[[], None] | None) -> None:
    callbacks._MOST_COST = 0.0
    if before is not None:
        before()

    def tell(progress: MemberProgress) -> None:
        steps.value = progress.steps

    trained(folder, PLANS[name], tell=tell)
