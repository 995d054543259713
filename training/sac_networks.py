"""A known model's networks as flat buffers, and the layers of NumPy arrays that look into them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from stable_baselines3.common.distributions import Distribution
from torch import nn

from training.sac_heads import GaussianHead, Head, SdeHead
from training.sac_kernels import FloatArray, IndexArray, spread
from training.sac_known import ActorParts, CriticParts, Parts
from training.sac_mlp import HiddenLayers, Layer
from training.sac_parameters import Adam, FlatParameters


@dataclass(frozen=True, slots=True, eq=False)
class Last:
    """The critics' last layers, or their gradients. weight: (critics, hidden).  bias: (critics,)."""

    weight: FloatArray
    bias: FloatArray


class ActorNetwork:
    """The actor: B observations and the B next ones forward, the first B back."""

    def __init__(self, parts: ActorParts, optimizer: torch.optim.Optimizer, batch: int) -> None:
        """Move parameters and optimiser state into flat buffers. batch: B."""
        networks = [[layer] for layer in parts.hidden]
        self._parts = parts
        self.flat = FlatParameters([*_in_order(networks), *_head_parameters(parts)])
        self.adam = Adam(self.flat, optimizer)
        self._layers = _layers(self.flat, self.flat.values, networks)
        self._gradients = _layers(self.flat, self.adam.gradient, networks)
        self._hidden = HiddenLayers(self._layers, parts.activation, 2 * batch, batch)
        self.head = _head(parts, self.flat, self.adam.gradient, batch)
        self._exploring: dict[int, HiddenLayers] = {}

    @property
    def is_bound(self) -> bool:
        """True while torch's side lies in the same memory."""
        return self.flat.is_bound and self.adam.is_bound

    def forward(self, observations: FloatArray) -> None:
        """Set the head's actions and log-probabilities for `observations` (2B, in)."""
        self._hidden.forward(self._layers, observations)
        self.head.forward(self._hidden.out)

    def explore(self, observations: FloatArray, distribution: Distribution) -> FloatArray:
        """Return noisy actions (n, A) in -1 .. 1 for `observations` (n, in); distribution: the torch actor's."""
        rows = len(observations)
        if rows not in self._exploring:
            self._exploring = {rows: HiddenLayers(self._layers, self._parts.activation, rows, 0)}
        hidden = self._exploring[rows]
        hidden.forward(self._layers, observations)
        return self.head.explore(hidden.out, distribution)

    def backward(self, observations: FloatArray, per_log_prob: float, per_action: FloatArray) -> None:
        """Write the gradient for the first half of what went forward; see Head.backward."""
        self.head.backward(self._hidden.out, per_log_prob, per_action, self._hidden.out_slope)
        self._hidden.backward(self._layers, self._gradients, observations)


class CriticNetworks:
    """All critics and their targets. Inputs are observations and actions side by side, (B, in + A)."""

    def __init__(self, parts: Parts, optimizer: torch.optim.Optimizer, batch: int) -> None:
        """Move parameters and optimiser state into flat buffers. batch: B."""
        self.flat, self._layers, self._last = _critics(parts.critic)
        self.target, self._target_layers, self._target_last = _critics(parts.target)
        self.adam = Adam(self.flat, optimizer)
        networks = _by_layer(parts.critic)
        self._gradients = _layers(self.flat, self.adam.gradient, networks)
        self._last_gradient = _last(self.flat, self.adam.gradient, parts.critic)
        self._hidden = HiddenLayers(self._layers, parts.critic.activation, batch, batch)
        self._width = self._last.weight.shape[1]
        self._values = np.empty((len(parts.critic.last), batch), np.float32)

    @property
    def is_bound(self) -> bool:
        """True while torch's side lies in the same memory."""
        return self.flat.is_bound and self.target.is_bound and self.adam.is_bound

    def forward(self, inputs: FloatArray) -> FloatArray:
        """Return every critic's values, (critics, B); overwritten by the next call."""
        return self._forward(self._layers, self._last, inputs)

    def forward_target(self, inputs: FloatArray) -> FloatArray:
        """Return every target critic's values, (critics, B); overwritten by the next call."""
        return self._forward(self._target_layers, self._target_last, inputs)

    def backward(self, inputs: FloatArray, per_value: FloatArray) -> None:
        """Write the gradient; per_value: (critics, B), what the loss changes by per unit of each value."""
        for index, slope in enumerate(per_value):
            np.matmul(slope, self._hidden.out[:, self._columns(index)], out=self._last_gradient.weight[index])
        spread(per_value, self._last.weight, self._hidden.out_slope)
        np.sum(per_value, axis=1, out=self._last_gradient.bias)
        self._hidden.backward(self._layers, self._gradients, inputs)

    def lowest_slope(self, values: FloatArray, actions: int) -> FloatArray:
        """Return what each row's lowest value changes by per unit of its actions, the last columns: (B, actions).

        values: what `forward` returned.  Only the critic that said it is gone through, row by row.
        """
        lowest = np.argmin(values, axis=0)
        first = self._layers[0].weight.shape[2] - actions
        slope = np.empty((values.shape[1], actions), np.float32)
        for index in range(values.shape[0]):
            rows: IndexArray = np.flatnonzero(lowest == index)
            weight = self._last.weight[index]
            slope[rows] = self._hidden.input_slope(self._layers, index, rows, weight, first)
        return slope

    def _forward(self, layers: list[Layer], last: Last, inputs: FloatArray) -> FloatArray:
        self._hidden.forward(layers, inputs)
        for index, values in enumerate(self._values):
            np.matmul(self._hidden.out[:, self._columns(index)], last.weight[index], out=values)
        self._values += last.bias[:, None]
        return self._values

    def _columns(self, index: int) -> slice:
        return slice(index * self._width, (index + 1) * self._width)


def _critics(parts: CriticParts) -> tuple[FlatParameters, list[Layer], Last]:
    networks = _by_layer(parts)
    flat = FlatParameters([*_in_order([*networks, parts.last])])
    return flat, _layers(flat, flat.values, networks), _last(flat, flat.values, parts)


def _by_layer(parts: CriticParts) -> list[list[nn.Linear]]:
    return [list(layer) for layer in zip(*parts.hidden, strict=True)]


def _in_order(networks: Sequence[Sequence[nn.Linear]]) -> Iterator[torch.Tensor]:
    """Yield layer by layer the weights of all networks, then their biases, so that each is one array."""
    for layer in networks:
        yield from (network.weight for network in layer)
        yield from (network.bias for network in layer)


def _layers(flat: FlatParameters, buffer: FloatArray, networks: Sequence[Sequence[nn.Linear]]) -> list[Layer]:
    return [
        Layer(
            weight=flat.view(buffer, layer[0].weight, (len(layer), *layer[0].weight.shape)),
            bias=flat.view(buffer, layer[0].bias, (len(layer) * layer[0].out_features,)),
        )
        for layer in networks
    ]


def _last(flat: FlatParameters, buffer: FloatArray, parts: CriticParts) -> Last:
    first, count = parts.last[0], len(parts.last)
    weight = flat.view(buffer, first.weight, (count, first.in_features))
    return Last(weight=weight, bias=flat.view(buffer, first.bias, (count,)))


def _head_parameters(parts: ActorParts) -> list[torch.Tensor]:
    if isinstance(parts.log_std, nn.Linear):
        return [parts.mean.weight, parts.log_std.weight, parts.mean.bias, parts.log_std.bias]
    return [parts.mean.weight, parts.mean.bias, parts.log_std]


def _head(parts: ActorParts, flat: FlatParameters, gradient: FloatArray, batch: int) -> Head:
    mean, actions = parts.mean, parts.mean.out_features
    if isinstance(parts.log_std, nn.Linear):
        weight, bias = (2 * actions, mean.in_features), (2 * actions,)
        return GaussianHead(
            flat.view(flat.values, mean.weight, weight),
            flat.view(flat.values, mean.bias, bias),
            flat.view(gradient, mean.weight, weight),
            flat.view(gradient, mean.bias, bias),
            batch,
        )
    shapes = [(p, tuple(p.shape)) for p in (mean.weight, mean.bias, parts.log_std)]
    values = [flat.view(flat.values, p, shape) for p, shape in shapes]
    weight_gradient, bias_gradient, log_std_gradient = (flat.view(gradient, p, shape) for p, shape in shapes)
    gradients = (weight_gradient, bias_gradient, log_std_gradient)
    return SdeHead(*values, gradients=gradients, clip_mean=parts.clip_mean, batch=batch)
