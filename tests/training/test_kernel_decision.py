"""The compiled action rule against strategy/decision.py, with one vote and with those of an ensemble."""

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from strategy.decision import Action, Rule, decide
from strategy.parameters import CostModel, StrategyParameters
from tests.fakes.trading import BTC
from training import kernel_decision
from training.kernel_records import ACCOUNT, MARKET, REASONS
from training.reward import ActionKind

KINDS = {Action.HOLD: ActionKind.HOLD, Action.BUY: ActionKind.BUY, Action.SELL: ActionKind.SELL}
YEAR = 8_760.0
EDGES = st.sampled_from([-1.0, -0.3, 0.3, 0.0, 1.0, -0.0])
VOTE = st.tuples(st.floats(-1, 1, width=32) | EDGES, st.floats(0, 1, width=32), st.floats(0, 1, width=32))
PARAMETERS = st.builds(
    StrategyParameters,
    dead_band=st.sampled_from([0.0, 0.02, 0.2]),
    edge_multiple=st.sampled_from([0.0, 1.0, 3.0]),
    edge_horizon=st.sampled_from([1, 24]),
    disagreement_limit=st.sampled_from([0.0, 0.3, 0.6, 1.0]),
    volatility_target=st.sampled_from([0.05, 0.3, 10.0]),
)


def records(parameters: StrategyParameters, costs: CostModel, max_position: float) -> tuple[np.ndarray, np.ndarray]:
    """Return a market and an account with what the rule reads."""
    market, account = np.zeros(1, MARKET), np.zeros(1, ACCOUNT)
    for name in ("dead_band", "disagreement_limit", "volatility_target"):
        market[name] = getattr(parameters, name)
    market["root_year"], market["root_horizon"] = np.sqrt(YEAR), np.sqrt(parameters.edge_horizon)
    market["max_position"] = max_position
    account["edge_cost"] = parameters.edge_multiple * costs.round_trip_rate
    return market, account


@settings(max_examples=800, deadline=None)
@given(
    votes=st.lists(VOTE, min_size=1, max_size=5),
    parts=st.lists(st.floats(0.05, 1.0), min_size=5, max_size=5),
    parameters=PARAMETERS,
    now=st.tuples(
        st.sampled_from([0.0, 0.01, 0.2, 0.5, 1.2]) | st.floats(0.0, 1.0),
        st.sampled_from([0.0, 1e-4, 0.005, 0.05]),
        st.sampled_from([0.05, 0.5, 1.0]),
    ),
)
def test_action_target_and_reason_are_those_of_the_rule(
    votes: list[tuple[float, float, float]],
    parts: list[float],
    parameters: StrategyParameters,
    now: tuple[float, float, float],
) -> None:
    exposure, volatility, max_position = now
    cast = np.array(votes, np.float32)
    weights = np.array(parts[: len(votes)]) / sum(parts[: len(votes)])
    costs = CostModel()
    rule = Rule(
        parameters=parameters,
        costs=costs,
        max_position=max_position,
        weights=tuple(weights.tolist()),
        candles_per_year=YEAR,
    )
    expected = decide(rule, BTC, cast, exposure, volatility)
    markets, accounts = records(parameters, costs, max_position)
    mean: Any = kernel_decision.mean_of(cast, weights)
    assert mean == (expected.direction, expected.size, expected.confidence, expected.disagreement)
    kernel_decision.decide(markets[0], accounts[0], mean, exposure, volatility)
    assert accounts["target"][0] == expected.target
    assert REASONS[accounts["verdict"][0]].value == expected.reason.value
    assert accounts["action"][0] == KINDS[expected.action]


@given(VOTE)
def test_one_vote_alone_is_its_own_mean(vote: tuple[float, float, float]) -> None:
    cast = np.array([vote], np.float32)
    assert kernel_decision.alone(*cast[0].tolist()) == kernel_decision.mean_of(cast, np.ones(1))
