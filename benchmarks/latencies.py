"""Latencies of decisions under different loads: their quantiles, and how those compare, with an interval."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
QUANTILES = (0.5, 0.9, 0.99, 0.999, 1.0)
_DRAWS = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """What a daemon noted of its decisions, oldest first; (n,) seconds each.

    sent_s: when the candle was handed to the process, on the machine's monotonic clock.  arrival_s: from then until the
    engine took it.  latency_s: from there until the decision was on disk, what the daemon itself calls latency.
    write_s: the part of it that was spent on the commit.
    """

    sent_s: Array
    arrival_s: Array
    latency_s: Array
    write_s: Array

    @classmethod
    def from_rows(cls, rows: Array) -> "Samples":
        """Return the samples of a (4 n,) array in which the four figures of a decision follow one another."""
        table = rows.reshape(-1, 4)
        return cls(sent_s=table[:, 0], arrival_s=table[:, 1], latency_s=table[:, 2], write_s=table[:, 3])

    @property
    def total_s(self) -> Array:
        """From the hand-over of the candle until the decision was on disk."""
        return self.arrival_s + self.latency_s

    def between(self, start_s: float, end_s: float) -> "Samples":
        """Return those whose candle was sent in [start_s, end_s)."""
        first, last = np.searchsorted(self.sent_s, [start_s, end_s])
        parts = (self.sent_s, self.arrival_s, self.latency_s, self.write_s)
        return Samples.from_rows(np.stack([part[first:last] for part in parts], axis=1).ravel())


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """A quantile under load over the one without, all rounds together, and its 95 % interval over rounds."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"


def ratio_of(loaded: Sequence[Array], idle: Sequence[Array], share: float, seed: int = 0) -> Ratio:
    """Return how a quantile under load compares. share: which one, 0.99 is p99.

    loaded[i], idle[i]: the latencies of round i. Rounds are drawn with replacement, both phases of one together:
    neighbouring decisions see the same machine, rounds do not.
    """
    generator, rounds = np.random.default_rng(seed), len(idle)
    drawn = [generator.integers(rounds, size=rounds) for _ in range(_DRAWS)]
    values = [_ratio([loaded[i] for i in chosen], [idle[i] for i in chosen], share) for chosen in drawn]
    low, high = np.quantile(values, [0.025, 0.975])
    return Ratio(value=_ratio(loaded, idle, share), low=float(low), high=float(high))


def _ratio(loaded: Sequence[Array], idle: Sequence[Array], share: float) -> float:
    return quantile(loaded, share) / quantile(idle, share)


def quantile(rounds: Sequence[Array], share: float) -> float:
    """Return a quantile of all rounds together: a value that occurred, not one between two."""
    return float(np.quantile(np.concatenate(rounds), share, method="higher"))


def table(kinds: Mapping[str, Sequence[Array]]) -> list[str]:
    """Return lines: one per kind of latency, its quantiles in milliseconds. kinds: name -> a (n,) array per round."""
    width = max(map(len, kinds))
    names = [f"p{100 * share:g}" if share < 1.0 else "worst" for share in QUANTILES]
    lines = [f"{'ms':<{width}} {'decisions':>9} " + " ".join(f"{name:>8}" for name in names)]
    for name, rounds in kinds.items():
        figures = " ".join(f"{quantile(rounds, share) * 1e3:8.2f}" for share in QUANTILES)
        lines.append(f"{name:<{width}} {sum(map(len, rounds)):>9,} {figures}")
    return lines
