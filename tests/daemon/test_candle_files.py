import gzip
import subprocess
import sys
from pathlib import Path

import pytest

from daemon.candle_files import read_candles
from daemon.errors import DataError
from strategy.candle import Timeframe

HOUR = 3_600_000
T0 = 1_600_002_000_000 // HOUR * HOUR
H1 = Timeframe.parse("1h")
CSV = f"timestamp_ms,open,high,low,close,volume\n{T0},10,12,9,11,1\n{T0 + HOUR},11,13,9,12,0\n".encode()
VALUES = [[10.0, 12.0, 9.0, 11.0, 1.0], [11.0, 13.0, 9.0, 12.0, 0.0]]


def write_parquet(path: Path, **changes: object) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    names = ("open", "high", "low", "close", "volume")
    columns = dict(zip(names, map(list, zip(*VALUES, strict=True)), strict=True))
    parquet.write_table(pa.table({"timestamp_ms": [T0, T0 + HOUR]} | columns | changes), path)


@pytest.mark.parametrize("encode", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_csv_is_told_by_its_bytes_not_by_its_name(tmp_path: Path, encode: type[bytes]) -> None:
    path = tmp_path / "candles.dat"
    path.write_bytes(encode(CSV))
    table = read_candles(path, symbol="BTC/USDT", timeframe=H1)
    assert (table.symbol, table.open_ms.tolist(), table.values.tolist()) == ("BTC/USDT", [T0, T0 + HOUR], VALUES)


def test_parquet_gives_what_was_written_to_it(tmp_path: Path) -> None:
    path = tmp_path / "candles.parquet"
    write_parquet(path)
    table = read_candles(path, symbol="BTC/USDT", timeframe=H1)
    assert (table.open_ms.tolist(), table.values.tolist()) == ([T0, T0 + HOUR], VALUES)


def test_parquet_in_many_pieces_is_read_whole(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    path = tmp_path / "candles.parquet"
    prices = [float(at + 1) for at in range(1000)]
    columns = dict.fromkeys(("open", "high", "low", "close", "volume"), prices)
    table = pa.table({"timestamp_ms": [T0 + at * HOUR for at in range(1000)]} | columns)
    pytest.importorskip("pyarrow.parquet").write_table(table, path, row_group_size=7)
    assert read_candles(path, symbol="BTC/USDT", timeframe=H1).values[:, 4].tolist() == prices


def test_parquet_without_rows_is_refused(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    path = tmp_path / "candles.parquet"
    names = ("open", "high", "low", "close", "volume")
    empty = {"timestamp_ms": pa.array([], pa.int64())} | {name: pa.array([], pa.float64()) for name in names}
    pytest.importorskip("pyarrow.parquet").write_table(pa.table(empty), path)
    with pytest.raises(DataError, match=r"candles.parquet: the file holds no candle: download"):
        read_candles(path, symbol="BTC/USDT", timeframe=H1)


def test_reading_parquet_does_not_load_pandas(tmp_path: Path) -> None:
    path = tmp_path / "candles.parquet"
    write_parquet(path)
    program = (
        "import sys; from pathlib import Path; from daemon.candle_files import read_candles;"
        "from strategy.candle import Timeframe;"
        f"read_candles(Path({str(path)!r}), symbol='BTC/USDT', timeframe=Timeframe.parse('1h'));"
        "print(sorted({'pandas', 'torch', 'training'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_reading_csv_does_not_load_pyarrow(tmp_path: Path) -> None:
    path = tmp_path / "candles.csv"
    path.write_bytes(CSV)
    program = (
        "import sys; from pathlib import Path; from daemon.candle_files import read_candles;"
        "from strategy.candle import Timeframe;"
        f"read_candles(Path({str(path)!r}), symbol='BTC/USDT', timeframe=Timeframe.parse('1h'));"
        "print('pyarrow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (None, "there is no such file: correct the path"),
        (b"", "line 1: the file is empty: download"),
        (CSV.replace(b"13,9", b"8,9"), "line 3: high 8.0 is below low 9.0: delete the row"),
        (gzip.compress(CSV)[:-12], r"line \d: the gzip data is cut off here: download"),
        (b"PAR1 and then nothing", "damaged Parquet .*: download"),
        (CSV.replace(str(T0).encode(), str(T0 + 1).encode()), "line 2: .* is not a multiple of 3600000 ms"),
    ],
    ids=["missing", "empty", "high-below-low", "cut-off", "damaged-parquet", "wrong-grid"],
)
def test_a_broken_file_is_one_line_that_names_it(tmp_path: Path, content: bytes | None, fault: str) -> None:
    path = tmp_path / "btc.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=fault) as refusal:
        read_candles(path, symbol="BTC/USDT", timeframe=H1)
    assert str(refusal.value).startswith(str(path))
    assert "\n" not in str(refusal.value)


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="this is a directory: name a candle file in it"):
        read_candles(tmp_path, symbol="BTC/USDT", timeframe=H1)


def test_a_name_too_long_for_the_file_system_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be read \(File name too long\)"):
        read_candles(tmp_path / ("x" * 5000), symbol="BTC/USDT", timeframe=H1)


def test_a_broken_parquet_row_is_named(tmp_path: Path) -> None:
    path = tmp_path / "candles.parquet"
    write_parquet(path, close=[11.0, float("nan")])
    with pytest.raises(DataError, match=r"candles.parquet row 2: close nan is not a finite number"):
        read_candles(path, symbol="BTC/USDT", timeframe=H1)


def test_an_empty_parquet_cell_is_named(tmp_path: Path) -> None:
    path = tmp_path / "candles.parquet"
    write_parquet(path, close=[11.0, None])
    with pytest.raises(DataError, match=r"candles.parquet row 2: close is empty: delete the row"):
        read_candles(path, symbol="BTC/USDT", timeframe=H1)


def test_a_parquet_column_of_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "candles.parquet"
    write_parquet(path, close=["11", "12"])
    with pytest.raises(DataError, match=r"candles.parquet: column close holds string: it must hold numbers"):
        read_candles(path, symbol="BTC/USDT", timeframe=H1)


def test_parquet_without_pyarrow_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "candles.parquet"
    path.write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match="needs pyarrow: install it with `pip install pyarrow`, or give CSV"):
        read_candles(path, symbol="BTC/USDT", timeframe=H1)
