"""Cross-validation of picks: by hand, computed in a second way, and on settings of which the worth is known."""

import itertools
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from training.errors import TrainingError
from training.stats_overfitting import overfitting

FloatArray = NDArray[np.float64]


def slowly(returns: FloatArray, blocks: int) -> list[float]:
    """Return the logits, written down as the paper tells it: halves of the matrix put together, one after another."""
    rows = len(returns) // blocks
    parts = np.split(returns[len(returns) - rows * blocks :], blocks)
    logits = []
    for chosen in itertools.combinations(range(blocks), blocks // 2):
        inside = np.vstack([parts[at] for at in chosen])
        outside = np.vstack([parts[at] for at in range(blocks) if at not in chosen])
        scores = [column.mean() / column.std(ddof=1) for column in inside.T]
        out = [column.mean() / column.std(ddof=1) for column in outside.T]
        rank = sorted(out).index(out[int(np.argmax(scores))]) + 1
        share = rank / (returns.shape[1] + 1)
        logits.append(math.log(share / (1 - share)))
    return logits


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000), n=st.integers(2, 7), blocks=st.sampled_from([2, 4, 6, 8]), rows=st.integers(2, 9),
    rest=st.integers(0, 1),
)  # fmt: skip
def test_it_is_what_the_paper_tells(seed: int, n: int, blocks: int, rows: int, rest: int) -> None:
    returns = np.random.default_rng(seed).normal(size=(rows * blocks + rest, n))
    found = overfitting(returns, blocks)
    assert found is not None
    known = slowly(returns, blocks)
    assert sorted(found.logits) == pytest.approx(sorted(known))
    below = [0.5 if abs(logit) < 1e-12 else float(logit < 0) for logit in known]
    assert found.probability == pytest.approx(np.mean(below))


def test_four_blocks_by_hand() -> None:
    # Blocks of two days. A earns in the blocks 1 and 2 and loses in 3 and 4; B the other way round; each day of a block
    # differs from the other by the same, so that a half's Sharpe ratio has the sign of what it earned.
    earns, loses = [0.03, 0.01], [-0.01, -0.03]
    a, b = earns * 2 + loses * 2, loses * 2 + earns * 2
    found = overfitting(np.array([a, b]).T, 4)
    assert found is not None
    # Halves {1, 2} and {3, 4} pick the one that loses in the other half: rank 1 of 2, logit log(1/3 : 2/3). The other
    # four halves hold one good and one bad block of each: both earn 0 inside and outside, and share the ranks: logit 0.
    assert sorted(found.logits) == pytest.approx([-math.log(2), -math.log(2), 0, 0, 0, 0])
    assert found.probability == pytest.approx((2 + 4 / 2) / 6)
    assert found.loss == pytest.approx(2 / 6)


def test_a_setting_that_is_better_everywhere_is_not_overfitted() -> None:
    returns = np.random.default_rng(1).normal(0.0, 0.01, size=(640, 8))
    returns[:, 3] += 0.02
    found = overfitting(returns)
    assert found is not None
    assert (found.probability, found.loss) == (0.0, 0.0)
    assert len(found.logits) == math.comb(16, 8)
    assert np.allclose(found.logits, math.log(8))  # rank 8 of 8: 8/9 to 1/9


@pytest.mark.parametrize("n", [2, 5, 10])
def test_settings_without_a_difference_come_to_a_half(n: int) -> None:
    found = [overfitting(np.random.default_rng(seed).normal(size=(320, n)), 8) for seed in range(60)]
    assert np.mean([one.probability for one in found if one is not None]) == pytest.approx(0.5, abs=0.06)


def test_a_setting_that_was_good_in_the_first_half_only_is_found_out() -> None:
    returns = np.random.default_rng(2).normal(0.0, 0.01, size=(400, 6))
    for column in range(6):  # each is lucky in its own blocks, and pays for it elsewhere
        returns[:, column] += np.where(np.arange(400) // 50 % 6 == column, 0.02, -0.004)
    found = overfitting(returns, 8)
    assert found is not None
    assert found.probability > 0.7


def test_copies_of_one_setting_are_as_good_as_each_other() -> None:
    one = np.random.default_rng(3).normal(size=(160, 1))
    found = overfitting(np.repeat(one, 7, axis=1))
    assert found is not None
    assert found.probability == 0.5
    assert np.all(found.logits == 0.0)


def test_cash_counts_as_nothing_earned_and_beats_what_loses() -> None:
    returns = np.random.default_rng(4).normal(-0.01, 0.005, size=(160, 3))
    returns[:, 1] = 0.0
    found = overfitting(returns, 8)
    assert found is not None
    assert found.probability == 0.0
    assert np.allclose(found.logits, math.log(3))


@pytest.mark.parametrize("shape", [(320, 1), (31, 5), (0, 5)], ids=["one setting", "too few rows", "none"])
def test_too_little_says_nothing(shape: tuple[int, int]) -> None:
    assert overfitting(np.zeros(shape)) is None


@pytest.mark.parametrize("blocks", [0, 3, 22])
def test_blocks_that_cannot_be_halved_are_refused(blocks: int) -> None:
    with pytest.raises(TrainingError, match=f"{blocks} blocks"):
        overfitting(np.zeros((100, 2)), blocks)


@pytest.mark.parametrize("returns", [np.zeros(10), np.full((40, 2), np.nan)])
def test_what_is_no_matrix_of_numbers_is_refused(returns: FloatArray) -> None:
    with pytest.raises(TrainingError, match=re.escape(f"returns of shape {returns.shape}")):
        overfitting(returns, 4)
