"""Histories and ensembles for tests of the training side: long enough for a feature window, and no longer."""

from pathlib import Path
from typing import Any

import numpy as np

from strategy.bundle import Bundle
from strategy.candle_table import CandleTable, format_csv
from strategy.features import N_FEATURES, WINDOW
from strategy.manifest import FeatureRecord, Reference
from strategy.observation import N_OBSERVATION, OBSERVATION_HASH, OBSERVATION_SCHEMA
from tests.fakes.bundles import make_files, random_arrays
from tests.fakes.trading import BTC, HOUR_MS, random_table
from training.bundles import read_serving_bundle

FIRST = WINDOW - 1
"""Index of the first candle with a full window."""


def history(after: int, seed: int = 1, symbol: str = BTC, start: int = 0) -> CandleTable:
    """Return a random walk with `after` candles that have a full window."""
    return random_table(FIRST + after, seed=seed, symbol=symbol, start=start)


def with_gap(table: CandleTable, at: int, missing: int) -> CandleTable:
    """Return `table` with `missing` candles left out before the one at index `at`."""
    shift = np.where(np.arange(len(table)) >= at, missing * HOUR_MS, 0)
    return changed(table, open_ms=table.open_ms + shift)


def changed(table: CandleTable, **parts: Any) -> CandleTable:
    """Return `table` with other times or values."""
    whole = {"symbol": table.symbol, "timeframe": table.timeframe, "open_ms": table.open_ms, "values": table.values}
    return CandleTable(**(whole | parts))


def other_future(table: CandleTable, at: int, seed: int, factor: float = 1.0) -> CandleTable:
    """Return `table` with every candle after index `at` replaced."""
    values = table.values.copy()
    values[at + 1 :] = random_table(len(table), seed=seed).values[at + 1 :] * factor
    return changed(table, values=values)


def write_table(table: CandleTable, directory: Path, name: str = "btcusdt-1h.csv") -> Path:
    """Write `table` as CSV."""
    path = directory / name
    path.write_bytes(format_csv(table))
    return path


def write_ensemble(directory: Path, seed: int = 3, members: int = 3, limit: float = 100.0) -> Path:
    """Write a bundle of random networks, steep enough to buy and to sell, that this program can serve."""
    arrays = {index: random_arrays(seed + index, N_OBSERVATION) for index in range(members)}
    for layers in arrays.values():
        layers["layer2.weight"] *= 4.0
        layers["layer2.bias"][1:] = 1.0
    files = make_files(
        arrays,
        observation_size=N_OBSERVATION,
        feature=FeatureRecord(hash=OBSERVATION_HASH, schema=OBSERVATION_SCHEMA),
        reference=Reference(mean=(0.0,) * N_FEATURES, std=(1.0,) * N_FEATURES, limit=limit),
    )
    directory.mkdir()
    for name, data in files.items():
        (directory / name).write_bytes(data)
    return directory


def ensemble(directory: Path, seed: int = 3) -> Bundle:
    """Return such a bundle, read back."""
    return read_serving_bundle(write_ensemble(directory / f"ensemble-{seed}", seed))
