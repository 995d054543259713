"""What a search may choose, and how a choice becomes a plan."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from training.errors import TrainingError
from training.plan import MemberPlan
from training.presets import preset_named
from training.reward import REWARDS
from training.settings_text import apply
from training.tune_space import REWARD_WEIGHTS, SPACE, make_search

BASE = MemberPlan(seed=0, steps=10_000, settings=preset_named("improved").settings, reward=REWARDS["guide"])
CHOSEN = {
    "learning_rate": 2.5e-4,
    "buffer_size": 300_000,
    "batch_size": 1024,
    "tau": 0.02,
    "gamma": 0.993,
    "gradient_steps": 3,
    "net_arch": "128,128",
    "reward.excess_return": 0.5,
    "reward.risk_adjusted": 0.25,
    "reward.drawdown": 0.25,
    "reward.volatility": 0.0,
    "reward.diversity": 0.5,
    "reward.cost": 0.5,
}


def test_the_space_is_the_guides() -> None:
    assert {dimension.name: dimension.distribution for dimension in SPACE[:6]} == {
        "learning_rate": FloatDistribution(1e-5, 1e-3, log=True),
        "buffer_size": IntDistribution(100_000, 1_000_000, log=True),
        "batch_size": CategoricalDistribution((256, 512, 1024)),
        "tau": FloatDistribution(0.001, 0.1, log=True),
        "gamma": FloatDistribution(0.99, 0.999),
        "gradient_steps": IntDistribution(1, 8),
    }
    assert [dimension.name for dimension in SPACE[6:]] == ["net_arch", *REWARD_WEIGHTS]


def test_a_choice_becomes_a_plan_with_weights_of_sum_one() -> None:
    plan = make_search(BASE, [], []).plan(CHOSEN)
    assert (plan.settings.learning_rate, plan.settings.net_arch, plan.settings.batch_size) == (2.5e-4, (128, 128), 1024)
    assert (plan.reward.excess_return, plan.reward.drawdown, plan.reward.volatility) == (0.25, 0.125, 0.0)
    assert plan.settings.use_sde == BASE.settings.use_sde


@given(st.lists(st.floats(0.0, 1.0), min_size=6, max_size=6), st.floats(1e-5, 1e-3), st.floats(0.99, 0.999))
def test_the_texts_of_a_choice_give_its_plan_again(weights: list[float], rate: float, gamma: float) -> None:
    search = make_search(BASE, [], [])
    chosen = CHOSEN | dict(zip(REWARD_WEIGHTS, weights, strict=True)) | {"learning_rate": rate, "gamma": gamma}
    plan = search.plan(chosen)
    assert apply(BASE, search.texts(chosen)) == plan
    assert (plan.settings.learning_rate, plan.settings.gamma) == (rate, gamma)
    assert sum(getattr(plan.reward, name.removeprefix("reward.")) for name in REWARD_WEIGHTS) == pytest.approx(1.0)


def test_fixed_settings_are_not_searched_and_keep_their_value() -> None:
    search = make_search(BASE, ["batch_size=64", "tau", "reward.cost=0.2"], ["episode.length=300"])
    assert set(search.distributions) == set(CHOSEN) - {"batch_size", "tau", "reward.cost"}
    chosen = {name: value for name, value in CHOSEN.items() if name in search.distributions}
    plan = search.plan(chosen)
    assert (plan.settings.batch_size, plan.settings.tau, plan.episode.length) == (64, BASE.settings.tau, 300)
    # Five weights share what the fixed one leaves: 0.8 times 0.5 of 1.5.
    assert plan.reward.cost == 0.2
    assert plan.reward.excess_return == pytest.approx(0.8 * 0.5 / 1.5)


def test_fixing_the_reward_keeps_all_its_weights() -> None:
    search = make_search(BASE, ["reward"], [])
    chosen = {name: value for name, value in CHOSEN.items() if name in search.distributions}
    assert not any(name.startswith("reward.") for name in search.distributions)
    assert search.plan(chosen).reward == REWARDS["guide"]


@pytest.mark.parametrize(
    ("fixes", "overrides", "says"),
    [
        (["batchsize=1"], [], "batchsize is not searched, give it with --set; searched are batch_size"),
        ([], ["tau=0.1"], "--set tau=0.1: it is searched: give --fix tau=0.1"),
        (["tau=high"], [], "tau"),
        ([dimension.name for dimension in SPACE], [], "nothing is left to search"),
        (["reward.cost=1.5"], [], "leave nothing to the others"),
        ([], ["no.such=1"], "unknown key"),
    ],
)
def test_what_cannot_be_searched_is_refused(fixes: list[str], overrides: list[str], says: str) -> None:
    with pytest.raises(TrainingError, match=says):
        make_search(BASE, fixes, overrides)


def test_weights_that_are_all_zero_are_taken_as_alike() -> None:
    plan = make_search(BASE, [], []).plan(CHOSEN | dict.fromkeys(REWARD_WEIGHTS, 0.0))
    assert plan.reward.cost == plan.reward.excess_return == pytest.approx(1 / 6)
