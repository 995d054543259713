"""Sinks that belong to the process itself: a guard around each other one, and the word that trading has begun."""

import structlog

from daemon.events import Decided, Event
from daemon.notify_systemd import SystemdNotifier
from daemon.ports import FeedHealth, FeedStatus, Sink

_log = structlog.get_logger()


class Guarded:
    """A sink that cannot stop the main path: one that fails is reported once and left out from then on."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._has_failed = False

    def publish(self, event: Event) -> None:
        """Hand the event on."""
        if self._has_failed:
            return
        try:
            self._sink.publish(event)
        except Exception:  # noqa: BLE001 - whoever watches may fail in any way; trading goes on without it
            self._has_failed = True
            _log.exception("sink_failed", sink=type(self._sink).__name__)


class Readiness:
    """Tells systemd, and the log, that the start is over: history is complete, or a first candle was decided on.

    A restart in the middle of a candle has nothing to decide until its end, which systemd would not wait for.
    """

    def __init__(self, notifier: SystemdNotifier) -> None:
        self._notifier = notifier
        self._is_ready = False

    def publish(self, event: Event) -> None:
        """Look for the first sign of a market that flows; a feed says nothing before the state is recovered."""
        is_live = isinstance(event, FeedStatus) and event.health is FeedHealth.LIVE
        if not self._is_ready and (is_live or isinstance(event, Decided)):
            self._is_ready = True
            self._notifier.ready("trading")
            _log.info("ready")
