"""How benchmarks take time: ours and the reference take turns, each turn gives a median, each pair of turns a ratio.

Whatever else the machine does then falls on both. What needs NumPy runs in a process of its own, because the number of
threads of its linear algebra is fixed when it is imported.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, TypeVar

T = TypeVar("T")
ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_QUICK = "--quick"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounds:
    """What the turns took, in seconds; turn i of ours and turn i of the reference stand next to each other in time."""

    ours_s: list[float]
    reference_s: list[float]

    @property
    def ours(self) -> float:
        """Median seconds of ours."""
        return median(self.ours_s)

    @property
    def reference(self) -> float:
        """Median seconds of the reference."""
        return median(self.reference_s)

    @property
    def speed_up(self) -> list[float]:
        """How many times longer the reference took, pair by pair."""
        return [reference / ours for ours, reference in zip(self.ours_s, self.reference_s, strict=True)]


def take_turns(ours: Callable[[], float], reference: Callable[[], float], rounds: int) -> Rounds:
    """Return what `rounds` turns of each took; both functions return the seconds of one turn."""
    pairs = [(ours(), reference()) for _ in range(rounds)]
    return Rounds(ours_s=[pair[0] for pair in pairs], reference_s=[pair[1] for pair in pairs])


def typical_s(call: Callable[[T], object], arguments: Iterable[T]) -> float:
    """Return the median seconds of `call(argument)`."""
    return median([elapsed_s(call, argument) for argument in arguments])


def elapsed_s(call: Callable[[T], object], argument: T) -> float:
    """Return the seconds of one `call(argument)`."""
    started_s = time.perf_counter()
    call(argument)
    return time.perf_counter() - started_s


def spread(ratios: list[float]) -> str:
    """Return in words how far the turns lie apart."""
    return f"{len(ratios)} rounds, {min(ratios):.3g} .. {max(ratios):.3g}"


# ---- a process of its own ---------------------------------------------------------------------------------------
def in_child(module: str, *, quick: bool) -> Any:  # noqa: ANN401 - JSON
    """Run `module`, whose main calls `answer`, with one thread for linear algebra, and return what it measured."""
    child = subprocess.run(
        [sys.executable, "-m", module, *([_QUICK] if quick else [])],
        check=True,
        stdout=subprocess.PIPE,
        env={**os.environ, **ONE_THREAD},
    )
    return json.loads(child.stdout)


def answer(measure: Callable[[bool], Any]) -> None:
    """Print what `measure(quick)` returns for the process that waits in `in_child`."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    print(json.dumps(measure(_QUICK in sys.argv), default=asdict))
