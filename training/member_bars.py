"""Shows how far every member of an ensemble is: a bar each on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

from training.console import span
from training.member import MemberProgress

Told = Callable[[int, MemberProgress], None]
_LINE_EVERY_S = 5.0


@contextmanager
def member_bars(count: int, total: int, names: Sequence[str] | None = None) -> Iterator[Told]:
    """Show `count` members that train for `total` steps each; yields what is told a member's index and progress.

    names: what they are called, without them `member 0`, `member 1` ...
    Written to standard error, so that output can be piped.
    """
    console, called = Console(stderr=True), names or [f"member {index}" for index in range(count)]
    if not console.is_terminal:
        lines = _Lines(called)
        yield lines.tell
        lines.close()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]:>11}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[score]}"),
    )
    # The estimate of the time left looks back a minute: at first members collect without learning, far too fast.
    with Progress(*columns, console=console, speed_estimate_period=60.0) as progress:
        yield _Bars(progress, called, total).tell


class _Bars:
    def __init__(self, progress: Progress, names: Sequence[str], total: int) -> None:
        self._progress = progress
        self._tasks: list[TaskID] = [
            progress.add_task(name, total=total, start=False, rate="waiting", score="") for name in names
        ]

    def tell(self, index: int, told: MemberProgress) -> None:
        task = self._progress.tasks[index]
        self._progress.start_task(self._tasks[index])
        speed = task.speed
        self._progress.update(
            self._tasks[index],
            completed=told.steps,
            total=told.total,
            rate="" if speed is None or told.steps >= told.total else f"{speed:,.0f} steps/s",
            score=score_text(told),
        )


class _Lines:
    """One line for each member that has moved, every few seconds; the last word of each is always written."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._first: list[tuple[float, int] | None] = [None] * len(names)
        self._waiting: dict[int, MemberProgress] = {}
        self._next_s = time.monotonic()

    def tell(self, index: int, told: MemberProgress) -> None:
        now_s = time.monotonic()
        if self._first[index] is None:
            self._first[index] = (now_s, told.steps)
        self._waiting[index] = told
        if now_s >= self._next_s:
            self._next_s = now_s + _LINE_EVERY_S
            self.close()

    def close(self) -> None:
        for index in sorted(self._waiting):
            print(self._line(index, self._waiting[index]), file=sys.stderr, flush=True)  # noqa: T201
        self._waiting.clear()

    def _line(self, index: int, told: MemberProgress) -> str:
        line = f"{self._names[index]}: {told.steps:,} of {told.total:,} steps"
        start_s, start = self._first[index] or (0.0, 0)
        elapsed_s = time.monotonic() - start_s
        if told.steps > start and elapsed_s > 0.0:
            rate = (told.steps - start) / elapsed_s
            line += f", {rate:,.0f} steps/s, {span((told.total - told.steps) / rate)} left"
        return f"{line}, {score_text(told)}" if told.score is not None else line


def score_text(told: MemberProgress) -> str:
    """Return the last and the best validation score, in words."""
    if told.score is None:
        return ""
    best = told.score if told.best is None else told.best
    return f"score {told.score:.2f}, best {best:.2f}"
