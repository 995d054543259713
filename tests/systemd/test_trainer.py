"""sacd-train@ under a real systemd: started by the daemon's request, and by nothing else."""

import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from strategy.features import WINDOW
from strategy.observation import N_OBSERVATION
from tests.fakes.bundles import random_arrays
from tests.systemd.accounts import Account
from tests.systemd.booted import Machine
from tests.training.retrainings import PRACTICE, files_of, put

pytestmark = pytest.mark.timeout(900)  # the first of them waits until all is installed

HOUR_MS = 3_600_000
MARKET_BEGINS_MS = 1_704_067_200_000
"""2024-01-01T00:00Z, where the simulated market begins."""
SEEN_TO_MS = MARKET_BEGINS_MS + (WINDOW - 1 + PRACTICE) * HOUR_MS
"""The incumbent's last candle: the history that a first start fetches ends a month before it."""
REGISTRY = "/var/lib/sacd/models"


@pytest.fixture(scope="module")
def incumbent(machine: Machine) -> str:
    """An ensemble whose recipe takes seconds, which serves in this machine from now on."""
    registry = machine.path(REGISTRY)
    name = put(registry, files_of(random_arrays(3, N_OBSERVATION), end_ms=SEEN_TO_MS))
    machine.run("chown", "--recursive", "sacd:sacd", f"{REGISTRY}/{name}")
    (registry / "current").unlink()
    (registry / "current").symlink_to(name)
    return name


@pytest.fixture
def pace() -> float:
    """Candle times per second: slow enough that the incumbent has seen them all."""
    return 2.0


@pytest.fixture
def account(machine: Machine, incumbent: str, pace: float, request: pytest.FixtureRequest) -> Iterator[Account]:
    """An account that trades with the incumbent."""
    made = Account(machine=machine, name=f"t{zlib.crc32(request.node.name.encode()):08x}")
    made.configure(symbols=["BTC/USDT"], candles_per_second=pace, workers=1)
    made.start()
    yield made
    made.stop()


def trainer(account: Account, kind: str = "service") -> str:
    return f"sacd-train@{account.name}.{kind}"


def newest(account: Account) -> dict[str, Any]:
    """Return what is known of the newest retraining."""
    found: dict[str, Any] = account.status()["models"]["retrain"]
    return found


def retrain(account: Account) -> dict[str, Any]:
    """Ask for a retraining and return what became of it."""
    account.sacd("retrain")
    asked = newest(account)["request"]
    account.machine.until(lambda: newest(account)["outcome"] != "running", "an answer", trainer(account))
    assert newest(account)["request"] == asked
    return newest(account)


def is_over(account: Account) -> bool:
    return account.machine.show(trainer(account), "ActiveState")["ActiveState"] == "inactive"


def test_every_request_starts_the_trainer_which_answers_as_the_user_of_the_service(account: Account) -> None:
    machine = account.machine
    for _ in range(2):  # the second one shows that it is listened to again
        told = retrain(account)
        assert (told["outcome"], told["reason"].split(";")[0]) == (
            "kept",
            "only 0 whole days of candles are unseen by both",
        )
        machine.until(lambda: is_over(account), "its end", trainer(account))
        report = machine.path(f"{account.state}/retrain/work/{told['request']}/report.json")
        assert json.loads(report.read_text(encoding="utf-8"))["request"] == told["request"]
        assert report.stat().st_uid == int(machine.run("id", "--user", "sacd").stdout)
    assert machine.show(trainer(account), "Result", "ExecMainStatus") == {"Result": "success", "ExecMainStatus": "0"}


@pytest.mark.soak
@pytest.mark.parametrize("pace", [300.0])
def test_a_whole_retraining_passes_the_sandbox_also_when_it_is_told_to_end_on_the_way(account: Account) -> None:
    """Journal read, numba compiled, torch trained, both ensembles judged, the ledger written."""
    machine, ledger = account.machine, account.machine.path(f"{REGISTRY}/trials.jsonl")
    before = len(ledger.read_bytes().splitlines())
    unseen_ms = SEEN_TO_MS + 45 * 24 * HOUR_MS
    machine.until(
        lambda: account.status()["positions"]["BTC/USDT"]["last_candle_ms"] > unseen_ms, "candles", account.unit
    )
    account.sacd("retrain")
    machine.until(lambda: "training: 1 members" in machine.log(trainer(account)), "training", trainer(account))
    machine.run("systemctl", "kill", "--kill-whom=main", "--signal=TERM", trainer(account))
    machine.until(lambda: newest(account)["outcome"] != "running", "an answer", trainer(account), 600.0)
    told = newest(account)
    assert told["outcome"] in {"kept", "candidate"}, told
    assert machine.log(trainer(account)).count("asked for by hand") == 2, "it was not begun a second time"
    report = machine.path(f"{account.state}/retrain/work/{told['request']}/report.json")
    found = json.loads(report.read_text(encoding="utf-8"))["report"]
    assert found["members"] == 1
    assert {check["name"] for check in found["gate"]} >= {"compatible", "better"}
    assert len(ledger.read_bytes().splitlines()) > before


def test_requests_are_heeded_as_long_as_the_daemon_lives(account: Account) -> None:
    def state() -> str:
        return account.machine.show(trainer(account, "path"), "ActiveState")["ActiveState"]

    assert state() == "active"
    account.stop()
    account.machine.until(lambda: state() == "inactive", "its end", trainer(account, "path"))


def test_a_trainer_that_cannot_begin_is_not_started_for_ever_and_a_person_is_told(account: Account) -> None:
    machine = account.machine
    machine.drop_in(trainer(account), "[Service]\nExecStart=\nExecStart=/usr/bin/false\n")
    account.sacd("retrain")
    path = trainer(account, "path")
    machine.until(lambda: machine.show(path, "ActiveState")["ActiveState"] == "failed", "its end", trainer(account))
    assert machine.show(path, "Result")["Result"] == "unit-start-limit-hit"
    assert machine.log(trainer(account)).count("Main process exited, code=exited, status=203/EXEC") <= 10
    alarm = f"sacd-alert@{path}.service"
    machine.until(lambda: f"{path} has failed" in machine.log(alarm, "--priority=alert"), "an alarm", alarm)
    assert Path(machine.path(f"{account.state}/retrain/request.json")).exists()
    assert account.show("ActiveState") == "active"
