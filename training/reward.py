"""What the learner is paid for on each candle: named components, each a function, and their weights."""

from dataclasses import dataclass

from strategy.parameters import RiskLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardWeights:
    """How much each component counts. Returns are shares of equity, so `scale` brings the sum near 1.

    benchmark_exposure: the constant exposure, as a share of max_position, whose return is subtracted. At one half,
    always buying and never buying are paid alike: only timing earns. drawdown: weight of the drawdown penalty.
    """

    scale: float = 200.0
    excess_return: float = 1.0
    benchmark_exposure: float = 0.5
    drawdown: float = 0.02


def excess_return(equity_return: float, asset_return: float, benchmark_exposure: float) -> float:
    """Return the account's return after costs less that of a constant `benchmark_exposure` in the asset."""
    return equity_return - benchmark_exposure * asset_return


def drawdown_penalty(drawdown: float, limit: float) -> float:
    """Return 0 up to a third of the drawdown limit, then a square that reaches 1 at the limit."""
    free = limit / 3.0
    excess = max(0.0, drawdown - free) / (limit - free)
    return excess * excess


def reward(
    weights: RewardWeights, limits: RiskLimits, *, equity_return: float, asset_return: float, drawdown: float
) -> dict[str, float]:
    """Return every weighted component by name; the reward is their sum."""
    benchmark = weights.benchmark_exposure * limits.max_position
    earned = weights.excess_return * excess_return(equity_return, asset_return, benchmark)
    return {
        "excess_return": weights.scale * earned,
        "drawdown": -weights.drawdown * drawdown_penalty(drawdown, limits.max_drawdown),
    }
