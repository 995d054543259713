import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strategy.bundle import Bundle
from strategy.candle_table import CandleTable
from strategy.observation import N_OBSERVATION
from tests.fakes.trading import BTC, setup
from tests.training.markets import FIRST, ensemble, history, with_gap, write_ensemble, write_table
from training.__main__ import main
from training.candles import read_candles
from training.market import Conditions, setup_of
from training.parity import Trace, backtest_trace, compare, compiled_trace, environment_trace

NAMES = ("observations", "actions", "trades", "equity")


def trace(candles: int = 10, trades: int = 4) -> Trace:
    rng = np.random.default_rng(0)
    return Trace(
        observations=rng.random((candles, N_OBSERVATION), np.float32),
        votes=rng.random((candles, 3, 3), np.float32),
        targets=rng.random(candles),
        trades=rng.random((trades, 4)),
        equity=rng.random(candles),
    )


def flipped(array: np.ndarray, at: tuple[int, ...]) -> np.ndarray:
    """Return a copy of `array` with the lowest bit of one number flipped."""
    copy = array.copy()
    copy.view(np.uint8).reshape(-1)[np.ravel_multi_index(at, array.shape) * array.itemsize] ^= 1
    return copy


def counts(one: Trace, other: Trace) -> dict[str, int]:
    result = compare(BTC, one, {"daemon": other})
    assert result.by["daemon"] == {name: getattr(result, f"{name}_differ") for name in NAMES}
    return dict(result.by["daemon"])


# ---- what compare finds -----------------------------------------------------------------------------------------
def test_equal_traces_differ_in_nothing() -> None:
    result = compare(BTC, trace(), {"environment": trace(), "daemon": trace()})
    assert result.is_equal
    assert (result.symbol, result.candles, result.observed, result.trades) == (BTC, 10, 10, 4)
    assert result.by == {"environment": dict.fromkeys(NAMES, 0), "daemon": dict.fromkeys(NAMES, 0)}


@pytest.mark.parametrize(
    ("part", "at", "counted"),
    [
        ("observations", (7, 3), "observations"),
        ("votes", (2, 1, 0), "actions"),
        ("targets", (9,), "actions"),
        ("trades", (3, 2), "trades"),
        ("equity", (0,), "equity"),
    ],
)
def test_one_flipped_bit_is_found(part: str, at: tuple[int, ...], counted: str) -> None:
    one = trace()
    other = replace(one, **{part: flipped(getattr(one, part), at)})
    assert counts(one, other) == dict.fromkeys(NAMES, 0) | {counted: 1}
    assert not compare(BTC, one, {"daemon": other}).is_equal


def test_rows_are_counted_not_numbers() -> None:
    one = trace()
    other = replace(one, observations=flipped(flipped(one.observations, (5, 0)), (5, 9)))
    assert counts(one, other)["observations"] == 1


def test_every_row_that_differs_is_counted() -> None:
    one = trace()
    other = replace(one, observations=flipped(flipped(one.observations, (5, 0)), (6, 0)))
    assert counts(one, other)["observations"] == 2


@pytest.mark.parametrize("part", ["trades", "equity", "targets", "observations", "votes"])
@pytest.mark.parametrize("missing", [1, 3])
def test_missing_rows_differ_whoever_lacks_them(part: str, missing: int) -> None:
    whole = trace()
    short = replace(whole, **{part: getattr(whole, part)[:-missing]})
    counted = {"targets": "actions", "votes": "actions"}.get(part, part)
    for one, other in ((whole, short), (short, whole)):
        assert counts(one, other) == dict.fromkeys(NAMES, 0) | {counted: missing}


def test_no_trades_at_all_are_equal_to_none_and_differ_from_some() -> None:
    none, some = trace(trades=0), trace(trades=2)
    assert counts(none, trace(trades=0))["trades"] == 0
    assert counts(none, some)["trades"] == counts(some, none)["trades"] == 2


def test_another_type_differs_in_every_row() -> None:
    one = trace()
    assert counts(one, replace(one, observations=one.observations.astype(np.float64)))["observations"] == 10


def test_zero_and_minus_zero_are_other_bytes() -> None:
    one = replace(trace(), equity=np.zeros(3))
    assert counts(one, replace(one, equity=np.array([0.0, -0.0, 0.0])))["equity"] == 1


def test_differences_of_both_sides_add_up() -> None:
    one = trace()
    other = replace(one, equity=flipped(one.equity, (1,)))
    result = compare(BTC, one, {"environment": other, "daemon": other})
    assert result.equity_differ == 2


# ---- environment, compiled environment and backtest -------------------------------------------------------------
def assert_equal_and_lively(table: CandleTable, made: Any, bundle: Bundle, decisions: int) -> Trace:
    reference = backtest_trace(table, made, bundle, 100_000.0)
    environment = environment_trace(table, made, bundle, 100_000.0)
    compiled = compiled_trace(table, made, bundle, 100_000.0)
    result = compare(table.symbol, reference, {"environment": environment, "compiled": compiled})
    assert result.by == {name: dict.fromkeys(NAMES, 0) for name in ("environment", "compiled")}
    assert (result.candles, result.observed) == (len(table), decisions)
    assert result.trades > 10
    assert len(np.unique(reference.equity)) > 30
    return reference


def test_environments_and_backtest_agree_on_every_byte_of_recorded_candles_with_gaps(
    recorded_candles: Callable[[str], Path], tmp_path: Path
) -> None:
    """Takes in the outage of February 2018: 33 hours, which one window may lack, but not with all that came before."""
    table = read_candles(recorded_candles("binance/btcusdt-1h.csv.gz"))
    table = table.slice(None, int(table.open_ms[FIRST + 3_600]))
    spans = (table.open_ms[FIRST:] - table.open_ms[:-FIRST]) // 3_600_000
    assert len(table.gaps()) >= 3
    assert_equal_and_lively(
        table, setup_of([table], Conditions(), "parity"), ensemble(tmp_path), int((spans <= FIRST + 48).sum())
    )


def test_environments_and_backtest_agree_across_a_gap_that_breaks_the_window(tmp_path: Path) -> None:
    table = with_gap(history(2_700, seed=3), FIRST + 150, missing=49)
    made = setup_of([table], Conditions(), "parity")
    reference = assert_equal_and_lively(table, made, ensemble(tmp_path), 150 + 150)
    blind = slice(FIRST + 150, 2 * FIRST + 150)
    assert not reference.observations[blind].any()
    assert reference.observations[[FIRST + 149, 2 * FIRST + 150]].any(axis=1).all()


def test_the_trace_holds_what_it_says(tmp_path: Path) -> None:
    table, made = history(60, seed=3), setup()
    found = backtest_trace(table, made, ensemble(tmp_path), 100_000.0)
    assert found.observations.shape == (len(table), N_OBSERVATION)
    assert (found.votes.shape, found.targets.shape) == ((len(table), 3, 3), (len(table),))
    assert found.trades.shape[1] == 4
    assert (found.equity[:FIRST] == 100_000.0).all()
    held = found.trades[:, 1].sum()
    cash = 100_000.0 - (found.trades[:, 1] * found.trades[:, 2] + found.trades[:, 3]).sum()
    assert found.equity[-1] == pytest.approx(cash + held * table.values[-1, 3])


# ---- the command ------------------------------------------------------------------------------------------------
@pytest.fixture
def experiment(tmp_path: Path) -> tuple[list[str], dict[str, np.ndarray], Path]:
    """Return the arguments of `training parity`, the arrays of a daemon that agrees, and where they are stored."""
    table, made = history(60, seed=3), setup()
    model = write_ensemble(tmp_path / "bundle")
    (tmp_path / "setup.json").write_text(json.dumps({"setup": made.to_json(), "cash": 5_000.0}))
    found = backtest_trace(table, made, ensemble(tmp_path), 5_000.0)
    arrays = {name: getattr(found, name) for name in Trace.__dataclass_fields__}
    stored = tmp_path / "trace.npz"
    files = {"--data": write_table(table, tmp_path), "--model": model, "--setup": tmp_path / "setup.json"}
    arguments = [text for option, path in {**files, "--trace": stored}.items() for text in (option, str(path))]
    return ["parity", *arguments], arrays, stored


def test_the_command_says_that_nothing_differs(experiment: Any, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, arrays, stored = experiment
    np.savez(stored, **arrays)
    assert main(arguments) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["symbol"], told["candles"], told["observed"]) == (BTC, FIRST + 60, 60)
    assert [told[f"{name}_differ"] for name in NAMES] == [0, 0, 0, 0]


def test_the_command_says_no_and_where_when_the_daemon_differs(
    experiment: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, arrays, stored = experiment
    np.savez(stored, **(arrays | {"equity": flipped(arrays["equity"], (FIRST + 9,))}))
    assert main(arguments) == 3
    told = json.loads(capsys.readouterr().out)
    assert told["by"]["daemon"] == dict.fromkeys(NAMES, 0) | {"equity": 1}
    assert told["by"]["environment"] == told["by"]["compiled"] == dict.fromkeys(NAMES, 0)
