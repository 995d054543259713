"""From a final candle to a verdict: our path, against the way such bots are usually written, in the same process.

Ours is `Trader.on_candles` with one candle: the feature window, the observation, three 256x256 members, the decision
and the risk manager. Orders are filled between the timed calls, so that the account trades as it would.

The usual way: a pandas frame of the last 200 candles gets a row, about twenty indicators are computed over it anew, the
last row goes through three Stable-Baselines3 `predict` calls of the same three policies, whose mean action becomes a
target within a limit; candles reach it through an asyncio queue.
"""

import asyncio
import time
from collections.abc import Iterator
from itertools import islice
from statistics import median

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.market import hourly_candles, setup_for
from benchmarks.members import Members
from benchmarks.result import Result
from benchmarks.timing import spread, take_turns
from strategy.candle import Candle
from strategy.features import N_FEATURES, WINDOW, FeatureWindow
from strategy.observation import N_OBSERVATION
from strategy.session import Session
from strategy.trader import Reference, Setup, Trader

_ROUNDS = 9
_OURS_PER_ROUND = 1_000
_USUAL_PER_ROUND = 60
_MEMORY = 200
_TARGET = 10.0
_COLUMNS = ["open", "high", "low", "close", "volume"]


def run(*, quick: bool = False) -> list[Result]:
    """Return the one result of this module; takes about ten seconds."""
    table, words = hourly_candles()
    members = Members(N_OBSERVATION, (256, 256))
    # Past the longest halts of the first year, so that the window is full and stays so.
    candles = list(table.slice(int(table.open_ms[len(table) // 3]), None).candles())
    ours = _Ours(setup_for(table), candles, members)
    usual = _Usual(candles[WINDOW:], members)
    share = 20 if quick else 1
    rounds = take_turns(
        lambda: ours.turn(_OURS_PER_ROUND // share),
        lambda: asyncio.run(usual.turn(_USUAL_PER_ROUND // share)),
        1 if quick else _ROUNDS,
    )
    ratios = rounds.ratios("higher")
    return [
        Result(
            name="candle to decision, three 256x256 members",
            ratio=median(ratios),
            target=_TARGET,
            better="higher",
            ours=f"{rounds.ours * 1e6:.0f} us",
            reference=f"{rounds.reference * 1e6:.0f} us, pandas over {_MEMORY} candles, three SB3 predict calls, queue",
            note=f"{spread(ratios)}; {words}",
        )
    ]


class _Ours:
    """An account with a full window, going through the candles one by one."""

    def __init__(self, setup: Setup, candles: list[Candle], members: Members) -> None:
        (symbol,) = setup.instruments
        window = FeatureWindow(setup.strategy.max_missing)
        reference = Reference.of([0.0] * N_FEATURES, [0.5] * N_FEATURES, 10.0)
        self._session = Session(Trader(setup, {symbol: window}, 100_000.0, reference))
        for candle in candles[:WINDOW]:
            self._session.trader.warm((candle,))
        self._candles: Iterator[Candle] = iter(candles[WINDOW:])
        self._ensemble = members.ensemble

    def turn(self, count: int) -> float:
        """Return the median seconds of the next `count` candles."""
        return median([self._decide(candle) for candle in islice(self._candles, count)])

    def _decide(self, candle: Candle) -> float:
        self._session.settle((candle,))
        started_s = time.perf_counter()
        outcomes = self._session.trader.on_candles((candle,), self._ensemble)
        taken_s = time.perf_counter() - started_s
        self._session.place(outcomes)
        return taken_s


class _Usual:
    """What is usually written: everything computed anew from the last candles."""

    def __init__(self, candles: list[Candle], members: Members) -> None:
        self._frame = _frame(candles[:_MEMORY])
        self._candles: Iterator[Candle] = iter(candles[_MEMORY:])
        self._members = members
        self._position = 0.0

    async def turn(self, count: int) -> float:
        """Return the median seconds of the next `count` candles, from the queue's one end to the decision."""
        queue: asyncio.Queue[tuple[float, Candle]] = asyncio.Queue()
        taken_s: list[float] = []
        consumer = asyncio.create_task(self._consume(queue, taken_s))
        for candle in islice(self._candles, count):
            await queue.put((time.perf_counter(), candle))
            await queue.join()
        consumer.cancel()
        return median(taken_s)

    async def _consume(self, queue: asyncio.Queue[tuple[float, Candle]], taken_s: list[float]) -> None:
        while True:
            put_s, candle = await queue.get()
            self._decide(candle)
            taken_s.append(time.perf_counter() - put_s)
            queue.task_done()

    def _decide(self, candle: Candle) -> None:
        self._frame = pd.concat([self._frame.iloc[1:], _frame([candle])], ignore_index=True)
        features = indicators(self._frame).iloc[-1].to_numpy(dtype=np.float32)
        # The policies read as many numbers as ours do; what the indicators leave over is the account, and zeros.
        observation = np.zeros(N_OBSERVATION, np.float32)
        observation[: len(features)] = features
        observation[-1] = self._position
        direction, size, confidence = self._mean_action(observation)
        step = size * confidence * 0.5 * (direction > 0.3) - size * confidence * 0.5 * (direction < -0.3)  # noqa: PLR2004
        self._position = min(max(self._position + step, 0.0), 0.5)

    def _mean_action(self, observation: NDArray[np.float32]) -> list[float]:
        mean: list[float] = np.mean(self._members.predict(observation), axis=0).tolist()
        return mean


def _frame(candles: list[Candle]) -> pd.DataFrame:
    return pd.DataFrame([[getattr(candle, name) for name in _COLUMNS] for candle in candles], columns=_COLUMNS)


def indicators(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the twenty usual indicators of a frame of candles, one column each, one row per candle.

    frame: columns open, high, low, close, volume, oldest first.
    """
    close, high, low, volume = frame["close"], frame["high"], frame["low"], frame["volume"]
    features = pd.DataFrame(index=frame.index)
    returns = close.pct_change()
    for n in (1, 5, 20):
        features[f"return_{n}"] = close.pct_change(n)
    for n in (10, 20, 50):
        features[f"sma_{n}"] = close / close.rolling(n).mean() - 1.0
    for n in (12, 26, 50):
        features[f"ema_{n}"] = close / close.ewm(span=n, adjust=False).mean() - 1.0
    features["macd"] = (close.ewm(span=12, adjust=False).mean() - close.ewm(span=26, adjust=False).mean()) / close
    features["macd_signal"] = features["macd"].ewm(span=9, adjust=False).mean()
    change = close.diff()
    gain = change.clip(lower=0.0).ewm(alpha=1 / 14, adjust=False).mean()
    loss = (-change.clip(upper=0.0)).ewm(alpha=1 / 14, adjust=False).mean()
    features["rsi_14"] = 1.0 - 1.0 / (1.0 + gain / loss)
    middle, spread_20 = close.rolling(20).mean(), close.rolling(20).std()
    features["bollinger_position"] = (close - middle) / (2.0 * spread_20)
    features["bollinger_width"] = 4.0 * spread_20 / middle
    previous = close.shift(1)
    ranges = pd.concat([high - low, (high - previous).abs(), (low - previous).abs()], axis=1).max(axis=1)
    features["atr_14"] = ranges.ewm(alpha=1 / 14, adjust=False).mean() / close
    for n in (10, 50):
        features[f"volatility_{n}"] = returns.rolling(n).std()
    lowest, highest = low.rolling(14).min(), high.rolling(14).max()
    features["stochastic_14"] = (close - lowest) / (highest - lowest)
    features["volume_share"] = volume / volume.rolling(20).mean()
    flow = (np.sign(change) * volume).rolling(20).sum()
    features["flow_20"] = flow / volume.rolling(20).sum()
    return features
