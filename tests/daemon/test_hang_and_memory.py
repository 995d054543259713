"""A loop that hangs, memory that runs out, memory that grows (rows 46 and 47), in a daemon on paper."""

import json
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from daemon import journal_reader
from daemon.replay import replay
from tests.daemon.programs import SACD, Running, sacd
from tests.fakes.serving import Place, make_place

_PLANTED = """
import sys, time, resource
from daemon.engine import Engine
carry, count = Engine._on_candles, 0
async def planted(self, group):
    global count
    count += 1
{plant}
    return await carry(self, group)
Engine._on_candles = planted
from daemon.__main__ import main
main()
"""
_BLOCKS = """
    if count == 5:
        time.sleep(1.5)
    if count == 10:
        time.sleep(120)
"""
_FREEZES = """
import os, sys, time
from daemon import journal, vitals
vitals.STEP_S = 2.0
commit = journal.SqliteJournal._commit
def freeze(self, group):
    while os.path.exists("freeze") and {where}:
        time.sleep(0.1)
    return commit(self, group)
journal.SqliteJournal._commit = freeze
from daemon.__main__ import main
main()
"""
_EATS = """
    if count == 5:
        resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
        eaten = []
        while True:
            eaten.append(bytearray(1 << 28))
"""


def _planted(place: Place, plant: str, **environ: str) -> Running:
    return Running(place.config, command=[SACD[0], "-c", _PLANTED.format(plant=plant), "run"], **environ)


class Manager:
    """What systemd hears, and what it does about silence."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))

    def hear(self, timeout_s: float) -> str:
        """Return the next message, "" when none comes in time."""
        self._socket.settimeout(timeout_s)
        try:
            return self._socket.recv(4_096).decode()
        except TimeoutError:
            return ""

    def close(self) -> None:
        self._socket.close()


@contextmanager
def listening(place: Place) -> Iterator[Manager]:
    manager = Manager(place.root / "notify")
    try:
        yield manager
    finally:
        manager.close()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = make_place(tmp_path)
    made.configure(market={"candles_per_second": 20.0})
    return made


@pytest.mark.fault(46)
def test_a_loop_that_hangs_is_told_then_left_unfed_aborted_with_a_dump_and_continued(place: Place) -> None:
    with (
        listening(place) as manager,
        _planted(place, _BLOCKS, NOTIFY_SOCKET=str(place.root / "notify"), WATCHDOG_USEC=str(2_000_000)) as running,
    ):
        blocked = running.wait_for("loop_blocked")
        assert 1.0 <= blocked["seconds"] <= 3.0
        heard = []
        while (message := manager.hear(2.0)) or "WATCHDOG=1" not in heard:  # as systemd waits
            heard.append(message)
        code, _, said = running.signal(signal.SIGABRT)
    assert code == -signal.SIGABRT
    assert any(message.startswith("READY=1") for message in heard)
    assert "Fatal Python error: Aborted" in said
    assert "in planted" in said, "the dump names where the loop hung"
    assert journal_reader.verify(place.journal()).is_sound
    _goes_on(place)


@pytest.mark.fault(46)
@pytest.mark.parametrize(
    ("freeze", "said"),
    [
        (_FREEZES.format(where="any(append.records for append in group)"), "the decision loop has been at one step"),
        (_FREEZES.format(where="not any(append.records for append in group)"), "the journal has not answered"),
    ],
    ids=["in a commit", "between commits"],
)
def test_a_journal_that_freezes_starves_the_watchdog_of_a_daemon_whose_loop_goes_on(
    place: Place, freeze: str, said: str
) -> None:
    place.configure(market={"candles_per_second": 1.0})
    with (
        listening(place) as manager,
        Running(
            place.config,
            command=[SACD[0], "-c", freeze, "run"],
            NOTIFY_SOCKET=str(place.root / "notify"),
            WATCHDOG_USEC=str(1_000_000),
        ) as running,
    ):
        running.wait_for("candle", 1)
        while "WATCHDOG=1" not in manager.hear(10.0):
            pass
        (place.root / "freeze").touch()
        end_s = time.monotonic() + 60.0
        while manager.hear(5.0):
            assert time.monotonic() < end_s, "it is still fed"
        asked = sacd("status", "--json", cwd=place.root)  # by a loop that lives
        health = json.loads(asked.stdout)["health"]
        assert health["alive"] is False
        assert any(reason.startswith(said) for reason in health["reasons"]), health
        assert running.process.poll() is None


@pytest.mark.fault(47)
def test_memory_that_runs_out_ends_the_daemon_and_the_next_one_goes_on(place: Place) -> None:
    with _planted(place, _EATS) as running:
        code, said = running.end()
    assert code == 1
    assert "failed unexpectedly: MemoryError" in said
    assert journal_reader.verify(place.journal()).is_sound
    _goes_on(place)


@pytest.mark.fault(47)
def test_twenty_thousand_entries_leave_memory_files_and_threads_where_they_were(place: Place) -> None:
    place.configure(market={"candles_per_second": 0.0})
    with Running(place.config) as running:
        process, path = psutil.Process(running.process.pid), place.journal()
        running.wait_for("candle", 500)
        before, files, threads = process.memory_info().rss, process.num_fds(), process.num_threads()
        begun = journal_reader.tail(path, 1)[0].seq
        while journal_reader.tail(path, 1)[0].seq < begun + 20_000:
            assert running.process.poll() is None, running.raw[-5:]
            time.sleep(0.2)
        grown = process.memory_info().rss - before
        more_files, more_threads = process.num_fds() - files, process.num_threads() - threads
        assert running.signal(signal.SIGTERM)[0] == 0
    assert grown < 8 << 20, f"{grown / 2**20:.1f} MiB more after 20,000 entries"
    assert more_files <= 4, "a copy of the journal may be under way"
    assert more_threads <= 2
    assert replay(path, place.root / "models").differ == 0


def _goes_on(place: Place) -> None:
    """A new life continues the account, and every decision comes out again."""
    before = journal_reader.tail(place.journal(), 1)[0].seq
    with Running(place.config) as running:
        assert running.wait_for("started")["resumed"] is True
        running.wait_for("candle", 5)
        assert running.signal(signal.SIGTERM)[0] == 0
    assert journal_reader.tail(place.journal(), 1)[0].seq > before
    assert replay(place.journal(), place.root / "models").differ == 0
