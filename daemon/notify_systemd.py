"""What systemd hears of us: ready, alive, stopping. The protocol of sd_notify(3), without its library.

Never fails the daemon: outside systemd nothing is sent, and a message systemd does not take is told by the result.
"""

import socket
from collections.abc import Mapping

from daemon.errors import ConfigError


class SystemdNotifier:
    """The way to the service manager that started us, if one did."""

    def __init__(self, environ: Mapping[str, str], pid: int) -> None:
        """environ: with NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID as systemd sets them.  pid: ours.

        Raises ConfigError when one of them cannot be what systemd set.
        """
        address = environ.get("NOTIFY_SOCKET", "")
        if address and address[0] not in "/@":
            raise ConfigError(f"NOTIFY_SOCKET {address!r} is neither a path nor an abstract name @...: unset it")
        # An abstract name begins with a zero byte, which an environment variable cannot hold.
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._interval_s = _watchdog_s(environ, pid)
        self._is_ready = False

    @property
    def is_supervised(self) -> bool:
        """True when systemd listens."""
        return bool(self._address)

    @property
    def watchdog_s(self) -> float | None:
        """Seconds between two `watchdog` calls: half of what systemd waits; None when it does not wait for them."""
        return self._interval_s

    def ready(self, status: str = "") -> bool:
        """Tell that the start, or a reload, is over. Returns whether systemd was told, as all of these do."""
        self._is_ready = True
        return self._send("READY=1", status)

    def reloading(self, monotonic_s: float) -> bool:
        """Tell that a reload has begun, which `reloaded` ends. monotonic_s: when, by the machine's monotonic clock.

        Nothing is told before `ready`: the end of a reload would say that the start is over.
        """
        return self._is_ready and self._send(f"RELOADING=1\nMONOTONIC_USEC={round(monotonic_s * 1e6)}")

    def reloaded(self, status: str = "") -> bool:
        """Tell that the reload is over."""
        return self._is_ready and self.ready(status)

    def extend(self, seconds: float) -> bool:
        """Ask for so much more time from now on until `ready` or the end."""
        return self._send(f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}")

    def watchdog(self) -> bool:
        """Tell that the main path makes progress."""
        return self._send("WATCHDOG=1")

    def stopping(self, status: str = "") -> bool:
        """Tell that we are about to end."""
        return self._send("STOPPING=1", status)

    def status(self, text: str) -> bool:
        """Show `text`, one line, in `systemctl status`."""
        return self._send("", text)

    def _send(self, assignment: str, status: str = "") -> bool:
        # A line break in the text would begin another assignment.
        lines = [assignment, f"STATUS={' '.join(status.split())}" if status else ""]
        message = "\n".join(line for line in lines if line)
        if not self._address or not message:
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as sender:
            try:
                sender.sendto(message.encode(), self._address)
            except OSError:
                return False  # systemd is restarting or its queue is full: the caller knows, and the next one may pass
        return True


def _watchdog_s(environ: Mapping[str, str], pid: int) -> float | None:
    wait_us, watched = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not wait_us or watched not in ("", str(pid)):  # set for a parent of ours, not for us
        return None
    if not (wait_us.isascii() and wait_us.isdigit() and int(wait_us) > 0):
        raise ConfigError(f"WATCHDOG_USEC {wait_us!r} is no number of microseconds above 0: unset it")
    return int(wait_us) / 2e6
