"""The proof of one decision path: the same candles through environment, its compiled form, backtest and daemon.

What they saw, did and were worth is compared byte by byte.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strategy.bundle import Bundle
from strategy.candle_table import CandleTable
from strategy.features import Row
from strategy.observation import N_OBSERVATION
from strategy.order import Fill
from strategy.session import Session
from strategy.trader import Outcome, Setup, Trader, Votes
from training import backtest, kernel_calls
from training.accounts import Accounts
from training.bundles import reference_of
from training.draws import Drawn
from training.episode import Episode
from training.history import History
from training.kernel_records import ACCOUNT
from training.trader_env import TraderEnv


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What one of them made of a history of n candles.

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
    """How often the others differ from the backtest in any byte. observed: candles with an observation."""

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
    env = TraderEnv([history], setup, cash=cash, episode=Episode(length=None), reference=reference_of(bundle))
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


def compiled_trace(table: CandleTable, setup: Setup, bundle: Bundle, cash: float) -> Trace:
    """Return what the compiled environment makes of a history when the ensemble acts in it."""
    ensemble = bundle.ensemble
    recorder = _Recorder(len(table), len(bundle.manifest.members))
    history = History(table, setup.strategy.max_missing)
    accounts = Accounts([history], setup, np.zeros(1, ACCOUNT), cash=cash, reference=reference_of(bundle))
    arrays, record = (accounts.tape, accounts.markets, accounts.records), accounts.records[0]
    accounts.begin(0, Drawn(market=0, start=0, end=len(table) - 1, fee=1.0, slippage=1.0, delay=0))
    silence = np.zeros((0, 3), np.float32)
    fills: list[list[float]] = []
    while True:
        observation, equity, at = np.empty(N_OBSERVATION, np.float32), float(record["equity"]), int(record["at"])
        kernel_calls.observe_at(*arrays, 0, observation)
        is_seen = bool(accounts.tape["is_valid"][at])
        votes = ensemble.act(observation[None])[0] if is_seen else silence
        kernel_calls.judge(*arrays, votes, ensemble.weights)
        recorder.note(observation if is_seen else None, votes, float(record["target"]), equity)
        recorder.add_trades(fills)
        if at == record["end"]:
            return recorder.trace()
        kernel_calls.go_on(*arrays)
        fills = record["fills"][: record["n_fills"]].tolist()


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
        self._trades: list[list[float]] = []
        self._equity: list[float] = []

    def take(self, outcomes: Sequence[Outcome], fills: Sequence[Fill], equity: float) -> None:
        for outcome in outcomes:
            self.note(outcome.sight.observation, outcome.votes, outcome.verdict.decision.target, equity)
        self.add_trades([f.at_ms, f.quantity * f.side.sign, f.price, f.fee] for f in fills)

    def note(self, observation: Row | None, votes: Votes | None, target: float, equity: float) -> None:
        at = len(self._equity)
        if observation is not None and votes is not None:
            self._observations[at], self._votes[at] = observation, votes
        self._targets.append(target)
        self._equity.append(equity)

    def add_trades(self, trades: Iterable[list[float]]) -> None:
        self._trades.extend(trades)

    def trace(self) -> Trace:
        return Trace(
            observations=self._observations,
            votes=self._votes,
            targets=np.array(self._targets),
            trades=np.array(self._trades).reshape(-1, 4),
            equity=np.array(self._equity),
        )
