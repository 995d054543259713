"""The `sacd` command from outside: exit codes, messages, signals, and what a second start continues."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from daemon import journal_reader
from daemon.cli import app
from tests.daemon.journals import alter
from tests.daemon.programs import SACD, Running, environment, sacd
from tests.fakes.serving import BTC, ETH, Place, make_place, market_candles, write_bundle, write_csv

PACED = {"candles_per_second": 40.0}
VERBS = ["run", "check", "status", "pause", "resume", "flatten", "reload", "replay", "parity", "journal",
         "journal show", "journal export", "journal verify", "models", "models list", "models show", "models promote",
         "models rollback", "models shadow", "models pin", "retrain"]  # fmt: skip
HANDED_OVER = ["data", "train", "backtest", "evaluate"]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make_place(tmp_path)


@pytest.fixture
def recorded(tmp_path: Path) -> Place:
    """300 recorded candles of each symbol: soon over."""
    return make_place(tmp_path, 300)


@pytest.fixture(scope="module")
def trading(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Place, Running]]:
    """A daemon that trades while the tests of this module ask it."""
    place = make_place(tmp_path_factory.mktemp("trading"))
    with Running(place.configure(market=PACED)) as running:
        running.wait_for("ready")
        yield place, running


def _is_plain(done: "subprocess.CompletedProcess[str]") -> bool:
    """One message that begins with the program's name, and no traceback anywhere."""
    return done.stderr.startswith("sacd: ") and "Traceback" not in done.stderr + done.stdout


# ---- run --------------------------------------------------------------------------------------------------------
def test_a_file_that_ends_ends_the_daemon_with_a_summary(recorded: Place) -> None:
    done = sacd("run", cwd=recorded.root, SACD_LOG__FORMAT="json")
    assert (done.returncode, done.stderr) == (0, "")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    (stopped,) = [line for line in lines if line["event"] == "stopped"]
    assert stopped["reason"] == "end of data"
    assert stopped["decisions"] == 2 * 300 - 6  # three candles of each are missing
    assert stopped["equity"] == 100_000.0


def test_a_second_start_continues_the_account_and_does_nothing_twice(recorded: Place) -> None:
    sacd("run", cwd=recorded.root)
    before = [e for e in journal_reader.read(recorded.journal()) if e.kind == "decision"]
    again = sacd("run", cwd=recorded.root, SACD_LOG__FORMAT="json")
    assert (again.returncode, again.stderr) == (0, "")
    lines = {line["event"]: line for line in map(json.loads, again.stdout.splitlines())}
    assert lines["started"]["resumed"] is True
    assert lines["recovered"]["decisions"] == len(before)
    assert lines["stopped"]["decisions"] == 0
    assert [e for e in journal_reader.read(recorded.journal()) if e.kind == "decision"] == before


def _at_first_line(running: Running) -> None:
    running.wait_for("journal_opened")


def _while_warming_up(running: Running) -> None:
    running.wait_for("started")
    time.sleep(0.05)  # somewhere in its history: the moment is what is tested


def _while_trading(running: Running) -> None:
    running.wait_for("candle", 5)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", [_at_first_line, _while_warming_up, _while_trading])
def test_a_signal_ends_it_within_two_seconds_with_a_summary(
    place: Place, number: signal.Signals, moment: Callable[[Running], None]
) -> None:
    with Running(place.configure(market={"candles_per_second": 0.0})) as running:
        moment(running)
        code, seconds, error = running.signal(number)
    assert (code, error) == (0, "")
    assert seconds < 2.0
    assert running.lines[-1]["event"] == "stopped"
    assert running.lines[-1]["reason"] == f"{number.name} received"
    assert journal_reader.verify(place.journal()).is_sound
    assert journal_reader.tail(place.journal(), 1)[0].kind == "stop"


def test_after_ctrl_c_it_continues_where_it_was(place: Place) -> None:
    config = place.configure(market={"candles_per_second": 0.0})
    with Running(config) as running:
        running.wait_for("candle", 20)
        running.signal(signal.SIGINT)
        stopped = running.wait_for("stopped")
    with Running(config) as running:
        started = running.wait_for("started")
        assert started["resumed"] is True
        assert started["equity"] == stopped["equity"]
        running.wait_for("candle", 3)
        assert running.signal(signal.SIGINT)[0] == 0
    assert sacd("replay", cwd=place.root).stdout.splitlines()[0].endswith(" decisions, 0 differ")


@pytest.mark.fault(44)
def test_a_second_signal_ends_it_at_once_and_the_journal_stays_whole(place: Place) -> None:
    with Running(place.configure(market=PACED)) as running:
        running.wait_for("candle", 2)
        os.kill(running.process.pid, signal.SIGSTOP)  # both signals are pending when it goes on
        os.kill(running.process.pid, signal.SIGTERM)
        os.kill(running.process.pid, signal.SIGCONT)
        running.process.send_signal(signal.SIGTERM)
        _, error = running.end()
    assert "Traceback" not in error
    assert journal_reader.verify(place.journal()).is_sound


def test_ctrl_c_before_anything_began_is_no_traceback(place: Place) -> None:
    with Running(place.config) as running:
        time.sleep(0.15)  # while Python still imports: the moment is what is tested
        code, _, error = running.signal(signal.SIGINT)
    assert "Traceback" not in error
    assert code in {0, 130, -signal.SIGINT}


def test_the_reader_of_its_log_may_leave_and_the_loss_is_told_once(recorded: Place) -> None:
    run = f"{' '.join(SACD)} run --config {recorded.config} 2>{recorded.root / 'error'}"
    command = f"{run} | head -n 2; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command], check=False, cwd=recorded.root, env=environment(), capture_output=True, text=True
    )
    assert len(done.stdout.splitlines()) == 2
    said = (recorded.root / "error").read_text(encoding="utf-8")
    assert said == "sacd: the log cannot be written (Broken pipe); the daemon goes on without it\n"
    assert journal_reader.tail(recorded.journal(), 1)[0].kind == "stop"  # it traded on to the end
    assert done.returncode == 0


# ---- what a running daemon answers ------------------------------------------------------------------------------
def test_status_tells_the_account(trading: tuple[Place, Running]) -> None:
    place, _ = trading
    done = sacd("status", "--json", cwd=place.root)
    assert done.returncode == 0
    answer = json.loads(done.stdout)
    assert set(answer["positions"]) == {BTC, ETH}
    assert answer["model"] == place.model.name
    assert answer["equity"] > 0.0
    assert answer["health"]["alive"] is True
    shown = sacd("status", cwd=place.root)
    assert shown.returncode == 0
    for word in ("equity", "drawdown", "ready", BTC, ETH, place.model.name):
        assert word in shown.stdout


def test_pause_flatten_and_resume_take_effect(trading: tuple[Place, Running]) -> None:
    place, running = trading
    assert "no new exposure" in sacd("pause", cwd=place.root).stdout
    assert json.loads(sacd("status", "--json", cwd=place.root).stdout)["paused"] is True
    assert "PAUSED" in sacd("status", cwd=place.root).stdout.upper()
    assert "being sold" in json.loads(sacd("flatten", "--json", cwd=place.root).stdout)["effect"]
    seen = len(running.called("candle"))
    running.wait_for("candle", seen + 4)
    answer = json.loads(sacd("status", "--json", cwd=place.root).stdout)
    assert [held["quantity"] for held in answer["positions"].values()] == [0.0, 0.0]
    assert answer["paused"] is True
    assert sacd("resume", cwd=place.root).returncode == 0
    assert json.loads(sacd("status", "--json", cwd=place.root).stdout)["paused"] is False
    verbs = [e.payload["verb"] for e in journal_reader.read(place.journal(), kinds={"command"})]
    assert verbs == ["pause", "flatten", "resume"]


def test_a_second_daemon_on_the_same_account_is_refused(trading: tuple[Place, Running]) -> None:
    place, running = trading
    done = sacd("run", cwd=place.root)
    assert done.returncode == 78
    assert _is_plain(done)
    assert f"in use by process {running.process.pid}" in done.stderr
    assert sacd("status", cwd=place.root).returncode == 0  # the first one never noticed


def test_the_journal_of_a_running_daemon_can_be_read(trading: tuple[Place, Running]) -> None:
    place, _ = trading
    assert sacd("journal", "verify", cwd=place.root).stdout.strip().endswith("entries, all sound")
    assert sacd("replay", cwd=place.root).returncode == 0


@pytest.mark.parametrize("verb", ["status", "pause", "resume", "flatten", "reload"])
def test_asking_when_nothing_runs_says_how_to_start_it(place: Place, verb: str) -> None:
    done = sacd(verb, cwd=place.root)
    assert done.returncode == 1
    assert _is_plain(done)
    assert "start it with `sacd run`" in done.stderr


# ---- starts that fail -------------------------------------------------------------------------------------------
def _entries(place: Place) -> int:
    return len(journal_reader.tail(place.journal(), 10)) if place.journal().exists() else 0


def test_a_port_in_use_is_named_and_nothing_is_begun(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        place.configure(http={"port": port})
        done = sacd("run", cwd=place.root)
    assert done.returncode == 78
    assert _is_plain(done)
    assert str(port) in done.stderr
    assert _entries(place) == 0
    assert not (place.root / "var.sock").exists()


def test_a_socket_that_is_something_else_is_named_and_nothing_is_begun(place: Place) -> None:
    (place.root / "var.sock").write_text("mine", encoding="utf-8")
    done = sacd("run", cwd=place.root)
    assert done.returncode == 78
    assert _is_plain(done)
    assert _entries(place) == 0
    assert (place.root / "var.sock").read_text(encoding="utf-8") == "mine"


def _broken_model(place: Place) -> None:
    member = place.model / "member-1.safetensors"
    data = bytearray(member.read_bytes())
    data[-1] ^= 1
    member.write_bytes(bytes(data))


def _missing_member(place: Place) -> None:
    (place.model / "member-2.safetensors").unlink()


@pytest.mark.parametrize(
    ("spoil", "named"), [(_broken_model, "member-1.safetensors"), (_missing_member, "member-2.safetensors")]
)
def test_a_broken_model_is_named_and_nothing_is_begun(place: Place, spoil: Callable[[Place], None], named: str) -> None:
    spoil(place)
    done = sacd("run", cwd=place.root)
    assert done.returncode == 1
    assert _is_plain(done)
    assert named in done.stderr
    assert _entries(place) == 0
    checked = sacd("check", "--json", cwd=place.root)
    assert checked.returncode == 1
    (fault,) = [c for c in json.loads(checked.stdout)["checks"] if not c["is_good"]]
    assert fault["name"] == "ensemble"
    assert named in fault["detail"]


def test_a_broken_data_file_is_named_with_line_and_remedy(recorded: Place) -> None:
    file = recorded.files[ETH]
    lines = file.read_text(encoding="utf-8").splitlines()
    lines[41] = lines[41].replace(lines[41].split(",")[1], "nan", 1)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    done = sacd("run", cwd=recorded.root)
    assert done.returncode == 1
    assert _is_plain(done)
    assert file.name in done.stderr
    assert "line 42" in done.stderr
    assert _entries(recorded) == 0
    checked = sacd("check", cwd=recorded.root)
    assert checked.returncode == 1
    assert "line 42" in checked.stdout.replace("\n", " ")


def test_data_that_was_changed_under_an_account_stops_it_with_a_remedy(recorded: Place) -> None:
    assert sacd("run", cwd=recorded.root).returncode == 0
    candles = market_candles(BTC, 320, seed=99)
    write_csv(recorded.files[BTC], candles)
    done = sacd("run", cwd=recorded.root)
    assert done.returncode == 1
    assert _is_plain(done)
    assert "the journal was made with other data" in done.stderr


BAD: list[tuple[dict[str, dict[str, Any]], str]] = [
    ({"daemon": {"state_dir": "/proc/sacd-cannot-be-here"}}, "state_dir"),
    ({"strategy": {"model": "nowhere"}}, "model"),
    ({"risk": {"stop_losss": 0.1}}, "stop_losss"),
    ({"risk": {"max_drawdown": 7.0}}, "max_drawdown"),
    ({"market": {"candles_per_second": "fast"}}, "candles_per_second"),
    ({"control": {"socket": "x" * 120}}, "socket"),
]


@pytest.mark.fault(63)
@pytest.mark.parametrize(("changes", "named"), BAD, ids=[named for _, named in BAD])
def test_a_wrong_configuration_is_refused_with_78(place: Place, changes: dict[str, Any], named: str) -> None:
    place.configure(**changes)
    done = sacd("run", cwd=place.root)
    assert done.returncode == 78
    assert _is_plain(done)
    assert named in done.stderr
    assert not (place.root / "var").exists() or _entries(place) == 0


@pytest.mark.parametrize("verb", ["run", "check", "status", "replay", "models list"])
def test_without_a_configuration_every_verb_says_so(tmp_path: Path, verb: str) -> None:
    done = sacd(*verb.split(), cwd=tmp_path)
    assert done.returncode == 78
    assert _is_plain(done)
    assert "config.toml" in done.stderr


def test_an_account_that_was_opened_otherwise_is_refused(recorded: Place) -> None:
    sacd("run", cwd=recorded.root)
    before = _entries(recorded)
    recorded.configure(daemon={"instance": "test", "state_dir": str(recorded.root / "var"), "initial_cash": 7.0e4})
    done = sacd("run", cwd=recorded.root)
    assert done.returncode == 78
    assert _is_plain(done)
    assert "cash was 100000.0, is 70000.0" in done.stderr
    assert _entries(recorded) == before


def test_a_damaged_journal_stops_the_start_and_verify_says_where(recorded: Place) -> None:
    sacd("run", cwd=recorded.root)
    checkpoint = journal_reader.last_of_kind(recorded.journal(), "checkpoint")
    assert checkpoint is not None
    alter(recorded.journal(), "UPDATE events SET payload = '[]' WHERE seq = ?", checkpoint.seq)
    done = sacd("run", cwd=recorded.root)
    assert done.returncode == 1
    assert _is_plain(done)
    assert f"entry {checkpoint.seq}" in done.stderr
    verified = sacd("journal", "verify", "--json", cwd=recorded.root)
    assert verified.returncode == 3
    assert json.loads(verified.stdout)["bad_seq"] == checkpoint.seq
    assert "damaged at entry" in sacd("journal", "verify", cwd=recorded.root).stdout
    checked = sacd("check", cwd=recorded.root)
    assert checked.returncode == 1
    assert f"damaged at entry {checkpoint.seq}" in checked.stdout.replace("\n", " ")


# ---- check ------------------------------------------------------------------------------------------------------
def test_check_is_content_with_a_good_place_and_touches_nothing(place: Place) -> None:
    done = sacd("check", "--json", cwd=place.root)
    assert done.returncode == 0
    told = json.loads(done.stdout)
    assert told["ok"] is True
    assert [c["name"] for c in told["checks"]] == [
        "configuration",
        "ensemble",
        "state directory",
        "journal",
        "market",
        "conditions",
        "http",
    ]
    assert all(c["is_good"] for c in told["checks"])
    assert sacd("check", cwd=place.root).stdout.count("ok") >= 5
    assert not (place.root / "var").exists()


@pytest.mark.parametrize(
    ("host", "is_warning"),
    [
        ("0.0.0.0", True),  # noqa: S104 - nothing is bound
        ("192.168.1.5", True),
        ("::", True),
        ("127.0.0.2", False),
        ("::1", False),
        ("localhost", False),
    ],
)
def test_check_warns_of_metrics_that_others_can_read_and_still_passes(
    place: Place, host: str, is_warning: bool
) -> None:
    place.configure(http={"enabled": True, "host": host})
    result = sacd("check", "--json", cwd=place.root)
    assert result.returncode == 0
    (http,) = [c for c in json.loads(result.stdout)["checks"] if c["name"] == "http"]
    assert (http["is_good"], http["is_warning"]) == (True, is_warning)
    assert ("readable by whoever reaches this address" in http["detail"]) is is_warning
    shown = sacd("check", cwd=place.root)
    assert ("\nwarn " in shown.stdout) is is_warning


@pytest.mark.fault(54)
def test_check_refuses_an_ensemble_of_another_timeframe(place: Place) -> None:
    place.configure(market={"timeframe": "4h"})
    done = sacd("check", cwd=place.root)
    assert done.returncode == 1
    assert "trained on 1h candles" in done.stdout


# ---- journal ----------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """An account whose file has ended, to be read only."""
    place = make_place(tmp_path_factory.mktemp("finished"), 300)
    assert sacd("run", cwd=place.root).returncode == 0
    return place


def test_journal_show_prints_the_newest_entries(finished: Place) -> None:
    done = sacd("journal", "show", "-n", "4", cwd=finished.root)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert len(lines) == 4
    assert lines[-1].split()[3] == "stop"
    rows = json.loads(sacd("journal", "show", "--last", "4", "--json", cwd=finished.root).stdout)["entries"]
    assert [row["kind"] for row in rows] == [line.split()[3] for line in lines]
    everything = sacd("journal", "show", "-n", "100000", cwd=finished.root)
    assert everything.returncode == 0
    assert len(everything.stdout.splitlines()) == rows[-1]["seq"]


def test_journal_export_writes_every_entry_and_never_over_a_file(finished: Place, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    done = sacd("journal", "export", "--out", out, cwd=finished.root)
    assert done.returncode == 0
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert f"{len(rows)} entries written" in done.stdout
    entries = list(journal_reader.read(finished.journal()))
    assert [(row["seq"], row["kind"], row["payload"]) for row in rows] == [(e.seq, e.kind, e.payload) for e in entries]
    again = sacd("journal", "export", "--out", out, cwd=finished.root)
    assert again.returncode == 1
    assert _is_plain(again)
    assert sacd("journal", "export", cwd=finished.root).stdout == out.read_text(encoding="utf-8")


@pytest.mark.parametrize("arguments", ["journal export", "journal show -n 100000", "journal show --json -n 100000"])
def test_a_reader_that_leaves_early_is_no_traceback(finished: Place, tmp_path: Path, arguments: str) -> None:
    error = tmp_path / "error"
    command = f"{' '.join(SACD)} {arguments} --config {finished.config} 2>{error} | head -n 1"
    done = subprocess.run(
        ["bash", "-c", command], check=False, cwd=finished.root, env=environment(), capture_output=True, text=True
    )
    assert len(done.stdout.splitlines()) == 1
    assert error.read_text(encoding="utf-8") == ""


FULL = Path("/dev/full")


def _with_full_output(arguments: str, place: Place) -> "subprocess.CompletedProcess[str]":
    if not FULL.exists():
        pytest.skip("this system has no /dev/full")
    with FULL.open("w", encoding="utf-8") as full:
        return subprocess.run(
            [*SACD, *arguments.split()], check=False, cwd=place.root, env=environment(), stdout=full,
            stderr=subprocess.PIPE, text=True, timeout=60
        )  # fmt: skip


FULL_SAYS = (1, "sacd: the output cannot be written: No space left on device\n")


@pytest.mark.parametrize("arguments", ["journal show", "journal show --json", "journal export", "models list", "check"])
def test_output_that_is_full_is_one_line_and_exit_1(finished: Place, arguments: str) -> None:
    done = _with_full_output(arguments, finished)
    assert (done.returncode, done.stderr) == FULL_SAYS


@pytest.mark.parametrize("arguments", ["status", "status --json", "pause"])
def test_an_answer_that_finds_its_output_full_is_one_line(trading: tuple[Place, Running], arguments: str) -> None:
    done = _with_full_output(arguments, trading[0])
    assert (done.returncode, done.stderr) == FULL_SAYS
    sacd("resume", cwd=trading[0].root)


def _closing(what: str, arguments: str, place: Place) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["bash", "-c", f"{' '.join(SACD)} {arguments} {what}"], check=False, cwd=place.root, env=environment(),
        capture_output=True, text=True, timeout=60
    )  # fmt: skip


@pytest.mark.parametrize("arguments", ["run", "journal show", "check", "data list ."])
@pytest.mark.parametrize("what", [">&-", "2>&-", ">&- 2>&- <&-"])
def test_closed_streams_are_as_good_as_dev_null(tmp_path: Path, what: str, arguments: str) -> None:
    place = make_place(tmp_path, 300)
    if arguments == "journal show":
        sacd("run", cwd=place.root)
    done = _closing(what, arguments, place)
    assert (done.returncode, done.stderr) == (0, "")
    if arguments == "run":
        assert journal_reader.verify(place.journal()).is_sound
        assert journal_reader.tail(place.journal(), 1)[0].kind == "stop"


@pytest.mark.parametrize("verb", ["show", "export", "verify"])
def test_a_journal_that_is_not_there_is_named(place: Place, verb: str) -> None:
    done = sacd("journal", verb, "--journal", place.root / "none.sqlite", cwd=place.root)
    assert done.returncode == 1
    assert _is_plain(done)
    assert "none.sqlite" in done.stderr


def test_replay_prints_counts_and_says_which_decision_differs(finished: Place, tmp_path: Path) -> None:
    done = sacd("replay", cwd=finished.root)
    assert (done.returncode, done.stdout) == (0, "594 decisions, 0 differ\n")
    journal = Path(shutil.copy(finished.journal(), tmp_path / "j.sqlite"))
    (seq, payload), *_ = [(e.seq, e.payload) for e in journal_reader.read(journal, kinds={"candle"}, limit=1)]
    text = json.dumps(payload).replace(str(payload["candles"][0][5]), str(payload["candles"][0][5] + 1))
    alter(journal, "UPDATE events SET payload = ? WHERE seq = ?", text, seq)
    done = sacd("replay", "--journal", journal, cwd=finished.root)
    assert done.returncode == 3
    assert done.stdout.splitlines()[0] == "594 decisions, 1 differ"
    assert done.stdout.splitlines()[1].startswith(f"entry {seq + 1}: BTC/USDT at 2024-01-01 00:00:00 differs in candle")
    told = json.loads(sacd("replay", "--journal", journal, "--json", cwd=finished.root).stdout)
    assert (told["decisions"], told["differ"], told["first_differences"][0]["seq"]) == (594, 1, seq + 1)
    alter(journal, "UPDATE events SET payload = ? WHERE seq = ?", text.replace('"BTC', '"XTC'), seq)
    done = sacd("replay", "--journal", journal, cwd=finished.root)
    assert done.returncode == 1
    assert _is_plain(done)
    assert f"entry {seq} (candle)" in done.stderr


def test_replay_without_the_ensemble_says_what_to_name(finished: Place, tmp_path: Path) -> None:
    done = sacd("replay", "--models", tmp_path, cwd=finished.root)
    assert done.returncode == 1
    assert _is_plain(done)
    assert "--models" in done.stderr


# ---- models -----------------------------------------------------------------------------------------------------
def test_models_are_listed_and_shown(tmp_path: Path) -> None:
    place = make_place(tmp_path)
    other = write_bundle(tmp_path / "models", seed=9, members=2)
    (tmp_path / "models" / "current").symlink_to(place.model.name)
    (other / "member-0.safetensors").write_bytes(b"")
    place.configure(strategy={"model": str(tmp_path / "models" / "current")})
    rows = {row["id"]: row for row in json.loads(sacd("models", "list", "--json", cwd=tmp_path).stdout)["models"]}
    assert rows[place.model.name]["current"] is True
    assert rows[place.model.name]["fault"] is None
    manifest = json.loads((place.model / "manifest.json").read_text(encoding="utf-8"))
    trained = manifest["training"]
    told = [rows[place.model.name][key] for key in ("members", "symbols", "until_ms", "steps")]
    assert told == [3, trained["symbols"], trained["end_ms"], trained["steps"]]
    assert [rows[other.name][key] for key in ("members", "symbols", "until_ms", "steps")] == [None, [], None, None]
    assert "member-0.safetensors" in rows[other.name]["fault"]
    shown = sacd("models", "list", cwd=tmp_path)
    assert shown.returncode == 0
    assert place.model.name in shown.stdout
    manifest = json.loads(sacd("models", "show", cwd=tmp_path).stdout)
    assert len(manifest["members"]) == 3
    broken = sacd("models", "show", other, cwd=tmp_path)
    assert broken.returncode == 1
    assert _is_plain(broken)


# ---- usage ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("verb", ["", *VERBS])
def test_every_verb_has_help(verb: str) -> None:
    done = CliRunner().invoke(app, [*verb.split(), "--help"])
    assert done.exit_code == 0
    assert f"Usage: sacd {verb}".strip() in done.output


@pytest.mark.parametrize("verb", HANDED_OVER)
def test_verbs_that_are_handed_over_show_their_own_help(tmp_path: Path, verb: str) -> None:
    done = sacd(verb, "--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: sacd {verb} ")


@pytest.mark.parametrize("words", ["sell", "run --fast", "journal burn", "journal show -n 0", "parity"])
def test_wrong_usage_is_2(words: str) -> None:
    assert CliRunner().invoke(app, words.split()).exit_code == 2


def test_wrong_usage_is_2_and_no_traceback_from_outside(tmp_path: Path) -> None:
    done = sacd("sell", cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


# ---- what it loads ----------------------------------------------------------------------------------------------
_LOADED = """
import sys, asyncio, os, signal
from daemon import app
stop = app.Engine.stop
async def tell(self, reason):
    heavy = {"torch", "pandas", "stable_baselines3", "gymnasium", "ccxt", "training", "pyarrow", "numba", "matplotlib"}
    loaded = {name.partition(".")[0] for name in sys.modules}
    print("loaded:", sorted(heavy & loaded), len(sys.modules), file=sys.stderr)
    return await stop(self, reason)
app.Engine.stop = tell
sys.argv = ["sacd", "run", "--config", sys.argv[1]]
from daemon.__main__ import main
main()
"""


def test_a_running_daemon_has_loaded_nothing_of_training_and_no_ccxt(recorded: Place) -> None:
    command = [SACD[0], "-c", _LOADED, str(recorded.config)]
    done = subprocess.run(command, check=False, cwd=recorded.root, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("loaded: [] ")
    assert int(done.stderr.split()[2]) > 300  # it really was the whole daemon
