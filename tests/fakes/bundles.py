"""Bundles with random weights, for tests of whatever reads one. Every value can be replaced."""

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors.numpy

from strategy.manifest import (
    ACTION_HIGH,
    ACTION_LOW,
    MANIFEST,
    ActionRecord,
    BundleManifest,
    DataRecord,
    FeatureRecord,
    MemberRecord,
    Reference,
    TrainingRecord,
)
from strategy.parameters import CostModel, RiskLimits, StrategyParameters
from strategy.policy import Float32Array, layer_shapes

SCHEMA: Mapping[str, Any] = {"version": 1, "window": 2401, "names": ["return_1", "volatility_24", "trend_96"]}
SCHEMA_HASH = "ab" * 32
OBSERVATION_SIZE = 5


def random_arrays(seed: int, size: int = OBSERVATION_SIZE, net_arch: tuple[int, ...] = (8, 4)) -> dict[str, Any]:
    """Return the arrays of one actor."""
    rng = np.random.default_rng(seed)
    shapes = layer_shapes(size, net_arch, 3)
    return {name: rng.normal(size=shape, scale=0.5).astype(np.float32) for name, shape in shapes.items()}


def member_record(index: int, data: bytes, **changes: Any) -> MemberRecord:
    """Return the record of member `index`, one of three equals."""
    record = MemberRecord(
        file=f"member-{index}.safetensors",
        sha256=hashlib.sha256(data).hexdigest(),
        seed=index,
        weight=1 / 3,
        net_arch=(8, 4),
        activation="relu",
        clip_mean=2.0,
        use_sde=True,
    )
    return dataclasses.replace(record, **changes)


def make_manifest(members: tuple[MemberRecord, ...], **changes: Any) -> BundleManifest:
    """Return a manifest of `members`, everything else invented."""
    values: dict[str, Any] = {
        "members": members,
        "observation_size": OBSERVATION_SIZE,
        "action": ActionRecord(low=ACTION_LOW, high=ACTION_HIGH, rule_version=1),
        "feature": FeatureRecord(hash=SCHEMA_HASH, schema=SCHEMA),
        "reference": Reference(mean=(0.0, 0.01, -0.2), std=(1.0, 0.5, 0.25), limit=4.0),
        "costs": CostModel().to_json(),
        "risk": RiskLimits().to_json(),
        "strategy": StrategyParameters().to_json(),
        "training": TrainingRecord(
            command="sacd train --data btc.csv --steps 1000",
            start_ms=1_502_942_400_000,
            end_ms=1_640_995_200_000,
            steps=1000,
            symbols=("BTC/USDT",),
            timeframe="1h",
            data=(DataRecord(name="btc.csv", sha256="0" * 64),),
        ),
        "evaluation": None,
        "versions": {"python": "3.11.7", "numpy": "2.4.6"},
    }
    return BundleManifest(**(values | changes))


def make_files(arrays: Mapping[int, Mapping[str, Float32Array]] | None = None, **changes: Any) -> dict[str, bytes]:
    """Return name -> contents of a valid bundle of three members, or of `arrays`; `changes` go to the manifest."""
    arrays = {index: random_arrays(index) for index in range(3)} if arrays is None else arrays
    files = {f"member-{index}.safetensors": safetensors.numpy.save(dict(values)) for index, values in arrays.items()}
    members = tuple(member_record(index, data) for index, data in enumerate(files.values()))
    return {**files, MANIFEST: make_manifest(changes.pop("members", members), **changes).to_bytes()}
