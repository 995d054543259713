"""A market with a plan, and ensembles that know it: what is better there, and until when, is planted and not learned.

Until the flip prices trend: they rise and fall in long stretches. From the flip on they turn back: each candle leans
against the move of the last day. A policy that buys what has risen earns before the flip and loses after it.
"""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from strategy.candle import Candle
from strategy.decision import ACTION_RULE_VERSION
from strategy.features import FEATURE_NAMES, N_FEATURES, WINDOW, compute
from strategy.manifest import (
    ACTION_HIGH,
    ACTION_LOW,
    MANIFEST,
    ActionRecord,
    FeatureRecord,
    Reference,
    TrainingRecord,
)
from strategy.observation import N_OBSERVATION, OBSERVATION_HASH, OBSERVATION_SCHEMA, PORTFOLIO_NAMES
from strategy.parameters import CostModel, RiskLimits, StrategyParameters
from strategy.policy import layer_shapes
from tests.fakes.bundles import make_manifest, member_record

HOUR_MS = 3_600_000
FIRST_MS = 1_609_459_200_000
"""2021-01-01 00:00 UTC."""
WARM_UP = WINDOW + 100
"""Candles that only fill the window; every ensemble here says that it was trained on them."""
STRATEGY = StrategyParameters(decide_every=4, dead_band=0.02, edge_multiple=0.0, volatility_target=5.0)
LIMITS = RiskLimits(
    max_drawdown=0.9,
    stop_loss=0.5,
    stop_atr_multiple=0.0,
    daily_loss=0.9,
    max_orders_per_day=1_000,
    max_turnover_per_day=1_000.0,
    loss_streak=1_000,
    out_of_distribution=1_000.0,
)
"""Limits that never bind: what is shown is the ensembles."""
COSTS = CostModel()

_TREND, _LEAN, _NOISE = 0.003, 0.004, 0.005
"""Of log returns, per candle: of a stretch, against the last day's move, and standard deviation of chance."""
_DAY = 24
_STRETCH = (70, 130)
_VOLUME = 100_000.0
_MEMBERS = 3


# ---- the market -------------------------------------------------------------------------------------------------
def planted_candles(symbol: str, count: int, flip: int, seed: int) -> list[Candle]:
    """Return `count` hourly candles from FIRST_MS on; candle number `flip` is the first of the other regime."""
    # A generator for each of them: what one draws moves no other.
    moves, stretches, shapes, sizes = np.random.default_rng([seed, *symbol.encode()]).spawn(4)
    closes = _closes(moves.normal(scale=_NOISE, size=count), stretches, flip)
    # Wicks reach a third of a usual move beyond open and close.
    wicks = 1.0 + np.abs(shapes.normal(scale=_NOISE / 3.0, size=(count, 2)))
    volumes = _VOLUME * sizes.lognormal(sigma=0.2, size=count)
    candles = []
    for i in range(count):
        before, close = round(float(closes[i]), 2), round(float(closes[i + 1]), 2)
        candles.append(
            Candle(
                symbol=symbol,
                open_ms=FIRST_MS + i * HOUR_MS,
                span_ms=HOUR_MS,
                open=before,
                high=round(max(before, close) * float(wicks[i, 0]) + 0.01, 2),
                low=round(min(before, close) / float(wicks[i, 1]) - 0.01, 2),
                close=close,
                volume=round(float(volumes[i]), 5),
            )
        )
    return candles


def _closes(noise: NDArray[np.float64], stretches: np.random.Generator, flip: int) -> NDArray[np.float64]:
    """Return (n + 1,) prices for (n,) log returns of chance: the first open, and the closes."""
    logs = np.zeros(len(noise) + 1)
    drift, left = _TREND, int(stretches.integers(*_STRETCH))
    for i, chance in enumerate(noise):
        if i >= flip:
            drift = -_LEAN * float(np.sign(logs[i] - logs[i - _DAY]))
        elif left == 0:
            drift, left = -drift, int(stretches.integers(*_STRETCH))
        left -= 1
        logs[i + 1] = logs[i] + drift + chance
    prices: NDArray[np.float64] = 1_000.0 * np.exp(logs)
    return prices


# ---- the ensembles ----------------------------------------------------------------------------------------------
class Kind(StrEnum):
    """How an ensemble votes; all but CONSTANT change their numbers with the market."""

    FOLLOWS = "follows"
    """Buys what has risen over a day, sells what has fallen: better before the flip, worse after it."""
    OPPOSES = "opposes"
    """The opposite."""
    TIMID = "timid"
    """Follows too, but holds a small part of what it might: mediocre on both sides of the flip."""
    CONSTANT = "constant"
    """Says BUY to everything in the same words: garbage."""
    SATURATED = "saturated"
    """Follows with weights a thousand times as large, so that every direction is at the end of its range: garbage."""
    RESTLESS = "restless"
    """Follows the last candle alone, and pays for it: worse than most on any market, costs being what they are."""


def write_ensemble(registry: Path, kind: Kind, candles: Sequence[Sequence[Candle]]) -> str:
    """Write the bundle of an ensemble into `registry`, named as a registry wants it; returns its short id.

    candles: of each symbol; the first WARM_UP of them are what it says it was trained on.
    """
    blobs = [safetensors.numpy.save(_arrays(kind, member)) for member in range(_MEMBERS)]
    clip = None if kind is Kind.SATURATED else 2.0
    members = tuple(
        member_record(i, blob, weight=1.0 / _MEMBERS, clip_mean=clip, net_arch=(4,)) for i, blob in enumerate(blobs)
    )
    seen = [symbol[:WARM_UP] for symbol in candles]
    manifest = make_manifest(
        members,
        observation_size=N_OBSERVATION,
        action=ActionRecord(low=ACTION_LOW, high=ACTION_HIGH, rule_version=ACTION_RULE_VERSION),
        feature=FeatureRecord(hash=OBSERVATION_HASH, schema=json.loads(json.dumps(OBSERVATION_SCHEMA))),
        reference=_reference(seen),
        costs=COSTS.to_json(),
        strategy=STRATEGY.to_json(),
        risk=LIMITS.to_json(),
    )
    manifest = dataclasses.replace(manifest, training=_training(manifest.training, kind, seen))
    place = registry / manifest.short_id
    place.mkdir(parents=True)
    (place / MANIFEST).write_bytes(manifest.to_bytes())
    for record, blob in zip(members, blobs, strict=True):
        (place / record.file).write_bytes(blob)
    return manifest.short_id


def _arrays(kind: Kind, member: int) -> dict[str, NDArray[np.float32]]:
    """Return the network of one member: four hidden units, of which two read the day's move, one the account.

    Members differ in how much of the day's move they take from the return, and how much from the price's distance
    from its mean.
    """
    arrays = {name: np.zeros(shape, np.float32) for name, shape in layer_shapes(N_OBSERVATION, (4,), 3).items()}
    by_return = 0.4 + 0.2 * member
    seen, said = arrays["layer0.weight"], arrays["layer1.weight"]
    reads = ("candle_position", "candle_position") if kind is Kind.RESTLESS else ("return_24", "mean_distance_24")
    for row, sign in enumerate((1.0, -1.0)):
        seen[row, FEATURE_NAMES.index(reads[0])] += sign * by_return
        seen[row, FEATURE_NAMES.index(reads[1])] += sign * (1.0 - by_return)
    seen[2, N_FEATURES + PORTFOLIO_NAMES.index("exposure")] = 1.0
    seen[3, FEATURE_NAMES.index("volatility_share_24")] = 1.0
    if kind is not Kind.CONSTANT:
        side = -2.0 if kind is Kind.OPPOSES else 2.0
        said[0, :2] = side, -side
        said[1:, 3] = -0.3  # a little less while prices jump
    arrays["layer1.bias"][:] = (1.0 if kind is Kind.CONSTANT else 0.0, 1.0, 0.8)
    if kind is Kind.TIMID:
        said[0, 2] = -12.0  # enough once a twentieth of the capital is held
        arrays["layer1.bias"][1] = -1.0
    if kind is Kind.SATURATED:
        said *= 1_000.0
    return arrays


def _reference(candles: Sequence[Sequence[Candle]]) -> Reference:
    """Return where the rows of these candles lie, as a training would tell it."""
    rows = np.concatenate([_rows(symbol) for symbol in candles])
    mean, std = rows.mean(axis=0), rows.std(axis=0)
    distance = np.sqrt((((rows - mean) / np.where(std > 0.0, std, 1.0)) ** 2).mean(axis=1))
    return Reference(mean=tuple(mean.tolist()), std=tuple(std.tolist()), limit=float(distance.max()))


def _rows(candles: Sequence[Candle]) -> NDArray[np.float64]:
    open_ms = np.array([candle.open_ms for candle in candles])
    table = compute(open_ms, np.array([candle.values for candle in candles]), HOUR_MS, STRATEGY.max_missing)
    return table.values[table.is_valid].astype(np.float64)


def _training(made: TrainingRecord, kind: Kind, candles: Sequence[Sequence[Candle]]) -> TrainingRecord:
    """Return what is said of how it was made: a command that a retraining can repeat, in seconds."""
    names = [f"{symbol[0].symbol.replace('/', '').lower()}-1h.csv" for symbol in candles]
    command = f"sacd train --data {' '.join(names)} --preset compact --steps 400 --members 1 --gates off --validation 0"
    return dataclasses.replace(
        made,
        command=f"{command} --seed {list(Kind).index(kind)}",
        start_ms=candles[0][0].open_ms,
        end_ms=candles[0][-1].close_ms,
        steps=400,
        symbols=tuple(symbol[0].symbol for symbol in candles),
        data=tuple(
            dataclasses.replace(made.data[0], name=name, sha256=hashlib.sha256(repr(symbol).encode()).hexdigest())
            for name, symbol in zip(names, candles, strict=True)
        ),
    )
