"""`run.json`: all that a run was asked for, so that it can go on after anything."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from training.candles import CandleFile, read_candle_file
from training.curriculum import Curriculum
from training.ensemble import EnsemblePlan
from training.errors import TrainingError
from training.gates import Gates
from training.held_out import HeldOut
from training.settings_text import describe, plan_from
from training.transfer import TakeOver, take_over


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRecord:
    """A candle file of the run. path: where it lay.  symbol: what it was taken for."""

    path: str
    sha256: str
    symbol: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRecord:
    """The bundle a run begins with. path: where it lay.  id: its whole id."""

    path: str
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """A run as it was asked for. since_ms, until_ms: the span.  versions: those it began with."""

    plan: EnsemblePlan
    files: tuple[FileRecord, ...]
    since_ms: int | None
    until_ms: int | None
    command: str
    keep_replay: bool
    versions: Mapping[str, str]
    source: SourceRecord | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON types."""
        plan = self.plan
        return {
            "command": self.command,
            "files": [asdict(file) for file in self.files],
            "since_ms": self.since_ms,
            "until_ms": self.until_ms,
            "members": plan.members,
            "seed": plan.seed,
            "spread": plan.spread,
            "gammas": list(plan.gammas),
            "held": asdict(plan.held),
            "weighting": plan.weighting,
            "gates": None if plan.gates is None else asdict(plan.gates),
            "curriculum": None if plan.curriculum is None else asdict(plan.curriculum),
            "source": None if self.source is None else asdict(self.source),
            "member": describe(plan.member),
            "keep_replay": self.keep_replay,
            "versions": dict(self.versions),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "RunRecord":
        """Return what `to_json` told. Raises TrainingError when it is not that."""
        try:
            return cls(
                plan=EnsemblePlan(
                    member=plan_from(values["member"]),
                    members=values["members"],
                    seed=values["seed"],
                    spread=values["spread"],
                    gammas=tuple(values["gammas"]),
                    held=HeldOut(**values["held"]),
                    weighting=values["weighting"],
                    gates=None if values["gates"] is None else Gates(**values["gates"]),
                    curriculum=_curriculum(values["curriculum"]),
                ),
                source=None if values["source"] is None else SourceRecord(**values["source"]),
                files=tuple(FileRecord(**file) for file in values["files"]),
                **{name: values[name] for name in ("since_ms", "until_ms", "command", "keep_replay", "versions")},
            )
        except (KeyError, TypeError) as error:
            raise TrainingError(f"run.json: it is not as sacd wrote it ({error}): begin anew elsewhere") from error


def _curriculum(values: Mapping[str, Any] | None) -> Curriculum | None:
    return None if values is None else Curriculum(**{**values, "thresholds": tuple(values["thresholds"])})


def records_of(paths: Sequence[Path], files: Sequence[CandleFile]) -> tuple[FileRecord, ...]:
    """Return the records of files that were read from `paths`."""
    return tuple(
        FileRecord(path=str(path.absolute()), sha256=file.sha256, symbol=file.table.symbol)
        for path, file in zip(paths, files, strict=True)
    )


def take_again(record: SourceRecord | None, members: int) -> tuple[TakeOver, ...]:
    """Return what each member begins with. Raises TrainingError when the bundle is not the one it was."""
    if record is None:
        return ()
    sources = tuple(take_over(Path(record.path), index) for index in range(members))
    if sources[0].bundle != record.id:
        raise TrainingError(
            f"{record.path}: bundle {sources[0].bundle[:16]} lies there, the run began with {record.id[:16]}: put that "
            "one back, or begin anew"
        )
    return sources


def read_again(records: Sequence[FileRecord]) -> list[CandleFile]:
    """Return the files of a run that goes on. Raises TrainingError when one is not what it was."""
    files = []
    for record in records:
        file = read_candle_file(Path(record.path), symbol=record.symbol)
        if file.sha256 != record.sha256:
            raise TrainingError(
                f"{record.path}: its sha256 is {file.sha256}, the run began with {record.sha256}: put that file back, "
                "or begin anew"
            )
        files.append(file)
    return files
