"""What a policy earns on whole histories, from the first candle it sees to the last: validation without training."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from strategy.observation import N_OBSERVATION
from strategy.trader import Reference, Setup
from training import kernel, kernel_calls
from training.accounts import FAILED, Accounts
from training.draws import Draws
from training.episode import Episode, Randomisation
from training.history import History
from training.kernel_records import ACCOUNT

FloatArray = NDArray[np.float64]
Act = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""(n, N_OBSERVATION) float32 observations to (n, 3) actions; row i is always history i."""
_STOPPED = kernel.CUT_OFF | FAILED


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """One account on one history, `n` steps: as in the environment, a step passes over candles that show nothing.

    open_ms, close_ms: (n,) int64, open of the candle a step decides on, close of the candle it ends on.
    equity: (n + 1,) quote, first before the first step.  actions: (n, 3) float32.  exposure: (n,) share of equity that
    is invested after the step.  traded: (n,) quote, notional of the step's fills.  fees: quote, in all.  wins, losses:
    closed round trips by the sign of their profit after fees.
    """

    symbol: str
    open_ms: NDArray[np.int64]
    close_ms: NDArray[np.int64]
    equity: FloatArray
    actions: NDArray[np.float32]
    exposure: FloatArray
    traded: FloatArray
    fees: float
    wins: int
    losses: int


def rollout(
    histories: Sequence[History],
    setup: Setup,
    act: Act,
    *,
    cash: float = 100_000.0,
    reference: Reference | None = None,
    randomisation: Randomisation | None = None,
    seed: int = 0,
) -> list[Rollout]:
    """Return what a policy does on each history, side by side: one account each, none of them begun again.

    act: asked for all histories at once; where one has ended, its last observation stays and the answer is ignored.
    An account that is ruined goes on, as a backtest would. seed: of what `randomisation` draws, + index for each.
    Raises TrainingError for actions that are not of finite numbers.
    """
    accounts = Accounts(histories, setup, np.zeros(len(histories), ACCOUNT), cash=cash, reference=reference)
    for index in range(len(histories)):
        draws = Draws(
            [histories[index]], Episode(length=None), randomisation or Randomisation(), setup.strategy.decide_every
        )
        accounts.begin(index, draws.draw(np.random.default_rng(seed + index)), market=index)
    return _Recorder(accounts, [history.symbol for history in histories]).run(act)


class _Recorder:
    """Steps accounts to the end of their histories and notes each step."""

    def __init__(self, accounts: Accounts, symbols: Sequence[str]) -> None:
        self._accounts, self._symbols = accounts, symbols
        records = accounts.records
        longest = int((records["end"] - records["at"]).max())
        self._at = np.zeros((longest + 1, len(records)), np.int64)
        self._values = {name: np.zeros((longest + 1, len(records))) for name in ("equity", "cash", "traded")}
        self._actions = np.zeros((longest, len(records), 3), np.float32)
        self._count = np.zeros(len(records), np.int64)

    def run(self, act: Act) -> list[Rollout]:
        records = self._accounts.records
        observations = np.empty((len(records), N_OBSERVATION), np.float32)
        arrays = self._accounts.tape, self._accounts.markets, records
        kernel_calls.observe_all(*arrays, observations)
        rewards, flags = np.empty(len(records), np.float32), np.zeros(len(records), np.uint8)
        is_over, step = np.zeros(len(records), np.bool_), 0
        self._note(0)
        while not is_over.all():
            actions = np.ascontiguousarray(act(observations.copy()), np.float32)
            actions[is_over] = 0.0
            self._actions[step] = actions
            kernel_calls.step_all(*arrays, actions, observations, rewards, flags)
            step += 1
            for index in np.flatnonzero((flags & FAILED != 0) & ~is_over).tolist():
                self._accounts.refuse(index, int(flags[index]), actions[index])
            self._note(step)
            self._count[~is_over] = step
            is_over |= flags & _STOPPED != 0
        return [self._rollout(index) for index in range(len(records))]

    def _note(self, step: int) -> None:
        records = self._accounts.records
        self._at[step] = records["at"]
        for name, values in self._values.items():
            values[step] = records[name]

    def _rollout(self, index: int) -> Rollout:
        n, tape, record = int(self._count[index]), self._accounts.tape, self._accounts.records[index]
        at = self._at[: n + 1, index]
        equity, cash = self._values["equity"][: n + 1, index], self._values["cash"][1 : n + 1, index]
        return Rollout(
            symbol=self._symbols[index],
            open_ms=tape["open_ms"][at[:-1]],
            close_ms=tape["close_ms"][at[1:]],
            equity=equity.copy(),
            actions=self._actions[:n, index].copy(),
            exposure=1.0 - cash / equity[1:],
            traded=self._values["traded"][1 : n + 1, index].copy(),
            fees=float(record["fees"]),
            wins=int(record["wins"]),
            losses=int(record["losses"]),
        )
