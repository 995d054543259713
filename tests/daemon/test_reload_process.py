"""A real daemon that is asked, by a signal or over its socket, to read its configuration anew."""

import contextlib
import fcntl
import json
import os
import pty
import signal
import subprocess
import termios
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from daemon import journal_reader
from daemon.replay import replay
from tests.daemon.programs import SACD, Running, environment, sacd
from tests.daemon.test_hang_and_memory import listening
from tests.fakes.serving import Place, make_place

PACED = {"candles_per_second": 40.0}
_PATCHED = """
import asyncio, os, sys
from daemon import app, app_reload
{patch}
from daemon.__main__ import main
sys.argv = ["sacd", *sys.argv[1:]]
main()
"""
_DIES_ONCE_IT_IS_ON_DISK = """
def die(self, config):
    os.kill(os.getpid(), 9)
app_reload.Parts._follow = die
"""
_STARTS_SLOWLY = """
make = app.make_feed
def make_slow(config, clock, budget):
    feed = make(config, clock, budget)
    instruments = feed.instruments
    async def slow():
        app._log.info("asking")
        await clock.sleep_s(2.0)
        return await instruments()
    feed.instruments = slow
    return feed
app.make_feed = make_slow
"""
_ENDS_SLOWLY = """
quiesce = app.Engine.quiesce
async def slow(self, *arguments):
    app._log.info("ending")
    await asyncio.sleep(2.0)
    await quiesce(self, *arguments)
app.Engine.quiesce = slow
"""


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = make_place(tmp_path)
    made.configure(market=PACED)
    return made


def patched(place: Place, patch: str, **environ: str) -> Running:
    return Running(place.config, command=[SACD[0], "-c", _PATCHED.format(patch=patch), "run"], **environ)


def configure(place: Place, **changes: Any) -> None:
    place.configure(**{"market": PACED, **changes})


def metrics(running: Running) -> dict[str, float]:
    """What a scrape shows, by name with labels."""
    url = running.wait_for("recovered")["metrics"]
    with urllib.request.urlopen(f"{url}metrics", timeout=10.0) as answer:  # noqa: S310 - our own, on loopback
        lines = answer.read().decode().splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}


def runs(place: Place) -> list[Mapping[str, Any]]:
    return [entry.payload for entry in journal_reader.read(place.journal(), kinds={"run"})]


def goes_on(running: Running, candles: int = 3) -> None:
    running.wait_for("candle", len(running.called("candle")) + candles)


def handles_hangup(pid: int) -> bool:
    """Whether the system would keep SIGHUP for a process, or the process has a handler of it."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text("ascii").splitlines()
    except FileNotFoundError:
        return False
    masks = dict(line.split(":\t") for line in lines if line.startswith("Sig"))
    bit = 1 << (signal.SIGHUP - 1)
    return bool((int(masks["SigBlk"], 16) | int(masks["SigCgt"], 16)) & bit)


# ---- taken, or not ----------------------------------------------------------------------------------------------
def test_sighup_puts_a_valid_file_in_force_between_two_candles_and_the_next_start_and_replay_follow(
    place: Place,
) -> None:
    with Running(place.config) as running:
        running.wait_for("candle", 3)
        before = metrics(running)
        configure(place, risk={"max_drawdown": 0.2}, execution={"fee_rate": 0.002}, log={"level": "warning"})
        running.process.send_signal(signal.SIGHUP)
        told = running.wait_for("not_what_was_trained_under")  # info is no longer written
        assert told["changed"] == ["risk.max_drawdown = 0.2, trained under 0.25",
                                   "execution.fee_rate = 0.002, trained under 0.001"]  # fmt: skip
        configure(place, risk={"max_drawdown": 0.2}, execution={"fee_rate": 0.002})
        running.process.send_signal(signal.SIGHUP)
        assert running.wait_for("config_reloaded")["changes"] == ['log.level "warning" -> "info"']
        goes_on(running)
        after = metrics(running)
        assert running.signal(signal.SIGTERM)[0] == 0
    assert before['sacd_limit_ratio{limit="max_drawdown"}'] == 0.25
    assert after['sacd_limit_ratio{limit="max_drawdown"}'] == 0.2
    assert after['sacd_config_reloads_total{outcome="taken"}'] == 2
    read = "sacd_config_last_reload_success_timestamp_seconds"
    assert after[read] > before[read]
    first, second, third = runs(place)
    assert [change["key"] for change in second["reload"]["changes"]] == [
        "risk.max_drawdown", "execution.fee_rate", "log.level",
    ]  # fmt: skip
    assert (second["reload"]["source"], "reload" in first) == ("signal", False)
    assert f'sacd_config_info{{digest="{third["config_digest"]}"}}' in after
    assert replay(place.journal(), place.root / "models").differ == 0
    with Running(place.config) as running:
        assert running.wait_for("recovered")["mismatches"] == 0
        goes_on(running)
        assert running.signal(signal.SIGTERM)[0] == 0


@pytest.mark.fault(45)
def test_sighup_with_an_invalid_file_tells_every_mistake_counts_it_and_nothing_of_it_holds(place: Place) -> None:
    with Running(place.config) as running:
        running.wait_for("candle", 3)
        configure(place, risk={"max_drawdown": 7.0, "stop_loss": 0.3, "stop_lss": 1}, log={"level": "error"})
        running.process.send_signal(signal.SIGHUP)
        told = running.wait_for("config_kept")
        goes_on(running)  # at the old level, too
        shown = metrics(running)
        place.config.unlink()
        running.process.send_signal(signal.SIGHUP)
        assert str(place.config) in running.wait_for("config_kept", 2)["mistakes"][0]
        assert running.signal(signal.SIGTERM)[0] == 0
    assert (told["outcome"], told["level"]) == ("invalid", "error")
    assert [mistake.split(" = ")[0] for mistake in told["mistakes"]] == ["risk.max_drawdown", "risk.stop_lss"]
    assert shown['sacd_config_reloads_total{outcome="invalid"}'] == 1
    assert shown["sacd_config_last_reload_successful"] == 0
    assert shown['sacd_limit_ratio{limit="max_drawdown"}'] == 0.25
    assert len(runs(place)) == 1


def test_sacd_reload_says_what_became_of_it_by_words_json_and_exit_code(place: Place) -> None:
    with Running(place.config) as running:
        running.wait_for("ready")
        same = sacd("reload", cwd=place.root)
        assert (same.returncode, same.stdout) == (0, f"{place.config} says what is in force already\n")
        configure(place, risk={"max_drawdown": 0.2})
        taken = sacd("reload", "--json", cwd=place.root)
        assert (taken.returncode, taken.stderr) == (0, "")
        answer = json.loads(taken.stdout)
        assert answer["changes"] == [{"key": "risk.max_drawdown", "old": 0.25, "new": 0.2}]
        assert answer["digest"] == runs(place)[-1]["config_digest"]
        configure(place, risk={"max_drawdown": 0.1}, http={"port": 1})
        kept = sacd("reload", cwd=place.root)
        assert kept.returncode == 3
        assert "http.port cannot change while sacd runs" in kept.stdout
        configure(place, risk={"max_drawdown": 5.0})
        wrong = sacd("reload", cwd=place.root)
        assert (wrong.returncode, wrong.stdout) == (78, "")
        assert "risk.max_drawdown = 5.0" in wrong.stderr
        # What the daemon itself finds wrong reaches whoever asked, too: its environment is another one.
        configure(place, retrain={"data": {}})
        assert len(runs(place)) == 2
        assert running.signal(signal.SIGTERM)[0] == 0
    configure(place)
    gone = sacd("reload", cwd=place.root)
    assert gone.returncode == 1
    assert "start it with `sacd run`" in gone.stderr


def test_a_mistake_that_only_the_daemon_sees_reaches_whoever_asked_with_78(place: Place) -> None:
    with Running(place.config, SACD_RISK__STOP_LOSS="0.1") as running:
        running.wait_for("ready")
        text = place.config.read_text("utf-8")
        place.config.write_text(text.replace('"stop_loss"', '"stop_lss"'), "utf-8")
        fixed = place.root / "fixed.toml"
        fixed.write_text(text, "utf-8")
        wrong = sacd("reload", "--config", fixed, cwd=place.root)  # the same socket, another file
        assert wrong.returncode == 78
        assert "risk.stop_lss" in wrong.stderr
        assert "Traceback" not in wrong.stderr
        assert running.signal(signal.SIGTERM)[0] == 0


# ---- whenever it comes ------------------------------------------------------------------------------------------
def test_hangups_from_the_first_line_to_the_last_end_nothing(place: Place) -> None:
    with Running(place.config) as running:
        began_s, pid = time.monotonic(), running.process.pid
        while not handles_hangup(pid):
            assert time.monotonic() - began_s < 30.0
            assert running.process.poll() is None
        sent, told_s = 0, 0.0
        while running.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                running.process.send_signal(signal.SIGHUP)
                sent += 1
            if not told_s and len(running.called("candle")) > 5 and running.called("config_reloaded"):
                running.process.send_signal(signal.SIGTERM)
                told_s = time.monotonic()
            time.sleep(0.01)
            assert time.monotonic() - began_s < 120.0
        code, error = running.end()
    assert (code, error) == (0, "")
    assert sent > 20
    assert {line["outcome"] for line in running.called("config_reloaded")} == {"unchanged"}
    assert running.called("stopped")


def test_what_is_asked_for_while_it_starts_is_done_once_it_trades(place: Place) -> None:
    with patched(place, _STARTS_SLOWLY) as running:
        running.wait_for("asking")
        configure(place, risk={"max_drawdown": 0.2})
        running.process.send_signal(signal.SIGHUP)
        early = sacd("reload", cwd=place.root)
        assert early.returncode == 1
        assert running.wait_for("config_reloaded")["changes"] == ["risk.max_drawdown 0.25 -> 0.2"]
        assert running.signal(signal.SIGTERM)[0] == 0
    assert [run["config"]["risk"]["max_drawdown"] for run in runs(place)] == [0.25, 0.2]


def test_what_is_asked_for_while_it_ends_is_not_done_and_does_not_end_it_sooner(place: Place) -> None:
    with patched(place, _ENDS_SLOWLY) as running:
        running.wait_for("candle", 3)
        configure(place, risk={"max_drawdown": 0.2})
        running.process.send_signal(signal.SIGTERM)
        running.wait_for("ending")
        running.process.send_signal(signal.SIGHUP)
        assert running.wait_for("reload_ignored")["reason"] == "sacd is stopping"
        asked = sacd("reload", cwd=place.root)
        assert asked.returncode == 1
        assert "sacd is stopping" in asked.stderr
        code, error = running.end()
    assert (code, error) == (0, "")
    assert running.lines[-1]["event"] == "stopped"
    assert len(runs(place)) == 1


def test_a_kill_between_the_record_of_a_reload_and_its_effect_leaves_a_journal_that_goes_on(place: Place) -> None:
    with patched(place, _DIES_ONCE_IT_IS_ON_DISK) as running:
        running.wait_for("candle", 20)
        configure(place, risk={"max_position": 0.2}, strategy={"decide_every": 2}, retrain={"drift_candles": 99})
        running.process.send_signal(signal.SIGHUP)
        assert running.end()[0] == -signal.SIGKILL
    assert [run["setup"]["limits"]["max_position"] for run in runs(place)] == [0.5, 0.2]
    with Running(place.config) as running:
        assert running.wait_for("recovered")["mismatches"] == 0
        goes_on(running, 20)
        assert running.signal(signal.SIGTERM)[0] == 0
    assert journal_reader.verify(place.journal()).is_sound
    assert replay(place.journal(), place.root / "models").differ == 0


# ---- systemd, and a terminal ------------------------------------------------------------------------------------
def test_systemd_hears_when_a_reload_begins_and_ends_also_of_one_that_takes_nothing(place: Place) -> None:
    with listening(place) as manager, Running(place.config, NOTIFY_SOCKET=str(place.root / "notify")) as running:
        running.wait_for("ready")
        while not manager.hear(10.0).startswith("READY=1"):
            pass
        before_us = time.monotonic_ns() // 1_000
        running.process.send_signal(signal.SIGHUP)
        begun, ended = manager.hear(10.0), manager.hear(10.0)
        first, second = begun.splitlines()
        assert first == "RELOADING=1"
        assert before_us <= int(second.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1_000
        assert ended == "READY=1\nSTATUS=trading"
        configure(place, risk={"max_drawdown": 7.0})
        running.process.send_signal(signal.SIGHUP)
        assert manager.hear(10.0).startswith("RELOADING=1")
        assert manager.hear(10.0).startswith("READY=1\nSTATUS=trading; nothing of ")
        assert running.signal(signal.SIGTERM)[0] == 0


@contextlib.contextmanager
def on_a_terminal(place: Place, *, is_ignored: bool) -> Iterator[tuple["subprocess.Popen[bytes]", Path, int]]:
    """A daemon that belongs to a terminal and logs into a file; closing what is yielded last hangs the terminal up."""
    ours, theirs = pty.openpty()
    log = place.root / "log"

    def take_terminal() -> None:
        os.setsid()
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)
        signal.signal(signal.SIGHUP, signal.SIG_IGN if is_ignored else signal.SIG_DFL)

    with log.open("wb") as out:
        process = subprocess.Popen(
            [*SACD, "run", "--config", str(place.config)], cwd=place.root, stdin=theirs, stdout=out, stderr=out,
            env=environment({"SACD_LOG__FORMAT": "json"}), preexec_fn=take_terminal, pass_fds=[theirs],  # noqa: PLW1509 - calls the kernel alone
        )  # fmt: skip
    os.close(theirs)
    try:
        yield process, log, ours
    finally:
        process.kill()
        process.wait()


def logged(log: Path, event: str, count: int = 1) -> None:
    end_s = time.monotonic() + 60.0
    while log.read_text("utf-8").count(f'"event":"{event}"') < count:
        assert time.monotonic() < end_s, log.read_text("utf-8")[-2_000:]
        time.sleep(0.02)


def test_a_terminal_that_goes_ends_it_in_order_and_one_that_stays_lets_it_reload(place: Place) -> None:
    with on_a_terminal(place, is_ignored=False) as (process, log, terminal):
        logged(log, "ready")
        process.send_signal(signal.SIGHUP)
        logged(log, "config_reloaded")
        os.close(terminal)
        assert process.wait(60.0) == 0
    (stopped,) = [entry.payload["reason"] for entry in journal_reader.read(place.journal(), kinds={"stop"})]
    assert stopped == "SIGHUP of a terminal that is gone received"


def test_with_nohup_it_outlives_its_terminal_and_still_reloads(place: Place) -> None:
    with on_a_terminal(place, is_ignored=True) as (process, log, terminal):
        logged(log, "ready")
        os.close(terminal)
        logged(log, "config_reloaded")  # by the hangup itself
        configure(place, risk={"max_drawdown": 0.2})
        process.send_signal(signal.SIGHUP)
        logged(log, "config_reloaded", 2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60.0) == 0
