"""Where the ensembles stand, as `sacd status` and `sacd models list` show it. Values only."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from daemon.errors import DataError
from daemon.model_life import Life, Phase, Retrain
from daemon.ports import Entry
from strategy.errors import BadState


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowStatus:
    """How a candidate does beside the incumbent. ahead_bp: its lead per decision, in basis points, after costs.

    of: decisions after which it is dropped.  p: at most so often would one that is no better come so far.
    """

    decisions: int
    of: int
    ahead_bp: float
    p: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchStatus:
    """How a new ensemble does beside the former one. ahead: its lead since the swap, a share, after costs.

    of: decisions after which it is confirmed.  p: at most so often would one that is no worse fall so far behind.
    """

    decisions: int
    of: int
    ahead: float
    p: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftStatus:
    """How far the market lies from the training candles. limit: 0 for none.  features: the farthest first."""

    joint: float
    limit: float
    features: Sequence[tuple[str, float]]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON types."""
        features = [{"name": name, "distance": distance} for name, distance in self.features]
        return {"joint": self.joint, "limit": self.limit, "features": features}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelsStatus:
    """Which ensemble serves, which is tried, and what became of the retrainings; ids are short, "" for none.

    since_ms: when the present one began to serve.  next_retrain_ms: None without a schedule.  drift: None while it is
    not known.  progress: what a running trainer tells, in words.  fault: why the one that serves had no votes, "" while
    it has.
    """

    serving: str
    since_ms: int
    previous: str
    phase: Phase
    is_pinned: bool
    candidate: str
    shadow: ShadowStatus | None = None
    watch: WatchStatus | None = None
    retrain: Retrain | None = None
    next_retrain_ms: int | None = None
    drift: DriftStatus | None = None
    progress: str | None = None
    fault: str = ""

    @classmethod
    def of(
        cls,
        life: Life,
        compared: Mapping[str, Any] | None,
        *,
        horizon: int,
        next_retrain_ms: int | None = None,
        drift: DriftStatus | None = None,
        progress: str | None = None,
        fault: str = "",
    ) -> "ModelsStatus":
        """Return it of a life.

        compared: payload of the newest `shadow` record of the comparison that goes on, None before the first.
        horizon: decisions that comparison is meant to take.
        """
        return cls(
            serving=life.serving,
            since_ms=life.since_ms,
            previous=life.previous,
            phase=life.phase,
            is_pinned=life.is_pinned,
            candidate=life.candidate,
            shadow=_shadow(compared, horizon) if life.phase is Phase.SHADOW else None,
            watch=_watch(compared, horizon) if life.phase is Phase.WATCH else None,
            retrain=life.retrain,
            next_retrain_ms=next_retrain_ms,
            drift=drift,
            progress=progress,
            fault=fault,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the documented object of `--json`."""
        return {
            "serving": self.serving,
            "since_ms": self.since_ms,
            "previous": self.previous,
            "phase": self.phase.value,
            "pinned": self.is_pinned,
            "candidate": self.candidate,
            "shadow": None if self.shadow is None else asdict(self.shadow),
            "watch": None if self.watch is None else asdict(self.watch),
            "retrain": None if self.retrain is None else asdict(self.retrain),
            "next_retrain_ms": self.next_retrain_ms,
            "drift": None if self.drift is None else self.drift.to_json(),
            "progress": self.progress,
            "fault": self.fault,
        }


def _shadow(compared: Mapping[str, Any] | None, horizon: int) -> ShadowStatus:
    if compared is None:
        return ShadowStatus(decisions=0, of=horizon, ahead_bp=0.0, p=1.0)
    mean_bp = 1e4 * compared["mean"]
    return ShadowStatus(decisions=compared["count"], of=compared["of"], ahead_bp=mean_bp, p=compared["p_better"])


def _watch(compared: Mapping[str, Any] | None, horizon: int) -> WatchStatus:
    if compared is None:
        return WatchStatus(decisions=0, of=horizon, ahead=0.0, p=1.0)
    return WatchStatus(decisions=compared["count"], of=compared["of"], ahead=compared["lead"], p=compared["p_worse"])


def as_journalled(steps: Sequence[Entry], compared: Entry | None) -> ModelsStatus | None:
    """Return where the ensembles stand by the journal alone, None when it holds no step of theirs.

    steps: its `model` records, in order.  compared: its newest `shadow` record, None without one. What only a running
    daemon knows, next retraining and drift, stays out.  Raises DataError naming an entry that cannot be read.
    """
    life, horizon, since_seq = Life(), 0, 0
    for entry in steps:
        try:
            life = life.after(entry.payload)
            if entry.payload.get("test") is not None:  # a comparison begins
                horizon, since_seq = int(entry.payload["test"]["horizon"]), entry.seq
        except (BadState, KeyError, TypeError, ValueError) as error:
            raise _unreadable(entry, error) from error
    if not steps:
        return None
    is_of_it = compared is not None and compared.seq > since_seq
    try:
        return ModelsStatus.of(life, compared.payload if compared and is_of_it else None, horizon=horizon)
    except (KeyError, TypeError) as error:
        raise _unreadable(compared or steps[-1], error) from error


def _unreadable(entry: Entry, error: Exception) -> DataError:
    what = f"{type(error).__name__} {error}" if isinstance(error, LookupError) else str(error)
    return DataError(f"journal entry {entry.seq} ({entry.kind}) cannot be read: {what}; run `sacd journal verify`")
