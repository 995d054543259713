"""What a trainer tells, checked value by value: how a retraining ended, and how far it is.

The trainer is another program, which may have been killed, out of memory or of another version: what it wrote counts
only when it is whole.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from daemon.model_life import Outcome

_Id = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
_IdOrNone = Annotated[str, Field(pattern=r"^([0-9a-f]{16})?$")]
_Count = Annotated[int, Field(ge=0, lt=2**53)]
_Moment = Annotated[int, Field(ge=0, lt=2**53)]
_LONGEST_VALUE = 60


class _Part(BaseModel):
    """An object that a trainer wrote; what it says beyond this is carried along unread."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True, allow_inf_nan=False)


_Kind = TypeVar("_Kind", bound=_Part)


class _File(_Part):
    name: str
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Data(_Part):
    symbols: list[str]
    start_ms: _Moment
    end_ms: _Moment
    holdout_from_ms: _Moment
    files: list[_File]
    days_unseen: float


class _Criterion(_Part):
    name: str
    value: float | None
    threshold: float | None
    passed: bool
    words: str


class _Difference(_Part):
    mean_bp: float
    spread: Annotated[float, Field(gt=0.0)]
    per: Literal["decision"]
    count: Annotated[int, Field(ge=1, lt=2**53)]


class _Report(_Part):
    data: _Data | None = None
    gate: list[_Criterion] = []
    difference: _Difference | None = None
    trials: _Count | None = None
    seconds: Annotated[float, Field(ge=0.0)] | None = None
    members: _Count | None = None


class _Result(_Part):
    format: Literal[1]
    request: _Id
    outcome: Literal["candidate", "kept", "failed"]
    candidate: _IdOrNone
    reason: Annotated[str, Field(max_length=4_000)]
    report: _Report


class _Progress(_Part):
    stage: Annotated[str, Field(max_length=40)]
    done: Annotated[float, Field(ge=0.0)]
    of: Annotated[float, Field(ge=0.0)]
    words: Annotated[str, Field(max_length=400)]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainResult:
    """How a retraining ended. request: which one; not always the one that was asked for last.

    outcome: CANDIDATE, KEPT or FAILED.  candidate: short id of what lies in the registry, "" for nothing.
    report: of data, gate, difference and time, JSON types; whole for a candidate, else as far as it came.
    """

    request: str
    outcome: Outcome
    candidate: str
    reason: str
    report: Mapping[str, Any]

    @property
    def spread(self) -> float | None:
        """Standard deviation, > 0, of the difference per decision on the holdout; None where it was not measured."""
        difference = self.report.get("difference")
        return None if difference is None else float(difference["spread"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a trainer is: `done` of `of` in a stage. words: for a person."""

    stage: str
    done: float
    of: float
    words: str


def result_of(values: Mapping[str, Any]) -> RetrainResult:
    """Return the result that stands in a file as `values`. Raises ValueError saying what is wrong with it."""
    result = _checked(_Result, values)
    outcome = Outcome(result.outcome)
    if outcome is Outcome.CANDIDATE and (fault := _fault_of_candidate(result)):
        raise ValueError(f'outcome is "candidate", and {fault}')
    return RetrainResult(
        request=result.request,
        outcome=outcome,
        candidate=result.candidate,
        reason=_printable(result.reason),
        report=values["report"],
    )


def progress_of(values: Mapping[str, Any]) -> Progress:
    """Return the progress that stands in a file as `values`. Raises ValueError saying what is wrong with it."""
    progress = _checked(_Progress, values)
    return Progress(
        stage=_printable(progress.stage), done=progress.done, of=progress.of, words=_printable(progress.words)
    )


def _fault_of_candidate(result: _Result) -> str:
    """Return why nothing may go into shadow on the word of this result, "" when it may."""
    report = result.report
    parts: dict[str, object] = {
        "candidate": result.candidate,
        "report.data": report.data,
        "report.gate": report.gate,
        "report.difference": report.difference,
    }
    for name, part in parts.items():
        if not part:
            return f"{name} is missing"
    failed = [criterion.name for criterion in report.gate if not criterion.passed]
    return f"criterion {failed[0][:_LONGEST_VALUE]!r} of its gate failed" if failed else ""


def _checked(kind: type[_Kind], values: Mapping[str, Any]) -> _Kind:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"{where} = {_shown(first['input'])}: {first['msg']}") from None


def _shown(value: object) -> str:
    """Return a value as a message may show it; for what is missing pydantic gives the object around it."""
    if isinstance(value, dict | list):
        return "..."
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)
