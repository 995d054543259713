import numpy as np
import pytest

from strategy.features import FeatureWindow
from tests.fakes.trading import HOUR_MS
from tests.training.markets import FIRST, history, with_gap
from training.errors import TrainingError
from training.history import History

TABLE = history(20, seed=8)


def test_episodes_may_start_on_every_candle_with_a_full_window() -> None:
    made = History(TABLE, 48)
    assert made.starts.tolist() == list(range(FIRST, FIRST + 20))
    assert [candle.open_ms for candle in made.candles] == TABLE.open_ms.tolist()


def test_candles_before_the_first_moment_only_fill_the_window() -> None:
    whole, late = History(TABLE, 48), History(TABLE, 48, from_ms=int(TABLE.open_ms[FIRST + 12]))
    assert late.starts.tolist() == list(range(FIRST + 12, FIRST + 20))
    assert late.rows.values.tobytes() == whole.rows.values.tobytes()
    between = History(TABLE, 48, from_ms=int(TABLE.open_ms[FIRST + 12]) - HOUR_MS + 1)
    assert between.starts.tolist() == late.starts.tolist()
    assert History(TABLE, 48, from_ms=0).starts.tolist() == whole.starts.tolist()


def test_no_episode_starts_inside_a_gap_that_breaks_the_window() -> None:
    # one candle missing too many: no full window from the gap on, and the table ends before the next
    assert History(with_gap(TABLE, FIRST + 7, 49), 48).starts.tolist() == list(range(FIRST, FIRST + 7))
    assert History(with_gap(TABLE, FIRST + 7, 48), 48).starts.tolist() == list(range(FIRST, FIRST + 20))


def test_the_rows_are_those_a_daemon_computes_candle_by_candle_and_each_source_has_its_own_place() -> None:
    made, window = History(TABLE, 48), FeatureWindow(48)
    one, other = made.features(), made.features()
    other.seek(5)
    compared = 0
    for candle in made.candles[: FIRST + 3]:
        streamed, held = window.update(candle), one.update(candle)
        assert (streamed is None) == (held is None)
        if streamed is not None and held is not None:
            np.testing.assert_array_equal(streamed.values, held.values)
            compared += 1
    assert compared == 3


@pytest.mark.parametrize("opened", [FIRST + 19, FIRST + 20])
def test_a_first_moment_that_leaves_no_step_is_refused_and_named(opened: int) -> None:
    from_ms = opened * HOUR_MS
    wanted = rf"BTC/USDT: 2420 candles, of which {FIRST + 20 - opened} open at {from_ms} or later, are too few for a "
    with pytest.raises(TrainingError, match=wanted + r"window of 2401, .*: give more candles"):
        History(TABLE, 48, from_ms=from_ms)


def test_two_candles_with_a_full_window_are_enough() -> None:
    assert History(history(2), 48).starts.tolist() == [FIRST, FIRST + 1]
