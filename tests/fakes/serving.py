"""Something to serve: a bundle whose random members trade often, candles to trade on, and a configuration for both."""

import csv
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from daemon.simulated_market import SimulatedSymbol, simulated_instrument
from strategy.candle import Candle, Timeframe
from strategy.decision import ACTION_RULE_VERSION
from strategy.features import N_FEATURES
from strategy.manifest import ACTION_HIGH, ACTION_LOW, MANIFEST, ActionRecord, FeatureRecord, Reference
from strategy.observation import N_OBSERVATION, OBSERVATION_HASH, OBSERVATION_SCHEMA
from strategy.parameters import SHIPPED_LIMITS, SHIPPED_STRATEGY
from tests.fakes.bundles import make_manifest, member_record, random_arrays

ROOT = Path(__file__).parents[2]
BTC, ETH = "BTC/USDT", "ETH/USDT"
SYMBOLS = (BTC, ETH)
_BUSY: dict[str, dict[str, Any]] = {
    "strategy": {"decide_every": 1, "dead_band": 0.01, "edge_multiple": 0.0, "disagreement_limit": 1.0,
                 "volatility_target": 5.0},
    "risk": {"max_orders_per_day": 1000, "max_turnover_per_day": 1000.0, "stop_loss": 0.02, "stop_atr_multiple": 8.0,
             "stop_cooldown": 1, "loss_streak": 50, "daily_loss": 0.5, "max_drawdown": 0.25, "halt_cooldown": 24},
    "retrain": {"drift_limit": 0.0},
}  # fmt: skip
"""Limits loose enough that most votes become orders, stops near enough to be hit, a halt that resumes by itself.

No limit of drift: the reference of these bundles was not measured on any candles.
"""


def write_bundle(
    registry: Path,
    *,
    seed: int = 5,
    members: int = 3,
    timeframe: str = "1h",
    votes: tuple[float, float, float] | None = None,
) -> Path:
    """Write a bundle of random members that agree enough to trade, named as a registry wants it; returns its place.

    timeframe: of the candles its manifest says it was trained on.  votes: what they mean about every candle instead:
    direction, size and confidence before they are squashed, so that 0 is the middle of each range.
    """
    shared = _busy_arrays(seed) if votes is None else _steady_arrays(votes)
    scale = 0.02 if votes is None else 0.0
    blobs = []
    for index in range(members):
        noise = np.random.default_rng(1000 * seed + index)
        arrays = {
            name: (values + noise.normal(scale=scale, size=values.shape)).astype(np.float32)
            for name, values in shared.items()
        }
        blobs.append(safetensors.numpy.save(arrays))
    records = tuple(member_record(index, blob, weight=1.0 / members) for index, blob in enumerate(blobs))
    manifest = make_manifest(
        records,
        observation_size=N_OBSERVATION,
        action=ActionRecord(low=ACTION_LOW, high=ACTION_HIGH, rule_version=ACTION_RULE_VERSION),
        feature=FeatureRecord(hash=OBSERVATION_HASH, schema=json.loads(json.dumps(OBSERVATION_SCHEMA))),
        reference=Reference(mean=(0.0,) * N_FEATURES, std=(1.0,) * N_FEATURES, limit=2.0),
        strategy=dataclasses.replace(SHIPPED_STRATEGY, **_BUSY["strategy"]).to_json(),
        risk=dataclasses.replace(SHIPPED_LIMITS, **_BUSY["risk"]).to_json(),
    )
    training = dataclasses.replace(manifest.training, timeframe=timeframe)
    manifest = dataclasses.replace(manifest, training=training)
    place = registry / manifest.short_id
    place.mkdir(parents=True)
    (place / MANIFEST).write_bytes(manifest.to_bytes())
    for index, blob in enumerate(blobs):
        (place / f"member-{index}.safetensors").write_bytes(blob)
    return place


def _busy_arrays(seed: int) -> dict[str, Any]:
    arrays = random_arrays(seed, N_OBSERVATION)
    last = max(name for name in arrays if name.endswith("weight"))
    # A direction that swings past both thresholds, and steps that are worth an order.
    arrays[last][0] *= 3.0
    arrays[last.replace("weight", "bias")][:] = (0.0, 0.6, 0.8)
    return arrays


def _steady_arrays(votes: tuple[float, float, float]) -> dict[str, Any]:
    arrays = {name: np.zeros_like(values) for name, values in random_arrays(0, N_OBSERVATION).items()}
    last = max(name for name in arrays if name.endswith("bias"))
    arrays[last][:] = votes
    return arrays


def market_candles(symbol: str, count: int, *, seed: int = 11) -> list[Candle]:
    """Return the first candles of the simulated market."""
    market = SimulatedSymbol(instrument=simulated_instrument(symbol), timeframe=Timeframe.parse("1h"), seed=seed)
    stream = market.after(None)
    return [next(stream) for _ in range(count)]


def write_csv(path: Path, candles: Sequence[Candle], gaps: Sequence[int] = ()) -> Path:
    """Write candles as a data file, without those whose number is in `gaps`."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["timestamp_ms", "open", "high", "low", "close", "volume"])
        writer.writerows([c.open_ms, *map(repr, c.values)] for i, c in enumerate(candles) if i not in gaps)
    return path


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """A directory with everything a daemon needs; `config` may be written again with other values."""

    root: Path
    model: Path
    files: Mapping[str, Path]

    @property
    def config(self) -> Path:
        return self.root / "config.toml"

    def state(self, name: str) -> Path:
        return self.root / name

    def journal(self, state: str = "var") -> Path:
        source = "file" if self.files else "simulated"
        return self.root / state / f"test-{source}.sqlite"

    def configure(
        self, *, state: str = "var", name: str = "config.toml", extra: str = "", **changes: Mapping[str, Any]
    ) -> Path:
        """Write the configuration; `changes` go to sections by name, `extra` behind them. Returns its path."""
        sections: dict[str, dict[str, Any]] = {
            "daemon": {"instance": "test", "state_dir": str(self.root / state)},
            "market": {
                "source": "file" if self.files else "simulated",
                "symbols": list(self.files) or list(SYMBOLS),
                "candles_per_second": 0.0,
            },
            "http": {"port": 0},
            "journal": {"checkpoint_every": 40},
            "control": {"socket": str(self.root / f"{state}.sock")},
        }
        for section, values in (*_BUSY.items(), *changes.items()):
            sections[section] = {**sections.get(section, {}), **values}
        sections["strategy"].setdefault("model", str(self.model))
        text = "".join(_section(title, values) for title, values in sections.items())
        if self.files:
            text += _section("market.file.paths", {symbol: str(path) for symbol, path in self.files.items()})
        for symbol in SYMBOLS:
            text += _section(f'instruments."{symbol}"', {"tick": 0.01, "lot": 0.00001, "min_notional": 5.0})
        path = self.root / name
        path.write_text(text + extra, encoding="utf-8")
        return path


def make_place(
    root: Path, count: int = 0, *, symbols: Sequence[str] = SYMBOLS, seed: int = 5, timeframe: str = "1h"
) -> Place:
    """Return a place with a busy bundle and, when `count` is given, so many candles of each symbol, with gaps."""
    model = write_bundle(root / "models", seed=seed, timeframe=timeframe)
    files = {}
    for i, symbol in enumerate(symbols if count else ()):
        path = root / f"{symbol.replace('/', '').lower()}-1h.csv"
        gaps = [count - 90 + 20 * i, count - 89 + 20 * i, count - 30 - 7 * i]
        files[symbol] = write_csv(path, market_candles(symbol, count), gaps)
    place = Place(root=root, model=model, files=files)
    place.configure()
    return place


def _section(title: str, values: Mapping[str, Any]) -> str:
    # JSON writes strings, numbers, booleans and lists of them as TOML reads them.
    return f"[{title}]\n" + "".join(f"{json.dumps(k)} = {json.dumps(v)}\n" for k, v in values.items()) + "\n"
