"""`sacd models import` from outside: where the ensemble lands, and that the daemon's side only hands over."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from daemon.cli import app
from tests.daemon.programs import sacd
from tests.fakes.serving import make_place
from tests.training.archives import learner, saved
from tests.training.markets import history, write_table


def handed_over(monkeypatch: pytest.MonkeyPatch, *words: str) -> list[str]:
    """Return the command that `sacd WORDS` becomes."""
    became: list[list[str]] = []

    def execv(_: str, arguments: list[str]) -> Any:
        became.append(arguments)
        raise SystemExit(0)

    monkeypatch.setattr(os, "execv", execv)
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == 0, done.output
    return became[0][1:]


def test_without_a_place_of_its_own_it_goes_beside_the_configured_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = make_place(tmp_path)
    config = ["--config", str(place.config)]
    became = handed_over(monkeypatch, "models", "import", "m.zip", "--data", "a.csv", "--json", *config)
    registry = str(place.model.parent)
    assert became == ["-m", "training", "models-import", "--models", registry, "m.zip", "--data", "a.csv", "--json"]


@pytest.mark.parametrize("words", [["--help"], ["m.zip", "--out", "x"], ["m.zip", "--out=x"]], ids=" ".join)
def test_with_a_place_of_its_own_it_needs_no_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert handed_over(monkeypatch, "models", "import", *words) == ["-m", "training", "models-import", *words]


def test_an_imported_ensemble_is_listed_and_can_be_shown(tmp_path: Path) -> None:
    place = make_place(tmp_path)
    archive, data = saved(learner(), tmp_path / "model.zip"), write_table(history(300, seed=3), tmp_path)
    asked = sacd("models", "import", archive, "--data", data, cwd=tmp_path)
    assert asked.returncode == 2
    assert asked.stderr.startswith("sacd models import: model.zip (SAC archive")
    done = sacd("models", "import", archive, "--data", data, "--i-trust-this-file", "--json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    name = json.loads(done.stdout)["id"][:16]
    rows = {row["id"]: row for row in json.loads(sacd("models", "list", "--json", cwd=tmp_path).stdout)["models"]}
    assert (rows[name]["members"], rows[name]["fault"], rows[name]["current"]) == (1, None, False)
    assert rows[place.model.name]["fault"] is None
    again = sacd("models", "import", archive, "--data", data, "--i-trust-this-file", cwd=tmp_path)
    assert again.returncode == 1
    assert f"{name}: it exists already" in again.stderr
