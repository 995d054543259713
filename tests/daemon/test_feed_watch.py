import pytest

from daemon.feed_watch import FeedWatch
from strategy.parameters import RiskLimits
from tests.fakes.clock import ManualClock

NOW_MS = 1_700_000_000_000
LIMITS = RiskLimits(stale_feed_s=120.0, clock_skew_s=5.0)


def watch() -> FeedWatch:
    return FeedWatch(ManualClock(NOW_MS))


def test_the_candle_that_closed_before_we_came_is_no_silence() -> None:
    watching = watch()
    watching.hear(NOW_MS - 1_800_000, LIMITS)
    assert not watching.is_stale


async def test_the_age_of_the_feed_counts_from_the_last_fresh_news() -> None:
    clock = ManualClock(NOW_MS)
    watching = FeedWatch(clock)
    await clock.advance(10.0)
    assert watching.age_s == 10.0
    watching.hear(clock.now_ms() - 500, LIMITS)
    await clock.advance(3.0)
    assert watching.age_s == 3.0
    watching.hear(clock.now_ms() - 121_000, LIMITS)  # too old to be news
    assert watching.age_s == 3.0


def test_old_news_after_the_first_are_silence_until_fresh_ones_come() -> None:
    watching = watch()
    watching.hear(NOW_MS - 1_800_000, LIMITS)
    watching.hear(NOW_MS - 121_000, LIMITS)
    assert watching.is_stale
    watching.hear(NOW_MS - 1_000, LIMITS)
    assert not watching.is_stale


@pytest.mark.fault(8)
def test_news_from_the_future_are_a_clock_that_is_off_also_when_they_are_the_first() -> None:
    watching = watch()
    watching.hear(NOW_MS + 5_001, LIMITS)
    assert watching.is_skewed
    watching.hear(NOW_MS + 5_000, LIMITS)
    assert not watching.is_skewed
