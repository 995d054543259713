import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from strategy.errors import BadWeights, StrategyError
from strategy.policy import Activation, Actor, Ensemble, layer_shapes

LOW, HIGH = (-1.0, 0.0, 0.0), (1.0, 1.0, 1.0)
ARCHITECTURES: list[tuple[int, ...]] = [(), (32,), (64, 64), (48, 16, 8), (256, 256), (1,), (7, 33)]


def make_actor(
    seed: int,
    net_arch: tuple[int, ...] = (16, 16),
    activation: str = "relu",
    clip_mean: float | None = None,
    *,
    size: int = 9,
    scale: float = 1.0,
) -> Actor:
    rng = np.random.default_rng(seed)
    values = {
        name: (scale * rng.normal(size=shape) / np.sqrt(shape[-1])).astype(np.float32)
        for name, shape in layer_shapes(size, net_arch, 3).items()
    }
    return Actor.from_arrays(
        values,
        name=f"member-{seed}",
        net_arch=net_arch,
        observation_size=size,
        activation=activation,
        low=LOW,
        high=HIGH,
        clip_mean=clip_mean,
    )


def equal(*actors: Actor) -> Ensemble:
    return Ensemble(actors, [1.0 / len(actors)] * len(actors))


def random_observations(count: int, size: int = 9, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, size), dtype=np.float32)


def plainly(actor: Actor, observation: NDArray[np.float32]) -> NDArray[np.float64]:
    """The network written out in float64, one symbol, one member: the second source."""
    values = observation.astype(np.float64)
    for weight, bias in zip(actor.weights[:-1], actor.biases[:-1], strict=True):
        values = weight.astype(np.float64) @ values + bias
        values = np.where(values > 0, values, 0.0) if actor.activation is Activation.RELU else np.tanh(values)
    mean = actor.weights[-1].astype(np.float64) @ values + actor.biases[-1]
    if actor.clip_mean is not None:
        mean = np.array([min(max(m, -actor.clip_mean), actor.clip_mean) for m in mean])
    return actor.low + (np.tanh(mean) + 1.0) / 2.0 * (actor.high.astype(np.float64) - actor.low)


def test_a_network_small_enough_to_compute_by_hand() -> None:
    actor = Actor(
        name="by hand",
        weights=(np.array([[1, -1], [2, 0]], np.float32), np.array([[1, 0], [0, 1], [0, 0]], np.float32)),
        biases=(np.array([0, -1], np.float32), np.array([0, -1, 0], np.float32)),
        activation=Activation.RELU,
        low=np.array(LOW, np.float32),
        high=np.array(HIGH, np.float32),
    )
    # observation (0.5, 1): hidden relu(-0.5, 0) = (0, 0); mean (0, -1, 0); tanh(-1) = -0.76159416
    votes = equal(actor).act_one(np.array([0.5, 1.0], np.float32))
    assert votes[0] == pytest.approx([0.0, (1 - 0.76159416) / 2, 0.5], abs=1e-7)
    # observation (1, 0): hidden (1, 1); mean (1, 0, 0); tanh(1) = 0.76159416
    votes = equal(actor).act_one(np.array([1.0, 0.0], np.float32))
    assert votes[0] == pytest.approx([0.76159416, 0.5, 0.5], abs=1e-7)


@pytest.mark.parametrize("clip_mean", [None, 2.0, 0.3])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("net_arch", ARCHITECTURES, ids=str)
def test_members_answer_as_the_network_written_out(
    net_arch: tuple[int, ...], activation: str, clip_mean: float | None
) -> None:
    actors = [make_actor(seed, net_arch, activation, clip_mean) for seed in range(3)]
    observations = random_observations(50)
    expected = [[plainly(actor, observation) for actor in actors] for observation in observations]
    votes = equal(*actors).act(observations)
    assert votes.shape == (50, 3, 3)
    assert votes.dtype == np.float32
    assert np.abs(votes - np.array(expected)).max() <= 1e-6


@pytest.mark.fault(56)
def test_large_means_end_exactly_on_the_bounds() -> None:
    votes = equal(*(make_actor(seed, scale=1000.0) for seed in range(5))).act(random_observations(200))
    assert (votes >= np.float32(LOW)).all()
    assert (votes <= np.float32(HIGH)).all()
    assert (votes == np.float32(LOW)).any(axis=(0, 1)).all()
    assert (votes == np.float32(HIGH)).any(axis=(0, 1)).all()


def test_a_clipped_mean_never_reaches_the_bounds() -> None:
    votes = equal(make_actor(1, scale=1000.0, clip_mean=2.0)).act(random_observations(200))
    # tanh(2) = 0.96402758: direction within +-0.964, size and confidence within 0.018 .. 0.982
    assert np.abs(votes[..., 0]).max() == pytest.approx(0.96402758, abs=1e-7)
    assert votes[..., 1:].min() == pytest.approx((1 - 0.96402758) / 2, abs=1e-7)


@pytest.mark.parametrize("net_arch", [*ARCHITECTURES, (255, 257), (300, 300)], ids=str)
def test_a_vote_has_the_same_bytes_whatever_is_asked_beside_it(net_arch: tuple[int, ...]) -> None:
    size = 41
    actors = [make_actor(seed, net_arch, "tanh", 2.0, size=size) for seed in range(3)]
    ensemble = equal(*actors)
    observations = random_observations(60, size)
    alone = np.stack([ensemble.act_one(observation) for observation in observations])
    for count in (1, 2, 3, 4, 5, 7, 8, 16, 31, 60):
        parts = [ensemble.act(observations[i : i + count]) for i in range(0, 60, count)]
        assert np.concatenate(parts).tobytes() == alone.tobytes(), f"batches of {count}"
    order = np.random.default_rng(1).permutation(60)
    assert ensemble.act(observations[order]).tobytes() == alone[order].tobytes()
    for index, actor in enumerate(actors):
        assert equal(actor).act(observations)[:, 0].tobytes() == alone[:, index].tobytes()


def test_a_vote_has_the_same_bytes_wherever_the_observation_lies_in_memory() -> None:
    ensemble = equal(*(make_actor(seed, (64, 64), size=41) for seed in range(3)))
    observation = random_observations(1, 41)[0]
    expected = ensemble.act_one(observation).tobytes()
    room = np.zeros(41 * 4 + 64, np.uint8)
    for offset in range(0, 64, 4):
        placed = room[offset : offset + 164].view(np.float32)
        placed[:] = observation
        assert ensemble.act_one(placed).tobytes() == expected, f"offset {offset}"
    strided = np.repeat(observation, 3)[::3]
    assert ensemble.act_one(strided).tobytes() == expected
    columns = np.asfortranarray(np.stack([observation] * 4))
    assert ensemble.act(columns)[2].tobytes() == expected


def test_batches_and_single_votes_agree_with_several_blas_threads_too() -> None:
    program = (
        "import numpy as np; from tests.strategy.test_policy import *\n"
        "e = equal(*(make_actor(s, (256, 256), size=41) for s in range(3))); x = random_observations(33, 41)\n"
        "one = np.stack([e.act_one(o) for o in x])\n"
        "assert all(np.concatenate([e.act(x[i:i+n]) for i in range(0, 33, n)]).tobytes() == one.tobytes() "
        "for n in (1, 2, 3, 33))"
    )
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "4", "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment, timeout=120)


def test_members_of_different_architecture_keep_their_places() -> None:
    actors = [
        make_actor(0, (16,)),
        make_actor(1, (8, 8), "tanh"),
        make_actor(2, (16,)),
        make_actor(3, (16,), clip_mean=2.0),
        make_actor(4, ()),
    ]
    observations = random_observations(20)
    ensemble = equal(*actors)
    alone = np.concatenate([equal(actor).act(observations) for actor in actors], axis=1)
    assert ensemble.act(observations).tobytes() == alone.tobytes()
    assert np.stack([ensemble.act_one(o) for o in observations]).tobytes() == alone.tobytes()


def test_votes_of_an_earlier_call_are_not_overwritten() -> None:
    ensemble = equal(make_actor(0), make_actor(1))
    first, second = random_observations(2)
    kept = ensemble.act_one(first)
    copy = kept.copy()
    ensemble.act_one(second)
    batch = ensemble.act(random_observations(4))
    batch_copy = batch.copy()
    ensemble.act(random_observations(4, seed=1))
    assert kept.tobytes() == copy.tobytes()
    assert batch.tobytes() == batch_copy.tobytes()


def test_no_symbols_give_no_votes() -> None:
    assert equal(make_actor(0)).act(np.empty((0, 9), np.float32)).shape == (0, 1, 3)


@pytest.mark.fault(55)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize("count", [1, 3])
def test_an_observation_that_cannot_be_trusted_is_refused_by_position(value: float, count: int) -> None:
    observations = random_observations(count)
    observations[count - 1, 4] = value
    with pytest.raises(StrategyError, match=f"observation {count - 1}: input 4 is "):
        equal(make_actor(0)).act(observations)


@pytest.mark.parametrize(
    "observations",
    [np.zeros((2, 9)), np.zeros((2, 8), np.float32), np.zeros(9, np.float32), np.zeros((1, 1, 9), np.float32)],
    ids=["float64", "too narrow", "one dimension", "three dimensions"],
)
def test_observations_of_another_shape_or_type_are_refused(observations: NDArray[np.float32]) -> None:
    with pytest.raises(StrategyError, match="reads float32 of 9 inputs each"):
        equal(make_actor(0)).act(observations)


@pytest.mark.fault(56)
@settings(max_examples=200, deadline=None)
@given(arrays(np.float32, (2, 9), elements=st.floats(width=32, allow_nan=True, allow_infinity=True)))
def test_whatever_is_asked_the_answer_is_a_vote_or_a_refusal(observations: NDArray[np.float32]) -> None:
    ensemble = Ensemble([make_actor(0, scale=100.0), make_actor(1, (4,), "tanh", scale=100.0)], [0.5, 0.5])
    with np.errstate(all="raise", under="ignore"):
        try:
            votes = ensemble.act(observations)
        except StrategyError:
            assert not (np.abs(observations) < 1e18).all()
            return
    assert (np.abs(observations) < 1e18).all()
    assert ((votes >= np.float32(LOW)) & (votes <= np.float32(HIGH))).all()


def damaged(name: str, value: object) -> dict[str, NDArray[np.float32]]:
    values = {key: np.ones(shape, np.float32) for key, shape in layer_shapes(9, (16, 8), 3).items()}
    if value is None:
        del values[name]
    else:
        values[name] = np.asarray(value)
    return values


@pytest.mark.fault(55)
@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("layer1.weight", np.full((8, 16), np.nan, np.float32), "layer1.weight holds numbers that are not finite"),
        ("layer2.bias", np.full(3, np.inf, np.float32), "layer2.bias holds numbers that are not finite"),
        ("layer0.weight", np.ones((16, 10), np.float32), "layer0.weight has shape"),
        ("layer1.bias", np.ones(9, np.float32), "layer1.bias has shape"),
        ("layer1.weight", np.ones((8, 16), np.float64), "layer1.weight is float64, not float32"),
        ("layer1.weight", np.ones((8, 16), np.float16), "layer1.weight is float16, not float32"),
        ("layer1.weight", None, "layer1.weight"),
        ("layer3.weight", np.ones((3, 3), np.float32), "layer3.weight"),
    ],
)
def test_damaged_weights_are_refused_by_member_and_layer(name: str, value: object, words: str) -> None:
    with pytest.raises(BadWeights, match="member-7: ") as refusal:
        Actor.from_arrays(
            damaged(name, value),
            name="member-7",
            net_arch=(16, 8),
            observation_size=9,
            activation="relu",
            low=LOW,
            high=HIGH,
            clip_mean=None,
        )
    assert words in str(refusal.value)


def test_an_actor_put_together_wrongly_is_refused() -> None:
    good = make_actor(0, (4,))
    parts = {
        "name": "m", "weights": good.weights, "biases": good.biases, "activation": Activation.RELU,
        "low": good.low, "high": good.high,
    }  # fmt: skip
    for change, words in (
        ({"weights": good.weights[::-1]}, "layer0.bias has shape"),
        ({"weights": good.weights[:1]}, "make no network"),
        ({"weights": (), "biases": ()}, "make no network"),
        ({"weights": (good.weights[0], good.weights[0])}, "layer1.weight has shape (4, 9), not (n, 4)"),
        ({"activation": "gelu"}, "activation 'gelu' is not one of relu, tanh"),
        ({"clip_mean": 0.0}, "clip_mean 0.0"),
        ({"clip_mean": float("nan")}, "clip_mean nan"),
        ({"low": good.high}, "do not bound 3 actions"),
        ({"low": good.low[:2]}, "do not bound 3 actions"),
    ):
        with pytest.raises(BadWeights, match="m: ") as refusal:
            Actor(**(parts | change))  # type: ignore[arg-type]
        assert words in str(refusal.value)


def test_weights_cannot_be_changed_after_they_were_checked() -> None:
    values = {name: np.ones(shape, np.float32) for name, shape in layer_shapes(2, (), 3).items()}
    actor = Actor.from_arrays(
        values, name="m", net_arch=(), observation_size=2, activation="relu", low=LOW, high=HIGH, clip_mean=None
    )
    values["layer0.weight"][:] = np.nan
    assert np.isfinite(actor.weights[0]).all()
    with pytest.raises(ValueError, match="read-only"):
        actor.weights[0][0, 0] = 1.0


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ([0.5, 0.6], "sum to 1.1"),
        ([1.0, 0.0], "weight 0.0 is not in"),
        ([1.5, -0.5], "weight 1.5 is not in"),
        ([np.nan, 1.0], "weight nan is not in"),
        ([1.0], "2 members but weights of shape"),
    ],
)
def test_ensemble_weights_are_positive_and_sum_to_one(weights: list[float], words: str) -> None:
    with pytest.raises(BadWeights, match=words):
        Ensemble([make_actor(0), make_actor(1)], weights)


def test_members_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(BadWeights, match="at least one member"):
        Ensemble([], [])
    with pytest.raises(BadWeights, match="member-1 reads 8 inputs, member-0 9"):
        equal(make_actor(0), make_actor(1, size=8))
    with pytest.raises(BadWeights, match="member-0: its weights are so large"):
        equal(make_actor(0, scale=1e12))


def test_weights_stay_float64_and_read_only() -> None:
    ensemble = Ensemble([make_actor(i) for i in range(3)], [1 / 3] * 3)
    assert ensemble.weights.dtype == np.float64
    assert ensemble.weights.tolist() == [1 / 3] * 3
    with pytest.raises(ValueError, match="read-only"):
        ensemble.weights[0] = 1.0


def test_asking_does_not_take_more_memory_each_time() -> None:
    ensemble = equal(*(make_actor(seed, (256, 256), size=40) for seed in range(3)))
    observation = random_observations(1, 40)[0]
    ensemble.act_one(observation)
    tracemalloc.start()
    for _ in range(2_000):
        ensemble.act_one(observation)
    grown, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 4_096
    assert peak < 16_384
