import subprocess
import sys
from pathlib import Path

import pytest

from tests.training.command_line import Run
from training import commands_common
from training.commands_train import ALGORITHMS, DEFAULT_PRESET, PRESETS, REWARDS
from training.plan import ALGORITHMS as KNOWN_ALGORITHMS
from training.presets import PRESETS as KNOWN_PRESETS
from training.reward import REWARDS as KNOWN_REWARDS

ROOT = Path(__file__).parents[2]


def test_the_names_that_help_tells_are_those_that_exist() -> None:
    assert tuple(KNOWN_PRESETS) == PRESETS
    assert tuple(KNOWN_REWARDS) == REWARDS
    assert KNOWN_ALGORITHMS == ALGORITHMS
    assert DEFAULT_PRESET in PRESETS


def test_a_training_without_its_libraries_says_what_to_install(
    run: Run, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(_: str) -> None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr(commands_common.importlib, "import_module", missing)
    code, _, err = run("train", "--data", data, "--out", tmp_path / "out")
    assert code == 1
    assert err == (
        "sacd train: No module named 'torch': this needs the `train` extra; `make test` installs it in .venv-dev, from "
        "where `.venv-dev/bin/sacd` works\n"
    )


def test_verbs_can_be_declared_without_the_training_extra() -> None:
    """Who only wants a backtest has no torch."""
    script = """
import sys
for name in ("torch", "stable_baselines3", "gymnasium", "numba", "optuna", "ray", "pandas", "ccxt"):
    sys.modules[name] = None
from training.__main__ import main
try:
    main(["train", "--help"])
except SystemExit as end:
    assert end.code == 0
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "--resume DIR" in done.stdout
