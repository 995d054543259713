"""A dashboard: its rows of panels, what is chosen above them, its links and what is marked in its graphs."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from deploy.grafana.queries import SOURCE, own

Json = dict[str, Any]
COLUMNS = 24
SCHEMA_VERSION = 42
"""Of the dashboards of Grafana 13; older ones read what they know of it."""
TAG = "sacd"
RUNBOOK = "sacd-runbook"
BOARDS = {
    "Trading": "sacd-trading",
    "Decisions": "sacd-decisions",
    "Models": "sacd-models",
    "Health": "sacd-health",
    "Runbook": RUNBOOK,
}
"""All of them by what links call them."""


class Placed(Protocol):
    """What takes a place on a dashboard."""

    @property
    def title(self) -> str:
        """What stands above it."""
        ...

    @property
    def width(self) -> int:
        """Of 24 columns."""
        ...

    @property
    def height(self) -> int:
        """In rows of 38 pixels."""
        ...

    @property
    def runbook(self) -> Sequence[str]:
        """Alerts whose entries in the runbook say what to do about it."""
        ...

    def to_json(self) -> Json:
        """Return it without its number, its place and its links."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Panels under a headline, from left to right, in as many lines as they need. title: "" for no headline."""

    title: str = ""
    panels: Sequence[Placed]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Something that is marked in all graphs of a dashboard.

    expr: is above zero while it goes on; or, where is_moment is true, the milliseconds of the moment it happened.
    """

    name: str
    expr: str
    color: str
    text: str
    is_moment: bool = False

    def to_json(self) -> Json:
        """Return it as an annotation."""
        return {
            "datasource": SOURCE,
            "enable": True,
            "hide": False,
            "iconColor": self.color,
            "name": self.name,
            "target": {"expr": self.expr, "interval": "", "refId": "Anno"},
            "tagKeys": "",
            "textFormat": self.text,
            "titleFormat": self.name,
            "useValueForTime": self.is_moment,
        }


MARKS = (
    Mark(
        name="Another ensemble",
        expr=f"{own('sacd_model_serving_since_timestamp_seconds')} * 1000 > 0",
        color="blue",
        text="From here on another ensemble decides: sacd: models says which, and why.",
        is_moment=True,
    ),
    Mark(
        name="Halted",
        expr=f"{own('sacd_trading_state', state='halted')} == 1",
        color="red",
        text="The drawdown reached its limit: everything was sold, nothing was bought.",
    ),
    Mark(
        name="Started",
        expr=f"{own('sacd_started_timestamp_seconds')} * 1000 > 0",
        color="purple",
        text="sacd was ready for its first candle.",
        is_moment=True,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Something that is chosen above the panels. query: of values.  has_all: several may be chosen, or all."""

    name: str
    label: str
    text: str
    query: str
    has_all: bool = False
    is_hidden: bool = False

    def to_json(self) -> Json:
        """Return it as a variable."""
        several = {"includeAll": True, "multi": True, "allValue": ".+"} if self.has_all else {}
        return {
            "current": {"text": ["All"], "value": ["$__all"]} if self.has_all else {"text": "", "value": ""},
            "datasource": SOURCE,
            "description": self.text,
            "hide": 2 if self.is_hidden else 0,
            "label": self.label,
            "name": self.name,
            "query": {"qryType": 1, "query": self.query, "refId": "PrometheusVariableQueryEditor-VariableQuery"},
            "refresh": 2,
            "sort": 1,
            "type": "query",
            **several,
        }


ACCOUNT = Choice(
    name="instance",
    label="Account",
    text="Which sacd; the label `instance` in Prometheus' scrape configuration.",
    query="label_values(sacd_instance_info, instance)",
)
SYMBOL = Choice(
    name="symbol",
    label="Symbol",
    text="Which of the symbols it trades.",
    query='label_values(sacd_candles_total{instance="$instance"}, symbol)',
    has_all=True,
)
QUOTE = Choice(
    name="quote",
    label="Quote",
    text="The currency that the symbols are paid in.",
    query='label_values(sacd_instance_info{instance="$instance"}, quote)',
    is_hidden=True,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """A dashboard. uid: by which links find it, for good.  span: that is looked at to begin with, such as 7d."""

    uid: str
    title: str
    description: str
    rows: Sequence[Row]
    span: str = "24h"
    choices: Sequence[Choice] = ()
    marks: Sequence[Mark] = MARKS

    def to_json(self, entries: Mapping[str, int]) -> Json:
        """Return the dashboard as Grafana reads it. entries: number of the panel of each alert in the runbook."""
        return {
            "annotations": {"list": [_BUILT_IN, *(mark.to_json() for mark in self.marks)]},
            "description": self.description,
            "editable": True,
            "fiscalYearStartMonth": 0,
            "graphTooltip": 1,
            "id": None,
            "links": [_link(title, uid) for title, uid in BOARDS.items() if uid != self.uid],
            "panels": list(self._panels(entries)),
            "refresh": "30s",
            "schemaVersion": SCHEMA_VERSION,
            "tags": [TAG],
            "templating": {"list": [_SOURCES, *(choice.to_json() for choice in self.choices)] if self.choices else []},
            "time": {"from": f"now-{self.span}", "to": "now"},
            "timepicker": {},
            "timezone": "utc",
            "title": self.title,
            "uid": self.uid,
            "version": 1,
            "weekStart": "monday",
        }

    def numbered(self) -> Iterator[tuple[int, Row | Placed]]:
        """Yield all that takes a place, headlines too, with the numbers by which links find them."""
        parts = (part for row in self.rows for part in ([row] if row.title else []) + list(row.panels))
        yield from enumerate(parts, start=1)

    def _panels(self, entries: Mapping[str, int]) -> Iterator[Json]:
        floor = [0] * COLUMNS
        for number, part in self.numbered():
            if isinstance(part, Row):
                place = {"x": 0, "y": max(floor), "w": COLUMNS, "h": 1}
                floor = [max(floor) + 1] * COLUMNS
                yield {
                    "type": "row",
                    "title": part.title,
                    "collapsed": False,
                    "id": number,
                    "gridPos": place,
                    "panels": [],
                }
                continue
            x, y = _place(floor, part.width)
            floor[x : x + part.width] = [y + part.height] * part.width
            place = {"x": x, "y": y, "w": part.width, "h": part.height}
            links = [_entry_link(alert, entries[alert]) for alert in part.runbook]
            yield {**part.to_json(), "id": number, "gridPos": place, "links": links}


def _place(floor: Sequence[int], width: int) -> tuple[int, int]:
    """Return the highest place that is free and wide enough, the leftmost of several. floor: free from there on."""
    y, x = min((max(floor[x : x + width]), x) for x in range(COLUMNS - width + 1))
    return x, y


def write(board: Json) -> str:
    """Return the text of a dashboard's file."""
    return json.dumps(board, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


_BUILT_IN = {
    "builtIn": 1,
    "datasource": {"type": "grafana", "uid": "-- Grafana --"},
    "enable": True,
    "hide": True,
    "iconColor": "rgba(0, 211, 255, 1)",
    "name": "Annotations & Alerts",
    "type": "dashboard",
}
"""What people write into graphs themselves."""

_SOURCES = {
    "current": {"text": "", "value": ""},
    "description": "The Prometheus that scrapes sacd.",
    "hide": 0,
    "label": "Prometheus",
    "name": "datasource",
    "query": "prometheus",
    "refresh": 1,
    "type": "datasource",
}


def _link(title: str, uid: str) -> Json:
    return _whole_link(title, f"/d/{uid}", f"To the dashboard {title}", keeps=True)


def _entry_link(alert: str, number: int) -> Json:
    return _whole_link(f"Runbook: {alert}", f"/d/{RUNBOOK}?viewPanel={number}", "What to do", keeps=False)


def _whole_link(title: str, url: str, tooltip: str, *, keeps: bool) -> Json:
    return {
        "asDropdown": False,
        "icon": "dashboard" if keeps else "doc",
        "includeVars": keeps,
        "keepTime": keeps,
        "tags": [],
        "targetBlank": not keeps,
        "title": title,
        "tooltip": tooltip,
        "type": "link",
        "url": url,
    }
