"""Sinks that belong to the process itself: a guard around each other one, and the word that trading has begun."""

import structlog

from daemon.events import Decided, Event
from daemon.notify_systemd import SystemdNotifier
from daemon.ports import Sink

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
    """Tells systemd, and the log, when the first candle of the present has gone all the way through."""

    def __init__(self, notifier: SystemdNotifier) -> None:
        self._notifier = notifier
        self._is_ready = False

    def publish(self, event: Event) -> None:
        """Look for the first decision."""
        if not self._is_ready and isinstance(event, Decided):
            self._is_ready = True
            self._notifier.ready("trading")
            _log.info("ready")
