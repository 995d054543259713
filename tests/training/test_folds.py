"""Chronological folds."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategy.candle import Timeframe
from strategy.candle_table import CandleTable
from tests.fakes.trading import BTC, ETH, HOUR_MS
from tests.training.markets import FIRST, history
from training.errors import TrainingError
from training.folds import LEAST_DAYS, Fold, FoldSettings, make_folds, split

DAY_MS = 24 * HOUR_MS
TABLE = history(24 * 60)
"""Sixty days, and some hours, after the first full window."""


def folds_of(table: CandleTable = TABLE, least: int = 2, **settings: float) -> list[Fold]:
    return make_folds([table], FoldSettings(**settings), max_missing=6, least_practice=least)  # type: ignore[arg-type]


@given(count=st.integers(1, 6), held=st.floats(0.2, 0.9), gap=st.integers(0, 48))
def test_practice_ends_a_gap_before_scoring_and_scored_days_touch_and_grow_older_never(
    count: int, held: float, gap: int
) -> None:
    try:
        folds = folds_of(count=count, held=held, gap=gap)
    except TrainingError as error:
        assert "--folds" in str(error) or "before the first fold" in str(error)  # noqa: PT017 - the property's other half
        return
    assert len(folds) == count
    for fold in folds:
        assert fold.from_ms - fold.practice_to_ms == gap * HOUR_MS
        assert fold.from_ms % DAY_MS == fold.to_ms % DAY_MS == 0
        assert fold.to_ms - fold.from_ms >= LEAST_DAYS * DAY_MS
    for before, after in pairwise(folds):
        assert after.from_ms == before.to_ms
        assert after.practice_to_ms > before.practice_to_ms
    assert folds[-1].to_ms <= TABLE.open_ms[-1] + HOUR_MS < folds[-1].to_ms + DAY_MS


def test_half_of_sixty_days_in_three_folds_is_ten_days_each() -> None:
    folds = folds_of(count=3, held=0.5)
    # Of 60 days with a full window half are held, and each fold gets a third of these.
    assert [(fold.to_ms - fold.from_ms) // DAY_MS for fold in folds] == [10, 10, 10]


def test_no_candle_of_practice_opens_within_the_gap_or_later_and_scoring_starts_at_the_border() -> None:
    for fold in folds_of(count=2, gap=24):
        (practice,), (scored,) = split([TABLE], fold, 6)
        assert practice.table.open_ms[-1] == fold.from_ms - 25 * HOUR_MS
        assert scored.table.open_ms[scored.starts[0]] == fold.from_ms
        assert scored.table.open_ms[-1] == fold.to_ms - HOUR_MS


def test_scored_windows_look_back_and_give_the_rows_of_the_whole_history() -> None:
    fold = folds_of(count=2)[0]
    (scored,) = split([TABLE], fold, 6)[1]
    whole = split([TABLE], Fold(index=0, practice_to_ms=2**62, from_ms=0, to_ms=2**62), 6)[0][0]
    first, last = int(scored.starts[0]), len(scored.candles)
    assert np.array_equal(scored.rows.values[first:last], whole.rows.values[first:last])


def test_the_folds_lie_where_every_symbol_has_candles() -> None:
    later = history(24 * 30, symbol=ETH, start=24 * 30)
    folds = make_folds([TABLE, later], FoldSettings(count=2), max_missing=6, least_practice=2)
    begin = int(later.open_ms[FIRST])
    assert folds[0].practice_to_ms > begin
    assert {table.symbol for table in (TABLE, later)} == {BTC, ETH}


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"count": 0}, "--folds 0: give 1 .. 100"),
        ({"held": 1.0}, "--held 1.0: give 0.01 .. 0.95"),
        ({"held": float("nan")}, "--held nan"),
        ({"gap": -1}, "--gap -1"),
        ({"count": 7}, "4 whole days a fold, and 5 are the least"),
        ({"count": 1, "held": 0.95, "least": 10_000}, "an episode needs 10000"),
    ],
)
def test_what_cannot_be_cut_is_refused_with_a_remedy(settings: dict[str, float], says: str) -> None:
    least = int(settings.pop("least", 2))
    with pytest.raises(TrainingError, match=says.replace("(", r"\(")):
        folds_of(least=least, **settings)


def test_a_history_without_a_full_window_is_refused() -> None:
    short = CandleTable(
        symbol=BTC, timeframe=Timeframe.parse("1h"), open_ms=TABLE.open_ms[:500], values=TABLE.values[:500]
    )
    with pytest.raises(TrainingError, match="none of 500 candles has a full window"):
        folds_of(short)
