"""`strategy/trader.py` over recorded candles with simulated fills: what an ensemble would have done."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from operator import attrgetter
from typing import Any

import numpy as np

from strategy.benchmark import BuyAndHold, hold_from_first_vote
from strategy.candle import Candle
from strategy.candle_table import CandleTable
from strategy.decision import Action
from strategy.features import ComputedFeatures, compute
from strategy.order import Fill
from strategy.session import Session
from strategy.trader import Outcome, Reference, Setup, Trader, Voters
from training.errors import TrainingError
from training.metrics import daily_returns, max_drawdown, sharpe_ratio

INITIAL_CASH = 100_000.0
_REPORT_EVERY = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What an account did over a span. Ratios are None where they are not defined.

    trades: fills.  round_trips: positions opened and closed again, of which `wins` earned more than they cost.
    fees, slippage: quote.  exposure: mean share of equity that was invested.  turnover: traded notional over initial
    cash.  actions: what the ensemble voted, per candle and symbol.
    """

    trades: int
    round_trips: int
    wins: int
    fees: float
    slippage: float
    turnover: float
    exposure: float
    equity_final: float
    total_return: float
    sharpe: float | None
    max_drawdown: float
    actions: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A backtest: the span from the first decision on, the ensemble's figures, and those of buying and holding."""

    start_ms: int
    end_ms: int
    candles: int
    symbols: tuple[str, ...]
    model: str
    figures: Figures
    buy_and_hold: Figures
    reasons: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """Return the documented object of `sacd backtest --json`: the figures stand at the top."""
        whole = asdict(self)
        figures = whole.pop("figures")
        return {**whole, **figures}


@dataclass(slots=True)
class Record:
    """What a run leaves behind from the first decision on: tallies, and per candle time what the account was worth.

    start_ms: open of the first candle.  candles, reasons: of all symbols.  actions: what was voted.
    """

    start_ms: int = 0
    candles: int = 0
    actions: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    fills: list[Fill] = field(default_factory=list)
    close_ms: list[int] = field(default_factory=list)
    equity: list[float] = field(default_factory=list)
    hold: list[float] = field(default_factory=list)
    bought: BuyAndHold | None = None
    exposure: list[float] = field(default_factory=list)


def groups(tables: Sequence[CandleTable]) -> Iterator[tuple[Candle, ...]]:
    """Yield the candles of one open time together, in the order of `tables`."""
    if len(tables) == 1:
        for candle in tables[0].candles():
            yield (candle,)
        return
    rank = {table.symbol: i for i, table in enumerate(tables)}
    merged = sorted((c for table in tables for c in table.candles()), key=lambda c: (c.open_ms, rank[c.symbol]))
    group: list[Candle] = []
    for candle in merged:
        if group and group[0].open_ms != candle.open_ms:
            yield tuple(group)
            group = []
        group.append(candle)
    if group:
        yield tuple(group)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Step:
    """One candle time of a run: what came back since the last one, what was decided, and the trader after it."""

    trader: Trader
    outcomes: Sequence[Outcome]
    fills: Sequence[Fill]


def steps(
    tables: Sequence[CandleTable],
    setup: Setup,
    voters: Voters,
    *,
    reference: Reference | None = None,
    start_ms: int | None = None,
    cash: float = INITIAL_CASH,
    progress: Callable[[int], None] | None = None,
    make_session: Callable[[Trader], Session] = Session,
) -> Iterator[Step]:
    """Trade `tables` from `start_ms` (or the first candle) on; earlier candles only fill the feature window.

    progress: told how many candles are done.  make_session: wires the trader to its exchange.
    Raises InvalidCandle, and TrainingError when no candle lies in the span.
    """
    trader = Trader(setup, computed_features(tables, setup, start_ms), cash, reference)
    session, done = make_session(trader), 0
    kept = [table.slice(start_ms, None) for table in tables]
    if not any(map(len, kept)):
        raise TrainingError("no candle lies in the span: choose one inside the files")
    for count, candles in enumerate(groups(kept)):
        reports, outcomes = session.on_candles(candles, voters)
        fills = [report.fill for report in reports if report.fill is not None]
        yield Step(trader=trader, outcomes=outcomes, fills=fills)
        done += len(candles)
        if progress is not None and count % _REPORT_EVERY == 0:
            progress(done)


def undecided() -> TrainingError:
    """Return the error for a run in which nobody ever voted."""
    return TrainingError("no candle of the span has a full feature window: nothing was decided; give more candles")


def run(
    tables: Sequence[CandleTable],
    setup: Setup,
    voters: Voters,
    *,
    reference: Reference | None = None,
    start_ms: int | None = None,
    cash: float = INITIAL_CASH,
    progress: Callable[[int], None] | None = None,
) -> tuple[Record, Trader]:
    """Return the record of trading `tables` as `steps` does, and the trader after it.

    Raises as `steps` does, and TrainingError when nothing was decided.
    """
    record, hold, step = Record(), None, None
    for step in steps(tables, setup, voters, reference=reference, start_ms=start_ms, cash=cash, progress=progress):
        record.fills.extend(step.fills)
        if hold is None:
            hold = record.bought = hold_from_first_vote(step.trader, step.outcomes, cash)
        if hold is not None:
            _note(record, step.trader, step.outcomes, hold)
    if hold is None or step is None:
        raise undecided()
    return record, step.trader


def computed_features(
    tables: Sequence[CandleTable], setup: Setup, start_ms: int | None = None
) -> dict[str, ComputedFeatures]:
    """Return the rows of every table, to be handed out from the first candle at or after `start_ms` on."""
    features = {}
    for table in tables:
        rows = compute(table.open_ms, table.values, table.timeframe.span_ms, setup.strategy.max_missing)
        start = 0 if start_ms is None else int(np.searchsorted(table.open_ms, start_ms))
        features[table.symbol] = ComputedFeatures(rows, start)
    return features


def _note(record: Record, trader: Trader, outcomes: Sequence[Outcome], hold: BuyAndHold) -> None:
    positions = trader.portfolio.positions
    # Tallied at once: a long history would keep hundreds of megabytes of outcomes alive.
    for outcome in outcomes:
        record.reasons[outcome.verdict.reason.value] += 1
        if outcome.votes is not None:
            record.actions[outcome.verdict.decision.action.value] += 1
    if not record.candles:
        record.start_ms = outcomes[0].sight.candle.open_ms
    record.candles += len(outcomes)
    record.close_ms.append(outcomes[0].sight.candle.close_ms)
    record.equity.append(trader.portfolio.equity)
    record.hold.append(hold.equity({symbol: position.mark for symbol, position in positions.items()}))
    record.exposure.append(1.0 - trader.portfolio.cash / trader.portfolio.equity)


def report(record: Record, trader: Trader, cash: float, model: str) -> Report:
    """Return what a run was worth, beside buying and holding over the same candles at the same costs."""
    return Report(
        start_ms=record.start_ms,
        end_ms=record.close_ms[-1],
        candles=record.candles,
        symbols=tuple(trader.features),
        model=model,
        figures=_figures(record, trader, cash),
        buy_and_hold=_hold_figures(record, cash),
        reasons=dict(record.reasons.most_common()),
    )


def _figures(record: Record, trader: Trader, cash: float) -> Figures:
    portfolio = trader.portfolio
    return Figures(
        trades=len(record.fills),
        round_trips=portfolio.wins + portfolio.losses,
        wins=portfolio.wins,
        fees=portfolio.fees,
        slippage=portfolio.slippage,
        turnover=sum(map(attrgetter("notional"), record.fills)) / cash,
        exposure=float(np.mean(record.exposure)),
        actions={action.value: record.actions[action.value] for action in Action},
        **_worth(record.close_ms, record.equity, cash),
    )


def _hold_figures(record: Record, cash: float) -> Figures:
    bought = record.bought
    if bought is None:
        raise TrainingError("nothing was decided, so there is nothing to compare buying and holding with")
    trades = sum(quantity > 0.0 for quantity in bought.quantities.values())
    return Figures(
        trades=trades,
        round_trips=0,
        wins=0,
        fees=bought.fees,
        slippage=bought.slippage,
        turnover=(cash - bought.cash - bought.fees) / cash,
        exposure=float(np.mean(1.0 - bought.cash / np.array(record.hold))),
        actions={"buy": trades, "sell": 0, "hold": record.actions.total() - trades},
        **_worth(record.close_ms, record.hold, cash),
    )


def _worth(close_ms: list[int], equity: list[float], cash: float) -> dict[str, Any]:
    curve = np.array([cash, *equity])
    times = np.array([close_ms[0], *close_ms], np.int64)
    return {
        "equity_final": equity[-1],
        "total_return": equity[-1] / cash - 1.0,
        "sharpe": sharpe_ratio(daily_returns(times, curve)),
        "max_drawdown": max_drawdown(curve),
    }
