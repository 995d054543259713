"""Trades recorded candles on the daemon's own path and returns what the account did as a `Track`.

The steps are those of training/backtest.py; here is only what an evaluation varies: who votes, what trading costs,
and how late votes arrive.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from strategy.candle import Candle
from strategy.candle_table import CandleTable
from strategy.decision import Action, DecisionReason
from strategy.order import Fill, OrderReport
from strategy.parameters import CostModel
from strategy.policy import Ensemble
from strategy.session import Session
from strategy.trader import Outcome, Reference, Setup, Trader, Voters, Votes
from training import backtest
from training.track import FloatArray, SymbolTrack, Track

NOBODY = -1
"""Stands for the action of a candle on which nobody voted, or on which votes do not count."""
ACTIONS = (Action.HOLD, Action.BUY, Action.SELL)
"""What the numbers of `SymbolTrack.action` stand for: reward.ActionKind's, whose module needs seconds to load."""
_KINDS = {action: kind for kind, action in enumerate(ACTIONS)}
_SILENT = frozenset({DecisionReason.WARMING_UP, DecisionReason.BETWEEN_DECISIONS})


def recorded(
    tables: Sequence[CandleTable],
    setup: Setup,
    voters: Voters,
    *,
    start_ms: int | None,
    reference: Reference | None,
    cash: float,
    name: str,
    is_late: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Track:
    """Return what an account of `cash` did that trades `tables` as `voters` say, from the first full window on.

    start_ms: earlier candles only fill the feature window.  is_late: votes are acted upon one candle after the candle
    they were cast on; on the first candle nobody is heard.  progress: told how many candles are done.
    Raises TrainingError when nobody ever voted.
    """
    made, step = None, None
    for step in backtest.steps(
        tables,
        setup,
        voters,
        reference=reference,
        start_ms=start_ms,
        cash=cash,
        progress=progress,
        make_session=LateSession if is_late else Session,
    ):
        if made is None and any(outcome.sight.observation is not None for outcome in step.outcomes):
            made = _Recording(name, step.trader, len(voters.weights))
        if made is not None:
            made.note(step)
    if made is None or step is None:
        raise backtest.undecided()
    return made.track(cash, step.trader)


def scaled(setup: Setup, factor: float) -> Setup:
    """Return the setup under fees and slippage `factor` times as high. Raises InvalidParameters beyond 10 % each."""
    costs = setup.costs
    changed = {"fee_rate": costs.fee_rate * factor, "slippage_rate": costs.slippage_rate * factor}
    return replace(setup, costs=CostModel(**changed, participation=costs.participation))


def alone(ensemble: Ensemble, index: int) -> Ensemble:
    """Return the ensemble that member `index` makes alone."""
    return Ensemble([ensemble.actors[index]], [1.0])


def only(setup: Setup, symbol: str) -> Setup:
    """Return the setup of an account that trades nothing but `symbol`."""
    return replace(setup, instruments={symbol: setup.instruments[symbol]})


class LateSession(Session):
    """A session in which each symbol's votes wait one candle before anybody acts upon them.

    On a symbol's first candle with votes there are none yet, so nothing is decided. Marks, risk and fills are not late.
    """

    def __init__(self, trader: Trader) -> None:
        super().__init__(trader)
        self._waiting: dict[str, Votes] = {}

    def on_candles(self, candles: Sequence[Candle], voters: Voters) -> tuple[list[OrderReport], list[Outcome]]:
        """Fill what was waiting, then decide by the votes of the candle before."""
        reports = self.settle(candles)
        sights = self.trader.observe(self.trader.in_order(candles))
        voting = [sight for sight in sights if sight.observation is not None]
        cast = voters.act(np.array([sight.observation for sight in voting])) if voting else ()
        late, self._waiting = self._waiting, {s.candle.symbol: v for s, v in zip(voting, cast, strict=True)}
        # A window that is broken now has nothing to say about this candle, whatever was said before.
        seen = [(s, None if s.observation is None else late.get(s.candle.symbol)) for s in sights]
        outcomes = self.trader.decide(seen, tuple(voters.weights.tolist()))
        self.place(outcomes)
        return reports, outcomes


@dataclass(slots=True)
class _Symbol:
    """One symbol as it grows, a value per candle time."""

    symbol: str
    close: list[float] = field(default_factory=list)
    exposure: list[float] = field(default_factory=list)
    action: list[int] = field(default_factory=list)
    direction: list[NDArray[np.float32]] = field(default_factory=list)
    disagreement: list[float] = field(default_factory=list)

    def track(self) -> SymbolTrack:
        return SymbolTrack(
            symbol=self.symbol,
            close=_from_the_first(np.array(self.close)),
            exposure=np.array(self.exposure),
            action=np.array(self.action, np.int8),
            direction=np.array(self.direction, np.float32),
            disagreement=np.array(self.disagreement),
        )


class _Recording:
    """A track as it grows."""

    def __init__(self, name: str, trader: Trader, members: int) -> None:
        self._name = name
        self._span_ms = trader.setup.timeframe.span_ms
        self._symbols = [_Symbol(symbol) for symbol in trader.features]
        self._nothing = np.full(members, np.nan, np.float32)
        self._close_ms: list[int] = []
        self._equity: list[float] = []
        self._exposure: list[float] = []
        self._fills: list[Fill] = []

    def note(self, step: backtest.Step) -> None:
        """Take one candle time."""
        portfolio = step.trader.portfolio
        self._fills.extend(step.fills)
        self._close_ms.append(step.outcomes[0].sight.candle.close_ms)
        self._equity.append(portfolio.equity)
        self._exposure.append(_share(portfolio.equity - portfolio.cash, portfolio.equity))
        outcomes = {outcome.sight.candle.symbol: outcome for outcome in step.outcomes}
        for symbol in self._symbols:
            position = portfolio.positions[symbol.symbol]
            symbol.close.append(position.mark)
            symbol.exposure.append(_share(position.value, portfolio.equity))
            self._note_votes(symbol, outcomes)

    def _note_votes(self, symbol: _Symbol, outcomes: Mapping[str, Outcome]) -> None:
        outcome = outcomes.get(symbol.symbol)
        if outcome is None or outcome.votes is None or outcome.verdict.decision.reason in _SILENT:
            symbol.action.append(NOBODY)
            symbol.direction.append(self._nothing)
            symbol.disagreement.append(np.nan)
        else:
            symbol.action.append(_KINDS[outcome.verdict.decision.action])
            symbol.direction.append(outcome.votes[:, 0])
            symbol.disagreement.append(outcome.verdict.decision.disagreement)

    def track(self, cash: float, trader: Trader) -> Track:
        """Return what was noted."""
        return Track(
            name=self._name,
            timeframe_ms=self._span_ms,
            close_ms=np.array(self._close_ms, np.int64),
            equity=np.array([cash, *self._equity]),
            exposure=np.array(self._exposure),
            fills=tuple(self._fills),
            fees=trader.portfolio.fees,
            slippage=trader.portfolio.slippage,
            symbols=tuple(symbol.track() for symbol in self._symbols),
        )


def _share(value: float, equity: float) -> float:
    return value / equity if equity > 0.0 else 0.0


def _from_the_first(close: FloatArray) -> FloatArray:
    """Return prices where the time before a symbol's first candle shows its first price: it has none of its own."""
    traded = np.flatnonzero(close > 0.0)
    if len(traded):
        close[: traded[0]] = close[traded[0]]
    return close
