"""Each layer alone: what `test_import_model.py` shows of all together must not hang on one of them."""

import ast
import errno
import os
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategy.observation import N_OBSERVATION
from training import import_sandbox
from training.import_sandbox import CALLS, OPENING_CALLS, CannotConfine, confine

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="an archive can only be confined on Linux")
ROOT = Path(__file__).parents[2]
OTHER_USER = 12_345
BEGIN = """
import ctypes, os, socket, subprocess, sys, threading
sys.path.insert(0, {root!r})
from pathlib import Path
from training import import_sandbox as sandbox
report = {{}}
def probe(name, act):
    try:
        act()
        report[name] = 'DONE'
    except BaseException as error:
        report[name] = getattr(error, 'errno', None) or type(error).__name__
"""


def reported(code: str) -> dict[str, object]:
    """Return what a process reports that runs `code`."""
    script = BEGIN.format(root=str(ROOT)) + code + "\nsys.stdout.write(repr(report)); sys.stdout.flush(); os._exit(0)\n"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return ast.literal_eval(done.stdout)  # type: ignore[no-any-return]


def as_other_user() -> str:
    """Return code that leaves root, so that the rest runs as an ordinary user would."""
    leave = f"os.setgroups([]), os.setresgid(*[{OTHER_USER}] * 3), os.setresuid(*[{OTHER_USER}] * 3)"
    # A process that was never root owns its own /proc.
    return f"os.getuid() or ({leave}, sandbox._prctl(sandbox._PR_SET_DUMPABLE, 1))\n"


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.mark.parametrize("user", ["", as_other_user()], ids=["as started", "without root"])
def test_a_network_of_its_own_reaches_nobody(user: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        connect = f"socket.socket().connect(('127.0.0.1', {server.getsockname()[1]}))"
        code = f"{user}\nprobe('before', lambda: {connect})\nreport['held'] = sandbox.separate()\n"
        found = reported(code + f"probe('after', lambda: {connect})\n")
    if not found["held"]:
        pytest.skip("this kernel gives this user no namespaces")
    assert found["before"] == "DONE"
    assert found["after"] == errno.ENETUNREACH


@pytest.mark.parametrize("user", ["", as_other_user()], ids=["as started", "without root"])
def test_nobody_has_no_capability_and_does_not_come_back(user: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.touch(mode=0o600)
    found = reported(
        f"{user}sandbox.separate()\nsandbox.become_nobody()\n"
        "status = dict(line.split(':', 1) for line in open('/proc/self/status'))\n"
        "report['caps'] = [int(status[name], 16) for name in ('CapEff', 'CapPrm', 'CapInh', 'CapAmb')]\n"
        "report['ids'] = os.getresuid() + os.getresgid()\n"
        "report['groups'] = os.getgroups()\n"
        "probe('root', lambda: os.setuid(0))\n"
        f"probe('read', lambda: open({str(secret)!r}).read())\n"
    )
    assert found["caps"] == [0, 0, 0, 0]
    assert 0 not in found["ids"]  # type: ignore[operator]
    assert found["root"] in {errno.EPERM, errno.EINVAL}
    if os.geteuid() == 0:
        assert (found["groups"], found["read"]) == ([], errno.EACCES)


def test_landlock_alone_leaves_the_named_files_to_read(tmp_path: Path) -> None:
    if (version := import_sandbox.landlock_version()) < 1:
        pytest.skip("this kernel has no Landlock")
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "file").write_text("x")
    (tmp_path / "closed").write_text("x")
    readable = f"[Path({str(tmp_path / 'open')!r}), Path('/nowhere')]"
    with socket.create_server(("127.0.0.1", 0)) as server:
        found = reported(
            f"sandbox._prctl(sandbox._PR_SET_NO_NEW_PRIVS, 1)\n"
            f"sandbox._landlock_restrict(sandbox._landlock_rules({version}, {readable}))\n"
            f"probe('read', lambda: open({str(tmp_path / 'open' / 'file')!r}).read())\n"
            f"probe('list', lambda: os.listdir({str(tmp_path / 'open')!r}))\n"
            f"probe('write', lambda: open({str(tmp_path / 'open' / 'file')!r}, 'a'))\n"
            f"probe('create', lambda: open({str(tmp_path / 'open' / 'new')!r}, 'w'))\n"
            f"probe('remove', lambda: os.unlink({str(tmp_path / 'open' / 'file')!r}))\n"
            f"probe('closed', lambda: open({str(tmp_path / 'closed')!r}).read())\n"
            "probe('exec', lambda: os.execv('/bin/true', ['true']))\n"
            f"probe('connect', lambda: socket.socket().connect(('127.0.0.1', {server.getsockname()[1]})))\n"
        )
    assert (found.pop("read"), found.pop("list")) == ("DONE", "DONE")
    if version < import_sandbox._NET_SINCE:
        found.pop("connect")
    assert set(found.values()) == {errno.EACCES}


@pytest.mark.parametrize("user", ["", as_other_user()], ids=["as started", "without root"])
def test_limits_alone_stop_files_processes_and_memory(user: str, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    found = reported(
        f"os.chdir({str(tmp_path)!r})\n{user}sandbox.become_nobody()\n"
        "sandbox._lower_limits(sandbox.Limits(memory_bytes=2**26))\n"
        "def fill():\n    with open('file', 'wb', buffering=0) as file:\n        file.write(b'x')\n"
        "probe('write', fill)\n"
        "probe('fork', os.fork)\n"
        "probe('little', lambda: bytearray(2**25))\n"
        "probe('much', lambda: bytearray(2**27))\n"
        "import resource\n"
        "probe('raise', lambda: resource.setrlimit(resource.RLIMIT_AS, (2**40, 2**40)))\n"
    )
    assert found == {
        "write": errno.EFBIG,
        "fork": errno.EAGAIN,
        "little": "DONE",
        "much": "MemoryError",
        "raise": "ValueError",
    }


def test_the_filter_alone_stops_root() -> None:
    found = reported(
        "sandbox._prctl(sandbox._PR_SET_NO_NEW_PRIVS, 1)\nsandbox._filter_calls()\n"
        "probe('socket', socket.socket)\n"
        "probe('fork', os.fork)\n"
        "probe('exec', lambda: os.execv('/bin/true', ['true']))\n"
        "probe('kill', lambda: os.kill(os.getpid(), 9))\n"
        "probe('write', lambda: open('/tmp/sacd-filtered', 'w'))\n"
        "probe('both', lambda: os.open('/tmp', os.O_RDWR))\n"
        "probe('unlink', lambda: os.unlink('/tmp/sacd-filtered'))\n"
        "probe('limits', lambda: __import__('resource').getrlimit(0))\n"
        "probe('read', lambda: open('/proc/self/status').read())\n"
        "probe('compute', lambda: bytearray(2**24))\n"
    )
    assert (found.pop("read"), found.pop("compute")) == ("DONE", "DONE")
    assert set(found.values()) == {errno.EPERM}


# ---- the filter, read as the kernel reads it --------------------------------------------------------------------
ALLOW, KILL, NOT_PERMITTED = 0x7FFF0000, 0x80000000, 0x00050001


def verdict(architecture: int, column: int, seen: int, number: int, arguments: tuple[int, ...] = (0,) * 6) -> int:
    """Return what the filter says of one system call. seen: the architecture it comes from."""
    words = {0: number, 4: seen} | {16 + 8 * index: value & 0xFFFFFFFF for index, value in enumerate(arguments)}
    steps, at, loaded = list(import_sandbox._steps(architecture, column)), 0, 0
    while True:
        operation, if_true, if_false, operand = steps[at]
        at += 1
        match operation:
            case 0x20:
                loaded = words[operand]
            case 0x15:
                at += if_true if loaded == operand else if_false
            case 0x45:
                at += if_true if loaded & operand else if_false
            case 0x06:
                return operand


MACHINES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}


@pytest.mark.parametrize("machine", MACHINES)
@given(number=st.integers(0, 2**32 - 1) | st.integers(0, 500))
def test_the_filter_allows_what_is_listed_and_nothing_else(machine: str, number: int) -> None:
    architecture, column = MACHINES[machine]
    listed = {numbers[column] for numbers in (*CALLS.values(), *OPENING_CALLS.values())}
    expected = ALLOW if number in listed else NOT_PERMITTED
    assert verdict(architecture, column, architecture, number) == expected
    assert verdict(architecture, column, 0x40000003, number) == KILL  # 32-bit x86 counts its calls otherwise


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("call", OPENING_CALLS)
def test_files_open_for_reading_only(machine: str, call: str) -> None:
    architecture, column = MACHINES[machine]
    *numbers, place = OPENING_CALLS[call]
    if (number := numbers[column]) is None:
        assert (machine, call) == ("aarch64", "open")
        return
    for flags, expected in (
        (os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY, ALLOW),
        (os.O_WRONLY, NOT_PERMITTED),
        (os.O_RDWR | os.O_CLOEXEC, NOT_PERMITTED),
        (os.O_CREAT, NOT_PERMITTED),
        (os.O_TRUNC, NOT_PERMITTED),
        (os.O_TMPFILE | os.O_WRONLY, NOT_PERMITTED),
    ):
        arguments = tuple(flags if index == place else 0 for index in range(6))
        assert verdict(architecture, column, architecture, number, arguments) == expected


@pytest.mark.parametrize(
    ("column", "header"),
    [(0, "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), (1, "/usr/include/asm-generic/unistd.h")],
    ids=["x86_64", "aarch64"],
)
def test_numbers_are_those_of_the_kernels_headers(column: int, header: str) -> None:
    if not Path(header).is_file():
        pytest.skip(f"the kernel's headers are not installed: {header}")
    found = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", Path(header).read_text()))
    other = {"newfstatat": "fstatat"} if column else {}
    ours = {name: numbers[column] for name, numbers in {**CALLS, **OPENING_CALLS}.items()}
    assert {name: number for name, number in ours.items() if number is not None} == {
        name: int(found[other.get(name, name)]) for name, number in ours.items() if number is not None
    }


# ---- what cannot be done without --------------------------------------------------------------------------------
def test_a_second_thread_is_refused() -> None:
    done = threading.Event()
    other = threading.Thread(target=done.wait)
    other.start()
    try:
        with pytest.raises(CannotConfine, match="threads of a library run already"):
            confine(import_sandbox.Limits(), [])
    finally:
        done.set()
        other.join()


def test_a_machine_without_a_known_filter_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_sandbox.platform, "machine", lambda: "riscv64")
    with pytest.raises(CannotConfine, match="no system call filter is known for riscv64; x86_64 and aarch64 have one"):
        import_sandbox._filter_calls()


def test_without_landlock_what_can_be_read_is_said() -> None:
    found = reported(
        "sandbox.landlock_version = lambda: -1\nreport['held'] = sandbox.confine(sandbox.Limits(), [])\n"
        "probe('write', lambda: open('/tmp/sacd-written', 'w'))\n"
    )
    assert "files: all that this user may read can be read (this kernel has no Landlock)" in found["held"]  # type: ignore[operator]
    assert found["write"] == errno.EPERM


@needs_root
def test_a_user_who_is_not_root_and_can_read_nothing_more_loads_the_same(tmp_path: Path) -> None:
    found = reported(
        f"os.environ.update(OPENBLAS_NUM_THREADS='1', OMP_NUM_THREADS='1', MPLCONFIGDIR={str(tmp_path)!r})\n"
        "import io, numpy as np\n"
        "from training import import_child as child\n"
        "from strategy.observation import N_OBSERVATION\n"
        "child.torch.set_num_threads(1)\n"
        "child._warm_up()\n"
        "model = child.SAC('MlpPolicy', child._Still(), device='cpu', buffer_size=1, policy_kwargs={'net_arch': [4]})\n"
        "saved = io.BytesIO(); model.save(saved); saved.seek(0)\n"
        f"{as_other_user()}"
        "report['held'] = sandbox.separate() + sandbox.confine(sandbox.Limits(), [Path('/proc/meminfo')])\n"
        "about, arrays = child._load(io.BufferedReader(saved), np.zeros((3, N_OBSERVATION), np.float32))\n"
        "report['shapes'] = {name: array.shape for name, array in arrays.items()}\n"
        "probe('passwd', lambda: open('/etc/passwd').read())\n"
        "probe('socket', socket.socket)\n"
        "numpy_1 = __import__('numpy.core.multiarray', fromlist=['_reconstruct'])\n"
        "probe('numpy 1', lambda: numpy_1._reconstruct)\n"
    )
    assert found["numpy 1"] == "DONE"
    assert found["shapes"] == {
        "layer0.weight": (4, N_OBSERVATION),
        "layer0.bias": (4,),
        "layer1.weight": (3, 4),
        "layer1.bias": (3,),
        "answers": (3, 3),
    }
    assert "the user who started it, without any capability" in found["held"]  # type: ignore[operator]
    assert found["socket"] == errno.EPERM
    if import_sandbox.landlock_version() >= 1:
        assert found["passwd"] == errno.EACCES
