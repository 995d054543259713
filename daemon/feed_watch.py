"""What we make of a live feed ourselves, whatever it says: silent for too long, or a clock apart from ours.

Pure bookkeeping over a Clock; the engine asks it, and tells trader, journal and watchers what changed.
"""

from daemon.ports import Clock, FeedHealth, FeedStatus
from strategy.parameters import RiskLimits


class FeedWatch:
    """Judges a live feed by the venue's times in what it brings."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._told = FeedStatus(health=FeedHealth.LIVE, detail="news again")
        self._heard_s = clock.monotonic_s()
        self._ahead_s = 0.0
        self._is_first = True
        self.is_silent = False
        self.is_skewed = False

    @property
    def is_stale(self) -> bool:
        """True when nothing must be bought: the feed is not well by its own word, or by ours."""
        return self.is_silent or self._told.health is not FeedHealth.LIVE

    @property
    def age_s(self) -> float:
        """Seconds since the last news, or since we began when there was none."""
        return self._clock.monotonic_s() - self._heard_s

    def told(self, status: FeedStatus) -> None:
        """Note what the feed says about itself."""
        self._told = status

    def hear(self, venue_ms: int, limits: RiskLimits) -> None:
        """Note news that the venue dates `venue_ms`: old news are none, news from the future show a clock that is off.

        A clock of ours that runs ahead makes all news old, so it is found too, as silence. The first news is the candle
        that closed last before we came, however long ago: it may be decided on.
        """
        self._ahead_s = (venue_ms - self._clock.now_ms()) / 1_000
        self.is_skewed = self._ahead_s > limits.clock_skew_s
        self.is_silent = not self._is_first and -self._ahead_s > limits.stale_feed_s
        self._is_first = False
        if not self.is_silent:
            self._heard_s = self._clock.monotonic_s()

    def rest_s(self, limits: RiskLimits) -> float:
        """Return the seconds that silence may go on; 0 or less when it lasts too long, which is noted."""
        rest_s = self._heard_s + limits.stale_feed_s - self._clock.monotonic_s()
        if rest_s <= 0.0:
            self.is_silent = True
        return rest_s

    def status(self, limits: RiskLimits) -> FeedStatus:
        """Return the feed's health as we see it, in words."""
        if self.is_silent:
            return FeedStatus(health=FeedHealth.STALE, detail=f"no news for more than {limits.stale_feed_s:g} s")
        if self.is_skewed:
            detail = f"the venue's clock is {self._ahead_s:.1f} s ahead of ours: nothing is bought until ours is set"
            return FeedStatus(health=self._told.health, detail=detail)
        return self._told
