import itertools
import math
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from decimal import Decimal, localcontext
from fractions import Fraction
from types import FunctionType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategy.parameters import RiskLimits
from training import reward as module
from training.errors import TrainingError
from training.reward import (
    COMPONENTS,
    LONGEST_WINDOW,
    REWARDS,
    STATE_SIZE,
    ActionKind,
    RewardSettings,
    action_diversity,
    differential_sharpe,
    drawdown_penalty,
    excess_return,
    log_return,
    reward,
    reward_named,
    reward_parameters,
    risk_adjusted,
    trend_penalty,
    variance_penalty,
    volatility_penalty,
)

LIMITS = RiskLimits(max_position=0.5, max_drawdown=0.15)
PER_YEAR = 8_760.0
HOLD, BUY, SELL = int(ActionKind.HOLD), int(ActionKind.BUY), int(ActionKind.SELL)
Step = tuple[float, float, float, float, int, float]
"""Equity return, asset return, drawdown, cost, action, how far astray of the trend rule."""


def only(name: str, **changes: Any) -> RewardSettings:
    """Return a set of one component with weight 1."""
    return RewardSettings(**({name: 1.0} | changes))


def paid(chosen: RewardSettings, steps: Sequence[Step], function: Any = reward) -> tuple[list[float], np.ndarray]:
    """Return the rewards and the components, (n, len(COMPONENTS)), of an episode."""
    parameters, state = reward_parameters(chosen, LIMITS, PER_YEAR), np.zeros(STATE_SIZE)
    out, totals, parts = np.full(len(COMPONENTS), np.nan), [], []
    for step in steps:
        totals.append(function(parameters, state, *step, out))
        parts.append(out.copy())
    return totals, np.array(parts)


def on_returns(chosen: RewardSettings, returns: Sequence[float]) -> list[float]:
    """Return the rewards of an episode in which only the account's return differs."""
    return paid(chosen, [(r, 0.0, 0.0, 0.0, HOLD, 0.0) for r in returns])[0]


def ring(values: Sequence[float]) -> np.ndarray:
    """Return a ring as it stands after `values` were written one after another."""
    written = np.zeros(LONGEST_WINDOW)
    for index, value in enumerate(values):
        written[index % LONGEST_WINDOW] = value
    return written


RETURNS = np.random.default_rng(7).standard_t(3, 200) * 0.004
"""More than three rounds of the ring."""


# ---- the sets ---------------------------------------------------------------------------------------------------
def test_the_guides_weights_and_windows_are_those_of_the_guide() -> None:
    guide = REWARDS["guide"]
    weights = {name: getattr(guide, name) for name in COMPONENTS if getattr(guide, name)}
    assert weights == {
        "excess_return": 0.40,
        "risk_adjusted": 0.25,
        "drawdown": 0.15,
        "volatility": 0.10,
        "diversity": 0.05,
        "cost": 0.05,
    }
    assert sum(Fraction(str(weight)) for weight in weights.values()) == 1
    assert (guide.return_window, guide.volatility_window, guide.action_window) == (10, 10, 10)
    assert (guide.drawdown_free, guide.volatility_free) == (0.05, 0.30)


def test_other_sets_are_known_by_name_and_an_unknown_one_is_refused() -> None:
    assert reward_named("log-return") == only("log_return")
    assert reward_named("differential-sharpe") == only("differential_sharpe")
    timing = reward_named("timing")
    assert (timing.excess_return, timing.benchmark_exposure, timing.drawdown, timing.scale) == (1.0, 0.5, 0.02, 200.0)
    with pytest.raises(TrainingError, match=r"reward 'sharp' is not known: give one of guide, timing, log-return, "):
        reward_named("sharp")


def test_every_component_is_a_weight_of_the_settings() -> None:
    assert tuple(field.name for field in fields(RewardSettings))[: len(COMPONENTS)] == COMPONENTS


# ---- each component, from a second source -----------------------------------------------------------------------
@pytest.mark.parametrize(
    ("equity", "asset", "benchmark", "expected"), [(0.01, 0.02, 0.25, 0.005), (0.01, -0.02, 0.25, 0.015), (0, 4, 0, 0)]
)
def test_excess_return_is_the_accounts_return_less_that_of_the_benchmark(
    equity: float, asset: float, benchmark: float, expected: float
) -> None:
    assert excess_return(float(equity), float(asset), float(benchmark)) == pytest.approx(expected)


def test_the_benchmark_is_a_share_of_the_largest_position() -> None:
    # 0.4 * 100 * (0.01 - 1.0 * 0.5 * 0.02) = 0; with a benchmark of nothing 0.4 * 100 * 0.01
    step = (0.01, 0.02, 0.0, 0.0, HOLD, 0.0)
    chosen = only("excess_return", excess_return=0.4)
    assert paid(chosen, [step])[0] == [pytest.approx(0.0, abs=1e-15)]
    assert paid(replace(chosen, benchmark_exposure=0.0), [step])[0] == [pytest.approx(0.4)]


def test_risk_adjusted_is_tanh_of_mean_over_spread_of_the_last_ten_returns() -> None:
    rolling = pd.Series(RETURNS).rolling(10, min_periods=2)
    expected = np.tanh(rolling.mean() / rolling.std(ddof=0)).fillna(0.0)
    assert on_returns(only("risk_adjusted"), RETURNS) == pytest.approx(expected.tolist(), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("window", [2, 3, 63, 64])
def test_risk_adjusted_keeps_to_its_window_when_the_ring_starts_over(window: int) -> None:
    got = on_returns(only("risk_adjusted", return_window=window), RETURNS)
    for step in (1, 62, 63, 64, 65, 127, 128, 129, 199):
        last = RETURNS[max(0, step + 1 - window) : step + 1].tolist()
        expected = math.tanh(statistics.fmean(last) / statistics.pstdev(last))
        assert got[step] == pytest.approx(expected, rel=1e-9)


def test_risk_adjusted_of_three_returns_by_hand() -> None:
    # mean 2 %, variance (1 + 0 + 1) / 3 of a per cent squared: tanh(2 / sqrt(2 / 3)) = tanh(2.449490)
    # = (e ** 4.898979 - 1) / (e ** 4.898979 + 1) = 133.152 / 135.152
    assert risk_adjusted(ring([0.01, 0.02, 0.03]), 3, 10) == pytest.approx(133.152 / 135.152, abs=1e-6)


@pytest.mark.parametrize("returns", [[], [0.02], [0.0] * 12, [0.01] * 12], ids=["none", "one", "flat", "even"])
def test_without_spread_nothing_is_paid_for_risk(returns: list[float]) -> None:
    assert risk_adjusted(ring(returns), len(returns), 10) == 0.0
    assert volatility_penalty(ring(returns), len(returns), 10, 0.003) == 0.0


@pytest.mark.parametrize(
    ("drawdown", "penalty"),
    [(0.0, 0.0), (0.05, 0.0), (0.075, 0.0625), (0.10, 0.25), (0.15, 1.0), (0.20, 2.25)],
)
def test_the_drawdown_penalty_is_a_square_that_begins_at_five_per_cent_and_is_one_at_the_limit(
    drawdown: float, penalty: float
) -> None:
    assert drawdown_penalty(drawdown, 0.05, 0.15) == pytest.approx(penalty)
    (total,), _ = paid(only("drawdown", drawdown=0.15), [(0.0, 0.0, drawdown, 0.0, HOLD, 0.0)])
    assert total == pytest.approx(-0.15 * penalty)


def test_the_volatility_penalty_counts_what_goes_beyond_thirty_per_cent_annualised() -> None:
    spread = pd.Series(RETURNS).rolling(10, min_periods=2).std(ddof=0) * math.sqrt(PER_YEAR)
    expected = (spread / 0.30 - 1.0).clip(lower=0.0).fillna(0.0)
    got = on_returns(only("volatility"), RETURNS)
    assert got == pytest.approx((-expected).tolist(), rel=1e-9, abs=1e-12)
    assert min(got) < 0.0 == max(got)


def test_the_volatility_penalty_by_hand() -> None:
    # plus and minus 1 % by turns: a spread of 1 % an hour is sqrt(8,760) % = 93.59 % a year, 2.1198 times 30 % too much
    returns = [0.01, -0.01] * 5
    assert on_returns(only("volatility"), returns)[-1] == pytest.approx(-2.119829, abs=1e-6)
    # at 0.3 % an hour, 28.08 % a year, nothing
    assert on_returns(only("volatility"), [0.3 * r for r in returns]) == [0.0] * 10


@pytest.mark.parametrize(
    ("actions", "entropy"),
    [
        ([BUY] * 10, 0.0),
        ([BUY], 0.0),
        ([BUY, SELL], 0.6309298),  # log 2 / log 3
        ([HOLD, BUY, SELL], 1.0),
        ([HOLD] * 5 + [BUY] * 3 + [SELL] * 2, 0.9372306),  # (0.346574 + 0.361192 + 0.321888) / 1.098612
        ([SELL] * 50 + [BUY] * 5 + [HOLD] * 5, 0.6309298),  # what lies more than ten back is forgotten
        ([BUY] * 70 + [SELL] * 5, 0.6309298),
    ],
)
def test_action_diversity_is_the_entropy_of_the_last_ten_actions(actions: list[int], entropy: float) -> None:
    assert action_diversity(ring(actions), len(actions), 10) == pytest.approx(entropy, abs=1e-7)
    totals, _ = paid(only("diversity"), [(0.0, 0.0, 0.0, 0.0, action, 0.0) for action in actions])
    assert totals[-1] == pytest.approx(entropy, abs=1e-7)


def test_costs_are_charged_as_a_share_of_equity_times_the_scale() -> None:
    # half the account at 0.15 %: 0.075 % of equity; 0.05 * 100 * 0.00075
    (total,), parts = paid(REWARDS["guide"], [(0.0, 0.0, 0.0, 0.00075, HOLD, 0.0)])
    assert parts[0, COMPONENTS.index("cost")] == total == pytest.approx(-0.00375)


@pytest.mark.parametrize(
    ("equity_return", "expected"), [(0.01, 0.00995033), (-0.5, -0.69314718), (-0.995, -4.60517019), (-1.0, -4.60517019)]
)
def test_log_return_is_the_logarithm_of_the_growth_and_a_total_loss_stays_finite(
    equity_return: float, expected: float
) -> None:
    assert log_return(equity_return) == pytest.approx(expected, abs=1e-8)


def test_log_returns_add_up_to_the_logarithm_of_the_growth() -> None:
    growth = math.log(float(np.prod(1.0 + RETURNS)))
    assert sum(on_returns(reward_named("log-return"), RETURNS)) == pytest.approx(100.0 * growth, rel=1e-9)


def sharpe_slope(mean: float, square: float, value: float) -> float:
    """Return dS/d(rate) at rate 0 of the running Sharpe ratio S = A / sqrt(B - A^2), by differences of 60 digits."""
    with localcontext() as context:
        context.prec = 60
        a, b, r, step = Decimal(mean), Decimal(square), Decimal(value), Decimal("1e-25")

        def ratio(rate: Decimal) -> Decimal:
            moved, squared = a + rate * (r - a), b + rate * (r * r - b)
            return moved / (squared - moved * moved).sqrt()

        return float((ratio(step) - ratio(-step)) / (2 * step))


@pytest.mark.parametrize("rate", [0.01, 0.2])
def test_the_differential_sharpe_ratio_is_the_slope_of_the_running_sharpe_ratio(rate: float) -> None:
    """Moody and Saffell define it as the first-order term of S(rate) at 0; pandas keeps the running moments."""
    begun = pd.Series([0.0, *RETURNS])
    means = begun.ewm(alpha=rate, adjust=False).mean()
    squares = (begun * begun).ewm(alpha=rate, adjust=False).mean()
    got = on_returns(only("differential_sharpe", sharpe_rate=rate), RETURNS)
    assert got[0] == 0.0
    for step in range(1, len(RETURNS)):
        slope = sharpe_slope(means[step], squares[step], RETURNS[step])
        assert got[step] == pytest.approx(min(max(slope, -10.0), 10.0), rel=1e-6, abs=1e-9)
    assert sum(abs(value) < 10.0 for value in got) > 150


def test_the_differential_sharpe_ratio_is_bounded_and_begins_after_the_first_spread() -> None:
    state = np.zeros(STATE_SIZE)
    assert [differential_sharpe(state, 0.0, 0.01) for _ in range(5)] == [0.0] * 5
    assert differential_sharpe(state, 0.001, 0.01) == 0.0
    assert differential_sharpe(state, -0.5, 0.01) == -10.0
    again = np.zeros(STATE_SIZE)
    differential_sharpe(again, -0.001, 0.01)
    assert differential_sharpe(again, 0.0001, 0.01) > 0.0


def test_variance_is_the_square_of_the_scaled_return_and_weighs_up_and_down_alike() -> None:
    got = on_returns(only("variance", variance=0.2, scale=100.0), [0.03, -0.03, 0.0])
    assert got == pytest.approx([-1.8, -1.8, 0.0])  # 0.2 * 3 * 3
    assert variance_penalty(0.5, 2.0) == 1.0


def test_log_return_less_half_the_variance_is_the_growth_of_an_investor_who_minds_risk_twice() -> None:
    # With weights 1 and a/2 on unscaled returns the sum approaches the mean less (1 + a)/2 times the variance.
    returns = np.array([0.001, -0.0012, 0.0008, 0.0001])
    got = on_returns(RewardSettings(log_return=1.0, variance=0.5, scale=1.0), returns.tolist())
    assert np.mean(got) == pytest.approx(np.mean(returns) - np.mean(returns**2), rel=1e-3)


@pytest.mark.parametrize(("astray", "expected"), [(0.0, 0.0), (0.5, -1.25), (-0.5, -1.25), (1.0, -5.0), (-0.1, -0.05)])
def test_trend_costs_the_square_of_the_distance_from_the_rule_on_either_side(astray: float, expected: float) -> None:
    total, parts = paid(only("trend", trend=5.0), [(0.02, 0.01, 0.0, 0.0, BUY, astray)])
    assert total == [pytest.approx(expected)]
    assert parts[0, COMPONENTS.index("trend")] == total[0]
    assert trend_penalty(astray) == astray**2


def test_the_trend_sets_weights_are_these() -> None:
    assert reward_named("trend") == RewardSettings(log_return=1.0, variance=0.2, trend=10.0, scale=100.0)


# ---- the sum ----------------------------------------------------------------------------------------------------
FLOATS = st.floats(-0.2, 0.2, allow_subnormal=False)
STEPS = st.lists(
    st.tuples(
        FLOATS,
        FLOATS,
        st.floats(0.0, 0.5),
        st.floats(0.0, 0.01),
        st.sampled_from([HOLD, BUY, SELL]),
        st.floats(-1.0, 1.0, allow_subnormal=False),
    ),
    min_size=1,
    max_size=150,
)
WEIGHTS = st.tuples(*[st.sampled_from([0.0, 0.05, 0.4, 1.0, 7.5])] * len(COMPONENTS)).filter(any)


def weighing(weights: Sequence[float], **changes: Any) -> RewardSettings:
    return RewardSettings(**(dict(zip(COMPONENTS, weights, strict=True)) | changes))


ALL = weighing([1.0] * len(COMPONENTS), scale=1.0)


def test_a_step_of_the_guides_reward_by_hand() -> None:
    steps = [(0.01, 0.02, 0.0, 0.0, BUY, 0.3), (-0.01, 0.0, 0.10, 0.001, SELL, -0.2)]
    totals, parts = paid(REWARDS["guide"], steps)
    # volatility: spread 1 % an hour, 2.119829 beyond; risk: mean 0; diversity: log 2 / log 3
    assert dict(zip(COMPONENTS, parts[1].tolist(), strict=True)) == {
        "excess_return": pytest.approx(0.4 * 100 * -0.01),
        "risk_adjusted": pytest.approx(0.0),
        "drawdown": pytest.approx(-0.15 * 0.25),
        "volatility": pytest.approx(-0.1 * 2.119829, abs=1e-6),
        "diversity": pytest.approx(0.05 * 0.6309298, abs=1e-8),
        "cost": pytest.approx(-0.05 * 100 * 0.001),
        "log_return": 0.0,
        "differential_sharpe": 0.0,
        "variance": 0.0,
        "trend": 0.0,
    }
    assert totals == [pytest.approx(0.0), pytest.approx(-0.4 - 0.0375 - 0.2119829 + 0.0315465 - 0.005, abs=1e-6)]


@settings(max_examples=60, deadline=None)
@given(weights=WEIGHTS, steps=STEPS)
def test_the_reward_is_the_sum_of_its_components_and_each_is_its_weight_times_its_value(
    weights: tuple[float, ...], steps: list[Step]
) -> None:
    totals, parts = paid(weighing(weights, scale=1.0), steps)
    _, unweighted = paid(ALL, steps)
    assert totals == [sum(row) for row in parts.tolist()]
    np.testing.assert_allclose(parts, unweighted * np.array(weights), rtol=1e-12, atol=0.0)


@settings(max_examples=30, deadline=None)
@given(steps=STEPS, scale=st.sampled_from([0.5, 2.0, 128.0]))
def test_the_scale_multiplies_returns_and_costs_and_nothing_else(steps: list[Step], scale: float) -> None:
    scaled, plain = paid(replace(ALL, scale=scale), steps)[1], paid(ALL, steps)[1]
    factors = [scale if name in {"excess_return", "cost", "log_return"} else 1.0 for name in COMPONENTS]
    factors[COMPONENTS.index("variance")] = scale * scale
    assert np.array_equal(scaled, plain * np.array(factors))  # powers of two: exact, but for the sign of a zero


@settings(max_examples=60, deadline=None)
@given(steps=STEPS)
def test_components_stay_within_their_bounds(steps: list[Step]) -> None:
    _, parts = paid(ALL, steps)
    column = dict(zip(COMPONENTS, parts.T, strict=True))
    assert np.isfinite(parts).all()
    assert (np.abs(column["risk_adjusted"]) <= 1.0).all()
    assert (column["drawdown"] <= 0.0).all()
    assert (column["volatility"] <= 0.0).all()
    assert ((column["diversity"] >= 0.0) & (column["diversity"] <= 1.0 + 1e-12)).all()
    assert (column["cost"] <= 0.0).all()
    assert (np.abs(column["differential_sharpe"]) <= 10.0).all()
    assert (column["variance"] <= 0.0).all()
    assert ((column["trend"] <= 0.0) & (column["trend"] >= -1.0)).all()


@given(drawdowns=st.lists(st.floats(0.0, 1.0), min_size=2, max_size=2), free=st.floats(0.0, 0.14))
def test_a_deeper_drawdown_is_never_cheaper(drawdowns: list[float], free: float) -> None:
    low, high = sorted(drawdowns)
    assert drawdown_penalty(low, free, 0.15) <= drawdown_penalty(high, free, 0.15)


@settings(deadline=None)
@given(returns=st.lists(FLOATS, min_size=2, max_size=10), factor=st.floats(1.0, 20.0))
def test_wilder_returns_are_never_cheaper(returns: list[float], factor: float) -> None:
    calm = volatility_penalty(ring(returns), len(returns), 10, 0.003)
    wild = volatility_penalty(ring([factor * value for value in returns]), len(returns), 10, 0.003)
    assert wild >= calm * (1.0 - 1e-9)


@given(actions=st.lists(st.sampled_from([HOLD, BUY, SELL]), min_size=1, max_size=150), window=st.integers(2, 64))
def test_diversity_knows_neither_order_nor_names_and_forgets(actions: list[int], window: int) -> None:
    last = actions[-window:]
    got = action_diversity(ring(actions), len(actions), window)
    # Counter counts, and the entropy is written as log n less the mean logarithm of the counts
    counts = Counter(last).values()
    entropy = math.log(len(last)) - sum(count * math.log(count) for count in counts) / len(last)
    assert got == pytest.approx(entropy / math.log(3.0), abs=1e-12)
    renamed = [(action + 1) % 3 for action in reversed(last)]
    assert action_diversity(ring(renamed), len(renamed), window) == pytest.approx(got, abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(before=STEPS, steps=STEPS)
def test_an_episode_remembers_nothing_of_the_one_before(before: list[Step], steps: list[Step]) -> None:
    parameters, state, out = reward_parameters(ALL, LIMITS, PER_YEAR), np.zeros(STATE_SIZE), np.zeros(len(COMPONENTS))
    for step in before:
        reward(parameters, state, *step, out)
    state[:] = 0.0
    assert [reward(parameters, state, *step, out) for step in steps] == paid(ALL, steps)[0]


def test_what_lies_outside_the_windows_does_not_count() -> None:
    turns = zip(RETURNS[:10], itertools.cycle([BUY, SELL]), strict=False)
    tail = [(r, 0.0, 0.0, 0.0, action, 0.0) for r, action in turns]
    calm = [(0.0, 0.0, 0.0, 0.0, HOLD, 0.0)] * 80
    wild = [(0.1 * (-1) ** i, 0.0, 0.0, 0.0, i % 3, 0.0) for i in range(80)]
    ends = [paid(REWARDS["guide"], before + tail)[1][-1] for before in (calm, wild)]
    assert ends[0].tobytes() == ends[1].tobytes()


def test_doing_nothing_on_a_flat_market_is_paid_nothing_by_any_set() -> None:
    for chosen in REWARDS.values():
        assert paid(chosen, [(0.0, 0.0, 0.0, 0.0, HOLD, 0.0)] * 100)[0] == [0.0] * 100


# ---- compiled and plain -----------------------------------------------------------------------------------------
def as_plain_python() -> Callable[..., float]:
    """Return `reward` with everything below it uncompiled."""
    world = dict(vars(module))
    for name, value in vars(module).items():
        if hasattr(value, "py_func"):
            world[name] = FunctionType(value.py_func.__code__, world, name)
    return world["reward"]


def test_the_plain_form_is_python_all_the_way_down() -> None:
    world = as_plain_python().__globals__
    assert [name for name, value in world.items() if hasattr(value, "py_func")] == []
    assert isinstance(world["_moments"], FunctionType)


@settings(max_examples=60, deadline=None)
@given(
    steps=STEPS,
    weights=WEIGHTS,
    windows=st.tuples(*[st.integers(2, LONGEST_WINDOW)] * 3),
    rate=st.floats(1e-4, 1.0),
)
def test_compiled_and_plain_form_give_the_same_bits(
    steps: list[Step], weights: tuple[float, ...], windows: tuple[int, int, int], rate: float
) -> None:
    names = ("return_window", "volatility_window", "action_window")
    chosen = weighing(weights, sharpe_rate=rate, **dict(zip(names, windows, strict=True)))
    totals, parts = paid(chosen, steps)
    plain_totals, plain_parts = paid(chosen, steps, as_plain_python())
    assert np.array(totals).tobytes() == np.array(plain_totals).tobytes()
    assert parts.tobytes() == plain_parts.tobytes()


# ---- what is refused --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cost": -0.1}, r"reward cost -0\.1: give a number within 0\.0 \.\. 1000\.0"),
        ({"excess_return": math.nan}, r"reward excess_return nan: give a number"),
        ({"drawdown": math.inf}, r"reward drawdown inf: give a number"),
        ({"drawdown": True}, r"reward drawdown True: give a number"),
        ({"cost": "much"}, r"reward cost 'much': give a number"),
        ({"scale": 0.0}, r"reward scale 0\.0: give a number within 1e-06"),
        ({"benchmark_exposure": 1.1}, r"reward benchmark_exposure 1\.1: give a number within 0\.0 \.\. 1\.0"),
        ({"return_window": 1}, r"reward return_window 1: give a whole number within 2 \.\. 64"),
        ({"volatility_window": 65}, r"reward volatility_window 65: give a whole number within 2 \.\. 64"),
        ({"action_window": 10.5}, r"reward action_window 10\.5: give a whole number within 2 \.\. 64"),
        ({"sharpe_rate": 0.0}, r"reward sharpe_rate 0\.0: give a number"),
        ({"volatility_free": 0.0}, r"reward volatility_free 0\.0: give a number"),
        ({"drawdown_free": 1.0}, r"reward drawdown_free 1\.0: give a number"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_impossible_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        replace(REWARDS["guide"], **changes)


def test_a_set_that_pays_for_nothing_is_refused() -> None:
    with pytest.raises(TrainingError, match="every weight of the reward is 0: give one of excess_return, "):
        RewardSettings()


def test_a_drawdown_penalty_that_could_never_begin_is_refused() -> None:
    limits = RiskLimits(max_drawdown=0.05)
    with pytest.raises(TrainingError, match=r"drawdown_free 0\.05 is not below the drawdown limit 0\.05"):
        reward_parameters(REWARDS["guide"], limits, PER_YEAR)
    reward_parameters(REWARDS["log-return"], limits, PER_YEAR)  # does not ask for it
