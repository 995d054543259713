import fcntl
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from daemon.retrain_files import is_running
from tests.training.runs import ROOT
from tests.training.test_retrain_request import VALUES
from training.errors import TrainingError
from training.retrain_exchange import Exchange, Result

ID, OTHER = "ffffffffffffffff", "0123456789abcdef"
KEPT = Result(request=ID, outcome="kept", reason="refused by the gate", candidate="", report={"trials": 3})


def ask(path: Path, **changes: Any) -> Path:
    path.mkdir(exist_ok=True)
    place = path / "request.json"
    place.write_text(json.dumps({**VALUES, **changes}))
    return place


def left(path: Path) -> list[str]:
    """Return every file below `path`, but for the lock."""
    files = (file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
    return sorted(file for file in files if file != "lock")


def read(path: Path) -> Any:
    return json.loads(path.read_text())


# ---- the request ------------------------------------------------------------------------------------------------
def test_a_request_is_taken_away_and_its_answer_put_there_with_nothing_else_left(tmp_path: Path) -> None:
    ask(tmp_path)
    with Exchange(tmp_path) as exchange:
        request = exchange.claim()
        assert request is not None
        assert request.request == ID
        assert left(tmp_path) == [f"work/{ID}/request.json"]
        (exchange.folder(ID) / "run").mkdir()
        (exchange.folder(ID) / "run" / "checkpoint").write_bytes(b"1" * 1000)
        exchange.progress("gate", 1, 2, "half of it")
        exchange.finish(KEPT)
    assert left(tmp_path) == ["result.json", f"work/{ID}/report.json"]
    told = {"format": 1, "request": ID, "outcome": "kept", "candidate": "", "reason": "refused by the gate"}
    assert read(tmp_path / "result.json") == {**told, "report": {"trials": 3}}
    assert read(tmp_path / "work" / ID / "report.json") == read(tmp_path / "result.json")


def test_without_a_request_nothing_is_asked_for(tmp_path: Path) -> None:
    with Exchange(tmp_path) as exchange:
        assert exchange.claim() is None


def test_two_trainers_never_work_in_one_directory(tmp_path: Path) -> None:
    with Exchange(tmp_path):
        assert is_running(tmp_path)  # as the daemon sees it
        with pytest.raises(TrainingError, match=f"process {os.getpid()} trains here already: wait"):
            Exchange(tmp_path)
    assert not is_running(tmp_path)
    Exchange(tmp_path).__exit__(None, None, None)


def test_a_daemon_that_looks_whether_anybody_works_there_keeps_nobody_out(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    looking = threading.Timer(0.15, os.close, [descriptor])
    looking.start()
    with Exchange(tmp_path) as exchange:
        assert exchange.claim() is None
    looking.join()
    assert not is_running(tmp_path)


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="none: there is no such directory"):
        Exchange(tmp_path / "none")


def test_what_a_killed_trainer_claimed_is_found_again_with_its_work(tmp_path: Path) -> None:
    ask(tmp_path)
    with Exchange(tmp_path) as exchange:
        exchange.claim()
        (exchange.folder(ID) / "candles.json").write_text("{}")
    with Exchange(tmp_path) as exchange:
        request = exchange.claim()
        assert request is not None
        assert (exchange.folder(ID) / "candles.json").exists()


def test_the_same_request_asked_again_goes_on_and_the_newer_words_count(tmp_path: Path) -> None:
    ask(tmp_path)
    with Exchange(tmp_path) as exchange:
        exchange.claim()
        (exchange.folder(ID) / "candles.json").write_text("{}")
    ask(tmp_path, deadline_ms=VALUES["deadline_ms"] + 1)
    with Exchange(tmp_path) as exchange:
        request = exchange.claim()
        assert request is not None
        assert request.deadline_ms == VALUES["deadline_ms"] + 1
        assert left(tmp_path) == [f"work/{ID}/candles.json", f"work/{ID}/request.json"]


def test_another_request_ends_what_was_begun_and_reports_stay(tmp_path: Path) -> None:
    ask(tmp_path, request=OTHER)
    with Exchange(tmp_path) as exchange:
        exchange.claim()
        (exchange.folder(OTHER) / "run").mkdir()
        (exchange.folder(OTHER) / "run" / "checkpoint").write_bytes(b"1")
    (tmp_path / "work" / "1111111111111111").mkdir()
    (tmp_path / "work" / "1111111111111111" / "report.json").write_text("{}")
    ask(tmp_path)
    with Exchange(tmp_path) as exchange:
        exchange.claim()
    assert left(tmp_path) == ["work/1111111111111111/report.json", f"work/{ID}/request.json"]
    assert not (tmp_path / "work" / OTHER).exists()


def test_of_several_left_the_newest_is_asked_for(tmp_path: Path) -> None:
    for request, at_ms in ((OTHER, 5), (ID, 6)):
        (tmp_path / "work" / request).mkdir(parents=True)
        ask(tmp_path, request=request, at_ms=at_ms).rename(tmp_path / "work" / request / "request.json")
    with Exchange(tmp_path) as exchange:
        request = exchange.claim()
    assert request is not None
    assert request.request == ID
    assert left(tmp_path) == [f"work/{ID}/request.json"]


def test_who_is_told_to_end_puts_the_request_back(tmp_path: Path) -> None:
    place = ask(tmp_path)
    with Exchange(tmp_path) as exchange:
        request = exchange.claim()
        assert request is not None
        exchange.progress("training", 1, 2, "member 1 of 1")
        (exchange.folder(ID) / "candles.json").write_text("{}")
        exchange.put_back(request)
    assert left(tmp_path) == ["request.json", f"work/{ID}/candles.json"]
    assert read(place) == VALUES


@pytest.mark.parametrize("text", ["[", json.dumps({**VALUES, "request": 5})])
def test_a_request_that_cannot_be_understood_is_put_aside(tmp_path: Path, text: str) -> None:
    (tmp_path / "request.json").write_text(text)
    with Exchange(tmp_path) as exchange:
        with pytest.raises(TrainingError, match=r"request\.json: "):
            exchange.claim()
        assert exchange.claim() is None
    assert left(tmp_path) == ["request.refused.json"]


def test_whose_request_cannot_be_understood_is_told_so(tmp_path: Path) -> None:
    ask(tmp_path, holdout_days="many")
    with Exchange(tmp_path) as exchange, pytest.raises(TrainingError, match="holdout_days 'many' is not a number"):
        exchange.claim()
    told = read(tmp_path / "result.json")
    assert (told["request"], told["outcome"]) == (ID, "failed")
    assert "holdout_days 'many' is not a number" in told["reason"]


# ---- what is told -----------------------------------------------------------------------------------------------
def test_progress_is_told_now_and_then_and_always_where_that_matters(tmp_path: Path) -> None:
    now = [100.0]
    with Exchange(tmp_path, now_s=lambda: now[0]) as exchange:
        exchange.progress("training", 1, 9, "first")
        exchange.progress("training", 2, 9, "too soon")
        assert read(tmp_path / "progress.json") == {"stage": "training", "done": 1, "of": 9, "words": "first"}
        now[0] += 2.0
        exchange.progress("training", 3, 9, "later")
        assert read(tmp_path / "progress.json")["done"] == 3
        exchange.progress("gate", 0, 4, "now", always=True)
        assert read(tmp_path / "progress.json")["stage"] == "gate"


def test_after_a_failure_the_room_is_given_back_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(tmp_path)
    with Exchange(tmp_path) as exchange:
        exchange.claim()
        big = exchange.folder(ID) / "run" / "checkpoint"
        big.parent.mkdir()
        big.write_bytes(b"1" * 1000)
        seen: list[bool] = []
        original = os.fsync

        def watching(descriptor: int) -> None:
            seen.append(big.exists())
            original(descriptor)

        monkeypatch.setattr(os, "fsync", watching)
        exchange.finish(Result(request=ID, outcome="failed", reason="full disk", candidate="", report={}))
    assert seen
    assert not any(seen)
    assert read(tmp_path / "result.json")["outcome"] == "failed"


def test_an_answer_that_cannot_be_written_leaves_the_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(tmp_path)
    with Exchange(tmp_path) as exchange:
        exchange.claim()

        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(TrainingError, match="No space left on device"):
                exchange.finish(KEPT)
    assert left(tmp_path) == [f"work/{ID}/request.json"]
    with Exchange(tmp_path) as exchange:
        assert exchange.claim() is not None


def test_a_report_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    ask(tmp_path)
    with Exchange(tmp_path) as exchange:
        request = exchange.claim()
        assert request is not None
        (exchange.folder(ID) / "report.json").write_text("{")
        with pytest.raises(TrainingError, match=r"report\.json: it cannot be read .*: remove it"):
            exchange.answered(request)


# ---- killed anywhere --------------------------------------------------------------------------------------------
PROGRAM = """
import os, shutil, signal, sys
from pathlib import Path
from training.retrain_exchange import Exchange, Result
EVENTS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "os.listdir", "os.scandir"}
asked, root = Path(sys.argv[1]), Path(sys.argv[2])
def dying(step, watched):
    left = [step]
    def count():
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(lambda event, args: count() if event in EVENTS and watched in str(args[0]) else None)
    original = os.fsync
    os.fsync = lambda descriptor: (count(), original(descriptor))
for step in range(1, 1000):
    place = root / f"exchange-{step}"
    shutil.copytree(asked, place)
    child = os.fork()
    if not child:
        dying(step, str(place))
        with Exchange(place) as exchange:
            request = exchange.claim()
            work = exchange.folder(request.request) / "run"
            work.mkdir()
            (work / "checkpoint").write_bytes(b"1" * 1000)
            exchange.finish(Result(
                request=request.request, outcome="kept", reason="refused by the gate", candidate="",
                report={"trials": 3}))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if status == 0:
        break
print(step)
"""


def test_killed_at_any_file_operation_the_request_is_answered_once_and_whole_by_the_next(tmp_path: Path) -> None:
    ask(tmp_path / "asked")
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "asked"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, timeout=120)
    steps = int(done.stdout)
    assert steps > 20
    states = set()
    for step in range(1, steps):  # the last one was not killed
        place = tmp_path / f"exchange-{step}"
        was_told = (place / "result.json").exists()
        if was_told:
            assert read(place / "result.json") == KEPT.to_json()
        with Exchange(place) as exchange:
            request = exchange.claim()
            states.add((was_told, request is not None))
            if request is None:
                assert was_told
            elif (told := exchange.answered(request)) is not None:
                assert told == KEPT.to_json()
                exchange.publish(request.request, told)
            else:
                assert not was_told
                shutil.rmtree(exchange.folder(ID) / "run", ignore_errors=True)
                exchange.finish(KEPT)
        assert left(place) == ["result.json", f"work/{ID}/report.json"]
        assert read(place / "result.json") == KEPT.to_json()
    assert states == {(False, True), (True, True), (True, False)}
