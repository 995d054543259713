"""Risk-managed size: what volatility allows on top of what the policy wants."""

import math

from strategy.parameters import CostModel, StrategyParameters


def exposure_cap(parameters: StrategyParameters, volatility: float, candles_per_year: float) -> float:
    """Return the exposure at which the symbol's capital has the target volatility.

    volatility: standard deviation of returns per candle, >= 0.
    """
    annual = volatility * math.sqrt(candles_per_year)
    return parameters.volatility_target / annual if annual > 0.0 else 1.0


def pays_for_itself(parameters: StrategyParameters, costs: CostModel, volatility: float, conviction: float) -> bool:
    """Tell whether the move a vote can hope for is worth a round trip.

    A vote forecasts no price: what it can hope for is the usual move over the horizon, in proportion to conviction
    (0 .. 1, the ensemble's mean confidence).
    """
    expected_move = conviction * volatility * math.sqrt(parameters.edge_horizon)
    return expected_move >= parameters.edge_multiple * costs.round_trip_rate
