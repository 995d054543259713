"""Tasks that belong to one owner: when one of them fails, whoever waits with the crew hears of it."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Crew:
    """Runs tasks until dismissed."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._failed = asyncio.Event()
        self._failure: BaseException | None = None

    def hire(self, work: Coroutine[Any, Any, Any]) -> None:
        """Begin a task."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None and self._failure is None:
            self._failure = task.exception()
            self._failed.set()

    async def beside(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what `work` returns, unless a member fails first: then raise what it raised."""
        mine, alarm = asyncio.ensure_future(work), asyncio.ensure_future(self._failed.wait())
        try:
            await asyncio.wait((mine, alarm), return_when=asyncio.FIRST_COMPLETED)
            if self._failure is not None:
                raise self._failure
            return await mine
        finally:
            mine.cancel()
            alarm.cancel()
            await asyncio.wait((mine, alarm))

    async def watch(self) -> None:
        """Wait until a member fails, and raise what it raised."""
        await self._failed.wait()
        assert self._failure is not None  # noqa: S101  # set before the alarm
        raise self._failure

    async def dismiss(self) -> None:
        """Cancel all tasks and wait until they have ended."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
