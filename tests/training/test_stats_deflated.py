"""Deflation against the example its authors published, against SciPy, and against returns without any skill."""

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from training import stats_deflated as deflated
from training.errors import TrainingError
from training.stats_deflated import Moments

PUBLISHED = Moments(n=1250, sharpe=2.5 / math.sqrt(250), skew=-3.0, kurtosis=10.0)
"""Bailey and Lopez de Prado (2014), "a numerical example": five years of daily returns, annualised 2.5."""


# ---- what was published -----------------------------------------------------------------------------------------
def test_the_published_example_has_its_published_values() -> None:
    spread = math.sqrt(0.5 / 250)  # the variance between trials, annualised, is 1/2
    assert deflated.expected_best(100, spread) == pytest.approx(0.1132, abs=5e-5)
    assert deflated.deflated_sharpe(PUBLISHED, 100, spread) == pytest.approx(0.9004, abs=5e-5)


def test_after_46_trials_the_published_example_stands() -> None:
    # The same source: "should the strategy have been selected after only 46 independent trials, the DSR is 0.9505".
    value = deflated.deflated_sharpe(PUBLISHED, 46, math.sqrt(0.5 / 250))
    assert value == pytest.approx(0.9505, abs=5e-4)


@pytest.mark.parametrize(("sharpe", "years"), [(1.0, 2.7), (2.0, 0.7)])
def test_the_least_track_record_of_a_normal_sharpe_ratio_is_the_known_one(sharpe: float, years: float) -> None:
    moments = Moments(n=1_000, sharpe=sharpe / math.sqrt(365), skew=0.0, kurtosis=3.0)
    days = deflated.least_track_record(moments)
    assert days is not None
    assert days / 365 == pytest.approx(years, abs=0.05)


# ---- against SciPy ----------------------------------------------------------------------------------------------
@given(
    sharpe=st.floats(-0.3, 0.3), skew=st.floats(-2.0, 2.0), more=st.floats(0.5, 20.0), n=st.integers(2, 5_000),
    benchmark=st.floats(-0.1, 0.1),
)  # fmt: skip
def test_the_probability_is_the_normal_one_of_the_estimates_error(
    sharpe: float, skew: float, more: float, n: int, benchmark: float
) -> None:
    kurtosis = skew**2 + 1.0 + more  # what any distribution has at least
    error = math.sqrt((1 - skew * sharpe + (kurtosis - 1) / 4 * sharpe**2) / (n - 1))
    known = stats.norm.cdf((sharpe - benchmark) / error)
    moments = Moments(n=n, sharpe=sharpe, skew=skew, kurtosis=kurtosis)
    assert deflated.probabilistic_sharpe(moments, benchmark) == pytest.approx(float(known), abs=1e-9)


def test_the_moments_are_those_of_scipy() -> None:
    returns = stats.t.rvs(4, size=500, random_state=3) * 0.02 + 0.001
    moments = deflated.moments_of(returns)
    assert moments is not None
    assert moments.sharpe == pytest.approx(float(np.mean(returns) / stats.tstd(returns)))
    assert moments.skew == pytest.approx(float(stats.skew(returns)))
    assert moments.kurtosis == pytest.approx(float(stats.kurtosis(returns, fisher=False)))


@pytest.mark.parametrize("trials", [2, 10, 100, 1_000])
def test_the_expected_best_is_about_the_mean_of_the_best_of_so_many_draws(trials: int) -> None:
    draws = np.random.default_rng(1).normal(scale=0.7, size=(4_000, trials)).max(axis=1)
    assert deflated.expected_best(trials, 0.7) == pytest.approx(float(np.mean(draws)), abs=0.05)


def test_the_least_track_record_is_the_length_at_which_the_probability_arrives() -> None:
    moments = Moments(n=2, sharpe=0.05, skew=-1.0, kurtosis=8.0)
    days = deflated.least_track_record(moments, benchmark=0.01, confidence=0.9)
    assert days is not None
    long = Moments(n=round(days), sharpe=0.05, skew=-1.0, kurtosis=8.0)
    assert deflated.probabilistic_sharpe(long, 0.01) == pytest.approx(0.9, abs=1e-3)


# ---- by simulation ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("trials", [5, 20, 100])
def test_the_best_of_many_without_skill_looks_good_and_is_seldom_believed(trials: int) -> None:
    generator, alarms, naive, runs = np.random.default_rng(trials), 0, 0, 150
    for _ in range(runs):
        returns = generator.standard_t(4, size=(730, trials)) * 0.02
        sharpes = returns.mean(axis=0) / returns.std(axis=0, ddof=1) * math.sqrt(365)
        found = deflated.deflate(returns[:, np.argmax(sharpes)], trials, list(sharpes))
        assert found.value is not None
        assert found.probabilistic is not None
        alarms += found.value > 0.95
        naive += found.probabilistic > 0.95
    assert alarms / runs <= 0.05
    assert naive / runs > {5: 0.12, 20: 0.5, 100: 0.97}[trials]


def test_real_skill_is_believed_in_spite_of_the_trials() -> None:
    generator = np.random.default_rng(9)
    skill = generator.normal(0.003, 0.02, size=1_825)  # about 2.9 a year
    others = generator.normal(0.0, 0.45, size=50)
    found = deflated.deflate(skill, 51, [*others, 2.9])
    assert found.value is not None
    assert found.value > 0.95


# ---- trials -----------------------------------------------------------------------------------------------------
def test_one_trial_is_not_deflated() -> None:
    returns = np.random.default_rng(2).normal(0.001, 0.02, size=500)
    found = deflated.deflate(returns, 1, [1.3])
    assert found.value == found.probabilistic
    assert (found.trials, found.spread, found.chance) == (1, None, 0.0)


def test_more_trials_and_a_wider_spread_are_believed_less() -> None:
    values = [deflated.deflated_sharpe(PUBLISHED, trials, 0.05) for trials in (2, 10, 100)]
    assert values == sorted(values, key=lambda value: -(value or 0.0))
    wide, narrow = (deflated.deflated_sharpe(PUBLISHED, 10, spread) for spread in (0.08, 0.02))
    assert (wide or 0.0) < (narrow or 0.0)


def test_trials_without_scores_are_given_the_spread_of_chance() -> None:
    returns = np.random.default_rng(2).normal(0.001, 0.02, size=731)
    found = deflated.deflate(returns, 40, [])
    assert found.spread == pytest.approx(math.sqrt(365 / 730))  # two years: 0.71 of a Sharpe ratio
    assert found.value is not None
    assert found.probabilistic is not None
    assert found.value < found.probabilistic


def test_the_record_is_annualised() -> None:
    returns = np.random.default_rng(4).normal(0.002, 0.02, size=800)
    sharpes = [0.2, 0.9, -0.4, 1.6]
    found, moments = deflated.deflate(returns, 30, sharpes), deflated.moments_of(returns)
    assert moments is not None
    assert found.spread == pytest.approx(stats.tstd(sharpes))
    assert found.chance == pytest.approx(deflated.expected_best(30, float(stats.tstd(sharpes))))
    daily = float(stats.tstd(sharpes)) / math.sqrt(365)
    assert found.value == pytest.approx(deflated.deflated_sharpe(moments, 30, daily))


def test_copies_of_one_trial_are_worth_one_and_strangers_their_number() -> None:
    generator = np.random.default_rng(1)
    one = generator.normal(size=(2_000, 1))
    assert deflated.effective_trials(np.repeat(one, 20, axis=1)) == pytest.approx(1.0)
    assert deflated.effective_trials(generator.normal(size=(2_000, 20))) == pytest.approx(20.0, abs=0.5)
    assert deflated.effective_trials(one) == 1.0


def test_correlated_trials_are_worth_what_their_mean_correlation_says() -> None:
    generator = np.random.default_rng(3)
    returns = generator.normal(size=(300, 1)) + generator.normal(size=(300, 6))
    rho = np.corrcoef(returns, rowvar=False)[np.triu_indices(6, 1)].mean()
    assert deflated.effective_trials(returns) == pytest.approx(rho + (1 - rho) * 6)


def test_trials_that_hedge_each_other_are_not_more_than_they_are() -> None:
    one = np.random.default_rng(1).normal(size=(100, 1))
    assert deflated.effective_trials(np.hstack([one, -one])) == 2.0


# ---- what is not defined ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("returns", [np.zeros(100), np.full(100, 0.1), np.zeros(1), np.zeros(0)])
def test_returns_without_a_spread_have_no_ratio_of_any_kind(returns: np.ndarray) -> None:
    found = deflated.deflate(returns, 10, [0.1, 0.5])
    assert (found.value, found.probabilistic, found.days_needed) == (None, None, None)
    assert found.trials == 10


def test_the_best_by_chance_is_not_made_up_where_neither_trials_nor_returns_have_a_spread() -> None:
    found = deflated.deflate(np.zeros(100), 10, [])
    assert (found.spread, found.chance, found.value) == (None, None, None)


def test_a_loss_needs_no_track_record() -> None:
    assert deflated.least_track_record(Moments(n=100, sharpe=-0.1, skew=0.0, kurtosis=3.0)) is None


def test_two_values_of_which_the_estimate_has_no_error_have_no_probability() -> None:
    # A coin of 0 and 2: skew 0, kurtosis 1, so the error is 1 + 0; it vanishes only where skew x sharpe is 1.
    assert deflated.probabilistic_sharpe(Moments(n=10, sharpe=0.5, skew=4.0, kurtosis=17.0)) is None


@pytest.mark.parametrize(("trials", "spread"), [(0, 0.1), (math.nan, 0.1), (5, -0.1), (5, math.inf)])
def test_impossible_trials_are_refused(trials: float, spread: float) -> None:
    with pytest.raises(TrainingError, match=re.escape(f"{trials} trials with a spread of {spread}")):
        deflated.expected_best(trials, spread)


def test_returns_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(TrainingError, match="not finite"):
        deflated.moments_of(np.array([0.1, np.nan]))
    with pytest.raises(TrainingError, match=re.escape("shape (3,)")):
        deflated.effective_trials(np.zeros(3))
