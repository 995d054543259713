"""What a fresh machine gets: locks, environments, the wheel, the make targets."""

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import find_recorded

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENTS = ROOT / "requirements"
LOCKS = ("runtime.txt", "build.txt", "train.txt", "dev.txt", "lock.txt")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PACKAGES = ("daemon", "strategy", "training")

HEAVY = re.compile(
    r"torch.*|triton|nvidia-.*|cuda-.*|pandas|pyarrow|scipy|matplotlib|stable-baselines3|gymnasium|optuna|ray|tensorboard"
)
CUDA = re.compile(r"torch|triton|nvidia-.*|cuda-.*")


def entries(lock: str) -> dict[str, str]:
    """Return each requirement of a lock with all that belongs to it, by canonical name."""
    text = (REQUIREMENTS / lock).read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return {canonicalize_name(re.split(r"[=<>~!\s\[;]", line, maxsplit=1)[0]): line for line in lines}


def pins(lock: str) -> dict[str, str]:
    return {name: line.split()[0].partition("==")[2] for name, line in entries(lock).items()}


def required(*extras: str) -> list[Requirement]:
    lines = [*PROJECT["dependencies"], *(line for extra in extras for line in PROJECT["optional-dependencies"][extra])]
    return [Requirement(line) for line in lines]


def command(name: str) -> str:
    """Return the path of a command; without it the test is skipped, but fails under continuous integration."""
    path = shutil.which(name)
    if path is None and os.environ.get("CI") == "true":
        pytest.fail(f"{name} is not installed; .ci/run names its package", pytrace=False)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


# ---- locks ----
@pytest.mark.parametrize("lock", LOCKS)
def test_every_line_of_a_lock_is_one_exact_version_with_hashes(lock: str) -> None:
    assert entries(lock)
    for name, line in entries(lock).items():
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][\w.+!]*(\s+;[^\\]+)?(\s+--hash=sha256:[0-9a-f]{64})+\s*", line), (
            name
        )


@pytest.mark.parametrize("lock", [*LOCKS, "torch.txt", "lock.in"])
def test_no_lock_says_where_packages_are_fetched(lock: str) -> None:
    lines = (REQUIREMENTS / lock).read_text(encoding="utf-8").splitlines()
    pointing = [
        line
        for line in lines
        if "://" in line or line.lstrip().startswith(("-i", "-f", "--index", "--find", "--extra"))
    ]
    assert pointing == []


def test_runtime_lock_holds_nothing_heavy() -> None:
    assert [name for name in pins("runtime.txt") if HEAVY.fullmatch(name)] == []
    assert [name for name in pins("build.txt") if HEAVY.fullmatch(name)] == []


def test_runtime_lock_holds_what_the_project_depends_on() -> None:
    locked = pins("runtime.txt")
    for requirement in required():
        assert requirement.specifier.contains(locked[canonicalize_name(requirement.name)]), requirement


def test_dev_lock_holds_the_extras_but_neither_torch_nor_cuda() -> None:
    locked = pins("dev.txt")
    assert [name for name in locked if CUDA.fullmatch(name)] == []
    for requirement in required("train", "dev"):
        if requirement.name != "torch":
            assert requirement.specifier.contains(locked[canonicalize_name(requirement.name)]), requirement


def test_train_lock_holds_the_trainer_and_neither_torch_nor_what_tests_need() -> None:
    locked = pins("train.txt")
    for requirement in required("train"):
        if requirement.name != "torch":
            assert requirement.specifier.contains(locked[canonicalize_name(requirement.name)]), requirement
    assert [name for name in locked if CUDA.fullmatch(name)] == []
    assert {"pytest", "hypothesis", "ruff", "mypy", "ray"} & set(locked) == set()


def test_all_environments_hold_the_same_versions() -> None:
    dev = pins("dev.txt")
    for lock in ("runtime.txt", "build.txt", "train.txt"):
        assert {name: dev.get(name) for name in pins(lock)} == pins(lock)


def test_torch_is_pinned_once_and_alike() -> None:
    lines = (REQUIREMENTS / "torch.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not line.startswith("#")] == ["torch==2.13.0"]
    assert "torch==2.13.0" in PROJECT["optional-dependencies"]["train"]


# ---- environments ----
def test_installed_packages_satisfy_each_other() -> None:
    versions = {
        canonicalize_name(found.metadata["Name"]): found.version for found in importlib.metadata.distributions()
    }
    unmet = []
    for found in importlib.metadata.distributions():
        for requirement in map(Requirement, found.requires or []):
            if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
                continue
            version = versions.get(canonicalize_name(requirement.name))
            if version is None or not requirement.specifier.contains(version, prereleases=True):
                unmet.append(f"{found.metadata['Name']} needs {requirement}, found {version}")
    assert unmet == []


def test_the_tests_run_on_the_locked_versions() -> None:
    if Path(sys.prefix).name != ".venv-dev":
        pytest.skip("not run by make test: this environment is not made from the lock")
    locked = pins("dev.txt")
    assert {name: importlib.metadata.version(name) for name in locked} == locked


def test_a_wrong_python_is_refused_with_what_to_do(tmp_path: Path) -> None:
    old = tmp_path / "python3.9"
    old.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    old.chmod(0o755)
    run = subprocess.run(
        [REQUIREMENTS / "environment", "lock", tmp_path / "venv", REQUIREMENTS / "runtime.txt"],
        env={**os.environ, "PYTHON": str(old)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert "is not Python 3.11 or newer" in run.stderr
    assert "make PYTHON=" in run.stderr
    assert not (tmp_path / "venv").exists()


def test_the_wheel_holds_every_file_of_the_packages_and_nothing_else(tmp_path: Path) -> None:
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("hatchling is not installed: not run by make test")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    files = {path for package in PACKAGES for path in (ROOT / package).rglob("*") if path.is_file()}
    assert inside == {str(path.relative_to(ROOT)) for path in files if "__pycache__" not in path.parts}


# ---- make and continuous integration ----
def test_make_alone_lists_every_target() -> None:
    listed = subprocess.run([command("make")], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    phony = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert phony is not None
    assert re.findall(r"^  make (\w+) +\S", listed, re.MULTILINE) == phony[1].split()


@pytest.mark.parametrize("script", [".ci/run", "requirements/environment", "systemd/install", "tests/systemd/boot"])
def test_scripts_are_executable_and_stop_at_the_first_error(script: str) -> None:
    path = ROOT / script
    assert os.access(path, os.X_OK)
    assert "\nset -euo pipefail\n" in path.read_text(encoding="utf-8")
    subprocess.run(["bash", "-n", path], check=True)


# ---- monitoring ----
def test_prometheus_scrapes_the_port_the_default_configuration_listens_on() -> None:
    http = tomllib.loads((ROOT / "config.toml").read_text(encoding="utf-8"))["http"]
    scrape = (ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text(encoding="utf-8")
    assert re.findall(r'targets: \["([^"]+)"\]', scrape) == [f"{http['host']}:{http['port']}"]


# ---- recorded data ----
def test_missing_recorded_candles_skip_a_test_at_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SACD_TEST_DATA", str(tmp_path))
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"recorded candles are not here: .*btc"):
        find_recorded("btc.csv")


def test_missing_recorded_candles_fail_under_continuous_integration(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SACD_TEST_DATA", str(tmp_path))
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match=r"recorded candles are not here: .*btc"):
        find_recorded("btc.csv")


def test_recorded_candles_are_found_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "btc.csv").write_text("", encoding="utf-8")
    monkeypatch.setenv("SACD_TEST_DATA", str(tmp_path))
    assert find_recorded("btc.csv") == tmp_path / "btc.csv"
