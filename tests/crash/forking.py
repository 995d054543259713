"""What the nurseries share: a process that has everything imported forks one child per life, as its input says.

A process ends with the one that began it, so that a test run that is killed leaves nothing behind.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Self

from tests.fakes.serving import ROOT

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_FAILED = 70


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends; called in the child, between fork and exec."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


# ---- the process that forks -------------------------------------------------------------------------------------
def fork(live: Callable[[], int]) -> int:
    """Let a child live and end with what `live` returns; returns its process id."""
    child = os.fork()
    if child == 0:
        die_with_parent()
        code = _FAILED
        try:
            code = live()
        finally:
            os._exit(code)
    return child


def serve(live: Callable[[Mapping[str, Any]], int]) -> None:
    """Fork one child per line of input, kill it after `delay_s` where that is given, and say how it ended."""
    for line in sys.stdin:
        asked = json.loads(line)
        child = fork(lambda asked=asked: live(asked))  # type: ignore[misc]
        if asked["delay_s"] is not None:
            time.sleep(asked["delay_s"])  # the moment of death is what is tested: there is no clock to fake
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        os.write(1, b"ended %d\n" % os.waitstatus_to_exitcode(status))


# ---- the test's side --------------------------------------------------------------------------------------------
class ForkServer:
    """A module that forks, run as a process of its own."""

    def __init__(self, module: str, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def send(self, asked: Mapping[str, Any]) -> None:
        """Ask for something, as one line."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()

    def line(self) -> str:
        """Return the next line it says."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the nursery died"
        return line

    def ended(self) -> tuple[int, list[str]]:
        """Return the exit code of the child that `serve` forked, -9 when killed, and the lines it wrote before."""
        lines = []
        while not (line := self.line()).startswith("ended"):
            lines.append(line)
        return int(line.split()[1]), lines
