import dataclasses
from pathlib import Path
from typing import Any

import pytest

from daemon.config import Config, load_config
from daemon.serving import load_model
from daemon.trained_under import conditions_changed
from strategy.manifest import BundleManifest
from strategy.parameters import SHIPPED_LIMITS, SHIPPED_STRATEGY, CostModel
from tests.fakes.serving import ROOT, Place, make_place

SAME = {
    "strategy": SHIPPED_STRATEGY.to_json(),
    "risk": SHIPPED_LIMITS.to_json(),
    "costs": CostModel().to_json(),
}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make_place(tmp_path)


def manifest_of(place: Place, **records: Any) -> BundleManifest:
    """Return the manifest of an ensemble that was trained under what the configuration has as defaults."""
    whole = BundleManifest.from_bytes((place.model / "manifest.json").read_bytes())
    return dataclasses.replace(whole, **(SAME | records))


def config_of(place: Place, **changes: Any) -> Config:
    usual: dict[str, dict[str, Any]] = {
        "strategy": dict(SAME["strategy"]),
        "risk": dict(SAME["risk"]),
        "execution": dict(SAME["costs"]),
    }
    for section, values in changes.items():
        usual[section] |= values
    return load_config(place.configure(**usual), {})


def test_the_same_conditions_have_no_difference(place: Place) -> None:
    assert conditions_changed(config_of(place), manifest_of(place)) == ()


def test_every_value_that_differs_is_told_with_both_what_matters_most_first(place: Place) -> None:
    config = config_of(
        place,
        strategy={"dead_band": 0.1, "decide_every": 4},
        risk={"max_position": 0.3, "daily_loss": 0.1},
        execution={"fee_rate": 0.002},
    )
    assert conditions_changed(config, manifest_of(place)) == (
        "strategy.decide_every = 4, trained under 24",
        "risk.max_position = 0.3, trained under 0.5",
        "strategy.dead_band = 0.1, trained under 0.05",
        "risk.daily_loss = 0.1, trained under 0.04",
        "execution.fee_rate = 0.002, trained under 0.001",
    )


def test_what_the_ensemble_does_not_tell_is_told(place: Place) -> None:
    known = {name: value for name, value in SAME["strategy"].items() if name != "decide_every"}
    assert conditions_changed(config_of(place), manifest_of(place, strategy=known)) == (
        "strategy.decide_every = 24, of which the ensemble tells nothing",
    )


def test_the_shipped_configuration_and_the_shipped_ensemble_belong_together() -> None:
    config = load_config(ROOT / "config.toml", {})
    assert conditions_changed(config, load_model(config).manifest) == ()
