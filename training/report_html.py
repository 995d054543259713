"""The pieces of HTML the report is put together from: sections, tables, lists, key figures.

Text is escaped here, except what is called `html`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One part of the page. key: what links name.  words: what it shows, before the drawings.  html: the rest."""

    key: str
    title: str
    words: str
    html: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """A key figure. beside: what to hold it against, a line each."""

    name: str
    value: str
    beside: Sequence[str] = ()


def section(part: Section) -> str:
    """Return a part of the page."""
    words = f'<p class="under">{escape(part.words)}</p>' if part.words else ""
    head = f'<h2 id="{part.key}-title">{escape(part.title)}</h2>'
    return f'<section id="{part.key}" aria-labelledby="{part.key}-title">{head}{words}{part.html}</section>'


def subtitle(text: str) -> str:
    """Return a heading within a section."""
    return f"<h3>{escape(text)}</h3>"


def paragraph(text: str, style: str = "") -> str:
    """Return words."""
    return f'<p class="{style}">{escape(text)}</p>' if style else f"<p>{escape(text)}</p>"


def points(texts: Sequence[str], style: str) -> str:
    """Return a list. style: its class, which gives the items their sign."""
    items = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f'<ul class="{style}">{items}</ul>' if items else ""


def tiles(shown: Sequence[Tile]) -> str:
    """Return key figures side by side."""
    parts = []
    for tile in shown:
        beside = "".join(f"<span>{escape(line)}</span>" for line in tile.beside)
        parts.append(
            f'<div class="tile"><dt>{escape(tile.name)}</dt><dd><b>{escape(tile.value)}</b>{beside}</dd></div>'
        )
    return f'<dl class="tiles">{"".join(parts)}</dl>'


def cell(text: str) -> str:
    """Return text as the HTML of a cell."""
    return escape(text)


def table(
    caption: str, head: Sequence[str], rows: Sequence[Sequence[str]], *, style: str = "", foot: Sequence[str] = ()
) -> str:
    """Return a table which scrolls where it is too wide. rows: HTML of the cells, the first names the row.

    A row whose name is wrapped in <b> stands out.  foot: HTML of the cells below, such as the scale of drawings.
    """
    heads = "".join(f'<th scope="col">{escape(text)}</th>' for text in head)
    body = "".join(_row(cells) for cells in rows)
    classes = f' class="{style}"' if style else ""
    cells = "".join(f"<td>{html}</td>" for html in foot)
    below = f'<tfoot aria-hidden="true"><tr>{cells}</tr></tfoot>' if foot else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table{classes}>'
        f"<caption>{escape(caption)}</caption><thead><tr>{heads}</tr></thead><tbody>{body}</tbody>{below}</table></div>"
    )


def _row(cells: Sequence[str]) -> str:
    style = ' class="ours"' if cells[0].startswith("<b>") else ""
    rest = "".join(f"<td>{html}</td>" for html in cells[1:])
    return f'<tr{style}><th scope="row">{cells[0]}</th>{rest}</tr>'
