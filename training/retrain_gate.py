"""The gate of a retraining: what a candidate must show, beside the incumbent, on candles that neither has seen.

All criteria must pass, and a value that is not defined passes nothing. Both accounts pay twice the costs, so that an
edge which a worse broker would eat up is none. The usual outcome is that the incumbent stays. Ensembles and candles in,
criteria out: nothing here reads or writes a file.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from strategy.bundle import Bundle
from strategy.decision import Action
from strategy.parameters import StrategyParameters
from training.console import counted
from training.metrics import max_drawdown, returns_of, sharpe_ratio
from training.recorder import ACTIONS
from training.retrain_exam import Exam, Shown, sit
from training.stats_bootstrap import DRAWS, LEAST_FOR_A_BLOCK, SEED, optimal_block, resampled_indices
from training.stats_deflated import deflated_sharpe, moments_of
from training.track import FloatArray, Track
from training.track_checks import require_same_span

COSTS = 2.0
"""By how much both accounts pay more than they would."""
MOST_OF_ONE_ACTION = 0.95
MOST_SATURATED = 0.9
LEAST_TRADES = 1
LEAST_DECISIONS = 2
LEAST_DEFLATED = 0.5
TURNOVER_FACTOR = 3.0
TURNOVER_ANYWAY = 25.0
"""Traded notional a year, in multiples of equity, that is no fault however little the incumbent trades."""
_DAYS_PER_YEAR = 365.0
_DAY_MS = 86_400_000
_DRAWS_AT_ONCE = 100  # so that years of days need no gigabytes
_BASIS_POINTS = 1e4
_ROUNDING = 1e-12
"""A spread below this is what float64 leaves of equal growth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One criterion. value: None where it is not defined.  words: value and threshold for people."""

    name: str
    value: float | None
    threshold: float
    passed: bool
    words: str

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What is asked. confidence: probability of being better.  max_drawdown: share.

    trials: candidates so far, this one among them: as many chances as luck had.
    """

    confidence: float
    max_drawdown: float
    trials: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """By how much the new account grew more from one due decision to the next, accounts as a whole, in logarithms.

    mean_bp: in basis points.  spread: standard deviation, > 0; None for fewer than two, and where the accounts never
    differ.  count: how many there are.
    """

    mean_bp: float
    spread: float | None
    count: int

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return {"mean_bp": self.mean_bp, "spread": self.spread, "per": "decision", "count": self.count}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What came of a candidate. sharpe: annualised, of its account at single costs, None where it is not defined."""

    checks: tuple[Check, ...]
    difference: Difference
    sharpe: float | None


def examine(
    exam: Exam, old: Bundle, new: Bundle, terms: Terms, progress: Callable[[int], None] | None = None
) -> Verdict:
    """Return what the gate says of `new` beside `old`. progress: told how many candles are done, of four passes.

    Raises as `retrain_exam.sit`.
    """
    shown, done = [], 0
    for bundle, costs in ((old, COSTS), (new, COSTS), (old, 1.0), (new, 1.0)):
        before = done

        def tell(count: int, before: int = before) -> None:
            if progress is not None:
                progress(before + count)

        shown.append(sit(exam, bundle, costs=costs, progress=tell))
        done += sum(len(table.slice(exam.from_ms, None)) for table in exam.tables)
    dear_old, dear_new, plain_old, plain_new = shown
    difference = difference_of(plain_old.track, plain_new.track, exam.setup.strategy)
    return Verdict(
        checks=judge(dear_old, dear_new, difference, terms),
        difference=difference,
        sharpe=sharpe_ratio(returns_of(plain_new.track)),
    )


def judge(old: Shown, new: Shown, difference: Difference, terms: Terms) -> tuple[Check, ...]:
    """Return what a candidate passes and what not. old, new: at twice the costs, over the same candles.

    difference: at single costs.  Raises TrainingError for accounts of different spans.
    """
    require_same_span(new.track, old.track)
    gained = log_differences(old.track, new.track)
    return (
        *_sane(new),
        _decisions(difference),
        _drawdown(new.track, terms.max_drawdown),
        _turnover(old.track, new.track),
        _better(gained, terms.confidence),
        _deflated(gained, terms.trials),
    )


def difference_of(old: Track, new: Track, strategy: StrategyParameters) -> Difference:
    """Return by how much the new account outgrew the old one, decision by decision: what a shadow measures."""
    is_due = [strategy.is_due(int(close_ms), old.timeframe_ms) for close_ms in old.close_ms]
    gained = np.diff(np.log(new.equity[1:][is_due]) - np.log(old.equity[1:][is_due]))
    if len(gained) < LEAST_DECISIONS:
        return Difference(mean_bp=0.0, spread=None, count=len(gained))
    spread = float(np.std(gained, ddof=1))
    is_one = spread <= _ROUNDING * (1.0 + abs(float(np.mean(gained))))
    return Difference(
        mean_bp=float(np.mean(gained)) * _BASIS_POINTS, spread=None if is_one else spread, count=len(gained)
    )


def log_differences(old: Track, new: Track) -> FloatArray:
    """Return (days,) by how much the new account grew more, day by day, in logarithms."""
    return np.log1p(returns_of(new)) - np.log1p(returns_of(old))


def probability_better(gained: FloatArray, *, draws: int = DRAWS, seed: int = SEED) -> float | None:
    """Return the share of resamples of (n,) differences whose mean is above 0, None for fewer than 10.

    Days are drawn in blocks of geometric length (stationary bootstrap); each is the difference of one day, so what both
    accounts gain and lose together is not in it.
    """
    if len(gained) < LEAST_FOR_A_BLOCK:
        return None
    block, generator = optimal_block(gained), np.random.default_rng(seed)
    above = 0
    for first in range(0, draws, _DRAWS_AT_ONCE):
        indices = resampled_indices(len(gained), block, min(_DRAWS_AT_ONCE, draws - first), generator)
        above += int(np.count_nonzero(gained[indices].mean(axis=1) > 0.0))
    return above / draws


def refusal(checks: Sequence[Check]) -> str:
    """Return in words what was not passed, "" when all was."""
    return "; ".join(check.words for check in checks if not check.passed)


# ---- what is looked at ------------------------------------------------------------------------------------------
def _sane(new: Shown) -> tuple[Check, ...]:
    action, share = _dominant(new.track)
    return (
        Check(
            name="finite",
            value=float(new.failed),
            threshold=0.0,
            passed=new.failed == 0,
            words=f"its votes failed {counted(new.failed, 'time')} of {new.asked:,} (none may)",
        ),
        Check(
            name="one_action",
            value=share,
            threshold=MOST_OF_ONE_ACTION,
            passed=share is not None and share <= MOST_OF_ONE_ACTION,
            words=f"{_share(share)} of its decisions are {action} (at most {MOST_OF_ONE_ACTION:.0%})",
        ),
        Check(
            name="saturated",
            value=new.saturated,
            threshold=MOST_SATURATED,
            passed=new.saturated <= MOST_SATURATED,
            words=f"{new.saturated:.1%} of its directions lie at an end of their range (at most {MOST_SATURATED:.0%})",
        ),
        Check(
            name="trades",
            value=float(len(new.track.fills)),
            threshold=float(LEAST_TRADES),
            passed=len(new.track.fills) >= LEAST_TRADES,
            words=f"it traded {counted(len(new.track.fills), 'time')} (at least {LEAST_TRADES})",
        ),
    )


def _dominant(track: Track) -> tuple[str, float | None]:
    """Return the action that it takes most, and its share of the decisions; None without any."""
    actions = np.concatenate([symbol.action for symbol in track.symbols])
    counts = {action: int(np.count_nonzero(actions == kind)) for kind, action in enumerate(ACTIONS)}
    action = max(counts, key=lambda action: counts[action])
    total = sum(counts.values())
    return (action.value, counts[action] / total) if total else (Action.HOLD.value, None)


def _decisions(difference: Difference) -> Check:
    is_one = difference.spread is None and difference.count >= LEAST_DECISIONS
    same = ", and the accounts never differed" if is_one else ""
    return Check(
        name="decisions",
        value=float(difference.count),
        threshold=float(LEAST_DECISIONS),
        passed=difference.spread is not None,
        words=f"{counted(difference.count, 'decision')} can be compared (at least {LEAST_DECISIONS}){same}",
    )


def _drawdown(new: Track, most: float) -> Check:
    value = max_drawdown(new.equity)
    return Check(
        name="drawdown",
        value=value,
        threshold=most,
        passed=value <= most,
        words=f"it fell by {value:.1%} from its peak (at most {most:.1%})",
    )


def _turnover(old: Track, new: Track) -> Check:
    value, most = turnover(new), max(TURNOVER_FACTOR * turnover(old), TURNOVER_ANYWAY)
    return Check(
        name="turnover",
        value=value,
        threshold=most,
        passed=value <= most,
        words=f"it traded {value:.1f} times its equity a year (at most {most:.1f})",
    )


def turnover(track: Track) -> float:
    """Return the traded notional a year in multiples of the mean equity."""
    traded = math.fsum(fill.notional for fill in track.fills)
    years = len(track.close_ms) * track.timeframe_ms / (_DAYS_PER_YEAR * _DAY_MS)
    return traded / float(np.mean(track.equity)) / years


def _better(gained: FloatArray, confidence: float) -> Check:
    value = probability_better(gained)
    mean = float(np.mean(gained)) * _BASIS_POINTS if len(gained) else 0.0
    return Check(
        name="better",
        value=value,
        threshold=confidence,
        passed=value is not None and value >= confidence,
        words=f"it is better with probability {_figure(value)} (at least {confidence:.2f}), by {mean:+.1f} basis "
        "points a day at twice the costs",
    )


def _deflated(gained: FloatArray, trials: int) -> Check:
    """Return whether the difference is more than the best of so many equal candidates would show by chance.

    The spread between their Sharpe ratios is what chance gives equal ones over so many days, 1 / sqrt(n - 1).
    """
    moments = moments_of(gained)
    value = None if moments is None else deflated_sharpe(moments, trials, 1.0 / math.sqrt(moments.n - 1))
    return Check(
        name="deflated",
        value=value,
        threshold=LEAST_DEFLATED,
        passed=value is not None and value >= LEAST_DEFLATED,
        words=f"beyond the luck of {counted(trials, 'candidate')} it is better with probability {_figure(value)} "
        f"(at least {LEAST_DEFLATED:.2f})",
    )


def _figure(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f}"


def _share(value: float | None) -> str:
    return "an unknown share" if value is None else f"{value:.1%}"
