"""`sacd data fetch` as a person runs it: whole commands against a server on loopback, killed, cut off and continued."""

import json
import os
import random
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strategy.candle import Timeframe
from strategy.candle_table import CandleTable
from tests.fakes.binance import walk
from tests.fakes.histories import Candles, Histories
from training.__main__ import main
from training.candles import read_candles

HOUR = 3_600_000
T0 = 1_577_836_800_000  # 2020-01-01
COUNT = 5_000
GAPS = ((700, 3), (1_500, 40), (2_900, 1_300))
"""Candle numbers, and how many are missing from there on."""
KILLED = -9


def history(count: int = COUNT, gaps: tuple[tuple[int, int], ...] = GAPS) -> Candles:
    missing = {hour for first, many in gaps for hour in range(first, first + many)}
    values = walk(1, count)
    return {T0 + hour * HOUR: values[hour] for hour in range(count) if hour not in missing}


def table_of(candles: Candles) -> CandleTable:
    """Return what a fetch has to give: every candle but the newest."""
    times = sorted(candles)[:-1]
    values = np.array([candles[open_ms] for open_ms in times], np.float64)
    return CandleTable(
        symbol="BTC/USDT", timeframe=Timeframe.parse("1h"), open_ms=np.array(times, np.int64), values=values
    )


@pytest.fixture
def server() -> Iterator[Histories]:
    with Histories(history()) as running:
        yield running


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "ccxt.toml"
    path.write_text("enableRateLimit = false\ntimeout = 5000\n")
    return path


def arguments(server: Histories, out: Path, config: Path, *more: object, exchange: str = "binance") -> list[str]:
    symbol = "BTC/USD" if exchange == "kraken" else "BTC/USDT"
    words = ["data", "fetch", "--exchange", exchange, "--symbol", symbol, "--timeframe", "1h", "--out", out]
    return [str(word) for word in (*words, "--url", server.url, "--config", config, *more)]


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(server: Histories, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return what runs a fetch into tmp_path/out: (exit code, standard output, standard error)."""

    def command(*more: object, out: str = "out", **settings: str) -> tuple[int, str, str]:
        try:
            code = main(arguments(server, tmp_path / out, config, *more, **settings))
        except SystemExit as end:
            code = int(end.code or 0)
        return code, *capsys.readouterr()

    return command


def parquet(directory: Path, name: str = "btcusdt-1h.parquet") -> bytes:
    return (directory / name).read_bytes()


def provenance(directory: Path, name: str = "btcusdt-1h.parquet") -> dict[str, Any]:
    record: dict[str, Any] = json.loads((directory / f"{name}.json").read_text())
    return record


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


# ---- a whole fetch ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("exchange", ["binance", "okx"])
def test_a_fetch_holds_every_final_candle_and_says_where_from(
    server: Histories, run: Run, tmp_path: Path, exchange: str
) -> None:
    code, out, err = run("--from", "2019-06-01", exchange=exchange)
    assert (code, err) == (0, "")
    table = read_candles(tmp_path / "out" / "btcusdt-1h.parquet")
    assert table == table_of(server.candles)
    record = provenance(tmp_path / "out")
    assert record.pop("fetched_ms") > T0
    assert record.pop("ccxt")[0].isdigit()
    assert len(record.pop("sha256")) == 64
    assert record == {
        "file": "btcusdt-1h.parquet",
        "exchange": exchange,
        "symbol": "BTC/USDT",
        "timeframe": "1h",
        "asked_ms": 1_559_347_200_000,
        "rows": COUNT - 1_343 - 1,
        "first_ms": T0,
        "last_ms": T0 + (COUNT - 2) * HOUR,
        "gaps": [{"first_ms": T0 + at * HOUR, "missing": many, "confirmed": True} for at, many in GAPS],
        "older_withheld": False,
        "restated": [],
    }
    assert out.splitlines() == [
        f"btcusdt-1h.parquet: {exchange} BTC/USDT 1h, 3,656 candles, 2020-01-01 00:00 .. 2020-07-27 06:00; 3,656 new",
        "  3 gaps (1,343 candles), all confirmed: the exchange has none there",
    ]
    assert names(tmp_path / "out") == [".fetch.lock", "btcusdt-1h.parquet", "btcusdt-1h.parquet.json"]


def test_an_untidy_venue_that_gives_less_than_it_says_gives_the_same_bytes(
    server: Histories, run: Run, tmp_path: Path
) -> None:
    assert run(exchange="okx", out="tidy")[0] == 0
    server.okx_page, server.repeats = 100, True
    assert run(exchange="okx", out="untidy")[0] == 0
    assert parquet(tmp_path / "tidy") == parquet(tmp_path / "untidy")


def test_recorded_candles_come_back_to_the_bit_with_all_their_gaps(
    config: Path, tmp_path: Path, recorded_candles: Callable[[str], Path]
) -> None:
    recorded = read_candles(recorded_candles("binance/btcusdt-1h.csv.gz"))
    rows = zip(recorded.open_ms.tolist(), map(tuple, recorded.values.tolist()), strict=True)
    with Histories(dict(rows)) as server:
        assert main(arguments(server, tmp_path / "out", config)) == 0
    assert read_candles(tmp_path / "out" / "btcusdt-1h.parquet") == recorded.slice(None, int(recorded.open_ms[-1]))
    gaps = provenance(tmp_path / "out")["gaps"]
    assert [len(gaps), sum(gap["missing"] for gap in gaps)] == [27, 127]  # as the recording's own notes count them
    assert all(gap["confirmed"] for gap in gaps)
    assert sum(server.requests.values()) < 47 * 2 + 40


# ---- killed and continued -----------------------------------------------------------------------------------------
@contextmanager
def child(server: Histories, out: Path, config: Path, *more: object, at: int, how: int, exchange: str) -> Iterator[Any]:
    """Run a fetch as a process of its own, which gets the signal `how` in the middle of its question number `at`."""
    begun = len(server.asked)
    command = [sys.executable, "-m", "training", *arguments(server, out, config, *more, exchange=exchange)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:

        def strike(number: int) -> None:
            if number == begun + at:
                process.send_signal(how)

        server.on_candles = strike
        yield process
    server.on_candles = None


@pytest.mark.parametrize(("exchange", "most"), [("binance", 9), ("okx", 30)])  # a hole takes OKX 20 questions to cross
def test_a_fetch_that_was_killed_again_and_again_ends_with_the_same_bytes(
    server: Histories, config: Path, tmp_path: Path, run: Run, *, exchange: str, most: int
) -> None:
    assert run("--from", "2019-12-01", exchange=exchange, out="whole")[0] == 0
    moments, kills = random.Random(5), 0
    for _ in range(60):
        at = moments.randint(3, most)
        with child(server, tmp_path / "out", config, "--from", "2019-12-01", at=at, how=signal.SIGKILL,
                   exchange=exchange) as process:  # fmt: skip
            process.communicate()
        kills += process.returncode == KILLED
        if process.returncode == 0:
            break
    assert process.returncode == 0
    assert kills >= 3
    assert parquet(tmp_path / "out") == parquet(tmp_path / "whole")
    first, second = provenance(tmp_path / "out"), provenance(tmp_path / "whole")
    assert first.pop("fetched_ms") >= second.pop("fetched_ms")
    assert first == second
    assert names(tmp_path / "out") == [".fetch.lock", "btcusdt-1h.parquet", "btcusdt-1h.parquet.json"]


def test_ctrl_c_keeps_what_was_fetched_and_says_how_to_go_on(
    server: Histories, config: Path, tmp_path: Path, run: Run
) -> None:
    out = tmp_path / "out"
    with child(server, out, config, at=8, how=signal.SIGINT, exchange="binance") as process:
        told, error = process.communicate()
    assert (process.returncode, told) == (130, "")
    assert error == f"sacd data: interrupted; what was fetched is kept in {out}, and the same command goes on from it\n"
    kept = (out / ".btcusdt-1h.parquet.unfinished").stat().st_size
    assert kept > 1_000 * 40
    asked = len(server.asked)
    assert run()[0] == 0
    assert read_candles(out / "btcusdt-1h.parquet") == table_of(server.candles)
    assert min(int(query["startTime"]) for query in server.asked[asked + 1 :]) > T0
    assert run(out="fresh")[0] == 0
    assert parquet(out) == parquet(tmp_path / "fresh")


def test_a_disk_that_fills_up_loses_nothing(server: Histories, config: Path, tmp_path: Path, run: Run) -> None:
    command = [sys.executable, "-m", "training", *arguments(server, tmp_path / "out", config)]
    full = subprocess.run(
        command, capture_output=True, text=True, check=False, preexec_fn=lambda: resource.setrlimit(
            resource.RLIMIT_FSIZE, (120_000, 120_000)
        ),
    )  # fmt: skip
    assert full.returncode == 1
    assert "cannot be written (File too large): free space or give another place" in full.stderr
    assert full.stderr.count("\n") == 1
    assert names(tmp_path / "out") == [".btcusdt-1h.parquet.unfinished", ".fetch.lock"]
    assert run()[0] == 0
    assert run(out="fresh")[0] == 0
    assert parquet(tmp_path / "out") == parquet(tmp_path / "fresh")


def test_a_broken_candle_stops_the_fetch_and_keeps_what_came_before_it(
    server: Histories, run: Run, tmp_path: Path
) -> None:
    whole = dict(server.candles)
    opened, high, low, close, volume = whole[T0 + 1_200 * HOUR]
    server.candles[T0 + 1_200 * HOUR] = (opened, low, high, close, volume)
    code, out, err = run()
    assert (code, out) == (1, "")
    assert "binance shows a candle that cannot be one: BTC/USDT 1h candle of 2020-02-20 00:00: high" in err
    assert "is below low" in err
    assert err.count("\n") == 1
    server.candles = whole
    assert run()[0] == 0
    assert read_candles(tmp_path / "out" / "btcusdt-1h.parquet") == table_of(whole)


# ---- a later fetch ------------------------------------------------------------------------------------------------
def test_a_later_fetch_appends_only_what_is_new(server: Histories, run: Run, tmp_path: Path) -> None:
    whole = dict(server.candles)
    server.candles = {open_ms: values for open_ms, values in whole.items() if open_ms < T0 + 3_000 * HOUR}
    assert run("--from", "2020-01-01")[0] == 0
    assert read_candles(tmp_path / "out" / "btcusdt-1h.parquet") == table_of(server.candles)
    server.candles, asked = whole, len(server.asked)
    code, out, _ = run()
    assert code == 0
    assert "; 800 new" in out  # hours 2,899, which was forming, and 4,200 .. 4,998
    since = [int(query["startTime"]) for query in server.asked[asked:] if "startTime" in query]
    assert min(since) >= T0 + 2_800 * HOUR
    assert run("--from", "2020-01-01", out="fresh")[0] == 0
    assert parquet(tmp_path / "out") == parquet(tmp_path / "fresh")


def test_a_fetch_with_nothing_new_leaves_the_files_alone(run: Run, tmp_path: Path) -> None:
    run()
    before = {name: ((tmp_path / "out" / name).read_bytes(), (tmp_path / "out" / name).stat().st_mtime_ns)
              for name in names(tmp_path / "out") if not name.startswith(".")}  # fmt: skip
    code, out, _ = run()
    assert code == 0
    assert "; nothing new\n" in out
    assert before == {name: ((tmp_path / "out" / name).read_bytes(), (tmp_path / "out" / name).stat().st_mtime_ns)
                      for name in before}  # fmt: skip


def test_a_restated_candle_is_told_recorded_and_kept_as_it_was(server: Histories, run: Run, tmp_path: Path) -> None:
    whole = dict(server.candles)
    server.candles = {open_ms: values for open_ms, values in whole.items() if open_ms <= T0 + 2_000 * HOUR}
    run()
    at_ms = T0 + 1_990 * HOUR
    kept, shown = whole[at_ms], (*whole[at_ms][:4], 77.0)
    server.candles = {**whole, at_ms: shown}
    code, out, _ = run()
    assert code == 0
    assert "1 candles, the first of 2020-03-23 22:00, are shown otherwise by the exchange now; the file keeps" in out
    assert read_candles(tmp_path / "out" / "btcusdt-1h.parquet") == table_of(whole)
    assert provenance(tmp_path / "out")["restated"] == [{"open_ms": at_ms, "kept": list(kept), "venue": list(shown)}]


def test_an_earlier_beginning_is_refused_unless_the_venue_has_nothing_there(server: Histories, run: Run) -> None:
    assert run("--from", "2020-02-01")[0] == 0
    code, _, err = run("--from", "2020-01-01")
    assert code == 1
    assert "was begun from 2020-02-01 00:00 on, and nothing is put before that" in err
    assert run("--from", "2019-01-01", out="other")[0] == 0
    assert run("--from", "2018-01-01", out="other")[0] == 0


def test_candles_of_the_last_span_end_before_to(server: Histories, run: Run, tmp_path: Path) -> None:
    assert run("--from", "2020-01-05", "--to", "2020-01-07")[0] == 0
    table = read_candles(tmp_path / "out" / "btcusdt-1h.parquet")
    assert table == table_of(server.candles).slice(T0 + 96 * HOUR, T0 + 144 * HOUR)
    assert len(table) == 48


# ---- a venue that keeps its newest candles only -------------------------------------------------------------------
def test_what_kraken_no_longer_gives_is_told_and_verified_as_missing(
    server: Histories, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.candles = history(3_000, ())
    whole = server.candles
    server.candles = {open_ms: values for open_ms, values in whole.items() if open_ms <= T0 + 1_000 * HOUR}
    code, out, _ = run("--from", "2020-01-01", exchange="kraken")
    assert code == 0
    assert "kraken has older candles, but gives none before 2020-01-12 17:00 in this timeframe" in out
    server.candles = whole
    code, out, _ = run(exchange="kraken")
    assert code == 0
    assert "1 gap (1,280 candles), of which 1 are not confirmed, the first at 2020-02-11 16:00" in out
    path = tmp_path / "out" / "btcusd-1h.parquet"
    assert main(["data", "verify", str(path)]) == 1
    assert "kraken did not confirm that it lacks 1280 of the missing candles, from 2020-02-11T16:00 UTC on" in (
        capsys.readouterr().out
    )


def test_candles_a_gap_lacked_are_filled_in_once_the_venue_gives_them(
    server: Histories, run: Run, tmp_path: Path
) -> None:
    whole = history(2_000, ())
    server.candles = {open_ms: values for open_ms, values in whole.items() if open_ms <= T0 + 500 * HOUR}
    run("--from", "2020-01-01", exchange="kraken")
    server.candles = whole
    run(exchange="kraken")
    assert [gap["missing"] for gap in provenance(tmp_path / "out", "btcusd-1h.parquet")["gaps"]] == [780]
    server.kraken_page = 5_000
    code, out, _ = run(exchange="kraken")
    assert code == 0
    assert "nothing new" not in out
    assert "780 in gaps" in out
    table = read_candles(tmp_path / "out" / "btcusd-1h.parquet")
    assert np.array_equal(table.values, table_of(whole).values)
    assert provenance(tmp_path / "out", "btcusd-1h.parquet")["gaps"] == []


# ---- verify and list ----------------------------------------------------------------------------------------------
def test_gaps_the_venue_confirmed_are_no_fault(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run()
    assert main(["data", "verify", str(tmp_path / "out" / "btcusdt-1h.parquet"), "--json"]) == 0
    [told] = json.loads(capsys.readouterr().out)["files"]
    assert told["problems"] == []
    assert (told["exchange"], told["missing"], told["missing_confirmed"]) == ("binance", 1_343, 1_343)
    assert main(["data", "list", str(tmp_path / "out"), "--json"]) == 0
    [listed] = json.loads(capsys.readouterr().out)["files"]
    assert (listed["exchange"], listed["missing_confirmed"], listed["problem"]) == ("binance", 1_343, None)


def test_list_tells_of_a_fetch_that_was_not_finished(
    server: Histories, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with child(server, tmp_path / "out", config, at=4, how=signal.SIGKILL, exchange="binance") as process:
        process.communicate()
    assert main(["data", "list", str(tmp_path / "out"), "--json"]) == 0
    [listed] = json.loads(capsys.readouterr().out)["files"]
    assert listed["file"] == ".btcusdt-1h.parquet.unfinished"
    assert "a fetch was not finished: run the same command again" in listed["problem"]


# ---- arguments ----------------------------------------------------------------------------------------------------
def test_several_symbols_come_into_a_file_each_and_an_unknown_one_stops_all_before_the_first(
    run: Run, tmp_path: Path
) -> None:
    code, _, err = run("--symbol", "ETH/USDX")
    assert code == 1
    assert "--symbol ETH/USDX: binance has no such market; did you mean ETH/USDT" in err
    assert names(tmp_path / "out") == [".fetch.lock"]
    assert run("--symbol", "ETH/USDT")[0] == 0
    assert [name for name in names(tmp_path / "out") if name.endswith(".parquet")] == [
        "btcusdt-1h.parquet",
        "ethusdt-1h.parquet",
    ]


@pytest.mark.parametrize(
    ("more", "code", "told"),
    [
        (["--timeframe", "1w"], 2, "weeks that begin on Mondays"),
        (["--timeframe", "1x"], 2, "is not one of the form 1m"),
        (["--symbol", "BTC/USDT:USDT"], 2, "is not of the form BASE/QUOTE"),
        (["--from", "yesterday"], 2, "is not a date such as"),
        (["--from", "2021-01-01", "--to", "2020-01-01"], 1, "--from 2021-01-01 00:00 is not before --to 2020-01-01"),
        (["--from", "2030-01-01"], 1, "binance has no candle of BTC/USDT 1h between 2030-01-01"),
        (["--config", "nowhere.toml"], 1, "--config nowhere.toml: cannot be read (No such file or directory)"),
    ],
    ids=["week", "timeframe", "swap", "date", "order", "future", "config"],
)
def test_arguments_that_cannot_be_are_one_line(run: Run, more: list[str], code: int, told: str) -> None:
    ended, out, err = run(*more)
    assert (ended, out) == (code, "")
    assert told in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.toml", "timeout = ", "neither TOML nor, with the ending .json, JSON"),
        ("a.json", "[1]", "give a table of ccxt's options"),
        ("a.toml", "options = 3", "give a table of ccxt's options"),
    ],
)
def test_a_config_that_is_none_is_refused(run: Run, tmp_path: Path, name: str, text: str, told: str) -> None:
    (tmp_path / name).write_text(text)
    code, _, err = run("--config", tmp_path / name)
    assert code == 1
    assert told in err


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.json", '{"timeout": 4321}'),
        ("c.toml", "timeout = 4321"),
        ("config.toml", '[daemon]\ninstance = "x"\n[exchange]\nid = "okx"\n[exchange.ccxt]\ntimeout = 4321\n'),
    ],
)
def test_options_reach_ccxt_from_every_kind_of_config(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    import requests  # noqa: PLC0415

    timeouts: list[float] = []
    real = requests.Session.request

    def request(*arguments: Any, **settings: Any) -> Any:
        timeouts.append(settings["timeout"])
        return real(*arguments, **settings)

    monkeypatch.setattr(requests.Session, "request", request)
    (tmp_path / name).write_text(text)
    assert run("--config", tmp_path / name, "--to", "2020-01-03")[0] == 0
    assert set(timeouts) == {4.321}


def test_the_lock_is_held_while_a_fetch_runs(server: Histories, config: Path, tmp_path: Path, run: Run) -> None:
    with child(server, tmp_path / "out", config, at=3, how=signal.SIGSTOP, exchange="binance") as process:
        while len(server.asked) < 3:  # until the first one stands still
            os.sched_yield()
        code, _, err = run()
        process.send_signal(signal.SIGCONT)
        process.communicate()
    assert code == 1
    assert "another fetch works in this directory: wait until it is done" in err
    assert process.returncode == 0
    assert read_candles(tmp_path / "out" / "btcusdt-1h.parquet") == table_of(server.candles)
