"""The runbook as a dashboard, made from docs/runbook.md, so that it is where the alerts are: an entry is a panel."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.grafana.board import COLUMNS, RUNBOOK, Board, Row

SOURCE_FILE = Path(__file__).parents[2] / "docs" / "runbook.md"
_HEADING = re.compile(r"^(#{1,6}) +(.+?)\s*$", re.MULTILINE)
_ALERT = re.compile(r"Sacd[A-Z]\w+")
_PIXELS, _LINE_PIXELS = 38, 24
_LETTERS = 150
"""Of a row of a dashboard, of a line of text; and how many letters stand in a line of half a dashboard's width."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A piece of Markdown under its heading."""

    title: str
    text: str
    runbook: Sequence[str] = ()

    @property
    def width(self) -> int:
        """The whole width."""
        return COLUMNS

    @property
    def height(self) -> int:
        """As many rows as its lines need when long ones are folded."""
        lines = sum(1 + len(line) // _LETTERS for line in self.text.splitlines())
        return 2 + lines * _LINE_PIXELS // _PIXELS

    def to_json(self) -> dict[str, Any]:
        """Return it as a panel of text."""
        code = {"language": "plaintext", "showLineNumbers": False, "showMiniMap": False}
        return {
            "type": "text",
            "title": self.title,
            "options": {"mode": "markdown", "content": self.text, "code": code},
        }


def read(markdown: str) -> Sequence[Row]:
    """Return the entries of a runbook in its order.

    A heading that is the name of an alert begins an entry, any other one a row; what stands below it before the next
    heading is a panel of that row.
    """
    rows, title = list[Row](), ""
    entries = list[Entry]()
    headings = list(_HEADING.finditer(_without_code(markdown)))
    for heading, following in zip(headings, [*headings[1:], None], strict=True):
        text = markdown[heading.end() : None if following is None else following.start()].strip()
        if not _ALERT.fullmatch(heading[2]):
            if entries:
                rows.append(Row(title=title, panels=tuple(entries)))
            title, entries = heading[2], []
        if text:
            entries.append(Entry(title=heading[2], text=_with_whole_links(text)))
    rows.append(Row(title=title, panels=tuple(entries)))
    return rows


def board(markdown: str) -> Board:
    """Return the runbook as a dashboard."""
    return Board(
        uid=RUNBOOK,
        title="sacd: runbook",
        description="What to do when an alert fires; made from docs/runbook.md.",
        rows=read(markdown),
        marks=(),
    )


def numbers(runbook: Board) -> Mapping[str, int]:
    """Return the number of the panel of each alert."""
    return {part.title: number for number, part in runbook.numbered() if isinstance(part, Entry)}


def _without_code(markdown: str) -> str:
    """Return it with blocks of code blanked out, in which # begins no heading; every place stays where it is."""
    return re.sub(r"^```.*?^```", lambda block: " " * len(block[0]), markdown, flags=re.MULTILINE | re.DOTALL)


def _with_whole_links(text: str) -> str:
    """Return it with links to other documents named instead: from within Grafana they lead nowhere."""
    return re.sub(r"\[([^]]+)]\((?!https?:)([^)#]*)(#[^)]*)?\)", _named, text)


def _named(link: re.Match[str]) -> str:
    words, path = link[1], link[2]
    return words if not path or path in words else f"{words} (docs/{path})"
