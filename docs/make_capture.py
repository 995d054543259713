# ruff: noqa: INP001 - a script, not a package
"""Make docs/screen.svg: run `sacd run` in a pseudo-terminal, and draw what it has put on the screen as SVG.

    python docs/make_capture.py --config config.toml --seconds 45 --out docs/screen.svg

Needs `pyte` (pip install pyte), a terminal in memory, which the daemon itself does not use. Nothing is retouched: the
picture is the cells of the terminal at that moment; block characters are drawn as rectangles, as terminals draw them.
"""

import argparse
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Protocol, TypeVar
from xml.sax.saxutils import escape

try:
    import pyte
except ImportError:
    sys.exit("docs/make_capture.py needs pyte: pip install pyte")

CELL_WIDTH, CELL_HEIGHT, FONT_SIZE, BASELINE = 8.4, 18.0, 14, 13.5
MARGIN, TITLE_HEIGHT = 14.0, 34.0
BACKGROUND, FOREGROUND = "#11151c", "#d5dae3"
DIMMED = 0.58
PALETTE = {
    "default": FOREGROUND, "black": "#11151c", "red": "#f2616b", "green": "#4fbf70", "brown": "#d9a441",
    "blue": "#5b9dee", "magenta": "#c586dd", "cyan": "#46bdd0", "white": "#e6eaf0",
}  # fmt: skip
LOWER = {c: (0.0, 1.0 - (i + 1) / 8.0, 1.0, (i + 1) / 8.0) for i, c in enumerate("▁▂▃▄▅▆▇█")}
LEFT = {c: (0.0, 0.0, (7 - i) / 8.0, 1.0) for i, c in enumerate("▉▊▋▌▍▎▏")}
WHOLE = (0.0, 0.0, 1.0, 1.0)
SHAPES = {**LEFT, **LOWER, "─": (0.0, 0.47, 1.0, 0.06), "░": WHOLE}
"""Characters drawn as rectangles: x, y, width, height as shares of a cell."""
SHADE = 0.16
QUIET_S, END_S = 0.08, 5.0
T = TypeVar("T")
FONTS = "ui-monospace, 'DejaVu Sans Mono', 'Cascadia Mono', Menlo, Consolas, monospace"


class Cell(Protocol):
    """What pyte knows of one cell."""

    data: str
    fg: str
    bg: str
    bold: bool
    blink: bool
    reverse: bool


class Screen(pyte.Screen):
    """A pyte screen that remembers dim, which pyte does not know, in place of blinking, which nothing here does."""

    def select_graphic_rendition(self, *attributes: int) -> None:
        """Take the attributes of one escape sequence; 2 means dim unless it belongs to a colour."""
        found, rest = [], list(attributes)
        while rest:
            if rest[0] in {38, 48}:
                length = 3 if rest[1:2] == [5] else 5
                found += rest[:length]
                rest = rest[length:]
            else:
                found.append(5 if rest[0] == 2 else rest[0])  # noqa: PLR2004  # the codes of dim and of blinking
                rest = rest[1:]
        super().select_graphic_rendition(*found)


def capture(command: list[str], columns: int, rows: int, seconds: float) -> Screen:
    """Return the screen that `command` shows after `seconds`, and end it as Ctrl-C does. Exits when it fails."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in {"COLUMNS", "LINES", "NO_COLOR", "COLORTERM"}}
    environment["TERM"] = "xterm-256color"
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=environment)
    os.close(slave)
    try:
        screen = _watch(process, master, Screen(columns, rows), seconds)
        process.send_signal(signal.SIGINT)
        _read(master, lambda _: None, END_S)
        if process.wait(END_S) not in {0, 128 + signal.SIGINT}:
            sys.exit(f"{' '.join(command)} did not end cleanly, exit code {process.returncode}")
    finally:
        process.kill()
    return screen


def _watch(process: "subprocess.Popen[bytes]", master: int, screen: Screen, seconds: float) -> Screen:
    stream = pyte.ByteStream(screen)
    _read(master, stream.feed, seconds)
    while process.poll() is None and _read(master, stream.feed, QUIET_S):
        pass  # a frame is being written
    if process.poll() is not None:
        sys.exit("\n".join([*screen.display, f"the command ended early, exit code {process.returncode}"]))
    return screen


def _read(master: int, feed: Callable[[bytes], None], seconds: float) -> bool:
    """Feed what arrives within `seconds`; return whether anything did."""
    until, is_new = time.monotonic() + seconds, False
    while (left := until - time.monotonic()) > 0.0:
        if not select.select([master], [], [], left)[0]:
            break
        try:
            data = os.read(master, 65_536)
        except OSError:  # the other side has closed
            break
        feed(data)
        is_new = True
    return is_new


# ---- drawing ----------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Look:
    """What cells that are drawn together share. block: the character, when it is drawn as a rectangle."""

    block: str
    colour: str
    is_bold: bool
    opacity: float

    @property
    def attributes(self) -> str:
        """Colour and opacity as SVG has them."""
        return f'fill="{self.colour}"' + (f' opacity="{self.opacity}"' if self.opacity < 1.0 else "")


def to_svg(screen: Screen, title: str) -> str:
    """Return the cells of a screen as an SVG picture of a terminal window."""
    width = screen.columns * CELL_WIDTH + 2 * MARGIN
    height = screen.lines * CELL_HEIGHT + TITLE_HEIGHT + MARGIN
    buttons = enumerate(("#ff5f57", "#febc2e", "#28c840"))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{width:.0f}" height="{height:.0f}" rx="9" fill="{BACKGROUND}"/>',
        *(f'<circle cx="{20 + 18 * i}" cy="17" r="5.5" fill="{colour}"/>' for i, colour in buttons),
        f'<g font-family="{FONTS}" font-size="{FONT_SIZE}" shape-rendering="crispEdges">',
        f'<text x="{width / 2:.0f}" y="22" text-anchor="middle" fill="{FOREGROUND}">{escape(title)}</text>',
    ]
    for row in range(screen.lines):
        cells = [screen.buffer[row][column] for column in range(screen.columns)]
        parts.extend(_row(cells, TITLE_HEIGHT + row * CELL_HEIGHT))
    return "\n".join([*parts, "</g>", "</svg>", ""])


def _row(cells: Sequence[Cell], y: float) -> Iterator[str]:
    for background, columns in _runs(cells, lambda cell: _colours(cell)[1]):
        if background != BACKGROUND:
            yield _rectangle(columns, y, WHOLE, f'fill="{background}"')
    for look, columns in _runs(cells, _look):
        if look.block:
            yield _rectangle(columns, y, SHAPES[look.block], look.attributes)
        else:
            yield from _words(cells, columns, y, look)


def _runs(cells: Sequence[Cell], key: Callable[[Cell], T]) -> Iterator[tuple[T, list[int]]]:
    """Yield what neighbouring cells have in common, with their columns."""
    for common, run in groupby(range(len(cells)), lambda column: key(cells[column])):
        yield common, list(run)


def _look(cell: Cell) -> Look:
    block = cell.data if cell.data in SHAPES else ""
    opacity = SHADE if block == "░" else DIMMED if cell.blink else 1.0
    return Look(block, _colours(cell)[0], cell.bold, opacity)


def _colours(cell: Cell) -> tuple[str, str]:
    """Return the colours of a cell's character and of what lies behind it."""
    colour = PALETTE.get(cell.fg) or f"#{cell.fg}"
    background = BACKGROUND if cell.bg == "default" else PALETTE.get(cell.bg) or f"#{cell.bg}"
    return (background, colour) if cell.reverse else (colour, background)


def _rectangle(columns: Sequence[int], y: float, shape: tuple[float, float, float, float], attributes: str) -> str:
    left, top, width, height = shape
    x = MARGIN + (columns[0] + left) * CELL_WIDTH
    across = (len(columns) - 1 + width) * CELL_WIDTH
    return (
        f'<rect x="{x:.1f}" y="{y + top * CELL_HEIGHT:.2f}" width="{across:.1f}" '
        f'height="{height * CELL_HEIGHT:.2f}" {attributes}/>'
    )


def _words(cells: Sequence[Cell], columns: Sequence[int], y: float, look: Look) -> Iterator[str]:
    """Yield the words of a run, each at its own place, so that no renderer can shift what follows a space."""
    bold = ' font-weight="bold"' if look.is_bold else ""
    for is_blank, group in groupby(columns, lambda column: not cells[column].data.strip()):
        word = list(group)
        if not is_blank:
            text = escape("".join(cells[column].data for column in word))
            yield (
                f'<text x="{MARGIN + word[0] * CELL_WIDTH:.1f}" y="{y + BASELINE:.1f}" {look.attributes}{bold} '
                f'textLength="{len(word) * CELL_WIDTH:.1f}">{text}</text>'
            )


def main() -> None:
    """Run, capture, write."""
    parser = argparse.ArgumentParser(description="Draw what `sacd run` shows on a terminal as SVG.")
    parser.add_argument("--config", default="config.toml", help="configuration to run (default: config.toml)")
    parser.add_argument("--seconds", type=float, default=45.0, help="when to look, after the start (default: 45)")
    parser.add_argument("--columns", type=int, default=120)
    parser.add_argument("--rows", type=int, default=40)
    parser.add_argument("--out", type=Path, default=Path("docs/screen.svg"))
    parser.add_argument("--title", help="of the window (default: the command)")
    parser.add_argument("command", nargs="*", help="another command to run instead, after --")
    options = parser.parse_args()
    command = options.command or [sys.executable, "-m", "daemon", "run", "--config", options.config]
    screen = capture(command, options.columns, options.rows, options.seconds)
    title = options.title or (" ".join(options.command) if options.command else "sacd run")
    options.out.write_text(to_svg(screen, title), encoding="utf-8")
    print(f"{options.out}: {screen.columns} x {screen.lines} cells after {options.seconds:g} s")  # noqa: T201


if __name__ == "__main__":
    main()
