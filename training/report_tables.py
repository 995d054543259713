"""The tables of the report: criteria, vetoes, accounts beside each other, all metrics, and parts of the span."""

from collections.abc import Callable, Mapping, Sequence

from training.evaluation import Criterion, Evaluation, Part, Stress, Veto
from training.metrics import Metrics
from training.report_html import cell, table
from training.report_numbers import RATIO, UNDEFINED, as_wanted, days, multiple, percent, ratio
from training.report_rows import Mark, ruler, scale, track
from training.report_words import HOLD, TREND

_PASS, _FAIL = '<span class="pass">\u2713 passed</span>', '<span class="fail">\u2715 failed</span>'
_FIRED, _QUIET = '<span class="fail">\u2715 refuses</span>', '<span class="pass">\u2713 silent</span>'

Column = tuple[str, Callable[[Metrics], str]]
_ACCOUNTS: Sequence[Column] = (
    ("return", lambda m: percent(m.total_return)),
    ("a year", lambda m: percent(m.annual_return)),
    ("volatility", lambda m: percent(m.volatility)),
    ("Sharpe", lambda m: ratio(m.sharpe)),
    ("Sortino", lambda m: ratio(m.sortino)),
    ("Calmar", lambda m: ratio(m.calmar)),
    ("worst fall", lambda m: percent(m.max_drawdown)),
    ("invested", lambda m: percent(m.exposure)),
    ("turnover a year", lambda m: multiple(m.turnover, 1)),
    ("trades", lambda m: f"{m.trades:,}"),
    ("costs", lambda m: percent(m.fees + m.slippage)),
)
_WHOLE: Sequence[Column] = (
    ("total return", lambda m: percent(m.total_return)),
    ("annual return (365 days)", lambda m: percent(m.annual_return)),
    ("return over buy and hold's", lambda m: percent(m.excess_return, is_signed=True)),
    ("alpha a year", lambda m: percent(m.alpha, is_signed=True)),
    ("beta", lambda m: ratio(m.beta)),
    ("volatility a year", lambda m: percent(m.volatility)),
    ("Sharpe ratio, of days", lambda m: ratio(m.sharpe)),
    ("Sharpe ratio, of candles", lambda m: ratio(m.sharpe_candles)),
    ("Sortino ratio", lambda m: ratio(m.sortino)),
    ("Calmar ratio", lambda m: ratio(m.calmar)),
    ("maximum drawdown", lambda m: percent(m.max_drawdown)),
    ("longest drawdown", lambda m: days(m.drawdown_days)),
    ("time below a peak", lambda m: percent(m.underwater)),
    ("value at risk, 95 % of days", lambda m: percent(m.value_at_risk, 2)),
    ("expected shortfall, 95 % of days", lambda m: percent(m.expected_shortfall, 2)),
    ("skew of days", lambda m: ratio(m.skew)),
    ("kurtosis of days (normal: 3)", lambda m: ratio(m.kurtosis, 1)),
    ("positive months", lambda m: _of(m.positive_months, m.months, "months")),
    ("trades", lambda m: f"{m.trades:,}"),
    ("positions closed", lambda m: f"{m.round_trips:,}: {m.wins:,} won, {m.losses:,} lost"),
    ("win rate", lambda m: percent(m.win_rate)),
    ("its 95 % interval", lambda m: interval(m.win_rate_low, m.win_rate_high, percent)),
    ("profit factor", lambda m: ratio(m.profit_factor)),
    ("mean gain / mean loss", lambda m: ratio(m.payoff)),
    ("mean profit of a position", lambda m: percent(m.expectancy, 2, is_signed=True)),
    ("mean time held", lambda m: UNDEFINED if m.holding_days is None else f"{m.holding_days:.1f} days"),
    ("mean exposure", lambda m: percent(m.exposure)),
    ("candles with a position", lambda m: percent(m.invested)),
    ("turnovers a year", lambda m: multiple(m.turnover, 1)),
    ("fees, of the first cash", lambda m: percent(m.fees)),
    ("slippage, of the first cash", lambda m: percent(m.slippage)),
)


def interval(low: float | None, high: float | None, write: Callable[[float | None], str]) -> str:
    """Return the bounds of an interval in words."""
    return UNDEFINED if low is None or high is None else f"{write(low)} to {write(high)}"


def _of(share: float | None, count: int, noun: str) -> str:
    return UNDEFINED if share is None else f"{percent(share)} of {count:,} {noun}"


def criteria(found: Sequence[Criterion]) -> str:
    """Return the table of thresholds."""
    rows = [
        [cell(one.name), cell(as_wanted(one.value, one.wanted)), cell(one.wanted), _PASS if one.passed else _FAIL]
        for one in found
    ]
    return table("Criteria", ["criterion", "found", "wanted", "verdict"], rows)


def vetoes(found: Sequence[Veto]) -> str:
    """Return the table of reasons that refuse whatever the criteria say."""
    rows = [[cell(one.name), _FIRED if one.fired else _QUIET, f'<span class="long">{cell(one.words)}</span>']
            for one in found]  # fmt: skip
    return table("Vetoes", ["veto", "verdict", "what was found"], rows)


def accounts(ours: Metrics, baselines: Mapping[str, Metrics], caption: str) -> str:
    """Return the ensemble and every baseline, a row each."""
    named = [("<b>ensemble</b>", ours), *((cell(name), metrics) for name, metrics in baselines.items())]
    rows = [[name, *(cell(write(metrics)) for _, write in _ACCOUNTS)] for name, metrics in named]
    return table(caption, ["account", *(name for name, _ in _ACCOUNTS)], rows, style="figures")


def whole(evaluation: Evaluation) -> str:
    """Return every metric of the ensemble, beside buying and holding and the trend rule."""
    beside = {name: evaluation.baselines[name] for name in (HOLD, TREND) if name in evaluation.baselines}
    shown = [evaluation.metrics, *beside.values()]
    rows = [[cell(name), *(cell(write(metrics)) for metrics in shown)] for name, write in _WHOLE]
    return table("All metrics", ["metric", "ensemble", *beside], rows, style="figures")


def by_symbol(evaluation: Evaluation) -> str:
    """Return each symbol with an account of its own, beside the baselines that matter."""
    others = [name for name in (HOLD, TREND) if name in evaluation.baselines]
    rows = []
    for symbol, ours in evaluation.by_symbol.items():
        rivals = [evaluation.baselines_by_symbol.get(symbol, {}).get(name) for name in others]
        name = cell(symbol if symbol in evaluation.symbols_seen else f"{symbol} (never trained on)")
        sharpes = [UNDEFINED if rival is None else ratio(rival.sharpe) for rival in rivals]
        figures = [percent(ours.total_return), percent(ours.max_drawdown), percent(ours.exposure),
                   f"{ours.trades:,}", percent(ours.win_rate)]  # fmt: skip
        rows.append([name, *(cell(text) for text in (ratio(ours.sharpe), *sharpes, *figures))])
    head = ["symbol", "Sharpe", *(f"Sharpe, {name}" for name in others), "return", "worst fall", "invested", "trades"]
    return table("Each symbol with an account of its own", [*head, "win rate"], rows, style="figures")


def stress(found: Sequence[Stress]) -> str:
    """Return the whole span under other costs and with late votes."""
    axis = scale([one.metrics.sharpe for one in found], 0.0)
    rows = []
    for one in found:
        late = f", {one.delay} candle late" if one.delay == 1 else f", {one.delay} candles late" if one.delay else ""
        name = f"costs {one.cost:g}\u00d7{late}"
        marks = _dot(one.metrics.sharpe, "ours", name)
        figures = [one.metrics.total_return, one.metrics.max_drawdown, one.metrics.fees + one.metrics.slippage]
        cells = [f"<b>{cell(name)}</b>" if (one.cost, one.delay) == (1.0, 0) else cell(name)]
        rows.append([*cells, track(axis, marks, f"Sharpe ratio of {name}"), cell(ratio(one.metrics.sharpe)),
                     *(cell(percent(value)) for value in figures), cell(f"{one.metrics.trades:,}")])  # fmt: skip
    foot = ["", ruler(axis, RATIO), *[""] * 5]
    head = ["terms", "Sharpe ratio", "value", "return", "worst fall", "costs", "trades"]
    return table("Other costs, and late", head, rows, style="figures second", foot=foot)


def parts(caption: str, kind: str, found: Sequence[Part]) -> str:
    """Return the ensemble and buying and holding over parts of the span, a row each."""
    axis = scale([value for part in found for value in (part.sharpe, part.hold_sharpe)], 0.0)
    rows = []
    for part in found:
        marks = [*_square(part.hold_sharpe, HOLD), *_dot(part.sharpe, "ours", "ensemble")]
        figures = [ratio(part.sharpe), ratio(part.hold_sharpe), percent(part.total_return), percent(part.hold_return),
                   percent(part.max_drawdown), percent(part.hold_drawdown), percent(part.exposure)]  # fmt: skip
        told = f"Sharpe ratio {ratio(part.sharpe)}, of buying and holding {ratio(part.hold_sharpe)}"
        rows.append([cell(part.name), cell(f"{part.days:,}"), track(axis, marks, told), *map(cell, figures)])
    foot = ["", "", ruler(axis, RATIO), *[""] * 7]
    head = [kind, "days", "Sharpe ratio: \u25cf ensemble, \u25a0 hold", "Sharpe", "hold's", "return",
            "hold's", "worst fall", "hold's", "invested"]  # fmt: skip
    return table(caption, head, rows, style="figures third", foot=foot)


def _dot(value: float | None, style: str, name: str) -> list[Mark]:
    if value is None:
        return []
    return [Mark(shape="dot", value=value, style=style, told=f"{name}: {ratio(value)}")]


def _square(value: float | None, name: str) -> list[Mark]:
    if value is None:
        return []
    return [Mark(shape="square", value=value, style="theirs", told=f"{name}: {ratio(value)}")]
