"""Turns Stable-Baselines3 SAC policies into a bundle: arrays and a manifest, written completely or not at all.

Refuses a policy whose NumPy twin does not answer as torch does. The same weights give the same bytes and the same id.
"""

import hashlib
import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3 import SAC
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import nn

from strategy.bundle import assemble
from strategy.errors import BadBundle, StrategyError
from strategy.manifest import (
    ACTION_HIGH,
    ACTION_LOW,
    MANIFEST,
    ActionRecord,
    BundleManifest,
    FeatureRecord,
    MemberRecord,
    Parameters,
    Reference,
    TrainingRecord,
)
from strategy.policy import Activation, Actor, Ensemble, Float32Array
from training.bundle_files import remove_left_overs, write_directory
from training.errors import BundleError, ExportError

TOLERANCE = 1e-6
LEAST_OBSERVATIONS = 1_000
_RANDOM_OBSERVATIONS = 4_096
_ACTIVATIONS: Mapping[type[nn.Module], Activation] = {nn.ReLU: Activation.RELU, nn.Tanh: Activation.TANH}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ExportedActor:
    """The actor of a SAC model as the bundle keeps it.

    arrays: named as `strategy.policy.layer_shapes` names them, float32.  difference: the largest one found between
    torch and NumPy.
    """

    arrays: Mapping[str, Float32Array]
    observation_size: int
    net_arch: tuple[int, ...]
    activation: Activation
    clip_mean: float | None
    use_sde: bool
    low: tuple[float, ...]
    high: tuple[float, ...]
    difference: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainedMember:
    """What goes into a bundle for one member. weight: its share in the ensemble; the shares sum to 1."""

    actor: ExportedActor
    seed: int
    weight: float


def export_actor(model: SAC, observations: Float32Array | None = None) -> ExportedActor:
    """Return the arrays of a SAC `MlpPolicy`'s actor, checked against `model.predict(deterministic=True)`.

    observations: (n >= 1000, n_obs) float32 to compare on, best those it was trained on; without them, 4096 normal
    ones from a fixed seed, which a policy with steep answers may fail: there rounding moves torch's own answers, one
    observation at a time against all at once, by more than the tolerance.
    Raises ExportError for other networks, and when any action differs by more than 1e-6.
    """
    exported = actor_of(model)
    size = exported.observation_size
    if observations is None:
        observations = np.random.default_rng(0).standard_normal((_RANDOM_OBSERVATIONS, size), dtype=np.float32)
    _check_observations(observations, size)
    _twin(exported)  # before torch is asked, whose word for weights that are no numbers is a traceback
    answers, _ = model.predict(observations, deterministic=True)
    return checked(exported, observations, answers)


def actor_of(model: SAC) -> ExportedActor:
    """Return the arrays of a SAC `MlpPolicy`'s actor, compared with nothing. Raises ExportError for other networks."""
    actor = model.policy.actor
    linears = _linears(model)
    arrays = {}
    for index, linear in enumerate(linears):
        arrays[f"layer{index}.weight"] = _array(linear.weight)
        arrays[f"layer{index}.bias"] = _array(linear.bias)
    return ExportedActor(
        arrays=arrays,
        observation_size=linears[0].in_features,
        net_arch=tuple(linear.out_features for linear in linears[:-1]),
        activation=_activation(actor.activation_fn),
        clip_mean=float(actor.clip_mean) if actor.use_sde and actor.clip_mean > 0.0 else None,
        use_sde=bool(actor.use_sde),
        low=tuple(map(float, model.action_space.low)),  # type: ignore[attr-defined]  # _linears saw that it is a Box
        high=tuple(map(float, model.action_space.high)),  # type: ignore[attr-defined]
        difference=0.0,
    )


def checked(exported: ExportedActor, observations: Float32Array, answers: Float32Array) -> ExportedActor:
    """Return `exported` with the largest difference between its NumPy twin and torch.

    observations: (n >= 1000, n_obs) float32.  answers: (n, n_actions), what torch said to them.
    Raises ExportError when the difference is above 1e-6 or a policy cannot be made of the arrays.
    """
    _check_observations(observations, exported.observation_size)
    difference = _difference(_twin(exported), observations, answers)
    # Written so that NaN is refused too.
    if not difference <= TOLERANCE:
        raise ExportError(
            f"the NumPy twin differs from torch by {difference:.2e} on {len(observations)} observations, "
            f"at most {TOLERANCE:.0e} is allowed: its answers are so steep that rounding moves them; "
            f"train with use_sde, which bounds the mean, or with a smaller learning rate"
        )
    return replace(exported, difference=difference)


def build_actor(exported: ExportedActor, name: str) -> Actor:
    """Return the NumPy twin, called `name` in errors. Raises BadWeights."""
    return Actor.from_arrays(
        exported.arrays,
        name=name,
        net_arch=exported.net_arch,
        observation_size=exported.observation_size,
        activation=exported.activation,
        low=exported.low,
        high=exported.high,
        clip_mean=exported.clip_mean,
    )


def largest_difference(exported: ExportedActor, model: SAC, observations: Float32Array) -> float:
    """Return the largest difference of any action between the NumPy twin and torch on (n, n_obs) observations."""
    answers, _ = model.predict(observations, deterministic=True)
    return _difference(_twin(exported), observations, answers)


def _twin(exported: ExportedActor) -> Ensemble:
    try:
        return Ensemble([build_actor(exported, "exported actor")], [1.0])
    except StrategyError as error:
        raise ExportError(f"the policy cannot be exported: {error}") from error


def _difference(twin: Ensemble, observations: Float32Array, answers: Float32Array) -> float:
    return float(np.abs(twin.act(observations)[:, 0] - answers).max())


def write_bundle(
    directory: Path,
    members: Sequence[TrainedMember],
    *,
    action_rule_version: int,
    feature: FeatureRecord,
    reference: Reference,
    costs: Parameters,
    risk: Parameters,
    strategy: Parameters,
    training: TrainingRecord,
    evaluation: Mapping[str, Any] | None = None,
    versions: Mapping[str, str] | None = None,
    in_registry: bool = False,
) -> BundleManifest:
    """Write a bundle to `directory`, which must not exist or be empty, and return its manifest.

    in_registry: `directory` is one of bundles, and the bundle gets a directory of its own there, called by its id.
    The directory appears complete or not at all, also when the power fails. versions: those of the libraries in use
    unless given.  Raises BundleError when the place is taken or cannot be written, or the values make no bundle.
    """
    if not members:
        raise BundleError(f"bundle {directory}: it needs at least one member")
    files = {
        f"member-{index}.safetensors": safetensors.numpy.save(dict(member.actor.arrays))
        for index, member in enumerate(members)
    }
    try:
        manifest = BundleManifest(
            members=tuple(
                _member_record(member, file, data) for member, (file, data) in zip(members, files.items(), strict=True)
            ),
            observation_size=members[0].actor.observation_size,
            action=ActionRecord(low=ACTION_LOW, high=ACTION_HIGH, rule_version=action_rule_version),
            feature=feature,
            reference=reference,
            costs=costs,
            risk=risk,
            strategy=strategy,
            training=training,
            evaluation=evaluation,
            versions=library_versions() if versions is None else versions,
        )
        files[MANIFEST] = manifest.to_bytes()
        # Read back before it is written: what no reader would take must not reach the disk.
        assemble(files, safetensors.numpy.load)
    except BadBundle as error:
        raise BundleError(f"bundle {directory}: {error}") from error
    if in_registry:
        remove_left_overs(directory)
    write_directory(directory / manifest.short_id if in_registry else directory, files)
    return manifest


def library_versions() -> dict[str, str]:
    """Return the versions that a bundle is made with."""
    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
        "stable_baselines3": importlib.metadata.version("stable-baselines3"),
        "sacd": _own_version(),
    }


def _own_version() -> str:
    try:
        return importlib.metadata.version("sacd")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


# ---- from torch to arrays ---------------------------------------------------------------------------------------
def _linears(model: SAC) -> list[nn.Linear]:
    """Return the actor's linear layers in order, the mean last. Raises ExportError when it is made otherwise."""
    space, actor = model.observation_space, model.policy.actor
    if not isinstance(space, spaces.Box) or len(space.shape) != 1 or space.dtype != np.float32:
        raise ExportError(f"observation space {space} is not a Box of float32 in one dimension")
    if not isinstance(model.action_space, spaces.Box) or len(model.action_space.shape) != 1:
        raise ExportError(f"action space {model.action_space} is not a Box in one dimension")
    if type(actor.features_extractor) is not FlattenExtractor:
        raise ExportError(f"features extractor {type(actor.features_extractor).__name__} is not FlattenExtractor")
    mean = list(actor.mu) if isinstance(actor.mu, nn.Sequential) else [actor.mu]
    modules = [*actor.latent_pi, *(module for module in mean if not isinstance(module, nn.Hardtanh))]
    linears = [module for module in modules if isinstance(module, nn.Linear)]
    if [type(module) for module in modules] != [*[nn.Linear, actor.activation_fn] * (len(linears) - 1), nn.Linear]:
        raise ExportError(f"the actor is not linear layers with one activation between: {modules}")
    return linears


def _activation(module: type[nn.Module]) -> Activation:
    if module not in _ACTIVATIONS:
        raise ExportError(f"activation {module.__name__} is not one of {', '.join(m.__name__ for m in _ACTIVATIONS)}")
    return _ACTIVATIONS[module]


def _array(tensor: torch.Tensor) -> Float32Array:
    array: NDArray[Any] = tensor.detach().cpu().numpy()
    return np.array(array, dtype=np.float32, order="C")


def _check_observations(observations: Float32Array, size: int) -> None:
    if observations.shape[0] < LEAST_OBSERVATIONS or observations.shape[1:] != (size,):
        raise ExportError(
            f"observations to compare on have shape {observations.shape}: "
            f"at least {LEAST_OBSERVATIONS} of {size} numbers each"
        )


# ---- from arrays to records -------------------------------------------------------------------------------------
def _member_record(member: TrainedMember, file: str, data: bytes) -> MemberRecord:
    actor = member.actor
    if (actor.low, actor.high) != (ACTION_LOW, ACTION_HIGH):
        raise BadBundle(f"{file}: actions {actor.low} .. {actor.high} are not {ACTION_LOW} .. {ACTION_HIGH}")
    return MemberRecord(
        file=file,
        sha256=hashlib.sha256(data).hexdigest(),
        seed=member.seed,
        weight=member.weight,
        net_arch=actor.net_arch,
        activation=str(actor.activation),
        clip_mean=actor.clip_mean,
        use_sde=actor.use_sde,
    )
