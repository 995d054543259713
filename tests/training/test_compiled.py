import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import strategy
from training import compiled, kernel_rounding

CODEGEN = SimpleNamespace(magic_tuple=lambda: ("this machine",))


def test_machine_code_kept_on_disk_is_good_for_these_sources_only(monkeypatch: pytest.MonkeyPatch) -> None:
    function: Any = kernel_rounding.grid_point
    key = function._cache._index_key("signature", CODEGEN)
    assert key == function._cache._index_key("signature", CODEGEN)
    monkeypatch.setattr(compiled, "_sources", lambda: "others")
    assert key != function._cache._index_key("signature", CODEGEN)


def test_every_module_that_compiles_and_all_of_the_strategy_count_as_sources() -> None:
    named = compiled._source_files()
    training = Path(compiled.__file__).parent
    compiling = [path for path in training.glob("*.py") if "@compiled" in path.read_text()]
    assert len(compiling) > 5
    assert set(compiling) <= set(named)
    (package,) = strategy.__path__
    assert set(Path(package).glob("*.py")) <= set(named)


def test_compiled_and_plain_python_give_the_same_bits() -> None:
    for value in (0.07, 1.13, 0.1 + 0.2, sys.float_info.epsilon, 123_456.789):
        for function in (kernel_rounding.grid_below, kernel_rounding.grid_above):
            plain: Any = function
            assert plain.py_func(value, 1.0, 100.0) == function(value, 1.0, 100.0)


def test_functions_are_compiled_also_where_machine_code_cannot_be_kept(tmp_path: Path) -> None:
    # A library that was installed for all, run by a user who has no place of its own to write to.
    (tmp_path / "twice.py").write_text("def twice(value: float) -> float:\n    return value + value\n")
    program = (
        "import sys\n"
        f"sys.path[:0] = [{str(Path(compiled.__file__).parents[1])!r}, {str(tmp_path)!r}]\n"
        "from numba.core import caching\n"
        "caching.CacheImpl._locator_classes = []\n"
        "from training.compiled import compiled\n"
        "from twice import twice\n"
        "print(compiled(twice)(21.0))\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.stdout == "42.0\n", run.stderr


def _result_of(folder: Path, before: str = "") -> str:
    """Return what `scale(21.0)` of scale.py in `folder` is in a process of its own; machine code is kept there too."""
    program = (
        "import os, sys\n"
        f"sys.path[:0] = [{str(Path(compiled.__file__).parents[1])!r}, {str(folder)!r}]\n"
        "from numba.core import caching\n"
        f"{before}\n"
        "from training.compiled import compiled\n"
        "from scale import scale\n"
        "print(compiled(scale)(21.0))\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    return run.stdout or run.stderr


def _write_scale(folder: Path, factor: float) -> None:
    (folder / "scale.py").write_text(f"def scale(value: float) -> float:\n    return value * {factor}\n")


def test_a_process_killed_while_it_keeps_machine_code_does_not_pass_off_older_code_as_new(tmp_path: Path) -> None:
    _write_scale(tmp_path, 2.0)
    assert _result_of(tmp_path) == "42.0\n"
    _write_scale(tmp_path, 3.0)
    # numba writes the index first, and gives the new code the name of the old.
    killed = _result_of(tmp_path, "caching.IndexDataCacheFile._save_data = lambda *_: os._exit(9)")
    assert not killed
    assert _result_of(tmp_path) == "63.0\n"


def test_kept_machine_code_is_used(tmp_path: Path) -> None:
    _write_scale(tmp_path, 2.0)
    assert _result_of(tmp_path) == "42.0\n"
    assert _result_of(tmp_path, "caching.CompileResultCacheImpl.reduce = None  # nothing is compiled") == "42.0\n"


@pytest.mark.parametrize("name", ["*.nbi", "*.nbc"])
def test_a_file_of_machine_code_cut_short_by_a_power_failure_is_made_anew(name: str, tmp_path: Path) -> None:
    _write_scale(tmp_path, 2.0)
    assert _result_of(tmp_path) == "42.0\n"
    (kept,) = (tmp_path / "__pycache__").glob(name)
    kept.write_bytes(b"")
    assert _result_of(tmp_path) == "42.0\n"
    assert kept.stat().st_size > 0


def test_a_full_disk_keeps_no_machine_code_and_stops_nothing(tmp_path: Path) -> None:
    _write_scale(tmp_path, 2.0)
    full = (
        "def full(*_):\n    raise OSError(28, 'No space left on device')\n"
        "caching.IndexDataCacheFile._open_for_write = full"
    )
    assert _result_of(tmp_path, full) == "42.0\n"


def test_sources_changed_after_they_were_read_do_not_count_as_those_that_were_compiled() -> None:
    digests = []
    for edit in ("", "compiled._source_files = lambda: []"):
        program = f"from training import compiled\n{edit}\nprint(compiled._sources())\n"
        run = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(compiled.__file__).parents[1],
        )
        digests.append(run.stdout)
    assert digests[0] == digests[1]
