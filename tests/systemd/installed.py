"""sacd as `make install` puts it under a root of its own, once for all processes of a test run."""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PREFIX = "usr/local"
PROGRAM = f"/{PREFIX}/lib/sacd"
UNITS = f"/{PREFIX}/lib/systemd/system"
_HIDDEN = (Path("/root"), Path("/home"), Path("/tmp"))  # noqa: S108 - from services
_PACKAGES = f"{PROGRAM}/train/packages"


_OURS = f"{sys.version_info.major}.{sys.version_info.minor}"


def service_python() -> Path:
    """Return an interpreter that services can see, of the version the tests run on; without one the test is skipped.

    The trainer is run on the packages of the tests, which fit no other version.
    """
    for path in (Path("/usr/bin/python3"), Path(sys._base_executable)):  # type: ignore[attr-defined]
        is_hidden = any(path.resolve().is_relative_to(place) for place in _HIDDEN)
        if path.exists() and not is_hidden and _version(path) == _OURS:
            return path
    pytest.skip(f"there is no Python {_OURS} with pip where services can see it: apt-get install python3 python3-pip")


def _version(python: Path) -> str:
    """Return its version, nothing for one without pip."""
    ask = "import sys, pip; print(f'{sys.version_info.major}.{sys.version_info.minor}')"
    return subprocess.run([python, "-c", ask], capture_output=True, text=True, check=False).stdout.strip()


def make(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run make in the checkout, as a person would: with nothing of what started the tests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "DESTDIR"))}
    return subprocess.run(
        ["make", "--no-print-directory", *arguments], cwd=ROOT, env=kept, capture_output=True, text=True, check=False
    )


def install(root: Path, *arguments: str) -> None:
    """Put sacd under `root`, without the trainer, whose packages take gigabytes."""
    done = make("install", f"DESTDIR={root}", f"PYTHON={service_python()}", "TRAIN=no", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep the other processes of this test run out."""
    with (folder / "systemd.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def installed_once(folder: Path) -> Path:
    """Return the root under which sacd is installed; the first process of a test run does it."""
    root, done = folder / "installed", folder / "installed.done"
    with alone(folder):
        if not done.exists():
            shutil.rmtree(root, ignore_errors=True)
            root.mkdir()
            install(root)
            done.touch()
    return root


# ---- the trainer --------------------------------------------------------------------------------------------------
def trainer_layer(folder: Path, root: Path) -> tuple[Path, dict[Path, str]]:
    """Return a layer with the trainer, and what has to be mounted for it: the packages that the tests run on.

    Program and units are those of `make install`; only torch and its like are not fetched a second time.
    root: where the rest is installed.
    """
    layer = folder / "trainer"
    environment = layer / PROGRAM.lstrip("/") / "train"
    shutil.copytree(root / PROGRAM.lstrip("/") / "run" / "bin", environment / "bin", symlinks=True)
    shutil.copy(root / PROGRAM.lstrip("/") / "run" / "pyvenv.cfg", environment)
    packages = environment / "lib" / f"python{_OURS}" / "site-packages"
    for name in ("daemon", "strategy", "training"):
        shutil.copytree(ROOT / name, packages / name, ignore=shutil.ignore_patterns("__pycache__"))
    (packages / "packages.pth").write_text(f"{_PACKAGES}\n", encoding="utf-8")
    daemon = (root / UNITS.lstrip("/") / "sacd@.service").read_text(encoding="utf-8")
    interpreter = next(line for line in daemon.splitlines() if line.startswith("ExecPaths="))
    interpreter = interpreter.removeprefix("ExecPaths=").split(" /usr/lib ")[0]
    for name in ("sacd-train@.path", "sacd-train@.service"):
        text = (ROOT / "systemd" / name).read_text(encoding="utf-8")
        target = layer / UNITS.lstrip("/") / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text.replace("/usr/bin/python3.11", interpreter), encoding="utf-8")
    site = Path(pytest.__file__).parent.parent
    return layer, {site: _PACKAGES}
