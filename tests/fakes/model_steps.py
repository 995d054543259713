"""Steps in the life of the ensembles as the journal holds them, and the same as events: built from a few figures."""

import json
from collections.abc import Sequence
from typing import Any

from daemon.events import ModelStep
from daemon.model_life import (
    Cause,
    Life,
    Outcome,
    RetrainBy,
    Swap,
    of_kept,
    of_requested,
    of_serving,
    of_shadow,
    of_swap_failed,
    of_trained,
)
from daemon.ports import Entry, Record

OLD, NEW, OTHER = "c5a531e4ebf4bb31", "9b1c04d2e7aa4f10", "77aa01bb23cc45dd"
DAY_MS = 86_400_000
BEGIN_MS = 1_704_067_200_000
"""2024-01-01 00:00 UTC."""
SHADOW = {"scale": 0.01, "horizon": 200, "least": 20, "alpha": 0.05}
WATCH = {"scale": 0.01, "horizon": 60, "least": 1, "alpha": 0.05}


def at(day: float) -> int:
    return BEGIN_MS + round(day * DAY_MS)


def criterion(name: str, words: str, *, passed: bool = True, value: float | None = 1.0) -> dict[str, Any]:
    return {"name": name, "value": value, "threshold": 0.0, "passed": passed, "words": words}


def report(end_day: float, *gate: dict[str, Any]) -> dict[str, Any]:
    """What a trainer tells of a candidate that it made from two symbols and judged on the last 90 days."""
    return {
        "data": {
            "symbols": ["BTC/USDT", "ETH/USDT"],
            "start_ms": 1_502_942_400_000,
            "end_ms": at(end_day),
            "holdout_from_ms": at(end_day - 90),
            "files": [{"name": "btcusdt-1h.csv", "sha256": "0" * 64}],
            "days_unseen": 90.0,
        },
        "gate": list(gate),
        "difference": {"mean_bp": 0.8, "spread": 0.01, "per": "decision", "count": 90},
        "trials": 12,
        "seconds": 2_400.0,
        "members": 5,
    }


# ---- records ----------------------------------------------------------------------------------------------------
def found(model: str = OLD, day: float = 0.0, previous: str = "") -> Record:
    return of_serving(model, previous, Cause.FOUND, at(day), detail="the first run", test=None)


def requested(request: str = "a", day: float = 7.0, by: RetrainBy = RetrainBy.SCHEDULE) -> Record:
    scheduled_ms = at(day) if by is RetrainBy.SCHEDULE else None
    return of_requested(request, by, at(day), scheduled_ms=scheduled_ms, incumbent=OLD)


def trained(
    outcome: Outcome, request: str = "a", day: float = 7.5, *, reason: str = "", told: dict[str, Any] | None = None
) -> Record:
    candidate = NEW if outcome is Outcome.CANDIDATE else ""
    return of_trained(request, outcome, at(day), reason=reason, candidate=candidate, report=told or {})


def shadowed(candidate: str = NEW, request: str = "a", day: float = 7.5) -> Record:
    return of_shadow(candidate, OLD, at(day), request=request, test=SHADOW)


def dropped(reason: str = "not shown to be better", day: float = 30.0, candidate: str = NEW) -> Record:
    return of_kept(candidate, at(day), reason=reason, figures={})


def serves(
    model: str = NEW, previous: str = OLD, cause: Cause = Cause.PROVED, day: float = 40.0, detail: str = "ahead"
) -> Record:
    test = None if cause is Cause.ROLLBACK else WATCH
    return of_serving(model, previous, cause, at(day), detail=detail, test=test)


def swap_failed(cause: Cause, reason: str = "no room", day: float = 40.0, old: str = OLD, new: str = NEW) -> Record:
    return of_swap_failed(Swap(old=old, new=new, cause=cause, detail="ahead"), at(day), reason=reason)


def compared(phase: str = "shadow", **changes: Any) -> dict[str, Any]:
    """Payload of a `shadow` record."""
    values: dict[str, Any] = {
        "open_ms": BEGIN_MS, "phase": phase, "old": OLD, "new": NEW, "count": 31, "of": 200, "difference": 0.0012,
        "mean": 0.4e-4, "p_better": 0.22, "p_worse": 0.9, "lead": 0.003, "equity": {"old": 1_000.0, "new": 1_003.0},
        "drawdown": {"old": 0.0, "new": 0.01}, "decisions": {}, "same": {},
    }  # fmt: skip
    return values | changes


# ---- as they are read and told ----------------------------------------------------------------------------------
def entries(*records: Record) -> list[Entry]:
    """The records as a reader of the journal gets them, seq 1, 2, 3 ..."""
    return [
        Entry(seq=seq, at_ms=record.payload["at_ms"], kind=record.kind, payload=json.loads(json.dumps(record.payload)))
        for seq, record in enumerate(records, start=1)
    ]


def events(*records: Record, members: int = 5, seen_until_ms: int = 0) -> list[ModelStep]:
    """The records as sinks are told of them, one after the other."""
    told, life = list[ModelStep](), Life()
    for record in records:
        life = life.after(record.payload)
        serving = record.payload["step"] == "serving"
        told.append(
            ModelStep(
                payload=record.payload,
                life=life,
                members=members if serving else 0,
                seen_until_ms=seen_until_ms if serving else 0,
            )
        )
    return told


def life_after(*records: Record) -> Life:
    steps: Sequence[ModelStep] = events(*records)
    return steps[-1].life
