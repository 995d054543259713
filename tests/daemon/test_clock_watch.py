"""A machine that sleeps, or whose clock is set: noticed, and looked into before anything is bought."""

from collections.abc import AsyncIterator

import pytest

from daemon.clock_watch import ClockWatch
from daemon.ports import External, OrderPath
from tests.fakes.clock import ManualClock
from tests.fakes.live import Desk, make_desk
from tests.fakes.trading import BTC
from tests.fakes.venue import FakeVenue


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    made = make_desk()
    await made.up()
    await made.clock.advance(60.0)
    yield made
    made.check_tasks()
    await made.down()


async def test_time_that_passes_evenly_is_no_jump() -> None:
    clock = ManualClock()
    watch = ClockWatch(clock)
    said = []
    for _ in range(200):
        await clock.advance(1.0)
        clock.step_wall(0.01)  # as NTP corrects
        said.append(watch.look())
    assert set(said) == {""}


@pytest.mark.parametrize(("step_s", "words"), [(7_200.0, "+7200 s"), (-3_600.0, "-3600 s"), (6.0, "+6 s")])
async def test_a_jump_is_told_once(step_s: float, words: str) -> None:
    clock = ManualClock()
    watch = ClockWatch(clock)
    clock.step_wall(step_s)
    assert words in watch.look()
    await clock.advance(1.0)
    assert watch.look() == ""


async def test_a_process_that_did_not_run_is_told_although_both_clocks_went_on() -> None:
    clock = ManualClock()
    watch = ClockWatch(clock)
    await clock.advance(119.0)
    assert watch.look() == ""
    await clock.advance(121.0)
    assert watch.look() == "sacd did not run for 121 s"


@pytest.mark.fault(9)
@pytest.mark.parametrize("step_s", [7_200.0, -3_600.0], ids=["2 h forward", "1 h back"])
async def test_after_a_jump_nothing_is_bought_before_orders_and_balances_were_compared(
    desk: Desk, step_s: float
) -> None:
    asked = desk.reconcile.asked
    desk.clock.step_wall(step_s)  # no heartbeat comes between the jump and the purchase
    early = await desk.buy(1.0)
    await desk.clock.advance(0.1)
    assert early is not None
    assert desk.state(early) == "not_placed"
    assert desk.venue.log == []
    await desk.clock.advance(60.0)
    assert [path.is_open for path in desk.of(OrderPath)] == [False, True]
    assert "the clock jumped" in desk.of(OrderPath)[0].detail
    assert desk.reconcile.asked >= asked + 2
    late = await desk.buy(1.0)
    await desk.clock.advance(1.0)
    assert late is not None
    assert desk.state(late) == "filled"


@pytest.mark.fault(9)
async def test_what_happened_while_the_machine_slept_is_taken_in_before_the_next_purchase(desk: Desk) -> None:
    await desk.buy(1.0)
    await desk.clock.advance(1.0)
    desk.venue.move(BTC, 94.0)  # the stop at 95 fills, and the stream that would tell it is gone with the sleep
    desk.clock.step_wall(7_200.0)
    await desk.clock.advance(60.0)
    assert desk.books.holdings[BTC] == 0.0
    assert desk.books.money == pytest.approx(desk.venue.holds["USDT"])
    assert desk.of(External) == []
    assert [path.is_open for path in desk.of(OrderPath)] == [False, True]


@pytest.mark.fault(9)
async def test_after_a_jump_what_is_held_may_still_be_sold(desk: Desk) -> None:
    await desk.buy(1.0)
    await desk.clock.advance(1.0)
    desk.clock.step_wall(7_200.0)
    sale = await desk.sell()
    await desk.clock.advance(1.0)
    assert sale is not None
    assert desk.state(sale) == "filled"


# ---- the venue's clock ----------------------------------------------------------------------------------------------
@pytest.mark.fault(8)
@pytest.mark.parametrize("offset_ms", [30_000.0, -30_000.0])
async def test_a_clock_that_runs_off_while_we_run_stops_purchases_until_it_is_set(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, offset_ms: float
) -> None:
    offsets = {"now": offset_ms}

    async def offset(_venue: FakeVenue) -> float:
        return offsets["now"]

    monkeypatch.setattr(FakeVenue, "clock_offset_ms", offset)
    await desk.clock.advance(600.0)
    (closed,) = desk.of(OrderPath)
    assert closed.is_open is False
    assert closed.detail == f"the venue's clock is {offset_ms / 1_000:+.1f} s from ours: set this machine's clock"
    late = await desk.buy(1.0)
    await desk.clock.advance(60.0)
    assert late is not None
    assert desk.state(late) == "not_placed"
    offsets["now"] = 400.0
    await desk.clock.advance(30.0)
    assert [path.is_open for path in desk.of(OrderPath)] == [False, True]


async def test_one_slow_answer_is_no_clock_that_is_off(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [9_000.0, -7_000.0, 20.0]

    async def offset(_venue: FakeVenue) -> float:
        return answers.pop(0)

    monkeypatch.setattr(FakeVenue, "clock_offset_ms", offset)
    await desk.clock.advance(600.0)
    assert answers == []
    assert desk.of(OrderPath) == []
