"""Building blocks for tests of the trading core: candles, setups, voters."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strategy.candle import Candle, Timeframe
from strategy.candle_table import CandleTable
from strategy.features import FeatureWindow
from strategy.instrument import Instrument
from strategy.parameters import CostModel, RiskLimits, StrategyParameters
from strategy.trader import Reference, Setup, Trader

HOUR_MS = 3_600_000
BTC, ETH = "BTC/USDT", "ETH/USDT"


def candle(symbol: str = BTC, at: int = 0, close: float = 100.0, **changes: float) -> Candle:
    """Return the hourly candle number `at` after 1970, flat at `close` unless changed."""
    values = {"open": close, "high": close, "low": close, "volume": 1_000.0} | changes
    values["high"] = max(values["high"], values["open"], close)
    values["low"] = min(values["low"], values["open"], close)
    return Candle(symbol=symbol, open_ms=at * HOUR_MS, span_ms=HOUR_MS, close=close, **values)


def random_table(count: int, seed: int = 1, symbol: str = BTC, start: int = 0, gaps: Sequence[int] = ()) -> CandleTable:
    """Return a random walk of hourly candles; after the candle numbers in `gaps` one candle is missing."""
    rng = np.random.default_rng(seed)
    close = 100.0 * np.exp(np.cumsum(rng.standard_t(4, count) * 0.005))
    opened = np.concatenate([[100.0], close[:-1]])
    high = np.maximum(opened, close) * (1.0 + rng.random(count) * 0.004)
    low = np.minimum(opened, close) * (1.0 - rng.random(count) * 0.004)
    volume = rng.gamma(2.0, 500.0, count)
    missing = np.isin(np.arange(count), list(gaps)).cumsum()
    open_ms = (start + np.arange(count) + np.concatenate([[0], missing[:-1]])) * HOUR_MS
    values = np.round(np.stack([opened, high, low, close, volume], axis=1), 8)
    values[:, 1], values[:, 2] = values[:, :4].max(axis=1), values[:, :4].min(axis=1)
    return CandleTable(symbol=symbol, timeframe=Timeframe.parse("1h"), open_ms=open_ms, values=values)


def setup(symbols: Sequence[str] = (BTC,), **changes: Any) -> Setup:
    """Return a setup with small steps; `changes` go to whichever of the parameter records has the field."""
    records = {"strategy": StrategyParameters(), "limits": RiskLimits(), "costs": CostModel()}
    for name, record in records.items():
        mine = {key: value for key, value in changes.items() if hasattr(record, key)}
        records[name] = replace(record, **mine)  # type: ignore[type-var]
    return Setup(
        instance="test",
        timeframe=Timeframe.parse("1h"),
        instruments={s: Instrument(symbol=s, tick=0.01, lot=0.0001, min_notional=5.0) for s in symbols},
        **records,  # type: ignore[arg-type]
    )


def trader(symbols: Sequence[str] = (BTC,), cash: float = 10_000.0, **changes: Any) -> Trader:
    """Return a trader with empty streaming windows."""
    made = setup(symbols, **changes)
    reference: Reference | None = changes.get("reference")
    return Trader(made, {s: FeatureWindow(made.strategy.max_missing) for s in symbols}, cash, reference)


class Constant:
    """Voters that always cast the same votes."""

    def __init__(self, *votes: tuple[float, float, float]) -> None:
        self.weights: NDArray[np.float64] = np.full(len(votes), 1.0 / len(votes))
        self._votes = np.array(votes, np.float32)

    def act(self, observations: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.repeat(self._votes[None], len(observations), axis=0)


class Scripted:
    """Voters whose votes a function draws from each observation: observation -> (n_members, 3)."""

    def __init__(self, members: int, vote: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> None:
        self.weights: NDArray[np.float64] = np.full(members, 1.0 / members)
        self._vote = vote

    def act(self, observations: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.stack([np.asarray(self._vote(row), np.float32) for row in observations])


def trend_follower(members: int = 3) -> Scripted:
    """Return voters that buy after rises and sell after falls, each member with its own strength."""
    strength = np.linspace(1.0, 2.0, members, dtype=np.float32)

    def vote(row: NDArray[np.float32]) -> NDArray[np.float32]:
        direction = np.tanh(3.0 * strength * row[2])
        return np.stack([direction, np.full(members, 0.6), np.full(members, 0.8)], axis=1).astype(np.float32)

    return Scripted(members, vote)


def closes(table: CandleTable) -> Mapping[int, float]:
    """Return close by open time."""
    return dict(zip(table.open_ms.tolist(), table.values[:, 3].tolist(), strict=True))
