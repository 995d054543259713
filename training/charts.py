"""What all drawings share: an axis that places values and names round ones, and the frame of a piece of SVG.

A drawing is text in the page itself, coloured by its style sheet, without any script.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_LEAST_TICKS = 3
_MOST_DECADES = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """Where values lie on a line from `begin` to `end`, in pixels. is_log: by their logarithm."""

    low: float
    high: float
    begin: float
    end: float
    is_log: bool = False

    def at(self, value: float) -> float:
        """Return the place of a value; all in the middle when there is one value only."""
        low, high, value = (math.log(x) if self.is_log else x for x in (self.low, self.high, value))
        share = 0.5 if high <= low else (value - low) / (high - low)
        return self.begin + share * (self.end - self.begin)

    def ticks(self) -> list[float]:
        """Return three to seven round values within the axis."""
        if self.is_log:
            found = self._log_ticks()
            if len(found) >= _LEAST_TICKS:
                return found
        if self.high <= self.low:
            return [self.low]
        raw = (self.high - self.low) / 4.0
        size = 10.0 ** math.floor(math.log10(raw))
        step = next(size * k for k in (1.0, 2.0, 5.0, 10.0) if size * k >= raw)
        first = math.ceil(self.low / step - 1e-9)
        return [k * step for k in range(first, math.floor(self.high / step + 1e-9) + 1)]

    def _log_ticks(self) -> list[float]:
        """Return powers of ten, or with 2 and 5 between when these are few; fewer than three when even those are."""
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        stride = max(1, math.ceil((last - first) / _MOST_DECADES))
        for parts in ((1.0,), (1.0, 2.0, 5.0)):
            values = [part * 10.0**k for k in range(first, last + 1, stride) for part in parts]
            found = [value for value in values if self.low * 0.999 <= value <= self.high * 1.001]
            if len(found) >= _LEAST_TICKS:
                return found
        return found


def padded(values: Sequence[float], begin: float, end: float) -> Axis:
    """Return an axis with a little room on both sides of the values."""
    low, high = min(values), max(values)
    room = (high - low) * 0.06 or max(abs(high), 1.0) * 0.1
    return Axis(low=low - room, high=high + room, begin=begin, end=end)


def label(x: float, y: float, text: str, anchor: str, style: str = "label") -> str:
    """Return words at a place of a drawing."""
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def svg(width: float, height: float, body: Sequence[str], told: str) -> str:
    """Return a drawing that scales with the page. told: what it is, for those who cannot see it."""
    return f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(told)}">' + "".join(body) + "</svg>"


def stretched(body: Sequence[str], told: str, style: str = "") -> str:
    """Return a drawing of 1000 by 1000 units that fills its place whatever that is; only strokes keep their width."""
    name = f' class="{style}"' if style else ""
    return (
        f'<svg{name} viewBox="0 0 1000 1000" preserveAspectRatio="none" role="img" aria-label="{escape(told)}">'
        + "".join(body)
        + "</svg>"
    )
