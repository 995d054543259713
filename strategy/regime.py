"""Market regime: trend x volatility, told from the same window as every other feature."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from strategy.arithmetic import Arithmetic

TREND_LIMIT = 0.5
"""A move over 16 days of more than this many standard deviations is a trend."""
VOLATILITY_LIMIT = 1.4
"""Volatility of four days this many times that of 100 days is high; its inverse is low."""


class Trend(IntEnum):
    """Direction of the last 384 candles."""

    DOWN = -1
    FLAT = 0
    UP = 1


class Volatility(IntEnum):
    """Volatility of the last 96 candles against that of the last 2,400."""

    LOW = -1
    NORMAL = 0
    HIGH = 1


@dataclass(frozen=True, slots=True)
class Regime:
    """One of nine kinds of market."""

    trend: Trend
    volatility: Volatility

    def __str__(self) -> str:
        """Return words for log and screen, such as `up, high volatility`."""
        return f"{self.trend.name.lower()}, {self.volatility.name.lower()} volatility"


REGIMES: dict[tuple[float, float], Regime] = {
    (float(trend), float(volatility)): Regime(trend, volatility) for trend in Trend for volatility in Volatility
}


def trend_code(m: Arithmetic, score: Any) -> Any:  # noqa: ANN401 - float or (n,) array, see arithmetic.py
    """Return -1.0, 0.0 or 1.0 for a move of `score` standard deviations."""
    return m.where(score > TREND_LIMIT, 1.0, m.where(score < -TREND_LIMIT, -1.0, 0.0))


def volatility_code(m: Arithmetic, short: Any, long: Any) -> Any:  # noqa: ANN401 - as above
    """Return -1.0, 0.0 or 1.0 for short-term against long-term volatility."""
    high = short > VOLATILITY_LIMIT * long
    low = short * VOLATILITY_LIMIT < long
    return m.where(high, 1.0, m.where(low, -1.0, 0.0))
