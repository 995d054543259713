import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
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
from daemon.registry_links import alone
from strategy.manifest import MANIFEST
from tests.crash.file_operations import Moment, Operation, nothing, watched
from tests.fakes.bundles import OBSERVATION_SIZE, SCHEMA, SCHEMA_HASH, make_files
from tests.fakes.serving import write_bundle


def write(directory: Path, files: dict[str, bytes]) -> Path:
    directory.mkdir(parents=True)
    for name, data in files.items():
        (directory / name).write_bytes(data)
    return directory


def add(registry: Path, seed: int) -> str:
    """Put a bundle that this program can serve into the registry and return its name."""
    return write_bundle(registry, seed=seed, members=2).name


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
def links(registry: Path) -> dict[str, str]:
    return {path.name: str(path.readlink()) for path in registry.iterdir() if path.is_symlink()}


def lay(registry: Path, wanted: Mapping[str, str]) -> None:
    for path in registry.iterdir():
        if path.is_symlink():
            path.unlink()
    for link, target in wanted.items():
        (registry / link).symlink_to(target)


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
    with pytest.raises(ArtifactError, match="no bundle served before the present one; name one of `sacd models list`"):
        swap_back(tmp_path)
    lay(tmp_path, {"current": only, "previous": only})
    with pytest.raises(ArtifactError, match=f"no bundle served before {only}; name one"):
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


# ---- what stands in the way of a change ---------------------------------------------------------------------------
@pytest.mark.parametrize("link", ["current", "previous"])
@pytest.mark.parametrize("make", [Path.mkdir, Path.touch], ids=["directory", "file"])
def test_something_else_in_the_place_of_a_link_is_left_alone_and_named(
    tmp_path: Path, link: str, make: Callable[[Path], None]
) -> None:
    first, second = add(tmp_path, 10), add(tmp_path, 20)
    before = {"current": first, "previous": second}
    del before[link]
    lay(tmp_path, before)
    make(tmp_path / link)
    assert serving_names(tmp_path) == (before.get("current", ""), before.get("previous", ""))
    with pytest.raises(ArtifactError, match=f"{tmp_path / link}: it is not a link; give it another name"):
        set_current(tmp_path, second)
    assert links(tmp_path) == before


def test_a_bundle_that_was_copied_to_the_name_current_is_listed_with_what_to_do(tmp_path: Path) -> None:
    name = add(tmp_path, 10)
    (tmp_path / name).rename(tmp_path / "current")
    (listed,) = list_bundles(tmp_path)
    assert (listed.name, listed.manifest, listed.is_current) == ("current", None, False)
    assert f"it holds bundle {name}; rename the directory to that" in listed.fault


def test_while_another_process_changes_the_links_nobody_else_does(tmp_path: Path) -> None:
    first, second = add(tmp_path, 10), add(tmp_path, 20)
    lay(tmp_path, {"current": first, "previous": second})
    with alone(tmp_path):
        for change in (lambda: set_current(tmp_path, second), lambda: swap_back(tmp_path)):
            with pytest.raises(ArtifactError, match="another process is changing its links; try again"):
                change()
        assert serving_names(tmp_path) == (first, second), "reading is for everybody"
    set_current(tmp_path, second)


@pytest.mark.fault(42)
def test_two_that_change_the_links_at_once_never_mix_them(tmp_path: Path) -> None:
    names = [add(tmp_path, seed) for seed in (10, 20)]
    set_current(tmp_path, names[0])
    faults: list[str] = []

    def change(name: str) -> None:
        for _ in range(30):
            while not _is_changed(tmp_path, name, faults):
                pass
            load_bundle(tmp_path / "current")

    with ThreadPoolExecutor() as pool:
        list(pool.map(change, names))
    assert all("another process is changing its links" in fault for fault in faults)
    assert sorted(links(tmp_path)) == ["current", "previous"]
    assert sorted(links(tmp_path).values()) == sorted(names)


def _is_changed(registry: Path, name: str, faults: list[str]) -> bool:
    try:
        set_current(registry, name)
    except ArtifactError as error:
        faults.append(str(error))
        return False
    return True


def test_a_registry_that_is_none_is_told_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for registry, words in ((tmp_path / "absent", "No such file"), (tmp_path / "file", "Not a directory")):
        with pytest.raises(ArtifactError, match=f"registry {registry}: {words}.*; name a directory of bundles"):
            set_current(registry, "0" * 16)


# ---- disks that refuse --------------------------------------------------------------------------------------------
REFUSALS = {
    "full": (errno.ENOSPC, lambda operation: operation.changes),
    "read-only": (errno.EROFS, lambda operation: operation.changes),
    "without links or renames": (errno.EPERM, lambda operation: operation.changes),
    "broken": (errno.EIO, lambda _operation: True),
}
Change = Callable[[Path], object]


@pytest.fixture(params=["set_current", "swap_back"])
def change(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Change, Mapping[str, str], Mapping[str, str]]:
    """What is done, and the links before and after it."""
    first, second, third = (add(tmp_path, seed) for seed in (10, 20, 30))
    before = {"current": first, "previous": second}
    lay(tmp_path, before)
    if request.param == "swap_back":
        return swap_back, before, {"current": second, "previous": first}
    return lambda registry: set_current(registry, third), before, {"current": third, "previous": first}


def refusing(code: int, concerns: Callable[[Operation], bool], first: int, last: int) -> Moment:
    """Return what lets the operations `first` to `last` fail, of those that the refusal concerns."""

    def before(index: int, operation: Operation) -> None:
        if first <= index <= last and concerns(operation):
            raise OSError(code, os.strerror(code), operation.arguments[0])

    return before


def attempted(change: Change, registry: Path, before: Moment = nothing) -> tuple[list[str], str]:
    """Return the calls it came to and what it said, "" when it succeeded."""
    message = ""
    with watched(before) as made:
        try:
            change(registry)
        except ArtifactError as error:
            message = str(error)
    return [operation.call for operation in made], message


@pytest.mark.parametrize("refusal", REFUSALS)
def test_one_refusal_of_the_disk_at_any_operation_changes_nothing_and_is_one_line(
    tmp_path: Path, change: tuple[Change, Mapping[str, str], Mapping[str, str]], refusal: str
) -> None:
    act, before, after = change
    code, concerns = REFUSALS[refusal]
    whole, message = attempted(act, tmp_path)
    assert (message, links(tmp_path)) == ("", after)
    refused = 0
    for index in range(len(whole)):
        lay(tmp_path, before)
        calls, message = attempted(act, tmp_path, refusing(code, concerns, index, index))
        if message:
            refused += 1
            assert os.strerror(code) in message
            assert "\n" not in message
            assert links(tmp_path) == before, f"operation {index}"
            assert calls[-1] == "fsync" or not {"symlink", "replace"} & set(calls[:index]), "put back for good"
        else:
            assert links(tmp_path) == after
    assert refused >= (len(whole) if refusal == "broken" else 8)


@pytest.mark.fault(42)
@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_disk_that_goes_on_refusing_leaves_the_old_or_the_new_one_says_which_and_a_repeat_heals_it(
    tmp_path: Path, change: tuple[Change, Mapping[str, str], Mapping[str, str]], refusal: str
) -> None:
    act, before, after = change
    code, concerns = REFUSALS[refusal]
    whole, _ = attempted(act, tmp_path)
    pairs = [(before["current"], before["previous"]), (after["current"], after["previous"])]
    stuck = set()
    for index in range(len(whole)):
        lay(tmp_path, before)
        _, message = attempted(act, tmp_path, refusing(code, concerns, index, 10_000))
        assert os.strerror(code) in message
        assert "\n" not in message
        pair = serving_names(tmp_path)
        assert pair in pairs
        if pair == pairs[1]:
            assert "nor put back: " in message
            assert f"`current` leads to {pair[0]};" in message
        stuck.add(pair)
        load_bundle(tmp_path / "current")
        if links(tmp_path) != after:
            act(tmp_path)
        assert links(tmp_path) == after
    assert stuck == set(pairs)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 100 names, where this user may mount one."""
    mounted = tmp_path / "small"
    mounted.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m,nr_inodes=100", "tmpfs", str(mounted)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small file system")
    yield mounted
    subprocess.run(["umount", str(mounted)], check=True)


def test_a_real_disk_that_is_full_or_read_only_is_told_and_changes_nothing(small_disk: Path) -> None:
    first, second = add(small_disk, 10), add(small_disk, 20)
    set_current(small_disk, first)
    left = os.statvfs(small_disk).f_ffree
    for index in range(left):
        (small_disk / str(index)).touch()
    before = links(small_disk)
    with pytest.raises(ArtifactError, match=r"its links cannot be changed: .*No space left on device; see that it can"):
        set_current(small_disk, second)
    assert links(small_disk) == before
    (small_disk / "0").unlink()
    (small_disk / "1").unlink()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(ArtifactError, match=r"its links cannot be changed: .*Read-only file system; see that it can"):
        set_current(small_disk, second)
    set_current(small_disk, first)
    assert links(small_disk) == before
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    set_current(small_disk, second)
    assert links(small_disk) == {"current": second, "previous": first}


# ---- those who read meanwhile -------------------------------------------------------------------------------------
@pytest.mark.fault(42)
def test_whoever_reads_during_a_change_finds_a_bundle(tmp_path: Path) -> None:
    first, second = add(tmp_path, 10), add(tmp_path, 20)
    set_current(tmp_path, first)
    seen = []

    def look(_index: int, _operation: Operation) -> None:
        seen.append((tmp_path / "current").resolve().name)

    with watched(look, look) as made:
        set_current(tmp_path, second)
    assert len(seen) == 2 * len(made) > 20
    assert seen == sorted(seen, key=[first, second].index)
    assert set(seen) == {first, second}


def test_what_is_loaded_through_the_link_is_one_bundle_also_when_the_link_moves_on_meanwhile(tmp_path: Path) -> None:
    first, second = add(tmp_path, 10), add(tmp_path, 20)
    set_current(tmp_path, first)
    whole = load_bundle(tmp_path / first).manifest
    with watched() as made:
        load_bundle(tmp_path / "current")
    for moment in range(len(made)):
        lay(tmp_path, {"current": first})

        def move(index: int, _operation: Operation, moment: int = moment) -> None:
            if index == moment:
                (tmp_path / "next").symlink_to(second)
                (tmp_path / "next").replace(tmp_path / "current")

        with watched(move):
            assert load_bundle(tmp_path / "current").manifest == whole
        assert links(tmp_path) == {"current": second}
