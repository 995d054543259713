"""Charts in the rows of a table: intervals, dots and bands on one scale, with their figures beside them."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal, assert_never

from training.charts import Axis, stretched
from training.report_numbers import Unit

Shape = Literal["dot", "square", "tick", "whisker", "band"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One thing on the scale. style: a class of the style sheet.  told: shown when it is pointed at.

    shape: "dot", "square", "tick" (a line across) at `value`; "band", "whisker" from `value` to `end`.
    """

    shape: Shape
    value: float
    style: str
    told: str
    end: float = 0.0


def scale(values: Sequence[float | None], *others: float) -> Axis:
    """Return one scale for all values and the others that must be on it, with room for the marks."""
    known = [value for value in values if value is not None]
    known += others
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    room = (high - low) * 0.06 or 0.5
    return Axis(low=low - room, high=high + room, begin=0.0, end=1000.0)


def track(axis: Axis, marks: Sequence[Mark], told: str, *, level: float | None = 0.0) -> str:
    """Return one row's drawing. told: what it shows, for those who cannot see it.  level: whose line is stronger."""
    body = [f'<path class="grid" d="M{axis.at(tick):.1f} 0V1000"/>' for tick in axis.ticks()]
    if level is not None:
        body.append(f'<path class="level" d="M{axis.at(level):.1f} 0V1000"/>')
    body += [_shape(axis, mark) for mark in marks]
    return f'<div class="track">{stretched(body, told)}</div>'


def ruler(axis: Axis, unit: Unit) -> str:
    """Return the row below the drawings: the round values of the scale."""
    labels = "".join(
        f'<span style="left:{axis.at(tick) / 10.0:.1f}%">{escape(unit.tick(tick))}</span>' for tick in axis.ticks()
    )
    return f'<div class="ruler" aria-hidden="true">{labels}</div>'


def _shape(axis: Axis, mark: Mark) -> str:
    at, end = axis.at(mark.value), axis.at(mark.end)
    title = f"<title>{escape(mark.told)}</title>"
    match mark.shape:
        case "dot" | "square":
            path = f'<path class="{mark.shape} {mark.style}" d="M{at:.1f} 500h.01"'
        case "tick":
            path = f'<path class="tick {mark.style}" d="M{at:.1f} 120V880"'
        case "whisker":
            path = f'<path class="whisker {mark.style}" d="M{at:.1f} 500H{end:.1f}M{at:.1f} 300V700M{end:.1f} 300V700"'
        case "band":
            path = f'<path class="band {mark.style}" d="M{at:.1f} 250H{end:.1f}V750H{at:.1f}Z"'
        case _:
            assert_never(mark.shape)
    return f"{path}>{title}</path>"
