"""What daemon and trainer say to each other: whole or not at all, and nothing of the trainer's is believed unread."""

import fcntl
import itertools
import json
import os
import resource
import signal
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daemon.errors import ArtifactError
from daemon.model_life import Outcome, RetrainBy
from daemon.retrain_files import (
    RetrainRefused,
    RetrainRequest,
    clear_result,
    is_running,
    read_progress,
    read_result,
    refuse_second,
    waiting_request,
    withdraw_request,
    write_request,
)
from daemon.retrain_result import Progress, RetrainResult
from tests.crash.file_operations import Moment, Operation, end_at_unseen_changes, nothing, watched
from tests.crash.forking import fork
from training.retrain_exchange import Exchange, Result
from training.retrain_request import read_request

UNSEEN = 71
ASKED = RetrainRequest(
    request="00112233445566aa",
    at_ms=1_700_000_000_000,
    by=RetrainBy.SCHEDULE,
    registry=Path("/srv/models"),
    incumbent="c5a531e4ebf4bb31",
    journal=Path("/srv/var/paper-file.sqlite"),
    exchange="binance",
    timeframe="1h",
    symbols=("BTC/USDT", "ETH/USDT"),
    data={"BTC/USDT": Path("/srv/btc.csv")},
    fetch=True,
    workers=2,
    steps=40_000,
    deadline_ms=1_700_021_600_000,
    memory_mib=4_096,
    holdout_days=90.0,
    gate_confidence=0.8,
    max_drawdown=0.15,
)
WRITTEN: dict[str, Any] = {
    "format": 1,
    "request": "00112233445566aa",
    "at_ms": 1_700_000_000_000,
    "by": "schedule",
    "registry": "/srv/models",
    "incumbent": "c5a531e4ebf4bb31",
    "journal": "/srv/var/paper-file.sqlite",
    "exchange": "binance",
    "timeframe": "1h",
    "symbols": ["BTC/USDT", "ETH/USDT"],
    "data": {"BTC/USDT": "/srv/btc.csv"},
    "fetch": True,
    "workers": 2,
    "steps": 40_000,
    "deadline_ms": 1_700_021_600_000,
    "memory_mib": 4_096,
    "holdout_days": 90.0,
    "gate_confidence": 0.8,
    "max_drawdown": 0.15,
}
REPORT: dict[str, Any] = {
    "data": {
        "symbols": ["BTC/USDT"],
        "start_ms": 1_500_000_000_000,
        "end_ms": 1_700_000_000_000,
        "holdout_from_ms": 1_690_000_000_000,
        "files": [{"name": "btc.csv", "sha256": "ab" * 32}],
        "days_unseen": 115.7,
    },
    "gate": [{"name": "better", "value": 0.91, "threshold": 0.8, "passed": True, "words": "91 % sure"}],
    "difference": {"mean_bp": 0.4, "spread": 0.0021, "per": "decision", "count": 90},
    "trials": 3,
    "seconds": 812.5,
    "members": 5,
}
ANSWER: dict[str, Any] = {
    "format": 1,
    "request": "00112233445566aa",
    "outcome": "candidate",
    "candidate": "feedfacefeedface",
    "reason": "it passed",
    "report": REPORT,
}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The directory of the exchange, made as the first request makes it."""
    directory = tmp_path / "var" / "retrain"
    directory.mkdir(parents=True, mode=0o700)
    return directory


def answer(place: Path, changes: Any = None, name: str = "result.json") -> Path:
    """Leave an answer, changed at paths such as ("report", "trials"); a change of ... removes the key."""
    values = json.loads(json.dumps(ANSWER))
    for path, value in (changes or {}).items():
        inner = values
        for key in path[:-1]:
            inner = inner[key]
        if value is ...:
            del inner[path[-1]]
        else:
            inner[path[-1]] = value
    (place / name).write_text(json.dumps(values), "utf-8")
    return place / name


# ---- the request ------------------------------------------------------------------------------------------------
def test_a_request_stands_in_the_file_as_it_is_documented(place: Path) -> None:
    write_request(place, ASKED)
    assert json.loads((place / "request.json").read_text("utf-8")) == WRITTEN
    assert waiting_request(place) == "00112233445566aa"


def test_a_request_is_for_its_owner_alone_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    directory = tmp_path / "new" / "retrain"
    write_request(directory, ASKED)
    assert stat.S_IMODE((directory / "request.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {path.name for path in directory.iterdir()} == {"request.json", "lock"}


def test_a_directory_that_others_could_read_is_closed(place: Path) -> None:
    place.chmod(0o755)
    write_request(place, ASKED)
    assert stat.S_IMODE(place.stat().st_mode) == 0o700


def test_a_second_request_is_refused_and_the_first_stays(place: Path) -> None:
    write_request(place, ASKED)
    with pytest.raises(RetrainRefused, match=r"request\.json: a request waits there already: wait until it is answ"):
        write_request(place, replace(ASKED, request="f" * 16))
    assert waiting_request(place) == ASKED.request


def test_a_withdrawn_request_is_gone_and_another_may_come(place: Path) -> None:
    withdraw_request(place)
    write_request(place, ASKED)
    withdraw_request(place)
    assert waiting_request(place) is None
    write_request(place, replace(ASKED, request="f" * 16))
    assert waiting_request(place) == "f" * 16


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"request": "today"}, "request 'today' is not 16 hexadecimal digits"),
        ({"request": "0" * 15 + "\n"}, "is not 16 hexadecimal digits"),
        ({"incumbent": ""}, "incumbent '' is not 16 hexadecimal digits"),
        ({"registry": Path("models")}, "models is no absolute path, and the trainer may run elsewhere"),
        ({"journal": Path("var/j.sqlite")}, "is no absolute path"),
        ({"data": {"BTC/USDT": Path("btc.csv")}}, "btc.csv is no absolute path"),
        ({"deadline_ms": ASKED.at_ms}, "deadline 1700000000000 is not after 1700000000000"),
    ],
)
def test_a_request_that_makes_no_sense_cannot_be_made(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        replace(ASKED, **changes)


@pytest.mark.parametrize(
    ("text", "told"),
    [("{", "is no JSON"), ("[]", "holds no object"), ('{"request": 5}', "'5' is not 16"), ("{}", "'None' is not 16")],
)
def test_a_waiting_request_that_cannot_be_read_is_told(place: Path, text: str, told: str) -> None:
    (place / "request.json").write_text(text, "utf-8")
    with pytest.raises(ArtifactError, match=rf"request\.json: .*{told}.*remove the file"):
        waiting_request(place)


def test_a_disk_that_takes_no_request_is_told_and_no_trainer_finds_one(place: Path) -> None:
    def child() -> int:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
        try:
            write_request(place, ASKED)
        except RetrainRefused as error:
            return 0 if "cannot be written (File too large): make room there" in str(error) else 3
        return 4

    assert ended(fork(child)) == 0
    assert waiting_request(place) is None
    write_request(place, ASKED)
    assert waiting_request(place) == ASKED.request


# ---- who works --------------------------------------------------------------------------------------------------
def ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@contextmanager
def working(place: Path, *, leaves_a_child: bool = False) -> Iterator[int]:
    """A process that holds the lock as a trainer does, until it is killed; yields its process id."""
    ready, done = os.pipe()

    def train() -> int:
        descriptor = os.open(place / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        if leaves_a_child and (left := os.fork()):
            os.write(done, f"{left}\n".encode())
            return 0
        if not leaves_a_child:
            os.write(done, f"{os.getpid()}\n".encode())
        signal.pause()
        return 1

    child = fork(train)
    working_one = int(os.read(ready, 32))
    if leaves_a_child:
        assert ended(child) == 0
    try:
        yield working_one
    finally:
        os.kill(working_one, signal.SIGKILL)
        if not leaves_a_child:
            os.waitpid(child, 0)
        os.close(ready)
        os.close(done)


def test_nobody_works_where_nobody_ever_did(tmp_path: Path) -> None:
    assert is_running(tmp_path / "nowhere") is False
    refuse_second(tmp_path / "nowhere")


@pytest.mark.fault(62)
def test_while_a_trainer_works_a_request_and_a_second_trainer_are_refused(place: Path) -> None:
    with working(place) as trainer:
        assert is_running(place) is True
        for attempt in (lambda: write_request(place, ASKED), lambda: refuse_second(place)):
            with pytest.raises(RetrainRefused, match=f"is under way .process {trainer}.: wait until it has ended"):
                attempt()
        assert not (place / "request.json").exists()
    assert is_running(place) is False
    write_request(place, ASKED)


def test_what_a_trainer_left_behind_counts_as_one_at_work(place: Path) -> None:
    with working(place, leaves_a_child=True):
        assert is_running(place) is True
        with pytest.raises(RetrainRefused, match="is under way"):
            write_request(place, ASKED)


def test_looking_whether_somebody_works_keeps_nobody_out(place: Path) -> None:
    write_request(place, ASKED)
    assert is_running(place) is False
    with working(place):
        assert is_running(place) is True


# ---- killed anywhere --------------------------------------------------------------------------------------------
def dying(moment: int) -> Moment:
    def at(index: int, _operation: Operation) -> None:
        if index == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    return at


def operations(action: Callable[[], object]) -> list[Operation]:
    with watched() as made:
        action()
    return made


def deaths(prepare: Callable[[int], Path], action: Callable[[Path], object]) -> Iterator[Path]:
    """Yield a directory for each moment before and after every file operation of `action`, which was killed there."""
    counter = itertools.count()
    for side in (0, 1):
        for moment in itertools.count():
            directory = prepare(next(counter))

            def life(directory: Path = directory, side: int = side, moment: int = moment) -> int:
                end_at_unseen_changes(UNSEEN)
                moments = [nothing, nothing]
                moments[side] = dying(moment)
                with watched(*moments):
                    action(directory)
                return 0

            code = ended(fork(life))
            if code == 0:
                break
            assert code == -signal.SIGKILL
            yield directory
        assert moment >= 3


LONG_AGO = '{"format": 1, "request": "ffffffffffffffff", "at_ms"'
"""The beginning of a request, longer than nothing and shorter than a whole one."""


@pytest.mark.fault(60)
@pytest.mark.parametrize("leftover", [None, LONG_AGO, LONG_AGO * 99], ids=["fresh", "torn", "torn and longer"])
def test_a_daemon_killed_anywhere_while_it_asks_leaves_no_request_or_a_whole_one(
    tmp_path: Path, leftover: str | None
) -> None:
    def prepare(number: int) -> Path:
        directory = tmp_path / f"{number}" / "retrain"
        directory.parent.mkdir()
        if leftover is not None:
            directory.mkdir()
            (directory / ".request.json.new").write_text(leftover, "utf-8")
        return directory

    seen = []
    for directory in deaths(prepare, lambda directory: write_request(directory, ASKED)):
        seen.append(waiting_request(directory))
        if seen[-1] is None:
            write_request(directory, ASKED)
        assert json.loads((directory / "request.json").read_text("utf-8")) == WRITTEN
        assert {path.name for path in directory.iterdir()} == {"request.json", "lock"}
        assert is_running(directory) is False
    assert set(seen) == {None, ASKED.request}


@pytest.mark.parametrize("gone", [clear_result, withdraw_request], ids=["result", "request"])
def test_a_daemon_killed_anywhere_while_it_removes_a_file_leaves_it_whole_or_gone(
    tmp_path: Path, gone: Callable[[Path], None]
) -> None:
    def prepare(number: int) -> Path:
        directory = tmp_path / f"{number}"
        directory.mkdir()
        answer(directory)
        write_request(directory, ASKED)
        return directory

    seen = set()
    for directory in deaths(prepare, gone):
        result, request = read_result(directory), waiting_request(directory)
        seen.add((result is None, request is None))
        gone(directory)
        other = waiting_request(directory) if gone is clear_result else read_result(directory)
        assert other is not None
    assert seen == {(False, False), (gone is clear_result, gone is withdraw_request)}


def test_bytes_name_and_directory_reach_the_disk_in_this_order(place: Path) -> None:
    made = operations(lambda: write_request(place, ASKED))
    steps = [
        (operation.call, Path(operation.arguments[0]).name)
        for operation in made
        if operation.call in {"fsync", "replace"}
    ]
    assert steps == [("fsync", ".request.json.new"), ("replace", ".request.json.new"), ("fsync", "retrain")]
    for removal in (withdraw_request, clear_result):
        answer(place)
        calls = [operation.call for operation in operations(lambda removal=removal: removal(place))]  # type: ignore[misc]
        assert calls.index("unlink") < calls.index("fsync")


# ---- the result -------------------------------------------------------------------------------------------------
def test_a_result_is_read_with_all_that_it_tells(place: Path) -> None:
    assert read_result(place) is None
    answer(place)
    result = read_result(place)
    assert result == RetrainResult(
        request="00112233445566aa",
        outcome=Outcome.CANDIDATE,
        candidate="feedfacefeedface",
        reason="it passed",
        report=REPORT,
    )
    assert result.spread == 0.0021
    clear_result(place)
    assert read_result(place) is None
    clear_result(place)


@pytest.mark.parametrize("outcome", ["kept", "failed"])
def test_a_retraining_without_a_candidate_tells_as_far_as_it_came(place: Path, outcome: str) -> None:
    answer(place, {("outcome",): outcome, ("candidate",): "", ("report",): {}})
    result = read_result(place)
    assert result is not None
    assert (result.outcome.value, result.candidate, result.report, result.spread) == (outcome, "", {}, None)


def test_a_result_of_another_request_is_told_apart(place: Path) -> None:
    answer(place, {("request",): "f" * 16})
    result = read_result(place)
    assert result is not None
    assert result.request == "f" * 16 != ASKED.request


def test_what_a_later_trainer_tells_beyond_this_is_kept_for_the_journal(place: Path) -> None:
    answer(place, {("report", "data", "merged"): 17, ("report", "kernel"): "x"})
    result = read_result(place)
    assert result is not None
    assert (result.report["data"]["merged"], result.report["kernel"]) == (17, "x")


def test_what_a_terminal_would_obey_is_taken_out_of_the_reason(place: Path) -> None:
    answer(place, {("reason",): "fine\x1b[2J\nok"})
    result = read_result(place)
    assert result is not None
    assert result.reason == "fine [2J ok"


WRONG: list[tuple[tuple[str | int, ...], Any, str]] = [
    (("format",), 2, "format = 2: "),
    (("request",), "00112233445566a", "request = '00112233445566a': "),
    (("request",), "00112233445566aa\n", "request = "),
    (("request",), ..., "request = ...: Field required"),
    (("outcome",), "promoted", "outcome = 'promoted': "),
    (("candidate",), "../../etc", "candidate = '../../etc': "),
    (("candidate",), "", "candidate is missing"),
    (("reason",), 5, "reason = 5: "),
    (("reason",), "x" * 5_000, "reason = 'xxx"),
    (("report",), [], "report = ...: "),
    (("report", "data"), ..., "report.data is missing"),
    (("report", "data", "end_ms"), "now", "report.data.end_ms = 'now': "),
    (("report", "data", "end_ms"), 10**17, "report.data.end_ms = 100000000000000000: "),
    (("report", "data", "files", 0, "sha256"), "ab", "report.data.files.0.sha256 = 'ab': "),
    (("report", "gate"), ..., "report.gate is missing"),
    (("report", "gate"), [], "report.gate is missing"),
    (("report", "gate", 0, "passed"), 1, "report.gate.0.passed = 1: "),
    (("report", "gate", 0, "passed"), False, "outcome is \"candidate\", and criterion 'better' of its gate failed"),
    (("report", "gate", 0, "words"), ..., "report.gate.0.words = ...: Field required"),
    (("report", "difference"), ..., "report.difference is missing"),
    (("report", "difference", "spread"), 0.0, "report.difference.spread = 0.0: "),
    (("report", "difference", "spread"), "0.1", "report.difference.spread = '0.1': "),
    (("report", "difference", "per"), "day", "report.difference.per = 'day': "),
    (("report", "difference", "count"), 0, "report.difference.count = 0: "),
    (("report", "trials"), -1, "report.trials = -1: "),
    (("report", "seconds"), True, "report.seconds = True: "),
]


@pytest.mark.fault(60)
@pytest.mark.parametrize(("path", "value", "told"), WRONG, ids=[f"{path}: {str(v)[:20]}" for path, v, _ in WRONG])
def test_a_result_with_a_wrong_value_is_refused_naming_file_value_and_remedy(
    place: Path, path: tuple[str | int, ...], value: Any, told: str
) -> None:
    file = answer(place, {path: value})
    with pytest.raises(ArtifactError) as caught:
        read_result(place)
    assert str(caught.value).startswith(f"{file}: ")
    assert told in str(caught.value)
    assert str(caught.value).endswith("; see trainer.log beside it for what the trainer did, then remove the file")
    assert len(str(caught.value)) < 500


@pytest.mark.fault(60)
@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"", "is no JSON"),
        (json.dumps(ANSWER).encode()[:-30], "is no JSON"),
        (b"null", "holds no object"),
        (b"[" * 100_000, "is no JSON"),
        (b'{"format": NaN}', "NaN is no number that can be kept"),
        (b'{"format": -Infinity}', "-Infinity is no number"),
        (b'{"report": {"x": 1e999}}', "1e999 is no number"),
        (b'{"x": ' + b"9" * 5_000 + b"}", "is no JSON"),
        (b'{"reason": "\\ud800"}', "is no JSON that can be kept"),
        (b'{"reason": "\xff"}', "is no JSON"),
        (b" " * (2**20 + 1), "1048577 bytes are more than the 1048576 it may have"),
    ],
    ids=["empty", "torn", "null", "deep", "nan", "infinity", "huge", "digits", "surrogate", "bytes", "long"],
)
def test_a_result_that_cannot_be_read_is_refused_naming_file_and_reason(place: Path, text: bytes, told: str) -> None:
    (place / "result.json").write_bytes(text)
    with pytest.raises(ArtifactError, match=r"result\.json: .*; see trainer\.log") as caught:
        read_result(place)
    assert told in str(caught.value)
    assert len(str(caught.value)) < 500


def test_only_a_plain_file_is_opened(place: Path, tmp_path: Path) -> None:
    whole = answer(tmp_path, name="elsewhere.json")
    (place / "result.json").symlink_to(whole)
    with pytest.raises(ArtifactError, match="it is a link"):
        read_result(place)
    (place / "result.json").unlink()
    os.mkfifo(place / "result.json")
    with pytest.raises(ArtifactError, match="it is not a plain file"):
        read_result(place)
    (place / "result.json").unlink()
    (place / "result.json").mkdir()
    with pytest.raises(ArtifactError, match="it is not a plain file"):
        read_result(place)


def test_a_result_that_is_replaced_while_it_is_read_is_one_or_the_other(place: Path) -> None:
    texts = [json.dumps({**ANSWER, "reason": letter * 3_000}) for letter in "ab"]

    def replacing() -> int:
        while True:
            for text in texts:
                (place / "fresh").write_text(text, "utf-8")
                (place / "fresh").replace(place / "result.json")

    answer(place, {("reason",): "a" * 3_000})
    child = fork(replacing)
    try:
        reasons = []
        while len(reasons) < 300 or len(set(reasons)) < 2:
            result = read_result(place)
            assert result is not None
            reasons.append(result.reason)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert set(reasons) == {"a" * 3_000, "b" * 3_000}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
leaves = st.sampled_from(
    [path for path, value, _ in WRONG if value is not ...]
    + [("report", "data", "symbols", 0), ("report", "data", "days_unseen"), ("report", "gate", 0, "value")]
)
quick = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@quick
@given(path=leaves, value=json_values)
def test_any_value_anywhere_is_a_result_that_can_be_journalled_or_is_refused(
    place: Path, path: Any, value: Any
) -> None:
    answer(place, {path: value})
    try:
        result = read_result(place)
    except ArtifactError as error:
        str(error).encode("utf-8")
    else:
        assert result is not None
        json.dumps(result.report, allow_nan=False, ensure_ascii=False).encode("utf-8")
        assert result.spread is not None or result.outcome is not Outcome.CANDIDATE


@quick
@given(text=st.binary(max_size=60))
def test_any_bytes_are_refused(place: Path, text: bytes) -> None:
    (place / "result.json").write_bytes(text)
    with pytest.raises(ArtifactError, match=r"result\.json"):
        read_result(place)


# ---- progress, and the other side -------------------------------------------------------------------------------
def test_progress_is_read_as_far_as_it_is_told(place: Path) -> None:
    assert read_progress(place) is None
    (place / "progress.json").write_text('{"stage": "training", "done": 2, "of": 5, "words": "member 2 of 5"}', "utf-8")
    assert read_progress(place) == Progress(stage="training", done=2, of=5, words="member 2 of 5")
    (place / "progress.json").write_text('{"stage": "training", "done": -2, "of": 5, "words": ""}', "utf-8")
    with pytest.raises(ArtifactError, match=r"progress\.json: done = -2: "):
        read_progress(place)


def test_the_trainer_reads_what_the_daemon_writes_and_the_daemon_what_the_trainer_writes(place: Path) -> None:
    write_request(place, ASKED)
    asked = read_request(place / "request.json")
    assert {key: getattr(asked, key) for key in ("request", "at_ms", "by", "registry", "incumbent", "journal")} == {
        "request": ASKED.request,
        "at_ms": ASKED.at_ms,
        "by": "schedule",
        "registry": ASKED.registry,
        "incumbent": ASKED.incumbent,
        "journal": ASKED.journal,
    }
    with Exchange(place) as exchange:
        claimed = exchange.claim()
        assert claimed is not None
        assert waiting_request(place) is None
        assert is_running(place) is True
        with pytest.raises(RetrainRefused, match=f"process {os.getpid()}"):
            write_request(place, ASKED)
        exchange.progress("training", 1, 5, "member 1 of 5", always=True)
        assert read_progress(place) == Progress(stage="training", done=1, of=5, words="member 1 of 5")
        told = Result(
            request=ASKED.request, outcome="candidate", reason="it passed", candidate="feedfacefeedface", report=REPORT
        )
        exchange.finish(told)
    assert is_running(place) is False
    assert read_progress(place) is None
    result = read_result(place)
    assert result is not None
    assert (result.request, result.outcome, result.report) == (ASKED.request, Outcome.CANDIDATE, REPORT)
