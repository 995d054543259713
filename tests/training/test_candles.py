import gzip
import hashlib
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from strategy.candle import Timeframe
from training.candles import guess_market, read_candle_file, read_candles
from training.errors import TrainingError

HOUR = 3_600_000
T0 = 1_600_002_000_000 // HOUR * HOUR
CSV = f"timestamp_ms,open,high,low,close,volume\n{T0},10,12,9,11,1\n{T0 + HOUR},11,13,9,12,0\n".encode()
VALUES = [[10.0, 12.0, 9.0, 11.0, 1.0], [11.0, 13.0, 9.0, 12.0, 0.0]]


def freqtrade_columns(unit: str = "ms") -> object:
    """The layout freqtrade writes: `date` as UTC timestamps, then floats."""
    pa = pytest.importorskip("pyarrow")
    first = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=T0)
    names = ("open", "high", "low", "close", "volume")
    columns = dict(zip(names, map(list, zip(*VALUES, strict=True)), strict=True))
    return pa.table({"date": pa.array([first, first + timedelta(hours=1)], pa.timestamp(unit, "UTC"))} | columns)


@pytest.mark.parametrize(
    ("name", "symbol", "timeframe"),
    [
        ("btcusdt-1h.csv.gz", "BTC/USDT", "1h"),
        ("BTC_USDT-1h.feather", "BTC/USDT", "1h"),
        ("btcusdt-5m-2022q1.csv.gz", "BTC/USDT", "5m"),
        ("btc-usdt-15m.parquet", "BTC/USDT", "15m"),
        ("ethbtc-1d.csv", "ETH/BTC", "1d"),
        ("btcusd-1h.csv.gz", "BTC/USD", "1h"),
        ("solusdc-4h.csv", "SOL/USDC", "4h"),
        ("adaeur.csv", "ADA/EUR", None),
        ("candles-1h.csv", None, "1h"),
        ("usdt.csv", None, None),
        ("candles.csv", None, None),
        ("BTC_BRL-1h.feather", "BTC/BRL", "1h"),
        ("1000SHIB_TRY-15m.feather", "1000SHIB/TRY", "15m"),
        ("BTC_USDT_USDT-1h-futures.feather", None, None),
        ("BTC_USDT_USDT-8h-funding_rate.feather", None, None),
    ],
)
def test_file_names_tell_the_market(name: str, symbol: str | None, timeframe: str | None) -> None:
    expected = None if timeframe is None else Timeframe.parse(timeframe)
    assert guess_market(Path("/somewhere") / name) == (symbol, expected)


def test_a_file_is_read_with_its_market_and_checksum(tmp_path: Path) -> None:
    path = tmp_path / "btcusdt-1h.csv.gz"
    path.write_bytes(gzip.compress(CSV))
    read = read_candle_file(path)
    assert (read.name, read.table.symbol, read.table.timeframe.name) == ("btcusdt-1h.csv.gz", "BTC/USDT", "1h")
    assert read.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert read.table.values.tolist() == VALUES


def test_what_is_stated_goes_before_what_the_name_tells(tmp_path: Path) -> None:
    path = tmp_path / "btcusdt-1h.csv"
    path.write_bytes(CSV)
    table = read_candles(path, symbol="ETH/EUR", timeframe=Timeframe.parse("30m"))
    assert (table.symbol, table.timeframe.name) == ("ETH/EUR", "30m")


def test_the_spacing_tells_a_timeframe_that_the_name_does_not(tmp_path: Path) -> None:
    path = tmp_path / "btcusdt.csv"
    path.write_bytes(CSV)
    assert read_candles(path).timeframe.name == "1h"


def test_a_name_that_tells_no_symbol_needs_one_stated(tmp_path: Path) -> None:
    path = tmp_path / "candles.csv"
    path.write_bytes(CSV)
    with pytest.raises(TrainingError, match=r"candles.csv: the name does not tell the symbol: name the file like"):
        read_candles(path)


def test_what_is_wrong_inside_a_file_goes_before_its_name(tmp_path: Path) -> None:
    path = tmp_path / "candles.csv"
    path.write_bytes(CSV.replace(b"13,9", b"8,9"))
    with pytest.raises(TrainingError, match=r"line 3: high 8\.0 is below low 9.0"):
        read_candles(path)


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
@pytest.mark.parametrize("form", ["feather", "parquet"])
def test_freqtrade_files_are_read(tmp_path: Path, form: str, unit: str) -> None:
    path = tmp_path / f"BTC_USDT-1h.{form}"
    table = freqtrade_columns(unit)
    if form == "feather":
        pytest.importorskip("pyarrow.feather").write_feather(table, path)
    else:
        pytest.importorskip("pyarrow.parquet").write_table(table, path)
    read = read_candles(path)
    assert (read.open_ms.tolist(), read.values.tolist()) == ([T0, T0 + HOUR], VALUES)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (None, "there is no such file: correct the path"),
        (CSV.replace(b"13,9", b"8,9"), "line 3: high 8.0 is below low 9.0: delete the row"),
        (gzip.compress(CSV)[:-12], r"line \d: the gzip data is cut off here: download"),
        (b"PAR1 and then nothing", "the file is damaged .*: download"),
        (b"ARROW1 and then nothing", "the file is damaged .*: download"),
        (b"", "line 1: the file is empty"),
    ],
    ids=["missing", "high-below-low", "cut-off", "damaged-parquet", "damaged-feather", "empty"],
)
def test_a_broken_file_is_one_line_that_names_it(tmp_path: Path, content: bytes | None, fault: str) -> None:
    path = tmp_path / "btcusdt-1h.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TrainingError, match=fault) as refusal:
        read_candles(path)
    assert str(refusal.value).startswith(str(path))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", ["btcusdt-1h.parquet", "btcusdt-1h.feather"])
def test_bytes_that_are_not_what_the_ending_tells_are_called_damaged_and_not_text(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"\x00\xff rubbish")
    with pytest.raises(TrainingError, match=f"{name}: the file is damaged .not what its ending tells.: download"):
        read_candles(path)


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="this is a directory"):
        read_candles(tmp_path)


def test_dates_that_are_text_are_refused(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    path = tmp_path / "BTC_USDT-1h.feather"
    table = freqtrade_columns().set_column(0, "date", pa.array(["2020-09-13", "2020-09-14"]))  # type: ignore[attr-defined]
    pytest.importorskip("pyarrow.feather").write_feather(table, path)
    with pytest.raises(TrainingError, match="column date holds string: it must hold UTC timestamps"):
        read_candles(path)


def test_an_empty_date_is_named_by_its_row(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    path = tmp_path / "BTC_USDT-1h.feather"
    dates = pa.array([T0, None], pa.timestamp("ms", "UTC"))
    table = freqtrade_columns().set_column(0, "date", dates)  # type: ignore[attr-defined]
    pytest.importorskip("pyarrow.feather").write_feather(table, path)
    with pytest.raises(TrainingError, match="row 2: date is empty: delete the row"):
        read_candles(path)


def test_parquet_without_pyarrow_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "btcusdt-1h.parquet"
    path.write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(TrainingError, match="need pyarrow: install it with `pip install pyarrow`"):
        read_candles(path)


def test_a_feather_file_that_pandas_wrote_as_freqtrade_does_is_read(tmp_path: Path) -> None:
    # freqtrade/data/history/datahandlers/featherdatahandler.py, ohlcv_store
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame([[T0, *VALUES[0]], [T0 + HOUR, *VALUES[1]]])
    frame.columns = ["date", "open", "high", "low", "close", "volume"]
    frame["date"] = pandas.to_datetime(frame["date"], unit="ms", utc=True)
    path = tmp_path / "BTC_USDT-1h.feather"
    frame.reset_index(drop=True).to_feather(path, compression_level=9, compression="lz4")
    read = read_candles(path)
    assert (read.symbol, read.timeframe.name) == ("BTC/USDT", "1h")
    assert (read.open_ms.tolist(), read.values.tolist()) == ([T0, T0 + HOUR], VALUES)


@pytest.mark.parametrize("kind", ["futures", "mark", "index", "funding_rate"])
def test_candles_of_a_derivative_are_refused_unless_a_symbol_is_stated(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"BTC_USDT_USDT-1h-{kind}.feather"
    pytest.importorskip("pyarrow.feather").write_feather(freqtrade_columns(), path)
    with pytest.raises(TrainingError, match=f"the name tells {kind} candles of a derivative, and only spot is traded"):
        read_candles(path)
    assert read_candles(path, symbol="BTC/USDT").values.tolist() == VALUES
