"""What lies on disk after a kill at any byte, a full disk, somebody else's file: nothing lost, nothing made up."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from strategy.candle import Timeframe
from strategy.candle_table import CandleTable
from tests.fakes.trading import random_table
from training.candles import read_candles
from training.errors import TrainingError
from training.fetch_pages import Gap, Page, Restated
from training.fetch_store import Held, Key, Store, locked

KEY = Key(exchange="binance", symbol="BTC/USDT", timeframe=Timeframe.parse("1h"))
TABLE = random_table(30, start=1000, gaps=(9, 19))
CONFIRMED = [Gap(first_ms=first_ms, missing=missing) for first_ms, missing in TABLE.gaps()]
RESTATED = Restated(open_ms=5, kept=None, venue=(1.0, 2.0, 0.5, 1.5, 3.0))
PAGES = [
    Page(table=TABLE.slice(None, int(TABLE.open_ms[10])), is_late=True),
    Page(
        table=TABLE.slice(int(TABLE.open_ms[10]), int(TABLE.open_ms[20])),
        confirmed=(CONFIRMED[0],),
        restated=(RESTATED,),
    ),
    Page(table=TABLE.slice(int(TABLE.open_ms[20])), confirmed=(CONFIRMED[1],)),
]
FACTS: dict[str, Any] = {
    "asked_ms": 7, "gaps": (), "older_withheld": False, "restated": (), "fetched_ms": 9, "ccxt": "4"
}  # fmt: skip


def begun(directory: Path, pages: int = 3) -> Store:
    store = Store(directory, KEY)
    store.begin(store.load(), 7)
    for page in PAGES[:pages]:
        store.append(page)
    return store


def held_of(pages: list[Page]) -> Held:
    held = Held(asked_ms=7)
    for page in pages:
        held.add(page)
    return held


def test_what_was_appended_is_loaded(tmp_path: Path) -> None:
    begun(tmp_path).close()
    held = Store(tmp_path, KEY).load()
    assert held.table() == TABLE
    assert held.asked_ms == 7
    assert held.confirmed == set(CONFIRMED)
    assert held.restated == {5: RESTATED}
    assert held.is_late
    assert held.unfinished == 3


def test_a_file_torn_at_any_byte_holds_every_page_before_it_and_can_be_continued(tmp_path: Path) -> None:
    store = begun(tmp_path)
    store.close()
    whole = store.unfinished.read_bytes()
    ends = [at + 1 for at, byte in enumerate(whole) if byte == ord("\n")]
    for cut in [*range(0, len(whole), 7), *ends, *(end - 1 for end in ends)]:
        store.unfinished.write_bytes(whole[:cut])
        pages = max(0, sum(end <= cut for end in ends) - 1)
        held = Store(tmp_path, KEY).load()
        assert held.unfinished == pages
        assert held.table() == held_of(PAGES[:pages]).table()
        going_on = Store(tmp_path, KEY)
        going_on.begin(going_on.load(), 7)
        for page in PAGES[pages:]:
            going_on.append(page)
        going_on.close()
        assert store.unfinished.read_bytes() == whole


def test_a_byte_that_changed_ends_what_is_believed(tmp_path: Path) -> None:
    store = begun(tmp_path)
    store.close()
    data = bytearray(store.unfinished.read_bytes())
    second = data.index(b"\n", data.index(b"\n") + 1) + 30
    data[second] ^= 1
    store.unfinished.write_bytes(data)
    assert Store(tmp_path, KEY).load().table() == PAGES[0].table


def test_finishing_leaves_parquet_and_provenance_and_nothing_else(tmp_path: Path) -> None:
    fetched = begun(tmp_path).finish(TABLE, **FACTS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["btcusdt-1h.parquet", "btcusdt-1h.parquet.json"]
    assert read_candles(tmp_path / "btcusdt-1h.parquet") == TABLE
    assert json.loads((tmp_path / "btcusdt-1h.parquet.json").read_text())["sha256"] == fetched.sha256
    held = Store(tmp_path, KEY).load()
    assert held.fetched == fetched
    assert held.table() == TABLE


DIES = """
import os, sys
from tests.training.test_fetch_store import FACTS, KEY, TABLE, Path, Store
steps = 0
def watch(event, _):
    global steps
    if event in {"os.rename", "os.remove"}:
        steps += 1
        if steps == int(sys.argv[2]):
            os.kill(os.getpid(), 9)
store = Store(Path(sys.argv[1]), KEY)
store.begin(store.load(), 7)
sys.addaudithook(watch)
store.finish(TABLE, **FACTS)
"""


@pytest.mark.parametrize("step", [1, 2, 3])  # before Parquet is in place, before its provenance is, before tidying up
def test_a_kill_while_finishing_is_brought_to_its_end(tmp_path: Path, step: int) -> None:
    begun(tmp_path).close()
    command = [sys.executable, "-c", DIES, str(tmp_path), str(step)]
    died = subprocess.run(command, check=False, capture_output=True, text=True)
    assert died.returncode == -9, died.stderr
    store = Store(tmp_path, KEY)
    held = store.load()
    assert held.table() == TABLE
    assert (held.fetched is None) == (step == 1)
    if step == 1:
        assert held.unfinished == 3
        store.begin(held, 7)
        store.append(PAGES[2])
        store.close()
        store.begin(Store(tmp_path, KEY).load(), 7)
        store.finish(TABLE, **FACTS)
    assert Store(tmp_path, KEY).load().fetched is not None
    assert [path.name for path in sorted(tmp_path.iterdir())] == [KEY.file, f"{KEY.file}.json"]


@pytest.mark.parametrize("room", [0, 1, 100, 900])
def test_a_full_disk_loses_no_page_that_was_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    store = begun(tmp_path, 1)
    real, left = os.write, [room]

    def write(descriptor: int, data: Any) -> int:
        if left[0] == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        some = min(left[0], len(data))
        left[0] -= some
        return real(descriptor, data[:some])

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(TrainingError, match=r"cannot be written \(No space left on device\): free space or give"):
        store.append(PAGES[1])
    monkeypatch.undo()
    store.close()
    assert Store(tmp_path, KEY).load().table() == PAGES[0].table


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(TrainingError, match=r"file/out: cannot be written \(Not a directory\)"),
        locked(tmp_path / "file" / "out"),
    ):
        pass


def test_a_second_fetch_into_one_directory_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom training.fetch_store import locked\n"
        f"with locked(Path({str(tmp_path)!r})):\n print('locked', flush=True)\n input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "locked\n"
        with pytest.raises(TrainingError, match="another fetch works in this directory: wait"), locked(tmp_path):
            pass
        first.kill()
        first.wait()
        with locked(tmp_path):
            pass


# ---- files that are not ours --------------------------------------------------------------------------------------
def finished(directory: Path, key: Key = KEY, table: CandleTable = TABLE) -> Path:
    store = Store(directory, key)
    store.begin(store.load(), 7)
    store.finish(table, **FACTS)
    return store.path


def test_a_file_of_another_exchange_is_not_continued(tmp_path: Path) -> None:
    finished(tmp_path)
    other = Key(exchange="kraken", symbol="BTC/USDT", timeframe=KEY.timeframe)
    with pytest.raises(TrainingError, match="holds candles of binance BTC/USDT 1h: give another directory"):
        Store(tmp_path, other).load()


def test_two_markets_with_one_file_name_are_told_apart(tmp_path: Path) -> None:
    finished(tmp_path)
    other = Key(exchange="binance", symbol="BTCU/SDT", timeframe=KEY.timeframe)
    assert other.file == KEY.file
    with pytest.raises(TrainingError, match="holds candles of binance BTC/USDT 1h"):
        Store(tmp_path, other).load()


def test_unfinished_pages_of_another_market_are_not_continued(tmp_path: Path) -> None:
    begun(tmp_path).close()
    other = Key(exchange="kraken", symbol="BTC/USDT", timeframe=KEY.timeframe)
    with pytest.raises(TrainingError, match="unfinished: this file holds candles of binance"):
        Store(tmp_path, other).load()


def test_a_file_that_was_changed_is_not_continued(tmp_path: Path) -> None:
    path = finished(tmp_path)
    path.write_bytes(finished_elsewhere(tmp_path).read_bytes())
    with pytest.raises(TrainingError, match=r"changed since it was fetched .*: put back what was fetched"):
        Store(tmp_path, KEY).load()


def finished_elsewhere(directory: Path) -> Path:
    (directory / "elsewhere").mkdir()
    return finished(directory / "elsewhere", table=random_table(30, seed=2))


@pytest.mark.parametrize("record", [None, "", "[]", '{"sha256": "0"}'])
def test_a_file_without_our_provenance_is_not_touched(tmp_path: Path, record: str | None) -> None:
    path = tmp_path / KEY.file
    path.write_bytes(b"precious")
    if record is not None:
        path.with_name(path.name + ".json").write_text(record)
    with pytest.raises(TrainingError, match=r"was not made by `sacd data fetch` .*: give another directory"):
        Store(tmp_path, KEY).load()
    assert path.read_bytes() == b"precious"


def test_pages_that_go_on_from_a_file_that_is_gone_are_refused(tmp_path: Path) -> None:
    path = finished(tmp_path)
    store = Store(tmp_path, KEY)
    store.begin(store.load(), 7)
    store.append(PAGES[2])
    store.close()
    path.unlink()
    with pytest.raises(TrainingError, match=r"go on from a btcusdt-1h.parquet that is not here any more: put it back"):
        Store(tmp_path, KEY).load()
