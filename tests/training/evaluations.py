"""A whole evaluation out of random walks, for tests of what reads one: plausible in size and shape, and of no skill."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.evaluation import (
    Bootstrap,
    Criterion,
    Curves,
    Deflated,
    Evaluation,
    MemberResult,
    Part,
    RandomEntries,
    Range,
    Refit,
    Stress,
    SymbolCurves,
    Veto,
)
from training.metrics import Metrics, max_drawdown, sharpe_ratio

DAY_MS = 86_400_000
START_MS = 1_546_300_800_000  # 2019-01-01
SYMBOLS = ("BTC/USDT", "ETH/USDT", "BNB/USDT", "XRP/USDT", "ADA/USDT", "LTC/USDT")
BASELINES = (
    "cash", "buy and hold", "volatility-targeted hold", "moving-average cross", "momentum", "trend rule",
)  # fmt: skip

FloatArray = NDArray[np.float64]


def metrics_of(equity: FloatArray, **other: Any) -> Metrics:
    """Return metrics that fit the daily equity where it tells them. equity: (n,) multiples of the first cash."""
    returns = np.diff(np.concatenate([[1.0], equity])) / np.concatenate([[1.0], equity[:-1]])
    years = len(equity) / 365.0
    fallen = max_drawdown(np.concatenate([[1.0], equity]))
    annual = float(equity[-1] ** (1.0 / years) - 1.0)
    known: dict[str, Any] = {
        "days": len(equity),
        "total_return": float(equity[-1] - 1.0),
        "annual_return": annual,
        "volatility": float(np.std(returns, ddof=1)) * 365.0**0.5,
        "sharpe": sharpe_ratio(returns),
        "sharpe_candles": sharpe_ratio(returns),
        "sortino": 1.4,
        "calmar": annual / fallen if fallen else None,
        "max_drawdown": fallen,
        "drawdown_days": 211.0,
        "underwater": 0.83,
        "alpha": 0.031,
        "beta": 0.42,
        "excess_return": -0.113,
        "value_at_risk": 0.0231,
        "expected_shortfall": 0.0342,
        "skew": -0.4,
        "kurtosis": 6.2,
        "months": 48,
        "positive_months": 0.625,
        "trades": 412,
        "round_trips": 103,
        "wins": 55,
        "losses": 48,
        "win_rate": 55 / 103,
        "win_rate_low": 0.438,
        "win_rate_high": 0.627,
        "profit_factor": 1.52,
        "payoff": 1.33,
        "expectancy": 0.0123,
        "holding_days": 11.2,
        "open_profit": 120.0,
        "exposure": 0.34,
        "invested": 0.71,
        "turnover": 10.9,
        "fees": 0.043,
        "slippage": 0.022,
        "actions": {"buy": 0.37, "sell": 0.28, "hold": 0.35},
    }
    return Metrics(**(known | other))


UNDEFINED: dict[str, Any] = dict.fromkeys(
    (
        "sharpe", "sharpe_candles", "sortino", "calmar", "alpha", "beta", "win_rate", "win_rate_low", "win_rate_high",
        "profit_factor", "payoff", "expectancy", "holding_days", "skew", "kurtosis",
    )
)  # fmt: skip


def walk(rng: np.random.Generator, days: int, drift: float, volatility: float) -> FloatArray:
    """Return the equity of an account that wanders with fat tails."""
    moves = drift / 365.0 + volatility / 365.0**0.5 * rng.standard_t(5, size=days) / (5.0 / 3.0) ** 0.5
    return np.exp(np.cumsum(moves - volatility**2 / 730.0))


def part_of(name: str, equity: FloatArray, hold: FloatArray) -> Part:
    """Return a part of the span, from equities that begin before it."""

    def figures(values: FloatArray) -> tuple[float, float | None, float]:
        returns = values[1:] / values[:-1] - 1.0
        return float(values[-1] / values[0] - 1.0), sharpe_ratio(returns), max_drawdown(values)

    (earned, sharpe, fallen), (held, hold_sharpe, hold_fallen) = figures(equity), figures(hold)
    return Part(
        name=name, days=len(equity) - 1, total_return=earned, sharpe=sharpe, max_drawdown=fallen, exposure=0.3,
        hold_return=held, hold_sharpe=hold_sharpe, hold_drawdown=hold_fallen,
    )  # fmt: skip


def symbol_curves(rng: np.random.Generator, symbol: str, days: int, members: int) -> SymbolCurves:
    """Return a symbol whose members follow its trend, each a little otherwise, after twenty days without votes."""
    close = 100.0 * walk(rng, days, 0.3, 0.8)
    mean = np.convolve(np.concatenate([np.full(49, close[0]), close]), np.ones(50) / 50.0, mode="valid")
    lean = np.tanh(6.0 * (close / mean - 1.0))
    votes = np.clip(lean + 0.35 * rng.normal(size=(members, days)), -1.0, 1.0)
    voted = votes.mean(axis=0)
    exposure = np.where(np.arange(days) < 20, 0.0, np.clip(0.17 * np.maximum(lean, 0.0), 0.0, 0.17))
    actions = ["buy" if v > 0.3 else "sell" if v < -0.3 else "hold" for v in voted]
    spread = np.minimum(votes.std(axis=0), 1.0)

    def after_warm_up(values: FloatArray) -> tuple[float | None, ...]:
        return (None,) * 20 + tuple(float(value) for value in values[20:])

    return SymbolCurves(
        symbol=symbol,
        close=tuple(map(float, close)),
        exposure=tuple(map(float, exposure)),
        action=("",) * 20 + tuple(actions[20:]),
        votes=tuple(after_warm_up(one) for one in votes),
        disagreement=after_warm_up(spread),
    )


def sample(*, days: int = 1_461, members: int = 5, symbols: tuple[str, ...] = SYMBOLS, seed: int = 8) -> Evaluation:
    """Return an evaluation of `days` days from 2019 on."""
    rng = np.random.default_rng(seed)
    ours = walk(rng, days, 0.20, 0.22)
    rivals = {name: walk(rng, days, 0.25, 0.6 if name == "buy and hold" else 0.3) for name in BASELINES}
    rivals["cash"] = np.ones(days)
    metrics = metrics_of(ours)
    baselines = {name: metrics_of(values) for name, values in rivals.items()}
    baselines["cash"] = replace(baselines["cash"], **UNDEFINED)
    end_ms = START_MS + days * DAY_MS
    whole, held = (np.concatenate([[1.0], values]) for values in (ours, rivals["buy and hold"]))
    cuts = np.linspace(0, days, 6).astype(int)
    folds = tuple(
        part_of(f"fold {index + 1}", whole[begin : end + 1], held[begin : end + 1])
        for index, (begin, end) in enumerate(pairwise(cuts))
    )
    years = tuple(
        part_of(str(2019 + index), whole[begin : begin + 366], held[begin : begin + 366])
        for index, begin in enumerate(range(0, days - 30, 365))
    )
    sharpe = metrics.sharpe or 0.0
    slope = np.exp(-0.06 * np.arange(days) / 365.0)
    return Evaluation(
        bundle="3f" * 32,
        at="2024-02-01T09:30:00+00:00",
        ready=False,
        summary="5 of 7 criteria passed (80 % are needed); 1 veto refuses: the deflated Sharpe ratio is below 0.95",
        command="sacd evaluate --model models/current --data btcusdt-1h.parquet ethusdt-1h.parquet",
        symbols=symbols,
        symbols_seen=symbols[:-1] if len(symbols) > 1 else symbols,
        timeframe="1h",
        start_ms=START_MS,
        end_ms=end_ms,
        unseen_from_ms=START_MS,
        conditions={
            "strategy": {"dead_band": 0.02, "decide_every": 24},
            "limits": {"max_position": 0.5, "max_drawdown": 0.15},
            "costs": {"fee_rate": 0.001, "slippage_rate": 0.0005},
        },
        metrics=metrics,
        by_symbol={symbol: metrics_of(walk(rng, days, 0.2, 0.3)) for symbol in symbols},
        baselines=baselines,
        baselines_by_symbol={
            symbol: {name: metrics_of(walk(rng, days, 0.2, 0.5)) for name in BASELINES} for symbol in symbols
        },
        random=RandomEntries(draws=1_000, percentile=0.871, low=-0.62, median=0.31, high=1.18, median_return=0.142),
        bootstrap=Bootstrap(
            draws=5_000,
            block=11.4,
            sharpe=Range(value=sharpe, low=sharpe - 1.1, high=sharpe + 1.0),
            annual_return=Range(value=metrics.annual_return, low=-0.06, high=0.35),
            max_drawdown=Range(value=metrics.max_drawdown, low=0.11, high=0.43),
            differences={
                "cash": Range(value=None, low=None, high=None),
                "buy and hold": Range(value=0.61, low=0.08, high=1.17),
                "volatility-targeted hold": Range(value=0.22, low=-0.41, high=0.88),
                "moving-average cross": Range(value=0.35, low=-0.22, high=0.94),
                "momentum": Range(value=0.12, low=-0.63, high=0.81),
                "trend rule": Range(value=-0.31, low=-0.83, high=0.19),
            },
        ),
        deflated=Deflated(
            value=0.612, probabilistic=0.968, trials=214, spread=0.33, chance=0.92, days_needed=1_182.4
        ),
        members=tuple(
            MemberResult(
                seed=index + 1, weight=1.0 / members, metrics=metrics_of(walk(rng, days, 0.12 + 0.06 * index, 0.25))
            )
            for index in range(members)
        ),
        stress=tuple(
            Stress(cost=cost, delay=delay, metrics=metrics_of(ours * slope ** (cost - 1.0 + delay)))
            for cost, delay in ((0.0, 0), (1.0, 0), (2.0, 0), (4.0, 0), (1.0, 1))
        ),
        break_even_cost=5.3,
        years=years,
        regimes=tuple(
            part_of(name, whole[begin : begin + days // 3 + 1], held[begin : begin + days // 3 + 1])
            for name, begin in (("bull", 0), ("bear", days // 3), ("sideways", days // 3 * 2))
        ),
        folds=folds,
        refits=(
            Refit(kind="walk-forward", folds=folds[1:], sharpes=(0.71,), overfitting=None),
            Refit(kind="combinatorial", folds=folds, sharpes=(0.2, -0.14, 0.93, 0.55, 1.04), overfitting=0.41),
        ),
        criteria=(
            Criterion(name="Sharpe ratio", value=sharpe, wanted="> 1.2", passed=sharpe > 1.2),
            Criterion(name="maximum drawdown", value=metrics.max_drawdown, wanted="< 15 %", passed=False),
            Criterion(name="alpha a year", value=0.031, wanted="> 2 %", passed=True),
            Criterion(name="win rate", value=None, wanted="> 55 %", passed=False),
        ),
        vetoes=(
            Veto(name="deflated Sharpe ratio", fired=True, words="61.2 % after 214 trials, 95 % are wanted"),
            Veto(name="too few trades", fired=False, words="103 positions were closed, 30 are needed"),
        ),
        warnings=("LTC/USDT was never trained on", "this span was opened once before, with another bundle"),
        curves=Curves(
            day_ms=tuple(START_MS + (day + 1) * DAY_MS for day in range(days)),
            equity={"ensemble": tuple(map(float, ours)), **{n: tuple(map(float, v)) for n, v in rivals.items()}},
            exposure=tuple(float(v) for v in np.clip(0.35 + 0.2 * np.sin(np.arange(days) / 60.0), 0.0, 1.0)),
            costs=tuple(float(v) for v in np.linspace(0.0, 0.065, days)),
            symbols=tuple(symbol_curves(rng, symbol, days, members) for symbol in symbols),
        ),
    )  # fmt: skip
