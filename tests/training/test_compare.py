import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from strategy.candle import Timeframe
from strategy.candle_table import CandleTable
from tests.fakes.trading import BTC, ETH, HOUR_MS
from tests.training.markets import FIRST, history
from tests.training.members import plan as member_plan
from training.baselines import always_buy, buy_and_hold, cash
from training.compare import ComparePlan, TrialResult, ranked, row_json, row_of, trials_of, verdicts
from training.errors import TrainingError
from training.held_out import HeldOut
from training.history import History
from training.market import Conditions, setup_of
from training.validation import Score

MEMBER = replace(member_plan(), validation=None)
NOTHING = Score(sharpe=0.0, total_return=0.0, max_drawdown=0.0, trades=0, exposure=0.0, actions={})


def scored(algorithm: str, index: int, sharpe: float | None, **changes: Any) -> TrialResult:
    score = None
    if sharpe is not None:
        actions = {"buy": 0.5, "sell": 0.1 * index, "hold": 0.5 - 0.1 * index}
        score = Score(
            sharpe=sharpe,
            total_return=sharpe / 10,
            max_drawdown=0.1,
            trades=10 * index + 5,
            exposure=0.2,
            actions=actions,
        )
    values = {"fault": "" if sharpe is not None else "diverged", "seconds": 2.0, "steps_per_s": 100.0, **changes}
    return TrialResult(algorithm=algorithm, index=index, seed=70 + index, steps=900, score=score, **values)


def some(algorithm: str, *sharpes: float | None) -> list[TrialResult]:
    return [scored(algorithm, index, sharpe) for index, sharpe in enumerate(sharpes)]


# ---- trials -----------------------------------------------------------------------------------------------------
def test_every_algorithm_has_the_same_seeds_budget_and_terms() -> None:
    trials = trials_of(ComparePlan(member=MEMBER, algorithms=("sac", "ppo", "dqn"), seeds=4))
    assert len(trials) == 12
    assert [trial.name for trial in trials[:4]] == ["sac-0", "ppo-0", "dqn-0", "sac-1"]
    for trial in trials:
        assert replace(trial.plan, algorithm="sac", seed=0) == replace(MEMBER, seed=0)
    for index in range(4):
        assert len({trial.plan.seed for trial in trials if trial.index == index}) == 1
    assert len({trial.plan.seed for trial in trials}) == 4


def test_more_seeds_or_fewer_algorithms_change_no_trial() -> None:
    small = trials_of(ComparePlan(member=MEMBER, algorithms=("a2c",), seeds=2))
    large = {trial.name: trial for trial in trials_of(ComparePlan(member=MEMBER, seeds=5))}
    assert all(large[trial.name] == trial for trial in small)


def test_another_seed_draws_other_ones() -> None:
    one, other = (trials_of(ComparePlan(member=MEMBER, seeds=3, seed=seed)) for seed in (1, 2))
    assert {trial.plan.seed for trial in one}.isdisjoint({trial.plan.seed for trial in other})


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"seeds": 0}, "--seeds 0: give a whole number within 1"),
        ({"algorithms": ("sac", "sac")}, "--algorithms sac sac: name each once"),
        ({"algorithms": ()}, "at least one"),
        ({"algorithms": ("td3",)}, "algorithm 'td3': give one of sac, ppo, a2c, dqn"),
        ({"held": HeldOut(share=0.0)}, "--validation 0: algorithms are compared on candles set apart"),
        ({"member": member_plan()}, "every trial's last weights are scored, once"),
    ],
)
def test_impossible_comparisons_are_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(TrainingError, match=told):
        trials_of(ComparePlan(**{"member": MEMBER, **changes}))


# ---- the table --------------------------------------------------------------------------------------------------
def test_a_row_holds_means_over_the_seeds() -> None:
    row = row_of("sac", [*some("sac", 1.0, 2.0, 3.0), *some("ppo", 9.0, 9.0, 9.0)])
    assert (row.trials, row.failed, row.sharpe, row.trades) == (3, 0, 2.0, 15.0)
    assert (row.worst, row.worst_seed) == (1.0, 70)
    assert row.total_return == pytest.approx(0.2)
    assert row.actions == pytest.approx({"buy": 0.5, "sell": 0.1, "hold": 0.4})
    assert row.interval is not None
    # Student's t of two degrees of freedom is 4.303; the spread of 1, 2, 3 is 1.
    assert row.interval.high - row.interval.mean == pytest.approx(4.303 / math.sqrt(3), abs=1e-3)


def test_failed_trials_are_counted_and_not_averaged() -> None:
    row = row_of("sac", some("sac", 1.0, None, 3.0))
    assert (row.trials, row.failed, row.sharpe) == (3, 1, 2.0)
    nothing = row_of("sac", some("sac", None, None))
    assert (nothing.trials, nothing.failed, nothing.sharpe, nothing.interval, nothing.actions) == (
        2,
        2,
        None,
        None,
        None,
    )


def test_times_of_interrupted_trials_do_not_count() -> None:
    row = row_of("sac", [scored("sac", 0, 1.0), scored("sac", 1, 1.0, seconds=None, steps_per_s=300.0)])
    assert (row.seconds, row.steps_per_s) == (2.0, 200.0)


def test_rows_are_ranked_by_the_mean_and_those_without_one_come_last() -> None:
    rows = [
        row_of(name, some(name, *sharpes)) for name, sharpes in (("a2c", (None,)), ("ppo", (-1.0,)), ("sac", (0.5,)))
    ]
    assert [row.algorithm for row in ranked(rows)] == ["sac", "ppo", "a2c"]


def test_a_row_as_json_has_the_bounds_beside_the_mean() -> None:
    told = row_json(row_of("sac", some("sac", 1.0, 3.0)))
    # Spread sqrt(2), t of one degree 12.706: 12.706 * sqrt(2) / sqrt(2).
    assert (told["sharpe"], told["sharpe_low"], told["sharpe_high"]) == pytest.approx((2.0, -10.706, 14.706), abs=1e-3)
    assert row_json(row_of("sac", some("sac", 1.0)))["sharpe_low"] is None


# ---- what is said -----------------------------------------------------------------------------------------------
def test_overlapping_intervals_show_no_difference() -> None:
    rows = [row_of("sac", some("sac", 1.0, 1.4, 0.6)), row_of("ppo", some("ppo", 0.9, 0.5, 0.7))]
    assert verdicts(rows, {}) == ["sac and ppo: their intervals overlap: no difference shown"]


def test_intervals_apart_show_one_whichever_order_they_come_in() -> None:
    rows = [row_of("ppo", some("ppo", 0.11, 0.10, 0.12)), row_of("sac", some("sac", 1.0, 1.01, 0.99))]
    assert verdicts(rows, {}) == ["sac is better than ppo: their intervals share no value"]


@pytest.mark.parametrize(
    ("sharpe", "told"),
    [
        (1.001, "sac and buy and hold: 1.00 lies in the interval: no difference shown"),
        (0.2, "sac is better than buy and hold: 0.20 lies outside the interval"),
        (3.0, "sac is worse than buy and hold: 3.00 lies outside the interval"),
    ],
)
def test_baselines_are_held_against_the_interval(sharpe: float, told: str) -> None:
    rows = [row_of("sac", some("sac", 1.0, 1.01, 0.99))]
    assert verdicts(rows, {"buy and hold": replace(NOTHING, sharpe=sharpe)}) == [told]


@pytest.mark.parametrize(
    ("sharpes", "count"), [((1.0,), "one trial of sac"), ((None, None), "no trial of sac"), ((None, 2.0), "one trial")]
)
def test_a_single_score_shows_nothing(sharpes: tuple[float | None, ...], count: str) -> None:
    rows = [row_of("sac", some("sac", *sharpes)), row_of("ppo", some("ppo", 5.0, 5.1))]
    told = [line for line in verdicts(rows, {"cash": NOTHING}) if "sac" in line]
    assert len(told) == 2
    for line in told:
        assert count in line
        assert "nothing shown; give more --seeds" in line


def test_an_algorithm_that_never_traded_is_called_that_and_compared_with_nothing() -> None:
    silent = [replace(each, score=replace(each.score, trades=0)) for each in some("ppo", 0.0, 0.0)]  # type: ignore[type-var]
    rows = [row_of("sac", some("sac", 1.0, 1.1)), row_of("ppo", [*silent, scored("ppo", 2, None)])]
    assert rows[1].idle == 2
    told = verdicts(rows, {"cash": NOTHING})
    assert [line for line in told if "ppo" in line] == ["no trial of ppo traded: it did what cash does"]
    assert len(told) == 2


def test_one_that_traded_in_some_trials_is_compared() -> None:
    silent, *others = some("ppo", 0.0, 0.0, 0.1)
    half = [replace(silent, score=replace(silent.score, trades=0)), *others]  # type: ignore[type-var]
    assert row_of("ppo", half).idle == 1
    assert len(verdicts([row_of("ppo", half), row_of("sac", some("sac", 5.0, 5.1))], {})) == 1


# ---- baselines --------------------------------------------------------------------------------------------------
def rising(after: int, symbol: str = BTC, factor: float = 1.001) -> History:
    """Return a history that is flat while the window fills, and then rises by the same factor every hour."""
    closes = np.round(100.0 * np.concatenate([np.ones(FIRST), factor ** np.arange(after)]), 8)
    opened = np.concatenate([closes[:1], closes[:-1]])
    values = np.stack(
        [opened, np.maximum(opened, closes), np.minimum(opened, closes), closes, np.full_like(closes, 1e6 + 0.1234)], 1
    )
    table = CandleTable(
        symbol=symbol, timeframe=Timeframe.parse("1h"), open_ms=np.arange(len(closes)) * HOUR_MS, values=values
    )
    return History(table, 48)


def setup_for(*histories: History) -> Any:
    return setup_of([each.table for each in histories], Conditions(), "test")


def test_buying_and_holding_earns_what_the_market_does_less_the_costs_of_one_purchase() -> None:
    made = rising(200)
    score = buy_and_hold([made], setup_for(made))
    # Bought at the first close with 0.05 % slippage and 0.1 % fee, worth the last close.
    assert score.total_return == pytest.approx(1.001**199 / (1.0005 * 1.001) - 1.0, abs=2e-5)
    assert (score.trades, score.max_drawdown) == (1, pytest.approx(1 - 1.001 / (1.0005 * 1.001), abs=1e-4))
    assert score.exposure == pytest.approx(1.0, abs=1e-4)
    assert score.actions == pytest.approx({"buy": 1 / 199, "sell": 0.0, "hold": 198 / 199})


def test_its_sharpe_ratio_is_that_of_the_daily_returns_of_the_closes() -> None:
    made = History(history(24 * 20, seed=5), 48)
    score = buy_and_hold([made], setup_for(made))
    closes = made.table.values[FIRST:, 3]
    days = (made.table.open_ms[FIRST:] + HOUR_MS - 1) // (24 * HOUR_MS)
    entry = closes[0] * 1.0005 * 1.001
    marks = np.array([entry, *(closes[1:][days[1:] == day][-1] for day in np.unique(days[1:]))])
    returns = marks[1:] / marks[:-1] - 1.0
    assert score.sharpe == pytest.approx(returns.mean() / returns.std(ddof=1) * math.sqrt(365), abs=5e-3)


def test_several_symbols_count_the_same() -> None:
    up, down = rising(200), rising(200, ETH, 0.999)
    both = buy_and_hold([up, down], setup_for(up, down))
    alone = [buy_and_hold([each], setup_for(each)) for each in (up, down)]
    assert both.total_return == pytest.approx((alone[0].total_return + alone[1].total_return) / 2)
    assert both.max_drawdown == alone[1].max_drawdown
    assert both.trades == 2


def test_cash_does_nothing() -> None:
    score = cash([rising(50)], setup_for(rising(50)))
    assert (score.sharpe, score.total_return, score.max_drawdown, score.trades) == (0.0, 0.0, 0.0, 0)
    assert score.actions == {"buy": 0.0, "sell": 0.0, "hold": 1.0}


def test_always_buying_keeps_to_the_limits_that_policies_have() -> None:
    made = rising(300)
    score = always_buy([made], setup_for(made))
    limit = Conditions().limits.max_position
    assert score.actions == {"buy": 1.0, "sell": 0.0, "hold": 0.0}
    assert 0.0 < score.exposure <= limit
    assert 0.0 < score.total_return < buy_and_hold([made], setup_for(made)).total_return
