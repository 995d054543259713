"""Whole runs of `sacd train` in processes of their own, small enough for a test."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from strategy.candle_table import CandleTable
from tests.training.markets import history

ROOT = Path(__file__).parents[2]
TABLE: CandleTable = history(700, seed=3)
TINY = ["--steps", "400", "--set", "learning_starts=100", "--set", "net_arch=8", "--set", "batch_size=16"]
SHORT = [*TINY, "--members", "2", "--gates", "off"]
LONG = [*SHORT, "--steps", "4000"]
"""As SHORT, and long enough to be interrupted. Of an option given twice the last counts."""


def environment() -> dict[str, str]:
    """Return the environment of a run: no `sacd` need be installed."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def command(*arguments: Any) -> list[str]:
    return [sys.executable, "-m", "training", "train", *map(str, arguments)]


def finished(*arguments: Any, cwd: Path | None = None, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run to the end."""
    done = subprocess.run(
        command(*arguments), capture_output=True, text=True, check=False, cwd=cwd, env=environment(), timeout=240
    )
    assert done.returncode == code, done.stderr
    return done


def started(*arguments: Any) -> subprocess.Popen[str]:
    """Start a run."""
    return subprocess.Popen(
        command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    )


def wait_for(place: Path, run: subprocess.Popen[str]) -> None:
    """Return once the run has made `place`."""
    until_s = time.monotonic() + 120
    while not place.exists():
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < until_s, f"{place} never appeared"
        time.sleep(0.02)


def id_of(out: Path) -> str:
    told: str = json.loads((out / "manifest.json").read_text())["id"]
    return told
