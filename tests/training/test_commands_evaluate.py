"""`sacd evaluate` as a person calls it: what it prints, writes and counts, and what it refuses."""

import json
import shutil
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from daemon.readiness import Verdict, read_readiness
from strategy.candle_table import CandleTable
from tests.fakes.bundles import make_files
from tests.fakes.trading import BTC, ETH, HOUR_MS
from tests.training.command_line import Run
from tests.training.markets import changed, history, write_ensemble, write_table
from training import evaluate_refit, evaluate_run
from training.bundles import read_bundle
from training.evaluation import Part, Refit
from training.readiness import Thresholds
from training.trials import Kind, read_ledger

FIGURES = ("total_return", "sharpe", "max_drawdown", "hold_return", "hold_sharpe", "hold_drawdown")
UNSEEN_MS = 1_640_995_200_000
"""Where the training of the bundles in these tests ends: 2022-01-01."""
FAST = ["--refit", "none", "--draws", "20", "--workers", "1"]
LOW = {"sharpe": -1_000, "alpha": -1_000, "calmar": -1_000, "max_drawdown": 1, "action_deviation": 1, "share": 0.5}
SILENT = {"dominant_action": 1, "deflated_sharpe": 0, "win_rate": 0, "positive_months": 0, "round_trips": 0, "days": 0}


def later(days: int, seed: int = 3, symbol: str = BTC) -> CandleTable:
    """Return a history of which so many days have a full window and were not seen by the bundle."""
    table = history(24 * days, seed=seed, symbol=symbol)
    return changed(table, open_ms=table.open_ms + UNSEEN_MS - int(table.open_ms[2400]))


@pytest.fixture
def market(tmp_path: Path) -> Path:
    return write_table(later(14), tmp_path)


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "trials.jsonl"


@pytest.fixture
def asked(market: Path, model: Path, ledger: Path, tmp_path: Path) -> list[Any]:
    return ["evaluate", "--data", market, "--model", model, "--ledger", ledger, "--out", tmp_path / "out", *FAST]


def told(run: Run, *arguments: Any, code: int = 3) -> dict[str, Any]:
    found, out, err = run(*arguments, "--json")
    assert found == code, err
    document: dict[str, Any] = json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    return document


# ---- what comes out ---------------------------------------------------------------------------------------------
def test_an_evaluation_is_printed_and_written_beside_the_bundle_and_whole(
    run: Run, asked: list[Any], model: Path, tmp_path: Path
) -> None:
    document = told(run, *asked)
    assert json.loads((model / "evaluation.json").read_bytes()) == document
    whole = json.loads((tmp_path / "out" / "evaluation.json").read_bytes())
    assert whole.pop("curves")["day_ms"][0] == UNSEEN_MS + 86_400_000
    assert whole == document
    assert document["bundle"] == read_bundle(model).manifest.id
    assert document["bundle"][:16] in (tmp_path / "out" / "report.html").read_text()
    assert (document["start_ms"], document["end_ms"]) == (UNSEEN_MS, UNSEEN_MS + 14 * 86_400_000)
    assert [part["days"] for part in document["folds"]] == [3, 3, 3, 3, 2]
    assert [stress["cost"] for stress in document["stress"]] == [0.0, 1.0, 2.0, 4.0, 1.0]
    assert [member["seed"] for member in document["members"]] == [0, 1, 2]


def test_what_a_person_reads_says_the_same(run: Run, asked: list[Any]) -> None:
    code, out, _ = run(*asked)
    document = told(run, *asked)
    assert code == 3
    lines = [" ".join(line.split()) for line in out.splitlines()]
    short = document["bundle"][:16]
    assert lines[0] == f"ensemble {short} on BTC/USDT, 1h, 2022-01-01 .. 2022-01-14, unseen candles"
    for name, metrics in {"ensemble": document["metrics"], **document["baselines"]}.items():
        assert any(line.startswith(f"{name} {metrics['total_return']:+.1%} ") for line in lines)
    assert "too short 14 days are fewer than 180 FIRES" in lines
    assert f"NOT READY: {short}, {document['summary']}." in lines
    assert sum(line.endswith(("pass", "FAIL")) for line in lines) == 7


def test_the_daemons_gate_reads_it(run: Run, asked: list[Any], model: Path) -> None:
    document = told(run, *asked)
    found = read_readiness(model, read_bundle(model).manifest)
    assert found.verdict is Verdict.NOT_READY
    assert (found.summary, found.at) == (document["summary"], document["at"])


def test_an_ensemble_that_meets_what_is_required_is_ready_and_ends_with_0(
    run: Run, asked: list[Any], model: Path, tmp_path: Path
) -> None:
    # A market that only falls: who holds less of it than the baseline loses less, and ratios can be required low.
    values = LOW | SILENT
    assert set(values) == {field.name for field in fields(Thresholds)}
    file = tmp_path / "low.toml"
    file.write_text("\n".join(f"{name} = {value}" for name, value in values.items()))
    best = [*asked, "--thresholds", file]
    outcomes = {}
    for seed in range(3, 9):
        write_table(later(14, seed=seed), tmp_path)
        code, out, err = run(*best, "--json")
        assert out, err
        outcomes[code] = json.loads(out)
        fired = [veto["name"] for veto in outcomes[code]["vetoes"] if veto["fired"]]
        assert (code == 0) is outcomes[code]["ready"] is (fired == [])
        if code == 0:
            break
    assert 0 in outcomes
    assert read_readiness(model, read_bundle(model).manifest).verdict is Verdict.READY
    assert any(warning.startswith("the thresholds were changed: sharpe -1000") for warning in outcomes[0]["warnings"])
    assert "no veto fires; thresholds were loosened: sharpe -1000 instead of 1.2" in outcomes[0]["summary"]


def test_equal_evaluations_are_equal(run: Run, asked: list[Any]) -> None:
    one, two = told(run, *asked), told(run, *asked)
    for document in (one, two):
        del document["at"], document["warnings"]  # the second knows of the first
    assert one == two


def test_conditions_are_those_of_the_training_unless_they_are_given(run: Run, asked: list[Any], model: Path) -> None:
    manifest = read_bundle(model).manifest
    usual = told(run, *asked)
    assert usual["conditions"]["costs"] == manifest.costs
    free = told(run, *asked, "--fee-rate", "0", "--slippage-rate", "0")
    assert free["metrics"]["fees"] == 0.0
    assert any("fee_rate 0 instead of 0.001" in warning for warning in free["warnings"])


@pytest.mark.parametrize("option", ["--fee-rate", "--slippage-rate"])
def test_lower_costs_than_those_of_the_training_refuse_and_the_gate_says_so(
    run: Run, asked: list[Any], model: Path, option: str
) -> None:
    name = option.removeprefix("--").replace("-", "_")
    document = told(run, *asked, option, "0.0001", "--require", "days=1", "--stop-loss", "0.2")
    assert "lower costs" in [veto["name"] for veto in document["vetoes"] if veto["fired"]]
    found = read_readiness(model, read_bundle(model).manifest)
    assert f"trades cost less than it was trained under ({name} 0.0001 below" in found.summary
    assert "; thresholds were loosened: days 1 instead of 180; conditions were changed: stop_loss 0.2" in found.summary
    dearer = told(run, *asked, option, "0.01")
    assert "lower costs" not in [veto["name"] for veto in dearer["vetoes"] if veto["fired"]]
    assert f"{name} 0.01 instead of" in dearer["summary"]


def test_several_symbols_are_one_account_and_each_alone(run: Run, asked: list[Any], tmp_path: Path) -> None:
    other = write_table(later(12, seed=5, symbol=ETH), tmp_path, "ethusdt-1h.csv")
    document = told(run, *asked, "--data", other)
    assert document["symbols"] == ["BTC/USDT", "ETH/USDT"]
    assert (document["symbols_seen"], list(document["by_symbol"])) == (["BTC/USDT"], ["BTC/USDT", "ETH/USDT"])
    assert document["by_symbol"]["BTC/USDT"] == told(run, *asked)["metrics"]
    assert "never trained on ETH/USDT" in document["warnings"]
    assert any(warning.startswith("ETH/USDT ends 2022-01-12 already") for warning in document["warnings"])


def test_an_ensemble_that_never_trades_is_said_to_be_undefined(run: Run, asked: list[Any]) -> None:
    document = told(run, *asked, "--disagreement-limit", "0", "--max-drawdown", "0.5")
    metrics = document["metrics"]
    assert (metrics["trades"], metrics["total_return"]) == (0, 0.0)
    assert [metrics[name] for name in ("sharpe", "calmar", "win_rate", "profit_factor")] == [None] * 4
    assert document["deflated"]["value"] is None
    assert document["break_even_cost"] is None
    names = [veto["name"] for veto in document["vetoes"] if veto["fired"]]
    assert {"degenerate actions", "deflated Sharpe ratio", "worse than volatility-targeted hold"} <= set(names)
    assert "- > 1.2 FAIL" in " ".join(run(*asked, "--disagreement-limit", "0")[1].split())


# ---- seen candles and the ledger --------------------------------------------------------------------------------
def test_seen_candles_need_a_word_and_are_no_evidence(
    run: Run, asked: list[Any], model: Path, ledger: Path, tmp_path: Path
) -> None:
    seen = [*asked, "--since", "2021-12-25"]
    write_table(changed(later(21), open_ms=later(21).open_ms - 7 * 86_400_000), tmp_path)
    code, out, err = run(*seen)
    assert (code, out) == (1, "")
    assert err == (
        "sacd evaluate: --since 2021-12-25: the bundle was made from candles up to 2021-12-31, which are no evidence: "
        "begin at 2022-01-01 or later, or add --seen\n"
    )
    low = [word for name in ("deflated_sharpe", "round_trips", "days", "share") for word in ("--require", f"{name}=0")]
    document = told(run, *seen, *low, "--seen")
    assert document["ready"] is False
    assert "candles were traded that the ensemble was made from" in document["summary"]
    assert not (model / "evaluation.json").exists()
    assert (tmp_path / "out" / "evaluation.json").exists()
    [trial] = read_ledger(ledger).tally.counted
    assert (trial.score, trial.from_ms, trial.to_ms) == (None, UNSEEN_MS, document["end_ms"])


def test_unseen_candles_are_counted_as_opened_in_whatever_span(run: Run, asked: list[Any], ledger: Path) -> None:
    told(run, *asked, "--since", "2021-12-25", "--seen")
    after = told(run, *asked)
    assert any("evaluated 1 time before, with 0 other bundles" in warning for warning in after["warnings"])
    assert read_ledger(ledger).tally.count == 2


def test_a_span_of_seen_candles_alone_opens_nothing(run: Run, asked: list[Any], ledger: Path, tmp_path: Path) -> None:
    write_table(changed(later(21), open_ms=later(21).open_ms - 14 * 86_400_000), tmp_path)
    told(run, *asked, "--since", "2021-12-18", "--until", "2022-01-01", "--seen")
    assert read_ledger(ledger).tally.count == 0


def test_every_evaluation_is_a_trial_and_the_next_one_knows_of_it(
    run: Run, asked: list[Any], ledger: Path, tmp_path: Path
) -> None:
    first = told(run, *asked)
    [trial] = read_ledger(ledger).tally.counted
    assert (trial.kind, trial.score) == (Kind.EVALUATION, first["metrics"]["sharpe"])
    assert (trial.from_ms, trial.to_ms, trial.symbols) == (first["start_ms"], first["end_ms"], ("BTC/USDT",))
    assert not any("before" in warning for warning in first["warnings"])
    other = write_ensemble(tmp_path / "other", seed=11)
    second = told(run, *asked, "--model", other)
    assert any("evaluated 1 time before, with 1 other bundle" in warning for warning in second["warnings"])
    assert read_ledger(ledger).tally.count == 2


def test_trials_of_the_ledger_deflate(run: Run, asked: list[Any], ledger: Path) -> None:
    alone = told(run, *asked)
    assert alone["deflated"]["trials"] == 3  # no fewer than its members
    assert run("trials", "add", "--ledger", ledger, "--count", 500, "--words", "a search elsewhere")[0] == 0
    after = told(run, *asked)
    assert after["deflated"]["trials"] == 501
    assert after["deflated"]["value"] < alone["deflated"]["value"]
    assert not any("knows of no training" in warning for warning in after["warnings"])


def test_a_damaged_ledger_is_refused_before_the_work(run: Run, asked: list[Any], ledger: Path) -> None:
    told(run, *asked)
    ledger.write_bytes(ledger.read_bytes().replace(b"evaluation", b"member", 1))
    code, out, err = run(*asked)
    assert (code, out) == (1, "")
    assert str(ledger) in err


# ---- what stays when it does not go well ------------------------------------------------------------------------
def test_ctrl_c_leaves_nothing(run: Run, asked: list[Any], model: Path, tmp_path: Path, monkeypatch: Any) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluate_run, "evaluate", interrupted)
    code, out, err = run(*asked)
    assert (code, out) == (130, "")
    assert err.endswith("sacd evaluate: interrupted; nothing was written\n")
    assert not (tmp_path / "out").exists()
    assert not (model / "evaluation.json").exists()


def test_a_bundle_that_cannot_be_written_to_keeps_the_result_in_out(
    run: Run, asked: list[Any], model: Path, tmp_path: Path
) -> None:
    (model / "evaluation.json").mkdir()
    code, out, err = run(*asked)
    assert code == 1
    assert "NOT READY" in out
    assert "the daemon does not see this evaluation: make the directory of the bundle writable" in err
    assert (tmp_path / "out" / "report.html").exists()


def test_an_old_evaluation_is_replaced_as_a_whole(run: Run, asked: list[Any], model: Path) -> None:
    (model / "evaluation.json").write_text("{ torn")
    document = told(run, *asked)
    assert json.loads((model / "evaluation.json").read_bytes()) == document
    assert sorted(path.name for path in model.iterdir() if path.name.startswith(".")) == []


# ---- refits -----------------------------------------------------------------------------------------------------
def test_refits_are_part_of_the_evaluation_and_what_is_said_of_them_too(
    run: Run, asked: list[Any], model: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    seen: list[evaluate_refit.Asked] = []
    fold = Part(name="fold 1", days=3, exposure=0.1, **dict.fromkeys(FIGURES, 0.01))

    def refitted(kind: str) -> Refit:
        return Refit(kind=kind, folds=(fold,), sharpes=(0.5, None), overfitting=0.25)

    def walk_forward(wanted: evaluate_refit.Asked, _: Any, *, tell: Any, warn: Any) -> tuple[Refit, None]:
        seen.append(wanted)
        tell(5, 10)
        warn("refit fold 1 stayed in cash")
        return refitted("walk-forward"), None

    monkeypatch.setattr(evaluate_refit, "walk_forward", walk_forward)
    monkeypatch.setattr(evaluate_refit, "combinatorial", lambda *_, **__: refitted("combinatorial"))
    both = [*asked[: asked.index("--refit")], *asked[asked.index("--refit") + 2 :], "--refit-steps", "3000"]
    document = told(run, *both)
    assert [refit["kind"] for refit in document["refits"]] == ["walk-forward", "combinatorial"]
    assert "refit fold 1 stayed in cash" in document["warnings"]
    assert "the refits were shortened: their members practised on 3,000 candles each" in document["warnings"]
    [wanted] = seen
    assert (wanted.start_ms, wanted.keep) == (UNSEEN_MS, tmp_path / "out" / "refits")
    assert wanted.recipe.plan.member.steps == 3_000
    assert wanted.recipe.bundle == read_bundle(model).manifest.id
    out = " ".join(run(*both)[1].split())
    assert "Sharpe ratios of the refitted paths: 0.50, -; probability of overfitting, of its seeds: 25%" in out
    [alone] = told(run, *both, "--refit", "combinatorial")["refits"]
    assert alone["kind"] == "combinatorial"


def test_without_refits_the_reader_is_told(run: Run, asked: list[Any]) -> None:
    assert any(warning.startswith("the recipe was not trained anew") for warning in told(run, *asked)["warnings"])


def test_too_few_days_for_refits_are_refused_with_the_way_out(run: Run, asked: list[Any], model: Path) -> None:
    code, out, err = run(*asked, "--refit", "walk-forward")
    assert (code, out) == (1, "")
    assert "are too few for 4 folds" in err
    assert err.endswith("--refit none evaluates without\n")
    assert not (model / "evaluation.json").exists()


@pytest.fixture
def untraded(monkeypatch: Any) -> None:
    monkeypatch.setattr(evaluate_run, "trade", lambda *_: pytest.fail("it was traded"))


@pytest.mark.usefixtures("untraded")
def test_too_few_steps_for_refits_are_refused_before_anything_is_traded(
    run: Run, asked: list[Any], ledger: Path
) -> None:
    code, out, err = run(*asked, "--refit", "walk-forward", "--refit-steps", "3")
    assert (code, out, ledger.exists()) == (1, "", False)
    assert "3 steps of a refit end before learning begins: give more than" in err
    assert err.endswith("--refit none evaluates without\n")


@pytest.mark.usefixtures("untraded")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--from models/other", "begins with bundle models/other"),
        ("--no-such-option", "this version of sacd train does not take it"),
    ],
)
def test_a_recipe_that_cannot_be_repeated_is_refused_before_anything_is_traded(
    run: Run, asked: list[Any], model: Path, monkeypatch: Any, *, options: str, message: str
) -> None:
    bundle = read_bundle(model)
    training = replace(bundle.manifest.training, command=f"sacd train --data btcusdt-1h.csv {options}")
    other = replace(bundle, manifest=replace(bundle.manifest, training=training))
    monkeypatch.setattr(evaluate_run, "read_serving_bundle", lambda _: other)
    code, out, err = run(*asked, "--refit", "combinatorial")
    assert (code, out) == (1, "")
    assert message in err
    assert err.endswith("--refit none evaluates without\n")


# ---- bad input --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "/nowhere"], "/nowhere: cannot be read (No such file or directory): name the directory"),
        (["--data", "/nowhere-1h.csv"], "/nowhere-1h.csv: there is no such file: correct the path"),
        (["--since", "2030-01-01"], "BTC/USDT ends 2022-01-14, before the span, which begins 2030-01-01: give later"),
        (["--until", "2021-12-01"], "BTC/USDT ends 2021-11-30, before the span, which begins 2022-01-01"),
        (["--until", "2020-01-01"], "no candle between --since and --until: choose a span inside 2021-"),
        (["--until", "2022-01-05"], "--folds 5: the span has 4 days, 10 are the least for so many; give more candles"),
        (["--folds", "0"], "--folds 0: give a whole number within 1 .. 100"),
        (["--draws", "0"], "--draws 0: give a whole number within 1 .. 100000"),
        (["--workers", "0"], "--workers 0: give 1 .. 64"),
        (["--seed", "-1"], "--seed -1: give a whole number within 0 .. 9223372036854775807"),
        (["--fee-rate", "5"], "fee_rate 5.0 is outside 0.0 .. 0.1"),
        (["--require", "luck=1"], "--require: there is no threshold 'luck'"),
        (["--thresholds", "/nowhere.toml"], "--thresholds /nowhere.toml: cannot be read"),
        (["--out", "/proc/nothing"], "--out /proc/nothing: /proc: "),
        (["--out", "/dev/null"], "--out /dev/null: is not a directory; name one, or what does not exist yet"),
        (["--ledger", "/proc/nothing/trials.jsonl"], "/proc/nothing"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_impossible_evaluations_are_one_line_and_exit_1(
    run: Run, asked: list[Any], model: Path, arguments: list[str], message: str
) -> None:
    if "--data" in arguments:
        asked = [word for word in asked if "btcusdt" not in str(word) and word != "--data"]
    code, out, err = run(*asked, *arguments)
    assert (code, out) == (1, "")
    assert err.startswith("sacd evaluate: ")
    assert message in err
    assert err.count("\n") == 1
    assert not (model / "evaluation.json").exists()


@pytest.mark.parametrize("refit", ["walk", "walk-forward,", "none,combinatorial"])
def test_refits_that_do_not_exist_are_wrong_usage(run: Run, asked: list[Any], refit: str) -> None:
    code, _, err = run(*asked, "--refit", refit)
    assert code == 2
    assert "is none of walk-forward, combinatorial and none" in err


def test_without_a_bundle_there_is_nothing_to_evaluate(run: Run, market: Path) -> None:
    code, _, err = run("evaluate", "--data", market)
    assert (code, err) == (1, "sacd evaluate: --model is missing: name the directory of a bundle\n")


def test_a_bundle_of_another_schema_is_refused_with_what_differs(run: Run, asked: list[Any], model: Path) -> None:
    manifest = json.loads((model / "manifest.json").read_text())
    shutil.rmtree(model)
    model.mkdir()
    for name, data in make_files().items():
        (model / name).write_bytes(data)
    assert json.loads((model / "manifest.json").read_text())["feature"] != manifest["feature"]
    code, out, err = run(*asked)
    assert (code, out) == (1, "")
    assert "portfolio only in this program" in err
    assert "train it again" in err
    assert err.count("\n") == 1


def test_files_that_do_not_go_together_are_refused(run: Run, asked: list[Any], market: Path, tmp_path: Path) -> None:
    assert "the same symbol: BTC/USDT, BTC/USDT" in run(*asked, "--data", market)[2]
    rows = [f"{UNSEEN_MS + day * 86_400_000},1,2,1,2,5" for day in range(5)]
    daily = tmp_path / "ethusdt-1d.csv"
    daily.write_text("timestamp_ms,open,high,low,close,volume\n" + "\n".join(rows) + "\n")
    assert "trained on 1h candles, the data has 1d, 1h: give 1h" in run(*asked, "--data", daily)[2]
    table = later(14, seed=5, symbol=ETH)
    apart = changed(table, open_ms=table.open_ms + 365 * 86_400_000)
    found = run(*asked, "--data", write_table(apart, tmp_path, "ethusdt-1h.csv"))[2]
    assert "BTC/USDT ends 2022-01-14, ETH/USDT begins 2022-09-23: the files have no time in common" in found


@pytest.mark.parametrize("value", ["nan", "inf", "-1"])
def test_prices_that_are_no_prices_are_refused_with_their_line(
    run: Run, asked: list[Any], market: Path, value: str
) -> None:
    lines = market.read_text().splitlines()
    cells = lines[2_500].split(",")
    lines[2_500] = ",".join([*cells[:4], value, cells[5]])
    market.write_text("\n".join(lines) + "\n")
    code, out, err = run(*asked)
    assert (code, out) == (1, "")
    assert "btcusdt-1h.csv" in err
    assert err.count("\n") == 1


def test_too_few_candles_for_a_window_decide_nothing(run: Run, asked: list[Any], market: Path, tmp_path: Path) -> None:
    table = later(14)
    short = changed(table, open_ms=table.open_ms[:2000] + 100 * 86_400_000, values=table.values[:2000])
    write_table(short, tmp_path)
    code, out, err = run(*asked)
    assert (code, out) == (1, "")
    assert "no candle of the span has a full feature window: nothing was decided; give more candles" in err


@pytest.mark.parametrize("workers", [1, 2])
def test_a_symbol_without_a_full_window_is_named(run: Run, asked: list[Any], tmp_path: Path, workers: int) -> None:
    young = later(14, symbol=ETH)
    late = changed(young, open_ms=young.open_ms[1200:], values=young.values[1200:])
    other = write_table(late, tmp_path, "ethusdt-1h.csv")
    code, out, err = run(*asked, "--data", other, "--workers", workers)
    assert (code, out) == (1, "")
    assert "ETH/USDT: no candle of the span has a full feature window" in err
    assert err.endswith("give more candles, or leave the symbol out\n")


def test_a_market_that_stands_still_is_undefined_and_not_a_number_made_up(
    run: Run, asked: list[Any], tmp_path: Path
) -> None:
    table = later(14)
    still = np.tile([100.0, 100.0, 100.0, 100.0, 5_000.0], (len(table), 1))
    write_table(changed(table, values=still), tmp_path)
    document = told(run, *asked)
    metrics = document["metrics"]
    assert (metrics["total_return"], metrics["max_drawdown"]) == (0.0, 0.0)
    assert [metrics[name] for name in ("sharpe", "sortino", "calmar", "win_rate", "skew")] == [None] * 5
    assert document["baselines"]["cash"]["sharpe"] is None
    assert document["ready"] is False


def test_help_tells_every_option(run: Run) -> None:
    told_words = " ".join(run("evaluate", "--help")[1].split())
    for option in ("--seen", "--refit KINDS", "--require NAME=VALUE", "--thresholds FILE", "--look-ahead", "--ledger"):
        assert option in told_words
    assert "share below the average entry (default: what the ensemble was trained under)" in told_words


def test_the_command_repeats_what_was_asked(run: Run, asked: list[Any], model: Path) -> None:
    more = ["--since", "2022-01-02", "--fee-rate", "0.002", "--require", "sharpe=1", "--folds", "4"]
    short = read_bundle(model).manifest.short_id
    assert told(run, *asked, *more)["command"] == (
        f"sacd evaluate --data btcusdt-1h.csv --model {short} --since 2022-01-02 --folds 4 --draws 20 "
        "--fee-rate 0.002 --refit none --require sharpe=1"
    )


def test_the_first_decision_is_of_the_first_candle_of_the_span(run: Run, asked: list[Any]) -> None:
    document = told(run, *asked, "--since", "2022-01-03")
    assert document["start_ms"] == UNSEEN_MS + 2 * 86_400_000
    assert document["end_ms"] - document["start_ms"] == 12 * 24 * HOUR_MS
