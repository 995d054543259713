import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from strategy.manifest import MANIFEST, BundleManifest
from strategy.parameters import SHIPPED_LIMITS, SHIPPED_STRATEGY, CostModel, RiskLimits, StrategyParameters
from tests.fakes.trading import ETH
from tests.training.command_line import Run, nameless
from tests.training.markets import history, write_ensemble, write_table
from training import commands_backtest
from training.errors import TrainingError
from training.market import Conditions


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
    assert lines[-2].startswith("verdicts: ")
    assert lines[-1] == "trained on BTC/USDT up to 2021-12-31: only later candles are evidence (--since)"


def test_candles_after_those_of_the_training_need_no_warning(run: Run, tmp_path: Path, model: Path) -> None:
    table = history(300, seed=4)
    later = replace(table, open_ms=table.open_ms + 19_000 * 86_400_000)
    code, out, err = run("backtest", "--data", write_table(later, tmp_path), "--model", model)
    assert (code, err) == (0, "")
    assert out.splitlines()[0].startswith("BTC/USDT, 2022-")
    assert out.splitlines()[-1].startswith("verdicts: ")


def test_backtest_takes_several_files_either_way(run: Run, tmp_path: Path, data: Path, model: Path) -> None:
    other = write_table(history(300, seed=4, symbol=ETH), tmp_path, "ethusdt-1h.csv")
    one = backtested(run, "--data", data, other, "--model", model)
    two = backtested(run, "--data", data, "--data", other, "--model", model)
    assert one == two
    assert one["symbols"] == ["BTC/USDT", "ETH/USDT"]


def test_since_and_until_cut_days_out_and_earlier_candles_still_fill_the_window(
    run: Run, data: Path, model: Path
) -> None:
    told = backtested(run, "--data", data, "--model", model, "--since", "1970-04-15", "--until", "1970-04-18")
    day_ms = 86_400_000
    assert (told["start_ms"], told["end_ms"], told["candles"]) == (104 * day_ms, 107 * day_ms, 72)


@pytest.mark.parametrize("moment", ["1970-04-15T00:00", "1970-04-15T02:00+02:00", "1970-04-15 00:00:00Z"])
def test_a_moment_may_have_an_hour_and_a_zone(run: Run, data: Path, model: Path, moment: str) -> None:
    assert backtested(run, "--data", data, "--model", model, "--since", moment)["start_ms"] == 104 * 86_400_000


PARAMETERS = [field for record in (StrategyParameters, RiskLimits, CostModel) for field in fields(record)]


@pytest.mark.parametrize("field", PARAMETERS, ids=lambda field: field.name)
def test_every_parameter_is_an_option_that_reaches_the_account(
    run: Run, data: Path, model: Path, monkeypatch: pytest.MonkeyPatch, field: Any
) -> None:
    seen: list[Any] = []

    def setup_of(tables: Any, conditions: Any, instance: str) -> Any:
        seen.append(conditions)
        raise TrainingError("seen enough")

    monkeypatch.setattr(commands_backtest, "setup_of", setup_of)
    changed = field.default + 1 if isinstance(field.default, int) else field.default * 0.5
    run("backtest", "--data", data, "--model", model, f"--{field.name.replace('_', '-')}", repr(changed))
    [conditions] = seen
    for record in (conditions.strategy, conditions.limits, conditions.costs):
        for other in fields(record):
            wanted = changed if other.name == field.name else other.default
            assert getattr(record, other.name) == wanted


def test_options_left_out_mean_what_the_ensemble_was_trained_under(
    run: Run, data: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = BundleManifest.from_bytes((model / MANIFEST).read_bytes())
    trained = Conditions(strategy=SHIPPED_STRATEGY, limits=SHIPPED_LIMITS, costs=CostModel(fee_rate=0.002))
    other = replace(
        manifest,
        strategy=trained.strategy.to_json(),
        risk=trained.limits.to_json(),
        costs=trained.costs.to_json(),
    )
    (model / MANIFEST).write_bytes(other.to_bytes())
    seen: list[Any] = []

    def setup_of(tables: Any, conditions: Any, instance: str) -> Any:
        seen.append(conditions)
        raise TrainingError("seen enough")

    monkeypatch.setattr(commands_backtest, "setup_of", setup_of)
    run("backtest", "--data", data, "--model", model)
    run("backtest", "--data", data, "--model", model, "--decide-every", "6", "--stop-loss", "0.1")
    changed = replace(
        trained,
        strategy=replace(SHIPPED_STRATEGY, decide_every=6),
        limits=replace(SHIPPED_LIMITS, stop_loss=0.1),
    )
    assert seen == [trained, changed]


def test_an_ensemble_trained_under_unknown_parameters_is_refused(run: Run, data: Path, model: Path) -> None:
    manifest = BundleManifest.from_bytes((model / MANIFEST).read_bytes())
    (model / MANIFEST).write_bytes(replace(manifest, strategy={**manifest.strategy, "mood": 1.0}).to_bytes())
    code, out, err = run("backtest", "--data", data, "--model", model)
    assert (code, out) == (1, "")
    assert "what it was trained under: StrategyParameters: unknown or missing keys: mood: train it anew" in err


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
        (["--since", "2030-01-01"], "no candle lies in the span: choose one inside the files"),
        (["--since", "1970-04-15", "--until", "1970-04-10"], "no candle lies in the span: choose one inside the files"),
        (["--until", "1970-01-05"], "nothing was decided; give more candles"),
        (
            ["--until", "1969-01-05"],
            "btcusdt-1h.csv: no candle between --since and --until: choose a span inside 1970-01-01 .. 1970-04-23",
        ),
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


def test_backtest_trades_the_symbols_it_is_told_in_their_order(
    run: Run, tmp_path: Path, data: Path, model: Path
) -> None:
    arguments = ["--data", nameless(tmp_path, history(300, seed=4)), data, "--model", model]
    told = backtested(run, *arguments, "--symbol", "SOL/USDT", "--symbol", "ADA/USDT")
    assert told["symbols"] == ["SOL/USDT", "ADA/USDT"]


def test_help_of_backtest_tells_the_meaning_and_default_of_every_parameter(run: Run) -> None:
    told = " ".join(run("backtest", "--help")[1].split())
    assert "--stop-loss VALUE share below the average entry (default: what the ensemble was trained under)" in told
    assert set(commands_backtest._MEANINGS) == {field.name for field in PARAMETERS}


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
