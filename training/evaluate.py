"""Everything that is asked of a frozen ensemble on a span of candles, put together as one `Evaluation`.

The ensemble decides on the daemon's own path; its baselines pay the same costs. A candle before the span may fill a
feature window, as it does live, but nothing is earned on it.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from strategy.bundle import Bundle
from strategy.candle_table import CandleTable
from training import readiness
from training.backtest import INITIAL_CASH
from training.bundles import conditions_of, reference_of
from training.evaluate_cautions import cautions, changed_terms
from training.evaluate_curves import curves
from training.evaluate_parts import folds, regimes, years
from training.evaluate_runs import Market, Run, trade_all
from training.evaluate_statistics import bootstrap
from training.evaluate_stress import break_even_cost, stress_runs, stresses
from training.evaluation import Evaluation, MemberResult, Refit
from training.market import Conditions, setup_of
from training.metrics import Metrics, measure, returns_of
from training.random_entries import random_entries
from training.readiness import Thresholds
from training.rules import BUY_AND_HOLD, baseline_tracks
from training.stats_deflated import deflate
from training.track import Track

_CANDLE_RUNS = "trading"

Stage = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""Begins a piece of work of a name and an amount, and yields what is told how much of it is done."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Asked:
    """What is evaluated, and how.

    tables: whole histories up to the end of the span.  start_ms: of the span.  conditions: what the account trades
    under.  folds: equal parts of the span.  draws: random entries.  seed: what all chance comes from.
    workers: processes, as many as cores when None.  at: now, ISO.
    """

    bundle: Bundle
    tables: tuple[CandleTable, ...]
    start_ms: int
    conditions: Conditions
    thresholds: Thresholds
    folds: int
    draws: int
    seed: int
    workers: int | None
    command: str
    at: str

    @property
    def unseen_from_ms(self) -> int:
        """From where on no candle made the bundle."""
        return self.bundle.manifest.training.end_ms

    @property
    def is_seen(self) -> bool:
        """Whether candles of the span made the bundle."""
        return self.start_ms < self.unseen_from_ms

    def market(self) -> Market:
        """Return what the runs share. Raises TrainingError when the histories do not go together."""
        ensemble = self.bundle.ensemble
        return Market(
            tables=self.tables,
            setup=setup_of(self.tables, self.conditions, "evaluation"),
            actors=ensemble.actors,
            weights=tuple(ensemble.weights.tolist()),
            reference=reference_of(self.bundle),
            start_ms=self.start_ms,
            cash=INITIAL_CASH,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What the trial ledger says. trials: how many were tried.  sharpes: of those that have one, annualised.

    warnings: what it says of the span and the bundle, in words.
    """

    trials: int
    sharpes: tuple[float, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Accounts:
    """What every run of the frozen ensemble did, and its baselines over the same candles.

    by_symbol: baselines of each symbol with an account of its own.
    """

    market: Market
    runs: Mapping[Run, Track]
    baselines: Mapping[str, Track]
    by_symbol: Mapping[str, Mapping[str, Track]]

    @property
    def ours(self) -> Track:
        """The ensemble as one account."""
        return self.runs[Run()]

    @property
    def hold(self) -> Track:
        """Buying and holding, what everything is compared with."""
        return self.baselines[BUY_AND_HOLD]

    def of_symbol(self, symbol: str) -> Track:
        """Return the ensemble's account that trades nothing but `symbol`."""
        return self.runs[symbol_run(self.market, symbol)]


def symbol_run(market: Market, symbol: str) -> Run:
    """Return the run of one symbol alone, which is the whole one when there is no other."""
    return Run(symbol=symbol) if len(market.tables) > 1 else Run()


def member_run(market: Market, index: int) -> Run:
    """Return the run of one member alone, which is that of the ensemble when there is no other."""
    return Run(member=index) if len(market.actors) > 1 else Run()


def trade(asked: Asked, stage: Stage) -> Accounts:
    """Trade the span in every way an evaluation needs. Raises TrainingError when nothing was decided."""
    market = asked.market()
    costs = asked.conditions.costs
    wanted = [
        Run(),
        *(symbol_run(market, table.symbol) for table in market.tables),
        *(member_run(market, index) for index in range(len(market.actors))),
        *stress_runs(costs.fee_rate, costs.slippage_rate),
    ]
    with stage(_CANDLE_RUNS, sum(market.candles(run) for run in dict.fromkeys(wanted))) as tell:
        runs = trade_all(wanted, market, workers=asked.workers, progress=tell)
    with stage("baselines", len(market.tables) + 1) as tell:
        baselines = _baselines(market, Run(), runs[Run()])
        tell(1)
        by_symbol = {}
        for done, table in enumerate(market.tables, 2):
            run = symbol_run(market, table.symbol)
            by_symbol[table.symbol] = baselines if run == Run() else _baselines(market, run, runs[run])
            tell(done)
    return Accounts(market=market, runs=runs, baselines=baselines, by_symbol=by_symbol)


def _baselines(market: Market, run: Run, ours: Track) -> Mapping[str, Track]:
    return baseline_tracks(market.tables_of(run), market.setup_of(run), ours)


def evaluate(
    asked: Asked, accounts: Accounts, *, tried: Tried, refits: Sequence[Refit], notes: Sequence[str], stage: Stage
) -> Evaluation:
    """Return all that is found. refits, notes: what was trained anew, and what must be said of it.

    Raises TrainingError for too little data.
    """
    ours, hold = accounts.ours, accounts.hold
    metrics = measure(ours, hold)
    baselines = {name: measure(track, hold) for name, track in accounts.baselines.items()}
    deflated = deflate(returns_of(ours), tried.trials, tried.sharpes)
    criteria = readiness.criteria(metrics, asked.thresholds)
    manifest = asked.bundle.manifest
    vetoes = readiness.vetoes(
        metrics,
        baselines,
        deflated.value,
        asked.thresholds,
        is_seen=asked.is_seen,
        costs=asked.conditions.costs,
        trained=conditions_of(manifest).costs,
    )
    market = accounts.market
    with stage("random entries", asked.draws) as tell:
        entries = random_entries(market.tables, market.setup, ours, draws=asked.draws, seed=asked.seed)
        tell(asked.draws)
    return Evaluation(
        bundle=manifest.id,
        at=asked.at,
        ready=readiness.is_ready(criteria, vetoes, asked.thresholds.share),
        summary=readiness.summary(criteria, vetoes, asked.thresholds, changed_terms(manifest, asked.conditions)),
        command=asked.command,
        symbols=tuple(table.symbol for table in market.tables),
        symbols_seen=tuple(t.symbol for t in market.tables if t.symbol in manifest.training.symbols),
        timeframe=market.setup.timeframe.name,
        start_ms=ours.start_ms,
        end_ms=int(ours.close_ms[-1]),
        unseen_from_ms=asked.unseen_from_ms,
        conditions={
            "strategy": asked.conditions.strategy.to_json(),
            "risk": asked.conditions.limits.to_json(),
            "costs": asked.conditions.costs.to_json(),
        },
        metrics=metrics,
        by_symbol={t.symbol: _of_symbol(accounts, t.symbol) for t in market.tables},
        baselines=baselines,
        baselines_by_symbol={
            symbol: {name: measure(track, found[BUY_AND_HOLD]) for name, track in found.items()}
            for symbol, found in accounts.by_symbol.items()
        },
        random=entries,
        bootstrap=bootstrap(ours, accounts.baselines, seed=asked.seed),
        deflated=deflated,
        members=_members(asked, accounts),
        stress=stresses(accounts.runs, hold),
        break_even_cost=break_even_cost(accounts.runs),
        years=years(ours, hold),
        regimes=regimes(ours, hold, market.tables),
        folds=folds(ours, hold, asked.folds),
        refits=tuple(refits),
        criteria=criteria,
        vetoes=vetoes,
        warnings=(
            *cautions(
                manifest,
                market.tables,
                conditions=asked.conditions,
                thresholds=asked.thresholds,
                start_ms=asked.start_ms,
                track=ours,
            ),
            *tried.warnings,
            *notes,
        ),
        curves=curves(ours, accounts.baselines),
    )


def _of_symbol(accounts: Accounts, symbol: str) -> Metrics:
    return measure(accounts.of_symbol(symbol), accounts.by_symbol[symbol][BUY_AND_HOLD])


def _members(asked: Asked, accounts: Accounts) -> tuple[MemberResult, ...]:
    return tuple(
        MemberResult(
            seed=record.seed,
            weight=record.weight,
            metrics=measure(accounts.runs[member_run(accounts.market, index)], accounts.hold),
        )
        for index, record in enumerate(asked.bundle.manifest.members)
    )
