"""The life of the ensembles in words: its steps, a comparison under way, a retraining, drift. Text and nothing else."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from daemon import wording
from daemon.model_life import Cause, Outcome, RetrainBy
from strategy.features import FEATURE_NAMES

Farthest = Sequence[tuple[str, float]]
"""Names of features and how far each lies from the training candles, the farthest first."""

BY: Mapping[RetrainBy, str] = {
    RetrainBy.SCHEDULE: "by the schedule",
    RetrainBy.HAND: "by hand",
    RetrainBy.DRIFT: "because of drift",
}
OUTCOMES: Mapping[Outcome, str] = {
    Outcome.RUNNING: "under way",
    Outcome.CANDIDATE: "passed the gate",
    Outcome.KEPT: "the incumbent was kept",
    Outcome.PROMOTED: "promoted",
    Outcome.FAILED: "failed",
}
_FARTHEST = 3


# ---- comparisons ------------------------------------------------------------------------------------------------
def shadow_words(decisions: int, of: int, ahead_bp: float, p: float) -> str:
    """Return how far a shadow has come.

    So: `31 of about 200 decisions, candidate ahead by 0.4 basis points per decision, p = 0.22`.
    ahead_bp: the candidate's lead per decision, basis points.  p: how often an equal one would come so far.
    """
    begun = f"{decisions:,} of about {of:,} decisions"
    if not decisions:
        return begun
    lead = _magnitude(ahead_bp)
    side = "ahead" if ahead_bp > 0.0 else "behind"
    where = f"candidate {side} by {lead} basis points per decision" if lead else "candidate level with the incumbent"
    return f"{begun}, {where}, p = {probability(p)}"


def short_shadow_words(decisions: int, of: int, ahead_bp: float, p: float) -> str:
    """Return the same for a narrow place: `31 of about 200 decisions, +0.4 bp each, p = 0.22`."""
    begun = f"{decisions:,} of about {of:,} decisions"
    if not decisions:
        return begun
    sign = "+" if ahead_bp > 0.0 else "-"
    lead = _magnitude(ahead_bp)
    return f"{begun}, {f'{sign}{lead} bp each' if lead else 'level'}, p = {probability(p)}"


def watch_words(decisions: int, of: int, ahead: float) -> str:
    """Return how a new ensemble does: `12 of 60 decisions, 0.3 % ahead of the former one`. ahead: a share."""
    begun = f"{decisions:,} of {of:,} decisions"
    if not decisions:
        return begun
    lead = _magnitude(100.0 * ahead)
    side = "ahead of" if ahead > 0.0 else "behind"
    return f"{begun}, {f'{lead} % {side}' if lead else 'level with'} the former one"


def probability(p: float) -> str:
    """Return a probability with two decimals, more when it is small: 0.22, 0.004, below 0.001."""
    if p >= 0.01:  # noqa: PLR2004  # where two decimals still say something
        return f"{p:.2f}"
    return f"{p:.3f}" if p >= 0.001 else "below 0.001"  # noqa: PLR2004  # and three


def _magnitude(value: float) -> str:
    """Return how large a difference is, with one decimal, more when it is small; "" when there is next to none."""
    size = abs(value)
    if size < 0.005:  # noqa: PLR2004  # rounds to 0.00
        return ""
    return f"{size:,.1f}" if size >= 0.095 else f"{size:.2f}"  # noqa: PLR2004  # from here on one decimal is not 0.0


# ---- drift ------------------------------------------------------------------------------------------------------
def farthest(distances: Sequence[float]) -> Farthest:
    """Return the three features that lie farthest. distances: in the order of the feature schema."""
    named = zip(FEATURE_NAMES, distances, strict=True)
    return sorted(named, key=lambda pair: -abs(pair[1]))[:_FARTHEST]


def drift_words(joint: float, limit: float, features: Iterable[tuple[str, float]]) -> str:
    """Return how far the market lies from the training candles. limit: 0 for none.  features: the farthest first."""
    of = f", limit {limit:g}" if limit > 0.0 else ""
    named = ", ".join(f"{name} {distance:.2f}" for name, distance in list(features)[:_FARTHEST])
    return f"{joint:.2f}{of}{f'; farthest {named}' if named else ''}"


def beyond_words(joint: float, features: Sequence[float], *, is_beyond: bool) -> str:
    """Return that the market has drifted across the limit, or back."""
    where = drift_words(joint, 0.0, farthest(features))
    if is_beyond:
        return f"nothing is bought, the market has drifted from the training candles: {where}"
    return f"the market is back among the training candles: {where}"


# ---- retrainings ------------------------------------------------------------------------------------------------
def retrain_words(retrain: Mapping[str, Any]) -> str:
    """Return the newest retraining, given as JSON types of `Retrain`: when, who asked, and what became of it."""
    asked = f"{wording.moment(retrain['at_ms'])}, {BY[RetrainBy(retrain['by'])]}"
    outcome = Outcome(retrain["outcome"])
    made = f" ({retrain['candidate']})" if retrain["candidate"] else ""
    return f"{asked}: {OUTCOMES[outcome]}{made}{_because(retrain['reason'])}"


def _because(reason: str) -> str:
    words = wording.one_line(reason)
    return f": {words}" if words else ""


# ---- steps ------------------------------------------------------------------------------------------------------
def is_step_trouble(payload: Mapping[str, Any]) -> bool:
    """Tell whether somebody should look at a step. payload: of a `model` record."""
    match payload["step"]:
        case "trained":
            return Outcome(payload["outcome"]) is Outcome.FAILED
        case "serving":
            return Cause(payload["cause"]) is Cause.ROLLBACK
        case "swap_failed":
            return True
        case _:
            return False


def step_words(payload: Mapping[str, Any]) -> str:
    """Return a step in the life of the ensembles as one line. payload: of a `model` record."""
    words = _WORDS.get(payload["step"])
    return wording.one_line(str(payload["step"]) if words is None else words(payload))


def _requested(payload: Mapping[str, Any]) -> str:
    return f"retraining {payload['request']} was asked for {BY[RetrainBy(payload['by'])]}"


def _trained(payload: Mapping[str, Any]) -> str:
    match Outcome(payload["outcome"]):
        case Outcome.CANDIDATE:
            return f"the retraining made {payload['candidate']}, which passed the gate{_because(payload['reason'])}"
        case Outcome.FAILED:
            return f"the retraining failed{_because(payload['reason'])}"
        case _:
            return f"the retraining ended, the incumbent stays{_because(payload['reason'])}"


def _serving(payload: Mapping[str, Any]) -> str:
    detail = _because(payload["detail"])
    match Cause(payload["cause"]):
        case Cause.ROLLBACK:
            return f"rolled back to {payload['model']}{detail}"
        case Cause.FOUND:
            return f"{payload['model']} serves{detail}"
        case _:
            former = f" in place of {payload['previous']}" if payload["previous"] else ""
            return f"{payload['model']} serves{former}{detail}"


def _confirmed(payload: Mapping[str, Any]) -> str:
    reason = wording.one_line(payload["reason"])
    return f"{payload['model']} is confirmed: it is watched no more{f' ({reason})' if reason else ''}"


def _pinned(payload: Mapping[str, Any]) -> str:
    if payload["is_pinned"]:
        return "the ensemble is pinned: none takes its place by itself"
    return "the ensemble is no longer pinned"


_WORDS = {
    "requested": _requested,
    "trained": _trained,
    "shadow": lambda p: f"{p['candidate']} goes into shadow beside {p['incumbent']}",
    "kept": lambda p: f"{p['candidate']} is dropped, the incumbent stays{_because(p['reason'])}",
    "swapping": lambda p: f"{p['new']} is to serve in place of {p['old']}{_because(p['detail'])}",
    "serving": _serving,
    "swap_failed": lambda p: f"{p['new']} could not be put in place, {p['old']} serves on{_because(p['reason'])}",
    "confirmed": _confirmed,
    "pinned": _pinned,
}
