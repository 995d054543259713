# ruff: noqa: PD011 - a candle table is no pandas frame
"""The figures against a second computation from the recorded fills and candles alone."""

import json
import math
import subprocess
import sys
from collections.abc import Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from strategy.candle_table import CandleTable
from strategy.features import FeatureWindow
from strategy.order import Side
from strategy.session import Session
from strategy.trader import Setup, Trader
from tests.fakes.trading import BTC, ETH, HOUR_MS, Constant, Scripted, random_table, setup
from tests.training.markets import FIRST, changed, ensemble, history, with_gap, write_ensemble, write_table
from training import backtest
from training.backtest import Record, Report
from training.errors import TrainingError

CASH = 100_000.0
TABLE = history(600, seed=3)
FREE = {"max_drawdown": 0.99, "daily_loss": 0.99, "stop_loss": 0.9, "stop_atr_multiple": 0.0, "edge_multiple": 0.0}


class Recorded(Scripted):
    """Members that mostly agree: they buy and sell with what the last candles did. Keeps what they saw and said."""

    def __init__(self, members: int = 3) -> None:
        super().__init__(members, self._vote)
        self.seen: list[bytes] = []
        self.votes: list[np.ndarray] = []

    def _vote(self, row: np.ndarray) -> np.ndarray:
        members = len(self.weights)
        direction = np.tanh(1.5 * row[1]) * np.linspace(0.8, 1.0, members)
        votes = np.stack([direction, np.full(members, 0.7), np.full(members, 0.9)], axis=1).astype(np.float32)
        self.seen.append(row.tobytes())
        self.votes.append(votes)
        return votes


def run(tables: Sequence[CandleTable], made: Setup, who: Any = None, **arguments: Any) -> tuple[Record, Trader, Report]:
    record, trader = backtest.run(tables, made, who or Recorded(), **arguments)
    return record, trader, backtest.report(record, trader, arguments.get("cash", CASH), "model")


WHO = Recorded()


@pytest.fixture(scope="module")
def traded() -> tuple[Record, Trader, Report]:
    return run([TABLE], setup(), WHO)


# ---- the same figures from fills and candles alone --------------------------------------------------------------
def test_it_trades_in_every_way(traded: tuple[Record, Trader, Report]) -> None:
    """What the tests below rest on: buys, partial sells, stops, and more than a few of each."""
    record, _, report = traded
    assert report.figures.trades > 30
    assert 0 < report.figures.wins < report.figures.round_trips
    assert {fill.side for fill in record.fills} == {Side.BUY, Side.SELL}
    assert min(report.figures.actions.values()) > 10


def test_every_fill_is_at_the_next_open_worse_by_the_slippage_on_the_tick(
    traded: tuple[Record, Trader, Report],
) -> None:
    record, _, _ = traded
    checked = 0
    for fill in record.fills:
        row = TABLE.index_of(fill.at_ms)
        assert row is not None
        if fill.reference_price != TABLE.values[row - 1, 3]:
            continue  # a stop: market orders are decided at the last close
        opened, is_buy = Decimal(repr(TABLE.values[row, 0].item())), fill.side is Side.BUY
        worse = opened * (Decimal("1.0005") if is_buy else Decimal("0.9995"))
        on_tick = worse.quantize(Decimal("0.01"), ROUND_CEILING if is_buy else ROUND_FLOOR)
        assert Decimal(repr(fill.price)) == on_tick
        checked += 1
    assert checked > 30


def test_every_stop_fills_at_the_worse_of_open_and_stop(traded: tuple[Record, Trader, Report]) -> None:
    record, _, _ = traded
    stopped = 0
    for fill in record.fills:
        row = TABLE.index_of(fill.at_ms)
        assert row is not None
        if fill.reference_price == TABLE.values[row - 1, 3]:
            continue
        opened, _, low = TABLE.values[row, :3].tolist()
        assert low <= fill.reference_price
        assert fill.price == pytest.approx(min(opened, fill.reference_price) * 0.9995, abs=0.01)
        stopped += 1
    assert stopped > 0


def test_money_adds_up_from_the_fills_alone(traded: tuple[Record, Trader, Report]) -> None:
    record, trader, report = traded
    signs = np.array([fill.side.sign for fill in record.fills])
    quantity = np.array([fill.quantity for fill in record.fills])
    price = np.array([fill.price for fill in record.fills])
    fees = 0.001 * quantity * price
    wanted = np.array([fill.reference_price for fill in record.fills])
    assert report.figures.trades == len(record.fills)
    assert report.figures.fees == pytest.approx(fees.sum(), rel=1e-12)
    assert report.figures.slippage == pytest.approx((signs * quantity * (price - wanted)).sum(), rel=1e-9)
    assert report.figures.turnover == pytest.approx((quantity * price).sum() / CASH, rel=1e-12)
    cash = CASH - (signs * quantity * price + fees).sum()
    held = (signs * quantity).sum()
    assert trader.portfolio.cash == pytest.approx(cash, abs=1e-6)
    assert report.figures.equity_final == pytest.approx(cash + held * TABLE.values[-1, 3], abs=1e-6)


def curve(record: Record, table: CandleTable) -> tuple[np.ndarray, np.ndarray]:
    """Return equity and share invested at every close since the first full window, from the fills alone."""
    fills = sorted(record.fills, key=lambda fill: fill.at_ms)
    cash, held, at = CASH, 0.0, 0
    equity, share = [], []
    for open_ms, close in zip(table.open_ms[FIRST:], table.values[FIRST:, 3], strict=True):
        while at < len(fills) and fills[at].at_ms <= open_ms:
            fill = fills[at]
            cash -= fill.side.sign * fill.quantity * fill.price + 0.001 * fill.quantity * fill.price
            held += fill.side.sign * fill.quantity
            at += 1
        equity.append(cash + held * close)
        share.append(held * close / equity[-1])
    return np.array(equity), np.array(share)


def test_returns_and_risk_follow_from_the_curve_of_the_fills(traded: tuple[Record, Trader, Report]) -> None:
    record, _, report = traded
    equity, share = curve(record, TABLE)
    whole = pd.Series([CASH, *equity])
    closes = pd.to_datetime(TABLE.open_ms[FIRST:] + HOUR_MS - 1, unit="ms")
    days = pd.Series(equity, index=closes).resample("1D").last()
    returns = days / days.shift(1, fill_value=CASH) - 1.0
    assert record.equity == pytest.approx(equity.tolist(), abs=1e-6)
    assert report.figures.total_return == pytest.approx(equity[-1] / CASH - 1.0)
    assert report.figures.max_drawdown == pytest.approx((1.0 - whole / whole.cummax()).max())
    assert report.figures.sharpe == pytest.approx(returns.mean() / returns.std() * math.sqrt(365))
    assert report.figures.exposure == pytest.approx(share.mean(), abs=1e-9)


def test_round_trips_and_wins_are_positions_closed_and_what_they_earned(
    traded: tuple[Record, Trader, Report],
) -> None:
    record, _, report = traded
    held = profit = 0.0
    earned = []
    for fill in record.fills:
        held += fill.side.sign * fill.quantity
        profit -= fill.side.sign * fill.quantity * fill.price + 0.001 * fill.quantity * fill.price
        if abs(held) < 1e-9:
            earned.append(profit)
            held = profit = 0.0
    assert report.figures.round_trips == len(earned)
    assert report.figures.wins == sum(profit > 0.0 for profit in earned)


def test_actions_are_what_the_weighted_votes_say(traded: tuple[Record, Trader, Report]) -> None:
    _, _, report = traded
    counts = {"buy": 0, "sell": 0, "hold": 0}
    for votes in WHO.votes:
        direction = votes[:, 0].astype(float).mean()  # equal weights, and they never disagree beyond the limit
        counts["buy" if direction > 0.3 else "sell" if direction < -0.3 else "hold"] += 1
    assert report.figures.actions == counts
    assert sum(counts.values()) == report.candles == 600


def test_the_span_runs_from_the_first_decision_to_the_last_close(traded: tuple[Record, Trader, Report]) -> None:
    _, _, report = traded
    assert (report.start_ms, report.end_ms) == (TABLE.open_ms[FIRST], TABLE.open_ms[-1] + HOUR_MS)
    assert (report.symbols, report.model) == ((BTC,), "model")


def test_every_verdict_is_counted_once(traded: tuple[Record, Trader, Report]) -> None:
    _, _, report = traded
    assert sum(report.reasons.values()) == report.candles
    assert list(report.reasons.values()) == sorted(report.reasons.values(), reverse=True)


# ---- buy and hold -----------------------------------------------------------------------------------------------
def test_buy_and_hold_by_hand(traded: tuple[Record, Trader, Report]) -> None:
    _, _, report = traded
    first, last = TABLE.values[FIRST, 3], TABLE.values[-1, 3]
    price = math.ceil(first * 1.0005 * 100 - 1e-9) / 100
    quantity = math.floor(CASH / (price * 1.001) / 0.0001 + 1e-9) * 0.0001
    left = CASH - quantity * price * 1.001
    hold = report.buy_and_hold
    assert hold.fees == pytest.approx(quantity * price * 0.001)
    assert hold.slippage == pytest.approx(quantity * (price - first))
    assert hold.turnover == pytest.approx(quantity * price / CASH)
    assert hold.equity_final == pytest.approx(left + quantity * last)
    assert hold.total_return == pytest.approx((left + quantity * last) / CASH - 1.0)
    whole = pd.Series([CASH, *(left + quantity * TABLE.values[FIRST:, 3])])
    assert hold.max_drawdown == pytest.approx((1.0 - whole / whole.cummax()).max())
    assert hold.exposure == pytest.approx(1.0, abs=1e-4)
    assert (hold.trades, hold.round_trips, hold.wins) == (1, 0, 0)
    assert hold.actions == {"buy": 1, "sell": 0, "hold": 599}


def test_what_buying_costs_is_the_first_fall_of_buy_and_hold() -> None:
    values = TABLE.values.copy()
    values[:, :4] = 64.0  # a market that does not move
    _, _, report = run([changed(TABLE, values=values)], setup(), Constant((0.0, 0.0, 0.0)))
    assert report.buy_and_hold.max_drawdown == pytest.approx(0.0015, abs=2e-4)
    assert report.buy_and_hold.total_return == pytest.approx(-0.0015, abs=2e-4)


def test_buy_and_hold_buys_what_there_is_when_another_symbol_is_listed_later() -> None:
    late = random_table(200, symbol=ETH, start=FIRST + 50)
    _, _, report = run([TABLE, late], setup([BTC, ETH]))
    first, last = TABLE.values[FIRST, 3], TABLE.values[-1, 3]
    assert report.buy_and_hold.trades == 1
    assert report.buy_and_hold.actions["buy"] == 1
    assert report.buy_and_hold.total_return == pytest.approx((last / first) / 1.0015 - 1.0, abs=2e-4)


# ---- spans ------------------------------------------------------------------------------------------------------
def trades_of(record: Record) -> list[tuple[Any, ...]]:
    return [(fill.at_ms, fill.side, fill.quantity, fill.price) for fill in record.fills]


def test_a_later_start_is_a_fresh_account_on_a_full_window() -> None:
    """The same run by a Session over a streaming window that took the earlier candles, and nothing else."""
    start, ours = FIRST + 200, Recorded()
    record, trader, report = run([TABLE], setup(), ours, start_ms=int(TABLE.open_ms[start]))
    window = FeatureWindow(48)
    for index in range(start):
        window.push(TABLE.candle(index))
    session, theirs = Session(Trader(setup(), {BTC: window}, CASH)), Recorded()
    reports, reasons = [], dict[str, int]()
    for index in range(start, len(TABLE)):
        reported, [outcome] = session.on_candles((TABLE.candle(index),), theirs)
        reports += reported
        reasons[outcome.verdict.reason.value] = reasons.get(outcome.verdict.reason.value, 0) + 1
    assert ours.seen == theirs.seen
    assert record.fills == [report.fill for report in reports if report.fill is not None]
    assert report.reasons == reasons
    assert report.start_ms == TABLE.open_ms[start]
    assert trader.portfolio == session.trader.portfolio


def test_a_start_before_the_first_candle_or_within_the_warm_up_is_the_whole_run() -> None:
    whole, _, _ = run([TABLE], setup())
    for start_ms in (-1, int(TABLE.open_ms[100])):
        record, _, report = run([TABLE], setup(), start_ms=start_ms)
        assert report.start_ms == TABLE.open_ms[FIRST]
        assert trades_of(record) == trades_of(whole)


@pytest.mark.parametrize(
    ("table", "start", "message"),
    [
        (history(0), None, "no candle of the span has a full feature window: nothing was decided; give more candles"),
        (TABLE, len(TABLE) * HOUR_MS, "no candle lies in the span: choose one inside the files"),
    ],
    ids=["too-short", "beyond"],
)
def test_a_span_without_a_decision_is_refused(table: CandleTable, start: int | None, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        backtest.run([table], setup(), Recorded(), start_ms=start)


def test_a_broken_window_decides_nothing_and_the_stop_still_holds() -> None:
    table = with_gap(changed(TABLE), FIRST + 100, missing=49)
    _, trader, report = run([table], setup(), Constant((1.0, 1.0, 1.0)))
    assert report.candles == 600
    assert sum(report.figures.actions.values()) == 100
    assert report.buy_and_hold.actions == {"buy": 1, "sell": 0, "hold": 99}
    assert report.reasons["warming_up"] >= 400
    assert trader.stops[BTC] is not None or trader.portfolio.positions[BTC].quantity == 0.0


# ---- many symbols -----------------------------------------------------------------------------------------------
def test_candles_of_one_time_come_together_in_the_order_of_the_tables() -> None:
    one, other = history(0).slice(0, 4 * HOUR_MS), history(0, symbol=ETH).slice(2 * HOUR_MS, 6 * HOUR_MS)
    found = [[(c.symbol, c.open_ms // HOUR_MS) for c in group] for group in backtest.groups([other, one])]
    assert found == [[(BTC, 0)], [(BTC, 1)], [(ETH, 2), (BTC, 2)], [(ETH, 3), (BTC, 3)], [(ETH, 4)], [(ETH, 5)]]


def test_two_symbols_share_one_account() -> None:
    tables = [history(300, seed=3), history(300, seed=4, symbol=ETH)]
    record, trader, report = run(
        tables, setup([BTC, ETH], volatility_target=10.0, participation=1.0, **FREE), Constant((1.0, 1.0, 1.0))
    )
    assert report.symbols == (BTC, ETH)
    assert report.candles == 600
    bought = {s: sum(f.quantity * f.price for f in record.fills[:2] if f.symbol == s) for s in (BTC, ETH)}
    # half of the half of the account each symbol may use
    assert all(20_000.0 < value <= 25_500.0 for value in bought.values())
    cash = CASH - sum(f.side.sign * f.quantity * f.price + 0.001 * f.quantity * f.price for f in record.fills)
    held = {s: sum(f.side.sign * f.quantity for f in record.fills if f.symbol == s) for s in (BTC, ETH)}
    worth = cash + sum(held[table.symbol] * table.values[-1, 3] for table in tables)
    assert report.figures.equity_final == pytest.approx(worth, abs=1e-6)
    assert trader.portfolio.cash == pytest.approx(cash, abs=1e-6)
    assert report.buy_and_hold.trades == 2


def test_progress_ends_near_the_number_of_candles_also_when_the_files_do_not_overlap() -> None:
    told: list[int] = []
    tables = [TABLE, history(600, symbol=ETH, start=len(TABLE))]
    run(tables, setup([BTC, ETH]), progress=told.append)
    assert told == sorted(told)
    assert 6_000 - 500 < told[-1] <= 6_000


# ---- conditions -------------------------------------------------------------------------------------------------
def test_free_trading_costs_nothing() -> None:
    _, _, report = run([TABLE], setup(fee_rate=0.0))
    assert report.figures.fees == 0.0
    assert report.buy_and_hold.fees == 0.0


def test_higher_fees_leave_less() -> None:
    worth = [
        run([TABLE], setup(fee_rate=rate, edge_multiple=0.0))[2].figures.total_return for rate in (0.0, 0.001, 0.01)
    ]
    assert worth == sorted(worth, reverse=True)


# ---- JSON -------------------------------------------------------------------------------------------------------
REQUIRED = {"start_ms", "end_ms", "candles"}
FIGURES = {"trades", "fees", "equity_final", "total_return", "sharpe", "max_drawdown", "actions"}


def test_json_has_the_promised_keys_at_the_top_and_for_buy_and_hold(traded: tuple[Record, Trader, Report]) -> None:
    whole = json.loads(json.dumps(traded[2].to_json(), allow_nan=False))
    assert set(whole) >= REQUIRED | FIGURES
    assert set(whole["buy_and_hold"]) >= FIGURES
    assert set(whole["actions"]) == set(whole["buy_and_hold"]["actions"]) == {"buy", "sell", "hold"}
    assert "figures" not in whole
    assert whole["trades"] == traded[2].figures.trades


def test_an_ensemble_that_never_trades_gives_null_and_no_nan() -> None:
    _, _, report = run([TABLE], setup(), Constant((0.0, 0.0, 0.0)))
    whole = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert whole["sharpe"] is None
    assert (whole["trades"], whole["total_return"], whole["max_drawdown"]) == (0, 0.0, 0.0)


def test_a_backtest_of_one_candle_gives_null_and_no_nan() -> None:
    _, _, report = run([history(1)], setup())
    whole = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert (whole["candles"], whole["sharpe"], whole["buy_and_hold"]["sharpe"]) == (1, None, None)


# ---- what it needs ----------------------------------------------------------------------------------------------
def test_the_command_imports_nothing_heavy(tmp_path: Path) -> None:
    """The runtime environment has none of these."""
    data, model = write_table(TABLE, tmp_path), write_ensemble(tmp_path / "bundle")
    script = (
        "import sys\n"
        "heavy = ('torch', 'pandas', 'stable_baselines3', 'gymnasium', 'pyarrow', 'scipy', 'ccxt')\n"
        "for name in heavy: sys.modules[name] = None\n"
        "from training.__main__ import main\n"
        f"assert main(['backtest', '--data', {str(data)!r}, '--model', {str(model)!r}, '--json']) == 0\n"
        "assert not [name for name in heavy if sys.modules.get(name) is not None]\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["candles"] == 600


def test_the_same_run_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    bundle = ensemble(tmp_path)
    one, other = (run([TABLE], setup(), bundle.ensemble)[2] for _ in range(2))
    assert one.figures.trades > 10
    assert json.dumps(one.to_json()) == json.dumps(other.to_json())
