"""The bytes systemd receives; the protocol is that of sd_notify(3)."""

import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.errors import ConfigError
from daemon.notify_systemd import SystemdNotifier

PID = 4711


def listening(address: str) -> socket.socket:
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.bind(address)
    receiver.settimeout(2.0)
    return receiver


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    name = f"sacd-test-{secrets.token_hex(8)}"
    shown, address = (f"@{name}", f"\0{name}") if request.param == "abstract" else (str(tmp_path / "n"),) * 2
    with listening(address) as receiver:
        yield shown, receiver


def test_each_message_is_what_sd_notify_describes(systemd: tuple[str, socket.socket]) -> None:
    shown, receiver = systemd
    notifier = SystemdNotifier({"NOTIFY_SOCKET": shown}, PID)
    assert notifier.is_supervised
    assert [notifier.ready("2 symbols"), notifier.watchdog(), notifier.status("halted"), notifier.stopping()] == [
        True
    ] * 4
    received = [receiver.recv(4_096) for _ in range(4)]
    assert received == [b"READY=1\nSTATUS=2 symbols", b"WATCHDOG=1", b"STATUS=halted", b"STOPPING=1"]


def test_a_start_that_takes_longer_asks_for_time_in_microseconds(systemd: tuple[str, socket.socket]) -> None:
    shown, receiver = systemd
    assert SystemdNotifier({"NOTIFY_SOCKET": shown}, PID).extend(1.5)
    assert receiver.recv(4_096) == b"EXTEND_TIMEOUT_USEC=1500000"


def test_a_line_break_in_a_status_begins_no_other_assignment(systemd: tuple[str, socket.socket]) -> None:
    shown, receiver = systemd
    assert SystemdNotifier({"NOTIFY_SOCKET": shown}, PID).status("a\nSTOPPING=1\r\n b")
    assert receiver.recv(4_096) == b"STATUS=a STOPPING=1 b"


def test_a_reload_is_told_with_the_monotonic_time_of_its_beginning_and_its_end_is_readiness(
    systemd: tuple[str, socket.socket],
) -> None:
    shown, receiver = systemd
    notifier = SystemdNotifier({"NOTIFY_SOCKET": shown}, PID)
    notifier.ready()
    assert notifier.reloading(12.3456789)
    assert notifier.reloaded("trading")
    received = [receiver.recv(4_096) for _ in range(3)]
    assert received == [b"READY=1", b"RELOADING=1\nMONOTONIC_USEC=12345679", b"READY=1\nSTATUS=trading"]


def test_a_reload_before_the_start_is_over_does_not_say_that_it_is(systemd: tuple[str, socket.socket]) -> None:
    shown, receiver = systemd
    notifier = SystemdNotifier({"NOTIFY_SOCKET": shown}, PID)
    assert not notifier.reloading(1.0)
    assert not notifier.reloaded()
    assert notifier.status("x")
    assert receiver.recv(4_096) == b"STATUS=x"


def test_outside_systemd_nothing_is_sent_and_nothing_fails() -> None:
    notifier = SystemdNotifier({}, PID)
    assert not notifier.is_supervised
    assert notifier.watchdog_s is None
    assert [notifier.ready(), notifier.watchdog(), notifier.stopping(), notifier.status("x")] == [False] * 4


def test_an_empty_status_is_not_sent(systemd: tuple[str, socket.socket]) -> None:
    assert not SystemdNotifier({"NOTIFY_SOCKET": systemd[0]}, PID).status("")


def test_a_manager_that_has_gone_is_told_by_the_result(tmp_path: Path) -> None:
    notifier = SystemdNotifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}, PID)
    assert not notifier.watchdog()


def test_a_manager_that_does_not_read_delays_nothing(tmp_path: Path) -> None:
    with listening(str(tmp_path / "n")):
        notifier = SystemdNotifier({"NOTIFY_SOCKET": str(tmp_path / "n")}, PID)
        results = [notifier.watchdog() for _ in range(5_000)]  # the kernel queues far fewer; a blocking send would hang
    assert results[0]
    assert not results[-1]


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({"WATCHDOG_USEC": "60000000"}, 30.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "4711"}, 30.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_PID": "4711"}, None),
    ],
    ids=["set", "set for us", "set for another", "not set"],
)
def test_the_watchdog_is_fed_twice_as_often_as_systemd_asks(environ: dict[str, str], seconds: float | None) -> None:
    assert SystemdNotifier(environ, PID).watchdog_s == seconds


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({"NOTIFY_SOCKET": "relative"}, "NOTIFY_SOCKET 'relative'"),
        ({"WATCHDOG_USEC": "soon"}, "WATCHDOG_USEC 'soon'"),
        ({"WATCHDOG_USEC": "0"}, "WATCHDOG_USEC '0'"),
    ],
)
def test_what_systemd_never_sets_is_refused_by_name(environ: dict[str, str], name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        SystemdNotifier(environ, PID)
