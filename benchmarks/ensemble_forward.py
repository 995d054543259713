"""Three members asked by the NumPy ensemble, against three Stable-Baselines3 `predict` calls in the same process.

Members are 256x256 with 40 inputs, one observation at a time, one thread each.
"""

from functools import partial
from itertools import cycle, islice
from typing import Any

from benchmarks.result import Result
from benchmarks.timing import Rounds, answer, in_child, spread, take_turns, typical_s

_ROUNDS = 9
_OURS_PER_ROUND = 2_000
_REFERENCE_PER_ROUND = 200
_INPUTS = 40
_TARGET = 20.0


def run(*, quick: bool = False) -> list[Result]:
    """Return one result for plain policies and one for policies with gSDE; takes about ten seconds."""
    return [_result(**figures) for figures in in_child("benchmarks.ensemble_forward", quick=quick)]


def _result(kind: str, rounds: dict[str, Any], difference: float) -> Result:
    taken = Rounds(**rounds)
    return Result(
        name=f"ensemble forward, three 256x256 members, {kind}",
        ratio=median(taken.speed_up),
        target=_TARGET,
        better="higher",
        ours=f"{taken.ours * 1e6:.1f} us",
        reference=f"{taken.reference * 1e6:.0f} us, three SB3 predict calls",
        note=f"{spread(taken.speed_up)}; answers differ by at most {difference:.1e}",
    )


def _measure(quick: bool) -> list[dict[str, Any]]:
    return [_kind("plain", use_sde=False, quick=quick), _kind("gSDE", use_sde=True, quick=quick)]


def _kind(kind: str, *, use_sde: bool, quick: bool) -> dict[str, Any]:
    """Return the seconds per decision of each round, and the largest difference between the answers."""
    import numpy as np  # noqa: PLC0415  # in the child only, after the threads are set
    
    from benchmarks.members import Members  # noqa: PLC0415

    members = Members(_INPUTS, [256, 256], use_sde=use_sde)
