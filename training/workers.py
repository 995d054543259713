"""Runs tasks side by side, each in a process of its own on this machine, with one thread and the lowest priority.

`Pool` is the seam: whoever has tasks need not know where they run. training/workers_ray.py runs the same tasks on a
Ray cluster. What a task returns depends on its arguments alone, so that neither the number of workers nor the place
changes it.
"""

import os
import signal
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, Protocol

from strategy.errors import StrategyError
from training.errors import Interrupted, TrainingError

LOWEST_PRIORITY = 19
TRACEBACK = "error.txt"
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
_LOOK_EVERY_S = 0.5


class Link(Protocol):
    """What a task knows of the one who started it."""

    @property
    def folder(self) -> Path:
        """The only place the task may write to; it stays when the task is stopped or dies."""

    def tell(self, told: Any) -> None:  # noqa: ANN401 - whatever the task and its starter agreed on
        """Report how far the task is."""

    def should_stop(self) -> bool:
        """Tell whether the task is to save what it has and raise Interrupted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A piece of work. name: in messages.  run(shared, argument, link): of a module, so that other processes find it.

    folder: exists; what `Link.folder` names, or, on another machine, what it is filled from and brought back to.
    """

    name: str
    run: Callable[[Any, Any, Link], Any]
    argument: Any
    folder: Path


class End(Enum):
    """How a task ended: with a value, with an error of its own, as it was told to, or with its process."""

    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"
    DIED = "died"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outcome:
    """The end of the task at `index`. value: what it returned.  reason: why it has none, in words."""

    index: int
    end: End
    value: Any = None
    reason: str = ""


Tell = Callable[[int, Any], None]


class Pool(Protocol):
    """Where tasks run."""

    def run(self, tasks: Sequence[Task], shared: Any, tell: Tell) -> Iterator[Outcome]:  # noqa: ANN401
        """Run the tasks and yield how each ended, in the order in which they end.

        shared: what all of them read, handed over once.  tell: called here, with a task's index and what it told.
        Whoever leaves the iteration early ends every task that still runs.
        """

    def stop(self) -> None:
        """Ask every task to save and end; those that have not begun never do. May be called by a signal handler."""


class LocalPool:
    """Processes on this machine, `workers` at a time, a fresh one for each task: one that dies takes no other along."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._running: dict[Connection, tuple[int, BaseProcess]] = {}
        self._is_stopping = False

    def run(self, tasks: Sequence[Task], shared: Any, tell: Tell) -> Iterator[Outcome]:  # noqa: ANN401
        """See `Pool.run`."""
        waiting = deque(enumerate(tasks))
        try:
            while waiting or self._running:
                while waiting and self._is_stopping:
                    yield Outcome(index=waiting.popleft()[0], end=End.STOPPED, reason="it had not begun")
                while waiting and len(self._running) < self._workers:
                    self._start(*waiting.popleft(), shared)
                for connection in wait(list(self._running), timeout=_LOOK_EVERY_S):
                    outcome = self._listen(connection, tell)  # type: ignore[arg-type]  # what was asked for
                    if outcome is not None:
                        yield outcome
        finally:
            self._end_all()

    def stop(self) -> None:
        """See `Pool.stop`."""
        self._is_stopping = True
        for connection in list(self._running):
            _ask_to_stop(connection)

    def _start(self, index: int, task: Task, shared: Any) -> None:  # noqa: ANN401
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, task, shared), name=task.name, daemon=True)
        with _as_the_child_shall_be():
            process.start()
        theirs.close()
        self._running[ours] = (index, process)
        if self._is_stopping:
            _ask_to_stop(ours)

    def _listen(self, connection: Connection, tell: Tell) -> Outcome | None:
        """Take one message; return the outcome when it is the task's last."""
        index, process = self._running[connection]
        try:
            message = connection.recv()
        except (EOFError, ConnectionError):
            message = None
        if isinstance(message, Told):
            tell(index, message.value)
            return None
        del self._running[connection]
        connection.close()
        process.join()
        if message is None:
            return Outcome(index=index, end=End.DIED, reason=_death(process.exitcode))
        return Outcome(index=index, end=message.end, value=message.value, reason=message.reason)

    def _end_all(self) -> None:
        for connection, (_, process) in self._running.items():
            process.kill()
            process.join()
            connection.close()
        self._running.clear()


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A message on the way: what a task told."""

    value: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The last message of a task."""

    end: End
    value: Any = None
    reason: str = ""


def perform(task: Task, shared: Any, link: Link) -> Ended:  # noqa: ANN401
    """Run a task where we are, and return how it ended; whatever it raises becomes words.

    The traceback of an error nobody foresaw is written to `error.txt` in its folder.
    """
    try:
        return Ended(end=End.DONE, value=task.run(shared, task.argument, link))
    except Interrupted as error:
        return Ended(end=End.STOPPED, reason=str(error))
    except (TrainingError, StrategyError) as error:
        return Ended(end=End.FAILED, reason=str(error))
    except MemoryError as error:
        return Ended(end=End.FAILED, reason=f"not enough memory ({error}): run fewer workers, or a smaller buffer")
    except Exception as error:  # noqa: BLE001 - the edge of a process: nothing but words may cross it
        with suppress(OSError):  # a full disk may be what it died of
            (link.folder / TRACEBACK).write_text(traceback.format_exc(), encoding="utf-8")
        return Ended(end=End.FAILED, reason=f"{type(error).__name__}: {error} (where: {TRACEBACK} in its folder)")


@contextmanager
def stopped_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` at the first SIGINT or SIGTERM; a second one raises KeyboardInterrupt. For the main thread."""
    seen: list[int] = []

    def handle(number: int, _: object) -> None:
        seen.append(number)
        if len(seen) > 1:
            raise KeyboardInterrupt
        stop()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _PipeLink:
    def __init__(self, connection: Connection, folder: Path) -> None:
        self._connection, self._folder = connection, folder
        self._is_stopping = False

    @property
    def folder(self) -> Path:
        return self._folder

    def tell(self, told: Any) -> None:  # noqa: ANN401
        try:
            self._connection.send(Told(value=told))
        except OSError:  # whoever started us is gone: nobody will take the result
            self._is_stopping = True

    def should_stop(self) -> bool:
        try:
            while self._connection.poll():
                self._connection.recv()
                self._is_stopping = True
        except (EOFError, OSError):
            self._is_stopping = True
        return self._is_stopping


def _work(connection: Connection, task: Task, shared: Any) -> None:  # noqa: ANN401
    """Be the process of one task."""
    if os.getpriority(os.PRIO_PROCESS, 0) < LOWEST_PRIORITY:
        os.nice(LOWEST_PRIORITY)  # systemd's sandbox forbids to ask, and has us there already
    warnings.formatwarning = lambda message, *_: f"{task.name}: {message}\n"
    ended = perform(task, shared, _PipeLink(connection, task.folder))
    try:
        data = ForkingPickler.dumps(ended)
    except Exception as error:  # noqa: BLE001 - pickle raises what the objects raise
        data = ForkingPickler.dumps(Ended(end=End.FAILED, reason=f"its result cannot be handed over: {error}"))
    with suppress(OSError):  # nobody there to take it: the folder keeps what was done
        connection.send_bytes(data)


def _ask_to_stop(connection: Connection) -> None:
    with suppress(OSError):  # it has just ended: its outcome is on the way
        connection.send(None)


@contextmanager
def _as_the_child_shall_be() -> Iterator[None]:
    """Start a process with one thread for its sums and deaf to Ctrl-C, which goes to everyone at the terminal."""
    # Python's own helper starts with the first child, and starting it makes this process hear both signals again.
    resource_tracker.ensure_running()
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(ONE_THREAD)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _death(exitcode: int | None) -> str:
    if exitcode is None or exitcode >= 0:
        return f"its process ended without a result (exit code {exitcode})"
    name = signal.Signals(-exitcode).name
    hint = ": perhaps the memory ran out; run fewer workers" if name == "SIGKILL" else ""
    return f"its process was killed by {name}{hint}"
