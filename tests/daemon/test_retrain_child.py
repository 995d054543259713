"""Real trainers that crash, hang, eat memory and leave children: each ends, with all it began, and is told in words."""

import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from daemon.clock import SystemClock
from daemon.limited import BoundedLog
from daemon.retrain_child import Ended, TrainerChild, trainer_environment
from daemon.retrain_files import RetrainRefused, is_running
from tests.fakes.clock import ManualClock
from tests.fakes.serving import ROOT

HOLDS_THE_LOCK = "import fcntl, os; fcntl.flock(os.open('lock', os.O_RDWR | os.O_CREAT), fcntl.LOCK_EX)\n"
SAYS = "import os, sys\ndef say(name, text): open(name + '~', 'w').write(str(text)); os.rename(name + '~', name)\n"
WAITS = "import time\nwhile True: time.sleep(1)\n"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of the exchange, which is also where trainers of these tests run."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def child_of(
    place: Path,
    program: str,
    *,
    seconds: float = 600.0,
    memory_mib: int = 4_096,
    grace_s: float = 10.0,
    clock: SystemClock | ManualClock | None = None,
    environ: Mapping[str, str] | None = None,
) -> TrainerChild:
    """Return a trainer that is a program of ours."""
    return TrainerChild(
        place,
        clock or SystemClock(),
        {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **(environ or {})},
        seconds=seconds,
        memory_mib=memory_mib,
        grace_s=grace_s,
        command=(sys.executable, "-c", SAYS + program),
    )


async def ended(place: Path, program: str, **limits: float) -> Ended:
    child = child_of(place, program, **limits)  # type: ignore[arg-type]
    await child.start()
    return await child.wait()


@asynccontextmanager
async def at_work(place: Path, program: str, says: str, **limits: float) -> AsyncIterator[tuple[TrainerChild, str]]:
    """A trainer that runs, and what it wrote into the file `says`; ended when the test is over."""
    child = child_of(place, program, **limits)  # type: ignore[arg-type]
    await child.start()
    try:
        yield child, await written(place / says, child)
    finally:
        await child.stop()


async def written(file: Path, child: TrainerChild | None = None) -> str:
    """Return what another process writes into `file`, once it has: it is no clock of ours that it waits for."""
    while (text := read(file)) == "":
        assert child is None or child.ended is None, (child and child.ended, log(file.parent))
        await asyncio.sleep(0.01)
    return text


def read(file: Path) -> str:
    return file.read_text("utf-8") if file.exists() else ""


async def gone(pid: int) -> None:
    """Wait until a process is dead: one of init's, or a corpse that nobody has looked at, counts as such."""
    while psutil.pid_exists(pid):
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return
        except psutil.NoSuchProcess:
            return
        await asyncio.sleep(0.01)


def names_in(place: Path) -> set[str]:
    return {path.name for path in place.iterdir()}


def log(place: Path) -> str:
    return (place / "trainer.log").read_text("utf-8")


# ---- how it ends ------------------------------------------------------------------------------------------------
async def test_a_trainer_that_does_its_work_ends_without_failure(place: Path) -> None:
    child = child_of(place, "print('candles'); print('done', file=sys.stderr)")
    await child.start()
    assert await child.wait() == Ended(reason="ended by itself", is_failure=False)
    assert child.ended == Ended(reason="ended by itself", is_failure=False)
    assert log(place) == "candles\ndone\n"


@pytest.mark.fault(58)
@pytest.mark.parametrize(
    ("program", "told"),
    [
        ("print('all is lost\\n\\n'); sys.exit(3)", "ended with exit code 3: all is lost"),
        ("sys.exit(3)", "ended with exit code 3"),
        ("raise ValueError('no\\x1b[2J candles')", "ended with exit code 1: ValueError: no [2J candles"),
        ("print('x' * 300); sys.exit(1)", f"ended with exit code 1: {'x' * 200}..."),
        ("print('http://me:pass-word@proxy'); sys.exit(1)", "ended with exit code 1: http://***@proxy"),
        ("import ctypes; ctypes.string_at(0)", "killed by signal 11 (Segmentation fault)"),
        ("os.kill(os.getpid(), 9)", "killed by signal 9: the system was out of memory, or somebody ended it"),
        (
            "os.abort()",
            "gave up by signal 6, as libraries do when it needed more than the 4096 MiB of [retrain] memory_mib",
        ),
        ("os.kill(os.getpid(), 15)", "killed by signal 15 (Terminated)"),
        ("os.execv('/none', ['none'])", "ended with exit code 1: FileNotFoundError: [Errno 2] No such file or dir"),
    ],
    ids=["code", "silent", "error", "long", "secret", "segfault", "killed", "aborted", "ended", "missing"],
)
async def test_a_trainer_that_crashes_is_a_failure_told_in_words(place: Path, program: str, told: str) -> None:
    result = await ended(place, program)
    assert result.is_failure
    assert result.reason.startswith(told)
    assert len(result.reason) < 300
    assert is_running(place) is False


@pytest.mark.fault(58)
async def test_a_trainer_that_hangs_is_ended_after_its_time(place: Path) -> None:
    result = await ended(place, WAITS, seconds=0.3)
    assert result == Ended(
        reason="ended after 0.0 h: it took longer than [retrain] limit_hours allows", is_failure=True
    )


@pytest.mark.fault(58)
async def test_a_trainer_that_is_deaf_to_the_end_of_its_time_is_killed(place: Path) -> None:
    program = "import signal; signal.signal(15, lambda *_: say('heard', 1))\nsay('pid', os.getpid())\n" + WAITS
    async with at_work(place, program, "pid", grace_s=0.3) as (child, pid):
        os.kill(psutil.Process(int(pid)).ppid(), signal.SIGALRM)  # as its time ends
        result = await child.wait()
        assert read(place / "heard") == "1"
        assert not psutil.pid_exists(int(pid))
        assert "it took longer than [retrain] limit_hours" in result.reason


@pytest.mark.fault(58)
async def test_a_trainer_that_takes_all_memory_fails_by_its_own_limit(place: Path) -> None:
    result = await ended(place, "blocks = []\nwhile True: blocks.append(bytearray(2**24))", memory_mib=256)
    assert result == Ended(
        reason="ended with exit code 1: MemoryError; it needed more than the 256 MiB of [retrain] memory_mib",
        is_failure=True,
    )


async def test_memory_that_is_only_reserved_is_not_counted(place: Path) -> None:
    # As torch does: addresses for gigabytes, of which it touches little.
    program = "import mmap; held = mmap.mmap(-1, 2**32, prot=mmap.PROT_READ); say('held', len(held))"
    assert await ended(place, program, memory_mib=256) == Ended(reason="ended by itself", is_failure=False)
    assert read(place / "held") == f"{2**32}"


@pytest.fixture(params=["small/file", "/dev/full"])
def full_disk(request: pytest.FixtureRequest, place: Path) -> Iterator[str]:
    """Where two mebibytes find no room."""
    if request.param == "small/file":
        (place / "small").mkdir()
        command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place / "small")]
        if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode:
            pytest.skip("needs the right to mount a small file system")
    yield request.param
    if request.param == "small/file":
        subprocess.run(["umount", str(place / "small")], check=True)


@pytest.mark.fault(58)
async def test_a_trainer_that_finds_the_disk_full_fails_with_the_reason(place: Path, full_disk: str) -> None:
    result = await ended(place, f"open({full_disk!r}, 'wb').write(bytes(2**21))")
    assert result.reason == "ended with exit code 1: OSError: [Errno 28] No space left on device"


async def test_a_trainer_that_cannot_be_started_is_told_with_the_reason(place: Path) -> None:
    child = TrainerChild(
        place, SystemClock(), {"PYTHONPATH": str(ROOT)}, seconds=60.0, memory_mib=512, command=("/none/such",)
    )
    await child.start()
    result = await child.wait()
    assert result.is_failure
    assert result.reason.startswith("could not be started: /none/such cannot be started within its limits: [Errno 2]")


async def test_a_log_that_cannot_be_written_is_told_with_the_reason(place: Path) -> None:
    (place / "trainer.log.1").mkdir()
    (place / "trainer.log").touch()
    result = await ended(place, "say('ran', 1)")
    assert result.reason.startswith("could not be started: daemon.limited: ")
    assert "trainer.log: cannot be written (Is a directory)" in result.reason
    assert not (place / "ran").exists()


async def test_a_trainer_whose_time_is_over_is_not_started(place: Path) -> None:
    with pytest.raises(RetrainRefused, match="the time for this retraining is over"):
        await child_of(place, "say('ran', 1)", seconds=0.0).start()


async def test_a_launcher_that_does_nothing_is_killed_with_all_it_began(place: Path) -> None:
    clock = ManualClock()
    child = child_of(place, "say('pid', os.getpid())\n" + WAITS, seconds=3_600.0, grace_s=7.0, clock=clock)
    await child.start()
    trainer = int(await written(place / "pid", child))
    launcher = psutil.Process(trainer).ppid()
    os.kill(launcher, signal.SIGSTOP)
    await clock.advance(3_600.0 + 7.0 + 4.9)
    assert child.ended is None
    await clock.advance(0.2)
    result = await child.wait()
    assert result == Ended(
        reason="killed by signal 9: the system was out of memory, or somebody ended it", is_failure=True
    )
    await gone(trainer)


# ---- all that it began ------------------------------------------------------------------------------------------
FAMILY = f"""
import subprocess
kind = sys.argv[1:] or ['plain']
inner = subprocess.Popen([sys.executable, '-c', {WAITS!r}], start_new_session=True)
worker = subprocess.Popen([sys.executable, '-c', {WAITS!r}])
if os.fork() == 0:
    if os.fork() == 0:
        os.setsid()
        say('orphan', os.getpid())
        while True: time.sleep(1)
    os._exit(0)
while not os.path.exists('orphan'): time.sleep(0.01)
say('family', f'{{os.getpid()}} {{inner.pid}} {{worker.pid}} ' + open('orphan').read())
"""
"""A trainer with a worker, one in a session of its own, and one whose parent is dead."""


@pytest.mark.fault(58)
@pytest.mark.parametrize("death", ["sys.exit(1)", "os.kill(os.getpid(), 9)"], ids=["exit", "killed"])
async def test_whatever_a_trainer_began_ends_with_it(place: Path, death: str) -> None:
    await ended(place, "import time\n" + FAMILY + death)
    pids = [int(pid) for pid in (place / "family").read_text().split()]
    assert len(pids) == 4
    assert [pid for pid in pids if psutil.pid_exists(pid)] == []


@pytest.mark.fault(58)
async def test_a_stop_ends_all_of_them_and_is_no_failure(place: Path) -> None:
    async with at_work(place, "import time\n" + FAMILY + WAITS, "family") as (child, family):
        result = await child.stop()
        assert result == Ended(reason="ended with the daemon; its request stays for the next start", is_failure=False)
        assert [pid for pid in map(int, family.split()) if psutil.pid_exists(pid)] == []
        assert await child.stop() == result


async def test_a_trainer_is_told_before_it_is_killed(place: Path) -> None:
    program = "import signal; signal.signal(15, lambda *_: (say('saved', 1), sys.exit(0)))\nsay('ready', 1)\n" + WAITS
    async with at_work(place, program, "ready") as (child, _):
        await child.stop()
        assert (place / "saved").exists()


@pytest.mark.fault(58)
async def test_a_trainer_that_ignores_the_word_is_killed(place: Path) -> None:
    program = "import signal; signal.signal(15, signal.SIG_IGN)\nsay('pid', os.getpid())\n" + WAITS
    async with at_work(place, program, "pid", grace_s=0.3) as (child, pid):
        assert (await child.stop()).is_failure is False
        assert not psutil.pid_exists(int(pid))


async def test_waiting_may_be_given_up_without_ending_the_trainer(place: Path) -> None:
    async with at_work(place, "say('pid', os.getpid())\n" + WAITS, "pid") as (child, pid):
        waiting = asyncio.create_task(child.wait())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert psutil.pid_exists(int(pid))
        assert child.ended is None


DAEMON = """
import asyncio, os, sys
from pathlib import Path
from daemon.clock import SystemClock
from daemon.retrain_child import TrainerChild

async def main():
    command = (sys.executable, '-c', sys.argv[1])
    limits = {'seconds': 600.0, 'memory_mib': 4096, 'grace_s': 0.5}
    child = TrainerChild(Path('.'), SystemClock(), os.environ, command=command, **limits)
    await child.start()
    await child.wait()

asyncio.run(main())
"""


@pytest.fixture
def daemon(place: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A daemon whose trainer has a family and ignores SIGTERM."""
    program = SAYS + HOLDS_THE_LOCK + "import signal, time; signal.signal(15, signal.SIG_IGN)\n" + FAMILY + WAITS
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", DAEMON, program], env=environ, cwd=place)
    yield process
    process.kill()
    process.wait()


@pytest.mark.fault(58)
async def test_when_the_daemon_is_killed_its_trainer_ends_with_all_it_began(
    place: Path, daemon: "subprocess.Popen[bytes]"
) -> None:
    family = [int(pid) for pid in (await written(place / "family")).split()]
    assert is_running(place)
    daemon.kill()
    daemon.wait()
    for pid in family:
        await gone(pid)
    assert not is_running(place)


@pytest.mark.fault(58)
async def test_when_daemon_and_launcher_are_killed_at_once_the_trainer_dies_too(
    place: Path, daemon: "subprocess.Popen[bytes]"
) -> None:
    family = [int(pid) for pid in (await written(place / "family")).split()]
    launcher = psutil.Process(family[0]).ppid()
    daemon.kill()
    os.kill(launcher, signal.SIGKILL)
    await gone(family[0])
    for pid in family[1:]:  # these have nobody left: ended here, not by the daemon
        os.kill(pid, signal.SIGKILL)


@pytest.mark.fault(58)
async def test_a_launcher_that_is_killed_takes_its_group_along(place: Path) -> None:
    program = "import time\n" + FAMILY + WAITS
    async with at_work(place, program, "family") as (child, family):
        trainer, outside, worker, orphan = map(int, family.split())
        os.kill(psutil.Process(trainer).ppid(), signal.SIGKILL)
        assert (await child.wait()).is_failure
        await gone(trainer)
        await gone(worker)
        for pid in (outside, orphan):  # sessions of their own, which the launcher alone could know of
            os.kill(pid, signal.SIGKILL)


@pytest.mark.fault(62)
async def test_a_second_trainer_is_refused_while_one_works(place: Path) -> None:
    async with at_work(place, HOLDS_THE_LOCK + "say('held', 1)\n" + WAITS, "held"):
        with pytest.raises(RetrainRefused, match="a retraining is under way"):
            await child_of(place, "say('ran', 1)").start()
    assert await ended(place, "say('ran', 1)") == Ended(reason="ended by itself", is_failure=False)


# ---- what it may use --------------------------------------------------------------------------------------------
STANDING = """
import json, resource
limits = {name: resource.getrlimit(getattr(resource, 'RLIMIT_' + name))[0] for name in ('DATA', 'CORE', 'NOFILE', 'AS')}
say('standing', json.dumps({
    'nice': os.getpriority(os.PRIO_PROCESS, 0), 'policy': os.sched_getscheduler(0),
    'oom': int(open('/proc/self/oom_score_adj').read()), 'limits': limits,
    'group': os.getpgid(0), 'session': os.getsid(0), 'parent': os.getppid(), 'environ': dict(os.environ),
    'stdin': os.readlink('/proc/self/fd/0'), 'open': len(os.listdir('/proc/self/fd')),
    'signals': [line for line in open('/proc/self/status') if line.startswith(('SigBlk', 'SigIgn', 'SigCgt'))],
}))
"""


@pytest.mark.fault(61)
async def test_a_trainer_stands_behind_everything_and_within_its_limits(place: Path) -> None:
    async with at_work(place, STANDING + WAITS, "standing", memory_mib=700) as (_, text):
        standing = json.loads(text)
        trainer = psutil.Process(standing["parent"]).children()[0]
        assert trainer.ionice().ioclass == psutil.IOPRIO_CLASS_IDLE
    assert (standing["nice"], standing["policy"], standing["oom"]) == (19, os.SCHED_IDLE, 500)
    most_files = min(4_096, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    limits = {"DATA": 700 * 2**20, "CORE": 0, "NOFILE": most_files, "AS": resource.getrlimit(resource.RLIMIT_AS)[0]}
    assert standing["limits"] == limits
    assert log(place) == ""  # nothing was refused


@pytest.mark.fault(61)
async def test_a_trainer_is_in_a_group_of_its_own_and_no_session(place: Path) -> None:
    # Between sessions the kernel may share the processors evenly, whatever the priorities within them.
    async with at_work(place, STANDING + WAITS, "standing") as (_, text):
        standing = json.loads(text)
        assert standing["session"] == os.getsid(0)
        assert standing["group"] == standing["parent"] != os.getpgid(0)
        assert standing["stdin"] == "/dev/null"
        assert standing["open"] == 4  # three streams, and the listing itself


async def test_a_trainer_is_not_told_of_secrets_and_services(place: Path) -> None:
    environ = {
        "HOME": "/home/me",
        "LANG": "C.UTF-8",
        "LC_TIME": "de_DE.UTF-8",
        "SACD_TRIALS": "/srv/trials.jsonl",
        "NUMBA_CACHE_DIR": "/tmp/numba",  # noqa: S108 - a name only
        "https_proxy": "http://proxy:3128",
        "OMP_NUM_THREADS": "8",
        "SACD_CREDENTIALS__APIKEY": "k",
        "SACD_CREDENTIALS__SECRET": "s",
        "SACD_DAEMON__MODE": "live",
        "CREDENTIALS_DIRECTORY": "/run/credentials",
        "NOTIFY_SOCKET": "/run/systemd/notify",
        "WATCHDOG_USEC": "60000000",
        "WATCHDOG_PID": "1",
        "AWS_SECRET_ACCESS_KEY": "a",
        "PYTHON_API_KEY": "p",
        "STATE_DIRECTORY": "/var/lib/sacd",
    }
    kept = trainer_environment(environ)
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1")
    stays = ("HOME", "LANG", "LC_TIME", "SACD_TRIALS", "NUMBA_CACHE_DIR", "https_proxy")
    assert kept == {**{name: environ[name] for name in stays}, **threads, "PYTHONUNBUFFERED": "1"}
    child = child_of(place, STANDING, environ=environ)
    await child.start()
    await child.wait()
    seen = json.loads((place / "standing").read_text())["environ"]
    assert set(seen) - {"LC_CTYPE"} == {*kept, "PATH", "PYTHONPATH"}


# ---- what it writes ---------------------------------------------------------------------------------------------
@pytest.mark.fault(58)
async def test_a_trainer_that_floods_its_log_is_not_held_up_and_fills_no_disk(place: Path) -> None:
    program = "line = 'x' * 1023\nfor i in range(20_000): print(line)\nprint('the end')"
    assert (await ended(place, program)).is_failure is False
    sizes = [(place / name).stat().st_size for name in ("trainer.log", "trainer.log.1")]
    assert all(size <= 5 * 2**20 for size in sizes)
    assert sum(sizes) > 5 * 2**20
    assert log(place).endswith("the end\n")
    assert names_in(place) == {"trainer.log", "trainer.log.1"}


async def test_each_run_begins_a_log_of_its_own_and_keeps_the_one_before(place: Path) -> None:
    for number in range(3):
        await ended(place, f"print('run {number}')")
    assert log(place) == "run 2\n"
    assert (place / "trainer.log.1").read_text() == "run 1\n"


def test_a_log_without_room_loses_lines_counts_them_and_goes_on(tmp_path: Path) -> None:
    program = (
        "import resource, sys; from pathlib import Path; from daemon.limited import BoundedLog\n"
        "log = BoundedLog(Path(sys.argv[1]))\n"
        "log.write(b'first\\n')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (6, resource.RLIM_INFINITY))\n"
        "log.write(b'second\\n'); log.write(b'third\\n')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\n"
        "log.write(b'fourth\\n')\n"
    )
    path = tmp_path / "trainer.log"
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program, str(path)], env=environ, capture_output=True, check=True)
    assert done.stderr == b""
    assert path.read_text() == "first\n13 bytes could not be written here\nfourth\n"


def test_a_log_takes_nothing_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("keep")
    (tmp_path / "trainer.log").symlink_to("precious")
    log = BoundedLog(tmp_path / "trainer.log")
    log.write(b"text")
    log.close()
    assert (tmp_path / "precious").read_text() == "keep"
    assert not (tmp_path / "trainer.log").is_symlink()


# ---- the launcher by itself -------------------------------------------------------------------------------------
def launched(*arguments: str, stdin: int | None = subprocess.PIPE) -> "subprocess.CompletedProcess[bytes]":
    command = [sys.executable, "-m", "daemon.limited", *arguments]
    return subprocess.run(command, cwd=ROOT, stdin=stdin, capture_output=True, check=False, timeout=60)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--log=x"], b"the following arguments are required: command"),
        (["--", "true"], b"required: --log"),
        (["--log=x", "--seconds=0", "--", "true"], b"0 is not above 0 and at most 100000000"),
        (["--log=x", "--grace-s=nan", "--", "true"], b"nan is not above 0"),
    ],
)
def test_the_launcher_refuses_what_it_cannot_do(arguments: list[str], told: bytes) -> None:
    done = launched(*arguments)
    assert done.returncode == 2
    assert told in done.stderr


def test_the_launcher_wants_a_pipe_that_tells_of_its_starters_end(tmp_path: Path) -> None:
    done = launched(f"--log={tmp_path / 'log'}", "--", "true", stdin=subprocess.DEVNULL)
    assert done.returncode == 125
    assert b"standard input is no pipe" in done.stderr


def test_the_launcher_loads_next_to_nothing(tmp_path: Path) -> None:
    program = "import sys, daemon.limited; print({'asyncio', 'numpy', 'structlog', 'pydantic'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, check=True)
    assert done.stdout == b"set()\n"
