import json
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm

from strategy.decision import ACTION_HIGH, ACTION_LOW, THRESHOLD
from strategy.observation import N_OBSERVATION
from tests.training.members import PLANS, PRACTICE, plan
from training.algorithms import CHOICES, DiscreteActions, build_model, deterministic_act
from training.errors import TrainingError
from training.fast_sac import FastSAC
from training.member_run import practice_of
from training.model_state import weights_of
from training.plan import ALGORITHMS, MemberPlan
from training.vector_env import VectorTradingEnv


def built(chosen: MemberPlan, **how: Any) -> BaseAlgorithm:
    return build_model(chosen, practice_of([PRACTICE], chosen), **how)


def observations(count: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(-1.0, 1.0, (count, N_OBSERVATION)).astype(np.float32)


def optimisers(model: BaseAlgorithm) -> list[torch.optim.Optimizer]:
    if isinstance(model, SAC):
        return [model.actor.optimizer, model.critic.optimizer]
    return [model.policy.optimizer]


# ---- what the plan decides --------------------------------------------------------------------------------------
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_learns_on_this_environment(algorithm: str) -> None:
    model = built(PLANS[algorithm])
    before = {name: array.copy() for name, array in weights_of(model).items() if "target" not in name}
    model.learn(400)
    after = weights_of(model)
    assert all(np.isfinite(array).all() for array in after.values())
    moved = {name for name, array in before.items() if not np.array_equal(array, after[name])}
    assert moved == set(before)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_plans_settings_reach_the_model(algorithm: str) -> None:
    settings = {"gamma": 0.9, "weight_decay": 0.125, "learning_rate": 0.0625, "net_arch": (12, 10)}
    model = built(plan(settings, algorithm=algorithm, seed=11))
    assert model.seed == 11
    assert model.gamma == 0.9  # type: ignore[attr-defined]
    for optimiser in optimisers(model):
        assert type(optimiser) is torch.optim.AdamW
        assert [(g["lr"], g["weight_decay"]) for g in optimiser.param_groups] == [(0.0625, 0.125)]
    widths = {parameter.shape[0] for parameter in model.policy.parameters() if parameter.ndim == 2}
    assert {12, 10} <= widths


@pytest.mark.parametrize("algorithm", ["sac", "dqn"])
def test_replaying_settings_reach_the_model(algorithm: str) -> None:
    settings = {"buffer_size": 500, "batch_size": 17, "tau": 0.25, "train_freq": 3, "gradient_steps": 5}
    model: Any = built(plan({**settings, "learning_starts": 77}, algorithm=algorithm))
    assert (model.batch_size, model.tau, model.gradient_steps, model.learning_starts) == (17, 0.25, 5, 77)
    assert model.train_freq.frequency == 3
    assert model.replay_buffer.buffer_size == 250  # rows of two accounts


def test_a_replay_buffer_is_never_larger_than_the_run() -> None:
    model: Any = built(plan({"buffer_size": 1_000_000, "n_envs": 4}))
    assert model.replay_buffer.buffer_size == 226  # 900 steps of four accounts, and a row to spare


def test_exploration_settings_reach_sac() -> None:
    model: Any = built(PLANS["sac-gsde"])
    assert (model.use_sde, model.sde_sample_freq, model.actor.use_sde) == (True, 8, True)


@pytest.mark.parametrize(
    ("batch_size", "n_envs", "steps"), [(64, 1, 100_000), (64, 8, 100_000), (48, 5, 100_000), (256, 1, 900)]
)
def test_ppo_rollouts_are_whole_batches(batch_size: int, n_envs: int, steps: int) -> None:
    model = built(plan({"batch_size": batch_size, "n_envs": n_envs}, algorithm="ppo", steps=steps))
    assert isinstance(model, PPO)
    rows = model.n_steps * n_envs
    assert rows % batch_size == 0
    assert rows <= max(2_048 + batch_size * n_envs, batch_size * n_envs)
    assert rows <= steps or rows == math.lcm(batch_size, n_envs)


def test_sac_is_the_fast_one() -> None:
    assert type(built(PLANS["sac"])) is FastSAC


@pytest.mark.parametrize("algorithm", ["sac", "dqn"])
def test_a_plan_that_ends_before_learning_begins_is_refused(algorithm: str) -> None:
    with pytest.raises(
        TrainingError, match="900 steps end before learning begins: give more than learning_starts, 900"
    ):
        built(plan({"learning_starts": 900}, algorithm=algorithm))


# ---- learning rates ---------------------------------------------------------------------------------------------
def test_the_learning_rate_falls_linearly_over_the_run() -> None:
    model = built(plan({"learning_rate": 4e-3, "final_learning_rate": 1e-3}))
    seen = [model.lr_schedule(left) for left in (1.0, 0.5, 0.0)]
    assert seen == pytest.approx([4e-3, 2.5e-3, 1e-3], rel=1e-12)
    model.learn(900)
    # The last update begins after 896 of 900 steps.
    assert optimisers(model)[0].param_groups[0]["lr"] == pytest.approx(1e-3 + 3e-3 * 4 / 900, rel=1e-6, abs=1.4e-5)


def test_an_archive_keeps_the_schedule_without_pickling_a_function(tmp_path: Path) -> None:
    model = built(plan({"learning_rate": 4e-3, "final_learning_rate": 1e-3}))
    model.save(tmp_path / "model.zip")
    for loaded in (FastSAC.load(tmp_path / "model.zip"), SAC.load(tmp_path / "model.zip")):
        assert loaded.lr_schedule(0.5) == pytest.approx(2.5e-3, rel=1e-12)
    told = json.loads(zipfile.ZipFile(tmp_path / "model.zip").read("data"))
    for name in ("learning_rate", "lr_schedule"):
        assert "lambda" not in str(told[name])
        assert "LinearSchedule" in str(told[name])


# ---- what a model would do --------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["sac", "sac-gsde", "ppo", "a2c", "dqn"])
def test_what_a_model_would_do_is_what_it_predicts(name: str) -> None:
    model = built(PLANS[name])
    model.learn(300)
    seen = observations(200)
    expected, _ = model.predict(seen, deterministic=True)
    act = deterministic_act(model)
    answers = act(seen)
    assert answers.shape == (200, 3)
    assert answers.dtype == np.float32
    np.testing.assert_allclose(answers, CHOICES[expected] if isinstance(model, DQN) else expected, rtol=0, atol=1e-6)
    assert (answers >= np.array(ACTION_LOW, np.float32)).all()
    assert (answers <= np.array(ACTION_HIGH, np.float32)).all()


def test_an_answer_of_sac_does_not_depend_on_what_is_asked_beside_it() -> None:
    act, seen = deterministic_act(built(PLANS["sac-gsde"])), observations(50)
    np.testing.assert_array_equal(np.concatenate([act(one[None]) for one in seen]), act(seen))


def test_what_sac_would_do_does_not_change_while_it_learns_on() -> None:
    model = built(PLANS["sac"])
    act, seen = deterministic_act(model), observations(20)
    before = act(seen)
    model.learn(300)
    np.testing.assert_array_equal(act(seen), before)
    assert not np.array_equal(deterministic_act(model)(seen), before)


def test_weights_that_are_no_numbers_do_nothing_that_could_be_scored() -> None:
    model = built(PLANS["sac"])
    with torch.no_grad():
        model.policy.actor.mu.bias[1] = torch.inf
    with pytest.raises(TrainingError, match="not finite; lower the learning rate"):
        deterministic_act(model)


# ---- choices for DQN --------------------------------------------------------------------------------------------
def test_the_choices_are_to_sell_or_buy_a_quarter_half_or_all_and_to_hold() -> None:
    directions, sizes, confidences = CHOICES.T
    asked = np.where(directions > THRESHOLD, 1, np.where(directions < -THRESHOLD, -1, 0))
    assert (asked * sizes * confidences).tolist() == [-1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0]


def test_a_choice_does_what_its_action_does() -> None:
    chosen = plan({"n_envs": 3})
    discrete, plain = DiscreteActions(practice_of([PRACTICE], chosen)), practice_of([PRACTICE], chosen)
    assert isinstance(plain, VectorTradingEnv)
    for env in (discrete, plain):
        env.seed(5)
    np.testing.assert_array_equal(discrete.reset(), plain.reset())
    rng = np.random.default_rng(1)
    for _ in range(150):
        choice = rng.integers(len(CHOICES), size=3)
        for one, other in zip(discrete.step(choice)[:3], plain.step(CHOICES[choice])[:3], strict=True):
            np.testing.assert_array_equal(one, other)


# ---- scalars ----------------------------------------------------------------------------------------------------
def test_without_a_folder_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    built(PLANS["a2c"]).learn(300)
    assert list(tmp_path.iterdir()) == []


def test_scalars_go_into_the_folder(tmp_path: Path) -> None:
    model = built(PLANS["a2c"], tensorboard=tmp_path / "scalars", from_step=16)
    model.learn(300)
    model.logger.close()
    assert [path.name for path in (tmp_path / "scalars").iterdir()] == ["events.out.tfevents.000000000016"]
