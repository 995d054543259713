"""Tracks and metrics made by hand, for tests of what is computed from them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from strategy.order import Fill, Side
from tests.fakes.trading import BTC, HOUR_MS
from training.metrics import Metrics, measure
from training.track import SymbolTrack, Track

DAY_MS = 86_400_000


def track_of(equity: Sequence[float], *, first_ms: int = 0, span_ms: int = HOUR_MS, **changes: Any) -> Track:
    """Return an account of one symbol, its equity from the cash on; half invested, voting to buy all the time."""
    n = len(equity) - 1
    symbol = SymbolTrack(
        symbol=BTC,
        close=np.array(equity[1:]),
        exposure=np.full(n, 0.5),
        action=np.ones(n, np.int8),
        direction=np.ones((n, 1), np.float32),
        disagreement=np.zeros(n),
    )
    values: dict[str, Any] = {
        "name": "ensemble",
        "timeframe_ms": span_ms,
        "close_ms": first_ms + span_ms * np.arange(1, n + 1, dtype=np.int64),
        "equity": np.array(equity, np.float64),
        "exposure": np.full(n, 0.5),
        "fills": (),
        "fees": 0.0,
        "slippage": 0.0,
        "symbols": (symbol,),
    }
    return Track(**(values | changes))


def fill_of(side: Side, quantity: float, price: float, at_ms: int, *, fee: float = 0.0, reference: float = 0.0) -> Fill:
    """Return a fill of BTC/USDT. reference: what it was decided at, its price when 0."""
    return Fill(
        fill_id=f"{at_ms}-{side}",
        client_id="order",
        symbol=BTC,
        side=side,
        quantity=quantity,
        price=price,
        fee=fee,
        at_ms=at_ms,
        reference_price=reference or price,
    )


def metrics_of(**changes: Any) -> Metrics:
    """Return the metrics of a random account with `changes`."""
    steps = np.random.default_rng(1).normal(0.0003, 0.005, 24 * 200)
    made = track_of([100.0, *(100.0 * np.cumprod(1.0 + steps)).tolist()])
    return replace(measure(made), **changes)
