"""The ensembles of a registry: verified once, then at hand; which of them may take another's place."""

from pathlib import Path

import numpy as np
import pytest

from daemon.contenders import Contenders
from daemon.errors import ArtifactError
from daemon.models import load_bundle, set_current
from strategy.manifest import MANIFEST
from tests.fakes.serving import write_bundle


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    """A registry in which one ensemble serves."""
    place = tmp_path / "models"
    set_current(place, write_bundle(place, seed=1).name)
    return place


@pytest.fixture
def contenders(registry: Path) -> Contenders:
    return Contenders(registry / "current", "1h", load_bundle(registry / "current"))


def test_the_one_that_serves_is_at_hand_whatever_becomes_of_its_files(registry: Path, contenders: Contenders) -> None:
    name = (registry / "current").readlink().name
    for file in (registry / name).iterdir():
        file.unlink()
    assert contenders.bundle(name).manifest.short_id == name
    assert contenders.model(name).id == name


def test_another_one_is_verified_when_it_is_first_asked_for_and_then_at_hand(
    registry: Path, contenders: Contenders
) -> None:
    other = write_bundle(registry, seed=2)
    first = contenders.bundle(other.name)
    (other / MANIFEST).unlink()
    assert contenders.bundle(other.name) is first
    assert contenders.find(other.name).voters is first.ensemble
    assert contenders.model(other.name).voters is first.ensemble


def test_one_that_could_not_be_read_is_read_anew_once_it_is_whole(registry: Path, contenders: Contenders) -> None:
    other = write_bundle(registry, seed=2)
    member = other / "member-0.safetensors"
    data = member.read_bytes()
    member.write_bytes(data[:-1])
    with pytest.raises(ArtifactError, match=r"member-0\.safetensors"):
        contenders.bundle(other.name)
    member.write_bytes(data)
    assert contenders.bundle(other.name).manifest.short_id == other.name


def test_what_engine_and_shadow_are_given_is_what_the_manifest_says(registry: Path, contenders: Contenders) -> None:
    other = write_bundle(registry, seed=2, members=2)
    manifest = load_bundle(other).manifest
    model, contender = contenders.model(other.name), contenders.find(other.name)
    assert (model.id, model.members, model.seen_until_ms) == (other.name, 2, manifest.training.end_ms)
    assert contender.id == other.name
    assert contender.reference is not None
    assert contender.reference.mean.tolist() == pytest.approx(list(manifest.reference.mean))
    assert contender.reference.inverse_std.tolist() == pytest.approx([1.0 / x for x in manifest.reference.std])
    assert contender.reference.limit == manifest.reference.limit
    assert np.allclose(model.voters.weights, [0.5, 0.5])


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("absent", "No such file or directory"),
        ("not a name", "is not 16 hexadecimal digits"),
        ("of other candles", "trained on 4h candles, it would be given those of 1h"),
        ("under another name", "rename the directory to that"),
        ("degenerate", r"is degenerate: it votes \("),
    ],
)
def test_what_may_not_serve_is_refused_naming_why(registry: Path, contenders: Contenders, what: str, told: str) -> None:
    name = "0" * 16
    match what:
        case "not a name":
            name = "current"
        case "of other candles":
            name = write_bundle(registry, seed=2, timeframe="4h").name
        case "under another name":
            write_bundle(registry, seed=2).rename(registry / name)
        case "degenerate":
            name = write_bundle(registry, votes=(2.0, 0.0, 0.0)).name
    for ask in (contenders.bundle, contenders.find, contenders.model):
        with pytest.raises(ArtifactError, match=told):
            ask(name)


def test_only_where_the_configuration_goes_by_the_link_may_another_one_serve(registry: Path) -> None:
    served = load_bundle(registry / "current")
    by_link = Contenders(registry / "current", "1h", served)
    assert by_link.is_swappable
    by_link.refuse_unswappable()
    by_name = Contenders(registry / served.manifest.short_id, "1h", served)
    assert not by_name.is_swappable
    with pytest.raises(ArtifactError) as refused:
        by_name.refuse_unswappable()
    assert str(registry / "current") in str(refused.value)
    assert "`sacd models promote`" in str(refused.value)
