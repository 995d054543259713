"""What each reward set makes worth doing: sums over whole episodes of simple policies on made markets."""

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from strategy.candle_table import CandleTable
from tests.fakes.trading import BTC, setup
from tests.training.markets import FIRST, changed, history
from training.episode import Episode
from training.history import History
from training.reward import REWARDS
from training.trader_env import TraderEnv

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
CASH = 100_000.0
SCALE = REWARDS["timing"].scale


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


def paid_for(action: Any, table: CandleTable, chosen: str = "timing") -> tuple[dict[str, float], float]:
    """Return the sum of each component over 400 steps, and the fees and slippage paid as a share of the cash."""
    env = TraderEnv([History(table, 48)], setup((BTC,), **FREE), episode=Episode(length=None), reward=REWARDS[chosen])
    env.reset(options={"start": FIRST})
    sums: Counter[str] = Counter()
    for step in range(400):
        *_, info = env.step(np.asarray(action(step), np.float32))
        sums.update(info["reward"])
    portfolio = env.session.trader.portfolio
    return dict(sums), (portfolio.fees + portfolio.slippage) / CASH


SEEDS = range(20, 32)
ALWAYS_BUY, NEVER_BUY = (lambda _: (1, 1, 1)), (lambda _: (0, 0, 0))


def timing_on_both(action: Any, seed: int) -> tuple[float, float]:
    """Return what timing earned, as a share of the account, and the costs, averaged over a driftless pair."""
    (one, cost), (other, second) = (paid_for(action, table) for table in driftless(seed))
    return (one["excess_return"] + other["excess_return"]) / 2.0 / SCALE, (cost + second) / 2.0


def test_never_buying_is_paid_nothing_on_a_market_without_drift() -> None:
    for seed in SEEDS[:4]:
        total, costs = timing_on_both(NEVER_BUY, seed)
        assert total == pytest.approx(0.0, abs=1e-9)
        assert costs == 0.0


def test_always_buying_earns_no_more_than_never_buying_on_a_market_without_drift() -> None:
    results = [timing_on_both(ALWAYS_BUY, seed) for seed in SEEDS]
    earned, costs = (np.array(column) for column in zip(*results, strict=True))
    assert (costs > 0.0007).all()  # it did buy: half the cash at 0.15 %
    assert earned.mean() < 0.0
    # without timing nothing is left but the costs; the rest is what exposure drifted by meanwhile
    assert earned.mean() == pytest.approx(-costs.mean(), abs=0.0005)


def test_trading_back_and_forth_is_paid_its_costs() -> None:
    for seed in SEEDS[:2]:
        total, costs = timing_on_both(lambda step: (1, 1, 1) if step % 2 else (-1, 1, 1), seed)
        # 200 times half the account there and back at 0.15 % of it: e ** -0.3 of it are left
        assert costs == pytest.approx(1.0 - np.exp(-0.3), abs=0.02)
        assert total == pytest.approx(-0.3, abs=0.03)


def test_holding_the_benchmarks_exposure_is_paid_minus_the_costs() -> None:
    """Buys half of max_position once and holds: what the benchmark holds, so only the purchase costs."""
    for seed in SEEDS[:6]:
        table, _ = driftless(seed)  # alone it has a drift: it must not matter
        total, costs = paid_for(lambda step: (1, 0.5, 1) if step == 0 else (0, 0, 0), table)
        assert costs == pytest.approx(0.25 * 0.0015, rel=0.02)
        # A move m since the purchase makes the share 0.25 (1 + m) / (1 + 0.25 m): what it is above a quarter earns too.
        close = table.values[FIRST:, 3]
        move = close / close[0] - 1.0
        share = 0.25 * (1.0 + move) / (1.0 + 0.25 * move)
        drifted = float(((share[:-1] - 0.25) * (close[1:] / close[:-1] - 1.0)).sum())
        assert total["excess_return"] / SCALE == pytest.approx(drifted - costs, abs=0.0001)


# ---- the guide's set --------------------------------------------------------------------------------------------
def market(drift: float, seed: int) -> CandleTable:
    """Return a walk whose last 400 moves have exactly this mean."""
    moves = np.random.default_rng(seed).normal(0.0, 0.005, FIRST + 400)
    return walk(moves - moves[FIRST:].mean() + drift)


def guide_on(action: Any, drift: float, seed: int = 1) -> Counter[str]:
    return Counter(paid_for(action, market(drift, seed), "guide")[0])


@pytest.mark.parametrize("drift", [0.0005, -0.0005, 0.0])
def test_the_guide_pays_doing_nothing_what_the_market_loses(drift: float) -> None:
    earned = guide_on(NEVER_BUY, drift)
    # 0.4 * 100 * 0.5 of the market's moves, and nothing else
    assert earned.total() == pytest.approx(-20.0 * 400 * drift, abs=1e-9)
    assert earned["excess_return"] == earned.total()


@pytest.mark.parametrize("seed", range(4))
def test_the_guide_prefers_buying_on_a_rising_market_and_staying_out_on_a_falling_one(seed: int) -> None:
    rising = [guide_on(action, 0.0005, seed).total() for action in (ALWAYS_BUY, NEVER_BUY)]
    falling = [guide_on(action, -0.0005, seed).total() for action in (ALWAYS_BUY, NEVER_BUY)]
    assert rising[0] > 0.0 > rising[1]
    assert falling[0] < 0.0 < falling[1]


def test_the_guide_pays_the_diversity_of_votes_that_nothing_follows() -> None:
    """A weakness of the guide's set, measured here so that nobody is surprised: SELL while nothing is held."""
    earned = guide_on(lambda step: (-1, 1, 1) if step % 2 else (0, 0, 0), 0.0)
    # 0.05 a step at the entropy of two kinds; the odd windows at the start hold 1, 2/1, 3/2, ... of them
    early = [(step + 1) // 2 / step for step in range(1, 10)]
    entropy = [-sum(p * math.log(p) for p in (share, 1.0 - share) if p > 0.0) for share in early]
    expected = 0.05 * (sum(entropy) + (400 - 9) * math.log(2.0)) / math.log(3.0)
    assert earned["diversity"] == pytest.approx(expected)
    assert earned.total() == pytest.approx(expected)


def test_the_guide_pays_a_small_position_for_its_risk_like_a_large_one() -> None:
    small, large = (guide_on(lambda step, s=s: (1, s, 1) if step == 0 else (0, 0, 0), 0.0005) for s in (0.06, 1.0))
    assert small["risk_adjusted"] == pytest.approx(large["risk_adjusted"], rel=0.05)
    # held through a rise of 22 %, a seventeenth of the position makes about a seventeenth of the difference to nothing
    nothing = guide_on(NEVER_BUY, 0.0005)["excess_return"]
    assert 0.0 < (small["excess_return"] - nothing) / (large["excess_return"] - nothing) < 0.1
    assert large["risk_adjusted"] > 5.0


def test_trading_back_and_forth_is_what_every_set_punishes_most_but_that_of_the_trend_rule() -> None:
    """That one pays for being near the rule: who holds too much or too little all the time is as far from it."""
    flip: Callable[[int], tuple[float, float, float]] = lambda step: (1, 1, 1) if step % 2 else (-1, 1, 1)  # noqa: E731
    for name in REWARDS.keys() - {"trend"}:
        totals = [sum(paid_for(act, market(0.0, 1), name)[0].values()) for act in (flip, ALWAYS_BUY, NEVER_BUY)]
        assert totals[0] < min(totals[1:])
