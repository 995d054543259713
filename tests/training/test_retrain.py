"""Whole retrainings, from request.json to result.json, with real training of tiny members."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from daemon.model_life import RetrainBy
from daemon.models import list_bundles, set_current
from daemon.retrain_files import RetrainRequest, read_progress, read_result, write_request
from tests.daemon.test_journal_candles import RUN, groups, write
from tests.fakes.trading import BTC
from tests.training.command_line import Run
from tests.training.markets import write_table
from tests.training.retrainings import (
    DAY_MS,
    ID,
    SEEN_TO_MS,
    TINY,
    Place,
    files_of,
    following,
    make_place,
    market,
    put,
    steady,
    trending,
)
from tests.training.runs import environment, wait_for
from tests.training.test_ensemble import Here
from training import retrain as whole
from training.bundles import read_serving_bundle
from training.errors import Interrupted, TrainingError
from training.member import MemberProgress
from training.retrain import Means, retrain
from training.retrain_exchange import Exchange
from training.trials import VARIABLE, Kind, read_ledger
from training.workers import Pool

BAD = following("return_24", -1.0)
"""Loses so surely in a market of trends that whatever was trained there is better."""


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make_place(tmp_path / "place", [trending(60)], write_table, BAD)


@pytest.fixture(autouse=True)
def _ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "trials.jsonl"))


def means(**changes: Any) -> Means:
    return Means(**{"make_pool": lambda _: Here(), "say": lambda _: None, **changes})


def answered(place: Place, how: Means | None = None, **changes: Any) -> dict[str, Any]:
    """Ask, let the trainer answer, and return what lies there then: nothing else may."""
    place.ask(**changes)
    told = retrain(place.exchange, means() if how is None else how)
    assert told is not None
    found: dict[str, Any] = place.read("result.json")
    assert found == told
    read = read_result(place.exchange)  # by the daemon, which takes nothing that is not whole
    assert read is not None
    assert (read.request, read.outcome.value, read.candidate, read.reason) == tuple(
        found[name] for name in ("request", "outcome", "candidate", "reason")
    )
    assert place.names == ["result.json"]
    assert [entry.name for entry in place.folder(found["request"]).iterdir()] == ["report.json"]
    return found


# ---- what comes of it -------------------------------------------------------------------------------------------
def test_a_candidate_that_passes_lies_in_the_registry_before_anybody_is_told(place: Place) -> None:
    told = answered(place)
    assert (told["format"], told["request"], told["outcome"]) == (1, ID, "candidate"), told["reason"]
    assert told["reason"].startswith("passed the gate: it is better with probability ")
    listed = {bundle.name: bundle for bundle in list_bundles(place.registry)}
    assert set(listed) == {place.incumbent, told["candidate"]}
    assert [bundle.fault for bundle in listed.values()] == ["", ""]
    set_current(place.registry, told["candidate"])
    report = told["report"]
    assert report["gate"][0]["name"] == "compatible"
    assert all(check["passed"] for check in report["gate"])
    assert (report["trials"], report["members"]) == (1, 1)
    assert report["difference"]["count"] == 30 * 6 - 1
    assert report["difference"]["spread"] > 0.0
    to_ms = (SEEN_TO_MS + 60 * DAY_MS) // DAY_MS * DAY_MS
    data = report["data"]
    assert (data["start_ms"], data["end_ms"], data["holdout_from_ms"]) == (0, to_ms, to_ms - 30 * DAY_MS)
    assert (data["symbols"], data["days_unseen"]) == ([BTC], 60.0)
    (file,) = data["files"]
    assert file["name"] == "btcusdt-1h.csv"
    manifest = read_serving_bundle(place.registry / told["candidate"]).manifest
    assert [(record.name, record.sha256) for record in manifest.training.data] == [(file["name"], file["sha256"])]
    assert manifest.training.end_ms == data["practice_to_ms"] < data["holdout_from_ms"]


def test_a_candidate_becomes_an_incumbent_that_can_be_retrained(place: Place) -> None:
    first = answered(place)["candidate"]
    second = answered(place, request="1111111111111111", incumbent=first)
    assert second["outcome"] in {"candidate", "kept"}, second["reason"]
    assert second["report"]["trials"] == 2
    # What the first was judged on is unseen by both still, for it never practised there.
    assert second["report"]["data"]["holdout_from_ms"] == place.read("result.json")["report"]["data"]["holdout_from_ms"]


def test_one_that_is_no_better_is_refused_and_never_gets_into_the_registry(tmp_path: Path) -> None:
    place = make_place(tmp_path / "place", [trending(60)], write_table, following("return_24"))
    told = answered(place)
    assert (told["outcome"], told["candidate"]) == ("kept", "")
    assert told["reason"].startswith("refused by the gate: ")
    assert "it is better with probability 0." in told["reason"]
    assert [bundle.name for bundle in list_bundles(place.registry)] == [place.incumbent]
    failed = [check["name"] for check in told["report"]["gate"] if not check["passed"]]
    assert {"better", "deflated"} <= set(failed)


def test_what_was_traded_on_is_taken_too(tmp_path: Path) -> None:
    table = trending(60)
    file, traded = table.slice(None, SEEN_TO_MS + 20 * DAY_MS), table.slice(SEEN_TO_MS + 10 * DAY_MS)
    place = make_place(tmp_path / "place", [file], write_table, BAD)
    journal = write(tmp_path / "j.sqlite", [RUN, *groups(btc=list(traded.candles()))])
    told = answered(place, journal=str(journal))
    assert told["outcome"] == "candidate", told["reason"]
    assert told["report"]["data"]["days_unseen"] == 60.0
    assert f"BTC/USDT: {len(table):,} candles, 1970-01-01 00:00 .. " in "\n".join(told["report"]["notes"])


def test_too_little_that_is_unseen_is_refused_before_anything_is_trained(place: Place) -> None:
    def never(_: int) -> Pool:
        raise AssertionError("a pool was made")

    place = make_place(place.root / "short", [market(12)], write_table)
    told = answered(place, means(make_pool=never))
    assert told["outcome"] == "kept"
    # The incumbent's candles end in the fifth hour of 1970-05-10, so that day is not whole.
    assert told["reason"] == (
        "only 11 whole days of candles are unseen by both; 30 are needed: those of BTC/USDT end 1970-05-22: give newer "
        "ones"
    )
    assert (told["report"]["data"], told["report"]["gate"]) == (None, [])
    soon = answered(place, means(make_pool=never), at_ms=SEEN_TO_MS + 12 * DAY_MS, request="1111111111111111")
    assert soon["reason"].endswith("30 are needed; next possible on 1970-06-10")


def test_no_member_worth_joining_keeps_the_incumbent(tmp_path: Path) -> None:
    command = TINY.replace("--validation 0.0", "--validation 0.2").replace("--gates off", "--least-score 1000")
    place = make_place(tmp_path / "place", [trending(60)], write_table, BAD, command=command)
    told = answered(place)
    assert told["outcome"] == "kept"
    assert told["reason"].startswith("no member passed its gate, so there is no bundle: member 0: ")
    assert "--out" not in told["reason"]
    assert told["report"]["members"] == 0


def test_a_bundle_this_program_cannot_serve_is_refused(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = steady(0.1)
    arrays["layer1.bias"][2] = np.nan
    files = files_of(steady(0.1))
    name = put(tmp_path / "broken", files)
    (tmp_path / "broken" / name / "member-0.safetensors").write_bytes(safetensors.numpy.save(arrays))
    original = whole.train

    def poisoned(*arguments: Any) -> Any:
        trained, _ = original(*arguments)
        return trained, tmp_path / "broken" / name

    monkeypatch.setattr(whole, "train", poisoned)
    told = answered(place)
    assert told["outcome"] == "kept"
    assert [check["name"] for check in told["report"]["gate"] if not check["passed"]] == ["compatible"]
    assert [bundle.name for bundle in list_bundles(place.registry)] == [place.incumbent]


def unknown_incumbent(place: Place) -> dict[str, Any]:
    return {"incumbent": "0123456789abcdef"}


def imported_incumbent(place: Place) -> dict[str, Any]:
    return {"incumbent": put(place.registry, files_of(BAD, command="sacd models import sac.zip"))}


def missing_file(place: Place) -> dict[str, Any]:
    return {"data": {BTC: str(place.root / "none.csv")}}


def few_candles(place: Place) -> dict[str, Any]:
    table = trending(60).slice(SEEN_TO_MS - 48 * 3_600_000)
    return {"data": {BTC: str(write_table(table, place.root, "few-1h.csv"))}}


def too_few_steps(_: Place) -> dict[str, Any]:
    return {"steps": 50}


def past_deadline(place: Place) -> dict[str, Any]:
    return {"deadline_ms": SEEN_TO_MS + 51 * DAY_MS}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (unknown_incumbent, "0123456789abcdef: cannot be read (No such file or directory)"),
        (imported_incumbent, "its recipe `sacd models import sac.zip` is not one of `sacd train`"),
        (missing_file, "none.csv: there is no such file"),
        (few_candles, "too few candles to practise on: BTC/USDT: "),
        (too_few_steps, "50 steps of a refit end before learning begins: give more than 100"),
        (past_deadline, "deadline: it was not done by 1970-06-30 04:00 UTC: give it more hours"),
    ],
)
def test_what_cannot_be_done_is_a_failure_with_a_reason_in_words(
    place: Place, changes: Callable[[Place], dict[str, Any]], reason: str
) -> None:
    told = answered(place, **changes(place))
    assert (told["outcome"], told["candidate"]) == ("failed", "")
    assert reason in told["reason"]
    assert "\n" not in told["reason"]


def test_what_nobody_foresaw_is_a_failure_too_and_the_log_says_where(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def surprised(*_: Any) -> None:
        raise ZeroDivisionError("nobody foresaw")

    monkeypatch.setattr(whole, "examine", surprised)
    told = answered(place)
    assert told["outcome"] == "failed"
    assert told["reason"] == "ZeroDivisionError: nobody foresaw (the log of the trainer says where)"
    assert told["report"]["members"] == 1  # so far it came
    assert "Traceback" in capsys.readouterr().err


def test_memory_that_runs_out_is_a_failure(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_memory(*_: Any, **__: Any) -> None:
        raise MemoryError("cannot allocate")

    monkeypatch.setattr(whole, "gather", out_of_memory)
    assert answered(place)["reason"] == "not enough memory (cannot allocate): give more, or fewer workers"


def test_a_member_that_dies_is_a_failure_and_not_told_how_to_go_on(place: Place) -> None:
    def dying(_: Any, __: Any, ___: Any) -> None:
        raise MemoryError("killed")

    told = answered(place, means(make_pool=lambda _: Here(dying)))
    assert told["outcome"] == "failed"
    assert told["reason"] == "member 0: not enough memory (killed): run fewer workers, or a smaller buffer"


def test_a_deadline_ends_the_training(place: Place) -> None:
    now = [SEEN_TO_MS]

    class Slow(Here):
        def run(self, tasks: Any, shared: Any, tell: Any) -> Any:
            def telling(index: int, told: MemberProgress) -> None:
                now[0] += 3_600_000
                tell(index, told)

            return super().run(tasks, shared, telling)

    told = answered(
        place, means(make_pool=lambda _: Slow(), now_ms=lambda: now[0]), at_ms=SEEN_TO_MS, steps=4000,
        deadline_ms=SEEN_TO_MS + 5 * 3_600_000,
    )  # fmt: skip
    assert told["outcome"] == "failed"
    assert told["reason"].startswith("deadline: it was not done by 1970-05-10 09:00 UTC")


# ---- the ledger -------------------------------------------------------------------------------------------------
def retrainings(path: Path) -> list[Any]:
    return [trial for trial in read_ledger(path).tally.counted if trial.kind is Kind.RETRAIN]


def test_that_a_candidate_is_judged_is_written_down_before_anybody_can_know_the_answer(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, before = whole.examine, []

    def watching(*arguments: Any) -> Any:
        before.extend(retrainings(tmp_path / "trials.jsonl"))
        return original(*arguments)

    monkeypatch.setattr(whole, "examine", watching)
    told = answered(place)
    (trial,) = before
    assert (trial.score, trial.is_over, trial.looks) == (None, False, 1)
    (after,) = retrainings(tmp_path / "trials.jsonl")
    assert (after.recipe, after.is_over) == (trial.recipe, True)
    assert after.score is not None
    assert (after.from_ms, after.to_ms) == (told["report"]["data"]["holdout_from_ms"], told["report"]["data"]["end_ms"])
    assert after.words == f"candidate {told['candidate']} for {place.incumbent}"


def test_every_candidate_counts_and_the_same_one_once(place: Place, tmp_path: Path) -> None:
    assert answered(place)["report"]["trials"] == 1
    shutil.rmtree(place.folder())
    assert answered(place)["report"]["trials"] == 1
    assert answered(place, request="2222222222222222")["report"]["trials"] == 2
    assert len(retrainings(tmp_path / "trials.jsonl")) == 2


def test_without_another_word_the_ledger_lies_beside_the_ensembles(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE)
    answered(place)
    assert len(retrainings(place.registry / "trials.jsonl")) == 1
    assert len(list_bundles(place.registry)) == 2


# ---- told to end, and killed ------------------------------------------------------------------------------------
def test_told_to_end_it_leaves_the_request_and_the_next_one_goes_on(place: Place) -> None:
    class Ending(Here):
        def run(self, tasks: Any, shared: Any, tell: Any) -> Any:
            def telling(index: int, told: MemberProgress) -> None:
                tell(index, told)
                if told.steps > 500:
                    os.kill(os.getpid(), signal.SIGTERM)

            return super().run(tasks, shared, telling)

    asked = place.ask(steps=1500)
    with pytest.raises(Interrupted, match="told to end; what is done is kept"):
        retrain(place.exchange, means(make_pool=lambda _: Ending()))
    assert place.names == ["request.json"]
    assert place.read("request.json") == asked
    assert (place.folder() / "run" / "training" / "member-0" / "checkpoint.json").exists()
    told = retrain(place.exchange, means())
    assert told is not None
    assert place.names == ["result.json"]
    shutil.rmtree(place.folder())
    shutil.rmtree(place.registry / told["candidate"])
    assert answered(place, steps=1500)["candidate"] == told["candidate"]  # as without the interruption


def test_told_to_end_during_the_gate_it_leaves_the_request_too(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    original = whole.examine

    def ending(*arguments: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return original(*arguments)

    place.ask()
    monkeypatch.setattr(whole, "examine", ending)
    with pytest.raises(Interrupted):
        retrain(place.exchange, means())
    assert place.names == ["request.json"]


def test_killed_after_the_candidate_was_put_there_the_next_one_finds_it_and_answers(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> None:
        raise SystemExit

    asked = place.ask()
    with monkeypatch.context() as patch:
        patch.setattr(Exchange, "finish", killed)
        with pytest.raises(SystemExit):
            retrain(place.exchange, means())
    (place.folder() / "request.json").unlink()
    (place.exchange / "request.json").write_text(json.dumps(asked))  # the daemon asks again
    before = {entry.name for entry in place.registry.iterdir()}
    told = retrain(place.exchange, means())
    assert told is not None
    assert told["outcome"] == "candidate"
    assert {entry.name for entry in place.registry.iterdir()} == before
    assert len(before) == 2


def test_an_answer_that_was_not_told_is_told_and_nothing_done_again(place: Place) -> None:
    told = answered(place)
    (place.exchange / "result.json").unlink()
    place.ask()

    def never(_: int) -> Pool:
        raise AssertionError("a pool was made")

    assert retrain(place.exchange, means(make_pool=never)) == told
    assert place.read("result.json") == told


@contextmanager
def trainer(place: Place) -> Iterator["subprocess.Popen[str]"]:
    """Run the trainer in a process, as the daemon does; it is killed with its group at the end."""
    command = [sys.executable, "-m", "training", "retrain", str(place.exchange), "--json"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(), start_new_session=True
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_killed_in_the_middle_of_training_the_next_one_ends_as_if_nothing_had_been(place: Place, run: Run) -> None:
    place.ask(steps=3000)
    checkpoint = place.folder() / "run" / "training" / "member-0" / "checkpoint.json"
    with trainer(place) as process:
        wait_for(checkpoint, process)
        assert place.read("progress.json")["stage"] == "training"
        code, _, err = run("retrain", place.exchange)
        assert (code, err) == (
            1,
            f"sacd retrain: {place.exchange}: process {process.pid} trains here already: wait for it\n",
        )
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert "result.json" not in place.names
    assert "request.json" not in place.names
    with trainer(place) as process:
        out, err = process.communicate(timeout=240)
        assert process.returncode == 0, err
    told = json.loads(out)
    assert told == place.read("result.json")
    assert place.names == ["result.json"]
    assert "sacd retrain: training: 1 members, 3,000 steps each" in err
    shutil.rmtree(place.folder())
    found = {bundle.name for bundle in list_bundles(place.registry)}
    undisturbed = answered(place, steps=3000)
    assert undisturbed["candidate"] == told["candidate"]
    assert [check["value"] for check in undisturbed["report"]["gate"][:-1]] == [
        check["value"] for check in told["report"]["gate"][:-1]
    ]
    assert {bundle.name for bundle in list_bundles(place.registry)} == found


# ---- the command ------------------------------------------------------------------------------------------------
def test_without_a_request_the_command_says_so_and_has_not_failed(place: Place, run: Run) -> None:
    assert run("retrain", place.exchange) == (0, "", f"sacd retrain: {place.exchange}: nothing is asked for\n")


@pytest.mark.parametrize(
    ("incumbent", "code", "words"),
    [("", 0, "candidate: passed the gate"), ("0123456789abcdef", 1, "failed: ")],
)
def test_the_command_prints_the_answer(place: Place, run: Run, incumbent: str, code: int, words: str) -> None:
    place.ask(incumbent=incumbent or place.incumbent, workers=1)
    ended, out, err = run("retrain", place.exchange)
    assert (ended, out.startswith(words)) == (code, True), err


def test_a_mistake_of_whoever_calls_it_is_one_line(tmp_path: Path, run: Run) -> None:
    code, out, err = run("retrain", tmp_path / "none")
    assert (code, out) == (1, "")
    assert err.startswith(f"sacd retrain: {tmp_path / 'none'}: there is no such directory: name the one in which")
    assert err.count("\n") == 1
    (tmp_path / "request.json").write_text("{")
    with pytest.raises(TrainingError):
        retrain(tmp_path, means())


def test_how_long_it_took_is_told(place: Place) -> None:
    start = time.monotonic()
    told = answered(place)
    assert 0.0 < told["report"]["seconds"] <= time.monotonic() - start


# ---- beside the daemon ------------------------------------------------------------------------------------------
def test_what_the_daemon_asks_is_what_the_trainer_reads(tmp_path: Path) -> None:
    asked = RetrainRequest(
        request=ID,
        at_ms=5,
        by=RetrainBy.DRIFT,
        registry=Path("/models"),
        incumbent="c5a531e4ebf4bb31",
        journal=Path("/var/j.sqlite"),
        exchange="",
        timeframe="4h",
        symbols=(BTC,),
        data={BTC: Path("/data/btcusdt-4h.csv")},
        fetch=False,
        workers=0,
        steps=7,
        deadline_ms=6,
        memory_mib=512,
        holdout_days=45.5,
        gate_confidence=0.9,
        max_drawdown=0.15,
    )
    write_request(tmp_path, asked)
    with Exchange(tmp_path) as exchange:
        read = exchange.claim()
        assert read is not None
        assert (read.timeframe.name, read.by, read.journal) == ("4h", "drift", Path("/var/j.sqlite"))
        shared = [name for name in asked.to_json() if name not in {"format", "timeframe", "by"}]
        assert {name: getattr(read, name) for name in shared} == {name: getattr(asked, name) for name in shared}
        exchange.progress("training", 3, 9, "member 1 of 2" * 100)
        told = read_progress(tmp_path)
        assert told is not None
        assert (told.stage, told.done, told.of) == ("training", 3, 9)
