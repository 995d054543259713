"""Whether the daemon works, in words: what `/healthz`, `/readyz`, `status` and the watchdog all go by.

Pure: takes events and a clock, asks nobody. Alive is a promise about ourselves: what came in went all the way through,
and feed, journal and decision loop go on between candles too (`Vital`). Ready is a promise about the service: state
recovered, candles flowing. A venue that is silent makes us unready, never dead, because a restart would not make it
speak: the feed that asks it again and again is alive. One that no longer asks is dead, because a restart does help.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from daemon.events import AccountMarked, CandleTaken, Event, Started, Stopped
from daemon.ports import Clock, FeedHealth, FeedStatus
from daemon.vitals import Vital


def candle_interval_s(*, is_live: bool, span_ms: int, candles_per_second: float) -> float:
    """Return the seconds after which the next candle is due.

    A live source makes one each `span_ms`; any other goes at the configured pace, where 0 is as fast as possible.
    """
    if is_live:
        return span_ms / 1_000
    return 1.0 / candles_per_second if candles_per_second > 0.0 else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthReport:
    """The health at one moment.

    stuck: in words, why we are not alive.  waiting: in words, why we are alive and still not ready.  is_started: state
    is recovered.  feed: as it last reported, None when it never did.  candle_age_s: since the last candle came in,
    None before the first.  progress_age_s: since the main path last carried one all the way through, None before that.
    """

    stuck: tuple[str, ...]
    waiting: tuple[str, ...]
    is_started: bool
    feed: FeedHealth | None
    candle_age_s: float | None
    progress_age_s: float | None

    @property
    def is_alive(self) -> bool:
        """True when everything that came in went through within its deadline, and nothing of ours stands still."""
        return not self.stuck

    @property
    def is_ready(self) -> bool:
        """True when it is alive, its state is recovered and candles flow."""
        return not self.stuck and not self.waiting

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON types; `reasons` is empty when it is ready."""
        return {
            "alive": self.is_alive,
            "ready": self.is_ready,
            "reasons": [*self.stuck, *self.waiting],
            "started": self.is_started,
            "feed": None if self.feed is None else self.feed.value,
            "candle_age_s": None if self.candle_age_s is None else round(self.candle_age_s, 3),
            "progress_age_s": None if self.progress_age_s is None else round(self.progress_age_s, 3),
        }


class Health:
    """A sink that knows from the events how the main path is doing."""

    def __init__(
        self,
        clock: Clock,
        *,
        is_live: bool,
        candle_interval_s: float,
        deadline_s: float = 30.0,
        start_deadline_s: float = 300.0,
    ) -> None:
        """is_live: of the feed.  candle_interval_s: as `candle_interval_s` gives it.

        deadline_s: how long a candle may take from its arrival to the marked account, and how late the next may be.
        start_deadline_s: how long recovery may take.
        """
        self._clock = clock
        self._is_live = is_live
        self._interval_s = candle_interval_s
        self._deadline_s = deadline_s
        self._start_deadline_s = start_deadline_s
        self._created_s = clock.monotonic_s()
        self._started_s: float | None = None
        self._candle_s: float | None = None
        self._progress_s: float | None = None
        self._pending: tuple[str, float] | None = None
        self._feed: FeedStatus | None = None
        self._end: str | None = None
        self._vitals: Sequence[Vital] = ()

    def watch(self, *vitals: Vital) -> None:
        """Look at these too from here on, until the end."""
        self._vitals = vitals

    def publish(self, event: Event) -> None:
        """Take an event of the engine."""
        now_s = self._clock.monotonic_s()
        match event:
            case Started():
                self._started_s = now_s
            case CandleTaken():
                self._take(event, now_s)
            case AccountMarked():
                self._pending, self._progress_s = None, now_s
            case FeedStatus():
                self._feed = event
            case Stopped():
                self._pending, self._end = None, event.reason
            case _:
                pass  # says nothing about progress

    def _take(self, event: CandleTaken, now_s: float) -> None:
        self._candle_s = now_s
        # Nothing is decided on the past, so only a present candle has to come out at the other end.
        if self._pending is None and not event.is_backfill:
            self._pending = (f"{event.candle.symbol} candle at {event.candle.open_ms}", now_s)

    def report(self) -> HealthReport:
        """Return the health now."""
        now_s = self._clock.monotonic_s()
        late = self._late(now_s)
        vitals = () if self._end is not None else self._vitals
        stuck = [self._slow_start(now_s), self._slow_candle(now_s), None if self._is_live else late]
        stuck += [vital.fault() for vital in vitals]
        waiting = [self._not_started(), self._bad_feed(), self._nothing_yet(), late if self._is_live else None]
        return HealthReport(
            stuck=tuple(fault for fault in stuck if fault),
            waiting=tuple(fault for fault in waiting if fault),
            is_started=self._started_s is not None,
            feed=None if self._feed is None else self._feed.health,
            candle_age_s=None if self._candle_s is None else now_s - self._candle_s,
            progress_age_s=None if self._progress_s is None else now_s - self._progress_s,
        )

    def _slow_start(self, now_s: float) -> str | None:
        took_s = now_s - self._created_s
        if self._started_s is not None or self._end is not None or took_s <= self._start_deadline_s:
            return None
        return f"recovering the state has taken {took_s:.0f} s, longer than {self._start_deadline_s:g} s"

    def _slow_candle(self, now_s: float) -> str | None:
        if self._pending is None or now_s - self._pending[1] <= self._deadline_s:
            return None
        name, since_s = self._pending
        return f"{name} came in {now_s - since_s:.0f} s ago and has not gone through within {self._deadline_s:g} s"

    def _late(self, now_s: float) -> str | None:
        """Return that the next candle is late: a fault of ours when we make the candles, else one of the venue."""
        if self._started_s is None or self._end is not None:
            return None
        last_s = self._started_s if self._candle_s is None else max(self._started_s, self._candle_s)
        waited_s = now_s - last_s
        if waited_s <= self._interval_s + self._deadline_s:
            return None
        return f"no candle for {waited_s:.0f} s, though one is due every {self._interval_s:g} s"

    def _not_started(self) -> str | None:
        if self._end is not None:
            return f"stopped: {self._end}"
        return "still recovering the state" if self._started_s is None else None

    def _bad_feed(self) -> str | None:
        if self._feed is None or self._feed.health is FeedHealth.LIVE:
            return None
        return f"the feed is {self._feed.health.value}" + (f": {self._feed.detail}" if self._feed.detail else "")

    def _nothing_yet(self) -> str | None:
        is_fed = self._candle_s is not None or self._feed is not None
        return None if is_fed or self._started_s is None or self._end is not None else "no candle yet"
