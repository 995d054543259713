"""Which ensemble serves, what is tried beside it, what became of retrainings, and how far the market has drifted."""

import math
from collections.abc import Mapping
from typing import Any

from daemon.events import Decided, ModelStep, ShadowMarked, Started
from daemon.metrics_catalogue import Catalogue
from daemon.model_life import Cause, Life, Outcome, Phase
from daemon.ports import DriftMarked
from strategy.features import FEATURE_NAMES

OUTCOMES = (Outcome.CANDIDATE, Outcome.KEPT, Outcome.FAILED)
"""What a training ends with; what becomes of a candidate afterwards, swaps and phases tell."""
SIDES = ("old", "new")


class ModelMetrics:
    """Follows the life of the ensembles from step to step."""

    def __init__(self, make: Catalogue) -> None:
        self._serving = _Serving(make)
        self._retrains = _Retrains(make)
        self._shadow = _Shadow(make)
        drift = make.gauge(
            "sacd_feature_drift", "How far the market lies from the training candles in one feature", "feature"
        )
        self._features = tuple(drift.labels(name) for name in FEATURE_NAMES)
        for gauge in self._features:
            gauge.set(math.nan)
        self._joint = make.gauge(
            "sacd_drift_joint", "How far the market lies from the training candles in all features together"
        )

    def start(self, event: Started) -> None:
        """Take where the ensembles stand when the daemon is ready."""
        self._serving.serve(event.model_id, event.members, event.seen_until_ms)
        self._follow(event.life)

    def decide(self, event: Decided) -> None:
        """Take a decision: who decided, and whether anybody did."""
        votes, is_seen = event.outcome.votes, event.outcome.sight.row is not None
        if votes is not None:
            self._serving.vote(event.model_id, len(votes))
        elif is_seen:
            self._serving.faults.inc()

    def step(self, event: ModelStep) -> None:
        """Take a step that is on disk."""
        payload = event.payload
        match payload["step"]:
            case "serving":
                self._serving.swaps[Cause(payload["cause"])].inc()
                self._serving.serve(payload["model"], event.members, event.seen_until_ms)
                self._shadow.forget()
            case "swap_failed":
                self._serving.swap_failures.inc()
            case "trained":
                self._retrains.end(payload)
            case "shadow":
                self._shadow.forget()
        self._follow(event.life)

    def compare(self, event: ShadowMarked) -> None:
        """Take the comparison of two ensembles after one more decision."""
        self._shadow.take(event.payload)

    def drift(self, event: DriftMarked) -> None:
        """Take how far the market lies from the training candles."""
        self._joint.set(event.joint)
        for gauge, distance in zip(self._features, event.features, strict=True):
            gauge.set(distance)

    def set_next_retrain(self, at_ms: int | None) -> None:
        """Take when the schedule asks for the next retraining, None when it does not."""
        self._retrains.next.set(math.nan if at_ms is None else at_ms / 1_000)

    def _follow(self, life: Life) -> None:
        self._serving.follow(life)
        self._retrains.follow(life)
        if life.phase is Phase.STEADY:
            self._shadow.forget()


class _Serving:
    """The ensemble that serves, and how it came to."""

    def __init__(self, make: Catalogue) -> None:
        self._model = make.info("sacd_model", "The ensemble that serves", "id")
        self._members = make.gauge("sacd_model_members", "Members of the ensemble that serves")
        self._until = make.gauge(
            "sacd_model_trained_until_timestamp_seconds",
            "End of the candles that the ensemble that serves was made from",
        )
        self._since = make.gauge("sacd_model_serving_since_timestamp_seconds", "When the ensemble that serves began to")
        self._pinned = make.gauge("sacd_model_pinned", "1 while no other ensemble takes its place by itself, else 0")
        phase = make.gauge("sacd_model_phase", "1 for what is going on with the ensembles, else 0", "phase")
        self._phases = {known: phase.labels(known.value) for known in Phase}
        swaps = make.counter("sacd_model_swaps_total", "Times that another ensemble began to serve", "cause")
        self.swaps = {cause: swaps.labels(cause.value) for cause in Cause}
        self.swap_failures = make.counter(
            "sacd_model_swap_failures_total", "Swaps that could not be carried out; what served goes on"
        )
        self.faults = make.counter(
            "sacd_model_faults_total", "Decisions without votes although the window was full: the ensemble failed"
        )
        self._id: str | None = None

    def serve(self, model_id: str, members: int, seen_until_ms: int) -> None:
        self._name(model_id, members)
        self._until.set(seen_until_ms / 1_000 if seen_until_ms else math.nan)

    def vote(self, model_id: str, members: int) -> None:
        if model_id != self._id:
            self._name(model_id, members)

    def _name(self, model_id: str, members: int) -> None:
        self._id = model_id
        self._model.info({"id": model_id})
        self._members.set(members)

    def follow(self, life: Life) -> None:
        if life.since_ms:
            self._since.set(life.since_ms / 1_000)
        self._pinned.set(life.is_pinned)
        for phase, gauge in self._phases.items():
            gauge.set(phase is life.phase)


class _Retrains:
    """Retrainings, from the request to the result."""

    def __init__(self, make: Catalogue) -> None:
        ended = make.counter("sacd_retrains_total", "Retrainings that ended", "outcome")
        self._ended = {outcome: ended.labels(outcome.value) for outcome in OUTCOMES}
        self._running = make.gauge("sacd_retrain_running", "1 from the request of a retraining to its result, else 0")
        self._last = make.gauge(
            "sacd_last_retrain_timestamp_seconds",
            "When the newest retraining ended, its candidate's time in shadow included",
        )
        self._failures = make.gauge("sacd_retrain_failures_in_a_row", "Retrainings that failed since one did not")
        self.next = make.gauge(
            "sacd_retrain_next_timestamp_seconds",
            "When the schedule asks for the next retraining; NaN without a schedule",
        )
        self._duration = make.gauge(
            "sacd_retrain_duration_seconds", "From request to result, of the newest retraining that ended in this run"
        )
        self._asked_ms: int | None = None

    def end(self, payload: Mapping[str, Any]) -> None:
        self._ended[Outcome(payload["outcome"])].inc()
        if self._asked_ms is not None:
            self._duration.set((payload["at_ms"] - self._asked_ms) / 1_000)

    def follow(self, life: Life) -> None:
        self._running.set(life.is_retraining)
        self._failures.set(life.failures)
        if life.retrain is None:
            return
        self._asked_ms = life.retrain.at_ms
        if life.retrain.ended_ms is not None:
            self._last.set(life.retrain.ended_ms / 1_000)


class _Shadow:
    """The comparison that goes on. NaN where there is none."""

    def __init__(self, make: Catalogue) -> None:
        self._decisions = make.gauge(
            "sacd_shadow_decisions", "Decisions compared so far, in shadow or in the watch after a swap"
        )
        self._mean = make.gauge(
            "sacd_shadow_difference_mean_ratio",
            "Mean growth per decision of the new ensemble's account less that of the old one's, as a share",
        )
        self._p = make.gauge(
            "sacd_shadow_p_value",
            "In shadow: how often an equal candidate would come so far; in the watch: how often it would fall so far"
            " behind",
        )
        equity = make.gauge("sacd_shadow_equity_quote", "What the accounts of play money are worth", "side")
        self._equity = {side: equity.labels(side) for side in SIDES}
        self._regret = make.gauge(
            "sacd_regret_ratio",
            "Lead of the former ensemble over the one that serves, since the swap; negative while it is behind",
        )
        self.forget()

    def take(self, payload: Mapping[str, Any]) -> None:
        is_watch = Phase(payload["phase"]) is Phase.WATCH
        self._decisions.set(payload["count"])
        self._mean.set(payload["mean"])
        self._p.set(payload["p_worse" if is_watch else "p_better"])
        self._regret.set(-payload["lead"] if is_watch else math.nan)
        for side, gauge in self._equity.items():
            gauge.set(payload["equity"][side])

    def forget(self) -> None:
        for gauge in (self._decisions, self._mean, self._p, self._regret, *self._equity.values()):
            gauge.set(math.nan)
