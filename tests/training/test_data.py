import dataclasses
import gzip
import hashlib
import json
import os
from pathlib import Path

import pytest

from training.candles import read_candles
from training.data import MissingCandles, import_file, list_files, verify_files
from training.errors import TrainingError

HOUR = 3_600_000
T0 = 1_600_002_000_000 // HOUR * HOUR
HEADER = "timestamp_ms,open,high,low,close,volume"
# hours 0, 1, 4, 5: one gap of two; closes 11, 12, 24, 18: +100 % at hour 4; one candle without volume
ROWS = ["10,12,9,11,1", "11,13,9,12,0", "12,25,12,24,3.5", "24,24,18,18,0.00001"]
CSV = "\n".join([HEADER, *(f"{T0 + h * HOUR},{row}" for h, row in zip((0, 1, 4, 5), ROWS, strict=True)), ""]).encode()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in" / "btcusdt-1h.csv"
    path.parent.mkdir()
    path.write_bytes(CSV)
    return path


def files_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz", "x.parquet"])
def test_an_import_holds_the_same_candles_and_says_where_from(tmp_path: Path, source: Path, name: str) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    out = tmp_path / name
    imported = import_file(source, out)
    table = read_candles(out, symbol="BTC/USDT")
    assert table == read_candles(source)
    assert json.loads((tmp_path / f"{name}.json").read_text()) == {
        "file": name,
        "source": "btcusdt-1h.csv",
        "sha256_source": hashlib.sha256(CSV).hexdigest(),
        "sha256": hashlib.sha256(out.read_bytes()).hexdigest(),
        "symbol": "BTC/USDT",
        "timeframe": "1h",
        "rows": 4,
        "first_ms": T0,
        "last_ms": T0 + 5 * HOUR,
        "gaps": [{"first_ms": T0 + 2 * HOUR, "missing": 2}],
    }
    assert imported.gaps == (MissingCandles(first_ms=T0 + 2 * HOUR, missing=2),)
    assert files_in(tmp_path) == ["in", name, f"{name}.json"]


def test_csv_written_by_an_import_is_the_csv_that_came_in(tmp_path: Path, source: Path) -> None:
    import_file(source, tmp_path / "ethusdt-1h.csv.gz")
    assert gzip.decompress((tmp_path / "ethusdt-1h.csv.gz").read_bytes()) == CSV


def test_the_same_import_twice_gives_the_same_bytes(tmp_path: Path, source: Path) -> None:
    first = import_file(source, tmp_path / "a.csv.gz")
    second = import_file(source, tmp_path / "b.csv.gz")
    assert first.sha256 == second.sha256


def test_the_name_of_the_target_tells_the_market_when_the_source_does_not(tmp_path: Path) -> None:
    (tmp_path / "download.csv").write_bytes(CSV)
    imported = import_file(tmp_path / "download.csv", tmp_path / "ethusdc-30m.csv")
    assert (imported.symbol, imported.timeframe) == ("ETH/USDC", "30m")


def test_a_file_that_exists_is_kept_unless_overwriting_is_allowed(tmp_path: Path, source: Path) -> None:
    out = tmp_path / "x.csv"
    out.write_bytes(b"precious")
    with pytest.raises(TrainingError, match=r"x.csv: this file exists: give another name"):
        import_file(source, out)
    assert out.read_bytes() == b"precious"
    import_file(source, out, overwrite=True)
    assert out.read_bytes() == CSV


def test_a_broken_source_leaves_nothing_behind(tmp_path: Path, source: Path) -> None:
    source.write_bytes(CSV.replace(b"25,12", b"11,12"))
    with pytest.raises(TrainingError, match=r"btcusdt-1h.csv line 4: high 11.0 is below low 12.0"):
        import_file(source, tmp_path / "x.csv.gz")
    assert files_in(tmp_path) == ["in"]


@pytest.mark.parametrize("failing", [1, 2], ids=["candles", "provenance"])
def test_a_disk_that_fails_leaves_nothing_behind(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    real, calls = os.fsync, []

    def fsync(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == failing:
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(TrainingError, match=r"x.csv: cannot be written \(No space left on device\)"):
        import_file(source, tmp_path / "x.csv")
    assert files_in(tmp_path) == ["in"]


@pytest.mark.parametrize(
    ("out", "fault"),
    [
        ("x.json", "end it with .csv, .csv.gz or .parquet"),
        ("in", "end it with .csv"),
        ("nowhere/x.csv", "there is no directory"),
        ("in/btcusdt-1h.csv", "source and target are the same file"),
    ],
)
def test_an_impossible_target_is_refused(tmp_path: Path, source: Path, out: str, fault: str) -> None:
    with pytest.raises(TrainingError, match=fault):
        import_file(source, tmp_path / out, overwrite=True)
    assert source.read_bytes() == CSV


def test_verify_tells_rows_span_gaps_and_the_biggest_move(source: Path) -> None:
    [verified] = verify_files([source])
    assert dataclasses.asdict(verified) == {
        "file": str(source),
        "problems": (),
        "sha256": hashlib.sha256(CSV).hexdigest(),
        "exchange": None,
        "fetched_ms": None,
        "symbol": "BTC/USDT",
        "timeframe": "1h",
        "rows": 4,
        "first_ms": T0,
        "last_ms": T0 + 5 * HOUR,
        "missing": 2,
        "missing_confirmed": 0,
        "gaps": ({"first_ms": T0 + 2 * HOUR, "missing": 2},),
        "zero_volume": 1,
        "biggest_move": 1.0,
        "biggest_move_ms": T0 + 4 * HOUR,
    }
    json.dumps(dataclasses.asdict(verified))


def test_verify_goes_on_after_a_broken_file(tmp_path: Path, source: Path) -> None:
    broken = tmp_path / "ethusdt-1h.csv"
    broken.write_bytes(CSV[:-9])
    results = verify_files([tmp_path / "missing.csv", broken, source])
    assert "there is no such file" in results[0].problems[0]
    assert "line 5: " in results[1].problems[0]
    assert results[1].sha256 == hashlib.sha256(CSV[:-9]).hexdigest()
    assert results[2].problems == ()


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (CSV.replace(b",volume", b""), "volume"),
        (CSV.replace(b"25,12", b"nan,12"), "line 4: "),
        (gzip.compress(CSV)[:-12], "cut off"),
    ],
    ids=["missing-column", "nan", "cut-off"],
)
def test_verify_tells_the_fault_of_a_file_first_and_then_that_its_name_tells_no_symbol(
    tmp_path: Path, content: bytes, fault: str
) -> None:
    path = tmp_path / "download.csv"
    path.write_bytes(content)
    [verified] = verify_files([path])
    inside, name = verified.problems
    assert fault in inside
    assert "the name does not tell the symbol" in name
    [stated] = verify_files([path], symbol="SOL/USDT")
    assert stated.problems == (inside,)


def test_verify_notices_a_file_that_changed_after_its_import(tmp_path: Path, source: Path) -> None:
    out = tmp_path / "x.csv"
    import_file(source, out)
    assert verify_files([out])[0].problems == ()  # the market is known from the provenance
    out.write_bytes(CSV.replace(b"3.5", b"3.6"))
    assert "changed since it was written" in verify_files([out])[0].problems[0]


def test_verify_notices_a_name_that_tells_another_timeframe(tmp_path: Path) -> None:
    path = tmp_path / "btcusdt-30m.csv"
    path.write_bytes(CSV)
    assert "most candles are 1h apart, but the file is said to hold 30m" in verify_files([path])[0].problems[0]


def test_list_shows_every_candle_file_also_the_broken_ones(tmp_path: Path, source: Path) -> None:
    (tmp_path / "notes.txt").write_text("no candles")
    (tmp_path / "ethusdt-1h.csv.gz").write_bytes(gzip.compress(CSV)[:40])
    import_file(source, tmp_path / "in" / "x.csv.gz")
    listed = {entry.file: entry for entry in list_files(tmp_path)}
    assert list(listed) == ["ethusdt-1h.csv.gz", "in/btcusdt-1h.csv", "in/x.csv.gz"]
    assert "cut off" in (listed["ethusdt-1h.csv.gz"].problem or "")
    whole = listed["in/x.csv.gz"]
    assert (whole.symbol, whole.timeframe, whole.rows, whole.missing, whole.problem) == ("BTC/USDT", "1h", 4, 2, None)
    assert (whole.first_ms, whole.last_ms, whole.bytes) == (
        T0,
        T0 + 5 * HOUR,
        (tmp_path / whole.file).parent.joinpath("x.csv.gz").stat().st_size,
    )


def test_listing_what_is_no_directory_is_refused(source: Path) -> None:
    with pytest.raises(TrainingError, match="there is no such directory"):
        list_files(source)


@pytest.mark.parametrize("record", ["", "[]", '{"sha256": 1}', '{"sha256": "", "symbol": "A/B", "timeframe": "x"}'])
def test_a_damaged_record_beside_a_file_is_a_problem_and_not_taken_for_none(source: Path, record: str) -> None:
    source.with_name(f"{source.name}.json").write_text(record)
    [verified] = verify_files([source])
    assert verified.problems == (
        f"{source}.json: this is no record of an import or a fetch: delete it, or import or fetch the candles again",
    )
    assert verified.rows == 4
    [listed] = list_files(source.parent)
    assert listed.problem == verified.problems[0]


def test_list_tells_of_a_file_that_changed_since_it_was_written(tmp_path: Path, source: Path) -> None:
    import_file(source, tmp_path / "x.csv")
    (tmp_path / "x.csv").write_bytes(CSV.replace(b"3.5", b"3.6"))
    [changed] = [listed for listed in list_files(tmp_path) if listed.file == "x.csv"]
    assert "changed since it was written" in str(changed.problem)
    assert changed.rows == 4
