from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategy.candle_table import CandleTable
from tests.fakes.trading import ETH, HOUR_MS, random_table
from training.retrain_split import LEAST_DAYS, Split, TooSoon, split_of

DAY_MS = 86_400_000
LONG = random_table(400 * 24)
BEGIN_MS = 20_000 * DAY_MS
"""2024-10-04."""


def table(hours: int, symbol: str = "BTC/USDT") -> CandleTable:
    return CandleTable(
        symbol=symbol,
        timeframe=LONG.timeframe,
        open_ms=LONG.open_ms[:hours] + BEGIN_MS,
        values=LONG.values[:hours],
    )


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def test_the_last_days_judge_and_practice_ends_a_day_before_them() -> None:
    # 200 days and 5 hours from 2024-10-04 on: up to 2025-04-22 05:00
    found = split_of([table(200 * 24 + 5)], ms("2024-12-01T07:00"), 90.0, 0)
    assert found == Split(
        practice_to_ms=ms("2025-01-21"),  # 24 candles before
        from_ms=ms("2025-01-22"),
        to_ms=ms("2025-04-22"),
        days_unseen=141 + 22 / 24,
    )
    assert found.days == 90


def test_where_less_is_unseen_that_much_judges_from_the_first_whole_day_on() -> None:
    found = split_of([table(200 * 24)], ms("2025-02-28T23:00"), 90.0, 0)
    assert (found.from_ms, found.to_ms, found.days) == (ms("2025-03-01"), ms("2025-04-22"), 52)
    assert found.practice_to_ms == ms("2025-02-28")


def test_fewer_days_than_say_anything_count_as_so_many() -> None:
    assert split_of([table(200 * 24)], ms("2024-12-01"), 5.0, 0).days == LEAST_DAYS == 30


def test_the_symbol_that_ends_first_ends_the_span() -> None:
    found = split_of([table(200 * 24), table(150 * 24, ETH)], ms("2024-12-01"), 40.0, 0)
    assert found.to_ms == ms("2025-03-03")


def test_too_little_is_refused_with_the_day_on_which_it_is_enough() -> None:
    seen_to_ms = ms("2025-04-10")
    with pytest.raises(TooSoon) as caught:
        split_of([table(200 * 24)], seen_to_ms, 90.0, ms("2025-04-22"))
    assert (
        str(caught.value)
        == "only 12 whole days of candles are unseen by both; 30 are needed; next possible on 2025-05-10"
    )
    # On that day it is enough, and one candle less is not.
    hours = (ms("2025-05-10") - BEGIN_MS) // HOUR_MS
    assert split_of([table(hours)], seen_to_ms, 90.0, 0).days == 30
    with pytest.raises(TooSoon, match="only 29 whole days of candles are"):
        split_of([table(hours - 1)], seen_to_ms, 90.0, 0)


def test_old_candles_are_not_waited_for() -> None:
    with pytest.raises(TooSoon) as caught:
        split_of([table(200 * 24), table(199 * 24, ETH)], ms("2025-04-10"), 90.0, ms("2026-01-01"))
    assert str(caught.value) == (
        "only 11 whole days of candles are unseen by both; 30 are needed: those of ETH/USDT end 2025-04-20: give newer "
        "ones"
    )


def test_an_incumbent_from_the_future_has_left_nothing_unseen() -> None:
    with pytest.raises(TooSoon, match="only 0 whole days"):
        split_of([table(200 * 24)], ms("2030-01-01"), 90.0, 0)


@given(hours=st.integers(40 * 24, 400 * 24), seen=st.integers(0, 400 * 24), wanted=st.floats(0.0, 500.0))
def test_nothing_that_made_the_incumbent_judges_and_nothing_that_judges_is_practised_on(
    hours: int, seen: int, wanted: float
) -> None:
    seen_to_ms = BEGIN_MS + seen * HOUR_MS
    try:
        found = split_of([table(hours)], seen_to_ms, wanted, 0)
    except TooSoon:
        assert hours - seen < 30 * 24 + 2 * 24  # whole days cost one at either end
        return
    end_ms = BEGIN_MS + hours * HOUR_MS
    assert seen_to_ms <= found.from_ms < found.to_ms <= end_ms
    assert found.practice_to_ms == found.from_ms - 24 * HOUR_MS
    assert found.from_ms % DAY_MS == found.to_ms % DAY_MS == 0
    assert 30 <= found.days <= max(30.0, wanted)
    assert end_ms - found.to_ms < DAY_MS
