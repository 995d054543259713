"""What the sandbox of each unit lets through, and that what it stops would succeed without it."""

from collections.abc import Mapping
from typing import Any

import pytest

from tests.systemd.booted import Machine
from tests.systemd.probed import probe, probe_freely

pytestmark = pytest.mark.timeout(900)  # the first of them waits until all is installed

DAEMON_PYTHON = "/usr/local/lib/sacd/run/bin/python"
TRAINER_PYTHON = "/usr/local/lib/sacd/train/bin/python"
SCHED_IDLE, IOPRIO_IDLE = 5, 3  # linux/sched.h, linux/ioprio.h
NOTES = "/home/somebody/notes"
LINK_LOCAL = "169.254.7.7"
PACKAGES = "/usr/local/lib/sacd/train/packages"
"""Mounted there by the tests, see `trainer_layer`."""

ALLOWED_TO_THE_DAEMON = (
    "write=/var/lib/sacd/probed",
    "write=/var/lib/sacd/models",
    "write=/run/sacd",
    "write=/tmp",
    "socket=AF_INET,SOCK_STREAM",
    "socket=AF_INET6,SOCK_STREAM",
    "socket=AF_UNIX,SOCK_DGRAM",
    "send=127.0.0.1:9",
    "execute=/usr/local/lib/sacd/run/bin/python",
)
DENIED_TO_BOTH = {
    "write=/var/lib/sacd/other": "EROFS",
    f"read={NOTES}": "EACCES",
    "socket=AF_NETLINK,SOCK_RAW": "EAFNOSUPPORT",
    "unshare=user": "EPERM",
    "trace": "EPERM",
    "execute=/usr/bin/env": "EACCES",
    "execute_own=/tmp": "EACCES",
    "execute_own=/var/tmp": "EACCES",
    "execute_own=/dev/shm": "EACCES",
    "others": "ENOENT",
    "personality": "EPERM",
}
"""Each of them succeeds for the same user without the sandbox."""
DENIED_TO_THE_DAEMON = {
    "setuid=/var/lib/sacd/probed": "EPERM",
    "execute_own=/var/lib/sacd/probed": "EACCES",
    "execute_own=/var/lib/sacd/models": "EACCES",
    "execute_own=/run/sacd": "EACCES",
    "map": "EPERM",
    f"send={LINK_LOCAL}:9": "EPERM",
}
DENIED_TO_ANYBODY = {
    "write=/etc": "EROFS",
    "write=/usr/local/lib/sacd": "EROFS",
    "append=/etc/sacd/probed.toml": "EACCES",
    "read=/root": "EACCES",
    "read=/etc/credstore": "EACCES",
    "socket=AF_PACKET,SOCK_RAW": "EAFNOSUPPORT",
    "unshare=net": "EPERM",
    "hostname": "EPERM",
    "priority": "EPERM",
    "realtime": "EPERM",
    "bpf": "EPERM",
}
"""Not for a plain user either, with or without the sandbox; under it they are not even asked about."""


ALLOWED_TO_THE_TRAINER = (
    "write=/var/lib/sacd/probed/retrain",
    "write=/var/lib/sacd/models",
    "write=/var/cache/sacd",
    "write=/tmp",
    "read=/var/lib/sacd/probed/journal.sqlite",
    "socket=AF_UNIX,SOCK_STREAM",
    "map",
    "torch",
    "execute=/usr/local/lib/sacd/train/bin/python",
)
DENIED_TO_THE_TRAINER = {
    "write=/var/lib/sacd/probed": "EROFS",
    "append=/var/lib/sacd/probed/journal.sqlite": "EROFS",
    "write=/run/sacd": "EROFS",
    "socket=AF_INET,SOCK_STREAM": "EAFNOSUPPORT",
    "socket=AF_INET6,SOCK_STREAM": "EAFNOSUPPORT",
    "setuid=/var/lib/sacd/probed/retrain": "EPERM",
    "execute_own=/var/lib/sacd/probed/retrain": "EACCES",
    "execute_own=/var/lib/sacd/models": "EACCES",
    "execute_own=/var/cache/sacd": "EACCES",
    "credential=exchange.toml": "KeyError: 'CREDENTIALS_DIRECTORY'",
}


@pytest.fixture(scope="module")
def place(machine: Machine) -> Machine:
    """The machine, with what is there to be found."""
    for name in ("probed", "probed/retrain", "other"):
        machine.run("install", "-d", "-o", "sacd", "-g", "sacd", "-m", "700", f"/var/lib/sacd/{name}")
    machine.run("install", "-d", "-m", "755", "/home/somebody")
    machine.path(NOTES).write_text("readable by everybody\n", encoding="utf-8")
    machine.path("/etc/sacd/probed.toml").touch()
    journal = machine.path("/var/lib/sacd/probed/journal.sqlite")
    journal.write_text("what happened\n", encoding="utf-8")
    machine.run("chown", "sacd:sacd", "/var/lib/sacd/probed/journal.sqlite")
    machine.run("install", "-d", "-m", "700", "/etc/credstore")
    machine.path("/etc/credstore/sacd-probed.toml").write_text(
        'apiKey = "canary"\nsecret = "canary"\n', encoding="ascii"
    )
    machine.path("/etc/credstore/sacd-probed.toml").chmod(0o600)
    machine.run("ip", "address", "add", f"{LINK_LOCAL}/32", "dev", "lo")
    return machine


@pytest.fixture(scope="module")
def daemon(place: Machine) -> Mapping[str, Any]:
    wanted = (*ALLOWED_TO_THE_DAEMON, *DENIED_TO_BOTH, *DENIED_TO_THE_DAEMON, *DENIED_TO_ANYBODY)
    keys = ("credential=exchange.toml", "trusted=exchange.toml")
    return probe(place, "sacd@probed.service", DAEMON_PYTHON, "/var/lib/sacd/probed", (*wanted, *keys))


@pytest.fixture(scope="module")
def trainer(place: Machine) -> Mapping[str, Any]:
    wanted = (*DENIED_TO_BOTH, *DENIED_TO_ANYBODY, *ALLOWED_TO_THE_TRAINER, *DENIED_TO_THE_TRAINER)
    return probe(place, "sacd-train@probed.service", TRAINER_PYTHON, "/var/lib/sacd/probed/retrain", wanted)


def test_the_daemon_may_do_what_it_lives_by(daemon: Mapping[str, Any]) -> None:
    assert {attempt: daemon[attempt] for attempt in ALLOWED_TO_THE_DAEMON} == dict.fromkeys(
        ALLOWED_TO_THE_DAEMON, "done"
    )


def test_the_daemon_may_do_nothing_else(daemon: Mapping[str, Any]) -> None:
    denied = DENIED_TO_BOTH | DENIED_TO_THE_DAEMON | DENIED_TO_ANYBODY
    assert {attempt: daemon[attempt] for attempt in denied} == denied


def test_the_daemon_runs_as_a_user_of_its_own_among_no_others(place: Machine, daemon: Mapping[str, Any]) -> None:
    assert daemon["uid"] == int(place.run("id", "--user", "sacd").stdout)
    assert daemon["users"] == 1  # that its name space knows: itself and root, one line each


@pytest.mark.parametrize("who", ["daemon", "trainer"])
def test_neither_dumps_its_memory_nor_opens_files_without_end(who: str, request: pytest.FixtureRequest) -> None:
    assert request.getfixturevalue(who)["limits"] == [[0, 0], [4096, 4096]]


def paths_of(place: Machine, unit: str, name: str) -> set[str]:
    """Return what a unit names there, as systemd has read it."""
    return {path.removeprefix("-") for path in place.show(unit, name)[name].split()}


def test_the_daemon_sees_no_other_place_that_may_be_written_to(place: Machine, daemon: Mapping[str, Any]) -> None:
    state = {"/tmp", "/var/tmp", "/var/lib/sacd/probed", "/var/lib/sacd/models", "/run/sacd"}  # noqa: S108
    programs = paths_of(place, "sacd@probed.service", "ExecPaths")  # which belong to root
    assert {path for path in daemon["writable"] if not path.startswith(("/dev/", "/proc"))} == state | programs


def test_the_trainer_sees_no_other_place_that_may_be_written_to(place: Machine, trainer: Mapping[str, Any]) -> None:
    state = {"/tmp", "/var/tmp", "/var/lib/sacd/probed/retrain", "/var/lib/sacd/models", "/var/cache/sacd"}  # noqa: S108
    programs = paths_of(place, "sacd-train@probed.service", "ExecPaths")
    seen = {path for path in trainer["writable"] if not path.startswith(("/dev/", "/proc"))}
    assert seen - {PACKAGES} == state | programs


@pytest.mark.parametrize("who", ["daemon", "trainer"])
def test_nothing_else_may_be_executed_than_what_was_installed(
    place: Machine, who: str, request: pytest.FixtureRequest
) -> None:
    unit = {"daemon": "sacd@probed.service", "trainer": "sacd-train@probed.service"}[who]
    of_systemd = {"/run/systemd/incoming"}  # read-only, for what systemd itself may mount later
    seen = set(request.getfixturevalue(who)["executable"])
    assert seen - {PACKAGES} == paths_of(place, unit, "ExecPaths") | of_systemd


def test_the_keys_reach_the_daemon_in_a_file_that_it_trusts(daemon: Mapping[str, Any]) -> None:
    assert (daemon["credential=exchange.toml"], daemon["trusted=exchange.toml"]) == ("done", "done")


def test_keys_may_lie_there_encrypted(place: Machine) -> None:
    place.run("install", "-d", "-m", "700", "/etc/credstore.encrypted", "/var/lib/sacd/sealed")
    place.run("chown", "sacd:sacd", "/var/lib/sacd/sealed")
    place.run(
        *("systemd-creds", "encrypt", "--with-key=host", "--name=exchange.toml", "-"),
        "/etc/credstore.encrypted/sacd-sealed.toml",
        given='apiKey = "canary"\nsecret = "canary"\n',
    )
    assert b"canary" not in place.path("/etc/credstore.encrypted/sacd-sealed.toml").read_bytes()
    sealed = "LoadCredential=\nLoadCredentialEncrypted=exchange.toml:sacd-sealed.toml"
    wanted = ("credential=exchange.toml", "trusted=exchange.toml")
    found = probe(place, "sacd@sealed.service", DAEMON_PYTHON, "/var/lib/sacd/sealed", wanted, changes=sealed)
    assert [found[attempt] for attempt in wanted] == ["done", "done"]


def test_the_trainer_may_do_what_it_lives_by(trainer: Mapping[str, Any]) -> None:
    assert {attempt: trainer[attempt] for attempt in ALLOWED_TO_THE_TRAINER} == dict.fromkeys(
        ALLOWED_TO_THE_TRAINER, "done"
    )


def test_the_trainer_reaches_neither_network_nor_keys_nor_the_account(trainer: Mapping[str, Any]) -> None:
    denied = DENIED_TO_BOTH | DENIED_TO_THE_TRAINER | DENIED_TO_ANYBODY
    assert {attempt: trainer[attempt] for attempt in denied} == denied


def test_the_trainer_has_a_network_of_its_own_and_comes_after_everybody(
    place: Machine, trainer: Mapping[str, Any]
) -> None:
    assert trainer["network"] != place.run("readlink", "/proc/1/ns/net").stdout.strip()
    facts = {name: trainer[name] for name in ("nice", "policy", "ioprio", "oom")}
    assert facts == {"nice": 19, "policy": SCHED_IDLE, "ioprio": IOPRIO_IDLE, "oom": 500}


def test_all_that_is_denied_would_succeed_without_the_sandbox(place: Machine) -> None:
    """Else its denial would say nothing of the sandbox."""
    attempts = (*DENIED_TO_BOTH, *DENIED_TO_THE_DAEMON, "write=/var/lib/sacd/probed", "socket=AF_INET,SOCK_STREAM")
    freely = probe_freely(place, DAEMON_PYTHON, "/var/lib/sacd/probed", attempts)
    assert {attempt: freely[attempt] for attempt in attempts} == dict.fromkeys(attempts, "done")
