"""What the charts are drawn from, against pandas and by hand."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.evaluations import DAY_MS, START_MS, walk
from training.report_series import buckets, date_of, drawdowns, mean, months, rolling_sharpe, thinned

EQUITY = walk(np.random.default_rng(2), 400, 0.2, 0.5)
DAYS = [START_MS + (index + 1) * DAY_MS for index in range(400)]
DATES = pd.date_range("2019-01-01", periods=400, freq="D")


def test_a_midnight_ends_the_day_before_it() -> None:
    assert date_of(START_MS).isoformat() == "2018-12-31"
    assert date_of(START_MS + DAY_MS).isoformat() == "2019-01-01"


def test_drawdowns_by_hand_count_the_first_cash_as_a_peak() -> None:
    assert list(drawdowns([0.8, 1.2, 0.9, 1.5])) == pytest.approx([-0.2, 0.0, -0.25, 0.0])


def test_the_rolling_sharpe_ratio_is_that_of_pandas() -> None:
    returns = pd.Series([1.0, *EQUITY]).pct_change().dropna()
    expected = returns.rolling(90).mean() / returns.rolling(90).std() * np.sqrt(365.0)
    found = rolling_sharpe(list(EQUITY), 90)
    assert found[:89] == [None] * 89
    assert found[89:] == pytest.approx(list(expected.iloc[89:]))


def test_it_is_not_defined_without_spread_or_with_too_few_days() -> None:
    assert rolling_sharpe([1.0] * 100, 90) == [None] * 100
    assert rolling_sharpe([1.1] * 89, 90) == [None] * 89


def test_months_are_those_of_pandas() -> None:
    last = pd.Series(EQUITY, index=DATES).resample("ME").last()
    expected = pd.concat([pd.Series([1.0]), last]).pct_change().iloc[1:]
    found = months(DAYS, list(EQUITY))
    assert [month.total_return for month in found] == pytest.approx(list(expected))
    assert [(month.year, month.month) for month in found] == [(stamp.year, stamp.month) for stamp in last.index]
    assert [month.days for month in found] == list(pd.Series(1, index=DATES).resample("ME").sum())
    assert [month.is_full for month in found] == [True] * 13 + [False]  # the last has four days


@given(st.integers(1, 3_000), st.integers(1, 300))
def test_buckets_cover_every_day_once_and_are_few(count: int, most: int) -> None:
    found = buckets(count, most)
    assert [day for begin, end in found for day in range(begin, end)] == list(range(count))
    assert len(found) <= most


@given(st.lists(st.none() | st.floats(-1e6, 1e6), min_size=1, max_size=400), st.integers(8, 60))
def test_thinning_keeps_the_peaks_in_order_and_invents_nothing(values: Sequence[float | None], most: int) -> None:
    points = list(thinned(values, most))
    places = [at for at, _ in points]
    assert places == sorted(set(places))
    known = [value for value in values if value is not None]
    kept = [value for _, value in points if value is not None]
    assert len(points) <= most + 2
    if known:
        assert (min(kept), max(kept)) == (min(known), max(known))
    assert all(value is None or value == values[at] for at, value in points)


def test_the_mean_is_of_what_is_known() -> None:
    assert mean([None, 1.0, 2.0]) == 1.5
    assert mean([None]) is None
