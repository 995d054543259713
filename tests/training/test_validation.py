from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from strategy.candle_table import CandleTable
from strategy.features import N_FEATURES
from tests.fakes.trading import BTC, ETH, HOUR_MS, Constant, setup
from tests.training.markets import FIRST, history
from training.backtest import report, run
from training.errors import TrainingError
from training.history import History
from training.validation import Score, validate

CASH = 100_000.0
TABLES = (history(300, seed=3), history(400, seed=4, symbol=ETH))
SETUP = setup([BTC, ETH])

Votes = tuple[float, float, float]


def always(vote: Votes) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    return lambda observations: np.repeat(np.array([vote], np.float32), len(observations), axis=0)


def scored(vote: Votes, *tables: CandleTable) -> Score:
    return validate(always(vote), [History(table, 48) for table in tables], SETUP)


def backtested(vote: Votes, table: CandleTable) -> tuple[object, object]:
    """Return record and report of the backtest, which drives the trader's own objects."""
    made = replace(SETUP, instruments={table.symbol: SETUP.instruments[table.symbol]})
    record, trader = run([table], made, Constant(vote), start_ms=int(table.open_ms[FIRST]), cash=CASH)
    return record, report(record, trader, CASH, "constant")


def daily_sharpe(close_ms: list[int], equity: list[float]) -> float:
    """Return the annualised Sharpe ratio of UTC days, by pandas."""
    times = pd.to_datetime(np.array(close_ms) - 1, unit="ms", utc=True)
    days = pd.Series(equity, index=times).resample("1D").last().dropna()
    returns = pd.concat([pd.Series([CASH]), days.reset_index(drop=True)]).pct_change().dropna()
    return float(returns.mean() / returns.std(ddof=1) * np.sqrt(365.0))


@pytest.mark.parametrize("vote", [(1.0, 1.0, 1.0), (1.0, 0.2, 0.5)], ids=["all at once", "step by step"])
def test_a_score_agrees_with_the_backtest_of_the_same_votes(vote: Votes) -> None:
    for table in TABLES:
        score, (record, told) = scored(vote, table), backtested(vote, table)
        figures = told.figures  # type: ignore[attr-defined]
        # The backtest marks the account at the first decision too, the environment from the first step on.
        assert score.total_return == pytest.approx(figures.total_return, abs=1e-12)
        assert score.max_drawdown == pytest.approx(figures.max_drawdown, abs=1e-12)
        fills = record.fills  # type: ignore[attr-defined]
        assert score.trades == len({fill.at_ms // HOUR_MS for fill in fills}) > 0
        assert score.exposure == pytest.approx(np.mean(record.exposure[1:]), abs=1e-12)  # type: ignore[attr-defined]
        marked = record.close_ms[1:], record.equity[1:]  # type: ignore[attr-defined]
        assert score.sharpe == pytest.approx(daily_sharpe(*marked), rel=1e-9)
        assert score.value == score.sharpe != 0.0


def test_symbols_count_the_same_however_long_they_are() -> None:
    vote = (1.0, 1.0, 1.0)
    one, two = (scored(vote, table) for table in TABLES)
    both = scored(vote, *TABLES)
    assert both.sharpe == pytest.approx((one.sharpe + two.sharpe) / 2, rel=1e-12)
    assert both.total_return == pytest.approx((one.total_return + two.total_return) / 2, rel=1e-12)
    assert both.exposure == pytest.approx((one.exposure + two.exposure) / 2, rel=1e-12)
    assert both.max_drawdown == max(one.max_drawdown, two.max_drawdown)
    assert both.trades == one.trades + two.trades


def test_a_policy_that_never_trades_scores_nothing() -> None:
    assert scored((0.0, 1.0, 1.0), TABLES[0]) == Score(
        sharpe=0.0,
        total_return=0.0,
        max_drawdown=0.0,
        trades=0,
        exposure=0.0,
        actions={"buy": 0.0, "sell": 0.0, "hold": 1.0},
    )


def test_actions_are_what_was_asked_for_not_what_was_done() -> None:
    def act(observations: NDArray[np.float32]) -> NDArray[np.float32]:
        calls.append(len(observations))
        direction = (-1.0, 0.3, 1.0, 0.31)[(len(calls) - 1) % 4]  # sell, hold (not above the threshold), buy, buy
        return np.array([[direction, 0.0, 0.0]], np.float32)

    calls: list[int] = []
    score = validate(act, [History(history(201, seed=3), 48)], SETUP)
    assert len(calls) == 200  # one step fewer than candles: the last one is only filled on
    assert score.actions == {"buy": 0.5, "sell": 0.25, "hold": 0.25}
    assert score.trades == 0


def test_validation_begins_where_the_history_says() -> None:
    table = history(400, seed=3)
    late = History(table, 48, from_ms=int(table.open_ms[FIRST + 250]))
    seen: list[NDArray[np.float32]] = []

    def act(observations: NDArray[np.float32]) -> NDArray[np.float32]:
        seen.append(observations.copy())
        return np.zeros((len(observations), 3), np.float32)

    validate(act, [late], SETUP)
    assert len(seen) == 149
    np.testing.assert_array_equal(seen[0][0, :N_FEATURES], late.rows.values[FIRST + 250])  # noqa: PD011


def test_a_policy_that_answers_no_numbers_is_refused() -> None:
    with pytest.raises(TrainingError, match="not of finite numbers"):
        scored((float("nan"), 1.0, 1.0), TABLES[0])
