"""Three members in the `improved` preset: FastSAC with a process each, against Stable-Baselines3 one after another.

Both train through `learn`: 64 inputs, two layers of 256, batches of 512, as many gradient steps as environment steps,
a full buffer of 500,000. Stable-Baselines3 comes as it is: torch takes all cores. The second result compares one member
to a core with sbx, Stable-Baselines3's sibling in JAX; SACD_BENCH_SBX names a Python that has it.

Every member is a process of its own that is warm before the clock starts. OPENBLAS_CORETYPE is lifted for all of them:
where it is set, it holds NumPy's products to an older processor than the one that is there.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import IO, cast

from benchmarks.result import Result
from benchmarks.timing import Rounds, spread, take_turns
from benchmarks.training_member import STEPS_PER_TRAIN

_ROOT = Path(__file__).resolve().parents[1]
_MEMBERS = 3
_ROUNDS = 5
_STEPS = 400
_REFERENCE_STEPS = 80
_TARGET = 3.0
_SBX_TARGET = 1.0
_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


class Member:
    """A process that trains one member on demand."""

    def __init__(self, kind: str, *, core: int | None = None, python: str = sys.executable) -> None:
        """Start it and return at once. core: the only one it may use; None leaves that to the system."""
        environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_CORETYPE"}
        for name in _THREADS:
            environment.pop(name, None)
        if kind == "fast" or core is not None:
            environment |= dict.fromkeys(_THREADS, "1")
        command = [python, "-m", "benchmarks.training_member", kind, *([] if core is None else [str(core)])]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, cwd=_ROOT, env=environment, text=True, stdin=pipe, stdout=pipe)
        self._said, self._told = cast("IO[str]", self._process.stdout), cast("IO[str]", self._process.stdin)

    def wait(self) -> str:
        """Return the next line it says. Raises RuntimeError when it has ended instead."""
        if line := self._said.readline():
            return line
        raise RuntimeError(f"{self._process.args!r} ended with {self._process.wait()}; its errors stand above")

    def begin(self, steps: int) -> None:
        """Tell it to train."""
        self._told.write(f"{steps}\n")
        self._told.flush()

    def close(self) -> None:
        """End it."""
        self._told.close()
        self._process.wait(60)


def run(*, quick: bool = False) -> list[Result]:
    """Return the result against Stable-Baselines3, and the one against sbx where it is installed; three minutes."""
    sbx = os.environ.get("SACD_BENCH_SBX", "")
    results = [_against_sb3("" if sbx else "sbx not installed: skipped", quick=quick)]
    if sbx:
        results.append(_against_sbx(sbx, quick=quick))
    return results


def _against_sb3(words: str, *, quick: bool) -> Result:
    members = [Member("fast") for _ in range(_MEMBERS)]
    reference = Member("sb3")
    steps, reference_steps = _step_counts(quick=quick)
    try:
        _wait_all([*members, reference])
        # One process stands for the reference's members, which would wait for each other.
        rounds = take_turns(
            lambda: _together_s(members, steps) / steps,
            lambda: _together_s([reference], _MEMBERS * reference_steps) / reference_steps,
            1 if quick else _ROUNDS,
        )
    finally:
        _close_all([*members, reference])
    ratios = rounds.ratios("higher")
    cores = len(os.sched_getaffinity(0))
    return Result(
        name="training, three 256x256 members, total wall-clock",
        ratio=median(ratios),
        target=_TARGET,
        better="higher",
        ours=f"{_MEMBERS / rounds.ours:.0f} gradient steps/s over all, {_MEMBERS} processes on {cores} cores",
        reference=f"{_MEMBERS / rounds.reference:.0f}, SB3 one after another on {cores} threads",
        note="; ".join(filter(None, (_rounds(rounds), words))),
    )


def _against_sbx(python: str, *, quick: bool) -> Result:
    cores = sorted(os.sched_getaffinity(0))[:2]
    ours = [Member("fast", core=core) for core in cores]
    theirs = [Member("sbx", core=core, python=python) for core in cores]
    steps, _ = _step_counts(quick=quick)
    try:
        _wait_all([*ours, *theirs])
        rounds = take_turns(
            lambda: _together_s(ours, steps) / steps,
            lambda: _together_s(theirs, steps) / steps,
            1 if quick else _ROUNDS,
        )
    finally:
        _close_all([*ours, *theirs])
    ratios = rounds.ratios("higher")
    return Result(
        name="training, one 256x256 member to a core",
        ratio=median(ratios),
        target=_SBX_TARGET,
        better="higher",
        ours=f"{len(cores) / rounds.ours:.0f} gradient steps/s over {len(cores)} cores",
        reference=f"{len(cores) / rounds.reference:.0f}, sbx",
        note=_rounds(rounds),
    )


def _rounds(rounds: Rounds) -> str:
    """Return in words how far the rounds lie apart, and what the best of each side come to.

    On a machine with other work torch's threads wait for each other far longer than anything else here does.
    """
    best = min(rounds.reference_s) / min(rounds.ours_s)
    return f"{spread(rounds.ratios('higher'))}; best round against best round {best:.3g}x"


def _step_counts(*, quick: bool) -> tuple[int, int]:
    return (STEPS_PER_TRAIN, STEPS_PER_TRAIN) if quick else (_STEPS, _REFERENCE_STEPS)


def _together_s(members: Sequence[Member], steps: int) -> float:
    """Return the seconds until the last of them has taken its steps."""
    for member in members:
        member.begin(steps)
    return max(float(member.wait()) for member in members)


def _wait_all(members: Sequence[Member]) -> None:
    for member in members:
        member.wait()


def _close_all(members: Sequence[Member]) -> None:
    for member in members:
        member.close()
