"""The policies: a NumPy twin of Stable-Baselines3's SAC actor, and the ensemble that asks all members at once.

Weights arrive as arrays; nothing here reads a file. Policies act deterministically by type: there is no noise to
switch off. Each product is one matrix-vector product per member and symbol, so that a vote has the same bytes
whichever members and symbols are asked beside it: one big matrix product would be faster for many symbols, but
its summation order depends on how many there are.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strategy.errors import BadWeights, StrategyError

Float32Array = NDArray[np.float32]
_WEIGHT_SUM_TOLERANCE = 1e-9
_TABLE = 2
_CACHE_LINE = 64
_INPUT_LIMIT = 1e18


class Activation(StrEnum):
    """What stands between two layers."""

    RELU = "relu"
    TANH = "tanh"


def layer_shapes(observation_size: int, net_arch: Sequence[int], action_size: int) -> dict[str, tuple[int, ...]]:
    """Return name -> shape of every array of an actor: `layer0.weight` (out, in), `layer0.bias` (out,), ...

    The last layer gives the mean of the action; the others are the hidden layers of `net_arch`, which may be empty.
    """
    sizes = [observation_size, *net_arch, action_size]
    shapes: dict[str, tuple[int, ...]] = {}
    for index, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        shapes[f"layer{index}.weight"] = (outputs, inputs)
        shapes[f"layer{index}.bias"] = (outputs,)
    return shapes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Actor:
    """The deterministic half of one SAC policy (`MlpPolicy`), as arrays.

    name: how errors call it.  weights, biases: per layer, (out, in) and (out,) float32; the last layer is the mean.
    clip_mean: gSDE policies clip the mean to +- this before squashing; None clips nothing.
    low, high: (n_actions,) float32 bounds of the action.  Arrays are copied and cannot be written to afterwards.
    Raises BadWeights naming member and layer for a wrong shape or type and for numbers that are not finite.
    """

    name: str
    weights: tuple[Float32Array, ...]
    biases: tuple[Float32Array, ...]
    activation: Activation
    low: Float32Array
    high: Float32Array
    clip_mean: float | None = None

    def __post_init__(self) -> None:
        if not self.weights or len(self.weights) != len(self.biases):
            raise BadWeights(f"{self.name}: {len(self.weights)} weights and {len(self.biases)} biases make no network")
        object.__setattr__(self, "activation", _activation(self.name, self.activation))
        if self.clip_mean is not None and not 0.0 < self.clip_mean < np.inf:
            raise BadWeights(f"{self.name}: clip_mean {self.clip_mean} is not a positive number")
        object.__setattr__(self, "weights", tuple(self._own(f"layer{i}.weight", w) for i, w in enumerate(self.weights)))
        object.__setattr__(self, "biases", tuple(self._own(f"layer{i}.bias", b) for i, b in enumerate(self.biases)))
        object.__setattr__(self, "low", self._own("low", self.low))
        object.__setattr__(self, "high", self._own("high", self.high))
        self._check_shapes()

    @classmethod
    def from_arrays(
        cls,
        arrays: Mapping[str, NDArray[Any]],
        *,
        name: str,
        net_arch: Sequence[int],
        observation_size: int,
        activation: str,
        low: Sequence[float],
        high: Sequence[float],
        clip_mean: float | None,
    ) -> "Actor":
        """Return the actor whose arrays are named as `layer_shapes` names them.

        Raises BadWeights for missing, unknown, misshapen, non-float32 and non-finite arrays.
        """
        shapes = layer_shapes(observation_size, net_arch, len(low))
        if odd := sorted(set(shapes) ^ set(arrays)):
            raise BadWeights(f"{name}: arrays missing or unknown for net_arch {list(net_arch)}: {', '.join(odd)}")
        for layer, shape in shapes.items():
            if arrays[layer].shape != shape:
                raise BadWeights(f"{name}: {layer} has shape {arrays[layer].shape}, net_arch requires {shape}")
        count = len(shapes) // 2
        return cls(
            name=name,
            weights=tuple(arrays[f"layer{index}.weight"] for index in range(count)),
            biases=tuple(arrays[f"layer{index}.bias"] for index in range(count)),
            activation=_activation(name, activation),
            low=np.asarray(low, dtype=np.float32),
            high=np.asarray(high, dtype=np.float32),
            clip_mean=clip_mean,
        )

    @property
    def observation_size(self) -> int:
        """Numbers the policy reads."""
        return int(self.weights[0].shape[1])

    @property
    def action_size(self) -> int:
        """Numbers the policy answers with."""
        return int(self.weights[-1].shape[0])

    @property
    def net_arch(self) -> tuple[int, ...]:
        """Sizes of the hidden layers."""
        return tuple(weight.shape[0] for weight in self.weights[:-1])

    def _own(self, layer: str, array: Float32Array) -> Float32Array:
        if array.dtype != np.float32:
            raise BadWeights(f"{self.name}: {layer} is {array.dtype}, not float32")
        if not np.isfinite(array).all():
            raise BadWeights(f"{self.name}: {layer} holds numbers that are not finite")
        own = np.array(array, dtype=np.float32, order="C")
        own.setflags(write=False)
        return own

    def _check_shapes(self) -> None:
        inputs = self.weights[0].shape[-1] if self.weights[0].ndim else 0
        for index, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if weight.ndim != _TABLE or 0 in weight.shape or weight.shape[1] != inputs:
                raise BadWeights(f"{self.name}: layer{index}.weight has shape {weight.shape}, not (n, {inputs})")
            if bias.shape != weight.shape[:1]:
                raise BadWeights(f"{self.name}: layer{index}.bias has shape {bias.shape}, not {weight.shape[:1]}")
            inputs = weight.shape[0]
        if self.low.shape != (inputs,) or self.high.shape != (inputs,) or not (self.low < self.high).all():
            raise BadWeights(f"{self.name}: low {self.low} and high {self.high} do not bound {inputs} actions")


def _activation(name: str, activation: str) -> Activation:
    try:
        return Activation(activation)
    except ValueError:
        raise BadWeights(f"{name}: activation {activation!r} is not one of {', '.join(Activation)}") from None


def _aligned(array: Float32Array) -> Float32Array:
    """Return a copy that starts on a cache line: loads that straddle two cost the products a tenth of their speed."""
    raw = np.empty(array.nbytes + _CACHE_LINE, dtype=np.uint8)
    start = -raw.ctypes.data % _CACHE_LINE
    copy = raw[start : start + array.nbytes].view(np.float32).reshape(array.shape)
    copy[...] = array
    return copy


class _Buffers:
    """Where a stack computes: per layer its weights, biases, output and, to compare with, zeros."""

    def __init__(self, weights: Sequence[Float32Array], biases: Sequence[Float32Array], count: int | None) -> None:
        lead = () if count is None else (count,)
        outputs = [_aligned(np.zeros((*lead, *bias.shape), dtype=np.float32)) for bias in biases]
        layers = [(w, b, out, np.zeros_like(out)) for w, b, out in zip(weights, biases, outputs, strict=True)]
        self.count = count
        self.hidden = layers[:-1]
        self.mean = layers[-1]


class _Stack:
    """Members of one architecture, their weights in one array per layer, so that a layer is one call for all."""

    def __init__(self, actors: Sequence[Actor]) -> None:
        first = actors[0]
        self._weights = [_aligned(np.stack(layer)) for layer in zip(*(a.weights for a in actors), strict=True)]
        self._biases = [_aligned(np.stack(layer)) for layer in zip(*(a.biases for a in actors), strict=True)]
        self._is_relu = first.activation is Activation.RELU
        self._clip = None if first.clip_mean is None else np.full_like(self._biases[-1], first.clip_mean)
        self._minus_clip = None if self._clip is None else -self._clip
        # 0.5 * range is exact, so this rounds where SB3's low + 0.5 * (action + 1) * (high - low) does.
        self._half_range = np.stack([np.float32(0.5) * (a.high - a.low) for a in actors])
        self._low = np.stack([a.low for a in actors])
        self._one = np.ones_like(self._low)
        self._single = _Buffers(self._weights, self._biases, None)
        self._batch = _Buffers(self._weights, self._biases, 1)

    def act_one(self, observation: Float32Array) -> Float32Array:
        """Return (members, n_actions) for a contiguous (n_obs,) observation; a new array each time."""
        return self._forward(observation, self._single)

    def act(self, observations: Float32Array) -> Float32Array:
        """Return (n, members, n_actions) for contiguous (n, n_obs) observations; a new array each time."""
        if self._batch.count != len(observations):
            self._batch = _Buffers(self._weights, self._biases, len(observations))
        return self._forward(observations[:, None, :], self._batch)

    def _forward(self, values: Float32Array, buffers: _Buffers) -> Float32Array:
        for weight, bias, out, zeros in buffers.hidden:
            np.matvec(weight, values, out=out)
            np.add(out, bias, out=out)
            if self._is_relu:
                np.maximum(out, zeros, out=out)
            else:
                np.tanh(out, out=out)
            values = out
        weight, bias, mean, _ = buffers.mean
        np.matvec(weight, values, out=mean)
        np.add(mean, bias, out=mean)
        return self._squash(mean)

    def _squash(self, mean: Float32Array) -> Float32Array:
        if self._clip is not None and self._minus_clip is not None:
            np.minimum(mean, self._clip, out=mean)
            np.maximum(mean, self._minus_clip, out=mean)
        np.tanh(mean, out=mean)
        np.add(mean, self._one, out=mean)
        np.multiply(mean, self._half_range, out=mean)
        return np.add(mean, self._low)


class Ensemble:
    """Weighted policies that are asked together.

    weights: (n_members,) float64, positive, of sum 1.  Not for several threads at once: buffers outlive a call.
    Raises BadWeights when the members disagree in observation size or action bounds, when the weights are not such,
    or when a network is so large in its numbers that an input could drive it beyond float32.
    """

    def __init__(self, actors: Sequence[Actor], weights: Sequence[float] | NDArray[np.float64]) -> None:
        self.actors = tuple(actors)
        self.weights = np.array(weights, dtype=np.float64)
        self.weights.setflags(write=False)
        self._check()
        groups: dict[tuple[object, ...], list[int]] = {}
        for index, actor in enumerate(self.actors):
            groups.setdefault((actor.net_arch, actor.activation, actor.clip_mean), []).append(index)
        self._stacks = [(members, _Stack([self.actors[i] for i in members])) for members in groups.values()]
        self._only = self._stacks[0][1] if len(self._stacks) == 1 else None
        self._shape = (self.actors[0].observation_size,)
        self._limit = np.full(self._shape, _INPUT_LIMIT, dtype=np.float32)
        self._all_within = np.ones(self._shape, dtype=np.bool_).tobytes()

    @property
    def observation_size(self) -> int:
        """Numbers every member reads."""
        return self._shape[0]

    def act(self, observations: Float32Array) -> Float32Array:
        """Return every member's action for every symbol: (n_symbols, n_members, n_actions) float32, a new array.

        observations: (n_symbols, n_obs) float32, finite, below 1e18 in size.
        Row i depends on observation i alone, to the last bit.
        Raises StrategyError naming the first input that is out of range, or the wrong shape or type.
        """
        if len(observations) == 1:
            return self.act_one(observations[0])[None]
        if observations.shape[1:] != self._shape or observations.dtype != np.float32:
            raise StrategyError(self._misfit(observations))
        if not np.less(np.abs(observations), self._limit).all():
            raise StrategyError(_out_of_range(observations))
        observations = np.ascontiguousarray(observations)
        if self._only is not None:
            return self._only.act(observations)
        votes = np.empty((len(observations), len(self.actors), self.actors[0].action_size), dtype=np.float32)
        for members, stack in self._stacks:
            votes[:, members] = stack.act(observations)
        return votes

    def act_one(self, observation: Float32Array) -> Float32Array:
        """Return every member's action for one symbol: (n_members, n_actions) float32, the bytes `act` would give.

        observation: (n_obs,) float32, finite, below 1e18 in size.  Raises StrategyError as `act` does.
        """
        if observation.shape != self._shape or observation.dtype != np.float32:
            raise StrategyError(self._misfit(observation))
        # Comparing bytes takes a third of the time of `.all()`; NaN is not below the limit either.
        if np.less(np.abs(observation), self._limit).tobytes() != self._all_within:
            raise StrategyError(_out_of_range(observation[None]))
        observation = np.ascontiguousarray(observation)
        if self._only is not None:
            return self._only.act_one(observation)
        votes = np.empty((len(self.actors), self.actors[0].action_size), dtype=np.float32)
        for members, stack in self._stacks:
            votes[members] = stack.act_one(observation)
        return votes

    def _misfit(self, observations: NDArray[Any]) -> str:
        return (
            f"observations are {observations.dtype} of shape {observations.shape}; "
            f"the ensemble reads float32 of {self.observation_size} inputs each"
        )

    def _check(self) -> None:
        if not self.actors:
            raise BadWeights("an ensemble needs at least one member")
        if self.weights.shape != (len(self.actors),):
            raise BadWeights(f"{len(self.actors)} members but weights of shape {self.weights.shape}")
        for actor, weight in zip(self.actors, self.weights, strict=True):
            if not 0.0 < weight <= 1.0:
                raise BadWeights(f"{actor.name}: ensemble weight {weight} is not in 0 .. 1")
        if abs(float(self.weights.sum()) - 1.0) > _WEIGHT_SUM_TOLERANCE:
            raise BadWeights(f"ensemble weights sum to {self.weights.sum()}, not 1")
        first = self.actors[0]
        for actor in self.actors:
            if _largest_answer(actor) > float(np.finfo(np.float32).max):
                raise BadWeights(f"{actor.name}: its weights are so large that an answer could leave float32")
            if actor.observation_size != first.observation_size:
                raise BadWeights(
                    f"{actor.name} reads {actor.observation_size} inputs, {first.name} {first.observation_size}"
                )
            if not (np.array_equal(actor.low, first.low) and np.array_equal(actor.high, first.high)):
                raise BadWeights(f"{actor.name} has other action bounds than {first.name}")


def _out_of_range(observations: Float32Array) -> str:
    symbol, position = np.argwhere(~(np.abs(observations) < _INPUT_LIMIT))[0]
    value = observations[symbol, position]
    return f"observation {symbol}: input {position} is {value}, not a finite number below {_INPUT_LIMIT:g} in size"


def _largest_answer(actor: Actor) -> float:
    """Return a bound of what any product or sum inside the network can reach, for inputs below the limit."""
    reach = largest = _INPUT_LIMIT
    for weight, bias in zip(actor.weights, actor.biases, strict=True):
        norm = float(np.abs(weight.astype(np.float64)).sum(axis=1).max())
        reach = reach * norm + float(np.abs(bias).max())
        largest = max(largest, reach)
        reach = 1.0 if actor.activation is Activation.TANH else reach
    return largest
