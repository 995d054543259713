# ruff: noqa: PD011 - a candle table is no pandas frame
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from strategy.features import compute
from tests.fakes.trading import ETH, HOUR_MS
from tests.training.markets import changed, history, with_gap
from tests.training.tracks import DAY_MS, track_of
from training.errors import TrainingError
from training.evaluate_parts import folds, market_returns, part, regime_codes, regimes, years
from training.metrics import measure
from training.track import Track


def random_track(days: int, *, seed: int, first_ms: int = 0, name: str = "ensemble") -> Track:
    steps = np.random.default_rng(seed).normal(0.0001, 0.004, 24 * days)
    return track_of([100.0, *(100.0 * np.cumprod(1.0 + steps)).tolist()], first_ms=first_ms, name=name)


OURS, HOLD = random_track(40, seed=1), random_track(40, seed=2, name="buy and hold")


def test_a_part_that_is_the_whole_has_the_figures_of_the_whole() -> None:
    found = part("all", OURS, HOLD, np.ones(len(OURS.close_ms), bool))
    whole, held = measure(OURS), measure(HOLD)
    assert (found.days, found.name) == (40, "all")
    assert found.total_return == pytest.approx(whole.total_return)
    assert found.sharpe == pytest.approx(whole.sharpe)
    assert found.max_drawdown == pytest.approx(whole.max_drawdown)
    assert found.exposure == 0.5
    assert found.hold_return == pytest.approx(held.total_return)
    assert found.hold_sharpe == pytest.approx(held.sharpe)
    assert found.hold_drawdown == pytest.approx(held.max_drawdown)


def test_days_that_do_not_touch_follow_one_another() -> None:
    equity = np.repeat([100.0, 110.0, 55.0, 66.0], [1, 24, 24, 24]).tolist()
    ours = track_of(equity)
    chosen = np.repeat([True, False, True], 24)
    found = part("odd days", ours, ours, chosen)
    assert found.days == 2
    assert found.total_return == pytest.approx(1.1 * 1.2 - 1.0)
    assert found.max_drawdown == 0.0  # the fall was on the day between
    assert found.sharpe == pytest.approx(0.15 / np.std([0.1, 0.2], ddof=1) * math.sqrt(365.0))


def test_a_part_without_a_day_says_nothing() -> None:
    found = part("bull", OURS, HOLD, np.zeros(len(OURS.close_ms), bool))
    assert (found.days, found.total_return, found.sharpe, found.max_drawdown, found.hold_return) == (0, *[None] * 4)


def test_a_part_without_spread_has_no_sharpe_ratio() -> None:
    found = part("flat", track_of([100.0] * 97), track_of([100.0] * 97), np.ones(96, bool))
    assert (found.total_return, found.sharpe, found.hold_sharpe) == (0.0, None, None)


def test_accounts_over_other_candles_are_not_compared() -> None:
    with pytest.raises(TrainingError, match="buy and hold is over other candles than ensemble"):
        part("all", OURS, random_track(41, seed=2, name="buy and hold"), np.ones(40 * 24, bool))


def test_years_are_those_of_the_calendar() -> None:
    first_ms = int(pd.Timestamp("2019-12-20", tz="UTC").value // 10**6)
    ours = random_track(390, seed=3, first_ms=first_ms)
    found = years(ours, ours)
    assert [(part.name, part.days) for part in found] == [("2019", 12), ("2020", 366), ("2021", 12)]
    closes = pd.Series(ours.equity[1:], index=pd.to_datetime(ours.close_ms - 1, unit="ms"))
    ends = [100.0, *closes.groupby(closes.index.year).last()]
    assert [part.total_return for part in found] == pytest.approx([b / a - 1 for a, b in pairwise(ends)])
    assert math.prod(1.0 + (part.total_return or 0.0) for part in found) == pytest.approx(ours.equity[-1] / 100.0)


def test_folds_are_equal_parts_of_whole_days() -> None:
    found = folds(OURS, HOLD, 3)
    assert [(part.name, part.days) for part in found] == [("fold 1", 14), ("fold 2", 13), ("fold 3", 13)]
    assert found[0].total_return == pytest.approx(OURS.equity[14 * 24] / 100.0 - 1.0)
    assert found[1].total_return == pytest.approx(OURS.equity[27 * 24] / OURS.equity[14 * 24] - 1.0)


def test_too_few_days_for_the_folds_are_refused() -> None:
    with pytest.raises(TrainingError, match="--folds 21: the span has 40 days, 42 are the least for so many"):
        folds(OURS, HOLD, 21)


# ---- regimes ----------------------------------------------------------------------------------------------------
def test_the_regime_of_one_symbol_is_that_of_the_strategy() -> None:
    table = with_gap(history(2500, seed=5), 2450, missing=3)
    at_ms = table.open_ms[2400:] + HOUR_MS
    trends, volatilities = regime_codes([table], at_ms)
    rows = compute(table.open_ms, table.values, HOUR_MS, 48)
    assert np.array_equal(trends, rows.context[2400:, 2])
    assert np.array_equal(volatilities, rows.context[2400:, 3])
    assert len(set(trends.tolist())) == 3


def test_a_regime_is_known_before_the_day_it_is_of() -> None:
    table = history(24 * 20, seed=6)
    at = len(table) - 24 * 5
    later = table.values.copy()
    later[at:, :4] *= np.linspace(1.0, 3.0, len(table) - at)[:, None]
    moments = table.open_ms[2400 : at + 1]  # what has closed by the open of candle `at` is candle at - 1
    one, other = regime_codes([table], moments), regime_codes([changed(table, values=later)], moments)
    assert np.array_equal(one, other, equal_nan=True)
    after = table.open_ms[at + 24 :]
    assert not np.array_equal(regime_codes([table], after), regime_codes([changed(table, values=later)], after))


def test_before_enough_candles_there_is_no_regime() -> None:
    table = history(48, seed=6)
    trends, _ = regime_codes([table], np.array([-1, 0, int(table.open_ms[2399]), int(table.open_ms[-1])]))
    assert np.isnan(trends).tolist() == [True, True, True, False]


def test_a_market_that_stands_still_goes_sideways() -> None:
    table = history(48, seed=6)
    still = changed(table, values=np.tile([100.0, 100.0, 100.0, 100.0, 5.0], (len(table), 1)))
    trends, volatilities = regime_codes([still], still.open_ms[-3:])
    assert trends.tolist() == [0.0] * 3
    assert volatilities.tolist() == [0.0] * 3


def test_the_market_is_the_mean_of_the_symbols_that_trade() -> None:
    one, other = history(10, seed=1), history(4, seed=2, symbol=ETH, start=6)
    close_ms, returns = market_returns([one, other])
    first, second = (pd.Series(t.values[:, 3], index=t.open_ms + HOUR_MS).pct_change() for t in (one, other))
    expected = pd.concat([first, second], axis=1).mean(axis=1).dropna()
    assert close_ms.tolist() == expected.index.tolist()
    assert returns == pytest.approx(expected.to_numpy())


def test_every_day_with_a_regime_is_in_one_trend_and_one_volatility() -> None:
    table = history(24 * 20 - 1, seed=7)  # 2,400 + 479 candles: 119 days and 23 hours
    track = random_track(20, seed=8, first_ms=100 * DAY_MS)
    track = replace(track, equity=track.equity[:-1], close_ms=track.close_ms[:-1], exposure=track.exposure[:-1])
    found = {part.name: part.days for part in regimes(track, track, [table])}
    assert list(found) == ["bull", "sideways", "bear", "calm", "usual volatility", "wild"]
    # The first day began with one candle too few.
    assert found["bull"] + found["sideways"] + found["bear"] == 19
    assert found["calm"] + found["usual volatility"] + found["wild"] == 19
