import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from daemon import models
from daemon.errors import ArtifactError
from daemon.models import list_bundles, load_bundle, load_compatible, set_current
from strategy.manifest import MANIFEST, BundleManifest
from tests.fakes.bundles import OBSERVATION_SIZE, SCHEMA, SCHEMA_HASH, make_files, random_arrays


def write(directory: Path, files: dict[str, bytes]) -> Path:
    directory.mkdir(parents=True)
    for name, data in files.items():
        (directory / name).write_bytes(data)
    return directory


def add(registry: Path, seed: int) -> str:
    """Put a bundle into the registry and return its name."""
    files = make_files({index: random_arrays(seed + index) for index in range(3)})
    name = BundleManifest.from_bytes(files[MANIFEST]).short_id
    write(registry / name, files)
    return name


def refusal(path: Path) -> str:
    with pytest.raises(ArtifactError) as refused:
        load_bundle(path)
    message = str(refused.value)
    assert str(path) in message
    assert "\n" not in message
    return message


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write(tmp_path / "bundle", make_files())


# ---- one bundle -------------------------------------------------------------------------------------------------
def test_a_directory_and_a_link_to_it_give_the_same_bundle(tmp_path: Path, bundle: Path) -> None:
    (tmp_path / "link").symlink_to("bundle")
    observation = np.ones(OBSERVATION_SIZE, np.float32)
    direct, linked = load_bundle(bundle), load_bundle(tmp_path / "link")
    assert direct.manifest == linked.manifest
    assert direct.ensemble.act_one(observation).tobytes() == linked.ensemble.act_one(observation).tobytes()


def test_the_training_folder_is_not_looked_at(bundle: Path) -> None:
    write(bundle / "training", {"replay.pkl": b"\x80\x04N."})
    assert load_bundle(bundle).manifest.members


@pytest.mark.fault(53)
def test_an_altered_member_is_refused_by_path_file_reason_and_remedy(bundle: Path) -> None:
    member = bundle / "member-1.safetensors"
    data = bytearray(member.read_bytes())
    data[-1] ^= 1
    member.write_bytes(data)
    message = refusal(bundle)
    assert "bundle file member-1.safetensors: its sha256 is " in message
    assert message.endswith(models._REMEDY)


def test_nothing_there_is_refused(tmp_path: Path) -> None:
    assert "No such file or directory" in refusal(tmp_path / "absent")
    (tmp_path / "dangling").symlink_to("absent")
    assert "No such file or directory" in refusal(tmp_path / "dangling")
    (tmp_path / "loop").symlink_to("loop")
    refusal(tmp_path / "loop")
    (tmp_path / "file").write_bytes(b"")
    assert "Not a directory" in refusal(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    assert "manifest.json is missing" in refusal(tmp_path / "empty")


def test_a_link_in_place_of_a_member_is_not_followed(tmp_path: Path, bundle: Path) -> None:
    member = bundle / "member-0.safetensors"
    member.rename(tmp_path / "elsewhere")
    member.symlink_to(tmp_path / "elsewhere")
    assert "member-0.safetensors: it is not a plain file" in refusal(bundle)


def test_a_pipe_in_place_of_a_member_does_not_hang(bundle: Path) -> None:
    member = bundle / "member-0.safetensors"
    member.unlink()
    os.mkfifo(member)
    assert "member-0.safetensors: it is not a plain file" in refusal(bundle)


def test_a_directory_in_place_of_a_member_is_refused(bundle: Path) -> None:
    (bundle / "member-9.safetensors").mkdir()
    assert "member-9.safetensors: it is not a plain file" in refusal(bundle)


@pytest.mark.parametrize(("name", "size"), [(MANIFEST, 4 * 2**20), ("member-0.safetensors", 64 * 2**20)])
def test_a_file_too_large_is_not_read(bundle: Path, name: str, size: int) -> None:
    with (bundle / name).open("r+b") as file:
        file.truncate(size + 1)
    assert f"bundle file {name}: {size + 1} bytes are more than the {size} it may have" in refusal(bundle)


def test_a_directory_of_very_many_files_is_not_read(bundle: Path) -> None:
    for index in range(110):
        (bundle / f"extra-{index}").touch()
    assert "it holds 114 files, a bundle at most 101" in refusal(bundle)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_we_may_not_read_is_named(bundle: Path) -> None:
    (bundle / "member-2.safetensors").chmod(0)
    assert "member-2.safetensors: Permission denied" in refusal(bundle)


@pytest.mark.fault(54)
def test_a_bundle_for_other_features_is_refused_with_the_difference(bundle: Path) -> None:
    expected = {"observation_size": OBSERVATION_SIZE, "action_rule_version": 1}
    load_compatible(bundle, feature_schema=SCHEMA, feature_hash=SCHEMA_HASH, **expected)
    with pytest.raises(ArtifactError, match="window is 2401 in the bundle, 48 in this program") as refused:
        load_compatible(bundle, feature_schema={**SCHEMA, "window": 48}, feature_hash="00" * 32, **expected)
    assert str(bundle) in str(refused.value)


def test_loading_a_bundle_imports_nothing_of_the_training_side() -> None:
    program = (
        "import sys, daemon.models; "
        "print(sorted({'torch', 'pandas', 'stable_baselines3', 'gymnasium', 'training'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd=root)
    assert done.stdout.strip() == "[]"


# ---- a registry -------------------------------------------------------------------------------------------------
def marks(registry: Path) -> dict[str, str]:
    return {
        listed.name: ("current" if listed.is_current else "") + ("previous" if listed.is_previous else "")
        for listed in list_bundles(registry)
    }


def test_the_current_bundle_becomes_the_previous_one(tmp_path: Path) -> None:
    first, second, third = (add(tmp_path, seed) for seed in (10, 20, 30))
    set_current(tmp_path, first)
    assert marks(tmp_path) == {first: "current", second: "", third: ""}
    assert not (tmp_path / "previous").is_symlink()
    set_current(tmp_path, second)
    assert marks(tmp_path) == {first: "previous", second: "current", third: ""}
    set_current(tmp_path, second)
    assert marks(tmp_path) == {first: "previous", second: "current", third: ""}
    set_current(tmp_path, first)
    assert marks(tmp_path) == {first: "current", second: "previous", third: ""}
    assert load_bundle(tmp_path / "current").manifest.short_id == first
    assert load_bundle(tmp_path / "previous").manifest.short_id == second


def test_links_are_relative_so_that_a_registry_can_be_moved(tmp_path: Path) -> None:
    name = add(tmp_path / "registry", 10)
    set_current(tmp_path / "registry", name)
    (tmp_path / "registry").rename(tmp_path / "moved")
    assert load_bundle(tmp_path / "moved" / "current").manifest.short_id == name


def test_a_bundle_that_cannot_be_used_does_not_become_current(tmp_path: Path) -> None:
    good, bad = add(tmp_path, 10), add(tmp_path, 20)
    set_current(tmp_path, good)
    (tmp_path / bad / "member-0.safetensors").write_bytes(b"")
    for name, words in ((bad, "member-0.safetensors"), ("0" * 16, "No such file"), ("../elsewhere", "16 hexadecimal")):
        with pytest.raises(ArtifactError, match=words):
            set_current(tmp_path, name)
    assert marks(tmp_path)[good] == "current"
    assert not (tmp_path / "previous").is_symlink()


def test_a_bundle_under_another_name_is_listed_with_its_fault(tmp_path: Path) -> None:
    name = add(tmp_path, 10)
    (tmp_path / name).rename(tmp_path / ("0" * 16))
    (listed,) = list_bundles(tmp_path)
    assert listed.manifest is None
    assert f"it holds bundle {name}; rename" in listed.fault


def test_broken_bundles_are_listed_beside_good_ones(tmp_path: Path) -> None:
    good, bad = add(tmp_path, 10), add(tmp_path, 20)
    (tmp_path / bad / MANIFEST).unlink()
    (tmp_path / ".half-written").mkdir()
    (tmp_path / "notes.txt").touch()
    listed = {entry.name: entry for entry in list_bundles(tmp_path)}
    assert set(listed) == {good, bad}
    assert listed[good].manifest is not None
    assert listed[good].fault == ""
    assert listed[bad].manifest is None
    assert "manifest.json is missing" in listed[bad].fault


def test_a_registry_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="absent: No such file or directory; name a directory of bundles"):
        list_bundles(tmp_path / "absent")


@pytest.mark.fault(42)
def test_whoever_reads_during_a_change_finds_a_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = add(tmp_path, 10), add(tmp_path, 20)
    set_current(tmp_path, first)
    seen = []
    for name in ("symlink", "replace", "fsync"):
        original = getattr(os, name)

        def watched(*arguments: object, _original: object = original, **options: object) -> object:
            seen.append((tmp_path / "current").resolve().name)
            result = _original(*arguments, **options)  # type: ignore[operator]
            seen.append((tmp_path / "current").resolve().name)
            return result

        monkeypatch.setattr(os, name, watched)
    set_current(tmp_path, second)
    assert len(seen) == 12
    assert seen == sorted(seen, key=[first, second].index)
    assert set(seen) == {first, second}


@pytest.mark.fault(42)
@pytest.mark.parametrize("step", range(1, 7))
def test_a_change_that_is_cut_short_leaves_one_bundle_current(tmp_path: Path, step: int) -> None:
    first, second = add(tmp_path, 10), add(tmp_path, 20)
    set_current(tmp_path, first)
    program = f"""
import os, pathlib
from daemon.models import set_current
left = {step}
def dying(call):
    def counted(*arguments, **options):
        global left
        left -= 1
        if left == 0:
            os._exit(9)
        return call(*arguments, **options)
    return counted
for name in ("symlink", "replace", "fsync"):
    setattr(os, name, dying(getattr(os, name)))
set_current(pathlib.Path({str(tmp_path)!r}), {second!r})
"""
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", program], check=False, cwd=root).returncode == 9
    current = load_bundle(tmp_path / "current").manifest.short_id
    assert current == (second if step == 6 else first)
    assert {listed.name for listed in list_bundles(tmp_path)} == {first, second}
    set_current(tmp_path, second)
    assert load_bundle(tmp_path / "current").manifest.short_id == second
    assert stat.S_ISLNK((tmp_path / "current").lstat().st_mode)
