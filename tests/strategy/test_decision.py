import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategy.decision import ACTION_HIGH, ACTION_LOW, Action, Decision, DecisionReason, Rule, decide, signed_step
from strategy.errors import StrategyError
from strategy.parameters import CostModel, StrategyParameters

BTC = "BTC/USDT"
BUY, SELL, HOLD = Action.BUY, Action.SELL, Action.HOLD
VOTED, NEUTRAL, DEAD_BAND = DecisionReason.VOTED, DecisionReason.NEUTRAL, DecisionReason.DEAD_BAND
EDGE, DISAGREEMENT = DecisionReason.EDGE_BELOW_COST, DecisionReason.DISAGREEMENT
Vote = tuple[float, float, float]

# Dead band 2 %, at most 50 %, 8,760 candles a year; 0.3 % a candle is 28.08 % a year, so that a target of 30 % allows
# an exposure of 1.068 and bounds nothing; over 25 candles it is a move of 1.5 %, five round trips of 0.3 %.
CALM = 0.003
RULE = Rule(
    parameters=StrategyParameters(
        dead_band=0.02, edge_multiple=1.0, edge_horizon=25, disagreement_limit=0.6, volatility_target=0.3
    ),
    costs=CostModel(fee_rate=0.001, slippage_rate=0.0005),
    max_position=0.5,
    weights=(1.0,),
    candles_per_year=8_760.0,
)


def changed(weights: tuple[float, ...] = (1.0,), **parameters: Any) -> Rule:
    return replace(RULE, weights=weights, parameters=replace(RULE.parameters, **parameters))


def decided(rule: Rule, *votes: Vote, exposure: float = 0.0, volatility: float = CALM) -> Decision:
    # Votes as float64, so that thresholds can be met exactly; the policy's float32 is tested on its own.
    return decide(rule, BTC, np.array(votes, np.float64), exposure, volatility)  # type: ignore[arg-type]


# ---- one vote -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("vote", "step"),
    [
        pytest.param((0.3, 1.0, 1.0), 0.0, id="0.3 exactly is hold"),
        pytest.param((-0.3, 1.0, 1.0), 0.0, id="-0.3 exactly is hold"),
        pytest.param((math.nextafter(0.3, 1.0), 1.0, 1.0), 1.0, id="just above is buy"),
        pytest.param((math.nextafter(-0.3, -1.0), 1.0, 1.0), -1.0, id="just below is sell"),
        pytest.param((0.0, 1.0, 1.0), 0.0, id="neutral"),
        pytest.param((1.0, 0.5, 0.5), 0.25, id="size times confidence"),
        pytest.param((0.31, 0.5, 0.5), 0.25, id="however weak the direction"),
        pytest.param((-0.8, 0.2, 0.9), -0.18, id="sell"),
        pytest.param((1.0, 0.0, 1.0), 0.0, id="no size"),
        pytest.param((1.0, 1.0, 0.0), 0.0, id="no confidence"),
    ],
)
def test_the_step_of_one_vote(vote: Vote, step: float) -> None:
    assert signed_step(*vote) == pytest.approx(step, rel=1e-15)


# (vote, exposure) -> action, target, reason.  The step is size x confidence x 0.5.
DECISIONS = [
    pytest.param((0.3, 1, 1), 0.2, HOLD, 0.2, NEUTRAL, id="0.3 exactly holds"),
    pytest.param((-0.3, 1, 1), 0.2, HOLD, 0.2, NEUTRAL, id="-0.3 exactly holds"),
    pytest.param((0.0, 1, 1), 0.2, HOLD, 0.2, NEUTRAL, id="neutral"),
    pytest.param((0.9, 0.0, 1), 0.2, HOLD, 0.2, NEUTRAL, id="buy of nothing"),
    pytest.param((0.9, 0.6, 0.5), 0.0, BUY, 0.15, VOTED, id="buy from flat"),
    pytest.param((0.9, 0.6, 0.5), 0.2, BUY, 0.35, VOTED, id="buy more"),
    pytest.param((0.9, 1, 1), 0.2, BUY, 0.5, VOTED, id="buy up to the limit"),
    pytest.param((0.9, 1, 1), 0.5, BUY, 0.5, DEAD_BAND, id="at the limit"),
    pytest.param((0.9, 1, 1), 0.6, BUY, 0.6, DEAD_BAND, id="a position that outgrew the limit is not cut here"),
    pytest.param((0.9, 0.2, 0.19), 0.2, BUY, 0.2, DEAD_BAND, id="buy of 1.9 %"),
    pytest.param((0.9, 0.2, 0.21), 0.2, BUY, 0.221, VOTED, id="buy of 2.1 %"),
    pytest.param((0.9, 1, 1), 0.485, BUY, 0.485, DEAD_BAND, id="1.5 % below the limit"),
    pytest.param((0.9, 1, 1), 0.475, BUY, 0.5, VOTED, id="2.5 % below the limit"),
    pytest.param((-0.9, 0.6, 0.5), 0.4, SELL, 0.25, VOTED, id="sell some"),
    pytest.param((-0.9, 1, 1), 0.4, SELL, 0.0, VOTED, id="sell more than is held"),
    pytest.param((-0.9, 1, 1), 0.0, SELL, 0.0, DEAD_BAND, id="sell from flat"),
    pytest.param((-0.9, 0.2, 0.19), 0.2, SELL, 0.2, DEAD_BAND, id="sell of 1.9 %"),
    pytest.param((-0.9, 0.2, 0.21), 0.2, SELL, 0.179, VOTED, id="sell of 2.1 %"),
    pytest.param((-0.9, 0.8, 0.7), 0.299, SELL, 0.0, VOTED, id="a remainder of 1.9 % is sold too"),
    pytest.param((-0.9, 0.8, 0.7), 0.301, SELL, 0.021, VOTED, id="a remainder of 2.1 % stays"),
    pytest.param((-0.9, 0.1, 0.1), 0.01, SELL, 0.0, VOTED, id="a position inside the dead band is sold whole"),
    pytest.param((-0.9, 1, 1), 0.9, SELL, 0.4, VOTED, id="an outgrown position is sold step by step"),
]


@pytest.mark.parametrize(("vote", "exposure", "action", "target", "reason"), DECISIONS)
def test_the_action_rule(vote: Vote, exposure: float, action: Action, target: float, reason: DecisionReason) -> None:
    decision = decided(RULE, vote, exposure=exposure)
    assert (decision.action, decision.reason) == (action, reason)
    assert decision.target == pytest.approx(target, rel=1e-12)
    assert (decision.symbol, decision.exposure) == (BTC, exposure)
    assert (decision.direction, decision.size, decision.confidence) == vote
    assert decision.disagreement == 0.0


def test_without_votes_the_decision_is_to_hold_and_wait() -> None:
    decision = decide(RULE, BTC, None, 0.25, 0.0)
    assert (decision.action, decision.reason) == (HOLD, DecisionReason.WARMING_UP)
    assert (decision.symbol, decision.exposure, decision.target) == (BTC, 0.25, 0.25)
    assert (decision.direction, decision.size, decision.confidence, decision.disagreement) == (0.0, 0.0, 0.0, 0.0)


def test_votes_are_read_as_the_float32_they_are() -> None:
    # The float32 nearest to 0.3 lies above it, the one below it lies below.
    nearest = np.float32(0.3)
    for direction, action in ((nearest, BUY), (np.nextafter(nearest, np.float32(0.0)), HOLD)):
        votes = np.array([[direction, 1.0, 1.0]], np.float32)
        assert decide(RULE, BTC, votes, 0.0, CALM).action is action


# ---- what bounds a buy --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("volatility", "target"),
    [
        # A target of 30 % a year over 100 times the volatility of one candle.
        pytest.param(0.01, 0.3, id="100 % a year allows 30 %"),
        pytest.param(0.02, 0.15, id="200 % a year allows 15 %"),
        pytest.param(0.001, 0.5, id="calm: the limit"),
    ],
)
def test_volatility_bounds_what_is_bought(volatility: float, target: float) -> None:
    rule = replace(changed(edge_multiple=0.0), candles_per_year=10_000.0)
    decision = decided(rule, (1, 1, 1), volatility=volatility)
    assert (decision.action, decision.reason) == (BUY, VOTED)
    assert decision.target == pytest.approx(target, rel=1e-12)


def test_volatility_does_not_sell_what_is_held() -> None:
    decision = decided(RULE, (1, 1, 1), exposure=0.4, volatility=0.05)
    assert (decision.action, decision.target, decision.reason) == (BUY, 0.4, DEAD_BAND)


@pytest.mark.parametrize(
    ("confidence", "volatility", "reason"),
    [
        # confidence * volatility * 5 against 0.3 %
        pytest.param(1.0, 0.00061, VOTED, id="0.305 %"),
        pytest.param(1.0, 0.00059, EDGE, id="0.295 %"),
        pytest.param(0.5, 0.00121, VOTED, id="half as sure of 0.605 %"),
        pytest.param(0.5, 0.00119, EDGE, id="half as sure of 0.595 %"),
    ],
)
def test_a_buy_must_be_worth_its_cost(confidence: float, volatility: float, reason: DecisionReason) -> None:
    decision = decided(RULE, (1.0, 1.0, confidence), exposure=0.1, volatility=volatility)
    assert (decision.action, decision.reason) == (BUY, reason)
    assert (decision.target > 0.1) is (reason is VOTED)


def test_a_sale_need_not_be_worth_its_cost() -> None:
    decision = decided(RULE, (-1.0, 1.0, 0.5), exposure=0.4, volatility=0.0)
    assert (decision.action, decision.reason) == (SELL, VOTED)
    assert decision.target == pytest.approx(0.15, rel=1e-12)


# ---- several votes ------------------------------------------------------------------------------------------------
HALVES = (0.5, 0.5)


def test_members_of_one_mind_do_not_shrink_the_step() -> None:
    decision = decided(changed(HALVES), (0.8, 0.6, 0.5), (0.8, 0.6, 0.5))
    assert decision.disagreement == 0.0
    assert decision.target == pytest.approx(0.15, rel=1e-12)


@pytest.mark.fault(57)
def test_disagreement_is_the_weighted_spread_of_steps_and_shrinks_the_step() -> None:
    # Steps 0.8 and 0.4: mean 0.6, each 0.2 away.  Mean vote: size 0.6, confidence 1: 0.6 * 0.5 * (1 - 0.2) = 0.24.
    decision = decided(changed(HALVES), (0.9, 0.8, 1.0), (0.9, 0.4, 1.0))
    assert decision.disagreement == pytest.approx(0.2, rel=1e-12)
    assert (decision.size, decision.confidence) == pytest.approx((0.6, 1.0), rel=1e-12)
    assert decision.target == pytest.approx(0.24, rel=1e-12)


def test_disagreement_is_weighted() -> None:
    # Steps 1 (weight 0.8) and 0: mean 0.8, variance 0.8 * 0.04 + 0.2 * 0.64 = 0.16.
    decision = decided(changed((0.8, 0.2)), (1.0, 1.0, 1.0), (0.0, 1.0, 1.0))
    assert decision.disagreement == pytest.approx(0.4, rel=1e-12)
    assert decision.direction == pytest.approx(0.8, rel=1e-12)
    assert decision.target == pytest.approx(0.5 * 0.6, rel=1e-12)


@pytest.mark.fault(57)
@pytest.mark.parametrize(
    ("limit", "action", "reason"),
    [
        pytest.param(0.41, BUY, VOTED, id="below the limit"),
        pytest.param(0.39, HOLD, DISAGREEMENT, id="above the limit"),
        pytest.param(0.0, HOLD, DISAGREEMENT, id="none allowed"),
    ],
)
def test_too_much_disagreement_holds(limit: float, action: Action, reason: DecisionReason) -> None:
    rule = changed((0.8, 0.2), disagreement_limit=limit)
    decision = decided(rule, (1.0, 1.0, 1.0), (0.0, 1.0, 1.0), exposure=0.1)
    assert (decision.action, decision.reason) == (action, reason)
    assert (decision.target == 0.1) is (action is HOLD)


def test_opposite_extremes_disagree_wholly() -> None:
    decision = decided(changed(HALVES, disagreement_limit=1.0), (1, 1, 1), (-1, 1, 1), exposure=0.3)
    assert decision.disagreement == 1.0
    assert (decision.action, decision.target) == (HOLD, 0.3)


@pytest.mark.parametrize(("weights", "action"), [((0.9, 0.1), BUY), ((0.1, 0.9), SELL), ((0.5, 0.5), HOLD)], ids=str)
def test_the_heavier_member_decides(weights: tuple[float, float], action: Action) -> None:
    rule = changed(weights, disagreement_limit=1.0)
    assert decided(rule, (1.0, 1.0, 1.0), (-1.0, 1.0, 1.0), exposure=0.3).action is action


def test_as_many_votes_as_weights_are_needed() -> None:
    with pytest.raises(ValueError, match="zip"):
        decided(changed(HALVES), (1, 1, 1))


@pytest.mark.fault(55)
@pytest.mark.parametrize("column", range(3), ids=["direction", "size", "confidence"])
@pytest.mark.parametrize("bad", [math.nan, math.inf], ids=str)
def test_a_vote_that_is_no_number_is_refused_and_not_traded(column: int, bad: float) -> None:
    votes = np.array([[1.0, 1.0, 1.0], [1.0, 0.5, 0.5]], np.float32)
    votes[1, column] = bad
    with pytest.raises(StrategyError, match=rf"^BTC/USDT: votes .*{bad}.* are not finite numbers$"):
        decide(changed(HALVES), BTC, votes, 0.1, CALM)


# ---- always -------------------------------------------------------------------------------------------------------
UNIT = st.floats(0.0, 1.0, width=32)
VOTES = st.lists(st.tuples(st.floats(-1.0, 1.0, width=32), UNIT, UNIT), min_size=1, max_size=5)
RULES = st.builds(
    changed,
    dead_band=st.floats(0.0, 0.5),
    edge_multiple=st.sampled_from([0.0, 1.0, 5.0]),
    disagreement_limit=st.floats(0.0, 1.0),
    volatility_target=st.floats(0.01, 10.0),
)


@given(RULES, VOTES, st.floats(0.001, 1.0), st.floats(0.0, 3.0), st.floats(0.0, 0.5))
def test_a_buy_never_lowers_a_sale_never_raises_and_no_target_leaves_its_bounds(
    rule: Rule, votes: list[Vote], max_position: float, exposure: float, volatility: float
) -> None:
    rule = replace(rule, max_position=max_position, weights=(1.0 / len(votes),) * len(votes))
    decision = decide(rule, BTC, np.array(votes, np.float32), exposure, volatility)
    target = decision.target
    assert 0.0 <= target <= max(exposure, max_position)
    assert {BUY: target >= exposure, SELL: target <= exposure, HOLD: target == exposure}[decision.action]
    if target > exposure:
        assert target <= max_position
        assert target - exposure >= rule.parameters.dead_band
    if decision.reason is not VOTED:
        assert target == exposure
    # What is left after a trade can be sold by a later one.
    assert target in {exposure, 0.0} or target >= rule.parameters.dead_band
    assert 0.0 <= decision.disagreement <= 1.0 + 1e-12


@given(RULES, VOTES, st.floats(0.0, 1.0), st.floats(0.0, 0.5))
def test_the_same_votes_give_the_same_decision(
    rule: Rule, votes: list[Vote], exposure: float, volatility: float
) -> None:
    rule = replace(rule, weights=(1.0 / len(votes),) * len(votes))
    array = np.array(votes, np.float32)
    assert decide(rule, BTC, array, exposure, volatility) == decide(rule, BTC, array.copy(), exposure, volatility)


@given(RULES, st.tuples(st.floats(-1.0, 1.0, width=32), UNIT, UNIT), st.floats(0.0, 1.0))
def test_members_of_one_mind_decide_as_one_would(rule: Rule, vote: Vote, exposure: float) -> None:
    # Halves add up without rounding.
    one = decided(rule, vote, exposure=exposure)
    assert decided(replace(rule, weights=HALVES), vote, vote, exposure=exposure) == one


def test_votes_lie_in_the_documented_box() -> None:
    assert (ACTION_LOW, ACTION_HIGH) == ((-1.0, 0.0, 0.0), (1.0, 1.0, 1.0))


# ---- between two decisions --------------------------------------------------------------------------------------
@pytest.mark.parametrize("vote", [(0.9, 1.0, 1.0), (-0.9, 1.0, 1.0), (0.0, 1.0, 1.0)], ids=["buy", "sell", "hold"])
def test_between_decisions_the_exposure_stays_and_what_was_voted_is_still_told(vote: Vote) -> None:
    due = decided(RULE, vote, exposure=0.2)
    waits = decide(RULE, BTC, np.array([vote], np.float32), 0.2, CALM, is_due=False)
    assert (waits.target, waits.reason) == (0.2, DecisionReason.BETWEEN_DECISIONS)
    assert (waits.action, waits.exposure) == (due.action, 0.2)


def test_without_votes_a_candle_between_decisions_is_still_one_of_warming_up() -> None:
    waits = decide(RULE, BTC, None, 0.2, CALM, is_due=False)
    assert (waits.target, waits.reason) == (0.2, DecisionReason.WARMING_UP)


def test_votes_that_are_no_numbers_are_refused_between_decisions_too() -> None:
    with pytest.raises(StrategyError):
        decide(RULE, BTC, np.array([[math.nan, 1.0, 1.0]], np.float32), 0.2, CALM, is_due=False)
