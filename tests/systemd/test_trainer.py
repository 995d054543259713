"""sacd-train@ under a real systemd: started by a request, below everything else, cut off from the world."""

import json
from pathlib import Path
from typing import Any

import pytest

from strategy.features import WINDOW
from tests.fakes.bundles import random_arrays
from tests.systemd.accounts import Account
from tests.systemd.booted import Machine
from tests.training.retrainings import PRACTICE, files_of, put
from strategy.observation import N_OBSERVATION

_2024_MS = 1_704_067_200_000
_HOUR_MS = 3_600_000
SEEN_TO_MS = _2024_MS + (WINDOW - 1 + PRACTICE) * _HOUR_MS


def test_x(machine: Machine) -> None:
    import time
    account = Account(machine=machine, name="learner")
    name = put(Path(machine.path("/var/lib/sacd/models")), files_of(random_arrays(3, N_OBSERVATION), end_ms=SEEN_TO_MS))
    machine.run("chown", "-R", "sacd:sacd", f"/var/lib/sacd/models/{name}")
    link = machine.path("/var/lib/sacd/models/current")
    link.unlink()
    link.symlink_to(name)
    account.configure(symbols=["BTC/USDT"], candles_per_second=300.0, workers=1, limit_hours=0.5)
    account.start()
    wanted = SEEN_TO_MS + 45 * 24 * _HOUR_MS
    machine.until(lambda: account.status()["positions"]["BTC/USDT"]["last_candle_ms"] > wanted, "candles", account.unit)
    t = time.monotonic()
    print(account.sacd("retrain"))
    machine.until(lambda: account.status()["models"]["retrain"]["outcome"] != "running", "an answer", "sacd-train@learner.service", 250)
    print(time.monotonic() - t)
    print(account.status()["models"])
    print(machine.log("sacd-train@learner.service"))
    print(machine.run("systemctl", "status", "sacd-train@learner.path", "sacd-train@learner.service", check=False).stdout)
    print(machine.run("ls", "-laR", "/var/lib/sacd/learner/retrain", "/var/cache/sacd").stdout[:3000])
