"""When an ensemble is to be trained anew: the moments of the timetable in [retrain], and a clock that rings at them.

Which moment is due follows from what the journal says and the present time alone, so that a daemon that was down, or
whose machine's clock was set, misses none and answers none twice. The only file that knows APScheduler, which reads
the machine's clock itself: it decides when to look, and `next_due` whether anything is due.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from apscheduler.schedulers.asyncio import AsyncIOScheduler  # type: ignore[import-untyped]
from apscheduler.triggers.cron import CronTrigger  # type: ignore[import-untyped]
from apscheduler.triggers.date import DateTrigger  # type: ignore[import-untyped]
from apscheduler.triggers.interval import IntervalTrigger  # type: ignore[import-untyped]

from daemon.model_life import Life, Outcome
from daemon.ports import Clock

_HOUR_MS, _DAY_MS = 3_600_000, 86_400_000
_RAREST_MS = 9 * 366 * _DAY_MS
"""No timetable leaves more between two moments: around 2100 the 29th of February comes after eight years."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SOME_DAY_MS = 1_704_067_200_000  # 2024-01-01: a cron expression that comes at all comes after it
_CRON_FIELDS = 5
_LOOK_EVERY_S = 900.0
"""APScheduler waits for a time of day: set back, the machine's clock would keep it waiting."""
_AGAIN_S = 60.0
"""A moment that could not be answered, for want of time or of a trainer, is offered again."""
_SOONEST_S = 0.001  # an interval of 0 is a second to APScheduler
_MOST_DOUBLINGS = 20
_JOB = "retrain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timetable:
    """When to train anew. cron: minute, hour, day, month, weekday, UTC; day and weekday must both fit.

    every_hours: 0 is never.  retry_hours: after a failure, doubled with each one in a row; 0 waits for the next moment.
    """

    cron: str = ""
    every_hours: float = 0.0
    retry_hours: float = 6.0

    def trigger(self, since_ms: int) -> Any:  # noqa: ANN401 - APScheduler has no types
        """Return what tells the moments, for intervals counted from `since_ms`; None when there are none."""
        if self.cron:
            return CronTrigger.from_crontab(self.cron, timezone=UTC)
        if self.every_hours:
            every = timedelta(milliseconds=round(self.every_hours * _HOUR_MS))
            return IntervalTrigger(seconds=every.total_seconds(), start_date=_moment(since_ms), timezone=UTC)
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What the journal says of the schedule. began_ms: since when it holds.

    answered_ms: the newest moment of it that a retraining was asked for, None for none so far.
    failures: retrainings in a row that failed.  failed_ms: when the newest retraining ended, if it answered the
    schedule and failed; None otherwise.
    """

    began_ms: int
    answered_ms: int | None = None
    failures: int = 0
    failed_ms: int | None = None

    @classmethod
    def of(cls, life: Life, began_ms: int) -> "Past":
        """Return what the life of the ensembles says of the schedule."""
        newest = life.retrain
        is_retried = newest is not None and newest.outcome is Outcome.FAILED and newest.scheduled_ms is not None
        return cls(
            began_ms=began_ms,
            answered_ms=life.scheduled_ms,
            failures=life.failures,
            failed_ms=newest.ended_ms if newest is not None and is_retried else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """When to ask for a retraining. at_ms: in the past when it is overdue.  scheduled_ms: the moment it answers."""

    at_ms: int
    scheduled_ms: int


# ---- which moment is next -----------------------------------------------------------------------------------------
def check_cron(expression: str) -> None:
    """Raise ValueError in words when a cron expression cannot be followed, or never comes."""
    fields = expression.split()
    if len(fields) != _CRON_FIELDS:
        raise ValueError("is no schedule of five fields")
    if any(letter.isdigit() for letter in fields[-1]):
        # cron counts from Sunday and APScheduler from Monday: whoever writes a number may mean either.
        raise ValueError("names weekdays by number, which is ambiguous: write them as sun, mon, tue-fri")
    try:
        trigger = CronTrigger.from_crontab(expression, timezone=UTC)
    except ValueError as error:
        raise ValueError(f"is no schedule ({str(error)[:120]})") from error
    _after(trigger, _SOME_DAY_MS)


def next_due(timetable: Timetable, past: Past, now_ms: int) -> Due | None:
    """Return when to ask for the next retraining, and which moment it answers; None when there is no timetable.

    Of moments that were missed only the newest is made up for, at once. After a failure its moment is due again,
    `retry_hours` later and twice as long after each further one, unless the next moment comes before. A record that
    lies ahead by more than a day, and than the schedule's own interval, was made while the clock was wrong: it is as
    good as none, and the newest moment is due.
    """
    trigger = timetable.trigger(now_ms)
    if trigger is None:
        return None
    next_ms = _after(trigger, now_ms)
    interval_ms = _after(trigger, next_ms) - next_ms
    since_ms = past.began_ms if past.answered_ms is None else past.answered_ms
    if since_ms > now_ms + max(interval_ms, _DAY_MS):
        since_ms = now_ms - _RAREST_MS
    trigger = timetable.trigger(since_ms)
    first_ms = _after(trigger, since_ms)
    if first_ms <= now_ms:
        newest_ms = _newest(trigger, first_ms, now_ms)
        return Due(at_ms=newest_ms, scheduled_ms=newest_ms)
    if past.answered_ms is not None and past.failed_ms is not None and timetable.retry_hours > 0.0:
        retry_ms = past.failed_ms + _pause_ms(timetable, past.failures)
        if retry_ms < first_ms:
            return Due(at_ms=retry_ms, scheduled_ms=past.answered_ms)
    return Due(at_ms=first_ms, scheduled_ms=first_ms)


def _pause_ms(timetable: Timetable, failures: int) -> int:
    return round(timetable.retry_hours * _HOUR_MS) << min(max(failures - 1, 0), _MOST_DOUBLINGS)


def _newest(trigger: Any, first_ms: int, now_ms: int) -> int:  # noqa: ANN401 - as above
    """Return the newest moment up to now, `first_ms` being one; looks at few of them, however many there were."""
    newest_ms, end_ms = first_ms, now_ms  # none lies behind `end_ms` and before now
    while (following_ms := _after(trigger, newest_ms)) <= now_ms:
        newest_ms = following_ms
        middle_ms = (newest_ms + end_ms) // 2
        later_ms = _after(trigger, middle_ms)
        if later_ms <= now_ms:
            newest_ms = later_ms
        else:
            end_ms = middle_ms
    return newest_ms


def _after(trigger: Any, at_ms: int) -> int:  # noqa: ANN401 - as above
    """Return the first moment after `at_ms`. Raises ValueError when there is none."""
    moment: datetime | None = trigger.get_next_fire_time(None, _moment(at_ms + 1))
    if moment is None:
        raise ValueError("names a day that never comes")
    return round((moment - _EPOCH) / timedelta(milliseconds=1))


def _moment(at_ms: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=at_ms)


# ---- the clock that rings -----------------------------------------------------------------------------------------
class RetrainSchedule:
    """Offers every moment of a timetable that is due, and again until it is answered."""

    def __init__(
        self,
        timetable: Timetable,
        past: Callable[[], Past],
        ask: Callable[[Due], Awaitable[None]],
        clock: Clock,
        scheduler: AsyncIOScheduler | None = None,
    ) -> None:
        """past: what the journal says now.  ask: asks for a retraining, or leaves the moment for later.

        scheduler: one of APScheduler that is not running; without one its own.
        """
        self._timetable = timetable
        self._past = past
        self._ask = ask
        self._clock = clock
        self._scheduler = AsyncIOScheduler(timezone=UTC) if scheduler is None else scheduler
        self._rung = asyncio.Event()
        self._offered: Due | None = None
        # Two lines for every time it rings would bury the log; what went wrong it says at a higher level.
        logging.getLogger("apscheduler").setLevel(logging.WARNING)

    @property
    def next_ms(self) -> int | None:
        """When the next retraining will be asked for, None without a timetable; in the past when it is overdue."""
        due = next_due(self._timetable, self._past(), self._clock.now_ms())
        return None if due is None else due.at_ms

    def begin(self, timetable: Timetable) -> None:
        """Go by another timetable from here on."""
        self._timetable = timetable
        self.rearm()

    def rearm(self) -> None:
        """Look anew: something has changed in what the journal says."""
        self._offered = None
        self._rung.set()

    async def run(self) -> None:
        """Offer what is due until cancelled; raises what `ask` raises."""
        try:
            while True:
                self._rung.clear()
                await self._look()
                self._arm()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_EVERY_S):
                        await self._rung.wait()
        finally:
            if self._scheduler.running:
                self._scheduler.shutdown(wait=False)

    async def _look(self) -> None:
        due = next_due(self._timetable, self._past(), self._clock.now_ms())
        if due is not None and due.at_ms <= self._clock.now_ms():
            self._offered = due
            await self._ask(due)

    def _arm(self) -> None:
        """Let APScheduler ring when the next moment comes.

        Its clock need not agree with ours: only the span counts. It rings once, for after a leap of the clock it would
        go through all the times that it could have rung meanwhile, and everything else would wait.
        """
        due, now_ms = next_due(self._timetable, self._past(), self._clock.now_ms()), self._clock.now_ms()
        if due is None:
            return
        if not self._scheduler.running:
            self._scheduler.start()
        wait_s = max((due.at_ms - now_ms) / 1_000, _SOONEST_S) if due != self._offered else _AGAIN_S
        self._scheduler.add_job(
            self._ring,
            DateTrigger(IntervalTrigger(seconds=wait_s, timezone=UTC).start_date),
            id=_JOB,
            replace_existing=True,
            max_instances=1,
            coalesce=True,
            misfire_grace_time=None,
        )

    async def _ring(self) -> None:
        self._rung.set()
