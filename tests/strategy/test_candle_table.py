import csv
import gzip
import io
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategy.candle import Candle, Timeframe
from strategy.candle_table import CandleTable, format_csv, from_columns, infer_timeframe, parse_csv
from strategy.errors import InvalidCandle

HOUR = 3_600_000
T0 = 1_600_002_000_000 // HOUR * HOUR
H1 = Timeframe.parse("1h")
HEADER = "timestamp_ms,open,high,low,close,volume"
RECORDED = Path(__file__).parents[3] / "shared" / "data" / "binance" / "btcusdt-1h.csv.gz"


def rows(count: int) -> list[str]:
    return [f"{T0 + at * HOUR},10,12,9,11,{at + 1}.5" for at in range(count)]


def text(*lines: str, header: str = HEADER) -> bytes:
    return "\n".join([header, *lines, ""]).encode()


def parse(data: bytes, timeframe: Timeframe | None = H1) -> CandleTable:
    return parse_csv(data, name="btc.csv", symbol="BTC/USDT", timeframe=timeframe)


def changed(line: int, field: int, value: str, count: int = 5) -> bytes:
    """A sound file of which one field is replaced; line as an editor counts, the header is 1."""
    lines = rows(count)
    fields = lines[line - 2].split(",")
    fields[field] = value
    lines[line - 2] = ",".join(fields)
    return text(*lines)


def recorded() -> bytes:
    if not RECORDED.exists():
        if os.environ.get("CI") == "true":
            pytest.fail(f"recorded candles are missing: {RECORDED}")
        pytest.skip("recorded candles are not here: ../shared/data/binance/btcusdt-1h.csv.gz")
    return RECORDED.read_bytes()


# ---- what is read -----------------------------------------------------------------------------------------------
def test_columns_may_stand_in_any_order() -> None:
    table = parse(f"volume,close,timestamp_ms,low,high,open\n5,11,{T0},9,12,10\n".encode())
    assert table.open_ms.tolist() == [T0]
    assert table.values.tolist() == [[10.0, 12.0, 9.0, 11.0, 5.0]]


@pytest.mark.parametrize(
    "data",
    [
        text(*rows(3)),
        text(*rows(3)).rstrip(b"\n"),
        text(*rows(3)).replace(b"\n", b"\r\n"),
        b"\xef\xbb\xbf" + text(*rows(3)),
        text(*rows(3)).replace(b",", b", "),
        gzip.compress(text(*rows(3))),
        gzip.compress(text(*rows(1))) + gzip.compress("\n".join([*rows(3)[1:], ""]).encode()),
    ],
    ids=["plain", "no-last-newline", "crlf", "byte-order-mark", "spaces", "gzip", "gzip-in-two-members"],
)
def test_the_same_candles_in_any_dress(data: bytes) -> None:
    table = parse(data)
    assert table.open_ms.tolist() == [T0, T0 + HOUR, T0 + 2 * HOUR]
    assert table.values.tolist() == [[10.0, 12.0, 9.0, 11.0, at + 1.5] for at in range(3)]


@given(
    st.lists(st.floats(min_value=5e-324, max_value=1e308), min_size=1, max_size=20), st.sampled_from(["r", "e", "g"])
)
def test_numbers_are_read_as_float_reads_them(prices: list[float], style: str) -> None:
    written = [{"r": repr(p), "e": f"{p:.25e}", "g": f"{p:.3g}"}[style] for p in prices]
    written = [w for w in written if 0.0 < float(w) < float("inf")] or ["1"]
    table = parse(text(*(f"{T0 + at * HOUR},{w},{w},{w},{w},{w}" for at, w in enumerate(written))))
    assert table.values.tobytes() == np.array([[float(w)] * 5 for w in written]).tobytes()


def test_recorded_candles_are_read_as_the_csv_module_reads_them() -> None:
    data = recorded()
    table = parse(data, None)
    other = list(csv.DictReader(io.StringIO(gzip.decompress(data).decode())))
    assert table.timeframe == H1
    assert table.open_ms.tolist() == [int(row["timestamp_ms"]) for row in other]
    for at, column in enumerate(("open", "high", "low", "close", "volume")):
        assert table.values[:, at].tolist() == [float(row[column]) for row in other]


def test_gaps_of_recorded_candles_are_those_the_venue_had() -> None:
    # counted and timed in the description of the recordings, from the outages of the venue
    gaps = parse(recorded()).gaps()
    assert len(gaps) == 27
    assert sum(count for _, count in gaps) == 127
    assert gaps[2] == (1_518_051_600_000, 33)  # 2018-02-08 01:00, the hour after the last one present


def test_writing_what_was_read_gives_the_same_file() -> None:
    data = gzip.decompress(recorded())
    assert format_csv(parse(data)) == data


# ---- what is refused --------------------------------------------------------------------------------------------
BROKEN = {
    "missing-column": (text(*rows(2), header=HEADER.replace("low", "lo")), "line 1", "column low is missing", "add"),
    "unknown-column": (text(*(r + ",1" for r in rows(2)), header=HEADER + ",trades"), "line 1", "'trades'", "remove"),
    "column-twice": (text(*(r + ",1" for r in rows(2)), header=HEADER + ",low"), "line 1", "low stands", "keep one"),
    "no-header": ("\n".join(rows(2)).encode(), "line 1", "no header", "its first line"),
    "semicolons": (text(*rows(2)).replace(b",", b";"), "line 1", "is missing", "rename"),
    "empty": (b"", "line 1", "empty", "download"),
    "only-newlines": (b"\n\n", "line 1", "empty", "download"),
    "gzip-of-nothing": (gzip.compress(b""), "line 1", "empty", "download"),
    "header-only": (text(), "line 1", "no candle", "download"),
    "garbage": (b"\x00\xff\xfe rubbish", "line 1", "not text", "CSV"),
    "prose": (b"Lorem ipsum\ndolor sit amet\n", "line 1", "is missing", "add"),
    "binary-in-line-3": (text(*rows(3)).replace(b"2.5", b"\xff.5"), "line 3", "not text", "CSV"),
    "unordered": (text(rows(3)[0], rows(3)[2], rows(3)[1]), "line 4", "comes after", "sort"),
    "duplicate": (text(rows(3)[0], rows(3)[1], rows(3)[1]), "line 4", "twice", "keep one"),
    "nan": (changed(3, 4, "nan"), "line 3", "close 'nan'", "delete the row"),
    "infinity": (changed(4, 2, "inf"), "line 4", "high 'inf'", "delete the row"),
    "overflow": (changed(4, 5, "1e999"), "line 4", "volume inf is not a finite", "delete the row"),
    "empty-field": (changed(5, 3, ""), "line 5", "low is empty", "delete the row"),
    "word": (changed(2, 1, "ten"), "line 2", "open 'ten'", "delete the row"),
    "two-numbers": (changed(2, 1, "1 0"), "line 2", "open '1 0'", "delete the row"),
    "underscore": (changed(2, 1, "1_0"), "line 2", "open '1_0'", "delete the row"),
    "arabic-digits": (changed(2, 1, "\u0661\u0660"), "line 2", "open", "delete the row"),
    "time-with-fraction": (changed(3, 0, f"{T0 + HOUR}.0"), "line 3", "whole number of milliseconds", "delete the row"),
    "time-too-large": (changed(3, 0, "9" * 30), "line 3", "whole number of milliseconds", "delete the row"),
    "field-too-few": (text(rows(2)[0], f"{T0 + HOUR},10,12,9,11"), "line 3", "5 fields", "delete the row"),
    "field-too-many": (text(rows(2)[0], rows(2)[1] + ",7"), "line 3", "7 fields", "delete the row"),
    "cut-off-row": (text(*rows(3))[:-20], "line 4", "fields", "delete the row"),
    "blank-line": (text(rows(2)[0], "", rows(2)[1]), "line 3", "empty", "delete"),
    "high-below-low": (changed(3, 2, "8"), "line 3", "high 8.0 is below low 9.0", "delete the row"),
    "open-outside": (changed(3, 1, "13"), "line 3", "open 13.0 lies outside", "delete the row"),
    "close-outside": (changed(6, 4, "8"), "line 6", "close 8.0 lies outside", "delete the row"),
    "zero-price": (changed(3, 3, "0"), "line 3", "low 0.0 is not a price above 0", "delete the row"),
    "negative-price": (changed(3, 1, "-10"), "line 3", "open -10.0 is not a price above 0", "delete the row"),
    "negative-volume": (changed(3, 5, "-1"), "line 3", "volume -1.0 is below 0", "delete the row"),
    "off-grid": (changed(3, 0, str(T0 + HOUR + 1)), "line 3", "not a multiple of 3600000 ms", "timeframe"),
    "seconds": (changed(2, 0, str(T0 // 1000 + 7), 1), "line 2", "not a multiple", "milliseconds"),
    "microseconds": (changed(2, 0, str(T0 * 1000), 1), "line 2", "beyond the year 2200", "milliseconds"),
}


@pytest.mark.parametrize(("data", "line", "fault", "remedy"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_named_with_line_and_remedy(data: bytes, line: str, fault: str, remedy: str) -> None:
    with pytest.raises(InvalidCandle) as refusal:
        parse(data)
    message = str(refusal.value)
    assert message.startswith(f"btc.csv {line}: ")
    assert fault in message
    assert remedy in message.rpartition(": ")[2]
    assert "\n" not in message


def test_truncated_gzip_names_the_last_readable_line() -> None:
    whole = gzip.compress(text(*rows(2000)))
    with pytest.raises(InvalidCandle, match=r"btc.csv line (\d+): the gzip data is cut off here: download") as refusal:
        parse(whole[: len(whole) // 2])
    assert 200 < int(str(refusal.value).split()[2].rstrip(":")) < 1900


@pytest.mark.parametrize("at", [3, 15, 400, -6], ids=["head", "first-block", "middle", "checksum"])
def test_damaged_gzip_is_refused(at: int) -> None:
    damaged = bytearray(gzip.compress(text(*rows(2000))))
    damaged[at] ^= 0xFF
    with pytest.raises(InvalidCandle, match=r"btc.csv line \d+: .*: (download|delete)"):
        parse(bytes(damaged))


def refusal_of(data: bytes) -> str | None:
    try:
        parse(data)
    except InvalidCandle as error:
        return str(error)
    return None


@given(st.binary(max_size=400))
def test_no_bytes_end_in_anything_but_a_named_refusal(data: bytes) -> None:
    assert (refusal_of(data) or "").startswith("btc.csv ")
    assert (refusal_of(gzip.compress(text(*rows(1)))[:30] + data) or "btc.csv ").startswith("btc.csv ")
    assert (refusal_of(text(*rows(2)) + data) or "btc.csv ").startswith("btc.csv ")


@given(st.integers(2, 400), st.integers(0, 2000), st.integers(1, 255))
@settings(max_examples=200)
def test_a_flipped_byte_is_refused_or_read_as_float_reads_it(count: int, at: int, flip: int) -> None:
    data = bytearray(text(*rows(count)))
    data[at % len(data)] ^= flip
    try:
        table = parse(bytes(data))
    except InvalidCandle:
        return
    body = bytes(data).decode().removeprefix("\ufeff").replace("\r\n", "\n").strip("\n").split("\n")[1:]
    expected = [[float(field) for field in line.split(",")[1:]] for line in body]
    assert sorted(map(sorted, table.values.tolist())) == sorted(map(sorted, expected))


# ---- from columns -----------------------------------------------------------------------------------------------
def columns(**changes: object) -> dict[str, object]:
    whole = {"timestamp_ms": [T0, T0 + HOUR], "open": [10, 11], "high": [12.0, 13.0], "low": [9.0, 9.0]}
    return whole | {"close": [11.0, 12.0], "volume": [1.0, 0.0]} | changes


def test_columns_give_the_table() -> None:
    table = from_columns(columns(), name="x", symbol="BTC/USDT", timeframe=None)  # type: ignore[arg-type]
    assert table.timeframe == H1
    assert table.values.tolist() == [[10.0, 12.0, 9.0, 11.0, 1.0], [11.0, 13.0, 9.0, 12.0, 0.0]]


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"timestamp_ms": [float(T0), np.nan]}, "x: column timestamp_ms holds float64; it must hold integers"),
        ({"close": ["11", "12"]}, "x: column close holds <U2; it must hold numbers"),
        ({"close": [11.0, np.nan]}, "x row 2: close nan is not a finite number: delete"),
        ({"timestamp_ms": [T0, T0]}, "x row 2: timestamp_ms .* twice"),
        ({"trades": [1, 2]}, "x: unknown column 'trades': remove"),
        ({"timestamp_ms": np.array([], dtype=np.int64)}, "x: the file holds no candle"),
    ],
)
def test_broken_columns_are_named_with_row_and_remedy(changes: dict[str, object], fault: str) -> None:
    with pytest.raises(InvalidCandle, match=fault):
        from_columns(columns(**changes), name="x", symbol="BTC/USDT", timeframe=H1)  # type: ignore[arg-type]


# ---- the table --------------------------------------------------------------------------------------------------
def prices() -> st.SearchStrategy[float]:
    return st.floats(min_value=1e-9, max_value=1e9)


@st.composite
def tables(draw: st.DrawFn) -> CandleTable:
    steps = draw(st.lists(st.integers(1, 5), min_size=1, max_size=30))
    values = []
    for _ in steps:
        low, one, other, high = sorted(draw(st.tuples(prices(), prices(), prices(), prices())))
        values.append([one, high, low, other, draw(st.floats(min_value=0.0, max_value=1e12))])
    return CandleTable(
        symbol="BTC/USDT",
        timeframe=H1,
        open_ms=T0 + HOUR * np.cumsum(steps),
        values=np.array(values),
    )


@given(tables())
def test_written_tables_read_back_to_the_bit(table: CandleTable) -> None:
    written = format_csv(table)
    again = parse(written)
    assert again == table
    assert again.values.tobytes() == table.values.tobytes()
    assert b"e" not in written.split(b"\n", 1)[1]


@given(tables())
def test_gaps_are_the_hours_that_no_candle_opens(table: CandleTable) -> None:
    present = set(table.open_ms.tolist())
    missing = [t for t in range(min(present), max(present), HOUR) if t not in present]
    assert [first + at * HOUR for first, count in table.gaps() for at in range(count)] == missing


@given(tables(), st.integers(-2, 160), st.integers(-2, 160), st.integers(0, HOUR - 1))
def test_a_slice_holds_what_opens_in_its_span(table: CandleTable, first: int, last: int, offset: int) -> None:
    from_ms, to_ms = T0 + first * HOUR + offset, T0 + last * HOUR + offset
    expected = [candle for candle in table.candles() if from_ms <= candle.open_ms < to_ms]
    if from_ms <= to_ms:
        assert list(table.slice(from_ms, to_ms).candles()) == expected
    assert list(table.slice(None, to_ms).candles()) == [c for c in table.candles() if c.open_ms < to_ms]


@given(tables())
def test_candles_are_the_rows(table: CandleTable) -> None:
    candles = list(table.candles())
    assert [candle.open_ms for candle in candles] == table.open_ms.tolist()
    assert [list(candle.values) for candle in candles] == table.values.tolist()
    assert {(type(c.open_ms), type(c.close), c.span_ms, c.symbol) for c in candles} == {(int, float, HOUR, "BTC/USDT")}
    assert [table.candle(table.index_of(candle.open_ms) or 0) for candle in candles] == candles
    assert table.index_of(int(table.open_ms[-1]) + HOUR) is None


@given(st.lists(st.sampled_from([-1.0, 0.0, 0.5, 1.0, 2.0, np.nan, np.inf, -np.inf]), min_size=5, max_size=5))
def test_a_table_takes_exactly_the_rows_that_candle_takes(row: list[float]) -> None:
    def is_taken_by_candle() -> bool:
        names = ("open", "high", "low", "close", "volume")
        try:
            Candle(symbol="X/Y", open_ms=T0, span_ms=HOUR, **dict(zip(names, row, strict=True)))
        except InvalidCandle:
            return False
        return True

    def is_taken_by_table() -> bool:
        try:
            CandleTable(symbol="X/Y", timeframe=H1, open_ms=np.array([T0]), values=np.array([row]))
        except InvalidCandle:
            return False
        return True

    assert is_taken_by_table() == is_taken_by_candle()


def test_a_table_cannot_be_changed() -> None:
    times, values = np.array([T0]), np.array([[1.0, 1.0, 1.0, 1.0, 1.0]])
    table = CandleTable(symbol="X/Y", timeframe=H1, open_ms=times, values=values)
    values[0, 0] = 7.0
    assert table.values[0, 0] == 1.0
    with pytest.raises(ValueError, match="read-only"):
        table.values[0, 0] = 2.0


# ---- the timeframe ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["1m", "5m", "30m", "1h", "4h", "1d", "3d"])
def test_the_usual_spacing_is_the_timeframe(name: str) -> None:
    span_ms = Timeframe.parse(name).span_ms
    times = np.array([0, 1, 2, 5, 6, 11, 12, 13], dtype=np.int64) * span_ms
    assert infer_timeframe(times) == Timeframe.parse(name)


@pytest.mark.parametrize(
    ("times", "fault"),
    [
        ([0], "one candle does not tell the timeframe"),
        ([0, 3600, 7200], "3600 ms apart.*milliseconds"),
        ([0, HOUR, 2 * HOUR, 2 * HOUR + 60_000], "is not a multiple"),
    ],
)
def test_a_timeframe_that_does_not_show_must_be_stated(times: list[int], fault: str) -> None:
    with pytest.raises(InvalidCandle, match=fault):
        infer_timeframe(np.array(times, dtype=np.int64))
