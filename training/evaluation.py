"""The record of an evaluation: what `sacd evaluate` finds, writes and prints, and what `sacd report` draws.

Every ratio that is not defined is None, never a number made up. Returns, drawdowns and exposures are shares (0.15 is
15 %); times are milliseconds UTC; Sharpe ratios are annualised with 365 days unless they say otherwise.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from training.metrics import Metrics

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """An estimate with the bounds of its 95 % interval; None where it is not defined."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The ensemble and buying and holding over a part of the span: a year, a regime, a fold.

    name: "2021", "bull", "fold 3".  days: how many.  other figures: of the ensemble; hold_*: of buying and holding.
    """

    name: str
    days: int
    total_return: float | None
    sharpe: float | None
    max_drawdown: float | None
    exposure: float | None
    hold_return: float | None
    hold_sharpe: float | None
    hold_drawdown: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stress:
    """The whole span again under other terms. cost: factor on fees and slippage.  delay: candles votes are late."""

    cost: float
    delay: int
    metrics: Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Bootstrap:
    """Stationary bootstrap of daily returns. block: mean length in days.

    differences: by baseline, the ensemble's Sharpe ratio less the baseline's, drawn in pairs.
    """

    draws: int
    block: float
    sharpe: Range
    annual_return: Range
    max_drawdown: Range
    differences: Mapping[str, Range]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deflated:
    """The deflated Sharpe ratio, a probability.

    trials: of the ledger.  spread: standard deviation of their Sharpe ratios, annualised.  chance: the Sharpe ratio,
    annualised, that the best of so many is expected to have by chance.  probabilistic: the same without deflation,
    against 0.  days_needed: how long a track record of this Sharpe ratio must be to exceed 0 with 95 %.
    """

    value: float | None
    probabilistic: float | None
    trials: int
    spread: float | None
    chance: float | None
    days_needed: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomEntries:
    """Random entries with the same turnover and the same average exposure under the same costs.

    percentile: share of the draws whose Sharpe ratio lies below the ensemble's.  low, median, high: of the draws'
    Sharpe ratios, 5 %, 50 %, 95 %.
    """

    draws: int
    percentile: float | None
    low: float | None
    median: float | None
    high: float | None
    median_return: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refit:
    """The recipe of the bundle trained anew on other spans, and scored on candles that each training has not seen.

    kind: "walk-forward" or "combinatorial".  folds: how each did; practised on candles outside it, purged.
    sharpes: of the paths that the folds make (walk-forward makes one).  overfitting: probability that the seed (or
    setting) which is best in one half of the time is below the median in the other (CSCV); None with fewer than two.
    """

    kind: str
    folds: tuple[Part, ...]
    sharpes: tuple[float | None, ...]
    overfitting: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """One threshold. value: None where it is not defined, which does not pass.  wanted: in words, "> 1.2"."""

    name: str
    value: float | None
    wanted: str
    passed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Veto:
    """One reason that refuses whatever the criteria say. words: what was found."""

    name: str
    fired: bool
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberResult:
    """One member of the ensemble, deciding alone."""

    seed: int
    weight: float
    metrics: Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class SymbolCurves:
    """One symbol by day, (n,) each: price, exposure, what was voted ("buy", "sell", "hold" or "": nobody voted).

    votes: by member, the mean direction of the day.  None where nobody voted.
    """

    symbol: str
    close: tuple[float, ...]
    exposure: tuple[float, ...]
    action: tuple[str, ...]
    votes: tuple[tuple[float | None, ...], ...]
    disagreement: tuple[float | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """What the report draws.

    day_ms: (n,) midnight that ends each UTC day.  equity: by name, (n,) in multiples of the
    cash at the beginning; "ensemble" and every baseline.  exposure: (n,) of the ensemble.  costs: (n,) fees and
    slippage so far, as shares of the cash at the beginning.
    """

    day_ms: tuple[int, ...]
    equity: Mapping[str, tuple[float, ...]]
    exposure: tuple[float, ...]
    costs: tuple[float, ...]
    symbols: tuple[SymbolCurves, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """All that an evaluation found. See the parts; `to_json` is the documented object of `sacd evaluate --json`.

    bundle: full id.  at: when, ISO.  ready, summary: what the daemon's gate reads.  start_ms, end_ms: [start, end) that
    was traded.  unseen_from_ms: candles before were used to make the bundle.  symbols_seen: of the symbols, those that
    it was trained on.  metrics: of the ensemble as one account.  by_symbol: each symbol with an account of its own.
    baselines: by name.  warnings: what a reader must know, in words.
    """

    bundle: str
    at: str
    ready: bool
    summary: str
    command: str
    symbols: tuple[str, ...]
    symbols_seen: tuple[str, ...]
    timeframe: str
    start_ms: int
    end_ms: int
    unseen_from_ms: int
    conditions: Mapping[str, Mapping[str, float | int]]
    metrics: Metrics
    by_symbol: Mapping[str, Metrics]
    baselines: Mapping[str, Metrics]
    baselines_by_symbol: Mapping[str, Mapping[str, Metrics]]
    random: RandomEntries
    bootstrap: Bootstrap
    deflated: Deflated
    members: tuple[MemberResult, ...]
    stress: tuple[Stress, ...]
    break_even_cost: float | None
    years: tuple[Part, ...]
    regimes: tuple[Part, ...]
    folds: tuple[Part, ...]
    refits: tuple[Refit, ...]
    criteria: tuple[Criterion, ...]
    vetoes: tuple[Veto, ...]
    warnings: tuple[str, ...]
    curves: Curves

    def to_json(self, *, curves: bool = True) -> dict[str, Any]:
        """Return the record as JSON types; without the curves it is what lies beside the manifest."""
        whole = {"format": FORMAT, **asdict(self)}
        if not curves:
            del whole["curves"]
        return whole
