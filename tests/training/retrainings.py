"""Retrainings so small that a test can do some: a registry with an incumbent, candles that judge it, requests."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from strategy.bundle import Bundle
from strategy.candle_table import CandleTable
from strategy.features import N_FEATURES, WINDOW
from strategy.manifest import DataRecord, FeatureRecord, Reference, TrainingRecord
from strategy.observation import N_OBSERVATION, OBSERVATION_HASH, OBSERVATION_SCHEMA
from strategy.parameters import StrategyParameters
from strategy.policy import Float32Array
from tests.fakes.bundles import make_files, member_record, random_arrays
from tests.fakes.trading import BTC, HOUR_MS
from tests.training.markets import changed, history
from training.bundles import read_serving_bundle

DAY_MS = 86_400_000
PRACTICE = 700
"""Candles with a full window that made the incumbent."""
SEEN_TO_MS = (WINDOW - 1 + PRACTICE) * HOUR_MS
ID = "00c0ffee00c0ffee"
TINY = (
    "sacd train --data btcusdt-1h.csv --symbol BTC/USDT --preset compact --steps 400 --members 1 --seed 1 --spread on "
    "--validation 0.0 --weighting equal --gates off --set learning_starts=100 --set batch_size=16 --set net_arch=8 "
    "--set episode.length=60"
)
STRATEGY = StrategyParameters(decide_every=4, dead_band=0.02, edge_multiple=0.0, volatility_target=5.0)


def market(days: int = 40, seed: int = 3, symbol: str = BTC) -> CandleTable:
    """Return candles that go on so many days behind those that made the incumbent."""
    return history(PRACTICE + days * 24, seed=seed, symbol=symbol)


def trending(days: int = 40, seed: int = 3, strength: float = 3e-3) -> CandleTable:
    """Return candles whose price rises for two weeks and falls for two, and so on: something a policy can know."""
    table = market(days, seed)
    fortnight = (np.arange(len(table)) // (14 * 24)) % 2
    drift = np.exp(np.cumsum(np.where(fortnight == 0, strength, -strength)))
    values = table.values.copy()
    values[:, :4] *= drift[:, None]
    return changed(table, values=np.round(values, 8))


def permuted(table: CandleTable, seed: int = 1) -> CandleTable:
    """Return candles of the same returns in another order: whatever their past told of their future is gone."""
    close = table.values[:, 3]
    shape = table.values[:, :4] / close[:, None]
    order = np.random.default_rng(seed).permutation(len(table) - 1)
    steps = np.diff(np.log(close))[order]
    closes = close[0] * np.exp(np.concatenate([[0.0], np.cumsum(steps)]))
    rows = np.concatenate([[0], order + 1])
    values = np.column_stack([shape[rows] * closes[:, None], table.values[rows, 4]])
    values[:, 1], values[:, 2] = values[:, :4].max(axis=1), values[:, :4].min(axis=1)
    return changed(table, values=values)


# ---- bundles ----------------------------------------------------------------------------------------------------
def steady(direction: float, size: float = 0.0, confidence: float = 0.0) -> dict[str, Float32Array]:
    """Return an actor that says the same to everything; numbers as they are before they are squashed."""
    arrays = {name: np.zeros_like(values) for name, values in random_arrays(0, N_OBSERVATION).items()}
    arrays["layer2.bias"][:] = (direction, size, confidence)
    return arrays


def following(feature: str, sign: float = 1.0, steepness: float = 1.0) -> dict[str, Float32Array]:
    """Return an actor whose direction is the squashed sum of one feature: a rule in the clothes of a network.

    Two units hold what is above and what is below 0, as a layer of rectifiers must.
    """
    arrays = steady(0.0, 2.0, 2.0)
    place = OBSERVATION_SCHEMA["names"].index(feature)
    arrays["layer0.weight"][0, place], arrays["layer0.weight"][1, place] = steepness, -steepness
    arrays["layer1.weight"][0, 0] = arrays["layer1.weight"][1, 1] = 1.0
    arrays["layer2.weight"][0, 0], arrays["layer2.weight"][0, 1] = sign, -sign
    return arrays


def files_of(
    *members: Mapping[str, Float32Array],
    command: str = TINY,
    end_ms: int = SEEN_TO_MS,
    net_arch: tuple[int, ...] = (8, 4),
    **changes: Any,
) -> dict[str, bytes]:
    """Return name -> contents of a bundle of these actors, made from candles up to `end_ms`."""
    arrays = dict(enumerate(members))
    records = []
    plain = make_files(arrays, members=(member_record(0, b"", weight=1.0),))
    for index in arrays:
        data = plain[f"member-{index}.safetensors"]
        how = {"weight": 1.0 / len(arrays), "clip_mean": None, "use_sde": False, "net_arch": net_arch}
        records.append(member_record(index, data, **how))
    record = TrainingRecord(
        command=command,
        start_ms=0,
        end_ms=end_ms,
        steps=400,
        symbols=(BTC,),
        timeframe="1h",
        data=(DataRecord(name="btcusdt-1h.csv", sha256="ab" * 32),),
    )
    values: dict[str, Any] = {
        "observation_size": N_OBSERVATION,
        "feature": FeatureRecord(hash=OBSERVATION_HASH, schema=json.loads(json.dumps(OBSERVATION_SCHEMA))),
        "reference": Reference(mean=(0.0,) * N_FEATURES, std=(1.0,) * N_FEATURES, limit=100.0),
        "strategy": STRATEGY.to_json(),
        "training": record,
        "members": tuple(records),
    }
    return make_files(arrays, **(values | changes))


def put(registry: Path, files: Mapping[str, bytes]) -> str:
    """Write a bundle into a registry and return its short id."""
    name: str = json.loads(files["manifest.json"])["id"][:16]
    (registry / name).mkdir(parents=True)
    for file, data in files.items():
        (registry / name / file).write_bytes(data)
    return name


def bundle(place: Path, *members: Mapping[str, Float32Array], **changes: Any) -> Bundle:
    """Return a bundle of these actors, read back from a directory in `place`."""
    return read_serving_bundle(place / put(place, files_of(*members, **changes)))


# ---- requests ---------------------------------------------------------------------------------------------------
@dataclass(frozen=True, kw_only=True)
class Place:
    """An exchange with the daemon, a registry, and an incumbent in it."""

    root: Path
    incumbent: str
    data: Mapping[str, Path]

    @property
    def exchange(self) -> Path:
        return self.root / "retrain"

    @property
    def registry(self) -> Path:
        return self.root / "models"

    def folder(self, request: str = ID) -> Path:
        return self.exchange / "work" / request

    def ask(self, **changes: Any) -> dict[str, Any]:
        """Write a request as the daemon does, and return it."""
        values = {**request_of(self), **changes}
        (self.exchange / "request.json").write_text(json.dumps(values))
        return values

    def read(self, name: str) -> Any:
        return json.loads((self.exchange / name).read_text())

    @property
    def names(self) -> list[str]:
        """What lies in the exchange, but for the lock and finished work."""
        return sorted(entry.name for entry in self.exchange.iterdir() if entry.name not in {"lock", "work"})


def request_of(place: Place) -> dict[str, Any]:
    return {
        "format": 1,
        "request": ID,
        "at_ms": SEEN_TO_MS + 50 * DAY_MS,
        "by": "hand",
        "registry": str(place.registry),
        "incumbent": place.incumbent,
        "journal": "",
        "exchange": "",
        "timeframe": "1h",
        "symbols": list(place.data),
        "data": {symbol: str(path) for symbol, path in place.data.items()},
        "fetch": False,
        "workers": 1,
        "steps": 0,
        "deadline_ms": time.time_ns() // 1_000_000 + 3_600_000,
        "memory_mib": 4096,
        "holdout_days": 30.0,
        "gate_confidence": 0.8,
        "max_drawdown": 0.9,
    }


def make_place(
    root: Path,
    tables: Sequence[CandleTable],
    write: Callable[[CandleTable, Path, str], Path],
    *members: Mapping[str, Float32Array],
    **changes: Any,
) -> Place:
    """Return a place whose incumbent is made of `members`. write: puts a table into a file of that name."""
    root.mkdir(exist_ok=True)
    (root / "retrain").mkdir()
    incumbent = put(root / "models", files_of(*(members or (random_arrays(3, N_OBSERVATION),)), **changes))
    data = {}
    for table in tables:
        name = f"{table.symbol.replace('/', '').lower()}-{table.timeframe.name}.csv"
        data[table.symbol] = write(table, root, name)
    return Place(root=root, incumbent=incumbent, data=data)


def until(table: CandleTable, to_ms: int) -> CandleTable:
    """Return the candles that open before then."""
    return table.slice(None, to_ms)


def restated(table: CandleTable, at: int, factor: float = 1.01) -> CandleTable:
    """Return `table` with another volume in row `at`."""
    values = table.values.copy()
    values[at, 4] *= factor
    return replace(table, values=values)
