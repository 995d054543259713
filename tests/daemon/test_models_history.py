"""Which row each step of an account's ensembles ends in, from records as the daemon writes them."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.errors import DataError
from daemon.model_life import Cause, Outcome, RetrainBy, Swap, of_confirmed, of_pinned, of_swapping
from daemon.models_history import HistoryRow, Origin, Standing, history
from daemon.ports import Record
from tests.fakes import model_steps as steps
from tests.fakes.model_steps import NEW, OLD, OTHER, at

GATE = (
    steps.criterion("unseen", "90 days"),
    steps.criterion("drawdown", "0.31 is above 0.25", passed=False, value=0.31),
    steps.criterion("growth", "cannot be told", passed=False, value=None),
)
PROMOTED = (steps.trained(Outcome.CANDIDATE, told=steps.report(7.0)), steps.shadowed(), steps.serves())


def rows(*records: Record) -> list[HistoryRow]:
    return history(steps.entries(*records))


def course(row: HistoryRow) -> list[tuple[str, str]]:
    return [(turn.standing.value, turn.reason) for turn in row.turns]


def test_without_a_record_there_is_no_row() -> None:
    assert rows() == []


def test_a_refused_candidate_is_one_row_with_its_data_its_gate_and_the_verdict() -> None:
    told = steps.report(7.0, *GATE)
    found, refused = rows(steps.found(), steps.requested(), steps.trained(Outcome.KEPT, reason="drawdown", told=told))
    assert (found.origin, found.model, course(found)) == (Origin.FOUND, OLD, [("serves", "the first run")])
    assert (refused.origin, refused.request, refused.model, refused.at_ms) == (Origin.SCHEDULE, "a", "", at(7))
    assert course(refused) == [("training", ""), ("kept", "drawdown")]
    assert refused.turns[-1].at_ms == at(7.5)
    assert refused.data is not None
    assert (refused.data.symbols, refused.data.files) == (("BTC/USDT", "ETH/USDT"), ("btcusdt-1h.csv",))
    assert (refused.data.start_ms, refused.data.end_ms, refused.data.holdout_from_ms, refused.data.days_unseen) == (
        1_502_942_400_000, at(7), at(-83), 90.0
    )  # fmt: skip
    assert [(c.name, c.value, c.passed) for c in refused.gate] == [
        ("unseen", 1.0, True), ("drawdown", 0.31, False), ("growth", None, False)
    ]  # fmt: skip


def test_a_failed_training_has_neither_data_nor_gate() -> None:
    (failed,) = rows(steps.requested(by=RetrainBy.DRIFT), steps.trained(Outcome.FAILED, reason="out of memory"))
    assert (failed.origin, failed.data, failed.gate) == (Origin.DRIFT, None, ())
    assert course(failed)[-1] == ("failed", "out of memory")


def test_a_candidate_that_lost_in_shadow_was_not_promoted() -> None:
    (row,) = rows(steps.requested(), steps.trained(Outcome.CANDIDATE), steps.shadowed(), steps.dropped("behind"))
    assert row.model == NEW
    assert course(row) == [("training", ""), ("passed", ""), ("shadow", ""), ("kept", "behind")]


def test_a_promoted_one_is_watched_then_confirmed_and_the_former_one_replaced() -> None:
    old, new = rows(steps.found(), steps.requested(), *PROMOTED, of_confirmed(NEW, at(60), figures={}))
    assert course(old) == [("serves", "the first run"), ("replaced", f"by {NEW}")]
    assert course(new)[-2:] == [("watch", "ahead"), ("serves", "confirmed")]
    assert new.turns[-1].at_ms == at(60)


def test_after_a_rollback_the_former_one_serves_again_in_its_own_row() -> None:
    back = steps.serves(OLD, NEW, Cause.ROLLBACK, 50.0, "regret 3 %")
    old, new = rows(steps.found(), steps.requested(), *PROMOTED, back)
    assert course(new)[-2:] == [("watch", "ahead"), ("rolled back", "regret 3 %")]
    assert course(old)[-2:] == [("replaced", f"by {NEW}"), ("serves", f"again, after {NEW}")]


def test_who_is_confirmed_and_later_rolled_back_by_hand_says_so() -> None:
    confirmed = of_confirmed(NEW, at(60), figures={})
    back = steps.serves(OLD, NEW, Cause.ROLLBACK, 90.0, "asked for by hand")
    _, new = rows(steps.found(), steps.requested(), *PROMOTED, confirmed, back)
    assert [standing for standing, _ in course(new)][-3:] == ["watch", "serves", "rolled back"]


def test_what_a_person_puts_forward_is_a_row_of_its_own_with_what_is_known_of_it() -> None:
    told = steps.report(7.0, *GATE)
    retried = (
        steps.requested(),
        steps.trained(Outcome.CANDIDATE, told=told),
        steps.shadowed(),
        steps.dropped(),
        steps.shadowed(request="", day=31.0),
    )
    first, again = rows(*retried)
    assert first.standing is Standing.KEPT
    assert (again.origin, again.model, again.at_ms, again.request) == (Origin.HAND, NEW, at(31), "")
    assert (again.data, again.gate) == (first.data, first.gate)
    promoted = rows(*retried, steps.serves(cause=Cause.HAND, detail="asked for by hand"))
    assert [row.standing for row in promoted] == [Standing.KEPT, Standing.WATCH]


def test_one_that_was_never_tried_can_be_promoted_by_hand() -> None:
    _, row = rows(steps.found(), steps.serves(OTHER, OLD, Cause.HAND, detail="asked for by hand"))
    assert (row.origin, row.model, course(row)) == (Origin.HAND, OTHER, [("watch", "asked for by hand")])


def test_a_shadow_ends_when_another_ensemble_is_put_in_place() -> None:
    trying = (steps.found(), steps.requested(), *PROMOTED[:2])
    by_hand = steps.serves(OTHER, OLD, Cause.HAND, detail="asked for by hand")
    _, tried, other = rows(*trying, by_hand)
    assert course(tried)[-1] == ("cut short", f"{OTHER} was put in place")
    assert other.standing is Standing.WATCH
    after_failure = rows(*trying, steps.swap_failed(Cause.PROVED), by_hand)
    assert after_failure[1].standing is Standing.CUT_SHORT
    untried = rows(steps.found(), steps.requested(), PROMOTED[0], by_hand)
    assert untried[1].standing is Standing.PASSED


def test_a_swap_that_failed_is_told_and_the_candidate_may_still_serve() -> None:
    trying = (steps.found(), steps.requested(), *PROMOTED[:2], steps.swap_failed(Cause.PROVED, "disk full"))
    assert course(rows(*trying)[1])[-1] == ("swap failed", "disk full")
    assert course(rows(*trying, steps.serves())[1])[-2:] == [("swap failed", "disk full"), ("watch", "ahead")]
    assert rows(*trying, steps.dropped())[1].standing is Standing.KEPT
    by_hand = rows(steps.found(), steps.swap_failed(Cause.HAND, "no such bundle", new=OTHER))
    assert course(by_hand[1]) == [("swap failed", "no such bundle")]


def test_a_rollback_that_failed_leaves_the_new_one_serving() -> None:
    failing = steps.swap_failed(Cause.ROLLBACK, "disk full", old=NEW, new=OLD)
    served = (steps.found(), steps.requested(), *PROMOTED, failing)
    assert course(rows(*served)[1])[-1] == ("rollback failed", "disk full")
    back = steps.serves(OLD, NEW, Cause.ROLLBACK, 50.0, "regret")
    assert rows(*served, back)[1].standing is Standing.ROLLED_BACK


def test_a_link_that_was_changed_while_nothing_ran_begins_a_row() -> None:
    old, other = rows(steps.found(), steps.found(OTHER, 3.0, previous=OLD))
    assert (old.standing, other.standing, other.origin) == (Standing.REPLACED, Standing.SERVES, Origin.FOUND)


def test_intents_and_pins_change_no_row() -> None:
    swap = Swap(old=OLD, new=NEW, cause=Cause.HAND, detail="")
    before = (steps.found(), steps.requested())
    assert rows(*before, of_swapping(swap, 0), of_pinned(0, is_pinned=True, source="hand")) == rows(*before)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"by": "nobody"}, "'nobody' is not a valid RetrainBy"),
        ({"request": None, "at_ms": None, "by": 3}, "3 is not a valid RetrainBy"),
    ],
)
def test_a_record_that_cannot_be_read_is_named_by_its_entry(change: dict[str, object], said: str) -> None:
    first, second = steps.entries(steps.found(), steps.requested())
    with pytest.raises(DataError) as caught:
        history([first, replace(second, payload={**second.payload, **change})])
    assert "journal entry 2 (model) cannot be read" in str(caught.value)
    assert said in str(caught.value)
    assert "sacd journal verify" in str(caught.value)


def test_a_record_that_lacks_something_says_what() -> None:
    (entry,) = steps.entries(steps.requested())
    payload = {key: value for key, value in entry.payload.items() if key != "request"}
    with pytest.raises(DataError, match="cannot be read: no 'request'"):
        history([replace(entry, payload=payload)])


def test_no_training_ends_as_promoted() -> None:
    with pytest.raises(DataError, match="no training ends with 'promoted'"):
        rows(steps.requested(), steps.trained(Outcome.PROMOTED))


_STEPS = st.sampled_from(
    [
        steps.found(),
        steps.requested(),
        steps.requested("b", by=RetrainBy.HAND),
        steps.trained(Outcome.CANDIDATE, told=steps.report(7.0, *GATE)),
        steps.trained(Outcome.KEPT, "b"),
        steps.trained(Outcome.FAILED, "b"),
        steps.shadowed(),
        steps.shadowed(OTHER, ""),
        steps.dropped(),
        steps.dropped(candidate=OTHER),
        steps.serves(),
        steps.serves(OTHER, NEW, Cause.HAND),
        steps.serves(OLD, NEW, Cause.ROLLBACK),
        steps.swap_failed(Cause.PROVED),
        steps.swap_failed(Cause.ROLLBACK, old=NEW, new=OLD),
        of_confirmed(NEW, at(60), figures={}),
    ]
)


@given(st.lists(_STEPS, max_size=20))
def test_any_order_of_steps_gives_rows_and_what_was_told_before_stays(records: list[Record]) -> None:
    whole = rows(*records)
    assert all(row.turns for row in whole)
    assert sum(record.payload["step"] == "requested" for record in records) <= len(whole)
    for earlier, later in zip(rows(*records[:-1]), whole, strict=False):
        assert later.turns[: len(earlier.turns)] == earlier.turns
        assert (later.at_ms, later.origin, later.request) == (earlier.at_ms, earlier.origin, earlier.request)
