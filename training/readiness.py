"""Whether what an evaluation found is enough: thresholds, criteria and vetoes.

The criteria are the targets of the guide this project implements. An ensemble is ready when enough of them pass and no
veto fires. A value that is not defined passes nothing, and a veto that cannot be checked fires.

The daemon's gate reads the outcome and its one sentence, nothing else. So what made it easier stands in that sentence:
thresholds that were loosened, and conditions other than those of the training.
"""

import math
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from strategy.parameters import CostModel
from training.errors import TrainingError
from training.evaluation import Criterion, Veto
from training.metrics import Metrics

WANTED_ACTIONS = {"buy": 0.40, "sell": 0.30, "hold": 0.30}
VOLATILITY_TARGETED = "volatility-targeted hold"


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """What is asked of an ensemble, on unseen candles and after costs. Shares are fractions.

    sharpe, alpha, win_rate, calmar, positive_months: to be exceeded.  max_drawdown: to stay below.
    action_deviation: the largest that the shares of buy, sell and hold may be off 40 %, 30 % and 30 %.
    share: of the criteria that must pass.
    Vetoes: deflated_sharpe, round_trips and days are the least; dominant_action: the largest share of one action.
    Raises TrainingError for a value that cannot be.
    """

    sharpe: float = 1.2
    max_drawdown: float = 0.15
    alpha: float = 0.02
    win_rate: float = 0.55
    calmar: float = 0.8
    positive_months: float = 0.70
    action_deviation: float = 0.15
    share: float = 0.8
    deflated_sharpe: float = 0.95
    dominant_action: float = 0.95
    round_trips: float = 30
    days: float = 180

    def __post_init__(self) -> None:
        for name in sorted(_SHARES):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise TrainingError(f"threshold {name} {getattr(self, name)} is not a share: give 0 .. 1")
        for field in fields(self):
            if not math.isfinite(getattr(self, field.name)):
                raise TrainingError(
                    f"threshold {field.name} {getattr(self, field.name)} is no number: give a finite one"
                )

    def changed(self) -> list[str]:
        """Return in words which thresholds are not the usual ones."""
        return [f"{name} {value:g} instead of {default:g}" for name, value, default in self._unusual()]

    def loosened(self) -> list[str]:
        """Return in words which thresholds ask for less than the usual ones."""
        return [
            f"{name} {value:g} instead of {default:g}"
            for name, value, default in self._unusual()
            if (value > default if name in _UPPER else value < default)
        ]

    def _unusual(self) -> list[tuple[str, float, float]]:
        usual = Thresholds()
        pairs = [(field.name, getattr(self, field.name), getattr(usual, field.name)) for field in fields(self)]
        return [(name, value, default) for name, value, default in pairs if value != default]


_UPPER = frozenset({"max_drawdown", "action_deviation", "dominant_action"})
"""The thresholds that are the most allowed; the others are the least wanted."""
_SHARES = frozenset(
    {
        "max_drawdown", "win_rate", "positive_months", "action_deviation", "share", "deflated_sharpe",
        "dominant_action",
    }
)  # fmt: skip


def read_thresholds(path: Path | None, required: Iterable[str]) -> Thresholds:
    """Return the usual thresholds changed by a TOML file of `name = value`, then by texts of the same form.

    Raises TrainingError naming what is wrong where.
    """
    changes: dict[str, float] = {}
    if path is not None:
        for name, value in _toml(path).items():
            changes[name] = _number(f"--thresholds {path}", name, value)
    for text in required:
        name, equals, value = text.partition("=")
        if not equals:
            raise TrainingError(f"--require {text!r} is not of the form NAME=VALUE, such as sharpe=1.0")
        changes[name.strip()] = _number("--require", name.strip(), value.strip())
    return replace(Thresholds(), **changes)


def _toml(path: Path) -> Mapping[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TrainingError(f"--thresholds {path}: cannot be read ({error.strerror}): correct the path") from error
    except ValueError as error:
        raise TrainingError(
            f"--thresholds {path}: it is not TOML ({error}): write lines such as sharpe = 1.0"
        ) from error


def _number(where: str, name: str, value: object) -> float:
    names = [field.name for field in fields(Thresholds)]
    if name not in names:
        raise TrainingError(f"{where}: there is no threshold {name!r}: choose of {', '.join(names)}")
    number = None if isinstance(value, bool) else _float(value)
    if number is None:
        raise TrainingError(f"{where}: {name} {value!r} is not a number")
    return number


def _float(value: object) -> float | None:
    try:
        return float(value) if isinstance(value, str | int | float) else None
    except (ValueError, OverflowError):  # TOML has whole numbers beyond float64
        return None


def action_deviation(actions: Mapping[str, float]) -> float | None:
    """Return how far the share of one action is off what is wanted, at most; None when nobody voted."""
    if not any(actions.values()):
        return None
    return max(abs(actions.get(name, 0.0) - wanted) for name, wanted in WANTED_ACTIONS.items())


def criteria(metrics: Metrics, thresholds: Thresholds) -> tuple[Criterion, ...]:
    """Return every criterion with what was found. metrics: of the ensemble as one account."""
    return (
        _above("Sharpe ratio", metrics.sharpe, thresholds.sharpe, "{:g}"),
        _below("maximum drawdown", metrics.max_drawdown, thresholds.max_drawdown, "{:.1%}"),
        _above("alpha", metrics.alpha, thresholds.alpha, "{:.1%}"),
        _above("win rate", metrics.win_rate, thresholds.win_rate, "{:.1%}"),
        _above("Calmar ratio", metrics.calmar, thresholds.calmar, "{:g}"),
        _above("positive months", metrics.positive_months, thresholds.positive_months, "{:.1%}"),
        _at_most("action mix", action_deviation(metrics.actions), thresholds.action_deviation),
    )


def vetoes(
    metrics: Metrics,
    baselines: Mapping[str, Metrics],
    deflated: float | None,
    thresholds: Thresholds,
    *,
    is_seen: bool,
    costs: CostModel,
    trained: CostModel,
) -> tuple[Veto, ...]:
    """Return every veto and whether it fires.

    deflated: the deflated Sharpe ratio.  is_seen: candles were traded that the ensemble was made from.
    costs, trained: what trades cost here, and in the training.
    """
    return (
        _deflated(deflated, thresholds.deflated_sharpe),
        _beaten(metrics.sharpe, baselines[VOLATILITY_TARGETED].sharpe),
        _degenerate(metrics, thresholds.dominant_action),
        _few("too few trades", metrics.round_trips, thresholds.round_trips, "closed round trips"),
        _few("too short", metrics.days, thresholds.days, "days"),
        Veto(
            name="seen candles",
            fired=is_seen,
            words="candles were traded that the ensemble was made from"
            if is_seen
            else "no candle was traded that the ensemble was made from",
        ),
        _cheaper(costs, trained),
    )


def is_ready(found: Sequence[Criterion], refused: Sequence[Veto], share: float) -> bool:
    """Tell whether at least `share` of the criteria pass and no veto fires."""
    passed = sum(criterion.passed for criterion in found)
    return passed >= share * len(found) and not any(veto.fired for veto in refused)


def summary(
    found: Sequence[Criterion], refused: Sequence[Veto], thresholds: Thresholds, terms: Sequence[str] = ()
) -> str:
    """Return the outcome in one sentence, and what made it easier. terms: conditions that were changed, in words."""
    said = [_outcome(found, refused, thresholds.share)]
    if thresholds.loosened():
        said.append(f"thresholds were loosened: {', '.join(thresholds.loosened())}")
    if terms:
        said.append(f"conditions were changed: {', '.join(terms)}")
    return "; ".join(said)


def _outcome(found: Sequence[Criterion], refused: Sequence[Veto], share: float) -> str:
    passed = sum(criterion.passed for criterion in found)
    words = f"{passed} of {len(found)} criteria pass ({share:.0%} are needed)"
    fired = [veto.words for veto in refused if veto.fired]
    return f"{words}; refused, because {', and '.join(fired)}" if fired else f"{words} and no veto fires"


def _above(name: str, value: float | None, bound: float, form: str) -> Criterion:
    passed = value is not None and value > bound
    return Criterion(name=name, value=value, wanted=f"> {form.format(bound)}", passed=passed)


def _below(name: str, value: float | None, bound: float, form: str) -> Criterion:
    passed = value is not None and value < bound
    return Criterion(name=name, value=value, wanted=f"< {form.format(bound)}", passed=passed)


def _at_most(name: str, value: float | None, bound: float) -> Criterion:
    mix = " / ".join(f"{share:.0%}" for share in WANTED_ACTIONS.values())
    wanted = f"within {bound:.1%} of {mix} (buy / sell / hold)"
    # 0.55 - 0.40 is a hair above 0.15.
    passed = value is not None and value <= bound + 1e-12
    return Criterion(name=name, value=value, wanted=wanted, passed=passed)


def _deflated(value: float | None, least: float) -> Veto:
    name = "deflated Sharpe ratio"
    if value is None:
        return Veto(name=name, fired=True, words="the deflated Sharpe ratio is not defined")
    fired = value < least
    beside = "below" if fired else "not below"
    return Veto(name=name, fired=fired, words=f"the deflated Sharpe ratio {value:.3f} is {beside} {least:g}")


def _beaten(ours: float | None, theirs: float | None) -> Veto:
    name = f"worse than {VOLATILITY_TARGETED}"
    if ours is None or theirs is None:
        whose = "of the ensemble" if ours is None else f"of {VOLATILITY_TARGETED}"
        return Veto(name=name, fired=True, words=f"the Sharpe ratio {whose} is not defined")
    fired = ours < theirs
    beside = "below" if fired else "not below"
    words = f"its Sharpe ratio {ours:.2f} is {beside} the {theirs:.2f} of {VOLATILITY_TARGETED} at the same exposure"
    return Veto(name=name, fired=fired, words=words)


def _degenerate(metrics: Metrics, largest: float) -> Veto:
    name = "degenerate actions"
    if not metrics.trades:
        return Veto(name=name, fired=True, words="it never traded")
    action, share = max(metrics.actions.items(), key=lambda item: item[1], default=("nothing", 1.0))
    fired = share > largest
    beside = "more" if fired else "not more"
    words = f"{share:.1%} of its votes say {action}, {beside} than {largest:.0%}"
    return Veto(name=name, fired=fired, words=words)


def _few(name: str, count: int, least: float, what: str) -> Veto:
    fired = count < least
    words = f"{count} {what} are {'fewer than' if fired else 'not fewer than'} {least:g}"
    return Veto(name=name, fired=fired, words=words)


def _cheaper(ours: CostModel, trained: CostModel) -> Veto:
    pairs = [(name, getattr(ours, name), getattr(trained, name)) for name in ("fee_rate", "slippage_rate")]
    lower = [f"{name} {value:g} below {usual:g}" for name, value, usual in pairs if value < usual]
    words = "trades cost not less than it was trained under"
    if lower:
        words = f"trades cost less than it was trained under ({', '.join(lower)})"
    return Veto(name="lower costs", fired=bool(lower), words=words)
