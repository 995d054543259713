"""Rollouts against single environments stepped by hand."""

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.fakes.trading import BTC, ETH, setup
from tests.training.markets import FIRST, history
from tests.training.twins import random_actions, rough_table
from training.env import TradingEnv
from training.episode import Episode, Randomisation
from training.errors import TrainingError
from training.history import History
from training.rollout import rollout
from training.trader_env import TraderEnv

HISTORIES = [History(history(120, seed=3), 48), History(history(80, seed=4, symbol=ETH), 48)]
MADE = setup([BTC, ETH])


def reading(observations: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return actions that depend on what is seen, each row on its own observation alone."""
    direction = np.clip(40.0 * observations[:, 2] - 2.0 * observations[:, -6], -1.0, 1.0)
    return np.stack([direction, np.full_like(direction, 0.8), np.full_like(direction, 0.9)], axis=1)


def test_each_history_is_an_episode_of_its_own_from_the_first_window_to_the_end() -> None:
    results = rollout(HISTORIES, MADE, reading, cash=10_000.0)
    assert [result.symbol for result in results] == [BTC, ETH]
    for index, (found, steps) in enumerate(zip(results, (119, 79), strict=True)):
        env = TraderEnv(HISTORIES, MADE, cash=10_000.0, episode=Episode(length=None))
        observation, _ = env.reset(options={"history": index, "start": FIRST})
        table, equity, actions, exposure, is_over = HISTORIES[index].table, [10_000.0], [], [], False
        while not is_over:
            actions.append(reading(observation[None])[0])
            observation, _, _, is_over, info = env.step(actions[-1])
            portfolio = env.session.trader.portfolio
            equity.append(info["equity"])
            exposure.append(1.0 - portfolio.cash / portfolio.equity)
        assert found.equity.tolist() == equity
        assert found.actions.tobytes() == np.array(actions).tobytes()
        assert found.exposure.tolist() == exposure
        assert (found.fees, found.wins, found.losses) == (portfolio.fees, portfolio.wins, portfolio.losses)
        assert found.traded.sum() * MADE.costs.fee_rate == pytest.approx(found.fees)
        assert found.open_ms.tolist() == table.open_ms[FIRST : FIRST + steps].tolist()
        assert found.close_ms.tolist() == (table.open_ms[FIRST + 1 :] + 3_600_000).tolist()
        assert found.wins + found.losses > 0


def test_another_history_beside_it_changes_nothing() -> None:
    together = rollout(HISTORIES, MADE, reading)
    alone = [rollout([one], MADE, reading)[0] for one in HISTORIES]
    assert [r.equity.tobytes() for r in together] == [r.equity.tobytes() for r in alone]


def test_a_gap_is_passed_over_in_one_step() -> None:
    gapped = History(rough_table(9, after=FIRST + 60, gap=(20, 49)), 48)
    (found,) = rollout([gapped], MADE, reading)
    assert len(found.open_ms) == 20 + 60 - 20 - 1
    assert found.close_ms[19] - found.open_ms[19] == (FIRST + 1 + 1) * 3_600_000 + 49 * 3_600_000
    assert (found.open_ms[1:] == found.close_ms[:-1] - 3_600_000).all()


def test_a_ruined_account_goes_on_to_the_end() -> None:
    crash = History(rough_table(7, after=101, crashes=[(3, 0.01)]), 48)
    rules = {"max_position": 1.0, "volatility_target": 10.0, "edge_multiple": 0.0, "participation": 1.0}
    rules |= {"max_drawdown": 0.99, "stop_loss": 0.99, "stop_atr_multiple": 0.0}
    (found,) = rollout([crash], setup(**rules), lambda seen: np.ones((len(seen), 3), np.float32), cash=1e4)
    assert found.equity[-1] < 1_000.0
    assert len(found.actions) == 100


def test_randomised_costs_are_drawn_from_the_seed() -> None:
    varied = Randomisation(fee=(0.5, 2.0), slippage=(0.5, 2.0))

    def fees(seed: int) -> list[float]:
        return [r.fees for r in rollout(HISTORIES, MADE, reading, randomisation=varied, seed=seed)]

    assert fees(1) == fees(1) != fees(2)


def test_a_policy_that_diverged_is_refused() -> None:
    with pytest.raises(TrainingError, match=r"account 0: action \[nan, nan, nan\] is not of finite numbers"):
        rollout(HISTORIES, MADE, lambda seen: np.full((len(seen), 3), np.nan, np.float32))


def test_it_is_the_environment_of_any_random_policy() -> None:
    actions = random_actions(3, 119)
    asked = iter(actions)
    (found,) = rollout(HISTORIES[:1], MADE, lambda _: next(asked)[None], cash=10_000.0)
    env = TradingEnv(HISTORIES[:1], MADE, cash=10_000.0, episode=Episode(length=None))
    env.reset(seed=0)
    assert found.equity[1:].tolist() == [env.step(action)[4]["equity"] for action in actions]
