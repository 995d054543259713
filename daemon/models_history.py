"""The history of the ensembles of an account: from the journal's `model` records to one row per attempt.

A row begins with a retraining, with a candidate that a person put forward, or with an ensemble that was found, and
what happens later to the same attempt is added to its row. Pure: journal entries in, rows out.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from daemon.errors import DataError
from daemon.model_life import Cause, Outcome, RetrainBy
from daemon.ports import Entry


class Standing(StrEnum):
    """What has become of an attempt."""

    TRAINING = "training"
    PASSED = "passed"
    """The gate let it pass; it is in shadow next."""
    SHADOW = "shadow"
    KEPT = "kept"
    """The incumbent was kept: the gate refused it, or it lost in shadow."""
    CUT_SHORT = "cut short"
    """Another ensemble was put in place while it was in shadow."""
    FAILED = "failed"
    """There was nothing to judge."""
    SWAP_FAILED = "swap failed"
    """It could not be put in place of the one that serves."""
    WATCH = "watch"
    """It serves, and the former one beside it would come back."""
    SERVES = "serves"
    ROLLBACK_FAILED = "rollback failed"
    """It serves on: the former one could not be put in place."""
    REPLACED = "replaced"
    """Another one has taken its place."""
    ROLLED_BACK = "rolled back"


class Origin(StrEnum):
    """Where an attempt comes from."""

    SCHEDULE = "schedule"
    HAND = "hand"
    DRIFT = "drift"
    FOUND = "found"
    """It was the configured one when a run began."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """One thing that the gate asked. words: what was found."""

    name: str
    value: float | None
    threshold: float | None
    passed: bool
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedOn:
    """What a candidate was made from, and judged on from holdout_from_ms. days_unseen: of the holdout."""

    symbols: tuple[str, ...]
    start_ms: int
    end_ms: int
    holdout_from_ms: int
    days_unseen: float
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What became of an attempt at a moment, and why, in words, "" where that needs none."""

    at_ms: int
    standing: Standing
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryRow:
    """One attempt. request: of the retraining, "" without one.  model: short id of the ensemble, "" for none.

    data: None when no trainer told.  turns: at least one, the last is how it stands.
    """

    at_ms: int
    origin: Origin
    turns: tuple[Turn, ...]
    request: str = ""
    model: str = ""
    data: TrainedOn | None = None
    gate: tuple[Criterion, ...] = ()

    @property
    def standing(self) -> Standing:
        """How it stands now."""
        return self.turns[-1].standing

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return {**asdict(self), "standing": self.standing.value}


def history(entries: Iterable[Entry]) -> list[HistoryRow]:
    """Return the attempts, oldest first. entries: `model` records in the order of the journal.

    Raises DataError naming the entry that cannot be read.
    """
    told = _History()
    for entry in entries:
        try:
            told.take(entry.payload)
        except (KeyError, TypeError, ValueError) as error:
            what = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise DataError(
                f"journal entry {entry.seq} ({entry.kind}) cannot be read: {what}; run `sacd journal verify`"
            ) from error
    return told.rows


class _History:
    """The rows so far, and which ensemble serves."""

    def __init__(self) -> None:
        self.rows: list[HistoryRow] = []
        self._serving = ""
        self._steps: Mapping[str, Callable[[Mapping[str, Any]], None]] = {
            "requested": self._requested,
            "trained": self._trained,
            "shadow": self._shadow,
            "kept": self._kept,
            "serving": self._serves,
            "swap_failed": self._swap_failed,
            "confirmed": self._confirmed,
        }

    def take(self, payload: Mapping[str, Any]) -> None:
        """Take the next step; one that changes no row, such as a pin, says nothing here."""
        step = self._steps.get(payload["step"])
        if step is not None:
            step(payload)

    # ---- trained and tried --------------------------------------------------------------------------------------
    def _requested(self, payload: Mapping[str, Any]) -> None:
        origin = Origin(RetrainBy(payload["by"]).value)
        turn = Turn(at_ms=payload["at_ms"], standing=Standing.TRAINING)
        self.rows.append(HistoryRow(at_ms=payload["at_ms"], origin=origin, turns=(turn,), request=payload["request"]))

    def _trained(self, payload: Mapping[str, Any]) -> None:
        report, outcome = payload["report"], Outcome(payload["outcome"])
        standing = _TRAINED.get(outcome)
        if standing is None:
            raise ValueError(f"no training ends with {outcome.value!r}")
        at = self._last(lambda row: row.request == payload["request"])
        if at is None:
            return
        self.rows[at] = replace(
            self.rows[at],
            model=payload["candidate"],
            data=_read_data(report.get("data")),
            gate=tuple(map(_read_criterion, report.get("gate", ()))),
        )
        self._turn(at, payload, standing, payload["reason"])

    def _shadow(self, payload: Mapping[str, Any]) -> None:
        request = payload["request"]
        at = self._last(lambda row: row.request == request) if request else None
        if at is None:
            self._add(payload, Origin.HAND, Standing.SHADOW, payload["candidate"])
        else:
            self._turn(at, payload, Standing.SHADOW)

    def _kept(self, payload: Mapping[str, Any]) -> None:
        at = self._last(lambda row: row.model == payload["candidate"] and row.standing in _WAITING)
        self._turn(at, payload, Standing.KEPT, payload["reason"])

    # ---- serving ------------------------------------------------------------------------------------------------
    def _serves(self, payload: Mapping[str, Any]) -> None:
        model, former, cause = payload["model"], self._serving, Cause(payload["cause"])
        self._serving = model
        self._turn(self._tried_beside(model), payload, Standing.CUT_SHORT, f"{model} was put in place")
        if cause is Cause.ROLLBACK:
            self._turn(self._serving_row(former), payload, Standing.ROLLED_BACK, payload["detail"])
            again = self._last(lambda row: row.model == model and row.standing in _LEFT)
            self._turn(again, payload, Standing.SERVES, f"again, after {former}")
            return
        self._turn(self._serving_row(former), payload, Standing.REPLACED, f"by {model}")
        standing = Standing.SERVES if payload["test"] is None else Standing.WATCH
        at = self._last(lambda row: row.model == model and row.standing in _WAITING)
        if at is None:
            origin = Origin.FOUND if cause is Cause.FOUND else Origin.HAND
            self._add(payload, origin, standing, model, payload["detail"])
        else:
            self._turn(at, payload, standing, payload["detail"])

    def _swap_failed(self, payload: Mapping[str, Any]) -> None:
        if Cause(payload["cause"]) is Cause.ROLLBACK:
            self._turn(self._serving_row(payload["old"]), payload, Standing.ROLLBACK_FAILED, payload["reason"])
            return
        at = self._last(lambda row: row.model == payload["new"] and row.standing in _WAITING)
        if at is None:
            self._add(payload, Origin.HAND, Standing.SWAP_FAILED, payload["new"], payload["reason"])
        else:
            self._turn(at, payload, Standing.SWAP_FAILED, payload["reason"])

    def _confirmed(self, payload: Mapping[str, Any]) -> None:
        reason = f"confirmed: {payload['reason']}" if payload["reason"] else "confirmed"
        self._turn(self._serving_row(payload["model"]), payload, Standing.SERVES, reason)

    # ---- rows ---------------------------------------------------------------------------------------------------
    def _add(
        self, payload: Mapping[str, Any], origin: Origin, standing: Standing, model: str, reason: str = ""
    ) -> None:
        """Begin a row of an ensemble that no retraining has just made; an earlier one may have."""
        at = self._last(lambda row: row.model == model and row.data is not None)
        turn = Turn(at_ms=payload["at_ms"], standing=standing, reason=reason)
        made = HistoryRow(at_ms=payload["at_ms"], origin=origin, turns=(turn,), model=model)
        if at is not None:
            made = replace(made, data=self.rows[at].data, gate=self.rows[at].gate)
        self.rows.append(made)

    def _turn(self, at: int | None, payload: Mapping[str, Any], standing: Standing, reason: str = "") -> None:
        """Add what becomes of the row at `at`; None where a journal that begins later has no such row."""
        if at is not None:
            turn = Turn(at_ms=payload["at_ms"], standing=standing, reason=reason)
            self.rows[at] = replace(self.rows[at], turns=(*self.rows[at].turns, turn))

    def _tried_beside(self, model: str) -> int | None:
        """Return the row that is in shadow and not of `model`; a swap that failed leaves it there."""
        return self._last(
            lambda row: (
                row.model != model
                and row.standing in _IN_SHADOW
                and any(turn.standing is Standing.SHADOW for turn in row.turns)
            )
        )

    def _serving_row(self, model: str) -> int | None:
        return self._last(lambda row: row.model == model and row.standing in _SERVING)

    def _last(self, is_it: Callable[[HistoryRow], bool]) -> int | None:
        """Return the place of the newest row for which `is_it` holds, None when there is none."""
        return next((at for at in range(len(self.rows) - 1, -1, -1) if is_it(self.rows[at])), None)


_TRAINED = {
    Outcome.CANDIDATE: Standing.PASSED,
    Outcome.KEPT: Standing.KEPT,
    Outcome.FAILED: Standing.FAILED,
}
_WAITING = frozenset({Standing.PASSED, Standing.SHADOW, Standing.SWAP_FAILED})
_IN_SHADOW = frozenset({Standing.SHADOW, Standing.SWAP_FAILED})
_SERVING = frozenset({Standing.WATCH, Standing.SERVES, Standing.ROLLBACK_FAILED})
_LEFT = frozenset({Standing.REPLACED, Standing.ROLLED_BACK})


# ---- what a trainer told ----------------------------------------------------------------------------------------
def _read_data(values: Mapping[str, Any] | None) -> TrainedOn | None:
    if values is None:
        return None
    return TrainedOn(
        symbols=tuple(values["symbols"]),
        start_ms=int(values["start_ms"]),
        end_ms=int(values["end_ms"]),
        holdout_from_ms=int(values["holdout_from_ms"]),
        days_unseen=float(values["days_unseen"]),
        files=tuple(file["name"] for file in values["files"]),
    )


def _read_criterion(values: Mapping[str, Any]) -> Criterion:
    return Criterion(
        name=str(values["name"]),
        value=_number(values["value"]),
        threshold=_number(values["threshold"]),
        passed=bool(values["passed"]),
        words=str(values["words"]),
    )


def _number(value: Any) -> float | None:  # noqa: ANN401  # JSON types
    return None if value is None else float(value)
