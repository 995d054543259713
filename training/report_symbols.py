"""One symbol of the report: its price with what was voted and held, and below it every member and how they disagree."""

from collections.abc import Sequence
from html import escape
from itertools import groupby

from training.charts import Axis, stretched
from training.evaluation import SymbolCurves
from training.report_curves import Frame, Line, axis_of, days_axis, drawn, rules, strips, x_labels, y_labels
from training.report_html import subtitle
from training.report_numbers import PERCENT, RATIO, percent, price, ratio
from training.report_series import buckets, mean

_MOST_TURNS = 70
_PARTS = 200
_DAY_MS = 86_400_000
_SIZES = (1, 2, 3, 7, 14, 28, 56, 112)
_SIGNS = {"buy": "\u25b2", "sell": "\u25bc"}


def symbol_panel(day_ms: Sequence[int], curves: SymbolCurves, seeds: Sequence[int], quote: str) -> str:
    """Return the drawings of one symbol, above each other on one axis of days. quote: currency of the price."""
    turns, size = _turns(curves.action)
    rows = [
        _row(f"price, {quote}", 190, _price(day_ms, curves), _signs(day_ms, curves, turns)),
        _row("invested", 70, *_line(day_ms, curves.exposure, "exposure", is_area=True)),
        _row("disagreement", 50, *_line(day_ms, curves.disagreement, "disagreement", is_area=False)),
        *(_row(name, 30, _votes(day_ms, votes, name), "") for name, votes in _named(curves, seeds)),
    ]
    words = f'<p class="under">{_SIGNS["buy"]} votes turn to buy, {_SIGNS["sell"]} to sell; {_looked(size)}</p>'
    axis = (
        f'<div class="row axis"><span class="what"></span><div class="plot">{x_labels(days_axis(day_ms))}</div></div>'
    )
    hits = strips(day_ms, lambda at: _told(curves, seeds, at, quote), _PARTS)
    stack = f'<figure class="stack">{"".join(rows)}{axis}<div class="over">{hits}</div></figure>'
    return f'<div class="symbol">{subtitle(curves.symbol)}{words}{stack}</div>'


def _row(name: str, height: int, plot: str, labels: str) -> str:
    what = f'<span class="what">{escape(name)}</span>'
    return f'<div class="row">{what}<div class="plot" style="height:{height}px">{plot}{labels}</div></div>'


def _looked(size: int) -> str:
    return "looked at day by day." if size == 1 else f"what most votes said within {size} days."


def _price(day_ms: Sequence[int], curves: SymbolCurves) -> str:
    """Return the price, shaded where the account was invested: the more, the darker."""
    x, y = days_axis(day_ms), axis_of(curves.close, _price_frame(curves))
    most = max(*curves.exposure, 1e-9)
    shades = []
    for begin, end in buckets(len(day_ms), _PARTS):
        held = (mean(curves.exposure[begin:end]) or 0.0) / most
        left, right = x.at(day_ms[begin] - _DAY_MS), x.at(day_ms[end - 1])
        if held > 0.02:  # noqa: PLR2004 - too faint to be seen
            shades.append(
                f'<path class="held" opacity="{held * 0.4:.2f}" d="M{left:.1f} 0H{right:.1f}V1000H{left:.1f}Z"/>'
            )
    line = Line(name="price", style="price", values=curves.close)
    body = [*shades, *rules(y, None), drawn(line, x, y, day_ms)]
    return stretched(body, f"price of {curves.symbol}, shaded where the account was invested")


def _price_frame(curves: SymbolCurves) -> Frame:
    return Frame(title=f"price of {curves.symbol}", unit=RATIO, is_log=True)


def _signs(day_ms: Sequence[int], curves: SymbolCurves, turns: Sequence[tuple[int, str]]) -> str:
    x, y = days_axis(day_ms), axis_of(curves.close, _price_frame(curves))
    parts = [
        f'<span class="turn {action}" style="left:{x.at(day_ms[at]) / 10.0:.1f}%;top:'
        f'{y.at(curves.close[at]) / 10.0:.1f}%" aria-hidden="true">{_SIGNS[action]}</span>'
        for at, action in turns
    ]
    return y_labels(y, RATIO) + "".join(parts)


def _turns(actions: Sequence[str]) -> tuple[list[tuple[int, str]], int]:
    """Return the days on which the votes turn to buy or to sell, and within how many days most votes count.

    As many days as it takes to have few enough turns to be seen.
    """
    for size in _SIZES:
        turns = _turns_within(actions, size)
        if len(turns) <= _MOST_TURNS:
            break
    return turns, size


def _turns_within(actions: Sequence[str], size: int) -> list[tuple[int, str]]:
    said = []
    for begin in range(0, len(actions), size):
        votes = [action for action in actions[begin : begin + size] if action in _SIGNS or action == "hold"]
        most = max(sorted(set(votes)), key=votes.count, default="")
        if most in _SIGNS:  # holding keeps what was said before
            said.append((begin, most))
    return [next(run) for _, run in groupby(said, key=lambda one: one[1])]


def _line(day_ms: Sequence[int], values: Sequence[float | None], name: str, *, is_area: bool) -> tuple[str, str]:
    line = Line(name=name, style=name, values=[0.0 if v is None and is_area else v for v in values], is_area=is_area)
    unit = PERCENT if is_area else RATIO
    y = axis_of([0.0, *(value for value in values if value is not None)], Frame(title=name, unit=unit))
    body = [*rules(y, None), drawn(line, days_axis(day_ms), y, day_ms)]
    return stretched(body, name), y_labels(y, unit, only_ends=True)


def _named(curves: SymbolCurves, seeds: Sequence[int]) -> list[tuple[str, Sequence[float | None]]]:
    names = [f"seed {seed}" for seed in seeds] if len(seeds) == len(curves.votes) else []
    names = names or [f"member {index + 1}" for index in range(len(curves.votes))]
    return list(zip(names, curves.votes, strict=True))


def _votes(day_ms: Sequence[int], votes: Sequence[float | None], name: str) -> str:
    """Return one member's votes: upwards to buy, downwards to sell."""
    x, y = days_axis(day_ms), Axis(low=-1.0, high=1.0, begin=1000.0, end=0.0)
    paths: dict[str, list[str]] = {"buy": [], "sell": []}
    for begin, end in buckets(len(day_ms), _PARTS):
        value = mean(votes[begin:end])
        if value is None or value == 0.0:
            continue
        left, right = x.at(day_ms[begin] - _DAY_MS), x.at(day_ms[end - 1])
        path = f"M{left:.0f} 500V{y.at(min(max(value, -1.0), 1.0)):.0f}H{right:.0f}V500Z"
        paths["buy" if value > 0.0 else "sell"].append(path)
    body = ['<path class="level" d="M0 500H1000"/>']
    body += [f'<path class="vote {side}" d="{"".join(parts)}"/>' for side, parts in paths.items() if parts]
    return stretched(body, f"votes of {name}: above the line to buy, below it to sell")


def _told(curves: SymbolCurves, seeds: Sequence[int], at: int, quote: str) -> str:
    lines = [
        f"{price(curves.close[at])} {quote}",
        f"invested {percent(curves.exposure[at])}",
        f"voted: {curves.action[at] or 'nobody'}",
        f"disagreement {ratio(curves.disagreement[at])}",
        *(f"{name}: {ratio(votes[at], is_signed=True)}" for name, votes in _named(curves, seeds)),
    ]
    return "\n".join(lines)
