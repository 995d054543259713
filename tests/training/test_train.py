import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from stable_baselines3 import SAC

from strategy.candle_table import CandleTable
from strategy.features import FEATURE_NAMES, compute
from strategy.manifest import BundleManifest, DataRecord
from strategy.observation import N_OBSERVATION, OBSERVATION_HASH
from strategy.parameters import CostModel, RiskLimits, StrategyParameters
from tests.fakes.trading import BTC, ETH, HOUR_MS
from tests.training.markets import history, with_gap, write_table
from training import train as train_module
from training.__main__ import main
from training.bundles import read_serving_bundle, reference_of
from training.env import Episode
from training.errors import ExportError, TrainingError
from training.market import Conditions
from training.reward import RewardWeights
from training.train import Plan, SacSettings, member_seeds, refuse_taken, train

TABLE = history(400, seed=3)
DATA = (DataRecord(name="btcusdt-1h.csv", sha256="ab" * 32),)
SMALL = SacSettings(learning_starts=100, batch_size=32, net_arch=(8,))


def plan(**changes: Any) -> Plan:
    made = Plan(
        members=2,
        steps=200,
        seed=1,
        command="sacd train --data btcusdt-1h.csv",
        sac=SMALL,
        conditions=Conditions(),
        weights=RewardWeights(),
        episode=Episode(length=60),
    )
    return replace(made, **changes)


def trained(out: Path, *tables: CandleTable, **changes: Any) -> BundleManifest:
    return train(tables or (TABLE,), DATA, plan(**changes), out)


def arrays_of(bundle: Path) -> list[dict[str, np.ndarray]]:
    return [safetensors.numpy.load(path.read_bytes()) for path in sorted(bundle.glob("*.safetensors"))]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "bundle"
    trained(out)
    return out


# ---- what a seed decides ----------------------------------------------------------------------------------------
def test_the_same_seed_gives_the_same_files(bundle: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    trained(again)
    assert {path.name: path.read_bytes() for path in again.iterdir()} == {
        path.name: path.read_bytes() for path in bundle.iterdir()
    }


def test_other_seeds_give_other_bundles(bundle: Path, tmp_path: Path) -> None:
    ids = {trained(tmp_path / str(seed), members=1, seed=seed).id for seed in (1, 2, 3)}
    assert len(ids) == 3


def test_members_differ(bundle: Path) -> None:
    first, second = arrays_of(bundle)
    assert first.keys() == second.keys()
    assert all(not np.array_equal(first[name], second[name]) for name in first)


def test_each_member_has_a_seed_of_its_own_drawn_from_the_runs() -> None:
    # numpy.random.SeedSequence(1).generate_state(3), as NumPy's documentation guarantees never to change
    assert member_seeds(1, 3) == [int(s) for s in np.random.SeedSequence(1).generate_state(3)]
    assert member_seeds(1, 2) == member_seeds(1, 3)[:2]
    assert len(set(member_seeds(1, 100) + member_seeds(2, 100))) == 200


def test_training_moves_every_array_of_the_policy(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SAC, "learn", lambda self, *_, **__: self)
    trained(tmp_path / "untrained")
    for before, after in zip(arrays_of(tmp_path / "untrained"), arrays_of(bundle), strict=True):
        for name in before:
            assert np.abs(after[name] - before[name]).max() > 1e-4, name


def test_training_uses_one_thread_and_deterministic_algorithms(bundle: Path) -> None:
    assert torch.get_num_threads() == 1
    assert torch.are_deterministic_algorithms_enabled()


# ---- what the bundle says ---------------------------------------------------------------------------------------
def test_the_bundle_can_serve_and_answers_within_the_bounds(bundle: Path) -> None:
    served = read_serving_bundle(bundle)
    votes = served.ensemble.act(np.random.default_rng(0).uniform(-2, 2, (50, N_OBSERVATION)).astype(np.float32))
    assert votes.shape == (50, 2, 3)
    assert (votes >= [-1, 0, 0]).all()
    assert (votes <= 1).all()


def test_the_manifest_says_how_it_was_made(tmp_path: Path) -> None:
    conditions = Conditions(strategy=StrategyParameters(dead_band=0.03), costs=CostModel(fee_rate=0.002))
    tables = (TABLE, history(400, seed=4, symbol=ETH, start=24))
    manifest = trained(tmp_path / "b", *tables, members=1, conditions=conditions)
    training = manifest.training
    assert training.command == "sacd train --data btcusdt-1h.csv"
    assert (training.start_ms, training.end_ms) == (0, (len(TABLE) + 24) * HOUR_MS)
    assert (training.steps, training.symbols, training.timeframe) == (200, (BTC, ETH), "1h")
    assert training.data == DATA
    assert manifest.costs == CostModel(fee_rate=0.002).to_json()
    assert manifest.risk == RiskLimits().to_json()
    assert manifest.strategy == StrategyParameters(dead_band=0.03).to_json()
    assert manifest.feature.hash == OBSERVATION_HASH
    assert [(m.net_arch, m.weight, m.use_sde) for m in manifest.members] == [((8,), 1.0, False)]
    assert set(manifest.versions) == {"python", "numpy", "torch", "stable_baselines3", "sacd"}


def test_the_reference_is_where_the_training_rows_lie(bundle: Path) -> None:
    """Second source: sums written out per feature, and the 99.9 % quantile of a sorted list."""
    rows = compute(TABLE.open_ms, TABLE.values, HOUR_MS, 48)
    seen = [list(map(float, row)) for row in rows.values[-400:]]
    stored = read_serving_bundle(bundle).manifest.reference
    assert len(stored.mean) == len(FEATURE_NAMES)
    mean = [sum(column) / 400 for column in zip(*seen, strict=True)]
    columns = list(zip(zip(*seen, strict=True), mean, strict=True))
    spread = [(sum((value - m) ** 2 for value in column) / 400) ** 0.5 for column, m in columns]
    assert stored.mean == pytest.approx(mean, abs=1e-9)
    assert stored.std == pytest.approx(spread, abs=1e-9)
    distances = sorted(
        (sum(((v - m) / (s or 1.0)) ** 2 for v, m, s in zip(row, mean, spread, strict=True)) / len(mean)) ** 0.5
        for row in seen
    )
    low = distances[398]  # the 99.9 % of 400 sorted values stand at 398.601
    assert stored.limit == pytest.approx(low + 0.601 * (distances[399] - low))


def test_the_traders_distance_puts_the_training_rows_inside(bundle: Path) -> None:
    rows = compute(TABLE.open_ms, TABLE.values, HOUR_MS, 48)
    measure = reference_of(read_serving_bundle(bundle))
    distances = [measure.distance(row) for row in rows.values[-400:]]
    assert sum(distance > 1.0 for distance in distances) <= 1
    assert max(distances) < 1.2


@pytest.mark.parametrize(
    ("sac", "layers"),
    [(replace(SMALL, use_sde=True), 2), (replace(SMALL, net_arch=()), 1), (replace(SMALL, net_arch=(8, 4)), 3)],
    ids=["sde", "no-hidden-layer", "two-layers"],
)
def test_every_kind_of_network_can_be_trained(tmp_path: Path, sac: SacSettings, layers: int) -> None:
    manifest = trained(tmp_path / "b", members=1, sac=sac)
    assert manifest.members[0].net_arch == sac.net_arch
    assert len(arrays_of(tmp_path / "b")[0]) == 2 * layers


def test_progress_is_told_per_member(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    train((TABLE,), DATA, plan(), tmp_path / "b", lambda member, steps: told.append((member, steps)))
    assert told == [(0, 200), (1, 200)]


# ---- what is refused, before the work ---------------------------------------------------------------------------
@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def worked(*_: Any, **__: Any) -> None:
        raise AssertionError("it began to work")

    monkeypatch.setattr(train_module, "train_member", worked)


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize(
    ("tables", "changes", "message"),
    [
        ((TABLE,), {"steps": 100}, "--steps 100 end before learning begins: give more than 100"),
        ((history(1),), {}, "BTC/USDT: 2401 candles are too few .*: give more candles"),
        ((with_gap(history(2), 5, 49),), {}, "BTC/USDT: 2402 candles are too few .*: give more candles"),
        ((TABLE, TABLE), {}, "two files hold the same symbol: BTC/USDT, BTC/USDT; give one file per symbol"),
    ],
    ids=["steps", "short", "gap", "symbol"],
)
def test_what_cannot_be_trained_is_refused_and_nothing_is_written(
    tmp_path: Path, tables: tuple[CandleTable, ...], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(TrainingError, match=message):
        trained(tmp_path / "b", *tables, **changes)
    assert list(tmp_path.iterdir()) == []


def taken(directory: Path, how: str) -> Path:
    out = directory / "out"
    match how:
        case "file":
            out.write_text("mine")
        case "full":
            out.mkdir()
            (out / "mine").write_text("mine")
        case "dangling link":
            out.symlink_to(directory / "nowhere")
        case "link to an empty directory":
            (directory / "empty").mkdir()
            out.symlink_to(directory / "empty")
    return out


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("how", ["file", "full", "dangling link", "link to an empty directory"])
def test_a_place_that_is_taken_is_refused_before_the_work(tmp_path: Path, how: str) -> None:
    out = taken(tmp_path, how)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(TrainingError, match=r"--out .*out is not empty: name a directory that does not exist yet"):
        trained(out)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.usefixtures("no_work")
def test_a_place_that_cannot_be_made_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(TrainingError, match=r"--out .*: Not a directory; name a place that can be written"):
        trained(tmp_path / "file" / "out")
    with pytest.raises(TrainingError, match=r"--out /proc/.*; name a place that can be written"):
        trained(Path("/proc/self/nowhere/out"))


def test_an_empty_directory_and_one_in_new_folders_are_fine(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refuse_taken(tmp_path / "empty")
    refuse_taken(tmp_path / "a" / "b" / "c")
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


# ---- what fails midway ------------------------------------------------------------------------------------------
def after_the_first_member(monkeypatch: pytest.MonkeyPatch, what: Callable[[], Any]) -> None:
    """Let the first member be trained, and `what` happen where the second would be."""
    honest, calls = train_module.train_member, []

    def member(*arguments: Any, **options: Any) -> SAC:
        calls.append(arguments)
        if len(calls) > 1:
            what()
        return honest(*arguments, **options)

    monkeypatch.setattr(train_module, "train_member", member)


def test_nothing_is_written_when_a_member_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ExportError("the twin differs")

    after_the_first_member(monkeypatch, fail)
    with pytest.raises(ExportError, match="the twin differs"):
        trained(tmp_path / "b")
    assert list(tmp_path.iterdir()) == []


def test_weights_that_diverge_are_one_plain_error(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"seed \d+: the weights are not finite; lower the learning rate"):
        trained(tmp_path / "b", sac=replace(SMALL, learning_rate=1e30), steps=400)
    assert list(tmp_path.iterdir()) == []


def test_other_mistakes_of_ours_are_not_mistaken_for_divergence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(SAC, "learn", fail)
    with pytest.raises(ValueError, match="a bug"):
        trained(tmp_path / "b")


# ---- the command ------------------------------------------------------------------------------------------------
def command(data: Path, out: Path, *more: str) -> list[str]:
    small = ["--members", "1", "--steps", "2050", "--net-arch", "4", "--batch-size", "16"]
    return ["train", "--data", str(data), "--out", str(out), *small, *more]


def test_the_command_in_the_manifest_gives_the_same_bundle_in_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_table(TABLE, tmp_path, "btcusdt-1h-my own.csv")
    span = ["--from", "1970-01-01T05:00", "--to", "1970-04-25"]
    assert main(command(data, tmp_path / "first", "--use-sde", "--seed", "7", *span, "--json")) == 0
    told = json.loads(capsys.readouterr().out)
    manifest = read_serving_bundle(tmp_path / "first").manifest
    assert told == {"out": str(tmp_path / "first"), "id": manifest.id, "members": 1}
    assert manifest.training.start_ms == 5 * HOUR_MS
    name, *repeated = shlex.split(manifest.training.command)
    assert name == "sacd"
    done = subprocess.run(
        [sys.executable, "-m", "training", *repeated, "--out", str(tmp_path / "second"), "--json"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(train_module.__file__).parents[1])},
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["id"] == manifest.id


def test_ctrl_c_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_table(TABLE, tmp_path)
    after_the_first_member(monkeypatch, lambda: signal.raise_signal(signal.SIGINT))
    assert main(command(data, tmp_path / "out", "--members", "2")) == 130
    assert [path.name for path in tmp_path.iterdir()] == [data.name]
    assert capsys.readouterr().err.splitlines()[-1] == "sacd train: interrupted; nothing was written"
