import itertools
import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial, partialmethod
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from tests.training.members import (
    PLANS,
    PRACTICE,
    SCORED,
    files_up_to,
    last_of,
    started,
    stopping_after,
    told_of,
    trained,
)
from training import member_run
from training.checkpoint import INDEX, drop_replay
from training.errors import Interrupted, TrainingError
from training.member import train_member

KILLS = 3


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, dict[str, Any]]]:
    """Folder and result of the uninterrupted run of a plan, each trained once."""
    done: dict[str, tuple[Path, dict[str, Any]]] = {}

    def of(name: str) -> tuple[Path, dict[str, Any]]:
        if name not in done:
            folder = tmp_path_factory.mktemp(name)
            done[name] = folder, told_of(trained(folder, PLANS[name]))
        return done[name]

    return of


def stopped(folder: Path, name: str = "sac", after: int = 2) -> str:
    """Train until `should_stop` says so and return what was said; the checkpoint lies in `folder`."""
    with pytest.raises(Interrupted) as told:
        trained(folder, PLANS[name], should_stop=stopping_after(after))
    return str(told.value)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "checkpoint").iterdir()}


# ---- exact resume -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", PLANS)
def test_a_run_stopped_again_and_again_ends_as_an_uninterrupted_one(name: str, whole: Any, tmp_path: Path) -> None:
    folder, result = whole(name)
    stops = 0
    while True:
        try:
            resumed = trained(tmp_path, PLANS[name], should_stop=stopping_after(1))
        except Interrupted:
            stops += 1
        else:
            break
    assert stops >= 2
    assert told_of(resumed) == result
    assert last_of(tmp_path) == last_of(folder)


@pytest.mark.parametrize("name", ["sac-wrapped", "sac-gsde", "sac-early"])
def test_a_run_killed_at_random_moments_ends_as_an_uninterrupted_one(name: str, whole: Any, tmp_path: Path) -> None:
    folder, result = whole(name)
    rng = random.Random(name)
    for _ in range(KILLS):
        process, steps = started(tmp_path, name)
        goal, wait_s = rng.uniform(50, 0.9 * result["steps"]), rng.uniform(0.0, 0.05)
        while steps.value < goal and process.is_alive():
            time.sleep(0.001)  # another process's steps: there is no clock to fake
        time.sleep(wait_s)
        process.kill()
        process.join()
    assert told_of(trained(tmp_path, PLANS[name])) == result
    assert last_of(tmp_path) == last_of(folder)


def _die_at(count: int) -> None:
    """Kill this process when it makes its `count`-th change durable or visible."""
    left = [count]

    def dying(real: Callable[..., Any], *args: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args)

    os.fsync = partial(dying, os.fsync)
    Path.replace = partialmethod(_replaced, partial(dying, Path.replace))  # type: ignore[method-assign,assignment]


def _replaced(path: Path, real: Callable[..., Any], target: Path) -> Any:
    return real(path, target)


@pytest.mark.parametrize("moment", range(9))
def test_a_run_killed_while_it_writes_its_second_checkpoint_ends_as_an_uninterrupted_one(
    moment: int, whole: Any, tmp_path: Path
) -> None:
    # A checkpoint of SAC is three files, each synced, renamed, and its directory synced: nine moments. No score comes
    # before the second one, at step 184 (every 90 steps, after a rollout of 8): this plan is scored first at 400.
    folder, result = whole("sac-late")
    process, _ = started(tmp_path, "sac-late", partial(_die_at, 9 + moment))
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert json.loads((tmp_path / INDEX).read_bytes())["steps"] == (96 if moment < 8 else 184)
    assert told_of(trained(tmp_path, PLANS["sac-late"])) == result
    assert last_of(tmp_path) == last_of(folder)


def test_the_same_seed_gives_the_same_member_and_another_seed_another(whole: Any, tmp_path: Path) -> None:
    _, result = whole("sac-gsde")
    assert told_of(trained(tmp_path / "again", PLANS["sac-gsde"])) == result
    other = told_of(trained(tmp_path / "other", replace(PLANS["sac-gsde"], seed=8)))
    assert all(other["weights"][name] != weights for name, weights in result["weights"].items() if "bias" not in name)


# ---- what is written --------------------------------------------------------------------------------------------
def test_a_checkpoint_writes_only_the_transitions_since_the_last_one(tmp_path: Path) -> None:
    stopped(tmp_path, after=1)
    first = files(tmp_path)
    stopped(tmp_path, after=1)
    second = files(tmp_path)
    replays = {name for name in first if name.startswith("replay")}
    assert replays
    assert all(second[name] == first[name] for name in replays)
    ends = [(file["first"], file["end"]) for file in json.loads((tmp_path / INDEX).read_bytes())["replay"]]
    assert ends[0][0] == 0
    assert all(end == first for (_, end), (first, _) in itertools.pairwise(ends))


def test_a_full_replay_buffer_takes_no_more_space_than_twice_its_size(whole: Any) -> None:
    folder, _ = whole("sac-wrapped")  # 75 rows of two accounts; 450 were added
    kept = json.loads((folder / INDEX).read_bytes())["replay"]
    assert kept[0]["first"] > 0
    assert 75 <= kept[-1]["end"] - kept[0]["first"] <= 150
    assert set(files(folder)) == {file["name"] for file in kept} | {f"state-{_serial(folder):06d}.safetensors"}


def _serial(folder: Path) -> int:
    return int(json.loads((folder / INDEX).read_bytes())["serial"])


def test_nothing_in_the_folder_is_a_pickle(whole: Any) -> None:
    folder, _ = whole("sac-gsde")
    for path in folder.rglob("*.safetensors"):
        with safe_open(path, framework="np") as file:  # the format has no place for code
            assert len(list(file.keys())) > 5
    suffixes = {path.suffix for path in folder.rglob("*") if path.is_file() and "tfevents" not in path.name}
    assert suffixes == {".safetensors", ".json", ".jsonl"}


def test_a_finished_member_comes_back_at_once_and_also_without_its_replay_buffer(whole: Any, tmp_path: Path) -> None:
    folder, result = whole("sac")
    shutil.copytree(folder, tmp_path / "finished")
    told: list[int] = []
    again = trained(tmp_path / "finished", PLANS["sac"], tell=lambda progress: told.append(progress.steps))
    assert (told_of(again), told) == (result, [900])
    drop_replay(tmp_path / "finished")
    assert [name for name in files(tmp_path / "finished") if name.startswith("replay")] == []
    assert told_of(trained(tmp_path / "finished", PLANS["sac"])) == result


def test_a_member_that_is_not_finished_keeps_its_replay_buffer(tmp_path: Path) -> None:
    stopped(tmp_path)
    before = files(tmp_path)
    with pytest.raises(TrainingError, match=r"checkpoint\.json: the member is not finished and needs its replay"):
        drop_replay(tmp_path)
    assert files(tmp_path) == before


# ---- what is refused --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"steps": 901}, "steps was 900, is 901"),
        ({"settings": replace(PLANS["sac"].settings, gamma=0.5)}, "gamma was 0.997, is 0.5"),
        ({"settings": replace(PLANS["sac"].settings, net_arch=(8, 8))}, r"net_arch was \[8\], is \[8, 8\]"),
        ({"validation": None}, "validation.every was 150, is None"),
    ],
    ids=["steps", "gamma", "net_arch", "validation"],
)
def test_a_checkpoint_of_another_plan_is_refused_naming_what_differs(
    changes: dict[str, Any], named: str, tmp_path: Path
) -> None:
    stopped(tmp_path)
    before = files(tmp_path)
    with pytest.raises(TrainingError, match=f"is of another run: .*{named}.*remove the folder"):
        trained(tmp_path, replace(PLANS["sac"], **changes))
    assert files(tmp_path) == before


def test_a_checkpoint_of_other_candles_is_refused(tmp_path: Path) -> None:
    stopped(tmp_path)
    for practice, scored, named in (([SCORED], [SCORED], "candles of BTC"), ([PRACTICE], [], "validation candles")):
        with pytest.raises(TrainingError, match=f"of another run: {named}"):
            train_member(practice, scored, PLANS["sac"], tmp_path)


def test_a_checkpoint_of_other_libraries_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped(tmp_path)
    monkeypatch.setattr(member_run.importlib.metadata, "version", lambda name: "0.0")
    with pytest.raises(TrainingError, match=r"version of torch was .*, is 0\.0"):
        trained(tmp_path, PLANS["sac"])


def _cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _flip(data: bytes) -> bytes:
    return data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]


@pytest.mark.parametrize("change", [_cut, _flip], ids=["cut short", "one bit changed"])
@pytest.mark.parametrize("part", ["state", "replay"])
def test_a_damaged_file_is_refused_naming_it(part: str, change: Callable[[bytes], bytes], tmp_path: Path) -> None:
    stopped(tmp_path)
    path = next((tmp_path / "checkpoint").glob(f"{part}-*"))
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(TrainingError, match=f"{path.name}: part of the checkpoint is damaged.*remove the folder"):
        trained(tmp_path, PLANS["sac"])


def test_a_missing_file_is_refused_naming_it(tmp_path: Path) -> None:
    stopped(tmp_path)
    next((tmp_path / "checkpoint").glob("replay-*")).unlink()
    with pytest.raises(TrainingError, match=r"replay-.*: part of the checkpoint cannot be read: .*No such file"):
        trained(tmp_path, PLANS["sac"])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"", "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
        (b"[1]", "no checkpoint of this version"),
        (b'{"format": "sacd checkpoint 0"}', "no checkpoint of this version"),
        (b'{"format": "sacd checkpoint 1"}', "changed after it was written"),
    ],
    ids=["empty", "not text", "not ours", "another version", "without a checksum"],
)
def test_a_foreign_checkpoint_is_refused(text: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / INDEX).write_bytes(text)
    with pytest.raises(TrainingError, match=rf"checkpoint\.json: .*{told}.*remove the folder to begin anew"):
        trained(tmp_path, PLANS["sac"])


def test_an_edited_checkpoint_is_refused(tmp_path: Path) -> None:
    stopped(tmp_path)
    index = json.loads((tmp_path / INDEX).read_bytes())
    (tmp_path / INDEX).write_text(json.dumps({**index, "added": 1}))
    with pytest.raises(TrainingError, match="the checkpoint was changed after it was written"):
        trained(tmp_path, PLANS["sac"])


# ---- a full disk ------------------------------------------------------------------------------------------------
def test_a_full_disk_leaves_the_checkpoint_before_whole(whole: Any, tmp_path: Path) -> None:
    stopped(tmp_path)
    steps = json.loads((tmp_path / INDEX).read_bytes())["steps"]
    before = (tmp_path / INDEX).read_bytes(), files(tmp_path)
    with files_up_to(8_000), pytest.raises(TrainingError) as told:
        trained(tmp_path, PLANS["sac"])
    text = str(told.value)
    assert "cannot be written" in text
    assert f"the checkpoint of step {steps} is whole: run again to go on from there" in text
    assert ((tmp_path / INDEX).read_bytes(), files(tmp_path)) == before
    folder, result = whole("sac")
    assert told_of(trained(tmp_path, PLANS["sac"])) == result
    assert last_of(tmp_path) == last_of(folder)
