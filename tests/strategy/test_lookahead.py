# ruff: noqa: PD011 - the `values` here are of candle tables, not of pandas
"""No candle tells of a later one; and the check that says so finds whatever does."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from strategy import features
from strategy.candle_table import CandleTable
from strategy.features import N_FEATURES, WINDOW, ComputedFeatures, FeatureTable, compute
from strategy.observation import N_OBSERVATION
from strategy.session import Session
from strategy.trader import Trader
from tests.fakes.lookahead import Compute, futures, peek
from tests.fakes.tables import streamed, wild_tables
from tests.fakes.trading import BTC, random_table, setup, trend_follower

LATER = 60
Array = NDArray[Any]


def kernel(table: CandleTable) -> Array:
    """Return features, context and validity of every candle whose window is full."""
    rows = compute(table.open_ms, table.values, table.timeframe.span_ms, 0)
    known = np.column_stack([rows.values, rows.context, rows.is_valid])
    known[: WINDOW - 1] = 0.0
    return known


def stream(table: CandleTable) -> Array:
    rows = np.zeros((len(table), N_FEATURES + 2))
    for index, row in enumerate(streamed(table, 0)):
        if row is not None:
            rows[index] = [*row.values, row.volatility, row.average_range]
    return rows


def traded(table: CandleTable, rows: Callable[[CandleTable], FeatureTable] | None = None) -> Array:
    """Return observation, target and equity of every candle of an account that trades from the first full window on."""
    made = setup((BTC,), dead_band=0.001, edge_multiple=0.0)
    computed = compute(table.open_ms, table.values, table.timeframe.span_ms, 1_000) if rows is None else rows(table)
    trader = Trader(made, {BTC: ComputedFeatures(computed, WINDOW - 1)}, 10_000.0)
    session, voters = Session(trader), trend_follower()
    known = np.zeros((len(table), N_OBSERVATION + 2))
    for index in range(WINDOW - 1, len(table)):
        _, (outcome,) = session.on_candles([table.candle(index)], voters)
        known[index, -2:] = outcome.verdict.decision.target, trader.portfolio.equity
        if outcome.sight.observation is not None:
            known[index, :-2] = outcome.sight.observation
    return known


# ---- nothing peeks ------------------------------------------------------------------------------------------------
@settings(max_examples=30, deadline=None)
@given(wild_tables(shortest=WINDOW + 2), st.data())
def test_no_feature_knows_of_later_candles(table: CandleTable, data: st.DataObject) -> None:
    at = data.draw(st.integers(WINDOW - 1, len(table) - 2))
    assert peek(kernel, table, at, seed=at) is None


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, LATER - 2))
def test_no_observation_decision_or_equity_knows_of_later_candles(seed: int, at: int) -> None:
    table = random_table(WINDOW + LATER, seed=seed, gaps=(WINDOW + 5,))
    assert peek(traded, table, WINDOW + at, seed) is None


def test_the_streaming_form_knows_of_no_later_candle() -> None:
    assert peek(stream, random_table(WINDOW + LATER, seed=3), WINDOW + 20) is None


def test_the_account_of_these_tests_trades() -> None:
    known = traded(random_table(WINDOW + LATER, seed=1))[WINDOW - 1 :]
    assert len(np.unique(known[:, -2])) > 5
    assert len(np.unique(known[:, -1])) > 5


# ---- the check finds what peeks -----------------------------------------------------------------------------------
def column(values: Array) -> Array:
    return np.asarray(values, np.float64).reshape(len(values), -1)


def frame(table: CandleTable) -> pd.DataFrame:
    return pd.DataFrame(table.values, columns=["open", "high", "low", "close", "volume"])


def honest_mean(table: CandleTable) -> Array:
    return column(frame(table).close.rolling(5).mean())


PLANTED: dict[str, Compute] = {
    "the next close": lambda t: column(frame(t).close.shift(-1)),
    "the next open": lambda t: column(frame(t).open.shift(-1)),
    "a close far ahead": lambda t: column(frame(t).close.shift(-30)),
    "the volume to come": lambda t: column(frame(t).volume[::-1].cumsum()[::-1]),
    "a centred mean": lambda t: column(frame(t).close.rolling(5, center=True).mean()),
    "a mean and deviation of the whole history": lambda t: column(
        (frame(t).close - frame(t).close.mean()) / frame(t).close.std()
    ),
    "the highest close of the whole history": lambda t: column(frame(t).close / frame(t).close.max()),
    "a rank among all candles": lambda t: column(frame(t).close.rank()),
    "a gap filled backwards": lambda t: column(frame(t).close.where(frame(t).index % 7 == 0).bfill()),
    "a line between known closes": lambda t: column(frame(t).close.where(frame(t).index % 7 == 0).interpolate()),
    "a line through the whole history": lambda t: column(
        np.polyval(np.polyfit(np.arange(len(t)), t.values[:, 3], 1), np.arange(len(t)))
    ),
    "a smoothing in both directions": lambda t: column(
        frame(t).close.ewm(alpha=0.2).mean()[::-1].ewm(alpha=0.2).mean()[::-1]
    ),
    "a spectrum without its noise": lambda t: column(
        np.fft.irfft(np.where(np.arange(len(t) // 2 + 1) < 20, np.fft.rfft(t.values[:, 3]), 0), len(t))
    ),
    "how long until the next candle": lambda t: column(np.diff(t.open_ms, append=t.open_ms[-1])),
    "how many candles there are": lambda t: np.full((len(t), 1), float(len(t))),
    "rows for the candles that will rise": lambda t: honest_mean(t)[np.diff(t.values[:, 3], append=0.0) > 0.0],
    "one look ahead in the whole history": lambda t: column(
        np.where(np.arange(len(t)) == 150, frame(t).close.shift(-1), frame(t).close)
    ),
}


@pytest.mark.parametrize("planted", PLANTED.values(), ids=PLANTED)
def test_the_check_finds(planted: Compute) -> None:
    table = random_table(200, seed=9)
    assert peek(planted, table, at=150) is not None


def test_the_check_finds_one_peeking_feature_among_honest_ones() -> None:
    table = random_table(200, seed=9)
    assert peek(honest_mean, table, at=150) is None
    both = peek(lambda t: np.hstack([honest_mean(t), column(frame(t).volume.shift(-1))]), table, at=150)
    assert both == "nothing follows after candle 150: row 150 changes"


@pytest.mark.parametrize("honest", [honest_mean, lambda t: column(frame(t).close.expanding().std())])
def test_the_check_accuses_nothing_that_looks_back(honest: Compute) -> None:
    table = random_table(200, seed=9)
    assert [peek(honest, table, at) for at in (0, 3, 100, 198)] == [None] * 4


def test_every_future_shares_the_past_and_differs_after_it() -> None:
    table = random_table(50, seed=2)
    names = []
    for name, other in futures(table, 30):
        names.append(name)
        np.testing.assert_array_equal(other.values[:31], table.values[:31])
        np.testing.assert_array_equal(other.open_ms[:31], table.open_ms[:31])
        assert other != table
    assert len(names) == len(set(names)) == 10


def test_the_check_finds_a_kernel_that_reads_the_next_close(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = features._ArrayWindows.close

    def next_close(windows: Any, lag: int) -> Array:
        closes = windows._values[3]
        return np.append(closes[1:], closes[-1]) if lag == 0 else honest(windows, lag)

    monkeypatch.setattr(features._ArrayWindows, "close", next_close)
    assert peek(kernel, random_table(WINDOW + LATER, seed=4), WINDOW + 20) is not None


def test_the_check_finds_a_kernel_with_centred_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = features._ArrayWindows.total
    monkeypatch.setattr(
        features._ArrayWindows, "total", lambda windows, series, n: np.roll(honest(windows, series, n), -1)
    )
    assert peek(kernel, random_table(WINDOW + LATER, seed=4), WINDOW + 20) is not None


def test_the_check_finds_features_scaled_by_the_whole_history() -> None:
    def scaled(table: CandleTable) -> Array:
        known = kernel(table)
        return known / np.abs(known).max(axis=0).clip(1e-9)

    assert peek(scaled, random_table(WINDOW + LATER, seed=4), WINDOW + 20) is not None


def test_the_check_finds_an_account_whose_rows_come_one_candle_early() -> None:
    def early(table: CandleTable) -> FeatureTable:
        rows = compute(table.open_ms, table.values, table.timeframe.span_ms, 1_000)
        return replace(rows, values=np.roll(rows.values, -1, axis=0))

    found = peek(lambda table: traded(table, early), random_table(WINDOW + LATER, seed=4), WINDOW + 20)
    assert found is not None
