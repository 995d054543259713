"""What decides a member's weights: plain values that travel to other processes and machines, and into the record."""

from dataclasses import dataclass, field

from training.episode import Episode, Randomisation
from training.errors import TrainingError
from training.inputs import require_inputs
from training.market import Conditions
from training.ranges import require
from training.reward import REWARDS, RewardSettings

ALGORITHMS = ("sac", "ppo", "a2c", "dqn")
LARGEST_SEED = 2**32 - 1
MOST_LAYERS, WIDEST_LAYER = 16, 65_536

_SETTINGS = {
    "learning_rate": (1e-9, 1.0),
    "buffer_size": (1, 1_000_000_000),
    "learning_starts": (0, 1_000_000_000),
    "batch_size": (1, 1_000_000),
    "tau": (1e-6, 1.0),
    "gamma": (0.0, 1.0),
    "train_freq": (1, 1_000_000),
    "weight_decay": (0.0, 100.0),
    "n_envs": (1, 65_536),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How one member learns; the names are Stable-Baselines3's.

    final_learning_rate: what the rate falls to, linearly over the run; None keeps it.  gradient_steps: -1 takes as many
    as there were steps of the environment.  sde_sample_freq: steps after which the noise of gSDE is drawn anew; -1
    draws it at the start of each rollout.  weight_decay: AdamW's; it keeps a policy from becoming so steep that float32
    rounding moves its answers.  n_envs: accounts practised on together.  inputs: names out of `training.inputs.INPUTS`
    that the policy sees, none for all.  Raises TrainingError for impossible values.
    """

    learning_rate: float = 3e-4
    final_learning_rate: float | None = None
    buffer_size: int = 200_000
    learning_starts: int = 2_000
    batch_size: int = 256
    tau: float = 0.005
    gamma: float = 0.997
    train_freq: int = 4
    gradient_steps: int = 1
    use_sde: bool = False
    sde_sample_freq: int = -1
    weight_decay: float = 0.3
    net_arch: tuple[int, ...] = (64, 64)
    n_envs: int = 1
    inputs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, (low, high) in _SETTINGS.items():
            require(name, getattr(self, name), low, high)
        if self.final_learning_rate is not None:
            require("final_learning_rate", self.final_learning_rate, 0.0, 1.0)
        for name in ("gradient_steps", "sde_sample_freq"):
            _require_count_or_minus_one(name, getattr(self, name))
        if not isinstance(self.use_sde, bool):
            raise TrainingError(f"use_sde {self.use_sde!r}: give true or false")
        _require_layers(self.net_arch)
        require_inputs(self.inputs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """When a member is scored on candles it does not learn from, and when that ends its training.

    every: steps between scores.  patience: scores in a row without an improvement of `min_delta` after which training
    ends; 0 never ends it.  The score is training/validation.py's.
    """

    every: int = 10_000
    patience: int = 0
    min_delta: float = 0.0

    def __post_init__(self) -> None:
        require("validation every", self.every, 1, 1_000_000_000)
        require("validation patience", self.patience, 0, 1_000_000)
        require("validation min_delta", self.min_delta, 0.0, 1e9)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberPlan:
    """All that decides the weights of one member, besides the candles. steps: of the environment.

    validation: None never scores.  Raises TrainingError for impossible values.
    """

    seed: int
    steps: int
    algorithm: str = "sac"
    settings: Settings = field(default_factory=Settings)
    conditions: Conditions = field(default_factory=Conditions)
    reward: RewardSettings = REWARDS["timing"]
    episode: Episode = field(default_factory=Episode)
    randomisation: Randomisation = field(default_factory=Randomisation)
    validation: Validation | None = None

    def __post_init__(self) -> None:
        require("seed", self.seed, 0, LARGEST_SEED)
        require("steps", self.steps, 1, 1_000_000_000_000)
        if self.algorithm not in ALGORITHMS:
            raise TrainingError(f"algorithm {self.algorithm!r}: give one of {', '.join(ALGORITHMS)}")


def _require_count_or_minus_one(name: str, value: object) -> None:
    if value != -1 or isinstance(value, float):
        require(f"{name} (or -1)", value, 1, 1_000_000)


def _require_layers(net_arch: object) -> None:
    if not isinstance(net_arch, tuple) or len(net_arch) > MOST_LAYERS:
        raise TrainingError(f"net_arch {net_arch!r}: give the widths of 0 .. {MOST_LAYERS} layers, such as 256,256")
    for width in net_arch:
        require("net_arch", width, 1, WIDEST_LAYER)
