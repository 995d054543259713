"""When to train anew: no moment missed, none answered twice, whatever happens to the daemon and to its clock."""

import asyncio
import itertools
import logging
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from apscheduler.events import EVENT_JOB_MAX_INSTANCES  # type: ignore[import-untyped]
from apscheduler.schedulers.asyncio import AsyncIOScheduler  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.clock import SystemClock
from daemon.model_life import Life, Outcome, RetrainBy, of_requested, of_trained
from daemon.schedule import Due, Past, RetrainSchedule, Timetable, check_cron, next_due
from tests.fakes.clock import ManualClock
from tests.fakes.serving import ROOT

MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
WEEK_MS = 7 * DAY_MS
STEP_MS = 2 * HOUR_MS
"""From one look of a daemon to the next, where nothing wakes it up."""


def ms(text: str) -> int:
    """Return milliseconds UTC of "2024-01-07 03:00"."""
    return round(datetime.fromisoformat(f"{text}+00:00").timestamp() * 1_000)


SUNDAYS = Timetable(cron="0 3 * * sun")
BEGAN = ms("2024-01-01 12:00")  # a Monday
FIRST, SECOND, THIRD = ms("2024-01-07 03:00"), ms("2024-01-14 03:00"), ms("2024-01-21 03:00")


# ---- by hand ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("answered", "now", "at", "scheduled"),
    [
        (None, "2024-01-01 12:00", FIRST, FIRST),
        (None, "2024-01-07 02:59", FIRST, FIRST),
        (None, "2024-01-07 03:00", FIRST, FIRST),
        (None, "2024-01-09 00:00", FIRST, FIRST),
        (None, "2024-01-22 00:00", THIRD, THIRD),
        (FIRST, "2024-01-07 03:00", SECOND, SECOND),
        (FIRST, "2024-01-13 00:00", SECOND, SECOND),
        (FIRST, "2024-01-23 00:00", THIRD, THIRD),
        (THIRD, "2024-01-20 00:00", ms("2024-01-28 03:00"), ms("2024-01-28 03:00")),
    ],
    ids=[
        "before the first", "just before", "at the moment", "missed", "several missed", "answered just now",
        "answered", "missed since", "answered before the clock was set back",
    ],
)  # fmt: skip
@pytest.mark.fault(62)
def test_the_newest_moment_that_was_missed_is_due_at_once_else_the_next_one(
    answered: int | None, now: str, at: int, scheduled: int
) -> None:
    due = next_due(SUNDAYS, Past(began_ms=BEGAN, answered_ms=answered), ms(now))
    assert due == Due(at_ms=at, scheduled_ms=scheduled)


def test_intervals_are_counted_from_the_beginning_then_from_the_last_answer() -> None:
    daily = Timetable(every_hours=24.0)
    begins = BEGAN + 123
    assert next_due(daily, Past(began_ms=begins), begins) == Due(at_ms=begins + DAY_MS, scheduled_ms=begins + DAY_MS)
    assert next_due(daily, Past(began_ms=begins), begins + 3 * DAY_MS - 1) == Due(
        at_ms=begins + 2 * DAY_MS, scheduled_ms=begins + 2 * DAY_MS
    )
    answered = begins + 2 * DAY_MS
    assert next_due(daily, Past(began_ms=begins, answered_ms=answered), answered + 5) == Due(
        at_ms=answered + DAY_MS, scheduled_ms=answered + DAY_MS
    )


def test_without_a_timetable_nothing_is_ever_due() -> None:
    assert next_due(Timetable(), Past(began_ms=BEGAN), BEGAN + 10 * WEEK_MS) is None


@pytest.mark.parametrize(("failures", "pause_hours"), [(1, 6), (2, 12), (3, 24), (4, 48), (5, 96)], ids=str)
@pytest.mark.fault(58)
def test_after_a_failure_its_moment_is_due_again_after_a_pause_that_doubles(failures: int, pause_hours: int) -> None:
    failed = FIRST + 2 * HOUR_MS
    past = Past(began_ms=BEGAN, answered_ms=FIRST, failures=failures, failed_ms=failed)
    at = failed + pause_hours * HOUR_MS
    for now in (failed, at - 1, at, at + HOUR_MS):
        assert next_due(SUNDAYS, past, now) == Due(at_ms=at, scheduled_ms=FIRST)


@pytest.mark.parametrize("failures", [6, 7, 60, 2_000])
def test_the_pause_is_never_longer_than_until_the_next_moment(failures: int) -> None:
    past = Past(began_ms=BEGAN, answered_ms=FIRST, failures=failures, failed_ms=FIRST + 2 * HOUR_MS)
    assert next_due(SUNDAYS, past, FIRST + DAY_MS) == Due(at_ms=SECOND, scheduled_ms=SECOND)
    assert next_due(SUNDAYS, past, SECOND + DAY_MS) == Due(at_ms=SECOND, scheduled_ms=SECOND)


def test_without_retries_a_failure_waits_for_the_next_moment() -> None:
    past = Past(began_ms=BEGAN, answered_ms=FIRST, failures=1, failed_ms=FIRST + HOUR_MS)
    assert next_due(replace(SUNDAYS, retry_hours=0.0), past, FIRST + DAY_MS) == Due(at_ms=SECOND, scheduled_ms=SECOND)


def test_a_moment_that_came_during_a_pause_is_due_and_not_the_one_before() -> None:
    past = Past(began_ms=BEGAN, answered_ms=FIRST, failures=1, failed_ms=FIRST + HOUR_MS)
    assert next_due(SUNDAYS, past, THIRD + HOUR_MS) == Due(at_ms=THIRD, scheduled_ms=THIRD)


# ---- what the journal says --------------------------------------------------------------------------------------
def life_after(*steps: tuple[RetrainBy, int | None, Outcome | None]) -> Life:
    """Return the life after retrainings, each asked for by somebody, for a moment, with an outcome a minute later."""
    life, at_ms = Life(), BEGAN
    for number, (by, scheduled_ms, outcome) in enumerate(steps):
        request, at_ms = f"{number:016x}", at_ms + HOUR_MS
        records = [of_requested(request, by, at_ms, scheduled_ms=scheduled_ms, incumbent="a" * 16)]
        if outcome is not None:
            at_ms += MINUTE_MS
            records.append(of_trained(request, outcome, at_ms, reason="", candidate="", report={}))
        for record in records:
            life = life.after(record.payload)
    return life


SCHEDULE, HAND, FAILED = RetrainBy.SCHEDULE, RetrainBy.HAND, Outcome.FAILED


@pytest.mark.parametrize(
    ("steps", "past"),
    [
        ([], Past(began_ms=5)),
        ([(HAND, None, Outcome.KEPT)], Past(began_ms=5)),
        ([(HAND, None, FAILED)], Past(began_ms=5, failures=1)),
        ([(SCHEDULE, FIRST, None)], Past(began_ms=5, answered_ms=FIRST)),
        ([(SCHEDULE, FIRST, Outcome.KEPT)], Past(began_ms=5, answered_ms=FIRST)),
        (
            [(SCHEDULE, FIRST, FAILED)],
            Past(began_ms=5, answered_ms=FIRST, failures=1, failed_ms=BEGAN + HOUR_MS + MINUTE_MS),
        ),
        (
            [(SCHEDULE, FIRST, FAILED), (SCHEDULE, FIRST, FAILED)],
            Past(began_ms=5, answered_ms=FIRST, failures=2, failed_ms=BEGAN + 2 * (HOUR_MS + MINUTE_MS)),
        ),
        ([(SCHEDULE, FIRST, FAILED), (SCHEDULE, FIRST, None)], Past(began_ms=5, answered_ms=FIRST, failures=1)),
        ([(SCHEDULE, FIRST, FAILED), (HAND, None, Outcome.KEPT)], Past(began_ms=5, answered_ms=FIRST)),
        ([(SCHEDULE, FIRST, Outcome.KEPT), (HAND, None, FAILED)], Past(began_ms=5, answered_ms=FIRST, failures=1)),
    ],
    ids=[
        "nothing", "by hand", "by hand failed", "running", "answered", "failed", "failed twice", "tried again",
        "a person succeeded", "a person failed",
    ],
)  # fmt: skip
def test_the_life_of_the_ensembles_says_what_the_schedule_needs(
    steps: list[tuple[RetrainBy, int | None, Outcome | None]], past: Past
) -> None:
    assert Past.of(life_after(*steps), 5) == past


# ---- a second source for the moments ----------------------------------------------------------------------------
CRONS: dict[str, tuple[Callable[[date], bool], list[tuple[int, int]]]] = {
    "0 3 * * sun": (lambda day: day.weekday() == 6, [(3, 0)]),
    "30 2 * * *": (lambda _: True, [(2, 30)]),
    "*/20 1,13 * * mon-fri": (lambda day: day.weekday() < 5, [(h, m) for h in (1, 13) for m in (0, 20, 40)]),
    "15 0 1 * *": (lambda day: day.day == 1, [(0, 15)]),
    "0 12 last * *": (lambda day: (day + timedelta(days=1)).day == 1, [(12, 0)]),
}
"""On which days each comes, and when on these."""


def moments_of(cron: str, start_ms: int, end_ms: int) -> list[int]:
    """Return the moments of one of CRONS in (start, end], from the calendar alone."""
    fits, times = CRONS[cron]
    epoch = date(1970, 1, 1)
    days = [number for number in range(start_ms // DAY_MS, end_ms // DAY_MS + 1) if fits(epoch + timedelta(number))]
    found = [number * DAY_MS + hour * HOUR_MS + minute * MINUTE_MS for number in days for hour, minute in times]
    return [at_ms for at_ms in found if start_ms < at_ms <= end_ms]


@settings(max_examples=60, deadline=None)
@given(
    cron=st.sampled_from(sorted(CRONS)),
    began=st.integers(ms("2023-01-01 00:00"), ms("2026-01-01 00:00")),
    later=st.integers(0, 40 * DAY_MS),
)
def test_what_is_due_is_the_newest_moment_since_or_the_next_one_by_the_calendar(
    cron: str, began: int, later: int
) -> None:
    now = began + later
    missed = moments_of(cron, began, now)
    expected = missed[-1] if missed else moments_of(cron, now, now + 63 * DAY_MS)[0]
    assert next_due(Timetable(cron=cron), Past(began_ms=began), now) == Due(at_ms=expected, scheduled_ms=expected)


def test_years_of_missed_minutes_are_looked_through_at_once() -> None:
    looks = 0
    every_minute = Timetable(cron="* * * jan *")

    def count(_: object) -> None:
        nonlocal looks
        looks += 1

    trigger = type(every_minute.trigger(0))
    real = trigger.get_next_fire_time
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trigger, "get_next_fire_time", lambda *given: (count(given), real(*given))[1])
        due = next_due(every_minute, Past(began_ms=ms("2015-06-01 00:00")), ms("2024-11-30 07:07"))
    assert due is not None
    assert due.scheduled_ms == ms("2024-01-31 23:59")
    assert looks < 200


def test_time_zones_and_their_summer_change_nothing() -> None:
    program = (
        "import sys; from daemon.schedule import *\n"
        "for table in (Timetable(cron='30 2 * * *'), Timetable(every_hours=24.0)):\n"
        "    print([next_due(table, Past(began_ms=at), at).at_ms - at for at in map(int, sys.argv[1:])])\n"
    )
    # 02:30 does not exist on one of these days in Berlin, and comes twice on the other.
    nights = [str(ms(f"{day} 00:00")) for day in ("2024-03-31", "2024-10-27", "2024-07-01")]
    for zone in ("Europe/Berlin", "America/New_York", "UTC"):
        environ = {**os.environ, "TZ": zone, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-c", program, *nights], env=environ, capture_output=True, text=True, check=True
        )
        assert done.stdout == f"{[2 * HOUR_MS + 30 * MINUTE_MS] * 3}\n{[DAY_MS] * 3}\n"


# ---- a daemon that lives and dies -------------------------------------------------------------------------------
@dataclass
class Account:
    """What a journal would hold, and who acts on it as the daemon does: asks for what is due, and hears the outcome."""

    timetable: Timetable
    past: Past
    asked: list[tuple[int, int]] = field(default_factory=list)
    """When, and for which moment."""

    def live(self, now_ms: int, *, fails: bool) -> None:
        due = next_due(self.timetable, self.past, now_ms)
        if due is not None and due.at_ms <= now_ms:
            self.asked.append((now_ms, due.scheduled_ms))
            failures = self.past.failures + 1 if fails else 0
            self.past = replace(
                self.past, answered_ms=due.scheduled_ms, failures=failures, failed_ms=now_ms if fails else None
            )


spans = st.lists(st.tuples(st.integers(1, 80), st.integers(0, 20 * 24), st.booleans()), min_size=1, max_size=8)
timetables = st.sampled_from(
    [SUNDAYS, Timetable(cron="30 2 * * *"), Timetable(cron="15 0 1 * *"), Timetable(every_hours=24.0),
     Timetable(every_hours=30.5, retry_hours=1.0), Timetable(cron="*/20 1,13 * * mon-fri", retry_hours=0.0)]
)  # fmt: skip


def moments(timetable: Timetable, began_ms: int, end_ms: int) -> list[int]:
    if timetable.cron:
        return moments_of(timetable.cron, began_ms, end_ms)
    every_ms = round(timetable.every_hours * HOUR_MS)
    return list(range(began_ms + every_ms, end_ms + 1, every_ms))


@pytest.mark.fault(62)
@settings(max_examples=60, deadline=None)
@given(timetable=timetables, lives=spans)
def test_over_random_downtimes_each_moment_is_answered_at_most_once_and_none_is_missed_by_one_that_is_up(
    timetable: Timetable, lives: list[tuple[int, int, bool]]
) -> None:
    account, now_ms, first_looks = Account(timetable, Past(began_ms=BEGAN)), BEGAN, set()
    looks = []
    for up_steps, down_hours, _ in lives:
        first_looks.add(now_ms)
        for _ in range(up_steps):
            account.live(now_ms, fails=False)
            looks.append(now_ms)
            now_ms += STEP_MS
        now_ms += down_hours * HOUR_MS
    answered = [scheduled for _, scheduled in account.asked]
    known = moments(timetable, BEGAN, looks[-1])
    assert answered == sorted(set(answered))
    assert set(answered) <= set(known)
    for moment in known:
        # The first look after it answers it, or a newer one that has come by then.
        at_ms = next((look for look in looks if look >= moment), None)
        if at_ms is not None:
            newest = max(other for other in known if other <= at_ms)
            assert (at_ms, newest) in account.asked
    for at_ms, scheduled in account.asked:
        # Made up for at the first look of a life, or answered within a step.
        assert at_ms in first_looks or at_ms - scheduled < STEP_MS


@settings(max_examples=60, deadline=None)
@given(timetable=timetables, lives=spans)
def test_failures_repeat_their_moment_only_after_a_pause_and_delay_no_other(
    timetable: Timetable, lives: list[tuple[int, int, bool]]
) -> None:
    account, now_ms = Account(timetable, Past(began_ms=BEGAN)), BEGAN
    for up_steps, down_hours, fails in lives:
        for _ in range(up_steps):
            account.live(now_ms, fails=fails)
            now_ms += STEP_MS
        now_ms += down_hours * HOUR_MS
    pauses: dict[int, list[int]] = {}
    for at_ms, scheduled in account.asked:
        pauses.setdefault(scheduled, []).append(at_ms)
    assert list(pauses) == sorted(pauses)
    for times in pauses.values():
        gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
        if timetable.retry_hours == 0.0:
            assert gaps == []
        assert all(gap >= timetable.retry_hours * HOUR_MS for gap in gaps)


@settings(max_examples=25, deadline=None)
@given(
    timetable=timetables,
    jumps=st.lists(st.tuples(st.integers(1, 40), st.integers(-100_000, 100_000)), min_size=1, max_size=8),
)
def test_whatever_happens_to_the_clock_it_goes_on_within_two_intervals_of_the_last_jump(
    timetable: Timetable, jumps: list[tuple[int, int]]
) -> None:
    account, now_ms = Account(timetable, Past(began_ms=BEGAN)), BEGAN
    for looks, jump_hours in jumps:
        for _ in range(looks):
            account.live(now_ms, fails=False)
            now_ms += STEP_MS
        now_ms = max(ms("1990-01-01 00:00"), now_ms + jump_hours * HOUR_MS)
    before, since_ms = len(account.asked), now_ms
    while now_ms < since_ms + 2 * 32 * DAY_MS:
        account.live(now_ms, fails=False)
        now_ms += STEP_MS
    after = account.asked[before:]
    assert after
    # Once its records are of the present again, it keeps to its timetable.
    regular = [scheduled for _, scheduled in after[1:]]
    assert regular == sorted(set(regular))
    gaps = [at_ms - scheduled for at_ms, scheduled in after[1:]]
    assert all(0 <= gap < STEP_MS for gap in gaps)


def test_a_clock_set_back_a_little_repeats_nothing() -> None:
    past = Past(began_ms=BEGAN, answered_ms=SECOND)
    for back_ms in (1, HOUR_MS, 6 * DAY_MS):
        assert next_due(SUNDAYS, past, SECOND - back_ms) == Due(at_ms=THIRD, scheduled_ms=THIRD)


def test_a_clock_set_back_within_a_day_repeats_nothing_of_a_dense_timetable() -> None:
    dense = Timetable(cron="*/20 1,13 * * mon-fri")
    past = Past(began_ms=BEGAN, answered_ms=ms("2024-01-05 13:40"))  # a Friday
    for now in ("2024-01-05 12:40", "2024-01-04 13:50", "2024-01-06 00:00"):
        assert next_due(dense, past, ms(now)) == Due(at_ms=ms("2024-01-08 01:00"), scheduled_ms=ms("2024-01-08 01:00"))


def test_an_answer_from_years_ahead_holds_nothing_up() -> None:
    past = Past(began_ms=BEGAN, answered_ms=ms("2036-01-06 03:00"))
    assert next_due(SUNDAYS, past, ms("2024-01-16 00:00")) == Due(at_ms=SECOND, scheduled_ms=SECOND)


# ---- what is refused --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("cron", [*CRONS, "0 0 29 feb *", "5 4 * * *", "0 3 */2 * *"])
def test_a_schedule_that_can_be_followed_passes(cron: str) -> None:
    check_cron(cron)


@pytest.mark.parametrize(
    ("cron", "told"),
    [
        ("", "five fields"),
        ("0 3 * * sun 2024", "five fields"),
        ("0 3 * * 7", "names weekdays by number"),
        ("0 3 * * sat-6", "names weekdays by number"),
        ("0 25 * * *", r"is no schedule \(.*maximum value \(23\)"),
        ("0 3 31 2 *", "names a day that never comes"),
    ],
)
def test_a_schedule_that_cannot_be_followed_is_refused_in_words(cron: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        check_cron(cron)


# ---- the clock that rings ---------------------------------------------------------------------------------------
class Journal:
    """What is known, and who is asked; `answers` at once unless told otherwise."""

    def __init__(self, began_ms: int) -> None:
        self.past = Past(began_ms=began_ms)
        self.asked: list[Due] = []
        self.answers = True
        self.heard = asyncio.Event()

    async def ask(self, due: Due) -> None:
        self.asked.append(due)
        self.heard.set()
        await asyncio.sleep(0)
        if self.answers:
            self.past = replace(self.past, answered_ms=due.scheduled_ms)


@asynccontextmanager
async def running(
    timetable: Timetable,
    journal: Journal,
    clock: ManualClock | SystemClock,
    ask: Callable[[Due], Awaitable[None]] | None = None,
) -> AsyncIterator[tuple[RetrainSchedule, AsyncIOScheduler]]:
    scheduler = AsyncIOScheduler(timezone=UTC)
    schedule = RetrainSchedule(timetable, lambda: journal.past, ask or journal.ask, clock, scheduler)
    task = asyncio.create_task(schedule.run())
    await settle()
    try:
        yield schedule, scheduler
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await settle()
        assert not scheduler.running


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.fault(62)
async def test_a_real_scheduler_offers_each_moment_once_and_in_time() -> None:
    clock = SystemClock()
    journal = Journal(clock.now_ms())
    timetable = Timetable(every_hours=0.4 / 3_600)
    skipped: list[object] = []
    async with running(timetable, journal, clock) as (_, scheduler):
        scheduler.add_listener(skipped.append, EVENT_JOB_MAX_INSTANCES)
        late_ms = []
        while len(journal.asked) < 4:
            journal.heard.clear()
            await asyncio.wait_for(journal.heard.wait(), 60.0)
            late_ms.append(clock.now_ms() - journal.asked[-1].at_ms)
    moments_ms = [due.scheduled_ms for due in journal.asked]
    assert moments_ms == sorted(set(moments_ms))
    assert all((moment - journal.past.began_ms) % 400 == 0 for moment in moments_ms)
    assert min(late_ms) >= 0
    assert min(late_ms) < 400
    assert skipped == []


async def test_exactly_one_job_waits_and_it_neither_doubles_nor_expires() -> None:
    clock = ManualClock(FIRST - DAY_MS)
    journal = Journal(BEGAN)
    async with running(SUNDAYS, journal, clock) as (schedule, scheduler):
        for _ in range(3):
            (job,) = scheduler.get_jobs()
            assert (job.max_instances, job.coalesce, job.misfire_grace_time) == (1, True, None)
            assert waits_s(job) == pytest.approx(86_400.0, abs=30.0)
            schedule.rearm()
            await settle()
        assert schedule.next_ms == FIRST
    assert journal.asked == []


@pytest.mark.fault(62)
async def test_two_triggers_at_once_ask_once() -> None:
    clock = ManualClock(FIRST + HOUR_MS)
    journal = Journal(BEGAN)
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def ask(due: Due) -> None:
        begun.set()
        await go_on.wait()
        await journal.ask(due)

    async with running(SUNDAYS, journal, clock, ask) as (schedule, _):
        await begun.wait()
        schedule.rearm()
        schedule.rearm()
        await settle()
        go_on.set()
        await settle()
        schedule.rearm()
        await settle()
        assert journal.asked == [Due(at_ms=FIRST, scheduled_ms=FIRST)]
        assert schedule.next_ms == SECOND


async def test_a_moment_that_could_not_be_answered_is_offered_again_a_minute_later_or_when_something_changes() -> None:
    clock = ManualClock(FIRST + HOUR_MS)
    journal = Journal(BEGAN)
    journal.answers = False
    async with running(SUNDAYS, journal, clock) as (schedule, scheduler):
        assert journal.asked == [Due(at_ms=FIRST, scheduled_ms=FIRST)]
        (job,) = scheduler.get_jobs()
        assert waits_s(job) == pytest.approx(60.0, abs=30.0)
        job.modify(next_run_time=datetime.fromtimestamp(0, tz=UTC))  # as when the minute is over
        await until(lambda: len(journal.asked) == 2)
        await settle()
        journal.answers = True
        schedule.rearm()
        await settle()
        assert journal.asked == [Due(at_ms=FIRST, scheduled_ms=FIRST)] * 3
        assert schedule.next_ms == SECOND


async def test_a_scheduler_that_rings_too_early_asks_for_nothing() -> None:
    clock = ManualClock(FIRST - HOUR_MS)
    journal = Journal(BEGAN)
    async with running(SUNDAYS, journal, clock) as (_, scheduler):
        (job,) = scheduler.get_jobs()
        job.modify(next_run_time=datetime.fromtimestamp(0, tz=UTC))
        await until(lambda: scheduler.get_jobs()[0].trigger is not job.trigger)
        assert journal.asked == []
        clock.step_wall(3_600.0)
        (job,) = scheduler.get_jobs()
        job.modify(next_run_time=datetime.fromtimestamp(0, tz=UTC))
        await until(lambda: journal.asked == [Due(at_ms=FIRST, scheduled_ms=FIRST)])


async def test_a_clock_that_was_set_is_noticed_without_the_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemon.schedule._LOOK_EVERY_S", 0.05)
    clock = ManualClock(FIRST - DAY_MS)
    journal = Journal(BEGAN)
    async with running(SUNDAYS, journal, clock) as (_, scheduler):
        scheduler.pause()  # it waits for a time of day that a clock set back will not show for long
        clock.step_wall(86_400.0)
        await until(lambda: journal.asked == [Due(at_ms=FIRST, scheduled_ms=FIRST)])


def clock_s() -> float:
    return SystemClock().monotonic_s()


def waits_s(job: Any) -> float:
    """Return how long a job still waits by the machine's clock."""
    return float(
        (job.trigger.run_date - datetime.fromtimestamp(SystemClock().now_ms() / 1_000, tz=UTC)).total_seconds()
    )


async def until(holds: Callable[[], bool]) -> None:
    """Wait for what a real timer brings about."""
    async with asyncio.timeout(60.0):
        while not holds():  # noqa: ASYNC110 - what it looks at is the program's own
            await asyncio.sleep(0.01)


async def test_a_leap_of_the_clock_over_years_costs_no_time() -> None:
    """As of a machine that begins in 1970 and hears the time later: everything else waits while this is worked out."""
    clock = ManualClock(FIRST - HOUR_MS)
    journal = Journal(BEGAN)
    async with running(SUNDAYS, journal, clock) as (_, scheduler):
        (job,) = scheduler.get_jobs()
        began_s = clock_s()
        assert job._get_run_times(datetime(2400, 1, 1, tzinfo=UTC)) == [job.trigger.run_date]
        assert clock_s() - began_s < 1.0


async def test_what_asking_raises_ends_the_schedule_and_reaches_whoever_runs_it() -> None:
    class Broken(Exception):
        pass

    async def ask(_due: Due) -> None:
        raise Broken

    scheduler = AsyncIOScheduler(timezone=UTC)
    journal = Journal(BEGAN)
    schedule = RetrainSchedule(SUNDAYS, lambda: journal.past, ask, ManualClock(FIRST), scheduler)
    with pytest.raises(Broken):
        await schedule.run()
    await settle()
    assert not scheduler.running


async def test_without_a_timetable_nothing_is_next_until_it_is_given_one_and_none_again_once_it_is_taken_away() -> None:
    journal = Journal(BEGAN)
    async with running(Timetable(), journal, ManualClock(THIRD)) as (schedule, scheduler):
        assert (schedule.next_ms, scheduler.running, journal.asked) == (None, False, [])
        schedule.begin(SUNDAYS)
        await settle()
        assert [due.scheduled_ms for due in journal.asked] == [THIRD]
        assert schedule.next_ms == THIRD + 7 * 24 * 3_600_000
        assert len(scheduler.get_jobs()) == 1
        schedule.begin(Timetable())
        await settle()
        assert schedule.next_ms is None
        assert len(journal.asked) == 1


@pytest.fixture
def loud() -> Iterator[logging.Logger]:
    logger = logging.getLogger("apscheduler")
    before = logger.level
    yield logger
    logger.setLevel(before)


async def test_apscheduler_logs_only_what_goes_wrong(loud: logging.Logger, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    loud.setLevel(logging.NOTSET)
    async with running(SUNDAYS, Journal(BEGAN), ManualClock(FIRST - 60_000)) as (_, scheduler):
        (job,) = scheduler.get_jobs()
        job.modify(next_run_time=datetime.fromtimestamp(0, tz=UTC))
        await until(lambda: scheduler.get_jobs()[0].trigger is not job.trigger)
    assert [record for record in caplog.records if record.name.startswith("apscheduler")] == []
