import asyncio
from collections.abc import Awaitable

import pytest

from daemon.crew import Crew
from daemon.errors import TransientError, UnknownOutcome
from daemon.order_path import PathWatch
from daemon.outbox import Outbox
from daemon.ports import BrokerNews, OrderPath
from daemon.venue import NotSent, RefusalKind, Unauthorised, VenueRefused
from tests.fakes.clock import ManualClock

A, B, C = (OrderPath(is_open=True, detail=name) for name in "abc")


async def ends(error: Exception | None) -> str:
    if error is not None:
        raise error
    return "answer"


async def told(outbox: Outbox) -> list[BrokerNews]:
    outbox.close()
    return [piece async for group in outbox.groups() for piece in group]


async def ask(path: PathWatch, work: Awaitable[str]) -> None:
    with pytest.raises(Exception, match="why"):
        await path.of(work)


@pytest.mark.parametrize("error", [TransientError("why"), NotSent("why"), UnknownOutcome("why")])
async def test_fifteen_seconds_without_an_answer_close_the_path_once(error: Exception) -> None:
    clock, outbox = ManualClock(), Outbox()
    path = PathWatch(outbox, clock)
    for _ in range(4):
        await ask(path, ends(error))
        await clock.advance(5.0)
    assert path.is_open
    await ask(path, ends(error))
    await ask(path, ends(error))
    assert not path.is_open
    (news,) = await told(outbox)
    assert news == OrderPath(is_open=False, detail="no usable answer from the venue for 15 s: why")


@pytest.mark.parametrize("answer", [None, VenueRefused("why", RefusalKind.FILTER)])
async def test_an_answer_in_between_begins_the_count_again(answer: Exception | None) -> None:
    clock, outbox = ManualClock(), Outbox()
    path = PathWatch(outbox, clock)
    for _ in range(3):
        await ask(path, ends(TransientError("why")))
        await clock.advance(10.0)
        if answer is None:
            assert await path.of(ends(None)) == "answer"
        else:
            await ask(path, ends(answer))
    assert path.is_open
    assert path.is_well


async def test_a_refused_key_closes_it_at_once_and_needs_a_person() -> None:
    outbox = Outbox()
    path = PathWatch(outbox, ManualClock())
    await ask(path, ends(Unauthorised("why")))
    await path.of(ends(None))
    assert not path.is_well
    path.forgive()
    assert path.is_well
    path.reopen()
    closed, opened = await told(outbox)
    assert isinstance(closed, OrderPath)
    assert isinstance(opened, OrderPath)
    assert (closed.is_open, closed.needs_person, opened.is_open) == (False, True, True)


# ---- the outbox -----------------------------------------------------------------------------------------------------
async def test_news_come_in_order_and_count_as_settled_once_the_next_are_asked_for() -> None:
    outbox = Outbox()
    outbox.put(A)
    outbox.put(B)
    groups = outbox.groups()
    assert list(await anext(groups)) == [A, B]
    assert not outbox.is_settled
    outbox.put(C)
    assert list(await anext(groups)) == [C]
    waiting = asyncio.ensure_future(anext(groups))  # type: ignore[arg-type]
    await outbox.settled()
    assert outbox.is_settled
    outbox.close()
    with pytest.raises(StopAsyncIteration):
        await waiting


# ---- the crew -------------------------------------------------------------------------------------------------------
async def test_a_member_that_fails_is_heard_by_whoever_waits() -> None:
    crew = Crew()
    forever = asyncio.Event()
    crew.hire(ends(TransientError("why")))
    with pytest.raises(TransientError, match="why"):
        await crew.beside(forever.wait())
    with pytest.raises(TransientError, match="why"):
        await crew.watch()


async def test_dismissed_members_have_ended() -> None:
    crew, ended = Crew(), asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    crew.hire(work())
    assert await crew.beside(asyncio.sleep(0, "done")) == "done"
    await crew.dismiss()
    assert ended.is_set()
