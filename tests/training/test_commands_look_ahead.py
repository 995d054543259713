import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from strategy.features import FEATURE_NAMES, WINDOW
from tests.training.command_line import Run
from tests.training.markets import history, write_table
from training import commands_look_ahead
from training.look_ahead_past import Streaming
from training.look_ahead_shuffled import check_shuffled

MINE = """
import numpy as np

def honest(open_ms, values, span_ms, max_missing):
    return {"lag": np.concatenate([[np.nan], values[:-1, 3]])}

def peeking(open_ms, values, span_ms, max_missing):
    return {**honest(open_ms, values, span_ms, max_missing), "next": np.append(values[1:, 3], np.nan)}

def remembering(open_ms, values, span_ms, max_missing):
    return {"sum": np.cumsum(values[:, 4])}

def failing(open_ms, values, span_ms, max_missing):
    return values[:, 3] / values[:, 3] if len(values) > 250 else 1 // 0
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    return path


@pytest.fixture
def short(tmp_path: Path) -> Path:
    return write_table(history(300, seed=3), tmp_path, "btcusdt-1h.csv")


def looked(run: Run, data: Path, *arguments: Any) -> tuple[int, str, str]:
    return run("evaluate", "--look-ahead", "--data", data, "--moments", 30, *arguments)


def told(run: Run, data: Path, *arguments: Any, code: int = 0) -> dict[str, Any]:
    ended, out, err = looked(run, data, *arguments, "--json")
    assert ended == code, err
    assert all(re.match("(future|streaming|decisions|shuffled): [0-9,]+ of ", line) for line in err.splitlines())
    found: dict[str, Any] = json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    return found


@pytest.fixture
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands_look_ahead, "check_shuffled", partial(check_shuffled, draws=2, candles=500))


@pytest.mark.usefixtures("few_draws")
def test_the_kernel_and_an_ensemble_are_clean(run: Run, short: Path, model: Path) -> None:
    found = told(run, short, "--model", model)
    assert (found["is_clean"], found["complaints"], found["leaks"], found["needs_more_past"]) == (True, [], [], [])
    assert (found["target"], found["window"]) == ("strategy.features:compute", WINDOW)
    assert found["streaming"]["rows"] == 300
    assert found["decisions"]["candles"] == 300
    assert found["shuffled"]["draws"] == 2
    assert found["rules"]["leaks"] == []
    assert found["rules"]["moments"] > 50
    assert {*FEATURE_NAMES} <= {warm_up["output"] for warm_up in found["warm_ups"]}


def test_a_planted_peek_ends_with_three_and_is_named(run: Run, short: Path, mine: Path) -> None:
    code, out, err = looked(run, short, "--features", f"{mine}:peeking", "--window", 10)
    assert (code, err) == (3, "")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[0] == f"{mine}:peeking: 2 outputs, window 10"
    assert any(line.startswith("next t+1 ") and "uses candle t+1" in line for line in lines)
    assert not any(line.startswith("lag ") for line in lines)
    assert lines[-1] == "1 leak found: what was measured with this is not evidence"


def test_an_honest_function_of_the_user_is_clean(run: Run, short: Path, mine: Path) -> None:
    code, out, err = looked(run, short, "--features", f"{mine}:honest", "--window", 10)
    assert (code, err) == (0, "")
    assert "past: 2 candles suffice for every row (lag needs most)" in out
    assert out.splitlines()[-1] == "clean: nothing that was tried reads a later candle"
    assert "streaming" not in out


def test_long_memory_is_told_and_is_no_leak(run: Run, short: Path, mine: Path) -> None:
    code, out, _ = looked(run, short, "--features", f"{mine}:remembering", "--window", 10)
    assert code == 0
    assert "past: 1 output needs more than 10 candles; live they would differ" in out
    assert "  sum needs more than " in out
    assert told(run, short, "--features", f"{mine}:remembering", "--window", 10)["needs_more_past"] == ["sum"]


@pytest.mark.usefixtures("few_draws")
def test_an_ensemble_is_told_in_words(run: Run, short: Path, model: Path) -> None:
    code, out, _ = looked(run, short, "--model", model)
    assert code == 0
    assert "decisions: 300 candles, " in out
    assert " 16 moments: other candles later change nothing" in out
    assert re.search(r"baselines: [0-9]+ moments: other candles later change nothing", out)
    assert re.search(r"shuffled: (mean Sharpe .* on 2 markets: no edge|the ensemble traded on [01] of 2)", out)


def test_forms_that_disagree_are_a_complaint(run: Run, short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = Streaming(rows=300, differ=2, symbol="BTC/USDT", open_ms=0, output="return_1")
    monkeypatch.setattr(commands_look_ahead, "compare_streaming", lambda *_, **__: odd)
    code, out, _ = looked(run, short)
    assert code == 3
    assert (
        "streaming: 2 of 300 rows are not those of the array form, first return_1 of BTC/USDT, 1970-01-01 00:00" in out
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--features", "absent.py:f"], "--features absent.py:f: there is no file absent.py: check the path"),
        (["--features", "{mine}:nothing"], "has no function 'nothing': name one that is defined there"),
        (["--features", "{mine}:honest", "--window", 5_000], "do not hold a window of 5000 and two more: give more"),
        (["--window", 10], f"--window 10: the features of sacd need {WINDOW}: give it with --features only"),
        (["--features", "{mine}:failing", "--window", 1], "candles of BTC/USDT: ZeroDivisionError: integer division"),
        (["--model", "absent"], "absent: cannot be read"),
        (["--seed", "-1"], "--seed -1: give a whole number within 0 .. 9223372036854775807"),
        (["--until", "1970-01-05"], f"96 candles do not hold a window of {WINDOW} and two more: give more candles"),
        (["--since", "2020-01-01"], "no candle between --since and --until"),
    ],
)
def test_bad_input_is_one_clear_message(arguments: list[Any], message: str, run: Run, short: Path, mine: Path) -> None:
    given = [str(word).format(mine=mine) for word in arguments]
    code, out, err = looked(run, short, *given)
    assert (code, out) == (1, "")
    assert message in err
    assert len(err.splitlines()) == 1
    assert err.startswith("sacd evaluate: ")


@pytest.mark.parametrize("value", ["0", "-3", "x", "1e3", "99999999"])
def test_a_number_of_moments_that_cannot_be_is_wrong_usage(value: str, run: Run, short: Path) -> None:
    code, out, err = run("evaluate", "--look-ahead", "--data", short, "--moments", value)
    assert (code, out) == (2, "")
    assert f"{value!r} is not a whole number of 1 .. 1000000" in err or "expected one argument" in err


def test_candles_of_another_timeframe_than_the_ensembles_are_refused(run: Run, tmp_path: Path, model: Path) -> None:
    table = history(300, seed=3)
    text = write_table(table, tmp_path, "ethusdt-1h.csv").read_text().splitlines()
    rows = [line.split(",", 1) for line in text[1:]]
    path = tmp_path / "ethusdt-2h.csv"
    path.write_text("\n".join([text[0], *(f"{int(ms) * 2},{rest}" for ms, rest in rows)]) + "\n")
    code, _, err = looked(run, path, "--model", model)
    assert code == 1
    assert "the ensemble was trained on 1h candles, the data has 2h: give 1h" in err
