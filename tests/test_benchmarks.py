"""The benchmarks run and say what they promise to say. How fast anything is, is not for tests."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from benchmarks.__main__ import NAMES
from benchmarks.latencies import Samples, quantile, ratio_of, table
from benchmarks.result import Result
from benchmarks.timing import Rounds, spread, take_turns, typical_s

ROOT = Path(__file__).resolve().parents[1]
LINE = re.compile(
    r"(?P<name>[^:]+): (?P<ratio>\S+)x \(.*\d.* vs .*\d.*\); target at (least|most) [\d.]+x: (met|MISSED)(; .+)?"
)
RESULTS = {
    "candle_to_decision": 1,
    "ensemble_forward": 2,
    "backtest_speed": 2,
    "environment_speed": 1,
    "footprint": 6,
    "durability": 1,
    "training_speed": 1,
    "training_latency": 2,
}


def printed(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def check_lines(*names: str) -> None:
    run = printed("--quick", *names)
    assert run.returncode == 0, run.stderr
    machine, *lines = run.stdout.splitlines()
    for library in ("numpy", "torch", "stable-baselines3", "pandas", "Python", "cores"):
        assert library in machine
    assert len(lines) == sum(RESULTS[name] for name in names)
    for line in lines:
        match = LINE.fullmatch(line)
        assert match is not None, line
        assert float(match["ratio"]) > 0.0


def test_every_benchmark_has_a_number_of_results_here() -> None:
    assert set(RESULTS) == set(NAMES)


def test_each_line_gives_ratio_target_verdict_and_both_figures() -> None:
    check_lines("candle_to_decision", "ensemble_forward", "backtest_speed", "durability")


def test_environments_are_measured_against_their_definition_where_no_peers_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SACD_BENCH_PEERS", raising=False)
    check_lines("environment_speed")


@pytest.mark.soak
def test_the_daemon_is_measured_on_both_markets() -> None:
    check_lines("footprint")


@pytest.mark.soak
def test_training_is_measured_against_stable_baselines3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SACD_BENCH_SBX", raising=False)
    check_lines("training_speed")


@pytest.mark.soak
def test_decisions_are_measured_with_and_without_a_training_beside_them() -> None:
    check_lines("training_latency")


def test_an_unknown_benchmark_is_refused_with_those_that_are_known() -> None:
    run = printed("candle")
    assert run.returncode == 2
    assert run.stdout == ""
    assert "unknown: candle; known are candle_to_decision, ensemble_forward" in run.stderr


@pytest.mark.parametrize(
    ("better", "ratio", "is_met"),
    [("higher", 10.0, True), ("higher", 9.99, False), ("lower", 10.0, True), ("lower", 10.01, False)],
)
def test_a_target_is_met_when_the_ratio_reaches_it(
    better: Literal["higher", "lower"], ratio: float, is_met: bool
) -> None:
    result = Result(name="x", ratio=ratio, target=10.0, better=better, ours="1 us", reference="2 us")
    assert result.is_met == is_met


def test_a_result_is_one_line() -> None:
    result = Result(name="walk", ratio=1.5, target=2.0, better="lower", ours="3 s", reference="2 s", note="quiet")
    assert result.format() == "walk: 1.5x (3 s vs 2 s); target at most 2x: met; quiet"


def test_ratios_compare_what_stood_next_to_each_other() -> None:
    rounds = Rounds(ours_s=[1.0, 2.0, 4.0], reference_s=[10.0, 10.0, 60.0])
    assert rounds.ratios("higher") == [10.0, 5.0, 15.0]
    assert rounds.ratios("lower") == [0.1, 0.2, 4.0 / 60.0]
    assert (rounds.ours, rounds.reference) == (2.0, 10.0)
    assert spread(rounds.ratios("higher")) == "3 rounds, 5 .. 15"


def test_ours_and_the_reference_take_turns() -> None:
    turns: list[str] = []

    def turn(name: str, seconds: float) -> float:
        turns.append(name)
        return seconds

    rounds = take_turns(lambda: turn("ours", 1.0), lambda: turn("reference", 3.0), 2)
    assert turns == ["ours", "reference"] * 2
    assert rounds == Rounds(ours_s=[1.0, 1.0], reference_s=[3.0, 3.0])


def test_the_typical_call_is_made_once_per_argument() -> None:
    seen: list[int] = []
    assert typical_s(seen.append, range(5)) >= 0.0
    assert seen == [0, 1, 2, 3, 4]


def test_latencies_are_taken_from_the_phase_in_which_the_candle_was_sent() -> None:
    noted = np.array([[1.0, 0.1, 0.2, 0.05], [2.0, 0.3, 0.4, 0.1], [3.0, 0.5, 0.6, 0.2]])
    samples = Samples.from_rows(noted.ravel()).between(2.0, 3.0)
    assert samples.sent_s.tolist() == [2.0]
    assert samples.total_s.tolist() == [pytest.approx(0.7)]
    assert samples.write_s.tolist() == [0.1]


def test_a_quantile_is_a_latency_that_occurred() -> None:
    rounds = [np.arange(1.0, 61.0), np.arange(61.0, 101.0)]
    # Of 1 .. 100, at least 99 % lie at or below 100, the first value beyond 99.01 of the way.
    assert quantile(rounds, 0.99) == 100.0
    assert quantile(rounds, 0.5) == 51.0
    assert quantile(rounds, 1.0) == 100.0


def test_a_ratio_of_quantiles_takes_rounds_together_and_its_interval_holds_it() -> None:
    idle = [np.full(100, 1.0 + number / 10) for number in range(5)]
    loaded = [1.5 * latencies for latencies in idle]
    ratio = ratio_of(loaded, idle, 0.99)
    # Rounds are drawn in pairs, so that the slowest drawn is the slowest of both.
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((1.5, 1.5, 1.5))
    wide = ratio_of([np.full(100, 1.0), np.full(100, 3.0)], [np.full(100, 1.0)] * 2, 0.99)
    assert (wide.low, wide.value, wide.high) == (1.0, 3.0, 3.0)


def test_a_table_of_latencies_is_in_milliseconds() -> None:
    head, line = table({"idle": [np.array([0.001]), np.array([0.002, 0.003])]})
    assert head.split() == ["ms", "decisions", "p50", "p90", "p99", "p99.9", "worst"]
    assert line.split() == ["idle", "3", "2.00", "3.00", "3.00", "3.00", "3.00"]
