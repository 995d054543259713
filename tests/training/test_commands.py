import argparse
import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strategy.candle_table import CandleTable
from strategy.parameters import CostModel, RiskLimits, StrategyParameters
from tests.fakes.trading import ETH, HOUR_MS
from tests.training.markets import FIRST, history, write_ensemble, write_table
from training import commands
from training.__main__ import main

TABLE = history(300, seed=3)
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Return what runs a command line: (exit code, standard output, standard error)."""

    def command(*arguments: Any) -> tuple[int, str, str]:
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as end:  # argparse: wrong usage, or help
            code = int(end.code or 0)
        return code, *capsys.readouterr()

    return command


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_table(TABLE, tmp_path)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_ensemble(tmp_path / "model")


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


# ---- data -------------------------------------------------------------------------------------------------------
def test_import_says_what_it_made(run: Run, tmp_path: Path) -> None:
    source = write_table(gap_table(), tmp_path)
    code, out, err = run("data", "import", source, tmp_path / "made.csv.gz")
    assert (code, err) == (0, "")
    assert out == "made.csv.gz: 5 candles of BTC/USDT 1h, 2020-09-13 .. 2020-09-13, 1 gaps (2 candles missing)\n"


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
    assert second.strip() == "1 gaps (2 candles missing), 1 without volume, biggest move +100.0%"
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


def test_list_shows_one_whole_line_per_file_however_long_its_name(run: Run, tmp_path: Path) -> None:
    name = "btcusdt-1h-" + "x" * 100 + ".csv"
    write_table(gap_table(), tmp_path, name)
    (tmp_path / "ethusdt-1h.csv").write_text("nothing")
    code, out, _ = run("data", "list", tmp_path)
    heading, first, second = out.splitlines()
    assert code == 0
    assert heading.split() == ["file", "symbol", "timeframe", "candles", "first", "last", "missing", "problem"]
    assert first.split() == [name, "BTC/USDT", "1h", "5", "2020-09-13", "2020-09-13", "2"]
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


def nameless(tmp_path: Path, table: CandleTable = TABLE) -> Path:
    return write_table(table, tmp_path, "download.csv")


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


# ---- backtest ---------------------------------------------------------------------------------------------------
def backtested(run: Run, *arguments: Any) -> dict[str, Any]:
    code, out, err = run("backtest", *arguments, "--json")
    assert (code, err) == (0, "")
    told: dict[str, Any] = json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    return told


def test_backtest_prints_a_table_of_both(run: Run, data: Path, model: Path) -> None:
    code, out, err = run("backtest", "--data", data, "--model", model)
    assert (code, err) == (0, "")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    told = backtested(run, "--data", data, "--model", model)
    hold = told["buy_and_hold"]
    assert lines[0].startswith("BTC/USDT, 1970-04-11 .. 1970-04-23, 300 candles, ensemble ")
    assert f"total return {told['total_return']:+.2%} {hold['total_return']:+.2%}" in lines
    assert f"fees {told['fees']:,.2f} {hold['fees']:,.2f}" in lines
    assert f"hold {told['actions']['hold']} {hold['actions']['hold']}" in lines
    assert lines[-1].startswith("verdicts: ")


def test_backtest_takes_several_files_either_way(run: Run, tmp_path: Path, data: Path, model: Path) -> None:
    other = write_table(history(300, seed=4, symbol=ETH), tmp_path, "ethusdt-1h.csv")
    one = backtested(run, "--data", data, other, "--model", model)
    two = backtested(run, "--data", data, "--data", other, "--model", model)
    assert one == two
    assert one["symbols"] == ["BTC/USDT", "ETH/USDT"]


def test_from_and_to_cut_days_out_and_earlier_candles_still_fill_the_window(run: Run, data: Path, model: Path) -> None:
    told = backtested(run, "--data", data, "--model", model, "--from", "1970-04-15", "--to", "1970-04-18")
    day_ms = 86_400_000
    assert (told["start_ms"], told["end_ms"], told["candles"]) == (104 * day_ms, 107 * day_ms, 72)


@pytest.mark.parametrize("moment", ["1970-04-15T00:00", "1970-04-15T02:00+02:00", "1970-04-15 00:00:00Z"])
def test_a_moment_may_have_an_hour_and_a_zone(run: Run, data: Path, model: Path, moment: str) -> None:
    assert backtested(run, "--data", data, "--model", model, "--from", moment)["start_ms"] == 104 * 86_400_000


PARAMETERS = [field for record in (StrategyParameters, RiskLimits, CostModel) for field in fields(record)]


@pytest.mark.parametrize("field", PARAMETERS, ids=lambda field: field.name)
def test_every_parameter_is_an_option_that_reaches_the_account(
    run: Run, data: Path, model: Path, monkeypatch: pytest.MonkeyPatch, field: Any
) -> None:
    seen: list[Any] = []

    def setup_of(tables: Any, conditions: Any, instance: str) -> Any:
        seen.append(conditions)
        raise commands.TrainingError("seen enough")

    monkeypatch.setattr(commands, "setup_of", setup_of)
    changed = field.default + 1 if isinstance(field.default, int) else field.default * 0.5
    run("backtest", "--data", data, "--model", model, f"--{field.name.replace('_', '-')}", repr(changed))
    [conditions] = seen
    for record in (conditions.strategy, conditions.limits, conditions.costs):
        for other in fields(record):
            wanted = changed if other.name == field.name else other.default
            assert getattr(record, other.name) == wanted


def test_options_change_what_comes_out(run: Run, data: Path, model: Path) -> None:
    usual = backtested(run, "--data", data, "--model", model)
    free = backtested(run, "--data", data, "--model", model, "--fee-rate", "0", "--slippage-rate", "0")
    assert usual["fees"] > 0.0
    assert (free["fees"], free["buy_and_hold"]["fees"]) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fee-rate", "5"], "fee_rate 5.0 is outside 0.0 .. 0.1"),
        (["--fee-rate", "nan"], "fee_rate nan is outside"),
        (["--stop-loss", "1e400"], "stop_loss inf is outside"),
        (["--max-missing", "-1"], "max_missing -1 is outside 0 .. 100000"),
        (["--from", "2030-01-01"], "no candle lies in the span: choose one inside the files"),
        (["--from", "1970-04-15", "--to", "1970-04-10"], "no candle lies in the span: choose one inside the files"),
        (["--to", "1970-01-05"], "nothing was decided; give more candles"),
        (["--to", "1969-01-05"], "btcusdt-1h.csv: no candle between --from and --to: choose a span inside the file"),
        (
            ["--model", "/nowhere"],
            "/nowhere: cannot be read (No such file or directory): name the directory of a bundle",
        ),
        (["--data", "/nowhere-1h.csv"], "/nowhere-1h.csv: there is no such file: correct the path"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_impossible_backtests_are_one_line_and_exit_1(
    run: Run, data: Path, model: Path, arguments: list[str], message: str
) -> None:
    code, out, err = run("backtest", "--data", data, "--model", model, *arguments)
    assert (code, out) == (1, "")
    assert err.startswith("sacd backtest: ")
    assert message in err
    assert err.count("\n") == 1


def test_files_that_do_not_go_together_are_refused(run: Run, tmp_path: Path, data: Path, model: Path) -> None:
    daily = tmp_path / "ethusdt-1d.csv"
    daily.write_text("timestamp_ms,open,high,low,close,volume\n0,1,1,1,1,1\n")
    assert "the same symbol: BTC/USDT, BTC/USDT" in run("backtest", "--data", data, data, "--model", model)[2]
    assert "different timeframes: 1d, 1h" in run("backtest", "--data", data, daily, "--model", model)[2]


@pytest.mark.parametrize("verb", ["backtest", "train"])
def test_a_symbol_that_no_name_tells_can_be_stated_for_each_file(
    run: Run, tmp_path: Path, model: Path, verb: str
) -> None:
    file = nameless(tmp_path)
    place = ["--model", model] if verb == "backtest" else ["--out", tmp_path / "out"]
    assert "or give --symbol BASE/QUOTE" in run(verb, "--data", file, *place)[2]
    wrong = run(verb, "--data", file, *place, "--symbol", "SOL/USDT", "ETH/USDT")
    assert wrong[0] == 1
    assert wrong[2] == f"sacd {verb}: --symbol: 2 for 1 files: give one for each file, in their order\n"
    assert run(verb, "--data", file, *place, "--symbol", "SOLUSDT")[0] == 2


def test_backtest_trades_the_symbols_it_is_told_in_their_order(
    run: Run, tmp_path: Path, data: Path, model: Path
) -> None:
    arguments = ["--data", nameless(tmp_path, history(300, seed=4)), data, "--model", model]
    told = backtested(run, *arguments, "--symbol", "SOL/USDT", "--symbol", "ADA/USDT")
    assert told["symbols"] == ["SOL/USDT", "ADA/USDT"]


# ---- train ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--members", "0"], "--members 0: give 1 .. 100"),
        (["--members", "101"], "--members 101: give 1 .. 100"),
        (["--steps", "0"], "--steps 0: give at least 1"),
        (["--steps", "2000"], "--steps 2000 end before learning begins: give more than 2000"),
        (["--seed", "-1"], "--seed -1: give at least 0"),
        (["--batch-size", "0"], "--batch-size 0: give at least 1"),
        (["--learning-rate", "nan"], "--learning-rate nan: give above 0 and at most 1"),
        (["--learning-rate", "0"], "--learning-rate 0.0: give above 0 and at most 1"),
        (["--learning-rate", "-0.001"], "--learning-rate -0.001: give above 0 and at most 1"),
        (["--gamma", "1.5"], "--gamma 1.5: give 0 .. 1"),
        (["--net-arch", "8", "0"], "--net-arch [0]: give layers of 1 .. 65536"),
        (["--net-arch", "99999"], "--net-arch [99999]: give layers of 1 .. 65536"),
        (["--to", "1970-01-05"], "candles are too few"),
        (["--from", "2030-01-01"], "btcusdt-1h.csv: no candle between --from and --to: choose a span inside the file"),
        (["--data", "/nowhere-1h.csv"], "/nowhere-1h.csv: there is no such file: correct the path"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_impossible_trainings_are_one_line_exit_1_and_nothing_is_written(
    run: Run, tmp_path: Path, data: Path, arguments: list[str], message: str
) -> None:
    code, out, err = run("train", "--data", data, "--out", tmp_path / "out", "--steps", "3000", *arguments)
    assert (code, out) == (1, "")
    assert err.startswith("sacd train: ")
    assert message in err
    assert err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == [data.name]


def test_a_training_without_its_libraries_says_what_to_install(
    run: Run, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(_: str) -> None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr(commands.importlib, "import_module", missing)
    code, _, err = run("train", "--data", data, "--out", tmp_path / "out")
    assert code == 1
    assert err == (
        "sacd train: No module named 'torch': this needs the `train` extra; `make test` installs it in .venv-dev, from "
        "where `.venv-dev/bin/sacd` works\n"
    )


# ---- usage ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("verb", "told"),
    [
        ([], ["data", "train", "backtest"]),
        (["data"], ["import", "verify", "list"]),
        (["data", "import"], ["--symbol", "--overwrite", "--json"]),
        (["data", "verify"], ["--symbol", "--json"]),
        (["data", "list"], ["--json"]),
        (["train"], ["--data", "--out", "--members", "--steps", "--seed", "--from", "--to", "--use-sde", "--json"]),
        (["backtest"], ["--data", "--model", "--from", "--to", "--fee-rate", "--max-drawdown", "--json"]),
        (["parity"], ["--data", "--model", "--trace", "--setup"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_help_names_every_option(run: Run, verb: list[str], told: list[str]) -> None:
    code, out, err = run(*verb, "--help")
    assert (code, err) == (0, "")
    assert out.startswith("usage: sacd")
    assert not [option for option in told if option not in out]


@pytest.mark.parametrize("verb", ["train", "backtest"])
def test_help_explains_every_option(verb: str) -> None:
    parser = argparse.ArgumentParser()
    getattr(commands, f"add_{verb}")(parser)
    options = [action for action in parser._actions if action.dest != "help"]
    assert len(options) > 10
    assert [action.dest for action in options if not action.help] == []
    tuned = [action for action in options if action.default is not None and action.default is not False]
    assert [action.dest for action in tuned if "(default " not in (action.help or "")] == []


def test_help_of_backtest_tells_the_meaning_and_default_of_every_parameter(run: Run) -> None:
    told = " ".join(run("backtest", "--help")[1].split())
    assert "--stop-loss VALUE share below the average entry (default 0.05)" in told
    assert set(commands._MEANINGS) == {field.name for field in PARAMETERS}


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["data"],
        ["train"],
        ["backtest", "--data", "x"],
        ["backtest", "--data", "x", "--model", "y", "--from", "yesterday"],
        ["backtest", "--data", "x", "--model", "y", "--edge-horizon", "1.5"],
        ["train", "--data", "x", "--out", "y", "--steps", "many"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_2(run: Run, arguments: list[str]) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert "usage: sacd" in err


def test_the_first_candles_of_these_tests_are_of_1970() -> None:
    assert FIRST * HOUR_MS == 100 * 86_400_000


def test_backtest_refuses_candles_of_another_timeframe_than_the_ensemble_was_trained_on(
    run: Run, tmp_path: Path
) -> None:
    bundle = write_ensemble(tmp_path / "models")
    rows = [f"{day * 86_400_000},1,2,1,2,5" for day in range(20_000, 20_005)]
    daily = tmp_path / "btcusdt-1d.csv"
    daily.write_text("timestamp_ms,open,high,low,close,volume\n" + "\n".join(rows) + "\n")
    code, _, said = run("backtest", "--data", daily, "--model", bundle)
    assert code == 1
    assert said.startswith("sacd backtest: the ensemble was trained on 1h candles, the data has 1d")
