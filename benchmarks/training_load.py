"""`python -m benchmarks.training_load DIR`: training on every core, as a retraining does it, until it is ended.

A process per core practises one member after another: `training.member` in the `improved` preset over the candles of
the other benchmarks, with replay buffer, a checkpoint every twenty seconds and all else that a run writes, below DIR.
Priorities are left as the one who starts it has set them. Each process prints a line once its first member learns.
"""

import os
import shutil
import sys
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.connection import wait
from pathlib import Path

LEARNS = "learns"
_STEPS = 20_000
"""Of one member: about 200 s on a core, with ten checkpoints."""
_COLLECTED = 300
_LOOK_EVERY_S = 1.0
_ONE_THREAD = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def main(directory: Path) -> None:
    """Train until somebody ends it, or whoever started it is gone. Raises RuntimeError when a member fails."""
    # Read by the libraries of the children, which this process does not import.
    os.environ.update(dict.fromkeys(_ONE_THREAD, "1"))
    context, starter = get_context("spawn"), os.getppid()
    cores = len(os.sched_getaffinity(0))
    members = [
        context.Process(target=practise, args=(directory / f"{core}", core), daemon=True) for core in range(cores)
    ]
    for member in members:
        member.start()
    while os.getppid() == starter:
        if wait([member.sentinel for member in members], timeout=_LOOK_EVERY_S):
            codes = [member.exitcode for member in members]
            raise RuntimeError(f"members ended with {codes}; their errors stand above")


def practise(place: Path, seed: int) -> None:
    """Train members one after another, each in a folder below `place` that goes when it is done."""
    from benchmarks.market import hourly_candles  # noqa: PLC0415 - in the process that trains
    from training.history import History  # noqa: PLC0415
    from training.member import MemberProgress, train_member  # noqa: PLC0415
    from training.plan import MemberPlan  # noqa: PLC0415
    from training.presets import PRESETS  # noqa: PLC0415

    preset = PRESETS["improved"]
    settings = replace(preset.settings, learning_starts=_COLLECTED)
    plan = MemberPlan(seed=seed, steps=_STEPS, settings=settings, conditions=preset.conditions)
    table, _ = hourly_candles()
    practice = [History(table, preset.conditions.strategy.max_missing)]
    waiting, starter = [LEARNS], os.getppid()

    def tell(progress: MemberProgress) -> None:
        if os.getppid() != starter:
            sys.exit("whoever started it is gone")
        if waiting and progress.steps > _COLLECTED:
            print(waiting.pop(), flush=True)

    while True:
        folder = place / "member"
        folder.mkdir(parents=True)
        train_member(practice, [], plan, folder, tell=tell)
        shutil.rmtree(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
