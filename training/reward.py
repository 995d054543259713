"""What the learner is paid for on each candle: named components, each a function of its own, and their weights.

A reward set is a choice of weights over the same components; `REWARDS` names the sets that can be compared. Every
function is plain arithmetic over floats and arrays, so that it runs compiled inside the environments.
"""

import math
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from strategy.parameters import RiskLimits
from training.compiled import compiled
from training.errors import TrainingError
from training.ranges import require

FloatArray = NDArray[np.float64]

COMPONENTS = (
    "excess_return",
    "risk_adjusted",
    "drawdown",
    "volatility",
    "diversity",
    "cost",
    "log_return",
    "differential_sharpe",
    "variance",
    "trend",
)
"""All components in the order of the arrays below; a set weighs those it does not use with 0."""

LONGEST_WINDOW = 64
_COUNT, _MEAN, _SQUARE, _RETURNS, _ACTIONS = 0, 1, 2, 3, 3 + LONGEST_WINDOW
STATE_SIZE = _ACTIONS + LONGEST_WINDOW
"""Length of the memory of one episode: steps so far, two running moments, the last returns, the last actions."""

_N = len(COMPONENTS)
# Where the numbers stand behind the weights in what `reward_parameters` returns.
_SCALE, _BENCHMARK, _FREE, _LIMIT, _CALM = range(_N, _N + 5)
_RETURN_WINDOW, _SPREAD_WINDOW, _ACTION_WINDOW, _RATE = range(_N + 5, _N + 9)
_LEAST_SPREAD = 1e-9
_STEEPEST = 10.0
_WORST_RETURN = -0.99


class ActionKind(IntEnum):
    """What a vote asks for, as a number."""

    HOLD = 0
    BUY = 1
    SELL = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardSettings:
    """Weights and windows of a reward set. The reward of a candle is the weighted sum of its components.

    The first ten fields are weights, see `COMPONENTS`. scale: multiplies returns and costs, which are shares of
    equity, so that they come near 1.  benchmark_exposure: the constant exposure, as a share of max_position, whose
    return is subtracted: at one half, always buying and never buying are paid alike, and only timing earns.
    drawdown_free: share of the peak that may be lost without a penalty; it grows from there as a square, to 1 at the
    drawdown limit.  volatility_free: annualised, as a share.  return_window, volatility_window, action_window: candles,
    2 .. 64.
    sharpe_rate: how fast the moments of the differential Sharpe ratio forget, per candle.
    """

    excess_return: float = 0.0
    risk_adjusted: float = 0.0
    drawdown: float = 0.0
    volatility: float = 0.0
    diversity: float = 0.0
    cost: float = 0.0
    log_return: float = 0.0
    differential_sharpe: float = 0.0
    variance: float = 0.0
    trend: float = 0.0
    scale: float = 100.0
    benchmark_exposure: float = 1.0
    drawdown_free: float = 0.05
    volatility_free: float = 0.30
    return_window: int = 10
    volatility_window: int = 10
    action_window: int = 10
    sharpe_rate: float = 0.01

    def __post_init__(self) -> None:
        for name in COMPONENTS:
            require(f"reward {name}", getattr(self, name), 0.0, _LARGEST_WEIGHT)
        for name, (low, high) in _RANGES.items():
            require(f"reward {name}", getattr(self, name), low, high)
        if not any(getattr(self, name) for name in COMPONENTS):
            raise TrainingError(f"every weight of the reward is 0: give one of {', '.join(COMPONENTS)}")


_LARGEST_WEIGHT = 1_000.0
_RANGES = {
    "scale": (1e-6, 1e6),
    "benchmark_exposure": (0.0, 1.0),
    "drawdown_free": (0.0, 0.99),
    "volatility_free": (0.001, 100.0),
    "return_window": (2, LONGEST_WINDOW),
    "volatility_window": (2, LONGEST_WINDOW),
    "action_window": (2, LONGEST_WINDOW),
    "sharpe_rate": (1e-6, 1.0),
}

REWARDS: dict[str, RewardSettings] = {
    "guide": RewardSettings(
        excess_return=0.40, risk_adjusted=0.25, drawdown=0.15, volatility=0.10, diversity=0.05, cost=0.05
    ),
    "timing": RewardSettings(excess_return=1.0, drawdown=0.02, scale=200.0, benchmark_exposure=0.5),
    "log-return": RewardSettings(log_return=1.0),
    "differential-sharpe": RewardSettings(differential_sharpe=1.0),
    "trend": RewardSettings(log_return=1.0, variance=0.2, trend=10.0),
}
"""Reward sets by name. guide: the weights of the guide this project implements.  timing: what a policy earns beyond
holding half.  log-return, differential-sharpe: logarithmic return, and Moody and Saffell's differential Sharpe ratio.
trend: what the shipped ensemble learned from: logarithmic return less its risk, near the rule of trend following.

What pays, per 1,000 steps on hourly random walks of 0.5 % an hour that rise, fall (by 0.05 % an hour) or go nowhere:

              doing nothing      always buying      voting SELL and HOLD by turns, holding nothing
    guide     -10  +10    0      +25  -26   0       +21  +42  +32
    timing    -25  +25    0      +24  -25  -1       -25  +25    0

Three things to know of `guide`: votes that nothing follows are paid for their diversity, as much as the drift above
earns; the smallest position is paid for its risk like the largest, because mean over spread has no size; and doing
nothing earns what the market loses, so a falling history teaches to stay out. `timing` has none of the first two.
"""


def reward_named(name: str) -> RewardSettings:
    """Return a reward set. Raises TrainingError for an unknown name."""
    if name not in REWARDS:
        raise TrainingError(f"reward {name!r} is not known: give one of {', '.join(REWARDS)}")
    return REWARDS[name]


def reward_parameters(settings: RewardSettings, limits: RiskLimits, candles_per_year: float) -> FloatArray:
    """Return what `reward` reads besides the step: the weights, then nine numbers, float64. Raises TrainingError."""
    if settings.drawdown and settings.drawdown_free >= limits.max_drawdown:
        raise TrainingError(
            f"reward drawdown_free {settings.drawdown_free} is not below the drawdown limit {limits.max_drawdown}: "
            "the penalty could never begin"
        )
    numbers = (
        settings.scale,
        settings.benchmark_exposure * limits.max_position,
        settings.drawdown_free,
        limits.max_drawdown,
        settings.volatility_free / math.sqrt(candles_per_year),
        settings.return_window,
        settings.volatility_window,
        settings.action_window,
        settings.sharpe_rate,
    )
    return np.array([*(getattr(settings, name) for name in COMPONENTS), *numbers], np.float64)


@compiled
def excess_return(equity_return: float, asset_return: float, benchmark_exposure: float) -> float:
    """Return the account's return after costs less that of a constant `benchmark_exposure` in the asset."""
    return equity_return - benchmark_exposure * asset_return


@compiled
def risk_adjusted(returns: FloatArray, steps: int, window: int) -> float:
    """Return tanh of mean over standard deviation of the last `window` returns; 0 before there are two, or no spread.

    returns: a ring of LONGEST_WINDOW, of which `steps` were written so far.
    """
    mean, spread = _moments(returns, steps, window)
    return math.tanh(mean / spread) if spread > _LEAST_SPREAD else 0.0


@compiled
def drawdown_penalty(drawdown: float, free: float, limit: float) -> float:
    """Return 0 up to `free`, then a square that reaches 1 at `limit` and goes on beyond it."""
    excess = max(0.0, drawdown - free) / (limit - free)
    return excess * excess


@compiled
def volatility_penalty(returns: FloatArray, steps: int, window: int, free: float) -> float:
    """Return by how much the standard deviation of the last returns exceeds `free` (per candle), in multiples of it."""
    _, spread = _moments(returns, steps, window)
    return max(0.0, spread / free - 1.0)


@compiled
def action_diversity(actions: FloatArray, steps: int, window: int) -> float:
    """Return the entropy of what the last votes asked for: 0 always the same, 1 all three equally often."""
    seen = min(steps, window)
    if seen == 0:
        return 0.0
    counts = np.zeros(3)
    for back in range(seen):
        counts[int(actions[(steps - 1 - back) % LONGEST_WINDOW])] += 1.0
    entropy = 0.0
    for kind in range(3):
        share = counts[kind] / seen
        if share > 0.0:
            entropy -= share * math.log(share)
    return entropy / math.log(3.0)


@compiled
def log_return(equity_return: float) -> float:
    """Return the logarithm of the growth of equity; a loss of 99 % and more counts as one of 99 %."""
    return math.log1p(max(equity_return, _WORST_RETURN))


@compiled
def differential_sharpe(state: FloatArray, equity_return: float, rate: float) -> float:
    """Return how one more return changes the running Sharpe ratio, within +-10, and take it into the moments.

    0 while the moments have no spread.  Source: Moody and Saffell (1998), "Performance functions and reinforcement
    learning for trading systems and portfolios", J. Forecasting 17, with the factor `rate` left out.
    """
    mean, square = state[_MEAN], state[_SQUARE]
    spread = math.sqrt(max(0.0, square - mean * mean))
    change = 0.0
    if spread > _LEAST_SPREAD:
        rise = square * (equity_return - mean) - 0.5 * mean * (equity_return * equity_return - square)
        change = min(max(rise / (spread * spread * spread), -_STEEPEST), _STEEPEST)
    state[_MEAN] = mean + rate * (equity_return - mean)
    state[_SQUARE] = square + rate * (equity_return * equity_return - square)
    return change


@compiled
def variance_penalty(equity_return: float, scale: float) -> float:
    """Return the square of the scaled return: what risk costs whose preference falls with its square."""
    return (scale * equity_return) * (scale * equity_return)


@compiled
def trend_penalty(astray: float) -> float:
    """Return the square of how far the wanted exposure lies from the trend rule's, as a share of max_position."""
    return astray * astray


@compiled
def reward(  # noqa: C901, PLR0917 - a line per component; compiled code takes its arguments by position
    parameters: FloatArray,
    state: FloatArray,
    equity_return: float,
    asset_return: float,
    drawdown: float,
    cost: float,
    action: int,
    astray: float,
    out: FloatArray,
) -> float:
    """Return the reward of one step, with its weighted components in `out`, (len(COMPONENTS),) float64.

    parameters: of `reward_parameters`.  state: (STATE_SIZE,) float64, all 0 when an episode begins; it is changed.
    equity_return: of the account, after costs.  asset_return: of the symbol.  drawdown: of the account now, >= 0.
    cost: fees and slippage since the last step at the cost model's rates, as a share of the equity then.
    action: an ActionKind as a plain int.  astray: by how much the exposure that was wanted exceeds the trend rule's, as
    a share of max_position; see `training.trend`.
    """
    scale, spreads = parameters[_SCALE], int(parameters[_SPREAD_WINDOW])
    steps = int(state[_COUNT])
    returns, actions = state[_RETURNS:_ACTIONS], state[_ACTIONS:]
    returns[steps % LONGEST_WINDOW] = equity_return
    actions[steps % LONGEST_WINDOW] = action
    steps += 1
    state[_COUNT] = steps
    for index in range(_N):
        out[index] = 0.0
    if parameters[0] != 0.0:
        out[0] = parameters[0] * scale * excess_return(equity_return, asset_return, parameters[_BENCHMARK])
    if parameters[1] != 0.0:
        out[1] = parameters[1] * risk_adjusted(returns, steps, int(parameters[_RETURN_WINDOW]))
    if parameters[2] != 0.0:
        out[2] = -parameters[2] * drawdown_penalty(drawdown, parameters[_FREE], parameters[_LIMIT])
    if parameters[3] != 0.0:
        out[3] = -parameters[3] * volatility_penalty(returns, steps, spreads, parameters[_CALM])
    if parameters[4] != 0.0:
        out[4] = parameters[4] * action_diversity(actions, steps, int(parameters[_ACTION_WINDOW]))
    if parameters[5] != 0.0:
        out[5] = -parameters[5] * scale * cost
    if parameters[6] != 0.0:
        out[6] = parameters[6] * scale * log_return(equity_return)
    if parameters[7] != 0.0:
        out[7] = parameters[7] * differential_sharpe(state, equity_return, parameters[_RATE])
    if parameters[8] != 0.0:
        out[8] = -parameters[8] * variance_penalty(equity_return, scale)
    if parameters[9] != 0.0:
        out[9] = -parameters[9] * trend_penalty(astray)
    total = 0.0
    for index in range(_N):
        total += out[index]
    return total


@compiled
def _moments(returns: FloatArray, steps: int, window: int) -> tuple[float, float]:
    """Return mean and standard deviation (over n) of the last `window` returns; 0 and 0 of fewer than two."""
    seen = min(steps, window)
    if seen < 2:  # noqa: PLR2004 - one return has no spread
        return 0.0, 0.0
    total = 0.0
    for back in range(seen):
        total += returns[(steps - 1 - back) % LONGEST_WINDOW]
    mean = total / seen
    squares = 0.0
    for back in range(seen):
        deviation = returns[(steps - 1 - back) % LONGEST_WINDOW] - mean
        squares += deviation * deviation
    return mean, math.sqrt(squares / seen)
