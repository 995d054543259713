import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from training.arithmetic import arithmetic

_PROGRAM = (
    "import torch\n"
    "torch.set_num_threads(1)\n"
    "from training.arithmetic import arithmetic\n"
    "print(arithmetic(torch.device('cpu')))\n"
)
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_CORETYPE": "Haswell"}


def told(**variables: str) -> str:
    run = subprocess.run(
        [sys.executable, "-c", _PROGRAM],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, **ONE_THREAD, **variables},
    )
    return run.stdout


def test_it_is_the_same_in_another_process_whatever_its_memory_looks_like() -> None:
    assert told(MALLOC_PERTURB_="165", MALLOC_MMAP_THRESHOLD_="4096", PYTHONHASHSEED="7") == told()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the variables name x86 processors")
@pytest.mark.parametrize(
    "variables", [{"OPENBLAS_CORETYPE": "Prescott"}, {"ATEN_CPU_CAPABILITY": "default"}], ids=["NumPy", "torch"]
)
def test_it_tells_older_machine_code_of_each_library(variables: dict[str, str]) -> None:
    assert told(**variables) != told()


def test_it_draws_from_no_generator_of_others() -> None:
    before = torch.get_rng_state(), str(np.random.get_state())  # noqa: NPY002 - the one that SB3 draws from
    arithmetic.__wrapped__(torch.device("cpu"))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert str(np.random.get_state()) == before[1]  # noqa: NPY002
