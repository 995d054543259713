"""What a policy is worth on candles it did not learn from: the number that picks the best weights and ends training."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from strategy.decision import THRESHOLD, Action
from strategy.trader import Setup
from training.history import History
from training.metrics import daily_returns, max_drawdown, sharpe_ratio
from training.rollout import Act, Rollout, rollout


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """How a policy did, each symbol with an account of its own.

    sharpe: of daily returns, annualised; the mean over the symbols, each counting the same: one symbol's lucky year
    cannot stand for all, as it could in the curve of their sum.  A symbol with fewer than two days, or whose account
    never moved, counts as 0.  total_return, exposure: means over the symbols, shares.  max_drawdown: the deepest of
    any.  trades: candles on which something was filled, of all symbols.  actions: share of the candles on which the
    policy asked for each.
    """

    sharpe: float
    total_return: float
    max_drawdown: float
    trades: int
    exposure: float
    actions: dict[str, float]

    @property
    def is_idle(self) -> bool:
        """True when the policy never traded. Fresh policies are like that: nothing can be said of them yet."""
        return self.trades == 0

    @property
    def value(self) -> float:
        """The number that is compared: higher is better."""
        return self.sharpe


def validate(act: Act, histories: Sequence[History], setup: Setup) -> Score:
    """Return how `act` does over the whole of every history, from its first start to its end.

    setup.instruments must hold the symbol of every history.  The same policy gives the same score.
    """
    runs = rollout(histories, setup, act)
    return Score(
        sharpe=float(np.mean([_sharpe(run) for run in runs])),
        total_return=float(np.mean([run.equity[-1] / run.equity[0] - 1.0 for run in runs])),
        max_drawdown=max(max_drawdown(run.equity) for run in runs),
        trades=sum(int(np.count_nonzero(run.traded)) for run in runs),
        exposure=float(np.mean([np.mean(run.exposure) for run in runs])),
        actions=_shares(np.concatenate([run.actions[:, 0] for run in runs])),
    )


def _sharpe(run: Rollout) -> float:
    times = np.concatenate([run.close_ms[:1], run.close_ms])
    return sharpe_ratio(daily_returns(times, run.equity)) or 0.0


def _shares(directions: NDArray[np.float32]) -> dict[str, float]:
    return {
        Action.BUY.value: float(np.mean(directions > THRESHOLD)),
        Action.SELL.value: float(np.mean(directions < -THRESHOLD)),
        Action.HOLD.value: float(np.mean(np.abs(directions) <= THRESHOLD)),
    }
