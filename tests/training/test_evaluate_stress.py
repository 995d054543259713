import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.tracks import track_of
from training.evaluate_runs import Run
from training.evaluate_stress import break_even_cost, crossing, stress_runs, stresses


def test_every_factor_is_traded_and_one_candles_delay() -> None:
    runs = stress_runs(0.001, 0.0005)
    assert [run.cost for run in runs if not run.is_late] == [0.0, 1.0, 2.0, 4.0, 8.0, 16.0]
    assert Run(is_late=True) in runs


def test_factors_that_no_cost_model_can_hold_are_left_out() -> None:
    assert [run.cost for run in stress_runs(0.001, 0.02) if not run.is_late] == [0.0, 1.0, 2.0, 4.0]
    assert [run.cost for run in stress_runs(0.06, 0.0) if not run.is_late] == [0.0, 1.0]


def test_the_table_says_what_each_run_was_worth() -> None:
    ends = {Run(cost=0.0): 130.0, Run(): 120.0, Run(cost=2.0): 105.0, Run(cost=4.0): 90.0, Run(is_late=True): 80.0}
    tracks = {run: track_of([100.0, *[95.0] * 47, end]) for run, end in ends.items()}
    found = stresses(tracks, track_of([100.0] * 49, name="buy and hold"))
    told = [(stress.cost, stress.delay, stress.metrics.total_return) for stress in found]
    assert told == [
        (0.0, 0, pytest.approx(0.3)),
        (1.0, 0, pytest.approx(0.2)),
        (2.0, 0, pytest.approx(0.05)),
        (4.0, 0, pytest.approx(-0.1)),
        (1.0, 1, pytest.approx(-0.2)),
    ]


def test_the_break_even_lies_between_the_factors_where_the_gain_ends() -> None:
    tracks = {Run(cost=cost): track_of([100.0, end]) for cost, end in ((0.0, 121.0), (2.0, 110.0), (4.0, 100.0 / 1.1))}
    tracks[Run(is_late=True)] = track_of([100.0, 1.0])
    tracks[Run(member=1)] = track_of([100.0, 1.0])
    assert break_even_cost(tracks) == pytest.approx(3.0)  # logs: 2, 1 and -1 times log 1.1


@pytest.mark.parametrize(
    ("costs", "growth", "expected"),
    [
        ([0.0, 1.0, 2.0], [0.2, 0.1, 0.05], None),
        ([0.0, 1.0], [-0.1, -0.2], None),
        ([0.0, 1.0], [0.0, -0.2], None),
        ([0.0, 1.0], [0.2, 0.0], 1.0),
        ([0.0, 1.0, 2.0], [0.3, 0.1, -math.inf], 1.0),
        ([], [], None),
    ],
    ids=["earns at any cost", "never earns", "earns nothing free", "exactly", "ruin", "nothing traded"],
)
def test_a_break_even_that_no_factor_shows_is_none(
    costs: Sequence[float], growth: Sequence[float], expected: float | None
) -> None:
    assert crossing(costs, growth) == expected


@given(st.floats(0.01, 3.0), st.floats(0.01, 15.9))
def test_growth_that_falls_evenly_crosses_where_it_must(begin: float, cross: float) -> None:
    costs = [0.0, 1.0, 2.0, 4.0, 8.0, 16.0]
    assert crossing(costs, [begin * (1.0 - cost / cross) for cost in costs]) == pytest.approx(cross)
