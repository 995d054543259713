from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strategy.features import FEATURE_NAMES, compute
from tests.fakes.trading import random_table
from tests.training.markets import history
from training.errors import TrainingError
from training.look_ahead_target import Stretch, Target, differences, load_target, own_features

CANDLES = Stretch.of(random_table(50, seed=5))


def rows(answer: Any) -> Any:
    return Target(name="mine.py:f", function=lambda *_: answer, window=10).rows(CANDLES)


@pytest.mark.parametrize(
    ("answer", "names"),
    [
        (np.zeros(50), ("column",)),
        (np.zeros((50, 2)), ("column[0]", "column[1]")),
        ({"a": [1] * 50, "b": np.zeros((50, 2), bool)}, ("a", "b[0]", "b[1]")),
    ],
    ids=["vector", "matrix", "dict"],
)
def test_outputs_have_names(answer: Any, names: tuple[str, ...]) -> None:
    found = rows(answer)
    assert found.names == names
    assert found.values.shape == (50, len(names))


def test_the_kernel_has_the_names_of_its_schema() -> None:
    table = history(5)
    found = own_features().rows(Stretch.of(table))
    assert found.names[: len(FEATURE_NAMES)] == tuple(FEATURE_NAMES)
    known = compute(table.open_ms, table.values, table.timeframe.span_ms, 48)
    assert np.array_equal(found.counted()[-5:, 0], known.values[-5:, 0])
    assert np.isnan(found.counted()[:-5]).all()


def test_a_bit_is_a_difference_and_two_nans_are_none() -> None:
    nan = np.float64(np.nan)
    one = np.array([[1.0, nan, nan, 0.0, 2.0]])
    other = np.array([[np.nextafter(1.0, 2.0), -nan, 1.0, -0.0, 2.0]])
    assert differences(one, other).tolist() == [[True, False, True, True, False]]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (np.zeros(49), r"returned column of shape \(49,\) for 50 candles: return one row per candle"),
        (np.zeros((50, 1, 1)), r"of shape \(50, 1, 1\)"),
        ({"a": ["x"] * 50}, "returned a of type <U1: return numbers"),
        (None, "returned column of type object"),
        ({}, "returned no output"),
        (np.zeros((50, 0)), "returned no output"),
    ],
)
def test_what_is_no_row_per_candle_is_refused(answer: Any, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        rows(answer)


def test_a_function_may_not_write_into_its_candles() -> None:
    def function(open_ms: Any, values: Any, span_ms: int, max_missing: int) -> Any:
        values[0] = 0.0
        return values

    with pytest.raises(TrainingError, match=r"mine fails on 50 candles of BTC/USDT: ValueError: .*read-only \(.*line"):
        Target(name="mine", function=function, window=10).rows(CANDLES)


def test_a_function_is_loaded_from_a_file_and_from_a_module(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("def f(open_ms, values, span_ms, max_missing):\n    return values[:, 3] * 2.0\n")
    target = load_target(f"{path}:f", 10)
    assert np.array_equal(target.rows(CANDLES).values[:, 0], CANDLES.values[:, 3] * 2.0)
    assert (target.window, target.is_own) == (10, False)
    assert load_target("strategy.features:compute", 10).function is compute


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("mine.py", "name a module or file and a function, such as my_features.py:compute"),
        (":f", "name a module or file"),
        ("absent.py:f", "there is no file absent.py: check the path"),
        ("no_such_module:f", "importing no_such_module fails: ModuleNotFoundError: No module named"),
        ("broken.py:f", r"importing broken.py fails: SyntaxError"),
        ("leaves.py:f", r"importing leaves.py fails: SystemExit: 5 \(.*leaves.py, line 1\)"),
        ("mine.py:g", "mine.py has no function 'g'"),
        ("mine.py:x", "mine.py has no function 'x'"),
    ],
)
def test_what_cannot_be_loaded_is_refused(
    place: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("x = 1\n")
    (tmp_path / "broken.py").write_text("def f(:\n")
    (tmp_path / "leaves.py").write_text("raise SystemExit(5)\n")
    with pytest.raises(TrainingError, match=message) as raised:
        load_target(place, 10)
    assert str(raised.value).startswith(f"--features {place}: ")
    assert "\n" not in str(raised.value)
