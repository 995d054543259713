"""Which entries of the observation a policy sees; what the others hold, it neither learns from nor answers to."""

import difflib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from strategy.features import FEATURE_NAMES
from strategy.observation import PORTFOLIO_NAMES
from training.errors import TrainingError

INPUTS = (*FEATURE_NAMES, *PORTFOLIO_NAMES)
"""The names of all entries of an observation, in its order."""


def require_inputs(names: object) -> None:
    """Raise TrainingError unless `names` is a tuple of different names out of `INPUTS`, or empty: all are seen then."""
    if not isinstance(names, tuple):
        raise TrainingError(f"inputs {names!r}: give names such as above_240,exposure, or none for all")
    for name in names:
        if name not in INPUTS:
            near = difflib.get_close_matches(str(name), INPUTS, n=3, cutoff=0.0)
            raise TrainingError(f"inputs {name!r}: the observation has no such entry; nearest known: {', '.join(near)}")
        if names.count(name) > 1:
            raise TrainingError(f"inputs {name}: it is given twice: give it once")


def mask_of(names: Sequence[str]) -> NDArray[np.float32]:
    """Return 1 for every entry that is seen and 0 for the others, (N_OBSERVATION,) float32. names: none for all."""
    return np.array([1.0 if not names or name in names else 0.0 for name in INPUTS], np.float32)
