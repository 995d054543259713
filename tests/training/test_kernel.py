"""The compiled environment against its definition: the same bits on every candle, whatever the market and the rules."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from strategy.features import N_FEATURES
from strategy.trader import Reference
from tests.training.markets import FIRST
from tests.training.twins import Twins, always, random_actions, rough_table, setup_with
from training.candles import read_candles
from training.episode import Episode, Randomisation
from training.errors import TrainingError
from training.history import History
from training.market import Conditions, setup_of
from training.reward import REWARDS

COARSE = {"tick": 0.01, "lot": 0.0001, "min_notional": 5.0}
NEAR = Reference.of([0.0] * N_FEATURES, [1.0] * N_FEATURES, 0.54)


def bold(**changes: Any) -> dict[str, Any]:
    """Return parameters that let trades happen, but for `changes`."""
    return {"edge_multiple": 0.0, "volatility_target": 10.0, "dead_band": 0.0, "participation": 1.0} | changes


# ---- everything at once -----------------------------------------------------------------------------------------
MARKETS = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**20),
        "price": st.sampled_from([1e-5, 0.3, 100.0, 64_000.0]),
        "volume": st.sampled_from([0.0, 1e-3, 1.0, 1_000.0, 1e14]),
        "spread": st.sampled_from([0.0002, 0.005, 0.04]),
        "crashes": st.lists(st.tuples(st.integers(1, 99), st.sampled_from([0.05, 0.6, 0.9, 1.4])), max_size=3),
        "gap": st.none() | st.tuples(st.integers(1, 99), st.integers(1, 48)),
    }
)
INSTRUMENTS = st.fixed_dictionaries(
    {
        "tick": st.sampled_from([1e-8, 0.00025, 0.01, 0.5, 0.3]),
        "lot": st.sampled_from([1e-8, 1e-5, 0.25, 1.0, 0.003]),
        "min_notional": st.sampled_from([0.0, 5.0, 500.0]),
    }
)
RULES = st.fixed_dictionaries(
    {},
    optional={
        "dead_band": st.sampled_from([0.0, 0.02, 0.2]),
        "edge_multiple": st.sampled_from([0.0, 1.0, 5.0]),
        "edge_horizon": st.sampled_from([1, 24, 1_000]),
        "volatility_target": st.sampled_from([0.05, 0.3, 10.0]),
        "decide_every": st.sampled_from([1, 3, 24]),
        "decide_offset": st.sampled_from([0, 1, 23, 40]),
        "max_position": st.sampled_from([0.03, 0.5, 1.0]),
        "max_drawdown": st.sampled_from([0.06, 0.15, 0.9]),
        "stop_loss": st.sampled_from([0.002, 0.05, 0.9]),
        "stop_atr_multiple": st.sampled_from([0.0, 1.0, 8.0]),
        "stop_cooldown": st.sampled_from([0, 1, 12]),
        "daily_loss": st.sampled_from([0.003, 0.04, 0.9]),
        "max_orders_per_day": st.sampled_from([1, 3, 48]),
        "max_turnover_per_day": st.sampled_from([0.05, 0.7, 4.0, 1_000.0]),
        "loss_streak": st.sampled_from([1, 2, 5]),
        "loss_streak_cooldown": st.sampled_from([0, 3, 24]),
        "halt_cooldown": st.sampled_from([0, 1, 24]),
        "out_of_distribution": st.sampled_from([0.5, 1.0, 1.5]),
        "fee_rate": st.sampled_from([0.0, 0.001, 0.009]),
        "slippage_rate": st.sampled_from([0.0, 0.0005, 0.009]),
        "participation": st.sampled_from([1e-6, 0.05, 1.0]),
    },
)
VARIED = st.sampled_from(
    [
        None,
        Randomisation(most_delay=3),
        Randomisation(fee=(0.0, 10.0), slippage=(0.5, 9.0), most_delay=24),
        Randomisation(most_delay=2, offset=True),
    ]
)
POLICIES: dict[str, Callable[[int], NDArray[np.float32]]] = {
    "random": lambda seed: random_actions(seed, 100),
    "stubborn": lambda seed: random_actions(seed, 100, hold=9),
    "buy": lambda seed: always(1.0, 100),
    "small buys": lambda seed: always(1.0, 100, size=0.07),
    "sell": lambda seed: always(-1.0, 100),
    "hold": lambda seed: always(0.0, 100),
    "buy then sell": lambda seed: np.concatenate([always(1.0, 4), always(-1.0, 2)] * 17)[:100],
}


CASES = st.fixed_dictionaries(
    {
        "market": MARKETS,
        "instrument": INSTRUMENTS,
        "rules": RULES,
        "cash": st.sampled_from([6.0, 10_000.0, 1e7]),
        "reward": st.sampled_from(sorted(REWARDS)),
        "varied": VARIED,
        "reference": st.sampled_from([None, NEAR]),
        "policy": st.sampled_from(sorted(POLICIES)),
        "seed": st.integers(0, 2**32 - 1),
    }
)


def twins_of(case: dict[str, Any]) -> Twins:
    """Return the twins of a case; those that rounding to 15 digits cannot serve are refused, which is no failure."""
    history = History(rough_table(after=101, **case["market"]), 48)
    named = {"cash": case["cash"], "reward": REWARDS[case["reward"]], "reference": case["reference"]}
    try:
        setup = setup_with(case["instrument"], **case["rules"])
        return Twins([history], setup, episode=Episode(length=90), randomisation=case["varied"], **named)
    except TrainingError as error:
        assume("too many digits" not in str(error))
        raise


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(CASES)
def test_every_bit_is_the_definitions_whatever_the_market_the_rules_and_the_policy(case: dict[str, Any]) -> None:
    assume(case["instrument"]["tick"] < case["market"]["price"])
    twins = twins_of(case)
    twins.episode(POLICIES[case["policy"]](case["seed"]), seed=case["seed"])
    assert twins.steps >= 1


# ---- every rule has its turn ------------------------------------------------------------------------------------
CRASH = {"crashes": [(20, 0.8), (60, 0.7), (110, 0.5)]}
TO_AND_FRO = np.concatenate([always(1.0, 1), always(-1.0, 1)] * 75)
SLOWLY = np.concatenate([always(1.0, 2), always(-1.0, 2)] * 37)
BUY = always(1.0, 150)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A market, an account and its rules, what is voted, and the reasons that must come up."""

    reasons: set[str]
    actions: NDArray[np.float32] = field(default_factory=BUY.copy)
    rules: dict[str, Any] = field(default_factory=bold)
    market: dict[str, Any] = field(default_factory=dict)
    named: dict[str, Any] = field(default_factory=dict)


SCENES = {
    "usual": Scene(
        reasons={"voted", "neutral", "dead_band", "edge_below_cost"}, actions=random_actions(1, 150), rules={}
    ),
    "drawdown halts and resumes": Scene(
        reasons={"max_drawdown_exceeded", "halted"}, rules=bold(max_position=1.0, halt_cooldown=24), market=CRASH
    ),
    "stop and its cool-down": Scene(
        reasons={"stop_loss_triggered", "stop_cooldown"},
        rules=bold(stop_loss=0.02, stop_cooldown=3, participation=0.001),
        market={"spread": 0.02},
    ),
    "loss streak": Scene(
        reasons={"loss_streak"}, actions=SLOWLY, rules=bold(loss_streak=2, stop_cooldown=0, fee_rate=0.01)
    ),
    "daily loss": Scene(
        reasons={"daily_loss_limit"},
        rules=bold(daily_loss=0.003, stop_loss=0.9, max_drawdown=0.9),
        market={"spread": 0.02},
    ),
    "order rate": Scene(reasons={"order_rate"}, actions=TO_AND_FRO, rules=bold(max_orders_per_day=2)),
    "turnover": Scene(reasons={"turnover_budget"}, actions=TO_AND_FRO, rules=bold(max_turnover_per_day=0.7)),
    "position outgrows its limit": Scene(
        reasons={"max_position_exceeded"}, rules=bold(max_position=0.4), market={"crashes": [(10, 1.5), (50, 1.3)]}
    ),
    "out of distribution": Scene(
        reasons={"out_of_distribution"}, rules=bold(out_of_distribution=0.9), named={"reference": NEAR}
    ),
    "small account": Scene(
        reasons={"minimum_notional", "insufficient_cash"},
        actions=random_actions(4, 150),
        rules=bold(max_position=1.0, fee_rate=0.02),
        named={"cash": 30.0},
    ),
    "thin market": Scene(
        reasons={"voted"},
        actions=random_actions(5, 150, hold=5),
        rules=bold(participation=0.05),
        market={"volume": 9.0},
    ),
    "delayed": Scene(
        reasons={"warming_up", "voted"},
        actions=random_actions(6, 150),
        named={"randomisation": Randomisation(most_delay=5)},
    ),
    "a decision every third candle": Scene(
        reasons={"warming_up", "voted"}, actions=random_actions(8, 150), rules=bold(decide_every=3, decide_offset=1)
    ),
    "one decision a day at any hour": Scene(
        reasons={"warming_up", "voted"},
        actions=random_actions(9, 150),
        rules=bold(decide_every=24),
        named={"randomisation": Randomisation(offset=True), "reward": REWARDS["trend"]},
    ),
    "decisions that come late": Scene(
        reasons={"warming_up", "voted"},
        actions=random_actions(10, 150),
        rules=bold(decide_every=3),
        named={"randomisation": Randomisation(most_delay=3, offset=True)},
    ),
    "a stop between two decisions": Scene(
        reasons={"stop_loss_triggered", "voted"},
        actions=BUY,
        rules=bold(decide_every=12, stop_loss=0.02, stop_cooldown=0, participation=0.001),
        market={"spread": 0.02},
    ),
}


@pytest.mark.parametrize("name", SCENES)
def test_every_rule_has_its_turn_and_every_bit_is_the_definitions(name: str) -> None:
    scene = SCENES[name]
    history = History(rough_table(7, after=151, **scene.market), 48)
    named = {"cash": 10_000.0, "episode": Episode(length=150)} | scene.named
    twins = Twins([history], setup_with(COARSE, **scene.rules), **named)
    for seed in range(4):
        twins.episode(scene.actions, seed=seed)
    assert scene.reasons <= twins.seen, twins.seen
    assert twins.fills > 3


def test_a_crash_takes_the_account_through_all_states() -> None:
    history = History(rough_table(7, after=151, **CRASH), 48)
    rules = bold(max_position=1.0, halt_cooldown=24, participation=0.02)
    twins = Twins([history], setup_with(COARSE, **rules), cash=10_000.0, episode=Episode(length=150))
    twins.episode(always(1.0, 150), seed=0)
    assert twins.states == {"active", "reducing", "halted"}


def test_ruin_ends_both() -> None:
    history = History(rough_table(7, after=101, crashes=[(3, 0.01)]), 48)
    rules = bold(max_position=1.0, max_drawdown=0.99, stop_loss=0.99, stop_atr_multiple=0.0)
    twins = Twins([history], setup_with(COARSE, **rules), cash=10_000.0, episode=Episode(length=None))
    twins.episode(always(1.0, 90), seed=0)
    assert twins.steps <= 3
    assert twins.compiled.accounts.records["equity"][0] < 1_000.0


# ---- gaps -------------------------------------------------------------------------------------------------------
def test_a_broken_window_is_passed_over_in_one_step_by_both() -> None:
    table = rough_table(9, after=FIRST + 100, gap=(20, 49), spread=0.01)
    twins = Twins([History(table, 48)], setup_with(COARSE, **bold()), cash=10_000.0, episode=Episode(length=None))
    twins.episode(random_actions(9, 200), seed=0)
    assert 0 < twins.steps < 130
    assert "warming_up" in twins.seen


def test_a_history_that_ends_inside_a_gap_ends_both() -> None:
    table = rough_table(9, after=101, gap=(50, 49))
    twins = Twins([History(table, 48)], setup_with(COARSE, **bold()), cash=10_000.0, episode=Episode(length=None))
    twins.episode(random_actions(9, 200), seed=0)
    assert twins.steps == 50


def test_an_episode_told_to_start_before_the_first_window_is_the_same() -> None:
    randomised = Randomisation(most_delay=3)
    twins = Twins(
        [History(rough_table(9, after=101), 48)],
        setup_with(COARSE, **bold()),
        cash=10_000.0,
        episode=Episode(length=None),
        randomisation=randomised,
    )
    for start in (0, FIRST - 3, FIRST + 98):
        twins.episode(random_actions(9, 20), seed=1, options={"start": start})


# ---- recorded candles -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("policy", ["random", "stubborn", "buy"])
def test_recorded_candles_give_every_bit_of_the_definition(
    policy: str, recorded_candles: Callable[[str], Path]
) -> None:
    """From August 2017 on, through the outage of February 2018."""
    table = read_candles(recorded_candles("binance/btcusdt-1h.csv.gz"))
    table = table.slice(None, int(table.open_ms[FIRST + 3_000]))
    setup = setup_of([table], Conditions(), "kernel")
    named = {"randomisation": Randomisation(fee=(0.5, 2.0), slippage=(0.5, 2.0), most_delay=1)}
    twins = Twins([History(table, 48)], setup, episode=Episode(length=None), **named)
    actions = {
        "random": random_actions(1, 3_000),
        "stubborn": random_actions(2, 3_000, hold=24),
        "buy": always(1.0, 3_000),
    }
    twins.episode(actions[policy], seed=3)
    assert twins.steps > 1_500
    assert twins.fills > 15
