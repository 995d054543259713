"""The update by hand against Stable-Baselines3's: the same batches and noise give the same weights.

float32 rounds differently in another order, and Adam divides by the size of a gradient: where that is nearly nothing,
its first steps make much of the rounding. The networks are small so that no weight has such a gradient by chance.
"""

from copy import deepcopy
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import SAC
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from tests.training.sac_models import Space, fill, largest_difference, make, seed_noise, tensors, train
from training.fast_sac import FastSAC

TOLERANCE = 1e-5
ADAMW = {"optimizer_class": torch.optim.AdamW, "optimizer_kwargs": {"weight_decay": 0.3}}
TANH = {"activation_fn": torch.nn.Tanh}


def linear(start: float, end: float) -> Any:
    return lambda remaining: end + (start - end) * remaining


CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "gsde": {"use_sde": True},
    "gsde without a bound on the mean": {"use_sde": True, "policy_kwargs": {"clip_mean": 0.0}},
    "gsde with the mean at its bound": {"use_sde": True, "policy_kwargs": {"clip_mean": 0.05}},
    "gsde with actions at their bounds": {"use_sde": True, "policy_kwargs": {"log_std_init": 0.0}},
    "tanh": {"policy_kwargs": TANH},
    "gsde and tanh": {"use_sde": True, "policy_kwargs": TANH},
    "adamw": {"policy_kwargs": ADAMW},
    "adam with weight decay": {"policy_kwargs": {"optimizer_kwargs": {"weight_decay": 0.01}}},
    "other betas and eps": {"policy_kwargs": {"optimizer_kwargs": {"betas": (0.8, 0.99), "eps": 1e-6}}},
    "fixed entropy": {"ent_coef": 0.2},
    "entropy from another start": {"ent_coef": "auto_0.1", "target_entropy": -1.5},
    "one critic": {"policy_kwargs": {"n_critics": 1}},
    "three critics": {"policy_kwargs": {"n_critics": 3}},
    "four layers": {"policy_kwargs": {"net_arch": [24, 16, 24, 8]}},
    "one layer": {"policy_kwargs": {"net_arch": [24]}},
    "separate shapes": {"policy_kwargs": {"net_arch": {"pi": [16], "qf": [24, 32]}}},
    "shared features extractor": {"policy_kwargs": {"share_features_extractor": True}},
    "large tau": {"tau": 0.5, "gamma": 0.9},
    "four gradient steps": {"gradient_steps": 4},
    "target every second step": {"gradient_steps": 4, "target_update_interval": 2},
    "batch of one": {"batch_size": 1},
    "batch of one, gsde": {"batch_size": 1, "use_sde": True},
}


def both(**changes: Any) -> tuple[SAC, FastSAC]:
    return make(SAC, **changes), make(FastSAC, **changes)


def hand_over(source: SAC, target: SAC) -> None:
    """Set weights, optimisers and entropy coefficient; a copy, as torch would let both share an optimiser's tensors."""
    target.set_parameters(deepcopy(source.get_parameters()), device="cpu")
    assert source.log_ent_coef is not None
    assert target.log_ent_coef is not None
    target.log_ent_coef.data = source.log_ent_coef.data.clone()


def check_equal(reference: SAC, fast: SAC) -> None:
    difference, where = largest_difference(tensors(reference), tensors(fast))
    assert difference < TOLERANCE, where


@pytest.mark.parametrize("changes", CASES.values(), ids=CASES)
def test_ten_updates_give_the_weights_of_stable_baselines3(changes: dict[str, Any]) -> None:
    reference, fast = both(**changes)
    start = tensors(reference)
    for model in (reference, fast):
        train(model, 12 if model.gradient_steps > 1 else 10, gradient_steps=model.gradient_steps, seed=5)
    check_equal(reference, fast)
    moved, _ = largest_difference(reference.policy.state_dict(), {n: start[n] for n in reference.policy.state_dict()})
    assert moved > 1e-3, "the update changed nothing, so that equality says nothing"


def test_ten_updates_of_a_full_sized_member_give_the_same_weights() -> None:
    # The `improved` preset's shape, after some training: from then on Adam's second moments have seen real gradients.
    env = Space(spaces.Box(-np.inf, np.inf, (64,), np.float32))
    changes = {"env": env, "use_sde": True, "batch_size": 512, "tau": 0.01, "gamma": 0.995}
    reference, fast = both(policy_kwargs={"net_arch": [256, 256]}, **changes)
    train(reference, 10, seed=4)
    hand_over(reference, fast)
    for model in (reference, fast):
        train(model, 10, seed=5)
    check_equal(reference, fast)


def test_a_falling_learning_rate_is_followed() -> None:
    reference, fast = both(learning_rate=linear(3e-3, 1e-5))
    for model in (reference, fast):
        seed_noise(5)
        for remaining in np.linspace(1.0, 0.0, 10):
            model._current_progress_remaining = float(remaining)
            model.train(1, 64)
    check_equal(reference, fast)
    assert fast.actor.optimizer.param_groups[0]["lr"] == pytest.approx(1e-5)


@pytest.mark.parametrize("changes", [{}, {"use_sde": True}], ids=["plain", "gsde"])
def test_the_noise_left_behind_is_that_of_stable_baselines3(changes: dict[str, Any]) -> None:
    # Stochastic actions after an update continue the same stream, and with gSDE use the matrix of the last step.
    reference, fast = both(**changes)
    observation = np.zeros((1, 12), np.float32) + 0.3
    actions = []
    for model in (reference, fast):
        train(model, 4, gradient_steps=2, seed=5)
        actions.append(np.stack([model.predict(observation)[0] for _ in range(3)]))
    np.testing.assert_allclose(actions[0], actions[1], atol=TOLERANCE)


def test_the_same_numbers_are_logged_under_the_same_names() -> None:
    reference, fast = both()
    for model in (reference, fast):
        train(model, 4, gradient_steps=4, seed=5)
    logged, expected = (model.logger.name_to_value for model in (fast, reference))
    assert logged.keys() == expected.keys()
    for name, value in expected.items():
        assert logged[name] == pytest.approx(value, rel=1e-4, abs=1e-6), name


def test_a_fixed_entropy_coefficient_has_no_loss_in_the_log() -> None:
    fast = make(FastSAC, ent_coef=0.2)
    train(fast, 1)
    assert fast.logger.name_to_value["train/ent_coef"] == pytest.approx(0.2)
    assert "train/ent_coef_loss" not in fast.logger.name_to_value


@pytest.mark.parametrize("changes", [{}, {"use_sde": True, "ent_coef": 0.1}], ids=["plain", "gsde, fixed entropy"])
@pytest.mark.parametrize(("first", "second"), [(SAC, FastSAC), (FastSAC, SAC)], ids=["from SB3", "to SB3"])
def test_an_archive_of_one_goes_on_in_the_other(
    tmp_path: Path, changes: dict[str, Any], first: type[SAC], second: type[SAC]
) -> None:
    begun = make(first, **changes)
    train(begun, 6, seed=4)
    begun.save(tmp_path / "model.zip")
    continued = []
    for kind in (first, second):
        model = kind.load(tmp_path / "model.zip", env=Space(), device="cpu")
        assert type(model) is kind
        fill(model)
        model.set_logger(configure(None, []))
        train(model, 10, seed=5)
        continued.append(tensors(model))
    difference, where = largest_difference(*continued)
    assert difference < TOLERANCE, where


def test_parameters_set_in_the_middle_are_trained_from_there() -> None:
    # What loads an optimiser's state gives it new tensors; the update must not go on with the old ones.
    reference, fast = both()
    other = make(SAC, seed=9)
    train(other, 5, seed=3)
    for model in (reference, fast):
        train(model, 5, seed=4)
        hand_over(other, model)
        train(model, 5, seed=5)
    check_equal(reference, fast)


@pytest.mark.parametrize("owner", ["actor", "critic"])
def test_an_optimiser_set_back_alone_is_noticed(owner: str) -> None:
    reference, fast = both(ent_coef=0.2)
    for model in (reference, fast):
        train(model, 2, seed=4)
        optimizer = getattr(model, owner).optimizer
        kept = deepcopy(optimizer.state_dict())
        train(model, 5, seed=5)
        optimizer.load_state_dict(kept)
        train(model, 5, seed=6)
    check_equal(reference, fast)


def test_several_environments_and_time_limits_are_sampled_alike() -> None:
    reference, fast = both(env=DummyVecEnv([Space] * 3))
    for model in (reference, fast):
        train(model, 10, seed=5)
    check_equal(reference, fast)


def test_a_buffer_that_is_not_full_is_sampled_up_to_its_end() -> None:
    reference, fast = both()
    for model in (reference, fast):
        assert model.replay_buffer is not None
        model.replay_buffer.full, model.replay_buffer.pos = False, 40
        model.replay_buffer.rewards[40:] = np.nan
        train(model, 10, seed=5)
    check_equal(reference, fast)


@pytest.mark.parametrize(
    "changes",
    [
        {"n_steps": 3},
        {"optimize_memory_usage": True, "replay_buffer_kwargs": {"handle_timeout_termination": False}},
    ],
    ids=["n-step returns", "saves memory"],
)
def test_other_buffers_are_asked_for_their_own_sample(changes: dict[str, Any]) -> None:
    models = []
    for kind in (SAC, FastSAC):
        model = kind("MlpPolicy", "Pendulum-v1", seed=1, device="cpu", learning_starts=50, buffer_size=80, **changes)
        model.learn(110)
        models.append(tensors(model))
    difference, where = largest_difference(*models)
    assert difference < 1e-3, where  # 60 updates on data of its own making: rounding has gone round many times


def test_normalised_observations_and_rewards_reach_the_networks_normalised() -> None:
    def normalised() -> VecNormalize:
        env = VecNormalize(DummyVecEnv([Space]))
        env.obs_rms.mean, env.obs_rms.var = np.full(12, 0.5), np.full(12, 4.0)
        env.ret_rms.var = np.array(9.0)
        return env

    models = make(SAC, env=normalised()), make(FastSAC, env=normalised()), make(FastSAC)
    for model in models:
        train(model, 10, seed=5)
    check_equal(models[0], models[1])
    assert largest_difference(tensors(models[1]), tensors(models[2]))[0] > 1e-4


@pytest.mark.parametrize(
    "space",
    [spaces.Box(-1.0, 1.0, (12,), np.float64), spaces.Box(-1.0, 1.0, (3, 4), np.float32)],
    ids=["float64", "two dimensions"],
)
def test_observations_of_another_type_or_shape_are_flattened_alike(space: spaces.Box) -> None:
    reference, fast = both(env=Space(space))
    for model in (reference, fast):
        train(model, 10, seed=5)
    check_equal(reference, fast)


@pytest.mark.parametrize("environments", [1, 3])
@pytest.mark.parametrize(
    "changes",
    [{}, {"use_sde": True}, {"policy_kwargs": TANH}, {"use_sde": True, "policy_kwargs": {"clip_mean": 0.05}}],
    ids=["plain", "gsde", "tanh", "gsde with the mean at its bound"],
)
def test_what_is_done_to_learn_from_is_what_stable_baselines3_does(environments: int, changes: dict[str, Any]) -> None:
    # No update in between: the buffers hold the same observations, and actions that differ by rounding alone.
    collected = []
    for kind in (SAC, FastSAC):
        env = DummyVecEnv([lambda: gymnasium.make("Pendulum-v1")] * environments)
        model = make(kind, env=env, learning_starts=0, train_freq=20, gradient_steps=0, **changes)
        assert model.replay_buffer is not None
        model.replay_buffer.reset()
        model.learn(20 * environments)
        assert model.replay_buffer.pos == 20
        collected.append((model.replay_buffer.actions[:20], model.replay_buffer.observations[:20]))
    for expected, found in zip(*collected, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-4)
    assert float(np.ptp(collected[0][0])) > 0.05
