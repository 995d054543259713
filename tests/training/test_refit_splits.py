import math
from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategy.features import WINDOW
from tests.fakes.trading import HOUR_MS
from training.errors import TrainingError
from training.refit_splits import DAY_MS, Span, Split, Terms, combinatorial_splits, paths_of, walk_forward_splits

MS_2018 = 1_514_764_800_000  # 2018-01-01T00:00:00Z, as `date -d 2018-01-01Z +%s` says
MS_2019, MS_2020, MS_2021 = MS_2018 + 365 * DAY_MS, MS_2018 + 730 * DAY_MS, MS_2018 + (730 + 366) * DAY_MS


def scored(splits: list[Split]) -> list[Span]:
    return [span for split in splits for span in split.scored]


# ---- walk-forward -----------------------------------------------------------------------------------------------
def test_folds_touch_cover_the_span_and_are_as_long_as_each_other_to_a_day() -> None:
    spans = scored(walk_forward_splits(MS_2018, MS_2018 + 401 * DAY_MS, HOUR_MS, Terms(folds=4)))
    assert [(span.to_ms - span.from_ms) / DAY_MS for span in spans] == [100, 100, 100, 101]
    assert spans[0].from_ms == MS_2018
    assert spans[-1].to_ms == MS_2018 + 401 * DAY_MS
    assert all(before.to_ms == after.from_ms for before, after in pairwise(spans))


def test_two_years_or_more_are_cut_by_calendar_year_and_short_ends_belong_to_the_year_beside_them() -> None:
    whole = scored(walk_forward_splits(MS_2018, MS_2021, HOUR_MS, Terms()))
    assert [span.from_ms for span in whole] == [MS_2018, MS_2019, MS_2020]
    ragged = scored(walk_forward_splits(MS_2018 - 30 * DAY_MS, MS_2020 + 100 * DAY_MS, HOUR_MS, Terms()))
    assert [span.from_ms for span in ragged] == [MS_2018 - 30 * DAY_MS, MS_2019, MS_2020]
    assert ragged[-1].to_ms == MS_2020 + 100 * DAY_MS
    assert len(walk_forward_splits(MS_2018, MS_2020 - DAY_MS, HOUR_MS, Terms())) == 4


def test_each_fold_practises_on_everything_before_it_but_for_the_purge() -> None:
    splits = walk_forward_splits(MS_2018, MS_2018 + 100 * DAY_MS, HOUR_MS, Terms(folds=2, purge=24))
    assert [split.practice for split in splits] == [
        (Span(from_ms=0, to_ms=MS_2018 - DAY_MS),),
        (Span(from_ms=0, to_ms=MS_2018 + 49 * DAY_MS),),
    ]
    assert [split.name for split in splits] == ["fold 1", "fold 2"]


# ---- combinatorial ----------------------------------------------------------------------------------------------
def test_six_groups_tested_by_twos_make_fifteen_splits_and_five_paths() -> None:
    splits = combinatorial_splits(MS_2018, MS_2021, HOUR_MS, Terms())
    assert [split.groups for split in splits] == list(combinations(range(6), 2))
    assert len(paths_of(splits, 6)) == 5  # Lopez de Prado 2018, section 12.4.1: 15 splits of 6 groups give 5 paths
    assert splits[1].name == "groups 1 and 3"


@settings(deadline=None, max_examples=40)
@given(
    groups=st.integers(2, 8),
    tested=st.integers(1, 3),
    days=st.integers(40, 3_000),
    purge=st.integers(0, 500),
    embargo=st.one_of(st.none(), st.integers(0, 5_000)),
)
def test_no_practice_row_lies_in_what_is_scored_nor_sees_it_from_behind(
    groups: int, tested: int, days: int, purge: int, embargo: int | None
) -> None:
    if tested >= groups:
        return
    terms = Terms(groups=groups, tested=tested, purge=purge, embargo=embargo)
    splits = combinatorial_splits(MS_2018, MS_2018 + days * DAY_MS, HOUR_MS, terms)
    assert len(splits) == math.comb(groups, tested)
    for split in splits:
        for practice in split.practice:
            # The first candle with a full window, and the last one on which a step of practice may end.
            first_row, last = practice.from_ms + (WINDOW - 1) * HOUR_MS, practice.to_ms - HOUR_MS
            if first_row > last:
                continue
            for part in split.scored:
                is_before = last < part.from_ms - purge * HOUR_MS
                is_after = first_row >= part.to_ms + terms.embargo_candles * HOUR_MS
                assert is_before or is_after
                if embargo is None:
                    assert practice.to_ms <= part.from_ms or practice.from_ms >= part.to_ms


@settings(deadline=None, max_examples=30)
@given(groups=st.integers(2, 7), tested=st.integers(1, 3))
def test_paths_use_every_scoring_exactly_once_and_each_covers_every_group(groups: int, tested: int) -> None:
    if tested >= groups:
        return
    splits = combinatorial_splits(0, groups * 10 * DAY_MS, HOUR_MS, Terms(groups=groups, tested=tested))
    paths = paths_of(splits, groups)
    assert len(paths) == math.comb(groups, tested) * tested // groups
    used = [(at, group) for path in paths for group, at in enumerate(path)]
    assert sorted(used) == sorted((at, group) for at, split in enumerate(splits) for group in split.groups)


def test_two_scored_groups_beside_each_other_leave_nothing_between() -> None:
    [split] = [
        split
        for split in combinatorial_splits(MS_2018, MS_2018 + 800 * DAY_MS, HOUR_MS, Terms(groups=4))
        if split.groups == (1, 2)
    ]
    assert split.practice == (
        Span(from_ms=0, to_ms=MS_2018 + 199 * DAY_MS),
        Span(from_ms=MS_2018 + 600 * DAY_MS, to_ms=MS_2018 + 800 * DAY_MS),
    )


# ---- what cannot be ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"folds": 0}, "refit folds 0"),
        ({"groups": 1}, "refit groups 1"),
        ({"groups": 4, "tested": 4}, "refit groups tested at once 4"),
        ({"purge": -1}, r"refit purge \(candles\) -1"),
        ({"embargo": -1}, r"refit embargo \(candles\) -1"),
        ({"groups": 50, "tested": 5}, "2118760 splits, more than 1000: give fewer groups"),
    ],
)
def test_impossible_terms_are_refused(terms: dict[str, int], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        Terms(**terms)


def test_a_span_too_short_for_its_parts_says_what_would_do() -> None:
    words = "19 whole days, 2018-01-01 .. 2018-01-19, are too few for 4 folds of 5 days at least: give a longer span"
    with pytest.raises(TrainingError, match=words):
        walk_forward_splits(MS_2018, MS_2018 + 19 * DAY_MS, HOUR_MS, Terms())
    with pytest.raises(TrainingError, match=r"too few for 6 groups .* or fewer groups"):
        combinatorial_splits(MS_2018, MS_2018 + 29 * DAY_MS, HOUR_MS, Terms())
