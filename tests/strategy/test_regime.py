from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from strategy.arithmetic import ARRAYS, FLOATS
from strategy.candle_table import CandleTable, parse_csv
from strategy.features import WINDOW, compute
from strategy.regime import REGIMES, Regime, Trend, Volatility, trend_code, volatility_code
from tests.fakes.tables import computed
from tests.fakes.trading import HOUR_MS, random_table


@pytest.mark.parametrize(
    ("score", "code"),
    [(0.0, 0.0), (0.5, 0.0), (0.5000001, 1.0), (-0.5, 0.0), (-0.5000001, -1.0), (9.0, 1.0), (-9.0, -1.0)],
)
def test_a_trend_is_a_move_of_more_than_half_a_deviation(score: float, code: float) -> None:
    assert trend_code(FLOATS, score) == code
    assert trend_code(ARRAYS, np.array([score, 0.0])).tolist() == [code, 0.0]


@pytest.mark.parametrize(
    ("short", "long", "code"),
    [
        pytest.param(0.01, 0.01, 0.0, id="equal"),
        pytest.param(1.5, 1.0, 1.0, id="half as much again"),
        pytest.param(1.4, 1.0, 0.0, id="at the limit"),
        pytest.param(1.0, 1.5, -1.0, id="a third less"),
        pytest.param(1.0, 1.4, 0.0, id="at the lower limit"),
        pytest.param(0.0, 0.0, 0.0, id="no movement at all"),
    ],
)
def test_volatility_is_high_or_low_beyond_a_factor_of_1_4(short: float, long: float, code: float) -> None:
    assert volatility_code(FLOATS, short, long) == code
    assert volatility_code(ARRAYS, np.array([short]), np.array([long])).tolist() == [code]


def test_every_pair_of_codes_is_one_of_nine_regimes() -> None:
    assert len(REGIMES) == 9
    assert len(set(REGIMES.values())) == 9
    assert REGIMES[1.0, -1.0] == Regime(Trend.UP, Volatility.LOW)
    assert REGIMES[-1.0, 1.0] == Regime(Trend.DOWN, Volatility.HIGH)
    assert REGIMES[-0.0, 0.0] == Regime(Trend.FLAT, Volatility.NORMAL)


def test_a_regime_reads_as_words() -> None:
    assert str(Regime(Trend.UP, Volatility.HIGH)) == "up, high volatility"
    assert str(Regime(Trend.FLAT, Volatility.NORMAL)) == "flat, normal volatility"


# A walk whose returns alternate between +-1 % and, over the last candles, drift or swing as named.
@pytest.mark.parametrize(
    ("returns", "regime"),
    [
        pytest.param([0.01, -0.01] * 192, Regime(Trend.FLAT, Volatility.NORMAL), id="as always"),
        pytest.param([0.012, -0.008] * 192, Regime(Trend.UP, Volatility.NORMAL), id="drifting up"),
        pytest.param([0.008, -0.012] * 192, Regime(Trend.DOWN, Volatility.NORMAL), id="drifting down"),
        pytest.param([0.02, -0.02] * 48, Regime(Trend.FLAT, Volatility.HIGH), id="swinging"),
        pytest.param([0.002, -0.002] * 48, Regime(Trend.FLAT, Volatility.LOW), id="calm"),
    ],
)
def test_the_regime_of_a_market(returns: list[float], regime: Regime) -> None:
    moves = np.array([*[0.01, -0.01] * (WINDOW // 2 + 1), *returns])
    # Compensated, so that plain alternation goes nowhere.
    close = 100.0 * np.cumprod(1.0 + moves + moves**2 / 2.0)
    table = replace(random_table(len(close)), values=np.stack([close] * 4 + [np.ones(len(close))], axis=1))
    row = computed(table, 0)[-1]
    assert row is not None
    assert row.regime == regime


def test_recorded_years_have_seen_all_nine_regimes(recorded_candles: Callable[[str], Path]) -> None:
    path = recorded_candles("binance/btcusdt-1h.csv.gz")
    table: CandleTable = parse_csv(path.read_bytes(), name=path.name, symbol="BTC/USDT", timeframe=None)
    context = compute(table.open_ms, table.values, HOUR_MS, 48).context[WINDOW - 1 :, 2:]
    assert {REGIMES[trend, regime] for trend, regime in context.tolist()} == set(REGIMES.values())
