"""How long each part has been silent, and what of that is too long."""

import asyncio
from contextlib import suppress

from daemon.vitals import ASK_EVERY_S, Echo, Pulse, StepLock, Vital
from tests.fakes.clock import ManualClock


async def test_the_part_that_turned_longest_ago_is_the_slowest_and_one_that_is_done_is_none() -> None:
    clock = ManualClock()
    pulse = Pulse(clock)
    assert pulse.slowest() is None
    pulse.beat("candles")
    await clock.advance(10.0)
    pulse.beat("trades")
    await clock.advance(5.0)
    assert pulse.slowest() == ("candles", 15.0)
    pulse.beat("candles")
    assert pulse.slowest() == ("trades", 5.0)
    pulse.rest("trades")
    assert pulse.slowest() == ("candles", 0.0)
    pulse.rest("candles")
    pulse.rest("candles")
    assert pulse.slowest() is None


async def test_an_answer_that_does_not_come_is_waited_for_ever_longer_and_one_that_comes_ends_that() -> None:
    clock, answers = ManualClock(), asyncio.Event()

    async def ask() -> None:
        await answers.wait()

    echo = Echo(clock, ask)
    assert echo.waited_s is None
    running = asyncio.create_task(echo.run())
    await clock.advance(40.0)
    assert echo.waited_s == 40.0
    answers.set()
    await clock.settle()
    assert echo.waited_s is None
    answers.clear()
    await clock.advance(ASK_EVERY_S)
    assert echo.waited_s == 0.0  # asked again
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def test_one_step_at_a_time_is_taken_and_timed_from_when_it_began_not_from_when_it_was_wanted() -> None:
    clock = ManualClock()
    lock, order = StepLock(clock), list[str]()

    async def step(name: str, seconds: float) -> None:
        async with lock:
            order.append(f"{name} begins")
            await clock.sleep_s(seconds)
            order.append(f"{name} ends")

    assert lock.busy_s is None
    steps = [asyncio.create_task(step("a", 30.0)), asyncio.create_task(step("b", 30.0))]
    await clock.advance(29.0)
    assert lock.busy_s == 29.0
    await clock.advance(2.0)
    assert lock.busy_s == 1.0
    await clock.advance(29.0)
    await asyncio.gather(*steps)
    assert lock.busy_s is None
    assert order == ["a begins", "a ends", "b begins", "b ends"]


async def test_a_step_that_fails_and_one_that_gives_up_waiting_leave_the_lock_free() -> None:
    clock = ManualClock()
    lock = StepLock(clock)
    with suppress(ValueError):
        async with lock:
            raise ValueError
    assert lock.busy_s is None
    async with lock:
        waiting = asyncio.create_task(lock.__aenter__())
        await clock.advance(5.0)
        waiting.cancel()
        with suppress(asyncio.CancelledError):
            await waiting
        assert lock.busy_s == 5.0
    async with lock:
        assert lock.busy_s == 0.0


def test_a_fault_names_what_is_silent_and_both_times_and_silence_up_to_the_deadline_is_none() -> None:
    found: list[tuple[str, float] | None] = [None, ("the journal has not answered", 30.0), ("it", 30.6)]
    vital = Vital(silent=lambda: found.pop(0), deadline_s=30.0)
    assert [vital.fault(), vital.fault()] == [None, None]
    assert vital.fault() == "it for 31 s, longer than 30 s"
