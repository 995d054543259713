"""The proof of one decision path: the same candles through environment, backtest and daemon, compared byte by byte."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strategy.bundle import Bundle
from strategy.candle_table import CandleTable
from strategy.observation import N_OBSERVATION
from strategy.order import Fill
from strategy.session import Session
from strategy.trader import Outcome, Setup, Trader
from training import backtest
from training.bundles import reference_of
from training.env import Episode, History, TradingEnv


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What one of the three made of a history of n candles.

    observations: (n, N_OBSERVATION) float32, zeros where there was none.  votes: (n, n_members, 3) float32.
    targets: (n,) float64, wanted exposure.  trades: (n_fills, 4) float64, time, signed quantity, price, fee.
    equity: (n,) float64 at each close.
    """

    observations: NDArray[np.float32]
    votes: NDArray[np.float32]
    targets: NDArray[np.float64]
    trades: NDArray[np.float64]
    equity: NDArray[np.float64]

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> "Trace":
        """Return the trace stored under its field names."""
        return cls(**{name: arrays[name] for name in cls.__dataclass_fields__})


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """How often environment or daemon differ from the backtest in any byte. observed: candles with an observation."""

    symbol: str
    candles: int
    observed: int
    trades: int
    observations_differ: int
    actions_differ: int
    trades_differ: int
    equity_differ: int
    by: Mapping[str, Mapping[str, int]]

    @property
    def is_equal(self) -> bool:
        """True when nothing differs anywhere."""
        return not (self.observations_differ or self.actions_differ or self.trades_differ or self.equity_differ)


def backtest_trace(table: CandleTable, setup: Setup, bundle: Bundle, cash: float) -> Trace:
    """Return what the backtest makes of a history, from the first candle on."""
    recorder = _Recorder(len(table), len(bundle.manifest.members))
    features = backtest.computed_features([table], setup)
    session = Session(Trader(setup, features, cash, reference_of(bundle)))
    for candle in table.candles():
        reports, outcomes = session.on_candles((candle,), bundle.ensemble)
        recorder.take(outcomes, [r.fill for r in reports if r.fill is not None], session.trader.portfolio.equity)
    return recorder.trace()


def environment_trace(table: CandleTable, setup: Setup, bundle: Bundle, cash: float) -> Trace:
    """Return what the training environment makes of a history when the ensemble acts in it."""
    recorder = _Recorder(len(table), len(bundle.manifest.members))
    history = History(table, setup.strategy.max_missing)
    env = TradingEnv([history], setup, cash=cash, episode=Episode(length=None), reference=reference_of(bundle))
    env.reset(options={"history": 0, "start": 0})
    weights, trader, fills = tuple(bundle.ensemble.weights.tolist()), env.session.trader, list[Fill]()
    while True:
        observation, equity = env.sight.observation, trader.portfolio.equity
        votes = None if observation is None else bundle.ensemble.act(observation[None])[0]
        if env.is_over:
            # The last candle has no next one to fill on: it is only decided.
            recorder.take(trader.decide([(env.sight, votes)], weights), fills, equity)
            return recorder.trace()
        transition = env.advance(votes, weights)
        recorder.take(transition.outcomes, fills, equity)
        fills = [report.fill for report in transition.reports if report.fill is not None]


def compare(symbol: str, reference: Trace, others: Mapping[str, Trace]) -> Parity:
    """Return how `others` differ from `reference`, byte by byte."""
    by = {name: _differences(reference, other) for name, other in others.items()}
    return Parity(
        symbol=symbol,
        candles=len(reference.equity),
        observed=int(np.count_nonzero(reference.observations.any(axis=1))),
        trades=len(reference.trades),
        observations_differ=sum(d["observations"] for d in by.values()),
        actions_differ=sum(d["actions"] for d in by.values()),
        trades_differ=sum(d["trades"] for d in by.values()),
        equity_differ=sum(d["equity"] for d in by.values()),
        by=by,
    )


def _differences(one: Trace, other: Trace) -> dict[str, int]:
    votes = _rows_differ(one.votes.reshape(len(one.votes), -1), other.votes.reshape(len(other.votes), -1))
    return {
        "observations": _rows_differ(one.observations, other.observations),
        "actions": votes + _rows_differ(one.targets[:, None], other.targets[:, None]),
        "trades": _rows_differ(one.trades, other.trades),
        "equity": _rows_differ(one.equity[:, None], other.equity[:, None]),
    }


def _rows_differ(one: NDArray[Any], other: NDArray[Any]) -> int:
    """Return how many rows differ in any byte; rows that only one has differ."""
    if (one.dtype, one.shape[1:]) != (other.dtype, other.shape[1:]):
        return max(len(one), len(other))
    common = min(len(one), len(other))
    left = np.ascontiguousarray(one[:common]).view(np.uint8)
    right = np.ascontiguousarray(other[:common]).view(np.uint8)
    return int((left != right).any(axis=1).sum()) + max(len(one), len(other)) - common


class _Recorder:
    """Collects a trace candle by candle."""

    def __init__(self, candles: int, members: int) -> None:
        self._observations = np.zeros((candles, N_OBSERVATION), np.float32)
        self._votes = np.zeros((candles, members, 3), np.float32)
        self._targets: list[float] = []
        self._trades: list[tuple[float, float, float, float]] = []
        self._equity: list[float] = []

    def take(self, outcomes: Sequence[Outcome], fills: Sequence[Fill], equity: float) -> None:
        at = len(self._equity)
        for outcome in outcomes:
            if outcome.sight.observation is not None and outcome.votes is not None:
                self._observations[at], self._votes[at] = outcome.sight.observation, outcome.votes
            self._targets.append(outcome.verdict.decision.target)
        self._trades.extend((f.at_ms, f.quantity * f.side.sign, f.price, f.fee) for f in fills)
        self._equity.append(equity)

    def trace(self) -> Trace:
        return Trace(
            observations=self._observations,
            votes=self._votes,
            targets=np.array(self._targets),
            trades=np.array(self._trades).reshape(-1, 4),
            equity=np.array(self._equity),
        )
