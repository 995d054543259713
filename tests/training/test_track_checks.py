"""What cannot be measured is refused with the track's name, the place and the value."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from strategy.order import Fill, Side
from training.errors import TrainingError
from training.metrics import measure
from training.track import SymbolTrack, Track

HOUR_MS = 3_600_000
START_MS = 1_609_459_200_000  # 2021-01-01 00:00 UTC
COUNT = 5
BUY = Fill(
    fill_id="1",
    client_id="1",
    symbol="BTC/USDT",
    side=Side.BUY,
    quantity=1.0,
    price=1.0,
    fee=0.0,
    at_ms=START_MS,
    reference_price=1.0,
)

pytestmark = pytest.mark.filterwarnings("error")


def track(**changes: Any) -> Track:
    whole = {
        "name": "member 7",
        "timeframe_ms": HOUR_MS,
        "close_ms": START_MS + HOUR_MS * np.arange(1, COUNT + 1, dtype=np.int64),
        "equity": np.array([100.0, 101.0, 102.0, 101.0, 103.0, 104.0]),
        "exposure": np.full(COUNT, 0.5),
        "fills": (),
        "fees": 0.0,
        "slippage": 0.0,
        "symbols": (),
    }
    return Track(**(whole | changes))


def symbol(close: Any, action: Any = (-1,) * COUNT) -> SymbolTrack:
    return SymbolTrack(
        symbol="BTC/USDT",
        close=np.asarray(close, dtype=float),
        exposure=np.zeros(COUNT),
        action=np.asarray(action, dtype=np.int8),
        direction=np.zeros((COUNT, 0), np.float32),
        disagreement=np.full(COUNT, np.nan),
    )


def put(values: np.ndarray, at: int, value: float) -> np.ndarray:
    changed = values.copy()
    changed[at] = value
    return changed


def test_the_track_they_are_made_from_can_be_measured() -> None:
    assert measure(track(), track()).total_return == pytest.approx(0.04)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_equity_that_is_no_number_is_named_with_its_candle(value: float) -> None:
    with pytest.raises(TrainingError, match=f"member 7: equity is {value} at 2021-01-01 03:00 UTC"):
        measure(track(equity=put(track().equity, 3, value)))


def test_the_cash_at_the_beginning_stands_at_the_open_of_the_first_candle() -> None:
    with pytest.raises(TrainingError, match="member 7: equity is nan at 2021-01-01 00:00 UTC"):
        measure(track(equity=put(track().equity, 0, np.nan)))


def test_exposure_that_is_no_number_is_named_with_its_candle() -> None:
    with pytest.raises(TrainingError, match="member 7: exposure is nan at 2021-01-01 01:00 UTC"):
        measure(track(exposure=put(track().exposure, 0, np.nan)))


@pytest.mark.parametrize("value", [0.0, -3.5])
def test_an_account_without_equity_has_no_returns(value: float) -> None:
    with pytest.raises(TrainingError, match=f"member 7: equity is {value} at 2021-01-01 05:00 UTC: from nothing"):
        measure(track(equity=put(track().equity, 5, value)))


@pytest.mark.parametrize("name", ["fees", "slippage"])
def test_costs_that_are_no_number_are_named(name: str) -> None:
    with pytest.raises(TrainingError, match=f"member 7: {name} are nan"):
        measure(track(**{name: np.nan}))


def test_a_track_without_a_candle_says_so() -> None:
    nothing = track(close_ms=np.zeros(0, np.int64), equity=np.array([1.0]), exposure=np.zeros(0))
    with pytest.raises(TrainingError, match="member 7: the track has no candle"):
        measure(nothing)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"equity": np.ones(COUNT)}, "5 candles, 5 values of equity and 5 of exposure"),
        ({"exposure": np.ones(COUNT - 1)}, "5 candles, 6 values of equity and 4 of exposure"),
        ({"symbols": (symbol([1.0]),)}, "5 candles, 1 prices and 5 actions of BTC/USDT"),
        ({"symbols": (symbol([1.0] * COUNT, [0]),)}, "5 candles, 5 prices and 1 actions of BTC/USDT"),
    ],
    ids=["equity", "exposure", "prices", "actions"],
)
def test_lengths_that_do_not_go_together_are_told(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(TrainingError, match=f"member 7: {words}"):
        measure(track(**changes))


def test_candles_that_do_not_advance_are_refused() -> None:
    with pytest.raises(TrainingError, match="member 7: the candle after 2021-01-01 02:00 UTC is not later"):
        measure(track(close_ms=START_MS + HOUR_MS * np.array([1, 2, 2, 3, 4], dtype=np.int64)))


def test_a_benchmark_of_another_span_is_refused_with_both_spans() -> None:
    later = track(name="buy and hold", close_ms=track().close_ms + HOUR_MS)
    with pytest.raises(TrainingError) as refused:
        measure(track(), later)
    words = str(refused.value)
    assert "member 7 runs over 2021-01-01 00:00 UTC - 2021-01-01 05:00 UTC (5 candles of 60 min)" in words
    assert "the benchmark buy and hold over 2021-01-01 01:00 UTC - 2021-01-01 06:00 UTC (5 candles of 60 min)" in words


def test_a_benchmark_with_a_candle_less_is_refused() -> None:
    whole = track()
    less = replace(whole, close_ms=np.delete(whole.close_ms, 2), equity=whole.equity[1:], exposure=whole.exposure[1:])
    with pytest.raises(TrainingError, match=r"\(5 candles of 60 min\).*\(4 candles of 60 min\)"):
        measure(whole, less)


def test_a_benchmark_whose_candles_end_together_but_are_longer_is_refused() -> None:
    with pytest.raises(TrainingError, match=r"\(5 candles of 60 min\).*2020-12-31 23:00 UTC .* of 120 min\)"):
        measure(track(), track(timeframe_ms=2 * HOUR_MS))


def test_a_benchmark_that_is_no_number_is_named_as_such() -> None:
    with pytest.raises(TrainingError, match="buy and hold: equity is nan"):
        measure(track(), track(name="buy and hold", equity=put(track().equity, 1, np.nan)))


@pytest.mark.parametrize(
    ("symbols", "words"),
    [
        ((), "the track has no prices of it"),
        ((symbol([1.0, 1.0, 1.0, 1.0, np.nan]),), "its price at 2021-01-01 05:00 UTC is nan"),
    ],
    ids=["unknown", "no-number"],
)
def test_what_is_held_to_the_end_needs_a_price_there(symbols: tuple[SymbolTrack, ...], words: str) -> None:
    with pytest.raises(TrainingError, match=f"member 7: BTC/USDT is held at the end, but {words}"):
        measure(track(symbols=symbols, fills=(BUY,)))


def test_a_price_that_no_position_is_marked_with_may_be_missing() -> None:
    assert measure(track(symbols=(symbol([np.nan] * COUNT),))).open_profit == 0.0
