"""An evaluation speaks for exactly one ensemble; anything unclear about it is no permission."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daemon.errors import ArtifactError, NotArmed
from daemon.models import list_bundles, load_bundle
from daemon.readiness import EVALUATION, Verdict, read_readiness, refuse_unready
from strategy.manifest import BundleManifest
from tests.daemon.live_places import write_evaluation
from tests.fakes.serving import write_bundle
from training.bundles import read_bundle


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    registry = tmp_path_factory.mktemp("models")
    write_bundle(registry, members=1)
    return registry


@pytest.fixture
def model(registry: Path) -> Path:
    """An ensemble without an evaluation."""
    (model,) = (entry for entry in registry.iterdir() if not entry.is_symlink())
    (model / EVALUATION).unlink(missing_ok=True)
    return model


def manifest_of(model: Path) -> BundleManifest:
    return load_bundle(model).manifest


def test_an_ensemble_that_was_found_ready_may_trade(model: Path) -> None:
    write_evaluation(model)
    found = read_readiness(model, manifest_of(model))
    assert (found.verdict, found.is_ready) == (Verdict.READY, True)
    assert str(found) == f"{model.name} was found ready at 2026-01-02T03:04:05+00:00: all gates passed"
    assert refuse_unready(found, "") == ""


@pytest.mark.parametrize(
    ("changes", "verdict", "told"),
    [
        (None, Verdict.NONE, "there is no evaluation.json"),
        ({"ready": False, "summary": "Sharpe 0.2"}, Verdict.NOT_READY, "not ready at 2026-01-02T03:04:05+00:00: Sha"),
        ({"bundle": "0" * 64}, Verdict.OTHER_BUNDLE, "of another ensemble"),
    ],
    ids=["none", "not ready", "other bundle"],
)  # fmt: skip
def test_any_other_is_refused_naming_both_ways_out(
    model: Path, changes: dict[str, Any] | None, verdict: Verdict, told: str
) -> None:
    if changes is not None:
        write_evaluation(model, **changes)
    found = read_readiness(model, manifest_of(model))
    assert (found.verdict, found.is_ready) == (verdict, False)
    with pytest.raises(NotArmed) as caught:
        refuse_unready(found, "")
    assert caught.value.exit_code == 3
    assert told in str(caught.value)
    assert f'allow_unproven = "{model.name}"' in str(caught.value)
    assert refuse_unready(found, model.name) == model.name


def test_an_override_is_for_one_ensemble_only(model: Path) -> None:
    with pytest.raises(NotArmed):
        refuse_unready(read_readiness(model, manifest_of(model)), "0123456789abcdef")


def test_it_is_found_through_the_link_that_names_the_ensemble(registry: Path, model: Path) -> None:
    write_evaluation(model)
    current = registry / "current"
    current.unlink(missing_ok=True)
    current.symlink_to(model.name)
    assert read_readiness(current, manifest_of(model)).is_ready


def test_an_evaluation_is_no_part_of_the_bundle(registry: Path, model: Path) -> None:
    before = manifest_of(model).id
    write_evaluation(model)
    assert manifest_of(model).id == before
    assert read_bundle(model).manifest.id == before
    assert [listed.fault for listed in list_bundles(registry) if listed.path == model] == [""]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is not JSON"),
        (b"\xff{}", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[]", "not a JSON object"),
        (b"{}", "bundle is missing or no text"),
        (json.dumps({"bundle": "abc", "ready": True}).encode(), "'abc' is not the 64 digits"),
        (json.dumps({"bundle": "0" * 64}).encode(), "ready 'None' is neither true nor false"),
        (json.dumps({"bundle": "0" * 64, "ready": 1}).encode(), "ready '1' is neither true nor false"),
        (json.dumps({"bundle": "0" * 64, "ready": "true"}).encode(), "ready 'true' is neither"),
        (json.dumps({"bundle": "0" * 64, "ready": True}).encode(), "at is missing"),
        (json.dumps({"bundle": "0" * 64, "ready": True, "at": "soon", "summary": ""}).encode(), "'soon' is no date"),
        (json.dumps({"bundle": "0" * 64, "ready": True, "at": "2026-01-02"}).encode(), "summary is missing"),
        (b" " * (4 * 2**20 + 1), "more than the 4194304"),
    ],
)
def test_a_damaged_one_is_an_error_naming_it(model: Path, content: bytes, told: str) -> None:
    (model / EVALUATION).write_bytes(content)
    with pytest.raises(ArtifactError) as caught:
        read_readiness(model, manifest_of(model))
    assert str(model / EVALUATION) in str(caught.value)
    assert told in str(caught.value)


def test_nothing_but_a_plain_file_is_opened(model: Path) -> None:
    manifest = manifest_of(model)
    os.mkfifo(model / EVALUATION)
    with pytest.raises(ArtifactError, match="not a plain file"):
        read_readiness(model, manifest)
    (model / EVALUATION).unlink()
    (model / EVALUATION).symlink_to("/etc/hostname")
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_readiness(model, manifest)


@given(content=st.binary(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=200)
def test_no_bytes_are_taken_for_a_permission(model: Path, content: bytes) -> None:
    (model / EVALUATION).write_bytes(content)
    with pytest.raises(ArtifactError):
        read_readiness(model, manifest_of(model))
