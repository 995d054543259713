"""The rules of deploy/prometheus: what promtool says of them, and that each alert is tried both ways and looked up."""

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from daemon.disk_room import LOW_BYTES, SCARCE_BYTES
from tests.deploy.commands import command
from tests.deploy.promql import Expression, read
from tests.deploy.rules import (
    OF_A_SCRAPE,
    PROMETHEUS,
    ROOT,
    RULE_FILES,
    RUNBOOK,
    TEST_FILES,
    Rule,
    alerts,
    anchors,
    asked_in_tests,
    cases,
    metrics,
    rules,
)

FOREIGN = frozenset(
    {
        "up",
        "process_start_time_seconds",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_max_fds",
    }
)
"""Of Prometheus itself, and of its client library."""
ANNOUNCED = frozenset({"sacd_mqtt_connected"})
"""Of parts that are still to come; an alert on one must not fire while there is none."""
SEVERITIES = frozenset({"critical", "warning", "info"})
ALERTS = alerts()
BY_NAME = {alert.name: alert for alert in ALERTS}


def each(found: Sequence[Rule]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("rule", found, ids=[rule.name for rule in found])


def promtool(*arguments: str | Path, cwd: Path = PROMETHEUS) -> None:
    """Run promtool, which must be satisfied."""
    run = subprocess.run(
        [command("promtool"), *map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=False, timeout=120
    )
    assert run.returncode == 0, run.stdout + run.stderr


def all_of(rule: Rule) -> list[Expression]:
    """Return what a rule names, and what the recorded series that it reads name."""
    recorded = {found.name: found for found in rules() if not found.is_alert}
    expression = read(rule.expr)
    return [expression, *(one for name in expression.metrics & recorded.keys() for one in all_of(recorded[name]))]


# ---- what promtool says ----
def test_the_scrape_configuration_and_all_rules_that_it_names_are_valid() -> None:
    promtool("check", "config", "prometheus.yml")
    named = re.findall(r"^  - (rules/\S+)$", (PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(path for pattern in named for path in PROMETHEUS.glob(pattern)) == RULE_FILES


@pytest.mark.parametrize("path", RULE_FILES, ids=lambda path: path.stem)
def test_the_linter_finds_nothing_in_the_rules(path: Path) -> None:
    promtool("check", "rules", "--lint=all", "--lint-fatal", path)


@pytest.mark.parametrize("path", TEST_FILES, ids=lambda path: path.stem)
def test_alerts_fire_when_they_should_and_not_when_they_nearly_should(path: Path) -> None:
    promtool("test", "rules", path.name, cwd=path.parent)


# ---- that nothing is left untried ----
@each(ALERTS)
def test_every_alert_is_seen_to_fire_and_seen_not_to(rule: Rule) -> None:
    tried = [case for case in cases() if case.alert == rule.name]
    firing = {case.name for case in tried if case.fires}
    assert firing, f"no test in which {rule.name} fires"
    near = [case for case in tried if not case.fires and case.name not in firing]
    assert near, f"no test of its own in which {rule.name} nearly fires"
    named = {name for expression in all_of(rule) for name in expression.metrics}
    for case in near:  # one in which nothing happens would prove nothing
        assert named & {name for series in case.series for name in read(series).metrics}, case.name


def test_every_recorded_series_is_tried_through_an_alert_or_by_itself() -> None:
    tried = {name for expr in asked_in_tests() for name in read(expr).metrics}
    through_alerts = {name for alert in ALERTS for one in all_of(alert) for name in one.metrics}
    assert {rule.name for rule in rules() if not rule.is_alert} - tried - through_alerts == set()


def test_the_tests_speak_of_alerts_that_there_are() -> None:
    assert {case.alert for case in cases()} - BY_NAME.keys() == set()


def test_no_two_rules_have_one_name() -> None:
    names = [rule.name for rule in rules()]
    assert sorted(names) == sorted(set(names))


# ---- what they ask for ----
@each(rules())
def test_a_rule_only_asks_for_what_the_daemon_tells(rule: Rule) -> None:
    listed, recorded = metrics(), {found.name for found in rules() if not found.is_alert}
    unknown = read(rule.expr).metrics - listed.keys() - recorded - FOREIGN - ANNOUNCED
    assert unknown == set(), "not in docs/metrics.md"


@each(rules())
def test_a_rule_only_asks_for_labels_and_values_that_there_are(rule: Rule) -> None:
    listed, expression = metrics(), read(rule.expr)
    own = {label for selector in expression.selectors for label in _labels(selector.metric)}
    assert expression.labels <= OF_A_SCRAPE | own
    for selector in expression.selectors:
        for matcher in selector.matchers:
            assert matcher.label in OF_A_SCRAPE | _labels(selector.metric), f"{selector.metric} has no {matcher.label}"
            if matcher.label not in OF_A_SCRAPE:
                assert set(matcher.values) <= listed[selector.metric].values[matcher.label], selector.metric


def _labels(metric: str) -> frozenset[str]:
    """Return the labels of a metric; a recorded series may have those of what it is made from."""
    listed = metrics()
    if metric in listed:
        return listed[metric].labels
    made_from = [rule.expr for rule in rules() if rule.name == metric and not rule.is_alert]
    return frozenset(label for expr in made_from for name in read(expr).metrics for label in _labels(name))


def test_what_is_announced_is_still_to_come() -> None:
    assert metrics().keys() & ANNOUNCED == set(), "it is here: take it out of ANNOUNCED"
    assert {name for alert in ALERTS for name in read(alert.expr).metrics} >= ANNOUNCED


# ---- what they tell people ----
@each(ALERTS)
def test_an_alert_says_how_bad_it_is_what_it_is_and_where_to_look(rule: Rule) -> None:
    assert rule.labels.keys() == {"severity"}
    assert rule.labels["severity"] in SEVERITIES
    assert rule.annotations.keys() == {"summary", "description", "runbook_url"}
    assert rule.annotations["description"].endswith(".")
    place, _, anchor = rule.annotations["runbook_url"].partition("#")
    assert place.endswith("/docs/runbook.md")
    assert anchor == rule.name.lower()
    assert anchor in anchors(RUNBOOK.read_text(encoding="utf-8"))


def test_alerts_lead_to_where_the_documents_are_installed() -> None:
    unit = (ROOT / "systemd" / "sacd@.service").read_text(encoding="utf-8")
    documents = re.search(r"^Documentation=(file://\S+)/[\w.]+$", unit, re.MULTILINE)
    assert documents is not None
    assert {alert.annotations["runbook_url"].partition("#")[0] for alert in ALERTS} == {f"{documents[1]}/runbook.md"}


# ---- figures that stand elsewhere too ----
def test_disk_alerts_begin_where_the_daemon_warns_and_pauses() -> None:
    for name, limit in (("SacdDiskLow", LOW_BYTES), ("SacdDiskScarce", SCARCE_BYTES)):
        assert BY_NAME[name].expr == f"sacd_disk_free_bytes < {limit // 2**20} * 2 ^ 20"
    assert f"< {SCARCE_BYTES // 2**20} * 2 ^ 20" in BY_NAME["SacdDiskFilling"].expr


def test_memory_is_told_of_before_systemd_acts() -> None:
    unit = (ROOT / "systemd" / "sacd@.service").read_text(encoding="utf-8")
    high, most = _mib(unit, "MemoryHigh"), _mib(unit, "MemoryMax")
    alert = BY_NAME["SacdMemoryHigh"]
    limit = re.search(r"> (\d+) \* 2 \^ 20$", alert.expr)
    assert limit is not None
    assert int(limit[1]) < high < most
    assert f"Above {high} MiB systemd slows it down" in alert.annotations["description"]


def _mib(unit: str, key: str) -> int:
    """Return a size that a unit sets, in MiB."""
    ((size, letter),) = re.findall(rf"^{key}=(\d+)([MG])$", unit, re.MULTILINE)
    return int(size) * (1024 if letter == "G" else 1)
