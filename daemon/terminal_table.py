"""Lines and tables of exact width made of rich segments.

Written by hand rather than with `rich.table`: a frame takes about a tenth of the time, which the trading loop keeps.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style

Part = tuple[str, Style]
Cell = Sequence[Part]
Line = list[Segment]

PLAIN = Style()
DIM = Style(dim=True)
BOLD = Style(bold=True)
GOOD = Style.parse("green")
BAD = Style.parse("red")
WARN = Style.parse("dark_orange3")
"""Amber that can be read on white as well as on black, which plain yellow cannot."""
TITLE = Style.parse("bold cyan")
RULE = Style.parse("cyan dim")
EMPTY: Cell = ((" ", PLAIN),)

_BLOCKS = " ▁▂▃▄▅▆▇█"
_BAR = " ▏▎▍▌▋▊▉█"


def text(words: str, style: Style = PLAIN) -> Cell:
    """Return a cell of one style."""
    return ((words, style),)


def width_of(cell: Cell) -> int:
    """Return how many columns a cell takes."""
    return sum(cell_len(words) for words, _ in cell)


def _printable(cell: Cell) -> Cell:
    """Return a cell without characters that would move the cursor, whoever put them there."""
    if all(words.isprintable() for words, _ in cell):
        return cell
    return [("".join(c if c.isprintable() else " " for c in words), style) for words, style in cell]


def line(cell: Cell, width: int) -> Line:
    """Return a line of exactly `width` columns: padded, or cut with an ellipsis."""
    segments: Line = []
    left = width
    for words, style in _printable(cell):
        taken = cell_len(words)
        if taken > left:
            if left > 0:
                segments.append(Segment(f"{set_cell_size(words, left - 1)}…", style))
            return segments
        segments.append(Segment(words, style))
        left -= taken
    if left:
        segments.append(Segment(" " * left, PLAIN))
    return segments


def apart(left: Cell, right: Cell, width: int) -> Line:
    """Return `left` at the left and `right` at the right edge; `right` gives way when there is no room for both."""
    right = _printable(right)
    room = width - width_of(right) - 2
    if room < width_of(left):
        return line(left, width)
    return [*line(left, room + 2), *(Segment(words, style) for words, style in right)]


def beside(left: Sequence[Line], right: Sequence[Line], left_width: int, right_width: int) -> list[Line]:
    """Return two blocks side by side, the shorter one filled up, two columns between them."""
    rows = []
    for i in range(max(len(left), len(right))):
        start = left[i] if i < len(left) else line(EMPTY, left_width)
        end = right[i] if i < len(right) else line(EMPTY, right_width)
        rows.append([*start, Segment("  ", PLAIN), *end])
    return rows


def rule(title: str, width: int, note: str = "") -> Line:
    """Return a line across the screen with a title in it, and a note at its end."""
    head: list[Part] = [("─ ", RULE), (title, TITLE), (" ", PLAIN)]
    tail: list[Part] = [(" ", PLAIN), (note, DIM), (" ─", RULE)] if note else []
    room = width - width_of(head) - width_of(tail)
    if room < 1:
        tail, room = [], max(0, width - width_of(head))
    return line([*head, ("─" * room, RULE), *tail], width)


# ---- tables -----------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table.

    rank: the higher, the sooner it is left out on a narrow screen; 0 always stays.  least: for the last column, to how
    few columns it may be cut before others are left out; None when it may not be cut.
    """

    title: str
    align: Literal["left", "right"] = "right"
    rank: int = 0
    least: int | None = None


def table(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], width: int) -> list[Line]:
    """Return a heading and one line per row, each `width` columns wide.

    Columns take what their cells need; the least important go until the rest fits, then the last one is cut.
    """
    sizes = [max([cell_len(column.title), *(width_of(row[i]) for row in rows)]) for i, column in enumerate(columns)]
    kept = _fitting(columns, sizes, width)
    heading = [text(columns[i].title, DIM) for i in kept]
    lines = [_row(columns, sizes, kept, heading, width)]
    lines.extend(_row(columns, sizes, kept, [row[i] for i in kept], width) for row in rows)
    return lines


def _fitting(columns: Sequence[Column], sizes: Sequence[int], width: int) -> list[int]:
    kept = list(range(len(columns)))
    needs = [min(size, c.least) if c.least is not None else size for c, size in zip(columns, sizes, strict=True)]
    while sum(needs[i] for i in kept) + 2 * len(kept) - 1 > width:
        worst = max(kept, key=lambda i: (columns[i].rank, i))
        if columns[worst].rank == 0:
            break
        kept.remove(worst)
    return kept


def _row(
    columns: Sequence[Column], sizes: Sequence[int], kept: Sequence[int], cells: Sequence[Cell], width: int
) -> Line:
    parts: list[Part] = [(" ", PLAIN)]
    for place, (i, cell) in enumerate(zip(kept, cells, strict=True)):
        gap = " " * (sizes[i] - width_of(cell))
        if columns[i].align == "right":
            parts.append((gap, PLAIN))
        parts.extend(cell)
        if columns[i].align == "left":
            parts.append((gap, PLAIN))
        if place < len(kept) - 1:
            parts.append(("  ", PLAIN))
    return line(_trimmed(parts), width)


def _trimmed(parts: list[Part]) -> list[Part]:
    """Return parts without blanks at the end, which would be cut with an ellipsis when the line is too long."""
    while parts and not parts[-1][0].strip():
        parts.pop()
    return parts


# ---- pictures ---------------------------------------------------------------------------------------------------
def bar(share: float, width: int, style: Style) -> Cell:
    """Return a horizontal bar that is full at a share of 1."""
    eighths = round(min(1.0, max(0.0, share)) * width * 8)
    full, rest = divmod(eighths, 8)
    drawn = "█" * full + (_BAR[rest] if rest else "")
    return ((drawn, style), ("░" * (width - len(drawn)), DIM))


def chart(values: Sequence[float], width: int, height: int, base: float) -> list[list[Part]]:
    """Return `height` rows of an area chart: green where the value is at least `base`, red below it.

    The scale reaches from the lowest to the highest value; the newest value stands at the right edge.
    """
    if not values or width < 1:
        return [[(" " * max(0, width), PLAIN)] for _ in range(height)]
    sampled = _resampled(values, width)
    low, high = min(sampled), max(sampled)
    span = high - low
    # The lowest value still shows an eighth, or a chart of a falling account would end in nothing.
    levels = [1 + round((v - low) / span * (8 * height - 1)) if span > 0.0 else 4 * height for v in sampled]
    styles = [GOOD if v >= base else BAD for v in sampled]
    rows = []
    for floor in range(8 * (height - 1), -1, -8):
        glyphs = [_BLOCKS[min(8, max(0, level - floor))] for level in levels]
        rows.append(_runs(glyphs, styles))
    return rows


def sparkline(values: Sequence[float], width: int, style: Style) -> Cell:
    """Return the course of `values` in one row; it leaves a little room above, so that rows stay apart."""
    sampled = _resampled(values, width)
    low, span = min(sampled), max(sampled) - min(sampled)
    glyphs = [_BLOCKS[1 + round((v - low) / span * 5)] if span > 0.0 else _BLOCKS[3] for v in sampled]
    return text("".join(glyphs), style)


def _runs(glyphs: Sequence[str], styles: Sequence[Style]) -> list[Part]:
    """Return glyphs joined as long as their style stays the same."""
    starts = [0, *(i for i in range(1, len(glyphs)) if styles[i] is not styles[i - 1]), len(glyphs)]
    return [("".join(glyphs[a:b]), styles[a]) for a, b in pairwise(starts)]


def _resampled(values: Sequence[float], width: int) -> list[float]:
    """Return `width` values: the course stretched or thinned, its ends kept."""
    if width == 1 or len(values) == 1:
        return [values[-1]] * width
    step = (len(values) - 1) / (width - 1)
    return [values[round(i * step)] for i in range(width)]
