"""The queries of the committed dashboards, asked as Grafana asks them.

What Grafana puts in place of `$...` is documented at grafana.com/docs/grafana/latest/dashboards/variables: the span
that is looked at, and the range of a rate, which is four scrapes or a step and a scrape, whichever is more.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deploy.grafana.all import DASHBOARDS
from tests.deploy.prometheus_server import SCRAPE_S, Answer, Prometheus

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """What is looked at. step_s: between two points of a graph."""

    start_s: float
    end_s: float
    step_s: float = SCRAPE_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One query of a dashboard. where: dashboard, panel and letter, by which a person finds it."""

    where: str
    expr: str
    is_instant: bool

    def answers(self, prometheus: Prometheus, span: Span, instance: str) -> list[Answer]:
        """Return all series, also those without a finite value."""
        expr = interpolated(self.expr, span, instance)
        if self.is_instant:
            return prometheus.instant(expr, span.end_s)
        return prometheus.over(expr, span.start_s, span.end_s, span.step_s)

    def ask(self, prometheus: Prometheus, span: Span, instance: str) -> list[Answer]:
        """Return all series that have data."""
        return [answer for answer in self.answers(prometheus, span, instance) if answer.finite]


def interpolated(text: str, span: Span, instance: str) -> str:
    """Return it with what Grafana puts in place of the variables."""
    values = {
        "instance": instance,
        "symbol": ".+",
        "__range": f"{span.end_s - span.start_s:.0f}s",
        "__rate_interval": f"{max(4.0 * SCRAPE_S, span.step_s + SCRAPE_S):.0f}s",
    }
    return re.sub(r"\$(\w+)", lambda name: values[name[1]], text)


def dashboards() -> list[Json]:
    """Return the committed dashboards in the order of their names."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(DASHBOARDS.glob("*.json"))]


def panels(dashboard: Mapping[str, Any]) -> list[Json]:
    """Return the panels of a dashboard without its headlines."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def questions(dashboard: Mapping[str, Any]) -> Iterator[Question]:
    """Yield every query of its panels, and those that mark something in the graphs."""
    for panel in panels(dashboard):
        for target in panel.get("targets", ()):
            yield Question(where=where(dashboard, panel, target), expr=target["expr"], is_instant=target["instant"])
    for mark in marks(dashboard):
        place = f"{dashboard['title']} / marks / {mark['name']}"
        yield Question(where=place, expr=mark["target"]["expr"], is_instant=False)


def where(dashboard: Mapping[str, Any], panel: Mapping[str, Any], target: Mapping[str, Any]) -> str:
    """Return how a person finds a query: dashboard, panel and letter."""
    return f"{dashboard['title']} / {panel['title']} / {target['refId']}"


def marks(dashboard: Mapping[str, Any]) -> Sequence[Json]:
    return [mark for mark in dashboard["annotations"]["list"] if not mark.get("builtIn")]


def legend(form: str, labels: Mapping[str, str]) -> str:
    """Return the name of a series. form: its text, with {{label}} for the value of a label."""
    if form == "__auto":
        return labels.get("__name__", "") or ", ".join(labels.values())
    return re.sub(r"{{ *(\w+) *}}", lambda name: labels.get(name[1], ""), form)


def choices(
    dashboard: Mapping[str, Any], name: str, prometheus: Prometheus, span: Span, instance: str
) -> list[str] | None:
    """Return what a dashboard offers to choose from above its panels, None where it has no such choice."""
    for choice in dashboard["templating"]["list"]:
        if choice["name"] == name:
            asked = re.fullmatch(r"label_values\((.+), (\w+)\)", choice["query"]["query"])
            assert asked is not None
            selector = interpolated(asked[1], span, instance)
            return sorted(prometheus.label_values(selector, asked[2], span.start_s, span.end_s))
    return None
