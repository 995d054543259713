import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from strategy.candle_table import CandleTable
from tests.fakes.trading import ETH
from tests.training.markets import write_table
from tests.training.retrainings import ID, SEEN_TO_MS, TINY, make_place, market
from tests.training.test_ensemble import Here
from training.__main__ import main
from training.bundles import read_serving_bundle
from training.errors import Interrupted, TrainingError
from training.refit_recipe import recipe_of
from training.retrain_data import Gathered, gather
from training.retrain_request import Request, read_request
from training.retrain_split import Split, split_of
from training.retrain_train import plan_of, prepare, train
from training.trials import Kind, Ledger
from training.workers import Pool

TABLE = market(35)
SCORED = TINY.replace("--validation 0.0", "--validation 0.2").replace("--gates off", "--least-trades 0")


class Case:
    """A request whose candles are gathered, and what its incumbent was made by."""

    def __init__(self, root: Path, tables: list[CandleTable], *, command: str = TINY, **changes: Any) -> None:
        self.place = make_place(root, tables, write_table, command=command)
        self.place.ask(**changes)
        self.folder = self.place.folder()
        self.folder.mkdir(parents=True)
        self.request: Request = read_request(self.place.exchange / "request.json")
        self.manifest = read_serving_bundle(self.place.registry / self.place.incumbent).manifest
        self.gathered: Gathered = gather(self.request, self.folder)
        self.split: Split = split_of(self.gathered.tables, SEEN_TO_MS, 30.0, 0)
        self.ledger = Ledger(root / "trials.jsonl")
        self.told: list[tuple[int, int, str]] = []

    def train(self, pool: Pool | None = None) -> Path:
        prepared = prepare(self.manifest, plan_of(self.manifest, self.request), self.gathered, self.split)
        told = lambda *words: self.told.append(words)  # noqa: E731
        return train(prepared, self.folder, Here() if pool is None else pool, self.ledger, told)[1]


@pytest.mark.parametrize("command", [TINY, SCORED], ids=["not scored", "scored"])
def test_the_manifest_says_how_to_make_the_candidate_again_to_the_byte(
    tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case(tmp_path / "place", [TABLE], command=command)
    manifest = read_serving_bundle(case.train()).manifest
    # An incumbent one day: the next retraining reads its recipe, which is the first one's but for the seed.
    plan = recipe_of(case.manifest).plan
    assert recipe_of(manifest).plan == replace(plan, seed=int(ID, 16) // 2)
    # And a person can repeat it with nothing but the candles.
    monkeypatch.chdir(case.folder / "candles")
    assert main([*shlex.split(manifest.training.command)[1:], "--out", str(tmp_path / "again"), "--workers", "1"]) == 0
    assert read_serving_bundle(tmp_path / "again").manifest == manifest


def test_the_candidate_says_it_has_seen_its_own_candles_and_not_those_that_judge_it(tmp_path: Path) -> None:
    case = Case(tmp_path / "place", [TABLE], command=SCORED)
    record = read_serving_bundle(case.train()).manifest.training
    assert (record.start_ms, record.end_ms) == (int(TABLE.open_ms[0]), case.split.practice_to_ms)
    assert record.end_ms < case.split.from_ms
    (file,) = case.gathered.files
    assert [(data.name, data.sha256) for data in record.data] == [("btcusdt-1h.csv", file.sha256)]


def test_every_request_is_another_draw(tmp_path: Path) -> None:
    ids = set()
    for request in (ID, "00c0ffee00c0ffef", "0000000000000000", "0000000000000002"):
        case = Case(tmp_path / request, [TABLE], request=request)
        ids.add(plan_of(case.manifest, case.request).seed)
    assert len(ids) == 3  # the first two differ in the one bit that a seed cannot hold


def test_steps_of_the_request_take_the_place_of_the_recipe_s(tmp_path: Path) -> None:
    case = Case(tmp_path / "place", [TABLE], steps=200)
    manifest = read_serving_bundle(case.train()).manifest
    assert manifest.training.steps == recipe_of(manifest).plan.member.steps == 200
    assert recipe_of(case.manifest).plan.member.steps == 400


def test_a_symbol_with_too_few_candles_is_left_out_and_told(tmp_path: Path) -> None:
    late = market(35, symbol=ETH).slice(SEEN_TO_MS)
    case = Case(tmp_path / "place", [TABLE, late])
    prepared = prepare(case.manifest, plan_of(case.manifest, case.request), case.gathered, case.split)
    assert [table.symbol for table in prepared.run.tables] == ["BTC/USDT"]
    (note,) = prepared.notes
    assert note.startswith("not practised on: ETH/USDT: ")
    assert "are too few for a window of 2401" in note


def test_a_symbol_without_any_candle_before_is_left_out_too(tmp_path: Path) -> None:
    case = Case(tmp_path / "place", [TABLE, market(35, symbol=ETH)])
    never = replace(case.gathered.files[1], table=case.gathered.tables[1].slice(case.split.from_ms))
    gathered = replace(case.gathered, files=(case.gathered.files[0], never))
    prepared = prepare(case.manifest, plan_of(case.manifest, case.request), gathered, case.split)
    assert prepared.notes == ("not practised on: ETH/USDT has no candle there",)


def test_without_enough_candles_of_any_symbol_there_is_nothing_to_train(tmp_path: Path) -> None:
    case = Case(tmp_path / "place", [TABLE.slice(SEEN_TO_MS - 100 * 3_600_000)])
    with pytest.raises(TrainingError, match=r"too few candles to practise on: BTC/USDT: .* candles are too few"):
        prepare(case.manifest, plan_of(case.manifest, case.request), case.gathered, case.split)


def test_an_incumbent_of_another_timeframe_is_no_recipe(tmp_path: Path) -> None:
    case = Case(tmp_path / "place", [TABLE])
    other = replace(case.manifest, training=replace(case.manifest.training, timeframe="4h"))
    with pytest.raises(TrainingError, match="was trained on candles of 4h, the account trades 1h: train an ensemble"):
        plan_of(other, case.request)


def test_how_far_it_is_is_told_in_words(tmp_path: Path) -> None:
    case = Case(tmp_path / "place", [TABLE], command=TINY.replace("--members 1", "--members 2"))
    case.train()
    assert case.told[-1] == (800, 800, "member 2 of 2, 400 of 400 steps")
    assert [done for done, _, _ in case.told] == sorted(done for done, _, _ in case.told)
    assert {total for _, total, _ in case.told} == {800}


def test_members_are_written_down_as_those_of_every_training(tmp_path: Path) -> None:
    case = Case(tmp_path / "place", [TABLE], command=SCORED)
    case.train()
    (trial,) = case.ledger.tally().counted
    assert (trial.kind, trial.is_over, trial.symbols) == (Kind.MEMBER, True, ("BTC/USDT",))


class Stopped(Here):
    """A pool that is told to stop when so many steps are done."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self._after = after

    def run(self, tasks: Any, shared: Any, tell: Any) -> Any:
        def telling(index: int, told: Any) -> None:
            tell(index, told)
            if told.steps >= self._after:
                self.stop()

        return super().run(tasks, shared, telling)


def test_one_that_was_interrupted_goes_on_and_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole = read_serving_bundle(Case(tmp_path / "whole", [TABLE], steps=1500).train()).manifest
    case = Case(tmp_path / "place", [TABLE], steps=1500)
    with pytest.raises(Interrupted):
        case.train(Stopped(after=500))
    checkpoint = case.folder / "run" / "training" / "member-0" / "checkpoint.json"
    assert checkpoint.exists()
    case.told.clear()
    assert read_serving_bundle(case.train()).manifest.id == whole.id
    assert case.told[0][0] >= 500


@pytest.mark.parametrize("what", ["another training", "a broken record", "nothing but a folder"])
def test_what_cannot_be_gone_on_with_is_begun_anew(tmp_path: Path, what: str) -> None:
    case = Case(tmp_path / "place", [TABLE])
    first = case.train()
    match what:
        case "another training":
            case.request = replace(case.request, steps=300)
        case "a broken record":
            (first / "training" / "run.json").write_text("{")
        case "nothing but a folder":
            (first / "training" / "run.json").unlink()
    wanted = 300 if what == "another training" else 400
    assert read_serving_bundle(case.train()).manifest.training.steps == wanted
