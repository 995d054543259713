"""The study: storage, sampler, pruner, and what becomes of lost trials."""

import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from tests.training.tune_objectives import BEST_RATE, SPACE, hill
from training import tune_study
from training.errors import TrainingError
from training.tune_sampling import NumberedSampler, Rungs, rungs_of
from training.tune_storage import held, plain_errors
from training.tune_study import importances, open_study, place_of, standings

MEMORY = optuna.storages.InMemoryStorage


def in_memory(sampler: Any = None, pruner: Any = None) -> optuna.Study:
    return optuna.create_study(storage=MEMORY(), direction="maximize", sampler=sampler, pruner=pruner)


def sqlite(directory: Path) -> str:
    return f"sqlite:///{directory / 'study.sqlite'}"


def climbed(study: optuna.Study, trials: int) -> list[dict[str, Any]]:
    chosen = []
    for _ in range(trials):
        trial = study.ask(fixed_distributions=SPACE)
        chosen.append(trial.params)
        study.tell(trial, hill(**trial.params))
    return chosen


# ---- storage ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("storage", "says"),
    [
        ("nonsense", "--storage: this is not a database URL"),
        ("oracle9://host/name", "not a database URL|not installed"),
        ("journal:/no/such/place/x.log", "there is no directory /no/such/place"),
        (
            "sqlite:////no/such/place/x.sqlite",
            "--storage sqlite:////no/such/place/x.sqlite: unable to open database file",
        ),
    ],
)
def test_a_storage_that_cannot_be_used_is_refused_plainly(storage: str, says: str) -> None:
    with pytest.raises(TrainingError, match=says):
        open_study(storage, "test")


def test_a_missing_driver_is_named_and_the_password_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(TrainingError) as caught:
        open_study("postgresql://me:hunter2@127.0.0.1:1/x", "test")
    assert "the driver of this database is not installed" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert "me:***@127.0.0.1" in str(caught.value)


def test_what_the_database_says_never_shows_the_password() -> None:
    storage = "postgresql://me:hunter2@host/x"
    with pytest.raises(TrainingError) as caught, plain_errors(storage):
        raise OSError("no route for me:hunter2@host")
    assert "hunter2" not in str(caught.value)
    assert "no route" in str(caught.value)


@pytest.mark.parametrize("kind", ["sqlite", "journal"])
def test_a_study_is_there_again_when_it_is_opened_again(tmp_path: Path, kind: str) -> None:
    storage = sqlite(tmp_path) if kind == "sqlite" else f"journal:{tmp_path / 'journal.log'}"
    climbed(open_study(storage, "test"), 3)
    assert [standing.number for standing in standings(open_study(storage, "test"))] == [1, 2, 3]
    assert standings(open_study(storage, "other")) == []


def test_a_study_that_searched_something_else_is_refused_naming_it(tmp_path: Path) -> None:
    study = open_study(sqlite(tmp_path), "test")
    tune_study.require_same(study, {"seed": 1, "data": [["a.csv", "00"]], "plan steps": 10})
    tune_study.require_same(study, {"seed": 1, "data": [["a.csv", "00"]], "plan steps": 10})
    with pytest.raises(TrainingError) as caught:
        tune_study.require_same(study, {"seed": 1, "data": [["a.csv", "ff"]], "plan steps": 20})
    assert "data: [['a.csv', '00']] before, [['a.csv', 'ff']] now; plan steps: 10 before, 20 now" in str(caught.value)
    assert "seed" not in str(caught.value)


# ---- choosing ---------------------------------------------------------------------------------------------------
def test_one_seed_gives_the_same_trials_and_another_gives_others() -> None:
    first, again, other = (climbed(in_memory(NumberedSampler(seed)), 25) for seed in (1, 1, 2))
    assert first == again
    assert all(a != b for a, b in zip(first, other, strict=True))
    assert len({str(chosen) for chosen in first}) == 25


def test_a_study_opened_anew_for_every_trial_chooses_what_one_process_would(tmp_path: Path) -> None:
    chosen = []
    for _ in range(16):  # past the trials drawn blindly
        chosen += climbed(open_study(sqlite(tmp_path), "test", NumberedSampler(7)), 1)
    assert chosen == climbed(in_memory(NumberedSampler(7)), 16)


def test_the_sampler_finds_the_top_of_a_known_hill() -> None:
    study = in_memory(NumberedSampler(5))
    chosen = climbed(study, 60)
    late = [abs(hill(**values) - 1.0) for values in chosen[40:]]
    early = [abs(hill(**values) - 1.0) for values in chosen[:10]]  # drawn blindly
    assert sum(late) / len(late) < 0.5 * sum(early) / len(early)
    assert study.best_params["rate"] == pytest.approx(BEST_RATE, rel=2.0)
    assert study.best_value > 0.98


def test_importance_goes_to_the_setting_that_matters() -> None:
    study = in_memory(NumberedSampler(1))
    for _ in range(60):
        trial = study.ask(fixed_distributions=SPACE)
        study.tell(trial, -abs(trial.params["share"] - 0.5))
    shares = importances(study)
    assert next(iter(shares)) == "share"
    assert shares["share"] > 0.7
    assert sum(shares.values()) == pytest.approx(1.0)


def test_no_importance_is_told_from_a_handful_of_trials() -> None:
    study = in_memory(NumberedSampler(1))
    climbed(study, 9)
    assert importances(study) == {}


# ---- giving up --------------------------------------------------------------------------------------------------
def reported(study: optuna.Study, *values: float) -> optuna.Trial:
    trial = study.ask(fixed_distributions=SPACE)
    for step, value in enumerate(values):
        trial.report(value, step)
    return trial


def test_a_trial_below_the_median_is_given_up_though_its_first_fold_was_the_best() -> None:
    study = in_memory(pruner=Rungs({0: 0.5, 1: 0.5}))
    for height in (1.0, 2.0, 3.0, 4.0, 5.0):
        study.tell(reported(study, height, height), height)
    assert reported(study, 9.0, 2.9).should_prune()  # Optuna's own rule goes by the 9
    assert not reported(study, 0.0, 3.0).should_prune()


def test_within_a_fold_only_the_worst_quarter_is_given_up() -> None:
    study = in_memory(pruner=Rungs({0: 0.25}))
    for height in (1.0, 2.0, 3.0, 4.0, 5.0):
        study.tell(reported(study, height), height)
    assert reported(study, 1.9).should_prune()
    assert not reported(study, 2.0).should_prune()


def test_nothing_is_given_up_between_rungs_or_with_fewer_than_five_to_compare() -> None:
    study = in_memory(pruner=Rungs({1: 0.5}))
    for height in (1.0, 2.0, 3.0, 4.0):
        study.tell(reported(study, height, height), height)
    assert not reported(study, 0.0, 0.0).should_prune()
    study.tell(reported(study, 5.0, 5.0), 5.0)
    assert not reported(study, 0.0).should_prune()
    assert reported(study, 0.0, 0.0).should_prune()


def test_trials_given_up_count_among_the_others() -> None:
    study = in_memory(pruner=Rungs({0: 0.5}))
    for height in (1.0, 2.0, 3.0):
        study.tell(reported(study, height), state=TrialState.PRUNED)
    for height in (8.0, 9.0):
        study.tell(reported(study, height), height)
    assert not reported(study, 3.5).should_prune()  # above 3, though below both that finished


def test_rungs_are_the_middle_and_the_end_of_each_fold() -> None:
    # Ten looks into a fold are steps 0 .. 9, its end is 10; the next fold's are 11 .. 21.
    assert rungs_of(2, 10) == {5: 0.25, 10: 0.5, 16: 0.25, 21: 0.5}


# ---- trials -----------------------------------------------------------------------------------------------------
def test_no_more_trials_are_handed_out_than_were_asked_for(tmp_path: Path) -> None:
    study = open_study(sqlite(tmp_path), "test", NumberedSampler(1))
    with held(tmp_path / "lock"):
        handed = [tune_study.next_trial(study, SPACE, 3, tmp_path / "lock") for _ in range(5)]
    assert [trial is not None for trial in handed] == [True, True, True, False, False]


def test_an_interrupted_trial_is_queued_again_with_its_choice_its_folds_and_its_folder(tmp_path: Path) -> None:
    study = open_study(sqlite(tmp_path), "test", NumberedSampler(1))
    trial = tune_study.next_trial(study, SPACE, 1, tmp_path / "lock")
    assert trial is not None
    trial.set_user_attr(tune_study.FOLDS, [0.5])
    tune_study.postpone(study, trial)
    assert [standing.outcome for standing in standings(study)] == ["waiting"]
    with held(tmp_path / "lock"):
        again = tune_study.next_trial(study, SPACE, 1, tmp_path / "lock")
        assert tune_study.next_trial(study, SPACE, 1, tmp_path / "lock") is None
    assert again is not None
    assert again.params == trial.params
    assert again.user_attrs[tune_study.FOLDS] == [0.5]
    assert tune_study.folder_of(again) == tune_study.folder_of(trial)


def test_a_trial_whose_process_died_is_done_again_once_and_then_noted(tmp_path: Path) -> None:
    code = """
import sys
from collections.abc import Callable
from pathlib import Path
from tests.training.tune_objectives import SPACE
from training import tune_sampling, tune_storage, tune_study
study = tune_study.open_study(sys.argv[1], "test", tune_sampling.NumberedSampler(1))
with tune_storage.held(Path(sys.argv[2])):
    trial = tune_study.next_trial(study, SPACE, 1, Path(sys.argv[2]))
    assert tune_study.recover(study) == 0  # it lives
"""
    storage = sqlite(tmp_path)
    study = open_study(storage, "test")
    for expected in ("waiting", "unusable"):
        subprocess.run([sys.executable, "-c", code, storage, str(tmp_path / "lock")], check=True)
        assert tune_study.recover(study) == 1
        assert [standing.outcome for standing in standings(study)] == [expected]
    assert standings(study)[0].reason == "its process died 2 times"


def test_a_trial_of_another_machine_is_left_alone(tmp_path: Path) -> None:
    study = open_study(sqlite(tmp_path), "test")
    trial = study.ask(fixed_distributions=SPACE)
    trial.set_user_attr("worker", [f"not-{socket.gethostname()}", str(tmp_path / "gone"), "its name"])
    assert tune_study.recover(study) == 0
    assert tune_study.recover(study, ended="another name") == 0
    assert [standing.outcome for standing in standings(study)] == ["running"]
    assert tune_study.recover(study, ended="its name") == 1
    assert [standing.outcome for standing in standings(study)] == ["waiting"]


@pytest.mark.filterwarnings("ignore:Heartbeat of storage")
def test_a_trial_of_another_machine_is_lost_when_its_database_has_not_heard_of_it_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Beating(optuna.storages.RDBStorage):
        def __init__(self, url: str, **options: Any) -> None:
            beats = {"heartbeat_interval": 60, "grace_period": 900}
            super().__init__(url, **(options | beats | {"heartbeat_stale_trial_callback": tune_study._queue_again}))

    monkeypatch.setattr(optuna.storages, "RDBStorage", Beating)  # as for PostgreSQL, with a file
    study = open_study(sqlite(tmp_path), "test")
    trial = study.ask(fixed_distributions=SPACE)
    trial.set_user_attr("worker", ["elsewhere", "/lock", "its name"])
    tune_study.beat(study, trial)
    assert tune_study.recover(study) == 0
    assert [standing.outcome for standing in standings(study)] == ["running"]
    with sqlite3.connect(tmp_path / "study.sqlite") as database:
        database.execute("UPDATE trial_heartbeats SET heartbeat = datetime(heartbeat, '-20 minutes')")
    tune_study.recover(study)
    assert [standing.outcome for standing in standings(study)] == ["waiting"]


def test_an_unsigned_trial_is_lost_only_when_nobody_else_works_on_the_study(tmp_path: Path) -> None:
    study = open_study(sqlite(tmp_path), "test")
    study.ask(fixed_distributions=SPACE)
    assert tune_study.recover(study) == 0
    assert tune_study.recover(study, is_alone=True) == 1


def test_void_trials_take_no_place() -> None:
    study = in_memory()
    for state in (TrialState.FAIL, TrialState.PRUNED, TrialState.FAIL, TrialState.PRUNED):
        study.tell(study.ask(fixed_distributions=SPACE), state=state)
    assert [place_of(number, study.get_trials()) for number in range(4)] == [0, 0, 1, 1]
    assert [standing.number for standing in standings(study)] == [1, 2]


def late_choices_below_half(end: Callable[[optuna.Study, optuna.Trial], None]) -> int:
    """Return how many of trials 21 .. 60 choose a share below 0.5, where `end` is what becomes of them."""
    study = in_memory(NumberedSampler(3))
    shares = []
    for _ in range(60):
        trial = study.ask(fixed_distributions=SPACE)
        shares.append(trial.params["share"])
        if shares[-1] < 0.5:
            end(study, trial)
        else:
            study.tell(trial, -1.0)
    return sum(share < 0.5 for share in shares[20:])


def test_the_sampler_learns_to_avoid_what_has_no_score() -> None:
    condemned = late_choices_below_half(lambda study, trial: tune_study.condemn(study, trial, "diverged"))
    forgotten = late_choices_below_half(lambda study, trial: study.tell(trial, state=TrialState.FAIL))
    assert condemned < 0.75 * forgotten
