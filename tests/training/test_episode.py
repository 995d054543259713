from typing import Any

import numpy as np
import pytest

from training.episode import Episode, Randomisation
from training.errors import TrainingError


def test_by_default_episodes_have_a_length_and_nothing_varies() -> None:
    assert Episode().length == 1_000
    assert Randomisation().rates == ((1.0, 1.0), (1.0, 1.0))
    assert Randomisation().most_delay == 0


def test_factors_are_drawn_in_the_order_of_fee_and_slippage() -> None:
    assert Randomisation(fee=(0.5, 2.0), slippage=(0.0, 10.0)).rates == ((0.5, 2.0), (0.0, 10.0))


def test_a_length_is_drawn_from_the_shortest_to_the_longest_and_only_where_it_varies() -> None:
    rng = np.random.default_rng(3)
    drawn = [Episode(length=12, shortest=10).drawn_length(rng) for _ in range(300)]
    assert {length: drawn.count(length) > 70 for length in drawn} == {10: True, 11: True, 12: True}
    before = rng.bit_generator.state
    assert Episode(length=12).drawn_length(rng) == 12
    assert Episode(length=None).drawn_length(rng) is None
    assert rng.bit_generator.state == before


@pytest.mark.parametrize(
    ("length", "shortest", "message"),
    [
        (50, 51, r"episode shortest \(candles, up to the length\) 51: give a whole number within 1 \.\. 50"),
        (50, 0, r"episode shortest \(candles, up to the length\) 0: give a whole number within 1 \.\. 50"),
        (50, "x", r"episode shortest \(candles, up to the length\) 'x': give a whole number"),
        (None, 10, "episode shortest 10: give a length too, or none of the two"),
    ],
)
def test_an_impossible_shortest_length_is_refused(length: int | None, shortest: Any, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        Episode(length=length, shortest=shortest)


@pytest.mark.parametrize("length", [None, 1, 100_000_000])
def test_possible_lengths_are_taken(length: int | None) -> None:
    assert Episode(length=length).length == length


@pytest.mark.parametrize("length", [0, -1, 100_000_001, 10.0, "long", True])
def test_impossible_lengths_are_refused(length: Any) -> None:
    wanted = rf"episode length \(candles, or none for all\) {length!r}: give a whole number within 1 \.\. 100000000"
    with pytest.raises(TrainingError, match=wanted):
        Episode(length=length)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fee": (2.0, 1.0)}, r"randomised fee factors 2\.0 \.\. 1\.0: give the lowest first"),
        ({"fee": (-0.1, 1.0)}, r"randomised fee factors -0\.1: give a number within 0\.0 \.\. 10\.0"),
        ({"slippage": (0.0, 10.5)}, r"randomised slippage factors 10\.5: give a number within 0\.0 \.\. 10\.0"),
        ({"slippage": (float("nan"), 1.0)}, r"randomised slippage factors nan: give a number"),
        ({"slippage": (1.0,)}, r"randomised slippage factors \(1\.0,\): give the lowest and the highest, such as"),
        ({"fee": 2.0}, r"randomised fee factors 2\.0: give the lowest and the highest, such as"),
        ({"most_delay": -1}, r"randomised most_delay \(decisions\) -1: give a whole number within 0 \.\. 24"),
        ({"most_delay": 25}, r"randomised most_delay \(decisions\) 25: give a whole number within 0 \.\. 24"),
        ({"most_delay": 0.5}, r"randomised most_delay \(decisions\) 0\.5: give a whole number"),
    ],
)
def test_impossible_randomisation_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        Randomisation(**changes)
