import empyrical
import numpy as np
import pytest

from tests.training.tracks import track_of
from training.evaluate_statistics import annual_growth, bootstrap, deepest_fall
from training.metrics import returns_of
from training.track import Track


def daily(seed: int, drift: float = 0.001, days: int = 400) -> Track:
    steps = np.random.default_rng(seed).normal(drift, 0.02, days)
    equity = [100.0, *(100.0 * np.cumprod(1.0 + steps)).tolist()]
    return track_of(equity, span_ms=86_400_000)


OURS, OTHER = daily(1), daily(2)


def test_growth_and_fall_are_those_of_another_library() -> None:
    returns = returns_of(OURS)
    assert annual_growth(returns) == pytest.approx(empyrical.annual_return(returns, annualization=365))
    assert deepest_fall(returns) == pytest.approx(-empyrical.max_drawdown(returns))


@pytest.mark.parametrize("returns", [[], [0.1, -1.0], [0.5, -1.5]], ids=["none", "all lost", "more than all"])
def test_growth_of_what_is_not_there_any_more_is_not_defined(returns: list[float]) -> None:
    assert annual_growth(np.array(returns)) is None


def test_every_interval_holds_what_was_found_and_every_baseline_is_compared() -> None:
    found = bootstrap(OURS, {"other": OTHER, "itself": OURS}, draws=300)
    for value in (found.sharpe, found.annual_return, found.max_drawdown, found.differences["other"]):
        assert value.value is not None
        assert value.low is not None
        assert value.high is not None
        assert value.low < value.value < value.high
    assert found.sharpe.value == pytest.approx(empyrical.sharpe_ratio(returns_of(OURS), annualization=365))
    itself = found.differences["itself"]
    assert (itself.value, itself.low, itself.high) == (0.0, 0.0, 0.0)  # pairs of the same days
    assert found.draws == 300
    assert found.block >= 1.0


def test_a_baseline_without_a_sharpe_ratio_has_no_difference() -> None:
    cash = track_of([100.0] * 401, span_ms=86_400_000, name="cash")
    found = bootstrap(OURS, {"cash": cash}, draws=50).differences["cash"]
    assert (found.value, found.low, found.high) == (None, None, None)


def test_a_few_days_have_figures_and_no_interval() -> None:
    found = bootstrap(daily(3, days=8), {}, draws=50)
    assert found.sharpe.value is not None
    assert (found.sharpe.low, found.block) == (None, 1.0)


def test_the_same_seed_gives_the_same_intervals() -> None:
    one, two, three = (bootstrap(OURS, {}, draws=100, seed=seed).sharpe for seed in (1, 1, 2))
    assert one == two
    assert one != three
