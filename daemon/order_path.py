"""Whether orders can be sent and followed: learned from how every request to the venue ends, told when it changes."""

from collections.abc import Awaitable
from typing import TypeVar

from daemon.clock_watch import ClockWatch
from daemon.errors import TransientError, UnknownOutcome
from daemon.outbox import Outbox
from daemon.ports import Clock, OrderPath
from daemon.venue import Unauthorised, VenueRefused

CLOSES_AFTER_S = 15.0
"""Requests fail for so long before the way to the venue counts as closed."""
T = TypeVar("T")


class PathWatch:
    """Watches every request. `is_open`: what the reader of the news was last told."""

    def __init__(self, outbox: Outbox, clock: Clock) -> None:
        self.is_open = True
        self.is_refused = False
        self._outbox = outbox
        self._clock = clock
        self._time = ClockWatch(clock)
        self._worked_s = clock.monotonic_s()
        self._fails_since_s: float | None = None
        self._trouble = ""

    async def of(self, request: Awaitable[T]) -> T:
        """Return what the request returns, or raise what it raises, and note how it went."""
        try:
            answer = await request
        except Unauthorised as error:
            self._refuse(str(error))
            raise
        except VenueRefused:
            self._note_answer()
            raise
        except (TransientError, UnknownOutcome) as error:
            self._note_failure(str(error))
            raise
        self._note_answer()
        return answer

    @property
    def is_well(self) -> bool:
        """True while requests are answered: what a closed path needs before it may open again."""
        return self._fails_since_s is None and not self.is_refused

    @property
    def silent_s(self) -> float:
        """Seconds since the venue last answered."""
        return self._clock.monotonic_s() - self._worked_s

    def review(self) -> None:
        """Close the path when requests have failed for too long; called from time to time."""
        if self._fails_since_s is not None and self._clock.monotonic_s() - self._fails_since_s > CLOSES_AFTER_S:
            self._close(f"no usable answer from the venue for {CLOSES_AFTER_S:.0f} s: {self._trouble}")

    def mind_clock(self) -> None:
        """Close the path when time jumped: whatever happened meanwhile is to be found before anything is bought."""
        if detail := self._time.look():
            self.distrust(f"{detail}; orders and balances are checked first")

    def distrust(self, detail: str) -> None:
        """Close the path for a reason that no request has shown. detail: in words."""
        self._close(detail)

    def reopen(self) -> None:
        """Tell that orders can be sent again: it works, and the account was compared with the books."""
        if not self.is_open:
            self.is_open = True
            self._outbox.put(OrderPath(is_open=True, detail="the venue answers again, orders and balances are checked"))

    def forgive(self) -> None:
        """Count the key as good until it is refused again: a request that needs it was answered."""
        self.is_refused = False

    def _refuse(self, detail: str) -> None:
        if not self.is_refused:
            self.is_refused, self.is_open = True, False
            self._outbox.put(OrderPath(is_open=False, needs_person=True, detail=f"the key is refused: {detail}"))

    def _note_answer(self) -> None:
        self._worked_s, self._fails_since_s = self._clock.monotonic_s(), None

    def _note_failure(self, detail: str) -> None:
        self._trouble = detail
        if self._fails_since_s is None:
            self._fails_since_s = self._clock.monotonic_s()
        self.review()

    def _close(self, detail: str) -> None:
        if self.is_open:
            self.is_open = False
            self._outbox.put(OrderPath(is_open=False, detail=detail))
