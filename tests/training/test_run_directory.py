import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from daemon.models import load_bundle
from strategy.manifest import MANIFEST, BundleManifest
from tests.training.markets import write_ensemble
from training.bundles import read_serving_bundle
from training.errors import TrainingError
from training.run_directory import RunDirectory, place_of, refuse_taken, require_space

PLAN = {"members": 3}


def written(place: Path) -> BundleManifest:
    """Write a bundle as `write_bundle` would."""
    write_ensemble(place)
    return BundleManifest.from_bytes((place / MANIFEST).read_bytes())


# ---- whose directory it is --------------------------------------------------------------------------------------
def test_a_run_is_made_whole_with_its_plan(tmp_path: Path) -> None:
    with RunDirectory.create(tmp_path / "a" / "run", PLAN) as directory:
        assert json.loads((directory.training / "run.json").read_text()) == {"format": "sacd run 1", "members": 3}
    reopened, plan = RunDirectory.open(tmp_path / "a" / "run")
    with reopened:
        assert plan == PLAN


def test_two_runs_in_one_directory_are_refused_naming_the_other_process(tmp_path: Path) -> None:
    with RunDirectory.create(tmp_path / "run", PLAN):
        message = rf"run: process {os.getpid()} trains in this directory: wait for it, or name another"
        with pytest.raises(TrainingError, match=message):
            RunDirectory.open(tmp_path / "run")
    RunDirectory.open(tmp_path / "run")[0].__exit__(None, None, None)


def test_a_second_run_into_the_same_place_is_told_to_resume(tmp_path: Path) -> None:
    RunDirectory.create(tmp_path / "run", PLAN).__exit__(None, None, None)
    with pytest.raises(TrainingError, match=r"holds a run already: go on with it by `sacd train --resume .*/run`"):
        RunDirectory.create(tmp_path / "run", PLAN)


def test_a_run_that_has_not_begun_leaves_no_trace(tmp_path: Path) -> None:
    RunDirectory.create(tmp_path / "new", PLAN).discard()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no training/run.json in it: no run began here"),
        ("{", "it cannot be read .*: begin anew elsewhere"),
        ('{"format": "sacd run 99"}', r"it is not of this version \(sacd run 1\): begin anew elsewhere"),
        ("[]", "it is not of this version"),
    ],
)
def test_what_is_no_run_cannot_be_resumed(tmp_path: Path, content: str | None, message: str) -> None:
    (tmp_path / "training").mkdir()
    if content is not None:
        (tmp_path / "training" / "run.json").write_text(content)
    with pytest.raises(TrainingError, match=message):
        RunDirectory.open(tmp_path)


def taken(directory: Path, how: str) -> Path:
    out = directory / "out"
    match how:
        case "file":
            out.write_text("mine")
        case "full":
            out.mkdir()
            (out / "mine").write_text("mine")
        case "dangling link":
            out.symlink_to(directory / "nowhere")
        case "link to an empty directory":
            (directory / "empty").mkdir()
            out.symlink_to(directory / "empty")
    return out


@pytest.mark.parametrize("how", ["file", "full", "dangling link", "link to an empty directory"])
def test_a_place_that_is_taken_is_refused(tmp_path: Path, how: str) -> None:
    out = taken(tmp_path, how)
    before = sorted(tmp_path.rglob("*"))
    for refuse in (refuse_taken, lambda path: RunDirectory.create(path, PLAN)):
        with pytest.raises(TrainingError, match=r"--out .*out is taken: name a directory that does not exist yet"):
            refuse(out)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_place_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(TrainingError, match=r"--out .*: Not a directory; name a place that can be written"):
        refuse_taken(tmp_path / "file" / "out")
    with pytest.raises(TrainingError, match=r"--out /proc/.*; name a place that can be written"):
        refuse_taken(Path("/proc/self/nowhere/out"))


def test_an_empty_directory_and_one_in_new_folders_are_fine(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refuse_taken(tmp_path / "empty")
    refuse_taken(tmp_path / "a" / "b" / "c")
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_too_little_space_is_told_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []

    def disk_usage(path: Path) -> Any:
        asked.append(path)
        return SimpleNamespace(free=2**30)

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    require_space(tmp_path / "a" / "b", 2**30)
    with pytest.raises(TrainingError, match=r"take up to 2.5 GiB, 1.0 GiB are free: free some, .* smaller buffer_size"):
        require_space(tmp_path / "a" / "b", 5 * 2**29)
    assert asked == [tmp_path, tmp_path] == [place_of(tmp_path / "a" / "b")] * 2


# ---- the bundle appears complete or not at all ------------------------------------------------------------------
def test_a_published_bundle_can_be_read_by_training_and_daemon_beside_its_run(tmp_path: Path) -> None:
    with RunDirectory.create(tmp_path / "run", PLAN) as directory:
        directory.keep_result(0, b"result")
        manifest = directory.publish(written)
        assert sorted(path.name for path in directory.training.iterdir()) == ["lock", "member-0", "run.json"]
    assert read_serving_bundle(tmp_path / "run").manifest == manifest
    assert load_bundle(tmp_path / "run").manifest == manifest


def test_before_the_manifest_lies_there_nothing_reads_as_a_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Look at the directory at each rename: only after the last is it a bundle, and then a whole one."""
    seen: list[str] = []
    honest = Path.replace

    def replace(self: Path, target: Path) -> Path:
        moved = honest(self, target)
        if target.name != MANIFEST:
            with pytest.raises(TrainingError, match=r"manifest\.json is missing"):
                read_serving_bundle(tmp_path / "run")
        seen.append(target.name)
        return moved

    with RunDirectory.create(tmp_path / "run", PLAN) as directory:
        monkeypatch.setattr(Path, "replace", replace)
        manifest = directory.publish(written)
    assert seen == ["member-0.safetensors", "member-1.safetensors", "member-2.safetensors", MANIFEST]
    assert read_serving_bundle(tmp_path / "run").manifest == manifest


def test_a_publication_that_was_killed_is_finished_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest, moves = Path.replace, []

    def replace(self: Path, target: Path) -> Path:
        moves.append(target)
        if len(moves) == 2:
            raise KeyboardInterrupt  # anything that ends it here
        return honest(self, target)

    with RunDirectory.create(tmp_path / "run", PLAN) as directory:
        with monkeypatch.context() as patched:
            patched.setattr(Path, "replace", replace)
            with pytest.raises(KeyboardInterrupt):
                directory.publish(written)
        manifest = directory.publish(written)
    assert read_serving_bundle(tmp_path / "run").manifest.id == manifest.id
    assert not (tmp_path / "run" / "training" / "bundle").exists()


def test_a_full_disk_while_publishing_is_one_clear_error(tmp_path: Path) -> None:
    def full(_: Path) -> BundleManifest:
        raise OSError(28, "No space left on device")

    with (
        RunDirectory.create(tmp_path / "run", PLAN) as directory,
        pytest.raises(TrainingError, match="the bundle cannot be written: No space left on device"),
    ):
        directory.publish(full)


def test_results_are_kept_per_member(tmp_path: Path) -> None:
    with RunDirectory.create(tmp_path / "run", PLAN) as directory:
        directory.keep_result(1, b"one")
        assert [directory.result_of(index) for index in (0, 1)] == [None, b"one"]
