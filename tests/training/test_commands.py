"""What all verbs have in common: usage, help, symbols and moments."""

import argparse
from pathlib import Path

import pytest

from tests.fakes.trading import HOUR_MS
from tests.training.command_line import Run, nameless
from tests.training.markets import FIRST
from training.commands_backtest import add_backtest
from training.commands_train import add_train


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


@pytest.mark.parametrize(
    ("verb", "told"),
    [
        ([], ["data", "train", "backtest"]),
        (["data"], ["import", "verify", "list"]),
        (["data", "import"], ["--symbol", "--overwrite", "--json"]),
        (["data", "verify"], ["--symbol", "--json"]),
        (["data", "list"], ["--json"]),
        (
            ["train"],
            ["--data", "--out", "--resume", "--preset", "--set", "--seed", "--since", "--until", "--ray", "--json"],
        ),
        (["backtest"], ["--data", "--model", "--since", "--until", "--fee-rate", "--max-drawdown", "--json"]),
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
    {"train": add_train, "backtest": add_backtest}[verb](parser)
    options = [action for action in parser._actions if action.dest != "help"]
    assert len(options) > 10
    assert [action.dest for action in options if not action.help] == []
    tuned = [action for action in options if action.default is not None and action.default is not False]
    assert [action.dest for action in tuned if "(default " not in (action.help or "")] == []


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["data"],
        ["train"],
        ["backtest", "--data", "x"],
        ["backtest", "--data", "x", "--model", "y", "--since", "yesterday"],
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
