"""docs/runbook.md: an entry for each alert with all its parts; commands, queries and names that there really are."""

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import typer.main

from daemon import cli
from tests.deploy.promql import read
from tests.deploy.rules import ROOT, RUNBOOK, alerts, anchors, metrics, rules
from tests.deploy.test_prometheus_rules import ANNOUNCED, FOREIGN

PARTS = ("**Means.**", "**Look.**", "**Do.**", "**Do not**", "**Ends**")
DOCUMENTS = (RUNBOOK, ROOT / "docs" / "monitoring.md")
TEXT = RUNBOOK.read_text(encoding="utf-8")
OUTSIDE = frozenset(
    {
        "systemctl",
        "journalctl",
        "timedatectl",
        "chronyc",
        "promtool",
        "curl",
        "ping",
        "sudo",
        "df",
        "top",
        "iostat",
        "ls",
    }
)
"""Programs of the machine that an entry may call for a look: none of them changes anything."""


def entries() -> dict[str, str]:
    """Return the text of each entry by its heading."""
    parts = re.split(r"^### (\w+)\n", TEXT, flags=re.MULTILINE)
    return {name: text.partition("\n## ")[0] for name, text in zip(parts[1::2], parts[2::2], strict=True)}


def looks() -> list[str]:
    """Return every line that an entry says to type."""
    return [line for text in entries().values() for block in re.findall(r"```\n(.*?)```", text, re.DOTALL)
            for line in block.splitlines()]  # fmt: skip


def queries() -> list[str]:
    return [shlex.split(line)[1] for line in looks() if line.startswith("query ")]


@cache
def said_in_the_daemon() -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "daemon").glob("*.py"))


# ---- what there is ----
def test_every_alert_has_an_entry_and_every_entry_an_alert() -> None:
    assert list(entries()) == [alert.name for alert in _in_order()]


def _in_order() -> Iterator[object]:
    """Yield the alerts in the order of the runbook where it names them, then those that it lacks."""
    known = {alert.name: alert for alert in alerts()}
    yield from (known.pop(name) for name in entries() if name in known)
    yield from known.values()


@pytest.mark.parametrize("name", entries())
def test_an_entry_says_what_it_means_how_to_look_what_to_do_and_not_to_do_and_when_it_ends(name: str) -> None:
    text = entries()[name]
    at = [text.find(f"\n{part}") for part in PARTS]
    assert -1 not in at, [part for part, place in zip(PARTS, at, strict=True) if place < 0]
    assert at == sorted(at)
    assert len(re.findall(r"```\n(.*?)```", text, re.DOTALL)) == 1


# ---- that it can be typed ----
@pytest.mark.parametrize("expr", queries())
def test_a_query_of_the_runbook_asks_for_metrics_that_there_are(expr: str) -> None:
    known = metrics().keys() | {rule.name for rule in rules()} | FOREIGN | ANNOUNCED
    assert read(expr).metrics
    assert read(expr).metrics <= known


def _commands(text: str) -> set[tuple[str, ...]]:
    """Return the words after `sacd` of each command that is typed or written in code."""
    typed = [line for line in looks() if line.startswith("sacd ")]
    written = [" ".join(found.split()) for found in re.findall(r"`(sacd [^`]+)`", text)]
    return {tuple(re.split(r" *[|;]", line)[0].split()[1:]) for line in (*typed, *written)}


def _options(words: tuple[str, ...]) -> frozenset[str]:
    """Return the options of a command of sacd; asserts that there is one."""
    command, rest = typer.main.get_command(cli.app), list(words)
    while rest and (commands := getattr(command, "commands", None)) is not None:
        name = rest.pop(0)
        assert name in commands, f"sacd {' '.join(words)}"
        command = commands[name]
    return frozenset(option for parameter in command.params for option in parameter.opts)


@pytest.mark.parametrize("words", sorted(_commands(TEXT)), ids=" ".join)
def test_a_command_of_sacd_exists_with_its_options(words: tuple[str, ...]) -> None:
    assert {word for word in words if word.startswith("-")} <= _options(words)


def test_commands_to_look_with_take_the_configuration_that_the_shell_function_adds() -> None:
    for words in {tuple(line.split("|")[0].split()[1:]) for line in looks() if line.startswith("sacd ")}:
        assert "--config" in _options(words), words


def test_a_look_only_calls_what_changes_nothing() -> None:
    own = {"sacd status", "sacd check", "sacd models", "sacd journal", "sacd report"}
    for line in looks():
        first, second = [*line.split(), ""][:2]
        assert first in {"query", "log"} | OUTSIDE or f"{first} {second}" in own, line


def test_events_that_the_log_is_searched_for_are_logged() -> None:
    searched = {event for line in looks() if line.startswith("log ") for event in shlex.split(line)[1].split("|")}
    assert len(searched) > 20
    assert {event for event in searched if f'"{event}"' not in said_in_the_daemon()} == set()


# ---- that it leads somewhere ----
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for place, anchor in re.findall(r"\]\(([\w./-]*)(?:#([\w-]+))?\)", text):
        target = document.parent / place if place else document
        assert target.exists(), place
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), f"{place}#{anchor}"


def test_alerts_that_an_entry_names_exist() -> None:
    assert set(re.findall(r"\bSacd[A-Z]\w+", TEXT)) == {alert.name for alert in alerts()}


def test_configuration_keys_that_it_names_exist() -> None:
    config = (ROOT / "config.toml").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^\[([\w.]+)\](.*?)(?=^\[|\Z)", config, re.MULTILINE | re.DOTALL))
    named = {key for key in re.findall(r"`([a-z]+\.[a-z_]+)[`= ]", TEXT) if key.split(".")[0] in sections}
    assert len(named) > 15
    for key in named:
        section, _, name = key.partition(".")
        assert re.search(rf"^#? ?{name} = ", sections[section], re.MULTILINE), key


# ---- the page about monitoring ----
def test_the_page_about_monitoring_lists_every_alert_and_every_recorded_series() -> None:
    text = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| \[(\w+)\]\(runbook\.md#\w+\) \| (\w+) \|", text, re.MULTILINE))
    assert rows == {alert.name: alert.labels["severity"] for alert in alerts()}
    recorded = re.findall(r"^\| `(\w+:\w+:\w+)` \|", text, re.MULTILINE)
    assert recorded == [rule.name for rule in rules() if not rule.is_alert]
