"""Torch's parameters and the state of torch's optimisers, laid end to end in buffers that both sides see.

What NumPy writes here is at once in `policy.predict`, `state_dict`, `save` and `optimizer.state_dict`, and the other
way round. Torch code that replaces a tensor instead of writing into it (loading an optimiser's state does) breaks the
tie; `is_bound` finds that out, and whoever asks makes a new one.
"""

from collections.abc import Sequence

import numpy as np
import torch

from training.sac_kernels import FloatArray, adam


class FlatParameters:
    """Parameters of one network or several in one buffer. values: (n,) float32."""

    def __init__(self, parameters: Sequence[torch.Tensor]) -> None:
        """Move them into the buffer, in the order given; parameters next to each other can be seen as one array."""
        self.parameters = list(parameters)
        self._buffer = torch.empty(sum(p.numel() for p in parameters))
        self.values: FloatArray = self._buffer.numpy()
        self._parts = _parts(self._buffer, self.parameters)
        self._addresses = [part.data_ptr() for part in self._parts]
        for parameter, part in zip(self.parameters, self._parts, strict=True):
            part.copy_(parameter.data)
            parameter.data = part

    def like(self) -> FloatArray:
        """Return a buffer of the same length, full of zeros."""
        return np.zeros_like(self.values)

    def view(self, buffer: FloatArray, first: torch.Tensor, shape: tuple[int, ...]) -> FloatArray:
        """Return the part of `buffer`, laid out as `values`, that begins where `first` does, as an array of `shape`."""
        index = next(i for i, parameter in enumerate(self.parameters) if parameter is first)
        start = sum(p.numel() for p in self.parameters[:index])
        return buffer[start : start + int(np.prod(shape))].reshape(shape)

    def parts_of(self, buffer: torch.Tensor) -> list[torch.Tensor]:
        """Return `buffer`, laid out as `values`, cut into the parameters' shapes."""
        return _parts(buffer, self.parameters)

    @property
    def is_bound(self) -> bool:
        """True while torch's parameters lie in the buffer and all of them learn."""
        pairs = zip(self.parameters, self._addresses, strict=True)
        return all(p.data_ptr() == address and p.requires_grad for p, address in pairs)


def _parts(buffer: torch.Tensor, parameters: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    cut = torch.split(buffer, [p.numel() for p in parameters])
    return [part.view(p.shape) for part, p in zip(cut, parameters, strict=True)]


class Adam:
    """The optimiser's own step, on flat buffers. gradient: (n,) float32, to be written before `step`.

    The optimiser is a torch Adam or AdamW that `training/sac_known.py` knows; its rate, betas and decay are read when
    `begin` is called.
    """

    def __init__(self, flat: FlatParameters, optimizer: torch.optim.Optimizer) -> None:
        """Move the optimiser's state into buffers; begins it where the optimiser has not stepped yet."""
        self._flat, self._optimizer = flat, optimizer
        self.gradient = flat.like()
        moments = [torch.zeros(flat.values.size) for _ in range(2)]
        self._mean, self._square = (moment.numpy() for moment in moments)
        self._steps = torch.zeros(len(flat.parameters))
        self._states = [
            {"step": step, "exp_avg": mean, "exp_avg_sq": square}
            for step, mean, square in zip(self._steps, *map(flat.parts_of, moments), strict=True)
        ]
        for parameter, state in zip(flat.parameters, self._states, strict=True):
            for name, old in optimizer.state[parameter].items():
                state[name].copy_(old)
            optimizer.state[parameter] = dict(state)
        self._owner = optimizer.state
        self._count = int(self._steps[0])

    @property
    def is_bound(self) -> bool:
        """True while the optimiser's state lies in the buffers: torch replaces all of it or nothing."""
        found = self._optimizer.state.get(self._flat.parameters[0], {})
        return self._optimizer.state is self._owner and found.get("exp_avg") is self._states[0]["exp_avg"]

    def begin(self) -> None:
        """Read rate, betas and decay from the optimiser."""
        group = self._optimizer.param_groups[0]
        self._rate, self._eps, self._decay = float(group["lr"]), group["eps"], group["weight_decay"]
        self._is_decoupled = bool(group["decoupled_weight_decay"])
        self._beta1, self._beta2 = group["betas"]

    def step(self) -> None:
        """Change the parameters by what the gradient asks for."""
        self._count += 1
        self._steps.fill_(self._count)
        adam(
            self._flat.values,
            self.gradient,
            self._mean,
            self._square,
            np.float32(1.0 - self._beta1),
            np.float32(self._beta2),
            np.float32(1.0 - self._beta2),
            np.float32((1.0 - self._beta2**self._count) ** 0.5),
            np.float32(self._eps),
            np.float32(self._rate / (1.0 - self._beta1**self._count)),
            np.float32(1.0 - self._rate * self._decay if self._is_decoupled else 1.0),
            np.float32(0.0 if self._is_decoupled else self._decay),
        )
