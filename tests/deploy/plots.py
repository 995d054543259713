"""One panel as SVG: what its queries answered, in the place that it has on its dashboard."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.deploy.figures import COLORS, look
from tests.deploy.graphs import heatmap, lines, states
from tests.deploy.seen import Box, Seen, Series, merged, series_of
from tests.deploy.strokes import DIM, GRID, LETTER, area, bar, line, scale, text

_BRIGHT = frozenset({COLORS["green"], COLORS["yellow"], COLORS["orange"]})
_HEADER, _CELL = 20, 26
"""Pixels: of the head of a table, and of its rows."""


def draw(panel: Mapping[str, Any], seen: Seen, box: Box) -> str:
    """Return the inside of a panel."""
    if panel["type"] == "table":
        return _table(panel, seen, box)
    series = series_of(panel, seen)
    if not series:
        words = panel["fieldConfig"]["defaults"].get("noValue", "No data")
        return text((box.width / 2, box.height / 2 + 5), words, size=16, color=DIM, anchor="middle")
    return _KINDS[panel["type"]](panel, series, seen, box)


# ---- figures ----------------------------------------------------------------------------------------------------
def _stat(panel: Mapping[str, Any], series: Sequence[Series], _seen: Seen, box: Box) -> str:
    part, is_one = Box(width=box.width / len(series), height=box.height), len(series) == 1
    return "".join(
        f'<g transform="translate({number * part.width:.1f} 0)">{_figure(panel, own, part, is_one=is_one)}</g>'
        for number, own in enumerate(series)
    )


def _figure(panel: Mapping[str, Any], own: Series, box: Box, *, is_one: bool) -> str:
    options = panel["options"]
    words = own.look.name if options["textMode"] == "name" else own.look.text(own.last)
    color, parts = own.look.paint(own.last), []
    if options["colorMode"].startswith("background"):
        parts.append(bar((-8, -30), box.width + 16, box.height + 38, color))
        color = "#111217" if color in _BRIGHT else "#ffffff"
    if options["graphMode"] == "area":
        parts.append(_sparkline(own, color, box))
    below = own.look.name if not is_one else _change(own) if options["showPercentChange"] else ""
    size = min(36.0, (box.width - 16) / len(words) / 0.58, box.height * 0.62)
    y = box.height / 2 + size * 0.35 - (12 if below else 0)
    parts.append(text((box.width / 2, y), words, size=size, color=color, anchor="middle", weight=600))
    if below and options["textMode"] != "name":
        paint = DIM if not is_one else COLORS["red"] if below.startswith("-") else COLORS["green"]
        parts.append(text((box.width / 2, y + 20), below, size=13, color=paint, anchor="middle"))
    return "".join(parts)


def _change(own: Series) -> str:
    return f"{(own.last / own.samples[0][1] - 1.0) * 100.0:+.2f}%"


def _sparkline(own: Series, color: str, box: Box) -> str:
    values = [value for _, value in own.samples]
    right = scale(own.samples[0][0], own.samples[-1][0], 0.0, box.width)
    up = scale(min(values), max(values), box.height, box.height * 0.7)
    points = [(right(at), up(value)) for at, value in own.samples]
    return area(points, box.height, color, 0.15) + line(points, color, 1.0)


def _gauges(panel: Mapping[str, Any], series: Sequence[Series], _seen: Seen, box: Box) -> str:
    asked, values = panel["fieldConfig"]["defaults"], [own.last for own in series]
    least, most = asked.get("min", min(0.0, *values, 0.0)), asked.get("max", max(*values, 0.0))
    left = min(box.width * 0.42, max(len(own.look.name) for own in series) * LETTER * 1.15 + 10)
    room, height = box.width - left - 64, min(box.height / len(series), 44.0)
    length = scale(least, most, 0.0, room)
    parts = []
    for number, own in enumerate(series):
        y, color = number * height, own.look.paint(own.last)
        parts += [
            text((left - 8, y + height / 2 + 4), own.look.name, size=12, anchor="end"),
            bar((left, y + 3), room, height - 6, GRID),
            bar((left, y + 3), max(1.0, min(room, length(own.last))), height - 6, color, 0.85),
            text((box.width, y + height / 2 + 5), own.look.text(own.last), size=14, color=color, anchor="end"),
        ]
    return "".join(parts)


# ---- tables -----------------------------------------------------------------------------------------------------
def _table(panel: Mapping[str, Any], seen: Seen, box: Box) -> str:
    shown = panel["transformations"][1]["options"]
    names = sorted(shown["indexByName"], key=shown["indexByName"].__getitem__)
    rows, width = _ordered(panel, merged(seen.answers)), box.width / len(names)
    parts = [bar((0, _HEADER + _CELL * number), box.width, 1, GRID) for number in range(len(rows) + 1)]
    for place, name in enumerate(names):
        own = look(panel, shown["renameByName"][name])
        parts.append(text((place * width + 4, _HEADER - 6), own.name, size=12, color=COLORS["blue"]))
        for number, row in enumerate(rows):
            value, y = row.get(name, ""), _HEADER + _CELL * number + 18
            parts.append(text((place * width + 4, y), own.text(value), size=13, color=own.paint(value)))
    return "".join(parts)


def _ordered(panel: Mapping[str, Any], rows: list[dict[str, float | str]]) -> list[dict[str, float | str]]:
    titles = panel["transformations"][1]["options"]["renameByName"]
    for order in panel["options"]["sortBy"]:
        name = next(name for name, title in titles.items() if title == order["displayName"])
        rows.sort(key=lambda row: row[name], reverse=order["desc"])
    return rows


_KINDS: Mapping[str, Callable[[Mapping[str, Any], Sequence[Series], Seen, Box], str]] = {
    "stat": _stat,
    "bargauge": _gauges,
    "timeseries": lines,
    "state-timeline": states,
    "heatmap": heatmap,
}
