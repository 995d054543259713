"""The score of a trial: members on folds, reports between them, and what happens in the middle."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import pytest

from tests.training.markets import history
from training import member
from training.errors import Interrupted, TrainingError
from training.folds import FoldSettings, make_folds
from training.member import MemberProgress
from training.plan import MemberPlan, Settings, Validation
from training.tune_objective import FoldObjective
from training.tune_space import make_search
from training.tune_study import FOLDS

TABLES = [history(24 * 40, seed=2)]
PLAN = MemberPlan(
    seed=0,
    steps=400,
    settings=Settings(
        buffer_size=400, learning_starts=100, batch_size=16, net_arch=(8,), train_freq=8, learning_rate=1e-3
    ),
    validation=Validation(every=100),
)
FIXES = ["buffer_size", "batch_size", "net_arch", "gradient_steps", "learning_rate", "gamma", "reward"]


def objective(plan: MemberPlan = PLAN, tables: Any = TABLES) -> FoldObjective:
    folds = make_folds(tables, FoldSettings(count=2), max_missing=6, least_practice=2)
    return FoldObjective(tables=tables, folds=folds, search=make_search(plan, FIXES, ["episode.length=200"]), seed=3)


@dataclass
class Trial:
    """What the objective uses of Optuna's trial."""

    params: dict[str, float] = field(default_factory=lambda: {"tau": 0.01})
    user_attrs: dict[str, Any] = field(default_factory=dict)
    reports: list[tuple[int, float]] = field(default_factory=list)
    pruned_at: int | None = None

    def report(self, value: float, step: int) -> None:
        self.reports.append((step, value))

    def should_prune(self) -> bool:
        return self.pruned_at is not None and self.reports[-1][0] >= self.pruned_at

    def set_user_attr(self, key: str, value: Any) -> None:
        self.user_attrs[key] = list(value)


def scored(
    trial: Trial, folder: Path, told: list[float] | None = None, stop: Callable[[], bool] = lambda: False
) -> float:
    return objective().open()(trial, folder, (told if told is not None else []).append, stop)  # type: ignore[arg-type]


@dataclass
class Scripted:
    """Stands for `train_member`: tells what it was given, and gives scores from a list."""

    scores: list[float | None]
    plans: list[MemberPlan] = field(default_factory=list)
    spans: list[tuple[int, int, int]] = field(default_factory=list)

    def __call__(
        self, practice: Any, validation: Any, plan: MemberPlan, folder: Path, *, tell: Any, should_stop: Any
    ) -> Any:
        self.plans.append(plan)
        first = int(validation[0].table.open_ms[validation[0].starts[0]])
        self.spans.append((int(practice[0].table.open_ms[-1]), first, int(validation[0].table.open_ms[-1])))
        (folder / "replay").write_text("big")
        score = self.scores.pop(0)
        for steps in range(100, plan.steps + 1, 100):
            tell(MemberProgress(steps=steps, total=plan.steps, score=score, best=score))
            if should_stop():
                raise Interrupted("stopped")
        return member.MemberResult(model=None, steps=400, best_steps=400, score=score, is_early=False)  # type: ignore[arg-type]


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Scripted]:
    def make(*scores: float | None) -> Scripted:
        script = Scripted(list(scores))
        monkeypatch.setattr(member, "train_member", script)
        return script

    return make


def test_the_score_is_the_mean_over_folds_reported_on_the_way(
    scripted: Callable[..., Scripted], tmp_path: Path
) -> None:
    script, trial, told = scripted(1.0, 4.0), Trial(), list[float]()
    assert scored(trial, tmp_path, told) == 2.5
    # Four looks into each fold and the fold's end: five steps a fold.
    assert trial.reports == [(step, 1.0) for step in range(5)] + [(step, 2.5) for step in range(5, 10)]
    assert trial.user_attrs[FOLDS] == [1.0, 4.0]
    assert told == [0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0]
    assert [plan.settings.tau for plan in script.plans] == [0.01, 0.01]
    assert list(tmp_path.iterdir()) == []  # no replay buffer stays


def test_each_fold_has_its_own_seed_and_every_trial_the_same(scripted: Callable[..., Scripted], tmp_path: Path) -> None:
    script = scripted(1.0, 1.0, 2.0, 2.0)
    scored(Trial(), tmp_path)
    scored(Trial(params={"tau": 0.05}), tmp_path)
    first, second, third, fourth = (plan.seed for plan in script.plans)
    assert first != second
    assert (first, second) == (third, fourth)


def test_no_fold_practises_on_what_any_later_fold_or_itself_is_scored_on(
    scripted: Callable[..., Scripted], tmp_path: Path
) -> None:
    script = scripted(1.0, 1.0)
    scored(Trial(), tmp_path)
    for last_practice, first_scored, last_scored in script.spans:
        assert last_practice < first_scored < last_scored


def test_a_trial_that_is_given_up_stops_its_member(scripted: Callable[..., Scripted], tmp_path: Path) -> None:
    script, trial = scripted(1.0, 4.0), Trial(pruned_at=2)
    with pytest.raises(optuna.TrialPruned):
        scored(trial, tmp_path)
    assert trial.reports[-1] == (2, 1.0)
    assert len(script.plans) == 1


def test_an_interrupted_trial_keeps_its_folds_and_goes_on_with_the_next(
    scripted: Callable[..., Scripted], tmp_path: Path
) -> None:
    trial = Trial()
    scripted(1.0, 9.0)
    with pytest.raises(Interrupted):
        scored(trial, tmp_path, stop=lambda: len(trial.reports) > 6)
    assert trial.user_attrs[FOLDS] == [1.0]
    again, script = Trial(user_attrs=dict(trial.user_attrs)), scripted(4.0)
    assert scored(again, tmp_path) == 2.5
    assert len(script.plans) == 1


@pytest.mark.parametrize(
    ("scores", "says"),
    [
        ((0.0, 0.0), "it never traded in any fold"),
        ((1.0, None), "fold 2: the validation score is None"),
        ((float("nan"),), "fold 1: the validation score is nan"),
    ],
)
def test_a_choice_without_a_score_is_refused_with_the_reason(
    scripted: Callable[..., Scripted], tmp_path: Path, scores: tuple[float | None, ...], says: str
) -> None:
    scripted(*scores)
    with pytest.raises(TrainingError, match=says):
        scored(Trial(), tmp_path)


def test_a_search_without_scores_is_refused() -> None:
    plan = MemberPlan(seed=0, steps=10)
    with pytest.raises(TrainingError, match="a search needs scores"):
        objective(plan).open()


def test_real_members_give_the_same_score_twice_and_leave_nothing(tmp_path: Path) -> None:
    trials = [Trial(params={"tau": 0.02}), Trial(params={"tau": 0.02})]
    values = []
    for trial in trials:
        try:
            values.append(scored(trial, tmp_path))
        except TrainingError as error:  # so few steps may teach it not to trade
            values.append(str(error))  # type: ignore[arg-type]
    assert values[0] == values[1]
    assert trials[0].reports == trials[1].reports
    assert len(trials[0].user_attrs[FOLDS]) == 2
    assert list(tmp_path.rglob("*.zip")) == []
