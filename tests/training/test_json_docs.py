"""docs/json.md against what the verbs print: every key that is printed is there, and every key there is printed."""

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from daemon import checks, cli, journal_reader, parity
from daemon.app_reload import reload_json
from daemon.app_status import Account, status
from daemon.events import ReloadOutcome
from daemon.fold import Difference
from daemon.journal import SqliteJournal
from daemon.model_life import Outcome
from daemon.models_status import DriftStatus, ModelsStatus
from daemon.ports import Entry, OrderPath, Record
from daemon.recent_news import RecentNews
from daemon.replay import Replay
from tests.daemon import test_commands_models as commands_models
from tests.daemon.engines import make_rig
from tests.daemon.test_app_status import Asked
from tests.daemon.test_execution import many, stop
from tests.daemon.test_journal_candles import RUN, groups
from tests.daemon.test_journal_candles import write as write_journal
from tests.fakes import events
from tests.fakes import model_steps as steps
from tests.fakes.binance import walk
from tests.fakes.clock import ManualClock
from tests.fakes.histories import Histories
from tests.fakes.serving import make_place, write_bundle
from tests.fakes.trading import BTC, HOUR_MS, setup
from tests.training import evaluations, runs, tune_objectives
from tests.training.archives import learner, saved
from tests.training.markets import changed, ensemble, history, with_gap, write_ensemble, write_table
from training import commands_look_ahead
from training.__main__ import main
from training.look_ahead_shuffled import check_shuffled
from training.parity import Trace, backtest_trace
from training.trials import Kind, Ledger, Trial

DOCUMENT = Path(__file__).parents[2] / "docs" / "json.md"
TABLE = with_gap(history(300, seed=3), 5, 2)


def documented() -> dict[str, set[str]]:
    """Return section title -> patterns of the keys in the first column of its table."""
    sections: dict[str, set[str]] = {}
    for section in DOCUMENT.read_text(encoding="utf-8").split("\n## ")[1:]:
        title, _, body = section.partition("\n")
        cells = [line.split("|")[1] for line in body.splitlines() if line.startswith("| `")]
        sections[title.replace("`", "")] = {key for cell in cells for key in re.findall(r"`([^`]+)`", cell)}
    return sections


def paths(value: Any, prefix: str = "") -> Iterator[str]:
    """Yield the path of every leaf: `a.b`, `list[].key`."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from paths(item, f"{prefix}.{key}" if prefix else key)
    elif isinstance(value, list):
        for item in value or [""]:
            yield from paths(item, f"{prefix}[]")
    else:
        yield prefix


def matches(pattern: str, path: str) -> bool:
    """Tell whether `*` in the middle as one name, or at the end as anything, makes `pattern` of `path`."""
    expression = re.escape(pattern).replace(r"\*", r"[^.]+")
    return (
        re.fullmatch(expression.removesuffix("[^.]+") + ".+" if pattern.endswith("*") else expression, path) is not None
    )


def assert_documented(title: str, *produced: Any) -> None:
    known = documented()[title]
    found = {path for value in produced for path in paths(json.loads(json.dumps(value, allow_nan=False)))}
    assert {path for path in found if not any(matches(pattern, path) for pattern in known)} == set()
    assert {pattern for pattern in known if not any(matches(pattern, path) for path in found)} == set()


# ---- the training side ------------------------------------------------------------------------------------------
@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_table(TABLE, tmp_path)


def printed(capsys: pytest.CaptureFixture[str], *arguments: Any, code: int = 0) -> Any:
    assert main([str(argument) for argument in arguments]) == code
    return json.loads(capsys.readouterr().out)


def test_backtest(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = write_ensemble(tmp_path / "bundle")
    told = printed(capsys, "backtest", "--data", data, "--model", model, "--json")
    assert_documented("sacd backtest --json", told)


def test_look_ahead(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands_look_ahead, "check_shuffled", partial(check_shuffled, draws=2, candles=500))
    model = write_ensemble(tmp_path / "bundle")
    peek = tmp_path / "peek.py"
    peek.write_text("def next_volume(open_ms, values, *_):\n    return [*values[1:, 4], 0.0]\n")
    words = ["evaluate", "--look-ahead", "--data", data, "--moments", 20, "--json"]
    clean = printed(capsys, *words, "--model", model)
    leaking = printed(capsys, *words, "--features", f"{peek}:next_volume", "--window", 5, code=3)
    far = printed(capsys, *words, "--features", "tests.training.peeks:long_memory", "--window", 5)
    clean["rules"]["leaks"] = ["trend rule"]  # none of them leaks
    assert_documented("sacd evaluate --look-ahead --json", clean, leaking, far)


def test_evaluate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = history(24 * 11, seed=3)
    later = changed(table, open_ms=table.open_ms + 19_000 * 86_400_000)
    arguments = ["--data", write_table(later, tmp_path), "--model", write_ensemble(tmp_path / "bundle")]
    short = ["--refit", "none", "--draws", 5, "--workers", 1, "--out", tmp_path / "out"]
    told = printed(capsys, "evaluate", *arguments, *short, "--json", code=3)
    with_refits = told | {"refits": evaluations.sample(days=60).to_json()["refits"]}
    assert_documented("sacd evaluate --json", told, with_refits)


def test_train(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_table(runs.TABLE, tmp_path)
    told = printed(capsys, "train", "--data", data, "--out", tmp_path / "out", *runs.SHORT, "--json")
    assert_documented("sacd train --json", told)


def test_tune(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = tune_objectives.parsed(
        "--data", write_table(history(24 * 40, seed=2), tmp_path), "--out", tmp_path / "tune", "--trials", 1,
        *tune_objectives.SMALL, "--json",
    )  # fmt: skip
    assert args.run(args) == 0
    told = json.loads(capsys.readouterr().out)
    assert_documented("sacd tune --json", told | {"importances": {"tau": 1.0}})  # one trial weighs nothing


def test_compare(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = ["--steps", 64, "--validation", 0.06, "--set", "net_arch=4", "--algorithms", "a2c", "--seeds", 2]
    told = printed(capsys, "compare", "--data", data, "--out", tmp_path / "out", *short, "--json")
    assert_documented("sacd compare --json", told)
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == told


def test_trials(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "trials.jsonl"
    Ledger(place).record([Trial(kind=Kind.MEMBER, recipe="a", score=1.0), Trial(kind=Kind.TUNE, recipe="b", score=2.0)])
    told = printed(capsys, "trials", "--ledger", place, "add", "--count", 3, "--words", "by hand", "--json")
    assert_documented("sacd trials --json", told)
    assert printed(capsys, "trials", "--ledger", place, "--json") == told


def test_models_import(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive = saved(learner(), tmp_path / "model.zip")
    arguments = [archive, "--i-trust-this-file", "--data", data, "--out", tmp_path / "out"]
    assert_documented("sacd models import --json", printed(capsys, "models-import", *arguments, "--json"))


def test_data(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = printed(capsys, "data", "import", data, tmp_path / "ethusdt-1h.csv", "--json")
    assert_documented("sacd data import --json", made)
    assert json.loads((tmp_path / "ethusdt-1h.csv.json").read_text()) == made
    assert_documented("sacd data verify --json", printed(capsys, "data", "verify", data, "--json"))
    assert_documented("sacd data list --json", printed(capsys, "data", "list", tmp_path, "--json"))


def test_data_fetch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first_ms, values = 1_577_836_800_000, walk(1, 40)
    candles = {first_ms + hour * HOUR_MS: values[hour] for hour in range(40) if hour not in {5, 6}}
    words = ["--exchange", "binance", "--symbol", "BTC/USDT", "--timeframe", "1h", "--out", tmp_path / "out", "--json"]
    with Histories({open_ms: candles[open_ms] for open_ms in sorted(candles)[:20]}) as server:
        printed(capsys, "data", "fetch", *words, "--url", server.url)
        restated = {first_ms + 15 * HOUR_MS: values[16]}
        server.candles = candles | restated
        told = printed(capsys, "data", "fetch", *words, "--url", server.url)
    assert_documented("sacd data fetch --json", told)
    file = tmp_path / "out" / "btcusdt-1h.parquet"
    beside = json.loads(file.with_name(f"{file.name}.json").read_text())
    assert {**beside, "added": 18, "filled": 0} == told["files"][0]
    assert_documented("sacd data verify --json", printed(capsys, "data", "verify", file, "--json"))


# ---- the daemon's side ------------------------------------------------------------------------------------------
def told_by(*arguments: Any, code: int = 0) -> Any:
    result = CliRunner().invoke(cli.app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


@pytest.fixture
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a registry that the configuration names; there is no other configuration."""
    registry = tmp_path / "models"
    registry.mkdir()
    model = write_ensemble(registry / "new")
    short_id = json.loads((model / "manifest.json").read_text())["id"][:16]
    model.rename(registry / short_id)
    (registry / "current").symlink_to(short_id)
    (registry / ("0" * 16)).mkdir()
    config = SimpleNamespace(strategy=SimpleNamespace(model=registry / "current"))
    monkeypatch.setattr(cli, "_config", lambda _: config)
    return registry


def test_parity(
    tmp_path: Path,
    data: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    configured: Path,
) -> None:
    made = setup()
    (tmp_path / "setup.json").write_text(json.dumps({"setup": made.to_json(), "cash": 1_000.0}))
    trace = backtest_trace(TABLE, made, ensemble(tmp_path), 1_000.0)
    np.savez(tmp_path / "trace.npz", **{name: getattr(trace, name) for name in Trace.__dataclass_fields__})
    arguments = [
        "--model",
        configured / "current",
        "--trace",
        tmp_path / "trace.npz",
        "--setup",
        tmp_path / "setup.json",
    ]
    half = printed(capsys, "parity", "--data", data, *arguments)
    monkeypatch.setattr(parity, "prove", lambda _, path, __: {"file": path.name, **half})
    assert_documented("sacd parity --json", told_by("parity", "--data", data, "--data", data, "--json"))


def test_replay() -> None:
    difference = Difference(seq=3, symbol=BTC, open_ms=0, fields=("votes",))
    assert_documented("sacd replay --json", Replay(decisions=5, differ=1, runs=1, first=[difference]).to_json())


def test_report() -> None:
    book = many(3)[0]
    book.fill(stop(), 1.0, 94.0, 80)
    assert_documented("sacd report --execution --json", book.measured().to_json())


def test_report_of_an_evaluation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = evaluations.sample(days=40, members=2, symbols=("BTC/USDT",))
    (tmp_path / "evaluation.json").write_text(json.dumps(small.to_json()))
    assert_documented("sacd report --json", printed(capsys, "report", tmp_path, "--json"))


async def test_status() -> None:
    asked, paper = Asked(), make_rig()
    await asked.buy()
    await asked.rig.tell(OrderPath(is_open=False, detail="no answer"))
    account = Account(instance="p", mode="paper")
    on_paper = status(paper.engine, asked.health, account, RecentNews(paper.clock), None)
    answer = asked.answer()
    assert {*on_paper} == {*answer}
    in_shadow = steps.life_after(steps.found(), steps.requested(), steps.trained(Outcome.CANDIDATE), steps.shadowed())
    drift = DriftStatus(joint=0.8, limit=2.0, features=(("return_1", 3.1),))
    told = [
        ModelsStatus.of(in_shadow, steps.compared(), horizon=200, drift=drift),
        ModelsStatus.of(steps.life_after(steps.found(), steps.serves()), steps.compared("watch"), horizon=60),
    ]
    assert_documented("sacd status --json", answer, *(answer | {"models": models.to_json()} for models in told))


@pytest.mark.parametrize("verb", ["pause", "resume", "flatten"])
def test_commands(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "_ask", lambda _, asked: {"effect": asked})
    title = "sacd pause --json, sacd resume --json, sacd flatten --json"
    assert_documented(title, told_by(verb, "--json"))


@pytest.mark.parametrize("outcome", [ReloadOutcome.TAKEN, ReloadOutcome.NEEDS_RESTART])
def test_reload(outcome: ReloadOutcome, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "_ask", lambda *_: reload_json(events.reloaded(outcome)))
    code = 0 if outcome is ReloadOutcome.TAKEN else 3
    both = [reload_json(events.reloaded(other)) for other in ReloadOutcome]
    assert_documented("sacd reload --json", told_by("reload", "--json", code=code), *both)


def test_check(monkeypatch: pytest.MonkeyPatch, configured: Path) -> None:
    async def run_checks(*_: Any) -> list[checks.CheckResult]:
        return [checks.CheckResult(name="journal", is_good=False, detail="damaged")]

    monkeypatch.setattr(checks, "run_checks", run_checks)
    assert_documented("sacd check --json", told_by("check", "--json", code=1))


def test_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = Entry(seq=1, at_ms=2, kind="candle", payload={"open_ms": 3})
    monkeypatch.setattr(journal_reader, "tail", lambda *_: [entry])
    assert_documented("sacd journal show --json", told_by("journal", "show", "--journal", "x", "--json"))
    found = journal_reader.Verification(entries=4, head="00", first_bad_seq=5, reason="hash")
    monkeypatch.setattr(journal_reader, "verify", lambda _: found)
    assert_documented("sacd journal verify --json", told_by("journal", "verify", "--journal", "x", "--json", code=3))


async def _some_journal(path: Path) -> None:
    journal = SqliteJournal.open(path, ManualClock())
    await journal.append([Record(kind="gap", payload={"symbol": "BTC/USDT", "first_ms": 0, "missing": 1})])
    await journal.close()


def test_journal_backup_and_restore(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    asyncio.run(_some_journal(path))
    made = told_by("journal", "backup", "--journal", str(path), "--json")
    assert_documented("sacd journal backup --json", made)
    restored = told_by("journal", "restore", "--journal", str(path), "--json")
    assert_documented("sacd journal restore --json", restored)
    assert (made["entries"], restored["entries"], restored["is_done"]) == (1, 1, True)


def test_journal_candles(tmp_path: Path) -> None:
    path = write_journal(tmp_path / "a.sqlite", [RUN, *groups(btc=[TABLE.candle(0)])])
    words = ("journal", "candles", "--journal", str(path), "--out", str(tmp_path / "out"), "--json")
    assert_documented("sacd journal candles --json", told_by(*words))


def test_models_list(tmp_path: Path) -> None:
    place = make_place(tmp_path)
    words = "models", "list", "--json", "--config", place.config
    before = told_by(*words)
    write_bundle(place.model.parent, seed=6)
    (place.model.parent / ("0" * 16)).mkdir()
    commands_models.write_journal(place, commands_models.course(place))
    assert_documented("sacd models list --json", before, told_by(*words))


@pytest.mark.parametrize("words", ["models promote ID", "models rollback", "models shadow ID", "models pin", "retrain"])
def test_what_changes_the_ensembles(words: str, tmp_path: Path) -> None:
    place = make_place(tmp_path)
    with commands_models.running(place):
        told = told_by(*words.replace("ID", place.model.name).split(), "--json", "--config", place.config)
    assert_documented("sacd models promote|rollback|shadow|pin --json, sacd retrain --json", told)


def test_models_show(configured: Path) -> None:
    shown = told_by("models", "show", configured / "current")
    assert shown == json.loads((configured / "current" / "manifest.json").read_text())
    assert_documented("sacd models show", shown)


# ---- the test itself --------------------------------------------------------------------------------------------
def test_every_section_is_tested() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    assert [title for title in documented() if f'"{title}"' not in source] == []
    assert len(documented()) > 12


@pytest.mark.parametrize(
    ("pattern", "path", "is_same"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a.c", False),
        ("a.*", "a.b.c[]", True),
        ("a.*.c", "a.BTC/USDT.c", True),
        ("a.*.c", "a.b.d", False),
        ("a[].b", "a[].b", True),
        ("a", "ab", False),
    ],
)
def test_patterns_match_what_they_say(pattern: str, path: str, is_same: bool) -> None:
    assert matches(pattern, path) is is_same
