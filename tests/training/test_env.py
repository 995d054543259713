"""The single compiled environment: what others demand of it, its seeds, and what it refuses."""

from typing import Any

import gymnasium.utils.env_checker
import numpy as np
import pytest
import stable_baselines3.common.env_checker
from stable_baselines3 import SAC

from strategy.candle_table import CandleTable
from tests.fakes.trading import BTC, ETH, setup
from tests.training.checkers import messages_of
from tests.training.markets import FIRST, history
from tests.training.twins import Twins, always, random_actions, setup_with
from training.env import TradingEnv
from training.episode import Episode, Randomisation
from training.errors import TrainingError
from training.history import History
from training.reward import COMPONENTS

TABLE = history(300, seed=3)
BUY = np.array([1.0, 1.0, 1.0], np.float32)


def make_env(*tables: CandleTable, length: int | None = 50, **named: Any) -> TradingEnv:
    """Return an environment of `tables`, one usual history without them."""
    histories = [History(table, 48) for table in tables or (TABLE,)]
    given = {"cash": 10_000.0, "episode": Episode(length=length)} | named
    return TradingEnv(histories, setup([h.symbol for h in histories]), **given)


# ---- what others demand of an environment -----------------------------------------------------------------------
def test_gymnasium_accepts_it_without_a_warning() -> None:
    check = gymnasium.utils.env_checker.check_env
    assert messages_of(lambda: check(make_env(), skip_render_check=True)) == []


def test_stable_baselines_accepts_it_and_only_regrets_that_size_and_confidence_begin_at_zero() -> None:
    (message,) = messages_of(lambda: stable_baselines3.common.env_checker.check_env(make_env()))
    assert "symmetric and normalized Box action space" in message


def test_a_policy_of_stable_baselines_learns_in_it() -> None:
    model = SAC("MlpPolicy", make_env(), seed=1, device="cpu", buffer_size=300, learning_starts=60)
    before = [p.clone() for p in model.actor.parameters()]
    model.learn(110)
    assert len(model.ep_info_buffer) == 2
    assert any((a != b).any() for a, b in zip(before, model.actor.parameters(), strict=True))


# ---- seeds ------------------------------------------------------------------------------------------------------
def test_the_seed_alone_decides_the_episode_and_draws_what_the_definition_draws() -> None:
    histories = [History(TABLE, 48), History(history(260, seed=4, symbol=ETH), 48)]
    named = {"episode": Episode(length=20), "randomisation": Randomisation(fee=(0.0, 2.0), most_delay=4)}
    twins = Twins(histories, setup([BTC, ETH]), cash=10_000.0, **named)
    starts = set()
    for seed in range(25):
        twins.episode(random_actions(seed, 20), seed=seed)
        twins.episode(random_actions(seed, 20))  # the next episode follows from the last seed
        starts.add(twins.compiled.accounts.open_ms(0))
    assert len(starts) > 15


def test_every_observation_is_an_array_of_its_own() -> None:
    env = make_env()
    first, _ = env.reset(seed=1)
    kept = first.copy()
    second, *_ = env.step(BUY)
    assert first.tobytes() == kept.tobytes()
    assert not np.shares_memory(first, second)


# ---- what a step tells ------------------------------------------------------------------------------------------
def test_a_step_tells_equity_and_reason_and_the_environment_what_the_reward_is_made_of() -> None:
    env = make_env()
    env.reset(seed=1)
    _, reward, is_ruined, is_over, info = env.step(BUY)
    assert set(info) == {"equity", "reason"}
    assert info["reason"] in {"voted", "edge_below_cost", "dead_band"}
    assert tuple(env.components) == COMPONENTS
    assert reward == sum(env.components.values()) != 0.0
    assert [type(value) for value in (reward, is_ruined, is_over)] == [float, bool, bool]


# ---- what it refuses --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"begin": 3}, r"unknown options \['begin'\]; known are history and start"),
        ({"history": 1}, r"history 1 is outside 0 \.\. 0"),
        ({"history": -1}, r"history -1 is outside 0 \.\. 0"),
        ({"start": -1}, r"start -1 is outside 0 \.\. 2698"),
        ({"start": 2_699}, r"start 2699 is outside 0 \.\. 2698"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        make_env().reset(options=options)


def test_a_step_before_reset_and_one_after_the_end_are_refused() -> None:
    env = make_env(length=2)
    with pytest.raises(TrainingError, match="no episode is under way: call reset before step"):
        env.step(BUY)
    env.reset(seed=1)
    env.step(BUY)
    assert env.step(BUY)[3]
    with pytest.raises(TrainingError, match="no episode is under way: call reset before step"):
        env.step(BUY)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_an_action_that_is_no_number_is_refused_and_changes_nothing(wrong: float, place: int) -> None:
    env = make_env()
    env.reset(seed=1)
    before = env.accounts.records.tobytes()
    action = BUY.copy()
    action[place] = wrong
    with pytest.raises(TrainingError, match=r"action \[.*(nan|inf).*\] is not of finite numbers"):
        env.step(action)
    assert env.accounts.records.tobytes() == before


def test_nothing_to_practise_on_and_no_cash_are_refused() -> None:
    with pytest.raises(TrainingError, match="no history to practise on: give at least one"):
        TradingEnv([], setup())
    for cash in (0.0, -1.0, float("nan")):
        with pytest.raises(TrainingError, match=f"cash {cash}: give more than 0"):
            make_env(cash=cash)


def test_a_history_without_an_instrument_is_refused() -> None:
    with pytest.raises(TrainingError, match="ETH/USDT: no instrument in the setup, which knows BTC/USDT; add one"):
        TradingEnv([History(history(10, symbol=ETH), 48)], setup([BTC]))


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ({"tick": 0.01, "lot": 1.0 / 3.0}, r"BTC/USDT: lot 0\.33+ has too many digits"),
        (
            {"tick": 1e-13, "lot": 1.0},
            r"BTC/USDT: prices up to .* too many digits in ticks of 1e-13: give a coarser tick",
        ),
        ({"tick": 0.01, "lot": 1e-14}, r"BTC/USDT: 10000\.0 of cash buy so much .* give a coarser lot or less cash"),
    ],
)
def test_steps_that_cannot_be_rounded_to_exactly_are_refused_at_once(steps: dict[str, float], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        TradingEnv([History(TABLE, 48)], setup_with(steps), cash=10_000.0)


def test_a_quantity_that_outgrows_exact_rounding_is_refused_when_it_comes() -> None:
    """The account begins just below 15 digits in lots; then the price rises 40-fold and falls again."""
    values = TABLE.values.copy()
    values[FIRST + 3 : FIRST + 6, :4] *= 40.0
    values[:, 4] = 1e9
    table = CandleTable(symbol=BTC, timeframe=TABLE.timeframe, open_ms=TABLE.open_ms, values=values)
    rules = {"max_position": 1.0, "volatility_target": 10.0, "edge_multiple": 0.0, "participation": 1.0}
    made = setup_with({"tick": 0.01, "lot": 1e-8}, max_turnover_per_day=1_000.0, **rules)
    cash = 0.9e15 * 1e-8 * float(values[:, :4].min())
    env = TradingEnv([History(table, 48)], made, cash=cash, episode=Episode(length=None))
    env.reset(options={"start": FIRST})
    actions = [*always(1.0, 4), *always(-1.0, 2), *always(1.0, 100)]
    with pytest.raises(TrainingError, match=r"more than 15 digits in lots, too many to round exactly"):
        _ = [env.step(action) for action in actions]
