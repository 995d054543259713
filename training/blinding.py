"""Makes a fresh model ignore the entries of the observation that it is not to see.

Where practice shows zeros in their place, the weights that read them have no gradient, and weight decay leaves zero at
zero: weights that begin at zero stay there, and the policy answers the same whatever those entries hold.
"""

import re
from collections.abc import Sequence

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import nn

from training.errors import TrainingError
from training.inputs import mask_of

_BEHIND_LAYERS = re.compile(
    r"actor\.latent_pi\.0|critic(_target)?\.qf\d+\.0|mlp_extractor\.(policy|value)_net\.0|q_net(_target)?\.q_net\.0"
)
"""Stable-Baselines3's names of the layers that read observations in networks with hidden layers."""
_ALONE = re.compile(
    r"actor\.(mu|mu\.0|log_std)|critic(_target)?\.qf\d+\.0|action_net|value_net|q_net(_target)?\.q_net\.0"
)
"""Those of networks without any."""


def ignore_unseen(model: BaseAlgorithm, inputs: Sequence[str], net_arch: Sequence[int]) -> None:
    """Set the weights that read what is not among `inputs` to zero, in place, in every network of the model.

    inputs: names of the entries that are seen, none for all.  net_arch: widths of the hidden layers.
    """
    if not inputs:
        return
    mask = torch.from_numpy(mask_of(inputs)).to(model.device)
    known = _BEHIND_LAYERS if net_arch else _ALONE
    layers = [
        layer for name, layer in model.policy.named_modules() if known.fullmatch(name) and isinstance(layer, nn.Linear)
    ]
    if not layers:
        raise TrainingError(f"inputs: no layer of {type(model.policy).__name__} is known to read observations")
    with torch.no_grad():
        for layer in layers:
            # A critic reads observation and action side by side, in this order.
            layer.weight[:, : len(mask)].mul_(mask)
