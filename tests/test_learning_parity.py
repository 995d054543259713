"""The comparison of what two implementations learn: its statistics, and that it says what the runs say."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import learning_parity
from benchmarks.welch import difference_of, mean_of, t_quantile


@pytest.mark.parametrize(
    ("degrees", "expected"),
    [(1, 12.706), (2, 4.303), (4, 2.776), (8, 2.306), (30, 2.042), (120, 1.980)],
)
def test_quantiles_are_those_of_the_printed_tables(degrees: int, expected: float) -> None:
    assert t_quantile(degrees) == pytest.approx(expected, abs=5e-4)


def test_the_interval_of_a_mean_is_the_one_by_hand() -> None:
    # Mean 2, variance 1, three values: 4.303 * sqrt(1 / 3).
    interval = mean_of([1.0, 2.0, 3.0])
    assert (interval.mean, interval.high - 2.0) == pytest.approx((2.0, 2.484), abs=1e-3)
    assert 2.0 - interval.low == pytest.approx(interval.high - 2.0)


def test_equal_variances_have_the_degrees_of_the_usual_test() -> None:
    # Variance 1 each, so 4 degrees of freedom and an error of sqrt(2 / 3): 2.776 * 0.8165.
    interval = difference_of([1.0, 2.0, 3.0], [3.0, 4.0, 5.0])
    assert (interval.mean, interval.high + 2.0) == pytest.approx((-2.0, 2.267), abs=1e-3)


def test_a_sure_mean_leaves_the_degrees_of_the_other() -> None:
    # One side has no spread at all: error sqrt(1 / 3) with the other's 2 degrees.
    interval = difference_of([5.0, 5.0, 5.0, 5.0], [1.0, 2.0, 3.0])
    assert (interval.mean, interval.high - 3.0) == pytest.approx((3.0, 2.484), abs=1e-3)


def run(algorithm: str, seed: int, mean_return: float) -> dict[str, Any]:
    return {
        "task": "pendulum",
        "algorithm": algorithm,
        "seed": seed,
        "steps": 100,
        "mean_return": mean_return,
        "seconds": 2.0,
    }


def runs(fast: list[float], sb3: list[float]) -> list[dict[str, Any]]:
    return [run(name, seed, value) for name, each in (("fast", fast), ("sb3", sb3)) for seed, value in enumerate(each)]


@pytest.mark.parametrize(
    ("fast", "verdict"),
    [([-150.0, -160.0, -140.0], "equal within seed noise"), ([-250.0, -260.0, -240.0], "NOT EQUAL")],
)
def test_the_verdict_follows_the_interval(fast: list[float], verdict: str) -> None:
    text = learning_parity.summary(runs(fast, [-149.0, -162.0, -141.0]))
    assert text.startswith(f"pendulum, 100 steps, 3 seeds: {verdict}\n")
    assert "by seed -149, -162, -141" in text


def test_runs_that_learned_nothing_are_no_comparison() -> None:
    text = learning_parity.summary(runs([0.9, 0.9], [0.9, 0.9]))
    assert "says nothing: give more --steps" in text
    assert "equal within" not in text


def test_one_seed_is_no_comparison() -> None:
    assert "give --seeds 2 or more" in learning_parity.summary(runs([-150.0], [-149.0]))


def test_runs_that_stand_in_the_file_are_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "runs.jsonl"
    out.write_text("".join(json.dumps(line) + "\n" for line in runs([-150.0, -160.0], [-149.0, -162.0])))
    before = out.read_bytes()
    arguments = ["--out", str(out), "--task", "pendulum", "--steps", "100", "--seeds", "2"]
    monkeypatch.setattr(sys, "argv", ["learning_parity", *arguments])
    learning_parity.main()
    assert out.read_bytes() == before
    assert "2 seeds: equal within seed noise" in capsys.readouterr().out
