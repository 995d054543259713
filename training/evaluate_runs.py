"""The runs an evaluation is made of: the ensemble and its members over the same candles under various terms.

A run depends on nothing but its terms and the market, so runs go side by side, and how many at once changes nothing.
"""

import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from strategy.candle_table import CandleTable
from strategy.features import WINDOW
from strategy.policy import Actor, Ensemble
from strategy.trader import Reference, Setup
from training.errors import TrainingError
from training.recorder import alone, only, recorded, scaled
from training.track import Track
from training.workers import End, Link, LocalPool, Task

ENSEMBLE = "ensemble"
_WORTH_A_PROCESS = 40_000
"""Candles below which starting processes takes longer than they save."""
_MOST_WORKERS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The terms of one run. symbol: of an account of its own, "" for one account of all.  member: who decides alone.

    cost: factor on fees and slippage.  is_late: votes are one candle late.
    """

    symbol: str = ""
    member: int | None = None
    cost: float = 1.0
    is_late: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Market:
    """What all runs share. start_ms: of the span; earlier candles fill the windows.  cash: quote, of each account."""

    tables: tuple[CandleTable, ...]
    setup: Setup
    actors: tuple[Actor, ...]
    weights: tuple[float, ...]
    reference: Reference
    start_ms: int
    cash: float

    def near(self) -> "Market":
        """Return the market without the candles that no feature window of the span reaches: less to hand over."""
        return replace(self, tables=tuple(_near(table, self.start_ms) for table in self.tables))

    def candles(self, run: Run) -> int:
        """Return how many candles the run trades."""
        return sum(len(table.slice(self.start_ms, None)) for table in self.tables_of(run))

    def tables_of(self, run: Run) -> list[CandleTable]:
        """Return the histories that the run trades."""
        return [table for table in self.tables if run.symbol in {"", table.symbol}]

    def setup_of(self, run: Run) -> Setup:
        """Return the setup that the run trades under. Raises InvalidParameters for costs beyond 10 %."""
        setup = self.setup if run.cost == 1.0 else scaled(self.setup, run.cost)
        return only(setup, run.symbol) if run.symbol else setup


def _near(table: CandleTable, start_ms: int) -> CandleTable:
    first = int(np.searchsorted(table.open_ms, start_ms)) - WINDOW
    return table.slice(int(table.open_ms[first]), None) if first > 0 else table


def trade(run: Run, market: Market, progress: Callable[[int], None] | None = None) -> Track:
    """Return what came of one run. Raises TrainingError when nothing was decided."""
    ensemble = Ensemble(market.actors, market.weights)
    voters = ensemble if run.member is None else alone(ensemble, run.member)
    try:
        return recorded(
            market.tables_of(run),
            market.setup_of(run),
            voters,
            start_ms=market.start_ms,
            reference=market.reference,
            cash=market.cash,
            name=run.symbol or ENSEMBLE,
            is_late=run.is_late,
            progress=progress,
        )
    except TrainingError as error:
        if not run.symbol:
            raise
        raise TrainingError(f"{run.symbol}: {error}, or leave the symbol out") from error


def trade_all(
    runs: Iterable[Run], market: Market, *, workers: int | None = None, progress: Callable[[int], None] | None = None
) -> dict[Run, Track]:
    """Return what came of every run. workers: processes, as many as cores when None.

    progress: told how many candles are done, of all runs.  Raises TrainingError for the first run that failed.
    """
    wanted, market = list(dict.fromkeys(runs)), market.near()
    done = [0] * len(wanted)

    def tell(index: int, told: int) -> None:
        done[index] = told
        if progress is not None:
            progress(sum(done))

    count = _workers(workers, wanted, market)
    if count == 1:
        return {run: trade(run, market, lambda told, i=i: tell(i, told)) for i, run in enumerate(wanted)}  # type: ignore[misc]
    return _side_by_side(wanted, market, count, tell)


def _workers(asked: int | None, runs: Sequence[Run], market: Market) -> int:
    if asked is not None:
        if not 1 <= asked <= _MOST_WORKERS:
            raise TrainingError(f"--workers {asked}: give 1 .. {_MOST_WORKERS}")
        return asked
    if sum(market.candles(run) for run in runs) < _WORTH_A_PROCESS:
        return 1
    return min(len(runs), len(os.sched_getaffinity(0)))


def _side_by_side(
    runs: Sequence[Run], market: Market, workers: int, tell: Callable[[int, int], None]
) -> dict[Run, Track]:
    # The longest first, so that no process is left alone with one at the end.
    order = sorted(runs, key=market.candles, reverse=True)
    found: dict[Run, Track] = {}
    with tempfile.TemporaryDirectory(prefix="sacd-evaluate-") as folder:
        tasks = [Task(name=f"run {i}", run=_task, argument=run, folder=Path(folder)) for i, run in enumerate(order)]
        for outcome in LocalPool(workers).run(tasks, market, tell):
            if outcome.end is not End.DONE:
                raise TrainingError(outcome.reason)
            found[order[outcome.index]] = outcome.value
    return {run: found[run] for run in runs}


def _task(market: Market, run: Run, link: Link) -> Track:
    return trade(run, market, link.tell)
