import math
from dataclasses import replace
from typing import Any

import gymnasium.utils.env_checker
import numpy as np
import pytest
import stable_baselines3.common.env_checker
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from stable_baselines3 import SAC

from strategy.candle_table import CandleTable
from strategy.features import FeatureTable, FeatureWindow, compute
from strategy.order import Fill
from strategy.risk import VerdictReason
from strategy.session import Session
from strategy.trader import Trader
from tests.fakes.trading import BTC, ETH, HOUR_MS, setup
from tests.training.checkers import messages_of
from tests.training.markets import FIRST, changed, history, other_future, with_gap
from training import history as history_module
from training.episode import Episode, Randomisation
from training.errors import TrainingError
from training.history import History
from training.reward import COMPONENTS, REWARDS
from training.trader_env import TraderEnv

TABLE = history(300, seed=3)
BUY, SELL, HOLD = (np.array(a, np.float32) for a in ([1, 1, 1], [-1, 1, 1], [0, 0, 0]))


def make_env(
    *tables: CandleTable,
    length: int | None = 50,
    shortest: int | None = None,
    max_missing: int = 48,
    randomisation: Randomisation | None = None,
    reward: str = "timing",
    **changes: Any,
) -> TraderEnv:
    """Return an environment of `tables` (one usual history without them); `changes` go to the setup."""
    histories = [History(table, max_missing) for table in tables or (TABLE,)]
    made = setup([h.symbol for h in histories], **changes)
    terms = {
        "episode": Episode(length=length, shortest=shortest),
        "reward": REWARDS[reward],
        "randomisation": randomisation,
    }
    return TraderEnv(histories, made, cash=10_000.0, **terms)


def some_actions(count: int, seed: int = 0) -> NDArray[np.float32]:
    """Return actions that buy and sell often enough to trade on most candles."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.uniform(-1, 1, count), rng.random(count), np.ones(count)], axis=1).astype(np.float32)


class Script:
    """Voters that cast the given actions one after another, each to whoever asks next."""

    def __init__(self, actions: NDArray[np.float32]) -> None:
        self.weights = np.ones(1)
        self._actions = iter(actions)

    def act(self, observations: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.stack([next(self._actions)[None] for _ in observations])


def session_by_hand(table: CandleTable, start: int, actions: NDArray[np.float32]) -> tuple[Session, list[Any]]:
    """Drive a Session over streaming windows, and return per candle observation, equity and fills."""
    window = FeatureWindow(48)
    for index in range(start):
        window.push(table.candle(index))
    session, seen = Session(Trader(setup(), {BTC: window}, 10_000.0)), []
    voters = Script(actions)
    for index in range(start, start + len(actions)):
        reports, (outcome,) = session.on_candles((table.candle(index),), voters)
        fills = [report.fill for report in reports if report.fill is not None]
        seen.append((outcome.sight.observation, session.trader.portfolio.equity, fills))
    return session, seen


# ---- what others demand of an environment -----------------------------------------------------------------------
def test_gymnasium_accepts_it_without_a_warning() -> None:
    check = gymnasium.utils.env_checker.check_env
    assert messages_of(lambda: check(make_env(), skip_render_check=True)) == []


def test_stable_baselines_accepts_it_and_only_regrets_that_size_and_confidence_begin_at_zero() -> None:
    (message,) = messages_of(lambda: stable_baselines3.common.env_checker.check_env(make_env()))
    assert "symmetric and normalized Box action space" in message


# ---- the same as the trader -------------------------------------------------------------------------------------
@pytest.mark.parametrize("start", [FIRST, FIRST + 137], ids=["first-window", "later"])
def test_an_episode_is_what_a_session_over_streaming_windows_does(start: int) -> None:
    actions = some_actions(100)
    env = make_env(length=100)
    observation, _ = env.reset(options={"start": start})
    session, seen = session_by_hand(TABLE, start, actions)
    fills: list[Fill] = []
    place = env.session.settle
    env.session.settle = lambda candles: _kept(place(candles), fills)  # type: ignore[method-assign]
    for action, (expected, equity, _) in zip(actions, seen, strict=True):
        assert observation.dtype == np.float32
        assert observation.tobytes() == expected.tobytes()
        assert env.session.trader.portfolio.equity == equity
        observation, *_ = env.step(action)
    wanted = [fill for _, _, now in seen for fill in now]
    assert len(wanted) > 20
    assert [replace(fill) for fill in fills[: len(wanted)]] == wanted
    assert env.session.trader.state()["stops"].keys() == session.trader.state()["stops"].keys()


def _kept(reports: list[Any], into: list[Fill]) -> list[Any]:
    into.extend(report.fill for report in reports if report.fill is not None)
    return reports


def test_observations_stay_within_the_declared_space() -> None:
    env = make_env(length=None)
    observation, _ = env.reset(seed=1)
    for action in some_actions(250):
        assert env.observation_space.contains(observation)
        observation, *_ = env.step(action)


# ---- seeds and episodes -----------------------------------------------------------------------------------------
def episode(env: TraderEnv, **reset: Any) -> tuple[Any, ...]:
    """Return what identifies an episode: market, start, and all that was seen and paid."""
    observation, info = env.reset(**reset)
    trail = [info["symbol"], info["open_ms"], observation.tobytes()]
    for action in some_actions(20):
        observation, reward, *_ = env.step(action)
        trail += [observation.tobytes(), reward]
    return tuple(trail)


def two_markets() -> TraderEnv:
    return make_env(TABLE, history(300, seed=4, symbol=ETH))


def test_the_seed_alone_decides_the_episode() -> None:
    used = two_markets()
    for seed in (5, 6):
        episode(used, seed=seed)
    assert episode(used, seed=7) == episode(two_markets(), seed=7)


def test_different_seeds_draw_different_markets_and_starts() -> None:
    env = two_markets()
    drawn = {episode(env, seed=seed)[:2] for seed in range(20)}
    assert {symbol for symbol, _ in drawn} == {BTC, ETH}
    assert len(drawn) > 12


def test_without_a_seed_the_next_episode_follows_from_the_last_seed() -> None:
    first, second = two_markets(), two_markets()
    series = []
    for env in (first, second):
        env.reset(seed=11)
        series.append([episode(env) for _ in range(4)])
    assert series[0] == series[1]
    assert len(set(series[0])) > 1


def test_the_seed_of_stable_baselines_reaches_the_environment() -> None:
    def starts(seed: int) -> list[tuple[str, int]]:
        env = two_markets()
        drawn: list[tuple[str, int]] = []
        reset = env.reset

        def noted(**arguments: Any) -> Any:
            observation, info = reset(**arguments)
            drawn.append((info["symbol"], info["open_ms"]))
            return observation, info

        env.reset = noted  # type: ignore[method-assign]
        SAC("MlpPolicy", env, seed=seed, device="cpu", buffer_size=200, policy_kwargs={"net_arch": [4]}).learn(90)
        return drawn

    assert starts(1) == starts(1) != starts(2)


def test_every_drawn_start_leaves_room_for_the_whole_episode() -> None:
    env = make_env(length=280)
    starts = {env.reset(seed=seed)[1]["open_ms"] for seed in range(200)}
    # 300 candles with a full window, the last of which only fills
    indices = {int(np.searchsorted(TABLE.open_ms, start)) - FIRST for start in starts}
    assert min(indices) == 0
    assert max(indices) + 280 in {298, 299}
    assert len(indices) > 10


@pytest.mark.parametrize(("length", "steps"), [(50, 50), (None, 299), (10_000, 299)])
def test_an_episode_is_cut_off_at_its_length_or_at_the_end_of_the_history(length: int | None, steps: int) -> None:
    env = make_env(length=length)
    env.reset(options={"start": FIRST})
    flags = [env.step(HOLD)[2:4] for _ in range(steps)]
    assert flags == [(False, False)] * (steps - 1) + [(False, True)]
    assert env.is_over


def drawn_episodes(env: TraderEnv, seeds: range) -> list[tuple[int, int]]:
    """Return start and length, in candles, of the episodes that the seeds draw."""
    drawn = []
    for seed in seeds:
        _, info = env.reset(seed=seed)
        steps = 1
        while not env.step(HOLD)[3]:
            steps += 1
        drawn.append((int(np.searchsorted(TABLE.open_ms, info["open_ms"])) - FIRST, steps))
    return drawn


def test_the_length_too_is_drawn_from_the_seed_and_the_start_leaves_room_for_it() -> None:
    drawn = drawn_episodes(make_env(length=290, shortest=280), range(60))
    assert {steps for _, steps in drawn} == set(range(280, 291))
    # 300 candles with a full window, the last of which only fills: as far as 299 - length, and not further
    assert all(0 <= start <= 299 - steps for start, steps in drawn)
    assert len({start for start, _ in drawn}) > 8
    assert drawn_episodes(make_env(length=290, shortest=280), range(50, 60)) == drawn[50:]


def test_ruin_ends_the_episode() -> None:
    values = TABLE.values.copy()
    values[FIRST + 3 :] *= 0.01  # everything invested, and the price falls by 99 % between two candles
    env = make_env(changed(TABLE, values=values), max_position=1.0, volatility_target=10.0, participation=1.0)
    env.reset(options={"start": FIRST})
    first, second, third = (env.step(BUY) for _ in range(3))
    assert (first[2], second[2]) == (False, False)
    assert third[2:4] == (True, False)
    assert third[4]["equity"] < 1_000.0


# ---- gaps -------------------------------------------------------------------------------------------------------
def test_a_broken_window_is_passed_over_in_one_step_and_nobody_votes_in_it() -> None:
    table = with_gap(history(2_600, seed=5), FIRST + 10, missing=49)
    env = make_env(table, length=None)
    env.reset(options={"start": FIRST})
    for _ in range(9):
        env.step(BUY)
    held = env.session.trader.portfolio.positions[BTC].quantity
    equity = env.session.trader.portfolio.equity
    voted: list[bool] = []
    decide = env.session.trader.decide

    def noted(seen: Any, weights: Any) -> Any:
        voted.extend(votes is not None for _, votes in seen)
        return decide(seen, weights)

    env.session.trader.decide = noted  # type: ignore[method-assign]
    observation, reward, *_, info = env.step(HOLD)
    # one candle missing too many anywhere in the window of 2,401 candles: the next row is 2,400 candles later
    assert env.sight.candle.open_ms == table.open_ms[FIRST + 10 + FIRST]
    assert voted == [True] + [False] * FIRST
    assert observation.any()
    assert held > 0.0
    asset = table.values[FIRST + 10 + FIRST, 3] / table.values[FIRST + 9, 3] - 1.0
    assert info["reward"]["excess_return"] == pytest.approx(200.0 * (info["equity"] / equity - 1.0 - 0.25 * asset))
    assert reward == sum(info["reward"].values())


def test_a_gap_that_the_window_may_have_changes_nothing() -> None:
    env = make_env(with_gap(TABLE, FIRST + 10, missing=48), length=None)
    env.reset(options={"start": FIRST})
    for step in range(20):
        env.step(HOLD)
        assert env.sight.candle.close == TABLE.values[FIRST + step + 1, 3]


def test_a_history_that_ends_inside_a_gap_ends_the_episode_with_an_empty_observation() -> None:
    env = make_env(with_gap(TABLE, FIRST + 10, missing=49), length=None)
    env.reset(options={"start": FIRST + 9})
    observation, _, is_ruined, is_over, _ = env.step(HOLD)
    assert (is_ruined, is_over) == (False, True)
    assert not observation.any()
    assert env.observation_space.contains(observation)


def test_an_action_cast_while_the_window_is_not_full_counts_for_nothing() -> None:
    env = make_env(length=None)
    env.reset(options={"start": FIRST - 5})
    _, _, _, _, info = env.step(BUY)
    assert info["reason"] == VerdictReason.WARMING_UP.value
    assert info["equity"] == 10_000.0
    assert env.sight.candle.open_ms == TABLE.open_ms[FIRST]


# ---- rewards ----------------------------------------------------------------------------------------------------
def test_the_reward_is_the_return_after_costs_less_a_quarter_of_the_assets() -> None:
    """Buys 50 % at the second candle's open: price and fee by hand from the table and the cost rates."""
    env = make_env(participation=1.0, volatility_target=10.0)
    env.reset(options={"start": FIRST})
    close, (opened, *_, after, _) = TABLE.values[FIRST, 3], TABLE.values[FIRST + 1].tolist()
    _, reward, _, _, info = env.step(BUY)
    quantity = np.floor(5_000.0 / close * 1e4) / 1e4
    price = np.ceil(np.round(opened * 1.0005 * 100, 6)) / 100
    equity = 10_000.0 - quantity * price * 1.001 + quantity * after
    assert info["equity"] == pytest.approx(equity, rel=1e-12)
    assert reward == pytest.approx(200.0 * (equity / 10_000.0 - 1.0 - 0.25 * (after / close - 1.0)), rel=1e-9)


def test_the_reward_is_the_sum_of_its_components_also_in_a_drawdown() -> None:
    values = TABLE.values.copy()
    values[FIRST + 5 :] *= 0.8  # half invested: a drawdown near 10 % of a limit of 15 %
    env = make_env(changed(TABLE, values=values))
    env.reset(options={"start": FIRST})
    infos = [(reward, info) for _, reward, _, _, info in (env.step(BUY) for _ in range(20))]
    for reward, info in infos:
        assert {name for name, part in info["reward"].items() if part != 0.0} <= {"excess_return", "drawdown"}
        assert reward == sum(info["reward"].values())
    assert min(info["reward"]["drawdown"] for _, info in infos) < 0.0


def test_every_component_is_told_by_name_and_the_reward_is_their_sum() -> None:
    env = make_env(reward="guide", volatility_target=10.0, max_position=1.0)
    env.reset(seed=3)
    told = []
    for action in some_actions(50):
        _, reward, _, _, info = env.step(action)
        assert tuple(info["reward"]) == COMPONENTS
        assert reward == sum(info["reward"].values())
        told.append(info["reward"])
    used = {name for parts in told for name, part in parts.items() if part != 0.0}
    assert used >= {"excess_return", "risk_adjusted", "volatility", "diversity", "cost"}
    assert used.isdisjoint({"log_return", "differential_sharpe"})


def test_the_cost_component_is_what_was_traded_at_the_rates_of_the_episode() -> None:
    """Trades on most candles: the portfolio's own books are the second source."""
    twice = Randomisation(fee=(2.0, 2.0), slippage=(2.0, 2.0))
    for varied in (None, twice):
        env = make_env(reward="guide", randomisation=varied, participation=1.0, max_turnover_per_day=99.0)
        env.reset(options={"start": FIRST})
        traded = 0
        for action in some_actions(50):
            before = env.session.trader.portfolio
            *_, info = env.step(action)
            after = env.session.trader.portfolio
            paid = (after.fees + after.slippage - before.fees - before.slippage) / before.equity
            # the price on the tick grid is up to a tick of 1 in 10,000 worse than the rate says
            assert info["reward"]["cost"] == pytest.approx(-0.05 * 100.0 * paid, rel=0.1, abs=1e-12)
            traded += info["reward"]["cost"] < 0.0
        assert traded > 10


def test_what_an_action_asks_for_is_remembered_from_the_threshold_of_the_rule_on() -> None:
    """Three kinds by turns are worth log 3 / log 3; what lies on the thresholds of 0.3 asks for nothing."""
    for direction, kinds in ((0.29, 1), (0.31, 3)):
        env = make_env(reward="guide")
        env.reset(options={"start": FIRST})
        for step in range(9):
            *_, info = env.step(np.array([(-direction, 0.0, direction)[step % 3], 0.0, 0.0], np.float32))
        assert info["reward"]["diversity"] == pytest.approx(0.05 * np.log(kinds) / np.log(3.0))


def test_the_memory_of_the_reward_ends_with_the_episode() -> None:
    env, fresh = make_env(reward="guide"), make_env(reward="guide")
    episode(env, seed=1)
    assert episode(env, seed=2) == episode(fresh, seed=2)


# ---- randomisation ----------------------------------------------------------------------------------------------
def rates(env: TraderEnv) -> tuple[float, float]:
    """Return the rates of fee and slippage that the present episode trades under."""
    costs = env.session.trader.setup.costs
    return costs.fee_rate, costs.slippage_rate


def test_costs_are_drawn_within_their_bounds_from_the_seed_of_the_reset() -> None:
    varied = Randomisation(fee=(0.5, 2.0), slippage=(0.0, 3.0))
    env, other = make_env(randomisation=varied), make_env(randomisation=varied)
    drawn = []
    for seed in range(300):
        env.reset(seed=seed)
        drawn.append(rates(env))
    fees, slippages = np.array(drawn).T
    # uniform: mean in the middle, edges nearly reached; the rates are multiples of 0.1 % and 0.05 %
    assert fees.min() == pytest.approx(0.0005, abs=2e-5)
    assert fees.max() == pytest.approx(0.0020, abs=2e-5)
    assert fees.mean() == pytest.approx(0.00125, abs=1e-4)
    assert slippages.min() == pytest.approx(0.0, abs=2e-5)
    assert slippages.max() == pytest.approx(0.0015, abs=2e-5)
    assert abs(np.corrcoef(fees, slippages)[0, 1]) < 0.15
    other.reset(seed=299)
    assert rates(other) == drawn[-1]


def test_an_episode_pays_the_costs_it_has_drawn() -> None:
    varied = Randomisation(fee=(3.0, 3.0), slippage=(0.0, 0.0))
    env = make_env(randomisation=varied, participation=1.0, volatility_target=10.0)
    env.reset(options={"start": FIRST})
    opened = float(TABLE.values[FIRST + 1, 0])
    env.step(BUY)
    portfolio = env.session.trader.portfolio
    bought = portfolio.positions[BTC].quantity * np.ceil(np.round(opened * 100, 6)) / 100
    assert portfolio.fees == pytest.approx(0.003 * bought, rel=1e-12)


def test_what_does_not_vary_takes_nothing_from_the_generator() -> None:
    plain, fixed = make_env(), make_env(randomisation=Randomisation(fee=(1.0, 1.0), slippage=(2.0, 2.0)))
    starts = [[env.reset(seed=4)[1], *(env.reset()[1] for _ in range(5))] for env in (plain, fixed)]
    assert starts[0] == starts[1]


def fixed_delay(candles: int) -> TraderEnv:
    """Return an environment whose present episode has drawn this delay."""
    env = make_env(TABLE, randomisation=Randomisation(most_delay=candles), length=None)
    env.reset(seed=next(seed for seed in range(99) if drawn_delay(env, seed) == candles), options={"start": FIRST})
    return env


def drawn_delay(env: TraderEnv, seed: int) -> int:
    """Return the delay of an episode: the candles before the first vote counts."""
    env.reset(seed=seed, options={"start": FIRST})
    reasons = [env.step(BUY)[4]["reason"] for _ in range(6)]
    return reasons.count(VerdictReason.WARMING_UP.value)


def test_the_delay_is_drawn_from_nothing_to_the_most_and_differs_between_episodes() -> None:
    env = make_env(TABLE, randomisation=Randomisation(most_delay=3), length=None)
    delays = [drawn_delay(env, seed) for seed in range(80)]
    assert {delay: delays.count(delay) > 8 for delay in range(4)} == dict.fromkeys(range(4), True)
    assert len(delays) == sum(delays.count(delay) for delay in range(4))


@pytest.mark.parametrize("candles", [1, 3])
def test_a_delayed_policy_trades_as_one_that_says_the_same_so_many_candles_later(candles: int) -> None:
    delayed, prompt = fixed_delay(candles), make_env(TABLE, length=None)
    prompt.reset(options={"start": FIRST})
    actions = some_actions(40)
    late = [delayed.step(action)[4]["equity"] for action in actions]
    on_time = [prompt.step(action)[4]["equity"] for action in [HOLD] * candles + list(actions[: 40 - candles])]
    assert late == on_time
    assert len(set(late)) > 20


def test_votes_under_way_do_not_reach_the_next_episode() -> None:
    env = make_env(TABLE, randomisation=Randomisation(most_delay=3), length=None)
    env.reset(seed=0)
    for _ in range(10):
        env.step(BUY)
    for seed in range(20):
        env.reset(seed=seed, options={"start": FIRST})
        held = []
        for _ in range(8):
            env.step(HOLD)
            held.append(env.session.trader.portfolio.positions[BTC].quantity)
        assert held == [0.0] * 8


def test_a_stop_is_not_delayed() -> None:
    values = TABLE.values.copy()
    values[FIRST + 10 :, :4] *= 0.8  # 15 % below any stop
    env = make_env(changed(TABLE, values=values), randomisation=Randomisation(most_delay=24), length=None)
    seed = next(s for s in range(99) if env.reset(seed=s, options={"start": FIRST}) and env._delay == 4)
    env.reset(seed=seed, options={"start": FIRST})
    held = []
    for _ in range(11):
        env.step(BUY)
        held.append(env.session.trader.portfolio.positions[BTC].quantity)
    assert held[:4] == [0.0] * 4
    assert held[8] > 0.0
    assert held[9] == 0.0  # the candle that fell through the stop


# ---- decisions that do not fall on every candle -----------------------------------------------------------------
def test_a_step_goes_on_to_the_next_candle_that_a_decision_falls_on() -> None:
    env = make_env(TABLE, length=None, decide_every=24, decide_offset=6)
    env.reset(options={"start": FIRST})
    closes = []
    for action in some_actions(10):
        _, _, _, is_over, _ = env.step(action)
        closes.append(env.sight.candle.close_ms)
        assert not is_over
    assert {close // HOUR_MS % 24 for close in closes} == {6}
    assert np.diff(closes).tolist() == [24 * HOUR_MS] * 9


def test_a_step_over_many_candles_is_paid_for_all_of_them() -> None:
    env = make_env(TABLE, length=None, reward="log-return", decide_every=24, edge_multiple=0.0)
    env.reset(options={"start": FIRST})
    before, moved = env.session.trader.portfolio.equity, 0
    for action in some_actions(10):
        _, earned, _, _, info = env.step(action)
        assert earned == pytest.approx(100.0 * math.log(info["equity"] / before), rel=1e-9, abs=1e-12)
        moved += info["equity"] != before
        before = info["equity"]
    assert moved > 3


def test_what_is_said_on_a_first_candle_without_a_decision_is_not_acted_upon() -> None:
    env = make_env(TABLE, length=None, decide_every=24, edge_multiple=0.0)
    start = next(n for n in range(FIRST, FIRST + 48) if (int(TABLE.open_ms[n]) // HOUR_MS + 1) % 24 == 5)
    env.reset(options={"start": start})
    info = env.step(BUY)[4]
    assert (info["reason"], info["equity"]) == (VerdictReason.WARMING_UP.value, 10_000.0)
    assert env.step(BUY)[4]["reason"] == VerdictReason.VOTED.value


def test_a_delay_counts_decisions() -> None:
    env = make_env(TABLE, randomisation=Randomisation(most_delay=3), length=None, decide_every=12)
    delays = [drawn_delay(env, seed) for seed in range(30)]
    assert set(delays) <= {0, 1, 2, 3, 4}  # the first candle may have no decision
    assert len(set(delays)) > 2


def test_the_hour_of_decisions_is_drawn_for_each_episode_where_it_may_vary() -> None:
    env = make_env(TABLE, randomisation=Randomisation(offset=True), length=None, decide_every=4)
    hours = []
    for seed in range(60):
        env.reset(seed=seed, options={"start": FIRST})
        env.step(HOLD)
        hours.append(env.sight.candle.close_ms // HOUR_MS % 4)
    assert {hour: hours.count(hour) >= 5 for hour in range(4)} == dict.fromkeys(range(4), True)
    fixed = make_env(TABLE, length=None, decide_every=4)
    fixed.reset(seed=1, options={"start": FIRST})
    fixed.step(HOLD)
    assert fixed.sight.candle.close_ms // HOUR_MS % 4 == 0


def test_the_trend_component_is_the_distance_from_what_the_rule_would_hold() -> None:
    limits = {"max_position": 0.4, "volatility_target": 0.25, "edge_multiple": 0.0, "dead_band": 0.0}
    table = history(300, seed=1)  # in 160 hours the close lies above none to all of the means
    env = make_env(table, length=None, reward="trend", **limits)
    env.reset(options={"start": FIRST})
    closes, seen = table.values[:, 3], set()
    for action in some_actions(150, seed=3):
        at = int(np.searchsorted(table.open_ms, env.sight.candle.open_ms))
        exposure = env.session.trader.portfolio.exposure(BTC)
        above = [closes[at] > closes[at + 1 - n : at + 1].mean() for n in (240, 600, 1200, 2400)]
        returns = closes[at - 383 : at + 1] / closes[at - 384 : at] - 1.0
        hourly = max(np.sqrt(np.mean(returns[-96:] ** 2)), np.sqrt(np.mean(returns**2)))
        cap = min(0.4, 0.25 / (hourly * np.sqrt(8_760.0)))
        rule = {0: 0.0, 1: 0.0, 2: 0.0, 3: 0.5, 4: 1.0}[sum(above)] * cap
        direction, size, confidence = action.tolist()
        step = 0.4 * size * confidence
        wanted = exposure
        if direction > 0.3 and min(exposure + step, cap) > exposure:
            wanted = min(exposure + step, cap)
        elif direction < -0.3:
            wanted = max(exposure - step, 0.0)
        seen.add(sum(above))
        told = env.step(action)[4]["reward"]["trend"]
        assert told == pytest.approx(-10.0 * ((wanted - rule) / 0.4) ** 2, rel=1e-5, abs=1e-9)
    assert seen == {0, 1, 2, 3, 4}


# ---- options ----------------------------------------------------------------------------------------------------
def test_history_and_start_can_be_chosen() -> None:
    env = two_markets()
    _, info = env.reset(options={"history": 1, "start": FIRST + 42})
    assert info == {"symbol": ETH, "open_ms": int(TABLE.open_ms[FIRST + 42])}


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
    assert len(TABLE) == 2_700
    with pytest.raises(TrainingError, match=message):
        make_env().reset(options=options)


@pytest.mark.parametrize("table", [history(1), with_gap(history(5), FIRST - 10, 49)], ids=["short", "broken"])
def test_a_history_without_a_window_and_a_step_is_refused(table: CandleTable) -> None:
    with pytest.raises(TrainingError, match=rf"BTC/USDT: {len(table)} candles are too few .*: give more candles"):
        History(table, 48)


# ---- no look-ahead ----------------------------------------------------------------------------------------------
def first_difference(one: CandleTable, other: CandleTable) -> int:
    """Return the first step at which two tables show or pay something else under the same actions; 60 when none."""
    envs = [make_env(table, length=None) for table in (one, other)]
    shown = [env.reset(options={"start": FIRST})[0] for env in envs]
    for step, action in enumerate(some_actions(60)):
        if shown[0].tobytes() != shown[1].tobytes():
            return step
        results = [env.step(action) for env in envs]
        if results[0][1] != results[1][1]:
            return step + 1
        shown = [result[0] for result in results]
    return 60


@settings(max_examples=6, deadline=None)
@given(at=st.integers(0, 58), seed=st.integers(50, 60), factor=st.sampled_from([0.5, 1.0, 3.0]))
def test_what_comes_after_a_candle_changes_nothing_before_it(at: int, seed: int, factor: float) -> None:
    assert first_difference(TABLE, other_future(TABLE, FIRST + at, seed, factor)) == at + 1


def test_a_planted_feature_that_peeks_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def peeking(*arguments: Any) -> FeatureTable:
        honest = compute(*arguments)
        values = honest.values.copy()
        values[:-1, 3] = honest.values[1:, 3]
        return replace(honest, values=values)

    monkeypatch.setattr(history_module, "compute", peeking)
    assert first_difference(TABLE, other_future(TABLE, FIRST + 30, seed=51)) <= 30
