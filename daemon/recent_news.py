"""What happened lately beside candles, decisions and orders, for whoever asks `sacd status`."""

from collections import deque
from typing import Any

from daemon.events import CommandTaken, ConfigReloaded, Event, ExitForced, ModelStep
from daemon.ports import Clock, DriftMarked, External, NewSteps, OrderPath, StopLost
from daemon.wording_live import news_words

_KEPT = 10
_NEWS = (
    CommandTaken | ConfigReloaded | DriftMarked | ExitForced | External | ModelStep | NewSteps | OrderPath | StopLost
)


class RecentNews:
    """A `daemon.ports.Sink` that keeps the last few things that happened to the account."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._told: deque[tuple[int, str]] = deque(maxlen=_KEPT)
        self._is_beyond = False

    def publish(self, event: Event) -> None:
        """Keep `event` if it is news."""
        if isinstance(event, DriftMarked):
            if event.is_beyond == self._is_beyond:
                return
            self._is_beyond = event.is_beyond
        if isinstance(event, _NEWS):
            self._told.append((self._clock.now_ms(), news_words(event)))

    def to_json(self) -> list[dict[str, Any]]:
        """Return what is kept as JSON types, newest first: when it came, and what it was in words."""
        return [{"at_ms": at_ms, "what": what} for at_ms, what in reversed(self._told)]
