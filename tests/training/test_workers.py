import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.training import tasks
from tests.training.tasks import task
from training.workers import End, LocalPool, Outcome, Task, perform, stopped_by_signals

ROOT = Path(__file__).parents[2]


def ran(pool: LocalPool, *work: Task, shared: Any = None) -> tuple[dict[int, Outcome], list[tuple[int, Any]]]:
    told: list[tuple[int, Any]] = []
    outcomes = {outcome.index: outcome for outcome in pool.run(work, shared, lambda *word: told.append(word))}
    return outcomes, told


def test_every_task_returns_its_value_whatever_the_number_of_workers(tmp_path: Path) -> None:
    work = [task(tasks.echo, tmp_path / str(index), index) for index in range(3)]
    for workers in (1, 2):
        outcomes, told = ran(LocalPool(workers), *work, shared="all")
        assert {i: outcome.value for i, outcome in outcomes.items()} == {
            i: {"shared": "all", "argument": i} for i in range(3)
        }
        assert {outcome.end for outcome in outcomes.values()} == {End.DONE}
        assert [[word for at, word in told if at == index] for index in range(3)] == [[0, 1, 2]] * 3


def test_a_task_has_a_process_of_its_own_with_one_thread_and_the_lowest_priority(tmp_path: Path) -> None:
    before = dict(os.environ)
    outcomes, _ = ran(LocalPool(2), *(task(tasks.about_the_process, tmp_path / name) for name in "ab"))
    seen = [outcomes[index].value for index in (0, 1)]
    assert len({os.getpid(), *(process["pid"] for process in seen)}) == 3
    assert [process["priority"] for process in seen] == [19, 19]
    assert [set(process["threads"].values()) for process in seen] == [{"1"}, {"1"}]
    assert dict(os.environ) == before
    assert (tmp_path / "a" / "made").exists()


@pytest.mark.parametrize(
    ("run", "argument", "end", "reason"),
    [
        (tasks.refuse, None, End.FAILED, "the candles are sour: give others"),
        (tasks.blunder, None, End.FAILED, "ZeroDivisionError: nobody foresaw this (where: error.txt in its folder)"),
        (
            tasks.run_out_of_memory,
            None,
            End.FAILED,
            "not enough memory (8 GiB): run fewer workers, or a smaller buffer",
        ),
        (
            tasks.die,
            signal.SIGKILL,
            End.DIED,
            "its process was killed by SIGKILL: perhaps the memory ran out; run fewer workers",
        ),
        (tasks.die, signal.SIGSEGV, End.DIED, "its process was killed by SIGSEGV"),
        (tasks.leave, 3, End.DIED, "its process ended without a result (exit code 3)"),
    ],
    ids=["refusal", "blunder", "memory", "SIGKILL", "SIGSEGV", "exit"],
)
def test_a_task_that_fails_is_told_in_words_and_the_others_finish(
    tmp_path: Path, run: Callable[..., Any], argument: Any, end: End, reason: str
) -> None:
    outcomes, _ = ran(LocalPool(2), task(run, tmp_path / "bad", argument), task(tasks.echo, tmp_path / "good", 7))
    assert (outcomes[0].end, outcomes[0].reason, outcomes[0].value) == (end, reason, None)
    assert outcomes[1].value == {"shared": None, "argument": 7}


def test_a_value_that_cannot_travel_is_told_in_words(tmp_path: Path) -> None:
    outcomes, _ = ran(LocalPool(1), task(tasks.unpicklable, tmp_path / "a"))
    assert outcomes[0].end is End.FAILED
    assert "result cannot be handed over" in outcomes[0].reason


def test_the_traceback_of_what_nobody_foresaw_is_kept_in_the_folder(tmp_path: Path) -> None:
    class Link:
        folder = tmp_path

        def tell(self, told: Any) -> None:
            raise AssertionError

        def should_stop(self) -> bool:
            return False

    assert perform(task(tasks.blunder, tmp_path), None, Link()).end is End.FAILED
    kept = (tmp_path / "error.txt").read_text()
    assert "in blunder" in kept
    assert kept.endswith("ZeroDivisionError: nobody foresaw this\n")


def test_stopping_lets_begun_tasks_save_and_the_rest_never_begin(tmp_path: Path) -> None:
    pool = LocalPool(1)
    work = [task(tasks.until_stopped, tmp_path / "a"), task(tasks.count_up, tmp_path / "b")]
    outcomes = {outcome.index: outcome for outcome in pool.run(work, None, lambda *_: pool.stop())}
    assert {i: (o.end, o.reason) for i, o in outcomes.items()} == {
        0: (End.STOPPED, "saved"),
        1: (End.STOPPED, "it had not begun"),
    }
    assert (tmp_path / "a" / "saved").exists()
    assert list((tmp_path / "b").iterdir()) == []


def test_a_pool_that_was_stopped_before_it_began_does_nothing(tmp_path: Path) -> None:
    pool = LocalPool(1)
    pool.stop()
    outcomes, told = ran(pool, task(tasks.count_up, tmp_path / "a"))
    assert outcomes[0].end is End.STOPPED
    assert told == []


def test_leaving_early_ends_every_process(tmp_path: Path) -> None:
    before = {child.pid for child in psutil.Process().children()}
    begun = pool_children = None
    runs = LocalPool(2).run(
        [task(tasks.until_stopped, tmp_path / "a"), task(tasks.echo, tmp_path / "b")], None, lambda *_: None
    )
    begun = next(runs)
    pool_children = {child.pid for child in psutil.Process().children()} - before
    assert begun.index == 1
    assert pool_children
    runs.close()  # type: ignore[attr-defined]  # it is a generator
    left = {child.pid for child in psutil.Process().children()} & pool_children
    # Python's resource tracker stays for the next pool.
    assert [psutil.Process(pid).cmdline()[-1] for pid in left if "resource_tracker" not in _line(pid)] == []


def _line(pid: int) -> str:
    return " ".join(psutil.Process(pid).cmdline())


KILLED = """
import sys
from pathlib import Path
from tests.training import tasks
from training.workers import LocalPool
if __name__ == "__main__":
    work = [tasks.task(tasks.until_stopped, Path(sys.argv[1]))]
    for _ in LocalPool(1).run(work, None, lambda *_: print("begun", flush=True)):
        pass
"""


def test_a_task_whose_starter_was_killed_saves_and_ends(tmp_path: Path) -> None:
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    with subprocess.Popen(
        [sys.executable, script, tmp_path / "a"], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}
    ) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == b"begun\n"
        starter.kill()
    saved = tmp_path / "a" / "saved"
    until_s = time.monotonic() + 30
    while not (saved.exists() and saved.read_text()) and time.monotonic() < until_s:
        time.sleep(0.02)
    pid = int(saved.read_text())
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" and time.monotonic() < until_s:
        time.sleep(0.02)
    assert time.monotonic() < until_s


def test_the_first_signal_stops_and_the_second_ends_at_once() -> None:
    stopped: list[bool] = []
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with stopped_by_signals(lambda: stopped.append(True)):
        signal.raise_signal(signal.SIGTERM)
        assert stopped == [True]
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert stopped == [True]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_ctrl_c_at_the_terminal_reaches_only_the_starter(tmp_path: Path) -> None:
    """The terminal signals the whole process group: were tasks to hear it, they would die instead of saving."""
    pool = LocalPool(1)
    group = os.getpgid(0)
    work = [task(tasks.until_stopped, tmp_path / "a")]

    def told(*_: Any) -> None:
        for child in psutil.Process().children():
            if os.getpgid(child.pid) == group:
                child.send_signal(signal.SIGINT)
                child.send_signal(signal.SIGTERM)
        pool.stop()

    [outcome] = pool.run(work, None, told)
    assert (outcome.end, outcome.reason) == (End.STOPPED, "saved")


INTERRUPTED = """
import sys
from pathlib import Path
from tests.training import tasks
from training.workers import LocalPool, stopped_by_signals
if __name__ == "__main__":
    pool = LocalPool(1)
    with stopped_by_signals(pool.stop):
        work = [tasks.task(tasks.until_stopped, Path(sys.argv[1]))]
        for outcome in pool.run(work, None, lambda *_: print("begun", flush=True)):
            print(outcome.end.value, outcome.reason)
"""


def test_ctrl_c_does_not_reach_the_very_first_task_of_a_process_either(tmp_path: Path) -> None:
    """With the first child Python starts its resource tracker, and unblocks the signals that we had blocked."""
    script = tmp_path / "interrupted.py"
    script.write_text(INTERRUPTED)
    with subprocess.Popen(
        [sys.executable, script, tmp_path / "a"],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True,
    ) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == b"begun\n"
        os.killpg(starter.pid, signal.SIGINT)
        assert starter.stdout.read() == b"stopped saved\n"
