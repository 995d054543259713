"""Runs a trainer as a child of the daemon: below it in everything, within limits, and never longer than it.

What a trainer leaves is read from files (`daemon.retrain_files`); here is only told how its process ended. For a
daemon of systemd a unit of its own is the better place (`runner = "unit"`): it is not in the daemon's own memory limit.
"""

import asyncio
import contextlib
import os
import re
import signal
import stat
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from daemon.limited import NOT_BEGUN, OVERDUE
from daemon.ports import Clock
from daemon.redact import Redactor, is_secret_name
from daemon.retrain_files import LOG, RetrainRefused, refuse_second

_KEPT = re.compile(
    r"PATH|HOME|USER|LOGNAME|LANG|LANGUAGE|LC_\w+|TZ|TMPDIR|SACD_TRIALS|VIRTUAL_ENV|LD_LIBRARY_PATH"
    r"|PYTHON\w+|NUMBA_\w+|XDG_CACHE_HOME|SSL_CERT_(FILE|DIR)|(?i:(https?|all|no)_proxy)"
)
"""What a trainer is told of our environment: nothing that configures us, belongs to systemd, or may be a secret."""
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_SLACK_S = 5.0
"""What the launcher may take beyond its own limits before it is killed as well."""
_TAIL_BYTES = 4_096
_LONGEST_LINE = 200
_OUT_OF_MEMORY = ("MemoryError", "bad_alloc", "not enough memory", "Cannot allocate memory")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How the process of a trainer ended. reason: in words.

    is_failure: it ended neither by itself with success nor because we told it to.
    """

    reason: str
    is_failure: bool


class TrainerChild:
    """One trainer, from `start` to `wait` or `stop`."""

    def __init__(
        self,
        directory: Path,
        clock: Clock,
        environ: Mapping[str, str],
        *,
        seconds: float,
        memory_mib: int,
        grace_s: float = 10.0,
        command: Sequence[str] | None = None,
    ) -> None:
        """directory: where requests lie.  seconds: until it is ended.  memory_mib: of each of its processes.

        grace_s: from being told to end to being killed.  command: another program in the trainer's place.
        """
        self._directory = directory
        self._clock = clock
        self._environ = trainer_environment(environ)
        self._seconds, self._memory_mib, self._grace_s = seconds, memory_mib, grace_s
        self._command = command or (sys.executable, "-m", "training", "retrain", str(directory))
        self._process: Process | None = None
        self._began_s = 0.0
        self._watching: asyncio.Task[Ended] | None = None
        self._is_stopping = False

    async def start(self) -> None:
        """Begin. Raises RetrainRefused while another trainer works there, for want of time, or of room."""
        if self._seconds <= 0.0:
            raise RetrainRefused(f"{self._directory}: the time for this retraining is over")
        try:
            refuse_second(self._directory)
            # A group of its own, so that all of it can be killed, and no session: the kernel may weigh sessions
            # against each other (sched_autogroup), and then no priority within one counts against the daemon.
            self._process = await asyncio.create_subprocess_exec(
                *self._launcher(), stdin=PIPE, stdout=DEVNULL, stderr=PIPE, env=self._environ, process_group=0
            )
        except OSError as error:
            raise RetrainRefused(f"{self._directory}: a trainer cannot be started ({error.strerror})") from error
        self._began_s = self._clock.monotonic_s()
        self._watching = asyncio.create_task(self._watch(self._process))

    async def wait(self) -> Ended:
        """Return how it ended, once it has. It goes on when the caller is cancelled; `stop` ends it."""
        _, watching = self._started()
        return await asyncio.shield(watching)

    @property
    def ended(self) -> Ended | None:
        """How it ended, None while it works."""
        _, watching = self._started()
        return watching.result() if watching.done() else None

    async def stop(self) -> Ended:
        """Tell it to end, kill it when it does not, and return how it ended. Its request stays for the next one."""
        process, _ = self._started()
        self._is_stopping = process.returncode is None
        if process.stdin is not None:
            process.stdin.close()  # how the launcher hears of our end, too
        if not await self._ends_within(process, self._grace_s + _SLACK_S):
            self._kill(process)
        return await self.wait()

    def _started(self) -> tuple[Process, "asyncio.Task[Ended]"]:
        if self._process is None or self._watching is None:
            raise RuntimeError("a trainer is waited for before it was started")
        return self._process, self._watching

    def _launcher(self) -> Sequence[str]:
        options = {
            "--log": self._directory / LOG,
            "--seconds": self._seconds,
            "--memory-mib": self._memory_mib,
            "--grace-s": self._grace_s,
        }
        return (sys.executable, "-m", "daemon.limited", *(f"{k}={v}" for k, v in options.items()), "--", *self._command)

    async def _watch(self, process: Process) -> Ended:
        if not await self._ends_within(process, self._seconds + self._grace_s + _SLACK_S):
            self._kill(process)
        code = await process.wait()
        if code < 0:
            self._kill(process)  # should it be the launcher that was killed
        said = await process.stderr.read(_TAIL_BYTES) if process.stderr is not None else b""
        return self._ended(code, _last_line(said) or _last_line(_tail(self._directory / LOG)))

    async def _ends_within(self, process: Process, seconds: float) -> bool:
        end, timer = asyncio.ensure_future(process.wait()), asyncio.ensure_future(self._clock.sleep_s(seconds))
        try:
            await asyncio.wait((end, timer), return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()
            end.cancel()
        return process.returncode is not None

    def _kill(self, process: Process) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    def _ended(self, code: int, last_line: str) -> Ended:
        if self._is_stopping:
            return Ended(reason="ended with the daemon; its request stays for the next start", is_failure=False)
        if code == 0:
            return Ended(reason="ended by itself", is_failure=False)
        hours = (self._clock.monotonic_s() - self._began_s) / 3_600
        return Ended(reason=_words(code, last_line, hours, self._memory_mib), is_failure=True)


def trainer_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a trainer: what it needs of ours, no secret, and one thread for sums."""
    kept = {name: value for name, value in environ.items() if _KEPT.fullmatch(name) and not is_secret_name(name)}
    return kept | dict.fromkeys(_ONE_THREAD, "1") | {"PYTHONUNBUFFERED": "1"}


def _words(code: int, last_line: str, hours: float, memory_mib: int) -> str:
    memory = f"it needed more than the {memory_mib} MiB of [retrain] memory_mib"
    said = f": {last_line}" if last_line else ""
    if any(sign in last_line for sign in _OUT_OF_MEMORY):
        said = f"{said}; {memory}"
    match -code:
        case signal.SIGKILL:
            return "killed by signal 9: the system was out of memory, or somebody ended it"
        case signal.SIGABRT:
            return f"gave up by signal 6, as libraries do when {memory}{said}"
        case number if number > 0:
            return f"killed by signal {number} ({signal.strsignal(number) or 'unknown'}){said}"
    if code == OVERDUE:
        return f"ended after {hours:.1f} h: it took longer than [retrain] limit_hours allows"
    if code == NOT_BEGUN:
        return f"could not be started{said}"
    return f"ended with exit code {code}{said}"


def _tail(place: Path) -> bytes:
    """Return the end of what the trainer wrote, b"" when there is nothing."""
    try:
        descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""  # it has said nothing, then
    try:
        found = os.fstat(descriptor)
        is_plain = stat.S_ISREG(found.st_mode)
        return os.pread(descriptor, _TAIL_BYTES, max(0, found.st_size - _TAIL_BYTES)) if is_plain else b""
    finally:
        os.close(descriptor)


def _last_line(text: bytes) -> str:
    lines = [line.strip() for line in text.decode("utf-8", "replace").splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    printable = "".join(character if character.isprintable() else " " for character in Redactor().text(last))
    return printable if len(printable) <= _LONGEST_LINE else f"{printable[:_LONGEST_LINE]}..."
