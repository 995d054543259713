from itertools import product

import numpy as np
import pytest

from strategy.features import FEATURE_NAMES, N_FEATURES, TREND_MEANS
from training.trend import trend_shares

HOLDS = {0: 0.0, 1: 0.0, 2: 0.0, 3: 0.5, 4: 1.0}
"""Means that the close lies above -> share of its cap that the rule holds, by hand."""


def row(**flags: float) -> np.ndarray:
    values = np.full(N_FEATURES, 0.7, np.float32)  # what else a row holds does not count
    for name, value in flags.items():
        values[FEATURE_NAMES.index(name)] = value
    return values


@pytest.mark.parametrize("sides", list(product([-1.0, 1.0], repeat=4)), ids=str)
def test_the_rule_holds_half_above_three_means_and_all_above_four(sides: tuple[float, ...]) -> None:
    flags = {f"above_{n}": side for n, side in zip((240, 600, 1200, 2400), sides, strict=True)}
    assert trend_shares(row(**flags)[None]).tolist() == [HOLDS[sides.count(1.0)]]


def test_many_rows_are_answered_at_once() -> None:
    rows = np.stack([row(**dict.fromkeys((f"above_{n}" for n in TREND_MEANS), side)) for side in (1.0, -1.0, 1.0)])
    shares = trend_shares(rows)
    assert (shares.tolist(), shares.dtype) == ([1.0, 0.0, 1.0], np.float64)
    assert trend_shares(np.zeros((0, N_FEATURES), np.float32)).shape == (0,)
