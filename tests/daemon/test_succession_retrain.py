"""Asking for retrainings and hearing what came of them: whatever a trainer does, the incumbent trades on."""

import asyncio
import fcntl
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from daemon import succession_retrain
from daemon.errors import SacdError
from daemon.model_life import Outcome, Phase, Retrain, RetrainBy
from daemon.retrain_child import TrainerChild
from daemon.retrain_files import LOCK, REQUEST, RESULT, RetrainRequest
from daemon.succession_retrain import Retraining
from tests.daemon.engines import BUY
from tests.daemon.successions import House, Situation, make_situation, open_house, report
from tests.fakes.serving import BTC, ROOT, write_bundle
from tests.fakes.trading import HOUR_MS

LIMIT_S = 6.0 * 3_600.0
"""[retrain] limit_hours as shipped."""
SHORT, SHORT_S = {"limit_hours": 0.1}, 360.0
"""So short that looking once a second for as long takes no time."""


@pytest.fixture
def situation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Situation:
    return make_situation(tmp_path, monkeypatch)


@pytest.fixture
def better(situation: Situation) -> str:
    return situation.add(6, BUY)


def newest(house: House) -> Retrain:
    retrain = house.life.retrain
    assert retrain is not None
    return retrain


def retraining(house: House) -> Retraining:
    return house.succession._retraining


class Killed(BaseException):
    """The process ends here: nothing catches it."""


def _killed(_directory: Path) -> None:
    raise Killed


async def asked(situation: Situation, **changes: Any) -> House:
    """A house whose trainer was asked for by hand and works."""
    house = await open_house(situation, **changes)
    await house.command("retrain")
    return house


async def end_trainer(house: House, reason: str = "ended with exit code 1: out of luck") -> None:
    await house.situation.trainers[-1].end(reason)
    await house.settle(3.0)


async def trades_on(house: House) -> None:
    """The incumbent still decides, and nothing is left that could still answer."""
    decided = len(house.of_kind("decision"))
    await house.candle()
    assert house.of_kind("decision")[decided:][0]["model"] == house.life.serving
    assert not (house.directory / REQUEST).exists()
    assert not (house.directory / RESULT).exists()
    house.check_memory()


@contextmanager
def somebody_trains(house: House) -> Iterator[None]:
    """Hold the lock as a trainer of another process does."""
    house.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(house.directory / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


# ---- asking -----------------------------------------------------------------------------------------------------
async def test_a_retraining_is_journalled_before_its_request_leaves_and_a_trainer_begins(
    situation: Situation, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = await open_house(situation)
    seen = list[list[str]]()
    write = succession_retrain.write_request

    def watched(directory: Path, request: RetrainRequest) -> None:
        seen.append(house.steps)
        write(directory, request)

    monkeypatch.setattr(succession_retrain, "write_request", watched)
    assert (await house.command("retrain")).startswith("a retraining was asked for")
    assert seen == [["serving", "requested"]]
    retrain = newest(house)
    assert (retrain.by, retrain.scheduled_ms, retrain.outcome) == (RetrainBy.HAND, None, Outcome.RUNNING)
    request = house.request()
    assert (request["request"], request["by"], request["incumbent"]) == (retrain.request, "hand", house.found)
    assert (request["registry"], request["symbols"], request["timeframe"]) == (str(situation.registry), [BTC], "1h")
    assert request["deadline_ms"] == retrain.at_ms + 6 * HOUR_MS
    assert request["max_drawdown"] == house.config.risk_limits().max_drawdown
    assert [trainer.seconds for trainer in situation.trainers] == [LIMIT_S]
    told = house.succession.status().retrain
    assert told is not None
    assert told.outcome is Outcome.RUNNING
    house.check_memory()


async def test_a_second_one_is_refused_while_the_first_is_under_way(situation: Situation) -> None:
    house = await asked(situation)
    with pytest.raises(SacdError, match="a retraining is under way"):
        await house.command("retrain")
    assert house.steps.count("requested") == 1


@pytest.mark.fault(62)
async def test_asked_by_hand_and_by_the_schedule_at_once_one_is_trained_and_the_other_is_told(
    situation: Situation,
) -> None:
    house = await open_house(situation, looks=False, retrain={"every_hours": 24.0})
    house.clock.step_wall(30 * 3_600.0)
    house.look_after()  # the schedule is overdue
    by_hand = [asyncio.create_task(house.succession.command("retrain", {})) for _ in range(2)]
    await house.settle()
    answers = await asyncio.gather(*by_hand, return_exceptions=True)
    assert house.steps.count("requested") == 1
    assert len(situation.trainers) == 1
    told = [str(answer) for answer in answers]
    assert sum(text.startswith("a retraining was asked for") for text in told) == (newest(house).by is RetrainBy.HAND)
    assert sum("is under way" in text for text in told) >= 1
    await house.die()


@pytest.mark.fault(62)
async def test_of_the_moments_missed_while_nothing_ran_the_newest_is_made_up_for_once(situation: Situation) -> None:
    house = await open_house(situation, retrain={"every_hours": 24.0})
    assert house.steps == ["serving"]
    began_ms = house.journal.entries[0].at_ms
    await house.die()
    house.clock.step_wall(3.5 * 86_400.0)
    house = await house.again()
    assert house.steps == ["serving", "requested"]
    assert newest(house).by is RetrainBy.SCHEDULE
    third_ms = began_ms // HOUR_MS * HOUR_MS + 3 * 24 * HOUR_MS
    assert newest(house).scheduled_ms == third_ms
    house.answer("kept")
    await house.settle(2.0)
    house = await house.again()
    assert house.steps == ["serving", "requested", "trained"]
    assert house.succession.status().next_retrain_ms == third_ms + 24 * HOUR_MS
    await house.die()


async def test_the_schedule_waits_for_the_end_of_a_comparison_and_then_asks(situation: Situation, better: str) -> None:
    house = await open_house(situation, retrain={"every_hours": 2.0})
    await house.command("shadow", model=better)
    for i in range(5):
        await house.candle(100.0 * 1.01**i)
    assert house.life.phase is Phase.SHADOW
    assert "requested" not in house.steps
    for i in range(5, 12):
        await house.candle(100.0 * 1.01**i)
    assert house.steps == ["serving", "shadow", "swapping", "serving", "confirmed", "requested"]
    await house.die()


async def test_an_ensemble_named_for_good_is_not_trained_anew(situation: Situation) -> None:
    house = await open_house(situation, strategy={"model": str(situation.place.model)})
    with pytest.raises(SacdError, match=r"write the link .*current there instead"):
        await house.command("retrain")
    assert house.steps == ["serving"]


@pytest.mark.fault(58)
@pytest.mark.parametrize("runner", ["child", "unit"])
async def test_a_request_that_cannot_be_left_is_told_to_whoever_asked_and_has_failed(
    situation: Situation, runner: str
) -> None:
    house = await open_house(situation, retrain={"runner": runner})
    obstacle = house.directory / f".{REQUEST}.new"
    obstacle.mkdir(parents=True)
    with pytest.raises(SacdError, match=r"the retraining could not begin: .* cannot be written"):
        await house.command("retrain")
    assert house.steps == ["serving", "requested", "trained"]
    assert (newest(house).outcome, house.life.failures) == (Outcome.FAILED, 1)
    assert situation.trainers == []
    obstacle.rmdir()
    await house.command("retrain")
    assert house.life.is_retraining


@pytest.mark.fault(58)
async def test_a_trainer_that_cannot_be_started_leaves_no_request_behind(situation: Situation) -> None:
    situation.refusal = "a trainer cannot be started (Cannot allocate memory)"
    house = await open_house(situation)
    with pytest.raises(SacdError, match="Cannot allocate memory"):
        await house.command("retrain")
    assert newest(house).outcome is Outcome.FAILED
    await trades_on(house)


# ---- how it ends ------------------------------------------------------------------------------------------------
async def test_a_candidate_goes_into_shadow_in_the_transaction_that_says_so_and_its_result_is_removed(
    situation: Situation, better: str
) -> None:
    house = await asked(situation)
    house.answer(candidate=better, report=report(spread=0.0125))
    await house.settle(2.0)
    assert house.journal.batches[-1] == ["model", "model"]
    assert house.steps == ["serving", "requested", "trained", "shadow"]
    shadow = house.last("shadow")
    assert (shadow["candidate"], shadow["request"]) == (better, newest(house).request)
    assert shadow["test"] == {"scale": 0.0125, "horizon": 10, "least": 2, "alpha": 0.4}
    assert house.last("trained")["report"] == report(spread=0.0125)
    assert not (house.directory / RESULT).exists()
    assert (house.life.phase, newest(house).outcome) == (Phase.SHADOW, Outcome.CANDIDATE)
    for i in range(7):
        await house.candle(100.0 * 1.01**i)
    assert (house.life.serving, newest(house).outcome) == (better, Outcome.PROMOTED)
    house.check_memory()


async def test_a_candidate_that_loses_in_shadow_is_what_became_of_its_retraining(
    situation: Situation, better: str
) -> None:
    house = await asked(situation)
    house.answer(candidate=better)
    await house.settle(2.0)
    for i in range(12):
        await house.candle(100.0 * 0.99**i)
    assert house.steps[-1] == "kept"
    assert (newest(house).outcome, newest(house).candidate) == (Outcome.KEPT, better)
    assert newest(house).reason.startswith("no better: behind by ")


@pytest.mark.fault(59)
async def test_one_that_the_gate_refused_leaves_the_incumbent_and_its_reason(situation: Situation) -> None:
    house = await asked(situation)
    gate = [{"name": "growth", "value": -0.1, "threshold": 0.0, "passed": False, "words": "grows less"}]
    house.answer("kept", reason="the gate refused it: grows less", report=report(gate=gate))
    await house.settle(2.0)
    assert (newest(house).outcome, newest(house).reason) == (Outcome.KEPT, "the gate refused it: grows less")
    assert (house.life.phase, house.life.failures) == (Phase.STEADY, 0)
    await trades_on(house)


@pytest.mark.fault(59)
@pytest.mark.parametrize("what", ["not there", "damaged", "of other candles", "always the same vote", "no id"])
async def test_garbage_never_comes_into_shadow_and_the_retraining_has_failed(
    situation: Situation, better: str, what: str
) -> None:
    house = await asked(situation)
    candidate, told = better, ""
    match what:
        case "not there":
            candidate, told = "0" * 16, "No such file or directory"
        case "damaged":
            (situation.registry / better / "member-0.safetensors").write_bytes(b"")
            told = "member-0.safetensors"
        case "of other candles":
            candidate, told = write_bundle(situation.registry, seed=9, timeframe="4h").name, "trained on 4h candles"
        case "always the same vote":
            candidate = write_bundle(situation.registry, votes=(1.0, 0.0, 0.0)).name
            told = "is degenerate"
        case "no id":
            candidate, told = "../../etc/passwd", "candidate = '../../etc/passwd'"
    house.answer(candidate=candidate)
    await house.settle(2.0)
    assert newest(house).outcome is Outcome.FAILED
    assert told in newest(house).reason
    assert (house.life.phase, house.life.candidate, house.life.failures) == (Phase.STEADY, "", 1)
    await trades_on(house)


@pytest.mark.fault(59)
@pytest.mark.parametrize("spread", [1e-300, 1e9])
async def test_a_candidate_with_a_spread_no_test_can_use_has_failed_and_ends_nothing(
    situation: Situation, better: str, spread: float
) -> None:
    house = await asked(situation)
    house.answer(candidate=better, report=report(spread=spread))
    await house.settle(2.0)
    assert newest(house).outcome is Outcome.FAILED
    assert newest(house).reason.startswith(f"the candidate cannot be tried: scale {spread} of the differences")
    await trades_on(house)


async def test_one_that_made_the_very_ensemble_that_serves_keeps_it(situation: Situation) -> None:
    house = await asked(situation)
    house.answer(candidate=house.found)
    await house.settle(2.0)
    assert (house.life.phase, newest(house).outcome) == (Phase.STEADY, Outcome.KEPT)
    assert newest(house).reason == f"it made {house.found} once more, which serves already"
    await trades_on(house)


async def test_one_that_made_the_candidate_in_shadow_again_does_not_begin_its_trial_anew(
    situation: Situation, better: str
) -> None:
    house = await asked(situation)
    await house.command("shadow", model=better)
    for _ in range(3):
        await house.candle()
    house.answer(candidate=better)
    await house.settle(2.0)
    assert newest(house).reason == f"it made {better} once more, which is in shadow already"
    standing = house.succession.status().shadow
    assert standing is not None
    assert standing.decisions == 2


async def test_a_candidate_waits_while_another_is_watched_and_that_is_told(situation: Situation, better: str) -> None:
    house = await asked(situation)
    third = situation.add(7)
    await house.command("promote", model=third)
    house.answer(candidate=better)
    await house.candle()
    await house.candle()
    assert house.life.phase is Phase.WATCH
    assert house.succession.status().progress == f"{better} waits until {third} is watched no longer"
    assert house.life.is_retraining
    for _ in range(3):
        await house.candle()
    await house.settle(2.0)
    assert house.steps[-3:] == ["confirmed", "trained", "shadow"]
    assert (house.last("shadow")["incumbent"], house.last("shadow")["candidate"]) == (third, better)
    house.check_memory()


async def test_a_candidate_that_is_read_while_a_person_puts_another_in_place_waits_as_well(
    situation: Situation, better: str
) -> None:
    house = await asked(situation)
    third = situation.add(7)
    house.answer(candidate=better)
    result = await retraining(house).look()
    assert result is not None
    await house.command("promote", model=third)
    await house.succession._conclude(result)
    assert (house.life.phase, house.life.is_retraining) == (Phase.WATCH, True)
    assert (house.directory / RESULT).exists()


async def test_a_candidate_that_comes_while_the_incumbent_is_pinned_is_tried_and_waits(
    situation: Situation, better: str
) -> None:
    house = await asked(situation)
    await house.command("pin")
    house.answer(candidate=better)
    await house.settle(2.0)
    for i in range(12):
        await house.candle(100.0 * 1.01**i)
    assert (house.life.phase, house.life.serving, house.life.is_pinned) == (Phase.SHADOW, house.found, True)
    assert house.found != better


# ---- results that are none --------------------------------------------------------------------------------------
async def test_the_result_of_another_request_is_removed_and_the_trainer_is_waited_for(situation: Situation) -> None:
    house = await asked(situation)
    house.answer("kept", request="f" * 16)
    with capture_logs() as logs:
        await house.settle(2.0)
    assert [line["request"] for line in logs if line["event"] == "stale_result"] == ["f" * 16]
    assert not (house.directory / RESULT).exists()
    assert house.life.is_retraining


async def test_a_result_that_was_journalled_before_a_kill_is_removed_and_not_journalled_again(
    situation: Situation, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = await open_house(situation, looks=False)
    await house.command("retrain")
    house.answer("kept")
    clear = succession_retrain.clear_result
    monkeypatch.setattr(succession_retrain, "clear_result", _killed)
    house.look_after()
    with pytest.raises(Killed):
        await house.settle(1.5)
    monkeypatch.setattr(succession_retrain, "clear_result", clear)
    assert (house.directory / RESULT).exists()
    house = await house.again()
    await house.settle(2.0)
    assert house.steps == ["serving", "requested", "trained"]
    assert not (house.directory / RESULT).exists()
    house.check_memory()


@pytest.mark.fault(58)
@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 2}', "\x00" * 64, "nan", '{"format": 1, "request": 5}'])
async def test_a_result_that_cannot_be_read_is_a_failure_that_names_the_file(situation: Situation, text: str) -> None:
    house = await asked(situation)
    (house.directory / RESULT).write_text(text)
    await house.settle(2.0)
    assert newest(house).outcome is Outcome.FAILED
    assert newest(house).reason.startswith(f"{house.directory / RESULT}: ")
    await trades_on(house)


@pytest.mark.fault(58)
async def test_a_result_that_cannot_be_removed_is_told_once_and_ends_nothing(situation: Situation) -> None:
    house = await asked(situation)
    (house.directory / RESULT).mkdir()
    with capture_logs() as logs:
        await house.settle(120.0)
    assert len([line for line in logs if line["event"] == "result_left"]) == 1
    assert newest(house).outcome is Outcome.FAILED
    assert house.steps == ["serving", "requested", "trained"]
    await house.candle()
    house.check_memory()


@pytest.mark.fault(58)
async def test_a_directory_that_cannot_be_looked_into_is_told_once_and_ends_nothing(situation: Situation) -> None:
    house = await asked(situation, retrain=SHORT)
    lock = house.directory / LOCK
    lock.unlink(missing_ok=True)
    lock.symlink_to("elsewhere")
    with capture_logs() as logs:
        await end_trainer(house, "ended by itself")
        await house.settle(120.0)
    (line,) = [line for line in logs if line["event"] == "succession_hindered"]
    assert "cannot be looked into" in line["reason"]
    await house.candle()
    house = await house.again()  # nor does it keep anything from starting
    await house.settle(SHORT_S + 200.0)
    assert newest(house).reason == "no result within 0.1 hours"


# ---- a trainer that does not answer -----------------------------------------------------------------------------
@pytest.mark.fault(58)
async def test_a_trainer_that_dies_has_failed_with_its_last_words_and_the_schedule_waits_ever_longer(
    situation: Situation,
) -> None:
    house = await open_house(situation, looks=False, retrain={"every_hours": 1_000.0})
    house.clock.step_wall(1_001 * 3_600.0)
    house.look_after()
    await house.settle()
    for failures, pause_h in ((1, 6), (2, 12), (3, 24)):
        assert house.steps.count("requested") == failures
        await end_trainer(house)
        assert (newest(house).outcome, house.life.failures) == (Outcome.FAILED, failures)
        assert newest(house).reason == "no result: ended with exit code 1: out of luck"
        ended_ms = newest(house).ended_ms
        assert ended_ms is not None
        assert house.succession.status().next_retrain_ms == ended_ms + pause_h * HOUR_MS
        house.clock.step_wall(pause_h * 3_600.0)
        retraining(house).rearm()
        await house.settle(1.0)
    await house.die()
    house.check_memory()


@pytest.mark.fault(58)
async def test_a_trainer_that_hangs_is_ended_when_its_time_is_over(situation: Situation) -> None:
    house = await asked(situation, retrain=SHORT)
    (trainer,) = situation.trainers
    await house.settle(SHORT_S + 100.0)
    assert not trainer.is_stopped  # it ends itself first
    assert house.life.is_retraining
    await house.settle(30.0)
    assert trainer.is_stopped
    assert (newest(house).outcome, newest(house).reason) == (Outcome.FAILED, "no result within 0.1 hours")
    await trades_on(house)


async def test_an_answer_that_is_left_at_the_last_moment_counts(situation: Situation) -> None:
    house = await asked(situation)
    await house.settle(1.0)
    await situation.trainers[-1].end("ended by itself", is_failure=False)
    retraining(house)._alone_since_s = house.clock.monotonic_s()  # as a look just before it would have found
    look = retraining(house)._look_at_trainer(newest(house))
    house.answer("kept")  # after this look has read that there is none
    await look
    assert house.life.is_retraining
    await house.settle(2.0)
    assert newest(house).outcome is Outcome.KEPT


async def test_one_that_is_asked_for_while_a_look_reads_is_not_held_against_the_time_of_the_one_before(
    situation: Situation, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = await asked(situation)
    house.answer("kept")
    await house.settle(2.0)
    house.clock.step_wall(30 * 3_600.0)  # long past the deadline of that one
    at_once = asyncio.to_thread

    async def slow(work: Any, *args: Any) -> Any:
        found = await at_once(work, *args)
        if getattr(work, "__name__", "") == "_result":
            monkeypatch.setattr(asyncio, "to_thread", at_once)
            await house.succession.command("retrain", {})
        return found

    monkeypatch.setattr(asyncio, "to_thread", slow)
    await retraining(house).look()
    assert house.steps == ["serving", "requested", "trained", "requested"]
    assert house.life.is_retraining
    assert not situation.trainers[-1].is_stopped


async def test_what_the_trainer_tells_is_shown_while_it_works(situation: Situation) -> None:
    house = await asked(situation)
    progress = {"stage": "training", "done": 3, "of": 5, "words": "member 3 of 5"}
    (house.directory / "progress.json").write_text(json.dumps(progress))
    await house.settle(2.0)
    assert house.succession.status().progress == "member 3 of 5"
    (house.directory / "progress.json").write_text("{")
    await house.settle(2.0)
    told = house.succession.status().progress
    assert told is not None
    assert "progress.json" in told
    house.answer("kept")
    await house.settle(2.0)
    assert house.succession.status().progress is None


# ---- over a restart ---------------------------------------------------------------------------------------------
@pytest.mark.fault(62)
async def test_a_retraining_that_ended_with_the_daemon_is_begun_again_and_not_asked_for_twice(
    situation: Situation,
) -> None:
    house = await asked(situation)
    (house.directory / REQUEST).unlink()  # the trainer had taken it
    house.clock.step_wall(2 * 3_600.0)
    house = await house.again()
    assert house.steps == ["serving", "requested"]
    assert house.request()["request"] == newest(house).request
    assert [trainer.seconds for trainer in situation.trainers] == [LIMIT_S, LIMIT_S - 2 * 3_600.0]
    await house.die()


async def test_the_end_of_the_daemon_ends_its_trainer_and_leaves_the_request(situation: Situation) -> None:
    house = await asked(situation)
    await house.die()
    await house.succession.end()
    assert situation.trainers[0].is_stopped
    assert house.request()["request"] == newest(house).request
    assert house.life.is_retraining


async def test_a_trainer_that_outlives_the_daemon_is_waited_for_and_its_answer_counts(
    situation: Situation, better: str
) -> None:
    house = await asked(situation)
    (house.directory / REQUEST).unlink()
    with somebody_trains(house):
        house = await house.again()
        await house.settle(100.0)
        assert house.life.is_retraining
        house.answer(candidate=better)
    await house.settle(2.0)
    assert len(situation.trainers) == 1
    assert house.life.phase is Phase.SHADOW
    house.check_memory()


async def test_a_trainer_of_a_former_run_that_ends_without_a_word_is_started_again_once(situation: Situation) -> None:
    house = await asked(situation)
    (house.directory / REQUEST).unlink()
    with somebody_trains(house):
        house = await house.again()
        await house.settle(5.0)
    await house.settle(13.0)
    assert len(situation.trainers) == 2
    assert house.life.is_retraining
    assert house.request()["request"] == newest(house).request
    await end_trainer(house)
    assert newest(house).reason == "no result: ended with exit code 1: out of luck"


async def test_an_answer_that_came_while_nothing_ran_is_taken_and_nothing_is_started(
    situation: Situation, better: str
) -> None:
    house = await asked(situation)
    await house.die()
    house.answer(candidate=better)
    house = await house.again()
    await house.settle(2.0)
    assert len(situation.trainers) == 1
    assert (house.life.phase, house.life.candidate) == (Phase.SHADOW, better)


@pytest.mark.fault(58)
@pytest.mark.parametrize("late_s", [60.0, 86_400.0])
async def test_one_whose_time_was_over_while_nothing_ran_has_failed_and_is_not_begun_again(
    situation: Situation, late_s: float
) -> None:
    house = await asked(situation)
    await house.die()
    house.clock.step_wall(LIMIT_S + late_s)
    house = await house.again()
    await house.settle(15.0)
    assert len(situation.trainers) == 1
    assert (newest(house).outcome, newest(house).reason) == (Outcome.FAILED, "no result within 6 hours")
    await trades_on(house)


async def test_a_clock_that_is_set_back_gives_no_trainer_more_than_its_time(situation: Situation) -> None:
    house = await asked(situation)
    await house.die()
    house.clock.step_wall(-900 * 86_400.0)
    house = await house.again()
    assert situation.trainers[-1].seconds == LIMIT_S
    await house.die()


# ---- a unit of its own ------------------------------------------------------------------------------------------
@pytest.mark.fault(58)
async def test_a_request_to_a_unit_is_waited_for_until_taken_and_a_trainer_that_is_gone_has_failed(
    situation: Situation,
) -> None:
    house = await asked(situation, retrain={"runner": "unit"})
    assert situation.trainers == []
    await house.settle(600.0)
    assert house.life.is_retraining  # nobody has taken it yet
    with somebody_trains(house):
        (house.directory / REQUEST).unlink()
        await house.settle(600.0)
        assert house.life.is_retraining
    await house.settle(9.0)
    assert house.life.is_retraining
    await house.settle(5.0)
    assert (newest(house).outcome, newest(house).reason) == (Outcome.FAILED, "no result: the trainer is gone")
    await trades_on(house)


async def test_a_unit_that_a_loss_of_power_ended_is_asked_again_by_the_next_start(situation: Situation) -> None:
    house = await asked(situation, retrain={"runner": "unit"})
    request = house.request()
    (house.directory / REQUEST).unlink()  # it had been taken
    house = await house.again()
    assert house.request() == request
    assert situation.trainers == []
    assert house.steps == ["serving", "requested"]
    await house.die()


# ---- what drift asks for ----------------------------------------------------------------------------------------
FAR = 10.0
"""Training spreads from the training mean: as far as drift can be."""


async def drifted(situation: Situation, **changes: Any) -> House:
    house = await open_house(situation, retrain={"drift_trigger": 0.2, **changes})
    situation.rows.value = FAR
    return house


async def test_drift_asks_for_a_retraining_and_not_again_within_a_week(situation: Situation) -> None:
    house = await drifted(situation)
    for _ in range(3):
        await house.candle()
    assert newest(house).by is RetrainBy.DRIFT
    house.answer("kept")
    await house.settle(2.0)
    asked_ms = newest(house).at_ms
    house.clock.step_wall((asked_ms - house.clock.now_ms()) / 1_000 + 7 * 86_400.0 - 60.0)
    await house.settle(5.0)
    assert house.steps.count("requested") == 1
    await house.settle(60.0)
    assert house.steps.count("requested") == 2
    await house.die()


async def test_drift_does_not_disturb_a_comparison(situation: Situation, better: str) -> None:
    house = await drifted(situation)
    await house.command("shadow", model=better)
    for _ in range(5):
        await house.candle()
    assert house.life.phase is Phase.SHADOW
    assert "requested" not in house.steps


async def test_a_retraining_that_was_asked_for_in_the_future_does_not_silence_drift(situation: Situation) -> None:
    house = await drifted(situation)
    for _ in range(3):
        await house.candle()
    house.answer("kept")
    await house.settle(2.0)
    assert house.steps.count("requested") == 1
    house.clock.step_wall(-400 * 86_400.0)
    await house.settle(2.0)
    assert house.steps.count("requested") == 2
    await house.die()


# ---- a real one -------------------------------------------------------------------------------------------------
_ANSWERS = """
import json, os, pathlib
place = pathlib.Path({place!r})
asked = json.loads((place / "request.json").read_text())
told = {{"format": 1, "request": asked["request"], "outcome": "candidate", "candidate": {candidate!r},
         "reason": "passed", "report": {report}}}
(place / "new").write_text(json.dumps(told))
(place / "request.json").unlink()
os.replace(place / "new", place / "result.json")
"""


def played_by(house: House, monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """Let a program of ours be what the daemon starts as its trainer."""
    command = (sys.executable, "-c", program)
    monkeypatch.setattr(succession_retrain, "TrainerChild", partial(TrainerChild, command=command))
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    monkeypatch.setattr(retraining(house), "_environ", environ)


async def ended(house: House) -> None:
    """Wait for the process itself: no clock of ours tells when it ends."""
    waiting = retraining(house)._waiting
    assert waiting is not None
    await waiting
    await house.settle(3.0)


async def test_a_real_trainer_that_answers_brings_its_candidate_into_shadow(
    situation: Situation, better: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = await open_house(situation)
    program = _ANSWERS.format(place=str(house.directory), candidate=better, report=report())
    played_by(house, monkeypatch, program)
    await house.command("retrain")
    await ended(house)
    assert (house.life.phase, house.life.candidate) == (Phase.SHADOW, better)
    await house.die()


@pytest.mark.fault(58)
async def test_a_real_trainer_that_crashes_is_told_in_its_own_words(
    situation: Situation, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = await open_house(situation)
    played_by(house, monkeypatch, "raise RuntimeError('no candles')")
    await house.command("retrain")
    await ended(house)
    assert newest(house).reason == "no result: ended with exit code 1: RuntimeError: no candles"
    await trades_on(house)
