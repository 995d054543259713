"""When the start counts as over, and that a sink which fails stops nobody."""

import socket
from pathlib import Path
from typing import Any

import pytest

from daemon.app_watchers import Guarded, Readiness
from daemon.notify_systemd import SystemdNotifier
from daemon.ports import FeedHealth, FeedStatus
from tests.fakes import events


def told(tmp_path: Path, *published: Any) -> list[str]:
    """Return what systemd hears while these events are published."""
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as manager:
        manager.bind(str(path))
        readiness = Readiness(SystemdNotifier({"NOTIFY_SOCKET": str(path)}, 1))
        for event in published:
            readiness.publish(event)
        heard = []
        while True:
            try:
                heard.append(manager.recv(4_096).decode().splitlines()[0])
            except BlockingIOError:
                return heard


LIVE = FeedStatus(health=FeedHealth.LIVE, detail="history of BTC/USDT complete")


def test_a_restart_within_a_candle_is_ready_once_its_history_is_complete(tmp_path: Path) -> None:
    assert told(tmp_path, events.started(resumed=True)) == []
    (tmp_path / "notify").unlink()
    assert told(tmp_path, events.started(resumed=True), LIVE) == ["READY=1"]


def test_a_market_of_our_own_making_is_ready_with_its_first_decision(tmp_path: Path) -> None:
    assert told(tmp_path, events.started(), events.taken(), events.decided(events.hold())) == ["READY=1"]


@pytest.mark.parametrize("health", [FeedHealth.STALE, FeedHealth.RECONNECTING])
def test_a_feed_in_trouble_is_no_sign_of_a_market(tmp_path: Path, health: FeedHealth) -> None:
    assert told(tmp_path, events.started(), FeedStatus(health=health)) == []


def test_systemd_is_told_once(tmp_path: Path) -> None:
    assert told(tmp_path, LIVE, events.decided(events.hold()), LIVE) == ["READY=1"]


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
