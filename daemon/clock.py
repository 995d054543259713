"""SystemClock: the only file of the project that reads the time; nothing else sleeps."""

import asyncio
import math
import time


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
