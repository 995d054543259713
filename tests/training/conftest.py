import sys
from pathlib import Path
from typing import Any

import pytest

from tests.training.command_line import TABLE, Run
from tests.training.markets import write_ensemble, write_table
from training.__main__ import main


@pytest.fixture(autouse=True, scope="module")
def whole_ccxt() -> None:
    """Forget a ccxt that the daemon has loaded with one exchange only, in this process: fetching takes any."""
    if getattr(sys.modules.get("ccxt"), "binance", True) is None:
        for name in [name for name in sys.modules if name == "ccxt" or name.startswith("ccxt.")]:
            del sys.modules[name]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Return what runs a command line: (exit code, standard output, standard error)."""

    def command(*arguments: Any) -> tuple[int, str, str]:
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as end:  # argparse: wrong usage, or help
            code = int(end.code or 0)
        return code, *capsys.readouterr()

    return command


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_table(TABLE, tmp_path)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_ensemble(tmp_path / "model")
