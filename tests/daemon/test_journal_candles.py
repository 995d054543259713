import asyncio
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from daemon import journal_candles
from daemon.commands_journal import add_journal_verbs
from daemon.errors import DataError
from daemon.journal import SqliteJournal
from daemon.journal_candles import write_candles
from daemon.ports import CandleGroup, LateCandle, Record
from daemon.records import of_group, of_late
from strategy.candle import Candle
from strategy.candle_table import parse_csv
from tests.daemon.journals import ROOT, FixedClock, alter
from tests.fakes.serving import BTC, ETH, market_candles
from training.candles import read_candle_file

RUN = Record(kind="run", payload={"setup": {"timeframe": "1h"}})


def write(path: Path, records: Sequence[Record]) -> Path:
    async def session() -> None:
        journal = SqliteJournal.open(path, FixedClock())
        await journal.append(records)
        await journal.close()

    asyncio.run(session())
    return path


def groups(**candles: Sequence[Candle]) -> list[Record]:
    """Return one record per open time, the first half as a backfill."""
    times = sorted({candle.open_ms for each in candles.values() for candle in each})
    found = []
    for place, open_ms in enumerate(times):
        together = tuple(candle for each in candles.values() for candle in each if candle.open_ms == open_ms)
        found.append(of_group(CandleGroup(candles=together, is_backfill=place < len(times) // 2)))
    return found


@pytest.fixture
def btc() -> list[Candle]:
    return market_candles(BTC, 60)


@pytest.fixture
def eth() -> list[Candle]:
    """Another symbol, of which some candles are missing."""
    return [candle for place, candle in enumerate(market_candles(ETH, 60)) if place not in {0, 7, 8, 40}]


@pytest.fixture
def journal(tmp_path: Path, btc: list[Candle], eth: list[Candle]) -> Path:
    return write(tmp_path / "journal.sqlite", [RUN, *groups(btc=btc, eth=eth)])


def call(*arguments: str) -> str:
    app = typer.Typer(pretty_exceptions_enable=False)
    add_journal_verbs(app)
    done = CliRunner().invoke(app, ["candles", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_every_candle_comes_back_to_the_last_bit_and_training_reads_its_market_from_the_name(
    journal: Path, tmp_path: Path, btc: list[Candle], eth: list[Candle]
) -> None:
    written = write_candles(journal, tmp_path / "out")
    assert [(file.path.name, file.symbol, file.candles) for file in written] == [
        ("btcusdt-1h.csv", BTC, 60),
        ("ethusdt-1h.csv", ETH, 56),
    ]
    for file, candles in zip(written, (btc, eth), strict=True):
        table = read_candle_file(file.path).table
        assert (table.symbol, table.timeframe.name) == (file.symbol, "1h")
        assert list(table.candles()) == candles
        assert (file.first_ms, file.last_ms) == (candles[0].open_ms, candles[-1].open_ms)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["btcusdt-1h.csv", "ethusdt-1h.csv"]


def test_a_late_copy_that_differs_is_not_what_was_traded_on(tmp_path: Path, btc: list[Candle]) -> None:
    late = of_late(LateCandle(candle=market_candles(BTC, 60, seed=12)[3], known=btc[3]))
    path = write(tmp_path / "j.sqlite", [RUN, *groups(btc=btc), late])
    (file,) = write_candles(path, tmp_path / "out")
    assert list(parse_csv(file.path.read_bytes(), name="", symbol=BTC, timeframe=None).candles()) == btc


def test_a_run_in_the_middle_changes_nothing(tmp_path: Path, btc: list[Candle]) -> None:
    path = write(tmp_path / "j.sqlite", [RUN, *groups(btc=btc[:30]), RUN, *groups(btc=btc[30:])])
    (file,) = write_candles(path, tmp_path / "out")
    assert file.candles == 60


def test_a_journal_without_candles_gives_no_file_and_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "j.sqlite", [RUN])
    assert write_candles(path, tmp_path / "out") == ()
    assert call("--out", str(tmp_path / "two"), "--journal", str(path)) == f"{path}: no candle stands in it yet\n"


def test_what_lies_there_is_never_replaced(journal: Path, tmp_path: Path) -> None:
    taken = tmp_path / "out" / "ethusdt-1h.csv"
    taken.parent.mkdir()
    taken.write_text("mine")
    with pytest.raises(DataError, match=r"out: cannot be written \(ethusdt-1h.csv is there already\): name another"):
        write_candles(journal, tmp_path / "out")
    assert taken.read_text() == "mine"


def test_a_file_appears_whole_or_not_at_all(journal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(journal_candles.os, "fsync", full)
    with pytest.raises(DataError, match=r"No space left on device\): name another directory"):
        write_candles(journal, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_symbols_of_the_same_letters_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    first, second = market_candles(BTC, 3), market_candles("BTCU/SDT", 3)
    path = write(tmp_path / "j.sqlite", [RUN, *groups(first=first, second=second)])
    with pytest.raises(DataError, match="files of BTC/USDT, BTCU/SDT would have one name"):
        write_candles(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ({"open_ms": 0, "span_ms": 60_000, "candles": []}, "entry 2 cannot be read .candles of 60000 ms"),
        ({"open_ms": 0, "span_ms": 3_600_000}, "entry 2 cannot be read .'candles'"),
        ({"open_ms": 0, "span_ms": 3_600_000, "candles": [[BTC, 1.0, 2.0, 0.5, "x", 1.0]]}, "entry 2 cannot be read"),
        ({"open_ms": 0, "span_ms": 3_600_000, "candles": [[BTC, 1.0, 2.0]]}, "its candles are no history"),
        ({"open_ms": 0, "span_ms": 3_600_000, "candles": [[BTC, 9.0, 2.0, 1.0, 2.0, 1.0]]}, "open 9.0 lies outside"),
    ],
)
def test_a_record_that_is_no_candle_is_named(tmp_path: Path, payload: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "j.sqlite", [RUN, Record(kind="candle", payload=payload)])
    with pytest.raises(DataError, match=message):
        write_candles(path, tmp_path / "out")


def test_candles_before_any_run_are_refused(tmp_path: Path, btc: list[Candle]) -> None:
    path = write(tmp_path / "j.sqlite", groups(btc=btc))
    with pytest.raises(DataError, match=r"entry 1 cannot be read .candles of 3600000 ms, None was announced"):
        write_candles(path, tmp_path / "out")


def test_a_journal_that_is_missing_or_altered_is_named(journal: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.sqlite"):
        write_candles(tmp_path / "none.sqlite", tmp_path / "out")
    alter(journal, "UPDATE events SET payload = 'no JSON' WHERE seq = 5")
    with pytest.raises(DataError, match="entry 5: payload is not JSON"):
        write_candles(journal, tmp_path / "out")


def test_the_command_tells_files_for_people_and_programs(journal: Path, tmp_path: Path) -> None:
    told = call("--out", str(tmp_path / "one"), "--journal", str(journal)).splitlines()
    assert told[0] == f"{tmp_path / 'one' / 'btcusdt-1h.csv'}: BTC/USDT 1h, 60 candles"
    first, second = json.loads(call("--out", str(tmp_path / "two"), "--journal", str(journal), "--json"))["files"]
    assert (first["path"], first["timeframe"]) == (str(tmp_path / "two" / "btcusdt-1h.csv"), "1h")
    assert (second["symbol"], second["candles"]) == (ETH, 56)


def test_a_user_s_mistake_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "daemon", "journal", "candles", "--out", str(tmp_path), "--journal", "/nowhere"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=120)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "/nowhere" in done.stderr
