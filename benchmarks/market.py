"""The hourly candles that benchmarks trade: recorded ones where they are, else a random walk of the same length."""

import os
from pathlib import Path

from strategy.candle_table import CandleTable
from strategy.instrument import Instrument
from strategy.parameters import CostModel, RiskLimits, StrategyParameters
from strategy.trader import Setup
from tests.fakes.trading import random_table
from training.candles import read_candles

_ROOT = Path(os.environ.get("SACD_TEST_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
_RECORDED = _ROOT / "binance" / "btcusdt-1h.csv.gz"
_CANDLES = 46_981


def hourly_candles() -> tuple[CandleTable, str]:
    """Return the candles and, in words, which they are."""
    if _RECORDED.is_file():
        table = read_candles(_RECORDED)
        return table, f"{len(table):,} recorded candles of btcusdt-1h"
    return random_table(_CANDLES), f"{_CANDLES:,} candles of a random walk, for {_RECORDED} is not here"


def setup_for(table: CandleTable) -> Setup:
    """Return the default setup of an account that trades `table`."""
    instrument = Instrument(symbol=table.symbol, tick=0.01, lot=0.00001, min_notional=5.0)
    return Setup(
        instance="benchmark",
        timeframe=table.timeframe,
        instruments={table.symbol: instrument},
        strategy=StrategyParameters(),
        limits=RiskLimits(),
        costs=CostModel(),
    )
