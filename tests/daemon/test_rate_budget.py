"""The budget against a clock that stands still: who goes when, how much in all, what several processes share."""

import asyncio
import itertools
import json
import multiprocessing
import os
import signal
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ccxt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.clock import SystemClock
from daemon.rate_budget import Purpose, RateBudget, law_of, spending
from daemon.rate_file import Level, RateFile
from daemon.venue import NotSent
from tests.fakes.clock import ManualClock

BINANCE_MS = 50.0  # ccxt's binance().rateLimit: 20 units a second
# With 10 s of burst: 200 units at once, then 20 * 50/60 a second.
BURST, REFILL = 200.0, 20.0 * 50.0 / 60.0


def exchange(name: str = "binance", rate_limit_ms: float = BINANCE_MS, window_ms: float = 60_000.0) -> Any:
    return SimpleNamespace(
        id=name, rateLimit=rate_limit_ms, rollingWindowSize=window_ms, enableRateLimit=False, throttle=None
    )


def attached(clock: Any, **options: Any) -> tuple[RateBudget, Any]:
    budget, client = RateBudget(clock, **options), exchange()
    budget.attach(client)
    return budget, client


def ask(budget: RateBudget, client: Any, purpose: Purpose, cost: float = 1.0) -> "asyncio.Task[None]":
    with budget.purpose(purpose):
        return asyncio.create_task(client.throttle(cost))


# ---- how much ---------------------------------------------------------------------------------------------------
def test_no_minute_sees_more_than_the_venue_allows_in_one() -> None:
    law = law_of("binance", BINANCE_MS, 10.0, 60_000.0)
    assert (law.burst, law.rate) == (BURST, pytest.approx(REFILL))
    assert law.burst + 60.0 * law.rate == pytest.approx(60_000 / 50)


@pytest.mark.parametrize(
    ("name", "rate_limit_ms", "window_ms", "window_s"), [("bybit", 20.0, 5_000.0, 5.0), ("okx", 110.0, 0.0, 2.0)]
)
def test_venues_that_count_by_a_shorter_span_get_smaller_bursts(
    name: str, rate_limit_ms: float, window_ms: float, window_s: float
) -> None:
    law = law_of(name, rate_limit_ms, 10.0, window_ms)
    assert law.burst + window_s * law.rate == pytest.approx(window_s * 1_000.0 / rate_limit_ms)
    assert law.burst <= window_s * 1_000.0 / rate_limit_ms / 4.0


def test_the_spans_are_ccxts_own() -> None:
    # What the table above and the tests here go by; a ccxt that changes it has to be looked at.
    found = {name: getattr(ccxt, name)() for name in ("binance", "kraken", "bybit", "okx")}
    assert {name: (one.rateLimit, one.rollingWindowSize) for name, one in found.items()} == {
        "binance": (50, 60_000.0),
        "kraken": (1_000, 10_000.0),
        "bybit": (20, 5_000.0),
        "okx": (110, 0.0),
    }


async def test_half_a_share_is_half_the_burst_and_half_the_refill() -> None:
    clock = ManualClock()
    _, client = attached(clock, reserve=0.0, share=0.5)
    await client.throttle(BURST / 2)
    waiting = asyncio.create_task(client.throttle(REFILL))
    await clock.advance(1.9)
    assert not waiting.done()
    await clock.advance(0.2)
    assert waiting.done()


def test_kraken_counts_with_the_bucket_that_it_documents() -> None:
    law = law_of("kraken", 1_000.0, 10.0, 10_000.0)
    assert law.burst == 15 * 3.0  # the counter's limit in the lowest tier; ccxt prices a count at 3 units
    assert law.rate == pytest.approx(0.33 * 3.0, rel=0.02)  # the counter falls by 0.33 a second


async def test_ccxt_is_made_to_ask_even_where_its_own_limit_was_switched_off() -> None:
    _, client = attached(ManualClock())
    assert client.enableRateLimit is True
    await client.throttle()


async def test_every_instance_of_one_venue_draws_on_one_bucket() -> None:
    clock = ManualClock()
    budget, first = attached(clock, reserve=0.0)
    second = exchange()
    budget.attach(second)
    await first.throttle(BURST)
    waiting = asyncio.create_task(second.throttle(1.0))
    await clock.settle()
    assert not waiting.done()
    await clock.advance(1.0 / REFILL + 0.001)
    assert waiting.done()


async def test_venues_have_buckets_of_their_own() -> None:
    budget, binance = attached(ManualClock(), reserve=0.0)
    okx = exchange("okx", 110.0)
    budget.attach(okx)
    await binance.throttle(BURST)
    await asyncio.wait_for(okx.throttle(1.0), 1.0)


@given(
    requests=st.lists(
        st.tuples(st.floats(0.0, 5.0), st.floats(0.1, 60.0), st.sampled_from(Purpose)), min_size=1, max_size=40
    ),
    reserve=st.floats(0.0, 0.45),
)
def test_no_window_ever_sees_more_than_burst_and_refill(
    requests: list[tuple[float, float, Purpose]], reserve: float
) -> None:
    async def run() -> list[tuple[float, float]]:
        clock = ManualClock()
        budget, client = attached(clock, reserve=reserve, max_wait_s=1e6)
        sent: list[tuple[float, float]] = []

        async def one(cost: float) -> None:
            await client.throttle(cost)
            sent.append((clock.monotonic_s(), cost))

        tasks = []
        for pause_s, cost, purpose in requests:
            await clock.advance(pause_s)
            with budget.purpose(purpose):
                tasks.append(asyncio.create_task(one(cost)))
        while not all(task.done() for task in tasks):
            await clock.advance(5.0)
        return sent

    sent = sorted(asyncio.run(run()))
    assert len(sent) == len(requests)
    for (first, (begin, _)), (last, (end, _)) in itertools.combinations_with_replacement(enumerate(sent), 2):
        spent = sum(cost for _, cost in sent[first : last + 1])
        assert spent <= BURST + REFILL * (end - begin) + 1e-6


async def test_a_request_dearer_than_the_bucket_goes_when_it_is_full_and_leaves_a_debt() -> None:
    clock = ManualClock()
    budget, client = attached(clock)
    await client.throttle(BURST + 50.0)
    assert budget.available("binance") == pytest.approx(-50.0 / BURST)
    next_one = ask(budget, client, Purpose.EXIT)
    await clock.advance(50.9 / REFILL)
    assert not next_one.done()
    await clock.advance(0.2 / REFILL)
    assert next_one.done()


# ---- who first --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("purpose", "left"),
    [(Purpose.PUBLIC, 0.4), (Purpose.QUERY, 0.3), (Purpose.ENTRY, 0.2), (Purpose.EXIT, 0.0)],
)
async def test_each_purpose_leaves_what_is_not_for_it(purpose: Purpose, left: float) -> None:
    budget, client = attached(ManualClock(), reserve=0.2)
    asked = [ask(budget, client, purpose) for _ in range(250)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    served = sum(task.done() for task in asked)
    assert served == round(BURST * (1.0 - left))
    for task in asked:
        task.cancel()


async def test_waiters_are_served_by_purpose_then_first_come() -> None:
    clock = ManualClock()
    budget, client = attached(clock, reserve=0.0, max_wait_s=100.0)
    await client.throttle(BURST)
    order: list[str] = []

    async def one(name: str) -> None:
        await client.throttle(1.0)
        order.append(name)

    for name, purpose in [
        ("read 1", Purpose.PUBLIC),
        ("query", Purpose.QUERY),
        ("read 2", Purpose.PUBLIC),
        ("entry", Purpose.ENTRY),
        ("exit", Purpose.EXIT),
    ]:
        with budget.purpose(purpose):
            asyncio.create_task(one(name))  # noqa: RUF006  # ends within the test
    await clock.advance(10.0)
    assert order == ["exit", "entry", "query", "read 1", "read 2"]


@given(flood=st.lists(st.floats(0.1, 20.0), min_size=50, max_size=150), cost=st.floats(0.1, 39.0))
def test_an_exit_goes_at_once_whatever_flood_of_reads_is_waiting(flood: list[float], cost: float) -> None:
    async def run() -> None:
        clock = ManualClock()
        budget, client = attached(clock, reserve=0.2, max_wait_s=50.0)
        reads = [ask(budget, client, Purpose.PUBLIC, each) for each in flood]
        await clock.advance(2.0)
        leaving = ask(budget, client, Purpose.EXIT, cost)
        await clock.settle()
        assert leaving.done()
        for read in reads:
            read.cancel()

    asyncio.run(run())


async def test_tasks_begun_inside_inherit_the_purpose_and_those_outside_do_not() -> None:
    clock = ManualClock()
    budget, client = attached(clock, reserve=0.2)
    with budget.purpose(Purpose.EXIT):
        await client.throttle(BURST * 0.9)
        inside = asyncio.create_task(client.throttle(1.0))
    outside = asyncio.create_task(client.throttle(1.0))
    await clock.settle()
    assert inside.done()
    assert not outside.done()
    outside.cancel()


async def test_what_ccxt_prices_at_nothing_passes_an_empty_bucket() -> None:
    clock = ManualClock()
    budget, client = attached(clock)
    await client.throttle(BURST * 3)
    free = ask(budget, client, Purpose.ENTRY, 0.0)
    await clock.settle()
    assert free.done()


async def test_waiting_too_long_is_not_sent_and_takes_nothing() -> None:
    clock = ManualClock()
    budget, client = attached(clock, reserve=0.0, max_wait_s=5.0)
    await client.throttle(BURST + 10 * REFILL)
    late = ask(budget, client, Purpose.EXIT)
    await clock.advance(5.1)
    with pytest.raises(NotSent, match="rate budget of binance within 5 s"):
        await late
    assert budget.available("binance") == pytest.approx(-4.9 * REFILL / BURST)


async def test_a_cancelled_waiter_takes_nothing_and_blocks_nobody() -> None:
    clock = ManualClock()
    budget, client = attached(clock, reserve=0.0)
    await client.throttle(BURST)
    gone, stays = ask(budget, client, Purpose.EXIT, 100.0), ask(budget, client, Purpose.QUERY)
    await clock.settle()
    gone.cancel()
    await clock.advance(2.0 / REFILL)
    assert stays.done()


# ---- Retry-After ------------------------------------------------------------------------------------------------
async def test_nothing_leaves_while_the_venue_wants_quiet_not_even_exits() -> None:
    clock = ManualClock()
    budget, client = attached(clock)
    budget.quiet(7.0)
    exits = [ask(budget, client, Purpose.EXIT, cost) for cost in (1.0, 0.0)]
    await clock.advance(6.9)
    assert not any(task.done() for task in exits)
    await clock.advance(0.2)
    assert all(task.done() for task in exits)


async def test_a_shorter_quiet_does_not_end_a_longer_one() -> None:
    clock = ManualClock()
    budget, client = attached(clock)
    budget.quiet(10.0)
    budget.quiet(2.0)
    asked = ask(budget, client, Purpose.EXIT)
    await clock.advance(9.0)
    assert not asked.done()
    asked.cancel()


async def test_a_long_quiet_is_refused_at_once() -> None:
    budget, client = attached(ManualClock())
    budget.quiet(120.0)
    with pytest.raises(NotSent, match="asked not to be asked for another 120 s"):
        await client.throttle(1.0)


async def test_after_a_quiet_only_the_reserve_is_left() -> None:
    clock = ManualClock()
    budget, client = attached(clock, reserve=0.2)
    budget.quiet(1.0)
    assert budget.available("binance") == pytest.approx(0.2)
    entry, leaving = ask(budget, client, Purpose.ENTRY, 50.0), ask(budget, client, Purpose.EXIT)
    await clock.advance(1.001)
    assert leaving.done()
    assert not entry.done()
    entry.cancel()


@pytest.mark.parametrize(
    "options", [{"reserve": 0.5}, {"reserve": -0.1}, {"capacity_s": 0.0}, {"share": 0.0}, {"max_wait_s": 0.0}], ids=str
)
def test_impossible_numbers_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="a rate budget needs"):
        RateBudget(ManualClock(), **options)  # type: ignore[arg-type]


# ---- the shared file --------------------------------------------------------------------------------------------
async def test_two_budgets_on_one_file_share_one_bucket(tmp_path: Path) -> None:
    clock, path = ManualClock(), tmp_path / "rate"
    _, one = attached(clock, reserve=0.0, shared=path)
    _, two = attached(clock, reserve=0.0, shared=path)
    await one.throttle(150.0)
    await two.throttle(50.0)
    more = [asyncio.create_task(client.throttle(REFILL)) for client in (one, two)]
    await clock.advance(1.2)
    assert sum(task.done() for task in more) == 1
    await clock.advance(1.2)
    assert all(task.done() for task in more)


async def test_the_quiet_one_process_was_told_to_keep_binds_the_other(tmp_path: Path) -> None:
    clock, path = ManualClock(), tmp_path / "rate"
    told, _ = attached(clock, shared=path)
    budget, other = attached(clock, shared=path)
    told.quiet(5.0)
    await clock.settle()
    waiting = ask(budget, other, Purpose.EXIT)
    await clock.advance(4.9)
    assert not waiting.done()
    await clock.advance(0.2)
    assert waiting.done()


async def test_a_restart_finds_the_bucket_as_it_was_left(tmp_path: Path) -> None:
    clock, path = ManualClock(), tmp_path / "rate"
    _, before = attached(clock, reserve=0.0, shared=path)
    await before.throttle(BURST)
    _, after = attached(clock, reserve=0.0, shared=path)
    waiting = asyncio.create_task(after.throttle(REFILL))
    await clock.advance(0.9)
    assert not waiting.done()
    await clock.advance(0.2)
    assert waiting.done()


@pytest.mark.parametrize("step_s", [-5.0, -3_600.0, 3_600.0])
async def test_a_stepped_wall_clock_changes_nothing_for_a_process_that_is_alone(step_s: float, tmp_path: Path) -> None:
    clock = ManualClock()
    _, client = attached(clock, reserve=0.0, shared=tmp_path / "rate")
    await client.throttle(BURST)
    clock.step_wall(step_s)
    waiting = asyncio.create_task(client.throttle(2 * REFILL))
    await clock.advance(1.9)
    assert not waiting.done()
    await clock.advance(0.2)
    assert waiting.done()


async def test_a_wall_clock_that_stepped_an_hour_forward_earns_no_other_process_an_hour(tmp_path: Path) -> None:
    clock, path = ManualClock(), tmp_path / "rate"
    _, one = attached(clock, reserve=0.0, shared=path)
    _, two = attached(clock, reserve=0.0, shared=path)
    await two.throttle(BURST / 2)
    await one.throttle(BURST / 2)
    clock.step_wall(3_600.0)
    waiting = asyncio.create_task(two.throttle(2 * REFILL))
    await clock.advance(1.5)
    assert not waiting.done()
    waiting.cancel()


def test_two_clocks_a_little_apart_do_not_earn_their_difference(tmp_path: Path) -> None:
    ahead, behind, path = ManualClock(), ManualClock(), tmp_path / "rate"
    ahead.step_wall(5.0)
    files = [RateFile(path, ahead), RateFile(path, behind)]
    earned: list[float] = []

    def change(found: Any) -> Level:
        earned.append(found.elapsed_s)
        return Level(tokens=0.0, at_ms=found.now_ms)

    for turn in range(20):
        files[turn % 2].update("x", change)
    assert sum(earned) == 0.0  # no time has passed on either clock


def _record(body: str) -> bytes:
    return f"{zlib.crc32(body.encode()):08x} {body}".ljust(4_095).encode() + b"\n"


@pytest.mark.parametrize(
    "content",
    [
        b"x",
        b"\0" * 4_096,
        _record('{"binance": {"tokens": NaN, "at_ms": 1, "quiet_until_ms": 0}}'),
        _record('{"binance": {"tokens": "5"}}'),
        _record("[]"),
        _record('{"binance": {"tokens": 200.0, "at_ms": 1, "quiet_until_ms": 0}}')[:100],
        _record("{}").replace(b"{}", b"[]"),
    ],
    ids=["letter", "zeros", "nan", "fields", "list", "torn", "checksum"],
)
async def test_a_file_that_cannot_be_trusted_begins_with_the_reserve_and_is_made_whole(
    content: bytes, tmp_path: Path
) -> None:
    clock, path = ManualClock(), tmp_path / "rate"
    path.write_bytes(content)
    budget, client = attached(clock, reserve=0.2, shared=path)
    read, leaving = ask(budget, client, Purpose.PUBLIC), ask(budget, client, Purpose.EXIT)
    await clock.settle()
    assert leaving.done()
    assert not read.done()
    read.cancel()
    stated, _, body = path.read_text().strip().partition(" ")
    assert int(stated, 16) == zlib.crc32(body.encode())
    assert json.loads(body)["binance"]["tokens"] == pytest.approx(BURST * 0.2 - 1.0)


async def test_a_file_that_cannot_be_written_leaves_the_process_its_own_bucket(tmp_path: Path) -> None:
    _, client = attached(ManualClock(), reserve=0.0, shared=tmp_path / "missing" / "rate")
    await client.throttle(BURST)


async def test_a_quiet_written_by_a_clock_years_ahead_is_ignored(tmp_path: Path) -> None:
    clock, path = ManualClock(), tmp_path / "rate"
    year_ms = 365 * 86_400_000
    RateFile(path, clock).update(
        "binance", lambda found: Level(tokens=200.0, at_ms=found.now_ms, quiet_until_ms=found.now_ms + year_ms)
    )
    _, client = attached(clock, shared=path)
    await asyncio.wait_for(client.throttle(1.0), 1.0)


def _spend(path: str, units: int, answer: Any) -> None:
    async def run() -> int:
        # 1 ms per unit and a bucket of 0.5 s: 500 at once
        budget = RateBudget(SystemClock(), reserve=0.0, capacity_s=0.5, max_wait_s=0.3, shared=Path(path))
        client = exchange("venue", 1.0)
        budget.attach(client)
        got = await asyncio.gather(*(client.throttle(10.0) for _ in range(units)), return_exceptions=True)
        return sum(reply is None for reply in got)

    answer.put(asyncio.run(run()))


def test_two_processes_together_spend_no_more_than_one_may(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    path = str(tmp_path / "rate")
    workers = [context.Process(target=_spend, args=(path, 200, answer)) for _ in range(2)]
    clock = SystemClock()
    for worker in workers:
        worker.start()
    begun_s = clock.monotonic_s()
    served = [answer.get(timeout=60.0) for _ in workers]
    took_s = clock.monotonic_s() - begun_s
    for worker in workers:
        worker.join(60.0)
    assert 50 <= sum(served) <= (500.0 + 1_000.0 * took_s) / 10.0
    level = json.loads((tmp_path / "rate").read_text().strip().partition(" ")[2])["venue"]
    assert level["tokens"] == pytest.approx(level["tokens"])


def _hammer(path: str) -> None:
    file = RateFile(Path(path), SystemClock())
    while True:
        try:
            file.update("venue", lambda found: Level(tokens=-1.5e300 / 7, at_ms=found.now_ms))
        except BlockingIOError:
            continue


def test_a_process_killed_at_any_moment_leaves_a_file_that_can_be_used(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    path = tmp_path / "rate"
    file = RateFile(path, SystemClock())
    broken = []
    for _ in range(8):
        worker = context.Process(target=_hammer, args=(str(path),))
        worker.start()
        while not path.exists() or not path.read_bytes():
            assert worker.is_alive()
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
        worker.join(10.0)

        def change(found: Any) -> Level:
            broken.append(found.is_broken)
            return Level(tokens=0.0, at_ms=found.now_ms)

        file.update("venue", change)  # the lock went with its holder
    assert broken == [False] * 8


async def test_a_lock_held_by_a_stopped_process_delays_an_exit_by_a_second_at_most(tmp_path: Path) -> None:
    clock, path = ManualClock(), tmp_path / "rate"
    budget, client = attached(clock, shared=path)
    holder = RateFile(path, clock)
    with holder._locked():  # what a stopped process does
        leaving = ask(budget, client, Purpose.EXIT)
        await clock.advance(0.9)
        assert not leaving.done()
        await clock.advance(0.2)
        assert leaving.done()


async def test_what_an_exit_needs_to_know_is_as_urgent_as_the_exit() -> None:
    clock = ManualClock()
    budget, client = attached(clock, reserve=0.2)
    with spending(Purpose.EXIT):
        await client.throttle(BURST * 0.9)  # what is left is for exits alone
        price = ask(budget, client, Purpose.QUERY)
    other = ask(budget, client, Purpose.QUERY)
    await clock.settle()
    assert price.done()
    assert not other.done()
    other.cancel()
