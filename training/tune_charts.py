"""Drawings for the report of a search: SVG in the page itself, coloured by its style sheet, without any script.

A chart is text; coordinates are pixels of the drawing, which scales with the page. Every mark says its value when it is
pointed at.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from training.charts import Axis, label, padded, svg

_WIDTH = 860


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One trial in a drawing. style: a class of the style sheet.  told: shown when it is pointed at."""

    x: float
    y: float
    style: str
    told: str


def history(marks: Sequence[Mark], best: Sequence[tuple[float, float]]) -> str:
    """Return scores over trial numbers, with the line of the best so far; marks and line in trials and scores."""
    height, left, bottom = 300, 56, 262
    y = padded([mark.y for mark in marks], bottom, 14)
    x = Axis(low=0.5, high=max(mark.x for mark in marks) + 0.5, begin=left, end=_WIDTH - 12)
    points = [f"{x.at(number):.1f},{y.at(score):.1f}" for number, score in _steps(best, x.high)]
    body = [*_rules(y, left, _WIDTH - 12), f'<polyline class="best-line" points="{" ".join(points)}"/>']
    body += [_dot(Mark(x=x.at(mark.x), y=y.at(mark.y), style=mark.style, told=mark.told), 4.5) for mark in marks]
    body += [label(x.at(tick), bottom + 18, f"{tick:g}", "middle") for tick in x.ticks() if tick == int(tick) > 0]
    body.append(label((left + _WIDTH) / 2, height - 4, "trial", "middle"))
    return svg(_WIDTH, height, body, "score of every trial, in the order they began")


def _steps(best: Sequence[tuple[float, float]], end: float) -> list[tuple[float, float]]:
    """Return the corners of a line that goes on level until the next better score."""
    corners = []
    for (number, score), (following, _) in zip(best, [*best[1:], (end, 0.0)], strict=True):
        corners += [(number, score), (following, score)]
    return corners


def bars(shares: Sequence[tuple[str, float]]) -> str:
    """Return horizontal bars of shares, each with its name and percentage."""
    line, left = 26, 190
    longest = max(share for _, share in shares) or 1.0
    body = []
    for row, (name, share) in enumerate(shares):
        middle, width = row * line + 13, share / longest * (_WIDTH - left - 70)
        body.append(label(left - 10, middle + 4, name, "end"))
        body.append(f'<rect class="bar" x="{left}" y="{middle - 8}" width="{max(width, 1.0):.1f}" height="16" rx="3"/>')
        body.append(label(left + width + 8, middle + 4, f"{share:.0%}", "start"))
    return svg(_WIDTH, line * len(shares) + 4, body, "importance of each setting")


def slice_of(name: str, x: Axis, ticks: Sequence[tuple[float, str]], y: Axis, marks: Sequence[Mark]) -> str:
    """Return scores over one setting; x and y over 46 .. 268 and 170 .. 34, marks in values of the axes."""
    body = [*_rules(y, 46, 268), f'<text class="title" x="46" y="18">{escape(name)}</text>']
    anchors = {46.0: "start", 268.0: "end"}  # at the edges, so that nothing is cut off
    body += [label(x.at(value), 190, told, anchors.get(x.at(value), "middle")) for value, told in ticks]
    body += [_dot(Mark(x=x.at(mark.x), y=y.at(mark.y), style=mark.style, told=mark.told), 3.5) for mark in marks]
    return svg(280, 200, body, f"score over {name}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One trial across all axes. heights: 0 .. 1 on each axis, None where it has no value.  share: 0 worst, 1 best."""

    heights: Sequence[float | None]
    share: float
    told: str


def parallel(names: Sequence[tuple[str, str, str]], lines: Sequence[Line]) -> str:
    """Return parallel coordinates. names: of each axis with its lowest and highest value; the better, the stronger."""
    height, top, bottom = 340, 60, 300
    step = (_WIDTH - 90) / max(1, len(names) - 1)
    body = []
    for line in sorted(lines, key=lambda line: line.share):
        points = " ".join(
            f"{45 + index * step:.1f},{bottom + at * (top - bottom):.1f}"
            for index, at in enumerate(line.heights)
            if at is not None
        )
        is_best = line is max(lines, key=lambda line: line.share)
        style = "line top" if is_best else "line"
        body.append(
            f'<polyline class="{style}" style="opacity:{0.12 + 0.68 * line.share:.2f}" points="{points}">'
            f"<title>{escape(line.told)}</title></polyline>"
        )
    for index, (name, low, high) in enumerate(names):
        x = 45 + index * step
        body.append(f'<line class="axis" x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{bottom}"/>')
        body.append(label(x, bottom + 16, low, "middle") + label(x, top - 8, high, "middle"))
        body.append(label(x, 22 if index % 2 else 38, name, "middle", "name"))
    return svg(_WIDTH, height, body, "the settings of every trial, one line each")


def spans(
    rows: Sequence[tuple[str, Sequence[tuple[float, float, str, str]]]], x: Axis, place: Callable[[float], str]
) -> str:
    """Return bars in time. rows: a name and its parts, each begin, end, style and what is told of it."""
    line, height = 30, 30 * len(rows) + 26
    body = []
    for row, (name, parts) in enumerate(rows):
        body.append(label(x.begin - 10, row * line + 18, name, "end"))
        for begin, end, style, told in parts:
            left, width = x.at(begin), max(1.0, x.at(end) - x.at(begin))
            body.append(
                f'<rect class="{style}" x="{left:.1f}" y="{row * line + 4}" width="{width:.1f}" height="20" rx="3">'
                f"<title>{escape(told)}</title></rect>"
            )
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        value = x.low + share * (x.high - x.low)
        anchor = "end" if share == 1.0 else "start" if share == 0.0 else "middle"
        body.append(label(x.at(value), height - 6, place(value), anchor))
    return svg(_WIDTH, height, body, "the folds in time")


def _rules(y: Axis, left: float, right: float) -> list[str]:
    """Return the lines across, with their values."""
    parts = []
    for tick in y.ticks():
        at = y.at(tick)
        parts.append(f'<line class="grid" x1="{left}" y1="{at:.1f}" x2="{right}" y2="{at:.1f}"/>')
        parts.append(label(left - 8, at + 4, f"{tick:g}", "end"))
    return parts


def _dot(mark: Mark, radius: float) -> str:
    return (
        f'<circle class="{mark.style}" cx="{mark.x:.1f}" cy="{mark.y:.1f}" r="{radius}">'
        f"<title>{escape(mark.told)}</title></circle>"
    )
