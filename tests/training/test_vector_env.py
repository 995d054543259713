"""Many accounts in one process: equal to single environments, usable by Stable-Baselines3, resumable to the bit."""

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from strategy.observation import N_OBSERVATION
from tests.fakes.trading import BTC, ETH, setup
from tests.training.markets import FIRST, history
from tests.training.twins import rough_table, setup_with
from training.env import TradingEnv
from training.episode import Episode, Randomisation
from training.errors import TrainingError
from training.history import History
from training.trader_env import TraderEnv
from training.vector_env import VectorTradingEnv

HISTORIES = [History(history(300, seed=3), 48), History(history(260, seed=4, symbol=ETH), 48)]
VARIED = Randomisation(fee=(0.5, 2.0), slippage=(0.0, 3.0), most_delay=3, offset=True)


def arguments(**changes: Any) -> dict[str, Any]:
    """Return the arguments of an environment of two markets with everything varied."""
    usual = {"cash": 10_000.0, "episode": Episode(length=40), "randomisation": VARIED}
    return {"histories": HISTORIES, "setup": setup([BTC, ETH]), **usual, **changes}


def make(n_envs: int = 5, **changes: Any) -> VectorTradingEnv:
    return VectorTradingEnv(n_envs=n_envs, **arguments(**changes))


def some_actions(seed: int, steps: int, n_envs: int = 5) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return np.stack([rng.uniform(-1, 1, (steps, n_envs)), *rng.random((2, steps, n_envs))], axis=2).astype(np.float32)


# ---- the same as single environments ----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("kind", "count", "every"), [(TraderEnv, 5, 1), (TraderEnv, 5, 3), (TradingEnv, 1, 24), (TradingEnv, 23, 1)]
)
def test_it_equals_single_environments_seeded_as_stable_baselines_seeds_them(
    kind: type[TraderEnv], count: int, every: int
) -> None:
    chosen = {"setup": setup([BTC, ETH], decide_every=every)}
    singles = DummyVecEnv([lambda: Monitor(kind(**arguments(**chosen)))] * count)
    many = make(count, **chosen)
    singles.seed(11)
    many.seed(11)
    assert singles.reset().tobytes() == many.reset().tobytes()
    assert singles.reset_infos == many.reset_infos
    ended = 0
    for actions in some_actions(1, 150, count):
        expected, found = singles.step(actions), many.step(actions)
        for one, other in zip(expected[:3], found[:3], strict=True):
            assert (one.dtype, one.shape) == (other.dtype, other.shape)
            assert one.tobytes() == other.tobytes()
        for index, (one, other) in enumerate(zip(expected[3], found[3], strict=True)):
            told = one.get("reward")
            assert told is None or list(told.values()) == many.components[index].tolist()
            if expected[2][index]:
                ended += 1
                assert one["TimeLimit.truncated"] == other["TimeLimit.truncated"]
                assert one["terminal_observation"].tobytes() == other["terminal_observation"].tobytes()
                assert one["equity"] == other["equity"]
                assert {**one["episode"], "t": 0} == {**other["episode"], "t": 0}
                assert singles.reset_infos[index] == many.reset_infos[index]
            else:
                assert other == {}
                assert one["equity"] == many.equity[index]
    assert ended >= 3 * count


def test_ruin_is_no_time_limit() -> None:
    crash = History(rough_table(7, after=101, crashes=[(3, 0.01)]), 48)
    rules = {"max_position": 1.0, "volatility_target": 10.0, "edge_multiple": 0.0, "participation": 1.0}
    rules |= {"max_drawdown": 0.99, "stop_loss": 0.99, "stop_atr_multiple": 0.0}
    made = setup_with({"tick": 0.01, "lot": 0.0001}, **rules)
    env = VectorTradingEnv([crash], made, n_envs=2, episode=Episode(length=None))
    env.seed(1)
    env.reset()
    for _ in range(3):
        _, _, dones, infos = env.step(np.ones((2, 3), np.float32))
    assert dones.tolist() == [True, True]
    assert [info["TimeLimit.truncated"] for info in infos] == [False, False]
    assert [info["episode"]["l"] for info in infos] == [3, 3]


def test_options_reach_the_next_reset_only() -> None:
    env = make(n_envs=2)
    env.set_options({"history": 1, "start": FIRST + 7})
    env.seed(1)
    env.reset()
    assert env.reset_infos == [{"symbol": ETH, "open_ms": int(HISTORIES[1].table.open_ms[FIRST + 7])}] * 2
    env.reset()
    assert env.reset_infos[0] != env.reset_infos[1]


def test_what_a_step_returned_is_not_written_again() -> None:
    env = make()
    env.seed(1)
    first = env.reset()
    kept = first.copy()
    results = [env.step(actions) for actions in some_actions(2, 45)]
    copies = [[part.copy() for part in result[:3]] for result in results]
    for actions in some_actions(3, 45):
        env.step(actions)
    assert first.tobytes() == kept.tobytes()
    for result, copy in zip(results, copies, strict=True):
        assert all(one.tobytes() == other.tobytes() for one, other in zip(result[:3], copy, strict=True))


# ---- stopping and going on --------------------------------------------------------------------------------------
def played(env: VectorTradingEnv, actions: NDArray[np.float32]) -> list[bytes]:
    """Return all that stepping showed, and how episodes ended."""
    trail = []
    for row in actions:
        observations, rewards, dones, infos = env.step(row)
        trail += [observations.tobytes(), rewards.tobytes(), dones.tobytes()]
        trail += [repr({**info["episode"], "t": 0}).encode() for info in infos if info]
    return trail


@pytest.mark.parametrize("stop", [0, 7, 39, 40, 95])
def test_a_stored_state_continues_to_the_bit(stop: int) -> None:
    actions, env = some_actions(5, 200), make()
    env.seed(3)
    env.reset()
    played(env, actions[:stop])
    state = env.state()
    rest = played(env, actions[stop:])
    plain = json.loads(json.dumps({name: part for name, part in state.items() if name != "records"}))
    records = {name: np.array(part) for name, part in state["records"].items()}
    assert all(part.dtype.kind in "fi" for part in records.values())
    resumed = make()
    resumed.restore({**plain, "records": records})
    assert played(resumed, actions[stop:]) == rest
    assert resumed.reset_infos == env.reset_infos


def test_a_state_is_a_copy() -> None:
    env = make()
    env.seed(3)
    env.reset()
    state = env.state()
    first = played(env, some_actions(5, 60))
    env.restore(state)
    assert played(env, some_actions(5, 60)) == first


@pytest.mark.parametrize(
    "changes",
    [
        {"cash": 9_999.0},
        {"setup": setup([BTC, ETH], max_position=0.4)},
        {"histories": HISTORIES[::-1]},
        {"episode": Episode(length=41)},
        {"randomisation": None},
        {"n_envs": 4},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_state_of_another_environment_is_refused(changes: dict[str, Any]) -> None:
    env = make()
    env.seed(3)
    env.reset()
    other = make(**changes)
    before = other.accounts.records.tobytes()
    with pytest.raises(TrainingError, match="belongs to other candles, conditions or another version of the program"):
        other.restore(env.state())
    assert other.accounts.records.tobytes() == before


def test_a_damaged_state_is_refused_and_changes_nothing() -> None:
    env = make()
    env.seed(3)
    env.reset()
    state, before = env.state(), env.accounts.records.tobytes()
    del state["records"]["cash"]
    with pytest.raises(TrainingError, match="stored state has no cash of 5 accounts"):
        env.restore(state)
    assert env.accounts.records.tobytes() == before


# ---- what Stable-Baselines3 does with it ------------------------------------------------------------------------
def test_episodes_reach_the_logger_without_a_monitor() -> None:
    model = SAC("MlpPolicy", make(), seed=1, device="cpu", buffer_size=1_000, learning_starts=10_000)
    model.learn(500)
    assert [info["l"] for info in model.ep_info_buffer] == [40] * 10


def test_training_with_one_seed_twice_gives_the_same_weights() -> None:
    def weights() -> list[bytes]:
        model = PPO("MlpPolicy", make(), seed=7, device="cpu", n_steps=16, batch_size=40, n_epochs=2)
        model.learn(160)
        return [parameter.detach().numpy().tobytes() for parameter in model.policy.parameters()]

    assert weights() == weights()


def test_time_limits_reach_the_replay_buffer() -> None:
    model = SAC("MlpPolicy", make(), seed=1, device="cpu", buffer_size=1_000, learning_starts=10_000)
    model.learn(5 * 45)
    buffer = model.replay_buffer
    assert buffer is not None
    assert buffer.timeouts[:45].sum() == buffer.dones[:45].sum() == 5.0
    assert np.flatnonzero(buffer.timeouts[:45, 0]).tolist() == [39]


def test_policies_are_evaluated_by_the_episodes_it_tells() -> None:
    model = SAC("MlpPolicy", make(), seed=1, device="cpu", buffer_size=100)
    rewards, lengths = evaluate_policy(model, make(), n_eval_episodes=7, return_episode_rewards=True, warn=True)
    assert len(rewards) == 7
    assert lengths == [40] * 7


def test_attributes_are_asked_of_the_whole() -> None:
    env = make()
    assert env.get_attr("render_mode") == [None] * 5
    assert env.get_attr("num_envs", indices=[1, 2]) == [5, 5]
    assert not env.has_attr("nothing")
    assert env.env_is_wrapped(Monitor) == [True] * 5
    assert env.env_is_wrapped(DummyVecEnv, indices=0) == [False]  # type: ignore[arg-type]
    with pytest.raises(AttributeError, match="cannot be set"):
        env.set_attr("cash", 1.0)
    with pytest.raises(AttributeError, match="have no method close_position"):
        env.env_method("close_position", 3)


# ---- what it refuses --------------------------------------------------------------------------------------------
def test_steps_before_reset_wrong_shapes_and_no_accounts_are_refused() -> None:
    with pytest.raises(TrainingError, match="n_envs 0: give at least 1 account"):
        make(n_envs=0)
    env = make()
    with pytest.raises(TrainingError, match="account 0: no episode is under way: call reset before step"):
        env.step(np.zeros((5, 3), np.float32))
    with pytest.raises(TrainingError, match=r"actions of shape \(5, 2\): give \(5, 3\), a row for each account"):
        env.step(np.zeros((5, 2), np.float32))


def test_an_action_that_is_no_number_moves_no_account() -> None:
    env = make()
    env.seed(1)
    assert env.reset().shape == (5, N_OBSERVATION)
    before, actions = env.accounts.records.tobytes(), some_actions(1, 1)[0]
    actions[3, 1] = np.nan
    with pytest.raises(TrainingError, match=r"account 3: action \[.*nan.*\] is not of finite numbers"):
        env.step(actions)
    assert env.accounts.records.tobytes() == before
