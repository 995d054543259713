"""The links of a registry change in one step or not at all, whatever stands in the way."""

import errno
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from daemon.errors import ArtifactError
from daemon.models import list_bundles, load_bundle, serving_names, set_current, swap_back
from daemon.registry_links import alone
from tests.crash.file_operations import Moment, Operation, nothing, watched
from tests.daemon.registries import add, lay, links


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
