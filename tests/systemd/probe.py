"""What a service is allowed to do, tried from within: prints each attempt and what came of it as one JSON object.

    probe.py OUT ATTEMPT=ARGUMENT...

"done" is what succeeded, anything else the reason why not. Only the standard library: it runs on the service's Python.
"""

import contextlib
import ctypes
import errno
import json
import mmap
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p
_CLONE_NEWUSER, _CLONE_NEWNS, _CLONE_NEWNET = 0x10000000, 0x00020000, 0x40000000  # linux/sched.h
_PTRACE_ATTACH, _PER_LINUX32 = 16, 0x0008
_NR_IOPRIO_GET, _NR_BPF = 252, 321  # of x86_64
_PROT_RWX = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC


def _checked(result: int) -> None:
    if result in {-1, 2**64 - 1}:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _write(path: str) -> None:
    place = Path(path, f".probe-{os.getpid()}")
    place.touch()
    place.unlink()


def _append(path: str) -> None:
    with Path(path).open("ab"):
        pass


def _read(path: str) -> None:
    if Path(path).is_dir():
        found = os.listdir(path)  # noqa: PTH208 - names
        if not found:
            raise OSError(errno.ENOENT, "nothing is to be seen there")
    else:
        Path(path).read_bytes()


def _socket(words: str) -> None:
    family, kind = words.split(",")
    socket.socket(getattr(socket, family), getattr(socket, kind)).close()


def _send(address: str) -> None:
    """Send a datagram: what a filter of the control group drops is refused at once."""
    host, port = address.rsplit(":", 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"probe", (host, int(port)))


def _map(_: str) -> None:
    _checked(_LIBC.mmap(None, mmap.PAGESIZE, _PROT_RWX, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0))


def _unshare(name: str) -> None:
    flag = {"user": _CLONE_NEWUSER, "mount": _CLONE_NEWNS, "net": _CLONE_NEWNET}[name]
    child = os.fork()
    if child == 0:
        os._exit(0 if _LIBC.unshare(flag) == 0 else ctypes.get_errno())
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        raise OSError(code, os.strerror(code))


def _trace(_: str) -> None:
    """Attach to a child, which every process may without a sandbox."""
    child = os.fork()
    if child == 0:
        signal.pause()
    try:
        _checked(_LIBC.ptrace(_PTRACE_ATTACH, child, None, None))
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _execute(path: str) -> None:
    subprocess.run([path, "--version"], capture_output=True, check=True)


def _execute_own(folder: str) -> None:
    """Write a program and start it."""
    place = Path(folder, f".probe-{os.getpid()}")
    place.write_text(f"#!{sys.executable}\n", encoding="utf-8")
    place.chmod(0o700)
    try:
        subprocess.run([place], capture_output=True, check=True)
    finally:
        place.unlink()


def _setuid(folder: str) -> None:
    place = Path(folder, f".probe-{os.getpid()}")
    place.touch()
    try:
        place.chmod(0o4700)
    finally:
        place.unlink()


def _others(_: str) -> None:
    """See a process of somebody else's."""
    Path("/proc/1/stat").read_bytes()


def _hostname(_: str) -> None:
    socket.sethostname("probe")


def _priority(_: str) -> None:
    os.setpriority(os.PRIO_PROCESS, 0, -5)


def _realtime(_: str) -> None:
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))


def _personality(_: str) -> None:
    _checked(_LIBC.personality(_PER_LINUX32))


def _bpf(_: str) -> None:
    _checked(_LIBC.syscall(_NR_BPF, 0, None, 0))


def _credential(name: str) -> None:
    path = Path(os.environ["CREDENTIALS_DIRECTORY"], name)
    if not path.read_bytes():
        raise OSError(errno.ENODATA, "it is empty")


def _trusted(name: str) -> None:
    """Take a credential as the daemon takes it, who refuses what others could read."""
    from daemon.credentials import credentials_of  # noqa: PLC0415 - of the installed program

    credentials_of(Path(os.environ["CREDENTIALS_DIRECTORY"], name))


def _torch(_: str) -> None:
    import torch  # noqa: PLC0415 - of the trainer

    torch.nn.Conv1d(1, 1, 3)(torch.zeros(1, 1, 8))


ATTEMPTS: dict[str, Callable[[str], None]] = {
    name.removeprefix("_"): attempt
    for name, attempt in list(globals().items())
    if name.startswith("_") and callable(attempt) and getattr(attempt, "__module__", "") == __name__
    and name not in {"_checked", "_facts", "_mounted"}
}  # fmt: skip


def _mounted(without: str) -> list[str]:
    """Return where what is seen there may be written to ("ro"), or executed ("noexec")."""
    seen = dict[str, str]()
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        _, _, _, _, place, options, *_ = line.split()
        seen[place] = options  # a later one lies over an earlier one
    return sorted(place for place, options in seen.items() if without not in options.split(","))


def _facts() -> dict[str, object]:
    return {
        "writable": _mounted("ro"),
        "executable": _mounted("noexec"),
        "uid": os.getuid(),
        "limits": [resource.getrlimit(limit) for limit in (resource.RLIMIT_CORE, resource.RLIMIT_NOFILE)],
        "users": int(Path("/proc/self/uid_map").read_text(encoding="ascii").split()[2]),
        "network": Path("/proc/self/ns/net").readlink().name,
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "policy": os.sched_getscheduler(0),
        "oom": int(Path("/proc/self/oom_score_adj").read_text(encoding="ascii")),
        "ioprio": _LIBC.syscall(_NR_IOPRIO_GET, 1, 0) >> 13,
    }


def main(out: str, *wanted: str) -> None:
    """Try everything that is asked for and write what came of it."""
    told = _facts()
    for words in wanted:
        name, _, argument = words.partition("=")
        try:
            ATTEMPTS[name](argument)
            told[words] = "done"
        except OSError as error:
            told[words] = errno.errorcode.get(error.errno or 0, str(error))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what came of it
            told[words] = f"{type(error).__name__}: {error}"
    with contextlib.suppress(FileNotFoundError):
        Path(out).unlink()
    Path(out).write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
