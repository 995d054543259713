"""Expected figures come from empyrical, scipy, statsmodels and pandas, or from hand.

Where a library's convention is another one, the name or the docstring of the test says how the two are related. Any
warning is an error here: a figure that is not defined must be asked for, not computed and then looked at.
"""

import json
import math
import re
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import empyrical
import numpy as np
import pandas as pd
import pytest
import scipy.stats
import statsmodels.api as sm
from hypothesis import given
from hypothesis import strategies as st

from strategy.decision import Action
from strategy.order import Fill, Side
from training.metrics import (
    Metrics,
    Month,
    daily_returns,
    max_drawdown,
    measure,
    monthly_returns,
    returns_of,
    sharpe_ratio,
)
from training.reward import ActionKind
from training.track import SymbolTrack, Track

pytestmark = pytest.mark.filterwarnings("error")

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
START_MS = 1_609_459_200_000  # 2021-01-01 00:00 UTC


def hourly(count: int, start_ms: int = START_MS) -> np.ndarray:
    """Return the close times of `count` hourly candles from `start_ms` on."""
    return start_ms + HOUR_MS * np.arange(1, count + 1, dtype=np.int64)


def by_pandas(close_ms: np.ndarray, equity: np.ndarray) -> pd.Series:
    """Return daily returns: last mark of each UTC day; a candle that closes at midnight ends the day before."""
    marks = pd.Series(equity, index=pd.to_datetime(close_ms - 1, unit="ms", utc=True)).resample("1D").last().dropna()
    return (marks / marks.shift(1, fill_value=equity[0])) - 1.0


def walk(count: int, seed: int) -> np.ndarray:
    return 1_000.0 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0.0, 0.01, count)))


def track(equity: Any, *, hours: int = 1, start_ms: int = START_MS, **changes: Any) -> Track:
    """Return an account that was worth `equity`, first its cash, with candles of `hours` from `start_ms` on."""
    values = np.asarray(equity, dtype=float)
    count = len(values) - 1
    whole = {
        "name": "ensemble",
        "timeframe_ms": hours * HOUR_MS,
        "close_ms": start_ms + hours * HOUR_MS * np.arange(1, count + 1, dtype=np.int64),
        "equity": values,
        "exposure": np.zeros(count),
        "fills": (),
        "fees": 0.0,
        "slippage": 0.0,
        "symbols": (),
    }
    return Track(**(whole | changes))


def compounded(returns: Any, **changes: Any) -> Track:
    """Return an account of 1,000 that earned `returns`, one a day."""
    return track(1_000.0 * np.cumprod(np.concatenate([[1.0], 1.0 + np.asarray(returns)])), hours=24, **changes)


def wandering(seed: int, days: int = 200) -> Track:
    """Return a random account with an hourly candle for so many whole days."""
    return track(np.concatenate([[1_000.0], walk(24 * days, seed)]))


def symbol_track(symbol: str = "BTC/USDT", *, close: Any = None, action: Any = None) -> SymbolTrack:
    """Return a symbol with these prices or votes; what is not given is a price of 1, and nobody voted."""
    count = len(action if close is None else close)
    return SymbolTrack(
        symbol=symbol,
        close=np.ones(count) if close is None else np.asarray(close, dtype=float),
        exposure=np.zeros(count),
        action=np.full(count, -1, np.int8) if action is None else np.asarray(action, dtype=np.int8),
        direction=np.zeros((count, 0), np.float32),
        disagreement=np.full(count, np.nan),
    )


def fill(side: Side, quantity: float, price: float, fee: float, hour: int) -> Fill:
    name = f"{hour}-{side}"
    at_ms = START_MS + hour * HOUR_MS
    return Fill(
        fill_id=name,
        client_id=name,
        symbol="BTC/USDT",
        side=side,
        quantity=quantity,
        price=price,
        fee=fee,
        at_ms=at_ms,
        reference_price=price,
    )


# ---- daily returns ----------------------------------------------------------------------------------------------
def test_two_days_by_hand() -> None:
    equity = np.array([100.0] * 23 + [110.0] + [50.0] * 23 + [99.0])
    assert daily_returns(hourly(48), equity) == pytest.approx([0.10, -0.10])


def test_a_candle_that_closes_at_midnight_belongs_to_the_day_it_ends() -> None:
    close_ms = np.array([START_MS + DAY_MS, START_MS + DAY_MS + 1])
    assert daily_returns(close_ms, np.array([100.0, 150.0])) == pytest.approx([0.0, 0.5])


def test_a_day_without_candles_is_part_of_the_next_days_return() -> None:
    close_ms = START_MS + DAY_MS * np.array([1, 2, 5], dtype=np.int64)
    assert daily_returns(close_ms, np.array([100.0, 101.0, 202.0])) == pytest.approx([0.0, 0.01, 1.0])


@pytest.mark.parametrize("offset", [0, 5, 23], ids=["midnight", "five", "last-hour"])
def test_daily_returns_agree_with_pandas(offset: int) -> None:
    close_ms, equity = hourly(2_000, START_MS + offset * HOUR_MS), walk(2_000, offset)
    kept = np.random.default_rng(1).random(2_000) > 0.2
    kept[300:400] = False  # four days without a candle
    expected = by_pandas(close_ms[kept], equity[kept])
    assert daily_returns(close_ms[kept], equity[kept]) == pytest.approx(expected.to_numpy(), abs=1e-12)


@given(st.lists(st.floats(1.0, 1e6), min_size=1, max_size=200))
def test_daily_returns_multiply_to_the_whole_return(values: list[float]) -> None:
    equity = np.array(values)
    grown = np.prod(1.0 + daily_returns(hourly(len(values)), equity))
    assert grown == pytest.approx(equity[-1] / equity[0], rel=1e-9)


def test_one_candle_is_one_day_without_a_return() -> None:
    assert daily_returns(hourly(1), np.array([5.0])).tolist() == [0.0]


def test_no_candle_has_no_return() -> None:
    assert len(daily_returns(hourly(0), np.zeros(0))) == 0


# ---- sharpe -----------------------------------------------------------------------------------------------------
def test_sharpe_by_hand() -> None:
    # mean 0.01, standard deviation (n - 1) sqrt(0.0004 / 2 ... ) of 0.03, -0.01, 0.01 is 0.02
    assert sharpe_ratio(np.array([0.03, -0.01, 0.01])) == pytest.approx(0.5 * math.sqrt(365))
    assert sharpe_ratio(np.array([0.03, -0.01, 0.01]), periods_per_year=4.0) == pytest.approx(1.0)


def test_sharpe_agrees_with_pandas() -> None:
    returns = pd.Series(np.random.default_rng(2).normal(0.001, 0.03, 500))
    assert sharpe_ratio(returns.to_numpy()) == pytest.approx(returns.mean() / returns.std() * 365**0.5)


@pytest.mark.parametrize("returns", [[], [0.01], [0.0, 0.0, 0.0]], ids=["none", "one", "constant"])
def test_sharpe_is_not_defined_without_a_spread(returns: list[float]) -> None:
    assert sharpe_ratio(np.array(returns)) is None


# ---- drawdown ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("equity", "fall"),
    [([], 0.0), ([5.0], 0.0), ([1.0, 2.0, 3.0], 0.0), ([100.0, 80.0, 90.0, 120.0, 90.0], 0.25), ([4.0, 4.0], 0.0)],
    ids=["none", "one", "rising", "second-fall-deeper", "constant"],
)
def test_drawdown_by_hand(equity: list[float], fall: float) -> None:
    assert max_drawdown(np.array(equity)) == pytest.approx(fall)


def test_drawdown_agrees_with_pandas() -> None:
    equity = pd.Series(walk(3_000, 3))
    assert max_drawdown(equity.to_numpy()) == pytest.approx((1.0 - equity / equity.cummax()).max())


# ---- ratios against the libraries -------------------------------------------------------------------------------
@pytest.fixture(params=[1, 2, 3])
def account(request: pytest.FixtureRequest) -> Track:
    return wandering(request.param)


@pytest.fixture
def by_day(account: Track) -> pd.Series:
    """Return its daily returns as pandas finds them; whole days from midnight, so the first has all its candles."""
    marks = pd.Series(account.equity[::24])
    return marks.pct_change().dropna().reset_index(drop=True)


def test_the_daily_returns_of_a_track_begin_with_its_cash(account: Track, by_day: pd.Series) -> None:
    assert returns_of(account) == pytest.approx(by_day.to_numpy(), abs=1e-12)
    assert measure(account).days == len(by_day) == 200


def test_growth_agrees_with_empyrical_where_days_are_whole(account: Track, by_day: pd.Series) -> None:
    found = measure(account)
    assert found.total_return == pytest.approx(empyrical.cum_returns_final(by_day))
    assert found.annual_return == pytest.approx(empyrical.annual_return(by_day, annualization=365))


def test_volatility_sharpe_and_sortino_agree_with_empyrical(account: Track, by_day: pd.Series) -> None:
    found = measure(account)
    assert found.volatility == pytest.approx(empyrical.annual_volatility(by_day, annualization=365))
    assert found.sharpe == pytest.approx(empyrical.sharpe_ratio(by_day, annualization=365))
    assert found.sortino == pytest.approx(empyrical.sortino_ratio(by_day, annualization=365))


def test_a_year_of_365_days_is_not_the_252_that_empyrical_assumes(account: Track, by_day: pd.Series) -> None:
    assert measure(account).sharpe == pytest.approx(empyrical.sharpe_ratio(by_day) * math.sqrt(365 / 252))


def test_the_sharpe_ratio_of_candles_is_annualised_by_their_number_in_a_year(account: Track) -> None:
    of_candles = pd.Series(account.equity).pct_change().dropna()
    assert measure(account).sharpe_candles == pytest.approx(empyrical.sharpe_ratio(of_candles, annualization=8_760))


def test_drawdown_of_candles_agrees_with_empyrical_which_counts_downwards(account: Track) -> None:
    of_candles = pd.Series(account.equity).pct_change().dropna()
    assert measure(account).max_drawdown == pytest.approx(-empyrical.max_drawdown(of_candles))


def test_calmar_agrees_with_empyrical_where_candles_are_days() -> None:
    returns = pd.Series(np.random.default_rng(5).normal(0.002, 0.03, 400))
    assert measure(compounded(returns)).calmar == pytest.approx(empyrical.calmar_ratio(returns, annualization=365))


def test_calmar_looks_at_candles_where_empyrical_sees_only_days(account: Track, by_day: pd.Series) -> None:
    found = measure(account)
    assert found.calmar == pytest.approx(found.annual_return / found.max_drawdown)
    assert abs(found.calmar) <= abs(empyrical.calmar_ratio(by_day, annualization=365))


def test_value_at_risk_and_shortfall_agree_with_empyrical_which_counts_losses_downwards(
    account: Track, by_day: pd.Series
) -> None:
    found = measure(account)
    assert found.value_at_risk == pytest.approx(-empyrical.value_at_risk(by_day))
    assert found.expected_shortfall == pytest.approx(-empyrical.conditional_value_at_risk(by_day))
    assert found.expected_shortfall >= found.value_at_risk


def test_skew_and_raw_kurtosis_agree_with_scipy(account: Track, by_day: pd.Series) -> None:
    found = measure(account)
    assert found.skew == pytest.approx(scipy.stats.skew(by_day))
    assert found.kurtosis == pytest.approx(scipy.stats.kurtosis(by_day, fisher=False))


def test_alpha_and_beta_agree_with_the_regression_of_statsmodels(account: Track, by_day: pd.Series) -> None:
    benchmark = wandering(99)
    market = pd.Series(benchmark.equity[::24]).pct_change().dropna().reset_index(drop=True)
    fitted = sm.OLS(by_day, sm.add_constant(market)).fit().params
    found = measure(account, benchmark)
    assert (found.alpha, found.beta) == pytest.approx((fitted.iloc[0] * 365, fitted.iloc[1]))
    assert found.excess_return == pytest.approx(empyrical.cum_returns_final(by_day) - (market + 1.0).prod() + 1.0)


def test_alpha_is_the_sum_over_a_year_where_empyrical_compounds_it(account: Track, by_day: pd.Series) -> None:
    benchmark = wandering(99)
    market = pd.Series(benchmark.equity[::24]).pct_change().dropna().reset_index(drop=True)
    alpha, beta = empyrical.alpha_beta(by_day, market, annualization=365)
    found = measure(account, benchmark)
    assert found.beta == pytest.approx(beta)
    assert (1.0 + found.alpha / 365) ** 365 - 1.0 == pytest.approx(alpha)


# ---- time -------------------------------------------------------------------------------------------------------
def test_a_year_is_365_days_of_real_time_even_where_days_have_no_candle() -> None:
    close_ms = START_MS + DAY_MS * np.array([1, 2, 730], dtype=np.int64)
    found = measure(replace(track([100.0, 100.0, 110.0, 121.0], hours=24), close_ms=close_ms))
    assert found.days == 3
    assert found.annual_return == pytest.approx(0.1)


def test_the_longest_drawdown_lasts_from_its_peak_to_its_recovery() -> None:
    #            peak at 1 h, recovered at 4 h; a deeper but shorter fall after 5 h
    found = measure(track([100.0, 110.0, 105.0, 109.0, 110.0, 120.0, 60.0, 130.0]))
    assert found.drawdown_days == pytest.approx(3 / 24)
    assert found.underwater == pytest.approx(3 / 7)
    assert found.max_drawdown == pytest.approx(0.5)


def test_a_drawdown_that_is_not_recovered_lasts_to_the_end() -> None:
    found = measure(track([100.0, 90.0, 100.0, 99.0, 98.0, 97.0]))
    assert (found.drawdown_days, found.underwater) == pytest.approx((3 / 24, 4 / 5))


def test_a_plateau_at_the_peak_is_no_drawdown() -> None:
    found = measure(track([100.0, 110.0, 110.0, 110.0, 105.0, 111.0]))
    assert (found.drawdown_days, found.underwater) == pytest.approx((2 / 24, 1 / 5))


def test_drawdown_time_counts_candles_that_are_missing() -> None:
    close_ms = START_MS + HOUR_MS * np.array([1, 2, 50, 51], dtype=np.int64)
    found = measure(replace(track([100.0, 101.0, 90.0, 95.0, 102.0]), close_ms=close_ms))
    assert found.drawdown_days == pytest.approx(50 / 24)


def test_drawdown_times_agree_with_pandas(account: Track) -> None:
    equity = pd.Series(account.equity, index=pd.to_datetime(START_MS + HOUR_MS * np.arange(4_801), unit="ms"))
    peaks = equity[equity >= equity.cummax()].index.append(equity.index[-1:])
    found = measure(account)
    assert found.drawdown_days == pytest.approx(peaks.to_series().diff().max() / pd.Timedelta(days=1))
    assert found.underwater == pytest.approx((equity < equity.cummax()).iloc[1:].mean())


# ---- months -----------------------------------------------------------------------------------------------------
def test_monthly_returns_agree_with_empyrical(account: Track, by_day: pd.Series) -> None:
    by_day.index = pd.date_range("2021-01-01", periods=200)
    expected = empyrical.aggregate_returns(by_day, "monthly")
    found = monthly_returns(np.concatenate([account.close_ms[:1], account.close_ms]), account.equity)
    assert [(month.year, month.month) for month in found] == list(expected.index)
    assert [month.total_return for month in found] == pytest.approx(expected.to_list())
    assert [month.days for month in found] == by_day.groupby([by_day.index.year, by_day.index.month]).size().to_list()


def test_a_month_begins_at_midnight_utc_and_takes_the_missing_one_before_it() -> None:
    days = np.array([31, 32, 100], dtype=np.int64)  # the ends of 31 January, 1 February and 10 April 2021
    assert monthly_returns(START_MS + DAY_MS * days, np.array([100.0, 110.0, 99.0])) == (
        Month(year=2021, month=1, days=1, total_return=0.0),
        Month(year=2021, month=2, days=1, total_return=pytest.approx(0.1)),
        Month(year=2021, month=4, days=1, total_return=pytest.approx(-0.1)),
    )


def test_december_and_years_before_1970_are_dated_right() -> None:
    close_ms = np.array([0, DAY_MS], dtype=np.int64)
    found = monthly_returns(close_ms, np.array([1.0, 1.0]))
    assert [(month.year, month.month) for month in found] == [(1969, 12), (1970, 1)]


def test_no_candle_has_no_month() -> None:
    assert monthly_returns(hourly(0), np.zeros(0)) == ()


def test_a_month_counts_from_ten_days_on() -> None:
    # Nine days of January gain, 28 of February lose, all of March gains.
    returns = np.concatenate([np.full(9, 0.01), np.full(28, -0.001), np.full(31, 0.001)])
    found = measure(compounded(returns, start_ms=START_MS + 22 * DAY_MS))
    assert (found.months, found.positive_months) == (2, 0.5)
    later = measure(compounded(returns[:9], start_ms=START_MS + 22 * DAY_MS))
    assert (later.months, later.positive_months) == (0, None)


def test_a_month_that_ends_where_it_began_is_not_positive() -> None:
    found = measure(compounded(np.zeros(31)))
    assert (found.months, found.positive_months) == (1, 0.0)


# ---- trades -----------------------------------------------------------------------------------------------------
def traded() -> Track:
    """Return two closed round trips, +18 on 101 and -22 on 202, and one that is open: 50 were spent, 45 are held."""
    fills = (
        fill(Side.BUY, 1.0, 100.0, 1.0, hour=0),
        fill(Side.SELL, 1.0, 120.0, 1.0, hour=12),
        fill(Side.BUY, 2.0, 100.0, 2.0, hour=24),
        fill(Side.SELL, 2.0, 91.0, 2.0, hour=60),
        fill(Side.BUY, 0.5, 98.0, 1.0, hour=60),
    )
    equity = np.linspace(1_000.0, 991.0, 74)  # 1,000 + 18 - 22 - 5
    symbols = (symbol_track(close=np.full(73, 90.0)),)
    return track(equity, fills=fills, symbols=symbols, fees=7.0, slippage=2.0)


def test_round_trips_by_hand() -> None:
    found = measure(traded())
    assert (found.trades, found.round_trips, found.wins, found.losses) == (5, 2, 1, 1)
    assert found.win_rate == 0.5
    assert found.profit_factor == found.payoff == pytest.approx(18 / 22)
    assert found.expectancy == pytest.approx((18 / 101 - 22 / 202) / 2)
    assert found.holding_days == pytest.approx((12 + 36) / 2 / 24)
    assert found.open_profit == pytest.approx(0.5 * 90.0 - 50.0)


def test_payoff_is_of_means_and_profit_factor_of_sums() -> None:
    fills = tuple(
        fill(side, 1.0, price, 0.0, hour=2 * trip + (side is Side.SELL))
        for trip, sold in enumerate([110.0, 130.0, 95.0])
        for side, price in ((Side.BUY, 100.0), (Side.SELL, sold))
    )
    found = measure(replace(traded(), fills=fills))
    assert (found.profit_factor, found.payoff) == pytest.approx((40 / 5, 20 / 5))


def test_costs_are_shares_of_the_cash_and_turnover_counts_both_sides_per_year() -> None:
    found = measure(traded())
    assert (found.fees, found.slippage) == pytest.approx((0.007, 0.002))
    notional = 100.0 + 120.0 + 200.0 + 182.0 + 49.0
    assert found.turnover == pytest.approx(notional / 995.5 * 365 * 24 / 73)


def test_exposure_is_a_mean_and_invested_a_share_of_candles() -> None:
    found = measure(track([1.0] * 5, exposure=np.array([0.0, 0.5, 0.7, 1e-15])))
    assert (found.exposure, found.invested) == pytest.approx((0.3, 0.5))


def test_actions_are_shares_of_the_votes_of_all_symbols() -> None:
    votes = [ActionKind.BUY, ActionKind.BUY, ActionKind.SELL, ActionKind.HOLD, -1]
    symbols = (symbol_track(action=votes), symbol_track("ETH/USDT", action=[-1, -1, -1, -1, ActionKind.SELL]))
    found = measure(track([1.0] * 6, symbols=symbols)).actions
    assert found == pytest.approx({Action.BUY: 0.4, Action.SELL: 0.4, Action.HOLD: 0.2})


# ---- what is not defined ----------------------------------------------------------------------------------------
def undefined(found: Metrics) -> set[str]:
    return {field.name for field in fields(found) if getattr(found, field.name) is None}


OF_TRADES = {"win_rate", "win_rate_low", "win_rate_high", "profit_factor", "payoff", "expectancy", "holding_days"}
BESIDE = {"alpha", "beta", "excess_return"}


def test_an_account_that_never_moved_has_no_ratio_and_no_risk() -> None:
    still = measure(track(np.full(24 * 40 + 1, 1_000.0)))
    assert (
        undefined(still) == {"sharpe", "sharpe_candles", "sortino", "calmar", "skew", "kurtosis"} | OF_TRADES | BESIDE
    )
    assert (still.total_return, still.annual_return, still.volatility, still.value_at_risk) == (0.0, 0.0, 0.0, 0.0)
    assert (still.max_drawdown, still.drawdown_days, still.underwater, still.open_profit) == (0.0, 0.0, 0.0, 0.0)
    assert still.actions == {"buy": 0.0, "sell": 0.0, "hold": 0.0}
    assert "-0.0" not in json.dumps(asdict(still))


def test_the_same_return_every_day_has_no_spread_whatever_its_rounding_says() -> None:
    returns = np.full(300, 0.001)
    found = measure(compounded(returns))
    assert np.std(returns_of(compounded(returns))) > 0.0  # only the rounding of its 300 products
    assert (found.sharpe, found.volatility, found.sortino, found.calmar) == (None, 0.0, None, None)
    assert found.annual_return == pytest.approx(1.001**365 - 1.0)


def test_what_rounding_takes_from_an_account_is_no_drawdown() -> None:
    below = np.nextafter(1_000.0, 0.0)
    found = measure(track([999.0, 1_000.0, *[below] * 47]))
    assert (found.drawdown_days, found.underwater, found.calmar) == (0.0, 0.0, None)


def test_one_day_has_a_return_and_nothing_that_needs_more() -> None:
    found = measure(track(np.linspace(100.0, 90.0, 24)))
    assert found.days == 1
    assert found.total_return == pytest.approx(-0.1)
    missing = {"annual_return", "volatility", "sharpe", "sortino", "calmar", "skew", "kurtosis", "positive_months"}
    assert undefined(found) == missing | {"value_at_risk", "expected_shortfall"} | OF_TRADES | BESIDE


def test_one_candle_is_enough_to_be_measured() -> None:
    found = measure(track([100.0, 101.0]))
    assert (found.days, found.total_return, found.sharpe_candles) == (1, pytest.approx(0.01), None)


def test_a_tail_of_five_percent_needs_twenty_days() -> None:
    returns = np.random.default_rng(4).normal(0.0, 0.02, 20)
    assert measure(compounded(returns[:19])).value_at_risk is None
    assert measure(compounded(returns)).expected_shortfall == pytest.approx(-returns.min())


def test_two_days_draw_a_line_but_are_no_regression() -> None:
    market = compounded([0.01, -0.02, 0.03])
    two = compounded([0.02, 0.01])
    assert measure(two, compounded([0.01, -0.02])).beta is None
    assert measure(market, market).beta == pytest.approx(1.0)


def test_a_benchmark_that_never_moved_has_no_beta_but_an_excess() -> None:
    found = measure(wandering(1), track(np.full(4_801, 50.0)))
    assert (found.alpha, found.beta) == (None, None)
    assert found.excess_return == pytest.approx(found.total_return)


def test_no_loss_leaves_profit_factor_and_sortino_undefined() -> None:
    fills = (fill(Side.BUY, 1.0, 100.0, 0.0, hour=0), fill(Side.SELL, 1.0, 120.0, 0.0, hour=1))
    found = measure(replace(compounded([0.01, 0.02, 0.03]), fills=fills))
    assert (found.profit_factor, found.payoff, found.sortino, found.win_rate) == (None, None, None, 1.0)


def test_growth_that_no_float_can_hold_for_a_year_is_not_annualised() -> None:
    assert measure(track([1.0, 1.0, 1e6], start_ms=START_MS + 23 * HOUR_MS)).annual_return is None


def test_the_codes_of_votes_are_those_of_the_rewards() -> None:
    for kind, action in ((ActionKind.BUY, "buy"), (ActionKind.SELL, "sell"), (ActionKind.HOLD, "hold")):
        assert measure(track([1.0, 1.0], symbols=(symbol_track(action=[kind]),))).actions[action] == 1.0


def test_the_document_defines_every_figure_once() -> None:
    text = (Path(__file__).parents[2] / "docs" / "evaluation-metrics.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", text.partition("## Growth and risk")[2], re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"\w+", row)]
    assert sorted(named) == sorted(field.name for field in fields(Metrics))


# ---- properties -------------------------------------------------------------------------------------------------
equities = st.lists(st.floats(1e-3, 1e9), min_size=2, max_size=300).map(np.array)
small = st.lists(st.floats(-0.05, 0.05), min_size=25, max_size=80).map(np.array)


@given(equities, st.sampled_from([1, 4, 24]))
def test_whatever_the_account_did_the_figures_are_finite_or_not_defined(equity: np.ndarray, hours: int) -> None:
    account = track(equity, hours=hours)
    found = measure(account, account)
    figures = [value for value in asdict(found).values() if isinstance(value, float)]
    assert np.all(np.isfinite(figures))
    assert 0.0 <= found.max_drawdown <= 1.0
    assert 0.0 <= found.underwater <= 1.0
    assert 0.0 <= found.drawdown_days <= (len(equity) - 1) * hours / 24
    assert json.loads(json.dumps(asdict(found))) == asdict(found)


@given(equities, st.integers(-20, 20))
def test_no_figure_depends_on_the_unit_of_money(equity: np.ndarray, power: int) -> None:
    assert measure(track(equity * 2.0**power)) == measure(track(equity))


@given(small, st.floats(0.1, 3.0))
def test_leverage_of_returns_changes_volatility_but_neither_sharpe_nor_sortino(
    returns: np.ndarray, factor: float
) -> None:
    plain, levered = measure(compounded(returns)), measure(compounded(returns * factor))
    if plain.volatility > 1e-6:
        assert levered.volatility == pytest.approx(plain.volatility * factor, rel=1e-6)
        assert levered.sharpe == pytest.approx(plain.sharpe, rel=1e-6, abs=1e-6)
    if plain.sortino is not None and abs(plain.sortino) < 1e6:
        assert levered.sortino == pytest.approx(plain.sortino, rel=1e-6, abs=1e-6)


@given(small, st.floats(-3.0, 3.0))
def test_beta_of_a_multiple_of_the_benchmark_is_that_multiple_and_alpha_nothing(
    returns: np.ndarray, factor: float
) -> None:
    benchmark = compounded(returns)
    found = measure(compounded(returns * factor), benchmark)
    if measure(benchmark).volatility > 1e-3:
        assert found.beta == pytest.approx(factor, abs=1e-6)
        assert found.alpha == pytest.approx(0.0, abs=1e-6)
