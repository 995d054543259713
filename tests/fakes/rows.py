"""A feature source with a row for every candle: the trading core without the 2,401 candles a real window needs."""

import numpy as np

from strategy.candle import Candle
from strategy.features import N_FEATURES, FeatureRow
from strategy.regime import Regime, Trend, Volatility

_QUIET = Regime(Trend.FLAT, Volatility.NORMAL)


class Rows:
    """Rows that follow from the candle alone: its close in entry 0, its rise over its open in entry 2.

    volatility, average_range: of every row.  The first `missing` candles have no row.
    """

    def __init__(self, volatility: float = 0.001, average_range: float = 0.01, missing: int = 0) -> None:
        self._volatility = volatility
        self._average_range = average_range
        self._missing = missing

    def push(self, candle: Candle) -> None:
        self.update(candle)

    def update(self, candle: Candle) -> FeatureRow | None:
        self._missing -= 1
        if self._missing >= 0:
            return None
        values = np.zeros(N_FEATURES, np.float32)
        values[0], values[2] = candle.close / 1_000.0, candle.close / candle.open - 1.0
        return FeatureRow(values, self._volatility, self._average_range, _QUIET)
