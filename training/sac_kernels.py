"""The elementwise work of a SAC update, each pass over memory compiled into one loop.

Products are NumPy's (OpenBLAS); what stands between them is bound by memory, and NumPy would go over it two to eight
times. Scalars are float32, or the whole expression would become float64. A NaN goes through every kernel.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.compiled import compiled

FloatArray = NDArray[np.float32]
IndexArray = NDArray[np.int64]


@compiled
def gather_rows(source: NDArray[Any], rows: IndexArray, out: FloatArray) -> None:
    """Copy the named rows of `source` (n, k) into `out` (rows.size, k)."""
    for i in range(rows.size):
        row = rows[i]
        for j in range(source.shape[1]):
            out[i, j] = source[row, j]


@compiled
def add_bias(values: FloatArray, bias: FloatArray) -> None:
    """Add `bias` (k,) to every row of `values` (n, k)."""
    for i in range(values.shape[0]):
        for j in range(values.shape[1]):
            values[i, j] += bias[j]


@compiled
def add_bias_relu(values: FloatArray, bias: FloatArray) -> None:
    """Add `bias` (k,) to every row of `values` (n, k) and put zero where the sum is negative."""
    for i in range(values.shape[0]):
        for j in range(values.shape[1]):
            value = values[i, j] + bias[j]
            values[i, j] = np.float32(0.0) if value <= np.float32(0.0) else value  # noqa: FURB136 - max() loses a NaN


@compiled
def spread(per_value: FloatArray, weight: FloatArray, out: FloatArray) -> None:
    """Carry slopes behind single outputs to before them: per_value (m, n) and weight (m, k) into `out` (n, m * k)."""
    for i in range(out.shape[0]):
        for network in range(weight.shape[0]):
            first = network * weight.shape[1]
            for j in range(weight.shape[1]):
                out[i, first + j] = per_value[network, i] * weight[network, j]


@compiled
def relu_slope(slope: FloatArray, hidden: FloatArray, bias_gradient: FloatArray) -> None:
    """Carry `slope` (n, k) from behind a ReLU to before it, and sum its rows into `bias_gradient` (k,)."""
    bias_gradient[:] = np.float32(0.0)
    for i in range(slope.shape[0]):
        for j in range(slope.shape[1]):
            value = slope[i, j] if hidden[i, j] > np.float32(0.0) else np.float32(0.0)
            slope[i, j] = value
            bias_gradient[j] += value


@compiled
def tanh_slope(slope: FloatArray, hidden: FloatArray, bias_gradient: FloatArray) -> None:
    """Carry `slope` (n, k) from behind a tanh to before it, and sum its rows into `bias_gradient` (k,)."""
    bias_gradient[:] = np.float32(0.0)
    for i in range(slope.shape[0]):
        for j in range(slope.shape[1]):
            value = slope[i, j] * (np.float32(1.0) - hidden[i, j] * hidden[i, j])
            slope[i, j] = value
            bias_gradient[j] += value


@compiled
def relu_slope_of(slope: FloatArray, hidden: FloatArray, rows: IndexArray, first: int) -> None:
    """Carry `slope` (rows.size, k) before a ReLU whose values are columns `first` .. of the named rows of `hidden`."""
    for i in range(rows.size):
        row = rows[i]
        for j in range(slope.shape[1]):
            if hidden[row, first + j] <= np.float32(0.0):
                slope[i, j] = np.float32(0.0)


@compiled
def tanh_slope_of(slope: FloatArray, hidden: FloatArray, rows: IndexArray, first: int) -> None:
    """Carry `slope` (rows.size, k) before a tanh whose values are columns `first` .. of the named rows of `hidden`."""
    for i in range(rows.size):
        row = rows[i]
        for j in range(slope.shape[1]):
            value = hidden[row, first + j]
            slope[i, j] *= np.float32(1.0) - value * value


@compiled
def add_product(out: FloatArray, left: FloatArray, right: FloatArray) -> None:
    """Add left * right to `out`, all (n, k); `left` may have more rows."""
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] += left[i, j] * right[i, j]


@compiled
def adam(  # noqa: PLR0917 - compiled functions take their arguments by position
    values: FloatArray,
    gradient: FloatArray,
    mean: FloatArray,
    square: FloatArray,
    mean_weight: np.float32,
    square_keep: np.float32,
    square_weight: np.float32,
    root_correction: np.float32,
    eps: np.float32,
    step_size: np.float32,
    keep: np.float32,
    penalty: np.float32,
) -> None:
    """Take one step of Adam, in the order of operations of torch's.

    mean, square: the moments.  mean_weight: 1 - beta1.  square_keep, square_weight: beta2, 1 - beta2.
    root_correction: sqrt(1 - beta2**step).  step_size: rate / (1 - beta1**step).  keep: what AdamW's decay leaves of
    the values.  penalty: Adam's own weight decay, which joins the gradient.
    """
    for i in range(values.size):
        value = values[i] * keep
        slope = gradient[i] + penalty * value
        moment = mean[i] + mean_weight * (slope - mean[i])
        power = square[i] * square_keep + square_weight * slope * slope
        mean[i] = moment
        square[i] = power
        values[i] = value - step_size * (moment / (np.sqrt(power) / root_correction + eps))


@compiled
def polyak(target: FloatArray, values: FloatArray, keep: np.float32, share: np.float32) -> None:
    """Move `target` to keep * target + share * values, all (n,)."""
    for i in range(target.size):
        target[i] = target[i] * keep + share * values[i]
