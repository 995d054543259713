"""The documents for operators: every link leads somewhere, every command is one of sacd's."""

import re
from pathlib import Path

import pytest
import typer.main

from daemon import cli
from tests.deploy.images import DEPLOY, ROOT

DOCUMENTS = [ROOT / "docs" / "operate.md", ROOT / "docs" / "upgrade.md", DEPLOY / "README.md"]


def anchors(document: Path) -> set[str]:
    """Return what the headings of a document are called in links, by the rule of the places that show them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_to_a_file_and_a_heading_that_exist(document: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8"))
    assert links
    for link in links:
        name, _, anchor = link.partition("#")
        target = (document.parent / name).resolve()
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def test_the_entrance_leads_to_every_document_for_operators() -> None:
    linked = set(re.findall(r"\]\((\w+\.md)", DOCUMENTS[0].read_text(encoding="utf-8")))
    of_developers = {"performance.md", "research.md", "look-ahead.md", "evaluation-metrics.md", "operate.md"}
    assert {path.name for path in (ROOT / "docs").glob("*.md")} - linked == of_developers


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_of_sacd_exists(document: Path) -> None:
    root = typer.main.get_command(cli.app)
    verbs: dict[str, object] = root.commands  # type: ignore[attr-defined]
    # In code only; "sacd" is also what the service in the compose file is called.
    text = re.sub(r"docker compose .*?(exec|run --rm)( -v \S+)? sacd ", "", document.read_text(encoding="utf-8"))
    called = set(re.findall(r"(?:^|`|\()sacd ([a-z]+)", text, re.MULTILINE))
    assert called
    assert called - verbs.keys() == set()
