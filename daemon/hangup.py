"""SIGHUP, which by default ends a process: a daemon reads its configuration anew, and ends only with its terminal.

`daemon.__main__` has the system hold it from its first line on; what came before `Hangup.listen` is heard then, once.
"""

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Any


class Hangup:
    """What SIGHUP means from `listen` to `leave`."""

    def __init__(self, *, reload: Callable[[], None], end: Callable[[], None]) -> None:
        """reload: called, in the loop, to have the configuration read anew.  end: called when the terminal is gone."""
        self._reload = reload
        self._end = end
        self._has_terminal = False
        self._after: Any = signal.SIG_DFL

    def listen(self) -> None:
        """Begin, and hear at once of what was held."""
        # nohup(1) has it ignored: whoever says so wants to outlive the terminal, and may still ask for a reload.
        before, loop = signal.getsignal(signal.SIGHUP), asyncio.get_running_loop()
        self._has_terminal = before is not signal.SIG_IGN and is_on_terminal()
        # Not through the loop, which would let it end the process once more when the loop is closed.
        signal.signal(signal.SIGHUP, lambda *_: loop.call_soon_threadsafe(self._hear))
        was_held = signal.SIGHUP in signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
        self._after = signal.SIG_IGN if was_held else before

    def leave(self) -> None:
        """End: where it was held before `listen` it is ignored from here on, until the process has ended."""
        signal.signal(signal.SIGHUP, self._after)

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
