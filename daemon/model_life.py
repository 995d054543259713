"""The life of the ensembles of an account: which one serves, which is tried, what became of the retrainings.

`Life` is folded from the journal's `model` records and from nothing else, while trading as after a restart, so that
what stands in the journal is what holds. Values only: no file, no clock, no ensemble. The functions `of_...` are the
one place where such records are written; `Life.after` is the one place where they are read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from daemon.ports import Record
from strategy.errors import BadState


class Phase(StrEnum):
    """What is going on with the ensembles."""

    STEADY = "steady"
    """One serves, and none is tried."""
    SHADOW = "shadow"
    """A candidate trades play money beside it."""
    WATCH = "watch"
    """A new one serves, the former one trades play money beside it, and comes back when the new one does worse."""


class Cause(StrEnum):
    """Why an ensemble began to serve."""

    FOUND = "found"
    """It was the configured one when a run began: a first start, or a link changed while nothing ran."""
    PROVED = "proved"
    """It did better in shadow."""
    HAND = "hand"
    """A person asked for it."""
    ROLLBACK = "rollback"
    """The one after it did worse, or failed."""


class RetrainBy(StrEnum):
    """Who asked for a retraining."""

    SCHEDULE = "schedule"
    HAND = "hand"
    DRIFT = "drift"


class Outcome(StrEnum):
    """What became of a retraining. The usual one is KEPT."""

    RUNNING = "running"
    CANDIDATE = "candidate"
    """It passed the gate and goes into shadow."""
    KEPT = "kept"
    """The gate refused it, or it lost in shadow: the incumbent stays."""
    PROMOTED = "promoted"
    FAILED = "failed"
    """There was no ensemble to judge: the trainer crashed, hung, ran out of memory, disk or candles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrain:
    """The newest retraining. request: its id.  scheduled_ms: the moment of the schedule it answers, None without one.

    candidate: short id of what it made, "" for nothing.  reason: in words, why it ended as it did; "" while it runs.
    """

    request: str
    by: RetrainBy
    at_ms: int
    scheduled_ms: int | None
    outcome: Outcome = Outcome.RUNNING
    reason: str = ""
    candidate: str = ""
    ended_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Swap:
    """A change of the serving ensemble that was begun and has not ended: it is carried out again after a restart."""

    old: str
    new: str
    cause: Cause
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """Where the ensembles of an account stand; ids are short ids, "" for none.

    since_ms: when the present one began to serve.  previous: what a rollback goes back to.  is_pinned: nothing changes
    by itself.  candidate: in shadow.  request: the retraining that the candidate comes from, "" for one put there by
    hand.  scheduled_ms: the newest moment of the schedule that was answered.  failures: retrainings in a row that
    failed.
    """

    serving: str = ""
    since_ms: int = 0
    previous: str = ""
    phase: Phase = Phase.STEADY
    is_pinned: bool = False
    candidate: str = ""
    request: str = ""
    swap: Swap | None = None
    retrain: Retrain | None = None
    scheduled_ms: int | None = None
    failures: int = 0

    @property
    def is_retraining(self) -> bool:
        """Whether a retraining was asked for and has not ended."""
        return self.retrain is not None and self.retrain.outcome is Outcome.RUNNING

    def after(self, payload: Mapping[str, Any]) -> "Life":
        """Return the life after a `model` record. Raises BadState for one that cannot be read."""
        try:
            return _STEPS[payload["step"]](self, payload)
        except (KeyError, TypeError, ValueError) as error:
            raise BadState(f"model record {dict(payload)!r} cannot be read: {error}") from error

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON types, for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Life":
        """Return the life stored as `values`. Raises BadState when it was stored by something else."""
        try:
            swap, retrain = values["swap"], values["retrain"]
            return cls(
                **{
                    **values,
                    "phase": Phase(values["phase"]),
                    "swap": None if swap is None else Swap(**{**swap, "cause": Cause(swap["cause"])}),
                    "retrain": None if retrain is None else _read_retrain(retrain),
                }
            )
        except (KeyError, TypeError, ValueError) as error:
            raise BadState(f"stored life of the ensembles cannot be read: {error}") from error


def _read_retrain(values: Mapping[str, Any]) -> Retrain:
    return Retrain(**{**values, "by": RetrainBy(values["by"]), "outcome": Outcome(values["outcome"])})


# ---- the records, one function each ------------------------------------------------------------------------------
def _record(step: str, at_ms: int, values: Mapping[str, Any]) -> Record:
    return Record(kind="model", payload={"step": step, "at_ms": at_ms, **values})


def of_requested(request: str, by: RetrainBy, at_ms: int, *, scheduled_ms: int | None, incumbent: str) -> Record:
    """Return the record that a retraining was asked for; written before the request leaves."""
    values = {"request": request, "by": by.value, "scheduled_ms": scheduled_ms, "incumbent": incumbent}
    return _record("requested", at_ms, values)


def of_trained(
    request: str, outcome: Outcome, at_ms: int, *, reason: str, candidate: str, report: Mapping[str, Any]
) -> Record:
    """Return the record of how a retraining ended. report: what the trainer told of data, gate and time, JSON types."""
    values = {"request": request, "outcome": outcome.value, "reason": reason, "candidate": candidate}
    return _record("trained", at_ms, {**values, "report": dict(report)})


def of_shadow(candidate: str, incumbent: str, at_ms: int, *, request: str, test: Mapping[str, Any]) -> Record:
    """Return the record that a candidate begins to trade play money. test: the plan of the comparison."""
    values = {"candidate": candidate, "incumbent": incumbent, "request": request, "test": dict(test)}
    return _record("shadow", at_ms, values)


def of_kept(candidate: str, at_ms: int, *, reason: str, figures: Mapping[str, Any]) -> Record:
    """Return the record that a shadow ended and the incumbent stays. figures: of the comparison, as they ended."""
    return _record("kept", at_ms, {"candidate": candidate, "reason": reason, "figures": dict(figures)})


def of_swapping(swap: Swap, at_ms: int) -> Record:
    """Return the record that another ensemble is about to serve; written before any file changes."""
    return _record("swapping", at_ms, asdict(swap))


def of_serving(
    model: str, previous: str, cause: Cause, at_ms: int, *, detail: str, test: Mapping[str, Any] | None
) -> Record:
    """Return the record that `model` serves from here on. test: the plan by which it is watched, None for not at all.

    It stands in one transaction with the run record that decisions after it rest on.
    """
    values = {"model": model, "previous": previous, "cause": cause.value, "detail": detail}
    return _record("serving", at_ms, {**values, "test": None if test is None else dict(test)})


def of_swap_failed(swap: Swap, at_ms: int, *, reason: str) -> Record:
    """Return the record that a swap could not be carried out: what served goes on serving."""
    return _record("swap_failed", at_ms, {**asdict(swap), "reason": reason})


def of_confirmed(model: str, at_ms: int, *, reason: str = "", figures: Mapping[str, Any]) -> Record:
    """Return the record that a new ensemble is watched no more: it did well enough for long enough.

    reason: in words; also that there was nothing left to compare it with.
    """
    return _record("confirmed", at_ms, {"model": model, "reason": reason, "figures": dict(figures)})


def of_pinned(at_ms: int, *, is_pinned: bool, source: str) -> Record:
    """Return the record that a person fixed the present ensemble, or let it go again."""
    return _record("pinned", at_ms, {"is_pinned": is_pinned, "source": source})


STEPS: Sequence[str] = (
    "requested",
    "trained",
    "shadow",
    "kept",
    "swapping",
    "serving",
    "swap_failed",
    "confirmed",
    "pinned",
)
"""Every kind of `model` record."""


# ---- what each of them means -------------------------------------------------------------------------------------
def _requested(life: Life, payload: Mapping[str, Any]) -> Life:
    scheduled_ms = payload["scheduled_ms"]
    retrain = Retrain(
        request=payload["request"],
        by=RetrainBy(payload["by"]),
        at_ms=payload["at_ms"],
        scheduled_ms=scheduled_ms,
    )
    return replace(life, retrain=retrain, scheduled_ms=life.scheduled_ms if scheduled_ms is None else scheduled_ms)


def _trained(life: Life, payload: Mapping[str, Any]) -> Life:
    outcome = Outcome(payload["outcome"])
    failures = life.failures + 1 if outcome is Outcome.FAILED else 0
    return replace(_retrain_ended(life, payload, outcome, payload["reason"], payload["candidate"]), failures=failures)


def _retrain_ended(
    life: Life, payload: Mapping[str, Any], outcome: Outcome, reason: str, candidate: str | None = None
) -> Life:
    if life.retrain is None:
        return life
    ended = replace(life.retrain, outcome=outcome, reason=reason, ended_ms=payload["at_ms"])
    return replace(life, retrain=ended if candidate is None else replace(ended, candidate=candidate))


def _shadow(life: Life, payload: Mapping[str, Any]) -> Life:
    return replace(life, phase=Phase.SHADOW, candidate=payload["candidate"], request=payload["request"])


def _kept(life: Life, payload: Mapping[str, Any]) -> Life:
    if _is_of_newest(life):
        life = _retrain_ended(life, payload, Outcome.KEPT, payload["reason"])
    return replace(life, phase=Phase.STEADY, candidate="", request="")


def _is_of_newest(life: Life) -> bool:
    """Whether the candidate in shadow comes from the newest retraining."""
    return life.retrain is not None and life.request != "" and life.retrain.request == life.request


def _swapping(life: Life, payload: Mapping[str, Any]) -> Life:
    swap = Swap(old=payload["old"], new=payload["new"], cause=Cause(payload["cause"]), detail=payload["detail"])
    return replace(life, swap=swap)


def _serving(life: Life, payload: Mapping[str, Any]) -> Life:
    model, cause = payload["model"], Cause(payload["cause"])
    if model == life.candidate and _is_of_newest(life):
        life = _retrain_ended(life, payload, Outcome.PROMOTED, payload["detail"])
    return replace(
        life,
        serving=model,
        since_ms=payload["at_ms"],
        previous=payload["previous"],
        phase=Phase.STEADY if payload["test"] is None else Phase.WATCH,
        candidate="",
        request="",
        swap=None,
        is_pinned=life.is_pinned and cause is Cause.FOUND,
    )


def _swap_failed(life: Life, _payload: Mapping[str, Any]) -> Life:
    return replace(life, swap=None)


def _confirmed(life: Life, _payload: Mapping[str, Any]) -> Life:
    return replace(life, phase=Phase.STEADY)


def _pinned(life: Life, payload: Mapping[str, Any]) -> Life:
    return replace(life, is_pinned=payload["is_pinned"])


_STEPS = {
    "requested": _requested,
    "trained": _trained,
    "shadow": _shadow,
    "kept": _kept,
    "swapping": _swapping,
    "serving": _serving,
    "swap_failed": _swap_failed,
    "confirmed": _confirmed,
    "pinned": _pinned,
}
