"""Tells whether a SAC model is one whose update is written by hand, and takes it apart.

What is not exactly known is refused with the reason: a wrong guess would train something else without a word.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from gymnasium import spaces
from stable_baselines3 import SAC
from stable_baselines3.common.distributions import (
    SquashedDiagGaussianDistribution,
    StateDependentNoiseDistribution,
)
from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.sac.policies import Actor, SACPolicy
from torch import nn

from training.sac_mlp import ActivationName

_ACTIVATIONS: dict[type[nn.Module], ActivationName] = {nn.ReLU: "relu", nn.Tanh: "tanh"}


class UnknownNetwork(Exception):
    """A model has a part that the update by hand does not know; the message names it."""


@dataclass(frozen=True, slots=True, eq=False)
class ActorParts:
    """hidden: the layers before the head.  mean: its linear layer.  clip_mean: with gSDE, 0 for none.

    log_std: a linear layer, or with gSDE a parameter.
    """

    hidden: list[nn.Linear]
    activation: ActivationName
    mean: nn.Linear
    log_std: nn.Linear | nn.Parameter
    clip_mean: float


@dataclass(frozen=True, slots=True, eq=False)
class CriticParts:
    """hidden: per network, the layers before the last.  last: per network."""

    hidden: list[list[nn.Linear]]
    activation: ActivationName
    last: list[nn.Linear]


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """What a known model is made of."""

    actor: ActorParts
    critic: CriticParts
    target: CriticParts


def take_apart(model: SAC) -> Parts:
    """Return the model's parts. Raises UnknownNetwork when it has others than these."""
    _require(type(model.policy) is SACPolicy, f"the policy is a {type(model.policy).__name__}, not an MlpPolicy")
    space = model.observation_space
    is_plain = isinstance(space, spaces.Box) and not (model.policy.normalize_images and is_image_space(space))
    _require(is_plain, f"the observation space is {space}")
    for part, expected in (
        (model.actor, Actor),
        (model.critic, ContinuousCritic),
        (model.critic_target, ContinuousCritic),
    ):
        _require(type(part) is expected, f"{type(part).__name__} is not {expected.__name__}")
        extractor = type(part.features_extractor)
        _require(extractor is FlattenExtractor, f"the features extractor is a {extractor.__name__}")
    parts = Parts(_actor(model.actor), _critic(model.critic), _critic(model.critic_target))
    _check_optimizer(model.actor.optimizer, model.actor.parameters())
    _check_optimizer(model.critic.optimizer, model.critic.parameters())
    if model.ent_coef_optimizer is not None and model.log_ent_coef is not None:
        _check_optimizer(model.ent_coef_optimizer, [model.log_ent_coef])
    return parts


def _actor(actor: Actor) -> ActorParts:
    hidden, activation = _hidden(actor.latent_pi.children(), "the actor")
    log_std: object = actor.log_std
    mean: nn.Module = actor.mu
    clip_mean = 0.0
    if isinstance(actor.action_dist, StateDependentNoiseDistribution):
        dist = actor.action_dist
        is_usual = dist.full_std and dist.learn_features and dist.bijector is not None and not dist.use_expln
        _require(is_usual, "gSDE is used with another deviation than exp(log_std)")
        if isinstance(mean, nn.Sequential):
            mean, *clips = mean.children()
            clip_mean = _bound(clips)
    else:
        _require(type(actor.action_dist) is SquashedDiagGaussianDistribution, "the actions are not squashed Gaussians")
        _require(isinstance(log_std, nn.Linear), "the actor's deviation is not a linear layer")
    return ActorParts(hidden, activation, _linear(mean, "the actor's mean"), _deviation(log_std), clip_mean)


def _bound(clips: Sequence[nn.Module]) -> float:
    if len(clips) == 1 and isinstance(clip := clips[0], nn.Hardtanh) and clip.min_val == -clip.max_val:
        return clip.max_val
    raise UnknownNetwork("the actor's mean is not clipped to a range around zero")


def _deviation(log_std: object) -> nn.Linear | nn.Parameter:
    return log_std if isinstance(log_std, nn.Parameter) else _linear(log_std, "the actor's deviation")


def _critic(critic: ContinuousCritic) -> CriticParts:
    heads: list[nn.Linear] = []
    bodies: list[list[nn.Linear]] = []
    names: set[ActivationName] = set()
    for network in critic.q_networks:
        modules = list(network.children())
        hidden, name = _hidden(modules[:-1], "a critic")
        heads.append(_linear(modules[-1], "a critic's last layer"))
        bodies.append(hidden)
        names.add(name)
    shapes = {tuple(layer.weight.shape for layer in hidden) for hidden in bodies}
    _require(len(names) == 1 and len(shapes) == 1, "the critics differ in shape")
    return CriticParts(bodies, names.pop(), heads)


def _hidden(modules: Iterable[nn.Module], owner: str) -> tuple[list[nn.Linear], ActivationName]:
    """Return the layers of linear, activation, linear, activation ..."""
    sequence = list(modules)
    linears, activations = sequence[0::2], sequence[1::2]
    _require(bool(linears), f"{owner} has no hidden layer")
    _require(len(linears) == len(activations), f"{owner} is not a plain MLP")
    kinds = {type(module) for module in activations}
    _require(len(kinds) == 1 and kinds <= set(_ACTIVATIONS), f"{owner} has layers of {_names(kinds)}")
    return [_linear(layer, f"a layer of {owner}") for layer in linears], _ACTIVATIONS[kinds.pop()]


def _linear(module: object, owner: str) -> nn.Linear:
    if type(module) is nn.Linear and module.bias is not None:
        return module
    raise UnknownNetwork(f"{owner} is not a linear layer with a bias")


def _check_optimizer(optimizer: torch.optim.Optimizer, parameters: Iterable[torch.Tensor]) -> None:
    name = type(optimizer).__name__
    _require(type(optimizer) in (torch.optim.Adam, torch.optim.AdamW), f"the optimiser is {name}, not Adam or AdamW")
    _require(len(optimizer.param_groups) == 1, f"{name} has several groups of parameters")
    group = optimizer.param_groups[0]
    extras = [key for key in ("amsgrad", "maximize", "capturable", "differentiable") if group[key]]
    _require(not extras, f"{name} is used with {', '.join(extras)}")
    is_plain = not any(isinstance(value, torch.Tensor) for value in (group["lr"], *group["betas"]))
    _require(is_plain, f"{name} keeps its rate or betas in tensors")
    owned = list(parameters)
    _require({id(p) for p in owned} == {id(p) for p in group["params"]}, f"{name} steps other parameters")
    _check_parameters(group["params"])
    _check_steps(name, [optimizer.state[p]["step"] for p in owned if p in optimizer.state], len(owned))


def _check_parameters(parameters: Sequence[torch.Tensor]) -> None:
    for parameter in parameters:
        _require(parameter.requires_grad, "some parameters are frozen")
        _require(parameter.dtype is torch.float32, f"the parameters are {parameter.dtype}")
        _require(parameter.device.type == "cpu", f"the parameters are on {parameter.device}")


def _check_steps(name: str, steps: Sequence[torch.Tensor], parameters: int) -> None:
    is_even = all(float(a) == float(b) for a, b in pairwise(steps)) and len(steps) in (0, parameters)
    _require(is_even, f"{name} has stepped its parameters unequally often")


def _names(kinds: set[type[nn.Module]]) -> str:
    return ", ".join(sorted(kind.__name__ for kind in kinds)) or "nothing"


def _require(is_known: bool, reason: str) -> None:
    if not is_known:
        raise UnknownNetwork(reason)
