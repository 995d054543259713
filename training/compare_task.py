"""What a worker does for one trial of a comparison: candles in, practice, and the score of the last weights out."""

import time
from pathlib import Path

from training.algorithms import deterministic_act
from training.checkpoint import INDEX, drop_replay
from training.compare import Trial, TrialResult
from training.errors import Diverged
from training.held_out import histories_of
from training.market import setup_of
from training.member import MemberProgress, Tell, train_member
from training.member_task import Candles, alone_in
from training.validation import Score, validate
from training.workers import Link


def run_trial(candles: Candles, trial: Trial, link: Link) -> TrialResult:
    """Practise and score, or go on where the checkpoint in the folder of `link` ends.

    A trial that learned its way out of all numbers is a result too, and says so. Raises TrainingError when it could not
    be brought to an end, and Interrupted when `link` said so.
    """
    with alone_in(link.folder):
        return _run(candles, trial, link)


def _run(candles: Candles, trial: Trial, link: Link) -> TrialResult:
    plan = trial.plan
    practice, scored = histories_of(candles.tables, candles.fold, plan.conditions.strategy.max_missing)
    stopwatch = _Stopwatch(link.folder, link.tell)
    try:
        result = train_member(practice, [], plan, link.folder, tell=stopwatch.tell, should_stop=link.should_stop)
    except Diverged as error:
        return _result(trial, stopwatch, steps=stopwatch.steps, score=None, fault=str(error))
    stopwatch.stop()
    setup = setup_of([history.table for history in scored], plan.conditions, "validation")
    score = validate(deterministic_act(result.model), scored, setup)
    drop_replay(link.folder)
    return _result(trial, stopwatch, steps=result.steps, score=score, fault="")


def _result(trial: Trial, stopwatch: "_Stopwatch", *, steps: int, score: Score | None, fault: str) -> TrialResult:
    return TrialResult(
        algorithm=trial.plan.algorithm,
        index=trial.index,
        seed=trial.plan.seed,
        steps=steps,
        score=score,
        fault=fault,
        seconds=stopwatch.seconds if score is not None else None,
        steps_per_s=stopwatch.steps_per_s,
    )


class _Stopwatch:
    """Measures a practice by what it tells. What ran before an interruption is not in it, and so it then says None."""

    def __init__(self, folder: Path, tell: Tell) -> None:
        self._tell = tell
        self._is_whole = not (folder / INDEX).exists()
        self._began_s = self._now_s = time.monotonic()
        self._first: tuple[int, float] | None = None
        self.steps = 0

    def tell(self, progress: MemberProgress) -> None:
        self._now_s, self.steps = time.monotonic(), progress.steps
        if self._first is None:
            self._first = (progress.steps, self._now_s)
        self._tell(progress)

    def stop(self) -> None:
        self._now_s = time.monotonic()

    @property
    def seconds(self) -> float | None:
        return self._now_s - self._began_s if self._is_whole else None

    @property
    def steps_per_s(self) -> float | None:
        if self._first is None or self.steps <= self._first[0]:
            return None
        return (self.steps - self._first[0]) / max(self._now_s - self._first[1], 1e-9)
