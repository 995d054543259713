"""SIGHUP, which by default ends a process: a daemon reads its configuration anew, and ends only with its terminal.

`daemon.__main__` has the system hold it from its first line on; what came before `Hangup.listen` is heard then, once.
"""

import asyncio
import os
import signal
from collections.abc import Callable

_ONLY = frozenset({signal.SIGHUP})


class Hangup:
    """What SIGHUP means from `listen` to `leave`."""

    def __init__(self, *, reload: Callable[[], None], end: Callable[[], None]) -> None:
        """reload: called, in the loop, to have the configuration read anew.  end: called when the terminal is gone."""
        self._reload = reload
        self._end = end
        self._has_terminal = False
        self._mask: set[int] = set()

    def listen(self) -> None:
        """Begin, and hear at once of what was held."""
        # nohup(1) has it ignored: whoever says so wants to outlive the terminal, and may still ask for a reload.
        is_nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        self._has_terminal = not is_nohup and is_on_terminal()
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._hear)
        self._mask = set(signal.pthread_sigmask(signal.SIG_UNBLOCK, _ONLY))

    def leave(self) -> None:
        """End: from here on it is held, or not, as it was before `listen`."""
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)

    def _hear(self) -> None:
        if self._has_terminal and not is_on_terminal():
            self._end()
        else:
            self._reload()


def is_on_terminal() -> bool:
    """Return whether this process has a terminal, and it is still there."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
