"""Tasks for tests of pools: of a module, so that other processes find them."""

import os
import signal
import time
from pathlib import Path
from typing import Any

from training.errors import Interrupted, TrainingError
from training.workers import Link, Task


def echo(shared: Any, argument: Any, link: Link) -> Any:
    """Tell three times, and return what was given."""
    for count in range(3):
        link.tell(count)
    return {"shared": shared, "argument": argument}


def about_the_process(_: Any, __: Any, link: Link) -> dict[str, Any]:
    """Return what the process of a task is like."""
    (link.folder / "made").write_text("here")
    threads = {name: os.environ.get(name) for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")}
    return {"pid": os.getpid(), "priority": os.getpriority(os.PRIO_PROCESS, 0), "threads": threads}


def refuse(_: Any, __: Any, ___: Link) -> None:
    raise TrainingError("the candles are sour: give others")


def blunder(_: Any, __: Any, ___: Link) -> None:
    raise ZeroDivisionError("nobody foresaw this")


def run_out_of_memory(_: Any, __: Any, ___: Link) -> None:
    raise MemoryError("8 GiB")


def die(_: Any, how: signal.Signals, link: Link) -> None:
    link.tell("alive")
    os.kill(os.getpid(), how)
    time.sleep(60)


def leave(_: Any, code: int, __: Link) -> None:
    os._exit(code)


def until_stopped(_: Any, __: Any, link: Link) -> None:
    """Work until told to stop, then save."""
    link.tell("begun")
    until_s = time.monotonic() + 60
    while not link.should_stop():
        if time.monotonic() > until_s:
            raise TrainingError("nobody stopped it")
        time.sleep(0.01)
    (link.folder / "saved").write_text(str(os.getpid()))
    raise Interrupted("saved")


def count_up(_: Any, __: Any, link: Link) -> int:
    """Return how often this task ran in its folder."""
    place = link.folder / "count"
    count = int(place.read_text()) + 1 if place.exists() else 1
    place.write_text(str(count))
    return count


def unpicklable(_: Any, __: Any, ___: Link) -> Any:
    return lambda: None


def task(run: Any, folder: Path, argument: Any = None, name: str = "task") -> Task:
    folder.mkdir(parents=True, exist_ok=True)
    return Task(name=name, run=run, argument=argument, folder=folder)
