import gzip
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from strategy.candle import Timeframe
from strategy.candle_table import CandleTable
from strategy.parameters import CostModel, RiskLimits, StrategyParameters
from tests.fakes.trading import BTC, ETH, HOUR_MS, random_table
from training.candles import read_candles
from training.errors import TrainingError
from training.market import Conditions, first_symbols, instrument_of, setup_of


def table(prices: list[float], volumes: list[float], symbol: str = BTC, timeframe: str = "1h") -> CandleTable:
    span_ms = Timeframe.parse(timeframe).span_ms
    values = [[p, p, p, p, v] for p, v in zip(prices, volumes, strict=True)]
    return CandleTable(
        symbol=symbol,
        timeframe=Timeframe.parse(timeframe),
        open_ms=np.arange(len(prices), dtype=np.int64) * span_ms,
        values=np.array(values),
    )


# ---- steps ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("values", "step"),
    [
        ([1.0, 20.0, 3e6], 1.0),
        ([1.5, 2.0], 0.1),
        ([0.1, 0.2, 0.3, 1.1, 4.35], 0.01),
        ([69_000.01, 3782.13], 0.01),
        ([0.00001234, 0.5], 1e-8),
        ([0.29, 0.57, 0.58, 1.13, 2.26], 0.01),  # whose products with 100 are not whole in float64
        ([1 / 3], 1e-8),
        ([5_000.123456, 6_000.5], 1e-6),
        ([123_456_789_012.25, 1e12], 0.01),
        ([98_765_432.1], 0.1),
    ],
    ids=str,
)
def test_the_step_is_the_finest_digit_ever_printed(values: list[float], step: float) -> None:
    assert instrument_of(table(values, [1.0] * len(values))).tick == step
    assert instrument_of(table([1.0] * len(values), values)).lot == step


@pytest.mark.parametrize("column", ["open", "high", "low", "close"])
def test_every_price_tells_of_the_tick(column: str) -> None:
    row = {"open": 2.0, "high": 4.0, "low": 1.0, "close": 3.0, "volume": 1.0}
    row[column] += 0.25
    one = table([1.0], [1.0])
    found = CandleTable(symbol=BTC, timeframe=one.timeframe, open_ms=one.open_ms, values=np.array([list(row.values())]))
    assert instrument_of(found).tick == 0.01


def test_a_volume_of_zero_tells_nothing_about_the_lot() -> None:
    assert instrument_of(table([1.0, 1.0], [0.0, 0.25])).lot == 0.01
    assert instrument_of(table([1.0, 1.0], [0.0, 0.0])).lot == 1.0


def test_the_instrument_has_the_tables_symbol_and_binances_minimum() -> None:
    made = instrument_of(table([1.0], [1.0], ETH))
    assert (made.symbol, made.min_notional) == (ETH, 5.0)


@pytest.mark.parametrize("market", ["btcusdt", "ethusdt", "adausdt", "xrpusdt", "solusdt", "bnbusdt"])
def test_recorded_files_give_the_finest_digits_of_their_text(
    recorded_candles: Callable[[str], Path], market: str
) -> None:
    """Second source: the digits of the text itself, as Decimal reads them."""
    path = recorded_candles(f"binance/{market}-1h.csv.gz")
    finest = [0, 0]
    for line in gzip.decompress(path.read_bytes()).decode().splitlines()[1:]:
        *prices, volume = line.split(",")[1:]
        for which, texts in enumerate((prices, [volume])):
            for text in texts:
                if "." in text and len(text.rstrip("0").partition(".")[2]) > finest[which]:
                    finest[which] = len(text.rstrip("0").partition(".")[2])
    made = instrument_of(read_candles(path))
    assert [Decimal(repr(made.tick)), Decimal(repr(made.lot))] == [Decimal(1).scaleb(-digits) for digits in finest]


def test_recorded_bitcoin_has_cents_and_millionths(recorded_candles: Callable[[str], Path]) -> None:
    made = instrument_of(read_candles(recorded_candles("binance/btcusdt-1h.csv.gz")))
    assert (made.tick, made.lot) == (0.01, 1e-6)


# ---- setups -----------------------------------------------------------------------------------------------------
def test_a_setup_holds_the_instruments_in_the_order_of_the_tables_and_the_given_conditions() -> None:
    conditions = Conditions(
        strategy=StrategyParameters(dead_band=0.1), limits=RiskLimits(stop_loss=0.2), costs=CostModel(fee_rate=0.002)
    )
    tables = [random_table(3, symbol=ETH), random_table(3, symbol=BTC)]
    made = setup_of(tables, conditions, "mine")
    assert (made.instance, made.timeframe.span_ms, list(made.instruments)) == ("mine", HOUR_MS, [ETH, BTC])
    assert (made.strategy, made.limits, made.costs) == (conditions.strategy, conditions.limits, conditions.costs)
    assert first_symbols(tables) == (ETH, BTC)


def test_conditions_are_the_defaults_of_the_strategy_unless_told() -> None:
    assert Conditions() == Conditions(strategy=StrategyParameters(), limits=RiskLimits(), costs=CostModel())


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (table([1.0], [1.0]), r"two files hold the same symbol: BTC/USDT, BTC/USDT; give one file per symbol"),
        (table([1.0], [1.0], ETH, "1d"), r"the files have different timeframes: 1d, 1h; give files of one"),
    ],
    ids=["symbol", "timeframe"],
)
def test_tables_that_do_not_go_together_are_refused(second: CandleTable, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        setup_of([table([1.0], [1.0]), second], Conditions(), "mine")
