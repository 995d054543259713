"""What this machine says before real orders."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from daemon import machine_checks as module
from daemon.check_result import CheckResult
from daemon.clock import SystemClock
from daemon.journal import SqliteJournal
from daemon.machine_checks import machine_checks, readiness_check
from daemon.models import load_bundle
from daemon.paths import journal_path
from daemon.readiness import EVALUATION
from tests.daemon.live_places import KEY, SECRET, load_live, make_live_place, write_evaluation, write_keys
from tests.fakes.serving import Place

MIB = 2**20


class Usage(NamedTuple):
    """What `shutil.disk_usage` returns, in bytes."""

    total: int
    used: int
    free: int


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return make_live_place(tmp_path_factory.mktemp("live"))


@pytest.fixture
def place(shared: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Tight keys on a machine whose clock is kept and whose disk is empty, so that only one thing differs."""
    write_keys(tmp_path / "keys.toml")
    monkeypatch.setattr(module, "time_sync", lambda: (True, "kept"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1_000 * MIB, 0, 1_000 * MIB))
    return replace(shared, root=tmp_path)


def looked(place: Place, *, is_start: bool = False, **changes: Mapping[str, Any]) -> dict[str, CheckResult]:
    results = machine_checks(load_live(place, **changes), is_start=is_start)
    assert KEY not in str(results)
    assert SECRET not in str(results)
    return {result.name: result for result in results}


def state(result: CheckResult) -> tuple[str, int]:
    kind = "warn" if result.is_warning else "ok" if result.is_good else "failed"
    return kind, result.to_json()["exit_code"]


def test_a_good_machine_is_good(place: Place) -> None:
    found = looked(place)
    assert list(found) == ["money", "disk", "time sync", "rate budget", "credentials", "one instance"]
    assert {state(result) for result in found.values()} == {("ok", 0)}
    assert list(looked(place, is_start=True)) == ["money", "disk", "time sync", "rate budget"]


@pytest.mark.parametrize(
    ("exchange", "told"),
    [
        ({}, 'REAL MONEY at binance, account "main"'),
        ({"sandbox": True}, 'SANDBOX of binance, account "main": NO REAL MONEY'),
        ({"ccxt": {"urls": {"api": {"public": "http://127.0.0.1:1"}}}}, "A VENUE ON THIS MACHINE"),
    ],
)
def test_whose_money_it_is_stands_there_in_capitals(place: Place, exchange: dict[str, Any], told: str) -> None:
    detail = looked(place, exchange=exchange)["money"].detail
    assert told in detail


@pytest.mark.parametrize(
    ("total_mib", "free_mib", "expected"),
    [(1_000, 500, ("ok", 0)), (1_000, 499, ("failed", 1)), (6_000, 600, ("ok", 0)), (6_000, 599, ("warn", 0)),
     (100, 0, ("failed", 1))],
)  # fmt: skip
def test_a_disk_below_500_mib_is_refused_and_below_a_tenth_told(
    place: Place, monkeypatch: pytest.MonkeyPatch, total_mib: int, free_mib: int, expected: tuple[str, int]
) -> None:
    usage = Usage(total_mib * MIB, (total_mib - free_mib) * MIB, free_mib * MIB)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    disk = looked(place)["disk"]
    assert state(disk) == expected
    assert f"{free_mib} MiB free" in disk.detail


def test_a_disk_that_cannot_be_written_is_a_wrong_configuration(place: Place, tmp_path: Path) -> None:
    target = tmp_path / "mounted"
    target.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(target)], check=False, capture_output=True
    )
    if mounted.returncode != 0:
        if os.geteuid() == 0:
            pytest.skip(f"nothing can be mounted here: {mounted.stderr.decode().strip()}")
        target.chmod(0o500)
    try:
        disk = looked(place, daemon={"state_dir": str(target / "var")})["disk"]
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", str(target)], check=True)
        target.chmod(0o700)
    assert state(disk) == ("failed", 78)
    assert "cannot be written" in disk.detail
    assert "[daemon] state_dir" in disk.detail


@pytest.mark.parametrize("found", [(False, "not synchronised"), (None, "does not tell")])
def test_a_clock_nobody_keeps_is_told(
    place: Place, monkeypatch: pytest.MonkeyPatch, found: tuple[bool | None, str]
) -> None:
    monkeypatch.setattr(module, "time_sync", lambda: found)
    assert state(looked(place)["time sync"]) == ("warn", 0)


def test_the_shared_budget_is_told_and_its_directory_must_be_there(place: Place, tmp_path: Path) -> None:
    file = tmp_path / "binance.budget"
    shared = looked(place, exchange={"budget_file": str(file), "request_share": 0.5})["rate budget"]
    assert state(shared) == ("ok", 0)
    assert shared.detail == f"50% of the request limit of binance, shared through {file}"
    missing = looked(place, exchange={"budget_file": str(tmp_path / "none" / "file")})["rate budget"]
    assert state(missing) == ("failed", 78)
    assert str(tmp_path / "none" / "file") in missing.detail


def test_loose_keys_are_refused_and_tight_ones_named_without_values(place: Place) -> None:
    assert looked(place)["credentials"].detail == f"{place.root / 'keys.toml'}: apiKey, secret"
    (place.root / "keys.toml").chmod(0o604)
    assert state(looked(place)["credentials"]) == ("failed", 78)


async def test_a_second_daemon_is_named_by_its_process_and_no_file_is_made(place: Place) -> None:
    config = load_live(place)
    path = journal_path(config)
    assert state(looked(place)["one instance"]) == ("ok", 0)
    assert not path.parent.exists()
    path.parent.mkdir()
    journal = SqliteJournal.open(path, SystemClock())
    held = looked(place)["one instance"]
    assert state(held) == ("failed", 78)
    assert f"in use by process {os.getpid()}" in held.detail
    await journal.close()
    assert state(looked(place)["one instance"]) == ("ok", 0)


def test_the_lock_is_free_again_when_the_daemon_is_gone_and_asking_does_not_hold_it(place: Place) -> None:
    path = journal_path(load_live(place))
    path.parent.mkdir()
    command = ["flock", str(path.with_name(f"{path.name}.lock")), "true"]
    if shutil.which("flock") is None:
        pytest.skip("there is no flock command")
    assert subprocess.run(command, check=False).returncode == 0
    assert state(looked(place)["one instance"]) == ("ok", 0)
    assert subprocess.run([command[0], "--nonblock", *command[1:]], check=False).returncode == 0


# ---- the ensemble's evaluation ----------------------------------------------------------------------------------
def test_readiness_is_good_refused_or_told_as_an_override(place: Place) -> None:
    manifest = load_bundle(place.model).manifest
    config = load_live(place)
    write_evaluation(place.model)
    assert state(readiness_check(config, manifest)) == ("ok", 0)
    (place.model / EVALUATION).unlink()
    refused = readiness_check(config, manifest)
    assert state(refused) == ("failed", 3)
    assert "never evaluated" in refused.detail
    allowed = readiness_check(load_live(place, live={"allow_unproven": place.model.name}), manifest)
    assert state(allowed) == ("warn", 0)
    assert "which is journalled" in allowed.detail
    (place.model / EVALUATION).write_text("{")
    assert state(readiness_check(config, manifest)) == ("failed", 1)
