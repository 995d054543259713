"""Rules that need no learning, as target exposures: what an ensemble has to be better than.

Each reads candles up to a close and says what it wants to hold from there, as a share of the symbol's capital. Those
that look at a trend or at volatility decide once a day, on the first candle that closes at 00:00 UTC or later, and
want nothing before their window is full. Days count as candles: ten days of hourly candles are the last 240, whatever
time they took.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from strategy.candle_table import CandleTable
from strategy.trader import Setup
from training import exposures_kernel as kernel
from training.errors import TrainingError
from training.exposures import FloatArray, Grid, follow, worths
from training.track import Track

DAY_MS = 86_400_000
TREND_DAYS = (10, 25, 50, 100)
TREND_SHARE = 0.5
TREND_VOLATILITY = 0.5
VOLATILITY_DAYS = 14
FAST_DAYS, SLOW_DAYS = 20, 100
MOMENTUM_DAYS = 90
CASH, BUY_AND_HOLD, VOLATILITY_TARGETED = "cash", "buy and hold", "volatility-targeted hold"
MOVING_AVERAGE_CROSS, MOMENTUM, TREND = "moving-average cross", "momentum", "trend rule"
_LET_RUN, _LEFT_OUT = 0.25, 0.02
"""Shares of a position by which it may drift, and that are not bought any more when the rest has been."""
_LEAST_VOLATILITY, _MOST_VOLATILITY, _HALVINGS = 1e-4, 1e4, 40

Rule = Callable[[CandleTable], FloatArray]


# ---- what a rule wants, candle by candle: (n,), NaN where it decides nothing ---------------------------------------
def trend(table: CandleTable) -> FloatArray:
    """Return 0.5 x (share of the 10-, 25-, 50- and 100-day means below the price) x min(1, 50 % / volatility).

    volatility: of two weeks, annualised.  Source: the plain rule that the first edition of the ensemble did not beat;
    trends over several horizons sized by volatility: Moskowitz, Ooi, Pedersen (2012), J. Financial Economics 104(2),
    228-250.
    """
    rows = _decisions(table, max(*TREND_DAYS, VOLATILITY_DAYS) * _per_day(table) + 1)
    price = table.values[rows, 3]
    above = sum(price > _mean(table, rows, days) for days in TREND_DAYS) / len(TREND_DAYS)
    return _at(table, rows, TREND_SHARE * above * np.minimum(1.0, _calm(table, rows, TREND_VOLATILITY)))


def volatility_targeted(table: CandleTable, target: float) -> FloatArray:
    """Return target / volatility of two weeks (both annualised, shares), at most 1.

    Source: Moreira, Muir (2017), J. Finance 72(4), 1611-1644; a window of days rather than a month, as of Harvey et
    al. (2018), J. Portfolio Management 45(1), 14-33.
    """
    rows = _decisions(table, VOLATILITY_DAYS * _per_day(table) + 1)
    return _at(table, rows, np.minimum(1.0, _calm(table, rows, target)))


def moving_average_cross(table: CandleTable, size: float) -> FloatArray:
    """Return `size` while the 20-day mean is above the 100-day mean, else 0.

    Source: Brock, Lakonishok, LeBaron (1992), J. Finance 47(5), 1731-1764, long or out of the market.
    """
    rows = _decisions(table, SLOW_DAYS * _per_day(table))
    return _at(table, rows, size * (_mean(table, rows, FAST_DAYS) > _mean(table, rows, SLOW_DAYS)))


def momentum(table: CandleTable, size: float) -> FloatArray:
    """Return `size` while the return of the last 90 days is positive, else 0.

    Source: Moskowitz, Ooi, Pedersen (2012), J. Financial Economics 104(2), 228-250, time series momentum with a look
    back of three months, long or out of the market.
    """
    back = MOMENTUM_DAYS * _per_day(table)
    rows = _decisions(table, back + 1)
    return _at(table, rows, size * (table.values[rows, 3] > table.values[rows - back, 3]))


# ---- accounts that follow the rules --------------------------------------------------------------------------------
def baseline_tracks(tables: Sequence[CandleTable], setup: Setup, ensemble: Track) -> dict[str, Track]:
    """Return by name what accounts did that follow the rules over the candles and with the cash of `ensemble`.

    tables: of every symbol of the ensemble, with what came before, which fills the windows of the rules; later candles
    are left out.  setup: costs, steps and dead band; moving-average cross and momentum hold its `max_position`, let run
    until a quarter of it has come or gone, or nothing. No other limit holds for a rule: nothing is stopped out.
    Raises TrainingError when the candles are not those of the ensemble.
    """
    grid = grid_of(tables, setup, ensemble)
    cash, dead_band, size = float(ensemble.equity[0]), setup.strategy.dead_band, setup.limits.max_position

    def track(name: str, targets: FloatArray, band: float = dead_band) -> Track:
        return follow(grid, targets, cash=cash, dead_band=band, name=name)

    cross = partial(moving_average_cross, size=size)
    target = _matching_volatility(grid, tables, float(np.mean(ensemble.exposure)), cash)
    tracks = (
        track(CASH, grid.no_wish()),
        track(BUY_AND_HOLD, bought_once(grid, cash), _LEFT_OUT),
        track(VOLATILITY_TARGETED, wishes(grid, tables, partial(volatility_targeted, target=target))),
        track(MOVING_AVERAGE_CROSS, wishes(grid, tables, cross), _LET_RUN * size),
        track(MOMENTUM, wishes(grid, tables, partial(momentum, size=size)), _LET_RUN * size),
        track(TREND, wishes(grid, tables, trend), 0.0),
    )
    return {track.name: track for track in tracks}


def grid_of(tables: Sequence[CandleTable], setup: Setup, ensemble: Track) -> Grid:
    """Return the candles that an ensemble's account lived on. Raises TrainingError when `tables` are others."""
    grid = Grid.of(tables, setup, ensemble.start_ms, int(ensemble.close_ms[-1]))
    symbols = tuple(part.symbol for part in ensemble.symbols)
    if grid.symbols != symbols or not np.array_equal(grid.close_ms, ensemble.close_ms):
        raise TrainingError(
            f"{ensemble.name} traded {len(ensemble.close_ms)} candles of {', '.join(symbols)}, but the tables hold "
            f"{len(grid.close_ms)} of {', '.join(grid.symbols)} from {ensemble.start_ms} to {ensemble.close_ms[-1]}: "
            "give the candles that it traded"
        )
    return grid


def wishes(grid: Grid, tables: Sequence[CandleTable], rule: Rule) -> FloatArray:
    """Return what `rule` wants of each symbol at the times of `grid`, (n, n_symbols)."""
    targets, by_symbol = grid.no_wish(), {table.symbol: table for table in tables}
    for index, symbol in enumerate(grid.symbols):
        rows, table = grid.candles_of(symbol), by_symbol[symbol]
        # Cut before it is asked: what comes after the span is nobody's to see.
        seen = table.slice(None, int(grid.close_ms[-1]))
        targets[rows, index] = rule(seen)[len(seen) - len(rows) :]
    return targets


def bought_once(grid: Grid, cash: float) -> FloatArray:
    """Return the targets that spend an equal share of `cash` on each symbol at its first candle, costs included.

    Where the volume of a candle does not give that much, the rest is asked for at the next ones: to be followed with a
    dead band, or a price that moves meanwhile is traded too.
    """
    targets, costs = grid.no_wish(), grid.setup.costs
    share = 1.0 / ((1.0 + costs.slippage_rate) * (1.0 + costs.fee_rate))
    for index, symbol in enumerate(grid.symbols):
        rows = grid.candles_of(symbol)
        close, volume = grid.prices[rows[0], index, kernel.CLOSE], grid.prices[rows[1:], index, kernel.VOLUME]
        wanted = share * cash / len(grid.symbols) / close
        orders = 1 + int(np.searchsorted(np.cumsum(volume * costs.participation), wanted))
        targets[rows[:orders], index] = share
    return targets


def _matching_volatility(grid: Grid, tables: Sequence[CandleTable], exposure: float, cash: float) -> float:
    """Return the target at which the volatility-targeted hold is invested as much, on average, as `exposure`.

    One number for the whole span, known only afterwards: it makes a fair rival of the rule, not a tradable one.
    """
    low, high = _LEAST_VOLATILITY, _MOST_VOLATILITY
    calm = wishes(grid, tables, partial(volatility_targeted, target=_LEAST_VOLATILITY)) / _LEAST_VOLATILITY
    for _ in range(_HALVINGS):
        middle = float(np.sqrt(low * high))
        found = worths(
            grid,
            [np.minimum(1.0, middle * calm)],
            cash=cash,
            dead_band=grid.setup.strategy.dead_band,
            name=VOLATILITY_TARGETED,
        )
        low, high = (middle, high) if found.exposure[0] < exposure else (low, middle)
    return high


# ---- parts ---------------------------------------------------------------------------------------------------------
def _per_day(table: CandleTable) -> int:
    span_ms = table.timeframe.span_ms
    if DAY_MS % span_ms:
        raise TrainingError(
            f"{table.symbol}: a rule that decides once a day cannot use {table.timeframe.name} candles: "
            "give candles that fit into a day"
        )
    return DAY_MS // span_ms


def _decisions(table: CandleTable, window: int) -> NDArray[np.intp]:
    """Return the candles that end a day: the first to close at 00:00 UTC or later, with `window` candles up to them."""
    days = (table.open_ms + table.timeframe.span_ms) // DAY_MS
    rows = np.flatnonzero(np.diff(days, prepend=days[:1]) > 0)
    return rows[rows >= window - 1]


def _mean(table: CandleTable, rows: NDArray[np.intp], days: int) -> FloatArray:
    """Return the mean close of the last `days` up to each of `rows`."""
    close, window = table.values[:, 3], days * _per_day(table)
    return np.array([np.mean(close[row - window + 1 : row + 1]) for row in rows.tolist()])


def _calm(table: CandleTable, rows: NDArray[np.intp], target: float) -> FloatArray:
    """Return `target` over the annualised volatility of two weeks; infinite where nothing moved."""
    close, window = table.values[:, 3], VOLATILITY_DAYS * _per_day(table)
    returns = close[1:] / close[:-1] - 1.0
    spread = np.array([np.std(returns[row - window : row], ddof=1) for row in rows.tolist()])
    volatility = spread * np.sqrt(table.timeframe.candles_per_year)
    calm: FloatArray = np.divide(target, volatility, out=np.full(len(rows), np.inf), where=volatility > 0.0)
    return calm


def _at(table: CandleTable, rows: NDArray[np.intp], wanted: NDArray[np.floating]) -> FloatArray:
    whole = np.full(len(table), np.nan)
    whole[rows] = wanted
    return whole
