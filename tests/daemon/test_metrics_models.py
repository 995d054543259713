"""What a scrape says of the ensembles after known steps; figures by hand."""

import math
from dataclasses import replace

import pytest

from daemon.events import Event, ShadowMarked
from daemon.model_life import Cause, Outcome, Phase, of_confirmed, of_pinned
from daemon.ports import Record
from strategy.features import FEATURE_NAMES
from strategy.risk import VerdictReason
from strategy.trader import Outcome as DecisionOutcome
from tests.daemon.test_metrics import STARTED, Samples, after, decided, scraped, sink, value
from tests.fakes import events
from tests.fakes import model_steps as steps
from tests.fakes.model_steps import NEW, OLD, at

IN_SHADOW = (steps.found(), steps.requested(), steps.trained(Outcome.CANDIDATE), steps.shadowed())


def after_steps(*records: Record, then: Event | None = None) -> Samples:
    return after(*steps.events(*records, members=4, seen_until_ms=at(-3)), *([] if then is None else [then]))


def one_of(samples: Samples, name: str) -> set[str]:
    """The label values of a family whose samples are 1."""
    return {value for (known, labels), count in samples.items() if known == name and count for _, value in labels}


def test_before_the_start_nothing_is_claimed() -> None:
    samples = after()
    for name in ("sacd_model_serving_since_timestamp_seconds", "sacd_model_pinned", "sacd_shadow_p_value"):
        assert math.isnan(value(samples, name))
    assert math.isnan(value(samples, "sacd_shadow_equity_quote", side="old"))
    assert math.isnan(value(samples, "sacd_feature_drift", feature="return_1"))
    assert {labels for name, labels in samples if name == "sacd_model_swaps_total"} == {
        frozenset({("cause", cause.value)}) for cause in Cause
    }


def test_a_start_tells_where_the_ensembles_stood_before_it() -> None:
    life = steps.life_after(
        steps.found(), steps.requested(), steps.trained(Outcome.FAILED), of_pinned(0, is_pinned=True, source="hand")
    )
    samples = after(replace(STARTED, model_id=OLD, members=3, life=life, seen_until_ms=at(-3)))
    assert value(samples, "sacd_model_info", id=OLD) == 1
    assert value(samples, "sacd_model_members") == 3
    assert value(samples, "sacd_model_trained_until_timestamp_seconds") == at(-3) / 1_000
    assert value(samples, "sacd_model_serving_since_timestamp_seconds") == at(0) / 1_000
    assert value(samples, "sacd_model_pinned") == 1
    assert one_of(samples, "sacd_model_phase") == {"steady"}
    assert value(samples, "sacd_retrain_failures_in_a_row") == 1
    assert value(samples, "sacd_last_retrain_timestamp_seconds") == at(7.5) / 1_000
    assert value(samples, "sacd_retrains_total", outcome="failed") == 0  # counters count from the start


def test_a_swap_names_the_new_one_and_is_counted_by_its_cause() -> None:
    samples = after_steps(*IN_SHADOW, steps.serves())
    assert value(samples, "sacd_model_info", id=NEW) == 1
    assert value(samples, "sacd_model_members") == 4
    assert value(samples, "sacd_model_trained_until_timestamp_seconds") == at(-3) / 1_000
    assert value(samples, "sacd_model_serving_since_timestamp_seconds") == at(40) / 1_000
    assert one_of(samples, "sacd_model_phase") == {"watch"}
    counts = {cause: value(samples, "sacd_model_swaps_total", cause=cause) for cause in Cause}
    assert counts == {Cause.FOUND: 1, Cause.PROVED: 1, Cause.HAND: 0, Cause.ROLLBACK: 0}
    back = after_steps(*IN_SHADOW, steps.serves(), steps.serves(OLD, NEW, Cause.ROLLBACK))
    assert value(back, "sacd_model_swaps_total", cause="rollback") == 1
    assert value(back, "sacd_model_info", id=OLD) == 1


def test_a_decision_of_another_ensemble_names_it_as_well() -> None:
    samples = after(STARTED, decided(events.hold(), model_id=NEW))
    assert value(samples, "sacd_model_info", id=NEW) == 1
    assert value(samples, "sacd_model_members") == 2


def test_a_swap_that_failed_is_counted() -> None:
    assert value(after_steps(*IN_SHADOW), "sacd_model_swap_failures_total") == 0
    failed = after_steps(*IN_SHADOW, steps.swap_failed(Cause.PROVED))
    assert value(failed, "sacd_model_swap_failures_total") == 1
    assert value(failed, "sacd_model_swaps_total", cause="proved") == 0


def test_only_a_decision_without_votes_on_a_full_window_is_a_fault() -> None:
    voted, warming = decided(events.hold()), decided(events.hold(), seen=False)
    silent = DecisionOutcome(voted.outcome.sight, None, events.hold(VerdictReason.NO_VOTES), None)
    failed = replace(voted, outcome=silent)
    assert value(after(STARTED, voted, warming), "sacd_model_faults_total") == 0
    assert value(after(STARTED, voted, failed, failed), "sacd_model_faults_total") == 2


# ---- retrainings ------------------------------------------------------------------------------------------------
def test_a_retraining_runs_from_its_request_to_its_result() -> None:
    asked = after_steps(steps.found(), steps.requested())
    assert value(asked, "sacd_retrain_running") == 1
    assert math.isnan(value(asked, "sacd_last_retrain_timestamp_seconds"))
    ended = after_steps(steps.found(), steps.requested(day=7.0), steps.trained(Outcome.KEPT, day=7.25))
    assert value(ended, "sacd_retrain_running") == 0
    assert value(ended, "sacd_retrain_duration_seconds") == 6 * 3_600
    assert value(ended, "sacd_last_retrain_timestamp_seconds") == at(7.25) / 1_000


def test_retrainings_are_counted_by_what_the_training_ended_with() -> None:
    samples = after_steps(
        steps.requested(), steps.trained(Outcome.FAILED),
        steps.requested("b"), steps.trained(Outcome.FAILED, "b"),
        steps.requested("c"), steps.trained(Outcome.CANDIDATE, "c"), steps.shadowed(request="c"), steps.dropped(),
    )  # fmt: skip
    counts = {o: value(samples, "sacd_retrains_total", outcome=o) for o in ("candidate", "kept", "failed")}
    assert counts == {"candidate": 1, "kept": 0, "failed": 2}
    assert value(samples, "sacd_last_retrain_timestamp_seconds") == at(30) / 1_000  # when the shadow ended


def test_failures_in_a_row_end_with_the_first_that_is_none() -> None:
    failing = (steps.requested(), steps.trained(Outcome.FAILED), steps.requested(), steps.trained(Outcome.FAILED))
    assert value(after_steps(*failing), "sacd_retrain_failures_in_a_row") == 2
    kept = after_steps(*failing, steps.requested(), steps.trained(Outcome.KEPT))
    assert value(kept, "sacd_retrain_failures_in_a_row") == 0


def test_the_next_retraining_is_known_while_there_is_a_schedule() -> None:
    metrics = sink()
    metrics.set_next_retrain(at(14))
    assert value(scraped(metrics), "sacd_retrain_next_timestamp_seconds") == at(14) / 1_000
    metrics.set_next_retrain(None)
    assert math.isnan(value(scraped(metrics), "sacd_retrain_next_timestamp_seconds"))


# ---- comparisons and drift --------------------------------------------------------------------------------------
def test_a_shadow_tells_lead_equity_and_the_probability_of_the_candidate() -> None:
    samples = after_steps(*IN_SHADOW, then=ShadowMarked(payload=steps.compared()))
    assert value(samples, "sacd_shadow_decisions") == 31
    assert value(samples, "sacd_shadow_difference_mean_ratio") == 0.4e-4
    assert value(samples, "sacd_shadow_p_value") == 0.22
    assert value(samples, "sacd_shadow_equity_quote", side="old") == 1_000.0
    assert value(samples, "sacd_shadow_equity_quote", side="new") == 1_003.0
    assert math.isnan(value(samples, "sacd_regret_ratio"))  # there is nothing to regret yet


def test_in_the_watch_regret_is_the_lead_of_the_former_one() -> None:
    marked = ShadowMarked(payload=steps.compared("watch", lead=-0.02, p_worse=0.04))
    samples = after_steps(*IN_SHADOW, steps.serves(), then=marked)
    assert value(samples, "sacd_regret_ratio") == 0.02
    assert value(samples, "sacd_shadow_p_value") == 0.04


@pytest.mark.parametrize(
    "end",
    [
        steps.dropped(),
        steps.serves(),
        steps.shadowed(steps.OTHER, ""),
        of_confirmed(NEW, 0, figures={}),
    ],
    ids=["dropped", "promoted", "another one", "confirmed"],
)
def test_what_was_compared_before_is_no_figure_of_what_follows(end: Record) -> None:
    metrics = sink()
    shadowed = steps.events(*IN_SHADOW, end)
    for event in (*shadowed[:-1], ShadowMarked(payload=steps.compared()), shadowed[-1]):
        metrics.publish(event)
    samples = scraped(metrics)
    for name in ("sacd_shadow_decisions", "sacd_shadow_difference_mean_ratio", "sacd_shadow_p_value"):
        assert math.isnan(value(samples, name))
    assert math.isnan(value(samples, "sacd_shadow_equity_quote", side="new"))


def test_each_phase_is_told_alone() -> None:
    assert one_of(after_steps(*IN_SHADOW), "sacd_model_phase") == {"shadow"}
    assert one_of(after_steps(*IN_SHADOW, steps.serves()), "sacd_model_phase") == {"watch"}
    assert one_of(after_steps(*IN_SHADOW, steps.dropped()), "sacd_model_phase") == {"steady"}
    families = {labels for name, labels in after() if name == "sacd_model_phase"}
    assert families == {frozenset({("phase", phase.value)}) for phase in Phase}


def test_drift_is_told_per_feature_and_jointly() -> None:
    samples = after(events.drifted(0.84, flow_24=3.5))
    assert value(samples, "sacd_drift_joint") == 0.84
    assert value(samples, "sacd_feature_drift", feature="flow_24") == 3.5
    assert value(samples, "sacd_feature_drift", feature="return_1") == 0.1
    told = {dict(labels)["feature"] for name, labels in samples if name == "sacd_feature_drift"}
    assert told == set(FEATURE_NAMES)
