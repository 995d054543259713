"""Refits of a small recipe, from candles to paths. Members practise some hundred steps; windows keep their length."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strategy.candle_table import CandleTable
from strategy.features import WINDOW
from strategy.parameters import RiskLimits, StrategyParameters
from strategy.trader import Reference
from tests.fakes.trading import BTC, ETH, HOUR_MS
from tests.training.markets import changed, history
from tests.training.test_ensemble import Here
from training.ensemble import EnsemblePlan, Member
from training.episode import Episode
from training.errors import Interrupted, TrainingError
from training.evaluate_refit import Asked, combinatorial, walk_forward
from training.evaluation import Refit
from training.gates import Gates
from training.held_out import HeldOut
from training.market import Conditions, setup_of
from training.metrics import returns_of
from training.plan import MemberPlan, Settings, Validation
from training.refit_exam import exam_of, take_exam
from training.refit_practice import practice_of
from training.refit_recipe import Recipe
from training.refit_splits import Span, Split, Terms, combinatorial_splits, walk_forward_splits
from training.refit_train import Place, train_refits
from training.track import Track
from training.trials import Kind, Ledger
from training.workers import Link, LocalPool, Outcome, Task

DAY_MS = 24 * HOUR_MS
# Members that learn so fast, under limits so wide, trade after some hundred steps, however badly.
WIDE = Conditions(
    strategy=StrategyParameters(edge_multiple=0.0, dead_band=0.0, disagreement_limit=1.0, volatility_target=10.0),
    limits=RiskLimits(out_of_distribution=1e6, max_drawdown=0.99, max_position=1.0),
)
SMALL = MemberPlan(
    seed=0,
    steps=400,
    settings=Settings(
        learning_starts=50,
        batch_size=64,
        net_arch=(8,),
        learning_rate=3e-2,
        gamma=0.5,
        train_freq=1,
        weight_decay=0.0,
    ),
    episode=Episode(length=60),
    conditions=WIDE,
)
PLAN = EnsemblePlan(member=SMALL, members=2, gates=None, held=HeldOut(share=0.0), spread=False)
HELD = replace(PLAN, held=HeldOut(share=0.06), member=replace(SMALL, validation=Validation(every=200)))
RECIPE = Recipe(bundle="ab" * 32, plan=PLAN, symbols=(BTC,), timeframe="1h")

# 160 days, of which 100 fill the first window; the last 30 are scored.
FORWARD = history(60 * 24, seed=3)
FORWARD_MS = 130 * DAY_MS
# Three groups of 110 days, after the 100 of the first window.
CROSSED = history(331 * 24, seed=4)
CROSSED_MS = 101 * DAY_MS
CROSSING = Terms(groups=3, tested=1)


class Backwards(Here):
    """A pool that ends with the first task."""

    def run(self, tasks: Sequence[Task], shared: Any, tell: Callable[[int, Any], None]) -> Iterator[Outcome]:
        last = len(tasks) - 1
        for outcome in super().run(tasks[::-1], shared, lambda index, told: tell(last - index, told)):
            yield replace(outcome, index=last - outcome.index)


def asked(*tables: CandleTable, recipe: Recipe = RECIPE, **changes: Any) -> Asked:
    given = tables or (FORWARD,)
    values: dict[str, Any] = {
        "recipe": recipe,
        "tables": given,
        "setup": setup_of(given, WIDE, "test"),
        "start_ms": FORWARD_MS,
        "terms": Terms(folds=2),
    }
    return Asked(**(values | changes))


def crossed(**changes: Any) -> Asked:
    return asked(CROSSED, start_ms=CROSSED_MS, **({"terms": CROSSING} | changes))


@pytest.fixture(scope="module")
def forward() -> tuple[Refit, Track]:
    return walk_forward(asked(), Here())


@pytest.fixture(scope="module")
def crossing() -> Refit:
    return combinatorial(crossed(), Here())


# ---- what comes out ---------------------------------------------------------------------------------------------
def test_walk_forward_scores_every_day_of_the_span_once(forward: tuple[Refit, Track]) -> None:
    refit, track = forward
    assert (refit.kind, [part.name for part in refit.folds], [part.days for part in refit.folds]) == (
        "walk-forward",
        ["fold 1", "fold 2"],
        [15, 15],
    )
    assert track.start_ms == FORWARD_MS
    assert (np.diff(track.close_ms) == HOUR_MS).all()
    assert int(track.close_ms[-1]) == 160 * DAY_MS
    assert len(refit.sharpes) == 1
    assert track.symbols[0].direction.shape == (30 * 24, 2)
    assert len(track.fills) > 20


def test_the_folds_returns_compound_to_that_of_the_whole(forward: tuple[Refit, Track]) -> None:
    refit, track = forward
    totals = [1.0 + part.total_return for part in refit.folds if part.total_return is not None]
    assert track.equity[-1] / track.equity[0] == pytest.approx(totals[0] * totals[1])


def test_the_sharpe_ratio_is_that_of_the_joined_daily_returns(forward: tuple[Refit, Track]) -> None:
    """Second source: the joined track, from whose equity at midnight each day's return is taken by hand."""
    refit, track = forward
    marks = np.concatenate([track.equity[:1], track.equity[24::24]])
    returns = marks[1:] / marks[:-1] - 1.0
    # The 16th day begins with the cash the fold before ended with, as the joined track has it.
    assert refit.sharpes[0] == pytest.approx(returns.mean() / returns.std(ddof=1) * np.sqrt(365), rel=1e-9)


def test_combinatorial_folds_make_as_many_paths_as_each_group_is_scored(crossing: Refit) -> None:
    assert crossing.kind == "combinatorial"
    assert [part.name for part in crossing.folds] == ["group 1", "group 2", "group 3"]
    assert [part.days for part in crossing.folds] == [110, 110, 110]
    assert len(crossing.sharpes) == 1
    assert crossing.overfitting is not None
    assert 0.0 <= crossing.overfitting <= 1.0


def test_one_member_says_nothing_about_overfitting() -> None:
    alone = replace(RECIPE, plan=replace(PLAN, members=1))
    assert walk_forward(asked(recipe=alone, terms=Terms(folds=1)), Here())[0].overfitting is None


# ---- the same, wherever and however often -----------------------------------------------------------------------
def test_two_workers_or_none_give_the_same_to_the_last_bit() -> None:
    wanted = asked(terms=Terms(folds=1))
    refit, track = walk_forward(wanted, LocalPool(2))
    same, again = walk_forward(wanted, Here())
    assert refit == same
    assert track.fills == again.fills
    assert track.equity.tobytes() == again.equity.tobytes()
    assert track.symbols[0].direction.tobytes() == again.symbols[0].direction.tobytes()


def test_the_order_in_which_members_are_finished_changes_nothing(crossing: Refit) -> None:
    assert combinatorial(crossed(), Backwards()) == crossing


def test_another_seed_makes_other_members(forward: tuple[Refit, Track]) -> None:
    other = replace(RECIPE, plan=replace(PLAN, seed=2))
    _, track = walk_forward(asked(recipe=other), Here())
    assert track.symbols[0].direction.tobytes() != forward[1].symbols[0].direction.tobytes()


def test_progress_ends_with_every_step_of_every_member(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    walk_forward(asked(keep=tmp_path), Here(), tell=lambda done, total: told.append((done, total)))
    assert told[-1] == (1600, 1600)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_splits_that_leave_the_same_practice_share_their_members() -> None:
    split, other = walk_forward_splits(FORWARD_MS, 160 * DAY_MS, HOUR_MS, Terms(folds=2))
    practices = [practice_of([FORWARD], each, PLAN) for each in (split, other, split)]
    pool, told = Here(), []
    place = Place(names=["first", "other", "again"])
    first, _, again = train_refits(practices, PLAN, pool, place, tell=lambda done, total: told.append((done, total)))
    assert pool.ran == ["first, member 0", "first, member 1", "other, member 0", "other, member 1"]
    assert [member.candidate for member in again] == [member.candidate for member in first]
    assert told[-1] == (2400, 2400)


def test_kept_members_are_not_trained_again_and_give_the_same(forward: tuple[Refit, Track], tmp_path: Path) -> None:
    assert walk_forward(asked(keep=tmp_path), Here())[0] == forward[0]
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert len(kept) == 4
    assert all([each.name for each in (tmp_path / name).iterdir()] == ["result.safetensors"] for name in kept)
    again = Here()
    assert walk_forward(asked(keep=tmp_path), again)[0] == forward[0]
    assert [name for name in again.ran if "member" in name] == []
    shorter = replace(RECIPE, plan=replace(PLAN, member=replace(SMALL, steps=300)))
    walk_forward(asked(keep=tmp_path, recipe=shorter), again)
    assert len([name for name in again.ran if "member" in name]) == 4


def test_an_interrupted_refit_says_so() -> None:
    pool = Here()
    pool.stop()
    with pytest.raises(Interrupted, match="interrupted; 4 members of the refits were not finished"):
        walk_forward(asked(), pool)


def test_a_member_that_fails_is_named_with_its_refit() -> None:
    def fail(*_: Any) -> None:
        raise TrainingError("the candles are sour")

    with pytest.raises(TrainingError, match="refit of abababababababab, fold 1, member 0: the candles are sour"):
        walk_forward(asked(), Here(fail))


# ---- trials -----------------------------------------------------------------------------------------------------
def test_every_member_is_written_down_once_and_not_counted(tmp_path: Path) -> None:
    place = tmp_path / "trials.jsonl"
    for _ in range(2):
        ledger = Ledger(place, now_ms=lambda: 0)
        walk_forward(asked(recipe=replace(RECIPE, plan=HELD), ledger=ledger), Here())
        trials = ledger.tally().only(Kind.REFIT).counted
        assert [trial.words for trial in trials] == [
            f"refit of abababababababab, fold {fold}, member {member}" for fold in (1, 2) for member in (0, 1)
        ]
        assert {trial.kind for trial in trials} == {Kind.REFIT}
        assert len([trial for trial in trials if trial.score is not None]) == 4
        assert (ledger.count(), ledger.sharpes()) == (0, ())
        assert {(trial.looks, trial.is_over, trial.symbols) for trial in trials} == {(2, True, (BTC,))}
    # 6 % of the 129 days before the first fold and its purge are 7.74: the midnight before makes them 8.
    assert trials[0].days == 8.0


# ---- no scored candle reaches a learner -------------------------------------------------------------------------
def flipped(table: CandleTable, spans: Sequence[Span]) -> CandleTable:
    """Return `table` with other candles in `spans`: a market that does the opposite, at three times the price."""
    values = table.values.copy()
    for span in spans:
        inside = (table.open_ms >= span.from_ms) & (table.open_ms < span.to_ms)
        prices = 3.0 * values[inside][0, 3] ** 2 / values[inside][:, :4]
        values[inside, :4] = np.round(prices[:, [0, 2, 1, 3]], 6)  # the inverse of the lowest price is the highest
        values[inside, 4] *= 7.0
    return changed(table, values=values)


def members_of(table: CandleTable, split: Split, plan: EnsemblePlan = PLAN) -> list[bytes]:
    """Return the weights of a refit's members."""
    [members] = train_refits([practice_of([table], split, plan)], plan, Here(), Place(names=[split.name]))
    return [
        b"".join(member.candidate.actor.arrays[name].tobytes() for name in sorted(member.candidate.actor.arrays))
        for member in members
        if member.candidate.actor is not None
    ]


def reference(table: CandleTable, split: Split) -> Reference:
    from training.evaluate_refit import _reference  # noqa: PLC0415 - beside the members, all that practice leaves behind

    return _reference(asked(table), practice_of([table], split, PLAN))


@pytest.mark.parametrize("plan", [PLAN, HELD], ids=["last weights", "picked by validation"])
def test_walk_forward_members_are_byte_equal_whatever_happens_in_the_scored_part(plan: EnsemblePlan) -> None:
    for split in walk_forward_splits(FORWARD_MS, 160 * DAY_MS, HOUR_MS, Terms(folds=2)):
        others = flipped(FORWARD, [Span(from_ms=split.scored[0].from_ms, to_ms=161 * DAY_MS)])
        assert members_of(others, split, plan) == members_of(FORWARD, split, plan)
        assert reference(others, split).mean.tobytes() == reference(FORWARD, split).mean.tobytes()


@pytest.mark.parametrize(
    "plan", [replace(PLAN, members=1), replace(HELD, members=1)], ids=["last weights", "picked by validation"]
)
def test_combinatorial_members_are_byte_equal_whatever_happens_in_the_scored_groups(plan: EnsemblePlan) -> None:
    for split in combinatorial_splits(CROSSED_MS, CROSSED_MS + 330 * DAY_MS, HOUR_MS, CROSSING):
        others = flipped(CROSSED, split.scored)
        assert members_of(others, split, plan) == members_of(CROSSED, split, plan)
        assert reference(others, split).mean.tobytes() == reference(CROSSED, split).mean.tobytes()


def test_the_same_comparison_finds_a_leak_and_a_changed_practice() -> None:
    """What proves that the two tests above could fail: windows that look back into what scores, and other practice."""
    leaking = replace(CROSSING, embargo=0)
    split = combinatorial_splits(CROSSED_MS, CROSSED_MS + 330 * DAY_MS, HOUR_MS, leaking)[0]
    assert members_of(flipped(CROSSED, split.scored), split) != members_of(CROSSED, split)
    clean = combinatorial_splits(CROSSED_MS, CROSSED_MS + 330 * DAY_MS, HOUR_MS, CROSSING)[0]
    practised = flipped(CROSSED, [Span(from_ms=320 * DAY_MS, to_ms=400 * DAY_MS)])
    assert members_of(practised, clean) != members_of(CROSSED, clean)


@pytest.mark.parametrize("plan", [PLAN, HELD], ids=["last weights", "picked by validation"])
def test_no_history_of_practice_or_validation_crosses_a_scored_group(plan: EnsemblePlan) -> None:
    for split in combinatorial_splits(CROSSED_MS, CROSSED_MS + 330 * DAY_MS, HOUR_MS, CROSSING):
        practice, scored = practice_of([CROSSED], split, plan).histories(48)
        for each in (*practice, *scored):
            first, last = int(each.table.open_ms[0]), int(each.table.open_ms[-1])
            assert (np.diff(each.table.open_ms) == HOUR_MS).all()
            assert all(last < part.from_ms or first >= part.to_ms for part in split.scored)
        # What lies before the first group fills no window; around the second one practice has two stretches.
        assert plan is HELD or len(practice) == {(0,): 1, (1,): 2, (2,): 1}[split.groups]


# ---- what practice and scoring are made of ----------------------------------------------------------------------
def test_each_stretch_sets_the_recipes_share_apart_at_its_own_end() -> None:
    split = Split(name="both", groups=(), scored=(), practice=(Span(from_ms=0, to_ms=150 * DAY_MS),))
    [part] = practice_of([CROSSED], split, replace(HELD, held=HeldOut(share=0.1))).parts
    assert part.fold is not None
    assert (part.fold.from_ms, part.fold.practice_to_ms) == (135 * DAY_MS, 134 * DAY_MS)


def test_a_symbol_that_came_too_late_is_left_out_and_told() -> None:
    late = history(35 * 24, seed=5, symbol=ETH, start=25 * 24)
    told: list[str] = []
    both = replace(RECIPE, symbols=(BTC, ETH), plan=replace(PLAN, member=replace(SMALL, episode=Episode(length=300))))
    refit, track = walk_forward(asked(FORWARD, late, recipe=both), Here(), warn=told.append)
    assert told == ["refit fold 1 practised without ETH/USDT: too few candles outside what scores it"]
    assert [symbol.symbol for symbol in track.symbols] == [BTC, ETH]
    assert refit.folds[0].days == 15


def test_a_symbol_the_recipe_does_not_know_is_traded_but_not_practised_on() -> None:
    other = history(60 * 24, seed=6, symbol=ETH)
    split = walk_forward_splits(FORWARD_MS, 160 * DAY_MS, HOUR_MS, Terms(folds=1))[0]
    alone = walk_forward(asked(FORWARD, other, terms=Terms(folds=1)), Here())[1]
    assert [symbol.symbol for symbol in alone.symbols] == [BTC, ETH]
    trained: Callable[[CandleTable], list[bytes]] = lambda table: members_of(table, split)  # noqa: E731
    assert trained(FORWARD) != trained(changed(other, symbol=BTC))


def test_a_refit_without_any_member_stays_in_cash_and_says_why() -> None:
    strict = replace(RECIPE, plan=replace(HELD, gates=Gates(least_score=1e6)))
    told: list[str] = []
    refit, track = walk_forward(asked(recipe=strict, terms=Terms(folds=1)), Here(), warn=told.append)
    assert told[0].startswith("refit fold 1 made no ensemble and stayed in cash (member 0: it")
    assert set(track.equity.tolist()) == {100_000.0}
    assert refit.sharpes == (None,)
    assert np.isnan(track.symbols[0].direction).all()
    assert refit.overfitting is None or 0.0 <= refit.overfitting <= 1.0


def test_an_exam_is_given_no_candle_after_its_span_and_none_before_its_first_window() -> None:
    span = Span(from_ms=140 * DAY_MS, to_ms=150 * DAY_MS)
    exam = exam_of([FORWARD], asked().setup, span, [], Reference.of((0.0,), (1.0,), 1.0))
    [table] = exam.tables
    assert int(table.open_ms[-1]) == 150 * DAY_MS - HOUR_MS
    assert int(table.open_ms[0]) == 140 * DAY_MS - (WINDOW + 48) * HOUR_MS


def test_what_an_exam_says_does_not_depend_on_candles_it_was_not_given(tmp_path: Path) -> None:
    split = walk_forward_splits(FORWARD_MS, 160 * DAY_MS, HOUR_MS, Terms(folds=1))[0]
    [members] = train_refits([practice_of([FORWARD], split, PLAN)], PLAN, Here(), Place(names=["fold 1"]))
    span, setup = split.scored[0], asked().setup
    marks = _marks(FORWARD, span, members, setup, tmp_path)
    whole = exam_of([FORWARD], setup, span, members, reference(FORWARD, split))
    again = take_exam(None, replace(whole, tables=(FORWARD,)), _Nowhere(tmp_path))
    assert again.track.equity.tobytes() == marks.equity.tobytes()
    assert again.alone.shape == (30, 2)
    np.testing.assert_array_equal(returns_of(again.track), returns_of(marks))


def _marks(table: CandleTable, span: Span, members: Sequence[Member], setup: Any, folder: Path) -> Track:
    split = walk_forward_splits(FORWARD_MS, 160 * DAY_MS, HOUR_MS, Terms(folds=1))[0]
    return take_exam(None, exam_of([table], setup, span, members, reference(table, split)), _Nowhere(folder)).track


class _Nowhere(Link):
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def folder(self) -> Path:
        return self._folder

    def tell(self, told: Any) -> None:
        """Tell nobody."""

    def should_stop(self) -> bool:
        return False


# ---- what cannot be ---------------------------------------------------------------------------------------------
def test_candles_too_few_for_practice_are_refused_before_anything_is_trained() -> None:
    pool = Here()
    with pytest.raises(TrainingError, match=r"refit fold 1 is left with the beginning \.\. 1970-04-11 to practise on"):
        walk_forward(asked(start_ms=102 * DAY_MS), pool)
    with pytest.raises(TrainingError, match=r"refit group 1 is .* give earlier candles, a later beginning, or fewer"):
        combinatorial(asked(terms=Terms(groups=2, tested=1), start_ms=101 * DAY_MS), pool)
    assert pool.ran == []


def test_a_span_without_a_whole_day_is_refused() -> None:
    with pytest.raises(TrainingError, match=r"refits: from 1970-06-10, .* no whole day is left"):
        walk_forward(asked(start_ms=160 * DAY_MS), Here())


def test_candles_of_other_symbols_or_timeframes_than_the_recipes_are_refused() -> None:
    with pytest.raises(TrainingError, match="the recipe practises on ETH/USDT, of which no file is given"):
        walk_forward(asked(recipe=replace(RECIPE, symbols=(ETH,))), Here())
    with pytest.raises(TrainingError, match="the recipe is for 1d candles, the data has 1h"):
        walk_forward(asked(recipe=replace(RECIPE, timeframe="1d")), Here())


def test_a_stretch_too_short_to_be_used_is_told() -> None:
    told: list[str] = []
    short = replace(HELD, members=1, held=HeldOut(share=0.05))  # of 110 days: 5.5, and midnight may take one off
    combinatorial(crossed(recipe=replace(RECIPE, plan=short)), Here(), warn=told.append)
    words = "refit group 2 left 1970-11-18 .. 1971-03-07 out: too short for its windows, an episode and the share"
    assert [line for line in told if "left 19" in line and "group 2" in line] == [f"{words} that scores members"]


def test_an_embargo_shorter_than_the_window_is_told() -> None:
    told: list[str] = []
    combinatorial(crossed(terms=replace(CROSSING, embargo=48)), Here(), warn=told.append)
    assert told[0].startswith("refits practised from 48 candles after what scores them on")
