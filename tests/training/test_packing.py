import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from safetensors.numpy import save

from training.errors import TrainingError
from training.packing import pack, unpack

ARRAYS = st.sampled_from([np.float32, np.float64, np.int64, np.uint8, np.uint32, np.bool_]).flatmap(
    lambda kind: arrays(kind, array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
)
PLAIN = st.none() | st.booleans() | st.integers(-(2**200), 2**200) | st.floats() | st.text()
KEYS = st.text().filter(lambda key: not key.startswith("$"))
NESTS = st.recursive(
    PLAIN | ARRAYS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=20
)


def is_same(one: Any, other: Any) -> bool:
    """Equal in kind and to the bit."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
    if isinstance(one, dict):
        return list(one) == list(other) and all(is_same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(is_same, one, other))
    if isinstance(one, float):
        return (math.isnan(one) and math.isnan(other)) or (
            one == other and math.copysign(1, one) == math.copysign(1, other)
        )
    return bool(one == other)


@given(NESTS)
def test_what_is_packed_comes_back(value: Any) -> None:
    data = pack(value)
    assert is_same(unpack(data), value)
    assert pack(value) == data


def test_arrays_that_are_not_in_one_piece_come_back() -> None:
    whole = np.arange(24.0).reshape(4, 6)
    for part in (whole[:, ::2], whole.T, whole[1, 2], np.array(3.0)):
        np.testing.assert_array_equal(unpack(pack({"part": part}))["part"], part)


def test_what_comes_back_may_be_written_to() -> None:
    part = unpack(pack([np.zeros(3)]))[0]
    part += 1.0
    assert part.tolist() == [1.0, 1.0, 1.0]


def test_tuples_come_back_as_lists_and_numpy_numbers_as_pythons() -> None:
    assert unpack(pack({"a": (1, (2,)), "b": np.float64(0.5), "c": np.bool_(1)})) == {
        "a": [1, [2]],
        "b": 0.5,
        "c": True,
    }


@pytest.mark.parametrize("value", [{1: 2}, {"$array": "0"}, {"a": {3}}, object(), b"bytes"])
def test_what_has_no_plain_form_is_not_packed(value: Any) -> None:
    with pytest.raises(TypeError, match="cannot be packed"):
        pack(value)


@pytest.mark.parametrize("cut", [0, 4, 8, 40, -1])
def test_bytes_that_are_cut_short_are_refused(cut: int) -> None:
    data = pack({"a": np.zeros(5), "b": 1})
    with pytest.raises(TrainingError, match="not a file of training state"):
        unpack(data[:cut])


def test_bytes_of_another_kind_are_refused() -> None:
    for data in (
        b"PK\x03\x04 something else entirely",
        save({"a": np.zeros(2)}),
        save({"a": np.zeros(2)}, {"b": "{}"}),
    ):
        with pytest.raises(TrainingError, match="not a file of training state"):
            unpack(data)
