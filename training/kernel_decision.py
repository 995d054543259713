"""From votes to one target exposure: strategy/decision.py and strategy/sizing.py, compiled.

The order of operations is theirs: a change there that is not made here shows in tests/training/test_kernel.py.
"""

import math

import numpy as np
from numpy.typing import NDArray

from strategy.decision import THRESHOLD
from strategy.risk import VerdictReason
from training.compiled import compiled
from training.kernel_records import Record, code
from training.reward import ActionKind

_BUY, _SELL, _HOLD = int(ActionKind.BUY), int(ActionKind.SELL), int(ActionKind.HOLD)
_VOTED, _NEUTRAL = code(VerdictReason.VOTED), code(VerdictReason.NEUTRAL)
_DISAGREEMENT, _DEAD_BAND = code(VerdictReason.DISAGREEMENT), code(VerdictReason.DEAD_BAND)
_BETWEEN = code(VerdictReason.BETWEEN_DECISIONS)
_EDGE_BELOW_COST, _WARMING_UP = code(VerdictReason.EDGE_BELOW_COST), code(VerdictReason.WARMING_UP)

Mean = tuple[float, float, float, float]
"""Weighted means of direction, size and confidence, and the members' disagreement."""


@compiled
def kind_of(direction: float) -> int:
    """Return what a direction asks for, as an ActionKind."""
    if direction > THRESHOLD:
        return _BUY
    return _SELL if direction < -THRESHOLD else _HOLD


@compiled
def signed_step(direction: float, size: float, confidence: float) -> float:
    """Return -1 .. 1: the share of `max_position` that one vote wants to add or take."""
    if direction > THRESHOLD:
        return size * confidence
    return -size * confidence if direction < -THRESHOLD else 0.0


@compiled
def alone(direction: float, size: float, confidence: float) -> Mean:
    """Return what one vote comes to: itself."""
    return direction, size, confidence, 0.0


@compiled
def mean_of(votes: NDArray[np.float32], weights: NDArray[np.float64]) -> Mean:
    """Return what the votes of several members come to. votes: (n_members, 3).  weights: (n_members,)."""
    direction = size = confidence = 0.0
    for member in range(len(weights)):
        direction += weights[member] * votes[member, 0]
        size += weights[member] * votes[member, 1]
        confidence += weights[member] * votes[member, 2]
    if len(weights) == 1:
        return direction, size, confidence, 0.0
    mean = 0.0
    for member in range(len(weights)):
        mean += weights[member] * _step_of(votes[member])
    variance = 0.0
    for member in range(len(weights)):
        off = _step_of(votes[member]) - mean
        variance += weights[member] * off * off
    return direction, size, confidence, math.sqrt(variance)


@compiled
def _step_of(vote: NDArray[np.float32]) -> float:
    return signed_step(np.float64(vote[0]), np.float64(vote[1]), np.float64(vote[2]))


@compiled
def warm_up(account: Record, exposure: float) -> None:
    """Note that nobody voted."""
    account.action, account.target, account.verdict = _HOLD, exposure, _WARMING_UP


@compiled
def is_due(market: Record, account: Record, close_ms: int) -> bool:
    """Tell whether a decision falls on the candle that closes then."""
    due: bool = (close_ms // market.span_ms - account.decide_offset) % market.decide_every == 0
    return due


@compiled
def wait(account: Record, exposure: float) -> None:
    """Note that what was voted is not acted upon, for no decision falls on the candle."""
    account.target, account.verdict = exposure, _BETWEEN


@compiled
def decide(market: Record, account: Record, mean: Mean, exposure: float, volatility: float) -> None:
    """Note action, target exposure and reason; the action is what was voted even where no trade follows."""
    account.action, account.target = _HOLD, exposure
    disagreement = mean[3]
    if disagreement > market.disagreement_limit:
        account.verdict = _DISAGREEMENT
        return
    step = signed_step(mean[0], mean[1], mean[2]) * market.max_position * (1.0 - disagreement)
    if step == 0.0:
        account.verdict = _NEUTRAL
    elif step < 0.0:
        account.action = _SELL
        _lower(market, account, exposure, step)
    else:
        account.action = _BUY
        _raise(market, account, exposure, step, volatility, mean[2])


@compiled
def size_cap(market: Record, volatility: float) -> float:
    """Return the largest exposure that sizing allows. volatility: standard deviation of returns per candle."""
    annual = volatility * market.root_year
    allowed = market.volatility_target / annual if annual > 0.0 else 1.0
    cap: float = min(market.max_position, allowed)
    return cap


@compiled
def _lower(market: Record, account: Record, exposure: float, step: float) -> None:
    target = exposure + step
    if target < market.dead_band:
        target = 0.0
    if exposure <= 0.0 or 0.0 < target > exposure - market.dead_band:
        account.verdict = _DEAD_BAND
        return
    account.target, account.verdict = target, _VOTED


@compiled
def _raise(  # noqa: PLR0917 - compiled code takes its arguments by position
    market: Record, account: Record, exposure: float, step: float, volatility: float, confidence: float
) -> None:
    target = min(exposure + step, size_cap(market, volatility))
    if target - exposure < market.dead_band:
        account.verdict = _DEAD_BAND
        return
    if confidence * volatility * market.root_horizon < account.edge_cost:
        account.verdict = _EDGE_BELOW_COST
        return
    account.target, account.verdict = target, _VOTED
