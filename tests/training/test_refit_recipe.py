from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from strategy.manifest import BundleManifest
from strategy.parameters import CostModel, StrategyParameters
from tests.fakes.bundles import make_manifest, member_record
from tests.training.test_ensemble import DATA, PLAN, SMALL, TABLE, Here
from training.bundles import read_serving_bundle
from training.ensemble import make_run, train_ensemble
from training.errors import TrainingError
from training.held_out import HeldOut
from training.refit_recipe import recipe_of
from training.run_directory import RunDirectory

WORDS = "sacd train --data btc.csv.gz eth.csv.gz"


def manifest(command: str, **changes: Any) -> BundleManifest:
    made = make_manifest((member_record(0, b"", weight=1.0),))
    return make_manifest(
        made.members, **({"training": replace(made.training, command=command, start_ms=0, end_ms=1000)} | changes)
    )


def test_the_recipe_is_the_plan_of_the_command_without_its_span() -> None:
    command = (
        f"{WORDS} --since 2018-01-01 --until 2021-01-01 --preset compact --reward log-return --steps 5000 --members 5 "
        "--seed 9 --spread off --validation 0.25 --weighting score --least-trades 3 "
        "--set net_arch=32,16 --set gamma=0.99"
    )
    plan = recipe_of(manifest(command)).plan
    assert (plan.members, plan.seed, plan.spread, plan.weighting) == (5, 9, False, "score")
    assert (plan.member.steps, plan.member.settings.net_arch, plan.member.settings.gamma) == (5000, (32, 16), 0.99)
    assert plan.held == HeldOut(share=0.25)
    assert plan.gates is not None
    assert plan.gates.least_trades == 3


def test_a_first_day_of_validation_becomes_the_share_of_the_span_that_it_was() -> None:
    told = manifest(f"{WORDS} --validation-from 2021-07-02")
    day_ms, from_ms = 86_400_000, 1_625_184_000_000
    span = replace(told.training, start_ms=from_ms - 300 * day_ms, end_ms=from_ms + 100 * day_ms)
    assert recipe_of(replace(told, training=span)).plan.held == HeldOut(share=0.25)


def test_costs_limits_and_strategy_are_those_of_the_manifest_whatever_the_defaults_are_today() -> None:
    costs, strategy = CostModel(fee_rate=0.002), StrategyParameters(dead_band=0.1)
    conditions = recipe_of(manifest(WORDS, costs=costs.to_json(), strategy=strategy.to_json())).plan.member.conditions
    assert (conditions.costs, conditions.strategy) == (costs, strategy)


def test_fewer_steps_are_scored_as_often_as_they_can_be() -> None:
    member = recipe_of(manifest(f"{WORDS} --steps 50000"), steps=3_000).plan.member
    assert member.steps == 3_000
    assert member.validation is not None
    assert member.validation.every == 3_000


def test_the_manifest_of_a_real_run_gives_back_its_plan(tmp_path: Path) -> None:
    plan = replace(PLAN, member=replace(SMALL, seed=0, steps=300), members=1)
    options = (
        "--preset compact --steps 300 --members 1 --seed 1 --spread on --validation 0.2 --weighting equal --gates off "
        "--set learning_starts=100 --set batch_size=32 --set net_arch=8 --set episode.length=60 "
        "--set validation.every=150"
    )
    run = make_run(plan, (TABLE,), DATA, f"sacd train --data btcusdt-1h.csv {options}")
    with RunDirectory.create(tmp_path / "out", {}) as directory:
        train_ensemble(run, directory, Here(), tell=lambda *_: None)
    recipe = recipe_of(read_serving_bundle(tmp_path / "out").manifest)
    assert recipe.plan == plan
    assert (recipe.symbols, recipe.timeframe) == (("BTC/USDT",), "1h")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("sacd train --data btc.csv --to 2022-01-01", r"does not take it \(unrecognized arguments: --to 2022-01-01\)"),
        ("sacd train --help", r"unrecognized arguments: --help"),
        ("sacd train --data 'btc.csv", "cannot be read: No closing quotation"),
        ("sacd tune --data btc.csv", "is not one of `sacd train`"),
        ("", "is not one of `sacd train`"),
        ("sacd train --data btc.csv --set nonsense=1", "unknown key 'nonsense'"),
        (
            "sacd train --data btc.csv --from 12d8bd9c3c1ad6a2",
            "begins with bundle 12d8bd9c3c1ad6a2, which may have seen",
        ),
    ],
)
def test_a_recipe_that_cannot_be_repeated_is_named(command: str, message: str) -> None:
    with pytest.raises(TrainingError, match=message) as caught:
        recipe_of(manifest(command))
    assert f"recipe `{command}`" in str(caught.value)


def test_too_few_steps_to_learn_are_refused() -> None:
    with pytest.raises(TrainingError, match="2000 steps of a refit end before learning begins: give more than 2000"):
        recipe_of(manifest(WORDS), steps=2_000)


def test_a_bundle_of_other_parameters_is_refused() -> None:
    with pytest.raises(TrainingError, match=r"what it was trained under: .*unknown or missing keys.*train it anew"):
        recipe_of(manifest(WORDS, costs={"fee": 0.001}))
