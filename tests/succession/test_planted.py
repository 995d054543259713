"""What is planted is there: who is better before the flip is worse after it, clearly and after costs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from daemon.errors import ArtifactError
from daemon.golden import check_serves
from daemon.models import load_bundle
from daemon.serving import reference_of
from strategy import sequential
from strategy.bundle import Bundle
from strategy.candle import Candle, Timeframe
from strategy.candle_table import CandleTable
from strategy.conduct import Conduct
from strategy.instrument import Instrument
from strategy.session import Session
from strategy.trader import Setup, Trader
from tests.fakes.serving import SYMBOLS
from tests.succession.places import RETRAIN
from tests.succession.planted import (
    COSTS,
    FIRST_MS,
    HOUR_MS,
    LIMITS,
    STRATEGY,
    WARM_UP,
    Kind,
    planted_candles,
    write_ensemble,
)
from training.backtest import computed_features, groups
from training.refit_recipe import recipe_of

BEFORE, AFTER = 800, 400
FLIP, COUNT = WARM_UP + BEFORE, WARM_UP + BEFORE + AFTER


@dataclass(frozen=True, kw_only=True)
class Account:
    """How one ensemble fared. growth: log growth of its equity per due decision. conduct: of its votes on them."""

    growth: NDArray[np.float64]
    conduct: Conduct


@pytest.fixture(scope="module")
def candles() -> list[list[Candle]]:
    return [planted_candles(symbol, COUNT, FLIP, seed=0) for symbol in SYMBOLS]


@pytest.fixture(scope="module")
def bundles(candles: list[list[Candle]], tmp_path_factory: pytest.TempPathFactory) -> dict[Kind, Bundle]:
    registry = tmp_path_factory.mktemp("models")
    return {kind: load_bundle(registry / write_ensemble(registry, kind, candles)) for kind in Kind}


def traded(bundle: Bundle, candles: Sequence[Sequence[Candle]], first: int, end: int) -> Account:
    """Trade candles first .. end with play money, beginning flat, windows full."""
    tables = [_table(own[:end]) for own in candles]
    steps = {own[0].symbol: Instrument(symbol=own[0].symbol, tick=0.01, lot=1e-5, min_notional=5.0) for own in candles}
    setup = Setup(
        instance="planted",
        timeframe=Timeframe.parse("1h"),
        instruments=steps,
        strategy=STRATEGY,
        limits=LIMITS,
        costs=COSTS,
    )
    start_ms = FIRST_MS + first * HOUR_MS
    trader = Trader(setup, computed_features(tables, setup, start_ms), 100_000.0, reference_of(bundle))
    session, equity, conduct = Session(trader), list[float](), Conduct()
    for group in groups([table.slice(start_ms, None) for table in tables]):
        _, outcomes = session.on_candles(group, bundle.ensemble)
        if STRATEGY.is_due(group[0].close_ms, HOUR_MS):
            equity.append(trader.portfolio.equity)
            votes = {outcome.sight.candle.symbol: outcome.votes for outcome in outcomes}
            conduct = conduct.after(votes, {candle.symbol: candle.close for candle in group})
    return Account(growth=np.diff(np.log(equity)), conduct=conduct)


def _table(candles: Sequence[Candle]) -> CandleTable:
    return CandleTable(
        symbol=candles[0].symbol,
        timeframe=Timeframe.parse("1h"),
        open_ms=np.array([candle.open_ms for candle in candles]),
        values=np.array([candle.values for candle in candles]),
    )


def spreads(new: Account, old: Account) -> float:
    """Return the mean difference per decision, in its standard deviations: what a comparison can tell in 1/x**2."""
    difference = new.growth - old.growth
    return float(difference.mean() / difference.std())


@pytest.mark.parametrize(
    ("better", "worse"),
    [(Kind.FOLLOWS, Kind.TIMID), (Kind.FOLLOWS, Kind.OPPOSES), (Kind.TIMID, Kind.OPPOSES)],
    ids=lambda kind: kind.value,
)
def test_who_is_better_before_the_flip_is_worse_after_it(
    candles: list[list[Candle]], bundles: dict[Kind, Bundle], better: Kind, worse: Kind
) -> None:
    before = [traded(bundles[kind], candles, WARM_UP, FLIP) for kind in (better, worse)]
    after = [traded(bundles[kind], candles, FLIP, COUNT) for kind in (better, worse)]
    # A third of a spread over the 50 decisions in the middle of a shadow is 2.4 standard errors.
    assert spreads(*before) > 0.33
    assert spreads(*after) < -0.25


def test_a_shadow_as_long_as_the_place_says_proves_the_better_one(
    candles: list[list[Candle]], bundles: dict[Kind, Bundle]
) -> None:
    follows, timid = (traded(bundles[kind], candles, WARM_UP, FLIP) for kind in (Kind.FOLLOWS, Kind.TIMID))
    horizon, least = RETRAIN["shadow_decisions"], RETRAIN["shadow_least"]
    difference = (follows.growth - timid.growth)[:horizon]
    plan = sequential.TestPlan(scale=float(difference.std()), horizon=horizon, least=least, alpha=0.05)
    test = sequential.PairedTest(plan=plan)
    for figure in difference.tolist():
        test = test.after(figure)
    assert test.p_better < 0.05 / 5
    assert test.p_worse > 0.5


def test_one_that_served_too_long_loses_more_than_a_regret_limit(
    candles: list[list[Candle]], bundles: dict[Kind, Bundle]
) -> None:
    follows, timid = (traded(bundles[kind], candles, FLIP, COUNT) for kind in (Kind.FOLLOWS, Kind.TIMID))
    behind = (follows.growth - timid.growth)[: RETRAIN["watch_decisions"]].sum()
    assert behind < 1.5 * math.log1p(-RETRAIN["regret_limit"])


@pytest.mark.parametrize("kind", [Kind.FOLLOWS, Kind.OPPOSES, Kind.TIMID], ids=lambda kind: kind.value)
def test_an_ensemble_that_sees_the_market_is_never_called_degenerate(
    candles: list[list[Candle]], bundles: dict[Kind, Bundle], kind: Kind
) -> None:
    check_serves(bundles[kind])
    assert traded(bundles[kind], candles, WARM_UP, COUNT).conduct.fault == ""


def test_one_that_answers_everything_alike_is_refused_before_it_is_tried(bundles: dict[Kind, Bundle]) -> None:
    with pytest.raises(ArtifactError, match="degenerate"):
        check_serves(bundles[Kind.CONSTANT])


def test_one_that_always_shouts_is_found_only_by_its_votes(
    candles: list[list[Candle]], bundles: dict[Kind, Bundle]
) -> None:
    check_serves(bundles[Kind.SATURATED])
    assert "beyond 0.99" in traded(bundles[Kind.SATURATED], candles, WARM_UP, FLIP).conduct.fault


def test_the_same_seed_plants_the_same_market_and_the_same_ensembles(
    candles: list[list[Candle]], bundles: dict[Kind, Bundle], tmp_path: Path
) -> None:
    again = [planted_candles(symbol, COUNT, FLIP, seed=0) for symbol in SYMBOLS]
    assert again == candles
    for kind in Kind:
        assert write_ensemble(tmp_path, kind, again) == bundles[kind].manifest.short_id


def test_another_flip_leaves_what_lies_before_it_alone(candles: list[list[Candle]]) -> None:
    later = planted_candles(SYMBOLS[0], COUNT, FLIP + 100, seed=0)
    assert later[:FLIP] == candles[0][:FLIP]
    assert later[FLIP + 1] != candles[0][FLIP + 1]


def test_a_retraining_can_repeat_how_they_say_they_were_made(bundles: dict[Kind, Bundle]) -> None:
    for bundle in bundles.values():
        recipe = recipe_of(bundle.manifest)
        assert (recipe.symbols, recipe.timeframe, recipe.plan.members) == (SYMBOLS, "1h", 1)
        assert recipe.plan.member.conditions.strategy == STRATEGY
        assert bundle.manifest.training.end_ms == FIRST_MS + WARM_UP * HOUR_MS
