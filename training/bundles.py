"""Reads bundles without torch: what backtest and parity need."""

from pathlib import Path

import safetensors.numpy

from strategy.bundle import Bundle, assemble, check_compatible
from strategy.decision import ACTION_RULE_VERSION
from strategy.errors import BadBundle, InvalidParameters
from strategy.manifest import BundleManifest
from strategy.observation import N_OBSERVATION, OBSERVATION_HASH, OBSERVATION_SCHEMA
from strategy.parameters import CostModel, RiskLimits, StrategyParameters
from strategy.trader import Reference
from training.errors import BundleError
from training.market import Conditions

TRAINING_FOLDER = "training"
_NOT_PART = frozenset({TRAINING_FOLDER, "evaluation.json"})
"""What may lie in the directory and is not part of the bundle; the daemon's `readiness` reads the evaluation."""


def read_bundle(path: Path) -> Bundle:
    """Return the verified bundle in the directory `path`. Raises BundleError naming path, file and reason."""
    try:
        entries = [entry for entry in sorted(path.resolve(strict=True).iterdir()) if entry.name not in _NOT_PART]
        for entry in entries:
            if entry.is_symlink() or not entry.is_file():
                raise BundleError(f"{path}: bundle file {entry.name}: it is not a plain file")
        return assemble({entry.name: entry.read_bytes() for entry in entries}, safetensors.numpy.load)
    except BadBundle as error:
        raise BundleError(f"{path}: {error}") from error
    except (OSError, RuntimeError) as error:  # RuntimeError: a link that leads to itself
        reason = getattr(error, "strerror", None) or error
        raise BundleError(f"{path}: cannot be read ({reason}): name the directory of a bundle") from error


def read_serving_bundle(path: Path) -> Bundle:
    """Return the bundle at `path` when this program can serve it. Raises BundleError with what differs."""
    bundle = read_bundle(path)
    try:
        check_compatible(
            bundle.manifest,
            feature_schema=OBSERVATION_SCHEMA,
            feature_hash=OBSERVATION_HASH,
            observation_size=N_OBSERVATION,
            action_rule_version=ACTION_RULE_VERSION,
        )
    except BadBundle as error:
        raise BundleError(f"{path}: {error}") from error
    return bundle


def reference_of(bundle: Bundle) -> Reference:
    """Return the training distribution of a bundle as the trader reads it."""
    stored = bundle.manifest.reference
    return Reference.of(stored.mean, stored.std, stored.limit)


def conditions_of(manifest: BundleManifest) -> Conditions:
    """Return what the ensemble was trained under. Raises BundleError when this program has other parameters."""
    try:
        return Conditions(
            strategy=StrategyParameters.from_json(manifest.strategy),
            limits=RiskLimits.from_json(manifest.risk),
            costs=CostModel.from_json(manifest.costs),
        )
    except InvalidParameters as error:
        raise BundleError(f"bundle {manifest.short_id}: what it was trained under: {error}: train it anew") from error
