import inspect
import json
import math
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import SAC
from stable_baselines3.common.utils import LinearSchedule

from strategy.parameters import SHIPPED_LIMITS, SHIPPED_STRATEGY
from tests.fakes.trading import BTC, setup
from tests.training.markets import history
from training.episode import Episode, Randomisation
from training.errors import TrainingError
from training.history import History
from training.market import Conditions
from training.plan import MemberPlan, Settings
from training.presets import PRESETS, preset_named
from training.reward import REWARDS
from training.settings_text import apply, describe, plan_from
from training.trader_env import TraderEnv

GUIDE = ("quick", "optimized", "improved", "advanced")
_IMPROVED = {
    "learning_rate": 3e-4,
    "final_learning_rate": 1e-5,
    "batch_size": 512,
    "tau": 0.01,
    "gamma": 0.995,
    "train_freq": 4,
    "use_sde": True,
    "sde_sample_freq": 64,
}
GIVEN: dict[str, dict[str, Any]] = {
    "quick": {"buffer_size": 500_000, "learning_starts": 5_000, "gradient_steps": 4},
    "optimized": {
        "learning_rate": 1e-4,
        "buffer_size": 1_000_000,
        "learning_starts": 5_000,
        "batch_size": 512,
        "gradient_steps": 4,
        "use_sde": True,
    },
    "improved": {"buffer_size": 500_000, "learning_starts": 5_000, "gradient_steps": 4} | _IMPROVED,
    "advanced": {"buffer_size": 1_000_000, "learning_starts": 2_000, "gradient_steps": 8}
    | _IMPROVED
    | {"batch_size": 1_024},
}
"""What the guide says of each preset, word for word."""
OURS = {"weight_decay": 0.3, "net_arch": (256, 256), "final_learning_rate": None, "n_envs": 1, "inputs": ()}
"""What neither the guide nor SB3's signature tells: our decay, SB3's network for SAC, its constant rate."""


def plan_of(name: str, seed: int = 1) -> MemberPlan:
    preset = preset_named(name)
    return MemberPlan(
        seed=seed,
        steps=preset.steps,
        settings=preset.settings,
        conditions=preset.conditions,
        reward=REWARDS[preset.reward],
        episode=preset.episode,
        randomisation=preset.randomisation,
    )


# ---- values -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", GUIDE)
def test_a_preset_is_what_the_guide_says_and_sb3s_default_where_it_is_silent(name: str) -> None:
    signature = inspect.signature(SAC.__init__).parameters
    defaults = {key: signature[key].default for key in asdict(Settings()) if key in signature}
    assert asdict(preset_named(name).settings) == OURS | defaults | GIVEN[name]


def test_the_network_where_the_guide_is_silent_is_sb3s_for_sac() -> None:
    env = TraderEnv([History(history(5), 48)], setup((BTC,)))
    actor = SAC("MlpPolicy", env, buffer_size=1, device="cpu").actor
    assert [layer.out_features for layer in actor.latent_pi if isinstance(layer, torch.nn.Linear)] == [256, 256]


def test_the_guides_presets_are_paid_by_the_guides_reward_and_quick_takes_200_000_steps() -> None:
    assert {preset_named(name).reward for name in GUIDE} == {"guide"}
    assert preset_named("quick").steps == 200_000


def test_the_guides_presets_and_compact_decide_on_every_candle_and_see_everything() -> None:
    for name in (*GUIDE, "compact"):
        preset = preset_named(name)
        assert (preset.conditions, preset.episode, preset.randomisation) == (Conditions(), Episode(), Randomisation())
        assert (preset.settings.inputs, preset.gammas) == ((), (0.99, 0.999))


def test_compact_is_what_a_plan_begins_with() -> None:
    assert preset_named("compact").settings == Settings()
    assert preset_named("compact").reward == "timing"


def test_trend_is_how_the_shipped_ensemble_was_trained() -> None:
    manifest = json.loads((Path(__file__).parents[2] / "models" / "current" / "manifest.json").read_text())
    words = shlex.split(manifest["training"]["command"])
    said = {word: words[index + 1] for index, word in enumerate(words[:-1]) if word.startswith("--")}
    preset = preset_named("trend")
    assert said["--preset"] == "trend"
    assert not {"--set", "--reward"} & set(words)
    assert preset.steps == int(said["--steps"])
    assert manifest["strategy"] == preset.conditions.strategy.to_json() == SHIPPED_STRATEGY.to_json()
    assert manifest["risk"] == preset.conditions.limits.to_json() == SHIPPED_LIMITS.to_json()
    assert manifest["costs"] == preset.conditions.costs.to_json()
    assert {tuple(member["net_arch"]) for member in manifest["members"]} == {preset.settings.net_arch}


def test_trend_decides_once_a_day_at_an_hour_that_varies_in_episodes_of_half_a_year() -> None:
    preset = preset_named("trend")
    assert preset.conditions.strategy.decide_every == 24
    assert preset.randomisation == Randomisation(offset=True)
    assert preset.episode == Episode(length=8_760 // 2)
    low, high = preset.gammas
    assert low < preset.settings.gamma < high < 0.99  # a day is a step: of 0.99 a hundred of them would count


def test_an_unknown_preset_is_refused_with_the_known_names() -> None:
    with pytest.raises(
        TrainingError, match="preset 'fast' is not known: give one of trend, compact, quick, optimized, impr"
    ):
        preset_named("fast")


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_has_a_known_reward_a_meaning_and_a_plan_that_can_be_told(name: str) -> None:
    preset = preset_named(name)
    assert preset.reward in REWARDS
    assert len(preset.meaning) > 10
    assert preset.steps > preset.settings.learning_starts
    assert plan_from(describe(plan_of(name))) == plan_of(name)


@pytest.mark.parametrize("name", PRESETS)
def test_every_value_of_a_preset_can_be_overridden(name: str) -> None:
    other = Settings(
        learning_rate=0.001,
        final_learning_rate=0.0005,
        buffer_size=77,
        learning_starts=33,
        batch_size=11,
        tau=0.5,
        gamma=0.5,
        train_freq=9,
        gradient_steps=3,
        use_sde=not preset_named(name).settings.use_sde,
        sde_sample_freq=5,
        weight_decay=0.01,
        net_arch=(7,),
        n_envs=2,
        inputs=("drawdown", "return_24"),
    )
    texts = [
        f"{key}={','.join(map(str, value)) if isinstance(value, tuple) else value}"
        for key, value in asdict(other).items()
    ]
    assert apply(plan_of(name), texts).settings == other


# ---- learning ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", PRESETS)
def test_stable_baselines_takes_every_preset_and_learns_beyond_learning_starts(name: str) -> None:
    """Only the size of the memory and the start of learning are made smaller."""
    plan = apply(plan_of(name), ["buffer_size=2000", "learning_starts=160"])
    chosen = plan.settings
    env = TraderEnv([History(history(300), 48)], setup((BTC,)), reward=plan.reward, episode=Episode(length=100))
    torch.set_num_threads(1)
    model = SAC(
        "MlpPolicy",
        env,
        learning_rate=chosen.learning_rate
        if chosen.final_learning_rate is None
        else LinearSchedule(chosen.learning_rate, chosen.final_learning_rate, 1.0),
        buffer_size=chosen.buffer_size,
        learning_starts=chosen.learning_starts,
        batch_size=chosen.batch_size,
        tau=chosen.tau,
        gamma=chosen.gamma,
        train_freq=chosen.train_freq,
        gradient_steps=chosen.gradient_steps,
        use_sde=chosen.use_sde,
        sde_sample_freq=chosen.sde_sample_freq,
        seed=plan.seed,
        device="cpu",
        policy_kwargs={
            "net_arch": list(chosen.net_arch),
            "optimizer_class": torch.optim.AdamW,
            "optimizer_kwargs": {"weight_decay": chosen.weight_decay},
        },
    )
    before = {key: value.clone() for key, value in model.policy.state_dict().items()}
    model.learn(200)
    # the first round of learning is the one that ends after step 160
    rounds = sum(step % chosen.train_freq == 0 for step in range(161, 201))
    assert model._n_updates == rounds * chosen.gradient_steps
    after = model.policy.state_dict()
    still = {key for key, value in before.items() if torch.equal(value, after[key])}
    assert still == set()
    assert all(bool(torch.isfinite(value).all()) for value in after.values())
    rate = chosen.learning_rate
    if chosen.final_learning_rate is not None:  # after 200 of 200 steps, seen at the last round
        rate = chosen.final_learning_rate
    assert math.isclose(model.actor.optimizer.param_groups[0]["lr"], rate, rel_tol=0.05)
    assert np.isfinite(model.ent_coef_optimizer.param_groups[0]["lr"])
