"""The rules of deploy/prometheus, their tests, and the metrics and runbook that they speak of, as values."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
RULE_FILES = sorted((PROMETHEUS / "rules").glob("*.yml"))
TEST_FILES = sorted((PROMETHEUS / "tests").glob("*.yml"))
RUNBOOK = ROOT / "docs" / "runbook.md"
OF_A_SCRAPE = frozenset({"job", "instance"})
_SUFFIXES = {"histogram": ("_bucket", "_count", "_sum"), "counter": ("",), "gauge": ("",), "info": ("",)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A rule. name: of the alert or of the recorded series.  file: in which it stands."""

    name: str
    expr: str
    file: str
    is_alert: bool
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One expectation of an alert. series: what the test puts in.  fires: whether the alert is to fire."""

    alert: str
    name: str
    series: Sequence[str]
    fires: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A row of docs/metrics.md. names: of its series.  values: the closed sets of its labels."""

    names: Sequence[str]
    labels: frozenset[str]
    values: Mapping[str, frozenset[str]]


@cache
def rules() -> Sequence[Rule]:
    return tuple(rule for path in RULE_FILES for rule in _rules(path))


def alerts() -> Sequence[Rule]:
    return [rule for rule in rules() if rule.is_alert]


def _rules(path: Path) -> Iterator[Rule]:
    for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
        for rule in group["rules"]:
            yield Rule(
                name=rule.get("alert") or rule["record"],
                expr=rule["expr"],
                file=path.name,
                is_alert="alert" in rule,
                labels=rule.get("labels", {}),
                annotations=rule.get("annotations", {}),
            )


@cache
def cases() -> Sequence[Case]:
    """Return every expectation of the tests of the alerts."""
    return tuple(case for path in TEST_FILES for case in _cases(yaml.safe_load(path.read_text(encoding="utf-8"))))


def _cases(document: Mapping[str, Any]) -> Iterator[Case]:
    for test in document["tests"]:
        series = [given["series"] for given in test["input_series"]]
        for expected in test.get("alert_rule_test", ()):
            fires = bool(expected["exp_alerts"])
            yield Case(alert=expected["alertname"], name=test["name"], series=series, fires=fires)


def asked_in_tests() -> list[str]:
    """Return every expression whose value the tests of the recorded series expect."""
    documents = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in TEST_FILES]
    tests = [test for document in documents for test in document["tests"]]
    return [asked["expr"] for test in tests for asked in test.get("promql_expr_test", ())]


@cache
def metrics() -> Mapping[str, Metric]:
    """Return what docs/metrics.md lists, by the name of each series."""
    text = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    found = {}
    for name, kind, labels in re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) \|", text, re.MULTILINE):
        own = frozenset(re.findall(r"`(\w+)`", labels)) | ({"le"} if kind == "histogram" else set())
        metric = Metric(
            names=[name + suffix for suffix in _SUFFIXES[kind]], labels=own, values=_values(text, name, own)
        )
        found |= dict.fromkeys(metric.names, metric)
    return found


def _values(text: str, metric: str, labels: frozenset[str]) -> dict[str, frozenset[str]]:
    """Return the values that the document names for each label, of this metric before those of all metrics."""
    known = {}
    for label in labels:
        for about in (f"`{label}` of `{metric}`", f"`{label}`", f"`{label}` of all others"):
            line = re.search(rf"^- {re.escape(about)}: (.+)$", text, re.MULTILINE)
            if line is not None and " " not in line[1].replace(", ", ""):
                known[label] = frozenset(line[1].split(", "))
                break
    return known


def anchors(markdown: str) -> set[str]:
    """Return what a heading of a document can be linked by, as GitHub makes it."""
    headings = re.findall(r"^#+ (.+)$", markdown, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
