"""The compiled account against the daemon's own path, which is asked for the same targets."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategy.candle_table import CandleTable
from strategy.order import Fill
from strategy.trader import Setup, Trader
from tests.fakes.trading import BTC, ETH, HOUR_MS, random_table, setup
from tests.training.markets import FIRST, changed, history, with_gap
from training import backtest, exposures_kernel
from training.backtest import Record
from training.errors import TrainingError
from training.exposures import Grid, follow, worths
from training.reward import ActionKind
from training.track import Track

XRP = "XRP/USDT"
CASH = 100_000.0
START_MS = FIRST * HOUR_MS
WIDE = {
    "max_position": 1.0,
    "max_drawdown": 0.99,
    "stop_loss": 0.99,
    "stop_atr_multiple": 0.0,
    "daily_loss": 0.99,
    "max_orders_per_day": 100_000,
    "max_turnover_per_day": 10_000.0,
    "loss_streak": 10_000,
    "edge_multiple": 0.0,
    "volatility_target": 10.0,
    "decide_every": 1,
}
"""No limit stands in the way. An exposure above 1 is still cut down to 1, as `most` says to the compiled account."""


class Following:
    """Voters that ask a trader for exposures, and note what they really asked for: votes are float32."""

    weights = np.ones(1)

    def __init__(self, wanted: np.ndarray, close_ms: np.ndarray) -> None:
        self.trader: Any = None
        self.wanted, self.asked = wanted, np.full(wanted.shape, np.nan)
        self.row = {time: row for row, time in enumerate((close_ms - HOUR_MS).tolist())}

    def act(self, observations: np.ndarray) -> np.ndarray:
        trader = self.trader
        now_ms = max(trader._open_ms.values())
        shown = [i for i, symbol in enumerate(trader.features) if trader._open_ms[symbol] == now_ms]
        votes = [self._vote(list(trader.features)[index], self.row[now_ms], index) for index in shown]
        assert len(votes) == len(observations)
        return np.array(votes, np.float32)[:, None]

    def _vote(self, symbol: str, row: int, index: int) -> tuple[float, float, float]:
        wanted, exposure = self.wanted[row, index], self.trader.portfolio.exposure(symbol)
        if math.isnan(wanted):
            return 0.0, 1.0, 1.0
        step = float(np.float32(wanted - exposure))
        self.asked[row, index] = min(max(exposure + step, 0.0), 1.0)
        return math.copysign(1.0, step), abs(step), 1.0


def traded(
    tables: Sequence[CandleTable], made: Setup, wanted: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> tuple[Grid, np.ndarray, Record, Trader]:
    """Return the grid, what was asked for, and what the daemon's path did."""
    grid = Grid.of(tables, made, START_MS)
    who = Following(wanted, grid.close_ms)

    def trader(*arguments: Any) -> Trader:
        who.trader = Trader(*arguments)
        return who.trader

    with monkeypatch.context() as patch:
        patch.setattr(backtest, "Trader", trader)
        record, ran = backtest.run(tables, made, who, start_ms=START_MS, cash=CASH)
    return grid, who.asked, record, ran


def wishes(shape: tuple[int, ...], seed: int, busy: float) -> np.ndarray:
    """Return targets of every kind: none, nothing, all, and anything between."""
    rng = np.random.default_rng(seed)
    wanted = rng.choice([0.0, 1.0, 0.5, np.nan], shape, p=[0.2, 0.2, 0.2, 0.4])
    wanted = np.where(rng.random(shape) < 0.4, rng.random(shape), wanted)
    return np.where(rng.random(shape) < busy, wanted, np.nan)


def essence(fill: Fill) -> tuple[Any, ...]:
    return fill.at_ms, fill.symbol, fill.side, fill.quantity, fill.price, fill.fee, fill.reference_price


def assert_same(track: Track, record: Record, trader: Trader) -> None:
    """Compare to the bit, not only within a tolerance: the arithmetic is the same."""
    assert [essence(fill) for fill in track.fills] == [essence(fill) for fill in record.fills]
    assert track.close_ms.tolist() == record.close_ms
    assert track.equity.tolist() == [CASH, *record.equity]
    assert track.fees == trader.portfolio.fees
    assert track.slippage == trader.portfolio.slippage
    np.testing.assert_allclose(track.exposure, record.exposure, rtol=0.0, atol=1e-9)


# ---- equal to what trades ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("dead_band", [0.0, 0.02, 0.2])
@pytest.mark.parametrize("busy", [0.04, 1.0])
def test_one_symbol_is_traded_as_the_daemon_would(
    dead_band: float, busy: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = with_gap(history(300, seed=5), FIRST + 90, 7)
    made = setup(dead_band=dead_band, **WIDE)
    wanted = wishes((len(table.slice(START_MS)), 1), 8, busy)
    grid, asked, record, trader = traded([table], made, wanted, monkeypatch)
    track = follow(grid, asked, cash=CASH, dead_band=dead_band, name="wishes")
    assert len(track.fills) > (100 if busy == 1.0 and dead_band < 0.2 else 4)
    assert_same(track, record, trader)


@pytest.mark.parametrize("seed", range(6))
def test_several_symbols_share_the_cash_in_the_fixed_order(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gaps of one symbol, orders that wait through them, too little volume, too little cash, exposures above 1."""
    gaps = [FIRST + 40 + 3 * seed, FIRST + 120]
    tables = [
        history(260, seed=seed, symbol=BTC),
        random_table(FIRST + 258, seed=seed + 100, symbol=XRP, gaps=gaps),
        with_gap(history(230, seed=seed + 200, symbol=ETH), FIRST + 60, 12),
    ]
    # Volumes from next to nothing to plenty.
    thin = tables[1].values * [1, 1, 1, 1, 0.02]
    tables[1] = changed(tables[1], values=thin)
    made = setup([ETH, BTC, XRP], dead_band=0.02, **WIDE)
    shape = (len(Grid.of(tables, made, START_MS).close_ms), 3)
    grid, asked, record, trader = traded(tables, made, wishes(shape, seed, 0.7), monkeypatch)
    track = follow(grid, asked, cash=CASH, dead_band=0.02, name="wishes", most=1.0)
    assert grid.symbols == (ETH, BTC, XRP) == tuple(part.symbol for part in track.symbols)
    assert len(track.fills) > 200
    assert_same(track, record, trader)


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.0, 0.0005, 0.01]),
    st.sampled_from([0.0, 0.001, 0.02]),
    st.sampled_from([1e-4, 1e-2, 0.05, 1.0]),
    st.sampled_from([1e-4, 0.01, 1.0]),
)
def test_the_account_is_the_daemons_for_any_costs_and_steps(
    seed: int, slippage: float, fee: float, participation: float, lot: float
) -> None:
    tables = [history(60, seed=seed, symbol=BTC), history(60, seed=seed + 1, symbol=ETH)]
    costs = {"slippage_rate": slippage, "fee_rate": fee, "participation": participation}
    made = setup([BTC, ETH], dead_band=0.02, **costs, **WIDE)
    made = replace(made, instruments={s: replace(i, lot=lot) for s, i in made.instruments.items()})
    with pytest.MonkeyPatch.context() as patch:
        grid, asked, record, trader = traded(tables, made, wishes((60, 2), seed, 0.8), patch)
    assert_same(follow(grid, asked, cash=CASH, dead_band=0.02, name="wishes", most=1.0), record, trader)


def test_compiled_and_plain_python_give_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = [history(40, seed=1, symbol=BTC), history(40, seed=2, symbol=ETH)]
    grid = Grid.of(tables, setup([BTC, ETH], **WIDE), START_MS)
    wanted = wishes((40, 2), 3, 0.9)
    fast = follow(grid, wanted, cash=CASH, dead_band=0.02, name="fast")
    for name in ("run", "_mark", "_decide", "_wanted", "_to_sell", "_to_buy", "_fill"):
        function: Any = getattr(exposures_kernel, name)
        monkeypatch.setattr(exposures_kernel, name, function.py_func)
    monkeypatch.setattr(exposures_kernel, "run", _on_records(exposures_kernel.run))
    plain = follow(grid, wanted, cash=CASH, dead_band=0.02, name="plain")
    assert plain.equity.tobytes() == fast.equity.tobytes()
    assert plain.fills == fast.fills


def _on_records(run: Any) -> Any:
    """Return `run` for plain Python, which reads the fields of a record as attributes only of a record array."""

    def with_attributes(prices: Any, targets: Any, markets: Any, positions: Any, accounts: Any, *rest: Any) -> None:
        run(prices, targets, *(array.view(np.recarray) for array in (markets, positions, accounts)), *rest)

    return with_attributes


# ---- by hand ----------------------------------------------------------------------------------------------------
def flat_table(closes: Sequence[float], symbol: str = BTC) -> CandleTable:
    close = np.array(closes)
    values = np.stack([close, close, close, close, np.full(len(close), 1e6)], axis=1)
    return changed(random_table(len(close), symbol=symbol), values=values)


def test_a_target_is_decided_at_the_close_and_filled_at_the_next_open_worse_by_the_slippage() -> None:
    grid = Grid.of([flat_table([100.0, 150.0, 400.0])], setup(), None)
    track = follow(grid, np.array([[0.5], [np.nan], [np.nan]]), cash=10_000.0, dead_band=0.0, name="half")
    (fill,) = track.fills
    # Half of the cash is 50 pieces at 100; they cost 150 x 1.0005 = 150.075, on the tick 150.08, and 7.504 of fee.
    assert (fill.quantity, fill.price, fill.at_ms, fill.reference_price) == (50.0, 150.08, HOUR_MS, 100.0)
    assert fill.fee == track.fees == pytest.approx(7.504)
    assert track.slippage == pytest.approx(50.0 * 50.08)
    assert track.equity[-1] == pytest.approx(10_000.0 - 7_504.0 - 7.504 + 50.0 * 400.0)


def test_what_is_held_is_left_alone_where_nothing_is_asked() -> None:
    grid = Grid.of([flat_table([100.0, 100.0, 300.0, 900.0])], setup(fee_rate=0.0, slippage_rate=0.0), None)
    track = follow(grid, np.array([[0.5], [np.nan], [np.nan], [np.nan]]), cash=10_000.0, dead_band=0.0, name="half")
    assert len(track.fills) == 1
    assert track.equity.tolist() == [10_000.0, 10_000.0, 10_000.0, 20_000.0, 50_000.0]
    assert track.symbols[0].exposure.tolist() == [0.0, 0.5, 0.75, 0.9]
    assert track.symbols[0].action.tolist() == [ActionKind.BUY, -1, -1, -1]
    assert (track.start_ms, track.timeframe_ms) == (0, HOUR_MS)


def test_a_symbol_without_a_candle_keeps_its_last_close_and_its_order_waits() -> None:
    late = changed(flat_table([50.0, 60.0], ETH), open_ms=np.array([HOUR_MS, 3 * HOUR_MS]))
    made = setup([BTC, ETH], fee_rate=0.0, slippage_rate=0.0)
    grid = Grid.of([late, flat_table([100.0] * 4)], made, None)
    wanted = np.array([[np.nan, 1.0], [np.nan, 1.0], [np.nan, 0.0], [np.nan, np.nan]])
    track = follow(grid, wanted, cash=10_000.0, dead_band=0.0, name="late")
    assert track.symbols[1].close.tolist() == [0.0, 50.0, 50.0, 60.0]
    assert track.symbols[1].action.tolist() == [-1, ActionKind.BUY, -1, -1]
    assert [(fill.at_ms, fill.quantity, fill.price) for fill in track.fills] == [(3 * HOUR_MS, 100.0, 60.0)]


def test_worths_are_those_of_the_tracks() -> None:
    tables = [history(200, seed=1, symbol=BTC), history(200, seed=2, symbol=ETH)]
    grid = Grid.of(tables, setup([BTC, ETH]), START_MS)
    many = [wishes((200, 2), seed, 0.1) for seed in range(3)]
    found = worths(grid, [*many, grid.no_wish()], cash=CASH, dead_band=0.0, name="draws")
    for index, wanted in enumerate(many):
        track = follow(grid, wanted, cash=CASH, dead_band=0.0, name="one")
        days = track.equity[1:][np.append(np.flatnonzero(np.diff((track.close_ms - 1) // 86_400_000)), -1)]
        returns = np.diff(np.concatenate([[CASH], days])) / np.concatenate([[CASH], days[:-1]])
        assert found.sharpe[index] == pytest.approx(returns.mean() / returns.std(ddof=1) * math.sqrt(365.0), rel=1e-9)
        assert found.total_return[index] == track.equity[-1] / CASH - 1.0
        assert found.exposure[index] == pytest.approx(track.exposure.mean(), rel=1e-9)
        notional = sum(fill.quantity * fill.price for fill in track.fills)
        assert found.turnover[index] == pytest.approx(notional / track.equity[1:].mean(), rel=1e-12)
    assert math.isnan(found.sharpe[-1])
    assert (found.total_return[-1], found.exposure[-1], found.turnover[-1]) == (0.0, 0.0, 0.0)


# ---- bad input --------------------------------------------------------------------------------------------------
TABLE = flat_table([100.0, 110.0])


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ([flat_table([1.0], "DOGE/USDT")], r"DOGE/USDT: no instrument in the setup, which knows BTC/USDT; add one"),
        ([TABLE, TABLE], r"two tables hold the same symbol: BTC/USDT, BTC/USDT; give one table per symbol"),
        ([TABLE.slice(HOUR_MS * 5)], r"no candle lies in the span: choose one inside the files"),
        ([flat_table([1e13])], r"BTC/USDT: prices up to 10000000000000.0 have too many digits in ticks of 0\.01"),
    ],
    ids=["unknown", "twice", "empty", "digits"],
)
def test_tables_that_cannot_be_traded_are_refused_by_name(tables: list[CandleTable], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        Grid.of(tables, setup(), None)


@pytest.mark.parametrize(
    ("targets", "cash", "message"),
    [
        ([[0.5], [1.5]], 1e4, r"rule: target 1\.5 of BTC/USDT at 7200000 is outside 0 \.\. 1"),
        ([[0.5], [-0.1]], 1e4, r"rule: target -0\.1 of BTC/USDT"),
        ([[math.inf], [0.5]], 1e4, r"rule: target inf of BTC/USDT"),
        ([[0.5]], 1e4, r"rule: targets of shape \(1, 1\) do not fit candles of \(2, 1\)"),
        ([[0.5], [0.5]], 0.0, r"rule: cash of 0\.0 is not a positive number"),
        ([[0.5], [0.5]], math.nan, r"rule: cash of nan is not a positive number"),
        (
            [[1.0], [1.0]],
            1e15,
            r"rule: 1000000000000000.0 of cash buy so much BTC/USDT at 100\.0 that it has too many digits in",
        ),
    ],
    ids=["above", "below", "infinite", "shape", "no cash", "nan cash", "lots"],
)
def test_targets_that_cannot_be_followed_are_refused(targets: list[list[float]], cash: float, message: str) -> None:
    grid = Grid.of([TABLE], setup(), None)
    with pytest.raises(TrainingError, match=message):
        follow(grid, np.array(targets), cash=cash, dead_band=0.0, name="rule")
    with pytest.raises(TrainingError, match=message):
        worths(grid, [np.array(targets)], cash=cash, dead_band=0.0, name="rule")


def test_an_account_that_outgrows_the_lots_is_refused_and_does_not_search_for_ever() -> None:
    closes = [1.0, 1.0, *10.0 ** np.arange(11.0), 1.0, 1.0, 1.0, 1.0]
    grid = Grid.of([flat_table(closes)], setup(fee_rate=0.0, slippage_rate=0.0, participation=1.0), None)
    wanted = np.full((len(closes), 1), np.nan)
    wanted[0], wanted[-6], wanted[-4] = 1.0, 0.0, 1.0
    with pytest.raises(TrainingError, match=r"rule: what 1000000\.0 of cash became buys so much that it has too many"):
        follow(grid, wanted, cash=1e6, dead_band=0.0, name="rule")
