"""What the configuration says that other figures are held against, so that no alert repeats a number of it."""

import math

from daemon.metrics_catalogue import Catalogue
from strategy.parameters import RiskLimits, StrategyParameters

LIMITS = ("max_drawdown", "daily_loss", "max_position", "disagreement", "out_of_distribution", "drift")


class LimitMetrics:
    """The limits in force."""

    def __init__(self, make: Catalogue) -> None:
        limit = make.gauge(
            "sacd_limit_ratio", "What a figure may not pass, in the unit of that figure; NaN for no limit", "limit"
        )
        self._limits = {name: limit.labels(name) for name in LIMITS}
        for gauge in self._limits.values():
            gauge.set(math.nan)
        self._interval = make.gauge(
            "sacd_candle_interval_seconds", "After which the next candle is due; 0 is as fast as possible"
        )

    def take(self, risk: RiskLimits, strategy: StrategyParameters, *, drift: float, candle_interval_s: float) -> None:
        """Show these limits. drift: 0 for none.  candle_interval_s: of our clock."""
        self._limits["max_drawdown"].set(risk.max_drawdown)
        self._limits["daily_loss"].set(risk.daily_loss)
        self._limits["max_position"].set(risk.max_position)
        self._limits["disagreement"].set(strategy.disagreement_limit)
        self._limits["out_of_distribution"].set(risk.out_of_distribution)
        self._limits["drift"].set(drift if drift > 0.0 else math.nan)
        self._interval.set(candle_interval_s)
