"""Which ensemble serves next: shadow, swap, watch, rollback, and what a person asks meanwhile.

Most tests end with `check_memory`: what is in the journal, folded again, is what is in memory.
"""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from daemon import succession
from daemon.errors import ArtifactError, FatalError, NotArmed, SacdError
from daemon.events import CommandTaken, DriftMarked, ModelStep, ShadowMarked
from daemon.model_life import Cause, Outcome, Phase
from daemon.models import set_current
from daemon.registry_links import serving_names
from tests.daemon.engines import BUY, HOLD, SELL
from tests.daemon.live_places import write_evaluation
from tests.daemon.successions import House, Part, Situation, as_live, breaking, make_situation, open_house

UP, DOWN = 1.01, 0.99


@pytest.fixture
def situation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Situation:
    return make_situation(tmp_path, monkeypatch)


@pytest.fixture
def better(situation: Situation) -> str:
    """An ensemble that buys, where the incumbent holds: better while prices rise."""
    return situation.add(6, BUY)


async def move(house: House, factor: float, candles: int) -> None:
    """Let prices rise or fall from where they are."""
    last = house.memory.last
    price = next(iter(last.values())).close if last else 100.0
    for _ in range(candles):
        price *= factor
        await house.candle(price)


async def promoted(house: House, model: str) -> None:
    """Let a candidate prove itself in shadow, and serve."""
    await house.command("shadow", model=model)
    for _ in range(9):
        await move(house, UP, 1)
        if house.life.phase is Phase.WATCH:
            return
    raise AssertionError(f"not promoted: {house.succession.status()}")


def named(logs: list[Any], event: str) -> list[Mapping[str, Any]]:
    return [line for line in logs if line["event"] == event]


class Killed(BaseException):
    """The process ends here: nothing catches it."""


# ---- from shadow to serving -------------------------------------------------------------------------------------
async def test_the_first_run_finds_the_configured_ensemble(situation: Situation) -> None:
    house = await open_house(situation)
    assert house.steps == ["serving"]
    assert (house.life.serving, house.life.previous, house.life.phase) == (house.found, "", Phase.STEADY)
    told = house.succession.status()
    assert (told.serving, told.shadow, told.watch, told.retrain, told.fault) == (house.found, None, None, None, "")
    await (await house.again()).die()
    assert house.steps == ["serving"]
    house.check_memory()


async def test_a_candidate_that_does_better_serves_between_two_candles_and_is_confirmed(
    situation: Situation, better: str
) -> None:
    house = await open_house(situation)
    old = house.found
    effect = await house.command("shadow", model=better)
    assert effect == f"{better} trades play money beside {old} from the next candle on"
    await move(house, UP, 3)
    standing = house.succession.status()
    assert standing.shadow is not None
    assert (standing.shadow.decisions, standing.shadow.of, standing.candidate) == (2, 10, better)
    await move(house, UP, 3)
    assert house.steps == ["serving", "shadow", "swapping", "serving"]
    assert (house.life.phase, house.life.serving, house.life.previous) == (Phase.WATCH, better, old)
    assert (house.found, serving_names(situation.registry)) == (better, (better, old))
    assert house.last("serving")["cause"] == Cause.PROVED
    decided = len(house.of_kind("decision"))
    await move(house, UP, 5)
    assert {payload["model"] for payload in house.of_kind("decision")[:decided]} == {old}
    assert {payload["model"] for payload in house.of_kind("decision")[decided:]} == {better}
    assert house.steps[-1] == "confirmed"
    assert (house.life.phase, house.life.serving, house.life.previous) == (Phase.STEADY, better, old)
    assert house.succession.status().watch is None
    house.check_memory()


async def test_whoever_watches_is_told_of_every_step_and_of_every_comparison(situation: Situation, better: str) -> None:
    house = await open_house(situation)
    await promoted(house, better)
    told = house.events(ModelStep)
    assert [event.payload["step"] for event in told] == house.steps
    assert [event.life.phase for event in told] == [Phase.STEADY, Phase.SHADOW, Phase.SHADOW, Phase.WATCH]
    assert [event.members for event in told] == [3, 0, 0, 3]
    compared = [event.payload for event in house.events(ShadowMarked)]
    assert compared == house.of_kind("shadow")
    assert compared[-1]["p_better"] <= 0.4 < compared[-2]["p_better"]
    assert len(house.events(DriftMarked)) == 6


async def test_step_and_run_record_of_a_swap_are_one_transaction_and_the_links_change_before_it(
    situation: Situation, better: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = await open_house(situation)
    seen = list[list[str]]()

    def watched(registry: Path, name: str) -> None:
        seen.append(list(house.steps))
        set_current(registry, name)

    monkeypatch.setattr(succession, "set_current", watched)
    await house.command("promote", model=better)
    assert seen == [["serving", "swapping"]]
    assert house.journal.batches[-2:] == [["model"], ["model", "run"]]
    (_, run) = house.of_kind("run")
    assert run["model"][:16] == better


async def test_a_candidate_that_does_worse_is_dropped_and_the_incumbent_stays(
    situation: Situation, better: str
) -> None:
    house = await open_house(situation)
    old = house.found
    await house.command("shadow", model=better)
    await move(house, DOWN, 11)
    kept = house.last("kept")
    assert (kept["candidate"], kept["figures"]["new"]) == (better, better)
    assert kept["reason"].startswith("no better: behind by ")
    assert (house.life.phase, house.life.serving, house.found, house.life.candidate) == (Phase.STEADY, old, old, "")
    house.check_memory()


async def test_a_candidate_that_is_not_shown_to_be_better_in_time_is_dropped(situation: Situation) -> None:
    house = await open_house(situation)
    await house.command("shadow", model=situation.add(7, HOLD))
    await move(house, UP, 11)
    assert house.last("kept")["reason"].startswith("not shown to be better: ")
    assert "after 10 decisions" in house.last("kept")["reason"]
    assert house.steps == ["serving", "shadow", "kept"]


async def test_a_candidate_that_fails_in_shadow_is_dropped_and_nothing_else_happens(
    situation: Situation, better: str
) -> None:
    house = await open_house(situation)
    await house.command("shadow", model=better)
    await move(house, UP, 2)
    situation.parts[better].fault = "weights of lead"
    await move(house, UP, 1)
    assert house.last("kept")["reason"] == "the candidate failed: weights of lead"
    assert house.succession.status().fault == ""
    house.check_memory()


async def test_a_candidate_whose_votes_do_not_move_while_the_market_does_is_dropped(
    situation: Situation, better: str
) -> None:
    house = await open_house(situation, retrain={"shadow_decisions": 60, "shadow_alpha": 1e-12})
    await house.command("shadow", model=better)
    await move(house, UP, 24)
    assert house.steps[-1] == "kept"
    assert "every direction beyond 0.99" in house.last("kept")["reason"]


# ---- what holds a promotion back --------------------------------------------------------------------------------
async def test_without_automatic_a_proved_candidate_waits_for_a_person_and_that_is_told_once(
    situation: Situation, better: str
) -> None:
    house = await open_house(situation, retrain={"automatic": False})
    await house.command("shadow", model=better)
    with capture_logs() as logs:
        await move(house, UP, 13)
        await house.settle(600.0)
    assert house.steps == ["serving", "shadow"]
    assert house.life.phase is Phase.SHADOW
    (line,) = named(logs, "candidate_waits")
    assert (line["model"], line["reason"], line["log_level"]) == (better, "[retrain] automatic is false", "warning")
    await house.command("promote", model=better)
    assert house.steps[2:] == ["swapping", "serving"]
    assert house.last("serving")["cause"] == Cause.HAND
    assert house.life.phase is Phase.WATCH
    house.check_memory()


async def test_a_pinned_ensemble_gives_way_to_a_proved_candidate_only_once_it_is_let_go(
    situation: Situation, better: str
) -> None:
    house = await open_house(situation)
    await house.command("pin")
    await house.command("shadow", model=better)
    await move(house, UP, 12)
    assert house.steps == ["serving", "pinned", "shadow"]
    assert house.succession.status().is_pinned
    await house.command("pin", off=True)
    assert house.steps[3:] == ["pinned", "swapping", "serving"]
    assert (house.life.serving, house.life.is_pinned) == (better, False)
    house.check_memory()


async def test_a_pin_keeps_a_watched_ensemble_until_it_is_let_go_and_its_watch_still_ends(
    situation: Situation, better: str
) -> None:
    house = await open_house(situation)
    await promoted(house, better)
    await house.command("pin")
    await move(house, 0.9, 2)
    assert house.life.serving == better
    await house.settle(600.0)
    assert house.steps[-1] == "pinned"
    await house.command("pin", off=True)
    assert house.steps[-2:] == ["swapping", "serving"]
    assert house.last("serving")["cause"] == Cause.ROLLBACK


async def test_a_pinned_ensemble_that_does_well_is_confirmed_all_the_same(situation: Situation, better: str) -> None:
    house = await open_house(situation)
    await promoted(house, better)
    await house.command("pin")
    await move(house, UP, 6)
    assert house.steps[-1] == "confirmed"
    assert house.life.is_pinned


# ---- taken back -------------------------------------------------------------------------------------------------
async def test_a_swap_that_costs_more_than_the_regret_limit_is_taken_back(situation: Situation, better: str) -> None:
    house = await open_house(situation)
    old = house.found
    await promoted(house, better)
    await move(house, 0.9, 1)
    told = house.last("serving")
    assert (told["model"], told["previous"], told["cause"], told["test"]) == (old, better, Cause.ROLLBACK, None)
    assert told["detail"].startswith("the former one is ahead by ")
    assert serving_names(situation.registry) == (old, better)
    assert (house.life.phase, house.engine.model.id) == (Phase.STEADY, old)
    house.check_memory()


async def test_an_ensemble_that_fails_in_its_watch_is_taken_back_at_the_next_look(
    situation: Situation, better: str
) -> None:
    house = await open_house(situation, strategy={"decide_every": 4})
    old = house.found
    await house.command("promote", model=better)
    while situation.at % 4:  # the next candle is no due decision: nothing is compared on it
        await house.candle()
    compared = len(house.events(ShadowMarked))
    situation.parts[better].fault = "a number that is none"
    await house.candle()
    assert len(house.events(ShadowMarked)) == compared
    assert house.last("serving")["detail"] == "it failed: it had no votes on a full window"
    assert (house.life.serving, house.found) == (old, old)
    house.check_memory()


async def test_when_both_fail_the_former_one_serves_again_holds_and_is_told_of(
    situation: Situation, better: str
) -> None:
    house = await open_house(situation)
    old = house.found
    await promoted(house, better)
    for part in situation.parts.values():
        part.fault = "rows of lead"
    await house.candle()
    assert (house.life.serving, house.life.phase) == (old, Phase.STEADY)
    await house.candle()
    assert house.succession.status().fault == "it had no votes on a full window"
    assert house.of_kind("decision")[-1]["why"] == "no_votes"
    for part in situation.parts.values():
        part.fault = ""
    await house.candle()
    assert house.succession.status().fault == ""
    assert house.steps.count("serving") == 3
    house.check_memory()


async def test_an_ensemble_that_fails_with_nothing_to_go_back_to_holds_is_told_once_and_goes_on_when_it_works(
    situation: Situation,
) -> None:
    house = await open_house(situation)
    part = situation.parts[house.found]
    await house.candle()
    with capture_logs() as logs:
        part.fault = "observation 0: input 3 is nan"
        for _ in range(3):
            await house.candle()
        assert house.succession.status().fault == "it had no votes on a full window"
        assert [payload["why"] for payload in house.of_kind("decision")[-3:]] == ["no_votes"] * 3
        part.fault, part.vote = "", BUY
        await house.candle()
        await house.candle()
    (line,) = named(logs, "ensemble_fails")
    assert (line["model"], line["reason"]) == (house.found, "observation 0: input 3 is nan")
    assert line["log_level"] == "error"
    assert len(named(logs, "ensemble_votes_again")) == 1
    assert house.succession.status().fault == ""
    assert house.of_kind("fill")
    assert house.steps == ["serving"]
    house.check_memory()


async def test_a_candle_that_nobody_is_asked_on_does_not_say_that_a_failing_ensemble_works(
    situation: Situation, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = await open_house(situation)
    situation.parts[house.found].fault = "none"
    await house.candle()
    for window in house.trader.features.values():
        monkeypatch.setattr(window, "update", lambda _candle: None)
    await house.candle()
    assert house.of_kind("decision")[-1]["why"] == "warming_up"
    assert house.succession.status().fault == "it had no votes on a full window"


# ---- what a person asks -----------------------------------------------------------------------------------------
async def test_a_promotion_by_hand_is_one_swap_although_it_wakes_whoever_finishes_swaps(
    situation: Situation, better: str
) -> None:
    house = await open_house(situation)
    old = house.found
    effect = await house.command("promote", model=better)
    await house.settle(5.0)
    assert effect == f"{better} serves from the next candle on; {old} is kept for a rollback"
    assert house.steps == ["serving", "swapping", "serving"]
    assert await house.command("promote", model=better) == f"{better} serves already"
    assert house.steps == ["serving", "swapping", "serving"]
    house.check_memory()


async def test_two_promotions_at_once_come_one_after_the_other(situation: Situation, better: str) -> None:
    house = await open_house(situation)
    first, second = better, situation.add(7)
    asked = [
        asyncio.create_task(house.succession.command("promote", {"model": model}))
        for model in (first, second, second, first)
    ]
    await house.settle()
    effects = [task.result() for task in asked]
    assert effects[2] == f"{second} serves already"
    swaps = [e.payload for e in house.journal.entries if e.kind == "model"][1:]
    assert [step["step"] for step in swaps] == ["swapping", "serving"] * 3
    assert [step["model"] for step in swaps[1::2]] == [first, second, first]
    assert [step["previous"] for step in swaps[1::2]] == [house.of_kind("run")[0]["model"][:16], first, second]
    assert (house.found, house.life.serving, house.engine.model.id) == (first, first, first)
    house.check_memory()


async def test_what_is_asked_while_a_proved_candidate_is_put_in_place_comes_after_it(
    situation: Situation, better: str
) -> None:
    house = await open_house(situation, looks=False)
    third = situation.add(7)
    await house.succession.command("shadow", {"model": better})
    await move(house, UP, 6)
    house.journal.gate.clear()
    house.journal.is_asked.clear()
    looking = asyncio.create_task(house.succession._look_at_ensembles())
    await house.journal.is_asked.wait()  # it writes that it is about to swap
    asked = asyncio.create_task(house.succession.command("promote", {"model": third}))
    await house.settle()
    house.journal.gate.set()
    await asyncio.gather(looking, asked)
    assert house.steps == ["serving", "shadow", "swapping", "serving", "swapping", "serving"]
    assert (house.life.serving, house.life.previous, house.found) == (third, better, third)
    house.check_memory()


async def test_a_rollback_by_hand_in_shadow_ends_the_shadow_and_the_retraining_it_came_from(
    situation: Situation, better: str
) -> None:
    house = await open_house(situation)
    old, third = house.found, situation.add(7)
    await house.command("promote", model=third)
    await move(house, 1.0, 6)
    assert house.life.phase is Phase.STEADY
    await house.command("retrain")
    house.answer(candidate=better)
    await house.settle(2.0)
    assert house.life.phase is Phase.SHADOW
    assert await house.command("rollback") == f"{old} serves again from the next candle on"
    assert (house.life.phase, house.life.serving, house.life.candidate) == (Phase.STEADY, old, "")
    retrain = house.life.retrain
    assert retrain is not None
    reason = f"{old} takes the place of {third}, beside which it was tried"
    assert (retrain.outcome, retrain.reason) == (Outcome.KEPT, reason)
    assert house.succession.status().shadow is None
    house.check_memory()


async def test_another_candidate_put_forward_by_hand_takes_the_place_of_the_one_in_shadow(
    situation: Situation, better: str
) -> None:
    house = await open_house(situation)
    other = situation.add(7)
    await house.command("shadow", model=better)
    await move(house, 1.0, 3)
    await house.command("shadow", model=other)
    assert house.journal.batches[-1] == ["shadow", "model", "model"]
    assert house.steps == ["serving", "shadow", "kept", "shadow"]
    assert house.last("kept")["reason"] == f"{other} takes its place in shadow"
    assert house.succession.status().shadow is not None
    await move(house, 1.0, 2)
    compared = house.events(ShadowMarked)[-1].payload
    assert (compared["new"], compared["count"]) == (other, 1)
    house.check_memory()


@pytest.mark.parametrize(
    ("verb", "args", "told"),
    [
        ("rollback", {}, "there is no former ensemble to go back to"),
        ("promote", {}, "which ensemble?"),
        ("promote", {"model": 5}, "which ensemble?"),
        ("promote", {"model": "../../etc"}, "is not 16 hexadecimal digits"),
        ("promote", {"model": "0" * 16}, "No such file or directory"),
        ("shadow", {"model": "0" * 16}, "No such file or directory"),
        ("vanish", {}, "unknown command 'vanish'"),
    ],
)
async def test_what_cannot_be_done_is_refused_and_leaves_no_step(
    situation: Situation, verb: str, args: dict[str, Any], told: str
) -> None:
    house = await open_house(situation)
    with pytest.raises(SacdError, match=told):
        await house.command(verb, **args)
    assert house.steps == ["serving"]


async def test_nothing_is_compared_with_itself_twice_at_once_or_in_a_watch(situation: Situation, better: str) -> None:
    house = await open_house(situation)
    with pytest.raises(SacdError, match="serves already"):
        await house.command("shadow", model=house.found)
    await house.command("shadow", model=better)
    with pytest.raises(SacdError, match="is in shadow already"):
        await house.command("shadow", model=better)
    await house.command("promote", model=better)
    with pytest.raises(SacdError, match=f"{better} is still watched beside the former one"):
        await house.command("shadow", model=situation.add(7))
    assert house.steps == ["serving", "shadow", "swapping", "serving"]


async def test_an_ensemble_named_for_good_is_not_swapped_and_its_trainer_is_still_heard(
    situation: Situation, better: str
) -> None:
    model = {"model": str(situation.place.model)}
    house = await open_house(situation, strategy=model)
    with pytest.raises(ArtifactError, match=r"write the link .*current there instead"):
        await house.command("promote", model=better)
    with capture_logs() as logs:
        await house.command("shadow", model=better)
        await move(house, UP, 8)
        house.answer("kept", request="e" * 16)
        await house.settle(2.0)
    assert house.steps == ["serving", "shadow"]
    assert len(named(logs, "succession_hindered")) == 1
    assert named(logs, "stale_result")


# ---- a swap that fails ------------------------------------------------------------------------------------------
async def test_a_swap_that_fails_is_told_tried_again_ever_later_and_the_incumbent_trades_on(
    situation: Situation, better: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = await open_house(situation)
    old = house.found
    mend = breaking(monkeypatch, "no space left on device")
    with capture_logs() as logs:
        await house.command("shadow", model=better)
        await move(house, UP, 6)
        assert house.steps == ["serving", "shadow", "swapping", "swap_failed"]
        assert house.last("swap_failed")["reason"].endswith("no space left on device")
        assert (house.life.swap, house.life.phase, house.engine.model.id) == (None, Phase.SHADOW, old)
        for pause_s, attempts in ((55.0, 1), (6.0, 2), (112.0, 2), (9.0, 3), (228.0, 3), (13.0, 4)):
            await house.settle(pause_s)
            assert house.steps.count("swap_failed") == attempts
    assert len(named(logs, "succession_hindered")) == 1
    await move(house, UP, 1)
    assert house.of_kind("decision")[-1]["model"] == old
    mend()
    await house.settle(500.0)
    assert house.steps[-2:] == ["swapping", "serving"]
    assert (house.life.serving, house.found) == (better, better)
    house.check_memory()


async def test_links_that_cannot_be_changed_leave_them_and_the_ensemble_as_they_were(
    situation: Situation, better: str
) -> None:
    house = await open_house(situation)
    old = house.found
    (situation.registry / ".current.new").mkdir()  # in the way of every change
    with pytest.raises(ArtifactError, match="its links cannot be changed"):
        await house.command("promote", model=better)
    assert house.steps == ["serving", "swapping", "swap_failed"]
    assert (house.found, house.life.serving, house.engine.model.id) == (old, old, old)
    (situation.registry / ".current.new").rmdir()
    await house.command("promote", model=better)
    assert house.life.serving == better
    house.check_memory()


async def test_a_candidate_that_is_damaged_after_it_went_into_shadow_is_not_put_in_place(
    situation: Situation, better: str
) -> None:
    house = await open_house(situation)
    await house.command("shadow", model=better)
    member = situation.registry / better / "member-1.safetensors"
    member.write_bytes(member.read_bytes()[:-1])
    await move(house, UP, 6)
    assert house.steps == ["serving", "shadow", "swapping", "swap_failed"]
    assert "member-1.safetensors" in house.last("swap_failed")["reason"]
    assert house.found == house.life.serving != better
    house.check_memory()


async def test_one_that_failed_and_cannot_be_taken_back_buys_nothing_more_and_a_person_is_told(
    situation: Situation, better: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = await open_house(situation)
    old = house.found
    await promoted(house, better)
    mend = breaking(monkeypatch, "read-only file system")
    with capture_logs() as logs:
        await move(house, 0.9, 1)
        assert house.steps[-1] == "swap_failed"
        assert not house.trader.risk.is_paused  # somebody else may have been at the links: it is tried once more
        await house.settle(62.0)
        assert house.steps.count("swap_failed") == 2
        assert house.trader.risk.is_paused
        await house.engine.command("resume", "test")
        await house.settle(1_000.0)
    assert not house.trader.risk.is_paused  # who resumes has seen it
    (line,) = named(logs, "paused_for_ensemble")
    assert line["model"] == better
    assert "read-only file system" in line["reason"]
    assert "sacd models promote" in line["remedy"]
    assert [event.source for event in house.events(CommandTaken)] == ["models", "test"]
    mend()
    await house.settle(3_700.0)
    assert house.life.serving == old
    house.check_memory()


# ---- real money -------------------------------------------------------------------------------------------------
async def live_house(situation: Situation, allowed: str = "") -> House:
    """A house whose configuration says that it trades real money, with an incumbent that was found ready."""
    write_evaluation(situation.place.model)
    house = House(situation, as_live(situation.config(), allowed), journal=_journal(situation))
    await house.begin()
    return house


def _journal(situation: Situation) -> Any:
    from tests.daemon.engines import SlowJournal  # noqa: PLC0415 - only where a house is put together by hand

    return SlowJournal(situation.clock)


async def test_live_a_proved_candidate_that_nothing_says_is_ready_is_dropped_with_the_reason(
    situation: Situation, better: str
) -> None:
    house = await live_house(situation)
    old = house.found
    await house.command("shadow", model=better)
    await move(house, UP, 6)
    reason = house.last("kept")["reason"]
    assert reason.startswith("proved in shadow (ahead by ")
    assert f"{better} was never evaluated" in reason
    assert (house.life.serving, house.found, house.life.phase) == (old, old, Phase.STEADY)
    with pytest.raises(NotArmed, match="may not trade real money") as refused:
        await house.command("promote", model=better)
    assert str(refused.value) in reason
    assert house.steps == ["serving", "shadow", "kept"]


async def test_live_a_candidate_that_was_found_ready_serves(situation: Situation, better: str) -> None:
    house = await live_house(situation)
    write_evaluation(situation.registry / better)
    await promoted(house, better)
    assert house.found == better


async def test_live_one_that_is_allowed_by_name_serves_by_hand_and_comes_back_when_the_next_fails(
    situation: Situation, better: str
) -> None:
    house = await live_house(situation, allowed=better)
    await house.command("promote", model=better)
    await move(house, 1.0, 6)
    assert house.life.phase is Phase.STEADY
    ready = situation.add(7, BUY)
    write_evaluation(situation.registry / ready)
    await house.command("promote", model=ready)
    situation.parts[ready].fault = "none"
    await house.candle()
    assert (house.life.serving, house.found) == (better, better)
    assert house.last("serving")["cause"] == Cause.ROLLBACK


async def test_live_nothing_goes_back_to_one_the_next_start_would_refuse_the_one_that_failed_holds_instead(
    situation: Situation, better: str
) -> None:
    house = await live_house(situation)
    old = house.found
    write_evaluation(situation.registry / better)
    await house.command("promote", model=better)
    write_evaluation(situation.registry / old, ready=False, summary="Sharpe 0.1")  # judged anew meanwhile
    with capture_logs() as logs:
        await move(house, 1.0, 2)
        await move(house, 0.9, 1)
        await house.settle(600.0)
    assert (house.life.serving, house.found, house.life.phase) == (better, better, Phase.WATCH)
    assert house.trader.risk.is_paused
    (line,) = named(logs, "paused_for_ensemble")
    assert "Sharpe 0.1" in line["reason"]
    assert house.steps == ["serving", "swapping", "serving"]  # what is not begun leaves no step
    with pytest.raises(NotArmed, match=r"Sharpe 0\.1"):
        await house.command("rollback")
    write_evaluation(situation.registry / old)
    assert await house.command("rollback") == f"{old} serves again from the next candle on"
    house.check_memory()


async def test_live_a_swap_that_a_former_run_began_is_not_carried_out_once_it_is_not_allowed_any_more(
    situation: Situation, better: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = await live_house(situation, allowed=better)
    await killed_while(house, monkeypatch, _before_links, "promote", model=better)
    house = await house.again(as_live(situation.config()))
    assert house.steps == ["serving", "swapping", "swap_failed"]
    assert "may not trade real money" in house.last("swap_failed")["reason"]
    assert house.life.swap is None


# ---- killed, and started again ----------------------------------------------------------------------------------
def _before_links(_registry: Path, _name: str) -> None:
    raise Killed


def _after_links(registry: Path, name: str) -> None:
    set_current(registry, name)
    raise Killed


async def killed_while(
    house: House, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path, str], None], verb: str, **args: Any
) -> None:
    """Let the process end while the links are changed."""
    monkeypatch.setattr(succession, "set_current", change)
    await house.die()
    with pytest.raises(Killed):
        await house.succession.command(verb, args)
    monkeypatch.setattr(succession, "set_current", set_current)


async def test_a_swap_that_was_killed_before_its_links_changed_is_carried_out_by_the_next_run(
    situation: Situation, better: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = await open_house(situation)
    old = house.found
    await killed_while(house, monkeypatch, _before_links, "promote", model=better)
    assert (house.found, house.steps[-1]) == (old, "swapping")
    house = await house.again()
    assert house.steps == ["serving", "swapping", "serving"]
    assert (house.found, house.life.serving, house.life.previous, house.life.phase) == (
        better,
        better,
        old,
        Phase.WATCH,
    )
    house.check_memory()


async def test_a_swap_that_was_killed_after_its_links_had_changed_only_has_to_be_written_down(
    situation: Situation, better: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = await open_house(situation)
    old = house.found
    await killed_while(house, monkeypatch, _after_links, "promote", model=better)
    assert (house.found, house.life.serving) == (better, old)
    house = await house.again()
    assert house.steps == ["serving", "swapping", "serving"]
    assert (house.last("serving")["cause"], house.life.phase) == (Cause.HAND, Phase.WATCH)
    await move(house, 1.0, 2)
    assert house.of_kind("decision")[-1]["model"] == better
    house.check_memory()


async def test_a_proved_candidate_keeps_its_watch_through_a_kill_in_the_middle_of_its_swap(
    situation: Situation, better: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = await open_house(situation, looks=False)
    old = house.found
    await house.succession.command("shadow", {"model": better})
    await move(house, UP, 6)
    monkeypatch.setattr(succession, "set_current", _after_links)
    with pytest.raises(Killed):
        await house.succession._look_at_ensembles()
    monkeypatch.setattr(succession, "set_current", set_current)
    house = await house.again()
    assert house.last("serving")["cause"] == Cause.PROVED
    await move(house, 0.9, 1)
    assert house.life.serving == old
    assert house.last("serving")["cause"] == Cause.ROLLBACK
    house.check_memory()


async def test_another_ensemble_put_in_place_while_nothing_ran_ends_the_swap_that_was_begun(
    situation: Situation, better: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = await open_house(situation)
    await killed_while(house, monkeypatch, _before_links, "promote", model=better)
    third = situation.add(7)
    set_current(situation.registry, third)
    house = await house.again()
    assert house.steps == ["serving", "swapping", "swap_failed", "serving"]
    assert (house.last("serving")["model"], house.last("serving")["cause"]) == (third, Cause.FOUND)
    assert (house.life.swap, house.life.serving, house.life.phase) == (None, third, Phase.STEADY)
    house.check_memory()


async def test_a_link_changed_while_nothing_ran_ends_a_shadow(situation: Situation, better: str) -> None:
    house = await open_house(situation)
    await house.command("shadow", model=better)
    await house.candle()
    third = situation.add(7)
    set_current(situation.registry, third)
    house = await house.again()
    assert (house.life.serving, house.life.phase, house.life.candidate) == (third, Phase.STEADY, "")
    await house.candle()
    assert house.steps == ["serving", "shadow", "kept", "serving"]
    house.check_memory()


async def test_what_a_person_asks_comes_after_the_swap_that_a_former_run_began(
    situation: Situation, better: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = await open_house(situation)
    await killed_while(house, monkeypatch, _before_links, "promote", model=better)
    house = await house.again(looks=False)
    assert await house.command("pin") == (
        f"{better} is pinned: no candidate takes its place and nothing is rolled back until `pin --off`"
    )
    assert house.steps == ["serving", "swapping", "serving", "pinned"]
    assert (house.life.serving, house.life.is_pinned) == (better, True)
    house.check_memory()


@pytest.mark.parametrize("candles", [0, 1, 3, 5, 6, 8])
async def test_a_kill_in_any_phase_changes_nothing_of_what_follows(
    situation: Situation, better: str, candles: int
) -> None:
    house = await open_house(situation)
    await house.command("shadow", model=better)
    await move(house, UP, candles)
    house = await house.again()
    house.check_memory()
    await move(house, UP, 11 - candles)
    assert house.steps == ["serving", "shadow", "swapping", "serving", "confirmed"]
    counts = [payload["count"] for payload in house.of_kind("shadow")]
    assert counts == [0, 1, 2, 3, 4, 5, 1, 2, 3, 4]
    house.check_memory()


async def test_an_end_in_the_middle_of_a_step_waits_until_memory_holds_it_too(
    situation: Situation, better: str
) -> None:
    house = await open_house(situation, looks=False)
    await house.command("shadow", model=better)
    situation.parts[better].fault = "none"
    await house.candle()
    house.journal.gate.clear()
    house.journal.is_asked.clear()
    house.look_after()
    await house.journal.is_asked.wait()  # the candidate is being dropped
    trading = asyncio.create_task(asyncio.sleep(0))
    ending = asyncio.create_task(house.engine.quiesce(trading, house.tasks))
    await house.clock.settle()
    assert not ending.done()
    house.journal.gate.set()
    await ending
    await house.engine.stop("test")
    assert house.steps[-1] == "kept"
    checkpoint = house.of_kind("checkpoint")[-1]
    assert checkpoint["companion"]["life"]["phase"] == "steady"
    await asyncio.wait(house.tasks)
    assert all(task.cancelled() for task in house.tasks)
    house.check_memory()


# ---- a journal that fails ---------------------------------------------------------------------------------------
async def test_a_journal_that_cannot_be_written_ends_whoever_looks_after_the_ensembles(
    situation: Situation, better: str
) -> None:
    house = await open_house(situation)
    await house.command("shadow", model=better)
    situation.parts[better].fault = "none"
    await house.candle(100.0)
    assert house.steps[-1] == "kept"
    house.journal.failure = "no space left"
    with pytest.raises(FatalError, match="no space left"):
        await house.command("pin")
    assert not house.life.is_pinned
    assert house.steps[-1] == "kept"


async def test_a_journal_that_fails_in_the_middle_of_a_look_is_not_passed_over(
    situation: Situation, better: str
) -> None:
    house = await open_house(situation, looks=False)
    await house.command("shadow", model=better)
    situation.parts[better].fault = "none"
    await house.candle()
    house.journal.failure = "no space left"
    house.look_after()
    with pytest.raises(FatalError, match="no space left"):
        await house.settle()
    assert house.life.phase is Phase.SHADOW


async def test_the_schedule_is_told_at_the_start_and_after_every_step(situation: Situation) -> None:
    house = await open_house(situation, retrain={"every_hours": 24.0})
    assert house.next_retrain[-1] == house.succession.status().next_retrain_ms
    told = len(house.next_retrain)
    await house.command("pin")
    assert len(house.next_retrain) == told + 1
    await house.die()
    bare = await open_house(situation, retrain={"every_hours": 0.0})
    assert set(bare.next_retrain) == {None}
    await bare.die()


def test_a_part_holds_sells_and_buys_as_it_is_told() -> None:
    import numpy as np  # noqa: PLC0415 - of this test alone

    part = Part(SELL)
    assert part.act(np.zeros((2, 5), np.float32)).shape == (2, 3, 3)
    assert float(part.act(np.zeros((1, 5), np.float32))[0, 0, 0]) == -1.0
