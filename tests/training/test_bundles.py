import json
from pathlib import Path

import numpy as np
import pytest

from daemon.models import load_bundle
from strategy.features import N_FEATURES
from strategy.observation import N_OBSERVATION
from tests.fakes.bundles import make_files
from tests.training.markets import write_ensemble
from training.bundles import read_bundle, read_serving_bundle, reference_of
from training.errors import BundleError


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_ensemble(tmp_path / "bundle")


def test_what_training_reads_the_daemon_reads_too(bundle: Path) -> None:
    ours, theirs = read_serving_bundle(bundle), load_bundle(bundle)
    observations = np.random.default_rng(0).uniform(-1, 1, (20, N_OBSERVATION)).astype(np.float32)
    assert ours.manifest == theirs.manifest
    assert ours.ensemble.act(observations).tobytes() == theirs.ensemble.act(observations).tobytes()


def test_a_link_to_a_bundle_and_a_training_folder_in_it_are_fine(bundle: Path, tmp_path: Path) -> None:
    (bundle / "training").mkdir()
    (tmp_path / "current").symlink_to("bundle")
    assert read_bundle(tmp_path / "current").manifest == read_bundle(bundle).manifest


def test_the_reference_is_the_manifests_as_the_trader_measures(tmp_path: Path) -> None:
    found = reference_of(read_serving_bundle(write_ensemble(tmp_path / "b", limit=2.0)))
    # every feature 3 standard deviations off the mean, in units of a limit of 2
    assert found.distance(np.full(N_FEATURES, 3.0, np.float32)) == pytest.approx(1.5)


def broken(bundle: Path, how: str) -> Path:
    member = bundle / "member-1.safetensors"
    match how:
        case "missing directory":
            return bundle / "nowhere"
        case "a file":
            return member
        case "missing member":
            member.unlink()
        case "flipped byte":
            data = bytearray(member.read_bytes())
            data[-3] ^= 1
            member.write_bytes(bytes(data))
        case "folder in it":
            (bundle / "extra").mkdir()
        case "link in it":
            member.rename(bundle.parent / "elsewhere")
            member.symlink_to(bundle.parent / "elsewhere")
        case "link to itself":
            (bundle.parent / "loop").symlink_to("loop")
            return bundle.parent / "loop"
        case "altered manifest":
            stated = json.loads((bundle / "manifest.json").read_text())
            stated["training"]["steps"] += 1
            (bundle / "manifest.json").write_text(json.dumps(stated))
    return bundle


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("missing directory", r"nowhere: cannot be read \(No such file or directory\): name the directory of a bundle"),
        ("a file", r"member-1.safetensors: cannot be read \(Not a directory\): name the directory of a bundle"),
        ("missing member", r"bundle: .*member-1.safetensors"),
        ("flipped byte", r"bundle: .*member-1.safetensors"),
        ("folder in it", r"bundle file extra: it is not a plain file"),
        ("link in it", r"bundle file member-1.safetensors: it is not a plain file"),
        ("link to itself", r"loop: cannot be read \(Symlink loop.*name the directory of a bundle"),
        ("altered manifest", r"bundle file manifest.json: it .*altered"),
    ],
)
def test_a_broken_bundle_is_named(bundle: Path, how: str, message: str) -> None:
    with pytest.raises(BundleError, match=message) as caught:
        read_bundle(broken(bundle, how))
    assert "\n" not in str(caught.value)


def test_a_bundle_of_another_schema_cannot_serve_and_says_what_differs(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for name, data in make_files().items():
        (other / name).write_bytes(data)
    assert read_bundle(other).manifest.observation_size == 5
    with pytest.raises(BundleError, match=r"other: .*return_1"):
        read_serving_bundle(other)
