"""When the start counts as over, and that a sink which fails stops nobody."""

import socket
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from daemon.app_watchers import Guarded, Readiness
from daemon.notify_systemd import SystemdNotifier
from daemon.ports import FeedHealth, FeedStatus
from tests.fakes import events


def heard(tmp_path: Path, tell: Callable[[Callable[[], SystemdNotifier]], None]) -> list[str]:
    """Return the first line of each message that systemd hears while `tell` goes on."""
    path = tmp_path / "notify"
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as manager:
        manager.bind(str(path))
        tell(lambda: SystemdNotifier({"NOTIFY_SOCKET": str(path)}, 1))
        found = []
        while True:
            try:
                found.append(manager.recv(4_096).decode().splitlines()[0])
            except BlockingIOError:
                return found


def told(tmp_path: Path, *published: Any, missing: Iterable[int] = ()) -> list[str]:
    """Return what systemd hears while these events are published.

    missing: candles that the emptiest window needs after each event; none when it runs out.
    """
    needed = iter(missing)

    def tell(notifier: Callable[[], SystemdNotifier]) -> None:
        now = [0]
        readiness = Readiness(notifier(), lambda: now[0])
        for event in published:
            now[0] = next(needed, 0)
            readiness.publish(event)

    return heard(tmp_path, tell)


LIVE = FeedStatus(health=FeedHealth.LIVE, detail="history of BTC/USDT complete")


def test_a_restart_within_a_candle_is_ready_once_its_history_is_complete(tmp_path: Path) -> None:
    assert told(tmp_path, events.started(resumed=True)) == []
    assert told(tmp_path, events.started(resumed=True), LIVE) == ["READY=1"]


def test_a_market_of_our_own_making_is_ready_with_its_first_decision(tmp_path: Path) -> None:
    assert told(tmp_path, events.started(), events.taken(), events.decided(events.hold())) == ["READY=1"]


def test_nothing_is_ready_before_the_window_is_full(tmp_path: Path) -> None:
    too_young = (events.started(), LIVE, events.decided(events.hold()), events.taken(n=1))
    assert told(tmp_path, *too_young, missing=(9, 9, 2, 1)) == []
    assert told(tmp_path, *too_young, events.taken(n=2), missing=(9, 9, 2, 1, 0)) == ["READY=1"]


def test_a_full_window_alone_is_no_sign_of_a_market(tmp_path: Path) -> None:
    assert told(tmp_path, events.started(resumed=True), events.taken(is_backfill=True)) == []


@pytest.mark.parametrize("health", [FeedHealth.STALE, FeedHealth.RECONNECTING])
def test_a_feed_in_trouble_is_no_sign_of_a_market(tmp_path: Path, health: FeedHealth) -> None:
    assert told(tmp_path, events.started(), FeedStatus(health=health)) == []


def test_systemd_is_told_once(tmp_path: Path) -> None:
    assert told(tmp_path, LIVE, events.decided(events.hold()), LIVE) == ["READY=1"]


def test_systemd_is_asked_to_wait_until_the_start_is_over_and_no_longer(tmp_path: Path) -> None:
    needed = [7]

    def tell(notifier: Callable[[], SystemdNotifier]) -> None:
        readiness = Readiness(notifier(), lambda: needed[0])
        readiness.wait(120.0)
        readiness.publish(LIVE)
        needed[0] = 0
        readiness.wait(120.0)
        readiness.publish(events.taken())
        readiness.wait(120.0)

    assert heard(tmp_path, tell) == [
        "EXTEND_TIMEOUT_USEC=120000000",
        "STATUS=7 candles to a full window",
        "EXTEND_TIMEOUT_USEC=120000000",
        "STATUS=waiting for candles",
        "READY=1",
    ]


def test_a_sink_that_fails_is_left_out_from_then_on() -> None:
    class Fails:
        asked = 0

        def publish(self, _event: object) -> None:
            self.asked += 1
            raise ValueError("no")

    sink = Fails()
    guarded = Guarded(sink)
    guarded.publish(events.started())
    guarded.publish(events.started())
    assert sink.asked == 1
