import os
import subprocess
import sys
from pathlib import Path

import pytest

from training.errors import TrainingError
from training.locks import lock

HOLD = """
import sys
from pathlib import Path
from training.locks import lock
lock(Path(sys.argv[1]), str)
print("held", flush=True)
input()
"""


def test_a_second_process_is_told_who_holds_it_and_gets_it_when_that_one_is_killed(tmp_path: Path) -> None:
    place = tmp_path / "lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, place], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(TrainingError, match=f"^process {holder.pid} is there$"):
        lock(place, lambda owner: f"process {owner} is there")
    holder.kill()
    holder.communicate()
    os.close(lock(place, str))
    assert place.read_text() == f"{os.getpid()}\n"


def test_a_place_that_cannot_hold_a_lock_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"missing/lock: No such file or directory"):
        lock(tmp_path / "missing" / "lock", str)
