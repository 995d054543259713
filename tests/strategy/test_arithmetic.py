import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from strategy.arithmetic import ARRAYS, FLOATS

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
COLUMNS = arrays(np.float64, st.integers(1, 40), elements=NUMBERS)


def bits(values: object) -> bytes:
    return np.asarray(values, np.float64).tobytes()


@given(COLUMNS)
def test_the_root_of_a_number_is_the_root_of_an_array_to_the_bit(x: np.ndarray) -> None:
    assert bits(ARRAYS.sqrt(np.abs(x))) == bits([FLOATS.sqrt(abs(each)) for each in x.tolist()])


@given(COLUMNS, NUMBERS)
def test_the_larger_of_two_numbers_is_the_larger_of_two_arrays(x: np.ndarray, y: float) -> None:
    assert ARRAYS.maximum(x, y).tolist() == [FLOATS.maximum(each, y) for each in x.tolist()]


@given(COLUMNS, NUMBERS, NUMBERS)
def test_choosing_for_numbers_is_choosing_for_arrays_to_the_bit(x: np.ndarray, y: float, z: float) -> None:
    chosen = [FLOATS.where(each > y, each, z) for each in x.tolist()]
    assert bits(ARRAYS.where(x > y, x, z)) == bits(chosen)


@given(COLUMNS, st.floats(min_value=1e-300, max_value=1e300))
def test_the_four_operations_give_the_same_bits_for_numbers_and_arrays(x: np.ndarray, y: float) -> None:
    x = x / 1e10
    for of_array, of_floats in (
        (x + y, [each + y for each in x.tolist()]),
        (x - y, [each - y for each in x.tolist()]),
        (abs(x) * 0.1, [abs(each) * 0.1 for each in x.tolist()]),
        (x / (y + 1.0), [each / (y + 1.0) for each in x.tolist()]),
    ):
        assert bits(of_array) == bits(of_floats)


@pytest.mark.parametrize(("x", "root"), [(0.0, 0.0), (2.25, 1.5), (2.0, 1.4142135623730951), (2.0**-1074, 2.0**-537)])
def test_the_root_is_rounded_correctly(x: float, root: float) -> None:
    assert FLOATS.sqrt(x) == root
    assert ARRAYS.sqrt(np.array([x])).tolist() == [root]
