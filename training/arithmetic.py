"""Tells in which last digits this process computes.

Libraries choose their machine code by the processor, the number of threads and environment variables. All of it is
right to rounding, and a training run amplifies rounding: exactly the same weights need exactly the same arithmetic.
"""

import hashlib
from functools import cache

import numpy as np
import torch


@cache
def arithmetic(device: torch.device) -> str:
    """Return a short text that is equal where products, functions and noise have equal bits.

    device: what a model computes on.  It is found out once a process.  No generator that others draw from is touched.
    """
    digest = hashlib.sha256()
    rng = np.random.default_rng(0)
    rows, weights, row = (rng.random(shape, np.float32) - np.float32(0.5) for shape in ((96, 300), (300, 130), (300,)))
    for array in (
        rows @ weights,
        rows @ rows[:7].T,
        rows.T @ rows,
        rows @ row,
        weights.T @ row,
        np.tanh(row),
        np.exp(row),
        np.log(row * row),
        rows.sum(axis=0),
        rows.mean(),
    ):
        digest.update(np.ascontiguousarray(array).tobytes())
    ours, theirs = torch.from_numpy(rows), torch.from_numpy(weights)
    noise = torch.empty(300).normal_(generator=torch.Generator().manual_seed(0))
    for tensor in (ours @ theirs, ours @ torch.from_numpy(row), torch.tanh(ours), torch.log1p(ours), ours.sum(), noise):
        digest.update(tensor.numpy().tobytes())
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return f"{digest.hexdigest()[:16]} on {where}"
