"""Three members asked by the NumPy ensemble, against three Stable-Baselines3 `predict` calls in the same process.

Members are 256x256 with 40 inputs, one observation at a time, one thread each.
"""

from itertools import cycle, islice
from statistics import median

import numpy as np

from benchmarks.members import Members
from benchmarks.result import Result
from benchmarks.timing import spread, take_turns, typical_s

_ROUNDS = 9
_OURS_PER_ROUND = 2_000
_REFERENCE_PER_ROUND = 200
_INPUTS = 40
_TARGET = 20.0


def run(*, quick: bool = False) -> list[Result]:
    """Return one result for plain policies and one for policies with gSDE; takes about ten seconds."""
    return [_measure("plain", use_sde=False, quick=quick), _measure("gSDE", use_sde=True, quick=quick)]


def _measure(kind: str, *, use_sde: bool, quick: bool) -> Result:
    members = Members(_INPUTS, (256, 256), use_sde=use_sde)
    observations = np.random.default_rng(0).standard_normal((64 if quick else 2_048, _INPUTS), dtype=np.float32)
    answers = np.stack([members.predict(observation) for observation in observations])
    difference = float(np.abs(members.ensemble.act(observations) - answers).max())
    ours, reference = cycle(observations), cycle(observations)
    share = 50 if quick else 1
    rounds = take_turns(
        lambda: typical_s(members.ensemble.act_one, islice(ours, _OURS_PER_ROUND // share)),
        lambda: typical_s(members.predict, islice(reference, _REFERENCE_PER_ROUND // share)),
        1 if quick else _ROUNDS,
    )
    ratios = rounds.ratios("higher")
    return Result(
        name=f"ensemble forward, three 256x256 members, {kind}",
        ratio=median(ratios),
        target=_TARGET,
        better="higher",
        ours=f"{rounds.ours * 1e6:.1f} us",
        reference=f"{rounds.reference * 1e6:.0f} us, three SB3 predict calls",
        note=f"{spread(ratios)}; answers differ by at most {difference:.1e}",
    )
