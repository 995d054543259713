"""A clock that stands still until a test moves it."""

import asyncio
import heapq
import itertools

_SETTLE_ROUNDS = 20  # how many turns of the loop a woken task gets before time moves on


class ManualClock:
    """`daemon.ports.Clock` under a test's control: a sleeper resumes when `advance` carries time past its end.

    start_ms: wall clock at the beginning, milliseconds UTC. monotonic_s begins at 0.
    """

    def __init__(self, start_ms: int = 1_600_000_000_000) -> None:
        self._wall_us = start_ms * 1_000
        self._elapsed_us = 0
        self._order = itertools.count()
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []

    def now_ms(self) -> int:
        return (self._wall_us + self._elapsed_us) // 1_000

    def monotonic_s(self) -> float:
        return self._elapsed_us / 1e6

    async def sleep_s(self, seconds: float) -> None:
        if seconds != seconds:  # noqa: PLR0124  # NaN, as SystemClock refuses it
            raise ValueError("sleep_s needs a number of seconds, not NaN")
        if seconds <= 0.0:
            await asyncio.sleep(0)
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Whole microseconds, rounded up: a sleeper never wakes early, and ties wake in the order they began.
        due_us = self._elapsed_us - int(-seconds * 1e6 // 1)
        heapq.heappush(self._sleepers, (due_us, next(self._order), done))
        await done

    @property
    def sleepers(self) -> int:
        """Tasks that wait for time to move."""
        return sum(not done.done() for _, _, done in self._sleepers)

    async def advance(self, seconds: float) -> None:
        """Move time on, waking sleepers one after the other, each at its own moment, including those that begin to
        sleep again on the way. Work that waits for real I/O or threads is not waited for.
        """
        if not seconds >= 0.0:
            raise ValueError(f"time moves forward only, not by {seconds} s")
        await self.settle()
        end_us = self._elapsed_us + round(seconds * 1e6)
        while self._sleepers and self._sleepers[0][0] <= end_us:
            due_us, _, done = heapq.heappop(self._sleepers)
            if done.done():  # its task was cancelled
                continue
            self._elapsed_us = max(self._elapsed_us, due_us)
            done.set_result(None)
            await self.settle()
        self._elapsed_us = end_us
        await self.settle()

    def step_wall(self, seconds: float) -> None:
        """Set the wall clock forward or back, as an operator or NTP does; no sleeper notices."""
        self._wall_us += round(seconds * 1e6)

    async def settle(self) -> None:
        """Let every task that can run do so, without moving time."""
        for _ in range(_SETTLE_ROUNDS):
            await asyncio.sleep(0)
