from dataclasses import replace

import numpy as np
import pytest
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.noise import NormalActionNoise

from tests.training.members import PLANS, PRACTICE
from training import model_state
from training.algorithms import build_model
from training.errors import TrainingError
from training.member_run import practice_of
from training.model_state import capture, is_finite, load_weights, restore, weights_of
from training.packing import pack, unpack
from training.plan import MemberPlan


def learned(plan: MemberPlan, steps: int) -> BaseAlgorithm:
    return build_model(plan, practice_of([PRACTICE], plan)).learn(steps)


@pytest.mark.parametrize("name", ["sac", "sac-gsde", "ppo-gsde", "a2c", "dqn"])
def test_a_restored_model_holds_all_that_was_captured(name: str) -> None:
    kept = pack(capture(learned(PLANS[name], 400)))
    other = learned(replace(PLANS[name], seed=8), 150)
    assert pack(capture(other)) != kept
    restore(other, unpack(kept))
    assert pack(capture(other)) == kept


def test_weights_are_put_in_place() -> None:
    model, other = learned(PLANS["sac"], 300), learned(replace(PLANS["sac"], seed=8), 300)
    held = list(other.policy.parameters())
    load_weights(other, weights_of(model))
    assert all(one is other_one for one, other_one in zip(held, other.policy.parameters(), strict=True))
    mine, theirs = weights_of(model), weights_of(other)
    assert set(mine) == set(theirs)
    assert {"variable.log_ent_coef", "critic_target.qf0.0.weight", "actor.mu.bias"} <= set(mine)
    assert all(np.array_equal(array, theirs[name]) for name, array in mine.items())


def test_one_weight_that_is_no_number_is_found() -> None:
    model = build_model(PLANS["a2c"], practice_of([PRACTICE], PLANS["a2c"]))
    assert is_finite(model)
    weights = {name: array.copy() for name, array in weights_of(model).items()}
    next(iter(weights.values())).flat[-1] = np.inf
    load_weights(model, weights)
    assert not is_finite(model)


def test_an_action_noise_is_refused() -> None:
    model = learned(PLANS["sac"], 20)
    model.action_noise = NormalActionNoise(np.zeros(3), np.ones(3))
    with pytest.raises(TrainingError, match="a model with an action noise cannot be kept for later"):
        capture(model)


def test_a_state_from_a_processor_that_rounds_otherwise_is_restored_with_a_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = unpack(pack(capture(learned(PLANS["sac"], 300))))
    other = learned(PLANS["sac"], 150)
    monkeypatch.setattr(model_state, "arithmetic", lambda device: f"other digits on {device.type}")
    with pytest.warns(RuntimeWarning, match=r"rounds otherwise \(other digits on cpu\) .* the same processor"):
        restore(other, kept)
    assert other.num_timesteps == 304
