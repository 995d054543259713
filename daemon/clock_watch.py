"""Whether time went on as it should: a machine that slept, or whose clock was set, must look before it buys.

Pure bookkeeping over a Clock. A suspended machine wakes with its wall clock ahead of its monotonic one; a process that
was stopped, or starved, finds that nobody looked for long. In both the venue has gone on without us.
"""

from daemon.ports import Clock

JUMP_S = 5.0
"""A wall clock that moves so much against the monotonic one was set, or slept: corrections of NTP stay below it."""
ABSENT_S = 120.0
"""A process that did not look for so long was not running."""


class ClockWatch:
    """Compares both clocks from one look to the next. clock: to be looked at every second or so."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._looked_s = clock.monotonic_s()
        self._wall_s = clock.now_ms() / 1_000

    def look(self) -> str:
        """Return what became of time since the last look, in words; "" when it passed as it should."""
        now_s, wall_s = self._clock.monotonic_s(), self._clock.now_ms() / 1_000
        passed_s, shown_s = now_s - self._looked_s, wall_s - self._wall_s
        self._looked_s, self._wall_s = now_s, wall_s
        if abs(shown_s - passed_s) > JUMP_S:
            return f"the clock jumped by {shown_s - passed_s:+.0f} s: the machine slept, or its clock was set"
        if passed_s > ABSENT_S:
            return f"sacd did not run for {passed_s:.0f} s"
        return ""
