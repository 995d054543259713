"""What needs no learning, scored as policies are: each history with an account of its own, under the same costs."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from strategy.benchmark import BuyAndHold
from strategy.decision import Action
from strategy.trader import Setup
from training.history import History
from training.metrics import daily_returns, max_drawdown, sharpe_ratio
from training.validation import Score, validate

_CASH = 100_000.0
_BUY = np.array([1.0, 1.0, 1.0], np.float32)

Baseline = Callable[[Sequence[History], Setup], Score]


def cash(histories: Sequence[History], setup: Setup) -> Score:  # noqa: ARG001 - a Baseline
    """Return what doing nothing earns."""
    return Score(
        sharpe=0.0, total_return=0.0, max_drawdown=0.0, trades=0, exposure=0.0, actions=_actions(Action.HOLD, 1.0)
    )


def buy_and_hold(histories: Sequence[History], setup: Setup) -> Score:
    """Return what all cash earns that buys at the close of the first candle that is seen and is then left alone.

    No limit of the risk manager holds for it: it is what the market itself did, less one purchase's costs.
    """
    held = [_held(history, setup) for history in histories]
    steps = sum(len(history.candles) - int(history.starts[0]) - 1 for history in histories)
    return Score(
        sharpe=float(np.mean([sharpe_ratio(daily_returns(times, equity)) or 0.0 for times, equity, _ in held])),
        total_return=float(np.mean([equity[-1] / equity[0] - 1.0 for _, equity, _ in held])),
        max_drawdown=max(max_drawdown(equity) for _, equity, _ in held),
        trades=len(held),
        exposure=float(np.mean([exposure for _, _, exposure in held])),
        actions=_actions(Action.BUY, len(held) / steps),
    )


def always_buy(histories: Sequence[History], setup: Setup) -> Score:
    """Return what a policy earns that votes to buy all it may on every candle: sizes, stops and limits as for all."""
    return validate(lambda seen: np.tile(_BUY, (len(seen), 1)), histories, setup)


BASELINES: Mapping[str, Baseline] = {"cash": cash, "buy and hold": buy_and_hold, "always buy": always_buy}


def _held(history: History, setup: Setup) -> tuple[NDArray[np.int64], NDArray[np.float64], float]:
    """Return times and equity, which begins with the cash, and the mean exposure."""
    first, symbol = int(history.starts[0]), history.symbol
    closes = history.table.values[first:, 3]
    account = BuyAndHold.open(_CASH, {symbol: float(closes[0])}, setup.instruments, setup.costs)
    values = account.quantities[symbol] * closes[1:]
    close_ms = history.table.open_ms[first + 1 :] + history.table.timeframe.span_ms
    equity = np.concatenate([[_CASH], account.cash + values])
    return np.concatenate([close_ms[:1], close_ms]), equity, float(np.mean(values / equity[1:]))


def _actions(main: Action, share: float) -> dict[str, float]:
    rest = Action.HOLD if main is not Action.HOLD else Action.BUY
    shares = {Action.BUY.value: 0.0, Action.SELL.value: 0.0, Action.HOLD.value: 0.0}
    return {**shares, rest.value: 1.0 - share, main.value: share}
