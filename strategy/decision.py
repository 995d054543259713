"""From votes to one target exposure: the ensemble's action rule.

The rule is versioned, because a policy is only as good as the rule it was trained under; the version is in the bundle.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from strategy.errors import StrategyError
from strategy.parameters import CostModel, StrategyParameters
from strategy.sizing import exposure_cap, pays_for_itself

ACTION_RULE_VERSION = 1
ACTION_LOW = (-1.0, 0.0, 0.0)
ACTION_HIGH = (1.0, 1.0, 1.0)
THRESHOLD = 0.3
"""Direction above this is BUY, below its negative SELL, between them HOLD."""


class Action(StrEnum):
    """What the ensemble wants."""

    BUY = "buy"
    SELL = "sell"
    HOLD = "hold"


class DecisionReason(StrEnum):
    """Why the target is what it is."""

    VOTED = "voted"
    NEUTRAL = "neutral"
    """The mean direction lies between the thresholds."""
    WARMING_UP = "warming_up"
    """The feature window is not full, so nobody voted."""
    NO_VOTES = "no_votes"
    """The window is full, but the ensemble failed: it raised, or its votes are no finite numbers."""
    DISAGREEMENT = "disagreement"
    EDGE_BELOW_COST = "edge_below_cost"
    BETWEEN_DECISIONS = "between_decisions"
    """The members voted, but no decision falls on this candle."""
    DEAD_BAND = "dead_band"
    """The change is too small to be worth a trade, or the target is reached."""
    OPERATOR = "operator"
    """A person asked for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What the ensemble wants of one symbol on one candle.

    exposure, target: share of the symbol's capital, now and wanted.  direction, size, confidence: weighted means.
    disagreement: spread of the members' signed steps, 0 (one mind) .. 1 (opposite extremes).
    """

    symbol: str
    action: Action
    reason: DecisionReason
    exposure: float
    target: float
    direction: float = 0.0
    size: float = 0.0
    confidence: float = 0.0
    disagreement: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Everything `decide` needs that does not change from candle to candle."""

    parameters: StrategyParameters
    costs: CostModel
    max_position: float
    weights: tuple[float, ...]
    candles_per_year: float


def signed_step(direction: float, size: float, confidence: float) -> float:
    """Return -1 .. 1: the share of `max_position` that one vote wants to add or take."""
    if direction > THRESHOLD:
        return size * confidence
    return -size * confidence if direction < -THRESHOLD else 0.0


def decide(
    rule: Rule,
    symbol: str,
    votes: NDArray[np.float32] | None,
    exposure: float,
    volatility: float,
    *,
    is_due: bool = True,
    has_failed: bool = False,
) -> Decision:
    """Return one target exposure for `symbol`.

    votes: (n_members, 3) direction, size, confidence; None means HOLD: nobody was asked, for there is no observation,
    or the ensemble failed, which `has_failed` tells apart.
    exposure: of the symbol now.  volatility: standard deviation of returns per candle.  is_due: whether a decision
    falls on this candle; else the exposure stays, whatever was voted.
    Raises StrategyError for votes that are not finite, and ValueError when there are not as many as weights.
    """
    if votes is None:
        return _hold(symbol, DecisionReason.NO_VOTES if has_failed else DecisionReason.WARMING_UP, exposure)
    rows: list[list[float]] = votes.tolist()
    direction = size = confidence = 0.0
    for weight, (d, s, c) in zip(rule.weights, rows, strict=True):
        direction += weight * d
        size += weight * s
        confidence += weight * c
    if not math.isfinite(direction + size + confidence):
        raise StrategyError(f"{symbol}: votes {rows} are not finite numbers")
    disagreement = _spread(rule.weights, [signed_step(*row) for row in rows]) if len(rows) > 1 else 0.0
    mean = (direction, size, confidence)
    action, target, reason = _target(rule, mean, disagreement, exposure, volatility)
    if not is_due:
        target, reason = exposure, DecisionReason.BETWEEN_DECISIONS
    return Decision(
        symbol=symbol,
        action=action,
        reason=reason,
        exposure=exposure,
        target=target,
        direction=direction,
        size=size,
        confidence=confidence,
        disagreement=disagreement,
    )


def _target(
    rule: Rule, mean: tuple[float, float, float], disagreement: float, exposure: float, volatility: float
) -> tuple[Action, float, DecisionReason]:
    """Return action, target exposure and reason; the action is what was voted even where no trade follows."""
    if disagreement > rule.parameters.disagreement_limit:
        return Action.HOLD, exposure, DecisionReason.DISAGREEMENT
    step = signed_step(*mean) * rule.max_position * (1.0 - disagreement)
    if step == 0.0:
        return Action.HOLD, exposure, DecisionReason.NEUTRAL
    if step < 0.0:
        return Action.SELL, *_lowered(rule.parameters.dead_band, exposure, step)
    return Action.BUY, *_raised(rule, exposure, step, volatility, mean[2])


def _lowered(dead_band: float, exposure: float, step: float) -> tuple[float, DecisionReason]:
    target = exposure + step
    # A remainder inside the dead band could never be sold by a later vote: it is sold now.
    if target < dead_band:
        target = 0.0
    if exposure <= 0.0 or 0.0 < target > exposure - dead_band:
        return exposure, DecisionReason.DEAD_BAND
    return target, DecisionReason.VOTED


def _raised(
    rule: Rule, exposure: float, step: float, volatility: float, confidence: float
) -> tuple[float, DecisionReason]:
    cap = min(rule.max_position, exposure_cap(rule.parameters, volatility, rule.candles_per_year))
    target = min(exposure + step, cap)
    if target - exposure < rule.parameters.dead_band:
        return exposure, DecisionReason.DEAD_BAND
    if not pays_for_itself(rule.parameters, rule.costs, volatility, confidence):
        return exposure, DecisionReason.EDGE_BELOW_COST
    return target, DecisionReason.VOTED


def _spread(weights: tuple[float, ...], steps: list[float]) -> float:
    """Return the weighted standard deviation of values in -1 .. 1."""
    mean = 0.0
    for weight, step in zip(weights, steps, strict=True):
        mean += weight * step
    variance = 0.0
    for weight, step in zip(weights, steps, strict=True):
        variance += weight * (step - mean) * (step - mean)
    return math.sqrt(variance)


def _hold(symbol: str, reason: DecisionReason, exposure: float) -> Decision:
    return Decision(symbol=symbol, action=Action.HOLD, reason=reason, exposure=exposure, target=exposure)
