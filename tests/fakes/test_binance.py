"""The venue that plays in the present: what a daemon would take for a live market."""

import random

from tests.fakes.binance import FakeBinance, Market, end_history_at, live_second

MINUTE = 60_000
HOUR = 3_600_000
NOW_MS = 1_700_000_025_000  # 2023-11-14 22:13:45 UTC
THIS_MINUTE = 1_699_999_980_000  # 22:13:00
THIS_HOUR = 1_699_999_200_000  # 22:00:00


def venue_of(timeframe: str, candles: int) -> FakeBinance:
    venue = FakeBinance([Market("BTC", "USDT"), Market("ETH", "USDT")], timeframe=timeframe)
    end_history_at(venue, NOW_MS, candles)
    return venue


def test_history_ends_with_the_candle_that_is_forming_now() -> None:
    for timeframe, span, forming in (("1m", MINUTE, THIS_MINUTE), ("1h", HOUR, THIS_HOUR)):
        venue = venue_of(timeframe, 3)
        assert venue.now_ms == NOW_MS
        for market in venue.markets.values():
            assert list(market.candles) == [forming - 3 * span, forming - 2 * span, forming - span, forming]


async def test_a_second_changes_the_forming_candle_only() -> None:
    venue = venue_of("1h", 3)
    before = {name: dict(market.candles) for name, market in venue.markets.items()}
    await live_second(venue, random.Random(1), NOW_MS + 1_000)
    assert venue.now_ms == NOW_MS + 1_000
    for name, market in venue.markets.items():
        changed = {open_ms for open_ms in market.candles if market.candles[open_ms] != before[name].get(open_ms)}
        assert changed == {THIS_HOUR}


async def test_a_minute_closes_when_it_is_over_and_the_next_begins_at_its_close() -> None:
    venue, generator = venue_of("1m", 3), random.Random(1)
    for second in range(1, 60):
        await live_second(venue, generator, NOW_MS + second * 1_000)
    assert venue.now_ms == NOW_MS + 59_000
    for market in venue.markets.values():
        assert list(market.candles)[-2:] == [THIS_MINUTE, THIS_MINUTE + MINUTE]
        assert market.candles[THIS_MINUTE + MINUTE][0] == market.candles[THIS_MINUTE][3]
        for opened, high, low, close, volume in market.candles.values():
            assert low <= min(opened, close) <= max(opened, close) <= high
            assert volume > 0.0


async def test_minutes_that_were_slept_through_close_without_a_hole() -> None:
    venue = venue_of("1m", 3)
    await live_second(venue, random.Random(1), NOW_MS + 3 * MINUTE)
    for market in venue.markets.values():
        assert list(market.candles) == [THIS_MINUTE + n * MINUTE for n in range(-3, 4)]
