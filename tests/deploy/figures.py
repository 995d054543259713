"""Texts and colours of values, near enough to how Grafana writes and paints them for a picture of a dashboard."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

COLORS = {
    "text": "#ccccdc", "green": "#73bf69", "yellow": "#fade2a", "orange": "#ff9830", "red": "#f2495c",
    "blue": "#5794f2", "purple": "#b877d9", "transparent": "none", "dark-orange": "#fa6400",
}  # fmt: skip
CLASSIC = ("#7eb26d", "#eab839", "#6ed0e0", "#ef843c", "#e24d42", "#1f78c1", "#ba43a9", "#705da0")
NOTHING = "#2b2d33"
"""Colour of a place where there is nothing."""
_SAME = 1e-9
_TIMES = (
    (1e-3, 1e-6, "µs"), (1.0, 1e-3, "ms"), (60.0, 1.0, "s"), (3_600.0, 60.0, "mins"), (86_400.0, 3_600.0, "hours"),
    (604_800.0, 86_400.0, "days"), (31_536_000.0, 604_800.0, "weeks"), (math.inf, 31_536_000.0, "years"),
)  # fmt: skip
_SECONDS = _TIMES[2]
_BYTES = ("B", "KiB", "MiB", "GiB", "TiB")
_THOUSANDS = ("", " K", " Mil", " Bil")


@dataclass(slots=True, kw_only=True)
class Look:
    """How a series is shown, from the defaults of its panel and the overrides for its name."""

    name: str
    unit: str
    decimals: int | None = None
    color: str = ""
    steps: Sequence[tuple[float | None, str]] = ()
    names: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    is_dashed: bool = False
    width: float = 2.0
    fill: float = 0.0
    is_below: bool = False

    def text(self, value: float | str) -> str:
        """Return a value as a person reads it."""
        if isinstance(value, str):
            return self.names.get(value, (value, ""))[0]
        named = self.names.get(f"{value:g}")
        return written(value, self.unit, self.decimals) if named is None else named[0]

    def paint(self, value: float | str) -> str:
        """Return the colour of a value."""
        key = value if isinstance(value, str) else f"{value:g}"
        if key in self.names:
            return COLORS[self.names[key][1]]
        if self.color or isinstance(value, str):
            return self.color or COLORS["text"]
        reached = [color for bound, color in self.steps if bound is None or value >= bound]
        return COLORS[reached[-1]] if reached else COLORS["text"]


def look(panel: Mapping[str, Any], name: str) -> Look:
    """Return how a panel shows the series of that name."""
    defaults = panel["fieldConfig"]["defaults"]
    custom = defaults.get("custom", {})
    made = Look(
        name=name,
        unit=defaults["unit"],
        decimals=defaults.get("decimals"),
        steps=_steps(defaults["thresholds"]),
        names=_names(defaults["mappings"]),
        width=custom.get("lineWidth", 2.0),
        fill=custom.get("fillOpacity", 0.0) / 100.0,
    )
    for override in panel["fieldConfig"]["overrides"]:
        if _matches(override["matcher"], name):
            for change in override["properties"]:
                _apply(made, change["id"], change["value"])
    return made


def _apply(made: Look, change: str, value: Any) -> None:
    match change:
        case "color":
            made.color = COLORS[value["fixedColor"]]
        case "unit":
            made.unit = value
        case "decimals":
            made.decimals = value
        case "custom.lineStyle":
            made.is_dashed = value["fill"] == "dash"
        case "custom.lineWidth":
            made.width = value
        case "custom.fillOpacity":
            made.fill = value / 100.0
        case "custom.transform":
            made.is_below = value == "negative-Y"
        case "mappings":
            made.names = _names(value)
        case "custom.cellOptions" | "custom.width" | "links":
            pass  # of tables, whose cells are all drawn alike
        case _:
            raise ValueError(f"{change} cannot be drawn yet")


def _matches(matcher: Mapping[str, str], name: str) -> bool:
    pattern = matcher["options"]
    return pattern == name if matcher["id"] == "byName" else re.search(pattern.strip("/"), name) is not None


def _steps(thresholds: Mapping[str, Any]) -> Sequence[tuple[float | None, str]]:
    return [(step["value"], step["color"]) for step in thresholds["steps"]]


def _names(mappings: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, str]]:
    options = {key: value for mapping in mappings for key, value in mapping["options"].items()}
    return {key: (value["text"], value["color"]) for key, value in options.items()}


def written(value: float, unit: str, decimals: int | None) -> str:
    """Return a figure in a unit of Grafana's, with so many decimals, None for as many as it needs."""
    match unit:
        case "percentunit":
            return f"{value * 100.0:.{_places(value * 100.0, decimals)}f}%"
        case "s":
            _, size, name = next(scale for scale in _TIMES if abs(value) < scale[0]) if value else _SECONDS
            return f"{value / size:.{_places(value / size, decimals)}f} {name}"
        case "bytes":
            power = min(len(_BYTES) - 1, int(math.log(max(abs(value), 1.0), 1024.0)))
            return f"{value / 1024.0**power:.{_places(value / 1024.0**power, decimals)}f} {_BYTES[power]}"
        case "locale":
            return f"{value:,.{_places(value, decimals)}f}"
        case "short" | "wps":
            power = min(len(_THOUSANDS) - 1, int(math.log(max(abs(value), 1.0), 1_000.0)))
            scaled = value / 1_000.0**power
            text = f"{scaled:.{_places(scaled, decimals)}f}{_THOUSANDS[power]}"
            return text + (" wr/s" if unit == "wps" else "")
        case "none":
            return f"{value:.{_places(value, decimals)}f}"
        case _:
            raise ValueError(f"{unit} cannot be written yet")


def _places(value: float, decimals: int | None) -> int:
    if decimals is not None:
        return decimals
    if abs(value - round(value)) < _SAME:
        return 0
    return min(6, max(0, 2 - math.floor(math.log10(abs(value)))))


def graded(value: float, least: float, most: float) -> str:
    """Return a colour from green over yellow to red."""
    share = 0.0 if most <= least else min(1.0, max(0.0, (value - least) / (most - least)))
    stops = ((115, 191, 105), (250, 222, 42), (242, 73, 92))
    low, high, part = (stops[0], stops[1], share * 2.0) if share < 0.5 else (stops[1], stops[2], share * 2.0 - 1.0)
    return "#" + "".join(f"{round(a + (b - a) * part):02x}" for a, b in zip(low, high, strict=True))
