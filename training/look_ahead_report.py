"""What `sacd evaluate --look-ahead` finds, as one record."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from training.look_ahead import Futures, Leak
from training.look_ahead_decisions import Decisions
from training.look_ahead_past import Streaming, WarmUp
from training.look_ahead_shuffled import Shuffled


@dataclass(frozen=True, slots=True, kw_only=True)
class RulesChecked:
    """What changing the future did to what the rules want. moments: tried.  leaks: rules that read later candles."""

    moments: int
    leaks: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LookAhead:
    """All checks of one target. None: not done, for there is nothing to do it with.

    target: "MODULE:FUNCTION".  window: candles a row may need.  candles: of all symbols.
    """

    target: str
    window: int
    symbols: tuple[str, ...]
    candles: int
    futures: Futures
    warm_ups: tuple[WarmUp, ...]
    streaming: Streaming | None
    decisions: Decisions | None
    shuffled: Shuffled | None
    rules: RulesChecked | None

    @property
    def needs_more_past(self) -> Sequence[WarmUp]:
        """What needs more candles than the window: no look-ahead, but live it would be another feature."""
        return [warm_up for warm_up in self.warm_ups if warm_up.needs > self.window]

    @property
    def complaints(self) -> Sequence[str]:
        """What is wrong, one line each; empty when the future is nowhere read."""
        said = [f"{leak.output} {leak.words}" for leak in self.futures.leaks]
        if self.streaming is not None and self.streaming.differ:
            said.append(f"{self.streaming.differ:,} rows of the streaming form are not those of the array form")
        if self.decisions is not None and self.decisions.differ:
            said.append(f"{self.decisions.first_what} of {self.decisions.first_symbol} depend on later candles")
        if self.rules is not None:
            said.extend(f"the baseline {rule} reads later candles" for rule in self.rules.leaks)
        if self.shuffled is not None and self.shuffled.is_leak:
            said.append("the ensemble earns on shuffled markets, where nothing can be known")
        return said

    def to_json(self) -> dict[str, Any]:
        """Return the documented object of `sacd evaluate --look-ahead --json`."""
        whole = asdict(self)
        futures = whole.pop("futures")
        return {
            **whole,
            **futures,
            "needs_more_past": [warm_up.output for warm_up in self.needs_more_past],
            "complaints": list(self.complaints),
            "is_clean": not self.complaints,
        }


def worst_first(leaks: Sequence[Leak]) -> list[Leak]:
    """Return leaks with those that show in most moments first."""
    return sorted(leaks, key=lambda leak: (-leak.moments, leak.output))
