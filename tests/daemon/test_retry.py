import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.retry import Backoff


class Fixed:
    """A generator that always says the same."""

    def __init__(self, value: float) -> None:
        self.value = value

    def random(self) -> float:
        return self.value


def test_the_ceiling_doubles_per_failure_up_to_the_cap() -> None:
    backoff = Backoff(base_s=0.5, cap_s=5.0, generator=Fixed(0.5))
    assert [backoff.next_s() for _ in range(6)] == [0.25, 0.5, 1.0, 2.0, 2.5, 2.5]


def test_success_starts_over() -> None:
    backoff = Backoff(base_s=1.0, cap_s=60.0, generator=Fixed(0.5))
    for _ in range(5):
        backoff.next_s()
    backoff.reset()
    assert backoff.next_s() == 0.5


def test_a_floor_keeps_jitter_from_hammering() -> None:
    assert Backoff(base_s=1.0, cap_s=60.0, generator=Fixed(0.0), floor_s=0.1).next_s() == 0.1


@given(seed=st.integers(0, 2**32), failures=st.integers(0, 5000))
def test_a_pause_lies_between_zero_and_the_cap_however_long_it_fails(seed: int, failures: int) -> None:
    backoff = Backoff(base_s=0.2, cap_s=30.0, generator=random.Random(seed))
    backoff.failures = failures
    assert 0.0 <= backoff.next_s() <= min(30.0, 0.2 * 2.0 ** min(failures, 100))


@pytest.mark.parametrize("make", [random.Random, np.random.default_rng], ids=["random", "numpy"])
def test_the_same_seed_gives_the_same_pauses(make: type[random.Random]) -> None:
    first, second = (Backoff(base_s=1.0, cap_s=8.0, generator=make(7)) for _ in range(2))
    pauses = [first.next_s() for _ in range(20)]
    assert pauses == [second.next_s() for _ in range(20)]
    assert len(set(pauses)) == 20, "jitter must spread the pauses"


@pytest.mark.parametrize(
    ("base_s", "cap_s"), [(0.0, 1.0), (-1.0, 1.0), (2.0, 1.0), (1.0, float("inf")), (float("nan"), 1.0)]
)
def test_impossible_limits_are_refused(base_s: float, cap_s: float) -> None:
    with pytest.raises(ValueError, match="backoff needs"):
        Backoff(base_s=base_s, cap_s=cap_s, generator=Fixed(0.5))
