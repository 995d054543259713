# ruff: noqa: PD011 - the `values` here are of candle tables, not of pandas
"""Every feature against a second source: pandas for all of them, TA-Lib where it has the indicator."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import talib

from strategy import features
from strategy.arithmetic import ARRAYS
from strategy.candle_table import CandleTable, parse_csv
from strategy.features import FEATURE_NAMES, WINDOW, compute
from tests.fakes.trading import HOUR_MS, random_table

LONG = (24, 96, 384, 1200, 2400)
MEANS = (240, 600)
ABOVE = (240, 600, 1200, 2400)
Series = Any
# The kernel adds 1e-12 to what it divides by; beside a deviation of 0.2 % and more per candle that is 5e-10.
EXACT: Any = {"rtol": 2e-9, "atol": 1e-9}


@pytest.fixture(scope="module", params=["random walk", "recorded 2018", "recorded 2022"])
def table(request: pytest.FixtureRequest, recorded_candles: Callable[[str], Path]) -> CandleTable:
    if request.param == "random walk":
        return random_table(WINDOW + 800, seed=11)
    path = recorded_candles("binance/btcusdt-1h.csv.gz")
    whole = parse_csv(path.read_bytes(), name=path.name, symbol="BTC/USDT", timeframe=None)
    first = {"recorded 2018": 3_500, "recorded 2022": 43_000}[request.param]
    last = first + WINDOW + 1_200
    return replace(whole, open_ms=whole.open_ms[first:last], values=whole.values[first:last])


@pytest.fixture(scope="module")
def ours(table: CandleTable) -> dict[str, Any]:
    """The kernel's features before they become float32, of the candles whose window is full."""
    values, _ = features._formulas(features._ArrayWindows(table.values), ARRAYS)
    return {name: value[WINDOW - 1 :] for name, value in values.items()}


@pytest.fixture(scope="module")
def usual(table: CandleTable) -> dict[str, Any]:
    frame = pd.DataFrame(table.values, columns=["open", "high", "low", "close", "volume"])
    return {name: series.to_numpy()[WINDOW - 1 :] for name, series in with_pandas(frame).items()}


def squashed(x: Series) -> Series:
    return x / (1 + x.abs())


def shares(x: Series, y: Series) -> Series:
    return (x - y) / (x + y)


def with_pandas(frame: pd.DataFrame) -> dict[str, Series]:
    """Return all features as a data scientist would write them down from their meaning."""
    close, high, low, volume = frame.close, frame.high, frame.low, frame.volume
    returns = close.pct_change()
    deviation = {n: returns.pow(2).rolling(n).mean().pow(0.5) for n in (*LONG, *MEANS, 336)}
    before = close.shift(1)
    true_range = pd.concat([high - low, (high - before).abs(), (low - before).abs()], axis=1).max(axis=1) / before
    signed = volume * np.sign(returns)
    found: dict[str, Series] = {}
    for n in (1, 4):
        found[f"return_{n}"] = squashed(close.pct_change(n) / deviation[96] / n**0.5)
    for n in LONG:
        scale = deviation[n] * n**0.5
        top, bottom = high.rolling(n).max(), low.rolling(n).min()
        ups, downs = returns.clip(lower=0).rolling(n).sum(), -returns.clip(upper=0).rolling(n).sum()
        found[f"return_{n}"] = squashed(close.pct_change(n) / scale)
        found[f"mean_distance_{n}"] = squashed(2 * (close / close.rolling(n).mean() - 1) / scale)
        found[f"range_position_{n}"] = 2 * (close - bottom) / (top - bottom) - 1
        found[f"efficiency_{n}"] = squashed(2 * close.pct_change(n) / (ups + downs))
        found[f"rise_share_{n}"] = (ups - downs) / (ups + downs)
    for n in MEANS:
        distance = close / close.rolling(n).mean() - 1
        found[f"mean_distance_{n}"] = squashed(2 * distance / deviation[n] / n**0.5)
    for n in ABOVE:
        found[f"above_{n}"] = 2.0 * (close > close.rolling(n).mean()) - 1
    for n in (24, 96, 384):
        found[f"volatility_share_{n}"] = shares(deviation[n], deviation[2400])
        found[f"volume_share_{n}"] = shares(volume.rolling(n).mean(), volume.rolling(2400).mean())
        found[f"flow_{n}"] = signed.rolling(n).sum() / volume.rolling(n).sum()
    for n in (96, 384):
        found[f"echo_{n}"] = (returns * returns.shift(1)).rolling(n).sum() / returns.pow(2).rolling(n).sum()
    found["skew_384"] = squashed(returns.pow(3).rolling(384).mean() / deviation[384] ** 3)
    found["volatility_level"] = squashed(100 * deviation[336])
    found["range_share"] = shares(true_range.rolling(24).mean(), true_range.rolling(384).mean())
    found["candle_range"] = shares((high - low) / close, true_range.rolling(96).mean())
    found["candle_volume"] = shares(volume, volume.rolling(96).mean())
    found["candle_position"] = 2 * (close - low) / (high - low) - 1
    found["drawdown_2400"] = close / high.rolling(2400).max() - 1
    found["rise_2400"] = 1 - low.rolling(2400).min() / close
    score = close.pct_change(384) / deviation[384] / 384**0.5
    found["regime_trend"] = (score > 0.5).astype(float) - (score < -0.5).astype(float)
    ratio = deviation[96] / deviation[2400]
    found["regime_volatility"] = (ratio > 1.4).astype(float) - (1 / ratio > 1.4).astype(float)
    return found


def test_the_names_are_these_in_this_order(usual: dict[str, Any]) -> None:
    assert tuple(usual) == FEATURE_NAMES


@pytest.mark.parametrize("name", FEATURE_NAMES)
def test_pandas_finds_the_same(ours: dict[str, Any], usual: dict[str, Any], name: str) -> None:
    np.testing.assert_allclose(ours[name], usual[name], **EXACT)


def test_rows_are_these_values_as_float32_in_this_order(table: CandleTable, ours: dict[str, Any]) -> None:
    rows = compute(table.open_ms, table.values, HOUR_MS, 10**6).values[WINDOW - 1 :]
    assert rows.dtype == np.float32
    for index, name in enumerate(FEATURE_NAMES):
        np.testing.assert_array_equal(rows[:, index], ours[name].astype(np.float32))


def columns(table: CandleTable) -> list[Any]:
    return [np.ascontiguousarray(table.values[:, i]) for i in range(5)]


def deviations(close: Any, n: int) -> Any:
    return np.sqrt(talib.SMA(talib.ROCP(close, 1) ** 2, n))


@pytest.mark.parametrize("n", LONG)
def test_ta_lib_finds_the_same_over(table: CandleTable, ours: dict[str, Any], n: int) -> None:
    _, high, low, close, _ = columns(table)
    scale = deviations(close, n) * np.sqrt(n)
    wanted = {
        f"return_{n}": talib.ROCP(close, n) / scale,
        f"mean_distance_{n}": 2 * (close / talib.SMA(close, n) - 1) / scale,
    }
    for name, value in wanted.items():
        np.testing.assert_allclose(ours[name], (value / (1 + np.abs(value)))[WINDOW - 1 :], **EXACT)
    position = 1 + talib.WILLR(high, low, close, n) / 50
    np.testing.assert_allclose(ours[f"range_position_{n}"], position[WINDOW - 1 :], **EXACT)


@pytest.mark.parametrize("n", ABOVE)
def test_ta_lib_finds_the_same_side_of_the_mean(table: CandleTable, ours: dict[str, Any], n: int) -> None:
    _, _, _, close, _ = columns(table)
    distance = (close / talib.SMA(close, n) - 1)[WINDOW - 1 :]
    np.testing.assert_array_equal(ours[f"above_{n}"], np.where(distance > 0.0, 1.0, -1.0))
    assert 0.05 < np.mean(distance > 0.0) < 1.0


def test_ta_lib_finds_the_same_volatility_over_a_fortnight(table: CandleTable, ours: dict[str, Any]) -> None:
    _, _, _, close, _ = columns(table)
    level = 100 * deviations(close, 14 * 24)
    np.testing.assert_allclose(ours["volatility_level"], (level / (1 + level))[WINDOW - 1 :], **EXACT)


@pytest.mark.parametrize("n", [24, 96, 384])
def test_ta_lib_finds_the_same_flow_as_on_balance_volume(table: CandleTable, ours: dict[str, Any], n: int) -> None:
    _, _, _, close, volume = columns(table)
    balance = talib.OBV(close, volume)
    flow = (balance[n:] - balance[:-n]) / talib.SUM(volume, n)[n:]
    np.testing.assert_allclose(ours[f"flow_{n}"], flow[WINDOW - 1 - n :], **EXACT)


def test_ta_lib_finds_the_same_extremes_and_ranges(table: CandleTable, ours: dict[str, Any]) -> None:
    _, high, low, close, _ = columns(table)
    top, bottom = talib.MAX(high, 2400), talib.MIN(low, 2400)
    np.testing.assert_allclose(ours["drawdown_2400"], (close / top - 1)[WINDOW - 1 :], **EXACT)
    np.testing.assert_allclose(ours["rise_2400"], (1 - bottom / close)[WINDOW - 1 :], **EXACT)
    relative = talib.TRANGE(high, low, close)[1:] / close[:-1]
    short, long = talib.SMA(relative, 24), talib.SMA(relative, 384)
    np.testing.assert_allclose(ours["range_share"], ((short - long) / (short + long))[WINDOW - 2 :], **EXACT)


def test_context_is_volatility_and_average_true_range(table: CandleTable) -> None:
    _, high, low, close, _ = columns(table)
    rows = compute(table.open_ms, table.values, HOUR_MS, 10**6)
    context = rows.context[WINDOW - 1 :]
    volatility = np.maximum(deviations(close, 96), deviations(close, 384))
    np.testing.assert_allclose(context[:, 0], volatility[WINDOW - 1 :], **EXACT)
    relative = talib.TRANGE(high, low, close)[1:] / close[:-1]
    np.testing.assert_allclose(context[:, 1], talib.SMA(relative, 24)[WINDOW - 2 :], **EXACT)
    regime = rows.values[WINDOW - 1 :, [FEATURE_NAMES.index("regime_trend"), FEATURE_NAMES.index("regime_volatility")]]
    np.testing.assert_array_equal(context[:, 2:], regime)
