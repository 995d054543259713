"""Hidden layers of networks of one shape that see the same input: forward, and backward by hand.

The first layer of all of them is one product. Buffers are made once for a number of rows; a second set of weights (the
target critics') goes through the same buffers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np

from training.sac_kernels import (
    FloatArray,
    IndexArray,
    add_bias,
    add_bias_relu,
    relu_slope,
    relu_slope_of,
    tanh_slope,
    tanh_slope_of,
)

ActivationName = Literal["relu", "tanh"]


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """Weights, or their gradients. weight: (networks, out, in).  bias: (networks * out,)."""

    weight: FloatArray
    bias: FloatArray


@dataclass(frozen=True, slots=True)
class Activation:
    """One activation function: forward with the bias, and both ways back."""

    forward: Callable[[FloatArray, FloatArray], None]
    slope: Callable[[FloatArray, FloatArray, FloatArray], None]
    slope_of: Callable[[FloatArray, FloatArray, IndexArray, int], None]


def _add_bias_tanh(values: FloatArray, bias: FloatArray) -> None:
    add_bias(values, bias)
    np.tanh(values, out=values)  # NumPy's is vectorised, a compiled loop would call the C library once a number


ACTIVATIONS: dict[ActivationName, Activation] = {
    "relu": Activation(add_bias_relu, relu_slope, relu_slope_of),
    "tanh": Activation(_add_bias_tanh, tanh_slope, tanh_slope_of),
}


class HiddenLayers:
    """The buffers of one forward and backward pass.

    layers: the weights it is for, all others must have their shape.  rows: of a forward pass; `backward` takes the
    first `slope_rows` of them.
    """

    def __init__(self, layers: list[Layer], name: ActivationName, rows: int, slope_rows: int) -> None:
        """Make the buffers."""
        self._networks = layers[0].weight.shape[0]
        widths = [layer.weight.shape[1] for layer in layers]
        self._activation = ACTIVATIONS[name]
        self._values = [np.empty((rows, self._networks * width), np.float32) for width in widths]
        self._slopes = [np.empty((slope_rows, self._networks * width), np.float32) for width in widths]
        self._chosen = [np.empty((slope_rows, width), np.float32) for width in widths]

    @property
    def out(self) -> FloatArray:
        """What the last layer said: (rows, networks * width), network by network."""
        return self._values[-1]

    @property
    def out_slope(self) -> FloatArray:
        """Where the slope behind the last layer, (slope_rows, networks * width), is written before `backward`."""
        return self._slopes[-1]

    def forward(self, layers: list[Layer], inputs: FloatArray) -> None:
        """Send `inputs` (rows, in) through every network."""
        before = inputs
        for index, (layer, values) in enumerate(zip(layers, self._values, strict=True)):
            if index == 0:
                np.matmul(inputs, _joined(layer.weight).T, out=values)
            else:
                for weight, source, out in zip(layer.weight, self._cut(before), self._cut(values), strict=True):
                    np.matmul(source, weight.T, out=out)
            self._activation.forward(values, layer.bias)
            before = values

    def backward(self, layers: list[Layer], gradients: list[Layer], inputs: FloatArray) -> None:
        """Write the gradients of `layers` that `out_slope` leads to; `inputs` are those of the forward pass."""
        rows = self.out_slope.shape[0]
        for index in range(len(layers) - 1, -1, -1):
            slope, gradient = self._slopes[index], gradients[index]
            self._activation.slope(slope, self._values[index][:rows], gradient.bias)
            if index == 0:
                np.matmul(slope.T, inputs[:rows], out=_joined(gradient.weight))
                return
            before, slope_before = self._values[index - 1][:rows], self._slopes[index - 1]
            for network, part in enumerate(self._cut(slope)):
                np.matmul(part.T, self._cut(before)[network], out=gradient.weight[network])
                np.matmul(part, layers[index].weight[network], out=self._cut(slope_before)[network])

    def input_slope(
        self, layers: list[Layer], network: int, rows: IndexArray, out_slope: FloatArray, first: int
    ) -> FloatArray:
        """Return what one network's output changes by per unit of its inputs from column `first` on.

        rows: those of the last forward pass that are meant; the answer has one row for each.  out_slope: (width,), the
        slope behind the network's last layer, the same for all rows.  No weight's gradient is computed.
        """
        slope = self._chosen[-1][: rows.size]
        slope[:] = out_slope
        for index in range(len(layers) - 1, -1, -1):
            width = slope.shape[1]
            self._activation.slope_of(slope, self._values[index], rows, network * width)
            weight = layers[index].weight[network]
            if index == 0:
                return cast("FloatArray", slope @ weight[:, first:])
            slope = np.matmul(slope, weight, out=self._chosen[index - 1][: rows.size])
        raise AssertionError("a network has at least one hidden layer")

    def _cut(self, values: FloatArray) -> list[FloatArray]:
        width = values.shape[1] // self._networks
        return [values[:, start : start + width] for start in range(0, values.shape[1], width)]


def _joined(weight: FloatArray) -> FloatArray:
    return weight.reshape(-1, weight.shape[2])
