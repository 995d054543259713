"""Two environments side by side: the trader's own objects and the compiled form, compared in every bit they hold."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strategy.candle import Timeframe
from strategy.candle_table import CandleTable
from strategy.instrument import Instrument
from strategy.order import Side
from strategy.parameters import CostModel, RiskLimits, StrategyParameters
from strategy.trader import Setup
from tests.fakes.trading import BTC, HOUR_MS
from tests.training.markets import FIRST
from training.env import TradingEnv
from training.kernel_records import REASONS, STATES
from training.trader_env import TraderEnv, Transition

Actions = Iterable[NDArray[np.float32]]


class Twins:
    """A `TraderEnv` and a `TradingEnv` made of the same arguments, led through the same episodes.

    seen: verdict reasons of every candle, and what refused buying.  states: of the account.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self.definition = TraderEnv(*arguments, **named)
        self.compiled = TradingEnv(*arguments, **named)
        self._last: list[Transition] = []
        advance = self.definition.advance

        def noted(*votes: Any) -> Transition:
            transition = advance(*votes)
            self._last.append(Transition(list(transition.outcomes), list(transition.reports)))
            return transition

        self.definition.advance = noted  # type: ignore[method-assign]
        self.seen: set[str] = set()
        self.states: set[str] = set()
        self.fills = 0
        self.steps = 0

    def episode(self, actions: Actions, **reset: Any) -> None:
        """Run an episode until it ends, is ruined or the actions do; fail on the first bit that differs."""
        self._last.clear()
        observation, info = self.definition.reset(**reset)
        other, other_info = self.compiled.reset(**reset)
        assert info == other_info
        assert observation.tobytes() == other.tobytes()
        self._compare("at reset")
        for step, action in enumerate(actions):
            self._last.clear()
            ours, theirs = self.definition.step(action), self.compiled.step(action)
            where = f"step {step}, candle {self.definition.sight.candle.open_ms}, action {action.tolist()}"
            assert ours[0].tobytes() == theirs[0].tobytes(), (where, ours[0] - theirs[0])
            assert bits(ours[1]) == bits(theirs[1]), (where, ours[1], theirs[1])
            assert ours[2:4] == theirs[2:4], where
            assert theirs[4] == {name: ours[4][name] for name in ("equity", "reason")}, where
            assert bits(*ours[4]["reward"].values()) == bits(*self.compiled.components.values()), where
            self._compare(where)
            self._note()
            if ours[2] or ours[3]:
                break

    def _compare(self, where: str) -> None:
        expected, found = definition_state(self.definition), compiled_state(self.compiled)
        differing = {
            name: (expected[name], found[name]) for name in expected if bits(expected[name]) != bits(found[name])
        }
        assert not differing, (where, differing)
        if self._last:
            fills = [r.fill for r in self._last[-1].reports if r.fill is not None]
            record = self.compiled.accounts.records[0]
            assert [[f.at_ms, f.quantity * f.side.sign, f.price, f.fee] for f in fills] == record["fills"][
                : record["n_fills"]
            ].tolist(), where

    def _note(self) -> None:
        self.steps += 1
        state = self.definition.session.trader.risk
        self.states.add(state.state.value)
        for transition in self._last:
            self.seen |= {outcome.verdict.reason.value for outcome in transition.outcomes}
            self.fills += sum(report.fill is not None for report in transition.reports)


def bits(*values: Any) -> bytes:
    """Return the bytes of some numbers: 0.0 and -0.0 differ."""
    return np.array(values, np.float64).tobytes()


def definition_state(env: TraderEnv) -> dict[str, float]:
    """Return all that a trader's account is, as numbers; None is -1."""
    trader, history = env.session.trader, env._history
    portfolio, state = trader.portfolio, trader.risk
    position, known, stop = (
        portfolio.positions[history.symbol],
        state.symbols[history.symbol],
        trader.stops[history.symbol],
    )
    (order,) = list(env.session.exchange.waiting) or [None]
    average_range = trader._ranges[history.symbol]
    if stop is not None:
        assert stop.quantity == position.quantity
    return {
        **{
            name: getattr(portfolio, name)
            for name in ("cash", "equity", "peak", "day", "day_start", "fees", "slippage")
        },
        **{name: getattr(portfolio, name) for name in ("wins", "losses")},
        **{name: getattr(position, name) for name in ("quantity", "average_entry", "mark", "high", "trade_profit")},
        "since_trade": position.since_trade,
        "state": STATES.index(state.state),
        "reason": -1 if state.reason is None else REASONS.index(state.reason),
        **{name: getattr(state, name) for name in ("halted_ms", "orders_today", "turnover_today")},
        "risk_day": state.day,
        "streak": known.loss_streak,
        "blocked_until_ms": known.blocked_until_ms,
        "blocked_by": REASONS.index(known.blocked_by),
        "stop": 0.0 if stop is None or stop.stop_price is None else stop.stop_price,
        "average_range": -1.0 if average_range is None else average_range,
        "order_side": 0 if order is None else {Side.BUY: 1, Side.SELL: -1}[order.side],
        "fee_rate": trader.setup.costs.fee_rate,
        "slippage_rate": trader.setup.costs.slippage_rate,
        "delay": env._delay,
        "decide_offset": trader.setup.strategy.decide_offset,
    }


def compiled_state(env: TradingEnv) -> dict[str, float]:
    """Return the same of the compiled form."""
    record = env.accounts.records[0]
    return {name: record[name].item() for name in record.dtype.names if record[name].ndim == 0}


# ---- markets that hurt ------------------------------------------------------------------------------------------
def rough_table(
    seed: int,
    *,
    after: int = 150,
    price: float = 100.0,
    volume: float = 1_000.0,
    spread: float = 0.005,
    crashes: Iterable[tuple[int, float]] = (),
    gap: tuple[int, int] | None = None,
    start: int = 20_000,
) -> CandleTable:
    """Return a random walk whose last `after` candles have a full window.

    spread: of returns per candle.  crashes: (candle after the first window, factor of the price from there on).
    gap: (candle after the first window, missing candles before it).  Prices lie on no grid.
    """
    rng, count = np.random.default_rng(seed), FIRST + after
    steps = rng.standard_t(3, count).clip(-8.0, 8.0) * spread
    for at, factor in crashes:
        steps[FIRST + at] += math.log(factor)
    close = price * np.exp(np.cumsum(steps) - np.sum(steps[:FIRST]))
    opened = np.concatenate([close[:1], close[:-1]]) * np.exp(rng.normal(0.0, spread, count))
    high = np.maximum(opened, close) * np.exp(rng.random(count) * spread)
    low = np.minimum(opened, close) * np.exp(-rng.random(count) * spread)
    amount = rng.gamma(1.0, volume, count) * (rng.random(count) > 0.1)
    open_ms = (start + np.arange(count)) * HOUR_MS
    if gap is not None:
        open_ms[FIRST + gap[0] :] += gap[1] * HOUR_MS
    values = np.stack([opened, high, low, close, amount], axis=1)
    return CandleTable(symbol=BTC, timeframe=Timeframe.parse("1h"), open_ms=open_ms, values=values)


def setup_with(instrument: dict[str, float], **changes: Any) -> Setup:
    """Return a setup of one symbol; `changes` go to whichever of the parameter records has the field."""
    kinds = (StrategyParameters, RiskLimits, CostModel)
    records = [kind(**{k: v for k, v in changes.items() if k in kind.__dataclass_fields__}) for kind in kinds]
    return Setup(
        instance="test",
        timeframe=Timeframe.parse("1h"),
        instruments={BTC: Instrument(symbol=BTC, **instrument)},
        strategy=records[0],  # type: ignore[arg-type]
        limits=records[1],  # type: ignore[arg-type]
        costs=records[2],  # type: ignore[arg-type]
    )


def random_actions(seed: int, count: int, *, hold: int = 1) -> NDArray[np.float32]:
    """Return actions of the whole space, each cast `hold` times in a row."""
    rng = np.random.default_rng(seed)
    drawn = np.stack([rng.uniform(-1, 1, count), rng.random(count), rng.random(count)], axis=1)
    return np.repeat(drawn[: -(-count // hold)], hold, axis=0)[:count].astype(np.float32)


def always(direction: float, count: int, size: float = 1.0) -> NDArray[np.float32]:
    """Return the same action over and over."""
    return np.tile(np.array([direction, size, 1.0], np.float32), (count, 1))
