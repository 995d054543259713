"""A real systemd to run units under: booted over this machine's files, in namespaces of its own (see `boot`).

with booted(tmp_path / "machine", layers=[installed]) as machine:
    machine.run("systemctl", "start", "sacd@paper")
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.crash.forking import die_with_parent

BOOT = Path(__file__).with_name("boot")
SYSTEMD = Path("/lib/systemd/systemd")
_CANNOT = 77
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A booted one. pid: of its first process, as this machine counts."""

    pid: int

    def path(self, inside: str | Path) -> Path:
        """Return where a path of the machine is found from outside; links that lead from / on do not work there."""
        return Path(f"/proc/{self.pid}/root", str(inside).lstrip("/"))

    def run(
        self, *command: str | Path, given: str = "", timeout_s: float = 120.0, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in there, as root. A failure shows what it wrote."""
        root = f"/proc/{self.pid}/root"
        enter = ["nsenter", f"--target={self.pid}", "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"]
        done = subprocess.run(
            [*enter, f"--root={root}", f"--wd={root}", "env", "-i", f"PATH={_PATH}", "LC_ALL=C.UTF-8", *command],
            input=given,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if check and done.returncode != 0:
            pytest.fail(f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}", pytrace=False)
        return done

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """Return what systemd says of a unit."""
        said = self.run("systemctl", "show", unit, *(f"--property={name}" for name in properties)).stdout
        return dict(line.split("=", 1) for line in said.splitlines())

    def log(self, unit: str, *arguments: str) -> str:
        """Return what the units of that name (or pattern) have written."""
        self.run("journalctl", "--sync")
        return self.run("journalctl", "--quiet", "--no-pager", "--output=cat", f"--unit={unit}", *arguments).stdout

    def drop_in(self, unit: str, text: str) -> None:
        """Change a unit as `systemctl edit` does."""
        folder = self.path("/etc/systemd/system") / f"{unit}.d"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "test.conf").write_text(text, encoding="utf-8")
        self.run("systemctl", "daemon-reload")

    def until(self, is_so: Callable[[], bool], what: str, unit: str, timeout_s: float = 120.0) -> None:
        """Wait until something is so; when it never is, show what the unit wrote."""
        end_s = time.monotonic() + timeout_s
        while not is_so():
            if time.monotonic() > end_s:
                pytest.fail(f"not within {timeout_s:g} s: {what}\n{self.log(unit)[-4_000:]}", pytrace=False)
            time.sleep(0.1)


@contextmanager
def booted(folder: Path, layers: Sequence[Path] = (), binds: Mapping[Path, str] | None = None) -> Iterator[Machine]:
    """Yield a machine with the files of this one and of `layers`; afterwards nothing of it is left.

    folder: made for it.  binds: directories of this machine and where they are found in the other.
    Where none can be booted the test is skipped, with the reason.
    """
    _skip_without(*("unshare", "nsenter", "setpriv", "journalctl"))
    folder.mkdir(parents=True)
    places = [str(place) for pair in (binds or {}).items() for place in pair]
    with (folder.with_suffix(".log")).open("w+b") as log:
        outside = subprocess.Popen(
            [BOOT, folder, *layers, *(["--", *places] if places else [])],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - forks nothing, and what it calls takes no lock
        )
        try:
            yield _once_up(outside, folder.with_suffix(".log"))
        finally:
            _end(outside)


def _skip_without(*commands: str) -> None:
    missing = [name for name in commands if shutil.which(name) is None]
    if not SYSTEMD.exists():
        missing.append(str(SYSTEMD))
    if missing:
        pytest.skip(f"no systemd can be booted here: {', '.join(missing)} is missing")
    if os.geteuid() != 0:
        pytest.skip("no systemd can be booted here: that takes root")


def _once_up(outside: subprocess.Popen[bytes], log: Path) -> Machine:
    end_s = time.monotonic() + 120.0
    while time.monotonic() < end_s:
        if (code := outside.poll()) is not None:
            said = log.read_text(encoding="utf-8", errors="replace")[-2_000:]
            if code == _CANNOT:
                pytest.skip(f"no systemd can be booted here: {said}")
            pytest.fail(f"systemd ended with {code}: {said}", pytrace=False)
        pid = _first_process(outside.pid)
        if pid is not None:
            machine = Machine(pid=pid)
            is_up = machine.run("systemctl", "is-system-running", "--wait", check=False)
            if is_up.stdout.strip() in {"running", "degraded"}:
                machine.run("systemctl", "log-target", "journal")  # until now its words went to us
                return machine
        time.sleep(0.05)
    pytest.fail(f"systemd did not come up: {log.read_text(encoding='utf-8', errors='replace')[-2_000:]}", pytrace=False)


def _first_process(outside: int) -> int | None:
    """Return the descendant that has become systemd, None before that."""
    for pid in _children(outside):
        found = pid if _told(pid, "comm").strip() == "systemd" else _first_process(pid)
        if found is not None:
            return found
    return None


def _children(pid: int) -> list[int]:
    return [int(text) for text in _told(pid, f"task/{pid}/children").split()]


def _told(pid: int, name: str) -> str:
    """Return what the kernel tells of a process, nothing of one that has ended."""
    try:
        return Path(f"/proc/{pid}/{name}").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _end(outside: subprocess.Popen[bytes]) -> None:
    """End the machine by its first process, with which the kernel kills all others; `boot` then cleans up after it."""
    first = _first_process(outside.pid)
    for pid in _children(outside.pid) if first is None else [first]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    try:
        outside.wait(30.0)
    except subprocess.TimeoutExpired:
        outside.kill()
        raise
