from typing import Any

import numpy as np
import pytest

from strategy.candle import Candle
from strategy.features import FEATURE_NAMES, FeatureRow, FeatureWindow
from strategy.features import WINDOW as KERNEL_WINDOW
from tests.fakes.trading import random_table
from tests.training.markets import history
from tests.training.peeks import HONEST, PEEKS, Function, close
from training.look_ahead_past import WarmUp, compare_streaming, warm_ups
from training.look_ahead_target import Stretch, Target, own_features

LONG = Stretch.of(random_table(3_000, seed=5))
WINDOW = 100


def needed(function: Function) -> WarmUp:
    target = Target(name="f", function=function, window=WINDOW)
    return {warm_up.output: warm_up for warm_up in warm_ups(target, [LONG])}["odd"]


@pytest.mark.parametrize(
    ("function", "needs"),
    [
        (close(lambda s: s), 1),
        (HONEST["lag"], 2),
        (close(lambda s: s.shift(99)), 100),
        (close(lambda s: s.rolling(20).max()), 20),
        (close(lambda s: s.shift(150)), 151),
    ],
    ids=["none", "one before", "the window", "rolling", "more than the window"],
)
def test_the_smallest_warm_up_is_measured(function: Function, needs: int) -> None:
    warm_up = needed(function)
    assert (warm_up.needs, warm_up.is_settled) == (needs, True)
    assert (warm_up.difference == 0.0) is (needs <= WINDOW)


@pytest.mark.parametrize("name", ["exponential mean of long memory", "expanding mean", "highest so far"])
def test_long_memory_is_seen_to_need_more_than_the_window(name: str) -> None:
    warm_up = needed(HONEST[name])
    assert warm_up.needs > WINDOW
    assert warm_up.difference is not None
    assert warm_up.difference > 0.0


@pytest.mark.parametrize(("name", "needs"), [("next", 1), ("500 ahead", 1), ("days labelled at their start", 1)])
def test_a_peek_is_not_said_to_need_more_past(name: str, needs: int) -> None:
    assert (needed(PEEKS[name]).needs, needed(PEEKS[name]).is_settled) == (needs, True)


def test_an_expanding_mean_is_never_settled() -> None:
    assert not needed(HONEST["expanding mean"]).is_settled


def test_the_kernel_needs_its_window_and_no_more() -> None:
    found = {w.output: w for w in warm_ups(own_features(), [Stretch.of(history(700, seed=3))])}
    assert all(warm_up.is_settled for warm_up in found.values())
    assert max(warm_up.needs for warm_up in found.values()) == KERNEL_WINDOW
    # By its formula: two candles for the return a candle ago, and 96 returns need 97 candles.
    assert found["return_1"].needs == 97
    assert found["candle_position"].needs == 1
    assert found["is_valid"].needs == KERNEL_WINDOW


def test_both_forms_of_the_kernel_answer_the_same() -> None:
    tables = [history(60, seed=3), history(40, seed=4, symbol="ETH/USDT")]
    found = compare_streaming(tables)
    assert (found.rows, found.differ, found.output) == (100, 0, None)


class _Off(FeatureWindow):
    """A window whose third feature is off by one bit in one row."""

    def update(self, candle: Candle) -> FeatureRow | None:
        row: Any = super().update(candle)
        if row is not None and candle.close == TABLE.values[-3, 3]:
            row.values[2] = np.nextafter(row.values[2], np.float32(2.0))
        return row


TABLE = history(10, seed=3)


def test_a_bit_between_the_forms_is_found_and_named() -> None:
    found = compare_streaming([TABLE], window=_Off)
    assert (found.rows, found.differ) == (10, 1)
    assert (found.symbol, found.open_ms, found.output) == ("BTC/USDT", int(TABLE.open_ms[-3]), FEATURE_NAMES[2])
