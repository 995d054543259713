"""Accounts that follow target exposures: what any rule is worth under the costs and fills that the ensemble has.

An account is simulated by `exposures_kernel.py`. A rule comes here as numbers only: what it wants to hold, candle by
candle.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from strategy.candle_table import CandleTable
from strategy.order import Fill, Side, client_order_id
from strategy.trader import Setup
from training import exposures_kernel as kernel
from training.errors import TrainingError
from training.kernel_rounding import decimal_step, is_exact
from training.metrics import daily_returns, sharpe_ratio
from training.track import SymbolTrack, Track

FloatArray = NDArray[np.float64]
_PRICE_ROOM = 2.0  # the worst slippage is a tenth


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Grid:
    """Candles of several symbols on one axis of time, and what they are traded under.

    symbols: in the fixed order, that of the setup.  close_ms: (n,) int64, every time at which any of them has a
    candle.  prices: (n, n_symbols, 3) open, close and volume, 0 where a symbol has no candle.  markets: (n_symbols,)
    of `exposures_kernel.MARKET`.
    """

    setup: Setup
    symbols: tuple[str, ...]
    close_ms: NDArray[np.int64]
    prices: FloatArray
    markets: NDArray[np.void]

    @classmethod
    def of(cls, tables: Sequence[CandleTable], setup: Setup, start_ms: int | None, end_ms: int | None = None) -> "Grid":
        """Return the candles of `tables` that open in [start_ms, end_ms); None leaves that end open.

        Raises TrainingError when there is none, for a symbol that the setup does not know or that stands there twice,
        and for steps that prices cannot be rounded to exactly.
        """
        kept = {table.symbol: table.slice(start_ms, end_ms) for table in tables}
        _check_symbols([table.symbol for table in tables], setup)
        symbols = tuple(symbol for symbol in setup.instruments if symbol in kept)
        open_ms = np.unique(np.concatenate([kept[symbol].open_ms for symbol in symbols]))
        if not len(open_ms):
            raise TrainingError("no candle lies in the span: choose one inside the files")
        prices = np.zeros((len(open_ms), len(symbols), 3))
        for index, symbol in enumerate(symbols):
            prices[np.searchsorted(open_ms, kept[symbol].open_ms), index] = kept[symbol].values[:, [0, 3, 4]]
        markets = np.concatenate([_market(setup, symbol, prices[:, i, :2]) for i, symbol in enumerate(symbols)])
        close_ms = open_ms + setup.timeframe.span_ms
        return cls(setup=setup, symbols=symbols, close_ms=close_ms, prices=prices, markets=markets)

    def candles_of(self, symbol: str) -> NDArray[np.intp]:
        """Return the rows at which `symbol` has a candle, ascending."""
        return np.flatnonzero(self.prices[:, self.symbols.index(symbol), kernel.OPEN])

    def no_wish(self) -> FloatArray:
        """Return targets of an account that never asks for anything, (n, n_symbols)."""
        return np.full(self.prices.shape[:2], np.nan)


def _check_symbols(symbols: Sequence[str], setup: Setup) -> None:
    if unknown := sorted(set(symbols) - set(setup.instruments)):
        known = ", ".join(setup.instruments)
        raise TrainingError(f"{', '.join(unknown)}: no instrument in the setup, which knows {known}; add one")
    if len(set(symbols)) != len(symbols):
        raise TrainingError(f"two tables hold the same symbol: {', '.join(sorted(symbols))}; give one table per symbol")


def _market(setup: Setup, symbol: str, prices: FloatArray) -> NDArray[np.void]:
    instrument, market = setup.instruments[symbol], np.zeros(1, kernel.MARKET)
    market["tick"], market["min_notional"] = instrument.tick, instrument.min_notional
    market["participation"] = setup.costs.participation
    for name, step in (("tick", instrument.tick), ("lot", instrument.lot)):
        market[f"{name}_digits"], market[f"{name}_scale"] = decimal_step(f"{symbol}: {name}", step)
    highest = float(prices.max())
    if not is_exact(highest * _PRICE_ROOM, float(market["tick_digits"][0]), float(market["tick_scale"][0])):
        raise TrainingError(
            f"{symbol}: prices up to {highest} have too many digits in ticks of {instrument.tick}: give a coarser tick"
        )
    return market


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Run:
    """What the compiled account left behind. fills: (n_fills, 7), see `exposures_kernel`."""

    account: np.void
    equity: FloatArray
    exposure: FloatArray
    actions: NDArray[np.int8]
    fills: FloatArray


def _run(
    grid: Grid, targets: FloatArray, *, cash: float, dead_band: float, most: float, name: str, whole: bool
) -> _Run:
    """Simulate one account. whole: note exposures, actions and fills too, not only what it was worth."""
    n, n_symbols = targets.shape
    rows = n if whole else 0
    equity, exposure = np.empty(n), np.zeros((rows, n_symbols))
    actions, fills = np.full((rows, n_symbols), -1, np.int8), np.zeros((rows * n_symbols, 7))
    positions, accounts = np.zeros(n_symbols, kernel.POSITION), np.zeros(2, kernel.ACCOUNT)
    accounts["fee_rate"], accounts["slippage_rate"] = grid.setup.costs.fee_rate, grid.setup.costs.slippage_rate
    accounts["cash"] = cash
    kernel.run(
        grid.prices, targets, grid.markets, positions, accounts, dead_band, most, equity, exposure, actions, fills
    )
    account: np.void = accounts[0]
    if account["is_inexact"]:
        raise TrainingError(_too_many_digits(name, f"what {cash} of cash became buys so much"))
    return _Run(
        account=account, equity=equity, exposure=exposure, actions=actions, fills=fills[: int(account["n_fills"])]
    )


def follow(grid: Grid, targets: FloatArray, *, cash: float, dead_band: float, name: str, most: float = np.inf) -> Track:
    """Return what an account did that asks for `targets` at every close and is filled at the next open.

    targets: (n, n_symbols), shares of a symbol's capital (the account's equity divided equally among the symbols),
    0 .. 1; NaN where nothing is asked for: what is held stays. A target of a symbol without a candle is not seen.
    An order that finds too little volume or cash expires; what is left is asked for again by the next target only.
    dead_band: smaller changes are not traded, and what would remain below it is sold too.  most: what has grown above
    it is cut down to it at every close.
    Raises TrainingError for targets of another shape or range, cash that is not positive, and quantities of too many
    digits.
    """
    _check(grid, targets, cash, name)
    done = _run(grid, targets, cash=cash, dead_band=dead_band, most=most, name=name, whole=True)
    return Track(
        name=name,
        timeframe_ms=grid.setup.timeframe.span_ms,
        close_ms=grid.close_ms,
        equity=np.concatenate([[cash], done.equity]),
        exposure=done.exposure.sum(axis=1),
        fills=tuple(_fills(grid, done.fills)),
        fees=float(done.account["fees"]),
        slippage=float(done.account["slippage"]),
        symbols=tuple(_symbol_track(grid, done, index) for index in range(len(grid.symbols))),
    )


def _check(grid: Grid, targets: FloatArray, cash: float, name: str) -> None:
    if targets.shape != grid.prices.shape[:2]:
        raise TrainingError(f"{name}: targets of shape {targets.shape} do not fit candles of {grid.prices.shape[:2]}")
    if not 0.0 < cash < np.inf:
        raise TrainingError(f"{name}: cash of {cash} is not a positive number")
    for symbol, market, close in zip(grid.symbols, grid.markets, grid.prices[:, :, kernel.CLOSE].T, strict=True):
        lowest = float(np.min(close[close > 0.0], initial=np.inf))
        # The compiled search for what cash pays for ends only where one lot makes a difference.
        if not is_exact(cash / lowest, float(market["lot_digits"]), float(market["lot_scale"])):
            raise TrainingError(_too_many_digits(name, f"{cash} of cash buy so much {symbol} at {lowest}"))
    wrong = np.argwhere(~(np.isnan(targets) | ((targets >= 0.0) & (targets <= 1.0))))
    if len(wrong):
        row, index = wrong[0].tolist()
        raise TrainingError(
            f"{name}: target {targets[row, index]} of {grid.symbols[index]} at {grid.close_ms[row]} is outside 0 .. 1"
        )


def _too_many_digits(name: str, what: str) -> str:
    return f"{name}: {what} that it has too many digits in lots: give a coarser lot or less cash"


def _fills(grid: Grid, notes: FloatArray) -> Iterator[Fill]:
    open_ms = (grid.close_ms - grid.setup.timeframe.span_ms).tolist()
    for row, index, quantity, price, fee, reference, decided in notes.tolist():
        symbol = grid.symbols[int(index)]
        client_id = client_order_id(grid.setup.instance, symbol, open_ms[int(decided)], 0)
        yield Fill(
            fill_id=f"{client_id}.1",
            client_id=client_id,
            symbol=symbol,
            side=Side.BUY if quantity > 0.0 else Side.SELL,
            quantity=abs(quantity),
            price=price,
            fee=fee,
            at_ms=open_ms[int(row)],
            reference_price=reference,
        )


def _symbol_track(grid: Grid, done: _Run, index: int) -> SymbolTrack:
    close, n = grid.prices[:, index, kernel.CLOSE], len(grid.close_ms)
    # Where a symbol has no candle its last close stands; 0 before its first, as in a portfolio.
    last = np.maximum.accumulate(np.where(close > 0.0, np.arange(n), 0))
    return SymbolTrack(
        symbol=grid.symbols[index],
        close=close[last],
        exposure=done.exposure[:, index].copy(),
        action=done.actions[:, index].copy(),
        direction=np.zeros((n, 0), np.float32),
        disagreement=np.full(n, np.nan),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Worths:
    """What many accounts were worth, (n_accounts,) each. sharpe: annualised, NaN where it is not defined.

    exposure: mean share of equity.  turnover: traded notional over mean equity, of the whole span.
    """

    sharpe: FloatArray
    total_return: FloatArray
    exposure: FloatArray
    turnover: FloatArray


def worths(grid: Grid, many: Iterable[FloatArray], *, cash: float, dead_band: float, name: str) -> Worths:
    """Return what accounts were worth that follow each of `many` targets, without their tracks; see `follow`."""
    times = np.concatenate([grid.close_ms[:1], grid.close_ms])
    rows = []
    for targets in many:
        _check(grid, targets, cash, name)
        done = _run(grid, targets, cash=cash, dead_band=dead_band, most=np.inf, name=name, whole=False)
        sharpe = sharpe_ratio(daily_returns(times, np.concatenate([[cash], done.equity])))
        exposure = float(done.account["invested"]) / len(done.equity)
        turnover = float(done.account["traded"]) / float(np.mean(done.equity))
        rows.append((np.nan if sharpe is None else sharpe, float(done.equity[-1]) / cash - 1.0, exposure, turnover))
    columns = np.array(rows).reshape(-1, 4).T
    return Worths(sharpe=columns[0], total_return=columns[1], exposure=columns[2], turnover=columns[3])
