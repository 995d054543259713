"""`make install` into a root of its own and `make uninstall` out again: what comes, what goes, what stays."""

import hashlib
import os
import subprocess
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.systemd.booted import booted
from tests.systemd.installed import ROOT, install, make, service_python

pytestmark = pytest.mark.timeout(900)  # packages may come from far away

CHANGED = {
    ("daemon", "state_dir"): "/var/lib/sacd/paper",
    ("strategy", "model"): "/var/lib/sacd/models/current",
    ("retrain", "runner"): "unit",
}


def tree(root: Path) -> Mapping[str, str]:
    """Return what lies under `root`: path -> contents, the target of a link, nothing for a directory."""
    found = {}
    for path in sorted(root.rglob("*")):
        if path.is_symlink():
            kind = f"-> {path.readlink()}"
        else:
            kind = "" if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()
        found[str(path.relative_to(root))] = f"{path.lstat().st_mode:o} {kind}"
    return found


# ---- what comes ---------------------------------------------------------------------------------------------------
def test_the_configuration_that_is_installed_is_the_committed_one_but_for_its_places(installed: Path) -> None:
    committed = tomllib.loads((ROOT / "config.toml").read_text(encoding="utf-8"))
    ours = tomllib.loads((installed / "etc/sacd/paper.toml").read_text(encoding="utf-8"))
    for (section, key), value in CHANGED.items():
        assert ours[section][key] == value
        committed[section][key] = value
    assert ours == committed


def test_the_daemon_is_installed_without_torch_and_from_no_checkout(installed: Path) -> None:
    python = installed / "usr/local/lib/sacd/run/bin/python"
    ask = (
        "import importlib.util as u, daemon; print(daemon.__file__, u.find_spec('torch'), u.find_spec('numpy') is None)"
    )
    said = subprocess.run([python, "-I", "-c", ask], cwd="/", capture_output=True, text=True, check=True).stdout.split()
    assert Path(said[0]).is_relative_to(installed)
    assert said[1:] == ["None", "False"]


def test_nothing_that_was_installed_names_the_root_it_was_put_under(installed: Path) -> None:
    named = subprocess.run(["grep", "-rlI", str(installed), installed], capture_output=True, text=True, check=False)
    assert named.stdout.splitlines() == []
    script = (installed / "usr/local/lib/sacd/run/bin/sacd").read_text(encoding="utf-8")
    assert script.startswith("#!/usr/local/lib/sacd/run/bin/python\n")


def test_a_registry_is_made_once_and_left_alone_from_then_on(installed: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    for name in ("usr/local/lib/sacd/models", "usr/local/lib/sysusers.d", "usr/local/lib/tmpfiles.d"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-a", installed / name, root / name], check=True)
    (root / "etc").mkdir()
    _systemd("systemd-sysusers", f"--root={root}")
    _systemd("systemd-tmpfiles", f"--root={root}", "--create", "--prefix=/var/lib/sacd")
    registry = root / "var/lib/sacd/models"
    shipped = {path.name for path in (ROOT / "models").iterdir()}
    assert {path.name for path in registry.iterdir()} == shipped
    assert registry.stat().st_uid == int(_passwd(root)["sacd"])
    (registry / "current").unlink()
    (registry / "current").symlink_to("0123456789abcdef")
    before = tree(registry)
    _systemd("systemd-tmpfiles", f"--root={root}", "--create", "--prefix=/var/lib/sacd")
    assert tree(registry) == before


def _systemd(name: str, *arguments: str) -> None:
    if os.geteuid() != 0:
        pytest.skip(f"{name} makes files for other users: that takes root")
    try:
        subprocess.run([name, *arguments], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip(f"{name} is not installed")


def _passwd(root: Path) -> Mapping[str, str]:
    lines = (root / "etc/passwd").read_text(encoding="utf-8").splitlines()
    return {line.split(":")[0]: line.split(":")[2] for line in lines}


# ---- what goes, and what stays ------------------------------------------------------------------------------------
def test_uninstall_leaves_what_was_there_before_and_configuration_and_state(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for name in ("opt", "usr/local/lib", "usr/local/bin", "etc/systemd/system/multi-user.target.wants"):
        (root / name).mkdir(parents=True)
    (root / "usr/local/lib/other.so").write_text("somebody else's", encoding="utf-8")
    before = tree(root)
    install(root, "PREFIX=/opt/sacd")
    config, state = root / "etc/sacd/paper.toml", root / "var/lib/sacd/paper/paper.sqlite"
    config.write_text("mine", encoding="utf-8")
    state.parent.mkdir(parents=True)
    state.write_text("mine too", encoding="utf-8")
    (root / "etc/systemd/system/multi-user.target.wants/sacd@paper.service").symlink_to(
        "/usr/local/lib/systemd/system/sacd@.service"
    )
    _check_other_prefix(root)
    _check_failure_changes_nothing(root)
    done = make("uninstall", f"DESTDIR={root}", "PREFIX=/opt/sacd")
    assert done.returncode == 0, done.stderr
    after = dict(tree(root))
    kept = {"etc/sacd", "etc/sacd/paper.toml", "var", "var/lib", "var/lib/sacd", "var/lib/sacd/paper"}
    assert set(after) - set(before) - {"opt/sacd", "opt/sacd/lib", "opt/sacd/bin", "opt/sacd/share"} == {
        *kept,
        "var/lib/sacd/paper/paper.sqlite",
    }
    assert {name: after[name] for name in before} == before
    assert (config.read_text(encoding="utf-8"), state.read_text(encoding="utf-8")) == ("mine", "mine too")


def _check_other_prefix(root: Path) -> None:
    """Units lie where systemd looks, whatever the prefix, and name the places that it leads to."""
    unit = (root / "usr/local/lib/systemd/system/sacd@.service").read_text(encoding="utf-8")
    assert "ExecStart=/opt/sacd/lib/sacd/run/bin/sacd run" in unit
    assert "/usr/local/lib/sacd" not in unit
    assert (root / "opt/sacd/bin/sacd").readlink() == Path("/opt/sacd/lib/sacd/run/bin/sacd")
    assert not (root / "usr/local/lib/systemd/system/sacd-train@.service").exists()  # TRAIN=no


def _check_failure_changes_nothing(root: Path) -> None:
    """Packages that cannot be had leave the ones that are there, and an existing configuration as it is."""
    before = tree(root)
    environ = {**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(root), "PIP_CONFIG_FILE": os.devnull}
    where = [f"DESTDIR={root}", "PREFIX=/opt/sacd", f"PYTHON={service_python()}", "TRAIN=no"]
    done = subprocess.run(["make", "install", *where], cwd=ROOT, env=environ, capture_output=True, check=False)
    assert done.returncode != 0
    after = tree(root)
    assert {name: after.get(name) for name in before} == before


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ("PREFIX=opt/sacd", "PREFIX opt/sacd: write a path from / on, such as /usr/local"),
        ("PREFIX=/home/me/sacd", "PREFIX /home/me/sacd: services see nothing there; name another, such as /usr/local"),
        ("PREFIX=/opt/a b", "PREFIX /opt/a b: units cannot name it; use letters, digits, . _ - and /"),
        ("DESTDIR=root", "DESTDIR root: write a path from / on"),
        ("DESTDIR=/a|b", "DESTDIR /a|b: use letters, digits, . _ - and /"),
        ("TRAIN=maybe", "TRAIN maybe: write yes or no"),
        ("PYTHON=/no/python", "PYTHON /no/python: it does not run; name one that does, such as /usr/bin/python3"),
    ],
    ids=["relative-prefix", "hidden-prefix", "odd-prefix", "relative-destdir", "odd-destdir", "train", "python"],
)
def test_what_cannot_work_is_refused_before_anything_is_done(tmp_path: Path, argument: str, told: str) -> None:
    arguments = [f"DESTDIR={tmp_path}", f"PYTHON={service_python()}", argument]
    done = make("install", *arguments)
    assert done.returncode != 0
    assert f"sacd: {told}\n" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_python_that_services_cannot_see_is_refused(tmp_path: Path) -> None:
    done = make("install", f"DESTDIR={tmp_path}", f"PYTHON={_hidden_python(tmp_path)}")
    assert done.returncode != 0
    assert "services see nothing there; name another, such as PYTHON=/usr/bin/python3" in done.stderr


def _hidden_python(folder: Path) -> Path:
    """Return a program that says of itself that it lies in somebody's home."""
    place = folder / "python"
    place.write_text("#!/bin/sh\necho /home/me/.pyenv/bin/python3.11 /home/me/.pyenv\n", encoding="utf-8")
    place.chmod(0o755)
    return place


# ---- on a machine that runs ---------------------------------------------------------------------------------------
def test_programs_that_run_are_neither_replaced_nor_removed(installed: Path, tmp_path: Path) -> None:
    with booted(tmp_path / "machine", [installed], {ROOT: "/opt/checkout"}) as machine:
        machine.run("systemd-sysusers")
        machine.run("systemd-tmpfiles", "--create", "/usr/local/lib/tmpfiles.d/sacd.conf")
        machine.run("systemctl", "enable", "--now", "sacd@paper")
        refused = machine.run("make", "-C", "/opt/checkout", "uninstall", check=False)
        assert refused.returncode != 0
        assert "still at work: sacd@paper.service" in refused.stderr
        trainer = "[Service]\nExecStart=/bin/sleep 600\n"
        machine.path("/run/systemd/system/sacd-train@.service").write_text(trainer, encoding="utf-8")
        machine.run("systemctl", "start", "sacd-train@paper")
        refused = machine.run("make", "-C", "/opt/checkout", "install", f"PYTHON={service_python()}", check=False)
        assert refused.returncode != 0
        assert "a retraining is under way, by the programs that are to go" in refused.stderr
        machine.run("systemctl", "stop", "sacd-train@paper")
        machine.run("systemctl", "disable", "--now", "sacd@paper")
        machine.path("/run/systemd/system/sacd-train@.service").unlink()
        machine.run("make", "-C", "/opt/checkout", "uninstall")
        assert (
            machine.run("systemctl", "list-unit-files", "--no-legend", "sacd@*", "sacd-*@*", check=False).stdout == ""
        )
        assert machine.path("/etc/sacd/paper.toml").exists()
        assert machine.path("/var/lib/sacd/paper/paper-simulated.sqlite").exists()
        assert not machine.path("/usr/local/lib/sacd").exists()
