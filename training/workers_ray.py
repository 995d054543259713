"""Runs tasks on an existing Ray cluster; the same tasks as training/workers.py, with the same results.

Ray asks nobody who they are: whoever reaches its ports can run any code on every machine of the cluster. Use it in a
private network only (https://docs.ray.io/en/latest/ray-security/index.html). The cluster's machines need the same
version of sacd and of its libraries as this one; every task checks that before it works.

A task writes in a temporary folder on its own machine, which is filled from the task's folder here and brought back
when the task ends or is stopped, checkpoint included. Of a task that dies there, or whose starter dies here, nothing
comes back: it begins anew when the run is resumed, and ends the same.
"""

import importlib
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from training.errors import TrainingError
from training.export import library_versions
from training.workers import LOWEST_PRIORITY, ONE_THREAD, End, Ended, Outcome, Task, Tell, perform

_NOT_BEGUN = "it had not begun"
_LOOK_EVERY_S = 0.5
_REACHED_WITHIN_S = 3.0
_ANSWERED_WITHIN_S = 15.0
_PRIVATE = "Ray runs the code of whoever reaches it: private networks only"
_ASK = "import sys; from ray.scripts.scripts import main; sys.argv[0] = 'ray'; main()"

Files = Mapping[str, bytes]


class RayPool:
    """The workers of the Ray cluster at `address`, host:port of its head. One run at a time."""

    def __init__(self, address: str) -> None:
        """Connect. Raises TrainingError within seconds when Ray is not installed or no cluster answers there."""
        self._ray = _ray()
        _require_cluster(address)
        try:
            self._ray.init(
                address=address, log_to_driver=False, logging_level="ERROR", runtime_env={"env_vars": ONE_THREAD}
            )
        except (RuntimeError, ValueError, ConnectionError) as error:
            raise TrainingError(f"--ray {address}: {_first_line(error)}: correct the address or the cluster") from error
        if self._ray.cluster_resources().get("CPU", 0) < 1:
            raise TrainingError(f"--ray {address}: the cluster has no processor to give: add a node to it")
        self._board: Any = None
        self._refs: dict[Any, int] = {}

    def run(self, tasks: Sequence[Task], shared: Any, tell: Tell) -> Iterator[Outcome]:  # noqa: ANN401
        """See `Pool.run`."""
        ray = self._ray
        self._board = ray.remote(num_cpus=0)(_Board).remote()
        handle, versions = ray.put(shared), library_versions()
        there = ray.remote(num_cpus=1, max_retries=0)(_work)
        try:
            for index, task in enumerate(tasks):
                packed = _Packed(task=replace(task, folder=Path()), files=_files_in(task.folder), versions=versions)
                self._refs[there.options(name=task.name).remote(handle, packed, self._board, index)] = index
            while self._refs:
                ready, _ = ray.wait(list(self._refs), num_returns=1, timeout=_LOOK_EVERY_S)
                for index, told in ray.get(self._board.take.remote()):
                    tell(index, told)
                for ref in ready:
                    index = self._refs.pop(ref)
                    yield self._outcome(index, ref, tasks[index].folder)
        finally:
            for ref in self._refs:
                ray.cancel(ref, force=True)
            self._refs.clear()
            ray.kill(self._board)
            ray.shutdown()

    def stop(self) -> None:
        """See `Pool.stop`."""
        if self._board is None:
            return
        begun = set(self._ray.get(self._board.stop.remote()))
        for ref, index in self._refs.items():
            if index not in begun:
                self._ray.cancel(ref)

    def _outcome(self, index: int, ref: Any, folder: Path) -> Outcome:  # noqa: ANN401 - Ray has no public type
        errors = self._ray.exceptions
        try:
            ended, files = self._ray.get(ref)
        except errors.TaskCancelledError:
            return Outcome(index=index, end=End.STOPPED, reason=_NOT_BEGUN)
        except errors.RayTaskError as error:
            return Outcome(index=index, end=End.FAILED, reason=_first_line(error.cause))
        except errors.RayError as error:
            return Outcome(index=index, end=End.DIED, reason=f"its worker died: {_first_line(error)}")
        _fill(folder, files)
        return Outcome(index=index, end=ended.end, value=ended.value, reason=ended.reason)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Packed:
    task: Task
    files: Files
    versions: Mapping[str, str]


class _Board:
    """Lives in the cluster: tasks write there how far they are, and read whether to stop."""

    def __init__(self) -> None:
        self._told: dict[int, Any] = {}
        self._begun: list[int] = []
        self._is_stopping = False

    def begin(self, index: int) -> bool:
        """Note that a task begins; return whether it may: what a freed processor takes up too late does not."""
        if not self._is_stopping:
            self._begun.append(index)
        return not self._is_stopping

    def tell(self, index: int, told: Any) -> bool:  # noqa: ANN401
        """Take a word of a task; return whether it is to stop. Of several words only the last is kept."""
        self._told[index] = told
        return self._is_stopping

    def should_stop(self) -> bool:
        return self._is_stopping

    def take(self) -> list[tuple[int, Any]]:
        told, self._told = list(self._told.items()), {}
        return told

    def stop(self) -> list[int]:
        """Let every task stop; return those that have begun."""
        self._is_stopping = True
        return self._begun


class _BoardLink:
    """Speaks to the board at most twice a second: a word takes a millisecond, and steps are faster than that."""

    def __init__(self, board: Any, index: int, folder: Path, ray: Any, now_s: Callable[[], float]) -> None:  # noqa: ANN401
        self._board, self._index, self._folder, self._ray, self._now_s = board, index, folder, ray, now_s
        self._next_s = 0.0
        self._last: Any = None
        self._is_stopping = False

    @property
    def folder(self) -> Path:
        return self._folder

    def tell(self, told: Any) -> None:  # noqa: ANN401
        self._last = told
        self._speak()

    def should_stop(self) -> bool:
        self._speak()
        return self._is_stopping

    def close(self) -> None:
        """Say the last word."""
        self._next_s = 0.0
        self._speak()

    def _speak(self) -> None:
        if self._now_s() < self._next_s:
            return
        self._next_s = self._now_s() + _LOOK_EVERY_S
        board = self._board
        answer = board.should_stop.remote() if self._last is None else board.tell.remote(self._index, self._last)
        self._is_stopping = self._ray.get(answer)


def _work(shared: Any, packed: _Packed, board: Any, index: int) -> tuple[Ended, Files]:  # noqa: ANN401
    """Be one task, on a machine of the cluster."""
    import time  # noqa: PLC0415 - what travels by value stays small

    ray = _ray()
    os.nice(LOWEST_PRIORITY)
    if not ray.get(board.begin.remote(index)):
        return Ended(end=End.STOPPED, reason=_NOT_BEGUN), packed.files
    here = library_versions()
    if here != packed.versions:
        return Ended(end=End.FAILED, reason=_unlike(packed.versions, here)), {}
    with tempfile.TemporaryDirectory(prefix="sacd-") as place:
        folder = Path(place)
        _fill(folder, packed.files)
        link = _BoardLink(board, index, folder, ray, time.monotonic)
        ended = perform(packed.task, shared, link)
        link.close()
        return ended, _files_in(folder)


def _ray() -> Any:  # noqa: ANN401 - a module, and Ray has no types to speak of
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray reports to its makers unless told not to
    try:
        return importlib.import_module("ray")
    except ModuleNotFoundError as error:
        raise TrainingError(f"--ray: {error}: install the `ray` extra of sacd, or leave --ray out") from error


def _require_cluster(address: str) -> None:
    """Raise TrainingError unless the head of a cluster answers; Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isascii() or not port.isdigit():
        raise TrainingError(f"--ray {address}: give host:port of the cluster's head, such as 10.0.0.5:6379; {_PRIVATE}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_REACHED_WITHIN_S).close()
    except (OSError, OverflowError) as error:
        raise TrainingError(
            f"--ray {address}: nothing answers there ({error}): start the cluster or correct it"
        ) from error
    asked = [sys.executable, "-c", _ASK, "health-check", "--address", address]
    try:
        subprocess.run(asked, timeout=_ANSWERED_WITHIN_S, capture_output=True, check=True)
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
        raise TrainingError(
            f"--ray {address}: something answers there that is no Ray cluster of this version: correct the address"
        ) from error


def _unlike(wanted: Mapping[str, str], here: Mapping[str, str]) -> str:
    told = ", ".join(
        f"{name} {here.get(name)} instead of {wanted[name]}" for name in wanted if here.get(name) != wanted[name]
    )
    return f"{socket.gethostname()} has {told}: install the same on every machine of the cluster"


def _files_in(folder: Path) -> dict[str, bytes]:
    """Return the files below `folder` by their relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def _fill(folder: Path, files: Files) -> None:
    """Make `folder` hold `files` and nothing else; a name that leads out of it is refused."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and str(path.relative_to(folder)) not in files:
            path.unlink()
    for name, data in files.items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            raise TrainingError(f"a worker sent back a file called {name!r}, which does not lie in its folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no reason given'}"
