"""Panels over time as SVG: lines and bars, what held when, and how often which values came."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.deploy.figures import COLORS, NOTHING, graded, written
from tests.deploy.prometheus_server import SCRAPE_S
from tests.deploy.seen import Box, Seen, Series
from tests.deploy.strokes import DIM, GRID, LETTER, Point, area, bar, line, scale, text

_LEFT, _LEGEND, _AXIS, _CLOCK = 62, 22, 18, 78
"""Pixels: beside a graph, for the legend and the times below it, and what a time of day takes."""
_TICKS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plane:
    """Where times and values lie. right, up: from them to pixels.  floor: from where bars and areas begin."""

    right: Callable[[float], float]
    up: Callable[[float], float]
    floor: float
    wide: float


# ---- lines and bars ---------------------------------------------------------------------------------------------
def lines(panel: Mapping[str, Any], series: Sequence[Series], seen: Seen, box: Box) -> str:
    custom = panel["fieldConfig"]["defaults"]["custom"]
    graph = Box(width=box.width, height=box.height - _LEGEND)
    spans = _spans(series, is_stacked=custom["stacking"]["mode"] == "normal")
    values = [high for own in spans for _, _, high in own]
    is_log = custom["scaleDistribution"]["type"] == "log"
    if is_log:
        ticks = _powers(values)
        linear = scale(math.log10(ticks[0]), math.log10(ticks[-1]), graph.height - _AXIS, 4.0)
        up, floor = (lambda value: linear(math.log10(value))), graph.height - _AXIS
    else:
        low, high = _bounds(panel, [*values, *([0.0] if custom["drawStyle"] == "bars" else [])])
        ticks, up = _rounds(low, high), scale(low, high, graph.height - _AXIS, 4.0)
        floor = up(min(max(low, 0.0), high))
    right = _times(seen, graph.width)
    step = right(seen.span.start_s + seen.span.step_s) - right(seen.span.start_s)
    plane = _Plane(right=right, up=up, floor=floor, wide=max(1.0, step * 0.9))
    unit = panel["fieldConfig"]["defaults"]["unit"]
    parts = [_axis(up(tick), written(tick, unit, None), graph.width) for tick in ticks]
    parts += [_clock(seen, graph, right), _marked(seen, graph, right)]
    for own, covered in reversed(list(zip(series, spans, strict=True))):
        shown = [(at, low, high) for at, low, high in covered if not is_log or high > 0.0]
        parts.append(_bars(own, shown, plane) if custom["drawStyle"] == "bars" else _line(own, shown, plane, custom))
    return "".join(parts) + _legend(series, graph, box.width)


def _spans(series: Sequence[Series], *, is_stacked: bool) -> list[list[tuple[float, float, float]]]:
    """Return time, lower and upper end of each sample; stacked ones begin where those before them end."""
    tops = dict[float, float]()
    spans = []
    for own in series:
        sign = -1.0 if own.look.is_below else 1.0
        covered = []
        for at, value in own.samples:
            base = tops.get(at, 0.0) if is_stacked else 0.0
            tops[at] = base + sign * value
            covered.append((at, base, base + sign * value))
        spans.append(covered)
    return spans


def _bars(own: Series, spans: Sequence[tuple[float, float, float]], plane: _Plane) -> str:
    parts = []
    for at, low, high in spans:
        top, foot = sorted((plane.up(high), plane.up(low)))
        if foot > top:
            parts.append(bar((plane.right(at) - plane.wide / 2, top), plane.wide, foot - top, own.color, 0.85))
    return "".join(parts)


def _line(own: Series, spans: Sequence[tuple[float, float, float]], plane: _Plane, custom: Mapping[str, Any]) -> str:
    parts = []
    for run in _runs(spans):
        points = [(plane.right(at), plane.up(high)) for at, _, high in run]
        if custom["lineInterpolation"] == "stepAfter":
            points = _stepped(points)
        if own.look.fill:
            parts.append(area(points, plane.floor, own.color, own.look.fill))
        parts.append(line(points, own.color, own.look.width, is_dashed=own.look.is_dashed))
    return "".join(parts)


def _runs(spans: Sequence[tuple[float, float, float]]) -> list[list[tuple[float, float, float]]]:
    """Return samples in pieces that nothing interrupts."""
    runs = list[list[tuple[float, float, float]]]()
    for sample in spans:
        if runs and sample[0] - runs[-1][-1][0] < 2.0 * SCRAPE_S:
            runs[-1].append(sample)
        else:
            runs.append([sample])
    return runs


def _stepped(points: Sequence[Point]) -> list[Point]:
    following = [*points[1:], points[-1]]
    return [corner for (x, y), (after, _) in zip(points, following, strict=True) for corner in ((x, y), (after, y))]


def _bounds(panel: Mapping[str, Any], values: Sequence[float]) -> tuple[float, float]:
    """Return the ends of the scale: those that the panel asks for, or some room around the values."""
    asked, low, high = panel["fieldConfig"]["defaults"], min(values), max(values)
    room = (high - low) * 0.06 or abs(high) * 0.05 or 1.0
    low = asked.get("min", 0.0 if low == 0.0 else low - room)
    high = asked.get("max", 0.0 if high == 0.0 and low < 0.0 else high + room)
    return low, high if high > low else low + 1.0


def _rounds(low: float, high: float) -> list[float]:
    rough = (high - low) / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1.0, 2.0, 5.0, 10.0) if power * factor >= rough)
    return [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _powers(values: Sequence[float]) -> list[float]:
    positive = [value for value in values if value > 0.0] or [1.0]
    low, high = math.floor(math.log10(min(positive))), math.ceil(math.log10(max(positive)))
    return [10.0**power for power in range(low, max(high, low + 1) + 1)]


# ---- what held when ---------------------------------------------------------------------------------------------
def states(panel: Mapping[str, Any], series: Sequence[Series], seen: Seen, box: Box) -> str:
    is_graded = panel["fieldConfig"]["defaults"]["color"]["mode"].startswith("continuous")
    most = max(value for own in series for _, value in own.samples)
    left = max(len(own.look.name) for own in series) * LETTER + 10
    height = (box.height - _AXIS) / len(series)
    right = scale(seen.span.start_s, seen.span.end_s, left, box.width)
    parts = [_clock(seen, box, right)]
    for number, own in enumerate(series):
        y = number * height
        parts.append(text((left - 8, y + height / 2 + 4), own.look.name, size=min(12.0, height), anchor="end"))
        for start, end, value in _held(own, seen.span.end_s):
            color = graded(value, 0.0, most) if is_graded else own.look.paint(value)
            color = NOTHING if color == "none" else color
            parts.append(bar((right(start), y + 1), right(end) - right(start), height - 2, color, 0.8))
    return "".join(parts)


def _held(own: Series, end_s: float) -> list[tuple[float, float, float]]:
    """Return spans in which one value held."""
    held = list[tuple[float, float, float]]()
    for (at, value), (after, _) in zip(own.samples, [*own.samples[1:], (end_s, 0.0)], strict=True):
        if held and held[-1][2] == value:
            held[-1] = (held[-1][0], after, value)
        else:
            held.append((at, after, value))
    return held


# ---- how often --------------------------------------------------------------------------------------------------
def heatmap(_panel: Mapping[str, Any], series: Sequence[Series], seen: Seen, box: Box) -> str:
    """Return the buckets of a histogram, of which each holds those below it too."""
    buckets = sorted((float(own.labels["le"]), dict(own.samples)) for own in series)
    height, right = (box.height - _AXIS) / len(buckets), _times(seen, box.width)
    wide = right(seen.span.start_s + seen.span.step_s) - right(seen.span.start_s)
    cells = [
        (number, at, count - (buckets[number - 1][1].get(at, 0.0) if number else 0.0))
        for number, (_, samples) in enumerate(buckets)
        for at, count in samples.items()
    ]
    most = max(count for _, _, count in cells) or 1.0
    parts = [_clock(seen, box, right)]
    for number, (bound, _) in enumerate(buckets):
        name, y = "+Inf" if math.isinf(bound) else written(bound, "s", None), (len(buckets) - number - 0.5) * height
        parts.append(text((_LEFT - 6, y + 4), name, size=10, color=DIM, anchor="end"))
    for number, at, count in cells:
        if count > 0.0:
            corner = (right(at), (len(buckets) - number - 1) * height + 0.5)
            parts.append(bar(corner, wide, height - 1, COLORS["dark-orange"], 0.15 + 0.85 * math.sqrt(count / most)))
    return "".join(parts)


# ---- around a graph ---------------------------------------------------------------------------------------------
def _times(seen: Seen, width: float) -> Callable[[float], float]:
    return scale(seen.span.start_s, seen.span.end_s, _LEFT, width)


def _axis(y: float, words: str, width: float) -> str:
    rule = f'<line x1="{_LEFT}" x2="{width}" y1="{y:.1f}" y2="{y:.1f}" stroke="{GRID}"/>'
    return rule + text((_LEFT - 6, y + 4), words, size=11, color=DIM, anchor="end")


def _clock(seen: Seen, graph: Box, right: Callable[[float], float]) -> str:
    span_s, room = seen.span.end_s - seen.span.start_s, max(1.0, (graph.width - _LEFT) / _CLOCK)
    every = next(step for step in (5, 10, 15, 30, 60, 120, 300, 600, 1_800, 3_600, 7_200) if span_s / step <= room)
    parts = []
    for at in range(math.ceil(seen.span.start_s / every) * every, int(seen.span.end_s) + 1, every):
        if right(seen.span.start_s) + 20 < right(at) < graph.width - 20:
            words = f"{at // 3_600 % 24:02d}:{at // 60 % 60:02d}:{at % 60:02d}"
            parts.append(text((right(at), graph.height - 3), words, size=11, color=DIM, anchor="middle"))
    return "".join(parts)


def _marked(seen: Seen, graph: Box, right: Callable[[float], float]) -> str:
    parts = []
    for at, color in seen.marks:
        if seen.span.start_s <= at <= seen.span.end_s:
            x, foot, paint = right(at), graph.height - _AXIS, COLORS[color]
            parts.append(
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{foot}" stroke="{paint}" stroke-dasharray="3 3"/>'
            )
            parts.append(f'<path d="M{x - 4:.1f} {foot + 5} h8 l-4 -6 z" fill="{paint}"/>')
    return "".join(parts)


def _legend(series: Sequence[Series], graph: Box, width: float) -> str:
    parts, x, y = list[str](), float(_LEFT), graph.height + _LEGEND - 8
    for own in series:
        wide = 24 + len(own.look.name) * LETTER
        if x + wide <= width or x == _LEFT:
            parts += [bar((x, y - 5), 12, 3, own.color), text((x + 17, y), own.look.name, size=11)]
            x += wide + 8
    return "".join(parts)
