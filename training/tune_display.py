"""What a person sees while a search runs: a line for each trial that ends, and on a terminal a bar below them."""

import sys
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from training import tune, tune_study
from training.console import span
from training.tune_study import Standing

_LINE_EVERY_S = 30.0


class Display:
    """Follows a search; to be entered, and told what `tune` tells. Written to standard error."""

    def __init__(self, trials: int, values: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> None:
        """values: turns a trial's choice into the settings a person knows."""
        self._trials, self._values = trials, values
        self._shares: dict[int, float] = {}
        self._best: Standing | None = None
        self._ended = self._earlier = 0
        self._begun_s = self._line_s = time.monotonic()
        self._bar: tuple[Progress, TaskID] | None = None

    def __enter__(self) -> Self:
        console = Console(stderr=True)
        if console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[left]}"),
            )
            bar = Progress(*columns, console=console)
            self._bar = bar, bar.add_task(f"0 of {self._trials} trials", total=self._trials, left="")
            bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar[0].stop()

    def tell(self, progress: tune.Progress) -> None:
        """Show what a worker told."""
        if progress.standing is None:
            self._shares[progress.number] = progress.share
        else:
            self._shares.pop(progress.number, None)
            self._end(progress.standing, is_earlier=progress.is_earlier)
        self._refresh()

    def _end(self, standing: Standing, *, is_earlier: bool) -> None:
        self._ended += 1
        self._earlier += is_earlier
        best = self._best
        if standing.outcome == tune_study.DONE and (best is None or (standing.score or 0.0) > (best.score or 0.0)):
            self._best = standing
        if not is_earlier:
            self._say(self._line(standing))

    def _line(self, standing: Standing) -> str:
        """Return what to say of a trial that has just ended."""
        spent = "" if standing.seconds is None else f", {span(standing.seconds)}"
        parts = [f"trial {standing.number} of {self._trials}: {told(standing)}{spent}"]
        if self._best is standing:
            parts.append(f"the best so far: {settings(self._values(standing.chosen))}")
        elif self._best is not None:
            parts.append(f"best {self._best.score:.3f} of trial {self._best.number}")
        return "; ".join([*parts, self._left()])

    def _left(self) -> str:
        done = self._ended - self._earlier + sum(self._shares.values())
        open_ones = self._trials - self._ended - sum(self._shares.values())
        if done <= 0.0:
            return f"{self._trials - self._ended} trials left"
        return f"{span((time.monotonic() - self._begun_s) / done * open_ones)} left"

    def _refresh(self) -> None:
        done = self._ended + sum(self._shares.values())
        if self._bar is not None:
            bar, task = self._bar
            best = "" if self._best is None else f", best {self._best.score:.3f}"
            bar.update(
                task, completed=done, description=f"{self._ended} of {self._trials} trials{best}", left=self._left()
            )
        elif time.monotonic() - self._line_s >= _LINE_EVERY_S:
            self._say(f"{self._ended} of {self._trials} trials, {len(self._shares)} running; {self._left()}")

    def _say(self, line: str) -> None:
        self._line_s = time.monotonic()
        if self._bar is not None:
            self._bar[0].console.print(line, markup=False, highlight=False)
        else:
            print(line, file=sys.stderr, flush=True)  # noqa: T201


def told(standing: Standing) -> str:
    """Return how a trial ended, shortly."""
    match standing.outcome:
        case tune_study.DONE:
            return f"{standing.score:.3f}"
        case tune_study.PRUNED:
            return f"given up at {standing.score:.3f}, {len(standing.folds)} folds done"
        case tune_study.UNUSABLE:
            return f"no score: {standing.reason}"
        case _:
            return standing.outcome


def settings(values: Mapping[str, Any]) -> str:
    """Return settings as a person reads them."""
    return ", ".join(f"{name} {short(value)}" for name, value in values.items())


def short(value: Any) -> str:  # noqa: ANN401 - of any dimension
    """Return a value with no more digits than matter."""
    if isinstance(value, float):
        return f"{value:.3g}" if value < 0.98 or value > 1.0 else f"{value:.5g}"  # noqa: PLR2004 - gamma's last digits count
    return f"{value:,}" if isinstance(value, int) else str(value)
