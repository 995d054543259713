"""What one benchmark found: our figure against a reference measured in the same run."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A ratio and its target.

    name: what was measured, in words.  ratio: ours against the reference; `better` says which way is good.
    ours, reference: the two figures with their units.  note: what the reader needs to judge them, may be empty.
    """

    name: str
    ratio: float
    target: float
    better: Literal["higher", "lower"]
    ours: str
    reference: str
    note: str = ""

    @property
    def is_met(self) -> bool:
        """True when the ratio reaches the target."""
        return self.ratio >= self.target if self.better == "higher" else self.ratio <= self.target

    def format(self) -> str:
        """Return one line: `durable decision: 1.6x one fdatasync (250 us vs 156 us); target at most 2x: met`."""
        bound = "at least" if self.better == "higher" else "at most"
        verdict = "met" if self.is_met else "MISSED"
        note = f"; {self.note}" if self.note else ""
        figures = f"({self.ours} vs {self.reference})"
        return f"{self.name}: {self.ratio:.3g}x {figures}; target {bound} {self.target:g}x: {verdict}{note}"
