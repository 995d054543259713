"""What recorded candles tell of a market: the steps of price and quantity, and the setup a run trades under."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from strategy.candle_table import CandleTable
from strategy.instrument import Instrument
from strategy.parameters import CostModel, RiskLimits, StrategyParameters
from strategy.trader import Setup
from training.errors import TrainingError
from training.history import History

MIN_NOTIONAL = 5.0
"""Smallest order of Binance's USDT pairs, in quote; recorded candles do not tell it."""
_MOST_DECIMALS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """Everything tunable a simulated account trades under."""

    strategy: StrategyParameters = field(default_factory=StrategyParameters)
    limits: RiskLimits = field(default_factory=RiskLimits)
    costs: CostModel = field(default_factory=CostModel)


def instrument_of(table: CandleTable) -> Instrument:
    """Return the steps that the recorded digits show: the finest price and the finest volume ever printed."""
    tick, lot = _step(table.values[:, :4]), _step(table.values[:, 4])
    return Instrument(symbol=table.symbol, tick=tick, lot=lot, min_notional=MIN_NOTIONAL)


def setup_of(tables: Sequence[CandleTable], conditions: Conditions, instance: str) -> Setup:
    """Return the setup of an account that trades `tables`. Raises TrainingError when they do not go together."""
    symbols = [table.symbol for table in tables]
    if len(set(symbols)) != len(symbols):
        raise _same_symbol(symbols)
    return _setup(tables, conditions, instance)


def setup_of_histories(histories: Sequence[History], conditions: Conditions, instance: str) -> Setup:
    """Return the setup of accounts that practise on `histories`, of which several may be stretches of one symbol.

    Raises TrainingError when they do not go together, such as stretches that overlap.
    """
    last_ms: dict[str, int] = {}
    for history in sorted(histories, key=lambda history: int(history.table.open_ms[history.starts[0]])):
        if int(history.table.open_ms[history.starts[0]]) <= last_ms.get(history.symbol, -1):
            raise _same_symbol([history.symbol for history in histories])
        last_ms[history.symbol] = int(history.table.open_ms[-1])
    return _setup([history.table for history in histories], conditions, instance)


def _same_symbol(symbols: Sequence[str]) -> TrainingError:
    return TrainingError(f"two files hold the same symbol: {', '.join(sorted(symbols))}; give one file per symbol")


def _setup(tables: Sequence[CandleTable], conditions: Conditions, instance: str) -> Setup:
    frames = {table.timeframe.name for table in tables}
    if len(frames) != 1:
        raise TrainingError(f"the files have different timeframes: {', '.join(sorted(frames))}; give files of one")
    return Setup(
        instance=instance,
        timeframe=tables[0].timeframe,
        instruments=_instruments(tables),
        strategy=conditions.strategy,
        limits=conditions.limits,
        costs=conditions.costs,
    )


def _instruments(tables: Sequence[CandleTable]) -> dict[str, Instrument]:
    """Return the instrument of each symbol; of several tables of one, the finest steps count."""
    found: dict[str, Instrument] = {}
    for table in tables:
        own = instrument_of(table)
        known = found.get(table.symbol, own)
        found[table.symbol] = replace(own, tick=min(known.tick, own.tick), lot=min(known.lot, own.lot))
    return found


def _step(values: NDArray[np.float64]) -> float:
    """Return the smallest power of ten, not below 1e-8, on whose grid all values lie."""
    for decimals in range(_MOST_DECIMALS):
        scaled = values * 10.0**decimals
        # Reading the digits and this product each round once; a wider tolerance would swallow digits of large volumes.
        if np.all(np.abs(scaled - np.round(scaled)) <= 2.0 * np.finfo(np.float64).eps * np.abs(scaled)):
            return float(f"1e-{decimals}")
    return float(f"1e-{_MOST_DECIMALS}")


def first_symbols(tables: Iterable[CandleTable]) -> tuple[str, ...]:
    """Return the symbols in the order of the files."""
    return tuple(table.symbol for table in tables)
