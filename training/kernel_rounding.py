"""Rounding to tick and lot without Decimal: the same numbers as strategy/instrument.py, compiled.

A step is written `digits * 10**-decimals` with whole digits, so that the n-th point of its grid is the exact quotient
`n * digits / 10**decimals`, which IEEE 754 rounds to the float that Decimal gives. Whether a value lies above or below
a point follows from comparing the two floats as long as the point has at most 15 significant digits: two decimals of
that length never round to one float, and the shortest decimal of that float is then the point itself.
"""

import math
from decimal import Decimal

import numpy as np

from training.compiled import compiled
from training.errors import TrainingError

EXACT = 1e15
"""Steps times digits must stay below this: decimals of 15 digits are told apart by float64, longer ones are not."""
_MOST_DECIMALS = 22  # 10**22 is the largest power of ten that is a float


def decimal_step(name: str, step: float) -> tuple[float, float]:
    """Return (digits, 10**decimals) of a step such as 0.25, (25.0, 100.0), both exact.

    Raises TrainingError, naming the step as `name`, when its shortest decimal is too long for exact rounding.
    """
    _, digits, exponent = Decimal(repr(step)).normalize().as_tuple()
    if not isinstance(exponent, int):
        raise TrainingError(f"{name} {step} is not a number: give a step such as 0.01")
    whole = int("".join(map(str, digits))) * 10 ** max(exponent, 0)
    if whole >= EXACT or -exponent > _MOST_DECIMALS:
        raise TrainingError(f"{name} {step} has too many digits to round to exactly: give a step such as 0.01")
    return float(whole), 10.0 ** max(-exponent, 0)


@compiled
def grid_point(count: float, digits: float, scale: float) -> float:
    """Return the value of `count` steps."""
    return count * digits / scale


@compiled
def grid_below(value: float, digits: float, scale: float) -> float:
    """Return the largest point of the grid that is not above `value` (>= 0); beyond EXACT, one that is near."""
    # A product with the rounded inverse may miss by a step; what decides is the comparison with the points.
    count = np.floor(value * (scale / digits))
    point = grid_point(count, digits, scale)
    if count * digits >= EXACT:
        return point  # adding 1 might change nothing, over and over
    while point > value:
        count -= 1.0
        point = grid_point(count, digits, scale)
    above = grid_point(count + 1.0, digits, scale)
    while above <= value:
        count += 1.0
        point, above = above, grid_point(count + 1.0, digits, scale)
    return point


@compiled
def grid_above(value: float, digits: float, scale: float) -> float:
    """Return the smallest point of the grid that is not below `value` (>= 0); beyond EXACT, one that is near."""
    count = np.ceil(value * (scale / digits))
    point = grid_point(count, digits, scale)
    if count * digits >= EXACT:
        return point
    while point < value:
        count += 1.0
        point = grid_point(count, digits, scale)
    below = grid_point(count - 1.0, digits, scale)
    while below >= value and count > 0.0:
        count -= 1.0
        point, below = below, grid_point(count - 1.0, digits, scale)
    return point


@compiled
def steps_of(value: float, digits: float, scale: float) -> float:
    """Return how many steps a value on the grid is."""
    return float(np.rint(value * scale / digits))


def is_exact(value: float, digits: float, scale: float) -> bool:
    """Tell whether values up to `value` can be rounded to the grid exactly."""
    return math.ceil(value * scale / digits) * digits < EXACT
