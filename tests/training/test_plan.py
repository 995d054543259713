from dataclasses import fields
from typing import Any

import pytest

from training.errors import TrainingError
from training.plan import ALGORITHMS, MemberPlan, Settings, Validation


def test_everything_has_a_default_but_seed_and_steps() -> None:
    plan = MemberPlan(seed=1, steps=2)
    assert (plan.algorithm, plan.settings, plan.validation) == ("sac", Settings(), None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": 0.0}, r"learning_rate 0\.0: give a number within 1e-09 \.\. 1\.0"),
        ({"learning_rate": float("nan")}, "learning_rate nan: give a number"),
        ({"learning_rate": "3e-4"}, "learning_rate '3e-4': give a number"),
        ({"final_learning_rate": -1e-5}, "final_learning_rate -1e-05: give a number"),
        ({"buffer_size": 0}, r"buffer_size 0: give a whole number within 1 \.\. 1000000000"),
        ({"learning_starts": -1}, "learning_starts -1: give a whole number within 0"),
        ({"batch_size": 0}, "batch_size 0: give a whole number"),
        ({"batch_size": 256.0}, r"batch_size 256\.0: give a whole number"),
        ({"tau": 0.0}, r"tau 0\.0: give a number within 1e-06 \.\. 1\.0"),
        ({"tau": 1.5}, r"tau 1\.5: give a number"),
        ({"gamma": 1.01}, r"gamma 1\.01: give a number within 0\.0 \.\. 1\.0"),
        ({"train_freq": 0}, "train_freq 0: give a whole number within 1"),
        ({"gradient_steps": 0}, r"gradient_steps \(or -1\) 0: give a whole number within 1"),
        ({"gradient_steps": -2}, r"gradient_steps \(or -1\) -2: give a whole number within 1"),
        ({"gradient_steps": -1.0}, r"gradient_steps \(or -1\) -1\.0: give a whole number within 1"),
        ({"sde_sample_freq": 0}, r"sde_sample_freq \(or -1\) 0: give a whole number within 1"),
        ({"use_sde": "yes"}, "use_sde 'yes': give true or false"),
        ({"use_sde": 1}, "use_sde 1: give true or false"),
        ({"weight_decay": -0.1}, r"weight_decay -0\.1: give a number within 0\.0"),
        ({"net_arch": [64, 64]}, r"net_arch \[64, 64\]: give the widths of 0 \.\. 16 layers, such as 256,256"),
        ({"net_arch": (64,) * 17}, r"net_arch \(64, .*\): give the widths of 0 \.\. 16 layers"),
        ({"net_arch": (64, 0)}, r"net_arch 0: give a whole number within 1 \.\. 65536"),
        ({"n_envs": 0}, "n_envs 0: give a whole number within 1"),
        ({"inputs": ("exposre",)}, "inputs 'exposre': the observation has no such entry; nearest known: exposure"),
    ],
    ids=str,
)
def test_impossible_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=f"^{message}"):
        Settings(**changes)


def test_the_edges_are_taken() -> None:
    Settings(gradient_steps=-1, sde_sample_freq=-1, net_arch=(), final_learning_rate=0.0, learning_starts=0, gamma=1)
    Settings(gradient_steps=1, sde_sample_freq=1, net_arch=(65_536,), tau=1.0, learning_rate=1.0)
    Validation(every=1, patience=0, min_delta=0.0)


def test_every_number_of_the_settings_is_checked() -> None:
    for field in fields(Settings):
        with pytest.raises(TrainingError, match=field.name):
            Settings(**{field.name: float("inf")})


@pytest.mark.parametrize("name", [field.name for field in fields(Validation)])
@pytest.mark.parametrize("value", [-1, float("nan"), "x"])
def test_impossible_validation_is_refused(name: str, value: Any) -> None:
    with pytest.raises(TrainingError, match=f"^validation {name} {value!r}: give a "):
        Validation(**{name: value})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": -1}, r"seed -1: give a whole number within 0 \.\. 4294967295"),
        ({"seed": 2**32}, r"seed 4294967296: give a whole number"),
        ({"steps": 0}, "steps 0: give a whole number within 1"),
        ({"steps": 1e5}, r"steps 100000\.0: give a whole number"),
        ({"algorithm": "td3"}, "algorithm 'td3': give one of sac, ppo, a2c, dqn"),
    ],
    ids=str,
)
def test_impossible_plans_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=f"^{message}"):
        MemberPlan(**({"seed": 1, "steps": 1} | changes))


def test_every_algorithm_makes_a_plan() -> None:
    assert [MemberPlan(seed=0, steps=1, algorithm=name).algorithm for name in ALGORITHMS] == [
        "sac",
        "ppo",
        "a2c",
        "dqn",
    ]
