import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategy.candle import Timeframe
from strategy.candle_table import CandleTable
from strategy.parameters import CostModel
from tests.fakes.trading import BTC, ETH, HOUR_MS
from tests.training.markets import FIRST, history, with_gap
from training.curriculum import Curriculum, Window, held_of, make_stages, practice_of, windows_of
from training.draws import Draws
from training.episode import Episode, Randomisation
from training.errors import TrainingError
from training.history import History
from training.market import Conditions, setup_of

COSTS = CostModel(fee_rate=0.001, slippage_rate=0.0005)
TWO_DAYS = Curriculum(days=2, move_days=1)
COUNT = 48


def candles(closes: np.ndarray, symbol: str = BTC) -> CandleTable:
    """Return hourly candles that open where the one before closed."""
    opened = np.concatenate([closes[:1], closes[:-1]])
    high, low = np.maximum(opened, closes), np.minimum(opened, closes)
    values = np.stack([opened, high, low, closes, np.full(len(closes), 1_000.0)], axis=1)
    open_ms = np.arange(len(closes)) * HOUR_MS
    return CandleTable(symbol=symbol, timeframe=Timeframe.parse("1h"), open_ms=open_ms, values=values)


def market(*parts: tuple[float, float], seed: int = 1, symbol: str = BTC) -> History:
    """Return a history whose last windows have the given noise and drift per hour, after one that fills the window.

    The noise of each window is an exact alternation, so that its spread is known to the digit.
    """
    rng = np.random.default_rng(seed)
    moves = [rng.normal(scale=0.004, size=FIRST)]
    for noise, drift in parts:
        moves.append(np.where(np.arange(COUNT) % 2 == 0, noise, -noise) + drift)
    return History(candles(100.0 * np.exp(np.cumsum(np.concatenate(moves))), symbol), 48)


def second_source(table: CandleTable, first: int, end: int) -> tuple[float, float, float]:
    """Return volatility, move and cost of a window by pandas, from the raw candles."""
    closes = pd.Series(table.values[first:end, 3])  # noqa: PD011 - no pandas yet
    volatility = np.log(closes).diff().std() * math.sqrt(24 * 365)
    move = np.log(closes / closes.shift(24)).abs().median()
    return volatility, move, 2 * (0.001 + 0.0005) / move


# ---- what is measured -------------------------------------------------------------------------------------------
def test_volatility_move_and_cost_are_what_pandas_makes_of_the_candles() -> None:
    made = History(history(COUNT * 5 + 7, seed=4), 48)
    windows = windows_of([made], TWO_DAYS, COSTS)
    assert len(windows) == 5
    for window in windows:
        expected = second_source(made.table, window.first, window.end)
        assert (window.volatility, window.move, window.cost) == pytest.approx(expected, rel=1e-9)


def test_a_known_market_has_the_volatility_it_was_made_with() -> None:
    made = market((0.01, 0.0001), (0.002, 0.001))
    wild, calm = windows_of([made], TWO_DAYS, COSTS)
    # 47 returns of +-noise: 23 of one sign, 24 of the other.
    spread = math.sqrt((1.0 - (1 / 47) ** 2) * 47 / 46)
    assert wild.volatility == pytest.approx(0.01 * spread * math.sqrt(8_760), rel=1e-6)
    assert calm.volatility == pytest.approx(0.002 * spread * math.sqrt(8_760), rel=1e-6)
    assert calm.move == pytest.approx(24 * 0.001, rel=1e-6)  # a day is an even number of hours: no noise is left
    assert calm.cost == pytest.approx(0.003 / 0.024, rel=1e-6)


def test_windows_end_with_the_last_candle_and_touch() -> None:
    made = History(history(COUNT * 3 + 5, seed=4), 48)
    windows = windows_of([made], TWO_DAYS, COSTS)
    n = len(made.table)
    assert [(window.first, window.end) for window in windows] == [
        (n - 3 * COUNT, n - 2 * COUNT), (n - 2 * COUNT, n - COUNT), (n - COUNT, n),
    ]  # fmt: skip
    assert all(window.from_ms == made.table.open_ms[window.first] for window in windows)


def test_moves_over_a_gap_do_not_count() -> None:
    whole = history(COUNT * 2, seed=4)
    at = len(whole) - 20
    made = History(with_gap(whole, at, 3), 48)
    window = windows_of([made], TWO_DAYS, COSTS)[-1]
    values = made.table.values[:, 3]  # noqa: PD011 - no pandas yet
    logs = pd.Series(np.log(values), index=pd.to_datetime(made.table.open_ms, unit="ms"))
    part = logs.iloc[window.first : window.end].asfreq("h")  # missing hours become NaN, which pandas leaves out
    assert window.volatility == pytest.approx(part.diff().std() * math.sqrt(8_760), rel=1e-9)
    is_whole = part.rolling(25).count() == 25
    assert window.move == pytest.approx(part.diff(24)[is_whole].abs().median(), rel=1e-9)


def test_a_window_without_a_move_is_left_out() -> None:
    made = market((0.01, 0.001), (0.0, 0.0), (0.01, 0.001))
    assert len(windows_of([made], TWO_DAYS, COSTS)) == 2


def test_windows_that_a_long_gap_leaves_without_features_are_left_out() -> None:
    whole = history(COUNT * 4, seed=4)
    made = History(with_gap(whole, len(whole) - 2 * COUNT - 10, 200), 48)  # blind from there on
    assert [window.end for window in windows_of([made], TWO_DAYS, COSTS)] == [
        len(whole) - 3 * COUNT,
        len(whole) - 2 * COUNT,
    ]


def test_a_move_is_over_half_a_window_at_most() -> None:
    made = History(history(COUNT * 2, seed=4), 48)
    assert windows_of([made], Curriculum(days=2, move_days=5), COSTS) == windows_of([made], TWO_DAYS, COSTS)


# ---- stages -----------------------------------------------------------------------------------------------------
def test_steady_trends_are_easy_and_noise_that_goes_nowhere_is_hard() -> None:
    trend, between, noise = (0.001, 0.003), (0.004, 0.001), (0.012, 0.0002)
    made = market(noise, trend, between, between, noise, trend, trend, noise, between)
    easy, medium, hard = make_stages([made], TWO_DAYS, COSTS)
    first = len(made.table) - 9 * COUNT
    number = lambda stage: [(window.first - first) // COUNT for window in stage.windows]  # noqa: E731
    assert (number(easy), number(medium), number(hard)) == ([1, 5, 6], [2, 3, 8], [0, 4, 7])


def test_the_last_windows_of_a_stage_are_held_out_of_it() -> None:
    made = market(*[(0.001 * (1 + at % 3), 0.001) for at in range(12)])
    for stage in make_stages([made], TWO_DAYS, COSTS):
        assert (len(stage.practice), len(stage.held)) == (3, 1)  # a third of four, rounded
        assert max(window.end for window in stage.practice) <= min(window.first for window in stage.held)


def test_nothing_is_practised_at_the_time_of_what_scores_also_not_with_another_symbol() -> None:
    parts = [(0.001 * (1 + at % 3), 0.001 * (1 + at % 2)) for at in range(6)]
    histories = [market(*parts), market(*parts, symbol=ETH)]
    for stage in make_stages(histories, TWO_DAYS, COSTS):
        assert stage.held[0].symbol != stage.held[1].symbol  # a third of four would be one: its twin goes with it
        assert max(window.to_ms for window in stage.practice) <= min(window.from_ms for window in stage.held)
        assert len(stage.windows) == 4


def test_windows_that_overlap_what_scores_stand_aside() -> None:
    shifted = market(*[(0.002, 0.001 * (1 + at)) for at in range(5)], symbol=ETH)
    later = CandleTable(
        symbol=ETH,
        timeframe=shifted.table.timeframe,
        open_ms=shifted.table.open_ms + 20 * HOUR_MS,
        values=shifted.table.values,
    )
    stages = make_stages([MADE, History(later, 48)], TWO_DAYS, COSTS)
    assert sum(len(stage.windows) for stage in stages) < 14
    for stage in stages:
        assert max(window.to_ms for window in stage.practice) <= min(window.from_ms for window in stage.held)


def test_a_stage_whose_windows_lie_at_one_time_is_refused() -> None:
    parts = [(0.001, 0.003), (0.004, 0.001), (0.012, 0.0002)]
    with pytest.raises(TrainingError, match=r"all windows of the stage easy lie at the same time"):
        make_stages([market(*parts), market(*parts, symbol=ETH)], TWO_DAYS, COSTS)


def test_every_window_is_in_one_stage() -> None:
    histories = [
        market(*[(0.001 * (1 + at % 5), 0.0007 * (1 + at % 3)) for at in range(7)]),
        market(*[(0.002, 0.001 * (1 + at)) for at in range(4)], symbol=ETH),
    ]
    stages = make_stages(histories, TWO_DAYS, COSTS)
    dealt = [(window.history, window.first) for stage in stages for window in stage.windows]
    assert len(dealt) == len(set(dealt)) == 11
    assert [len(stage.windows) for stage in stages] == [4, 4, 3]
    assert {window.symbol for stage in stages for window in stage.windows} == {BTC, ETH}


def test_the_table_tells_medians() -> None:
    made = market(*[(0.001 * (1 + at), 0.001) for at in range(6)])
    for stage in make_stages([made], TWO_DAYS, COSTS):
        rows = np.array([second_source(made.table, window.first, window.end) for window in stage.windows])
        told = stage.to_json()
        assert [told[name] for name in ("volatility", "move", "cost")] == pytest.approx(
            np.median(rows, axis=0).tolist()
        )
        assert (told["windows"], told["held_out"]) == (2, 1)


def test_too_few_windows_are_refused_with_what_would_do() -> None:
    made = History(history(COUNT * 5, seed=4), 48)
    with pytest.raises(TrainingError, match=r"give 5 windows of 2 days, and 3 stages need 6: give more candles, or"):
        make_stages([made], TWO_DAYS, COSTS)


def test_the_order_is_that_of_the_mean_rank() -> None:
    made = History(history(COUNT * 9, seed=6), 48)
    windows = windows_of([made], TWO_DAYS, COSTS)
    frame = pd.DataFrame({"volatility": [w.volatility for w in windows], "cost": [w.cost for w in windows]})
    frame["difficulty"] = frame.rank().mean(axis=1)
    by_rank = frame.sort_values(["difficulty", "volatility"]).index.tolist()
    expected = [sorted(by_rank[at : at + 3]) for at in (0, 3, 6)]
    stages = make_stages([made], TWO_DAYS, COSTS)
    assert [[windows.index(window) for window in stage.windows] for stage in stages] == expected


# ---- practice within a stage ------------------------------------------------------------------------------------
@given(seed=st.integers(0, 2**32 - 1), length=st.integers(1, 100) | st.none(), short=st.booleans())
def test_no_episode_of_a_stage_leaves_its_windows(seed: int, length: int | None, short: bool) -> None:
    shortest = 1 if short and length is not None else None
    practised, episode = practice_of([MADE], HARD, Episode(length=length, shortest=shortest))
    draws = Draws(practised, episode, Randomisation())
    rng = np.random.default_rng(seed)
    for _ in range(20):
        drawn = draws.draw(rng)
        assert any(window.first <= drawn.start and drawn.end < window.end for window in HARD.practice)
        assert drawn.end - drawn.start <= COUNT // 2


MADE = market(*[(0.001 * (1 + at % 4), 0.001 * (1 + at % 3)) for at in range(9)])
HARD = make_stages([MADE], TWO_DAYS, COSTS)[2]


def test_every_window_to_practise_on_is_practised_on() -> None:
    practised, episode = practice_of([MADE], HARD, Episode(length=10))
    draws, rng = Draws(practised, episode, Randomisation()), np.random.default_rng(0)
    starts = {draws.draw(rng).start for _ in range(500)}
    for window in HARD.practice:
        assert {window.first, window.end - 11} <= starts  # the first candle, and the last with ten more behind it


def test_a_history_keeps_its_own_starts() -> None:
    before = MADE.starts.copy()
    practice_of([MADE], HARD, Episode(length=10))
    np.testing.assert_array_equal(MADE.starts, before)


def test_a_symbol_without_a_window_in_the_stage_is_not_practised_on() -> None:
    other = market((0.003, 0.001), symbol=ETH)
    practised, _ = practice_of(
        [other, MADE], replace(HARD, practice=tuple(replace(w, history=1) for w in HARD.practice)), Episode()
    )
    assert [made.symbol for made in practised] == [BTC]


def test_a_window_that_scores_has_the_same_features_as_the_whole_history() -> None:
    (held,) = held_of([MADE], HARD, 48)
    (window,) = HARD.held
    assert len(held.starts) == COUNT
    assert held.table.open_ms[held.starts].tolist() == MADE.table.open_ms[window.first : window.end].tolist()
    alone, whole = held.rows.values, MADE.rows.values  # noqa: PD011 - no pandas
    assert alone[held.starts].tobytes() == whole[window.first : window.end].tobytes()


def test_windows_of_one_symbol_are_scored_side_by_side() -> None:
    from training.validation import validate  # noqa: PLC0415

    stage = replace(HARD, held=HARD.windows)
    setup = setup_of([MADE.table], Conditions(), "test")
    score = validate(lambda seen: np.tile(np.float32([1, 1, 1]), (len(seen), 1)), held_of([MADE], stage, 48), setup)
    assert score.trades >= len(stage.windows)
    assert score.actions == {"buy": 1.0, "sell": 0.0, "hold": 0.0}


# ---- settings ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"days": 1}, "days 1: give a whole number within 2"),
        ({"move_days": 0}, "move_days 0: give a whole number within 1"),
        ({"tries": 0}, "tries 0"),
        ({"thresholds": (0.5, 1.0)}, "give one for each of easy, medium, hard"),
        ({"thresholds": (0.5, 1.0, math.nan)}, "threshold hard nan: give a number"),
        ({"held": 1.0}, "held 1.0"),
        ({"share": 0.0}, "share 0.0"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, object], told: str) -> None:
    with pytest.raises(TrainingError, match=told):
        Curriculum(**changes)  # type: ignore[arg-type]


def test_a_try_takes_its_part_of_the_steps() -> None:
    assert Curriculum().steps_of_a_try(180_000) == 10_000  # half of all for three stages with three tries each
    with pytest.raises(TrainingError, match=r"--steps 300: .* leaves 16 steps for a try, 20 are the least"):
        Curriculum().steps_of_a_try(300)


def test_weekly_candles_are_refused() -> None:
    table = history(10)
    weekly = CandleTable(
        symbol=BTC,
        timeframe=Timeframe.parse("1w"),
        open_ms=table.open_ms * 168 // HOUR_MS * HOUR_MS,
        values=table.values,
    )
    with pytest.raises(TrainingError, match="candles of 1w do not divide a day"):
        windows_of([History(weekly, 48)], Curriculum(), COSTS)


def test_a_window_is_a_value() -> None:
    (first, *_), (again, *_) = windows_of([MADE], TWO_DAYS, COSTS), windows_of([MADE], TWO_DAYS, COSTS)
    assert isinstance(first, Window)
    assert first == again
