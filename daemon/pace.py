"""The pace of feeds that have no market to wait for: so many candle times a second, or as fast as they are taken."""

from daemon.ports import Clock

_YIELD_EVERY = 32


class Pace:
    """Spaces the steps of a feed evenly.

    steps_per_second: 0 means without waiting. Every 32nd step that need not wait lets other tasks of the loop run.
    """

    def __init__(self, clock: Clock, steps_per_second: float) -> None:
        self._clock = clock
        self._period_s = 1.0 / steps_per_second if steps_per_second > 0.0 else 0.0
        self._due_s = clock.monotonic_s()
        self._hurried = 0

    async def step(self) -> None:
        """Wait until the next step is due. Time lost by the one who takes the steps is not caught up."""
        now_s = self._clock.monotonic_s()
        if self._due_s > now_s:
            await self._clock.sleep_s(self._due_s - now_s)
        else:
            await self._hurry()
        self._due_s = max(self._due_s, now_s) + self._period_s

    async def _hurry(self) -> None:
        self._hurried += 1
        if self._hurried % _YIELD_EVERY == 0:
            await self._clock.sleep_s(0.0)
