"""Where the feature rows that a policy was trained on lie, as the bundle keeps it."""

from collections.abc import Sequence

import numpy as np

from strategy.features import FeatureTable
from strategy.manifest import Reference

_EDGE_QUANTILE = 0.999


def reference_of(rows: Sequence[FeatureTable]) -> Reference:
    """Return mean, spread and edge of the feature rows a policy was trained on."""
    seen = np.concatenate([table.values[table.is_valid] for table in rows]).astype(np.float64)
    mean, std = seen.mean(axis=0), seen.std(axis=0)
    scores = (seen - mean) / np.where(std > 0.0, std, 1.0)
    distance = np.sqrt((scores * scores).mean(axis=1))
    return Reference(
        mean=tuple(map(float, mean)),
        std=tuple(map(float, std)),
        limit=float(np.quantile(distance, _EDGE_QUANTILE)),
    )
