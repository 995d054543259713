"""`sacd tune` from its command line: real members on tiny data, and what it says."""

import argparse
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.training.markets import history, write_table
from tests.training.tune_objectives import SMALL, parsed
from training.__main__ import main
from training.commands_train import add_train
from training.errors import Interrupted, TrainingError
from training.settings_text import apply
from training.tune_run import _base

Tune = Callable[..., int]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_table(history(24 * 40, seed=2), tmp_path)


@pytest.fixture
def tune(tmp_path: Path, data: Path) -> Tune:
    def run(*more: Any, out: str = "tune") -> int:
        args = parsed("--data", data, "--out", tmp_path / out, *SMALL, *more)
        return int(args.run(args))

    return run


def test_a_search_writes_its_best_and_a_report_and_goes_on_where_it_was(
    tmp_path: Path, tune: Tune, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = tune("--trials", 3, "--json")
    printed = capsys.readouterr()
    told = json.loads(printed.out)
    assert told["trials"]["asked"] == told["trials"]["ended"] == 3
    assert len(re.findall(r"^trial \d of 3: ", printed.err, re.MULTILINE)) == 3
    page = (tmp_path / "tune" / "report.html").read_text()
    assert "<td>3</td>" in page
    assert code == 0
    best = json.loads((tmp_path / "tune" / "best.json").read_text())
    assert best == told["best"]
    assert best["score"] == pytest.approx(sum(best["folds"]) / 2)
    assert tune("--trials", 3, "--json") == 0
    assert json.loads(capsys.readouterr().out)["best"] == best


def test_the_command_of_the_best_trains_an_ensemble_whose_members_have_its_settings(
    tmp_path: Path, tune: Tune, capsys: pytest.CaptureFixture[str]
) -> None:
    tune("--trials", 1, "--json")
    best = json.loads(capsys.readouterr().out)["best"]
    words = shlex.split(best["command"])
    assert main([*words[1:], "--members", "1", "--gates", "off"]) == 0
    [member] = json.loads((tmp_path / "tune" / "ensemble" / "training" / "report.json").read_text())["members"]
    assert {name: member["plan"][name] for name in best["settings"]} == best["settings"]
    assert {"tau", "gamma"} <= set(best["settings"])
    assert member["plan"]["learning_rate"] == 0.02


def test_the_command_of_the_best_is_one_that_sacd_train_takes_and_gives_its_settings(
    tmp_path: Path, tune: Tune, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tune("--trials", 1, "--json")
    best = json.loads(capsys.readouterr().out)["best"]
    words = shlex.split(best["command"])
    assert words[:2] == ["sacd", "train"]
    parser = argparse.ArgumentParser()
    add_train(parser)
    train = parser.parse_args(words[2:])
    assert (train.data, train.steps, train.preset) == ([data], 400, "compact")
    args = parsed("--data", data, "--out", tmp_path, "--preset", train.preset, "--steps", train.steps)
    plan = apply(_base(args), train.texts)
    assert plan.settings.tau == best["settings"]["tau"]
    assert plan.settings.gamma == best["settings"]["gamma"]
    assert (plan.settings.buffer_size, plan.settings.net_arch, plan.episode.length) == (400, (8,), 200)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--trials", "0"), "--trials 0: give 1 .. 100,000"),
        (("--folds", "40"), "--folds 40"),
        (("--steps", "50"), "--steps 50 end before learning begins: give more than 100"),
        (("--set", "validation=none"), "validation"),
        (("--preset", "best"), "preset 'best' is not known"),
        (("--reward", "money"), "--reward money: give one of guide"),
        (("--fix", "speed=1"), "speed is not searched"),
        (("--since", "2031-01-01"), "no candle between"),
        (("--storage", "nonsense"), "not a database URL"),
        (("--ray", "10.0.0.1:6379"), "give --storage, a database all can reach"),
    ],
)
def test_nonsense_is_refused_before_any_work(tune: Tune, words: tuple[str, ...], says: str) -> None:
    with pytest.raises(TrainingError, match=re.escape(says)):
        tune(*words)


def test_other_candles_in_the_same_directory_are_refused_and_the_report_stays(
    tmp_path: Path, tune: Tune, data: Path
) -> None:
    tune("--trials", 1)
    before = (tmp_path / "tune" / "report.html").read_bytes()
    write_table(history(24 * 40, seed=9), tmp_path)
    with pytest.raises(TrainingError, match="searched something else \\(data: "):
        tune("--trials", 2)
    assert (tmp_path / "tune" / "report.html").read_bytes() == before


def test_an_output_that_is_a_file_is_refused(tmp_path: Path, tune: Tune) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match="give a directory that can be written to"):
        tune(out="file")


MAIN = """
import argparse, sys
from training.commands_tune import add_tune
from training.errors import TrainingError
parser = argparse.ArgumentParser()
add_tune(parser)
args = parser.parse_args()
if __name__ == "__main__":
    try:
        sys.exit(args.run(args))
    except TrainingError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
"""


def test_ctrl_c_says_how_to_go_on_and_leaves_a_report(tmp_path: Path, data: Path) -> None:
    script, out = tmp_path / "main.py", tmp_path / "tune"
    script.write_text(MAIN)
    words = [sys.executable, str(script), "--data", str(data), "--out", str(out), *SMALL, "--trials", "50"]
    environment = os.environ | {"PYTHONPATH": os.getcwd()}  # noqa: PTH109 - the checkout
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    deadline_s = time.monotonic() + 240.0
    while "trial 1 of" not in process.stderr.readline():
        assert process.poll() is None
        assert time.monotonic() < deadline_s
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == Interrupted.exit_code == 130
    assert re.search(r"stopped after \d+ of 50 trials; the same command goes on from there", said)
    assert "Traceback" not in said
    assert "of 50 trials have ended" in (out / "report.html").read_text()
