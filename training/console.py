"""How training commands talk: progress on a terminal or as plain lines, tables, one JSON object, plain errors."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Told = Callable[[int], None]
_LINE_EVERY_S = 5.0
_UNBROKEN = 10_000
_SPANS = ((86_400.0, "days"), (3_600.0, "h"), (60.0, "min"), (1.0, "s"))


def make_console() -> Console:
    """Return standard output: as wide as the terminal, and in a pipe so wide that no line is broken or cut."""
    console = Console()
    if not console.is_terminal:
        console.width = _UNBROKEN
    return console


@contextmanager
def progress(what: str, total: int) -> Iterator[Told]:
    """Show how far long work is: a bar with rate and time left on a terminal, else a line every five seconds.

    Yields a function that is told the amount done. Written to standard error, so that output can be piped.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(what, total)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(what, total=total, rate="")

        def tell(done: int) -> None:
            elapsed = bar.tasks[0].elapsed or 0.0
            bar.update(task, completed=done, rate=f"{done / elapsed:,.0f}/s" if elapsed > 0.0 else "")

        yield tell
        tell(total)


def _lines(what: str, total: int) -> Told:
    start_s = time.monotonic()
    next_s = [start_s + _LINE_EVERY_S]

    def tell(done: int) -> None:
        now_s = time.monotonic()
        if now_s >= next_s[0] and done:
            next_s[0] = now_s + _LINE_EVERY_S
            rate = done / (now_s - start_s)
            left = f"{span((total - done) / rate)} left"
            print(f"{what}: {done:,} of {total:,}, {rate:,.0f}/s, {left}", file=sys.stderr, flush=True)  # noqa: T201

    return tell


def span(seconds: float) -> str:
    """Return a length of time in its largest fitting unit."""
    size, unit = next(((size, unit) for size, unit in _SPANS if seconds >= size * 1.5), _SPANS[-1])  # 90 s, not 1.5 min
    return f"{seconds / size:,.0f} {unit}" if unit == "s" else f"{seconds / size:,.1f} {unit}"


def counted(count: int, noun: str) -> str:
    """Return `1 gap`, `2 gaps`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def print_json(value: Any) -> None:  # noqa: ANN401 - JSON types
    """Write one JSON object to standard output."""
    print(json.dumps(value, indent=2, allow_nan=False))  # noqa: T201
