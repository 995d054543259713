"""How benchmarks take time: ours and the reference take turns, each turn gives a figure, each pair of turns a ratio.

Whatever else the machine does then falls on both.
"""

import gc
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median
from typing import Literal, TypeVar

T = TypeVar("T")


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

    def ratios(self, better: Literal["higher", "lower"]) -> list[float]:
        """Return pair by pair how many times faster ours was ("higher"), or how many times longer it took ("lower")."""
        pairs = zip(self.ours_s, self.reference_s, strict=True)
        return [reference / ours if better == "higher" else ours / reference for ours, reference in pairs]


def take_turns(ours: Callable[[], float], reference: Callable[[], float], rounds: int) -> Rounds:
    """Return what `rounds` turns of each took; both functions return the seconds of one turn.

    What exists by now, torch and pandas above all, is kept from the garbage collector, which would walk it over and
    over on behalf of both: no program of ours has them in the same process.
    """
    gc.collect()
    gc.freeze()
    try:
        pairs = [(ours(), reference()) for _ in range(rounds)]
    finally:
        gc.unfreeze()
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
    """Return in words how far the ratios of the rounds lie apart."""
    return f"{len(ratios)} rounds, {min(ratios):.3g} .. {max(ratios):.3g}"
