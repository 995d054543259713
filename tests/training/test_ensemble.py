import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strategy.candle_table import CandleTable
from strategy.manifest import DataRecord
from strategy.observation import N_OBSERVATION
from strategy.parameters import CostModel, RiskLimits, StrategyParameters
from tests.fakes.trading import BTC, ETH, HOUR_MS
from tests.training.markets import history, with_gap
from training.bundles import read_serving_bundle
from training.curriculum import Curriculum
from training.ensemble import EnsemblePlan, Run, Trained, judged, make_run, member_plans, space_needed, train_ensemble
from training.episode import Episode
from training.errors import Diverged, Interrupted, TrainingError
from training.export import ExportedActor
from training.gates import Conduct, Gates
from training.held_out import HeldOut
from training.market import Conditions
from training.member import MemberProgress
from training.member_task import Candidate, train_candidate
from training.plan import MemberPlan, Settings, Validation
from training.run_directory import RunDirectory
from training.transfer import take_over
from training.workers import Link, Outcome, Task, perform

TABLE = history(700, seed=3)
DATA = (DataRecord(name="btcusdt-1h.csv", sha256="ab" * 32),)
SMALL = MemberPlan(
    seed=0,
    steps=300,
    settings=Settings(learning_starts=100, batch_size=32, net_arch=(8,)),
    episode=Episode(length=60),
    validation=Validation(every=150),
)
PLAN = EnsemblePlan(member=SMALL, members=2, gates=None)
COMMAND = "sacd train --data btcusdt-1h.csv"


class Here:
    """A pool that runs tasks one after another, where we are."""

    def __init__(self, run: Callable[[Any, Any, Link], Any] | None = None) -> None:
        self.ran: list[str] = []
        self.is_stopping = False
        self._instead = run

    def run(self, tasks: Sequence[Task], shared: Any, tell: Callable[[int, Any], None]) -> Iterator[Outcome]:
        for index, task in enumerate(tasks):
            self.ran.append(task.name)
            work = task if self._instead is None else replace(task, run=self._instead)
            link = _Here(task.folder, lambda told, index=index: tell(index, told), self)
            ended = perform(work, shared, link)
            yield Outcome(index=index, end=ended.end, value=ended.value, reason=ended.reason)

    def stop(self) -> None:
        self.is_stopping = True


class _Here:
    def __init__(self, folder: Path, tell: Callable[[Any], None], pool: Here) -> None:
        self.folder, self.tell, self._pool = folder, tell, pool

    def should_stop(self) -> bool:
        return self._pool.is_stopping


def run_of(plan: EnsemblePlan = PLAN, *tables: CandleTable) -> Run:
    return make_run(plan, tables or (TABLE,), DATA, COMMAND)


def trained(out: Path, run: Run | None = None, pool: Here | None = None, **how: Any) -> Trained:
    with RunDirectory.create(out, {}) as directory:
        return train_ensemble(run or run_of(), directory, pool or Here(), tell=lambda *_: None, **how)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "bundle"
    trained(out)
    return out


# ---- what members differ by -------------------------------------------------------------------------------------
def test_a_members_draws_do_not_depend_on_how_many_there_are() -> None:
    assert member_plans(replace(PLAN, members=7))[:3] == member_plans(replace(PLAN, members=3))


def test_draws_are_words_of_numpys_seed_sequence() -> None:
    """Second source: the draws written out. NumPy promises that these words never change."""
    [_, second] = member_plans(replace(PLAN, seed=5))
    seed, rate, gamma = np.random.SeedSequence(5, spawn_key=(1,)).generate_state(3)
    assert second.seed == seed
    assert second.settings.learning_rate == pytest.approx(3e-4 * (0.5 + int(rate) / 2**32), rel=1e-14)
    assert second.settings.gamma == pytest.approx(0.99 + 0.009 * int(gamma) / 2**32, rel=1e-14)
    unchanged = replace(second.settings, learning_rate=SMALL.settings.learning_rate, gamma=SMALL.settings.gamma)
    assert replace(second, seed=0, settings=unchanged) == SMALL


def test_draws_cover_their_ranges_and_seeds_never_repeat() -> None:
    drawn = [plan for seed in range(20) for plan in member_plans(replace(PLAN, seed=seed, members=100))]
    factors = np.array([plan.settings.learning_rate / 3e-4 for plan in drawn])
    gammas = np.array([plan.settings.gamma for plan in drawn])
    for values, low, high in ((factors, 0.5, 1.5), (gammas, 0.99, 0.999)):
        assert low <= values.min() < low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) < values.max() <= high
        # The mean of 2,000 uniform draws lies within four standard errors of the middle.
        assert abs(values.mean() - (low + high) / 2) < 4 * (high - low) / np.sqrt(12 * 2_000)
    assert abs(np.corrcoef(factors, gammas)[0, 1]) < 4 / np.sqrt(2_000)
    assert len({plan.seed for plan in drawn}) == 2_000


def test_a_falling_rate_keeps_its_shape() -> None:
    falling = replace(SMALL, settings=replace(SMALL.settings, learning_rate=3e-4, final_learning_rate=1e-5))
    for plan in member_plans(replace(PLAN, member=falling)):
        assert plan.settings.final_learning_rate == pytest.approx(plan.settings.learning_rate / 30, rel=1e-14)


def test_without_spread_only_seeds_differ() -> None:
    one, two = member_plans(replace(PLAN, spread=False))
    assert one.settings == two.settings == SMALL.settings
    assert one.seed != two.seed


# ---- what a run gives -------------------------------------------------------------------------------------------
def test_the_same_plan_gives_the_same_bundle(bundle: Path, tmp_path: Path) -> None:
    again = trained(tmp_path / "again")
    assert again.manifest == read_serving_bundle(bundle).manifest
    for file in bundle.glob("*.*"):
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes()


def test_the_bundle_can_serve_and_its_members_differ(bundle: Path) -> None:
    served = read_serving_bundle(bundle)
    observations = np.random.default_rng(0).uniform(-2, 2, (50, served.manifest.observation_size)).astype(np.float32)
    votes = served.ensemble.act(observations)
    assert votes.shape == (50, 2, 3)
    assert not np.array_equal(votes[:, 0], votes[:, 1])
    assert [member.seed for member in served.manifest.members] == [plan.seed for plan in member_plans(PLAN)]


def test_the_manifest_says_how_it_was_made(tmp_path: Path) -> None:
    conditions = Conditions(strategy=StrategyParameters(dead_band=0.03), costs=CostModel(fee_rate=0.002))
    plan = replace(PLAN, member=replace(SMALL, conditions=conditions), members=1)
    manifest = trained(tmp_path / "b", run_of(plan, TABLE, history(700, seed=4, symbol=ETH, start=24))).manifest
    training = manifest.training
    assert (training.command, training.data) == (COMMAND, DATA)
    # Candles that only scored are seen too.
    assert (training.start_ms, training.end_ms) == (0, (len(TABLE) + 24) * HOUR_MS)
    assert (training.steps, training.symbols, training.timeframe) == (300, (BTC, ETH), "1h")
    assert manifest.costs == CostModel(fee_rate=0.002).to_json()
    assert manifest.risk == RiskLimits().to_json()
    assert manifest.strategy == StrategyParameters(dead_band=0.03).to_json()
    assert [(m.net_arch, m.weight, m.use_sde) for m in manifest.members] == [((8,), 1.0, False)]


def test_the_reference_is_of_the_candles_practised_on_alone(tmp_path: Path) -> None:
    """Moving the held-out candles out of the file changes nothing in it."""
    whole = trained(tmp_path / "a", run_of(replace(PLAN, members=1)))
    fold = run_of().fold
    assert fold is not None
    practice = TABLE.slice(None, fold.practice_to_ms)
    alone = replace(PLAN, members=1, held=HeldOut(share=0.0), member=replace(SMALL, validation=None))
    assert trained(tmp_path / "b", run_of(alone, practice)).manifest.reference == whole.manifest.reference


def test_the_report_holds_members_draws_conduct_plan_and_versions(bundle: Path) -> None:
    report = json.loads((bundle / "training" / "report.json").read_text())
    assert report["id"] == read_serving_bundle(bundle).manifest.id
    assert report["data"] == [{"name": "btcusdt-1h.csv", "sha256": "ab" * 32}]
    assert set(report["versions"]) == {"python", "numpy", "torch", "stable_baselines3", "sacd"}
    assert [member["plan"]["seed"] for member in report["members"]] == [plan.seed for plan in member_plans(PLAN)]
    for member in report["members"]:
        assert (member["verdict"], member["reason"], member["weight"]) == ("joined", "", 0.5)
        assert member["steps"] == 300
        assert member["conduct"]["buy"] + member["conduct"]["sell"] + member["conduct"]["hold"] == pytest.approx(1.0)
        assert member["seconds"] > 0.0


def test_replay_buffers_go_at_the_end_unless_they_are_to_stay(tmp_path: Path) -> None:
    sizes = {}
    for keep in (False, True):
        out = tmp_path / str(keep)
        trained(out, run_of(replace(PLAN, members=1)), keep_replay=keep)
        sizes[keep] = sum(file.stat().st_size for file in (out / "training" / "member-0" / "checkpoint").iterdir())
    assert sizes[True] - sizes[False] > 300 * 55 * 4 * 2  # 300 steps, two observations of more than 55 float32


def test_progress_is_told_per_member(tmp_path: Path) -> None:
    told: list[tuple[int, MemberProgress]] = []
    with RunDirectory.create(tmp_path / "b", {}) as directory:
        train_ensemble(run_of(), directory, Here(), tell=lambda *word: told.append(word))
    assert {index for index, _ in told} == {0, 1}
    assert [progress.steps for index, progress in told if index == 1][-1] == 300
    assert all(progress.total == 300 for _, progress in told)


# ---- who joins --------------------------------------------------------------------------------------------------
ACTOR = object.__new__(ExportedActor)
GOOD = Candidate(
    actor=ACTOR,
    conduct=Conduct(score=1.0, trades=5, buy=0.5, sell=0.3, hold=0.2),
    fault="",
    steps=300,
    best_steps=300,
    is_early=False,
    seconds=1.0,
)
DIVERGED = replace(GOOD, actor=None, conduct=None, fault="the weights are not finite", steps=0)
IDLE = replace(GOOD, conduct=Conduct(score=0.0, trades=0, buy=0.0, sell=0.0, hold=1.0))


def test_members_that_fail_are_named_and_the_rest_share_the_weight() -> None:
    plan = replace(PLAN, members=4, gates=Gates())
    members = judged(member_plans(plan), [GOOD, DIVERGED, IDLE, GOOD], plan)
    assert [member.fault for member in members] == [
        "",
        "the weights are not finite",
        "it answers hold to everything",
        "",
    ]
    assert [member.weight for member in members] == [0.5, 0.0, 0.0, 0.5]


def test_weights_follow_the_scores_of_those_that_join() -> None:
    plan = replace(PLAN, members=3, gates=Gates(), weighting="score")
    scored = [replace(GOOD, conduct=Conduct(score=s, trades=5, buy=0.5, sell=0.3, hold=0.2)) for s in (0.0, np.log(3))]
    members = judged(member_plans(plan), [scored[0], IDLE, scored[1]], plan)
    assert [member.weight for member in members] == pytest.approx([0.25, 0.0, 0.75])


def test_without_gates_every_member_that_exports_joins() -> None:
    plan = replace(PLAN, members=2, gates=None)
    assert [member.weight for member in judged(member_plans(plan), [IDLE, DIVERGED], plan)] == [1.0, 0.0]


def test_a_member_that_diverges_is_left_out_of_a_bundle_of_the_others(tmp_path: Path) -> None:
    bad = member_plans(PLAN)[0].seed

    def sometimes(shared: Any, job: Any, link: Link) -> Candidate:
        return DIVERGED if job.plan.seed == bad else train_candidate(shared, job, link)

    done = trained(tmp_path / "b", pool=Here(sometimes))
    assert [member.fault for member in done.members] == ["the weights are not finite", ""]
    [only] = read_serving_bundle(tmp_path / "b").manifest.members
    assert (only.seed, only.weight) == (member_plans(PLAN)[1].seed, 1.0)


def test_when_none_is_left_all_reasons_are_told_and_nothing_looks_like_a_bundle(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no bundle: member 0: the weights are not finite; member 1: the weights"):
        trained(tmp_path / "b", pool=Here(lambda *_: DIVERGED))
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["training"]
    report = json.loads((tmp_path / "b" / "training" / "report.json").read_text())
    assert report["id"] is None
    assert [member["reason"] for member in report["members"]] == ["the weights are not finite"] * 2


def test_scores_that_are_no_numbers_are_refused_and_do_not_break_the_report(tmp_path: Path) -> None:
    odd = replace(GOOD, actor=None, conduct=Conduct(score=float("nan"), trades=5, buy=0.5, sell=0.3, hold=0.2))
    with pytest.raises(TrainingError, match="its score nan is not a number"):
        trained(tmp_path / "b", run_of(replace(PLAN, gates=Gates())), Here(lambda *_: odd))
    report = json.loads((tmp_path / "b" / "training" / "report.json").read_text())
    assert report["members"][0]["conduct"]["score"] is None


# ---- what is not brought to an end ------------------------------------------------------------------------------
def test_a_member_that_could_not_finish_is_named_the_others_are_kept_and_the_run_goes_on(
    tmp_path: Path, bundle: Path
) -> None:
    second = member_plans(PLAN)[1].seed

    def breaks(shared: Any, job: Any, link: Link) -> Candidate:
        if job.plan.seed == second:
            raise TrainingError("the disk is full")
        return train_candidate(shared, job, link)

    with pytest.raises(TrainingError, match=r"member 1: the disk is full; .*go on with `sacd train --resume .*/b`"):
        trained(tmp_path / "b", pool=Here(breaks))
    assert not list((tmp_path / "b").glob("*.json"))
    directory, _ = RunDirectory.open(tmp_path / "b")
    again = Here()
    with directory:
        done = train_ensemble(run_of(), directory, again, tell=lambda *_: None)
    assert again.ran == ["member 1"]
    assert done.manifest == read_serving_bundle(bundle).manifest


def test_a_stopped_run_says_how_to_go_on_and_ends_as_if_it_had_not_been(tmp_path: Path, bundle: Path) -> None:
    pool = Here()
    with (
        RunDirectory.create(tmp_path / "b", {}) as directory,
        pytest.raises(Interrupted, match=r"interrupted; what is done is kept; go on with `sacd train --resume .*/b`"),
    ):
        train_ensemble(run_of(), directory, pool, tell=lambda *_: pool.stop())
    directory, _ = RunDirectory.open(tmp_path / "b")
    with directory:
        done = train_ensemble(run_of(), directory, Here(), tell=lambda *_: None)
    assert done.manifest == read_serving_bundle(bundle).manifest


def test_a_finished_run_that_is_resumed_says_the_same_again(tmp_path: Path) -> None:
    first, again = trained(tmp_path / "b"), Here()
    directory, _ = RunDirectory.open(tmp_path / "b")
    with directory:
        second = train_ensemble(run_of(), directory, again, tell=lambda *_: None)
    assert (again.ran, second.manifest) == ([], first.manifest)


def test_members_begin_with_what_they_take_over_and_the_report_says_what(tmp_path: Path, bundle: Path) -> None:
    """Without a step that learns, the policies are those of the bundle."""
    sources = tuple(take_over(bundle, index) for index in (0, 1))
    frozen = replace(SMALL, settings=replace(SMALL.settings, learning_rate=1e-8, weight_decay=0.0))
    run = make_run(replace(PLAN, member=frozen), [TABLE], DATA, COMMAND, sources=sources)
    trained(tmp_path / "b", run)
    before, after = (read_serving_bundle(place).ensemble for place in (bundle, tmp_path / "b"))
    observations = np.random.default_rng(0).uniform(-2, 2, (50, N_OBSERVATION)).astype(np.float32)
    np.testing.assert_allclose(after.act(observations), before.act(observations), atol=1e-4)
    report = json.loads((tmp_path / "b" / "training" / "report.json").read_text())
    assert [taken["member"] for taken in report["taken_over"]] == [0, 1]


def test_a_curriculum_reaches_the_members_and_the_report(tmp_path: Path) -> None:
    quick = Curriculum(days=2, move_days=1, tries=1, thresholds=(-100.0, -100.0, -100.0))
    member = replace(SMALL, steps=900, validation=None)
    plan = replace(PLAN, members=1, curriculum=quick, held=HeldOut(share=0.0), member=member)
    trained(tmp_path / "b", run_of(plan))
    report = json.loads((tmp_path / "b" / "training" / "report.json").read_text())
    assert len(report["members"][0]["stages"]) == 3


def test_divergence_and_export_errors_are_faults_of_the_member(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverges(*_: Any, **__: Any) -> None:
        raise Diverged("the losses are not finite")

    monkeypatch.setattr("training.member_task.train_member", diverges)
    with pytest.raises(
        TrainingError, match=r"no member passed its gate.*member 0: the losses are not finite.*--gates off"
    ):
        trained(tmp_path / "b")


# ---- what is refused before the work ----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("tables", "changes", "message"),
    [
        ((TABLE,), {"member": replace(SMALL, steps=100)}, "--steps 100 end before learning begins: give more than 100"),
        ((history(1),), {"held": HeldOut(share=0.0)}, "BTC/USDT: 2401 candles are too few .*: give more candles"),
        (
            (with_gap(history(2), 5, 49),),
            {"held": HeldOut(share=0.0)},
            "2402 candles are too few .*: give more candles",
        ),
        ((TABLE, TABLE), {}, "two files hold the same symbol: BTC/USDT, BTC/USDT; give one file per symbol"),
        ((history(100),), {}, "candles are too few .*, or set less apart with --validation"),
    ],
    ids=["steps", "short", "gap", "symbol", "validation"],
)
def test_what_cannot_be_trained_is_refused(
    tables: tuple[CandleTable, ...], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(TrainingError, match=message):
        run_of(replace(PLAN, **changes), *tables)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"members": 0}, "--members 0: give a whole number within 1 .. 100"),
        ({"members": 101}, "--members 101: give a whole number within 1 .. 100"),
        ({"seed": -1}, "--seed -1: give a whole number within 0 .."),
        ({"member": replace(SMALL, algorithm="ppo")}, "--algorithm ppo: a bundle holds actors as SAC trains them"),
        ({"member": replace(SMALL, algorithm="dqn")}, "only those export; give sac, or measure the others with"),
        ({"weighting": "score", "held": HeldOut(share=0.0)}, "--weighting score needs scores"),
        ({"weighting": "fame"}, "--weighting fame: give one of equal, score"),
    ],
)
def test_plans_that_cannot_be_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        replace(PLAN, **changes)


def test_the_space_needed_is_that_of_the_buffers() -> None:
    """By hand: 1,000,000 rows of two observations, an action of 3, reward, done and timeout in float32."""
    large = replace(SMALL, steps=10**7, settings=replace(SMALL.settings, buffer_size=10**6))
    needed = space_needed(replace(PLAN, member=large, members=4))
    rows = 4 * 10**6 * 4 * (2 * N_OBSERVATION + 3 + 3)
    assert rows <= needed < 1.1 * rows
    assert space_needed(replace(PLAN, member=replace(large, steps=1_000), members=4)) < needed / 10
