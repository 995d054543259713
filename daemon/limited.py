"""Runs another program below everything else on the machine, within limits, and never beyond the end of its starter.

    python -m daemon.limited --log FILE [--seconds N] [--memory-mib N] [--grace-s N] -- PROGRAM [ARGUMENT ...]

Stands between the daemon and what trains: itself so small that it is always there to end the other. What the program
writes goes to FILE, which stays small. The program is told to end, and killed when it has not within `--grace-s`,
after `--seconds`, at SIGTERM, and when standard input ends, as it does with the starter. With it go all processes
that it began. Ends as the program did, by its exit code or its signal; 124 after `--seconds`, 125 when it could not
be begun (as timeout(1) has it).
"""

import argparse
import contextlib
import ctypes
import io
import os
import platform
import resource
import selectors
import signal
import stat
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

OVERDUE, NOT_BEGUN = 124, 125

_NICEST = 19
_OOM_SCORE = 500
"""Added to the thousandths of memory that a process has: of all that could be killed for memory, this is first."""
_MOST_FILES = 4_096
_LOG_BYTES = 5 * 2**20
_PIPE_BYTES = 2**16
_STANDARD_INPUT = 0
_HEARD = (signal.SIGTERM, signal.SIGALRM, signal.SIGCHLD)
_MIB = 2**20
_LONGEST_S = 1e8

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
_IOPRIO_SET = {"x86_64": 251, "aarch64": 30}  # its number in the table of system calls; libc has no function for it
_IOPRIO_WHO_PROCESS, _IOPRIO_IDLE = 1, 3 << 13  # linux/ioprio.h
_LIBC = ctypes.CDLL(None, use_errno=True)


class BoundedLog:
    """A file that stays small: at `most` bytes it becomes `NAME.1`, in place of the one before, and begins anew.

    It begins anew when it is opened, too. Raises OSError when it cannot be opened; what cannot be written later
    (a full disk) is counted, and told once there is room.
    """

    def __init__(self, path: Path, most: int = _LOG_BYTES) -> None:
        self._path, self._most = path, most
        self._lost = self._size = 0
        self._file = self._begin()

    def write(self, data: bytes) -> None:
        """Write at once what the disk takes. Never fails for want of room: whoever writes to us has to go on."""
        try:
            if 0 < self._size > self._most - len(data):
                former, self._file, self._size = self._file, self._begin(), 0
                former.close()
            if self._lost:
                self._put(f"{self._lost} bytes could not be written here\n".encode())
                self._lost = 0
            self._put(data)
        except OSError:
            self._lost += len(data)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _begin(self) -> io.FileIO:
        if os.path.lexists(self._path):
            self._path.replace(self._path.with_name(f"{self._path.name}.1"))
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        return io.FileIO(os.open(self._path, flags, 0o600), "wb")

    def _put(self, data: bytes) -> None:
        while data:
            written = self._file.write(data)
            self._size += written
            data = data[written:]


# ---- the limits -------------------------------------------------------------------------------------------------
def step_back() -> list[str]:
    """Put this process, and so all that it begins, behind every other; return what the system did not let us do."""
    steps: dict[str, Callable[[], None]] = {
        "priority": lambda: os.setpriority(os.PRIO_PROCESS, 0, _NICEST),
        # Runs when nothing else wants to, and gives way at once to whoever wakes up.
        "scheduling class idle": lambda: os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0)),
        "disk priority idle": _idle_disk,
        "first to go for memory": lambda: _write_number(Path("/proc/self/oom_score_adj"), _OOM_SCORE),
    }
    refused = []
    for name, step in steps.items():
        try:
            step()
        except OSError as error:
            refused.append(f"{name}: {error.strerror}")
    return refused


def _idle_disk() -> None:
    number = _IOPRIO_SET.get(platform.machine())
    if number is None:
        raise OSError(0, f"unknown on {platform.machine()}")
    _checked(_LIBC.syscall(number, _IOPRIO_WHO_PROCESS, 0, _IOPRIO_IDLE))


def _write_number(place: Path, number: int) -> None:
    place.write_text(f"{number}\n", "ascii")


def _limit(memory_bytes: int | None) -> None:
    """Set what the program may use of memory and files. Raises OSError or ValueError when the system refuses."""
    if memory_bytes is not None:
        # Not RLIMIT_AS: torch reserves far more addresses than it ever uses. RLIMIT_DATA counts what may be written.
        _lower(resource.RLIMIT_DATA, memory_bytes)
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_NOFILE, _MOST_FILES)


def _lower(what: int, most: int) -> None:
    hard = resource.getrlimit(what)[1]
    limit = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(what, (limit, limit))


def _prctl(option: int, value: int) -> None:
    _checked(_LIBC.prctl(option, ctypes.c_ulong(value), 0, 0, 0))


def _checked(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


# ---- the program ------------------------------------------------------------------------------------------------
def begin(command: Sequence[str], memory_bytes: int | None, output: int) -> int:
    """Start the program with its limits, deaf and writing to `output`; return its process id.

    It dies with this process, however that ends. When it cannot be started it ends with 125 and says why in `output`.
    """
    starter = os.getpid()
    child = os.fork()
    if child:
        return child
    try:
        _become(command, memory_bytes, output, starter)
    except (OSError, ValueError) as error:
        os.write(output, f"{command[0]} cannot be started within its limits: {error}\n".encode())
    finally:
        os._exit(NOT_BEGUN)


def _become(command: Sequence[str], memory_bytes: int | None, output: int, starter: int) -> NoReturn:
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != starter:
        raise OSError(0, "whoever started it is gone")
    os.dup2(os.open(os.devnull, os.O_RDONLY), _STANDARD_INPUT)
    for stream in (1, 2):
        os.dup2(output, stream)
    for number in _HEARD:
        signal.signal(number, signal.SIG_DFL)
    _limit(memory_bytes)
    os.execvp(command[0], list(command))  # noqa: S606 - no shell


class Supervisor:
    """Watches over one program until it has ended, with all that it began. For the main thread, one at a time."""

    def __init__(self, log: BoundedLog, grace_s: float) -> None:
        """Hears signals from here on. log: takes what the program writes.  grace_s: from being told to being killed."""
        self._log, self._grace_s = log, grace_s
        self._wake, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._output, self._input = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._output, False)
        self._is_told = self._is_overdue = False
        self._program = 0
        # Each signal writes its number into the pipe; Python needs a handler of ours to do so.
        signal.set_wakeup_fd(wake)
        for number in _HEARD:
            signal.signal(number, lambda _number, _frame: None)

    def run(self, command: Sequence[str], memory_bytes: int | None, seconds: float | None) -> int:
        """Run a program; return its exit code, its signal as a negative number, or 124 when `seconds` were over."""
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)  # what it leaves behind becomes ours
        self._program = begin(command, memory_bytes, self._input)
        os.close(self._input)
        if seconds is not None:
            signal.setitimer(signal.ITIMER_REAL, seconds)
        status = self._watch()
        _end_the_rest()
        while self._take_output():
            pass
        return OVERDUE if self._is_overdue else os.waitstatus_to_exitcode(status)

    def _watch(self) -> int:
        with selectors.DefaultSelector() as selector:
            for source in (_STANDARD_INPUT, self._output, self._wake):
                selector.register(source, selectors.EVENT_READ)
            while (status := self._ended()) is None:
                for key, _ in selector.select():
                    if not self._hear(key.fd):
                        selector.unregister(key.fd)
        return status

    def _hear(self, source: int) -> bool:
        """Take what has come from there; return False when nothing more will."""
        if source == self._output:
            return self._take_output()
        data = os.read(source, _PIPE_BYTES)
        if source == self._wake:
            for number in data:
                self._on_signal(number)
        elif not data:
            self._tell()  # whoever started us is gone
        return bool(data)

    def _on_signal(self, number: int) -> None:
        if number == signal.SIGALRM and self._is_told:
            os.kill(self._program, signal.SIGKILL)
        elif number == signal.SIGALRM:
            self._is_overdue = True
            self._tell()
        elif number == signal.SIGTERM:
            self._tell()

    def _tell(self) -> None:
        """Tell the program to end, once; the next alarm kills it."""
        if not self._is_told:
            self._is_told = True
            signal.setitimer(signal.ITIMER_REAL, self._grace_s)
            os.kill(self._program, signal.SIGTERM)

    def _ended(self) -> int | None:
        """Return the program's status once it has ended; others that were left to us and have ended are forgotten."""
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == self._program:
                return status
            if pid == 0:
                return None

    def _take_output(self) -> bool:
        """Write down what the program wrote; return False at its end, or when no more is there after the end."""
        try:
            data = os.read(self._output, _PIPE_BYTES)
        except BlockingIOError:
            return False
        self._log.write(data)
        return bool(data)


def _end_the_rest() -> None:
    """Kill what the program began and left to us."""
    while children := _children():
        for child in children:
            os.kill(child, signal.SIGKILL)  # ours, and so there until we wait for it
        for child in children:
            os.waitpid(child, 0)


def _children() -> list[int]:
    """Return the process ids of our children."""
    found = []
    for place in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            # "pid (name) state ppid ...": the name may hold anything.
            if int(place.read_bytes().rpartition(b")")[2].split()[1]) == os.getpid():
                found.append(int(place.parent.name))
    return found


# ---- the command ------------------------------------------------------------------------------------------------
def main(arguments: Sequence[str]) -> int:
    """Run the program that the arguments name, and return the exit code to end with."""
    parsed = _parser().parse_args(arguments)
    kind = os.fstat(_STANDARD_INPUT).st_mode
    if not (stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind)):
        return _not_begun("standard input is no pipe, whose end would say that the starter is gone")
    try:
        log = BoundedLog(parsed.log)
    except OSError as error:
        return _not_begun(f"{parsed.log}: cannot be written ({error.strerror})")
    for refused in step_back():
        log.write(f"limited: {refused}\n".encode())
    memory_bytes = None if parsed.memory_mib is None else parsed.memory_mib * _MIB
    ended = Supervisor(log, parsed.grace_s).run(parsed.command, memory_bytes, parsed.seconds)
    log.close()
    return ended if ended >= 0 else _end_by(-ended)


def _not_begun(reason: str) -> int:
    print(f"daemon.limited: {reason}", file=sys.stderr)  # noqa: T201 - where the starter looks
    return NOT_BEGUN


def _end_by(number: int) -> int:
    """End as the program did, without a second core; return an exit code when the signal ends nobody."""
    _lower(resource.RLIMIT_CORE, 0)
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    return 128 + number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m daemon.limited", allow_abbrev=False)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--seconds", type=_positive)
    parser.add_argument("--memory-mib", type=int)
    parser.add_argument("--grace-s", type=_positive, default=10.0)
    parser.add_argument("command", nargs="+")
    return parser


def _positive(text: str) -> float:
    seconds = float(text)
    if not 0.0 < seconds <= _LONGEST_S:  # an alarm in 0 seconds is none
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and at most {_LONGEST_S:.0f}")
    return seconds


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
