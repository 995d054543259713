"""The simulation of the paired test: it decides as the test does, keeps its promise, and would notice a broken one."""

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from benchmarks import differences as kinds
from benchmarks import sequential_power as power
from benchmarks.differences import Maker
from strategy.sequential import PairedTest
from strategy.sequential import TestPlan as Plan  # pytest would take a name that begins with Test for a class of tests

ROOT = Path(__file__).resolve().parents[1]
PLAN = Plan(scale=1.0, horizon=200, least=20, alpha=0.05)
RUNS = 4_000


def drawn(maker: Maker, runs: int, decisions: int, seed: int = 7) -> kinds.Differences:
    return maker(np.random.default_rng(seed), (runs, decisions))


def most(alpha: float, runs: int) -> float:
    """What an honest alpha stays below in all but one of a thousand simulations."""
    return float(stats.binom.ppf(0.999, runs, alpha)) / runs


# ---- the vectorised rules are those of the daemon -------------------------------------------------------------------
def test_evidence_is_that_of_the_test_one_difference_at_a_time() -> None:
    plan = Plan(scale=0.002, horizon=60, least=5, alpha=0.1)
    paths = 0.003 * (drawn(kinds.heavy, 12, 90) + 0.2)
    found, against = power.evidence(paths, plan), power.evidence(-paths, plan)
    for path, row, other in zip(paths, found, against, strict=True):
        test = PairedTest(plan=plan)
        for at, difference in enumerate(path):
            test = test.after(float(difference))
            assert (row[at], other[at]) == pytest.approx((test.log_better, test.log_worse), abs=1e-9)


def test_a_shadow_ends_where_the_test_ends_it() -> None:
    plan = Plan(scale=1.0, horizon=100, least=20, alpha=0.1)
    edges = np.linspace(-0.5, 0.8, 60)[:, None]
    paths = drawn(kinds.normal, 60, 100) + edges
    ended = power.shadows(paths, plan)
    for path, promoted, dropped, length in zip(paths, ended.promoted, ended.dropped, ended.length, strict=True):
        test, found = PairedTest(plan=plan), (0, 0)
        while found == (0, 0) and test.count < plan.horizon:
            test = test.after(float(path[test.count]))
            if test.count >= plan.least and test.p_better <= plan.alpha:
                found = (test.count, 0)
            elif test.p_worse <= plan.alpha:
                found = (0, test.count)
        assert (promoted, dropped, length) == (*found, test.count)
    assert 10 < (ended.promoted > 0).sum() < 50
    assert (ended.dropped > 0).sum() > 5
    assert ((ended.promoted > 0) & (ended.promoted == plan.least)).any()


def test_the_watch_takes_back_at_the_regret_limit_or_by_the_test() -> None:
    plan = Plan(scale=0.01, horizon=5, least=1, alpha=0.05)
    growth = np.array(
        [
            [-0.010, -0.010, -0.010, -0.010, -0.010],  # 3 % at the third
            [0.020, -0.020, -0.020, -0.009, 0.000],  # never
            [-0.031, 0.050, 0.050, 0.050, 0.050],  # at once
        ]
    )
    by_regret, by_test = power.taken_back(growth, plan, 0.0299)
    assert by_regret.tolist() == [3, 0, 1]
    assert by_test.tolist() == [0, 0, 0]
    steady = np.full((1, 60), -0.0004)
    by_regret, by_test = power.taken_back(steady, Plan(scale=0.0004, horizon=60, least=1, alpha=0.05), 0.03)
    assert by_regret[0] == 0
    assert 5 < by_test[0] < 20


def test_the_peeked_t_test_is_the_usual_one_at_each_decision() -> None:
    paths = drawn(kinds.normal, 40, 60) + 0.2
    plan = Plan(scale=1.0, horizon=60, least=20, alpha=0.05)
    for path, at in zip(paths, power.proved_by_t(paths, plan), strict=True):
        ps = [stats.ttest_1samp(path[:n], 0.0, alternative="greater").pvalue for n in range(20, 61)]
        assert at == next((20 + i for i, p in enumerate(ps) if p <= 0.05), 0)


# ---- the promise ----------------------------------------------------------------------------------------------------
SYMMETRIC = [name for name in kinds.DRAWN if "skew" not in name]


@pytest.mark.parametrize("name", SYMMETRIC)
def test_an_equal_candidate_is_promoted_at_most_alpha_often_however_long_one_looks(name: str) -> None:
    at = power.proved(drawn(kinds.DRAWN[name], RUNS // 2, 2_000), PLAN)
    assert 0.0 < np.mean(at > 0) <= most(PLAN.alpha, RUNS // 2)


@pytest.mark.parametrize("alpha", [0.2, 0.05, 0.01])
def test_the_promise_holds_at_other_alphas(alpha: float) -> None:
    plan = Plan(scale=1.0, horizon=200, least=1, alpha=alpha)
    share = float(np.mean(power.proved(drawn(kinds.normal, RUNS, 400), plan) > 0))
    assert 0.1 * alpha < share <= most(alpha, RUNS)


def test_a_t_test_looked_at_every_day_breaks_it_so_the_check_has_teeth() -> None:
    share = float(np.mean(power.proved_by_t(drawn(kinds.normal, RUNS, 200), PLAN) > 0))
    assert share > 3.0 * most(PLAN.alpha, RUNS)


def test_a_worse_candidate_is_promoted_less_often_than_an_equal_one() -> None:
    paths = drawn(kinds.normal, RUNS, 400)
    equal, worse = (float(np.mean(power.proved(paths - edge, PLAN) > 0)) for edge in (0.0, 0.1))
    assert worse < 0.3 * equal


@pytest.mark.parametrize("block", [1, 20])
def test_recorded_differences_with_random_signs_are_promoted_at_most_alpha_often(
    block: int, recorded_candles: Callable[[str], Path]
) -> None:
    recorded_candles("binance/btcusdt-1d.csv.gz")
    pairs = kinds.recorded()
    assert len(pairs) == 3
    for days in pairs.values():
        assert len(days) > 1_500
        at = power.proved(drawn(kinds.flipped(days, block), RUNS // 2, 400), PLAN)
        assert np.mean(at > 0) <= most(PLAN.alpha, RUNS // 2)


def test_rare_large_losses_are_where_the_promise_ends() -> None:
    # docs/promotion.md says so: the mean is 0, but a lead that a rare loss has yet to take away looks like skill.
    share = float(np.mean(power.proved(drawn(kinds.rare_losses, RUNS, 200), PLAN) > 0))
    assert most(PLAN.alpha, RUNS) < share < 0.15
    mirrored = float(np.mean(power.proved(drawn(kinds.rare_gains, RUNS, 200), PLAN) > 0))
    assert mirrored < 0.005


# ---- power ----------------------------------------------------------------------------------------------------------
def test_more_of_an_advantage_is_found_more_often_and_sooner() -> None:
    paths = drawn(kinds.normal, RUNS, 200)
    ended = [power.shadows(paths + edge, PLAN).promoted for edge in (0.05, 0.1, 0.2, 0.3)]
    shares = [float(np.mean(at > 0)) for at in ended]
    assert shares == sorted(shares)
    # As docs/promotion.md says, within two in a hundred.
    assert shares == pytest.approx([0.07, 0.18, 0.64, 0.95], abs=0.02)
    assert np.median(ended[3][ended[3] > 0]) < np.median(ended[2][ended[2] > 0])


def test_looking_at_every_decision_costs_power_against_one_look_at_the_end() -> None:
    paths = drawn(kinds.normal, RUNS, 200) + 0.2
    once = float(np.mean(power.proved_once_by_t(paths, PLAN)))
    # A one-sided z-test of 200 differences: Phi(0.2 sqrt(200) - 1.645) = 0.88.
    assert once == pytest.approx(stats.norm.cdf(0.2 * math.sqrt(200) - 1.645), abs=0.02)
    assert np.mean(power.proved(paths, PLAN) > 0) < once


def test_twelve_over_the_square_of_the_advantage_finds_four_in_five() -> None:
    plan = Plan(scale=1.0, horizon=300, least=20, alpha=0.05)
    assert np.mean(power.proved(drawn(kinds.normal, RUNS, 300) + 0.2, plan) > 0) == pytest.approx(0.82, abs=0.02)


# ---- what is drawn --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", kinds.DRAWN)
def test_what_is_drawn_has_mean_0_and_spread_1(name: str) -> None:
    paths = drawn(kinds.DRAWN[name], 2_000, 500)
    assert np.mean(paths) == pytest.approx(0.0, abs=0.01)
    assert np.std(paths) == pytest.approx(1.0, abs=0.05)


def test_clusters_are_clusters() -> None:
    paths = drawn(kinds.clustered, 500, 500)
    squares = paths**2
    assert np.corrcoef(squares[:, 1:].ravel(), squares[:, :-1].ravel())[0, 1] > 0.1
    assert abs(np.corrcoef(paths[:, 1:].ravel(), paths[:, :-1].ravel())[0, 1]) < 0.01


def test_blocks_keep_their_days_in_order_and_share_a_sign() -> None:
    days = np.arange(50.0)
    steps = (days - days.mean()) / days.std()
    made = drawn(kinds.flipped(days, 5), 200, 23)
    assert made.shape == (200, 23)
    for block in made[:, :20].reshape(-1, 5):
        start = np.flatnonzero(np.isclose(np.abs(steps), abs(block[0])))
        follows = [steps[(at + np.arange(5)) % 50] for at in start]
        assert any(np.allclose(block, sign * expected) for expected in follows for sign in (1.0, -1.0))
    assert 0.3 < np.mean(drawn(kinds.flipped(np.array([1.0, 1.0, 4.0]), 1), 200, 23) > 0.0) < 0.7


def test_a_rule_that_is_always_invested_grows_as_its_market_less_costs() -> None:
    # Prices that rise by 1 % every day lie above all means; without volatility half is invested.
    closes = 100.0 * 1.01 ** np.arange(140)
    grown = kinds._growth([closes, closes], (10, 25))
    assert grown.shape == (39,)
    assert grown[0] == pytest.approx(math.log(1.0 + 0.5 * 0.01 - 0.5 * 0.0015), rel=1e-9)
    assert grown[1:] == pytest.approx(math.log(1.005), rel=1e-9)


# ---- the program ----------------------------------------------------------------------------------------------------
def printed(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.sequential_power", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_it_prints_one_object_with_every_table() -> None:
    run = printed("--runs", "20", "--json")
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert set(found) == {"runs", "seed", "no_better", "better", "lengths", "wrong_scale", "watch", "a_year"}
    assert found["runs"] == 20
    assert found["better"][0]["better by (spreads)"] == 0.05


def test_it_prints_tables_and_says_when_nothing_recorded_is_here(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SACD_TEST_DATA", str(tmp_path))
    run = printed("--runs", "20")
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("| ---") >= 6
    assert "recorded, " not in run.stdout
    assert "no recorded candles are here" in run.stdout


@pytest.mark.parametrize("runs", ["0", "-1", "many"])
def test_a_number_of_runs_that_is_none_is_refused_in_one_line(runs: str) -> None:
    run = printed(f"--runs={runs}")
    assert run.returncode == 2
    assert f"'{runs}' is not a whole number of at least 1" in run.stderr
    assert "Traceback" not in run.stderr
