"""Random entries: as many, as long and as large as the ensemble's, anywhere, and the same for one seed."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.trading import BTC, ETH, random_table, setup
from tests.training.markets import changed
from training.errors import TrainingError
from training.evaluation import RandomEntries
from training.exposures import Grid, follow
from training.random_entries import Habit, drawn, random_entries, spells
from training.track import Track

TABLES = [random_table(3_000, seed=1, symbol=BTC), random_table(2_900, seed=2, symbol=ETH, gaps=[500, 900])]
SETUP = setup([BTC, ETH], participation=1.0)
CASH = 10_000.0


def account(kind: str) -> Track:
    """Return an account that trades in the way of `kind`."""
    grid, rng = Grid.of(TABLES, SETUP, None), np.random.default_rng(3)
    wanted = grid.no_wish()
    n = len(wanted)
    if kind == "round trips":
        for index in range(2):
            entries, exits = spells(n, Habit(trips=20.0 + index, candles=900, size=0.4), rng)
            wanted[entries, index], wanted[exits[exits < n], index] = 0.4, 0.0
    elif kind == "always in, resized":
        wanted[::24] = rng.uniform(0.2, 0.6, (len(wanted[::24]), 2))
    elif kind == "one symbol":
        wanted[::100, 0], wanted[60::100, 0] = 0.8, 0.0
    elif kind == "bought once":
        wanted[5] = 0.5
    return follow(grid, wanted, cash=CASH, dead_band=0.0, name=kind)


@pytest.mark.parametrize("kind", ["round trips", "always in, resized", "one symbol", "bought once"])
def test_draws_are_invested_and_turned_over_as_the_ensemble_was(kind: str) -> None:
    ours = account(kind)
    grid = Grid.of(TABLES, SETUP, None)
    draws = drawn(grid, ours, 200, seed=7)
    turnover = sum(fill.quantity * fill.price for fill in ours.fills) / ours.equity[1:].mean()
    # A purchase alone is half a round trip. A draw has a whole one unless it lasts to the end: it sells what has risen.
    wide = 2.5 if kind == "bought once" else 1.05
    assert turnover / 1.05 <= draws.turnover.mean() <= turnover * wide
    assert draws.exposure.mean() == pytest.approx(ours.exposure.mean(), rel=0.05)
    assert draws.exposure.std() < 0.1 * ours.exposure.mean()
    assert np.isfinite(draws.sharpe).all()
    assert len(np.unique(draws.sharpe)) > (30 if kind == "bought once" else 100)


def test_a_symbol_that_was_not_traded_is_not_drawn() -> None:
    grid, ours = Grid.of(TABLES, SETUP, None), account("one symbol")
    other = changed(TABLES[1], values=TABLES[1].values * np.linspace(1.0, 50.0, len(TABLES[1]))[:, None])
    risen = Grid.of([TABLES[0], other], SETUP, None)
    assert drawn(risen, ours, 20, seed=1).sharpe.tobytes() == drawn(grid, ours, 20, seed=1).sharpe.tobytes()


def test_the_same_seed_draws_the_same_and_another_does_not() -> None:
    ours = account("round trips")
    first = random_entries(TABLES, SETUP, ours, draws=30, seed=1)
    assert first == random_entries(TABLES, SETUP, ours, draws=30, seed=1)
    assert first != random_entries(TABLES, SETUP, ours, draws=30, seed=2)


def test_the_percentile_is_the_share_of_the_draws_below_the_ensemble() -> None:
    ours, grid = account("round trips"), Grid.of(TABLES, SETUP, None)
    found = random_entries(TABLES, SETUP, ours, draws=100, seed=5)
    draws = drawn(grid, ours, 100, seed=5)
    days = np.unique((ours.close_ms - 1) // 86_400_000, return_index=True)[1][1:] - 1
    marks = np.concatenate([[CASH], ours.equity[1:][np.append(days, -1)]])
    returns = np.diff(marks) / marks[:-1]
    sharpe = returns.mean() / returns.std(ddof=1) * math.sqrt(365.0)
    assert found.percentile == sum(value < sharpe for value in draws.sharpe.tolist()) / 100
    assert found.draws == 100
    assert found.low == pytest.approx(np.percentile(draws.sharpe, 5))
    assert found.median == pytest.approx(np.percentile(draws.sharpe, 50))
    assert found.high == pytest.approx(np.percentile(draws.sharpe, 95))
    assert found.median_return == pytest.approx(np.median(draws.total_return))


def test_an_oracle_lies_above_nearly_every_draw_and_its_opposite_below() -> None:
    grid = Grid.of(TABLES, SETUP, None)
    rises = np.zeros(grid.prices.shape[:2])
    rises[:-24] = grid.prices[24:, :, 1] > grid.prices[:-24, :, 1] * 1.01
    knowing = follow(grid, 0.5 * rises, cash=CASH, dead_band=0.0, name="oracle")
    wrong = follow(grid, 0.5 * (1.0 - rises), cash=CASH, dead_band=0.0, name="opposite")
    assert (random_entries(TABLES, SETUP, knowing, draws=60).percentile or 0.0) > 0.99
    assert (random_entries(TABLES, SETUP, wrong, draws=60).percentile or 0.0) < 0.01


def test_luck_alone_is_spread_over_all_percentiles() -> None:
    """An ensemble that is itself a random draw must not look skilled: 40 of them, as many high as low."""
    percentiles = []
    grid = Grid.of(TABLES, SETUP, None)
    for seed in range(40):
        wanted, rng = grid.no_wish(), np.random.default_rng(seed)
        for index in range(2):
            entries, exits = spells(len(wanted), Habit(trips=15.0, candles=1_000, size=0.4), rng)
            wanted[entries, index], wanted[exits[exits < len(wanted)], index] = 0.4, 0.0
        ours = follow(grid, wanted, cash=CASH, dead_band=0.0, name="luck")
        percentiles.append(random_entries(TABLES, SETUP, ours, draws=60, seed=seed + 1_000).percentile or 0.0)
    # The mean of 40 uniform numbers has a standard deviation of 0.046.
    assert np.mean(percentiles) == pytest.approx(0.5, abs=0.15)
    assert np.std(percentiles) == pytest.approx(math.sqrt(1 / 12), abs=0.1)


def test_an_ensemble_that_never_traded_has_no_percentile() -> None:
    idle = account("idle")
    nothing = RandomEntries(draws=10, percentile=None, low=None, median=None, high=None, median_return=None)
    assert random_entries(TABLES, SETUP, idle, draws=10) == nothing


def test_other_candles_than_the_ensembles_are_refused() -> None:
    with pytest.raises(TrainingError, match=r"give the candles that it traded"):
        random_entries(TABLES[:1], SETUP, account("round trips"))


# ---- where spells lie -------------------------------------------------------------------------------------------
@given(st.integers(2, 400), st.floats(0.0, 60.0), st.integers(1, 400), st.integers(0, 2**32 - 1))
def test_spells_are_apart_and_as_long_together_as_asked(n: int, trips: float, candles: int, seed: int) -> None:
    entries, exits = spells(n, Habit(trips=trips, candles=candles, size=0.5), np.random.default_rng(seed))
    assert len(entries) == len(exits) in {min(int(trips), n // 2), min(int(trips) + 1, n // 2)}
    if len(entries):
        assert entries[0] >= 0
        assert exits[-1] <= n
        assert np.all(entries < exits)
        assert np.all(exits[:-1] < entries[1:])
        count = len(entries)
        assert (exits - entries).sum() == min(max(candles, count), n - count + 1)


def test_every_way_to_place_the_spells_is_equally_likely() -> None:
    """Two spells of three candles together among six: 2 x C(5, 2) - ways to cut and to place - of equal weight."""
    rng, habit = np.random.default_rng(0), Habit(trips=2.0, candles=3, size=0.5)
    seen: Counter[tuple[int, ...]] = Counter()
    for _ in range(6_000):
        entries, exits = spells(6, habit, rng)
        seen[(*entries.tolist(), *exits.tolist())] += 1
    # Lengths 1+2 or 2+1; three free candles, one of them between: two to give to three gaps, C(4, 2) = 6 ways.
    assert len(seen) == 2 * 6
    assert min(seen.values()) > 500 - 5 * math.sqrt(500)
    assert max(seen.values()) < 500 + 5 * math.sqrt(500)


def test_a_fraction_of_a_spell_is_a_whole_one_in_as_many_draws() -> None:
    rng, habit = np.random.default_rng(0), Habit(trips=2.25, candles=10, size=0.5)
    counts = Counter(len(spells(100, habit, rng)[0]) for _ in range(2_000))
    assert set(counts) == {2, 3}
    assert counts[3] / 2_000 == pytest.approx(0.25, abs=0.04)
