import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stable_baselines3.common.base_class import BaseAlgorithm

from strategy.bundle import Bundle
from strategy.manifest import BundleManifest, FeatureRecord
from strategy.observation import N_OBSERVATION, OBSERVATION_HASH, OBSERVATION_SCHEMA
from tests.training.markets import write_ensemble
from tests.training.members import PRACTICE, SMALL, last_of, plan, trained
from training.algorithms import build_model
from training.bundles import read_bundle
from training.checkpoint import INDEX
from training.errors import BundleError, TrainingError
from training.member_run import practice_of
from training.model_state import weights_of
from training.packing import pack, unpack
from training.plan import MemberPlan
from training.transfer import TakeOver, for_fine_tuning, shapes_of, take_over

# The bundles of `write_ensemble` have two hidden layers of 8 and 4, and gSDE's clip.
LIKE_BUNDLE = plan({"net_arch": (8, 4), "use_sde": True})


def fresh(chosen: MemberPlan) -> BaseAlgorithm:
    return build_model(chosen, practice_of([PRACTICE], chosen))


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_ensemble(tmp_path / "bundle", seed=5)


def is_linear(module: Any) -> bool:
    return type(module).__name__ == "Linear"


def torch_actor(model: BaseAlgorithm) -> dict[str, Any]:
    """Return the actor's layers as the bundle names them, found by where they stand in the module."""
    actor = model.policy.actor
    linears = [module for part in (actor.latent_pi, actor.mu) for module in part.modules() if is_linear(module)]
    return {
        f"layer{index}.{part}": getattr(linear, part).detach().numpy()
        for index, linear in enumerate(linears)
        for part in ("weight", "bias")
    }


def written(bundle: Path, index: int) -> dict[str, Any]:
    import safetensors.numpy  # noqa: PLC0415

    return safetensors.numpy.load_file(bundle / f"member-{index}.safetensors")


def changed_manifest(bundle: Path, **changes: Any) -> None:
    manifest = BundleManifest.from_bytes((bundle / "manifest.json").read_bytes())
    (bundle / "manifest.json").write_bytes(replace(manifest, **changes).to_bytes())


# ---- the actor of a bundle --------------------------------------------------------------------------------------
@pytest.mark.parametrize(("index", "member"), [(0, 0), (1, 1), (2, 2), (3, 0), (7, 1)])
def test_a_fresh_model_holds_the_weights_of_the_bundles_member(bundle: Path, index: int, member: int) -> None:
    model = fresh(LIKE_BUNDLE)
    take_over(bundle, index)(model)
    for name, array in written(bundle, member).items():
        np.testing.assert_array_equal(torch_actor(model)[name], array)


def test_the_policy_answers_as_the_bundles_numpy_twin_does_before_it_has_learned(bundle: Path) -> None:
    model = fresh(LIKE_BUNDLE)
    take_over(bundle, 2)(model)
    observations = np.random.default_rng(1).normal(size=(200, N_OBSERVATION)).astype(np.float32)
    answers, _ = model.predict(observations, deterministic=True)
    np.testing.assert_allclose(answers, read_bundle(bundle).ensemble.act(observations)[:, 2], atol=1e-5)


def test_what_is_not_in_the_bundle_stays_as_the_seed_drew_it(bundle: Path) -> None:
    model, untouched = fresh(LIKE_BUNDLE), fresh(LIKE_BUNDLE)
    take_over(bundle, 0)(model)
    after, before = weights_of(model), weights_of(untouched)
    differing = {name.split(".")[0] for name in before if not np.array_equal(before[name], after[name])}
    assert differing == {"actor"}


def test_layers_of_another_shape_are_left_out_and_named(bundle: Path) -> None:
    chosen = plan({"net_arch": (8, 6), "use_sde": True})
    taken = take_over(bundle, 0).planned(chosen)
    reasons = {layer.name: layer.reason for layer in taken.layers if layer.name.startswith("actor.")}
    assert reasons["actor.latent_pi.0"] == ""
    assert reasons["actor.latent_pi.2"] == "its shape there is 4x8"
    assert reasons["actor.mu"] == "its shape there is 3x4"
    model, untouched = fresh(chosen), fresh(chosen)
    take_over(bundle, 0)(model)
    np.testing.assert_array_equal(torch_actor(model)["layer0.weight"], written(bundle, 0)["layer0.weight"])
    for name in ("layer1.weight", "layer1.bias", "layer2.weight", "layer2.bias"):
        np.testing.assert_array_equal(torch_actor(model)[name], torch_actor(untouched)[name])


def test_a_network_without_a_layer_in_common_is_refused_with_the_one_that_fits(bundle: Path) -> None:
    with pytest.raises(TrainingError, match=r"fits net_arch 16,16: give --set net_arch=8,4"):
        take_over(bundle, 0).planned(plan({"net_arch": (16, 16)}))


def test_a_bundle_that_reads_other_features_gives_all_but_the_first_layer(bundle: Path) -> None:
    changed_manifest(bundle, feature=FeatureRecord(hash="ab" * 32, schema=OBSERVATION_SCHEMA))
    reasons = {layer.name: layer.reason for layer in take_over(bundle, 0).planned(LIKE_BUNDLE).layers}
    assert reasons["actor.latent_pi.0"] == "the bundle's policies read other features"
    assert reasons["actor.latent_pi.2"] == reasons["actor.mu"] == ""
    model, untouched = fresh(LIKE_BUNDLE), fresh(LIKE_BUNDLE)
    take_over(bundle, 0)(model)
    np.testing.assert_array_equal(torch_actor(model)["layer0.weight"], torch_actor(untouched)["layer0.weight"])
    np.testing.assert_array_equal(torch_actor(model)["layer1.weight"], written(bundle, 0)["layer1.weight"])


def test_a_take_over_travels_to_another_process(bundle: Path) -> None:
    here, there = fresh(LIKE_BUNDLE), fresh(LIKE_BUNDLE)
    take_over(bundle, 1)(here)
    pickle.loads(pickle.dumps(take_over(bundle, 1)))(there)  # noqa: S301 - our own
    for name, array in weights_of(here).items():
        np.testing.assert_array_equal(weights_of(there)[name], array)


def test_learning_goes_on_from_the_weights_taken_over(tmp_path: Path, bundle: Path) -> None:
    slow = for_fine_tuning(LIKE_BUNDLE)
    result = trained(tmp_path / "slow", replace(slow, validation=None), prepare=take_over(bundle, 0))
    after, before = torch_actor(result.model), written(bundle, 0)
    moved = max(float(np.abs(after[name] - before[name]).max()) for name in before)
    # AdamW moves a weight by about the rate at most each step, besides its decay of 0.3 times rate and weight.
    steps = result.model._n_updates
    largest = max(float(np.abs(array).max()) for array in before.values())
    assert 0.0 < moved <= steps * 1e-5 * (10.0 + 0.3 * largest)


def test_fine_tuning_is_slow_and_constant_whatever_the_preset_does() -> None:
    settings = for_fine_tuning(plan({"learning_rate": 1e-3, "final_learning_rate": 1e-4})).settings
    assert (settings.learning_rate, settings.final_learning_rate) == (1e-5, None)


@pytest.mark.parametrize("use_sde", [False, True])
@pytest.mark.parametrize("net_arch", [(8,), (8, 4), ()])
def test_the_shapes_told_beforehand_are_those_of_the_model(net_arch: tuple[int, ...], use_sde: bool) -> None:
    chosen = plan({"net_arch": net_arch, "use_sde": use_sde})
    real = {name: array.shape for name, array in weights_of(fresh(chosen)).items()}
    assert shapes_of(chosen.settings) == real


def test_asking_for_shapes_draws_nothing_from_torchs_generator() -> None:
    import torch  # noqa: PLC0415

    torch.manual_seed(1)
    wanted = torch.rand(3)
    torch.manual_seed(1)
    shapes_of(SMALL)
    assert torch.equal(torch.rand(3), wanted)


# ---- the training state below it --------------------------------------------------------------------------------
def bundle_of(model: BaseAlgorithm, path: Path) -> Path:
    """Write a bundle whose only member is the actor of `model`, put together from the modules."""
    import hashlib  # noqa: PLC0415

    import safetensors.numpy  # noqa: PLC0415

    other = write_ensemble(path, members=1)
    arrays = {name: np.ascontiguousarray(array) for name, array in torch_actor(model).items()}
    data = safetensors.numpy.save(arrays)
    (other / "member-0.safetensors").write_bytes(data)
    manifest = BundleManifest.from_bytes((other / "manifest.json").read_bytes())
    member = replace(
        manifest.members[0],
        sha256=hashlib.sha256(data).hexdigest(),
        net_arch=tuple(layer.out_features for layer in model.policy.actor.latent_pi if is_linear(layer)),
        use_sde=False,
        clip_mean=None,
        weight=1.0,
    )
    (other / "manifest.json").write_bytes(replace(manifest, members=(member,)).to_bytes())
    return other


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Return the directory of a run: a bundle with the training state that it came from, beside another member's."""
    place = tmp_path_factory.mktemp("run")
    chosen = plan(validation=None)
    result = trained(place / "learned", chosen)
    out = bundle_of(result.model, place / "out")
    (out / "training").mkdir()
    trained(out / "training" / "member-0", replace(chosen, seed=8, steps=300))  # a gate left it out
    shutil.copytree(place / "learned", out / "training" / "member-1")
    return out, {name: array.copy() for name, array in weights_of(result.model).items()}


def test_critics_targets_and_entropy_come_from_the_training_state(finished: tuple[Path, dict[str, Any]]) -> None:
    out, learned = finished
    model = fresh(plan(seed=99))
    take_over(out, 0)(model)
    assert {name.split(".")[0] for name in learned} == {"actor", "critic", "critic_target", "variable"}
    for name, array in learned.items():
        np.testing.assert_array_equal(weights_of(model)[name], array, err_msg=name)


def test_optimisers_begin_anew(finished: tuple[Path, dict[str, Any]]) -> None:
    model = fresh(plan())
    take_over(finished[0], 0)(model)
    for optimiser in (model.actor.optimizer, model.critic.optimizer, model.ent_coef_optimizer):  # type: ignore[attr-defined]
        assert optimiser.state_dict()["state"] == {}


def test_with_the_training_state_every_layer_is_taken_and_nothing_remarked(
    finished: tuple[Path, dict[str, Any]],
) -> None:
    taken = take_over(finished[0], 0).planned(plan())
    assert taken.has_state
    assert [layer.name for layer in taken.layers if layer.reason] == []
    assert taken.remarks == ()


def test_without_it_the_report_says_that_critics_begin_anew(bundle: Path) -> None:
    taken = take_over(bundle, 0).planned(LIKE_BUNDLE)
    told = "\n".join(taken.lines())
    assert not taken.has_state
    assert "critics, exploration and entropy begin anew" in told
    assert f"3 of 17 layers from member 0 of bundle {taken.bundle[:16]}: actor.latent_pi.0 8x{N_OBSERVATION}" in told
    assert "not taken, the bundle holds actors only: actor.log_std 4x3, critic.qf0.0 8x" in told


def test_state_of_another_feature_schema_leaves_the_first_layers_of_critics_out(
    tmp_path: Path, finished: tuple[Path, dict[str, Any]]
) -> None:
    out = shutil.copytree(finished[0], tmp_path / "copy")
    changed_manifest(out, feature=FeatureRecord(hash="ab" * 32, schema=OBSERVATION_SCHEMA))
    left = {layer.name for layer in take_over(out, 0).planned(plan()).layers if layer.reason}
    assert left == {
        "actor.latent_pi.0", "critic.qf0.0", "critic.qf1.0", "critic_target.qf0.0", "critic_target.qf1.0",
    }  # fmt: skip


def test_the_entropy_coefficient_alone_is_no_transfer(finished: tuple[Path, dict[str, Any]]) -> None:
    with pytest.raises(TrainingError, match=r"fits net_arch 16,16: give --set net_arch=8, or train without --from"):
        take_over(finished[0], 0).planned(plan({"net_arch": (16, 16)}))


def test_a_network_without_hidden_layers_reads_features_with_its_last(tmp_path: Path) -> None:
    out = bundle_of(fresh(plan({"net_arch": ()})), tmp_path / "flat")
    changed_manifest(out, feature=FeatureRecord(hash="ab" * 32, schema=OBSERVATION_SCHEMA))
    with pytest.raises(TrainingError, match="no layer of bundle"):
        take_over(out, 0).planned(plan({"net_arch": ()}))


def test_a_resumed_run_does_not_take_over_again(tmp_path: Path, bundle: Path) -> None:
    chosen = replace(for_fine_tuning(LIKE_BUNDLE), validation=None)
    whole = trained(tmp_path / "whole", chosen, prepare=take_over(bundle, 0))
    stops = iter([False, True])
    with pytest.raises(TrainingError, match="interrupted"):
        trained(tmp_path / "cut", chosen, prepare=take_over(bundle, 0), should_stop=lambda: next(stops))
    index = json.loads((tmp_path / "cut" / INDEX).read_bytes())
    assert 0 < index["steps"] < chosen.steps
    resumed = trained(tmp_path / "cut", chosen, prepare=take_over(bundle, 1))  # another, which must not be asked
    for name, array in weights_of(whole.model).items():
        np.testing.assert_array_equal(weights_of(resumed.model)[name], array)
    assert last_of(tmp_path / "cut")["weights"] == last_of(tmp_path / "whole")["weights"]


# ---- bad input --------------------------------------------------------------------------------------------------
def test_a_missing_bundle_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"nowhere: cannot be read .*name the directory of a bundle"):
        take_over(tmp_path / "nowhere", 0)


def test_a_damaged_bundle_is_named(bundle: Path) -> None:
    file = bundle / "member-1.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x00")
    with pytest.raises(BundleError, match=r"member-1\.safetensors: its sha256 is"):
        take_over(bundle, 0)


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda _: b"", lambda _: b"\xff" * 64])
def test_a_damaged_training_state_is_named_with_the_way_on(
    tmp_path: Path, finished: tuple[Path, dict[str, Any]], damage: Any
) -> None:
    out = shutil.copytree(finished[0], tmp_path / "copy")
    file = out / "training" / "member-1" / "best.safetensors"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(TrainingError, match=r"member-1/best\.safetensors: .*restore it, or remove it to take over"):
        take_over(out, 0)


def test_a_state_that_is_no_weights_is_refused(tmp_path: Path, finished: tuple[Path, dict[str, Any]]) -> None:
    out = shutil.copytree(finished[0], tmp_path / "copy")
    file = out / "training" / "member-0" / "best.safetensors"
    file.write_bytes(pack([1, 2]))
    assert unpack(file.read_bytes()) == [1, 2]
    with pytest.raises(TrainingError, match=r"member-0/best\.safetensors: it holds no weights"):
        take_over(out, 0)


def test_a_take_over_of_this_program_reads_the_same(bundle: Path) -> None:
    made = take_over(bundle, 0)
    assert isinstance(made, TakeOver)
    assert isinstance(read_bundle(bundle), Bundle)
    assert read_bundle(bundle).manifest.feature.hash == OBSERVATION_HASH
    assert made.reads_same
