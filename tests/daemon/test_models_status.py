"""Where the ensembles stand: of a life, and by the journal alone."""

from dataclasses import replace

import pytest

from daemon.errors import DataError
from daemon.model_life import Cause, Outcome, Phase, of_confirmed, of_pinned
from daemon.models_status import DriftStatus, ModelsStatus, as_journalled
from daemon.ports import Entry, Record
from tests.fakes import model_steps as steps
from tests.fakes.model_steps import NEW, OLD, at

IN_SHADOW = (steps.found(), steps.requested(), steps.trained(Outcome.CANDIDATE), steps.shadowed())


def mark(seq: int, phase: str = "shadow", **changes: object) -> Entry:
    return Entry(seq=seq, at_ms=0, kind="shadow", payload=steps.compared(phase, **changes))


def journalled(*records: Record, compared: Entry | None = None) -> ModelsStatus:
    told = as_journalled(steps.entries(*records), compared)
    assert told is not None
    return told


def test_a_journal_without_a_step_says_nothing() -> None:
    assert as_journalled([], None) is None
    assert as_journalled([], mark(3)) is None


def test_a_shadow_is_told_in_basis_points_with_the_probability_of_the_candidate() -> None:
    told = journalled(*IN_SHADOW, compared=mark(9))
    assert (told.serving, told.since_ms, told.candidate, told.phase) == (OLD, at(0), NEW, Phase.SHADOW)
    assert told.shadow is not None
    assert (told.shadow.decisions, told.shadow.of, told.shadow.p) == (31, 200, 0.22)
    assert told.shadow.ahead_bp == pytest.approx(0.4)
    assert told.watch is None


def test_what_was_compared_before_is_not_this_comparison() -> None:
    told = journalled(*IN_SHADOW, compared=mark(3))  # the shadow began with entry 4
    assert told.shadow is not None
    assert (told.shadow.decisions, told.shadow.of, told.shadow.p) == (0, 200, 1.0)


def test_a_watch_is_told_as_the_lead_of_the_one_that_serves() -> None:
    promoted = (*IN_SHADOW, steps.serves())
    told = journalled(*promoted, compared=mark(9, "watch", count=12, of=60, lead=-0.012, p_worse=0.3))
    assert (told.serving, told.previous, told.candidate, told.phase) == (NEW, OLD, "", Phase.WATCH)
    assert told.watch is not None
    assert (told.watch.decisions, told.watch.of, told.watch.ahead, told.watch.p) == (12, 60, -0.012, 0.3)
    before = journalled(*promoted, compared=mark(5))
    assert before.watch is not None
    assert (before.watch.decisions, before.watch.of) == (0, 60)


@pytest.mark.parametrize(
    "end",
    [steps.dropped(), steps.serves(OLD, NEW, Cause.ROLLBACK), of_confirmed(NEW, 0, figures={})],
    ids=["dropped", "rolled back", "confirmed"],
)
def test_when_nothing_is_compared_nothing_is_told_of_it(end: Record) -> None:
    told = journalled(*IN_SHADOW, steps.serves(), end, compared=mark(99))
    assert (told.phase, told.shadow, told.watch) == (Phase.STEADY, None, None)


def test_it_has_the_documented_form() -> None:
    life = steps.life_after(*IN_SHADOW, of_pinned(at(8), is_pinned=True, source="hand"))
    drift = DriftStatus(joint=0.84, limit=2.0, features=(("return_1", 3.1), ("flow_24", 2.0)))
    told = ModelsStatus.of(
        life, steps.compared(), horizon=200, next_retrain_ms=at(14), drift=drift, progress="member 3 of 5"
    ).to_json()
    assert told == {
        "serving": OLD,
        "since_ms": at(0),
        "previous": "",
        "phase": "shadow",
        "pinned": True,
        "candidate": NEW,
        "shadow": {"decisions": 31, "of": 200, "ahead_bp": pytest.approx(0.4), "p": 0.22},
        "watch": None,
        "retrain": {
            "request": "a", "by": "schedule", "at_ms": at(7), "scheduled_ms": at(7), "outcome": "candidate",
            "reason": "", "candidate": NEW, "ended_ms": at(7.5),
        },
        "next_retrain_ms": at(14),
        "drift": {
            "joint": 0.84,
            "limit": 2.0,
            "features": [{"name": "return_1", "distance": 3.1}, {"name": "flow_24", "distance": 2.0}],
        },
        "progress": "member 3 of 5",
        "fault": "",
    }  # fmt: skip


def test_an_entry_that_cannot_be_read_is_named() -> None:
    first, second = steps.entries(steps.found(), steps.requested())
    with pytest.raises(DataError, match=r"journal entry 2 \(model\) cannot be read: .*sacd journal verify"):
        as_journalled([first, replace(second, payload={"step": "jump", "at_ms": 0})], None)
    lacking = {key: value for key, value in steps.compared().items() if key != "p_better"}
    with pytest.raises(DataError, match=r"journal entry 9 \(shadow\) cannot be read: KeyError 'p_better'"):
        journalled(*IN_SHADOW, compared=replace(mark(9), payload=lacking))
