import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes.trading import random_table
from tests.training.markets import write_table

ROOT = Path(__file__).parents[2]


def training(*arguments: object, stdout: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    """Run `python -m training` as `sacd` does."""
    return subprocess.run(
        [sys.executable, "-m", "training", *map(str, arguments)],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        cwd=ROOT,
    )


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_table(random_table(50), tmp_path)


def test_a_mistake_is_one_line_and_exit_1() -> None:
    done = training("data", "list", "/nowhere")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "sacd data: /nowhere: there is no such directory: correct the path\n"


@pytest.mark.parametrize("more", [[], ["--json"]], ids=["table", "json"])
def test_a_reader_that_has_seen_enough_ends_it_quietly(data: Path, more: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = training("data", "verify", data, *more, stdout=writing)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("more", [[], ["--json"]], ids=["table", "json"])
def test_a_full_disk_is_one_line_and_exit_1(data: Path, more: list[str]) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    descriptor = os.open(full, os.O_WRONLY)
    try:
        done = training("data", "verify", data, *more, stdout=descriptor)
    finally:
        os.close(descriptor)
    assert done.returncode == 1
    assert done.stderr == "sacd data: the output cannot be written: No space left on device\n"


def test_sums_run_on_one_thread_so_that_bytes_are_the_same_everywhere() -> None:
    script = "import training.__main__, os; print(os.environ['OPENBLAS_NUM_THREADS'], os.environ['OMP_NUM_THREADS'])"
    bare = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT, env=bare
    )
    assert done.stdout == "1 1\n"


def test_ctrl_c_while_modules_load_ends_it_without_a_traceback() -> None:
    process = subprocess.Popen(
        [sys.executable, "-X", "importtime", "-m", "training", "data", "list", "/nowhere"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stderr is not None
    while " numpy.version" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    assert "Traceback" not in err
