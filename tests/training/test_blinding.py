"""A policy that is to see some entries only: whatever the others hold, it says the same."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm

from strategy.observation import N_OBSERVATION
from strategy.policy import Ensemble
from tests.training.members import PLANS, PRACTICE, SCORED, plan, stopping_after, told_of, trained
from training.algorithms import build_model, deterministic_act
from training.blinding import ignore_unseen
from training.errors import Interrupted
from training.export import build_actor, export_actor
from training.inputs import INPUTS
from training.member import train_member
from training.member_run import practice_of
from training.model_state import weights_of
from training.plan import MemberPlan

SEEN = ("above_240", "above_2400", "volatility_level", "exposure")
UNSEEN = [index for index, name in enumerate(INPUTS) if name not in SEEN]
FIRST_LAYERS = {
    "sac": {"actor.latent_pi.0", *(f"{of}.qf{n}.0" for of in ("critic", "critic_target") for n in (0, 1))},
    "ppo": {"mlp_extractor.policy_net.0", "mlp_extractor.value_net.0"},
    "a2c": {"mlp_extractor.policy_net.0", "mlp_extractor.value_net.0"},
    "dqn": {"q_net.q_net.0", "q_net_target.q_net.0"},
}
WITHOUT_HIDDEN = {
    "sac": FIRST_LAYERS["sac"] - {"actor.latent_pi.0"} | {"actor.mu", "actor.log_std"},
    "ppo": {"action_net", "value_net"},
    "dqn": FIRST_LAYERS["dqn"],
}


def seeing(chosen: MemberPlan, inputs: tuple[str, ...] = SEEN, **settings: Any) -> MemberPlan:
    return replace(chosen, settings=replace(chosen.settings, inputs=inputs, **settings))


def blind_layers(model: BaseAlgorithm) -> set[str]:
    """Return the layers whose weights of what is not seen are all exactly zero, while others are not."""
    wide = {
        name: array for name, array in weights_of(model).items() if array.ndim == 2 and array.shape[1] >= N_OBSERVATION
    }
    return {
        name.removesuffix(".weight")
        for name, array in wide.items()
        if not array[:, UNSEEN].any() and array[:, [INPUTS.index(seen) for seen in SEEN]].any()
    }


def pairs(count: int = 300) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return observations twice: equal in what is seen, anything the space allows in the rest."""
    rng = np.random.default_rng(5)
    one = rng.uniform(-1.0, 1.0, (count, N_OBSERVATION)).astype(np.float32)
    other = one.copy()
    other[:, UNSEEN] = rng.uniform(-2.0, 2.0, (count, len(UNSEEN))).astype(np.float32)
    return one, other


# ---- fresh models -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("algorithm", FIRST_LAYERS)
def test_every_network_of_a_fresh_model_ignores_what_is_not_to_be_seen(algorithm: str) -> None:
    chosen = seeing(PLANS[algorithm])
    assert blind_layers(build_model(chosen, practice_of([PRACTICE], chosen))) == FIRST_LAYERS[algorithm]


@pytest.mark.parametrize("algorithm", WITHOUT_HIDDEN)
def test_networks_without_hidden_layers_do_too(algorithm: str) -> None:
    chosen = seeing(PLANS[algorithm], net_arch=())
    assert blind_layers(build_model(chosen, practice_of([PRACTICE], chosen))) == WITHOUT_HIDDEN[algorithm]


def test_a_hidden_layer_as_wide_as_an_observation_is_left_alone() -> None:
    chosen = seeing(PLANS["sac"], net_arch=(N_OBSERVATION, N_OBSERVATION))
    weights = weights_of(build_model(chosen, practice_of([PRACTICE], chosen)))
    assert np.count_nonzero(weights["actor.latent_pi.2.weight"]) > 0.99 * N_OBSERVATION**2
    assert not weights["actor.latent_pi.0.weight"][:, UNSEEN].any()


def test_what_a_critic_reads_of_the_action_stays() -> None:
    chosen = seeing(PLANS["sac"])
    weights = weights_of(build_model(chosen, practice_of([PRACTICE], chosen)))
    assert weights["critic.qf0.0.weight"][:, N_OBSERVATION:].all()


def test_without_names_nothing_is_changed() -> None:
    chosen = plan()
    model = build_model(chosen, practice_of([PRACTICE], chosen))
    before = {name: array.copy() for name, array in weights_of(model).items()}
    ignore_unseen(model, (), chosen.settings.net_arch)
    assert all(np.array_equal(array, before[name]) for name, array in weights_of(model).items())


# ---- practice ---------------------------------------------------------------------------------------------------
def test_practice_shows_zeros_where_nothing_is_to_be_seen_and_else_the_same() -> None:
    plain, masked = (practice_of([PRACTICE], each) for each in (plan(), seeing(plan())))
    for env in (plain, masked):
        env.seed(3)
    whole, part = plain.reset(), masked.reset()
    rng, ended = np.random.default_rng(1), 0
    for _ in range(130):  # two episodes and a part
        assert isinstance(whole, np.ndarray)
        assert isinstance(part, np.ndarray)
        kept = [index for index in range(N_OBSERVATION) if index not in UNSEEN]
        assert part[:, kept].tobytes() == whole[:, kept].tobytes()
        assert not part[:, UNSEEN].any()
        actions = rng.uniform(0.0, 1.0, (2, 3)).astype(np.float32)
        whole, rewards, _, _ = plain.step(actions)
        part, same, dones, infos = masked.step(actions)
        assert same.tobytes() == rewards.tobytes()
        for index in np.flatnonzero(dones):
            ended += 1
            assert not infos[index]["terminal_observation"][UNSEEN].any()
            assert infos[index]["terminal_observation"][kept].any()
    assert ended >= 4


@pytest.mark.parametrize("name", ["sac", "sac-gsde", "ppo", "a2c", "dqn"])
def test_training_leaves_the_weights_of_what_is_not_seen_at_exactly_zero(tmp_path: Path, name: str) -> None:
    chosen = seeing(PLANS[name])
    fresh = weights_of(build_model(chosen, practice_of([PRACTICE], chosen)))
    fresh = {key: array.copy() for key, array in fresh.items()}
    result = trained(tmp_path / "member", chosen)
    assert blind_layers(result.model) == FIRST_LAYERS[chosen.algorithm]
    first = f"{min(FIRST_LAYERS[chosen.algorithm])}.weight"
    assert not np.array_equal(weights_of(result.model)[first], fresh[first])
    one, other = pairs()
    act = deterministic_act(result.model)
    assert act(one).tobytes() == act(other).tobytes()


def test_an_exported_actor_says_the_same_whatever_the_rest_holds(tmp_path: Path) -> None:
    model: Any = trained(tmp_path / "member", seeing(plan())).model
    ensemble = Ensemble([build_actor(export_actor(model), "exported")], [1.0])
    one, other = pairs()
    assert ensemble.act(one).tobytes() == ensemble.act(other).tobytes()
    assert len(np.unique(ensemble.act(one)[:, 0, 0])) > 20  # and what it sees matters


def test_a_member_that_is_resumed_ends_with_the_same_weights(tmp_path: Path) -> None:
    chosen = seeing(plan())
    whole = told_of(trained(tmp_path / "whole", chosen))
    with pytest.raises(Interrupted):
        trained(tmp_path / "parts", chosen, should_stop=stopping_after(3))
    assert told_of(trained(tmp_path / "parts", chosen)) == whole


def test_a_checkpoint_of_other_inputs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        trained(tmp_path / "member", seeing(plan()), should_stop=stopping_after(3))
    with pytest.raises(Exception, match="inputs was"):
        trained(tmp_path / "member", seeing(plan(), inputs=("exposure",)))


# ---- what is taken over -----------------------------------------------------------------------------------------
def test_what_is_taken_over_is_blinded_before_it_learns(tmp_path: Path) -> None:
    filled: list[float] = []

    def fill(model: BaseAlgorithm) -> None:
        for name, tensor in model.policy.state_dict().items():
            if name.endswith(".weight"):
                tensor.fill_(0.01)
        filled.append(1.0)

    chosen = seeing(plan())
    (tmp_path / "member").mkdir()
    result = train_member([PRACTICE], [SCORED], chosen, tmp_path / "member", prepare=fill)
    assert filled
    assert blind_layers(result.model) == FIRST_LAYERS["sac"]
