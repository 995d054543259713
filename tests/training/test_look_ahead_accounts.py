"""Look-ahead in what an account does: the decision path, and the shuffled market."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from strategy.candle_table import CandleTable
from strategy.features import ComputedFeatures, FeatureTable, compute
from strategy.trader import Setup
from tests.fakes.trading import ETH, Constant, setup, trend_follower
from tests.training.markets import history
from training import backtest
from training.errors import TrainingError
from training.look_ahead_decisions import MOMENTS, check_decisions
from training.look_ahead_shuffled import check_shuffled, shuffled

TABLES = [history(400, seed=3), history(400, seed=4, symbol=ETH)]
SETUP = setup(("BTC/USDT", ETH))
RETURN = 2
"""The feature that `trend_follower` goes by."""


def planted(peek: Callable[[FeatureTable, CandleTable], None]) -> Callable[..., dict[str, ComputedFeatures]]:
    """Return what computes the features of a run, spoilt by `peek`, which writes into a table."""

    def features(
        tables: Sequence[CandleTable], made: Setup, start_ms: int | None = None
    ) -> dict[str, ComputedFeatures]:
        found = {}
        for table in tables:
            rows = compute(table.open_ms, table.values, table.timeframe.span_ms, made.strategy.max_missing)
            peek(rows, table)
            start = 0 if start_ms is None else int(np.searchsorted(table.open_ms, start_ms))
            found[table.symbol] = ComputedFeatures(rows, start)
        return found

    return features


def next_move(rows: FeatureTable, table: CandleTable) -> None:
    move = np.sign(table.values[1:, 3] - table.values[:-1, 3])
    rows.values[:-1, RETURN] = move


def next_range(rows: FeatureTable, table: CandleTable) -> None:
    """Peek in the context alone: stops and sizes read it, votes do not."""
    rows.context[:-1, 1] = rows.context[1:, 1]


def test_decisions_do_not_depend_on_later_candles() -> None:
    told: list[int] = []
    found = check_decisions(TABLES, SETUP, trend_follower(), None, tell=told.append)
    assert (found.differ, found.first_what) == (0, None)
    assert found.candles == 800
    assert found.trades > 10
    assert told == [*range(1, MOMENTS + 1)]
    assert found.moments == MOMENTS


def test_a_feature_that_knows_the_next_move_changes_decisions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backtest, "computed_features", planted(next_move))
    found = check_decisions(TABLES, SETUP, trend_follower(), None)
    assert found.differ > 0
    assert found.first_what == "features"
    assert found.first_symbol in {"BTC/USDT", ETH}


def test_a_stop_that_knows_the_next_range_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backtest, "computed_features", planted(next_range))
    made = setup(("BTC/USDT", ETH), stop_atr_multiple=2.0)
    found = check_decisions(TABLES, made, Constant((1.0, 0.5, 0.5)), None)
    assert found.differ > 0
    assert found.first_what == "stop"


def test_files_without_a_common_span_are_refused() -> None:
    later = history(400, seed=4, symbol=ETH, start=10_000)
    with pytest.raises(
        TrainingError, match=r"BTC/USDT: 0 candles lie in the span of all files; a window of .* files of one"
    ):
        check_decisions([TABLES[0], later], SETUP, trend_follower(), None)


def earned(monkeypatch: pytest.MonkeyPatch | None, voters: Any, **how: Any) -> Any:
    if monkeypatch is not None:
        monkeypatch.setattr(backtest, "computed_features", planted(next_move))
    return check_shuffled(TABLES, SETUP, voters, None, draws=8, candles=2_000, **how)


def test_nobody_earns_on_a_shuffled_market_but_who_knows_the_next_candle(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = earned(None, trend_follower())
    assert (honest.draws, honest.traded, honest.is_leak) == (8, 8, False)
    assert honest.low < honest.sharpe < honest.high
    knowing = earned(monkeypatch, trend_follower())
    assert knowing.is_leak
    assert knowing.sharpe > 5.0


def test_who_never_trades_is_not_judged() -> None:
    idle = earned(None, Constant((0.0, 0.0, 0.0)))
    assert (idle.traded, idle.sharpe, idle.is_leak) == (0, None, False)


def test_a_shuffled_market_has_no_drift_and_the_same_candles() -> None:
    risen = history(600, seed=3)
    values = risen.values.copy()
    values[:, :4] *= np.exp(np.arange(len(values)) * 1e-3)[:, None]
    values[:, 1], values[:, 2] = values[:, :4].max(axis=1), values[:, :4].min(axis=1)
    table = CandleTable(symbol=risen.symbol, timeframe=risen.timeframe, open_ms=risen.open_ms, values=values)
    moves = table.values[1:, 3] / table.values[:-1, 3]
    ends = []
    for seed in range(300):
        made = shuffled(table, 200, np.random.default_rng(seed))
        ends.append(made.values[-1, 3] / table.values[0, 3])
        ratio = made.values[1:, 3] / made.values[:-1, 3] * moves.mean()
        assert np.isclose(ratio[:5, None], moves[None, :], rtol=1e-9).any(axis=1).all()
        assert np.isin(made.values[:, 4], table.values[:, 4]).all()
    # A fair game: the mean of the ends is the beginning, within four standard errors.
    assert abs(np.mean(ends) - 1.0) < 4.0 * np.std(ends) / np.sqrt(len(ends))
    assert np.std(ends) > 0.0


def test_one_candle_cannot_be_shuffled() -> None:
    one = TABLES[0].slice(None, int(TABLES[0].open_ms[1]))
    with pytest.raises(TrainingError, match="BTC/USDT: 1 candle cannot be shuffled: give more candles"):
        shuffled(one, 10, np.random.default_rng(1))
