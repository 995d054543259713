"""The refits of an evaluation: what training/evaluate_refit.py needs is loaded only where they are asked for."""

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from strategy.manifest import BundleManifest
from training import evaluate_refit
from training.console import counted, progress
from training.errors import Interrupted, TrainingError
from training.evaluate import Asked
from training.evaluation import Refit
from training.refit_recipe import Recipe, recipe_of
from training.trials import Ledger
from training.workers import LocalPool

_PARTICULARS = re.compile(r"fold \d+|groups \d+(, \d+)*( and \d+)?|\d{4}-\d{2}-\d{2}")
"""What tells one refit's note from another's: its name, and days."""


def refits(
    asked: Asked, kinds: Sequence[str], *, steps: int | None, keep: Path, ledger: Ledger
) -> tuple[list[Refit], list[str]]:
    """Return what came of training the bundle's recipe anew in each way, and what must be said of it.

    steps: of each member, instead of the recipe's.  keep: where finished members lie, so that an evaluation that was
    interrupted goes on from them.  ledger: counts their members as trials.  Raises TrainingError when the recipe or the
    candles do not allow it.
    """
    notes = []
    if steps is not None:
        notes.append(f"the refits were shortened: their members practised on {counted(steps, 'candle')} each")
    try:
        wanted = evaluate_refit.Asked(
            recipe=recipe_of(asked.bundle.manifest, steps=steps),
            tables=asked.tables,
            setup=asked.market().setup,
            start_ms=asked.start_ms,
            ledger=ledger,
            keep=keep,
        )
        found = [_refit(kind, wanted, asked.workers, notes.append) for kind in kinds]
    except Interrupted:
        raise
    except TrainingError as error:
        raise _with_way_out(error) from error
    return found, condensed(notes)


def condensed(notes: Sequence[str]) -> list[str]:
    """Return the first of the notes that say the same of different refits and days, with the number of the others."""
    kinds: dict[str, list[str]] = {}
    for note in notes:
        kinds.setdefault(_PARTICULARS.sub("", note), []).append(note)
    return [
        kind[0] if len(kind) == 1 else f"{kind[0]} (and {len(kind) - 1} more notes like this)"
        for kind in kinds.values()
    ]


def recipe(manifest: BundleManifest, steps: int | None) -> Recipe:
    """Return what `refits` trains anew. Raises TrainingError when the recipe or the steps do not allow it."""
    try:
        return recipe_of(manifest, steps=steps)
    except TrainingError as error:
        raise _with_way_out(error) from error


def _with_way_out(error: TrainingError) -> TrainingError:
    return TrainingError(f"{error}; --refit none evaluates without")


def _refit(kind: str, wanted: evaluate_refit.Asked, workers: int | None, warn: Callable[[str], None]) -> Refit:
    pool = LocalPool(len(os.sched_getaffinity(0)) if workers is None else workers)
    with progress(f"refit, {kind}, percent", 100) as tell:

        def share(done: int, total: int) -> None:
            tell(100 * done // max(total, 1))

        if kind == evaluate_refit.WALK_FORWARD:
            return evaluate_refit.walk_forward(wanted, pool, tell=share, warn=warn)[0]
        return evaluate_refit.combinatorial(wanted, pool, tell=share, warn=warn)
