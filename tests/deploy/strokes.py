"""The few shapes of SVG that pictures of dashboards are made of. Places and sizes are pixels, y grows downwards."""

import html
from collections.abc import Callable, Sequence

GRID, DIM, INK = "#2c2f36", "#8e8e99", "#ccccdc"
LETTER = 6.2
"""Mean width of a letter of size 11."""

Point = tuple[float, float]


def text(at: Point, words: str, *, size: float, color: str = INK, anchor: str = "start", weight: int = 400) -> str:
    return (
        f'<text x="{at[0]:.1f}" y="{at[1]:.1f}" font-size="{size:.1f}" fill="{color}" text-anchor="{anchor}"'
        f' font-weight="{weight}" xml:space="preserve">{html.escape(words)}</text>'
    )


def bar(corner: Point, width: float, height: float, color: str, opacity: float = 1.0) -> str:
    return (
        f'<rect x="{corner[0]:.1f}" y="{corner[1]:.1f}" width="{max(width, 0.0):.1f}" height="{max(height, 0.0):.1f}"'
        f' fill="{color}" opacity="{opacity:.2f}"/>'
    )


def line(points: Sequence[Point], color: str, width: float, *, is_dashed: bool = False) -> str:
    dashes = ' stroke-dasharray="6 5"' if is_dashed else ""
    return f'<polyline points="{_path(points)}" fill="none" stroke="{color}" stroke-width="{width}"{dashes}/>'


def area(points: Sequence[Point], floor: float, color: str, opacity: float) -> str:
    """Return what lies between points and a level."""
    around = [(points[0][0], floor), *points, (points[-1][0], floor)]
    return f'<polygon points="{_path(around)}" fill="{color}" opacity="{opacity:.2f}"/>'


def scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    """Return what leads from values to pixels."""
    span = high - low or 1.0
    return lambda value: start + (value - low) / span * (end - start)


def _path(points: Sequence[Point]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
