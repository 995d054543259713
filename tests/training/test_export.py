import copy
import dataclasses
import errno
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import safetensors.numpy
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3 import SAC
from torch import nn

from daemon.models import load_bundle
from strategy.manifest import MANIFEST, DataRecord, FeatureRecord, Reference, TrainingRecord
from strategy.parameters import CostModel, RiskLimits, StrategyParameters
from strategy.policy import Ensemble
from training import export
from training.bundles import read_bundle
from training.errors import BundleError, ExportError
from training.export import (
    ExportedActor,
    TrainedMember,
    build_actor,
    export_actor,
    largest_difference,
    write_bundle,
)

SIZE = 11
ARCHITECTURES: list[list[int]] = [[], [32], [64, 64], [48, 16, 8], [256, 256]]


class Market(gym.Env[NDArray[np.float32], NDArray[np.float32]]):
    """Observations at random and a reward for an action near the first three of them: enough to learn from."""

    def __init__(self, size: int = SIZE, low: tuple[float, ...] = (-1, 0, 0)) -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self.action_space = spaces.Box(np.array(low, np.float32), np.ones(len(low), np.float32))
        self._rng = np.random.default_rng(0)
        self._observation = self._draw()

    def _draw(self) -> NDArray[np.float32]:
        return self._rng.standard_normal(self.observation_space.shape[0], dtype=np.float32)  # type: ignore[index]

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[NDArray[np.float32], dict[str, Any]]:
        self._rng = np.random.default_rng(seed)
        self._observation = self._draw()
        return self._observation, {}

    def step(self, action: NDArray[np.float32]) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        reward = -float(np.abs(action - np.tanh(self._observation[:3])).sum())
        self._observation = self._draw()
        return self._observation, reward, False, False, {}


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_model(
    net_arch: list[int], activation: type[nn.Module] = nn.ReLU, *, use_sde: bool = False, seed: int = 0, **policy: Any
) -> SAC:
    return SAC(
        "MlpPolicy",
        Market(),
        seed=seed,
        use_sde=use_sde,
        buffer_size=500,
        learning_starts=50,
        batch_size=32,
        device="cpu",
        policy_kwargs={"net_arch": net_arch, "activation_fn": activation, **policy},
    )


def mean_layer(model: SAC) -> nn.Linear:
    mean = model.policy.actor.mu
    return mean[0] if isinstance(mean, nn.Sequential) else mean  # type: ignore[return-value]


def scale_mean(model: SAC, factor: float) -> None:
    """Make the last layer's answers `factor` times larger."""
    with torch.no_grad():
        mean_layer(model).weight.mul_(factor)
        mean_layer(model).bias.mul_(factor)


def observations(count: int = 2_000, seed: int = 5) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, SIZE), dtype=np.float32)


def twin(exported: ExportedActor) -> Ensemble:
    return Ensemble([build_actor(exported, "twin")], [1.0])


def saturate(model: SAC) -> None:
    """Push the answers far beyond the bounds, each output to either side."""
    with torch.no_grad():
        mean_layer(model).bias.copy_(torch.tensor([30.0, -30.0, 30.0]))


def exactly(model: SAC, asked: NDArray[np.float32]) -> NDArray[np.float64]:
    """What the actor answers in float64: torch's own layers, no rounding to speak of."""
    actor = copy.deepcopy(model.policy.actor).double()
    with torch.no_grad():
        squashed = torch.tanh(actor.mu(actor.latent_pi(torch.from_numpy(asked).double()))).numpy()
    low, high = model.action_space.low, model.action_space.high  # type: ignore[attr-defined]
    return low + (squashed + 1.0) / 2.0 * (high - low).astype(np.float64)  # type: ignore[no-any-return]


# ---- the twin ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("net_arch", ARCHITECTURES, ids=str)
@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh])
@pytest.mark.parametrize("use_sde", [False, True], ids=["plain", "sde"])
def test_the_twin_answers_as_predict_does(net_arch: list[int], activation: type[nn.Module], use_sde: bool) -> None:
    model = make_model(net_arch, activation, use_sde=use_sde)
    asked = observations()
    for prepare in (lambda _: None, lambda model: scale_mean(model, 4.0), saturate):
        prepare(model)
        exported = export_actor(model)
        expected, _ = model.predict(asked, deterministic=True)
        votes = twin(exported).act(asked)[:, 0]
        assert votes.shape == expected.shape == (2_000, 3)
        assert votes.dtype == expected.dtype
        assert np.abs(votes - expected).max() <= 1e-6
        assert exported.difference <= 1e-6
        one_by_one = [model.predict(observation, deterministic=True)[0] for observation in asked[:50]]
        assert np.abs(votes[:50] - np.stack(one_by_one)).max() <= 1e-6
    edge = 0.96402758 if use_sde else 1.0  # tanh of the mean, which gSDE clips at 2
    assert expected[:, 0] == pytest.approx(edge, abs=1e-6)
    assert expected[:, 1] == pytest.approx((1.0 - edge) / 2.0, abs=1e-6)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh])
@pytest.mark.parametrize("net_arch", ARCHITECTURES, ids=str)
def test_where_weights_are_huge_the_twin_is_as_close_to_the_truth_as_torch(
    net_arch: list[int], activation: type[nn.Module]
) -> None:
    model = make_model(net_arch, activation)
    scale_mean(model, 30.0)
    asked = observations(5_000)
    truth = exactly(model, asked)
    torch_error = np.abs(model.predict(asked, deterministic=True)[0] - truth).max()
    ours = np.abs(twin(_unchecked(model)).act(asked)[:, 0] - truth).max()
    assert (np.abs(truth[:, 0]) > 0.999).mean() > 0.05
    assert ours <= 1.5 * torch_error + 2e-7


def test_a_trained_policy_is_exported_as_it_answers() -> None:
    model = make_model([64, 64], use_sde=True)
    before = export_actor(model)
    model.learn(300)
    after = export_actor(model, observations())
    assert np.abs(after.arrays["layer1.weight"] - before.arrays["layer1.weight"]).max() > 1e-4
    expected, _ = model.predict(observations(seed=6), deterministic=True)
    assert np.abs(twin(after).act(observations(seed=6))[:, 0] - expected).max() <= 1e-6
    kept = after.arrays["layer1.weight"].copy()
    model.learn(100)
    assert np.array_equal(after.arrays["layer1.weight"], kept)


def test_what_is_exported_says_what_it_is() -> None:
    exported = export_actor(make_model([48, 16], nn.Tanh, use_sde=True, clip_mean=1.5))
    assert (exported.net_arch, exported.activation, exported.clip_mean) == ((48, 16), "tanh", 1.5)
    assert (exported.observation_size, exported.use_sde) == (SIZE, True)
    assert (exported.low, exported.high) == ((-1.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    assert {name: array.shape for name, array in exported.arrays.items()} == {
        "layer0.weight": (48, SIZE), "layer0.bias": (48,), "layer1.weight": (16, 48), "layer1.bias": (16,),
        "layer2.weight": (3, 16), "layer2.bias": (3,),
    }  # fmt: skip
    assert export_actor(make_model([8], use_sde=True, clip_mean=0.0)).clip_mean is None
    assert export_actor(make_model([8])).clip_mean is None


def test_a_saved_and_loaded_model_gives_the_same_arrays(tmp_path: Path) -> None:
    model = make_model([32], use_sde=True)
    model.save(tmp_path / "model.zip")
    first, second = export_actor(model), export_actor(SAC.load(tmp_path / "model.zip", device="cpu"))
    assert {name: a.tobytes() for name, a in first.arrays.items()} == {
        name: a.tobytes() for name, a in second.arrays.items()
    }


# ---- refusals ---------------------------------------------------------------------------------------------------
def _unchecked(model: SAC) -> ExportedActor:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "TOLERANCE", np.inf)
        return export_actor(model)


def test_a_twin_that_answers_otherwise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model([32])
    original = export._array
    monkeypatch.setattr(export, "_array", lambda tensor: original(tensor) * np.float32(1.0001))
    with pytest.raises(ExportError, match=r"differs from torch by .* on 4096 observations, at most 1e-06"):
        export_actor(model)


def test_a_single_wrong_answer_in_a_thousand_is_found() -> None:
    model = make_model([32])
    exported = export_actor(model)
    assert largest_difference(exported, model, observations(1_000)) <= 1e-6
    scale_mean(model, 1.01)
    assert largest_difference(exported, model, observations(1_000)) > 1e-4


def test_too_few_or_misshapen_observations_prove_nothing() -> None:
    model = make_model([32])
    for asked in (observations(999), np.zeros((2_000, SIZE + 1), np.float32)):
        with pytest.raises(ExportError, match="at least 1000 of 11 numbers each"):
            export_actor(model, asked)


def test_weights_that_are_no_numbers_are_refused_by_layer() -> None:
    model = make_model([32, 16])
    with torch.no_grad():
        model.policy.actor.latent_pi[2].weight[3, 4] = float("nan")
    with pytest.raises(ExportError, match=r"layer1\.weight holds numbers that are not finite"):
        export_actor(model)


def test_networks_the_daemon_could_not_run_are_refused() -> None:
    with pytest.raises(ExportError, match="activation ELU is not one of ReLU, Tanh"):
        export_actor(make_model([32], nn.ELU))
    model = make_model([32])
    model.policy.actor.latent_pi.append(nn.LayerNorm(32))
    with pytest.raises(ExportError, match="linear layers with one activation between"):
        export_actor(model)
    images = SAC("MlpPolicy", _Images(), buffer_size=1, device="cpu")
    with pytest.raises(ExportError, match="is not a Box of float32 in one dimension"):
        export_actor(images)


class _Images(Market):
    def __init__(self) -> None:
        super().__init__()
        self.observation_space = spaces.Box(-1.0, 1.0, (3, 3), np.float32)


# ---- the bundle -------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def members() -> list[TrainedMember]:
    shapes = ([32, 16], [32, 16], [8])
    return [
        TrainedMember(actor=export_actor(make_model(shape, use_sde=seed == 2, seed=seed)), seed=seed, weight=weight)
        for seed, (shape, weight) in enumerate(zip(shapes, (0.5, 0.25, 0.25), strict=True))
    ]


def fields(**changes: Any) -> dict[str, Any]:
    return {
        "action_rule_version": 1,
        "feature": FeatureRecord(hash="ab" * 32, schema={"version": 1, "names": ["a", "b"]}),
        "reference": Reference(mean=(0.0, 1.0), std=(1.0, 1.0), limit=4.0),
        "costs": CostModel().to_json(),
        "risk": RiskLimits().to_json(),
        "strategy": StrategyParameters().to_json(),
        "training": TrainingRecord(
            command="sacd train", start_ms=0, end_ms=3_600_000, steps=100, symbols=("BTC/USDT",), timeframe="1h",
            data=(DataRecord(name="btc.csv", sha256="0" * 64),),
        ),
    } | changes  # fmt: skip


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_the_daemon_reads_what_training_wrote(tmp_path: Path, members: list[TrainedMember]) -> None:
    manifest = write_bundle(tmp_path / "bundle", members, **fields(evaluation={"sharpe": 1.5}))
    served, trained = load_bundle(tmp_path / "bundle"), read_bundle(tmp_path / "bundle")
    assert served.manifest == trained.manifest == manifest
    assert manifest.evaluation == {"sharpe": 1.5}
    assert manifest.versions["torch"] == torch.__version__
    asked = observations(100)
    votes = served.ensemble.act(asked)
    assert trained.ensemble.act(asked).tobytes() == votes.tobytes()
    for index, seed in enumerate(range(3)):
        model = make_model([[32, 16], [32, 16], [8]][index], use_sde=seed == 2, seed=seed)
        assert np.abs(votes[:, index] - model.predict(asked, deterministic=True)[0]).max() <= 1e-6
    assert served.ensemble.weights.tolist() == [0.5, 0.25, 0.25]


def test_the_same_training_gives_the_same_bytes_and_the_same_id(tmp_path: Path) -> None:
    for name in ("first", "second"):
        model = make_model([32, 16], use_sde=True, seed=7)
        model.learn(120)
        member = TrainedMember(actor=export_actor(model), seed=7, weight=1.0)
        write_bundle(tmp_path / name, [member], **fields())
    assert contents(tmp_path / "first") == contents(tmp_path / "second")
    assert read_bundle(tmp_path / "first").manifest.id == read_bundle(tmp_path / "second").manifest.id


def test_a_bundle_holds_nothing_but_json_and_raw_arrays(tmp_path: Path, members: list[TrainedMember]) -> None:
    write_bundle(tmp_path / "bundle", members, **fields())
    files = contents(tmp_path / "bundle")
    assert sorted(files) == [MANIFEST, "member-0.safetensors", "member-1.safetensors", "member-2.safetensors"]
    json.loads(files.pop(MANIFEST))
    for index, data in enumerate(files[name] for name in sorted(files)):
        arrays = safetensors.numpy.load(data)
        raw = sum(array.nbytes for array in members[index].actor.arrays.values())
        assert sum(array.nbytes for array in arrays.values()) == raw
        assert len(data) < raw + 1_000
    assert stat.S_IMODE((tmp_path / "bundle").stat().st_mode) == 0o755


def test_a_place_that_is_taken_is_refused(tmp_path: Path, members: list[TrainedMember]) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "notes").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("taken", "file", "link"):
        with pytest.raises(BundleError, match=f"{name}: it exists already; name another directory"):
            write_bundle(tmp_path / name, members, **fields())
    assert (tmp_path / "taken" / "notes").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link", "taken"]


def test_an_empty_directory_and_absent_parents_are_filled(tmp_path: Path, members: list[TrainedMember]) -> None:
    (tmp_path / "empty").mkdir()
    write_bundle(tmp_path / "empty", members, **fields())
    write_bundle(tmp_path / "a" / "b" / "c", members, **fields())
    assert contents(tmp_path / "empty") == contents(tmp_path / "a" / "b" / "c")


def test_what_makes_no_bundle_is_not_written(tmp_path: Path, members: list[TrainedMember]) -> None:
    other_bounds = dataclasses.replace(members[0].actor, low=(-1.0, -1.0, 0.0))
    arrays = {name: array.copy() for name, array in members[0].actor.arrays.items()}
    arrays["layer0.bias"][0] = np.nan
    broken = dataclasses.replace(members[0].actor, arrays=arrays)
    for chosen, changes, words in (
        ([], {}, "at least one member"),
        (members[:2], {}, "ensemble weights sum to 0.75"),
        ([TrainedMember(actor=other_bounds, seed=0, weight=1.0)], {}, "are not (-1.0, 0.0, 0.0)"),
        ([TrainedMember(actor=broken, seed=0, weight=1.0)], {}, "layer0.bias holds numbers that are not finite"),
        (members, {"costs": {"fee_rate": float("nan")}}, "costs.fee_rate nan"),
        (members, {"evaluation": {"sharpe": float("inf")}}, "cannot be written as JSON"),
    ):
        with pytest.raises(BundleError, match=r"bundle ") as refused:
            write_bundle(tmp_path / "bundle", chosen, **fields(**changes))
        assert words in str(refused.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("step", range(1, 7))
def test_a_full_disk_midway_leaves_nothing(
    tmp_path: Path, members: list[TrainedMember], monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    calls = 0

    def failing(original: Any) -> Any:
        def counted(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == step:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return original(*arguments, **options)

        return counted

    monkeypatch.setattr(os, "fsync", failing(os.fsync))
    monkeypatch.setattr(os, "replace", failing(os.replace))
    with pytest.raises(BundleError, match="No space left on device"):
        write_bundle(tmp_path / "bundle", members, **fields())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("step", range(1, 8))
def test_a_kill_midway_leaves_a_whole_bundle_or_none(tmp_path: Path, members: list[TrainedMember], step: int) -> None:
    files = contents(_written(tmp_path / "source", members))
    program = f"""
import os, pathlib
left = {step}
def dying(call):
    def counted(*arguments, **options):
        global left
        left -= 1
        if left == 0:
            os._exit(9)
        return call(*arguments, **options)
    return counted
os.fsync, os.replace = dying(os.fsync), dying(os.replace)
from training.bundle_files import write_directory
source = pathlib.Path({str(tmp_path / "source")!r})
write_directory(pathlib.Path({str(tmp_path / "bundle")!r}), {{p.name: p.read_bytes() for p in source.iterdir()}})
"""
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", program], check=False, cwd=root, timeout=120).returncode == 9
    is_there = step == 7  # four files and their directory are synced, renamed, and then the directory above is synced
    assert (tmp_path / "bundle").exists() == is_there
    if is_there:
        assert contents(tmp_path / "bundle") == files
    write_bundle(tmp_path / "again", members, **fields())
    assert contents(tmp_path / "again") == files


def _written(directory: Path, members: list[TrainedMember]) -> Path:
    write_bundle(directory, members, **fields())
    return directory


def test_reading_names_path_and_reason(tmp_path: Path, members: list[TrainedMember]) -> None:
    bundle = _written(tmp_path / "bundle", members)
    (bundle / "training").mkdir()
    read_bundle(bundle)
    (bundle / "member-0.safetensors").write_bytes(b"")
    with pytest.raises(BundleError, match=r"bundle: bundle file member-0\.safetensors: its sha256 is"):
        read_bundle(bundle)
    (bundle / "member-0.safetensors").unlink()
    (bundle / "member-0.safetensors").symlink_to("member-1.safetensors")
    with pytest.raises(BundleError, match=r"member-0\.safetensors: it is not a plain file"):
        read_bundle(bundle)
    with pytest.raises(BundleError, match="absent"):
        read_bundle(tmp_path / "absent")
