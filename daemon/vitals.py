"""Signs of life: how long each part that the daemon cannot do without has been silent. Bookkeeping over a Clock.

Candles alone tell too little: hourly ones leave an hour in which a part may stand still unseen. What is silent because
somebody else is (a venue, a market without trades) still turns, and asks again; only what does not turn is told here.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from daemon.ports import Clock, Feed

ASK_EVERY_S = 5.0
STEP_S = 30.0
"""A commit, and a step of the decision loop with the commits in it, takes milliseconds; a poor disk takes seconds."""
TURN_S = 300.0
"""What a turn of a live feed may take beyond listening: four requests, each with its share of the venue's limit to wait
for and a timeout, make two minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vital:
    """One part and how long it may be silent.

    silent: returns what is silent, in words, and since how many seconds; None while nothing is waited for.
    """

    silent: Callable[[], tuple[str, float] | None]
    deadline_s: float

    def fault(self) -> str | None:
        """Return in words that it has been silent for too long, None when it has not."""
        found = self.silent()
        if found is None or found[1] <= self.deadline_s:
            return None
        return f"{found[0]} for {found[1]:.0f} s, longer than {self.deadline_s:g} s"


class Pulse:
    """When each of several parts that run side by side last turned."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._turned_s: dict[str, float] = {}

    def beat(self, part: str) -> None:
        """Note that `part` turns, and will again."""
        self._turned_s[part] = self._clock.monotonic_s()

    def rest(self, part: str) -> None:
        """Note that `part` is done, and need not turn any more."""
        self._turned_s.pop(part, None)

    def slowest(self) -> tuple[str, float] | None:
        """Return the part that turned longest ago and for how many seconds it has not, None while there is none."""
        if not self._turned_s:
            return None
        part = min(self._turned_s, key=self._turned_s.__getitem__)
        return part, self._clock.monotonic_s() - self._turned_s[part]


class Echo:
    """Asks for an answer now and then, and knows how long the last question has gone unanswered."""

    def __init__(self, clock: Clock, ask: Callable[[], Awaitable[None]]) -> None:
        """ask: returns once whoever is asked has answered."""
        self._clock = clock
        self._ask = ask
        self._asked_s: float | None = None

    async def run(self) -> None:
        """Ask until cancelled; raises what asking raises."""
        while True:
            self._asked_s = self._clock.monotonic_s()
            await self._ask()
            self._asked_s = None
            await self._clock.sleep_s(ASK_EVERY_S)

    @property
    def waited_s(self) -> float | None:
        """Seconds since a question that has no answer yet, None while there is none."""
        return None if self._asked_s is None else self._clock.monotonic_s() - self._asked_s


class StepLock:
    """Lets one step be taken at a time, as asyncio.Lock does, and knows how long the present one has taken."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = asyncio.Lock()
        self._since_s: float | None = None

    async def __aenter__(self) -> None:
        await self._lock.acquire()
        self._since_s = self._clock.monotonic_s()

    async def __aexit__(self, *_: object) -> None:
        self._since_s = None
        self._lock.release()

    @property
    def busy_s(self) -> float | None:
        """Seconds that the step under way has taken, None between two steps."""
        return None if self._since_s is None else self._clock.monotonic_s() - self._since_s


def vitals_of(
    *, feed: Feed, stale_after_s: float, journal: Echo, busy_s: Callable[[], float | None]
) -> tuple[Vital, ...]:
    """Return what has to go on besides candles: feed, journal and decision loop.

    stale_after_s: for which a live feed may listen before it connects again.  busy_s: returns how long the decision
    loop has been at one event or command, None between two of them.
    """
    vitals = [
        Vital(silent=lambda: _named("the journal has not answered", journal.waited_s), deadline_s=STEP_S),
        Vital(silent=lambda: _named("the decision loop has been at one step", busy_s()), deadline_s=STEP_S),
    ]
    if feed.is_live:
        # Recorded and made-up candles come at a pace of our own: that they do not come tells it all.
        vitals.append(Vital(silent=lambda: _part_of(feed), deadline_s=stale_after_s + TURN_S))
    return tuple(vitals)


def _named(name: str, seconds: float | None) -> tuple[str, float] | None:
    return None if seconds is None else (name, seconds)


def _part_of(feed: Feed) -> tuple[str, float] | None:
    found = feed.slowest()
    return None if found is None else (f"the feed has stood still at {found[0]}", found[1])
