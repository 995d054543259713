"""Charts over time: lines over days, with axes, a legend that hides and shows lines, and values where one points.

The drawing stretches with the page; words stand beside it in HTML, readable at any width. There is no script.
"""

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from training.charts import Axis, stretched
from training.report_numbers import Unit
from training.report_series import buckets, date_of, thinned

POINTS = 700
_STRIPS = 150
_DAY_MS = 86_400_000
_MOST_TICKS = 6
_YEARS_SHOWN = 2.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a chart. values: of every day, None where there is none.  style: a class of the style sheet."""

    name: str
    style: str
    values: Sequence[float | None]
    is_area: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What a chart over time looks like. title: what it shows, for those who cannot see it.  height: in pixels.

    level: a value whose line is drawn stronger.  is_log: by the logarithm.
    """

    title: str
    unit: Unit
    height: int = 260
    level: float | None = None
    is_log: bool = False
    has_legend: bool = True


def over_time(day_ms: Sequence[int], lines: Sequence[Line], frame: Frame) -> str:
    """Return a chart of lines over days with axes, legend and values to point at."""
    values = [value for line in lines for value in line.values if value is not None]
    y = axis_of([*values, *([0.0] if any(line.is_area for line in lines) else [])], frame)
    x = days_axis(day_ms)
    body = [*rules(y, frame.level), *(drawn(line, x, y, day_ms) for line in reversed(lines))]
    plot = stretched(body, frame.title)
    hits = strips(day_ms, lambda at: _told(lines, at, frame.unit), _STRIPS)
    marks = y_labels(y, frame.unit) + x_labels(x) + hits
    legend = _legend(lines, frame.unit) if frame.has_legend else ""
    return (
        f'<figure class="chart">{legend}<div class="plot" style="height:{frame.height}px">{plot}{marks}</div></figure>'
    )


def axis_of(values: Sequence[float], frame: Frame) -> Axis:
    """Return the axis upwards for values, with a little room."""
    known = [*values, *([] if frame.level is None else [frame.level])] or [0.0]
    low, high = min(known), max(known)
    if frame.is_log:
        room = (high / low) ** 0.04 if high > low else 1.05
        return Axis(low=low / room, high=high * room, begin=1000.0, end=0.0, is_log=True)
    room = (high - low) * 0.04 or max(abs(high), 1.0) * 0.05
    at_zero = (low == 0.0, high == 0.0)  # where nothing can lie beyond
    return Axis(low=low - (0.0 if at_zero[0] else room), high=high + (0.0 if at_zero[1] else room), begin=1e3, end=0.0)


def days_axis(day_ms: Sequence[int]) -> Axis:
    """Return the axis of days along a drawing."""
    return Axis(low=day_ms[0] - _DAY_MS, high=day_ms[-1], begin=0.0, end=1000.0)


def rules(y: Axis, level: float | None) -> list[str]:
    """Return the lines across at the round values, and a stronger one at `level`."""
    parts = [_across(y.at(tick), "grid") for tick in y.ticks()]
    return parts if level is None else [*parts, _across(y.at(level), "level")]


def _across(at: float, style: str) -> str:
    return f'<path class="{style}" d="M0 {at:.1f}H1000"/>'


def drawn(line: Line, x: Axis, y: Axis, day_ms: Sequence[int]) -> str:
    """Return a line, or the area between it and 0."""
    path, pen = [], "M"
    for at, value in thinned(line.values, POINTS):
        if value is None:
            pen = "M"
            continue
        path.append(f"{pen}{x.at(day_ms[at]):.1f} {y.at(value):.1f}")
        pen = "L"
    text = "".join(path)
    if line.is_area and path:
        base = y.at(min(max(0.0, y.low), y.high))
        first = text[1:].split("L", 1)[0].split()[0]
        last = path[-1][1:].split()[0]
        return f'<path class="area {line.style}" d="M{first} {base:.1f}L{text[1:]}L{last} {base:.1f}Z"/>'
    return f'<path class="line {line.style}" d="{text}"/>'


def y_labels(y: Axis, unit: Unit, *, only_ends: bool = False) -> str:
    """Return the round values, as HTML beside the drawing; only the lowest and highest where there is little room."""
    ticks = y.ticks()
    shown = [ticks[0], ticks[-1]] if only_ends else ticks
    return "".join(
        f'<span class="y" style="top:{y.at(tick) / 10.0:.1f}%">{escape(unit.tick(tick))}</span>' for tick in shown
    )


def x_labels(x: Axis) -> str:
    """Return the names of years or months, as HTML below the drawing."""
    return "".join(
        f'<span class="x" style="left:{x.at(ms) / 10.0:.1f}%">{escape(told)}</span>' for ms, told in _moments(x)
    )


def _moments(x: Axis) -> list[tuple[float, str]]:
    """Return beginnings of years, or of months when the span is short, few enough to be read."""
    begin, end = (dt.datetime.fromtimestamp(ms / 1_000, dt.UTC) for ms in (x.low, x.high))
    months = (end.year - begin.year) * 12 + end.month - begin.month + 1
    if (end - begin).days > _YEARS_SHOWN * 365.0:
        step = 12 * -(-(months // 12 + 1) // _MOST_TICKS)
        first = begin.year * 12
    else:
        step = next(size for size in (1, 2, 3, 6, 12) if months / size <= _MOST_TICKS or size == 12)  # noqa: PLR2004
        first = begin.year * 12 + (begin.month - 1) // step * step
    found = []
    for month in range(first, end.year * 12 + end.month, step):
        moment = dt.datetime(month // 12, month % 12 + 1, 1, tzinfo=dt.UTC)
        if begin <= moment <= end:
            told = str(moment.year) if step % 12 == 0 else moment.strftime("%b %Y")
            found.append((moment.timestamp() * 1_000, told))
    return found


def strips(day_ms: Sequence[int], told: Callable[[int], str], most: int) -> str:
    """Return places to point at all along a chart. told: what one says of the day of an index."""
    x, parts = days_axis(day_ms), []
    for begin, end in buckets(len(day_ms), most):
        left = x.at(day_ms[begin] - _DAY_MS) / 10.0
        width = x.at(day_ms[end - 1]) / 10.0 - left
        side = ' class="r"' if left > 50.0 else ""  # noqa: PLR2004 - the right half opens to the left
        words = f"{date_of(day_ms[end - 1])}\n{told(end - 1)}"
        data = escape(words).replace("\n", "&#10;")
        parts.append(f'<i{side} style="left:{left:.2f}%;width:{width:.2f}%" data-told="{data}"></i>')
    return f'<div class="hits" aria-hidden="true">{"".join(parts)}</div>'


def _told(lines: Sequence[Line], at: int, unit: Unit) -> str:
    return "\n".join(f"{line.name}: {unit.write(line.values[at])}" for line in lines)


def _legend(lines: Sequence[Line], unit: Unit) -> str:
    """Return a legend of lines that can be hidden, with the last value of each."""
    parts = []
    for line in lines:
        last = unit.write(next((value for value in reversed(line.values) if value is not None), None))
        swatch = (
            f'<svg class="swatch" viewBox="0 0 26 8" aria-hidden="true"><path class="line {line.style}" d="M1 4H25"/>'
        )
        words = f"{swatch}</svg>{escape(line.name)} <b>{escape(last)}</b>"
        parts.append(f'<label class="k-{line.style}"><input type="checkbox" checked>{words}</label>')
    return f'<div class="legend" role="group" aria-label="lines shown">{"".join(parts)}</div>'
