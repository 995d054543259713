"""Transfer: a fresh model takes over, layer by layer, what a member of a bundle has learned, and then fine-tunes.

A bundle holds actors alone. Critics, their targets, exploration and entropy lie in the training state of the run that
made it, where that still stands below the bundle; they are taken over as well then. Optimisers always begin anew.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.sac.policies import SACPolicy

from strategy.bundle import Bundle
from strategy.decision import ACTION_RULE_VERSION
from strategy.manifest import MemberRecord
from strategy.observation import OBSERVATION_HASH
from strategy.policy import Activation
from training.bundles import TRAINING_FOLDER, read_bundle
from training.callbacks import BEST
from training.errors import TrainingError
from training.model_state import Weights, load_weights, weights_of
from training.packing import unpack
from training.plan import MemberPlan, Settings
from training.spaces import action_space, observation_space

FINE_TUNING_RATE = 1e-5
_ENTROPY = "variable.log_ent_coef"
_READS_OBSERVATIONS = re.compile(r"actor\.latent_pi\.0|critic(_target)?\.qf\d+\.0")
_SPEAKS_ACTIONS = re.compile(r"actor\.mu|critic(_target)?\.qf\d+\.0")
_ANEW = "critics, exploration and entropy begin anew, and until they have learned the policy may lose what it knew"

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A layer of the model that learns. shape: of its weights.  reason: why it was not taken over, empty when it was.

    The name is torch's, without `.weight` and `.bias`, which go together.
    """

    name: str
    shape: tuple[int, ...]
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What a model takes over. bundle: its id.  member: index of the policy in it.  seed: that one was trained with.

    has_state: the training state was at hand.  remarks: in words, what else is worth knowing.
    """

    bundle: str
    member: int
    seed: int
    has_state: bool
    layers: tuple[Layer, ...]
    remarks: tuple[str, ...]

    @property
    def is_any(self) -> bool:
        """True when at least one layer of a network is taken over; the entropy coefficient fits any model."""
        return any(not layer.reason and layer.name != _ENTROPY for layer in self.layers)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON types."""
        layers = [
            {"name": layer.name, "shape": list(layer.shape), "is_taken": not layer.reason, "reason": layer.reason}
            for layer in self.layers
        ]
        return {**asdict(self), "layers": layers, "remarks": list(self.remarks)}

    def lines(self) -> list[str]:
        """Return it in words, a line for what is taken, one for each reason not to, one for each remark."""
        taken = [layer for layer in self.layers if not layer.reason]
        told = f"{len(taken)} of {len(self.layers)} layers from member {self.member} of bundle {self.bundle[:16]}"
        reasons = dict.fromkeys(layer.reason for layer in self.layers if layer.reason)
        left = [f"not taken, {reason}: {self._named(reason)}" for reason in reasons]
        return [f"{told}: {self._named('')}", *left, *self.remarks]

    def _named(self, reason: str) -> str:
        """Return the layers with this reason, with their shapes."""
        return ", ".join(f"{layer.name} {_shape_text(layer.shape)}" for layer in self.layers if layer.reason == reason)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TakeOver:
    """Puts the weights of one policy into a fresh SAC model; a `Prepare` of training/member.py, so it pickles.

    It carries the weights: whoever trains needs no file.  weights: by torch's names.  reads_same: the bundle's policies
    see the same features.  speaks_same: their actions mean the same.
    """

    bundle: str
    member: int
    record: MemberRecord
    weights: Mapping[str, NDArray[Any]]
    has_state: bool
    reads_same: bool
    speaks_same: bool

    def __call__(self, model: BaseAlgorithm) -> None:
        """Change the weights of `model` in place, those of the layers that fit."""
        fresh = weights_of(model)
        left = {
            layer.name for layer in self._layers({name: array.shape for name, array in fresh.items()}) if layer.reason
        }
        merged = {
            name: array if _layer_of(name) in left else self.weights[_canonical(name)] for name, array in fresh.items()
        }
        load_weights(model, merged)

    def planned(self, plan: MemberPlan) -> Taken:
        """Return what a model of `plan` takes over. Raises TrainingError when that is nothing."""
        layers = self._layers(shapes_of(plan.settings))
        taken = Taken(
            bundle=self.bundle,
            member=self.member,
            seed=self.record.seed,
            has_state=self.has_state,
            layers=layers,
            remarks=tuple(self._remarks(plan.settings)),
        )
        if not taken.is_any:
            arch = ",".join(map(str, self.record.net_arch))
            raise TrainingError(
                f"--from: no layer of bundle {self.bundle[:16]} fits net_arch "
                f"{','.join(map(str, plan.settings.net_arch))}: give --set net_arch={arch}, or train without --from"
            )
        return taken

    def _layers(self, shapes: Shapes) -> tuple[Layer, ...]:
        layers: dict[str, list[str]] = {}
        for name in shapes:
            layers.setdefault(_layer_of(name), []).append(name)
        return tuple(
            Layer(name=layer, shape=shapes[names[0]], reason=self._reason(layer, {n: shapes[n] for n in names}))
            for layer, names in layers.items()
        )

    def _reason(self, layer: str, shapes: Shapes) -> str:
        """Return why a layer is not taken over, empty when it is."""
        if not self.reads_same and self._is_first(layer):
            return "the bundle's policies read other features"
        if not self.speaks_same and _SPEAKS_ACTIONS.fullmatch(layer):
            return "under the bundle's action rule the same numbers mean other actions"
        for name, shape in shapes.items():
            theirs = self.weights.get(_canonical(name))
            if theirs is None:
                return "the bundle has no such layer" if self.has_state else "the bundle holds actors only"
            if theirs.shape != shape:
                return f"its shape there is {_shape_text(theirs.shape)}"
        return ""

    def _is_first(self, layer: str) -> bool:
        has_hidden = bool(self.record.net_arch)
        return bool(_READS_OBSERVATIONS.fullmatch(layer)) or (not has_hidden and layer == "actor.mu")

    def _remarks(self, settings: Settings) -> list[str]:
        told = [] if self.has_state else [f"no training state lies below the bundle: {_ANEW}"]
        if self.record.activation != Activation.RELU:
            told.append(f"its activation is {self.record.activation}, here relu: what is taken over answers otherwise")
        if (self.record.clip_mean is not None) != settings.use_sde:
            told.append("only one of the two has use_sde, which bounds the mean: steep answers differ")
        return told


def take_over(path: Path, index: int) -> TakeOver:
    """Return what takes over the member at `index`, modulo their count, of the bundle in the directory `path`.

    Raises BundleError for a missing or damaged bundle, TrainingError for a damaged training state below it.
    """
    bundle = read_bundle(path)
    manifest = bundle.manifest
    member = index % len(manifest.members)
    actor = _actor_of(bundle, member)
    state = _state_of(path, actor)
    return TakeOver(
        bundle=manifest.id,
        member=member,
        record=manifest.members[member],
        weights=actor if state is None else state,
        has_state=state is not None,
        reads_same=manifest.feature.hash == OBSERVATION_HASH,
        speaks_same=manifest.action.rule_version == ACTION_RULE_VERSION,
    )


def for_fine_tuning(plan: MemberPlan) -> MemberPlan:
    """Return `plan` with the small constant learning rate that transfer begins with."""
    return replace(plan, settings=replace(plan.settings, learning_rate=FINE_TUNING_RATE, final_learning_rate=None))


def shapes_of(settings: Settings) -> dict[str, tuple[int, ...]]:
    """Return name -> shape of all that a SAC model with these settings learns."""
    with torch.random.fork_rng(devices=[]):  # the first weights are drawn, and thrown away
        policy = SACPolicy(
            observation_space(),
            action_space(),  # type: ignore[arg-type]  # a Box, declared as any Space
            lambda _: 0.0,
            net_arch=list(settings.net_arch),
            use_sde=settings.use_sde,
        )
    return {**{name: tuple(tensor.shape) for name, tensor in policy.state_dict().items()}, _ENTROPY: (1,)}


# ---- what a bundle holds ----------------------------------------------------------------------------------------
def _actor_of(bundle: Bundle, member: int) -> Weights:
    """Return a policy's arrays by torch's names."""
    actor = bundle.ensemble.actors[member]
    last = len(actor.weights) - 1
    named: Weights = {}
    for at, (weight, bias) in enumerate(zip(actor.weights, actor.biases, strict=True)):
        layer = "actor.mu" if at == last else f"actor.latent_pi.{2 * at}"  # every other module is the activation
        named[f"{layer}.weight"], named[f"{layer}.bias"] = np.array(weight), np.array(bias)
    return named


def _state_of(path: Path, actor: Weights) -> Weights | None:
    """Return the training state whose actor is the given one, None when there is none.

    It is told by its weights: members that a gate left out have folders too, and change the numbers.
    """
    for file in sorted((path / TRAINING_FOLDER).glob(f"member-*/{BEST}")):
        state = _read_state(file)
        if all(name in state and np.array_equal(state[name], array) for name, array in actor.items()):
            return state
    return None


def _read_state(file: Path) -> Weights:
    try:
        state = unpack(file.read_bytes())
    except OSError as error:
        raise TrainingError(f"--from: {file}: cannot be read ({error.strerror}): correct its permissions") from error
    except TrainingError as error:
        raise TrainingError(
            f"--from: {file}: {error}: restore it, or remove it to take over the actor alone"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(array, np.ndarray) for array in state.values()):
        raise TrainingError(
            f"--from: {file}: it holds no weights: restore it, or remove it to take over the actor alone"
        )
    return {_canonical(name): array for name, array in state.items()}


# ---- names ------------------------------------------------------------------------------------------------------
def _canonical(name: str) -> str:
    """Return a parameter's name without what depends on how the mean is bounded: gSDE puts a clip behind it."""
    return name.replace("actor.mu.0.", "actor.mu.")


def _layer_of(name: str) -> str:
    """Return the layer of a parameter."""
    layer, _, part = _canonical(name).rpartition(".")
    return layer if part in {"weight", "bias"} else _canonical(name)


def _shape_text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
