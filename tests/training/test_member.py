import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.base_class import BaseAlgorithm

from strategy.observation import N_OBSERVATION
from tests.fakes.trading import ETH
from tests.training.markets import history
from tests.training.members import PLANS, PRACTICE, SCORED, plan, stopping_after, told_of, trained
from training.algorithms import build_model, deterministic_act
from training.callbacks import BEST
from training.checkpoint import INDEX
from training.errors import Interrupted, TrainingError
from training.export import LEAST_OBSERVATIONS, export_actor
from training.history import History
from training.market import setup_of
from training.member import MemberProgress, train_member
from training.member_run import practice_of
from training.model_state import weights_of
from training.monitor import MONITOR
from training.packing import unpack
from training.validation import validate


def last_weights(folder: Path) -> dict[str, Any]:
    index = json.loads((folder / INDEX).read_bytes())
    weights: dict[str, Any] = unpack((folder / "checkpoint" / index["state"]["name"]).read_bytes())["model"]["weights"]
    return weights


@pytest.mark.parametrize("name", [name for name in PLANS if name != "sac-early"])
def test_watching_changes_nothing_in_what_is_learned(name: str, tmp_path: Path) -> None:
    chosen = PLANS[name]
    trained(tmp_path, chosen, tell=lambda progress: None, should_stop=lambda: False)
    plain = build_model(chosen, practice_of([PRACTICE], chosen)).learn(chosen.steps)
    watched = last_weights(tmp_path)
    assert {name: array.tobytes() for name, array in weights_of(plain).items()} == {
        name: array.tobytes() for name, array in watched.items()
    }


def test_the_model_is_the_best_by_validation(tmp_path: Path) -> None:
    chosen = PLANS["sac-early"]
    result = trained(tmp_path, chosen)
    lines = map(json.loads, (tmp_path / MONITOR).read_bytes().splitlines())
    scores = {line["step"]: line["score"] for line in lines if line["kind"] == "score" and line["trades"]}
    assert len(set(scores.values())) > 1
    assert result.score == max(scores.values()) == scores[result.best_steps]
    setup = setup_of([SCORED.table], chosen.conditions, "again")
    assert validate(deterministic_act(result.model), [SCORED], setup).value == result.score


def test_without_validation_candles_the_model_is_the_last(tmp_path: Path) -> None:
    result = train_member([PRACTICE], [], PLANS["sac"], tmp_path)
    assert (result.score, result.best_steps, result.steps, result.is_early) == (
        None,
        904,
        904,
        False,
    )  # whole rollouts of 8
    last = last_weights(tmp_path)
    assert all(np.array_equal(array, last[name]) for name, array in weights_of(result.model).items())
    assert (tmp_path / BEST).exists()


def test_without_a_rule_the_last_weights_are_scored_once(tmp_path: Path) -> None:
    told: list[MemberProgress] = []
    result = trained(tmp_path, plan(validation=None), tell=told.append)
    assert (result.best_steps, result.steps) == (904, 904)
    assert result.score is not None
    assert [progress.score for progress in told] == [None] * (len(told) - 1) + [result.score]


def test_a_member_writes_nothing_outside_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "here"))
    trained(tmp_path / "member", PLANS["sac"])
    assert list((tmp_path / "here").iterdir()) == []
    assert {path.name for path in (tmp_path / "member").iterdir()} == {
        BEST,
        INDEX,
        MONITOR,
        "checkpoint",
        "tensorboard",
    }


def test_a_trained_member_can_be_exported(tmp_path: Path) -> None:
    result = trained(tmp_path, PLANS["sac-gsde"])
    size = LEAST_OBSERVATIONS, N_OBSERVATION
    observations = np.random.default_rng(0).uniform(-1.0, 1.0, size).astype(np.float32)
    assert export_actor(result.model, observations).difference <= 1e-6  # type: ignore[arg-type]


def test_a_fresh_model_is_prepared_and_a_resumed_one_is_not(tmp_path: Path) -> None:
    prepared: list[int] = []

    def prepare(model: BaseAlgorithm) -> None:
        prepared.append(model.num_timesteps)
        with torch.no_grad():
            for parameter in model.policy.parameters():
                parameter.mul_(0.5)

    with pytest.raises(Interrupted):
        trained(tmp_path / "stopped", PLANS["sac"], prepare=prepare, should_stop=stopping_after(1))
    resumed = trained(tmp_path / "stopped", PLANS["sac"], prepare=prepare)
    assert prepared == [0]
    assert told_of(resumed) == told_of(trained(tmp_path / "whole", PLANS["sac"], prepare=prepare))
    assert told_of(resumed)["weights"] != told_of(trained(tmp_path / "unprepared", PLANS["sac"]))["weights"]


def test_several_symbols_are_practised_on_and_scored(tmp_path: Path) -> None:
    both = [PRACTICE, History(history(300, seed=5, symbol=ETH), 48)]
    result = train_member(both, [SCORED, History(history(150, seed=6, symbol=ETH), 48)], PLANS["sac"], tmp_path)
    assert result.steps == 904


def test_two_files_of_one_symbol_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="two files hold the same symbol"):
        train_member([PRACTICE, PRACTICE], [], PLANS["sac"], tmp_path)


def test_a_run_too_short_to_learn_is_refused_and_leaves_no_checkpoint(tmp_path: Path) -> None:
    chosen = plan({"learning_starts": 5_000})
    with pytest.raises(TrainingError, match="900 steps end before learning begins"):
        trained(tmp_path, chosen)
    assert list(tmp_path.iterdir()) == []


def test_members_of_several_accounts_do_as_many_steps_as_asked_for(tmp_path: Path) -> None:
    result = trained(tmp_path, plan({"n_envs": 16, "train_freq": 2}, steps=800))
    assert result.steps == 800
