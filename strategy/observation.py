"""What the policy sees: the feature row and the portfolio, as float32, the same bytes everywhere."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strategy.features import FEATURE_SCHEMA, N_FEATURES, Row
from strategy.parameters import RiskLimits
from strategy.portfolio import Portfolio

PORTFOLIO_NAMES = ("exposure", "unrealised_return", "drawdown", "since_trade", "stop_distance", "may_buy")
N_OBSERVATION = N_FEATURES + len(PORTFOLIO_NAMES)
OBSERVATION_LIMIT = 2.0
"""Every entry lies within plus or minus this."""

OBSERVATION_SCHEMA: Mapping[str, Any] = {**FEATURE_SCHEMA, "portfolio": list(PORTFOLIO_NAMES)}
OBSERVATION_HASH = hashlib.sha256(json.dumps(OBSERVATION_SCHEMA, sort_keys=True).encode()).hexdigest()
"""Hash of all a policy can see; it is in the bundle, and another hash refuses to load."""


def observe(
    row: Row, portfolio: Portfolio, symbol: str, stop: float | None, limits: RiskLimits, *, may_buy: bool
) -> NDArray[np.float32]:
    """Return the observation of one symbol.

    row: (N_FEATURES,) float32.  stop: price of the protective stop, None when flat.  may_buy: whether risk would let
    exposure rise.  Returns (N_OBSERVATION,) float32 within +-OBSERVATION_LIMIT.
    """
    position = portfolio.positions[symbol]
    # What is held without a stop is less than a lot: to a policy that is nothing.
    unrealised = position.unrealised_return / limits.stop_loss if stop is not None else 0.0
    distance = (1.0 - stop / position.mark) / limits.stop_loss if stop is not None else 0.0
    observation = np.empty(N_OBSERVATION, np.float32)
    observation[:N_FEATURES] = row
    observation[N_FEATURES:] = (
        min(portfolio.exposure(symbol) / limits.max_position, OBSERVATION_LIMIT),
        unrealised / (1.0 + abs(unrealised)),
        min(portfolio.drawdown / limits.max_drawdown, OBSERVATION_LIMIT),
        position.since_trade / (position.since_trade + 24.0),
        max(min(distance, OBSERVATION_LIMIT), -OBSERVATION_LIMIT),
        1.0 if may_buy else 0.0,
    )
    return observation
