"""Where the tests find recorded candles, and signals as a terminal gives them."""

import os
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

# Before NumPy is imported, as the program does it: with several threads sums round otherwise, and bytes would differ.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Whoever starts the tests in the background may have SIGINT ignored, which every child inherits: tests of Ctrl-C, and
# pytest itself, need it to mean what it means on a terminal.
signal.signal(signal.SIGINT, signal.default_int_handler)

# What tests train is nobody's trial; the folder goes when the tests end.
_LEDGER = tempfile.TemporaryDirectory(prefix="sacd-trials-")
os.environ["SACD_TRIALS"] = str(Path(_LEDGER.name, "trials.jsonl"))

_BESIDE_THE_CHECKOUT = Path(__file__).resolve().parents[2] / "shared" / "data"


def find_recorded(name: str) -> Path:
    """Return the recorded file `name`, such as `binance/btcusdt-1h.csv.gz`.

    Looks under SACD_TEST_DATA, or ../shared/data when that is not set. Where the file is missing the test is skipped,
    but fails under continuous integration, where a skipped promise would be a broken one.
    """
    root = Path(os.environ.get("SACD_TEST_DATA") or _BESIDE_THE_CHECKOUT)
    path = root / name
    if path.is_file():
        return path
    message = f"recorded candles are not here: {path}; SACD_TEST_DATA names another folder"
    if os.environ.get("CI") == "true":
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


@pytest.fixture(scope="session")
def recorded_candles() -> Callable[[str], Path]:
    """Return the finder of recorded files: `recorded_candles("binance/btcusdt-1h.csv.gz")`."""
    return find_recorded
