"""Ways to train by name: those of the guide this project implements, and the one the shipped ensemble came from.

What the guide does not say is Stable-Baselines3's default for SAC, two layers of 256 and 200,000 steps. One value is
ours throughout, `weight_decay`: without it a policy becomes so steep that rounding float32 moves its answers by more
than 1e-6, and the export refuses it.
"""

from dataclasses import dataclass, field, replace

from strategy.features import TREND_MEANS
from strategy.parameters import SHIPPED_LIMITS, SHIPPED_STRATEGY
from training.episode import Episode, Randomisation
from training.errors import TrainingError
from training.market import Conditions
from training.plan import Settings

GUIDE_GAMMAS = (0.99, 0.999)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """One way to train. steps: of the environment, per member.  reward: a name in `REWARDS`.  meaning: for people.

    gammas: between which the members of an ensemble differ.  conditions: what the accounts trade under.
    """

    meaning: str
    settings: Settings
    steps: int
    reward: str
    gammas: tuple[float, float] = GUIDE_GAMMAS
    conditions: Conditions = field(default_factory=Conditions)
    episode: Episode = field(default_factory=Episode)
    randomisation: Randomisation = field(default_factory=Randomisation)


_STEPS = 200_000
_DECAY = 0.3
_SILENT = Settings(
    learning_rate=3e-4,
    buffer_size=1_000_000,
    learning_starts=100,
    batch_size=256,
    tau=0.005,
    gamma=0.99,
    train_freq=1,
    gradient_steps=1,
    weight_decay=_DECAY,
    net_arch=(256, 256),
)
"""What holds where the guide is silent."""

_IMPROVED = replace(
    _SILENT,
    learning_rate=3e-4,
    final_learning_rate=1e-5,
    buffer_size=500_000,
    learning_starts=5_000,
    batch_size=512,
    tau=0.01,
    gamma=0.995,
    train_freq=4,
    gradient_steps=4,
    use_sde=True,
    sde_sample_freq=64,
)

PRESETS: dict[str, Preset] = {
    "trend": Preset(
        meaning="one decision a day near the rule of trend following; what the shipped ensemble was trained with",
        settings=Settings(
            learning_rate=1e-3,
            buffer_size=200_000,
            learning_starts=2_000,
            batch_size=256,
            tau=0.005,
            gamma=0.95,
            train_freq=1,
            gradient_steps=4,
            weight_decay=0.1,
            net_arch=(64, 64),
            n_envs=16,
            inputs=(*(f"above_{n}" for n in TREND_MEANS), "volatility_level", "exposure"),
        ),
        steps=40_000,
        reward="trend",
        gammas=(0.92, 0.98),
        conditions=Conditions(strategy=SHIPPED_STRATEGY, limits=SHIPPED_LIMITS),
        episode=Episode(length=4_380),
        randomisation=Randomisation(offset=True),
    ),
    "compact": Preset(
        meaning="small and fast, a decision on every candle",
        settings=Settings(
            learning_rate=3e-4,
            buffer_size=200_000,
            learning_starts=2_000,
            batch_size=256,
            tau=0.005,
            gamma=0.997,
            train_freq=4,
            gradient_steps=1,
            weight_decay=_DECAY,
            net_arch=(64, 64),
        ),
        steps=100_000,
        reward="timing",
    ),
    "quick": Preset(
        meaning="the guide's first look",
        settings=replace(_SILENT, buffer_size=500_000, learning_starts=5_000, gradient_steps=4),
        steps=_STEPS,
        reward="guide",
    ),
    "optimized": Preset(
        meaning="the guide's slower rate, larger batches and noise that depends on what is observed",
        settings=replace(
            _SILENT,
            learning_rate=1e-4,
            buffer_size=1_000_000,
            learning_starts=5_000,
            batch_size=512,
            gradient_steps=4,
            use_sde=True,
        ),
        steps=_STEPS,
        reward="guide",
    ),
    "improved": Preset(
        meaning="the guide's falling rate, one gradient step per environment step, taken four at a time",
        settings=_IMPROVED,
        steps=_STEPS,
        reward="guide",
    ),
    "advanced": Preset(
        meaning="as improved, with twice the buffer, the batch and the gradient steps",
        settings=replace(_IMPROVED, buffer_size=1_000_000, learning_starts=2_000, batch_size=1_024, gradient_steps=8),
        steps=_STEPS,
        reward="guide",
    ),
}
"""All presets by name."""


def preset_named(name: str) -> Preset:
    """Return a preset. Raises TrainingError for an unknown name."""
    if name not in PRESETS:
        raise TrainingError(f"preset {name!r} is not known: give one of {', '.join(PRESETS)}")
    return PRESETS[name]
