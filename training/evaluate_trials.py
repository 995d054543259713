"""An evaluation and the ledger of trials: how many were made before it, and that it was made."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.console import counted
from training.evaluate import Asked, Tried
from training.evaluation import Evaluation
from training.trials import Kind, Ledger, Tally, Trial, fingerprint, place_of


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Opening:
    """The ledger as it stood before an evaluation. tried: what it says.  trial: the evaluation, without a score yet.

    is_look: whether the span has candles that did not make the bundle.
    """

    ledger: Ledger
    trial: Trial
    tried: Tried
    is_look: bool

    def note(self, found: Evaluation) -> None:
        """Write down that unseen candles were opened, and what came out of a span that has no others.

        Raises TrainingError when it cannot be written.
        """
        if self.is_look:
            # Its years and folds show what the unseen part earned, though no figure is of that part alone.
            is_unseen = found.start_ms >= found.unseen_from_ms
            self.ledger.record([self.trial.scored(found.metrics.sharpe if is_unseen else None, looks=1)])


def look_up(stated: Path | None, asked: Asked) -> Opening:
    """Return what the ledger says of an evaluation before it is made.

    stated: where the ledger lies, None for its usual place.  Raises TrainingError when it is damaged or cannot be
    written: an evaluation that could not be counted is not made.
    """
    ledger = Ledger(place_of(stated))
    tally, trial = ledger.tally(), _trial(asked)
    is_look = trial.to_ms is not None and trial.to_ms > asked.unseen_from_ms
    is_new = is_look and all(other.recipe != trial.recipe for other in tally.counted)
    members = len(asked.bundle.manifest.members)
    tried = Tried(
        trials=max(tally.count + is_new, members),
        sharpes=tally.sharpes,
        warnings=tuple(_warnings(tally, trial, ledger.place, members)),
    )
    return Opening(ledger=ledger, trial=trial, tried=tried, is_look=is_look)


def _trial(asked: Asked) -> Trial:
    end_ms = max(int(table.open_ms[-1]) + table.timeframe.span_ms for table in asked.tables)
    symbols = tuple(table.symbol for table in asked.tables)
    unseen_ms = max(asked.start_ms, asked.unseen_from_ms)
    recipe: dict[str, Any] = {
        "bundle": asked.bundle.manifest.id,
        "span": [asked.start_ms, end_ms],
        "symbols": list(symbols),
        "strategy": asked.conditions.strategy.to_json(),
        "risk": asked.conditions.limits.to_json(),
        "costs": asked.conditions.costs.to_json(),
    }
    return Trial(
        kind=Kind.EVALUATION,
        recipe=fingerprint(recipe),
        from_ms=unseen_ms if unseen_ms < end_ms else asked.start_ms,
        to_ms=end_ms,
        symbols=symbols,
        words=f"bundle {asked.bundle.manifest.short_id}",
    )


def _warnings(tally: Tally, trial: Trial, place: Path, members: int) -> Iterator[str]:
    before = [other for other in tally.only(Kind.EVALUATION).counted if _shares(other, trial)]
    if before:
        others = {other.words for other in before if other.words != trial.words}
        yield (
            f"candles of this span were evaluated {counted(len(before), 'time')} before, with "
            f"{counted(len(others), 'other bundle')} among them: each look makes them less unseen"
        )
    if all(other.kind is Kind.EVALUATION for other in tally.counted):
        yield (
            f"{place} knows of no training: how many trials led to this ensemble is not known, and no fewer than its "
            f"{counted(members, 'member')} are counted"
        )


def _shares(one: Trial, other: Trial) -> bool:
    """Tell whether two trials were scored on some of the same candles."""
    if one.from_ms is None or one.to_ms is None or other.from_ms is None or other.to_ms is None:
        return False
    overlaps = one.from_ms < other.to_ms and other.from_ms < one.to_ms
    return overlaps and not set(one.symbols).isdisjoint(other.symbols)
