"""Sinks that belong to the process itself: a guard around each other one, and the word that trading has begun."""

from collections.abc import Callable

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
    """Tells systemd, and the log, that the start is over: candles flow, and the window of every symbol is full.

    A feed says nothing before the account is recovered and, at an exchange, reconciled. After a restart in the middle
    of a candle there is nothing to decide until its end: history that is complete is sign enough of a market. Where a
    venue has too few candles the windows fill for days, and systemd is asked to wait as long.
    """

    def __init__(self, notifier: SystemdNotifier, missing: Callable[[], int]) -> None:
        """missing: how many candles the emptiest window still needs."""
        self._notifier = notifier
        self._missing = missing
        self._is_flowing = False
        self._is_ready = False

    def publish(self, event: Event) -> None:
        """Look whether this was the event that was waited for."""
        if self._is_ready:
            return
        is_live = isinstance(event, FeedStatus) and event.health is FeedHealth.LIVE
        self._is_flowing = self._is_flowing or is_live or isinstance(event, Decided)
        if self._is_flowing and self._missing() == 0:
            self._is_ready = True
            self._notifier.ready("trading")
            _log.info("ready")

    def wait(self, seconds: float) -> None:
        """Ask systemd for so much more time, as long as the start is not over; called while all goes well."""
        if not self._is_ready:
            self._notifier.extend(seconds)
            missing = self._missing()
            self._notifier.status(f"{missing} candles to a full window" if missing else "waiting for candles")
