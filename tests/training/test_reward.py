from typing import Any

import numpy as np
import pytest

from strategy.candle_table import CandleTable
from strategy.parameters import RiskLimits
from tests.fakes.trading import BTC, setup
from tests.training.markets import FIRST, changed, history
from training.env import Episode, History, TradingEnv
from training.reward import RewardWeights, drawdown_penalty, excess_return, reward

LIMITS = RiskLimits(max_position=0.5, max_drawdown=0.15)
FREE = {
    "max_drawdown": 0.99,
    "daily_loss": 0.99,
    "stop_loss": 0.99,
    "stop_atr_multiple": 0.0,
    "volatility_target": 10.0,
    "edge_multiple": 0.0,
    "max_orders_per_day": 99,
    "max_turnover_per_day": 99.0,
    "loss_streak": 9_999,
    "participation": 1.0,
}
"""Limits that never act, so that exposure follows the actions alone."""


# ---- by hand ----------------------------------------------------------------------------------------------------
def test_excess_return_is_the_accounts_return_less_that_of_the_benchmark() -> None:
    assert excess_return(0.01, 0.02, 0.25) == pytest.approx(0.005)
    assert excess_return(0.01, -0.02, 0.25) == pytest.approx(0.015)
    assert excess_return(0.0, 0.04, 0.0) == 0.0


@pytest.mark.parametrize(
    ("drawdown", "penalty"),
    [(0.0, 0.0), (0.05, 0.0), (0.075, 0.0625), (0.10, 0.25), (0.15, 1.0), (0.20, 2.25)],
)
def test_the_drawdown_penalty_is_a_square_between_a_third_of_the_limit_and_the_limit(
    drawdown: float, penalty: float
) -> None:
    assert drawdown_penalty(drawdown, 0.15) == pytest.approx(penalty)


def test_the_components_carry_their_weights_and_names() -> None:
    paid = reward(RewardWeights(), LIMITS, equity_return=0.01, asset_return=0.02, drawdown=0.10)
    # 200 * (0.01 - 0.5 * 0.5 * 0.02) = 1; 0.02 * 0.25 = 0.005
    assert paid == {"excess_return": pytest.approx(1.0), "drawdown": pytest.approx(-0.005)}


def test_every_weight_counts() -> None:
    weights = RewardWeights(scale=10.0, excess_return=2.0, benchmark_exposure=1.0, drawdown=3.0)
    paid = reward(weights, LIMITS, equity_return=0.01, asset_return=0.02, drawdown=0.15)
    # 10 * 2 * (0.01 - 1.0 * 0.5 * 0.02) = 0; 3 * 1
    assert paid == {"excess_return": pytest.approx(0.0), "drawdown": pytest.approx(-3.0)}


# ---- what it makes worth doing ----------------------------------------------------------------------------------
def walk(returns: Any) -> CandleTable:
    """Return candles that open at the last close and move by `returns`."""
    close = 10_000.0 * np.concatenate([[1.0], np.cumprod(1.0 + np.asarray(returns))])
    opened = np.concatenate([close[:1], close[:-1]])
    high, low = np.maximum(opened, close), np.minimum(opened, close)
    values = np.stack([opened, high, low, close, np.full(len(close), 1e6)], axis=1)
    return changed(history(len(close) - FIRST), values=values)


def driftless(seed: int, steps: int = 400) -> tuple[CandleTable, CandleTable]:
    """Return two markets whose returns are each other's opposite: together they go nowhere."""
    returns = np.random.default_rng(seed).normal(0.0, 0.005, FIRST + steps)
    return walk(returns), walk(-returns)


def paid_for(action: Any, table: CandleTable, steps: int = 400, **changes: Any) -> tuple[float, float]:
    """Return the sum of rewards over the scale, and the fees and slippage paid as a share of the cash."""
    env = TradingEnv([History(table, 48)], setup((BTC,), **(FREE | changes)), episode=Episode(length=None))
    env.reset(options={"start": FIRST})
    total = 0.0
    for step in range(steps):
        _, now, *_ = env.step(np.asarray(action(step), np.float32))
        total += now
    portfolio = env.session.trader.portfolio
    return total / RewardWeights().scale, (portfolio.fees + portfolio.slippage) / 100_000.0


SEEDS = range(20, 32)


def paid_on_both(action: Any, seed: int) -> tuple[float, float]:
    """Return `paid_for` averaged over a driftless pair."""
    one, other = (paid_for(action, table) for table in driftless(seed))
    return (one[0] + other[0]) / 2.0, (one[1] + other[1]) / 2.0


def test_never_buying_is_paid_nothing_on_a_market_without_drift() -> None:
    for seed in SEEDS:
        total, costs = paid_on_both(lambda _: (0, 0, 0), seed)
        assert total == pytest.approx(0.0, abs=1e-9)
        assert costs == 0.0


def test_always_buying_earns_no_more_than_never_buying_on_a_market_without_drift() -> None:
    results = [paid_on_both(lambda _: (1, 1, 1), seed) for seed in SEEDS]
    earned, costs = (np.array(column) for column in zip(*results, strict=True))
    assert (costs > 0.0007).all()  # it did buy: half the cash at 0.15 %
    assert earned.mean() < 0.0
    # without timing nothing is left but the costs; the rest is what exposure drifted by meanwhile
    assert earned.mean() == pytest.approx(-costs.mean(), abs=0.0005)


def test_trading_back_and_forth_is_paid_its_costs() -> None:
    for seed in SEEDS[:4]:
        total, costs = paid_on_both(lambda step: (1, 1, 1) if step % 2 else (-1, 1, 1), seed)
        # 200 times half the account there and back at 0.15 % of it: e ** -0.3 of it are left
        assert costs == pytest.approx(1.0 - np.exp(-0.3), abs=0.02)
        assert total == pytest.approx(-0.3, abs=0.03)


def test_holding_the_benchmarks_exposure_is_paid_minus_the_costs() -> None:
    """Buys half of max_position once and holds: what the benchmark holds, so only the purchase costs."""
    for seed in SEEDS:
        table, _ = driftless(seed)  # alone it has a drift: it must not matter
        total, costs = paid_for(lambda step: (1, 0.5, 1) if step == 0 else (0, 0, 0), table)
        assert costs == pytest.approx(0.25 * 0.0015, rel=0.02)
        # A move m since the purchase makes the share 0.25 (1 + m) / (1 + 0.25 m): what it is above a quarter earns too.
        close = table.values[FIRST:, 3]
        move = close / close[0] - 1.0
        share = 0.25 * (1.0 + move) / (1.0 + 0.25 * move)
        drifted = float(((share[:-1] - 0.25) * (close[1:] / close[:-1] - 1.0)).sum())
        assert total == pytest.approx(drifted - costs, abs=0.0001)
