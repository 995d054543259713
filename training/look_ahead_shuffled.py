"""The shuffled market: the same candles in an order of chance, where nobody can know anything.

Candles are drawn with replacement, as ratios to the close before, less the mean return: every price is then a fair game
and what can be earned on it is nothing, less costs. A mere permutation would end where the market ended: whoever buys
below the end and sells above it earns, without having seen anything.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from strategy.candle_table import CandleTable
from strategy.features import WINDOW
from strategy.trader import Reference, Setup, Voters
from training import backtest
from training.errors import TrainingError
from training.intervals import mean_interval
from training.metrics import daily_returns, sharpe_ratio

DRAWS = 24
CANDLES = 4_000
"""What each draw is traded for: half a year of hourly ones."""
_CONFIDENCE = 0.998
"""Of the two-sided interval, so that an honest ensemble is accused once in a thousand times at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shuffled:
    """What the ensemble earned on shuffled markets. draws: how many; traded: on how many of them it traded at all.

    sharpe: mean annualised Sharpe ratio of those, after costs, with its interval of 99.8 %; None with fewer than two.
    is_leak: the whole interval lies above 0: an edge that survives shuffling was not found in the past.
    """

    draws: int
    traded: int
    sharpe: float | None
    low: float | None
    high: float | None
    is_leak: bool


def check_shuffled(
    tables: Sequence[CandleTable],
    setup: Setup,
    voters: Voters,
    reference: Reference | None,
    *,
    draws: int = DRAWS,
    candles: int = CANDLES,
    seed: int = 0,
    tell: Callable[[int], None] | None = None,
) -> Shuffled:
    """Return what `voters` earn on shuffled markets, one symbol and account a draw, the tables taking turns.

    candles: traded on each.  tell: told how many draws are done.
    Raises TrainingError for a table of fewer than two candles.
    """
    sharpes = []
    for draw in range(draws):
        table = shuffled(tables[draw % len(tables)], WINDOW - 1 + candles, np.random.default_rng((seed, draw)))
        alone = replace(setup, instruments={table.symbol: setup.instruments[table.symbol]})
        record, _ = backtest.run([table], alone, voters, reference=reference)
        sharpes.append(_sharpe(record))
        if tell is not None:
            tell(draw + 1)
    defined = [sharpe for sharpe in sharpes if sharpe is not None]
    interval = mean_interval(defined, _CONFIDENCE)
    return Shuffled(
        draws=draws,
        traded=len(defined),
        sharpe=None if interval is None else interval.mean,
        low=None if interval is None else interval.low,
        high=None if interval is None else interval.high,
        is_leak=interval is not None and interval.low > 0.0,
    )


def shuffled(table: CandleTable, count: int, rng: np.random.Generator) -> CandleTable:
    """Return `count` candles drawn from `table` with replacement, each on the close before, without drift.

    Raises TrainingError when the table has fewer than two candles.
    """
    if len(table) < 2:  # noqa: PLR2004 - a ratio needs two closes
        raise TrainingError(f"{table.symbol}: {len(table)} candle cannot be shuffled: give more candles")
    ratios = table.values[1:, :4] / table.values[:-1, 3:4]
    drawn = rng.integers(len(ratios), size=count)
    taken = ratios[drawn] / ratios[:, 3].mean()
    close = table.values[0, 3] * np.cumprod(taken[:, 3])
    before = np.concatenate([table.values[:1, 3], close[:-1]])
    prices = before[:, None] * taken
    prices[:, 3] = close
    # The product above and the cumulated one may round apart.
    prices[:, 1], prices[:, 2] = prices.max(axis=1), prices.min(axis=1)
    values = np.column_stack([prices, table.values[1:, 4][drawn]])
    open_ms = table.open_ms[0] + np.arange(count) * table.timeframe.span_ms
    return replace(table, open_ms=open_ms, values=values)


def _sharpe(record: backtest.Record) -> float | None:
    times = np.array([record.close_ms[0], *record.close_ms], np.int64)
    return sharpe_ratio(daily_returns(times, np.array([backtest.INITIAL_CASH, *record.equity])))
