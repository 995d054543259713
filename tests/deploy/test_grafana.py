"""The committed dashboards: what the code makes, what Grafana's own schema allows, and whole in themselves."""

import copy
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from deploy.grafana import runbook
from deploy.grafana.all import DASHBOARDS, texts
from deploy.grafana.board import BOARDS, COLUMNS, SCHEMA_VERSION
from tests.deploy.panel_queries import Json, Question, Span, dashboards, interpolated, marks, panels, questions
from tests.deploy.promql import read
from tests.deploy.rules import OF_A_SCRAPE, PROMETHEUS, ROOT, RUNBOOK, alerts, metrics, rules

GRAFANA = json.loads((Path(__file__).parent / "grafana_schema" / "grafana.json").read_text(encoding="utf-8"))
PROVISIONING = ROOT / "deploy" / "grafana" / "provisioning"
OF_PROMETHEUS = {"up": OF_A_SCRAPE, "ALERTS": OF_A_SCRAPE}
OF_ANY_PROGRAM = re.compile(r"process_\w+")
every_dashboard = pytest.mark.parametrize("dashboard", dashboards(), ids=lambda dashboard: dashboard["uid"])
every_question = pytest.mark.parametrize(
    "question", [question for board in dashboards() for question in questions(board)], ids=lambda one: one.where
)


def faults(dashboard: Json) -> list[str]:
    """Return what Grafana's schema finds wrong, the deepest cause of each fault."""
    checker = jsonschema.Draft7Validator(GRAFANA["schema"])
    return [jsonschema.exceptions.best_match([fault]).message for fault in checker.iter_errors(dashboard)]


def anywhere(part: Any) -> Iterator[Json]:
    """Yield every object within."""
    if isinstance(part, dict):
        yield part
    for value in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from anywhere(value)


# ---- made of code -------------------------------------------------------------------------------------------------
def test_the_committed_files_are_what_the_code_and_the_runbook_make() -> None:
    committed = {path.name: path.read_text(encoding="utf-8") for path in DASHBOARDS.glob("*.json")}
    assert committed == texts(), "write them anew: python -m deploy.grafana"


def test_every_dashboard_keeps_the_uid_that_links_know() -> None:
    assert {dashboard["title"]: dashboard["uid"] for dashboard in dashboards()} == {
        f"sacd: {title.lower()}": uid for title, uid in BOARDS.items()
    }


# ---- valid for Grafana --------------------------------------------------------------------------------------------
@every_dashboard
def test_it_is_what_grafanas_published_types_allow(dashboard: Json) -> None:
    assert faults(dashboard) == []
    assert dashboard["schemaVersion"] == SCHEMA_VERSION


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda panel: panel.update(type="graph"), "is not valid under any of the given schemas"),
        (lambda panel: panel["options"].update(colour="red"), "is not valid under any of the given schemas"),
        (lambda panel: panel.pop("fieldConfig"), "is not valid under any of the given schemas"),
        (lambda panel: panel["targets"][0].update(expr=1), "is not valid under any of the given schemas"),
    ],
    ids=["a kind of panel that is no more", "an option that is none", "a part left out", "a query that is no text"],
)
def test_the_schema_finds_what_is_wrong(change: Any, message: str) -> None:
    broken = copy.deepcopy(dashboards()[0])
    change(panels(broken)[0])
    checker = jsonschema.Draft7Validator(GRAFANA["schema"])
    assert [message in fault.message for fault in checker.iter_errors(broken)] == [True]


@every_dashboard
def test_its_units_calculations_and_transformations_are_known_to_grafana(dashboard: Json) -> None:
    parts = list(anywhere(dashboard))
    units = {part["unit"] for part in parts if "unit" in part}
    units |= {part["value"] for part in parts if part.get("id") == "unit"}
    calculations = {name for part in parts for name in part.get("calcs", ())}
    transformations = {made["id"] for panel in panels(dashboard) for made in panel.get("transformations", ())}
    assert units <= set(GRAFANA["units"])
    assert calculations <= set(GRAFANA["calculations"])
    assert transformations <= set(GRAFANA["transformations"])


# ---- whole in itself ----------------------------------------------------------------------------------------------
@every_dashboard
def test_its_panels_have_numbers_of_their_own_and_do_not_overlap(dashboard: Json) -> None:
    assert [count for count in Counter(panel["id"] for panel in dashboard["panels"]).values() if count > 1] == []
    covered = Counter[tuple[int, int]]()
    for panel in dashboard["panels"]:
        x, y, width, height = (panel["gridPos"][side] for side in "xywh")
        assert x + width <= COLUMNS
        covered.update((column, row) for column in range(x, x + width) for row in range(y, y + height))
    assert max(covered.values()) == 1


@every_dashboard
def test_no_two_panels_have_the_same_title(dashboard: Json) -> None:
    titles = Counter(panel["title"] for panel in panels(dashboard))
    assert [title for title, count in titles.items() if count > 1] == []


@pytest.mark.parametrize(
    "panel",
    [panel for board in dashboards() for panel in panels(board) if panel["type"] != "text"],
    ids=lambda panel: panel["title"],
)
def test_every_panel_says_what_it_shows_what_is_good_and_what_to_do(panel: Json) -> None:
    said = re.fullmatch(r"(.{10,})\n\n\*\*Good:\*\* (.+)\n\n\*\*Otherwise:\*\* (.+)", panel["description"])
    assert said is not None
    assert all(part.endswith(".") for part in said.groups())


@every_dashboard
def test_every_link_leads_to_a_dashboard_and_to_the_entry_that_it_names(dashboard: Json) -> None:
    known = {board["uid"]: {panel["id"]: panel["title"] for panel in panels(board)} for board in dashboards()}
    links = [(part["title"], part["url"]) for part in anywhere(dashboard) if part.get("url", "").startswith("/d/")]
    assert len(links) >= len(known) - 1
    for title, url in links:
        place = re.fullmatch(r"/d/([\w-]+)(?:\?(?:viewPanel=(\d+)|var-.+))?", url)
        assert place is not None, url
        assert place[1] in known
        if place[2] is not None:
            assert title == f"Runbook: {known[place[1]][int(place[2])]}"


def test_every_alert_has_its_entry_on_the_runbooks_dashboard() -> None:
    (entries,) = [board for board in dashboards() if board["uid"] == "sacd-runbook"]
    titles = {panel["title"] for panel in panels(entries)}
    assert {alert.name for alert in alerts()} <= titles


def test_every_alert_is_linked_from_a_panel_that_shows_it() -> None:
    links = [link["title"] for board in dashboards() for panel in panels(board) for link in panel.get("links", ())]
    linked = {title.removeprefix("Runbook: ") for title in links}
    foreign = re.compile(rf"{OF_ANY_PROGRAM.pattern}|instance:.+|symbol:.+|{'|'.join(OF_PROMETHEUS)}")
    for alert in alerts():
        asked = {metric for metric in read(alert.expr).metrics if not foreign.fullmatch(metric)}
        # What is not measured yet, no panel can show.
        assert (alert.name in linked) == (asked <= metrics().keys()), alert.name


def test_the_runbooks_dashboard_says_what_the_document_says() -> None:
    words = re.findall(r"\w+", RUNBOOK.read_text(encoding="utf-8"))
    (entries,) = [board for board in dashboards() if board["uid"] == "sacd-runbook"]
    shown = [
        text for panel in entries["panels"] for text in (panel["title"], panel.get("options", {}).get("content", ""))
    ]
    missing = Counter(words) - Counter(re.findall(r"\w+", " ".join(shown)))
    of_links = set(re.findall(r"\w+", " ".join(re.findall(r"\]\(([^)]+)\)", RUNBOOK.read_text(encoding="utf-8")))))
    assert set(missing) <= of_links


def test_an_entry_is_a_panel_a_headline_a_row_and_code_is_left_alone() -> None:
    feed = "## Feed\n\n### SacdOne\n\nSee [there](live.md#a).\n\n```\n# no heading\n```\n\n"
    rows = runbook.read(f"# Runbook\n\nHow.\n\n{feed}## Disk\n\nx\n")
    assert [(row.title, [entry.title for entry in row.panels]) for row in rows] == [
        ("Runbook", ["Runbook"]),
        ("Feed", ["SacdOne"]),
        ("Disk", ["Disk"]),
    ]
    (entry,) = rows[1].panels
    assert entry.to_json()["options"]["content"] == "See there (docs/live.md).\n\n```\n# no heading\n```"


# ---- what they ask ------------------------------------------------------------------------------------------------
@every_question
def test_it_asks_for_metrics_and_labels_that_exist(question: Question) -> None:
    known, recorded = metrics(), {rule.name for rule in rules() if not rule.is_alert}
    expression = read(interpolated(question.expr, Span(start_s=0.0, end_s=60.0), "paper"))
    assert expression.selectors
    for selector in expression.selectors:
        if selector.metric in recorded or OF_ANY_PROGRAM.fullmatch(selector.metric):
            labels, values = OF_A_SCRAPE | {"symbol"}, dict[str, frozenset[str]]()
        elif selector.metric in OF_PROMETHEUS:
            labels, values = OF_PROMETHEUS[selector.metric], {}
        else:
            assert selector.metric in known, f"{selector.metric} is not in docs/metrics.md"
            labels, values = known[selector.metric].labels | OF_A_SCRAPE, dict(known[selector.metric].values)
        for matcher in selector.matchers:
            assert matcher.label in labels
            if matcher.label in values:
                assert set(matcher.values) <= values[matcher.label]


@every_question
def test_it_asks_about_the_chosen_account_or_about_all_of_them(question: Question) -> None:
    selectors = read(interpolated(question.expr, Span(start_s=0.0, end_s=60.0), "paper")).selectors
    chosen = {("instance", ("paper",)) in {(m.label, m.values) for m in selector.matchers} for selector in selectors}
    assert chosen == {"All accounts" not in question.where}


@every_dashboard
def test_it_marks_swaps_halts_and_starts_in_its_graphs(dashboard: Json) -> None:
    names = {mark["name"] for mark in marks(dashboard)}
    expected = {"Another ensemble", "Halted", "Started"} if dashboard["uid"] != "sacd-runbook" else set()
    assert expected <= names


# ---- provisioned --------------------------------------------------------------------------------------------------
def provisioned(path: Path) -> Json:
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")))


def test_grafana_asks_the_prometheus_of_this_machine_no_more_often_than_it_scrapes() -> None:
    (source,) = provisioned(PROVISIONING / "datasources" / "sacd.yml")["datasources"]
    scrapes = provisioned(PROMETHEUS / "prometheus.yml")["global"]
    assert source["jsonData"]["timeInterval"] == scrapes["scrape_interval"]
    assert (source["type"], source["url"]) == ("prometheus", "http://127.0.0.1:9090")


def test_grafana_in_containers_is_the_one_whose_schema_they_are_held_against() -> None:
    services = provisioned(ROOT / "deploy" / "compose.yaml")["services"]
    assert services["grafana"]["image"] == f"grafana/grafana:{GRAFANA['grafana']}"
