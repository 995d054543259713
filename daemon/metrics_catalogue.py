"""Makes metrics in one registry, and remembers what it made for the table in docs/metrics.md."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info


@dataclass(slots=True)
class Catalogue:
    """One method per type of metric. rows: name, type, labels and meaning of each, in the order they were made."""

    registry: CollectorRegistry
    rows: list[tuple[str, str, tuple[str, ...], str]] = field(default_factory=list)

    def counter(self, name: str, text: str, *labels: str) -> Counter:
        """Return a new counter."""
        self.rows.append((name, "counter", labels, text))
        return Counter(name, text, labels, registry=self.registry)

    def gauge(self, name: str, text: str, *labels: str) -> Gauge:
        """Return a new gauge; without labels it is NaN until it is set."""
        self.rows.append((name, "gauge", labels, text))
        made = Gauge(name, text, labels, registry=self.registry)
        if not labels:
            made.set(math.nan)  # zero would be a claim; nothing is known yet
        return made

    def histogram(self, name: str, text: str, bounds: Sequence[float], *labels: str) -> Histogram:
        """Return a new histogram; bounds: upper ones, ascending."""
        self.rows.append((name, "histogram", labels, text))
        return Histogram(name, text, labels, registry=self.registry, buckets=bounds)

    def info(self, name: str, text: str, *labels: str) -> Info:
        """Return a new info, whose labels are its values."""
        self.rows.append((f"{name}_info", "info", labels, text))
        return Info(name, text, registry=self.registry)
