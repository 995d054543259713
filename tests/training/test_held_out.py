from typing import Any

import numpy as np
import pytest

from tests.fakes.trading import ETH, HOUR_MS
from tests.training.markets import FIRST, history
from training.errors import TrainingError
from training.held_out import HeldOut, fold_of, histories_of

DAY_MS = 24 * HOUR_MS
TABLE = history(1000, seed=3)  # hours 0 .. 3399 of 1970


def test_a_share_is_the_end_of_the_span_from_midnight_on() -> None:
    """By hand: 3,400 hours, a fifth is 680, so hour 2,720, of day 113 (2,712 .. 2,735)."""
    fold = fold_of([TABLE], HeldOut(share=0.2))
    assert fold is not None
    assert fold.from_ms == 113 * DAY_MS
    assert fold.to_ms == 3400 * HOUR_MS


def test_a_date_is_taken_as_it_is() -> None:
    fold = fold_of([TABLE], HeldOut(share=0.0, from_ms=3000 * HOUR_MS))
    assert fold is not None
    assert fold.from_ms == 3000 * HOUR_MS


def test_nothing_is_set_apart_when_nothing_is_asked() -> None:
    assert fold_of([TABLE], HeldOut(share=0.0)) is None
    practice, scored = histories_of([TABLE], None, 48)
    assert [len(each.table) for each in practice] == [len(TABLE)]
    assert scored == []


def test_practice_never_sees_what_scores_and_scored_windows_look_back() -> None:
    tables = [TABLE, history(1000, seed=4, symbol=ETH, start=48)]
    fold = fold_of(tables, HeldOut(share=0.2))
    assert fold is not None
    practice, scored = histories_of(tables, fold, 48)
    for before, after in zip(practice, scored, strict=True):
        assert before.table.symbol == after.table.symbol
        assert int(before.table.open_ms[-1]) + HOUR_MS <= fold.from_ms - 24 * HOUR_MS
        first = int(after.table.open_ms[after.starts[0]])
        assert first == fold.from_ms
        # The window of the first scored candle lies before it, in the candles to practise on.
        assert after.starts[0] >= FIRST
        np.testing.assert_array_equal(after.table.open_ms[: len(before.table)], before.table.open_ms)


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ({"share": 0.01}, "--validation 0.01 sets 1.7 of 141.7 days apart: a score needs 5 days at least"),
        ({"share": 0.0, "from_ms": 3390 * HOUR_MS}, "--validation-from sets 0.4 of 141.7 days apart"),
        ({"share": 0.0, "from_ms": 9000 * HOUR_MS}, "--validation-from sets 0.0 of 141.7 days apart"),
        (
            {"share": 0.0, "from_ms": 0},
            "--validation-from sets 141.7 of 141.7 days apart: .* practice needs some before",
        ),
    ],
)
def test_what_is_too_short_to_score_is_refused(held: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        fold_of([TABLE], HeldOut(**held))


def test_too_little_to_practise_on_names_the_symbol_and_the_way_out() -> None:
    fold = fold_of([TABLE], HeldOut(share=0.4))
    with pytest.raises(
        TrainingError, match=r"BTC/USDT: .* candles are too few .*, or set less apart with --validation"
    ):
        histories_of([TABLE], fold, 48)


@pytest.mark.parametrize("share", [-0.1, 0.95, 1.0, float("nan")])
def test_shares_that_cannot_be_are_refused(share: float) -> None:
    with pytest.raises(TrainingError, match=r"--validation .*: give a number within 0.0 .. 0.9"):
        HeldOut(share=share)
