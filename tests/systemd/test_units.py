"""What systemd says of the units, without running them."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
INSTANCES = {
    "sacd@.service": "sacd@paper.service",
    "sacd-train@.service": "sacd-train@paper.service",
    "sacd-train@.path": "sacd-train@paper.path",
    "sacd-alert@.service": "sacd-alert@sacd@paper.service.service",
}


def analyze() -> str:
    """Return the path of systemd-analyze; without it the test is skipped, but fails under continuous integration."""
    path = shutil.which("systemd-analyze")
    if path is None and os.environ.get("CI") == "true":
        pytest.fail("systemd-analyze is not installed; .ci/run names its package", pytrace=False)
    if path is None:
        pytest.skip("systemd-analyze is not installed")
    return path


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """A directory with an instance of each unit, whose programs exist here, as systemd-analyze wants to see them."""
    for name, instance in INSTANCES.items():
        text = (ROOT / "systemd" / name).read_text(encoding="utf-8")
        lines = [
            "ExecStart=/bin/true" if line.startswith("ExecStart=/usr/local/") else line for line in text.splitlines()
        ]
        (tmp_path / instance).write_text("\n".join(lines), encoding="utf-8")
    return tmp_path


def test_every_unit_of_the_checkout_is_looked_at() -> None:
    assert {path.name for path in (ROOT / "systemd").glob("*@.*")} == set(INSTANCES)


def test_systemd_finds_no_fault_in_the_units(units: Path) -> None:
    paths = [units / instance for instance in INSTANCES.values()]
    run = subprocess.run([analyze(), "verify", "--man=no", *paths], capture_output=True, text=True, check=False)
    about_ours = [line for line in run.stderr.splitlines() if "sacd" in line]
    assert (run.returncode, about_ours) == (0, [])


@pytest.mark.parametrize(
    ("unit", "most"), [("sacd@.service", 1.2), ("sacd-train@.service", 0.3)], ids=["daemon", "trainer"]
)
def test_the_exposure_is_at_most_what_was_promised(units: Path, unit: str, most: float) -> None:
    ask = [analyze(), "security", "--offline=yes", f"--threshold={most * 10:.0f}", "--no-pager"]
    run = subprocess.run([*ask, units / INSTANCES[unit]], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def test_an_exposure_above_the_promise_would_be_noticed(units: Path) -> None:
    unit = units / INSTANCES["sacd-train@.service"]
    text = unit.read_text(encoding="utf-8")
    unit.write_text(text.replace("PrivateNetwork=yes", "PrivateNetwork=no"), encoding="utf-8")
    ask = [analyze(), "security", "--offline=yes", "--threshold=3", "--no-pager"]
    assert subprocess.run([*ask, unit], capture_output=True, check=False).returncode != 0


def test_the_trainer_is_given_no_credentials() -> None:
    assert "Credential" not in (ROOT / "systemd" / "sacd-train@.service").read_text(encoding="utf-8")
