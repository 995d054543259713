import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategy.candle import Candle
from strategy.candle_table import CandleTable, format_csv
from tests.daemon.test_journal_candles import RUN, groups, write
from tests.fakes.binance import walk
from tests.fakes.histories import Histories
from tests.fakes.trading import BTC, ETH, HOUR_MS, random_table
from tests.training.retrainings import Place, make_place, restated
from training.__main__ import main
from training.candles import read_candles
from training.errors import TrainingError
from training.fetch_ccxt import CcxtVenue
from training.retrain_data import Gathered, gather, laid_over
from training.retrain_request import Request, read_request

TABLE = random_table(300)
T0 = 1_577_836_800_000  # 2020-01-01


def cut(table: CandleTable, first: int, last: int) -> CandleTable:
    return replace(table, open_ms=table.open_ms[first:last], values=table.values[first:last])


# ---- one table over another -------------------------------------------------------------------------------------
def test_where_both_have_a_candle_the_upper_one_counts_and_differences_are_counted() -> None:
    under, over = cut(TABLE, 0, 200), restated(restated(cut(TABLE, 150, 260), 3), 10)
    table, differing = laid_over(under, over)
    assert differing == 2
    assert table == replace(TABLE, open_ms=TABLE.open_ms[:260], values=np.vstack([under.values[:150], over.values]))


@settings(max_examples=60)
@given(under=st.sets(st.integers(0, 60), min_size=1), over=st.sets(st.integers(0, 60), min_size=1), data=st.data())
def test_it_is_the_update_of_a_dictionary(under: set[int], over: set[int], data: st.DataObject) -> None:
    changed = data.draw(st.sets(st.sampled_from(sorted(over))))

    def table(rows: set[int], factor: float) -> CandleTable:
        values = TABLE.values.copy()
        values[sorted(changed & rows), 4] *= factor
        return replace(TABLE, open_ms=TABLE.open_ms[sorted(rows)], values=values[sorted(rows)])

    first, second = table(under, 1.0), table(over, 2.0)
    found, differing = laid_over(first, second)
    wanted = {c.open_ms: c for c in first.candles()} | {c.open_ms: c for c in second.candles()}
    assert list(found.candles()) == [wanted[open_ms] for open_ms in sorted(wanted)]
    assert differing == sum(1 for row in changed & under if TABLE.values[row, 4] > 0.0)


# ---- from files and a journal -----------------------------------------------------------------------------------
def file(table: CandleTable, directory: Path, name: str) -> Path:
    path = directory / name
    path.write_bytes(format_csv(table))
    return path


def asked(root: Path, tables: Sequence[CandleTable], **changes: Any) -> tuple[Request, Path]:
    """Return a request for the candles in `tables`, and the folder to work in."""
    place: Place = make_place(root, tables, file)
    place.ask(**changes)
    folder = place.folder()
    folder.mkdir(parents=True)
    return read_request(place.exchange / "request.json"), folder


def journal(path: Path, **candles: Sequence[Candle]) -> str:
    return str(write(path, [RUN, *groups(**candles)]))


def told(gathered: Gathered) -> str:
    return "\n".join(gathered.notes)


def test_a_history_goes_on_with_what_was_traded_which_counts_where_they_differ(tmp_path: Path) -> None:
    traded = restated(restated(cut(TABLE, 150, 300), 0), 20)
    path = journal(tmp_path / "j.sqlite", btc=list(traded.candles()))
    request, folder = asked(tmp_path / "place", [cut(TABLE, 0, 200)], journal=path)
    found = gather(request, folder)
    (table,) = found.tables
    assert table == replace(TABLE, values=np.vstack([TABLE.values[:150], traded.values]))
    assert "BTC/USDT: 2 candles of 150 that were traded on differ from the file: those of the journal count" in told(
        found
    )
    assert "BTC/USDT: 300 candles, 1970-01-01 00:00 .. 1970-01-13 11:00" in told(found)
    assert [path.name for path in found.paths] == ["btcusdt-1h.csv"]
    assert read_candles(found.paths[0]) == table


def test_a_journal_alone_is_enough_and_gaps_are_told(tmp_path: Path) -> None:
    eth = [candle for at, candle in enumerate(random_table(300, symbol=ETH).candles()) if at not in {9, 10, 50}]
    path = journal(tmp_path / "j.sqlite", btc=list(TABLE.candles()), eth=eth)
    request, folder = asked(tmp_path / "place", [TABLE], journal=path, symbols=[ETH, BTC])
    found = gather(request, folder)
    assert [table.symbol for table in found.tables] == [ETH, BTC]  # as they were asked for
    assert list(found.tables[0].candles()) == eth
    assert "ETH/USDT: 2 gaps, 3 candles missing" in told(found)
    assert "BTC/USDT: 1 gap" not in told(found)
    assert "differ" not in told(found)


def test_a_file_that_knows_the_future_of_a_recorded_account_ends_where_the_account_is(tmp_path: Path) -> None:
    path = journal(tmp_path / "j.sqlite", btc=list(cut(TABLE, 100, 180).candles()))
    request, folder = asked(tmp_path / "place", [TABLE], journal=path, exchange="")
    found = gather(request, folder)
    assert found.tables[0] == cut(TABLE, 0, 180)
    assert "BTC/USDT: 120 candles of its file lie ahead of the account" in told(found)


def test_whoever_goes_on_gets_the_candles_it_began_with(tmp_path: Path) -> None:
    path = journal(tmp_path / "j.sqlite", btc=list(cut(TABLE, 0, 250).candles()))
    request, folder = asked(tmp_path / "place", [cut(TABLE, 0, 200)], journal=path)
    first = gather(request, folder)
    journal(tmp_path / "j.sqlite", btc=list(cut(TABLE, 250, 300).candles()))
    request.data[BTC].unlink()
    again = gather(request, folder)
    assert (again.tables, again.notes, again.paths) == (first.tables, first.notes, first.paths)
    assert [file.sha256 for file in again.files] == [file.sha256 for file in first.files]


@pytest.mark.parametrize("how", ["changed candles", "missing candles", "broken list", "half a list"])
def test_candles_that_are_not_as_they_were_are_put_together_anew(tmp_path: Path, how: str) -> None:
    request, folder = asked(tmp_path / "place", [TABLE])
    first = gather(request, folder)
    match how:
        case "changed candles":
            first.paths[0].write_bytes(format_csv(cut(TABLE, 0, 100)))
        case "missing candles":
            first.paths[0].unlink()
        case "broken list":
            (folder / "candles.json").write_text("{")
        case "half a list":
            (folder / "candles.json").write_text("{}")
    assert gather(request, folder).tables == (TABLE,)


def test_a_half_read_journal_of_a_killed_trainer_is_read_again(tmp_path: Path) -> None:
    path = journal(tmp_path / "j.sqlite", btc=list(TABLE.candles()))
    request, folder = asked(tmp_path / "place", [cut(TABLE, 0, 200)], journal=path)
    (folder / "journal").mkdir()
    (folder / "journal" / "btcusdt-1h.csv").write_text("half")
    assert gather(request, folder).tables == (TABLE,)
    assert sorted(entry.name for entry in folder.iterdir()) == ["candles", "candles.json"]


def minutes(root: Path) -> dict[str, Any]:
    table = replace(TABLE, timeframe=replace(TABLE.timeframe, name="30m", span_ms=1_800_000))
    return {"data": {BTC: str(file(table, root, "btcusdt-30m.csv"))}}


def other_market(root: Path) -> dict[str, Any]:
    return {"data": {BTC: str(file(TABLE, root, "ethusdt-1h.csv"))}}


def missing_file(root: Path) -> dict[str, Any]:
    return {"data": {BTC: str(root / "btcusdt-1h.csv")}}


def another_symbol(_: Path) -> dict[str, Any]:
    return {"symbols": [BTC, ETH]}


def missing_journal(root: Path) -> dict[str, Any]:
    return {"journal": str(root / "none.sqlite")}


def foreign_journal(root: Path) -> dict[str, Any]:
    return {"journal": journal(root / "j.sqlite", eth=list(random_table(9, symbol=ETH).candles()))}


def same_letters(root: Path) -> dict[str, Any]:
    path = file(replace(TABLE, symbol="BTCU/SDT"), root, "candles-1h.csv")
    return {"symbols": [BTC, "BTCU/SDT"], "data": {BTC: str(path), "BTCU/SDT": str(path)}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (minutes, r"btcusdt-30m\.csv: holds candles of 30m, 1h are asked for: give those"),
        (other_market, r"ethusdt-1h\.csv: its name tells ETH/USDT, and it is given for BTC/USDT: correct `data`"),
        (missing_file, r"btcusdt-1h\.csv: there is no such file"),
        (another_symbol, "ETH/USDT: there is no candle of it, neither in a file nor in the journal: give a file"),
        (missing_journal, r"candles of the journal: .*none\.sqlite"),
        (foreign_journal, r"j\.sqlite: holds candles of ETH/USDT, which nobody asked for"),
        (same_letters, "files of BTC/USDT, BTCU/SDT would have one name"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, changes: Callable[[Path], dict[str, Any]], message: str) -> None:
    other = tmp_path / "other"
    other.mkdir()
    request, folder = asked(tmp_path / "place", [TABLE], **changes(other))
    with pytest.raises(TrainingError, match=message) as caught:
        gather(request, folder)
    assert "\n" not in str(caught.value)


def test_a_journal_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    path = journal(tmp_path / "j.sqlite", btc=list(TABLE.candles()))
    request, folder = asked(tmp_path / "place", [TABLE], journal=path)
    with pytest.raises(TrainingError, match="reading its candles took more than 0 s"):
        gather(request, folder, limit_s=0.01)


# ---- from an exchange -------------------------------------------------------------------------------------------
@pytest.fixture
def server() -> Iterator[Histories]:
    with Histories({T0 + hour * HOUR_MS: values for hour, values in enumerate(walk(1, 1_501))}) as running:
        yield running


def venue_at(server: Histories) -> Callable[[str], CcxtVenue]:
    options = {"enableRateLimit": False, "timeout": 5000}
    return lambda name: CcxtVenue(name, options=options, url=server.url)


def shown(server: Histories) -> CandleTable:
    """Return what the exchange has: every candle but the one that is still forming."""
    times = sorted(server.candles)[:-1]
    values = np.array([server.candles[open_ms] for open_ms in times])
    return replace(TABLE, open_ms=np.array(times, np.int64), values=values)


def test_what_the_exchange_has_since_is_asked_for_and_the_given_file_stays_as_it_is(
    server: Histories, tmp_path: Path
) -> None:
    whole = shown(server)
    request, folder = asked(tmp_path / "place", [cut(whole, 0, 900)], fetch=True, exchange="binance")
    before = request.data[BTC].read_bytes()
    said: list[str] = []
    assert gather(request, folder, make_venue=venue_at(server), say=said.append).tables == (whole,)
    assert request.data[BTC].read_bytes() == before
    assert sorted(entry.name for entry in request.data[BTC].parent.iterdir()) == ["btcusdt-1h.csv", "models", "retrain"]
    assert "asking binance for BTC/USDT" in said
    assert min(int(asked["startTime"]) for asked in server.asked if "startTime" in asked) >= T0 + 850 * HOUR_MS


def test_a_fetched_file_is_gone_on_with_in_a_copy_and_its_gaps_are_asked_for_again(
    server: Histories, tmp_path: Path
) -> None:
    fetched, config = tmp_path / "data", tmp_path / "ccxt.toml"
    config.write_text("enableRateLimit = false\n")
    whole, hole = shown(server), {T0 + hour * HOUR_MS: server.candles.pop(T0 + hour * HOUR_MS) for hour in (100, 101)}
    words = ["--exchange", "binance", "--symbol", BTC, "--timeframe", "1h", "--to", "2020-02-01"]
    where = ["--out", str(fetched), "--url", server.url, "--config", str(config)]
    assert main(["data", "fetch", *words, *where]) == 0
    record = json.loads((fetched / "btcusdt-1h.parquet.json").read_text())
    record["gaps"][0]["confirmed"] = False  # the exchange was not sure
    (fetched / "btcusdt-1h.parquet.json").write_text(json.dumps(record))
    server.candles.update(hole)
    before = {path.name: path.read_bytes() for path in fetched.iterdir()}
    path = str(fetched / "btcusdt-1h.parquet")
    request, folder = asked(tmp_path / "place", [TABLE], fetch=True, exchange="binance", data={BTC: path})
    assert gather(request, folder, make_venue=venue_at(server)).tables == (whole,)
    assert {path.name: path.read_bytes() for path in fetched.iterdir()} == before


def test_without_a_file_all_is_asked_for_and_what_was_traded_on_counts(server: Histories, tmp_path: Path) -> None:
    whole = shown(server)
    traded = restated(cut(whole, 700, 800), 50)
    path = journal(tmp_path / "j.sqlite", btc=list(traded.candles()))
    request, folder = asked(tmp_path / "place", [TABLE], fetch=True, exchange="binance", data={}, journal=path)
    (table,) = gather(request, folder, make_venue=venue_at(server)).tables
    assert table == restated(whole, 750)


def test_a_file_that_is_still_to_be_made_is_done_without(server: Histories, tmp_path: Path) -> None:
    path = tmp_path / "btcusdt-1h.parquet"
    request, folder = asked(tmp_path / "place", [TABLE], fetch=True, exchange="binance", data={BTC: str(path)})
    found = gather(request, folder, make_venue=venue_at(server))
    assert found.tables == (shown(server),)
    assert f"BTC/USDT: {path} is not there: all of its candles were asked from binance" in told(found)
    assert not path.exists()


def test_an_exchange_that_refuses_is_named(server: Histories, tmp_path: Path) -> None:
    request, folder = asked(tmp_path / "place", [TABLE], fetch=True, exchange="binance", symbols=[BTC, "ADA/USDT"])
    with pytest.raises(TrainingError, match="ADA/USDT: binance has no such market"):
        gather(request, folder, make_venue=venue_at(server))
