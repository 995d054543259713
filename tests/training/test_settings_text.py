import json
from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategy.parameters import CostModel, RiskLimits, StrategyParameters
from training.episode import Episode, Randomisation
from training.errors import TrainingError
from training.market import Conditions
from training.plan import MemberPlan, Settings, Validation
from training.reward import REWARDS
from training.settings_text import apply, describe, keys, overrides, plan_from

PLAN = MemberPlan(seed=7, steps=1_000)


# ---- overrides --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("batch_size=512", replace(PLAN, settings=Settings(batch_size=512))),
        ("buffer_size=5e5", replace(PLAN, settings=Settings(buffer_size=500_000))),
        ("learning_rate=1e-4", replace(PLAN, settings=Settings(learning_rate=1e-4))),
        ("gamma=1", replace(PLAN, settings=Settings(gamma=1.0))),
        ("final_learning_rate=1e-5", replace(PLAN, settings=Settings(final_learning_rate=1e-5))),
        ("final_learning_rate=none", PLAN),
        ("net_arch=256,256", replace(PLAN, settings=Settings(net_arch=(256, 256)))),
        ("net_arch=32", replace(PLAN, settings=Settings(net_arch=(32,)))),
        ("net_arch=", replace(PLAN, settings=Settings(net_arch=()))),
        ("use_sde=true", replace(PLAN, settings=Settings(use_sde=True))),
        ("use_sde=False", PLAN),
        ("gradient_steps=-1", replace(PLAN, settings=Settings(gradient_steps=-1))),
        (" tau = 0.01 ", replace(PLAN, settings=Settings(tau=0.01))),
        ("reward.cost=0.1", replace(PLAN, reward=replace(REWARDS["timing"], cost=0.1))),
        ("episode.length=2000", replace(PLAN, episode=Episode(length=2_000))),
        ("episode.shortest=500", replace(PLAN, episode=Episode(shortest=500))),
        ("episode.length=none", replace(PLAN, episode=Episode(length=None))),
        ("randomisation.most_delay=1", replace(PLAN, randomisation=Randomisation(most_delay=1))),
        ("randomisation.fee=0.5,2", replace(PLAN, randomisation=Randomisation(fee=(0.5, 2.0)))),
        ("randomisation.offset=true", replace(PLAN, randomisation=Randomisation(offset=True))),
        (
            "inputs=above_240, above_600,exposure",
            replace(PLAN, settings=Settings(inputs=("above_240", "above_600", "exposure"))),
        ),
        ("inputs=", PLAN),
        (
            "strategy.decide_every=24",
            replace(PLAN, conditions=Conditions(strategy=StrategyParameters(decide_every=24))),
        ),
        ("validation.patience=3", replace(PLAN, validation=Validation(patience=3))),
        ("validation=none", PLAN),
        ("costs.fee_rate=0.002", replace(PLAN, conditions=Conditions(costs=CostModel(fee_rate=0.002)))),
        ("risk.max_position=0.25", replace(PLAN, conditions=Conditions(limits=RiskLimits(max_position=0.25)))),
        ("strategy.edge_horizon=6", replace(PLAN, conditions=Conditions(strategy=StrategyParameters(edge_horizon=6)))),
    ],
)
def test_an_override_changes_its_setting_and_nothing_else(text: str, expected: MemberPlan) -> None:
    got = apply(PLAN, [text])
    assert got == expected
    assert repr(got) == repr(expected)  # kinds too: 1.0 is not 1


def test_overrides_are_taken_together_in_any_order() -> None:
    texts = ["reward.excess_return=0", "reward.drawdown=0", "reward.log_return=1"]  # each order passes through nothing
    wanted = replace(REWARDS["timing"], excess_return=0.0, drawdown=0.0, log_return=1.0)
    assert apply(PLAN, texts).reward == apply(PLAN, texts[::-1]).reward == wanted
    assert apply(PLAN, []) == PLAN


def test_validation_can_be_switched_off_again() -> None:
    scored = replace(PLAN, validation=Validation(every=50))
    assert apply(scored, ["validation=none"]) == PLAN
    assert apply(scored, ["validation.patience=2"]).validation == Validation(every=50, patience=2)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["batch_size"], "--set batch_size: give a key and a value, such as batch_size=512"),
        (["bacth_size=5"], "--set bacth_size=5: unknown key 'bacth_size'; nearest known: batch_size, "),
        (["fee_rate=1"], "unknown key 'fee_rate'; nearest known: costs.fee_rate"),
        (["limits.max_drawdown=0.1"], "unknown key 'limits.max_drawdown'; nearest known: risk.max_drawdown"),
        (["=5"], "--set =5: unknown key ''; nearest known: "),
        (["seed=5"], "--set seed=5: seed is not a setting: give the option --seed"),
        (["steps=5"], "--set steps=5: steps is not a setting: give the option --steps"),
        (["validation=5"], "give validation=none, or one of its settings: validation.every, validation.patience, "),
        (["tau=0.1", "tau=0.2"], "--set tau=0.2: tau is given twice: give it once"),
        (["validation=none", "validation.every=5"], "--set validation=none: another --set gives a setting of it"),
        (["batch_size=abc"], "--set batch_size=abc: batch_size 'abc': give a whole number within 1 .. 1000000"),
        (["batch_size="], "--set batch_size=: batch_size '': give a whole number within 1 .. 1000000"),
        (["batch_size=2.5"], "--set batch_size=2.5: batch_size 2.5: give a whole number within 1 .. 1000000"),
        (["buffer_size=1e400"], "buffer_size inf: give a whole number"),
        (["batch_size=" + "9" * 5_000], "batch_size inf: give a whole number"),
        (["learning_rate=nan"], "learning_rate nan: give a number within 1e-09 .. 1.0"),
        (["learning_rate=none"], "learning_rate 'none': give a number"),
        (["use_sde=1"], "use_sde '1': give true or false"),
        (["net_arch=64,x"], "net_arch 'x': give a whole number within 1 .. 65536"),
        (["randomisation.fee=2"], "randomised fee factors (2.0,): give the lowest and the highest, such as 0.5,2"),
        (["reward.cost=-1"], "--set reward.cost=-1: reward cost -1.0: give a number within 0.0 .. 1000.0"),
        (["reward.excess_return=0", "reward.drawdown=0"], "every weight of the reward is 0"),
        (["costs.fee_rate=x"], "--set costs.fee_rate=x: fee_rate 'x' is not a number; it must lie within 0.0 .. 0.1"),
        (["costs.participation=7"], "--set costs.participation=7: participation 7.0 is outside 1e-06 .. 1.0"),
        (["strategy.edge_horizon=1.5"], "edge_horizon 1.5 is not a whole number; it must lie within 1 .. 10000"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 30 else "",
)
def test_a_wrong_override_says_where_what_and_what_is_right(texts: list[str], message: str) -> None:
    with pytest.raises(TrainingError) as caught:
        apply(PLAN, texts)
    assert message in str(caught.value)


@given(text=st.text(max_size=30) | st.builds("{}={}".format, st.sampled_from(keys()), st.text(max_size=12)))
def test_whatever_is_typed_gives_a_plan_or_one_clear_error(text: str) -> None:
    try:
        made = apply(PLAN, [text])
    except TrainingError as error:
        assert "--set" in str(error)  # noqa: PT017 - either outcome is right
    else:
        assert isinstance(made, MemberPlan)


# ---- round trips ------------------------------------------------------------------------------------------------
def numbers(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_subnormal=False)


PLANS = st.builds(
    MemberPlan,
    seed=st.integers(0, 2**32 - 1),
    steps=st.integers(1, 10**9),
    algorithm=st.sampled_from(["sac", "ppo", "a2c", "dqn"]),
    settings=st.builds(
        Settings,
        learning_rate=numbers(1e-9, 1.0),
        final_learning_rate=st.none() | numbers(0.0, 1.0),
        buffer_size=st.integers(1, 10**9),
        gradient_steps=st.sampled_from([-1, 1, 8]),
        use_sde=st.booleans(),
        net_arch=st.lists(st.integers(1, 65_536), max_size=4).map(tuple),
    ),
    conditions=st.builds(
        Conditions,
        strategy=st.builds(StrategyParameters, volatility_target=numbers(0.01, 10.0)),
        limits=st.builds(RiskLimits, halt_cooldown=st.integers(0, 10**6)),
        costs=st.builds(CostModel, fee_rate=numbers(0.0, 0.1), slippage_rate=numbers(0.0, 0.1)),
    ),
    reward=st.sampled_from(list(REWARDS.values())),
    episode=st.builds(Episode, length=st.none() | st.integers(1, 10**8))
    | st.builds(Episode, length=st.integers(50, 99), shortest=st.integers(1, 50)),
    randomisation=st.builds(
        Randomisation, fee=numbers(0.0, 1.0).map(lambda low: (low, 10.0)), most_delay=st.integers(0, 24)
    ),
    validation=st.none() | st.builds(Validation, every=st.integers(1, 10**9), min_delta=numbers(0.0, 1e9)),
)


@settings(max_examples=60)
@given(plan=PLANS)
def test_a_described_plan_comes_back_through_json(plan: MemberPlan) -> None:
    told = describe(plan)
    assert repr(plan_from(json.loads(json.dumps(told, allow_nan=False)))) == repr(plan)
    assert plan_from(told) == plan


@settings(max_examples=60)
@given(base=PLANS, plan=PLANS)
def test_the_overrides_between_two_plans_turn_one_into_the_other(base: MemberPlan, plan: MemberPlan) -> None:
    wanted = replace(plan, seed=base.seed, steps=base.steps, algorithm=base.algorithm)
    assert repr(apply(base, overrides(base, plan))) == repr(wanted)
    assert overrides(plan, plan) == []


def test_overrides_say_only_what_differs() -> None:
    changed = apply(PLAN, ["batch_size=512", "net_arch=8,8", "episode.length=none", "use_sde=true"])
    assert sorted(overrides(PLAN, changed)) == ["batch_size=512", "episode.length=none", "net_arch=8,8", "use_sde=true"]
    scored = replace(PLAN, validation=Validation())
    assert overrides(PLAN, scored) == ["validation.every=10000", "validation.patience=0", "validation.min_delta=0.0"]
    assert overrides(scored, PLAN) == ["validation=none"]


def leaves(value: Any) -> int:
    """Return how many values a record holds, records inside it counted by theirs."""
    return sum(leaves(getattr(value, field.name)) for field in fields(value)) if is_dataclass(value) else 1


def test_nothing_of_a_plan_is_left_out() -> None:
    scored = replace(PLAN, validation=Validation())
    told = describe(scored)
    assert len(told) == leaves(scored)
    assert set(told) == {"seed", "steps", "algorithm", *keys()}
    assert describe(PLAN).keys() == {key for key in told if not key.startswith("validation.")} | {"validation"}


def test_a_description_is_flat_and_of_json_types() -> None:
    told = describe(apply(PLAN, ["randomisation.fee=0.5,2"]))
    assert told["net_arch"] == [64, 64]
    assert told["randomisation.fee"] == [0.5, 2.0]
    assert told["risk.max_drawdown"] == 0.15
    assert told["seed"] == 7
    assert told["validation"] is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"color": "red"}, "plan: unknown or missing keys: color: another version of sacd wrote it"),
        ({"validation": 3}, "plan: validation 3: give null, or its settings"),
        ({"validation.every": 5}, "plan: unknown or missing keys: validation.every: "),
        ({"batch_size": "512"}, "plan: batch_size '512': give a whole number"),
        ({"batch_size": None}, "plan: batch_size None: give a whole number"),
        ({"tau": [0.1]}, "plan: tau (0.1,): give a number"),
        ({"costs.fee_rate": "x"}, "plan: fee_rate 'x' is not a number"),
        ({"use_sde": "false"}, "plan: use_sde 'false': give true or false"),
        ({"net_arch": 64}, "plan: net_arch 64: give the widths"),
        ({"seed": "7"}, "seed '7': give a whole number"),
        ({"algorithm": ["sac"]}, "algorithm ['sac']: give one of sac"),
    ],
    ids=str,
)
def test_a_description_that_was_tampered_with_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError) as caught:
        plan_from(describe(PLAN) | changes)
    assert message in str(caught.value)


def test_a_description_that_lacks_a_key_is_refused() -> None:
    told = describe(PLAN)
    del told["tau"], told["validation"]
    with pytest.raises(TrainingError, match=r"missing keys: tau, validation\.every, validation\.min_delta, valid"):
        plan_from(told)
