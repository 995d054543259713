"""The account over time: equity beside all baselines, drawdown, exposure, months, rolling Sharpe ratio, costs."""

from collections.abc import Sequence

from training.evaluation import Evaluation
from training.report_curves import Frame, Line, over_time
from training.report_evidence import break_even
from training.report_html import Section, paragraph, subtitle
from training.report_months import heat_map
from training.report_numbers import MULTIPLE, PERCENT, RATIO, percent
from training.report_series import drawdowns, rolling_sharpe
from training.report_style import SERIES
from training.report_tables import stress
from training.report_words import HOLD, STEADY_HOLD, TREND

_ROLLING_DAYS = 90
_OURS = "ensemble"
_RIVALS = (_OURS, HOLD, TREND)


def equity(evaluation: Evaluation) -> Section:
    """Return the ensemble's equity beside all baselines, and how far it fell and was invested."""
    curves, named = evaluation.curves, _named(evaluation)
    lines = [Line(name=name, style=_style(evaluation, name), values=values) for name, values in named]
    frame = Frame(title="equity of the ensemble and all baselines", unit=MULTIPLE, height=340, level=1.0, is_log=True)
    html = over_time(curves.day_ms, lines, frame)
    html += subtitle("Below the peak, at the end of each day") + _fallen(evaluation)
    html += subtitle("Invested, share of the account") + _alone(evaluation, "exposure", curves.exposure, 120)
    words = (
        "In multiples of the first cash, on a logarithmic scale: equal steps upwards are equal gains. Untick a name to "
        "hide its line, point at it to see it alone, point at the chart to read it."
    )
    return Section(key="equity", title="Equity, drawdown and exposure", words=words, html=html)


def _fallen(evaluation: Evaluation) -> str:
    lines = [
        Line(
            name=name,
            style=_style(evaluation, name),
            values=[float(value) for value in drawdowns(values)],
            is_area=name == _OURS,
        )
        for name, values in _named(evaluation)
        if name in _RIVALS
    ]
    return over_time(evaluation.curves.day_ms, lines, Frame(title="drawdown", unit=PERCENT, height=190))


def _alone(evaluation: Evaluation, name: str, values: Sequence[float], height: int) -> str:
    """Return a share of the ensemble's account over time."""
    frame = Frame(title=name, unit=PERCENT, height=height, has_legend=False)
    line = Line(name=name, style="s0", values=values, is_area=True)
    return over_time(evaluation.curves.day_ms, [line], frame)


def _named(evaluation: Evaluation) -> list[tuple[str, tuple[float, ...]]]:
    """Return the curves by name, the ensemble's first."""
    found = evaluation.curves.equity
    return [(_OURS, found[_OURS]), *((name, values) for name, values in found.items() if name != _OURS)]


def _style(evaluation: Evaluation, name: str) -> str:
    """Return the style of a line, one for each name: the rivals that matter most have the first."""
    first = (*_RIVALS, STEADY_HOLD)
    names = [*first, *(other for other in evaluation.curves.equity if other not in first)]
    return f"s{names.index(name) % SERIES}"


def months(evaluation: Evaluation) -> Section:
    """Return the return of every month."""
    ours = evaluation.metrics
    words = (
        f"{percent(ours.positive_months)} of {ours.months:,} months ended above where they began. Blue: gained, "
        "orange: lost. With a star: fewer than ten days, not counted."
    )
    html = heat_map(evaluation.curves.day_ms, evaluation.curves.equity[_OURS])
    return Section(key="months", title="Months", words=words, html=html)


def rolling(evaluation: Evaluation) -> Section:
    """Return the Sharpe ratio of the last days, over time."""
    lines = [
        Line(name=name, style=_style(evaluation, name), values=rolling_sharpe(values, _ROLLING_DAYS))
        for name, values in _named(evaluation)
        if name in _RIVALS
    ]
    frame = Frame(title="rolling Sharpe ratio of 90 days", unit=RATIO, height=240, level=0.0)
    html = over_time(evaluation.curves.day_ms, lines, frame)
    if all(value is None for line in lines for value in line.values):
        html = paragraph(f"Not defined: it takes {_ROLLING_DAYS} days, and returns that differ.")
    words = f"Sharpe ratio of the last {_ROLLING_DAYS} days, a year of 365 days; so short a span is mostly chance."
    return Section(key="rolling", title="Rolling Sharpe ratio", words=words, html=html)


def costs(evaluation: Evaluation) -> Section:
    """Return what trading cost over time, and what other costs would have done."""
    html = _alone(evaluation, "fees and slippage so far", evaluation.curves.costs, 150)
    html += subtitle("The same span under other terms") + stress(evaluation.stress) + break_even(evaluation)
    words = "Fees and slippage so far, in shares of the first cash; and what other costs, and late orders, would do."
    return Section(key="costs", title="Costs", words=words, html=html)
