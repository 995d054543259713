"""What an account did over a span, candle by candle and fill by fill: what every metric is computed from."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from strategy.order import Fill

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SymbolTrack:
    """One symbol of a track, `n` candle times.

    close: (n,) its last price then.  exposure: (n,) share of the account's equity that was invested in it.
    action: (n,) int8, an ActionKind, -1 where nobody voted.  direction: (n, n_members) float32, what each member voted,
    NaN where nobody voted; (n, 0) for a rule without members.  disagreement: (n,) 0 .. 1, NaN where nobody voted.
    """

    symbol: str
    close: FloatArray
    exposure: FloatArray
    action: NDArray[np.int8]
    direction: NDArray[np.float32]
    disagreement: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Track:
    """One account over `n` candle times of `timeframe_ms` each, from the first decision on.

    name: of what decided.  close_ms: (n,) int64, strictly increasing, when each candle closed.  equity: (n + 1,) quote,
    mark to market; first the cash the account began with, before its first candle.  exposure: (n,) share of equity
    that was invested, all symbols together.  fills: in the order of time, fees in quote.  fees, slippage: quote, all.
    """

    name: str
    timeframe_ms: int
    close_ms: NDArray[np.int64]
    equity: FloatArray
    exposure: FloatArray
    fills: tuple[Fill, ...]
    fees: float
    slippage: float
    symbols: tuple[SymbolTrack, ...]

    @property
    def start_ms(self) -> int:
        """Open of the first candle."""
        return int(self.close_ms[0]) - self.timeframe_ms
