from dataclasses import replace

import numpy as np
import pytest

from strategy.errors import InvalidParameters
from strategy.features import WINDOW
from tests.fakes.trading import BTC, ETH, setup
from tests.training.markets import ensemble, history
from training.bundles import reference_of
from training.errors import TrainingError
from training.evaluate_runs import Market, Run, trade, trade_all
from training.track import Track

RUNS = [Run(), Run(symbol=ETH), Run(member=1), Run(cost=2.0), Run(is_late=True)]


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Market:
    bundle = ensemble(tmp_path_factory.mktemp("models"))
    tables = (history(300, seed=3), history(200, seed=4, symbol=ETH))
    return Market(
        tables=tables,
        setup=setup([BTC, ETH]),
        actors=bundle.ensemble.actors,
        weights=tuple(bundle.ensemble.weights.tolist()),
        reference=reference_of(bundle),
        start_ms=int(tables[0].open_ms[2400]),
        cash=100_000.0,
    )


def same(one: Track, other: Track) -> bool:
    return np.array_equal(one.equity, other.equity) and one.fills == other.fills and one.name == other.name


def test_runs_side_by_side_give_what_runs_one_after_the_other_give(market: Market) -> None:
    one, two = trade_all(RUNS, market, workers=1), trade_all(RUNS, market, workers=2)
    assert list(one) == list(two) == RUNS
    assert all(same(one[run], two[run]) for run in RUNS)
    assert all(same(one[run], trade(run, market)) for run in RUNS)


def test_each_run_has_terms_of_its_own(market: Market) -> None:
    found = trade_all(RUNS, market, workers=1)
    ends = {float(track.equity[-1]) for track in found.values()}
    assert len(ends) == len(RUNS)
    assert [symbol.symbol for symbol in found[Run(symbol=ETH)].symbols] == [ETH]
    assert found[Run(member=1)].symbols[0].direction.shape[1] == 1
    assert found[Run()].symbols[0].direction.shape[1] == 3


def test_candles_that_no_window_reaches_change_nothing(market: Market) -> None:
    later = replace(market, start_ms=int(market.tables[0].open_ms[2500]))
    assert [len(table) for table in later.near().tables] == [WINDOW + 200, WINDOW + 100]
    [found] = trade_all([Run()], later, workers=1).values()
    assert same(found, trade(Run(), later))


def test_a_run_that_is_asked_for_twice_is_made_once(market: Market) -> None:
    told: list[int] = []
    trade_all([Run(symbol=ETH), Run(symbol=ETH)], market, workers=1, progress=told.append)
    assert 0 < told[-1] <= market.candles(Run(symbol=ETH)) == 200


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_that_fails_ends_all_of_them_with_its_reason(market: Market, workers: int) -> None:
    beyond = replace(market, start_ms=10**15)
    with pytest.raises(TrainingError, match="no candle lies in the span"):
        trade_all(RUNS, beyond, workers=workers)


def test_costs_that_cannot_be_are_named(market: Market) -> None:
    with pytest.raises((InvalidParameters, TrainingError), match="fee_rate"):
        trade_all([Run(cost=200.0)], market, workers=1)


@pytest.mark.parametrize("workers", [0, 65, -1])
def test_impossible_numbers_of_workers_are_refused(market: Market, workers: int) -> None:
    with pytest.raises(TrainingError, match=f"--workers {workers}: give 1 .. 64"):
        trade_all(RUNS, market, workers=workers)
