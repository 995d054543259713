import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from strategy.bundle import Bundle
from strategy.observation import N_OBSERVATION
from strategy.order import Side
from strategy.parameters import StrategyParameters
from strategy.policy import Float32Array
from strategy.trader import Votes
from tests.fakes.bundles import random_arrays
from tests.fakes.trading import HOUR_MS
from tests.training.members import SMALL
from tests.training.retrainings import SEEN_TO_MS, bundle, following, permuted, steady, trending
from tests.training.tracks import fill_of, track_of
from training.bundles import conditions_of
from training.errors import TrainingError
from training.export import actor_of
from training.history import History
from training.market import setup_of
from training.member import train_member
from training.plan import MemberPlan
from training.retrain_exam import Exam, Shown, exam_of
from training.retrain_gate import (
    Check,
    Difference,
    Terms,
    Verdict,
    difference_of,
    examine,
    judge,
    log_differences,
    probability_better,
    refusal,
    turnover,
)
from training.retrain_split import split_of
from training.track import Track

DAYS = 60
HOURS = DAYS * 24
TERMS = Terms(confidence=0.8, max_drawdown=0.15, trials=1)
SOME = Difference(mean_bp=1.0, spread=0.001, count=60)


def account(drift: float, seed: int = 1, noise: float = 1e-4, **changes: Any) -> Track:
    """Return an account that grows by `drift` an hour, that acts in all three ways and trades a little."""
    steps = drift + noise * np.random.default_rng(seed).standard_normal(HOURS)
    track = track_of([100.0, *(100.0 * np.exp(np.cumsum(steps))).tolist()])
    fills = tuple(fill_of(Side.BUY, 0.1, 100.0, at * HOUR_MS) for at in (5, 500))
    (symbol,) = track.symbols
    acted = replace(symbol, action=np.arange(HOURS, dtype=np.int8) % 3)
    return replace(track, **{"fills": fills, "symbols": (acted,), **changes})


def shown(track: Track, **changes: Any) -> Shown:
    return replace(Shown(track=track, asked=HOURS, failed=0, saturated=0.1), **changes)


OLD = account(0.0, seed=2)
BETTER = account(2e-5, seed=3)


def failing(new: Shown, terms: Terms = TERMS, difference: Difference = SOME, old: Track = OLD) -> dict[str, Check]:
    """Return the criteria that are not passed, by name."""
    return {check.name: check for check in judge(shown(old), new, difference, terms) if not check.passed}


# ---- each criterion ---------------------------------------------------------------------------------------------
def test_one_that_grows_faster_and_keeps_its_manners_passes_all() -> None:
    checks = judge(shown(OLD), shown(BETTER), SOME, TERMS)
    assert [check.name for check in checks] == [
        "finite", "one_action", "saturated", "trades", "decisions", "drawdown", "turnover", "better", "deflated",
    ]  # fmt: skip
    assert refusal(checks) == ""
    assert all(check.value is not None and math.isfinite(check.value) for check in checks)


def test_an_equal_one_is_not_better() -> None:
    found = failing(shown(OLD))
    assert set(found) == {"better", "deflated"}
    assert (found["better"].value, found["deflated"].value) == (0.0, None)


def test_a_worse_one_is_not_better_however_sane() -> None:
    found = failing(shown(account(-2e-5)))
    assert set(found) == {"better", "deflated"}
    assert refusal(list(found.values())).startswith("it is better with probability 0.00 (at least 0.80), by -4.")


def test_votes_that_failed_once_are_too_many() -> None:
    found = failing(shown(BETTER, failed=1))
    assert set(found) == {"finite"}
    assert found["finite"].words == "its votes failed 1 time of 1,440 (none may)"


@pytest.mark.parametrize(("kind", "word"), [(0, "hold"), (1, "buy"), (2, "sell")])
def test_one_action_for_everything_is_refused(kind: int, word: str) -> None:
    action = np.full(HOURS, kind, np.int8)
    action[: HOURS // 25] = (kind + 1) % 3  # 4 %
    symbol = replace(BETTER.symbols[0], action=action)
    found = failing(shown(replace(BETTER, symbols=(symbol,))))
    assert set(found) == {"one_action"}
    assert found["one_action"].value == pytest.approx(1.0 - 57 / 1440)
    assert found["one_action"].words == f"96.0% of its decisions are {word} (at most 95%)"
    action[: HOURS // 20] = (kind + 1) % 3  # 5 %, which is allowed; candles between decisions count for nothing
    quiet = np.concatenate([action, np.full(5 * HOURS, -1, np.int8)])
    assert failing(shown(replace(BETTER, symbols=(symbol, replace(symbol, action=quiet))))) == {}


def test_one_that_never_decided_has_no_share_of_anything() -> None:
    symbol = replace(BETTER.symbols[0], action=np.full(HOURS, -1, np.int8))
    found = failing(shown(replace(BETTER, symbols=(symbol,))))
    assert found["one_action"].value is None
    assert "an unknown share" in found["one_action"].words


def test_directions_at_the_end_of_their_range_are_refused() -> None:
    assert set(failing(shown(BETTER, saturated=0.91))) == {"saturated"}
    assert failing(shown(BETTER, saturated=0.9)) == {}


def test_one_that_never_trades_cannot_be_judged() -> None:
    assert set(failing(shown(replace(BETTER, fills=())))) == {"trades"}


def test_a_deep_fall_is_refused_however_high_it_ends() -> None:
    equity = BETTER.equity.copy()
    equity[700:720] *= 0.8
    found = failing(shown(replace(BETTER, equity=equity)), replace(TERMS, confidence=0.0))
    assert "drawdown" in found
    assert found["drawdown"].value == pytest.approx(0.2, abs=0.01)
    assert "drawdown" not in failing(shown(replace(BETTER, equity=equity)), replace(TERMS, max_drawdown=0.25))


def test_too_much_trading_is_refused_unless_the_incumbent_does_a_third_of_it() -> None:
    # An account worth 100 all along: 60 days of trades for 42 are 42 / 100 x 365 / 60 = 2.555 of its equity a year.
    flat = track_of([100.0] * (HOURS + 1), fills=(fill_of(Side.BUY, 0.42, 100.0, HOUR_MS),))
    assert turnover(flat) == pytest.approx(2.555)
    busy = replace(BETTER, fills=tuple(fill_of(Side.BUY, 0.1, 100.0, at * HOUR_MS) for at in range(1, 61)))
    found = failing(shown(busy))
    assert set(found) == {"turnover"}
    assert found["turnover"].threshold == 25.0
    old = replace(OLD, fills=busy.fills[:21])
    assert failing(shown(busy), old=old) == {}
    assert set(failing(shown(busy), old=replace(OLD, fills=busy.fills[:19]))) == {"turnover"}


def test_too_few_decisions_to_compare_are_refused() -> None:
    found = failing(shown(BETTER), difference=Difference(mean_bp=0.0, spread=None, count=1))
    assert set(found) == {"decisions"}
    assert found["decisions"].words == "1 decision can be compared (at least 2)"


def test_the_more_candidates_there_were_the_more_luck_they_had() -> None:
    some = account(3e-6, seed=4)
    values = [
        {check.name: check for check in judge(shown(OLD), shown(some), SOME, replace(TERMS, trials=trials))}
        for trials in (1, 10, 1000)
    ]
    deflated = [value["deflated"].value for value in values]
    assert len({value["better"].value for value in values}) == 1
    assert all(value is not None for value in deflated)
    assert deflated == sorted(deflated, key=lambda value: -(value or 0.0))
    assert values[0]["deflated"].passed
    assert not values[2]["deflated"].passed
    assert "beyond the luck of 1,000 candidates" in values[2]["deflated"].words


def test_luck_is_taken_off_as_bailey_and_lopez_de_prado_do() -> None:
    gained = log_differences(OLD, BETTER)
    (check,) = [c for c in judge(shown(OLD), shown(BETTER), SOME, replace(TERMS, trials=20)) if c.name == "deflated"]
    n, normal = len(gained), NormalDist()
    sharpe = gained.mean() / gained.std(ddof=1)
    skew, kurtosis = (np.mean(((gained - gained.mean()) / gained.std()) ** power) for power in (3, 4))
    luck = (1 - 0.5772156649) * normal.inv_cdf(1 - 1 / 20) + 0.5772156649 * normal.inv_cdf(1 - 1 / (20 * math.e))
    error = math.sqrt((1 - skew * sharpe + (kurtosis - 1) / 4 * sharpe**2) / (n - 1))
    assert check.value == pytest.approx(normal.cdf((sharpe - luck / math.sqrt(n - 1)) / error))


def test_accounts_of_other_candles_are_not_compared() -> None:
    with pytest.raises(TrainingError, match="compare over the same candles"):
        judge(shown(OLD), shown(track_of([100.0] * 50)), SOME, TERMS)


# ---- how sure it is ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("share", [-0.2, -0.05, 0.0, 0.05, 0.1, 0.2])
def test_where_days_know_nothing_of_each_other_it_is_the_normal_probability(share: float) -> None:
    gained = np.random.default_rng(8).standard_normal(200)
    gained += share - gained.mean()
    wanted = NormalDist().cdf(share / (gained.std() / math.sqrt(200)))
    assert probability_better(gained) == pytest.approx(wanted, abs=0.035)


def test_days_that_move_together_make_it_less_sure() -> None:
    rng = np.random.default_rng(1)
    alone = rng.standard_normal(300)
    together = np.repeat(alone[:30], 10)
    alone, together = (values - values.mean() + 0.1 * values.std() for values in (alone, together))
    assert 0.5 < (probability_better(together) or 0.0) < (probability_better(alone) or 0.0) - 0.1


def test_the_edges_are_told_plainly() -> None:
    assert probability_better(np.full(40, 1e-4)) == 1.0
    assert probability_better(np.zeros(40)) == 0.0
    assert probability_better(np.ones(9)) is None
    assert probability_better(np.random.default_rng(1).standard_normal(40), draws=150) is not None


@given(st.integers(0, 1000), st.floats(-0.3, 0.3))
def test_the_other_way_round_it_is_what_is_left(seed: int, shift: float) -> None:
    gained = np.random.default_rng(seed).standard_normal(60) + shift
    there, back = probability_better(gained, draws=400), probability_better(-gained, draws=400)
    assert there is not None
    assert back is not None
    assert there + back == pytest.approx(1.0, abs=1e-9)  # the same draws, and no mean is 0


# ---- the scale of the shadow's test -----------------------------------------------------------------------------
def test_differences_are_those_between_due_decisions() -> None:
    strategy = StrategyParameters(decide_every=4)
    old = track_of([100.0, *[100.0] * 12], first_ms=0)
    new = track_of([100.0, 1, 1, 1, 101.0, 1, 1, 1, 102.0, 1, 1, 1, 99.0])
    found = difference_of(old, new, strategy)
    gained = [math.log(102 / 101), math.log(99 / 102)]
    assert found.count == 2
    assert found.mean_bp == pytest.approx(1e4 * sum(gained) / 2)
    assert found.spread == pytest.approx(abs(gained[0] - gained[1]) / math.sqrt(2))
    assert found.to_json() == {
        "mean_bp": found.mean_bp,
        "spread": found.spread,
        "per": "decision",
        "count": 2,
    }


def test_what_both_gain_is_no_difference() -> None:
    found = difference_of(OLD, replace(OLD, equity=7.0 * OLD.equity), StrategyParameters())
    assert found.count == HOURS - 1
    assert found.mean_bp == pytest.approx(0.0, abs=1e-9)
    assert found.spread is None  # a shadow's test could be built on none
    check = failing(shown(BETTER), difference=found)["decisions"]
    assert check.words == "1,439 decisions can be compared (at least 2), and the accounts never differed"


def test_a_single_decision_has_no_spread() -> None:
    made = track_of([100.0] * 10)
    assert difference_of(made, made, StrategyParameters(decide_every=100)) == Difference(
        mean_bp=0.0, spread=None, count=0
    )


# ---- challengers ------------------------------------------------------------------------------------------------
MARKET = trending(60)
SPLIT = split_of([MARKET], SEEN_TO_MS, 30.0, 0)
LOOSE = Terms(confidence=0.8, max_drawdown=0.9, trials=1)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Return an ensemble that knows what there is to know in this market."""
    return bundle(tmp_path_factory.mktemp("good"), following("return_24"))


@pytest.fixture(scope="module")
def random(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return bundle(tmp_path_factory.mktemp("random"), random_arrays(3, N_OBSERVATION))


@pytest.fixture(scope="module")
def exam(good: Bundle) -> Exam:
    return exam_of([MARKET], setup_of([MARKET], conditions_of(good.manifest), "test"), SPLIT)


def names(verdict: Verdict) -> set[str]:
    return {check.name for check in verdict.checks if not check.passed}


def test_one_that_knows_the_market_replaces_one_that_does_not(exam: Exam, good: Bundle, random: Bundle) -> None:
    told: list[int] = []
    verdict = examine(exam, random, good, LOOSE, told.append)
    assert names(verdict) == set()
    assert verdict.difference.mean_bp > 5.0
    assert verdict.difference.count == 30 * 6 - 1  # decisions every four hours
    assert verdict.sharpe is not None
    assert verdict.sharpe > 1.0
    assert told == sorted(told)
    assert 3 * 720 < told[-1] <= 4 * 720


def test_and_never_the_other_way_round(exam: Exam, good: Bundle, random: Bundle) -> None:
    assert {"better", "deflated"} <= names(examine(exam, good, random, LOOSE))


def scaled(arrays: Mapping[str, Float32Array], factor: float) -> dict[str, Float32Array]:
    return {name: (values * np.float32(factor)).astype(np.float32) for name, values in arrays.items()}


@pytest.mark.parametrize(
    ("arrays", "wanted"),
    [
        pytest.param(steady(0.0, 2.0, 2.0), {"one_action", "trades", "better"}, id="holds always"),
        pytest.param(steady(0.8, 2.0, 2.0), {"one_action", "better"}, id="buys always"),
        pytest.param(steady(-0.8, 2.0, 2.0), {"one_action", "trades", "better"}, id="sells always"),
        pytest.param(steady(9.0, 9.0, 9.0), {"one_action", "saturated", "better"}, id="buys always, saturated"),
        pytest.param(scaled(random_arrays(3, N_OBSERVATION), 1000.0), {"saturated"}, id="weights x 1000"),
        pytest.param(scaled(following("return_24"), 1000.0), {"saturated"}, id="a good one's weights x 1000"),
        pytest.param(following("return_24", -1.0), {"better", "deflated"}, id="a good one turned round"),
    ],
)
def test_garbage_is_refused_and_said_why(
    exam: Exam, good: Bundle, tmp_path: Path, arrays: Mapping[str, Float32Array], wanted: set[str]
) -> None:
    verdict = examine(exam, good, bundle(tmp_path / "new", arrays), LOOSE)
    assert wanted <= names(verdict)
    assert refusal(verdict.checks)


def test_garbage_is_refused_also_beside_garbage(exam: Exam, tmp_path: Path) -> None:
    bad = bundle(tmp_path / "bad", following("return_24", -1.0))
    for index, arrays in enumerate((steady(0.8, 2.0, 2.0), scaled(following("return_24"), 1000.0))):
        verdict = examine(exam, bad, bundle(tmp_path / str(index), arrays), LOOSE)
        assert {"better", "deflated"}.isdisjoint(names(verdict))  # it is better, and that does not save it
        assert names(verdict) <= {"one_action", "saturated", "turnover"}
        assert names(verdict)


def test_votes_that_are_no_numbers_are_refused(exam: Exam, good: Bundle) -> None:
    class Broken:
        weights = good.ensemble.weights

        def act(self, observations: NDArray[np.float32]) -> Votes:
            votes = good.ensemble.act(observations).copy()
            votes[observations[:, 0] > 0.0, :, 2] = np.nan  # now and then
            return votes

    verdict = examine(exam, good, replace(good, ensemble=Broken()), LOOSE)  # type: ignore[arg-type]
    assert "finite" in names(verdict)


def test_what_practised_on_shuffled_returns_is_refused(exam: Exam, good: Bundle, tmp_path: Path) -> None:
    practice = permuted(MARKET.slice(None, SPLIT.practice_to_ms))
    steps = np.diff(np.log(practice.values[:, 3]))
    assert np.sort(steps) == pytest.approx(
        np.sort(np.diff(np.log(MARKET.slice(None, SPLIT.practice_to_ms).values[:, 3])))
    )
    for seed in (1, 2, 3):
        plan = MemberPlan(seed=seed, steps=1200, settings=SMALL)
        (tmp_path / f"run-{seed}").mkdir()
        result = train_member([History(practice, 48)], [], plan, tmp_path / f"run-{seed}")
        actor = actor_of(result.model)  # type: ignore[arg-type]
        arrays = {**actor.arrays}
        challenger = bundle(tmp_path / f"new-{seed}", arrays, net_arch=actor.net_arch)
        assert {"better", "deflated"} <= names(examine(exam, good, challenger, LOOSE))
