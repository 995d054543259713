"""What accompanies an account outlives every end of the daemon: the next start knows what an unbroken life would."""

import asyncio
import itertools
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase as Stage
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon import crash_points, journal_reader
from daemon.errors import ArtifactError, ConfigError
from daemon.model_life import Phase
from daemon.models import serving_names, set_current
from tests.succession.accounts import Account, entries, state_on_disk, steps
from tests.succession.planted import HOUR_MS, Kind
from tests.succession.retold import retold, told
from tests.succession.swift import SHADOW_AFTER, Swift, make_swift

IN_SHADOW, IN_WATCH = 100, 200
"""Groups after which one is compared and the other has been put in its place."""
STORIES = {
    "of the account": ("candle", "gap", "decision", "order", "fill"),
    "of the ensembles": ("candle", "decision", "shadow", "drift", "model"),
}
"""Kinds whose order counts; whether the venue took an order may stand before or after what was compared meanwhile."""


@dataclass(frozen=True, kw_only=True)
class Whole:
    """A life that nothing interrupted.

    states: after each group of candles.  stories: all that its journal tells.  copies: as it lay there after so many
    groups.
    """

    place: Swift
    states: Sequence[str]
    stories: Mapping[str, Sequence[tuple[str, Mapping[str, Any]]]]
    copies: Mapping[int, Swift]


def late(place: Swift) -> frozenset[int]:
    """Return the candles that come too late to be decided on: some in the shadow, some in the watch."""
    return frozenset(place.planted.start_ms + at * HOUR_MS for at in (60, 61, 62, 150, 205, 206))


def stories(journal: Path) -> Mapping[str, Sequence[tuple[str, Mapping[str, Any]]]]:
    return {
        name: [(entry.kind, entry.payload) for entry in entries(journal, *kinds)] for name, kinds in STORIES.items()
    }


def written(account: Account) -> str:
    return json.dumps(account.state(), sort_keys=True)


async def opened(place: Swift, *, heeds: bool = True) -> Account:
    return await Account.open(place.config, backfilled=late(place), heeds=heeds)


async def begun(place: Swift) -> Account:
    """Open a new account, and let the candidate go into shadow."""
    account = await opened(place)
    await account.trade(SHADOW_AFTER)
    await account.succession.command("shadow", {"model": place.candidate})
    return account


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    place = make_swift(tmp_path_factory.mktemp("whole"), journal={"checkpoint_every": 100_000})

    states, copies = list[str](), dict[int, Swift]()

    async def live() -> None:
        account = await begun(place)
        for at in itertools.count():
            states.append(written(account))
            if at in {0, IN_SHADOW, IN_WATCH}:
                copies[at] = place.copied(place.root / f"copy-{at}")
            try:
                await account.trade(1)
            except StopAsyncIteration:
                break
        await account.stop()

    asyncio.run(live())
    return Whole(place=place, states=states, stories=stories(place.journal), copies=copies)


# ---- what a life without interruptions is -------------------------------------------------------------------------
def test_the_life_has_a_shadow_that_proves_itself_a_watch_that_regrets_and_drift_both_ways(whole: Whole) -> None:
    course = [(step, payload.get("cause")) for step, payload in steps(whole.place.journal)]
    assert course == [
        ("serving", "found"),
        ("shadow", None),
        ("swapping", "proved"),
        ("serving", "proved"),
        ("swapping", "rollback"),
        ("serving", "rollback"),
    ]
    phases = [json.loads(state)["companion"]["life"]["phase"] for state in whole.states]
    assert (phases[IN_SHADOW], phases[IN_WATCH], phases[-1]) == ("shadow", "watch", "steady")
    assert [entry.payload["is_beyond"] for entry in entries(whole.place.journal, "drift")] == [True, False, True]
    assert {entry.payload["side"] for entry in entries(whole.place.journal, "fill")} == {"buy", "sell"}
    counts = [entry.payload["count"] for entry in entries(whole.place.journal, "shadow")]
    watched = counts.index(1, 2)
    assert counts == [*range(watched), *range(1, len(counts) - watched + 1)]


def test_every_comparison_in_the_journal_follows_from_its_candles(whole: Whole) -> None:
    marks, left = retold(whole.place.journal, whole.place.registry)
    assert told(whole.place.journal) == marks
    assert left is None


# ---- ends ---------------------------------------------------------------------------------------------------------
def _is_close_to_a_change(states: Sequence[str], at: int) -> bool:
    phases = {json.loads(state)["companion"]["life"]["phase"] for state in states[max(0, at - 1) : at + 2]}
    return len(phases) > 1


async def _found_after_each(place: Swift, moments: Callable[[int], bool]) -> int:
    """Kill a life at these moments, before and after it heeds what its candles call for; returns how often it was."""
    account, copy, at, compared = await begun(place), place.root / "copy", 0, 0

    def compare() -> None:
        shutil.copytree(account.path.parent, copy)
        assert json.dumps(state_on_disk(account.config, copy / account.path.name), sort_keys=True) == written(account)
        shutil.rmtree(copy)

    try:
        while True:
            await account.take()
            at += 1
            if moments(at):
                compare()
            await account.heed()
            if moments(at):
                compare()
                compared += 2
    except StopAsyncIteration:
        await account.die()
    return compared


@pytest.mark.fault(42)
@pytest.mark.parametrize("checkpoint_every", [100_000, 37], ids=["no checkpoint", "a checkpoint now and then"])
async def test_whatever_candle_a_life_ends_with_the_next_start_knows_all_of_it(
    checkpoint_every: int, whole: Whole, tmp_path: Path
) -> None:
    place = make_swift(tmp_path, journal={"checkpoint_every": checkpoint_every})
    compared = await _found_after_each(place, lambda at: at % 53 == 0 or _is_close_to_a_change(whole.states, at))
    assert compared >= 2 * 8


@pytest.mark.soak
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize(
    ("checkpoint_every", "step"), [(100_000, 3), (37, 2), (8, 1)], ids=["no checkpoint", "some", "many"]
)
async def test_whatever_candle_of_nearly_all_a_life_ends_with_the_next_start_knows_all_of_it(
    checkpoint_every: int, step: int, tmp_path: Path
) -> None:
    place = make_swift(tmp_path, journal={"checkpoint_every": checkpoint_every})
    assert await _found_after_each(place, lambda at: at % step == 0) >= 2 * 280 // step


END = st.sampled_from(["dies", "dies unheard", "stops"])


@pytest.mark.fault(42)
def test_a_life_that_ends_and_begins_again_tells_the_same_story(
    whole: Whole, tmp_path_factory: pytest.TempPathFactory
) -> None:
    @settings(max_examples=3, deadline=None, derandomize=True, phases=[Stage.generate])
    @given(ends=st.lists(st.tuples(st.integers(1, 45), END), min_size=2, max_size=5), often=st.booleans())
    def lives(ends: Sequence[tuple[int, str]], often: bool) -> None:
        root = tmp_path_factory.mktemp("again")
        place = whole.copies[0].copied(root, journal={"checkpoint_every": 29 if often else 100_000})
        asyncio.run(_interrupted(whole, place, ends))
        assert stories(place.journal) == whole.stories
        shutil.rmtree(root)

    lives()


async def _interrupted(whole: Whole, place: Swift, ends: Sequence[tuple[int, str]]) -> None:
    """Live to the end of the candles. ends: after how many groups of them each run but the last ends, and how."""
    at = 0
    for groups, end in ends:
        account = await opened(place)
        assert written(account) == whole.states[at]
        await account.trade(groups - 1)
        await account.take()
        if end != "dies unheard":
            await account.heed()
        await (account.stop() if end == "stops" else account.die())
        at += groups
    account = await opened(place)
    await account.trade_all()
    assert written(account) == whole.states[-1]
    await account.stop()


# ---- what is not there any more -----------------------------------------------------------------------------------
def remove(place: Swift, model: str) -> None:
    shutil.rmtree(place.registry / model)


def damage(place: Swift, model: str) -> None:
    member = next((place.registry / model).glob("*.safetensors"))
    whole = bytearray(member.read_bytes())
    whole[-3] ^= 1
    member.write_bytes(whole)


EACH_WAY = pytest.mark.parametrize("copy", ["dies", "stops"], indirect=True)
LOST_EITHER_WAY = pytest.mark.parametrize(("copy", "harm"), [("dies", remove), ("stops", damage)], indirect=["copy"])


@pytest.fixture
def copy(request: pytest.FixtureRequest, whole: Whole, tmp_path: Path) -> Callable[[int], Swift]:
    """Return what gives a copy of the life as it was after so many groups, ended in one way or the other."""

    def copied(at: int) -> Swift:
        place = whole.copies[at].copied(tmp_path)
        if request.param == "stops":
            asyncio.run(_stopped(place))
        return place

    return copied


async def _stopped(place: Swift) -> None:
    await (await opened(place)).stop()


def lived(place: Swift, groups: int = 9) -> tuple[list[tuple[str, Mapping[str, Any]]], str]:
    """Let the account go on, in two runs; returns the steps that it took, and its last state."""

    async def live() -> str:
        for _ in range(2):
            account = await opened(place)
            await account.trade(groups)
            await account.die()
        return written(account)

    before = len(steps(place.journal))
    state = asyncio.run(live())
    assert journal_reader.verify(place.journal).is_sound
    return steps(place.journal)[before:], state


@pytest.mark.fault(53)
@LOST_EITHER_WAY
def test_a_candidate_that_is_lost_while_nothing_runs_is_dropped_and_the_journal_says_why(
    harm: Callable[[Swift, str], None], copy: Callable[[int], Swift]
) -> None:
    place = copy(IN_SHADOW)
    harm(place, place.candidate)
    [(step, payload)], state = lived(place)
    assert (step, payload["candidate"]) == ("kept", place.candidate)
    assert "it cannot be compared" in payload["reason"]
    assert place.candidate in payload["reason"]
    companion = json.loads(state)["companion"]
    assert (companion["life"]["phase"], companion["life"]["serving"]) == (Phase.STEADY, place.incumbent)
    assert companion["trial"] is None


@pytest.mark.fault(53)
@LOST_EITHER_WAY
def test_a_watch_whose_former_ensemble_is_lost_while_nothing_runs_ends_and_the_journal_says_why(
    harm: Callable[[Swift, str], None], copy: Callable[[int], Swift]
) -> None:
    place = copy(IN_WATCH)
    harm(place, place.incumbent)
    [(step, payload)], state = lived(place)
    assert (step, payload["model"]) == ("confirmed", place.candidate)
    assert "it cannot be compared" in payload["reason"]
    assert place.incumbent in payload["reason"]
    companion = json.loads(state)["companion"]
    assert (companion["life"]["phase"], companion["life"]["serving"]) == (Phase.STEADY, place.candidate)


@pytest.mark.fault(53)
@EACH_WAY
def test_a_candidate_that_is_back_before_anybody_heeded_that_it_was_lost_is_dropped_with_the_reason(
    copy: Callable[[int], Swift], tmp_path: Path
) -> None:
    place = copy(IN_SHADOW)
    aside = (place.registry / place.candidate).rename(tmp_path / "aside")

    async def unheeded() -> None:
        await (await opened(place, heeds=False)).stop()

    asyncio.run(unheeded())
    aside.rename(place.registry / place.candidate)
    [(step, payload)], _ = lived(place)
    assert step == "kept"
    assert "it cannot be compared" in payload["reason"]


# ---- what a person changed meanwhile ------------------------------------------------------------------------------
@EACH_WAY
def test_a_link_that_was_changed_while_nothing_ran_ends_the_shadow_of_the_other(
    copy: Callable[[int], Swift],
) -> None:
    place = copy(IN_SHADOW)
    third = place.planted.add(Kind.OPPOSES)
    set_current(place.registry, third)
    [(dropped, kept), (found, serving)], state = lived(place)
    assert (dropped, kept["candidate"]) == ("kept", place.candidate)
    assert third in kept["reason"]
    assert (found, serving["cause"], serving["model"]) == ("serving", "found", third)
    assert serving["previous"] == place.incumbent
    companion = json.loads(state)["companion"]
    assert (companion["life"]["phase"], companion["life"]["serving"]) == (Phase.STEADY, third)
    assert companion["trial"] is None
    shadows = [entry.payload["count"] for entry in entries(place.journal, "shadow")]
    assert shadows == list(range(len(shadows)))


@EACH_WAY
def test_a_candidate_that_was_put_in_place_by_hand_while_nothing_ran_serves_and_is_in_shadow_no_more(
    copy: Callable[[int], Swift],
) -> None:
    place = copy(IN_SHADOW)
    set_current(place.registry, place.candidate)
    [(step, payload)], state = lived(place)
    assert (step, payload["cause"], payload["model"]) == ("serving", "found", place.candidate)
    assert json.loads(state)["companion"]["life"]["candidate"] == ""


@EACH_WAY
def test_the_former_one_put_back_by_hand_in_a_watch_serves_unwatched(copy: Callable[[int], Swift]) -> None:
    place = copy(IN_WATCH)
    set_current(place.registry, place.incumbent)
    [(step, payload)], state = lived(place)
    assert (step, payload["cause"], payload["model"]) == ("serving", "found", place.incumbent)
    companion = json.loads(state)["companion"]
    assert (companion["life"]["phase"], companion["life"]["previous"]) == (Phase.STEADY, place.candidate)


@EACH_WAY
@pytest.mark.parametrize("limit", [0.01, 0.4])
def test_another_drift_limit_than_before_counts_from_now_on_and_doubles_no_record(
    limit: float, copy: Callable[[int], Swift]
) -> None:
    place = copy(IN_SHADOW)
    place.configure(retrain={"drift_limit": limit})
    before = entries(place.journal, "drift")
    taken, state = lived(place)
    assert taken == []
    marks, _ = retold(place.journal, place.registry)
    assert told(place.journal) == marks
    after = entries(place.journal, "drift")[len(before) :]
    assert [entry.payload["is_beyond"] for entry in after] == ([True] if limit == 0.01 else [])
    assert json.loads(state)["companion"]["is_drifted"] is (limit == 0.01)


# ---- two things at once -------------------------------------------------------------------------------------------
class Killed(BaseException):
    """Ends a run at a crash point."""


def killed_at(point: str, place: Swift, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the account go on until it is killed there."""

    def at(name: str) -> None:
        if name == point:
            raise Killed

    async def live() -> None:
        account = await opened(place, heeds=False)
        with pytest.raises(Killed):
            await account.trade_all()
        await account.die()

    with monkeypatch.context() as patch:
        patch.setattr(crash_points, "hook", at)
        asyncio.run(live())


def course(taken: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    return [step for step, _ in taken]


@pytest.mark.fault(42)
@pytest.mark.parametrize("point", ["swapping", "linked"])
def test_a_swap_that_was_killed_gives_way_to_an_ensemble_that_a_person_put_in_place_meanwhile(
    point: str, whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = whole.copies[IN_SHADOW].copied(tmp_path)
    killed_at(point, place, monkeypatch)
    third = place.planted.add(Kind.OPPOSES)
    set_current(place.registry, third)
    taken, state = lived(place)
    assert course(taken) == ["swap_failed", "kept", "serving"]
    (_, failed), (_, kept), (_, serving) = taken
    assert (failed["new"], kept["candidate"]) == (place.candidate, place.candidate)
    assert "another ensemble was put in place" in failed["reason"]
    assert (serving["cause"], serving["model"]) == ("found", third)
    life = json.loads(state)["companion"]["life"]
    assert (life["serving"], life["swap"], life["candidate"]) == (third, None, "")


@pytest.mark.fault(42)
@pytest.mark.fault(53)
@pytest.mark.parametrize("harm", [remove, damage])
@pytest.mark.parametrize("point", ["swapping", "linked"])
def test_a_swap_that_was_killed_and_whose_candidate_is_lost_leaves_the_incumbent(
    point: str, harm: Callable[[Swift, str], None], whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = whole.copies[IN_SHADOW].copied(tmp_path)
    killed_at(point, place, monkeypatch)
    harm(place, place.candidate)
    if point == "linked":
        # What trades is what is configured, or nothing.
        with pytest.raises((ArtifactError, ConfigError), match=f"models/current|{place.candidate}"):
            asyncio.run(opened(place))
        set_current(place.registry, place.incumbent)
    taken, state = lived(place)
    assert course(taken) == ["swap_failed", "kept"]
    assert all(place.candidate in payload["reason"] for _, payload in taken)
    life = json.loads(state)["companion"]["life"]
    assert (life["serving"], life["swap"], life["phase"]) == (place.incumbent, None, Phase.STEADY)
    assert serving_names(place.registry)[0] == place.incumbent


def answer(place: Swift, request: str, candidate: str) -> None:
    """Leave what a trainer leaves that has made a candidate."""
    report = {
        "data": {
            "symbols": ["BTC/USDT", "ETH/USDT"],
            "start_ms": 1,
            "end_ms": 3,
            "holdout_from_ms": 2,
            "files": [],
            "days_unseen": 30.0,
        },
        "gate": [{"name": "drawdown", "value": 0.1, "threshold": 0.2, "passed": True, "words": "10 % of 20 %"}],
        "difference": {"mean_bp": 5.0, "spread": 0.005, "per": "decision", "count": 100},
        "trials": 1,
        "seconds": 1.0,
        "members": 3,
    }
    told = {"format": 1, "request": request, "outcome": "candidate", "candidate": candidate, "reason": "it passed"}
    directory = place.journal.parent / "retrain"
    (directory / "request.json").unlink()
    (directory / "result.json").write_text(json.dumps({**told, "report": report}))


async def _asked(place: Swift) -> str:
    """Ask for a retraining by hand; returns its request."""
    account = await opened(place)
    await account.succession.command("retrain", {})
    await account.die()
    retrain = account.life.retrain
    assert retrain is not None
    return retrain.request


@pytest.mark.fault(60)
@pytest.mark.parametrize("is_killed", [False, True], ids=["", "killed before what the trainer left is removed"])
def test_a_retraining_that_ends_while_another_candidate_is_in_shadow_takes_its_place_once(
    is_killed: bool, whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = whole.copies[IN_SHADOW].copied(tmp_path, retrain={"runner": "unit"})
    request, before = asyncio.run(_asked(place)), len(steps(place.journal))
    third = place.planted.add(Kind.OPPOSES)
    answer(place, request, third)
    if is_killed:
        killed_at("shadowing", place, monkeypatch)
    _, state = lived(place)
    taken = steps(place.journal)[before:]
    assert course(taken) == ["trained", "kept", "shadow"]
    assert [taken[1][1]["candidate"], taken[2][1]["candidate"]] == [place.candidate, third]
    assert taken[2][1]["test"]["scale"] == 0.005
    assert not (place.journal.parent / "retrain" / "result.json").exists()
    life = json.loads(state)["companion"]["life"]
    assert (life["candidate"], life["request"], life["phase"]) == (third, request, Phase.SHADOW)


@pytest.mark.fault(60)
def test_half_a_bundle_that_a_trainer_names_never_goes_into_shadow(whole: Whole, tmp_path: Path) -> None:
    place = whole.copies[0].copied(tmp_path, retrain={"runner": "unit"})
    request, before = asyncio.run(_asked(place)), len(steps(place.journal))
    third = place.planted.add(Kind.OPPOSES)
    next((place.registry / third).glob("*.safetensors")).unlink()
    answer(place, request, third)
    lived(place)
    [(step, payload)] = steps(place.journal)[before:]
    assert (step, payload["outcome"]) == ("trained", "failed")
    assert third in payload["reason"]
    assert {entry.payload["new"] for entry in entries(place.journal, "shadow")} == {place.candidate}


def test_a_retraining_that_ends_in_a_watch_is_heard_after_the_rollback_whatever_ends_between(
    whole: Whole, tmp_path: Path
) -> None:
    place = whole.copies[IN_WATCH].copied(tmp_path, retrain={"runner": "unit"})
    request, before = asyncio.run(_asked(place)), len(steps(place.journal))
    third = place.planted.add(Kind.OPPOSES)
    answer(place, request, third)
    lived(place, groups=1)
    assert steps(place.journal)[before:] == []
    lived(place, groups=25)
    assert course(steps(place.journal)[before:]) == ["swapping", "serving", "trained", "shadow"]
    assert steps(place.journal)[-1][1]["candidate"] == third
