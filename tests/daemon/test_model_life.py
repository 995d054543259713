"""The life of the ensembles: what each record means, by hand, and that what is stored comes back."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.model_life import (
    STEPS,
    Cause,
    Life,
    Outcome,
    Phase,
    RetrainBy,
    Swap,
    of_confirmed,
    of_kept,
    of_pinned,
    of_requested,
    of_serving,
    of_shadow,
    of_swap_failed,
    of_swapping,
    of_trained,
)
from daemon.ports import Record
from strategy.errors import BadState

A, B, C = "a" * 16, "b" * 16, "c" * 16
TEST = {"scale": 0.001, "horizon": 200, "least": 20, "alpha": 0.05}


def _serving(model: str, previous: str, cause: Cause, *, watched: bool, at_ms: int = 5) -> Record:
    return of_serving(model, previous, cause, at_ms, detail="why", test=TEST if watched else None)


def _life(*steps: Record) -> Life:
    life = Life()
    for step in steps:
        life = life.after(json.loads(json.dumps(step.payload)))
    return life


FIRST = _serving(A, "", Cause.FOUND, watched=False)
ASKED = of_requested("1" * 16, RetrainBy.SCHEDULE, 10, scheduled_ms=9, incumbent=A)
PASSED = of_trained("1" * 16, Outcome.CANDIDATE, 20, reason="passed", candidate=B, report={})
TRIED = of_shadow(B, A, 21, request="1" * 16, test=TEST)
PROVED = _serving(B, A, Cause.PROVED, watched=True, at_ms=30)


def test_nothing_serves_before_the_first_run() -> None:
    assert (Life().serving, Life().phase, Life().is_retraining) == ("", Phase.STEADY, False)


def test_a_candidate_that_proves_better_serves_and_is_watched_until_it_is_confirmed() -> None:
    life = _life(FIRST, ASKED)
    assert life.is_retraining
    assert life.scheduled_ms == 9
    life = _life(FIRST, ASKED, PASSED, TRIED)
    assert (life.phase, life.candidate, life.serving) == (Phase.SHADOW, B, A)
    assert life.retrain is not None
    assert life.retrain.outcome is Outcome.CANDIDATE
    life = _life(FIRST, ASKED, PASSED, TRIED, PROVED)
    assert (life.phase, life.serving, life.previous, life.since_ms, life.candidate) == (Phase.WATCH, B, A, 30, "")
    assert life.retrain is not None
    assert life.retrain.outcome is Outcome.PROMOTED
    life = life.after(of_confirmed(B, 40, figures={}).payload)
    assert (life.phase, life.serving, life.previous) == (Phase.STEADY, B, A)


def test_a_candidate_that_loses_in_shadow_leaves_the_incumbent_and_says_why() -> None:
    life = _life(FIRST, ASKED, PASSED, TRIED, of_kept(B, 31, reason="behind", figures={"count": 40}))
    assert (life.phase, life.serving, life.candidate) == (Phase.STEADY, A, "")
    assert life.retrain is not None
    assert (life.retrain.outcome, life.retrain.reason, life.retrain.ended_ms) == (Outcome.KEPT, "behind", 31)


def test_a_shadow_put_there_by_hand_says_nothing_of_the_last_retraining() -> None:
    kept = of_trained("1" * 16, Outcome.KEPT, 20, reason="no better", candidate="", report={})
    life = _life(FIRST, ASKED, kept, of_shadow(C, A, 22, request="", test=TEST), of_kept(C, 33, reason="x", figures={}))
    assert life.retrain is not None
    assert (life.retrain.outcome, life.retrain.reason) == (Outcome.KEPT, "no better")


def test_a_rollback_serves_the_former_one_and_nothing_is_watched() -> None:
    swap = Swap(old=B, new=A, cause=Cause.ROLLBACK, detail="behind")
    life = _life(FIRST, ASKED, PASSED, TRIED, PROVED, of_swapping(swap, 50))
    assert (life.swap, life.serving) == (swap, B)
    life = life.after(_serving(A, B, Cause.ROLLBACK, watched=False).payload)
    assert (life.swap, life.serving, life.previous, life.phase) == (None, A, B, Phase.STEADY)


def test_a_swap_that_fails_leaves_everything_as_it_was() -> None:
    before = _life(FIRST, ASKED, PASSED, TRIED)
    swap = Swap(old=A, new=B, cause=Cause.PROVED, detail="ahead")
    after = before.after(of_swapping(swap, 50).payload).after(of_swap_failed(swap, 51, reason="disk full").payload)
    assert after == before


def test_failures_in_a_row_are_counted_until_one_works() -> None:
    failed = of_trained("1" * 16, Outcome.FAILED, 20, reason="crashed", candidate="", report={})
    kept = of_trained("1" * 16, Outcome.KEPT, 20, reason="no better", candidate="", report={})
    assert _life(FIRST, ASKED, failed, ASKED, failed).failures == 2
    assert _life(FIRST, ASKED, failed, ASKED, failed, ASKED, kept).failures == 0


def test_a_request_by_hand_answers_no_moment_of_the_schedule() -> None:
    by_hand = of_requested("2" * 16, RetrainBy.HAND, 30, scheduled_ms=None, incumbent=A)
    assert _life(FIRST, ASKED, PASSED, by_hand).scheduled_ms == 9


def test_a_pin_is_let_go_by_a_person_and_by_a_swap_that_a_person_asked_for() -> None:
    pinned = of_pinned(12, is_pinned=True, source="hand")
    assert _life(FIRST, pinned).is_pinned
    assert not _life(FIRST, pinned, of_pinned(13, is_pinned=False, source="hand")).is_pinned
    assert not _life(FIRST, pinned, _serving(B, A, Cause.HAND, watched=True)).is_pinned
    assert _life(FIRST, pinned, _serving(A, "", Cause.FOUND, watched=False)).is_pinned


_EVERY = (
    FIRST,
    ASKED,
    PASSED,
    TRIED,
    PROVED,
    of_kept(B, 31, reason="behind", figures={}),
    of_swapping(Swap(old=A, new=B, cause=Cause.HAND, detail=""), 60),
    of_swap_failed(Swap(old=A, new=B, cause=Cause.HAND, detail=""), 61, reason="full"),
    of_confirmed(B, 62, figures={}),
    of_pinned(63, is_pinned=True, source="hand"),
)


def test_every_step_is_among_those_tried_here() -> None:
    assert {step.payload["step"] for step in _EVERY} == set(STEPS)


@given(st.lists(st.sampled_from(_EVERY), max_size=12))
def test_whatever_happened_a_checkpoint_brings_it_back(steps: list[Record]) -> None:
    life = _life(*steps)
    assert Life.from_json(json.loads(json.dumps(life.to_json()))) == life


@pytest.mark.parametrize("step", _EVERY, ids=lambda step: str(step.payload["step"]))
def test_a_record_that_lacks_something_is_named(step: Record) -> None:
    def refused(payload: Mapping[str, Any]) -> bool:
        try:
            _life(FIRST, ASKED).after(payload)
        except BadState as error:
            return "model record" in str(error)
        return False

    assert refused({key: value for key, value in step.payload.items() if key != "step"})
    assert refused({**step.payload, "step": "unknown"})
    enumerated = {"by", "outcome", "cause"} & set(step.payload)
    assert all(
        refused({**step.payload, key: "nonsense"})
        for key in enumerated - ({"cause"} if step.payload["step"] == "swap_failed" else set())
    )


@pytest.mark.parametrize("key", ["phase", "swap", "retrain"])
def test_a_stored_life_that_is_none_is_refused(key: str) -> None:
    stored = _life(FIRST, ASKED).to_json()
    with pytest.raises(BadState, match="cannot be read"):
        Life.from_json({**stored, key: {"nonsense": 1}})
