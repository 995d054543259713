"""The clocks: the only file of the project that reads the time; nothing else sleeps."""

import asyncio
import math
import time
from dataclasses import dataclass


class SystemClock:
    """The machine's own clocks, as `daemon.ports.Clock` asks for them."""

    def now_ms(self) -> int:
        """Return the wall clock in whole milliseconds UTC; it steps when the machine's clock is set."""
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        """Return seconds since some moment before the start; never steps back."""
        return time.monotonic()

    async def sleep_s(self, seconds: float) -> None:
        """Wait at least `seconds` of `monotonic_s`; 0 or less lets other tasks run once. Raises ValueError for NaN."""
        if math.isnan(seconds):
            raise ValueError("sleep_s needs a number of seconds, not NaN")
        deadline = time.monotonic() + seconds
        await asyncio.sleep(max(0.0, seconds))
        # The loop fires timers up to one clock tick early.
        while (rest := deadline - time.monotonic()) > 0.0:  # noqa: ASYNC110  # there is no event to wait for but time
            await asyncio.sleep(rest)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaledClock:
    """Time that runs `factor` times as fast as the machine's, for rehearsals: `daemon.ports.Clock`.

    wall_ms: what it shows, milliseconds UTC, at the moment `since_s` of the machine's monotonic clock.  Processes on
    one machine that are given the same three numbers agree on the time.  It never steps.
    """

    factor: float
    wall_ms: int
    since_s: float

    @classmethod
    def from_now(cls, factor: float, wall_ms: int | None = None) -> "ScaledClock":
        """Return a clock that shows `wall_ms` now (None: the present time). Raises ValueError for a factor <= 0."""
        if not 0.0 < factor < math.inf:
            raise ValueError(f"a clock cannot run {factor} times as fast")
        start_ms = time.time_ns() // 1_000_000 if wall_ms is None else wall_ms
        return cls(factor=factor, wall_ms=start_ms, since_s=time.monotonic())

    def now_ms(self) -> int:
        """Return the wall clock in whole milliseconds UTC."""
        return self.wall_ms + int(self.monotonic_s() * 1_000)

    def monotonic_s(self) -> float:
        """Return the scaled seconds since `since_s`."""
        return (time.monotonic() - self.since_s) * self.factor

    async def sleep_s(self, seconds: float) -> None:
        """Wait at least `seconds` of `monotonic_s`; 0 or less lets other tasks run once."""
        await SystemClock().sleep_s(seconds / self.factor)
