"""The refits of an evaluation: what training/evaluate_refit.py needs is loaded only where they are asked for."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from training import evaluate_refit
from training.console import counted, progress
from training.errors import Interrupted, TrainingError
from training.evaluate import Asked
from training.evaluation import Refit
from training.refit_recipe import recipe_of
from training.trials import Ledger
from training.workers import LocalPool


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
        raise TrainingError(f"{error}; --refit none evaluates without") from error
    return found, notes


def _refit(kind: str, wanted: evaluate_refit.Asked, workers: int | None, warn: Callable[[str], None]) -> Refit:
    pool = LocalPool(len(os.sched_getaffinity(0)) if workers is None else workers)
    with progress(f"refit, {kind}, percent", 100) as tell:

        def share(done: int, total: int) -> None:
            tell(100 * done // max(total, 1))

        if kind == evaluate_refit.WALK_FORWARD:
            return evaluate_refit.walk_forward(wanted, pool, tell=share, warn=warn)[0]
        return evaluate_refit.combinatorial(wanted, pool, tell=share, warn=warn)
