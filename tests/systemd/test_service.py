"""sacd@.service under a real systemd: from the start to the end, and what becomes of a daemon that fails."""

import json
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from strategy.features import WINDOW
from tests.systemd.accounts import SACD, Account
from tests.systemd.booted import Machine
from tests.training.markets import history, write_table

pytestmark = pytest.mark.timeout(900)  # the first of them waits until all is installed

CONFIGURATION_WRONG = "78"
SIGABRT = "6"


@pytest.fixture
def account(machine: Machine, request: pytest.FixtureRequest) -> Iterator[Account]:
    """An account of its own for each test, configured as installed, at rest."""
    made = Account(machine=machine, name=f"t{zlib.crc32(request.node.name.encode()):08x}")
    made.configure()
    yield made
    machine.run("systemctl", "stop", made.unit, check=False)


def decisions(account: Account) -> int:
    return int(account.status()["decisions"])


def begin(account: Account) -> int:
    """Start it, wait until it has decided something, and return how often."""
    account.start()
    account.machine.until(lambda: decisions(account) > 0, "a first decision", account.unit)
    return decisions(account)


def is_sound(account: Account) -> bool:
    """Tell whether every entry of the journal proves the one before it."""
    return bool(json.loads(account.sacd("journal", "verify", "--json"))["sound"])


# ---- the start ----------------------------------------------------------------------------------------------------
def test_what_was_installed_trades_with_nothing_else_done(machine: Machine) -> None:
    account = Account(machine=machine, name="paper")
    account.start()
    assert (account.show("ActiveState"), account.show("StatusText")) == ("active", "trading")
    machine.until(lambda: decisions(account) > 0, "a first decision", account.unit)
    by_root = machine.run(SACD, "status", "--json", "--config", account.config).stdout
    assert json.loads(by_root)["instance"] == "paper"
    machine.run("systemctl", "stop", account.unit)


def test_the_start_is_over_when_the_window_is_full_and_not_before(account: Account, tmp_path: Path) -> None:
    file = write_table(history(400), tmp_path)
    account.machine.path("/etc/sacd/btcusdt-1h.csv").write_bytes(file.read_bytes())
    account.configure(source="file", symbols=["BTC/USDT"], candles_per_second=WINDOW / 10.0)
    config = account.machine.path(account.config)
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace("\npaths = {}", '\npaths = { "BTC/USDT" = "btcusdt-1h.csv" }'), encoding="utf-8")
    account.drop_in("WatchdogSec=6")  # how often it says how far it is
    account.machine.run("systemctl", "start", "--no-block", account.unit)
    account.machine.until(
        lambda: account.show("StatusText").endswith("candles to a full window"), "word of the window", account.unit
    )
    assert account.show("ActiveState") == "activating"
    account.machine.until(lambda: account.show("ActiveState") == "active", "its start", account.unit)
    assert account.show("StatusText") == "trading"
    assert decisions(account) > WINDOW - 1, "it was called ready before the candle that filled the window"


def test_a_wrong_configuration_is_told_to_a_person_and_not_tried_again(account: Account) -> None:
    machine = account.machine
    account.configure(timeframe="1 hour")
    account.drop_in("RestartSec=100ms")
    alert = machine.path("/etc/sacd/alert")
    alert.write_text('#!/bin/sh\necho "told a person of $1: $(head -n 1)"\n', encoding="utf-8")
    alert.chmod(0o755)
    assert account.start(check=False) == 1
    alarm = f"sacd-alert@{account.unit}.service"
    machine.until(lambda: "told a person" in machine.log(alarm), "an alarm", alarm)
    time.sleep(1.0)  # ten times as long as a restart would wait
    assert [account.show(name) for name in ("ExecMainStatus", "NRestarts", "ActiveState")] == [
        CONFIGURATION_WRONG, "0", "failed",
    ]  # fmt: skip
    loud = machine.log(alarm, "--priority=alert").splitlines()
    assert loud[0] == f"{account.unit} has failed: exit-code (exited, {CONFIGURATION_WRONG})"
    assert "market.timeframe" in "\n".join(loud)
    assert f"told a person of {account.unit}: {loud[0]}" in machine.log(alarm)


def test_systemd_finds_no_fault_in_what_was_installed(machine: Machine) -> None:
    units = ("sacd@paper.service", "sacd-train@paper.path", "sacd-train@paper.service", "sacd-alert@x.service")
    said = machine.run("systemd-analyze", "verify", "--man=no", *units)
    assert [line for line in said.stderr.splitlines() if "sacd" in line] == []


def test_the_registry_is_no_account(machine: Machine) -> None:
    assert machine.run("systemctl", "start", "sacd@models", check=False).returncode != 0
    assert machine.show("sacd@models", "AssertResult")["AssertResult"] == "no"


# ---- while it runs ------------------------------------------------------------------------------------------------
def test_a_reload_takes_a_configuration_whole_or_keeps_the_old_one(account: Account) -> None:
    begin(account)
    pid = account.show("MainPID")
    account.configure(max_drawdown=0.11)
    account.machine.run("systemctl", "reload", account.unit)
    account.machine.until(lambda: '"event":"config_reloaded"' in account.log(), "the new configuration", account.unit)
    assert "risk.max_drawdown 0.15 -> 0.11" in account.log()
    account.configure(max_drawdown=11.0)
    account.machine.run("systemctl", "reload", account.unit)
    account.machine.until(lambda: '"event":"config_kept"' in account.log(), "a refusal", account.unit)
    account.machine.until(lambda: "1 mistake" in account.show("StatusText"), "word of it", account.unit)
    assert (account.show("ActiveState"), account.show("MainPID")) == ("active", pid)


# ---- the end ------------------------------------------------------------------------------------------------------
def test_it_ends_cleanly_and_in_time_when_told_to(account: Account) -> None:
    begin(account)
    began_s = time.monotonic()
    account.stop()
    assert time.monotonic() - began_s < 45.0  # TimeoutStopSec
    ended = [account.show(name) for name in ("Result", "ExecMainStatus", "ActiveState")]
    assert ended == ["success", "0", "inactive"]
    assert is_sound(account)


# ---- failures -----------------------------------------------------------------------------------------------------
def test_a_frozen_daemon_is_aborted_and_its_successor_continues_the_account(account: Account) -> None:
    account.drop_in("WatchdogSec=10\nRestartSec=100ms")
    before = begin(account)
    account.machine.run("systemctl", "kill", "--kill-whom=main", "--signal=STOP", account.unit)
    account.machine.until(lambda: int(account.show("NRestarts")) > 0, "a restart", account.unit)
    account.machine.until(lambda: account.show("ActiveState") == "active", "its next life", account.unit)
    log = account.log()
    assert "Watchdog timeout (limit 10s)!" in log
    assert f"status={SIGABRT}/ABRT" in log
    assert "Fatal Python error: Aborted" in log, "where it hung is not told"
    started = [json.loads(line) for line in log.splitlines() if '"event":"started"' in line]
    assert [line["resumed"] for line in started[:2]] == [False, True]
    assert started[1]["decisions"] >= before
    account.stop()
    assert is_sound(account)


def test_a_killed_daemon_comes_back_by_itself(account: Account) -> None:
    account.drop_in("RestartSec=100ms")
    begin(account)
    account.machine.run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", account.unit)
    account.machine.until(lambda: int(account.show("NRestarts")) > 0, "a restart", account.unit)
    account.machine.until(lambda: account.show("ActiveState") == "active", "its next life", account.unit)
    assert '"resumed":true' in account.log()


# ---- what instances share -----------------------------------------------------------------------------------------
def test_a_promotion_by_hand_reaches_the_registry_through_the_sandbox(account: Account) -> None:
    """The registry is the one place that instances share; here its links are changed by a running daemon."""
    begin(account)
    serving = account.status()["model"]
    account.sacd("models", "promote", serving)
    assert account.machine.path("/var/lib/sacd/models/current").readlink() == Path(serving)


def test_the_command_line_of_the_machine_is_that_of_the_service(machine: Machine) -> None:
    assert machine.run("readlink", "--canonicalize", SACD).stdout.strip() == "/usr/local/lib/sacd/run/bin/sacd"
