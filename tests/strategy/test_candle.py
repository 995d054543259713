import math
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategy.candle import Candle, Timeframe
from strategy.errors import InvalidCandle

HOUR_MS = 3_600_000
GOOD = Candle(
    symbol="BTC/USDT", open_ms=7 * HOUR_MS, span_ms=HOUR_MS, open=10.0, high=12.0, low=9.0, close=11.0, volume=3.0
)

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    **{
        f"{name} {value}": ({name: value}, f"{name} {value} is not a positive finite price")
        for name in ("open", "high", "low", "close")
        for value in (math.nan, math.inf, -math.inf, 0.0, -1.0)
    },
    **{
        f"volume {value}": ({"volume": value}, f"volume {value} is not a finite amount >= 0")
        for value in (math.nan, math.inf, -math.inf, -0.001)
    },
    "high below low": ({"high": 8.0}, "high 8.0 is below low 9.0"),
    "open above high": ({"open": 12.5}, "open 12.5 or close 11.0 lies outside low 9.0 .. high 12.0"),
    "open below low": ({"open": 8.5}, "open 8.5 or close 11.0 lies outside low 9.0 .. high 12.0"),
    "close above high": ({"close": 12.01}, "open 10.0 or close 12.01 lies outside low 9.0 .. high 12.0"),
    "close below low": ({"close": 8.99}, "open 10.0 or close 8.99 lies outside low 9.0 .. high 12.0"),
    "a cheap coin, high below low": (
        {"open": 0.45, "high": 0.4, "low": 0.45, "close": 0.45, "volume": 0.0},
        "high 0.4 is below low 0.45",
    ),
    "open beside a candle without range": (
        {"open": 5.5, "high": 5.0, "low": 5.0, "close": 5.0},
        "open 5.5 or close 5.0 lies outside low 5.0 .. high 5.0",
    ),
    "a millisecond late": ({"open_ms": 7 * HOUR_MS + 1}, "open time is not a multiple of the timeframe (3600000 ms)"),
    "half an hour late": ({"open_ms": 27_000_000}, "open time is not a multiple of the timeframe (3600000 ms)"),
}


@pytest.mark.parametrize(("changes", "fault"), REFUSED.values(), ids=REFUSED)
def test_a_broken_candle_is_refused_with_symbol_time_and_fault(changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(InvalidCandle) as refused:
        replace(GOOD, **changes)
    assert str(refused.value) == f"BTC/USDT candle at {changes.get('open_ms', 7 * HOUR_MS)}: {fault}"


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"open": 9.0, "close": 12.0}, id="open at the low, close at the high"),
        pytest.param({"open": 5.0, "high": 5.0, "low": 5.0, "close": 5.0}, id="no movement"),
        pytest.param({"volume": 0.0}, id="no trade"),
        pytest.param({"open_ms": 0}, id="1970"),
        pytest.param({"open": 1e-9, "high": 1e9, "low": 1e-9}, id="wide"),
    ],
)
def test_an_unusual_candle_is_taken(changes: dict[str, Any]) -> None:
    assert replace(GOOD, **changes) != GOOD


PRICES = st.floats(allow_nan=True, allow_infinity=True) | st.floats(0.5, 2.0)


@pytest.mark.fault(7)
@given(st.tuples(PRICES, PRICES, PRICES, PRICES, PRICES), st.integers(-10, 10), st.sampled_from([1, 2, 5]))
def test_a_candle_exists_exactly_when_it_keeps_every_rule(
    numbers: tuple[float, float, float, float, float], open_ms: int, span_ms: int
) -> None:
    opened, high, low, close, volume = numbers
    is_valid = (
        all(math.isfinite(number) for number in numbers)
        and min(opened, high, low, close) > 0.0
        and low == min(numbers[:4])
        and high == max(numbers[:4])
        and volume >= 0.0
        and open_ms // span_ms * span_ms == open_ms
    )
    try:
        made = Candle(
            symbol="A/B",
            open_ms=open_ms,
            span_ms=span_ms,
            open=opened,
            high=high,
            low=low,
            close=close,
            volume=volume,
        )
    except InvalidCandle:
        assert not is_valid
    else:
        assert is_valid
        assert made.values == numbers


def test_a_candle_closes_where_the_next_one_opens() -> None:
    assert GOOD.close_ms == 8 * HOUR_MS


def test_candles_are_equal_by_value_and_cannot_be_changed() -> None:
    assert replace(GOOD) == GOOD
    assert hash(GOOD) == hash(replace(GOOD))
    with pytest.raises(FrozenInstanceError):
        GOOD.close = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "span_ms", "per_year"),
    [
        ("1m", 60_000, 525_600.0),
        ("15m", 900_000, 35_040.0),
        ("1h", 3_600_000, 8_760.0),
        ("4h", 14_400_000, 2_190.0),
        ("1d", 86_400_000, 365.0),
        ("1w", 604_800_000, 365.0 / 7.0),
    ],
)
def test_a_timeframe_is_read_as_exchanges_write_it(name: str, span_ms: int, per_year: float) -> None:
    timeframe = Timeframe.parse(name)
    assert (timeframe.name, timeframe.span_ms) == (name, span_ms)
    assert timeframe.candles_per_year == pytest.approx(per_year, rel=1e-15)


NO_TIMEFRAMES = ["", "h", "1", "0h", "01h", "1H", "1M", "1s", "-1h", "1.5h", " 1h", "1h\n", "60", "99999m", "\u0663h"]


@pytest.mark.parametrize("name", NO_TIMEFRAMES, ids=ascii)
def test_any_other_timeframe_is_refused_with_examples(name: str) -> None:
    with pytest.raises(InvalidCandle) as refused:
        Timeframe.parse(name)
    assert str(refused.value) == f"timeframe {name!r} is not one of the form 1m, 15m, 1h, 4h, 1d, 1w"
