"""An ensemble that does not answer as one that serves must is refused before it serves."""

import dataclasses
import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from daemon.errors import ArtifactError
from daemon.golden import LEAST_SPREAD, QUESTIONS, TOLERANCE, check_serves, questions
from daemon.models import find_bundle, load_bundle, serving_names
from strategy.bundle import Bundle
from strategy.errors import StrategyError
from strategy.features import N_FEATURES
from strategy.manifest import Reference
from strategy.observation import N_OBSERVATION, OBSERVATION_LIMIT
from strategy.policy import Activation, Actor, Ensemble, Float32Array
from tests.fakes.serving import ROOT, write_bundle

Answer = Callable[[Float32Array], Float32Array]


class Broken(Ensemble):
    """An ensemble whose answers are not what its weights say, all at once or alone."""

    def __init__(self, sound: Ensemble, together: Answer, alone: Answer) -> None:
        super().__init__(sound.actors, sound.weights)
        self._together, self._alone = together, alone

    def act(self, observations: Float32Array) -> Float32Array:
        return self._together(super().act(observations))

    def act_one(self, observation: Float32Array) -> Float32Array:
        return self._alone(super().act_one(observation))


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return load_bundle(write_bundle(tmp_path))


def refusal(bundle: Bundle) -> str:
    with pytest.raises(ArtifactError) as refused:
        check_serves(bundle)
    message = str(refused.value)
    assert message.startswith(f"bundle {bundle.manifest.short_id}: the ensemble ")
    assert message.endswith("; keep using another one")
    assert "\n" not in message
    return message


def broken(bundle: Bundle, answer: Answer, alone: Answer | None = None) -> Bundle:
    """Return the bundle with other answers; `answer` is given (..., n_members, 3) and changes them in place."""
    return dataclasses.replace(bundle, ensemble=Broken(bundle.ensemble, answer, answer if alone is None else alone))


def put(value: float, member: int, number: int) -> Answer:
    """Return what puts a value into one number of one member's every answer."""

    def change(answers: Float32Array) -> Float32Array:
        answers[..., member, number] = value
        return answers

    return change


# ---- who passes ---------------------------------------------------------------------------------------------------
def test_the_ensemble_that_ships_may_serve() -> None:
    current, _ = serving_names(ROOT / "models")
    check_serves(find_bundle(ROOT / "models", current))


@pytest.mark.parametrize("seed", range(8))
def test_ensembles_whose_members_disagree_in_architecture_and_vote_may_serve(tmp_path: Path, seed: int) -> None:
    check_serves(load_bundle(write_bundle(tmp_path, seed=seed, members=1 + seed % 4)))


def test_members_of_several_architectures_may_serve_together(bundle: Bundle) -> None:
    rng = np.random.default_rng(3)
    actors = [
        actor_of(rng, N_OBSERVATION, hidden, activation)
        for hidden, activation in (((8,), Activation.TANH), ((6, 5), Activation.RELU), ((), Activation.RELU))
    ]
    check_serves(dataclasses.replace(bundle, ensemble=Ensemble(actors, [0.5, 0.25, 0.25])))


def actor_of(rng: np.random.Generator, size: int, hidden: tuple[int, ...], activation: Activation) -> Actor:
    sizes = [size, *hidden, 3]
    return Actor(
        name=f"member of {hidden}",
        weights=tuple(rng.normal(size=(o, i), scale=0.3).astype(np.float32) for i, o in itertools.pairwise(sizes)),
        biases=tuple(rng.normal(size=o, scale=0.3).astype(np.float32) for o in sizes[1:]),
        activation=activation,
        low=np.array([-1.0, 0.0, 0.0], np.float32),
        high=np.ones(3, np.float32),
    )


# ---- who does not -------------------------------------------------------------------------------------------------
@pytest.mark.fault(59)
def test_an_ensemble_that_votes_the_same_whatever_it_sees_is_degenerate(tmp_path: Path) -> None:
    steady = load_bundle(write_bundle(tmp_path, votes=(2.0, 0.1, -0.1)))
    # As it is squashed: tanh for the direction, half of 1 + tanh for size and confidence.
    vote = (math.tanh(2.0), (1.0 + math.tanh(0.1)) / 2.0, (1.0 + math.tanh(-0.1)) / 2.0)
    shown = ", ".join(f"{number:.3f}" for number in vote)
    assert f"is degenerate: it votes ({shown}) whatever it is shown" in refusal(steady)


@pytest.mark.fault(59)
@pytest.mark.parametrize(("swing", "is_refused"), [(0.9 * LEAST_SPREAD, True), (1.1 * LEAST_SPREAD, False)])
def test_a_vote_that_moves_by_less_than_a_thousandth_is_the_same_vote(
    bundle: Bundle, swing: float, *, is_refused: bool
) -> None:
    # One layer that reads only whether the account may buy: 1 in every other question, in 0 .. 1 in the others.
    weights = np.zeros((3, N_OBSERVATION), np.float32)
    weights[1, -1] = 2.0 * swing  # half of it is what the size moves by, near 0.5
    actor = dataclasses.replace(
        bundle.ensemble.actors[0], weights=(weights,), biases=(np.zeros(3, np.float32),), clip_mean=None
    )
    seen = questions(bundle.manifest)[:, -1]
    assert seen.max() - seen.min() > 0.95
    tried = dataclasses.replace(bundle, ensemble=Ensemble([actor], [1.0]))
    if is_refused:
        assert "is degenerate: it votes (0.000, 0.50" in refusal(tried)
    else:
        check_serves(tried)


@pytest.mark.fault(55)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_answers_that_are_no_numbers_are_refused_by_member(bundle: Bundle, value: float) -> None:
    message = refusal(broken(bundle, put(value, 1, 2)))
    assert "answers with what is no number (member-1.safetensors)" in message


@pytest.mark.parametrize(("value", "number"), [(1.001, 0), (-1.001, 0), (-0.001, 1), (1.001, 2)])
def test_answers_outside_the_box_are_refused_by_member(bundle: Bundle, value: float, number: int) -> None:
    assert "leaves its box of actions (member-2.safetensors)" in refusal(broken(bundle, put(value, 2, number)))


def test_a_machine_that_computes_otherwise_than_the_weights_say_is_noticed(bundle: Bundle) -> None:
    def moved(by: float) -> Answer:
        def change(answers: Float32Array) -> Float32Array:
            answers[..., 1, 0] -= np.sign(answers[..., 1, 0]) * np.float32(by)
            return answers

        return change

    message = refusal(broken(bundle, moved(2.0 * TOLERANCE)))
    assert "answers otherwise than its weights say (member-1.safetensors, by 2." in message
    assert "at most 1e-05" in message
    check_serves(broken(bundle, moved(0.5 * TOLERANCE)))


def test_an_answer_that_changes_with_who_is_asked_beside_it_is_noticed(bundle: Bundle) -> None:
    def last_bit(answers: Float32Array) -> Float32Array:
        answers[0, 0] = np.nextafter(answers[0, 0], np.float32(0.0))
        return answers

    tried = broken(bundle, lambda answers: answers, last_bit)
    assert "answers otherwise alone than among others: votes could not be recomputed" in refusal(tried)


def test_an_ensemble_that_refuses_to_answer_is_refused(bundle: Bundle) -> None:
    def refuse(_answers: Any) -> Any:
        raise StrategyError("observation 3: input 4 is odd")

    assert "does not answer: observation 3: input 4 is odd" in refusal(broken(bundle, refuse))


# ---- the questions ------------------------------------------------------------------------------------------------
def test_questions_lie_where_the_training_of_the_bundle_does_and_are_always_the_same(bundle: Bundle) -> None:
    mean = np.linspace(-0.5, 0.5, N_FEATURES)
    std = np.linspace(0.0, 0.3, N_FEATURES)
    reference = Reference(mean=tuple(mean.tolist()), std=tuple(std.tolist()), limit=2.0)
    manifest = dataclasses.replace(bundle.manifest, reference=reference)
    asked = questions(manifest)
    assert (asked.shape, asked.dtype) == ((QUESTIONS, N_OBSERVATION), np.float32)
    assert asked.tobytes() == questions(manifest).tobytes()
    features = asked[:, :N_FEATURES].astype(np.float64)
    assert (features[:, 0] == np.float32(-0.5)).all(), "without spread there is one value"
    scores = (features[:, 1:] - mean[1:]) / std[1:]
    # Of 64 normal draws, 53 times: the mean stays within 5 / 8 at five standard errors, the spread within 1 +- 0.45.
    assert np.abs(scores.mean(axis=0)).max() < 5.0 / 8.0
    assert np.abs(scores.std(axis=0) - 1.0).max() < 0.45
    account = asked[:, N_FEATURES:]
    assert ((account >= 0.0) & (account <= 1.0)).all()
    assert (account[::2] == (0.0, 0.0, 0.0, 0.0, 0.0, 1.0)).all(), "every other account is flat and may buy"
    assert len(np.unique(account[1::2], axis=0)) == QUESTIONS // 2


def test_no_question_lies_beyond_what_an_observation_can_hold(bundle: Bundle) -> None:
    reference = Reference(mean=(1.5,) * N_FEATURES, std=(2.0,) * N_FEATURES, limit=2.0)
    asked = questions(dataclasses.replace(bundle.manifest, reference=reference))
    assert np.abs(asked).max() == OBSERVATION_LIMIT
    check_serves(dataclasses.replace(bundle, manifest=dataclasses.replace(bundle.manifest, reference=reference)))
