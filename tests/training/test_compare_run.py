"""`sacd compare` from its arguments to its report, with trials that are tiny and real."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training.markets import FIRST, history, write_table
from training import compare_run
from training.commands_compare import add_compare
from training.compare_directory import CompareDirectory
from training.compare_task import run_trial
from training.errors import Diverged, Interrupted, TrainingError
from training.member_task import Candles
from training.plan import ALGORITHMS
from training.workers import Ended, Outcome, Task, Tell, perform

TINY = [
    "--steps", "400", "--set", "learning_starts=100", "--set", "batch_size=32", "--set", "net_arch=8",
    "--set", "episode.length=60", "--validation", "0.06", "--set", "n_envs=1", "--set", "train_freq=4",
]  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(history(24 * 16, seed=3), tmp_path_factory.mktemp("candles"))


class Here:
    """A pool that runs tasks in this process. stop_after: outcomes after which it was told to stop."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.ran: list[str] = []
        self._stop_after = stop_after
        self._is_stopping = False

    def run(self, tasks: Sequence[Task], shared: Any, tell: Tell) -> Iterator[Outcome]:
        for index, task in enumerate(tasks):
            self._is_stopping |= len(self.ran) == self._stop_after
            ended: Ended = perform(
                task, shared, Linked(task.folder, lambda told, at=index: tell(at, told), self._is_stopping)
            )
            if not self._is_stopping:
                self.ran.append(task.name)
            yield Outcome(index=index, end=ended.end, value=ended.value, reason=ended.reason)

    def stop(self) -> None:
        self._is_stopping = True


class Linked:
    def __init__(self, folder: Path, tell: Callable[[Any], None], is_stopping: bool) -> None:
        self.folder, self.tell, self._is_stopping = folder, tell, is_stopping

    def should_stop(self) -> bool:
        return self._is_stopping


def arguments(data: Path, out: Path, *more: Any) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_compare(parser)
    return parser.parse_args(["--data", str(data), "--out", str(out), *TINY, *map(str, more)])


def run(data: Path, out: Path, *more: Any, pool: Here | None = None) -> tuple[int, Here]:
    used = pool or Here()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(compare_run, "_pool", lambda *_: used)
        return compare_run.compare(arguments(data, out, *more)), used


def report_of(out: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((out / "report.json").read_bytes())
    return report


def without_times(report: dict[str, Any]) -> dict[str, Any]:
    told = json.loads(json.dumps(report))
    for row in [*told["algorithms"], *told["runs"]]:
        row["seconds"] = row["steps_per_s"] = None
    return {key: value for key, value in told.items() if key != "out"}


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a comparison of all algorithms with two seeds."""
    out = tmp_path_factory.mktemp("compare") / "out"
    assert run(data, out, "--seeds", 2)[0] == 0
    return out


# ---- what comes out ---------------------------------------------------------------------------------------------
def test_every_algorithm_is_trained_and_scored(whole: Path) -> None:
    report = report_of(whole)
    assert sorted(row["algorithm"] for row in report["algorithms"]) == sorted(ALGORITHMS)
    assert report["trials"] == 8
    for row in report["algorithms"]:
        assert (row["trials"], row["failed"]) == (2, 0)
        assert row["sharpe_low"] <= row["sharpe"] <= row["sharpe_high"]
        assert sum(row["actions"].values()) == pytest.approx(1.0)
        assert row["seconds"] > 0.0
    assert [row["sharpe"] for row in report["algorithms"]] == sorted(
        (r["sharpe"] for r in report["algorithms"]), reverse=True
    )
    assert [baseline["name"] for baseline in report["baselines"]] == ["cash", "buy and hold", "always buy"]
    active = sum(row["idle"] < row["trials"] for row in report["algorithms"])
    # Every pair, every one against three baselines, and a line for each that never traded.
    assert len(report["verdicts"]) == active * (active - 1) // 2 + 3 * active + 4 - active


def test_all_have_one_budget_to_within_a_rollout(whole: Path) -> None:
    # PPO's rollout is a tenth of 400 steps in whole batches of 32, A2C's 16 steps, SAC's and DQN's 4.
    longest = {"sac": 4, "dqn": 4, "a2c": 16, "ppo": 32}
    for result in report_of(whole)["runs"]:
        assert 400 <= result["steps"] < 400 + longest[result["algorithm"]]


def test_the_mean_is_that_of_the_trials(whole: Path) -> None:
    report = report_of(whole)
    for row in report["algorithms"]:
        sharpes = [run["score"]["sharpe"] for run in report["runs"] if run["algorithm"] == row["algorithm"]]
        assert row["sharpe"] == pytest.approx(np.mean(sharpes))
        assert row["worst"] == min(sharpes)


def test_the_score_is_that_of_candles_nobody_practised_on(whole: Path, data: Path) -> None:
    report = report_of(whole)
    # The last 6 % of 116 days, from the midnight before.
    days = (FIRST + 24 * 16) / 24
    assert report["validation_from_ms"] == int(days * 0.94) * 86_400_000
    assert report["validation_to_ms"] == round(days * 86_400_000)


def test_the_table_says_what_was_measured_in_words(data: Path, whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(data, whole, "--seeds", 2)[0] == 0  # all is done: only told again
    told = capsys.readouterr().out
    assert "95 % of the mean" in told
    assert "buy and hold" in told
    assert "8 trials were made here, 400 steps each" in told
    assert "another span may rank otherwise" in told
    for verdict in report_of(whole)["verdicts"]:
        assert verdict in told


def test_the_same_seeds_give_the_same_report(tmp_path: Path, data: Path, whole: Path) -> None:
    run(data, tmp_path / "again", "--seeds", 2)
    assert without_times(report_of(tmp_path / "again")) == without_times(report_of(whole))


def test_replay_buffers_of_finished_trials_are_freed(whole: Path) -> None:
    assert list(whole.rglob("replay-*")) == []


# ---- going on ---------------------------------------------------------------------------------------------------
def test_finished_trials_are_not_repeated_and_more_seeds_are_added(tmp_path: Path, data: Path) -> None:
    out = tmp_path / "out"
    assert run(data, out, "--algorithms", "a2c", "--seeds", 1)[1].ran == ["a2c-0"]
    assert run(data, out, "--algorithms", "a2c", "ppo", "--seeds", 2)[1].ran == ["ppo-0", "a2c-1", "ppo-1"]
    assert run(data, out, "--algorithms", "ppo", "--seeds", 1)[1].ran == []
    report = report_of(out)
    assert len(report["runs"]) == 1
    assert report["trials"] == 4  # those nobody asked for now were made all the same


def test_an_interrupted_comparison_goes_on_to_the_same_report(tmp_path: Path, data: Path, whole: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(Interrupted, match=r"interrupted after 3 of 8 trials; what is done is kept; the same command"):
        run(data, out, "--seeds", 2, pool=Here(stop_after=3))
    assert not (out / "report.json").exists()
    assert len(run(data, out, "--seeds", 2)[1].ran) == 5
    assert without_times(report_of(out)) == without_times(report_of(whole))


def test_a_trial_that_fails_for_another_reason_is_named_and_the_others_kept(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(candles: Any, trial: Any, link: Any) -> Any:
        if trial.name == "ppo-0":
            raise TrainingError("no space left")
        return run_trial(candles, trial, link)

    monkeypatch.setattr(compare_run, "run_trial", broken)
    with pytest.raises(TrainingError, match=r"^ppo-0: no space left; what is done is kept; the same command goes on"):
        run(data, tmp_path / "out", "--algorithms", "ppo", "a2c", "--seeds", 1)
    monkeypatch.undo()
    assert run(data, tmp_path / "out", "--algorithms", "ppo", "a2c", "--seeds", 1)[1].ran == ["ppo-0"]


def test_a_trial_that_diverges_is_a_result(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from training import compare_task  # noqa: PLC0415

    def diverging(*_: Any, **__: Any) -> Any:
        raise Diverged("the weights are not finite")

    monkeypatch.setattr(compare_task, "train_member", diverging)
    code, _ = run(data, tmp_path / "out", "--algorithms", "a2c", "--seeds", 2)
    assert code == 1
    told = capsys.readouterr().out
    assert "failed: a2c-0: the weights are not finite" in told
    assert "no trial of a2c with a score, no interval: nothing shown" in told
    (row,) = report_of(tmp_path / "out")["algorithms"]
    assert (row["trials"], row["failed"], row["sharpe"]) == (2, 2, None)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--set", "gamma=0.9"], r"compares something else: gamma was 0\.95, is 0\.9; name another directory"),
        (["--seed", "2"], "seed of all trials was 1, is 2"),
        (["--validation", "0.05"], "validation was"),
        (["--until", "1970-04-26"], "candles of BTC/USDT was"),
    ],
)
def test_another_comparison_in_the_directory_is_refused(data: Path, whole: Path, more: list[str], told: str) -> None:
    with pytest.raises(TrainingError, match=told):
        run(data, whole, "--seeds", 2, *more)


def test_two_at_once_in_one_directory_are_refused(data: Path, tmp_path: Path) -> None:
    with (
        CompareDirectory(tmp_path / "out", {}),
        pytest.raises(TrainingError, match=f"process {os.getpid()} compares there"),
    ):
        run(data, tmp_path / "out")


def test_a_directory_with_something_else_is_refused(data: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(TrainingError, match="holds something else"):
        run(data, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("text", ["", "{", '{"algorithm": 1}', '{"score": null, "what": 1}'])
def test_a_damaged_result_is_named_with_the_way_on(data: Path, tmp_path: Path, text: str) -> None:
    out = tmp_path / "out"
    run(data, out, "--algorithms", "a2c", "--seeds", 1)
    (out / "trials" / "a2c-0" / "result.json").write_text(text)
    with pytest.raises(TrainingError, match=r"a2c-0/result\.json: it cannot be read .*remove its folder to repeat"):
        run(data, out, "--algorithms", "a2c", "--seeds", 1)


# ---- bad input --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--preset", "best"], "preset 'best' is not known"),
        (["--reward", "luck"], "reward 'luck' is not known"),
        (["--set", "speed=9"], "unknown key 'speed'"),
        (["--set", "validation.every=100"], "every trial's last weights are scored, once"),
        (["--steps", "50"], r"--steps 50 end before learning begins: give more than 100"),
        (["--validation", "0"], "compared on candles set apart"),
        (["--validation", "0.01"], "sets .* days apart: a score needs 5 days"),
        (["--validation-from", "1970-04-01"], "say the same in two ways"),
        (["--seeds", "0"], "--seeds 0"),
        (["--workers", "0"], "--workers 0"),
        (["--until", "1970-01-05"], "are too few|a score needs"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(
    data: Path, tmp_path: Path, more: list[str], told: str
) -> None:
    with pytest.raises(TrainingError, match=told):
        run(data, tmp_path / "out", *more)
    assert not (tmp_path / "out").exists()


def test_unknown_algorithms_are_wrong_usage(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        arguments(data, tmp_path / "out", "--algorithms", "td3")
    assert ended.value.code == 2
    assert "invalid choice: 'td3'" in capsys.readouterr().err


# ---- as a process -----------------------------------------------------------------------------------------------
def started(data: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "training", "compare", "--data", str(data), "--out", str(out), *TINY, *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    until_s = time.monotonic() + 120.0
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until_s
        time.sleep(0.05)


SMALL = ("--algorithms", "a2c", "ppo", "--seeds", "1", "--workers", "1", "--json")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_a_process_that_is_ended_goes_on_to_the_same_report(
    tmp_path: Path, data: Path, whole: Path, number: signal.Signals, code: int
) -> None:
    out = tmp_path / "out"
    process = started(data, out, *SMALL)
    wait_for(out / "trials" / "a2c-0" / "result.json", process)
    os.kill(process.pid, number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == code, errors
    if number is signal.SIGINT:  # a worker that is just being born has words of its own when its parent dies
        assert "Traceback" not in errors
        assert "the same command goes on from there" in errors
    again = started(data, out, *SMALL)
    told, errors = again.communicate(timeout=240)
    assert again.returncode == 0, errors
    report = json.loads(told)
    expected = {(run["algorithm"], run["index"]): run["score"] for run in report_of(whole)["runs"]}
    assert {(run["algorithm"], run["index"]): run["score"] for run in report["runs"]} == {
        key: score for key, score in expected.items() if key in {("a2c", 0), ("ppo", 0)}
    }


def test_a_trial_needs_its_candles_only(data: Path) -> None:
    assert Candles.__dataclass_fields__.keys() == {"tables", "fold"}
