"""Arithmetic that gives the same bits for one number as for a whole array, and on every machine.

Feature formulas are written once against this seam and run on `(n,)` arrays (history) or on floats (live). Only
operations that IEEE 754 rounds correctly are offered: + - * / (by operator), sqrt, and selections. A logarithm or
tanh would differ in its last bit between a vector unit, the C library and another machine; so there is none.
"""

import math
from typing import Any, Protocol

import numpy as np


class Arithmetic(Protocol):
    """What differs between arrays and floats."""

    def sqrt(self, x: Any) -> Any:  # noqa: ANN401 - float or (n,) float64 array throughout
        """Return the square root of `x` >= 0."""
        ...

    def maximum(self, x: Any, y: Any) -> Any:  # noqa: ANN401
        """Return the larger of two values that are not NaN."""
        ...

    def where(self, condition: Any, x: Any, y: Any) -> Any:  # noqa: ANN401
        """Return `x` where the condition holds, else `y`; both are computed."""
        ...


class _Arrays:
    """(n,) float64 arrays."""

    sqrt = staticmethod(np.sqrt)
    maximum = staticmethod(np.maximum)
    where = staticmethod(np.where)


class _Floats:
    """Python floats: the same IEEE 754 doubles without the cost of a NumPy call."""

    sqrt = staticmethod(math.sqrt)
    maximum = staticmethod(max)

    @staticmethod
    def where(condition: bool, x: float, y: float) -> float:
        return x if condition else y


ARRAYS: Arithmetic = _Arrays()
FLOATS: Arithmetic = _Floats()
