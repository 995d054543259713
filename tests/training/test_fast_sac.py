"""What FastSAC is besides fast: a drop-in, reproducible, honest about what it does not know and about bad losses."""

import zipfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import SAC
from stable_baselines3.common.buffers import DictReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback, CheckpointCallback
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.sac.policies import SACPolicy

from tests.training.sac_models import Space, largest_difference, make, seed_noise, tensors, train
from training.errors import TrainingError
from training.fast_sac import CUDA_FROM_FLOP, FastSAC, update_flop
from training.sac_kernels import add_bias_relu, relu_slope, relu_slope_of, tanh_slope


@pytest.fixture
def one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def learn(kind: type[SAC], steps: int = 300, callback: BaseCallback | None = None, **changes: Any) -> SAC:
    settings: dict[str, Any] = {
        "seed": 3,
        "learning_starts": 100,
        "train_freq": 4,
        "gradient_steps": 4,
        "batch_size": 32,
    }
    settings |= {"buffer_size": 250, "device": "cpu", "policy_kwargs": {"net_arch": [16, 16]}}
    return kind("MlpPolicy", "Pendulum-v1", **(settings | changes)).learn(steps, callback=callback)


# ---- reproducible ----
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(
    "changes", [{}, {"use_sde": True, "sde_sample_freq": 64}], ids=["plain", "gsde resampled every 64 steps"]
)
def test_the_same_seed_gives_the_same_bits(changes: dict[str, Any]) -> None:
    one, other, third = learn(FastSAC, **changes), learn(FastSAC, **changes), learn(FastSAC, **changes, seed=4)
    assert largest_difference(tensors(one), tensors(other))[0] == 0.0
    assert largest_difference(tensors(one), tensors(third))[0] > 0.0


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"use_sde": True, "sde_sample_freq": 8, "batch_size": 37},
        {"policy_kwargs": {"net_arch": [33, 64], "activation_fn": torch.nn.Tanh}},
    ],
    ids=["relu", "gsde", "tanh"],
)
@pytest.mark.parametrize("shift", [1, 7])
def test_where_buffers_lie_and_what_lay_there_before_changes_no_bit(
    changes: dict[str, Any], shift: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = learn(FastSAC, 200, **changes)
    made, empty = [0], np.empty

    def elsewhere(shape: Any, dtype: Any = float, *arguments: Any, **named: Any) -> np.ndarray:
        made[0] += 1
        buffer = empty(int(np.prod(shape)) + shift, dtype)
        buffer.fill(np.nan if buffer.dtype.kind == "f" else 1)
        return buffer[shift:].reshape(shape)

    monkeypatch.setattr(np, "empty", elsewhere)
    moved = learn(FastSAC, 200, **changes)
    assert made[0] > 10
    assert largest_difference(tensors(usual), tensors(moved))[0] == 0.0


def test_a_whole_run_stays_close_to_one_of_stable_baselines3() -> None:
    # 24 updates on data of their own making: the same batches, noise, schedule of updates and resampling.
    models = [
        learn(kind, 124, use_sde=True, sde_sample_freq=2, policy_kwargs={"net_arch": [16]}) for kind in (SAC, FastSAC)
    ]
    assert models[0]._n_updates == models[1]._n_updates == 24
    difference, where = largest_difference(*map(tensors, models))
    assert difference < 1e-4, where


# ---- a drop-in ----
def test_torch_sees_every_update_and_numpy_every_change() -> None:
    model = make(FastSAC)
    train(model, 1)
    observation = np.ones((1, 12), np.float32)
    before = model.predict(observation, deterministic=True)[0]
    steps = [float(state["step"]) for state in model.critic.optimizer.state_dict()["state"].values()]
    assert steps == [1.0] * len(steps)
    train(model, 20)
    assert not np.array_equal(model.predict(observation, deterministic=True)[0], before)
    with torch.no_grad():
        for parameter in model.actor.parameters():
            parameter.zero_()
    model.actor.optimizer.param_groups[0]["lr"] = 0.0
    model.lr_schedule = lambda _: 0.0
    train(model, 1)
    assert all(not bool(parameter.any()) for parameter in model.actor.parameters())


def test_an_archive_holds_nothing_of_the_update_by_hand(tmp_path: Path) -> None:
    for kind in (SAC, FastSAC):
        model = make(kind)
        train(model, 1)
        model.save(tmp_path / f"{kind.__name__}.zip")
    data = {kind: zipfile.ZipFile(tmp_path / f"{kind}.zip").read("data").decode() for kind in ("SAC", "FastSAC")}
    assert "training." not in data["FastSAC"]
    fast, reference = (SAC.load(tmp_path / f"{kind}.zip", device="cpu") for kind in ("FastSAC", "SAC"))
    assert vars(fast).keys() == vars(reference).keys()


def test_callbacks_are_called_and_checkpoints_written_as_ever(tmp_path: Path) -> None:
    saved = CheckpointCallback(100, str(tmp_path), name_prefix="member", save_replay_buffer=True)
    model = learn(FastSAC, 300, saved)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == sorted(
        f"member_{kind}{steps}_steps.{suffix}"
        for kind, suffix in (("", "zip"), ("replay_buffer_", "pkl"))
        for steps in (100, 200, 300)
    )
    last = FastSAC.load(tmp_path / "member_300_steps.zip", device="cpu")
    # The checkpoint is written during the collection before the last four gradient steps.
    assert last._n_updates == model._n_updates - 4


@pytest.mark.usefixtures("one_thread")
def test_a_loaded_run_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    model = make(FastSAC, use_sde=True)
    train(model, 7, seed=3)
    model.save(tmp_path / "model.zip")
    loaded = FastSAC.load(tmp_path / "model.zip", env=Space(), device="cpu")
    loaded.replay_buffer = model.replay_buffer
    loaded.set_logger(model.logger)
    for each in (model, loaded):
        train(each, 7, seed=4)
    assert largest_difference(tensors(model), tensors(loaded))[0] == 0.0


# ---- what it does not know is Stable-Baselines3's ----
class OwnPolicy(SACPolicy):
    """A policy of the user's, which may do anything."""


class OwnExtractor(FlattenExtractor):
    """An extractor of the user's."""


class DictSpace(Space):
    """Observations in several parts."""

    def __init__(self) -> None:
        super().__init__(spaces.Dict({"a": spaces.Box(-1.0, 1.0, (2,)), "b": spaces.Box(-1.0, 1.0, (3,))}))


UNKNOWN: dict[str, tuple[str, dict[str, Any]]] = {
    "own policy": ("the policy is a OwnPolicy", {"policy": OwnPolicy}),
    "own extractor": ("the features extractor is a OwnExtractor", {"features_extractor_class": OwnExtractor}),
    "images": (
        "the policy is a CnnPolicy",
        {"policy": "CnnPolicy", "env": Space(spaces.Box(0, 255, (3, 36, 36), np.uint8))},
    ),
    "bytes": ("the observation space is Box", {"env": Space(spaces.Box(0, 255, (3, 36, 36), np.uint8))}),
    "activation": ("the actor has layers of ELU", {"activation_fn": torch.nn.ELU}),
    "no hidden layer": ("the actor has no hidden layer", {"net_arch": {"pi": [], "qf": [8]}}),
    "optimiser": ("the optimiser is SGD", {"optimizer_class": torch.optim.SGD}),
    "amsgrad": ("Adam is used with amsgrad", {"optimizer_kwargs": {"amsgrad": True}}),
    "expln": ("another deviation than exp", {"use_expln": True, "use_sde": True}),
}


@pytest.mark.parametrize(("reason", "changes"), UNKNOWN.values(), ids=UNKNOWN)
def test_an_unknown_network_is_trained_by_stable_baselines3_and_said_once(reason: str, changes: dict[str, Any]) -> None:
    outer = {name: changes[name] for name in ("policy", "env", "use_sde") if name in changes}
    outer |= {"policy_kwargs": {name: value for name, value in changes.items() if name not in outer}}
    outer |= {"batch_size": 8, "buffer_size": 20}
    fast, reference = make(FastSAC, **outer), make(SAC, **outer)
    with pytest.warns(RuntimeWarning, match=reason) as warned:
        train(fast, 3, seed=5)
    train(reference, 3, seed=5)
    assert len([w for w in warned if "FastSAC" in str(w.message)]) == 1
    assert largest_difference(tensors(fast), tensors(reference))[0] == 0.0


def test_layers_put_in_later_are_found() -> None:
    model = make(FastSAC)
    model.actor.latent_pi = torch.nn.Sequential(*model.actor.latent_pi.children(), torch.nn.LayerNorm(32))
    with pytest.warns(RuntimeWarning, match="the actor is not a plain MLP"):
        train(model, 1)


def test_frozen_layers_stay_as_they_are() -> None:
    model = make(FastSAC)
    train(model, 2)
    for parameter in model.actor.latent_pi.parameters():
        parameter.requires_grad_(requires_grad=False)
    before = tensors(model)
    with pytest.warns(RuntimeWarning, match="some parameters are frozen"):
        train(model, 2)
    after = tensors(model)
    assert torch.equal(after["actor.latent_pi.0.weight"], before["actor.latent_pi.0.weight"])
    assert not torch.equal(after["actor.mu.weight"], before["actor.mu.weight"])


def test_a_dictionary_of_observations_is_trained_by_stable_baselines3() -> None:
    settings: dict[str, Any] = {"buffer_size": 50, "batch_size": 8, "seed": 1, "device": "cpu"}
    model = FastSAC("MultiInputPolicy", DictSpace(), **settings)
    assert isinstance(model.replay_buffer, DictReplayBuffer)
    model.set_logger(make(FastSAC).logger)
    model.replay_buffer.full = True
    with pytest.warns(RuntimeWarning, match="the policy is a MultiInputPolicy"):
        train(model, 1)


def test_a_known_network_is_trained_without_a_warning(recwarn: pytest.WarningsRecorder) -> None:
    train(make(FastSAC), 2)
    assert [w for w in recwarn if "FastSAC" in str(w.message)] == []


# ---- losses that are not finite ----
@pytest.mark.parametrize(("stored", "value", "loss"), [
    ("rewards", np.nan, "critic_loss is nan"),
    ("rewards", np.inf, "critic_loss is inf"),
    ("next_observations", np.nan, "critic_loss is nan"),
    ("observations", np.nan, "ent_coef_loss is nan"),
])  # fmt: skip
@pytest.mark.parametrize("use_sde", [False, True], ids=["plain", "gsde"])
def test_a_loss_that_is_not_finite_stops_the_run_with_step_and_remedy(
    stored: str, value: float, loss: str, use_sde: bool
) -> None:
    model = make(FastSAC, use_sde=use_sde)
    train(model, 4)
    getattr(model.replay_buffer, stored)[:] = value
    with pytest.raises(TrainingError, match=f"gradient step 5: {loss}.*lower the learning rate") as raised:
        train(model, 1)
    assert "\n" not in str(raised.value)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in model.policy.state_dict().values())


def test_a_runaway_learning_rate_is_an_error_and_not_a_policy_of_nan() -> None:
    model = make(FastSAC, learning_rate=1e6)
    with pytest.raises(TrainingError, match=r"gradient step \d+: .*_loss is (nan|inf|-inf)"):
        train(model, 200)


def test_training_without_a_buffer_says_how_to_get_one(tmp_path: Path) -> None:
    make(FastSAC).save(tmp_path / "model.zip")
    model = FastSAC.load(tmp_path / "model.zip", device="cpu")
    model.replay_buffer = None
    model.set_logger(make(FastSAC).logger)
    with pytest.raises(TrainingError, match=r"no replay buffer: .*load_replay_buffer"):
        train(model, 1)


@pytest.mark.parametrize("kernel", [relu_slope, tanh_slope], ids=["relu", "tanh"])
def test_a_nan_goes_through_every_layer_forward_and_back(kernel: Any) -> None:
    values = np.array([[np.nan, -1.0, 2.0]], np.float32)
    add_bias_relu(values, np.ones(3, np.float32))
    np.testing.assert_array_equal(values, [[np.nan, 0.0, 3.0]])
    slope, bias = np.array([[np.nan, np.nan]], np.float32), np.zeros(2, np.float32)
    kernel(slope, np.ones((1, 2), np.float32) * 0.5, bias)
    assert np.isnan(slope).all()
    assert np.isnan(bias).all()


def test_a_layer_goes_back_through_the_rows_named_and_no_others() -> None:
    hidden = np.array([[9.0, 0.0, 1.0], [9.0, 1.0, 0.0], [9.0, 1.0, 1.0]], np.float32)
    slope = np.array([[2.0, 3.0], [4.0, 5.0]], np.float32)
    relu_slope_of(slope, hidden, np.array([2, 0]), 1)
    np.testing.assert_array_equal(slope, [[2.0, 3.0], [0.0, 5.0]])


# ---- where it computes ----
@pytest.mark.parametrize(
    ("asked", "batch_size", "expected"),
    [("auto", 512, "cpu"), ("auto", 1_000_000, "cuda"), ("cpu", 1_000_000, "cpu"), ("cuda", 1, "cuda")],
)
def test_a_gpu_is_taken_where_asked_for_or_where_a_step_is_large(
    monkeypatch: pytest.MonkeyPatch, asked: str, batch_size: int, expected: str
) -> None:
    # There is no GPU here: it is the choice that is tested, and the model is not set up.
    monkeypatch.setattr("stable_baselines3.common.utils.th.cuda.is_available", lambda: True)
    chosen = []
    monkeypatch.setattr(SAC, "_setup_model", lambda model: chosen.append(model.device.type))
    FastSAC("MlpPolicy", Space(), device=asked, batch_size=batch_size)
    assert chosen == [expected]


def test_the_work_of_a_step_is_counted() -> None:
    # By hand: actor 12x32 + 32x32 + 32x6, critic 15x32 + 32x32 + 32x1; 4 and 2 x 6 passes of 64 rows, 2 each.
    model = make(FastSAC)
    assert update_flop(model) == 2 * 64 * (4 * (384 + 1024 + 192) + 12 * (480 + 1024 + 32))
    assert update_flop(model) < CUDA_FROM_FLOP


def test_noise_is_drawn_from_the_generators_of_stable_baselines3_and_no_others() -> None:
    states = []
    for kind in (SAC, FastSAC):
        model = make(kind, use_sde=True)
        seed_noise(8)
        train(model, 3)
        states.append((torch.get_rng_state(), np.random.get_state()[1]))  # noqa: NPY002
    for one, other in pairwise(states):
        assert torch.equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])
