import importlib.util
import sys
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategy import features
from strategy.candle import Timeframe
from strategy.candle_table import CandleTable, parse_csv
from strategy.errors import InvalidCandle
from strategy.features import (
    FEATURE_HASH,
    FEATURE_NAMES,
    HORIZONS,
    KERNEL_VERSION,
    N_FEATURES,
    TREND_MEANS,
    WINDOW,
    ComputedFeatures,
    FeatureWindow,
    compute,
)
from tests.fakes.tables import computed, exactly, known_table, nth, streamed, wild_tables
from tests.fakes.trading import HOUR_MS, candle, random_table

RecordedCandles = Callable[[str], Path]
ANY_GAP = 10**6


@pytest.fixture(scope="module")
def bitcoin(recorded_candles: RecordedCandles) -> CandleTable:
    path = recorded_candles("binance/btcusdt-1h.csv.gz")
    return parse_csv(path.read_bytes(), name=path.name, symbol="BTC/USDT", timeframe=Timeframe.parse("1h"))


def part(table: CandleTable, first: int, last: int) -> CandleTable:
    return replace(table, open_ms=table.open_ms[first:last], values=table.values[first:last])


# ---- one kernel in two forms --------------------------------------------------------------------------------------
@pytest.mark.fault(4)
@settings(max_examples=30, deadline=None)
@given(wild_tables(), st.integers(0, 4))
def test_array_and_streaming_form_agree_on_every_bit(table: CandleTable, max_missing: int) -> None:
    assert exactly(streamed(table, max_missing)) == exactly(computed(table, max_missing))


@pytest.mark.soak
@settings(max_examples=800, deadline=None)
@given(wild_tables(longest=WINDOW + 400), st.integers(0, 4))
def test_array_and_streaming_form_agree_on_every_bit_of_many_tables(table: CandleTable, max_missing: int) -> None:
    assert exactly(streamed(table, max_missing)) == exactly(computed(table, max_missing))


def test_streaming_stays_equal_after_its_rings_have_turned_over_many_times() -> None:
    table = random_table(4 * WINDOW, seed=5, gaps=(100, 4_000))
    window = FeatureWindow(ANY_GAP)
    for index in range(len(table) - 300):
        window.push(table.candle(index))
    tail = [window.update(table.candle(index)) for index in range(len(table) - 300, len(table))]
    assert exactly(tail) == exactly(computed(table, ANY_GAP))[-300:]


# Each slice starts where streaming starts: at the first candle, on the crash of March 2020, before gaps, at the end.
@pytest.mark.parametrize("first", [0, 1_234, 8_500, 20_000, 33_333, 44_300])
def test_streaming_any_slice_of_recorded_candles_equals_the_whole_history_at_once(
    bitcoin: CandleTable, first: int
) -> None:
    whole = compute(bitcoin.open_ms, bitcoin.values, HOUR_MS, max_missing=48)
    last = first + WINDOW + 150
    stream = exactly(streamed(part(bitcoin, first, last), 48))[WINDOW - 1 :]
    rows = ComputedFeatures(whole, first + WINDOW - 1)
    assert len(stream) > 150
    assert stream == exactly([rows.update(bitcoin.candle(i)) for i in range(first + WINDOW - 1, last)])


@pytest.mark.soak
def test_streaming_all_recorded_candles_equals_the_array_form(bitcoin: CandleTable) -> None:
    assert exactly(streamed(bitcoin, 48)) == exactly(computed(bitcoin, 48))


# ---- the window ---------------------------------------------------------------------------------------------------
@settings(max_examples=12, deadline=None)
@given(wild_tables(shortest=WINDOW + 100, longest=WINDOW + 300), st.data())
def test_starting_anywhere_gives_the_same_rows(table: CandleTable, data: st.DataObject) -> None:
    first = data.draw(st.integers(1, len(table) - WINDOW))
    expected = exactly(computed(table, ANY_GAP))[first + WINDOW - 1 :]
    later = part(table, first, len(table))
    assert exactly(computed(later, ANY_GAP)) == [None] * (WINDOW - 1) + expected
    assert exactly(streamed(later, ANY_GAP)) == [None] * (WINDOW - 1) + expected


@pytest.mark.parametrize("count", [1, 2, 24, 2_048, WINDOW - 1, WINDOW, WINDOW + 1])
def test_the_first_row_comes_with_the_last_candle_of_the_window(count: int) -> None:
    table = random_table(count)
    expected = [False] * min(count, WINDOW - 1) + [True] * max(0, count - WINDOW + 1)
    assert [row is not None for row in streamed(table, 0)] == expected
    assert compute(table.open_ms, table.values, HOUR_MS, 0).is_valid.tolist() == expected


# (candles before which some are missing, how many, limit) -> the rows that are refused, counted by hand: a window ends
# at its row and holds the 2,400 candles before it, and a gap lies in it while both of the gap's neighbours do.
GAPS = [
    pytest.param({11: 3}, 3, [], id="as many as allowed"),
    pytest.param({11: 3}, 2, range(2_400, 2_411), id="one too many until the gap has left"),
    pytest.param({2_401: 1}, 0, range(2_401, 2_460), id="just before the second row"),
    pytest.param({2_459: 5}, 4, [2_459], id="just before the last row"),
    pytest.param({5: 2, 9: 2}, 3, range(2_400, 2_405), id="two gaps count together"),
    pytest.param({5: 2, 9: 2}, 1, range(2_400, 2_409), id="each gap is too much"),
    pytest.param({5: 2, 9: 2}, 4, [], id="two gaps within the limit"),
    pytest.param({1: 1_000}, 0, [2_400], id="the first move of the first window"),
    pytest.param({0: 1_000}, 0, [], id="before the history"),
]


@pytest.mark.fault(4)
@pytest.mark.parametrize(("gaps", "max_missing", "refused"), GAPS)
def test_a_window_that_lacks_more_candles_than_allowed_has_no_row(
    gaps: dict[int, int], max_missing: int, refused: range
) -> None:
    table = random_table(2_460)
    open_ms = table.open_ms.copy()
    for index, missing in gaps.items():
        open_ms[index:] += missing * HOUR_MS
    table = replace(table, open_ms=open_ms)
    expected = [i for i in range(2_400, 2_460) if i not in refused]
    assert np.flatnonzero(compute(table.open_ms, table.values, HOUR_MS, max_missing).is_valid).tolist() == expected
    assert [i for i, row in enumerate(streamed(table, max_missing)) if row is not None] == expected


def test_a_window_says_how_many_candles_it_still_needs() -> None:
    window, needed = FeatureWindow(0), []
    for each in random_table(WINDOW + 2).candles():
        needed.append(window.missing_until_full)
        window.push(each)
    assert needed == [*range(2_401, 0, -1), 0, 0]


def test_no_history_has_no_rows() -> None:
    table = compute(np.zeros(0, np.int64), np.zeros((0, 5)), HOUR_MS, 0)
    assert (table.values.shape, table.context.shape, table.is_valid.shape) == ((0, 54), (0, 4), (0,))


# ---- what is refused ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("offset", [0, -1, -2_400])
def test_a_candle_that_does_not_follow_is_refused_and_named(offset: int) -> None:
    window = FeatureWindow(0)
    for at in range(2_400, 2_450):
        window.push(candle(at=at))
    with pytest.raises(InvalidCandle, match=rf"BTC/USDT candle at {(2_449 + offset) * HOUR_MS} .* {2_449 * HOUR_MS}"):
        window.push(candle(at=2_449 + offset))
    with pytest.raises(InvalidCandle):
        window.update(candle(at=2_449 + offset))


def test_a_refused_candle_leaves_the_window_as_it_was() -> None:
    table = random_table(WINDOW + 5, start=1)
    window = FeatureWindow(0)
    for each in part(table, 0, WINDOW).candles():
        window.push(each)
    with pytest.raises(InvalidCandle):
        window.push(candle(at=0))
    rows = [window.update(each) for each in part(table, WINDOW, WINDOW + 5).candles()]
    assert exactly(rows) == exactly(computed(table, 0))[WINDOW:]


@pytest.mark.fault(7)
@pytest.mark.fault(55)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf], ids=str)
@pytest.mark.parametrize("column", range(5), ids=["open", "high", "low", "close", "volume"])
@pytest.mark.parametrize("row", [0, 17, 2_400, 2_409])
def test_a_number_that_is_not_finite_is_refused_with_the_time_of_its_candle(bad: float, column: int, row: int) -> None:
    table = random_table(WINDOW + 9)
    values = table.values.copy()
    values[row, column] = bad
    with pytest.raises(InvalidCandle, match=rf"candle at {row * HOUR_MS} .*{bad}"):
        compute(table.open_ms, values, HOUR_MS, 0)


@pytest.mark.filterwarnings("ignore:overflow encountered", "ignore:invalid value", "ignore:divide by zero")
@pytest.mark.parametrize("factor", [1e-317, 1.5e306], ids=["too small to have a range", "too large to be added up"])
def test_prices_beyond_arithmetic_are_refused_by_both_forms(factor: float) -> None:
    table = random_table(WINDOW)
    values = table.values.copy()
    values[:, :4] = 100.0 * factor
    table = replace(table, values=values)
    with pytest.raises(InvalidCandle, match=f"candle at {2_400 * HOUR_MS} are not finite"):
        compute(table.open_ms, table.values, HOUR_MS, 0)
    with pytest.raises(InvalidCandle, match=f"BTC/USDT candle at {2_400 * HOUR_MS} are not finite"):
        streamed(table, 0)


def test_computed_rows_are_handed_out_only_for_the_next_candle_of_their_history() -> None:
    table = random_table(WINDOW + 3)
    rows = compute(table.open_ms, table.values, HOUR_MS, 0)
    features_of = ComputedFeatures(rows, WINDOW - 1)
    assert features_of.update(table.candle(WINDOW - 1)) is not None
    with pytest.raises(InvalidCandle, match=f"candle at {2_402 * HOUR_MS} is not the next one"):
        features_of.update(table.candle(WINDOW + 1))
    features_of.push(table.candle(WINDOW))
    features_of.seek(len(table) - 1)
    last = features_of.update(table.candle(-1))
    assert last is not None
    assert last.values.tobytes() == rows.values[-1].tobytes()
    with pytest.raises(InvalidCandle, match="is not the next one"):
        features_of.update(nth(table, -1, open_ms=10**6 * HOUR_MS))


# ---- scale and bounds ---------------------------------------------------------------------------------------------
@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1_000.0, 1e-3, 7.0]), st.sampled_from([1e-3, 1e4, 0.3]))
def test_features_do_not_depend_on_the_units_of_price_and_volume(seed: int, price: float, volume: float) -> None:
    table = random_table(WINDOW + 40, seed=seed)
    scaled = table.values * np.array([price, price, price, price, volume])
    np.testing.assert_allclose(rows_of(table.open_ms, scaled), rows_of(table.open_ms, table.values), rtol=0, atol=1e-6)


def test_features_of_recorded_candles_do_not_depend_on_units(bitcoin: CandleTable) -> None:
    scaled = bitcoin.values * np.array([1e3, 1e3, 1e3, 1e3, 1e-3])
    expected = rows_of(bitcoin.open_ms, bitcoin.values)
    np.testing.assert_allclose(rows_of(bitcoin.open_ms, scaled), expected, rtol=0, atol=1e-6)


def rows_of(open_ms: np.ndarray, values: np.ndarray) -> np.ndarray:
    return compute(open_ms, values, HOUR_MS, ANY_GAP).values[WINDOW - 1 :]


@settings(max_examples=60, deadline=None)
@given(wild_tables(shortest=WINDOW))
def test_every_feature_is_finite_and_bounded_whatever_the_market_does(table: CandleTable) -> None:
    assert_bounded(rows_of(table.open_ms, table.values))


@pytest.mark.parametrize("name", ["btcusdt-1h", "ltcusdt-1h", "ethusdt-1m-202104"])
def test_every_feature_of_recorded_candles_is_bounded(recorded_candles: RecordedCandles, name: str) -> None:
    path = recorded_candles(f"binance/{name}.csv.gz")
    table = parse_csv(path.read_bytes(), name=path.name, symbol="A/B", timeframe=None)
    assert_bounded(compute(table.open_ms, table.values, table.timeframe.span_ms, ANY_GAP).values[WINDOW - 1 :])


def assert_bounded(rows: np.ndarray) -> None:
    assert len(rows)
    assert np.isfinite(rows).all()
    for name, largest in zip(FEATURE_NAMES, np.abs(rows).max(axis=0), strict=True):
        assert largest <= np.float32(1.2 if name.startswith("echo") else 1.0), name


def test_echo_stays_bounded_after_a_jump_has_left_the_window_of_squares() -> None:
    # One return of +50 % followed by one of 1 %: 96 candles later their product is still in the sum of products,
    # the 50 % is no longer in the sum of squares. 0.5 * 0.01 / (0.01**2 + nearly nothing) is about 50.
    table = random_table(WINDOW + 200)
    moves = np.full(len(table), 1e-6)
    moves[WINDOW], moves[WINDOW + 1] = 0.5, 0.01
    close = 100.0 * np.cumprod(1.0 + moves)
    table = replace(table, values=np.stack([close, close, close, close, np.ones(len(close))], axis=1))
    echo = computed(table, 0)[WINDOW + 96]
    assert echo is not None
    assert echo.values[FEATURE_NAMES.index("echo_96")] == np.float32(1.2)


def test_a_market_without_any_movement_has_a_row_of_zeros_and_edges() -> None:
    rows = computed(flat_table(), 0)
    assert rows[-1] is not None
    values = dict(zip(FEATURE_NAMES, rows[-1].values.tolist(), strict=True))
    edges = {f"rise_share_{n}": -1.0 for n in HORIZONS}  # no rise at all
    edges |= {f"above_{n}": -1.0 for n in TREND_MEANS}  # at its mean is not above it
    assert values == pytest.approx(dict.fromkeys(FEATURE_NAMES, 0.0) | edges, abs=1e-6)


def flat_table() -> CandleTable:
    table = random_table(WINDOW)
    return replace(table, values=np.tile([5.0, 5.0, 5.0, 5.0, 2.0], (WINDOW, 1)))


# ---- version and hash ---------------------------------------------------------------------------------------------
DIGESTS = {
    1: "3fec2a9efc4eac722d9a750333bd31ed302a87354d822237e5183965651d4b7a",
    2: "113bc177b4ce6d0c1414906268ace203d0a2a5b01fa01210611ccb23a53de2bb",
}


def test_the_bytes_of_a_known_history_change_only_with_the_kernel_version() -> None:
    table = known_table(WINDOW + 100)
    rows = compute(table.open_ms, table.values, HOUR_MS, 0)
    digest = sha256(rows.values[WINDOW - 1 :].tobytes() + rows.context[WINDOW - 1 :].tobytes()).hexdigest()
    assert KERNEL_VERSION in DIGESTS, f"add the digest of kernel version {KERNEL_VERSION} here: {digest}"
    assert digest == DIGESTS[KERNEL_VERSION], (
        f"the same candles now give other features ({digest}): raise KERNEL_VERSION in strategy/features.py, add the "
        "digest here under the new version; every bundle must then be trained again"
    )


def test_the_history_of_the_digest_is_known_to_the_last_bit() -> None:
    # Worked out once with integers: state 1 is (20171217 a + c) mod 2**64, of which the top 53 bits are used.
    first = (20_171_217 * 6_364_136_223_846_793_005 + 1_442_695_040_888_963_407) % 2**64 >> 11
    assert known_table(1).values[0, 3] == 19_798.68 * (1.0 + 0.04 * (first / 2**53 - 0.498))


def changed(monkeypatch: pytest.MonkeyPatch, old: str, new: str) -> ModuleType:
    """Return the kernel module with one text in its source changed."""
    source = Path(features.__file__).read_text(encoding="utf-8")
    assert old in source
    spec = importlib.util.spec_from_loader("changed_features", loader=None)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "changed_features", module)
    exec(compile(source.replace(old, new), "changed_features", "exec"), module.__dict__)  # noqa: S102 - our own source
    return module


def test_the_same_source_has_the_same_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    assert changed(monkeypatch, "KERNEL_VERSION", "KERNEL_VERSION").FEATURE_HASH == FEATURE_HASH


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param('"candle_range"', '"candle_span"', id="a name"),
        pytest.param("(24, 96, 384, 1200, 2400)", "(24, 96, 384, 1201, 2400)", id="a horizon"),
        pytest.param("(24, 96, 384, 1200, 2400)", "(24, 96, 384, 1200, 2400, 2401)", id="one more horizon"),
        pytest.param("SHORT_HORIZONS = (1, 4)", "SHORT_HORIZONS = (1, 5)", id="a short horizon"),
        pytest.param("KERNEL_VERSION = 2", "KERNEL_VERSION = 3", id="the version"),
        pytest.param("MEANS = (240, 600)", "MEANS = (240, 601)", id="a mean"),
        pytest.param('features["rise_2400"] = ', "_ = ", id="one feature less"),
    ],
)
def test_the_hash_changes_with(monkeypatch: pytest.MonkeyPatch, old: str, new: str) -> None:
    assert changed(monkeypatch, old, new).FEATURE_HASH != FEATURE_HASH


def test_the_schema_names_what_a_row_holds() -> None:
    assert N_FEATURES == len(FEATURE_NAMES) == len(set(FEATURE_NAMES)) == 54
    assert features.FEATURE_SCHEMA["names"] == list(FEATURE_NAMES)
    assert features.FEATURE_SCHEMA["window"] == 2_401
