"""Shuts this process in, for good, before it reads what nobody vouches for.

Afterwards it can compute and write to what is open already, and nothing else: no network, no other program or process,
no file written, few files read. Each layer holds without the others; where a kernel has only some of them, what is
left must still keep the network, other processes and all writing out, or `confine` refuses. Linux only.
"""

import ctypes
import errno
import os
import platform
import pwd
import resource
import struct
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_NOBODY = 65_534


class CannotConfine(Exception):
    """The system lacks a layer that the import cannot do without."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the process may use. memory_bytes: beyond what it holds when it is shut in.  cpu_s: since it began."""

    memory_bytes: int = 2 * 2**30
    cpu_s: int = 120
    open_files: int = 64


def separate() -> list[str]:
    """Leave the parent's network and other namespaces where the kernel allows it; tell what that gained.

    For a process with one thread. Without root this takes a user namespace; nothing is mapped into it, so that the
    process seems to be nobody there, while files still take it for who it is.
    """
    die_with_parent()
    flags = _CLONE_NEWNET | _CLONE_NEWIPC | _CLONE_NEWUTS | _CLONE_NEWNS
    if _LIBC.unshare(flags if os.geteuid() == 0 else flags | _CLONE_NEWUSER) != 0:
        return []
    return ["a network of its own with nothing in it", "IPC, mounts and host name of its own"]


def confine(limits: Limits, readable: Sequence[Path]) -> list[str]:
    """Give up everything for good and tell in words what holds now.

    readable: directories and files that may still be read, where the kernel can tell them apart.
    Raises CannotConfine, and then nothing must be loaded.
    """
    if threads := len(list(Path("/proc/self/task").iterdir())) - 1:
        raise CannotConfine(f"{threads} threads of a library run already and would stay outside")
    rules = None if (version := landlock_version()) < 1 else _landlock_rules(version, readable)
    held = [become_nobody()]
    _prctl(_PR_SET_DUMPABLE, 0)
    die_with_parent()  # changing the user has undone it
    held.append(_lower_limits(limits))
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    if rules is not None:
        _landlock_restrict(rules)
        held.append(f"files: the libraries can be read, no other (Landlock {version})")
    else:
        held.append("files: all that this user may read can be read (this kernel has no Landlock)")
    _filter_calls()
    held.append("system calls: none that connects, starts, signals, traces, or changes a file")
    return held


# ---- user, limits -----------------------------------------------------------------------------------------------
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
_CLONE_NEWNS, _CLONE_NEWUTS, _CLONE_NEWIPC = 0x0002_0000, 0x0400_0000, 0x0800_0000
_CLONE_NEWUSER, _CLONE_NEWNET = 0x1000_0000, 0x4000_0000
_SIGKILL = 9
_CAPABILITY_VERSION = 0x2008_0522


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends."""
    _prctl(_PR_SET_PDEATHSIG, _SIGKILL)


def become_nobody() -> str:
    """Drop root for the user nobody, and every capability; tell who it is now."""
    if was_root := os.geteuid() == 0:
        try:
            uid, gid = pwd.getpwnam("nobody")[2:4]
        except KeyError:
            uid = gid = _NOBODY
        try:
            os.setgroups([])
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
        except OSError as error:
            raise CannotConfine(f"root cannot be dropped for the user nobody ({error.strerror})") from error
    header = struct.pack("=Ii", _CAPABILITY_VERSION, 0)
    if _LIBC.capset(header, bytes(24)) != 0:
        raise CannotConfine(f"capabilities cannot be dropped ({os.strerror(ctypes.get_errno())})")
    return f"{'user nobody' if was_root else 'the user who started it'}, without any capability"


def _lower_limits(limits: Limits) -> str:
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    for which, wanted in (
        (resource.RLIMIT_AS, held + limits.memory_bytes),
        (resource.RLIMIT_CPU, limits.cpu_s + 1),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, limits.open_files),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(which)
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        # One second before it is killed for its use of CPU, a process is told why.
        resource.setrlimit(which, (most - 1 if which == resource.RLIMIT_CPU else most, most))
    return f"limits: {limits.memory_bytes / 2**20:,.0f} MiB more memory, {limits.cpu_s} s of CPU, no file, no process"


def _prctl(option: int, value: int) -> None:
    if _LIBC.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise CannotConfine(f"prctl {option} is refused ({os.strerror(ctypes.get_errno())})")


# ---- Landlock: which files can be read --------------------------------------------------------------------------
# https://docs.kernel.org/userspace-api/landlock.html; the numbers are those of every architecture.
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
_ALL_FILE_RIGHTS = 16
_NET_SINCE, _NET_RIGHTS = 4, 0b11
_SCOPES_SINCE, _SCOPES = 6, 0b11


def landlock_version() -> int:
    """Return the version of Landlock that the kernel speaks, below 1 when it has none."""
    return int(_LIBC.syscall(_LANDLOCK_CREATE, None, 0, 1))


def _landlock_rules(version: int, readable: Sequence[Path]) -> int:
    """Return the descriptor of rules that allow reading below `readable` and nothing else that Landlock knows."""
    words = [(1 << _FILE_RIGHTS.get(version, _ALL_FILE_RIGHTS)) - 1]
    words += [_NET_RIGHTS] if version >= _NET_SINCE else []
    words += [_SCOPES] if version >= _SCOPES_SINCE else []
    attributes = struct.pack(f"={len(words)}Q", *words)
    rules = _checked(_LIBC.syscall(_LANDLOCK_CREATE, attributes, len(attributes), 0))
    for path in readable:
        try:
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError as error:
            if error.errno not in {errno.ENOENT, errno.ENOTDIR, errno.EACCES}:
                raise
            continue  # what is not there need not be read
        rights = _READ_FILE | _READ_DIR if path.is_dir() else _READ_FILE
        _checked(_LIBC.syscall(_LANDLOCK_ADD, rules, 1, struct.pack("=Qi", rights, place), 0))
        os.close(place)
    return rules


def _landlock_restrict(rules: int) -> None:
    _checked(_LIBC.syscall(_LANDLOCK_RESTRICT, rules, 0))
    os.close(rules)


def _checked(result: int) -> int:
    if result < 0:
        raise CannotConfine(f"Landlock is refused ({os.strerror(ctypes.get_errno())})")
    return result


# ---- seccomp: which system calls exist --------------------------------------------------------------------------
# A list of what computing and reading need; all else answers "not permitted", which Python shows as PermissionError.
_ARCHITECTURES: Mapping[str, tuple[int, int]] = {"x86_64": (0xC000_003E, 0), "aarch64": (0xC000_00B7, 1)}
CALLS: Mapping[str, tuple[int | None, int | None]] = {
    "read": (0, 63),
    "write": (1, 64),
    "readv": (19, 65),
    "writev": (20, 66),
    "pread64": (17, 67),
    "lseek": (8, 62),
    "close": (3, 57),
    "fstat": (5, 80),
    "newfstatat": (262, 79),
    "stat": (4, None),
    "lstat": (6, None),
    "statx": (332, 291),
    "access": (21, None),
    "faccessat": (269, 48),
    "faccessat2": (439, 439),
    "readlink": (89, None),
    "readlinkat": (267, 78),
    "getcwd": (79, 17),
    "getdents64": (217, 61),
    "dup": (32, 23),
    "mmap": (9, 222),
    "munmap": (11, 215),
    "mprotect": (10, 226),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "brk": (12, 214),
    "futex": (202, 98),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115),
    "gettimeofday": (96, 169),
    "getrandom": (318, 278),
    "getpid": (39, 172),
    "gettid": (186, 178),
    "getuid": (102, 174),
    "geteuid": (107, 175),
    "getgid": (104, 176),
    "getegid": (108, 177),
    "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123),
    "getrusage": (98, 165),
    "sysinfo": (99, 179),
    "uname": (63, 160),
    "restart_syscall": (219, 128),
    "exit": (60, 93),
    "exit_group": (231, 94),
}
"""System call -> its number on x86-64 and on 64-bit ARM, None where there is none."""
OPENING_CALLS: Mapping[str, tuple[int | None, int | None, int]] = {"open": (2, None, 1), "openat": (257, 56, 2)}
"""The same for calls that may only open for reading, with the place of the flags among the arguments."""

_LOAD, _JUMP_IF_EQUAL, _JUMP_IF_ANY, _RETURN = 0x20, 0x15, 0x45, 0x06
_KILL, _ALLOW, _NOT_PERMITTED = 0x8000_0000, 0x7FFF_0000, 0x0005_0000 | errno.EPERM
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def _filter_calls() -> None:
    machine = platform.machine()
    if machine not in _ARCHITECTURES or sys.byteorder != "little" or struct.calcsize("P") != 8:  # noqa: PLR2004
        raise CannotConfine(f"no system call filter is known for {machine}; x86_64 and aarch64 have one")
    code = b"".join(struct.pack("=HBBI", *step) for step in _steps(*_ARCHITECTURES[machine]))
    program = _Program(len(code) // 8, code)
    if _LIBC.prctl(_PR_SET_SECCOMP, ctypes.c_ulong(2), ctypes.byref(program), 0, 0) != 0:
        raise CannotConfine(f"the kernel takes no system call filter ({os.strerror(ctypes.get_errno())})")


def _steps(architecture: int, column: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield the filter: BPF steps of operation, steps to skip if true, if false, and operand."""
    yield _LOAD, 0, 0, _ARCHITECTURE_AT
    yield _JUMP_IF_EQUAL, 1, 0, architecture
    yield _RETURN, 0, 0, _KILL
    yield _LOAD, 0, 0, _NUMBER_AT
    for numbers in CALLS.values():
        if (number := numbers[column]) is not None:
            yield _JUMP_IF_EQUAL, 0, 1, number
            yield _RETURN, 0, 0, _ALLOW
    for *opening, flags in OPENING_CALLS.values():
        if (number := opening[column]) is not None:
            yield _JUMP_IF_EQUAL, 0, 4, number
            yield _LOAD, 0, 0, _ARGUMENTS_AT + 8 * flags
            yield _JUMP_IF_ANY, 0, 1, _WRITING
            yield _RETURN, 0, 0, _NOT_PERMITTED
            yield _RETURN, 0, 0, _ALLOW
    yield _RETURN, 0, 0, _NOT_PERMITTED
