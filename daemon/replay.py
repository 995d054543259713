"""Recomputes every decision of a journal, byte for byte, and says which come out differently."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from daemon import journal_reader
from daemon.errors import ArtifactError, DataError, FatalError
from daemon.fold import Difference, Fold, readable
from daemon.models import load_bundle
from daemon.ports import Entry
from daemon.serving import make_trader, reference_of
from strategy.bundle import Bundle
from strategy.observation import OBSERVATION_HASH
from strategy.trader import Setup

_SHOWN = 10


@dataclass(slots=True)
class Replay:
    """What came of a replay. `differ` counts decisions; `first` holds the first of them."""

    decisions: int = 0
    differ: int = 0
    runs: int = 0
    first: list[Difference] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return the documented object of `sacd replay --json`."""
        first = [{"seq": d.seq, "symbol": d.symbol, "open_ms": d.open_ms, "fields": list(d.fields)} for d in self.first]
        return {"decisions": self.decisions, "differ": self.differ, "runs": self.runs, "first_differences": first}


def replay(path: Path, registry: Path, progress: Callable[[int], None] | None = None) -> Replay:
    """Decide again on everything in the journal at `path`, with the bundles it names, found in `registry`.

    progress: told the seq reached.  Raises DataError when the journal holds no run, ArtifactError when a bundle is
    missing, FatalError when the journal is broken, naming the entry and the decision that cannot come out again.
    """
    replayer = _Replayer(registry)
    try:
        return replayer.run(path, progress)
    except FatalError as error:
        lost = _decision_from(path, replayer.seq)
        raise FatalError(f"{path}: {error}{lost}; see `sacd journal verify`") from error


def _decision_from(path: Path, seq: int) -> str:
    """Return in words which decision is the first that an entry which cannot be applied takes with it."""
    try:
        entry = next(iter(journal_reader.read(path, after=seq - 1, kinds={"decision"}, limit=1)), None)
    except DataError:
        return ""  # the entry itself cannot be read, and the message names it already
    if entry is None:
        return ""
    symbol, open_ms = entry.payload.get("symbol"), entry.payload.get("open_ms")
    return f"; the decision of entry {entry.seq} ({symbol}, candle {open_ms}) differs: it cannot come out again"


class _Replayer:
    """Follows the runs of a journal: each may have other parameters and another ensemble."""

    def __init__(self, registry: Path) -> None:
        self._registry = registry
        self._bundles: dict[str, Bundle] = {}
        self._fold: Fold | None = None
        self._bundle: Bundle | None = None
        self._result = Replay()
        self.seq = 0
        """Of the entry that is being applied."""

    def run(self, path: Path, progress: Callable[[int], None] | None) -> Replay:
        for entry in journal_reader.read(path):
            self.seq = entry.seq
            if entry.kind == "run":
                self._begin(entry)
            else:
                self._apply(entry)
            if progress is not None and entry.seq % 500 == 0:
                progress(entry.seq)
        if self._fold is None:
            raise DataError(f"{path} holds no run: nothing has been decided yet")
        self._fold.finish()
        return self._result

    def _begin(self, entry: Entry) -> None:
        """Continue the account under the parameters and the ensemble of the next run."""
        payload = entry.payload
        with readable(entry):
            _refuse_other_features(payload)
            setup, cash = Setup.from_json(payload["setup"]), float(payload["account"]["cash"])
            self._bundle = bundle = self._find(payload["model"])
            if self._fold is None:
                self._fold = Fold(make_trader(setup, bundle, cash), cash)
            self._fold.begin(payload, reference_of(bundle))
        self._result.runs += 1

    def _apply(self, entry: Entry) -> None:
        if self._fold is None or self._bundle is None:
            raise FatalError(f"journal entry {entry.seq} ({entry.kind}) stands before any run")
        self._result.decisions += entry.kind == "decision"
        found = self._fold.apply(entry, self._bundle.ensemble)
        self._result.differ += len(found)
        self._result.first += found[: _SHOWN - len(self._result.first)]

    def _find(self, model_id: str) -> Bundle:
        """Return the bundle with this id from the registry."""
        if model_id not in self._bundles:
            candidates = sorted(self._registry.iterdir()) if self._registry.is_dir() else []
            for directory in (d for d in candidates if d.is_dir() and (d / "manifest.json").exists()):
                try:
                    bundle = load_bundle(directory)
                except ArtifactError:
                    continue  # a broken neighbour is the business of `sacd models list`
                self._bundles[bundle.manifest.id] = bundle
        if model_id not in self._bundles:
            raise ArtifactError(
                f"ensemble {model_id[:16]}, which the journal was written with, is not in {self._registry}: name the "
                "directory that holds it with --models"
            )
        return self._bundles[model_id]


def _refuse_other_features(run: Mapping[str, Any]) -> None:
    if run["observation_hash"] != OBSERVATION_HASH:
        raise ArtifactError(
            "the journal was written by a version of sacd whose features differ from this one: replay it with that "
            f"version ({run['versions']['sacd']})"
        )
