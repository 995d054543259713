"""Trains one member through the stages of a curriculum, and then on all candles, in one folder.

    FOLDER/curriculum.json          the tries so far, with their scores
    FOLDER/curriculum/try-N-STAGE/  each try: a folder of training/member.py
    FOLDER/                         the practice on all candles: the member that counts

Each try is a run of its own that takes over weights, critics and their targets, the entropy coefficient and the
optimisers from the try before. The replay buffer begins anew: what it held was of other candles, and an easier stage's
transitions would stay in a large one to the end. So a try also begins with a few random actions, at most a tenth of
it. The learning rate stays as it begins until all candles are practised on; only then does it fall.

A try is resumed as any member is; finished ones are not begun again. So a run that was killed ends with the same
weights as one that was not.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm

from training.algorithms import deterministic_act
from training.checkpoint import Checkpoints, drop_replay
from training.curriculum import Curriculum, Stage, held_of, make_stages, practice_of
from training.disk import write_together
from training.errors import TrainingError
from training.history import History
from training.market import setup_of_histories
from training.member import MemberProgress, MemberResult, Prepare, Tell, train_member
from training.member_run import identity_of
from training.model_state import load_optimisers, load_weights
from training.plan import MemberPlan
from training.validation import validate

FORMAT = "sacd curriculum 1"
STATE = "curriculum.json"
_TRIES = "curriculum"
_RANDOM_SHARE = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """One practice of a stage. steps: taken, in whole rollouts.  score: afterwards, on the windows held out of it."""

    stage: str
    steps: int
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StageReport:
    """What came of a stage. scores: after each try.  told: what `Stage.to_json` tells of it."""

    told: Mapping[str, Any]
    steps: int
    scores: tuple[float, ...]

    @property
    def is_reached(self) -> bool:
        """True when the last score came up to the threshold."""
        return bool(self.scores) and self.scores[-1] >= float(self.told["threshold"])

    @property
    def words(self) -> str:
        """How it ended: `reached: 0.62 of 0.5 after 1 try`."""
        tries = "1 try" if len(self.scores) == 1 else f"{len(self.scores)} tries"
        verdict = "reached" if self.is_reached else "not reached"
        return f"{verdict}: {self.scores[-1]:.2f} of {self.told['threshold']:g} after {tries}"

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return {
            **self.told,
            "tries": len(self.scores),
            "steps": self.steps,
            "scores": list(self.scores),
            "score": self.scores[-1],
            "is_reached": self.is_reached,
            "words": self.words,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Carry:
    """Hands on what a finished member has learned: the next one goes on with its weights and optimisers."""

    weights: Mapping[str, Any]
    optimisers: Mapping[str, Any]

    def __call__(self, model: BaseAlgorithm) -> None:
        """Put both into a fresh model of the same make."""
        load_weights(model, self.weights)
        load_optimisers(model, self.optimisers)


def train_by_stages(
    histories: Sequence[History],
    validation: Sequence[History],
    plan: MemberPlan,
    folder: Path,
    curriculum: Curriculum,
    *,
    prepare: Prepare | None = None,
    tell: Tell | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> tuple[MemberResult, tuple[StageReport, ...]]:
    """Train one member from easy to hard and then on all candles, or go on where `folder` ends.

    As `train_member`, whose arguments and errors these are; `plan.steps` are those of all parts together. Raises
    TrainingError also for too few candles or steps for the stages, and for a folder of another curriculum.
    """
    course = _Course(
        histories, validation, plan, folder, curriculum, prepare=prepare, tell=tell, should_stop=should_stop
    )
    return course.run()


class _Course:
    def __init__(
        self,
        histories: Sequence[History],
        validation: Sequence[History],
        plan: MemberPlan,
        folder: Path,
        curriculum: Curriculum,
        *,
        prepare: Prepare | None,
        tell: Tell | None,
        should_stop: Callable[[], bool] | None,
    ) -> None:
        self._histories, self._validation, self._plan = histories, validation, plan
        self._folder, self._curriculum, self._prepare = folder, curriculum, prepare
        self._tell, self._should_stop = tell, should_stop
        self._each = curriculum.steps_of_a_try(plan.steps)
        self._stages = make_stages(histories, curriculum, plan.conditions.costs)
        self._identity = _identity(histories, validation, plan, curriculum)
        self._tries = _read_tries(folder, self._identity)
        self._scored_by = setup_of_histories(histories, plan.conditions, "validation")

    def run(self) -> tuple[MemberResult, tuple[StageReport, ...]]:
        for stage in self._stages:
            while not self._is_over(stage):
                self._try(stage)
        done = self._done
        result = train_member(
            self._histories,
            self._validation,
            self._part(len(self._tries), self._plan.steps - done, is_last=True),
            self._folder,
            prepare=self._carried(),
            tell=self._telling(done),
            should_stop=self._should_stop,
        )
        result = replace(result, steps=result.steps + done, best_steps=result.best_steps + done)
        return result, tuple(self._report(stage) for stage in self._stages)

    @property
    def _done(self) -> int:
        return sum(each.steps for each in self._tries)

    def _is_over(self, stage: Stage) -> bool:
        scores = self._scores(stage)
        return bool(scores) and (scores[-1] >= stage.threshold or len(scores) >= self._curriculum.tries)

    def _scores(self, stage: Stage) -> tuple[float, ...]:
        return tuple(each.score for each in self._tries if each.stage == stage.name)

    def _report(self, stage: Stage) -> StageReport:
        steps = sum(each.steps for each in self._tries if each.stage == stage.name)
        return StageReport(told=stage.to_json(), steps=steps, scores=self._scores(stage))

    def _try(self, stage: Stage) -> None:
        """Practise a stage once more, score it, and note both."""
        number = len(self._tries)
        folder = _made(self._folder / _TRIES / f"try-{number}-{stage.name}")
        practised, plan = self._practice(stage, number)
        result = train_member(
            practised,
            [],
            plan,
            folder,
            prepare=self._carried(),
            tell=self._telling(self._done),
            should_stop=self._should_stop,
        )
        held = held_of(self._histories, stage, plan.conditions.strategy.max_missing)
        score = validate(deterministic_act(result.model), held, self._scored_by).value
        drop_replay(folder)
        self._tries.append(Try(stage=stage.name, steps=result.steps, score=score))
        _write_tries(self._folder, self._identity, self._tries)

    def _practice(self, stage: Stage, number: int) -> tuple[list[History], MemberPlan]:
        practised, episode = practice_of(self._histories, stage, self._plan.episode)
        return practised, replace(self._part(number, self._each, is_last=False), episode=episode)

    def _part(self, number: int, steps: int, *, is_last: bool) -> MemberPlan:
        """Return the plan of one part: a seed of its own, its steps, and few random actions at its start."""
        settings = self._plan.settings
        words = np.random.SeedSequence(self._plan.seed, spawn_key=(number,)).generate_state(1, np.uint32)
        return replace(
            self._plan,
            seed=int(words[0]),
            steps=steps,
            validation=self._plan.validation if is_last else None,
            settings=replace(
                settings,
                learning_starts=min(settings.learning_starts, steps // _RANDOM_SHARE),
                final_learning_rate=settings.final_learning_rate if is_last else None,
            ),
        )

    def _carried(self) -> Prepare | None:
        """Return what makes a fresh model go on from the last try; the first one begins as it was told to."""
        if not self._tries:
            return self._prepare
        number = len(self._tries) - 1
        stage = next(stage for stage in self._stages if stage.name == self._tries[number].stage)
        practised, plan = self._practice(stage, number)
        folder = self._folder / _TRIES / f"try-{number}-{stage.name}"
        state = Checkpoints(folder, identity_of(practised, [], plan)).load()
        if state is None:
            raise TrainingError(f"{folder}: its checkpoint is gone: remove {self._folder} to begin the member anew")
        return Carry(weights=state["model"]["weights"], optimisers=state["model"]["optimisers"])

    def _telling(self, done: int) -> Tell | None:
        tell = self._tell
        if tell is None:
            return None

        def told(progress: MemberProgress) -> None:
            steps = min(done + progress.steps, self._plan.steps)
            tell(replace(progress, steps=steps, total=self._plan.steps))

        return told


# ---- what is kept -----------------------------------------------------------------------------------------------
def _identity(
    histories: Sequence[History], validation: Sequence[History], plan: MemberPlan, curriculum: Curriculum
) -> dict[str, Any]:
    own = {f"curriculum {name}": value for name, value in asdict(curriculum).items()}
    return json.loads(json.dumps({**identity_of(histories, validation, plan), **own}))  # type: ignore[no-any-return]


def _read_tries(folder: Path, identity: Mapping[str, Any]) -> list[Try]:
    path = folder / STATE
    try:
        state = json.loads(path.read_bytes())
        if state["format"] != FORMAT:
            raise TrainingError(f"{path}: it is not of this version ({FORMAT}): remove the folder to begin anew")
        tries, theirs = [Try(**each) for each in state["tries"]], dict(state["identity"])
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{path}: it cannot be read ({error}): remove the folder to begin anew") from error
    if odd := [key for key in {**identity, **theirs} if identity.get(key) != theirs.get(key)]:
        told = "; ".join(f"{key} was {theirs.get(key)}, is {identity.get(key)}" for key in odd)
        raise TrainingError(f"{path}: it is of another run: {told}; change it back, or remove the folder to begin anew")
    return tries


def _write_tries(folder: Path, identity: Mapping[str, Any], tries: Sequence[Try]) -> None:
    state = {"format": FORMAT, "identity": dict(identity), "tries": [asdict(each) for each in tries]}
    write_together({folder / STATE: json.dumps(state, indent=1, allow_nan=False).encode() + b"\n"})


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"{folder}: {error.strerror}: free space, then resume") from error
    return folder
