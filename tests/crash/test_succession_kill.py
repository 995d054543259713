"""kill -9 around every step by which one ensemble takes the place of another: the old one serves or the new one."""

import itertools
import json
import random
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from daemon import journal_reader
from daemon.model_life import Life
from daemon.models import load_bundle, serving_names
from daemon.replay import replay
from tests.crash.file_operations import Operation
from tests.crash.nursery import last_state, order_ids, story
from tests.crash.succession_nursery import FOREVER, KILLED, Death, SuccessionNursery
from tests.succession.accounts import entries, steps
from tests.succession.planted import HOUR_MS
from tests.succession.retold import retold, told
from tests.succession.swift import Swift, make_swift

ENSEMBLES = ("candle", "decision", "shadow", "drift", "model")
BEGINNING = "the beginning"
SWAPS = ("the promotion", "the rollback")
SPREAD, AIMED, KILLS = 26, 3, 40
"""Random deaths over all candles, at each swap, and how many of all come true: one that is late misses its life."""


@dataclass(frozen=True, kw_only=True)
class Moment:
    """An account that has just been stopped, before a candle after which something happens to its ensembles.

    operations: on the registry, when nothing interrupts it.
    """

    place: Swift
    next_ms: int
    operations: Sequence[Operation] = ()


@dataclass(frozen=True, kw_only=True)
class Whole:
    """A life that nothing interrupted, and what it was before each of its turns."""

    place: Swift
    moments: Mapping[str, Moment]


# ---- what must be so ----------------------------------------------------------------------------------------------
def without_clock(kind: str, payload: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """Return a record without the moment at which a person would have read it on the wall."""
    return kind, {key: value for key, value in payload.items() if not (kind == "model" and key == "at_ms")}


def tale(journal: Path, until_ms: int) -> list[tuple[str, Mapping[str, Any]]]:
    """Return what happened to the ensembles and by them, up to the candle that opens then."""
    told_of = []
    for entry in entries(journal, *ENSEMBLES):
        if entry.kind == "candle" and entry.payload["open_ms"] >= until_ms:
            break
        told_of.append(without_clock(entry.kind, entry.payload))
    return told_of


def account(journal: Path, until_ms: int) -> list[tuple[str, Mapping[str, Any]]]:
    """Return what happened to the account, up to the candle that opens then: what it fills comes before it."""
    told_of = story(journal)
    ends = [i for i, (kind, payload) in enumerate(told_of) if kind == "candle" and payload["open_ms"] < until_ms]
    decided = itertools.takewhile(lambda told: told[0] == "decision", told_of[ends[-1] + 1 :])
    return [*told_of[: ends[-1] + 1], *decided]


def last_companion(journal: Path) -> dict[str, Any]:
    """Return the state of what accompanies the account that a clean stop has written."""
    checkpoint = journal_reader.last_of_kind(journal, "checkpoint")
    assert checkpoint is not None
    state = json.loads(json.dumps(checkpoint.payload["companion"]))
    del state["life"]["since_ms"]
    return dict(state)


def check_one_serves(place: Swift) -> None:
    """Whatever was killed, the registry leads to one whole ensemble, the old one or the new one."""
    target = (place.registry / "current").resolve()
    assert target.name in {place.incumbent, place.candidate}
    assert load_bundle(target).manifest.short_id == target.name


def check_sound(place: Swift) -> None:
    """What holds of every journal, however often its account was killed, and whenever its swaps came."""
    assert journal_reader.verify(place.journal).is_sound
    check_models(place.journal)
    check_swaps(place.journal)
    marks, left = retold(place.journal, place.registry)
    assert told(place.journal) == marks, "no comparison is lost, doubled or otherwise than its candles say"
    trial = last_companion(place.journal)["trial"]
    assert (None if trial is None else trial["pair"]) == left
    again = replay(place.journal, place.registry)
    assert (again.differ, again.first) == (0, [])
    ids = order_ids(story(place.journal))
    assert len(ids) == len(set(ids))
    fills = [entry.payload["fill_id"] for entry in entries(place.journal, "fill")]
    assert len(fills) == len(set(fills))


def check_models(journal: Path) -> None:
    """Each decision is that of the ensemble which the run before it names, and which serves by the steps before it."""
    run, life = "", Life()
    for entry in entries(journal, "run", "model", "decision"):
        if entry.kind == "run":
            run = entry.payload["model"][:16]
        elif entry.kind == "model":
            life = life.after(entry.payload)
        else:
            assert entry.payload["model"] == run == life.serving, entry


def check_swaps(journal: Path) -> None:
    """Each swap that was begun has one end, before the next one begins."""
    begun = None
    for entry in entries(journal, "model"):
        step, payload = entry.payload["step"], entry.payload
        if step == "swapping":
            assert begun is None, f"{entry} comes before the end of {begun}"
            begun = payload["new"]
        elif step in {"serving", "swap_failed"} and payload["cause"] != "found":
            assert begun == payload["model" if step == "serving" else "new"], entry
            begun = None
    assert begun is None


# ---- lives --------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def nursery() -> Iterator[SuccessionNursery]:
    with SuccessionNursery() as nursery:
        yield nursery


@pytest.fixture(scope="module")
def whole(nursery: SuccessionNursery, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    place = make_swift(tmp_path_factory.mktemp("whole"), journal={"checkpoint_every": 37})
    began = lived(nursery, place, place.shadow_ms)
    assert began == []
    start = place.copied(place.root / "start")
    made = lived(nursery, place, FOREVER)
    assert [step for step, _ in steps(place.journal)] == ["serving", "shadow", *["swapping", "serving"] * 2]
    check_sound(place)
    moments, before, past = {BEGINNING: Moment(place=start, next_ms=place.shadow_ms)}, start, list[Operation]()
    half = len(made) // 2
    for number, operations in enumerate((made[:half], made[half:])):
        name, at_ms = SWAPS[number], _before_swap(place.journal, number)
        before = before.copied(place.root / name)
        assert lived(nursery, before, at_ms) == past
        moments[name] = Moment(place=before, next_ms=at_ms, operations=operations)
        past = operations
    return Whole(place=place, moments=moments)


def lived(nursery: SuccessionNursery, place: Swift, end_ms: int) -> list[Operation]:
    """Let an account live to its end, or `end_ms`; returns the operations of its swaps."""
    code, made = nursery.live(place, end_ms)
    assert code == 0, place.config.with_suffix(".log").read_text(encoding="utf-8")[-2_000:]
    return [named(operation, place) for operation in made]


def named(operation: Operation, place: Swift) -> Operation:
    """Return an operation with paths as they are in any registry."""
    arguments = tuple(argument.removeprefix(str(place.registry)) for argument in operation.arguments)
    return Operation(call=operation.call, arguments=arguments)


def _before_swap(journal: Path, number: int) -> int:
    """Return the open time of the candle that the swap follows."""
    at_ms, swaps = 0, itertools.count()
    for entry in entries(journal, "candle", "model"):
        if entry.kind == "candle":
            at_ms = entry.payload["open_ms"]
        elif entry.payload["step"] == "swapping" and next(swaps) == number:
            break
    return int(at_ms)


def killed(nursery: SuccessionNursery, place: Swift, death: Death) -> None:
    code, _ = nursery.live(place, death=death)
    assert code in KILLED, f"{death} did not happen: {code}"
    check_one_serves(place)


def goes_on(nursery: SuccessionNursery, place: Swift, whole: Whole, hours: int) -> None:
    """Let an account that was killed live on for so many candles, and compare it with the one that never was."""
    end_ms = journal_newest_ms(place.journal) + hours * HOUR_MS
    lived(nursery, place, end_ms)
    check_one_serves(place)
    assert journal_reader.verify(place.journal).is_sound
    check_models(place.journal)
    check_swaps(place.journal)
    assert tale(place.journal, end_ms) == tale(whole.place.journal, end_ms)
    assert account(place.journal, end_ms) == account(whole.place.journal, end_ms)


def journal_newest_ms(journal: Path) -> int:
    newest = journal_reader.last_of_kind(journal, "candle")
    assert newest is not None
    return int(newest.payload["open_ms"])


def phase(journal: Path) -> str:
    """Return what was going on when the journal was last written."""
    life = Life()
    for entry in entries(journal, "model"):
        life = life.after(entry.payload)
    return life.phase.value


def after(whole: Whole, name: str) -> tuple[str, str]:
    """Return what the links of the registry lead to once a swap is done."""
    place = whole.place
    pair = place.candidate, place.incumbent
    return pair if name == SWAPS[0] else pair[::-1]


# ---- one kill at a time -------------------------------------------------------------------------------------------
@pytest.fixture(params=SWAPS)
def swap(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def around(operations: Sequence[Operation], kinds: Callable[[Operation], bool]) -> list[Death]:
    chosen = [index for index, operation in enumerate(operations) if kinds(operation)]
    return [Death(operation=index, side=side) for index in chosen for side in ("before", "after")]


def changes_a_link(operation: Operation) -> bool:
    """Whether the registry reads otherwise after it; a kill does not lose what is not synced yet."""
    return operation.call not in {"open", "fsync"}


def check_killed_at_each(
    nursery: SuccessionNursery, whole: Whole, swap: str, deaths: Sequence[Death], root: Path
) -> None:
    moment, served = whole.moments[swap], []
    for death in deaths:
        place = moment.place.copied(root)
        killed(nursery, place, death)
        served.append(serving_names(place.registry)[0])
        goes_on(nursery, place, whole, hours=2)
        assert serving_names(place.registry) == after(whole, swap)
        shutil.rmtree(root)
    new, old = after(whole, swap)
    assert served == sorted(served, key=[old, new].index), "once it has happened it stays"
    assert set(served) == {old, new}


@pytest.mark.fault(42)
def test_killed_around_every_change_of_a_link_the_account_goes_on_as_if_nothing_had_happened(
    swap: str, nursery: SuccessionNursery, whole: Whole, tmp_path: Path
) -> None:
    operations = whole.moments[swap].operations
    calls = [operation.call for operation in operations if changes_a_link(operation)]
    assert sorted(calls) == ["replace", "replace", "symlink", "symlink"]
    check_killed_at_each(nursery, whole, swap, around(operations, changes_a_link), tmp_path / "life")


@pytest.mark.soak
@pytest.mark.timeout(1_800)
@pytest.mark.fault(42)
def test_killed_around_every_file_operation_the_account_goes_on_as_if_nothing_had_happened(
    swap: str, nursery: SuccessionNursery, whole: Whole, tmp_path: Path
) -> None:
    deaths = around(whole.moments[swap].operations, lambda _: True)
    check_killed_at_each(nursery, whole, swap, deaths, tmp_path / "life")


@pytest.mark.fault(42)
def test_killed_at_each_step_of_a_swap_and_again_while_it_is_taken_up_the_account_goes_on(
    swap: str, nursery: SuccessionNursery, whole: Whole, tmp_path: Path
) -> None:
    # At the second start what is left of it is done while the run begins, two transactions in: around each of them.
    begins = [Death(append=number, side=side) for number in (1, 2) for side in ("before", "after")]
    for deaths in (
        [Death(point="swapping"), Death(point="swapping"), Death(point="linked"), *begins],
        [Death(point="serving")],
    ):
        place = whole.moments[swap].place.copied(tmp_path / "life")
        for death in deaths:
            killed(nursery, place, death)
        goes_on(nursery, place, whole, hours=6)
        assert serving_names(place.registry) == after(whole, swap)
        shutil.rmtree(place.root)


@pytest.mark.fault(42)
def test_killed_as_soon_as_a_shadow_is_on_disk_it_goes_on_and_does_not_begin_again(
    nursery: SuccessionNursery, whole: Whole, tmp_path: Path
) -> None:
    place = whole.moments[BEGINNING].place.copied(tmp_path)
    killed(nursery, place, Death(point="shadowing"))
    goes_on(nursery, place, whole, hours=30)
    assert [step for step, _ in steps(place.journal)] == ["serving", "shadow"]


def test_told_to_stop_in_the_middle_of_a_swap_it_ends_in_order_and_the_next_run_ends_the_swap(
    swap: str, nursery: SuccessionNursery, whole: Whole, tmp_path: Path
) -> None:
    link = [change.call for change in whole.moments[swap].operations].index("replace")
    moments = [Death(point=point, by="SIGTERM") for point in ("swapping", "linked", "serving")]
    for death in (*moments, Death(operation=link, side="before", by="SIGTERM")):
        place = whole.moments[swap].place.copied(tmp_path / "life")
        code, _ = nursery.live(place, death=death)
        assert code == 0
        assert [entry.payload["reason"] for entry in entries(place.journal, "stop")][-1] == "SIGTERM received"
        check_one_serves(place)
        goes_on(nursery, place, whole, hours=3)
        assert serving_names(place.registry) == after(whole, swap)
        shutil.rmtree(place.root)


# ---- many kills ---------------------------------------------------------------------------------------------------
def random_deaths(whole: Whole) -> list[Death | None]:
    """Return deaths at any instruction, in the order of candles; None: while it starts.

    Most are spread over all candles, some fall on those after which there is a swap.
    """
    moments, begin_ms = random.Random(42), whole.moments[BEGINNING].next_ms
    stretch_ms = (journal_newest_ms(whole.place.journal) - begin_ms) // SPREAD
    spread = [
        Death(alarm_ms=begin_ms + round((i + moments.random()) * stretch_ms), alarm_s=moments.uniform(0.0, 0.015))
        for i in range(SPREAD)
    ]
    aimed = [
        Death(alarm_ms=whole.moments[name].next_ms, alarm_s=moments.uniform(0.0, 0.06))
        for name in SWAPS
        for _ in range(AIMED)
    ]
    deaths = sorted([*spread, *aimed], key=lambda death: death.alarm_ms)
    return [death for i, own in enumerate(deaths) for death in ((own, None) if i % 3 == 0 else (own,))]


@pytest.mark.fault(42)
def test_an_account_that_was_killed_often_from_shadow_to_rollback_equals_one_that_never_was(
    nursery: SuccessionNursery, whole: Whole, tmp_path: Path
) -> None:
    place, moments = whole.moments[BEGINNING].place.copied(tmp_path), random.Random(7)
    kills, phases = 0, set()
    for death in random_deaths(whole):
        delay_s = moments.uniform(0.0, 0.3) if death is None else None
        code, _ = nursery.live(place, death=death, delay_s=delay_s)
        kills += code in KILLED
        assert code in {*KILLED, 0}
        check_one_serves(place)
        phases.add(phase(place.journal))
    assert kills >= KILLS
    assert phases == {"steady", "shadow", "watch"}
    lived(nursery, place, FOREVER)
    check_sound(place)
    assert tale(place.journal, FOREVER) == tale(whole.place.journal, FOREVER)
    assert story(place.journal) == story(whole.place.journal)
    assert last_state(place.journal) == last_state(whole.place.journal)
    assert last_companion(place.journal) == last_companion(whole.place.journal)
    assert serving_names(place.registry) == serving_names(whole.place.registry)


@pytest.mark.fault(42)
def test_where_candles_do_not_wait_for_swaps_every_kill_leaves_a_journal_that_holds_together(
    nursery: SuccessionNursery, whole: Whole, tmp_path: Path
) -> None:
    # At a pace: as fast as they are taken, candles could end before anybody else has had a turn.
    place = whole.moments[SWAPS[0]].place.copied(tmp_path, market={"candles_per_second": 150.0})
    promotion = [Death(operation=3, side="before"), Death(point="linked"), Death(alarm_s=0.05)]
    for death in promotion:
        assert nursery.live(place, death=death, is_free=True)[0] in KILLED
        check_one_serves(place)
    # When the new one began to serve depends on the machine, and with it whether there is a regret.
    for death in (Death(point="swapping"), Death(point="linked"), Death(alarm_s=0.05)):
        assert nursery.live(place, death=death, is_free=True)[0] in {*KILLED, 0}
        check_one_serves(place)
    code, _ = nursery.live(place, is_free=True)
    assert code == 0
    check_sound(place)
    assert [step for step, _ in steps(place.journal)][:4] == ["serving", "shadow", "swapping", "serving"]
    # The moment of a swap may be another one; what the account lived through is the same.
    mine, its = (entries(journal, "candle") for journal in (place.journal, whole.place.journal))
    assert [entry.payload for entry in mine] == [entry.payload for entry in its]
