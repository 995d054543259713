import hashlib
import json
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.training.command_line import Run
from tests.training.markets import history, write_table
from tests.training.runs import LONG, SHORT, TABLE, TINY, finished, id_of, started, wait_for
from training.__main__ import main
from training.bundles import read_serving_bundle
from training.errors import TrainingError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def candles(folder: Path) -> Path:
    return write_table(TABLE, folder, "btcusdt-1h-my own.csv")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_table(TABLE, tmp_path)


def trained(*arguments: Any) -> None:
    """Run to the end, with the starter in this process: importing torch takes longer than training."""
    assert main(["train", *map(str, arguments)]) == 0


@pytest.fixture(scope="module")
def whole(folder: Path, candles: Path) -> Path:
    """Return the bundle of the long run, which was not interrupted."""
    out = folder / "whole"
    trained("--data", candles, "--out", out, *LONG, "--workers", 2)
    return out


# ---- what comes out ---------------------------------------------------------------------------------------------
def test_one_worker_or_two_and_the_command_in_the_manifest_give_the_same_bundle(folder: Path, candles: Path) -> None:
    span = ["--since", "1970-01-01T05:00", "--until", "1970-05-08", "--validation", 0.15]
    options = [*SHORT, "--set", "use_sde=true", "--seed", 7, "--patience", 3, *span, "--weighting", "score"]
    done = finished("--data", candles, "--out", folder / "two", *options, "--workers", 2, "--json")
    told = json.loads(done.stdout)
    manifest = read_serving_bundle(folder / "two").manifest
    assert (told["id"], told["members"], told["out"]) == (manifest.id, 2, str(folder / "two"))
    assert manifest.training.start_ms == 5 * 3_600_000
    name, verb, *repeated = shlex.split(manifest.training.command)
    assert (name, verb) == ("sacd", "train")
    finished(*repeated, "--out", folder / "one", "--workers", 1, cwd=folder)
    assert id_of(folder / "one") == manifest.id


def test_the_end_is_a_table_the_bundle_and_what_to_do_next(folder: Path, candles: Path, run: Run) -> None:
    code, out, err = run("train", "--data", candles, "--out", folder / "told", *TINY, "--members", 1, "--gates", "off")
    assert code == 0, err
    heading, member, bundle, after = out.splitlines()
    assert heading.split() == [
        "member",
        "seed",
        "learning",
        "rate",
        "gamma",
        "best",
        "step",
        "score",
        "weight",
        "verdict",
    ]
    assert member.split()[0] == "0"
    assert member.split()[-1] == "joined"
    short_id = id_of(folder / "told")[:16]
    assert bundle == f"bundle {short_id} with 1 member lies in {folder / 'told'}"
    assert after == f"next: sacd backtest --model {folder / 'told'} --data {shlex.quote(str(candles))}"
    assert "member 0: 400 of 400 steps" in err
    code, _, err = run(*shlex.split(after.removeprefix("next: sacd ")))
    assert (code, err) == (0, "")


def test_training_writes_nothing_outside_its_directory(tmp_path: Path) -> None:
    data = write_table(TABLE, tmp_path)
    finished("--data", data.name, "--out", "a/b/out", *TINY, "--members", 1, "--gates", "off", cwd=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", data.name]
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["out"]


def test_a_bundle_to_begin_with_is_told_layer_by_layer_and_the_command_repeats_it(
    folder: Path, candles: Path, whole: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = folder / id_of(whole)[:16]
    if not source.exists():
        source.symlink_to(whole)
    code, _, err = run("train", "--data", candles, "--from", source, "--out", folder / "fine", *SHORT)
    assert code == 0, err
    assert f"layers from member 0 of bundle {id_of(whole)[:16]}: " in err
    record = json.loads((folder / "fine" / "training" / "run.json").read_text())
    assert record["source"]["id"] == id_of(whole)
    assert record["member"]["learning_rate"] == 1e-5
    repeated = shlex.split(read_serving_bundle(folder / "fine").manifest.training.command)[1:]
    monkeypatch.chdir(folder)
    code, _, err = run(*repeated, "--out", folder / "fine again")
    assert code == 0, err
    assert id_of(folder / "fine again") == id_of(folder / "fine")


# ---- interrupted ------------------------------------------------------------------------------------------------
@pytest.fixture
def begun(folder: Path, candles: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Path, Any]]:
    """Return a long run that has written its first checkpoint, and its directory."""
    out = folder / request.node.name
    process = started("--data", candles, "--out", out, *LONG, "--workers", 2)
    try:
        wait_for(out / "training" / "member-0" / "checkpoint.json", process)
        yield out, process
    finally:
        process.kill()
        process.communicate()


def test_an_interrupted_run_saves_says_how_to_go_on_and_ends_as_if_it_had_not_been(
    begun: tuple[Path, Any], whole: Path
) -> None:
    out, process = begun
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    last = err.splitlines()[-1]
    assert last == f"sacd train: interrupted; what is done is kept; go on with `sacd train --resume {out}`"
    assert [path.name for path in out.iterdir()] == ["training"]
    trained("--resume", out)
    assert id_of(out) == id_of(whole)


def test_a_run_is_left_alone_by_others_and_after_kill_9_of_everything_ends_with_the_same_bundle(
    begun: tuple[Path, Any], whole: Path, run: Run
) -> None:
    out, process = begun
    code, _, err = run("train", "--resume", out)
    told = f"sacd train: {out}: process {process.pid} trains in this directory: wait for it, or name another\n"
    assert (code, err) == (1, told)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    for worker in workers:
        worker.kill()
    process.communicate()
    trained("--resume", out, "--workers", 1)
    assert id_of(out) == id_of(whole)


def test_a_killed_worker_is_named_the_others_finish_and_the_run_goes_on(begun: tuple[Path, Any], whole: Path) -> None:
    out, process = begun
    workers = [p for p in psutil.Process(process.pid).children() if "spawn_main" in " ".join(p.cmdline())]
    workers[0].kill()
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    last = err.splitlines()[-1]
    assert "its process was killed by SIGKILL: perhaps the memory ran out; run fewer workers" in last
    assert last.endswith(f"what is done is kept; go on with `sacd train --resume {out}`")
    finished_members = list(out.glob("training/member-*/result.safetensors"))
    assert len(finished_members) == 1
    assert not (out / "manifest.json").exists()
    trained("--resume", out)
    assert id_of(out) == id_of(whole)


# ---- resumed ----------------------------------------------------------------------------------------------------
def test_resume_refuses_options_that_decide_the_bundle(run: Run, whole: Path) -> None:
    code, _, err = run("train", "--resume", whole, "--steps", 7, "--set", "gamma=0.9", "--since", "2020-01-01")
    assert code == 2
    assert "--resume takes everything else from the run it goes on with: leave out --steps, --set, --since" in err


def test_resume_refuses_candles_that_have_changed(run: Run, candles: Path, whole: Path) -> None:
    before = candles.read_bytes()
    write_table(history(700, seed=4), candles.parent, candles.name)
    try:
        code, _, err = run("train", "--resume", whole)
    finally:
        candles.write_bytes(before)
    assert code == 1
    assert f"{candles}: its sha256 is " in err
    assert f"the run began with {hashlib.sha256(before).hexdigest()}: put that file back, or begin anew" in err


def test_resume_of_a_finished_run_tells_the_same_again(run: Run, whole: Path) -> None:
    code, out, _ = run("train", "--resume", whole, "--json")
    assert (code, json.loads(out)["id"]) == (0, id_of(whole))


def test_resume_of_nothing_is_one_line(run: Run, tmp_path: Path) -> None:
    code, out, err = run("train", "--resume", tmp_path)
    assert (code, out) == (1, "")
    assert err == f"sacd train: --resume {tmp_path}: there is no training/run.json in it: no run began here\n"


# ---- what is refused before the work ----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--members", "0"], "--members 0: give a whole number within 1 .. 100"),
        (["--members", "101"], "--members 101: give a whole number within 1 .. 100"),
        (["--steps", "0"], "--steps 0: give at least 1"),
        (["--steps", "100"], "--steps 100 end before learning begins: give more than 100"),
        (["--seed", "-1"], "--seed -1: give a whole number within 0"),
        (["--preset", "best"], "preset 'best' is not known: give one of trend, compact, quick, optimized, improved"),
        (["--reward", "fun"], "reward 'fun' is not known: give one of guide, timing"),
        (["--set", "batchsize=5"], "--set batchsize=5: unknown key 'batchsize'; nearest known: batch_size"),
        (["--set", "learning_rate=nan"], "learning_rate nan: give a number within"),
        (["--set", "gamma=0.9"], "each member's gamma is drawn from 0.92 .. 0.98: give --spread off as well"),
        (["--set", "validation.every=5", "--validation", "0"], "need scores: give --validation above 0"),
        (["--patience", "3", "--validation", "0"], "need scores: give --validation above 0"),
        (["--patience", "-3"], "patience -3: give a whole number within 0"),
        (["--algorithm", "ppo"], "--algorithm ppo: a bundle holds actors as SAC trains them"),
        (["--algorithm", "dqn"], "only those export"),
        (["--validation", "0.2", "--validation-from", "1970-05-01"], "say the same in two ways: give one of them"),
        (["--validation", "1.5"], "--validation 1.5: give a number within 0.0 .. 0.9"),
        (["--weighting", "score", "--validation", "0"], "--weighting score needs scores"),
        (["--gates", "off", "--least-score", "1"], "--gates off takes every member: leave out --least-score"),
        (["--workers", "0"], "--workers 0: give 1 .. 1000"),
        (
            ["--from", "/nowhere"],
            "/nowhere: cannot be read (No such file or directory): name the directory of a bundle",
        ),
        (["--curriculum-days", "5"], ": give --curriculum as well"),
        (["--curriculum"], "--curriculum: the candles to practise on give 0 windows of 90 days"),
        (["--ray", "nowhere"], "--ray nowhere: give host:port of the cluster's head"),
        (["--ray", "127.0.0.1:1", "--workers", "2"], "--workers are processes of this machine, --ray runs elsewhere"),
        (["--until", "1970-01-05"], "--validation 0.2 sets 1.0 of 4.0 days apart"),
        (["--until", "1970-04-25"], "candles are too few"),
        (["--since", "2030-01-01"], "no candle between --since and --until: choose a span inside 1970-01-01 .. "),
        (["--data", "/nowhere-1h.csv"], "/nowhere-1h.csv: there is no such file: correct the path"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_impossible_trainings_are_one_line_exit_1_and_nothing_is_written(
    run: Run, tmp_path: Path, data: Path, arguments: list[str], message: str
) -> None:
    code, out, err = run("train", "--data", data, "--out", tmp_path / "out", *TINY, *arguments)
    assert (code, out) == (1, "")
    assert err.startswith("sacd train: ")
    assert message in err
    assert err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == [data.name]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: --data, --out"),
        (["--data", "x"], "the following arguments are required: --out"),
        (["--data", "x", "--out", "y", "--algorithm", "td3"], "invalid choice: 'td3'"),
        (["--data", "x", "--out", "y", "--spread", "maybe"], "invalid choice: 'maybe'"),
    ],
)
def test_wrong_usage_exits_2(run: Run, arguments: list[str], message: str) -> None:
    code, out, err = run("train", *arguments)
    assert (code, out) == (2, "")
    assert message in err


def test_too_little_space_is_refused_before_anything_is_made(
    run: Run, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise TrainingError("too little space")

    monkeypatch.setattr("training.train_run.require_space", full)
    code, _, err = run("train", "--data", data, "--out", tmp_path / "out", *SHORT)
    assert (code, err) == (1, "sacd train: too little space\n")
    assert [path.name for path in tmp_path.iterdir()] == [data.name]


def test_ray_that_is_not_installed_says_so(
    run: Run, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    code, _, err = run("train", "--data", data, "--out", tmp_path / "out", *SHORT, "--ray", "127.0.0.1:6379")
    assert code == 1
    assert "install the `ray` extra of sacd, or leave --ray out" in err
