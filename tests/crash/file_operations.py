"""Every call of `os` that opens, changes or syncs files, made to tell of itself: the moments at which a kill can fall.

Which calls a piece of code makes is found by running it, so that one it makes tomorrow is covered by itself; a change
to a file that goes past these calls fails the run.
"""

import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

CALLS = (
    "chmod", "chown", "copy_file_range", "fchmod", "fdatasync", "fsync", "ftruncate", "link", "mkdir", "mkfifo",
    "mknod", "open", "posix_fallocate", "pwrite", "remove", "rename", "replace", "rmdir", "sendfile", "symlink",
    "truncate", "unlink", "utime", "write",
)  # fmt: skip
_CHANGES = re.compile(r"open|os\.(chmod|chown|link|mkdir|mkfifo|mknod|remove|rename|rmdir|symlink|truncate|utime)")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One call. arguments: paths as text, descriptors as the path they are open on."""

    call: str
    arguments: tuple[str, ...]

    @property
    def changes(self) -> bool:
        """Whether it wants something of the disk, which one that is full or cannot be written to refuses."""
        return self.call != "open"


Moment = Callable[[int, Operation], None]


def nothing(_index: int, _operation: Operation) -> None:
    """Let it pass."""


@contextmanager
def watched(before: Moment = nothing, after: Moment = nothing) -> Iterator[list[Operation]]:
    """Yield the operations of this process as they are made; each is told to `before` and `after` with its index."""
    made: list[Operation] = []
    inside = threading.local()
    real = {name: getattr(os, name) for name in CALLS}

    def telling(name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if getattr(inside, "call", False):  # one of these calls in terms of another, or what a moment does itself
                return real[name](*arguments, **options)
            operation, index = Operation(call=name, arguments=_described(arguments)), len(made)
            made.append(operation)
            inside.call = True
            try:
                before(index, operation)
                result = real[name](*arguments, **options)
                after(index, operation)
            finally:
                inside.call = False
            return result

        return call

    for name in CALLS:
        setattr(os, name, telling(name))
    try:
        yield made
    finally:
        for name, call in real.items():
            setattr(os, name, call)


def end_at_unseen_changes(code: int, within: str = "") -> None:
    """End this process with `code` when it changes a file past `watched`; the hook stays for good: for children.

    within: the directory whose files count, "" for all.
    """

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if not _CHANGES.fullmatch(event) or (event == "open" and not _is_written(arguments)):
            return
        if within and not any(str(argument).startswith(within) for argument in arguments):
            return
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame.f_code.co_filename != __file__:
            frame = frame.f_back
        if frame is None:
            os._exit(code)

    sys.addaudithook(hook)


def _is_written(arguments: tuple[Any, ...]) -> bool:
    flags = arguments[2]
    return isinstance(flags, int) and bool(flags & _WRITES)


def _described(arguments: tuple[Any, ...]) -> tuple[str, ...]:
    return tuple(
        str(Path(f"/proc/self/fd/{argument}").readlink()) if isinstance(argument, int) and i == 0 else str(argument)
        for i, argument in enumerate(arguments)
    )
