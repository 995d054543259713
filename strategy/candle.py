"""Candles: one closed OHLCV interval, and the timeframe that spaces them.

Owns what makes a candle valid. Never reads a file, a clock or a venue.
"""

import math
import re
from dataclasses import dataclass

from strategy.errors import InvalidCandle

_UNITS_MS = {"m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_YEAR_MS = 365 * 86_400_000


@dataclass(frozen=True, slots=True)
class Timeframe:
    """Length of a candle, written as exchanges write it: `1m`, `1h`, `1d`."""

    name: str
    span_ms: int

    @classmethod
    def parse(cls, name: str) -> "Timeframe":
        """Return the timeframe called `name`, such as `15m`. Raises InvalidCandle for anything else."""
        match = re.fullmatch(r"([1-9][0-9]{0,3})([mhdw])", name)
        if match is None:
            message = f"timeframe {name!r} is not one of the form 1m, 15m, 1h, 4h, 1d, 1w"
            raise InvalidCandle(message)
        return cls(name=name, span_ms=int(match[1]) * _UNITS_MS[match[2]])

    @property
    def candles_per_year(self) -> float:
        """Candles in a 365-day year of a market that never closes."""
        return _YEAR_MS / self.span_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Candle:
    """One closed interval of trading.

    open_ms: start of the interval, int milliseconds UTC, a multiple of the timeframe's span.
    open, high, low, close: quote per base, finite, > 0, low <= open, close <= high.
    volume: base traded in the interval, finite, >= 0.
    Raises InvalidCandle naming the symbol, the time and the broken rule.
    """

    symbol: str
    open_ms: int
    span_ms: int
    open: float
    high: float
    low: float
    close: float
    volume: float

    def __post_init__(self) -> None:
        if not (
            0.0 < self.low <= self.open <= self.high < math.inf
            and self.low <= self.close <= self.high
            and 0.0 <= self.volume < math.inf
            and self.open_ms % self.span_ms == 0
        ):
            raise InvalidCandle(f"{self.symbol} candle at {self.open_ms}: {self._fault()}")

    def _fault(self) -> str:
        prices = {"open": self.open, "high": self.high, "low": self.low, "close": self.close}
        for name, value in prices.items():
            if not math.isfinite(value) or value <= 0.0:
                return f"{name} {value} is not a positive finite price"
        if not math.isfinite(self.volume) or self.volume < 0.0:
            return f"volume {self.volume} is not a finite amount >= 0"
        if self.open_ms % self.span_ms:
            return f"open time is not a multiple of the timeframe ({self.span_ms} ms)"
        if self.high < self.low:
            return f"high {self.high} is below low {self.low}"
        return f"open {self.open} or close {self.close} lies outside low {self.low} .. high {self.high}"

    @property
    def close_ms(self) -> int:
        """End of the interval: the first millisecond that belongs to the next candle."""
        return self.open_ms + self.span_ms

    @property
    def values(self) -> tuple[float, float, float, float, float]:
        """Open, high, low, close, volume: one row of what the feature kernel reads."""
        return (self.open, self.high, self.low, self.close, self.volume)
