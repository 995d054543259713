"""The ledger of trials: every recipe that was ever trained, searched or evaluated, written down by the runs themselves.

The best of many trials looks good by chance. How good, only their number and spread tell, and both are gone when nobody
wrote down what did not work. Training, search, comparison and evaluation write here before anybody can be tempted.

What counts as a trial: one recipe (settings, seed, candles, split) whose result could be seen, from its first score on;
also one that was given up, failed or never traded. The same recipe with the same result counts once, however often it
was run or resumed; with another result, because code or libraries changed in between, it counts again. `looks` says how
many scores a run's best weights were picked from. They are told, and do not count as trials: the scores of one run move
together, and the spread between trials that deflation works with is one of picked scores already, so that the luck of
picking within a run is in it. What was tried elsewhere is noted by hand, with its number. Members of refits are written
down and told, and do not count either: they repeat a recipe that was chosen before, and nothing is chosen from them.
"""

import hashlib
import json
import math
import os
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from training.errors import TrainingError
from training.trials_file import FIRST, LedgerDamaged, Line, LineFile

DEFAULT_PLACE = Path("models", "trials.jsonl")
VARIABLE = "SACD_TRIALS"
_DAY_MS = 86_400_000
_MOST_NOTED = 1_000_000_000
_LOOK = "look"


class Kind(StrEnum):
    """Who made a trial."""

    MEMBER = "member"
    TUNE = "tune"
    COMPARE = "compare"
    EVALUATION = "evaluation"
    REFIT = "refit"
    """A member of a recipe that an evaluation trained anew: nothing is selected from them, so they are not counted."""
    RETRAIN = "retrain"
    """A candidate that a running daemon asked for and a gate judged: each of them is selected from, or not."""
    NOTE = "note"
    """Written by hand, for trials made elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One trial, or a note of several.

    recipe: `fingerprint` of all that decides the result; empty in a note.  score: annualised Sharpe ratio on candles
    that were not practised on, None when there is none.  looks: scores that were seen of it.  is_over: False for one
    that was looked at and may still go on.  from_ms, to_ms: what scored it, None without.  count: how many trials it
    stands for.  at: when it was written, ISO; empty before.
    """

    kind: Kind
    recipe: str
    seed: int | None = None
    score: float | None = None
    looks: int = 0
    is_over: bool = True
    from_ms: int | None = None
    to_ms: int | None = None
    symbols: tuple[str, ...] = ()
    count: int = 1
    words: str = ""
    at: str = ""

    @property
    def days(self) -> float | None:
        """How many days scored it."""
        return None if self.from_ms is None or self.to_ms is None else (self.to_ms - self.from_ms) / _DAY_MS

    def scored(self, score: float | None, looks: int, *, is_over: bool = True) -> "Trial":
        """Return it with a score; one that is no number is none."""
        known = score if score is not None and math.isfinite(score) else None
        return replace(self, score=known, looks=looks, is_over=is_over)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return {**asdict(self), "kind": self.kind.value, "symbols": list(self.symbols), "days": self.days}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Trial":
        """Return what `to_json` told. Raises KeyError, TypeError or ValueError for anything else."""
        names = {name: values[name] for name in cls.__dataclass_fields__}
        for name, kind in _KINDS.items():
            if not isinstance(names[name], kind):
                raise TypeError(f"{name} is {names[name]!r}")
        return cls(**{**names, "kind": Kind(names["kind"]), "symbols": tuple(names["symbols"])})


_KINDS: dict[str, Any] = {
    "recipe": str,
    "seed": int | None,
    "score": float | int | None,
    "looks": int,
    "is_over": bool,
    "from_ms": int | None,
    "to_ms": int | None,
    "symbols": list,
    "count": int,
    "words": str,
    "at": str,
}


def fingerprint(recipe: Mapping[str, Any]) -> str:
    """Return what names a recipe, 64 digits: the same for the same JSON values, whatever their order."""
    text = json.dumps(recipe, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def place_of(stated: Path | None, environ: Mapping[str, str] = os.environ) -> Path:
    """Return where the ledger lies: as stated, else where SACD_TRIALS says, else models/trials.jsonl."""
    if stated is not None:
        return stated
    return Path(environ[VARIABLE]) if environ.get(VARIABLE) else DEFAULT_PLACE


# ---- what the trials say ----------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Trials, each once, in the order in which they were written, notes as they are.

    counted: those that something was selected from.  refits: members of refits, which count among no trials.
    """

    counted: tuple[Trial, ...]
    refits: tuple[Trial, ...] = ()

    @classmethod
    def of(cls, trials: Iterable[Trial]) -> "Tally":
        """Return the tally of all lines of a ledger: per recipe each different end, or else the last look."""
        kept: dict[tuple[str, object], Trial] = {}
        ended = set[str]()
        for place, trial in enumerate(trials):
            if trial.kind is Kind.NOTE:
                kept["", place] = trial
            elif trial.is_over:
                ended.add(trial.recipe)
                kept.pop((trial.recipe, _LOOK), None)
                kept.setdefault((trial.recipe, trial.score), trial)
            elif trial.recipe not in ended:
                kept[trial.recipe, _LOOK] = trial
        found = tuple(kept.values())
        return cls(
            counted=tuple(trial for trial in found if trial.kind is not Kind.REFIT),
            refits=tuple(trial for trial in found if trial.kind is Kind.REFIT),
        )

    @property
    def count(self) -> int:
        """How many trials there were."""
        return sum(trial.count for trial in self.counted)

    @property
    def sharpes(self) -> tuple[float, ...]:
        """The annualised Sharpe ratios of those that have one."""
        return tuple(trial.score for trial in self.counted if trial.score is not None)

    @property
    def looks(self) -> int:
        """How many scores were seen, of all trials."""
        return sum(trial.looks for trial in self.counted)

    @property
    def median(self) -> float | None:
        """The median Sharpe ratio, None without one."""
        return statistics.median(self.sharpes) if self.sharpes else None

    def only(self, kind: Kind) -> "Tally":
        """Return the tally of one kind, which for refits is the only one that counts them."""
        return Tally(counted=tuple(trial for trial in (*self.counted, *self.refits) if trial.kind is kind))


# ---- the ledger -------------------------------------------------------------------------------------------------
class Ledger:
    """The ledger at `place`, open for writing."""

    def __init__(self, place: Path, now_ms: Callable[[], int] | None = None) -> None:
        """Make the file when it is missing, and verify it. now_ms: the clock, that of the machine when None.

        Raises LedgerDamaged for a changed or removed line, TrainingError when it cannot be written.
        """
        self.place = place
        self._now_ms = _machine_ms if now_ms is None else now_ms
        self._file = LineFile(place)
        self._trials: list[Trial] = []
        self._recipes = set[str]()
        self._ends = set[tuple[str, float | None]]()
        self._file.append(lambda _: [])
        self._parse()

    def record(self, trials: Sequence[Trial]) -> int:
        """Write down the trials that are not there yet, and return how many; each of `trials` differs from the others.

        Raises as the constructor does.
        """
        at = datetime.fromtimestamp(self._now_ms() / 1000, UTC).isoformat(timespec="seconds")

        def fresh(_: Sequence[Line]) -> list[dict[str, Any]]:
            self._parse()
            missing = [trial for trial in trials if self._is_new(trial)]
            return [replace(trial, at=at).to_json() for trial in missing]

        written = self._file.append(fresh)
        self._parse()
        return written

    def tally(self) -> Tally:
        """Return what was written down, by this process and, up to its last `record`, by all others."""
        return Tally.of(self._trials)

    def count(self) -> int:
        """Return how many trials there were."""
        return self.tally().count

    def sharpes(self) -> tuple[float, ...]:
        """Return the annualised Sharpe ratios of the trials that have one."""
        return self.tally().sharpes

    @property
    def sha256(self) -> str:
        """What names its present state: the SHA-256 of its last line."""
        return self._file.lines[-1].sha256 if self._file.lines else FIRST

    def _parse(self) -> None:
        for trial in _trials_of(self._file, len(self._trials)):
            self._trials.append(trial)
            self._recipes.add(trial.recipe)
            if trial.is_over:
                self._ends.add((trial.recipe, trial.score))

    def _is_new(self, trial: Trial) -> bool:
        if trial.kind is Kind.NOTE:
            return True
        return (trial.recipe, trial.score) not in self._ends if trial.is_over else trial.recipe not in self._recipes


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A ledger as it lies there. lines: that are sound.  damage: what is wrong, in words.  torn: bytes half written."""

    lines: int
    sha256: str
    tally: Tally
    damage: str
    torn: int


def read_ledger(place: Path) -> Reading:
    """Return what is in the ledger and whether it is sound, and change nothing. Raises TrainingError if unreadable."""
    file, damage = LineFile(place), ""
    trials: list[Trial] = []
    try:
        file.read()
        trials = _trials_of(file, 0)
    except LedgerDamaged as error:
        damage = str(error)
    sha256 = file.lines[-1].sha256 if file.lines else FIRST
    return Reading(lines=len(file.lines), sha256=sha256, tally=Tally.of(trials), damage=damage, torn=len(file.torn))


def note(count: int, words: str) -> Trial:
    """Return a note of trials made elsewhere. Raises TrainingError for nonsense."""
    if not 1 <= count <= _MOST_NOTED:
        raise TrainingError(f"--count {count}: give 1 .. {_MOST_NOTED:,}, the number of trials made elsewhere")
    if not words.strip():
        raise TrainingError("--words is empty: say what was tried, and where")
    return Trial(kind=Kind.NOTE, recipe="", count=count, words=words.strip())


def _trials_of(file: LineFile, first: int) -> list[Trial]:
    trials = []
    for number, line in enumerate(file.lines[first:], first + 1):
        try:
            trials.append(Trial.from_json(line.values))
        except (KeyError, TypeError, ValueError) as error:
            raise LedgerDamaged(
                f"{file.path}: line {number} is no trial ({error}): it was written by another version of sacd, or by "
                "something else: take that version, or name another place with --ledger or SACD_TRIALS"
            ) from error
    return trials


def _machine_ms() -> int:
    return time.time_ns() // 1_000_000
