import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from daemon.models import list_bundles, load_bundle
from tests.training.markets import write_ensemble
from tests.training.runs import ROOT
from training.bundle_files import into_registry, remove_left_overs, write_directory
from training.bundles import read_bundle
from training.errors import BundleError


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Return a bundle as a run leaves it, with what it was made from below."""
    made = write_ensemble(tmp_path / "run")
    (made / "training").mkdir()
    (made / "training" / "report.json").write_text("{}")
    return made


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


def test_a_registry_gets_the_bundle_under_its_id_and_not_what_it_was_made_from(bundle: Path, tmp_path: Path) -> None:
    manifest = into_registry(bundle, tmp_path / "models")
    (listed,) = list_bundles(tmp_path / "models")
    assert (listed.name, listed.fault) == (manifest.short_id, "")
    assert listed.manifest == manifest
    assert contents(listed.path) == contents(bundle)
    assert sorted(entry.name for entry in listed.path.iterdir()) == sorted(contents(bundle))


def test_one_that_is_there_already_stays_as_it_is(bundle: Path, tmp_path: Path) -> None:
    place = tmp_path / "models" / into_registry(bundle, tmp_path / "models").short_id
    (place / "evaluation.json").write_text("{}")
    before = place.stat().st_ino
    into_registry(bundle, tmp_path / "models")
    assert place.stat().st_ino == before
    assert (place / "evaluation.json").exists()


def test_a_broken_one_in_its_place_is_named(bundle: Path, tmp_path: Path) -> None:
    place = tmp_path / "models" / into_registry(bundle, tmp_path / "models").short_id
    (place / "member-1.safetensors").unlink()
    with pytest.raises(BundleError, match=r"models.*member-1\.safetensors"):
        into_registry(bundle, tmp_path / "models")


def test_a_broken_bundle_never_gets_there(bundle: Path, tmp_path: Path) -> None:
    (bundle / "member-1.safetensors").write_bytes(b"")
    with pytest.raises(BundleError, match=r"member-1\.safetensors"):
        into_registry(bundle, tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_a_registry_that_cannot_be_written_is_named(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file")
    with pytest.raises(BundleError, match=r"models.*: the bundle cannot be written: .*File exists"):
        into_registry(bundle, tmp_path / "models")


# ---- what killed writers leave ----------------------------------------------------------------------------------
LEFT = ".0123456789abcdef.a1b2c3d4"


def left_over(registry: Path, name: str = LEFT) -> Path:
    place = registry / name
    place.mkdir(parents=True)
    (place / "member-0.safetensors").write_bytes(b"half")
    return place


def test_what_killed_writers_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    registry = tmp_path / "models"
    left = left_over(registry)
    others = [
        left_over(registry, name) for name in ("0123456789abcdef", ".git", ".0123456789abcdef.a1b2", ".cache.a1b2c3d4")
    ]
    (registry / ".fedcba9876543210.a1b2c3d4").write_text("a file")
    (registry / ".1123456789abcdef.a1b2c3d4").symlink_to(others[0])
    remove_left_overs(registry)
    assert not left.exists()
    assert all((other / "member-0.safetensors").exists() for other in others)
    assert (registry / ".fedcba9876543210.a1b2c3d4").exists()
    remove_left_overs(tmp_path / "none")


def test_what_another_one_still_writes_stays_until_it_ends(tmp_path: Path) -> None:
    left = left_over(tmp_path / "models")
    descriptor = os.open(left, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    remove_left_overs(tmp_path / "models")
    assert left.exists()
    os.close(descriptor)
    remove_left_overs(tmp_path / "models")
    assert not left.exists()


def test_a_writer_holds_the_lock_for_as_long_as_it_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry, original = tmp_path / "models", os.fsync
    seen: list[int] = []

    def meanwhile(descriptor: int) -> None:
        remove_left_overs(registry)
        seen.append(sum(1 for entry in registry.iterdir() if entry.name.startswith(".")))
        original(descriptor)

    monkeypatch.setattr(os, "fsync", meanwhile)
    write_directory(registry / "0123456789abcdef", {"manifest.json": b"{}", "member-0.safetensors": b"1"})
    assert seen == [1, 1, 1, 0]  # two files and the directory, then the registry once it has its name
    assert contents(registry / "0123456789abcdef") == {"manifest.json": b"{}", "member-0.safetensors": b"1"}


# ---- killed anywhere --------------------------------------------------------------------------------------------
PROGRAM = """
import os, signal, sys
from pathlib import Path
from training.bundle_files import into_registry
EVENTS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "os.listdir", "os.scandir"}
source, root = Path(sys.argv[1]), Path(sys.argv[2])
def dying(step, watched):
    left = [step]
    def count():
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(lambda event, args: count() if event in EVENTS and watched in str(args[0]) else None)
    original = os.fsync
    os.fsync = lambda descriptor: (count(), original(descriptor))
for step in range(1, 1000):
    registry = root / f"registry-{step}"
    child = os.fork()
    if not child:
        dying(step, str(registry))
        into_registry(source, registry)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if status == 0:
        break
print(step)
"""


def test_killed_at_any_file_operation_the_daemon_sees_a_whole_bundle_or_none(bundle: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(bundle), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, timeout=120)
    steps, whole = int(done.stdout), read_bundle(bundle).manifest
    assert steps > 15
    seen, left = set(), 0
    for step in range(1, steps):  # the last one was not killed
        registry = tmp_path / f"registry-{step}"
        found = list_bundles(registry) if registry.exists() else ()
        assert [(listed.fault, listed.manifest) for listed in found] in ([], [("", whole)])
        seen.add(len(found))
        left += sum(entry.name.startswith(".") for entry in registry.iterdir()) if registry.exists() else 0
        assert into_registry(bundle, registry) == whole
        assert [entry.name for entry in registry.iterdir()] == [whole.short_id]
        assert json.loads((registry / whole.short_id / "manifest.json").read_text())["id"] == whole.id
        assert load_bundle(registry / whole.short_id).manifest == whole
    assert seen == {0, 1}
    assert left > 5
