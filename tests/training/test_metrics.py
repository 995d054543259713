"""Expected figures come from pandas, written out independently, or from hand."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.metrics import daily_returns, max_drawdown, sharpe_ratio

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
START_MS = 1_609_459_200_000  # 2021-01-01 00:00 UTC


def hourly(count: int, start_ms: int = START_MS) -> np.ndarray:
    """Return the close times of `count` hourly candles from `start_ms` on."""
    return start_ms + HOUR_MS * np.arange(1, count + 1, dtype=np.int64)


def by_pandas(close_ms: np.ndarray, equity: np.ndarray) -> pd.Series:
    """Return daily returns: last mark of each UTC day; a candle that closes at midnight ends the day before."""
    marks = pd.Series(equity, index=pd.to_datetime(close_ms - 1, unit="ms", utc=True)).resample("1D").last().dropna()
    return (marks / marks.shift(1, fill_value=equity[0])) - 1.0


def walk(count: int, seed: int) -> np.ndarray:
    return 1_000.0 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0.0, 0.01, count)))


# ---- daily returns ----------------------------------------------------------------------------------------------
def test_two_days_by_hand() -> None:
    equity = np.array([100.0] * 23 + [110.0] + [50.0] * 23 + [99.0])
    assert daily_returns(hourly(48), equity) == pytest.approx([0.10, -0.10])


def test_a_candle_that_closes_at_midnight_belongs_to_the_day_it_ends() -> None:
    close_ms = np.array([START_MS + DAY_MS, START_MS + DAY_MS + 1])
    assert daily_returns(close_ms, np.array([100.0, 150.0])) == pytest.approx([0.0, 0.5])


def test_a_day_without_candles_is_part_of_the_next_days_return() -> None:
    close_ms = START_MS + DAY_MS * np.array([1, 2, 5], dtype=np.int64)
    assert daily_returns(close_ms, np.array([100.0, 101.0, 202.0])) == pytest.approx([0.0, 0.01, 1.0])


@pytest.mark.parametrize("offset", [0, 5, 23], ids=["midnight", "five", "last-hour"])
def test_daily_returns_agree_with_pandas(offset: int) -> None:
    close_ms, equity = hourly(2_000, START_MS + offset * HOUR_MS), walk(2_000, offset)
    kept = np.random.default_rng(1).random(2_000) > 0.2
    kept[300:400] = False  # four days without a candle
    expected = by_pandas(close_ms[kept], equity[kept])
    assert daily_returns(close_ms[kept], equity[kept]) == pytest.approx(expected.to_numpy(), abs=1e-12)


@given(st.lists(st.floats(1.0, 1e6), min_size=1, max_size=200))
def test_daily_returns_multiply_to_the_whole_return(values: list[float]) -> None:
    equity = np.array(values)
    grown = np.prod(1.0 + daily_returns(hourly(len(values)), equity))
    assert grown == pytest.approx(equity[-1] / equity[0], rel=1e-9)


def test_one_candle_is_one_day_without_a_return() -> None:
    assert daily_returns(hourly(1), np.array([5.0])).tolist() == [0.0]


def test_no_candle_has_no_return() -> None:
    assert len(daily_returns(hourly(0), np.zeros(0))) == 0


# ---- sharpe -----------------------------------------------------------------------------------------------------
def test_sharpe_by_hand() -> None:
    # mean 0.01, standard deviation (n - 1) sqrt(0.0004 / 2 ... ) of 0.03, -0.01, 0.01 is 0.02
    assert sharpe_ratio(np.array([0.03, -0.01, 0.01])) == pytest.approx(0.5 * math.sqrt(365))
    assert sharpe_ratio(np.array([0.03, -0.01, 0.01]), periods_per_year=4.0) == pytest.approx(1.0)


def test_sharpe_agrees_with_pandas() -> None:
    returns = pd.Series(np.random.default_rng(2).normal(0.001, 0.03, 500))
    assert sharpe_ratio(returns.to_numpy()) == pytest.approx(returns.mean() / returns.std() * 365**0.5)


@pytest.mark.parametrize("returns", [[], [0.01], [0.0, 0.0, 0.0]], ids=["none", "one", "constant"])
def test_sharpe_is_not_defined_without_a_spread(returns: list[float]) -> None:
    assert sharpe_ratio(np.array(returns)) is None


# ---- drawdown ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("equity", "fall"),
    [([], 0.0), ([5.0], 0.0), ([1.0, 2.0, 3.0], 0.0), ([100.0, 80.0, 90.0, 120.0, 90.0], 0.25), ([4.0, 4.0], 0.0)],
    ids=["none", "one", "rising", "second-fall-deeper", "constant"],
)
def test_drawdown_by_hand(equity: list[float], fall: float) -> None:
    assert max_drawdown(np.array(equity)) == pytest.approx(fall)


def test_drawdown_agrees_with_pandas() -> None:
    equity = pd.Series(walk(3_000, 3))
    assert max_drawdown(equity.to_numpy()) == pytest.approx((1.0 - equity / equity.cummax()).max())
