"""The same span under worse terms: dearer trading, later votes, fewer minds."""

import math
from collections.abc import Mapping, Sequence

from training.evaluate_runs import Run
from training.evaluation import Stress
from training.metrics import measure
from training.track import Track

COSTS = (0.0, 1.0, 2.0, 4.0)
"""Factors on fees and slippage that are told."""
DEARER = (8.0, 16.0)
"""Further factors that are only traded to find where an account that still earns at 4 times earns no more."""
_LARGEST_RATE = 0.1


def stress_runs(fee_rate: float, slippage_rate: float) -> list[Run]:
    """Return the runs of the cost table, the dearer ones that a cost model can hold, and one candle's delay."""
    dearest = max(fee_rate, slippage_rate)
    factors = [factor for factor in (*COSTS, *DEARER) if factor * dearest <= _LARGEST_RATE]
    return [*(Run(cost=factor) for factor in factors), Run(is_late=True)]


def stresses(tracks: Mapping[Run, Track], hold: Track) -> tuple[Stress, ...]:
    """Return the table of costs and delay. hold: buying and holding at the usual costs."""
    found = [
        Stress(cost=factor, delay=0, metrics=measure(tracks[run], hold))
        for factor in COSTS
        if (run := Run(cost=factor)) in tracks
    ]
    return (*found, Stress(cost=1.0, delay=1, metrics=measure(tracks[Run(is_late=True)], hold)))


def break_even_cost(tracks: Mapping[Run, Track]) -> float | None:
    """Return the factor on fees and slippage at which the total return is 0, None when no factor traded shows one.

    Between two factors that were traded, the logarithm of the final equity is taken to be linear: costs take a share of
    every trade.
    """
    runs = sorted((run for run in tracks if run == Run(cost=run.cost)), key=lambda run: run.cost)
    return crossing([run.cost for run in runs], [_growth(tracks[run]) for run in runs])


def crossing(costs: Sequence[float], growth: Sequence[float]) -> float | None:
    """Return where growth first falls from above 0 to 0 or below; None when it does not begin above 0, or never falls.

    costs: increasing.  growth: the logarithm of what one unit of cash became, -inf when nothing is left.
    """
    if not growth or growth[0] <= 0.0:
        return None
    for index in range(1, len(costs)):
        before, after = growth[index - 1], growth[index]
        if after <= 0.0:
            share = 0.0 if math.isinf(after) else before / (before - after)
            return costs[index - 1] + share * (costs[index] - costs[index - 1])
    return None


def _growth(track: Track) -> float:
    grown = float(track.equity[-1] / track.equity[0])
    return math.log(grown) if grown > 0.0 else -math.inf
