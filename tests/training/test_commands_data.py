import json
from pathlib import Path

import numpy as np
import pytest

from strategy.candle_table import CandleTable
from tests.fakes.trading import HOUR_MS, random_table
from tests.training.command_line import TABLE, Run, nameless
from tests.training.markets import changed, write_table


def gap_table() -> CandleTable:
    """Return five candles of 2020-09-13, of which the third and fourth hour are missing."""
    hours = np.array([0, 1, 4, 5, 6], np.int64)
    values = np.array(
        [[10, 12, 9, 11, 1], [11, 13, 9, 12, 0], [12, 25, 12, 24, 3], [24, 24, 18, 18, 1], [18, 18, 18, 18, 18]]
    )
    return CandleTable(
        symbol="BTC/USDT",
        timeframe=TABLE.timeframe,
        open_ms=1_600_002_000_000 // HOUR_MS * HOUR_MS + hours * HOUR_MS,
        values=values,
    )


def test_import_says_what_it_made(run: Run, tmp_path: Path) -> None:
    source = write_table(gap_table(), tmp_path)
    code, out, err = run("data", "import", source, tmp_path / "made.csv.gz")
    assert (code, err) == (0, "")
    assert out == "made.csv.gz: 5 candles of BTC/USDT 1h, 2020-09-13 .. 2020-09-13, 1 gap (2 candles missing)\n"


def test_import_into_a_file_that_exists_fails_and_changes_nothing(run: Run, tmp_path: Path) -> None:
    source = write_table(gap_table(), tmp_path)
    (tmp_path / "made.csv").write_text("mine")
    code, out, err = run("data", "import", source, tmp_path / "made.csv")
    assert (code, out) == (1, "")
    assert err.startswith("sacd data: ")
    assert "this file exists" in err
    assert (tmp_path / "made.csv").read_text() == "mine"
    assert run("data", "import", source, tmp_path / "made.csv", "--overwrite")[0] == 0


def test_import_as_json_names_the_symbol_it_was_told(run: Run, tmp_path: Path) -> None:
    source = write_table(gap_table(), tmp_path, "download.csv")
    code, out, _ = run("data", "import", source, tmp_path / "made.csv", "--symbol", "SOL/USDT", "--json")
    made = json.loads(out)
    assert (code, made["symbol"], made["rows"]) == (0, "SOL/USDT", 5)


def test_verify_says_good_with_gaps_and_moves(run: Run, tmp_path: Path) -> None:
    code, out, _ = run("data", "verify", write_table(gap_table(), tmp_path))
    assert code == 0
    first, second, gap = out.splitlines()
    assert first == f"good   {tmp_path}/btcusdt-1h.csv: BTC/USDT 1h, 5 candles, 2020-09-13 .. 2020-09-13"
    assert second.strip() == "1 gap (2 candles missing), 1 without volume, biggest move +100.0%"
    assert gap.strip() == "gap: 2 from 2020-09-13 15:00"


def test_verify_says_wrong_and_why_and_exits_1_when_any_file_is_wrong(run: Run, tmp_path: Path) -> None:
    good, bad = write_table(gap_table(), tmp_path), tmp_path / "ethusdt-1h.csv"
    bad.write_text("timestamp_ms,open,high,low,close,volume\n0,1,1,2,1,1\n")
    code, out, _ = run("data", "verify", good, bad, tmp_path / "none-1h.csv")
    assert code == 1
    assert [line.split()[0] for line in out.splitlines() if not line.startswith(" ")] == ["good", "wrong", "wrong"]
    assert f"{bad} line 2: " in out
    assert "there is no such file" in out


def test_verify_as_json_lists_every_file_in_order(run: Run, tmp_path: Path) -> None:
    good = write_table(gap_table(), tmp_path)
    code, out, _ = run("data", "verify", tmp_path / "no-1h.csv", good, "--json")
    files = json.loads(out)["files"]
    assert code == 1
    assert [file["file"] for file in files] == [str(tmp_path / "no-1h.csv"), str(good)]
    assert [bool(file["problems"]) for file in files] == [True, False]


def test_list_says_that_there_is_nothing_to_list(run: Run, tmp_path: Path) -> None:
    assert run("data", "list", tmp_path) == (0, f"{tmp_path}: no candle files\n", "")


def test_list_shows_one_whole_line_per_file_however_long_its_name(run: Run, tmp_path: Path) -> None:
    name = "btcusdt-1h-" + "x" * 100 + ".csv"
    write_table(gap_table(), tmp_path, name)
    (tmp_path / "ethusdt-1h.csv").write_text("nothing")
    code, out, _ = run("data", "list", tmp_path)
    heading, first, second = out.splitlines()
    assert code == 0
    assert heading.split() == [
        *("file", "exchange", "symbol", "timeframe", "candles", "first", "last", "missing", "confirmed", "problem")
    ]
    assert first.split() == [name, "BTC/USDT", "1h", "5", "2020-09-13", "2020-09-13", "2", "0"]
    assert second.split()[0] == "ethusdt-1h.csv"
    assert "line 1" in second


def test_list_of_a_directory_that_is_none_fails(run: Run, tmp_path: Path) -> None:
    code, _, err = run("data", "list", tmp_path / "none")
    assert (code, err) == (1, f"sacd data: {tmp_path}/none: there is no such directory: correct the path\n")


@pytest.mark.parametrize("verb", ["verify", "list", "import"])
def test_names_with_brackets_are_shown_as_they_are(run: Run, tmp_path: Path, verb: str) -> None:
    """Rich would take [red] for a colour, and [/x] for a mistake."""
    folder = tmp_path / "[red]a[" / "x]"
    folder.mkdir(parents=True)
    source = write_table(gap_table(), folder, "btcusdt-1h-[bold].csv")
    arguments = {"verify": [source], "list": [tmp_path], "import": [source, folder / "btcusdt-1h-[b].csv"]}[verb]
    code, out, err = run("data", verb, *arguments)
    assert (code, err) == (0, "")
    assert ("btcusdt-1h-[b].csv" if verb == "import" else "[red]a[/x]/btcusdt-1h-[bold].csv") in out


def test_verify_tells_a_missing_symbol_beside_what_is_in_the_file(run: Run, tmp_path: Path) -> None:
    file = nameless(tmp_path, gap_table())
    code, out, _ = run("data", "verify", file)
    assert code == 1
    assert f"{file}: unknown symbol 1h, 5 candles" in out
    assert "or give --symbol BASE/QUOTE" in out
    [told] = json.loads(run("data", "verify", file, "--json")[1])["files"]
    assert (told["symbol"], told["rows"], len(told["problems"])) == (None, 5, 1)


def test_verify_takes_the_symbol_it_is_told(run: Run, tmp_path: Path) -> None:
    code, out, _ = run("data", "verify", nameless(tmp_path, gap_table()), "--symbol", "SOL/USDT")
    assert code == 0
    assert "SOL/USDT 1h, 5 candles" in out


def test_verify_names_the_first_gaps_and_counts_the_rest(run: Run, tmp_path: Path) -> None:
    table = random_table(60, seed=1)
    sparse = changed(table, open_ms=np.arange(60) * 2 * HOUR_MS)  # every second hour is missing
    _, out, _ = run("data", "verify", write_table(sparse, tmp_path))
    gaps = [line.strip() for line in out.splitlines() if line.strip().startswith(("gap:", "..."))]
    assert len(gaps) == 21
    assert gaps[-1] == "... and 39 more: --json lists them all"
    _, out, _ = run("data", "verify", tmp_path / "btcusdt-1h.csv", "--json")
    assert len(json.loads(out)["files"][0]["gaps"]) == 59
