import asyncio

import pytest

from daemon.pace import Pace
from tests.fakes.clock import ManualClock


async def count_steps(pace: Pace, steps: list[float], clock: ManualClock, limit: int) -> None:
    for _ in range(limit):
        await pace.step()
        steps.append(clock.monotonic_s())


async def test_steps_are_evenly_spaced() -> None:
    clock = ManualClock()
    steps: list[float] = []
    task = asyncio.create_task(count_steps(Pace(clock, 4.0), steps, clock, 5))
    await clock.advance(1.0)
    await task
    assert steps == [0.0, 0.25, 0.5, 0.75, 1.0]


async def test_time_lost_by_the_taker_is_not_caught_up() -> None:
    clock = ManualClock()
    pace = Pace(clock, 1.0)
    await pace.step()
    await clock.advance(10.0)
    await pace.step()
    late = asyncio.create_task(pace.step())
    await clock.advance(0.9)
    assert not late.done()
    await clock.advance(0.1)
    assert late.done()


@pytest.mark.parametrize("steps_per_second", [0.0, 1e12])
async def test_a_pace_that_never_waits_still_lets_others_run(steps_per_second: float) -> None:
    clock = ManualClock()
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    pace = Pace(clock, 0.0) if steps_per_second == 0.0 else Pace(clock, steps_per_second)
    for _ in range(320):
        await clock.advance(1e-6) if steps_per_second else None
        await pace.step()
    task.cancel()
    assert turns >= 10
