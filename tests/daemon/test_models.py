import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from daemon import models
from daemon.errors import ArtifactError
from daemon.models import (
    find_bundle,
    list_bundles,
    load_bundle,
    load_compatible,
    resolve_name,
    serving_names,
    set_current,
    swap_back,
)
from strategy.manifest import MANIFEST
from tests.daemon.registries import add, lay, links
from tests.fakes.bundles import OBSERVATION_SIZE, SCHEMA, SCHEMA_HASH, make_files
from tests.fakes.serving import write_bundle


def write(directory: Path, files: dict[str, bytes]) -> Path:
    directory.mkdir(parents=True)
    for name, data in files.items():
        (directory / name).write_bytes(data)
    return directory


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


# ---- names ------------------------------------------------------------------------------------------------------
def test_the_serving_names_are_what_the_links_lead_to_however_they_were_made(tmp_path: Path) -> None:
    first, second = add(tmp_path / "registry", 10), add(tmp_path / "registry", 20)
    registry = tmp_path / "registry"
    assert serving_names(registry) == ("", "")
    for target in (first, f"{first}/", f"./{first}", f"../registry/{first}", str(registry / first)):
        lay(registry, {"current": target, "previous": second})
        assert serving_names(registry) == (first, second), target
    (tmp_path / "moved").symlink_to("registry")
    assert serving_names(tmp_path / "moved") == (first, second)


def test_a_link_that_leads_to_no_bundle_of_the_registry_names_none(tmp_path: Path) -> None:
    name = add(tmp_path / "registry", 10)
    shutil.copytree(tmp_path / "registry" / name, tmp_path / "elsewhere" / name)
    registry = tmp_path / "registry"
    for target in (f"../elsewhere/{name}", "..", "current", "loop/x", "notes"):
        lay(registry, {"current": target, "loop": "loop"})
        assert serving_names(registry) == ("", ""), target
    assert serving_names(tmp_path / "absent") == ("", "")


def test_nothing_comes_before_itself(tmp_path: Path) -> None:
    name = add(tmp_path, 10)
    lay(tmp_path, {"current": name, "previous": name})
    assert serving_names(tmp_path) == (name, "")


def test_the_beginning_of_a_name_is_enough_where_it_is_the_only_one(tmp_path: Path) -> None:
    for name in ("0a11111111111111", "0a22222222222222", "0b33333333333333", "notes"):
        (tmp_path / name).mkdir()
    assert resolve_name(tmp_path, "0b") == "0b33333333333333"
    assert resolve_name(tmp_path, "0A2") == "0a22222222222222"
    assert resolve_name(tmp_path, "0a11111111111111") == "0a11111111111111"
    both = "0a11111111111111, 0a22222222222222"
    with pytest.raises(ArtifactError, match=f"'0a' of registry {tmp_path} could be {both}; give more digits"):
        resolve_name(tmp_path, "0a")
    for prefix in ("c", "", "notes", "../0b33333333333333", "0b333333333333330"):
        with pytest.raises(ArtifactError, match=f"begins with {prefix!r}; there are {both}, 0b33333333333333"):
            resolve_name(tmp_path, prefix)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArtifactError, match="begins with 'c'; it holds none"):
        resolve_name(tmp_path / "empty", "c")


def test_a_bundle_is_found_when_this_program_can_serve_it_on_these_candles(tmp_path: Path) -> None:
    name = write_bundle(tmp_path, timeframe="4h").name
    assert find_bundle(tmp_path, name).manifest.short_id == name
    assert find_bundle(tmp_path, name, timeframe="4h").manifest.short_id == name
    with pytest.raises(ArtifactError, match=f"{name}: trained on 4h candles, it would be given those of 1h"):
        find_bundle(tmp_path, name, timeframe="1h")
    (tmp_path / name).rename(tmp_path / ("0" * 16))
    with pytest.raises(ArtifactError, match=f"it holds bundle {name}; rename the directory to that"):
        find_bundle(tmp_path, "0" * 16)
    for wrong in ("current", f"../{name}", "", name[:8]):
        with pytest.raises(ArtifactError, match="is not 16 hexadecimal digits"):
            find_bundle(tmp_path, wrong)


# ---- going back -------------------------------------------------------------------------------------------------
def test_going_back_lets_the_two_change_places(tmp_path: Path) -> None:
    first, second = add(tmp_path, 10), add(tmp_path, 20)
    set_current(tmp_path, first)
    set_current(tmp_path, second)
    assert swap_back(tmp_path) == first
    assert links(tmp_path) == {"current": first, "previous": second}
    assert swap_back(tmp_path) == second
    assert links(tmp_path) == {"current": second, "previous": first}


def test_where_nothing_served_before_there_is_no_going_back(tmp_path: Path) -> None:
    only = add(tmp_path, 10)
    with pytest.raises(ArtifactError, match="no ensemble served before the present one; `sacd models promote"):
        swap_back(tmp_path)
    lay(tmp_path, {"current": only, "previous": only})
    with pytest.raises(ArtifactError, match=f"no ensemble served before {only}; `sacd models"):
        swap_back(tmp_path)
    assert links(tmp_path) == {"current": only, "previous": only}


def test_nobody_goes_back_to_a_bundle_that_cannot_be_used(tmp_path: Path) -> None:
    first, second = add(tmp_path, 10), add(tmp_path, 20)
    before = {"current": second, "previous": first}
    lay(tmp_path, before)
    (tmp_path / first / "member-0.safetensors").write_bytes(b"")
    with pytest.raises(ArtifactError, match=r"member-0\.safetensors: its sha256 is "):
        swap_back(tmp_path)
    shutil.rmtree(tmp_path / first)
    with pytest.raises(ArtifactError, match=f"{first}: .*No such file or directory"):
        swap_back(tmp_path)
    assert links(tmp_path) == before


def test_a_bundle_that_this_program_cannot_serve_does_not_become_current(tmp_path: Path) -> None:
    good = add(tmp_path, 10)
    write(tmp_path / "other", make_files())
    other = load_bundle(tmp_path / "other").manifest.short_id
    (tmp_path / "other").rename(tmp_path / other)
    set_current(tmp_path, good)
    with pytest.raises(ArtifactError, match="reads other features than this program makes"):
        set_current(tmp_path, other)
    assert links(tmp_path) == {"current": good}
