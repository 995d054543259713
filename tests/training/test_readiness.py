import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from strategy.parameters import CostModel
from tests.training.tracks import metrics_of
from training import rules
from training.errors import TrainingError
from training.metrics import Metrics
from training.readiness import (
    VOLATILITY_TARGETED,
    Thresholds,
    action_deviation,
    criteria,
    is_ready,
    read_thresholds,
    summary,
    vetoes,
)

GOOD = metrics_of(
    sharpe=1.5,
    max_drawdown=0.1,
    alpha=0.05,
    win_rate=0.6,
    calmar=1.0,
    positive_months=0.75,
    actions={"buy": 0.45, "sell": 0.30, "hold": 0.25},
    trades=200,
    round_trips=90,
    days=400,
)
THRESHOLDS = Thresholds()
COSTS = CostModel(fee_rate=0.001, slippage_rate=0.0005)
WORSE = {VOLATILITY_TARGETED: replace(GOOD, sharpe=1.1)}


def fired(metrics: Metrics = GOOD, *, deflated: float | None = 0.99, is_seen: bool = False, **other: Any) -> list[str]:
    beside, costs = other.get("baselines", WORSE), other.get("costs", COSTS)
    found = vetoes(metrics, beside, deflated, THRESHOLDS, is_seen=is_seen, costs=costs, trained=COSTS)
    return [veto.name for veto in found if veto.fired]


def test_the_targets_are_those_of_the_guide() -> None:
    wanted = {criterion.name: criterion.wanted for criterion in criteria(GOOD, THRESHOLDS)}
    assert wanted == {
        "Sharpe ratio": "> 1.2",
        "maximum drawdown": "< 15.0%",
        "alpha": "> 2.0%",
        "win rate": "> 55.0%",
        "Calmar ratio": "> 0.8",
        "positive months": "> 70.0%",
        "action mix": "within 15.0% of 40% / 30% / 30% (buy / sell / hold)",
    }


def test_good_figures_pass_everything() -> None:
    assert all(criterion.passed for criterion in criteria(GOOD, THRESHOLDS))
    assert fired() == []


@pytest.mark.parametrize(
    ("changes", "failed"),
    [
        ({"sharpe": 1.2}, "Sharpe ratio"),
        ({"max_drawdown": 0.15}, "maximum drawdown"),
        ({"alpha": 0.02}, "alpha"),
        ({"win_rate": 0.55}, "win rate"),
        ({"calmar": 0.8}, "Calmar ratio"),
        ({"positive_months": 0.7}, "positive months"),
        ({"actions": {"buy": 0.56, "sell": 0.22, "hold": 0.22}}, "action mix"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_value_on_the_threshold_does_not_pass(changes: dict[str, Any], failed: str) -> None:
    found = criteria(replace(GOOD, **changes), THRESHOLDS)
    assert [criterion.name for criterion in found if not criterion.passed] == [failed]


@pytest.mark.parametrize("name", ["sharpe", "alpha", "win_rate", "calmar", "positive_months"])
def test_what_is_not_defined_does_not_pass(name: str) -> None:
    found = criteria(replace(GOOD, **{name: None}), THRESHOLDS)
    [failed] = [criterion for criterion in found if not criterion.passed]
    assert failed.value is None


@pytest.mark.parametrize(
    ("actions", "deviation"),
    [
        ({"buy": 0.40, "sell": 0.30, "hold": 0.30}, 0.0),
        ({"buy": 0.55, "sell": 0.15, "hold": 0.30}, 0.15),
        ({"buy": 1.0, "sell": 0.0, "hold": 0.0}, 0.6),
        ({"buy": 0.0, "sell": 0.0, "hold": 0.0}, None),
        ({}, None),
    ],
)
def test_the_mix_is_as_far_off_as_its_worst_action(actions: dict[str, float], deviation: float | None) -> None:
    assert action_deviation(actions) == (None if deviation is None else pytest.approx(deviation))


def test_a_mix_at_the_edge_passes_whatever_rounding_did() -> None:
    edge = replace(GOOD, actions={"buy": 0.55, "sell": 0.15, "hold": 0.30})
    assert criteria(edge, THRESHOLDS)[-1].passed


def test_the_name_of_the_baseline_is_that_of_the_rules() -> None:
    assert VOLATILITY_TARGETED == rules.VOLATILITY_TARGETED


# ---- vetoes -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("changes", "veto"),
    [
        ({"actions": {"buy": 0.96, "sell": 0.02, "hold": 0.02}}, "degenerate actions"),
        ({"trades": 0, "round_trips": 90}, "degenerate actions"),
        ({"round_trips": 29}, "too few trades"),
        ({"days": 179}, "too short"),
        ({"sharpe": 1.09}, "worse than volatility-targeted hold"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_one_reason_is_enough_to_refuse(changes: dict[str, Any], veto: str) -> None:
    assert fired(replace(GOOD, **changes)) == [veto]


@pytest.mark.parametrize(("value", "fires"), [(0.94, True), (0.95, False), (None, True)])
def test_a_deflated_sharpe_ratio_below_95_percent_refuses(value: float | None, fires: bool) -> None:
    assert fired(deflated=value) == (["deflated Sharpe ratio"] if fires else [])


def test_seen_candles_refuse() -> None:
    assert fired(is_seen=True) == ["seen candles"]


@pytest.mark.parametrize("name", ["fee_rate", "slippage_rate"])
@pytest.mark.parametrize(("times", "fires"), [(0.0, True), (0.99, True), (1.0, False), (2.0, False)])
def test_costs_below_those_of_the_training_refuse(name: str, times: float, fires: bool) -> None:
    costs = replace(COSTS, **{name: times * getattr(COSTS, name)})
    assert fired(costs=costs) == (["lower costs"] if fires else [])


@pytest.mark.parametrize("ours", [True, False], ids=["of the ensemble", "of the baseline"])
def test_a_comparison_that_cannot_be_made_refuses(ours: bool) -> None:
    nothing = replace(GOOD, sharpe=None)
    names = fired(nothing) if ours else fired(baselines={VOLATILITY_TARGETED: nothing})
    assert names == ["worse than volatility-targeted hold"]


def test_equal_to_the_baseline_is_not_worse() -> None:
    assert fired(baselines={VOLATILITY_TARGETED: GOOD}) == []


# ---- the verdict ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("failing", "ready"), [(0, True), (1, True), (2, False)])
def test_four_fifths_of_the_criteria_must_pass(failing: int, ready: bool) -> None:
    changes = dict(list({"sharpe": 1.15, "alpha": 0.0}.items())[:failing])
    found = criteria(replace(GOOD, **changes), THRESHOLDS)
    silent = vetoes(GOOD, WORSE, 0.99, THRESHOLDS, is_seen=False, costs=COSTS, trained=COSTS)
    assert is_ready(found, silent, THRESHOLDS.share) is ready


def test_a_veto_refuses_whatever_the_criteria_say() -> None:
    few = replace(GOOD, round_trips=3)
    refused = vetoes(few, WORSE, 0.99, THRESHOLDS, is_seen=False, costs=COSTS, trained=COSTS)
    found = criteria(GOOD, THRESHOLDS)
    assert not is_ready(found, refused, THRESHOLDS.share)
    words = summary(found, refused, THRESHOLDS)
    assert words == ("7 of 7 criteria pass (80% are needed); refused, because 3 closed round trips are fewer than 30")


def test_the_summary_of_a_ready_ensemble_says_so() -> None:
    silent = vetoes(GOOD, WORSE, 0.99, THRESHOLDS, is_seen=False, costs=COSTS, trained=COSTS)
    said = summary(criteria(GOOD, THRESHOLDS), silent, THRESHOLDS)
    assert said == "7 of 7 criteria pass (80% are needed) and no veto fires"


def test_the_summary_tells_what_made_it_easier() -> None:
    silent = vetoes(GOOD, WORSE, 0.99, THRESHOLDS, is_seen=False, costs=COSTS, trained=COSTS)
    loose = Thresholds(sharpe=1.0, max_drawdown=0.3, alpha=0.05)
    said = summary(criteria(GOOD, THRESHOLDS), silent, loose, ["stop_loss 0.2 instead of 0.1"])
    assert said == (
        "7 of 7 criteria pass (80% are needed) and no veto fires; thresholds were loosened: sharpe 1 instead of 1.2, "
        "max_drawdown 0.3 instead of 0.15; conditions were changed: stop_loss 0.2 instead of 0.1"
    )


# ---- thresholds -------------------------------------------------------------------------------------------------
def test_thresholds_come_from_a_file_and_then_from_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("sharpe = 1\nround_trips = 10\n")
    found = read_thresholds(file, ["sharpe=0.9", "share = 0.5"])
    assert found == replace(THRESHOLDS, sharpe=0.9, round_trips=10.0, share=0.5)
    assert found.changed() == ["sharpe 0.9 instead of 1.2", "share 0.5 instead of 0.8", "round_trips 10 instead of 30"]


def test_every_threshold_can_be_changed() -> None:
    names = [field.name for field in fields(Thresholds)]
    found = read_thresholds(None, [f"{name}=0.125" for name in names])
    assert {getattr(found, name) for name in names} == {0.125}


@pytest.mark.parametrize("name", [field.name for field in fields(Thresholds)])
def test_a_threshold_is_loosened_by_what_lets_more_pass(name: str) -> None:
    usual = getattr(THRESHOLDS, name)
    upward, downward = (replace(THRESHOLDS, **{name: times * usual}) for times in (1.01, 0.99))
    is_most = name in {"max_drawdown", "action_deviation", "dominant_action"}
    assert bool(upward.loosened()) is is_most
    assert bool(downward.loosened()) is not is_most
    assert THRESHOLDS.loosened() == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sharpe", "--require 'sharpe' is not of the form NAME=VALUE, such as sharpe=1.0"),
        ("sharp=1", "--require: there is no threshold 'sharp': choose of sharpe, max_drawdown, alpha"),
        ("sharpe=much", "--require: sharpe 'much' is not a number"),
        ("sharpe=nan", "threshold sharpe nan is no number: give a finite one"),
        ("share=1.5", "threshold share 1.5 is not a share: give 0 .. 1"),
        ("share=nan", "threshold share nan is not a share"),
    ],
)
def test_impossible_requirements_are_named(text: str, message: str) -> None:
    with pytest.raises(TrainingError, match=re.escape(message)):
        read_thresholds(None, [text])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read (No such file or directory): correct the path"),
        ("sharpe 1", "it is not TOML"),
        ("sharpe = true", "sharpe True is not a number"),
        ("sharpe = [1]", "sharpe [1] is not a number"),
        (f"sharpe = 1{'0' * 400}", "is not a number"),
        ("[more]\nsharpe = 1", "there is no threshold 'more'"),
    ],
)
def test_unreadable_threshold_files_are_named(tmp_path: Path, content: str | None, message: str) -> None:
    file = tmp_path / "mine.toml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(TrainingError, match=re.escape(message)) as raised:
        read_thresholds(file, [])
    assert str(file) in str(raised.value)
