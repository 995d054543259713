import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategy.features import compute
from tests.fakes.trading import random_table
from tests.training.markets import history
from tests.training.peeks import HONEST, PEEKS, Function, close
from training.errors import TrainingError
from training.look_ahead import Futures, find_leaks, moments_of
from training.look_ahead_target import Stretch, Target, own_features

LONG = Stretch.of(random_table(3_000, seed=5, gaps=(700, 1_900)))
WINDOW = 100


def checked(function: Function, moments: int = 150, candles: Stretch = LONG) -> Futures:
    target = Target(name="f", function=function, window=WINDOW)
    return find_leaks(target, [candles], moments=moments)


REACH: dict[str, tuple[int, bool]] = {
    "next": (1, False),
    "next return's sign": (1, False),
    "second next": (2, False),
    "centred mean": (5, False),
    "global z-score": (2_999, True),
    "highest of all": (2_999, True),
    "rank in all": (2_999, True),
    "least squares over all": (2_999, True),
    "days labelled at their start": (23, False),
    "rare": (1, False),
    "a billionth": (1, False),
    "volume only": (3, False),
    "500 ahead": (500, False),
    "time of the next candle": (1, False),
}
"""Candles ahead that a peek reads by its definition, and whether it reads to the end of the file."""
WORDS = {
    "next": "uses candle t+1 (only their prices): shifted by -1",
    "centred mean": "uses candle t+5 (only their prices): shifted by -5, or a centred window of 11",
    "global z-score": "uses the whole history to its end",
    "highest of all": "uses the whole history to its end",
    "days labelled at their start": "uses candles to the end of its UTC day",
    "weeks labelled at their start": "uses candles to the end of its UTC week",
    "filled backwards": "at most t+",
    "volume only": "(only their volumes)",
    "time of the next candle": "(only their times)",
    "length of the file": "depends on how many candles follow",
}


@pytest.mark.parametrize("name", PEEKS)
def test_a_peek_is_caught_and_named_with_how_far_it_reads(name: str) -> None:
    # One row in a hundred is missed by 700 moments once in a thousand times.
    found = checked(PEEKS[name], moments=700 if name == "rare" else 150)
    assert [leak.output for leak in found.leaks] == ["odd"]
    leak = found.leaks[0]
    if name in REACH:
        assert (leak.reach, leak.to_end) == REACH[name]
    assert WORDS.get(name, "") in leak.words
    assert leak.cut_ms >= leak.open_ms


@pytest.mark.parametrize("name", HONEST)
def test_honest_features_are_never_accused(name: str) -> None:
    found = checked(HONEST[name])
    assert found.leaks == ()
    assert found.comparisons > 300


@settings(max_examples=12, deadline=None)
@given(shift=st.integers(1, 90), length=st.integers(200, 900), seed=st.integers(0, 99))
def test_any_shift_is_told_from_its_mirror_image(shift: int, length: int, seed: int) -> None:
    candles = Stretch.of(random_table(length, seed=seed))
    ahead = checked(close(lambda s: s.shift(-shift)), 60, candles)
    assert [(leak.output, leak.reach, leak.to_end) for leak in ahead.leaks] == [("odd", shift, False)]
    assert ahead.leaks[0].words.startswith(f"uses candle t+{shift} ")
    assert checked(close(lambda s: s.shift(shift)), 60, candles).leaks == ()


def test_the_size_of_a_peek_is_told() -> None:
    step = close(lambda s: np.where(s.shift(-1).fillna(0.0) > s, 1.0, 0.75))
    assert checked(step).leaks[0].difference == 0.25


def test_the_first_row_and_the_kinds_of_change_are_told() -> None:
    late = LONG.open_ms[2_500]

    def function(open_ms: np.ndarray, values: np.ndarray, span_ms: int, max_missing: int) -> np.ndarray:
        peek = np.append(values[1:, 4], 0.0)
        return np.where(open_ms >= late, peek, 0.0)

    leak = checked(function, moments=600).leaks[0]
    assert leak.output == "column"
    assert late <= leak.open_ms == leak.cut_ms
    assert "later" not in leak.kinds
    assert {"cut off", "random walk", "ten times", "a tenth"} <= {*leak.kinds}


def test_the_same_seed_finds_the_same() -> None:
    assert checked(PEEKS["rare"]) == checked(PEEKS["rare"])


def test_the_kernel_reads_no_later_candle() -> None:
    tables = [history(500, seed=3), history(450, seed=4, symbol="ETH/USDT")]
    told: list[int] = []
    found = find_leaks(own_features(), [Stretch.of(table) for table in tables], moments=40, tell=told.append)
    assert found.leaks == ()
    assert told == [*range(1, found.moments + 1)]
    assert found.moments <= moments_of(2, 40)


def test_one_peeking_feature_of_the_kernel_is_named() -> None:
    def peeking(open_ms: np.ndarray, values: np.ndarray, span_ms: int, max_missing: int) -> object:
        table = compute(open_ms, values, span_ms, max_missing)
        table.values[:-1, 7] = table.values[1:, 7]
        table.context[:-1, 1] = table.context[1:, 1]
        return table

    target = Target(name="f", function=peeking)
    names = target.rows(Stretch.of(history(1))).names
    found = find_leaks(target, [Stretch.of(history(500, seed=3))], moments=40)
    assert {leak.output for leak in found.leaks} == {names[7], "context average_range"}
    assert {leak.reach for leak in found.leaks} == {1}


def test_a_function_that_draws_cannot_be_compared() -> None:
    rng = np.random.default_rng(1)
    with pytest.raises(TrainingError, match="with other rows the second time: it must not draw"):
        checked(close(lambda s: rng.random(len(s))))


def test_outputs_that_come_and_go_are_refused() -> None:
    def function(open_ms: np.ndarray, values: np.ndarray, span_ms: int, max_missing: int) -> dict[str, np.ndarray]:
        return {"a": values[:, 3], **({"b": values[:, 3]} if len(values) > 2_999 else {})}

    with pytest.raises(TrainingError, match=r"other outputs for other candles \(\['b'\]\)"):
        checked(function)


def test_a_history_shorter_than_the_window_is_refused() -> None:
    with pytest.raises(TrainingError, match="BTC/USDT: 101 candles do not hold a window of 100 and two more"):
        checked(HONEST["lag"], candles=LONG.part(0, 101))
    checked(HONEST["lag"], candles=LONG.part(0, 102))
