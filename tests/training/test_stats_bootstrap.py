"""Blocks and intervals against the arch package, against simulation, and by hand."""

import re
from typing import Any

import numpy as np
import pytest
from arch.bootstrap import StationaryBootstrap, optimal_block_length
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from training import stats_bootstrap as boot
from training.errors import TrainingError
from training.metrics import sharpe_ratio

FloatArray = NDArray[np.float64]


def autoregressive(n: int, phi: float, seed: int, mean: float = 0.0) -> FloatArray:
    """Return n values that each keep `phi` of the one before."""
    noise = np.random.default_rng(seed).normal(size=n + 100)
    values = np.zeros(n + 100)
    for at in range(1, n + 100):
        values[at] = phi * values[at - 1] + noise[at]
    return values[100:] + mean


def mean_of(returns: FloatArray) -> float | None:
    return float(np.mean(returns))


# ---- the length of blocks ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("n", [120, 365, 1825])
@pytest.mark.parametrize("phi", [-0.5, 0.0, 0.3, 0.9])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_block_is_that_of_the_arch_package(n: int, phi: float, seed: int) -> None:
    series = autoregressive(n, phi, seed)
    known = float(optimal_block_length(series)["stationary"].iloc[0])
    # (Of short series arch divides a lag by the variance of other returns, and so may end at another lag.)
    assert boot.optimal_block(series) == pytest.approx(max(1.0, known), rel=1e-6)


def test_a_series_that_remembers_needs_longer_blocks() -> None:
    blocks = [boot.optimal_block(autoregressive(2_000, phi, 5)) for phi in (0.0, 0.5, 0.9)]
    assert blocks == sorted(blocks)
    assert blocks[0] < 5
    assert blocks[2] > 20


def test_a_constant_series_has_blocks_of_one() -> None:
    assert boot.optimal_block(np.full(100, 0.1)) == 1.0


def test_too_few_returns_have_no_block() -> None:
    with pytest.raises(TrainingError, match="9 returns are too few"):
        boot.optimal_block(np.zeros(9))


# ---- what is drawn ----------------------------------------------------------------------------------------------
@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 60), block=st.floats(1.0, 40.0), seed=st.integers(0, 1_000))
def test_every_index_begins_a_block_or_follows_the_one_before(n: int, block: float, seed: int) -> None:
    indices = boot.resampled_indices(n, block, 5, np.random.default_rng(seed))
    assert indices.shape == (5, n)
    assert np.all((indices >= 0) & (indices < n))
    again = boot.resampled_indices(n, block, 5, np.random.default_rng(seed))
    assert np.array_equal(indices, again)


def test_blocks_have_the_mean_length_that_was_asked_for_and_cover_all_days_alike() -> None:
    n, block = 500, 8.0
    indices = boot.resampled_indices(n, block, 2_000, np.random.default_rng(1))
    follows = np.mean((indices[:, 1:] - indices[:, :-1]) % n == 1)
    # A block goes on with 1 - 1 / 8; one day in n a fresh one happens to go on as well.
    assert follows == pytest.approx(7 / 8 + 1 / 8 / n, abs=0.002)
    counts = np.bincount(indices.ravel(), minlength=n) / len(indices)
    assert np.all(np.abs(counts - 1.0) < 0.35)


def test_blocks_of_one_are_independent_draws() -> None:
    indices = boot.resampled_indices(50, 1.0, 4_000, np.random.default_rng(2))
    assert np.mean((indices[:, 1:] - indices[:, :-1]) % 50 == 1) == pytest.approx(1 / 50, abs=0.002)


# ---- intervals --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("phi", "statistic"), [(0.0, mean_of), (0.4, mean_of), (0.2, sharpe_ratio)])
def test_the_bounds_are_those_of_the_arch_package(phi: float, statistic: Any) -> None:
    series = autoregressive(600, phi, 7, mean=0.1)
    ours = boot.interval(series, statistic, draws=4_000, block=6.0)
    theirs = StationaryBootstrap(6, series, seed=11).conf_int(statistic, 4_000, method="percentile")[:, 0]
    assert ours.value == pytest.approx(statistic(series))
    assert ours.low is not None
    assert ours.high is not None
    width = float(theirs[1] - theirs[0])
    assert abs(ours.low - theirs[0]) < 0.06 * width
    assert abs(ours.high - theirs[1]) < 0.06 * width


def test_the_bounds_hold_the_mean_of_a_series_that_remembers_about_as_often_as_they_say() -> None:
    held = 0
    for seed in range(200):
        found = boot.interval(autoregressive(400, 0.4, 1_000 + seed, mean=0.3), mean_of, draws=300, seed=seed)
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 0.3 <= found.high
    assert 0.88 <= held / 200 <= 0.98  # of 95 %; blocks of a finite length err a little below


def test_independent_draws_of_such_a_series_would_be_too_sure() -> None:
    held = 0
    for seed in range(200):
        found = boot.interval(
            autoregressive(400, 0.4, 1_000 + seed, mean=0.3), mean_of, draws=300, seed=seed, block=1.0
        )
        held += (found.low or 0.0) <= 0.3 <= (found.high or 0.0)
    assert held / 200 < 0.86


def test_the_same_seed_gives_the_same_bounds_and_another_one_others() -> None:
    series = autoregressive(100, 0.1, 3)
    first, again, other = (boot.interval(series, sharpe_ratio, draws=200, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_more_confidence_is_wider() -> None:
    series = autoregressive(200, 0.1, 3)
    narrow = boot.interval(series, mean_of, draws=500, confidence=0.5)
    wide = boot.interval(series, mean_of, draws=500, confidence=0.99)
    assert (wide.low or 0) < (narrow.low or 0) < (narrow.high or 0) < (wide.high or 0)


def test_batches_change_nothing_but_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boot, "_CELLS", 350)
    found = list(boot._batches(100, 5.0, 8, np.random.default_rng(1)))
    assert [len(batch) for batch in found] == [3, 3, 2]


# ---- pairs ------------------------------------------------------------------------------------------------------
def test_a_difference_is_drawn_on_the_same_days_of_both() -> None:
    market = autoregressive(500, 0.0, 4) * 0.03
    better = market + 0.001
    found = boot.difference_interval(better, market, mean_of, draws=500)
    # Whatever days are drawn, one is exactly a tenth of a percent a day above the other.
    assert (found.value, found.low, found.high) == pytest.approx((0.001, 0.001, 0.001), abs=1e-12)
    alone = boot.interval(better, mean_of, draws=500)
    assert (alone.high or 0.0) - (alone.low or 0.0) > 0.002


def test_an_account_differs_from_itself_by_nothing() -> None:
    series = autoregressive(200, 0.3, 5)
    found = boot.difference_interval(series, series, sharpe_ratio, draws=200)
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)


def test_the_interval_of_a_difference_is_that_of_the_arch_package() -> None:
    ours, theirs = autoregressive(500, 0.1, 6, mean=0.1), autoregressive(500, 0.1, 8)
    found = boot.difference_interval(ours, theirs, sharpe_ratio, draws=4_000, block=4.0)
    known = StationaryBootstrap(4, ours, theirs, seed=3).conf_int(
        lambda x, y: (sharpe_ratio(x) or 0.0) - (sharpe_ratio(y) or 0.0), 4_000, method="percentile"
    )[:, 0]
    width = float(known[1] - known[0])
    assert abs((found.low or 0.0) - known[0]) < 0.06 * width
    assert abs((found.high or 0.0) - known[1]) < 0.06 * width


def test_accounts_over_other_days_are_not_paired() -> None:
    with pytest.raises(TrainingError, match="40 returns cannot be paired with 41"):
        boot.difference_interval(np.zeros(40), np.zeros(41), mean_of)


# ---- what is not defined ----------------------------------------------------------------------------------------
def test_what_is_not_defined_has_no_bounds() -> None:
    found = boot.interval(np.zeros(100), sharpe_ratio)
    assert (found.value, found.low, found.high) == (None, None, None)


def test_fewer_than_thirty_returns_have_a_value_and_no_bounds() -> None:
    series = autoregressive(29, 0.0, 1)
    found = boot.interval(series, mean_of)
    assert found.value == pytest.approx(float(np.mean(series)))
    assert (found.low, found.high) == (None, None)


def test_bounds_of_which_too_many_draws_know_nothing_are_not_given() -> None:
    series = np.zeros(60)
    series[10] = 0.1  # about one resample in e holds the only day that moved not at all
    assert boot.interval(series, sharpe_ratio, draws=300, block=1.0).low is None


def test_cash_has_no_sharpe_ratio_to_differ_from() -> None:
    found = boot.difference_interval(autoregressive(100, 0.0, 1), np.zeros(100), sharpe_ratio)
    assert (found.value, found.low, found.high) == (None, None, None)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_return_that_is_no_number_is_refused(bad: float) -> None:
    series = autoregressive(50, 0.0, 1)
    series[6] = bad
    with pytest.raises(TrainingError, match=re.escape(f"return 7 of 50 is {bad}")):
        boot.interval(series, mean_of)


@pytest.mark.parametrize(("words", "says"), [({"draws": 0}, "draws 0"), ({"confidence": 1.0}, "confidence 1.0")])
def test_impossible_ways_to_draw_are_refused(words: dict[str, Any], says: str) -> None:
    with pytest.raises(TrainingError, match=re.escape(says)):
        boot.interval(np.zeros(50), mean_of, **words)
