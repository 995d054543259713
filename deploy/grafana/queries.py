"""Selectors of the queries: what a panel asks Prometheus, of the account and the symbols that are chosen above it."""

from dataclasses import dataclass
from typing import Any

JOB = 'job="sacd"'
_CHOSEN = 'instance="$instance"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One question to Prometheus.

    legend: the name of each series, {{label}} for the value of a label.  is_falling: the largest is shown first.
    """

    expr: str
    legend: str = ""
    is_falling: bool = False

    def to_json(self, number: int, form: str, *, is_instant: bool, is_finite: bool) -> dict[str, Any]:
        """Return it as a target of a panel.

        number: its place there.  form: time_series, table or heatmap.  is_instant: asked for the end of the span that
        is looked at, and not over it.  is_finite: without what is NaN, because it is not known yet or there is none;
        Grafana would show that as it stands.
        """
        expr = f"({self.expr}) > -Inf" if is_finite else self.expr
        return {
            "datasource": SOURCE,
            "editorMode": "code",
            "expr": f"sort_desc({expr})" if self.is_falling else expr,
            "format": form,
            "instant": is_instant,
            "legendFormat": self.legend or "__auto",
            "range": not is_instant,
            "refId": chr(ord("A") + number),
        }


SOURCE = {"type": "prometheus", "uid": "${datasource}"}
"""The Prometheus that is chosen above the panels."""


def own(metric: str, **labels: str) -> str:
    """Return the selector of a metric of the chosen account.

    labels: values that it must have; after "!=" one that it must not have, after "=~" several, with | between them.
    """
    return _selector(metric, _CHOSEN, labels)


def symbols(metric: str, **labels: str) -> str:
    """Return the selector of a metric of the chosen account and symbols."""
    return _selector(metric, f'{_CHOSEN},symbol=~"$symbol"', labels)


def process(metric: str) -> str:
    """Return the selector of a metric that every program has, of the chosen one."""
    return f"{metric}{{{JOB},{_CHOSEN}}}"


def over(left: str, right: str) -> str:
    """Return one figure of an account as a share of another one of it, whatever else the two are told apart by."""
    return f"{left} / on (job, instance) group_left () {right}"


def share_of_limit(figure: str, limit: str) -> str:
    """Return how much of a limit is used up. figure: a query.  limit: value of that label of sacd_limit_ratio."""
    return over(figure, own("sacd_limit_ratio", limit=limit))


def _selector(metric: str, chosen: str, labels: dict[str, str]) -> str:
    return f"{metric}{{{','.join([chosen, *(_matcher(name, value) for name, value in labels.items())])}}}"


def _matcher(label: str, value: str) -> str:
    operator = value[:2] if value[:2] in {"!=", "=~"} else ""
    return f'{label}{operator or "="}"{value.removeprefix(operator)}"'
