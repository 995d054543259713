"""`sacd train --from` and `--curriculum` as processes: what a person sees, and what a run leaves behind."""

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.training import runs
from tests.training.markets import write_table

ONE = [*runs.TINY, "--members", "1", "--gates", "off", "--validation", "0.06"]
STAGES = [*ONE, "--steps", "4000", "--curriculum", "--curriculum-days", "2", "--curriculum-tries", "2"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(runs.TABLE, tmp_path_factory.mktemp("candles"))


@pytest.fixture(scope="module")
def first(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a run that began from nothing."""
    out = tmp_path_factory.mktemp("first") / "out"
    runs.finished("--data", data, "--out", out, *ONE)
    return out


@pytest.fixture(scope="module")
def staged(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return the directory of a run with a curriculum, and what it printed."""
    out = tmp_path_factory.mktemp("staged") / "out"
    return out, runs.finished("--data", data, "--out", out, *STAGES).stdout


def report_of(out: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((out / "training" / "report.json").read_bytes())
    return report


# ---- from a bundle ----------------------------------------------------------------------------------------------
def test_a_run_from_a_bundle_says_what_it_takes_and_learns_slowly(data: Path, first: Path, tmp_path: Path) -> None:
    done = runs.finished("--data", data, "--out", tmp_path / "out", *ONE, "--from", first)
    origin = runs.id_of(first)
    assert f"member 0: 12 of 12 layers from member 0 of bundle {origin[:16]}: actor.latent_pi.0 8x" in done.stderr
    report = report_of(tmp_path / "out")
    (taken,) = report["taken_over"]
    assert (taken["bundle"], taken["has_state"], taken["remarks"]) == (origin, True, [])
    assert all(layer["is_taken"] for layer in taken["layers"])
    (member,) = report["members"]
    assert 0.5e-5 <= member["plan"]["learning_rate"] <= 1.5e-5  # 1e-5, spread as every rate is
    assert f"--from {origin[:16]}" in report["command"]
    assert runs.id_of(tmp_path / "out") != origin


def test_a_bundle_alone_gives_its_actors_and_an_explicit_rate_wins(data: Path, first: Path, tmp_path: Path) -> None:
    alone = shutil.copytree(first, tmp_path / "alone", ignore=shutil.ignore_patterns("training"))
    how = ["--from", alone, "--set", "learning_rate=0.002", "--spread", "off"]
    done = runs.finished("--data", data, "--out", tmp_path / "out", *ONE, *how)
    assert "not taken, the bundle holds actors only: actor.log_std 3x8, critic.qf0.0 8x" in done.stderr
    assert "critics, exploration and entropy begin anew" in done.stderr
    assert report_of(tmp_path / "out")["members"][0]["plan"]["learning_rate"] == 0.002


def test_a_network_without_a_layer_in_common_is_refused_before_the_work(
    data: Path, first: Path, tmp_path: Path
) -> None:
    other = [text.replace("net_arch=8", "net_arch=16,16") for text in ONE]
    done = runs.finished("--data", data, "--out", tmp_path / "out", *other, "--from", first, code=1)
    assert "give --set net_arch=8, or train without --from" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_missing_bundle_is_one_line(data: Path, tmp_path: Path) -> None:
    done = runs.finished("--data", data, "--out", tmp_path / "out", *ONE, "--from", tmp_path / "nowhere", code=1)
    assert "nowhere: cannot be read" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


# ---- by stages --------------------------------------------------------------------------------------------------
def test_a_curriculum_tells_its_stages(staged: tuple[Path, str]) -> None:
    out, told = staged
    report = report_of(out)
    assert report["curriculum"]["thresholds"] == [0.5, 1.0, 1.5]
    stages = report["members"][0]["stages"]
    assert [stage["stage"] for stage in stages] == ["easy", "medium", "hard"]
    for stage in stages:
        assert stage["words"] in told
        assert stage["is_reached"] == (stage["score"] >= stage["threshold"])
        assert f"{stage['volatility']:.0%}" in told
    assert "--curriculum-days 2 --curriculum-tries 2 --curriculum-thresholds 0.5,1,1.5" in report["command"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_curriculum_that_is_ended_and_resumed_gives_the_same_bundle(
    data: Path, staged: tuple[Path, str], tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "out"
    run = runs.started("--data", data, "--out", out, *STAGES)
    runs.wait_for(out / "training" / "member-0" / "curriculum.json", run)
    os.kill(run.pid, number)
    run.communicate(timeout=120)
    assert run.returncode != 0
    runs.finished("--resume", out)
    assert runs.id_of(out) == runs.id_of(staged[0])


def test_too_few_candles_for_the_stages_are_refused_before_the_work(data: Path, tmp_path: Path) -> None:
    arguments = ["--data", data, "--out", tmp_path / "out", *ONE, "--curriculum"]
    done = runs.finished(*arguments, code=1)
    assert "give 0 windows of 90 days, and 3 stages need 6" in done.stderr
    assert not (tmp_path / "out").exists()


def test_settings_of_a_curriculum_need_one(data: Path, tmp_path: Path) -> None:
    done = runs.finished("--data", data, "--out", tmp_path / "out", *ONE, "--curriculum-tries", "2", code=1)
    assert "--curriculum-tries says how often a stage is practised: give --curriculum as well" in done.stderr


@pytest.mark.parametrize(("text", "code"), [("a,b,c", 2), ("0.5,1", 1)])
def test_wrong_thresholds_are_refused(data: Path, tmp_path: Path, text: str, code: int) -> None:
    how = ["--curriculum", "--curriculum-thresholds", text]
    done = runs.finished("--data", data, "--out", tmp_path / "out", *ONE, *how, code=code)
    assert "0.5,1,1.5" in done.stderr if code == 2 else "give one for each of easy, medium, hard" in done.stderr
