"""Comparisons told once more from the candles of a journal and the steps in the life of the ensembles, nothing else."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from daemon import journal_reader, records
from daemon.contenders import Contenders
from daemon.models import load_bundle
from daemon.ports import CandleGroup
from strategy.features import FeatureWindow
from strategy.shadow import Pair
from strategy.trader import Setup, Sight


class _Retelling:
    def __init__(self, journal: Path, registry: Path) -> None:
        self._journal = journal
        run = next(journal_reader.read(journal, kinds={"run"})).payload
        self._setup, self._cash = Setup.from_json(run["setup"]), float(run["account"]["cash"])
        served = load_bundle(registry / str(run["model"])[:16])
        self._find = Contenders(registry / "current", self._setup.timeframe.name, served).find
        missing = self._setup.strategy.max_missing
        self._windows = {symbol: FeatureWindow(missing) for symbol in self._setup.instruments}
        self.pair: Pair | None = None
        self._sides = ("", "")
        self._count, self._total = 0, 0.0

    def marks(self) -> Iterator[dict[str, Any]]:
        """Yield what each `shadow` record has to say."""
        for entry in journal_reader.read(self._journal, kinds={"candle", "model"}):
            if entry.kind == "model":
                self._step(entry.payload)
                continue
            group = records.read_group(entry.payload)
            if group.is_backfill:
                self._warm(group)
            else:
                yield from self._mark(group)

    def _warm(self, group: CandleGroup) -> None:
        for candle in group.candles:
            self._windows[candle.symbol].push(candle)
        if self.pair is not None:
            self.pair.on_warm(group.candles)

    def _mark(self, group: CandleGroup) -> Iterator[dict[str, Any]]:
        by_symbol = {candle.symbol: candle for candle in group.candles}
        in_order = [by_symbol[symbol] for symbol in self._windows if symbol in by_symbol]
        sights = [Sight(candle, self._windows[candle.symbol].update(candle), None, 0.0) for candle in in_order]
        marked = None if self.pair is None else self.pair.on_candles(sights)
        if marked is None:
            return
        if marked.difference is not None:
            self._count, self._total = self._count + 1, self._total + marked.difference
        yield {
            "open_ms": marked.open_ms,
            "old": self._sides[0],
            "new": self._sides[1],
            "count": self._count,
            "mean": self._total / max(self._count, 1),
            "lead": math.expm1(self._total),
            "difference": marked.difference,
            "equity": {"old": marked.old.equity, "new": marked.new.equity},
        }

    def _step(self, payload: Mapping[str, Any]) -> None:
        match payload["step"]:
            case "shadow":
                self._compare(payload["incumbent"], payload["candidate"])
            case "serving" if payload["test"] is None:
                self.pair = None
            case "serving":
                self._compare(payload["previous"], payload["model"])
            case "kept" | "confirmed":
                self.pair = None

    def _compare(self, old: str, new: str) -> None:
        self._count, self._total = 0, 0.0
        if self.pair is None or self._sides != (old, new):
            self._sides = old, new
            self.pair = Pair(self._setup, self._cash, self._find(old), self._find(new))


def retold(journal: Path, registry: Path) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """Return what the `shadow` records must say, in order, and the state of the accounts at the end, None without."""
    retelling = _Retelling(journal, registry)
    marks = list(retelling.marks())
    return marks, None if retelling.pair is None else retelling.pair.state()


def told(journal: Path) -> list[dict[str, Any]]:
    """Return what the `shadow` records say of it."""
    kept = ("open_ms", "old", "new", "count", "mean", "lead", "difference", "equity")
    return [{name: entry.payload[name] for name in kept} for entry in journal_reader.read(journal, kinds={"shadow"})]
