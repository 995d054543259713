"""How long to wait before trying again: exponential, capped, with full jitter.

Never sleeps and never retries by itself: the caller owns the loop, the clock and what may be repeated. Orders are
not repeated this way at all.
"""

import math
from dataclasses import dataclass, field
from typing import Protocol


class Uniform(Protocol):
    """A seeded source of uniform numbers: `random.Random` and `numpy.random.Generator` both are one."""

    def random(self) -> float:
        """Return the next number in [0, 1)."""
        ...


@dataclass(slots=True, kw_only=True)
class Backoff:
    """Pauses of one thing that keeps failing: uniform in 0 .. min(cap_s, base_s * 2**failures).

    base_s, cap_s: seconds, 0 < base_s <= cap_s, finite.  floor_s: shortest pause, 0 <= floor_s <= base_s.
    Raises ValueError for other limits.
    Source: Brooker (2015), "Exponential Backoff And Jitter", AWS Architecture Blog: "full jitter" needs the fewest
    calls of the variants compared, and keeps many clients from returning together.
    """

    base_s: float
    cap_s: float
    generator: Uniform
    floor_s: float = 0.0
    failures: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if not (0.0 <= self.floor_s <= self.base_s <= self.cap_s < math.inf and self.base_s > 0.0):
            raise ValueError(
                f"backoff needs 0 <= floor <= base <= cap and base > 0, "
                f"got {self.floor_s}, {self.base_s}, {self.cap_s} s"
            )

    @property
    def ceiling_s(self) -> float:
        """Longest pause the next failure can bring, in seconds."""
        # ldexp overflows past 2**1023; the cap is reached long before.
        return min(self.cap_s, math.ldexp(self.base_s, min(self.failures, 64)))

    def next_s(self) -> float:
        """Count one more failure and return how many seconds to wait for it."""
        pause_s = max(self.floor_s, self.generator.random() * self.ceiling_s)
        self.failures += 1
        return pause_s

    def reset(self) -> None:
        """Forget the failures: it worked."""
        self.failures = 0
