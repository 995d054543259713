"""Several stretches of one symbol, and what is left to practise on between spans that score."""

from dataclasses import replace

import numpy as np
import pytest

from strategy.candle_table import CandleTable
from strategy.features import WINDOW
from tests.fakes.trading import BTC, ETH, HOUR_MS
from tests.training.markets import changed, history, with_gap
from tests.training.members import plan as member_plan
from training.ensemble import EnsemblePlan
from training.episode import Episode
from training.errors import TrainingError
from training.held_out import HeldOut
from training.history import History
from training.market import Conditions, setup_of_histories
from training.member_run import identity_of
from training.refit_practice import first_full, full_windows, practice_of
from training.refit_splits import Span, Split

MEMBER = replace(member_plan(), episode=Episode(length=60), validation=None)
PLAN = EnsemblePlan(member=MEMBER, gates=None, held=HeldOut(share=0.0))


def coarse(table: CandleTable) -> CandleTable:
    """Return `table` with prices in whole quote and volumes in whole base."""
    values = np.round(table.values)
    return changed(table, values=values)


def split(*practice: Span) -> Split:
    return Split(name="fold 1", groups=(), scored=(), practice=practice)


# ---- stretches of one symbol ------------------------------------------------------------------------------------
def test_stretches_of_a_symbol_make_one_instrument_with_the_finest_steps() -> None:
    early, late = coarse(history(50, seed=1)), history(50, seed=2, start=5_000)
    for order in ((early, late), (late, early)):
        made = setup_of_histories([History(table, 48) for table in order], Conditions(), "train")
        assert list(made.instruments) == [BTC]
        assert (made.instruments[BTC].tick, made.instruments[BTC].lot) == (1e-8, 1e-8)


def test_stretches_that_overlap_are_refused() -> None:
    whole = history(100)
    beside = History(history(100, symbol=ETH), 48)
    with pytest.raises(TrainingError, match="two files hold the same symbol"):
        setup_of_histories([History(whole, 48), beside, History(whole, 48)], Conditions(), "train")


def test_windows_may_look_back_into_the_stretch_before() -> None:
    """No step of practice is in both, though the candles that fill the second's first window are."""
    whole = history(200)
    border_ms = int(whole.open_ms[WINDOW - 1 + 100])
    before, after = whole.slice(None, border_ms), whole.slice(border_ms - (WINDOW - 1) * HOUR_MS, None)
    setup_of_histories([History(after, 48), History(before, 48)], Conditions(), "train")


def test_a_checkpoint_belongs_to_all_stretches_of_a_symbol() -> None:
    one, other, last = (History(history(50, seed=seed, start=9_000 * seed), 48) for seed in (1, 2, 3))
    assert identity_of([one, last], [], MEMBER) != identity_of([other, last], [], MEMBER)
    assert identity_of([last], [one, last], MEMBER) != identity_of([last], [other, last], MEMBER)


# ---- full windows -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("missing", [0, 48, 49])
def test_full_windows_are_counted_as_the_features_find_them(missing: int) -> None:
    """Second source: the feature kernel itself."""
    table = with_gap(history(150), WINDOW + 20, missing) if missing else history(150)
    starts = History(table, 48).starts
    assert full_windows(table, 48) == len(starts)
    assert first_full(table, 48) == int(table.open_ms[starts[0]])


def test_too_few_candles_have_no_full_window() -> None:
    assert full_windows(history(0), 48) == 0
    assert first_full(history(0), 48) is None


# ---- what is left -----------------------------------------------------------------------------------------------
def test_a_stretch_too_short_for_an_episode_is_left_out() -> None:
    table = history(400)
    begin, end = int(table.open_ms[0]), int(table.open_ms[-1]) + HOUR_MS
    short = Span(from_ms=begin, to_ms=begin + (WINDOW + 58) * HOUR_MS)
    long = Span(from_ms=begin + 200 * HOUR_MS, to_ms=end)
    [part] = practice_of([table], split(short, long), PLAN).parts
    assert int(part.tables[0].open_ms[0]) == long.from_ms
    enough = Span(from_ms=begin, to_ms=short.to_ms + HOUR_MS)
    assert len(practice_of([table], split(enough, long), PLAN).parts) == 2


def test_a_stretch_too_short_to_score_members_is_left_out() -> None:
    table = history(300)
    begin, days = int(table.open_ms[0]), (WINDOW + 299) / 24
    whole = Span(from_ms=begin, to_ms=int(table.open_ms[-1]) + HOUR_MS)
    # Five days score, and midnight may take one off.
    too_few = replace(PLAN, held=HeldOut(share=5.9 / days))
    with pytest.raises(TrainingError, match=r"where no file has 60 candles with a full window .* give earlier candles"):
        practice_of([table], split(whole), too_few)
    assert practice_of([table], split(whole), replace(PLAN, held=HeldOut(share=6.1 / days))).parts[0].fold is not None


def test_nothing_left_to_practise_on_is_told() -> None:
    with pytest.raises(TrainingError, match="refit fold 1 is left with nothing to practise on"):
        practice_of([history(100)], split(), PLAN)
