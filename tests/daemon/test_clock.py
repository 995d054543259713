"""The system clock keeps what `daemon.ports.Clock` promises; the manual clock keeps the same and stands still."""

import asyncio
import time
from datetime import UTC, datetime

import pytest

from daemon.clock import ScaledClock, SystemClock
from daemon.ports import Clock
from tests.fakes.clock import ManualClock


def test_both_clocks_are_clocks() -> None:
    clocks: list[Clock] = [SystemClock(), ManualClock(), ScaledClock.from_now(60.0)]
    assert all(isinstance(clock.now_ms(), int) for clock in clocks)


def test_wall_clock_is_milliseconds_utc() -> None:
    before = datetime.now(tz=UTC).timestamp()  # noqa: TID251  # the second source the clock is held against
    now_s = SystemClock().now_ms() / 1_000
    after = datetime.now(tz=UTC).timestamp()  # noqa: TID251  # the second source the clock is held against
    assert before - 0.001 <= now_s <= after


def test_monotonic_clock_never_steps_back() -> None:
    clock = SystemClock()
    seen = [clock.monotonic_s() for _ in range(1_000)]
    assert seen == sorted(seen)


@pytest.mark.parametrize("seconds", [0.0, 0.0001, 0.003, 0.02])
async def test_sleep_lasts_at_least_as_long_as_asked(seconds: float) -> None:
    began = time.monotonic()
    await SystemClock().sleep_s(seconds)
    assert time.monotonic() - began >= seconds


async def test_sleep_of_zero_or_less_lets_other_tasks_run() -> None:
    seen: list[str] = []
    other = asyncio.create_task(_note(seen))
    await SystemClock().sleep_s(-5.0)
    assert seen == ["ran"]
    await other


async def _note(seen: list[str]) -> None:
    seen.append("ran")


@pytest.mark.parametrize(
    "clock", [SystemClock(), ManualClock(), ScaledClock.from_now(60.0)], ids=["system", "manual", "scaled"]
)
async def test_sleeping_for_nan_is_refused(clock: Clock) -> None:
    with pytest.raises(ValueError, match="NaN"):
        await clock.sleep_s(float("nan"))


async def test_manual_clock_stands_still_until_it_is_moved() -> None:
    clock = ManualClock(start_ms=5_000)
    sleeper = asyncio.create_task(clock.sleep_s(2.0))
    await clock.advance(1.999)
    assert not sleeper.done()
    assert clock.now_ms() == 6_999
    await clock.advance(0.001)
    assert sleeper.done()
    assert (clock.now_ms(), clock.monotonic_s()) == (7_000, 2.0)


async def test_manual_clock_wakes_each_sleeper_at_its_own_moment_in_order() -> None:
    clock = ManualClock(start_ms=0)
    woken: list[tuple[str, int]] = []

    async def sleep(name: str, *naps: float) -> None:
        for nap in naps:
            await clock.sleep_s(nap)
            woken.append((name, clock.now_ms()))

    tasks = [asyncio.create_task(sleep("a", 3.0)), asyncio.create_task(sleep("b", 1.0, 1.0, 1.0))]
    await clock.advance(10.0)
    assert woken == [("b", 1_000), ("b", 2_000), ("a", 3_000), ("b", 3_000)]
    assert clock.now_ms() == 10_000
    await asyncio.gather(*tasks)


async def test_manual_clock_forgets_cancelled_sleepers() -> None:
    clock = ManualClock()
    sleeper = asyncio.create_task(clock.sleep_s(1.0))
    await clock.settle()
    assert clock.sleepers == 1
    sleeper.cancel()
    await clock.settle()
    assert clock.sleepers == 0
    await clock.advance(2.0)
    assert sleeper.cancelled()


async def test_a_step_of_the_wall_clock_wakes_nobody_and_leaves_monotonic_time_alone() -> None:
    clock = ManualClock(start_ms=0)
    sleeper = asyncio.create_task(clock.sleep_s(60.0))
    clock.step_wall(3_600.0)
    await clock.settle()
    assert (clock.now_ms(), clock.monotonic_s(), sleeper.done()) == (3_600_000, 0.0, False)
    await clock.advance(60.0)
    assert sleeper.done()
    clock.step_wall(-7_200.0)
    assert clock.now_ms() == 60_000 + 3_600_000 - 7_200_000


async def test_manual_clock_refuses_to_go_back() -> None:
    with pytest.raises(ValueError, match="forward only"):
        await ManualClock().advance(-1.0)


async def test_a_scaled_clock_runs_as_many_times_as_fast_and_shows_the_time_it_was_set_to() -> None:
    clock, began = ScaledClock.from_now(200.0, wall_ms=1_600_000_000_000), time.monotonic()
    await clock.sleep_s(10.0)
    lasted = time.monotonic() - began
    assert lasted >= 10.0 / 200.0
    shown_s = (clock.now_ms() - 1_600_000_000_000) / 1_000
    assert 10.0 <= shown_s <= (time.monotonic() - began) * 200.0 + 0.001


def test_two_processes_given_the_same_three_numbers_agree_on_the_time() -> None:
    first = ScaledClock.from_now(50.0)
    other = ScaledClock(factor=first.factor, wall_ms=first.wall_ms, since_s=first.since_s)
    before = first.now_ms()
    assert before <= other.now_ms() <= first.now_ms()


@pytest.mark.parametrize("factor", [0.0, -1.0, float("inf"), float("nan")])
def test_a_clock_that_stands_still_or_runs_backwards_is_refused(factor: float) -> None:
    with pytest.raises(ValueError, match="cannot run"):
        ScaledClock.from_now(factor)
