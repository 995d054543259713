"""The kinds of panels that the dashboards are made of, and the JSON that Grafana reads of each.

Only what differs from panel to panel is a field here; all else is said once, so that every panel looks alike. Values
and names are those of Grafana 13's own schema, against which a test holds all that comes out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from deploy.grafana.queries import SOURCE, Query

Json = dict[str, Any]
Steps = Sequence[tuple[float | None, str]]
"""Lower bounds and the colours from them on; the first bound is None."""
Names = Mapping[str, tuple[str, str]]
"""What stands for a value, and in which colour."""
PLAIN: Steps = ((None, "text"),)
_NOT_HIDDEN = {"legend": False, "tooltip": False, "viz": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """How one series, or one column of a table, differs from what its panel says.

    name: as its legend says, or /a regular expression/ for several.  fill: below the line, percent.  is_below: drawn
    below zero.  cell: how the cells of a column are shown.  link: title and URL that a click on a cell leads to.
    pixels: width of a column.
    """

    name: str
    color: str = ""
    unit: str = ""
    decimals: int | None = None
    names: Names | None = None
    is_dashed: bool = False
    width: float | None = None
    fill: int | None = None
    is_below: bool = False
    cell: Mapping[str, Any] | None = None
    link: tuple[str, str] | None = None
    pixels: int | None = None

    def to_json(self) -> Json:
        """Return it as an override."""
        is_pattern = self.name.startswith("/")
        properties = [{"id": name, "value": value} for name, value in self._properties().items()]
        return {
            "matcher": {"id": "byRegexp" if is_pattern else "byName", "options": self.name},
            "properties": properties,
        }

    def _properties(self) -> Json:
        asked = {
            "color": {"mode": "fixed", "fixedColor": self.color} if self.color else None,
            "unit": self.unit or None,
            "decimals": self.decimals,
            "custom.lineStyle": {"fill": "dash", "dash": [6, 6]} if self.is_dashed else None,
            "custom.lineWidth": self.width,
            "custom.fillOpacity": self.fill,
            "custom.transform": "negative-Y" if self.is_below else None,
            "mappings": None if self.names is None else mappings(self.names),
            "custom.cellOptions": self.cell,
            "links": None if self.link is None else [{"title": self.link[0], "url": self.link[1]}],
            "custom.width": self.pixels,
        }
        return {name: value for name, value in asked.items() if value is not None}


def thresholds(steps: Steps) -> Json:
    """Return colours by value."""
    return {"mode": "absolute", "steps": [{"value": value, "color": color} for value, color in steps]}


def mappings(names: Names) -> list[Json]:
    """Return texts that stand for values."""
    options = {
        value: {"text": text, "color": color, "index": index}
        for index, (value, (text, color)) in enumerate(names.items())
    }
    return [{"type": "value", "options": options}]


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """What all kinds share.

    shows, good, otherwise: what it shows, how it looks while all is well, and what to do when it does not; together
    the description that Grafana shows beside the title.  width: of 24 columns.  height: in rows of 38 pixels.
    runbook: alerts whose entries tell what to do.  unit: one of Grafana's.  least, most: of the scale.  steps: colours
    by value.  names: texts instead of values.  none: what stands there when there is no value, "" for Grafana's own.
    """

    title: str
    shows: str
    good: str
    otherwise: str
    width: int
    height: int
    queries: Sequence[Query]
    runbook: Sequence[str] = ()
    unit: str = "none"
    decimals: int | None = None
    least: float | None = None
    most: float | None = None
    steps: Steps = PLAIN
    names: Names | None = None
    series: Sequence[Series] = ()
    none: str = ""

    kind: ClassVar[str]
    form: ClassVar[str] = "time_series"
    is_over_time: ClassVar[bool] = False

    @property
    def description(self) -> str:
        """What Grafana shows beside the title, as Markdown."""
        return f"{self.shows}\n\n**Good:** {self.good}\n\n**Otherwise:** {self.otherwise}"

    def to_json(self) -> Json:
        """Return the panel without its number, its place and its links."""
        return {
            "type": self.kind,
            "title": self.title,
            "description": self.description,
            "datasource": SOURCE,
            "targets": [
                query.to_json(number, self.form, is_instant=self._is_instant(), is_finite=not self.is_over_time)
                for number, query in enumerate(self.queries)
            ],
            "options": self._options(),
            "fieldConfig": {"defaults": self._defaults(), "overrides": [own.to_json() for own in self.series]},
            "transformations": self._transformations(),
        }

    def _defaults(self) -> Json:
        """Return how values look."""
        optional = {"decimals": self.decimals, "min": self.least, "max": self.most, "noValue": self.none or None}
        return {
            "unit": self.unit,
            "color": {"mode": self._coloring()},
            "thresholds": thresholds(self.steps),
            "mappings": [] if self.names is None else mappings(self.names),
            "custom": self._custom(),
            **{name: value for name, value in optional.items() if value is not None},
        }

    def _options(self) -> Json:
        """Return what the kind asks for."""
        raise NotImplementedError

    def _is_instant(self) -> bool:
        """Tell whether only what holds at the end of the span is asked for."""
        return not self.is_over_time

    def _coloring(self) -> str:
        """Return where colours come from."""
        return "thresholds"

    def _custom(self) -> Json:
        """Return what the kind asks for of every value."""
        return {}

    def _transformations(self) -> list[Json]:
        """Return what is done with the answers before they are shown."""
        return []


@dataclass(frozen=True, slots=True, kw_only=True)
class Stat(Panel):
    """One figure, or a few.

    has_line: its course behind it.  is_filled: the panel has the colour, not the figure.  shows_change: over the span
    that is looked at.  shows_name: the legend instead of the value.
    """

    kind = "stat"
    has_line: bool = False
    is_filled: bool = False
    shows_change: bool = False
    shows_name: bool = False

    def _is_instant(self) -> bool:
        return not self.has_line

    def _options(self) -> Json:
        return {
            "colorMode": "background_solid" if self.is_filled else "value",
            "graphMode": "area" if self.has_line else "none",
            "justifyMode": "auto",
            "orientation": "auto",
            "percentChangeColorMode": "standard",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "showPercentChange": self.shows_change,
            "textMode": "name" if self.shows_name else "auto",
            "wideLayout": True,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauges(Panel):
    """Bars from left to right, one for each series."""

    kind = "bargauge"

    def _options(self) -> Json:
        return {
            "displayMode": "basic",
            "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": False},
            "maxVizHeight": 60,
            "minVizHeight": 16,
            "minVizWidth": 8,
            "namePlacement": "left",
            "orientation": "horizontal",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "showUnfilled": True,
            "sizing": "auto",
            "valueMode": "color",
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines(Panel):
    """Figures over time.

    drawn: line or bars.  is_stepped: a value holds until the next.  is_stacked: on top of each other.  fill: below the
    line, percent.  log: base of a logarithmic scale, 0 for a linear one.
    """

    kind = "timeseries"
    is_over_time = True
    drawn: str = "line"
    is_stepped: bool = False
    is_stacked: bool = False
    fill: int = 0
    log: int = 0

    def _options(self) -> Json:
        return {
            "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }

    def _coloring(self) -> str:
        return "palette-classic"

    def _custom(self) -> Json:
        return {
            "axisPlacement": "auto",
            "barAlignment": 0,
            "drawStyle": self.drawn,
            "fillOpacity": self.fill,
            "gradientMode": "none",
            "hideFrom": _NOT_HIDDEN,
            "lineInterpolation": "stepAfter" if self.is_stepped else "linear",
            "lineWidth": 1 if self.drawn == "bars" else 2,
            "pointSize": 4,
            "scaleDistribution": {"type": "log", "log": self.log} if self.log else {"type": "linear"},
            "showPoints": "never" if self.drawn == "bars" else "auto",
            "spanNulls": False,
            "stacking": {"mode": "normal" if self.is_stacked else "none", "group": "A"},
            "thresholdsStyle": {"mode": "off" if self.steps is PLAIN else "dashed"},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class States(Panel):
    """What holds when, a row for each series. is_graded: colours go from green to red between `least` and `most`."""

    kind = "state-timeline"
    is_over_time = True
    is_graded: bool = False

    def _options(self) -> Json:
        return {
            "alignValue": "left",
            "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": False},
            "mergeValues": True,
            "rowHeight": 0.85,
            "showValue": "never",
            "tooltip": {"mode": "single", "sort": "none"},
        }

    def _coloring(self) -> str:
        return "continuous-GrYlRd" if self.is_graded else "thresholds"

    def _custom(self) -> Json:
        return {"fillOpacity": 80, "hideFrom": _NOT_HIDDEN, "lineWidth": 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Heatmap(Panel):
    """How often which values came, over time: the buckets of a histogram."""

    kind = "heatmap"
    is_over_time = True
    form = "heatmap"

    def _options(self) -> Json:
        return {
            "calculate": False,
            "cellGap": 1,
            "color": {
                "exponent": 0.5,
                "fill": "dark-orange",
                "mode": "scheme",
                "reverse": False,
                "scale": "exponential",
                "scheme": "Oranges",
                "steps": 64,
            },
            "exemplars": {"color": "rgba(255,0,255,0.7)"},
            "filterValues": {"le": 1e-9},
            "legend": {"show": True},
            "rowsFrame": {"layout": "auto"},
            "showValue": "never",
            "tooltip": {"mode": "single", "showColorScale": False, "yHistogram": False},
            "yAxis": {"axisPlacement": "left", "reverse": False, "unit": self.unit},
        }

    def _custom(self) -> Json:
        return {"hideFrom": _NOT_HIDDEN, "scaleDistribution": {"type": "linear"}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Table(Panel):
    """What holds now, a row for each combination of labels.

    columns: those shown, from what they are called in the answer to their titles; the value of the first of several
    queries is called "Value #A".  by: the title it is ordered by.  Answers to several queries become one row where all
    labels that they share agree, the name of the metric among them: `max by (label) (...)` drops it.
    """

    kind = "table"
    form = "table"
    columns: Mapping[str, str]
    by: str = ""
    is_falling: bool = False

    def _options(self) -> Json:
        order = [{"displayName": self.by, "desc": self.is_falling}] if self.by else []
        return {"cellHeight": "sm", "frameIndex": 0, "showHeader": True, "sortBy": order}

    def _custom(self) -> Json:
        return {"align": "auto", "cellOptions": {"type": "auto"}, "inspect": False}

    def _transformations(self) -> list[Json]:
        order = {name: place for place, name in enumerate(self.columns)}
        shown = {
            "excludeByName": {},
            "includeByName": dict.fromkeys(self.columns, True),
            "indexByName": order,
            "renameByName": dict(self.columns),
        }
        return [{"id": "merge", "options": {}}, {"id": "organize", "options": shown}]
