"""Drift: its figures by hand, what moves them and what must not, its memory, and what recorded candles show."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from strategy.candle import Timeframe
from strategy.candle_table import CandleTable, parse_csv
from strategy.drift import Drift, is_beyond
from strategy.errors import BadState
from strategy.features import FEATURE_NAMES, N_FEATURES, FeatureTable, compute
from strategy.trader import Reference

HOUR_MS = 3_600_000
NORMAL = Reference.of([0.0, 0.0], [1.0, 1.0], 1.8)
TRIGGER, LIMIT = 0.12, 0.15
"""What docs/drift.md recommends for a half-life of 720 candles."""

Rows = Sequence[NDArray[np.float32]]


def row(*values: float) -> NDArray[np.float32]:
    return np.array(values, np.float32)


def told(drift: Drift, *times: Rows) -> Drift:
    for rows in times:
        drift.update(rows)
    return drift


# ---- the figures ------------------------------------------------------------------------------------------------
def test_a_beginning_is_no_drift() -> None:
    assert Drift(NORMAL, 720).features.tolist() == [0.0, 0.0]


def test_after_one_half_life_the_average_is_half_way() -> None:
    drift = told(Drift(NORMAL, 30), *[[row(3.0, 0.0)]] * 30)
    # Squares of 9 and 0 from 1: averages of 5 and 0.5, shares 4 / 9 and 0.5 / 4.5.
    assert drift.features == pytest.approx([4.0 / 9.0, 1.0 / 9.0], rel=1e-12)


def test_the_joint_figure_is_the_root_mean_square_of_the_features() -> None:
    drift = told(Drift(NORMAL, 30), *[[row(3.0, 0.0)]] * 30)
    assert drift.joint == pytest.approx(math.sqrt((16.0 / 81.0 + 1.0 / 81.0) / 2.0), rel=1e-12)


def test_distances_are_told_in_the_spread_of_the_training() -> None:
    reference = Reference.of([10.0, -4.0], [2.0, 0.5], 1.8)
    drift = told(Drift(reference, 30), *[[row(16.0, -4.0)]] * 30)  # three spreads above, and at the mean
    assert drift.features == pytest.approx([4.0 / 9.0, 1.0 / 9.0], rel=1e-6)


def test_an_open_time_counts_once_however_many_symbols_it_has() -> None:
    one = told(Drift(NORMAL, 30), [row(2.0, 1.0)])
    many = told(Drift(NORMAL, 30), [row(math.sqrt(8.0), 1.0), row(0.0, -1.0)])  # (8 + 0) / 2 = 4 = 2 squared
    assert many.features == pytest.approx(one.features, rel=1e-6)


def test_a_time_without_rows_changes_nothing() -> None:
    drift = told(Drift(NORMAL, 30), [row(2.0, 1.0)])
    before = drift.state()
    drift.update([])
    assert drift.state() == before


@pytest.mark.parametrize(("half_life", "first"), [(10, 1), (720, 72), (725, 73)])
def test_nothing_is_known_jointly_before_a_tenth_of_the_half_life(half_life: int, first: int) -> None:
    drift = told(Drift(NORMAL, half_life), *[[row(3.0, 3.0)]] * (first - 1))
    assert drift.joint is None
    drift.update([row(3.0, 3.0)])
    assert drift.joint is not None


_squares = st.lists(st.lists(st.floats(-30.0, 30.0, width=32), min_size=1, max_size=3), min_size=1, max_size=40)


@given(_squares, st.integers(1, 50))
def test_the_average_is_that_of_all_weights_written_out(times: list[list[float]], half_life: int) -> None:
    drift = told(Drift(NORMAL, half_life), *[[row(value, 0.0) for value in values] for values in times])
    keep = 0.5 ** (1.0 / half_life)
    seen = [sum(value * value for value in values) / len(values) for values in times]
    weighted = [(1.0 - keep) * keep ** (len(seen) - 1 - k) * mean for k, mean in enumerate(seen)]
    square = keep ** len(seen) + math.fsum(weighted)  # before them it was 1 for ever
    assert drift.features[0] == pytest.approx(abs((square - 1.0) / (square + 4.0)), rel=1e-9, abs=1e-12)


# ---- what moves it, and what must not ---------------------------------------------------------------------------
def test_a_slow_feature_on_one_side_for_a_year_is_no_drift() -> None:
    drift = told(Drift(NORMAL, 720), *[[row(1.0, -1.0)]] * 8_760)
    assert drift.features == pytest.approx([0.0, 0.0], abs=1e-12)
    assert drift.joint == pytest.approx(0.0, abs=1e-12)


def test_rows_as_in_training_are_no_drift_whether_they_change_quickly_or_slowly() -> None:
    rng = np.random.default_rng(7)
    drift, slow, total = Drift(NORMAL, 720), 0.0, np.zeros(2)
    for _ in range(60_000):
        slow = 0.999 * slow + math.sqrt(1.0 - 0.999**2) * float(rng.standard_normal())  # variance 1, time 1,000
        drift.update([row(float(rng.standard_normal()), slow)])
        squares = np.array(drift.state()["squares"])
        total += squares
    # 60,000 correlated squares: spread of their mean about sqrt(2 x 2,000 / 60,000) = 0.26 for the slow one.
    assert total / 60_000 == pytest.approx([1.0, 1.0], abs=0.3)


def test_a_feature_that_stands_still_at_its_mean_comes_to_a_quarter() -> None:
    drift = told(Drift(NORMAL, 30), *[[row(0.0, 1.0)]] * 3_000)
    assert drift.features == pytest.approx([0.25, 0.0], abs=1e-9)


@given(st.lists(st.floats(-(2.0**50), 2.0**50, width=32), min_size=2, max_size=2), st.integers(1, 200))
def test_whatever_comes_the_figures_stay_finite_and_within_one(values: list[float], count: int) -> None:
    drift = told(Drift(NORMAL, 10), *[[row(*values)]] * count)
    assert ((drift.features >= 0.0) & (drift.features <= 1.0)).all()
    assert drift.joint is not None
    assert 0.0 <= drift.joint <= 0.5


def test_one_feature_however_far_out_does_not_look_like_a_broad_change() -> None:
    reference = Reference.of([0.0] * N_FEATURES, [1.0] * N_FEATURES, 1.8)
    one = row(*[1.0] * (N_FEATURES - 1), 1e6)
    few = row(*[1.0] * (N_FEATURES - 5), *[1e6] * 5)
    assert told(Drift(reference, 10), *[[one]] * 100).joint == pytest.approx(0.5 / math.sqrt(54.0), rel=1e-6)
    assert 0.5 / math.sqrt(54.0) < TRIGGER
    assert told(Drift(reference, 10), *[[few]] * 100).joint == pytest.approx(0.5 * math.sqrt(5.0 / 54.0), rel=1e-6)


def test_every_feature_somewhat_farther_out_does() -> None:
    reference = Reference.of([0.0] * N_FEATURES, [1.0] * N_FEATURES, 1.8)
    # One and a half times as far: squares of 2.25, shares of 1.25 / 6.25.
    drift = told(Drift(reference, 10), *[[row(*[1.5] * N_FEATURES)]] * 400)
    assert drift.joint == pytest.approx(0.2, rel=1e-6)
    assert drift.joint > LIMIT


# ---- memory -----------------------------------------------------------------------------------------------------
@given(
    st.lists(st.tuples(*[st.floats(-30.0, 30.0, width=32)] * 2), min_size=1, max_size=60),
    st.integers(0, 60),
    st.integers(1, 100),
)
def test_a_restart_changes_no_bit(times: list[tuple[float, float]], at: int, half_life: int) -> None:
    whole, part, again = Drift(NORMAL, half_life), Drift(NORMAL, half_life), Drift(NORMAL, half_life)
    told(whole, *[[row(*values)] for values in times])
    told(part, *[[row(*values)] for values in times[:at]])
    again.restore(json.loads(json.dumps(part.state(), sort_keys=True)))
    told(again, *[[row(*values)] for values in times[at:]])
    assert again.state() == whole.state()
    assert (again.features.tobytes(), again.joint) == (whole.features.tobytes(), whole.joint)


def test_a_state_read_back_is_not_the_one_it_was_read_from() -> None:
    drift = told(Drift(NORMAL, 10), [row(2.0, 2.0)])
    stored = drift.state()
    told(drift, [row(9.0, 9.0)])
    again = Drift(NORMAL, 10)
    again.restore(stored)
    told(again, [row(0.0, 0.0)])
    assert stored == told(Drift(NORMAL, 10), [row(2.0, 2.0)]).state()


def test_another_training_forgets_everything() -> None:
    drift = told(Drift(NORMAL, 10), *[[row(3.0, 3.0)]] * 20)
    other = Reference.of([3.0, 3.0], [2.0, 2.0], 1.8)
    drift.begin(other)
    assert drift.joint is None
    assert drift.state() == Drift(other, 10).state()
    assert told(drift, *[[row(3.0, 3.0)]] * 10).features == pytest.approx([0.5 / 4.5] * 2, rel=1e-6)  # now at the mean


@pytest.mark.parametrize(
    "stored",
    [
        {},
        {"count": 3},
        {"count": 1.5, "squares": [1.0, 1.0]},
        {"count": True, "squares": [1.0, 1.0]},
        {"count": -1, "squares": [1.0, 1.0]},
        {"count": 3, "squares": [1.0]},
        {"count": 3, "squares": [1.0, math.nan]},
        {"count": 3, "squares": [1.0, math.inf]},
        {"count": 3, "squares": [1.0, -0.5]},
        {"count": 3, "squares": [1.0, "x"]},
        {"count": 3, "squares": [[1.0], 1.0]},
        {"count": 3, "squares": None},
        None,
    ],
    ids=repr,
)
def test_a_state_stored_by_something_else_is_refused_and_changes_nothing(stored: Any) -> None:
    drift = told(Drift(NORMAL, 10), [row(2.0, 2.0)])
    before = drift.state()
    with pytest.raises(BadState, match="stored drift"):
        drift.restore(stored)
    assert drift.state() == before


# ---- the limit --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("joint", "limit", "was", "beyond"),
    [
        (0.2001, 0.2, False, True),
        (0.2, 0.2, False, False),
        (0.19, 0.2, True, True),
        (0.181, 0.2, True, True),
        (0.179, 0.2, True, False),
        (0.179, 0.2, False, False),
        (None, 0.2, False, False),
        (None, 0.2, True, False),
        (0.5, 0.0, True, False),
        (0.5, 0.0, False, False),
    ],
)
def test_the_market_is_back_only_well_within_the_limit(
    joint: float | None, limit: float, *, was: bool, beyond: bool
) -> None:
    assert is_beyond(joint, limit, was=was) is beyond


# ---- recorded candles -------------------------------------------------------------------------------------------
def between(table: CandleTable, first: str, end: str) -> CandleTable:
    """Return the candles of [first, end), and those before them that fill the first window."""
    start, stop = np.searchsorted(table.open_ms, [_ms(first), _ms(end)])
    part = slice(max(0, int(start) - 2_400), int(stop))
    return CandleTable(
        symbol=table.symbol, timeframe=table.timeframe, open_ms=table.open_ms[part], values=table.values[part]
    )


def _ms(day: str) -> int:
    return int(np.datetime64(day, "ms").astype(np.int64))


def rows_of(table: CandleTable, values: NDArray[np.float64] | None = None) -> FeatureTable:
    return compute(table.open_ms, table.values if values is None else values, HOUR_MS, 48)


def joints(reference: Reference, *tables: FeatureTable) -> list[float]:
    """Return the joint drift after every candle time on which it is known."""
    drift, known = Drift(reference, 720), []
    for index in np.flatnonzero(np.logical_and.reduce([table.is_valid for table in tables])).tolist():
        drift.update([table.values[index] for table in tables])
        if drift.joint is not None:
            known.append(drift.joint)
    return known


@pytest.fixture(scope="module")
def shipped() -> Reference:
    """Return where the candles lie that the ensemble in the repository was trained on."""
    manifest = Path(__file__).resolve().parents[2] / "models" / "current" / "manifest.json"
    known = json.loads(manifest.read_text(encoding="utf-8"))["reference"]
    assert len(known["mean"]) == len(FEATURE_NAMES)
    return Reference.of(known["mean"], known["std"], known["limit"])


@pytest.fixture(scope="module")
def year(recorded_candles: Callable[[str], Path]) -> list[CandleTable]:
    """Return the candles of 2020 of the two symbols that the shipped configuration trades."""
    tables = []
    for symbol, name in (("BTC/USDT", "btcusdt-1h.csv.gz"), ("ETH/USDT", "ethusdt-1h.csv.gz")):
        data = recorded_candles(f"binance/{name}").read_bytes()
        table = parse_csv(data, name=name, symbol=symbol, timeframe=Timeframe.parse("1h"))
        tables.append(between(table, "2020-01-01", "2021-01-01"))
    return tables


def test_a_year_of_the_training_candles_is_no_drift(shipped: Reference, year: list[CandleTable]) -> None:
    known = joints(shipped, *[rows_of(table) for table in year])
    assert len(known) > 8_000
    assert max(known) < TRIGGER


def test_a_volume_that_is_told_no_more_asks_for_a_retraining(shipped: Reference, year: list[CandleTable]) -> None:
    dead = []
    for table in year:
        values = table.values.copy()
        values[2_400:, 4] = 1.0
        dead.append(rows_of(table, values))
    known = joints(shipped, *dead)
    first = next(i for i, joint in enumerate(known) if joint > TRIGGER)
    assert 500 < first + 72 < 720  # docs/drift.md: 617


def test_five_times_the_volatility_ends_buying(shipped: Reference, year: list[CandleTable]) -> None:
    wild = [rows_of(table, _scaled(table.values, 2_400, 5.0)) for table in year]
    known = joints(shipped, *wild)
    first = next(i for i, joint in enumerate(known) if joint > LIMIT)
    assert 1_080 < first + 72 < 1_300  # docs/drift.md: 1,186


def _scaled(values: NDArray[np.float64], first: int, times: float) -> NDArray[np.float64]:
    """Return candles whose changes of the log price are `times` as large from candle `first` on."""
    logs = np.log(values[:, :4])
    before = np.concatenate([logs[:1, 3], logs[:-1, 3]])
    steps = (logs - before[:, None]) * np.where(np.arange(len(values)) >= first, times, 1.0)[:, None]
    close = logs[0, 3] + np.concatenate([[0.0], np.cumsum(steps[1:, 3])])
    scaled = values.copy()
    scaled[:, :4] = np.exp(np.concatenate([logs[:1, 3], close[:-1]])[:, None] + steps)
    return scaled
