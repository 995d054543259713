"""kill -9 at random moments: whatever was acknowledged is there, and the journal stays whole."""

import random
import subprocess
import sys
import time
from pathlib import Path

from daemon.journal_reader import read, tail, verify

ROOT = Path(__file__).parents[2]
KILLS = 40

# One interpreter forks a child for each round, so that a round costs milliseconds. A child prints a line for every
# acknowledged append; the parent reads them, waits a random moment and kills. Forked before any thread is started.
CHILD = """
import asyncio, os, sys
import structlog
from daemon.journal import SqliteJournal
from daemon.ports import Record

structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))

class Clock:
    def now_ms(self): return 1_600_000_000_000
    def monotonic_s(self): return 0.0

async def append_for_ever(path):
    journal = SqliteJournal.open(path, Clock())
    async def task(name):
        number = 0
        while True:
            number += 1
            filler = "x" * (number * 997 % 9000)
            records = [Record(kind="fill", payload={"task": name, "part": part, "filler": filler}) for part in range(3)]
            seq = await journal.append(records)
            os.write(1, b"%d\\n" % seq)
    await asyncio.gather(*(task(name) for name in range(3)))

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        asyncio.run(append_for_ever(sys.argv[1]))
    os.write(1, b"child %d\\n" % child)
    sys.stdin.readline()
    os.kill(child, 9)
    os.waitpid(child, 0)
    os.write(1, b"dead\\n")
"""


def test_nothing_acknowledged_is_lost_however_often_the_writer_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    moments = random.Random(20)
    parent = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    highest: list[int] = []
    try:
        for life in range(KILLS):
            acknowledged = _one_life(parent, moments.random() * 0.05, after_first=bool(life % 4))
            highest.append(max(acknowledged, default=max(highest, default=0)))
            if acknowledged:
                assert len(tail(path, 1_000_000)) >= highest[-1]
    finally:
        parent.kill()
        parent.wait()
    found = verify(path)
    assert found.is_sound, found
    assert found.entries >= highest[-1] >= 3 * KILLS // 2
    assert highest == sorted(highest)
    assert found.entries % 3 == 0
    _check_appends_are_whole(path)


def _one_life(parent: "subprocess.Popen[str]", delay_s: float, *, after_first: bool) -> list[int]:
    """Start a child, kill it a moment after its start or its first append; return every seq it was told is on disk."""
    assert parent.stdin is not None
    assert parent.stdout is not None
    seqs = []
    parent.stdin.write("start\n")
    parent.stdin.flush()
    while after_first and not seqs:
        seqs += _seqs(parent.stdout.readline())
    time.sleep(delay_s)  # the moment of death is what is tested: real time, there is no clock to fake
    parent.stdin.write("kill\n")
    parent.stdin.flush()
    while (line := parent.stdout.readline()) != "dead\n":
        seqs += _seqs(line)
    return seqs


def _seqs(line: str) -> list[int]:
    assert line, "the parent of the children died"
    return [] if line.startswith("child") else [int(line)]


def _check_appends_are_whole(path: Path) -> None:
    """Each append was three parts in a row: a part without its others would be half a decision."""
    parts = [(entry.payload["task"], entry.payload["part"]) for entry in read(path)]
    for first in range(0, len(parts), 3):
        task = parts[first][0]
        assert parts[first : first + 3] == [(task, 0), (task, 1), (task, 2)]
